"""The training loop, on Accelerate: one device or many, with exact resume."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, gather_object, set_seed
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from prolab_hf.evaluation.metrics import SegmentationScores
from prolab_hf.training.checkpoints import (
    best_checkpoint,
    best_evaluation,
    checkpoint_step,
    newest_valid_checkpoint,
    prune_checkpoints,
    record_evaluations,
    recorded_evaluations,
    write_checkpoint,
)
from prolab_hf.training.data_order import StepOrder, read_batches, train_loader, worker_count
from prolab_hf.training.display import TrainingDisplay, TrainingLog
from prolab_hf.training.evaluating import evaluate_on_processes
from prolab_hf.training.interruption import InterruptGuard, TrainingInterrupted
from prolab_hf.training.optimization import AveragedWeights, build_optimizer, build_scheduler
from prolab_hf.training.output_folder import (
    CHECKPOINTS_FOLDER,
    LOG_FILE,
    RECIPE_FILE,
    check_free_space,
    export_into,
    open_output_folder,
)
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.training_state import (
    Progress,
    load_averaged,
    load_model_weights,
    load_optimizer,
    load_progress,
    load_random_state,
    random_state,
    save_state,
    warn_of_changes,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingEvent:
    """What callbacks are told.

    Attributes:
        kind: `"step"` (every `log_every` steps), `"evaluation"`, `"checkpoint"` or `"export"`.
        step: Steps done.
        total: Steps of the run.
        values: Numbers of the event, the same as in the log.
    """

    kind: str
    step: int
    total: int
    values: dict[str, Any] = field(default_factory=dict)


TrainingCallback = Callable[[TrainingEvent], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run gives back.

    Attributes:
        output_dir: Folder with the exported model; `AutoModelForSemanticSegmentation.from_pretrained` reads it.
        step: Steps done.
        exported_step: Step of the exported weights.
        best_step: Step of the best evaluation, if there was any.
        best_mean_iou: Its mean IoU.
        evaluations: One entry per evaluation: `step`, `mean_iou`, `pixel_accuracy`.
        scores: All scores of the last evaluation of this call.
        train_seconds: Time in steps, evaluations and checkpoints not counted.
        data_wait_share: Share of it spent waiting for data.
        pictures_per_second: Training speed.
    """

    output_dir: Path
    step: int
    exported_step: int
    best_step: int | None
    best_mean_iou: float | None
    evaluations: list[dict[str, float]]
    scores: SegmentationScores | None
    train_seconds: float
    data_wait_share: float
    pictures_per_second: float


def train(
    model: nn.Module,
    train_dataset: Any,
    eval_dataset: Any | None,
    recipe: TrainingRecipe,
    output_dir: str | Path,
    processor: Any | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
    callbacks: Sequence[TrainingCallback] = (),
) -> TrainingResult:
    """Trains a segmentation model and exports it.

    Works on whatever device and number of processes the script was started with (`accelerate launch`, `torchrun`,
    or plainly). The model is changed in place and ends with the exported weights. Augmentation is the data set's;
    `recipe_transforms` builds it from the recipe.

    Args:
        model: Returns an output with `loss` and `logits`, and has `save_pretrained` (ours, and transformers').
        train_dataset: Gives `pixel_values` `(3, height, width)` and `labels` `(height, width)` per index;
            `set_epoch` is called where it exists.
        eval_dataset: The same for evaluation, where `labels` may have another size; `None` = never evaluate.
        recipe: All numbers of the run.
        output_dir: Folder of the run; see `output_folder.py`.
        processor: Image processor to export with the model.
        resume: Go on with the run in `output_dir` from its newest valid checkpoint.
        overwrite: Discard the run in `output_dir`.
        show_progress: Show a progress bar (or lines, where there is no terminal) on standard error.
        callbacks: Called with every `TrainingEvent`, on the main process.

    Raises:
        FileExistsError: `output_dir` is not empty and neither `resume` nor `overwrite` was given.
        ValueError: The recipe does not fit model, data or device; a picture cannot be used.
        FloatingPointError: The loss or a weight is no longer finite.
        RuntimeError: A checkpoint could not be written.
        TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    accelerator = build_accelerator(recipe)
    output_dir = Path(output_dir)
    resumed = None
    if accelerator.is_main_process:
        resumed = open_output_folder(output_dir, resume=resume, overwrite=overwrite)
    resumed = gather_object([resumed])[0]
    run = _Run(model, train_dataset, eval_dataset, recipe, accelerator, output_dir)
    run.processor, run.callbacks = processor, callbacks
    run.start(resumed)
    show = show_progress and accelerator.is_main_process
    with TrainingDisplay(run.total, enabled=show) as display, InterruptGuard() as guard:
        run.display, run.guard = display, guard
        run.loop()
        return run.finish()


def build_accelerator(recipe: TrainingRecipe) -> Accelerator:
    """An Accelerator with the precision that the recipe asks for on this device.

    Raises:
        ValueError: The device cannot do it, or the launch configuration shards the model (FSDP, DeepSpeed).
    """
    precision = recipe.precision_on(PartialState().device)
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # Accelerate allows one precision per process; a notebook or a test trains more than one model.
        AcceleratorState._reset_state()
    # Some backbones have parameters that no output depends on (Swin's last norm).
    handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[handler])
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            f"The launch configuration asks for {accelerator.distributed_type.value}, whose sharded checkpoints this "
            "loop does not write; use plain data parallelism (MULTI_GPU), or transformers.Trainer."
        )
    return accelerator


class _Run:
    """State of one run; `train` is the door."""

    def __init__(
        self,
        model: nn.Module,
        train_dataset: Any,
        eval_dataset: Any | None,
        recipe: TrainingRecipe,
        accelerator: Accelerator,
        output_dir: Path,
    ) -> None:
        if len(train_dataset) == 0:
            raise ValueError("The training set is empty.")
        self.recipe, self.accelerator, self.output_dir = recipe, accelerator, output_dir
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.checkpoints = output_dir / CHECKPOINTS_FOLDER
        processes = accelerator.num_processes
        self.accumulation = recipe.accumulation_for(processes)
        self.total = recipe.total_iterations(len(train_dataset), num_processes=processes)
        self.progress = Progress(
            num_pictures=len(train_dataset),
            effective_batch_size=recipe.batch_size * processes * self.accumulation,
            recipe=recipe.to_dict(),
        )
        self.plain_model = model
        self.saved_step: int | None = None
        self.evaluations: list[dict[str, float]] = []
        self.scores: SegmentationScores | None = None
        self.processor: Any | None = None
        self.callbacks: Sequence[TrainingCallback] = ()
        self.display: TrainingDisplay
        self.guard: InterruptGuard
        self.log: TrainingLog | None = None
        self.ignore_index = getattr(getattr(model, "config", None), "semantic_loss_ignore_index", 255)
        self.evaluation_seconds = 0.0
        self.session_steps = 0
        self.session_seconds = 0.0

    # ---- start --------------------------------------------------------------------------------------------

    def start(self, resumed: Path | None) -> None:
        """Puts everything on the device and, when resuming, back to where it was."""
        recipe, accelerator = self.recipe, self.accelerator
        set_seed(recipe.seed, device_specific=True)
        if resumed is not None:
            self._restore_model(resumed)
        model = self.plain_model
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda" and recipe.sync_batch_norm:
            model = self.plain_model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model.to(accelerator.device)
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = build_optimizer(model, recipe)
        if resumed is not None:
            load_optimizer(resumed, optimizer, accelerator.scaler)
        self.scheduler = build_scheduler(optimizer, recipe, self.total)
        self.scheduler.last_epoch = self.progress.step
        for group, rate in zip(optimizer.param_groups, self._rates_now()):
            group["lr"] = rate
        self.average = AveragedWeights(model, recipe.ema_decay) if recipe.ema_decay else None
        if self.average is not None and resumed is not None:
            self._restore_average(self.average, resumed)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self._open_files(resumed)
        self.batches = self._batches()
        if resumed is not None:
            load_random_state(resumed, accelerator.process_index)

    def _learning_rate(self) -> float:
        return max(group["lr"] for group in self.optimizer.param_groups)

    def _rates_now(self) -> list[float]:
        scheduler = self.scheduler
        return [
            base * factor(scheduler.last_epoch)
            for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas)
        ]

    def _restore_model(self, resumed: Path) -> None:
        progress = load_progress(resumed)
        warn_of_changes(progress, self.recipe, self.progress.num_pictures, self.progress.effective_batch_size)
        load_model_weights(resumed, self.plain_model)
        progress.recipe, progress.effective_batch_size = (
            self.progress.recipe,
            self.progress.effective_batch_size,
        )
        self.progress = progress
        self.saved_step = progress.step
        self.evaluations = recorded_evaluations(self.checkpoints, until_step=progress.step)

    def _restore_average(self, average: AveragedWeights, resumed: Path) -> None:
        tensors = load_averaged(resumed)
        if tensors is not None:
            average.num_updates = self.progress.step
            average.tensors = {
                name: tensors[name].to(value.device) for name, value in average.tensors.items()
            }

    def _open_files(self, resumed: Path | None) -> None:
        if not self.accelerator.is_main_process:
            return
        size = sum(p.numel() * (3 if p.requires_grad else 1) * 4 for p in self.plain_model.parameters())
        check_free_space(self.output_dir, size, self.recipe.keep_checkpoints)
        self.recipe.to_json(self.output_dir / RECIPE_FILE)
        self.log = TrainingLog(self.output_dir / LOG_FILE, resumed_step=self.progress.step)
        if resumed is not None:
            # Without those of the steps that are about to be repeated.
            record_evaluations(self.checkpoints, self.evaluations)

    def _batches(self) -> Iterator[Any]:
        accelerator = self.accelerator
        order = StepOrder(
            len(self.train_dataset),
            self.recipe,
            accumulation=self.accumulation,
            first_step=self.progress.step,
            last_step=self.total,
            rank=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )
        loader = train_loader(
            self.train_dataset,
            order,
            num_workers=worker_count(self.recipe, PartialState().num_processes),
            ignore_index=self.ignore_index,
            pin_memory=accelerator.device.type == "cuda",
        )
        return read_batches(loader)

    # ---- the loop -----------------------------------------------------------------------------------------

    def loop(self) -> None:
        """Steps, evaluations and checkpoints until the run is over."""
        recipe, progress = self.recipe, self.progress
        eval_every = recipe.evaluation_interval(self.total)
        save_every = recipe.save_interval(self.total)
        if progress.step and self._is_due(eval_every):
            self.evaluate()  # unless the run was stopped while it evaluated, nothing happens
        window = _Window(self.accelerator.device)
        while progress.step < self.total:
            window.add(self._step(), self.progress.step)
            self._show(window)
            at_log = progress.step % recipe.log_every == 0 or progress.step == self.total
            if at_log or self._is_due(save_every) or self._is_due(eval_every):
                self._check_loss(window)
            if at_log:
                self._log_window(window)
            stop = self._should_stop(at_log)
            if self._is_due(save_every) or stop:
                self.save()
            if self._is_due(eval_every) and not stop:
                self.evaluate()
                stop = self._should_stop(at_log=True)
            if stop:
                self._raise_interrupted()

    def _is_due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.total

    def _should_stop(self, at_log: bool) -> bool:
        """Whether a signal came; with several processes they agree at the steps that are logged."""
        if self.accelerator.num_processes == 1:
            return self.guard.requested
        if not at_log:
            return False
        flag = torch.tensor([int(self.guard.requested)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item())

    def _step(self) -> Tensor:
        """One optimizer step; returns its loss on the device, not read back."""
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
            self._raise_not_finite(self.progress.step + 1, float(loss_sum))
        if self.recipe.max_gradient_norm is not None:
            accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.plain_model)
        self.progress.step += 1
        seconds = time.perf_counter() - started
        self.progress.train_seconds += seconds
        self.progress.wait_seconds += waited
        self.session_steps += 1
        self.session_seconds += seconds
        return loss_sum

    def _forward(self, batch: dict[str, Tensor]) -> Tensor:
        try:
            return self.model(**batch).loss
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"Batch normalization needs more than one value per channel, but batch_size is "
                f"{self.recipe.batch_size} and the smallest feature map has one pixel; use batch_size 2 or more."
            ) from error

    def _next_batches(self) -> list[dict[str, Tensor]]:
        device = self.accelerator.device
        try:
            batches = [next(self.batches) for _ in range(self.accumulation)]
        except (ValueError, FileNotFoundError) as error:
            if (
                self.progress.step
                and self.saved_step != self.progress.step
                and self.accelerator.num_processes == 1
            ):
                self.save()
            raise type(error)(
                f"{str(error).rstrip('.')} (at training step {self.progress.step + 1})."
            ) from error
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        for batch in batches:
            for name, value in batch.items():
                batch[name] = value.to(device, non_blocking=True)
            batch["pixel_values"] = batch["pixel_values"].contiguous(memory_format=layout)
        return batches

    # ---- what may go wrong --------------------------------------------------------------------------------

    def _check_loss(self, window: "_Window") -> None:
        step, loss = window.first_bad_step(), float("nan")
        if step is not None:
            self._raise_not_finite(step, loss)

    def _raise_not_finite(self, step: int, loss: float) -> None:
        last = newest_valid_checkpoint(self.checkpoints)
        where = f"The last good checkpoint is {last}" if last else "There is no checkpoint yet"
        raise FloatingPointError(
            f"The loss is {loss} at step {step} (learning rate {self._learning_rate():.2e}). {where}. "
            "Lower learning_rate, set max_gradient_norm (5.0 for example) or mixed_precision='no', then resume."
        )

    def _raise_interrupted(self) -> None:
        raise TrainingInterrupted(
            f"Stopped at step {self.progress.step} of {self.total}; everything is saved in {self.output_dir}. "
            "Go on with the same command and --resume (resume=True)."
        )

    # ---- evaluation, checkpoints, export ------------------------------------------------------------------

    def evaluate(self) -> None:
        """Scores the model as it would be exported now, and keeps the checkpoint if it is the best."""
        if self.eval_dataset is None or any(
            entry["step"] == self.progress.step for entry in self.evaluations
        ):
            return
        started, progress = time.perf_counter(), self.progress
        if self.average is not None:
            self.average.swap_in(self.plain_model)
        try:
            scores = evaluate_on_processes(
                self.plain_model,
                self.eval_dataset,
                self.recipe,
                self.accelerator,
                on_batch=self.display.show_evaluation,
                should_stop=lambda: self.guard.requested,
            )
        finally:
            if self.average is not None:
                self.average.swap_out(self.plain_model)
        if scores is None:  # interrupted
            self.save()
            return
        self.scores = scores
        self.evaluation_seconds = time.perf_counter() - started
        entry = {"step": progress.step, "mean_iou": scores.mean_iou, "pixel_accuracy": scores.pixel_accuracy}
        self.evaluations.append(entry)
        is_best = best_evaluation(self.evaluations) is entry
        if is_best:
            self.save()
        if self.accelerator.is_main_process:
            record_evaluations(self.checkpoints, self.evaluations)
            prune_checkpoints(self.checkpoints, self.recipe.keep_checkpoints)
        details = {
            "classes": scores.to_dict(self._class_names())["per_class"],
            "seconds": self.evaluation_seconds,
        }
        self._tell("evaluation", **entry, **details)
        self.display.show_line(
            f"step {progress.step}/{self.total}  mIoU {scores.mean_iou:.4f}  "
            f"pixel accuracy {scores.pixel_accuracy:.4f}{'  (best so far)' if is_best else ''}"
        )

    def _class_names(self) -> list[str] | None:
        names = getattr(getattr(self.plain_model, "config", None), "id2label", None)
        return None if names is None else [names[k] for k in range(len(names))]

    def save(self) -> None:
        """Writes a checkpoint of the current step, unless there is one."""
        if self.saved_step == self.progress.step:
            return
        states = gather_object([random_state()])
        if self.accelerator.is_main_process:
            self._check_weights()
            started = time.perf_counter()
            write_checkpoint(self.checkpoints, self.progress.step, lambda folder: self._fill(folder, states))
            prune_checkpoints(self.checkpoints, self.recipe.keep_checkpoints)
            self._tell("checkpoint", seconds=time.perf_counter() - started)
        self.saved_step = self.progress.step
        self.accelerator.wait_for_everyone()

    def _fill(self, folder: Path, random_states: list[dict[str, Any]]) -> None:
        self._save_model(folder)
        save_state(
            folder,
            self.progress,
            optimizer=self.optimizer.optimizer,
            random_states=random_states,
            averaged=None if self.average is None else self.average.tensors,
            scaler=self.accelerator.scaler,
        )

    def _save_model(self, folder: Path) -> None:
        model: Any = self.plain_model
        # safetensors holds contiguous tensors only.
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        with _silent_transformers():
            model.save_pretrained(folder, state_dict=state)
        if self.processor is not None:
            self.processor.save_pretrained(folder)

    def _check_weights(self) -> None:
        """A checkpoint must be good: the step's loss may be finite and its update not."""
        for name, parameter in self.plain_model.named_parameters():
            if not torch.isfinite(parameter).all():
                last = newest_valid_checkpoint(self.checkpoints)
                raise FloatingPointError(
                    f"The weight {name} is not finite after step {self.progress.step}. The last good checkpoint is "
                    f"{last}. Lower learning_rate or set max_gradient_norm, then resume."
                )

    def finish(self) -> TrainingResult:
        """Exports the chosen weights and sums the run up."""
        accelerator, progress = self.accelerator, self.progress
        accelerator.wait_for_everyone()
        exported = progress.step
        best = best_checkpoint(self.checkpoints) if self.recipe.final_weights == "best" else None
        if best is not None:
            exported = checkpoint_step(best)
            load_model_weights(best, self.plain_model, averaged=self.average is not None)
        elif self.average is not None:
            self.average.swap_in(self.plain_model)
        accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if accelerator.is_main_process:
            export_into(self.output_dir, self._save_model)
            self._tell("export", exported_step=exported)
        accelerator.wait_for_everyone()
        self.plain_model.eval()
        top = best_evaluation(self.evaluations)
        return TrainingResult(
            output_dir=self.output_dir,
            step=progress.step,
            exported_step=exported,
            best_step=None if top is None else int(top["step"]),
            best_mean_iou=None if top is None else top["mean_iou"],
            evaluations=self.evaluations,
            scores=self.scores,
            train_seconds=progress.train_seconds,
            data_wait_share=progress.wait_seconds / max(progress.train_seconds, 1e-9),
            pictures_per_second=progress.step
            * progress.effective_batch_size
            / max(progress.train_seconds, 1e-9),
        )

    # ---- what the user sees -------------------------------------------------------------------------------

    def _seconds_left(self) -> float | None:
        if not self.session_steps:
            return None
        left = (self.total - self.progress.step) * self.session_seconds / self.session_steps
        every = self.recipe.evaluation_interval(self.total)
        return left + (self.total // every - self.progress.step // every) * self.evaluation_seconds

    def _show(self, window: "_Window") -> None:
        last = self.evaluations[-1]["mean_iou"] if self.evaluations else None
        loss = window.recent_loss()
        if loss is not None or self.progress.step == self.total:
            self.display.show_step(
                self.progress.step,
                {
                    "loss": loss,
                    "mean_iou": last,
                    "learning_rate": self._learning_rate(),
                    "seconds_left": self._seconds_left(),
                },
            )

    def _log_window(self, window: "_Window") -> None:
        steps, total_loss = window.take()
        loss = self.accelerator.reduce(total_loss / max(steps, 1), reduction="mean").item()
        progress = self.progress
        self._tell(
            "step",
            loss=loss,
            learning_rate=self._learning_rate(),
            epoch=progress.step * progress.effective_batch_size / progress.num_pictures,
            pictures_per_second=self.session_steps * progress.effective_batch_size / self.session_seconds,
            data_wait_share=progress.wait_seconds / progress.train_seconds,
            train_seconds=progress.train_seconds,
        )

    def _tell(self, kind: str, **values: Any) -> None:
        """Writes a log line and calls the callbacks, on the main process."""
        if self.log is None:
            return
        values.pop("step", None)
        self.log.write(kind, self.progress.step, **values)
        for callback in self.callbacks:
            callback(TrainingEvent(kind, self.progress.step, self.total, values))


@contextlib.contextmanager
def _silent_transformers() -> Iterator[None]:
    """Without the bar per file that transformers would draw into ours."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


class _Window:
    """Loss since the last log line, kept on the device: reading it back would make the device wait."""

    def __init__(self, device: torch.device) -> None:
        self._steps = 0
        self._sum = torch.zeros((), device=device)
        self._bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self._last = torch.zeros((), device=device)
        self._shown = 0.0

    def add(self, loss: Tensor, step: int) -> None:
        self._steps += 1
        self._sum += loss
        self._last = loss
        is_first_bad = ~torch.isfinite(loss) & (self._bad_step < 0)
        self._bad_step = torch.where(is_first_bad, step, self._bad_step)

    def recent_loss(self) -> float | None:
        """The mean so far, at most twice a second: each reading waits for the device."""
        now = time.monotonic()
        if now - self._shown < 0.5:
            return None
        self._shown = now
        return float(self._sum / self._steps) if self._steps else float(self._last)

    def first_bad_step(self) -> int | None:
        step = int(self._bad_step)
        return None if step < 0 else step

    def take(self) -> tuple[int, Tensor]:
        """Number of steps and their summed loss; starts a new window."""
        steps, total = self._steps, self._sum
        self._steps, self._sum = 0, torch.zeros_like(total)
        return steps, total
