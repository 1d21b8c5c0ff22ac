"""How rooms and the things in them are drawn.

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
    CREAM,
    WOOD,
    Generator,
    Ground,
    Light,
    pick,
    toward,
    windows,
)


def draw_room(canvas: Canvas, rng: Generator, light: Light) -> None:
    """Draw a room."""
    h, w = canvas.height, canvas.width
    edge = h * rng.uniform(0.52, 0.66)
    vanishing = (w * rng.uniform(0.3, 0.7), edge - h * rng.uniform(0.15, 0.3))
    wood = pick(rng, WOOD)
    boards = art.planks(wood, wood * 0.5, vanishing=vanishing, count=rng.uniform(5, 9))
    canvas.paint(Rectangle(0, edge - 1, w, h), boards, CLASS_IDS["floor"])
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
    color = pick(rng, CREAM, 8)
    spot = color * np.array([1.0, 0.8, 0.72]) * 0.85
    period = h * rng.uniform(0.05, 0.075)
    fade = art.gradient(color * 0.78, color, (0, 0), (w * rng.uniform(-0.3, 0.3), edge))
    canvas.paint(
        Rectangle(0, 0, w, edge), art.dots(color, spot, period=period, shade=fade), CLASS_IDS["wall"]
    )
    inner = w * rng.uniform(0.1, 0.28)
    corner, outer = (w - inner, w) if light.side > 0 else (inner, 0)
    skirting = color * 0.62
    canvas.paint(Rectangle(0, edge - h * 0.018, w, edge), art.plain(skirting), CLASS_IDS["wall"])
    drop = inner * rng.uniform(0.4, 0.8)
    side = Polygon(((corner, 0), (outer, 0), (outer, edge + drop), (corner, edge)))
    dim = art.gradient(color * 0.72, color * 0.52, (corner, 0), (outer, 0))
    canvas.paint(side, art.dots(color, spot, period=period, shade=dim), CLASS_IDS["wall"])
    strip = Polygon(
        ((corner, edge - h * 0.02), (outer, edge + drop - h * 0.03), (outer, edge + drop), (corner, edge))
    )
    canvas.paint(strip, art.plain(skirting * 0.7), CLASS_IDS["wall"])
    low, high = (0.0, corner) if light.side > 0 else (corner, float(w))
    count = int(rng.integers(1, 3))
    boxes = []
    for number in range(count):
        half = min(h * rng.uniform(0.1, 0.17), (high - low) / count * 0.4)
        x = low + (high - low) * (number + rng.uniform(0.42, 0.58)) / count
        top = edge * rng.uniform(0.12, 0.25)
        boxes.append(Rectangle(x - half, top, x + half, top + edge * rng.uniform(0.36, 0.5)))
    windows(canvas, pick(rng, BLUE), boxes, cross=True)
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
    outline = Polygon((toward(vanishing, left, shrink), toward(vanishing, right, shrink), right, left))
    bright = pick(rng, BRIGHT)
    pale = bright + (250 - bright) * 0.75
    if rng.random() < 0.5:  # stripes across
        texture = art.stripes(bright, pale, period=h * rng.uniform(0.05, 0.08), across=(0.0, 1.0))
    else:  # stripes along, running together like the floor's boards
        texture = art.planks(bright, pale, vanishing=vanishing, count=rng.uniform(5, 8))
    canvas.paint(outline, texture, CLASS_IDS["rug"])


def _cabinet(canvas: Canvas, rng: Generator, light: Light, ground: Ground, depth: float) -> None:
    h = canvas.height
    x, y, unit = ground.place(rng, depth)
    wide, tall, deep = (
        unit * rng.uniform(0.4, 0.7),
        unit * rng.uniform(0.5, 1.0),
        unit * rng.uniform(0.08, 0.16),
    )
    left, right, top = x - wide / 2, x + wide / 2, y - tall
    color = pick(rng, WOOD)
    canvas.paint(
        Ellipse((left - deep * 0.3, y - deep * 0.3, right + deep * 0.6, y + deep * 0.4)),
        art.shadow(0.4),
        None,
    )
    edge_x, out = (right, right + deep) if light.side > 0 else (left, left - deep)
    side = Polygon(((edge_x, top), (out, top + deep * 0.3), (out, y - deep * 0.4), (edge_x, y)))
    canvas.paint(side, art.plain(color * 0.58), CLASS_IDS["cabinet"])
    canvas.paint(
        Rectangle(left, top, right, y),
        art.gradient(color * 1.15, color * 0.92, (x, top), (x, y)),
        CLASS_IDS["cabinet"],
    )
    groove = art.plain(color * 0.55)
    line = max(h * 0.006, 0.7)
    canvas.paint(Rectangle(left, top, right, top + 2 * line), art.plain(color * 1.3), CLASS_IDS["cabinet"])
    canvas.paint(Rectangle(x - line, top + 2 * line, x + line, y), groove, CLASS_IDS["cabinet"])
    if rng.random() < 0.5:
        shelf = top + tall * rng.uniform(0.3, 0.5)
        canvas.paint(Rectangle(left, shelf - line, right, shelf + line), groove, CLASS_IDS["cabinet"])
    knob = max(h * 0.009, 1.0)
    for sign in (-1, 1):
        cx, cy = x + sign * knob * 3, y - tall * 0.3
        canvas.paint(
            Ellipse((cx - knob, cy - knob, cx + knob, cy + knob)),
            art.plain((228, 206, 140)),
            CLASS_IDS["cabinet"],
        )


def _curtains(
    canvas: Canvas, rng: Generator, window: Rectangle, limits: tuple[float, float], floor: float
) -> None:
    """A striped curtain at either side of a window."""
    bright = pick(rng, BRIGHT)
    pale = bright + (250 - bright) * 0.8
    wide = (window.right - window.left) * rng.uniform(0.3, 0.5)
    period = max(wide / rng.uniform(1.6, 3.2), 3.5)
    top = window.top - canvas.height * 0.03
    bottom = min(window.bottom + canvas.height * rng.uniform(0.03, 0.3), floor)
    cloth = art.folded(art.stripes(bright, pale, period=period), period=period * 1.7)
    for center in (window.left - wide * 0.2, window.right + wide * 0.2):
        left, right = max(center - wide / 2, limits[0]), min(center + wide / 2, limits[1])
        canvas.paint(Rectangle(left, top, right, bottom), cloth, CLASS_IDS["curtain"])
    rod = Rectangle(window.left - wide * 0.8, top - canvas.height * 0.012, window.right + wide * 0.8, top)
    canvas.paint(rod, art.plain((70, 58, 50)), CLASS_IDS["curtain"])
