"""The loss since the last log line, and what it is made of."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

SECONDS_BETWEEN_READINGS = 0.5


class LossWindow:
    """Loss since the last log line, kept on the device: reading it back makes the device wait.

    Args:
        device: Of the loss.
        resumed: Sum and number of losses that the run had in its window when it was stopped.
    """

    def __init__(self, device: torch.device, resumed: tuple[float, int] = (0.0, 0)) -> None:
        self._steps = resumed[1]
        self._sum = torch.full((), resumed[0], device=device)
        self._bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self._last_reading = 0.0
        self._names: dict[int, list[str]] = {}
        self._parts: dict[str, Tensor] = {}
        self._steps_with_parts = 0

    def add(
        self, loss: Tensor, step: int, names: list[str], parts: Mapping[str, Tensor] | None = None
    ) -> None:
        """Adds the loss of a step, the names of its images, and the parts of the loss where they are watched."""
        self._steps += 1
        if parts:
            self._steps_with_parts += 1
            for part, value in parts.items():
                self._parts[part] = self._parts.get(part, torch.zeros_like(self._sum)) + value
        self._sum += loss
        self._names[step] = names
        is_first_bad = ~torch.isfinite(loss) & (self._bad_step < 0)
        self._bad_step = torch.where(is_first_bad, step, self._bad_step)

    def recent_mean(self) -> float | None:
        """Mean loss of the window, at most twice a second; `None` in between."""
        now = time.monotonic()
        if now - self._last_reading < SECONDS_BETWEEN_READINGS or not self._steps:
            return None
        self._last_reading = now
        return float(self._sum / self._steps)

    def first_bad_step(self) -> tuple[int, list[str]] | None:
        """The first step of the session whose loss was not finite, with the names of its images."""
        step = int(self._bad_step)
        names = self._names.get(step, [])
        self._names.clear()
        return None if step < 0 else (step, names)

    def state(self) -> tuple[float, int]:
        """Sum and number of the losses in the window."""
        total = float(self._sum)
        # After a loss that is not finite there is nothing to go on with.
        return (total, self._steps) if math.isfinite(total) else (0.0, 0)

    def take(self) -> Tensor:
        """Mean loss of the window, on the device; starts a new window."""
        mean = self._sum / max(self._steps, 1)
        self._steps, self._sum = 0, torch.zeros_like(self._sum)
        return mean

    def take_parts(self) -> dict[str, Tensor]:
        """Mean of each part of the loss over the window's steps of this session, on the device; starts anew."""
        means = {part: total / self._steps_with_parts for part, total in sorted(self._parts.items())}
        self._parts, self._steps_with_parts = {}, 0
        return means


@contextmanager
def watched_parts(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The parts of the losses that a model computes while entered; empty for models that do not tell.

    Args:
        model: The module that computes, not wrapped.
    """
    parts: dict[str, Tensor] = {}
    if not hasattr(model, "loss_parts"):
        yield parts
        return
    watched: Any = model
    watched.loss_parts = parts
    try:
        yield parts
    finally:
        watched.loss_parts = None
