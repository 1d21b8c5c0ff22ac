"""What all figures share: colors, a layout in inches, and names that matplotlib shows as they are."""

from __future__ import annotations

import io
import textwrap
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from prolab_hf.explanation.overlays import plain_text

CLASS_COLOR = "#2f6fb7"
RIVAL_COLOR = "#e08a2e"
MISSING_COLOR = "#b3403f"
INK_COLOR = "#22262e"
MUTED_COLOR = "#767c88"
HEAT = colormaps["inferno"]
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#B8A800")
"""Okabe and Ito's colors (the yellow darkened for white paper), which people with any color vision tell apart."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

LITERAL: dict[str, Any] = {"parse_math": False}
"""matplotlib reads "$...$" as mathematics; names are names."""


def fitted(aspect: float, width: float, height: float) -> tuple[float, float]:
    """The largest size of the given aspect (height / width) inside of a box."""
    width = min(width, height / aspect)
    return width, max(width * aspect, 0.05)


def wrapped(name: str, width: int) -> str:
    """A name on at most two lines of about `width` characters."""
    return "\n".join(textwrap.wrap(plain_text(name), width, max_lines=2, placeholder=" …"))


def new_figure(width: float, height: float) -> Figure:
    """A figure in inches that `savefig` writes as PNG, PDF or SVG; pyplot's state stays untouched."""
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, *, grid: str | None = None) -> None:
    """Axes with as little ink as possible.

    Args:
        axes: The axes.
        grid: `"x"`, `"y"` or `"both"` for light lines.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED_COLOR)
    axes.tick_params(colors=MUTED_COLOR, labelsize=9, labelcolor=INK_COLOR)
    axes.set_axisbelow(True)
    if grid == "x" or grid == "both":
        axes.xaxis.grid(True, color="#e3e5ea", linewidth=0.8)
    if grid == "y" or grid == "both":
        axes.yaxis.grid(True, color="#e3e5ea", linewidth=0.8)


def literal(figure: Figure) -> Figure:
    """The figure with all its texts shown as they are."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


class Canvas:
    """A figure laid out in inches from the top left; pyplot's state and the user's backend stay untouched.

    Args:
        width: In inches.
        height: In inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.size = (width, height)
        self.figure = Figure(figsize=self.size, dpi=110, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place given in inches."""
        across, down = self.size
        return self.figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))

    def render(self) -> Image.Image:
        """The figure as an RGB image."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        buffer.seek(0)
        return Image.open(buffer).convert("RGB")
