"""Reading `.pth` files of strangers: tensors, arrays and plain values, never code."""

import codecs
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

# What torch's restricted unpickler raises on bytes that are no pickle, or no pickle it accepts.
_UNREADABLE: tuple[type[Exception], ...] = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, ValueError),
    *(LookupError, TypeError, AttributeError, AssertionError, OverflowError),
)


def load_tensors_safely(path: str | Path, *, what: str = "checkpoint") -> Any:
    """Loads a `.pth` file without running any code that it may contain.

    Args:
        path: The file.
        what: What it should be, for the messages.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or holds objects other than arrays, tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no {what} at {path}.")
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(f"{path}: not a {what} that can be read safely ({_reason(error)}).") from error


def _reason(error: Exception) -> str:
    """The cause without torch's advice, which ends in switching the safety off."""
    text = " ".join(str(error).split())
    found = re.search(r"(?i)(unsupported (?:global|class|operand):? ?[\w.]+)", text)
    return found[1] if found else f"{type(error).__name__}: {text.split('. ')[0][:200]}"


def _numpy_globals() -> list[Any]:
    """What a pickled numpy array of numbers needs, under numpy's old and new module names."""
    reconstruct = np.zeros(1).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [np.ndarray, np.dtype, codecs.encode]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(reconstruct, f"{module}._reconstruct"), (scalar, f"{module}.scalar")]
    return allowed + [type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")]
