"""The JSON object of a request as the arguments of the method that answers it, checked by the method's own hints."""

import inspect
import json
from collections.abc import Callable
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from starlette.exceptions import HTTPException

MAX_NUMBER = 10**9
MAX_LIST = 4096
WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    tuple: "a pair",
}


def read_arguments(method: Callable[..., object], content: bytes) -> dict[str, Any]:
    """What a request hands to a method; what is not as it should be is answered with status 400.

    Args:
        method: Its arguments have hints: `str`, `int`, `float`, `dict`, lists and tuples of them, or `None` besides.
        content: The JSON text.

    Raises:
        HTTPException: If it is no JSON object, or a field is missing, unknown or of another kind.
    """
    try:
        values = json.loads(content)
        json.dumps(values, ensure_ascii=False).encode()  # halves of characters could not be sent back
    except (ValueError, RecursionError):
        raise HTTPException(400, "The content is not valid JSON.") from None
    if not isinstance(values, dict):
        raise HTTPException(400, "The content must be a JSON object.")
    hints, required = _signature(method)
    for name in values.keys() - hints.keys():
        raise HTTPException(400, f"There is no field {name[:40]!r}; there are {', '.join(hints) or 'none'}.")
    for name in required - values.keys():
        raise HTTPException(400, f"The field {name!r} is missing.")
    return {name: _value(value, hints[name], name) for name, value in values.items()}


@cache
def _signature(method: Callable[..., object]) -> tuple[dict[str, Any], set[str]]:
    """Hints of the arguments behind `self`, and the names of those that are required."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    hints = get_type_hints(method)
    required = {one.name for one in parameters if one.default is inspect.Parameter.empty}
    return {one.name: hints[one.name] for one in parameters}, required


def _value(value: object, hint: Any, name: str) -> Any:
    """The value, with tuples for lists where the hint says so."""
    choices = [hint] if get_origin(hint) in (None, list, tuple, dict) else list(get_args(hint))
    if value is None and type(None) in choices:
        return None
    inner, kind = get_args(choices[0]), get_origin(choices[0]) or choices[0]
    if kind in (list, tuple) and isinstance(value, list) and len(value) <= MAX_LIST:
        parts = inner if kind is tuple else inner * len(value)
        if len(parts) == len(value):
            return kind(_value(one, part, name) for one, part in zip(value, parts))
    # bool is an int to Python, but true is no number to JSON; nan is larger and smaller than nothing.
    elif kind in (int, float) and isinstance(value, int | float) and type(value) in (int, kind):
        if -MAX_NUMBER <= value <= MAX_NUMBER:
            return kind(value)
    elif kind in (str, dict) and isinstance(value, kind):
        return value
    raise HTTPException(400, f"The field {name!r} must be {WORDS[kind]}, or hold such, of a reasonable size.")


__all__ = ["read_arguments"]
