import dataclasses
import json

import pytest
import torch

from prolab_hf.training.published_recipes import get_recipe, recipe_names
from prolab_hf.training.recipe import TrainingRecipe

# PAPER.md section 1.4, row by row: K, T, normalized, crop, scale, steps, lr, decay, layer decay, batch,
# window, fp16.
PUBLISHED = {
    "ade20k-deit-base": (
        256,
        0.04,
        False,
        512,
        (2048, 512),
        160_000,
        6e-5,
        0.01,
        0.95,
        16,
        (512, 341),
        "fp16",
    ),
    "ade20k-beit-large": (256, 0.01, True, 640, (2048, 640), 160_000, 2e-5, 0.05, 0.90, 16, (640, 426), "no"),
    "ade20k-beitv2-large": (
        256,
        0.04,
        False,
        896,
        (3584, 896),
        80_000,
        4e-5,
        0.05,
        0.90,
        16,
        (896, 512),
        "no",
    ),
    "coco-stuff-deit-base": (
        256,
        0.01,
        True,
        512,
        (2048, 512),
        160_000,
        6e-5,
        0.01,
        0.95,
        16,
        (512, 341),
        "fp16",
    ),
    "pascal-context-deit-base": (
        128,
        0.04,
        False,
        512,
        (2048, 512),
        160_000,
        6e-5,
        0.01,
        0.95,
        16,
        (512, 341),
        "no",
    ),
    "cityscapes-deit-base": (
        32,
        0.04,
        False,
        768,
        (2048, 1024),
        160_000,
        6e-5,
        0.01,
        0.95,
        8,
        (768, 512),
        "no",
    ),
    "bdd100k-deit-base": (32, 0.04, False, 768, (2048, 1024), 160_000, 6e-5, 0.01, 0.95, 8, (768, 512), "no"),
}


@pytest.mark.parametrize(("name", "row"), PUBLISHED.items())
def test_published_numbers(name, row):
    recipe = get_recipe(name)
    window = (recipe.test_crop_size, recipe.test_stride)
    assert row == (
        recipe.num_properties,
        recipe.temperature,
        recipe.normalize_pixel_embeddings,
        recipe.crop_size,
        recipe.base_scale,
        recipe.max_iterations,
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.layer_decay,
        recipe.total_batch_size,
        window,
        recipe.mixed_precision,
    )
    assert recipe.test_scale == recipe.base_scale
    assert (recipe.warmup_iterations, recipe.warmup_ratio, recipe.poly_power) == (1500, 1e-6, 1.0)
    assert (recipe.betas, recipe.drop_path, recipe.classifier_dropout_prob) == ((0.9, 0.999), 0.3, 0.1)
    assert (recipe.scale_range, recipe.category_max_ratio) == ((0.5, 2.0), 0.75)
    assert (recipe.auxiliary_loss_weight, recipe.void_pixels) == (1.0, "dilute")
    assert (recipe.test_mode, recipe.test_size_multiple) == ("slide", 32)
    evaluated = {"ade20k-beitv2-large": 4_000, "pascal-context-deit-base": 8_000}
    assert recipe.eval_every == evaluated.get(name, 16_000)
    is_large = "large" in name
    assert (recipe.hidden_size, recipe.num_layers) == ((1024, 24) if is_large else (512, 12))
    # 8 devices with 2 images each (1 for the street scenes), as published.
    assert recipe.accumulation_for(8) == 1
    assert recipe.accumulation_for(1) == 8


def test_json_round_trip(tmp_path):
    for name in recipe_names():
        recipe = get_recipe(name)
        recipe.to_json(tmp_path / "recipe.json")
        assert get_recipe(tmp_path / "recipe.json") == recipe


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("learning_rate", 0, "greater than 0"),
        ("learning_rate", float("nan"), "greater than 0"),
        ("learning_rate", "1e-4", "a number"),
        ("batch_size", 2.5, "a whole number of at least 1"),
        ("batch_size", True, "a whole number of at least 1"),
        ("mixed_precision", "fp8", "'bf16'"),
        ("betas", (0.9, 1.0), "less than 1"),
        ("scale_range", (2.0, 0.5), "smallest <= largest"),
        ("crop_size", (512,), "height, width"),
        ("base_scale", 512, "long edge, short edge"),
        ("flip_probability", 1.5, "at most 1"),
        ("ema_decay", 1.0, "less than 1"),
        ("test_mode", "slide", "give both"),
        ("layer_decay", 0.9, "num_layers is None"),
        ("total_batch_size", 0, "at least 1"),
        ("min_learning_rate", 1.0, "must not exceed learning_rate"),
        ("warmup_iterations", 100, "less than max_iterations"),
        ("property_loss_weight", 0, "nothing to train on"),
        ("photometric_distortion", "yes", "true or false"),
        ("no_decay_names", "bias", "a list of parts"),
        ("epochs", 3, "exactly one"),
    ],
)
def test_a_bad_value_is_named(field, value, expected):
    with pytest.raises(ValueError, match=expected) as raised:
        TrainingRecipe(**{"max_iterations": 100, field: value})
    assert field in str(raised.value)


def test_every_field_is_checked():
    """A wrong type in any field is refused, so that a new field cannot be forgotten."""
    free_text = {"name", "backbone", "property_space"}
    for field in dataclasses.fields(TrainingRecipe):
        if field.name not in free_text:
            with pytest.raises(ValueError, match=field.name):
                TrainingRecipe(**{"max_iterations": 100, field.name: object()})


def test_length_of_the_run():
    assert TrainingRecipe(epochs=2, batch_size=3).total_iterations(10) == 7  # 20 images in batches of 3
    assert TrainingRecipe(epochs=0.5, batch_size=2).total_iterations(8, num_processes=2) == 1
    assert TrainingRecipe(epochs=1, total_batch_size=8).total_iterations(80, num_processes=2) == 10
    short = TrainingRecipe(epochs=1, warmup_iterations=50)
    with pytest.raises(ValueError, match="the run has 5 steps"):
        short.total_iterations(10)
    assert TrainingRecipe(epochs=1).warmup_for(1000) == 50
    assert TrainingRecipe(epochs=1).warmup_for(160_000) == 1500
    with pytest.raises(ValueError, match="not a multiple"):
        TrainingRecipe(epochs=1, batch_size=3, total_batch_size=8).accumulation_for(1)


def test_replacing_one_kind_of_length_clears_the_other():
    recipe = get_recipe("ade20k-deit-base").replace(epochs=3)
    assert (recipe.epochs, recipe.max_iterations) == (3, None)
    assert recipe.replace(max_iterations=2000).epochs is None


def test_precision_follows_the_device():
    cpu = torch.device("cpu")
    assert TrainingRecipe(epochs=1).precision_on(cpu) == "no"
    assert TrainingRecipe(epochs=1, mixed_precision="bf16").precision_on(cpu) == "bf16"
    with pytest.raises(ValueError, match="'fp16' but the device is a CPU"):
        TrainingRecipe(epochs=1, mixed_precision="fp16").precision_on(cpu)


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="no recipe 'ade'; known: ade20k-deit-base"):
        get_recipe("ade")
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        TrainingRecipe.from_dict({"epochs": 1, "learning_rat": 1.0})
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        get_recipe(tmp_path / "missing.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json is not valid JSON"):
        get_recipe(broken)
    broken.write_text("[1]")
    with pytest.raises(ValueError, match="holds a list"):
        get_recipe(broken)
    broken.write_text(json.dumps({"epochs": 1, "batch_size": 0}))
    with pytest.raises(ValueError, match=r"broken\.json: batch_size is 0"):
        get_recipe(broken)
