"""Sliding window and row-wise resizing against the plain formula and the reference implementation."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.evaluation.sliding_window import (
    count_windows,
    resized_blocks,
    slide_bands,
    slide_logits,
    window_starts,
)
from prolab_hf.hub.original_checkpoints import config_from_original, convert_original_state_dict
from prolab_hf.hub.original_spaces import property_space_from_original


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Conv2d(3, 4, 3, stride=4, padding=1).requires_grad_(False)


def plain_slide(network, pixels, crop, stride):
    """Sum and count over whole maps, window by window in reading order."""
    height, width = pixels.shape[-2:]
    total, count = torch.zeros(len(pixels), 4, height, width), torch.zeros(1, 1, height, width)
    for row in range(max(height - crop[0] + stride[0] - 1, 0) // stride[0] + 1):
        for column in range(max(width - crop[1] + stride[1] - 1, 0) // stride[1] + 1):
            bottom, right = min(row * stride[0] + crop[0], height), min(column * stride[1] + crop[1], width)
            top, left = max(bottom - crop[0], 0), max(right - crop[1], 0)
            logits = network(pixels[..., top:bottom, left:right])
            size = (bottom - top, right - left)
            total[..., top:bottom, left:right] += F.interpolate(logits, size, mode="bilinear")
            count[..., top:bottom, left:right] += 1
    return total / count


@pytest.mark.parametrize(
    ("crop", "stride"),
    [
        ((32, 32), (21, 21)),
        ((40, 64), (40, 11)),
        ((75, 90), (75, 90)),
        ((200, 33), (100, 33)),
        ((200, 200), (7, 7)),
    ],
)
@pytest.mark.parametrize("windows_per_batch", [1, 3])
def test_slide_is_the_plain_formula(network, crop, stride, windows_per_batch):
    pixels = torch.randn(2, 3, 75, 90)
    expected = plain_slide(network, pixels, crop, stride)
    found = slide_logits(network, pixels, crop, stride, windows_per_batch=windows_per_batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_last_window_is_shifted_inside():
    assert window_starts(96, 64, 42) == [0, 32]
    assert window_starts(106, 64, 42) == [0, 42]
    assert window_starts(50, 64, 42) == [0]
    assert count_windows((96, 150), (64, 64), (42, 42)) == 2 * 4


def test_gaps_between_windows_are_refused(network):
    with pytest.raises(ValueError, match=r"stride \(33, 32\) does not fit crop_size \(32, 32\)"):
        slide_logits(network, torch.zeros(1, 3, 64, 64), (32, 32), (33, 32))


def test_bands_come_as_soon_as_they_are_finished(network):
    pixels = torch.randn(1, 3, 400, 64)
    rows, calls = 0, []
    counted = lambda windows: (calls.append(1), network(windows))[1]  # noqa: E731
    for band in slide_bands(counted, pixels, (64, 64), (40, 64)):
        rows += band.shape[2]
        # The last window starts at 336: rows above it are finished by then.
        assert rows == [*range(40, 321, 40), 336, 400][len(calls) - 1]
    assert rows == 400
    seen = []
    for _ in slide_bands(network, pixels, (64, 64), (40, 64), on_windows=seen.append):
        pass
    assert sum(seen) == count_windows((400, 64), (64, 64), (40, 64))


@pytest.mark.parametrize("size", [(75, 90), (150, 90), (75, 33), (33, 200), (301, 47), (1, 1), (2, 500)])
def test_row_blocks_equal_the_resized_map(network, size):
    pixels = torch.randn(1, 3, 75, 90)
    expected = F.interpolate(plain_slide(network, pixels, (32, 40), (20, 30)), size, mode="bilinear")[0]
    bands = (band[0] for band in slide_bands(network, pixels, (32, 40), (20, 30)))
    blocks = list(resized_blocks(bands, (75, 90), size, block_rows=7))
    assert all(block.shape[1] == 7 for block in blocks[:-1])
    torch.testing.assert_close(torch.cat(blocks, dim=1), expected, rtol=0, atol=1e-5)


def test_reference_resizes_before_softmax(shared):
    """`softmax_prob_rescaled` of the reference from its full-resolution sliding logits."""
    golden = load_file(shared / "goldens" / "segmentor_vit_cossig_norm0.safetensors")
    size = tuple(
        json.loads((shared / "goldens" / "segmentor_vit_cossig_norm0.json").read_text())["ori_shape"][:2]
    )
    logits = golden["output/slide/class_logits_fullres"][0]
    source_size = (logits.shape[1], logits.shape[2])
    blocks = list(resized_blocks(iter([logits]), source_size, size))
    probabilities = torch.cat([block.softmax(dim=0) for block in blocks], dim=1)
    torch.testing.assert_close(
        probabilities, golden["output/slide/softmax_prob_rescaled"][0], rtol=0, atol=1e-6
    )
    assert torch.equal(probabilities.argmax(dim=0), golden["output/slide/seg_pred"].reshape(size).long())


def test_reference_segmentor_end_to_end(shared):
    """Sliding window, mirrored sliding window and whole image of a converted reference model."""
    folder = shared / "goldens"
    golden = load_file(folder / "segmentor_vit_cossig_norm0.safetensors")
    description = json.loads((folder / "segmentor_vit_cossig_norm0.json").read_text())
    space = property_space_from_original(golden["bank/raw_DxK"], golden["bank/cluster2label_raw_KxN"])
    config = config_from_original(description["cfg"], space)
    model = ProLabForSemanticSegmentation(config)
    state = {key.removeprefix("state/"): value for key, value in golden.items() if key.startswith("state/")}
    model.load_state_dict(convert_original_state_dict(state, config), strict=False)
    model.set_property_space(space)
    run = torch.no_grad()(lambda pixels: model.eval()(pixel_values=pixels).logits)
    pixels, size = golden["input/image"], tuple(description["ori_shape"][:2])

    def close(found, name):
        torch.testing.assert_close(found, golden[f"output/{name}"], rtol=0, atol=1e-5)

    close(slide_logits(run, pixels, (64, 64), (42, 42)), "slide/class_logits_fullres")
    mirrored = slide_logits(run, pixels.flip(-1), (64, 64), (42, 42))
    probabilities = F.interpolate(mirrored, size, mode="bilinear").softmax(dim=1).flip(-1)
    close(probabilities, "slide/softmax_prob_rescaled_hflip")
    close(F.interpolate(run(pixels), pixels.shape[-2:], mode="bilinear"), "whole/class_logits_fullres")
