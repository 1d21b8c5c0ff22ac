"""Segmentation metrics as counts first, ratios last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from prolab_hf.evaluation.boundaries import boundary_distance, boundary_region

if TYPE_CHECKING:
    from accelerate import Accelerator


ClassAverage = Literal["union", "truth"]


@dataclass(frozen=True)
class SegmentationScores:
    """Ratios of a segmentation, from `SegmentationCounts.scores()`; all lie in [0, 1], nan = undefined.

    Attributes:
        class_iou: Intersection over union, `(num_labels,)`; nan for classes that are left out of the mean.
        class_accuracy: Recall: share of the true pixels that were found, `(num_labels,)`.
        class_precision: Share of the predicted pixels that are right, `(num_labels,)`.
        class_boundary_iou: Boundary IoU, `(num_labels,)`, or `None` if it was not counted.
        confusion: Pixel counts `(num_labels, num_labels)`: row = truth, column = prediction.
        num_images: Number of label maps counted.
        average: Classes over which the means are taken: `"union"` or `"truth"`.
    """

    class_iou: np.ndarray
    class_accuracy: np.ndarray
    class_precision: np.ndarray
    class_boundary_iou: np.ndarray | None
    confusion: np.ndarray
    num_images: int
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
            "num_images": self.num_images,
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


def _names(class_names: Sequence[str] | None, num_labels: int) -> list[str]:
    names = list(class_names) if class_names is not None else [f"class {k}" for k in range(num_labels)]
    if len(names) != num_labels:
        raise ValueError(f"Got {len(names)} class names for {num_labels} classes.")
    return names


LabelMaps = np.ndarray | torch.Tensor | Sequence[Any]

PADDING_ID = -100
"""Id with which transformers and accelerate pad labels of unequal size: never counted."""

MAX_INT32_CLASSES = 46_340
"""Largest number of classes whose pairs can be numbered with 32 bits."""


class SegmentationCounts:
    """Streaming counts of a segmentation: a confusion matrix and, on request, boundary bands.

    Args:
        num_labels: Number of classes; ids are `0 .. num_labels - 1`.
        ignore_index: Label id that is left out, or `None`. `-100` is always left out.
        boundary_ratio: Width of the boundary band as a share of the image's diagonal (0.02 in the paper);
            `None` (default) leaves boundary IoU out. Void pixels count as outside of the image.

    Attributes:
        confusion: Pixel counts, int64 tensor `(num_labels, num_labels)`: row = truth, column = prediction.
        boundary: Pixel counts inside the bands, int64 tensor `(3, num_labels)`: both, predicted, true.
        num_images: Number of label maps seen.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        ```python
        counts = SegmentationCounts(num_labels=11, ignore_index=255)
        for predictions, labels in batches:
            counts.update(predictions, labels)
        counts.scores().mean_iou
        ```
    """

    def __init__(
        self, num_labels: int, *, ignore_index: int | None = 255, boundary_ratio: float | None = None
    ) -> None:
        if num_labels < 1:
            raise ValueError(f"num_labels is {num_labels}; a segmentation needs at least one class.")
        if boundary_ratio is not None and not 0 < boundary_ratio < 1:
            raise ValueError(
                f"boundary_ratio is {boundary_ratio}; it must lie between 0 and 1 (the paper uses 0.02)."
            )
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self.boundary_ratio = boundary_ratio
        self.reset()

    def reset(self) -> None:
        """Forget everything counted so far."""
        self.confusion = torch.zeros(self.num_labels, self.num_labels, dtype=torch.int64)
        self.boundary = torch.zeros(3, self.num_labels, dtype=torch.int64)
        self.num_images = 0

    def update(self, predictions: LabelMaps, labels: LabelMaps) -> SegmentationCounts:
        """Add a batch or an image.

        Args:
            predictions: Predicted ids `(height, width)` or `(batch_size, height, width)`: an integer array or
                tensor on any device, or a sequence of such maps of different sizes.
            labels: True ids in the same form, with `ignore_index` or -100 where nothing is known.

        Returns:
            This object, so that calls can be chained.

        Raises:
            ValueError: If shapes differ or an id lies outside of `0 .. num_labels - 1` at a labeled pixel.
            TypeError: If an input does not hold integers.
        """
        if is_ragged(predictions) or is_ragged(labels):
            if len(predictions) != len(labels):
                raise ValueError(f"Got {len(predictions)} predictions for {len(labels)} label maps.")
            for prediction, label in zip(predictions, labels):
                self.update(prediction, label)
            return self
        predicted, true = paired_maps(predictions, labels)
        if true.numel() == 0:
            return self
        valid = true != PADDING_ID
        if self.ignore_index is not None:
            valid &= true != self.ignore_index
        # Void pixels go to one extra bin: dropping them with a boolean index would cost two copies.
        predicted = self._masked(predicted, valid, "predictions")
        true = self._masked(true, valid, "labels")
        codes = torch.where(valid, true * self.num_labels + predicted, self.num_labels**2)
        self._to_device(codes.device)
        self.confusion += _bincount(codes, self.num_labels**2).view_as(self.confusion)
        if self.boundary_ratio is not None:
            self._update_boundary(predicted, true, valid)
        self.num_images += true.shape[0]
        return self

    def _masked(self, ids: torch.Tensor, valid: torch.Tensor, name: str) -> torch.Tensor:
        """Set void pixels to 0 and check that the others are class ids."""
        masked = torch.where(valid, ids, 0)
        low, high = masked.aminmax()
        if low < 0 or high >= self.num_labels:
            found = torch.unique(masked[(masked < 0) | (masked >= self.num_labels)]).tolist()
            raise ValueError(
                f"The {name} hold ids outside of 0..{self.num_labels - 1}: {shorten(found)}. "
                f"Ignored are {PADDING_ID} and ignore_index={self.ignore_index}; check the label coding."
            )
        # Half the memory traffic, and the pair codes still fit.
        return masked.to(torch.int32) if self.num_labels < MAX_INT32_CLASSES else masked

    def _update_boundary(self, predicted: torch.Tensor, true: torch.Tensor, valid: torch.Tensor) -> None:
        """Add the pixels inside of the boundary bands; maps are `(batch_size, height, width)`."""
        void = self.num_labels
        distance = boundary_distance(true.shape[-2], true.shape[-1], self.boundary_ratio or 0.0)
        # Void in both maps: its border is then a contour of both and favors neither.
        in_true = boundary_region(torch.where(valid, true, void), distance) & valid
        in_predicted = boundary_region(torch.where(valid, predicted, void), distance) & valid
        both = in_true & in_predicted & (true == predicted)
        for row, (ids, region) in enumerate([(true, both), (predicted, in_predicted), (true, in_true)]):
            self.boundary[row] += _bincount(torch.where(region, ids, void), void)

    def _to_device(self, device: torch.device) -> None:
        if self.confusion.device != device:
            self.confusion, self.boundary = self.confusion.to(device), self.boundary.to(device)

    def __iadd__(self, other: SegmentationCounts) -> SegmentationCounts:
        if not isinstance(other, SegmentationCounts):
            return NotImplemented
        mine = (self.num_labels, self.ignore_index, self.boundary_ratio)
        theirs = (other.num_labels, other.ignore_index, other.boundary_ratio)
        if mine != theirs:
            raise ValueError(
                f"Counts of {mine} and {theirs} (num_labels, ignore_index, boundary_ratio) cannot be added."
            )
        self.confusion += other.confusion.to(self.confusion.device)
        self.boundary += other.boundary.to(self.boundary.device)
        self.num_images += other.num_images
        return self

    def __add__(self, other: SegmentationCounts) -> SegmentationCounts:
        total = SegmentationCounts(
            self.num_labels, ignore_index=self.ignore_index, boundary_ratio=self.boundary_ratio
        )
        total += self
        total += other
        return total

    def state(self) -> dict[str, torch.Tensor]:
        """All counts as int64 tensors; the states of several processes may be summed key by key."""
        images = torch.tensor([self.num_images], dtype=torch.int64, device=self.confusion.device)
        return {"confusion": self.confusion, "boundary": self.boundary, "num_images": images}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> SegmentationCounts:
        """Replace the counts by those of `state` (see `state()`)."""
        if state["confusion"].shape != self.confusion.shape:
            raise ValueError(
                f"The state counts {state['confusion'].shape[0]} classes, this object {self.num_labels}."
            )
        self.confusion, self.boundary = state["confusion"].clone(), state["boundary"].clone()
        self.num_images = int(state["num_images"])
        return self

    def reduce(self, accelerator: Accelerator) -> SegmentationCounts:
        """Sum over all processes of an `accelerate` run; every process gets the sum.

        Args:
            accelerator: The run's accelerator. Every process must call this, also one without images.
        """
        local = {name: tensor.to(accelerator.device) for name, tensor in self.state().items()}
        total = SegmentationCounts(
            self.num_labels, ignore_index=self.ignore_index, boundary_ratio=self.boundary_ratio
        )
        return total.load_state(accelerator.reduce(local, reduction="sum"))

    def scores(self, *, average: ClassAverage = "union") -> SegmentationScores:
        """Turn the counts into ratios.

        Args:
            average: Classes over which means are taken. `"union"` (mmsegmentation's definition): those
                present in truth or prediction. `"truth"`: those present in the ground truth.

        Raises:
            ValueError: If `average` is unknown.
        """
        if average not in ("union", "truth"):
            raise ValueError(f"average is {average!r}; it must be 'union' or 'truth'.")
        confusion = self.confusion.cpu().numpy()
        hits, true, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
        absent = true == 0 if average == "truth" else np.zeros_like(true, dtype=bool)
        boundary_iou = None
        if self.boundary_ratio is not None:
            both, in_predicted, in_true = self.boundary.cpu().numpy()
            boundary_iou = ratio(both, in_predicted + in_true - both, absent)
        return SegmentationScores(
            class_iou=ratio(hits, true + predicted - hits, absent),
            class_accuracy=ratio(hits, true, absent),
            class_precision=ratio(hits, predicted, absent),
            class_boundary_iou=boundary_iou,
            confusion=confusion,
            num_images=self.num_images,
            average=average,
        )


def is_ragged(maps: LabelMaps) -> bool:
    """Whether the input is a sequence of maps (which may differ in size) rather than one array."""
    return isinstance(maps, list | tuple) and len(maps) > 0 and np.ndim(maps[0]) >= 2


def paired_maps(predictions: LabelMaps, labels: LabelMaps) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and labels as integer tensors `(batch_size, height, width)` on the predictions' device.

    Raises:
        ValueError: If the shapes differ or are not those of label maps.
        TypeError: If an input does not hold integers.
    """
    predicted, true = _label_maps(predictions, "predictions"), _label_maps(labels, "labels")
    if predicted.shape != true.shape:
        raise ValueError(
            f"predictions have shape {tuple(predicted.shape)}, labels {tuple(true.shape)}: bring the "
            "predictions to the size of the labels first (resize the logits, then take the arg-max)."
        )
    return predicted, true.to(predicted.device)


def _label_maps(maps: LabelMaps, name: str) -> torch.Tensor:
    tensor = maps if isinstance(maps, torch.Tensor) else None
    if tensor is None:
        array = np.asarray(maps)
        if array.dtype.kind not in "iu":
            raise TypeError(
                f"{name} hold {array.dtype} values; integer class ids are needed (arg-max of the logits)."
            )
        narrow = array.dtype.itemsize < 4 or array.dtype == np.int32
        tensor = torch.from_numpy(array.astype(np.int32 if narrow else np.int64))
    elif tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(
            f"{name} hold {tensor.dtype} values; integer class ids are needed (arg-max of the logits)."
        )
    if tensor.ndim not in (2, 3):
        raise ValueError(
            f"{name} have shape {tuple(tensor.shape)}; "
            "expected (height, width) or (batch_size, height, width)."
        )
    # Wide before any comparison: an ignore_index such as 65535 does not fit into the types of mask files.
    wide = torch.int64 if tensor.dtype in (torch.int64, torch.uint32, torch.uint64) else torch.int32
    return tensor.to(wide).reshape(-1, *tensor.shape[-2:])


def shorten(ids: Sequence[int], limit: int = 8) -> str:
    """The first few ids of a list, for messages."""
    return ", ".join(map(str, ids[:limit])) + (f" and {len(ids) - limit} more" if len(ids) > limit else "")


def _bincount(codes: torch.Tensor, length: int) -> torch.Tensor:
    """Occurrences of `0 .. length - 1`; larger codes are dropped."""
    return torch.bincount(codes.flatten(), minlength=length + 1)[:length]
