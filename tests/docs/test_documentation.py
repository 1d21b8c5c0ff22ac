"""The documentation's code runs as it stands, and every public name and command has its page."""

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest

import prolab_hf
from prolab_hf.cli import run
from prolab_hf.data.scenes.practice import write_practice_folder

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = {
    "needs an installation", "needs an account on the Hub", "needs a language model", "needs a published checkpoint",
    "needs an export of yours", "opens a page and waits", "takes a few minutes",
}  # fmt: skip
"""What a block may say instead of being run; the title is shown to the reader, too."""
HUB_NAMES = {
    "facebook/dinov2-small": "hub/backbone",
    "nvidia/segformer-b0-finetuned-ade-512-512": "hub/segformer",
    "sentence-transformers/all-MiniLM-L6-v2": "hub/encoder",
}
"""Names on the Hub that the documentation uses, and the small local folders that stand for them here."""


def blocks(page):
    """Language, title and code of every block of a page."""
    return [(kind, title, code) for kind, title, code in FENCE.findall(page.read_text("utf-8"))]


def localized(code):
    for name, folder in HUB_NAMES.items():
        code = code.replace(name, folder)
    return code


def run_shell(code, made):
    """The lines of a shell block: the command itself in this process, `echo TEXT > FILE` by hand, nothing else.

    What a page writes was not there before the page, so a prepared folder of that name goes first.
    """
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] == "echo" and words[-2] == ">":
            Path(words[-1]).write_text(" ".join(words[1:-2]), "utf-8")
        elif words == ["python", "-m", "prolab_hf.data.scenes", "."]:
            draw_again()
        else:
            assert words[0] == "prolab", f"a block may run prolab only: {line}"
            out = words[words.index("--out") + 1] if "--out" in words else None
            if out is not None and out not in made and Path(out).is_dir():
                shutil.rmtree(out)
            made.add(out)
            assert run(words[1:]) == 0, line


def draw_again():
    """The prepared folder was drawn by the same code; a page that draws it gets its own."""
    for name in ("my_data", "photos"):
        shutil.rmtree(name)
    for name in ("street.jpg", "words.json", "classes.txt"):
        Path(name).unlink()
    write_practice_folder(".")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_the_code_of_a_page_runs(page, world, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names, made = {"__name__": "page"}, set()
    for kind, title, code in blocks(page):
        if title in NOT_RUN or kind == "json":
            continue
        assert not title, (
            f"{page.name}: a block is titled {title!r}; a block that is not run says one of {NOT_RUN}"
        )
        if kind == "bash":
            run_shell(localized(code), made)
        else:
            assert kind == "python", f"{page.name}: what is {kind}?"
            exec(compile(localized(code), f"{page.name}", "exec"), names)


def test_code_that_loads_can_be_pasted_into_a_fresh_process():
    """In this one process the Auto classes know our models all the time; in a reader's only after the import."""
    for page in PAGES:
        for kind, _, code in blocks(page):
            if kind == "python" and re.search(r"from transformers import .*(Auto|pipeline)", code):
                assert (
                    "import prolab_hf" in code or "from prolab_hf" in code or "trust_remote_code" in code
                ), page


def test_the_site_can_be_followed_in_one_folder():
    """Models and runs are not replaced without being asked, so no two commands write one."""
    written = []
    for page in sorted(DOCS.rglob("*.md")):
        code = "\n".join(code for _, title, code in blocks(page) if not title).replace("\\\n", " ")
        written += re.findall(r"(?:--out |output_dir=\"|save_pretrained\(\")(runs/[\w-]+)\b(?!/)", code)
    # A model is saved by one call and its processor by another.
    assert {name: written.count(name) for name in written if written.count(name) > 1} == {"runs/mine": 2}


def test_no_page_clones_into_a_folder_that_hides_the_package():
    """Beside a folder `prolab_hf` without `__init__.py` Python finds a namespace package of that name first."""
    for page in PAGES:
        for _, _, code in blocks(page):
            assert not re.search(r"git clone \S+ (\./)?prolab_hf\b", code), page


def test_most_code_is_run():
    """Titles are for what cannot run here; they must not become a way around the test."""
    every = [
        (title, code) for page in PAGES for kind, title, code in blocks(page) if kind in ("bash", "python")
    ]
    assert sum(not title for title, _ in every) / len(every) > 0.75


@pytest.fixture(scope="module")
def hooks():
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_a_page(hooks):
    pages = dict(hooks.reference_pages())
    assert set(pages) == {f"reference/{name}.md" for name in prolab_hf.__all__} | {"reference/index.md"}


def test_every_command_has_its_options_in_a_page(hooks):
    named = {name for page in PAGES for name in hooks.OPTIONS.findall(page.read_text("utf-8"))}
    assert named == set(hooks.command_names())


def test_a_table_of_options_says_what_help_says(hooks):
    table = hooks.options_table(["solve"])
    assert "| `--claim-budget` | `0.01` |" in table and "| `DATA` |" in table
    for line in table.splitlines():
        assert line.count("|") - line.count("\\|") == 4, line


def test_links_of_the_repositorys_pages_lead_to_the_site(hooks):
    text = "[a](../CHANGELOG.md#x) [b](loss.py) ![c](figure.png) [d](https://example.org)"
    assert hooks.relinked(text, Path("benchmarks/README.md"), Path("evidence/benchmarks.md")) == (
        "[a](../project/changelog.md#x) b (`benchmarks/loss.py`) ![c](figure.png) [d](https://example.org)"
    )
