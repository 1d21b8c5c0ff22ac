"""Results on disk: one JSON file per table, one record per arm and seed, written as soon as it is measured."""

import fcntl
import json
import math
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy import stats

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "transformers", "timm", "numpy", "scikit-learn")
Value: TypeAlias = str | int | float | bool | Sequence["Value"] | Mapping[str, "Value"] | None
Record: TypeAlias = dict[str, Value]


def _round(value: Value) -> Value:
    """Six significant digits; files that people read in a diff."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _round(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_round(each) for each in value]
    return value


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return found.stdout.strip() or "unknown"


class Table:
    """The records of one table, kept in `results/<name>.json`.

    Args:
        name: Of the table.
        folder: Where the file lies.
    """

    def __init__(self, name: str, folder: Path = RESULTS) -> None:
        self.name = name
        self.path = folder / f"{name}.json"
        self.records: list[Record] = []
        if self.path.exists():
            self.records = json.loads(self.path.read_text("utf-8"))["records"]

    def find(self, key: Mapping[str, Value]) -> list[Record]:
        """Records that agree with the key."""
        return [each for each in self.records if all(each.get(name) == value for name, value in key.items())]

    def begin(self, key: Mapping[str, Value]) -> "Entry | None":
        """Starts the clock of a record; `None` where it is there already."""
        return None if self.find(key) else Entry(self, dict(key))

    def write(self) -> None:
        """Replaces the file at once; a killed run leaves the last one, several runs add to one file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.path.exists():
                others = json.loads(self.path.read_text("utf-8"))["records"]
                self.records = others + [each for each in self.records if each not in others]
            made_with = {
                "python": platform.python_version(),
                **{name: version(name) for name in PACKAGES},
                "commit": _commit(),
            }
            head = json.dumps({"table": self.name, "made_with": made_with})[:-1]
            lines = ",\n".join(json.dumps(each) for each in self.records)
            partial = self.path.with_suffix(".partial")
            partial.write_text(f'{head}, "records": [\n{lines}\n]}}\n', "utf-8")
            partial.replace(self.path)


class Entry:
    """A record that is being measured.

    Args:
        table: Where it belongs.
        key: What it is.
    """

    def __init__(self, table: Table, key: Record) -> None:
        self.table, self.key = table, key
        self.started, self.cpu = time.monotonic(), time.process_time()

    def finish(self, figures: Mapping[str, Value]) -> Record:
        """Stops the clock and writes the record.

        Raises:
            ValueError: A figure has the name of a part of the key, which it would replace.
        """
        if shared := set(self.key) & set(figures):
            raise ValueError(
                f"Figures are named like parts of the key: {sorted(shared)}; rename one of them."
            )
        record: Record = {
            **self.key,
            **figures,
            "cpu_seconds": round(time.process_time() - self.cpu, 2),
            "wall_seconds": round(time.monotonic() - self.started, 2),
        }
        self.table.records.append({name: _round(value) for name, value in record.items()})
        self.table.write()
        title = ", ".join(map(str, self.key.values()))
        print(f"{self.table.name}: {title}: {_headline(figures)}", flush=True)
        return self.table.records[-1]


def _headline(figures: Mapping[str, Value]) -> str:
    shown = [f"{name} {value:.3f}" for name, value in figures.items() if isinstance(value, float)]
    return ", ".join(shown[:5])


# ---- intervals ----------------------------------------------------------------------------------------------------


def interval(values: Iterable[float]) -> tuple[float, float]:
    """Mean of a few values and half the width of its 95 % interval (Student's t; not a number for one value)."""
    array = np.asarray(list(values), dtype=float)
    if len(array) < 2:
        return float(array.mean()) if len(array) else math.nan, math.nan
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return float(array.mean()), float(half)


def paired(
    records: Sequence[Record], baseline: Sequence[Record], measure: str, pair_by: Sequence[str] = ("seed",)
) -> tuple[float, float, int]:
    """Mean difference to a baseline over the pairs that both have, half its 95 % interval, and the number of pairs."""

    def keyed(given: Sequence[Record]) -> dict[tuple[Value, ...], float]:
        return {
            tuple(each.get(name) for name in pair_by): float(each[measure])  # type: ignore[arg-type]
            for each in given
            if each.get(measure) is not None
        }

    ours, theirs = keyed(records), keyed(baseline)
    shared = sorted(set(ours) & set(theirs), key=str)
    mean, half = interval(ours[key] - theirs[key] for key in shared)
    return mean, half, len(shared)
