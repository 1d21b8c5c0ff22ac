"""Sums of pixel losses over a bilinearly upsampled map that is never stored.

The property map at label resolution is the largest tensor of training by far. It is linear in the map at
feature resolution, and the loss is one number, so this module goes over the label rows once: it interpolates
a few rows, evaluates the loss and its gradient in the same buffers and adds the transposed interpolation to
the gradient at feature resolution. Beyond that gradient it needs memory for a few rows only, and backward is
one multiplication.

There are two ways through the rows, equal in result: `stream_rows` for the CPU takes one image and a few rows
at a time in buffers that stay in the cache, `stream_blocks` for a GPU takes all images and many rows in large
operations.
"""

import threading
from contextlib import AbstractContextManager
from functools import partial
from math import gcd
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .loss_kernels_prolab import KERNELS, PixelBlock, PixelLoss, Scratch
from .resize_prolab import LinearAxis, linear_axis, run_on_threads, thread_count

CPU_BLOCK_ELEMENTS = 2**19  # 2 MiB in float32: the three or four buffers of a block stay in the cache
CPU_BLOCK_ROWS = 16
GPU_BLOCK_ELEMENTS = 2**24  # few large operations; 64 MiB in float32 per buffer
SHORT_ROW_BLOCK_ELEMENTS = 2**18
MIN_LABEL_ROWS_PER_TASK = 32
MIN_ROW_ELEMENTS = 2**13
MIN_ROW_ELEMENTS_FOR_THREADS = 2**15
MIN_IMAGE_ELEMENTS_FOR_THREADS = 2**20
MIN_FEATURE_ROWS_PER_TASK = (
    4  # so that a feature row belongs to two shares at most and sums do not depend on order
)


class StreamInputs(NamedTuple):
    """Inputs of a stream.

    Attributes:
        logits: `(batch_size, channels, height, width)` at feature resolution, any floating type and layout.
        rows: `(label_height, batch_size, label_width)` row of `table` per pixel; `num_labels` where void.
        table: `(num_labels + 1, channels)` target rows, zeros last; its type is the type of the computation.
        scale: `(label_height, batch_size, label_width)` factor per pixel on the upsampled logits, or `None`.
        kind: A key of `KERNELS`.
        factor: Factor on all logits (one over the temperature).
        count_void: Whether void pixels add their loss.
        weights: `(label_height, batch_size, label_width)` factor per pixel on its loss, or `None`.
        focusing: Exponent of the focal factor, see `cross_entropy`.
        losses: Where to write the loss of each pixel `(label_height, batch_size, label_width)`, before weights and
            with that of void pixels; `None` where nobody wants to know.
    """

    logits: Tensor
    rows: Tensor
    table: Tensor
    scale: Tensor | None
    kind: str
    factor: float
    count_void: bool
    weights: Tensor | None = None
    focusing: float = 0.0
    losses: Tensor | None = None

    def image(self, index: int) -> "StreamInputs":
        """The inputs of one image of the batch."""
        part = slice(index, index + 1)
        scale, weights, losses = (
            None if maps is None else maps[:, part] for maps in (self.scale, self.weights, self.losses)
        )
        return self._replace(
            logits=self.logits[part], rows=self.rows[:, part], scale=scale, weights=weights, losses=losses
        )


class StreamGradients(NamedTuple):
    """Where a stream adds its gradients; shapes of `StreamInputs.logits` and `StreamInputs.scale`."""

    logits: Tensor
    scale: Tensor | None

    def image(self, index: int) -> "StreamGradients":
        """The part of one image of the batch."""
        part = slice(index, index + 1)
        return StreamGradients(self.logits[part], None if self.scale is None else self.scale[:, part])


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Float64 for float64 (gradient checks), float32 for everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _evaluate(
    inputs: StreamInputs,
    gradients: StreamGradients | None,
    label_rows: slice,
    logits: Tensor,
    scratch: Scratch,
) -> tuple[Tensor, PixelLoss]:
    """Summed loss of some label rows, and the gradient by their upsampled logits `(pixels, channels)`.

    Adds the gradient by the scale to `gradients`, and overwrites the logits.
    """
    rows = inputs.rows[label_rows].reshape(-1)
    scale = None if inputs.scale is None else inputs.scale[label_rows].reshape(-1, 1)
    if scale is not None:
        logits.mul_(scale)
    loss = KERNELS[inputs.kind](
        PixelBlock(
            logits, rows, inputs.table, scratch, scale is not None, gradients is not None, inputs.focusing
        )
    )
    losses, direction, factor = loss
    if inputs.losses is not None:
        inputs.losses[label_rows] = losses.view_as(inputs.losses[label_rows])
    if inputs.weights is not None:
        weights = inputs.weights[label_rows].reshape(-1)
        losses, factor = losses * weights, factor * weights
    if not inputs.count_void:
        counted = rows != inputs.table.shape[0] - 1
        losses, factor = losses * counted, factor * counted
    if direction is not None and scale is not None and gradients is not None and gradients.scale is not None:
        inner = torch.mul(logits, direction, out=scratch.take("inner", rows.shape[0])).sum(dim=1)
        scale = scale[:, 0]
        gradients.scale[label_rows] = (inner * factor / scale).view_as(gradients.scale[label_rows])
        factor = factor * scale
    return losses.sum(), PixelLoss(losses, direction, factor)


class _RowWindow:
    """The feature rows of one image around the current label rows, widened, and the gradients they collect.

    Interpolation is separable: each feature row is widened to label width once, channels last, and label rows
    are mixes of two such rows.
    """

    def __init__(
        self, inputs: StreamInputs, gradient: Tensor | None, lock: AbstractContextManager[Any]
    ) -> None:
        self.logits, self.factor = inputs.logits[0], inputs.factor
        self.gradient, self.lock = None if gradient is None else gradient[0], lock
        channels, height, width = self.logits.shape
        label_height, _, label_width = inputs.rows.shape
        dtype, device = inputs.table.dtype, inputs.logits.device
        columns = linear_axis(width, label_width, dtype=dtype, device=device)
        self.left, self.right, self.weight = columns.lower, columns.upper, columns.weight[:, None]
        self.vertical = linear_axis(height, label_height, dtype=dtype, device=device)
        self.lower, self.upper = self.vertical.lower.tolist(), self.vertical.upper.tolist()
        # Channels first: torch transposes in cache blocks only between two contiguous matrices.
        self.first = inputs.table.new_empty(channels, width)
        self.narrow = inputs.table.new_empty(width, channels)
        self.spare = inputs.table.new_empty(label_width, channels)
        self.held: dict[int, tuple[Tensor, Tensor]] = {}
        self.unused: list[tuple[Tensor, Tensor]] = []

    def move_to(self, block: range) -> None:
        """Lets go of feature rows that no later label row needs, and takes the new ones."""
        for row in [row for row in self.held if row < self.lower[block.start]]:
            self._release(row)
        part = slice(block.start, block.stop)
        for row in sorted({*self.lower[part], *self.upper[part]} - self.held.keys()):
            self._take(row)

    def interpolate(self, block: range, out: Tensor) -> None:
        """Writes the logits of label rows to `out` `(label rows, label_width, channels)`."""
        for index, mixed in zip(block, out):
            lower, upper = self.held[self.lower[index]][0], self.held[self.upper[index]][0]
            torch.lerp(lower, upper, self.vertical.weight[index], out=mixed)

    def collect(self, block: range, direction: Tensor, factor: Tensor) -> None:
        """Adds `factor * direction`, the gradient by what `interpolate` wrote."""
        to_upper = factor * self.vertical.weight[block.start : block.stop, None, None]
        for index, row, below, above in zip(block, direction, factor - to_upper, to_upper):
            self.held[self.lower[index]][1].addcmul_(row, below)
            self.held[self.upper[index]][1].addcmul_(row, above)

    def close(self) -> None:
        """Lets go of all rows."""
        for row in list(self.held):
            self._release(row)

    def _take(self, row: int) -> None:
        if not self.unused:
            self.unused.append((torch.empty_like(self.spare), torch.zeros_like(self.spare)))
        self.held[row] = self.unused.pop()
        wide = self.held[row][0]
        self.first.copy_(self.logits[:, row])
        self.narrow.copy_(self.first.t()).mul_(self.factor)
        torch.index_select(self.narrow, 0, self.left, out=wide)
        torch.index_select(self.narrow, 0, self.right, out=self.spare)
        torch.lerp(wide, self.spare, self.weight, out=wide)

    def _release(self, row: int) -> None:
        """Narrows the collected gradient (the transpose of widening) and adds it to that of the features."""
        self.unused.append(self.held.pop(row))
        if self.gradient is None:
            return
        wide = self.unused[-1][1]
        torch.mul(wide, self.weight, out=self.spare)
        self.narrow.zero_().index_add_(0, self.right, self.spare)
        self.narrow.index_add_(0, self.left, wide.sub_(self.spare)).mul_(self.factor)
        wide.zero_()
        self.first.copy_(self.narrow.t())
        with self.lock:  # a row between two shares of an image collects from both
            self.gradient[:, row].add_(self.first)


def stream_rows(
    inputs: StreamInputs,
    gradients: StreamGradients | None,
    *,
    share: range | None = None,
    lock: AbstractContextManager[Any] | None = None,
    block_rows: int | None = None,
) -> Tensor:
    """Sum of the losses of one image, or of a share of its label rows; adds their gradients.

    Args:
        inputs: Of a batch of one image.
        gradients: Where to add the gradients; `None` for the loss alone.
        share: The label rows; all by default.
        lock: Guards the gradient against other shares of the same image.
        block_rows: Label rows at a time; by default as many as stay in the cache.

    Returns:
        Scalar.
    """
    label_height, _, label_width = inputs.rows.shape
    channels = inputs.logits.shape[1]
    share = range(label_height) if share is None else share
    block_rows = block_rows or max(1, min(CPU_BLOCK_ROWS, CPU_BLOCK_ELEMENTS // (label_width * channels)))
    window = _RowWindow(inputs, gradients and gradients.logits, lock or threading.Lock())
    scratch = Scratch(block_rows * label_width, channels, like=inputs.table)
    totals = []
    for start in share[::block_rows]:
        block = range(start, min(start + block_rows, share.stop))
        shape = len(block), label_width, channels
        window.move_to(block)
        logits = scratch.take("logits", len(block) * label_width)
        window.interpolate(block, logits.view(shape))
        total, loss = _evaluate(inputs, gradients, slice(block.start, block.stop), logits, scratch)
        totals.append(total)
        if loss.direction is not None:
            window.collect(block, loss.direction.view(shape), loss.factor.view(*shape[:2], 1))
    window.close()
    return torch.stack(totals).sum()


def _mixed(values: Tensor, axis: LinearAxis, dim: int) -> Tensor:
    """Interpolates one dimension."""
    weight = axis.weight.view(-1, *[1] * (values.dim() - dim - 1))
    return torch.lerp(values.index_select(dim, axis.lower), values.index_select(dim, axis.upper), weight)


def _unmixed(gradients: Tensor, axis: LinearAxis, dim: int, size: int) -> Tensor:
    """The transpose of `_mixed`, back to `size` positions."""
    to_upper = gradients * axis.weight.view(-1, *[1] * (gradients.dim() - dim - 1))
    out = gradients.new_zeros(*gradients.shape[:dim], size, *gradients.shape[dim + 1 :])
    return out.index_add_(dim, axis.upper, to_upper).index_add_(dim, axis.lower, gradients - to_upper)


def stream_blocks(
    inputs: StreamInputs, gradients: StreamGradients | None, *, block_rows: int | None = None
) -> Tensor:
    """Sum of the losses of a batch; adds their gradients.

    Args:
        inputs: Of a batch.
        gradients: Where to add the gradients; `None` for the loss alone.
        block_rows: Label rows at a time; by default about 64 MiB of logits.

    Returns:
        Scalar.
    """
    label_height, batch_size, label_width = inputs.rows.shape
    _, channels, height, width = inputs.logits.shape
    dtype, device = inputs.table.dtype, inputs.logits.device
    block_rows = block_rows or max(1, GPU_BLOCK_ELEMENTS // (batch_size * label_width * channels))
    columns = linear_axis(width, label_width, dtype=dtype, device=device)
    axis = linear_axis(height, label_height, dtype=dtype, device=device)
    on_host = linear_axis(height, label_height, dtype=dtype, device=torch.device("cpu"))
    lower, upper = on_host.lower.tolist(), on_host.upper.tolist()
    scratch = Scratch(min(block_rows, label_height) * batch_size * label_width, channels, like=inputs.table)
    totals = []
    for start in range(0, label_height, block_rows):
        stop = min(start + block_rows, label_height)
        low, high = lower[start], upper[stop - 1] + 1
        block = LinearAxis(
            axis.lower[start:stop] - low, axis.upper[start:stop] - low, axis.weight[start:stop]
        )
        features = inputs.logits[:, :, low:high].to(dtype).permute(2, 0, 3, 1) * inputs.factor
        logits = _mixed(_mixed(features, columns, 2), block, 0)
        total, loss = _evaluate(inputs, gradients, slice(start, stop), logits.view(-1, channels), scratch)
        totals.append(total)
        if gradients is not None and loss.direction is not None:
            by_logits = (loss.direction * (loss.factor * inputs.factor)[:, None]).view_as(logits)
            by_features = _unmixed(_unmixed(by_logits, block, 0, high - low), columns, 2, width)
            gradients.logits[:, :, low:high] += by_features.permute(1, 3, 0, 2)
    return torch.stack(totals).sum()


def stream_on_threads(inputs: StreamInputs, gradients: StreamGradients | None) -> Tensor:
    """The stream of a batch on the CPU, cut into equal shares for the threads: images, or parts of images."""
    label_height, batch_size, label_width = inputs.rows.shape
    row_elements = label_width * inputs.logits.shape[1]
    # Short rows cost more in calls than in arithmetic: few large operations per image instead.
    in_blocks = row_elements < MIN_ROW_ELEMENTS
    # Measured: with 96 x 40 elements a row two threads took 2.7 times as long as one.
    least = MIN_IMAGE_ELEMENTS_FOR_THREADS / label_height if in_blocks else MIN_ROW_ELEMENTS_FOR_THREADS
    serial = row_elements < least
    threads = 1 if serial else thread_count()
    most = min(label_height // MIN_LABEL_ROWS_PER_TASK, inputs.logits.shape[2] // MIN_FEATURE_ROWS_PER_TASK)
    parts = 1 if in_blocks else max(1, min(threads // gcd(batch_size, threads), most))
    totals = [inputs.table.new_zeros(()) for _ in range(batch_size * parts)]

    def task(image: int, part: int, lock: AbstractContextManager[Any]) -> None:
        mine = None if gradients is None else gradients.image(image)
        if in_blocks:
            rows = max(1, SHORT_ROW_BLOCK_ELEMENTS // row_elements)
            totals[image] = stream_blocks(inputs.image(image), mine, block_rows=rows)
            return
        share = range(label_height * part // parts, label_height * (part + 1) // parts)
        totals[image * parts + part] = stream_rows(inputs.image(image), mine, share=share, lock=lock)

    locks = [threading.Lock() for _ in range(batch_size)]
    tasks = [partial(task, i, part, lock) for i, lock in enumerate(locks) for part in range(parts)]
    run_on_threads(tasks, serial=serial)
    return torch.stack(totals).sum()
