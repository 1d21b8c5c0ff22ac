"""Frozen parts of a network: no gradients, and statistics and dropout as in evaluation."""

import re
from typing import Any

from torch import nn

# Where a parameter's name says which stage it belongs to; the leftmost number counts.
_STAGE = re.compile(r"(?:^|\.)(?:stages[._]|layers?\.|layer(?=\d)|blocks\.)(\d+)\.")


def freeze(model: nn.Module, part: str) -> None:
    """Freezes a part of a model's backbone; `start_training` keeps it as in evaluation.

    Args:
        model: Has a `backbone`.
        part: `"none"`, `"backbone"`, or `"stages:N"` for its input layers and first N stages (in a plain vision
            transformer a stage is a layer, as `config.stage_names` counts them).

    Raises:
        ValueError: The model has no backbone, or not so many stages.
    """
    if part == "none":
        return
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ValueError(
            f"model.freeze is {part!r}, but a {type(model).__name__} has no module named backbone; set it to 'none'."
        )
    names = [name for name, _ in backbone.named_parameters()]
    if part != "backbone":
        names = _names_until(backbone, int(part.partition(":")[2]))
    parameters: dict[str, Any] = dict(backbone.named_parameters())
    for name in names:
        parameters[name].requires_grad_(False)
    mark_frozen(backbone)


def _names_until(backbone: nn.Module, number: int) -> list[str]:
    """Parameters of the input layers and of the first stages: all that stand before the next stage."""
    names = [name for name, _ in backbone.named_parameters()]
    stage_of = {name: match[1] for name in names if (match := _STAGE.search(name))}
    stages = list(dict.fromkeys(stage_of.values()))
    if number > len(stages):
        known = f"it has {len(stages)}" if stages else "its layers have no numbers"
        raise ValueError(
            f"model.freeze is 'stages:{number}', but of the stages of the backbone {type(backbone).__name__} {known}; "
            "freeze fewer of them, or 'backbone'."
        )
    if number == len(stages):
        last = max(index for index, name in enumerate(names) if name in stage_of)
        return names[: last + 1]
    first = next(index for index, name in enumerate(names) if stage_of.get(name) == stages[number])
    return names[:first]


def mark_frozen(module: nn.Module) -> None:
    """Marks the modules that hold parameters and train none of them."""
    for part in module.modules():
        if is_frozen(part):
            part.is_frozen = True  # type: ignore[assignment]


def start_training(model: nn.Module) -> None:
    """`model.train()`, except that frozen parts stay as in evaluation: no dropout, no moving statistics.

    Args:
        model: The model, wrapped or not.
    """
    model.train()
    for module in model.modules():
        if getattr(module, "is_frozen", False):
            module.eval()


def is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters and trains none of them."""
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
