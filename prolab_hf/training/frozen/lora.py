"""Low-rank adapters (LoRA) on the backbone, through peft: put in before training, merged and saved at its end.

The network stays a ProLab model: peft replaces single layers of its backbone; decoder and heads are trained in full.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prolab_hf.model.modeling_vit_adapter import ViTAdapterBackbone
from prolab_hf.training.checkpoints import STATE_FOLDER
from prolab_hf.training.frozen.freezing import mark_frozen
from prolab_hf.training.recipe import PeftFields

ADAPTER_FOLDER = "adapter"
ADAPTED_FILE = "adapted_weights.safetensors"
_NAME = "default"  # of peft's only adapter
# Layers of an attention that are no projections of queries, keys, values or results.
_NOT_PROJECTIONS = ("relative_position", "cpb_mlp", "sampling_offsets", "position_bias")
_SIDE_WAYS = ("shortcut", "downsample", ".se.", "squeeze")


def adapter_targets(backbone: nn.Module) -> list[str]:
    """The layers of a backbone that get an adapter when nobody names any.

    Projections of the attention where there is one (ViT, DINOv2, BEiT, Swin, SegFormer, ...), else pointwise
    convolutions, also where they are written as linear layers (ConvNeXt, EfficientNet, ResNet-50, ...), else all
    convolutions but the first (ResNet-18).

    Args:
        backbone: The backbone.

    Returns:
        Names of modules inside of it.

    Raises:
        ValueError: There is no layer of any of these kinds.
    """
    layers = {
        name: module for name, module in backbone.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    }
    attention = [
        name
        for name, module in layers.items()
        if isinstance(module, nn.Linear)
        and any("att" in part for part in name.split(".")[:-1])
        and not any(part in name for part in _NOT_PROJECTIONS)
    ]
    if attention:
        return attention
    main = [name for name in layers if not any(part in f".{name}." for part in _SIDE_WAYS)]
    pointwise = [name for name in main if _is_pointwise(layers[name])]
    if pointwise:
        return pointwise
    convolutions = [name for name in main if getattr(layers[name], "groups", 1) == 1]
    if len(convolutions) < 2:
        raise ValueError(
            f"The backbone {type(backbone).__name__} has no attention and no convolutions to put adapters on; name its "
            "layers in peft.targets."
        )
    return convolutions[1:]


def _is_pointwise(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1) and layer.groups == 1
    return isinstance(layer, nn.Linear)


def _adapted_part(model: nn.Module) -> tuple[str, nn.Module]:
    """The pretrained part of the backbone, with its name: of a ViT-Adapter the transformer, not what is around it."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ValueError(
            f"peft.method is 'lora', but a {type(model).__name__} has no module named backbone; set it to null."
        )
    if isinstance(backbone, ViTAdapterBackbone):
        return "backbone.vit", backbone.vit
    return "backbone", backbone


def add_adapters(model: nn.Module, fields: PeftFields, *, seed: int = 0) -> None:
    """Puts adapters into the backbone, whose own weights and statistics are frozen.

    Args:
        model: Changed in place.
        fields: Rank, strength, dropout, targets.
        seed: Of their random start, whatever was drawn before.

    Raises:
        ImportError: peft is not installed.
        ValueError: No layer has the names of the targets.
    """
    if importlib.util.find_spec("peft") is None:
        raise ImportError(
            "peft.method is 'lora', which needs the package peft: pip install 'prolab_hf[peft]'."
        )
    from peft import LoraConfig, inject_adapter_in_model

    _, part = _adapted_part(model)
    names = adapter_targets(part)
    if fields.targets is not None:
        names = [
            name
            for name, module in part.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(tuple(fields.targets))
        ]
        if not names:
            raise ValueError(
                f"peft.targets is {list(fields.targets)}, but no layer of the backbone ends like that; its own choice "
                f"would be {adapter_targets(part)[:3]} and so on."
            )
    config = LoraConfig(
        r=fields.rank,
        lora_alpha=_whole_if_possible(fields.alpha),
        lora_dropout=fields.dropout,
        target_modules=names,
    )
    # peft freezes what it is given; decoder and heads are not.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, part)
    for module in part.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            mark_frozen(module)  # statistics that move would be lost with an adapter's file


def _whole_if_possible(alpha: float) -> Any:
    return int(alpha) if float(alpha).is_integer() else alpha


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """The layers that have an adapter, by name."""
    if importlib.util.find_spec("peft") is None:
        return {}
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


@torch.no_grad()
def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The weights of the model as if its adapters had been added to its layers; nothing is changed.

    Args:
        model: With or without adapters.
    """
    layers = adapted_layers(model)
    state = {}
    for name, value in model.state_dict().items():
        if not any(name.startswith(f"{layer}.lora_") for layer in layers):
            state[name.replace(".base_layer.", ".")] = value
    for name, layer in layers.items():
        weight = f"{name}.weight"
        state[weight] = state[weight] + layer.get_delta_weight(_NAME).to(state[weight])
    return state


def save_adapted_weights(model: nn.Module, checkpoint: Path) -> None:
    """Writes adapters and what they sit on beside a checkpoint's model, where they are merged.

    Args:
        model: With or without adapters; without any, nothing is written.
        checkpoint: A checkpoint folder that is being filled.
    """
    layers = adapted_layers(model)
    apart = {
        name: value.contiguous()
        for name, value in model.state_dict().items()
        if any(name.startswith(f"{layer}.") for layer in layers)
    }
    if apart:
        (checkpoint / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
        save_file(apart, checkpoint / STATE_FOLDER / ADAPTED_FILE)


def with_adapted_weights(state: dict[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint with its adapters apart from what they sit on, as the run trains them.

    Args:
        state: Of the checkpoint's model, with adapters merged.
        checkpoint: A checkpoint folder.
    """
    path = checkpoint / STATE_FOLDER / ADAPTED_FILE
    if not path.is_file():
        return state
    apart = load_file(path)
    merged = {name.replace(".base_layer.", ".") for name in apart}
    return {**{name: value for name, value in state.items() if name not in merged}, **apart}


def merge_adapters(model: nn.Module) -> None:
    """Adds the adapters to the layers that they sit on, and takes them away.

    Args:
        model: Changed in place; it computes the same as before.
    """
    for name, layer in adapted_layers(model).items():
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


def _trained_in_full(model: nn.Module, adapted: str) -> list[str]:
    """Modules outside of the adapted part, as large as possible; lists are taken apart, which peft cannot save."""
    found: list[str] = []

    def visit(name: str, module: nn.Module) -> None:
        if name == adapted or not any(True for _ in module.state_dict()):
            return
        if adapted.startswith(f"{name}.") or isinstance(module, nn.ModuleList):
            for child, part in module.named_children():
                visit(f"{name}.{child}", part)
        else:
            found.append(name)

    for child, part in model.named_children():
        visit(child, part)
    return found


def save_adapter(model: nn.Module, folder: Path, *, base: str | None) -> None:
    """Writes adapters and everything that is trained beside them as peft does.

    `PeftModel.from_pretrained(model, folder)` puts them back onto a model that was built the same way, with the same
    pretrained backbone.

    Args:
        model: With adapters.
        folder: Created where it is missing.
        base: Name of the pretrained backbone, for readers.
    """
    from peft import LoraConfig

    layers = adapted_layers(model)
    adapted, _ = _adapted_part(model)
    whole = _trained_in_full(model, adapted)
    one = next(iter(layers.values()))
    folder.mkdir(parents=True, exist_ok=True)
    config = LoraConfig(
        r=one.r[_NAME],
        lora_alpha=one.lora_alpha[_NAME],
        lora_dropout=getattr(one.lora_dropout[_NAME], "p", 0.0),
        target_modules=list(layers),
        modules_to_save=whole,
        base_model_name_or_path=base,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    state = _adapter_state(model, whole)
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _adapter_state(model: nn.Module, whole: Sequence[str]) -> dict[str, Tensor]:
    state = {}
    for name, value in model.state_dict().items():
        if f".{_NAME}." in name and ".lora_" in name:
            state[f"base_model.model.{name.replace(f'.{_NAME}.', '.')}"] = value.contiguous()
        elif name.startswith(tuple(f"{module}." for module in whole)):
            state[f"base_model.model.{name}"] = value.contiguous()
    return state
