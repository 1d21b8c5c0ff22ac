"""Reading the reference's head dictionaries: its defaults, its quirks, and what has no counterpart."""

import logging

import pytest
import torch
from torch.nn import functional as F

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.hub.original_checkpoints import config_from_original, property_space_from_original

BACKBONE = {
    "_delete_": True,  # of the configuration files, which build on one another
    "type": "ViTAdapter",
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "deform_num_heads": 2,
    "conv_inplane": 8,
    "deform_ratio": 0.5,
    "interaction_indexes": [[0, 0], [1, 1], [2, 2], [3, 3]],
    "window_attn": [False] * 4,
    "window_size": [None] * 4,
}
COSINE = {"type": "CosineSimilarityLoss", "loss_weight": 1.0}
SCORES = {
    "get_logit_mode": "cosine_similarity_with_sigmoid",
    "sigmoid_temperature": 0.04,
    "image_embedding_normalize": False,
}
SHARED = {"num_classes": 6, "norm_cfg": {"type": "SyncBN", "requires_grad": True}, "ignore_index": None}
UPER = {"type": "UPerHead_cluster_embed", "in_index": [0, 1, 2, 3], "channels": 8, "loss_decode": COSINE}
ASPP = {
    "type": "DepthwiseSeparableASPPHead_cluster_embed",
    "in_index": 3,
    "channels": 8,
    "c1_in_channels": 32,
    "c1_channels": 4,
    "loss_decode": COSINE,
}
FCN = {"type": "FCNHead_cluster_embed", "in_index": 2, "channels": 8, "loss_decode": COSINE}


@pytest.fixture(scope="module")
def space():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    return property_space_from_original(torch.randn(6, 4, generator=generator), labels)


def read(space, head=None, auxiliary=None, decoder=None, **model):
    head = (decoder or UPER) | SHARED | SCORES | (head or {})
    if auxiliary is not None:
        model["auxiliary_head"] = FCN | SHARED | SCORES | auxiliary
    return config_from_original({"backbone": BACKBONE, "decode_head": head, **model}, space)


def without(field, head):
    return {name: value for name, value in head.items() if name != field}


def test_what_is_left_out_has_the_reference_defaults(space):
    """Raw cosines, temperature 1, normalized embeddings, 255 masked, two convolutions on the last map."""
    head = {"type": "UPerHead_cluster_embed", "channels": 8, "num_classes": 6}
    auxiliary = {"type": "FCNHead_cluster_embed", "channels": 8, "num_classes": 6}
    config = config_from_original(
        {"backbone": BACKBONE, "decode_head": head, "auxiliary_head": auxiliary}, space
    )
    assert (config.similarity, config.temperature, config.normalize_pixel_embeddings) == ("cosine", 1.0, True)
    assert (config.void_pixels, config.semantic_loss_ignore_index) == ("mask", 255)
    assert (config.property_loss_weight, config.class_loss_weight) == (0.0, 1.0)
    assert (config.auxiliary_in_index, config.auxiliary_num_convs) == (3, 2)
    assert config.auxiliary_concat_input and config.auxiliary_kernel_size == 3
    assert list(config.pool_scales) == [1, 2, 3, 6] and config.classifier_dropout_prob == 0.1


def test_weights_that_the_reference_ignores_count_as_one(space):
    config = read(space, auxiliary={"loss_decode": COSINE | {"loss_weight": 0.4}})
    assert (config.property_loss_weight, config.auxiliary_loss_weight) == (1.0, 1.0)
    assert config.class_loss_weight == 0.0


@pytest.mark.parametrize(
    ("kind", "ignored", "expected"),
    [
        ("CosineSimilarityLoss", None, "dilute"),
        ("CosineSimilarityLoss", 255, "mask"),
        ("BCELoss", None, "dilute"),
        ("BCELoss", 255, "dilute"),
        ("MSELoss", 255, "dilute"),
    ],
)
def test_void_pixels_count_where_the_reference_counts_them(space, kind, ignored, expected):
    """Its BCE and MSE are means before the mask is applied, so `ignore_index` has no effect on them."""
    config = read(space, {"loss_decode": {"type": kind}, "ignore_index": ignored})
    assert config.void_pixels == expected


def test_masked_mean_of_the_reference_is_reproduced(space):
    """BCE with `ignore_index=255` against the reference's expression, written out."""
    torch.manual_seed(0)
    config = read(space, {"loss_decode": {"type": "BCELoss"}, "ignore_index": 255})
    model = ProLabForSemanticSegmentation(config)
    model.set_property_space(space)
    model.eval()
    labels = torch.randint(0, 3, (1, 64, 64))
    labels[:, :20] = 255
    image = torch.randn(1, 3, 64, 64)
    out = model(image, labels=labels)
    logits = F.interpolate(out.property_logits, size=(64, 64), mode="bilinear")
    rows = torch.cat([space.class_property_matrix.float(), torch.zeros(1, 4)])
    target = rows[labels.where(labels != 255, 3)].permute(0, 3, 1, 2)
    valid = (labels != 255).float()
    mean = F.binary_cross_entropy(torch.sigmoid(logits / 0.04), target)
    torch.testing.assert_close(out.loss, (mean * valid).sum() / valid.sum(), rtol=1e-5, atol=0)


def test_class_loss_keeps_its_weight_and_is_announced(space, caplog):
    losses = [COSINE, {"type": "CrossEntropyLoss", "loss_weight": 0.5}]
    with caplog.at_level(logging.WARNING):
        config = read(space, {"loss_decode": losses, "ignore_index": 255})
    assert (config.property_loss_weight, config.class_loss_weight, config.class_temperature) == (
        1.0,
        0.5,
        1.0,
    )
    assert "CrossEntropyLoss" in caplog.text and "differ from the reference's" in caplog.text


def test_the_model_states_what_a_head_leaves_out(space):
    config = config_from_original(
        {"backbone": BACKBONE, "decode_head": UPER | SHARED, **SCORES, "auxiliary_head": FCN | SHARED}, space
    )
    assert (config.similarity, config.temperature) == ("sigmoid_cosine", 0.04)


def test_another_void_label(space):
    config = read(space, {"ignore_index": 254, "background_index_value": 254})
    assert (config.semantic_loss_ignore_index, config.void_pixels) == (254, "mask")


def test_aspp_defaults(space):
    config = read(space, decoder=without("in_index", ASPP))
    assert list(config.aspp_dilations) == [1, 6, 12, 18] and config.low_level_channels == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sigmoid_temperature": 0.01},
            r"decode_head.sigmoid_temperature is 0.04, auxiliary_head.sigmoid_temp",
        ),
        ({"loss_decode": {"type": "MSELoss"}}, r"both heads must be trained alike"),
        ({"ignore_index": 255}, r"decode_head.ignore_index is None, auxiliary_head.ignore_index is 255"),
        ({"dilation": 2}, r"auxiliary_head.dilation is 2; only 1"),
        ({"in_index": 4}, r"auxiliary_head.in_index is 4"),
        ({"type": "FCNHead"}, r"auxiliary_head.type is 'FCNHead'; allowed: FCNHead_cluster_embed"),
    ],
)
def test_auxiliary_heads_that_do_not_fit_are_named(space, changes, message):
    with pytest.raises(ValueError, match=message):
        read(space, auxiliary=changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_index": [0, 1, 2]}, r"in_index is \[0, 1, 2\]; only \[0, 1, 2, 3\]"),
        ({"norm_cfg": {"type": "GN", "num_groups": 2}}, r"decode_head.norm_cfg .* BN, SyncBN"),
        ({"act_cfg": {"type": "GELU"}}, r"decode_head.act_cfg is {'type': 'GELU'}"),
        ({"loss_decode": [COSINE, {"type": "MSELoss"}]}, r"has 2 property losses"),
        ({"loss_decode": {"type": "DiceLoss"}}, r"loss_decode.type is 'DiceLoss'"),
        ({"ignore_index": 254}, r"ignore_index is 254 and background_index_value 255"),
    ],
)
def test_decoders_without_a_counterpart_are_named(space, changes, message):
    with pytest.raises(ValueError, match=message):
        read(space, changes)


def test_missing_parts_are_named(space):
    with pytest.raises(ValueError, match=r"model_cfg has no decode_head; give the dictionary .* `model`"):
        config_from_original({"model": {}}, space)
    with pytest.raises(ValueError, match=r"model_cfg has no backbone"):
        config_from_original({"decode_head": UPER | SHARED}, space)
    with pytest.raises(ValueError, match=r"decode_head.channels is missing"):
        read(space, decoder=without("channels", UPER))
    with pytest.raises(ValueError, match=r"decode_head.c1_in_channels is 0"):
        read(space, decoder=ASPP | {"c1_in_channels": 0})
    with pytest.raises(ValueError, match=r"model.sigmoid_temperature is 0.01"):
        read(space, sigmoid_temperature=0.01)
