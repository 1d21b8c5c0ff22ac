"""Visitors of the demo page, and a running server."""

import io
import threading
import time
from contextlib import contextmanager

import numpy as np
from starlette.testclient import TestClient

from prolab_hf.demo import DemoServer


def as_file(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def labels_of(result, facts):
    """The label map `(height, width)` of an answer's runs."""
    runs = np.array(result["runs"]).reshape(-1, 2)
    return np.repeat(runs[:, 0], runs[:, 1]).reshape(facts["height"], facts["width"])


class Visitor:
    """Somebody with cookies of their own."""

    def __init__(self, app, host="localhost"):
        self.client = TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)

    def ask(self, path, /, **fields):
        answer = self.client.post(f"/api/{path}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refusal(self, path, /, **fields):
        return self.refused(self.client.post(f"/api/{path}", json=fields))

    @staticmethod
    def refused(answer):
        """Status and message of an error, which is one line of JSON."""
        error = answer.json()
        assert list(error) == ["error"] and "\n" not in error["error"], error
        return answer.status_code, error["error"]

    def upload(self, content, kind="image/png", **headers):
        answer = self.client.post("/api/upload", content=content, headers={"Content-Type": kind, **headers})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def edit(self, *edits, **fields):
        return self.ask("edit", edits=list(edits), **fields)


@contextmanager
def running(models, **options):
    """A server on a free loopback port, in a thread."""
    server = DemoServer(models, **options)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield server
    finally:
        server.should_exit = True
        thread.join()
