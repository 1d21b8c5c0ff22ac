"""Import of the reference's backbones `ViTAdapter` and `BEiTAdapter`: configurations and weights."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import BeitConfig, PreTrainedConfig, ViTConfig

from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig
from prolab_hf.model.modeling_vit_adapter import ViTAdapterBackbone

LAYER_NORM_EPS = 1e-6
PATCH_SIZE = 16
# BEiT's layer scales exist in transformers only for a positive start, in the reference also for 0.
SMALLEST_LAYER_SCALE = 1e-12

# Defaults of the reference's constructors, which its configuration files rely on.
SHARED_DEFAULTS: dict[str, Any] = {
    "patch_size": PATCH_SIZE,
    "in_chans": 3,
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4.0,
    "drop_rate": 0.0,
    "attn_drop_rate": 0.0,
    "drop_path_rate": 0.0,
    "pretrain_size": 224,
    "conv_inplane": 64,
    "n_points": 4,
    "deform_num_heads": 6,
    "init_values": 0.0,
    "interaction_indexes": None,
    "with_cffn": True,
    "cffn_ratio": 0.25,
    "deform_ratio": 1.0,
    "add_vit_feature": True,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "ViTAdapter": SHARED_DEFAULTS
    | {
        "img_size": 224,
        "qkv_bias": True,
        "layer_scale": True,
        "window_attn": False,
        "window_size": 14,
        "use_extra_extractor": True,
    },
    "BEiTAdapter": SHARED_DEFAULTS
    | {
        "img_size": 512,
        "qkv_bias": False,
        "qk_scale": None,
        "hybrid_backbone": None,
        "use_abs_pos_emb": False,
        "use_rel_pos_bias": True,
        "use_shared_rel_pos_bias": False,
    },
}
# They say how to train, where weights come from or how configuration files are merged, not what is computed.
IGNORED = (
    "type", "pretrained", "with_cp", "use_checkpoint", "num_classes", "sync_bn_mode", "init_cfg", "_delete_",
)  # fmt: skip

# Our name -> the reference's, applied in order. The first group is the transformer, the second the adapter.
PATTERNS = (
    (r"^vit\.embeddings\.cls_token", "cls_token"),
    (r"^vit\.embeddings\.position_embeddings", "pos_embed"),
    (r"^vit\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^vit\.layers\.(\d+)\.", r"blocks.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.[qkv]_proj\.", ".attn.qkv."),
    (r"^branch_scales\.layers\.(\d+)\.attention\.gamma$", r"blocks.\1.gamma1"),
    (r"^branch_scales\.layers\.(\d+)\.mlp\.gamma$", r"blocks.\1.gamma2"),
    (r"\.lambda_(\d)$", r".gamma_\1"),
    (r"\.relative_position_bias\.relative_position_bias_table$", ".attn.relative_position_bias_table"),
    (r"^spatial_prior\.stem\.", "spm.stem."),
    (r"^spatial_prior\.stages\.0\.", "spm.conv2."),
    (r"^spatial_prior\.stages\.1\.", "spm.conv3."),
    (r"^spatial_prior\.stages\.2\.", "spm.conv4."),
    (r"^spatial_prior\.projections\.0\.", "spm.fc1."),
    (r"^spatial_prior\.projections\.1\.", "spm.fc2."),
    (r"^spatial_prior\.projections\.2\.", "spm.fc3."),
    (r"^spatial_prior\.projections\.3\.", "spm.fc4."),
    (r"\.extractors\.0\.", ".extractor."),
    (r"\.extractors\.1\.", ".extra_extractors.0."),
    (r"\.extractors\.2\.", ".extra_extractors.1."),
    (r"\.feature_norm\.", ".feat_norm."),
    (r"\.attention\.", ".attn."),
    (r"\.feed_forward_norm\.", ".ffn_norm."),
    (r"\.feed_forward\.depthwise\.", ".ffn.dwconv.dwconv."),
    (r"\.feed_forward\.", ".ffn."),
    (r"^upsample\.", "up."),
    (r"^norms\.0\.", "norm1."),
    (r"^norms\.1\.", "norm2."),
    (r"^norms\.2\.", "norm3."),
    (r"^norms\.3\.", "norm4."),
)
# Derived from the image size, or (the shared bias) built but never applied by the reference's adapter.
WITHOUT_EFFECT = re.compile(r"^blocks\.\d+\.attn\.relative_position_index$|^rel_pos_bias\.")
PROJECTION = re.compile(r"\.attention\.(?P<letter>[qkv])_proj\.(?P<kind>weight|bias)$")


def backbone_config_from_original(backbone_cfg: Mapping[str, Any]) -> ViTAdapterConfig:
    """Reads the `backbone` dictionary of a reference configuration file.

    Args:
        backbone_cfg: Dictionary with `type` `"ViTAdapter"` or `"BEiTAdapter"`.

    Raises:
        ValueError: Type or setting without a counterpart here; the message names the field.
    """
    kind = backbone_cfg.get("type")
    if kind not in DEFAULTS:
        raise ValueError(f"backbone.type is {kind!r}; allowed: {', '.join(DEFAULTS)}.")
    unknown = sorted(backbone_cfg.keys() - DEFAULTS[kind].keys() - set(IGNORED))
    if unknown:
        raise ValueError(f"backbone has fields that {kind} does not know: {', '.join(unknown)}.")
    cfg = DEFAULTS[kind] | {name: value for name, value in backbone_cfg.items() if name not in IGNORED}
    for name, allowed in (("patch_size", PATCH_SIZE), ("qk_scale", None), ("hybrid_backbone", None)):
        if cfg.get(name, allowed) != allowed:
            raise ValueError(f"backbone.{name} is {cfg[name]!r}; only {allowed!r} is supported.")
    if not cfg["interaction_indexes"]:
        raise ValueError("backbone.interaction_indexes is missing; the reference needs it too.")
    family = _vit_fields(cfg) if kind == "ViTAdapter" else _beit_fields(cfg)
    return ViTAdapterConfig(
        conv_inplane=cfg["conv_inplane"],
        n_points=cfg["n_points"],
        deform_num_heads=cfg["deform_num_heads"],
        deform_ratio=cfg["deform_ratio"],
        with_cffn=cfg["with_cffn"],
        cffn_ratio=cfg["cffn_ratio"],
        # The reference takes the first and the last of however many block numbers an entry has.
        interaction_indexes=[[entry[0], entry[-1]] for entry in cfg["interaction_indexes"]],
        init_values=cfg["init_values"] or 0.0,
        add_vit_feature=cfg["add_vit_feature"],
        drop_path_rate=cfg["drop_path_rate"],
        layer_norm_eps=LAYER_NORM_EPS,
        **family,
    )


def _transformer_fields(cfg: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": cfg["embed_dim"],
        "num_hidden_layers": cfg["depth"],
        "num_attention_heads": cfg["num_heads"],
        "intermediate_size": int(cfg["embed_dim"] * cfg["mlp_ratio"]),
        "num_channels": cfg["in_chans"],
        "patch_size": PATCH_SIZE,
        "hidden_dropout_prob": cfg["drop_rate"],
        "attention_probs_dropout_prob": cfg["attn_drop_rate"],
        "layer_norm_eps": LAYER_NORM_EPS,
    }


def _vit_fields(cfg: Mapping[str, Any]) -> dict[str, Any]:
    windowed, sizes = (_per_block(cfg, name) for name in ("window_attn", "window_size"))
    if any(flag and not size for flag, size in zip(windowed, sizes)):
        raise ValueError(f"backbone.window_size is {sizes}; each block that window_attn limits needs one.")
    window_sizes = [size if flag else None for flag, size in zip(windowed, sizes)]
    vit_config: PreTrainedConfig = ViTConfig(
        image_size=cfg["pretrain_size"], qkv_bias=cfg["qkv_bias"], **_transformer_fields(cfg)
    )
    return {
        "vit_config": vit_config,
        "use_prefix_tokens": False,
        "use_layer_scale": cfg["layer_scale"],
        "use_extra_extractor": cfg["use_extra_extractor"],
        "window_sizes": window_sizes if any(window_sizes) else None,
    }


def _per_block(cfg: Mapping[str, Any], name: str) -> list[Any]:
    value, depth = cfg[name], cfg["depth"]
    values = list(value) if isinstance(value, list | tuple) else [value] * depth
    if len(values) != depth:
        raise ValueError(
            f"backbone.{name} has {len(values)} entries for {depth} blocks; it needs one for each."
        )
    return values


def _beit_fields(cfg: Mapping[str, Any]) -> dict[str, Any]:
    size = cfg["img_size"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    if cfg["use_rel_pos_bias"] and height != width:
        # transformers reads the table of a rectangle with its sides swapped, which gives other numbers.
        raise ValueError(
            f"backbone.img_size is {size}; with a relative position bias only square sizes are supported."
        )
    if cfg["use_abs_pos_emb"] and cfg["use_rel_pos_bias"] and height != cfg["pretrain_size"]:
        raise ValueError(
            f"backbone.img_size is {size} and backbone.pretrain_size {cfg['pretrain_size']}; with both kinds "
            "of positions they must be equal."
        )
    layer_scale = 0.0 if cfg["init_values"] is None else max(cfg["init_values"], SMALLEST_LAYER_SCALE)
    vit_config: PreTrainedConfig = BeitConfig(
        image_size=height if cfg["use_rel_pos_bias"] else cfg["pretrain_size"],
        use_absolute_position_embeddings=cfg["use_abs_pos_emb"],
        use_relative_position_bias=cfg["use_rel_pos_bias"],
        use_shared_relative_position_bias=False,
        layer_scale_init_value=layer_scale,
        use_mask_token=False,
        drop_path_rate=0.0,
        **_transformer_fields(cfg),
    )
    return {
        "vit_config": vit_config,
        "use_prefix_tokens": True,
        "prefix_positions": False,
        "qkv_bias": cfg["qkv_bias"],
    }


def original_backbone_keys(config: ViTAdapterConfig) -> dict[str, str]:
    """The reference's tensor behind each of ours.

    Args:
        config: As `backbone_config_from_original` gives it.

    Returns:
        Our name to the reference's. Query, key and value share the reference's one `qkv` tensor.
    """
    return {name: _original_name(name, config) for name in _expected(config)}


def _expected(config: ViTAdapterConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return ViTAdapterBackbone(config).state_dict()


def _original_name(name: str, config: ViTAdapterConfig) -> str:
    vit_config: Any = config.vit_config
    beit = vit_config.model_type == "beit"
    projection = PROJECTION.search(name)
    if beit and projection and projection["kind"] == "bias":
        return f"blocks.{name.split('.')[2]}.attn.{projection['letter']}_bias"
    for pattern, replacement in PATTERNS:
        name = re.sub(pattern, replacement, name)
    return name


def convert_original_backbone_state_dict(
    state_dict: Mapping[str, Tensor], config: ViTAdapterConfig
) -> dict[str, Tensor]:
    """Renames (and for `qkv`, splits) a reference backbone's weights for `ViTAdapterBackbone(config)`.

    Args:
        state_dict: Weights without the prefix `backbone.`.
        config: As `backbone_config_from_original` gives it.

    Returns:
        Weights for `load_state_dict`.

    Raises:
        ValueError: Tensors are missing, unexpected or of another shape; the message names them.
    """
    expected = _expected(config)
    names = {name: _original_name(name, config) for name in expected}
    known = set(names.values())
    missing = sorted(known - state_dict.keys())
    unexpected = sorted(name for name in state_dict.keys() - known if not WITHOUT_EFFECT.match(name))
    if missing or unexpected:
        raise ValueError(
            "The backbone's weights do not fit its configuration; "
            f"missing: {', '.join(missing) or 'none'}; unexpected: {', '.join(unexpected) or 'none'}."
        )
    converted, misshapen = {}, []
    for name, like in expected.items():
        original = names[name]
        tensor = converted[name] = _tensor(name, state_dict[original], like)
        if tensor.shape != like.shape:
            misshapen.append(f"{original} is {tuple(state_dict[original].shape)}")
    if misshapen:
        raise ValueError(
            f"The backbone's weights have other shapes than its configuration says: {', '.join(misshapen)}."
        )
    return converted


def _tensor(name: str, original: Tensor, like: Tensor) -> Tensor:
    projection = PROJECTION.search(name)
    if projection and original.shape[0] == 3 * like.shape[0]:
        return original.chunk(3)["qkv".index(projection["letter"])].clone()
    if name.endswith("position_embeddings") and original.shape[1] == like.shape[1] - 1:
        # The reference's BEiT gives no position to its class token; ours has a row for it that is not added.
        return torch.cat([torch.zeros_like(original[:, :1]), original], dim=1)
    return original
