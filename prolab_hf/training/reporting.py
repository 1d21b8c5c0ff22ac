"""What a run shows and records: progress display, JSONL log, callbacks, and the stop between two steps."""

import json
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

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


SECONDS_BETWEEN_READINGS = 0.5


@dataclass(frozen=True)
class TrainingEvent:
    """What callbacks are told.

    Attributes:
        kind: `"step"` (every `log_every` steps), `"evaluation"`, `"checkpoint"` or `"export"`.
        step: Steps done.
        total: Steps of the run.
        values: Numbers of the event, the same as in the log.
    """

    kind: str
    step: int
    total: int
    values: dict[str, Any] = field(default_factory=dict)


TrainingCallback = Callable[[TrainingEvent], None]


class Reporter:
    """Log, callbacks and display of a run; silent on all processes but the main one.

    Args:
        total: Steps of the run.
        callbacks: Called with every event.
        display: The progress bar.
    """

    def __init__(self, total: int, callbacks: Sequence[TrainingCallback], display: TrainingDisplay) -> None:
        self.total = total
        self.callbacks = callbacks
        self.display = display
        self.log: TrainingLog | None = None

    def tell(self, kind: str, step: int, **values: Any) -> None:
        """Writes a log line and calls the callbacks.

        Args:
            kind: See `TrainingEvent`.
            step: Steps done.
            values: Numbers of the event.
        """
        if self.log is None:
            return
        self.log.write(kind, step, **values)
        for callback in self.callbacks:
            callback(TrainingEvent(kind, step, self.total, values))


class LossWindow:
    """Loss since the last log line, kept on the device: reading it back makes the device wait.

    Args:
        device: Of the loss.
    """

    def __init__(self, device: torch.device) -> None:
        self._steps = 0
        self._sum = torch.zeros((), device=device)
        self._bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self._last_reading = 0.0

    def add(self, loss: Tensor, step: int) -> None:
        """Adds the loss of a step."""
        self._steps += 1
        self._sum += loss
        is_first_bad = ~torch.isfinite(loss) & (self._bad_step < 0)
        self._bad_step = torch.where(is_first_bad, step, self._bad_step)

    def recent_mean(self) -> float | None:
        """Mean loss of the window, at most twice a second; `None` in between."""
        now = time.monotonic()
        if now - self._last_reading < SECONDS_BETWEEN_READINGS or not self._steps:
            return None
        self._last_reading = now
        return float(self._sum / self._steps)

    def first_bad_step(self) -> int | None:
        """The first step of the run whose loss was not finite."""
        step = int(self._bad_step)
        return None if step < 0 else step

    def take(self) -> Tensor:
        """Mean loss of the window, on the device; starts a new window."""
        mean = self._sum / max(self._steps, 1)
        self._steps, self._sum = 0, torch.zeros_like(self._sum)
        return mean


class TrainingInterrupted(KeyboardInterrupt):
    """The run was stopped by the user; the message says how to go on."""


class InterruptGuard:
    """While entered, the first signal only sets `requested`; a second one stops at once.

    Outside of the main thread signals cannot be caught: there it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise TrainingInterrupted("Stopped at once; the last checkpoint is valid. Go on with --resume.")
        self.requested = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
