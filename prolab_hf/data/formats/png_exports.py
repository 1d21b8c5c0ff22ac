"""PNG masks with a list beside them: Roboflow's "Semantic Segmentation Masks" and Supervisely's "machine masks"."""

import csv
from collections.abc import Mapping
from pathlib import Path

from prolab_hf.data.file_pairs import IMAGE_SUFFIXES
from prolab_hf.data.formats.imported import (
    ImportedImage,
    ImportedSet,
    ImportOptions,
    find_image,
    ignore_index_of,
    mask_reader,
    missing_masks,
)
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.files import read_json_object, read_text

_MASK_END = "_mask"
_ROBOFLOW_LIST = "_classes.csv"
_COLORS = "obj_class_to_machine_color.json"


def read_roboflow(path: Path, options: ImportOptions) -> ImportedSet:
    """Read an export "Semantic Segmentation Masks" of Roboflow.

    Args:
        path: Folder with `train`, `valid`, `test`, each with images, `NAME_mask.png` and `_classes.csv`.
        options: `background` is the name that pixel value 0 gets where it is called background; `None` makes it void.

    Raises:
        FileNotFoundError: The folder is no such export.
        ValueError: The lists of the splits differ, or a mask does not fit.
    """
    lists = {file.parent: _roboflow_classes(file) for file in sorted(path.glob(f"*/{_ROBOFLOW_LIST}"))}
    if not lists:
        raise FileNotFoundError(f"{path} holds no folder with {_ROBOFLOW_LIST}; is it an export of Roboflow?")
    first = next(iter(lists.values()))
    for folder, classes in lists.items():
        if classes != first:
            raise ValueError(
                f"{folder / _ROBOFLOW_LIST} lists other classes than the first split: {classes}."
            )
    names, coding = _numbered(first, options)
    images: list[ImportedImage] = []
    bare: list[str] = []
    for folder in lists:
        split = "val" if folder.name == "valid" else folder.name
        for image in sorted(folder.iterdir()):
            if image.suffix.lower() not in IMAGE_SUFFIXES or image.stem.endswith(_MASK_END):
                continue
            mask = folder / f"{image.stem}{_MASK_END}.png"
            if not mask.is_file():
                bare.append(image.name)
                continue
            images.append(ImportedImage(image, image.stem, split, mask_reader(mask, coding, len(names))))
    missing_masks(bare, options.skip_unlabeled, str(path))
    return ImportedSet(names, images)


def _roboflow_classes(file: Path) -> dict[int, str]:
    """Names by pixel value: lines `Pixel Value, Class`."""
    classes: dict[int, str] = {}
    try:
        rows = list(csv.reader(read_text(file, what="list of classes").splitlines()))
    except csv.Error as error:
        raise ValueError(f"{file} cannot be read as a table: {error}.") from error
    for row in rows[1:]:
        if not row:
            continue
        cells = [cell.strip() for cell in row]
        if len(cells) != 2 or not cells[0].isascii() or not cells[0].isdecimal() or not cells[1]:
            raise ValueError(f"{file}: the line {','.join(row)!r} is not of the form number, name.")
        if int(cells[0]) in classes or cells[1] in classes.values():
            raise ValueError(f"{file}: the line {','.join(row)!r} repeats a number or a name.")
        classes[int(cells[0])] = cells[1]
    if not classes:
        raise ValueError(f"{file} lists no classes.")
    return classes


def read_supervisely(path: Path, options: ImportOptions) -> ImportedSet:
    """Read masks of Supervisely, as its app "Export as masks" writes them.

    Args:
        path: Project folder with `obj_class_to_machine_color.json` and data sets of `img` and `masks_machine`.
        options: `background` is the class of pixel value 0, `None` makes it void.

    Raises:
        FileNotFoundError: The folder is no such export.
        ValueError: The list of colors or a mask does not fit.
    """
    listed = path / _COLORS
    classes: dict[int, str] = {}
    for name, color in read_json_object(listed, what="list of machine colors").items():
        gray = isinstance(color, list) and len(color) == 3 and len({str(part) for part in color}) == 1
        value = color[0] if gray else None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 256 or value in classes:
            raise ValueError(
                f"{listed}: the color of {name!r} is {color!r}; each class has its own [k, k, k] above 0."
            )
        classes[value] = str(name)
    names, coding = _numbered({0: "background", **classes}, options)
    images: list[ImportedImage] = []
    bare: list[str] = []
    folders = sorted(folder.parent for folder in path.glob("*/masks_machine") if folder.is_dir())
    if not folders:
        raise FileNotFoundError(f"{path} has no data set with a folder masks_machine; export it as masks.")
    for folder in folders:
        for image in sorted((folder / "img").glob("*")):
            if image.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            masks = [folder / "masks_machine" / f"{stem}.png" for stem in (image.stem, image.name)]
            mask = next((mask for mask in masks if mask.is_file()), None)
            if mask is None:
                bare.append(image.name)
                continue
            found = find_image(options.images or folder / "img", image.stem, str(mask))
            images.append(
                ImportedImage(found, image.stem, folder.name, mask_reader(mask, coding, len(names)))
            )
    missing_masks(bare, options.skip_unlabeled, str(path))
    return ImportedSet(names, images)


def _numbered(classes: Mapping[int, str], options: ImportOptions) -> tuple[list[str], LabelCoding]:
    """Names in the order of the pixel values, and the table from values to ids; background void or renamed."""
    is_background = {value: value == 0 and name.lower() == "background" for value, name in classes.items()}
    names: list[str] = []
    table: dict[int, int | None] = {}
    for value in sorted(classes):
        if is_background[value] and options.background is None:
            table[value] = None
            continue
        table[value] = len(names)
        names.append(str(options.background) if is_background[value] else classes[value])
    return names, LabelCoding("table", table=table, ignore_index=ignore_index_of(len(names)))
