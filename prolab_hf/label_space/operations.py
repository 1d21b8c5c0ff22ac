"""Operations on property spaces: each takes a space and returns a new one; all but two keep the properties."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from prolab_hf.label_space.conflicts import ConflictRules
from prolab_hf.label_space.phrases.wording import same_wording
from prolab_hf.label_space.placement import FAR_COSINE, Placement, check_same_encoder, place_phrases
from prolab_hf.label_space.space_content import (
    SpaceContent,
    checked_descriptions,
    checked_names,
    matrix_from_rows,
)
from prolab_hf.label_space.text_encoder import TextEncoder
from prolab_hf.suggestions import did_you_mean

Space = TypeVar("Space", bound=SpaceContent)


def equal_rows(class_names: Sequence[str], matrix: torch.Tensor) -> list[tuple[str, str]]:
    """Pairs of classes with the same properties: each repeated row with the first that has it.

    Args:
        class_names: Names of the rows.
        matrix: `(num_classes, num_properties)`.
    """
    first: dict[bytes, str] = {}
    pairs = []
    for name, row in zip(class_names, matrix.to(torch.uint8).numpy()):
        original = first.setdefault(row.tobytes(), name)
        if original != name:
            pairs.append((original, name))
    return pairs


def class_indices(space: SpaceContent, names: Sequence[str]) -> list[int]:
    """Rows of the named classes.

    Args:
        space: The space.
        names: Class names.

    Raises:
        ValueError: A name is unknown (the nearest known one is offered) or occurs twice.
    """
    if isinstance(names, str):
        raise ValueError(f"Expected a list of class names, got the string {names!r}.")
    position = {name: index for index, name in enumerate(space.class_names)}
    for name in names:
        if name not in position:
            raise ValueError(_unknown("class", name, space.class_names, "classes"))
    if len(set(names)) != len(names):
        raise ValueError(f"Class names must not repeat, got {list(names)}.")
    return [position[name] for name in names]


def _unknown(kind: str, name: object, known: Sequence[str], plural: str) -> str:
    near = did_you_mean(name, known).replace("; did", "Did", 1)
    return f"Unknown {kind} {name!r}. {near or f'The space has {len(known)} {plural}.'}"


def _rebuilt(space: Space, names: Sequence[str], matrix: torch.Tensor, **texts: Mapping[str, Any]) -> Space:
    """The space with other rows; texts of classes that are gone are left out."""
    kept = set(names)
    descriptions = texts.get("descriptions", space.descriptions)
    assignments = texts.get("assignments", space.assignments)
    return space.replace(
        class_names=list(names),
        class_property_matrix=matrix,
        descriptions={name: value for name, value in descriptions.items() if name in kept},
        assignments={name: value for name, value in assignments.items() if name in kept},
    )


def refuse_new_twins(before: SpaceContent, after: SpaceContent, advice: str) -> None:
    """Refuses an operation that gives two classes equal rows; twins from before may stay.

    Args:
        before: The space.
        after: What the operation made of it.
        advice: What to do instead.

    Raises:
        ValueError: Two classes have equal rows that had not.
    """
    old = set(equal_rows(before.class_names, before.class_property_matrix))
    for twins in equal_rows(after.class_names, after.class_property_matrix):
        if twins not in old:
            raise ValueError(
                f"The classes {twins[0]!r} and {twins[1]!r} would have equal rows, so no image could tell "
                f"them apart. {advice}"
            )


def select_classes(space: Space, class_names: Sequence[str]) -> Space:
    """See `PropertySpace.select_classes`."""
    rows = class_indices(space, class_names)
    if not rows:
        raise ValueError("Select at least one class.")
    return _rebuilt(space, class_names, space.class_property_matrix[rows])


def remove_classes(space: Space, class_names: str | Sequence[str]) -> Space:
    """See `PropertySpace.remove`."""
    gone = set(class_indices(space, [class_names] if isinstance(class_names, str) else class_names))
    names = [name for index, name in enumerate(space.class_names) if index not in gone]
    if not names:
        raise ValueError(f"Removing {len(gone)} classes would leave none.")
    return select_classes(space, names)


def rename_classes(space: Space, names: Mapping[str, str]) -> Space:
    """See `PropertySpace.rename`."""
    class_indices(space, list(names))
    new_names = checked_names([names.get(name, name) for name in space.class_names], "class_names")
    new_of = dict(zip(space.class_names, new_names))
    return _rebuilt(
        space,
        new_names,
        space.class_property_matrix,
        descriptions={new_of[name]: texts for name, texts in space.descriptions.items()},
        assignments={new_of[name]: indices for name, indices in space.assignments.items()},
    )


def property_indices(space: SpaceContent, properties: Sequence[str | int]) -> list[int]:
    """Columns of the given properties.

    Args:
        space: The space.
        properties: Names or indices.

    Raises:
        ValueError: A name or index does not exist.
    """
    if isinstance(properties, str):
        raise ValueError(f"Expected a list of properties, got the string {properties!r}.")
    position = {name: index for index, name in enumerate(space.property_names)}
    indices = []
    for item in properties:
        if isinstance(item, str):
            if item not in position:
                raise ValueError(_unknown("property", item, space.property_names, "properties"))
            indices.append(position[item])
        elif (
            isinstance(item, bool) or not isinstance(item, int | np.integer) or not 0 <= item < len(position)
        ):
            raise ValueError(f"Property index {item!r} must be an integer from 0 to {len(position) - 1}.")
        else:
            indices.append(int(item))
    return indices


def set_row(space: Space, class_name: str, properties: Sequence[str | int]) -> Space:
    """See `PropertySpace.set_row`."""
    row = class_indices(space, [class_name])[0]
    indices = property_indices(space, properties)
    if not indices:
        raise ValueError(f"The class {class_name!r} needs at least one property.")
    matrix = space.class_property_matrix.clone()
    matrix[row] = matrix_from_rows([indices], space.num_properties)[0]
    assignments = {name: value for name, value in space.assignments.items() if name != class_name}
    changed = _rebuilt(space, space.class_names, matrix, assignments=assignments)
    refuse_new_twins(space, changed, "Give one of them a property that the other lacks.")
    return changed


def merge_classes(space: Space, groups: Mapping[str, Sequence[str]]) -> Space:
    """See `PropertySpace.merge_classes`."""
    members: dict[int, str] = {}
    for new_name, old_names in groups.items():
        rows = class_indices(space, old_names)
        if not rows:
            raise ValueError(f"The group {new_name!r} is empty.")
        for row in rows:
            if row in members:
                raise ValueError(f"The class {space.class_names[row]!r} is in two groups.")
            members[row] = new_name
    parts: dict[str, list[int]] = {}
    # A pair as key keeps a group apart from a class of the same name, which the new space then refuses.
    order: dict[tuple[bool, str], list[int]] = {}
    for row, name in enumerate(space.class_names):
        order.setdefault((row in members, members.get(row, name)), []).append(row)
    names = checked_names([name for _, name in order], "class_names")
    parts = dict(zip(names, order.values()))
    matrix = torch.stack([space.class_property_matrix[rows].amax(dim=0) for rows in parts.values()])
    descriptions, assignments = _merged_texts(space, parts)
    merged = _rebuilt(space, names, matrix, descriptions=descriptions, assignments=assignments)
    refuse_new_twins(space, merged, "Merge them too, or change a row with set_row.")
    return merged


def _merged_texts(
    space: SpaceContent, parts: Mapping[str, Sequence[int]]
) -> tuple[dict[str, list[str]], dict[str, list[int]]]:
    descriptions: dict[str, list[str]] = {}
    assignments: dict[str, list[int]] = {}
    for new_name, rows in parts.items():
        olds = [space.class_names[row] for row in rows]
        texts: dict[str, tuple[str, int | None]] = {}
        for old in olds:
            sentences = space.descriptions.get(old, [])
            indices: Sequence[int | None] = space.assignments.get(old) or [None] * len(sentences)
            for sentence, index in zip(sentences, indices):
                texts.setdefault(sentence.lower(), (sentence, index))
        if texts:
            descriptions[new_name] = [sentence for sentence, _ in texts.values()]
        if all(old in space.assignments for old in olds):
            assignments[new_name] = [index for _, index in texts.values() if index is not None]
    return descriptions, assignments


def add_classes(
    space: Space,
    descriptions: Mapping[str, Sequence[str]],
    encoder: object,
    rules: ConflictRules,
    new_properties: bool = False,
) -> Space:
    """See `PropertySpace.add_classes`."""
    texts = checked_new_classes(space, descriptions)
    if not texts:
        return space
    placed = place_phrases(space, texts, encoder, rules)
    strangers = [item for item in placed if not item.fits]
    grown = space
    if strangers and new_properties:
        grown = _with_columns(space, list(dict.fromkeys(item.phrase for item in strangers)), encoder)
        placed = place_phrases(grown, texts, encoder, rules)
    elif strangers:
        _refuse_classes_without_fit(texts, placed)
        _warn_strangers(strangers, len(placed), float(space.clustering.get("far_cosine", FAR_COSINE)))
        # Said of no class: a property that does not mean the sentence would be given as a reason all the same.
        placed = [item for item in placed if item.fits]
        texts = {name: [item.phrase for item in placed if item.class_name == name] for name in texts}
    assignments: dict[str, list[int]] = {name: [] for name in texts}
    for item in placed:
        assignments[item.class_name].append(item.property_index)
    for item in placed:
        for index in item.also:
            # A sentence has one property; the further ones it names are added in the words of the property.
            if index not in assignments[item.class_name]:
                assignments[item.class_name].append(index)
                texts[item.class_name] = [*texts[item.class_name], grown.property_names[index]]
    new_rows = matrix_from_rows(list(assignments.values()), grown.num_properties)
    result = grown.replace(
        class_names=[*grown.class_names, *texts],
        class_property_matrix=torch.cat([grown.class_property_matrix, new_rows]),
        descriptions=grown.descriptions | texts,
        assignments=grown.assignments | assignments,
    )
    refuse_new_twins(
        grown, result, "Describe what only one of them shows, or give it a property by hand with set_row."
    )
    return result


def checked_new_classes(
    space: SpaceContent, descriptions: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """The descriptions of classes that the space does not have yet.

    Args:
        space: The space.
        descriptions: New class name -> sentences.

    Raises:
        ValueError: A name exists already, or a class has no description.
    """
    texts = checked_descriptions(descriptions, None)
    for name, sentences in texts.items():
        if name in space.class_names:
            raise ValueError(f"The class {name!r} exists already; change its row with set_row or rename it.")
        if not sentences:
            raise ValueError(f"The class {name!r} has no description; write what can be seen of it.")
    return texts


def _refuse_classes_without_fit(texts: Mapping[str, Sequence[str]], placed: Sequence[Placement]) -> None:
    for name in texts:
        if not any(item.fits for item in placed if item.class_name == name):
            raise ValueError(
                f"No description of the class {name!r} fits a property of the space: "
                f"{'; '.join(str(item) for item in placed if item.class_name == name)}. Make new properties of "
                "them (new_properties=True, --new-properties), or build the space anew with the class."
            )


def _warn_strangers(strangers: Sequence[Placement], total: int, limit: float) -> None:
    shown = "; ".join(map(str, sorted(strangers, key=lambda item: item.cosine)[:5]))
    more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
    warnings.warn(
        f"{len(strangers)} of {total} descriptions fit no property and were left out "
        f"(cosine below {limit:.2f}, or near only beside their opposite): "
        f"{shown}{more}. Make new properties of them (new_properties=True, --new-properties), reword them, or "
        "build the space anew with them.",
        stacklevel=4,
    )


def add_property(space: Space, phrase: str, class_names: Sequence[str], encoder: object) -> Space:
    """See `PropertySpace.add_property`."""
    rows = class_indices(space, class_names)
    if not rows:
        raise ValueError(f"Name at least one class that has the property {phrase!r}.")
    grown = _with_columns(space, [phrase], encoder)
    name = grown.property_names[-1]
    matrix = grown.class_property_matrix.clone()
    matrix[rows, -1] = 1
    descriptions, assignments = dict(grown.descriptions), dict(grown.assignments)
    for class_name in class_names:
        if class_name in assignments or class_name not in descriptions:
            if class_name not in descriptions and grown.class_properties[grown.class_names.index(class_name)]:
                continue  # a row without words: a description would not make it up
            descriptions[class_name] = [*descriptions.get(class_name, []), name]
            assignments[class_name] = [*assignments.get(class_name, []), grown.num_properties - 1]
    return grown.replace(class_property_matrix=matrix, descriptions=descriptions, assignments=assignments)


def _with_columns(space: Space, phrases: Sequence[str], encoder: object) -> Space:
    """The space with further properties that no class has yet, embedded by the space's encoder."""
    known = {same_wording(name) for name in space.property_names}
    known |= {same_wording(text) for users in space.phrases_by_property.values() for text in users}
    for phrase in phrases:
        if same_wording(phrase) in known:
            raise ValueError(f"The space has {phrase!r} already; give it to a class with set_row.")
    if encoder is None:
        raise ValueError(
            f"A new property {phrases[0]!r} needs the text encoder that the space was built with "
            f"({space.encoder.get('name', 'not recorded')}): give encoder=."
        )
    text_encoder = TextEncoder.load(encoder)
    check_same_encoder(space, text_encoder)
    vectors = torch.from_numpy(text_encoder.encode(list(phrases))).float()
    if vectors.shape[1] != space.embedding_dim:
        raise ValueError(
            f"The encoder gives vectors of length {vectors.shape[1]}, the space has {space.embedding_dim}; use "
            "the encoder that the space was built with."
        )
    return space.replace(
        property_names=[*space.property_names, *(phrase.strip() for phrase in phrases)],
        property_embeddings=torch.cat([space.property_embeddings, vectors]),
        class_property_matrix=torch.nn.functional.pad(space.class_property_matrix, (0, len(phrases))),
        clustering=space.clustering | {"num_properties": space.num_properties + len(phrases)},
    )
