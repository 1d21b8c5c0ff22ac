"""One training run: start or resume, step, evaluate, save, finish."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from prolab_hf.evaluation.metrics import SegmentationScores
from prolab_hf.training.checkpoints import (
    LOG_FILE,
    RECIPE_FILE,
    best_evaluation,
    check_free_space,
    recorded_evaluations,
)
from prolab_hf.training.data_loading import StepOrder, read_batches, train_loader, worker_count
from prolab_hf.training.evaluating import evaluate_on_processes
from prolab_hf.training.optimization import AveragedWeights, build_optimizer, build_scheduler
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.reporting import (
    InterruptGuard,
    LossWindow,
    Reporter,
    TrainingInterrupted,
    TrainingLog,
)
from prolab_hf.training.training_state import (
    Progress,
    RunStorage,
    load_model_weights,
    load_optimizer,
    load_progress,
    load_random_state,
    restore_average,
    warn_of_changes,
)

logger = logging.getLogger(__name__)


class TrainingRun:
    """State of one run; `prolab_hf.training.trainer.train` is the door.

    Args:
        model: The model, not wrapped.
        datasets: `"train"` and, where the run evaluates, `"eval"`.
        recipe: All numbers.
        accelerator: Of the run.
        storage: Where it is stored.
        reporter: Whom it tells.
        guard: Who knows whether it should stop.

    Attributes:
        progress: How far the run is.
        evaluations: One entry per evaluation: `step`, `mean_iou`, `pixel_accuracy`.
        scores: All scores of the last evaluation.
    """

    def __init__(
        self,
        model: nn.Module,
        datasets: Mapping[str, Any],
        recipe: TrainingRecipe,
        *,
        accelerator: Accelerator,
        storage: RunStorage,
        reporter: Reporter,
        guard: InterruptGuard,
    ) -> None:
        self.plain_model, self.datasets, self.recipe = model, datasets, recipe
        self.accelerator, self.storage, self.reporter, self.guard = accelerator, storage, reporter, guard
        processes = accelerator.num_processes
        self.total = reporter.total
        self.accumulation = recipe.accumulation_for(processes)
        self.progress = Progress(
            num_images=len(datasets["train"]),
            effective_batch_size=recipe.batch_size * processes * self.accumulation,
            recipe=recipe.to_dict(),
        )
        self.evaluations: list[dict[str, float]] = []
        self.scores: SegmentationScores | None = None
        self.evaluation_seconds = 0.0
        self.shown_loss: float | None = None
        self.session_steps, self.session_seconds = 0, 0.0

    # ---- start --------------------------------------------------------------------------------------------

    def start(self, checkpoint: Path | None) -> None:
        """Puts everything on the device and, with a checkpoint, back to where it was.

        Raises:
            ValueError: The checkpoint does not fit model, recipe or data.
            RuntimeError: The disk has no room for a checkpoint.
        """
        recipe, accelerator = self.recipe, self.accelerator
        set_seed(recipe.seed, device_specific=True)
        model = self.plain_model
        if checkpoint is not None:
            self._restore(checkpoint)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda" and recipe.sync_batch_norm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model.to(accelerator.device)
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        optimizer = build_optimizer(model, recipe)
        if checkpoint is not None:
            load_optimizer(checkpoint, optimizer, accelerator.scaler)
        self.scheduler = build_scheduler(optimizer, recipe, self.total, first_step=self.progress.step)
        self.average = AveragedWeights(model, recipe.ema_decay) if recipe.ema_decay else None
        if self.average is not None and checkpoint is not None:
            restore_average(self.average, checkpoint, self.progress.step)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        if accelerator.is_main_process:
            self._open_files(resumed=checkpoint is not None)
        self.batches = self._read_batches()
        if checkpoint is not None:
            load_random_state(checkpoint, accelerator.process_index)

    def _restore(self, checkpoint: Path) -> None:
        fresh, saved = self.progress, load_progress(checkpoint)
        warn_of_changes(saved, self.recipe, fresh.num_images, fresh.effective_batch_size)
        load_model_weights(checkpoint, self.plain_model)
        saved.recipe, saved.effective_batch_size = fresh.recipe, fresh.effective_batch_size
        self.progress = saved
        self.storage.saved_step = saved.step
        self.evaluations = recorded_evaluations(self.storage.root, until_step=saved.step)

    def _open_files(self, *, resumed: bool) -> None:
        storage = self.storage
        if resumed:
            # Without those of the steps that are about to be repeated; old checkpoints may make room.
            storage.record(self.evaluations)
        check_free_space(storage.output_dir, storage.checkpoint_bytes(), self.recipe.keep_checkpoints)
        self.recipe.to_json(storage.output_dir / RECIPE_FILE)
        self.reporter.log = TrainingLog(storage.output_dir / LOG_FILE, resumed_step=self.progress.step)

    def _read_batches(self) -> Iterator[Any]:
        accelerator = self.accelerator
        order = StepOrder(
            self.progress.num_images,
            self.recipe,
            accumulation=self.accumulation,
            first_step=self.progress.step,
            last_step=self.total,
            rank=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )
        config = getattr(self.plain_model, "config", None)
        loader = train_loader(
            self.datasets["train"],
            order,
            num_workers=worker_count(self.recipe, accelerator.num_processes),
            ignore_index=getattr(config, "semantic_loss_ignore_index", 255),
            pin_memory=accelerator.device.type == "cuda",
        )
        return read_batches(loader)

    # ---- the loop -----------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Steps, evaluations and checkpoints until the run is over.

        Raises:
            TrainingInterrupted: A signal came; a checkpoint was written.
            FloatingPointError: The loss or a weight is not finite.
        """
        recipe, progress = self.recipe, self.progress
        eval_every, save_every = recipe.evaluation_interval(self.total), recipe.save_interval(self.total)
        if progress.step and self._is_due(eval_every):
            self.evaluate()  # does nothing unless the run was stopped while it evaluated
        window = LossWindow(self.accelerator.device)
        while progress.step < self.total:
            window.add(self.step(), progress.step)
            self._show(window)
            at_log = self._is_due(recipe.log_every)
            evaluate, save = self._is_due(eval_every), self._is_due(save_every)
            bad_step = window.first_bad_step() if at_log or evaluate or save else None
            if bad_step is not None:
                self._raise_not_finite(bad_step)
            if at_log:
                self._log(window)
            stop = self._should_stop(at_log)
            if save or stop:
                self.save()
            if evaluate and not stop:
                self.evaluate()
                stop = self._should_stop(at_log=True)
            if stop:
                self.save()  # an evaluation may have been cut short
                self._raise_interrupted()

    def _is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.total

    def _should_stop(self, at_log: bool) -> bool:
        """Whether a signal came; several processes agree on it at the steps that are logged."""
        if self.accelerator.num_processes == 1:
            return self.guard.requested
        if not at_log:
            return False
        flag = torch.tensor([int(self.guard.requested)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item())

    def step(self) -> Tensor:
        """One optimizer step.

        Returns:
            Its loss, a scalar that stays on the device.

        Raises:
            ValueError: An image or mask cannot be used; a checkpoint was written.
        """
        accelerator, started = self.accelerator, time.perf_counter()
        # All data of the step first: if some of it is broken, the model is still between two steps.
        batches = self._next_batches()
        waited = time.perf_counter() - started
        self.model.train()
        loss_sum = torch.zeros((), device=accelerator.device)
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)
            with contextlib.nullcontext() if is_last else accelerator.no_sync(self.model):
                loss = self._forward(batch) / len(batches)
                accelerator.backward(loss)
            loss_sum += loss.detach()
        if accelerator.device.type == "cpu" and not torch.isfinite(loss_sum):
            self._raise_not_finite(self.progress.step + 1)  # before it can ruin the weights
        if self.recipe.max_gradient_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.plain_model)
        self._count_step(time.perf_counter() - started, waited)
        return loss_sum

    def _count_step(self, seconds: float, waited: float) -> None:
        self.progress.step += 1
        self.progress.train_seconds += seconds
        self.progress.wait_seconds += waited
        self.session_steps += 1
        self.session_seconds += seconds

    def _forward(self, batch: dict[str, Tensor]) -> Tensor:
        try:
            return self.model(**batch).loss
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"Batch normalization needs more than one value per channel, but batch_size is "
                f"{self.recipe.batch_size} and the smallest feature map has one pixel; use batch_size 2 or "
                "more."
            ) from error

    def _next_batches(self) -> list[dict[str, Tensor]]:
        progress, device = self.progress, self.accelerator.device
        try:
            batches = [next(self.batches) for _ in range(self.accumulation)]
        except Exception as error:
            self._save_before_failing()
            if not isinstance(error, ValueError | FileNotFoundError):
                raise  # a worker was killed, say
            message = f"{str(error).rstrip('.')} (at training step {progress.step + 1})."
            raise type(error)(message) from error
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        for batch in batches:
            for name, value in batch.items():
                batch[name] = value.to(device, non_blocking=True)
            batch["pixel_values"] = batch["pixel_values"].contiguous(memory_format=layout)
        return batches

    def _save_before_failing(self) -> None:
        """A checkpoint of the steps done, where data fail between two steps: the model is whole."""
        if self.progress.step and self.accelerator.num_processes == 1:
            self.save()

    def _raise_not_finite(self, step: int) -> None:
        raise FloatingPointError(
            f"The loss is not finite (nan or infinite) at step {step}, learning rate "
            f"{self._learning_rate():.2e}. {self.storage.last_good()} Lower learning_rate, set "
            "max_gradient_norm (5.0 for example) or mixed_precision='no', then resume."
        )

    def _raise_interrupted(self) -> None:
        raise TrainingInterrupted(
            f"Stopped at step {self.progress.step} of {self.total}; everything is saved in "
            f"{self.storage.output_dir}. Go on with the same command and --resume (resume=True)."
        )

    # ---- evaluation and checkpoints -----------------------------------------------------------------------

    def save(self) -> None:
        """Writes a checkpoint of the current step, unless there is one."""
        seconds = self.storage.save(self.progress, self.optimizer.optimizer, self.average)
        if seconds is not None:
            self.reporter.tell("checkpoint", self.progress.step, seconds=seconds)

    def evaluate(self) -> None:
        """Scores the model as it would be exported now, and keeps a checkpoint of it if it is the best."""
        step = self.progress.step
        if "eval" not in self.datasets or any(entry["step"] == step for entry in self.evaluations):
            return
        started = time.perf_counter()
        try:
            scores = self._scores()
        except Exception:
            self._save_before_failing()
            raise
        if scores is None:
            return  # a signal came
        if not scores.confusion.any() and not self.evaluations:
            logger.warning(
                "None of the %d evaluation images has a labeled pixel; check the label coding of the masks.",
                scores.num_images,
            )
        self.scores, self.evaluation_seconds = scores, time.perf_counter() - started
        entry = {"step": step, "mean_iou": scores.mean_iou, "pixel_accuracy": scores.pixel_accuracy}
        self.evaluations.append(entry)
        is_best = best_evaluation(self.evaluations) is entry
        if is_best:
            self.save()
        self.storage.record(self.evaluations)
        self.reporter.tell(
            "evaluation",
            step,
            mean_iou=scores.mean_iou,
            pixel_accuracy=scores.pixel_accuracy,
            seconds=self.evaluation_seconds,
            classes=scores.to_dict(self._class_names())["per_class"],
        )
        self.reporter.display.show_line(
            f"step {step}/{self.total}  mIoU {scores.mean_iou:.4f}  "
            f"pixel accuracy {scores.pixel_accuracy:.4f}{'  (best so far)' if is_best else ''}"
        )

    def _scores(self) -> SegmentationScores | None:
        if self.average is not None:
            self.average.swap_in(self.plain_model)
        try:
            return evaluate_on_processes(
                self.plain_model,
                self.datasets["eval"],
                self.recipe,
                self.accelerator,
                on_batch=self.reporter.display.show_evaluation,
                should_stop=lambda: self.guard.requested,
            )
        finally:
            if self.average is not None:
                self.average.swap_out(self.plain_model)

    def _class_names(self) -> list[str] | None:
        names = getattr(getattr(self.plain_model, "config", None), "id2label", None)
        return None if names is None else [names[k] for k in range(len(names))]

    def finish(self) -> int:
        """Exports the chosen weights.

        Returns:
            Their step.
        """
        # Takes off what `prepare` put around the model's forward.
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        step = self.storage.export(self.progress.step, self.average, best=self.recipe.final_weights == "best")
        self.reporter.tell("export", self.progress.step, exported_step=step)
        self.plain_model.eval()
        return step

    # ---- what the user sees -------------------------------------------------------------------------------

    def _learning_rate(self) -> float:
        return max(group["lr"] for group in self.optimizer.param_groups)

    def _show(self, window: LossWindow) -> None:
        loss = window.recent_mean()
        if loss is None and self.progress.step < self.total:
            return
        self.shown_loss = loss = self.shown_loss if loss is None else loss
        left = (self.total - self.progress.step) * self.session_seconds / self.session_steps
        every = self.recipe.evaluation_interval(self.total)
        left += (self.total // every - self.progress.step // every) * self.evaluation_seconds
        values = {
            "loss": loss,
            "mean_iou": self.evaluations[-1]["mean_iou"] if self.evaluations else None,
            "learning_rate": self._learning_rate(),
            "seconds_left": left,
        }
        self.reporter.display.show_step(self.progress.step, values)

    def _log(self, window: LossWindow) -> None:
        progress = self.progress
        loss = self.accelerator.reduce(window.take(), reduction="mean").item()
        self.reporter.tell(
            "step",
            progress.step,
            loss=loss,
            learning_rate=self._learning_rate(),
            epoch=progress.step * progress.effective_batch_size / progress.num_images,
            images_per_second=self.session_steps * progress.effective_batch_size / self.session_seconds,
            data_wait_share=progress.wait_seconds / progress.train_seconds,
            train_seconds=progress.train_seconds,
        )
