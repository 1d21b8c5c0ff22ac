"""Changes of single words in a property space: each takes a space and returns a new one, and needs no text encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from prolab_hf.label_space.operations import class_indices, equal_rows, property_indices
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.space_content import checked_names, matrix_from_rows

Placed = Sequence[tuple[str, str]]
"""Sentences with the property that each fell into."""


def refuse_twins(before: PropertySpace, after: PropertySpace, advice: str) -> None:
    """Refuses a change that gives two classes the same properties.

    Args:
        before: The space as it was; classes that were equal there may stay so.
        after: The changed space.
        advice: What to do instead.

    Raises:
        ValueError: Two rows became equal.
    """
    old = {frozenset(pair) for pair in equal_rows(before.class_names, before.class_property_matrix)}
    for first, second in equal_rows(after.class_names, after.class_property_matrix):
        if frozenset((first, second)) not in old:
            raise ValueError(
                f"The classes {first!r} and {second!r} would have the same properties, so no image could tell them "
                f"apart. {advice}"
            )


def _words_of(placed: Placed, space: PropertySpace) -> tuple[list[str], list[int] | None, list[int]]:
    """Sentences, the property of each (`None` if a sentence stands for two), and the row."""
    indices = property_indices(space, [name for _, name in placed])
    assigned: dict[str, tuple[str, int]] = {}
    is_clear = True
    for (sentence, _), index in zip(placed, indices):
        key = " ".join(sentence.split()).lower()
        is_clear &= assigned.setdefault(key, (sentence, index))[1] == index
    sentences = [sentence for sentence, _ in assigned.values()]
    return sentences, [index for _, index in assigned.values()] if is_clear else None, sorted(set(indices))


def with_class(space: PropertySpace, name: str, placed: Placed) -> PropertySpace:
    """The space with a class more.

    Args:
        space: The space.
        name: Its name.
        placed: Its sentences, each with its property.

    Raises:
        ValueError: The name exists, there is no sentence, a property is unknown, or another class has its row.
    """
    name = checked_names([name], "class name")[0]
    if name in space.class_names:
        raise ValueError(
            f"The class {name!r} exists already; choose another name, or describe it anew (describe_class)."
        )
    if not placed:
        raise ValueError(f"The class {name!r} has no property; describe what can be seen of it.")
    sentences, assigned, row = _words_of(placed, space)
    changed = space.replace(
        class_names=[*space.class_names, name],
        class_property_matrix=torch.cat(
            [space.class_property_matrix, matrix_from_rows([row], space.num_properties)]
        ),
        descriptions=space.descriptions | {name: sentences},
        assignments=space.assignments | ({name: assigned} if assigned is not None else {}),
    )
    refuse_twins(space, changed, "Describe what only one of them shows, or tick a property more or less.")
    return changed


def with_words(space: PropertySpace, class_name: str, placed: Placed) -> PropertySpace:
    """The space with a class described anew.

    Args:
        space: The space.
        class_name: The class.
        placed: Its new sentences, each with its property.

    Raises:
        ValueError: The class or a property is unknown, there is no sentence, or another class has its row.
    """
    index = class_indices(space, [class_name])[0]
    if not placed:
        raise ValueError(f"The class {class_name!r} needs at least one property.")
    sentences, assigned, row = _words_of(placed, space)
    matrix = space.class_property_matrix.clone()
    matrix[index] = matrix_from_rows([row], space.num_properties)[0]
    assignments = {name: value for name, value in space.assignments.items() if name != class_name}
    if assigned is not None:
        assignments[class_name] = assigned
    changed = space.replace(
        class_property_matrix=matrix,
        descriptions=space.descriptions | {class_name: sentences},
        assignments=assignments,
    )
    refuse_twins(space, changed, "Give one of them a property that the other lacks.")
    return changed


def with_ticks(
    space: PropertySpace, class_name: str, ticked: Sequence[str] = (), unticked: Sequence[str] = ()
) -> PropertySpace:
    """The space with properties given to and taken from a class; its sentences go with them.

    Args:
        space: The space.
        class_name: The class.
        ticked: Names of properties that it gets.
        unticked: Names of properties that it loses.

    Raises:
        ValueError: A name is unknown, nothing would change or be left, or another class has the new row.
    """
    index = class_indices(space, [class_name])[0]
    row = set(space.class_properties[index])
    more, less = property_indices(space, ticked), property_indices(space, unticked)
    for number, has, text in (
        *((k, False, "has") for k in more),
        *((k, True, "does not have") for k in less),
    ):
        if (number in row) is not has:
            raise ValueError(f"{class_name!r} {text} the property {space.property_names[number]!r} already."
                             if not has else
                             f"{class_name!r} {text} the property {space.property_names[number]!r}.")  # fmt: skip
    left = (row | set(more)) - set(less)
    if not left:
        raise ValueError(f"The class {class_name!r} needs at least one property; tick another one first.")
    if class_name in space.assignments:
        kept = [
            (sentence, space.property_names[number])
            for sentence, number in zip(space.descriptions[class_name], space.assignments[class_name])
            if number in left
        ]
        return with_words(space, class_name, [*kept, *((name, name) for name in _names(space, more))])
    changed = space.set_row(class_name, sorted(left))
    refuse_twins(space, changed, "Tick a property that tells them apart first.")
    return changed


def _names(space: PropertySpace, indices: Iterable[int]) -> list[str]:
    return [space.property_names[index] for index in indices]


# ---- properties -------------------------------------------------------------------------------------------------


def unit_mean(vectors: Tensor) -> Tensor:
    """The direction of the mean of unit vectors, float32 `(embedding_dim,)`.

    Args:
        vectors: `(number, embedding_dim)`.

    Raises:
        ValueError: The vectors cancel out.
    """
    total = vectors.double().sum(dim=0)
    if float(total.norm()) < 1e-6:
        raise ValueError("The embeddings of these properties are opposite to each other and have no mean.")
    return (total / total.norm()).float()


def without_columns(
    space: PropertySpace, gone: Mapping[int, int | None], names: Sequence[str], embeddings: Tensor
) -> PropertySpace:
    """The space without some properties, whose classes and sentences go to others or are dropped.

    Args:
        space: The space.
        gone: Column that goes -> column that takes its place, or `None`.
        names: Names of all columns, those that go included.
        embeddings: Their embeddings `(num_properties, embedding_dim)`.

    Raises:
        ValueError: A class would be left without a property.
    """
    matrix = space.class_property_matrix.clone()
    for column, target in gone.items():
        if target is not None:
            matrix[:, target] = torch.maximum(matrix[:, target], matrix[:, column])
    kept = [column for column in range(space.num_properties) if column not in gone]
    position = {column: index for index, column in enumerate(kept)}
    descriptions, assignments = dict(space.descriptions), {}
    for name, assigned in space.assignments.items():
        pairs = [
            (sentence, gone.get(column, column))
            for sentence, column in zip(space.descriptions[name], assigned)
        ]
        left = [(sentence, position[column]) for sentence, column in pairs if column is not None]
        descriptions[name] = [sentence for sentence, _ in left]
        assignments[name] = [column for _, column in left]
    matrix = matrix[:, kept]
    bare = (matrix.sum(dim=1) == 0).nonzero().flatten().tolist()
    if bare and space.class_properties[bare[0]]:
        raise ValueError(
            f"The class {space.class_names[bare[0]]!r} would be left without a property; give it another one first."
        )
    return space.replace(
        property_names=[names[column] for column in kept],
        property_embeddings=embeddings[kept],
        class_property_matrix=matrix,
        descriptions=descriptions,
        assignments=assignments,
        clustering=space.clustering | {"num_properties": len(kept)},
    )


def with_merged_properties(
    space: PropertySpace, name: str, properties: Sequence[str], embedding: Tensor
) -> PropertySpace:
    """The space with several properties as one, which stands where the first of them stood.

    Args:
        space: The space.
        name: Its name.
        properties: Their names.
        embedding: Its embedding `(embedding_dim,)`.

    Raises:
        ValueError: A name is unknown or taken, or two classes would have the same row.
    """
    columns = property_indices(space, properties)
    first = min(columns)
    names, embeddings = list(space.property_names), space.property_embeddings.clone()
    names[first], embeddings[first] = name, embedding
    others = {column: first for column in columns if column != first}
    _refuse_taken(
        name, [text for column, text in enumerate(names) if column != first and column not in others]
    )
    changed = without_columns(space, others, names, embeddings)
    refuse_twins(space, changed, "Merge these classes too, or give one of them another property first.")
    return changed


def with_split_property(
    space: PropertySpace, property_name: str, name: str, phrases: Sequence[str], embeddings: Tensor
) -> PropertySpace:
    """The space with some phrases of a property as a property of their own, behind all others.

    Classes that say one of these phrases get the new property; they keep the old one if they say another phrase of it.

    Args:
        space: The space.
        property_name: The property.
        name: Name of the new one.
        phrases: Phrases that go into it.
        embeddings: Of what is left and of the new one, `(2, embedding_dim)`.

    Raises:
        ValueError: A phrase is not one of the property, none would be left, or the name is taken.
    """
    column = property_indices(space, [property_name])[0]
    _refuse_taken(name, space.property_names)
    wanted = {text.lower() for text in phrases}
    new = space.num_properties
    matrix = torch.nn.functional.pad(space.class_property_matrix, (0, 1))
    assignments: dict[str, list[int]] = {}
    for class_name, assigned in space.assignments.items():
        moved = [
            new if index == column and text.lower() in wanted else index
            for text, index in zip(space.descriptions[class_name], assigned)
        ]
        assignments[class_name] = moved
        row = space.class_names.index(class_name)
        matrix[row, column], matrix[row, new] = float(column in moved), float(new in moved)
    table = torch.cat([space.property_embeddings, embeddings[1:]])
    table[column] = embeddings[0]
    return space.replace(
        property_names=[*space.property_names, name],
        property_embeddings=table,
        class_property_matrix=matrix,
        assignments=assignments,
        clustering=space.clustering | {"num_properties": new + 1},
    )


def with_renamed_property(space: PropertySpace, old: str, new: str) -> PropertySpace:
    """The space with a property under another name; sentences stay as they are.

    Args:
        space: The space.
        old: Its name.
        new: Its new name.

    Raises:
        ValueError: The name is unknown or taken.
    """
    column = property_indices(space, [old])[0]
    _refuse_taken(new, [name for name in space.property_names if name != old])
    names = list(space.property_names)
    names[column] = new
    return space.replace(property_names=names)


def without_properties(space: PropertySpace, properties: Sequence[str]) -> PropertySpace:
    """The space without some properties, and without the sentences that stand for them.

    Args:
        space: The space.
        properties: Their names.

    Raises:
        ValueError: A name is unknown, a class would be left without a property, or two with the same row.
    """
    gone: dict[int, int | None] = {column: None for column in property_indices(space, properties)}
    if len(gone) == space.num_properties:
        raise ValueError("Removing all properties would leave none.")
    changed = without_columns(space, gone, space.property_names, space.property_embeddings)
    refuse_twins(space, changed, "Remove one of these classes, or give it another property first.")
    return changed


def _refuse_taken(name: str, taken: Sequence[str]) -> None:
    if name.strip() in taken:
        raise ValueError(f"There is a property {name.strip()!r} already; choose another name.")
