"""labelme's JSON files: polygons and other shapes, one file an image."""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from prolab_hf.data.file_pairs import IMAGE_SUFFIXES
from prolab_hf.data.formats.imported import (
    ImportedImage,
    ImportedSet,
    ImportOptions,
    find_image,
    ignore_index_of,
    is_file,
    missing_masks,
    number_classes,
)
from prolab_hf.files import read_json_object, read_lines
from prolab_hf.model.image_conversion_prolab import open_image

_SHAPES = ("polygon", "rectangle", "circle", "mask")
_IGNORED, _BACKGROUND = "__ignore__", "_background_"


def read_labelme(path: Path, options: ImportOptions) -> ImportedSet:
    """Read a folder of labelme.

    The classes are those of `labels.txt` (without `__ignore__`, which is void, and `_background_`), or of all files in
    alphabetical order.

    Args:
        path: Folder with one JSON file an image; folders in it are splits.
        options: `overlap="file"` draws shapes in their order, as labelme does.

    Raises:
        FileNotFoundError: There are no such files, or an image is missing.
        ValueError: A file is malformed; the message names it.
    """
    splits = (
        {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir()} if path.is_dir() else {}
    )
    files = {split: sorted(folder.glob("*.json")) for split, folder in splits.items()}
    files = {split: found for split, found in files.items() if found} or {
        "train": sorted(path.glob("*.json"))
    }
    if not any(files.values()):
        raise FileNotFoundError(f"{path} holds no JSON files of labelme.")
    contents = {file: _checked(file) for found in files.values() for file in found}
    used = sorted({str(shape["label"]) for content in contents.values() for shape in content["shapes"]})
    used = [name for name in used if name not in (_IGNORED, _BACKGROUND)]
    listed = path / "labels.txt"
    if listed.is_file() and options.class_names is None:
        names = [
            name for name in read_lines(listed, what="label list") if name not in (_IGNORED, _BACKGROUND)
        ]
        unknown = [name for name in used if name not in names]
        if unknown:
            raise ValueError(f"{path}: the label {unknown[0]!r} is used, but {listed} does not list it.")
        used = names
    names = number_classes(used, options, str(path))
    images = [
        _imported(file, contents[file], split, names, options)
        for split, found in files.items()
        for file in found
    ]
    bare = [
        image.name
        for folder in {file.parent for file in contents}
        for image in sorted(folder.iterdir())
        if image.suffix.lower() in IMAGE_SUFFIXES and image.with_suffix(".json") not in contents
    ]
    missing_masks(bare, options.skip_unlabeled, str(path))
    return ImportedSet(names, images)


def _checked(file: Path) -> Mapping[str, list[Mapping[str, object]]]:
    content = read_json_object(file, what="file of labelme")
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise ValueError(f"{file} has no list 'shapes'; it is no file of labelme.")
    for index, shape in enumerate(shapes):
        where = f"{file}: shape {index}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise ValueError(f"{where} has no label.")
        kind = shape.get("shape_type") or "polygon"
        if kind not in _SHAPES:
            raise ValueError(f"{where} is a {kind}, which covers no area; allowed are {', '.join(_SHAPES)}.")
        points = shape.get("points")
        needed = 3 if kind == "polygon" else 2
        good = isinstance(points, list) and all(
            isinstance(point, list) and len(point) == 2 and all(_is_position(n) for n in point)
            for point in points
        )
        if not isinstance(points, list) or not good or len(points) < needed:
            raise ValueError(
                f"{where} ({kind}) needs at least {needed} points of two numbers, it has {points!r:.60}."
            )
    return content


def _is_position(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _imported(
    file: Path,
    content: Mapping[str, object],
    split: str,
    names: Sequence[str],
    options: ImportOptions,
) -> ImportedImage:
    named = content.get("imagePath")
    image = file.parent / str(named).replace("\\", "/") if isinstance(named, str) else file
    if options.images is not None:
        image = options.images / image.name
    if image == file or not is_file(image):
        image = find_image(options.images or file.parent, file.stem, str(file))
    size = content.get("imageHeight"), content.get("imageWidth")
    if not all(isinstance(side, int) and 0 < side < 10**5 for side in size):
        raise ValueError(f"{file}: imageHeight and imageWidth are {size}; they must be positive numbers.")
    shapes: list[Mapping[str, object]] = content["shapes"]  # type: ignore[assignment]
    return ImportedImage(image, file.stem, split, _drawing(file, shapes, size, names, options))  # type: ignore[arg-type]


def _drawing(
    file: Path,
    shapes: Sequence[Mapping[str, object]],
    size: tuple[int, int],
    names: Sequence[str],
    options: ImportOptions,
) -> Callable[[], NDArray[np.int32]]:
    def draw() -> NDArray[np.int32]:
        void = ignore_index_of(len(names))
        below = void if options.background is None else names.index(options.background)
        targets = {**{name: index for index, name in enumerate(names)}, _IGNORED: void, _BACKGROUND: below}
        covered = [_covered(shape, size, f"{file}: shape {index}") for index, shape in enumerate(shapes)]
        order = list(range(len(shapes)))
        if options.overlap == "area":
            order.sort(key=lambda index: -int(covered[index].sum()))
        mask = np.full(size, below, dtype=np.int32)
        for index in order:
            mask[covered[index]] = targets[str(shapes[index]["label"])]
        return mask

    return draw


def _covered(shape: Mapping[str, object], size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Pixels that a shape covers, its outline included, as labelme draws it."""
    layer = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(layer)
    points = [(float(x), float(y)) for x, y in shape["points"]]  # type: ignore[attr-defined]
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask":
        return _stored_mask(shape, points, size, where)
    if kind == "circle":
        (x, y), radius = points[0], math.dist(points[0], points[1])
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle":
        xs, ys = sorted(point[0] for point in points[:2]), sorted(point[1] for point in points[:2])
        draw.rectangle((xs[0], ys[0], xs[1], ys[1]), outline=1, fill=1)
    else:
        draw.polygon(points, outline=1, fill=1)
    return np.asarray(layer)


def _stored_mask(
    shape: Mapping[str, object], points: Sequence[tuple[float, float]], size: tuple[int, int], where: str
) -> NDArray[np.bool_]:
    try:
        content = base64.b64decode(str(shape.get("mask")), validate=True)
    except ValueError as error:
        raise ValueError(f"{where} holds a damaged mask: {error}.") from error
    part = np.asarray(open_image(io.BytesIO(content).getvalue(), name=where, what="mask").convert("L")) > 0
    left, top = int(points[0][0]), int(points[0][1])
    covered = np.zeros(size, dtype=bool)
    window = covered[max(top, 0) : top + part.shape[0], max(left, 0) : left + part.shape[1]]
    if top < 0 or left < 0 or window.shape != part.shape:
        raise ValueError(
            f"{where} holds a mask of {part.shape} at ({left}, {top}), which reaches out of the image."
        )
    window |= part
    return covered


__all__ = ["read_labelme"]
