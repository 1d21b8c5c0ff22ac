"""Images and masks from a stream: a `datasets.IterableDataset` over shards that are never downloaded as a whole.

Parquet files, WebDataset's tar files and whatever else `datasets` streams. A stream is read by several processes and
their workers, each its own part, so that no example is given twice in an epoch; and it can be entered again at the very
example where it was left. For that, examples are shuffled in blocks: a block is read, permuted, and given; the position
in a stream is where its block began and how many of the block were given.
"""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from prolab_hf.data.hub_source import HubSource, read_row, without_decoding
from prolab_hf.data.image_files import BrokenImageError, CodedSource, RawSample, Sample, SourceOptions

BLOCK_SIZE = 256
"""Examples that are shuffled together; they are held as they are stored (compressed)."""
_WEBDATASET_SUFFIX = ".tar"


@dataclass(frozen=True)
class StreamPosition:
    """Where a reader is in its part of a stream.

    Attributes:
        epoch: Passes over its part that are done.
        number: Examples given since the start, over all epochs; it seeds the augmentation of the next one.
        block: Blocks of this epoch that are done.
        given: Examples of the present block that were given.
        start: Where the present block begins, as `datasets` says it; `None` at the start of an epoch.
    """

    epoch: int = 0
    number: int = 0
    block: int = 0
    given: int = 0
    start: dict[str, Any] | None = field(default=None, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


class StreamingSource(CodedSource):
    """A stream of images and masks. It has no length: say how long to train in steps.

    Args:
        dataset: A `datasets.IterableDataset` (one split), as `load_dataset(..., streaming=True)` gives it.
        image_column: Column with images (`Image` feature, bytes, paths or arrays).
        mask_column: Column with masks (the same kinds, or integer arrays `(height, width)`).
        name_column: Column with a name for messages; by default `__key__` where there is one (WebDataset).
        block_size: Examples that are shuffled together, at least 1; 1 keeps the order inside of a shard. The order of
            the shards changes with every epoch in any case.
        **options: See `SourceOptions`.

    Raises:
        ValueError: It is no stream, has no such column, or the block size is out of range.

    Example:
        ```python
        shards = load_dataset("webdataset", data_files="shards/*.tar", split="train", streaming=True)
        source = StreamingSource(shards, image_column="jpg", mask_column="png", class_names=space.class_names)
        train(model, source, eval_pairs, recipe=recipe, output_dir="runs/streamed")
        ```
    """

    def __init__(
        self,
        dataset: Any,
        *,
        image_column: str = "image",
        mask_column: str = "label",
        name_column: str | None = None,
        block_size: int = BLOCK_SIZE,
        **options: Unpack[SourceOptions],
    ) -> None:
        if isinstance(dataset, dict):
            raise ValueError(f"a dictionary of splits was passed; take one of them: {sorted(dataset)}")
        if not hasattr(dataset, "load_state_dict"):
            raise ValueError(
                f"a {type(dataset).__name__} was passed; a stream is an IterableDataset, as "
                "load_dataset(..., streaming=True) gives it"
            )
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}; it must be at least 1")
        super().__init__(**options)
        columns = dataset.column_names or list(next(iter(dataset), {}))
        for column in [image_column, mask_column, *([name_column] if name_column else [])]:
            if column not in columns:
                raise ValueError(
                    f"the stream has no column {column!r}; its columns are {columns} (--image-column and --mask-column "
                    "name others)"
                )
        self.image_column, self.mask_column = image_column, mask_column
        self.name_column = name_column or ("__key__" if "__key__" in columns else None)
        self.block_size = block_size
        self.location: str | None = None
        self.dataset = without_decoding(dataset, [image_column, mask_column])

    @classmethod
    def load(cls, location: str | Path, split: str, **kwargs: Any) -> "StreamingSource":
        """Opens a stream by name.

        Args:
            location: Name of a `datasets` set on the Hub, a folder with shards (Parquet, or tar files of WebDataset),
                or a pattern of files (`shards/train-*.tar`).
            split: Name of the split; of files by pattern there is one, whatever its name.
            **kwargs: Arguments of the constructor; `revision` goes to `datasets.load_dataset`.

        Raises:
            FileNotFoundError: There is nothing of that name.
            ValueError: The split does not exist.
        """
        import datasets

        revision = kwargs.pop("revision", None)
        text = str(location)
        try:
            if any(sign in text for sign in "*?[") or Path(text).is_file():
                kind = "webdataset" if text.endswith(_WEBDATASET_SUFFIX) else "parquet"
                stream = datasets.load_dataset(kind, data_files={split: text}, split=split, streaming=True)
            else:
                stream = datasets.load_dataset(text, split=split, revision=revision, streaming=True)
        except ConnectionError as error:
            raise FileNotFoundError(
                f"{text} is no folder here, and no data set of that name can be reached: {error}"
            ) from error
        source = cls(stream, **kwargs)
        source.location = Path(text).name  # the folder may have moved when a run is resumed
        return source

    @property
    def num_shards(self) -> int:
        """Files of the stream, and so the most readers that it can have."""
        return int(self.dataset.num_shards)

    @property
    def fingerprint(self) -> str:
        """Digest of what the stream says that it reads; no example is read."""
        info = self.dataset.info
        said = {
            "name": [self.location, info.dataset_name, info.config_name, str(self.dataset.split)],
            "num_shards": self.num_shards,
            "features": str(self.dataset.features),
            "columns": [self.image_column, self.mask_column],
            "block_size": self.block_size,
        }
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def held(self) -> HubSource:
        """The whole stream, read once and held as it is stored: for evaluation, which needs every image again."""
        options: SourceOptions = {
            "coding": self.coding,
            "class_names": self.class_names,
            "num_classes": self.num_classes,
            "num_channels": self.num_channels,
            "value_range": self.value_range,
        }
        columns = {"image_column": self.image_column, "mask_column": self.mask_column}
        return HubSource(self.dataset, **columns, name_column=self.name_column, **options)

    def first(self, number: int) -> HubSource:
        """The first examples, held: for a look at the labels before a run.

        Args:
            number: How many, at least 1.
        """
        return StreamingSource(
            self.dataset.take(number),
            image_column=self.image_column,
            mask_column=self.mask_column,
            name_column=self.name_column,
            coding=self.coding,
            class_names=self.class_names,
            num_classes=self.num_classes,
            num_channels=self.num_channels,
            value_range=self.value_range,
        ).held()

    def __getitem__(self, index: int) -> Sample:
        raise TypeError(
            "a stream has no example by number; iterate over read(), or take held() for all of them"
        )

    def part(self, rank: int, num_processes: int) -> "StreamingSource":
        """The part of one process: whole shards where their number allows it, else every n-th example.

        Args:
            rank: Of the process.
            num_processes: That share the stream.
        """
        if num_processes == 1:
            return self
        from datasets.distributed import split_dataset_by_node

        part = copy.copy(self)
        part.dataset = split_dataset_by_node(self.dataset, rank=rank, world_size=num_processes)
        return part

    def read(
        self, position: StreamPosition, *, seed: int, reader: int = 0, skip_broken: bool = False
    ) -> Iterator[tuple[Sample, StreamPosition, list[str]]]:
        """The examples from a position on, epoch after epoch, without an end.

        In a worker of a torch dataloader, only those of the worker's part are read.

        Args:
            position: Where to begin.
            seed: Of the order of shards and of the order in blocks, at least 0.
            reader: Number of the process and worker, so that two do not shuffle alike.
            skip_broken: Go on with the next example where one cannot be decoded.

        Yields:
            The example, the position after it, and what was said about broken ones before it.

        Raises:
            ValueError: An example cannot be used, or a whole epoch has none.
        """
        skipped: list[str] = []
        while True:
            before = position.number
            for row, after in self._rows(position, seed, reader):
                position = after
                try:
                    raw = self._read_row(row, after)
                except BrokenImageError as error:
                    if not skip_broken:
                        raise
                    skipped.append(str(error).rstrip("."))
                    continue
                yield raw.decode(self.coding, self.num_classes), after, skipped
                skipped = []
            if position.number == before and position.start is None:
                raise ValueError(
                    "the stream gives this reader no example; use fewer processes or workers, or more shards"
                )
            position = StreamPosition(epoch=position.epoch + 1, number=position.number)

    def _rows(
        self, position: StreamPosition, seed: int, reader: int
    ) -> Iterator[tuple[dict[str, Any], StreamPosition]]:
        """The rest of an epoch, undecoded."""
        # A copy: workers share the epoch of a data set, and may be an epoch apart.
        dataset = copy.deepcopy(self.dataset)
        # Every epoch has its own order of shards; 0 would keep the order of the files.
        dataset.set_epoch((seed + 1) * 1_000_003 + position.epoch)
        if position.start is not None:
            dataset.load_state_dict(position.start)
        rows, start = iter(dataset), position.start
        while True:
            block = list(islice(rows, self.block_size))
            if not block:
                return
            rng = np.random.default_rng((seed, position.epoch, position.block, reader))
            order = rng.permutation(len(block)).tolist()
            for place in range(position.given, len(block)):
                position = replace(position, number=position.number + 1, given=place + 1, start=start)
                yield block[order[place]], position
            start = dataset.state_dict()
            position = replace(position, block=position.block + 1, given=0, start=start)

    def _read_row(self, row: dict[str, Any], position: StreamPosition) -> RawSample:
        columns = (self.image_column, self.mask_column, self.name_column)
        return read_row(self, row, f"example {position.number}", columns=columns)
