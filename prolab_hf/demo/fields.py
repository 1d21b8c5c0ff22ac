"""The JSON object of a request as the arguments of the method that answers it, checked by the method's own hints."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, TypeAlias, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.exceptions import HTTPException

MAX_NUMBER = 10**9
Number: TypeAlias = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Coordinate: TypeAlias = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Corner: TypeAlias = tuple[Coordinate, Coordinate]
"""Column and row; beyond these numbers nothing could be drawn."""


def read_arguments(method: Callable[..., object], content: bytes) -> dict[str, Any]:
    """What a request hands to a method; what is not as it should be is answered with status 400.

    Args:
        method: Its arguments have hints that pydantic knows.
        content: The JSON text.

    Raises:
        HTTPException: If it is no JSON object, or a field is missing, unknown or of another kind.
    """
    try:
        found = _fields_of(method).model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        text = f"The field {place!r}: {first['msg']}." if place else f"The content: {first['msg']}."
        raise HTTPException(400, text) from None
    return {name: getattr(found, name) for name in found.model_fields_set}


@cache
def _fields_of(method: Callable[..., object]) -> type[BaseModel]:
    """The arguments behind `self` as fields; numbers are not read out of texts, nor truth as numbers."""
    hints = get_type_hints(method, include_extras=True)
    fields: dict[str, Any] = {
        one.name: (hints[one.name], ... if one.default is one.empty else one.default)
        for one in list(inspect.signature(method).parameters.values())[1:]
    }
    return create_model(
        "Fields", __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False), **fields
    )


__all__ = ["Corner", "Number", "read_arguments"]
