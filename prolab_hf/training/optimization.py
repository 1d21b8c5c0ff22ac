"""AdamW parameter groups with layer decay, the learning-rate schedule, and averaged weights."""

import logging
import re
from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from prolab_hf.training.recipe import TrainingRecipe

logger = logging.getLogger(__name__)

# First match decides. "reference": names of the original code, where the transformer is the backbone itself.
# "transformers": the transformer may sit anywhere inside the backbone (ViT-Adapter wraps it), its blocks are
# called layer, layers or blocks, and everything that comes before them is in `embeddings` (timm:
# patch_embed...).
_INPUT_NAMES = {
    "reference": re.compile(r"^backbone\.(cls_token|mask_token|pos_embed|patch_embed\.)"),
    "transformers": re.compile(
        r"^backbone\.(.*\.)?(embeddings|patch_embed|cls_token|mask_token|pos_embed|position_embeddings|reg_token)\b"
    ),
}
_BLOCK_NAMES = {
    "reference": re.compile(r"^backbone\.blocks\.(\d+)\."),
    "transformers": re.compile(r"^backbone\.(.*\.)?(?:layer|layers|blocks)\.(?P<block>\d+)\."),
}


LAST_LAYER = "decode_head.classifier."
SOLVED_LAYER_RATE = 0.01
"""Of a last layer that starts at its solution, beside the head's. On 24 photos and DINOv2-small's raw features mean IoU
went from 0.79 to 0.30 in two steps at a thirtieth, and to 0.85 in four at a hundredth."""


def layer_id(name: str, num_layers: int, naming: str = "transformers") -> int:
    """The depth that a parameter counts as in layer decay.

    Args:
        name: Parameter name in the whole model, without a `module.` prefix.
        num_layers: Number of transformer layers of the backbone.
        naming: `"transformers"` (our models) or `"reference"` (the original code's names).

    Returns:
        0 for patch, position and class embeddings, i + 1 for transformer layer i, and `num_layers + 1` for
        everything else: adapter, neck and heads are new and learn at the full rate.

    Raises:
        ValueError: The name belongs to a layer beyond `num_layers`, or `naming` is unknown.
    """
    if naming not in _INPUT_NAMES:
        raise ValueError(f"naming is {naming!r}; allowed: {', '.join(map(repr, _INPUT_NAMES))}.")
    if _INPUT_NAMES[naming].match(name):
        return 0
    match = _BLOCK_NAMES[naming].match(name)
    if match is None:
        return num_layers + 1
    index = int(match[match.lastindex or 1])
    if index >= num_layers:
        raise ValueError(
            f"Parameter {name!r} is in transformer layer {index}, but num_layers is {num_layers}; "
            f"set num_layers to the backbone's number of layers (at least {index + 1})."
        )
    return index + 1


def group_parameters(
    named_parameters: Iterable[tuple[str, nn.Parameter]], recipe: TrainingRecipe
) -> list[dict[str, Any]]:
    """Sorts parameters into AdamW groups.

    One-dimensional parameters (biases, norms, layer scales) and names matching `recipe.optimizer.no_decay_names` are
    not weight-decayed. With `layer_decay`, group i learns at
    `learning_rate * layer_decay ** (num_layers + 1 - i)`. As in the reference, position embeddings
    (three-dimensional) are decayed. Frozen parameters are left out. A last layer that starts at its solution
    (`closed_form.init`) learns at a hundredth of the head's rate: at the full one a few steps forget the solution.

    Args:
        named_parameters: What `model.named_parameters()` gives.
        recipe: Its learning rate, decays and `head_learning_rate_multiplier` are read.

    Returns:
        Groups with `name`, `params`, `param_names`, `lr`, `lr_scale` and `weight_decay`, in order of first
        appearance.

    Raises:
        ValueError: Nothing is trainable, or layer decay was asked for and no parameter is in a numbered
            layer.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        name = name.removeprefix("module.")
        decayed = parameter.ndim > 1 and not name.endswith(".bias")
        decayed = decayed and not any(part in name for part in recipe.optimizer.no_decay_names)
        layer, scale = _layer_and_scale(name, recipe)
        key = f"{layer}_{'decay' if decayed else 'no_decay'}"
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "param_names": [],
                "lr_scale": scale,
                "lr": recipe.optimizer.learning_rate * scale,
                "weight_decay": recipe.optimizer.weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
        group["param_names"].append(name)
    if not groups:
        raise ValueError("The model has no trainable parameter; every parameter has requires_grad=False.")
    if recipe.optimizer.layer_decay is not None and not any("layer_1_" in key for key in groups):
        raise ValueError(
            f"layer_decay is {recipe.optimizer.layer_decay}, but no parameter belongs to a numbered transformer layer "
            "of the backbone; set layer_decay to None for this backbone."
        )
    return list(groups.values())


def _layer_and_scale(name: str, recipe: TrainingRecipe) -> tuple[str, float]:
    """Group name without its decay suffix, and the factor on the learning rate."""
    in_backbone = name.startswith("backbone.")
    scale = 1.0 if in_backbone else recipe.optimizer.head_learning_rate_multiplier
    if recipe.closed_form.init == "solve" and name.startswith(LAST_LAYER):
        return "solved", scale * SOLVED_LAYER_RATE
    if recipe.optimizer.layer_decay is None or recipe.optimizer.num_layers is None:
        return ("backbone" if in_backbone else "head"), scale
    depth = layer_id(name, recipe.optimizer.num_layers, recipe.optimizer.layer_naming)
    part = f"layer_{depth}"
    if not in_backbone and scale != 1.0:
        part = "head"  # shares the last depth with the adapter, but not its rate
    return part, scale * recipe.optimizer.layer_decay ** (recipe.optimizer.num_layers + 1 - depth)


def build_optimizer(model: nn.Module, recipe: TrainingRecipe) -> torch.optim.AdamW:
    """AdamW over the groups of `group_parameters`.

    Args:
        model: The model, already on its device.
        recipe: Learning rate, weight decay, betas, layer decay.
    """
    groups = group_parameters(model.named_parameters(), recipe)
    for group in groups:
        group.pop("param_names")  # newer torch versions give this key a meaning of their own
    return torch.optim.AdamW(
        groups, lr=recipe.optimizer.learning_rate, betas=recipe.optimizer.betas, weight_decay=0.0
    )


def clip_gradients(accelerator: Accelerator, model: nn.Module, max_norm: float | None) -> None:
    """Scales the gradients of a step down to a norm, over all processes.

    Args:
        accelerator: Of the run; it knows about loss scaling and sharded parameters.
        model: As the accelerator prepared it.
        max_norm: Largest Euclidean norm; `None` leaves gradients as they are.
    """
    if max_norm is not None:
        accelerator.clip_grad_norm_(model.parameters(), max_norm)


def learning_rate_factor(step: int, recipe: TrainingRecipe, total_iterations: int) -> float:
    """Share of a group's learning rate at a step: polynomial decay under a linear warm-up.

    `poly = (1 - step / total) ** power`, lifted so that it ends at `min_learning_rate / learning_rate`;
    during warm-up it is multiplied by `1 - (1 - step / warmup) * (1 - warmup_ratio)` (the schedule of mmcv,
    which the published runs used).

    Args:
        step: Steps done so far, from 0.
        recipe: Warm-up, power and smallest rate.
        total_iterations: Length of the run.
    """
    progress = min(step / total_iterations, 1.0)
    floor = recipe.schedule.min_learning_rate / recipe.optimizer.learning_rate
    factor = (1.0 - progress) ** recipe.schedule.poly_power * (1.0 - floor) + floor
    warmup = recipe.warmup_for(total_iterations)
    if step < warmup:
        factor *= 1.0 - (1.0 - step / warmup) * (1.0 - recipe.schedule.warmup_ratio)
    return factor


def build_scheduler(
    optimizer: torch.optim.Optimizer, recipe: TrainingRecipe, total_iterations: int, *, first_step: int = 0
) -> LambdaLR:
    """The schedule of `learning_rate_factor`; call its `step()` once per optimizer step.

    Args:
        optimizer: Any torch optimizer (not one that Accelerate wrapped), its groups at their full rates.
        recipe: Warm-up, power and smallest rate.
        total_iterations: Length of the run.
        first_step: Steps done before.
    """

    def factor(step: int) -> float:
        return learning_rate_factor(step, recipe, total_iterations)

    scheduler = LambdaLR(optimizer, factor)
    if first_step:
        scheduler.last_epoch = first_step
        for group, full_rate in zip(optimizer.param_groups, scheduler.base_lrs):
            group["lr"] = float(full_rate) * factor(first_step)
    return scheduler


class AveragedWeights:
    """Exponential moving average of a model's floating-point weights and buffers.

    The average starts as a copy. Its decay at step n is `min(decay, (1 + n) / (10 + n))`, so that a short
    run is not dominated by its random start.

    Args:
        model: The model to follow.
        decay: In (0, 1); near 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.tensors = {name: value.detach().clone() for name, value in self.floating_state(model)}
        self._originals: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the model; call after each optimizer step."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for name, value in self.floating_state(model):
            self.tensors[name].lerp_(value.to(self.tensors[name].dtype), 1.0 - decay)

    @torch.no_grad()
    def swap_in(self, model: nn.Module) -> None:
        """Puts the average into the model; `swap_out` brings the trained weights back.

        Raises:
            RuntimeError: The average is in the model already.
        """
        if self._originals is not None:
            raise RuntimeError("The averaged weights are in the model already; call swap_out first.")
        self._originals = {name: value.detach().clone() for name, value in self.floating_state(model)}
        for name, value in self.floating_state(model):
            value.copy_(self.tensors[name])

    @torch.no_grad()
    def swap_out(self, model: nn.Module) -> None:
        """Brings back the weights that `swap_in` replaced.

        Raises:
            RuntimeError: `swap_in` was not called.
        """
        if self._originals is None:
            raise RuntimeError("The averaged weights are not in the model; call swap_in first.")
        for name, value in self.floating_state(model):
            value.copy_(self._originals[name])
        self._originals = None

    def floating_state(self, model: nn.Module) -> list[tuple[str, Tensor]]:
        """What is averaged: name and content."""
        return [(name, value) for name, value in model.state_dict().items() if value.is_floating_point()]
