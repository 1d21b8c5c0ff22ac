"""Reading one pair of image and mask, with one clear error for whatever is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.model.image_conversion_prolab import (
    BrokenImageError as BrokenImageError,
)
from prolab_hf.model.image_conversion_prolab import (
    ImageContent,
    StandardImage,
    checked_range,
    read_image,
)
from prolab_hf.model.label_maps_prolab import open_mask


@dataclass(frozen=True)
class Sample:
    """One image with its labels.

    Attributes:
        image: RGB image, upright (EXIF orientation applied); an array `(height, width, num_channels)` of stored values
            where the source has other channels than three or a declared `value_range`.
        mask: `(height, width)` class ids; void pixels hold the coding's `ignore_index`.
        name: File or row that it comes from.
    """

    image: StandardImage
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
        image: As in `Sample`.
        raw_mask: `(height, width)` numbers, or `(height, width, 3)` colors for a palette.
        image_mode: Mode of the image file.
        mask_mode: Mode of the mask file; `array` where the mask was no image.
        name: Name of the image.
        mask_name: Name of the mask.
    """

    image: StandardImage
    raw_mask: NDArray[np.generic]
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


def image_size(image: StandardImage) -> tuple[int, int]:
    """Width and height of an image."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def read_raw(
    image: ImageContent,
    mask: ImageContent,
    *,
    coding: LabelCoding,
    name: str,
    mask_name: str,
    num_channels: int = 3,
    value_range: tuple[float, float] | None = None,
) -> RawSample:
    """Read one pair of image and mask.

    Args:
        image: Path, bytes, PIL image or array.
        mask: Path, bytes, PIL image or integer array `(height, width)`.
        coding: Decides whether a mask is read as numbers or as colors.
        name: Name of the image, for messages.
        mask_name: Name of the mask, for messages.
        num_channels: Channels that the image must have.
        value_range: Stored values of black and white, for images of more than 8 bits.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If one of both cannot be decoded, the mask's format changes ids, or the sizes differ.
    """
    image_mode = image.mode if isinstance(image, Image.Image) else None
    upright = read_image(image, name=name, num_channels=num_channels, value_range=value_range)
    opened = mask if isinstance(mask, np.ndarray) else open_mask(mask, name=mask_name)
    if isinstance(opened, Image.Image):
        raw, mask_mode = coding.read_mask(opened, name=mask_name), opened.mode
    else:
        raw, mask_mode = opened, "array"
    width, height = image_size(upright)
    if raw.shape[:2] != (height, width):
        size = f"{raw.shape[1]}x{raw.shape[0]}" if raw.ndim >= 2 else f"of shape {raw.shape}"
        raise ValueError(
            f"mask {mask_name} is {size}, but its image {name} is {width}x{height} "
            "(width x height, after EXIF orientation); both must have the same size"
        )
    return RawSample(upright, raw, image_mode or _mode(upright), mask_mode, name, mask_name)


def _mode(image: StandardImage) -> str:
    return image.mode if isinstance(image, Image.Image) else f"{image.shape[2]} channels of {image.dtype}"


class SourceOptions(TypedDict, total=False):
    """What every source over files takes.

    Attributes:
        coding: Declared meaning of the masks' values; `ids` with void 255 by default.
        class_names: Names in class order.
        num_classes: Size of the class space where names are not known.
        num_channels: Channels of the images; 3 by default. Images with others are errors.
        value_range: Stored values that mean black and white, for images of more than 8 bits: `(0, 4095)`. One for the
            whole data set; give it to the image processor, too.
    """

    coding: LabelCoding | None
    class_names: Sequence[str] | None
    num_classes: int | None
    num_channels: int
    value_range: tuple[float, float] | None


class CodedSource:
    """What sources over files share: how images are read and what the numbers in masks mean.

    Args:
        **options: See `SourceOptions`.

    Raises:
        ValueError: If the class space is unknown or does not fit the coding, or the range is none.
    """

    def __init__(self, **options: Unpack[SourceOptions]) -> None:
        unknown = options.keys() - SourceOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} got unexpected arguments {sorted(unknown)}")
        self.coding = options.get("coding") or LabelCoding()
        names, count = options.get("class_names"), options.get("num_classes")
        self.class_names, self.num_classes = class_space(names, count)
        self.coding.check_classes(self.num_classes)
        if self.class_names is not None:
            self.coding.check_names(self.class_names)
        self.num_channels = options.get("num_channels", 3)
        self.value_range = checked_range(options.get("value_range"))

    @property
    def ignore_index(self) -> int:
        """Value of void pixels in the masks that this source gives."""
        return self.coding.ignore_index

    def __getitem__(self, index: int) -> Sample:
        return self.read_raw(index).decode(self.coding, self.num_classes)

    def read_raw(self, index: int) -> RawSample:
        """Image and mask as they are stored, for `prolab check-data`."""
        raise NotImplementedError(f"{type(self).__name__} does not say how a pair is read")

    def read_pair(self, image: ImageContent, mask: ImageContent, name: str, mask_name: str) -> RawSample:
        """One pair under the declarations of this source; see `read_raw`."""
        return read_raw(
            image,
            mask,
            coding=self.coding,
            name=name,
            mask_name=mask_name,
            num_channels=self.num_channels,
            value_range=self.value_range,
        )


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
