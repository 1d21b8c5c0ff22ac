import math

import numpy as np
import pytest
import torch
from PIL import Image

from prolab_hf.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PhotometricDistortion,
    TrainTransform,
    _scaled_size,
    collate,
    to_normalized_tensor,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(height=60, width=80, seed=0):
    """A smooth image, and a mask that is its quantized first channel."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([127 + 120 * np.sin(x / 17), 127 + 120 * np.cos(y / 13), (x + y) * 1.5], -1)
    mask = ((x // 16) + 5 * (y // 20)).astype(np.int32) % 7
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask


def unchanged(crop, **options):
    """A transform whose only randomness is the crop."""
    return TrainTransform(
        crop,
        ratio_range=(1, 1),
        flip_probability=0,
        photometric=None,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        **options,
    )


def test_shapes_and_types():
    image, mask = scene()
    out = TrainTransform((32, 48))(image, mask, rng())
    assert out["pixel_values"].shape == (3, 32, 48)
    assert out["pixel_values"].dtype == torch.float32
    assert out["labels"].shape == (32, 48)
    assert out["labels"].dtype == torch.int64
    assert out["pixel_values"].is_contiguous()
    assert out["labels"].is_contiguous()


def test_same_generator_same_example_and_global_state_untouched():
    image, mask = scene()
    transform = TrainTransform((32, 48))
    np.random.seed(1)  # noqa: NPY002 - the global generator is what must not be used
    torch.manual_seed(1)
    before = (np.random.get_state()[1].copy(), torch.get_rng_state())  # noqa: NPY002
    first, second = transform(image, mask, rng(5)), transform(image, mask, rng(5))
    assert torch.equal(first["pixel_values"], second["pixel_values"])
    assert torch.equal(first["labels"], second["labels"])
    assert not torch.equal(first["pixel_values"], transform(image, mask, rng(6))["pixel_values"])
    assert (np.random.get_state()[1] == before[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_image_and_mask_get_the_same_geometry():
    # Every class has its own color, so the labels can be read back from the augmented image.
    _, mask = scene(90, 120)
    colors = np.array(
        [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255]]
    )
    image = Image.fromarray(colors[mask].astype(np.uint8))
    transform = TrainTransform((64, 64), photometric=None, mean=(0, 0, 0), std=(1, 1, 1))
    for seed in range(12):
        out = transform(image, mask, rng(seed))
        pixels = (out["pixel_values"] * 255).permute(1, 2, 0).numpy()
        nearest = np.abs(pixels[:, :, None] - colors).sum(-1).argmin(-1)
        labels = out["labels"].numpy()
        seen = labels != 255
        assert (nearest == labels)[seen].mean() > 0.9  # edges are interpolated


def test_crop_is_a_window_of_the_resized_image():
    image, mask = scene(30, 40)
    transform = TrainTransform(
        (16, 20), ratio_range=(1.5, 1.5), flip_probability=0, photometric=None, mean=(0, 0, 0), std=(1, 1, 1)
    )
    whole = np.asarray(image.resize((60, 45), Image.Resampling.BILINEAR)).astype(np.float32) / 255
    out = transform(image, mask, rng(3))["pixel_values"].permute(1, 2, 0).numpy()
    windows = np.lib.stride_tricks.sliding_window_view(whole, (16, 20, 3))[:, :, 0]
    distance = np.abs(windows - out).max(axis=(2, 3, 4))
    assert distance.min() <= 1.01 / 255  # rounding of PIL


def test_flip_mirrors_both():
    image, mask = scene()
    plain, flipped = (
        TrainTransform((60, 80), ratio_range=(1, 1), flip_probability=p, photometric=None)(
            image, mask, rng(0)
        )
        for p in (0.0, 1.0)
    )
    assert torch.equal(plain["pixel_values"].flip(-1), flipped["pixel_values"])
    assert torch.equal(plain["labels"].flip(-1), flipped["labels"])


def test_small_image_is_padded_with_mean_and_ignore_value():
    image, mask = scene(20, 30)
    out = TrainTransform((32, 48), ratio_range=(1, 1), flip_probability=0, ignore_index=300)(
        image, mask, rng()
    )
    assert (out["pixel_values"][:, 20:] == 0).all()
    assert (out["pixel_values"][:, :, 30:] == 0).all()
    assert (out["labels"][20:] == 300).all()
    assert (out["labels"][:, 30:] == 300).all()
    assert (out["labels"][:20, :30].numpy() == mask).all()


def test_crops_of_one_class_are_drawn_again():
    # Nine tenths of the image are one class: without the limit most crops would hold only that class.
    image, mask = scene(100, 100)
    mask = np.zeros_like(mask)
    mask[:, :10] = 1

    def share(limit):
        crops = [unchanged(20, cat_max_ratio=limit)(image, mask, rng(seed))["labels"] for seed in range(60)]
        return np.mean([(crop == 1).any().item() for crop in crops])

    assert share(1.0) < 0.3
    assert share(0.75) > 0.5


def test_void_does_not_count_as_a_class_in_the_limit():
    image, mask = scene(100, 100)
    mask = np.zeros_like(mask)
    mask[:, :50] = 255
    out = unchanged(20, cat_max_ratio=0.75)(image, mask, rng(0))
    assert out["labels"].shape == (20, 20)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((100, 200), (2048, 512), (512, 1024)),
        ((100, 900), (2048, 512), (228, 2048)),
        ((50, 40), None, (50, 40)),
    ],
)
def test_base_scale_fits_long_and_short_edge(size, scale, expected):
    assert _scaled_size(size, scale, 1.0) == expected


def test_resize_ratio_stays_in_its_range():
    image, mask = scene(64, 64)
    transform = TrainTransform(200, ratio_range=(0.5, 2.0), photometric=None)
    sides = [(transform(image, mask, rng(seed))["labels"][0] != 255).sum().item() for seed in range(40)]
    assert min(sides) >= 32
    assert max(sides) <= 128
    assert max(sides) > 100
    assert min(sides) < 50


# -- color --------------------------------------------------------------------------------------------------


def test_normalization_equals_the_plain_formula():
    image, _ = scene()
    out = to_normalized_tensor(image, IMAGENET_MEAN, IMAGENET_STD)
    values = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    expected = (values - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_no_distortion_is_the_identity_matrix():
    still = PhotometricDistortion(probability=0.0)
    assert np.array_equal(still.draw(rng()), np.eye(3, 4))


@pytest.mark.parametrize("field", ["contrast", "saturation", "hue", "brightness"])
def test_each_distortion_alone_does_what_its_name_says(field):
    off = {"brightness": 0.0, "contrast": (1.0, 1.0), "saturation": (1.0, 1.0), "hue": 0.0}
    on = {"brightness": 30.0, "contrast": (1.3, 1.3), "saturation": (0.5, 0.5), "hue": 30.0}
    matrix = PhotometricDistortion(**{**off, field: on[field]}, probability=1.0).draw(rng(1))
    color, gray = np.array([200.0, 80.0, 40.0]), np.array([90.0, 90.0, 90.0])
    new_color, new_gray = (matrix @ np.append(value, 1) for value in (color, gray))
    luma = np.array([0.299, 0.587, 0.114])
    if field == "brightness":
        shift = new_gray - gray
        assert np.allclose(shift, shift[0])
        assert 0 < abs(shift[0]) <= 30
        assert np.allclose(new_color - color, shift)
    elif field == "contrast":
        assert np.allclose(new_color, 1.3 * color)
    elif field == "saturation":
        assert np.allclose(new_gray, gray)
        assert np.isclose(luma @ new_color, luma @ color)
        assert np.allclose(new_color - luma @ color, 0.5 * (color - luma @ color))
    else:
        assert np.allclose(new_gray, gray)
        assert np.isclose(new_color.sum(), color.sum())
        chroma, new_chroma = color - color.mean(), new_color - new_color.mean()
        assert np.isclose(np.linalg.norm(chroma), np.linalg.norm(new_chroma))
        angle = math.degrees(math.acos(chroma @ new_chroma / (chroma @ chroma)))
        assert 0 < angle <= 30


def test_distortion_stays_in_the_range_of_images():
    image, mask = scene()
    wild = PhotometricDistortion(brightness=200, contrast=(3, 4), saturation=(3, 4), probability=1.0)
    transform = TrainTransform((60, 80), ratio_range=(1, 1), photometric=wild, mean=(0, 0, 0), std=(1, 1, 1))
    out = transform(image, mask, rng())["pixel_values"]
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-6


def test_all_four_distortions_occur():
    drawn = [PhotometricDistortion().draw(rng(seed)) for seed in range(50)]
    assert sum(np.array_equal(matrix, np.eye(3, 4)) for matrix in drawn) < 15
    assert any(matrix[0, 3] != 0 for matrix in drawn)
    assert any(matrix[0, 1] != 0 for matrix in drawn)
    assert any(matrix[0, 0] > 1.2 for matrix in drawn)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TrainTransform(0),
        lambda: TrainTransform(8, ratio_range=(2, 1)),
        lambda: TrainTransform(8, cat_max_ratio=0),
        lambda: TrainTransform(8, flip_probability=2),
        lambda: TrainTransform(8, std=(1, 1, 0)),
    ],
)
def test_numbers_out_of_range_are_refused(build):
    with pytest.raises(ValueError):
        build()


# -- batches ------------------------------------------------------------------------------------------------


def example(height, width, label_size=None):
    size = label_size or (height, width)
    return {"pixel_values": torch.ones(3, height, width), "labels": torch.zeros(size, dtype=torch.int64)}


def test_collate_stacks_and_pads():
    assert collate([example(4, 5), example(4, 5)])["pixel_values"].shape == (2, 3, 4, 5)
    batch = collate([example(4, 5), example(6, 3)], ignore_index=9)
    assert batch["pixel_values"].shape == (2, 3, 6, 5)
    assert (batch["pixel_values"][0, :, 4:] == 0).all()
    assert (batch["labels"][0, 4:] == 9).all()
    assert (batch["labels"][1, :, 3:] == 9).all()
    assert (batch["labels"][1, :, :3] == 0).all()


def test_collate_refuses_to_shift_labels_against_images():
    with pytest.raises(ValueError, match="batch size 1"):
        collate([example(4, 5, (8, 10)), example(6, 3)])
    assert collate([example(4, 5, (8, 10)), example(4, 5, (8, 10))])["labels"].shape == (2, 8, 10)
