"""A patch: the edits of a session as JSON, to be reviewed, kept under version control and applied to another copy.

Beside an edited model lies `edits.json`, which tells them, and results that are older than the edits say so.
"""

from __future__ import annotations

import base64
import binascii
import shutil
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from prolab_hf.editing import property_edits
from prolab_hf.editing.edits import EDIT_KINDS, Edit
from prolab_hf.editing.effects import Measured
from prolab_hf.files import read_json_object, write_json
from prolab_hf.protocols import PathName
from prolab_hf.suggestions import did_you_mean

FORMAT_VERSION = 1
PATCH_KIND = "prolab_hf.space_patch"
RECORD = "edits.json"
EVALUATION = "evaluation.json"
BEFORE_EDITS = "before_edits"
"""Field of an evaluation: the edits that were made after it."""

_STILL_TRUE = ("README.md", "training_recipe.json", "training_log.jsonl")
"""Of the model that was edited; the generated parts of the card are renewed by `write_model_card`."""
_FIELDS = {"format_version", "kind", "base", "edits", "claim_budget", "result"}

# The edits of properties are registered when their module is imported.
assert property_edits.AddProperty.kind in EDIT_KINDS  # noqa: S101


@dataclass(frozen=True)
class SpacePatch:
    """Edits of a property space, with the fingerprints of what they start from and lead to.

    Attributes:
        base_fingerprint: Of the space that the edits start from.
        base_name: Its name.
        edits: The edits, with everything that the text encoder had to say: applying them needs none.
        claim_budget: What described classes may take in the end.
        result_fingerprint: Of the space that they lead to.
    """

    base_fingerprint: str
    base_name: str
    edits: tuple[Edit, ...]
    claim_budget: float | None
    result_fingerprint: str

    def to_dict(self) -> dict[str, object]:
        """JSON-ready; every edit stands there in its own words, with a sentence that tells it (`about`)."""
        return {
            "format_version": FORMAT_VERSION,
            "kind": PATCH_KIND,
            "base": {"name": self.base_name, "fingerprint": self.base_fingerprint},
            "edits": [{"about": edit.to_text(), **edit.to_dict()} for edit in self.edits],
            "claim_budget": self.claim_budget,
            "result": {"fingerprint": self.result_fingerprint},
        }

    def to_text(self) -> str:
        """The edits, one a line."""
        lines = [f"{number}. {edit.to_text()}" for number, edit in enumerate(self.edits, start=1)]
        head = f"{len(self.edits)} edits of the space {self.base_name or 'unnamed'} ({self.base_fingerprint[:12]})"
        return "\n".join([head, *lines])

    def save(self, path: PathName) -> None:
        """Writes the patch into a JSON file.

        Args:
            path: The file.
        """
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: PathName) -> SpacePatch:
        """Reads a patch from a JSON file.

        Args:
            path: The file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no such patch; the message names the field.
        """
        content = read_json_object(Path(path), what="patch")
        try:
            return cls.from_dict(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, content: Mapping[str, object]) -> SpacePatch:
        """The inverse of `to_dict`.

        Args:
            content: What the JSON holds.

        Raises:
            ValueError: It is no such patch; the message names the field.
        """
        if content.get("kind") != PATCH_KIND:
            raise ValueError(f"This is no patch of a property space: its kind is {content.get('kind')!r}.")
        version = content.get("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"The patch has format_version {version!r}, this version of prolab_hf reads {FORMAT_VERSION}; update "
                "prolab_hf, or make the patch with this version."
            )
        unknown = sorted(set(content) - _FIELDS)
        if unknown:
            raise ValueError(
                f"The patch has the unknown field {unknown[0]!r}{did_you_mean(unknown[0], _FIELDS)}"
            )
        base, result, edits = content.get("base"), content.get("result"), content.get("edits")
        if not isinstance(base, Mapping) or not isinstance(base.get("fingerprint"), str):
            raise ValueError("The patch lacks base.fingerprint, the space that it starts from.")
        if not isinstance(result, Mapping) or not isinstance(result.get("fingerprint"), str):
            raise ValueError("The patch lacks result.fingerprint, the space that it leads to.")
        if not isinstance(edits, list):
            raise ValueError(f"edits must be a list, got {type(edits).__name__}.")
        budget = content.get("claim_budget")
        if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int | float)):
            raise ValueError(f"claim_budget must be a number or null, got {budget!r}.")
        return cls(
            base_fingerprint=base["fingerprint"],
            base_name=str(base.get("name", "")),
            edits=tuple(_numbered_edit(index, item) for index, item in enumerate(edits)),
            claim_budget=budget,
            result_fingerprint=result["fingerprint"],
        )


def _numbered_edit(index: int, content: object) -> Edit:
    if not isinstance(content, Mapping):
        raise ValueError(f"edits[{index}] must be an object, got {type(content).__name__}.")
    try:
        return edit_from_dict(content)
    except ValueError as error:
        raise ValueError(f"edits[{index}]: {error}") from error


def edit_from_dict(content: Mapping[str, object]) -> Edit:
    """The inverse of `Edit.to_dict`.

    Args:
        content: What the JSON holds; `about` is not looked at.

    Raises:
        ValueError: There is no such edit, or a field is missing, unknown or of another type.
    """
    name = content.get("edit")
    if not isinstance(name, str) or name not in EDIT_KINDS:
        raise ValueError(
            f"There is no edit {name!r}{did_you_mean(name, EDIT_KINDS)} Allowed: {', '.join(EDIT_KINDS)}."
        )
    kind = EDIT_KINDS[name]
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    given = {key: value for key, value in content.items() if key not in ("edit", "about")}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{name} has no field {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    for key, item in known.items():
        if key not in given and item.default is MISSING:
            raise ValueError(f"{name} lacks the field {key!r}.")
    make: Callable[..., Edit] = kind
    return make(**{key: _value(value, hints[key], key) for key, value in given.items()})


def _value(value: object, hint: object, name: str) -> Any:
    """A JSON value as what a field of an edit holds."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = [each for each in get_args(hint) if each is not type(None)]
        return None if value is None else _value(value, inner[0], name)
    if hint is str:
        if isinstance(value, str):
            return value
        raise ValueError(f"{name} must be a string, got {value!r:.80}.")
    if hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        raise ValueError(f"{name} must be a number, got {value!r:.80}.")
    if hint is Tensor:
        return _vectors(value, name)
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, got {value!r:.80}.")
    if get_args(hint)[0] is str:
        return tuple(_value(each, str, f"{name}[{index}]") for index, each in enumerate(value))
    pairs = []
    for index, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{name}[{index}] must be a pair [sentence, property], got {pair!r:.80}.")
        pairs.append(tuple(_value(each, str, f"{name}[{index}]") for each in pair))
    return tuple(pairs)


def _vectors(value: object, name: str) -> Tensor:
    """Embeddings from base64: `(embedding_dim,)`, or `(2, embedding_dim)` of the two parts of a property."""
    try:
        if not isinstance(value, str):
            raise ValueError
        table = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
    except (ValueError, binascii.Error):
        raise ValueError(f"{name} must be base64 of float32 numbers, got {value!r:.60}.") from None
    if not table.size or not np.isfinite(table).all() or (name == "embeddings" and table.size % 2):
        raise ValueError(f"{name} must hold finite numbers of whole embeddings; it was cut off or damaged.")
    vectors = torch.from_numpy(table)
    return vectors.view(2, -1) if name == "embeddings" else vectors


def write_record(
    folder: Path,
    source: Path | None,
    patch: SpacePatch,
    sample: Measured,
) -> None:
    """Writes `edits.json` beside an edited model, and carries over what is known of the model before.

    An evaluation gets the field `before_edits`, which lists the edits; `prolab evaluate` writes one without.

    Args:
        folder: Of the edited model.
        source: Folder of the model before the edits; `None` where it has none here.
        patch: The edits.
        sample: What all edits together did on the calibration sample.

    Raises:
        ValueError: A file of the folders cannot be read.
    """
    edits = [edit.to_text() for edit in patch.edits]
    known = folder if source is None or not source.is_dir() else source
    earlier = _read(known / RECORD).get("edits", [])
    if not isinstance(earlier, list):
        raise ValueError(f"{known / RECORD}: edits must be a list, got {type(earlier).__name__}.")
    for name in (*_STILL_TRUE, *(() if edits else (RECORD,))):
        if known != folder and (known / name).is_file() and not (folder / name).exists():
            shutil.copyfile(known / name, folder / name)
    place = known if (known / EVALUATION).is_file() else folder
    evaluation = _read(place / EVALUATION)
    if evaluation:
        if edits:
            marked = evaluation.get(BEFORE_EDITS)
            evaluation[BEFORE_EDITS] = [*(marked if isinstance(marked, list) else ()), *edits]
        write_json(folder / EVALUATION, evaluation)
    if edits:
        record = {
            "edits": [*earlier, *edits],
            "base": {"name": patch.base_name, "fingerprint": patch.base_fingerprint},
            "result": {"fingerprint": patch.result_fingerprint},
            "claim_budget": patch.claim_budget,
            "calibration_sample": sample.to_dict(),
        }
        write_json(folder / RECORD, record)


def _read(path: Path) -> dict[str, object]:
    return read_json_object(path, what="record") if path.is_file() else {}


__all__ = ["SpacePatch", "edit_from_dict", "write_record"]
