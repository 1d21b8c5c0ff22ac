"""The editing session: a model, its words, and a few images that answer at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor

from prolab_hf.bundled_models import resolve_model
from prolab_hf.editing.edit_methods import EditMethods
from prolab_hf.editing.editable_model import EditableModel
from prolab_hf.editing.edits import Edit
from prolab_hf.editing.effects import EditEffect, ImageChange, Measured, Pixels, measure
from prolab_hf.editing.encoder_on_hand import EncoderOnHand
from prolab_hf.editing.patches import SpacePatch, write_record
from prolab_hf.editing.response_cache import MAX_CACHED_BYTES, ResponseCache
from prolab_hf.editing.session_images import VOID, SessionImages, label_map
from prolab_hf.editing.transitions import Foreseen, State, measured_sample
from prolab_hf.evaluation.inference import ImageLike, Segmentation
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.closed_form_prolab import is_trained
from prolab_hf.model.described_classes_prolab import DEFAULT_CLAIM_BUDGET
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.protocols import ImageProcessor, PathName

if TYPE_CHECKING:
    from prolab_hf.solving.statistics import ClassStatistics

MAX_HISTORY = 200
_KEPT_LABEL_MAPS = 16


class SpaceEditor(EditMethods):
    """Edits the words of a model, and shows at once what each edit does; the model itself stays as it was.

    Every edit is solved anew (a model trained by gradient keeps its network and gets other rows and embeddings), is
    measured on the calibration sample that travels with the model, and can be undone to the last bit. Images cost
    one pass of the network when they are first looked at, and none after an edit. One call at a time.

    Args:
        model: A `ProLabForSemanticSegmentation` with classes, solved or trained. Its weights must not change.
        processor: Its image processor; only needed for images and to save.
        images: Images to look at: a sequence, or a mapping name -> image; see `add_image`.
        masks: Class ids of these images, in the same order or by the same names; `None` where an image has none.
        encoder: Text encoder of the model's space, in any form that `TextEncoder.load` takes. By default the one that
            the space names, if it is in the local cache. Nothing is downloaded.
        max_cached_bytes: Memory for what the network said about images; an `EditableModel` shares its own cache, so
            that several sessions hold what they have in common once.
        max_history: Edits that can be undone.

    Attributes:
        images: The images of the session (`images.names`).
        encoder: The text encoder (`encoder.available`).

    Raises:
        ValueError: The model is no ProLab model, has no classes, or images and masks do not fit.

    Example:
        ```python
        editor = SpaceEditor(model, processor, images=["street.jpg"])
        print(editor.add_class("rickshaw", ["three wheels", "canvas roof"]).to_text())
        editor.undo()
        ```
    """

    def __init__(
        self,
        model: ProLabForSemanticSegmentation,
        processor: ImageProcessor | None = None,
        *,
        images: Sequence[ImageLike] | Mapping[str, ImageLike] = (),
        masks: Sequence[NDArray[np.integer] | None] | Mapping[str, NDArray[np.integer]] | None = None,
        encoder: object = None,
        max_cached_bytes: int = MAX_CACHED_BYTES,
        max_history: int = MAX_HISTORY,
    ) -> None:
        if not isinstance(model, ProLabForSemanticSegmentation):
            raise ValueError(
                f"{type(model).__name__} has no properties to edit; prolab solve, adapt or train make a model that has."
            )
        if max_history < 1:
            raise ValueError(f"max_history is {max_history}; it must be at least 1.")
        try:
            space = model.property_space
        except RuntimeError as error:
            raise ValueError(f"The model has no classes to edit: {error}") from error
        cache = model.cache if isinstance(model, EditableModel) else ResponseCache(max_cached_bytes)
        view = EditableModel.sharing_weights(model, cache)
        has_described = not bool(is_trained(view.config).all())
        budget = model.config.claim_budget if has_described else DEFAULT_CLAIM_BUDGET
        self._start = State(view, space, budget, {name: name for name in space.class_names})
        self._states = [self._start]
        self._cursor = 0
        self._settled: list[Edit] = []
        self._max_history = max_history
        self._label_maps: dict[tuple[int, str], Segmentation] = {}
        self._foreseen = Foreseen()
        self.processor = processor
        self.encoder = EncoderOnHand(encoder, space, may_be_absent=model.config.similarity == "linear_cosine")
        self.images = SessionImages(processor)
        for name, image, mask in _named(images, masks):
            self.add_image(image, name=name, mask=mask)

    @classmethod
    def load(cls, model: object, **options: Any) -> Self:
        """A session on a model that is loaded, in a folder or on the Hub.

        Args:
            model: A `ProLabForSemanticSegmentation`, or the folder, bundled name or Hub id of one with its image
                processor.
            options: Keyword arguments of the class.

        Raises:
            FileNotFoundError: There is no such model.
            ValueError: It is no ProLab model.
        """
        if isinstance(model, str | Path):
            place = resolve_model(str(model))
            loaded = ProLabForSemanticSegmentation.from_pretrained(place).eval()
            options.setdefault("processor", AutoImageProcessor.from_pretrained(place))
            return cls(loaded, **options)
        return cls(model, **options)  # type: ignore[arg-type]  # refused there

    # ---- what there is ------------------------------------------------------------------------------------

    @property
    def _now(self) -> State:
        return self._states[self._cursor]

    @property
    def model(self) -> EditableModel:
        """The model with the words of now, for `segment`, `explain` and `evaluate`; it caches what the network says."""
        return self._now.model

    @property
    def space(self) -> PropertySpace:
        """The words of now."""
        return self._now.space

    @property
    def base_space(self) -> PropertySpace:
        """The words that the session began with."""
        return self._start.space

    @property
    def claim_budget(self) -> float | None:
        """Share of the pixels of known classes that each described class may take; `None`: no offsets."""
        return self._now.claim_budget

    @property
    def statistics(self) -> ClassStatistics | None:
        """Statistics that the model was solved from, where it carries them."""
        return getattr(self.model, "solve_statistics", None)

    @property
    def has_calibration_sample(self) -> bool:
        """Whether an edit can be measured without images."""
        return self.model.calibration_scores is not None

    # ---- images -------------------------------------------------------------------------------------------

    def add_image(
        self,
        image: ImageLike,
        *,
        name: str | None = None,
        mask: NDArray[np.integer] | None = None,
        mask_classes: Sequence[str] | None = None,
        ignore_index: int = VOID,
    ) -> str:
        """Takes an image into the session.

        Args:
            image: As `segment` takes it: path, PIL image or array.
            name: Its name; by default that of its file, or a number.
            mask: Class ids `(height, width)`.
            mask_classes: Names of the classes in the mask; by default those that the session began with.
            ignore_index: Id of pixels without a class.

        Returns:
            Its name.

        Raises:
            ValueError: The name is taken, the mask does not fit, or there is no processor.
        """
        classes = self.base_space.class_names if mask_classes is None else mask_classes
        self._foreseen.clear()  # edits may be measured on images
        return self.images.add(
            image, name=name, mask=mask, mask_classes=classes, ignore_index=ignore_index
        ).name

    def remove_image(self, name: str) -> None:
        """Drops an image.

        Args:
            name: Its name.

        Raises:
            KeyError: It is not there.
        """
        self.images.remove(name)
        self._foreseen.clear()
        self._label_maps = {key: value for key, value in self._label_maps.items() if key[1] != name}

    def segment(self, name: str) -> Segmentation:
        """Label map of an image in the words of now; no pass of the network where the image was seen before.

        Args:
            name: The image.

        Raises:
            KeyError: It is not there.
        """
        return self._label_map(self.model, name)

    def _label_map(self, model: EditableModel, name: str) -> Segmentation:
        key = model.serial, name
        found = self._label_maps.pop(key, None)
        if found is None:
            found = label_map(model, self.images[name])
        self._label_maps[key] = found
        while len(self._label_maps) > _KEPT_LABEL_MAPS:
            del self._label_maps[next(iter(self._label_maps))]
        return found

    def image_change(self, effect: EditEffect | None, name: str) -> ImageChange:
        """An image before and after an edit, be it applied or previewed.

        Args:
            effect: What `apply` or `preview` answered; `None` for all edits of the session together.
            name: The image.

        Raises:
            KeyError: The image is not there.
        """
        if effect is None:
            successors: Mapping[str, str] = self.successors
            start, now = self._start, self._now
            models, renamed = (start.model, now.model), (start.renamed, now.renamed)
        else:
            models, renamed, successors = (effect.before, effect.after), effect.renamed, effect.successors
        before, after = (self._label_map(model, name) for model in models)
        image = self.images[name]
        pixels = Pixels(before.labels.flatten(), after.labels.flatten())
        if image.mask is not None:
            truths = (
                image.labels_for(found.class_names, names).flatten()
                for found, names in zip((before, after), renamed)
            )
            pixels = Pixels(pixels.before, pixels.after, *truths)
        return ImageChange(name, before, after, measure(*models, successors, pixels))

    def overall_change(self) -> Measured:
        """What all edits of the session together did on the calibration sample."""
        return measured_sample(self._start.model, self.model, self.successors)

    @property
    def successors(self) -> dict[str, str]:
        """Class of the session's start -> class of now that goes on with it; removed classes are absent."""
        return {
            name: self._now.renamed[name] for name in self.base_space.class_names if name in self._now.renamed
        }

    # ---- edits --------------------------------------------------------------------------------------------

    def preview(self, edit: Edit, *more: Edit) -> EditEffect:
        """What an edit would do; nothing changes.

        Args:
            edit: The edit, for example `AddClass("rickshaw", ("three wheels",))`.
            more: Further edits after it.

        Returns:
            The effect of the last one.

        Raises:
            ValueError: An edit does not fit the space.
        """
        state, effect = self._foreseen.after(self._now, edit, self.encoder, self.images)
        for each in more:
            state, effect = self._foreseen.after(state, each, self.encoder, self.images)
        return effect

    def apply(self, edit: Edit) -> EditEffect:
        """Makes an edit. What was undone before can no longer be redone.

        Args:
            edit: The edit.

        Raises:
            ValueError: The edit does not fit the space; nothing changed.
        """
        state, effect = self._foreseen.after(self._now, edit, self.encoder, self.images)
        del self._states[self._cursor + 1 :]
        self._states.append(state)
        if len(self._states) > self._max_history + 1:
            gone, first = self._states.pop(0), self._states[0]
            if first.effect is not None:
                self._settled.append(first.effect.edit)
            del gone
            self._states[0] = replace(first, effect=None)
        self._cursor = len(self._states) - 1
        return effect

    @property
    def edits(self) -> list[Edit]:
        """All edits that led here, those that can no longer be undone included."""
        return [*self._settled, *(effect.edit for effect in self.history)]

    def undo(self) -> EditEffect:
        """Takes the last edit back, to the last bit.

        Returns:
            The effect of the edit that was taken back.

        Raises:
            ValueError: There is nothing to undo.
        """
        effect = self._now.effect
        if effect is None:
            raise ValueError("There is nothing to undo.")
        self._cursor -= 1
        return effect

    def redo(self) -> EditEffect:
        """Makes the edit again that was undone last.

        Returns:
            Its effect.

        Raises:
            ValueError: There is nothing to redo.
        """
        if not self.can_redo:
            raise ValueError("There is nothing to redo.")
        self._cursor += 1
        effect = self._now.effect
        if effect is None:
            raise RuntimeError("An edit without an effect.")
        return effect

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return self._cursor > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit."""
        return self._cursor + 1 < len(self._states)

    @property
    def history(self) -> list[EditEffect]:
        """Effects of the edits that led here, the first one first."""
        return [state.effect for state in self._states[1 : self._cursor + 1] if state.effect is not None]

    @property
    def undone(self) -> list[EditEffect]:
        """Effects of the edits that can be redone, the next one first."""
        return [state.effect for state in self._states[self._cursor + 1 :] if state.effect is not None]

    # ---- saving -------------------------------------------------------------------------------------------

    def to_model(self) -> ProLabForSemanticSegmentation:
        """An ordinary model with the words of now; it shares the weights of the one that was edited."""
        return self.model.to_model()

    def save_pretrained(self, folder: PathName) -> None:
        """Writes the edited model as a model folder of its own, with its image processor and what was edited.

        `edits.json` lists the edits and what they did on the calibration sample. Card, recipe and `evaluation.json`
        of the model before are carried over where it lies in a folder; the evaluation is marked as older than the
        edits. `prolab_hf.hub.model_card.write_model_card(folder)` renews the card, as the command and the page do.

        Args:
            folder: The folder.

        Raises:
            ValueError: The session has no image processor.
        """
        if self.processor is None:
            raise ValueError(
                "The session has no image processor, without which the folder could not be used: give processor=, or "
                "save editor.to_model() yourself."
            )
        self.to_model().save_pretrained(folder)
        self.processor.save_pretrained(folder)
        source = str(self._start.model.name_or_path or "")
        write_record(Path(folder), Path(source) if source else None, self.patch(), self.overall_change())

    def patch(self) -> SpacePatch:
        """The edits that led here, to be reviewed and applied to another copy by `apply_patch`; it has `save(file)`."""
        return SpacePatch(
            base_fingerprint=self.base_space.fingerprint,
            base_name=self.base_space.name,
            edits=tuple(self.edits),
            claim_budget=self.claim_budget,
            result_fingerprint=self.space.fingerprint,
        )


def _named(
    images: Sequence[ImageLike] | Mapping[str, ImageLike],
    masks: Sequence[NDArray[np.integer] | None] | Mapping[str, NDArray[np.integer]] | None,
) -> Iterator[tuple[str | None, ImageLike, NDArray[np.integer] | None]]:
    """Names, images and masks, whether they came as sequences or mappings.

    Raises:
        ValueError: Their numbers or names differ.
    """
    if isinstance(images, Mapping):
        given = {} if masks is None else masks
        if not isinstance(given, Mapping):
            raise ValueError(
                "The images have names, so the masks need the same: give a mapping name -> mask."
            )
        foreign = [name for name in given if name not in images]
        if foreign:
            raise ValueError(f"There is a mask for {foreign[0]!r}, but no image of that name.")
        yield from ((name, image, given.get(name)) for name, image in images.items())
        return
    if isinstance(images, str | Path | Image.Image):
        raise ValueError(
            "images must be a list or a mapping name -> image, got one image; put it into a list."
        )
    if masks is not None and (isinstance(masks, Mapping) or len(masks) != len(images)):
        raise ValueError(
            f"There are {len(images)} images and {len(masks)} masks; give one mask or None for each."
        )
    yield from zip([None] * len(images), images, masks or [None] * len(images))
