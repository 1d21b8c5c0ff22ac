"""From what a user types to a source: the one place where commands turn names and paths into data."""

import json
from collections.abc import Sequence
from pathlib import Path

from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.published_datasets import BENCHMARKS, get_benchmark
from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.data.sources import (
    FolderSource,
    HubSource,
    MetadataSource,
    SegmentationSource,
    folder_splits,
    train_first,
)

SCENES_NAME = "scenes"
_METADATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
# What `save_to_disk` of a `Dataset` and of a `DatasetDict` writes.
_ONE_SPLIT, _ALL_SPLITS = "state.json", "dataset_dict.json"


def open_source(
    location: str | Path,
    split: str | None = None,
    *,
    coding: str | LabelCoding = "ids",
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    image_column: str | None = None,
    mask_column: str | None = None,
    folders: tuple[str, str] = ("images", "masks"),
) -> SegmentationSource:
    """Open a data source.

    Args:
        location: One of
            `scenes` or `scenes:NUMBER` (the drawn data set, NUMBER images),
            `BENCHMARK:FOLDER` or `BENCHMARK/VARIANT:FOLDER` (`ade20k:data/ade`,
            `cityscapes/train_ids:data/city`; coding and class names are the benchmark's own),
            a metadata file (`.csv`, `.tsv`, `.jsonl`), a folder with images and masks, a folder written by
            `datasets`, or the name of a `datasets` set.
        split: Name of the split; needed for `datasets` sets on the Hub.
        coding: Declared meaning of the masks' values, as `LabelCoding.parse` reads it.
        class_names: Names in class order.
        num_classes: Number of classes where names are not known.
        image_column: Column with images (`image` by default).
        mask_column: Column with masks (`mask` in files, `label` in `datasets` sets by default).
        folders: Names of the folders with images and masks.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If something does not fit; the message says what.
    """
    text = str(location)
    kind, _, rest = text.partition(":")
    benchmark, _, variant = kind.partition("/")
    if kind == SCENES_NAME and not Path(text).exists():
        return DrawnScenes(split or "train", _number(rest, 200))
    if benchmark in BENCHMARKS and rest:
        return get_benchmark(benchmark).open(rest, split or "train", variant=variant or None)
    if isinstance(coding, str):
        coding = LabelCoding.parse(coding)
    path = Path(text)
    if path.suffix.lower() in _METADATA_SUFFIXES:
        return MetadataSource(
            path,
            image_column=image_column or "image",
            mask_column=mask_column or "mask",
            split=split,
            coding=coding,
            class_names=class_names,
            num_classes=num_classes,
        )
    if path.is_dir() and not _written_by_datasets(path):
        return FolderSource(
            path,
            split,
            coding=coding,
            class_names=class_names,
            num_classes=num_classes,
            images=folders[0],
            masks=folders[1],
        )
    if path.is_absolute() and not path.exists():
        raise FileNotFoundError(f"data folder {path} does not exist")
    if path.is_file():
        raise ValueError(
            f"{text} is a file, but no metadata file ({', '.join(_METADATA_SUFFIXES)}); give one, or a folder"
        )
    if split is None and not (path / _ONE_SPLIT).is_file():
        raise ValueError(f"{_what_it_is(path)} needs the name of a split (--split)")
    return HubSource.load(
        text,
        split or "",
        image_column=image_column or "image",
        mask_column=mask_column or "label",
        coding=coding,
        class_names=class_names,
        num_classes=num_classes,
    )


def list_splits(location: str | Path, *, folders: tuple[str, str] = ("images", "masks")) -> list[str]:
    """Names of the splits that can be found without a network: of a folder, or of a saved `DatasetDict`.

    Args:
        location: As for `open_source`.
        folders: Names of the folders with images and masks.

    Returns:
        The names, `train` first; none where the location has no splits or is of another kind.
    """
    path = Path(location)
    if (path / _ALL_SPLITS).is_file():
        try:
            names = json.loads((path / _ALL_SPLITS).read_text(encoding="utf-8"))["splits"]
        except (ValueError, KeyError, TypeError):
            return []  # opening it gives the error
        return train_first(names)
    if path.is_dir() and not _written_by_datasets(path):
        return folder_splits(path, images=folders[0], masks=folders[1])
    return []


def _what_it_is(path: Path) -> str:
    if (path / _ALL_SPLITS).is_file():
        return f"the data set {path} has the splits {', '.join(list_splits(path))} and"
    return f"there is no folder or file {path}; read as a `datasets` set of that name it"


def _written_by_datasets(folder: Path) -> bool:
    return (folder / _ONE_SPLIT).is_file() or (folder / _ALL_SPLITS).is_file()


def _number(text: str, default: int) -> int:
    if not text:
        return default
    if not text.isdigit():
        raise ValueError(
            f"{SCENES_NAME}:{text} does not end with a number of images, as in {SCENES_NAME}:200"
        )
    return int(text)
