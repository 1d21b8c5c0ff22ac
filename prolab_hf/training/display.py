"""What a run shows and records: a progress bar on a terminal, lines elsewhere, and a JSONL log."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 20.0


class TrainingDisplay:
    """Progress bar with loss, mean IoU, learning rate and remaining time.

    Args:
        total: Number of steps of the run.
        enabled: Show anything at all.
        console: Where to; standard error by default, so that standard output stays clean for results.
    """

    def __init__(self, total: int, *, enabled: bool = True, console: Console | None = None) -> None:
        self.total = total
        self.console = console or Console(stderr=True)
        self.enabled = enabled
        self.is_live = enabled and self.console.is_terminal
        self._last_line = 0.0
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.is_live,
            expand=True,
        )
        self._train_task = self._bar.add_task("train", total=total, text="")
        self._eval_task = self._bar.add_task("evaluate", total=1, visible=False, text="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show_step(self, step: int, values: Mapping[str, float | None]) -> None:
        """Shows a training step.

        Args:
            step: Steps done.
            values: `loss`, `mean_iou`, `learning_rate`, `seconds_left`; `None` where not known yet.
        """
        text = describe(values)
        self._bar.update(self._train_task, completed=step, text=text)
        if self.enabled and not self.is_live and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self.console.print(f"step {step}/{self.total}  {text}", highlight=False)

    def show_evaluation(self, done: int, total: int) -> None:
        """Shows how far an evaluation is; it disappears when `done` reaches `total`."""
        self._bar.update(self._eval_task, completed=done, total=total, visible=done < total)

    def show_line(self, text: str) -> None:
        """Writes one line above the bar."""
        if self.enabled:
            self.console.print(text, highlight=False, markup=False)


def describe(values: Mapping[str, float | None]) -> str:
    """One line of numbers: loss, mean IoU, learning rate, remaining time; unknown ones are left out."""
    parts = []
    if values.get("loss") is not None:
        parts.append(f"loss {values['loss']:.4f}")
    if values.get("mean_iou") is not None:
        parts.append(f"mIoU {values['mean_iou']:.4f}")
    if values.get("learning_rate") is not None:
        parts.append(f"lr {values['learning_rate']:.2e}")
    if values.get("seconds_left") is not None:
        parts.append(f"{format_seconds(values['seconds_left'] or 0.0)} left")
    return "  ".join(parts)


def format_seconds(seconds: float) -> str:
    """`75` -> `1:15`, `7322` -> `2:02:02`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class TrainingLog:
    """A JSONL file with one object per line; a resumed run continues it.

    Args:
        path: The file.
        resumed_step: Lines of later steps are dropped first: the run that wrote them is being repeated.
    """

    def __init__(self, path: Path, *, resumed_step: int = 0) -> None:
        self.path = path
        kept = [line for line in _lines(path) if _step_of(line) <= resumed_step] if resumed_step else []
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, event: str, step: int, **values: Any) -> None:
        """Appends one line.

        Args:
            event: `"step"`, `"evaluation"`, `"checkpoint"`, ...
            step: Steps done.
            values: What JSON can hold.
        """
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, "step": step, **values}) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a training log."""
    return [json.loads(line) for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half-written
