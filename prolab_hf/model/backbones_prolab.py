"""From a name, a folder, a configuration or a module to a backbone with four feature maps and its weights."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, TimmBackboneConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING
from transformers.utils import is_timm_available

from .configuration_prolab import PLAIN_VIT_TYPES

NUM_MAPS = 4


@dataclass
class BackboneSource:
    """A backbone ready to be built.

    Attributes:
        config: Its configuration, with the feature maps to return already chosen.
        state_dict: Pretrained weights, or `None` for random ones.
        feature_pyramid: Whether its maps all have one stride; `None` lets the configuration's type decide.
    """

    config: PreTrainedConfig
    state_dict: dict[str, Tensor] | None = None
    feature_pyramid: bool | None = None


def backbone_from_source(source: Any, *, pretrained: bool) -> BackboneSource:
    """Resolves what a user may call a backbone.

    Args:
        source: Folder or Hub id of a transformers checkpoint, timm name, configuration, or backbone module.
        pretrained: Load the weights that a name stands for.

    Raises:
        ValueError: It cannot give feature maps, or the checkpoint lacks weights of the backbone.
        ImportError: It is a timm network and timm is not installed.
        TypeError: It is none of the accepted kinds.
    """
    if isinstance(source, nn.Module):
        return _from_module(source)
    if isinstance(source, PreTrainedConfig):
        return BackboneSource(choose_feature_maps(source))
    if not isinstance(source, str | Path):
        raise TypeError(
            f"backbone is a {type(source).__name__}; allowed: a name, a folder, a configuration or a backbone module."
        )
    name = str(source)
    is_folder = (Path(name) / "config.json").is_file()
    if not is_folder and _is_timm_network(name.removeprefix("timm/")):
        return _from_timm(name.removeprefix("timm/"), pretrained=pretrained)
    try:
        config = AutoConfig.from_pretrained(name)
    except OSError as error:
        hint = "" if is_timm_available() else " (timm is not installed: pip install 'prolab_hf[timm]')"
        raise ValueError(
            f"backbone {name!r} is neither a folder with a config.json, nor a timm network{hint}, "
            "nor a repository that can be reached."
        ) from error
    config = choose_feature_maps(config)
    weights = _pretrained_weights(name, config) if pretrained else None
    # What is saved says where the weights came from, but nothing about this machine.
    config._name_or_path = name if pretrained and not is_folder else ""
    return BackboneSource(config, weights)


def choose_feature_maps(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a backbone's configuration that returns several feature maps.

    What the configuration already chooses is kept if it is more than one map. Otherwise a hierarchical network
    gives its last four stages, a plain transformer four blocks at even distances.

    Raises:
        ValueError: transformers has no backbone for this type of model.
    """
    config = copy.deepcopy(config)
    if isinstance(config, TimmBackboneConfig):
        return config
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise ValueError(
            f"A {config.model_type!r} model gives no feature maps by itself. For a plain vision transformer use "
            "ViTAdapterBackbone.from_vit(name) and pass the result as backbone; otherwise choose one of "
            "transformers' backbones or a timm network."
        )
    if isinstance(getattr(config, "hidden_sizes", None), tuple):
        config.hidden_sizes = list(config.hidden_sizes)  # several backbones add a list to it
    names = list(config.stage_names)
    if len(config.out_features or []) > 1:
        return config
    if config.model_type in PLAIN_VIT_TYPES:
        depth = len(names) - 1
        config.out_features = [names[max(1, round(depth * i / NUM_MAPS))] for i in range(1, NUM_MAPS + 1)]
    else:
        config.out_features = names[-NUM_MAPS:]
    return config


def _pretrained_weights(name: str, config: PreTrainedConfig) -> dict[str, Tensor]:
    """Weights of the backbone inside any checkpoint of the same architecture (classifier, masked image model, ...)."""
    backbone_class: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    backbone, info = backbone_class.from_pretrained(name, config=config, output_loading_info=True)
    # Norms on the returned maps exist in the backbone only.
    missing = sorted(key for key in info["missing_keys"] if "norm" not in key)
    if missing:
        raise ValueError(
            f"The checkpoint {name!r} lacks {len(missing)} tensors of the {config.model_type!r} backbone, "
            f"the first is {missing[0]!r}. Use a checkpoint of this architecture, or pretrained=False."
        )
    return backbone.state_dict()


def _from_module(module: nn.Module) -> BackboneSource:
    config = getattr(module, "config", None)
    if config is None or not hasattr(module, "channels"):
        raise ValueError(
            f"The module {type(module).__name__} is no transformers backbone (it has no config and channels); "
            "use AutoBackbone.from_config(...) or TimmBackbone."
        )
    pyramid = None
    if isinstance(config, TimmBackboneConfig):
        network: Any = module._backbone
        pyramid = len(set(network.feature_info.reduction())) == 1
    config = copy.deepcopy(config)
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        if Path(getattr(part, "_name_or_path", None) or "").is_dir():
            part._name_or_path = ""  # a folder of this machine is nobody else's business
    return BackboneSource(config, module.state_dict(), pyramid)


def _is_timm_network(name: str) -> bool:
    if not is_timm_available():
        return False
    import timm  # with torchvision a second or two, which only its users should pay

    return bool(timm.is_model(name))


def _from_timm(name: str, *, pretrained: bool) -> BackboneSource:
    """A timm network: the maps at strides 4, 8, 16, 32, or four equal ones of a plain transformer."""
    import timm

    with torch.device("meta"):
        probe: Any = timm.create_model(name, features_only=True, pretrained=False)
    strides = probe.feature_info.reduction()
    plain = len(set(strides)) == 1
    if plain:
        indices = [max(0, round(len(strides) * i / NUM_MAPS) - 1) for i in range(1, NUM_MAPS + 1)]
    else:
        indices = list(range(len(strides)))[-NUM_MAPS:]
    config = TimmBackboneConfig(backbone=name, out_indices=indices)  # type: ignore[call-arg]
    weights = None
    if pretrained:
        network = timm.create_model(name, features_only=True, pretrained=True, out_indices=indices)
        weights = {f"_backbone.{key}": value for key, value in network.state_dict().items()}
        config._name_or_path = f"timm/{name}" if "." in name else ""  # with its tag it is a Hub id
    return BackboneSource(config, weights, plain)
