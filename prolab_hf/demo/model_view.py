"""A model as one visitor sees it: the weights are everybody's, the words are the visitor's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_DESCRIPTIONS
from prolab_hf.demo.answers import (
    ClassPalette,
    at_size,
    explanation_answer,
    hex_colors,
    label_runs,
    polygon_mask,
)
from prolab_hf.demo.demo_model import DemoModel
from prolab_hf.demo.gallery import GalleryImage
from prolab_hf.demo.uploads import data_uri, heat_layer
from prolab_hf.editing.editable_model import EditableModel
from prolab_hf.editing.editor import SpaceEditor
from prolab_hf.editing.edits import Edit
from prolab_hf.editing.patches import edit_from_dict
from prolab_hf.evaluation.inference import (
    Segmentation,
    class_names_of,
    inference_state,
    model_output,
    segment,
)
from prolab_hf.evaluation.settings import InferenceOptions, recorded_window
from prolab_hf.explanation.contributions import RunnerUp, explain
from prolab_hf.explanation.interventions import intervene
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.closed_form_prolab import is_trained
from prolab_hf.model.modeling_prolab import ProLabSemanticSegmenterOutput
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.protocols import ImageProcessor

MAX_HISTORY = 40
MAX_RESULTS = 12
MAX_ADDED = 40
"""Classes, and properties, that a visitor may have more than the model."""
MAX_NAME_LENGTH = 80
MAX_SENTENCES = 40
MAX_TEXT_LENGTH = 300
NAMES = ("name", "new", "phrase")

SLIDE_CROP = 512
"""Window where the processor names none."""


class ModelView:
    """A model with the words of one visitor.

    Args:
        shared: What all visitors share of it.
        palette: The visitor's colors of classes.
    """

    def __init__(self, shared: DemoModel, palette: ClassPalette) -> None:
        self.shared, self.palette = shared, palette
        self.editor = SpaceEditor(shared.model, shared.processor, max_history=MAX_HISTORY)
        self.editor.encoder = shared.encoder
        own = shared.space
        self._knows_scenes = HELD_OUT_CLASS in own.class_names or _suggestion(own) is not None
        self._results: dict[tuple[str, str, int], dict[str, Any]] = {}  # last ones: one undoes, and compares

    @property
    def model(self) -> EditableModel:
        """The model with the words of now."""
        return self.editor.model

    @property
    def version(self) -> int:
        """Another number for other words."""
        return self.model.serial

    @property
    def nbytes(self) -> int:
        """About how many bytes only this visitor needs: each edit keeps the words before it."""
        own = sum(buffer.nbytes for buffer in self.model._buffers.values() if buffer is not None)
        kept = sum(each["runs"].nbytes for each in self._results.values())
        return kept + own * (1 + len(self.editor.history) + len(self.editor.undone))

    def state(self) -> dict[str, Any]:
        """The classes and properties with their colors and words, JSON-ready."""
        space, config, own = self.editor.space, self.model.config, self.shared.space
        trained = is_trained(config).tolist()
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
                    "sentences": space.descriptions.get(name, []),
                    "added": name not in own.class_names,
                    "described": not known,
                }
                for name, color, row, known in zip(
                    space.class_names, self._colors(space.class_names), space.class_properties, trained
                )
            ],
            "properties": space.property_names,
            "phrases": {index: list(users) for index, users in space.phrases_by_property.items()},
            "encoder": {
                "available": self.shared.encoder.available,
                "name": space.encoder.get("name") or "",
            },
            "budget": self.editor.claim_budget,
            "measured": self.editor.has_calibration_sample,
            "history": [effect.edit.to_text() for effect in self.editor.history],
            "undone": [effect.edit.to_text() for effect in self.editor.undone],
            "suggestion": _suggestion(space) if self._knows_scenes else None,
        }

    def _colors(self, names: Sequence[str]) -> list[str]:
        return hex_colors(self.palette.colors(names))

    # ---- edits -----------------------------------------------------------------------------------------------

    def edit(self, content: Mapping[str, object]) -> dict[str, Any]:
        """Makes an edit.

        Args:
            content: As `edit_from_dict` reads it; `"undo"` and `"redo"` are edits, too.

        Returns:
            What it did (`EditEffect.to_dict()`), and which class goes on under which other name, JSON-ready.

        Raises:
            ValueError: If it does not fit, or there are too many classes or properties.
        """
        if content.get("edit") == "undo":
            effect = self.editor.undo()
        elif content.get("edit") == "redo":
            effect = self.editor.redo()
        else:
            effect = self.editor.apply(self._edit(content))
            self.palette.go_on(effect.successors)
        renamed = {old: new for old, new in effect.successors.items() if old != new}
        return effect.to_dict() | {"renamed": renamed}

    def preview(self, contents: Sequence[Mapping[str, object]], image: GalleryImage | None) -> dict[str, Any]:
        """What edits would do, one after the other; nothing changes.

        Args:
            contents: As for `edit`, at least one.
            image: Shown as it would be.

        Raises:
            ValueError: If one does not fit.
        """
        edits = [self._edit(content) for content in contents]
        effect = self.editor.preview(*edits)
        answer: dict[str, Any] = effect.to_dict()
        kinds = [edit.kind for edit in edits[:-1]]
        if "add_class" in kinds:  # where its sentences went is told by its own edit
            first = edits[: kinds.index("add_class") + 1]
            answer["placements"] = self.editor.preview(*first).to_dict()["placements"]
        if image is not None:
            names, found = class_names_of(effect.after), self._result(effect.after, image, "whole")
            classes = [{"name": name, "color": color} for name, color in zip(names, self._colors(names))]
            answer["shown"] = {"classes": classes, "shares": found["shares"], "runs": found["runs"]}
        return answer

    def _edit(self, content: Mapping[str, object]) -> Edit:
        refuse_excess(content)
        edit, space = edit_from_dict(content), self.editor.space
        more_classes = space.num_classes - self.shared.space.num_classes
        if edit.kind == "add_class" and more_classes >= MAX_ADDED:
            raise ValueError(f"{MAX_ADDED} classes were added already; remove one first.")
        more_properties = space.num_properties - self.shared.space.num_properties
        if edit.kind in ("add_property", "split_property") and more_properties >= MAX_ADDED:
            raise ValueError(f"{MAX_ADDED} properties were added already; remove one first.")
        return edit

    # ---- questions about an image ----------------------------------------------------------------------------

    def segmentation(self, image: GalleryImage, mode: str = "whole") -> Segmentation:
        """The label map: of the image as it is shown, or in mode `"slide"` of all its pixels.

        Args:
            image: The image.
            mode: `"whole"` or `"slide"`.

        Raises:
            ValueError: The mode is another one.
        """
        pixels, processor, options = self._way(image, mode)
        return segment(self.model, processor, pixels, **options)

    def result(self, image: GalleryImage, mode: str = "whole") -> dict[str, Any]:
        """The image segmented with the present words, JSON-ready.

        Args:
            image: The image.
            mode: `"whole"` or `"slide"`.
        """
        return self._result(self.model, image, mode)

    def _result(self, model: EditableModel, image: GalleryImage, mode: str) -> dict[str, Any]:
        key = image.key, mode, model.serial
        found = self._results.pop(key, None)
        self._results[key] = found = self._computed(model, image, mode) if found is None else found
        while len(self._results) > MAX_RESULTS:
            del self._results[next(iter(self._results))]
        return found | {"runs": found["runs"].tolist()}

    def _computed(self, model: EditableModel, image: GalleryImage, mode: str) -> dict[str, Any]:
        """See `result`; the runs as an array."""
        output: Any = self._output(model, image)
        size = (image.image.height, image.image.width)
        if mode == "whole":  # as `segment` does, of the output that is there already
            found = Segmentation(resize_argmax(output.logits, size)[0].cpu(), class_names_of(model))
        else:
            found = self.segmentation(image, mode)
        names, means = found.class_names, self._property_maps(output).flatten(1).mean(dim=1)
        spoken = model.spoken_share(output.property_logits, output.unspoken_logits, output.logits)
        return {
            "version": model.serial,
            "mode": mode,
            "runs": label_runs(at_size(found.labels, size)),
            "shares": [[names.index(name), share] for name, share in found.shares()],
            "property_means": [round(value, 4) for value in means.tolist()],
            "spoken_share": float(spoken.mean()),
        }

    def explain(
        self,
        image: GalleryImage,
        *,
        point: tuple[int, int] | None = None,
        outline: Sequence[tuple[float, float]] | None = None,
        class_name: str | None = None,
        rival: str | None = None,
        mode: str = "whole",
    ) -> dict[str, Any]:
        """Why a pixel, a drawn region or all of a class has its class, or why not another class.

        Args:
            image: The image.
            point: Column and row of a pixel of the image as it is shown.
            outline: Corners of a region, instead of a point.
            class_name: Class to explain; default: the one found there. Without a place: all its pixels.
            rival: Class to compare it with; default: the strongest other one.
            mode: `"whole"` or `"slide"`.

        Returns:
            See `explanation_answer`.

        Raises:
            ValueError: If the point or a class does not exist.
        """
        pixels, processor, options = self._way(image, mode)
        place: dict[str, Any] = {}
        if point is not None:
            shown = image.image.size
            if not (0 <= point[0] < shown[0] and 0 <= point[1] < shown[1]):
                raise ValueError(
                    f"The point {point} lies outside of the image of {shown[0]} x {shown[1]} pixels."
                )
            place["point"] = tuple(
                int((at + 0.5) * new / old) for at, new, old in zip(point, pixels.size, shown)
            )
        elif outline is not None or class_name is None:
            place["region"] = self._region(outline or (), image, pixels)
        found = explain(self.model, processor, pixels, **place, class_name=class_name, rival=rival, **options)
        answer = explanation_answer(found, self._words_of(found.runner_up))
        if point is not None:
            answer["point"] = list(point)
        return answer | {"version": self.version}

    def intervene(
        self,
        image: GalleryImage,
        changes: Mapping[int, float],
        *,
        outline: Sequence[tuple[float, float]] | None = None,
        mode: str = "whole",
    ) -> dict[str, Any]:
        """What the image would be called if properties were seen otherwise, JSON-ready.

        Args:
            image: The image.
            changes: Number of the property -> its score, in [0, 1].
            outline: Corners of the region where; everywhere by default.
            mode: `"whole"` or `"slide"`.

        Raises:
            ValueError: If a property does not exist or a score is out of range.
        """
        pixels, processor, options = self._way(image, mode)
        region = self._region(outline, image, pixels) if outline is not None else None
        scores: dict[str | int, float | None] = {index: score for index, score in changes.items()}
        found = intervene(self.model, processor, pixels, scores, region=region, **options)
        names = found.after.class_names
        size = (image.image.height, image.image.width)
        return {
            "version": self.version,
            "runs": label_runs(at_size(found.labels, size)).tolist(),
            "shares": [[names.index(name), share] for name, share in found.after.shares()],
            "changed": float(found.changed.float().mean()),
            "flows": [[old, new, count / found.changed.numel()] for old, new, count in found.flows()[:5]],
        }

    def _region(
        self, outline: Sequence[tuple[float, float]], image: GalleryImage, pixels: Image.Image
    ) -> np.ndarray:
        """A region drawn on the image as it is shown, on the pixels that are asked about."""
        across, down = pixels.width / image.image.width, pixels.height / image.image.height
        return polygon_mask([(x * across, y * down) for x, y in outline], (pixels.height, pixels.width))

    def _words_of(self, rival: RunnerUp | None) -> dict[str, str]:
        """The rival's own phrases by property."""
        if rival is None:
            return {}
        names = self.editor.space.property_names
        return {names[k]: text for k, text in _phrases(self.editor.space, rival.class_name).items()}

    def _way(self, image: GalleryImage, mode: str) -> tuple[Image.Image, ImageProcessor, InferenceOptions]:
        """What is asked in a mode: pixels, processor and options."""
        if mode == "whole":
            return image.image, self.shared.processor, {}
        if mode != "slide":
            raise ValueError(f"The mode is {mode!r}; it must be 'whole' or 'slide'.")
        processor: Any = copy.copy(self.shared.processor)
        processor.do_resize = False  # windows see the image as it is
        crop_size, _ = recorded_window(processor)
        return image.full, processor, {"mode": "slide", "crop_size": crop_size or SLIDE_CROP}

    def property_map(self, image: GalleryImage, index: int) -> dict[str, Any]:
        """Where a property is seen, JSON-ready.

        Args:
            image: The image.
            index: Of the property.

        Raises:
            ValueError: If there is no such property.
        """
        names = self.editor.space.property_names
        if not 0 <= index < len(names):
            raise ValueError(f"There is no property {index}; the model has numbers 0 to {len(names) - 1}.")
        scores = self._property_maps(self._output(self.model, image))[index]
        return {
            "property": index,
            "name": names[index],
            "image": data_uri(heat_layer(scores, (image.image.height, image.image.width)), "png"),
            "mean": float(scores.mean()),
            "max": float(scores.max()),
        }

    def _output(self, model: EditableModel, image: GalleryImage) -> ProLabSemanticSegmenterOutput:
        with inference_state(model):
            output: ProLabSemanticSegmenterOutput = model_output(model, self.shared.prepared(image))
            return output

    def _property_maps(self, output: ProLabSemanticSegmenterOutput) -> Tensor:
        """Low-resolution scores `(num_properties, height, width)` in [0, 1]."""
        logits = output.property_logits
        assert logits is not None  # noqa: S101  # every ProLab model gives them
        if self.model.config.similarity == "cosine":  # compares logits themselves, which have no end
            return torch.sigmoid(logits[0] / self.model.config.temperature)
        return self.model.property_scores(logits)[0].clamp(max=1)


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


def refuse_excess(content: Mapping[str, object]) -> None:
    """Refuses edits with names and texts that are longer, or more, than anybody would write.

    Args:
        content: As `edit_from_dict` reads it.

    Raises:
        ValueError: If there is one.
    """
    for field, value in content.items():
        if field in NAMES and not (isinstance(value, str) and 1 <= len(value.strip()) <= MAX_NAME_LENGTH):
            raise ValueError(f"Give a name of 1 to {MAX_NAME_LENGTH} characters.")
        if field == "sentences" and isinstance(value, list) and len(value) > MAX_SENTENCES:
            raise ValueError(
                f"Give at most {MAX_SENTENCES} sentences of at most {MAX_TEXT_LENGTH} characters."
            )
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and len(text) > MAX_TEXT_LENGTH:
                raise ValueError(f"A text has {len(text)} characters; at most {MAX_TEXT_LENGTH} are read.")


__all__ = ["ModelView"]
