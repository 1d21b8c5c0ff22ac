"""ProLab: a segmentation network whose answer for each pixel is a sum of named properties.

Source of the method: "A Semantic Space is Worth 256 Language Descriptions" (ECCV 2024).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, TimmBackbone
from transformers import initialization as init
from transformers.backbone_utils import load_backbone
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
from transformers.utils import ModelOutput, can_return_tuple

from .backbones_prolab import backbone_from_source
from .configuration_prolab import ProLabConfig
from .decoders_prolab import DECODERS, ProLabAuxiliaryHead, ProLabFeaturePyramid, ProLabHead
from .loading_prolab import CheckedLoadingMixin, require_finite_weights
from .loss_plain_prolab import (
    plain_class_cross_entropy_loss,
    plain_property_cosine_loss,
    plain_property_regression_loss,
)
from .loss_prolab import class_cross_entropy_loss, property_cosine_loss, property_regression_loss
from .modeling_vit_adapter import ViTAdapterBackbone
from .wrapped_modules_prolab import Checkpoint, CheckpointKeepingStatistics

if TYPE_CHECKING:
    PropertySpace = Any

logger = logging.getLogger(__name__)

# The pipeline checks a static table of class names and logs an error for classes that it does not find there.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES.setdefault("prolab", "ProLabForSemanticSegmentation")

EPSILON = 1e-8  # of torch.nn.CosineSimilarity

# By `loss_implementation`: losses with one signature and, up to rounding, one result.
PROPERTY_COSINE_LOSS = {"streamed": property_cosine_loss, "plain": plain_property_cosine_loss}
PROPERTY_REGRESSION_LOSS = {"streamed": property_regression_loss, "plain": plain_property_regression_loss}
CLASS_CROSS_ENTROPY_LOSS = {"streamed": class_cross_entropy_loss, "plain": plain_class_cross_entropy_loss}


@dataclass
class ProLabSemanticSegmenterOutput(ModelOutput):
    """Output of `ProLabForSemanticSegmentation`.

    Attributes:
        loss: Scalar, where labels were given.
        logits: `(batch_size, num_labels, height, width)` class similarities at feature resolution; with cosine
            similarity in [-1, 1], not probabilities.
        property_logits: `(batch_size, num_properties, height, width)` projections of the pixel embeddings onto
            the properties, before temperature and sigmoid.
        hidden_states: Of the backbone, if asked for.
        attentions: Of the backbone, if asked for and it has any.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    property_logits: Tensor | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def class_matrix(config: ProLabConfig) -> Tensor:
    """Multi-hot rows `(num_labels, num_properties)` of the classes; all zero where the configuration has none."""
    shape = int(config.num_labels or 0), config.num_properties
    matrix = torch.zeros(shape, dtype=torch.float32, device="cpu")
    for row, properties in zip(matrix, config.class_properties or []):
        row[properties] = 1.0
    return matrix


def default_property_embeddings(config: ProLabConfig) -> Tensor:
    """Seeded random unit rows `(num_properties, embedding_dim)`: a start for tests and shape checks, no semantics."""
    generator = torch.Generator(device="cpu").manual_seed(0)
    shape = config.num_properties, config.embedding_dim
    rows = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
    return nn.functional.normalize(rows, dim=1)


class ProLabPreTrainedModel(CheckedLoadingMixin, PreTrainedModel):  # type: ignore[misc]
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
            init.copy_(module.class_property_matrix, class_matrix(self.config))
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


class ProLabForSemanticSegmentation(ProLabPreTrainedModel):
    """A backbone, a decoder to pixel embeddings, and class scores through named properties.

    Buffers:
        property_embeddings: `(num_properties, embedding_dim)` unit rows; saved with the weights.
        class_property_matrix: `(num_labels, num_properties)` of 0 and 1; derived from
            `config.class_properties` at every load, so changing classes never ends in a size mismatch.
    """

    property_embeddings: Tensor
    class_property_matrix: Tensor

    def __init__(self, config: ProLabConfig) -> None:
        config.validate_property_fields()  # its lists may have been changed in place
        super().__init__(config)
        self._has_default_properties = False
        # Our own backbone by name: as remote code its class is in no registry that load_backbone could ask.
        own = getattr(config.backbone_config, "model_type", None) == "vit_adapter"
        self.backbone = (
            ViTAdapterBackbone._from_config(config.backbone_config) if own else load_backbone(config)
        )
        channels = list(self.backbone.channels)
        if len(channels) < 2:
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
        self.auxiliary_head = ProLabAuxiliaryHead(config, channels) if config.use_auxiliary_head else None
        # The same values as in _init_weights, on the device of the surrounding context (meta while loading).
        device = torch.get_default_device()
        self.register_buffer("property_embeddings", default_property_embeddings(config).to(device))
        self.register_buffer("class_property_matrix", class_matrix(config).to(device), persistent=False)
        self.post_init()

    # ---- the property space -------------------------------------------------------------------------------

    @property
    def property_space(self) -> "PropertySpace":
        """The `PropertySpace` that this model carries: its classes, properties and their words.

        Raises:
            ImportError: prolab_hf is not installed (the model runs as remote code).
            RuntimeError: The configuration has no `class_properties`.
        """
        self._require_classes()
        self.config.validate_property_fields()  # files the words under the names of id2label
        return _property_space_class().from_config(self.config, self.property_embeddings)

    @torch.no_grad()
    def set_property_space(self, space: "PropertySpace") -> None:
        """Replaces classes and properties; no learned weight is touched.

        Args:
            space: A `PropertySpace` whose embeddings have the model's `embedding_dim`, made by the encoder that
                the model was trained with.

        Raises:
            ValueError: The space has another embedding size.
        """
        if space.embedding_dim != self.config.embedding_dim:
            raise ValueError(
                f"The property space has embeddings of size {space.embedding_dim}, the model was built for "
                f"{self.config.embedding_dim}. Build the space with the text encoder of the model's own space, "
                f"or a new model with embedding_dim={space.embedding_dim}."
            )
        fields = space.to_config_kwargs()
        # Together, past the field-wise setters: between two of them the classes would not fit their rows.
        self.config.__dict__.update({name: fields[name] for name in ("id2label", "label2id")})
        for name, value in fields.items():
            setattr(self.config, name, value)
        where = self.property_embeddings.device
        self.property_embeddings = space.property_embeddings.to(where, torch.float32, copy=True)
        self.class_property_matrix = class_matrix(self.config).to(where, self.class_property_matrix.dtype)
        self.num_labels = self.config.num_labels
        self._has_default_properties = False

    @classmethod
    def from_backbone(
        cls,
        backbone: Any,
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
        fields = {**space.to_config_kwargs(), "feature_pyramid": source.feature_pyramid, **config_kwargs}
        model = cls(ProLabConfig(backbone_config=source.config, **fields))
        if source.state_dict is not None:
            model.backbone.load_state_dict(source.state_dict)
            require_finite_weights(
                model.backbone,
                f"the backbone {backbone}" if isinstance(backbone, str | Path) else "the given backbone",
            )
        model.set_property_space(space)
        return model

    # ---- scores: the one place where the formula lives ----------------------------------------------------

    def property_scores(self, property_logits: Tensor) -> Tensor:
        """What a class row is compared with: `sigmoid(logits / T)`, or the logits themselves for `"cosine"`.

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.

        Returns:
            The same shape; in [0, 1] for the sigmoid modes.
        """
        if self.config.similarity == "cosine":
            return property_logits
        return torch.sigmoid(property_logits / self.config.temperature)

    def class_logits(self, property_logits: Tensor) -> Tensor:
        """Similarity of each pixel's property scores to the row of each class (section 3 of the paper).

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.

        Returns:
            `(batch_size, num_labels, height, width)`, in at least float32.
        """
        # In half precision EPSILON would be 0 and the division give NaN.
        scores = self.property_scores(
            property_logits.to(torch.promote_types(property_logits.dtype, torch.float32))
        )
        rows = self.class_property_matrix.to(scores.dtype)
        batch_size, num_properties, height, width = scores.shape
        with torch.autocast(device_type=scores.device.type, enabled=False):
            if self.config.similarity == "sigmoid_l2":
                dot = rows @ scores.flatten(2)
                squared = scores.square().sum(dim=1).flatten(1)[:, None] - 2 * dot + rows.sum(dim=1)[:, None]
                distance = squared.clamp_min(EPSILON**2).sqrt()
                similarity = 1 - distance / num_properties**0.5
            else:
                # Normalizing after the product is cheaper: num_labels < num_properties.
                rows = nn.functional.normalize(rows, dim=1, eps=EPSILON)
                norm = torch.linalg.vector_norm(scores, dim=1).flatten(1).clamp_min(EPSILON)
                similarity = (rows @ scores.flatten(2)) / norm[:, None]
        return similarity.view(batch_size, -1, height, width)

    def _head_loss(
        self, logits: Tensor, embeddings: Tensor | None, labels: Tensor, class_logits: Tensor | None = None
    ) -> Tensor:
        """Weighted property and class loss of one head (equation 3 of the paper, and the optional class term).

        `class_logits` are computed where they are needed and not given.
        """
        config = self.config
        shared: dict[str, Any] = {
            "temperature": config.temperature,
            "ignore_index": config.semantic_loss_ignore_index,
            "void_pixels": config.void_pixels,
            "pixel_embeddings": embeddings,
            "apply_sigmoid": config.similarity != "cosine",
        }
        loss = logits.new_zeros(())
        if config.property_loss_weight > 0:
            if config.property_loss == "cosine":
                cosine_loss = PROPERTY_COSINE_LOSS[config.loss_implementation]
                value = cosine_loss(logits, labels, self.class_property_matrix, **shared)
            else:
                regression_loss = PROPERTY_REGRESSION_LOSS[config.loss_implementation]
                value = regression_loss(
                    logits, labels, self.class_property_matrix, kind=config.property_loss, **shared
                )
            loss = loss + config.property_loss_weight * value
        if config.class_loss_weight > 0:
            if class_logits is None:
                class_logits = self.class_logits(_normalized(logits, embeddings))
            scaled = class_logits / config.class_temperature
            cross_entropy_loss = CLASS_CROSS_ENTROPY_LOSS[config.loss_implementation]
            value = cross_entropy_loss(scaled, labels, ignore_index=config.semantic_loss_ignore_index)
            loss = loss + config.class_loss_weight * value
        return loss

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
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
            kwargs: `return_dict=False` gives a tuple.

        Raises:
            RuntimeError: The configuration has no `class_properties`.
            ValueError: `pixel_values` is missing, or a label is outside the classes.
        """
        if pixel_values is None:
            raise ValueError("pixel_values is missing; pass a tensor (batch_size, 3, height, width).")
        self._require_classes()
        output_hidden_states = _first(output_hidden_states, self.config.output_hidden_states)
        output_attentions = _first(output_attentions, self.config.output_attentions)
        # Several timm networks cannot give all layers at once (transformers then picks maps by wrong indices).
        is_timm = isinstance(self.backbone, TimmBackbone)
        outputs = self.backbone.forward_with_filtered_kwargs(
            pixel_values,
            output_hidden_states=False if is_timm else output_hidden_states,
            output_attentions=output_attentions,
        )
        features = outputs.feature_maps
        all_states = _selected(features, output_hidden_states) if is_timm else outputs.hidden_states
        pyramid = features if self.feature_pyramid is None else self.feature_pyramid(features)
        raw, embeddings = self.decode_head(self.property_embeddings, *pyramid)
        property_logits = _normalized(raw, embeddings)
        class_logits = self.class_logits(property_logits)

        loss = None
        if labels is not None:
            loss = self._head_loss(raw, embeddings, labels, class_logits)
            if self.auxiliary_head is not None:
                logits, embeddings = self.auxiliary_head(self.property_embeddings, *pyramid)
                auxiliary = self._head_loss(logits, embeddings, labels)
                loss = loss + self.config.auxiliary_loss_weight * auxiliary
        return ProLabSemanticSegmenterOutput(
            loss=loss,
            logits=class_logits,
            property_logits=property_logits,
            hidden_states=all_states,
            attentions=outputs.attentions,
        )

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
        write_space = _property_space_writer(self) if is_main else None
        result = super().save_pretrained(save_directory, *args, **kwargs)
        if write_space is not None:
            write_space(Path(save_directory))
        return result


def _normalized(property_logits: Tensor, pixel_embeddings: Tensor | None) -> Tensor:
    """Logits of normalized pixel embeddings (equation 1): division by the norm commutes with the projection."""
    if pixel_embeddings is None:
        return property_logits
    norm = torch.linalg.vector_norm(pixel_embeddings, dim=1, keepdim=True)
    return property_logits / norm.clamp_min(1e-12)


def _selected(states: Any, wanted: bool | list[int]) -> tuple[Tensor | None, ...] | None:
    """All states, or those that a list of indices names and `None` for the others, as transformers gives them."""
    if not wanted or wanted is True:
        return tuple(states) if wanted else None
    kept = {index % len(states) for index in wanted}
    return tuple(state if index in kept else None for index, state in enumerate(states))


def _first(value: Any, default: Any) -> Any:
    return default if value is None else value


def _property_space_class() -> Any:
    try:
        from prolab_hf import PropertySpace
    except ImportError as error:
        raise ImportError(
            "A PropertySpace object needs the package: pip install prolab_hf. "
            "(The model itself runs without it; its classes and properties are in model.config.)"
        ) from error
    return PropertySpace


def _property_space_writer(model: ProLabForSemanticSegmentation) -> Callable[[Path], object] | None:
    """What writes the space's files into a folder, with all that may be refused checked beforehand."""
    model.config.validate_property_fields()
    if model.config.class_properties is None:
        return None
    if not torch.equal(class_matrix(model.config), model.class_property_matrix.float().cpu()):
        raise ValueError(
            "config.class_properties was changed after the model was built, whose rows are still the old ones; "
            "call model.set_property_space(space) instead."
        )
    try:
        from prolab_hf.label_space.space_files import write_space_files
    except ImportError:
        return None  # remote code without the package: configuration and weights carry everything
    return partial(write_space_files, model.property_space)


__all__ = [
    "ProLabForSemanticSegmentation",
    "ProLabPreTrainedModel",
    "ProLabSemanticSegmenterOutput",
]
