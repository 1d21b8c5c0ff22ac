"""The web page of `prolab demo`: its server, which shows one page over a `DemoSession` and loads nothing else."""

import base64
import hashlib
import importlib.resources
import ipaddress
import logging
import re
import secrets
import socket
import socketserver
import threading
from collections import OrderedDict
from collections.abc import Callable
from http.server import ThreadingHTTPServer

from prolab_hf.demo.requests import DemoHandler
from prolab_hf.demo.session import DemoSession
from prolab_hf.demo.uploads import MAX_UPLOAD_BYTES

logger = logging.getLogger(__name__)


class DemoServer(ThreadingHTTPServer):
    """Serves a demo, to every visitor a session of their own.

    Args:
        session: What the page shows to who comes first; others get sessions like it.
        host: Address to listen at.
        port: Port; 0 takes a free one.

    Attributes:
        url: Address for the browser.
        is_local: Whether only this machine can reach it.

    Raises:
        ValueError: If the address does not exist here or the port is taken.
        PermissionError: If the port is reserved for the administrator.
    """

    daemon_threads = True
    MAX_REQUESTS = 8
    """Requests that are answered at the same time; others wait, after their content was read."""
    MAX_HELD_BYTES = 8 * MAX_UPLOAD_BYTES
    """Of contents in memory, of all requests together; what would exceed it is refused."""
    MAX_VISITORS = 16
    """Whose images and classes are kept; the one who was away for longest is forgotten first."""

    def __init__(self, session: DemoSession, host: str = "127.0.0.1", port: int = 0) -> None:
        self.session = session
        self.room = threading.BoundedSemaphore(self.MAX_REQUESTS)
        self._visitors: OrderedDict[str, DemoSession] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self.page, self.policy = _load_page()
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), DemoHandler)
        except PermissionError as error:
            raise PermissionError(f"Port {port} is reserved; choose a --port above 1023.") from error
        except OSError as error:
            raise ValueError(
                f"Cannot listen at {host} port {port}: {error.strerror or error}. Choose another --port or --host."
            ) from error
        address = ipaddress.ip_address(str(self.server_address[0]))
        self.is_local = address.is_loopback
        shown = "127.0.0.1" if address.is_unspecified else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{self.server_port}/"

    def visitor(self, token: str | None) -> tuple[str, DemoSession]:
        """The session of a visitor, a new one for who comes without a token or with one that is not known.

        Args:
            token: What an earlier answer gave the visitor.

        Returns:
            The token to come back with, and the session.
        """
        with self._lock:
            if token is None or token not in self._visitors:
                token = secrets.token_hex(16)
                self._visitors[token] = self.session.of_another_visitor()
            self._visitors.move_to_end(token)
            while len(self._visitors) > self.MAX_VISITORS:
                self._visitors.popitem(last=False)
            return token, self._visitors[token]

    def hold(self, number: int) -> bool:
        """Counts bytes of contents in memory (negative when they are given free); false if there is no place."""
        with self._lock:
            if number > 0 and self._held_bytes + number > self.MAX_HELD_BYTES:
                return False
            self._held_bytes += number
            return True

    def server_bind(self) -> None:
        """Binds without asking a name server for this machine's name, as the standard library would."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A visitor who left is not an error worth a traceback on the console."""
        logger.debug("connection of %s broke off", client_address, exc_info=True)


def serve(session: DemoSession, host: str, port: int, *, say: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted (Ctrl-C), then returns.

    Args:
        session: What the page shows.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        say: Receives one line per event.

    Raises:
        ValueError: If the address does not exist here or the port is taken.
    """
    with DemoServer(session, host, port) as server:
        say(f"The demo runs at {server.url}  (stop it with Ctrl-C)")
        if not server.is_local:
            say(
                "Everybody who can reach this machine can use the page; --host 127.0.0.1 keeps it to yourself."
            )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("Stopping.")
    session.close()


def _load_page() -> tuple[bytes, str]:
    """The page and the policy that lets exactly its own script and style run."""
    text = importlib.resources.files("prolab_hf.demo").joinpath("page.html").read_text("utf-8")

    def hashes(tag: str) -> str:
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    policy = (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


__all__ = ["DemoServer", "serve"]
