"""The losses as formulas, with nothing to speed them up: `loss_implementation="plain"`.

What `loss_prolab` computes in a stream, written for reading. The tests compare the two; whoever doubts the
streamed losses can train with these, at several times the memory: `(batch_size, num_properties, label_height,
label_width)` exists here, more than once.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .loss_kernels_prolab import COSINE_EPS, FOCAL_EPS
from .loss_operators_prolab import NORMALIZE_EPS, class_rows
from .loss_prolab import check_class_loss, check_pixel_embeddings, check_pixel_weights, check_property_loss
from .pixel_weights_prolab import HardPixels, hardest_pixels


def plain_property_cosine_loss(
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
    """`1 - cos(sigmoid(z / T), row of the class)`, mean over pixels; all as for `property_cosine_loss`.

    Raises:
        ValueError: Shapes that do not fit, an unknown `void_pixels`, or labels outside the classes.
    """
    check_property_loss(property_logits, labels, class_property_matrix, temperature, void_pixels)
    with torch.autocast(property_logits.device.type, enabled=False):
        scores = _property_scores(property_logits, labels, temperature, pixel_embeddings, apply_sigmoid)
        targets = _targets(labels, class_property_matrix, ignore_index).to(scores.dtype)
        losses = 1 - F.cosine_similarity(scores, targets, dim=1, eps=COSINE_EPS)
        return _plain_mean(losses, labels, ignore_index, void_pixels, pixel_weights, hard_pixels)


def plain_property_regression_loss(
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
    """Cross-entropy or squared error of each score and its 0 or 1; all as for `property_regression_loss`.

    Raises:
        ValueError: Shapes that do not fit, an unknown `kind` or `void_pixels`, `"bce"` without a sigmoid, or
            labels outside the classes.
    """
    check_property_loss(
        property_logits, labels, class_property_matrix, temperature, void_pixels, kind, apply_sigmoid
    )
    with torch.autocast(property_logits.device.type, enabled=False):
        scores = _property_scores(property_logits, labels, temperature, pixel_embeddings, apply_sigmoid)
        targets = _targets(labels, class_property_matrix, ignore_index).to(scores.dtype)
        formula = F.binary_cross_entropy if kind == "bce" else F.mse_loss
        losses = formula(scores, targets, reduction="none").mean(dim=1)
        return _plain_mean(losses, labels, ignore_index, void_pixels, pixel_weights, hard_pixels)


def plain_class_cross_entropy_loss(
    class_logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    focal_gamma: float = 0.0,
    pixel_weights: Tensor | None = None,
    hard_pixels: HardPixels | None = None,
) -> Tensor:
    """Softmax cross-entropy, or focal loss, of upsampled class logits; all as for `class_cross_entropy_loss`.

    Raises:
        ValueError: Shapes that do not fit, or labels outside the classes.
    """
    check_class_loss(class_logits, labels)
    num_labels = class_logits.shape[1]
    with torch.autocast(class_logits.device.type, enabled=False):
        classes = class_rows(labels, num_labels, ignore_index).transpose(0, 1)
        losses = F.cross_entropy(
            _upsampled(class_logits, labels), classes, ignore_index=num_labels, reduction="none"
        )
        if focal_gamma:
            # With the floor of the kernel: a root of 1 - p has no slope at 0.
            rest = (-torch.expm1(-losses)).clamp_min(FOCAL_EPS)
            losses = rest**focal_gamma * losses
        return _plain_mean(losses, labels, ignore_index, "mask", pixel_weights, hard_pixels)


def _property_scores(
    property_logits: Tensor,
    labels: Tensor,
    temperature: float,
    pixel_embeddings: Tensor | None,
    apply_sigmoid: bool,
) -> Tensor:
    """What is compared with the row of a class: `(batch_size, num_properties, label_height, label_width)`."""
    logits = _upsampled(property_logits, labels)
    if pixel_embeddings is not None:
        check_pixel_embeddings(pixel_embeddings, property_logits)
        norm = torch.linalg.vector_norm(_upsampled(pixel_embeddings, labels), dim=1, keepdim=True)
        logits = logits / norm.clamp_min(NORMALIZE_EPS)
    return torch.sigmoid(logits / temperature) if apply_sigmoid else logits


def _upsampled(maps: Tensor, labels: Tensor) -> Tensor:
    """Maps `(batch_size, channels, height, width)` at the resolution of the labels, in at least float32."""
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    return F.interpolate(maps, size=labels.shape[1:], mode="bilinear", align_corners=False)


def _targets(labels: Tensor, class_property_matrix: Tensor, ignore_index: int) -> Tensor:
    """The row of each pixel's class, zeros for void: `(batch_size, num_properties, height, width)`."""
    rows = F.pad(class_property_matrix, (0, 0, 0, 1)).to(labels.device)
    classes = class_rows(labels, len(class_property_matrix), ignore_index).transpose(0, 1)
    return rows[classes].permute(0, 3, 1, 2)


def _plain_mean(
    losses: Tensor,
    labels: Tensor,
    ignore_index: int,
    void_pixels: str,
    pixel_weights: Tensor | None,
    hard_pixels: HardPixels | None,
) -> Tensor:
    """Mean of `(batch_size, height, width)` over the pixels that count: all, those of a class, the hardest of them.

    0 if none counts.
    """
    counted = (
        torch.ones_like(labels, dtype=torch.bool)
        if void_pixels == "dilute"
        else labels.long() != ignore_index
    )
    if hard_pixels is not None:
        counted = hardest_pixels(losses.detach(), counted, hard_pixels)
    if pixel_weights is not None:
        check_pixel_weights(pixel_weights, labels)
        losses = losses * pixel_weights.detach().to(losses)
    return torch.where(counted, losses, 0).sum() / counted.sum().clamp_min(1)
