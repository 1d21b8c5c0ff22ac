"""Losses of whole regions instead of single pixels: Dice and Lovasz, on the softmax of class logits.

Both compare sets of pixels, class by class, so every class that occurs counts alike, however small. Class logits are
upsampled to the labels. The Dice loss depends on sums of probabilities only, so it is streamed, in two passes. The
Lovasz loss sorts the errors of each class that occurs, one class after the other: no more than a few classes are ever
upsampled at a time, so its memory does not grow with their number; sorting takes by far the longest.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .loss_operators_prolab import class_rows, free_operator_name, softmax_sums, streamed_loss
from .loss_prolab import check_class_loss
from .loss_streaming_prolab import compute_dtype

DICE_EPS = 1e-7  # of segmentation_models_pytorch
CLASSES_AT_ONCE = 8  # that the Lovasz loss upsamples


def dice_loss(
    class_logits: Tensor, labels: Tensor, *, ignore_index: int = 255, smooth: float = 0.0
) -> Tensor:
    """One minus the Dice coefficient of a class, mean over the classes that occur in the labels.

    The Dice coefficient of a class is `2 sum p t / (sum p + sum t)` over all labeled pixels of the batch, p its
    softmax probability and t 1 where it is the label.

    Args:
        class_logits: `(batch_size, num_labels, height, width)`, already divided by their temperature.
        labels: `(batch_size, label_height, label_width)` class ids, integers.
        ignore_index: The label of void pixels, which are left out.
        smooth: Added above and below the line, so that classes of few pixels move less.

    Returns:
        Scalar in float32 (float64 for float64 logits), in [0, 1]; 0 with gradient 0 where no pixel is valid.

    Raises:
        ValueError: Shapes that do not fit, or labels outside the classes.
    """
    check_class_loss(class_logits, labels)
    num_labels, dtype = class_logits.shape[1], compute_dtype(class_logits)
    rows = class_rows(labels, num_labels, ignore_index)
    own, everywhere = softmax_sums(class_logits.detach(), rows)
    number = torch.zeros(num_labels + 1, dtype=dtype, device=class_logits.device)
    number = number.index_add(0, rows.flatten(), torch.ones_like(rows.flatten(), dtype=dtype))[:num_labels]
    present = number > 0
    above, below = 2 * own + smooth, (everywhere + number + smooth).clamp_min(DICE_EPS)
    share = present / present.sum().clamp_min(1)
    value = ((1 - above / below) * share).sum()
    # Around these sums the loss is linear in the probabilities; its slopes are a row per class.
    by_everywhere, by_own = share * above / below**2, -2 * share / below
    table = torch.cat([by_everywhere + torch.diag(by_own), by_own.new_zeros(1, num_labels)])
    linear = streamed_loss(class_logits, rows, table, kind="expected_target")
    return value + (linear - linear.detach())


def lovasz_loss(class_logits: Tensor, labels: Tensor, *, ignore_index: int = 255) -> Tensor:
    """The Lovasz extension of one minus the intersection over union, mean over the classes that occur in the labels.

    Berman et al., 2018 (Lovasz-softmax), over all labeled pixels of the batch: the errors of a class are sorted, and
    each weighs what the Jaccard loss grows by when its pixel joins the wrong ones. Computed exactly, with all pixels;
    besides the gradient at the resolution of the logits, memory is about 200 bytes per pixel of the labels in float32,
    whatever the number of classes (measured: `benchmarks/region_losses.py`). Differentiable once.

    Args:
        class_logits: `(batch_size, num_labels, height, width)`, already divided by their temperature.
        labels: `(batch_size, label_height, label_width)` class ids, integers.
        ignore_index: The label of void pixels, which are left out.

    Returns:
        Scalar in float32 (float64 for float64 logits), in [0, 1]; 0 with gradient 0 where no pixel is valid.

    Raises:
        ValueError: Shapes that do not fit, or labels outside the classes.
    """
    check_class_loss(class_logits, labels)
    rows = class_rows(labels, class_logits.shape[1], ignore_index)
    return _lovasz(class_logits, rows, torch.is_grad_enabled() and class_logits.requires_grad)[0]


@torch.library.custom_op(
    free_operator_name("lovasz"),
    mutates_args=(),
    schema="(Tensor logits, Tensor rows, bool need_gradient) -> (Tensor, Tensor)",
)
def _lovasz(logits: Tensor, rows: Tensor, need_gradient: bool) -> tuple[Tensor, Tensor]:
    """The Lovasz loss and its gradient by the logits, which is empty where it is not needed.

    The loss is a sum of slope times probability with slopes that count as constants. Its gradient by the upsampled
    logits of class k is p_k (slope_k - sum over c of p_c slope_c): two terms, each made and brought back to the
    resolution of the logits class by class.

    Args:
        logits: `(batch_size, num_labels, height, width)`.
        rows: `(label_height, batch_size, label_width)` from `class_rows`.
        need_gradient: Whether to compute it.
    """
    dtype, num_labels = compute_dtype(logits), logits.shape[1]
    labels = rows.transpose(0, 1).contiguous()
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        small = logits.detach().to(dtype).contiguous()
        norm = _log_sum_exp(small, labels)
        places = (labels.flatten() != num_labels).nonzero()[:, 0]
        targets = labels.flatten()[places]
        # A loop over what occurs asks the device which classes these are, once.
        present = torch.unique(targets).tolist()
        total, by_logits = _empty_lovasz(logits, rows, need_gradient)
        total.zero_()
        pull = torch.zeros_like(norm) if need_gradient else None
        if need_gradient:
            by_logits.zero_()
        for label in present:
            score = _scores(small, slice(label, label + 1), norm)
            target = targets == label
            errors = (target.to(dtype) - score.flatten()[places]).abs_()
            value, slopes = _lovasz_of_class(errors, target)
            total += value
            if pull is not None:
                slopes[target] *= -1  # an own pixel's error falls with its probability
                moved = (
                    torch.zeros_like(norm).flatten().index_copy_(0, places, slopes).view_as(norm)
                    * score[:, 0]
                )
                pull += moved
                by_logits[:, label] += _brought_back(moved[:, None], small)[:, 0]
        if pull is not None:
            for start in range(0, num_labels if present else 0, CLASSES_AT_ONCE):
                chunk = slice(start, min(start + CLASSES_AT_ONCE, num_labels))
                by_logits[:, chunk] -= _brought_back(_scores(small, chunk, norm).mul_(pull[:, None]), small)
            by_logits /= max(len(present), 1)
        return total / max(len(present), 1), by_logits


@_lovasz.register_fake
def _empty_lovasz(logits: Tensor, rows: Tensor, need_gradient: bool) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(logits)
    by_logits = logits.new_empty(logits.shape if need_gradient else (0,), dtype=dtype)
    return logits.new_empty((), dtype=dtype), by_logits


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])
    ctx.dtype = inputs[0].dtype


def _gradient_of_kept(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    (by_logits,) = ctx.saved_tensors
    return (by_logits * grad).to(ctx.dtype), None, None


_lovasz.register_autograd(_gradient_of_kept, setup_context=_keep_for_backward)


def _chunk_upsampled(small: Tensor, chunk: slice, like: Tensor) -> Tensor:
    return F.interpolate(small[:, chunk], size=like.shape[1:], mode="bilinear", align_corners=False)


def _log_sum_exp(small: Tensor, labels: Tensor) -> Tensor:
    """What the softmax of the upsampled logits divides by, as a logarithm `(batch_size, label_height, label_width)`."""
    total = torch.full(labels.shape, -torch.inf, dtype=small.dtype, device=small.device)
    for start in range(0, small.shape[1], CLASSES_AT_ONCE):
        part = _chunk_upsampled(small, slice(start, start + CLASSES_AT_ONCE), labels)
        total = torch.logaddexp(total, part.logsumexp(dim=1))
    return total


def _scores(small: Tensor, chunk: slice, norm: Tensor) -> Tensor:
    """Softmax of the upsampled logits of some classes `(batch_size, classes, label_height, label_width)`."""
    return _chunk_upsampled(small, chunk, norm).sub_(norm[:, None]).exp_()


def _brought_back(large: Tensor, small: Tensor) -> Tensor:
    """The adjoint of bilinear upsampling: what a gradient at label resolution is at that of the logits."""
    sizes = [*large.shape[2:]], [*large.shape[:2], *small.shape[2:]]
    back: Tensor = torch.ops.aten.upsample_bilinear2d_backward(large.contiguous(), *sizes, False, None, None)
    return back


def _lovasz_of_class(errors: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of sorted errors `(pixels,)`, each times the growth of the Jaccard loss along the order, and that growth.

    Args:
        errors: Distance of each probability from 0 or 1.
        target: Whether each pixel is of the class; at least one is.
    """
    ordered, places = errors.sort(descending=True)
    hits = target[places].to(errors.dtype)
    missed, number = hits.cumsum(0), hits.sum()
    wrong = torch.arange(1, len(hits) + 1, dtype=errors.dtype, device=errors.device) - missed
    jaccard = 1 - (number - missed) / (number + wrong)
    growth = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
    return torch.dot(ordered, growth), torch.empty_like(growth).index_copy_(0, places, growth)
