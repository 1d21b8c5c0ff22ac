"""Hooks of a run for `prolab_hf.solving`: the last layer in closed form before the first, after the last step."""

import importlib
import importlib.util
import logging
from types import ModuleType
from typing import Any

from accelerate import Accelerator
from torch import nn

from prolab_hf.evaluation.evaluate import count_dataset
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor
from prolab_hf.training.run_folder import export_into
from prolab_hf.training.training_loop import TrainingLoop, evaluation_settings
from prolab_hf.training.training_state import RunStorage

logger = logging.getLogger(__name__)

SOLVING = "prolab_hf.solving.solve"


def solve_before_training(
    model: nn.Module,
    dataset: ImageMaskPairs | Examples,
    processor: ImageProcessor | None,
    accelerator: Accelerator,
) -> None:
    """Puts the last layer of the model at its closed-form solution (`closed_form.init = "solve"`).

    Args:
        model: Changed in place.
        dataset: The training images, without augmentation.
        processor: The image processor.
        accelerator: Of the run; every process takes its part of the images.
    """
    solving = _solving("init", processor)
    if solving is not None:
        model.to(accelerator.device)
        solving.start_at_solution(model, dataset, processor, accelerator=accelerator)


def solve_after_training(
    loop: TrainingLoop, train_dataset: ImageMaskPairs | Examples, eval_dataset: ImageMaskPairs | Examples
) -> None:
    """Solves the last layer anew on the trained features and exports the result where it scores higher.

    Args:
        loop: The finished run, whose model holds the exported weights.
        train_dataset: The training images, without augmentation.
        eval_dataset: Images that decide.
    """
    storage, processor = loop.storage, loop.storage.processor
    solving = _solving("finish", processor)
    if solving is None:
        return

    def measure(candidate: nn.Module) -> float:
        counts, _ = count_dataset(
            candidate,
            processor,
            eval_dataset,
            evaluation_settings(loop.recipe),
            accelerator=_several(storage),
        )
        return counts.scores().mean_iou

    model = loop.state.plain_model
    found = solving.finish_by_solving(
        model, train_dataset, processor, measure, accelerator=storage.accelerator
    )
    loop.reporter.tell("solution", loop.progress.step, chosen=found.chosen, mean_iou=found.mean_iou)
    if found.model is not model and storage.accelerator.is_main_process:
        solved = RunStorage(storage.output_dir, found.model, processor, storage.accelerator, storage.keep)
        export_into(storage.output_dir, solved.write_model)


def _several(storage: RunStorage) -> Accelerator | None:
    return storage.accelerator if storage.accelerator.num_processes > 1 else None


def _solving(field: str, processor: ImageProcessor | None) -> ModuleType | Any:
    """The room that solves; `None`, with a warning, where it or the images are missing."""
    reason = "the data set gives tensors instead of images" if processor is None else ""
    if importlib.util.find_spec("prolab_hf.solving") is None:
        reason = "this version of prolab_hf cannot solve"
    if reason:
        logger.warning("closed_form.%s is 'solve', but %s: the run goes on without.", field, reason)
        return None
    return importlib.import_module(SOLVING)
