"""The written form of a label coding: command-line text, JSON files and their checks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Color = tuple[int, int, int]
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
    fields = dict(data)
    try:
        if fields.get("table") is not None:
            pairs = _pairs(fields["table"])
            fields["table"] = {int(raw): None if to is None else int(to) for raw, to in pairs}
        if fields.get("palette") is not None:
            pairs = _pairs(fields["palette"], listed_by_class=True)
            fields["palette"] = {_color(raw): None if to is None else int(to) for raw, to in pairs}
        if fields.get("void_values") is not None:
            fields["void_values"] = tuple(int(value) for value in fields["void_values"])
        if "ignore_index" in fields:
            fields["ignore_index"] = int(fields["ignore_index"])
    except (TypeError, AttributeError) as error:
        raise ValueError(f"label coding is malformed: {error}") from error
    if "kind" not in fields:
        raise ValueError(f"label coding has no kind; choose one of {', '.join(KINDS)}")
    return fields


def split_declaration(text: str) -> Any:
    """JSON data from the short form (`ids:void=11`), a JSON file or JSON text.

    Raises:
        ValueError: If the text cannot be read as a declaration.
        FileNotFoundError: If a named file does not exist.
    """
    text = text.strip()
    if text.startswith("{"):
        return _load_json(text, "the label coding given as text")
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


def _pairs(mapping: Any, *, listed_by_class: bool = False) -> list[tuple[Any, Any]]:
    if isinstance(mapping, Mapping):
        return list(mapping.items())
    if listed_by_class and isinstance(mapping, Sequence) and not isinstance(mapping, str):
        return [(color, index) for index, color in enumerate(mapping)]
    raise ValueError(f"label coding expects a mapping, received {type(mapping).__name__}")


def _color(text: Any) -> Color:
    if isinstance(text, str):
        digits = text.removeprefix("#")
        if text.startswith("#") and len(digits) == 6:
            try:
                return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
            except ValueError:
                raise ValueError(f"palette color {text!r} is not of the form #rrggbb") from None
        parts: Sequence[Any] = text.strip("()[] ").split(",")
    else:
        parts = list(text)
    if len(parts) != 3:
        raise ValueError(f"palette color {text!r} is not three numbers; use '#rrggbb' or 'r,g,b'")
    red, green, blue = (int(part) for part in parts)
    return red, green, blue


def _whole_number(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"label coding option {option!r} expects whole numbers, received {text!r}") from None


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"label coding file {path} does not exist")
    return _load_json(path.read_text(encoding="utf-8"), str(path))


def _load_json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not valid JSON: {error}") from error
