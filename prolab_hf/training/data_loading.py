"""Which images a step sees, and how they are read: one endless stream of shuffled epochs, entered at any step.

The stream of a data set is its permutation of epoch 0, then of epoch 1, and so on; step n takes the n-th
slice. Batches may span two epochs, so no image is dropped and a data set may be smaller than a batch.
Nothing depends on what was read before, which is what makes a resumed run equal to an uninterrupted one.
"""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, get_worker_info

from prolab_hf.data.image_files import BrokenImageError
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.streaming.source import StreamingSource
from prolab_hf.data.transforms import SegmentationDataset, Transform, collate
from prolab_hf.evaluation.evaluate import as_sample, check_classes, leave_signals_to_main
from prolab_hf.evaluation.inference import class_names_of
from prolab_hf.protocols import Examples, ImageMaskPairs
from prolab_hf.training.recipe import TrainingRecipe

if TYPE_CHECKING:
    from datasets import Dataset as ArrowDataset

MOST_WORKERS = 8
_READERS = 16
_DIGESTED_SAMPLES = 16
MOST_REPLACEMENTS = 100
"""So many broken images in a row are no accident: the folder is wrong."""


class StepSampler(Sampler[list[tuple[int, int]]]):
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
        self.batch_size = recipe.schedule.batch_size
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


@dataclass(frozen=True)
class TrainingExample:
    """Tensors of one image.

    Attributes:
        tensors: `pixel_values` `(num_channels, height, width)`, or `feature_maps`, and `labels` `(height, width)`.
        name: File or number that it comes from.
        skipped: What was said about broken images that it stands in for.
    """

    tensors: Mapping[str, Any]
    name: str
    skipped: tuple[str, ...] = ()


class TrainingExamples(Dataset[TrainingExample]):
    """Augmented examples of a data set, addressed by (epoch, index).

    One dataloader serves all epochs without a pause between them, and what an example looks like depends on
    nothing but seed, epoch and index.

    Args:
        dataset: Gives samples or pairs (image, mask), or tensors that are taken as they are; `set_epoch` is
            called where it has one.
        transform: The augmentation of images and masks; not needed for tensors.
        seed: Seed of all random numbers.
        skip_broken: Take the next image instead of one that cannot be decoded.
    """

    def __init__(
        self,
        dataset: ImageMaskPairs | Examples,
        transform: Transform | None,
        *,
        seed: int,
        skip_broken: bool = False,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.skip_broken = skip_broken
        self._epoch: int | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: tuple[int, int]) -> TrainingExample:
        epoch, index = place
        if epoch != self._epoch and hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
            self._epoch = epoch
        skipped: list[str] = []
        while True:
            try:
                tensors, name = self._read(epoch, index)
                return TrainingExample(tensors, name, tuple(skipped))
            except BrokenImageError as error:
                if not self.skip_broken or len(skipped) >= min(MOST_REPLACEMENTS, len(self) - 1):
                    raise
                skipped.append(str(error).rstrip("."))
                index = (index + 1) % len(self)

    def _read(self, epoch: int, index: int) -> tuple[Mapping[str, Tensor], str]:
        item = self.dataset[index]
        if isinstance(item, Mapping):
            return item, str(item.get("name", f"number {index}"))
        sample = as_sample(item, index)
        if self.transform is None:
            raise ValueError(
                f"The data set gives images (such as {sample.name}), but there is no transform for them."
            )
        rng = np.random.default_rng((self.seed, epoch, index))
        return self.transform(sample.image, sample.mask.astype(np.int32, copy=False), rng), sample.name


@dataclass
class TrainingBatch:
    """What one forward pass sees.

    Attributes:
        tensors: `pixel_values` `(batch_size, num_channels, height, width)`, or `feature_maps`, and `labels`.
        names: Files or numbers of its images.
        valid_pixels: Labeled pixels, which its loss is a mean over.
        skipped: What was said about broken images.
        position: Of a stream: the worker that read it, and where that is after it.
    """

    tensors: dict[str, Any]
    names: list[str]
    valid_pixels: int
    skipped: list[str]
    position: tuple[int, dict[str, Any]] | None = None

    def pin_memory(self) -> "TrainingBatch":
        """Called by the dataloader for a faster transfer to a CUDA device."""
        self.tensors = {name: value.pin_memory() for name, value in self.tensors.items()}
        return self


def collate_examples(
    examples: Sequence[TrainingExample], *, ignore_index: int, count_void: bool
) -> TrainingBatch:
    """Stacks examples, padded to one size.

    Args:
        examples: Examples of one forward pass.
        ignore_index: Label of pixels that padding adds, and of void ones.
        count_void: Whether void pixels are in the mean of the loss, too (`void_pixels="dilute"`, of the property
            loss; a class loss beside it leaves them out, and is then weighed by pass instead of by pixel).
    """
    maps = [example.tensors.get("feature_maps") for example in examples]
    if maps[0] is not None:  # cached features instead of images, all of one size
        batch = {"labels": torch.stack([example.tensors["labels"] for example in examples])}
        batch["feature_maps"] = type(maps[0]).stack(maps)
    else:
        names = ("pixel_values", "labels")
        tensors = [{name: example.tensors[name] for name in names} for example in examples]
        batch = collate(tensors, ignore_index=ignore_index)
    labels = batch["labels"]
    valid = labels.numel() if count_void else int((labels != ignore_index).sum())
    skipped = [words for example in examples for words in example.skipped]
    return TrainingBatch(batch, [example.name for example in examples], valid, skipped)


def _start_worker(number: int) -> None:
    """Sets up a reading process."""
    leave_signals_to_main(number)
    view = get_worker_info().dataset  # type: ignore[union-attr]
    if isinstance(view, TrainingExamples) and isinstance(view.dataset, SegmentationDataset):
        # Its epoch is shared between processes, but workers may be an epoch apart at the same time.
        shared = view.dataset
        view.dataset = SegmentationDataset(shared.source, shared.transform, seed=shared.seed)


def number_of_images(dataset: object) -> int:
    """Length of a training set; 0 for a stream, which has none."""
    return 0 if isinstance(dataset, StreamingSource) else len(dataset)  # type: ignore[arg-type]


def worker_count(recipe: TrainingRecipe, num_local_processes: int = 1) -> int:
    """Number of reading processes per device."""
    if recipe.data.num_workers is not None:
        return recipe.data.num_workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, cores // num_local_processes - 1))


def train_dataloader(
    examples: TrainingExamples,
    sampler: StepSampler,
    *,
    num_workers: int,
    ignore_index: int,
    count_void: bool = False,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Dataloader of the training batches of one process; it gives `TrainingBatch` objects.

    Args:
        examples: The training examples.
        sampler: The batches.
        num_workers: Reading processes; 0 reads in this one.
        ignore_index: Label of void pixels.
        count_void: See `collate_examples`.
        pin_memory: Faster transfer to a CUDA device.
    """
    return DataLoader(
        examples,
        batch_sampler=sampler,
        collate_fn=functools.partial(collate_examples, ignore_index=ignore_index, count_void=count_void),
        num_workers=num_workers,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        persistent_workers=False,
        # Its own generator: a loader draws a number when it starts, and dropout must not notice.
        generator=torch.Generator().manual_seed(sampler.seed),
    )


# ---- which images a data set lists -------------------------------------------------------------------------


def decoded_coding(coding: LabelCoding | None) -> dict[str, Any] | None:
    """The content of a label coding, whatever file it was read from."""
    if not isinstance(coding, LabelCoding):
        return None
    tables = {
        name: None if entries is None else {str(raw): target for raw, target in sorted(entries.items())}
        for name, entries in (("table", coding.table), ("palette", coding.palette))
    }
    voids = None if coding.void_values is None else sorted(coding.void_values)
    return {"kind": coding.kind, "void_values": voids, "unlisted": coding.unlisted, **tables}


def images_digest(dataset: object) -> str | None:
    """Digest of which images a data set lists, in order; no image is decoded.

    Args:
        dataset: A source of `prolab_hf.data` (names and sizes of its files), a list of pairs (paths, or the
            content of some), a `torch` subset of one, or anything with an attribute `fingerprint`.

    Returns:
        Hexadecimal digits; `None` for data sets that do not say what they hold.
    """
    if isinstance(dataset, Subset):
        inner = images_digest(dataset.dataset)
        return None if inner is None else _digest([inner, *map(str, dataset.indices)])
    source: Any = source_of(dataset)
    fingerprint = getattr(source, "fingerprint", None)
    if isinstance(fingerprint, str):
        return fingerprint
    pairs = getattr(source, "pairs", None)
    if pairs is not None:
        return _digest(_file_lines(pairs, getattr(source, "root", None)))
    table = getattr(source, "dataset", None)
    if hasattr(table, "data") and hasattr(source, "image_column"):
        return _digest(_table_lines(table, [source.image_column, source.mask_column]))
    if isinstance(source, list | tuple):
        return _digest(_sample_lines(source))
    return None


def source_of(dataset: object) -> object:
    """What lists the images: the source of a `SegmentationDataset`, else the data set itself."""
    return dataset.source if isinstance(dataset, SegmentationDataset) else dataset


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def _file_lines(pairs: Iterable[tuple[Path, Path]], root: Path | None) -> list[str]:
    """Names relative to the data set's folder, which may have moved, and sizes."""

    def line(path: Path) -> str:
        name = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
        try:
            return f"{name.as_posix()} {path.stat().st_size}"
        except OSError:
            return f"{name.as_posix()} -"

    # Threads: on network disks every file costs a round trip.
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(line, [Path(path) for pair in pairs for path in pair]))


def _table_lines(table: "ArrowDataset", columns: list[str]) -> list[str]:
    """Paths and byte counts of the cells of a `datasets` set; the bytes themselves are not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lines = [str(len(table))]
    for name in columns:
        column = table.data.column(name)
        if pa.types.is_struct(column.type):
            fields = {field.name for field in column.type}
            if "path" in fields:
                lines += map(str, pc.struct_field(column, "path").to_pylist())
            if "bytes" in fields:
                lines += map(str, pc.binary_length(pc.struct_field(column, "bytes")).to_pylist())
    indices = getattr(table, "_indices", None)
    return lines if indices is None else [*lines, *map(str, indices.column(0).to_pylist())]


def _sample_lines(samples: list[Any] | tuple[Any, ...]) -> list[str]:
    """Names where a list holds paths; the content of some entries where it holds images."""
    lines = [str(len(samples))]
    step = max(1, len(samples) // _DIGESTED_SAMPLES)
    for number, sample in enumerate(samples):
        parts = (
            sample
            if isinstance(sample, tuple)
            else (getattr(sample, "image", None), getattr(sample, "mask", None))
        )
        for part in parts:
            if isinstance(part, str | Path):
                lines.append(str(part))
            elif number % step == 0 and isinstance(part, np.ndarray | Image.Image):
                lines.append(hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest())
    return lines


# ---- what is given to `train` ---------------------------------------------------------------------------------


def checked_images(
    model: nn.Module,
    train_dataset: ImageMaskPairs | Examples | StreamingSource,
    eval_dataset: ImageMaskPairs | Examples | None,
) -> ImageMaskPairs | Examples:
    """The training set, checked with the evaluation images against the model.

    Raises:
        ValueError: It is empty, or classes or the label of void pixels are not the model's.
    """
    if not isinstance(train_dataset, StreamingSource) and len(train_dataset) == 0:
        raise ValueError("The training set is empty; check the folder and the split.")
    config = getattr(model, "config", None)
    ours = getattr(config, "semantic_loss_ignore_index", None)
    for dataset in (train_dataset, eval_dataset):
        if dataset is None or not hasattr(config, "id2label"):
            continue
        check_classes(class_names_of(model), getattr(dataset, "class_names", None))
        theirs = getattr(dataset, "ignore_index", ours)
        if ours is not None and theirs != ours:
            raise ValueError(
                f"Void pixels of the data set have label {theirs}, but the model ignores label {ours}; set "
                f"model.config.semantic_loss_ignore_index = {theirs}."
            )
    # A stream has no length: whoever asks for one asks `number_of_images`.
    return cast("ImageMaskPairs | Examples", train_dataset)


def gives_tensors(dataset: ImageMaskPairs | Examples | StreamingSource | None) -> bool:
    """Whether a data set gives tensors that are taken as they are, instead of images."""
    if dataset is None or isinstance(dataset, SegmentationDataset):
        return True
    if isinstance(dataset, StreamingSource):
        return False
    try:
        return isinstance(dataset[0], Mapping)
    except (ValueError, OSError):  # a broken image, which the loop will name
        return False
