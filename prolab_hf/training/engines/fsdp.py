"""FSDP2: weights, gradients and optimizer in parts, by torch's `fully_shard`, through Accelerate where it allows it."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from prolab_hf.training.engines.engine import OptimizerState, agreed_first
from prolab_hf.training.engines.parts import PartsEngine
from prolab_hf.training.optimization import AveragedWeights, build_optimizer


class FsdpEngine(PartsEngine):
    """A model in parts by FSDP2.

    Accelerate prepares the model on accelerators. On CPUs it declines to, and torch's own `fully_shard` is called with
    the same wrapping policy: slow, but the same parts, which is how it is tested.

    Raises:
        ValueError: The launch configuration asks for version 1 of FSDP, or for loading that leaves the other
            processes without weights.
    """

    name = "FSDP2"

    def start(self, model: nn.Module) -> None:
        """Cuts a copy of the model into parts, and builds the optimizer over them."""
        plugin = self._plugin()
        working = self.working_copy(model)
        if self.accelerator.is_fsdp2:
            self.optimizer = build_optimizer(working, self.recipe)
            self.model, self._prepared = self.accelerator.prepare(working, self.optimizer)
        else:
            plugin.set_auto_wrap_policy(working)
            _shard(working, plugin)
            self.optimizer = build_optimizer(working, self.recipe)
            # Not wrapped for data parallelism ("evaluation_mode"), but with the run's precision.
            self.model = self.accelerator.prepare_model(working, evaluation_mode=True)
            self._prepared = self.accelerator.prepare_optimizer(self.optimizer)
        decay = self.recipe.optimizer.ema_decay
        self.average = AveragedWeights(working, decay) if decay else None

    def _plugin(self) -> FullyShardedDataParallelPlugin:
        if self.accelerator.is_fsdp2:
            plugin: FullyShardedDataParallelPlugin = self.accelerator.state.fsdp_plugin
        else:
            plugin = FullyShardedDataParallelPlugin()
        if plugin.fsdp_version != 2:
            raise ValueError(
                f"The launch configuration asks for version {plugin.fsdp_version} of FSDP; set fsdp_version: 2 in "
                "fsdp_config (--fsdp_version 2)."
            )
        if plugin.cpu_ram_efficient_loading:
            raise ValueError(
                "The launch configuration sets fsdp_cpu_ram_efficient_loading: true, which leaves all processes but "
                "one without weights to start from; set it to false."
            )
        return plugin

    @contextlib.contextmanager
    def accumulating(self, *, is_last: bool) -> Iterator[None]:
        """Around forward and backward pass: parts of gradients are exchanged in the last pass of a step only."""
        working: Any = self.working
        working.set_requires_gradient_sync(is_last)
        try:
            yield
        finally:
            working.set_requires_gradient_sync(True)

    def whole_tensors(self, *, averaged: bool) -> Iterator[tuple[str, Tensor]]:
        """Name and content of every tensor of the model, gathered one after the other."""
        tensors = self.average.tensors if averaged and self.average is not None else {}
        for name, value in self.working.state_dict().items():
            value = tensors.get(name, value)
            yield name, value.full_tensor() if isinstance(value, DTensor) else value

    def set_averaged_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Takes averaged weights back, each process its parts."""
        if self.average is None:
            return
        self.average.num_updates = step
        for name, value in self.average.tensors.items():
            whole = tensors[name].to(value.device, value.dtype)
            if isinstance(value, DTensor):
                whole = distribute_tensor(whole, value.device_mesh, value.placements)
            value.copy_(whole)

    def first_bad_weight(self) -> str | None:
        """Name of the first weight that is not finite in the part of any process."""
        return agreed_first(
            next(
                (name for name, value in self.working.named_parameters() if not _part_is_finite(value)), None
            )
        )

    def optimizer_state(self) -> OptimizerState:
        """State of the optimizer, gathered by torch's distributed checkpoint; empty but on the main process."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        named = get_optimizer_state_dict(self.working, self.optimizer, options=options)
        return _numbered(named)

    def load_optimizer_state(self, state: OptimizerState) -> None:
        """Takes a whole state back, each process its parts."""
        names = {parameter: name for name, parameter in self.working.named_parameters()}
        groups = [
            {**group, "params": [names[member] for member in group["params"]]}
            for group in self.optimizer.param_groups
        ]
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        set_optimizer_state_dict(
            self.working, self.optimizer, optim_state_dict=_named(state, groups), options=options
        )


def _shard(model: nn.Module, plugin: FullyShardedDataParallelPlugin) -> None:
    """Cuts the modules that the policy names, children first, and then the rest of the model."""
    is_unit = fsdp2_prepare_auto_wrap_policy(plugin, model)
    options = {"reshard_after_forward": plugin.reshard_after_forward}
    for module in reversed(list(model.modules())[1:]):
        if is_unit is not None and is_unit(module):
            fully_shard(module, **options)
    fully_shard(model, **options)


def _part_is_finite(parameter: Tensor) -> bool:
    part = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    return bool(torch.isfinite(part).all())


def _numbered(named: OptimizerState) -> OptimizerState:
    """A state by parameter names as `torch.optim` has it: by running number over the groups."""
    numbered: OptimizerState = {"state": {}, "param_groups": []}
    number = 0
    for group in named.get("param_groups", []):
        names = group["params"]
        for place, name in enumerate(names, start=number):
            if name in named["state"]:
                numbered["state"][place] = named["state"][name]
        places = list(range(number, number + len(names)))
        numbered["param_groups"].append({**group, "params": places})
        number += len(names)
    return numbered


def _named(state: OptimizerState, groups: list[dict[str, Any]]) -> OptimizerState:
    """The inverse of `_numbered`, with the rates of now.

    Args:
        state: By running number.
        groups: Groups of the optimizer, with the names of their parameters.

    Raises:
        ValueError: There are other groups, or groups of another size, than those that were saved.
    """
    saved, now = ([len(group["params"]) for group in given] for given in (state["param_groups"], groups))
    if saved != now:
        raise ValueError(f"it has groups of {saved} parameters, this one of {now}")
    names = [name for group in groups for name in group["params"]]
    return {
        "state": {names[number]: dict(entry) for number, entry in state["state"].items()},
        "param_groups": groups,
    }
