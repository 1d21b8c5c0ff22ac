"""The edits of properties: a phrase more, two that mean the same, one that means two things."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from prolab_hf.editing import space_changes
from prolab_hf.editing.edits import Edit, listed, unprepared
from prolab_hf.editing.encoder_on_hand import EncoderOnHand
from prolab_hf.label_space.operations import property_indices
from prolab_hf.label_space.placement import Placement
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder
from prolab_hf.suggestions import did_you_mean


def _check_length(vectors: Tensor, space: PropertySpace) -> None:
    if vectors.shape[-1] != space.embedding_dim:
        raise ValueError(
            f"The edit holds embeddings of length {vectors.shape[-1]}, the space has {space.embedding_dim}; it was "
            "made with another text encoder."
        )


def _known_vector(vector: Tensor, space: PropertySpace) -> TextEncoder:
    """An encoder that knows one phrase."""
    lower_case = bool(space.encoder.get("lower_case", True))
    table = vector[None].double().numpy()
    return TextEncoder(lambda texts: table, {"name": "patch"}, lower_case=lower_case, normalize=False)


@dataclass(frozen=True)
class AddProperty(Edit):
    """A property more, which some classes show.

    The embedding is worked out by `prepared`; a patch holds it, so that applying it takes no encoder.

    Args:
        phrase: What can be seen; also its name.
        classes: Classes that show it.
        embedding: Its embedding, once worked out.
    """

    kind: ClassVar[str] = "add_property"
    phrase: str
    classes: tuple[str, ...]
    embedding: Tensor | None = field(default=None, compare=False, repr=False)

    def prepared(self, space: PropertySpace, encoder: EncoderOnHand) -> tuple[Edit, list[Placement]]:
        """See `Edit`."""
        if self.embedding is not None:
            return self, []
        grown = space.add_property(
            self.phrase, list(self.classes), encoder=encoder.required(space, self.phrase)
        )
        return replace(self, embedding=grown.property_embeddings[-1]), []

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        vectors = self.embedding
        if vectors is None:
            raise unprepared(self.kind)
        _check_length(vectors, space)
        return space.add_property(self.phrase, list(self.classes), encoder=_known_vector(vectors, space))

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Adds the property {self.phrase!r}, which {listed(self.classes)} has."


@dataclass(frozen=True)
class MergeProperties(Edit):
    """Several properties as one: what they say is the same."""

    kind: ClassVar[str] = "merge_properties"
    name: str
    properties: tuple[str, ...]
    embedding: Tensor | None = field(default=None, compare=False, repr=False)

    def prepared(self, space: PropertySpace, encoder: EncoderOnHand) -> tuple[Edit, list[Placement]]:
        """See `Edit`. The new embedding is the mean of the old ones, so no encoder is needed."""
        if self.embedding is not None:
            return self, []
        columns = property_indices(space, list(self.properties))
        if len(set(columns)) < 2:
            raise ValueError(
                f"Name at least two properties that become {self.name!r}, got {list(self.properties)}."
            )
        return replace(self, embedding=space_changes.unit_mean(space.property_embeddings[columns])), []

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        if self.embedding is None:
            raise unprepared(self.kind)
        _check_length(self.embedding, space)
        return space_changes.with_merged_properties(space, self.name.strip(), self.properties, self.embedding)

    def mixed_properties(self) -> dict[str, list[str]]:
        """See `Edit`."""
        return {self.name.strip(): list(self.properties)}

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Merges the properties {listed(self.properties)} into {self.name!r}."


@dataclass(frozen=True)
class SplitProperty(Edit):
    """Some phrases of a property become a property of their own.

    Args:
        property_name: The property.
        phrases: Phrases that leave it.
        name: Name of the new property.
        embeddings: Of what is left and of the new one, `(2, embedding_dim)`, once worked out.
    """

    kind: ClassVar[str] = "split_property"
    property_name: str
    phrases: tuple[str, ...]
    name: str
    embeddings: Tensor | None = field(default=None, compare=False, repr=False)

    def prepared(self, space: PropertySpace, encoder: EncoderOnHand) -> tuple[Edit, list[Placement]]:
        """See `Edit`. Without the encoder both keep the embedding of the whole (`EncoderOnHand.may_be_absent`)."""
        if self.embeddings is not None:
            return self, []
        left, moved = self._parts(space)
        vectors_of = encoder.optional(space, self.property_name)
        column = property_indices(space, [self.property_name])[0]
        if vectors_of is None:
            embeddings = space.property_embeddings[[column, column]]
        else:
            parts = [torch.from_numpy(vectors_of.encode(part)).float() for part in (left, moved)]
            embeddings = torch.stack([space_changes.unit_mean(part) for part in parts])
        return replace(self, embeddings=embeddings), []

    def _parts(self, space: PropertySpace) -> tuple[list[str], list[str]]:
        """The phrases that stay and those that go."""
        column = property_indices(space, [self.property_name])[0]
        known = list(space.phrases_by_property.get(column, ()))
        if len(known) < 2:
            raise ValueError(
                f"The property {self.property_name!r} is known by {len(known)} phrase, so there is nothing to split; "
                "add a property instead (add_property)."
            )
        folded = {text.lower(): text for text in known}
        for phrase in self.phrases:
            if phrase.lower() not in folded:
                hint = did_you_mean(phrase, known).replace("; did", " Did", 1)
                raise ValueError(
                    f"{phrase!r} is no phrase of the property {self.property_name!r}.{hint} Its phrases are "
                    f"{listed(known)}."
                )
        moved = [folded[phrase.lower()] for phrase in self.phrases]
        left = [text for text in known if text not in moved]
        if not left or not moved:
            raise ValueError(
                f"Split {self.property_name!r} so that each part keeps a phrase; its phrases are {listed(known)}."
            )
        return left, moved

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        if self.embeddings is None:
            raise unprepared(self.kind)
        self._parts(space)
        _check_length(self.embeddings[0], space)
        return space_changes.with_split_property(
            space, self.property_name, self.name.strip(), self.phrases, self.embeddings
        )

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Splits {listed(self.phrases)} off {self.property_name!r} as {self.name!r}."


@dataclass(frozen=True)
class RenameProperty(Edit):
    """Another name for a property."""

    kind: ClassVar[str] = "rename_property"
    old: str
    new: str

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space_changes.with_renamed_property(space, self.old, self.new)

    def to_text(self) -> str:
        """See `Edit`."""
        return f"The property {self.old!r} is now {self.new!r}."


@dataclass(frozen=True)
class RemoveProperties(Edit):
    """Some properties less, with the sentences that stand for them."""

    kind: ClassVar[str] = "remove_properties"
    properties: tuple[str, ...]

    def apply(self, space: PropertySpace) -> PropertySpace:
        """See `Edit`."""
        return space_changes.without_properties(space, self.properties)

    def to_text(self) -> str:
        """See `Edit`."""
        return f"Removes the properties {listed(self.properties)}."
