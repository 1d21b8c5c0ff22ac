"""The class layer is found by running the network, and what has none is refused with the reason."""

import pytest
import torch
from torch import nn
from transformers import (
    DetrConfig,
    DPTConfig,
    DPTForSemanticSegmentation,
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

from prolab_hf.solving.class_layer import find_class_layer
from prolab_hf.solving.foreign_network import load_network

VALUES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def segformer(num_labels=16):
    torch.manual_seed(0)
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[8, 16, 16, 32],  # layers with 16 outputs are not the class layer
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
            num_labels=num_labels,
        )
    )


def test_layers_of_the_same_width_are_not_mistaken_for_it():
    network = segformer()
    assert find_class_layer(network, VALUES) == "decode_head.classifier"
    assert network.training  # as it was


def test_scores_may_be_resized_afterwards():
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
        num_labels=5,
    )
    assert find_class_layer(DPTForSemanticSegmentation(config), VALUES) == "head.head.4"


def wrap(change):
    network = segformer()
    network.decode_head.classifier = change(network.decode_head.classifier)
    return network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layer: nn.Sequential(layer, nn.Softmax(dim=1)), "only resized afterwards"),
        (
            lambda layer: nn.Sequential(layer, nn.ReLU(), nn.ConvTranspose2d(16, 16, 2, 2)),
            "no layer to solve",
        ),
        (lambda layer: nn.Conv2d(16, 3, 1), r"must return logits .* of shape \(1, 3, 16, 16\)"),
    ],
)
def test_what_has_no_class_layer_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        find_class_layer(wrap(change), VALUES)


def test_mask_classifiers_are_refused_with_the_reason(tmp_path):
    config = MaskFormerConfig(
        backbone_config=ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 8, 8],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        decoder_config=DetrConfig(
            d_model=32, decoder_layers=1, decoder_ffn_dim=32, decoder_attention_heads=2, num_queries=5
        ),
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=5,
    )
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="decides by queries"):
        load_network(tmp_path)
    network = MaskFormerForInstanceSegmentation(config)
    for check in (load_network, lambda each: find_class_layer(each, VALUES)):
        with pytest.raises(ValueError, match="decides by queries"):
            check(network)


def test_other_models_and_missing_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        load_network(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no model folder"):
        load_network(tmp_path / "none")
    ResNetConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no network for semantic segmentation"):
        load_network(tmp_path)
    with pytest.raises(TypeError, match="model is a int"):
        load_network(3)
