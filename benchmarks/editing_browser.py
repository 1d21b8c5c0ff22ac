"""How long after a click the changed map is on the screen: an edit in a real browser (Debian's chromium).

    python benchmarks/editing_browser.py [--models street ade20k-solved] [--rounds 5] [--width 1280] [--threads 2]

The page of `prolab demo` is served by a process of its own and opened in headless chromium. `ade20k` are the networks
with random weights of `editing.py` (150 classes, 256 properties, an image of 480 x 640), solved and trained. Each row
is one button of the page; shown are medians over rounds in milliseconds, by the clock: from the click to the frame
that has the changed map, and the parts of it: until the request leaves (a form may wait for its preview), until the
answer is there (the server, transfer), until the frame (JSON, drawing). Behind them processor time of the server and of
the page's main thread, which count where other work runs beside it: their sum is what a quiet machine needs at most.
"""

import argparse
import multiprocessing
import os
import statistics
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from editing import NEW_CLASS, drawn_image, random_model
from measuring import environment, print_table
from playwright.sync_api import Page, sync_playwright
from transformers import AutoImageProcessor

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessorPil
from prolab_hf.bundled_models import resolve_model
from prolab_hf.demo import DemoModel, DemoServer

MODELS = ["street", "everyday", "ade20k-solved", "ade20k-trained"]
CHROMIUM = "/usr/bin/chromium"
TICKS = os.sysconf("SC_CLK_TCK")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

# Marks the click, the last request before the map is painted, its answer, and the frame after the painting.
STOPWATCH = """
(() => {
  const now = () => performance.now(), marks = globalThis.marks = {};
  addEventListener("click", () => { for (const key in marks) delete marks[key]; marks.click = now(); }, true);
  const ask = fetch;
  globalThis.fetch = async (path, ...rest) => {
    const isEdit = /edit$|preview$/.test(path);
    if (isEdit) marks.sent = now();
    globalThis.pending = (globalThis.pending || 0) + 1;
    const response = await ask(path, ...rest);
    await response.clone().arrayBuffer();
    if (isEdit) marks.answered = now();
    setTimeout(() => globalThis.pending--);
    return response;
  };
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...rest) {
    put.apply(this, rest);
    if (!marks.answered || marks.shown) return;
    requestAnimationFrame(() => requestAnimationFrame(() => { marks.shown ??= now(); }));
  };
})();
"""
HASH = """canvas => {
  const words = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  let sum = 0;
  for (const word of words) sum = (31 * sum + word) | 0;
  return sum;
}"""


def serve(name: str, threads: int, answer: Connection) -> None:
    """Serves a model's page, and says where."""
    torch.set_num_threads(threads)
    if name.startswith("ade20k"):
        kind = name.rpartition("-")[2]
        known = DemoModel(random_model(kind), ProLabImageProcessorPil(do_resize=False), name=name)
    else:
        place = resolve_model(name)
        known = DemoModel(
            ProLabForSemanticSegmentation.from_pretrained(place).eval(),
            AutoImageProcessor.from_pretrained(place),
            name=name,
        )
    server = DemoServer([known])
    answer.send(server.url)
    server.run()


def cpu_milliseconds(process: int) -> float:
    """Processor time of a process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / TICKS


class Clicks:
    """Buttons of the page, and how long each took."""

    def __init__(self, page: Page, server: int) -> None:
        self.page, self.server = page, server
        self.session = page.context.new_cdp_session(page)
        self.session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.found: dict[str, list[dict[str, float]]] = {}

    def page_milliseconds(self) -> float:
        """Processor time of the page's main thread so far."""
        found = self.session.send("Performance.getMetrics")["metrics"]
        return next(1000 * each["value"] for each in found if each["name"] == "TaskDuration")

    def click(self, name: str, target: Any, changes: bool = True) -> None:
        """Clicks, waits for the frame, and checks that it shows another map, if it should."""
        map_ = self.page.locator(".frame canvas").first
        settle(self.page)
        before, cpu, own = map_.evaluate(HASH), cpu_milliseconds(self.server), self.page_milliseconds()
        target.click()
        self.page.wait_for_function("() => marks.shown")
        marks = self.page.evaluate("() => ({...marks})")
        marks["page"] = self.page_milliseconds() - own
        if changes and map_.evaluate(HASH) == before:
            raise RuntimeError(f"The map is the same after: {name}.")
        settle(self.page)
        marks["cpu"] = cpu_milliseconds(self.server) - cpu
        self.found.setdefault(name, []).append(marks)

    def rows(self, model: str) -> list[list[str]]:
        """Medians of each button, without its first round."""
        rows = []
        for name, all_marks in self.found.items():
            marks = all_marks[1:] or all_marks

            def median(late: str, early: str = "") -> float:
                return statistics.median(each[late] - (each[early] if early else 0) for each in marks)  # noqa: B023

            parts = [("sent", "click"), ("answered", "sent"), ("shown", "answered")]
            times = [f"{median(*part):.0f}" for part in parts]
            cpu = f"{median('cpu'):.0f} + {median('page'):.0f}"
            rows.append([model, name, f"**{median('shown', 'click'):.0f}**", *times, cpu])
        return rows


def settle(page: Page) -> None:
    """Until nothing is asked and nothing will be."""
    for _ in range(2):
        page.wait_for_timeout(150)  # forms wait that long for the next change
        page.wait_for_function("() => !globalThis.pending")


def open_class(page: Page, name: str) -> None:
    """Opens the form of a class, if it is not open."""
    bar = page.locator(f'.classes .bar[data-key="{name}"]')
    if bar.get_attribute("aria-pressed") != "true":
        bar.click()


def measured(model: str, page: Page, server: int, image: Path | None, rounds: int) -> list[list[str]]:
    """Rows of the table of one model, whose page is open."""
    page.locator("#legend .entry").first.wait_for()
    if image is not None:
        page.locator("#file").set_input_files(image)
        page.locator(".thumb").nth(1).wait_for()
    settle(page)
    page.locator("#tab-words").click()
    sections, clicks = page.locator("#sections"), Clicks(page, server)
    undo, redo = page.locator("#undo"), page.locator("#redo")
    # Classes that the image shows, another one in every round: the server remembers its last answers.
    names = page.locator("#legend .entry .name").all_inner_texts()
    for number in range(rounds + 1):
        name, other = names[number % len(names)], names[(number + 1) % len(names)]
        sections.get_by_text("Classes").click()
        open_class(page, name)
        clicks.click("remove a class", page.get_by_role("button", name="Remove the class"))
        clicks.click("undo", undo)
        clicks.click("redo", redo)
        undo.click()
        settle(page)
        open_class(page, name)
        page.get_by_label("Class to merge it with").select_option(other)
        clicks.click("merge two classes", page.get_by_role("button", name="Merge", exact=True))
        undo.click()
        settle(page)
        sections.get_by_text("Add a class").click()
        page.locator("#new-name").fill(f"{NEW_CLASS} {number}")
        page.locator("#budget").fill("7")
        page.locator("label", has_text="Start with the properties of").locator("select").select_option(name)
        settle(page)
        box = page.locator("#words form .list label").filter(has=page.locator(":checked")).first
        clicks.click("tick a property: preview", box)
        add = page.get_by_role("button", name="Add the class")
        clicks.click("add the class previewed", add, changes=False)  # it was shown before
        undo.click()
        settle(page)
    return clicks.rows(model)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=["street", "everyday", "ade20k-solved", "ade20k-trained"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=2, help="of the server")
    options = parser.parse_args()
    print(environment())
    rows = []
    context = multiprocessing.get_context("spawn")
    image = Path(f"/tmp/editing-{os.getpid()}.png")
    drawn_image().save(image)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in options.models:
            here, there = context.Pipe()
            server = context.Process(target=serve, args=(name, options.threads, there), daemon=True)
            server.start()
            page = browser.new_page(viewport={"width": options.width, "height": 900})
            page.add_init_script(STOPWATCH)
            page.goto(here.recv())
            try:
                rows += measured(
                    name, page, server.pid or 0, image if name.startswith("ade") else None, options.rounds
                )
            finally:
                page.close()
                server.kill()
        browser.close()
    image.unlink()
    header = [
        "model",
        "button",
        "shown after, ms",
        "request leaves",
        "answer is there",
        "frame",
        "CPU: server + page",
    ]
    print_table(header, rows)
    print(f"load {os.getloadavg()[0]:.1f} after the run")


if __name__ == "__main__":
    main()
