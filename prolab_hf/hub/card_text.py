"""The text of a model card: generated parts between comments, and values from a run's files without its folders."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prolab_hf.files import read_json_object

# Addresses stay; a path on a machine begins at the start of a text or after what separates words.
_ADDRESS_OR_PATH = re.compile(
    r"""(?P<address>\b(?:https?|ftp|hf|s3|gs|git\+\w+|ssh)://[^\s"'<>]+)
    | (?:\bfile:)?(?:(?<=^)|(?<=[\s:=,;|"'`(\[{<])|(?<=\bfile:))
      (?: [A-Za-z]:[\\/] | ~[\w.-]*[\\/] | \.{1,2}[\\/] | [\\/] )
      (?: [^\\/\n"'`,;|]* [\\/] )* """,
    re.VERBOSE,
)

_OF_CLASSES = ("per_class", "class_names")


def without_folders(value: Any) -> Any:
    """The same without the folders of somebody's machine, wherever in it a path stands.

    A path keeps its last part; addresses and names such as `owner/name` stay as they are.

    Args:
        value: What a JSON file holds: texts, lists and objects of them, and anything else, which is kept.
    """
    if isinstance(value, str):
        return _text_without_folders(value)
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    if isinstance(value, Mapping):
        return {without_folders(key): without_folders(item) for key, item in value.items()}
    return value


def public_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run's file without folders; class names, which the model publishes too, stay as they are.

    Args:
        fields: What the file holds.
    """
    return {key: value if key in _OF_CLASSES else without_folders(value) for key, value in fields.items()}


def _text_without_folders(text: str) -> str:
    # A path that ends with a separator would lose all of its parts.
    trimmed = re.sub(r"(?<=[^\s\\/:])[\\/]+(?=$|[\s\"'`,;|)\]}>])", "", text)
    return _ADDRESS_OR_PATH.sub(lambda found: found["address"] or "", trimmed) or text


def block(name: str, caller: Callable[[], str]) -> str:
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


def percent(value: float | None) -> str:
    """A ratio in percent, or a dash where there is none."""
    return "-" if value is None else f"{100 * float(value):.1f} %"


def read_if_there(path: Path, what: str) -> dict[str, Any] | None:
    """The object in a JSON file, or `None` where there is no such file.

    Raises:
        ValueError: It cannot be read or holds something else.
    """
    return read_json_object(path, what=what) if path.is_file() else None
