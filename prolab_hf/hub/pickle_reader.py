"""Reads one pickle of a `.pth` file in a process of its own, and says what is in it without making any of it.

`safe_unpickling` starts this file as a script. It knows nothing but the standard library, starts in milliseconds,
and may be killed by a limit or a crash without harm. Of everything that a pickle can name, only the stand-ins
below exist: they check what they are given and remember it as plain values. Tensors are described by storage,
offset, size and stride; their numbers stay in the file, for the parent to read.
"""

import json
import math
import pickle
import struct
import sys
from typing import BinaryIO, NamedTuple, NoReturn

ITEM_SIZES = {
    "f2": 2,
    "f4": 4,
    "f8": 8,
    "i1": 1,
    "i2": 2,
    "i4": 4,
    "i8": 8,
    "u1": 1,
    "u2": 2,
    "u4": 4,
    "b1": 1,
}
STORAGES = {
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
    "CharStorage": ("int8", 1),
    "ShortStorage": ("int16", 2),
    "IntStorage": ("int32", 4),
    "LongStorage": ("int64", 8),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_VALUES = 2_000_000
MAX_CHARACTERS = 2**28
MAX_DEPTH = 64
MAX_DIMENSIONS = 32
MAX_INTEGER = 2**64
MEMORY_FOR_PYTHON = 2**29
MEMORY_PER_BYTE = 8  # of pickle: a text, the bytes that it encodes, and the answer
CPU_SECONDS = 300


class Refused(pickle.UnpicklingError):
    """The pickle asks for something that no file of weights needs."""


def refuse(reason: str) -> NoReturn:
    """Ends reading with a reason."""
    raise Refused(reason)


class Name:
    """A global that may be mentioned but not called."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Storage(NamedTuple):
    """Numbers that lie in the file under a key."""

    key: str
    dtype: str
    item_size: int
    numel: int


class Tensor:
    """A view of a storage."""

    __slots__ = ("offset", "size", "storage", "stride")

    def __init__(self, storage: Storage, offset: int, size: list[int], stride: list[int]) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class Dtype:
    """`numpy.dtype` of plain numbers: a kind of the fixed list and a byte order."""

    __slots__ = ("kind", "order")

    def __init__(self, kind: object, align: object = False, copy: object = True) -> None:
        if kind not in ITEM_SIZES:
            refuse(f"unsupported numpy type {str(kind)[:40]!r}")
        self.kind, self.order = str(kind), "<"

    def __setstate__(self, state: object) -> None:
        plain = isinstance(state, tuple) and len(state) == 8 and type(state[0]) is int
        if (
            not plain
            or tuple(state[2:]) != (None, None, None, -1, -1, 0)
            or state[1] not in ("<", ">", "|", "=")
        ):  # type: ignore[index, arg-type]
            refuse("the state of a numpy type is not that of plain numbers")
        self.order = str(state[1])  # type: ignore[index]


class Array:
    """A numpy array of numbers; empty until its state comes."""

    __slots__ = ("data", "dtype", "fortran", "shape")

    def __init__(self) -> None:
        self.dtype, self.shape, self.fortran, self.data = Dtype("u1"), [0], False, b""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            refuse("the state of a numpy array is malformed")
        _, shape, dtype, fortran, data = state
        sizes = whole_numbers(shape, "shape")
        if not isinstance(dtype, Dtype) or type(data) is not bytes:
            refuse("a numpy array holds something other than numbers")
        if math.prod(sizes) * ITEM_SIZES[dtype.kind] != len(data):
            refuse(f"a numpy array of shape {tuple(sizes)} has {len(data)} bytes")
        self.dtype, self.shape, self.fortran, self.data = dtype, sizes, bool(fortran), data


class Ordered(dict):  # type: ignore[type-arg]
    """`OrderedDict` without room for attributes; torch hangs version numbers on it, which nothing here reads."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


def whole_numbers(values: object, what: str) -> list[int]:
    """A tuple or list of numbers from 0 on."""
    if not isinstance(values, tuple | list) or len(values) > MAX_DIMENSIONS:
        refuse(f"{what} is no list of numbers")
    if not all(type(value) is int and 0 <= value < MAX_INTEGER for value in values):
        refuse(f"{what} holds something other than whole numbers from 0 on")
    return list(values)


def reconstruct(kind: object, shape: object, code: object) -> Array:
    """`numpy._reconstruct`: an array that waits for its state."""
    if not isinstance(kind, Name) or kind.name != "numpy.ndarray":
        refuse("a numpy array of an unknown kind")
    return Array()


def scalar(dtype: object, data: object) -> float | int | bool:
    """`numpy.scalar`: one number."""
    if not isinstance(dtype, Dtype) or type(data) is not bytes or len(data) != ITEM_SIZES[dtype.kind]:
        refuse("a numpy number is malformed")
    codes = {"f2": "e", "f4": "f", "f8": "d", "i1": "b", "i2": "h", "i4": "i", "i8": "q"}
    codes |= {"u1": "B", "u2": "H", "u4": "I", "b1": "?"}
    order = ">" if dtype.order == ">" else "<"
    value: float | int | bool = struct.unpack(order + codes[dtype.kind], data)[0]
    return value


def encode(text: object, encoding: object = "latin1") -> bytes:
    """`_codecs.encode`, as pickle writes bytes in its older forms."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        refuse("an encoding other than latin1")
    return text.encode("latin1")


def rebuild_tensor(storage: object, offset: object, size: object, stride: object, *unused: object) -> Tensor:
    """`torch._utils._rebuild_tensor_v2`: a view, which must lie inside of its storage."""
    if not isinstance(storage, Storage):
        refuse("a tensor without a storage")
    (start,), sizes, strides = (
        whole_numbers([offset], "offset"),
        whole_numbers(size, "size"),
        whole_numbers(stride, "stride"),
    )
    if len(sizes) != len(strides):
        refuse("a tensor has other numbers of sizes and strides")
    last = start + sum((length - 1) * step for length, step in zip(sizes, strides))
    if 0 not in sizes and last >= storage.numel:
        refuse(f"a tensor reaches beyond its storage of {storage.numel} numbers")
    return Tensor(storage, start, sizes, strides)


def rebuild_parameter(data: object, *unused: object) -> Tensor:
    """`torch._utils._rebuild_parameter`: the tensor."""
    return data if isinstance(data, Tensor) else refuse("a parameter without a tensor")


def plain_tuple(values: object = ()) -> tuple[object, ...]:
    """`torch.Size`."""
    return tuple(values) if isinstance(values, tuple | list) else refuse("a malformed size")


def ordered(items: object = ()) -> Ordered:
    """`OrderedDict`, of nothing or of pairs."""
    return Ordered(items) if isinstance(items, tuple | list) else refuse("a malformed dictionary")


GLOBALS: dict[str, object] = {
    "collections.OrderedDict": ordered,
    "_codecs.encode": encode,
    "builtins.set": set,
    "__builtin__.set": set,
    "torch.Size": plain_tuple,
    "torch._utils._rebuild_tensor": rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": rebuild_parameter,
    "numpy.dtype": Dtype,
    "numpy.ndarray": Name("numpy.ndarray"),
    **{f"numpy.{module}.multiarray._reconstruct": reconstruct for module in ("core", "_core")},
    **{f"numpy.{module}.multiarray.scalar": scalar for module in ("core", "_core")},
    **{f"torch.{name}": Name(name) for name in STORAGES},
}


class Reader(pickle.Unpickler):
    """An unpickler that knows the stand-ins and nothing else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        """A stand-in; any other global is refused."""
        found = GLOBALS.get(f"{module}.{name}")
        return found if found is not None else refuse(f"unsupported global {module[:80]}.{name[:80]}")

    def persistent_load(self, pid: object) -> Storage:
        """The storage that a tensor names."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            refuse("a reference to something other than a storage")
        kind, key, (numel,) = pid[1], pid[2], whole_numbers([pid[4]], "size of a storage")
        if not isinstance(kind, Name) or kind.name not in STORAGES or type(key) is not str:
            refuse("a malformed reference to a storage")
        if len(pid) == 6 and pid[5] is not None:
            refuse("a view of a storage")
        storage = Storage(key, *STORAGES[kind.name], numel)
        if self.storages.setdefault(key, storage) != storage:
            refuse(f"the storage {key[:40]!r} is described twice, and differently")
        return storage


class Answer:
    """Values as JSON, with bytes beside it."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.position = 0
        self.places: dict[int, list[int]] = {}
        self.values = self.characters = 0

    def blob(self, data: bytes) -> list[int]:
        """Where the parent finds `data`; the same bytes are sent once."""
        if id(data) not in self.places:
            self.places[id(data)] = [self.position, len(data)]
            self.blobs.append(data)
            self.position += len(data)
        return self.places[id(data)]

    def tree(self, value: object, depth: int = 0) -> object:
        """A value as JSON: numbers, texts and `None` as they are, all else as a list that begins with its kind."""
        self.values += 1
        if depth > MAX_DEPTH:
            refuse("values are nested too deeply")
        if self.values > MAX_VALUES:
            refuse(f"more than {MAX_VALUES} values")
        if value is None or isinstance(value, bool):
            return value
        kind = type(value)
        if isinstance(value, int):
            return value if abs(value) < MAX_INTEGER else refuse("a number of more than 64 bits")
        if isinstance(value, str):
            self.characters += len(value)
            return value if self.characters < MAX_CHARACTERS else refuse("too much text")
        if isinstance(value, float):
            return ["float", repr(value)]
        if isinstance(value, Tensor):
            return ["tensor", value.storage.key, value.offset, value.size, value.stride]
        if isinstance(value, Array):
            order = ">" if value.dtype.order == ">" else "<"
            return ["array", order + value.dtype.kind, value.shape, value.fortran, *self.blob(value.data)]
        if kind is bytes:
            return ["bytes", *self.blob(value)]  # type: ignore[arg-type]
        if kind in (dict, Ordered):
            pairs = dict.items(value)  # type: ignore[arg-type]
            return ["dict", [[self.tree(key, depth + 1), self.tree(item, depth + 1)] for key, item in pairs]]
        if kind in (list, tuple, set):
            return [kind.__name__, [self.tree(item, depth + 1) for item in value]]  # type: ignore[attr-defined]
        return refuse(f"a bare {getattr(value, '__name__', kind.__name__)}")


def read(file: BinaryIO, *, is_legacy: bool) -> tuple[dict[str, object], list[bytes]]:
    """Reads the pickle of an archive, or the five of an older file.

    Args:
        file: At the beginning of the pickle.
        is_legacy: The older form: magic number, version, system, content, and the keys of the storages.

    Returns:
        The answer for the parent, and the bytes that it points into.

    Raises:
        Exception: Whatever a pickle that is none, or a hostile one, makes the unpickler raise.
    """
    keys: object = None
    if is_legacy:
        if Reader(file).load() != LEGACY_MAGIC:
            refuse("it begins like no file of torch")
        if Reader(file).load() != LEGACY_PROTOCOL:
            refuse("an unknown version")
        system = Reader(file).load()
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            refuse("numbers of another byte order")
    reader = Reader(file)
    content = reader.load()
    if is_legacy:
        keys = Reader(file).load()
        if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(reader.storages):
            refuse("the list of storages does not fit the tensors")
    answer = Answer()
    tree = answer.tree(content)
    storages = {key: list(storage[1:]) for key, storage in reader.storages.items()}
    return {
        "value": tree,
        "storages": storages,
        "keys": keys,
        "end": file.tell() if is_legacy else 0,
    }, answer.blobs


def limit_resources(pickle_bytes: int) -> None:
    """Memory and time for this process; nothing on systems without such limits."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    memory = MEMORY_FOR_PYTHON + MEMORY_PER_BYTE * pickle_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def main() -> None:
    """Answers on the standard output: the length of a JSON text, the text, and bytes."""
    form, size = sys.argv[1:]
    limit_resources(int(size))
    blobs: list[bytes] = []
    try:
        answer, blobs = read(sys.stdin.buffer, is_legacy=form == "legacy")
    except MemoryError:
        answer = {"error": "it asks for more memory than a file of its size needs"}
    except RecursionError:
        answer = {"error": "values are nested too deeply"}
    except Exception as error:  # a pickle may raise anything; the parent makes one error of it
        reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        answer = {"error": " ".join(reason.split())[:300]}
    text = json.dumps(answer).encode("ascii")
    out = sys.stdout.buffer
    out.write(struct.pack("<Q", len(text)) + text)
    for blob in blobs:
        out.write(blob)
    out.flush()


if __name__ == "__main__":
    main()
