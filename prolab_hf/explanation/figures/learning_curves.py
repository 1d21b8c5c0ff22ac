"""Learning curves of one or several training runs, from the lines of their logs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prolab_hf.explanation.figures.canvas import (
    INK_COLOR,
    MARKERS,
    MUTED_COLOR,
    SERIES,
    literal,
    new_figure,
    plain_axes,
)
from prolab_hf.explanation.overlays import plain_text

Entries = Sequence[Mapping[str, Any]]
"""Lines of a training log: `{"event": "step", "step": 100, "loss": 0.4, "learning_rate": 1e-3, ...}`."""
MOST_RUNS = 8
MOST_CLASSES = 40
SMOOTHED_POINTS = 25
"""From this many points on, a running mean is drawn over the loss."""


def learning_curves_figure(runs: Mapping[str, Entries]) -> Figure:
    """Loss, learning rate and mean IoU over the steps, and the IoU of every class.

    Of one run the classes are shown over all evaluations, of several runs at the last evaluation of each.

    Args:
        runs: Log lines by the name of the run, as `prolab_hf.training.reporting.read_log` gives them.

    Raises:
        ValueError: There is no run, there are more than 8, or none has a line to draw.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise ValueError(f"There are {len(runs)} runs; give 1 to {MOST_RUNS}.")
    steps = {name: _of_kind(entries, "step") for name, entries in runs.items()}
    evaluations = {name: _of_kind(entries, "evaluation") for name, entries in runs.items()}
    if not any(steps.values()) and not any(evaluations.values()):
        raise ValueError("None of the runs has logged a step or an evaluation yet.")
    number = _num_classes(evaluations)
    figure = new_figure(10.5, max(6.4, 0.19 * min(number, MOST_CLASSES) + 2.2))
    grid = figure.add_gridspec(3, 2, width_ratios=(1.25, 1))
    panels = [figure.add_subplot(grid[row, 0]) for row in range(3)]
    for index, name in enumerate(runs):
        color = SERIES[index]
        _draw_loss(panels[0], steps[name], color, plain_text(name))
        _draw_line(panels[1], steps[name], "learning_rate", color)
        _draw_line(panels[2], evaluations[name], "mean_iou", color, marker=MARKERS[index])
    for axes, label in zip(panels, ("loss", "learning rate", "mean IoU")):
        axes.set_ylabel(label, color=INK_COLOR)
        plain_axes(axes, grid="y")
    for axes in panels[:2]:
        axes.sharex(panels[2])
        axes.tick_params(labelbottom=False)
    panels[1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    panels[2].set_xlabel("step", color=INK_COLOR)
    if len(runs) > 1:
        panels[0].legend(frameon=False, fontsize=9)
    classes = figure.add_subplot(grid[:, 1])
    if len(runs) == 1:
        _draw_classes_over_time(figure, classes, next(iter(evaluations.values())))
    else:
        _draw_last_classes(classes, evaluations)
    return literal(figure)


def _of_kind(entries: Entries, kind: str) -> list[Mapping[str, Any]]:
    """Entries of one kind, one per step: a resumed run may have logged a step twice, the later one holds."""
    found = {entry["step"]: entry for entry in entries if entry.get("event") == kind}
    return [found[step] for step in sorted(found)]


def _points(entries: Entries, field: str) -> tuple[list[int], list[float]]:
    pairs = [(entry["step"], entry.get(field)) for entry in entries]
    kept = [(step, float(value)) for step, value in pairs if isinstance(value, int | float)]
    return [step for step, _ in kept], [value for _, value in kept]


def _draw_line(axes: Axes, entries: Entries, field: str, color: str, marker: str = "") -> None:
    steps, values = _points(entries, field)
    axes.plot(steps, values, color=color, marker=marker, markersize=4, linewidth=1.6)
    if field == "mean_iou" and values:
        best = int(np.argmax(values))
        axes.annotate(
            f"{values[best]:.3f}", (steps[best], values[best]), textcoords="offset points", xytext=(0, 5),
            ha="center", fontsize=8.5, color=color,
        )  # fmt: skip


def _draw_loss(axes: Axes, entries: Entries, color: str, label: str) -> None:
    steps, values = _points(entries, "loss")
    is_long = len(values) >= SMOOTHED_POINTS
    axes.plot(steps, values, color=color, alpha=0.3 if is_long else 1, linewidth=1.0 if is_long else 1.6,
              label=None if is_long else label)  # fmt: skip
    if is_long:
        width = max(3, len(values) // 20)
        kernel = np.ones(width)
        sums = np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
        axes.plot(steps, sums, color=color, linewidth=1.8, label=label)
    if values and min(values) > 0 and max(values) / min(values) > 50:
        axes.set_yscale("log")


def _iou_by_class(entry: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for each in entry.get("classes") or ():
        value = each.get("iou")
        if isinstance(value, int | float) and math.isfinite(value):
            found[str(each.get("name"))] = float(value)
    return found


def _num_classes(evaluations: Mapping[str, Entries]) -> int:
    return max((len(_iou_by_class(entries[-1])) for entries in evaluations.values() if entries), default=0)


def _no_classes(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0, 1, "No evaluation was logged.", va="top", color=MUTED_COLOR, transform=axes.transAxes)


def _draw_classes_over_time(figure: Figure, axes: Axes, evaluations: Entries) -> None:
    """A table of colors: classes in rows, best one on top, evaluations in columns."""
    tables = [_iou_by_class(entry) for entry in evaluations]
    if not tables or not tables[-1]:
        _no_classes(axes)
        return
    names = sorted(tables[-1], key=lambda name: -tables[-1][name])
    title = "IoU by class"
    if len(names) > MOST_CLASSES:
        names = names[-MOST_CLASSES:]
        title = f"IoU of the {MOST_CLASSES} worst classes"
    values = np.array([[table.get(name, np.nan) for table in tables] for name in names])
    # Few evaluations would make very wide cells.
    shown = axes.imshow(
        values, cmap=colormaps["cividis"], vmin=0, vmax=1, aspect="auto", interpolation="nearest"
    )
    for row, name in enumerate(names):
        axes.text(
            values.shape[1] - 0.4, row, f"{tables[-1][name]:.2f}", va="center", fontsize=8, color=INK_COLOR
        )
    axes.set_yticks(range(len(names)), [plain_text(name)[:26] for name in names], fontsize=8.5)
    every = max(1, len(evaluations) // 6)
    ticks = range(len(evaluations) - 1, -1, -every)
    axes.set_xticks(list(ticks), [str(evaluations[k]["step"]) for k in ticks], fontsize=8.5)
    axes.set_xlabel("step", color=INK_COLOR)
    axes.tick_params(length=0, labelcolor=INK_COLOR)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10.5, loc="left", color=INK_COLOR)
    bar = figure.colorbar(shown, ax=axes, location="bottom", fraction=0.035, pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=MUTED_COLOR)


def _draw_last_classes(axes: Axes, evaluations: Mapping[str, Entries]) -> None:
    """One marker per run and class, at the last evaluation."""
    tables = {name: _iou_by_class(entries[-1]) for name, entries in evaluations.items() if entries}
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    if not names:
        _no_classes(axes)
        return

    def spread(name: str) -> float:
        values = [table[name] for table in tables.values() if name in table]
        return max(values) - min(values)

    title = "IoU by class, last evaluation"
    if len(names) > MOST_CLASSES:
        names = sorted(names, key=lambda name: -spread(name))[:MOST_CLASSES]
        title = f"IoU of the {MOST_CLASSES} classes that differ most"
    best = {name: max(table.get(name, 0.0) for table in tables.values()) for name in names}
    names.sort(key=lambda name: -best[name])
    for row, name in enumerate(names):
        values = [table[name] for table in tables.values() if name in table]
        axes.plot([min(values), max(values)], [row, row], color="#c6cad2", linewidth=2, zorder=1)
    for index, run in enumerate(evaluations):
        table = tables.get(run, {})
        rows = [row for row, name in enumerate(names) if name in table]
        axes.plot(
            [table[names[row]] for row in rows], rows, MARKERS[index], color=SERIES[index], markersize=5
        )
    axes.set_yticks(range(len(names)), [plain_text(name)[:26] for name in names], fontsize=8.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("IoU", color=INK_COLOR)
    axes.set_title(title, fontsize=10.5, loc="left", color=INK_COLOR)
    plain_axes(axes, grid="x")


__all__ = ["Entries", "learning_curves_figure"]
