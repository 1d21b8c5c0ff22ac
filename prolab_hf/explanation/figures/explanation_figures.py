"""Figures of one explanation: where, which properties, what decided, and where they are seen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from prolab_hf.explanation.explained import Explanation
from prolab_hf.explanation.figures.canvas import (
    CLASS_COLOR,
    HEAT,
    INK_COLOR,
    LITERAL,
    MISSING_COLOR,
    MUTED_COLOR,
    RIVAL_COLOR,
    Canvas,
    fitted,
    wrapped,
)
from prolab_hf.explanation.overlays import plain_text

WIDTH = 13.0
"""Of the explanation figure, in inches; its height follows from the content."""

_MARGIN, _GAP, _ROW, _TITLE = 0.35, 0.25, 0.66, 0.72


def explanation_figure(image: Image.Image, explanation: Explanation) -> Image.Image:
    """One image that answers "why this class, here?".

    On the left the place in the image, on the right the shares of the strongest properties in the scores
    of the class and of the runner-up, below where these properties are seen in the image.

    Args:
        image: The explained image.
        explanation: What `explain` gave. Without `property_maps` (a point of which only some windows were run) the
            lower part is left out.
    """
    shown = _shown_properties(explanation)
    aspect = image.height / image.width
    place = fitted(aspect, 5.3, 6.0)
    top = max(place[1] + 0.5, _ROW * len(shown) + 1.0)
    indices = [] if explanation.property_maps is None else _indices(explanation, shown)[:5]
    columns = max(1, len(indices))
    panel = fitted(aspect, (WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns, 3.4)
    height = 2 * _MARGIN + top + (_TITLE + panel[1] + 0.75 if indices else 0.45)
    canvas = Canvas(WIDTH, height)
    _draw_place(canvas.axes(_MARGIN, _MARGIN + 0.4, *place), image, explanation)
    left = _MARGIN + 5.3 + 0.6
    chart = canvas.axes(left, _MARGIN + 0.4, WIDTH - _MARGIN - left, _ROW * len(shown) + 0.1)
    draw_contributions(chart, explanation, shown)
    pitch = (WIDTH - 2 * _MARGIN + _GAP) / columns
    for column, index in enumerate(indices):
        axes = canvas.axes(_MARGIN + column * pitch, _MARGIN + top + _TITLE, *panel)
        _draw_map(axes, image, explanation, index)
    if indices:
        _draw_scale(canvas.axes(_MARGIN, height - _MARGIN - 0.28, 2.2, 0.12))
    return canvas.render()


def contribution_chart(explanation: Explanation) -> Image.Image:
    """Bars: the share of the strongest properties in the score of the class and of the runner-up.

    Args:
        explanation: What `explain` gave.
    """
    shown = _shown_properties(explanation)
    canvas = Canvas(8.0, _ROW * len(shown) + 1.4)
    draw_contributions(canvas.axes(_MARGIN, 0.6, 8.0 - 2 * _MARGIN, _ROW * len(shown)), explanation, shown)
    return canvas.render()


def property_panel(
    image: Image.Image, property_maps: Tensor, property_names: Sequence[str], *, columns: int = 4
) -> Image.Image:
    """Heat maps of properties over the image, one panel each, on one scale from 0 to 1.

    Args:
        image: The image.
        property_maps: Scores in [0, 1], `(number, any height, any width)`.
        property_names: One name per map.
        columns: Panels per row.

    Raises:
        ValueError: If there is no map or the numbers of maps and names differ.
    """
    if len(property_maps) != len(property_names) or not len(property_maps):
        raise ValueError(
            f"There are {len(property_maps)} property maps and {len(property_names)} names; "
            "give one name per map."
        )
    columns = min(columns, len(property_maps))
    rows = -(-len(property_maps) // columns)
    width, height = fitted(image.height / image.width, 3.1, 3.4)
    pitch = width + _GAP, height + _TITLE
    total = rows * pitch[1] + 2 * _MARGIN + 0.5
    canvas = Canvas(max(columns * pitch[0] + 2 * _MARGIN - _GAP, 3.4), total)
    for number, (score_map, name) in enumerate(zip(property_maps, property_names)):
        row, column = divmod(number, columns)
        axes = canvas.axes(
            _MARGIN + column * pitch[0], _MARGIN + row * pitch[1] + _TITLE - 0.2, width, height
        )
        _draw_heat(axes, image, score_map)
        axes.set_title(wrapped(name, 36), fontsize=10, color=INK_COLOR, loc="left", **LITERAL)
    _draw_scale(canvas.axes(_MARGIN, total - _MARGIN - 0.28, 2.2, 0.12))
    return canvas.render()


def draw_contributions(axes: Axes, explanation: Explanation, shown: Sequence[str]) -> None:
    """Draw the shares of some properties: a line of text each, a bar for the class, one for the runner-up.

    Args:
        axes: Where to draw.
        explanation: What `explain` gave.
        shown: Names of the properties, first one on top.
    """
    rival = explanation.runner_up
    shares, scores = dict(explanation.contributions), dict(explanation.property_scores)
    rival_shares = {name: shares[name] - d for name, d in rival.deciding} if rival is not None else {}
    rows = np.arange(len(shown))
    label = f"{plain_text(explanation.class_name)}   {explanation.score:.3f}"
    axes.barh(rows + 0.1, [shares[name] for name in shown], 0.22, color=CLASS_COLOR, label=label)
    if rival is not None:
        label = f"{plain_text(rival.class_name)}   {rival.score:.3f}"
        axes.barh(rows + 0.32, [rival_shares[name] for name in shown], 0.22, color=RIVAL_COLOR, label=label)
    missing = {name for name, _ in explanation.missing}
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # the line at zero may pass below a name
    at_left = axes.get_yaxis_transform()  # x as a share of the width, y in rows
    for row, name in zip(rows, shown):
        color = MISSING_COLOR if name in missing else INK_COLOR
        note = "seen" if name in explanation.expected else "not its own, seen"
        note = "expected, seen only" if name in missing else note
        text = textwrap.shorten(plain_text(name), 62, placeholder=" …")
        axes.text(
            0.008,
            row - 0.2,
            text,
            transform=at_left,
            va="center",
            fontsize=11,
            color=color,
            bbox=behind,
            **LITERAL,
        )
        note = f"{note} {scores[name]:.2f}" if name in scores else "no property"
        axes.text(
            1, row - 0.2, note, transform=at_left, va="center", ha="right", fontsize=9, color=MUTED_COLOR
        )
    axes.set_ylim(len(shown) - 0.45, -0.55)
    axes.axvline(0, color=MUTED_COLOR, linewidth=0.8)
    axes.set_yticks([])
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED_COLOR)
    axes.tick_params(axis="x", colors=MUTED_COLOR, labelsize=9)
    beyond = f", beyond the {explanation.even_share:.3f} of every class" if explanation.even_share else ""
    axes.set_xlabel(f"share of the class {explanation.quantity}{beyond}", color=MUTED_COLOR, fontsize=9)
    legend = axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, frameon=False, fontsize=12, handlelength=1.1
    )
    for entry in legend.get_texts():
        entry.set_parse_math(False)


def _shown_properties(explanation: Explanation) -> list[str]:
    """The properties that make up the score, and those that separate it from the runner-up."""
    top = explanation.top
    worth = 0.01 * abs(
        explanation.score - explanation.even_share
    )  # less than this is no bar that anybody could see
    telling = explanation.telling_contributions
    names = [name for name, share in telling[:top] if share > worth]
    if explanation.runner_up is not None:
        deciding = [n for n, d in explanation.runner_up.deciding if n not in names and abs(d) > worth]
        names += deciding[: max(2, top // 2)]
    return names or [name for name, _ in telling[:top]]


def _indices(explanation: Explanation, names: Sequence[str]) -> list[int]:
    position = {name: k for k, (name, _) in enumerate(explanation.property_scores)}
    return [position[name] for name in names if name in position]  # terms that are no properties have no map


def _draw_place(axes: Axes, image: Image.Image, explanation: Explanation) -> None:
    """The image with a marker at the pixel or the outline of the region."""
    axes.imshow(image)
    _mark(axes, explanation, size=14, line=3.6, color="white")
    _mark(axes, explanation, size=14, line=1.8, color=CLASS_COLOR)
    verdict = plain_text(explanation.class_name)
    if explanation.class_name != explanation.predicted_class:
        verdict = f"Why not {verdict}?"
    title = textwrap.shorten(verdict, 32, placeholder=" …")
    axes.set_title(title, fontsize=17, fontweight="bold", loc="left", color=INK_COLOR, **LITERAL)
    axes.set_axis_off()


def _draw_map(axes: Axes, image: Image.Image, explanation: Explanation, index: int) -> None:
    name, score = explanation.property_scores[index]
    if explanation.property_maps is not None:
        _draw_heat(axes, image, explanation.property_maps[index])
    _mark(axes, explanation, size=8, line=1.6, color="white")
    title = f"{wrapped(name, 30)}\n{score:.2f}"
    axes.set_title(title, fontsize=9.5, color=INK_COLOR, loc="left", **LITERAL)


def _mark(axes: Axes, explanation: Explanation, *, size: float, line: float, color: str) -> None:
    if explanation.point is not None:
        axes.plot(
            *explanation.point,
            "o",
            markersize=size,
            markerfacecolor="none",
            markeredgecolor=color,
            markeredgewidth=line,
        )
    elif explanation.region is not None and not explanation.region.all():
        axes.contour(explanation.region.numpy(), levels=[0.5], colors=color, linewidths=line)


def _draw_heat(axes: Axes, image: Image.Image, score_map: Tensor) -> None:
    """A score map over the faded gray image; where nothing is seen the image shows through."""
    size = (image.height, image.width)
    scores = F.interpolate(score_map[None, None].float(), size=size, mode="bilinear", align_corners=False)[
        0, 0
    ]
    values = scores.clamp(0, 1).cpu().numpy()
    gray = np.asarray(image.convert("L"), dtype=np.float32)
    low, high = np.percentile(gray, (1, 99))
    gray = ((gray - low) / max(high - low, 1.0)).clip(0, 1)[..., None]
    weight = (0.9 * values**0.5)[..., None]
    axes.imshow(
        ((1 - weight) * (0.42 + 0.52 * gray) + weight * HEAT(0.12 + 0.83 * values)[..., :3]).clip(0, 1)
    )
    axes.set_axis_off()


def _draw_scale(axes: Axes) -> None:
    """The meaning of the heat colors."""
    axes.imshow(HEAT(np.linspace(0.12, 0.95, 256))[None, :, :3], aspect="auto", extent=(0, 1, 0, 1))
    axes.set_xticks([0, 1], labels=["not seen (0)", "seen (1)"])
    first, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0, labelsize=8.5, colors=MUTED_COLOR)
    axes.spines[:].set_visible(False)


__all__ = ["contribution_chart", "draw_contributions", "explanation_figure", "property_panel"]
