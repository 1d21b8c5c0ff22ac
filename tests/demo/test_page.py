"""The page's own files: nothing from elsewhere, nothing inline, markup never made of names."""

import re
from pathlib import Path

from prolab_hf.demo import app as app_module

FILES = sorted(app_module.PAGE.iterdir())


def test_the_page_loads_nothing_but_its_own_files(refusing):
    page = refusing.client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]+)""", page.text)
    assert set(loaded) == {"data:,", "page/page.css", "page/page.js"}
    assert "<style" not in page.text and not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text)
    for path in FILES:
        text = path.read_text("utf-8")
        assert not re.search(r"(?<!xmlns=\")(?<!\(\")https?://|wss?://|url\(|@import", text), path
        assert not re.search(
            r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\.cssText", text
        ), path
        assert "picture" not in text.lower(), path
        served = refusing.client.get(f"/page/{path.name}")
        assert served.status_code == 200 and served.text == text


def test_modules_import_what_is_there():
    names = {path.name for path in FILES}
    exports = {
        path.name: set(
            re.findall(r"export (?:async )?(?:function|const|class|let) ([\w$]+)", path.read_text())
        )
        for path in FILES
    }
    for path in FILES:
        for listed, source in re.findall(
            r'import (?:\{([^}]*)\}|\* as \w+) from "\./([^"]+)"', path.read_text()
        ):
            assert source in names, (path.name, source)
            wanted = {name.split(" as ")[0].strip() for name in listed.split(",") if name.strip()}
            assert wanted <= exports[source], (path.name, source, wanted - exports[source])


def test_every_answer_says_what_a_browser_may_do_with_it(refusing):
    answers = [
        refusing.client.get("/"),
        refusing.client.get("/page/page.js"),
        refusing.client.get("/nothing"),
        refusing.client.post("/api/state", json={}),
        refusing.client.post("/api/state", json={}, headers={"Host": "evil.example"}),
        refusing.client.post("/api/upload", content=b"", headers={"Content-Length": str(10**9)}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 200, 400, 413]
    for answer in answers:
        policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] == "DENY" and answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_pages_files_are_in_the_package():
    setup = (Path(app_module.__file__).parents[2] / "setup.py").read_text("utf-8")
    assert '"demo/page/*"' in setup
