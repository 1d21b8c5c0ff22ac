"""Results for the terminal: a table made from the dictionary that is also written as JSON."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

_COLUMNS = {
    "iou": "IoU",
    "accuracy": "accuracy",
    "precision": "precision",
    "boundary_iou": "boundary IoU",
    "share_of_pixels": "pixels",
}
_MEANS = {
    "mean_iou": "mean IoU",
    "mean_boundary_iou": "mean boundary IoU",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "mean_accuracy": "mean accuracy",
    "pixel_accuracy": "pixel accuracy",
}


def class_table(results: Mapping[str, Any], *, title: str | None = None) -> Table:
    """Per-class table with the means below, ready for `rich.console.Console.print`.

    Args:
        results: Dictionary from `SegmentationScores.to_dict` or `evaluate` (or read back from its
            JSON file).
        title: Line above the table.
    """
    table = Table(title=title, title_justify="left", caption=_caption(results), caption_justify="left")
    table.add_column("class", overflow="fold")
    shown = [key for key in _COLUMNS if key in results["per_class"][0]]
    for key in shown:
        table.add_column(_COLUMNS[key], justify="right")
    for row in results["per_class"]:
        # Text, not str: a class name such as "[red]" is a name, not markup.
        table.add_row(Text(row["name"]), *(_percent(row[key]) for key in shown))
    return table


def means_table(results: Mapping[str, Any]) -> Table:
    """The summary figures of a run, one per line."""
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for key, label in _MEANS.items():
        if key in results:
            table.add_row(label, _percent(results[key]))
    return table


def _caption(results: Mapping[str, Any]) -> str:
    averaged = "present in truth or prediction" if results["average"] == "union" else "present in the truth"
    images, pixels = results["num_images"], results["num_pixels"]
    unit = "image" if images == 1 else "images"
    return f"{images:,} {unit}, {pixels:,} labeled pixels; means over the classes {averaged}."


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
