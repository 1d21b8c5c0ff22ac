"""From what a user types to a source: the one place where commands turn names and paths into data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack, cast

from prolab_hf.data.file_pairs import folder_splits, train_first
from prolab_hf.data.hub_source import HubSource
from prolab_hf.data.image_files import SegmentationSource, SourceOptions
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.published_datasets import BENCHMARKS, get_benchmark
from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.data.sources import METADATA_SUFFIXES, FolderSource, MetadataSource
from prolab_hf.data.streaming.source import StreamingSource
from prolab_hf.files import read_json

SCENES_NAME = "scenes"
# What `save_to_disk` of a `Dataset` and of a `DatasetDict` writes.
_ONE_SPLIT, _ALL_SPLITS = "state.json", "dataset_dict.json"


class OpeningOptions(TypedDict, total=False):
    """What `open_source` takes beside the place and the coding.

    Attributes:
        class_names: Names in class order.
        num_classes: Number of classes where names are not known.
        image_column: Column with images (`image` by default).
        mask_column: Column with masks (`mask` in files, `label` in `datasets` sets by default).
        folders: Names of the folders with images and masks (`images` and `masks` by default).
        mask_suffix: Text that mask names have after the image's name, for example `_mask`.
        num_channels: Channels of the images; 3 by default.
        value_range: Stored values that mean black and white, for images of more than 8 bits.
        streaming: Read the location as a stream: a `datasets` set that is not downloaded, a folder with shards
            (Parquet, tar files of WebDataset) or a pattern of files (`shards/train-*.tar`).
    """

    class_names: Sequence[str] | None
    num_classes: int | None
    image_column: str | None
    mask_column: str | None
    folders: tuple[str, str]
    mask_suffix: str
    num_channels: int
    value_range: tuple[float, float] | None
    streaming: bool


def open_source(
    location: str | Path,
    split: str | None = None,
    *,
    coding: str | LabelCoding = "ids",
    **options: Unpack[OpeningOptions],
) -> SegmentationSource:
    """Open a data source.

    Args:
        location: One of
            `scenes` or `scenes:NUMBER` (the drawn data set, NUMBER images),
            `BENCHMARK:FOLDER` or `BENCHMARK/VARIANT:FOLDER` (`ade20k:data/ade`,
            `cityscapes/train_ids:data/city`; coding and class names are the benchmark's own),
            a metadata file (`.csv`, `.tsv`, `.jsonl`), a folder with images and masks, an image folder with a
            `metadata.jsonl` or `metadata.csv`, a folder written by `datasets`, or the name of a `datasets` set.
            Exports of labeling tools (CVAT, COCO, VOC, ...) become such folders by `prolab import-data`.
        split: Name of the split; needed for `datasets` sets on the Hub.
        coding: Declared meaning of the masks' values, as `LabelCoding.parse` reads it.
        **options: See `OpeningOptions`.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If something does not fit; the message says what.
    """
    unknown = options.keys() - OpeningOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"open_source got unexpected arguments {sorted(unknown)}")
    text = str(location)
    if options.get("streaming"):
        # What it has no length for is asked for by nobody who asks for a stream.
        return cast(SegmentationSource, _open_stream(text, split, coding, options))
    kind, _, rest = text.partition(":")
    benchmark, _, variant = kind.partition("/")
    if kind == SCENES_NAME and not Path(text).exists():
        return DrawnScenes(split or "train", _number(rest, 200))
    if benchmark in BENCHMARKS and rest:
        return get_benchmark(benchmark).open(rest, split or "train", variant=variant or None)
    path = Path(text)
    shared = _source_options(coding, options)
    image_column = options.get("image_column") or "image"
    mask_column = options.get("mask_column")
    table, its_split = _metadata_file(path, split)
    if table is not None:
        return MetadataSource(
            table, image_column=image_column, mask_column=mask_column or "mask", split=its_split, **shared
        )
    if path.is_dir() and not _written_by_datasets(path):
        images, masks = options.get("folders", ("images", "masks"))
        suffix = options.get("mask_suffix", "")
        return FolderSource(path, split, images=images, masks=masks, mask_suffix=suffix, **shared)
    if path.is_absolute() and not path.exists():
        raise FileNotFoundError(f"data folder {path} does not exist")
    if path.is_file():
        raise ValueError(
            f"{text} is a file, but no metadata file ({', '.join(METADATA_SUFFIXES)}); give one, or a folder"
        )
    if split is None and not (path / _ONE_SPLIT).is_file():
        raise ValueError(f"{_what_it_is(path)} needs the name of a split (--split)")
    return HubSource.load(
        text, split or "", image_column=image_column, mask_column=mask_column or "label", **shared
    )


def _open_stream(
    location: str, split: str | None, coding: str | LabelCoding, options: OpeningOptions
) -> StreamingSource:
    if split is None:
        raise ValueError(f"the stream {location} needs the name of a split (--split)")
    columns = {
        "image_column": options.get("image_column") or "image",
        "mask_column": options.get("mask_column") or "label",
    }
    return StreamingSource.load(location, split, **columns, **_source_options(coding, options))


def _source_options(coding: str | LabelCoding, options: OpeningOptions) -> SourceOptions:
    return {
        "coding": LabelCoding.parse(coding) if isinstance(coding, str) else coding,
        "class_names": options.get("class_names"),
        "num_classes": options.get("num_classes"),
        "num_channels": options.get("num_channels", 3),
        "value_range": options.get("value_range"),
    }


def _metadata_file(path: Path, split: str | None) -> tuple[Path | None, str | None]:
    """The metadata file that a location means, and the split that its rows are to be chosen by.

    An image folder of `datasets` has one in the folder of each split, or one for all.
    """
    if path.suffix.lower() in METADATA_SUFFIXES:
        return path, split
    for folder in [path / split, path] if split else [path]:
        for suffix in (".jsonl", ".csv"):
            table = folder / f"metadata{suffix}"
            if table.is_file():
                return table, None if folder != path else split
    return None, None


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
            names = [str(name) for name in read_json(path / _ALL_SPLITS)["splits"]]
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
