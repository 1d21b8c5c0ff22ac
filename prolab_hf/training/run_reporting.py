"""What a run tells the world while it goes on: log lines, callbacks, the display."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from prolab_hf.training.display import TrainingDisplay, TrainingLog

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
