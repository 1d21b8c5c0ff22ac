"""COCO's `annotations.json`: polygons and run lengths, drawn by pycocotools."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from prolab_hf.data.formats.imported import (
    ImportedImage,
    ImportedSet,
    ImportOptions,
    ignore_index_of,
    is_file,
    missing_masks,
    number_classes,
)
from prolab_hf.files import read_json_object

_NEEDS_PYCOCOTOOLS = (
    "Drawing COCO annotations needs the package pycocotools: pip install 'prolab_hf[formats]'."
)


class _Region(TypedDict):
    """An annotation: what it covers, its class, its number in the file."""

    segmentation: object
    target: int
    name: str


def read_coco(path: Path, options: ImportOptions) -> ImportedSet:
    """Read a file of annotations.

    Args:
        path: The JSON file, or a folder with `annotations/instances_SPLIT.json` (several splits) or one JSON file.
        options: `images` where images do not lie beside the file or in its folder's `SPLIT`, `images` or `../SPLIT`.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The file is malformed; the message names the annotation.
        ImportError: pycocotools is missing.
    """
    files = _annotation_files(path)
    contents = {split: _checked(file) for split, file in files.items()}
    categories: dict[int, str] = {}
    for split, content in contents.items():
        for entry in content["categories"]:
            number, name = _field(entry, "id", int, files[split]), _field(entry, "name", str, files[split])
            if categories.setdefault(number, name) != name:
                before = categories[number]
                raise ValueError(f"{files[split]}: category {number} is {name!r} here and {before!r} before.")
    ordered = [categories[number] for number in sorted(categories)]
    names = number_classes(ordered, options, str(path))
    targets = {number: names.index(name) for number, name in categories.items()}
    images: list[ImportedImage] = []
    for split, content in contents.items():
        images += _images_of(content, files[split], split, names, targets, options)
    return ImportedSet(names, images)


def _annotation_files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {_split_of(path): path}
    for folder in (path / "annotations", path):
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        instances = [file for file in files if file.stem.startswith("instances_")] or files
        if instances:
            return {_split_of(file): file for file in instances}
    # Roboflow and others write one file into the folder of each split.
    nested = {folder.parent.name: folder for folder in sorted(path.glob("*/_annotations.coco.json"))}
    if nested:
        return {"val" if split == "valid" else split: file for split, file in nested.items()}
    raise FileNotFoundError(f"{path} holds no COCO annotations (annotations/*.json).")


def _split_of(file: Path) -> str:
    for split in ("train", "val", "test"):
        if split in file.stem.lower():
            return split
    return "train"


def _checked(file: Path) -> Mapping[str, list[Mapping[str, object]]]:
    content = read_json_object(file, what="file of COCO annotations")
    for name in ("images", "annotations", "categories"):
        if not isinstance(content.get(name), list) or not all(
            isinstance(entry, dict) for entry in content[name]
        ):
            raise ValueError(f"{file} has no list {name!r} of objects; it is no file of COCO annotations.")
    return content


def _field(entry: Mapping[str, object], name: str, kind: type, file: Path) -> Any:
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{file}: {name!r} is {value!r} in {dict(entry)!r:.80}; it must be {kind.__name__}.")
    return value


def _images_of(
    content: Mapping[str, list[Mapping[str, object]]],
    file: Path,
    split: str,
    names: Sequence[str],
    targets: Mapping[int, int],
    options: ImportOptions,
) -> list[ImportedImage]:
    void = ignore_index_of(len(names))
    below = void if options.background is None else names.index(options.background)
    regions = _regions_by_image(content["annotations"], file, targets, options, void)
    found, bare, seen = [], [], set()
    for entry in content["images"]:
        number, file_name = _field(entry, "id", int, file), str(_field(entry, "file_name", str, file))
        size = (_field(entry, "height", int, file), _field(entry, "width", int, file))
        if not all(0 < side < 10**5 for side in size):
            raise ValueError(
                f"{file}: the image {file_name} is {size} (height, width); both must be positive."
            )
        if number in seen:
            raise ValueError(f"{file}: two images have the id {number}.")
        seen.add(number)
        if number not in regions:
            bare.append(file_name)
            if options.skip_unlabeled:
                continue
        image = _image_file(file, split, file_name, options)
        drawing = _drawing(regions.get(number, []), size, below)
        found.append(ImportedImage(image, str(Path(file_name).with_suffix("").as_posix()), split, drawing))
    missing_masks(bare, options.skip_unlabeled or options.background is not None, str(file))
    lost = regions.keys() - seen
    if lost:
        raise ValueError(f"{file}: annotations name the image {min(lost, key=str)!r}, which is not listed.")
    return found


def _regions_by_image(
    annotations: Sequence[Mapping[str, object]],
    file: Path,
    targets: Mapping[int, int],
    options: ImportOptions,
    void: int,
) -> dict[object, list[_Region]]:
    """Regions in the order in which they are drawn."""
    ordered = list(enumerate(annotations))
    if options.overlap == "area":
        ordered.sort(key=lambda item: -_area(item[1]))
    regions: dict[object, list[_Region]] = {}
    for index, entry in ordered:
        category = _field(entry, "category_id", int, file)
        if category not in targets:
            where = f"{file}: annotation {entry.get('id', index)}"
            raise ValueError(f"{where} has the category {category}, which is not listed.")
        crowd = bool(entry.get("iscrowd", 0)) and options.crowd == "void"
        region: _Region = {
            "segmentation": entry.get("segmentation"),
            "target": void if crowd else targets[category],
            "name": f"{file}: annotation {entry.get('id', index)}",
        }
        regions.setdefault(_field(entry, "image_id", int, file), []).append(region)
    return regions


def _area(entry: Mapping[str, object]) -> float:
    area = entry.get("area")
    return float(area) if isinstance(area, int | float) else 0.0


def _image_file(file: Path, split: str, file_name: str, options: ImportOptions) -> Path:
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    stem = file.stem.removeprefix("instances_")
    folders = (
        [options.images]
        if options.images
        else [file.parent, root, root / "images", root / stem, root / split]
    )
    for folder in folders:
        if is_file(folder / file_name):
            return folder / file_name
    looked = ", ".join(map(str, folders))
    raise FileNotFoundError(f"{file} names the image {file_name}, which is in none of {looked} (--images).")


def _drawing(
    regions: Sequence[_Region], size: tuple[int, int], below: int
) -> Callable[[], NDArray[np.int32]]:
    def draw() -> NDArray[np.int32]:
        mask = np.full(size, below, dtype=np.int32)
        for region in regions:
            mask[_covered(region, size)] = region["target"]
        return mask

    return draw


def _covered(region: _Region, size: tuple[int, int]) -> NDArray[np.bool_]:
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        raise ImportError(_NEEDS_PYCOCOTOOLS) from None
    shape = region["segmentation"]
    _check_shape(shape, size, region["name"])
    try:
        if isinstance(shape, dict):
            runs = coco_mask.frPyObjects(shape, *size) if isinstance(shape["counts"], list) else shape
        else:
            runs = coco_mask.merge(coco_mask.frPyObjects(shape, *size))
        covered = coco_mask.decode(runs).astype(bool)
    except Exception as error:  # the C code reports in many ways
        raise ValueError(f"{region['name']} cannot be drawn: {error}.") from error
    if covered.shape != size:
        raise ValueError(f"{region['name']} covers {covered.shape}, its image has {size} (height, width).")
    return covered


def _check_shape(shape: object, size: tuple[int, int], name: str) -> None:
    """The C code of pycocotools does not look at what it is given: wrong run lengths write beyond its memory."""
    if isinstance(shape, dict):
        counts = shape.get("counts")
        if shape.get("size") != list(size):
            raise ValueError(
                f"{name} has run lengths for {shape.get('size')}, its image has {list(size)} (height, width)."
            )
        if isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts):
            total = sum(counts)
        elif isinstance(counts, str):
            total = sum(_decoded_counts(counts, name))
        else:
            total = -1
        if total != size[0] * size[1]:
            raise ValueError(f"{name} has run lengths that do not add up to {size[0]} x {size[1]} pixels.")
    elif not (
        isinstance(shape, list)
        and shape
        and all(
            isinstance(part, list)
            and len(part) >= 6
            and len(part) % 2 == 0
            and all(isinstance(n, int | float) and abs(n) < 1e6 for n in part)
            for part in shape
        )
    ):
        raise ValueError(
            f"{name} has neither polygons (lists of x, y of three points or more) nor run lengths."
        )


def _decoded_counts(text: str, name: str) -> list[int]:
    """Run lengths of COCO's compressed form: 5 bits a character, differences to the run before the last."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = ord(text[position]) - 48 if position < len(text) else -1
            if not 0 <= code < 64 or shift > 40:
                raise ValueError(f"{name} has damaged run lengths.")
            value |= (code & 31) << shift
            more, shift, position = bool(code & 32), shift + 5, position + 1
        if code & 16:
            value |= -1 << shift
        value += counts[-2] if len(counts) > 2 else 0
        if value < 0:
            raise ValueError(f"{name} has a negative run length.")
        counts.append(value)
    return counts
