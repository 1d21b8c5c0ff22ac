"""Figure of an edit: labels before and after it, what changed, and what it did to every class's IoU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from prolab_hf.explanation.figures.canvas import (
    INK_COLOR,
    LITERAL,
    MUTED_COLOR,
    RIVAL_COLOR,
    SERIES,
    literal,
    new_figure,
    plain_axes,
)
from prolab_hf.explanation.overlays import LegendRow, legend_rows, overlay, percent, plain_text

ClassIoU = Mapping[str, float | None] | Sequence[Mapping[str, Any]]
"""IoU by class, or `per_class` of `evaluate`."""
MOST_CLASSES = 24
WIDTH = 10.5


def before_after_figure(
    image: Image.Image,
    before: torch.Tensor | np.ndarray,
    after: torch.Tensor | np.ndarray,
    class_names: Sequence[str],
    *,
    class_names_before: Sequence[str] | None = None,
    iou_before: ClassIoU | None = None,
    iou_after: ClassIoU | None = None,
    title: str = "",
    successors: Mapping[str, str] | None = None,
) -> Figure:
    """Labels before and after an edit side by side, the pixels that changed, and the IoU of every class.

    Classes keep their colors by name, so that a class added in between recolors nothing.

    Args:
        image: The image.
        before: Class ids `(height, width)` before the edit.
        after: Class ids after it.
        class_names: Names in the order of the ids after the edit.
        class_names_before: Names in the order of the ids before it; default: the same.
        iou_before: IoU of the classes before the edit, by name or as `evaluate` gives them.
        iou_after: IoU after it; both or neither.
        title: What was edited.
        successors: Class before -> class after that goes on with it (`EditEffect.successors`): a pixel that only
            follows a new name, or a merge, did not change. Default: classes go on under their names.

    Raises:
        ValueError: The label maps are not of the image's size, or only one IoU is given.
    """
    if (iou_before is None) != (iou_after is None):
        raise ValueError("Only one of iou_before and iou_after is given; give both or neither.")
    old_names = list(class_names if class_names_before is None else class_names_before)
    names = [*old_names, *(name for name in class_names if name not in old_names)]
    old = _ids(before, old_names, names, image)
    new = _ids(after, list(class_names), names, image)
    follows = {name: name for name in old_names} if successors is None else successors
    goes_on = [names.index(follows[name]) if follows.get(name) in names else -2 for name in names]
    changed = np.where(old < 0, old, np.array(goes_on)[old]) != new
    rows = [] if iou_before is None or iou_after is None else _iou_rows(iou_before, iou_after)
    panel = (WIDTH - 0.6) / 3 * image.height / image.width
    shown = _present(old, new, names)
    legend_height = 0.3 * math.ceil(len(shown) / 5) + 0.15
    chart = 0.24 * len(rows) + 0.8 if rows else 0.0
    head = 0.45 if title else 0.15
    figure = new_figure(WIDTH, head + panel + 0.5 + legend_height + chart)
    heights = [panel + 0.45, legend_height, *([chart] if rows else [])]
    grid = figure.add_gridspec(len(heights), 3, height_ratios=heights)
    if title:
        figure.suptitle(plain_text(title), fontsize=13, color=INK_COLOR, x=0.01, ha="left", fontweight="bold")
    for column, (ids, name) in enumerate(((old, "before"), (new, "after"))):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(overlay(image, ids, names, legend=False))
        _title(axes, name)
    axes = figure.add_subplot(grid[0, 2])
    gray = np.asarray(image.convert("L"), dtype=np.float32)[..., None].repeat(3, -1) / 255
    tint = np.array([int(RIVAL_COLOR[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    axes.imshow(np.where(changed[..., None], 0.25 * gray + 0.75 * tint, 0.55 + 0.4 * gray))
    _title(axes, f"changed: {percent(float(changed.mean()))}")
    _legend(figure.add_subplot(grid[1, :]), shown)
    if rows:
        _draw_iou(figure.add_subplot(grid[2, :]), rows)
    return literal(figure)


def _ids(
    labels: torch.Tensor | np.ndarray, own: Sequence[str], names: Sequence[str], image: Image.Image
) -> np.ndarray:
    """Ids into `names`; what is no class stays none."""
    ids = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels).astype(np.int64)
    if ids.shape != (image.height, image.width):
        raise ValueError(
            f"A label map has shape {ids.shape}, the image is {image.height} high and {image.width} wide."
        )
    table = np.array([names.index(name) for name in own])
    known = (ids >= 0) & (ids < len(own))
    result: np.ndarray = np.where(known, table[np.where(known, ids, 0)], -1)
    return result


def _present(old: np.ndarray, new: np.ndarray, names: Sequence[str]) -> list[LegendRow]:
    rows: dict[str, LegendRow] = {}
    for ids in (new, old):
        for row in legend_rows(ids, names):
            rows.setdefault(row.name, row)
    return list(rows.values())[:15]


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=11, loc="left", color=INK_COLOR, **LITERAL)
    axes.set_axis_off()


def _legend(axes: Axes, rows: Sequence[LegendRow]) -> None:
    axes.set_axis_off()
    handles = [Patch(facecolor="#{:02x}{:02x}{:02x}".format(*row.color), label=row.name[:28]) for row in rows]
    axes.legend(handles=handles, ncols=5, frameon=False, fontsize=9, loc="upper left", borderaxespad=0)


def _by_name(values: ClassIoU) -> dict[str, float | None]:
    if isinstance(values, Mapping):
        return dict(values)
    return {str(entry["name"]): entry["iou"] for entry in values}


def _iou_rows(before: ClassIoU, after: ClassIoU) -> list[tuple[str, float | None, float | None]]:
    """Name, IoU before and after; the classes that changed most, in falling order of the change."""
    old, new = _by_name(before), _by_name(after)
    rows = [(name, old.get(name), new.get(name)) for name in {**old, **new}]
    rows = [(name, _finite(first), _finite(second)) for name, first, second in rows]
    rows = [row for row in rows if row[1] is not None or row[2] is not None]
    rows.sort(key=lambda row: -abs((row[2] or 0.0) - (row[1] or 0.0)))
    rows = rows[:MOST_CLASSES]
    return sorted(rows, key=lambda row: -((row[2] or 0.0) - (row[1] or 0.0)))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _draw_iou(axes: Axes, rows: Sequence[tuple[str, float | None, float | None]]) -> None:
    """A line from the IoU before to the IoU after per class."""
    for row, (_, old, new) in enumerate(rows):
        if old is not None and new is not None:
            color = SERIES[2] if new >= old else SERIES[4]
            axes.plot([old, new], [row, row], color=color, linewidth=3, alpha=0.55, solid_capstyle="round")
            axes.text(1.02, row, f"{new - old:+.3f}", va="center", fontsize=8.5, color=color)
    old_and_new = (
        ([old for _, old, _ in rows], "white", "before"),
        ([new for *_, new in rows], INK_COLOR, "after"),
    )
    for values, face, label in old_and_new:
        points = [(value, row) for row, value in enumerate(values) if value is not None]
        axes.plot(
            [value for value, _ in points],
            [row for _, row in points],
            "o",
            markersize=6,
            markerfacecolor=face,
            markeredgecolor=INK_COLOR,
            label=label,
        )
    axes.set_yticks(range(len(rows)), [plain_text(name)[:34] for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.01, 1.0)
    axes.set_xlabel("IoU", color=MUTED_COLOR, fontsize=9)
    axes.legend(
        frameon=False, fontsize=9, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0
    )
    plain_axes(axes, grid="both")


__all__ = ["before_after_figure"]
