"""The classes of the demo: the model's own, and those that a visitor adds without training."""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import try_to_load_from_cache

from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_DESCRIPTIONS
from prolab_hf.explanation.overlays import class_colors
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation

MAX_ADDED_CLASSES = 40
MAX_NAME_LENGTH = 80
MAX_SENTENCES = 40
MAX_SENTENCE_LENGTH = 300


@dataclass
class _Shared:
    """What the visitors of one model share."""

    encoder: Any
    active: PropertySpace | None = None


class DemoClasses:
    """The property space of a model while classes come and go; changed in memory, never on disk.

    Args:
        model: The model.
        encoder: Text encoder of its property space, in any form that `TextEncoder.load` takes. By default the
            one that the space names, if it is in the local cache. Nothing is downloaded.

    Attributes:
        space: The present space, which the model carries.
        version: Grows with every change.

    Raises:
        ValueError: If the model has no classes.
        FileNotFoundError: If the text encoder is not on this machine.
    """

    def __init__(self, model: ProLabForSemanticSegmentation, encoder: Any = None) -> None:
        self._model = model
        # What visitors share: the encoder, and which space the model carries just now.
        self._shared = _Shared(encoder)
        try:
            self.space = self._original = model.property_space
        except RuntimeError as error:
            raise ValueError(f"The model has no classes to show: {error}") from error
        self._shared.active = self.space
        self.version = 0
        if encoder is not None:
            self._shared.encoder = self._loaded(encoder)
        elif _is_cached(self.space.encoder.get("name")):
            self._shared.encoder = self.space.encoder["name"]  # loaded when the first sentence comes

    def of_another_visitor(self) -> "DemoClasses":
        """The same model with its own classes only; what is added there is not seen here."""
        other = copy.copy(self)
        other.space, other.version = self._original, 0
        return other

    def activate(self) -> None:
        """Gives the model these classes, if another visitor's are there."""
        if self._shared.active is not self.space:
            self._model.set_property_space(self.space)
            self._shared.active = self.space

    def describe(self) -> dict[str, Any]:
        """The classes and properties with their colors, JSON-ready."""
        space, own = self.space, self._original.num_classes
        colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in class_colors(space.num_classes)]
        return {
            "version": self.version,
            "classes": [
                {"name": name, "color": color, "properties": row, "added": index >= own}
                for index, (name, color, row) in enumerate(
                    zip(space.class_names, colors, space.class_properties)
                )
            ],
            "properties": space.property_names,
            "encoder": {
                "available": self._shared.encoder is not None,
                "name": space.encoder.get("name") or "",
            },
            "suggestion": _suggestion(space),
        }

    def add(self, name: str, *, properties: Sequence[int] = (), sentences: Sequence[str] = ()) -> list[str]:
        """Adds a class by its properties or by describing it.

        Args:
            name: New name.
            properties: Indices of its properties.
            sentences: What can be seen of it, in words; each goes to the nearest property.

        Returns:
            Notes, for example on sentences that are far from every property.

        Raises:
            ValueError: If name or description cannot be used, or another class has the same properties.
        """
        name, texts = name.strip(), [text.strip() for text in sentences if text.strip()]
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise ValueError(f"Give the class a name of 1 to {MAX_NAME_LENGTH} characters.")
        if bool(texts) == bool(properties):
            raise ValueError("Choose the class's properties, or describe it in sentences.")
        if len(texts) > MAX_SENTENCES or any(len(text) > MAX_SENTENCE_LENGTH for text in texts):
            raise ValueError(
                f"Give at most {MAX_SENTENCES} sentences of at most {MAX_SENTENCE_LENGTH} characters."
            )
        if name in self.space.class_names:
            raise ValueError(f"There is a class {name!r} already; choose another name.")
        if self.space.num_classes - self._original.num_classes >= MAX_ADDED_CLASSES:
            raise ValueError(f"{MAX_ADDED_CLASSES} classes were added already; remove one first.")
        if not texts:
            self._use(_with_properties(self.space, name, properties))
            return []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            grown = self.space.add_classes({name: texts}, encoder=self._text_encoder())
        self._use(grown)
        return [str(warning.message) for warning in caught if warning.category is UserWarning]

    def remove(self, name: str) -> None:
        """Removes a class that was added here.

        Raises:
            ValueError: If it was not added here.
        """
        if name in self._original.class_names:
            raise ValueError(f"{name!r} is one of the model's own classes; only added ones can be removed.")
        if name not in self.space.class_names:
            raise ValueError(f"There is no class {name!r}.")
        self._use(self.space.remove_classes([name]))

    def restore(self) -> None:
        """Gives the model its own classes back."""
        self._use(self._original)

    def _use(self, space: PropertySpace) -> None:
        self._model.set_property_space(space)
        self.space = self._shared.active = space
        self.version += 1

    def _text_encoder(self) -> TextEncoder | None:
        encoder = self._shared.encoder
        if encoder is not None and not isinstance(encoder, TextEncoder):
            encoder = self._shared.encoder = self._loaded(encoder)
        return encoder

    def _loaded(self, encoder: Any) -> TextEncoder:
        facts = self.space.encoder
        options = {key: facts[key] for key in ("lower_case", "normalize") if key in facts}
        if isinstance(encoder, str):
            options["pooling"] = facts.get("pooling")
        return TextEncoder.load(encoder, local_files_only=True, **options)


def _is_cached(encoder: Any) -> bool:
    """Whether a Hub model of that name was downloaded before."""
    try:
        return isinstance(encoder, str) and isinstance(try_to_load_from_cache(encoder, "config.json"), str)
    except ValueError:  # not a name that the Hub could have
        return False


def _with_properties(space: PropertySpace, name: str, properties: Sequence[int]) -> PropertySpace:
    number = space.num_properties
    wrong = [index for index in properties if not 0 <= index < number]
    if wrong:
        raise ValueError(f"There is no property {wrong[0]}; the model has numbers 0 to {number - 1}.")
    wanted = sorted(set(properties))
    if wanted in space.class_properties:
        twin = space.class_names[space.class_properties.index(wanted)]
        raise ValueError(
            f"{twin!r} has exactly these properties, so no picture could tell the two apart; choose a property "
            "more or less."
        )
    grown = space.add_classes({name: [space.property_names[index] for index in wanted]})
    # A property may be named like a sentence that belongs to another one; the numbers are what was chosen.
    return grown if grown.class_properties[-1] == wanted else grown.set_row(name, wanted)


def _suggestion(space: PropertySpace) -> dict[str, Any] | None:
    """The class that the drawn scenes hold back from training, for models that know its properties."""
    try:
        grown = space.add_classes({HELD_OUT_CLASS: SCENE_DESCRIPTIONS[HELD_OUT_CLASS]})
    except ValueError:  # it is there already, or the model learned other properties
        return None
    return {"name": HELD_OUT_CLASS, "properties": grown.class_properties[-1]}


__all__ = ["DemoClasses"]
