"""Low-rank adapters: which layers get them, what is trained, and that file, merge and resume are exact."""

import copy

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSemanticSegmentation, TimmBackboneConfig, ViTConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, ViTAdapterConfig
from prolab_hf.training.frozen.adaptation import adapted_for_training
from prolab_hf.training.frozen.lora import adapted_layers, adapter_targets, add_adapters, merged_state
from prolab_hf.training.optimization import group_parameters
from prolab_hf.training.recipe import PeftFields
from prolab_hf.training.reporting import TrainingInterrupted
from prolab_hf.training.trainer import train
from tests.training.conftest import CLASS_PROPERTIES, Stripes, build_model
from tests.training.frozen.test_freezing import model_on
from tests.training.test_trainer import QUIET, assert_equal_weights, stop_at, weights

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("dinov2", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("swin", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("convnext", {"pwconv1", "pwconv2"}),
        ("resnet", {"convolution"}),
    ],
)
def test_layers_of_each_family(name, ends):
    backbone = model_on(name).backbone
    found = adapter_targets(backbone)
    assert {target.rpartition(".")[2] for target in found} == ends
    if name == "resnet":  # a basic one has no pointwise convolutions but in its shortcuts
        assert not any("shortcut" in target or "embedder.embedder" in target for target in found)


@pytest.mark.parametrize(
    ("name", "ends"),
    [("vit_tiny_patch16_224", {"qkv", "proj"}), ("mobilenetv3_small_050", {"conv_pw", "conv_pwl"})],
)
def test_layers_of_timm_networks(name, ends):
    pytest.importorskip("timm")
    from transformers import AutoBackbone

    config = TimmBackboneConfig(backbone=name, use_pretrained_backbone=False, out_indices=[1, 2])
    found = adapter_targets(AutoBackbone.from_config(config))
    assert {target.rpartition(".")[2] for target in found} >= ends
    assert not any(".se." in target or "mlp" in target for target in found)


def test_only_adapters_and_heads_are_trained_and_layer_decay_finds_them(recipe):
    model = model_on("dinov2")
    add_adapters(model, PeftFields(method="lora", rank=2))
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert all("lora_" in name for name in trained if name.startswith("backbone."))
    assert all(name in trained for name, _ in model.named_parameters() if name.startswith("decode_head."))
    decay = {"optimizer.layer_decay": 0.5, "optimizer.num_layers": 4}
    groups = group_parameters(model.named_parameters(), recipe.replace(**decay))
    scales = {name: group["lr_scale"] for group in groups for name in group["param_names"]}
    assert set(scales) == trained
    of_layer = {name.split(".")[3]: scale for name, scale in scales.items() if name.startswith("backbone.")}
    assert of_layer == {"0": 0.0625, "1": 0.125, "2": 0.25, "3": 0.5}


def test_what_is_new_around_a_transformer_is_trained_in_full():
    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32
    )
    config = ViTAdapterConfig(vit_config=vit, deform_num_heads=2, conv_inplane=4)
    fields = {"hidden_size": 8, "embedding_dim": 8, "num_properties": 4, "use_auxiliary_head": False}
    model = ProLabForSemanticSegmentation(
        ProLabConfig(backbone_config=config, class_properties=CLASS_PROPERTIES, **fields)
    )
    add_adapters(model, PeftFields(method="lora"))
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert "backbone.level_embed" in trained
    assert all("lora_" in name for name in trained if name.startswith("backbone.vit."))
    assert any(name.startswith("backbone.interactions.") for name in trained)


def test_ends_of_names_choose_layers():
    model = model_on("dinov2")
    add_adapters(model, PeftFields(method="lora", targets=("mlp.fc1",)))
    assert len(adapted_layers(model)) == 4
    with pytest.raises(
        ValueError, match=r"peft.targets is \['fc9'\], but no layer of the backbone ends like that"
    ):
        add_adapters(model_on("dinov2"), PeftFields(method="lora", targets=("fc9",)))


def test_merging_changes_names_and_nothing_else(recipe):
    """Names are those of the plain network, and the result is that of the one with adapters."""
    for name in ("dinov2", "convnext"):
        model = model_on(name).eval()
        names = set(model.state_dict())
        with adapted_for_training(model, recipe.replace(**{"peft.method": "lora"})) as words:
            assert "LoRA of rank 8, alpha 16, on" in words[0]
            with torch.no_grad():
                for parameter in model.backbone.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.05)
                expected = model(IMAGES).logits
                merged = merged_state(model)
            assert set(merged) == names
        torch.testing.assert_close(model(IMAGES).logits, expected, atol=1e-5, rtol=1e-4)
        assert set(model.state_dict()) == names and not adapted_layers(model)
        assert all(parameter.requires_grad for parameter in model.parameters())
        plain = model_on(name).eval()
        plain.load_state_dict(merged)
        torch.testing.assert_close(plain(IMAGES).logits, expected, atol=1e-5, rtol=1e-4)


def lora_recipe(recipe):
    return recipe.replace(**{"peft.method": "lora", "peft.rank": 2, "optimizer.ema_decay": 0.9})


def test_a_run_exports_the_merged_model_and_the_adapter(tmp_path, recipe):
    base = build_model(use_auxiliary_head=True, auxiliary_in_index=[1, 2])
    model = copy.deepcopy(base)
    train(model, Stripes(), Stripes(4), recipe=lora_recipe(recipe), output_dir=tmp_path / "run", **QUIET)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run").eval()
    torch.testing.assert_close(loaded(IMAGES).logits, model.eval()(IMAGES).logits, atol=1e-6, rtol=1e-5)
    assert set(weights(loaded)) == set(weights(base))
    assert not torch.equal(loaded(IMAGES).logits, base.eval()(IMAGES).logits)
    # peft's own loading puts the adapter onto the network that the run began with.
    again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "run" / "adapter").eval()
    torch.testing.assert_close(again(IMAGES).logits, loaded(IMAGES).logits, atol=1e-6, rtol=1e-5)
    merged = again.merge_and_unload()
    assert_equal_weights(
        {name: value for name, value in weights(merged).items() if "lora" not in name}, weights(loaded)
    )


def test_a_resumed_run_with_adapters_is_exact(tmp_path, recipe):
    whole, cut = build_model(), build_model()
    options = {"recipe": lora_recipe(recipe), **QUIET}
    train(whole, Stripes(), None, output_dir=tmp_path / "whole", **options)
    with pytest.raises(TrainingInterrupted):
        train(cut, Stripes(), None, output_dir=tmp_path / "cut", callbacks=[stop_at(3)], **options)
    # A checkpoint is a model like any other: its adapters are merged, and kept apart beside it.
    newest = sorted((tmp_path / "cut" / "checkpoints").glob("step-*"))[-1]
    plain = AutoModelForSemanticSegmentation.from_pretrained(newest)
    assert set(weights(plain)) == set(weights(build_model()))
    resumed = build_model(seed=5)  # nothing of it may count
    train(resumed, Stripes(), None, output_dir=tmp_path / "cut", resume=True, **options)
    assert_equal_weights(weights(resumed), weights(whole))
    train(build_model(), Stripes(), None, output_dir=tmp_path / "cut", overwrite=True, recipe=recipe, **QUIET)
    assert not (tmp_path / "cut" / "adapter").exists()  # it was the discarded run's


def test_without_peft_the_extra_is_named(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(ImportError, match=r"pip install 'prolab_hf\[peft\]'"):
        add_adapters(build_model(), PeftFields(method="lora"))
