"""Evaluation inside a training run, shared out over its processes."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from prolab_hf.evaluation.metrics import SegmentationCounts, SegmentationScores
from prolab_hf.evaluation.sliding_window import slide_logits
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.training.data_loading import eval_loader, read_batches, worker_count
from prolab_hf.training.recipe import TrainingRecipe, height_width


@torch.no_grad()
def evaluate_on_processes(
    model: nn.Module,
    dataset: Any,
    recipe: TrainingRecipe,
    accelerator: Accelerator,
    *,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> SegmentationScores | None:
    """Scores of the model over a data set; each process takes every n-th image and the counts are summed.

    Args:
        model: Not wrapped for data parallelism (a wrapped one would wait for processes that have fewer
            images).
        dataset: Gives `pixel_values` and `labels` per index; labels may have another size than images.
        recipe: Test mode, window and batch size.
        accelerator: Of the run.
        on_batch: Called with (batches done, batches in all) of this process.
        should_stop: Asked between two batches, where there is one process.

    Returns:
        The scores, or `None` if `should_stop` said so.
    """
    config: Any = model.config
    ignore_index = getattr(config, "semantic_loss_ignore_index", 255)
    counts = SegmentationCounts(config.num_labels, ignore_index=ignore_index)
    indices = list(range(accelerator.process_index, len(dataset), accelerator.num_processes))
    workers = worker_count(recipe, accelerator.num_processes)
    loader = eval_loader(dataset, indices, recipe, num_workers=workers, ignore_index=ignore_index)
    was_training = model.training
    model.eval()
    try:
        for number, batch in enumerate(read_batches(loader), start=1):
            if accelerator.num_processes == 1 and should_stop():
                return None
            labels = batch["labels"]
            pixel_values = batch["pixel_values"].to(accelerator.device, non_blocking=True)
            if recipe.channels_last:
                pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
            logits = _logits(model, pixel_values, recipe)
            counts.update(resize_argmax(logits.float(), tuple(labels.shape[-2:])), labels)
            on_batch(number, len(loader))
    finally:
        model.train(was_training)
    return counts.reduce(accelerator).scores()


def _logits(model: nn.Module, pixel_values: Tensor, recipe: TrainingRecipe) -> Tensor:
    """Class logits `(batch_size, num_labels, height, width)` in the recipe's test mode."""
    if recipe.test_mode == "whole":
        return model(pixel_values=pixel_values).logits
    return slide_logits(
        lambda windows: model(pixel_values=windows).logits,
        pixel_values,
        height_width(recipe.test_crop_size),
        height_width(recipe.test_stride),
    )
