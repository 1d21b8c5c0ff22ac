"""How many steps fit into a time: the first steps are timed on a rehearsal, and the number is fixed once.

The rehearsal trains on the first batches of the run and is then undone, so what follows is an ordinary run of a known
length: its schedule, its evaluations and its resume are those of any other.
"""

import copy
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import Subset

from prolab_hf.evaluation.evaluate import count_dataset
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor
from prolab_hf.training.data_loading import StepSampler, TrainingExamples, train_dataloader, worker_count
from prolab_hf.training.frozen.freezing import start_training
from prolab_hf.training.optimization import build_optimizer
from prolab_hf.training.recipe import TrainingRecipe, flat_values
from prolab_hf.training.training_loop import evaluation_settings
from prolab_hf.training.training_state import load_progress

logger = logging.getLogger(__name__)

MOST_SHARE = 0.04  # of the time, for the rehearsal
LEAST_STEPS, MOST_STEPS = 3, 50  # of the rehearsal; the first one is not counted
RESERVE = 0.07  # for checkpoints, the export, and steps that take longer
EVALUATION_SHARE = 0.2  # of the time, at most, where the recipe leaves the interval open
MOST_EVALUATIONS = 10


@dataclass(frozen=True)
class Pace:
    """How fast a run goes.

    Attributes:
        step_seconds: Of an optimizer step, waiting for data included.
        evaluation_seconds: Of one evaluation of all images; 0 without.
    """

    step_seconds: float
    evaluation_seconds: float


def fit_to_time(recipe: TrainingRecipe, pace: Pace, seconds: float) -> TrainingRecipe:
    """The recipe with as many steps, and as many evaluations, as fit into a time.

    Args:
        recipe: With `schedule.max_minutes`.
        pace: Measured.
        seconds: That are left for steps, evaluations and the end.

    Raises:
        ValueError: Not even one step and one evaluation fit, or the warm-up is longer than the run.
    """
    usable = seconds * (1 - RESERVE)
    number = 0 if not pace.evaluation_seconds else MOST_EVALUATIONS
    if recipe.evaluation.every is not None and pace.evaluation_seconds:
        per_step = pace.step_seconds + pace.evaluation_seconds / recipe.evaluation.every
        steps = int(usable / per_step)
        planned = recipe.replace(**{"schedule.planned_iterations": max(steps, 1)})
    else:
        if pace.evaluation_seconds:
            number = min(number, max(1, int(EVALUATION_SHARE * usable / pace.evaluation_seconds)))
        steps = int((usable - number * pace.evaluation_seconds) / pace.step_seconds)
        planned = recipe.replace(**{"schedule.planned_iterations": max(steps, 1)})
        if number:
            planned = planned.replace(**{"evaluation.every": math.ceil(max(steps, 1) / number)})
    if steps < 1:
        raise ValueError(
            f"schedule.max_minutes is {recipe.schedule.max_minutes:g}, but a step takes {pace.step_seconds:.2g} s "
            f"and an evaluation {pace.evaluation_seconds:.2g} s here; give more time, smaller crops, or fewer "
            "evaluation images."
        )
    planned.total_iterations(1)  # refuses a warm-up that is too long
    return planned


def planned_before(checkpoint: Path | None, recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe with the number of steps that its run planned; without one where the run begins.

    Args:
        checkpoint: That the run goes on from, if it does.
        recipe: Of now.
    """
    if recipe.schedule.max_minutes is None:
        return recipe
    if checkpoint is None:
        return recipe.replace(**{"schedule.planned_iterations": None})
    saved = flat_values(load_progress(checkpoint).recipe)
    planned = saved.get("schedule.planned_iterations")
    if planned is None:
        return recipe
    recipe = recipe.replace(**{"schedule.planned_iterations": planned})
    if recipe.evaluation.every is None:
        recipe = recipe.replace(**{"evaluation.every": saved.get("evaluation.every")})
    return recipe


def plan_run(
    model: nn.Module,
    examples: TrainingExamples,
    eval_dataset: ImageMaskPairs | Examples | None,
    recipe: TrainingRecipe,
    accelerator: Accelerator,
    processor: ImageProcessor | None,
    *,
    started: float,
) -> TrainingRecipe:
    """Times the first steps and fixes the number of all.

    The model's weights and statistics come back as they were. Of several processes the slowest counts; what they
    exchange is not timed, which the reserve has to cover.

    Args:
        model: Not wrapped.
        examples: Of the run.
        eval_dataset: Images to measure on; `None` = never.
        recipe: With `schedule.max_minutes`.
        accelerator: Of the run; every process must call this.
        processor: The image processor.
        started: `time.monotonic()` when the time began.

    Raises:
        ValueError: The time is too short for a step and an evaluation.
    """
    limit = 60 * float(recipe.schedule.max_minutes or 0)
    model.to(accelerator.device)
    if recipe.device.channels_last:
        model.to(memory_format=torch.channels_last)
    saved = {name: value.detach().clone() for name, value in model.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=_cuda_devices(accelerator)):
            pace = Pace(
                _step_seconds(model, examples, recipe, accelerator, MOST_SHARE * limit),
                _evaluation_seconds(model, eval_dataset, recipe, processor),
            )
    finally:
        model.load_state_dict(saved)
        model.zero_grad(set_to_none=True)
    paces = gather_object([(pace.step_seconds, pace.evaluation_seconds, time.monotonic() - started)])
    slowest = [max(part[k] for part in paces) for k in range(3)]
    planned = fit_to_time(recipe, Pace(*slowest[:2]), limit - slowest[2])
    if accelerator.is_main_process:
        logger.info(
            "%g minutes: %d steps of %.2g s, evaluations of %.2g s every %s steps.",
            recipe.schedule.max_minutes,
            planned.schedule.planned_iterations,
            *slowest[:2],
            planned.evaluation.every,
        )
    return planned


def _cuda_devices(accelerator: Accelerator) -> list[torch.device]:
    return [accelerator.device] if accelerator.device.type == "cuda" else []


def _step_seconds(
    model: nn.Module,
    examples: TrainingExamples,
    recipe: TrainingRecipe,
    accelerator: Accelerator,
    limit: float,
) -> float:
    accumulation = recipe.accumulation_for(accelerator.num_processes)
    sampler = StepSampler(
        len(examples),
        recipe,
        accumulation=accumulation,
        first_step=0,
        last_step=MOST_STEPS,
        rank=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    config: Any = getattr(model, "config", None)
    loader = train_dataloader(
        copy.copy(examples),
        sampler,
        num_workers=worker_count(recipe, accelerator.num_processes),
        ignore_index=getattr(config, "semantic_loss_ignore_index", 255),
    )
    optimizer = build_optimizer(model, recipe)
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the arithmetic of a step without its effect
    start_training(model)
    times: list[float] = []
    batches = iter(loader)
    while len(times) < MOST_STEPS and (len(times) < LEAST_STEPS or sum(times) < limit):
        begun = time.perf_counter()
        for _ in range(accumulation):
            tensors = {name: value.to(accelerator.device) for name, value in next(batches).tensors.items()}
            with accelerator.autocast():
                loss = model(**tensors).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for the device
        times.append(time.perf_counter() - begun)
    del batches
    counted = times[1:]
    return sum(counted) / len(counted)


def _evaluation_seconds(
    model: nn.Module,
    dataset: ImageMaskPairs | Examples | None,
    recipe: TrainingRecipe,
    processor: ImageProcessor | None,
) -> float:
    if dataset is None or not len(dataset):
        return 0.0
    times = []
    few: Any = dataset
    for index in range(min(2, len(dataset))):
        begun = time.perf_counter()
        count_dataset(model, processor, Subset(few, [index]), evaluation_settings(recipe), num_workers=0)
        times.append(time.perf_counter() - begun)
    return min(times) * len(dataset)
