"""Resizing of class maps: the arg-max of an upsampled map, and nearest neighbors of label maps."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_THREADS = 8  # tasks are Python between the operations: more threads would wait for the interpreter


def thread_count() -> int:
    """How many threads `run_on_threads` uses for enough tasks."""
    return min(torch.get_num_threads(), MOST_THREADS)


def run_on_threads(tasks: Sequence[Callable[[], None]], *, serial: bool = False) -> None:
    """Runs independent tasks on as many threads as torch may use on the CPU, and waits for them.

    Many small operations with OpenMP inside collapse when other processes use the cores, since each operation
    ends in a barrier; one thread per task with serial operations does not. Tasks run without gradients.

    Args:
        tasks: Called without arguments, in any order.
        serial: One after the other on one thread, for operations so small that threads would only wait for
            the interpreter.
    """
    configured, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def run(task: Callable[[], None]) -> None:
        with torch.inference_mode(inference), torch.no_grad():  # modes of each thread
            task()

    threads = min(thread_count(), len(tasks))
    if threads <= 1 or serial:
        try:
            torch.set_num_threads(1)
            for task in tasks:
                run(task)
        finally:
            torch.set_num_threads(configured)
        return
    try:
        # A pool per call costs 0.2 ms and, unlike a lasting one, survives a fork of the process.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for future in [pool.submit(run, task) for task in tasks]:
                future.result()
    finally:
        torch.set_num_threads(configured)  # the setting of a worker also reaches threads that start later


BLOCK_PIXELS = 2**18  # target pixels looked at together
TILE_ELEMENTS = 2**22  # source pixels times classes that they need
CHUNK_ELEMENTS = 2**19  # pixels times classes interpolated together
MIN_PIXELS_FOR_THREADS = 2**16
GPU_FACTOR = 16  # blocks are larger on a GPU, which wants few large operations


class LinearAxis(NamedTuple):
    """One axis of a bilinear resize, each `(target,)`: `lerp(source[lower], source[upper], weight)`."""

    lower: Tensor
    upper: Tensor
    weight: Tensor


def linear_positions(source: int, target: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Where the target positions lie between the source positions, `(target,)` in [0, source - 1].

    As `interpolate(..., align_corners=False)` places them; the arguments are those of `linear_axis`.
    """
    positions = (torch.arange(target, dtype=dtype, device=device) + 0.5) * (source / target) - 0.5
    return positions.clamp_(0, source - 1)


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
    positions = linear_positions(source, target, dtype=dtype, device=device)
    lower = positions.long()
    weight = positions - lower
    return LinearAxis(lower, lower + (weight > 0), weight)


def _blocks(
    rows: LinearAxis, row_elements: int, label_width: int, factor: int, threads: int
) -> Iterator[tuple[slice, slice]]:
    """Target rows that are worked on together, and the source rows that they need."""
    target, lower, upper = len(rows.lower), rows.lower.tolist(), rows.upper.tolist()
    step = min(
        -(-target // threads),
        factor * BLOCK_PIXELS // label_width,
        factor * TILE_ELEMENTS // row_elements * target // (upper[-1] + 1),
    )
    for start in range(0, target, max(1, step)):
        stop = min(start + max(1, step), target)
        yield slice(start, stop), slice(lower[start], upper[stop - 1] + 1)


def _interpolated_argmax(
    features: Tensor, width: int, pixels: Tensor, rows: LinearAxis, columns: LinearAxis, factor: int
) -> Tensor:
    """Arg-max of the interpolation at some pixels `(row * label_width + column,)` of a block.

    Args:
        features: `(source rows * width, num_labels)`.
        width: Of the source.
        pixels: int64 `(pixels,)`.
        rows: Axis of the target rows, its indices relative to `features`.
        columns: Axis of the target columns.
        factor: Factor on the size of the chunks.
    """
    found = torch.empty_like(pixels)
    chunk = max(1, factor * CHUNK_ELEMENTS // features.shape[1])
    for part, out in zip(pixels.split(chunk), found.split(chunk)):
        row, column = part // columns.lower.shape[0], part % columns.lower.shape[0]
        above, below = rows.lower[row] * width, rows.upper[row] * width
        left, right = columns.lower[column], columns.upper[column]
        corners = torch.stack([above + left, above + right, below + left, below + right], dim=1)
        down, across = rows.weight[row], columns.weight[column]
        upper_weights = torch.stack([1 - across, across], dim=1)
        weights = torch.cat([upper_weights * (1 - down)[:, None], upper_weights * down[:, None]], dim=1)
        # A weighted sum of gathered rows in one pass, without the gathered rows.
        mixed = F.embedding_bag(corners, features, mode="sum", per_sample_weights=weights)
        torch.argmax(mixed, dim=1, out=out)
    return found


def _image_argmax(image: Tensor, out: Tensor) -> None:
    """`resize_argmax` of one image `(num_labels, height, width)` into `out`."""
    dtype = torch.float64 if image.dtype == torch.float64 else torch.float32
    num_labels, height, width = image.shape
    vertical = linear_axis(height, out.shape[0], dtype=dtype, device=image.device)
    columns = linear_axis(width, out.shape[1], dtype=dtype, device=image.device)
    on_cpu = image.device.type == "cpu"
    factor = 1 if on_cpu else GPU_FACTOR
    threads = thread_count() if on_cpu and out.numel() >= MIN_PIXELS_FOR_THREADS else 1

    def block(target_rows: slice, source_rows: slice) -> None:
        # Channels last: the classes of a pixel are one piece of memory, to compare and to gather.
        features = image[:, source_rows].flatten(1).to(dtype).t().contiguous()
        labels = features.argmax(dim=1).view(-1, width)
        target, axis = out[target_rows], LinearAxis(*(values[target_rows] for values in vertical))
        above, below = axis.lower - source_rows.start, axis.upper - source_rows.start
        left = labels.index_select(1, columns.lower)
        constant = left == labels.index_select(1, columns.upper)
        torch.index_select(left, 0, above, out=target)
        between = target != left.index_select(0, below)
        between |= ~(constant.index_select(0, above) & constant.index_select(0, below))
        pixels = between.view(-1).nonzero()[:, 0]
        if len(pixels):
            rows = LinearAxis(above, below, axis.weight)
            target.view(-1)[pixels] = _interpolated_argmax(features, width, pixels, rows, columns, factor)

    blocks = _blocks(vertical, width * num_labels, out.shape[1], factor, threads)
    if on_cpu:
        run_on_threads([partial(block, *rows) for rows in blocks])
        return
    for rows in blocks:
        block(*rows)


@torch.no_grad()
def resize_argmax(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Arg-max over classes of the bilinear resize of a map, without the resized map.

    Equal to `interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)` up to rounding
    between values that are equal. Exact corner rule: where the four source pixels around a target pixel have
    the same arg-max, so has every mix of them (each of the four prefers this class to any other), so only
    pixels between different classes are interpolated, in blocks.

    Args:
        logits: `(batch_size, num_labels, height, width)`, floating.
        size: Target height and width, at least 1 each; larger or smaller than the source.

    Returns:
        int64 `(batch_size, size[0], size[1])` in [0, num_labels).

    Raises:
        ValueError: `logits` is not such a map, or the size is not positive.
    """
    if logits.dim() != 4 or not logits.is_floating_point() or 0 in logits.shape[1:]:
        raise ValueError(
            "logits must be floating (batch_size, num_labels, height, width) and not empty, "
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
