"""The seven published configurations by name, and small ones of our own.

Numbers: the authors' configuration files. Where code and file disagree the recipe says what the published run
did: the auxiliary loss had weight 1.0 (the reference never multiplied by its 0.4) and void pixels diluted
    the mean.
"""

from pathlib import Path
from typing import Any

from prolab_hf.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from prolab_hf.training.recipe import TrainingRecipe

# Common to all published runs: UPerNet with an auxiliary head, AdamW, 1,500 steps of warm-up, linear decay
# to 0.
_PUBLISHED: dict[str, Any] = {
    "vit_adapter": True,
    "decoder": "uper",
    "auxiliary_loss_weight": 1.0,
    "void_pixels": "dilute",
    "classifier_dropout_prob": 0.1,
    "drop_path": 0.3,
    "betas": (0.9, 0.999),
    "warmup_iterations": 1500,
    "warmup_ratio": 1e-6,
    "poly_power": 1.0,
    "min_learning_rate": 0.0,
    "scale_range": (0.5, 2.0),
    "category_max_ratio": 0.75,
    "flip_probability": 0.5,
    "photometric_distortion": True,
    "image_mean": IMAGENET_MEAN,
    "image_std": IMAGENET_STD,
    "test_mode": "slide",
    "test_size_multiple": 32,
    "eval_every": 16_000,
    "max_iterations": 160_000,
    "batch_size": 2,
    "total_batch_size": 16,
    "mixed_precision": "no",
}
_DEIT_BASE: dict[str, Any] = {
    **_PUBLISHED,
    "backbone": "facebook/deit-base-patch16-224",
    "hidden_size": 512,
    "learning_rate": 6e-5,
    "weight_decay": 0.01,
    "layer_decay": 0.95,
    "num_layers": 12,
    "crop_size": 512,
    "base_scale": (2048, 512),
    "test_scale": (2048, 512),
    "test_crop_size": 512,
    "test_stride": 341,
    "temperature": 0.04,
    "normalize_pixel_embeddings": False,
}
_BEIT_LARGE: dict[str, Any] = {
    **_PUBLISHED,
    "hidden_size": 1024,
    "weight_decay": 0.05,
    "layer_decay": 0.90,
    "num_layers": 24,
    "property_space": "ade20k",
    "num_properties": 256,
}
_STREET: dict[str, Any] = {
    **_DEIT_BASE,
    "num_properties": 32,
    "crop_size": 768,
    "base_scale": (2048, 1024),
    "test_scale": (2048, 1024),
    "test_crop_size": 768,
    "test_stride": 512,
    "batch_size": 1,
    "total_batch_size": 8,
}

_RECIPES: dict[str, dict[str, Any]] = {
    # The file is named "320k" but trains 160,000 steps.
    "ade20k-deit-base": {
        **_DEIT_BASE,
        "property_space": "ade20k",
        "num_properties": 256,
        "mixed_precision": "fp16",
    },
    "ade20k-beit-large": {
        **_BEIT_LARGE,
        "backbone": "microsoft/beit-large-patch16-224-pt22k-ft22k",
        "backbone_image_size": 640,
        "learning_rate": 2e-5,
        "crop_size": 640,
        "base_scale": (2048, 640),
        "test_scale": (2048, 640),
        "test_crop_size": 640,
        "test_stride": 426,
        "temperature": 0.01,
        "normalize_pixel_embeddings": True,
    },
    # The published run started from an earlier, unpublished run of the same network.
    "ade20k-beitv2-large": {
        **_BEIT_LARGE,
        "backbone": "timm/beitv2_large_patch16_224.in1k_ft_in22k",
        "backbone_image_size": 896,
        "max_iterations": 80_000,
        "eval_every": 4_000,
        "learning_rate": 4e-5,
        "crop_size": 896,
        "base_scale": (3584, 896),
        "test_scale": (3584, 896),
        "test_crop_size": 896,
        "test_stride": 512,
        "temperature": 0.04,
        "normalize_pixel_embeddings": False,
    },
    "coco-stuff-deit-base": {
        **_DEIT_BASE,
        "property_space": "coco_stuff",
        "num_properties": 256,
        "temperature": 0.01,
        "normalize_pixel_embeddings": True,
        "mixed_precision": "fp16",
    },
    "pascal-context-deit-base": {
        **_DEIT_BASE,
        "property_space": "pascal_context",
        "num_properties": 128,
        "eval_every": 8_000,
    },
    "cityscapes-deit-base": {**_STREET, "property_space": "cityscapes"},
    "bdd100k-deit-base": {**_STREET, "property_space": "bdd100k"},
    # A few hundred photos and a small pretrained backbone: an evening on a laptop.
    "small": {
        "epochs": 40,
        "batch_size": 8,
        "learning_rate": 5e-4,
        "weight_decay": 0.01,
        "head_learning_rate_multiplier": 2.0,
        "max_gradient_norm": 5.0,
        "hidden_size": 128,
        "crop_size": 320,
        "scale_range": (0.75, 1.75),
        "class_loss_weight": 1.0,
        "drop_path": None,
    },
    # The drawn data set of `prolab quickstart`: a minute or two on two cores, from random weights.
    "quickstart": {
        "epochs": 5,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "weight_decay": 0.01,
        "max_gradient_norm": 5.0,
        "hidden_size": 64,
        "crop_size": 96,
        "scale_range": (0.75, 1.5),
        "photometric_distortion": False,
        "class_loss_weight": 0.0,
        "num_workers": 0,
    },
}


def recipe_names() -> list[str]:
    """Names that `get_recipe` knows."""
    return list(_RECIPES)


def get_recipe(name_or_path: str | Path) -> TrainingRecipe:
    """A recipe by name, or from a JSON file.

    Args:
        name_or_path: One of `recipe_names()`, or a path ending in `.json`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The name is unknown, or the file is not a recipe.
    """
    name = str(name_or_path)
    if name in _RECIPES:
        return TrainingRecipe(name=name, **_RECIPES[name])
    if name.endswith(".json"):
        return TrainingRecipe.from_json(name)
    raise ValueError(f"There is no recipe {name!r}; known: {', '.join(_RECIPES)}, or a path to a .json file.")
