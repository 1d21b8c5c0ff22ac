"""Which fields of `ProLabConfig` a recipe may set."""

import functools
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError

from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.suggestions import did_you_mean

# What `ProLabConfig` gets from the property space and the backbone, not from a recipe.
NOT_IN_CONFIG = {
    "backbone_config",
    "class_properties",
    "class_weights",
    "embedding_dim",
    "id2label",
    "label2id",
    "num_properties",
    "property_names",
    "property_space_info",
}


LOSS_WEIGHTS = ("property_loss_weight", "class_loss_weight", "dice_loss_weight", "lovasz_loss_weight")


@functools.cache
def config_defaults() -> dict[str, Any]:
    """Fields of `ProLabConfig` that a recipe may set, with their defaults."""
    names = [name for name in ProLabConfig.__annotations__ if name not in NOT_IN_CONFIG]
    return {name: getattr(ProLabConfig, name) for name in names if hasattr(ProLabConfig, name)}


def check_config(config: Mapping[str, Any]) -> None:
    """Checks the overrides of `ProLabConfig` that a recipe holds.

    Raises:
        ValueError: A name is no field or not a recipe's, or a value is outside its range.
    """
    for name in config:
        if name == "class_weights":
            raise ValueError(
                "config.class_weights is counted over the training masks; set balance.class_weights to 'sqrt', "
                "'effective' or a file instead."
            )
        if name in NOT_IN_CONFIG:
            raise ValueError(
                f"config.{name} is decided by the property space and the backbone; leave it out of the recipe."
            )
        if name not in config_defaults():
            near = did_you_mean(name, config_defaults()) or "."
            raise ValueError(f"config.{name}: ProLabConfig has no field {name!r}{near}")
    try:
        # The defaults are fine, and building a configuration costs more than reading a recipe.
        checked = ProLabConfig(**config) if config else None
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ValueError(f"config: {' '.join(str(error).split())}") from error
    if checked is not None and not any(getattr(checked, name) for name in LOSS_WEIGHTS):
        raise ValueError(
            "config.property_loss_weight and config.class_loss_weight are both 0, and there is no Dice or Lovasz loss; "
            "there is nothing to train on."
        )
