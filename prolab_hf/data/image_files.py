"""Reading one pair of image and mask, with one clear error for whatever is wrong with it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from prolab_hf.data.label_coding import LabelCoding


class BrokenImageError(ValueError):
    """An image or mask that cannot be decoded; the message names the file."""


@dataclass(frozen=True)
class Sample:
    """One image with its labels.

    Attributes:
        image: RGB image, upright (EXIF orientation applied).
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
    """An image and its mask before the label coding is applied.

    Attributes:
        image: RGB image, upright.
        raw_mask: `(height, width)` numbers, or `(height, width, 3)` colors for a palette.
        image_mode: Mode of the image file.
        mask_mode: Mode of the mask file; `array` where the mask was no image.
        name: Name of the image.
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
    """Read one pair of image and mask.

    Args:
        image: Path, bytes or PIL image.
        mask: Path, bytes, PIL image or integer array `(height, width)`.
        coding: Decides whether a mask is read as numbers or as colors.
        name: Name of the image, for messages.
        mask_name: Name of the mask, for messages.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If one of both cannot be decoded or the sizes differ.
    """
    opened = open_image(image, name=name, what="image")
    upright = _upright_rgb(opened, name)
    if isinstance(mask, np.ndarray | list):
        raw, mask_mode = np.asarray(mask), "array"
    else:
        mask_image = open_image(mask, name=mask_name, what="mask")
        raw, mask_mode = coding.read_mask(mask_image, name=mask_name), mask_image.mode
    if raw.shape[:2] != (upright.height, upright.width):
        size = f"{raw.shape[1]}x{raw.shape[0]}" if raw.ndim >= 2 else f"of shape {raw.shape}"
        raise ValueError(
            f"mask {mask_name} is {size}, but its image {name} is {image.width}x{image.height} "
            "(width x height, after EXIF orientation); both must have the same size"
        )
    return RawSample(upright, raw, opened.mode, mask_mode, name, mask_name)


def read_image(content: Any, *, name: str) -> Image.Image:
    """Decode an image completely and make it upright RGB.

    Args:
        content: Path, bytes, or an opened PIL image.
        name: File or row, for messages.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the image cannot be decoded.
    """
    return _upright_rgb(open_image(content, name=name, what="image"), name)


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            # PIL would clip at 255 and round: images with values from 0 to 1 would silently turn black.
            raise ValueError("it holds floating-point values, whose range is unknown; save it with 8 bits")
        if image.mode.startswith("I"):
            # 16-bit gray: PIL's own conversion clips everything above 255 to white.
            values = np.asarray(image).astype(np.int64)
            shift = 8 if values.max(initial=0) > 255 else 0
            image = Image.fromarray((values >> shift).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenImageError(
            f"image {name} cannot be decoded: {error}; replace or remove the file"
        ) from error


def open_image(content: Any, *, name: str, what: str) -> Image.Image:
    """Open and fully load an image, with one kind of error for all that can be wrong with its content.

    Args:
        content: Path, bytes or PIL image.
        name: File or row, for messages.
        what: `image` or `mask`, for messages.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the content cannot be decoded.
    """
    try:
        if isinstance(content, bytes | bytearray):
            image: Image.Image = Image.open(io.BytesIO(content))
        elif isinstance(content, Image.Image):
            image = content
        else:
            with Path(content).open("rb") as file:
                image = Image.open(io.BytesIO(file.read()))
        image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} {name} does not exist") from None
    except UnidentifiedImageError as error:
        # PIL's own message names an object in memory.
        raise BrokenImageError(
            f"{what} {name} cannot be decoded: it is empty or no image of a known format; replace or remove "
            "the file"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BrokenImageError(
            f"{what} {name} cannot be decoded: {error}; replace or remove the file"
        ) from error
    return image


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
