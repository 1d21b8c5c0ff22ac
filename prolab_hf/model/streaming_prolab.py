"""Sums of pixel losses over a bilinearly upsampled map that is never stored.

The property map at label resolution is the largest tensor of training by far. It is linear in the map at feature
resolution, and the loss is one number, so this module goes over the label rows once: it interpolates a few rows,
evaluates the loss and its gradient in the same buffers and adds the transposed interpolation to the gradient at
feature resolution. Beyond that gradient it needs memory for a few rows only, and backward is one multiplication.

Interpolation is separable: each feature row is widened to label width once (`_FeatureRows`), and a block of label
rows is a small matrix product of the widened rows around it (`_Window`).
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import chain
from math import gcd
from typing import NamedTuple

import torch
from torch import Tensor

from .pixel_losses_prolab import KERNELS, PixelBlock, Scratch
from .resize_prolab import linear_axis
from .threads_prolab import run_on_threads

CPU_BLOCK_ELEMENTS = 2**19  # 2 MiB in float32: the three or four buffers of a block stay in the cache
CPU_BLOCK_ROWS = 16
GPU_BLOCK_ELEMENTS = 2**25  # few large kernels; 128 MiB per buffer
GPU_BLOCK_ROWS = 128
MIN_LABEL_ROWS_PER_TASK = 32
MIN_FEATURE_ROWS_PER_TASK = 4  # so that a feature row belongs to two shares at most and sums do not depend on order


class StreamInputs(NamedTuple):
    """Inputs of a stream.

    Attributes:
        logits: `(batch_size, channels, height, width)` at feature resolution, any floating type and layout.
        rows: `(label_height, batch_size, label_width)` row of `table` per pixel; `num_classes` where void.
        table: `(num_classes + 1, channels)` target rows, zeros last; its type is the type of the computation.
        scale: `(label_height, batch_size, label_width)` factor per pixel on the upsampled logits, or `None`.
        kind: A key of `KERNELS`.
        factor: Factor on all logits (one over the temperature).
        count_void: Whether void pixels add their loss.
    """

    logits: Tensor
    rows: Tensor
    table: Tensor
    scale: Tensor | None
    kind: str
    factor: float
    count_void: bool

    def image(self, index: int) -> "StreamInputs":
        """The inputs of one image of the batch."""
        part = slice(index, index + 1)
        scale = None if self.scale is None else self.scale[:, part]
        return self._replace(logits=self.logits[part], rows=self.rows[:, part], scale=scale)


class StreamGradients(NamedTuple):
    """Where a stream adds its gradients; shapes of `StreamInputs.logits` and `StreamInputs.scale`."""

    logits: Tensor
    scale: Tensor | None

    def image(self, index: int) -> "StreamGradients":
        """The part of one image of the batch."""
        part = slice(index, index + 1)
        return StreamGradients(self.logits[part], None if self.scale is None else self.scale[:, part])


class Block(NamedTuple):
    """Label rows `start:stop`, each a mix of two feature rows with the weight of the second."""

    start: int
    stop: int
    lower: list[int]
    upper: list[int]
    weight: list[float]

    @property
    def sources(self) -> list[int]:
        """The feature rows of the block, ascending."""
        return sorted({*self.lower, *self.upper})


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Float64 for float64 (gradient checks), float32 for everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _transposed(matrices: Tensor, memory: Tensor) -> Tensor:
    """Contiguous `(n, a, b)` to contiguous `(n, b, a)`, in given memory of at least that size."""
    count, rows, columns = matrices.shape
    out = memory.view(-1)[: matrices.numel()].view(count, columns, rows)
    if matrices.is_cuda:
        return out.copy_(matrices.transpose(1, 2))
    for target, matrix in zip(out, matrices):
        target.copy_(matrix.t())  # torch transposes in cache blocks only where a tensor has two dimensions
    return out


class _FeatureRows:
    """Reads feature rows widened to label width, channels last, and adds gradients of such rows back.

    The images of the batch and several feature rows form one long list of pixels, because gathering from and adding
    to the first dimension of a matrix is fast on every device.
    """

    def __init__(
        self, inputs: StreamInputs, gradient: Tensor | None, lock: AbstractContextManager, most_rows: int
    ) -> None:
        self.logits, self.factor, self.gradient, self.lock = inputs.logits, inputs.factor, gradient, lock
        batch_size, channels, _, width = inputs.logits.shape
        device, lines, label_width = inputs.logits.device, most_rows * batch_size, inputs.rows.shape[-1]
        axis = linear_axis(width, label_width, dtype=inputs.table.dtype, device=device)
        starts = torch.arange(lines, device=device)[:, None] * width
        self.left, self.right = (starts + axis.lower).view(-1), (starts + axis.upper).view(-1)
        self.weight = axis.weight.repeat(lines)[:, None]
        self.narrow = inputs.table.new_empty(lines * width, channels)
        self.channels_first = inputs.table.new_empty(lines * width, channels)
        self.wide = inputs.table.new_empty(lines * label_width, channels)

    def read(self, sources: slice, out: Tensor) -> None:
        """Writes rows times the factor to `out`, `(rows * batch_size * label_width, channels)`."""
        rows = self.logits[:, :, sources].permute(2, 0, 1, 3)
        first = self.channels_first.view(-1)[: rows.numel()].view(rows.shape).copy_(rows)
        narrow = _transposed(first.flatten(0, 1), self.narrow).mul_(self.factor).flatten(0, 1)
        pixels = len(out)
        torch.index_select(narrow, 0, self.left[:pixels], out=out)
        right = torch.index_select(narrow, 0, self.right[:pixels], out=self.wide[:pixels])
        torch.lerp(out, right, self.weight[:pixels], out=out)

    def add(self, sources: slice, gradients: Tensor) -> None:
        """Adds gradients `(rows * batch_size * label_width, channels)` of rows; leaves zeros in their place."""
        if self.gradient is None:
            return
        target = self.gradient[:, :, sources].permute(2, 0, 1, 3)
        rows, batch_size, channels, width = target.shape
        pixels, lines = len(gradients), rows * batch_size
        narrow = self.narrow[: lines * width].zero_()
        right = torch.mul(gradients, self.weight[:pixels], out=self.wide[:pixels])
        narrow.index_add_(0, self.right[:pixels], right)
        narrow.index_add_(0, self.left[:pixels], gradients.sub_(right))
        gradients.zero_()
        first = _transposed(narrow.view(lines, width, channels), self.channels_first)
        with self.lock:  # the rows between two shares of an image collect from both
            target.add_(first.view(target.shape))


class _Window:
    """The widened feature rows around the current block, and the gradient that each has collected so far.

    Feature rows come and go in ascending order: they fill the places of the window in a circle.
    """

    def __init__(
        self,
        inputs: StreamInputs,
        gradients: StreamGradients | None,
        lock: AbstractContextManager,
        capacity: int,
    ) -> None:
        _, batch_size, label_width = inputs.rows.shape
        shape = capacity, batch_size * label_width, inputs.logits.shape[1]
        # On the CPU one row at a time stays in the cache; a GPU wants few large operations.
        self.most_rows = 1 if inputs.logits.device.type == "cpu" else capacity
        self.source = _FeatureRows(inputs, gradients.logits if gradients else None, lock, self.most_rows)
        self.rows = inputs.table.new_zeros(shape)
        self.gradients = inputs.table.new_zeros(shape) if gradients else None
        self.held: list[int] = []
        self.first_place = 0

    def move_to(self, block: Block) -> Tensor:
        """Lets go of rows that are needed no more, reads new ones; returns weights `(label rows, capacity)`."""
        sources = block.sources
        self.release(sum(row < sources[0] for row in self.held))
        new = sources[len(self.held) :]
        for feature_rows, places in self._runs(new, self.first_place + len(self.held)):
            self.source.read(feature_rows, self.rows[places].flatten(0, 1))
        self.held += new
        capacity = len(self.rows)
        place = {row: (self.first_place + i) % capacity for i, row in enumerate(self.held)}
        weights = [[0.0] * capacity for _ in block.lower]
        for mix, lower, upper, weight in zip(weights, block.lower, block.upper, block.weight):
            mix[place[lower]] += 1 - weight
            mix[place[upper]] += weight
        return self.rows.new_tensor(weights)

    def release(self, count: int | None = None) -> None:
        """Hands back the gradients of the first `count` rows, all by default."""
        count = len(self.held) if count is None else count
        if self.gradients is not None:
            for feature_rows, places in self._runs(self.held[:count], self.first_place):
                self.source.add(feature_rows, self.gradients[places].flatten(0, 1))
        self.held = self.held[count:]
        self.first_place += count

    def _runs(self, rows: list[int], first_place: int) -> Iterator[tuple[slice, slice]]:
        """Cuts rows into runs that are consecutive in the features and in the window."""
        start = 0
        for stop in range(1, len(rows) + 1):
            place = (first_place + start) % len(self.rows)
            length = stop - start
            if (
                stop == len(rows)
                or rows[stop] != rows[stop - 1] + 1
                or place + length == len(self.rows)
                or length == self.most_rows
            ):
                yield slice(rows[start], rows[start] + length), slice(place, place + length)
                start = stop


def _plan(inputs: StreamInputs, share: range, block_rows: int) -> list[Block]:
    """Blocks of at most `block_rows` label rows that cover the share."""
    axis = linear_axis(
        inputs.logits.shape[2], inputs.rows.shape[0], dtype=inputs.table.dtype, device=torch.device("cpu")
    )
    lower, upper, weight = axis.lower.tolist(), axis.upper.tolist(), axis.weight.tolist()
    blocks = []
    for start in share[::block_rows]:
        part = slice(start, min(start + block_rows, share.stop))
        blocks.append(Block(part.start, part.stop, lower[part], upper[part], weight[part]))
    return blocks


def _evaluate(
    inputs: StreamInputs, block: Block, logits: Tensor, scratch: Scratch, gradients: StreamGradients | None
) -> tuple[Tensor, Tensor | None]:
    """Summed loss of a block and the gradient by its upsampled logits; adds the gradient by the scale."""
    part = slice(block.start, block.stop)
    rows = inputs.rows[part].reshape(-1)
    scale = None if inputs.scale is None else inputs.scale[part].reshape(-1)
    if scale is not None:
        logits.mul_(scale[:, None])
    losses, direction, factor = KERNELS[inputs.kind](
        PixelBlock(
            logits,
            rows,
            inputs.table,
            scratch,
            keep_logits=scale is not None,
            need_gradient=gradients is not None,
        )
    )
    if not inputs.count_void:
        counted = rows != len(inputs.table) - 1
        losses, factor = losses * counted, factor * counted
    if direction is None or gradients is None:
        return losses.sum(), None
    if scale is not None and gradients.scale is not None:
        inner = torch.mul(logits, direction, out=scratch.take("inner", len(rows))).sum(dim=1)
        gradients.scale[part] = (inner * factor / scale).view_as(gradients.scale[part])
        factor = factor * scale
    return losses.sum(), direction.mul_((factor * inputs.factor)[:, None])


def stream(
    inputs: StreamInputs,
    gradients: StreamGradients | None,
    *,
    share: range | None = None,
    block_rows: int | None = None,
    lock: AbstractContextManager | None = None,
) -> Tensor:
    """Sum of the losses of a share of the label rows; adds their gradients.

    Args:
        inputs: Logits, targets and the kind of loss.
        gradients: Where to add the gradients; `None` for the loss alone.
        share: Label rows to go over; all by default.
        block_rows: Label rows at a time; chosen by device and size by default.
        lock: Guards `gradients.logits` against other shares of the same image.

    Returns:
        Scalar.
    """
    label_height, batch_size, label_width = inputs.rows.shape
    channels = inputs.logits.shape[1]
    row_elements = batch_size * label_width * channels
    if block_rows is None:
        gpu = inputs.logits.device.type != "cpu"
        limit, elements = (GPU_BLOCK_ROWS, GPU_BLOCK_ELEMENTS) if gpu else (CPU_BLOCK_ROWS, CPU_BLOCK_ELEMENTS)
        block_rows = max(1, min(limit, elements // row_elements))
    with torch.no_grad(), torch.autocast(inputs.logits.device.type, enabled=False):
        blocks = _plan(inputs, share or range(label_height), block_rows)
        capacity = max(len(block.sources) for block in blocks)
        window = _Window(inputs, gradients, lock or threading.Lock(), capacity)
        scratch = Scratch(block_rows * batch_size * label_width, channels, like=window.rows)
        totals = []
        for block in blocks:
            mixing = window.move_to(block)
            logits = scratch.take("logits", len(mixing) * batch_size * label_width)
            torch.mm(mixing, window.rows.flatten(1), out=logits.view(len(mixing), -1))
            total, gradient = _evaluate(inputs, block, logits, scratch, gradients)
            totals.append(total)
            if gradient is not None and window.gradients is not None:
                window.gradients.flatten(1).addmm_(mixing.t(), gradient.view(len(mixing), -1))
        window.release()
        return torch.stack(totals).sum()


def _stream_on_threads(inputs: StreamInputs, gradients: StreamGradients | None) -> Tensor:
    """The stream of a batch on the CPU, cut into equal shares for the threads: images, or parts of images."""
    label_height, batch_size, _ = inputs.rows.shape
    threads = torch.get_num_threads()
    most = min(label_height // MIN_LABEL_ROWS_PER_TASK, inputs.logits.shape[2] // MIN_FEATURE_ROWS_PER_TASK)
    parts = max(1, min(threads // gcd(batch_size, threads), most))
    totals = [inputs.table.new_zeros(()) for _ in range(batch_size * parts)]

    def task(image: int, part: int, lock: AbstractContextManager) -> None:
        share = range(label_height * part // parts, label_height * (part + 1) // parts)
        mine = None if gradients is None else gradients.image(image)
        totals[image * parts + part] = stream(inputs.image(image), mine, share=share, lock=lock)

    locks = [threading.Lock() for _ in range(batch_size)]
    run_on_threads([partial(task, i, part, lock) for i, lock in enumerate(locks) for part in range(parts)])
    return torch.stack(totals).sum()


def free_operator_name(stem: str) -> str:
    """An operator name that no other copy of this module has taken (remote code loads copies beside the package)."""
    names = chain([stem], (f"{stem}_{copy}" for copy in range(2, 2**31)))
    return next(f"prolab_hf::{name}" for name in names if not hasattr(torch.ops.prolab_hf, name))


@torch.library.custom_op(
    free_operator_name("streamed_loss"),
    mutates_args=(),
    schema="(Tensor logits, Tensor rows, Tensor table, Tensor? scale, str kind, float factor, bool count_void, "
    "bool need_gradient) -> (Tensor, Tensor, Tensor)",
)
def _streamed_loss(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    scale: Tensor | None,
    kind: str,
    factor: float,
    count_void: bool,
    need_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Total loss and its gradients by logits and scale; empty where not needed. One node for torch.compile."""
    inputs = StreamInputs(logits, rows, table, scale, kind, factor, count_void)
    total, by_logits, by_scale = _empty_outputs(logits, rows, table, scale, kind, factor, count_void, need_gradient)
    gradients = None
    if need_gradient:
        gradients = StreamGradients(by_logits.zero_(), None if scale is None else by_scale)
    if rows.numel() == 0:
        return total.zero_(), by_logits, by_scale
    run = stream if logits.device.type != "cpu" else _stream_on_threads
    return total.copy_(run(inputs, gradients)), by_logits, by_scale


@_streamed_loss.register_fake
def _empty_outputs(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    scale: Tensor | None,
    kind: str,
    factor: float,
    count_void: bool,
    need_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    by_logits = torch.empty_like(logits, dtype=table.dtype) if need_gradient else table.new_empty(0)
    by_scale = torch.empty_like(scale) if need_gradient and scale is not None else table.new_empty(0)
    return table.new_empty(()), by_logits, by_scale


def _setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple) -> None:
    _, by_logits, by_scale = output
    ctx.mark_non_differentiable(by_logits, by_scale)
    ctx.save_for_backward(by_logits, by_scale)
    ctx.dtype = inputs[0].dtype
    ctx.scaled = inputs[3] is not None


def _backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    by_logits, by_scale = ctx.saved_tensors
    scale = by_scale * grad if ctx.scaled else None
    return (by_logits * grad).to(ctx.dtype), None, None, scale, None, None, None, None


_streamed_loss.register_autograd(_backward, setup_context=_setup_context)


def streamed_loss(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    *,
    kind: str,
    scale: Tensor | None = None,
    factor: float = 1.0,
    count_void: bool = False,
) -> Tensor:
    """Sum of a pixel loss over logits upsampled bilinearly (`align_corners=False`) to the resolution of `rows`.

    Differentiable once in `logits` and `scale`. Float32 inside for every input type but float64.

    Args:
        logits: `(batch_size, channels, height, width)`, any floating type and layout.
        rows: `(label_height, batch_size, label_width)` from `class_rows`.
        table: `(num_classes + 1, channels)` target rows in `compute_dtype(logits)`, zeros last.
        kind: A key of `KERNELS`.
        scale: `(label_height, batch_size, label_width)` positive factor per pixel on the upsampled logits.
        factor: Factor on all logits.
        count_void: Whether void pixels add their loss.

    Returns:
        Scalar in `compute_dtype(logits)`.
    """
    need = torch.is_grad_enabled() and (logits.requires_grad or (scale is not None and scale.requires_grad))
    return _streamed_loss(logits, rows, table, scale, kind, factor, count_void, need)[0]


@torch.library.custom_op(
    free_operator_name("class_rows"), mutates_args=(), schema="(Tensor labels, int num_classes, int ignore_index) -> Tensor"
)
def class_rows(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Row of the class table per pixel, label rows first; one node for torch.compile because it looks at values.

    Args:
        labels: `(batch_size, label_height, label_width)` integers.
        num_classes: Number of classes; also the row of void pixels.
        ignore_index: The label of void pixels.

    Returns:
        int64 `(label_height, batch_size, label_width)` in [0, num_classes].

    Raises:
        ValueError: A label is neither a class nor `ignore_index` (on the CPU; on other devices an assertion of the
            device, since looking would stop its queue).
    """
    labels = labels.permute(1, 0, 2).long()
    void = labels == ignore_index
    outside = ((labels < 0) | (labels >= num_classes)) & ~void
    if labels.device.type != "cpu":
        torch._assert_async(~outside.any(), "labels outside the classes and not the ignore index")
    elif bool(outside.any()):
        found = labels[outside].unique()[:5].tolist()
        raise ValueError(
            f"labels hold {found}, but there are {num_classes} classes (0 to {num_classes - 1}) and the ignore index "
            f"is {ignore_index}; check how the masks code their classes and the ignore index"
        )
    return torch.where(void, num_classes, labels).contiguous()


@class_rows.register_fake
def _(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    return labels.new_empty(labels.permute(1, 0, 2).shape, dtype=torch.int64)
