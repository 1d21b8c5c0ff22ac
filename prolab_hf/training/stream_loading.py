"""Training batches of a stream: which reader reads which part, and how a run returns to the exact example.

Every worker of every process reads its own part without an end; a process takes batches from its workers in turn. With
each batch comes the position that its worker has after it, so what is stored with a checkpoint is where the batches of
the steps done ended, however far the workers have read ahead.
"""

import functools
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from prolab_hf.data.dataset import Transform
from prolab_hf.data.streaming.source import StreamingSource, StreamPosition
from prolab_hf.evaluation.evaluate import leave_signals_to_main, read_batches
from prolab_hf.training.data_loading import TrainingBatch, TrainingExample, collate_examples
from prolab_hf.training.recipe import TrainingRecipe

logger = logging.getLogger(__name__)

_MOST_WORKERS = 1024
"""So that no two readers of a run have one number."""


def check_stream(recipe: TrainingRecipe) -> None:
    """Refuses what needs the number of training images, or all of them at the start.

    Raises:
        ValueError: The recipe asks for it.
    """
    if recipe.schedule.max_iterations is None:
        length = {name: recipe[f"schedule.{name}"] for name in ("epochs", "max_minutes")}
        given = next(
            (f"{name} is {value:g}" for name, value in length.items() if value is not None), "unknown"
        )
        raise ValueError(
            f"schedule.{given}, but a stream has no length; say how long to train in steps with "
            "schedule.max_iterations (--max-iterations)."
        )
    if recipe.features.cache:
        raise ValueError(
            "features.cache keeps the features of every training image, and a stream is not to be held; set it to "
            "false."
        )
    for name in ("init", "finish"):
        value = recipe[f"closed_form.{name}"]
        if value == "solve":
            raise ValueError(
                f"closed_form.{name} is {value!r}, which reads the training images by number; a stream gives none. "
                "Leave it out, or solve on a data set that is no stream first."
            )
    if recipe.balance.class_weights in ("sqrt", "effective") or recipe.balance.rare_class_crops:
        raise ValueError(
            "The recipe's balance counts the pixels of all training images before the first step, which a stream does "
            "not allow; give class weights as a file, and set balance.rare_class_crops to false."
        )


@dataclass
class StreamState:
    """Where the readers of one process are.

    Attributes:
        num_workers: Reading processes; 0 = the training process itself.
        next_worker: Whose batch comes next.
        positions: By worker, the position after its last batch that was trained on.
    """

    num_workers: int
    next_worker: int = 0
    positions: dict[int, dict[str, Any]] = field(default_factory=dict)

    def advance(self, batches: Sequence[TrainingBatch]) -> None:
        """Notes that batches were trained on."""
        for batch in batches:
            if batch.position is not None:
                worker, self.positions[worker] = batch.position
                self.next_worker = (worker + 1) % max(self.num_workers, 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "num_workers": self.num_workers,
            "next_worker": self.next_worker,
            "positions": {str(worker): position for worker, position in self.positions.items()},
        }


def stream_state(
    saved: Sequence[dict[str, Any]], *, rank: int, num_processes: int, num_workers: int
) -> StreamState:
    """Where the readers of a process begin.

    Args:
        saved: Of every process, what the checkpoint holds; empty at the start of a run.
        rank: Of this process.
        num_processes: Of the run.
        num_workers: Reading processes of this one.

    Returns:
        The exact places, or, where the run has another number of readers than before, the start of the next epoch.
    """
    if not saved:
        return StreamState(num_workers)
    before = [entry["num_workers"] for entry in saved]
    if len(saved) == num_processes and before[rank] == num_workers:
        positions = {int(worker): place for worker, place in saved[rank]["positions"].items()}
        return StreamState(num_workers, saved[rank]["next_worker"], positions)
    epochs = [place["epoch"] for entry in saved for place in entry["positions"].values()]
    epoch = max(epochs, default=-1) + 1
    logger.warning(
        "The run had %d process(es) with %s worker(s) reading the stream and now has %d with %d, whose parts are "
        "others: reading goes on with epoch %d, so this is not exactly the run that it continues.",
        len(saved),
        ", ".join(map(str, sorted(set(before)))),
        num_processes,
        num_workers,
        epoch + 1,
    )
    start = StreamPosition(epoch=epoch).to_dict()
    return StreamState(num_workers, 0, {worker: start for worker in range(max(num_workers, 1))})


class StreamedExamples(IterableDataset["tuple[TrainingExample, int, StreamPosition] | None"]):
    """Augmented examples of the part of a stream that a worker reads, without an end.

    Args:
        source: The part of this process.
        transform: The augmentation.
        state: Where the readers begin.
        recipe: Seed and batch size.
        rank: Of this process.
        skip_broken: Go on with the next example where one cannot be decoded.
    """

    def __init__(
        self,
        source: StreamingSource,
        transform: Transform,
        state: StreamState,
        recipe: TrainingRecipe,
        *,
        rank: int,
        skip_broken: bool,
    ) -> None:
        self.source, self.transform, self.rank, self.skip_broken = source, transform, rank, skip_broken
        self.seed, self.batch_size = recipe.seed, recipe.schedule.batch_size
        self.positions, self.first_worker = dict(state.positions), state.next_worker

    def __iter__(self) -> Iterator[tuple[TrainingExample, int, StreamPosition] | None]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        if worker < self.first_worker:
            # A dataloader begins with worker 0, whose turn may have passed: one batch that is thrown away.
            yield from [None] * self.batch_size
        reader = self.rank * _MOST_WORKERS + worker
        start = StreamPosition(**self.positions.get(worker, {}))
        examples = self.source.read(start, seed=self.seed, reader=reader, skip_broken=self.skip_broken)
        for sample, position, skipped in examples:
            rng = np.random.default_rng((self.seed, reader, position.number))
            tensors = self.transform(sample.image, sample.mask, rng)
            yield TrainingExample(tensors, sample.name, tuple(skipped)), worker, position


def stream_batches(
    source: StreamingSource,
    transform: Transform,
    recipe: TrainingRecipe,
    saved: Sequence[dict[str, Any]],
    *,
    rank: int,
    num_processes: int,
    num_workers: int,
    ignore_index: int,
    count_void: bool = False,
    pin_memory: bool = False,
    skip_broken: bool = False,
) -> tuple[Generator[TrainingBatch, None, None], StreamState]:
    """The training batches of one process, without an end, and the state that their positions are noted in.

    Args:
        source: The whole stream.
        transform: The augmentation.
        recipe: Seed and batch size.
        saved: What a checkpoint holds of every process's state; empty at the start of a run.
        rank: Of this process.
        num_processes: That share the stream.
        num_workers: Reading processes that are wanted; there are at most as many as this process has shards.
        ignore_index: Label of void pixels.
        count_void: See `collate_examples`.
        pin_memory: Faster transfer to a CUDA device.
        skip_broken: Go on with the next example where one cannot be decoded.
    """
    part = source.part(rank, num_processes)
    workers = min(num_workers, max(part.num_shards, 1))
    state = stream_state(saved, rank=rank, num_processes=num_processes, num_workers=workers)
    loader: DataLoader[Any] = DataLoader(
        StreamedExamples(part, transform, state, recipe, rank=rank, skip_broken=skip_broken),
        batch_size=recipe.schedule.batch_size,
        collate_fn=functools.partial(_collate, ignore_index=ignore_index, count_void=count_void),
        num_workers=workers,
        worker_init_fn=leave_signals_to_main,
        pin_memory=pin_memory,
        # Its own generator: a loader draws a number when it starts, and dropout must not notice.
        generator=torch.Generator().manual_seed(recipe.seed),
    )
    return _without_passed_turns(loader), state


def _without_passed_turns(loader: DataLoader[Any]) -> Generator[TrainingBatch, None, None]:
    batches = read_batches(loader)
    try:
        for batch in batches:
            if batch is not None:
                yield batch
    finally:
        batches.close()


def _collate(
    examples: Sequence[tuple[TrainingExample, int, StreamPosition] | None],
    *,
    ignore_index: int,
    count_void: bool,
) -> TrainingBatch | None:
    given = [example for example in examples if example is not None]
    if not given:
        return None
    batch = collate_examples(
        [example for example, _, _ in given], ignore_index=ignore_index, count_void=count_void
    )
    _, worker, position = given[-1]
    batch.position = (worker, position.to_dict())
    return batch
