"""Import of models trained with the reference implementation: configuration dictionaries and state dicts.

This is the one place that knows how the reference names the parts of its heads. Backbones and property spaces have
their own files beside this one.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prolab_hf.hub.original_vit_adapter import (
    backbone_config_from_original,
    convert_original_backbone_state_dict,
)
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig

DECODER_TYPES = {
    "UPerHead_cluster_embed": "uper",
    "SegformerHead_cluster_embed": "segformer",
    "DepthwiseSeparableASPPHead_cluster_embed": "aspp",
}
SIMILARITY_MODES = {
    "cosine_similarity_with_sigmoid": "sigmoid_cosine",
    "cosine_similarity": "cosine",
    "L2_with_sigmoid": "sigmoid_l2",
}
PROPERTY_LOSSES = {"CosineSimilarityLoss": "cosine", "BCELoss": "bce", "MSELoss": "mse"}

# Reference name -> ours, applied in order to the keys of a head.
HEAD_PATTERNS = (
    (r"(^|\.)bn\.", r"\1batch_norm."),
    (r"^conv_seg\.", "classifier."),
    (r"^psp_modules\.(\d+)\.1\.", r"pool_convs.\1."),
    (r"^image_pool\.1\.", "image_pool."),
    (r"^aspp_modules\.", "branches."),
    (r"^c1_bottleneck\.", "low_level."),
    (r"^sep_bottleneck\.", "refine."),
    (r"^fusion_conv\.", "fusion."),
    (r"^conv_cat\.", "fusion."),
    (r"depthwise_conv\.", "depthwise."),
    (r"pointwise_conv\.", "pointwise."),
)


def convert_original_head_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of one reference head (decoder or auxiliary) to ours; nothing is dropped."""
    converted = {}
    for name, tensor in state_dict.items():
        for pattern, replacement in HEAD_PATTERNS:
            name = re.sub(pattern, replacement, name)
        converted[name] = tensor
    return converted


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
    head = _single_head(model_cfg, "decode_head")
    decoder = _translate(head.get("type"), DECODER_TYPES, "decode_head.type")
    if head.get("align_corners"):
        raise ValueError(
            "decode_head.align_corners is True; only False (every published configuration) is supported."
        )
    if head.get("num_classes") != space.embedding_dim:
        raise ValueError(
            f"decode_head.num_classes (the embedding size in the reference) is {head.get('num_classes')!r}, but the "
            f"property space has embeddings of size {space.embedding_dim}; give the space of the same run."
        )
    fields: dict[str, Any] = {
        "backbone_config": backbone_config_from_original(model_cfg["backbone"]),
        "feature_pyramid": False,
        "decoder": decoder,
        "hidden_size": head["channels"],
        "classifier_dropout_prob": head.get("dropout_ratio", 0.1),
        **_supervision(head),
        **_auxiliary(model_cfg.get("auxiliary_head")),
        **space.to_config_kwargs(),
    }
    if decoder == "uper":
        fields["pool_scales"] = list(head.get("pool_scales", (1, 2, 3, 6)))
    if decoder == "aspp":
        fields["aspp_dilations"] = list(head.get("dilations", (1, 6, 12, 18)))
        fields["low_level_channels"] = head["c1_channels"]
    return ProLabConfig(**fields)


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


def _single_head(model_cfg: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    head = model_cfg.get(field)
    if isinstance(head, list | tuple) and len(head) == 1:
        head = head[0]
    if not isinstance(head, Mapping):
        raise ValueError(f"{field} is {type(head).__name__}; one dictionary is needed.")
    return head


def _supervision(head: Mapping[str, Any]) -> dict[str, Any]:
    losses = head.get("loss_decode", {"type": "CosineSimilarityLoss"})
    kinds = [loss.get("type") for loss in (losses if isinstance(losses, list | tuple) else [losses])]
    property_kinds = [kind for kind in kinds if kind != "CrossEntropyLoss"]
    if len(property_kinds) > 1:
        raise ValueError(
            f"decode_head.loss_decode has {len(property_kinds)} property losses {property_kinds}; one is allowed."
        )
    fields: dict[str, Any] = {
        "temperature": head.get("sigmoid_temperature", 0.04),
        "normalize_pixel_embeddings": bool(head.get("image_embedding_normalize", True)),
        "similarity": _translate(
            head.get("get_logit_mode", "cosine_similarity_with_sigmoid"),
            SIMILARITY_MODES,
            "decode_head.get_logit_mode",
        ),
        "void_pixels": "dilute" if head.get("ignore_index") is None else "mask",
        "property_loss_weight": 1.0 if property_kinds else 0.0,
        "class_loss_weight": 1.0 if "CrossEntropyLoss" in kinds else 0.0,
        "class_temperature": 1.0,
    }
    if property_kinds:
        fields["property_loss"] = _translate(
            property_kinds[0], PROPERTY_LOSSES, "decode_head.loss_decode.type"
        )
    return fields


def _auxiliary(head: Any) -> dict[str, Any]:
    if not head:
        return {"use_auxiliary_head": False}
    head = head[0] if isinstance(head, list | tuple) and len(head) == 1 else head
    if not isinstance(head, Mapping) or head.get("type") != "FCNHead_cluster_embed":
        raise ValueError("auxiliary_head must be one 'FCNHead_cluster_embed' dictionary or None.")
    return {
        "use_auxiliary_head": True,
        "auxiliary_in_index": head.get("in_index", 2),
        "auxiliary_channels": head["channels"],
        "auxiliary_num_convs": head.get("num_convs", 2),
        "auxiliary_kernel_size": head.get("kernel_size", 3),
        "auxiliary_concat_input": head.get("concat_input", True),
        "auxiliary_loss_weight": 1.0,
    }


def _translate(value: Any, table: Mapping[str, str], field: str) -> str:
    if value not in table:
        raise ValueError(f"{field} is {value!r}; allowed: {', '.join(table)}.")
    return table[value]


def _listing(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
