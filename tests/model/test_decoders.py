"""Heads against the reference implementation's outputs and gradients, and their own promises."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from prolab_hf.hub.original_checkpoints import convert_original_head_state_dict
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.decoders_prolab import (
    DECODERS,
    ProLabAuxiliaryHead,
    ProLabConvBlock,
    ProLabFeaturePyramid,
    adaptive_average_pool,
)
from prolab_hf.model.loss_prolab import property_cosine_loss

HEADS = {"uper_head": "uper", "segformer_head": "segformer", "sep_aspp_head": "aspp", "fcn_head": "auxiliary"}


def golden(shared, name):
    folder = shared / "goldens"
    return json.loads((folder / f"{name}.json").read_text()), load_file(folder / f"{name}.safetensors")


def part(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def build_head(facts, kind):
    """Our head for the golden's configuration dictionary, with the reference's weights in it."""
    cfg = facts["cfg"]
    fields = {"embedding_dim": facts["D_embedding"], "num_properties": facts["K_properties"]}
    if kind == "auxiliary":
        fields |= {"auxiliary_in_index": cfg["in_index"], "auxiliary_channels": cfg["channels"]}
        fields |= {"auxiliary_num_convs": cfg["num_convs"], "auxiliary_concat_input": cfg["concat_input"]}
        return ProLabAuxiliaryHead(ProLabConfig(**fields), facts["feature_channels"], cfg["in_index"])
    fields |= {"decoder": kind, "hidden_size": cfg["channels"]}
    if kind == "aspp":
        fields |= {"aspp_dilations": cfg["dilations"], "low_level_channels": cfg["c1_channels"]}
    return DECODERS[kind](ProLabConfig(**fields), facts["feature_channels"])


@pytest.mark.parametrize("name", HEADS)
def test_head_equals_reference_in_outputs_and_gradients(shared, name):
    facts, tensors = golden(shared, name)
    head = build_head(facts, HEADS[name])
    head.load_state_dict(convert_original_head_state_dict(part(tensors, "state/")), strict=True)
    head.eval()
    features = [tensors[f"input/{i}"].requires_grad_() for i in range(4)]
    properties = tensors["bank/normalized_KxD"]

    embedding = head.embed(*features)
    torch.testing.assert_close(embedding, tensors["output/embedding_eval"], atol=1e-5, rtol=1e-5)

    logits, kept = head(properties, *features)
    assert kept is None
    projected = torch.einsum("bdhw,kd->bkhw", embedding, properties)
    torch.testing.assert_close(logits, projected, atol=1e-5, rtol=1e-5)

    loss = property_cosine_loss(
        logits,
        tensors["input/label"][:, 0],
        tensors["bank/cluster2label_NxK"].float(),
        temperature=0.04,
        void_pixels="dilute",
    )
    torch.testing.assert_close(loss, tensors["output/eval_loss_cos_simi"].reshape(()), atol=1e-5, rtol=1e-5)
    loss.backward()
    expected = part(tensors, "grad_eval/")
    ours = {key: value.grad for key, value in head.named_parameters()}
    compared = 0
    for key, value in convert_original_head_state_dict(
        {key: value for key, value in expected.items() if not key.startswith("INPUT_")}
    ).items():
        torch.testing.assert_close(ours[key], value, atol=1e-5, rtol=1e-4)
        compared += 1
    assert compared == len(ours)
    for key, value in expected.items():
        if key.startswith("INPUT_"):
            torch.testing.assert_close(features[int(key[-1])].grad, value, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_head_in_train_mode_equals_reference(shared, name):
    facts, tensors = golden(shared, name)
    head = build_head(facts, HEADS[name])
    head.load_state_dict(convert_original_head_state_dict(part(tensors, "state/")))
    head.train()
    head.dropout.p = 0.0
    embedding = head.embed(*(tensors[f"input/{i}"] for i in range(4)))
    torch.testing.assert_close(embedding, tensors["output/embedding_train_dropout0"], atol=1e-4, rtol=1e-4)
    after = convert_original_head_state_dict(part(tensors, "state_after_train_forward/"))
    assert after
    for key, value in after.items():
        torch.testing.assert_close(head.state_dict()[key], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "bins"), [(8, 12, 3), (7, 5, 6), (4, 4, 6), (1, 3, 2), (11, 13, 1)]
)
def test_pooling_by_matrices_equals_adaptive_pooling(height, width, bins):
    features = torch.randn(2, 3, height, width)
    torch.testing.assert_close(adaptive_average_pool(features, bins), F.adaptive_avg_pool2d(features, bins))


def test_one_value_per_channel_trains_on_running_statistics():
    block = ProLabConvBlock(4, 6).train()
    before = block.batch_norm.running_mean.clone()
    out = block(torch.randn(1, 4, 1, 1))
    assert torch.isfinite(out).all()
    assert torch.equal(block.batch_norm.running_mean, before)
    block(torch.randn(2, 4, 1, 1))
    assert not torch.equal(block.batch_norm.running_mean, before)


def test_normalized_head_hands_out_its_embeddings():
    config = ProLabConfig(
        hidden_size=8, embedding_dim=6, num_properties=5, normalize_pixel_embeddings=True, pool_scales=[1, 2]
    )
    head = DECODERS["uper"](config, [4, 4]).eval()
    features = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    properties = F.normalize(torch.randn(5, 6), dim=1)
    logits, embeddings = head(properties, *features)
    torch.testing.assert_close(embeddings, head.embed(*features))
    torch.testing.assert_close(logits, torch.einsum("bdhw,kd->bkhw", embeddings, properties))


def test_feature_pyramid_gives_four_scales():
    maps = ProLabFeaturePyramid([4, 4, 4, 4])(tuple(torch.randn(2, 4, 6, 10) for _ in range(4)))
    assert [tuple(m.shape[2:]) for m in maps] == [(24, 40), (12, 20), (6, 10), (3, 5)]


def test_auxiliary_head_refuses_a_stage_that_is_not_there():
    with pytest.raises(ValueError, match="auxiliary_in_index is 4; the backbone gives 4 feature maps"):
        ProLabAuxiliaryHead(ProLabConfig(), [4, 8, 12, 16], 4)
