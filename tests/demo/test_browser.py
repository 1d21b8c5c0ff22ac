"""The page in a real browser, wide and narrow: an image is chosen, clicked, drawn on, and its words are edited."""

import re
from pathlib import Path

import pytest
from page_visitors import as_file, running
from PIL import Image

from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.demo import DemoModel

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright for Python: pip install playwright"
)
CHROMIUM = Path("/usr/bin/chromium")
if not CHROMIUM.exists():
    pytest.skip(f"needs {CHROMIUM}: apt-get install chromium", allow_module_level=True)

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
expect = sync_api.expect


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(solved, scenes_processor):
    known = DemoModel(solved, scenes_processor, name="solved")
    with running([known], max_side=300) as server:
        yield server


@pytest.fixture(params=[1280, 400], ids=["wide", "narrow"])
def page(browser, server, request):
    """The page with its first answer; whatever the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(10_000)
    said = []
    page.on(
        "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(server.url)
    expect(page.locator("#legend .entry").first).to_be_visible()
    yield page
    width = page.evaluate("() => document.documentElement.scrollWidth")
    context.close()
    assert said == []
    assert width <= request.param, "nothing is wider than the window"


def painted(page):
    """Colors that the label map is painted with, as `#rrggbbaa`."""
    return page.locator(".frame canvas").evaluate(
        """canvas => [...new Set(new Uint32Array(canvas.getContext("2d")
           .getImageData(0, 0, canvas.width, canvas.height).data.buffer))].length"""
    )


def press(page, x, y):
    """The middle of a part of the image, in the window."""
    frame = page.locator(".frame").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def test_the_first_answer_and_a_click(page):
    assert painted(page) > 3, "colors and contours of several classes"
    expect(page.locator("#where")).to_contain_text("Drawn scene 1 of 60")
    page.mouse.click(*press(page, 0.5, 0.9))
    expect(page.locator("#why h2")).to_be_visible()
    expect(page.locator("#why h2")).to_be_in_viewport()
    expect(page.locator("#why")).to_contain_text("What makes up the score of")
    if page.viewport_size["width"] < 900:  # the image is out of view, and a small copy of it in view
        expect(page.locator("#mini")).to_be_visible()
    else:
        expect(page.locator(".frame")).to_be_in_viewport()
        expect(page.locator("#mini")).to_be_hidden()
    expect(page.locator("#why .spoken")).to_contain_text("Words explain")
    rival = page.locator("#instead option").last.get_attribute("value")
    page.locator("#instead").select_option(rival)
    expect(page.locator("#why")).to_contain_text(re.compile(rf"It (leads|trails) {rival} "))
    expect(page.locator("#instead")).to_be_focused()


def test_a_region_is_drawn(page):
    start = press(page, 0.2, 0.2)
    page.mouse.move(*start)
    page.mouse.down()
    for x, y in ((0.5, 0.2), (0.5, 0.6), (0.2, 0.6)):
        page.mouse.move(*press(page, x, y), steps=4)
    page.mouse.up()
    expect(page.locator(".frame polygon.outline")).to_have_count(1)
    expect(page.locator("#why")).to_contain_text(re.compile(r"Region of [\d,]+ pixels"))


def test_the_keyboard_does_what_the_pointer_does(page):
    page.locator(".frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_contain_text(re.compile(r"Pixel \d+, \d+"))
    page.locator("#region").press("Enter")
    page.locator(".frame").focus()
    page.keyboard.press("Enter")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_contain_text(re.compile(r"Region of [\d,]+ pixels"))
    page.locator("#tab-why").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-seen")).to_be_focused()
    expect(page.locator("#seen")).to_be_visible()


def test_images_are_chosen_and_kept_beside_each_other(page, tmp_path):
    files = []
    for number in (3, 5):
        path = tmp_path / f"scene <b>{number}.png"
        path.write_bytes(as_file(DrawnScenes("test", 10)[number].image))
        files.append(path)
    (tmp_path / "words.txt").write_text("no image")
    page.locator("#file").set_input_files([*files, tmp_path / "words.txt"])
    expect(page.locator(".thumb")).to_have_count(3)
    expect(page.locator("#banner")).to_contain_text("words.txt is not an image")
    expect(page.locator(".thumb img").last).to_have_attribute("alt", "scene <b>5.png")
    second = page.locator(".frame .photo").get_attribute("src")
    page.locator(".thumb button").first.click()
    expect(page.locator(".frame .photo")).not_to_have_attribute("src", second)
    page.locator(".thumb .remove").last.click()
    expect(page.locator(".thumb")).to_have_count(2)
    page.reload()
    expect(page.locator(".thumb")).to_have_count(2)


def test_property_maps_stand_beside_each_other_and_a_slider_changes_the_map(page):
    page.locator("#tab-seen").click()
    page.locator("#properties .bar").first.click()
    expect(page.locator("#show-property")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".frame .layer").first).to_be_visible()
    for number in (0, 1):
        page.locator("#properties .entry-row > .small").nth(number).click()
        expect(page.locator("#pinned .tile")).to_have_count(number + 1)
    page.locator("#find").fill("stripes")
    expect(page.locator("#properties .bar").first).to_contain_text("stripes")
    before = page.locator("#legend").inner_text()
    page.locator("#what-if-score").fill("1")
    expect(page.locator("#what-if-outcome")).to_contain_text("of the pixels change")
    expect(page.locator("#where")).to_contain_text("What if")
    assert page.locator("#legend").inner_text() != before
    page.get_by_role("button", name="All as seen").click()
    expect(page.locator("#legend")).to_have_text(re.compile(re.escape(before.split("\n")[0])))
    assert page.locator("#legend").inner_text() == before


def test_a_class_is_described_previewed_added_edited_and_taken_back(page):
    before = page.locator("#legend").inner_text()
    page.locator("#tab-words").click()
    page.locator("#sections").get_by_text("Classes").click()
    page.locator(".classes .bar", has_text="kiosk").click()
    page.get_by_role("button", name="Remove the class").click()
    expect(page.locator("#effect")).to_contain_text("Removes 'kiosk'")
    page.locator("#sections").get_by_text("Add a class").click()
    page.get_by_role("button", name=re.compile("Fill in “kiosk”")).click()
    expect(page.locator("#where")).to_contain_text("kiosk is not added yet")
    expect(page.locator("#outcome")).to_contain_text(
        re.compile("It would cover|It is not found in this image")
    )
    page.locator("#budget").fill("7")
    expect(page.locator("#outcome")).to_contain_text("It would cover")
    expect(page.locator("#legend")).to_contain_text("kiosk")
    page.get_by_role("button", name="Add the class").click()
    expect(page.locator("#effect")).to_contain_text("Adds the class 'kiosk'")
    expect(page.locator("#effect")).to_contain_text("of the pixels changed")
    page.locator("#effect summary").click()
    expect(page.locator("#effect details .bar").first).to_contain_text(re.compile(r"\d\.\d{3} → \d\.\d{3}"))
    expect(page.locator("#legend")).to_contain_text("kiosk")
    page.locator("#sections").get_by_text("Classes").click()
    page.locator(".classes .bar", has_text="kiosk").click()
    expect(page.locator(".editing fieldset .list input").first).to_be_checked()  # what it has stands first
    page.locator("#class-name").fill("<i>booth</i>")
    page.locator("#class-name").press("Enter")
    expect(page.locator("#legend")).to_contain_text("<i>booth</i>")
    expect(page.locator("#effect")).to_contain_text("No pixel of this image changed")
    for left in (3, 2, 1):
        page.locator("#undo").click()
        expect(page.locator("#history")).to_contain_text(f"{left} edit")
    page.locator("#undo").click()
    expect(page.locator("#history")).to_contain_text("Nothing was edited yet")
    assert page.locator("#legend").inner_text() == before


def test_what_is_seen_can_be_saved(page, tmp_path):
    for name, button in (
        ("labels.png", "Labels (PNG)"),
        ("labels.json", "Labels (COCO)"),
        ("overlay.png", "Overlay"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    assert Image.open(tmp_path / "labels.png").mode == "P"
    page.mouse.click(*press(page, 0.5, 0.5))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save this explanation").click()
    download.value.save_as(tmp_path / "why.json")
    assert '"contributions"' in (tmp_path / "why.json").read_text()


def test_a_lit_class_is_explained_as_a_whole(page):
    page.locator("#legend .entry").first.click()
    expect(page.locator("#legend .entry").first).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name=re.compile("Why is all this")).click()
    expect(page.locator("#why")).to_contain_text(re.compile(r"All [\d,]+ pixels that are called"))


def test_a_large_image_is_seen_at_full_size(page, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(as_file(DrawnScenes("test", 10)[2].image.resize((640, 480))))
    page.locator("#file").set_input_files(path)
    expect(page.locator("#slide")).to_have_text("At full size (640 x 480)")
    expect(page.locator("#where")).to_contain_text("Reduced from 640 x 480 to 300 x 225")
    before = page.locator("#legend").inner_text()
    page.locator("#slide").click()
    expect(page.locator("#slide")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#legend")).not_to_have_text(re.compile("^" + re.escape(before.split("\n")[1]) + "$"))
    page.mouse.click(*press(page, 0.5, 0.5))
    expect(page.locator("#why h2")).to_be_visible()


def test_a_lost_server_is_said(browser, solved, scenes_processor):
    context = browser.new_context()
    page = context.new_page()
    with running([DemoModel(solved, scenes_processor)]) as server:
        page.goto(server.url)
        expect(page.locator("#legend .entry").first).to_be_visible()
    page.locator("#sample").click()
    expect(page.locator("#banner")).to_contain_text("The server does not answer")
    context.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_two_models_stand_beside_each_other(browser, solved, scenes_processor, width):
    models = [DemoModel(solved, scenes_processor, name=name) for name in ("first", "second")]
    context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    with running(models) as server:
        page.goto(server.url)
        expect(page.locator("#legend")).to_contain_text(re.compile(r"the two models differ\s*0\.0 %"))
        left, right = (page.locator(".frame").nth(number).bounding_box() for number in (0, 1))
        assert (left["y"] == right["y"]) == (width > 900)
        page.locator(".frame").nth(1).click()
        expect(page.locator("#which-model button").nth(1)).to_have_attribute("aria-pressed", "true")
        found = page.locator("#why h2").inner_text()
        page.locator("#tab-words").click()
        page.locator("#sections").get_by_text("Classes").click()
        page.locator(
            ".classes .bar", has_text=re.compile(rf"^{re.escape(found)}\s*(known from words\s*)?\d")
        ).click()
        page.get_by_role("button", name="Remove the class").click()
        expect(page.locator("#history")).to_contain_text("1 edit of second")
        expect(page.locator("#legend")).not_to_contain_text(re.compile(r"differ\s*0\.0 %"))
        page.locator("#which-model button").first.click()
        expect(page.locator("#history")).to_contain_text("Nothing was edited yet")
        assert found in page.locator("#legend").inner_text()
    context.close()
