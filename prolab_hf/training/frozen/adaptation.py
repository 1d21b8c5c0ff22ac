"""What a recipe does to a network for the time of a run: freezes parts, or puts adapters into its backbone."""

import contextlib
from collections.abc import Iterator

from torch import nn

from prolab_hf.training.frozen.freezing import freeze
from prolab_hf.training.frozen.lora import adapted_layers, add_adapters, merge_adapters
from prolab_hf.training.recipe import TrainingRecipe


@contextlib.contextmanager
def adapted_for_training(model: nn.Module, recipe: TrainingRecipe) -> Iterator[list[str]]:
    """The model as the recipe trains it, while entered; afterwards adapters are merged and nothing is frozen by it.

    Args:
        model: Changed in place. What was frozen before stays frozen.
        recipe: `model.freeze` and `peft`.

    Yields:
        What was done, in words.

    Raises:
        ImportError: peft is needed and not installed.
        ValueError: The model has no such parts.
    """
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        if recipe.peft.method is None:
            freeze(model, recipe.model.freeze)
        else:
            add_adapters(model, recipe.peft, seed=recipe.seed)
        yield _in_words(model, recipe)
    finally:
        merge_adapters(model)
        for parameter, trained in before.items():
            parameter.requires_grad_(trained)
        for module in model.modules():
            if hasattr(module, "is_frozen"):
                del module.is_frozen


def _in_words(model: nn.Module, recipe: TrainingRecipe) -> list[str]:
    if recipe.peft.method is None and recipe.model.freeze == "none":
        return []
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    what = f"frozen: {recipe.model.freeze}"
    if recipe.peft.method is not None:
        fields = recipe.peft
        layers = len(adapted_layers(model))
        what = f"LoRA of rank {fields.rank}, alpha {fields.alpha:g}, on {layers} layers of the backbone"
    return [f"{what}; {trained / 1e6:,.2f} of {total / 1e6:,.2f} million parameters are trained"]
