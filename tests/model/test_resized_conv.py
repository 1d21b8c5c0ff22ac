"""The convolution that fuses maps of several resolutions, against resizing, concatenating and convolving them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prolab_hf.model import decoders_prolab as resized_conv_prolab
from prolab_hf.model.decoders_prolab import conv_of_resized, interpolation_matrix

SIZES = [
    [(16, 20), (8, 10), (4, 5), (2, 3)],
    [(15, 21), (8, 11), (4, 6), (1, 1)],
    [(9, 9), (9, 9), (12, 13)],
]


def case(sizes, kernel, dtype=torch.float64):
    torch.manual_seed(0)
    conv = nn.Conv2d(4 * len(sizes), 6, kernel, padding=kernel // 2, bias=False, dtype=dtype)
    return conv, [torch.randn(2, 4, *size, dtype=dtype, requires_grad=True) for size in sizes]


def plain(conv, maps):
    wide = [F.interpolate(each, maps[0].shape[2:], mode="bilinear", align_corners=False) for each in maps[1:]]
    return conv(torch.cat([maps[0], *wide], dim=1))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("sizes", SIZES, ids=["halves", "odd", "not coarser"])
@pytest.mark.parametrize("least_saving", [0.0, 2.0], ids=["always", "where it saves"])
def test_equals_the_plain_formulation_in_values_and_gradients(monkeypatch, sizes, kernel, least_saving):
    monkeypatch.setattr(resized_conv_prolab, "LEAST_SAVING", least_saving)
    conv, maps = case(sizes, kernel)
    found, expected = conv_of_resized(conv, maps), plain(conv, maps)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    inputs = [*maps, conv.weight]
    for ours, theirs in zip(
        torch.autograd.grad(found.sin().sum(), inputs),
        torch.autograd.grad(expected.sin().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_coarse_maps_are_never_resized_where_that_costs_more(monkeypatch):
    """A wide UPerNet: only the result has the finest size, no map of all channels."""
    conv = nn.Conv2d(4 * 192, 192, 3, padding=1, bias=False)
    maps = [torch.randn(1, 192, 64 // 2**level, 64 // 2**level) for level in range(4)]
    resized = []
    monkeypatch.setattr(
        resized_conv_prolab, "resize", lambda features, size: resized.append(features.shape) or features
    )
    with torch.no_grad():
        torch.testing.assert_close(conv_of_resized(conv, maps), plain(conv, maps), rtol=1e-4, atol=1e-5)
    assert not resized


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layouts_and_autocast(monkeypatch, layout):
    monkeypatch.setattr(resized_conv_prolab, "LEAST_SAVING", 0.0)
    conv, maps = case(SIZES[0], 3, torch.float32)
    maps = [each.detach().contiguous(memory_format=layout) for each in maps]
    expected = plain(conv, maps)
    torch.testing.assert_close(conv_of_resized(conv, maps), expected, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = conv_of_resized(conv, maps)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("source", "target"), [(1, 4), (3, 7), (8, 16), (16, 8), (5, 5)])
def test_interpolation_matrix_resizes_like_torch(source, target):
    line = torch.randn(1, 1, source, dtype=torch.float64)
    expected = F.interpolate(line, target, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close(interpolation_matrix(source, target, line) @ line[0, 0], expected)
