"""Mean IoU with the interface and the keys of `evaluate`'s `mean_iou`, offline and in constant memory.

`evaluate` stores every prediction on disk until `compute` is called. This module keeps pixel counts of
(true id, predicted id) pairs instead, so that 2,000 images cost as much memory as one. It is also a
module file:

    metric = evaluate.load(prolab_hf.evaluation.hf_metric.__file__)
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

from prolab_hf.evaluation.metrics import LabelMaps, SegmentationCounts, is_ragged, paired_maps, shorten

_DESCRIPTION = """
Segmentation quality from streaming pixel counts: mean IoU as mmsegmentation defines it, accuracies,
frequency-weighted IoU and, on request, boundary IoU (Cheng et al., CVPR 2021).
"""

_INPUTS = """
Args:
    predictions: Predicted label maps, a list of `(height, width)` integer arrays or one `(batch, height,
        width)` array.
    references: True label maps in the same form.
    num_labels: Number of classes (may also be given once, to `evaluate.load` or the constructor).
    ignore_index: Label id that is left out (-100 is always left out).
    label_map: True ids to replace before counting, `{old: new}`.
    reduce_labels: Whether true id 0 means void and the others shift down by one.
    nan_to_num: Number that stands for undefined ratios; default nan.
Returns:
    Dictionary with `mean_iou`, `mean_accuracy`, `overall_accuracy`, `per_category_iou`,
    `per_category_accuracy`, `pixel_accuracy`, `frequency_weighted_iou`, `per_category_precision` and, if
    counted, `mean_boundary_iou` and `per_category_boundary_iou`.
"""

_CITATION = """
@inproceedings{cheng2021boundary,
  title={Boundary {IoU}: Improving Object-Centric Image Segmentation Evaluation},
  author={Cheng, Bowen and Girshick, Ross and Doll{\\'a}r, Piotr and Berg, Alexander C. and Kirillov,
  Alexander}, booktitle={CVPR}, year={2021}
}
"""

MAX_DENSE_PAIRS = 1 << 22
"""A batch with up to this many possible (true, predicted) pairs takes one bincount, with more a sort."""


class PairTally:
    """Pixel counts of (true id, predicted id) pairs whose meaning is decided later.

    `evaluate`'s `mean_iou` learns the number of classes and the ignored id only in `compute`, after the
    batches. The pairs that occurred are a small dictionary, whatever the number of images.
    """

    def __init__(self) -> None:
        self.pairs: Counter[tuple[int, int]] = Counter()
        self.num_images = 0

    def update(self, predictions: LabelMaps, labels: LabelMaps) -> "PairTally":
        """Add a batch (see `SegmentationCounts.update`)."""
        if is_ragged(predictions) or is_ragged(labels):
            if len(predictions) != len(labels):
                raise ValueError(f"Got {len(predictions)} predictions for {len(labels)} label maps.")
            for prediction, label in zip(predictions, labels):
                self.update(prediction, label)
            return self
        predicted, true = (ids.flatten().to(torch.int64) for ids in paired_maps(predictions, labels))
        if predicted.numel() == 0:
            return self
        (low_p, high_p), (low_t, high_t) = (map(int, ids.aminmax()) for ids in (predicted, true))
        width = high_p - low_p + 1
        codes = (true - low_t) * width + (predicted - low_p)
        if width * (high_t - low_t + 1) <= MAX_DENSE_PAIRS:
            counts = torch.bincount(codes)
            found = counts.nonzero().flatten()
            counts = counts[found]
        else:
            found, counts = torch.unique(codes, return_counts=True)
        for code, count in zip(found.tolist(), counts.tolist()):
            self.pairs[code // width + low_t, code % width + low_p] += count
        self.num_images += len(labels) if np.ndim(labels) == 3 else 1
        return self

    def resolve(
        self,
        num_labels: int,
        *,
        ignore_index: int | None,
        label_map: Mapping[int, int] | None = None,
        reduce_labels: bool = False,
    ) -> SegmentationCounts:
        """Decide what the ids mean and give the counts.

        Raises:
            ValueError: If an id at a labeled pixel is not a class.
        """
        counts = SegmentationCounts(num_labels, ignore_index=ignore_index)
        counts.num_images = self.num_images
        outside: set[int] = set()
        for (true, predicted), number in self.pairs.items():
            label = (label_map or {}).get(true, true)
            if reduce_labels:
                # As `mean_iou` does it: 0 is void, the others shift down, and the void id stays the void id.
                label = 255 if label in (0, 255) else label - 1
            if label in (ignore_index, -100) or true == -100:
                continue
            outside.update(value for value in (label, predicted) if not 0 <= value < num_labels)
            if not outside:
                counts.confusion[label, predicted] += number
        if outside:
            raise ValueError(
                f"Ids outside of 0..{num_labels - 1} occur at labeled pixels: {shorten(sorted(outside))}. "
                f"Check num_labels={num_labels}, ignore_index={ignore_index}, reduce_labels={reduce_labels}."
            )
        return counts


class ProLabMeanIoU(evaluate.Metric):  # type: ignore[misc]  # evaluate has no hints
    """An `evaluate.Metric` that holds counts instead of predictions.

    Args:
        num_labels: Number of classes; may be left to `compute`, as `evaluate`'s own `mean_iou` has it.
        ignore_index: Label id that is left out; may be left to `compute` (default there: 255).
        boundary_ratio: Width of the boundary band (0.02 in the paper) if boundary IoU is wanted; needs
            `num_labels`.
        **kwargs: What `evaluate.load` hands to every module (`config_name`, `cache_dir`, ...).

    Raises:
        ValueError: If `num_process` is not 1 (sum `metric.counts` with `SegmentationCounts.reduce`
            instead), or if `boundary_ratio` is given without `num_labels`.
    """

    def __init__(
        self,
        *,
        num_labels: int | None = None,
        ignore_index: int | None = None,
        boundary_ratio: float | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("num_process", 1) != 1:
            raise ValueError(
                f"num_process is {kwargs['num_process']}; this metric exchanges no files between processes: "
                "feed it gathered predictions, or sum `SegmentationCounts` with its `reduce(accelerator)`."
            )
        if boundary_ratio is not None and num_labels is None:
            raise ValueError("boundary_ratio needs num_labels (and ignore_index) when the metric is made.")
        super().__init__(**kwargs)
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self.boundary_ratio = boundary_ratio
        self._start()

    def _start(self) -> None:
        """Begin a new round of counting."""
        self.counts: SegmentationCounts | PairTally = PairTally()
        if self.num_labels is not None and self.boundary_ratio is not None:
            self.counts = SegmentationCounts(
                self.num_labels,
                ignore_index=255 if self.ignore_index is None else self.ignore_index,
                boundary_ratio=self.boundary_ratio,
            )

    def _info(self) -> evaluate.MetricInfo:
        maps = datasets.Sequence(datasets.Sequence(datasets.Value("int64")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": maps, "references": maps}),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Count a batch of label maps."""
        if kwargs:
            raise ValueError(
                f"Unknown inputs {sorted(kwargs)}; this metric takes predictions and references."
            )
        if predictions is None or references is None:
            raise ValueError("Both predictions and references are needed.")
        self.counts.update(predictions, references)

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Count one label map."""
        if kwargs:
            raise ValueError(f"Unknown inputs {sorted(kwargs)}; this metric takes prediction and reference.")
        if prediction is None or reference is None:
            raise ValueError("Both prediction and reference are needed.")
        self.counts.update(prediction, reference)

    def compute(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Count the given maps, if any, and give the scores of everything counted since the last call."""
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if self.counts.num_images == 0:
            raise ValueError(
                "Nothing was counted: call add or add_batch first, or pass predictions and references."
            )
        result = self._compute(**kwargs)
        self._start()
        return result

    def _compute(
        self,
        *,
        num_labels: int | None = None,
        ignore_index: int | None = None,
        label_map: Mapping[int, int] | None = None,
        reduce_labels: bool = False,
        nan_to_num: float | None = None,
    ) -> dict[str, Any]:
        counts = self.counts
        if isinstance(counts, PairTally):
            number = self.num_labels if num_labels is None else num_labels
            if number is None:
                raise ValueError(
                    "num_labels is needed: pass it to compute, or to evaluate.load / the constructor."
                )
            ignored = self.ignore_index if ignore_index is None else ignore_index
            counts = counts.resolve(
                number,
                ignore_index=255 if ignored is None else ignored,
                label_map=label_map,
                reduce_labels=reduce_labels,
            )
        elif (
            label_map
            or reduce_labels
            or num_labels not in (None, counts.num_labels)
            or ignore_index not in (None, counts.ignore_index)
        ):
            raise ValueError("With boundary_ratio the meaning of the ids is fixed when the metric is made.")
        scores = counts.scores()
        result: dict[str, Any] = {
            "mean_iou": scores.mean_iou,
            "mean_accuracy": scores.mean_accuracy,
            "overall_accuracy": scores.pixel_accuracy,
            "per_category_iou": scores.class_iou,
            "per_category_accuracy": scores.class_accuracy,
            "pixel_accuracy": scores.pixel_accuracy,
            "frequency_weighted_iou": scores.frequency_weighted_iou,
            "per_category_precision": scores.class_precision,
        }
        if scores.class_boundary_iou is not None:
            result["mean_boundary_iou"] = scores.mean_boundary_iou
            result["per_category_boundary_iou"] = scores.class_boundary_iou
        if nan_to_num is not None:
            result = {key: np.nan_to_num(value, nan=nan_to_num) for key, value in result.items()}
        return result
