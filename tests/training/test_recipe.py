import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch

from prolab_hf.training.engines.mixed_precision import precision_on
from prolab_hf.training.published_recipes import get_recipe, recipe_names
from prolab_hf.training.recipe import (
    FLAT_NAMES,
    OptimizerFields,
    TrainingRecipe,
    config_defaults,
    field_names,
)

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
    window = (recipe.evaluation.crop_size, recipe.evaluation.stride)
    assert row == (
        recipe.model.num_properties,
        recipe["config.temperature"],
        recipe["config.normalize_pixel_embeddings"],
        recipe.data.crop_size,
        recipe.data.base_scale,
        recipe.schedule.max_iterations,
        recipe.optimizer.learning_rate,
        recipe.optimizer.weight_decay,
        recipe.optimizer.layer_decay,
        recipe.schedule.total_batch_size,
        window,
        recipe.device.mixed_precision,
    )
    assert recipe.evaluation.scale == recipe.data.base_scale
    assert (recipe.schedule.warmup_iterations, recipe.schedule.warmup_ratio, recipe.schedule.poly_power) == (
        1500,
        1e-6,
        1.0,
    )
    assert (recipe.optimizer.betas, recipe.model.drop_path, recipe["config.classifier_dropout_prob"]) == (
        (0.9, 0.999),
        0.3,
        0.1,
    )
    assert (recipe.data.scale_range, recipe.data.category_max_ratio) == ((0.5, 2.0), 0.75)
    assert (recipe["config.auxiliary_loss_weight"], recipe["config.void_pixels"]) == (1.0, "dilute")
    assert (recipe.evaluation.mode, recipe.evaluation.size_divisor) == ("slide", 32)
    evaluated = {"ade20k-beitv2-large": 4_000, "pascal-context-deit-base": 8_000}
    assert recipe.evaluation.every == evaluated.get(name, 16_000)
    is_large = "large" in name
    assert (recipe["config.hidden_size"], recipe.optimizer.num_layers) == (
        (1024, 24) if is_large else (512, 12)
    )
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
        ("optimizer.learning_rate", 0, "greater than 0"),
        ("optimizer.learning_rate", float("nan"), "greater than 0"),
        ("optimizer.learning_rate", "1e-4", "a number"),
        ("schedule.batch_size", 2.5, "a whole number of at least 1"),
        ("schedule.batch_size", True, "a whole number of at least 1"),
        ("device.mixed_precision", "fp8", "'bf16'"),
        ("optimizer.betas", (0.9, 1.0), "less than 1"),
        ("data.scale_range", (2.0, 0.5), "smallest <= largest"),
        ("data.crop_size", (512,), "height, width"),
        ("data.base_scale", 512, "long edge, short edge"),
        ("data.flip_probability", 1.5, "at most 1"),
        ("data.image_std", (1.0, 0.0, 1.0), "above 0"),
        ("optimizer.ema_decay", 1.0, "less than 1"),
        ("evaluation.mode", "slide", "give both"),
        ("evaluation.size_divisor", 32, "give scale, too"),
        ("optimizer.layer_decay", 0.9, "num_layers is None"),
        ("schedule.total_batch_size", 0, "at least 1"),
        ("schedule.min_learning_rate", 1.0, "must not exceed learning_rate"),
        ("schedule.warmup_iterations", 100, "less than max_iterations"),
        ("config.property_loss_weight", 0, "nothing to train on"),
        ("config.temperature", -1, "greater than 0"),
        ("config.hidden_size", "wide", "hidden_size"),
        ("config.num_properties", 3, "decided by the property space"),
        ("config.temprature", 3, "did you mean 'temperature'"),
        ("data.photometric_distortion", "yes", "true or false"),
        ("optimizer.no_decay_names", "bias", "a list of parts"),
        ("schedule.epochs", 3, "exactly one"),
        ("seed", -1, "at least 0"),
        ("log_every", 0, "at least 1"),
        ("name", 3, "text"),
        ("optimizer", 3, "a group of fields"),
    ],
)
def test_a_bad_value_is_named(field, value, expected):
    with pytest.raises(ValueError, match=expected) as raised:
        TrainingRecipe.from_dict({"schedule.max_iterations": 100, field: value})
    assert field.rpartition(".")[2] in str(raised.value)


def test_every_field_is_checked():
    """A wrong type in any field is refused, so that a new field cannot be forgotten."""
    for name in field_names():
        with pytest.raises(ValueError, match=name.rpartition(".")[2]):
            TrainingRecipe.from_dict({"schedule.max_iterations": 100, name: object()})


def length(**schedule):
    return TrainingRecipe(schedule=schedule)


def test_length_of_the_run():
    assert length(epochs=2, batch_size=3).total_iterations(10) == 7  # 20 images in batches of 3
    assert length(epochs=0.5, batch_size=2).total_iterations(8, num_processes=2) == 1
    assert length(epochs=1, total_batch_size=8).total_iterations(80, num_processes=2) == 10
    short = length(epochs=1, warmup_iterations=50)
    with pytest.raises(ValueError, match="the run has 5 steps"):
        short.total_iterations(10)
    assert length(epochs=1).warmup_for(1000) == 50
    assert length(epochs=1).warmup_for(160_000) == 1500
    with pytest.raises(ValueError, match="not a multiple"):
        length(epochs=1, batch_size=3, total_batch_size=8).accumulation_for(1)


def test_replacing_one_kind_of_length_clears_the_other():
    recipe = get_recipe("ade20k-deit-base").replace(**{"schedule.epochs": 3})
    assert (recipe.schedule.epochs, recipe.schedule.max_iterations) == (3, None)
    assert recipe.replace(**{"schedule.max_iterations": 2000}).schedule.epochs is None


def test_replacing_a_group_or_one_field_of_it():
    recipe = length(epochs=1).replace(config={"hidden_size": 8, "temperature": 0.1})
    changed = recipe.replace(**{"config.temperature": 0.2, "data.crop_size": [64, 96]})
    assert (dict(changed.config), changed.data.crop_size) == (
        {"hidden_size": 8, "temperature": 0.2},
        (64, 96),
    )
    assert dict(recipe.replace(config={"temperature": 0.3}).config) == {"temperature": 0.3}
    whole = recipe.replace(optimizer=OptimizerFields(learning_rate=1.0))
    assert whole.optimizer == OptimizerFields(learning_rate=1.0)
    assert recipe.replace(optimizer={"learning_rate": 1.0}) == whole
    assert recipe == TrainingRecipe.from_dict(recipe.to_dict()) == pickle.loads(pickle.dumps(recipe))


def test_precision_follows_the_device():
    cpu = torch.device("cpu")
    assert precision_on(cpu, length(epochs=1).device.mixed_precision) == "no"
    half = length(epochs=1).replace(**{"device.mixed_precision": "bf16"})
    assert precision_on(cpu, half.device.mixed_precision) == "bf16"
    with pytest.raises(ValueError, match="'fp16' but the device is a CPU"):
        precision_on(cpu, "fp16")


# ---- recipes of before, whose fields were flat ------------------------------------------------------------

FLAT = json.loads((Path(__file__).parent / "flat_recipes.json").read_text("utf-8"))


# Recipes of our own may get better defaults; those of published runs stay as they were published.
@pytest.mark.parametrize("name", sorted(set(FLAT) - {"small", "quickstart"}))
def test_published_recipes_equal_the_flat_ones_of_before(name, tmp_path):
    """Written down field by field from the version before recipes had groups."""
    recipe = get_recipe(name)
    for flat_name, value in FLAT[name].items():
        now = recipe[FLAT_NAMES[flat_name]] if flat_name in FLAT_NAMES else recipe[flat_name]
        assert (list(now) if isinstance(now, tuple) else now) == value, flat_name
    path = tmp_path / "flat.json"
    path.write_text(json.dumps(FLAT[name]))
    old = TrainingRecipe.from_json(path)
    assert {**config_defaults(), **old.config} == {**config_defaults(), **recipe.config}
    assert old.replace(config=dict(recipe.config)) == recipe


def test_flat_names_still_work_and_say_what_is_new():
    with pytest.warns(DeprecationWarning, match="'learning_rate' .* 'optimizer.learning_rate'"):
        recipe = TrainingRecipe(epochs=1, learning_rate=0.5, test_crop_size=64)
    assert (recipe.optimizer.learning_rate, recipe.evaluation.crop_size) == (0.5, 64)
    with pytest.warns(DeprecationWarning, match="evaluation.stride"):
        recipe = recipe.replace(test_stride=32)
    with pytest.warns(DeprecationWarning, match="evaluation.stride"):
        assert recipe.test_stride == 32
    with pytest.warns(DeprecationWarning, match="config.temperature"):
        assert recipe.temperature == 0.04  # of ProLabConfig
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a file of before is nobody's mistake
        assert TrainingRecipe.from_dict({"epochs": 1, "crop_size": [3, 4]}).data.crop_size == (3, 4)


def test_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="no recipe 'ade'; known: ade20k-deit-base"):
        get_recipe("ade")
    with pytest.raises(ValueError, match=r"did you mean 'optimizer\.learning_rate'"):
        TrainingRecipe.from_dict({"epochs": 1, "learning_rat": 1.0})
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        get_recipe(tmp_path / "missing.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json: this recipe is not readable JSON"):
        get_recipe(broken)
    broken.write_text("[1]")
    with pytest.raises(ValueError, match="it holds a list"):
        get_recipe(broken)
    broken.write_text(json.dumps({"epochs": 1, "batch_size": 0}))
    with pytest.raises(ValueError, match=r"broken\.json: schedule\.batch_size is 0"):
        get_recipe(broken)
