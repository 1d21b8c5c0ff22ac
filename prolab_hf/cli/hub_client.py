"""The Hub's client for the time of a command: a Hub that cannot be reached is asked once, not for a minute."""

import time
from typing import Any

FORGET_SECONDS = 60.0
"""After so long a connection is tried again: a training may find the network back when it ends."""

_failed_at = -FORGET_SECONDS


def ask_hub_once() -> None:
    """Ends a request when no connection can be made, where the client would try for 20 seconds, for every file.

    What is in the local cache is used then, as in offline mode. Errors after a connection was made are still retried.
    """
    from huggingface_hub import set_client_factory

    set_client_factory(_client)


def _client() -> Any:
    """The client's own default, whose `send` knows when to stop."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    # httpx or its successor, as huggingface_hub's version has it.
    library = __import__(type(client).__module__.partition(".")[0])
    send = client.send

    def send_once(request: Any, **options: Any) -> Any:
        global _failed_at
        address = f"{request.url.scheme}://{request.url.netloc.decode('ascii', 'replace')}"
        text = f"The Hub could not be reached at {address}"
        if time.monotonic() - _failed_at < FORGET_SECONDS:
            raise OfflineModeIsEnabled(f"{text}.")
        try:
            return send(request, **options)
        except (library.ConnectError, library.ConnectTimeout) as error:
            _failed_at = time.monotonic()
            raise OfflineModeIsEnabled(f"{text} ({' '.join(str(error).split())}).") from error

    client.send = send_once  # type: ignore[method-assign]
    return client
