"""What the fields of a configuration that only training reads may hold."""

import math
from typing import Any

from torch import nn


def check_training_fields(config: Any) -> None:
    """Refuses weights of classes, pixels and auxiliary heads that say nothing sensible.

    Args:
        config: A `ProLabConfig`; its number of classes is only known once it is complete.

    Raises:
        ValueError: A field has a value outside its range, or another number of entries than it needs.
    """
    if config.hard_pixel_share > 1:
        raise ValueError(
            f"hard_pixel_share is {config.hard_pixel_share!r}; it must be in (0, 1], 1 for all pixels."
        )
    if config.hard_pixel_threshold is not None and not config.hard_pixel_threshold > 0:
        raise ValueError(
            f"hard_pixel_threshold is {config.hard_pixel_threshold!r}; it must be greater than 0, or None."
        )
    indices, weights = auxiliary_stages(config), auxiliary_weights(config)
    if not indices or len(set(indices)) != len(indices):
        raise ValueError(
            f"auxiliary_in_index is {config.auxiliary_in_index!r}; give one feature map, or several different ones "
            "(use_auxiliary_head=False for none)."
        )
    if len(weights) != len(indices):
        raise ValueError(
            f"auxiliary_loss_weight has {len(weights)} entries for {len(indices)} auxiliary heads "
            f"(auxiliary_in_index {config.auxiliary_in_index!r}); give one number for all, or one per head."
        )
    if any(not (math.isfinite(weight) and weight >= 0) for weight in weights):
        raise ValueError(
            f"auxiliary_loss_weight is {config.auxiliary_loss_weight!r}; it must not be negative."
        )


def check_class_weights(config: Any) -> None:
    """Refuses weights that are not one per class.

    Raises:
        ValueError: There are more or fewer than classes, one is negative or not finite, or all are 0.
    """
    weights = config.class_weights
    if weights is None:
        return
    if len(weights) != config.num_labels:
        raise ValueError(
            f"class_weights has {len(weights)} entries for {config.num_labels} labels; it needs one per class, or None."
        )
    wrong = [weight for weight in weights if not (math.isfinite(weight) and weight >= 0)]
    if wrong or not any(weights):
        found = f"the weight {wrong[0]!r}" if wrong else "only zeros"
        raise ValueError(
            f"class_weights holds {found}; a weight is a finite number of at least 0, one of them above."
        )


def auxiliary_stages(config: Any) -> list[int]:
    """The feature maps that have an auxiliary head."""
    value = config.auxiliary_in_index
    return [value] if isinstance(value, int) else list(value)


def auxiliary_weights(config: Any) -> list[float]:
    """What the loss of each auxiliary head is multiplied by."""
    value = config.auxiliary_loss_weight
    return list(value) if isinstance(value, list | tuple) else [value] * len(auxiliary_stages(config))


def auxiliary_heads(model: nn.Module) -> list[Any]:
    """The heads of a model that are supervised beside its decoder, none in many models."""
    head = getattr(model, "auxiliary_head", None)
    if head is None:
        return []
    return list(head) if isinstance(head, nn.ModuleList) else [head]
