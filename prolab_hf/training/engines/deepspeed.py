"""DeepSpeed ZeRO-2 and ZeRO-3: optimizer and gradients (2), and weights as well (3), in parts."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import DeepSpeedPlugin
from torch import Tensor, nn

from prolab_hf.training.engines.engine import OptimizerState, agreed_first
from prolab_hf.training.engines.parts import PartsEngine
from prolab_hf.training.optimization import AveragedWeights, build_optimizer

MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW


class DeepSpeedEngine(PartsEngine):
    """A model in parts by DeepSpeed ZeRO, stage 2 or 3.

    Accelerate prepares the model on accelerators; on CPUs it takes every process for the only one, and DeepSpeed's own
    `initialize` is called with the same configuration.

    Args:
        accelerator: Of the run.
        recipe: Optimizer and precision.

    Raises:
        ValueError: The launch configuration asks for something that this loop does not do with DeepSpeed.
    """

    name = "DeepSpeed ZeRO"

    def start(self, model: nn.Module) -> None:
        """Cuts a copy of the model into parts, and builds the optimizer over them."""
        accelerated = self.accelerator.state.deepspeed_plugins is not None
        plugin = self.accelerator.deepspeed_plugin if accelerated else DeepSpeedPlugin()
        config = self._configuration(plugin)
        if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
            raise ValueError(
                "The model is in parts already, because the launch configuration sets zero3_init_flag: true; set it to "
                "false, or build the model before the Accelerator."
            )
        working = self.working_copy(model)
        self._names = {parameter: name for name, parameter in working.named_parameters()}
        self.optimizer = build_optimizer(working, self.recipe)
        # DeepSpeed replaces the members of the groups by parts.
        self._groups = [
            [self._names[member] for member in group["params"]] for group in self.optimizer.param_groups
        ]
        whole = {name: value.detach().float() for name, value in model.named_parameters()}
        if accelerated:
            self.engine, _ = self.accelerator.prepare(working, self.optimizer)
        else:
            import deepspeed

            self.engine, *_ = deepspeed.initialize(model=working, optimizer=self.optimizer, config=config)
        self.model = self.engine
        self._set_masters(whole)
        decay = self.recipe.optimizer.ema_decay
        self.average = _AveragedParts(self.working, decay, self.stage) if decay else None

    def _configuration(self, plugin: DeepSpeedPlugin) -> dict[str, Any]:
        config: dict[str, Any] = plugin.deepspeed_config
        self.stage = int(config["zero_optimization"]["stage"])
        if self.stage not in (2, 3):
            raise ValueError(
                f"The launch configuration asks for ZeRO stage {self.stage}; set zero_stage: 2 or 3."
            )
        for part in ("offload_optimizer", "offload_param"):
            device = (config["zero_optimization"].get(part) or {}).get("device", "none")
            if device not in ("none", None):
                raise ValueError(f"The launch configuration sets {part}_device: {device}; set it to none.")
        passes = self.recipe.accumulation_for(self.accelerator.num_processes)
        config.pop("train_batch_size", None)  # follows
        config["train_micro_batch_size_per_gpu"] = self.recipe.schedule.batch_size
        config["gradient_accumulation_steps"] = passes
        config["gradient_clipping"] = self.recipe.optimizer.max_gradient_norm or 0.0
        config["zero_allow_untested_optimizer"] = True
        return config

    # ---- steps --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def accumulating(self, *, is_last: bool) -> Iterator[None]:
        """Around forward and backward pass; DeepSpeed wants to know before which pass is the last."""
        self.engine.set_gradient_accumulation_boundary(is_last)
        yield

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds the gradients of one pass."""
        self.engine.backward(loss, scale_wrt_gas=False)

    def step(self) -> None:
        """Clips the gradients, moves the weights and their average, and forgets the gradients."""
        self.engine.step()
        self.update_average()

    # ---- weights ------------------------------------------------------------------------------------------

    def _set_masters(self, whole: dict[str, Tensor]) -> None:
        """The full-precision weights as they were given: DeepSpeed makes them from what may be half precision."""
        for parameter, name in self._names.items():
            if parameter.requires_grad:
                self._set_part(parameter, whole[name], None)

    def _set_part(self, parameter: nn.Parameter, value: Tensor, moment: str | None) -> None:
        """Takes this process's part of a weight, or of one of its moments."""
        from deepspeed import utils

        value = value.to(self.accelerator.device, torch.float32)
        if self.stage == 3:
            part = _part_of(value, parameter, self.accelerator.process_index)
            if moment is None:
                utils.safe_set_local_fp32_param(parameter, part)
            else:
                utils.safe_set_local_optimizer_state(parameter, part, moment)
        elif moment is None:
            utils.safe_set_full_fp32_param(parameter, value)
        else:
            utils.safe_set_full_optimizer_state(parameter, value, moment)

    def whole_tensors(self, *, averaged: bool) -> Iterator[tuple[str, Tensor]]:
        """Name and content of every tensor of the model, gathered one after the other."""
        import deepspeed

        tensors = self.average.tensors if averaged and self.average is not None else {}
        for name, value in self.working.named_parameters():
            if name in tensors:
                yield name, _whole(tensors[name], value) if self.stage == 3 else tensors[name]
            elif value.requires_grad:
                yield name, deepspeed.utils.safe_get_full_fp32_param(value).view(_shape(value))
            else:
                with deepspeed.zero.GatheredParameters([value], enabled=self.stage == 3):
                    yield name, value.detach()
        state = self.working.state_dict()
        for name, _ in self.working.named_buffers():
            if name in state:
                yield name, tensors.get(name, state[name])

    def set_averaged_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Takes averaged weights back, each process its parts."""
        if self.average is None:
            return
        self.average.num_updates = step
        parameters = dict(self.working.named_parameters())
        for name, value in self.average.tensors.items():
            whole = tensors[name].to(value.device, torch.float32)
            if self.stage == 3 and name in parameters:
                whole = _part_of(whole, parameters[name], self.accelerator.process_index)
            value.copy_(whole)

    def first_bad_weight(self) -> str | None:
        """Name of the first weight that is not finite in the part of any process."""
        parameters: list[tuple[str, Any]] = list(self.working.named_parameters())
        for name, value in parameters:
            part = value.ds_tensor if self.stage == 3 else value
            if not torch.isfinite(part).all():
                return agreed_first(name)
        return agreed_first(None)

    # ---- optimizer ----------------------------------------------------------------------------------------

    def optimizer_state(self) -> OptimizerState:
        """State of the optimizer, gathered parameter by parameter; empty but on the main process."""
        from deepspeed.utils import safe_get_full_optimizer_state

        is_main = self.accelerator.is_main_process
        self._link_moments()
        step = next((entry["step"] for entry in self._base().state.values()), torch.tensor(0.0))
        places = {name: place for place, name in enumerate(name for group in self._groups for name in group)}
        state: dict[int, dict[str, Tensor]] = {}
        for parameter, name in self._names.items():
            if not parameter.requires_grad:
                continue
            moments = {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            if is_main:
                kept = {key: value.view(_shape(parameter)).cpu().clone() for key, value in moments.items()}
                state[places[name]] = {"step": step.detach().cpu().clone(), **kept}
        groups, number = [], 0
        for group, names in zip(self.optimizer.param_groups, self._groups, strict=True):
            values = {key: value for key, value in group.items() if key != "params"}
            groups.append({**values, "params": list(range(number, number + len(names)))})
            number += len(names)
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_optimizer_state(self, state: OptimizerState) -> None:
        """Takes a whole state back, each process its parts."""
        sizes = [len(group["params"]) for group in state["param_groups"]]
        if sizes != [len(group) for group in self._groups]:
            raise ValueError(
                f"it has groups of {sizes} parameters, this one of {[len(g) for g in self._groups]}"
            )
        if not state["state"]:
            return
        step = next(iter(state["state"].values()))["step"]
        for part in self._parts():
            self._base().state[part] = {
                "step": torch.as_tensor(step, dtype=torch.float32).clone(),
                **{key: torch.zeros_like(part) for key in MOMENTS},
            }
        self._link_moments()
        names = [name for group in self._groups for name in group]
        parameters = dict(self.working.named_parameters())
        for place, entry in state["state"].items():
            for key in MOMENTS:
                self._set_part(parameters[names[place]], entry[key], key)

    def _link_moments(self) -> None:
        """Tells DeepSpeed's getters and setters of ZeRO-2 where the moments are.

        DeepSpeed does so itself, but in the step of the first parameter group, before the other groups have any.
        """
        if self.stage == 2:
            from deepspeed.utils import lazy_init_hp_params_optimizer_state

            for members, part in zip(self.engine.optimizer.bit16_groups, self._parts(), strict=True):
                lazy_init_hp_params_optimizer_state(members, part, self._base().state)

    def _base(self) -> torch.optim.Optimizer:
        """The torch optimizer that DeepSpeed drives; its parameters are parts, not the model's."""
        base: torch.optim.Optimizer = self.engine.optimizer.optimizer
        return base

    def _parts(self) -> list[Tensor]:
        """The parts of this process that the optimizer moves."""
        zero = self.engine.optimizer
        parts: list[Tensor] = (
            zero.fp32_partitioned_groups_flat if self.stage == 3 else zero.single_partition_of_fp32_groups
        )
        return list(parts)


class _AveragedParts(AveragedWeights):
    """Averaged weights of this process's parts, in full precision."""

    def __init__(self, model: nn.Module, decay: float, stage: int) -> None:
        self.stage = stage
        super().__init__(model, decay)
        self.tensors = {name: value.detach().float().clone() for name, value in self.floating_state(model)}

    def floating_state(self, model: nn.Module) -> list[tuple[str, Tensor]]:
        """Trained weights and floating-point buffers; what is frozen is its own average."""
        trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
        if self.stage == 3:
            from deepspeed.utils import safe_get_local_fp32_param

            trained = [(name, safe_get_local_fp32_param(value)) for name, value in trained]
        state = model.state_dict()
        buffers = [(name, value) for name, value in model.named_buffers() if name in state]
        return [*trained, *((name, value) for name, value in buffers if value.is_floating_point())]


def _shape(parameter: Any) -> torch.Size:
    return parameter.ds_shape if hasattr(parameter, "ds_shape") else parameter.shape


def _part_of(whole: Tensor, parameter: Any, rank: int) -> Tensor:
    """A process's part of a tensor: ZeRO-3 cuts the flat tensor into equal parts, the last one padded."""
    length = parameter.ds_tensor.numel()
    part = torch.zeros(length, dtype=whole.dtype, device=whole.device)
    piece = whole.flatten()[rank * length : (rank + 1) * length]
    part[: len(piece)] = piece
    return part


def _whole(part: Tensor, parameter: Any) -> Tensor:
    """The inverse of `_part_of`, on every process."""
    parts = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, part.contiguous())
    return torch.cat(parts)[: parameter.ds_numel].view(parameter.ds_shape)
