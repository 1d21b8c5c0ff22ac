"""How streets and rooms and the things in them are drawn.

Sizes are in units of the picture's height, positions of things on the ground follow from their distance:
what is nearer stands lower and is larger. Things are painted from far to near, so that they occlude.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prolab_hf.data import scene_canvas as art
from prolab_hf.data.scene_canvas import Canvas, Ellipse, Point, Polygon, Rectangle
from prolab_hf.data.scene_words import HELD_OUT_CLASS, SCENE_CLASSES

Generator = np.random.Generator
Color = np.ndarray
_ID = {name: index for index, name in enumerate((*SCENE_CLASSES, HELD_OUT_CLASS))}

_BRIGHT = ((214, 40, 40), (240, 170, 30), (230, 90, 40), (205, 45, 110), (245, 205, 60))
_WOOD = ((134, 90, 52), (158, 110, 66), (112, 74, 46), (170, 122, 80))
_BLUE = ((96, 156, 214), (70, 128, 190), (126, 178, 222), (84, 140, 176))
_GREEN = ((70, 126, 52), (94, 142, 60), (58, 108, 62), (112, 146, 64))
_STONE = ((150, 84, 66), (168, 104, 80), (134, 132, 134), (156, 150, 144))
_CREAM = ((232, 222, 200), (222, 214, 208), (236, 228, 214), (214, 208, 190))
_GRAY = ((98, 98, 102), (118, 116, 116), (86, 88, 94))


@dataclass(frozen=True)
class Light:
    """Light of a whole picture.

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


def _pick(rng: Generator, colors: tuple[tuple[int, int, int], ...], spread: float = 12) -> Color:
    return np.clip(np.array(colors[rng.integers(len(colors))]) + rng.normal(0, spread, 3), 8, 250)


# -- streets ----------------------------------------------------------------------------------------------


def draw_street(canvas: Canvas, rng: Generator, light: Light, *, held_out: Generator | None) -> None:
    """Draw a street scene; with `held_out` it contains the held-out class."""
    h, w = canvas.height, canvas.width
    horizon = h * rng.uniform(0.36, 0.52)
    _sky(canvas, rng, horizon)
    ground = _ground(canvas, rng, horizon)
    for _ in range(rng.integers(1, 4)):
        _building(
            canvas, rng, light, left=w * rng.uniform(-0.1, 0.8), base=horizon + h * rng.uniform(0.02, 0.08)
        )
    things: list[tuple[float, Callable[[float], None]]] = []
    for _ in range(rng.integers(1, 4)):
        things.append((rng.uniform(0.12, 0.6), lambda depth: _tree(canvas, rng, ground, depth)))
    for _ in range(rng.integers(1, 3)):
        things.append((rng.uniform(0.25, 0.9), lambda depth: _car(canvas, rng, light, ground, depth)))
    if rng.random() < 0.75:
        things.append((rng.uniform(0.15, 0.5), lambda depth: _fence(canvas, rng, ground, depth)))
    if held_out is not None:
        for _ in range(held_out.integers(1, 3)):
            depth = held_out.uniform(0.3, 0.75)
            things.append((depth, lambda depth: _kiosk(canvas, held_out, light, ground, depth)))
    for depth, paint in sorted(things, key=lambda thing: thing[0]):
        paint(depth)


def _sky(canvas: Canvas, rng: Generator, horizon: float) -> None:
    h, w = canvas.height, canvas.width
    top = _pick(rng, _BLUE)
    low = top + (245 - top) * rng.uniform(0.3, 0.8)
    canvas.paint(
        Rectangle(0, 0, w, horizon + 2),
        art.gradient(top, low, (0, 0), (w * rng.uniform(-0.2, 0.2), horizon)),
        _ID["sky"],
    )
    for _ in range(rng.integers(0, 4)):
        x, y, wide = w * rng.random(), horizon * rng.uniform(0.1, 0.8), h * rng.uniform(0.08, 0.2)
        canvas.paint(
            Rectangle(0, 0, w, horizon),
            art.glow((60, 55, 45), center=(x, y), radius=wide, strength=rng.uniform(0.4, 0.9)),
            None,
        )


@dataclass(frozen=True)
class Ground:
    """Where things can stand.

    Attributes:
        horizon: Row of the horizon.
        shore: Row from which on there is land.
        height: Height of the picture.
        width: Width of the picture.
    """

    horizon: float
    shore: float
    height: int
    width: int

    def place(self, rng: Generator, depth: float) -> tuple[float, float, float]:
        """Position (x, y) and size factor of something at a depth (0 = far, 1 = bottom of the picture)."""
        y = self.shore + (self.height - self.shore) * depth
        near = (y - self.horizon) / (self.height - self.horizon)
        return self.width * rng.uniform(0.06, 0.94), y, self.height * (0.35 + 0.85 * near)


def _ground(canvas: Canvas, rng: Generator, horizon: float) -> Ground:
    h, w = canvas.height, canvas.width
    shore = horizon
    canvas.paint(Rectangle(0, horizon, w, h), art.speckles(_pick(rng, _GREEN), amount=0.28), _ID["grass"])
    kind = rng.random()
    if kind < 0.15:  # a river instead of the road
        canvas.paint(_lane(canvas, rng, horizon, 0.9)[0], _water(rng, horizon), _ID["water"])
    else:
        _road(canvas, rng, horizon)
    if kind > 0.5:  # a lake behind the meadow
        shore = horizon + (h - horizon) * rng.uniform(0.15, 0.4)
        tilt = rng.uniform(-0.04, 0.04) * h
        lake = Polygon(((0, horizon), (w, horizon), (w, shore + tilt), (w / 2, shore), (0, shore - tilt)))
        canvas.paint(lake, _water(rng, horizon), _ID["water"])
    return Ground(horizon, shore, h, w)


def _road(canvas: Canvas, rng: Generator, horizon: float) -> None:
    h = canvas.height
    lane, vanishing, left, right = _lane(canvas, rng, horizon, rng.uniform(0.7, 1.1))
    canvas.paint(lane, art.plain(_pick(rng, _GRAY, 6), noise=2.0), _ID["road"])
    markings = []
    for start, share in ((left, 0.04), (right, -0.04)):
        shift = (right - left) * share
        markings.append(Polygon((vanishing, (start + shift, h), (start + shift * 1.8, h))))
    middle, half = (left + right) / 2, (right - left) * 0.018
    for step in range(6):
        # Dashes of equal length shrink by the same factor from one to the next.
        near, far = 0.72**step, 0.72 ** (step + 0.5)
        corners = [(middle - half, near), (middle + half, near), (middle + half, far), (middle - half, far)]
        markings.append(Polygon(tuple(_toward(vanishing, (x, h), share) for x, share in corners)))
    canvas.paint(markings, art.plain((226, 225, 216)), _ID["road"])


def _toward(vanishing: Point, point: Point, share: float) -> Point:
    """Point on the line from the vanishing point (share 0) to `point` (share 1)."""
    return vanishing[0] + (point[0] - vanishing[0]) * share, vanishing[1] + (point[1] - vanishing[1]) * share


def _lane(
    canvas: Canvas, rng: Generator, horizon: float, width: float
) -> tuple[Polygon, Point, float, float]:
    """A strip on the ground that narrows toward its vanishing point on the horizon; and its lower ends."""
    h, w = canvas.height, canvas.width
    vanishing = (w * rng.uniform(0.25, 0.75), horizon)
    center = w * rng.uniform(0.2, 0.8)
    left, right = center - width * h / 2, center + width * h / 2
    strip = Polygon(((vanishing[0] - 1, horizon), (vanishing[0] + 1, horizon), (right, h), (left, h)))
    return strip, vanishing, left, right


def _water(rng: Generator, horizon: float) -> art.Texture:
    color = _pick(rng, _BLUE)
    return art.ripples(color * 0.8, color + (255 - color) * 0.45, horizon=horizon, phase=rng.uniform(0, 6))


def _building(canvas: Canvas, rng: Generator, light: Light, *, left: float, base: float) -> None:
    h = canvas.height
    wide, tall, deep = h * rng.uniform(0.25, 0.5), h * rng.uniform(0.28, 0.5), h * rng.uniform(0.06, 0.14)
    top, right = base - tall, left + wide
    color = _pick(rng, _STONE)
    mortar = color + (225 - color) * rng.uniform(0.35, 0.6)
    brick = (h * rng.uniform(0.055, 0.075), h * rng.uniform(0.028, 0.036))
    edge, out = (right, right + deep) if light.side > 0 else (left, left - deep)
    side = Polygon(((edge, top), (out, top + deep * 0.45), (out, base - deep * 0.25), (edge, base)))
    canvas.paint(
        side, art.bricks(color * 0.6, mortar * 0.62, brick=brick, origin=(left, top)), _ID["building"]
    )
    canvas.paint(
        Rectangle(left, top, right, base),
        art.bricks(color, mortar, brick=brick, origin=(left, top)),
        _ID["building"],
    )
    canvas.paint(Rectangle(left - 1, top - 2, right + 1, top + 1), art.plain(color * 0.5), _ID["building"])
    size = h * rng.uniform(0.075, 0.11)
    columns, rows = max(int(wide / (size * 1.75)), 1), max(int(tall / (size * 2.0)), 1)
    boxes = []
    for row in range(rows):
        for column in range(columns):
            x, y = left + wide * (column + 0.5) / columns, top + tall * (row + 0.55) / rows
            boxes.append(Rectangle(x - size / 2, y - size * 0.6, x + size / 2, y + size * 0.6))
    _windows(canvas, _pick(rng, _BLUE), boxes, cross=False)


def _windows(canvas: Canvas, glass: Color, boxes: list[Rectangle], *, cross: bool) -> None:
    """White frames with glass panes, all of a wall at once."""
    frame = max(canvas.height * 0.012, 1.2)
    white = art.plain((238, 238, 232))
    canvas.paint(boxes, white, _ID["window"])
    panes = [Rectangle(b.left + frame, b.top + frame, b.right - frame, b.bottom - frame) for b in boxes]
    canvas.paint(panes, art.glass(glass, period=(boxes[0].right - boxes[0].left) * 2), _ID["window"])
    if cross:
        bars = []
        for b in boxes:
            x, y = (b.left + b.right) / 2, (b.top + b.bottom) / 2
            bars.append(Rectangle(x - frame / 2, b.top, x + frame / 2, b.bottom))
            bars.append(Rectangle(b.left, y - frame / 2, b.right, y + frame / 2))
        canvas.paint(bars, white, _ID["window"])


def _cast_shadow(canvas: Canvas, x: float, y: float, half: float) -> None:
    canvas.paint(
        Ellipse((x - half, y - half * 0.16, x + half * 1.15, y + half * 0.2)), art.shadow(0.45), None
    )


def _tree(canvas: Canvas, rng: Generator, ground: Ground, depth: float) -> None:
    x, y, unit = ground.place(rng, depth)
    tall, half, crown = (
        unit * rng.uniform(0.55, 0.8),
        unit * rng.uniform(0.025, 0.04),
        unit * rng.uniform(0.18, 0.28),
    )
    _cast_shadow(canvas, x, y, crown)
    trunk = _pick(rng, _WOOD) * 0.8
    canvas.paint(
        Polygon(((x - half, y), (x - half * 0.6, y - tall), (x + half * 0.6, y - tall), (x + half, y))),
        art.plain(trunk, noise=6),
        _ID["tree"],
    )
    green = _pick(rng, _GREEN) * rng.uniform(0.75, 1.0)
    leaves = []
    for angle in rng.uniform(0, 6.28, 5):
        cx, cy, r = (
            x + np.cos(angle) * crown * 0.45,
            y - tall + np.sin(angle) * crown * 0.4,
            crown * rng.uniform(0.6, 0.75),
        )
        leaves.append(Ellipse((cx - r, cy - r, cx + r, cy + r)))
    canvas.paint(leaves, art.speckles(green, amount=0.38), _ID["tree"])


def _fence(canvas: Canvas, rng: Generator, ground: Ground, depth: float) -> None:
    w = canvas.width
    _, y, unit = ground.place(rng, depth)
    tall, wide = unit * rng.uniform(0.16, 0.22), w * rng.uniform(0.4, 0.8)
    left = w * rng.uniform(-0.1, 0.7)
    slope = rng.uniform(-0.06, 0.06)
    color = _pick(rng, _WOOD)
    period = max(unit * rng.uniform(0.06, 0.08), 4.0)
    outline = Polygon(
        ((left, y - tall), (left + wide, y - tall + slope * wide), (left + wide, y + slope * wide), (left, y))
    )

    def slats(patch: art.Patch) -> art.Floats:
        solid = (patch.x - left) / period % 1 < 0.62
        height = (y + slope * (patch.x - left) - patch.y) / tall
        rail = (np.abs(height - 0.25) < 0.07) | (np.abs(height - 0.72) < 0.07)
        face = color * (0.9 + 0.08 * patch.soft)[..., None]
        gap = patch.behind * 0.55
        return np.where((solid | rail)[..., None], np.where(solid[..., None], face, face * 0.8), gap).astype(
            np.float32
        )

    canvas.paint(outline, slats, _ID["fence"])


def _car(canvas: Canvas, rng: Generator, light: Light, ground: Ground, depth: float) -> None:
    x, y, unit = ground.place(rng, depth)
    wide, tall = unit * rng.uniform(0.34, 0.44), unit * rng.uniform(0.11, 0.14)
    left, right, deck = x - wide / 2, x + wide / 2, y - tall * 1.25
    paint = _pick(rng, _BRIGHT)
    _cast_shadow(canvas, x, y, wide * 0.55)
    roof = Polygon(
        (
            (left + wide * 0.16, deck),
            (left + wide * 0.26, deck - tall * 0.85),
            (left + wide * 0.74, deck - tall * 0.85),
            (left + wide * 0.86, deck),
        )
    )
    canvas.paint(roof, art.plain(paint * 0.92), _ID["car"])
    pane = Polygon(
        (
            (left + wide * 0.23, deck),
            (left + wide * 0.3, deck - tall * 0.68),
            (left + wide * 0.7, deck - tall * 0.68),
            (left + wide * 0.79, deck),
        )
    )
    canvas.paint(pane, art.plain((58, 66, 78)), _ID["car"])
    body = Rectangle(left, deck, right, y - tall * 0.15)
    canvas.paint(
        body, art.gradient(paint + (255 - paint) * 0.55, paint * 0.78, (x, deck), (x, y)), _ID["car"]
    )
    radius = tall * 0.42
    for cx in (left + wide * 0.22, right - wide * 0.22):
        canvas.paint(
            Ellipse((cx - radius, y - 2 * radius, cx + radius, y)), art.plain((34, 34, 38)), _ID["car"]
        )
        hub = radius * 0.45
        canvas.paint(
            Ellipse((cx - hub, y - radius - hub, cx + hub, y - radius + hub)),
            art.plain((170, 170, 175)),
            _ID["car"],
        )


def _kiosk(canvas: Canvas, rng: Generator, light: Light, ground: Ground, depth: float) -> None:
    x, y, unit = ground.place(rng, depth)
    wide, tall, deep = (
        unit * rng.uniform(0.2, 0.28),
        unit * rng.uniform(0.26, 0.36),
        unit * rng.uniform(0.05, 0.09),
    )
    left, right, top = x - wide / 2, x + wide / 2, y - tall
    bright = _pick(rng, _BRIGHT)
    pale = bright + (250 - bright) * 0.8
    period = max(wide / rng.integers(3, 6), 3.5)
    _cast_shadow(canvas, x, y, wide * 0.7)
    edge, out = (right, right + deep) if light.side > 0 else (left, left - deep)
    side = Polygon(((edge, top), (out, top + deep * 0.4), (out, y - deep * 0.35), (edge, y)))
    canvas.paint(side, art.stripes(bright * 0.6, pale * 0.6, period=period * 0.6), _ID[HELD_OUT_CLASS])
    canvas.paint(
        Rectangle(left, top, right, y), art.stripes(bright, pale, period=period), _ID[HELD_OUT_CLASS]
    )


# -- rooms ------------------------------------------------------------------------------------------------


def draw_room(canvas: Canvas, rng: Generator, light: Light) -> None:
    """Draw a room."""
    h, w = canvas.height, canvas.width
    edge = h * rng.uniform(0.52, 0.66)
    vanishing = (w * rng.uniform(0.3, 0.7), edge - h * rng.uniform(0.15, 0.3))
    wood = _pick(rng, _WOOD)
    boards = art.planks(wood, wood * 0.5, vanishing=vanishing, count=rng.uniform(5, 9))
    canvas.paint(Rectangle(0, edge - 1, w, h), boards, _ID["floor"])
    _walls(canvas, rng, light, edge)
    ground = Ground(edge, edge, h, w)
    if rng.random() < 0.85:
        _rug(canvas, rng, edge, vanishing)
    things: list[tuple[float, Callable[[float], None]]] = []
    for _ in range(rng.integers(1, 3)):
        things.append((rng.uniform(0.06, 0.3), lambda depth: _cabinet(canvas, rng, light, ground, depth)))
    for depth, paint in sorted(things, key=lambda thing: thing[0]):
        paint(depth)


def _walls(canvas: Canvas, rng: Generator, light: Light, edge: float) -> None:
    """Back wall with windows, and the side wall that is in the shade."""
    h, w = canvas.height, canvas.width
    color = _pick(rng, _CREAM, 8)
    spot = color * np.array([1.0, 0.8, 0.72]) * 0.85
    period = h * rng.uniform(0.05, 0.075)
    fade = art.gradient(color * 0.78, color, (0, 0), (w * rng.uniform(-0.3, 0.3), edge))
    canvas.paint(Rectangle(0, 0, w, edge), art.dots(color, spot, period=period, shade=fade), _ID["wall"])
    inner = w * rng.uniform(0.1, 0.28)
    corner, outer = (w - inner, w) if light.side > 0 else (inner, 0)
    skirting = color * 0.62
    canvas.paint(Rectangle(0, edge - h * 0.018, w, edge), art.plain(skirting), _ID["wall"])
    drop = inner * rng.uniform(0.4, 0.8)
    side = Polygon(((corner, 0), (outer, 0), (outer, edge + drop), (corner, edge)))
    dim = art.gradient(color * 0.72, color * 0.52, (corner, 0), (outer, 0))
    canvas.paint(side, art.dots(color, spot, period=period, shade=dim), _ID["wall"])
    strip = Polygon(
        ((corner, edge - h * 0.02), (outer, edge + drop - h * 0.03), (outer, edge + drop), (corner, edge))
    )
    canvas.paint(strip, art.plain(skirting * 0.7), _ID["wall"])
    low, high = (0.0, corner) if light.side > 0 else (corner, float(w))
    count = int(rng.integers(1, 3))
    boxes = []
    for number in range(count):
        half = min(h * rng.uniform(0.1, 0.17), (high - low) / count * 0.4)
        x = low + (high - low) * (number + rng.uniform(0.42, 0.58)) / count
        top = edge * rng.uniform(0.12, 0.25)
        boxes.append(Rectangle(x - half, top, x + half, top + edge * rng.uniform(0.36, 0.5)))
    _windows(canvas, _pick(rng, _BLUE), boxes, cross=True)
    for box in boxes:
        if rng.random() < 0.85:
            _curtains(canvas, rng, box, (low, high), edge)


def _rug(canvas: Canvas, rng: Generator, edge: float, vanishing: Point) -> None:
    h, w = canvas.height, canvas.width
    far = edge + (h - edge) * rng.uniform(0.12, 0.4)
    near = min(far + (h - edge) * rng.uniform(0.35, 0.55), h * 0.985)
    center, half = w * rng.uniform(0.3, 0.7), h * rng.uniform(0.28, 0.45)
    shrink = (far - vanishing[1]) / (near - vanishing[1])
    left, right = (center - half, near), (center + half, near)
    outline = Polygon((_toward(vanishing, left, shrink), _toward(vanishing, right, shrink), right, left))
    bright = _pick(rng, _BRIGHT)
    pale = bright + (250 - bright) * 0.75
    if rng.random() < 0.5:  # stripes across
        texture = art.stripes(bright, pale, period=h * rng.uniform(0.05, 0.08), across=(0.0, 1.0))
    else:  # stripes along, running together like the floor's boards
        texture = art.planks(bright, pale, vanishing=vanishing, count=rng.uniform(5, 8))
    canvas.paint(outline, texture, _ID["rug"])


def _cabinet(canvas: Canvas, rng: Generator, light: Light, ground: Ground, depth: float) -> None:
    h = canvas.height
    x, y, unit = ground.place(rng, depth)
    wide, tall, deep = (
        unit * rng.uniform(0.4, 0.7),
        unit * rng.uniform(0.5, 1.0),
        unit * rng.uniform(0.08, 0.16),
    )
    left, right, top = x - wide / 2, x + wide / 2, y - tall
    color = _pick(rng, _WOOD)
    canvas.paint(
        Ellipse((left - deep * 0.3, y - deep * 0.3, right + deep * 0.6, y + deep * 0.4)),
        art.shadow(0.4),
        None,
    )
    edge_x, out = (right, right + deep) if light.side > 0 else (left, left - deep)
    side = Polygon(((edge_x, top), (out, top + deep * 0.3), (out, y - deep * 0.4), (edge_x, y)))
    canvas.paint(side, art.plain(color * 0.58), _ID["cabinet"])
    canvas.paint(
        Rectangle(left, top, right, y),
        art.gradient(color * 1.15, color * 0.92, (x, top), (x, y)),
        _ID["cabinet"],
    )
    groove = art.plain(color * 0.55)
    line = max(h * 0.006, 0.7)
    canvas.paint(Rectangle(left, top, right, top + 2 * line), art.plain(color * 1.3), _ID["cabinet"])
    canvas.paint(Rectangle(x - line, top + 2 * line, x + line, y), groove, _ID["cabinet"])
    if rng.random() < 0.5:
        shelf = top + tall * rng.uniform(0.3, 0.5)
        canvas.paint(Rectangle(left, shelf - line, right, shelf + line), groove, _ID["cabinet"])
    knob = max(h * 0.009, 1.0)
    for sign in (-1, 1):
        cx, cy = x + sign * knob * 3, y - tall * 0.3
        canvas.paint(
            Ellipse((cx - knob, cy - knob, cx + knob, cy + knob)), art.plain((228, 206, 140)), _ID["cabinet"]
        )


def _curtains(
    canvas: Canvas, rng: Generator, window: Rectangle, limits: tuple[float, float], floor: float
) -> None:
    """A striped curtain at either side of a window."""
    bright = _pick(rng, _BRIGHT)
    pale = bright + (250 - bright) * 0.8
    wide = (window.right - window.left) * rng.uniform(0.3, 0.5)
    period = max(wide / rng.uniform(1.6, 3.2), 3.5)
    top = window.top - canvas.height * 0.03
    bottom = min(window.bottom + canvas.height * rng.uniform(0.03, 0.3), floor)
    cloth = art.folded(art.stripes(bright, pale, period=period), period=period * 1.7)
    for center in (window.left - wide * 0.2, window.right + wide * 0.2):
        left, right = max(center - wide / 2, limits[0]), min(center + wide / 2, limits[1])
        canvas.paint(Rectangle(left, top, right, bottom), cloth, _ID["curtain"])
    rod = Rectangle(window.left - wide * 0.8, top - canvas.height * 0.012, window.right + wide * 0.8, top)
    canvas.paint(rod, art.plain((70, 58, 50)), _ID["curtain"])
