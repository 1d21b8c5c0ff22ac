"""Makes the images of the page and of the commands anew that the documentation shows.

    python docs/screenshots.py                    # page and explain
    python docs/screenshots.py page quickstart    # those that are named

The page is `prolab demo --model everyday`, in Debian's chromium, 1280 and 400 pixels wide; it opens on a photo that
comes with scikit-learn. Nothing is downloaded; the images are written to docs/images. `quickstart` trains anew: what
the README says about its image must be what that run printed.
"""

import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

IMAGES = Path(__file__).with_name("images")
CHROMIUM = "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
MODEL = "everyday"
CLICK = (0.47, 0.42)
"""Where the photo is clicked, as shares of its width and height: on the palace."""
PROPERTY = "far in the background"
"""Whose map is shown."""
MAX_BYTES = 200_000


def photo(folder: Path) -> Path:
    """The photo of a palace by a lake that scikit-learn brings along."""
    from sklearn.datasets import load_sample_image

    path = folder / "palace.jpg"
    Image.fromarray(load_sample_image("china.jpg")).save(path, quality=92)
    return path


def save(data: bytes | Image.Image, name: str) -> None:
    """Writes an image as WebP, small enough for a page that is read on a telephone.

    Args:
        data: The image, or its file.
        name: Name of the file, without suffix.

    Raises:
        ValueError: It has more than `MAX_BYTES` even at low quality.
    """
    image = (Image.open(io.BytesIO(data)) if isinstance(data, bytes) else data).convert("RGB")
    for quality in (88, 80, 70, 60):
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, method=6)
        if file.tell() <= MAX_BYTES:
            IMAGES.mkdir(exist_ok=True)
            (IMAGES / f"{name}.webp").write_bytes(file.getvalue())
            kilobytes = file.tell() // 1000
            print(f"{name}.webp: {image.width} x {image.height}, {kilobytes} kB")  # noqa: T201  # a script
            return
    raise ValueError(f"{name} has {file.tell()} bytes; a screenshot may have {MAX_BYTES}.")


@contextmanager
def running_page() -> Iterator[str]:
    """`prolab demo`, as a user starts it, until it answers; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prolab_hf", "demo", "--model", MODEL, "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        address = f"http://127.0.0.1:{port}/"
        while not _answers(address):
            if server.poll() is not None:
                raise RuntimeError(f"{' '.join(command)} ended with exit code {server.returncode}.")
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except OSError:
        return False
    return True


def shoot_page(folder: Path) -> None:
    """The page: an answer and its reasons, where properties are seen, and the words; wide, and narrow."""
    from playwright.sync_api import sync_playwright

    with running_page() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for width, height in ((1280, 900), (400, 860)):
            context = browser.new_context(
                viewport={"width": width, "height": height}, reduced_motion="reduce"
            )
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(address)
            page.locator("#legend .entry").first.wait_for()
            page.wait_for_load_state("networkidle")
            if width < 900:
                save(page.screenshot(), f"page-{width}")
            _click(page)
            page.locator("#why h2").wait_for()
            page.wait_for_timeout(500)
            save(page.screenshot(), f"page-why-{width}")
            if width > 900:
                for tab in ("seen", "words"):
                    page.locator(f"#tab-{tab}").click()
                    page.wait_for_load_state("networkidle")
                    if tab == "seen":
                        page.locator("#seen button", has_text=PROPERTY).first.click()
                    page.wait_for_timeout(3000)
                    save(page.screenshot(), f"page-{tab}-{width}")
            context.close()
        browser.close()


def _click(page: Any) -> None:
    frame = page.locator(".frame").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    page.mouse.click(box["x"] + CLICK[0] * box["width"], box["y"] + CLICK[1] * box["height"])


def shoot_explain(folder: Path) -> None:
    """What `prolab explain` and `prolab segment` draw of the same photo."""
    path, out = photo(folder), folder / "why.png"
    x, y = (round(share * size) for share, size in zip(CLICK, Image.open(path).size))
    commands = {
        "explain": ["explain", str(path), "--model", MODEL, "--point", f"{x},{y}", "--out", str(out)],
        "segment": ["segment", str(path), "--model", MODEL, "--out", str(folder / "found.png")],
    }
    for name, words in commands.items():
        subprocess.run([sys.executable, "-m", "prolab_hf", *words], check=True)
        save(Image.open(words[-1]), name)


def shoot_quickstart(folder: Path) -> None:
    """What `prolab quickstart` draws at its end."""
    out = folder / "quickstart"
    subprocess.run([sys.executable, "-m", "prolab_hf", "quickstart", "--out", str(out)], check=True)
    save(Image.open(out / "quickstart.png"), "quickstart")


SHOTS = {"page": shoot_page, "explain": shoot_explain, "quickstart": shoot_quickstart}
DEFAULT = ("page", "explain")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        for name in sys.argv[1:] or DEFAULT:
            SHOTS[name](Path(temporary))
