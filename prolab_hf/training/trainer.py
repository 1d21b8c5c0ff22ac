"""Training from Python: one device or many through Accelerate, with exact resume."""

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import nn

from prolab_hf.data.streaming.source import StreamingSource
from prolab_hf.data.transforms import SegmentationDataset
from prolab_hf.evaluation.evaluate import check_classes, read_batches
from prolab_hf.evaluation.inference import class_names_of
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
    # A stream has no length: whoever asks for one asks `number_of_images`.
    images = cast("ImageMaskPairs | Examples", train_dataset)
    _check_datasets(model, images, eval_dataset)
    check_early_stopping(recipe.evaluation, has_images=eval_dataset is not None)
    output_dir = Path(output_dir)
    check_output_folder(output_dir, resume=resume, overwrite=overwrite)
    accelerator = build_accelerator(recipe)
    started, total = time.monotonic(), 1
    if recipe.schedule.max_minutes is None:
        total = recipe.total_iterations(number_of_images(images), num_processes=accelerator.num_processes)
    if processor is None and not (_gives_tensors(images) and _gives_tensors(eval_dataset)):
        processor = default_processor(recipe, model)
    show = show_progress and accelerator.is_main_process
    lock = RunLock(output_dir) if accelerator.is_main_process else contextlib.nullcontext()
    adapted = adapted_for_training(model, recipe)
    with lock, TrainingDisplay(total, enabled=show) as display, InterruptGuard() as guard, adapted as words:
        checkpoint = None
        if accelerator.is_main_process:
            checkpoint = open_output_folder(output_dir, resume=resume, overwrite=overwrite)
        checkpoint = gather_object([checkpoint])[0]
        display.show_lines(words)
        recipe = planned_before(checkpoint, recipe)
        storage = RunStorage(output_dir, model, processor, accelerator, recipe.checkpoints.keep)
        guard.last_good = storage.last_good
        identity = run_identity(model, images, eval_dataset)
        progress = _fresh_progress(recipe, accelerator, number_of_images(images), identity)
        if checkpoint is not None:
            progress = _resume(checkpoint, progress, storage, accept_changes=accept_changes)
        balance = prepare_balance(
            model,
            images,
            recipe,
            output_dir,
            accelerator,
            resume=checkpoint is not None,
            skip_broken=skip_broken,
        )
        display.show_lines(balance.lines())
        examples = training_examples(
            model, images, recipe, processor, balance.rare_crops, skip_broken=skip_broken
        )
        if recipe.closed_form.init == "solve" and checkpoint is None:
            solve_before_training(model, images, processor, accelerator)
        if recipe.features.cache:
            examples = cache_features(model, examples, recipe, output_dir, accelerator, display.show_line)
        if recipe.schedule.max_minutes is not None and recipe.schedule.planned_iterations is None:
            recipe = plan_run(model, examples, eval_dataset, recipe, accelerator, processor, started=started)
            progress.recipe = recipe.to_dict()
        total = recipe.total_iterations(number_of_images(images), num_processes=accelerator.num_processes)
        display.plan(total)
        reporter = Reporter(total, callbacks, display)
        state = _start(model, examples, recipe, progress, storage, reporter, checkpoint)
        display.show_lines(_facts(state, recipe, accelerator, total, eval_dataset).lines())
        trackers = None
        if report_to and accelerator.is_main_process:
            trackers = Trackers(report_to, output_dir, recipe, step=progress.step)
            reporter.callbacks = [*reporter.callbacks, trackers]
        loop = TrainingLoop(
            state,
            recipe,
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
        if recipe.closed_form.finish is not None and eval_dataset is not None:
            solve_after_training(loop, images, eval_dataset)
    return _result(loop, output_dir, exported_step)


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


# ---- data and device --------------------------------------------------------------------------------------


def _check_datasets(
    model: nn.Module,
    train_dataset: ImageMaskPairs | Examples | StreamingSource,
    eval_dataset: ImageMaskPairs | Examples | None,
) -> None:
    if not isinstance(train_dataset, StreamingSource) and len(train_dataset) == 0:
        raise ValueError("The training set is empty; check the folder and the split.")
    config = getattr(model, "config", None)
    ours = getattr(config, "semantic_loss_ignore_index", None)
    for dataset in (train_dataset, eval_dataset):
        if dataset is None or not hasattr(config, "id2label"):
            continue
        check_classes(class_names_of(model), getattr(dataset, "class_names", None))
        theirs = getattr(dataset, "ignore_index", ours)
        if ours is not None and theirs != ours:
            raise ValueError(
                f"Void pixels of the data set have label {theirs}, but the model ignores label {ours}; set "
                f"model.config.semantic_loss_ignore_index = {theirs}."
            )


def _gives_tensors(dataset: ImageMaskPairs | Examples | StreamingSource | None) -> bool:
    if dataset is None or isinstance(dataset, SegmentationDataset):
        return True
    if isinstance(dataset, StreamingSource):
        return False
    try:
        return isinstance(dataset[0], Mapping)
    except (ValueError, OSError):  # a broken image, which the loop will name
        return False


# ---- start and resume -------------------------------------------------------------------------------------


def _fresh_progress(
    recipe: TrainingRecipe, accelerator: Accelerator, num_images: int, identity: dict[str, Any]
) -> Progress:
    processes = accelerator.num_processes
    return Progress(
        num_images=num_images,
        effective_batch_size=recipe.schedule.batch_size * processes * recipe.accumulation_for(processes),
        recipe=recipe.to_dict(),
        identity=identity,
    )


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


def _start(
    model: nn.Module,
    examples: TrainingExamples,
    recipe: TrainingRecipe,
    progress: Progress,
    storage: RunStorage,
    reporter: Reporter,
    checkpoint: Path | None,
) -> RunState:
    """Puts everything on the device and, with a checkpoint, back to where it was."""
    accelerator, total = storage.accelerator, reporter.total
    set_seed(recipe.seed, device_specific=True)
    engine = build_engine(accelerator, recipe)
    engine.start(model)
    if checkpoint is not None:
        load_optimizer(checkpoint, engine, accelerator.scaler)
        restore_average(engine, checkpoint, progress.step)
    scheduler = build_scheduler(engine.optimizer, recipe, total, first_step=progress.step)
    if accelerator.is_main_process:
        if checkpoint is not None:
            # Without those of the steps that are about to be repeated; old checkpoints may make room.
            storage.record()
        check_free_space(storage.output_dir, storage.checkpoint_bytes(), recipe.checkpoints.keep)
        recipe.to_json(storage.output_dir / RECIPE_FILE)
        reporter.log = TrainingLog(storage.output_dir / LOG_FILE, resumed_step=progress.step)
    rank, windows = accelerator.process_index, progress.loss_window
    window = LossWindow(accelerator.device, tuple(windows[rank]) if rank < len(windows) else (0.0, 0))
    batches, stream = _batches(model, examples, recipe, progress, accelerator, total)
    if checkpoint is not None:
        load_random_state(checkpoint, rank)
    return RunState(engine, scheduler, progress, batches, window, stream)


def _batches(
    model: nn.Module,
    examples: TrainingExamples,
    recipe: TrainingRecipe,
    progress: Progress,
    accelerator: Accelerator,
    total: int,
) -> tuple[Generator[TrainingBatch, None, None], StreamState | None]:
    """The batches of this process from here on; of a stream, where its readers are as well."""
    config = getattr(model, "config", None)
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
        last_step=total,
        **place,
    )
    return read_batches(train_dataloader(examples, sampler, **loading)), None


def _facts(
    state: RunState,
    recipe: TrainingRecipe,
    accelerator: Accelerator,
    total: int,
    eval_dataset: ImageMaskPairs | Examples | None,
) -> RunFacts:
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
        total=total,
        images_per_step=state.progress.effective_batch_size,
        first_step=state.progress.step,
        evaluate_every=recipe.evaluation_interval(total),
        save_every=recipe.save_interval(total),
    )


__all__ = [
    "TrainingCallback",
    "TrainingEvent",
    "TrainingInterrupted",
    "TrainingResult",
    "build_accelerator",
    "train",
]
