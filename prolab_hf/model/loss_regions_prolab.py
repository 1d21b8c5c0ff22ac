"""Losses of whole regions instead of single pixels: Dice and Lovasz, on the softmax of class logits.

Both compare sets of pixels, class by class, so every class that occurs counts alike, however small. Class logits are
upsampled to the labels. The Dice loss depends on sums of probabilities only, so it is streamed, in two passes. The
Lovasz loss sorts the errors of each class that occurs: it keeps the upsampled logits, and takes by far the longest.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .loss_operators_prolab import class_rows, softmax_sums, streamed_loss
from .loss_prolab import check_class_loss
from .loss_streaming_prolab import compute_dtype

DICE_EPS = 1e-7  # of segmentation_models_pytorch


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
    each weighs what the Jaccard loss grows by when its pixel joins the wrong ones.

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
    num_labels = class_logits.shape[1]
    rows = class_rows(labels, num_labels, ignore_index).transpose(0, 1).flatten()
    logits = class_logits.to(compute_dtype(class_logits))
    with torch.autocast(logits.device.type, enabled=False):
        large = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        places = (rows != num_labels).nonzero()[:, 0]
        targets = rows[places]
        # Taken apart once: backward of one class after the other would fill all of them with zeros each time.
        scores = large.movedim(1, 0).flatten(1).index_select(1, places).softmax(dim=0).unbind(0)
        # A loop over what occurs asks the device which classes these are, once.
        present = torch.unique(targets).tolist()
        total = torch.stack([score.sum() for score in scores]).sum() * 0  # a gradient where nothing occurs
        for label in present:
            target = (targets == label).to(logits.dtype)
            total = total + _lovasz_of_class((target - scores[label]).abs(), target)
        return total / max(len(present), 1)


def _lovasz_of_class(errors: Tensor, target: Tensor) -> Tensor:
    """Sum of sorted errors `(pixels,)`, each times the growth of the Jaccard loss along the order."""
    ordered, places = errors.sort(descending=True)
    hits = target[places]
    missed, wrong = hits.cumsum(0), (1 - hits).cumsum(0)
    number = missed[-1]
    jaccard = 1 - (number - missed) / (number + wrong)
    growth = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
    return torch.dot(ordered, growth.detach())
