"""Labeled pixels of an image and their features: the feature maps read at the very place of each pixel.

No map is ever enlarged: each is interpolated at its own stride at the pixels that are looked at. So the cost does not
depend on the stride, and thin classes keep the pixels that a majority vote in coarse cells would take from them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prolab_hf.protocols import ImageProcessor

MapsFunction = Callable[[Tensor], Sequence[Tensor]]
"""From prepared images `(batch_size, 3, height, width)` to the maps that a last layer sees."""

PIXELS_PER_SAMPLE = (
    14**2
)  # one per patch of the usual transformers: its products cost a tenth of their forward pass
FEWEST_SAMPLES = 256


class PixelSample(NamedTuple):
    """Pixels of one image, each standing for several of its class.

    Attributes:
        rows: Row indices `(pixels,)`.
        columns: Column indices `(pixels,)`.
        labels: Class ids `(pixels,)`.
        weights: Labeled pixels of the class in the image per pixel of the sample `(pixels,)`.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]


def sample_pixels(
    mask: NDArray[np.integer], ignore_index: int, number: int | None, rng: np.random.Generator
) -> PixelSample:
    """Pixels spread over the classes and the place of an image.

    A class gets pixels in proportion to the root of its area, at even distances in reading order; each weighs what it
    stands for, so weighted sums estimate those over all labeled pixels without bias.

    Args:
        mask: Class ids `(height, width)`.
        ignore_index: Label of pixels without a class.
        number: About how many; `None` takes one per 14 x 14 pixels, at least 256.
        rng: Source of the random start in each stretch.
    """
    flat = mask.reshape(-1)
    places = np.flatnonzero(flat != ignore_index)
    labels = flat[places]
    order = np.argsort(labels, kind="stable")
    classes, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    wanted = max(FEWEST_SAMPLES, mask.size // PIXELS_PER_SAMPLE) if number is None else number
    wanted = max(1, round(wanted * len(places) / max(1, mask.size)))
    quotas = _quotas(counts, wanted)
    chosen, weights = [], []
    for start, count, quota in zip(starts, counts, quotas):
        inside = ((np.arange(quota) + rng.random(quota)) * (count / quota)).astype(np.int64)
        chosen.append(places[order[start + np.minimum(inside, count - 1)]])
        weights.append(np.full(quota, count / quota))
    if not chosen:
        nothing = np.zeros(0, np.int64)
        return PixelSample(nothing, nothing, nothing, np.zeros(0))
    index = np.concatenate(chosen)
    rows, columns = np.divmod(index, mask.shape[1])
    return PixelSample(rows, columns, np.repeat(classes, quotas).astype(np.int64), np.concatenate(weights))


def _quotas(counts: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """How many pixels of each class, at least 1 and at most all."""
    if not len(counts):
        return counts
    roots = np.sqrt(counts)
    return np.minimum(counts, np.maximum(1, np.round(wanted * roots / roots.sum()).astype(np.int64)))


def features_at(maps: Sequence[Tensor], sample: PixelSample, size: tuple[int, int]) -> Tensor:
    """Features of the pixels of one image, with a constant 1 at the end.

    Args:
        maps: `(1, channels, height, width)` each, any sizes.
        sample: The pixels.
        size: Height and width of the image that the pixels are counted in.

    Returns:
        `(pixels, sum of the channels + 1)` float32 on the device of the maps.
    """
    device = maps[0].device
    # Where interpolate(align_corners=False) would read for this pixel of the enlarged map.
    x = torch.from_numpy((sample.columns + 0.5) * (2 / size[1]) - 1).to(device, torch.float32)
    y = torch.from_numpy((sample.rows + 0.5) * (2 / size[0]) - 1).to(device, torch.float32)
    grid = torch.stack([x, y], dim=1)[None, None]
    read = [
        nn.functional.grid_sample(each.float(), grid, padding_mode="border", align_corners=False)[0, :, 0].t()
        for each in maps
    ]
    return torch.cat([*read, torch.ones(len(x), 1, device=device)], dim=1)


def network_fingerprint(modules: Sequence[nn.Module]) -> str:
    """SHA-256 over the weights that make the features."""
    digest = hashlib.sha256()
    for number, module in enumerate(modules):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{number}.{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def transform_fingerprint(processor: ImageProcessor) -> str:
    """SHA-256 over the options with which images are prepared."""
    to_dict = getattr(processor, "to_dict", None)
    kind = {"transform": type(processor).__qualname__}
    options = to_dict() if to_dict is not None else {**kind, **getattr(processor, "__dict__", {})}
    ignored = (
        "image_processor_type",
        "temperature",
        "auto_map",
        "backend",
        "_processor_class",
        "processor_class",
    )
    kept = {name: value for name, value in options.items() if name not in ignored}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()
