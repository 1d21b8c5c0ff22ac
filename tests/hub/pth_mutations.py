"""Damaged `.pth` files by the thousand, and what the reader makes of each.

The suite runs a few hundred; more by `python tests/hub/pth_mutations.py --count 3000`.
"""

import argparse
import io
import pickle
import random
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from prolab_hf.hub.safe_unpickling import load_tensors_safely

FORMS = ("archive", "pickle", "legacy")
SAVED_TENSOR = torch.arange(12.0).reshape(3, 4)


def content():
    """What checkpoints and banks hold."""
    return {
        "meta": {"CLASSES": ("wall", "sky"), "iter": 160000, "lr": 6e-5, "best": np.float64(0.5)},
        "state_dict": {"conv.weight": SAVED_TENSOR, "bn.num_batches_tracked": torch.tensor(7)},
        "bank": [np.arange(6.0).reshape(2, 3), np.eye(3)],
        "half": SAVED_TENSOR.half()[::2],
    }


def saved(*, legacy=False):
    buffer = io.BytesIO()
    torch.save(content(), buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def with_pickle(archive, change):
    """The archive with another data.pkl under right checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, change(data) if entry.filename.endswith("/data.pkl") else data)
    return out.getvalue()


OPCODES = [
    getattr(pickle, name) for name in ("REDUCE", "BUILD", "NEWOBJ", "LONG_BINPUT", "BINBYTES8", "MARK")
]
NUMBERS = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff" * 8]


def mutated(data, random_numbers):
    """One to three small damages."""
    data = bytearray(data)
    for _ in range(random_numbers.randint(1, 3)):
        place = random_numbers.randrange(len(data) or 1)
        how = random_numbers.randrange(6)
        if how == 0:
            data[place : place + 1] = bytes([random_numbers.randrange(256)])
        elif how == 1:
            data[place : place + 1] = random_numbers.choice(OPCODES)
        elif how == 2:
            number = random_numbers.choice(NUMBERS)
            data[place : place + len(number)] = number
        elif how == 3:
            del data[place : place + random_numbers.randint(1, 40)]
        elif how == 4:
            data[place:place] = data[place : place + random_numbers.randint(1, 40)]
        else:
            del data[place:]
    return bytes(data)


def equal(one, other):
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, float) and isinstance(other, float):  # numpy's numbers come as Python's
        return one == other
    return type(one) is type(other) and one == other


def outcome(path, form):
    """`clean`, `unnamed`, `raw`, `same`; `silent` where a checksum covers the damage, `other` where none does."""
    try:
        found = load_tensors_safely(path)
    except ValueError as error:
        text = str(error)
        return "clean" if str(path) in text and "\n" not in text else "unnamed"
    except Exception:  # what the harness is there to count
        return "raw"
    if equal(found, content()):
        return "same"
    return "silent" if form == "archive" else "other"


def run(form, count, folder, seed=0):
    """Counts of the outcomes of `count` damaged files of one form."""
    random_numbers = random.Random(f"{form} {seed}")
    original = saved(legacy=form == "legacy")
    path = folder / "damaged.pth"
    counts = Counter()
    for _ in range(count):
        if form == "pickle":
            path.write_bytes(with_pickle(original, lambda data: mutated(data, random_numbers)))
        else:
            path.write_bytes(mutated(original, random_numbers))
        counts[outcome(path, form)] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="Files of each form.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            counts = run(form, options.count, Path(folder), options.seed)
            names = ("clean", "unnamed", "raw", "silent", "same", "other")
            print(f"{form:8}", ", ".join(f"{name} {counts[name]}" for name in names))  # noqa: T201


if __name__ == "__main__":
    main()
