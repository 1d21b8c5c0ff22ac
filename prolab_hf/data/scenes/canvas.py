"""Canvas and textures that the drawn scenes are made of.

Shapes are rasterized at twice the resolution for soft edges; textures are functions of pixel coordinates,
evaluated only inside the shape's bounding box. That keeps an image of 128 x 160 at a few milliseconds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.floating]
Color = Sequence[float] | NDArray[np.floating]
Point = tuple[float, float]

_OVERSAMPLING = 2


@dataclass(frozen=True)
class Polygon:
    """Filled polygon; points are (x, y) in pixels."""

    points: tuple[Point, ...]


@dataclass(frozen=True)
class Ellipse:
    """Filled ellipse inside a box (left, top, right, bottom) in pixels."""

    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Rectangle:
    """Filled axis-parallel rectangle with fractional edges in pixels."""

    left: float
    top: float
    right: float
    bottom: float


Shape = Polygon | Ellipse | Rectangle


@dataclass(frozen=True)
class Patch:
    """What a texture sees: the box of pixels that it has to color.

    Attributes:
        x: `(1, width)` pixel columns.
        y: `(height, 1)` pixel rows.
        noise: `(height, width)` white noise, standard normal.
        soft: `(height, width)` smooth noise with spots of a few pixels, standard normal.
        behind: `(height, width, 3)` what is painted there already.
    """

    x: Floats
    y: Floats
    noise: Floats
    soft: Floats
    behind: Floats


Texture = Callable[[Patch], Floats]


class Canvas:
    """Image and label map that shapes are painted on.

    Args:
        height: Rows.
        width: Columns.
        rng: Generator of the noise that all textures share.
    """

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.height, self.width = height, width
        self.pixels: Floats = np.zeros((height, width, 3), dtype=np.float32)
        self.labels = np.zeros((height, width), dtype=np.int32)
        self._noise: Floats = rng.standard_normal((height, width), dtype=np.float32)
        self._soft = _smooth(self._noise)

    def paint(self, shapes: Shape | Sequence[Shape], texture: Texture, label: int | None) -> None:
        """Paint the union of shapes; with `label` None the label map stays (shadows, glow, reflections)."""
        union = [shapes] if isinstance(shapes, Shape) else list(shapes)
        rows, columns = self._bounds(union)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        alpha = _coverage(union, rows, columns)
        patch = Patch(
            x=np.arange(columns.start, columns.stop, dtype=np.float32)[None, :],
            y=np.arange(rows.start, rows.stop, dtype=np.float32)[:, None],
            noise=self._noise[rows, columns],
            soft=self._soft[rows, columns],
            behind=self.pixels[rows, columns],
        )
        change = texture(patch) - patch.behind
        change *= alpha[..., None]
        patch.behind[...] += change
        if label is not None:
            self.labels[rows, columns][alpha >= 0.5] = label

    def _bounds(self, shapes: Sequence[Shape]) -> tuple[slice, slice]:
        """Rows and columns of the union's bounding box, inside the image."""
        corners = [point for shape in shapes for point in _corners(shape)]
        left, right = min(x for x, _ in corners), max(x for x, _ in corners)
        top, bottom = min(y for _, y in corners), max(y for _, y in corners)
        rows = slice(max(math.floor(top), 0), min(math.ceil(bottom) + 1, self.height))
        return rows, slice(max(math.floor(left), 0), min(math.ceil(right) + 1, self.width))


def _corners(shape: Shape) -> Sequence[Point]:
    if isinstance(shape, Polygon):
        return shape.points
    if isinstance(shape, Rectangle):
        return ((shape.left, shape.top), (max(shape.right, shape.left), max(shape.bottom, shape.top)))
    left, top, right, bottom = shape.box
    return ((left, top), (max(right, left), max(bottom, top)))


def _coverage(shapes: Sequence[Shape], rows: slice, columns: slice) -> Floats:
    """Share of every pixel in the box that the union of shapes covers."""
    if len(shapes) == 1 and isinstance(shapes[0], Rectangle):
        box = shapes[0]  # exact, and most of what is painted
        return _overlap(rows, box.top, box.bottom)[:, None] * _overlap(columns, box.left, box.right)
    scale = _OVERSAMPLING
    image = Image.new("L", ((columns.stop - columns.start) * scale, (rows.stop - rows.start) * scale))
    pen = ImageDraw.Draw(image)
    for shape in shapes:
        moved = [((x - columns.start) * scale, (y - rows.start) * scale) for x, y in _corners(shape)]
        if isinstance(shape, Polygon):
            pen.polygon(moved, fill=255)
        elif isinstance(shape, Ellipse):
            pen.ellipse(moved, fill=255)
        else:
            pen.rectangle(moved, fill=255)
    return np.asarray(image.reduce(scale), dtype=np.float32) / 255


def _overlap(span: slice, start: float, stop: float) -> Floats:
    """Length of every unit cell of `span` that lies between start and stop."""
    cells = np.arange(span.start, span.stop, dtype=np.float32)
    return np.maximum(np.minimum(cells + 1, stop) - np.maximum(cells, start), 0)


def _smooth(noise: Floats) -> Floats:
    """Noise with spots of about four pixels, scaled back to unit variance."""
    height, width = noise.shape
    small = Image.fromarray(noise[: (height + 3) // 4, : (width + 3) // 4])
    soft = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return soft / max(float(soft.std()), 1e-6)


# -- textures -------------------------------------------------------------------------------------------


def _rgb(color: Color) -> Floats:
    return np.asarray(color, dtype=np.float32)


def _mix(first: Color, second: Color, share: NDArray[np.floating]) -> Floats:
    """Blend of two colors per pixel; share 0 gives the first."""
    one, two = _rgb(first), _rgb(second)
    return one + (two - one) * share.astype(np.float32)[..., None]


def plain(color: Color, *, noise: float = 0.0) -> Texture:
    """One color with a little noise."""
    return lambda patch: _rgb(color) + noise * patch.soft[..., None]


def gradient(first: Color, second: Color, start: Point, end: Point) -> Texture:
    """Linear blend from the first color at `start` to the second at `end`."""
    (x0, y0), (x1, y1) = start, end
    length = (x1 - x0) ** 2 + (y1 - y0) ** 2

    def texture(patch: Patch) -> Floats:
        along = ((patch.x - x0) * (x1 - x0) + (patch.y - y0) * (y1 - y0)) / max(length, 1e-6)
        return _mix(first, second, np.clip(along, 0, 1))

    return texture


def stripes(first: Color, second: Color, *, period: float, across: Point = (1.0, 0.0)) -> Texture:
    """Parallel stripes of two colors; `across` is the direction in which they alternate."""

    def texture(patch: Patch) -> Floats:
        phase = (patch.x * across[0] + patch.y * across[1]) / period
        wave = np.abs((phase % 1) - 0.5) * 4 - 1  # triangle from -1 to 1
        return _mix(first, second, np.clip(wave * period / 3 + 0.5, 0, 1))

    return texture


def bricks(color: Color, mortar: Color, *, brick: tuple[float, float], origin: Point) -> Texture:
    """Courses of bricks, every second one shifted by half a brick, with lines of mortar."""
    wide, tall = brick

    def texture(patch: Patch) -> Floats:
        course = (patch.y - origin[1]) / tall
        row = np.floor(course)
        column = (patch.x - origin[0]) / wide + 0.5 * (row % 2)
        joint = ((course % 1) * tall < 1) | ((column % 1) * wide < 1)
        # A fixed pseudo-random tone per brick, so that a wall does not look printed.
        tone = np.sin(row * 12.9898 + np.floor(column) * 78.233) * 43758.5453 % 1
        face = _rgb(color) * (0.82 + 0.36 * tone.astype(np.float32))[..., None]
        return np.where(joint[..., None], _rgb(mortar), face)

    return texture


def speckles(color: Color, *, amount: float) -> Texture:
    """Small light and dark spots."""

    def texture(patch: Patch) -> Floats:
        spots = np.tanh(0.7 * patch.noise + 0.5 * patch.soft)
        return _rgb(color) * (1 + amount * spots)[..., None]

    return texture


def ripples(color: Color, light: Color, *, horizon: float, phase: float) -> Texture:
    """Waves that lie flat: rows that get denser toward the horizon, with glints."""

    def texture(patch: Patch) -> Floats:
        depth = 60.0 / (patch.y - horizon + 6.0)
        wave = np.sin(9 * depth + 0.09 * patch.x / depth + phase) + 0.8 * np.sin(
            5.3 * depth - 0.05 * patch.x / depth + 2 * phase
        )
        return _mix(color, light, np.clip(0.3 + 0.22 * wave + 0.12 * patch.soft, 0, 1))

    return texture


def planks(color: Color, seam: Color, *, vanishing: Point, count: float) -> Texture:
    """Stripes on the ground that run together in a vanishing point."""

    def texture(patch: Patch) -> Floats:
        across = (patch.x - vanishing[0]) / np.maximum(patch.y - vanishing[1], 1.0) * count
        board = np.floor(across)
        tone = np.sin(board * 91.7) * 43758.5453 % 1
        face = _rgb(color) * (0.78 + 0.4 * tone.astype(np.float32) + 0.02 * patch.soft)[..., None]
        return _mix(seam, face, np.clip((np.abs(across - board - 0.5) < 0.44) * 1.0, 0, 1))

    return texture


def dots(color: Color, spot: Color, *, period: float, shade: Texture | None = None) -> Texture:
    """Small dots in staggered rows."""

    def texture(patch: Patch) -> Floats:
        row = np.floor(patch.y / period)
        from_x = (patch.x / period + 0.5 * (row % 2)) % 1 - 0.5
        from_y = patch.y / period % 1 - 0.5
        near = from_x**2 + from_y**2 < 0.06
        ground = _rgb(color) + np.zeros((*near.shape, 3), np.float32) if shade is None else shade(patch)
        return np.where(near[..., None], _rgb(spot) * ground.mean(axis=-1, keepdims=True) / 220, ground)

    return texture


def glass(color: Color, *, period: float) -> Texture:
    """Smooth panes with bright diagonal reflections."""

    def texture(patch: Patch) -> Floats:
        along = (patch.x + patch.y) / period % 1
        return _mix(_rgb(color) * 0.9, (245, 250, 255), np.exp(-(((along - 0.5) / 0.14) ** 2)) * 0.6)

    return texture


def folded(cloth: Texture, *, period: float) -> Texture:
    """Soft vertical folds over another texture."""

    def texture(patch: Patch) -> Floats:
        return cloth(patch) * (0.84 + 0.16 * np.sin(patch.x * (2 * np.pi / period)))[..., None]

    return texture


def shadow(strength: float) -> Texture:
    """Darkens what is there."""
    return lambda patch: patch.behind * (1 - strength)


def glow(color: Color, *, center: Point, radius: float, strength: float) -> Texture:
    """Adds light that fades with the distance from a center."""

    def texture(patch: Patch) -> Floats:
        square = (patch.x - center[0]) ** 2 + (patch.y - center[1]) ** 2
        return patch.behind + _rgb(color) * (strength * np.exp(-square / radius**2))[..., None]

    return texture
