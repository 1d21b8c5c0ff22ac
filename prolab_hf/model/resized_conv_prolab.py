"""One convolution over maps of several resolutions, as if all were resized to the finest and concatenated.

The fusing convolution is the most expensive layer of UPerNet (two fifths of a ViT-Adapter-B model at 512 x 512),
and three quarters of its input are upsampled maps. Convolution and bilinear resizing are both linear, so each tap
of the kernel can be applied at the map's own resolution, as a 1x1 convolution, and its result resized and shifted:
a 2nd, 4th or 8th of the side means a 4th, 16th or 64th of the products. The sum is the same up to rounding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .resize_prolab import linear_positions

LEAST_SAVING = 2.0  # in products; below it the additional passes over memory eat up the gain

_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def resize(features: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize to `size` (height, width), corners not aligned.

    No shortcut for equal sizes: comparing them would fix them in an exported graph.
    """
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def conv_of_resized(conv: nn.Conv2d, maps: Sequence[Tensor]) -> Tensor:
    """`conv(torch.cat([resize(each, size of the first) for each in maps], dim=1))`, at less cost.

    Args:
        conv: Convolution with stride 1, dilation 1, an odd square kernel, half of it as zero padding, one group,
            without bias.
        maps: `(batch_size, channels, height, width)` each; the first has the size of the result.

    Returns:
        `(batch_size, out_channels, height, width)` of the first map.
    """
    finest = maps[0]
    size = finest.shape[2:]
    weights = conv.weight.split([each.shape[1] for each in maps], dim=1)
    at_own_size = [_saves(each, conv, size) for each in maps[1:]]
    if not any(at_own_size):
        return conv(torch.cat([finest, *(resize(each, size) for each in maps[1:])], dim=1))
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
    if _is_exporting():
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
