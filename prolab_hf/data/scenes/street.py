"""How streets and the things in them are drawn.

Sizes are in units of the image's height, positions of things on the ground follow from their distance:
what is nearer stands lower and is larger. Things are painted from far to near, so that they occlude.
"""

from collections.abc import Callable

import numpy as np

from prolab_hf.data.scenes import canvas as art
from prolab_hf.data.scenes.canvas import Canvas, Ellipse, Point, Polygon, Rectangle
from prolab_hf.data.scenes.stage import (
    BLUE,
    BRIGHT,
    CLASS_IDS,
    GRAY,
    GREEN,
    STONE,
    WOOD,
    Generator,
    Ground,
    Light,
    pick,
    toward,
    windows,
)
from prolab_hf.data.scenes.words import HELD_OUT_CLASS


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
    top = pick(rng, BLUE)
    low = top + (245 - top) * rng.uniform(0.3, 0.8)
    canvas.paint(
        Rectangle(0, 0, w, horizon + 2),
        art.gradient(top, low, (0, 0), (w * rng.uniform(-0.2, 0.2), horizon)),
        CLASS_IDS["sky"],
    )
    for _ in range(rng.integers(0, 4)):
        x, y, wide = w * rng.random(), horizon * rng.uniform(0.1, 0.8), h * rng.uniform(0.08, 0.2)
        canvas.paint(
            Rectangle(0, 0, w, horizon),
            art.glow((60, 55, 45), center=(x, y), radius=wide, strength=rng.uniform(0.4, 0.9)),
            None,
        )


def _ground(canvas: Canvas, rng: Generator, horizon: float) -> Ground:
    h, w = canvas.height, canvas.width
    shore = horizon
    canvas.paint(Rectangle(0, horizon, w, h), art.speckles(pick(rng, GREEN), amount=0.28), CLASS_IDS["grass"])
    kind = rng.random()
    if kind < 0.15:  # a river instead of the road
        canvas.paint(_lane(canvas, rng, horizon, 0.9)[0], _water(rng, horizon), CLASS_IDS["water"])
    else:
        _road(canvas, rng, horizon)
    if kind > 0.5:  # a lake behind the meadow
        shore = horizon + (h - horizon) * rng.uniform(0.15, 0.4)
        tilt = rng.uniform(-0.04, 0.04) * h
        lake = Polygon(((0, horizon), (w, horizon), (w, shore + tilt), (w / 2, shore), (0, shore - tilt)))
        canvas.paint(lake, _water(rng, horizon), CLASS_IDS["water"])
    return Ground(horizon, shore, h, w)


def _road(canvas: Canvas, rng: Generator, horizon: float) -> None:
    h = canvas.height
    lane, vanishing, left, right = _lane(canvas, rng, horizon, rng.uniform(0.7, 1.1))
    canvas.paint(lane, art.plain(pick(rng, GRAY, 6), noise=2.0), CLASS_IDS["road"])
    markings = []
    for start, share in ((left, 0.04), (right, -0.04)):
        shift = (right - left) * share
        markings.append(Polygon((vanishing, (start + shift, h), (start + shift * 1.8, h))))
    middle, half = (left + right) / 2, (right - left) * 0.018
    for step in range(6):
        # Dashes of equal length shrink by the same factor from one to the next.
        near, far = 0.72**step, 0.72 ** (step + 0.5)
        corners = [(middle - half, near), (middle + half, near), (middle + half, far), (middle - half, far)]
        markings.append(Polygon(tuple(toward(vanishing, (x, h), share) for x, share in corners)))
    canvas.paint(markings, art.plain((226, 225, 216)), CLASS_IDS["road"])


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
    color = pick(rng, BLUE)
    return art.ripples(color * 0.8, color + (255 - color) * 0.45, horizon=horizon, phase=rng.uniform(0, 6))


def _building(canvas: Canvas, rng: Generator, light: Light, *, left: float, base: float) -> None:
    h = canvas.height
    wide, tall, deep = h * rng.uniform(0.25, 0.5), h * rng.uniform(0.28, 0.5), h * rng.uniform(0.06, 0.14)
    top, right = base - tall, left + wide
    color = pick(rng, STONE)
    mortar = color + (225 - color) * rng.uniform(0.35, 0.6)
    brick = (h * rng.uniform(0.055, 0.075), h * rng.uniform(0.028, 0.036))
    edge, out = (right, right + deep) if light.side > 0 else (left, left - deep)
    side = Polygon(((edge, top), (out, top + deep * 0.45), (out, base - deep * 0.25), (edge, base)))
    canvas.paint(
        side, art.bricks(color * 0.6, mortar * 0.62, brick=brick, origin=(left, top)), CLASS_IDS["building"]
    )
    canvas.paint(
        Rectangle(left, top, right, base),
        art.bricks(color, mortar, brick=brick, origin=(left, top)),
        CLASS_IDS["building"],
    )
    canvas.paint(
        Rectangle(left - 1, top - 2, right + 1, top + 1), art.plain(color * 0.5), CLASS_IDS["building"]
    )
    size = h * rng.uniform(0.075, 0.11)
    columns, rows = max(int(wide / (size * 1.75)), 1), max(int(tall / (size * 2.0)), 1)
    boxes = []
    for row in range(rows):
        for column in range(columns):
            x, y = left + wide * (column + 0.5) / columns, top + tall * (row + 0.55) / rows
            boxes.append(Rectangle(x - size / 2, y - size * 0.6, x + size / 2, y + size * 0.6))
    windows(canvas, pick(rng, BLUE), boxes, cross=False)


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
    trunk = pick(rng, WOOD) * 0.8
    canvas.paint(
        Polygon(((x - half, y), (x - half * 0.6, y - tall), (x + half * 0.6, y - tall), (x + half, y))),
        art.plain(trunk, noise=6),
        CLASS_IDS["tree"],
    )
    green = pick(rng, GREEN) * rng.uniform(0.75, 1.0)
    leaves = []
    for angle in rng.uniform(0, 6.28, 5):
        cx, cy, r = (
            x + np.cos(angle) * crown * 0.45,
            y - tall + np.sin(angle) * crown * 0.4,
            crown * rng.uniform(0.6, 0.75),
        )
        leaves.append(Ellipse((cx - r, cy - r, cx + r, cy + r)))
    canvas.paint(leaves, art.speckles(green, amount=0.38), CLASS_IDS["tree"])


def _fence(canvas: Canvas, rng: Generator, ground: Ground, depth: float) -> None:
    w = canvas.width
    _, y, unit = ground.place(rng, depth)
    tall, wide = unit * rng.uniform(0.16, 0.22), w * rng.uniform(0.4, 0.8)
    left = w * rng.uniform(-0.1, 0.7)
    slope = rng.uniform(-0.06, 0.06)
    color = pick(rng, WOOD)
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

    canvas.paint(outline, slats, CLASS_IDS["fence"])


def _car(canvas: Canvas, rng: Generator, light: Light, ground: Ground, depth: float) -> None:
    x, y, unit = ground.place(rng, depth)
    wide, tall = unit * rng.uniform(0.34, 0.44), unit * rng.uniform(0.11, 0.14)
    left, right, deck = x - wide / 2, x + wide / 2, y - tall * 1.25
    paint = pick(rng, BRIGHT)
    _cast_shadow(canvas, x, y, wide * 0.55)
    roof = Polygon(
        (
            (left + wide * 0.16, deck),
            (left + wide * 0.26, deck - tall * 0.85),
            (left + wide * 0.74, deck - tall * 0.85),
            (left + wide * 0.86, deck),
        )
    )
    canvas.paint(roof, art.plain(paint * 0.92), CLASS_IDS["car"])
    pane = Polygon(
        (
            (left + wide * 0.23, deck),
            (left + wide * 0.3, deck - tall * 0.68),
            (left + wide * 0.7, deck - tall * 0.68),
            (left + wide * 0.79, deck),
        )
    )
    canvas.paint(pane, art.plain((58, 66, 78)), CLASS_IDS["car"])
    body = Rectangle(left, deck, right, y - tall * 0.15)
    canvas.paint(
        body, art.gradient(paint + (255 - paint) * 0.55, paint * 0.78, (x, deck), (x, y)), CLASS_IDS["car"]
    )
    radius = tall * 0.42
    for cx in (left + wide * 0.22, right - wide * 0.22):
        canvas.paint(
            Ellipse((cx - radius, y - 2 * radius, cx + radius, y)), art.plain((34, 34, 38)), CLASS_IDS["car"]
        )
        hub = radius * 0.45
        canvas.paint(
            Ellipse((cx - hub, y - radius - hub, cx + hub, y - radius + hub)),
            art.plain((170, 170, 175)),
            CLASS_IDS["car"],
        )


def _kiosk(canvas: Canvas, rng: Generator, light: Light, ground: Ground, depth: float) -> None:
    x, y, unit = ground.place(rng, depth)
    wide, tall, deep = (
        unit * rng.uniform(0.2, 0.28),
        unit * rng.uniform(0.26, 0.36),
        unit * rng.uniform(0.05, 0.09),
    )
    left, right, top = x - wide / 2, x + wide / 2, y - tall
    bright = pick(rng, BRIGHT)
    pale = bright + (250 - bright) * 0.8
    period = max(wide / rng.integers(3, 6), 3.5)
    _cast_shadow(canvas, x, y, wide * 0.7)
    edge, out = (right, right + deep) if light.side > 0 else (left, left - deep)
    side = Polygon(((edge, top), (out, top + deep * 0.4), (out, y - deep * 0.35), (edge, y)))
    canvas.paint(side, art.stripes(bright * 0.6, pale * 0.6, period=period * 0.6), CLASS_IDS[HELD_OUT_CLASS])
    canvas.paint(
        Rectangle(left, top, right, y), art.stripes(bright, pale, period=period), CLASS_IDS[HELD_OUT_CLASS]
    )
