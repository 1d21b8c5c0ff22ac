"""Progress bars that cost nothing when they are off."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console


class Progress:
    """A counter with a total that may grow while work is found.

    Args:
        display: Rich's display, or `None` to count silently.
        description: Text in front of the bar.
        total: Known amount of work.
    """

    def __init__(self, display: rich_progress.Progress | None, description: str, total: int = 0) -> None:
        self.total = total
        self._display = display
        self._task = display.add_task(description, total=total) if display is not None else None

    def add_total(self, number: int) -> None:
        """More work was found."""
        self.total += number
        if self._display is not None and self._task is not None:
            self._display.update(self._task, total=self.total)

    def advance(self, number: int = 1) -> None:
        """Work was done."""
        if self._display is not None and self._task is not None:
            self._display.advance(self._task, number)

    def describe(self, text: str) -> None:
        """Replace the text in front of the bar."""
        if self._display is not None and self._task is not None:
            self._display.update(self._task, description=text)


@contextmanager
def without_foreign_bars() -> Iterator[None]:
    """While entered, transformers draws no bars of its own (`Loading weights`, `Writing model shards`).

    There is one display per command, and in a log file every bar is a hundred lines.
    """
    from transformers.utils import logging as transformers_logging

    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


@contextmanager
def progress(show: bool, description: str, total: int = 0) -> Iterator[Progress]:
    """A progress bar with elapsed time and an estimate on the error stream, or nothing.

    Args:
        show: Whether it is shown.
        description: Text in front of the bar.
        total: Known amount of work.
    """
    if not show:
        yield Progress(None, description, total)
        return
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    # The error stream: what a command prints on its output may be piped into a file.
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as display:
        yield Progress(display, description, total)
