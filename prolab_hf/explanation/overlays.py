"""Images with their classes laid over them, and a legend that says how much each class covers."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from prolab_hf.evaluation.views.class_colors import VOID_COLOR, Color, class_colors, class_pixels

INK = (34, 38, 46)
MUTED = (118, 124, 136)
PAPER = (255, 255, 255)
TRACK = (236, 238, 242)

SHORT_SIDE = 640
"""Smaller images are enlarged to about this, so that text and contours stay in proportion."""


def overlay(
    image: Image.Image,
    labels: torch.Tensor | np.ndarray,
    class_names: Sequence[str],
    *,
    opacity: float = 0.6,
    legend: bool = True,
) -> Image.Image:
    """The image with a color per class, contours, and a legend with the share of every class.

    Args:
        image: The image.
        labels: Class ids `(height, width)` of the image's size; other ids than classes are void (gray).
        class_names: Names in the order of the ids. Taken literally, whatever they contain.
        opacity: Of the colors, from 0 to 1.
        legend: Whether the legend is drawn on the right.

    Returns:
        An RGB image; small ones are enlarged.

    Raises:
        ValueError: If the sizes differ or the opacity is out of range.
    """
    ids = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if ids.shape != (image.height, image.width):
        raise ValueError(
            f"The label map has shape {ids.shape}, the image is {image.height} high and {image.width} wide."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}; it must lie between 0 and 1.")
    scale = max(1, round(SHORT_SIDE / min(ids.shape)))
    size = (image.width * scale, image.height * scale)
    upright = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    ids = ids.repeat(scale, 0).repeat(scale, 1)
    painted = _paint(upright, ids, len(class_names), opacity)
    return _with_legend(painted, legend_rows(ids, class_names)) if legend else painted


def _paint(image: np.ndarray, ids: np.ndarray, num_labels: int, opacity: float) -> Image.Image:
    """Blend colors over an image whose own colors and darkness are toned down, and draw light contours."""
    tint = class_pixels(ids, num_labels).astype(np.float32)
    gray = image.mean(axis=-1, keepdims=True)
    # Half of the saturation goes: a green class on green grass must look like the class, not like the grass.
    # Black is lifted to dark gray: on a dark image all colors would otherwise look alike.
    base = 50 + 0.8 * (0.5 * image + 0.5 * gray)
    blended = (1 - opacity) * base + opacity * tint
    line = contours(ids, thickness=max(1, round(min(ids.shape) / 400)))[..., None]
    blended = np.where(line, 0.45 * blended + 0.55 * 255, blended)
    return Image.fromarray(blended.clip(0, 255).astype(np.uint8))


def contours(ids: np.ndarray, thickness: int = 1) -> np.ndarray:
    """Where a region ends.

    Args:
        ids: Ids `(height, width)`.
        thickness: Of the line in pixels.

    Returns:
        Bool `(height, width)`.
    """
    line = np.zeros(ids.shape, dtype=bool)
    for step in range(1, thickness + 1):
        line[:, :-step] |= ids[:, step:] != ids[:, :-step]
        line[:-step] |= ids[step:] != ids[:-step]
    return line


@dataclass(frozen=True)
class LegendRow:
    """One line of a legend: color, name and share of the image."""

    color: Color
    name: str
    share: float


def legend_rows(ids: np.ndarray, class_names: Sequence[str]) -> list[LegendRow]:
    """Classes that occur, largest first, void last.

    Args:
        ids: Ids `(height, width)`.
        class_names: Names in the order of the ids.
    """
    number = len(class_names)
    known = ids[(ids >= 0) & (ids < number)].astype(np.int64)
    shares = np.bincount(known, minlength=number) / ids.size
    colors = class_colors(number)
    order = np.argsort(-shares, kind="stable")
    rows = [
        LegendRow(colors[k], plain_text(class_names[k]), float(shares[k])) for k in order if shares[k] > 0
    ]
    if known.size < ids.size:
        rows.append(LegendRow(VOID_COLOR, "(no class)", 1 - known.size / ids.size))
    return rows


def _with_legend(image: Image.Image, rows: Sequence[LegendRow]) -> Image.Image:
    """Put the legend to the right: swatch, name, share as a number and as a thin bar."""
    size = max(13, round(image.height / 34))
    regular, bold = font(size), font(size, bold=True)
    pad, pitch = round(1.4 * size), round(2.25 * size)
    room = max(1, (image.height - 2 * pad) // pitch)
    if len(rows) > room:
        hidden = rows[room - 1 :]
        rest = LegendRow(PAPER, f"and {len(hidden)} more", sum(row.share for row in hidden))
        rows = [*rows[: room - 1], rest]
    widest = max((regular.getlength(row.name) for row in rows), default=0)
    name_width = min(math.ceil(widest), 16 * size)
    number_width = round(bold.getlength("100.0 %"))
    width = pad + 2 * size + name_width + size + number_width + pad
    canvas = Image.new("RGB", (image.width + width, image.height), PAPER)
    canvas.paste(image, (0, 0))
    draw = ImageDraw.Draw(canvas)
    left, right = image.width + pad, image.width + width - pad
    for number, row in enumerate(rows):
        middle = pad + number * pitch + size // 2
        swatch = (left, middle - size // 2, left + size, middle + size // 2)
        draw.rounded_rectangle(swatch, radius=size // 4, fill=row.color)
        name = shortened(row.name, regular, name_width)
        draw.text((left + 2 * size, middle), name, font=regular, fill=INK, anchor="lm")
        draw.text((right, middle), percent(row.share), font=bold, fill=INK, anchor="rm")
        bar = (
            left + 2 * size,
            middle + round(0.8 * size),
            right,
            middle + round(0.8 * size) + max(2, size // 6),
        )
        draw.rectangle(bar, fill=TRACK)
        filled = bar[0] + round((bar[2] - bar[0]) * row.share)
        if filled > bar[0]:
            draw.rectangle((*bar[:2], filled, bar[3]), fill=MUTED if row.color == PAPER else row.color)
    return canvas


def percent(share: float) -> str:
    """A share for people: `34.2 %`, and `< 0.1 %` rather than zero."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def plain_text(name: str) -> str:
    """A name on one line: control characters and line breaks become spaces, everything else stays literal."""
    kept = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in str(name))
    return " ".join(kept.split()) or "(unnamed)"


def shortened(text: str, typeface: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels."""
    if typeface.getlength(text) <= width:
        return text
    while text and typeface.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib, so that it exists on every machine.

    Args:
        size: In pixels.
        bold: Whether the bold face is taken.
    """
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
