"""CVAT's "Segmentation mask 1.1" and Pascal VOC: lists of names, and masks of colors or palette indices."""

from pathlib import Path

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
from prolab_hf.files import read_lines

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table",
    "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
)  # fmt: skip
_BACKGROUND_NAMES = ("background", "_background_", "unlabeled")


def read_cvat(path: Path, options: ImportOptions) -> ImportedSet:
    """Read an export "Segmentation mask 1.1" of CVAT.

    Args:
        path: Folder with `labelmap.txt`, `ImageSets/Segmentation`, `SegmentationClass` and `JPEGImages`.
        options: `background` is the name that CVAT's own background class gets, or `None` to make it void.

    Raises:
        FileNotFoundError: The folder is no such export.
        ValueError: The label map or a mask does not fit.
    """
    listed = path / "labelmap.txt"
    colors = _label_map(listed)
    plain = [name for name in colors if name.lower() not in _BACKGROUND_NAMES]
    names = plain if options.background is None or len(plain) == len(colors) else [options.background, *plain]
    targets: dict[tuple[int, int, int], int | None] = {}
    for name, color in colors.items():
        targets[color] = names.index(name) if name in plain else None if options.background is None else 0
    coding = LabelCoding("palette", ignore_index=ignore_index_of(len(names)), palette=targets)
    return ImportedSet(names, _listed_images(path, options, coding, len(names)))


def _label_map(path: Path) -> dict[str, tuple[int, int, int]]:
    """Colors by name, in the order of the file: lines `name:r,g,b:parts:actions`."""
    colors: dict[str, tuple[int, int, int]] = {}
    for line in read_lines(path, what="label map of CVAT"):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        parts = rest.partition(":")[0].split(",")
        if (
            len(parts) != 3
            or not all(part.strip().isdecimal() and int(part) < 256 for part in parts)
            or not name
        ):
            raise ValueError(f"{path}: the line {line!r} is not of the form name:r,g,b:parts:actions.")
        color = (int(parts[0]), int(parts[1]), int(parts[2]))
        if name in colors or color in colors.values():
            raise ValueError(f"{path}: the line {line!r} repeats a name or a color; list each once.")
        colors[name] = color
    if not colors:
        raise ValueError(f"{path}: this label map lists no label.")
    return colors


def read_voc(path: Path, options: ImportOptions) -> ImportedSet:
    """Read a folder of Pascal VOC, such as `VOCdevkit/VOC2012`.

    Args:
        path: Folder with `ImageSets/Segmentation`, `SegmentationClass` and `JPEGImages`.
        options: `class_names` where the classes are not VOC's own; `background=None` makes id 0 void.

    Raises:
        FileNotFoundError: The folder is no such set.
        ValueError: A mask does not fit.
    """
    names = list(options.class_names or VOC_CLASSES)
    if options.background is None:
        coding = LabelCoding("shifted", void_values=(255,))
        names = names[1:]
    else:
        coding = LabelCoding("ids")
    return ImportedSet(names, _listed_images(path, options, coding, len(names)))


def _listed_images(
    path: Path, options: ImportOptions, coding: LabelCoding, num_classes: int
) -> list[ImportedImage]:
    lists, masks = path / "ImageSets" / "Segmentation", path / "SegmentationClass"
    for folder in (lists, masks):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{path} has no folder {folder.relative_to(path).as_posix()}; is it the right one?"
            )
    images = options.images or path / "JPEGImages"
    found: list[ImportedImage] = []
    splits: dict[str, str] = {}
    bare: list[str] = []
    for listed in _split_lists(lists):
        split = "train" if listed.stem == "default" else listed.stem
        for name in read_lines(listed, what="list of images"):
            if name in splits:
                raise ValueError(
                    f"{name} is in the lists {splits[name]} and {split}; an image belongs to one split."
                )
            splits[name] = split
            mask = masks / f"{name}.png"
            if not mask.is_file():
                bare.append(name)
                continue
            found.append(
                ImportedImage(
                    find_image(images, name, str(listed)), name, split, mask_reader(mask, coding, num_classes)
                )
            )
    missing_masks(bare, options.skip_unlabeled, str(masks))
    return found


def _split_lists(folder: Path) -> list[Path]:
    """Lists of names, without those that only join others."""
    lists = sorted(folder.glob("*.txt"))
    if not lists:
        raise FileNotFoundError(f"{folder} holds no lists of names (*.txt).")
    stems = {path.stem for path in lists}
    return [path for path in lists if path.stem != "trainval" or not {"train", "val"} <= stems]
