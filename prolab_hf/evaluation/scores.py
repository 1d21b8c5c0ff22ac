"""Ratios of a segmentation, computed once from counts, and their form for JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

ClassAverage = Literal["union", "truth"]


@dataclass(frozen=True)
class SegmentationScores:
    """Ratios of a segmentation, from `SegmentationCounts.scores()`; all lie in [0, 1], nan = undefined.

    Attributes:
        class_iou: Intersection over union, `(num_classes,)`; nan for classes that are left out of the mean.
        class_accuracy: Recall: share of the true pixels that were found, `(num_classes,)`.
        class_precision: Share of the predicted pixels that are right, `(num_classes,)`.
        class_boundary_iou: Boundary IoU, `(num_classes,)`, or `None` if it was not counted.
        confusion: Pixel counts `(num_classes, num_classes)`: row = truth, column = prediction.
        num_pictures: Number of label maps counted.
        average: Classes over which the means are taken: `"union"` or `"truth"`.
    """

    class_iou: np.ndarray
    class_accuracy: np.ndarray
    class_precision: np.ndarray
    class_boundary_iou: np.ndarray | None
    confusion: np.ndarray
    num_pictures: int
    average: ClassAverage

    @property
    def mean_iou(self) -> float:
        """Mean of the classes' IoU (mIoU)."""
        return _nan_mean(self.class_iou)

    @property
    def mean_accuracy(self) -> float:
        """Mean of the classes' accuracy (recall)."""
        return _nan_mean(self.class_accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labeled pixels that are right."""
        return float(ratio(np.diag(self.confusion).sum(), self.confusion.sum()))

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU of the classes weighted by their share of the true pixels."""
        if not self.confusion.sum():
            return float("nan")
        return float(np.nansum(self.class_iou * self.confusion.sum(1)) / self.confusion.sum())

    @property
    def mean_boundary_iou(self) -> float | None:
        """Mean of the classes' boundary IoU, or `None` if it was not counted."""
        return None if self.class_boundary_iou is None else _nan_mean(self.class_boundary_iou)

    def confusions(self, number: int = 10) -> list[tuple[int, int, int]]:
        """The most frequent mistakes as `(true class, predicted class, pixels)`, most frequent first."""
        mistakes = self.confusion.copy()
        np.fill_diagonal(mistakes, 0)
        order = np.argsort(-mistakes, axis=None, kind="stable")[:number]
        rows, columns = np.unravel_index(order, mistakes.shape)
        return [(int(r), int(c), int(mistakes[r, c])) for r, c in zip(rows, columns) if mistakes[r, c]]

    def to_dict(self, class_names: Sequence[str] | None = None) -> dict[str, Any]:
        """Everything as a dictionary that JSON can hold; undefined ratios are `None`.

        Args:
            class_names: Names in the order of the ids; default `"class 0"`, `"class 1"`, ...

        Raises:
            ValueError: If the number of names differs from the number of classes.
        """
        names = _names(class_names, len(self.class_iou))
        true = self.confusion.sum(1)
        columns: dict[str, np.ndarray] = {
            "iou": self.class_iou,
            "accuracy": self.class_accuracy,
            "precision": self.class_precision,
        }
        means = {
            "mean_iou": self.mean_iou,
            "mean_accuracy": self.mean_accuracy,
            "pixel_accuracy": self.pixel_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
        }
        if self.class_boundary_iou is not None:
            columns["boundary_iou"] = self.class_boundary_iou
            means["mean_boundary_iou"] = _nan_mean(self.class_boundary_iou)
        columns["share_of_pixels"] = ratio(true, np.full_like(true, true.sum()))
        return {
            **{key: _json_number(value) for key, value in means.items()},
            "average": self.average,
            "num_classes": len(names),
            "num_pictures": self.num_pictures,
            "num_pixels": int(true.sum()),
            "per_class": [
                {"id": k, "name": name, **{key: _json_number(column[k]) for key, column in columns.items()}}
                for k, name in enumerate(names)
            ],
            "confusions": [
                {"truth": names[t], "prediction": names[p], "pixels": n, "share_of_truth": n / int(true[t])}
                for t, p, n in self.confusions()
            ],
        }


def ratio(part: np.ndarray, whole: np.ndarray, absent: np.ndarray | None = None) -> np.ndarray:
    """`part / whole`, nan where the whole is 0 or the class is marked absent."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.true_divide(part, whole)
    return share if absent is None else np.where(absent, np.nan, share)


def _nan_mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _json_number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _names(class_names: Sequence[str] | None, num_classes: int) -> list[str]:
    names = list(class_names) if class_names is not None else [f"class {k}" for k in range(num_classes)]
    if len(names) != num_classes:
        raise ValueError(f"Got {len(names)} class names for {num_classes} classes.")
    return names
