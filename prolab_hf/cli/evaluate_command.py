"""`prolab evaluate`: a trained model measured on labeled images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from prolab_hf.cli.data_options import (
    DATA_HELP,
    CodingOption,
    ImageColumnOption,
    ImagesFolderOption,
    MaskColumnOption,
    MasksFolderOption,
    MaskSuffixOption,
)
from prolab_hf.cli.options import (
    BatchOption,
    CropOption,
    DeviceOption,
    FlipOption,
    ModelOption,
    ScalesOption,
    StrideOption,
    inference_options,
    load_model,
    require_model,
    require_writable,
)
from prolab_hf.files import write_json


def evaluate(
    data: Annotated[str, typer.Argument(help=DATA_HELP)],
    model: ModelOption,
    split: Annotated[str | None, typer.Option(help="Name of the split, for example test.")] = None,
    coding: CodingOption = "ids",
    image_column: ImageColumnOption = None,
    mask_column: MaskColumnOption = None,
    images: ImagesFolderOption = "images",
    masks: MasksFolderOption = "masks",
    mask_suffix: MaskSuffixOption = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file for the results.")] = Path(
        "evaluation.json"
    ),
    boundary: Annotated[
        float | None,
        typer.Option(help="Also boundary IoU; width of the band, 0.02 of the diagonal in the paper."),
    ] = None,
    present_only: Annotated[
        bool, typer.Option("--present-only", help="Average over classes present in the truth only.")
    ] = False,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
    mode: Annotated[
        str | None,
        typer.Option(
            help="whole: one pass; slide: a window moved over the image; by default as the model was measured in "
            "training."
        ),
    ] = None,
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    resize_twice: Annotated[
        bool,
        typer.Option(
            "--resize-twice",
            help="With mode whole: logits to the processed size, then to the image's, as published.",
        ),
    ] = False,
    skip_broken: Annotated[
        bool,
        typer.Option(
            "--skip-broken",
            help="Leave out images that cannot be decoded and list them, instead of stopping.",
        ),
    ] = False,
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out",
            help="Classes, separated by commas, that the model was not trained for: seen, unseen and harmonic mean "
            "IoU, unknown pixels, and random and shuffled rows as controls.",
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure a model on labeled images: mean IoU, accuracies and a table per class.

    Images are compared at their own size. Memory does not grow with their number. With the default options the
    mean IoU is, to the last pixel, the one that training recorded for the exported model.
    """
    is_recorded = mode is None and crop_size is None and stride is None
    chosen = mode or ("whole" if is_recorded else "slide")
    options = inference_options(chosen, crop_size, stride, flip, scales, batch_size, resize_twice)
    if is_recorded:
        del options["mode"]
    require_writable(out)
    require_model(model)

    from prolab_hf.data.source_from_name import open_source
    from prolab_hf.evaluation.evaluate import evaluate as evaluate_network
    from prolab_hf.evaluation.report import class_table, means_table

    network, processor = load_model(model, device)
    listed = (Path(data) / "classes.txt").is_file()
    source = open_source(
        data,
        split,
        coding=coding,
        num_classes=None if listed else len(network.config.id2label),
        image_column=image_column,
        mask_column=mask_column,
        folders=(images, masks),
        mask_suffix=mask_suffix,
        num_channels=len(getattr(processor, "image_mean", None) or (0, 0, 0)),
        value_range=getattr(processor, "value_range", None),
    )
    if held_out is not None:
        names = [name.strip() for name in held_out.split(",") if name.strip()]
        _held_out(network, processor, source, names, out)
        return
    results = evaluate_network(
        network,
        processor,
        source,
        boundary_ratio=boundary,
        average="truth" if present_only else "union",
        num_workers=num_workers,
        show_progress=True,
        skip_broken=skip_broken,
        **options,
    )
    results = {"model": model, "data": data, "split": split, **results}
    write_json(out, results)
    console = Console()
    console.print(class_table(results))
    console.print(means_table(results))
    if results.get("skipped"):
        console.print(
            f"{len(results['skipped'])} images were left out:", *results["skipped"], sep="\n", markup=False
        )
    if results["label_warning"] is not None:
        console.print(f"[bold red]The labels measure nothing.[/] {escape(results['label_warning'])}")
    console.print(f"Wrote {escape(str(out))} ({results['seconds']:.1f} s)", highlight=False)


def _held_out(network: object, processor: object, source: object, names: list[str], out: Path) -> None:
    """Measures classes that were not trained, and says what the words have to do with it."""
    from rich.table import Table

    from prolab_hf.evaluation.held_out import evaluate_held_out

    results = evaluate_held_out(network, processor, source, names, show_progress=True)  # type: ignore[arg-type]
    write_json(out, results)
    table = Table("rows", "seen IoU", "unseen IoU", "harmonic mean")
    for label, means in [("the words", results), *results["controls"].items()]:
        figures = (means[key] for key in ("seen_iou", "unseen_iou", "harmonic_mean_iou"))
        table.add_row(label, *("-" if value is None else f"{value:.3f}" for value in figures))
    console = Console()
    console.print(table)
    best = max(means["harmonic_mean_iou"] or 0 for means in results["controls"].values())
    if (results["harmonic_mean_iou"] or 0) <= best:
        console.print(
            "The words do no better than a control: these classes share too few visible properties with the "
            "others, or their descriptions do not say what sets them apart."
        )
    unknown = {name: value for name, value in results["unknown"].items() if value is not None}
    console.print("Unknown pixels: " + ", ".join(f"{name} {value:.3f}" for name, value in unknown.items()))
    console.print(f"Wrote {escape(str(out))}", highlight=False)
