"""The written form of a label coding: command-line text, JSON files and their checks."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prolab_hf.files import parse_json, read_json

Color = tuple[int, int, int]
_INTEGER = re.compile(r"-?[0-9]{1,18}")  # int() would take "1_0", " 1" and digits of other scripts, too
KINDS: tuple[str, ...] = ("ids", "shifted", "table", "palette")


def read_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `LabelCoding` from JSON data.

    Raises:
        ValueError: If a field is unknown, missing or malformed.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"a label coding is an object with a kind, received {type(data).__name__}")
    allowed = {"kind", "ignore_index", "void_values", "table", "palette", "unlisted"}
    unknown = sorted(set(data) - allowed)
    if unknown:
        raise ValueError(f"label coding has unknown fields {unknown}; allowed are {sorted(allowed)}")
    if "kind" not in data:
        raise ValueError(f"label coding has no kind; choose one of {', '.join(KINDS)}")
    fields: dict[str, Any] = dict(data)
    if fields.get("table") is not None:
        fields["table"] = _unique(
            [(_raw_id(raw), to) for raw, to in _pairs(fields["table"])], "table", "the raw id"
        )
    if fields.get("palette") is not None:
        pairs = _pairs(fields["palette"], listed_by_class=True)
        fields["palette"] = _unique([(_color(raw), to) for raw, to in pairs], "palette", "the color")
    if fields.get("void_values") is not None:
        values = fields["void_values"]
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise ValueError(
                f"void_values is {values!r}; it must be a list of whole numbers, for example [255]"
            )
        fields["void_values"] = tuple(values)
    return fields


def _unique(pairs: list[tuple[Any, Any]], field: str, what: str) -> dict[Any, Any]:
    """A mapping of the pairs; the last one of two equal keys would win without a word."""
    mapping: dict[Any, Any] = {}
    for key, target in pairs:
        if key in mapping:
            raise ValueError(f"{field} lists {what} {key} twice; list each once")
        mapping[key] = target
    return mapping


def _raw_id(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and _INTEGER.fullmatch(raw):
        return int(raw)
    raise ValueError(f'table lists the raw id {raw!r}; raw ids are whole numbers, for example "7"')


def split_declaration(text: str) -> Any:
    """JSON data from the short form (`ids:void=11`), a JSON file or JSON text.

    Raises:
        ValueError: If the text cannot be read as a declaration.
        FileNotFoundError: If a named file does not exist.
    """
    text = text.strip()
    if text.startswith("{"):
        return _load_json(text)
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        if text.endswith(".json"):
            return _read_json(Path(text))
        raise ValueError(
            f"label coding {text!r} is unknown; use ids, ids:void=255, shifted, table:FILE.json, "
            "palette:FILE.json or a JSON file"
        )
    data: dict[str, Any] = {"kind": kind}
    for option in filter(None, rest.split(",")):
        key, equals, value = option.partition("=")
        if not equals and kind in ("table", "palette"):
            content = _read_json(Path(option))
            data.update(content if isinstance(content, dict) and kind in content else {kind: content})
        elif key == "void" and equals:
            data["void_values"] = [_whole_number(item, option) for item in value.split("+") if item]
        elif key == "ignore" and equals:
            data["ignore_index"] = _whole_number(value, option)
        elif key == "unlisted" and equals:
            data["unlisted"] = value
        else:
            raise ValueError(f"label coding option {option!r} is unknown; use void=, ignore= or unlisted=")
    return data


def _pairs(mapping: object, *, listed_by_class: bool = False) -> list[tuple[Any, Any]]:
    if isinstance(mapping, Mapping):
        return list(mapping.items())
    if listed_by_class and isinstance(mapping, Sequence) and not isinstance(mapping, str):
        return [(color, index) for index, color in enumerate(mapping)]
    raise ValueError(f"label coding expects a mapping, received {type(mapping).__name__}")


def _color(text: object) -> Color:
    parts: list[Any]
    if isinstance(text, str):
        if text.startswith("#"):
            if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
                raise ValueError(f"palette color {text!r} is not of the form #rrggbb")
            return int(text[1:3], 16), int(text[3:5], 16), int(text[5:], 16)
        parts = [part.strip() for part in text.strip("()[] ").split(",")]
        parts = [int(part) if _INTEGER.fullmatch(part) else part for part in parts]
    else:
        parts = list(text) if isinstance(text, Sequence) else [text]
    if len(parts) != 3 or any(isinstance(part, bool) or not isinstance(part, int) for part in parts):
        raise ValueError(f"palette color {text!r} is not three whole numbers; use '#rrggbb' or 'r,g,b'")
    return parts[0], parts[1], parts[2]


def _whole_number(text: str, option: str) -> int:
    if not _INTEGER.fullmatch(text.strip()):
        raise ValueError(f"label coding option {option!r} expects whole numbers, received {text!r}")
    return int(text)


def _read_json(path: Path) -> Any:
    return read_json(path, what="label coding")


def _load_json(text: str) -> Any:
    try:
        return parse_json(text, "the text", what="label coding")
    except ValueError as error:
        raise ValueError(f"the label coding given as text is not valid JSON: {error}") from error
