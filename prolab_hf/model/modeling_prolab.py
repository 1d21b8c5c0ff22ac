"""ProLab: a segmentation network whose answer for each pixel is a sum of named properties.

Source of the method: "A Semantic Space is Worth 256 Language Descriptions" (ECCV 2024).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
from transformers.utils import ModelOutput, can_return_tuple

from .adapted_network_prolab import AdaptedNetworkBackbone
from .backbones_prolab import backbone_from_source
from .configuration_prolab import ProLabConfig
from .decoders_prolab import DECODERS, ProLabFeaturePyramid, ProLabHead, auxiliary_head, linear_of_maps
from .described_classes_prolab import DescribedClassesMixin, property_space_writer
from .loading_prolab import CheckedLoadingMixin, require_finite_weights
from .modeling_vit_adapter import ViTAdapterBackbone
from .objective_prolab import ObjectiveMixin, normalized_logits
from .remote_code_prolab import CompleteUploadMixin
from .training_fields_prolab import auxiliary_heads, auxiliary_weights
from .wrapped_modules_prolab import Checkpoint, CheckpointKeepingStatistics

if TYPE_CHECKING:
    PropertySpace = Any

logger = logging.getLogger(__name__)

# The pipeline checks a static table of class names and logs an error for classes that it does not find there.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES.setdefault("prolab", "ProLabForSemanticSegmentation")

OWN_BACKBONES: dict[Any, Any] = {
    "vit_adapter": ViTAdapterBackbone,
    "adapted_network": AdaptedNetworkBackbone,
}


@dataclass
class ProLabSemanticSegmenterOutput(ModelOutput):
    """Output of `ProLabForSemanticSegmentation`.

    Attributes:
        loss: Scalar, where labels were given.
        logits: `(batch_size, num_labels, height, width)` class similarities at feature resolution; with cosine
            similarity in [-1, 1], not probabilities.
        property_logits: `(batch_size, num_properties, height, width)` projections of the pixel embeddings onto
            the properties, before temperature and sigmoid.
        unspoken_logits: `(batch_size, trained classes, height, width)` logits of the properties without words, where
            the model has any (`config.unspoken_weight`).
        hidden_states: Of the backbone, if asked for.
        attentions: Of the backbone, if asked for and it has any.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    property_logits: Tensor | None = None
    unspoken_logits: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def default_property_embeddings(config: ProLabConfig) -> Tensor:
    """Seeded random unit rows `(num_properties, embedding_dim)`: a start for tests and shape checks, no semantics."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    shape = config.num_properties, config.embedding_dim
    rows = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
    return nn.functional.normalize(rows, dim=1)


class ProLabPreTrainedModel(CompleteUploadMixin, CheckedLoadingMixin, PreTrainedModel):  # type: ignore[misc]
    """Loading, saving and initialization."""

    config: ProLabConfig
    base_model_prefix = "prolab"
    main_input_name = "pixel_values"
    input_modalities = ("image",)  # type: ignore[assignment]
    supports_gradient_checkpointing = True
    _supports_sdpa = True  # each backbone decides for itself
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules: list[str] = []
    # The losses are means over pixels: the Trainer must go on dividing by the accumulation steps.
    accepts_loss_kwargs = False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fresh values for what no checkpoint supplied; buffers are rebuilt from the configuration."""
        super()._init_weights(module)
        if isinstance(module, nn.ConvTranspose2d):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        if isinstance(module, ProLabHead):
            # Narrower than the rest, so that sigmoid(logit / 0.04) does not start saturated.
            init.normal_(module.classifier.weight, mean=0.0, std=self.config.initializer_range / 2)
            if module.classifier.bias is not None:
                init.zeros_(module.classifier.bias)
        if isinstance(module, ProLabForSemanticSegmentation):
            module._init_derived_buffers()
            if not getattr(module.property_embeddings, "_is_hf_initialized", False):
                init.copy_(module.property_embeddings, default_property_embeddings(self.config))
                module._has_default_properties = True

    def _set_gradient_checkpointing(  # type: ignore[override]  # its options differ between versions
        self, enable: bool = True, gradient_checkpointing_func: Checkpoint = checkpoint, **options: Any
    ) -> None:
        """Like transformers', but the recomputed layers do not move their batch-norm statistics a second time."""
        once = CheckpointKeepingStatistics(gradient_checkpointing_func, self)
        super()._set_gradient_checkpointing(enable, once, **options)

    def save_pretrained(
        self, save_directory: Any, *args: Any, save_original_format: bool = False, **kwargs: Any
    ) -> Any:
        """Like transformers', but with live weight names unless told otherwise.

        `Trainer` restores checkpoints by bare `load_state_dict(strict=False)`, which silently skips the legacy
        names that transformers writes by default for many backbones. `from_pretrained` reads both.
        """
        kwargs["save_original_format"] = save_original_format
        return super().save_pretrained(save_directory, *args, **kwargs)


# The mixin knows its own configuration, and a loading that transformers' overloads cannot say.
class ProLabForSemanticSegmentation(DescribedClassesMixin, ObjectiveMixin, ProLabPreTrainedModel):  # type: ignore[misc]
    """A backbone, a decoder to pixel embeddings, and class scores through named properties.

    Its classes, their scores and its buffers are those of `DescribedClassesMixin`, its losses of `ObjectiveMixin`.
    """

    def __init__(self, config: ProLabConfig) -> None:
        config.validate_property_fields()  # its lists may have been changed in place
        super().__init__(config)
        self._has_default_properties = False
        # Our own backbone by name: as remote code its class is in no registry that load_backbone could ask.
        own = OWN_BACKBONES.get(getattr(config.backbone_config, "model_type", None))
        self.backbone = load_backbone(config) if own is None else own._from_config(config.backbone_config)
        channels = list(self.backbone.channels)
        if len(channels) < 2 and config.decoder != "linear":
            raise ValueError(
                f"The backbone gives {len(channels)} feature map; the decoder needs at least 2 (four are usual). "
                "Set out_indices or out_features in backbone_config."
            )
        self.feature_pyramid = None
        if config.feature_pyramid:
            if len(channels) != 4:
                raise ValueError(
                    f"feature_pyramid=True needs four feature maps, the backbone gives {len(channels)}; "
                    "set four out_indices in backbone_config or feature_pyramid=False."
                )
            self.feature_pyramid = ProLabFeaturePyramid(channels)
        self.decode_head = DECODERS[config.decoder](config, channels)
        self.auxiliary_head = auxiliary_head(config, channels) if config.use_auxiliary_head else None
        # The same values as in _init_weights, on the device of the surrounding context (meta while loading).
        device = torch.get_default_device()
        self.register_buffer("property_embeddings", default_property_embeddings(config).to(device))
        self._register_described_buffers()
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        backbone: object,
        space: "PropertySpace",
        *,
        pretrained: bool = True,
        **config_kwargs: Any,
    ) -> "ProLabForSemanticSegmentation":
        """A new model on a pretrained backbone, for the classes of `space`.

        Args:
            backbone: A folder or Hub id of a transformers checkpoint, the name of a timm network, a backbone
                configuration (random weights), or a backbone module (its weights are taken over).
            space: The property space.
            pretrained: Load the weights that `backbone` names; `False` gives random ones.
            config_kwargs: Any field of `ProLabConfig`.

        Raises:
            ValueError: The backbone is none of these, or gives no feature maps.
            ImportError: A timm name without timm installed.
        """
        source = backbone_from_source(backbone, pretrained=pretrained)
        pyramid = None if config_kwargs.get("decoder") == "linear" else source.feature_pyramid
        fields = {**space.to_config_kwargs(), "feature_pyramid": pyramid, **config_kwargs}
        model = cls(ProLabConfig(backbone_config=source.config, **fields))
        if source.state_dict is not None:
            model.backbone.load_state_dict(source.state_dict)
            require_finite_weights(
                model.backbone,
                f"the backbone {backbone}" if isinstance(backbone, str | Path) else "the given backbone",
            )
        model.set_property_space(space)
        return model

    # ---- the forward pass ---------------------------------------------------------------------------------

    @can_return_tuple  # type: ignore[untyped-decorator]  # of transformers
    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        feature_maps: Sequence[Tensor] | None = None,
        **kwargs: Any,
    ) -> ProLabSemanticSegmenterOutput:
        """Segments a batch of images.

        Args:
            pixel_values: `(batch_size, 3, height, width)`, normalized as the processor does.
            labels: `(batch_size, height, width)` class ids 0 to num_labels - 1, or the ignore index (255) where
                a pixel has no class. May have another resolution than the images.
            output_hidden_states: Return the backbone's hidden states; from transformers 5.24 on, or a list of
                indices (`None` stands for the others).
            output_attentions: Return its attentions, if it has any.
            feature_maps: What the backbone gave for the images before, `(batch_size, channels, height, width)` each;
                it is not run then, and `pixel_values` are not needed.
            kwargs: `return_dict=False` gives a tuple.

        Raises:
            RuntimeError: The configuration has no `class_properties`.
            ValueError: `pixel_values` is missing, or a label is outside the classes.
        """
        self._require_classes()
        output_hidden_states = _first(output_hidden_states, self.config.output_hidden_states)
        output_attentions = _first(output_attentions, self.config.output_attentions)
        all_states = attentions = None
        if feature_maps is not None:
            features = tuple(feature_maps)
        elif pixel_values is None:
            raise ValueError("pixel_values is missing; pass a tensor (batch_size, 3, height, width).")
        else:
            features, all_states, attentions = self._run_backbone(
                pixel_values, output_hidden_states, output_attentions
            )
        pyramid = features if self.feature_pyramid is None else self.feature_pyramid(features)
        raw, embeddings = self.decode_head(self.property_embeddings, *pyramid)
        unspoken = None
        if self.config.similarity == "linear_cosine":
            property_logits, unspoken = self._logits_of_responses(raw)
        else:
            property_logits = normalized_logits(raw, embeddings)
        class_logits = self.class_logits(property_logits, unspoken)

        loss = None
        if labels is not None:
            loss = self._head_loss(raw, embeddings, labels, class_logits)
            for head, weight in zip(auxiliary_heads(self), auxiliary_weights(self.config)):
                logits, embeddings = head(self.property_embeddings, *pyramid)
                loss = loss + self._auxiliary_loss(logits, embeddings, labels, weight=weight)
        return ProLabSemanticSegmenterOutput(
            loss=loss,
            logits=class_logits,
            property_logits=property_logits,
            unspoken_logits=unspoken,
            hidden_states=all_states,
            attentions=attentions,
        )

    def _run_backbone(
        self, pixel_values: Tensor, output_hidden_states: bool | list[int], output_attentions: bool
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...] | None, tuple[Tensor, ...] | None]:
        """Feature maps, hidden states and attentions."""
        # Several timm networks cannot give all layers at once (transformers then picks maps by wrong indices).
        is_timm = self.backbone.config.model_type == "timm_backbone"
        outputs = self.backbone.forward_with_filtered_kwargs(
            pixel_values,
            output_hidden_states=False if is_timm else output_hidden_states,
            output_attentions=output_attentions,
        )
        features = outputs.feature_maps
        states = _selected(features, output_hidden_states) if is_timm else outputs.hidden_states
        return features, states, outputs.attentions

    def last_layer_maps(self, pixel_values: Tensor) -> list[Tensor]:
        """The maps that the last layer sees, the one with the size of the result first.

        Args:
            pixel_values: `(batch_size, 3, height, width)`, normalized as the processor does.
        """
        features = self.backbone.forward_with_filtered_kwargs(
            pixel_values, output_hidden_states=False, output_attentions=False
        ).feature_maps
        return self.decode_head.maps(
            features if self.feature_pyramid is None else self.feature_pyramid(features)
        )

    def responses(self, pixel_values: Tensor) -> Tensor:
        """What the last layer itself gives `(batch_size, num_responses, height, width)` (`"linear_cosine"`).

        Args:
            pixel_values: `(batch_size, 3, height, width)`, normalized as the processor does.
        """
        weight, bias = self.decode_head.classifier.weight, self.decode_head.classifier.bias
        return linear_of_maps(self.last_layer_maps(pixel_values), weight, bias)

    def property_logits_of_maps(self, maps: list[Tensor], property_embeddings: Tensor) -> Tensor:
        """Property logits of a model that was trained by gradient, of what its last layer sees; any properties.

        Args:
            maps: As `last_layer_maps` gives them.
            property_embeddings: `(number of properties, embedding_dim)`, unit rows.

        Returns:
            `(batch_size, number of properties, height, width)`.
        """
        return normalized_logits(*self.decode_head.logits_of_maps(property_embeddings, maps))

    # ---- state --------------------------------------------------------------------------------------------

    def get_input_embeddings(self) -> nn.Module:
        """The backbone's patch embedding; convolutional networks have none (`NotImplementedError`)."""
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the backbone's patch embedding."""
        self.backbone.set_input_embeddings(value)

    def _require_classes(self) -> None:
        if self.config.class_properties is None:
            raise RuntimeError(
                "This model does not know its classes: config.class_properties is missing. Call "
                "model.set_property_space(space), or build the configuration with **space.to_config_kwargs()."
            )
        if len(self.config.class_properties) != self.config.num_labels:
            raise RuntimeError(
                f"config.id2label was changed to {self.config.num_labels} classes, but there are "
                f"{len(self.config.class_properties)} rows of properties; call model.set_property_space(space) with "
                "a space of the new classes."
            )
        if self._has_default_properties:
            self._has_default_properties = False
            logger.warning(
                "The property embeddings are a seeded random start without meaning; "
                "call model.set_property_space(space) before training."
            )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if prefix + "property_embeddings" in state_dict:
            self._has_default_properties = False

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Writes configuration and weights, and the property space's own files beside them.

        Raises:
            ValueError: Parts of the configuration or of the property space do not fit; nothing is written.
        """
        is_main = kwargs.get("is_main_process", True)
        if is_main:
            property_space_writer(self)  # refuses now what it would refuse later
        result = super().save_pretrained(save_directory, *args, **kwargs)
        if is_main:
            self.complete_folder(save_directory)
        return result

    def complete_folder(self, folder: Any) -> None:
        """Writes the property space's own files beside the weights; code comes in few files."""
        write_space = property_space_writer(self)
        if write_space is not None:
            write_space(Path(folder))
        _give_default_modes(Path(folder))
        super().complete_folder(folder)  # with adapters, the configuration was not saved


def _selected(states: Any, wanted: bool | list[int]) -> tuple[Tensor | None, ...] | None:
    """All states, or those that a list of indices names and `None` for the others, as transformers gives them."""
    if not wanted or wanted is True:
        return tuple(states) if wanted else None
    kept = {index % len(states) for index in wanted}
    return tuple(state if index in kept else None for index, state in enumerate(states))


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


def _give_default_modes(folder: Path) -> None:
    """Weight files are readable by their owner only when safetensors writes them."""
    try:
        from prolab_hf.files import give_default_modes
    except ImportError:
        return  # remote code without the package
    give_default_modes(folder)


__all__ = [
    "ProLabForSemanticSegmentation",
    "ProLabPreTrainedModel",
    "ProLabSemanticSegmenterOutput",
]
