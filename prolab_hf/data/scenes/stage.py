"""What streets and rooms have in common: light, colors, places on the ground, windows."""

from dataclasses import dataclass

import numpy as np

from prolab_hf.data.scenes import canvas as art
from prolab_hf.data.scenes.canvas import Canvas, Point, Rectangle
from prolab_hf.data.scenes.words import HELD_OUT_CLASS, SCENE_CLASSES

Generator = np.random.Generator
Color = np.ndarray
CLASS_IDS = {name: index for index, name in enumerate((*SCENE_CLASSES, HELD_OUT_CLASS))}

BRIGHT = ((214, 40, 40), (240, 170, 30), (230, 90, 40), (205, 45, 110), (245, 205, 60))
WOOD = ((134, 90, 52), (158, 110, 66), (112, 74, 46), (170, 122, 80))
BLUE = ((96, 156, 214), (70, 128, 190), (126, 178, 222), (84, 140, 176))
GREEN = ((70, 126, 52), (94, 142, 60), (58, 108, 62), (112, 146, 64))
STONE = ((150, 84, 66), (168, 104, 80), (134, 132, 134), (156, 150, 144))
CREAM = ((232, 222, 200), (222, 214, 208), (236, 228, 214), (214, 208, 190))
GRAY = ((98, 98, 102), (118, 116, 116), (86, 88, 94))


@dataclass(frozen=True)
class Light:
    """Light of a whole image.

    Attributes:
        tint: Factor per color channel.
        side: 1 if the right faces of boxes are in the shade, -1 for the left ones.
        grain: Standard deviation of the sensor noise, in 0 ... 255.
    """

    tint: tuple[float, float, float]
    side: int
    grain: float

    @classmethod
    def draw(cls, rng: Generator) -> "Light":
        """Random light: dim to bright, cool to warm."""
        level, warmth = rng.uniform(0.72, 1.12), rng.uniform(-0.08, 0.1)
        red, green, blue = level * (1 + warmth), level, level * (1 - warmth)
        return cls((red, green, blue), int(rng.choice((-1, 1))), float(rng.uniform(1.5, 6)))


def pick(rng: Generator, colors: tuple[tuple[int, int, int], ...], spread: float = 12) -> Color:
    """One of the colors, varied a little."""
    return np.clip(np.array(colors[rng.integers(len(colors))]) + rng.normal(0, spread, 3), 8, 250)


@dataclass(frozen=True)
class Ground:
    """Where things can stand.

    Attributes:
        horizon: Row of the horizon.
        shore: Row from which on there is land.
        height: Height of the image.
        width: Width of the image.
    """

    horizon: float
    shore: float
    height: int
    width: int

    def place(self, rng: Generator, depth: float) -> tuple[float, float, float]:
        """Position (x, y) and size factor of something at a depth (0 = far, 1 = bottom of the image)."""
        y = self.shore + (self.height - self.shore) * depth
        near = (y - self.horizon) / (self.height - self.horizon)
        return self.width * rng.uniform(0.06, 0.94), y, self.height * (0.35 + 0.85 * near)


def toward(vanishing: Point, point: Point, share: float) -> Point:
    """Point on the line from the vanishing point (share 0) to `point` (share 1)."""
    return vanishing[0] + (point[0] - vanishing[0]) * share, vanishing[1] + (point[1] - vanishing[1]) * share


def windows(canvas: Canvas, glass: Color, boxes: list[Rectangle], *, cross: bool) -> None:
    """White frames with glass panes, all of a wall at once."""
    frame = max(canvas.height * 0.012, 1.2)
    white = art.plain((238, 238, 232))
    canvas.paint(boxes, white, CLASS_IDS["window"])
    panes = [Rectangle(b.left + frame, b.top + frame, b.right - frame, b.bottom - frame) for b in boxes]
    canvas.paint(panes, art.glass(glass, period=(boxes[0].right - boxes[0].left) * 2), CLASS_IDS["window"])
    if cross:
        bars = []
        for b in boxes:
            x, y = (b.left + b.right) / 2, (b.top + b.bottom) / 2
            bars.append(Rectangle(x - frame / 2, b.top, x + frame / 2, b.bottom))
            bars.append(Rectangle(b.left, y - frame / 2, b.right, y + frame / 2))
        canvas.paint(bars, white, CLASS_IDS["window"])
