"""Import of models trained with the reference implementation: configuration dictionaries and state dicts.

Heads, backbones and property spaces have their own files beside this one.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prolab_hf.hub.original_heads import (
    auxiliary_fields,
    convert_original_head_state_dict,
    decoder_fields,
    single_head,
    supervision_fields,
)
from prolab_hf.hub.original_spaces import property_space_from_original
from prolab_hf.hub.original_vit_adapter import (
    backbone_config_from_original,
    convert_original_backbone_state_dict,
)
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig


def config_from_original(model_cfg: Mapping[str, Any], space: PropertySpace) -> ProLabConfig:
    """Reads the `model` dictionary of a reference configuration file.

    Numbers that the reference states but never applies are translated into what it computes: loss weights count
    as 1.0 (its losses ignore them), and `ignore_index=None` becomes `void_pixels="dilute"`.

    Args:
        model_cfg: Dictionary with `backbone`, `decode_head` and, optionally, `auxiliary_head`.
        space: The property space of the run.

    Raises:
        ValueError: A part or setting has no counterpart here; the message names the field.
    """
    head = single_head(model_cfg, "decode_head")
    if head is None or not isinstance(model_cfg.get("backbone"), Mapping):
        missing = "decode_head" if head is None else "backbone"
        raise ValueError(
            f"model_cfg has no {missing}; give the dictionary that the configuration file calls `model`."
        )
    decoder = decoder_fields(head)
    if head.get("num_classes") != space.embedding_dim:
        raise ValueError(
            f"decode_head.num_classes (the embedding size in the reference) is {head.get('num_classes')!r}, but the "
            f"property space has embeddings of size {space.embedding_dim}; give the space of the same run."
        )
    return ProLabConfig(
        backbone_config=backbone_config_from_original(model_cfg["backbone"]),
        feature_pyramid=False,
        **decoder,
        **supervision_fields(model_cfg),
        **auxiliary_fields(single_head(model_cfg, "auxiliary_head")),
        **space.to_config_kwargs(),
    )


def convert_original_state_dict(state_dict: Mapping[str, Tensor], config: ProLabConfig) -> dict[str, Tensor]:
    """Renames the weights of a reference checkpoint to those of `ProLabForSemanticSegmentation(config)`.

    Args:
        state_dict: The `state_dict` entry of a reference `.pth`, with or without `module.` in front.
        config: As `config_from_original` gives it.

    Returns:
        Weights for `load_state_dict`, without the property embeddings (the reference keeps them beside the
        checkpoint; `model.set_property_space` supplies them).

    Raises:
        ValueError: Tensors are missing, unexpected or of another shape; the message names them.
    """
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "decode_head": {}, "auxiliary_head": {}}
    unexpected = []
    for key, tensor in state_dict.items():
        part, _, name = key.removeprefix("module.").partition(".")
        if part in parts and (part != "auxiliary_head" or config.use_auxiliary_head):
            parts[part][name] = tensor
        else:
            unexpected.append(key)
    if unexpected:
        raise ValueError(f"Unexpected tensors in the checkpoint: {_listing(unexpected)}.")
    if not isinstance(config.backbone_config, ViTAdapterConfig):
        raise ValueError(
            f"The configuration has a {type(config.backbone_config).__name__}; checkpoints of the reference have a "
            "ViTAdapterConfig. Use config_from_original."
        )
    classifier = parts["decode_head"].get("conv_seg.weight")
    if classifier is not None and len(classifier) != config.embedding_dim:
        raise ValueError(
            f"The checkpoint's pixel embeddings have size {len(classifier)}, those of the property space "
            f"{config.embedding_dim}; give the space that the checkpoint was trained with (its embedding bank)."
        )
    backbone = convert_original_backbone_state_dict(parts["backbone"], config.backbone_config)
    converted = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    for part in ("decode_head", "auxiliary_head"):
        for name, tensor in convert_original_head_state_dict(parts[part]).items():
            converted[f"{part}.{name}"] = tensor
    _check_against_model(converted, config)
    return converted


def _check_against_model(converted: dict[str, Tensor], config: ProLabConfig) -> None:
    """Missing, unexpected and misshapen tensors, all at once, before anything is loaded."""
    import torch

    from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation

    with torch.device("meta"):
        expected = ProLabForSemanticSegmentation(config).state_dict()
    expected.pop("property_embeddings")
    missing = sorted(expected.keys() - converted.keys())
    unexpected = sorted(converted.keys() - expected.keys())
    misshapen = [
        f"{name} is {tuple(converted[name].shape)}, the configuration needs {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & converted.keys())
        if converted[name].shape != expected[name].shape
    ]
    problems = []
    if missing:
        problems.append(f"missing: {_listing(missing)}")
    if unexpected:
        problems.append(f"unexpected: {_listing(unexpected)}")
    if misshapen:
        problems.append(f"of another shape: {_listing(misshapen)}")
    if problems:
        raise ValueError(
            "The checkpoint does not fit the configuration; " + "; ".join(problems) + ". Check the recipe."
        )


def _listing(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


__all__ = [
    "backbone_config_from_original",
    "config_from_original",
    "convert_original_head_state_dict",
    "convert_original_state_dict",
    "property_space_from_original",
]
