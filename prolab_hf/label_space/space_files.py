"""Disk and Hub side of a property space: finding, reading and writing its two files.

Format 1 is a folder with `property_space.safetensors` (two arrays) and `property_space.json` (names, texts
and provenance). Everything read here may come from strangers, so every field is checked before it is used and
every complaint names the file and the field.
"""

import importlib.resources
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from prolab_hf.files import parse_json, read_text, write_bytes, write_text
from prolab_hf.label_space.space_content import SpaceContent
from prolab_hf.suggestions import did_you_mean

FORMAT_VERSION = 1
JSON_NAME = "property_space.json"
TENSORS_NAME = "property_space.safetensors"
CARD_NAME = "README.md"
ALIASES = {"bdd100k": "cityscapes"}

# Far above any real vocabulary; they only keep a hostile file from exhausting the memory.
MAX_JSON_BYTES = 256 * 2**20
MAX_CELLS = 2**31

_TEXT_LIST_FIELDS = ("class_names", "property_names")
_DICT_FIELDS = ("descriptions", "assignments", "encoder", "clustering", "provenance")
_FIELDS = {"format_version", "name", "fingerprint", *_TEXT_LIST_FIELDS, *_DICT_FIELDS}


def bundled_names() -> list[str]:
    """Names of the spaces that come with the package, aliases included, in alphabetical order."""
    root = _bundled_root()
    names = [folder.name for folder in root.iterdir() if (folder / JSON_NAME).is_file()] if root else []
    return sorted([*names, *(alias for alias, target in ALIASES.items() if target in names)])


def bundled_folder(name: str) -> Path | None:
    """The folder of a bundled space, or None; case and the choice of `-` or `_` do not matter."""
    root = _bundled_root()
    plain = name.strip().lower().replace("-", "_")
    # A name is a single word: anything that looks like a path is one.
    if root is None or not plain.replace("_", "").isalnum():
        return None
    folder = root / ALIASES.get(plain, plain)
    return folder if (folder / JSON_NAME).is_file() else None


def alias_of(name: object) -> str | None:
    """The other name of a bundled space that was asked for, `None` where the name is its own."""
    plain = str(name).strip().lower().replace("-", "_")
    return plain if plain in ALIASES else None


def _bundled_root() -> Path | None:
    try:
        root = Path(str(importlib.resources.files("prolab_hf.property_spaces")))
    except ModuleNotFoundError:
        # A checkout that is on the path without being installed: the folder lies beside the package.
        root = Path(__file__).resolve().parents[2] / "property_spaces"
    return root if root.is_dir() else None


def find_space_files(name: str | os.PathLike[str], **hub_options: Any) -> tuple[Path, Path]:
    """Locates the two files of a space: bundled name first, then local folder, then Hub repository.

    Args:
        name: Bundled name, folder, or Hub repository id.
        **hub_options: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`, `subfolder`.

    Returns:
        Paths of the JSON and of the safetensors file.

    Raises:
        FileNotFoundError: Nothing of that name exists.
        ValueError: The folder or repository exists but is no property space.
    """
    text = os.fspath(name)
    subfolder = hub_options.pop("subfolder", None) or ""
    folder: Path | None = bundled_folder(text)
    if folder is None and text and Path(text).is_dir():
        folder = Path(text) / subfolder
    if folder is not None:
        for file_name in (JSON_NAME, TENSORS_NAME):
            if not (folder / file_name).is_file():
                raise ValueError(f"{folder} is not a property space: the file {file_name} is missing.")
        return folder / JSON_NAME, folder / TENSORS_NAME
    if Path(text).is_file():
        raise NotADirectoryError(f"{text} is a file; give the folder that holds {JSON_NAME}.")
    if text.count("/") != 1 or text.startswith((".", "/", "~")) or Path(text).is_absolute():
        raise FileNotFoundError(_unknown_name_message(text))
    return _cached(text, JSON_NAME, subfolder, hub_options), _cached(
        text, TENSORS_NAME, subfolder, hub_options
    )


def _unknown_name_message(name: str) -> str:
    known = bundled_names()
    near = did_you_mean(name.replace("-", "_"), known)
    hint = near.replace("; did", " Did", 1)
    return (
        f"No property space {name!r}: it is neither a bundled name ({', '.join(known) or 'none installed'}) "
        f"nor a folder nor a Hub repository id (owner/name).{hint}"
    )


def _cached(repo_id: str, file_name: str, subfolder: str, options: dict[str, Any]) -> Path:
    # Imported late: reading a local folder does not need it.
    from transformers.utils import cached_file

    try:
        return Path(str(cached_file(repo_id, file_name, subfolder=subfolder, **options)))
    except OSError as error:
        # Every failure of the Hub is the cause of this error; a repository that merely lacks the file has
        # none.
        if error.__cause__ is None:
            place = f" in {subfolder!r}" if subfolder else ""
            raise ValueError(
                f"The Hub repository {repo_id!r} is not a property space: it has no file {file_name}{place}."
            ) from error
        reason = " ".join(str(error).split())
        raise FileNotFoundError(
            f"Could not get the property space {repo_id!r} from the Hub: {reason} "
            f"(It is no local folder either; bundled names: {', '.join(bundled_names()) or 'none'}.)"
        ) from error


def read_space_files(json_path: Path, tensors_path: Path) -> dict[str, Any]:
    """Reads and type-checks the two files.

    Returns:
        The JSON fields without `format_version`, plus `property_embeddings` (num_properties, embedding_dim)
        float32 and `class_property_matrix` (num_classes, num_properties) uint8.

    Raises:
        ValueError: A file is damaged, of another format version, or has a field of the wrong type or size.
    """
    fields = _read_json(json_path)
    _check_version(json_path, fields)
    missing = sorted(_FIELDS - fields.keys())
    if missing:
        raise ValueError(f"{json_path}: the field {missing[0]!r} is missing.")
    for field in _TEXT_LIST_FIELDS:
        _check_text_list(json_path, field, fields[field])
    for field in ("name", "fingerprint"):
        _require(isinstance(fields[field], str), json_path, field, "must be a string", fields[field])
    for field in _DICT_FIELDS:
        _require(isinstance(fields[field], dict), json_path, field, "must be an object", fields[field])
    for class_name, texts in fields["descriptions"].items():
        _check_text_list(json_path, f"descriptions[{class_name!r}]", texts)
    for class_name, indices in fields["assignments"].items():
        ok = isinstance(indices, list) and all(type(index) is int for index in indices)
        _require(ok, json_path, f"assignments[{class_name!r}]", "must be a list of integers", indices)
    tensors = _read_tensors(tensors_path, len(fields["class_names"]), len(fields["property_names"]))
    return {field: fields[field] for field in _FIELDS if field != "format_version"} | tensors


def _require(condition: bool, path: Path, field: str, rule: str, value: object) -> None:
    if not condition:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise ValueError(f"{path}: the field {field!r} {rule}, got {shown}.")


def _check_text_list(path: Path, field: str, value: object) -> None:
    ok = isinstance(value, list) and all(isinstance(item, str) for item in value)
    _require(ok, path, field, "must be a list of strings", value)


def _read_json(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise ValueError(
            f"{path}: {size} bytes is too large for a property space (at most {MAX_JSON_BYTES})."
        )
    fields = parse_json(read_text(path, what="property space"), path, what="property space")
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: must hold a JSON object, got {type(fields).__name__}.")
    return fields


def _check_version(path: Path, fields: dict[str, Any]) -> None:
    version = fields.get("format_version")
    if version is None:
        raise ValueError(
            f"{path}: the field 'format_version' is missing, so this is no property space of format "
            f"{FORMAT_VERSION}; build it anew, or convert files of the reference with `prolab space import`."
        )
    _require(type(version) is int, path, "format_version", "must be an integer", version)
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {version} was written by a newer prolab_hf (this one reads format "
            f"{FORMAT_VERSION}); upgrade with `pip install -U prolab_hf`."
        )
    if version < FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version {version} is older than format {FORMAT_VERSION}, which this prolab_hf "
            "reads; build the space anew from its descriptions."
        )


def _read_tensors(path: Path, num_classes: int, num_properties: int) -> dict[str, torch.Tensor]:
    wanted = {"property_embeddings": "F32", "class_property_matrix": "U8"}
    tensors: dict[str, torch.Tensor] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = set(file.keys())
            for field, dtype in wanted.items():
                if field not in names:
                    raise ValueError(f"{path}: the tensor {field!r} is missing.")
                part = file.get_slice(field)
                shape = list(part.get_shape())
                _check_tensor_header(
                    path, field, (part.get_dtype(), dtype), shape, (num_classes, num_properties)
                )
                tensors[field] = file.get_tensor(field)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}).") from error
    return tensors


def _check_tensor_header(
    path: Path, field: str, dtypes: tuple[str, str], shape: list[int], sizes: tuple[int, int]
) -> None:
    num_classes, num_properties = sizes
    _require(dtypes[0] == dtypes[1], path, field, f"must have the type {dtypes[1]}", dtypes[0])
    _require(len(shape) == 2 and min(shape) > 0, path, field, "must be a non-empty table", shape)
    _require(shape[0] * shape[1] <= MAX_CELLS, path, field, f"must have at most {MAX_CELLS} cells", shape)
    if field == "class_property_matrix":
        rule = f"must have the shape [{num_classes}, {num_properties}] (class names, property names)"
        _require(shape == [num_classes, num_properties], path, field, rule, shape)
    else:
        rule = f"must have one row for each of the {num_properties} property names"
        _require(shape[0] == num_properties, path, field, rule, shape)


def write_space_files(space: SpaceContent, folder: Path) -> None:
    """Writes the two files, each through a temporary name, so that a crash leaves the old ones whole."""
    tensors = {
        "property_embeddings": space.property_embeddings.contiguous(),
        "class_property_matrix": space.class_property_matrix.to(torch.uint8).contiguous(),
    }
    fields: dict[str, Any] = {"format_version": FORMAT_VERSION, "name": space.name}
    fields |= {field: getattr(space, field) for field in (*_TEXT_LIST_FIELDS, *_DICT_FIELDS)}
    fields["fingerprint"] = space.fingerprint
    # Not save_file: it makes files that only their owner can read.
    write_bytes(folder / TENSORS_NAME, save(tensors, metadata={"format": "pt"}))
    text = json.dumps(fields, ensure_ascii=False, indent=1, allow_nan=False)
    # Index lists on one line each; a line break inside a JSON string is escaped, so only layout can match.
    text = re.sub(
        r"\[\n[\s\d,]+\]",
        lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"),
        text,
    )
    write_text(folder / JSON_NAME, text + "\n")
