"""ViT-Adapter (arXiv 2205.08534): a plain vision transformer as a backbone with four strides.

Beside the transformer runs a small convolutional branch, the spatial prior, whose three coarser maps are a
second set of tokens. Before each group of blocks the transformer's tokens read from them (injector), after it
they read from the transformer's (extractor); both by deformable attention.
"""

import difflib
import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_vit_adapter import NUM_STAGES, ViTAdapterConfig
from .deformable_attention_vit_adapter import (
    DeformableAttention,
    EqualWeights,
    SamplingOffsets,
    XavierLinear,
    reference_points,
)
from .vit_branch_vit_adapter import (
    TOKEN_STRIDE,
    BranchScales,
    ResidualBranchScale,
    WindowedAttention,
    drop_path,
    input_tokens,
    keep_encoder_only,
    layer_arguments,
    resize_to_patches,
    transformer_layers,
)
from .wrapped_modules_prolab import is_plain

COARSEST_STRIDE = 32
NUM_EXTRA_EXTRACTORS = 2
_VIT_ONLY = OutputRecorder(None)  # type: ignore[arg-type]


class SpatialPrior(nn.Module):
    """Convolutions that give the details which 16 x 16 patches lose, as tokens at strides 4, 8, 16 and 32."""

    def __init__(self, num_channels: int, width: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_conv_block(num_channels, width, stride=2),
            *_conv_block(width, width, stride=1),
            *_conv_block(width, width, stride=1),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*_conv_block(channels_in, channels_out, stride=2))
            for channels_in, channels_out in (
                (width, 2 * width),
                (2 * width, 4 * width),
                (4 * width, 4 * width),
            )
        )
        self.projections = nn.ModuleList(
            nn.Conv2d(channels, dim, kernel_size=1) for channels in (width, 2 * width, 4 * width, 4 * width)
        )

    def forward(self, pixel_values: Tensor, level_embed: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the tokens of all strides.

        Args:
            pixel_values: `(batch_size, num_channels, height, width)`.
            level_embed: `(3, dim)`, added to the tokens of strides 8, 16 and 32.

        Returns:
            The map of stride 4, `(batch_size, dim, height / 4, width / 4)`, and the tokens of strides 8, 16
            and 32 one after the other, `(batch_size, num_tokens, dim)`.
        """
        maps = [self.stem(pixel_values)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        projections: Any = self.projections
        finest, *coarser = projections
        tokens = [_tokens(*each) for each in zip(maps[1:], coarser, level_embed)]
        return finest(maps[0]), torch.cat(tokens, dim=1)


def _tokens(features: Tensor, projection: nn.Conv2d, embed: Tensor) -> Tensor:
    """Tokens `(batch_size, height * width, dim)` of one map, with the embedding `(dim,)` of its level added."""
    if not is_plain(projection, nn.Conv2d) or projection.bias is None:
        return projection(features).flatten(2).transpose(1, 2) + embed
    # The 1x1 convolution as a matrix product that gives tokens at once, the embedding added to its bias.
    return F.linear(
        features.flatten(2).transpose(1, 2), projection.weight.flatten(1), projection.bias + embed
    )


def _conv_block(in_channels: int, out_channels: int, *, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


class ConvFeedForward(nn.Module):
    """Feed-forward network with a depthwise 3 x 3 convolution on each of the maps that its tokens form."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.depthwise = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Mixes `(batch_size, num_tokens, dim)` within maps of the given (height, width)."""
        parts = self.fc1(tokens).split([height * width for height, width in shapes], dim=1)
        # Tokens are maps with the channels last already: no copy before or after the convolution.
        maps = [
            self.depthwise(part.unflatten(1, shape).permute(0, 3, 1, 2)) for part, shape in zip(parts, shapes)
        ]
        tokens = torch.cat([features.flatten(2).transpose(1, 2) for features in maps], dim=1)
        return self.fc2(F.gelu(tokens))


class Injector(GradientCheckpointingLayer):
    """The transformer's tokens read from the three maps of the adapter."""

    def __init__(self, config: ViTAdapterConfig) -> None:
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.query_norm = nn.LayerNorm(dim, eps=eps)
        self.feature_norm = nn.LayerNorm(dim, eps=eps)
        self.attention = _deformable_attention(config, num_levels=3)
        self.gamma = nn.Parameter(torch.full((dim,), float(config.init_values)))

    def forward(
        self, tokens: Tensor, adapter_tokens: Tensor, points: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Returns `tokens`, `(batch_size, num_patches, dim)`, with what they read added."""
        read = self.attention(self.query_norm(tokens), points, self.feature_norm(adapter_tokens), shapes)
        return torch.addcmul(tokens, self.gamma, read)


class Extractor(GradientCheckpointingLayer):
    """The adapter's tokens read from the transformer's map and are mixed with their neighbors."""

    def __init__(self, config: ViTAdapterConfig) -> None:
        super().__init__()
        dim, eps = config.hidden_size, config.layer_norm_eps
        self.query_norm = nn.LayerNorm(dim, eps=eps)
        self.feature_norm = nn.LayerNorm(dim, eps=eps)
        self.attention = _deformable_attention(config, num_levels=1)
        self.with_feed_forward = config.with_cffn
        if config.with_cffn:
            self.feed_forward_norm = nn.LayerNorm(dim, eps=eps)
            self.feed_forward = ConvFeedForward(dim, int(dim * config.cffn_ratio))
        self.drop_path_rate = config.drop_path_rate

    def forward(
        self, adapter_tokens: Tensor, tokens: Tensor, points: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Returns `adapter_tokens`, `(batch_size, num_tokens, dim)`, with what they read added."""
        grid = shapes[1]  # the adapter's middle map has the transformer's stride
        normed = self.query_norm(adapter_tokens)
        read = self.attention(normed, points, self.feature_norm(tokens), [grid])
        # In place on what was just computed: touching new memory costs more than the addition.
        adapter_tokens = read.add_(adapter_tokens)
        if not self.with_feed_forward:
            return adapter_tokens
        mixed = self.feed_forward(self.feed_forward_norm(adapter_tokens), shapes)
        return drop_path(mixed, self.drop_path_rate, training=self.training).add_(adapter_tokens)


def _deformable_attention(config: ViTAdapterConfig, *, num_levels: int) -> DeformableAttention:
    return DeformableAttention(
        config.hidden_size,
        num_levels=num_levels,
        num_heads=config.deform_num_heads or 1,
        num_points=config.n_points,
        ratio=config.deform_ratio,
    )


class Interaction(nn.Module):
    """One exchange around a group of blocks: the injector before it, the extractor(s) behind it."""

    def __init__(self, config: ViTAdapterConfig, *, extra_extractors: bool) -> None:
        super().__init__()
        self.injector = Injector(config)
        count = 1 + (NUM_EXTRA_EXTRACTORS if extra_extractors else 0)
        self.extractors = nn.ModuleList(Extractor(config) for _ in range(count))


class ViTAdapterBackbone(BackboneMixin, PreTrainedModel):
    """Backbone with four feature maps of the transformer's width at strides 4, 8, 16 and 32.

    Heights and widths must be multiples of 32. Batch normalization counts one device; for the synchronized
    one of the reference apply `nn.SyncBatchNorm.convert_sync_batchnorm` to the model when training on
    several.

    `hidden_states` in the output are the transformer's tokens before the first and after every block, with
    the prefix tokens; `attentions` its attention probabilities (`attn_implementation="eager"`, no windowed
    blocks).

    Args:
        config: Configuration.
    """

    config: ViTAdapterConfig
    base_model_prefix = "vit_adapter"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["Interaction", "SpatialPrior"]
    # Nothing of our own is recorded: the keys let the transformer's hooks collect for our forward.
    _can_record_outputs = {"hidden_states": _VIT_ONLY, "attentions": _VIT_ONLY}

    def __init__(self, config: ViTAdapterConfig) -> None:
        super().__init__(config)
        dim, interactions = config.hidden_size, config.interaction_indexes or []
        self.num_features = [dim] * NUM_STAGES
        self.vit = AutoModel.from_config(config.vit_config)
        self._adapt_transformer()
        self.branch_scales = BranchScales(config, transformer_layers(self.vit))
        self.spatial_prior = SpatialPrior(config.num_channels, config.conv_inplane, dim)
        self.level_embed = nn.Parameter(torch.zeros(3, dim))
        self.interactions = nn.ModuleList(
            Interaction(config, extra_extractors=config.use_extra_extractor and entry is interactions[-1])
            for entry in interactions
        )
        self.upsample = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(dim) for _ in range(NUM_STAGES))
        self.post_init()

    def _adapt_transformer(self) -> None:
        """Takes off what the adapter does not use and adds what the configuration asks for."""
        config: Any = self.config
        layers: Any = transformer_layers(self.vit)
        if any(config.window_sizes) and hasattr(self.vit, "rope_embeddings"):
            raise ValueError(
                "window_sizes is not available for a transformer with rotary positions; leave it out."
            )
        keep_encoder_only(self.vit, use_prefix_tokens=config.use_prefix_tokens)
        for layer, window_size in zip(layers, config.window_sizes):
            if not config.qkv_bias:
                for projection in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj):
                    projection.bias = None
            if window_size is not None:
                layer.attention = WindowedAttention(layer.attention, window_size)

    def get_input_embeddings(self) -> nn.Module:
        """The transformer's patch embedding."""
        return self.vit.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the transformer's patch embedding."""
        self.vit.set_input_embeddings(value)

    @can_return_tuple  # type: ignore[untyped-decorator]  # of transformers
    @capture_outputs(tie_last_hidden_states=False)  # type: ignore[untyped-decorator]  # likewise
    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BackboneOutput:
        """Computes the feature maps.

        Args:
            pixel_values: `(batch_size, num_channels, height, width)`, height and width multiples of 32.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `feature_maps`: `(batch_size, hidden_size, height / stride, width / stride)` for each of
            `config.out_features`.

        Raises:
            ValueError: Height or width is not a multiple of 32; the message names the size to pad to.
        """
        config: Any = self.config
        height, width = self._grid(pixel_values)
        shapes = [(2 * height, 2 * width), (height, width), (height // 2, width // 2)]
        pixel_values = pixel_values.to(self.level_embed.dtype)
        # 1. Two sets of tokens: the adapter's [1/8, 1/16, 1/32] and the transformer's [1/16].
        finest, adapter_tokens = self.spatial_prior(pixel_values, self.level_embed)
        images = resize_to_patches(self.vit, pixel_values)
        sequence, num_prefix = input_tokens(
            self.vit,
            images,
            use_prefix=config.use_prefix_tokens,
            prefix_positions=config.prefix_positions,
        )
        # 2. Blocks and exchanges in turn.
        points = reference_points(shapes, pixel_values.device)
        own_points = points[4 * height * width : 5 * height * width]
        layers, arguments = list(transformer_layers(self.vit)), layer_arguments(self.vit, images)
        interactions: Any = zip(self.interactions, config.interaction_indexes)
        vit_maps = []
        for interaction, (first, last) in interactions:
            prefix, tokens = sequence[:, :num_prefix], sequence[:, num_prefix:]
            tokens = interaction.injector(tokens, adapter_tokens, own_points, shapes)
            sequence = torch.cat([prefix, tokens], dim=1) if num_prefix else tokens
            for layer in layers[first : last + 1]:
                windowed = isinstance(layer.attention, WindowedAttention)
                window_arguments = {"grid": (height, width)} if windowed else {}
                sequence = layer(sequence, **arguments, **window_arguments)
            tokens = sequence[:, num_prefix:]
            for extractor in interaction.extractors:
                adapter_tokens = extractor(adapter_tokens, tokens, points, shapes)
            vit_maps.append(_as_map(tokens, (height, width)))
        # 3. Tokens to maps.
        maps = self._merge(finest, adapter_tokens, vit_maps, shapes)
        return BackboneOutput(feature_maps=maps)  # type: ignore[arg-type]

    def _merge(
        self, finest: Tensor, adapter_tokens: Tensor, vit_maps: list[Tensor], shapes: list[tuple[int, int]]
    ) -> tuple[Tensor, ...]:
        """Four maps from the adapter's tokens, the prior's finest map and the transformer's maps."""
        parts = adapter_tokens.split([height * width for height, width in shapes], dim=1)
        views = [_as_map(part, shape) for part, shape in zip(parts, shapes)]
        # Copied to plain channel-first maps before they are normalized: PyTorch's batch norm gives wrong
        # gradients for transposed views of a batch of one. Added in place: a new map at stride 4 is 48 MiB
        # for 512 x 512 pixels, and touching new memory costs more than the addition.
        copies = [view.clone(memory_format=torch.contiguous_format) for view in views]
        maps = [self.upsample(views[0]).contiguous().add_(finest), *copies]
        if self.config.add_vit_feature:
            for features, vit_map, factor in zip(maps, vit_maps, (4, 2, 1, 0.5)):
                features.add_(vit_map if factor == 1 else _rescale(vit_map.contiguous(), factor))
        stages = zip(self.stage_names, self.norms, maps)
        return tuple(norm(features) for name, norm, features in stages if name in self.out_features)

    def _grid(self, pixel_values: Tensor) -> tuple[int, int]:
        """(height, width) in transformer tokens."""
        height, width = pixel_values.shape[2:]
        if height % COARSEST_STRIDE or width % COARSEST_STRIDE:
            padded = [-(-side // COARSEST_STRIDE) * COARSEST_STRIDE for side in (height, width)]
            raise ValueError(
                f"pixel_values has images of {height} x {width} (height x width); a ViT-Adapter needs "
                f"multiples of {COARSEST_STRIDE}: pad or resize them to {padded[0]} x {padded[1]}."
            )
        return height // TOKEN_STRIDE, width // TOKEN_STRIDE

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The reference's initialization; the transformer's own weights are initialized by its own class."""
        super()._init_weights(module)
        if isinstance(module, SamplingOffsets | EqualWeights | XavierLinear):
            module.init_weights()
        elif isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            init.normal_(module.weight, mean=0.0, std=math.sqrt(2.0 / fan_out))
        elif isinstance(module, Injector):
            init.constant_(module.gamma, float(self.config.init_values))
        elif isinstance(module, ViTAdapterBackbone):
            init.normal_(module.level_embed)
        elif isinstance(module, ResidualBranchScale) and module.gamma is not None:
            init.ones_(module.gamma)

    def save_pretrained(
        self, save_directory: Any, *args: Any, save_original_format: bool = False, **kwargs: Any
    ) -> None:
        """Like the inherited method, but under the live weight names.

        Under the legacy names that transformers would write for many transformers, a plain `load_state_dict`
        (the Trainer's resume) finds none of their weights; `from_pretrained` reads both.
        """
        super().save_pretrained(  # type: ignore[misc]
            save_directory, *args, save_original_format=save_original_format, **kwargs
        )

    @classmethod
    def from_vit(
        cls, vit: str | Path | PreTrainedModel, *, hub_kwargs: dict[str, Any] | None = None, **fields: Any
    ) -> Self:
        """Puts an adapter with fresh weights around a pretrained transformer.

        Args:
            vit: Hub id or folder of a plain vision transformer, or the model itself (with any head).
            hub_kwargs: For `AutoModel.from_pretrained`, such as `revision` or `token`.
            fields: Fields of `ViTAdapterConfig` other than `vit_config`.

        Returns:
            The backbone; the transformer's weights are exactly the pretrained ones.

        Raises:
            ValueError: A field does not exist, or the model is no plain vision transformer.
        """
        for name in fields:
            if name not in (*ViTAdapterConfig.__dataclass_fields__, "out_features", "out_indices"):
                close = difflib.get_close_matches(name, ViTAdapterConfig.__dataclass_fields__, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else "."
                raise ValueError(f"ViTAdapterConfig has no field {name!r}{hint}")
        pretrained: Any = vit
        if not isinstance(vit, PreTrainedModel):
            pretrained = AutoModel.from_pretrained(vit, **(hub_kwargs or {}))
        elif not hasattr(vit, "embeddings"):
            pretrained = vit.base_model
        transformer_layers(pretrained)
        backbone = cls(ViTAdapterConfig(vit_config=pretrained.config, **fields)).to(pretrained.dtype)
        weights = pretrained.state_dict()  # what the adapter does not use stays behind
        backbone.vit.load_state_dict({name: weights[name] for name in backbone.vit.state_dict()})
        return backbone


def _as_map(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """View of `(batch_size, height * width, dim)` as `(batch_size, dim, height, width)`."""
    return tokens.unflatten(1, shape).permute(0, 3, 1, 2)


def _rescale(features: Tensor, factor: float) -> Tensor:
    return F.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)
