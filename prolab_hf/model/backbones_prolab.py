"""From a name, a folder, a configuration or a module to a backbone with four feature maps and its weights."""

import copy
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, TimmBackboneConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING
from transformers.utils import is_timm_available

from .configuration_prolab import PLAIN_VIT_TYPES

NUM_MAPS = 4
# What these change lies behind the feature maps, or matters in timm's own training only.
HARMLESS_TIMM_ARGUMENTS = (
    "num_classes",
    "global_pool",
    "drop_rate",
    "drop_path_rate",
    "img_size",
    "pretrained",
)


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


def backbone_from_source(source: object, *, pretrained: bool) -> BackboneSource:
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
    architecture = _timm_architecture(Path(name)) if is_folder else None
    if architecture is not None:
        return _from_timm_folder(Path(name), *architecture, pretrained=pretrained)
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
    if isinstance(config, TimmBackboneConfig):
        return _from_saved_timm_backbone(Path(name), config, pretrained=pretrained)
    weights = _pretrained_weights(name, config) if pretrained else None
    # What is saved says where the weights came from, but nothing about this machine.
    config._name_or_path = name if pretrained and not is_folder else ""
    return BackboneSource(config, weights)


def check_backbone(source: str | Path, *, pretrained: bool) -> None:
    """What can go wrong with a backbone's name before a run: for `--dry-run`, which should not promise too much.

    The weights in a folder are read and fitted; those of a name are not downloaded.

    Args:
        source: As for `backbone_from_source`.
        pretrained: Whether the run will load weights.

    Raises:
        ValueError: It cannot give feature maps, or the folder lacks weights of the backbone.
        ImportError: It is a timm network and timm is not installed.
    """
    backbone_from_source(source, pretrained=pretrained and Path(source).is_dir())


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


def _timm_config(name: str, in_chans: int = 3) -> tuple[TimmBackboneConfig, bool]:
    """Maps at strides 4, 8, 16, 32, or four equal ones of a plain transformer; and whether it is a plain one."""
    import timm

    with torch.device("meta"):
        probe: Any = timm.create_model(name, features_only=True, pretrained=False, in_chans=in_chans)
    strides = probe.feature_info.reduction()
    plain = len(set(strides)) == 1
    if plain:
        indices = [max(0, round(len(strides) * i / NUM_MAPS) - 1) for i in range(1, NUM_MAPS + 1)]
    else:
        indices = list(range(len(strides)))[-NUM_MAPS:]
    config = TimmBackboneConfig(backbone=name, out_indices=indices, num_channels=in_chans)  # type: ignore[call-arg]
    return config, plain


def _timm_architecture(folder: Path) -> tuple[str, int] | None:
    """The timm network of a folder that timm or transformers' wrapper around it saved, and its input channels.

    Raises:
        ValueError: timm does not have the network, or it was built with arguments that a backbone cannot keep.
    """
    try:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{folder / 'config.json'} is not readable JSON ({error}).") from error
    name = fields.get("architecture") if isinstance(fields, dict) else None
    if not isinstance(name, str):
        return None
    if not _is_timm_network(name):
        hint = "" if is_timm_available() else "; timm is not installed: pip install 'prolab_hf[timm]'"
        raise ValueError(
            f"{folder / 'config.json'} names the timm network {name!r}, which is not known{hint}."
        )
    arguments = dict(fields.get("model_args") or {})
    channels = arguments.pop("in_chans", 3)
    changed = {key: value for key, value in arguments.items() if key not in HARMLESS_TIMM_ARGUMENTS and value}
    if changed or type(channels) is not int or channels < 1:
        raise ValueError(
            f"{folder / 'config.json'} changes the timm network {name!r} by model_args {changed or channels!r}, which "
            "a backbone's configuration cannot keep; save the network with its standard arguments."
        )
    return name, channels


def _from_timm_folder(folder: Path, architecture: str, in_chans: int, *, pretrained: bool) -> BackboneSource:
    """What timm's `save_for_hf`, or transformers' `TimmWrapper...`, saved: a whole network with its classifier."""
    import timm

    config, plain = _timm_config(architecture, in_chans)
    if not pretrained:
        return BackboneSource(config, None, plain)
    # transformers' wrapper puts the network under a name of its own.
    tensors = {key.removeprefix("timm_model."): value for key, value in _read_tensors(folder).items()}
    with torch.device("meta"):
        whole = timm.create_model(architecture, pretrained=False, num_classes=0, in_chans=in_chans)
    _require_tensors(folder, architecture, tensors, whole)
    network = timm.create_model(
        architecture,
        features_only=True,
        pretrained=True,
        in_chans=in_chans,
        pretrained_cfg_overlay={
            "state_dict": tensors,
            "source": "",
            "custom_load": False,
            "input_size": (in_chans, 224, 224),
        },
        out_indices=config.out_indices,
    )
    return BackboneSource(config, _prefixed(network), plain)


def _from_saved_timm_backbone(
    folder: Path, config: TimmBackboneConfig, *, pretrained: bool
) -> BackboneSource:
    """What transformers' `TimmBackbone.save_pretrained` wrote: the feature network under its own names."""
    import timm

    config._name_or_path = ""
    network: Any = timm.create_model(
        str(config.backbone),
        features_only=True,
        pretrained=False,
        in_chans=config.num_channels,
        out_indices=config.out_indices,
    )
    plain = len(set(network.feature_info.reduction())) == 1
    if not pretrained:
        return BackboneSource(config, None, plain)
    tensors = {key.removeprefix("_backbone."): value for key, value in _read_tensors(folder).items()}
    _require_tensors(folder, str(config.backbone), tensors, network)
    network.load_state_dict({key: tensors[key] for key in network.state_dict()})
    return BackboneSource(config, _prefixed(network), plain)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights in a folder: safetensors, in one file or several, or a file of tensors only.

    Raises:
        ValueError: There are none, or they are damaged.
    """
    index = folder / "model.safetensors.index.json"
    try:
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values()))
            if any(Path(name).name != name for name in names):
                raise ValueError(f"{index} names files outside of its folder.")
            return {key: value for name in names for key, value in load_file(folder / name).items()}
        if (folder / "model.safetensors").is_file():
            return load_file(folder / "model.safetensors")
        if (folder / "pytorch_model.bin").is_file():
            # weights_only: nothing in the file is executed.
            return dict(torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True))
    except (SafetensorError, OSError, KeyError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"The weights in {folder} are damaged: {error}; copy them again.") from error
    raise ValueError(
        f"The folder {folder} holds a configuration but no weights (model.safetensors); add them, or use "
        "pretrained=False for random ones."
    )


def _require_tensors(folder: Path, name: str, tensors: dict[str, Tensor], network: nn.Module) -> None:
    """A tensor that is missing, or of another shape, would silently stay random.

    Raises:
        ValueError: One is.
    """
    for key, value in network.state_dict().items():
        if key not in tensors:
            raise ValueError(
                f"The weights in {folder} lack the tensor {key!r} of the timm network {name!r}; use a checkpoint of "
                "this network, or pretrained=False."
            )
        if tensors[key].shape != value.shape:
            raise ValueError(
                f"The weights in {folder} do not fit the timm network {name!r}: {key!r} has the shape "
                f"{tuple(tensors[key].shape)}, expected {tuple(value.shape)}."
            )


def _prefixed(network: nn.Module) -> dict[str, Tensor]:
    """The state of a timm network under the names of the backbone around it."""
    return {f"_backbone.{key}": value for key, value in network.state_dict().items()}


def _from_timm(name: str, *, pretrained: bool) -> BackboneSource:
    """A timm network by its name, with the weights that timm knows for it."""
    import timm

    config, plain = _timm_config(name)
    weights = None
    if pretrained:
        network = timm.create_model(name, features_only=True, pretrained=True, out_indices=config.out_indices)
        weights = _prefixed(network)
        config._name_or_path = f"timm/{name}" if "." in name else ""  # with its tag it is a Hub id
    return BackboneSource(config, weights, plain)
