"""Reading and writing of text and JSON files: one reader that names the file, one writer that never leaves half of one.

Everything that the library writes beside a model, a space or a run goes through here. A reader of such a file sees the
old content or the new one, whatever happens to the writer, and a file may be read by those whom the umask allows.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOM = "\ufeff"


def read_text(path: str | Path, *, what: str = "text file") -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Args:
        path: The file.
        what: What it should be, for messages: `"class list"`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such {what}.") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder; name a {what}.") from None
    return decode_text(content, path, what=what)


def decode_text(content: bytes, where: str | Path, *, what: str = "text file") -> str:
    """As `read_text`, for bytes that are in memory.

    Args:
        content: The bytes.
        where: File or place that they come from, for messages.
        what: What they should be, for messages.

    Raises:
        ValueError: They are not UTF-8.
    """
    try:
        return content.decode("utf-8").removeprefix(BOM)
    except UnicodeDecodeError as error:
        coding = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "another encoding"
        raise ValueError(
            f"{where}: this {what} is not UTF-8 but {coding} (byte {content[error.start]:#04x} at offset "
            f"{error.start}); save it as UTF-8."
        ) from None


def read_lines(path: str | Path, *, what: str = "list") -> list[str]:
    """The lines of a UTF-8 file without surrounding blanks; empty lines are left out.

    Args:
        path: The file.
        what: What it should be, for messages.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8.
    """
    return [line.strip() for line in read_text(path, what=what).splitlines() if line.strip()]


def read_json(path: str | Path, *, what: str = "JSON file") -> Any:
    """What a JSON file holds.

    Args:
        path: The file, UTF-8 with or without a byte order mark.
        what: What it should be, for messages: `"recipe"`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON: a key that stands twice, NaN, or nesting without end are refused too.
    """
    return parse_json(read_text(path, what=what), path, what=what)


def read_json_object(path: str | Path, *, what: str = "JSON file") -> dict[str, Any]:
    """As `read_json`, for a file that must hold an object.

    Args:
        path: The file.
        what: What it should be, for messages.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON or holds something else.
    """
    content = read_json(path, what=what)
    if not isinstance(content, dict):
        kind = "a list" if isinstance(content, list) else f"{content!r:.60}"
        raise ValueError(f"{path}: this {what} must hold a JSON object, but it holds {kind}.")
    return content


def parse_json(text: str, where: str | Path, *, what: str = "JSON file") -> Any:
    """As `read_json`, for a text that is in memory, such as one line of a log.

    Args:
        text: The text.
        where: File or place that it comes from, for messages: `"log.jsonl, line 7"`.
        what: What it should be, for messages.

    Raises:
        ValueError: It is no JSON.
    """
    try:
        return json.loads(
            text.removeprefix(BOM), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise ValueError(f"{where}: this {what} is nested too deeply to be read.") from None
    except ValueError as error:
        raise ValueError(f"{where}: this {what} is not readable JSON ({error}).") from None


def read_json_lines(path: str | Path, *, what: str = "log") -> list[Any]:
    """What the lines of a JSON lines file hold; a last line that a writer could not finish is left out.

    Args:
        path: The file.
        what: What it should be, for messages.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another line is no JSON.
    """
    text = read_text(path, what=what)
    lines = text.split("\n")
    whole = lines[:-1] if lines else []  # what stands after the last line break is unfinished, or nothing
    return [
        parse_json(line, f"{path}, line {number}", what=what)
        for number, line in enumerate(whole, start=1)
        if line.strip()
    ]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        # Python's own reader would keep the last one without a word.
        raise ValueError(f"the key {twice!r} stands there twice")
    return fields


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"the number {constant} is not allowed")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file in one step, with the mode that the umask gives.

    Args:
        path: The file; one that exists is replaced, a link is followed.
        content: The bytes.

    Raises:
        OSError: The disk is full or the folder is not writable; an old file is untouched.
    """
    # Through a link: replacing would put a file into its place and leave the linked one as it was.
    path = Path(os.path.realpath(path))
    # Hidden and beside the file: a rename is one step only within a file system.
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            # Without it a power failure can leave the new name with no content.
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """As `write_bytes`, for a text; line ends are written as they are, on every system.

    Args:
        path: The file.
        text: Its new content.

    Raises:
        OSError: The disk is full or the folder is not writable; an old file is untouched.
    """
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, content: Mapping[str, Any] | list[Any], *, indent: int = 2) -> None:
    """As `write_bytes`, for what JSON can hold.

    Args:
        path: The file.
        content: Object or list.
        indent: Blanks per level.

    Raises:
        ValueError: The content holds NaN or an infinite number, which is no JSON.
        OSError: The disk is full or the folder is not writable; an old file is untouched.
    """
    try:
        text = json.dumps(content, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: the content cannot be written as JSON ({error}).") from None
    write_text(path, text + "\n")


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder outlive a power failure, on systems that can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems refuse; the rename itself holds
        pass
    finally:
        os.close(descriptor)


def give_default_modes(folder: str | Path) -> None:
    """Gives the files directly in a folder at least the mode that the umask gives to new files.

    safetensors writes weights that only their owner can read; whoever may read the configuration beside them may
    read them too. Modes that are wider stay.

    Args:
        folder: A folder that this process wrote.
    """
    folder = Path(folder)
    probe = folder / f".mode.{os.getpid()}.{secrets.token_hex(4)}"
    # Asking for the umask would mean setting it, for all threads.
    with probe.open("xb") as file:
        allowed = os.fstat(file.fileno()).st_mode & 0o777
    probe.unlink()
    for path in folder.iterdir():
        if path.is_file() and not path.is_symlink() and path.suffix == ".safetensors":
            path.chmod(path.stat().st_mode & 0o777 | allowed)
