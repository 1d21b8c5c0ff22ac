"""Classes of a trained model that are exchanged, added by description, and given offsets on their scores."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .closed_form_prolab import (
    claim_offsets,
    class_rows,
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

EPSILON = 1e-8  # of torch.nn.CosineSimilarity
DEFAULT_CLAIM_BUDGET = 0.01


def derived_buffers(config: ProLabConfig) -> dict[str, Tensor]:
    """Buffers that follow from the configuration alone; they are rebuilt at every load and not saved."""
    return {
        "class_property_matrix": plain_rows(config),
        "class_rows": class_rows(config),
        "response_targets": response_targets(config),
        "class_offsets": offsets_tensor(config),
    }


class DescribedClassesMixin(nn.Module):
    """The part of `ProLabForSemanticSegmentation` that knows which classes there are and how they are scored.

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

    config: ProLabConfig
    property_embeddings: Tensor
    class_property_matrix: Tensor
    class_rows: Tensor
    response_targets: Tensor
    class_offsets: Tensor
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
            values = _pixels(self._scores(*self._logits_of_responses(_as_map(values))))
        return values, labels[labels >= 0]

    def calibration_class_scores(self) -> tuple[Tensor, Tensor] | None:
        """Class scores of the calibration sample, without offsets.

        Returns:
            Scores `(pixels, num_labels)` and class ids `(pixels,)`; `None` without pixels of the classes of now.
        """
        scores, labels = self.calibration_property_scores()
        if not len(labels):
            return None
        return _pixels(self.similarity_of_scores(_as_map(scores))), labels

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

    # ---- scores: the one place where the formula lives ----------------------------------------------------

    def property_scores(self, property_logits: Tensor) -> Tensor:
        """What a class row is compared with.

        `sigmoid(logits / T)`; the logits themselves for `"cosine"`; `max(0, (logits + 1) / 2)` for
        `"linear_cosine"`.

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.

        Returns:
            The same shape; in [0, 1] for the sigmoid modes, about so for `"linear_cosine"`.
        """
        if self.config.similarity == "cosine":
            return property_logits
        if self.config.similarity == "linear_cosine":
            return ((property_logits + 1) / 2).clamp_min(0)
        return torch.sigmoid(property_logits / self.config.temperature)

    def unspoken_scores(self, unspoken_logits: Tensor) -> Tensor:
        """Scores of the properties without words, `(batch_size, trained classes, height, width)`, weighted.

        Args:
            unspoken_logits: Of the model's output.
        """
        return ((unspoken_logits + self.config.unspoken_weight) / 2).clamp_min(0)

    def _logits_of_responses(self, responses: Tensor) -> tuple[Tensor, Tensor | None]:
        """Property logits, and those without words where the model has any, of the last layer's responses."""
        targets = self.response_targets.to(responses.dtype)
        with torch.autocast(device_type=responses.device.type, enabled=False):
            logits = nn.functional.conv2d(responses, targets.t()[:, :, None, None])
        named = self.config.num_properties
        return logits[:, :named], logits[:, named:] if targets.shape[1] > named else None

    def _scores(self, property_logits: Tensor, unspoken_logits: Tensor | None) -> Tensor:
        scores = self.property_scores(property_logits)
        if unspoken_logits is None:
            return scores
        return torch.cat([scores, self.unspoken_scores(unspoken_logits)], dim=1)

    def logits_of_responses(self, responses: Tensor) -> Tensor:
        """Class logits `(batch_size, num_labels, height, width)` of the last layer's responses (`"linear_cosine"`).

        Args:
            responses: `(batch_size, num_responses, height, width)`.
        """
        return self.class_logits(*self._logits_of_responses(responses))

    def class_logits(self, property_logits: Tensor, unspoken_logits: Tensor | None = None) -> Tensor:
        """Similarity of each pixel's property scores to the row of each class (section 3 of the paper), plus offsets.

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.
            unspoken_logits: `(batch_size, trained classes, height, width)`, where the model gave any.

        Returns:
            `(batch_size, num_labels, height, width)`, in at least float32.
        """
        # In half precision EPSILON would be 0 and the division give NaN.
        dtype = torch.promote_types(property_logits.dtype, torch.float32)
        unspoken = None if unspoken_logits is None else unspoken_logits.to(dtype)
        logits = self.similarity_of_scores(self._scores(property_logits.to(dtype), unspoken))
        if self.config.class_offsets is None:
            return logits
        return logits + self.class_offsets.to(logits.dtype)[:, None, None]

    def spoken_share(self, property_logits: Tensor, unspoken_logits: Tensor | None = None) -> Tensor:
        """Part of the winning class's score at each pixel that named properties make up, offsets aside.

        Args:
            property_logits: `(batch_size, num_properties, height, width)`.
            unspoken_logits: Of the same output; without them words make up everything.

        Returns:
            `(batch_size, height, width)`; 1 where words make up everything.
        """
        if unspoken_logits is None:
            return torch.ones_like(property_logits[:, 0])
        scores = self._scores(property_logits, unspoken_logits)
        winner = self.class_logits(property_logits, unspoken_logits).argmax(dim=1)
        rows = self.class_rows.to(scores.dtype)
        named = self.class_property_matrix.shape[1]
        parts = [
            torch.einsum("bkhw,ck->bchw", scores[:, part], rows[:, part])
            for part in (slice(named), slice(None))
        ]
        spoken, whole = (part.gather(1, winner[:, None])[:, 0] for part in parts)
        return spoken / whole.clamp_min(EPSILON)

    def _rows(self, width: int) -> Tensor:
        """Rows of the classes for scores with or without the part that has no words."""
        rows = self.class_property_matrix
        return rows if rows.shape[1] == width else self.class_rows

    def similarity_of_scores(self, scores: Tensor) -> Tensor:
        """Class scores without offsets `(batch_size, num_labels, height, width)`.

        Args:
            scores: `(batch_size, num_properties, height, width)`, with the properties without words at the end.
        """
        rows = self._rows(scores.shape[1]).to(scores.dtype)
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


def _as_map(pixels: Tensor) -> Tensor:
    """Pixels `(number, channels)` as one map `(1, channels, number, 1)`: one large product instead of many small."""
    return pixels.t()[None, :, :, None]


def _pixels(features: Tensor) -> Tensor:
    """The inverse of `_as_map`."""
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
