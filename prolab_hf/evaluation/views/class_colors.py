"""Colors of classes, the same in overlays, label maps and notebooks."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]

VOID_COLOR: Color = (120, 120, 120)
"""For pixels without a class."""

# The first colors are chosen by hand for a calm image; all later ones by distance.
_FIRST = (
    (76, 120, 198),
    (240, 142, 53),
    (83, 168, 95),
    (214, 73, 83),
    (149, 108, 191),
    (141, 94, 71),
    (236, 128, 190),
    (240, 201, 66),
    (64, 190, 197),
    (122, 128, 41),
)
_BLOCK = 512


def class_colors(number: int) -> list[Color]:
    """Colors of classes 0 to `number - 1`.

    The color of a class depends on its id alone: adding classes at the end changes no earlier color.

    Args:
        number: How many colors, at least 0.
    """
    return list(_palette(-(-max(number, 1) // _BLOCK) * _BLOCK)[:number])


def class_pixels(ids: NDArray[np.integer[Any]], num_labels: int) -> NDArray[np.uint8]:
    """Class ids in the colors of their classes; ids that are no class are gray.

    Args:
        ids: `(height, width)`.
        num_labels: Number of classes.

    Returns:
        `(height, width, 3)`.
    """
    colors = np.array([*class_colors(num_labels), VOID_COLOR], dtype=np.uint8)
    return colors[np.where((ids >= 0) & (ids < num_labels), ids, num_labels)]


@cache
def _palette(number: int) -> tuple[Color, ...]:
    """Greedy choice: every color is as far as possible from all before it, in a perceptual space (OKLab)."""
    levels = np.arange(40, 250, 14)
    candidates = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    lab = _oklab(candidates)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    # Neither nearly black nor nearly white, and not gray: gray means void.
    pleasant = (lab[:, 0] > 0.42) & (lab[:, 0] < 0.9) & (chroma > 0.06)
    candidates, lab = candidates[pleasant], lab[pleasant]
    chosen: list[Color] = list(_FIRST)
    distance = np.min([np.linalg.norm(lab - _oklab(np.array(c)), axis=-1) for c in _FIRST], axis=0)
    while len(chosen) < number:
        best = int(distance.argmax())
        if distance[best] < 1e-6:
            return tuple((chosen * (number // len(chosen) + 1))[:number])
        red, green, blue = candidates[best].tolist()
        chosen.append((red, green, blue))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=-1))
    return tuple(chosen)


def _oklab(colors: np.ndarray) -> np.ndarray:
    """Colors 0 to 255, `(..., 3)`, in OKLab (Ottosson, 2020), where distance follows perception."""
    c = colors / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    to_cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear @ to_cones.T) @ to_lab.T
