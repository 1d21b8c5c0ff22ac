"""`transformers.Trainer` on the same model, data and recipe.

The plain `Trainer` is enough: these functions give it the arguments, optimizer, metrics and callback that
it needs to do the same as `train`. What its defaults would get wrong for segmentation is noted beside each
value.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from prolab_hf.data.transforms import collate
from prolab_hf.evaluation.trainer_metrics import TrainerMetrics
from prolab_hf.protocols import Examples, ImageProcessor
from prolab_hf.training.optimization import build_optimizer, build_scheduler
from prolab_hf.training.recipe import TrainingRecipe


def training_arguments_defaults(
    recipe: TrainingRecipe, output_dir: str | Path, num_images: int, **overrides: Any
) -> dict[str, Any]:
    """Keyword arguments for `TrainingArguments` that follow a recipe.

    Args:
        recipe: The recipe.
        output_dir: Folder for checkpoints.
        num_images: Length of the training set.
        overrides: Arguments to add or to replace.

    Returns:
        A dictionary for `TrainingArguments(**...)`.
    """
    total = recipe.total_iterations(num_images)
    precision = recipe.precision_on(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    arguments: dict[str, Any] = {
        "output_dir": str(output_dir),
        "max_steps": total,
        "per_device_train_batch_size": recipe.schedule.batch_size,
        "per_device_eval_batch_size": recipe.evaluation.batch_size,
        "gradient_accumulation_steps": recipe.accumulation_for(1),
        "learning_rate": recipe.optimizer.learning_rate,
        "weight_decay": recipe.optimizer.weight_decay,
        # Its own default of 1.0 would clip where the recipe does not.
        "max_grad_norm": recipe.optimizer.max_gradient_norm or 0.0,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "logging_steps": recipe.log_every,
        "eval_strategy": "steps",
        "eval_steps": recipe.evaluation_interval(total),
        "save_strategy": "steps",
        "save_steps": recipe.save_interval(total),
        # Of these two the Trainer keeps the best and the newest.
        "save_total_limit": recipe.checkpoints.keep,
        "load_best_model_at_end": recipe.checkpoints.final_weights == "best",
        "metric_for_best_model": "mean_iou",
        "greater_is_better": True,
        # Examples are made on access: there are no columns to remove.
        "remove_unused_columns": False,
        # Pyramid pooling at scale 1 cannot normalize a last batch of one image. Fewer images than a batch are
        # one batch: dropping it would leave none, and the run would end untrained.
        "dataloader_drop_last": num_images >= recipe.schedule.batch_size,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "dataloader_num_workers": recipe.data.num_workers or 0,
        # Counts instead of the logits of the whole evaluation set.
        "batch_eval_metrics": True,
        "report_to": "none",
    }
    # With load_best_model_at_end both intervals must fit; the recipe's do unless they were set apart.
    if recipe.checkpoints.final_weights == "best" and arguments["save_steps"] % arguments["eval_steps"]:
        arguments["save_steps"] = arguments["eval_steps"]
    return {**arguments, **overrides}


def build_trainer(
    model: nn.Module,
    recipe: TrainingRecipe,
    output_dir: str | Path,
    *,
    train_dataset: Examples,
    eval_dataset: Examples | None = None,
    processor: ImageProcessor | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **overrides: Any,
) -> Trainer:
    """A plain `Trainer` with the recipe's optimizer, schedule, metrics and data order.

    Args:
        model: The model.
        recipe: The recipe; `ema_decay` is not available here.
        output_dir: Folder for checkpoints.
        train_dataset: Gives `pixel_values` and `labels` per index.
        eval_dataset: The same for evaluation.
        processor: Image processor, saved with every checkpoint.
        callbacks: Added to the Trainer's own.
        overrides: Arguments of `TrainingArguments` to add or to replace.

    Raises:
        ValueError: The recipe asks for averaged weights.
    """
    if recipe.optimizer.ema_decay is not None:
        raise ValueError(
            f"optimizer.ema_decay is {recipe.optimizer.ema_decay}; transformers.Trainer keeps no averaged weights. "
            "Set it to None or use prolab_hf.training.trainer.train."
        )
    if eval_dataset is None:
        overrides = {"eval_strategy": "no", "load_best_model_at_end": False, **overrides}
    arguments = TrainingArguments(
        **training_arguments_defaults(recipe, output_dir, len(train_dataset), **overrides)
    )
    optimizer = build_optimizer(model, recipe)
    scheduler: LambdaLR = build_scheduler(optimizer, recipe, arguments.max_steps)
    config: Any = model.config
    ignore_index = getattr(config, "semantic_loss_ignore_index", 255)
    metrics = TrainerMetrics(config.num_labels, ignore_index)
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        data_collator=_Collator(ignore_index),
        processing_class=processor,  # type: ignore[arg-type]  # whatever can be called and saved
        optimizers=(optimizer, scheduler),
        compute_metrics=metrics.compute_metrics,
        preprocess_logits_for_metrics=metrics.preprocess_logits_for_metrics,
        callbacks=[EpochCallback(train_dataset), *callbacks],
    )


class EpochCallback(TrainerCallback):
    """Tells the data set which epoch begins: augmentation is drawn anew, and a resume repeats it exactly.

    Args:
        dataset: Has `set_epoch`, or is left alone.
    """

    def __init__(self, dataset: object) -> None:
        self.dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by the Trainer."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(int((state.epoch or 0) + 1e-6))


class _Collator:
    """Collation that survives being sent to a worker process."""

    def __init__(self, ignore_index: int) -> None:
        self.ignore_index = ignore_index

    def __call__(self, examples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return dict(collate(examples, ignore_index=self.ignore_index))
