"""What the page's server refuses: hostile files, names, addresses, bodies and other web pages."""

import json
import struct
import zlib

import numpy as np
import pytest
from page_visitors import Visitor, as_file
from PIL import Image

from prolab_hf.demo import DemoModel, DemoSession, demo_app, endpoints
from prolab_hf.demo.visitors import Visitors, WorkQueue


def bomb():
    """A PNG of a few bytes that says it has 30,000 x 30,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunks = ((13, header), (0, b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", size) + chunk + struct.pack(">I", zlib.crc32(chunk)) for size, chunk in chunks
    )


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no image at all", "not an image that can be read; use JPEG, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (as_file(noise(64, 64))[:3000], "damaged"),
        (as_file(noise(64, 64), "JPEG")[:700], "damaged"),
        (bomb(), "too large"),
        (as_file(Image.new("1", (9000, 8000))), "9000 x 8000 pixels, the limit is 64 million"),
        (as_file(noise(5, 40)), "at least 16"),
        (as_file(noise(20, 3000)), "after reducing"),
    ],
    ids=[
        "empty",
        "text",
        "svg",
        "postscript",
        "cut png",
        "cut jpeg",
        "bomb",
        "many pixels",
        "narrow",
        "long",
    ],
)
def test_bad_uploads(refusing, content, message):
    answer = refusing.client.post("/api/upload", content=content, headers={"Content-Type": "image/png"})
    status, error = refusing.refused(answer)
    assert status == 400 and message in error
    assert refusing.ask("state")["images"] == [], "the server lives on"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("..%2F..%2Fetc%2Fpasswd", "../../etc/passwd"),
        ("%3Cscript%3Ealert(1)%3C%2Fscript%3E.png", "<script>alert(1)</script>.png"),
        ("a%0d%0aSet-Cookie%3A%20x%3D1", "a Set-Cookie: x=1"),
        ("%ff%fe", "\ufffd\ufffd"),
        ("x" * 5000, "x" * 120),
    ],
)
def test_hostile_file_names_are_text(visitor, image, name, shown):
    facts = visitor.upload(as_file(image), **{"X-File-Name": name})
    assert facts["name"] == shown
    answer = visitor.client.post("/api/download", json={"image": facts["key"], "kind": "labels.json"})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="labels.json"'
    assert answer.json()["images"][0]["file_name"] == shown


def test_bodies_are_limited(refusing, monkeypatch):
    large = {"Content-Type": "image/png"}
    answer = refusing.client.post("/api/upload", content=bytes(26 * 2**20), headers=large)
    assert answer.status_code == 413
    chunks = (bytes(2**20) for _ in range(30))  # without a Content-Length
    assert refusing.client.post("/api/upload", content=chunks, headers=large).status_code == 413
    assert refusing.client.post("/api/state", content=b" " * 2**17, headers={"Content-Type": "application/json"}
                                ).status_code == 413  # fmt: skip
    claimed = {"Content-Type": "image/png", "Content-Length": str(10**12)}
    assert refusing.client.post("/api/upload", content=b"x", headers=claimed).status_code == 413
    assert refusing.ask("state")["images"] == []


def test_bodies_in_memory_are_limited_together(visitor, image, monkeypatch):
    content = as_file(image)
    monkeypatch.setattr(endpoints, "MAX_HELD_BYTES", len(content) + 100)
    for _ in range(3):
        visitor.upload(content)  # what is answered is given free
    answer = visitor.client.post(
        "/api/upload", content=content + bytes(200), headers={"Content-Type": "image/png"}
    )
    status, error = visitor.refused(answer)
    assert status == 503 and "try again" in error and answer.headers["Retry-After"]
    visitor.upload(content)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api", 404),
        ("GET", "/api/", 404),
        ("POST", "/api/state/", 404),
        ("POST", "/api/__init__", 404),
        ("GET", "/demo.py", 404),
        ("GET", "/page", 404),
        ("GET", "/page/", 404),
        ("GET", "/page/nothing.js", 404),
        ("GET", "/page/../app.py", 404),
        ("GET", "/page/%2e%2e/app.py", 404),
        ("GET", "/page/..%2fapp.py", 404),
        ("GET", "/page/..%5capp.py", 404),
        ("GET", "/page/%2e%2e%2f%2e%2e%2f%2e%2e%2fsetup.py", 404),
        ("GET", "/page//etc/passwd", 404),
        ("GET", "/page/%2fetc%2fpasswd", 404),
        ("GET", "/page/%00", 404),
        ("GET", "/page/page.js%00.css", 404),
        ("GET", "/" + "a" * 5000, 404),
        ("GET", "/../../../../etc/passwd", 404),
        ("GET", "//etc/passwd", 404),
        ("GET", "/api/state", 405),
        ("DELETE", "/api/state", 405),
        ("PUT", "/api/upload", 405),
        ("OPTIONS", "/api/upload", 405),
        ("TRACE", "/", 405),
        ("POST", "/", 405),
        ("POST", "/page/page.js", 405),
        ("BREW", "/", 405),
    ],
)
def test_wrong_addresses_and_methods(refusing, method, path, status):
    answer = refusing.client.build_request(method, "http://localhost/")
    answer.url = answer.url.copy_with(raw_path=path.encode())
    response = refusing.client.send(answer)
    assert response.status_code == status, response.text
    assert "passwd" not in response.text and "import " not in response.text
    assert refusing.refused(response)[0] == status
    if not path.startswith("/page"):  # Starlette's own answer about files
        assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b"[1]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"number": 1.5}', "application/json", 400),
        (b'{"number": true}', "application/json", 400),
        (b'{"number": 1e999}', "application/json", 400),
        (b'{"number": NaN}', "application/json", 400),
        (b'{"number": %s}' % (b"9" * 4000), "application/json", 400),
        (b'{"number": %s}' % (b"9" * 5000), "application/json", 400),
        (b'{"number": 0}', "text/plain", 415),
        (b'{"number": 0}', "", 415),
        (b"number=0", "application/x-www-form-urlencoded", 415),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415),
    ],
)
def test_bad_json(refusing, content, kind, status):
    answer = refusing.client.post("/api/sample", content=content, headers={"Content-Type": kind})
    assert refusing.refused(answer)[0] == status


def test_half_a_character_is_no_name(visitor):
    name = (
        b'{"edits": [{"edit": "add_class", "name": "\\ud800", "properties": ["property 0", "property 3"]}]}'
    )
    answer = visitor.client.post("/api/edit", content=name, headers={"Content-Type": "application/json"})
    assert visitor.refused(answer)[0] == 400
    assert len(visitor.ask("state")["models"][0]["classes"]) == 5


@pytest.mark.parametrize(
    "field", ["image", "model", "mode", "point", "outline", "class_name", "rival", "more"]
)
@pytest.mark.parametrize("value", [[], {}, 1e400, -(10**12), True, "\x00", "../x", [[1e400, 0]]])
def test_no_field_of_another_kind_breaks_anything(refusing, field, value):
    fields = {"image": "0123456789abcdef", "point": [1, 1]} | {field: value}
    content = json.dumps(fields).encode()
    answer = refusing.client.post(
        "/api/explain", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 410)
    refusing.refused(answer)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "localhost.evil.example"}, 400),
        ({"Host": "[bad"}, 400),
        ({"Host": ""}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://[bad"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
    ],
)
def test_other_web_pages_are_refused(refusing, headers, status):
    answer = refusing.client.post("/api/sample", json={"number": 0}, headers=headers)
    assert answer.status_code == status and "set-cookie" not in answer.headers
    if "Sec-Fetch-Site" in headers:
        navigation = headers | {"Sec-Fetch-Mode": "navigate"}
        assert refusing.client.get("/", headers=navigation).status_code == 200, "a link may open the page"
        assert refusing.client.get("/page/page.js", headers=navigation).status_code == 403
        assert refusing.client.post("/api/state", json={}, headers=navigation).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
)
def test_the_own_page_is_answered(refusing, headers):
    assert refusing.client.post("/api/state", json={}, headers=headers).status_code == 200


def test_a_session_cannot_be_guessed_or_forged(app, image):
    ann = Visitor(app)
    key = ann.upload(as_file(image))["key"]
    (cookie,) = ann.client.cookies.jar
    assert cookie.has_nonstandard_attr("httponly") and cookie.get_nonstandard_attr("samesite") == "strict"
    assert cookie.expires is None
    for value in (cookie.value[:-1], cookie.value[::-1], "", "x" * 5000, "a.b.c"):
        eve = Visitor(app)
        eve.client.cookies.set(cookie.name, value)
        assert eve.refusal("result", image=key)[0] == 410


def test_a_page_in_a_frame_keeps_its_session(make_model, processor, image):
    site = "https://hub.example"
    visitor = Visitor(demo_app([DemoModel(make_model(), processor)], embed_in=site))
    answer = visitor.client.post("/api/upload", content=as_file(image), headers={"Content-Type": "image/png"})
    assert f"frame-ancestors {site}" in answer.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in answer.headers
    flags = answer.headers["set-cookie"].lower()
    assert "samesite=none" in flags and "secure" in flags and "partitioned" in flags


def test_visitors_are_forgotten_in_their_order(make_model, processor, image):
    models = [DemoModel(make_model(), processor)]
    kept = Visitors(lambda: DemoSession(models), max_visitors=2)
    app = demo_app(models, visitors=kept)
    visitors = [Visitor(app) for _ in range(3)]
    keys = [visitor.upload(as_file(image))["key"] for visitor in visitors]
    found = [
        visitor.client.post("/api/result", json={"image": key}).status_code
        for visitor, key in list(zip(visitors, keys))[::-1]
    ]
    assert found == [200, 200, 410] and len(kept) == 2


def test_who_asks_without_a_token_pushes_nobody_out(make_model, processor, image):
    models = [DemoModel(make_model(), processor)]
    kept = Visitors(lambda: DemoSession(models), max_visitors=4)
    app = demo_app(models, visitors=kept)
    ann, ben = Visitor(app), Visitor(app)
    key = ann.upload(as_file(image))["key"]
    ben.edit({"edit": "rename_class", "old": "sky", "new": "air"})
    for _ in range(30):
        Visitor(app).ask("state")
    assert len(kept) == 4
    assert ann.ask("result", image=key)["runs"]
    assert ben.ask("state")["models"][0]["classes"][0]["name"] == "air"


def test_sessions_are_limited_in_bytes_together(make_model, processor):
    models = [DemoModel(make_model(), processor)]
    kept = Visitors(lambda: DemoSession(models), max_bytes=3 * 600 * 600 * 3)
    app = demo_app(models, visitors=kept)
    visitors = [Visitor(app) for _ in range(4)]
    for visitor in visitors:
        visitor.upload(as_file(Image.new("RGB", (600, 600))))
    visitors[-1].ask("state")
    assert len(kept) < 4 and kept.nbytes <= 3 * 600 * 600 * 3
    assert visitors[-1].ask("state")["images"]


def test_who_asks_too_much_at_once_is_told_so(make_model, processor):
    visitor = Visitor(demo_app([DemoModel(make_model(), processor)], queue=WorkQueue(max_waiting=0)))
    answer = visitor.client.post("/api/state", json={})
    assert visitor.refused(answer)[0] == 503 and answer.headers["Retry-After"] == "2"
