"""Metrics for `transformers.Trainer` that hold counts instead of logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import EvalPrediction

from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.model.resize_prolab import resize_argmax


class TrainerMetrics:
    """`compute_metrics` and `preprocess_logits_for_metrics` of a `Trainer`, in constant memory.

    By default `Trainer` keeps the logits of the whole evaluation set (ADE20K: 20 GB and more) and cannot join
    images of different sizes. Here every batch becomes label maps at the size of the labels and is counted.

    Args:
        num_labels: Number of classes.
        ignore_index: Label id that is left out; the Trainer's padding, -100, always is.
        class_names: If given, the IoU of every class is reported as `iou_<name>`.
        boundary_ratio: Width of the boundary band (0.02 in the paper) if boundary IoU is wanted.

    Example:
        ```python
        metrics = TrainerMetrics(num_labels=150)
        Trainer(
            args=TrainingArguments(batch_eval_metrics=True, metric_for_best_model="mean_iou", ...),
            compute_metrics=metrics.compute_metrics,
            preprocess_logits_for_metrics=metrics.preprocess_logits_for_metrics,
            ...
        )
        ```
    """

    def __init__(
        self,
        num_labels: int,
        ignore_index: int = 255,
        *,
        class_names: Sequence[str] | None = None,
        boundary_ratio: float | None = None,
    ) -> None:
        if class_names is not None and len(class_names) != num_labels:
            raise ValueError(f"Got {len(class_names)} class names for num_labels={num_labels}.")
        self.class_names = class_names
        self.counts = SegmentationCounts(num_labels, ignore_index=ignore_index, boundary_ratio=boundary_ratio)

    def preprocess_logits_for_metrics(self, logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """Label maps at the size of the labels.

        Args:
            logits: `(batch_size, num_labels, height, width)`, or a tuple that begins with them.
            labels: `(batch_size, label height, label width)`.

        Returns:
            Class ids, int32 `(batch_size, label height, label width)`.
        """
        if isinstance(logits, tuple | list):
            logits = logits[0]
        # Signed: the Trainer pads predictions with -100 where processes hold maps of unequal height.
        return resize_argmax(logits, (labels.shape[-2], labels.shape[-1])).to(torch.int32)

    def compute_metrics(self, prediction: EvalPrediction, compute_result: bool = True) -> dict[str, Any]:
        """Count a batch; with `compute_result` give the scores and start afresh.

        Args:
            prediction: Label maps from `preprocess_logits_for_metrics`, and labels.
            compute_result: Whether this is the last batch (`Trainer` says so with `batch_eval_metrics=True`).

        Returns:
            `mean_iou`, `mean_accuracy`, `pixel_accuracy`, `frequency_weighted_iou`, and what was asked for
            besides; an empty dictionary before the last batch.
        """
        predicted, labels = prediction.predictions, prediction.label_ids
        if isinstance(predicted, tuple | list):
            predicted = predicted[0]
        if predicted.ndim == 4:
            raise ValueError(
                f"The predictions have shape {tuple(predicted.shape)}: these are logits. Give the Trainer "
                "preprocess_logits_for_metrics=metrics.preprocess_logits_for_metrics as well."
            )
        self.counts.update(predicted, labels)
        if not compute_result:
            return {}
        scores = self.counts.scores()
        self.counts.reset()
        result = {
            "mean_iou": scores.mean_iou,
            "mean_accuracy": scores.mean_accuracy,
            "pixel_accuracy": scores.pixel_accuracy,
            "frequency_weighted_iou": scores.frequency_weighted_iou,
        }
        if scores.mean_boundary_iou is not None:
            result["mean_boundary_iou"] = scores.mean_boundary_iou
        for name, iou in zip(self.class_names or (), scores.class_iou):
            result[f"iou_{name}"] = float(iou)
        return result
