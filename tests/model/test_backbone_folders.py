"""Every form in which a timm network lies in a folder gives its weights, and what is missing is said at once."""

import json

import pytest
import timm
import torch
import transformers
from packaging.version import Version
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, TimmBackbone, TimmBackboneConfig, TimmWrapperForImageClassification

from prolab_hf.model.backbones_prolab import backbone_from_source, check_backbone

NAME = "test_convnext"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return timm.create_model(NAME, pretrained=False).eval()


@pytest.fixture(scope="module")
def expected(network):
    """Feature maps of the network, by timm itself."""
    features = timm.create_model(
        NAME, features_only=True, pretrained=True, pretrained_cfg_overlay={"state_dict": network.state_dict()}
    ).eval()
    with torch.no_grad():
        return features(torch.ones(1, 3, 64, 64))


def saved(kind, network, folder):
    if kind == "timm backbone":
        overlay = {"state_dict": network.state_dict()}
        features = timm.create_model(
            NAME, features_only=True, pretrained=True, pretrained_cfg_overlay=overlay
        )
        backbone = TimmBackbone(TimmBackboneConfig(backbone=NAME, out_indices=[0, 1, 2, 3]))
        backbone._backbone.load_state_dict(features.state_dict())
        backbone.save_pretrained(folder)
    elif kind == "timm wrapper":
        config = AutoConfig.for_model("timm_wrapper", architecture=NAME, num_labels=network.num_classes)
        wrapper = TimmWrapperForImageClassification(config)
        wrapper.timm_model.load_state_dict(network.state_dict())
        wrapper.save_pretrained(folder)
    else:
        timm.models.save_for_hf(network, folder, safe_serialization=kind == "save_for_hf, safetensors")
    return folder


@pytest.mark.parametrize(
    "kind", ["timm backbone", "timm wrapper", "save_for_hf, safetensors", "save_for_hf, tensors only"]
)
def test_a_folder_gives_the_weights_that_lie_in_it(kind, network, expected, tmp_path):
    source = backbone_from_source(saved(kind, network, tmp_path / "weights"), pretrained=True)
    assert source.config._name_or_path == "" and source.feature_pyramid is False
    backbone = TimmBackbone(source.config).eval()
    backbone.load_state_dict(source.state_dict)
    with torch.no_grad():
        found = backbone(torch.ones(1, 3, 64, 64)).feature_maps
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert backbone_from_source(tmp_path / "weights", pretrained=False).state_dict is None


@pytest.mark.parametrize("kind", ["timm backbone", "save_for_hf, safetensors"])
def test_what_lacks_in_a_folder_is_named(kind, network, tmp_path):
    folder = saved(kind, network, tmp_path / "weights")
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    name = next(key for key in tensors if key.endswith("conv_dw.weight"))
    save_file(
        {key: value for key, value in tensors.items() if key != name}, weights, metadata={"format": "pt"}
    )
    with pytest.raises(
        ValueError, match=r"lack the tensor '.*conv_dw\.weight' of the timm network 'test_convnext'"
    ):
        backbone_from_source(folder, pretrained=True)
    save_file({**tensors, name: torch.zeros(2, 1, 7, 7)}, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has the shape \(2, 1, 7, 7\), expected"):
        backbone_from_source(folder, pretrained=True)
    weights.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="are damaged"):
        backbone_from_source(folder, pretrained=True)
    weights.unlink()
    with pytest.raises(ValueError, match="holds a configuration but no weights"):
        check_backbone(folder, pretrained=True)
    check_backbone(folder, pretrained=False)
    check_backbone(NAME, pretrained=True)  # by its name nothing is downloaded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "no_such_network"}, "timm network 'no_such_network', which is not known"),
        ({"model_args": {"depths": [1, 1, 1, 1]}}, "by model_args {'depths'"),
    ],
)
def test_networks_that_cannot_be_rebuilt_are_refused(change, message, network, tmp_path):
    folder = saved("save_for_hf, safetensors", network, tmp_path / "weights")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        backbone_from_source(folder, pretrained=True)


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.24"), reason="older timm wrappers know no other channels"
)
def test_networks_of_other_channels_keep_them(tmp_path):
    network = timm.create_model(NAME, pretrained=False, in_chans=4)
    source = backbone_from_source(
        saved("save_for_hf, safetensors", network, tmp_path / "weights"), pretrained=True
    )
    assert source.config.num_channels == 4
    name = next(key for key in source.state_dict if "stem" in key and key.endswith("weight"))
    assert any(torch.equal(source.state_dict[name], value) for value in network.state_dict().values())
    assert source.state_dict[name].shape[1] == 4
