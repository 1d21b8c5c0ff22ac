"""What others put around modules (adapters, hooks, parametrizations, checkpointing) takes part in the network."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.nn.utils import parametrize
from transformers import ConvNextConfig, ViTConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, PropertySpace, ViTAdapterConfig

STAGES = ["stage1", "stage2", "stage3", "stage4"]
SPACE = PropertySpace.random_codes(["sky", "road", "car"], num_properties=8, density=0.4, seed=0)
SPACE = SPACE.replace(property_embeddings=torch.randn(8, 12, generator=torch.Generator().manual_seed(0)))
READ_BY_SHORTCUTS = ["decode_head.classifier", "decode_head.fpn_bottleneck.conv", "auxiliary_head.classifier"]


def make_model(**fields):
    torch.manual_seed(0)
    backbone = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES)
    small = {"hidden_size": 16, "auxiliary_channels": 8, "backbone_config": backbone}
    model = ProLabForSemanticSegmentation(ProLabConfig(**small, **SPACE.to_config_kwargs(), **fields))
    model.set_property_space(SPACE)
    return model.eval()


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "pixel_values": torch.randn(2, 3, 64, 64, generator=generator),
        "labels": torch.randint(0, 3, (2, 64, 64), generator=generator),
    }


@pytest.mark.parametrize("normalized", [False, True])
def test_lora_on_backbone_decoder_and_head_trains_reloads_and_merges(tmp_path, normalized):
    base = make_model(normalize_pixel_embeddings=normalized)
    targets = r"backbone.*pwconv1|.*(fpn_bottleneck\.conv|classifier|lateral_convs\.0\.conv)"
    model = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=targets))
    adapters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for place in ("backbone", *READ_BY_SHORTCUTS):
        assert any(place in name for name in adapters), place
    batch = make_batch()
    optimizer = torch.optim.SGD(adapters.values(), lr=1.0)
    for _ in range(2):  # the first step moves B alone, because B starts at zero
        optimizer.zero_grad()
        model(**batch).loss.backward()
        assert [name for name, parameter in adapters.items() if parameter.grad is None] == []
        optimizer.step()
    assert [name for name, parameter in adapters.items() if not parameter.grad.abs().sum() > 0] == []
    with torch.no_grad():
        trained = model(batch["pixel_values"]).logits
        assert (trained - base(batch["pixel_values"]).logits).abs().max() > 1e-3
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
        torch.testing.assert_close(loaded(batch["pixel_values"]).logits, trained)
        merged = loaded.merge_and_unload()
        assert type(merged) is ProLabForSemanticSegmentation
        torch.testing.assert_close(merged(batch["pixel_values"]).logits, trained, atol=1e-5, rtol=1e-4)
        merged.save_pretrained(tmp_path / "merged")
        again = ProLabForSemanticSegmentation.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(again(batch["pixel_values"]).logits, trained, atol=1e-5, rtol=1e-4)


def test_whole_heads_saved_beside_an_adapter_come_back(tmp_path):
    base = make_model()
    config = LoraConfig(r=2, target_modules=".*pwconv1", modules_to_save=["decode_head", "auxiliary_head"])
    model = get_peft_model(copy.deepcopy(base), config)
    batch = make_batch()
    model(**batch).loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                parameter.add_(0.01)
        model.save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
        torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("place", READ_BY_SHORTCUTS)
def test_hooks_fire_and_their_results_count(place):
    model, batch = make_model(), make_batch()
    calls = []
    module = model.get_submodule(place)
    handle = module.register_forward_hook(lambda module, inputs, output: calls.append(1) or output * 2)
    hooked = model(**batch).loss
    handle.remove()
    assert calls == [1]
    with torch.no_grad():
        module.weight *= 2
        if module.bias is not None:
            module.bias *= 2
        torch.testing.assert_close(hooked, model(**batch).loss)


class Double(nn.Module):
    def forward(self, weight):
        return weight * 2


class Scaled(nn.Module):
    """A module that has the attributes of a convolution and does something else."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, features):
        return self.conv(features) * 2


@pytest.mark.parametrize("place", READ_BY_SHORTCUTS)
@pytest.mark.parametrize("how", ["parametrized", "wrapped", "forward"])
@torch.no_grad()
def test_parametrized_and_wrapped_layers_are_called(place, how):
    model, batch = make_model(), make_batch()
    expected = copy.deepcopy(model)
    plain = expected.get_submodule(place)
    plain.weight *= 2
    parent, _, name = place.rpartition(".")
    module = model.get_submodule(place)
    if how == "parametrized":
        parametrize.register_parametrization(module, "weight", Double())
    else:
        if plain.bias is not None:
            plain.bias *= 2
        if how == "wrapped":
            setattr(model.get_submodule(parent), name, Scaled(module))
        else:
            forward = module.forward
            module.forward = lambda features: forward(features) * 2
    torch.testing.assert_close(model(**batch).loss, expected(**batch).loss)


def test_a_wrapped_projection_of_the_vit_adapter_is_called():
    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64
    )
    backbone = ViTAdapterConfig(vit_config=vit, conv_inplane=8, deform_num_heads=2)
    fields = {"hidden_size": 16, "auxiliary_channels": 8, **SPACE.to_config_kwargs()}
    model = ProLabForSemanticSegmentation(ProLabConfig(backbone_config=backbone, **fields))
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=r".*projections\.\d"))
    adapted(**make_batch()).loss.backward()
    silent = [
        name
        for name, parameter in adapted.named_parameters()
        if "lora_B" in name and not (parameter.grad is not None and parameter.grad.abs().sum() > 0)
    ]
    assert silent == []


def test_half_precision_around_an_adapter():
    model = get_peft_model(make_model().bfloat16(), LoraConfig(r=2, target_modules=".*classifier"))
    images = make_batch()["pixel_values"]
    with torch.no_grad():
        half = model(images.bfloat16()).logits
        full = make_model()(images).logits
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model.float()(images).logits
    assert half.dtype == mixed.dtype == torch.float32
    assert (half - full).abs().mean() < 0.05 and (mixed - full).abs().mean() < 0.05


def test_pooled_to_one_value_keeps_a_frozen_norm_frozen():
    """One image pooled to 1x1 is normalized by running statistics, through whatever wraps the norm."""
    model = make_model().train()
    norm = model.decode_head.pool_convs[0].batch_norm
    calls = []
    norm.register_forward_hook(lambda *_: calls.append(1))
    norm.eval()
    model(make_batch()["pixel_values"][:1])
    assert calls and not norm.training


def test_three_steps_with_checkpointing_give_the_same_statistics():
    plain, saved = make_model().train(), make_model().train()
    enable = getattr(saved, "activation_checkpointing_enable", None) or saved.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    saved = copy.deepcopy(saved)  # a copy freezes its own statistics, not those of its origin
    for model in (plain, saved):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            torch.manual_seed(7)
            model(**make_batch()).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    for (name, ours), theirs in zip(plain.state_dict().items(), saved.state_dict().values(), strict=True):
        torch.testing.assert_close(theirs, ours, msg=lambda text, name=name: f"{name}: {text}")
