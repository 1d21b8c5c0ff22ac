"""Configuration of the ViT-Adapter backbone."""

import copy
import difflib
import itertools
import logging
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import SubConfigSpec

logger = logging.getLogger(__name__)

NUM_STAGES = 4
# Their reference adapters drop the class token: it was trained to collect a label, not to help the patches.
PATCHES_ONLY = ("vit", "deit", "vit_mae", "vit_msn")


@strict
class ViTAdapterConfig(BackboneConfigMixin, PreTrainedConfig):
    r"""A plain vision transformer with the adapter of "Vision Transformer Adapter for Dense Predictions".

    The defaults are the published ProLab networks'; only `vit_config` and, for them, `drop_path_rate=0.3` and
    `use_layer_scale=True` (ViT, DeiT) or `init_values=1e-6` (BEiT) differ.

    Args:
        vit_config: Configuration of a plain vision transformer of transformers: ViT, DeiT, BEiT (absolute or
            relative positions), DINOv2 (with registers), DINOv3 and alike. Its own `drop_path_rate`, where it
            has one, is set to 0: the adapter's counts for all families. With a patch size other than 16 the
            transformer sees the image resized so that it still gives one token per 16 x 16 pixels.
        conv_inplane: Channels of the finest map of the convolutional spatial prior.
        n_points: Positions sampled per head and level in deformable attention.
        deform_num_heads: Heads of deformable attention; `None` takes the transformer's number.
        deform_ratio: Channels of deformable attention's values relative to the hidden size.
        with_cffn: Follow every extractor by a convolutional feed-forward network.
        cffn_ratio: Width of that network relative to the hidden size.
        interaction_indexes: First and last block of each interaction, in order, without overlap; `None` cuts
            the blocks into four equal parts.
        init_values: Start of the injectors' scale; 0 leaves the transformer undisturbed at first.
        use_extra_extractor: Two more extractors after the last interaction.
        add_vit_feature: Add the transformer's own maps after each interaction to the output (needs four).
        use_prefix_tokens: Let class and register tokens pass through the blocks; they never meet the adapter.
            `None` decides as the reference: no for ViT-like families, yes for all others.
        prefix_positions: Add position embeddings to the prefix tokens. The reference's BEiT does not.
        use_layer_scale: Give the blocks of a family without layer scale (ViT, DeiT) one that starts at 1.
        qkv_bias: `False` removes the query, key and value biases, also where a family always has them (BEiT).
        window_sizes: Side, in tokens, of the windows that attention is limited to, one per block; `None` in
            the list or instead of it means global attention. One number counts for all blocks.
        drop_path_rate: Stochastic depth, rising linearly over the blocks; extractors use the full rate.
        layer_norm_eps: Of the adapter's layer norms.
        out_features: Any of `"stage1"` to `"stage4"` (strides 4, 8, 16, 32); all by default.
        out_indices: The same as numbers 0 to 3.

    Raises:
        ValueError: A field contradicts another one or `vit_config`; the message names it.
    """

    model_type = "vit_adapter"
    sub_configs_defaults = {"vit_config": SubConfigSpec(config_class=AutoConfig, model_type="vit")}

    vit_config: dict[Any, Any] | PreTrainedConfig | None = None
    conv_inplane: int = 64
    n_points: int = 4
    deform_num_heads: int | None = None
    deform_ratio: float | int = 0.5
    with_cffn: bool = True
    cffn_ratio: float | int = 0.25
    interaction_indexes: list[list[int]] | None = None
    init_values: float | int = 0.0
    use_extra_extractor: bool = True
    add_vit_feature: bool = True
    use_prefix_tokens: bool | None = None
    prefix_positions: bool = True
    use_layer_scale: bool = False
    qkv_bias: bool = True
    window_sizes: list[int | None] | int | None = None
    drop_path_rate: float | int = 0.0
    layer_norm_eps: float | int = 1e-6
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Completes what was left to be decided, then checks everything at once."""
        self.stage_names = [f"stage{index}" for index in range(1, NUM_STAGES + 1)]
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        if out_features is None and out_indices is None:
            out_features = list(self.stage_names)
        self.set_output_features_output_indices(out_features=out_features, out_indices=out_indices)
        _refuse_misspelled(kwargs, type(self))
        # A copy, because the inherited method writes into it: the caller's may belong to a living model.
        self.vit_config = copy.deepcopy(self.vit_config)
        attention = getattr(self.vit_config, "_attn_implementation", None)
        super().__post_init__(**kwargs)
        vit = self._vit
        if self._attn_implementation is None:
            vit._attn_implementation = attention
        if getattr(vit, "drop_path_rate", 0):
            logger.info(
                "The drop_path_rate of vit_config is set to 0; the ViT-Adapter's own counts for all blocks."
            )
            vit.drop_path_rate = 0.0
        depth = self.num_hidden_layers
        if self.deform_num_heads is None:
            self.deform_num_heads = vit.num_attention_heads
        if self.interaction_indexes is None:
            bounds = [round(depth * part / NUM_STAGES) for part in range(NUM_STAGES + 1)]
            self.interaction_indexes = [[first, last - 1] for first, last in itertools.pairwise(bounds)]
        if self.use_prefix_tokens is None:
            self.use_prefix_tokens = vit.model_type not in PATCHES_ONLY
        if self.window_sizes is None or isinstance(self.window_sizes, int):
            self.window_sizes = [self.window_sizes] * depth
        self._check()

    @property
    def _vit(self) -> Any:
        """`vit_config` once it is a configuration and no longer a dictionary or nothing."""
        return self.vit_config

    @property
    def hidden_size(self) -> int:
        """Channels of the tokens and of all four maps."""
        return self._vit.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        """Number of the transformer's blocks."""
        return self._vit.num_hidden_layers

    @property
    def num_channels(self) -> int:
        """Channels of the images."""
        return self._vit.num_channels

    def _check(self) -> None:
        dim, heads = self.hidden_size, self.deform_num_heads or 0
        for name in ("conv_inplane", "n_points", "deform_num_heads", "deform_ratio", "cffn_ratio"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")
        if not 0 <= self.drop_path_rate < 1:
            raise ValueError(f"drop_path_rate is {self.drop_path_rate}; it must be at least 0 and below 1.")
        value_dim = int(dim * self.deform_ratio)
        if value_dim % heads:
            raise ValueError(
                f"deform_num_heads is {heads}; it must divide the {value_dim} value channels of deformable "
                f"attention (hidden size {dim} times deform_ratio {self.deform_ratio})."
            )
        self._check_interactions()
        self._check_windows()
        if not self.use_prefix_tokens and self._has_relative_positions():
            raise ValueError(
                "use_prefix_tokens is False, but a relative position bias has entries for the class token; "
                "set use_prefix_tokens=True or leave it out."
            )

    def _check_interactions(self) -> None:
        depth, previous, interactions = self.num_hidden_layers, -1, self.interaction_indexes or []
        for interaction in interactions:
            if len(interaction) != 2 or not previous < interaction[0] <= interaction[1] < depth:
                raise ValueError(
                    f"interaction_indexes is {interactions}; each entry must be [first, last] block, in "
                    f"rising order, without overlap, from 0 to {depth - 1}."
                )
            previous = interaction[1]
        if not interactions or (self.add_vit_feature and len(interactions) != NUM_STAGES):
            raise ValueError(
                f"interaction_indexes has {len(interactions)} entries; with add_vit_feature one per map "
                f"({NUM_STAGES}) is needed, without it at least one."
            )

    def _check_windows(self) -> None:
        sizes: Any = self.window_sizes
        if len(sizes) != self.num_hidden_layers or any(size is not None and size < 1 for size in sizes):
            raise ValueError(
                f"window_sizes is {sizes}; it needs one positive number or None for each of the "
                f"{self.num_hidden_layers} blocks."
            )
        if not any(sizes):
            return
        if self.use_prefix_tokens or self._has_relative_positions():
            raise ValueError(
                "window_sizes limits attention to windows of patch tokens, which is not defined with class "
                "tokens or relative positions; set use_prefix_tokens=False and use one without them."
            )

    def _has_relative_positions(self) -> bool:
        names = ("use_relative_position_bias", "use_shared_relative_position_bias")
        return any(getattr(self.vit_config, name, False) for name in names)


def _refuse_misspelled(kwargs: dict[str, Any], config_class: type[PreTrainedConfig]) -> None:
    """Unknown keywords would be kept as attributes, so a misspelt field would silently have no effect."""
    fields = set(config_class.__dataclass_fields__)
    inherited = set(PreTrainedConfig.__dataclass_fields__)
    for name in kwargs:
        close = difflib.get_close_matches(name, fields - inherited, n=1, cutoff=0.8)
        if close and name not in inherited:
            raise ValueError(f"ViTAdapterConfig has no field {name!r}; did you mean {close[0]!r}?")
