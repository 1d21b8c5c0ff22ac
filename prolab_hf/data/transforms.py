"""From a sample to tensors: joint augmentation of image and mask. Evaluation goes through the image processor.

Augmentation follows the recipe of the paper: random resize, random crop that avoids crops of a single class,
flip, photometric distortion. Random numbers come only from the generator that is passed in, which the data
set seeds per (seed, epoch, index): the same example comes out whatever the number of workers, and after a
resume. The crop is chosen before anything is resized, so that only its pixels are computed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from prolab_hf.data.dataset import Example, SegmentationDataset, Transform, collate
from prolab_hf.data.rare_crops import RareCrops
from prolab_hf.model.image_conversion_prolab import StandardImage, as_bytes_scale, checked_range

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Luma weights of ITU-R BT.601, which PIL's own conversion to gray uses as well.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class PhotometricDistortion:
    """Random brightness, contrast, saturation and hue, in random order, each with probability one half.

    Each of the four is an affine map of RGB values in 0 ... 255: a shift (brightness), a factor (contrast), a
    blend with the pixel's luma (saturation) and a rotation about the gray axis (hue). They are composed and
    clipped once at the end, which is what makes them nearly free. Ranges are those of the usual
    segmentation recipe (brightness delta 32, factors 0.5 to 1.5, hue 18 of 180 steps).

    Args:
        brightness: Largest shift, in 0 ... 255.
        contrast: Smallest and largest factor.
        saturation: Smallest and largest factor.
        hue: Largest rotation in degrees.
        probability: Probability of each of the four.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0
    probability: float = 0.5

    def draw(self, rng: np.random.Generator, num_channels: int = 3) -> NDArray[np.float64]:
        """Draw one distortion as a `(num_channels, num_channels + 1)` matrix: a column per channel and one shift.

        Saturation and hue are those of RGB; with other channels only brightness and contrast change.

        Args:
            rng: Generator of all random numbers; as many are drawn for any number of channels.
            num_channels: Channels of the image.
        """
        total = np.eye(num_channels + 1)
        for step in rng.permutation(4):
            applied, amount = rng.random(2)
            if applied >= self.probability:
                continue
            matrix = np.eye(num_channels + 1)
            if step == 0:
                matrix[:-1, -1] = (2 * amount - 1) * self.brightness
            elif step == 1:
                matrix[:-1, :-1] *= _between(self.contrast, amount)
            elif num_channels != 3:
                continue
            elif step == 2:
                factor = _between(self.saturation, amount)
                matrix[:3, :3] = factor * np.eye(3) + (1 - factor) * _LUMA
            else:
                matrix[:3, :3] = _rotation_about_gray(math.radians((2 * amount - 1) * self.hue))
            total = matrix @ total
        return total[:-1]


def _between(limits: tuple[float, float], amount: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * amount


def _rotation_about_gray(angle: float) -> NDArray[np.float64]:
    """Rotation of RGB space about the axis (1, 1, 1), by Rodrigues' formula."""
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return math.cos(angle) * np.eye(3) + (1 - math.cos(angle)) / 3 + math.sin(angle) * cross


def checked_statistics(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation as tuples.

    Raises:
        ValueError: If they are not as many numbers, one per channel, or a deviation is not positive.
    """
    if not mean or len(mean) != len(std) or any(value <= 0 for value in std):
        raise ValueError(
            f"mean {tuple(mean)} and std {tuple(std)} must hold a number per channel each, std above 0"
        )
    return tuple(mean), tuple(std)


def to_normalized_tensor(
    image: StandardImage,
    mean: Sequence[float],
    std: Sequence[float],
    color: NDArray[np.float64] | None = None,
) -> Tensor:
    """Image to a normalized tensor, with an optional affine color map before.

    The arithmetic is that of the image processors, to the last bit. Written with PIL and numpy instead of torch on
    purpose: operations this small run in one thread there, while torch's thread pool collapses when training or
    other processes use the same cores.

    Args:
        image: RGB image, or array `(height, width, channels)` on its scale of 0 ... 255.
        mean: Mean per channel in 0 ... 1.
        std: Standard deviation per channel in 0 ... 1.
        color: `(channels, channels + 1)` affine map of values in 0 ... 255; its result is clipped to 0 ... 255.

    Returns:
        `(channels, height, width)` float32.

    Raises:
        ValueError: If the image has not as many channels as there are means.
    """
    if isinstance(image, Image.Image) and color is not None:
        image, color = image.convert("RGB", tuple(color.ravel().tolist())), None
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != len(mean):
        raise ValueError(
            f"an image of shape {array.shape} does not fit the {len(mean)} means of its channels"
        )
    if color is not None:
        array = (array @ color[:, :-1].T.astype(np.float32) + color[:, -1].astype(np.float32)).clip(0, 255)
    pixels = np.empty((len(mean), *array.shape[:2]), dtype=np.float32)
    for channel in range(len(mean)):
        np.subtract(array[..., channel], np.float32(mean[channel]) * np.float32(255), out=pixels[channel])
        pixels[channel] /= np.float32(std[channel]) * np.float32(255)
    return torch.from_numpy(pixels)


_CROP_TRIES = 10
_USUAL_DISTORTION = PhotometricDistortion()


class TrainTransform:
    """Random resize, crop, flip and photometric distortion, padding and normalization.

    Args:
        crop_size: Height and width of the result, or one number for both.
        scale: Long and short edge that an image is fitted into (ratio kept) at ratio 1; `None` keeps the
            image's own size at ratio 1.
        ratio_range: Smallest and largest random factor of the resize.
        cat_max_ratio: A crop is drawn again (ten times at most) while one class fills this share of its
            labeled pixels or more; 1 switches this off.
        flip_probability: Probability of a horizontal flip.
        photometric: Color distortion, `None` for none.
        mean: Mean per channel in 0 ... 1; padding has this color. There are as many channels as means.
        std: Standard deviation per channel in 0 ... 1.
        ignore_index: Label of padded pixels.
        value_range: Stored values of black and white, for images of more than 8 bits; that of the image processor.
        rare_crops: How often a crop is laid around a rare class, `None` for never; such a crop may be of one class.

    Raises:
        ValueError: If a number is outside its range.
    """

    def __init__(
        self,
        crop_size: int | tuple[int, int],
        *,
        scale: tuple[int, int] | None = None,
        ratio_range: tuple[float, float] = (0.5, 2.0),
        cat_max_ratio: float = 0.75,
        flip_probability: float = 0.5,
        photometric: PhotometricDistortion | None = _USUAL_DISTORTION,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        ignore_index: int = 255,
        value_range: tuple[float, float] | None = None,
        rare_crops: RareCrops | None = None,
    ) -> None:
        self.rare_crops = rare_crops
        self.crop_size = _pair(crop_size, "crop_size")
        self.scale = scale
        if not 0 < ratio_range[0] <= ratio_range[1]:
            raise ValueError(f"ratio_range {ratio_range} must be two positive numbers, the smaller first")
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f"cat_max_ratio {cat_max_ratio} must be above 0 and at most 1")
        if not 0 <= flip_probability <= 1:
            raise ValueError(f"flip_probability {flip_probability} must be from 0 to 1")
        self.ratio_range = ratio_range
        self.cat_max_ratio = cat_max_ratio
        self.flip_probability = flip_probability
        self.photometric = photometric
        self.mean, self.std = checked_statistics(mean, std)
        self.ignore_index = ignore_index
        self.value_range = checked_range(value_range)

    def __call__(self, image: StandardImage, mask: NDArray[np.int32], rng: np.random.Generator) -> Example:
        """Augment one sample.

        Args:
            image: RGB image, or array `(height, width, channels)` of stored values.
            mask: `(height, width)` class ids.
            rng: Generator that all random numbers come from.

        Returns:
            `pixel_values` `(channels, crop height, crop width)` float32 and `labels` `(crop height, crop width)`
            int64.
        """
        if self.value_range is not None:
            image = as_bytes_scale(np.asarray(image), self.value_range)
        ratio = rng.uniform(*self.ratio_range)
        size = _scaled_size(mask.shape, self.scale, ratio)
        top, left = self._choose_crop(mask, size, rng)
        window = (top, left, min(self.crop_size[0], size[0]), min(self.crop_size[1], size[1]))
        image = _resize_window(image, size, window)
        rows, columns = _nearest_rows(mask.shape, size, window)
        labels = mask[rows][:, columns]
        if rng.random() < self.flip_probability:
            image = (
                image[:, ::-1]
                if isinstance(image, np.ndarray)
                else image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            )
            labels = labels[:, ::-1]
        color = None if self.photometric is None else self.photometric.draw(rng, len(self.mean))
        return self._pad(to_normalized_tensor(image, self.mean, self.std, color), labels)

    def _choose_crop(
        self, mask: NDArray[np.int32], size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, int]:
        if self.rare_crops is not None:
            window = min(self.crop_size[0], size[0]), min(self.crop_size[1], size[1])
            chosen = self.rare_crops.choose(mask, size, window, rng)
            if chosen is not None:
                return chosen
        free_rows, free_columns = max(size[0] - self.crop_size[0], 0), max(size[1] - self.crop_size[1], 0)
        top = left = 0
        for _ in range(_CROP_TRIES):
            top = int(rng.integers(free_rows + 1))
            left = int(rng.integers(free_columns + 1))
            if self.cat_max_ratio == 1 or (free_rows == 0 and free_columns == 0):
                break  # there is only one crop
            box = (top, left, min(self.crop_size[0], size[0]), min(self.crop_size[1], size[1]))
            rows, columns = _nearest_rows(mask.shape, size, box)
            # Every second row and column tells the shares well enough, at a quarter of the cost.
            seen = mask[rows[::2]][:, columns[::2]]
            seen = seen[seen != self.ignore_index]
            if seen.size:
                counts = np.bincount(seen)
                if np.count_nonzero(counts) > 1 and counts.max() < self.cat_max_ratio * seen.size:
                    break
        return top, left

    def _pad(self, pixels: Tensor, labels: NDArray[np.int32]) -> Example:
        height, width = self.crop_size
        if labels.shape != (height, width):
            padded = np.full((height, width), self.ignore_index, dtype=np.int64)
            padded[: labels.shape[0], : labels.shape[1]] = labels
            canvas = torch.zeros(pixels.shape[0], height, width)  # zero is the mean after normalization
            canvas[:, : labels.shape[0], : labels.shape[1]] = pixels
            return {"pixel_values": canvas, "labels": torch.from_numpy(padded)}
        return {"pixel_values": pixels, "labels": torch.from_numpy(labels.astype(np.int64, order="C"))}


def _pair(value: int | tuple[int, int], name: str) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    if height < 1 or width < 1:
        raise ValueError(f"{name} {value} must be positive")
    return int(height), int(width)


def _scaled_size(size: tuple[int, ...], scale: tuple[int, int] | None, ratio: float) -> tuple[int, int]:
    """Size after fitting into `scale` times `ratio` with the image's own ratio kept."""
    height, width = size
    factor = ratio
    if scale is not None:
        long, short = max(scale) * ratio, min(scale) * ratio
        factor = min(long / max(height, width), short / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def _resize_window(
    image: StandardImage, size: tuple[int, int], window: tuple[int, int, int, int]
) -> StandardImage:
    """Rows and columns `window` (top, left, height, width) of the image resized to `size`.

    PIL resamples only the box, with the same filter weights that resizing the whole image would use.
    """
    if isinstance(image, np.ndarray):
        bands = [Image.fromarray(image[..., band].astype(np.float32)) for band in range(image.shape[2])]
        return np.stack([np.asarray(_resize_window(band, size, window)) for band in bands], axis=-1)
    top, left, height, width = window
    down, right = image.height / size[0], image.width / size[1]
    box = (
        left * right,
        top * down,
        min((left + width) * right, image.width),
        min((top + height) * down, image.height),
    )
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _nearest_rows(
    source: tuple[int, ...], size: tuple[int, int], window: tuple[int, int, int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Source rows and columns of a window of the nearest-neighbor resize from `source` to `size`."""
    top, left, height, width = window
    rows = ((np.arange(top, top + height) + 0.5) * (source[0] / size[0])).astype(np.intp)
    columns = ((np.arange(left, left + width) + 0.5) * (source[1] / size[1])).astype(np.intp)
    return np.minimum(rows, source[0] - 1), np.minimum(columns, source[1] - 1)


__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PhotometricDistortion",
    "SegmentationDataset",
    "TrainTransform",
    "Transform",
    "collate",
]
