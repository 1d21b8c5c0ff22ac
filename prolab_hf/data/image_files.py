"""Reading one pair of picture and mask, with one clear error for whatever is wrong with it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from prolab_hf.data.label_coding import LabelCoding


@dataclass(frozen=True)
class Sample:
    """One picture with its labels.

    Attributes:
        image: RGB picture, upright (EXIF orientation applied).
        mask: `(height, width)` class ids; void pixels hold the coding's `ignore_index`.
        name: File or row that it comes from.
    """

    image: Image.Image
    mask: NDArray[np.int32]
    name: str


class SegmentationSource(Protocol):
    """What every source offers; write your own class with these members to train on anything else."""

    class_names: list[str] | None
    num_classes: int

    @property
    def ignore_index(self) -> int:
        """Value of void pixels in the masks."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Sample at an index; `IndexError` past the end."""
        ...


@dataclass(frozen=True)
class RawSample:
    """A picture and its mask before the label coding is applied.

    Attributes:
        image: RGB picture, upright.
        raw_mask: `(height, width)` numbers, or `(height, width, 3)` colors for a palette.
        image_mode: Mode of the picture file.
        mask_mode: Mode of the mask file; `array` where the mask was no picture.
        name: Name of the picture.
        mask_name: Name of the mask.
    """

    image: Image.Image
    raw_mask: NDArray[Any]
    image_mode: str
    mask_mode: str
    name: str
    mask_name: str

    def decode(self, coding: LabelCoding, num_classes: int) -> Sample:
        """Apply a label coding.

        Raises:
            ValueError: If a label is outside the space.
        """
        mask = coding.decode(self.raw_mask, num_classes=num_classes, name=self.mask_name)
        return Sample(self.image, mask, self.name)


def read_raw(image: Any, mask: Any, *, coding: LabelCoding, name: str, mask_name: str) -> RawSample:
    """Read one pair of picture and mask.

    Args:
        image: Path, bytes or PIL picture.
        mask: Path, bytes, PIL picture or integer array `(height, width)`.
        coding: Decides whether a mask is read as numbers or as colors.
        name: Name of the picture, for messages.
        mask_name: Name of the mask, for messages.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If one of both cannot be decoded or the sizes differ.
    """
    opened = open_image(image, name=name, what="picture")
    picture = _upright_rgb(opened, name)
    if isinstance(mask, np.ndarray | list):
        raw, mask_mode = np.asarray(mask), "array"
    else:
        mask_image = open_image(mask, name=mask_name, what="mask")
        raw, mask_mode = coding.read_mask(mask_image, name=mask_name), mask_image.mode
    if raw.shape[:2] != (picture.height, picture.width):
        size = f"{raw.shape[1]}x{raw.shape[0]}" if raw.ndim >= 2 else f"of shape {raw.shape}"
        raise ValueError(
            f"mask {mask_name} is {size}, but its picture {name} is {picture.width}x{picture.height} "
            "(width x height, after EXIF orientation); both must have the same size"
        )
    return RawSample(picture, raw, opened.mode, mask_mode, name, mask_name)


def read_image(content: Any, *, name: str) -> Image.Image:
    """Decode a picture completely and make it upright RGB.

    Args:
        content: Path, bytes, or an opened PIL picture.
        name: File or row, for messages.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the picture cannot be decoded.
    """
    return _upright_rgb(open_image(content, name=name, what="picture"), name)


def _upright_rgb(picture: Image.Image, name: str) -> Image.Image:
    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "F":
            # PIL would clip at 255 and round: pictures with values from 0 to 1 would silently turn black.
            raise ValueError("it holds floating-point values, whose range is unknown; save it with 8 bits")
        if picture.mode.startswith("I"):
            # 16-bit gray: PIL's own conversion clips everything above 255 to white.
            values = np.asarray(picture).astype(np.int64)
            shift = 8 if values.max(initial=0) > 255 else 0
            picture = Image.fromarray((values >> shift).astype(np.uint8))
        if picture.mode == "P" and "transparency" in picture.info:
            picture = picture.convert("RGBA")
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"picture {name} cannot be decoded: {error}; replace or remove the file") from error


def open_image(content: Any, *, name: str, what: str) -> Image.Image:
    """Open and fully load a picture, with one kind of error for all that can be wrong with its content.

    Args:
        content: Path, bytes or PIL picture.
        name: File or row, for messages.
        what: `picture` or `mask`, for messages.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the content cannot be decoded.
    """
    try:
        if isinstance(content, bytes | bytearray):
            picture: Image.Image = Image.open(io.BytesIO(content))
        elif isinstance(content, Image.Image):
            picture = content
        else:
            with Path(content).open("rb") as file:
                picture = Image.open(io.BytesIO(file.read()))
        picture.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} {name} does not exist") from None
    except UnidentifiedImageError as error:
        # PIL's own message names an object in memory.
        raise ValueError(
            f"{what} {name} cannot be decoded: it is empty or no picture of a known format; replace or remove "
            "the file"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} {name} cannot be decoded: {error}; replace or remove the file") from error
    return picture


def class_space(class_names: Sequence[str] | None, num_classes: int | None) -> tuple[list[str] | None, int]:
    """Names (if known) and number of classes, from whichever of the two was given.

    Raises:
        ValueError: If neither was given or they disagree.
    """
    names = None if class_names is None else [str(name) for name in class_names]
    if names is None and num_classes is None:
        raise ValueError(
            "the class space is unknown; give class_names or num_classes (--space, --classes or --num-classes)"
        )
    if names is not None and num_classes is not None and len(names) != num_classes:
        raise ValueError(f"{len(names)} class names were given for {num_classes} classes")
    return names, len(names) if names is not None else int(num_classes or 0)
