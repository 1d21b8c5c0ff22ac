"""Labels that teach nothing: found from counts, before they score as perfect.

Masks of 0 and 255 read as `ids` hold one class and void: a model that says class 0 everywhere is always right. The
counts of a data set show it, and the masks' values say which label coding was meant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RARE_SHARE = 0.001
MANY_VOID = 0.5
_SHOWN = 12


@dataclass(frozen=True)
class LabelFindings:
    """What is wrong with the labels of a data set.

    Attributes:
        error: Why nothing can be learned or measured; `None` if something can.
        warnings: What is probably not meant.
    """

    error: str | None = None
    warnings: tuple[str, ...] = ()


def check_label_counts(
    class_pixels: NDArray[np.integer] | Sequence[int],
    void_pixels: int,
    *,
    class_names: Sequence[str],
    class_images: NDArray[np.integer] | Sequence[int] | None = None,
    num_images: int | None = None,
    raw_ids: Mapping[int | str, int] | None = None,
) -> LabelFindings:
    """Judge the labels of a data set by their counts.

    Training, evaluation and `prolab check-data` call it: with the counts of all images, or of a first sample.

    Args:
        class_pixels: `(num_classes,)` labeled pixels per class.
        void_pixels: Pixels without a class.
        class_names: Names in the order of the ids.
        class_images: `(num_classes,)` images per class, where they were counted.
        num_images: Images that were counted.
        raw_ids: Pixels per stored value of the masks, where they were counted.

    Returns:
        The findings. `error` is set where all pixels are void, or all labeled ones are of one of several classes.
    """
    pixels = np.asarray(class_pixels, dtype=np.int64)
    labeled, total = int(pixels.sum()), int(pixels.sum()) + int(void_pixels)
    coding = suggested_coding(raw_ids or {}, len(pixels))
    if total == 0:
        return LabelFindings()
    warnings = tuple(_warnings(pixels, total, class_names, class_images, num_images, coding))
    if labeled == 0:
        return LabelFindings(
            f"No pixel has a class: all {total} are void, so that nothing can be learned or measured{coding}.",
            warnings,
        )
    present = np.flatnonzero(pixels)
    if len(present) == 1 and len(pixels) > 1:
        name = class_names[int(present[0])]
        return LabelFindings(
            f"Every labeled pixel is {name!r}: whatever says so everywhere is perfect, and the other "
            f"{len(pixels) - 1} classes never occur{coding}."
        )
    return LabelFindings(
        warnings=tuple(_warnings(pixels, total, class_names, class_images, num_images, coding))
    )


def _warnings(
    pixels: NDArray[np.int64],
    total: int,
    class_names: Sequence[str],
    class_images: NDArray[np.integer] | Sequence[int] | None,
    num_images: int | None,
    coding: str,
) -> list[str]:
    labeled, warnings = int(pixels.sum()), []
    absent = [class_names[k] for k in np.flatnonzero(pixels == 0).tolist()]
    if absent:
        shown = ", ".join(absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
        warnings.append(f"{len(absent)} of {len(pixels)} classes never occur: {shown}{coding}")
    if total - labeled > MANY_VOID * total:
        share = (total - labeled) / total
        warnings.append(f"{share:.0%} of all pixels are void; is the label coding the right one?{coding}")
    images = None if class_images is None else np.asarray(class_images)
    for k in np.flatnonzero(pixels).tolist():
        share = pixels[k] / labeled
        if images is not None and images[k] == 1 and (num_images or 2) > 1:
            warnings.append(f"class {class_names[k]!r} occurs in one image only")
        elif share < RARE_SHARE:
            warnings.append(f"class {class_names[k]!r} has {share:.2g} of the labeled pixels, under 0.1 %")
    return warnings


def suggested_coding(raw_ids: Mapping[int | str, int], num_classes: int) -> str:
    """The label coding that masks with only 0 and 255 (or 0 and 1) were probably meant with, as a clause of a sentence.

    Args:
        raw_ids: Pixels per stored value.
        num_classes: Size of the class space.
    """
    values = {value for value in raw_ids if isinstance(value, int)}
    if not values or len(values) < len(raw_ids):
        return ""
    if values <= {0, 255} and 255 in values and num_classes >= 2:
        return (
            "; the masks hold only 0 and 255, as tools write two classes: declare 255 as the second one "
            '(--coding \'{"kind": "table", "table": {"0": 0, "255": 1}}\')'
        )
    if values == {0} and num_classes >= 2:
        return "; the masks hold only 0: were they exported empty?"
    if max(values - {255}, default=0) == num_classes and 0 in values:
        return "; the masks count to the number of classes, as those where 0 means void do (--coding shifted)"
    return ""
