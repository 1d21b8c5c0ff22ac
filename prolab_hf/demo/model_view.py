"""A model as one visitor sees it: the weights are everybody's, the words are the visitor's own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn

from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_DESCRIPTIONS
from prolab_hf.demo.answers import at_size, explanation_answer, label_runs
from prolab_hf.demo.gallery import GalleryImage
from prolab_hf.demo.shown_model import ShownModel
from prolab_hf.demo.uploads import data_uri, heat_layer
from prolab_hf.evaluation.inference import Segmentation, inference_state, model_output, prepare, segment
from prolab_hf.explanation.contributions import explain
from prolab_hf.explanation.overlays import class_colors
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder
from prolab_hf.protocols import ImageProcessor

SLIDE_CROP = 512
"""Window where the processor names none."""


class DemoModel:
    """What all visitors share of a model.

    Args:
        model: A `ProLabForSemanticSegmentation`. It stays as it is.
        processor: Its image processor.
        name: What the page calls it.
        encoder: Text encoder of its property space, in any form that `TextEncoder.load` takes. By default the
            one that the space names, if it is in the local cache. Nothing is downloaded.

    Raises:
        ValueError: If the model is no ProLab model or has no classes.
        FileNotFoundError: If the text encoder is not on this machine.
    """

    def __init__(
        self, model: nn.Module, processor: ImageProcessor, *, name: str = "", encoder: object = None
    ) -> None:
        self.shown = ShownModel.of(model)
        self.processor = processor
        self.name = name or "model"
        try:
            self.space: PropertySpace = self.shown.property_space
        except RuntimeError as error:
            raise ValueError(f"The model has no classes to show: {error}") from error
        self._encoder: object = None
        if encoder is not None:
            self._encoder = self._loaded(encoder)
        elif _is_cached(self.space.encoder.get("name")):
            self._encoder = self.space.encoder["name"]  # loaded when the first sentence comes

    @property
    def has_encoder(self) -> bool:
        """Whether sentences can be read."""
        return self._encoder is not None

    def encoder(self) -> TextEncoder | None:
        """The text encoder, loaded when it is first needed."""
        if self._encoder is not None and not isinstance(self._encoder, TextEncoder):
            self._encoder = self._loaded(self._encoder)
        return self._encoder

    def _loaded(self, encoder: object) -> TextEncoder:
        facts = self.space.encoder
        options = {key: facts[key] for key in ("lower_case", "normalize") if key in facts}
        if isinstance(encoder, str):
            options["pooling"] = facts.get("pooling")
        return TextEncoder.load(encoder, local_files_only=True, **options)


class ModelView:
    """A model with the words of one visitor.

    Args:
        shared: What all visitors share of it.
    """

    def __init__(self, shared: DemoModel) -> None:
        self.shared = shared
        self.model = ShownModel.of(shared.shown)
        self.version = 0

    @property
    def space(self) -> PropertySpace:
        """The words of now."""
        space: PropertySpace = self.model.property_space
        return space

    @property
    def nbytes(self) -> int:
        """Bytes that only this visitor needs."""
        return sum(buffer.nbytes for buffer in self.model._buffers.values() if buffer is not None)

    def state(self) -> dict[str, Any]:
        """The classes and properties with their colors and words, JSON-ready."""
        space, config, own = self.space, self.model.config, self.shared.space
        colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in class_colors(space.num_classes)]
        return {
            "name": self.shared.name,
            "version": self.version,
            "similarity": config.similarity,
            "classes": [
                {
                    "name": name,
                    "color": color,
                    "properties": row,
                    "phrases": _phrases(space, name),
                    "added": name not in own.class_names,
                }
                for name, color, row in zip(space.class_names, colors, space.class_properties)
            ],
            "properties": space.property_names,
            "encoder": {"available": self.shared.has_encoder, "name": space.encoder.get("name") or ""},
            "suggestion": _suggestion(space),
        }

    # ---- questions about an image ----------------------------------------------------------------------------

    def segmentation(self, image: GalleryImage, mode: str = "whole") -> Segmentation:
        """The label map: of the image as it is shown, or in mode `"slide"` of all its pixels.

        Args:
            image: The image.
            mode: `"whole"` or `"slide"`.

        Raises:
            ValueError: The mode is another one.
        """
        if mode == "whole":
            return segment(self.model, self.shared.processor, image.image)
        if mode != "slide":
            raise ValueError(f"The mode is {mode!r}; it must be 'whole' or 'slide'.")
        processor = copy.copy(self.shared.processor)
        crop = getattr(processor, "crop_size", None)
        processor.do_resize = False  # windows see the image as it is
        return segment(
            self.model,
            processor,
            image.full,
            mode="slide",
            crop_size=None if isinstance(crop, int) else SLIDE_CROP,
        )

    def result(self, image: GalleryImage, mode: str = "whole") -> dict[str, Any]:
        """The image segmented with the present words, JSON-ready.

        Args:
            image: The image.
            mode: `"whole"` or `"slide"`.
        """
        found = self.segmentation(image, mode)
        names = found.class_names
        means = self._property_maps(image).flatten(1).mean(dim=1)
        return {
            "version": self.version,
            "mode": mode,
            "runs": label_runs(at_size(found.labels, (image.image.height, image.image.width))),
            "shares": [[names.index(name), share] for name, share in found.shares()],
            "property_means": [round(value, 4) for value in means.tolist()],
            "spoken_share": self._spoken_share(image),
        }

    def explain(
        self,
        image: GalleryImage,
        *,
        point: tuple[int, int] | None = None,
        region: np.ndarray | None = None,
        class_name: str | None = None,
        rather_than: str | None = None,
    ) -> dict[str, Any]:
        """Why a place has its class, or why not another class.

        Args:
            image: The image.
            point: Column and row of a pixel.
            region: Bool `(height, width)`, instead of a point.
            class_name: Class to explain; default: the one found there.
            rather_than: Class to compare it with; default: the strongest other one.

        Returns:
            See `explanation_answer`.

        Raises:
            ValueError: If the point or a class does not exist.
        """
        place: dict[str, Any] = {"point": point} if region is None else {"region": region}
        found = explain(self.model, self.shared.processor, image.image, **place, class_name=class_name)
        other = rather_than or (found.runner_up.class_name if found.runner_up is not None else None)
        rival = (
            explain(self.model, self.shared.processor, image.image, **place, class_name=other)
            if other is not None
            else None
        )
        return explanation_answer(found, rival) | {"version": self.version}

    def property_map(self, image: GalleryImage, index: int) -> dict[str, Any]:
        """Where a property is seen, JSON-ready.

        Args:
            image: The image.
            index: Of the property.

        Raises:
            ValueError: If there is no such property.
        """
        names = self.model.property_space.property_names
        if not 0 <= index < len(names):
            raise ValueError(f"There is no property {index}; the model has numbers 0 to {len(names) - 1}.")
        scores = self._property_maps(image)[index]
        return {
            "property": index,
            "name": names[index],
            "image": data_uri(heat_layer(scores, (image.image.height, image.image.width)), "png"),
            "mean": float(scores.mean()),
            "max": float(scores.max()),
        }

    def _output(self, image: GalleryImage) -> Any:
        with inference_state(self.model):
            return model_output(self.model, prepare(self.shared.processor, image.image))

    def _property_maps(self, image: GalleryImage) -> Tensor:
        """Low-resolution scores `(num_properties, height, width)` in [0, 1]."""
        logits = self._output(image).property_logits
        if self.model.config.similarity == "cosine":  # compares logits themselves, which have no end
            return torch.sigmoid(logits[0] / self.model.config.temperature)
        return self.model.property_scores(logits)[0].clamp(max=1)

    def _spoken_share(self, image: GalleryImage) -> float:
        """Mean part of the scores that named properties make up."""
        output = self._output(image)
        return float(self.model.spoken_share(output.property_logits, output.unspoken_logits).mean())


def _phrases(space: PropertySpace, class_name: str) -> dict[int, str]:
    """The class's own words for its properties, where it has any."""
    found: dict[int, list[str]] = {}
    for text, index in zip(space.descriptions.get(class_name, ()), space.assignments.get(class_name, ())):
        found.setdefault(index, []).append(text)
    return {index: "; ".join(texts) for index, texts in found.items()}


def _suggestion(space: PropertySpace) -> dict[str, Any] | None:
    """The class that the drawn scenes hold back from training, for models that know its properties."""
    try:
        grown = space.add_classes({HELD_OUT_CLASS: SCENE_DESCRIPTIONS[HELD_OUT_CLASS]})
    except ValueError:  # it is there already, or the model learned other properties
        return None
    return {"name": HELD_OUT_CLASS, "properties": grown.class_properties[-1]}


def _is_cached(encoder: object) -> bool:
    """Whether a Hub model of that name was downloaded before."""
    try:
        return isinstance(encoder, str) and isinstance(try_to_load_from_cache(encoder, "config.json"), str)
    except ValueError:  # not a name that the Hub could have
        return False


__all__ = ["DemoModel", "ModelView"]
