"""Which layer of a segmentation network gives its class scores: found by running it, never guessed by name."""

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""Of the largest score; resizing in another order changes the last bits."""

MASK_CLASSIFIER = (
    "decides by queries: a pixel's class scores are sums over whole masks, times the class probabilities of their "
    "queries, so no layer of it maps a pixel's features to classes and there is nothing to solve again"
)


def find_class_layer(network: PreTrainedModel, pixel_values: Tensor) -> str:
    """Name of the layer whose output, resized at most, is what the network returns as `logits`.

    Args:
        network: A network for semantic segmentation.
        pixel_values: `(batch_size, channels, height, width)` of real images, as its processor gives them.

    Returns:
        The module's name in `network.named_modules()`.

    Raises:
        ValueError: There is no such layer; the message says what the network has instead.
    """
    kind, num_labels = type(network).__name__, int(network.config.num_labels or 0)
    outputs: dict[str, list[Tensor]] = {}
    hooks = [
        module.register_forward_hook(_recorder(outputs.setdefault(name, [])))
        for name, module in network.named_modules()
        if _gives_classes(module, num_labels)
    ]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            result = network(pixel_values)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    if getattr(result, "class_queries_logits", None) is not None:
        raise ValueError(f"{kind} {MASK_CLASSIFIER}; adapt takes networks whose last layer is a convolution.")
    logits = getattr(result, "logits", None)
    if not _is_map(logits, num_labels):
        found = "none" if logits is None else f"of shape {tuple(logits.shape)}"
        raise ValueError(
            f"{kind} must return logits (batch_size, {num_labels}, height, width); it returns {found}. adapt "
            "takes networks for semantic segmentation."
        )
    ran = {name: values for name, values in outputs.items() if values}
    matching = [name for name, values in ran.items() if any(_is_resized(each, logits) for each in values)]
    if not matching:
        candidates = ", ".join(ran) or "none"
        raise ValueError(
            f"The last layer of {kind} is no convolution or linear layer to its {num_labels} classes that is only "
            f"resized afterwards (layers with {num_labels} outputs: {candidates}); there is no layer to solve again."
        )
    name = matching[-1]
    if len(ran[name]) > 1:
        raise ValueError(
            f"The class layer {name!r} of {kind} runs {len(ran[name])} times for one image; it must run once."
        )
    return name


def _gives_classes(module: nn.Module, num_labels: int) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.out_channels == num_labels
    return isinstance(module, nn.Linear) and module.out_features == num_labels


def _recorder(values: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.dim() == 4:
            values.append(output.movedim(-1, 1) if isinstance(module, nn.Linear) else output)

    return record


def _is_map(logits: object, num_labels: int) -> TypeGuard[Tensor]:
    return isinstance(logits, Tensor) and logits.dim() == 4 and logits.shape[1] == num_labels


def _is_resized(scores: Tensor, logits: Tensor) -> bool:
    """Whether `logits` are `scores`, as they are or resized bilinearly to another size."""
    if scores.shape[:2] != logits.shape[:2]:
        return False
    allowed = TOLERANCE * float(logits.abs().max())
    size = logits.shape[2:]
    if scores.shape == logits.shape:
        return bool((scores - logits).abs().max() <= allowed)
    return any(
        bool(
            (F.interpolate(scores, size, mode="bilinear", align_corners=aligned) - logits).abs().max()
            <= allowed
        )
        for aligned in (False, True)
    )


__all__ = ["find_class_layer"]
