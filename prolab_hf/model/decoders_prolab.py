"""Decoders: backbone feature maps in, one map of pixel features out, projected onto the properties.

The networks are UPerNet, SegFormer's all-MLP head, the separable DeepLabV3+ head and a plain convolutional
auxiliary head, each with its last 1x1 convolution giving pixel embeddings in the space of sentences.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .closed_form_prolab import num_responses
from .configuration_prolab import ProLabConfig
from .resize_prolab import linear_positions
from .wrapped_modules_prolab import is_exporting, is_plain

LEAST_SAVING = 2.0  # in products; below it the additional passes over memory eat up the gain


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize to `size` (height, width), corners not aligned.

    No shortcut for equal sizes: comparing them would fix them in an exported graph.
    """
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def conv_of_resized(conv: nn.Conv2d, maps: Sequence[Tensor]) -> Tensor:
    """`conv(torch.cat([resize(each, size of the first) for each in maps], dim=1))`, at less cost.

    Args:
        conv: Convolution with stride 1, dilation 1, an odd square kernel, half of it as zero padding, one group,
            without bias; or whatever wraps one, which is then called as it is.
        maps: `(batch_size, channels, height, width)` each; the first has the size of the result.

    Returns:
        `(batch_size, out_channels, height, width)` of the first map.
    """
    finest = maps[0]
    size = finest.shape[2:]
    at_own_size = [is_plain(conv, nn.Conv2d) and _saves(each, conv, size) for each in maps[1:]]
    if not any(at_own_size):
        return conv(torch.cat([finest, *(resize(each, size) for each in maps[1:])], dim=1))
    weights = conv.weight.split([each.shape[1] for each in maps], dim=1)
    wide = [(finest, weights[0])]
    narrow = []
    for each, weight, own in zip(maps[1:], weights[1:], at_own_size):
        if own:
            narrow.append((each, weight))
        else:
            wide.append((resize(each, size), weight))
    inputs, kernels = (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0] for parts in zip(*wide))
    result = F.conv2d(inputs, kernels, padding=conv.padding)
    for each, weight in narrow:
        result += _conv_at_own_size(each, weight, size)
    return result


def _saves(features: Tensor, conv: nn.Conv2d, size: Sequence[int]) -> bool:
    """Whether a map is better convolved at its own resolution; always while exporting, where sizes are unknown."""
    if is_exporting():
        return True
    _, channels, height, width = features.shape
    kernel, out_channels, pixels = conv.kernel_size[0], conv.out_channels, size[0] * size[1]
    as_resized = kernel**2 * channels * out_channels * pixels
    taps = kernel**2 * channels * out_channels * height * width
    resizing = kernel * out_channels * size[1] * height * (kernel * width + size[0])
    return as_resized >= LEAST_SAVING * (taps + resizing)


def interpolation_matrix(source: int, target: int, like: Tensor) -> Tensor:
    """Matrix `(target, source)` of a bilinear resize along one side, in the type and on the device of `like`."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    positions = linear_positions(source, target, dtype=dtype, device=like.device)
    distance = positions[:, None] - torch.arange(source, device=like.device, dtype=dtype)
    return (1 - distance.abs()).clamp_min(0).to(like.dtype)


def _conv_at_own_size(features: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """Convolution of the resized map: every tap at the map's own resolution, then resized and shifted.

    Args:
        features: `(batch_size, channels, height, width)`.
        weight: `(out_channels, channels, kernel, kernel)`.
        size: Height and width of the result.
    """
    out_channels, _, kernel, _ = weight.shape
    if kernel == 1:
        return resize(F.conv2d(features, weight), size)
    batch_size, _, height, width = features.shape
    pad = kernel // 2
    # Rows of zeros: what a tap reads outside of the resized map. A shift of the map is a shift of the rows.
    down = F.pad(interpolation_matrix(height, size[0], features), (0, 0, pad, pad))
    across = F.pad(interpolation_matrix(width, size[1], features), (0, 0, pad, pad)).t()
    total: Any = None
    for y in range(kernel):
        line: Any = None  # (batch_size * out_channels * height, width of the result)
        for x in range(kernel):
            taps = F.conv2d(features, weight[:, :, y, x, None, None]).reshape(-1, width)
            line = _add_product(line, taps, across[:, x : x + size[1]].to(taps.dtype))
        rows = down[y : y + size[0]].to(line.dtype).expand(batch_size * out_channels, -1, -1)
        total = _add_product(total, rows, line.view(-1, height, size[1]))
    return total.view(batch_size, out_channels, *size)


def _add_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """Adds a product of matrices, or of batches of them, in place: fresh memory costs more than the sum."""
    if total is None:
        return left @ right
    return total.addmm_(left, right) if left.dim() == 2 else total.baddbmm_(left, right)


def averaging_matrix(length: int, bins: int, like: Tensor) -> Tensor:
    """Matrix `(bins, length)` that averages a line of `length` values into adaptive-pooling bins.

    Adaptive pooling as two matrix products exports with dynamic sizes; `nn.AdaptiveAvgPool2d` does not.
    """
    position = torch.arange(length, device=like.device)
    index = torch.arange(bins, device=like.device)[:, None]
    start = torch.div(index * length, bins, rounding_mode="floor")
    end = torch.div((index + 1) * length + bins - 1, bins, rounding_mode="floor")
    inside = (position >= start) & (position < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)


def adaptive_average_pool(features: Tensor, bins: int) -> Tensor:
    """Averages of `features` (batch_size, channels, height, width) in `bins` x `bins` cells."""
    rows = averaging_matrix(features.shape[2], bins, features)
    columns = averaging_matrix(features.shape[3], bins, features)
    return rows @ (features @ columns.transpose(0, 1))


class ProLabConvBlock(nn.Module):
    """Convolution without bias, batch normalization, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1, **conv_kwargs: Any) -> None:
        super().__init__()
        padding = (kernel_size // 2) * conv_kwargs.get("dilation", 1)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, bias=False, **conv_kwargs
        )
        self.batch_norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor, *coarser: Tensor) -> Tensor:
        """Maps `(batch_size, in_channels, height, width)` to `(batch_size, out_channels, height, width)`.

        With `coarser` maps, the input is all of them resized to the first and concatenated.
        """
        features = conv_of_resized(self.conv, [features, *coarser]) if coarser else self.conv(features)
        if self.training and features.numel() == features.shape[1]:
            # One value per channel (one image, pooled to 1x1) has no variance: use the running statistics.
            features = self._normalized_by_running_statistics(features)
        else:
            features = self.batch_norm(features)
        return F.relu(features)

    def _normalized_by_running_statistics(self, features: Tensor) -> Tensor:
        norm = self.batch_norm
        if is_plain(norm, nn.BatchNorm2d):
            return F.batch_norm(
                features, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        was_training = norm.training
        norm.eval()
        try:
            return norm(features)
        finally:
            norm.train(was_training)


class ProLabSeparableConvBlock(nn.Module):
    """Depthwise 3x3 block followed by a pointwise block."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = ProLabConvBlock(in_channels, in_channels, 3, dilation=dilation, groups=in_channels)
        self.pointwise = ProLabConvBlock(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Maps `(batch_size, in_channels, height, width)` to `(batch_size, out_channels, height, width)`."""
        return self.pointwise(self.depthwise(features))


class ProLabFeaturePyramid(nn.Module):
    """Strides 1/4, 1/2, 1 and 2 times the patch size from four equally sized maps of a plain transformer."""

    def __init__(self, in_channels: list[int]) -> None:
        super().__init__()
        first, second = in_channels[0], in_channels[1]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(first, first, 2, stride=2),
                    nn.BatchNorm2d(first),
                    nn.GELU(),
                    nn.ConvTranspose2d(first, first, 2, stride=2),
                ),
                nn.ConvTranspose2d(second, second, 2, stride=2),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Four maps `(batch_size, channels, height, width)` at four scales."""
        return tuple(level(feature) for level, feature in zip(self.levels, features, strict=True))


class ProLabHead(GradientCheckpointingLayer):
    """What all heads share: dropout, the last layer, and the projection onto the properties.

    The last layer gives pixel embeddings, or with `similarity="linear_cosine"` one response per trained class. It
    sees the decoder's map and, where the configuration says so, other maps beside it.
    """

    def __init__(self, config: ProLabConfig, channels: int, beside: Sequence[int] = ()) -> None:
        super().__init__()
        self.normalize_pixel_embeddings = config.normalize_pixel_embeddings
        self.gives_responses = config.similarity == "linear_cosine"
        self.sees_backbone = bool(beside)
        self.context_bins = [int(bins) for bins in config.context_bins]
        self.dropout = nn.Dropout2d(config.classifier_dropout_prob)
        outputs = num_responses(config) if self.gives_responses else config.embedding_dim
        self.classifier: Any = nn.Conv2d(channels + sum(beside), outputs, kernel_size=1)

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Fuses the feature maps into one `(batch_size, channels, height, width)`."""
        raise TypeError(f"{type(self).__name__} does not define decode()")

    def maps(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """What the last layer sees, the map with the size of the result first."""
        return [self.decode(features), *(self.with_context(features) if self.sees_backbone else ())]

    def with_context(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """The feature maps, then the coarsest one averaged in grids of `context_bins`."""
        return [*features, *(adaptive_average_pool(features[-1], bins) for bins in self.context_bins)]

    def embed(self, *features: Tensor) -> Tensor:
        """Pixel embeddings `(batch_size, embedding_dim, height, width)` of the feature maps."""
        maps = [self.dropout(each) for each in self.maps(features)]
        return self._classified(maps, maps[0].dtype)

    def forward(self, property_embeddings: Tensor, *features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Property logits of the feature maps, before normalization, temperature and sigmoid.

        Both are linear, so without normalization they are one convolution with weight `E W`: the embedding_dim
        channels never exist. In at least float32: a temperature of 0.04 multiplies rounding errors by 25.

        Args:
            property_embeddings: `(num_properties, embedding_dim)`, unit rows.
            features: Feature maps, finest first.

        Returns:
            Logits `e . E_k`, `(batch_size, num_properties, height, width)`, and the pixel embeddings `(batch_size,
            embedding_dim, height, width)` if they are to be normalized, else `None`; with `"linear_cosine"` the
            responses `(batch_size, num_responses, height, width)` and `None`.
        """
        return self.logits_of_maps(property_embeddings, [self.dropout(each) for each in self.maps(features)])

    def logits_of_maps(self, properties: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """As `forward`, of what `maps` gave."""
        with torch.autocast(device_type=maps[0].device.type, enabled=False):
            dtype = torch.promote_types(maps[0].dtype, torch.float32)
            if self.gives_responses:
                return self._classified(maps, dtype), None
            properties = properties.to(dtype)
            if self.normalize_pixel_embeddings or not is_plain(self.classifier, nn.Conv2d):
                embeddings = self._classified(maps, dtype)
                logits = F.conv2d(embeddings, properties[:, :, None, None])
                return logits, embeddings if self.normalize_pixel_embeddings else None
            weight, bias = self.classifier.weight.to(dtype), self.classifier.bias
            folded = (properties @ weight.flatten(1))[:, :, None, None]
            shift = None if bias is None else properties @ bias.to(dtype)
            return linear_of_maps([each.to(dtype) for each in maps], folded, shift), None

    def _classified(self, maps: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """What the last layer gives, in `dtype`; it is called, unless it is plain and kept in a narrower type."""
        if is_plain(self.classifier, nn.Conv2d):
            weight, bias = self.classifier.weight.to(dtype), self.classifier.bias
            bias = None if bias is None else bias.to(dtype)
            return linear_of_maps([each.to(dtype) for each in maps], weight, bias)
        kinds = [p.dtype for p in self.classifier.parameters() if p.is_floating_point()]
        hidden = torch.cat([maps[0], *(resize(each, maps[0].shape[2:]) for each in maps[1:])], dim=1)
        return self.classifier(hidden.to(kinds[0] if kinds else dtype)).to(dtype)


def linear_of_maps(maps: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution of the maps side by side; each is convolved at its own size and then resized to the first."""
    parts = weight.split([each.shape[1] for each in maps], dim=1)
    result = F.conv2d(maps[0], parts[0], bias)
    for each, part in zip(maps[1:], parts[1:]):
        result = result + resize(F.conv2d(each, part), result.shape[2:])
    return result


class ProLabLinearHead(ProLabHead):
    """No layers of its own: the feature maps side by side, and means of the coarsest as context."""

    def __init__(self, config: ProLabConfig, in_channels: list[int]) -> None:
        finest, *others = _seen_channels(config, in_channels)
        super().__init__(config, finest, others)

    def maps(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """The feature maps with their context."""
        return self.with_context(features)


def _seen_channels(config: ProLabConfig, in_channels: Sequence[int]) -> list[int]:
    sees_backbone = config.decoder == "linear" or config.head_inputs == "decoder_and_backbone"
    return [*in_channels, *[in_channels[-1]] * len(config.context_bins)] if sees_backbone else []


class ProLabUperHead(ProLabHead):
    """UPerNet: pyramid pooling on the coarsest map, then a top-down feature pyramid over all of them."""

    def __init__(self, config: ProLabConfig, in_channels: list[int]) -> None:
        super().__init__(config, config.hidden_size, _seen_channels(config, in_channels))
        width = config.hidden_size
        self.pool_scales = list(config.pool_scales)
        self.pool_convs = nn.ModuleList(ProLabConvBlock(in_channels[-1], width) for _ in self.pool_scales)
        self.bottleneck = ProLabConvBlock(in_channels[-1] + len(self.pool_scales) * width, width, 3)
        self.lateral_convs = nn.ModuleList(ProLabConvBlock(channels, width) for channels in in_channels[:-1])
        self.fpn_convs = nn.ModuleList(ProLabConvBlock(width, width, 3) for _ in in_channels[:-1])
        self.fpn_bottleneck = ProLabConvBlock(len(in_channels) * width, width, 3)

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Fuses maps at strides such as [4, 8, 16, 32] into `(batch_size, hidden_size, height / 4, width / 4)`."""
        # 1. The coarsest map sees the whole image.
        coarsest = features[-1]
        size = coarsest.shape[2:]
        pooled = [
            conv(adaptive_average_pool(coarsest, n)) for n, conv in zip(self.pool_scales, self.pool_convs)
        ]
        top = self.bottleneck(torch.cat([coarsest, *(resize(p, size) for p in pooled)], dim=1))
        # 2. Top-down: each finer map receives the sum of the coarser ones. [1/32] -> [1/16, 1/8, 1/4]
        pyramid = [top]
        for lateral, feature in zip(reversed(self.lateral_convs), reversed(features[:-1])):
            finer = lateral(feature)
            pyramid.insert(0, finer + resize(pyramid[0], finer.shape[2:]))
        # 3. Smooth and fuse at the finest resolution.
        smooth = [conv(level) for conv, level in zip(self.fpn_convs, pyramid)] + [top]
        return self.fpn_bottleneck(*smooth)


class ProLabSegformerHead(ProLabHead):
    """SegFormer: every map through a 1x1 convolution, resized to the finest, fused by another."""

    def __init__(self, config: ProLabConfig, in_channels: list[int]) -> None:
        super().__init__(config, config.hidden_size, _seen_channels(config, in_channels))
        self.convs = nn.ModuleList(ProLabConvBlock(channels, config.hidden_size) for channels in in_channels)
        self.fusion = ProLabConvBlock(len(in_channels) * config.hidden_size, config.hidden_size)

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Fuses maps at strides such as [4, 8, 16, 32] into `(batch_size, hidden_size, height / 4, width / 4)`."""
        return self.fusion(*(conv(feature) for conv, feature in zip(self.convs, features)))


class ProLabAsppHead(ProLabHead):
    """DeepLabV3+ with separable convolutions: atrous pyramid on the coarsest map, refined by the finest."""

    def __init__(self, config: ProLabConfig, in_channels: list[int]) -> None:
        super().__init__(config, config.hidden_size, _seen_channels(config, in_channels))
        width, coarsest = config.hidden_size, in_channels[-1]
        self.image_pool = ProLabConvBlock(coarsest, width)
        self.branches = nn.ModuleList(
            ProLabConvBlock(coarsest, width)
            if dilation == 1
            else ProLabSeparableConvBlock(coarsest, width, dilation=dilation)
            for dilation in config.aspp_dilations
        )
        self.bottleneck = ProLabConvBlock((len(config.aspp_dilations) + 1) * width, width, 3)
        self.low_level = ProLabConvBlock(in_channels[0], config.low_level_channels)
        self.refine = nn.Sequential(
            ProLabSeparableConvBlock(width + config.low_level_channels, width),
            ProLabSeparableConvBlock(width, width),
        )

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Fuses the finest and the coarsest map into `(batch_size, hidden_size, height, width)` of the finest."""
        coarsest = features[-1]
        pooled = self.image_pool(adaptive_average_pool(coarsest, 1))
        branches = [resize(pooled, coarsest.shape[2:]), *(branch(coarsest) for branch in self.branches)]
        context = self.bottleneck(torch.cat(branches, dim=1))
        detail = self.low_level(features[0])
        return self.refine(torch.cat([resize(context, detail.shape[2:]), detail], dim=1))


class ProLabAuxiliaryHead(ProLabHead):
    """A few convolutions on one feature map, supervised beside the decoder while training.

    Args:
        config: Of the model.
        in_channels: Channels of the feature maps.
        in_index: Which of them is supervised.
    """

    def __init__(self, config: ProLabConfig, in_channels: list[int], in_index: int) -> None:
        width, kernel = config.auxiliary_channels, config.auxiliary_kernel_size
        if not 0 <= in_index < len(in_channels):
            raise ValueError(
                f"auxiliary_in_index is {in_index}; the backbone gives {len(in_channels)} "
                f"feature maps, so it must be 0 to {len(in_channels) - 1}."
            )
        channels = in_channels[in_index]
        super().__init__(
            config, width if config.auxiliary_num_convs or config.auxiliary_concat_input else channels
        )
        self.in_index = in_index
        self.convs = nn.Sequential(
            *(
                ProLabConvBlock(channels if i == 0 else width, width, kernel)
                for i in range(config.auxiliary_num_convs)
            )
        )
        self.fusion = None
        if config.auxiliary_concat_input:
            out_channels = width if config.auxiliary_num_convs else channels
            self.fusion = ProLabConvBlock(channels + out_channels, width, kernel)

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        """Maps the chosen feature map to `(batch_size, auxiliary_channels, height, width)`."""
        hidden = self.convs(features[self.in_index])
        if self.fusion is not None:
            hidden = self.fusion(torch.cat([features[self.in_index], hidden], dim=1))
        return hidden


def auxiliary_head(config: ProLabConfig, in_channels: list[int]) -> nn.Module:
    """The auxiliary head of a configuration, or a list of them where it names several feature maps.

    Args:
        config: Of the model.
        in_channels: Channels of the feature maps.
    """
    if isinstance(config.auxiliary_in_index, int):
        return ProLabAuxiliaryHead(config, in_channels, config.auxiliary_in_index)
    return nn.ModuleList(
        ProLabAuxiliaryHead(config, in_channels, index) for index in config.auxiliary_in_index
    )


DECODERS = {
    "uper": ProLabUperHead,
    "segformer": ProLabSegformerHead,
    "aspp": ProLabAsppHead,
    "linear": ProLabLinearHead,
}
