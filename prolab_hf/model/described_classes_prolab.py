"""Classes of a trained model that are exchanged, added by description, and given offsets on their scores."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .class_scores_prolab import ClassScoresMixin
from .closed_form_prolab import (
    claim_offsets,
    class_rows_of,
    class_sources,
    dequantized,
    described,
    is_trained,
    label_names,
    matched_sources,
    num_responses,
    offsets_tensor,
    plain_rows,
    quantized,
    response_targets,
)
from .configuration_prolab import ProLabConfig
from .training_fields_prolab import auxiliary_heads

if TYPE_CHECKING:
    PropertySpace = Any

logger = logging.getLogger(__name__)

DEFAULT_CLAIM_BUDGET = 0.01


def derived_buffers(config: ProLabConfig) -> dict[str, Tensor]:
    """Buffers that follow from the configuration alone; they are rebuilt at every load and not saved."""
    return {
        "class_property_matrix": plain_rows(config),
        "class_rows": class_rows_of(config),
        "response_targets": response_targets(config),
        "class_offsets": offsets_tensor(config),
    }


class DescribedClassesMixin(ClassScoresMixin):
    """The part of `ProLabForSemanticSegmentation` that knows which classes there are.

    Buffers:
        property_embeddings: `(num_properties, embedding_dim)` unit rows; saved with the weights.
        class_property_matrix: `(num_labels, num_properties)` of 0 and 1; derived from
            `config.class_properties` at every load, so changing classes never ends in a size mismatch.
        class_rows: `(num_labels, num_properties + trained classes)`: the same with the properties without words
            behind the named ones, where the model has any; derived.
        response_targets: `(num_responses, num_properties + trained classes)`; derived.
        class_offsets: `(num_labels,)`, what is added to the class scores; derived.
        calibration_scores: `(calibration_pixels, num_properties or num_responses)` integers (see `quantized`),
            saved; `None` without a calibration sample.
        calibration_labels: int16 `(calibration_pixels,)`, the trained class of each pixel, saved.
    """

    property_embeddings: Tensor
    calibration_scores: Tensor | None
    calibration_labels: Tensor | None
    decode_head: Any

    def _register_described_buffers(self) -> None:
        """The buffers, on the device of the surrounding context (meta while loading)."""
        config, device = self.config, torch.get_default_device()
        for field in ("class_sources", "class_offsets"):
            value = getattr(config, field)
            if value is not None and len(value) != config.num_labels:
                setattr(config, field, None)  # from_pretrained(..., id2label=...) exchanged the classes
        for name, value in derived_buffers(config).items():
            self.register_buffer(name, value.to(device), persistent=False)
        scores = labels = None
        if config.calibration_pixels:
            values = torch.zeros(config.calibration_pixels, self._calibration_channels(), device=device)
            scores = quantized(values, is_score=self._has_sigmoid())
            labels = torch.zeros(config.calibration_pixels, dtype=torch.int16, device=device)
        self.register_buffer("calibration_scores", scores)
        self.register_buffer("calibration_labels", labels)

    def _init_derived_buffers(self) -> None:
        for name, value in derived_buffers(self.config).items():
            init.copy_(getattr(self, name), value)

    def _has_sigmoid(self) -> bool:
        return self.config.similarity in ("sigmoid_cosine", "sigmoid_l2")

    def _calibration_channels(self) -> int:
        solved = self.config.similarity == "linear_cosine"
        return num_responses(self.config) if solved else self.config.num_properties

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

    def _require_classes(self) -> None:
        raise RuntimeError(f"{type(self).__name__} does not say how its classes are checked.")

    @torch.no_grad()
    def set_property_space(
        self, space: "PropertySpace", *, claim_budget: float | None = DEFAULT_CLAIM_BUDGET
    ) -> None:
        """Replaces classes and properties; no learned weight is touched, and no image is needed.

        A solved model (`similarity="linear_cosine"`) takes any space: its answers are solved anew for the new
        words. A class that keeps its name, or is renamed or merged with its words, keeps what was learned; the
        others are known by their descriptions only. Where a calibration sample travels with the model, each of
        them gets an offset: the largest with which it takes at most `claim_budget` of the pixels of known classes.

        Args:
            space: A `PropertySpace`. A model that was trained by gradient needs one whose embeddings have its
                `embedding_dim`, made by the encoder of its own space.
            claim_budget: Share from 0 to below 1; `None` adds nothing to any score.

        Raises:
            ValueError: The space has another embedding size, or the budget is no share.
        """
        solved = self.config.similarity == "linear_cosine"
        if space.embedding_dim != self.config.embedding_dim and not solved:
            raise ValueError(
                f"The property space has embeddings of size {space.embedding_dim}, the model was built for "
                f"{self.config.embedding_dim}. Build the space with the text encoder of the model's own space, "
                f"or a new model with embedding_dim={space.embedding_dim}."
            )
        if claim_budget is not None and not 0 <= claim_budget < 1:
            raise ValueError(
                f"claim_budget is {claim_budget!r}; it must be a share from 0 to below 1, or None for no offsets."
            )
        sources = self._sources_in(space)
        same_properties = self.calibration_scores is None or torch.equal(
            self.property_embeddings.float().cpu(), space.property_embeddings
        )  # also False for other shapes
        fields = space.to_config_kwargs()
        same_classes = label_names(self.config) == space.class_names
        # Together, past the field-wise setters: between two of them the classes would not fit their rows.
        self.config.__dict__.update({name: fields[name] for name in ("id2label", "label2id")})
        for name, value in fields.items():
            setattr(self.config, name, value)
        self.config.class_sources = None
        if not same_classes:
            self.config.class_weights = None  # they were counted for other classes
        if sources is not None and sources != class_sources(self.config):
            self.config.class_sources = sources
        where = self.property_embeddings.device
        self.property_embeddings = space.property_embeddings.to(where, torch.float32, copy=True)
        self.num_labels = self.config.num_labels
        self._has_default_properties = False
        if solved and num_responses(self.config) != self.decode_head.classifier.out_channels:
            self._restart_responses()
        if not solved and not same_properties:
            logger.warning(
                "The properties changed, so the calibration sample of the model no longer applies and was removed; "
                "prolab_hf.solving.claim_budget.calibrate makes a new one from labeled images."
            )
            self.set_calibration_sample(None, None)
        self.set_claim_budget(claim_budget)

    def _sources_in(self, space: "PropertySpace") -> list[list[int]] | None:
        """Which trained classes each class of a space stands for; `None` where nothing is known about training."""
        config = self.config
        if config.trained_classes is None:
            return None
        names = label_names(config)
        info = config.property_space_info or {}
        old = described(
            names, config.class_properties or [], config.property_names, info.get("descriptions") or {}
        )
        new = described(space.class_names, space.class_properties, space.property_names, space.descriptions)
        return matched_sources(old, dict(zip(names, class_sources(config))), new, config.trained_classes)

    def _restart_responses(self) -> None:
        """A last layer for another number of classes, before any of them was trained."""
        for head in (self.decode_head, *auxiliary_heads(self)):
            old = head.classifier
            head.classifier = nn.Conv2d(old.in_channels, num_responses(self.config), kernel_size=1).to(
                old.weight
            )
            nn.init.normal_(head.classifier.weight, std=self.config.initializer_range / 2)
            nn.init.zeros_(head.classifier.bias)

    # ---- offsets ------------------------------------------------------------------------------------------

    def set_calibration_sample(self, values: Tensor | None, trained_labels: Tensor | None) -> None:
        """Gives the model the pixels of known classes that described classes are measured against.

        Args:
            values: `(pixels, num_properties)` property scores (raw logits for `similarity="cosine"`), or
                `(pixels, num_responses)` responses of a solved model; `None` removes the sample.
            trained_labels: Integers `(pixels,)`, indices into `config.trained_classes`.
        """
        if values is None or trained_labels is None:
            self.calibration_scores = self.calibration_labels = None
            self.config.calibration_pixels = 0
            return
        where = self.property_embeddings.device
        self.calibration_scores = quantized(values, is_score=self._has_sigmoid()).to(where)
        self.calibration_labels = trained_labels.to(where, torch.int16)
        self.config.calibration_pixels = len(values)

    def restore_calibration_sample(self, scores: Tensor | None, trained_labels: Tensor | None) -> None:
        """Puts a sample back as it was taken from `calibration_scores` and `calibration_labels`."""
        self.calibration_scores, self.calibration_labels = scores, trained_labels
        self.config.calibration_pixels = 0 if scores is None else len(scores)

    @torch.no_grad()
    def calibration_property_scores(self) -> tuple[Tensor, Tensor]:
        """What the calibration sample says about the classes of now.

        Returns:
            Scores `(pixels, num_properties, or more with properties without words)` and class ids `(pixels,)`, for
            the pixels whose class is still among the classes; both empty without a sample.
        """
        if self.calibration_scores is None or self.calibration_labels is None:
            return torch.zeros(0, self.config.num_properties), torch.zeros(0, dtype=torch.int64)
        label_of_source = torch.full((max(1, len(self.config.trained_classes or ())),), -1)
        for label, sources in enumerate(class_sources(self.config)):
            label_of_source[sources] = label
        labels = label_of_source.to(self.calibration_labels.device)[self.calibration_labels.long()]
        values = dequantized(self.calibration_scores[labels >= 0])
        if self.config.similarity == "linear_cosine":
            values = _pixels(self._scores(*self._logits_of_responses(_map_of_pixels(values))))
        return values, labels[labels >= 0]

    def calibration_class_scores(self) -> tuple[Tensor, Tensor] | None:
        """Class scores of the calibration sample, without offsets.

        Returns:
            Scores `(pixels, num_labels)` and class ids `(pixels,)`; `None` without pixels of the classes of now.
        """
        scores, labels = self.calibration_property_scores()
        if not len(labels):
            return None
        return _pixels(self.similarity_of_scores(_map_of_pixels(scores))), labels

    def set_claim_budget(self, claim_budget: float | None) -> None:
        """Sets the offsets of described classes anew; `None` removes them.

        Args:
            claim_budget: Share of the pixels of known classes that each described class may take.

        Raises:
            ValueError: The budget is no share.
        """
        config = self.config
        trained = is_trained(config)
        config.class_offsets = config.claim_budget = None
        self._rebuild_derived_buffers()
        if claim_budget is not None and config.trained_classes is not None and not trained.all():
            measured = self.calibration_class_scores() if trained.any() else None
            if measured is None:
                logger.info("Described classes get no offsets: the model has no calibration sample.")
            else:
                config.class_offsets = claim_offsets(measured[0].cpu(), trained, claim_budget)
                config.claim_budget = claim_budget
        self.class_offsets = offsets_tensor(config).to(self.class_offsets)

    def _rebuild_derived_buffers(self) -> None:
        where = self.class_property_matrix
        for name, value in derived_buffers(self.config).items():
            setattr(self, name, value.to(where.device, where.dtype))


def _map_of_pixels(pixels: Tensor) -> Tensor:
    """Pixels `(number, channels)` as one map `(1, channels, number, 1)`: one large product instead of many small."""
    return pixels.t()[None, :, :, None]


def _pixels(features: Tensor) -> Tensor:
    """The inverse of `_map_of_pixels`."""
    return features[0, :, :, 0].t()


def _property_space_class() -> Any:
    try:
        from prolab_hf.label_space.property_space import PropertySpace
    except ImportError as error:
        raise ImportError(
            "A PropertySpace object needs the package: pip install prolab_hf. "
            "(The model itself runs without it; its classes and properties are in model.config.)"
        ) from error
    return PropertySpace


def property_space_writer(model: Any) -> Callable[[Path], None] | None:
    """What writes the files beside the weights into a folder, with all that may be refused checked beforehand.

    These are the property space's own files, and the statistics of a solved model.

    Raises:
        ValueError: Parts of the configuration or of the property space do not fit.
    """
    model.config.validate_property_fields()
    if model.config.class_properties is None:
        return None
    if not torch.equal(plain_rows(model.config), model.class_property_matrix.float().cpu()):
        raise ValueError(
            "config.class_properties was changed after the model was built, whose rows are still the old ones; "
            "call model.set_property_space(space) instead."
        )
    try:
        from prolab_hf.label_space.space_files import write_space_files
    except ImportError:
        return None  # remote code without the package: configuration and weights carry everything
    space, statistics = model.property_space, getattr(model, "solve_statistics", None)

    def write(folder: Path) -> None:
        write_space_files(space, folder)
        if statistics is not None:
            statistics.save(folder)

    return write
