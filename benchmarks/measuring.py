"""Times and peak memory of functions that are to be compared: interleaved in one process, and one process each."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

MIB = 2**20


def interleaved(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds per function; each round runs all of them, so foreign load meets all alike."""
    wall: dict[str, list[float]] = {name: [] for name in functions}
    cpu: dict[str, list[float]] = {name: [] for name in functions}
    for round_number in range(repeats + 1):  # the first round warms up
        for name, function in functions.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            function()
            if round_number or repeats == 0:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - start_cpu)
    return {name: (statistics.median(wall[name]), statistics.median(cpu[name])) for name in functions}


def _status(key: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) / 1024


def peak_memory(function: Callable[[], object]) -> float:
    """MiB above the present that the process reaches while it runs the function once (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the high-water mark so far
    before = _status("VmRSS")
    result = function()
    peak = _status("VmHWM") - before
    del result
    return peak


def in_fresh_process(arguments: list[str]) -> dict[str, float]:
    """Runs the present script with other arguments; the last line that it prints is the answer as JSON."""
    command = [sys.executable, sys.argv[0], *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.strip().splitlines()[-1])


def _spin() -> None:
    torch.set_num_threads(1)
    values = torch.randn(512, 512)
    while True:
        values = torch.tanh(values @ values)


@contextmanager
def busy_core(wanted: bool) -> Iterator[None]:
    """Keeps one core busy with matrix products of another process, if wanted."""
    if not wanted:
        yield
        return
    worker = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    worker.start()
    time.sleep(3)
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
