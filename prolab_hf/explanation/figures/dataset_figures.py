"""Figures of a data set: confusion by property, correction curves, reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from prolab_hf.explanation.confused_properties import PropertyConfusion
from prolab_hf.explanation.correction_curves import CorrectionCurve
from prolab_hf.explanation.dataset_contributions import ClassComparison
from prolab_hf.explanation.figures.canvas import (
    CLASS_COLOR,
    INK_COLOR,
    MARKERS,
    MUTED_COLOR,
    RIVAL_COLOR,
    SERIES,
    literal,
    new_figure,
    plain_axes,
    wrapped,
)
from prolab_hf.explanation.overlays import plain_text
from prolab_hf.explanation.reliability import Reliability

DIVERGING = colormaps["PuOr_r"]
"""Orange misleads, purple speaks for the true class; both are told apart with any color vision and in print."""


def confusion_figure(confusion: PropertyConfusion, *, num_properties: int = 12) -> Figure:
    """Which properties mislead where: confused pairs in rows, properties in columns.

    Args:
        confusion: What `confused_properties` gave.
        num_properties: Columns, those with the largest differences over all pixels of the pairs.

    Raises:
        ValueError: No pixel was confused, or the number is below 1.
    """
    if not confusion.pairs:
        raise ValueError("There is nothing to draw: no pixel was labeled as another class than its own.")
    if num_properties < 1:
        raise ValueError(f"num_properties is {num_properties}; it must be at least 1.")
    pairs = confusion.pairs
    sizes: dict[str, float] = {}
    for pair in pairs:
        for name, difference in pair.properties:
            sizes[name] = sizes.get(name, 0.0) + abs(difference) * pair.pixels
    names = sorted(sizes, key=lambda name: -sizes[name])[:num_properties]
    values = np.array([[dict(pair.properties)[name] for name in names] for pair in pairs])
    largest = float(np.abs(values).max()) or 1.0
    figure = new_figure(2.6 + 0.62 * len(names) + 2.2, 2.6 + 0.42 * len(pairs))
    left, right = figure.subplots(1, 2, width_ratios=(0.62 * len(names), 1.6), sharey=True)
    left.imshow(values, cmap=DIVERGING, vmin=-largest, vmax=largest, aspect="auto")
    for row, column in np.ndindex(*values.shape):
        value = values[row, column]
        if abs(value) >= 0.0005:
            brightness = np.dot(DIVERGING(0.5 + 0.5 * value / largest)[:3], (0.299, 0.587, 0.114))
            color = "white" if brightness < 0.55 else INK_COLOR
            left.text(column, row, f"{value:+.3f}", ha="center", va="center", fontsize=7.5, color=color)
    left.set_xticks(
        range(len(names)), [wrapped(name, 24) for name in names], rotation=40, ha="left", fontsize=8.5
    )
    left.xaxis.tick_top()
    rows = [f"{plain_text(pair.labeled)} → {plain_text(pair.predicted)}" for pair in pairs]
    left.set_yticks(range(len(pairs)), rows, fontsize=9.5)
    left.tick_params(length=0, labelcolor=INK_COLOR)
    left.spines[:].set_visible(False)
    left.set_xlabel(
        "Orange: speaks for the wrong class. Purple: for the true one.", fontsize=9, color=MUTED_COLOR
    )
    right.barh(range(len(pairs)), [pair.share_of_errors for pair in pairs], 0.6, color=SERIES[0])
    right.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.set_xlabel("of all wrong pixels", fontsize=9, color=MUTED_COLOR)
    plain_axes(right, grid="x")
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", length=0)
    return literal(figure)


def comparison_figure(comparison: ClassComparison, *, num_properties: int = 12) -> Figure:
    """Which properties decide a class against its rival: mean shares of both, and how often each one tips the scales.

    Args:
        comparison: What `explain_dataset` gave.
        num_properties: Bars, those with the largest differences.

    Raises:
        ValueError: The number is below 1.
    """
    if num_properties < 1:
        raise ValueError(f"num_properties is {num_properties}; it must be at least 1.")
    shown = [each for each in comparison.properties[:num_properties] if abs(each.difference) >= 0.0005]
    shown = shown or comparison.properties[:1]
    figure = new_figure(8.6, 1.5 + 0.44 * len(shown))
    axes = figure.subplots()
    rows = np.arange(len(shown))
    for shift, color, name, score, field in (
        (-0.2, CLASS_COLOR, comparison.class_name, comparison.score, "class_share"),
        (0.2, RIVAL_COLOR, comparison.rival, comparison.rival_score, "rival_share"),
    ):
        values = [getattr(each, field) for each in shown]
        axes.barh(rows + shift, values, 0.36, color=color, label=f"{plain_text(name)}   {score:.3f}")
    beside = axes.get_yaxis_transform()
    for row, each in enumerate(shown):
        tips = f"{each.pivotal:.0%}" if each.pivotal >= 0.005 else ""
        axes.text(
            1.02, row, f"{each.difference:+.3f}", transform=beside, va="center", fontsize=9, color=INK_COLOR
        )
        axes.text(1.12, row, tips, transform=beside, va="center", fontsize=9, color=MUTED_COLOR)
    for x, text in ((1.02, "differ-\nence"), (1.12, "tips the\nscales")):
        axes.text(x, -0.7, text, transform=beside, va="bottom", fontsize=8.5, color=MUTED_COLOR)
    axes.set_yticks(rows, [wrapped(each.phrase, 38) for each in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.axvline(0, color=MUTED_COLOR, linewidth=0.8)
    about = f"{comparison.num_pixels:,} pixels {comparison.over} as {comparison.class_name}"
    axes.set_xlabel(
        f"mean share of the class {comparison.quantity}, {plain_text(about)}", fontsize=9, color=MUTED_COLOR
    )
    axes.legend(frameon=False, fontsize=10.5, ncols=2, loc="lower left", bbox_to_anchor=(-0.01, 1.0))
    plain_axes(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return literal(figure)


def correction_figure(
    curves: Sequence[CorrectionCurve], *, metric: Literal["mean_iou", "pixel_accuracy"] = "mean_iou"
) -> Figure:
    """How much better the model becomes with every corrected property.

    Args:
        curves: What `correction_curves` gave.
        metric: What is drawn.

    Raises:
        ValueError: There is no curve, or the metric is unknown.
    """
    if not curves:
        raise ValueError("There is nothing to draw: curves is empty.")
    if metric not in ("mean_iou", "pixel_accuracy"):
        raise ValueError(f"metric is {metric!r}; it must be 'mean_iou' or 'pixel_accuracy'.")
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    labels = {"random": "in random order", "uncertainty": "least certain first"}
    for index, curve in enumerate(curves):
        axes.plot(
            curve.num_corrected,
            curve.mean_iou if metric == "mean_iou" else curve.pixel_accuracy,
            marker=MARKERS[index % len(MARKERS)],
            color=SERIES[index % len(SERIES)],
            markersize=5,
            label=labels[curve.order],
        )
    axes.set_xlabel(f"corrected properties per pixel (of {curves[0].num_properties})", color=INK_COLOR)
    axes.set_ylabel("mean IoU" if metric == "mean_iou" else "pixel accuracy", color=INK_COLOR)
    axes.legend(frameon=False, fontsize=9.5, loc="lower right")
    plain_axes(axes, grid="y")
    return literal(figure)


def reliability_figure(measured: Reliability | Mapping[str, Reliability]) -> Figure:
    """Reliability diagram: accuracy against confidence, and below it how many pixels have this confidence.

    Args:
        measured: What `reliability` gave, or several of them by name.

    Raises:
        ValueError: There is nothing to draw.
    """
    given = {"": measured} if isinstance(measured, Reliability) else dict(measured)
    if not given:
        raise ValueError("There is nothing to draw: no reliability was given.")
    figure = new_figure(4.8, 5.9 + 0.2 * len(given))
    top, bottom = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
    top.plot([0, 1], [0, 1], color=MUTED_COLOR, linewidth=1, linestyle=(0, (4, 3)))
    for index, (name, each) in enumerate(given.items()):
        color, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
        used = [bin_ for bin_ in each.bins if bin_.pixels]
        confidences = [bin_.confidence for bin_ in used]
        about = f"error {each.calibration_error:.3f}, T = {each.temperature:.3g}"
        label = f"{plain_text(name)} ({about})" if name else about
        top.plot(confidences, [bin_.accuracy for bin_ in used], marker=marker, color=color, label=label)
        if len(given) == 1:
            for bin_ in used:
                top.plot(
                    [bin_.confidence] * 2,
                    [bin_.confidence, bin_.accuracy],
                    color=color,
                    alpha=0.35,
                    linewidth=4,
                )
        shares = [bin_.pixels / each.num_pixels for bin_ in each.bins]
        edges = [bin_.low for bin_ in each.bins] + [1.0]
        bottom.stairs(shares, edges, color=color, linewidth=1.5, fill=len(given) == 1, alpha=0.85)
    top.set_ylabel("accuracy", color=INK_COLOR)
    top.set(xlim=(0, 1), ylim=(0, 1))
    # Above the axes: the curve may be anywhere inside of them.
    top.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0.2)
    bottom.set_ylabel("pixels", color=INK_COLOR)
    bottom.set_xlabel("confidence (mean per bin)", color=INK_COLOR)
    bottom.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (top, bottom):
        plain_axes(axes, grid="y")
    return literal(figure)


__all__ = ["comparison_figure", "confusion_figure", "correction_figure", "reliability_figure"]
