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
    "model.vit_adapter": True,
    "config.decoder": "uper",
    "config.auxiliary_loss_weight": 1.0,
    "config.void_pixels": "dilute",
    "config.classifier_dropout_prob": 0.1,
    "model.drop_path": 0.3,
    "optimizer.betas": (0.9, 0.999),
    "schedule.warmup_iterations": 1500,
    "schedule.warmup_ratio": 1e-6,
    "schedule.poly_power": 1.0,
    "schedule.min_learning_rate": 0.0,
    "data.scale_range": (0.5, 2.0),
    "data.category_max_ratio": 0.75,
    "data.flip_probability": 0.5,
    "data.photometric_distortion": True,
    "data.image_mean": IMAGENET_MEAN,
    "data.image_std": IMAGENET_STD,
    "evaluation.mode": "slide",
    "evaluation.size_divisor": 32,
    "evaluation.every": 16_000,
    "schedule.max_iterations": 160_000,
    "schedule.batch_size": 2,
    "schedule.total_batch_size": 16,
    "device.mixed_precision": "no",
}
_DEIT_BASE: dict[str, Any] = {
    **_PUBLISHED,
    "model.backbone": "facebook/deit-base-patch16-224",
    "config.hidden_size": 512,
    "optimizer.learning_rate": 6e-5,
    "optimizer.weight_decay": 0.01,
    "optimizer.layer_decay": 0.95,
    "optimizer.num_layers": 12,
    "data.crop_size": 512,
    "data.base_scale": (2048, 512),
    "evaluation.scale": (2048, 512),
    "evaluation.crop_size": 512,
    "evaluation.stride": 341,
    "config.temperature": 0.04,
    "config.normalize_pixel_embeddings": False,
}
_BEIT_LARGE: dict[str, Any] = {
    **_PUBLISHED,
    "config.hidden_size": 1024,
    "optimizer.weight_decay": 0.05,
    "optimizer.layer_decay": 0.90,
    "optimizer.num_layers": 24,
    "model.property_space": "ade20k",
    "model.num_properties": 256,
}
_STREET: dict[str, Any] = {
    **_DEIT_BASE,
    "model.num_properties": 32,
    "data.crop_size": 768,
    "data.base_scale": (2048, 1024),
    "evaluation.scale": (2048, 1024),
    "evaluation.crop_size": 768,
    "evaluation.stride": 512,
    "schedule.batch_size": 1,
    "schedule.total_batch_size": 8,
}

_RECIPES: dict[str, dict[str, Any]] = {
    # The file is named "320k" but trains 160,000 steps.
    "ade20k-deit-base": {
        **_DEIT_BASE,
        "model.property_space": "ade20k",
        "model.num_properties": 256,
        "device.mixed_precision": "fp16",
    },
    "ade20k-beit-large": {
        **_BEIT_LARGE,
        "model.backbone": "microsoft/beit-large-patch16-224-pt22k-ft22k",
        "model.backbone_image_size": 640,
        "optimizer.learning_rate": 2e-5,
        "data.crop_size": 640,
        "data.base_scale": (2048, 640),
        "evaluation.scale": (2048, 640),
        "evaluation.crop_size": 640,
        "evaluation.stride": 426,
        "config.temperature": 0.01,
        "config.normalize_pixel_embeddings": True,
    },
    # The published run started from an earlier, unpublished run of the same network.
    "ade20k-beitv2-large": {
        **_BEIT_LARGE,
        "model.backbone": "timm/beitv2_large_patch16_224.in1k_ft_in22k",
        "model.backbone_image_size": 896,
        "schedule.max_iterations": 80_000,
        "evaluation.every": 4_000,
        "optimizer.learning_rate": 4e-5,
        "data.crop_size": 896,
        "data.base_scale": (3584, 896),
        "evaluation.scale": (3584, 896),
        "evaluation.crop_size": 896,
        "evaluation.stride": 512,
        "config.temperature": 0.04,
        "config.normalize_pixel_embeddings": False,
    },
    "coco-stuff-deit-base": {
        **_DEIT_BASE,
        "model.property_space": "coco_stuff",
        "model.num_properties": 256,
        "config.temperature": 0.01,
        "config.normalize_pixel_embeddings": True,
        "device.mixed_precision": "fp16",
    },
    "pascal-context-deit-base": {
        **_DEIT_BASE,
        "model.property_space": "pascal_context",
        "model.num_properties": 128,
        "evaluation.every": 8_000,
    },
    "cityscapes-deit-base": {**_STREET, "property_space": "cityscapes"},
    "bdd100k-deit-base": {**_STREET, "property_space": "bdd100k"},
    # A few hundred photos and a small pretrained backbone: an evening on a laptop. Of the objectives that start at
    # random, benchmarks/study found that this one loses least in short training; the paper's needs long training.
    "small": {
        "schedule.epochs": 40,
        "schedule.batch_size": 8,
        "optimizer.learning_rate": 5e-4,
        "optimizer.weight_decay": 0.01,
        "optimizer.head_learning_rate_multiplier": 2.0,
        "optimizer.max_gradient_norm": 5.0,
        "config.hidden_size": 128,
        "data.crop_size": 320,
        "data.scale_range": (0.75, 1.75),
        "config.property_loss": "bce",
        "config.class_loss_weight": 1.0,
        "closed_form.finish": "auto",
    },
    # The drawn data set of `prolab quickstart`: a minute or two on two cores, from random weights. Images are
    # enlarged 1.5 times, because maps at a quarter of their size blur the borders; maps of so few channels are
    # 1.5 times as fast channels-last.
    "quickstart": {
        "schedule.epochs": 11,
        "schedule.batch_size": 8,
        "optimizer.learning_rate": 4e-3,
        "optimizer.weight_decay": 0.05,
        "optimizer.max_gradient_norm": 5.0,
        "config.hidden_size": 64,
        "config.class_loss_weight": 0.0,
        "data.crop_size": 96,
        "data.base_scale": (240, 192),
        "data.scale_range": (0.9, 1.13),
        "data.photometric_distortion": False,
        "data.num_workers": 0,
        "device.channels_last": True,
        "evaluation.every": 120,
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
        return TrainingRecipe.from_dict({"name": name, **_RECIPES[name]})
    if name.endswith(".json"):
        return TrainingRecipe.from_json(name)
    raise ValueError(f"There is no recipe {name!r}; known: {', '.join(_RECIPES)}, or a path to a .json file.")
