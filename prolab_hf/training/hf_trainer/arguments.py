"""Arguments of `ProLabTrainer`: those of transformers with defaults for segmentation, and what a recipe has besides."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from prolab_hf.training.engines.mixed_precision import precision_on
from prolab_hf.training.recipe import TrainingRecipe


@dataclass
class ProLabTrainingArguments(TrainingArguments):
    """`TrainingArguments` for `ProLabTrainer`.

    Where transformers' defaults would be wrong for segmentation, they differ: gradients are not clipped, weight decay
    is 0.01, metrics are counted batch by batch, `mean_iou` is the best model's metric, and examples keep all of their
    columns. `learning_rate`, `weight_decay`, `adam_beta1`, `adam_beta2`, `max_grad_norm`, `max_steps` and all others
    mean what they mean in transformers; `lr_scheduler_type` and `warmup_steps` count where `poly_power` is `None`.

    Attributes:
        layer_decay: Factor between the learning rates of neighboring transformer layers; `None` = off.
        num_layers: Number of transformer layers of the backbone; needed with `layer_decay`.
        layer_naming: How names of parameters are read: `"transformers"` or `"reference"`.
        head_learning_rate_multiplier: Factor for everything outside the backbone.
        no_decay_names: Parameters whose name contains one of these are not decayed.
        poly_power: Exponent of the polynomial decay of the learning rate (1.0 = linear); `None` = what
            `lr_scheduler_type` says.
        warmup_iterations: Length of the linear warm-up; `None` = 1500, or a twentieth of a shorter run.
        warmup_factor: Share of the scheduled learning rate that the first step gets.
        min_learning_rate: Where the decay ends.
        ema_decay: Decay per step of an averaged copy of the weights, which is evaluated and exported; `None` = off.
        class_weights: `"none"`, `"sqrt"`, `"effective"` (counted over the training masks once) or a JSON file.
        freeze: `"none"`, `"backbone"` or `"stages:N"`.
        lora_rank: Rank of adapters on the backbone, which is trained through them; `None` = off.
        lora_alpha: Their strength; `None` = twice the rank.
        init: `"solve"` starts at the closed-form solution of the last layer; `None` = as the model is.
        property_statistics: Add mean activation, number of dead properties and calibration error to evaluations.

    Raises:
        ValueError: A value is outside its range; the message names it as the recipe does.
    """

    weight_decay: float = field(
        default=0.01, metadata={"help": "Weight decay of AdamW, not on biases and norms."}
    )
    max_grad_norm: float = field(default=0.0, metadata={"help": "Clip gradients to this norm; 0 = off."})
    batch_eval_metrics: bool = field(
        default=True, metadata={"help": "Count metrics batch by batch, in constant memory."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Examples are made on access: there are no columns to remove."}
    )
    metric_for_best_model: str | None = field(
        default="mean_iou", metadata={"help": "Metric of the best model."}
    )
    greater_is_better: bool | None = field(default=True, metadata={"help": "Whether more of it is better."})
    layer_decay: float | None = field(
        default=None, metadata={"help": "Factor between the rates of neighboring transformer layers."}
    )
    num_layers: int | None = field(
        default=None, metadata={"help": "Number of transformer layers of the backbone."}
    )
    layer_naming: str = field(default="transformers", metadata={"help": "How names of parameters are read."})
    head_learning_rate_multiplier: float = field(
        default=1.0, metadata={"help": "Factor for everything outside the backbone."}
    )
    no_decay_names: list[str] | None = field(
        default=None, metadata={"help": "Parts of names of parameters that are not decayed."}
    )
    poly_power: float | None = field(
        default=1.0, metadata={"help": "Exponent of the polynomial decay of the learning rate."}
    )
    warmup_iterations: int | None = field(default=None, metadata={"help": "Length of the linear warm-up."})
    warmup_factor: float = field(
        default=1e-6, metadata={"help": "Share of the learning rate that the first step gets."}
    )
    min_learning_rate: float = field(default=0.0, metadata={"help": "Where the decay ends."})
    ema_decay: float | None = field(default=None, metadata={"help": "Decay of the averaged weights."})
    class_weights: str = field(
        default="none", metadata={"help": "none, sqrt, effective, or a JSON file with a weight per class."}
    )
    freeze: str = field(default="none", metadata={"help": "none, backbone or stages:N."})
    lora_rank: int | None = field(default=None, metadata={"help": "Rank of adapters on the backbone."})
    lora_alpha: float | None = field(default=None, metadata={"help": "Strength of adapters on the backbone."})
    init: str | None = field(default=None, metadata={"help": "solve: start at the closed-form solution."})
    property_statistics: bool = field(default=True, metadata={"help": "Property statistics in evaluations."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.to_recipe()

    def to_recipe(self) -> TrainingRecipe:
        """The same as a recipe, as far as it goes: optimizer, schedule, frozen parts, balance of classes.

        Raises:
            ValueError: A value is outside its range.
        """
        steps = self.max_steps if self.max_steps > 0 else None
        peft: dict[str, object] = {}
        if self.lora_rank is not None:
            alpha = 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha
            peft = {"method": "lora", "rank": self.lora_rank, "alpha": alpha}
        return TrainingRecipe(
            seed=self.seed,
            optimizer={
                "learning_rate": self.learning_rate,
                "weight_decay": self.weight_decay,
                "betas": (self.adam_beta1, self.adam_beta2),
                "layer_decay": self.layer_decay,
                "num_layers": self.num_layers,
                "layer_naming": self.layer_naming,
                "head_learning_rate_multiplier": self.head_learning_rate_multiplier,
                "no_decay_names": tuple(self.no_decay_names or ()),
                "max_gradient_norm": self.max_grad_norm or None,
                "ema_decay": self.ema_decay,
            },
            schedule={
                "max_iterations": steps,
                "epochs": None if steps else self.num_train_epochs,
                "batch_size": self.per_device_train_batch_size,
                "gradient_accumulation": self.gradient_accumulation_steps,
                "warmup_iterations": self.warmup_iterations,
                "warmup_ratio": self.warmup_factor,
                "poly_power": 1.0 if self.poly_power is None else self.poly_power,
                "min_learning_rate": self.min_learning_rate,
            },
            balance={"class_weights": self.class_weights},
            model={"freeze": self.freeze},
            peft=peft,
            closed_form={"init": self.init},
        )


def training_arguments_defaults(
    recipe: TrainingRecipe, output_dir: str | Path, num_images: int, **overrides: Any
) -> dict[str, Any]:
    """Keyword arguments for `ProLabTrainingArguments` that follow a recipe.

    Args:
        recipe: The recipe.
        output_dir: Folder for checkpoints.
        num_images: Length of the training set.
        overrides: Arguments to add or to replace.

    Returns:
        A dictionary for `ProLabTrainingArguments(**...)`.

    Raises:
        ValueError: The recipe asks for what the Trainer cannot do.
    """
    _refuse(recipe)
    total = recipe.total_iterations(num_images)
    precision = precision_on(
        torch.device("cuda" if torch.cuda.is_available() else "cpu"), recipe.device.mixed_precision
    )
    optimizer, schedule = recipe.optimizer, recipe.schedule
    arguments: dict[str, Any] = {
        "output_dir": str(output_dir),
        "max_steps": total,
        "per_device_train_batch_size": schedule.batch_size,
        "per_device_eval_batch_size": recipe.evaluation.batch_size,
        "gradient_accumulation_steps": recipe.accumulation_for(1),
        "learning_rate": optimizer.learning_rate,
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": optimizer.betas[0],
        "adam_beta2": optimizer.betas[1],
        "max_grad_norm": optimizer.max_gradient_norm or 0.0,
        "layer_decay": optimizer.layer_decay,
        "num_layers": optimizer.num_layers,
        "layer_naming": optimizer.layer_naming,
        "head_learning_rate_multiplier": optimizer.head_learning_rate_multiplier,
        "no_decay_names": list(optimizer.no_decay_names),
        "ema_decay": optimizer.ema_decay,
        "poly_power": schedule.poly_power,
        "warmup_iterations": schedule.warmup_iterations,
        "warmup_factor": schedule.warmup_ratio,
        "min_learning_rate": schedule.min_learning_rate,
        "class_weights": recipe.balance.class_weights,
        "freeze": recipe.model.freeze,
        "lora_rank": recipe.peft.rank if recipe.peft.method else None,
        "lora_alpha": recipe.peft.alpha if recipe.peft.method else None,
        "init": recipe.closed_form.init,
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
        # Pyramid pooling at scale 1 cannot normalize a last batch of one image. Fewer images than a batch are
        # one batch: dropping it would leave none, and the run would end untrained.
        "dataloader_drop_last": num_images >= schedule.batch_size,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "dataloader_num_workers": recipe.data.num_workers or 0,
        "report_to": "none",
    }
    # With load_best_model_at_end both intervals must fit; the recipe's do unless they were set apart.
    if recipe.checkpoints.final_weights == "best" and arguments["save_steps"] % arguments["eval_steps"]:
        arguments["save_steps"] = arguments["eval_steps"]
    return {**arguments, **overrides}


def _refuse(recipe: TrainingRecipe) -> None:
    """What only `prolab_hf.train` does."""
    finish = recipe.closed_form.finish
    asked = {
        "schedule.max_minutes": recipe.schedule.max_minutes,
        "features.cache": recipe.features.cache,
        "peft.targets": recipe.peft.targets,
        "closed_form.finish": None if finish == "auto" else finish,  # "auto": where it can be done
    }
    for name, value in asked.items():
        if value:
            raise ValueError(
                f"{name} is {value!r}, which transformers.Trainer cannot do; leave it out, or use prolab_hf.train."
            )
