"""A Hub that cannot be reached is asked once; what is in the cache is used, and the answer is one line."""

import socket

import pytest

from prolab_hf.cli import hub_client
from prolab_hf.cli.errors import explained


@pytest.fixture
def dead_hub(monkeypatch):
    """An address where nobody listens."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.utils._http import default_client_factory

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_client, "_failed_at", -hub_client.FORGET_SECONDS)
    hub_client.ask_hub_once()
    yield address
    huggingface_hub.set_client_factory(default_client_factory)


def test_a_dead_hub_is_asked_once(dead_hub, monkeypatch):
    from huggingface_hub import HfApi, get_session
    from huggingface_hub.errors import OfflineModeIsEnabled

    tries = []
    client = get_session()
    transport = client._transport
    monkeypatch.setattr(
        client, "_transport", type("Counting", (type(transport),), {
            "handle_request": lambda self, request: (tries.append(request), transport.handle_request(request))[1],
        })()
    )  # fmt: skip
    with pytest.raises(OfflineModeIsEnabled, match="could not be reached at http://127"):
        HfApi(endpoint=dead_hub, token=False).create_repo("user/model")
    with pytest.raises(OfflineModeIsEnabled, match="could not be reached") as caught:
        HfApi(endpoint=dead_hub, token=False).model_info("user/model")
    assert len(tries) == 1
    text, code = explained(caught.value)
    assert code == 1 and text.startswith("The Hub could not be reached at http://127")


def test_offline_mode_is_a_choice_of_the_user(monkeypatch):
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    text, code = explained(OfflineModeIsEnabled("Cannot reach"))
    assert code == 2 and "unset HF_HUB_OFFLINE" in text
