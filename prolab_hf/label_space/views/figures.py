"""Images of a property space: the matrix ordered by similarity, tree of classes, map of properties."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prolab_hf.label_space.space_content import SpaceContent
from prolab_hf.label_space.views.layout import SpaceLayout, lay_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The first seven are Paul Tol's bright scheme, made for color-blind readers; the last is for what is left over.
PALETTE = (
    "#4477AA",
    "#EE6677",
    "#228833",
    "#CCBB44",
    "#66CCEE",
    "#AA3377",
    "#EE8866",
    "#44BB99",
    "#8877CC",
    "#B07A3E",
    "#D687B5",
    "#1B7F8C",
    "#7A9A01",
    "#C1440E",
    "#5B5EA6",
    "#E3A72F",
    "#3C4F76",
    "#8A8F98",
)
INK = "#23272e"
FAINT = "#e9ecf1"
_MAX_ROWS = 400


def _new_figure(width: float, height: float) -> "Figure":
    # The Figure class alone never opens a window and leaves the user's backend as it is.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, facecolor="white", layout="constrained")


def _plain(text: str, length: int = 34) -> str:
    """Text for matplotlib: short, and without the dollar signs that would start a formula."""
    short = text if len(text) <= length else text[: length - 1].rstrip() + "…"
    return short.replace("$", r"\$")


def matrix_figure(space: SpaceContent, layout: SpaceLayout | None = None) -> "Figure":
    """The class-property matrix with similar classes side by side, colored by group.

    Args:
        space: The space.
        layout: Shared positions.
    """
    from matplotlib.colors import ListedColormap

    layout = layout or lay_out(space)
    rows = layout.class_order[:_MAX_ROWS]
    matrix = space.class_property_matrix.numpy()[rows][:, layout.property_order].astype(int)
    colored = matrix * (layout.class_groups[rows][:, None] + 1)
    height = max(4.5, 0.165 * len(rows) + 2.4)
    figure = _new_figure(max(8.0, min(22.0, 0.062 * matrix.shape[1] + 4.5)), height)
    axes = figure.subplots()
    colors = ListedColormap(["#f6f7f9", *PALETTE])
    axes.pcolormesh(colored, cmap=colors, vmin=0, vmax=len(PALETTE), edgecolors="white", linewidth=0.35)
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(rows)) + 0.5, [_plain(space.class_names[row], 24) for row in rows])
    axes.tick_params(axis="y", labelsize=9, length=0, labelcolor=INK)
    _property_axis(axes, space, layout)
    for spine in axes.spines.values():
        spine.set_visible(False)
    density = 100 * float(space.class_property_matrix.mean())
    _title(
        axes,
        space,
        f"{space.num_classes} classes x {space.num_properties} properties, {density:.1f} % filled",
    )
    if len(rows) < space.num_classes:
        axes.set_xlabel(f"first {len(rows)} of {space.num_classes} classes", color=INK)
    return figure


def _property_axis(axes: "Axes", space: SpaceContent, layout: SpaceLayout) -> None:
    """Property names where they fit, else a count of the columns."""
    if space.num_properties <= 64:
        names = [_plain(space.property_names[index]) for index in layout.property_order]
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
        axes.tick_params(axis="x", labelsize=8.5, length=0, labelcolor=INK)
    else:
        axes.set_xticks([])
        axes.set_xlabel("properties, in the order of the classes that have them", color=INK, fontsize=11)


def _title(axes: "Axes", space: SpaceContent, text: str) -> None:
    axes.set_title(_plain(space.name or "Property space", 60), loc="left", fontsize=17, color=INK, pad=24)
    axes.text(
        0, 1.0, text, transform=axes.transAxes, fontsize=11, color="#6b7280", va="bottom", clip_on=False
    )


def dendrogram_figure(space: SpaceContent, layout: SpaceLayout | None = None) -> "Figure":
    """The tree of classes by similarity of their rows, branches colored by group.

    Args:
        space: A space of at least two classes.
        layout: Shared positions.

    Raises:
        ValueError: There is only one class.
    """
    from scipy.cluster.hierarchy import dendrogram

    layout = layout or lay_out(space)
    if layout.linkage is None:
        raise ValueError("A tree needs at least two classes.")
    colors = _branch_colors(layout)
    count = space.num_classes
    figure = _new_figure(9.5, max(3.5, 0.175 * count + 1.6))
    axes = figure.subplots()
    tree = dendrogram(
        layout.linkage, orientation="left", ax=axes, no_labels=True, link_color_func=lambda node: colors[node]
    )
    for collection in axes.collections:
        collection.set_linewidth(1.5)
    # scipy puts leaf i at 10 i + 5.
    axes.set_yticks(
        10 * np.arange(count) + 5, [_plain(space.class_names[leaf], 28) for leaf in tree["leaves"]]
    )
    axes.tick_params(axis="y", labelsize=9, length=0)
    axes.yaxis.tick_right()
    for label, leaf in zip(axes.get_yticklabels(), tree["leaves"]):
        label.set_color(PALETTE[layout.class_groups[leaf] % len(PALETTE)])
    axes.invert_yaxis()
    axes.set_xlabel("1 - cosine of the rows (left: nothing in common)", color=INK)
    axes.tick_params(axis="x", labelcolor=INK, color=FAINT)
    axes.grid(axis="x", color=FAINT)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _title(axes, space, "classes by what they have in common")
    return figure


def _branch_colors(layout: SpaceLayout) -> dict[int, str]:
    """Color of every inner node: its group's where all leaves agree, gray above."""
    count = len(layout.class_groups)
    group: dict[int, int] = dict(enumerate(layout.class_groups.tolist()))
    colors = {}
    for step, (left, right) in enumerate(np.asarray(layout.linkage)[:, :2].astype(int).tolist()):
        same = group[left] == group[right]
        group[count + step] = group[left] if same else -1
        shared = group[count + step]
        colors[count + step] = PALETTE[shared % len(PALETTE)] if shared >= 0 else "#b6bcc6"
    return colors


def map_figure(space: SpaceContent, layout: SpaceLayout | None = None, max_labels: int = 110) -> "Figure":
    """The properties in two dimensions: near means similar in words, large means shared by many classes.

    Args:
        space: The space.
        layout: Shared positions.
        max_labels: How many names to try to place.
    """
    layout = layout or lay_out(space)
    counts = space.class_property_matrix.sum(dim=0).numpy()
    figure = _new_figure(14, 10.5)
    axes = figure.subplots()
    x, y = layout.property_positions.T
    colors = [PALETTE[group % len(PALETTE)] for group in layout.property_groups]
    axes.scatter(x, y, s=30 + 26 * counts, c=colors, alpha=0.72, linewidths=1.0, edgecolors="white")
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.04, 1.04)
    axes.set_axis_off()
    _title(
        axes,
        space,
        "properties: near = similar words, large = many classes, color = classes that use it most",
    )
    handles = [
        axes.scatter([], [], s=90, c=PALETTE[index % len(PALETTE)], label=_plain(name, 44))
        for index, name in enumerate(layout.group_names)
        if (layout.property_groups == index).any()
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False, fontsize=10
    )
    _place_labels(figure, axes, space, layout, np.argsort(-counts, kind="stable")[:max_labels])
    return figure


def _place_labels(
    figure: "Figure", axes: "Axes", space: SpaceContent, layout: SpaceLayout, wanted: np.ndarray
) -> None:
    """Writes names beside their dots, most shared first, leaving out those that would cover another."""
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()
    halo = [withStroke(linewidth=2.5, foreground="white")]
    taken: list[Any] = []
    beside = ((9, 0, "left", "center"), (-9, 0, "right", "center"))
    offsets = ((0, 9, "center", "bottom"), (0, -9, "center", "top"), *beside)
    for index in wanted.tolist():
        for dx, dy, horizontal, vertical in offsets:
            label = axes.annotate(
                _plain(space.property_names[index], 30),
                layout.property_positions[index],
                xytext=(dx, dy),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=9.5,
                color=INK,
                path_effects=halo,
            )
            # Names that took part in the layout would move the dots they belong to.
            label.set_in_layout(False)
            box = label.get_window_extent().expanded(1.02, 1.1)
            outside = box.x0 < 0 or box.x1 > figure.bbox.x1
            if outside or any(box.overlaps(other) for other in taken):
                label.remove()
                continue
            taken.append(box)
            break


def save_figures(
    space: SpaceContent, folder: str | Path, *, taxonomy: Mapping[str, str] | None = None
) -> list[Path]:
    """Writes `matrix.png`, `dendrogram.png` (two classes or more) and `map.png`.

    Args:
        space: The space.
        folder: Where to write; made if absent.
        taxonomy: Class name -> super-category, for the colors.

    Returns:
        The files written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    layout = lay_out(space, taxonomy)
    figures = {"matrix.png": matrix_figure(space, layout), "map.png": map_figure(space, layout)}
    if space.num_classes > 1:
        figures["dendrogram.png"] = dendrogram_figure(space, layout)
    paths = []
    for name, figure in figures.items():
        figure.savefig(target / name)
        paths.append(target / name)
    return sorted(paths)
