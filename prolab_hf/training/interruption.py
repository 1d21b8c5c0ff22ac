"""Ctrl-C and a cluster's SIGTERM stop a run between two steps, with a checkpoint."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


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
