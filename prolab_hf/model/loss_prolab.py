"""Losses of ProLab: properties of a pixel against the properties of its class, and class cross-entropy.

All of them take maps at feature resolution and labels at any resolution. Projection onto the properties and
bilinear upsampling are both linear, so upsampling the projections equals projecting the upsampled embeddings;
the upsampled map itself is never stored (`loss_streaming_prolab`). The same losses as plain formulas stand in
`loss_plain_prolab`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .loss_kernels_prolab import COSINE_EPS
from .loss_operators_prolab import class_rows, pixel_losses, streamed_loss, upsampled_inverse_norm
from .loss_streaming_prolab import compute_dtype
from .pixel_weights_prolab import HardPixels, hardest_pixels

VOID_PIXELS = ("mask", "dilute")
REGRESSION_KINDS = ("bce", "mse")


def property_cosine_loss(
    property_logits: Tensor,
    labels: Tensor,
    class_property_matrix: Tensor,
    *,
    temperature: float,
    ignore_index: int = 255,
    void_pixels: str = "mask",
    pixel_embeddings: Tensor | None = None,
    apply_sigmoid: bool = True,
    pixel_weights: Tensor | None = None,
    hard_pixels: HardPixels | None = None,
) -> Tensor:
    """Mean over pixels of one minus the cosine between property scores and the properties of the class.

    Section 3 of the paper: `1 - cos(sigmoid(z / T), row of the class)`.

    Args:
        property_logits: `(batch_size, num_properties, height, width)` projections onto the properties, before
            temperature and sigmoid.
        labels: `(batch_size, label_height, label_width)` class ids, integers.
        class_property_matrix: `(num_labels, num_properties)`, constant.
        temperature: Divides the logits before the sigmoid; greater than 0.
        ignore_index: The label of void pixels.
        void_pixels: `"mask"` leaves void pixels out of the mean (0 if no pixel is left); `"dilute"` lets each
            add 1 to the sum and stay in the mean, as the published training did.
        pixel_embeddings: `(batch_size, embedding_dim, height, width)` whose projections the logits are, in
            order to compare normalized embeddings: logits are divided by the norm of the upsampled embedding.
        apply_sigmoid: Whether scores are `sigmoid(z / T)`, or the logits `z` themselves.
        pixel_weights: `(batch_size, label_height, label_width)`, what the loss of each pixel is multiplied by; the
            mean is still over the number of pixels.
        hard_pixels: Mean over the hardest pixels only, by their loss before weights; it is computed twice then.

    Returns:
        Scalar in float32 (float64 for float64 logits), differentiable in the logits and the embeddings.

    Raises:
        ValueError: Shapes that do not fit, an unknown `void_pixels`, or labels outside the classes.
    """
    check_property_loss(property_logits, labels, class_property_matrix, temperature, void_pixels)
    matrix = class_property_matrix.to(property_logits.device, compute_dtype(property_logits))
    matrix = matrix / torch.linalg.vector_norm(matrix, dim=1, keepdim=True).clamp_min(COSINE_EPS)
    kernel = Kernel(
        "sigmoid_cosine" if apply_sigmoid else "cosine", 1 / temperature if apply_sigmoid else 1.0
    )
    return _mean(
        property_logits,
        labels,
        _with_void_row(matrix),
        kernel,
        scale=_inverse_norm(pixel_embeddings, property_logits, labels),
        ignore_index=ignore_index,
        void_pixels=void_pixels,
        pixel_weights=pixel_weights,
        hard_pixels=hard_pixels,
    )


def property_regression_loss(
    property_logits: Tensor,
    labels: Tensor,
    class_property_matrix: Tensor,
    *,
    kind: str = "bce",
    temperature: float,
    ignore_index: int = 255,
    void_pixels: str = "mask",
    pixel_embeddings: Tensor | None = None,
    apply_sigmoid: bool = True,
    pixel_weights: Tensor | None = None,
    hard_pixels: HardPixels | None = None,
) -> Tensor:
    """Mean over pixels and properties of a loss between each score and the 0 or 1 of the class.

    Args:
        property_logits: `(batch_size, num_properties, height, width)` as for `property_cosine_loss`.
        labels: `(batch_size, label_height, label_width)` class ids, integers.
        class_property_matrix: `(num_labels, num_properties)`, constant.
        kind: `"bce"`, binary cross-entropy, or `"mse"`, squared error.
        temperature: Divides the logits before the sigmoid; greater than 0.
        ignore_index: The label of void pixels.
        void_pixels: `"mask"` leaves void pixels out of the mean (0 if no pixel is left); `"dilute"` trains
            them towards no property at all, as the published code in effect did.
        pixel_embeddings: `(batch_size, embedding_dim, height, width)` as for `property_cosine_loss`.
        apply_sigmoid: Whether scores are `sigmoid(z / T)`, or the logits `z` themselves (`"mse"` only).
        pixel_weights: `(batch_size, label_height, label_width)`, what the loss of each pixel is multiplied by; the
            mean is still over the number of pixels.
        hard_pixels: Mean over the hardest pixels only, by their loss before weights; it is computed twice then.

    Returns:
        Scalar in float32 (float64 for float64 logits), differentiable in the logits and the embeddings.

    Raises:
        ValueError: Shapes that do not fit, an unknown `kind` or `void_pixels`, `"bce"` without a sigmoid, or
            labels outside the classes.
    """
    check_property_loss(
        property_logits, labels, class_property_matrix, temperature, void_pixels, kind, apply_sigmoid
    )
    kernel = "sigmoid_binary_cross_entropy" if kind == "bce" else "sigmoid_squared_error"
    matrix = class_property_matrix.to(property_logits.device, compute_dtype(property_logits))
    return _mean(
        property_logits,
        labels,
        _with_void_row(matrix),
        Kernel(
            kernel if apply_sigmoid else "squared_error",
            1 / temperature if apply_sigmoid else 1.0,
            terms=matrix.shape[1],
        ),
        scale=_inverse_norm(pixel_embeddings, property_logits, labels),
        ignore_index=ignore_index,
        void_pixels=void_pixels,
        pixel_weights=pixel_weights,
        hard_pixels=hard_pixels,
    )


def class_cross_entropy_loss(
    class_logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    focal_gamma: float = 0.0,
    pixel_weights: Tensor | None = None,
    hard_pixels: HardPixels | None = None,
) -> Tensor:
    """Mean over valid pixels of the cross-entropy of class logits upsampled to the labels.

    Args:
        class_logits: `(batch_size, num_labels, height, width)`, already divided by their temperature.
        labels: `(batch_size, label_height, label_width)` class ids, integers.
        ignore_index: The label of void pixels, which are left out.
        focal_gamma: Exponent g of the focal loss `-(1 - p)^g log p`, p the probability of the pixel's class; 0 is
            the cross-entropy.
        pixel_weights: `(batch_size, label_height, label_width)` as for `property_cosine_loss`.
        hard_pixels: As for `property_cosine_loss`.

    Returns:
        Scalar in float32 (float64 for float64 logits); 0 with gradient 0 where no pixel is valid.

    Raises:
        ValueError: Shapes that do not fit, or labels outside the classes.
    """
    check_class_loss(class_logits, labels)
    # Channels are classes: there is nothing to look up, only the number of rows counts.
    table = class_logits.new_empty(class_logits.shape[1] + 1, 0, dtype=compute_dtype(class_logits))
    return _mean(
        class_logits,
        labels,
        table,
        Kernel("cross_entropy", focusing=focal_gamma),
        scale=None,
        ignore_index=ignore_index,
        void_pixels="mask",
        pixel_weights=pixel_weights,
        hard_pixels=hard_pixels,
    )


class Kernel(NamedTuple):
    """A pixel loss: a key of `KERNELS`, the factor on its logits, the exponent of its focal factor, summed terms."""

    kind: str
    factor: float = 1.0
    focusing: float = 0.0
    terms: int = 1


def _mean(
    logits: Tensor,
    labels: Tensor,
    table: Tensor,
    kernel: Kernel,
    *,
    scale: Tensor | None,
    ignore_index: int,
    void_pixels: str,
    pixel_weights: Tensor | None,
    hard_pixels: HardPixels | None,
) -> Tensor:
    """Mean of a pixel loss over the pixels that count."""
    rows = class_rows(labels, table.shape[0] - 1, ignore_index)
    weights, count = None, _pixel_count(labels, ignore_index, void_pixels)
    if pixel_weights is not None:
        check_pixel_weights(pixel_weights, labels)
        weights = pixel_weights.detach().to(logits.device, table.dtype).transpose(0, 1).contiguous()
    if hard_pixels is not None:
        still = None if scale is None else scale.detach()
        losses = pixel_losses(
            logits.detach(), rows, table, still, kernel.kind, kernel.factor, kernel.focusing
        )
        counted = torch.ones_like(rows, dtype=torch.bool)
        if void_pixels == "mask":
            counted = rows != table.shape[0] - 1
        kept = hardest_pixels(losses / kernel.terms, counted, hard_pixels)
        count = kept.sum().clamp_min(1)
        weights = kept.to(table.dtype) if weights is None else weights * kept
    total = streamed_loss(
        logits,
        rows,
        table,
        kind=kernel.kind,
        scale=scale,
        weights=weights,
        factor=kernel.factor,
        focusing=kernel.focusing,
        count_void=void_pixels == "dilute",
    )
    return total / (count * kernel.terms)


def _inverse_norm(pixel_embeddings: Tensor | None, property_logits: Tensor, labels: Tensor) -> Tensor | None:
    """One over the norm of the embeddings at label resolution `(label_height, batch_size, label_width)`."""
    if pixel_embeddings is None:
        return None
    check_pixel_embeddings(pixel_embeddings, property_logits)
    norm = upsampled_inverse_norm(pixel_embeddings, (labels.shape[1], labels.shape[2]))
    return norm.to(compute_dtype(property_logits))


def _with_void_row(matrix: Tensor) -> Tensor:
    return torch.cat([matrix, matrix.new_zeros(1, matrix.shape[1])]).detach()


def _pixel_count(labels: Tensor, ignore_index: int, void_pixels: str) -> Tensor | int:
    """Number of pixels in the mean, at least 1; a tensor where labels decide, so as not to wait for a GPU."""
    if void_pixels == "dilute":
        return max(labels.numel(), 1)
    return (labels.long() != ignore_index).sum().clamp_min(1)


def check_class_loss(logits: Tensor, labels: Tensor) -> None:
    """Refuses maps and labels of which no loss can be made.

    Raises:
        ValueError: `logits` are no floating `(batch_size, channels, height, width)`, or `labels` no integers
            `(batch_size, label_height, label_width)` of the same batch.
    """
    if logits.dim() != 4 or not logits.is_floating_point():
        raise ValueError(
            "logits must be floating (batch_size, channels, height, width), "
            f"got {logits.dtype} {tuple(logits.shape)}."
        )
    if labels.dim() != 3 or labels.shape[0] != logits.shape[0] or labels.is_floating_point():
        raise ValueError(
            f"labels must be integers (batch_size, height, width) for a batch of {logits.shape[0]}, "
            f"got {labels.dtype} {tuple(labels.shape)}."
        )


def check_property_loss(
    logits: Tensor,
    labels: Tensor,
    matrix: Tensor,
    temperature: float,
    void_pixels: str,
    kind: str = "mse",
    apply_sigmoid: bool = True,
) -> None:
    """Refuses arguments that do not fit together, in the same words for both implementations.

    Raises:
        ValueError: One of them is not what `property_regression_loss` allows.
    """
    check_class_loss(logits, labels)
    if matrix.dim() != 2 or matrix.shape[1] != logits.shape[1]:
        raise ValueError(
            f"class_property_matrix must be (num_labels, {logits.shape[1]}) for property_logits "
            f"{tuple(logits.shape)}, got {tuple(matrix.shape)}."
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}.")
    if void_pixels not in VOID_PIXELS:
        raise ValueError(f"void_pixels must be one of {VOID_PIXELS}, got {void_pixels!r}.")
    if kind not in REGRESSION_KINDS:
        raise ValueError(f"kind must be one of {REGRESSION_KINDS}, got {kind!r}.")
    if kind == "bce" and not apply_sigmoid:
        raise ValueError(
            "kind='bce' needs scores in [0, 1], so apply_sigmoid=True; use kind='mse' for raw logits."
        )


def check_pixel_weights(pixel_weights: Tensor, labels: Tensor) -> None:
    """Refuses weights that are not one number per pixel.

    Raises:
        ValueError: They do not have the shape of the labels.
    """
    if pixel_weights.shape != labels.shape:
        raise ValueError(
            f"pixel_weights must have the shape of labels {tuple(labels.shape)}, got {tuple(pixel_weights.shape)}."
        )


def check_pixel_embeddings(pixel_embeddings: Tensor, property_logits: Tensor) -> None:
    """Refuses embeddings whose projections the logits cannot be.

    Raises:
        ValueError: They are not `(batch_size, embedding_dim, height, width)` of the logits' batch and size.
    """
    batch_size, _, height, width = property_logits.shape
    shape = tuple(pixel_embeddings.shape)
    if len(shape) != 4 or (shape[0], *shape[2:]) != (batch_size, height, width):
        raise ValueError(
            "pixel_embeddings must be (batch_size, embedding_dim, height, width) at the size of "
            f"property_logits {tuple(property_logits.shape)}, got {shape}."
        )
