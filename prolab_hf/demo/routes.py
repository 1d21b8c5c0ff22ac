"""What the demo's server answers: addresses, what may be sent to them, and the session's part of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from prolab_hf.demo.session import DemoSession

Answer = Callable[[DemoSession, list[str], Any], dict[str, Any]]


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        status: The HTTP status.
        message: One line for the visitor.
        headers: Further headers of the answer.
    """

    def __init__(self, status: HTTPStatus, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Route:
    """One address of the server.

    Attributes:
        method: HTTP method.
        path: Expression for the whole path; its groups are the values.
        body: What the request carries.
        answer: Function of the session, the values of the path and the body.
    """

    method: str
    path: re.Pattern[str]
    body: Literal["none", "json", "picture"]
    answer: Answer


def read_field(body: Any, name: str, kind: type, default: Any = None) -> Any:
    """A checked value out of a JSON object.

    Args:
        body: What the JSON said.
        name: The field.
        kind: Its type; a number is an integer of reasonable size.
        default: Value if it is absent; without one the field is required.

    Raises:
        RequestError: If it is missing or has another type.
    """
    value = body.get(name, default) if isinstance(body, dict) else None
    # bool is an int to Python, but true is no number to JSON.
    if type(value) is kind and not (isinstance(value, int) and abs(value) > 10**9):
        return value
    words = {str: "a text", int: "a whole number", list: "a list"}
    raise RequestError(HTTPStatus.BAD_REQUEST, f"The field {name!r} must be {words[kind]}.")


def _explain(session: DemoSession, values: list[str], body: Any) -> dict[str, Any]:
    class_name = read_field(body, "class", str, "") or None
    x, y = read_field(body, "x", int), read_field(body, "y", int)
    return session.explain(values[0], x, y, class_name=class_name)


def _add_class(session: DemoSession, values: list[str], body: Any) -> dict[str, Any]:
    properties, sentences = read_field(body, "properties", list, []), read_field(body, "sentences", list, [])
    if not all(type(index) is int for index in properties):
        raise RequestError(HTTPStatus.BAD_REQUEST, "The field 'properties' must hold whole numbers.")
    if not all(type(text) is str for text in sentences):
        raise RequestError(HTTPStatus.BAD_REQUEST, "The field 'sentences' must hold texts.")
    return session.add_class(read_field(body, "name", str), properties=properties, sentences=sentences)


def _route(
    method: str, path: str, answer: Answer, body: Literal["none", "json", "picture"] = "none"
) -> Route:
    return Route(method, re.compile(path), body, answer)


_IMAGE = r"/api/pictures/([0-9a-f]{16})"

ROUTES = (
    _route("GET", "/api/state", lambda session, values, body: session.state()),
    _route("POST", "/api/pictures", lambda session, values, body: session.add_upload(body), "picture"),
    _route(
        "POST",
        "/api/samples",
        lambda session, values, body: session.add_sample(read_field(body, "number", int)),
        "json",
    ),
    _route("GET", _IMAGE, lambda session, values, body: session.result(values[0])),
    _route("POST", _IMAGE + "/explain", _explain, "json"),
    _route(
        "GET",
        _IMAGE + r"/properties/([0-9]{1,6})",
        lambda session, values, body: session.property_map(values[0], int(values[1])),
    ),
    _route("POST", "/api/classes", _add_class, "json"),
    _route("DELETE", "/api/classes/([^/]+)", lambda session, values, body: session.remove_class(values[0])),
)

__all__ = ["ROUTES", "RequestError", "Route"]
