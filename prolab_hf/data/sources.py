"""Where pictures and masks come from: folders, `datasets` sets and metadata files, all with one shape.

A source has a length, gives a `Sample` per index and knows its class names. Sources read; they do not
augment, resize or normalize. Whatever is wrong with a picture or mask ends in one `ValueError` that names
the file, so that a training run says what to repair instead of dying in a worker with a decoder's message.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prolab_hf.data.folders import find_folders, folder_splits, match_by_stem
from prolab_hf.data.hub_source import HubSource
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.reading import (
    RawSample,
    Sample,
    SegmentationSource,
    class_space,
    read_picture,
    read_raw,
)

__all__ = [
    "FolderSource",
    "HubSource",
    "MetadataSource",
    "PairSource",
    "Sample",
    "SegmentationSource",
    "folder_splits",
    "match_by_stem",
    "read_picture",
]


class PairSource:
    """Source over a list of (picture file, mask file).

    Args:
        pairs: Picture and mask files.
        coding: Declared meaning of the mask's values.
        class_names: Names in class order.
        num_classes: Size of the class space where names are not known.
        root: Folder that names in messages are relative to.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        *,
        coding: LabelCoding | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        root: Path | None = None,
    ) -> None:
        self.pairs = [(Path(image), Path(mask)) for image, mask in pairs]
        if not self.pairs:
            raise ValueError("the data source holds no pair of picture and mask")
        self.coding = coding or LabelCoding()
        self.class_names, self.num_classes = class_space(class_names, num_classes)
        self.coding.check_classes(self.num_classes)
        self.root = root

    @property
    def ignore_index(self) -> int:
        """Value of void pixels in the masks that this source gives."""
        return self.coding.ignore_index

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        return self.read_raw(index).decode(self.coding, self.num_classes)

    def read_raw(self, index: int) -> RawSample:
        """Picture and mask as the files hold them, for `prolab check-data`."""
        image, mask = self.pairs[index]
        names = {"name": self._short(image), "mask_name": self._short(mask)}
        return read_raw(image, mask, coding=self.coding, **names)

    def _short(self, path: Path) -> str:
        if self.root is not None and path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return str(path)


class FolderSource(PairSource):
    """Pictures and masks in folders, matched by file stem.

    Three layouts are found by themselves: `root/<split>/images` with `root/<split>/masks`,
    `root/images/<split>` with `root/masks/<split>`, and without a split `root/images` with `root/masks`.

    Args:
        root: Folder of the data set.
        split: Name of the split, `None` where there is none.
        coding: Declared meaning of the mask's values; `ids` with void 255 by default.
        class_names: Names in class order; by default those of `root/classes.txt` (one a line) if it exists.
        num_classes: Size of the class space where names are not known.
        images: Name of the folder with pictures (`annotations` and others are common too).
        masks: Name of the folder with masks.
        mask_suffix: Text that mask stems have after the picture's stem, for example `_mask`.

    Raises:
        FileNotFoundError: If no layout is found.
        ValueError: If a picture or a mask has no partner, or a stem occurs twice.
    """

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        coding: LabelCoding | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        images: str = "images",
        masks: str = "masks",
        mask_suffix: str = "",
    ) -> None:
        root = Path(root)
        self.split = split
        image_folder, mask_folder = find_folders(root, split, images, masks)
        listed = root / "classes.txt"
        if class_names is None and num_classes is None and listed.is_file():
            class_names = [
                line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()
            ]
        pairs = match_by_stem(image_folder, mask_folder, mask_suffix=mask_suffix)
        super().__init__(pairs, coding=coding, class_names=class_names, num_classes=num_classes, root=root)


class MetadataSource(PairSource):
    """Pairs listed in a `.csv`, `.tsv` or `.jsonl` file, with paths relative to that file.

    Args:
        path: The metadata file.
        image_column: Column with the picture's path.
        mask_column: Column with the mask's path.
        split: Keep only the rows whose `split_column` says so.
        split_column: Column with the split's name.
        coding: Declared meaning of the mask's values.
        class_names: Names in class order.
        num_classes: Size of the class space where names are not known.

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
        coding: LabelCoding | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
    ) -> None:
        path = Path(path)
        rows = _read_rows(path)
        for column in (image_column, mask_column, *([split_column] if split is not None else [])):
            for number, row in enumerate(rows, start=1):
                if row.get(column) in (None, ""):
                    listed = sorted(str(key) for key in row)
                    raise ValueError(
                        f"{path.name} row {number} has no value in column {column!r}; its columns are {listed} "
                        "(--image-column and --mask-column name others)"
                    )
        kept = [row for row in rows if split is None or str(row[split_column]) == split]
        if not kept:
            splits = sorted({str(row.get(split_column)) for row in rows})
            raise ValueError(f"{path.name} has no row for split {split!r}; {split_column!r} holds {splits}")
        pairs = [(path.parent / str(row[image_column]), path.parent / str(row[mask_column])) for row in kept]
        super().__init__(
            pairs, coding=coding, class_names=class_names, num_classes=num_classes, root=path.parent
        )


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"metadata file {path} does not exist")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows: list[dict[str, Any]] = list(
                csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
            )
    elif suffix in (".jsonl", ".ndjson"):
        rows = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path.name} line {number} is not valid JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path.name} line {number} holds {type(row).__name__}, expected an object")
            rows.append(row)
    else:
        raise ValueError(f"metadata file {path.name} has suffix {suffix!r}; use .csv, .tsv or .jsonl")
    if not rows:
        raise ValueError(f"metadata file {path.name} holds no rows")
    return rows
