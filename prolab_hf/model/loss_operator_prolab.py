"""The streamed losses as torch operators: one opaque node for autograd, autocast and torch.compile."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor

from .streaming_prolab import StreamGradients, StreamInputs, stream_blocks, stream_on_threads


def free_operator_name(stem: str) -> str:
    """An operator name that is not taken yet: remote code loads a copy of this module beside the package."""
    names = chain([stem], (f"{stem}_{copy}" for copy in range(2, 2**31)))
    return next(f"prolab_hf::{name}" for name in names if not hasattr(torch.ops.prolab_hf, name))


@torch.library.custom_op(
    free_operator_name("streamed_loss"),
    mutates_args=(),
    schema="(Tensor logits, Tensor rows, Tensor table, Tensor? scale, str kind, float factor, "
    "bool count_void, bool need_gradient) -> (Tensor, Tensor, Tensor)",
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
    """Total loss and its gradients by logits and scale; these are empty where not needed."""
    inputs = StreamInputs(logits, rows, table, scale, kind, factor, count_void)
    total, by_logits, by_scale = _empty_outputs(
        logits, rows, table, scale, kind, factor, count_void, need_gradient
    )
    gradients = None
    if need_gradient:
        gradients = StreamGradients(by_logits.zero_(), None if scale is None else by_scale)
    if rows.numel() == 0:
        return total.zero_(), by_logits, by_scale
    run = stream_on_threads if logits.device.type == "cpu" else stream_blocks
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
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


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    _, by_logits, by_scale = output
    ctx.mark_non_differentiable(by_logits, by_scale)
    ctx.save_for_backward(by_logits, by_scale)
    ctx.dtype = inputs[0].dtype
    ctx.scaled = inputs[3] is not None


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
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
    """Sum of a pixel loss over logits upsampled to the resolution of `rows`.

    Upsampling is bilinear with `align_corners=False`. Differentiable once, in `logits` and `scale`. Float32
    inside for every input type but float64.

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
    free_operator_name("class_rows"),
    mutates_args=(),
    schema="(Tensor labels, int num_classes, int ignore_index) -> Tensor",
)
def class_rows(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    """Row of the class table per pixel, label rows first.

    An operator, because looking at the values of labels would break the graph of torch.compile.

    Args:
        labels: `(batch_size, label_height, label_width)` integers.
        num_classes: Number of classes; also the row of void pixels.
        ignore_index: The label of void pixels.

    Returns:
        int64 `(label_height, batch_size, label_width)` in [0, num_classes].

    Raises:
        ValueError: A label is neither a class nor `ignore_index` (on CUDA an assertion of the device, since
            looking would stop its queue).
    """
    labels = labels.permute(1, 0, 2).long()
    void = labels == ignore_index
    outside = ((labels < 0) | (labels >= num_classes)) & ~void
    if labels.is_cuda:
        torch._assert_async(~outside.any(), "labels outside the classes and not the ignore index")
    elif bool(outside.any()):
        found = labels[outside].unique()[:5].tolist()
        raise ValueError(
            f"labels hold {found}, but the classes are 0 to {num_classes - 1} and the ignore index is "
            f"{ignore_index}; check how the masks code their classes and the ignore index"
        )
    return torch.where(void, num_classes, labels).contiguous()


@class_rows.register_fake
def _(labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    return labels.new_empty(labels.permute(1, 0, 2).shape, dtype=torch.int64)
