"""What mkdocs cannot know by itself: pages made from the package, the command and the repository's own files.

- `reference/NAME.md` for every public name, read from its docstring by mkdocstrings;
- `<!-- options: COMMAND -->` in a page becomes the table of that command's arguments and options;
- the benchmarks' and the project's own Markdown files, with their links turned to where they stand in the site.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import prolab_hf
from prolab_hf.cli import app

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY_PAGES = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "SUPPORT.md": "project/support.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "benchmarks/README.md": "evidence/benchmarks.md",
    "benchmarks/study/README.md": "evidence/study.md",
    "property_spaces/README.md": "evidence/spaces.md",
}
"""File of the repository -> page of the site."""
IMAGES = {".png", ".svg", ".jpg"}
OPTIONS = re.compile(r"<!-- options: ([\w -]+?) -->")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the pages of the public names under "Reference"."""
    names = sorted(prolab_hf.__all__, key=str.lower)
    for entry in config.nav or []:
        if "Reference" in entry:
            entry["Reference"] = [
                {"All names": "reference/index.md"},
                *({n: f"reference/{n}.md"} for n in names),
            ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made here."""
    for path, text in {**dict(reference_pages()), **dict(repository_pages())}.items():
        files.append(File.generated(config, path, content=text))
    for source, page in REPOSITORY_PAGES.items():
        folder = (ROOT / source).parent
        for image in sorted(folder.rglob("*")) if folder != ROOT else []:
            if image.suffix in IMAGES:
                target = (Path(page).parent / image.relative_to(folder)).as_posix()
                if files.get_file_from_path(target) is None:
                    files.append(File.generated(config, target, abs_src_path=str(image)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Puts tables of options into their places."""
    return OPTIONS.sub(lambda found: options_table(found[1].split()), markdown)


# ---- the Python interface -------------------------------------------------------------------------------------


def reference_pages() -> Iterator[tuple[str, str]]:
    """One page for every name that `from prolab_hf import *` gives, and their list."""
    lines = ["# Python reference", "", "What `from prolab_hf import ...` gives.", ""]
    for name in sorted(prolab_hf.__all__, key=str.lower):
        module = prolab_hf._MODULES[name]
        lines.append(f"- [`{name}`]({name}.md)")
        yield f"reference/{name}.md", f"# {name}\n\n::: {module}.{name}\n"
    yield "reference/index.md", "\n".join(lines) + "\n"


# ---- the command ----------------------------------------------------------------------------------------------


def command_of(words: list[str]) -> Any:
    """The click command of `prolab WORDS`."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    return command


def command_names() -> list[str]:
    """All commands, those of groups with the group's name before them."""
    found = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        found += [f"{name} {part}" for part in getattr(command, "commands", {})] or [name]
    return found


def options_table(words: list[str]) -> str:
    """A Markdown table of a command's arguments and options, as `--help` has them."""
    lines = ["| argument or option | default | meaning |", "|---|---|---|"]
    for parameter in command_of(words).params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        if parameter.param_type_name == "argument":
            names = f"`{parameter.name.upper()}`"
        default = parameter.default
        shown = (
            "required" if parameter.required else "" if default in (None, False, "", ()) else f"`{default}`"
        )
        text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
        lines.append(f"| {names} | {shown} | {text} |")
    return "\n".join(lines)


# ---- the repository's own pages -------------------------------------------------------------------------------


def repository_pages() -> Iterator[tuple[str, str]]:
    """Markdown files of the repository, under the names that they have in the site."""
    for source, page in REPOSITORY_PAGES.items():
        path = ROOT / source
        if path.is_file():
            yield page, relinked(path.read_text("utf-8"), Path(source), Path(page))


def relinked(text: str, source: Path, page: Path) -> str:
    """Links to files that are pages of the site lead there; links to other files become plain text."""

    def link(found: re.Match[str]) -> str:
        label, target = found[1], found[2]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        plain, _, anchor = target.partition("#")
        in_repository = (ROOT / source.parent / plain).resolve()
        name = in_repository.relative_to(ROOT).as_posix() if in_repository.is_relative_to(ROOT) else ""
        if found[0].startswith("!"):
            return found[0]
        if name not in REPOSITORY_PAGES:
            return f"{label} (`{name or plain}`)" if name != label.strip("`") else label
        above = "../" * (len(page.parts) - 1)
        return f"[{label}]({above}{REPOSITORY_PAGES[name]}{'#' + anchor if anchor else ''})"

    return re.sub(r"!?\[([^\]]*)\]\(([^)\s]+)\)", link, text)
