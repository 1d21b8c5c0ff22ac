"""`ProLabTrainer`: a `Trainer` that does what `prolab_hf.train` does, from the same code.

Callbacks, trackers, launchers and `push_to_hub` are those of transformers.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Sampler
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from prolab_hf.evaluation.property_statistics import PropertyStatistics, has_property_scores
from prolab_hf.evaluation.trainer_metrics import TrainerMetrics
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor
from prolab_hf.training.balance.class_balance import prepare_balance
from prolab_hf.training.data_loading import source_of
from prolab_hf.training.from_recipe import solve_before_training
from prolab_hf.training.frozen.adaptation import adapted_for_training
from prolab_hf.training.frozen.freezing import start_training
from prolab_hf.training.hf_trainer.arguments import ProLabTrainingArguments, training_arguments_defaults
from prolab_hf.training.hf_trainer.trainer_data import Collator, EpochOrder, augmented, prepared
from prolab_hf.training.optimization import AveragedWeights, build_optimizer, build_scheduler
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.training_state import AVERAGE_FILE


class ProLabTrainer(Trainer):
    """`transformers.Trainer` with layer decay, polynomial schedule, averaged and class weights, and the solved start.

    Evaluations count batch by batch (`mean_iou`, `mean_accuracy`, `pixel_accuracy`) and add property statistics.
    With averaged weights, what is measured, saved by `save_model` and pushed is the average; checkpoints hold both,
    and a resumed run is exactly the one that it continues.

    Args:
        model: Ours, or any segmentation model of transformers.
        args: `ProLabTrainingArguments`.
        train_dataset: Gives `pixel_values` and `labels` by number, such as a `SegmentationDataset`.
        eval_dataset: The same for evaluation.
        processing_class: Image processor, saved with every checkpoint; needed for `init="solve"`.
        callbacks: Added to the Trainer's own.
        options: Everything else that `Trainer` takes.

    Raises:
        TypeError: The arguments are those of transformers alone.

    Example:
        ```python
        trainer = ProLabTrainer.from_recipe(
            model, recipe, "runs/street", train_dataset=source, eval_dataset=val_source, processor=processor
        )
        trainer.train()
        trainer.push_to_hub()
        ```
    """

    args: ProLabTrainingArguments

    def __init__(
        self,
        model: nn.Module,
        args: ProLabTrainingArguments,
        *,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
        **options: Any,
    ) -> None:
        if not isinstance(args, ProLabTrainingArguments):
            raise TypeError(
                f"args is a {type(args).__name__}; ProLabTrainer needs ProLabTrainingArguments, which take the same "
                "fields and more."
            )
        config: Any = model.config
        ignore_index = getattr(config, "semantic_loss_ignore_index", 255)
        options.setdefault("data_collator", Collator(ignore_index))
        if "compute_metrics" not in options and args.batch_eval_metrics:
            metrics = TrainerMetrics(config.num_labels, ignore_index)
            options["compute_metrics"] = metrics.compute_metrics
            options.setdefault("preprocess_logits_for_metrics", metrics.preprocess_logits_for_metrics)
        self.average: AveragedWeights | None = None
        self._average_is_in = False
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=[EpochCallback(train_dataset), _AverageCallback(self), *callbacks],
            **options,
        )

    @classmethod
    def from_recipe(
        cls,
        model: nn.Module,
        recipe: TrainingRecipe,
        output_dir: str | Path,
        *,
        train_dataset: ImageMaskPairs | Examples,
        eval_dataset: ImageMaskPairs | Examples | None = None,
        processor: ImageProcessor | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        **overrides: Any,
    ) -> Self:
        """A trainer with everything that a recipe says, augmentation included.

        Args:
            model: The model.
            recipe: The recipe.
            output_dir: Folder for checkpoints.
            train_dataset: Images and masks, or tensors, which are taken as they are.
            eval_dataset: The same for evaluation.
            processor: Image processor; needed for images.
            callbacks: Added to the Trainer's own.
            overrides: Arguments of `ProLabTrainingArguments` to add or to replace.

        Raises:
            ValueError: The recipe asks for what only `prolab_hf.train` can do, or the processor is missing.
        """
        if eval_dataset is None:
            overrides = {"eval_strategy": "no", "load_best_model_at_end": False, **overrides}
        defaults = training_arguments_defaults(recipe, output_dir, len(train_dataset), **overrides)
        if recipe.evaluation.early_stopping is not None and eval_dataset is not None:
            stopping = EarlyStoppingCallback(
                recipe.evaluation.early_stopping, recipe.evaluation.least_improvement
            )
            callbacks = [*callbacks, stopping]
        return cls(
            model,
            ProLabTrainingArguments(**defaults),
            train_dataset=augmented(model, train_dataset, recipe, processor),
            eval_dataset=None if eval_dataset is None else prepared(eval_dataset, processor),
            processing_class=processor,
            callbacks=callbacks,
        )

    # ---- optimizer and schedule ---------------------------------------------------------------------------

    @property
    def recipe(self) -> TrainingRecipe:
        """The arguments as a recipe."""
        return self.args.to_recipe()

    @property
    def network(self) -> nn.Module:
        """The model that is trained, without what wraps it."""
        return cast(nn.Module, self.model)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the recipe's parameter groups, unless `args.optim` names another optimizer.

        Raises:
            ValueError: Layer decay was asked for with another optimizer.
        """
        if self.optimizer is None and str(self.args.optim).rpartition(".")[2].lower().startswith(
            "adamw_torch"
        ):
            self.optimizer = build_optimizer(model or self.network, self.recipe)
        elif self.optimizer is None and self.args.layer_decay is not None:
            raise ValueError(
                f"layer_decay is {self.args.layer_decay}, which optim={str(self.args.optim)!r} does not know; use "
                "adamw_torch, or set it to None."
            )
        return super().create_optimizer(model)

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> LRScheduler:
        """The polynomial schedule, unless `args.poly_power` is `None`; averaging begins here, too."""
        if self.lr_scheduler is None and self.args.poly_power is not None:
            chosen: Any = optimizer or self.optimizer
            plain = getattr(chosen, "optimizer", chosen)  # not the one that Accelerate wrapped
            self.lr_scheduler = build_scheduler(plain, self.recipe, num_training_steps)
            self._created_lr_scheduler = True
        if self.args.ema_decay is not None:
            self.average = AveragedWeights(self.network, self.args.ema_decay)
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """The order of `prolab_hf.train`: a permutation per epoch that depends on seed and epoch alone."""
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "random" or not hasattr(dataset, "__len__"):
            return super()._get_train_sampler(train_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return EpochOrder(len(dataset), seed)

    # ---- training -----------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: Any = None, *arguments: Any, **options: Any) -> TrainOutput:
        """As `Trainer.train`; the model ends with the weights that `save_model` and `push_to_hub` export.

        Args:
            resume_from_checkpoint: A checkpoint's folder, or `True` for the newest.
            arguments: Of `Trainer.train`.
            options: Of `Trainer.train`.
        """
        self._prepare(resume=bool(resume_from_checkpoint))
        with adapted_for_training(self.network, self.recipe):
            result = super().train(resume_from_checkpoint, *arguments, **options)
            if self.average is not None:
                self.average.swap_in(self.network)
                self.average = None
        return result

    def _prepare(self, *, resume: bool) -> None:
        """Class weights, and the last layer at its solution."""
        recipe = self.recipe
        source: Any = source_of(self.train_dataset)
        if recipe.balance.class_weights != "none":
            folder = Path(str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            prepare_balance(self.network, source, recipe, folder, self.accelerator, resume=resume)
        if recipe.closed_form.init == "solve" and not resume:
            gives_images = not isinstance(source[0], Mapping)
            processor: Any = self.processing_class if gives_images else None
            solve_before_training(self.network, source, processor, self.accelerator)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        """As `Trainer.compute_loss`, with frozen parts as in evaluation."""
        if model.training:
            start_training(model)
        return super().compute_loss(model, inputs, *arguments, **options)

    # ---- evaluation ---------------------------------------------------------------------------------------

    def evaluation_loop(
        self, *arguments: Any, metric_key_prefix: str = "eval", **options: Any
    ) -> EvalLoopOutput:
        """As `Trainer.evaluation_loop`, of the averaged weights, and with property statistics."""
        with self._averaged(), self._watched_properties() as statistics:
            options["metric_key_prefix"] = metric_key_prefix
            output = super().evaluation_loop(*arguments, **options)
        if statistics is not None:
            if self.accelerator.num_processes > 1:
                statistics = statistics.reduce(self.accelerator)
            summary = statistics.summary()
            if summary is not None and output.metrics is not None:
                found = {
                    "property_activation": summary.mean_activation,
                    "expected_activation": summary.expected_activation,
                    "dead_properties": len(summary.dead),
                    "calibration_error": summary.calibration_error,
                }
                output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in found.items()})
        return output

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in the model, while entered."""
        if self.average is None or self._average_is_in:
            yield
            return
        self.average.swap_in(self.network)
        self._average_is_in = True
        try:
            yield
        finally:
            self.average.swap_out(self.network)
            self._average_is_in = False

    @contextlib.contextmanager
    def _watched_properties(self) -> Iterator[PropertyStatistics | None]:
        """Sums over what the model says, while entered; `None` where it has no property scores."""
        model: Any = self.network
        if not self.args.property_statistics or not has_property_scores(model):
            yield None
            return
        ignore_index = model.config.semantic_loss_ignore_index
        statistics = PropertyStatistics(model.class_property_matrix, ignore_index=ignore_index)

        def watch(_: nn.Module, given: Any, options: dict[str, Any], output: Any) -> None:
            labels = options.get("labels")
            if labels is not None and output.property_logits is not None:
                statistics.update(model.property_scores(output.property_logits), labels)

        handle = model.register_forward_hook(watch, with_kwargs=True)
        try:
            yield statistics
        finally:
            handle.remove()

    # ---- files --------------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model as it would be exported now; checkpoints hold the trained weights and the average beside."""
        if self.average is None or self._average_is_in:
            super().save_model(output_dir, _internal_call)
        elif _internal_call:
            super().save_model(output_dir, _internal_call)
            if self.args.should_save:
                tensors = {name: value.contiguous() for name, value in self.average.tensors.items()}
                save_file(tensors, Path(output_dir or str(self.args.output_dir)) / AVERAGE_FILE)
        else:
            with self._averaged():
                super().save_model(output_dir, _internal_call)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.average is not None and checkpoint is not None:
            path = Path(checkpoint) / AVERAGE_FILE
            if path.is_file():
                self._take_average(self.average, path)
                self.average.num_updates = self._steps_of(checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        best = self.state.best_model_checkpoint
        if self.average is not None and best is not None and (Path(best) / AVERAGE_FILE).is_file():
            self._take_average(self.average, Path(best) / AVERAGE_FILE)

    @staticmethod
    def _take_average(average: AveragedWeights, path: Path) -> None:
        tensors = load_file(path)
        average.tensors = {name: tensors[name].to(value.device) for name, value in average.tensors.items()}

    @staticmethod
    def _steps_of(checkpoint: str) -> int:
        return TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json")).global_step


build_trainer = ProLabTrainer.from_recipe
"""The name that it had before."""


class EpochCallback(TrainerCallback):
    """Tells the data set which epoch begins: augmentation is drawn anew, and a resume repeats it exactly.

    Args:
        dataset: Has `set_epoch`, or is left alone.
    """

    def __init__(self, dataset: object) -> None:
        self.dataset: Any = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by the Trainer."""
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(int((state.epoch or 0) + 1e-6))


class _AverageCallback(TrainerCallback):
    """Moves the averaged weights after every optimizer step."""

    def __init__(self, trainer: ProLabTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called by the Trainer."""
        if self.trainer.average is not None:
            self.trainer.average.update(self.trainer.network)
