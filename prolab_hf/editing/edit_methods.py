"""One method per edit of a space, with everything that may be given by name or index."""

from __future__ import annotations

from collections.abc import Sequence

from prolab_hf.editing.edits import (
    AddClass,
    DescribeClass,
    Edit,
    MergeClasses,
    RemoveClasses,
    RenameClass,
    RestrictClasses,
    SetClaimBudget,
    SetRow,
    Tick,
    Untick,
    named_properties,
)
from prolab_hf.editing.effects import EditEffect
from prolab_hf.editing.property_edits import (
    AddProperty,
    MergeProperties,
    RemoveProperties,
    RenameProperty,
    SplitProperty,
)
from prolab_hf.label_space.property_space import PropertySpace


class EditMethods:
    """The edits of a `SpaceEditor`, each with its own arguments."""

    @property
    def space(self) -> PropertySpace:
        """The words of now."""
        raise NotImplementedError

    def apply(self, edit: Edit) -> EditEffect:
        """Makes an edit.

        Args:
            edit: The edit.
        """
        raise NotImplementedError

    # ---- classes ------------------------------------------------------------------------------------------

    def add_class(
        self, name: str, sentences: Sequence[str] = (), *, properties: Sequence[str | int] = ()
    ) -> EditEffect:
        """Adds a class that no image was labeled with.

        Args:
            name: Its name.
            sentences: What can be seen of it; each falls into the nearest property that does not contradict it, and
                is left out with a note where none fits. Sentences that the space knows need no text encoder.
            properties: Properties that it has besides, by name or index.

        Raises:
            ValueError: The name exists, no sentence fits, a property is unknown, there is no text encoder, or another
                class has the same properties.
        """
        return self.apply(AddClass(name, tuple(sentences), self._names(properties)))

    def describe_class(
        self, name: str, sentences: Sequence[str] = (), *, properties: Sequence[str | int] = ()
    ) -> EditEffect:
        """Describes a class anew; a trained one keeps what was learned.

        Args:
            name: The class.
            sentences: As in `add_class`.
            properties: As in `add_class`.

        Raises:
            ValueError: As in `add_class`, or the class is unknown.
        """
        return self.apply(DescribeClass(name, tuple(sentences), self._names(properties)))

    def tick(self, class_name: str, *properties: str | int) -> EditEffect:
        """Gives a class properties.

        Args:
            class_name: The class.
            properties: Names or indices.

        Raises:
            ValueError: A name is unknown, the class has it already, or another class has the new row.
        """
        return self.apply(Tick(class_name, self._names(properties)))

    def untick(self, class_name: str, *properties: str | int) -> EditEffect:
        """Takes properties from a class.

        Args:
            class_name: The class.
            properties: Names or indices.

        Raises:
            ValueError: A name is unknown, the class does not have it, none is left, or another class has the new row.
        """
        return self.apply(Untick(class_name, self._names(properties)))

    def set_row(self, class_name: str, properties: Sequence[str | int]) -> EditEffect:
        """Gives a class exactly these properties.

        Args:
            class_name: The class.
            properties: Names or indices, at least one.

        Raises:
            ValueError: A name is unknown, or another class has the same properties.
        """
        return self.apply(SetRow(class_name, self._names(properties)))

    def rename_class(self, old: str, new: str) -> EditEffect:
        """Renames a class.

        Args:
            old: Its name.
            new: Its new name.

        Raises:
            ValueError: The name is unknown or taken.
        """
        return self.apply(RenameClass(old, new))

    def merge_classes(self, name: str, classes: Sequence[str]) -> EditEffect:
        """Makes several classes one, which has all their properties and what was learned of each.

        Args:
            name: Its name.
            classes: At least two classes.

        Raises:
            ValueError: A class is unknown, the name is taken, or another class has the same properties.
        """
        return self.apply(MergeClasses(name, tuple(classes)))

    def remove_classes(self, classes: Sequence[str]) -> EditEffect:
        """Removes classes; their pixels go to the others.

        Args:
            classes: Their names.

        Raises:
            ValueError: A class is unknown, or none would be left.
        """
        return self.apply(RemoveClasses(several(classes)))

    def restrict(self, classes: Sequence[str]) -> EditEffect:
        """Keeps these classes only, in this order.

        Args:
            classes: Their names.

        Raises:
            ValueError: A class is unknown, or none is named.
        """
        return self.apply(RestrictClasses(several(classes)))

    # ---- properties ---------------------------------------------------------------------------------------

    def add_property(self, phrase: str, classes: Sequence[str]) -> EditEffect:
        """Adds a property that classes show; takes the text encoder.

        Args:
            phrase: What can be seen, as in a description; also its name.
            classes: Classes that show it.

        Raises:
            ValueError: A class is unknown, the space has the phrase already, or there is no text encoder.
        """
        return self.apply(AddProperty(phrase, several(classes)))

    def merge_properties(self, name: str, properties: Sequence[str | int]) -> EditEffect:
        """Makes several properties one, whose embedding is their mean.

        Args:
            name: Its name; may be that of one of them.
            properties: At least two, by name or index.

        Raises:
            ValueError: A property is unknown, the name is taken, or two classes would have the same properties.
        """
        return self.apply(MergeProperties(name, self._names(properties)))

    def split_property(
        self, property_name: str | int, phrases: Sequence[str], *, name: str | None = None
    ) -> EditEffect:
        """Makes some phrases of a property a property of their own.

        Args:
            property_name: The property, by name or index.
            phrases: Phrases that leave it (`space.phrases_by_property` has all).
            name: Name of the new property; by default its first phrase.

        Raises:
            ValueError: A phrase is not one of the property, or one part would have none.
        """
        if isinstance(phrases, str) or not phrases:
            raise ValueError(f"Name the phrases that leave {property_name!r}, in a list; got {phrases!r}.")
        (old,) = self._names([property_name])
        return self.apply(SplitProperty(old, tuple(phrases), name or phrases[0]))

    def rename_property(self, old: str | int, new: str) -> EditEffect:
        """Renames a property; sentences stay as they are.

        Args:
            old: Its name or index.
            new: Its new name.

        Raises:
            ValueError: The name is unknown or taken.
        """
        return self.apply(RenameProperty(self._names([old])[0], new))

    def remove_properties(self, properties: Sequence[str | int]) -> EditEffect:
        """Removes properties, and the sentences that stand for them.

        Args:
            properties: Names or indices.

        Raises:
            ValueError: A name is unknown, or a class would be left without a property of its own.
        """
        return self.apply(RemoveProperties(self._names(properties)))

    def set_claim_budget(self, budget: float | None) -> EditEffect:
        """Sets what each described class may take.

        Args:
            budget: Share of the pixels of known classes, from 0 to below 1; `None` for no offsets.

        Raises:
            ValueError: It is no such share.
        """
        return self.apply(SetClaimBudget(budget))

    def _names(self, properties: Sequence[str | int]) -> tuple[str, ...]:
        return tuple(named_properties(self.space, properties)) if properties else ()


def several(names: Sequence[str]) -> tuple[str, ...]:
    """Names as a tuple.

    Args:
        names: A list of names; a single string would be taken for its letters.

    Raises:
        ValueError: It is a string.
    """
    if isinstance(names, str):
        raise ValueError(f"Expected a list of names, got the string {names!r}.")
    return tuple(names)
