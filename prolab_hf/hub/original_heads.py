"""Import of the reference's heads (decoder and auxiliary): configuration dictionaries and weight names."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

logger = logging.getLogger(__name__)

DECODER_TYPES = {
    "UPerHead_cluster_embed": "uper",
    "SegformerHead_cluster_embed": "segformer",
    "DepthwiseSeparableASPPHead_cluster_embed": "aspp",
}
AUXILIARY_TYPE = "FCNHead_cluster_embed"
SIMILARITY_MODES = {
    "cosine_similarity_with_sigmoid": "sigmoid_cosine",
    "cosine_similarity": "cosine",
    "L2_with_sigmoid": "sigmoid_l2",
}
PROPERTY_LOSSES = {"CosineSimilarityLoss": "cosine", "BCELoss": "bce", "MSELoss": "mse"}
CLASS_LOSS = "CrossEntropyLoss"

NUM_MAPS = 4
# Defaults of the reference's constructors and of the base head that they inherit from.
DEFAULT_IGNORE_INDEX = 255
DEFAULT_BACKGROUND = 255
SCORE_DEFAULTS: dict[str, Any] = {
    "get_logit_mode": "cosine_similarity",
    "sigmoid_temperature": 1.0,
    "image_embedding_normalize": True,
}
# Settings of the reference's heads that have one value here: that of every published configuration.
FIXED_SETTINGS: dict[str, Any] = {
    "align_corners": False,
    "conv_cfg": None,
    "act_cfg": {"type": "ReLU"},
    "interpolate_mode": "bilinear",
    "dilation": 1,
    "sampler": None,
}
BATCH_NORMS = ("BN", "SyncBN")

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


def single_head(model_cfg: Mapping[str, Any], field: str) -> Mapping[str, Any] | None:
    """The head under `field`, alone or as the only entry of a list; `None` where there is none.

    Raises:
        ValueError: There are several heads, or something else.
    """
    head = model_cfg.get(field)
    if isinstance(head, list | tuple) and len(head) == 1:
        head = head[0]
    if not head:
        return None
    if not isinstance(head, Mapping):
        raise ValueError(f"{field} is {type(head).__name__}; one dictionary is needed.")
    return head


def decoder_fields(head: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ProLabConfig` that describe the decoder's network.

    Args:
        head: The reference's `decode_head`.

    Raises:
        ValueError: A setting has no counterpart here; the message names it.
    """
    decoder = _translate(head.get("type"), DECODER_TYPES, "decode_head.type")
    _refuse_other_settings(head, "decode_head")
    fields: dict[str, Any] = {
        "decoder": decoder,
        "hidden_size": _required(head, "channels", "decode_head"),
        "classifier_dropout_prob": head.get("dropout_ratio", 0.1),
    }
    allowed: list[Any] = [-1, NUM_MAPS - 1] if decoder == "aspp" else [list(range(NUM_MAPS))]
    index = head.get("in_index", allowed[0])
    index = list(index) if isinstance(index, tuple) else index
    if index not in allowed:
        raise ValueError(f"decode_head.in_index is {index}; only {allowed[-1]} is supported for {decoder!r}.")
    if decoder == "uper":
        fields["pool_scales"] = list(head.get("pool_scales", (1, 2, 3, 6)))
    if decoder == "aspp":
        if not head.get("c1_in_channels", 1):
            raise ValueError(
                "decode_head.c1_in_channels is 0, a decoder without the low-level branch; it is not supported."
            )
        fields["aspp_dilations"] = list(head.get("dilations", (1, 6, 12, 18)))
        fields["low_level_channels"] = _required(head, "c1_channels", "decode_head")
    return fields


def auxiliary_fields(head: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fields of `ProLabConfig` that describe the auxiliary head.

    Args:
        head: The reference's `auxiliary_head`, if there is one.

    Raises:
        ValueError: A setting has no counterpart here; the message names it.
    """
    if head is None:
        return {"use_auxiliary_head": False}
    if head.get("type") != AUXILIARY_TYPE:
        raise ValueError(f"auxiliary_head.type is {head.get('type')!r}; allowed: {AUXILIARY_TYPE}.")
    _refuse_other_settings(head, "auxiliary_head")
    index = head.get("in_index", -1)
    if not isinstance(index, int) or not -NUM_MAPS <= index < NUM_MAPS:
        raise ValueError(f"auxiliary_head.in_index is {index!r}; it must be one of the {NUM_MAPS} maps.")
    return {
        "use_auxiliary_head": True,
        "auxiliary_in_index": index % NUM_MAPS,
        "auxiliary_channels": _required(head, "channels", "auxiliary_head"),
        "auxiliary_num_convs": head.get("num_convs", 2),
        "auxiliary_kernel_size": head.get("kernel_size", 3),
        "auxiliary_concat_input": head.get("concat_input", True),
        "auxiliary_loss_weight": 1.0,  # the reference never multiplies by its 0.4
    }


def supervision_fields(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ProLabConfig` that say how scores are computed and what is trained.

    The reference keeps copies of the same settings in both heads and in the model; here they are one, so
    copies that disagree are refused. A setting that one of them leaves out is taken from the others.

    Args:
        model_cfg: The reference's `model` dictionary.

    Raises:
        ValueError: Copies disagree, or a setting has no counterpart here; the message names it.
    """
    head = single_head(model_cfg, "decode_head") or {}
    auxiliary = single_head(model_cfg, "auxiliary_head") or {}
    places = {"decode_head": head, "model": model_cfg, "auxiliary_head": auxiliary}
    scores = {name: _agreed(places, name, default) for name, default in SCORE_DEFAULTS.items()}
    heads = {"decode_head": head, "auxiliary_head": auxiliary}
    ignored = _agreed(heads, "ignore_index", DEFAULT_IGNORE_INDEX)
    background = _agreed(heads, "background_index_value", DEFAULT_BACKGROUND)
    if ignored not in (None, background):
        raise ValueError(
            f"decode_head.ignore_index is {ignored} and background_index_value {background}; here one label "
            "means 'no class', so they must be equal (or ignore_index None)."
        )
    fields: dict[str, Any] = {
        "temperature": scores["sigmoid_temperature"],
        "normalize_pixel_embeddings": bool(scores["image_embedding_normalize"]),
        "similarity": _translate(scores["get_logit_mode"], SIMILARITY_MODES, "decode_head.get_logit_mode"),
        "semantic_loss_ignore_index": background,
        **_loss_fields(heads),
    }
    # The reference's BCE and MSE are means before they are masked, so that void pixels count in any case.
    masked = ignored is not None and fields.get("property_loss", "cosine") == "cosine"
    return fields | {"void_pixels": "mask" if masked else "dilute"}


def _loss_fields(heads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    kinds = {name: [loss.get("type") for loss in _losses(head)] for name, head in heads.items()}
    if kinds["auxiliary_head"] and kinds["auxiliary_head"] != kinds["decode_head"]:
        raise ValueError(
            f"auxiliary_head.loss_decode has the types {kinds['auxiliary_head']}, decode_head.loss_decode "
            f"{kinds['decode_head']}; both heads must be trained alike."
        )
    losses = _losses(heads["decode_head"]) or [{"type": CLASS_LOSS}]
    properties = [loss.get("type") for loss in losses if loss.get("type") != CLASS_LOSS]
    if len(properties) > 1:
        raise ValueError(
            f"decode_head.loss_decode has {len(properties)} property losses {properties}; one is allowed."
        )
    class_weight = sum(loss.get("loss_weight", 1.0) for loss in losses if loss.get("type") == CLASS_LOSS)
    if class_weight:
        logger.warning(
            "decode_head.loss_decode has a %s. Training goes on with the class loss of this package, which "
            "leaves void pixels out and has no background class: its values differ from the reference's.",
            CLASS_LOSS,
        )
    fields: dict[str, Any] = {
        "property_loss_weight": 1.0 if properties else 0.0,  # the reference ignores the property losses' own
        "class_loss_weight": float(class_weight),
        "class_temperature": 1.0,
    }
    if properties:
        fields["property_loss"] = _translate(properties[0], PROPERTY_LOSSES, "decode_head.loss_decode.type")
    return fields


def _losses(head: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    losses = head.get("loss_decode", [])
    return list(losses) if isinstance(losses, list | tuple) else [losses]


def _agreed(places: Mapping[str, Mapping[str, Any]], field: str, default: object) -> Any:
    """The one value of `field` in all places that state it."""
    stated = {f"{place}.{field}": cfg[field] for place, cfg in places.items() if field in cfg}
    if not stated:
        return default
    values = list(stated.values())
    if any(value != values[0] for value in values):
        listing = ", ".join(f"{name} is {value!r}" for name, value in stated.items())
        raise ValueError(f"{listing}; they must be equal, because here they are one setting.")
    return values[0]


def _refuse_other_settings(head: Mapping[str, Any], name: str) -> None:
    for field, only in FIXED_SETTINGS.items():
        value = head.get(field, only)
        if value != only:
            raise ValueError(f"{name}.{field} is {value!r}; only {only!r} is supported.")
    norm = head.get("norm_cfg", {"type": BATCH_NORMS[0]})
    if not isinstance(norm, Mapping) or norm.get("type") not in BATCH_NORMS:
        raise ValueError(
            f"{name}.norm_cfg is {norm!r}; only the types {', '.join(BATCH_NORMS)} are supported."
        )


def _required(head: Mapping[str, Any], field: str, name: str) -> Any:
    if field not in head:
        raise ValueError(f"{name}.{field} is missing; the reference needs it too.")
    return head[field]


def _translate(value: object, table: Mapping[str, str], field: str) -> str:
    if not isinstance(value, str) or value not in table:
        raise ValueError(f"{field} is {value!r}; allowed: {', '.join(table)}.")
    return table[value]
