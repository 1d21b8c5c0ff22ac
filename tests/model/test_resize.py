"""Class maps of another size: the corner rule against the full map, nearest labels against tables."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from prolab_hf.model import resize_prolab
from prolab_hf.model.resize_prolab import linear_axis, resize_argmax, resize_nearest_labels


def full_map(logits, size):
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def regions(batch, classes, height, width, *, noise, seed=0):
    """Logits of a few large regions, as a trained model gives them, with noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, classes, 3, 4, generator=generator)
    logits = F.interpolate(coarse, size=(height, width), mode="nearest")
    return logits + noise * torch.randn(logits.shape, generator=generator)


@given(
    source=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    target=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    classes=st.integers(1, 6),
    noise=st.sampled_from([0.0, 0.1, 3.0]),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_argmax_of_the_full_map(source, target, classes, noise):
    logits = regions(2, classes, *source, noise=noise).double()
    found, plain = resize_argmax(logits, target), full_map(logits, target)
    assert found.shape == (2, *target) and found.dtype == torch.int64
    # The value of the chosen class is the largest: equality of labels but for classes that tie in a pixel.
    chosen = plain.gather(1, found[:, None])[:, 0]
    torch.testing.assert_close(chosen, plain.amax(dim=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(64, 80), (37, 53), (16, 20), (7, 9), (40, 11)])
@pytest.mark.parametrize("noise", [0.2, 2.0])
def test_identical_labels_in_float32(size, noise):
    logits = regions(2, 11, 16, 20, noise=noise)
    assert torch.equal(resize_argmax(logits, size), full_map(logits, size).argmax(dim=1))
    strided = logits.to(memory_format=torch.channels_last)
    assert torch.equal(resize_argmax(strided, size), resize_argmax(logits, size))


def test_small_blocks_give_the_same(monkeypatch):
    logits = regions(1, 7, 12, 10, noise=1.0)
    expected = resize_argmax(logits, (50, 41))
    monkeypatch.setattr(resize_prolab, "BLOCK_PIXELS", 90)
    monkeypatch.setattr(resize_prolab, "TILE_ELEMENTS", 300)
    monkeypatch.setattr(resize_prolab, "CHUNK_ELEMENTS", 50)
    assert torch.equal(resize_argmax(logits, (50, 41)), expected)


def test_a_class_that_no_corner_prefers_can_win_between_them():
    """Two corners prefer classes 0 and 1; half-way between them class 2 is ahead of both."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])[None, :, None]
    assert resize_argmax(logits, (1, 16)).tolist() == [[[0] * 7 + [2] * 2 + [1] * 7]]


def test_ties_take_the_first_class():
    logits = torch.zeros(1, 3, 4, 4)
    assert resize_argmax(logits, (9, 9)).unique().tolist() == [0]
    logits[:, 2] = logits[:, 1] = 1
    assert resize_argmax(logits, (9, 9)).unique().tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_interpolated_in_float32(dtype):
    logits = regions(1, 5, 6, 7, noise=1.0).to(dtype)
    assert torch.equal(resize_argmax(logits, (20, 30)), resize_argmax(logits.float(), (20, 30)))


class LargestTensor(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that an operation returned."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("noise", [0.1, 3.0])  # few and nearly all pixels between classes
def test_memory_does_not_grow_with_classes_times_pixels(noise):
    logits = regions(1, 150, 40, 50, noise=noise)
    with LargestTensor() as mode:
        labels = resize_argmax(logits, (400, 500))
    assert labels.unique().numel() > 1
    full = 150 * 400 * 500 * 4
    assert mode.largest < full / 30


@pytest.mark.parametrize(
    ("logits", "size", "message"),
    [
        (torch.zeros(3, 4, 4), (8, 8), "logits must be floating"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), (8, 8), "int64"),
        (torch.zeros(1, 0, 4, 4), (8, 8), "not empty"),
        (torch.zeros(1, 3, 4, 4), (0, 8), "size must be a positive"),
    ],
)
def test_argmax_of_wrong_arguments(logits, size, message):
    with pytest.raises(ValueError, match=message):
        resize_argmax(logits, size)


def test_no_images():
    assert resize_argmax(torch.zeros(0, 3, 4, 4), (8, 9)).shape == (0, 8, 9)


@pytest.mark.parametrize(
    ("source", "target"), [(4, 16), (5, 13), (13, 5), (6, 6), (1, 3), (7, 1), (375, 1242)]
)
def test_axis_interpolates_like_torch(source, target):
    values = torch.randn(1, 1, source, generator=torch.Generator().manual_seed(0)).double()
    axis = linear_axis(source, target, dtype=torch.float64, device=values.device)
    found = torch.lerp(values[..., axis.lower], values[..., axis.upper], axis.weight)
    expected = F.interpolate(values, size=target, mode="linear", align_corners=False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert (axis.weight[axis.lower == axis.upper] == 0).all()


# ---- nearest labels ----------------------------------------------------------------------------------------


def test_nearest_labels_by_hand():
    labels = torch.tensor([[0, 1, 2, 3]])
    assert resize_nearest_labels(labels, (1, 2)).tolist() == [[1, 3]]  # centers at 1.0 and 3.0
    assert resize_nearest_labels(labels, (1, 3)).tolist() == [[0, 2, 3]]  # 0.67, 2.0, 3.33
    assert resize_nearest_labels(labels, (2, 8)).tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2
    assert resize_nearest_labels(labels, (1, 4)).tolist() == labels.tolist()


@pytest.mark.parametrize("size", [(9, 13), (5, 7), (3, 2), (31, 40)])
def test_nearest_labels_equal_exact_fractions(size):
    labels = torch.arange(5 * 7).view(5, 7)
    rows = [(2 * y + 1) * 5 // (2 * size[0]) for y in range(size[0])]
    columns = [(2 * x + 1) * 7 // (2 * size[1]) for x in range(size[1])]
    assert resize_nearest_labels(labels, size).tolist() == [[7 * y + x for x in columns] for y in rows]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_nearest_labels_keep_type_batch_and_large_ids(dtype):
    top = torch.iinfo(dtype).max
    labels = torch.tensor([[[0, top]], [[top, 1]]], dtype=dtype)
    resized = resize_nearest_labels(labels, (2, 4))
    assert resized.dtype == dtype and resized.shape == (2, 2, 4)
    assert resized[:, 1].tolist() == [[0, 0, top, top], [top, top, 1, 1]]


def test_nearest_labels_of_wrong_arguments():
    with pytest.raises(ValueError, match="not empty"):
        resize_nearest_labels(torch.zeros(0, 4), (2, 2))
    with pytest.raises(ValueError, match="positive"):
        resize_nearest_labels(torch.zeros(4, 4), (2, -1))
