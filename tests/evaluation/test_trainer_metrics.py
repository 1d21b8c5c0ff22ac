"""Metrics inside of `transformers.Trainer`: images of several sizes, counts instead of logits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import EvalPrediction, Trainer, TrainingArguments

from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.evaluation.trainer_metrics import TrainerMetrics


class Examples(torch.utils.data.Dataset):
    """Images of two sizes; the labels have yet other sizes."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.items = []
        for index in range(4):
            size = (64, 96) if index % 2 else (64, 64)
            labels = torch.randint(0, 5, (9, size[1] // 4), generator=generator)
            labels[0] = 255
            self.items.append({"pixel_values": torch.rand(3, *size, generator=generator), "labels": labels})

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_trainer_evaluates_images_of_several_sizes(model, tmp_path):
    metrics = TrainerMetrics(5, class_names=["sky", "road", "tree", "car", "person"], boundary_ratio=0.02)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            str(tmp_path), per_device_eval_batch_size=1, batch_eval_metrics=True, use_cpu=True, report_to=[]
        ),
        eval_dataset=Examples(),
        compute_metrics=metrics.compute_metrics,
        preprocess_logits_for_metrics=metrics.preprocess_logits_for_metrics,
    )
    expected = SegmentationCounts(5, boundary_ratio=0.02)
    for item in Examples():
        with torch.no_grad():
            logits = model(pixel_values=item["pixel_values"][None]).logits
        size = item["labels"].shape
        expected.update(F.interpolate(logits, size, mode="bilinear").argmax(dim=1), item["labels"][None])
    scores = expected.scores()
    for _ in range(2):  # the second round must not remember the first
        found = trainer.evaluate()
        assert found["eval_mean_iou"] == pytest.approx(scores.mean_iou)
        assert found["eval_pixel_accuracy"] == pytest.approx(scores.pixel_accuracy)
        assert found["eval_mean_boundary_iou"] == pytest.approx(scores.mean_boundary_iou)
        assert found["eval_iou_tree"] == pytest.approx(scores.class_iou[2])


def test_whole_set_at_once_works_as_well():
    metrics = TrainerMetrics(3)
    truth = np.array([[[0, 1, -100]], [[2, 255, -100]]])
    result = metrics.compute_metrics(EvalPrediction(np.array([[[0, 0, -100]], [[2, 1, -100]]]), truth))
    assert result["pixel_accuracy"] == pytest.approx(2 / 3)


def test_predictions_fit_the_trainers_padding():
    metrics = TrainerMetrics(200)
    labels = torch.zeros(2, 8, 8, dtype=torch.int64)
    predicted = metrics.preprocess_logits_for_metrics((torch.rand(2, 200, 4, 4), "more"), labels)
    assert predicted.shape == labels.shape and predicted.dtype == torch.int32


def test_forgotten_half_is_named():
    metrics = TrainerMetrics(3)
    with pytest.raises(ValueError, match="preprocess_logits_for_metrics"):
        metrics.compute_metrics(EvalPrediction(np.zeros((1, 3, 4, 4)), np.zeros((1, 4, 4), int)))
    with pytest.raises(ValueError, match="2 class names for num_labels=3"):
        TrainerMetrics(3, class_names=["a", "b"])
