"""Times and peak memory of functions that are to be compared: interleaved in one process, and one process each."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import torch


def interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of warm functions; each round runs all of them, so other load meets all alike."""
    wall: dict[str, list[float]] = {name: [] for name in functions}
    cpu: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            function()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    return {name: (statistics.median(wall[name]), statistics.median(cpu[name])) for name in functions}


def _status(key: str) -> float:
    """A figure of this process in MiB (Linux)."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) / 1024


def _measure_peak(prepare: Callable[[], Callable[[], object]], answer: Connection) -> None:
    function = prepare()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the high-water mark so far
    before = _status("VmRSS")
    result = function()
    answer.send(_status("VmHWM") - before)
    del result


def peak_memory(prepare: Callable[[], Callable[[], object]]) -> float:
    """MiB that a process of its own needs to run a function once, above the inputs.

    The process is a fork of this one: call this before the first computation, so that it starts without memory
    that earlier work has left to be used again.

    Args:
        prepare: Makes the inputs and returns the function.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_measure_peak, args=(prepare, there))
    process.start()
    process.join()
    if process.exitcode:
        raise MemoryError(f"the process that measures memory ended with code {process.exitcode}")
    return here.recv()


def _spin(started: Event) -> None:
    torch.set_num_threads(1)
    values = torch.randn(512, 512)
    started.set()
    while True:
        values = torch.tanh(values @ values)


@contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Keeps one core busy with matrix products of another process, if wanted."""
    if not wanted:
        yield
        return
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    worker = context.Process(target=_spin, args=(started,), daemon=True)
    worker.start()
    started.wait()
    try:
        yield
    finally:
        worker.kill()


def environment() -> str:
    """One line about the machine: figures mean little without it."""
    load = os.getloadavg()[0]
    return f"torch {torch.__version__}, {os.cpu_count()} CPU cores, load {load:.1f} before the run"


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Prints a Markdown table."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in (header, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |", flush=True)
