"""Reading `.pth` files of strangers: tensors, arrays and plain values, never code.

The pickle inside is read by `pickle_reader` in a process of its own, under limits of memory and time, and comes
back as a description. This process never runs a pickle: it reads numbers from the file where the description
says, after the sizes in the archive's directory were checked.
"""

import io
import json
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
import torch

MAX_PICKLE_BYTES = 2**28
MAX_ENTRIES = 200_000
MAX_EXPANDED_BYTES = 2**30  # that tensors may claim beyond the size of the file, by strides of 0
SECONDS = 600
_PIECE = 2**20

# What the file may turn out to hold.
_Plain: TypeAlias = "bool | int | float | str | bytes | torch.Tensor | np.ndarray | None"
Content: TypeAlias = "_Plain | list[Content] | tuple[Content, ...] | set[Content] | dict[Content, Content]"


class _UnreadableError(Exception):
    """Why a file cannot be read; becomes the message of a `ValueError` that names the file."""


def load_tensors_safely(path: str | Path, *, what: str = "checkpoint") -> Content:
    """Loads a `.pth` file without running any code that it may contain.

    Args:
        path: The file, of either form that torch has written.
        what: What it should be, for the messages.

    Returns:
        The content; parameters come as plain tensors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, is damaged, or holds objects other than arrays, tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no {what} at {path}.")
    try:
        with path.open("rb") as file:
            source = _Archive(file) if zipfile.is_zipfile(file) else _LegacyFile(file)
            with source:
                return _Builder(source, path.stat().st_size).content()
    except _UnreadableError as error:
        reason = str(error)
    except MemoryError:
        reason = "it needs more memory than there is"
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, LookupError, NotImplementedError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    raise ValueError(f"{path}: not a {what} that can be read safely ({reason}).")


class _Source(AbstractContextManager["_Source"]):
    """A file of torch: the description of its content, and the numbers of its storages."""

    answer: Mapping[str, object]
    blobs: memoryview

    def __exit__(self, *unused: object) -> None:
        """Nothing to close: the file belongs to the caller."""

    def read_into(self, key: str, target: memoryview) -> None:
        """Fills `target` with the numbers of a storage, which must be exactly as many."""
        raise _UnreadableError("it has no storages")


class _Archive(_Source):
    """The form since torch 1.6: a zip archive of a pickle and one entry per storage, nothing compressed."""

    def __init__(self, file: IO[bytes]) -> None:
        size = file.seek(0, io.SEEK_END)
        self.archive = zipfile.ZipFile(file)
        entries = self.archive.infolist()
        self.entries = {entry.filename: entry for entry in entries}
        if len(entries) > MAX_ENTRIES or len(self.entries) != len(entries):
            raise _UnreadableError("its directory has too many entries, or one twice")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise _UnreadableError(
                    f"the entry {entry.filename[:80]!r} is compressed, which torch never does"
                )
        if sum(entry.file_size for entry in entries) > size:
            raise _UnreadableError("its directory claims more bytes than the file has")
        pickles = [name for name in self.entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise _UnreadableError("an archive, but without the one data.pkl that torch writes")
        self.folder = pickles[0].partition("/")[0]
        if self.entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
            raise _UnreadableError(f"its data.pkl has more than {MAX_PICKLE_BYTES} bytes")
        order = f"{self.folder}/byteorder"
        if order in self.entries and (
            self.entries[order].file_size > 16 or self.archive.read(order) != b"little"
        ):
            raise _UnreadableError("its numbers have another byte order")
        content = self.archive.read(pickles[0])
        self.answer, self.blobs = _describe("archive", len(content), content)

    def read_into(self, key: str, target: memoryview) -> None:
        """Fills `target` from the entry of the storage; the archive's checksum is verified."""
        entry = self.entries.get(f"{self.folder}/data/{key}")
        if entry is None or entry.file_size != len(target):
            found = "no" if entry is None else str(entry.file_size)
            raise _UnreadableError(f"the storage {key[:40]!r} has {found} bytes instead of {len(target)}")
        with self.archive.open(entry) as numbers:
            _fill(numbers, target)
            if numbers.read(1):  # at the end the checksum is verified
                raise _UnreadableError(f"the storage {key[:40]!r} is longer than its entry")


class _LegacyFile(_Source):
    """The older form: five pickles one after the other, then the storages, each with its length in front."""

    def __init__(self, file: IO[bytes]) -> None:
        size = file.seek(0, io.SEEK_END)
        with Path(file.name).open("rb") as own:  # a position in the file that is not shared with this process
            self.answer, self.blobs = _describe("legacy", min(size, MAX_PICKLE_BYTES), own)
        self.file = file
        self.places: dict[str, tuple[int, int]] = {}  # position and number of elements
        storages, keys, position = self.answer["storages"], self.answer["keys"], self.answer["end"]
        if not isinstance(storages, dict) or not isinstance(keys, list) or not isinstance(position, int):
            raise _UnreadableError("its list of storages is malformed")
        for key in keys:
            file.seek(position)
            (count,) = struct.unpack("<q", _exactly(file, 8))
            _, item_size, numel = storages[key]
            if count != numel:
                raise _UnreadableError(
                    f"the storage {str(key)[:40]!r} has {count} numbers instead of {numel}"
                )
            self.places[key] = (position + 8, numel)
            position += 8 + numel * item_size
        if position > size:
            raise _UnreadableError("it ends in the middle of its numbers")

    def read_into(self, key: str, target: memoryview) -> None:
        """Fills `target` from the position of the storage."""
        self.file.seek(self.places[key][0])
        _fill(self.file, target)


def _describe(form: str, size: int, source: bytes | IO[bytes]) -> tuple[Mapping[str, object], memoryview]:
    """What `pickle_reader` finds in a pickle: its answer, and the bytes that this points into.

    Raises:
        _UnreadableError: It refused the pickle, or did not survive it.
    """
    script = Path(__file__).with_name("pickle_reader.py")
    command = [sys.executable, "-I", "-S", str(script), form, str(size)]
    try:
        if isinstance(source, bytes):
            result = subprocess.run(command, input=source, capture_output=True, timeout=SECONDS, check=False)
        else:
            result = subprocess.run(command, stdin=source, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _UnreadableError(f"reading its pickle took more than {SECONDS} seconds") from None
    if result.returncode != 0:
        raise _UnreadableError(f"the process that read its pickle ended by {_ending(result.returncode)}")
    (length,) = struct.unpack_from("<Q", result.stdout)
    answer = json.loads(result.stdout[8 : 8 + length])
    if "error" in answer:
        raise _UnreadableError(answer["error"])
    return answer, memoryview(result.stdout)[8 + length :]


def _ending(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def _fill(file: IO[bytes], target: memoryview) -> None:
    done = 0
    while done < len(target):
        piece = file.read(min(_PIECE, len(target) - done))
        if not piece:
            raise _UnreadableError("it ends in the middle of its numbers")
        target[done : done + len(piece)] = piece
        done += len(piece)


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise _UnreadableError("it ends in the middle of its numbers")
    return data


class _Builder:
    """Makes the values that an answer describes."""

    def __init__(self, source: _Source, file_size: int) -> None:
        self.source = source
        self.left = file_size + MAX_EXPANDED_BYTES
        self.storages: dict[str, torch.Tensor] = {}

    def content(self) -> Content:
        """The whole content."""
        return self._value(self.source.answer["value"])

    def _value(self, tree: object) -> Content:
        if tree is None or isinstance(tree, bool | int | str):
            return tree
        if not isinstance(tree, list):
            raise _UnreadableError("its description is malformed")
        kind, *rest = tree
        if kind == "float":
            return float(rest[0])
        if kind == "tensor":
            return self._tensor(*rest)
        if kind == "array":
            return self._array(*rest)
        if kind == "bytes":
            return bytes(self._blob(*rest))
        if kind == "dict":
            return {self._key(key): self._value(item) for key, item in rest[0]}
        items = [self._value(item) for item in rest[0]]
        return {"list": list, "tuple": tuple, "set": set}[kind](items)  # type: ignore[no-any-return, operator]

    def _key(self, tree: object) -> Content:
        key = self._value(tree)
        try:
            hash(key)
        except TypeError:
            raise _UnreadableError(f"a dictionary has a {type(key).__name__} as key") from None
        return key

    def _blob(self, position: int, length: int) -> memoryview:
        return self.source.blobs[position : position + length]

    def _array(self, dtype: str, shape: list[int], is_fortran: bool, *place: int) -> np.ndarray:
        numbers = np.frombuffer(self._blob(*place), dtype=np.dtype(dtype))
        array = numbers.reshape(shape, order="F" if is_fortran else "C")
        return array.astype(array.dtype.newbyteorder("="))

    def _tensor(self, key: str, offset: int, size: list[int], stride: list[int]) -> torch.Tensor:
        storage = self._storage(key)
        tensor = torch.as_strided(storage, size, stride, offset)
        self.left -= tensor.numel() * tensor.element_size()
        if self.left < 0:
            raise _UnreadableError("its tensors claim far more numbers than the file has")
        return tensor

    def _storage(self, key: str) -> torch.Tensor:
        if key not in self.storages:
            storages = self.source.answer["storages"]
            if not isinstance(storages, dict):
                raise _UnreadableError("its list of storages is malformed")
            name, item_size, numel = storages[key]
            if numel * item_size > self.left:
                raise _UnreadableError("a storage claims more numbers than the file has")
            buffer = bytearray(numel * item_size)
            self.source.read_into(key, memoryview(buffer))
            self.storages[key] = _as_tensor(buffer, name)
        return self.storages[key]


def _as_tensor(buffer: bytearray, name: str) -> torch.Tensor:
    """A tensor over the bytes, without a copy; any byte that is not 0 is true."""
    if not buffer:
        return torch.empty(0, dtype=getattr(torch, name))
    if name == "bool":
        return torch.frombuffer(buffer, dtype=torch.uint8) != 0
    return torch.frombuffer(buffer, dtype=getattr(torch, name))
