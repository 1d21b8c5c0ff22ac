"""Where images and masks come from: folders, lists of files and metadata files, all with one shape.

A source has a length, gives a `Sample` per index and knows its class names. Sources read; they do not
augment, resize or normalize. Whatever is wrong with an image or mask ends in one `ValueError` that names
the file, so that a training run says what to repair instead of dying in a worker with a decoder's message.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from prolab_hf.data.class_matching import read_class_names
from prolab_hf.data.file_pairs import find_folders, folder_splits, match_by_stem
from prolab_hf.data.hub_source import HubSource
from prolab_hf.data.image_files import CodedSource, RawSample, Sample, SegmentationSource, SourceOptions
from prolab_hf.files import decode_text, parse_json
from prolab_hf.model.image_conversion_prolab import read_image

METADATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


class PairSource(CodedSource):
    """Source over a list of (image file, mask file).

    Args:
        pairs: Image and mask files.
        root: Folder that names in messages are relative to.
        **options: See `SourceOptions`.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        *,
        root: Path | None = None,
        **options: Unpack[SourceOptions],
    ) -> None:
        self.pairs = [(Path(image), Path(mask)) for image, mask in pairs]
        if not self.pairs:
            raise ValueError("the data source holds no pair of image and mask")
        super().__init__(**options)
        self.root = root

    def __len__(self) -> int:
        return len(self.pairs)

    def read_raw(self, index: int) -> RawSample:
        """Image and mask as the files hold them, for `prolab check-data`."""
        image, mask = self.pairs[index]
        return self.read_pair(image, mask, self._short(image), self._short(mask))

    def _short(self, path: Path) -> str:
        if self.root is not None and path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return str(path)


class FolderSource(PairSource):
    """Images and masks in folders, matched by file stem.

    Three layouts are found by themselves: `root/<split>/images` with `root/<split>/masks`,
    `root/images/<split>` with `root/masks/<split>`, and without a split `root/images` with `root/masks`.

    Args:
        root: Folder of the data set.
        split: Name of the split, `None` where there is none.
        images: Name of the folder with images (`annotations` and others are common too).
        masks: Name of the folder with masks.
        mask_suffix: Text that mask stems have after the image's stem, for example `_mask`.
        **options: See `SourceOptions`; the class names are by default those of `root/classes.txt` if it exists.

    Raises:
        FileNotFoundError: If no layout is found.
        ValueError: If an image or a mask has no partner, or a stem occurs twice.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        images: str = "images",
        masks: str = "masks",
        mask_suffix: str = "",
        **options: Unpack[SourceOptions],
    ) -> None:
        root = Path(root)
        self.split = split
        image_folder, mask_folder = find_folders(root, split, images, masks)
        listed = root / "classes.txt"
        if options.get("class_names") is None and options.get("num_classes") is None and listed.is_file():
            options["class_names"] = read_class_names(listed)
        pairs = match_by_stem(image_folder, mask_folder, mask_suffix=mask_suffix)
        super().__init__(pairs, root=root, **options)


class MetadataSource(PairSource):
    """Pairs listed in a `.csv`, `.tsv` or `.jsonl` file, with paths relative to that file.

    The columns of `datasets`' image folders are understood, too: `file_name` for the image and `mask_file_name` or
    `label_file_name` for the mask.

    Args:
        path: The metadata file.
        image_column: Column with the image's path.
        mask_column: Column with the mask's path.
        split: Keep only the rows whose `split_column` says so.
        split_column: Column with the split's name.
        **options: See `SourceOptions`.

    Raises:
        FileNotFoundError: If the metadata file does not exist.
        ValueError: If it cannot be read or a column is missing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        image_column: str = "image",
        mask_column: str = "mask",
        split: str | None = None,
        split_column: str = "split",
        **options: Unpack[SourceOptions],
    ) -> None:
        path = Path(path)
        rows = read_rows(path)
        columns = {column for row in rows for column in row}
        image_column = _known_column(image_column, ("file_name", f"{image_column}_file_name"), columns)
        mask_column = _known_column(mask_column, (f"{mask_column}_file_name", "label_file_name"), columns)
        needed = [image_column, mask_column, *([split_column] if split is not None else [])]
        for number, row in enumerate(rows, start=1):
            for column in needed:
                _require_text(row, column, f"{path.name} row {number}")
        kept = [row for row in rows if split is None or row[split_column] == split]
        if not kept:
            splits = sorted({str(row.get(split_column)) for row in rows})
            raise ValueError(f"{path.name} has no row for split {split!r}; {split_column!r} holds {splits}")
        pairs = [(path.parent / str(row[image_column]), path.parent / str(row[mask_column])) for row in kept]
        super().__init__(pairs, root=path.parent, **options)


def _known_column(column: str, others: Sequence[str], columns: set[str]) -> str:
    """The column, or the first of its other names that exists."""
    return column if column in columns else next((other for other in others if other in columns), column)


def _require_text(row: dict[str, object], column: str, where: str) -> None:
    value = row.get(column)
    if value in (None, ""):
        listed = sorted(str(key) for key in row)
        raise ValueError(
            f"{where} has no value in column {column!r}; its columns are {listed} "
            "(--image-column and --mask-column name others)"
        )
    if not isinstance(value, str):
        raise ValueError(f"{where} holds {value!r:.60} in column {column!r}; it must be text, such as a path")


def read_rows(path: Path) -> list[dict[str, object]]:
    """Rows of a metadata file.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it cannot be read; the message names the file and the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"metadata file {path} does not exist")
    suffix = path.suffix.lower()
    if suffix not in METADATA_SUFFIXES:
        raise ValueError(f"metadata file {path.name} has suffix {suffix!r}; use .csv, .tsv or .jsonl")
    text = decode_text(path.read_bytes(), path, what="metadata file")
    rows = _table_rows(text, path, suffix) if suffix in (".csv", ".tsv") else _json_rows(text, path)
    if not rows:
        raise ValueError(f"metadata file {path.name} holds no rows")
    return rows


def _table_rows(text: str, path: Path, suffix: str) -> list[dict[str, object]]:
    reader = csv.DictReader(
        text.splitlines(keepends=True), delimiter="\t" if suffix == ".tsv" else ",", strict=True
    )
    try:
        names = list(reader.fieldnames or [])
        if len(set(names)) < len(names):
            raise ValueError(f"{path.name} names a column twice: {names}; name each once")
        rows: list[dict[str, object]] = list(reader)
    except csv.Error as error:
        raise ValueError(
            f"{path.name} line {reader.line_num} cannot be read as a table: {error}; check its quotes and separators"
        ) from error
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise ValueError(
                f"{path.name} row {number} has more fields than the {len(names)} columns of the first line; "
                "put a field with a comma between quotes"
            )
    return rows


def _json_rows(text: str, path: Path) -> list[dict[str, object]]:
    rows = []
    # Not splitlines: JSON may hold other line separators inside of texts.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name} line {number}"
        try:
            row = parse_json(line, where, what="row")
        except ValueError as error:
            raise ValueError(f"{where} is not valid JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where} holds {type(row).__name__}, expected an object")
        rows.append(row)
    return rows


__all__ = [
    "FolderSource",
    "HubSource",
    "MetadataSource",
    "PairSource",
    "Sample",
    "SegmentationSource",
    "folder_splits",
    "match_by_stem",
    "read_image",
]
