"""Training from Python: one device or many through Accelerate, with exact resume."""

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import nn

from prolab_hf.data.streaming.source import StreamingSource
from prolab_hf.evaluation.evaluate import read_batches
from prolab_hf.evaluation.metrics import SegmentationScores
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor
from prolab_hf.training.balance.class_balance import prepare_balance
from prolab_hf.training.checkpoints import (
    Evaluation,
    best_evaluation,
    check_free_space,
    earlier_evaluations,
)
from prolab_hf.training.data_loading import (
    StepSampler,
    TrainingBatch,
    TrainingExamples,
    checked_images,
    gives_tensors,
    number_of_images,
    train_dataloader,
    worker_count,
)
from prolab_hf.training.engines.launching import build_accelerator, build_engine
from prolab_hf.training.engines.parts import PartsEngine
from prolab_hf.training.from_recipe import (
    default_processor,
    solve_after_training,
    solve_before_training,
    training_examples,
)
from prolab_hf.training.frozen.adaptation import adapted_for_training
from prolab_hf.training.frozen.feature_cache import cache_features
from prolab_hf.training.length.early_stopping import check_early_stopping
from prolab_hf.training.length.time_budget import plan_run, planned_before
from prolab_hf.training.optimization import build_scheduler
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.reporting import (
    InterruptGuard,
    Reporter,
    RunFacts,
    TrainingCallback,
    TrainingDisplay,
    TrainingEvent,
    TrainingInterrupted,
    TrainingLog,
)
from prolab_hf.training.run_folder import (
    LOG_FILE,
    RECIPE_FILE,
    RunLock,
    check_changes,
    check_output_folder,
    open_output_folder,
    run_identity,
)
from prolab_hf.training.stream_loading import StreamState, check_stream, stream_batches
from prolab_hf.training.tracking.loss_window import LossWindow
from prolab_hf.training.tracking.trackers import Trackers, check_trackers
from prolab_hf.training.training_loop import RunState, TrainingLoop
from prolab_hf.training.training_state import (
    Progress,
    RunStorage,
    load_model_weights,
    load_optimizer,
    load_progress,
    load_random_state,
    restore_average,
)


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run gives back.

    Attributes:
        output_dir: Folder with the exported model; `from_pretrained` of the Auto classes reads it.
        step: Steps done.
        exported_step: Step of the exported weights.
        best_step: Step of the best evaluation, if there was any.
        best_mean_iou: Its mean IoU.
        solved_mean_iou: Mean IoU where the last layer was solved at the end (`closed_form.finish`).
        evaluations: One entry per evaluation: `step`, `mean_iou`, `pixel_accuracy`.
        scores: All scores of the last evaluation of this call.
        train_seconds: Time in steps, evaluations and checkpoints not counted.
        data_wait_share: Share of it spent waiting for data.
        images_per_second: Training speed.
        skipped: Broken images that were left out (`skip_broken`).
    """

    output_dir: Path
    step: int
    exported_step: int
    best_step: int | None
    best_mean_iou: float | None
    evaluations: list[Evaluation]
    scores: SegmentationScores | None
    train_seconds: float
    data_wait_share: float
    images_per_second: float
    skipped: list[str]
    solved_mean_iou: float | None = None


def train(
    model: nn.Module,
    train_dataset: ImageMaskPairs | Examples | StreamingSource,
    eval_dataset: ImageMaskPairs | Examples | None,
    *,
    recipe: TrainingRecipe,
    output_dir: str | Path,
    processor: ImageProcessor | None = None,
    resume: bool = False,
    overwrite: bool = False,
    accept_changes: bool = False,
    skip_broken: bool = False,
    show_progress: bool = True,
    callbacks: Sequence[TrainingCallback] = (),
    report_to: Sequence[str] = (),
) -> TrainingResult:
    """Trains a segmentation model and exports it.

    Works on whatever device and number of processes the script was started with (`accelerate launch`,
    `torchrun`, or plainly). The model is changed in place and ends with the exported weights. Images are augmented
    as the recipe says, and measured as the exported model will be: the best score equals what
    `prolab_hf.evaluate` gives for it.

    Args:
        model: Returns an output with `loss` and `logits`, and has `save_pretrained`: ours, or transformers'.
        train_dataset: Anything with `len()` and `[i]` that gives a `Sample` or a pair (image, mask of class ids).
            A mapping of `pixel_values` and `labels` is taken as it is, for augmentation of your own; `set_epoch`
            is called where it exists. Or a `StreamingSource`, which is never downloaded as a whole.
        eval_dataset: The same for evaluation; `None` = never evaluate.
        recipe: All numbers of the run.
        output_dir: Folder of the run: checkpoints, log, recipe, and in the end the model.
        processor: Image processor that prepares evaluation images and is exported with the model; that of the recipe
            by default.
        resume: Go on with the run in `output_dir` from its newest valid checkpoint.
        overwrite: Discard the run in `output_dir`; files that no run wrote stay.
        accept_changes: Resume although data or classes are not those that the run was started with.
        skip_broken: Take the next image instead of one that cannot be decoded, and list it, instead of stopping.
        show_progress: Show a progress bar (or lines, where there is no terminal) on standard error.
        callbacks: Called with every `TrainingEvent`, on the main process.
        report_to: Trackers that are told as well: `tensorboard`, `trackio`, `wandb`, `mlflow`, `aim`. They are shown
            the numbers of the log, and predictions at evaluations.

    Raises:
        FileExistsError: `output_dir` is not empty and neither `resume` nor `overwrite` was given, or another run is
            writing there.
        ValueError: The recipe does not fit model, data or device; an image cannot be used; the run to resume had
            other data or classes.
        FloatingPointError: The loss or a weight is no longer finite; the images of the step are named.
        RuntimeError: A checkpoint could not be written.
        ImportError: A tracker is not installed.
        TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    check_trackers(report_to)
    if isinstance(train_dataset, StreamingSource):
        check_stream(recipe)
    images = checked_images(model, train_dataset, eval_dataset)
    check_early_stopping(recipe.evaluation, has_images=eval_dataset is not None)
    output_dir = Path(output_dir)
    check_output_folder(output_dir, resume=resume, overwrite=overwrite)
    accelerator, started = build_accelerator(recipe), time.monotonic()
    if processor is None and not (gives_tensors(images) and gives_tensors(eval_dataset)):
        processor = default_processor(recipe, model)
    show = show_progress and accelerator.is_main_process
    total, processes = 1, accelerator.num_processes
    if recipe.schedule.max_minutes is None:
        total = recipe.total_iterations(number_of_images(images), num_processes=processes)
    display = TrainingDisplay(total, enabled=show)
    lock = RunLock(output_dir) if accelerator.is_main_process else contextlib.nullcontext()
    with lock, display, InterruptGuard() as guard, adapted_for_training(model, recipe) as words:
        checkpoint = _open_folder(output_dir, accelerator, resume=resume, overwrite=overwrite)
        display.show_lines(words)
        recipe = planned_before(checkpoint, recipe)
        storage = RunStorage(output_dir, model, processor, accelerator, recipe.checkpoints.keep)
        guard.last_good = storage.last_good
        run = _Run(model, images, eval_dataset, recipe, storage, display, checkpoint, skip_broken)
        progress = _progress(run, accept_changes=accept_changes)
        examples = _prepare_examples(run)
        _plan_length(run, examples, progress, started)
        display.plan(run.total)
        reporter = Reporter(run.total, callbacks, display)
        state = _start(run, examples, progress, reporter)
        display.show_lines(_facts(run, state).lines())
        trackers = _open_trackers(run, reporter, report_to, step=progress.step)
        loop = TrainingLoop(
            state,
            run.recipe,
            eval_dataset,
            accelerator=accelerator,
            storage=storage,
            reporter=reporter,
            guard=guard,
            skip_broken=skip_broken,
            trackers=trackers,
        )
        with contextlib.closing(state.batches), trackers or contextlib.nullcontext():
            exported_step = loop.run()
        solved = solve_after_training(loop, images, eval_dataset)
    return replace(_result(loop, output_dir, exported_step), solved_mean_iou=solved)


@dataclass
class _Run:
    """What the steps of `train` share, from the open folder to the loop.

    Attributes:
        model: The user's, changed in place.
        images: To train on; a `StreamingSource` too, of which nobody asks the length.
        eval_dataset: To measure on; `None` = never.
        recipe: All numbers; with the number of steps, once it is planned.
        storage: Where the run is stored; knows the image processor and the Accelerator.
        display: Who shows it.
        checkpoint: That it goes on from; `None` at its beginning.
        skip_broken: Leave out images that cannot be decoded.
    """

    model: nn.Module
    images: ImageMaskPairs | Examples
    eval_dataset: ImageMaskPairs | Examples | None
    recipe: TrainingRecipe
    storage: RunStorage
    display: TrainingDisplay
    checkpoint: Path | None
    skip_broken: bool

    @property
    def accelerator(self) -> Accelerator:
        """Device and processes."""
        return self.storage.accelerator

    @property
    def processor(self) -> ImageProcessor | None:
        """Prepares images."""
        return self.storage.processor

    @property
    def num_images(self) -> int:
        """Of the training set."""
        return number_of_images(self.images)

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.recipe.total_iterations(self.num_images, num_processes=self.accelerator.num_processes)


def _result(loop: TrainingLoop, output_dir: Path, exported_step: int) -> TrainingResult:
    progress, evaluations = loop.progress, loop.storage.evaluations
    best, seconds = best_evaluation(evaluations), max(progress.train_seconds, 1e-9)
    return TrainingResult(
        output_dir=output_dir,
        step=progress.step,
        exported_step=exported_step,
        best_step=None if best is None else int(best["step"]),
        best_mean_iou=None if best is None else best["mean_iou"],
        evaluations=evaluations,
        scores=loop.scores,
        train_seconds=progress.train_seconds,
        data_wait_share=progress.wait_seconds / seconds,
        images_per_second=progress.step * progress.effective_batch_size / seconds,
        skipped=loop.skipped,
    )


# ---- start and resume -------------------------------------------------------------------------------------


def _open_folder(output_dir: Path, accelerator: Accelerator, *, resume: bool, overwrite: bool) -> Path | None:
    """Opens the folder of the run on the main process; every process learns the checkpoint to go on from."""
    checkpoint = None
    if accelerator.is_main_process:
        checkpoint = open_output_folder(output_dir, resume=resume, overwrite=overwrite)
    found: Path | None = gather_object([checkpoint])[0]
    return found


def _progress(run: _Run, *, accept_changes: bool) -> Progress:
    """How far the run is; with a checkpoint, model and evaluations are put back to where they were."""
    recipe, processes = run.recipe, run.accelerator.num_processes
    fresh = Progress(
        num_images=run.num_images,
        effective_batch_size=recipe.schedule.batch_size * processes * recipe.accumulation_for(processes),
        recipe=recipe.to_dict(),
        identity=run_identity(run.model, run.images, run.eval_dataset),
    )
    if run.checkpoint is None:
        return fresh
    return _resume(run.checkpoint, fresh, run.storage, accept_changes=accept_changes)


def _resume(checkpoint: Path, fresh: Progress, storage: RunStorage, *, accept_changes: bool) -> Progress:
    """Model, progress and evaluations as they were; the numbers of the recipe are those of now."""
    saved = load_progress(checkpoint)
    changed = check_changes(saved, fresh, accept_changes=accept_changes)
    model: Any = storage.model
    space = getattr(model, "property_space", None) if changed else None
    load_model_weights(checkpoint, model)
    if space is not None:
        model.set_property_space(space)  # the checkpoint's vectors belong to the classes of before
    storage.saved_step, storage.resumed_from = saved.step, checkpoint
    log = storage.output_dir / LOG_FILE
    storage.evaluations = earlier_evaluations(storage.root, log, saved.evaluations, until_step=saved.step)
    saved.recipe, saved.effective_batch_size = fresh.recipe, fresh.effective_batch_size
    saved.identity, saved.num_images = fresh.identity, fresh.num_images
    return saved


def _prepare_examples(run: _Run) -> TrainingExamples:
    """What the run trains on: classes counted, augmentation, the solved start, cached features."""
    recipe, output_dir, accelerator = run.recipe, run.storage.output_dir, run.accelerator
    balance = prepare_balance(
        run.model,
        run.images,
        recipe,
        output_dir,
        accelerator,
        resume=run.checkpoint is not None,
        skip_broken=run.skip_broken,
    )
    run.display.show_lines(balance.lines())
    examples = training_examples(
        run.model, run.images, recipe, run.processor, balance.rare_crops, skip_broken=run.skip_broken
    )
    if recipe.closed_form.init == "solve" and run.checkpoint is None:
        solve_before_training(run.model, run.images, run.processor, accelerator)
    if recipe.features.cache:
        examples = cache_features(run.model, examples, recipe, output_dir, accelerator, run.display.show_line)
    return examples


def _plan_length(run: _Run, examples: TrainingExamples, progress: Progress, started: float) -> None:
    """Finds how many steps fit into the minutes of the recipe, where it has any and they are not planned yet."""
    schedule = run.recipe.schedule
    if schedule.max_minutes is None or schedule.planned_iterations is not None:
        return
    run.recipe = plan_run(
        run.model, examples, run.eval_dataset, run.recipe, run.accelerator, run.processor, started=started
    )
    progress.recipe = run.recipe.to_dict()


def _start(run: _Run, examples: TrainingExamples, progress: Progress, reporter: Reporter) -> RunState:
    """Puts everything on the device and, with a checkpoint, back to where it was."""
    recipe, storage, accelerator, checkpoint = run.recipe, run.storage, run.accelerator, run.checkpoint
    set_seed(recipe.seed, device_specific=True)
    engine = build_engine(accelerator, recipe)
    engine.start(run.model)
    if checkpoint is not None:
        load_optimizer(checkpoint, engine, accelerator.scaler)
        restore_average(engine, checkpoint, progress.step)
    scheduler = build_scheduler(engine.optimizer, recipe, run.total, first_step=progress.step)
    if accelerator.is_main_process:
        if checkpoint is not None:
            # Without those of the steps that are about to be repeated; old checkpoints may make room.
            storage.record()
        check_free_space(storage.output_dir, storage.checkpoint_bytes(), recipe.checkpoints.keep)
        recipe.to_json(storage.output_dir / RECIPE_FILE)
        reporter.log = TrainingLog(storage.output_dir / LOG_FILE, resumed_step=progress.step)
    rank, windows = accelerator.process_index, progress.loss_window
    window = LossWindow(accelerator.device, tuple(windows[rank]) if rank < len(windows) else (0.0, 0))
    batches, stream = _batches(run, examples, progress)
    if checkpoint is not None:
        load_random_state(checkpoint, rank)
    return RunState(engine, scheduler, progress, batches, window, stream)


def _batches(
    run: _Run, examples: TrainingExamples, progress: Progress
) -> tuple[Generator[TrainingBatch, None, None], StreamState | None]:
    """The batches of this process from here on; of a stream, where its readers are as well."""
    recipe, accelerator = run.recipe, run.accelerator
    config = getattr(run.model, "config", None)
    place = {"rank": accelerator.process_index, "num_processes": accelerator.num_processes}
    loading: dict[str, Any] = {
        "num_workers": worker_count(recipe, accelerator.num_processes),
        "ignore_index": getattr(config, "semantic_loss_ignore_index", 255),
        "count_void": getattr(config, "void_pixels", "mask") == "dilute",
        "pin_memory": accelerator.device.type == "cuda",
    }
    if isinstance(examples.dataset, StreamingSource) and examples.transform is not None:
        stream, transform, broken = examples.dataset, examples.transform, examples.skip_broken
        return stream_batches(
            stream, transform, recipe, progress.stream, **place, **loading, skip_broken=broken
        )
    sampler = StepSampler(
        progress.num_images,
        recipe,
        accumulation=recipe.accumulation_for(accelerator.num_processes),
        first_step=progress.step,
        last_step=run.total,
        **place,
    )
    return read_batches(train_dataloader(examples, sampler, **loading)), None


def _open_trackers(run: _Run, reporter: Reporter, report_to: Sequence[str], *, step: int) -> Trackers | None:
    """Trackers on the main process, where any were asked for; the reporter tells them from here on."""
    if not report_to or not run.accelerator.is_main_process:
        return None
    trackers = Trackers(report_to, run.storage.output_dir, run.recipe, step=step)
    reporter.callbacks = [*reporter.callbacks, trackers]
    return trackers


def _facts(run: _Run, state: RunState) -> RunFacts:
    recipe, accelerator, eval_dataset = run.recipe, run.accelerator, run.eval_dataset
    device = accelerator.device
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    processes = f"{accelerator.num_processes} x " if accelerator.num_processes > 1 else ""
    parts = f", in parts by {state.engine.name}" if isinstance(state.engine, PartsEngine) else ""
    precision = {"no": "full precision"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    labels = getattr(getattr(state.plain_model, "config", None), "num_labels", None)
    return RunFacts(
        device=f"{processes}{device.type} ({name}), {precision}{parts}",
        num_images=state.progress.num_images,
        num_eval_images=0 if eval_dataset is None else len(eval_dataset),
        num_labels=labels,
        total=run.total,
        images_per_step=state.progress.effective_batch_size,
        first_step=state.progress.step,
        evaluate_every=recipe.evaluation_interval(run.total),
        save_every=recipe.save_interval(run.total),
    )


__all__ = [
    "TrainingCallback",
    "TrainingEvent",
    "TrainingInterrupted",
    "TrainingResult",
    "build_accelerator",
    "train",
]
