"""Resizing of class maps: the arg-max of an upsampled map, and nearest neighbors of label maps."""

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_PIXELS = 2**16  # target pixels looked at together
CHUNK_ELEMENTS = 2**18  # pixels times classes interpolated together: 1 MiB per buffer
GPU_FACTOR = 64  # both are larger on a GPU, which wants few large operations


class LinearAxis(NamedTuple):
    """One axis of a bilinear resize, each `(target,)`: `lerp(source[lower], source[upper], weight)`."""

    lower: Tensor
    upper: Tensor
    weight: Tensor


def linear_axis(source: int, target: int, *, dtype: torch.dtype, device: torch.device) -> LinearAxis:
    """Neighbors and weights of every target position, as `interpolate(..., align_corners=False)` takes them.

    Args:
        source: Number of source positions, at least 1.
        target: Number of target positions, at least 1.
        dtype: Of the weights; float64 also places the positions in float64.
        device: Where the tensors live.

    Returns:
        Ascending indices `lower` and `upper` in [0, source) and weights in [0, 1). Where the weight is 0,
        `upper` is
        `lower`: a position on a source position, or outside the outermost one, depends on nothing else.
    """
    positions = (torch.arange(target, dtype=dtype, device=device) + 0.5) * (source / target) - 0.5
    positions = positions.clamp_(0, source - 1)
    lower = positions.long()
    weight = positions - lower
    return LinearAxis(lower, lower + (weight > 0), weight)


def _interpolated_argmax(
    image: Tensor, top: int, pixels: Tensor, rows: LinearAxis, columns: LinearAxis
) -> Tensor:
    """Arg-max of the interpolation at some pixels `(row * width + column,)` of a block of target rows.

    Args:
        image: `(num_classes, source rows of the block, source_width)`.
        top: The source row that `image` begins with.
        pixels: int64 `(pixels,)`.
        rows: Axis of the target rows of the block.
        columns: Axis of the target columns.
    """
    num_classes, _, width = image.shape
    dtype = rows.weight.dtype
    features = image.flatten(1).to(dtype).t().contiguous()  # channels last: one pixel is one piece of memory
    chunk = max(1, CHUNK_ELEMENTS * (GPU_FACTOR if image.is_cuda else 1) // num_classes)
    found = torch.empty_like(pixels)
    for part, out in zip(pixels.split(chunk), found.split(chunk)):
        row, column = part // columns.lower.shape[0], part % columns.lower.shape[0]
        left, right, across = columns.lower[column], columns.upper[column], columns.weight[column, None]
        above, below = (rows.lower[row] - top) * width, (rows.upper[row] - top) * width
        over = features.index_select(0, above + left)
        torch.lerp(over, features.index_select(0, above + right), across, out=over)
        under = features.index_select(0, below + left)
        torch.lerp(under, features.index_select(0, below + right), across, out=under)
        torch.argmax(torch.lerp(over, under, rows.weight[row, None], out=over), dim=1, out=out)
    return found


def _image_argmax(image: Tensor, out: Tensor) -> None:
    """`resize_argmax` of one image `(num_classes, height, width)` into `out`."""
    dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
    rows = linear_axis(image.shape[1], out.shape[0], dtype=dtype, device=image.device)
    columns = linear_axis(image.shape[2], out.shape[1], dtype=dtype, device=image.device)
    lower, upper = rows.lower.tolist(), rows.upper.tolist()
    enlarges = out.numel() >= image[0].numel()
    labels = image.argmax(dim=0) if enlarges else None
    step = max(1, BLOCK_PIXELS * (GPU_FACTOR if image.is_cuda else 1) // out.shape[1])
    for start in range(0, out.shape[0], step):
        part = slice(start, start + step)
        block, target = LinearAxis(*(values[part] for values in rows)), out[part]
        top, bottom = lower[start], upper[part][-1] + 1
        if labels is None:
            pixels = torch.arange(target.numel(), device=out.device)
        else:
            left = labels[top:bottom].index_select(1, columns.lower)
            constant = left == labels[top:bottom].index_select(1, columns.upper)
            above, below = block.lower - top, block.upper - top
            torch.index_select(left, 0, above, out=target)
            mixed = target != left.index_select(0, below)
            mixed |= ~(constant.index_select(0, above) & constant.index_select(0, below))
            pixels = mixed.view(-1).nonzero()[:, 0]
        if len(pixels):
            target.view(-1)[pixels] = _interpolated_argmax(image[:, top:bottom], top, pixels, block, columns)


@torch.no_grad()
def resize_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Arg-max over classes of the bilinear resize of a map, without the resized map.

    Equal to `interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)` up to rounding
    between values that are equal. Exact corner rule: where the four source pixels around a target pixel have
    the same arg-max, so has every mix of them (each of the four prefers this class to any other), so only
    pixels between different classes are interpolated, in blocks.

    Args:
        logits: `(batch_size, num_classes, height, width)`, floating.
        size: Target height and width, at least 1 each; larger or smaller than the source.

    Returns:
        int64 `(batch_size, size[0], size[1])` in [0, num_classes).

    Raises:
        ValueError: `logits` is not such a map, or the size is not positive.
    """
    if logits.dim() != 4 or not logits.is_floating_point() or 0 in logits.shape[1:]:
        raise ValueError(
            "logits must be floating (batch_size, num_classes, height, width) and not empty, "
            f"got {logits.dtype} {tuple(logits.shape)}"
        )
    out = torch.empty(logits.shape[0], *_checked(size), dtype=torch.int64, device=logits.device)
    for image, target in zip(logits, out):
        _image_argmax(image, target)
    return out


def resize_nearest_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Label maps of another size: every pixel takes the id under its center.

    Positions are computed in integers, so ids of any range and maps of any size stay exact; where a center
    falls on the border of two source pixels, the lower right one is taken.

    Args:
        labels: `(..., height, width)` of any type.
        size: Target height and width, at least 1 each.

    Returns:
        `(..., size[0], size[1])` of the same type.

    Raises:
        ValueError: `labels` has no pixels, or the size is not positive.
    """
    if labels.dim() < 2 or 0 in labels.shape[-2:]:
        raise ValueError(f"labels must be (..., height, width) and not empty, got {tuple(labels.shape)}")
    for dim, target in zip((-2, -1), _checked(size)):
        source = labels.shape[dim]
        centers = (torch.arange(target, device=labels.device) * 2 + 1) * source // (2 * target)
        labels = labels.index_select(dim, centers)
    return labels


def _checked(size: tuple[int, int]) -> tuple[int, int]:
    height, width = (int(length) for length in size)
    if height < 1 or width < 1:
        raise ValueError(f"size must be a positive height and width, got {tuple(size)}")
    return height, width
