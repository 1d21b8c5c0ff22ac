"""Which images a step sees: one endless stream of shuffled epochs that can be entered at any step.

The stream of a data set is its permutation of epoch 0, then of epoch 1, and so on; step n takes the n-th
slice. Batches may span two epochs, so no image is dropped and a data set may be smaller than a batch.
Nothing depends on what was read before, which is what makes a resumed run equal to an uninterrupted one.
"""

import functools
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from prolab_hf.data.transforms import SegmentationDataset, collate
from prolab_hf.training.recipe import TrainingRecipe

MOST_WORKERS = 8


class StepOrder(Sampler[list[tuple[int, int]]]):
    """Batch sampler over the stream: gives lists of (epoch, index).

    Args:
        length: Number of images of the data set.
        recipe: Batch size and seed.
        accumulation: Forward passes per step.
        first_step: Where to enter the stream.
        last_step: Where to leave it.
        rank: Of this process.
        num_processes: Number of processes that share each step.
    """

    def __init__(
        self,
        length: int,
        recipe: TrainingRecipe,
        *,
        accumulation: int,
        first_step: int,
        last_step: int,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = recipe.batch_size
        self.seed = recipe.seed
        self.passes = range(first_step * accumulation, last_step * accumulation)
        self.rank, self.num_processes = rank, num_processes

    def __len__(self) -> int:
        return len(self.passes)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutation = functools.lru_cache(maxsize=2)(self._permutation)
        for forward_pass in self.passes:
            start = (forward_pass * self.num_processes + self.rank) * self.batch_size
            places = [divmod(place, self.length) for place in range(start, start + self.batch_size)]
            yield [(epoch, int(permutation(epoch)[place])) for epoch, place in places]

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(self.length)


class EpochView(Dataset[Any]):
    """A data set addressed by (epoch, index): one loader serves all epochs without a pause between them.

    Args:
        dataset: A map-style data set; `set_epoch` is called where it has one.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._epoch: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> Any:
        epoch, index = place
        if epoch != self._epoch and hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
            self._epoch = epoch
        return self.dataset[index]


def _start_worker(_: int) -> None:
    """Sets up a reading process."""
    # Ctrl-C reaches the whole process group; the main process decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    view = get_worker_info().dataset  # type: ignore[union-attr]
    if isinstance(view, EpochView) and isinstance(view.dataset, SegmentationDataset):
        # Its epoch is shared between processes, but workers may be an epoch apart at the same time.
        shared = view.dataset
        view.dataset = SegmentationDataset(shared.source, shared.transform, seed=shared.seed)


def worker_count(recipe: TrainingRecipe, num_local_processes: int = 1) -> int:
    """Number of reading processes per device."""
    if recipe.num_workers is not None:
        return recipe.num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, cores // num_local_processes - 1))


def train_loader(
    dataset: Any, order: StepOrder, *, num_workers: int, ignore_index: int, pin_memory: bool
) -> DataLoader[Any]:
    """Loader of the training batches of one process.

    Args:
        dataset: Gives `pixel_values` and `labels` per index.
        order: The batches.
        num_workers: Reading processes; 0 reads in this one.
        ignore_index: Label of pixels that padding adds.
        pin_memory: Faster transfer to a CUDA device.
    """
    return DataLoader(
        EpochView(dataset),
        batch_sampler=order,
        collate_fn=functools.partial(collate, ignore_index=ignore_index),
        num_workers=num_workers,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        persistent_workers=False,
        # Its own generator: a loader draws a number when it starts, and dropout must not notice.
        generator=torch.Generator().manual_seed(order.seed),
    )


def eval_loader(
    dataset: Any, indices: list[int], recipe: TrainingRecipe, *, num_workers: int, ignore_index: int
) -> DataLoader[Any]:
    """Loader of the test batches of one process.

    Args:
        dataset: Gives `pixel_values` and `labels` per index.
        indices: The images of this process.
        recipe: Its `eval_batch_size`.
        num_workers: Reading processes; 0 reads in this one.
        ignore_index: Label of pixels that padding adds.
    """
    return DataLoader(
        dataset,
        batch_size=recipe.eval_batch_size,
        sampler=indices,
        collate_fn=functools.partial(collate, ignore_index=ignore_index),
        num_workers=num_workers,
        worker_init_fn=_start_worker,
        generator=torch.Generator().manual_seed(0),
    )


def read_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's batches; what goes wrong in a reading process is raised as if it had happened here.

    torch prefixes such errors with a traceback of the other process, which would hide the one line that
    names the file.

    Raises:
        ValueError: An image or mask cannot be used, as the data set says.
        FileNotFoundError: One is missing.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (ValueError, FileNotFoundError) as error:
            marker = f"\n{type(error).__name__}: "
            message = str(error)
            if message.startswith("Caught ") and marker in message:
                raise type(error)(message.rsplit(marker, 1)[1].strip()) from error
            raise
        yield batch
