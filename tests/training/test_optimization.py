import json

import pytest
import torch
from torch import nn

from prolab_hf.training.optimization import (
    AveragedWeights,
    build_optimizer,
    build_scheduler,
    group_parameters,
    layer_id,
    learning_rate_factor,
)
from prolab_hf.training.published_recipes import get_recipe
from prolab_hf.training.recipe import TrainingRecipe

GOLDENS = {
    "deit_base_ade20k": "ade20k-deit-base",
    "beit_large_640_ade20k": "ade20k-beit-large",
    "beitv2_large_896_ade20k": "ade20k-beitv2-large",
}


def reference_parameters(path):
    """Names and shapes of the reference's parameters, as empty tensors."""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        name, _, shape, kind = line.split("\t")
        if kind == "param":
            yield name, nn.Parameter(torch.empty(json.loads(shape), device="meta"))


@pytest.mark.parametrize(("golden", "recipe_name"), GOLDENS.items())
def test_groups_equal_the_reference(shared, golden, recipe_name):
    expected = json.loads((shared / "goldens" / f"param_groups_{golden}.json").read_text())
    recipe = get_recipe(recipe_name).replace(**{"optimizer.layer_naming": "reference"})
    assert recipe.optimizer.learning_rate == expected["base_lr"]
    assert recipe.optimizer.weight_decay == expected["weight_decay"]
    parameters = reference_parameters(shared / "goldens" / f"keys_{golden}.txt")

    groups = {group["name"]: group for group in group_parameters(parameters, recipe)}

    assert groups.keys() == {group["group_name"] for group in expected["groups"]}
    for reference in expected["groups"]:
        group = groups[reference["group_name"]]
        assert group["param_names"] == reference["param_names"]
        assert group["lr_scale"] == reference["lr_scale"]
        assert group["lr"] == reference["lr"]
        assert group["weight_decay"] == reference["weight_decay"]


def test_a_last_layer_that_starts_at_its_solution_learns_slowly():
    names = ("backbone.stem.weight", "decode_head.bottleneck.weight", "decode_head.classifier.weight")
    parameters = [(name, nn.Parameter(torch.zeros(2, 2))) for name in names]
    recipe = get_recipe("small")
    head = recipe.optimizer.learning_rate * recipe.optimizer.head_learning_rate_multiplier
    rates = {g["param_names"][-1]: g["lr"] for g in group_parameters(parameters, recipe)}
    assert rates == {names[0]: recipe.optimizer.learning_rate, names[2]: head}
    solved = recipe.replace(**{"closed_form.init": "solve"})
    rates = {g["param_names"][-1]: g["lr"] for g in group_parameters(parameters, solved)}
    assert rates == {names[0]: recipe.optimizer.learning_rate, names[1]: head, names[2]: head * 0.01}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("backbone.embeddings.cls_token", 0),
        ("backbone.vit.embeddings.patch_embeddings.projection.weight", 0),
        ("backbone.encoder.layer.0.attention.output.dense.weight", 1),
        ("backbone.vit.layers.11.mlp.fc1.weight", 12),
        ("backbone._backbone.blocks.3.attn.qkv.weight", 4),
        ("backbone._backbone.pos_embed", 0),
        ("backbone.spatial_prior.stem.0.weight", 13),
        ("backbone.interactions.0.injector.gamma", 13),
        ("backbone.layernorm.weight", 13),
        ("decode_head.classifier.weight", 13),
        ("decode_head.layers.0.weight", 13),
    ],
)
def test_layer_of_transformers_names(name, expected):
    assert layer_id(name, 12) == expected


def test_layer_beyond_the_declared_number_is_refused():
    with pytest.raises(ValueError, match=r"layer 12, but num_layers is 12.*at least 13"):
        layer_id("backbone.layers.12.mlp.fc1.weight", 12)
    with pytest.raises(ValueError, match="naming is 'mmseg'"):
        layer_id("backbone.layers.0.mlp.fc1.weight", 12, "mmseg")


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.decode_head = nn.Conv2d(4, 2, 1)


def test_decay_and_head_rate_without_layer_decay():
    recipe = TrainingRecipe(
        schedule={"epochs": 1},
        optimizer={"learning_rate": 1e-3, "weight_decay": 0.1, "head_learning_rate_multiplier": 5.0},
    )
    model = Small()
    model.backbone[0].weight.requires_grad_(False)
    groups = {group["name"]: group for group in group_parameters(model.named_parameters(), recipe)}
    assert {name: group["param_names"] for name, group in groups.items()} == {
        "backbone_no_decay": ["backbone.0.bias", "backbone.1.weight", "backbone.1.bias"],
        "head_decay": ["decode_head.weight"],
        "head_no_decay": ["decode_head.bias"],
    }
    assert groups["head_decay"]["lr"] == pytest.approx(5e-3)
    assert (groups["head_decay"]["weight_decay"], groups["head_no_decay"]["weight_decay"]) == (0.1, 0.0)
    no_decay = recipe.replace(**{"optimizer.no_decay_names": ("decode_head.weight",)})
    assert all(g["weight_decay"] == 0 for g in group_parameters(model.named_parameters(), no_decay))


def test_layer_decay_on_a_network_without_layers_is_refused():
    recipe = TrainingRecipe(schedule={"epochs": 1}, optimizer={"layer_decay": 0.9, "num_layers": 12})
    with pytest.raises(ValueError, match="no parameter belongs to a numbered transformer layer"):
        group_parameters(Small().named_parameters(), recipe)
    model = Small().requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        group_parameters(model.named_parameters(), recipe)


def test_schedule_by_hand():
    # 100 steps, warm-up 10, ratio 0.1: factor(step) = (1 - step/100) * (1 - (1 - step/10) * 0.9) for step <
    # 10.
    recipe = TrainingRecipe(
        schedule={"max_iterations": 100, "warmup_iterations": 10, "warmup_ratio": 0.1},
        optimizer={"learning_rate": 1.0},
    )
    expected = {0: 0.1, 5: 0.95 * 0.55, 9: 0.91 * 0.91, 10: 0.9, 50: 0.5, 99: 0.01, 100: 0.0, 120: 0.0}
    for step, value in expected.items():
        assert learning_rate_factor(step, recipe, 100) == pytest.approx(value)
    floor = recipe.replace(
        **{"schedule.min_learning_rate": 0.2, "schedule.poly_power": 2.0, "schedule.warmup_iterations": 0}
    )
    assert learning_rate_factor(50, floor, 100) == pytest.approx(0.25 * 0.8 + 0.2)
    assert learning_rate_factor(100, floor, 100) == pytest.approx(0.2)


def test_scheduler_scales_every_group():
    recipe = TrainingRecipe(
        schedule={"max_iterations": 10, "warmup_iterations": 0},
        optimizer={"learning_rate": 1.0, "head_learning_rate_multiplier": 3.0},
    )
    optimizer = build_optimizer(Small(), recipe)
    scheduler = build_scheduler(optimizer, recipe, 10)
    rates = []
    for _ in range(3):
        rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    assert [rate["backbone_decay"] for rate in rates] == pytest.approx([1.0, 0.9, 0.8])
    assert [rate["head_decay"] for rate in rates] == pytest.approx([3.0, 2.7, 2.4])


def test_averaged_weights_follow_the_formula_and_come_back():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = AveragedWeights(model, decay=0.5)
    model.weight.data.fill_(3.0)
    average.update(model)  # decay = min(0.5, 2/11)
    value = 1.0 + (3.0 - 1.0) * (1 - 2 / 11)
    average.swap_in(model)
    assert model.weight.item() == pytest.approx(value)
    with pytest.raises(RuntimeError, match="already"):
        average.swap_in(model)
    average.swap_out(model)
    assert model.weight.item() == 3.0
    with pytest.raises(RuntimeError, match="swap_in first"):
        average.swap_out(model)
