"""What the ViT-Adapter needs from a plain vision transformer of transformers, whatever its family.

The transformer stays the library's own model, so its pretrained weights load as they are. This file finds its
parts, builds its input tokens at any size, and adds what some families lack: layer scale, stochastic depth
and attention inside windows.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_vit_adapter import ViTAdapterConfig

TOKEN_STRIDE = 16  # the adapter's maps have strides 8, 16 and 32 around it
LAYER_LISTS = ("layers", "encoder.layer", "model.layer")
PREFIX_TOKENS = ("cls_token", "distillation_token", "register_tokens")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


def transformer_layers(vit: Any) -> nn.ModuleList:
    """The list of blocks of a plain vision transformer.

    Raises:
        ValueError: `vit` is not built like one: no known list of blocks, or blocks without attention and MLP.
    """
    for path in LAYER_LISTS:
        module: Any = vit
        for name in path.split("."):
            module = getattr(module, name, None)
        if not isinstance(module, nn.ModuleList) or not hasattr(vit, "embeddings"):
            continue
        if all(hasattr(layer, "attention") and hasattr(layer, "mlp") for layer in module):
            return module
    raise ValueError(
        f"{type(vit).__name__} is not a plain vision transformer that a ViT-Adapter can wrap; use one of the "
        "types vit, deit, beit, dinov2, dinov2_with_registers, dinov3_vit, vit_mae, vit_msn, ijepa or pixio."
    )


def keep_encoder_only(vit: Any, *, use_prefix_tokens: bool) -> None:
    """Removes the parts after the last block and the input tokens that are not used.

    A parameter without a gradient stops distributed training, and freezing does not survive
    `from_pretrained`. The tokens become empty buffers outside the state dict, which the transformer's own
    initialization can still touch.
    """
    for name in ("layernorm", "norm"):
        if hasattr(vit, name):
            setattr(vit, name, nn.Identity())
    if hasattr(vit, "pooler"):
        vit.pooler = None
    embeddings = vit.embeddings
    for name in ("mask_token",) if use_prefix_tokens else ("mask_token", *PREFIX_TOKENS):
        token = getattr(embeddings, name, None)
        if token is not None:
            delattr(embeddings, name)
            embeddings.register_buffer(name, token.new_empty(1, 0, token.shape[-1]), persistent=False)
    positions = getattr(embeddings, "position_embeddings", None)
    if positions is not None:
        positions.requires_grad_(True)  # masked autoencoders keep theirs fixed


def _patch_projection(vit: Any) -> nn.Conv2d:
    patches = vit.embeddings.patch_embeddings
    return patches if isinstance(patches, nn.Conv2d) else patches.projection


def resize_to_patches(vit: Any, pixel_values: Tensor) -> Tensor:
    """Resizes images so that one patch covers 16 x 16 of their pixels.

    A transformer of another patch size (14 for DINOv2) then gives exactly one token per cell of stride 16
    with its own, untouched patch kernel and positions. The other way, resampling the kernel to 16 x 16, would
    change published weights and mix up training from them with training from a copy.

    Args:
        vit: The transformer.
        pixel_values: `(batch_size, num_channels, height, width)`.

    Returns:
        `(batch_size, num_channels, height / 16 * patch_size, width / 16 * patch_size)`.
    """
    kernel = _patch_projection(vit).kernel_size
    if kernel == (TOKEN_STRIDE, TOKEN_STRIDE):
        return pixel_values
    size = [side // TOKEN_STRIDE * patch for side, patch in zip(pixel_values.shape[2:], kernel)]
    return F.interpolate(pixel_values, size=size, mode="bilinear", align_corners=False)


def input_tokens(vit: Any, images: Tensor, *, use_prefix: bool, prefix_positions: bool) -> tuple[Tensor, int]:
    """Patch tokens with positions for any image size, behind the class and register tokens.

    Args:
        vit: The transformer.
        images: `(batch_size, num_channels, height, width)`, multiples of its patch size.
        use_prefix: Put the class, distillation and register tokens in front.
        prefix_positions: Add position embeddings to those tokens that have them.

    Returns:
        `(batch_size, num_prefix_tokens + num_patches, hidden_size)` and the number of prefix tokens.
    """
    embeddings = vit.embeddings
    projection = _patch_projection(vit)
    tokens = projection(images.to(projection.weight.dtype)).flatten(2).transpose(1, 2)
    prefix = [getattr(embeddings, name) for name in PREFIX_TOKENS if use_prefix and hasattr(embeddings, name)]
    num_prefix = sum(token.shape[1] for token in prefix)
    table = getattr(embeddings, "position_embeddings", None)
    if table is not None:
        # Rows before those of the patches belong to the first prefix tokens, registers have none.
        rows = table.shape[1] - embeddings.patch_embeddings.num_patches
        # The family's own interpolation; only the shape of its first argument counts.
        stand_in = table.new_empty(0, rows + tokens.shape[1], table.shape[2])
        positions = embeddings.interpolate_pos_encoding(stand_in, *images.shape[2:])
        tokens = tokens + positions[:, rows:]
    if num_prefix:
        front = torch.cat(prefix, dim=1)
        if table is not None and rows and prefix_positions:
            front = torch.cat([front[:, :rows] + table[:, :rows], front[:, rows:]], dim=1)
        tokens = torch.cat([front.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
    return getattr(embeddings, "dropout", nn.Identity())(tokens), num_prefix


def layer_arguments(vit: Any, images: Tensor) -> dict[str, Any]:
    """What the blocks want besides their tokens: rotary positions, or what a relative bias is made of."""
    if hasattr(vit, "rope_embeddings"):
        return {"position_embeddings": vit.rope_embeddings(images)}
    if not hasattr(transformer_layers(vit)[0], "relative_position_bias"):
        return {}
    height, width = images.shape[2:]
    arguments: dict[str, Any] = {"resolution": (height, width)}
    if vit.shared_position_bias is not None:
        patch_height, patch_width = _patch_projection(vit).kernel_size
        grid = (height // patch_height, width // patch_width)
        arguments["attention_mask"] = vit.shared_position_bias(grid)
    return arguments


def drop_path(branch: Tensor, rate: float, *, training: bool) -> Tensor:
    """Stochastic depth: leaves out the branch of a sample with probability `rate`, scaling up the others."""
    if rate == 0.0 or not training:
        return branch
    shape = (branch.shape[0],) + (1,) * (branch.dim() - 1)
    return branch * branch.new_empty(shape).bernoulli_(1 - rate).div_(1 - rate)


class ResidualBranchScale(nn.Module):
    """Layer scale and stochastic depth on a residual branch of a block that has no such thing itself.

    It hangs in a forward hook on the branch (the attention or the MLP), so the block runs its own code and
    the names of its weights stay as they are.

    Args:
        dim: Channels of the branch.
        layer_scale: Multiply by one learned factor per channel.
        drop_path_rate: Probability of leaving the branch out while training.
    """

    def __init__(self, dim: int, *, layer_scale: bool, drop_path_rate: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim)) if layer_scale else None
        self.drop_path_rate = drop_path_rate

    def forward(self, branch: Tensor) -> Tensor:
        """Scales `(batch_size, num_tokens, dim)`."""
        if self.gamma is not None:
            branch = branch * self.gamma
        return drop_path(branch, self.drop_path_rate, training=self.training)

    def scale_output(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Forward hook: scales the output of `module`, the first of several if it is a tuple."""
        if isinstance(output, tuple):
            return (self(output[0]), *output[1:])
        return self(output)

    def extra_repr(self) -> str:
        """What does not show in the parameters."""
        return f"layer_scale={self.gamma is not None}, drop_path_rate={self.drop_path_rate}"


class BranchScales(nn.Module):
    """The `ResidualBranchScale`s behind attention and MLP of all blocks, as far as they do anything.

    Args:
        config: Configuration of the ViT-Adapter.
        layers: The transformer's blocks.
    """

    def __init__(self, config: ViTAdapterConfig, layers: nn.ModuleList) -> None:
        super().__init__()
        # Named like the transformer's own list, so that layer decay finds the depth in the name.
        self.layers = nn.ModuleList()
        for index, layer in enumerate(layers):
            scales = nn.ModuleDict()
            rate = config.drop_path_rate * index / max(len(layers) - 1, 1)
            for name in ("attention", "mlp") if config.use_layer_scale or rate > 0 else ():
                scale = ResidualBranchScale(
                    config.hidden_size, layer_scale=config.use_layer_scale, drop_path_rate=rate
                )
                # A bound method, not a closure: copies of the model then call their own scale.
                getattr(layer, name).register_forward_hook(scale.scale_output)
                scales[name] = scale
            self.layers.append(scales)


class WindowedAttention(nn.Module):
    """Self-attention inside square windows, with the projections of the attention that it replaces.

    Queries, keys and values are padded with zeros to whole windows after their projection, as in the
    reference: a padded key has logit 0, so it takes part in the softmax with value 0.

    Args:
        attention: Attention with linear maps `q_proj`, `k_proj`, `v_proj`, `o_proj`.
        window_size: Side of a window in tokens.

    Raises:
        ValueError: `attention` is built otherwise.
    """

    def __init__(self, attention: Any, window_size: int) -> None:
        super().__init__()
        missing = [name for name in PROJECTIONS if not hasattr(attention, name)]
        if missing:
            raise ValueError(
                f"window_sizes is not available: {type(attention).__name__} has no {', '.join(missing)}."
            )
        self.q_proj: nn.Module = attention.q_proj
        self.k_proj: nn.Module = attention.k_proj
        self.v_proj: nn.Module = attention.v_proj
        self.o_proj: nn.Module = attention.o_proj
        self.num_heads: int = getattr(attention, "num_attention_heads", None) or attention.num_heads
        self.scaling: float = attention.scaling
        self.dropout_rate: float = attention.attention_dropout
        self.window_size = window_size

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, *, grid: tuple[int, int]
    ) -> tuple[Tensor, None]:
        """Attends inside windows.

        Args:
            hidden_states: `(batch_size, height * width, dim)`, row by row.
            attention_mask: Not used; windows know no mask.
            grid: (height, width) in tokens.

        Returns:
            `(batch_size, height * width, dim)` and no attention probabilities.
        """
        query, key, value = (
            self._partition(projection(hidden_states), grid)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout_rate if self.training else 0.0, scale=self.scaling
        )
        return self.o_proj(self._merge(attended, grid)), None

    def _windows(self, grid: tuple[int, int]) -> tuple[int, int]:
        return -(-grid[0] // self.window_size), -(-grid[1] // self.window_size)

    def _partition(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """`(batch_size, height * width, dim)` to `(batch_size * windows, heads, window tokens, head_dim)`."""
        (height, width), (rows, columns), side = grid, self._windows(grid), self.window_size
        maps = tokens.unflatten(1, grid)
        maps = F.pad(maps, (0, 0, 0, columns * side - width, 0, rows * side - height))
        maps = maps.reshape(len(tokens), rows, side, columns, side, self.num_heads, -1)
        return maps.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, self.num_heads, side * side, maps.shape[-1])

    def _merge(self, windows: Tensor, grid: tuple[int, int]) -> Tensor:
        """The inverse of `_partition`, padding cut off."""
        (height, width), (rows, columns), side = grid, self._windows(grid), self.window_size
        maps = windows.reshape(-1, rows, columns, self.num_heads, side, side, windows.shape[-1])
        maps = maps.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)
        return maps[:, :height, :width].flatten(1, 2)
