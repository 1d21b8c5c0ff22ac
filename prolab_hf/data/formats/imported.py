"""What a reader of a labeling tool's export gives, and how it becomes a folder that training reads."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prolab_hf.data.file_pairs import IMAGE_SUFFIXES
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.files import write_text
from prolab_hf.model.image_conversion_prolab import open_unloaded
from prolab_hf.model.label_maps_prolab import open_mask

IGNORE_INDEX, WIDE_IGNORE_INDEX = 255, 65535
_SHOWN = 5
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImportOptions:
    """What an export does not say by itself.

    Attributes:
        background: Name of the class that pixels without an annotation get; `None` makes them void.
        overlap: Which of two annotations lies on top: the smaller one (`"area"`), or the later one (`"file"`).
        crowd: What regions marked as crowd are: void (they are drawn roughly), or their class.
        skip_unlabeled: Leave images without annotation out; otherwise they are an error.
        images: Folder with the images, where the export holds none.
        class_names: Names in the order of the ids, where the export has none or another order is wanted.
    """

    background: str | None = "background"
    overlap: Literal["area", "file"] = "area"
    crowd: Literal["void", "class"] = "void"
    skip_unlabeled: bool = False
    images: Path | None = None
    class_names: Sequence[str] | None = None


@dataclass(frozen=True)
class ImportedImage:
    """One image of an export.

    Attributes:
        image: Its file.
        name: Name without suffix, unique in its split.
        split: Its split.
        mask: Gives class ids `(height, width)`; void pixels hold the set's `ignore_index`.
    """

    image: Path
    name: str
    split: str
    mask: Callable[[], NDArray[np.int32]]


@dataclass(frozen=True)
class ImportedSet:
    """An export as it was read.

    Attributes:
        class_names: Names in the order of the ids.
        images: Its images; masks are made when they are asked for.
    """

    class_names: list[str]
    images: list[ImportedImage] = field(default_factory=list)

    @property
    def ignore_index(self) -> int:
        """Value of void pixels."""
        return ignore_index_of(len(self.class_names))


def ignore_index_of(num_classes: int) -> int:
    """Value of void pixels in a set of so many classes."""
    return IGNORE_INDEX if num_classes < IGNORE_INDEX else WIDE_IGNORE_INDEX


def with_validation(imported: ImportedSet, share: float) -> ImportedSet:
    """Moves a share of an export that has one split to the split `val`; the rest is `train`.

    A digest of the names chooses, so that neither their order nor chance decides.

    Args:
        imported: The export.
        share: Between 0 and 1; at least one image stays on either side.

    Raises:
        ValueError: The share is out of range, the export has several splits already, or fewer than two images.
    """
    if not 0 < share < 1:
        raise ValueError(f"--val is {share}; it is a share between 0 and 1, such as 0.2.")
    splits = sorted({item.split for item in imported.images})
    if len(splits) > 1:
        raise ValueError(f"The export has the splits {', '.join(splits)} already; leave --val out.")
    total = len(imported.images)
    if total < 2:
        raise ValueError(f"--val divides two images or more; the export has {total}.")
    number = min(max(round(share * total), 1), total - 1)
    ranked = sorted(imported.images, key=lambda item: hashlib.sha256(item.name.encode()).digest())
    chosen = {item.name for item in ranked[:number]}
    images = [replace(item, split="val" if item.name in chosen else "train") for item in imported.images]
    return replace(imported, images=images)


def write_folder(imported: ImportedSet, out: Path) -> Iterator[ImportedImage]:
    """Write `SPLIT/images`, `SPLIT/masks` and `classes.txt`, as `FolderSource` reads them.

    The folder appears when all is written: nothing half-done is left under its name.

    Args:
        imported: The export.
        out: A new folder.

    Yields:
        Every image when it is written.

    Raises:
        FileExistsError: The folder exists and is not empty.
        ValueError: There are no images, two have one name, or a mask does not fit its image.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} exists already; name a new folder.")
    if not imported.images:
        raise ValueError("The export holds no images with annotations.")
    names = Counter((item.split, _flat(item.name).casefold()) for item in imported.images)
    (split, name), count = names.most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} images of the split {split} are named {name}; names must be unique.")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for item in imported.images:
            _write_pair(item, part / item.split, len(imported.class_names), imported.ignore_index)
            yield item
        write_text(part / "classes.txt", "\n".join(imported.class_names) + "\n")
        if out.is_dir():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _flat(name: str) -> str:
    return name.replace("/", "__")


def _write_pair(item: ImportedImage, folder: Path, num_classes: int, ignore_index: int) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    mask = item.mask()
    opened = open_unloaded(item.image, name=str(item.image))
    lies_on_its_side = opened.getexif().get(_ORIENTATION, 1) >= 5
    width, height = opened.size[::-1] if lies_on_its_side else opened.size
    if mask.shape != (height, width):
        raise ValueError(
            f"The annotation of {item.name} is {mask.shape[1]}x{mask.shape[0]}, but its image {item.image} is "
            f"{width}x{height} (width x height, upright); export both anew."
        )
    bad = (mask != ignore_index) & ((mask < 0) | (mask >= num_classes))
    if bad.any():
        raise ValueError(
            f"The annotation of {item.name} holds the id {int(mask[bad][0])} of {num_classes} classes."
        )
    number = np.uint8 if ignore_index == IGNORE_INDEX else np.uint16
    Image.fromarray(mask.astype(number)).save(folder / "masks" / f"{_flat(item.name)}.png")
    shutil.copy2(item.image, folder / "images" / f"{_flat(item.name)}{item.image.suffix}")


def is_file(path: Path) -> bool:
    """Whether a file of a name that an export gives exists; the name may be none that a file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def find_image(folder: Path, stem: str, where: str) -> Path:
    """The image of a name without suffix.

    Raises:
        FileNotFoundError: There is none; the message says where to name the folder with images.
    """
    for suffix in (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES)):
        path = folder / f"{stem}{suffix}"
        if is_file(path):
            return path
    raise FileNotFoundError(
        f"{where} names the image {stem}, but {folder} has none of that name; export with images, or name their "
        "folder (--images)."
    )


def missing_masks(names: Sequence[str], skip: bool, where: str) -> None:
    """Stop at images without annotation, unless they are to be left out.

    Raises:
        ValueError: There are some.
    """
    if names and not skip:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise ValueError(
            f"{where} has no annotation for {', '.join(names[:_SHOWN])}{more}; annotate them, or leave them out "
            "(--skip-unlabeled)."
        )


def number_classes(found: Sequence[str], options: ImportOptions, where: str) -> list[str]:
    """Names in the order of the ids: the background first, unless it is void.

    Args:
        found: Names in the export, in its order.
        options: `class_names` gives another order; `background` is put in front where it is not among them.
        where: The export, for messages.

    Raises:
        ValueError: A class of the export is not among the given names, or is named twice.
    """
    names = list(options.class_names) if options.class_names is not None else list(found)
    unknown = [name for name in found if name not in names]
    if unknown:
        raise ValueError(f"{where} has the class {unknown[0]!r}, which --classes does not list; add it.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{where} names the class {twice[0]!r} twice; name every class once.")
    if options.background is not None and options.background not in names:
        names = [options.background, *names]
    return names


def mask_reader(path: Path, coding: LabelCoding, num_classes: int) -> Callable[[], NDArray[np.int32]]:
    """What reads a mask file under a label coding, when it is asked for.

    Args:
        path: The mask.
        coding: Meaning of its values.
        num_classes: Size of the class space.
    """

    def read() -> NDArray[np.int32]:
        opened = open_mask(path, name=str(path))
        raw = coding.read_mask(opened, name=str(path)) if isinstance(opened, Image.Image) else opened
        return coding.decode(raw, num_classes=num_classes, name=str(path))

    return read
