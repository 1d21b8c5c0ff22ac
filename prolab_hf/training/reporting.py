"""What a run shows and records: progress display, JSONL log, callbacks, and the stop between two steps."""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from prolab_hf.evaluation.metrics import SegmentationScores
from prolab_hf.evaluation.property_statistics import PropertySummary
from prolab_hf.files import write_text

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

    def plan(self, total: int) -> None:
        """Sets the number of steps, where it was not known at the start."""
        self.total = total
        self._bar.update(self._train_task, total=total)

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

    def show_lines(self, lines: Sequence[str]) -> None:
        """Writes several lines above the bar."""
        for line in lines:
            self.show_line(line)


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


@dataclass(frozen=True)
class RunFacts:
    """What a user should see before the first step.

    Attributes:
        device: Device and what it computes with, for example `"cpu (2 threads), full precision"`.
        num_images: Training images; 0 for a stream.
        num_eval_images: Evaluation images.
        num_labels: Classes, if known.
        total: Steps of the run.
        images_per_step: Over all devices.
        first_step: Steps done before this session.
        evaluate_every: Steps between two evaluations.
        save_every: Steps between two checkpoints.
    """

    device: str
    num_images: int
    num_eval_images: int
    num_labels: int | None
    total: int
    images_per_step: int
    first_step: int
    evaluate_every: int
    save_every: int

    def lines(self) -> list[str]:
        """The facts, a line each."""
        images, epochs = "a stream of", ""
        if self.num_images:
            images = f"{self.num_images:,}"
            epochs = f" ({self.total * self.images_per_step / self.num_images:,.1f} epochs)"
        classes = "" if self.num_labels is None else f", {self.num_labels} classes"
        evaluation = f"evaluation every {self.evaluate_every}, " if self.num_eval_images else ""
        going_on = f", going on after step {self.first_step:,}" if self.first_step else ""
        return [
            f"device: {self.device}",
            f"data: {images} training images, {self.num_eval_images:,} evaluation images{classes}",
            f"run: {self.total:,} steps of {self.images_per_step} images{epochs}, {evaluation}"
            f"checkpoint every {self.save_every}{going_on}",
        ]


WARM_STEPS = 2
"""Steps of a session that say nothing about the next: memory is allocated, files are read for the first time."""
FORWARD_SHARE = 1 / 3
"""Of a training step, until an evaluation was measured: the backward pass costs about two forward passes."""


class TimeLeft:
    """The estimate of the remaining time, one for a whole run: steps and the evaluations between them.

    Args:
        total: Steps of the run.
        evaluate_every: Steps between two evaluations.
        evaluation_share: Evaluation images over images per step; 0 where the run is not evaluated.
    """

    def __init__(self, total: int, evaluate_every: int, evaluation_share: float) -> None:
        self.total = total
        self.evaluate_every = evaluate_every
        self.evaluation_share = evaluation_share
        self._steps, self._seconds = 0, 0.0
        self._evaluation_seconds: float | None = None

    def add_step(self, seconds: float) -> None:
        """A step took so long."""
        self._steps += 1
        if self._steps > WARM_STEPS:
            self._seconds += seconds

    def add_evaluation(self, seconds: float) -> None:
        """An evaluation took so long."""
        self._evaluation_seconds = seconds

    def seconds(self, step: int) -> float | None:
        """Remaining seconds after a step; `None` until enough steps were measured."""
        measured = self._steps - WARM_STEPS
        if step >= self.total:
            return 0.0
        if measured < 1:
            return None
        per_step = self._seconds / measured
        evaluation = self._evaluation_seconds
        if evaluation is None:
            evaluation = self.evaluation_share * per_step * FORWARD_SHARE
        evaluations = -(-self.total // self.evaluate_every) - step // self.evaluate_every
        return (self.total - step) * per_step + (evaluations * evaluation if self.evaluation_share else 0.0)


class TrainingLog:
    """A JSONL file with one object per line; a resumed run continues it.

    Args:
        path: The file.
        resumed_step: Lines of later steps are dropped first: the run that wrote them is being repeated.
    """

    def __init__(self, path: Path, *, resumed_step: int = 0) -> None:
        self.path = path
        kept = [entry for entry in read_log(path) if entry["step"] <= resumed_step] if resumed_step else []
        write_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def write(self, event: str, step: int, **values: Any) -> None:
        """Appends one line.

        Args:
            event: `"step"`, `"evaluation"`, `"checkpoint"`, ...
            step: Steps done.
            values: What JSON can hold; a number that is not finite becomes `null`.
        """
        line = {"event": event, "step": step, **_plain(values)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold."""
    return {
        name: _plain(value) if isinstance(value, Mapping) else None if _is_undefined(value) else value
        for name, value in values.items()
    }


def _is_undefined(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a training log, none where there is no file; what a crash left half-written is left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            entries.append(entry)
    return entries


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
        self._shown_loss: float | None = None

    def show_step(self, step: int, *, loss: float | None, **values: float | None) -> None:
        """Moves the bar.

        Args:
            step: Steps done.
            loss: `None` where it was not read back from the device; the last step shows the one before.
            values: See `TrainingDisplay.show_step`.
        """
        if loss is None and step < self.total:
            return
        self._shown_loss = self._shown_loss if loss is None else loss
        self.display.show_step(step, {"loss": self._shown_loss, **values})

    def tell_evaluation(
        self,
        step: int,
        scores: SegmentationScores,
        class_names: list[str],
        seconds: float,
        is_best: bool,
        *,
        properties: PropertySummary | None = None,
    ) -> None:
        """Records the scores of an evaluation and shows the means.

        Args:
            step: Steps done.
            scores: All scores.
            class_names: Names in the order of the ids.
            seconds: That it took.
            is_best: Whether no evaluation before was as good.
            properties: What the properties did, if the model has any.
        """
        of_properties = {} if properties is None else {"properties": properties.to_dict()}
        self.tell(
            "evaluation",
            step,
            mean_iou=scores.mean_iou,
            pixel_accuracy=scores.pixel_accuracy,
            seconds=seconds,
            classes=scores.to_dict(class_names)["per_class"],
            **of_properties,
        )
        self.display.show_line(
            f"step {step}/{self.total}  mIoU {scores.mean_iou:.4f}  "
            f"pixel accuracy {scores.pixel_accuracy:.4f}{'  (best so far)' if is_best else ''}"
        )

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


class TrainingInterrupted(KeyboardInterrupt):
    """The run was stopped by the user or the system; the message says how to go on.

    Args:
        message: What to do next.
        signal_number: The signal that came.

    Attributes:
        exit_code: Of the command: 143 after SIGTERM, as schedulers expect, else 1.
    """

    def __init__(self, message: str, signal_number: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal.SIGTERM if signal_number == signal.SIGTERM else 1


class InterruptGuard:
    """While entered, the first Ctrl-C or SIGTERM only sets `requested`; a second Ctrl-C stops at once.

    Outside of the main thread signals cannot be caught: there it does nothing.

    Attributes:
        requested: Whether a signal came.
        signal_number: Which one.
        last_good: Names the newest valid checkpoint, for the message of the second Ctrl-C.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal_number: int | None = None
        self.last_good: Callable[[], str] = lambda: "There is no checkpoint yet."
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # `timeout` and some schedulers send SIGTERM twice; who is in a hurry sends SIGKILL.
        if self.requested and number == signal.SIGINT:
            raise TrainingInterrupted(
                f"Stopped at once. {self.last_good()} Go on with the same command and --resume (resume=True).",
                number,
            )
        if not self.requested:
            self.requested, self.signal_number = True, number

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
