"""From what a user types to a source: the one place where commands turn names and paths into data."""

from collections.abc import Sequence
from pathlib import Path

from prolab_hf.data.benchmarks import BENCHMARKS, get_benchmark
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.data.sources import FolderSource, HubSource, MetadataSource, SegmentationSource

SCENES_NAME = "scenes"
_METADATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


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
            `scenes` or `scenes:NUMBER` (the drawn data set, NUMBER pictures),
            `BENCHMARK:FOLDER` or `BENCHMARK/VARIANT:FOLDER` (`ade20k:data/ade`,
            `cityscapes/train_ids:data/city`; coding and class names are the benchmark's own),
            a metadata file (`.csv`, `.tsv`, `.jsonl`), a folder with pictures and masks, a folder written by
            `datasets`, or the name of a `datasets` set.
        split: Name of the split; needed for `datasets` sets.
        coding: Declared meaning of the masks' values, as `LabelCoding.parse` reads it.
        class_names: Names in class order.
        num_classes: Number of classes where names are not known.
        image_column: Column with pictures (`image` by default).
        mask_column: Column with masks (`mask` in files, `label` in `datasets` sets by default).
        folders: Names of the folders with pictures and masks.

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
    if split is None:
        raise ValueError(f"{text} is read as a `datasets` set, which needs the name of a split (--split)")
    return HubSource.load(
        text,
        split,
        image_column=image_column or "image",
        mask_column=mask_column or "label",
        coding=coding,
        class_names=class_names,
        num_classes=num_classes,
    )


def _written_by_datasets(folder: Path) -> bool:
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def _number(text: str, default: int) -> int:
    if not text:
        return default
    if not text.isdigit():
        raise ValueError(
            f"{SCENES_NAME}:{text} does not end with a number of pictures, as in {SCENES_NAME}:200"
        )
    return int(text)
