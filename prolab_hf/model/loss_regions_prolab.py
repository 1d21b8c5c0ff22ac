"""Losses of whole regions instead of single pixels: Dice and Lovasz, on the softmax of class logits.

Both compare sets of pixels, class by class, so every class that occurs counts alike, however small. Class logits are
upsampled to the labels; to keep the probabilities of all classes at that resolution out of memory, the Dice loss sums
them over strips of label rows, which backward computes again, and the Lovasz loss takes one class at a time.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .loss_operators_prolab import class_rows
from .loss_prolab import check_class_loss
from .loss_streaming_prolab import compute_dtype
from .resize_prolab import LinearAxis, linear_axis

STRIP_ELEMENTS = 2**22  # probabilities of one strip: 16 MiB in float32
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
    num_labels = class_logits.shape[1]
    rows = class_rows(labels, num_labels, ignore_index)
    logits = class_logits.to(compute_dtype(class_logits))
    height, width = logits.shape[2:]
    axis = linear_axis(height, labels.shape[1], dtype=logits.dtype, device=logits.device)
    per_row = max(1, labels.shape[0] * labels.shape[2] * num_labels)
    step = max(1, STRIP_ELEMENTS // per_row)
    columns = linear_axis(width, labels.shape[2], dtype=logits.dtype, device=logits.device)
    overlap = logits.new_zeros(num_labels)
    predicted = logits.new_zeros(num_labels)
    with torch.autocast(logits.device.type, enabled=False):
        for start in range(0, labels.shape[1], step):
            strip = LinearAxis(*(part[start : start + step] for part in axis))
            sums = checkpoint(
                _strip_sums, logits, rows[start : start + step], strip, columns, use_reentrant=False
            )
            overlap, predicted = overlap + sums[0], predicted + sums[1]
        occurring = torch.zeros(num_labels + 1, dtype=logits.dtype, device=logits.device)
        occurring = occurring.index_add(0, rows.flatten(), occurring.new_ones(rows.numel()))[:num_labels]
        score = (2 * overlap + smooth) / (predicted + occurring + smooth).clamp_min(DICE_EPS)
        present = occurring > 0
        return torch.where(present, 1 - score, 0).sum() / present.sum().clamp_min(1)


def _strip_sums(logits: Tensor, rows: Tensor, strip: LinearAxis, columns: LinearAxis) -> Tensor:
    """Per class the summed probability where it is the label, and where there is any label, in some label rows.

    Args:
        logits: `(batch_size, num_labels, height, width)`.
        rows: `(label rows, batch_size, label_width)` classes; `num_labels` where void.
        strip: Places of the label rows on the feature rows.
        columns: Places of the label columns on the feature columns.

    Returns:
        `(2, num_labels)`.
    """
    tall = torch.lerp(logits[:, :, strip.lower], logits[:, :, strip.upper], strip.weight[:, None])
    wide = torch.lerp(tall[..., columns.lower], tall[..., columns.upper], columns.weight)
    num_labels = logits.shape[1]
    probabilities = torch.softmax(wide, dim=1).permute(2, 0, 3, 1).reshape(-1, num_labels)
    labels = rows.flatten()
    valid = (labels != num_labels).to(probabilities.dtype)
    picked = probabilities.gather(1, labels.clamp_max(num_labels - 1)[:, None])[:, 0] * valid
    overlap = probabilities.new_zeros(num_labels + 1).index_add(0, labels, picked)[:num_labels]
    return torch.stack([overlap, valid @ probabilities])


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
    rows = class_rows(labels, num_labels, ignore_index).transpose(0, 1)
    logits = class_logits.to(compute_dtype(class_logits))
    with torch.autocast(logits.device.type, enabled=False):
        large = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        normalizer = torch.logsumexp(large, dim=1)
        valid = rows != num_labels
        # A loop over what occurs asks the device which classes these are, once.
        present = torch.unique(rows[valid]).tolist()
        total = logits.new_zeros(()) + 0 * large.sum() if not present else logits.new_zeros(())
        for label in present:
            probability = torch.exp(large[:, label] - normalizer)[valid]
            target = (rows[valid] == label).to(probability.dtype)
            total = total + _lovasz_of_class((target - probability).abs(), target)
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
