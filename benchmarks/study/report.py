"""Markdown tables from the records, written into README.md between their marks."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.study.heads import ARMS
from benchmarks.study.records import Record, Table, Value, interval, paired
from benchmarks.study.tables import SPACE_ARMS, mean_over_groups

README = Path(__file__).resolve().parent / "README.md"
SETS = (
    ("msrc-v2", "efficientnet-lite0"),
    ("camvid", "efficientnet-lite0"),
    ("msrc-v2", "dinov2-small"),
    ("camvid", "dinov2-small"),
)
TITLES = {
    ("msrc-v2", "efficientnet-lite0"): "MSRC-v2, EfficientNet-Lite0",
    ("camvid", "efficientnet-lite0"): "CamVid, EfficientNet-Lite0",
    ("msrc-v2", "dinov2-small"): "MSRC-v2, DINOv2-small",
    ("camvid", "dinov2-small"): "CamVid, DINOv2-small",
    ("scenes", "efficientnet-lite0"): "drawn scenes, EfficientNet-Lite0",
    ("scenes", "colors"): "drawn scenes, color features",
}


def arms_of(records: Sequence[Record]) -> list[str]:
    """Names of the arms in the order of `ARMS`, others behind them."""
    found = dict.fromkeys(str(each["arm"]) for each in records)
    return [arm for arm in ARMS if arm in found] + [arm for arm in found if arm not in ARMS]


def sets_of(table: Table) -> list[tuple[str, str]]:
    """Data and backbone of the records."""
    return list(dict.fromkeys((str(each["data"]), str(each.get("backbone", ""))) for each in table.records))


def with_interval(values: Sequence[float], digits: int = 3) -> str:
    """`0.712 ± 0.010`, or `0.712 (1)` for a single seed."""
    if not len(values):
        return "–"
    mean, half = interval(values)
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if np.isfinite(half) else " (1)")


def difference(ours: Sequence[Record], theirs: Sequence[Record], measure: str) -> str:
    """Paired difference with its interval; bold where the interval leaves out 0."""
    mean, half, number = paired(ours, theirs, measure)
    if not number:
        return "–"
    text = f"{mean:+.3f}" + (f" ± {half:.3f}" if np.isfinite(half) else " (1)")
    return f"**{text}**" if np.isfinite(half) and abs(mean) > half else text


def seeds_of(records: Sequence[Record]) -> str:
    """`5 seeds`, or `3 to 5 seeds` where arms differ; arms with one seed say so in their cells."""
    numbers = {len({each["seed"] for each in records if each["arm"] == arm}) for arm in arms_of(records)}
    numbers = {number for number in numbers if number > 1} or {1}
    if numbers == {1}:
        return "1 seed"
    return " to ".join(str(number) for number in sorted({min(numbers), max(numbers)})) + " seeds"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def values(records: Sequence[Record], measure: str) -> list[float]:
    """A figure of every record that has it."""
    return [float(str(each[measure])) for each in records if each.get(measure) is not None]


def _by_column(
    table: Table,
    column: str,
    measure: str,
    baseline: str = "category",
    wanted: Sequence[tuple[str, str]] = SETS,
) -> str:
    """Rows: arms. Columns: values of a key. Cells: mean, and the paired difference to the baseline."""
    parts = []
    for data, backbone in wanted:
        records = table.find({"data": data, "backbone": backbone})
        if not records:
            continue
        columns = list(dict.fromkeys(each.get(column) for each in records))
        rows = []
        for arm in arms_of(records):
            row = [arm]
            for value in columns:
                ours = [each for each in records if each["arm"] == arm and each.get(column) == value]
                theirs = [each for each in records if each["arm"] == baseline and each.get(column) == value]
                cell = with_interval(values(ours, measure)) if ours else "–"
                if ours and arm != baseline and theirs:
                    cell += f" ({difference(ours, theirs, measure)})"
                row.append(cell)
            rows.append(row)
        header = ["arm", *(f"{column} {value}" for value in columns)]
        parts.append(f"*{TITLES[data, backbone]}*, {seeds_of(records)}\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def temperatures(table: Table) -> str:
    """Mean IoU over T of the property scores, with the paired difference to the published 0.04."""
    parts = []
    for data, backbone in sets_of(table):
        records = table.find({"data": data, "backbone": backbone})
        columns = sorted({float(str(each["property_temperature"])) for each in records})
        rows = []
        for arm in arms_of(records):
            ours = {
                t: [e for e in records if e["arm"] == arm and e["property_temperature"] == t] for t in columns
            }
            row = [arm]
            for t, some in ours.items():
                gap = f" ({difference(some, ours[0.04], 'miou')})" if t != 0.04 else ""
                row.append(with_interval(values(some, "miou")) + gap)
            rows.append(row)
        header = ["arm", *(f"T {t:g}" for t in columns)]
        parts.append(f"*{TITLES[data, backbone]}*, {seeds_of(records)}\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def budgets(table: Table) -> str:
    """Mean IoU after 50, 200, 1,000 steps; closed form beside it."""
    parts = []
    for data, backbone in SETS:
        records = table.find({"data": data, "backbone": backbone})
        if not records:
            continue
        steps = sorted({int(str(each["budget"])) for each in records} - {0})
        rows = []
        for arm in arms_of(records):
            ours = [each for each in records if each["arm"] == arm]
            if ours[0]["budget"] == 0:
                closed = with_interval(values(ours, "miou"))
                gaps = [difference(ours, _at(records, "category", step), "miou") for step in steps]
                rows.append([arm, *(f"{closed} ({gap})" for gap in gaps)])
                continue
            row = [arm]
            for step in steps:
                now = _at(records, arm, step)
                cell = with_interval(values(now, "miou"))
                if arm != "category" and now:
                    cell += f" ({difference(now, _at(records, 'category', step), 'miou')})"
                row.append(cell)
            rows.append(row)
        title = f"*{TITLES[data, backbone]}*, {seeds_of(records)}"
        parts.append(f"{title}\n\n{markdown(['arm', *(f'{step} steps' for step in steps)], rows)}")
    return "\n\n".join(parts)


def _at(records: Sequence[Record], arm: str, budget: int) -> list[Record]:
    return [each for each in records if each["arm"] == arm and each["budget"] == budget]


def calibration(table: Table) -> str:
    """ECE and severity of mistakes at the longest budget."""
    parts = []
    for data, backbone in SETS:
        records = table.find({"data": data, "backbone": backbone})
        if not records:
            continue
        longest = max(int(str(each["budget"])) for each in records)
        rows = []
        base = _at(records, "category", longest)
        for arm in arms_of(records):
            ours = _at(records, arm, longest) or _at(records, arm, 0)
            if not ours:
                continue
            measures = ("ece", "ece_fitted", "mistakes", "mistakes_by_class")
            cells = [with_interval(values(ours, measure)) for measure in measures]
            rows.append([arm, *cells, difference(ours, base, "mistakes") if arm != "category" else ""])
        header = ["arm", "ECE as delivered", "ECE, fitted temperature", "similarity of mistakes",
                  "the same, classes alike", "difference to category"]  # fmt: skip
        parts.append(f"*{TITLES[data, backbone]}*, {longest} steps\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


UNSEEN_REFERENCE = "property, closed form"


def unseen(table: Table) -> str:
    """Seen, unseen and harmonic mean over the groups of unseen classes."""
    parts = []
    for data, backbone in SETS:
        records = [each for each in table.find({"data": data, "backbone": backbone}) if "space" not in each]
        if not records:
            continue
        best: list[tuple[float, list[str]]] = []
        reference = mean_over_groups([e for e in records if e["arm"] == UNSEEN_REFERENCE], "budget")
        for arm in arms_of(records):
            some = [each for each in records if each["arm"] == arm]
            with_budget, without = mean_over_groups(some, "budget"), mean_over_groups(some, "no budget")
            if not with_budget:
                continue
            name = f"{arm}, then ConSE" if arm.startswith("category") else arm
            figures = [with_interval(values(with_budget, part)) for part in ("seen", "unseen", "harmonic")]
            gap = difference(with_budget, reference, "harmonic") if arm != UNSEEN_REFERENCE else ""
            row = [name, *figures, gap, with_interval(values(without, "harmonic"))]
            best.append((float(np.mean(values(with_budget, "harmonic"))), row))
        header = [
            "arm",
            "seen",
            "unseen",
            "harmonic mean",
            f"difference to {UNSEEN_REFERENCE}",
            "harmonic mean, no budget",
        ]
        best.sort(key=lambda each: -each[0])
        title = f"*{TITLES[data, backbone]}*, {seeds_of(records)}"
        parts.append(f"{title}\n\n{markdown(header, [row for _, row in best])}")
    return "\n\n".join(parts)


def faithfulness(table: Table) -> str:
    """Share of the margin that is left, and of pixels that change their class."""
    parts = []
    for data, backbone in sets_of(table):
        records = table.find({"data": data, "backbone": backbone})
        rows = []
        for arm in arms_of(records):
            ours = [each for each in records if each["arm"] == arm]
            row = [arm]
            for number in (1, 3, 5):
                left = [with_interval(values(ours, f"left, {kind} {number}"), 2) for kind in KINDS]
                row.append(" / ".join(left))
            changed = [with_interval(values(ours, f"changed, {kind} 3"), 2) for kind in KINDS]
            rows.append([*row, " / ".join(changed)])
        header = ["arm", "margin left without 1", "without 3", "without 5", "pixels that change without 3"]
        title = f"*{TITLES[data, backbone]}*, {seeds_of(records)}: {' / '.join(KINDS)}"
        parts.append(f"{title}\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


KINDS = ("decisive", "strongest", "random")


def plain(table: Table, measures: Sequence[str], compared: str = "") -> str:
    """Some figures of every arm; one of them with its paired difference to the category baseline."""
    parts = []
    for data, backbone in sets_of(table):
        records = table.find({"data": data, "backbone": backbone} if backbone else {"data": data})
        base = [each for each in records if each["arm"] == "category"]
        rows = []
        for arm in arms_of(records):
            ours = [each for each in records if each["arm"] == arm]
            row = [arm]
            for measure in measures:
                cell = with_interval(values(ours, measure))
                if measure == compared and base and arm != "category":
                    cell += f" ({difference(ours, base, measure)})"
                row.append(cell)
            rows.append(row)
        title = f"*{TITLES.get((data, backbone), data)}*, {seeds_of(records)}"
        parts.append(f"{title}\n\n{markdown(['arm', *measures], rows)}")
    return "\n\n".join(parts)


def spaces(table: Table) -> str:
    """Mean IoU with all classes trained and harmonic mean with unseen ones, for every space."""
    parts = []
    for data, backbone in sets_of(table):
        records = table.find({"data": data, "backbone": backbone})
        rows = []
        for space in dict.fromkeys(str(each["space"]) for each in records):
            some = [each for each in records if each["space"] == space]
            row = [space, str(some[0].get("properties", ""))]
            for arm in SPACE_ARMS:
                ours = [each for each in some if each["arm"] == arm]
                everything = [each for each in ours if not each["held_out"]]
                groups = [each for each in ours if each["held_out"]]
                if arm != SPACE_ARMS[-1]:  # alike where all classes are trained
                    row.append(with_interval(values(everything, "miou")))
                row.append(
                    with_interval(values(mean_over_groups(groups, "budget"), "harmonic")) if groups else "–"
                )
            rows.append(row)
        header = [
            "space",
            "properties",
            "closed form: mIoU",
            "harmonic mean",
            "bce + class: mIoU",
            "harmonic mean",
            "words solved, rest trained: mIoU",
            "harmonic mean",
            "one norm: harmonic mean",
        ]
        parts.append(f"*{TITLES[data, backbone]}*, {seeds_of(records)}\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def fine_tuned(table: Table) -> str:
    """Whole networks at short budgets."""
    parts = []
    for data in dict.fromkeys(str(each["data"]) for each in table.records):
        records = table.find({"data": data})
        steps = sorted({int(str(each["steps"])) for each in records})
        rows = []
        for arm in arms_of(records):
            for measure in ("miou", "miou, then solved"):
                ours = {
                    step: [e for e in records if e["arm"] == arm and e["steps"] == step] for step in steps
                }
                if not any(values(some, measure) for some in ours.values()):
                    continue
                row = [arm + (", then solved" if measure != "miou" else "")]
                for step in steps:
                    base = [each for each in records if each["arm"] == "category" and each["steps"] == step]
                    now: list[Record] = [{**each, "miou": each.get(measure)} for each in ours[step]]
                    cell = with_interval(values(now, "miou"))
                    rows_differ = arm != "category" and base
                    row.append(cell + (f" ({difference(now, base, 'miou')})" if rows_differ else ""))
                rows.append(row)
        table_ = markdown(["arm", *(f"{step} steps" for step in steps)], rows)
        parts.append(f"*{data}*, {seeds_of(records)}\n\n{table_}")
    return "\n\n".join(parts)


def graying(table: Table) -> str:
    """Margin that is left; the gap with its interval over images, the mean of both over the seeds."""
    rows = []
    for share in (10, 20, 40):
        first, second = (with_interval(values(table.records, f"left, {kind} {share}")) for kind in GRAYED)
        gap, half = (float(np.mean(values(table.records, f"gap {share}{end}"))) for end in ("", ", half"))
        more = float(np.mean(values(table.records, f"images where evidence counts more, {share}")))
        rows.append([f"{share} %", first, second, f"{gap:+.3f} ± {half:.3f}", f"{100 * more:.0f} %"])
    header = ["share of blocks", "left, evidence gray", "left, random blocks gray", "gap, over images",
              "images where evidence counts more"]  # fmt: skip
    images = table.records[0]["images"]
    return f"*everyday model*, {images} images, {seeds_of(table.records)}\n\n{markdown(header, rows)}"


GRAYED = ("evidence", "random")
CORRUPTED = ("clean", "mean corrupted", "noise 3", "blur 3", "fog 3", "jpeg 3")
TRUE = (
    "ap, seen classes",
    "ap, chance",
    "ap of the unseen class's properties, all pixels",
    "own before other, seen classes",
    "own before other, unseen class",
)
WRITERS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "budgets": ("budgets", budgets),
    "hidden-layer": ("hidden-layer", budgets),
    "calibration": ("budgets", calibration),
    "data-efficiency": ("data-efficiency", lambda table: _by_column(table, "images", "miou")),
    "label-noise": ("label-noise", lambda table: _by_column(table, "noise", "miou")),
    "temperatures": ("temperatures", temperatures),
    "unseen": ("unseen", unseen),
    "corruptions": ("corruptions", lambda table: plain(table, CORRUPTED, "mean corrupted")),
    "faithfulness": ("faithfulness", faithfulness),
    "graying": ("graying", graying),
    "true-properties": ("true-properties", lambda table: plain(table, TRUE)),
    "spaces": ("spaces", spaces),
    "fine-tuned": ("fine-tuned", fine_tuned),
}


def write_tables(results: Path, readme: Path = README) -> None:
    """Replaces what stands between `<!-- table NAME -->` and `<!-- end -->`."""
    text = readme.read_text("utf-8")
    for name, (source, write) in WRITERS.items():
        table = Table(source, results)
        body = write(table) if table.records else "Not measured."
        pattern = re.compile(rf"(<!-- table {re.escape(name)} -->\n)(?:(?!<!-- ).)*(<!-- end -->)", re.DOTALL)
        text = pattern.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text)  # type: ignore[misc]
    readme.write_text(text, "utf-8")


def total_seconds(results: Path) -> dict[str, float]:
    """CPU seconds of all records, by table."""
    found: dict[str, float] = {}
    for path in sorted(results.glob("*.json")):
        seconds: list[Value] = [each.get("cpu_seconds") for each in Table(path.stem, results).records]
        found[path.stem] = sum(float(str(each)) for each in seconds if each is not None)
    return found
