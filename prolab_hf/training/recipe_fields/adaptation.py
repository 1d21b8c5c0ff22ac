"""Few images and rare classes: balance of classes, low-rank adapters, cached features."""

from dataclasses import dataclass
from typing import ClassVar

from prolab_hf.training.recipe_fields.bounds import RecipeGroup, bounded, choice, flag, number, text, whole
from prolab_hf.training.recipe_fields.groups import ModelFields


@dataclass(frozen=True, kw_only=True)
class BalanceFields(RecipeGroup):
    """What is done for classes that are rare; counts are taken over the training masks, once.

    Attributes:
        class_weights: What the property, cross-entropy and focal loss of a class's pixels are multiplied by: `"none"`,
            `"sqrt"` (one over the root of its share of the pixels), `"effective"` (one over the effective number of
            images that show it, Cui et al. 2019), or a JSON file with a weight per class name. Counted weights are
            scaled so that the mean over the training pixels is 1.
        rare_class_crops: Probability that a crop is laid around a pixel of a class that is drawn among those of the
            image, a class of a quarter of the pixels twice as often; 0 = off.
    """

    group: ClassVar[str] = "balance"
    class_weights: str = text("none")
    rare_class_crops: float = number(0.0, least=0, most=1)


@dataclass(frozen=True, kw_only=True)
class PeftFields(RecipeGroup):
    """Low-rank adapters on the backbone, through peft; decoder and heads are trained in full.

    Attributes:
        method: `"lora"`; `None` = off.
        rank: Of the adapters.
        alpha: Their strength: what they add is multiplied by `alpha / rank`.
        dropout: On their input.
        targets: Ends of the names of the backbone's layers that get one; `None` = those of its family: projections of
            the attention in transformers, pointwise convolutions in convolutional networks.
    """

    group: ClassVar[str] = "peft"
    method: str | None = choice(None, "lora")
    rank: int = whole(8, least=1)
    alpha: float = number(16.0, above=0)
    dropout: float = number(0.0, least=0, below=1)
    targets: tuple[str, ...] | None = bounded(
        None,
        "a list of ends of layer names",
        lambda value: (
            isinstance(value, tuple) and bool(value) and all(isinstance(name, str) and name for name in value)
        ),
    )


@dataclass(frozen=True, kw_only=True)
class FeatureCacheFields(RecipeGroup):
    """Feature maps of a frozen backbone that are computed once and read from disk.

    Attributes:
        cache: Whether they are; `model.freeze` must be `"backbone"`.
        copies: Augmented versions of each image; epoch n sees version n modulo this.
        folder: Where they lie; `None` = `feature_cache` in the folder of the run. Several runs may share one: entries
            are keyed by image, mask, backbone, its weights and the augmentation.
        half: Store them in half precision.
    """

    group: ClassVar[str] = "features"
    cache: bool = flag(False)
    copies: int = whole(4, least=1)
    folder: str | None = text(None)
    half: bool = flag(True)


def check_frozen_parts(model: ModelFields, peft: PeftFields, features: FeatureCacheFields) -> None:
    """Refuses frozen parts, adapters and cached features that contradict each other.

    Raises:
        ValueError: Two fields do not go together.
    """
    if peft.method is not None and model.freeze != "none":
        raise ValueError(
            f"peft.method is {peft.method!r} and model.freeze is {model.freeze!r}; adapters freeze the backbone "
            "themselves: set one of the two."
        )
    if features.cache and model.freeze != "backbone":
        raise ValueError(
            f"features.cache is true and model.freeze is {model.freeze!r}; only the features of a frozen backbone stay "
            "the same: set model.freeze to 'backbone' (--freeze-backbone)."
        )
