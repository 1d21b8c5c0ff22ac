"""Other networks as backbones: the feature map is exactly what their class layer read."""

import pytest
import torch
from torch import nn
from transformers import (
    Data2VecVisionConfig,
    Data2VecVisionForSemanticSegmentation,
    MobileViTV2Config,
    MobileViTV2ForSemanticSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
    TimmBackboneConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.utils import is_timm_available

from prolab_hf.model.adapted_network_prolab import AdaptedNetworkBackbone, AdaptedNetworkConfig, FeatureTap

STAGES = ["stage1", "stage2", "stage3", "stage4"]


def segformer():
    config = SegformerConfig(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        num_labels=5,
    )
    return SegformerForSemanticSegmentation(config), "decode_head.classifier"


def upernet(backbone):
    config = UperNetConfig(backbone_config=backbone, hidden_size=16, use_auxiliary_head=False, num_labels=5)
    return UperNetForSemanticSegmentation(config), "decode_head.classifier"


def swin():
    return upernet(
        SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], image_size=64, out_features=STAGES)
    )


def timm_network():
    return upernet(TimmBackboneConfig(backbone="test_efficientnet", out_indices=[1, 2, 3, 4]))


def data2vec():
    config = Data2VecVisionConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=64,
        patch_size=16,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
        num_labels=5,
    )
    return Data2VecVisionForSemanticSegmentation(config), "decode_head.classifier"


def mobilevit():
    config = MobileViTV2Config(
        image_size=64, width_multiplier=0.25, aspp_out_channels=16, output_stride=16, num_labels=5
    )
    return MobileViTV2ForSemanticSegmentation(config), "segmentation_head.classifier.convolution"


FAMILIES = [segformer, swin, data2vec, mobilevit]
if is_timm_available():
    FAMILIES.append(timm_network)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_class_layer_on_the_feature_map_gives_the_networks_scores(family, tmp_path):
    torch.manual_seed(0)
    network, name = family()
    network.eval()
    layer = network.get_submodule(name)
    nn.init.normal_(layer.weight)
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    values = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        network(values)
        backbone = AdaptedNetworkBackbone.from_network(network, name).eval()
        features = backbone(values).feature_maps
        torch.testing.assert_close(layer(features[0]), seen[0], rtol=0, atol=1e-5)
    assert [features[0].shape[1]] == list(backbone.channels)
    backbone.save_pretrained(tmp_path, save_original_format=False)
    loaded = AdaptedNetworkBackbone.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(values).feature_maps[0], features[0], rtol=0, atol=1e-6)


def test_hidden_states_are_the_networks_own():
    network, name = segformer()
    network.eval()
    backbone = AdaptedNetworkBackbone.from_network(network, name).eval()
    values = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(values, output_hidden_states=True).hidden_states
        found = backbone(values, output_hidden_states=True).hidden_states
        assert backbone(values).hidden_states is None
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 3, 3, padding=1),
        nn.Conv2d(4, 3, 3, padding=2, dilation=2),
        nn.Conv2d(4, 3, (3, 5), stride=2),
        nn.Conv2d(4, 3, 3, padding="same"),
        nn.Conv2d(4, 3, 1, stride=2),
    ],
)
def test_under_a_larger_kernel_every_pixel_has_its_neighborhood(layer):
    tap = FeatureTap(layer)
    features = torch.randn(2, 4, 9, 11)
    assert tap(features).shape == (2, 1, 9, 11)
    patches = tap.take()
    assert patches.shape[1] == tap.channels
    product = torch.einsum("nc,bchw->bnhw", layer.weight.flatten(1), patches) + layer.bias[:, None, None]
    torch.testing.assert_close(product, layer(features), rtol=1e-4, atol=1e-5)


def test_a_linear_class_layer_has_its_channels_last():
    tap = FeatureTap(nn.Linear(4, 3))
    features = torch.randn(2, 9, 11, 4)
    assert tap(features).shape == (2, 9, 11, 1)
    assert torch.equal(tap.take(), features.movedim(-1, 1))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.ConvTranspose2d(4, 3, 2), "ConvTranspose2d; it must be a Conv2d or a Linear"),
        (nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
        (nn.Conv2d(4, 3, 2, padding="same"), "even kernel"),
    ],
)
def test_layers_that_are_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        FeatureTap(layer)


def test_a_network_that_is_not_what_its_configuration_says_is_refused():
    network, name = segformer()
    with pytest.raises(ValueError, match="no module of that name"):
        AdaptedNetworkBackbone(AdaptedNetworkConfig(network_config=network.config, class_layer="head"))
    network.decode_head.classifier = nn.Conv2d(16, 5, 3, padding=1)
    with pytest.raises(ValueError, match="other weights than its configuration builds"):
        AdaptedNetworkBackbone.from_network(network, name)
