"""What a property space consists of: two arrays, the names of their rows and columns, and the words behind them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch

from prolab_hf.label_space.space_operations import matrix_from_rows
from prolab_hf.label_space.space_validation import (
    checked_assignments,
    checked_descriptions,
    checked_embeddings,
    checked_matrix,
    checked_metadata,
    checked_names,
)

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
        property_embeddings: Any,
        class_property_matrix: Any,
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
    def from_config(cls, config: Any, property_embeddings: Any) -> Self:
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
