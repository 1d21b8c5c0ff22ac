"""Where images and masks come from: folders, `datasets` sets and metadata files, all with one shape.

A source has a length, gives a `Sample` per index and knows its class names. Sources read; they do not
augment, resize or normalize. Whatever is wrong with an image or mask ends in one `ValueError` that names
the file, so that a training run says what to repair instead of dying in a worker with a decoder's message.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prolab_hf.data.hub_source import HubSource
from prolab_hf.data.image_files import (
    RawSample,
    Sample,
    SegmentationSource,
    class_space,
    read_image,
    read_raw,
)
from prolab_hf.data.label_coding import LabelCoding

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm")
_SHOWN_NAMES = 5
_LOSSY = "; JPEG masks are not read, because that format changes the ids: use PNG"


def find_folders(root: Path, split: str | None, images: str, masks: str) -> tuple[Path, Path]:
    """The folders with images and with masks of a split.

    Args:
        root: Folder of the data set.
        split: Name of the split, `None` where there is none.
        images: Name of the folder with images.
        masks: Name of the folder with masks.

    Raises:
        FileNotFoundError: If no layout is found; the message names the splits that are there.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data folder {root} does not exist")
    if split is None:
        tried = [(root / images, root / masks)]
    else:
        tried = [(root / split / images, root / split / masks), (root / images / split, root / masks / split)]
    for image_folder, mask_folder in tried:
        if image_folder.is_dir() and mask_folder.is_dir():
            return image_folder, mask_folder
    looked = " or ".join(
        f"{a.relative_to(root).as_posix()} + {b.relative_to(root).as_posix()}" for a, b in tried
    )
    splits = folder_splits(root, images=images, masks=masks)
    if splits:
        there = f"its splits are {', '.join(splits)} (--split)"
    else:
        there = (
            f"its folders are {sorted(entry.name for entry in root.iterdir() if entry.is_dir()) or 'none'}"
        )
    raise FileNotFoundError(f"data folder {root} has no {looked}; {there}")


def folder_splits(root: str | Path, *, images: str = "images", masks: str = "masks") -> list[str]:
    """Names of the splits in a folder that `FolderSource` reads, sorted, those for training first.

    Args:
        root: Folder of the data set.
        images: Name of the folder with images.
        masks: Name of the folder with masks.
    """
    root = Path(root)
    inside = [
        entry.name for entry in root.iterdir() if (entry / images).is_dir() and (entry / masks).is_dir()
    ]
    if (root / images).is_dir() and (root / masks).is_dir():
        inside += [
            entry.name
            for entry in (root / images).iterdir()
            if (entry.is_dir() and (root / masks / entry.name).is_dir())
        ]
    return train_first(inside)


def train_first(splits: Iterable[str]) -> list[str]:
    """Names of splits in the order in which people list them: for training first, then by name."""
    return sorted(splits, key=lambda name: (name != "train", name))


def match_by_stem(
    image_folder: Path,
    mask_folder: Path,
    *,
    image_suffix: str = "",
    mask_suffix: str = "",
    other_suffixes: Sequence[str] = (),
    recursive: bool = False,
) -> list[tuple[Path, Path]]:
    """Pair images and masks whose paths agree up to their suffixes, in sorted order.

    Args:
        image_folder: Folder with images.
        mask_folder: Folder with masks.
        image_suffix: Text that image names end with before the extension; other files are left out.
        mask_suffix: The same for masks.
        other_suffixes: Masks whose names end so are of another kind and are left out.
        recursive: Whether sub-folders are searched (their names are part of the stem).

    Raises:
        ValueError: If there is none, a stem occurs twice, or a partner is missing.
    """
    images = _by_stem(image_folder, IMAGE_SUFFIXES, image_suffix, (), recursive)
    masks = _by_stem(mask_folder, MASK_SUFFIXES, mask_suffix, other_suffixes, recursive)
    if not images:
        raise ValueError(f"folder {image_folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    _check_partners(images, masks, mask_folder, "mask")
    _check_partners(masks, images, image_folder, "image")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _check_partners(files: dict[str, Path], partners: dict[str, Path], folder: Path, what: str) -> None:
    missing = sorted(files.keys() - partners.keys())
    if missing:
        lossy = what == "mask" and any(
            (folder / f"{missing[0]}{ending}").is_file() for ending in (".jpg", ".jpeg")
        )
        names = ", ".join(files[stem].name for stem in missing[:_SHOWN_NAMES])
        more = f" and {len(missing) - _SHOWN_NAMES} more" if len(missing) > _SHOWN_NAMES else ""
        raise ValueError(
            f"folder {folder} has no {what} for {names}{more}; every image needs a mask of the same name "
            f"and every mask an image{_LOSSY if lossy else ''}"
        )


def _by_stem(
    folder: Path, extensions: tuple[str, ...], ending: str, others: Sequence[str], recursive: bool
) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if path.suffix.lower() not in extensions or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if not stem.endswith(ending) or any(stem.endswith(other) for other in others):
            continue
        stem = stem.removesuffix(ending)
        if stem in found:
            raise ValueError(
                f"folder {folder} holds {found[stem].name} and {path.name}: names must be unique"
            )
        found[stem] = path
    return found


class PairSource:
    """Source over a list of (image file, mask file).

    Args:
        pairs: Image and mask files.
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
            raise ValueError("the data source holds no pair of image and mask")
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
        """Image and mask as the files hold them, for `prolab check-data`."""
        image, mask = self.pairs[index]
        names = {"name": self._short(image), "mask_name": self._short(mask)}
        return read_raw(image, mask, coding=self.coding, **names)

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
        coding: Declared meaning of the mask's values; `ids` with void 255 by default.
        class_names: Names in class order; by default those of `root/classes.txt` (one a line) if it exists.
        num_classes: Size of the class space where names are not known.
        images: Name of the folder with images (`annotations` and others are common too).
        masks: Name of the folder with masks.
        mask_suffix: Text that mask stems have after the image's stem, for example `_mask`.

    Raises:
        FileNotFoundError: If no layout is found.
        ValueError: If an image or a mask has no partner, or a stem occurs twice.
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
        image_column: Column with the image's path.
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
