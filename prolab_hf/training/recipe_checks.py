"""What the fields of a training recipe may hold; apart, so that `recipe.py` reads as a table of numbers."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prolab_hf.training.recipe import TrainingRecipe

CHOICES = {
    "mixed_precision": ("auto", "no", "bf16", "fp16"),
    "layer_naming": ("transformers", "reference"),
    "final_weights": ("best", "last"),
    "test_mode": ("whole", "slide"),
    "decoder": ("uper", "segformer", "aspp"),
    "void_pixels": ("mask", "dilute"),
}
# Field -> smallest value.
INTEGERS = {
    "max_iterations": 1,
    "batch_size": 1,
    "gradient_accumulation": 1,
    "total_batch_size": 1,
    "num_layers": 1,
    "warmup_iterations": 0,
    "seed": 0,
    "num_workers": 0,
    "log_every": 1,
    "eval_every": 1,
    "save_every": 1,
    "keep_checkpoints": 1,
    "eval_batch_size": 1,
    "test_size_multiple": 1,
    "backbone_image_size": 1,
    "num_properties": 1,
    "hidden_size": 1,
}
INFINITY = math.inf
NUMBERS = {  # field: (lower bound, is it allowed, upper bound, is it allowed)
    "epochs": (0, False, INFINITY, False),
    "learning_rate": (0, False, INFINITY, False),
    "weight_decay": (0, True, INFINITY, False),
    "layer_decay": (0, False, 1, True),
    "head_learning_rate_multiplier": (0, False, INFINITY, False),
    "warmup_ratio": (0, True, 1, True),
    "poly_power": (0, True, INFINITY, False),
    "min_learning_rate": (0, True, INFINITY, False),
    "max_gradient_norm": (0, False, INFINITY, False),
    "ema_decay": (0, False, 1, False),
    "category_max_ratio": (0, False, 1, True),
    "flip_probability": (0, True, 1, True),
    "temperature": (0, False, INFINITY, False),
    "auxiliary_loss_weight": (0, True, INFINITY, False),
    "property_loss_weight": (0, True, INFINITY, False),
    "class_loss_weight": (0, True, INFINITY, False),
    "classifier_dropout_prob": (0, True, 1, False),
    "drop_path": (0, True, 1, False),
}
SIZES = ("crop_size", "test_crop_size", "test_stride")
SCALES = ("base_scale", "test_scale")
TEXTS = ("name", "backbone", "property_space", "label_coding")
FLAGS = (
    "channels_last",
    "sync_batch_norm",
    "photometric_distortion",
    "vit_adapter",
    "normalize_pixel_embeddings",
)


def check_recipe(recipe: "TrainingRecipe") -> None:
    """Checks every field on its own, then the fields that depend on each other.

    Raises:
        ValueError: Naming the field, the value received and what is allowed.
    """
    optional = {field.name for field in dataclasses.fields(recipe) if field.default is None}
    for name in (*CHOICES, *INTEGERS, *NUMBERS, *SIZES, *SCALES, *FLAGS, *TEXTS):
        value = getattr(recipe, name)
        if value is None and name in optional:
            continue
        expected = _violation(name, value)
        if expected:
            raise ValueError(f"{name} is {value!r}; it must be {expected}.")
    _check_pairs(recipe)
    _check_together(recipe)


def _violation(name: str, value: Any) -> str:
    """What the value should have been, or an empty string where it is fine."""
    if name in CHOICES:
        return "" if value in CHOICES[name] else "one of " + ", ".join(map(repr, CHOICES[name]))
    if name in FLAGS:
        return "" if isinstance(value, bool) else "true or false"
    if name in TEXTS:
        return "" if isinstance(value, str) else "text"
    if name in INTEGERS:
        return "" if _is_whole(value, INTEGERS[name]) else f"a whole number of at least {INTEGERS[name]}"
    if name in SIZES:
        good = _is_whole(value, 1) or _is_pair_of_whole(value)
        return "" if good else "a whole number of pixels, or two of them (height, width)"
    if name in SCALES:
        return "" if _is_pair_of_whole(value) else "two whole numbers of pixels (long edge, short edge)"
    low, low_allowed, high, high_allowed = NUMBERS[name]
    good = _is_number(value) and (low < value or (low_allowed and value == low))
    good = good and (value < high or (high_allowed and value == high))
    lower = f"{'at least' if low_allowed else 'greater than'} {low}"
    upper = "" if high == INFINITY else f" and {'at most' if high_allowed else 'less than'} {high}"
    return "" if good else f"a number {lower}{upper}"


def _check_pairs(recipe: "TrainingRecipe") -> None:
    low_high = recipe.scale_range
    good = isinstance(low_high, tuple) and len(low_high) == 2 and all(map(_is_number, low_high))
    if not (good and 0 < low_high[0] <= low_high[1]):
        raise ValueError(f"scale_range is {low_high!r}; it must be two factors with 0 < smallest <= largest.")
    for name, smallest in (("image_mean", -INFINITY), ("image_std", 0)):
        value = getattr(recipe, name)
        good = (
            isinstance(value, tuple)
            and len(value) == 3
            and all(_is_number(v) and v > smallest for v in value)
        )
        if value is not None and not good:
            raise ValueError(f"{name} is {value!r}; it must be three numbers, one per channel (std above 0).")
    betas = recipe.betas
    if not (
        isinstance(betas, tuple) and len(betas) == 2 and all(_is_number(b) and 0 <= b < 1 for b in betas)
    ):
        raise ValueError(f"betas is {betas!r}; it must be two numbers of at least 0 and less than 1.")
    names = recipe.no_decay_names
    if not (isinstance(names, tuple) and all(isinstance(name, str) and name for name in names)):
        raise ValueError(f"no_decay_names is {names!r}; it must be a list of parts of parameter names.")


def _check_together(recipe: "TrainingRecipe") -> None:
    if (recipe.max_iterations is None) == (recipe.epochs is None):
        raise ValueError(
            f"max_iterations is {recipe.max_iterations!r} and epochs is {recipe.epochs!r}; "
            "give exactly one of them."
        )
    if recipe.layer_decay is not None and recipe.num_layers is None:
        raise ValueError(
            f"layer_decay is {recipe.layer_decay} but num_layers is None; "
            "give the number of transformer layers of the backbone (12 for base, 24 for large)."
        )
    if recipe.total_batch_size is not None and recipe.gradient_accumulation != 1:
        raise ValueError(
            f"total_batch_size is {recipe.total_batch_size} and gradient_accumulation is "
            f"{recipe.gradient_accumulation}; give one of them, the other follows."
        )
    if recipe.test_mode == "slide" and (recipe.test_crop_size is None or recipe.test_stride is None):
        raise ValueError(
            f"test_mode is 'slide' with test_crop_size {recipe.test_crop_size!r} and test_stride "
            f"{recipe.test_stride!r}; give both."
        )
    if recipe.test_size_multiple > 1 and recipe.test_scale is None:
        raise ValueError(
            f"test_size_multiple is {recipe.test_size_multiple} but test_scale is None, which leaves images "
            "as they are; give test_scale, too."
        )
    if recipe.min_learning_rate > recipe.learning_rate:
        raise ValueError(
            f"min_learning_rate is {recipe.min_learning_rate}; it must not exceed learning_rate "
            f"{recipe.learning_rate}."
        )
    if recipe.max_iterations is not None and (recipe.warmup_iterations or 0) >= recipe.max_iterations:
        raise ValueError(
            f"warmup_iterations is {recipe.warmup_iterations}; it must be less than max_iterations "
            f"{recipe.max_iterations}."
        )
    if recipe.property_loss_weight == 0 and recipe.class_loss_weight == 0:
        raise ValueError(
            "property_loss_weight and class_loss_weight are both 0; there is nothing to train on."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, smallest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _is_pair_of_whole(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_whole(item, 1) for item in value)
