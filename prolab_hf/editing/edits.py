"""The edits of a property space as plain data: each can be checked, applied, told in a sentence and written as JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

from torch import Tensor

from prolab_hf.editing import space_changes
from prolab_hf.editing.encoder_on_hand import EncoderOnHand
from prolab_hf.label_space.conflicts import BUILT_IN
from prolab_hf.label_space.operations import class_indices, property_indices
from prolab_hf.label_space.placement import Placement, place_phrases
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.space_content import checked_descriptions

EDIT_KINDS: dict[str, type[Edit]] = {}


@dataclass(frozen=True)
class Edit:
    """One change of a property space."""

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str | None = None) -> None:
        if kind is None:
            EDIT_KINDS[cls.kind] = cls

    def prepared(self, space: PropertySpace, encoder: EncoderOnHand) -> tuple[Edit, list[Placement]]:
        """The same edit with everything worked out that takes the text encoder, and where its sentences went.

        Args:
            space: The space that it will be applied to.
            encoder: Asked where a sentence is new to the space.

        Raises:
            ValueError: No sentence fits, or a new one needs an encoder that is not there.
        """
        return self, []

    def apply(self, space: PropertySpace) -> PropertySpace:
        """The changed space; of an edit that was `prepared`.

        Args:
            space: The space.

        Raises:
            ValueError: The edit does not fit the space.
        """
        return space

    def successors(self, space: PropertySpace) -> dict[str, str]:
        """Class of the space -> class of the changed one that goes on with it; removed classes are absent.

        Args:
            space: The space before the edit.
        """
        return {name: name for name in space.class_names}

    def mixed_properties(self) -> dict[str, list[str]]:
        """New property -> properties that it is the mean of."""
        return {}

    def to_text(self) -> str:
        """One sentence."""
        return self.kind

    def to_dict(self) -> dict[str, object]:
        """JSON-ready; the inverse of `edit_from_dict`."""
        content: dict[str, object] = {"edit": self.kind}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                value = vectors_to_text(value)
            elif isinstance(value, tuple):
                value = [list(each) if isinstance(each, tuple) else each for each in value]
            if value is not None or item.name == "budget":
                content[item.name] = value
        return content


def vectors_to_text(vectors: Tensor) -> str:
    """Embeddings as base64 of little-endian float32, exact to the bit.

    Args:
        vectors: Any shape; the length of an embedding is known to the space.
    """
    return base64.b64encode(vectors.detach().cpu().numpy().astype("<f4").tobytes()).decode("ascii")


def listed(names: Sequence[str], limit: int = 6) -> str:
    """Names in quotes, the last with "and"; of many the first ones and how many there are.

    Args:
        names: The names.
        limit: Most names.
    """
    shown = [repr(name) for name in names[:limit]]
    if len(names) > limit:
        shown.append(f"{len(names) - limit} more")
    return ", ".join(shown) if len(shown) < 2 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def named_properties(space: PropertySpace, properties: Sequence[str | int]) -> list[str]:
    """Names of properties that are given by name or index.

    Args:
        space: The space.
        properties: Names or indices.

    Raises:
        ValueError: A name or index does not exist.
    """
    return [space.property_names[index] for index in property_indices(space, list(properties))]


def unprepared(kind: str) -> RuntimeError:
    """The error of an edit that was applied without what the text encoder has to say.

    Args:
        kind: The edit.
    """
    return RuntimeError(f"The edit {kind} was not prepared: call prepared(space, encoder) first.")


# ---- classes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PlacedWords(Edit, kind=""):
    """What describing a new class and describing one anew have in common."""

    name: str
    sentences: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    placed: tuple[tuple[str, str], ...] | None = None

    def prepared(self, space: PropertySpace, encoder: EncoderOnHand) -> tuple[Edit, list[Placement]]:
        """See `Edit`. Sentences that fit no property are left out; there must be one that does, or a property."""
        if self.placed is not None:
            return self, []
        ticked = [(text, text) for text in named_properties(space, self.properties)]
        if not self.sentences and not ticked:
            raise ValueError(f"Describe the class {self.name!r} in sentences, or tick its properties.")
        placements: list[Placement] = []
        if self.sentences:
            texts = checked_descriptions({self.name.strip(): list(self.sentences)}, None)
            placements = place_phrases(space, texts, encoder.for_sentences(space, texts), BUILT_IN)
        found = [(item.phrase, item.property_name) for item in placements if item.fits]
        if not found and not ticked:
            raise ValueError(_no_sentence_fits(self.name, placements))
        also = [space.property_names[index] for item in placements if item.fits for index in item.also]
        placed = dict.fromkeys([*found, *((text, text) for text in also), *ticked])
        return replace(self, placed=tuple(placed)), placements

    def to_text(self) -> str:
        """See `Edit`."""
        words = [*self.sentences, *self.properties]
        return f"{self._verb()} {self.name!r}: {'; '.join(words)}."

    def _verb(self) -> str:
        return "The class"

    def _ready(self) -> tuple[tuple[str, str], ...]:
        if self.placed is None:
            raise unprepared(self.kind)
        return self.placed


def _no_sentence_fits(name: str, placements: Sequence[Placement]) -> str:
    best = max(placements, key=lambda item: item.cosine)
    return (
        f"No sentence of {name!r} fits a property of the space; the nearest is {best.phrase!r} -> "
        f"{best.property_name!r} ({best.cosine:.2f}). Word it as the space does, tick properties, or make one of it "
        "first (add_property)."
    )


@dataclass(frozen=True)
class AddClass(_PlacedWords):
    """A class more, known by its description only.

    Args:
        name: Its name.
        sentences: What can be seen of it; each falls into the nearest property that does not contradict it.
        properties: Names of properties that it has besides.
        placed: Sentences with their properties, once worked out.
    """

    kind: ClassVar[str] = "add_class"

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space_changes.with_class(space, self.name, self._ready())

    def _verb(self) -> str:
        return "Adds the class"


@dataclass(frozen=True)
class DescribeClass(_PlacedWords):
    """Other words for a class that is there.

    Args:
        name: Its name.
        sentences: What can be seen of it.
        properties: Names of properties that it has besides.
        placed: Sentences with their properties, once worked out.
    """

    kind: ClassVar[str] = "describe_class"

    def prepared(self, space: PropertySpace, encoder: EncoderOnHand) -> tuple[Edit, list[Placement]]:
        """See `Edit`."""
        class_indices(space, [self.name])
        return super().prepared(space, encoder)

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space_changes.with_words(space, self.name, self._ready())

    def _verb(self) -> str:
        return "Describes anew the class"


@dataclass(frozen=True)
class Tick(Edit):
    """Gives a class properties."""

    kind: ClassVar[str] = "tick"
    class_name: str
    properties: tuple[str, ...]

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space_changes.with_ticks(space, self.class_name, ticked=self.properties)

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Ticks {listed(self.properties)} of {self.class_name!r}."


@dataclass(frozen=True)
class Untick(Edit):
    """Takes properties from a class."""

    kind: ClassVar[str] = "untick"
    class_name: str
    properties: tuple[str, ...]

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space_changes.with_ticks(space, self.class_name, unticked=self.properties)

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Unticks {listed(self.properties)} of {self.class_name!r}."


@dataclass(frozen=True)
class SetRow(Edit):
    """Gives a class exactly these properties."""

    kind: ClassVar[str] = "set_row"
    class_name: str
    properties: tuple[str, ...]

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        row = space.class_properties[class_indices(space, [self.class_name])[0]]
        own = [space.property_names[index] for index in row]
        if not self.properties:
            raise ValueError(f"The class {self.class_name!r} needs at least one property.")
        wanted = named_properties(space, self.properties)
        more = [name for name in dict.fromkeys(wanted) if name not in own]
        return space_changes.with_ticks(
            space, self.class_name, more, [name for name in own if name not in wanted]
        )

    def to_text(self) -> str:
        """See `Edit`."""
        return f"{self.class_name!r} has exactly the properties {listed(self.properties)}."


@dataclass(frozen=True)
class RenameClass(Edit):
    """Another name for a class."""

    kind: ClassVar[str] = "rename_class"
    old: str
    new: str

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        class_indices(space, [self.old])
        if self.new.strip() in space.class_names and self.new.strip() != self.old:
            raise ValueError(
                f"There is a class {self.new.strip()!r} already; choose another name, or merge the two."
            )
        return space.rename_classes({self.old: self.new})

    def successors(self, space: PropertySpace) -> dict[str, str]:
        """See `Edit`."""
        return super().successors(space) | {self.old: self.new.strip()}

    def to_text(self) -> str:
        """See `Edit`."""
        return f"The class {self.old!r} is now {self.new!r}."


@dataclass(frozen=True)
class MergeClasses(Edit):
    """Several classes as one, which has all their properties."""

    kind: ClassVar[str] = "merge_classes"
    name: str
    classes: tuple[str, ...]

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        if len(self.classes) < 2:
            raise ValueError(
                f"Name at least two classes that become {self.name!r}, got {list(self.classes)}."
            )
        return space.merge_classes({self.name: list(self.classes)})

    def successors(self, space: PropertySpace) -> dict[str, str]:
        """See `Edit`."""
        return super().successors(space) | {old: self.name.strip() for old in self.classes}

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Merges the classes {listed(self.classes)} into {self.name!r}."


@dataclass(frozen=True)
class RemoveClasses(Edit):
    """Some classes less; their pixels go to the others."""

    kind: ClassVar[str] = "remove_classes"
    classes: tuple[str, ...]

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space.remove_classes(list(self.classes))

    def successors(self, space: PropertySpace) -> dict[str, str]:
        """See `Edit`."""
        return {name: name for name in space.class_names if name not in self.classes}

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Removes {listed(self.classes)}."


@dataclass(frozen=True)
class RestrictClasses(Edit):
    """Only these classes, in this order."""

    kind: ClassVar[str] = "restrict_classes"
    classes: tuple[str, ...]

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space.select_classes(list(self.classes))

    def successors(self, space: PropertySpace) -> dict[str, str]:
        """See `Edit`."""
        return {name: name for name in space.class_names if name in self.classes}

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Keeps only {listed(self.classes)}."


# ---- the claim budget ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetClaimBudget(Edit):
    """Another share of the pixels of known classes that each described class may take; `None` for no offsets."""

    kind: ClassVar[str] = "set_claim_budget"
    budget: float | None

    def prepared(self, space: PropertySpace, encoder: EncoderOnHand) -> tuple[Edit, list[Placement]]:
        """See `Edit`."""
        if self.budget is not None and not 0 <= self.budget < 1:
            raise ValueError(
                f"The claim budget is {self.budget!r}; it must be a share from 0 to below 1, or None for no offsets."
            )
        return self, []

    def to_text(self) -> str:
        """See `Edit`."""
        if self.budget is None:
            return "Described classes get no offsets."
        return f"Described classes may take {self.budget:.2%} of the pixels of known classes."
