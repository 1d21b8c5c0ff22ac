"""Property spaces of the reference implementation: embedding banks (`.pth`) and descriptor files (JSON)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prolab_hf.hub.safe_unpickling import load_tensors_safely
from prolab_hf.label_space.description_files import read_descriptions
from prolab_hf.label_space.property_space import PropertySpace

BANK_ENDING = ".pth"
_BANK_SUFFIX = "_embeddings_and_labels"

# The reference's descriptor files have the form of a user's own.
read_original_descriptions = read_descriptions


def property_space_from_original(
    bank: object,
    labels: object,
    class_names: Sequence[str] | None = None,
    descriptions: Mapping[str, Sequence[str]] | None = None,
    *,
    property_names: Sequence[str] | None = None,
    name: str = "",
) -> PropertySpace:
    """Makes a property space of the arrays that the reference stores.

    Args:
        bank: `(embedding_dim, num_properties)` K-Means centers, not of unit length.
        labels: `(num_properties, num_classes)` of 0 and 1.
        class_names: Names of the classes; by default the keys of `descriptions`, else "class 0", "class 1",
            ...
        descriptions: Class name -> descriptions.
        property_names: Names of the properties; "property 0", ... by default.
        name: Name of the space.

    Raises:
        ValueError: The arrays do not fit together, or hold something other than allowed.
    """
    centers, matrix = _table(bank, "bank"), _table(labels, "labels")
    if centers.shape[1] != matrix.shape[0]:
        raise ValueError(
            f"bank must be (embedding_dim, num_properties) and labels (num_properties, num_classes), as the "
            f"reference stores them; got {centers.shape} and {matrix.shape}."
        )
    num_properties, num_classes = matrix.shape
    if class_names is None:
        class_names = (
            list(descriptions) if descriptions else [f"class {index}" for index in range(num_classes)]
        )
    if len(class_names) != num_classes:
        raise ValueError(f"There are {len(class_names)} class names for {num_classes} columns of labels.")
    return PropertySpace(
        class_names=list(class_names),
        property_names=property_names or [f"property {index}" for index in range(num_properties)],
        property_embeddings=centers.T,
        class_property_matrix=matrix.T,
        descriptions=descriptions,
        name=name,
        provenance={"source": "embedding bank of the reference implementation"},
    )


def _table(values: object, field: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        table = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{field} must be a table of numbers ({error}).") from error
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"{field} must be a table with two dimensions, got shape {table.shape}.")
    return table


def bank_and_entry(source: str | Path) -> tuple[Path, str | None]:
    """Splits `FILE.pth#ENTRY` into the file and the name of one bank in it, `None` where none is named."""
    file, mark, entry = str(source).partition(f"{BANK_ENDING}#")
    return (Path(file + BANK_ENDING), entry) if mark else (Path(source), None)


def read_original_bank(path: str | Path) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]] | None]:
    """Reads an embedding bank without running any code that it may contain.

    Args:
        path: The `.pth` file. Where it holds several banks, `FILE.pth#ENTRY` names one of them.

    Returns:
        bank `(embedding_dim, num_properties)`, labels `(num_properties, num_classes)`, and the descriptions
        if the file holds them per class.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no embedding bank, holds several and none is named, or holds objects other
            than arrays, tensors and plain values.
    """
    path, entry = bank_and_entry(path)
    content = load_tensors_safely(path, what="embedding bank")
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a dictionary, got {type(content).__name__}.")
    key = entry or _only_bank(content, path)
    if key not in content:
        raise ValueError(f"{path}: there is no entry {key!r}; entries: {', '.join(map(str, content))}.")
    pair = content[key]
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"{path}: the entry {key!r} must hold two arrays, the bank and its labels.")
    bank, labels = _table(pair[0], f"{path}: bank"), _table(pair[1], f"{path}: labels")
    return bank, labels, _class_descriptions(content.get("descriptions"), labels.shape[1])


def _only_bank(content: Mapping[Any, Any], path: Path) -> str:
    """Name of the file's bank: by its ending, or because it is the one entry with two arrays."""
    keys = [key for key in content if isinstance(key, str) and key.endswith(_BANK_SUFFIX)]
    if not keys:
        keys = [key for key, value in content.items() if isinstance(key, str) and _holds_two_tables(value)]
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise ValueError(
            f"{path}: needs exactly one entry with a bank and its labels, found none "
            f"(entries: {', '.join(map(str, content)) or 'none'})."
        )
    raise ValueError(
        f"{path}: needs exactly one entry with a bank and its labels, found {len(keys)}: {', '.join(keys)}. "
        f"Name one, for example {path.name}#{keys[0]}."
    )


def _holds_two_tables(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(getattr(part, "ndim", 0) == 2 for part in value)
    )


def _class_descriptions(value: object, num_classes: int) -> dict[str, list[str]] | None:
    if not isinstance(value, dict) or len(value) != num_classes:
        return None
    texts = all(
        isinstance(key, str) and isinstance(item, list) and all(isinstance(text, str) for text in item)
        for key, item in value.items()
    )
    return {key.strip(): list(item) for key, item in value.items()} if texts else None
