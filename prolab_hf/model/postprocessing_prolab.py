"""From a network's output to label maps and property maps at the size of the pictures."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput

from .resize_prolab import resize_argmax


def semantic_maps(
    logits: Tensor, target_sizes: Any = None, *, return_segmentation_scores: bool = False
) -> list[Tensor] | list[SemanticSegmentationPostProcessorOutput]:
    """Class ids of every picture.

    Args:
        logits: `(batch_size, num_classes, height, width)` class similarities at feature resolution.
        target_sizes: One `(height, width)` per picture, or a tensor `(batch_size, 2)`; `None` keeps the
            resolution of `logits`.
        return_segmentation_scores: Return the upsampled class scores `(num_classes, height, width)`, too.

    Returns:
        Per picture an int64 map `(height, width)`, or, with scores, an output with `segmentation` and
        `segmentation_scores`.

    Raises:
        ValueError: There is not one positive size per picture.
    """
    sizes = _checked_sizes(target_sizes, len(logits))
    if sizes is None:
        maps = list(logits.argmax(dim=1))
    else:
        maps = [resize_argmax(logits[i : i + 1], size)[0] for i, size in enumerate(sizes)]
    if not return_segmentation_scores:
        return maps
    scores = _resized(logits.float(), sizes)
    return [
        SemanticSegmentationPostProcessorOutput(data={"segmentation": labels, "segmentation_scores": score})
        for labels, score in zip(maps, scores)
    ]


def property_maps(property_logits: Tensor, target_sizes: Any = None, *, temperature: float) -> list[Tensor]:
    """Property scores of every picture: `sigmoid(logit / temperature)`, then bilinear upsampling.

    Scores come before upsampling, the order in which the classes are decided, too.

    Args:
        property_logits: `(batch_size, num_properties, height, width)` before temperature and sigmoid.
        target_sizes: As in `semantic_maps`.
        temperature: The model's `config.temperature`.

    Returns:
        Per picture float32 scores `(num_properties, height, width)` in [0, 1].

    Raises:
        ValueError: There is not one positive size per picture.
    """
    sizes = _checked_sizes(target_sizes, len(property_logits))
    return _resized(torch.sigmoid(property_logits.float() / temperature), sizes)


def _resized(maps: Tensor, sizes: Sequence[tuple[int, int]] | None) -> list[Tensor]:
    if sizes is None:
        return list(maps)
    return [
        F.interpolate(maps[i : i + 1], size=size, mode="bilinear", align_corners=False)[0]
        for i, size in enumerate(sizes)
    ]


def _checked_sizes(target_sizes: Any, batch_size: int) -> list[tuple[int, int]] | None:
    if target_sizes is None:
        return None
    sizes = target_sizes.tolist() if isinstance(target_sizes, Tensor) else list(target_sizes)
    if len(sizes) != batch_size:
        raise ValueError(
            f"target_sizes has {len(sizes)} entries for {batch_size} pictures; "
            "pass one (height, width) per picture."
        )
    for size in sizes:
        if len(size) != 2 or int(size[0]) < 1 or int(size[1]) < 1:
            raise ValueError(
                f"target_sizes contains {size!r}; each entry is (height, width) with positive integers."
            )
    return [(int(height), int(width)) for height, width in sizes]
