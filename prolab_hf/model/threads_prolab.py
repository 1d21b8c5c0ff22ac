"""Coarse tasks on threads, each with serial torch operations inside."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

MOST_THREADS = 8  # tasks are Python between the operations: more threads would wait for the interpreter


def thread_count() -> int:
    """How many threads `run_on_threads` uses for enough tasks."""
    return min(torch.get_num_threads(), MOST_THREADS)


def run_on_threads(tasks: Sequence[Callable[[], None]], *, serial: bool = False) -> None:
    """Runs independent tasks on as many threads as torch may use on the CPU, and waits for them.

    Many small operations with OpenMP inside collapse when other processes use the cores, since each operation
    ends in a barrier; one thread per task with serial operations does not. Tasks run without gradients.

    Args:
        tasks: Called without arguments, in any order.
        serial: One after the other on one thread, for operations so small that threads would only wait for
            the interpreter.
    """
    configured, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()

    def run(task: Callable[[], None]) -> None:
        with torch.inference_mode(inference), torch.no_grad():  # modes of each thread
            task()

    threads = min(thread_count(), len(tasks))
    if threads <= 1 or serial:
        try:
            torch.set_num_threads(1)
            for task in tasks:
                run(task)
        finally:
            torch.set_num_threads(configured)
        return
    try:
        # A pool per call costs 0.2 ms and, unlike a lasting one, survives a fork of the process.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for future in [pool.submit(run, task) for task in tasks]:
                future.result()
    finally:
        torch.set_num_threads(configured)  # the setting of a worker also reaches threads that start later
