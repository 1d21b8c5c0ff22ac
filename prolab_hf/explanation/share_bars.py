"""Shares as bars, small enough for a notebook: as HTML, and as an image where HTML is not shown."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from prolab_hf.explanation.overlays import plain_text
from prolab_hf.markup import escape_html

Bar = tuple[str, float, float | None]
"""Words, share of the explained class, and of its rival where there is one."""

FIRST, SECOND = "#0072B2", "#E69F00"
"""Blue and orange of Okabe and Ito's palette, which people with any color vision tell apart."""
MOST_BARS = 16
_WIDTH = 180


def bars_html(title: str, bars: Sequence[Bar], *, legend: tuple[str, str | None], note: str = "") -> str:
    """A table with one bar per share, two where there is a rival. All words are shown literally.

    Args:
        title: Sentence above it.
        bars: What is shown, first one on top.
        legend: Names of the class and its rival.
        note: Sentences below it, one a line.
    """
    scale = (
        max((abs(value) for _, *values in bars for value in values if value is not None), default=1.0) or 1.0
    )
    rows = []
    for words, own, theirs in bars[:MOST_BARS]:
        lines = "".join(
            _line(value, scale, color)
            for value, color in ((own, FIRST), (theirs, SECOND))
            if value is not None
        )
        rows.append(
            f'<tr><td style="text-align:left">{escape_html(words)}</td>'
            f'<td style="text-align:left;min-width:{_WIDTH + 60}px">{lines}</td></tr>'
        )
    names = [f'<span style="color:{FIRST}">&#9632;</span> {escape_html(legend[0])}']
    if legend[1] is not None:
        names.append(f'<span style="color:{SECOND}">&#9632;</span> {escape_html(legend[1])}')
    notes = "".join(f"<div>{escape_html(line)}</div>" for line in note.splitlines())
    return (
        f'<div style="font-size:90%"><div><b>{escape_html(title)}</b></div><div>{" &nbsp; ".join(names)}</div>'
        f"<table>{''.join(rows)}</table>{notes}</div>"
    )


def _line(value: float, scale: float, color: str) -> str:
    width = round(_WIDTH * abs(value) / scale)
    border = "" if value >= 0 else f"border:1px solid {color};background:none;"
    return (
        f'<div style="white-space:nowrap;line-height:1.2"><span style="display:inline-block;height:.6em;'
        f'box-sizing:border-box;width:{width}px;background:{color};{border}"></span> {value:+.3f}</div>'
    )


def bars_png(title: str, bars: Sequence[Bar], *, legend: tuple[str, str | None]) -> bytes:
    """The same as a PNG of about 640 pixels width.

    Args:
        title: Sentence above it.
        bars: What is shown, first one on top.
        legend: Names of the class and its rival.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = bars[:MOST_BARS]
    figure = Figure(figsize=(6.4, 0.36 * len(shown) + 1.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    has_rival = legend[1] is not None
    places = range(len(shown))
    height = 0.38 if has_rival else 0.6
    own = [row - height / 2 if has_rival else row for row in places]
    axes.barh(own, [bar[1] for bar in shown], height, color=FIRST, label=plain_text(legend[0]))
    if legend[1] is not None:
        theirs = [row + height / 2 for row in places]
        axes.barh(theirs, [bar[2] or 0.0 for bar in shown], height, color=SECOND, label=plain_text(legend[1]))
    axes.set_yticks(
        list(places), [textwrap.shorten(plain_text(bar[0]), 44, placeholder=" …") for bar in shown]
    )
    axes.invert_yaxis()
    axes.axvline(0, color="#767c88", linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8, length=0)
    axes.set_title(textwrap.fill(plain_text(title), 84), fontsize=9, loc="left")
    entries = axes.legend(fontsize=8, frameon=False, loc="lower right")
    for text in (*axes.get_yticklabels(), *entries.get_texts(), axes.title):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
