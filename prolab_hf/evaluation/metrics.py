"""Segmentation metrics as counts first, ratios last.

A batch adds to a few integer tables whose size depends on the number of classes only. The tables of several
batches, runs or processes are added; intersection over union and its relatives are computed once, from the
sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prolab_hf.evaluation.boundaries import boundary_distance, boundary_region
from prolab_hf.evaluation.scores import ClassAverage, SegmentationScores, ratio

if TYPE_CHECKING:
    from accelerate import Accelerator

LabelMaps = np.ndarray | torch.Tensor | Sequence[Any]

PADDING_ID = -100
"""Id with which transformers and accelerate pad labels of unequal size: never counted."""

MAX_INT32_CLASSES = 46_340
"""Largest number of classes whose pairs can be numbered with 32 bits."""


class SegmentationCounts:
    """Streaming counts of a segmentation: a confusion matrix and, on request, boundary bands.

    Args:
        num_classes: Number of classes; ids are `0 .. num_classes - 1`.
        ignore_index: Label id that is left out, or `None`. `-100` is always left out.
        boundary_ratio: Width of the boundary band as a share of the picture's diagonal (0.02 in the paper);
            `None` (default) leaves boundary IoU out. Void pixels count as outside of the picture.

    Attributes:
        confusion: Pixel counts, int64 tensor `(num_classes, num_classes)`: row = truth, column = prediction.
        boundary: Pixel counts inside the bands, int64 tensor `(3, num_classes)`: both, predicted, true.
        num_pictures: Number of label maps seen.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        ```python
        counts = SegmentationCounts(num_classes=11, ignore_index=255)
        for predictions, labels in batches:
            counts.update(predictions, labels)
        counts.scores().mean_iou
        ```
    """

    def __init__(
        self, num_classes: int, *, ignore_index: int | None = 255, boundary_ratio: float | None = None
    ) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; a segmentation needs at least one class.")
        if boundary_ratio is not None and not 0 < boundary_ratio < 1:
            raise ValueError(
                f"boundary_ratio is {boundary_ratio}; it must lie between 0 and 1 (the paper uses 0.02)."
            )
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.boundary_ratio = boundary_ratio
        self.reset()

    def reset(self) -> None:
        """Forget everything counted so far."""
        self.confusion = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        self.boundary = torch.zeros(3, self.num_classes, dtype=torch.int64)
        self.num_pictures = 0

    def update(self, predictions: LabelMaps, labels: LabelMaps) -> SegmentationCounts:
        """Add a batch or a picture.

        Args:
            predictions: Predicted ids `(height, width)` or `(batch_size, height, width)`: an integer array or
                tensor on any device, or a sequence of such maps of different sizes.
            labels: True ids in the same form, with `ignore_index` or -100 where nothing is known.

        Returns:
            This object, so that calls can be chained.

        Raises:
            ValueError: If shapes differ or an id lies outside of `0 .. num_classes - 1` at a labeled pixel.
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
        codes = torch.where(valid, true * self.num_classes + predicted, self.num_classes**2)
        self._to_device(codes.device)
        self.confusion += _bincount(codes, self.num_classes**2).view_as(self.confusion)
        if self.boundary_ratio is not None:
            self._update_boundary(predicted, true, valid)
        self.num_pictures += true.shape[0]
        return self

    def _masked(self, ids: torch.Tensor, valid: torch.Tensor, name: str) -> torch.Tensor:
        """Set void pixels to 0 and check that the others are class ids."""
        masked = torch.where(valid, ids, 0)
        low, high = masked.aminmax()
        if low < 0 or high >= self.num_classes:
            found = torch.unique(masked[(masked < 0) | (masked >= self.num_classes)]).tolist()
            raise ValueError(
                f"The {name} hold ids outside of 0..{self.num_classes - 1}: {shorten(found)}. "
                f"Ignored are {PADDING_ID} and ignore_index={self.ignore_index}; check the label coding."
            )
        # Half the memory traffic, and the pair codes still fit.
        return masked.to(torch.int32) if self.num_classes < MAX_INT32_CLASSES else masked

    def _update_boundary(self, predicted: torch.Tensor, true: torch.Tensor, valid: torch.Tensor) -> None:
        """Add the pixels inside of the boundary bands; maps are `(batch_size, height, width)`."""
        void = self.num_classes
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
        mine = (self.num_classes, self.ignore_index, self.boundary_ratio)
        theirs = (other.num_classes, other.ignore_index, other.boundary_ratio)
        if mine != theirs:
            raise ValueError(
                f"Counts of {mine} and {theirs} (num_classes, ignore_index, boundary_ratio) cannot be added."
            )
        self.confusion += other.confusion.to(self.confusion.device)
        self.boundary += other.boundary.to(self.boundary.device)
        self.num_pictures += other.num_pictures
        return self

    def __add__(self, other: SegmentationCounts) -> SegmentationCounts:
        total = SegmentationCounts(
            self.num_classes, ignore_index=self.ignore_index, boundary_ratio=self.boundary_ratio
        )
        total += self
        total += other
        return total

    def state(self) -> dict[str, torch.Tensor]:
        """All counts as int64 tensors; the states of several processes may be summed key by key."""
        pictures = torch.tensor([self.num_pictures], dtype=torch.int64, device=self.confusion.device)
        return {"confusion": self.confusion, "boundary": self.boundary, "num_pictures": pictures}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> SegmentationCounts:
        """Replace the counts by those of `state` (see `state()`)."""
        if state["confusion"].shape != self.confusion.shape:
            raise ValueError(
                f"The state counts {state['confusion'].shape[0]} classes, this object {self.num_classes}."
            )
        self.confusion, self.boundary = state["confusion"].clone(), state["boundary"].clone()
        self.num_pictures = int(state["num_pictures"])
        return self

    def reduce(self, accelerator: Accelerator) -> SegmentationCounts:
        """Sum over all processes of an `accelerate` run; every process gets the sum.

        Args:
            accelerator: The run's accelerator. Every process must call this, also one without pictures.
        """
        local = {name: tensor.to(accelerator.device) for name, tensor in self.state().items()}
        total = SegmentationCounts(
            self.num_classes, ignore_index=self.ignore_index, boundary_ratio=self.boundary_ratio
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
            num_pictures=self.num_pictures,
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
