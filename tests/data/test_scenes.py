import numpy as np
import pytest

from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS, DrawnScenes


@pytest.fixture(scope="module")
def samples():
    return [DrawnScenes("train", 24)[i] for i in range(24)]


def test_images_are_determined_by_seed_split_and_index():
    first, again = DrawnScenes("train", 4, seed=3)[2], DrawnScenes("train", 9, seed=3)[2]
    assert (np.asarray(first.image) == np.asarray(again.image)).all()
    assert (first.mask == again.mask).all()
    for other in (DrawnScenes("train", 4, seed=4)[2], DrawnScenes("test", 4, seed=3)[2]):
        assert not (np.asarray(first.image) == np.asarray(other.image)).all()


def test_shapes_and_names(samples):
    sample = samples[0]
    assert sample.image.size == (160, 128)
    assert sample.image.mode == "RGB"
    assert sample.mask.shape == (128, 160)
    assert sample.mask.dtype == np.int32
    assert sample.name == "train-00000"


@pytest.mark.parametrize("size", [(64, 64), (96, 200)])
def test_any_size(size):
    sample = DrawnScenes(num_images=1, size=size)[0]
    assert sample.mask.shape == size
    assert sample.image.size == size[::-1]


def test_every_class_occurs_often_enough_to_be_learned(samples):
    images = np.zeros(len(SCENE_CLASSES))
    for sample in samples:
        images[np.unique(sample.mask)] += 1
    assert (images >= 4).all(), dict(zip(SCENE_CLASSES, images, strict=True))


def test_training_split_never_shows_the_held_out_class(samples):
    assert max(sample.mask.max() for sample in samples) < len(SCENE_CLASSES)
    assert HELD_OUT_CLASS not in SCENE_CLASSES


def test_held_out_class_is_added_to_the_same_images():
    plain, added = DrawnScenes("test", 12), DrawnScenes("test", 12, include_held_out=True)
    assert added.class_names == [*SCENE_CLASSES, HELD_OUT_CLASS]
    shown = 0
    for index in range(12):
        before, after = plain[index], added[index]
        new = after.mask == len(SCENE_CLASSES)
        shown += new.any()
        # Elsewhere labels are the same, apart from what stands in front of the new thing.
        assert (before.mask == after.mask)[~new].mean() > 0.97
    assert shown >= 3


def test_no_class_can_be_told_by_its_mean_color(samples):
    """Nearest mean color per pixel, the best that color alone can do simply, must fail on most pixels."""
    pixels = np.concatenate([np.asarray(s.image).reshape(-1, 3)[::7] for s in samples]).astype(float)
    labels = np.concatenate([s.mask.reshape(-1)[::7] for s in samples])
    means = np.stack([pixels[labels == k].mean(0) for k in range(len(SCENE_CLASSES))])
    guess = ((pixels[:, None] - means) ** 2).sum(-1).argmin(-1)
    assert (guess == labels).mean() < 0.45


def test_index_errors_and_wrong_arguments():
    with pytest.raises(IndexError):
        DrawnScenes(num_images=2)[2]
    assert len(list(DrawnScenes(num_images=2, size=(64, 64)))) == 2
    for wrong in ({"split": "dev"}, {"num_images": 0}, {"seed": -1}, {"size": (32, 64)}):
        with pytest.raises(ValueError):
            DrawnScenes(**wrong)


def test_descriptions_cover_all_classes_and_differ():
    assert list(SCENE_DESCRIPTIONS) == [*SCENE_CLASSES, HELD_OUT_CLASS]
    sets = [set(texts) for texts in SCENE_DESCRIPTIONS.values()]
    for texts in sets:
        assert 6 <= len(texts) <= 8
    for i, first in enumerate(sets):
        for second in sets[:i]:
            assert len(first - second) >= 2
            assert len(second - first) >= 2


def test_every_idea_of_the_held_out_class_is_shared_by_two_training_classes():
    for idea in SCENE_DESCRIPTIONS[HELD_OUT_CLASS]:
        assert sum(idea in SCENE_DESCRIPTIONS[name] for name in SCENE_CLASSES) >= 2, idea
