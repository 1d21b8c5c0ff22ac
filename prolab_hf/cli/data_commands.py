"""`prolab check-data`: look at pictures and masks before a training run does."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# The command imports what it needs when it runs, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from prolab_hf.data.checking import DataReport

_SHOWN_RAW_IDS = 40
_SHOWN_SIZES = 5


def check_data(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, metadata file (.csv, .tsv, .jsonl), `datasets` name or folder, scenes, or "
            "BENCHMARK:FOLDER (ade20k, coco_stuff, pascal_context, cityscapes, bdd100k)."
        ),
    ],
    split: Annotated[str | None, typer.Option(help="Name of the split.")] = None,
    coding: Annotated[
        str,
        typer.Option(
            help="What the masks' values mean: ids, ids:void=11, shifted, table:FILE.json, "
            "palette:FILE.json, or a JSON file."
        ),
    ] = "ids",
    space: Annotated[str | None, typer.Option(help="Property space whose classes the masks hold.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names in order: a file with one a line, or a,b,c.")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="Number of classes, without names.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column with pictures.")] = None,
    mask_column: Annotated[str | None, typer.Option(help="Column with masks.")] = None,
    images: Annotated[str, typer.Option(help="Name of the folder with pictures.")] = "images",
    masks: Annotated[str, typer.Option(help="Name of the folder with masks.")] = "masks",
    workers: Annotated[int, typer.Option(min=1, help="Threads that read.")] = 4,
    limit: Annotated[int | None, typer.Option(min=1, help="Look only at the first pictures.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the report to this JSON file.")
    ] = None,
) -> None:
    """Check pictures and masks: ids, modes, sizes, void share, share per class, and all that is wrong.

    Ends with exit code 2 if a picture cannot be read or a label is outside the class space.
    """
    from prolab_hf.data.checking import check_source
    from prolab_hf.data.opening import open_source

    source = open_source(
        data,
        split,
        coding=coding,
        class_names=_class_names(space, classes),
        num_classes=num_classes,
        image_column=image_column,
        mask_column=mask_column,
        folders=(images, masks),
    )
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        total = len(source) if limit is None else min(limit, len(source))
        task = progress.add_task("Reading pictures", total=total)
        report = check_source(
            source,
            workers=workers,
            limit=limit,
            on_progress=lambda done: progress.update(task, completed=done),
        )
    if json_file is not None:
        text = json.dumps(report.to_dict(), ensure_ascii=False, indent=1)
        json_file.write_text(text + "\n", encoding="utf-8")
    print_report(Console(), report)
    if not report.ok:
        raise ValueError(
            f"{len(report.problems)} of {report.num_pictures} pictures have problems; the first: "
            f"{report.problems[0].message}"
        )


def _class_names(space: str | None, classes: str | None) -> list[str] | None:
    if space is not None and classes is not None:
        raise ValueError("Give --space or --classes, not both.")
    if space is not None:
        from prolab_hf.label_space.property_space import PropertySpace

        return list(PropertySpace.from_pretrained(space).class_names)
    if classes is None:
        return None
    path = Path(classes)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else classes.split(",")
    return [line.strip() for line in lines if line.strip()]


def print_report(console: Console, report: "DataReport", *, most_problems: int = 20) -> None:
    """Print a data report as tables.

    Args:
        console: Where to print.
        report: The report.
        most_problems: Problems to list.
    """
    facts = Table("figure", "value", title=f"{report.num_pictures} pictures")
    sizes = [f"{w}x{h} ({n})" for (w, h), n in report.sizes.most_common(_SHOWN_SIZES)]
    if len(report.sizes) > _SHOWN_SIZES:
        sizes.append(f"and {len(report.sizes) - _SHOWN_SIZES} more sizes")
    ids = [str(raw) for raw in sorted(report.raw_ids, key=lambda raw: (isinstance(raw, str), raw))]
    if len(ids) > _SHOWN_RAW_IDS:
        ids = [*ids[:_SHOWN_RAW_IDS], f"... ({len(ids)} in all)"]
    facts.add_row("ids in the masks", " ".join(ids))
    facts.add_row("modes of pictures", _counts(report.image_modes))
    facts.add_row("modes of masks", _counts(report.mask_modes))
    facts.add_row("sizes", ", ".join(sizes))
    facts.add_row("void pixels", f"{report.void_share:.2%}")
    facts.add_row("problems", str(len(report.problems)))
    console.print(facts)
    table = Table("id", "class", "pixels", "pictures")
    for index, name in enumerate(report.class_names):
        pictures = int(report.class_pictures[index])
        share = f"{report.class_shares[index]:.2%}"
        table.add_row(str(index), escape(name), share, str(pictures), style=None if pictures else "yellow")
    console.print(table)
    for remark in report.remarks():
        console.print(f"[yellow]remark[/] {escape(remark)}")
    for problem in report.problems[:most_problems]:
        console.print(f"[red]{problem.kind}[/] {escape(problem.message)}")
    if len(report.problems) > most_problems:
        console.print(f"... and {len(report.problems) - most_problems} more problems (--json lists all)")


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counter.items()) or "not from files"
