"""What the losses are made of, as operators that autograd, torch.compile and export treat as one node each.

1. `class_rows`: which row of the class table belongs to each pixel.
2. `streamed_loss`: the sum of a pixel loss over upsampled logits, with its gradient.
3. `upsampled_inverse_norm`: what logits of normalized embeddings are divided by. The square of a norm is not
   linear in the embeddings, but bilinear in each and its neighbors: four maps of inner products at feature
   resolution replace the upsampled `(batch_size, embedding_dim, label_height, label_width)`.
"""

from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from .loss_streaming_prolab import (
    StreamGradients,
    StreamInputs,
    compute_dtype,
    stream_blocks,
    stream_on_threads,
)
from .resize_prolab import LinearAxis, linear_axis, run_on_threads

NORMALIZE_EPS = 1e-12  # of torch.nn.functional.normalize
CPU_CHUNK_ELEMENTS = 2**18
GPU_CHUNK_ELEMENTS = 2**24


def free_operator_name(stem: str) -> str:
    """An operator name that is not taken yet: remote code loads a copy of this module beside the package."""
    names = chain([stem], (f"{stem}_{copy}" for copy in range(2, 2**31)))
    return next(f"prolab_hf::{name}" for name in names if not hasattr(torch.ops.prolab_hf, name))


# ---- 1. rows of the class table ----------------------------------------------------------------------


@torch.library.custom_op(
    free_operator_name("class_rows"),
    mutates_args=(),
    schema="(Tensor labels, int num_labels, int ignore_index) -> Tensor",
)
def class_rows(labels: Tensor, num_labels: int, ignore_index: int) -> Tensor:
    """Row of the class table per pixel, label rows first.

    An operator, because looking at the values of labels would break the graph of torch.compile.

    Args:
        labels: `(batch_size, label_height, label_width)` integers.
        num_labels: Number of classes; also the row of void pixels.
        ignore_index: The label of void pixels.

    Returns:
        int64 `(label_height, batch_size, label_width)` in [0, num_labels].

    Raises:
        ValueError: A label is neither a class nor `ignore_index` (on CUDA an assertion of the device, since
            looking would stop its queue).
    """
    labels = labels.permute(1, 0, 2).long()
    void = labels == ignore_index
    outside = ((labels < 0) | (labels >= num_labels)) & ~void
    if labels.is_cuda:
        torch._assert_async(~outside.any(), "labels outside the classes and not the ignore index")
    elif bool(outside.any()):
        found = labels[outside].unique()[:5].tolist()
        raise ValueError(
            f"labels hold {found}, but the classes are 0 to {num_labels - 1} and the ignore index is "
            f"{ignore_index}; check how the masks code their classes and the ignore index."
        )
    return torch.where(void, num_labels, labels).contiguous()


@class_rows.register_fake
def _(labels: Tensor, num_labels: int, ignore_index: int) -> Tensor:
    return labels.new_empty(labels.permute(1, 0, 2).shape, dtype=torch.int64)


# ---- 2. sum of a pixel loss --------------------------------------------------------------------------


@torch.library.custom_op(
    free_operator_name("streamed_loss"),
    mutates_args=(),
    schema="(Tensor logits, Tensor rows, Tensor table, Tensor? scale, Tensor? weights, str kind, float factor, "
    "float focusing, bool count_void, bool need_gradient) -> (Tensor, Tensor, Tensor)",
)
def _streamed_loss(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    scale: Tensor | None,
    weights: Tensor | None,
    kind: str,
    factor: float,
    focusing: float,
    count_void: bool,
    need_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Total loss and its gradients by logits and scale; these are empty where not needed."""
    inputs = StreamInputs(logits, rows, table, scale, kind, factor, count_void, weights, focusing)
    total, by_logits, by_scale = _empty_outputs(
        logits, rows, table, scale, weights, kind, factor, focusing, count_void, need_gradient
    )
    gradients = None
    if need_gradient:
        gradients = StreamGradients(by_logits.zero_(), None if scale is None else by_scale)
    if rows.numel() == 0:
        return total.zero_(), by_logits, by_scale
    return total.copy_(_stream(inputs, gradients)), by_logits, by_scale


def _stream(inputs: StreamInputs, gradients: StreamGradients | None) -> Tensor:
    """The stream that suits the device."""
    device = inputs.logits.device.type
    with torch.no_grad(), torch.autocast(device, enabled=False):
        return (stream_on_threads if device == "cpu" else stream_blocks)(inputs, gradients)


@_streamed_loss.register_fake
def _empty_outputs(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    scale: Tensor | None,
    weights: Tensor | None,
    kind: str,
    factor: float,
    focusing: float,
    count_void: bool,
    need_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    by_logits = torch.empty_like(logits, dtype=table.dtype) if need_gradient else table.new_empty(0)
    by_scale = torch.empty_like(scale) if need_gradient and scale is not None else table.new_empty(0)
    return table.new_empty(()), by_logits, by_scale


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    _, by_logits, by_scale = output
    ctx.mark_non_differentiable(by_logits, by_scale)
    ctx.save_for_backward(by_logits, by_scale)
    ctx.dtype = inputs[0].dtype
    ctx.scaled = inputs[3] is not None


def _backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    by_logits, by_scale = ctx.saved_tensors
    scale = by_scale * grad if ctx.scaled else None
    return (by_logits * grad).to(ctx.dtype), None, None, scale, *[None] * 6


_streamed_loss.register_autograd(_backward, setup_context=_setup_context)


def streamed_loss(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    *,
    kind: str,
    scale: Tensor | None = None,
    weights: Tensor | None = None,
    factor: float = 1.0,
    focusing: float = 0.0,
    count_void: bool = False,
) -> Tensor:
    """Sum of a pixel loss over logits upsampled to the resolution of `rows`.

    Upsampling is bilinear with `align_corners=False`. Differentiable once, in `logits` and `scale`. Float32
    inside for every input type but float64.

    Args:
        logits: `(batch_size, channels, height, width)`, any floating type and layout.
        rows: `(label_height, batch_size, label_width)` from `class_rows`.
        table: `(num_labels + 1, channels)` target rows in `compute_dtype(logits)`, zeros last.
        kind: A key of `KERNELS`.
        scale: `(label_height, batch_size, label_width)` positive factor per pixel on the upsampled logits.
        weights: `(label_height, batch_size, label_width)` factor per pixel on its loss, a constant.
        factor: Factor on all logits.
        focusing: Exponent of the focal factor of `"cross_entropy"`; 0 = none.
        count_void: Whether void pixels add their loss.

    Returns:
        Scalar in `compute_dtype(logits)`.
    """
    need = torch.is_grad_enabled() and (logits.requires_grad or (scale is not None and scale.requires_grad))
    return _streamed_loss(logits, rows, table, scale, weights, kind, factor, focusing, count_void, need)[0]


@torch.library.custom_op(
    free_operator_name("pixel_losses"),
    mutates_args=(),
    schema="(Tensor logits, Tensor rows, Tensor table, Tensor? scale, str kind, float factor, "
    "float focusing) -> Tensor",
)
def pixel_losses(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    scale: Tensor | None,
    kind: str,
    factor: float,
    focusing: float,
) -> Tensor:
    """The loss of each pixel that `streamed_loss` sums, without a gradient; arguments as there.

    Returns:
        `(label_height, batch_size, label_width)` in the type of the table; void pixels have the loss of a zero row.
    """
    losses = _empty_losses(logits, rows, table, scale, kind, factor, focusing)
    if rows.numel():
        _stream(StreamInputs(logits, rows, table, scale, kind, factor, True, None, focusing, losses), None)
    return losses


@pixel_losses.register_fake
def _empty_losses(
    logits: Tensor,
    rows: Tensor,
    table: Tensor,
    scale: Tensor | None,
    kind: str,
    factor: float,
    focusing: float,
) -> Tensor:
    return table.new_empty(rows.shape)


@torch.library.custom_op(
    free_operator_name("softmax_sums"),
    mutates_args=(),
    schema="(Tensor logits, Tensor rows) -> (Tensor, Tensor)",
)
def softmax_sums(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over pixels of the softmax of upsampled logits, without a gradient.

    One pass of the cross-entropy tells both: its gradient by the logits is softmax minus one-hot, whose sum over a
    channel is the same before and after interpolation, and its value is minus the logarithm of a pixel's own class.

    Args:
        logits: `(batch_size, num_labels, height, width)`.
        rows: `(label_height, batch_size, label_width)` from `class_rows`.

    Returns:
        Per class the summed probability of its own pixels, and of all labeled pixels, `(num_labels,)` each.
    """
    num_labels = logits.shape[1]
    own, everywhere = _empty_sums(logits, rows)
    losses = own.new_empty(rows.shape)
    gradients = StreamGradients(torch.zeros_like(logits, dtype=own.dtype), None)
    table = own.new_empty(num_labels + 1, 0)
    if rows.numel():
        inputs = StreamInputs(logits, rows, table, None, "cross_entropy", 1.0, False, None, 0.0, losses)
        _stream(inputs, gradients)
    labels = rows.flatten()
    per_row = own.new_zeros(2, num_labels + 1)
    per_row[0].index_add_(0, labels, torch.exp(-losses.flatten()))
    per_row[1].index_add_(0, labels, own.new_ones(labels.shape[0]))
    own.copy_(per_row[0, :num_labels])
    everywhere.copy_(per_row[1, :num_labels] + gradients.logits.sum(dim=(0, 2, 3)))
    return own, everywhere


@softmax_sums.register_fake
def _empty_sums(logits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(logits)
    return logits.new_empty(logits.shape[1], dtype=dtype), logits.new_empty(logits.shape[1], dtype=dtype)


# ---- 3. norm of upsampled embeddings -----------------------------------------------------------------

_ALL, _FIRST, _LAST = slice(None), slice(None, -1), slice(1, None)
# Index of the map, where its values lie, and the two (rows, columns) whose products it sums over channels:
# right neighbor, lower neighbor, and both diagonals in one map, because they always share a weight.
_PAIRS = (
    (1, (_ALL, _FIRST), (_ALL, _FIRST), (_ALL, _LAST)),
    (2, (_FIRST, _ALL), (_FIRST, _ALL), (_LAST, _ALL)),
    (3, (_FIRST, _FIRST), (_FIRST, _FIRST), (_LAST, _LAST)),
    (3, (_FIRST, _FIRST), (_FIRST, _LAST), (_LAST, _FIRST)),
)


def _chunks(embeddings: Tensor) -> tuple[Tensor, ...]:
    """`(embedding_dim, height, width)` in pieces of channels that fit the cache."""
    elements = CPU_CHUNK_ELEMENTS if embeddings.device.type == "cpu" else GPU_CHUNK_ELEMENTS
    return embeddings.split(max(1, elements // embeddings[0].numel()))


def _sum_products(embeddings: Tensor, out: Tensor) -> None:
    """Writes the four maps of one image `(embedding_dim, height, width)` to `out` `(4, height, width)`."""
    chunks = _chunks(embeddings)
    sums = out.new_zeros(4, *chunks[0].shape)
    for chunk in chunks:
        values = chunk.to(out.dtype).contiguous()
        part = sums[:, : len(values)]
        part[0].addcmul_(values, values)
        for index, where, one, other in _PAIRS:
            part[index][:, *where].addcmul_(values[:, *one], values[:, *other])
    torch.sum(sums, dim=1, out=out)


def _spread_gradients(embeddings: Tensor, gradients: Tensor, out: Tensor) -> None:
    """Writes the gradient of one image to `out`, given `(4, height, width)` gradients of its maps."""
    for chunk, result in zip(_chunks(embeddings), _chunks(out)):
        values = chunk.to(gradients.dtype).contiguous()
        spread = values * (2 * gradients[0])
        for index, where, one, other in _PAIRS:
            weight = gradients[index][where]
            spread[:, *one].addcmul_(weight, values[:, *other])
            spread[:, *other].addcmul_(weight, values[:, *one])
        result.copy_(spread)


@torch.library.custom_op(
    free_operator_name("neighbor_products"), mutates_args=(), schema="(Tensor embeddings) -> Tensor"
)
def neighbor_products(embeddings: Tensor) -> Tensor:
    """Inner products of each embedding with itself and its neighbors.

    Args:
        embeddings: `(batch_size, embedding_dim, height, width)`.

    Returns:
        `(batch_size, 4, height, width)`: with itself, with the right neighbor, with the lower neighbor, and
        the sum of the two diagonal products of the square whose upper left corner it is; 0 where a neighbor
        is missing.
    """
    batch_size, _, height, width = embeddings.shape
    out = embeddings.new_empty(batch_size, 4, height, width, dtype=compute_dtype(embeddings))
    run_on_threads([partial(_sum_products, image, maps) for image, maps in zip(embeddings, out)])
    return out


@torch.library.custom_op(
    free_operator_name("neighbor_products_backward"),
    mutates_args=(),
    schema="(Tensor embeddings, Tensor gradients) -> Tensor",
)
def neighbor_products_backward(embeddings: Tensor, gradients: Tensor) -> Tensor:
    """Gradient of `neighbor_products`, in the type and layout of the embeddings."""
    out, gradients = torch.empty_like(embeddings), gradients.contiguous()
    run_on_threads([partial(_spread_gradients, *parts) for parts in zip(embeddings, gradients, out)])
    return out


@neighbor_products.register_fake
def _(embeddings: Tensor) -> Tensor:
    batch_size, _, height, width = embeddings.shape
    return embeddings.new_empty(batch_size, 4, height, width, dtype=compute_dtype(embeddings))


@neighbor_products_backward.register_fake
def _(embeddings: Tensor, gradients: Tensor) -> Tensor:
    return torch.empty_like(embeddings)


def _norm_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _norm_backward(ctx: Any, gradients: Tensor) -> Tensor:
    return neighbor_products_backward(ctx.saved_tensors[0], gradients)


neighbor_products.register_autograd(_norm_backward, setup_context=_norm_setup_context)


def _mixed_products(own: Tensor, cross: Tensor, axis: LinearAxis) -> Tensor:
    """Products of mixes along dimension 0, from products with themselves and with their next."""
    weight = axis.weight[:, None, None]
    near, far = own.index_select(0, axis.lower), own.index_select(0, axis.upper)
    between = cross.index_select(0, axis.lower)
    return (1 - weight) ** 2 * near + weight**2 * far + weight * (1 - weight) * between


def upsampled_inverse_norm(embeddings: Tensor, size: tuple[int, int]) -> Tensor:
    """One over the Euclidean norm of embeddings upsampled bilinearly (`align_corners=False`).

    Args:
        embeddings: `(batch_size, embedding_dim, height, width)`.
        size: `(label_height, label_width)`.

    Returns:
        `(label_height, batch_size, label_width)`, at most 1e12 as in `torch.nn.functional.normalize`;
        differentiable.
    """
    height, width = embeddings.shape[-2:]
    dtype, device = compute_dtype(embeddings), embeddings.device
    rows = linear_axis(height, size[0], dtype=dtype, device=device)
    columns = linear_axis(width, size[1], dtype=dtype, device=device)
    # Interpolated along the first dimension, where whole slices are copied, not single numbers.
    own, right, down, across = neighbor_products(embeddings).permute(3, 1, 0, 2).unbind(1)
    in_row = _mixed_products(own, 2 * right, columns).transpose(0, 2).contiguous()
    to_next_row = _mixed_products(down, across, columns).transpose(0, 2).contiguous()
    squared = _mixed_products(in_row, 2 * to_next_row, rows)
    return squared.clamp_min(NORMALIZE_EPS**2).rsqrt()
