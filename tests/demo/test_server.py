"""The running server: slow and silent clients, thirty visitors at once, and the command that starts it."""

import json
import re
import socket
import threading
import time

import httpx2
import numpy as np
import pytest
from page_visitors import as_file, running
from PIL import Image

from prolab_hf.cli import run
from prolab_hf.demo import DemoModel, DemoServer, endpoints
from prolab_hf.demo import server as server_module

START = b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
HEAD = START + b"Content-Length: 999\r\n\r\nx"


@pytest.fixture(scope="module")
def models(make_model, processor):
    return [DemoModel(make_model(), processor, name="tiny")]


def connect(server, **options):
    connection = socket.socket()
    for name, value in options.items():
        connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    connection.settimeout(20)
    connection.connect(server.socket.getsockname())
    return connection


def ended(connection):
    """What came before the other side ended the connection."""
    received = b""
    try:
        while part := connection.recv(2**16):
            received += part
    except ConnectionResetError:
        pass
    connection.close()
    return received


def test_slow_and_silent_clients_keep_nobody_waiting_and_are_ended(models, image, monkeypatch):
    monkeypatch.setattr(endpoints, "BODY_SECONDS", 2.0)
    monkeypatch.setattr(server_module, "CLIENT_SECONDS", 2.0)
    with running(models) as server:
        bodies = [connect(server) for _ in range(20)]
        for connection in bodies:
            connection.sendall(HEAD)
        silent = [connect(server) for _ in range(20)]
        heads = [connect(server) for _ in range(20)]
        start = time.monotonic()
        client = httpx2.Client(base_url=server.url, timeout=20)
        content, kind = as_file(image), {"Content-Type": "image/png"}
        for _ in range(5):
            for connection in heads:
                connection.sendall(b"G" if connection not in bodies else b"")
            assert client.post("api/upload", content=content, headers=kind).status_code == 200
            time.sleep(0.2)
        answered = time.monotonic() - start
        assert all(b" 408 " in ended(connection).split(b"\r\n")[0] for connection in bodies)
        assert all(ended(connection) == b"" for connection in silent)
        assert all(ended(connection) == b"" for connection in heads)
        assert answered < 10 and time.monotonic() - start < 15
        client.close()


def test_who_does_not_read_is_ended(models, monkeypatch):
    monkeypatch.setattr(server_module, "CLIENT_SECONDS", 1.0)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 1000, 3), dtype=np.uint8))
    with running(models) as server:
        content = as_file(noise)
        head = START + b"Content-Length: %d\r\n\r\n" % len(content)
        connection = connect(server, SO_RCVBUF=4096)
        connection.sendall(head + content)  # the answer holds more than buffers of the system take
        deadline = time.monotonic() + 15
        while server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not server.server_state.connections
        connection.close()


def test_a_refused_body_is_not_waited_for(models, monkeypatch):
    monkeypatch.setattr(server_module, "CLIENT_SECONDS", 1.0)
    head = START + b"Content-Length: 999999999999\r\n\r\n"
    with running(models) as server:
        connection = connect(server)
        connection.sendall(head)
        start = time.monotonic()
        assert b" 413 " in connection.recv(2**16).split(b"\r\n")[0], "answered although nothing was sent"
        with pytest.raises(OSError):
            while time.monotonic() - start < 15:
                connection.sendall(b"x" * 100)
                time.sleep(0.05)
        assert time.monotonic() - start < 15
        connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 2**17 + b"\r\n\r\n",
        b"POST /api/state HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/state HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}",
        b"POST /api/state HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["garbage", "version", "no host", "null", "long header", "negative", "two lengths", "chunk", "tls"],
)
def test_what_is_no_request_is_refused(shared, sent):
    connection = connect(shared)
    try:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    received = ended(connection)
    assert re.match(rb"HTTP/1.1 4\d\d ", received) or received == b"", received[:80]
    assert httpx2.post(f"{shared.url}api/state", json={}).status_code == 200


@pytest.fixture(scope="module")
def shared(models):
    with running(models) as server:
        yield server


def test_a_kept_connection_survives_refusals(shared):
    with httpx2.Client(base_url=shared.url) as client:
        for path, status in (("api/state", 200), ("nothing", 404), ("api/sample", 400), ("api/state", 200)):
            answer = client.post(path, json={})
            assert answer.status_code == status
            assert "close" not in answer.headers.get("connection", "")


def test_thirty_visitors_at_once(shared, image):
    counts, problems = [], []
    meet = threading.Barrier(30)

    def visit(number):
        with httpx2.Client(base_url=shared.url, timeout=120) as client:

            def ask(path, **fields):
                answer = client.post(f"api/{path}", json=fields)
                counts.append(answer.status_code)
                return answer.json()

            try:
                meet.wait()
                assert len(ask("state")["models"][0]["classes"]) == 5
                content = as_file(image.rotate(3 * number))
                answer = client.post("api/upload", content=content, headers={"Content-Type": "image/png"})
                counts.append(answer.status_code)
                key = answer.json()["key"]
                edit = {
                    "edit": "add_class",
                    "name": f"mine {number}",
                    "properties": ["property 0", "property 3"],
                }
                edited = ask("edit", edits=[edit], image=key)
                assert ask("result", image=key) == edited["result"]
                ask("explain", image=key, point=[number, number])
                ask("property", image=key, index=number % 8)
                names = [one["name"] for one in ask("state")["models"][0]["classes"]]
                assert names[5:] == [f"mine {number}"]
                back = ask("edit", edits=[{"edit": "undo"}], image=key)
                assert back["result"]["runs"] == answer.json()["result"]["runs"]
            except Exception as error:  # told by the test, not by a thread
                problems.append(f"visitor {number}: {error!r}")

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert counts == [200] * (8 * 30)


@pytest.fixture(scope="module")
def saved(make_model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "tiny"
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_the_command_serves_until_it_is_interrupted(saved, monkeypatch, capsys):
    asked = []

    def interrupted(server):
        app = server.config.app
        _, session = app.state.visitors.session(None)
        asked.append(
            (
                server.socket.getsockname()[0],
                server.is_local,
                [one["name"] for one in session.state()["models"]],
            )
        )
        server.socket.close()
        raise KeyboardInterrupt

    opened = []
    monkeypatch.setattr(DemoServer, "run", interrupted)
    monkeypatch.setattr(server_module.webbrowser, "open", opened.append)
    assert run(["demo", "--model", str(saved), "--port", "0"]) == 0
    printed = capsys.readouterr().out
    assert asked == [("127.0.0.1", True, ["tiny"])]
    assert re.search(r"http://127\.0\.0\.1:\d+/", printed) and "Everybody" not in printed
    assert run(["demo", "-m", str(saved), "-m", str(saved), "--port", "0", "--host", "0.0.0.0"]) == 0
    assert "Everybody who can reach this machine" in capsys.readouterr().out
    assert len(asked[1][2]) == 2 and opened == []
    assert run(["demo", "--model", str(saved), "--port", "0", "--browser"]) == 0
    assert len(opened) == 1 and opened[0] in capsys.readouterr().out


def test_only_the_public_name_and_this_machine_are_answered(models):
    with running(
        models, host="0.0.0.0", public_name="me-demo.spaces.example", embed_in="https://hub.example"
    ) as server:
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}/"
        found = [httpx2.get(url, headers={"Host": name}).status_code
                 for name in ("me-demo.spaces.example", "localhost", "evil.example")]  # fmt: skip
    assert found == [200, 200, 400]


def test_mistakes_on_the_command_line(saved, tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run(["demo", "--model", str(saved), "--port", port]) == 2
    assert f"port {port}: Address already in use. Choose another --port" in capsys.readouterr().err
    assert run(["demo", "--model", str(tmp_path / "none")]) == 2
    assert "There is no model folder" in capsys.readouterr().err
    assert run(["demo", "--model", str(saved), "--encoder", str(tmp_path / "none")]) == 2
    assert "Could not load the text encoder" in capsys.readouterr().err
    assert run(["demo", *["--model", str(saved)] * 3]) == 2
    assert "3 models were given" in capsys.readouterr().err


def test_errors_of_answers_are_json(shared):
    answer = httpx2.post(f"{shared.url}api/upload", content=b"x", headers={"Content-Type": "text/html"})
    assert answer.status_code == 415 and json.loads(answer.text)["error"]
