"""`prolab check-data`: look at images and masks before a training run does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from prolab_hf.cli.data_options import (
    DATA_HELP,
    CodingOption,
    ImageColumnOption,
    ImagesFolderOption,
    MaskColumnOption,
    MasksFolderOption,
    MaskSuffixOption,
)
from prolab_hf.cli.options import ChannelsOption, ValueRangeOption, read_value_range

# The command imports what it needs when it runs, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from prolab_hf.data.data_report import DataReport

_SHOWN_RAW_IDS = 40
_SHOWN_SIZES = 5


def check_data(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    split: Annotated[
        str | None, typer.Option(help="Name of the split; all that a folder holds if left out.")
    ] = None,
    coding: CodingOption = "ids",
    space: Annotated[str | None, typer.Option(help="Property space whose classes the masks hold.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names in order: a file with one a line, or a,b,c.")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="Number of classes, without names.")] = None,
    image_column: ImageColumnOption = None,
    mask_column: MaskColumnOption = None,
    images: ImagesFolderOption = "images",
    masks: MasksFolderOption = "masks",
    mask_suffix: MaskSuffixOption = "",
    value_range: ValueRangeOption = None,
    channels: ChannelsOption = 3,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Look only at the first images.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report to this JSON file.")
    ] = None,
) -> None:
    """Check images and masks: ids, modes, sizes, void share, share per class, and all that is wrong.

    Without --split, all splits that a folder holds are checked, one after the other. Ends with exit code 2 if an
    image cannot be read, a label is outside the class space, or the labels can teach nothing.
    """
    from prolab_hf.data.source_from_name import list_splits
    from prolab_hf.files import write_json

    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {json_file.resolve().parent} to write {json_file.name} into."
        )
    opening = {
        "coding": coding,
        "class_names": _class_names(space, classes),
        "num_classes": num_classes,
        "image_column": image_column,
        "mask_column": mask_column,
        "folders": (images, masks),
        "mask_suffix": mask_suffix,
        "value_range": read_value_range(value_range),
        "num_channels": channels,
    }
    found = [] if split is not None else list_splits(data, folders=(images, masks))
    splits: list[str | None] = [*found] or [split]
    reports = {name: _check(data, name, opening, workers, limit) for name in splits}
    contents = {name or data: report.to_dict() for name, report in reports.items()}
    if json_file is not None:
        content = {"splits": contents} if len(contents) > 1 else next(iter(contents.values()))
        write_json(json_file, content, indent=1)
    for name, report in reports.items():
        print_report(Console(), report, split=name if len(reports) > 1 else None)
    problems = [problem for report in reports.values() for problem in report.problems]
    if problems:
        raise ValueError(
            f"{len(problems)} of {sum(report.num_images for report in reports.values())} images have "
            f"problems; the first: {problems[0].message}"
        )
    for name, report in reports.items():
        error = report.label_findings().error
        if error is not None:
            raise ValueError(error if name is None else f"Split {name}: {error}")


def _check(
    data: str, split: str | None, opening: dict[str, Any], workers: int, limit: int | None
) -> "DataReport":
    """The report of one split, with a progress bar while it is read."""
    from prolab_hf.data.data_report import check_source
    from prolab_hf.data.source_from_name import open_source

    source = open_source(data, split, **opening)
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        total = len(source) if limit is None else min(limit, len(source))
        task = progress.add_task(f"Reading {split or 'images'}", total=total)
        return check_source(
            source,
            workers=workers,
            limit=limit,
            on_progress=lambda done: progress.update(task, completed=done),
        )


def _class_names(space: str | None, classes: str | None) -> list[str] | None:
    if space is not None and classes is not None:
        raise ValueError("Give --space or --classes, not both.")
    if space is not None:
        from prolab_hf.label_space.property_space import PropertySpace

        return list(PropertySpace.from_pretrained(space).class_names)
    if classes is None:
        return None
    from prolab_hf.data.class_matching import class_names_from_lines, read_class_names

    if Path(classes).is_file():
        return read_class_names(classes)
    return class_names_from_lines(classes.split(","), "--classes")


def print_report(
    console: Console, report: "DataReport", *, split: str | None = None, most_problems: int = 20
) -> None:
    """Print a data report as tables.

    Args:
        console: Where to print.
        report: The report.
        split: Name of the split, for the title.
        most_problems: Problems to list.
    """
    title = f"{report.num_images} images" + (f" of the split {escape(split)}" if split else "")
    facts = Table("figure", "value", title=title)
    sizes = [f"{w}x{h} ({n})" for (w, h), n in report.sizes.most_common(_SHOWN_SIZES)]
    if len(report.sizes) > _SHOWN_SIZES:
        sizes.append(f"and {len(report.sizes) - _SHOWN_SIZES} more sizes")
    ids = [str(raw) for raw in sorted(report.raw_ids, key=lambda raw: (isinstance(raw, str), raw))]
    if len(ids) > _SHOWN_RAW_IDS:
        ids = [*ids[:_SHOWN_RAW_IDS], f"... ({len(ids)} in all)"]
    facts.add_row("ids in the masks", " ".join(ids))
    facts.add_row("modes of images", _counts(report.image_modes))
    facts.add_row("modes of masks", _counts(report.mask_modes))
    facts.add_row("sizes", ", ".join(sizes))
    facts.add_row("void pixels", f"{report.void_share:.2%}")
    facts.add_row("problems", str(len(report.problems)))
    console.print(facts)
    table = Table("id", "class", "pixels", "images")
    for index, name in enumerate(report.class_names):
        images = int(report.class_images[index])
        share = f"{report.class_shares[index]:.2%}"
        table.add_row(str(index), escape(name), share, str(images), style=None if images else "yellow")
    console.print(table)
    for remark in report.remarks():
        console.print(f"[yellow]remark[/] {escape(remark)}")
    for problem in report.problems[:most_problems]:
        console.print(f"[red]{problem.kind}[/] {escape(problem.message)}")
    if len(report.problems) > most_problems:
        console.print(f"... and {len(report.problems) - most_problems} more problems (--json lists all)")


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counter.items()) or "not from files"
