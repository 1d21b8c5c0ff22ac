"""Streams: every example once per epoch over all readers, and an exact return to where a reader was."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from prolab_hf.data.image_files import BrokenImageError
from prolab_hf.data.streaming.source import StreamingSource, StreamPosition

datasets = pytest.importorskip("datasets")

NAMES = ["red", "green", "blue"]


def encoded(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def pair(number):
    """An image whose first pixel is its number, and its mask."""
    image = np.full((4, 6, 3), number, dtype=np.uint8)
    return encoded(image), encoded(np.full((4, 6), number % 3, dtype=np.uint8))


@pytest.fixture(scope="module")
def tar_files(tmp_path_factory):
    """Four WebDataset shards of 5, 3, 4 and 4 examples."""
    folder, number = tmp_path_factory.mktemp("shards"), 0
    for shard, length in enumerate((5, 3, 4, 4)):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as file:
            for _ in range(length):
                for suffix, content in zip(("jpg", "png"), pair(number)):
                    entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    entry.size = len(content)
                    file.addfile(entry, io.BytesIO(content))
                number += 1
    return folder


@pytest.fixture(scope="module")
def parquet_files(tmp_path_factory):
    """The same examples as three Parquet files."""
    folder = tmp_path_factory.mktemp("parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
    for shard, numbers in enumerate(np.array_split(np.arange(16), 3)):
        images, masks = zip(*map(pair, numbers.tolist()))
        rows = {"image": [{"bytes": b} for b in images], "label": [{"bytes": b} for b in masks]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"train-{shard}.parquet")
    return folder


def tar_source(folder, **options):
    columns = {"image_column": "jpg", "mask_column": "png"}
    return StreamingSource.load(f"{folder}/train-*.tar", "train", **columns, class_names=NAMES, **options)


def number_of(sample):
    return int(np.asarray(sample.image)[0, 0, 0])


def take(source, number, position=None, **options):
    """The next examples as (number of the image, position after it)."""
    reading = source.read(position or StreamPosition(), seed=0, **options)
    return [(number_of(sample), after) for (sample, after, _), _ in zip(reading, range(number))]


@pytest.mark.parametrize("block_size", [1, 4, 100])
def test_an_epoch_has_every_example_once_and_the_next_has_another_order(tar_files, block_size):
    found = [number for number, _ in take(tar_source(tar_files, block_size=block_size), 32)]
    first, second = found[:16], found[16:]
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second and first != sorted(first)
    assert found == [number for number, _ in take(tar_source(tar_files, block_size=block_size), 32)]


def test_parquet_files_and_their_masks(parquet_files):
    source = StreamingSource.load(parquet_files, "train", class_names=NAMES)
    for sample, _, _ in [example for example, _ in zip(source.read(StreamPosition(), seed=1), range(16))]:
        assert np.array_equal(sample.mask, np.full((4, 6), number_of(sample) % 3))
    assert source.num_shards == 3


@pytest.mark.parametrize("kind", ["tar", "parquet"])
@pytest.mark.parametrize("stopped", [1, 3, 4, 7, 15, 16, 17, 21])
def test_a_reader_returns_to_the_exact_example(tar_files, parquet_files, kind, stopped):
    def source():
        if kind == "tar":
            return tar_source(tar_files, block_size=4)
        return StreamingSource.load(parquet_files, "train", class_names=NAMES, block_size=4)

    whole = take(source(), 36)
    # As a checkpoint holds it.
    position = StreamPosition(**json.loads(json.dumps(whole[stopped - 1][1].to_dict())))
    resumed = take(source(), 36 - stopped, position)
    assert [number for number, _ in resumed] == [number for number, _ in whole[stopped:]]
    assert resumed[-1][1] == whole[-1][1]


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_share_an_epoch_without_duplicates(tar_files, processes):
    parts = [tar_source(tar_files, block_size=3).part(rank, processes) for rank in range(processes)]
    found = []
    for rank, part in enumerate(parts):
        for number, position in take(part, 40, reader=rank):
            if position.epoch == 0:
                found.append(number)
    assert sorted(found) == list(range(16))


class _Numbers(torch.utils.data.IterableDataset):
    """The numbers of the first epoch of a part."""

    def __init__(self, source):
        self.source = source

    def __iter__(self):
        for sample, position, _ in self.source.read(StreamPosition(), seed=0):
            if position.epoch:
                return
            yield number_of(sample)


def test_workers_of_processes_share_an_epoch_without_duplicates(tar_files):
    found = []
    for rank in range(2):
        part = tar_source(tar_files, block_size=2).part(rank, 2)
        found += torch.utils.data.DataLoader(_Numbers(part), batch_size=None, num_workers=2)
    assert sorted(map(int, found)) == list(range(16))


def test_held_streams_are_sources(tar_files):
    held = tar_source(tar_files).held()
    assert len(held) == 16 and held.class_names == NAMES
    assert sorted(number_of(held[index]) for index in range(16)) == list(range(16))
    assert len(tar_source(tar_files).first(3)) == 3
    with pytest.raises(TypeError, match="held"):
        tar_source(tar_files)[0]


def test_a_fingerprint_tells_shards_apart(tar_files, parquet_files):
    first = tar_source(tar_files).fingerprint
    assert first == tar_source(tar_files).fingerprint
    assert first != tar_source(tar_files, block_size=4).fingerprint
    assert first != StreamingSource.load(parquet_files, "train", class_names=NAMES).fingerprint


# ---- what can be wrong ------------------------------------------------------------------------------------


def rows_source(rows, **options):
    stream = datasets.IterableDataset.from_generator(lambda: iter(rows))
    return StreamingSource(stream, class_names=NAMES, **options)


def test_a_broken_image_is_named_or_left_out():
    good = {"image": pair(1)[0], "label": pair(1)[1], "file": "good.png"}
    rows = [good, {**good, "image": b"no image", "file": "bad.png"}, good]
    source = rows_source(rows, name_column="file", block_size=1)
    with pytest.raises(BrokenImageError, match=r"bad\.png"):
        take(source, 3)
    reading = source.read(StreamPosition(), seed=0, skip_broken=True)
    found = [(after.number, skipped) for (_, after, skipped), _ in zip(reading, range(2))]
    assert [number for number, _ in found] == [1, 3]
    assert found[0][1] == [] and "bad.png" in found[1][1][0]


def test_what_is_no_stream_is_refused(tar_files):
    table = datasets.Dataset.from_dict({"image": [], "label": []})
    with pytest.raises(ValueError, match=r"load_dataset\(..., streaming=True\)"):
        StreamingSource(table, class_names=NAMES)
    with pytest.raises(ValueError, match=r"splits.*'train'"):
        StreamingSource({"train": None}, class_names=NAMES)
    with pytest.raises(ValueError, match=r"no column 'image'.*jpg"):
        StreamingSource.load(f"{tar_files}/train-*.tar", "train", class_names=NAMES)
    with pytest.raises(ValueError, match="block_size is 0"):
        tar_source(tar_files, block_size=0)


def test_a_reader_without_examples_says_so():
    source = rows_source([{"image": pair(1)[0], "label": pair(1)[1]}])
    empty = source.part(1, 2)
    with pytest.raises(ValueError, match="fewer processes or workers"):
        take(empty, 1)
