"""How the demo's server reads requests and answers them.

Pictures and names come from outside, and any page in the visitor's browser can talk to a local port. So: no path
from a request reaches the disk, bodies are limited before they are read, and requests of other pages are refused.
"""

import json
import logging
import re
import socket
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from prolab_hf.demo.routes import ROUTES, RequestError, Route
from prolab_hf.demo.session import ImageGoneError
from prolab_hf.demo.uploads import MAX_UPLOAD_BYTES

logger = logging.getLogger(__name__)

MAX_JSON_BYTES = 64 * 2**10
MAX_DISCARDED_BYTES = 4 * MAX_UPLOAD_BYTES
"""Of a refused body: a browser shows our answer only after it could send what it wanted to send."""

COOKIE = "prolab_demo"
OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class DemoHandler(BaseHTTPRequestHandler):
    """One connection to a `DemoServer`."""

    server: Any
    protocol_version = "HTTP/1.1"
    server_version = "prolab-demo"
    sys_version = ""
    timeout = 30
    MAX_SECONDS = 60.0
    """For a whole content, however many pieces it comes in."""
    DISCARD_SECONDS = 10.0
    disable_nagle_algorithm = True  # head and content are two writes; the second would wait 40 ms

    def do_GET(self) -> None:
        """Every request: finds the route, reads the body it allows, answers in JSON."""
        self._cookie, self._held = "", 0
        self._body_is_read = "Transfer-Encoding" not in self.headers and self.headers.get(
            "Content-Length", "0"
        ) in ("", "0")
        try:
            self._require_own_page()
            path = urlsplit(self.path).path
            if path == "/":
                self._require_method({"GET", "HEAD"})
                page_headers = {"Content-Security-Policy": self.server.policy}
                self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8", page_headers)
                return
            route, values = self._route(path)
            answer = self._answer(route, values)
            self._send_json(HTTPStatus.OK, answer, {"Set-Cookie": self._cookie})
        except RequestError as error:
            self._send_json(error.status, {"error": str(error)}, error.headers)
        except ImageGoneError as error:
            self._send_json(HTTPStatus.GONE, {"error": str(error)})
        except (ValueError, FileNotFoundError, ImportError) as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": _one_line(error)})
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            logger.exception("the demo could not answer %s", self.requestline)
            self._send_json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": _failure(error)})

    do_HEAD = do_POST = do_DELETE = do_PUT = do_PATCH = do_OPTIONS = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what is no proper HTTP request; the standard library would send HTML."""
        self.close_connection = True
        self._body_is_read = True
        status = HTTPStatus(code)
        self._send_json(status, {"error": message or status.phrase})

    def log_message(self, format: str, *args: object) -> None:
        """To the log of the library, not to the console."""
        logger.debug(format, *args)

    def _answer(self, route: Route, values: list[str]) -> dict[str, Any]:
        """What the visitor's session says."""
        try:
            # Before a place is taken: who sends slowly must not keep others waiting.
            body = self._body(route)
            with self.server.room:
                token, session = self.server.visitor(self._token())
                # For this server only, for as long as the browser runs, out of reach of scripts and other sites.
                name = f"{COOKIE}_{self.server.server_port}"
                self._cookie = f"{name}={token}; Path=/; HttpOnly; SameSite=Strict"
                return route.answer(session, values, body)
        finally:
            self._release()

    def _token(self) -> str | None:
        """What the visitor was given before, if it has the right form."""
        name = f"{COOKIE}_{self.server.server_port}"
        found = re.search(rf"(?:^|;)\s*{name}=([0-9a-f]{{32}})\s*(?:;|$)", self.headers.get("Cookie", ""))
        return found[1] if found else None

    # ---- asking --------------------------------------------------------------------------------------------

    def _require_own_page(self) -> None:
        """Refuses what other web pages in the same browser send, also under a name that points to this machine."""
        host = _host_of(self.headers.get("Host", ""))
        if self.server.is_local and host not in OWN_HOSTS:
            raise RequestError(
                HTTPStatus.MISDIRECTED_REQUEST, f"This page is served as {self.server.url} only."
            )
        site = self.headers.get("Sec-Fetch-Site")
        origin = self.headers.get("Origin")
        if site is not None:
            # A link from elsewhere may open the page; nothing else may come from elsewhere.
            followed = self.command == "GET" and self.headers.get("Sec-Fetch-Mode") == "navigate"
            foreign = site not in ("same-origin", "none") and not followed
        else:
            foreign = origin is not None and urlsplit(origin).netloc != self.headers.get("Host")
        if foreign:
            raise RequestError(HTTPStatus.FORBIDDEN, "Requests of other web pages are not answered.")

    def _require_method(self, allowed: set[str]) -> None:
        if self.command not in allowed:
            listed = ", ".join(sorted(allowed))
            raise RequestError(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{self.command} is not possible here; allowed: {listed}.",
                {"Allow": listed},
            )

    def _route(self, path: str) -> tuple[Route, list[str]]:
        found = {route.method: (route, match) for route in ROUTES if (match := route.path.fullmatch(path))}
        if not found:
            raise RequestError(HTTPStatus.NOT_FOUND, "There is nothing at this address.")
        if self.command == "HEAD" and "GET" in found:
            found["HEAD"] = found["GET"]
        self._require_method(set(found))
        route, match = found[self.command]
        return route, [unquote(value) for value in match.groups()]

    def _body(self, route: Route) -> Any:
        """The content that a route asks for: nothing, bytes, or what the JSON says."""
        if route.body == "none":
            return None
        kind = self.headers.get_content_type()
        is_upload = route.body == "picture"
        if not (kind.startswith("image/") or kind == "application/octet-stream" if is_upload
                else kind == "application/json"):  # fmt: skip
            expected = "a picture (image/...)" if is_upload else "application/json"
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The content must be {expected}.")
        content = self._content(MAX_UPLOAD_BYTES if is_upload else MAX_JSON_BYTES)
        if is_upload:
            return content
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise RequestError(HTTPStatus.BAD_REQUEST, "The content is not valid JSON.") from None

    def _content(self, limit: int) -> bytes:
        length = self.headers.get("Content-Length")
        if length is None:
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "The request must say its Content-Length.")
        if not re.fullmatch(r"[0-9]{1,15}", length):
            raise RequestError(HTTPStatus.BAD_REQUEST, "The Content-Length is not a number.")
        if int(length) > limit:
            size = f"{limit // 2**20} MB" if limit >= 2**20 else f"{limit // 2**10} kB"
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The content is too large; the limit is {size}."
            )
        content = self._received(int(length))
        self._body_is_read = True
        return content

    def _received(self, length: int) -> bytes:
        """The content, counted as it comes; a slow sender holds little memory and no place."""
        deadline = time.monotonic() + self.MAX_SECONDS
        parts: list[bytes] = []
        while self._held < length:
            seconds = deadline - time.monotonic()
            try:
                self.connection.settimeout(max(0.01, min(seconds, self.timeout)))
                part = self.rfile.read1(min(length - self._held, 2**16)) if seconds > 0 else None
            except TimeoutError:
                part = None
            if part is None:
                raise RequestError(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"The content did not arrive within {self.MAX_SECONDS:g} seconds; send it again.",
                )
            if not part:
                raise ConnectionResetError("the sender left")
            if not self.server.hold(len(part)):
                raise RequestError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Too much is being sent at once; try again.",
                    {"Retry-After": "5"},
                )
            self._held += len(part)
            parts.append(part)
        self.connection.settimeout(self.timeout)
        return b"".join(parts)

    def _release(self) -> None:
        self.server.hold(-self._held)
        self._held = 0

    # ---- answering -----------------------------------------------------------------------------------------

    def _send_json(
        self, status: HTTPStatus, content: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        self._send(status, body.encode(), "application/json", headers)

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**SAFE_HEADERS, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if not self._body_is_read:
            self.send_header(
                "Connection", "close"
            )  # what was not read must not be taken for the next request
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if not self._body_is_read:
            self._discard()

    def _discard(self) -> None:
        """Reads and forgets the rest, so that the answer is not lost in a reset of the connection."""
        self.connection.settimeout(2)
        rest, deadline = MAX_DISCARDED_BYTES, time.monotonic() + self.DISCARD_SECONDS
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while rest > 0 and time.monotonic() < deadline and (part := self.rfile.read1(2**16)):
                rest -= len(part)
        except OSError:
            logger.debug("the sender of %s left", self.requestline)


def _host_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _failure(error: Exception) -> str:
    if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        return "The picture does not fit into memory; use a smaller one, or start the demo with --max-side."
    return f"The model failed: {_one_line(error)[:300]}"


__all__ = ["DemoHandler"]
