"""Operations on property spaces: each takes a space and returns a new one with the same properties."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from prolab_hf.label_space.space_content import (
    SpaceContent,
    checked_descriptions,
    checked_names,
    matrix_from_rows,
)
from prolab_hf.suggestions import did_you_mean

if TYPE_CHECKING:
    from prolab_hf.label_space.text_encoder import TextEncoder

Space = TypeVar("Space", bound=SpaceContent)

# Cosine below which a description counts as far from a property, for spaces that recorded no quantile.
FAR_COSINE = 0.5


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


def _rebuilt(space: Space, names: Sequence[str], matrix: torch.Tensor, **texts: Any) -> Space:
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


def _refuse_new_twins(before: SpaceContent, after: SpaceContent, advice: str) -> None:
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
    _refuse_new_twins(space, changed, "Give one of them a property that the other lacks.")
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
    _refuse_new_twins(space, merged, "Merge them too, or change a row with set_row.")
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


def add_classes(space: Space, descriptions: Mapping[str, Sequence[str]], encoder: Any) -> Space:
    """See `PropertySpace.add_classes`."""
    texts = checked_descriptions(descriptions, None)
    for name, sentences in texts.items():
        if name in space.class_names:
            raise ValueError(f"The class {name!r} exists already; change its row with set_row or rename it.")
        if not sentences:
            raise ValueError(f"The class {name!r} has no description.")
    if not texts:
        return space
    known_only = encoder is None
    assignments = (
        _known_assignments(space, texts) if known_only else _nearest_assignments(space, texts, encoder)
    )
    new_rows = matrix_from_rows(list(assignments.values()), space.num_properties)
    grown = space.replace(
        class_names=[*space.class_names, *texts],
        class_property_matrix=torch.cat([space.class_property_matrix, new_rows]),
        descriptions=space.descriptions | texts,
        assignments=space.assignments | assignments,
    )
    _refuse_new_twins(
        space, grown, "Describe what only one of them shows, or give it a property by hand with set_row."
    )
    return grown


def _known_assignments(space: SpaceContent, texts: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Properties of sentences that already describe other classes: no text encoder is needed for those."""
    known = {name.lower(): index for index, name in enumerate(space.property_names)}
    for name, indices in space.assignments.items():
        known |= {text.lower(): index for text, index in zip(space.descriptions[name], indices)}
    for name, sentences in texts.items():
        for sentence in sentences:
            if sentence.lower() not in known:
                raise ValueError(
                    f"The description {sentence!r} of {name!r} is new to the space, so it takes the text "
                    f"encoder that the space was built with ({space.encoder.get('name', 'not recorded')}): "
                    "give encoder=. Without one, only property names and descriptions of existing classes "
                    "can be used."
                )
    return {name: [known[sentence.lower()] for sentence in sentences] for name, sentences in texts.items()}


def _nearest_assignments(
    space: SpaceContent, texts: Mapping[str, Sequence[str]], encoder: Any
) -> dict[str, list[int]]:
    """The property nearest by cosine to each sentence."""
    from prolab_hf.label_space.text_encoder import TextEncoder

    text_encoder = TextEncoder.load(encoder)
    _check_same_encoder(space, text_encoder)
    sentences = [sentence for group in texts.values() for sentence in group]
    vectors = text_encoder.encode(sentences)
    if vectors.shape[1] != space.embedding_dim:
        raise ValueError(
            f"The encoder gives vectors of length {vectors.shape[1]}, the space has {space.embedding_dim}; "
            f"use the encoder that the space was built with ({space.encoder.get('name', 'not recorded')})."
        )
    similarity = _unit(vectors) @ space.property_embeddings.numpy().astype(np.float64).T
    nearest = similarity.argmax(axis=1)
    _warn_far(space, sentences, similarity.max(axis=1), nearest)
    counts = np.cumsum([len(group) for group in texts.values()])[:-1]
    return {name: part.tolist() for name, part in zip(texts, np.split(nearest, counts))}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _check_same_encoder(space: SpaceContent, encoder: "TextEncoder") -> None:
    """Vectors of two encoders do not compare even where their lengths agree."""
    for field in ("pooling", "lower_case"):
        then, now = space.encoder.get(field), encoder.info.get(field)
        if then is not None and now is not None and then != now:
            raise ValueError(f"The space was built with {field}={then!r}, this encoder has {field}={now!r}.")
    then, now = space.encoder.get("fingerprint"), encoder.info.get("fingerprint")
    if not then or not now or then == now:
        return
    names = space.encoder.get("name"), encoder.info.get("name")
    if names[0] != names[1]:
        raise ValueError(
            f"The space was built with the encoder {names[0]!r}, got {names[1]!r} with other weights; "
            "vectors of two encoders do not compare."
        )
    warnings.warn(
        f"The encoder {names[1]!r} has other weights than the one the space was built with (another revision "
        "or number format?); the nearest properties may differ.",
        stacklevel=5,
    )


def _warn_far(space: SpaceContent, sentences: list[str], cosine: np.ndarray, nearest: np.ndarray) -> None:
    limit = float(space.clustering.get("far_cosine", FAR_COSINE))
    far = [index for index in np.argsort(cosine, kind="stable") if cosine[index] < limit]
    if far:
        shown = "; ".join(
            f"{sentences[index]!r} -> {space.property_names[nearest[index]]!r} ({cosine[index]:.2f})"
            for index in far[:5]
        )
        more = f" and {len(far) - 5} more" if len(far) > 5 else ""
        warnings.warn(
            f"{len(far)} of {len(sentences)} descriptions are far from every property (cosine below "
            f"{limit:.2f}): {shown}{more}. Reword them, or build the space anew with them.",
            stacklevel=5,
        )
