"""A trained segmentation network as a backbone: its one feature map is what its own last layer read.

The network keeps every weight in front of that layer. The layer itself, which only knew the network's classes,
is left out, and so are auxiliary heads, which do nothing but cost time once training is over.
"""

import copy
import threading
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.configuration_utils import SubConfigSpec
from transformers.modeling_outputs import BackboneOutput

AUXILIARY_HEAD = "auxiliary_head"  # so named in every network of transformers that has one
STAGE = "class_layer_input"


@strict
class AdaptedNetworkConfig(BackboneConfigMixin, PreTrainedConfig):
    r"""The configuration of a segmentation network and the name of its last layer.

    Args:
        network_config: Configuration of any network that `AutoModelForSemanticSegmentation` can build.
        class_layer: Name of the module (as in `named_modules()`) that gave the network's class scores, a
            convolution or a linear layer over the last dimension.
    """

    model_type = "adapted_network"
    sub_configs_defaults = {"network_config": SubConfigSpec(config_class=AutoConfig, model_type="segformer")}

    network_config: dict[Any, Any] | PreTrainedConfig | None = None
    class_layer: str = "decode_head.classifier"
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Keeps a copy: the caller's configuration may belong to a living network."""
        self.stage_names = [STAGE]
        kwargs.pop("out_features", None)
        kwargs.pop("out_indices", None)
        self.set_output_features_output_indices(out_features=[STAGE], out_indices=None)
        self.network_config = copy.deepcopy(self.network_config)
        super().__post_init__(**kwargs)

    @property
    def num_channels(self) -> int:
        """Channels of the images."""
        return getattr(self.network_config, "num_channels", 3)


class FeatureTap(nn.Module):
    """Stands where the class layer was: keeps the layer's input and passes on a single channel.

    What a network does with its class scores afterwards (UPerNet resizes them to the image) thus costs next to
    nothing. The input waits under the number of its thread, because a server runs one model in several.

    Args:
        layer: The class layer.

    Raises:
        ValueError: The layer is no convolution or linear layer, or its input has no stride of its own.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer_shape = tuple(getattr(layer, "weight", torch.empty(0)).shape)
        self.window: dict[str, Any] | None = None  # arguments of `unfold` where the kernel is larger than 1
        self.channels_last = isinstance(layer, nn.Linear)
        if isinstance(layer, nn.Linear):
            self.channels = layer.in_features
        elif type(layer) is nn.Conv2d:
            kernel, stride = layer.kernel_size, layer.stride
            self.channels = layer.in_channels * kernel[0] * kernel[1]
            for name in ("kernel_size", "stride", "padding", "dilation"):
                # MobileNetV2 reads them to pad in front of the layer.
                setattr(self, name, getattr(layer, name))
            if kernel != (1, 1) or stride != (1, 1) or layer.padding not in ((0, 0), "valid"):
                self.window = _window(layer)
        else:
            raise ValueError(
                f"The class layer is a {type(layer).__name__}; it must be a Conv2d or a Linear layer."
            )
        self._inputs: dict[int, Tensor] = {}

    def forward(self, features: Tensor) -> Tensor:
        """Remembers `features` and returns their first channel."""
        self._inputs[threading.get_ident()] = features
        return features[..., :1] if self.channels_last else features[:, :1]

    def take(self) -> Tensor:
        """The features `(batch_size, channels, height, width)` of this thread's last forward pass.

        Under a kernel larger than 1 x 1 every pixel has the values of its whole neighborhood, so that the layer
        is a 1 x 1 convolution of them.
        """
        features = self._inputs.pop(threading.get_ident())
        if self.channels_last:
            return features.movedim(-1, 1)
        return features if self.window is None else unfold_window(features, **self.window)


def _window(layer: nn.Conv2d) -> dict[str, Any]:
    if layer.padding_mode != "zeros":
        raise ValueError(
            f"The class layer is a convolution with padding_mode={layer.padding_mode!r}; allowed: 'zeros'."
        )
    padding = layer.padding
    if isinstance(padding, str):  # "same", which torch allows for stride 1 only
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size)]
        if any(number % 2 for number in total):
            raise ValueError(
                f"The class layer is a convolution with an even kernel {layer.kernel_size} and padding='same'; "
                "give it numbers as padding."
            )
        padding = tuple(number // 2 for number in total) if padding == "same" else (0, 0)
    return {
        "kernel_size": layer.kernel_size,
        "dilation": layer.dilation,
        "padding": padding,
        "stride": layer.stride,
    }


def unfold_window(
    features: Tensor,
    *,
    kernel_size: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    stride: tuple[int, int],
) -> Tensor:
    """The neighborhood of every pixel as channels.

    Args:
        features: `(batch_size, channels, height, width)`.
        kernel_size: Height and width of the neighborhood.
        dilation: Its spacing.
        padding: Zeros around the map.
        stride: Step from pixel to pixel.

    Returns:
        `(batch_size, channels * kernel height * kernel width, new height, new width)`, the channels in the order
        of a convolution's flattened weight.
    """
    height, width = (
        (size + 2 * pad - dilated * (kernel - 1) - 1) // step + 1
        for size, pad, dilated, kernel, step in zip(
            features.shape[2:], padding, dilation, kernel_size, stride
        )
    )
    columns = F.unfold(features, kernel_size, dilation, padding, stride)
    return columns.unflatten(2, (height, width))


class AdaptedNetworkBackbone(BackboneMixin, PreTrainedModel):
    """Backbone with one feature map, the input of a segmentation network's class layer, at its own stride.

    Args:
        config: Configuration.

    Raises:
        ValueError: The network has no layer of that name, or one of another kind.
    """

    config: AdaptedNetworkConfig
    base_model_prefix = "adapted_network"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True  # the network decides for itself
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules: list[str] = []

    def __init__(self, config: AdaptedNetworkConfig) -> None:
        super().__init__(config)
        self.network = AutoModelForSemanticSegmentation.from_config(config.network_config)
        if isinstance(getattr(self.network, AUXILIARY_HEAD, None), nn.Module):
            setattr(self.network, AUXILIARY_HEAD, None)
        layer = dict(self.network.named_modules()).get(config.class_layer)
        if layer is None:
            raise ValueError(
                f"class_layer is {config.class_layer!r}; {type(self.network).__name__} has no module of that name."
            )
        self.network.set_submodule(config.class_layer, FeatureTap(layer))
        self.num_features = [self._tap.channels]
        # The network's own parts collect their hidden states; a second set of hooks would collect them twice.
        self._output_capturing_hooks_installed = True
        self.post_init()

    @classmethod
    def from_network(cls, network: PreTrainedModel, class_layer: str) -> Self:
        """A backbone with the weights of a trained network, which stays as it is.

        Args:
            network: A network of the `AutoModelForSemanticSegmentation` family.
            class_layer: Name of the module that gives its class scores.

        Raises:
            ValueError: Weights other than those of the class layer and auxiliary heads would be lost or are
                missing.
        """
        config = AdaptedNetworkConfig(network_config=network.config, class_layer=class_layer)
        _forget_folders(config.network_config)
        backbone: Any = cls(config).to(network.dtype)  # type: ignore[arg-type]
        layer: Any = network.get_submodule(class_layer)
        left_out = (f"{class_layer}.", f"{AUXILIARY_HEAD}.")
        weights = {
            name: value for name, value in network.state_dict().items() if not name.startswith(left_out)
        }
        found = backbone.network.load_state_dict(weights, strict=False)
        names = [*found.missing_keys, *found.unexpected_keys]
        if tuple(layer.weight.shape) != backbone._tap.layer_shape:
            names.append(f"{class_layer}.weight")
        if names:
            raise ValueError(
                f"{type(network).__name__} has other weights than its configuration builds, the first of "
                f"{len(names)} is {names[0]!r}; save it and load it again with from_pretrained."
            )
        return backbone.to(network.device).train(network.training)

    @property
    def _tap(self) -> FeatureTap:
        tap: Any = self.network.get_submodule(self.config.class_layer)
        return tap

    def get_input_embeddings(self) -> nn.Module:
        """The network's patch embedding, where it has one (`NotImplementedError` otherwise)."""
        return self.network.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the network's patch embedding."""
        self.network.set_input_embeddings(value)

    def forward(
        self,
        pixel_values: Tensor,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> BackboneOutput | tuple[Any, ...]:
        """Runs the network up to its class layer.

        Args:
            pixel_values: `(batch_size, num_channels, height, width)`, as the network's own processor gives them.
            output_hidden_states: Return the network's hidden states.
            output_attentions: Return its attentions, where it has any.
            return_dict: `False` gives a tuple.

        Returns:
            `feature_maps` with one map `(batch_size, channels, height / stride, width / stride)`.
        """
        asked = {"output_hidden_states": output_hidden_states, "output_attentions": output_attentions}
        # Absent rather than False: several networks have no attentions and know no such argument.
        outputs = self.network(
            pixel_values, return_dict=True, **{name: value for name, value in asked.items() if value}
        )
        result = BackboneOutput(
            feature_maps=(self._tap.take(),),
            hidden_states=getattr(outputs, "hidden_states", None),
            attentions=getattr(outputs, "attentions", None),
        )
        return result if return_dict is not False else result.to_tuple()


def _forget_folders(config: Any) -> None:
    """Names of folders on this machine, and the number format of the trained file, do not travel."""
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        if part is not None:
            part.dtype = None
            if Path(getattr(part, "_name_or_path", None) or "").is_dir():
                part._name_or_path = ""


__all__ = ["AdaptedNetworkBackbone", "AdaptedNetworkConfig"]
