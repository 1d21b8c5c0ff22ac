"""Color of training pictures: photometric distortion as one affine map, and normalization.

Brightness, contrast, saturation and hue are all affine in RGB. Composing them into one matrix means a single
pass over the pixels instead of four with two color space conversions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

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

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw one distortion as a `(3, 4)` matrix: three columns for RGB and one shift."""
        total = np.eye(4)
        for step in rng.permutation(4):
            applied, amount = rng.random(2)
            if applied >= self.probability:
                continue
            matrix = np.eye(4)
            if step == 0:
                matrix[:3, 3] = (2 * amount - 1) * self.brightness
            elif step == 1:
                matrix[:3, :3] *= _between(self.contrast, amount)
            elif step == 2:
                factor = _between(self.saturation, amount)
                matrix[:3, :3] = factor * np.eye(3) + (1 - factor) * _LUMA
            else:
                matrix[:3, :3] = _rotation_about_gray(math.radians((2 * amount - 1) * self.hue))
            total = matrix @ total
        return total[:3]


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
        ValueError: If they are not three numbers each, or a deviation is not positive.
    """
    if len(mean) != 3 or len(std) != 3 or any(value <= 0 for value in std):
        raise ValueError(f"mean {tuple(mean)} and std {tuple(std)} must hold three numbers each, std above 0")
    return tuple(mean), tuple(std)


def to_normalized_tensor(
    image: Image.Image, mean: Sequence[float], std: Sequence[float], color: NDArray[np.float64] | None = None
) -> Tensor:
    """Picture to a normalized tensor, with an optional affine color map before.

    Written with PIL and numpy instead of torch on purpose: operations this small run in one thread there,
    while torch's thread pool collapses when training or other processes use the same cores.

    Args:
        image: RGB picture.
        mean: Mean per channel in 0 ... 1.
        std: Standard deviation per channel in 0 ... 1.
        color: `(3, 4)` affine map of RGB values in 0 ... 255; its result is clipped to 0 ... 255.

    Returns:
        `(3, height, width)` float32.
    """
    if color is not None:
        image = image.convert("RGB", tuple(color.ravel().tolist()))
    array = np.asarray(image)
    pixels = np.empty((3, image.height, image.width), dtype=np.float32)
    for channel in range(3):
        scale = 1 / (255 * std[channel])
        np.multiply(array[..., channel], np.float32(scale), out=pixels[channel])
        pixels[channel] -= np.float32(mean[channel] / std[channel])
    return torch.from_numpy(pixels)
