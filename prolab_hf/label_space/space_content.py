"""What a property space consists of, and the checks of every part of it."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

MAX_NAME_LENGTH = 1000
# Rows this close to unit length are kept bit for bit; float32 rounding stays far below it.
UNIT_TOLERANCE = 1e-5


def checked_names(names: Sequence[str], field: str) -> list[str]:
    """Trims names and refuses empty, repeated, over-long ones and control characters.

    Args:
        names: The names.
        field: What to call them in messages.
    """
    if isinstance(names, str | bytes) or not isinstance(names, Sequence):
        raise ValueError(f"{field} must be a list of strings, got {type(names).__name__}.")
    if not names:
        raise ValueError(f"{field} must not be empty.")
    clean: list[str] = []
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"{field}[{index}] must be a string, got {name!r}.")
        text = name.strip()
        if not text or len(text) > MAX_NAME_LENGTH:
            raise ValueError(
                f"{field}[{index}] must have 1 to {MAX_NAME_LENGTH} characters, got {len(text)}."
            )
        # Cc: control characters, Cs: lone surrogates, which no UTF-8 file can hold.
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
            raise ValueError(f"{field}[{index}] contains a control character: {text!r}.")
        if text in seen:
            raise ValueError(f"{field} must be unique: {text!r} stands at {seen[text]} and at {index}.")
        seen[text] = index
        clean.append(text)
    return clean


def _as_float32(values: object, field: str) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        if values.is_meta:
            raise ValueError(f"{field} is on the meta device and holds no numbers; load the weights first.")
        return values.detach().to("cpu", torch.float32, copy=True)
    try:
        array = np.array(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{field} must be a table of numbers ({error}).") from error
    return torch.from_numpy(array)


def checked_embeddings(values: object, num_properties: int) -> torch.Tensor:
    """Unit rows in float32 on the CPU.

    Args:
        values: `(num_properties, embedding_dim)`.
        num_properties: Expected number of rows.
    """
    table = _as_float32(values, "property_embeddings")
    if table.ndim != 2 or table.shape[0] != num_properties or table.shape[1] == 0:
        raise ValueError(
            f"property_embeddings must have the shape ({num_properties}, embedding_dim), one row per "
            f"property name, got {tuple(table.shape)}."
        )
    bad = (~torch.isfinite(table).all(dim=1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"property_embeddings must be finite; row {bad[0]} holds NaN or infinity.")
    norms = table.double().norm(dim=1, keepdim=True)
    if norms.min() == 0:
        raise ValueError(f"property_embeddings row {int(norms.argmin())} is zero and has no direction.")
    if (norms - 1).abs().max() > UNIT_TOLERANCE:
        table = (table.double() / norms).float()
    return table.contiguous()


def checked_matrix(values: object, num_classes: int, num_properties: int) -> torch.Tensor:
    """The class-property matrix in float32 on the CPU.

    Args:
        values: `(num_classes, num_properties)` of 0 and 1.
        num_classes: Expected number of rows.
        num_properties: Expected number of columns.
    """
    table = _as_float32(values, "class_property_matrix")
    if tuple(table.shape) != (num_classes, num_properties):
        raise ValueError(
            f"class_property_matrix must have the shape ({num_classes}, {num_properties}) of class and "
            f"property names, got {tuple(table.shape)}."
        )
    wrong = ((table != 0) & (table != 1)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(
            f"class_property_matrix must hold only 0 and 1, got {table[row, column].item()} at ({row}, "
            f"{column})."
        )
    return table.contiguous()


def matrix_from_rows(rows: Sequence[Sequence[int]], num_properties: int) -> torch.Tensor:
    """Turns lists of property indices into a 0/1 matrix.

    Args:
        rows: One list of indices per class.
        num_properties: Number of columns.

    Returns:
        `(num_classes, num_properties)` float32.

    Raises:
        ValueError: An index is no integer or out of range.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise ValueError(f"class_properties must be a list of lists, got {type(rows).__name__}.")
    matrix = torch.zeros(len(rows), num_properties, device="cpu")
    for row, indices in enumerate(rows):
        if not isinstance(indices, Sequence) or isinstance(indices, str):
            raise ValueError(f"class_properties[{row}] must be a list of indices, got {indices!r}.")
        for index in indices:
            if (
                isinstance(index, bool)
                or not isinstance(index, int | np.integer)
                or not 0 <= index < num_properties
            ):
                raise ValueError(
                    f"class_properties[{row}] holds {index!r}; allowed: 0 to {num_properties - 1}."
                )
            matrix[row, int(index)] = 1.0
    return matrix


def checked_descriptions(
    descriptions: Mapping[str, Sequence[str]], class_names: Sequence[str] | None
) -> dict[str, list[str]]:
    """Trims descriptions and drops repetitions within a class (case does not count).

    Args:
        descriptions: Class name -> sentences.
        class_names: Names that may occur; None takes them from `descriptions`.
    """
    if not isinstance(descriptions, Mapping):
        raise ValueError(f"descriptions must map class names to lists, got {type(descriptions).__name__}.")
    names = list(class_names) if class_names is not None else checked_names(list(descriptions), "class names")
    known = set(names)
    by_name: dict[str, list[str]] = {}
    for key, texts in descriptions.items():
        name = key.strip() if isinstance(key, str) else key
        if name not in known:
            raise ValueError(f"descriptions names the unknown class {key!r}.")
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise ValueError(
                f"The descriptions of {name!r} must be a list of strings, got {type(texts).__name__}."
            )
        by_name[name] = _checked_sentences(name, texts)
    return {name: by_name[name] for name in names if name in by_name}


def _checked_sentences(name: str, texts: Sequence[str]) -> list[str]:
    sentences: dict[str, str] = {}
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"The descriptions of {name!r} must be non-empty strings, got {text!r}.")
        if any(unicodedata.category(letter) == "Cs" for letter in text):
            raise ValueError(f"A description of {name!r} holds half a surrogate pair: {text!r}.")
        sentences.setdefault(" ".join(text.split()).lower(), " ".join(text.split()))
    return list(sentences.values())


def checked_assignments(
    assignments: Mapping[str, Sequence[int]],
    descriptions: Mapping[str, Sequence[str]],
    class_names: Sequence[str],
    class_properties: Sequence[Sequence[int]],
) -> dict[str, list[int]]:
    """Assignments that agree with the descriptions (one index each) and with the matrix (the same set).

    Args:
        assignments: Class name -> property index per description.
        descriptions: Clean descriptions.
        class_names: All classes.
        class_properties: Property indices of each class.
    """
    if not isinstance(assignments, Mapping):
        raise ValueError(f"assignments must map class names to lists, got {type(assignments).__name__}.")
    rows = dict(zip(class_names, class_properties, strict=True))
    unknown = [name for name in assignments if name not in rows]
    if unknown:
        raise ValueError(f"assignments names the unknown class {unknown[0]!r}.")
    clean: dict[str, list[int]] = {}
    for name in class_names:
        if name not in assignments:
            continue
        given = assignments[name]
        if not isinstance(given, Sequence) or not all(isinstance(index, int | np.integer) for index in given):
            raise ValueError(f"assignments of {name!r} must be a list of integers, got {given!r}.")
        indices = [int(index) for index in given]
        if len(indices) != len(descriptions.get(name, ())):
            raise ValueError(
                f"assignments of {name!r} has {len(indices)} entries for {len(descriptions.get(name, ()))} "
                "descriptions."
            )
        if set(indices) != set(rows[name]):
            raise ValueError(
                f"assignments of {name!r} gives the properties {sorted(set(indices))}, but its row of the "
                f"matrix has {list(rows[name])}."
            )
        clean[name] = indices
    return clean


def checked_metadata(values: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A fact sheet as plain JSON values.

    Args:
        values: The facts.
        field: What to call them in messages.
    """
    try:
        clean = json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{field} must be a mapping of JSON values ({error}).") from error
    return clean


Descriptions = Mapping[str, Sequence[str]]

INFO_FIELDS = ("name", "descriptions", "assignments", "encoder", "clustering", "provenance")


class SpaceContent:
    """The checked parts of a `PropertySpace`, what follows from them, and their way into a configuration.

    Takes the arguments of `PropertySpace`, which adds the doors: building, disk and Hub, operations, judging.
    """

    def __init__(
        self,
        *,
        class_names: Sequence[str],
        property_names: Sequence[str],
        property_embeddings: object,
        class_property_matrix: object,
        descriptions: Descriptions | None = None,
        assignments: Mapping[str, Sequence[int]] | None = None,
        name: str = "",
        encoder: Mapping[str, Any] | None = None,
        clustering: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = str(name)
        self.class_names: list[str] = checked_names(class_names, "class_names")
        self.property_names: list[str] = checked_names(property_names, "property_names")
        self.property_embeddings: torch.Tensor = checked_embeddings(property_embeddings, self.num_properties)
        self.class_property_matrix: torch.Tensor = checked_matrix(
            class_property_matrix, self.num_classes, self.num_properties
        )
        self.descriptions: dict[str, list[str]] = checked_descriptions(descriptions or {}, self.class_names)
        self.assignments: dict[str, list[int]] = checked_assignments(
            assignments or {}, self.descriptions, self.class_names, self.class_properties
        )
        self.encoder: dict[str, Any] = checked_metadata(encoder or {}, "encoder")
        self.clustering: dict[str, Any] = checked_metadata(clustering or {}, "clustering")
        self.provenance: dict[str, Any] = checked_metadata(provenance or {}, "provenance")

    @property
    def num_classes(self) -> int:
        """Number of classes, the rows of the matrix."""
        return len(self.class_names)

    @property
    def num_properties(self) -> int:
        """Number of properties, the columns of the matrix."""
        return len(self.property_names)

    @property
    def embedding_dim(self) -> int:
        """Length of a property embedding."""
        return self.property_embeddings.shape[1]

    @cached_property
    def class_properties(self) -> list[list[int]]:
        """For each class the ascending indices of its properties."""
        return [row.nonzero().flatten().tolist() for row in self.class_property_matrix]

    @cached_property
    def phrases_by_property(self) -> dict[int, dict[str, list[str]]]:
        """For each described property its phrases as their authors wrote them, each with the classes that use it.

        The phrase that most classes use comes first.
        """
        found: dict[int, dict[str, list[str]]] = {}
        first: dict[tuple[int, str], str] = {}
        for class_name, indices in self.assignments.items():
            for text, index in zip(self.descriptions[class_name], indices):
                shown = first.setdefault((index, text.lower()), text)
                found.setdefault(index, {}).setdefault(shown, []).append(class_name)
        return {
            index: dict(sorted(users.items(), key=lambda item: -len(item[1])))
            for index, users in found.items()
        }

    def phrase(self, class_name: str, property_index: int) -> str:
        """What the author of a class wrote for one of its properties; the property's name where that is unknown.

        Args:
            class_name: A class.
            property_index: Index of a property.
        """
        mine = [
            text
            for text, index in zip(
                self.descriptions.get(class_name, ()), self.assignments.get(class_name, ())
            )
            if index == property_index
        ]
        return "; ".join(mine) or self.property_names[property_index]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, arrays, descriptions and assignments, not over `name` and the fact sheets."""
        texts = [self.class_names, self.property_names, self.descriptions, self.assignments]
        digest = hashlib.sha256(json.dumps(texts, ensure_ascii=True, sort_keys=True).encode("ascii"))
        # Little-endian whatever the machine, shape included: equal bytes of another shape are another space.
        for array in (
            self.property_embeddings.numpy().astype("<f4"),
            self.class_property_matrix.numpy().astype("u1"),
        ):
            digest.update(repr(array.shape).encode("ascii"))
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpaceContent) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        sizes = f"classes={self.num_classes}, properties={self.num_properties}, dim={self.embedding_dim}"
        return f"PropertySpace({self.name or 'unnamed'!r}, {sizes}, fingerprint={self.fingerprint[:12]})"

    def replace(self, **changes: Any) -> Self:
        """A copy with some constructor arguments exchanged.

        Args:
            **changes: Constructor arguments.
        """
        return type(self)(**(self._arguments() | changes))

    def _arguments(self) -> dict[str, Any]:
        arrays = {
            "class_names": self.class_names,
            "property_names": self.property_names,
            "property_embeddings": self.property_embeddings,
            "class_property_matrix": self.class_property_matrix,
        }
        return arrays | {field: getattr(self, field) for field in INFO_FIELDS}

    @classmethod
    def from_config(cls, config: Any, property_embeddings: torch.Tensor) -> Self:
        """The space inside a model: the inverse of `to_config_kwargs`.

        Args:
            config: A configuration with `id2label`, `class_properties`, `num_properties`, and optionally
                `property_names` and `property_space_info`.
            property_embeddings: `(num_properties, embedding_dim)`, the model's buffer.

        Raises:
            ValueError: The configuration has no class properties, or its parts do not fit together.
        """
        rows = getattr(config, "class_properties", None)
        if rows is None:
            raise ValueError("The configuration has no class_properties, so it carries no property space.")
        matrix = matrix_from_rows(rows, len(property_embeddings))
        id2label = {int(index): label for index, label in config.id2label.items()}
        if sorted(id2label) != list(range(len(rows))):
            raise ValueError(
                f"The configuration has {len(rows)} class_properties but id2label holds {len(id2label)} classes."
            )
        info = getattr(config, "property_space_info", None) or {}
        if not isinstance(info, Mapping):
            raise ValueError(f"property_space_info must be a mapping, got {type(info).__name__}.")
        return cls(
            class_names=[id2label[index] for index in range(len(rows))],
            property_names=getattr(config, "property_names", None)
            or [f"property {index}" for index in range(len(property_embeddings))],
            property_embeddings=property_embeddings,
            class_property_matrix=matrix,
            **{key: info[key] for key in INFO_FIELDS if info.get(key)},
        )

    def to_config_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for `ProLabConfig`; with the embeddings they hold the whole space."""
        return {
            "id2label": dict(enumerate(self.class_names)),
            "label2id": {label: index for index, label in enumerate(self.class_names)},
            "num_properties": self.num_properties,
            "embedding_dim": self.embedding_dim,
            "property_names": list(self.property_names),
            "class_properties": [list(row) for row in self.class_properties],
            "property_space_info": {field: getattr(self, field) for field in INFO_FIELDS},
        }
