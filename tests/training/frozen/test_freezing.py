"""Frozen parts: no weight and no statistic of theirs moves, and afterwards nothing is frozen any more."""

import json

import pytest
import torch
from torch import nn
from transformers import ConvNextConfig, Dinov2Config, ResNetConfig, SwinConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation
from prolab_hf.training.frozen.freezing import freeze, start_training
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train
from tests.training.conftest import CLASS_PROPERTIES, Stripes, build_model
from tests.training.test_trainer import QUIET, weights

STAGES = ["stage1", "stage2", "stage3", "stage4"]
BACKBONES = {
    "resnet": ResNetConfig(
        embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic", out_features=STAGES
    ),
    "convnext": ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4, out_features=STAGES),
    "swin": SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, out_features=STAGES),
    "dinov2": Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, out_features=STAGES, image_size=28
    ),
}


def model_on(name):
    fields = {"hidden_size": 8, "embedding_dim": 8, "num_properties": 4, "use_auxiliary_head": False}
    return ProLabForSemanticSegmentation(
        ProLabConfig(backbone_config=BACKBONES[name], class_properties=CLASS_PROPERTIES, **fields)
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_two_stages_and_what_comes_before(name):
    """In every family the input layers and two stages stand still, the third stage trains."""
    model = model_on(name)
    freeze(model, "stages:2")
    frozen = {name for name, value in model.backbone.named_parameters() if not value.requires_grad}
    trained = {name for name, value in model.backbone.named_parameters() if value.requires_grad}
    part = {"resnet": "encoder.stages.", "convnext": "encoder.stages.", "swin": "swin.encoder.layers.",
            "dinov2": "encoder.layer."}[name]  # fmt: skip
    assert {item.split(".")[part.count(".")] for item in frozen if item.startswith(part)} == {"0", "1"}
    assert {item.split(".")[part.count(".")] for item in trained if item.startswith(part)} == {"2", "3"}
    assert any("embed" in item for item in frozen) and not any("embed" in item for item in trained)
    assert all(value.requires_grad for value in model.decode_head.parameters())


def test_all_stages_leave_what_comes_after_them():
    model = model_on("convnext")
    freeze(model, "stages:4")
    trained = {name for name, value in model.backbone.named_parameters() if value.requires_grad}
    assert trained and all(name.startswith("hidden_states_norms") for name in trained)


def test_statistics_of_frozen_norms_stand_still():
    model = build_model()
    freeze(model, "backbone")
    start_training(model)
    assert not any(module.training for module in model.backbone.modules())
    assert model.decode_head.training
    before = weights(model)
    model(pixel_values=torch.randn(2, 3, 32, 32)).logits.sum().backward()
    moved = {name for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("decode_head.") for name in moved)
    assert all(parameter.grad is None for parameter in model.backbone.parameters())


def test_a_run_changes_nothing_frozen_and_leaves_nothing_frozen(tmp_path, recipe):
    recipe = recipe.replace(**{"model.freeze": "backbone", "optimizer.ema_decay": 0.9})
    model = build_model()
    before = weights(model)
    train(model, Stripes(), Stripes(4), recipe=recipe, output_dir=tmp_path / "run", **QUIET)
    after = weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("backbone."))
    assert any(
        not torch.equal(after[name], before[name]) for name in before if name.startswith("decode_head.")
    )
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(hasattr(module, "is_frozen") for module in model.modules())
    saved = json.loads((tmp_path / "run" / "training_recipe.json").read_text())
    assert saved["model"]["freeze"] == "backbone"


def test_what_was_frozen_before_stays_frozen(tmp_path, recipe):
    model = build_model()
    model.decode_head.classifier.weight.requires_grad_(False)
    train(model, Stripes(), None, recipe=recipe, output_dir=tmp_path / "run", **QUIET)
    assert not model.decode_head.classifier.weight.requires_grad


@pytest.mark.parametrize(
    ("model", "part", "message"),
    [
        (build_model, "stages:5", r"'stages:5', but of the stages of the backbone ResNetBackbone it has 4"),
        (lambda: nn.Conv2d(3, 3, 1), "backbone", "a Conv2d has no module named backbone"),
    ],
)
def test_parts_that_are_not_there(model, part, message):
    with pytest.raises(ValueError, match=message):
        freeze(model(), part)


@pytest.mark.parametrize("value", ["all", "stages", "stages:0", "stages:-1", 2])
def test_other_words_are_refused(value):
    with pytest.raises(ValueError, match=r"model.freeze is .*; it must be 'none', 'backbone' or 'stages:N'"):
        TrainingRecipe(schedule={"epochs": 1}, model={"freeze": value})


def test_contradictions_are_refused():
    epochs = {"schedule": {"epochs": 1}}
    with pytest.raises(ValueError, match=r"peft.method is 'lora' and model.freeze is 'backbone'"):
        TrainingRecipe(**epochs, peft={"method": "lora"}, model={"freeze": "backbone"})
    with pytest.raises(ValueError, match=r"features.cache is true and model.freeze is 'stages:2'"):
        TrainingRecipe(**epochs, features={"cache": True}, model={"freeze": "stages:2"})
