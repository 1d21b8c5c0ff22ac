"""Class weights and crops around rare classes: counted by hand, recorded, kept by a resumed run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from prolab_hf.data.rare_crops import RareCrops
from prolab_hf.data.transforms import TrainTransform
from prolab_hf.training.balance.class_counts import (
    ClassCounts,
    count_classes,
    counted_weights,
    weights_from_file,
)
from prolab_hf.training.reporting import TrainingInterrupted
from prolab_hf.training.run_folder import BALANCE_FILE
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model, drawn_pairs
from tests.training.test_trainer import QUIET, assert_equal_weights, stop_at, weights

NAMES = ["red", "green", "blue"]


def pairs():
    """Two images of 4 x 4 pixels: 10 of class 0, 16 of class 1, none of class 2, 6 void."""
    first, second = np.zeros((4, 4), dtype=np.int32), np.ones((4, 4), dtype=np.int32)
    first[0], first[1, :2] = 255, 255
    image = Image.new("RGB", (4, 4))
    return [(image, first), (image, second)]


def test_counts_by_hand():
    counts = count_classes(pairs(), 3)
    assert counts.pixels.tolist() == [10, 16, 0]
    assert counts.images.tolist() == [1, 1, 0]
    assert counts.num_images == 2


def test_tensors_are_counted_as_they_come():
    counts = count_classes(Stripes(3), 3)
    labels = torch.stack([Stripes(3)[index]["labels"] for index in range(3)])
    assert counts.pixels.tolist() == torch.bincount(labels.flatten(), minlength=3).tolist()


def test_weights_by_hand():
    counts = ClassCounts(np.array([900, 100, 0]), np.array([4, 1, 0]), 4)
    sqrt = counted_weights(counts, "sqrt")
    # 1 / sqrt(0.9) and 1 / sqrt(0.1), divided by their mean over pixels sqrt(0.9) + sqrt(0.1)
    assert sqrt == pytest.approx([0.83333, 2.5, 1.0], rel=1e-4)
    effective = counted_weights(counts, "effective")
    ratio = (1 - 0.75**4) / (1 - 0.75)  # four images count as 2.73, one as 1
    assert effective[1] / effective[0] == pytest.approx(ratio)
    for found in (sqrt, effective):
        assert 0.9 * found[0] + 0.1 * found[1] == pytest.approx(1)


def test_a_label_outside_the_classes_is_named():
    with pytest.raises(
        ValueError, match=r"training image number 1 has labels from 1 to 1, but the classes are 0 to 0"
    ):
        count_classes(pairs(), 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"red": 1, "green": 2}', "no weight for the class 'blue'"),
        ('{"red": 1, "green": 2, "blue": 1, "gold": 1}', "the unknown class 'gold'"),
        ('{"red": 1, "green": -2, "blue": 1}', "-2 for 'green'; a weight is a number of at least 0"),
        ('{"red": 1, "green": "2", "blue": 1}', "'2' for 'green'"),
        ("[1, 2]", "weights.json"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, content, message):
    (tmp_path / "weights.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        weights_from_file(tmp_path / "weights.json", NAMES)


def test_a_word_that_is_no_scheme_and_no_file():
    with pytest.raises(
        FileNotFoundError, match=r"balance.class_weights is 'squareroot', which is no file; allowed"
    ):
        weights_from_file("squareroot", NAMES)


def test_a_run_counts_once_records_and_resumes_with_the_same(tmp_path, recipe, capsys):
    recipe = recipe.replace(**{"balance.class_weights": "sqrt", "evaluation.every": 6})
    run = {"recipe": recipe, "show_progress": True}
    whole = build_model()
    train(whole, Stripes(), None, output_dir=tmp_path / "whole", **run)
    assert "class weights: " in capsys.readouterr().err
    expected = counted_weights(count_classes(Stripes(), 3), "sqrt")
    assert whole.config.class_weights == expected
    recorded = json.loads((tmp_path / "whole" / BALANCE_FILE).read_text())
    assert list(recorded["weights"].values()) == expected
    assert list(recorded["weights"]) == NAMES and recorded["class_weights"] == "sqrt"
    saved = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert saved["class_weights"] == expected

    with pytest.raises(TrainingInterrupted):
        train(
            build_model(),
            Stripes(),
            None,
            output_dir=tmp_path / "cut",
            recipe=recipe,
            callbacks=[stop_at(3)],
            **QUIET,
        )
    # What is recorded holds: counting again would give other numbers here.
    path = tmp_path / "cut" / BALANCE_FILE
    content = json.loads(path.read_text())
    assert list(content["weights"].values()) == expected
    resumed = build_model()
    train(resumed, Stripes(), None, output_dir=tmp_path / "cut", recipe=recipe, resume=True, **QUIET)
    assert_equal_weights(weights(resumed), weights(whole))
    plain = build_model()
    train(
        plain,
        Stripes(),
        None,
        output_dir=tmp_path / "plain",
        recipe=recipe.replace(**{"balance.class_weights": "none"}),
        **QUIET,
    )
    assert not torch.equal(plain.decode_head.classifier.weight, whole.decode_head.classifier.weight)
    assert plain.config.class_weights is None


def test_weights_of_a_file_are_taken_as_they_are(tmp_path, recipe):
    (tmp_path / "weights.json").write_text('{"blue": 3, "red": 1, "green": 0.5}')
    recipe = recipe.replace(
        **{"balance.class_weights": str(tmp_path / "weights.json"), "schedule.max_iterations": 2}
    )
    model = build_model()
    train(model, Stripes(), None, output_dir=tmp_path / "run", recipe=recipe, **QUIET)
    assert model.config.class_weights == [1.0, 0.5, 3.0]


def test_crops_are_laid_around_the_rare_class():
    """A class of 16 among 40,000 pixels is in every crop at probability 1, and almost never without."""
    mask = np.zeros((200, 200), dtype=np.int32)
    mask[100:104, 30:34] = 1
    image = Image.new("RGB", (200, 200))

    def hits(probability):
        chooser = RareCrops(probability, (0.0, 1.0)) if probability else None
        transform = TrainTransform(32, ratio_range=(0.8, 1.5), rare_crops=chooser, cat_max_ratio=1)
        crops = [transform(image, mask, np.random.default_rng(seed))["labels"] for seed in range(100)]
        assert {tuple(crop.shape) for crop in crops} == {(32, 32)}
        places = {tuple((crop == 1).nonzero()[0].tolist()) for crop in crops if (crop == 1).any()}
        return sum(bool((crop == 1).any()) for crop in crops), places

    often, places = hits(1.0)
    assert often >= 98  # at the crop's edge, resizing may lose the pixel that was drawn
    assert len(places) > 50  # anywhere in the crop, not always in its middle
    assert hits(0.0)[0] < 15
    assert 35 <= hits(0.5)[0] <= 70


def test_an_image_without_any_class_leaves_the_crop_free():
    chooser = RareCrops(1.0, (1.0, 2.0))
    mask = np.full((20, 20), 255, dtype=np.int32)
    assert chooser.choose(mask, (20, 20), (8, 8), np.random.default_rng(0)) is None


def test_a_run_with_rare_crops(tmp_path, recipe):
    recipe = recipe.replace(
        **{"balance.rare_class_crops": 0.5, "schedule.max_iterations": 2, "data.crop_size": 16}
    )
    result = train(build_model(), drawn_pairs(), None, output_dir=tmp_path / "run", recipe=recipe, **QUIET)
    assert result.step == 2
    recorded = json.loads((tmp_path / "run" / BALANCE_FILE).read_text())
    assert "weights" not in recorded and sum(recorded["pixels"].values()) > 0
