"""The text of a model card: escaping, generated parts between comments, and values from a run's files."""

import json
import re
from pathlib import Path
from typing import Any


def escape_markdown(text: Any) -> str:
    """A name as Markdown shows it literally, in one table cell: no markup, no HTML, no line break."""
    plain = " ".join(str(text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|!#])", r"\\\1", plain)


def without_folders(value: Any) -> Any:
    """A path on somebody's machine without its folders; everything else as it is."""
    is_path = isinstance(value, str) and re.match(r"[/~.\\]|[A-Za-z]:[\\/]", value)
    return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if is_path else value


def block(name: str, caller: Any) -> str:
    """A generated part between its two comments."""
    return f"<!-- prolab:{name} -->\n{caller().strip()}\n<!-- /prolab:{name} -->"


def _blocks(text: str) -> dict[str, str]:
    pattern = r"<!-- prolab:(\w+) -->\n.*?\n<!-- /prolab:\1 -->"
    return {match[1]: match[0] for match in re.finditer(pattern, text, re.DOTALL)}


def merged(old: str, new: str) -> str:
    """The old text with its generated parts renewed; a text without any comes first and is kept whole."""
    old_blocks, new_blocks = _blocks(old), _blocks(new)
    if not old.strip():
        return new
    if not old_blocks:
        return f"{old.rstrip()}\n\n{new}"
    for name, part in old_blocks.items():
        old = old.replace(part, new_blocks.get(name, part))
    return old


def without_header(text: str) -> str:
    """A card without its YAML header."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.DOTALL).lstrip("\n")


def percent(value: Any) -> str:
    """A ratio in percent, or a dash where there is none."""
    return "-" if value is None else f"{100 * float(value):.1f} %"


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or `None` where there is no such file.

    Raises:
        ValueError: It cannot be read or holds something else.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a readable JSON file ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a JSON object, got {type(content).__name__}.")
    return content
