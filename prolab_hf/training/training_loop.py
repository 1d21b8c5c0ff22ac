"""The training loop: step, log, save, evaluate, until the run is over."""

import logging
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from prolab_hf.evaluation.evaluate import count_dataset
from prolab_hf.evaluation.inference import class_names_of
from prolab_hf.evaluation.metrics import SegmentationScores
from prolab_hf.evaluation.property_statistics import PropertySummary, measure_properties
from prolab_hf.evaluation.settings import InferenceSettings
from prolab_hf.files import write_json, write_text
from prolab_hf.protocols import Examples, ImageMaskPairs
from prolab_hf.training.checkpoints import best_evaluation
from prolab_hf.training.data_loading import TrainingBatch, worker_count
from prolab_hf.training.engines.engine import Engine
from prolab_hf.training.frozen.freezing import start_training
from prolab_hf.training.length.early_stopping import has_stalled
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.reporting import InterruptGuard, Reporter, TimeLeft, TrainingInterrupted
from prolab_hf.training.run_folder import BAD_BATCH_FILE, SKIPPED_FILE
from prolab_hf.training.stream_loading import StreamState
from prolab_hf.training.tracking.loss_window import LossWindow, watched_parts
from prolab_hf.training.tracking.trackers import Trackers
from prolab_hf.training.training_state import Progress, RunStorage

logger = logging.getLogger(__name__)

_SHOWN_NAMES = 8


@dataclass
class RunState:
    """What moves while a run trains.

    Attributes:
        engine: Model, optimizer and averaged weights over the processes.
        scheduler: Of the learning rate.
        progress: How far it is.
        batches: The batches of this process from here on.
        window: Loss since the last log line.
        stream: Where the readers of a stream are; `None` for data sets that are read by number.
    """

    engine: Engine
    scheduler: LRScheduler
    progress: Progress
    batches: Generator[TrainingBatch, None, None]
    window: LossWindow
    stream: StreamState | None = None

    @property
    def plain_model(self) -> nn.Module:
        """The model, whole and not wrapped; see `Engine`."""
        return self.engine.plain_model


class TrainingLoop:
    """One run from where its state is to its end; `prolab_hf.training.trainer.train` prepares it.

    Args:
        state: What moves.
        recipe: All numbers.
        eval_dataset: Images to measure on; `None` = never.
        accelerator: Of the run.
        storage: Where it is stored; its evaluations are the run's.
        reporter: Whom it tells.
        guard: Who knows whether it should stop.
        skip_broken: Leave out evaluation images that cannot be decoded.
        trackers: Who are shown predictions; on the main process only.

    Attributes:
        scores: All scores of the last evaluation of this session.
        properties: What the properties did in it, if the model has any.
    """

    def __init__(
        self,
        state: RunState,
        recipe: TrainingRecipe,
        eval_dataset: ImageMaskPairs | Examples | None,
        *,
        accelerator: Accelerator,
        storage: RunStorage,
        reporter: Reporter,
        guard: InterruptGuard,
        skip_broken: bool = False,
        trackers: Trackers | None = None,
    ) -> None:
        self.trackers = trackers
        self.state, self.recipe, self.eval_dataset, self.skip_broken = (
            state,
            recipe,
            eval_dataset,
            skip_broken,
        )
        self.accelerator, self.storage, self.reporter, self.guard = accelerator, storage, reporter, guard
        self.progress, self.total = state.progress, reporter.total
        self.accumulation = recipe.accumulation_for(accelerator.num_processes)
        self.scores: SegmentationScores | None = None
        self.properties: PropertySummary | None = None
        self.session_steps, self.session_seconds = 0, 0.0
        self.skipped: list[str] = []
        per_step = 0.0 if eval_dataset is None else len(eval_dataset) / self.progress.effective_batch_size
        self.time_left = TimeLeft(self.total, recipe.evaluation_interval(self.total), per_step)

    # ---- the loop -----------------------------------------------------------------------------------------

    def run(self) -> int:
        """Steps, evaluations and checkpoints until the run is over, then the export.

        Returns:
            The step of the exported weights.

        Raises:
            TrainingInterrupted: A signal came; a checkpoint was written.
            FloatingPointError: The loss or a weight is not finite.
        """
        recipe, progress = self.recipe, self.progress
        evaluate_every, save_every = recipe.evaluation_interval(self.total), recipe.save_interval(self.total)
        if (progress.step or recipe.closed_form.init) and self._is_due(evaluate_every):
            self.evaluate()  # a solved start may be the best; later nothing, unless an evaluation was stopped
        while progress.step < self.total and not has_stalled(self.storage.evaluations, recipe.evaluation):
            self.step()
            self._show()
            at_log = self._is_due(recipe.log_every)
            evaluate, save = self._is_due(evaluate_every), self._is_due(save_every)
            if at_log or evaluate or save:
                self._require_finite()
            if at_log:
                self._log()
            stop = self._should_stop(at_log)
            if save or stop:
                self.save()
            if evaluate and not stop:
                self.evaluate()
                stop = self._should_stop(at_log=True)
            if stop:
                self.save()  # an evaluation may have been cut short
                self._raise_interrupted()
        self._tell_early_stop()
        return self._finish()

    def _tell_early_stop(self) -> None:
        """Says that the run is over before its last step, and keeps it from going on when it is resumed."""
        step, patience = self.progress.step, self.recipe.evaluation.early_stopping
        if step < self.total:
            self.save()
            self.reporter.tell("early_stop", step, patience=patience)
            self.reporter.display.show_line(
                f"step {step}/{self.total}  stopped early: {patience} evaluation(s) in a row were no better"
            )

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

    def step(self) -> None:
        """One optimizer step.

        Raises:
            ValueError: An image or mask cannot be used; a checkpoint was written.
            FloatingPointError: The loss is not finite.
        """
        accelerator, state, started = self.accelerator, self.state, time.perf_counter()
        engine = state.engine
        # All data of the step first: if some of it is broken, the model is still between two steps.
        batches = self._next_batches()
        waited = time.perf_counter() - started
        start_training(engine.model)
        loss_sum, parts_sum = torch.zeros((), device=accelerator.device), dict[str, Tensor]()
        for number, (batch, weight) in enumerate(zip(batches, self._weights(batches)), start=1):
            is_last = number == len(batches)
            with engine.accumulating(is_last=is_last), watched_parts(engine.computing_model) as parts:
                loss = self._forward(batch) * weight
                engine.backward(loss, is_last=is_last)
            loss_sum += loss.detach()
            for part, value in parts.items():
                parts_sum[part] = parts_sum.get(part, 0) + value * weight
        names = [name for batch in batches for name in batch.names]
        state.window.add(loss_sum, self.progress.step + 1, names, parts_sum)
        if accelerator.device.type == "cpu":
            self._require_finite()  # before it can ruin the weights
        engine.step()
        state.scheduler.step()
        if state.stream is not None:
            state.stream.advance(batches)
        self._count_step(time.perf_counter() - started, waited)

    def _count_step(self, seconds: float, waited: float) -> None:
        self.progress.step += 1
        self.progress.train_seconds += seconds
        self.progress.wait_seconds += waited
        self.session_steps += 1
        self.session_seconds += seconds
        self.time_left.add_step(seconds)

    def _weights(self, batches: list[TrainingBatch]) -> Sequence[float | Tensor]:
        """What each pass's mean loss counts for, so that their sum is the mean over all labeled pixels of the step.

        The gradients of several processes are averaged afterwards, hence their number as a factor.
        """
        processes = self.accelerator.num_processes
        valid = sum(batch.valid_pixels for batch in batches)
        if processes == 1:
            return [1.0] if len(batches) == 1 else [batch.valid_pixels / max(valid, 1) for batch in batches]
        everywhere = torch.tensor(valid, device=self.accelerator.device)
        total = self.accelerator.reduce(everywhere, reduction="sum").clamp_min(1)
        return [batch.valid_pixels * processes / total for batch in batches]

    def _forward(self, batch: TrainingBatch) -> Tensor:
        try:
            return self.state.engine.model(**batch.tensors).loss
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"Batch normalization needs more than one value per channel, but schedule.batch_size is "
                f"{self.recipe.schedule.batch_size} and the smallest feature map has one pixel; use 2 or more."
            ) from error

    def _next_batches(self) -> list[TrainingBatch]:
        progress, device = self.progress, self.accelerator.device
        try:
            batches = [next(self.state.batches) for _ in range(self.accumulation)]
        except Exception as error:
            self._save_before_failing()
            if not isinstance(error, ValueError | FileNotFoundError):
                raise  # a worker was killed, say
            message = f"{str(error).rstrip('.')} (at training step {progress.step + 1})."
            raise type(error)(message) from error
        layout = torch.channels_last if self.recipe.device.channels_last else torch.contiguous_format
        for batch in batches:
            self._note_skipped(batch.skipped)
            batch.tensors = {
                name: value.to(device, non_blocking=True) for name, value in batch.tensors.items()
            }
            if "pixel_values" in batch.tensors:  # not where features are cached
                batch.tensors["pixel_values"] = batch.tensors["pixel_values"].contiguous(memory_format=layout)
        return batches

    # ---- what goes wrong ----------------------------------------------------------------------------------

    def _save_before_failing(self) -> None:
        """A checkpoint of the steps done, where data fail between two steps: the model is whole."""
        if self.progress.step and self.accelerator.num_processes == 1:
            self.save()

    def _note_skipped(self, reasons: list[str]) -> None:
        """Lists broken images that others stand in for, each once."""
        new = [reason for reason in dict.fromkeys(reasons) if reason not in self.skipped]
        if not new:
            return
        self.skipped += new
        path = _of_process(self.storage.output_dir / SKIPPED_FILE, self.accelerator.process_index)
        write_text(path, "".join(f"{reason}\n" for reason in self.skipped))
        for reason in new:
            logger.warning("Skipped, number %d, listed in %s: %s.", len(self.skipped), path.name, reason)

    def _require_finite(self) -> None:
        bad = self.state.window.first_bad_step()
        if bad is None:
            return
        step, names = bad
        path = _of_process(self.storage.output_dir / BAD_BATCH_FILE, self.accelerator.process_index)
        write_json(path, {"step": step, "learning_rate": self._learning_rate(), "images": names})
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        raise FloatingPointError(
            f"The loss is not finite (nan or infinite) at step {step}, learning rate {self._learning_rate():.2e}. "
            f"{self.storage.last_good()} Lower learning_rate, set max_gradient_norm (5.0 for example) or "
            f"mixed_precision='no', then resume. The images of the step are {', '.join(names[:_SHOWN_NAMES])}{more} "
            f"({path.name})."
        )

    def _raise_interrupted(self) -> None:
        raise TrainingInterrupted(
            f"Stopped at step {self.progress.step} of {self.total}; everything is saved in "
            f"{self.storage.output_dir}. Go on with the same command and --resume (resume=True).",
            self.guard.signal_number,
        )

    # ---- evaluation and checkpoints -----------------------------------------------------------------------

    def save(self) -> None:
        """Writes a checkpoint of the current step, unless there is one."""
        self.progress.loss_window = [self.state.window.state()]
        self.progress.stream = [] if self.state.stream is None else [self.state.stream.to_dict()]
        seconds = self.storage.save(self.progress, self.state.engine)
        if seconds is not None:
            self.reporter.tell("checkpoint", self.progress.step, seconds=seconds)

    def evaluate(self) -> None:
        """Scores the model as it would be exported now, and keeps a checkpoint of it if it is the best."""
        step, evaluations = self.progress.step, self.storage.evaluations
        if self.eval_dataset is None or any(entry["step"] == step for entry in evaluations):
            return
        started = time.perf_counter()
        try:
            scores = self._scores(self.eval_dataset)
        except _EvaluationStopped:
            return
        except Exception:
            self._save_before_failing()
            raise
        seconds = time.perf_counter() - started
        self.time_left.add_evaluation(seconds)
        if not scores.confusion.any() and not evaluations:
            logger.warning(
                "None of the %d evaluation images has a labeled pixel; check the label coding of the masks.",
                scores.num_images,
            )
        self.scores = scores
        entry = {"step": step, "mean_iou": scores.mean_iou, "pixel_accuracy": scores.pixel_accuracy}
        evaluations.append(entry)
        is_best = best_evaluation(evaluations) is entry
        if is_best:
            self.save()
        self.storage.record()
        self.reporter.tell_evaluation(
            step,
            scores,
            class_names_of(self.state.plain_model),
            seconds,
            is_best,
            properties=self.properties,
        )

    def _scores(self, dataset: ImageMaskPairs | Examples) -> SegmentationScores:
        recipe, accelerator = self.recipe, self.accelerator

        def on_image(done: int, total: int) -> None:
            self.reporter.display.show_evaluation(done, total)
            if self.guard.requested and accelerator.num_processes == 1:
                raise _EvaluationStopped

        several = accelerator if accelerator.num_processes > 1 else None
        settings, processor = evaluation_settings(recipe), self.storage.processor
        with self.state.engine.exported() as model:
            counts, skipped = count_dataset(
                model,
                processor,
                dataset,
                settings,
                num_workers=worker_count(recipe, accelerator.num_processes),
                accelerator=several,
                on_image=on_image,
                skip_broken=self.skip_broken,
            )
            self.properties = measure_properties(model, processor, dataset, settings, accelerator=several)
            if self.trackers is not None:
                self.trackers.show_predictions(self.progress.step, model, processor, dataset, settings)
        self._note_skipped(skipped)
        return counts.scores()

    def _finish(self) -> int:
        """Exports the chosen weights, which end in the model, too."""
        state, step = self.state, self.progress.step
        state.engine.finish()
        exported = self.storage.export(
            step, state.engine, best=self.recipe.checkpoints.final_weights == "best"
        )
        self.reporter.tell("export", step, exported_step=exported)
        state.plain_model.eval()
        return exported

    # ---- numbers ------------------------------------------------------------------------------------------

    def _learning_rate(self) -> float:
        return max(group["lr"] for group in self.state.engine.optimizer.param_groups)

    def _learning_rates(self) -> dict[str, float]:
        """By part of the model: what is decayed and what is not learns at one rate."""
        groups = self.state.engine.optimizer.param_groups
        return {re.sub(r"_(no_)?decay$", "", group["name"]): group["lr"] for group in groups}

    def _show(self) -> None:
        evaluations = self.storage.evaluations
        self.reporter.show_step(
            self.progress.step,
            loss=self.state.window.recent_mean(),
            mean_iou=evaluations[-1]["mean_iou"] if evaluations else None,
            learning_rate=self._learning_rate(),
            seconds_left=self.time_left.seconds(self.progress.step),
        )

    def _log(self) -> None:
        progress = self.progress
        parts = self.state.window.take_parts()
        means = torch.stack([self.state.window.take(), *parts.values()])
        loss, *shares = self.accelerator.reduce(means, reduction="mean").tolist()
        self.reporter.tell(
            "step",
            progress.step,
            loss=loss,
            loss_parts=dict(zip(parts, shares)),
            learning_rates=self._learning_rates(),
            **self._speed(),
        )

    def _epoch(self) -> Mapping[str, float]:
        """Passes over the training set; a stream does not know how long it is."""
        progress = self.progress
        images = progress.step * progress.effective_batch_size
        return {"epoch": images / progress.num_images} if progress.num_images else {}

    def _speed(self) -> Mapping[str, float]:
        progress = self.progress
        return {
            "learning_rate": self._learning_rate(),
            **self._epoch(),
            "images_per_second": self.session_steps * progress.effective_batch_size / self.session_seconds,
            "data_wait_share": progress.wait_seconds / progress.train_seconds,
            "train_seconds": progress.train_seconds,
        }


class _EvaluationStopped(Exception):
    """A signal came while the model was measured."""


def evaluation_settings(recipe: TrainingRecipe) -> InferenceSettings:
    """How the recipe runs an image through the model, as `prolab evaluate` takes it from the exported processor."""
    window = recipe.evaluation
    return InferenceSettings(
        mode="slide" if window.mode == "slide" else "whole",
        crop_size=window.crop_size if window.mode == "slide" else None,
        stride=window.stride if window.mode == "slide" else None,
        batch_size=window.batch_size,
    )


def _of_process(path: Path, rank: int) -> Path:
    """A file of its own for every process but the main one."""
    return path if rank == 0 else path.with_stem(f"{path.stem}_{rank}")
