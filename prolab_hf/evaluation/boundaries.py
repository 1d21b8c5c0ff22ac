"""Boundary regions of label maps, for all classes at once and on any device.

Boundary IoU (Cheng et al., CVPR 2021, equation 2) compares, class by class, only the pixels that lie within a
distance `d` of the contour of a mask. A pixel of class `c` belongs to that band exactly when the square
window of radius `d` around it contains another class or leaves the image. The window test does not depend
on `c`, so one sliding pass over the label map serves 150 classes at the cost of one.
"""

import math

import torch

DEFAULT_BOUNDARY_RATIO = 0.02
"""Width of the boundary band as a share of the image's diagonal, as in the paper."""


def boundary_distance(height: int, width: int, ratio: float = DEFAULT_BOUNDARY_RATIO) -> int:
    """Width of the boundary band in pixels: `ratio` of the diagonal, rounded, at least 1.

    Args:
        height: Height of the label map.
        width: Width of the label map.
        ratio: Share of the diagonal, in (0, 1).
    """
    return max(1, round(ratio * math.hypot(height, width)))


def boundary_region(label_map: torch.Tensor, distance: int) -> torch.Tensor:
    """Pixels within `distance` of the contour of the region they belong to.

    Equal to `mask & ~erode(mask, 3x3 square, distance times)` for the mask of every id in the map, where
    everything outside the map counts as another id (so the edge of the image is a contour, as in the
    paper's code).

    Args:
        label_map: Ids, `(..., height, width)`, any integer type.
        distance: Width of the band in pixels, at least 1.

    Returns:
        Boolean tensor `(..., height, width)`.
    """
    # Number the edges between neighbors instead of the pixels: a window holds one id if and only if no edge
    # inside it separates two ids. Booleans are an eighth of the ids' memory and their `|` is vectorized.
    across = _pad(label_map[..., 1:] != label_map[..., :-1], dim=-1, before=distance, after=distance)
    row_changes = _window_any(across, 2 * distance, dim=-1)  # (..., H, W): a change within the row's window
    changes = row_changes.clone()
    changes[..., :-1, :] |= label_map[..., 1:, :] != label_map[..., :-1, :]
    # Rows y-d .. y+d, but only the vertical edges between them: rows y-d .. y+d-1 bring their lower edge
    # along.
    above = _window_any(_pad(changes, dim=-2, before=distance, after=distance - 1), 2 * distance, dim=-2)
    below = _pad(row_changes[..., distance:, :], dim=-2, before=0, after=min(distance, label_map.shape[-2]))
    return above | below


def _pad(mask: torch.Tensor, *, dim: int, before: int, after: int) -> torch.Tensor:
    """Surround a boolean tensor by `True` along one dimension."""
    shape = list(mask.shape)
    shape[dim] += before + after
    padded = mask.new_ones(shape)
    padded.narrow(dim, before, mask.shape[dim]).copy_(mask)
    return padded


def _window_any(mask: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Logical or over every window of `length` along `dim` (no padding), in `log2(length)` passes."""
    width = 1
    while 2 * width <= length:
        size = mask.shape[dim] - width
        mask = mask.narrow(dim, 0, size) | mask.narrow(dim, width, size)
        width *= 2
    size = mask.shape[dim] - (length - width)
    return mask.narrow(dim, 0, size) | mask.narrow(dim, length - width, size)
