"""The norm of bilinearly upsampled embeddings, from inner products at feature resolution.

An upsampled embedding is a mix of the four embeddings around it. Its squared norm is the quadratic form of
the four weights with their inner products, so the `embedding_dim` channels are never upsampled, only four
maps of products.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .loss_operator_prolab import free_operator_name
from .resize_prolab import LinearAxis, linear_axis
from .streaming_prolab import compute_dtype
from .threads_prolab import run_on_threads

NORMALIZE_EPS = 1e-12  # of torch.nn.functional.normalize
CPU_CHUNK_ELEMENTS = 2**18
GPU_CHUNK_ELEMENTS = 2**24

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


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _backward(ctx: Any, gradients: Tensor) -> Tensor:
    return neighbor_products_backward(ctx.saved_tensors[0], gradients)


neighbor_products.register_autograd(_backward, setup_context=_setup_context)


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
