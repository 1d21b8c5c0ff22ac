"""From the way a run was launched (`accelerate launch`, torchrun, plainly) to its Accelerator and its engine."""

import logging
import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, parse_flag_from_env

from prolab_hf.training.engines.engine import Engine
from prolab_hf.training.engines.mixed_precision import precision_on
from prolab_hf.training.recipe import TrainingRecipe

logger = logging.getLogger(__name__)


def build_accelerator(recipe: TrainingRecipe) -> Accelerator:
    """An Accelerator with the precision that the recipe asks for on this device.

    Raises:
        ValueError: The device cannot do it, or Accelerate does not see all processes.
    """
    # Without this, several processes on a machine without accelerator would each believe to be alone.
    use_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    precision = precision_on(PartialState(cpu=use_cpu).device, recipe.device.mixed_precision)
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
    return accelerator


def build_engine(accelerator: Accelerator, recipe: TrainingRecipe) -> Engine:
    """How the launch configuration wants the model to lie over the processes.

    Args:
        accelerator: Of the run.
        recipe: Of the run.
    """
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP or _is_asked_on_cpu("FSDP", accelerator):
        from prolab_hf.training.engines.fsdp import FsdpEngine

        return FsdpEngine(accelerator, recipe)
    if kind == DistributedType.DEEPSPEED or _is_asked_on_cpu("DEEPSPEED", accelerator):
        from prolab_hf.training.engines.deepspeed import DeepSpeedEngine

        return DeepSpeedEngine(accelerator, recipe)
    asked = [name for name in ("FSDP", "DEEPSPEED") if parse_flag_from_env(f"ACCELERATE_USE_{name}")]
    if asked and accelerator.is_main_process:
        logger.warning(
            "The launch configuration asks for %s, but there is one process on this device (%s): it holds the whole "
            "model.",
            asked[0],
            accelerator.device.type,
        )
    return Engine(accelerator, recipe)


def _is_asked_on_cpu(name: str, accelerator: Accelerator) -> bool:
    """Whether the launch configuration asks for parts, of which Accelerate takes no notice on CPUs."""
    return (
        parse_flag_from_env(f"ACCELERATE_USE_{name}")
        and accelerator.distributed_type == DistributedType.MULTI_CPU
    )
