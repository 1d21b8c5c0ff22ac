"""Configuration of ProLab: a backbone, a decoder, a property space and how they are supervised."""

import copy
import difflib
import logging
import math
import os
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .adapted_network_prolab import AdaptedNetworkConfig
from .class_names_prolab import listing, misfit, ordered_names, refuse_other_names
from .configuration_vit_adapter import ViTAdapterConfig
from .remote_code_prolab import CompleteUploadMixin
from .training_fields_prolab import check_class_weights, check_training_fields

logger = logging.getLogger(__name__)

CHOICES = {
    "decoder": ("uper", "segformer", "aspp", "linear"),
    "head_inputs": ("decoder", "decoder_and_backbone"),
    "similarity": ("sigmoid_cosine", "cosine", "sigmoid_l2", "linear_cosine"),
    "property_loss": ("cosine", "bce", "mse"),
    "void_pixels": ("mask", "dilute"),
    "loss_implementation": ("streamed", "plain"),
}
POSITIVE = (
    "hidden_size",
    "embedding_dim",
    "num_properties",
    "temperature",
    "class_temperature",
    "auxiliary_channels",
    "auxiliary_kernel_size",
    "low_level_channels",
    "boundary_width",
    "hard_pixel_share",
)
NOT_NEGATIVE = (
    "property_loss_weight",
    "class_loss_weight",
    "dice_loss_weight",
    "lovasz_loss_weight",
    "focal_gamma",
    "boundary_weight",
    "auxiliary_num_convs",
    "initializer_range",
    "unspoken_weight",
    "unspoken_responses",
    "described_by_words",
    "calibration_pixels",
)

# What describes the classes, and is only ever right together.
CLASS_FIELDS = ("id2label", "label2id", "class_properties")
ABOUT_CLASSES = (*CLASS_FIELDS, "property_space_info", "class_sources", "class_offsets", "class_weights")

# Backbones whose feature maps all have the stride of one patch: they get a feature pyramid in front of the decoder.
PLAIN_VIT_TYPES = ("beit", "dinov2", "dinov2_with_registers", "dinov3_vit", "pixio", "sapiens2", "vitdet")


class DecoderName(str):
    """The name of a decoder, to which attributes may be added.

    transformers takes every field called `decoder` for a nested configuration and sets attributes on it.
    """


@strict
class ProLabConfig(CompleteUploadMixin, PreTrainedConfig):
    r"""Everything that defines a ProLab network except its weights and the vectors of its properties.

    The class set lives in one place: `class_properties`, one list of property indices per class. Names without
    rows of their own are refused wherever they are given, because such classes would train towards nothing:

    - `from_pretrained(..., id2label=...)` with other names than the rows have; `num_labels`, `id2label` or
      `class_properties` set to another number.
    - `from_pretrained(..., num_labels=n)`, as fine-tuning scripts have it, drops the rows with a warning; the
      model then refuses to run until `model.set_property_space(space)` supplies new ones.
    - `config.id2label = {...}` with as many names renames the classes, in the words of the space as well.

    Args:
        backbone_config: Configuration of any backbone that `AutoBackbone` can build (default: ResNet-50).
        decoder: `"uper"` (pyramid pooling and feature pyramid), `"segformer"` (all-MLP fusion), `"aspp"`
            (separable atrous pyramid with a low-level branch, as in DeepLabV3+) or `"linear"` (no layers of its
            own: the feature maps side by side, each resized to the finest).
        context_bins: Side lengths of the grids into which the coarsest map is averaged as additional features
            where the last layer sees the backbone's maps (the linear decoder, `"decoder_and_backbone"`): 1 is the
            mean of the image, 4 means of its sixteenths.
        head_inputs: What the last layer sees: `"decoder"`, or `"decoder_and_backbone"`, where the feature maps of
            the backbone, and its context, are put beside the decoder's.
        hidden_size: Width of the decoder.
        feature_pyramid: Turn the equally sized maps of a plain vision transformer into four strides by learned
            up- and down-sampling. `None` decides by the type of the backbone.
        pool_scales: Output sizes of the pyramid pooling (`"uper"`).
        aspp_dilations: Dilations of the atrous pyramid (`"aspp"`).
        low_level_channels: Width of the low-level branch (`"aspp"`).
        embedding_dim: Length D of a pixel embedding = length of a sentence vector of the property space.
        num_properties: Number K of properties.
        property_names: K short names.
        class_properties: Per class the indices (0 to K - 1) of its properties.
        property_space_info: Words and provenance of the property space (name, descriptions, assignments, encoder,
            clustering, provenance); informative, the network does not read it.
        temperature: T in `sigmoid(e . E_k / T)`; 0.04 without and 0.01 with `normalize_pixel_embeddings` in the paper.
        normalize_pixel_embeddings: Divide each pixel embedding by its Euclidean norm before the projection.
        similarity: How a pixel's property scores are compared with the row of a class: `"sigmoid_cosine"` (the
            paper), `"cosine"` (of the raw logits), `"sigmoid_l2"` (`1 - |s - row| / sqrt(K)`) or
            `"linear_cosine"` (of `max(0, logit + 1)`: the closed-form head, whose last layer gives one response
            per trained class, which the rows turn into property logits near -1 and 1).
        property_loss: `"cosine"` (`1 - cos(scores, row)`, the paper), `"bce"` or `"mse"`.
        property_loss_weight: Weight of the property loss.
        class_loss_weight: Weight of a cross-entropy on `class similarity / class_temperature`; 0 is the paper.
        class_temperature: Temperature of that cross-entropy.
        focal_gamma: Exponent g that makes a focal loss `-(1 - p)^g log p` of that cross-entropy; 0 = none, 2 is usual.
        dice_loss_weight: Weight of a Dice loss on the softmax of `class similarity / class_temperature`; 0 = none.
        lovasz_loss_weight: Weight of a Lovasz loss (a surrogate of the mean IoU) on the same; 0 = none.
        class_weights: Per class what the property, cross-entropy and focal loss of its pixels are multiplied by,
            while the mean stays one over pixels; `None` = 1 for all. Training only, gone when the classes change.
        boundary_weight: The same for pixels at most `boundary_width` pixels of the labels from another class.
        boundary_width: In pixels.
        hard_pixel_share: Share of the pixels of a forward pass, the hardest ones, that each of these losses is a
            mean over (online hard example mining); 1 = all.
        hard_pixel_threshold: Where `hard_pixel_share` is below 1, pixels with at least this loss are kept beside them.
        classifier_dropout_prob: Channel dropout in front of the last convolution.
        use_auxiliary_head: Supervise one backbone stage through a small convolutional head.
        auxiliary_in_index: Which feature map that is; several for a head on each (deep supervision).
        auxiliary_channels: Width of the auxiliary head.
        auxiliary_num_convs: Number of its convolutions.
        auxiliary_kernel_size: Their kernel size.
        auxiliary_concat_input: Fuse its input with its output by one more convolution.
        auxiliary_loss_weight: Its weight. The paper's configuration says 0.4 (the published runs in effect used
            1.0, because the reference code never multiplied by it). One number for every head, or one per head.
        semantic_loss_ignore_index: Label value of pixels without a class.
        void_pixels: `"mask"` leaves them out of the mean; `"dilute"` lets each add a constant loss and no gradient
            to it, as the reference code does.
        loss_implementation: `"streamed"` never stores a map at label resolution; `"plain"` computes the same
            numbers by the formula, slower and with several times the memory, for whoever doubts the other.
        trained_classes: Names of the classes that were trained or solved, in the order of the responses; the
            classes beside them are known by their descriptions only. `None`: nothing is known about it.
        class_sources: Per class the indices of the trained classes that it stands for, none for a described class,
            several for a merged one. `None` goes by the names.
        unspoken_weight: Weight of the property without words that each trained class has of its own
            (`"linear_cosine"`); 0 is none.
        unspoken_responses: Whether that property has responses of its own, behind those that the words follow from,
            instead of following from the same ones.
        described_by_words: Whether the score of a described class is the cosine of what is seen of the named
            properties alone; otherwise what is seen without words makes it smaller, as it does for every class.
        class_offsets: One number per class that is added to its score: 0 for trained classes, for described ones
            what their claim budget allows. `None`: no offsets.
        claim_budget: Share of the pixels of known classes that the offsets let each described class take.
        calibration_pixels: Number of pixels in the calibration sample that travels with the weights.
        solution: How the last layer was solved (ridge, class exponent, spoken share, measured on which images);
            informative.
        initializer_range: Standard deviation of fresh weights.
    """

    model_type = "prolab"
    keys_to_ignore_at_inference = ["property_logits", "unspoken_logits", "hidden_states", "attentions"]
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="resnet",
            init_kwargs={"out_features": ["stage1", "stage2", "stage3", "stage4"]},
        ),
    }

    backbone_config: dict[Any, Any] | PreTrainedConfig | None = None
    decoder: str = "uper"
    hidden_size: int = 512
    feature_pyramid: bool | None = None
    pool_scales: list[int] | tuple[int, ...] = (1, 2, 3, 6)
    aspp_dilations: list[int] | tuple[int, ...] = (1, 12, 24, 36)
    low_level_channels: int = 48
    embedding_dim: int = 768
    num_properties: int = 256
    property_names: list[str] | None = None
    class_properties: list[list[int]] | None = None
    property_space_info: dict[Any, Any] | None = None
    temperature: float | int = 0.04
    normalize_pixel_embeddings: bool = False
    similarity: str = "sigmoid_cosine"
    property_loss: str = "cosine"
    property_loss_weight: float | int = 1.0
    class_loss_weight: float | int = 0.0
    class_temperature: float | int = 0.05
    focal_gamma: float | int = 0.0
    dice_loss_weight: float | int = 0.0
    lovasz_loss_weight: float | int = 0.0
    class_weights: list[float | int] | None = None
    boundary_weight: float | int = 1.0
    boundary_width: int = 3
    hard_pixel_share: float | int = 1.0
    hard_pixel_threshold: float | int | None = None
    classifier_dropout_prob: float | int = 0.1
    use_auxiliary_head: bool = True
    auxiliary_in_index: int | list[int] | tuple[int, ...] = 2
    auxiliary_channels: int = 256
    auxiliary_num_convs: int = 1
    auxiliary_kernel_size: int = 3
    auxiliary_concat_input: bool = False
    auxiliary_loss_weight: float | int | list[float | int] = 0.4
    semantic_loss_ignore_index: int = 255
    void_pixels: str = "mask"
    loss_implementation: str = "streamed"
    initializer_range: float | int = 0.02
    context_bins: list[int] | tuple[int, ...] = ()
    head_inputs: str = "decoder"
    trained_classes: list[str] | None = None
    class_sources: list[list[int]] | None = None
    unspoken_weight: float | int = 0.0
    unspoken_responses: bool = False
    described_by_words: bool = False
    class_offsets: list[float] | None = None
    claim_budget: float | int | None = None
    calibration_pixels: int = 0
    solution: dict[Any, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self._refuse_misspelt(kwargs)
        given = self.backbone_config
        for own in (ViTAdapterConfig, AdaptedNetworkConfig):
            if isinstance(given, dict) and given.get("model_type") == own.model_type:
                # As remote code this class is in no registry, where transformers would look for it.
                self.backbone_config = own.from_dict(given)
        rows, self.class_properties = self.class_properties, None
        if rows is not None and self.id2label is None:
            kwargs.setdefault("num_labels", len(rows))
        super().__post_init__(**kwargs)
        self.class_properties = rows  # from here on, __setattr__ checks it against the names
        if self.feature_pyramid is None:
            backbone_type = getattr(self.backbone_config, "model_type", None)
            has_own = getattr(self.backbone_config, "add_fpn", False)
            plain = backbone_type in PLAIN_VIT_TYPES and not has_own
            self.feature_pyramid = plain and self.decoder != "linear"  # which has nothing to learn
        self._check_values()
        self.decoder = DecoderName(self.decoder)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Like transformers', but what is given for the classes is taken together, not field by field.

        Raises:
            ValueError: Names were given that the saved rows do not belong to.
        """
        config_dict = dict(config_dict)
        given = {name: kwargs.pop(name) for name in CLASS_FIELDS if name in kwargs}
        rows = config_dict.get("class_properties")
        rows = rows if isinstance(rows, list | tuple) else None  # anything else is refused by its type
        number = kwargs.get("num_labels")
        if given.get("class_properties") is not None:
            # What is said about the old classes says nothing about the new ones.
            stale = {name: None for name in ABOUT_CLASSES if name in config_dict and name != "id2label"}
            config_dict.update({**stale, **given})
        elif rows is not None and number not in (None, len(rows)):
            logger.warning(
                "class_properties describes %d classes but num_labels is %d: the rows are dropped. "
                "Call model.set_property_space(space) with a space of the new classes.",
                len(rows),
                number,
            )
            stale = {name: None for name in ABOUT_CLASSES if name in config_dict}
            config_dict.update({**stale, **given})
        elif rows is not None:
            names = ordered_names(config_dict.get("id2label"), None)
            for field, value in given.items():
                refuse_other_names(field, value, names or [f"LABEL_{i}" for i in range(len(rows))])
        else:
            config_dict.update(given)
        return super().from_dict(config_dict, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        is_complete = "_name_or_path" in self.__dict__  # set by the base class when all fields are there
        if name == "property_space_info":
            value = copy.deepcopy(value)  # the space that it comes from must not change with it
        if not is_complete or name not in ("id2label", "label2id", "num_labels", "class_properties"):
            super().__setattr__(name, value)
        elif name == "class_properties":
            self._set_rows(value)
        elif self.class_properties is None:
            super().__setattr__(name, value)
        elif name == "num_labels":
            if value != len(self.class_properties):
                raise ValueError(misfit(f"num_labels is {value!r}", self._class_names()))
        else:
            self._rename_classes(name, value)

    def _class_names(self) -> list[str]:
        """The names that the words of the space are filed under, in the order of the rows."""
        return ordered_names(self.id2label, self.label2id)

    def _set_rows(self, rows: list[list[int]] | None) -> None:
        """Assigns `class_properties`, for names that are already there."""
        if rows is not None:
            names = ordered_names(self.id2label, None)
            if not rows:
                raise ValueError("class_properties is empty; give one list of property indices per class.")
            if len(rows) != len(names):
                raise ValueError(
                    f"class_properties has {len(rows)} rows for {len(names)} labels; set id2label and "
                    "class_properties together (model.set_property_space(space) does)."
                )
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(
                    f"id2label has the class {twice!r} twice; each class needs a name of its own."
                )
            if self.label2id is not None and ordered_names(None, self.label2id) != names:
                raise ValueError("label2id is not the inverse of id2label; leave it out, or give both alike.")
            self._check_rows(rows)
            self.__dict__["label2id"] = {name: index for index, name in enumerate(names)}
        super().__setattr__("class_properties", rows)

    def _rename_classes(self, field: str, value: object) -> None:
        """Assigns `id2label` or `label2id` of as many classes, and files the words of the space under the new names."""
        names = ordered_names(None, self.label2id)  # id2label may have been changed in place
        new = ordered_names(value, None) if field == "id2label" else ordered_names(None, value)
        if len(new) != len(names) or len(set(new)) != len(new):
            raise ValueError(misfit(f"{field} names {listing(new)}", names))
        moved = [name for index, name in enumerate(new) if name in names and names[index] != name]
        if moved:
            raise ValueError(
                misfit(f"{field} gives the name {moved[0]!r} to the row of another class", names)
            )
        renamed = dict(zip(names, new))
        self.__dict__["id2label"] = dict(enumerate(new))
        self.__dict__["label2id"] = {name: index for index, name in enumerate(new)}
        info = dict(self.property_space_info or {})
        for words in ("descriptions", "assignments"):
            if isinstance(info.get(words), dict):
                info[words] = {renamed.get(name, name): value for name, value in info[words].items()}
        if self.property_space_info is not None:
            self.property_space_info = info
        for listed in ("trained_classes",):
            if getattr(self, listed, None) is not None:
                setattr(self, listed, [renamed.get(name, name) for name in getattr(self, listed)])

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "ProLabConfig":
        """This configuration: there is no text model in it, whatever its field `decoder` looks like."""
        return self

    def _refuse_misspelt(self, extra: dict[str, Any]) -> None:
        """A keyword that the base class would store without a word, but that is one of ours misspelt, is an error."""
        ours = [name for name in ProLabConfig.__annotations__ if name not in ("id2label", "label2id")]
        for name in extra:
            close = difflib.get_close_matches(name, ours, n=1, cutoff=0.85)
            if close and not hasattr(PreTrainedConfig, name):
                raise ValueError(f"ProLabConfig has no field {name!r}; did you mean {close[0]!r}?")

    def _check_values(self) -> None:
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"{field} is {getattr(self, field)!r}; allowed: {', '.join(map(repr, allowed))}."
                )
        for field in POSITIVE:
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} is {getattr(self, field)!r}; it must be greater than 0.")
        for field in NOT_NEGATIVE:
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} is {getattr(self, field)!r}; it must not be negative.")
        if not 0 <= self.classifier_dropout_prob < 1:
            raise ValueError(
                f"classifier_dropout_prob is {self.classifier_dropout_prob!r}; it must be in [0, 1)."
            )
        if self.property_loss == "bce" and self.similarity in ("cosine", "linear_cosine"):
            raise ValueError(
                f"property_loss='bce' needs scores in [0, 1], but similarity={self.similarity!r} has no sigmoid; "
                "use similarity='sigmoid_cosine' or property_loss='cosine'."
            )
        check_training_fields(self)
        self._check_properties()

    def _check_properties(self) -> None:
        if self.property_names is not None and len(self.property_names) != self.num_properties:
            raise ValueError(
                f"property_names has {len(self.property_names)} entries; num_properties is {self.num_properties}."
            )

    def _check_rows(self, rows: list[list[int]]) -> None:
        for index, row in enumerate(rows):
            wrong = [k for k in row if not 0 <= k < self.num_properties]
            if wrong or not row:
                found = f"indices {wrong}" if wrong else "no property"
                name = ordered_names(self.id2label, None)[index]
                raise ValueError(
                    f"class_properties of class {name!r} has {found}; "
                    f"allowed: one or more of 0 to {self.num_properties - 1}."
                )

    def _check_closed_form(self) -> None:
        """What belongs together in a model with trained and described classes."""
        trained = self.trained_classes
        if trained is not None and len(set(trained)) != len(trained):
            raise ValueError("trained_classes holds a name twice; every trained class has one response.")
        if self.unspoken_responses and self.similarity != "linear_cosine":
            raise ValueError(
                f'unspoken_responses needs similarity="linear_cosine", not {self.similarity!r}: only a solved last '
                "layer gives responses."
            )
        for field in ("class_sources", "class_offsets"):
            value = getattr(self, field)
            if value is not None and len(value) != self.num_labels:
                raise ValueError(
                    f"{field} has {len(value)} entries for {self.num_labels} labels; it needs one per class "
                    "(model.set_property_space sets it)."
                )
        known = len(trained) if trained is not None else self.num_labels or 0
        wrong = [index for row in self.class_sources or [] for index in row if not 0 <= index < known]
        if wrong:
            raise ValueError(f"class_sources names the trained class {wrong[0]}; there are {known}.")
        check_class_weights(self)
        if any(not math.isfinite(value) for value in self.class_offsets or []):
            raise ValueError("class_offsets holds a value that is not finite; call model.set_property_space.")

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> Any:
        """Like transformers'; code that is saved with it comes in few files."""
        result = super().save_pretrained(save_directory, push_to_hub, **kwargs)
        self.complete_folder(save_directory)
        return result

    def validate_property_fields(self) -> None:
        """Fields may have been set since construction; what is saved must fit together.

        Raises:
            ValueError: A field has a value outside its range, or `class_properties` does not have one row per label.
        """
        self._check_values()
        if self.class_properties is not None:
            if self.id2label is not None and ordered_names(self.id2label, None) != self._class_names():
                self.id2label = dict(self.id2label)  # changed in place: a renaming, or refused
            self._set_rows(self.class_properties)
        self._check_closed_form()


__all__ = ["ProLabConfig"]
