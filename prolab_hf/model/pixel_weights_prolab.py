"""What the loss of a pixel counts for: by its class, near a boundary, or only where it is among the hardest."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class HardPixels(NamedTuple):
    """Which pixels a loss is a mean over (online hard example mining).

    Attributes:
        share: The hardest pixels of a forward pass that are always kept, in (0, 1].
        threshold: Beside them every pixel is kept whose loss is at least this; `None` = no others.
    """

    share: float
    threshold: float | None = None


def class_weight_map(labels: Tensor, class_weights: Tensor, *, ignore_index: int = 255) -> Tensor:
    """The weight of each pixel's class.

    Args:
        labels: `(batch_size, label_height, label_width)` class ids, integers; those outside the classes get 1, as it
            is the losses that refuse them.
        class_weights: `(num_labels,)`, at least 0.
        ignore_index: The label of void pixels, which weigh 1.

    Returns:
        `(batch_size, label_height, label_width)` in the type of the weights.
    """
    num_labels = class_weights.shape[0]
    table = F.pad(class_weights, (0, 1), value=1.0)
    labels = labels.long()
    known = (labels != ignore_index) & (labels >= 0) & (labels < num_labels)
    return table[torch.where(known, labels, num_labels)]


def boundary_map(labels: Tensor, *, width: int, ignore_index: int = 255) -> Tensor:
    """Which pixels have a pixel of another class at most `width` pixels away, diagonals included.

    Void is no class: an object's edge to void is no boundary.

    Args:
        labels: `(batch_size, label_height, label_width)` class ids, integers.
        width: In pixels, at least 1.
        ignore_index: The label of void pixels, which are near nothing.

    Returns:
        Booleans `(batch_size, label_height, label_width)`.
    """
    valid = labels.long() != ignore_index
    values = labels.float()  # exact up to 16 million classes
    highest = _highest_nearby(torch.where(valid, values, -math.inf), width)
    lowest = -_highest_nearby(torch.where(valid, -values, -math.inf), width)
    return valid & (highest != lowest)


def _highest_nearby(maps: Tensor, width: int) -> Tensor:
    """Maximum over squares of `2 * width + 1` pixels, one direction after the other."""
    rows = F.max_pool2d(maps[:, None], (2 * width + 1, 1), stride=1, padding=(width, 0))
    return F.max_pool2d(rows, (1, 2 * width + 1), stride=1, padding=(0, width))[:, 0]


def hardest_pixels(losses: Tensor, counted: Tensor, hard: HardPixels) -> Tensor:
    """Which pixels are kept.

    Args:
        losses: Loss of each pixel, any shape.
        counted: Booleans of that shape: pixels that may be kept at all.
        hard: How many; pixels as hard as the last one that is kept are kept, too.

    Returns:
        Booleans of the same shape.
    """
    ordered = losses.masked_fill(~counted, -math.inf).flatten().sort(descending=True).values
    # All on the device: asking for the number would stop the queue of a GPU.
    last = (counted.sum() * hard.share).ceil().long().clamp_min(1) - 1
    limit = ordered.gather(0, last[None])
    if hard.threshold is not None:
        limit = limit.clamp_max(hard.threshold)
    return counted & (losses >= limit)
