"""The web page of `prolab demo`, served by uvicorn until it is interrupted."""

import asyncio
import ipaddress
import socket
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from prolab_hf.demo.app import demo_app
from prolab_hf.demo.demo_model import DemoModel

CLIENT_SECONDS = 20.0
"""For the head of a request, for a body that nobody waits for any more, and between two parts of an answer."""
MAX_CONNECTIONS = 512
OWN_HOSTS = ("localhost", "127.0.0.1", "[::1]", "::1")


class ImpatientProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, which ends connections whose other side is silent where it should send or read."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connects, and owes the head of a request."""
        super().connection_made(transport)
        self._wait_for_client()

    def handle_events(self) -> None:
        """Something came: either a whole head, or its sender owes the rest."""
        super().handle_events()
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
            self._wait_for_client()
        elif not self.flow.write_paused:
            self._stop_waiting()  # the application has deadlines of its own

    def pause_writing(self) -> None:
        """The other side does not read."""
        super().pause_writing()
        self._wait_for_client()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_client(self) -> None:
        if self._deadline is None:  # a byte now and then does not prolong it
            self._deadline = self.loop.call_later(CLIENT_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class DemoServer(uvicorn.Server):
    """Serves a demo.

    Args:
        models: What the page shows.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        public_name: Host name under which others reach it, behind a proxy; requests to other names are refused.
        embed_in: Origin of a site that may show the page in a frame, such as `"https://huggingface.co"`.
        **options: Of `demo_app`.

    Attributes:
        url: Address for the browser.
        is_local: Whether only this machine can reach it.

    Raises:
        ValueError: If the address does not exist here or the port is taken.
        PermissionError: If the port is reserved for the administrator.
    """

    def __init__(
        self,
        models: Sequence[DemoModel],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        public_name: str = "",
        embed_in: str = "",
        **options: Any,
    ) -> None:
        self.socket = _listening(host, port)
        number = self.socket.getsockname()[1]
        address = ipaddress.ip_address(self.socket.getsockname()[0])
        self.is_local = address.is_loopback
        shown = "127.0.0.1" if address.is_unspecified else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{number}/"
        names = [public_name, *OWN_HOSTS] if public_name else OWN_HOSTS if self.is_local else ["*"]
        app = demo_app(models, hosts=names, cookie=f"prolab_demo_{number}", embed_in=embed_in, **options)
        super().__init__(
            uvicorn.Config(
                app,
                http=ImpatientProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # what the application cannot answer is logged by it
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=5,
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until it is interrupted."""
        super().run([self.socket])


def serve(
    models: Sequence[DemoModel],
    host: str,
    port: int,
    *,
    say: Callable[[str], None],
    browser: bool = False,
    **options: Any,
) -> None:
    """Serves the page until it is interrupted (Ctrl-C), then returns.

    Args:
        models: What the page shows.
        host: Address to listen at.
        port: Port; 0 takes a free one.
        say: Receives one line per event.
        browser: Whether the page is opened in this machine's browser.
        **options: Of `DemoServer`.

    Raises:
        ValueError: If the address does not exist here or the port is taken.
    """
    server = DemoServer(models, host, port, **options)
    say(f"The demo runs at {server.url}  (stop it with Ctrl-C)")
    if not server.is_local:
        say("Everybody who can reach this machine can use the page; --host 127.0.0.1 keeps it to yourself.")
    if browser:
        webbrowser.open(server.url)  # the socket listens already; the page comes when the server runs
    with suppress(KeyboardInterrupt):
        server.run()
    say("Stopped.")


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket: a port that is taken is known before anything is loaded or said."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except PermissionError as error:
        raise PermissionError(f"Port {port} is reserved; choose a --port above 1023.") from error
    except OSError as error:
        reason = str(error.strerror or error).partition(" (")[0]
        raise ValueError(
            f"Cannot listen at {host} port {port}: {reason}. Choose another --port or --host."
        ) from error


__all__ = ["DemoServer", "serve"]
