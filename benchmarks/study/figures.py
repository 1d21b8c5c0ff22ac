"""Figures from the records; colors by Okabe and Ito, which color-blind people can tell apart, and marks."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.study.questions.faithfulness import NUMBERS_REMOVED
from benchmarks.study.records import Record, Table, interval, paired
from benchmarks.study.report import TITLES, arms_of, sets_of, total_seconds, values, write_tables
from benchmarks.study.tables import mean_over_groups

FOLDER = Path(__file__).resolve().parent / "figures"
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
STYLES: dict[str, tuple[str, str, str]] = {
    "category": (BLACK, "o", "-"),
    "property": (RED, "s", "-"),
    "bce": (ORANGE, "D", "--"),
    "property + class": (PINK, "^", "--"),
    "property + class, T 0.5": (PINK, ">", "-"),
    "bce + class": (BLUE, "v", "-"),
    "solved, then property": (RED, "x", ":"),
    "solved, then bce + class": (SKY, "P", "-"),
    "solved, then property + class": (GREEN, "<", "--"),
    "words solved, rest trained": (GREEN, "h", "-"),
    "random codes": ("#777777", "x", ":"),
    "one-hot": ("#777777", "+", "-."),
    "class names": (YELLOW, "*", "-."),
}
CLOSED_STYLES = {"category, closed form": (BLACK, ":"), "property, closed form": (GREEN, "-.")}


def _style_of(arm: str) -> tuple[str, str, str]:
    """Color, mark and line of an arm."""
    if arm in CLOSED_STYLES:
        return CLOSED_STYLES[arm][0], "", CLOSED_STYLES[arm][1]
    return STYLES.get(arm, ("#777777", ".", "-"))


def _style() -> None:
    plt.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.alpha": 0.25, "figure.dpi": 110, "legend.frameon": False, "legend.fontsize": 8}
    )  # fmt: skip


def _save(figure: Figure, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / f"{name}.png", bbox_inches="tight")
    plt.close(figure)


def _grid(number: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Two panels a row for some data sets, and one cell more for the legend."""
    rows = (number + 2) // 2
    figure, panels = plt.subplots(rows, 2, figsize=(2 * width, rows * height), squeeze=False)
    cells = list(panels.flatten())
    for axes in cells[number:]:
        axes.set_axis_off()
    return figure, cells


def _legend(axes: Axes, panels: Sequence[Axes]) -> None:
    """One legend for all panels."""
    found: dict[str, Artist] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found |= dict(zip(labels, handles))
    order = [name for name in (*STYLES, *CLOSED_STYLES) if name in found]
    order += [name for name in found if name not in order]
    axes.legend([found[name] for name in order], order, loc="center left", fontsize=9)


def budget_curves(table: Table) -> None:
    """Mean IoU minus that of the category baseline at the same budget and seed, over the number of steps."""
    sets = sets_of(table)
    figure, panels = _grid(len(sets), 4.6, 3.6)
    for axes, (data, backbone) in zip(panels, sets):
        records = table.find({"data": data, "backbone": backbone})
        steps = sorted({int(str(each["budget"])) for each in records} - {0})
        for arm in [*STYLES, *CLOSED_STYLES]:
            ours = [each for each in records if each["arm"] == arm]
            points = []
            for step in steps:
                now = [each for each in ours if each["budget"] in (step, 0)]
                base = [each for each in records if each["arm"] == "category" and each["budget"] == step]
                mean, half, number = paired(now, base, "miou")
                if number:
                    points.append((step, mean, half if number > 2 else 0.0))
            if points:
                x, mean_, half_ = np.array(points).T
                color, marker, line = _style_of(arm)
                axes.plot(x, mean_, color=color, marker=marker, linestyle=line, label=arm, markersize=5)
                axes.fill_between(x, mean_ - half_, mean_ + half_, color=color, alpha=0.1, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(steps, [str(step) for step in steps])
        axes.minorticks_off()
        axes.set_yscale("symlog", linthresh=0.05)
        axes.set_yticks([-0.4, -0.2, -0.1, -0.05, -0.025, 0, 0.025, 0.05])
        axes.set_yticklabels(["-0.4", "-0.2", "-0.1", "-0.05", "-0.025", "0", "+0.025", "+0.05"])
        axes.set_title(TITLES[data, backbone])
        axes.set_xlabel("steps of 512 pixels")
        axes.set_ylabel("mean IoU minus category's")
    _legend(panels[len(sets)], panels[: len(sets)])
    figure.tight_layout()
    _save(figure, "budgets")


def data_curves(table: Table) -> None:
    """Mean IoU minus that of the category baseline on the same images, over the number of training images."""
    sets = sets_of(table)
    figure, panels = _grid(len(sets), 4.6, 3.4)
    for axes, (data, backbone) in zip(panels, sets):
        records = table.find({"data": data, "backbone": backbone})
        columns = sorted({each["images"] for each in records}, key=lambda each: (isinstance(each, str), each))
        x = range(len(columns))
        base = [e for e in records if e["arm"] == "category"]
        for arm in arms_of(records):
            if arm not in STYLES and arm not in CLOSED_STYLES:
                continue
            gaps = [
                paired([e for e in records if e["arm"] == arm and e["images"] == column],
                       [e for e in base if e["images"] == column], "miou")
                for column in columns
            ]  # fmt: skip
            mean = np.array([each[0] for each in gaps])
            half = np.array([each[1] if each[2] > 2 else 0.0 for each in gaps])
            color, marker, line = _style_of(arm)
            axes.plot(x, mean, color=color, marker=marker, linestyle=line, label=arm, markersize=5)
            axes.fill_between(x, mean - half, mean + half, color=color, alpha=0.12, linewidth=0)
        levels = [np.mean(values([e for e in base if e["images"] == column], "miou")) for column in columns]
        axes.set_xticks(x, [f"{c}\n({level:.2f})" for c, level in zip(columns, levels)])
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_yticks(
            [-0.4, -0.2, -0.1, -0.05, 0, 0.05, 0.1], ["-0.4", "-0.2", "-0.1", "-0.05", "0", "+0.05", "+0.1"]
        )
        axes.minorticks_off()
        axes.set_title(TITLES[data, backbone])
        axes.set_xlabel("training images (category's mean IoU)")
        axes.set_ylabel("mean IoU minus category's")
    _legend(panels[len(sets)], panels[: len(sets)])
    figure.tight_layout()
    _save(figure, "data-efficiency")


def unseen_bars(table: Table) -> None:
    """Seen and unseen mean IoU of arms and controls, with the claim budget."""
    sets = sets_of(table)
    found: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for key in sets:
        records = table.find({"data": key[0], "backbone": key[1]})
        groups = {
            arm: mean_over_groups([e for e in records if e["arm"] == arm], "budget")
            for arm in arms_of(records)
        }
        found[key] = {arm: each for arm, each in groups.items() if each}

    def worth(arm: str) -> float:
        first = next(each[arm] for each in found.values() if arm in each)
        return float(np.mean(values(first, "harmonic")))

    order = sorted({arm for each in found.values() for arm in each}, key=worth)
    figure, panels = plt.subplots(
        1, len(sets), figsize=(2.6 + 2.7 * len(sets), 0.9 + 0.36 * len(order)), squeeze=False, sharey=True
    )
    for axes, key in zip(panels[0], sets):
        for place, arm in enumerate(order):
            each = found[key].get(arm)
            if each is None:
                continue
            is_control = "random" in arm or "shuffled" in arm
            for part, color, shift in (
                ("seen", "#999999", 0.2),
                ("unseen", ORANGE if is_control else BLUE, -0.2),
            ):
                middle, half = interval(values(each, part))
                axes.barh(
                    place + shift, middle, height=0.38, color=color, xerr=np.nan_to_num(half), error_kw={"lw": 0.8},
                    hatch="//" if is_control and part == "unseen" else None,
                )  # fmt: skip
            mean = float(np.mean(values(each, "harmonic")))
            axes.text(1.0, place, f"{mean:.3f}", va="center", ha="right", fontsize=8,
                      transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set_xlim(0, 0.95)
        axes.set_yticks(
            range(len(order)), [f"{a}, then ConSE" if a.startswith("category") else a for a in order]
        )
        axes.set_title(f"{TITLES[key]}\n(right: harmonic mean)", fontsize=9)
        axes.set_xlabel("mean IoU")
        axes.grid(visible=False, axis="y")
    handles = [Patch(color="#999999"), Patch(color=BLUE), Patch(facecolor=ORANGE, hatch="//")]
    figure.legend(handles, ["seen classes", "unseen classes", "unseen classes, control"],
                  loc="upper center", bbox_to_anchor=(0.6, 0.0), ncols=3)  # fmt: skip
    figure.tight_layout()
    _save(figure, "unseen")


def noise_and_corruptions(noise: Table, budgets: Table, corrupted: Table) -> None:
    """Mean IoU with wrong labels (left) and on corrupted images (right), a row per data set."""
    sets = [key for key in sets_of(noise) if key in sets_of(corrupted)]
    figure, panels = plt.subplots(len(sets), 2, figsize=(9, 3.2 * len(sets)), squeeze=False)
    for (left, right), (data, backbone) in zip(panels, sets):
        key: Record = {"data": data, "backbone": backbone}
        for arm in arms_of(noise.find(key)):
            clean = budgets.find({**key, "arm": arm, "budget": 0 if "closed" in arm else 200})
            cells = [values(clean, "miou")] + [
                values(noise.find({**key, "arm": arm, "noise": share}), "miou") for share in (0.1, 0.3)
            ]
            color, marker, line = _style_of(arm)
            means = [np.mean(cell) if cell else np.nan for cell in cells]
            left.plot([0, 10, 30], means, color=color, marker=marker, linestyle=line, label=arm)
        left.set_xticks([0, 10, 30])
        left.set_xlabel("% of training regions with a wrong class")
        left.set_ylabel("mean IoU")
        left.set_title(TITLES[data, backbone])
        for arm in arms_of(corrupted.find(key)):
            ours = corrupted.find({**key, "arm": arm})
            cells = [values(ours, "clean")] + [
                [v for kind in ("noise", "blur", "fog", "jpeg") for v in values(ours, f"{kind} {strength}")]
                for strength in (1, 2, 3)
            ]
            color, marker, line = _style_of(arm)
            means = [np.mean(cell) for cell in cells]
            right.plot(range(4), means, color=color, marker=marker, linestyle=line, label=arm)
        right.set_xticks(range(4), ["clean", "1", "2", "3"])
        right.set_xlabel("strength; mean of noise, blur, fog, JPEG")
        right.set_title(f"{TITLES[data, backbone]}, 60 test images")
    panels[0][1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    _save(figure, "noise-and-corruptions")


def faithfulness_curves(table: Table) -> None:
    """Share of the margin that is left over the number of removed properties."""
    sets = sets_of(table)
    figure, panels = plt.subplots(
        1, len(sets), figsize=(2 + 3.4 * len(sets), 3.6), squeeze=False, sharey=True
    )
    for axes, (data, backbone) in zip(panels[0], sets):
        records = table.find({"data": data, "backbone": backbone})
        for arm, color in (("property, closed form", GREEN), ("bce + class", BLUE), ("property", RED)):
            ours = [each for each in records if each["arm"] == arm]
            if not ours:
                continue
            for kind, line in (("decisive", "-"), ("strongest", "--"), ("random", ":")):
                means = [1.0, *(float(np.mean(values(ours, f"left, {kind} {n}"))) for n in NUMBERS_REMOVED)]
                axes.plot([0, *NUMBERS_REMOVED], means, color=color, linestyle=line, marker="o", markersize=3,
                          label=f"{arm}: {kind}")  # fmt: skip
        axes.axhline(0, color=BLACK, linewidth=0.6)
        axes.set_title(TITLES[data, backbone])
        axes.set_xlabel("properties of the winning class removed")
        axes.set_ylabel("share of the margin that is left")
    panels[0][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    _save(figure, "faithfulness")


def true_property_bars(table: Table) -> None:
    """Average precision of property maps on the drawn scenes."""
    sets = sets_of(table)
    figure, panels = plt.subplots(1, len(sets), figsize=(7.5 * len(sets), 3.2), squeeze=False, sharey=True)
    for axes, (data, backbone) in zip(panels[0], sets):
        records = table.find({"data": data, "backbone": backbone})
        arms = arms_of(records)
        for place, arm in enumerate(arms):
            ours = [each for each in records if each["arm"] == arm]
            for measure, color, shift in (
                ("ap, seen classes", BLUE, 0.2),
                ("own before other, unseen class", ORANGE, -0.2),
            ):
                mean, half = interval(values(ours, measure))
                axes.barh(place + shift, mean, height=0.38, color=color, xerr=np.nan_to_num(half), error_kw={"lw": 0.8},
                          label=measure if place == 0 else None)  # fmt: skip
        axes.axvline(
            float(np.mean(values(records, "ap, chance"))), color=BLUE, linestyle=":", label="AP by chance"
        )
        axes.axvline(0.5, color=ORANGE, linestyle=":", label="order by chance")
        axes.set_yticks(range(len(arms)), arms)
        axes.set_title(TITLES[data, backbone])
        axes.grid(visible=False, axis="y")
    panels[0][-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    _save(figure, "true-properties")


def calibration_bars(table: Table) -> None:
    """ECE before and after a fitted temperature, longest budget."""
    key = {"data": "msrc-v2", "backbone": "efficientnet-lite0"}
    records = table.find(key)
    longest = max(int(str(each["budget"])) for each in records)
    wanted = ("category", "class names", "property", "bce", "bce + class", "solved, then bce + class",
              "words solved, rest trained", "category, closed form", "property, closed form")  # fmt: skip
    there = {each["arm"] for each in records if each["budget"] in (0, longest)}
    chosen = [arm for arm in wanted if arm in there]
    figure, axes = plt.subplots(figsize=(6, 3))
    for place, arm in enumerate(chosen):
        ours = [each for each in records if each["arm"] == arm and each["budget"] in (0, longest)]
        for measure, color, shift in (("ece", "#999999", 0.2), ("ece_fitted", BLUE, -0.2)):
            mean, _ = interval(values(ours, measure))
            label = {"ece": "as delivered", "ece_fitted": "fitted temperature"}[measure]
            axes.barh(
                place + shift, mean, height=0.38, color=color, 
                label=None if place else label,
            )  # fmt: skip
            axes.text(mean + 0.01, place + shift, f"{mean:.3f}", va="center", fontsize=7)
    axes.set_yticks(range(len(chosen)), chosen)
    axes.set_xlabel("expected calibration error")
    axes.set_title(f"{TITLES['msrc-v2', 'efficientnet-lite0']}, {longest} steps")
    axes.grid(visible=False, axis="y")
    axes.legend()
    _save(figure, "calibration")


def confusion_matrix(table: Table) -> None:
    """Shares of confused classes of one arm, classes in the order in which their rows are alike."""
    for record in table.records:
        counts, names, order = (np.array(record[name]) for name in ("confusion", "class_names", "order"))
        counts = counts[order][:, order]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
        figure, axes = plt.subplots(figsize=(6.2, 5.4))
        image = axes.imshow(np.sqrt(shares), cmap="cividis", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names[order], rotation=90)
        axes.set_yticks(range(len(names)), names[order])
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.grid(visible=False)
        for i, j in np.argwhere(shares >= 0.05):
            axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=6,
                      color="black" if shares[i, j] > 0.3 else "white")  # fmt: skip
        bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=np.sqrt([0, 0.05, 0.25, 0.5, 1]))
        bar.ax.set_yticklabels(["0", "5 %", "25 %", "50 %", "100 %"])
        axes.set_title(f"{TITLES[str(record['data']), str(record['backbone'])]}: {record['arm']}", fontsize=9)
        _save(figure, f"confusion-{record['data']}")


def draw_all(results: Path) -> None:
    """Every figure whose table is there, and the tables of README.md."""
    _style()
    tables = {path.stem: Table(path.stem, results) for path in results.glob("*.json")}

    def there(*names: str) -> bool:
        return all(name in tables and tables[name].records for name in names)

    if there("budgets"):
        budget_curves(tables["budgets"])
        calibration_bars(tables["budgets"])
    if there("data-efficiency"):
        data_curves(tables["data-efficiency"])
    if there("unseen"):
        unseen_bars(tables["unseen"])
    if there("budgets", "label-noise", "corruptions"):
        noise_and_corruptions(tables["label-noise"], tables["budgets"], tables["corruptions"])
    if there("faithfulness"):
        faithfulness_curves(tables["faithfulness"])
    if there("true-properties"):
        true_property_bars(tables["true-properties"])
    if there("confusion"):
        confusion_matrix(tables["confusion"])
    write_tables(results)
    seconds = total_seconds(results)
    print(
        {name: round(value) for name, value in seconds.items()},
        f"together {sum(seconds.values()) / 60:.0f} min of CPU",
    )


__all__ = ["Record", "draw_all"]
