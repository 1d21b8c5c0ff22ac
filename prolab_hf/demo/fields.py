"""The JSON object of a request, read field by field."""

import json
from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException

MAX_NUMBER = 10**9
MAX_LIST = 4096


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_whole(value: object) -> bool:
    # bool is an int to Python, but true is no number to JSON.
    return type(value) is int and abs(value) <= MAX_NUMBER


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and abs(value) <= MAX_NUMBER)  # also no nan


def _is_point(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


class Fields:
    """Checked values of a JSON object; what is not as it should be is answered with status 400.

    Args:
        content: The JSON text.

    Raises:
        HTTPException: If it is no JSON object.
    """

    def __init__(self, content: bytes) -> None:
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            raise HTTPException(400, "The content is not valid JSON.") from None
        if not isinstance(values, dict):
            raise HTTPException(400, "The content must be a JSON object.")
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without a default it is required."""
        value: str = self._value(name, default, _is_text, "a text")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value: int = self._value(name, default, _is_whole, "a whole number")
        return value

    def objects(self, name: str) -> list[dict[str, Any]]:
        """A list of JSON objects."""
        return self._list(name, _is_object, "objects")

    def points(self, name: str) -> list[tuple[float, float]]:
        """A list of pairs of numbers."""
        return [(float(x), float(y)) for x, y in self._list(name, _is_point, "pairs of numbers")]

    def _value(self, name: str, default: object, fits: Callable[[object], bool], what: str) -> Any:
        value = self._values.get(name, default)
        if not fits(value):
            raise HTTPException(400, f"The field {name!r} must be {what}.")
        return value

    def _list(self, name: str, fits: Callable[[object], bool], what: str) -> list[Any]:
        values = self._values.get(name, [])
        if not isinstance(values, list) or len(values) > MAX_LIST:
            raise HTTPException(400, f"The field {name!r} must be a list of at most {MAX_LIST} {what}.")
        if not all(map(fits, values)):
            raise HTTPException(400, f"The field {name!r} must hold {what}.")
        return values


__all__ = ["Fields"]
