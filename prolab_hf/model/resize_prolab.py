"""Resizing of class maps: the arg-max of an upsampled map, and nearest neighbours of label maps."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LinearAxis(NamedTuple):
    """One axis of a bilinear resize: `target = lerp(source[lower], source[upper], weight)`, each `(target,)`."""

    lower: Tensor
    upper: Tensor
    weight: Tensor


def linear_axis(source: int, target: int, *, dtype: torch.dtype, device: torch.device) -> LinearAxis:
    """Neighbours and weights of every target position, as `interpolate(..., align_corners=False)` takes them.

    Args:
        source: Number of source positions, at least 1.
        target: Number of target positions, at least 1.
        dtype: Of the weights; float64 also places the positions in float64.
        device: Where the tensors live.

    Returns:
        Indices `lower` and `upper` in [0, source) and weights in [0, 1); the weight is 0 where both neighbours are
        the border.
    """
    positions = (torch.arange(target, dtype=dtype, device=device) + 0.5) * (source / target) - 0.5
    positions = positions.clamp_(0, source - 1)
    lower = positions.long()
    return LinearAxis(lower, (lower + 1).clamp_max_(source - 1), positions - lower)


def resize_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Class ids `(batch_size, H, W)` of the bilinear upsampling of `(batch_size, num_classes, h, w)`."""
    maps = F.interpolate(logits.float(), size=tuple(size), mode="bilinear", align_corners=False)
    return maps.argmax(dim=1)


def resize_nearest_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Label maps `(..., H, W)` of another size; every pixel takes the id under its center."""
    height, width = labels.shape[-2:]
    rows = (torch.arange(size[0], device=labels.device) * 2 + 1) * height // (2 * size[0])
    columns = (torch.arange(size[1], device=labels.device) * 2 + 1) * width // (2 * size[1])
    return labels.index_select(-2, rows).index_select(-1, columns)
