"""The door to training: one device or many through Accelerate, with exact resume."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, gather_object, parse_flag_from_env
from torch import nn

from prolab_hf.evaluation.metrics import SegmentationScores
from prolab_hf.training.checkpoints import best_evaluation, open_output_folder
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.reporting import (
    InterruptGuard,
    Reporter,
    TrainingCallback,
    TrainingDisplay,
    TrainingEvent,
    TrainingInterrupted,
)
from prolab_hf.training.training_loop import TrainingRun
from prolab_hf.training.training_state import RunStorage


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
    images_per_second: float


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

    Works on whatever device and number of processes the script was started with (`accelerate launch`,
    `torchrun`, or plainly). The model is changed in place and ends with the exported weights. Augmentation is
    the data set's; `prolab_hf.training.from_recipe` builds it from the recipe.

    Args:
        model: Returns an output with `loss` and `logits`, and has `save_pretrained`: ours, or transformers'.
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
        ValueError: The recipe does not fit model, data or device; an image cannot be used.
        FloatingPointError: The loss or a weight is no longer finite.
        RuntimeError: A checkpoint could not be written.
        TrainingInterrupted: Ctrl-C or SIGTERM; a checkpoint was written.
    """
    if len(train_dataset) == 0:
        raise ValueError("The training set is empty; check the folder and the split.")
    accelerator = build_accelerator(recipe)
    output_dir = Path(output_dir)
    total = recipe.total_iterations(len(train_dataset), num_processes=accelerator.num_processes)
    checkpoint = None
    if accelerator.is_main_process:
        checkpoint = open_output_folder(output_dir, resume=resume, overwrite=overwrite)
    checkpoint = gather_object([checkpoint])[0]
    datasets = {"train": train_dataset}
    if eval_dataset is not None:
        datasets["eval"] = eval_dataset
    show = show_progress and accelerator.is_main_process
    with TrainingDisplay(total, enabled=show) as display, InterruptGuard() as guard:
        run = TrainingRun(
            model,
            datasets,
            recipe,
            accelerator=accelerator,
            storage=RunStorage(output_dir, model, processor, accelerator, recipe.keep_checkpoints),
            reporter=Reporter(total, callbacks, display),
            guard=guard,
        )
        run.start(checkpoint)
        run.loop()
        exported_step = run.finish()
    return _result(run, output_dir, exported_step)


def _result(run: TrainingRun, output_dir: Path, exported_step: int) -> TrainingResult:
    progress, best = run.progress, best_evaluation(run.evaluations)
    seconds = max(progress.train_seconds, 1e-9)
    return TrainingResult(
        output_dir=output_dir,
        step=progress.step,
        exported_step=exported_step,
        best_step=None if best is None else int(best["step"]),
        best_mean_iou=None if best is None else best["mean_iou"],
        evaluations=run.evaluations,
        scores=run.scores,
        train_seconds=progress.train_seconds,
        data_wait_share=progress.wait_seconds / seconds,
        images_per_second=progress.step * progress.effective_batch_size / seconds,
    )


def build_accelerator(recipe: TrainingRecipe) -> Accelerator:
    """An Accelerator with the precision that the recipe asks for on this device.

    Raises:
        ValueError: The device cannot do it, or the launch configuration shards the model (FSDP, DeepSpeed).
    """
    # Without this, several processes on a machine without accelerator would each believe to be alone.
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    precision = recipe.precision_on(PartialState(cpu=use_cpu).device)
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # Accelerate allows one precision per process; a notebook or a test trains more than one model.
        AcceleratorState._reset_state()
    # Some backbones have parameters that no output depends on (Swin's last norm).
    handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[handler], cpu=use_cpu)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ValueError(
            f"{started} processes were started, but Accelerate sees {accelerator.num_processes}; "
            "start the run with `accelerate launch` or torchrun, or one process without WORLD_SIZE."
        )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(
            f"The launch configuration asks for {accelerator.distributed_type.value}, whose sharded "
            "checkpoints this loop does not write; use plain data parallelism (MULTI_GPU), or "
            "transformers.Trainer."
        )
    return accelerator


__all__ = [
    "TrainingCallback",
    "TrainingEvent",
    "TrainingInterrupted",
    "TrainingResult",
    "build_accelerator",
    "train",
]
