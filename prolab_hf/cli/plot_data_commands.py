"""`prolab plot reliability` and `prolab plot corrections`: figures of a model on labeled images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prolab_hf.cli.data_options import DATA_HELP, CodingOption, open_for_model
from prolab_hf.cli.options import (
    BatchOption,
    CropOption,
    DeviceOption,
    FlipOption,
    ModelOption,
    ModeOption,
    ScalesOption,
    StrideOption,
    inference_options,
    load_model,
    require_figure_name,
    require_model,
)
from prolab_hf.cli.results import JsonOption, require_places, tell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DataArgument = Annotated[str, typer.Argument(help=DATA_HELP)]
SplitOption = Annotated[str | None, typer.Option(help="Name of the split, for example test.")]
MaxImagesOption = Annotated[
    int | None, typer.Option("--max-images", min=1, help="Look at this many images only.")
]
TableOption = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write the numbers as a table.")
]
FIGURE_HELP = "The figure: .png, .pdf, .svg, .jpg or .webp."


def reliability(
    data: DataArgument,
    model: ModelOption,
    split: SplitOption = None,
    coding: CodingOption = "ids",
    temperature: Annotated[
        str,
        typer.Option(
            help="What scores are divided by before the softmax: a number, or fit for the best one here."
        ),
    ] = "1",
    bins: Annotated[int, typer.Option(min=1, help="Intervals of confidence.")] = 15,
    max_images: MaxImagesOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=FIGURE_HELP)] = Path("reliability.png"),
    json_file: JsonOption = None,
    csv_file: TableOption = None,
    mode: ModeOption = "whole",
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Draw a reliability diagram: how often pixels of each confidence are right, and the calibration error.

    Scores are similarities, so at temperature 1 a model seems less sure than it may be; fit finds the temperature with
    the highest likelihood of these labels. Judge a fitted temperature on other images than those it was fitted on.
    """
    options = inference_options(mode, crop_size, stride, flip, scales, batch_size)
    divided_by: float | Literal["fit"]
    try:
        divided_by = "fit" if temperature == "fit" else float(temperature)
    except ValueError:
        raise ValueError(f"--temperature is {temperature!r}; it must be a positive number or fit.") from None
    require_figure_name(out)
    require_places(json_file, csv_file)
    require_model(model)

    from prolab_hf.explanation.figures import reliability_figure
    from prolab_hf.explanation.reliability import reliability as measure_reliability

    network, processor = load_model(model, device, explainable=True)
    source = open_for_model(data, split, coding, network, processor)
    walk: dict[str, Any] = {"max_images": max_images, "show_progress": True, **options}
    found = measure_reliability(network, processor, source, temperature=divided_by, num_bins=bins, **walk)
    tell([found], found.to_text(), json_file, csv_file, several=False)
    _draw(reliability_figure(found), out)


def corrections(
    data: DataArgument,
    model: ModelOption,
    split: SplitOption = None,
    coding: CodingOption = "ids",
    orders: Annotated[
        str, typer.Option("--order", help="Which properties come first: random, uncertainty, or both.")
    ] = "random,uncertainty",
    metric: Annotated[str, typer.Option(help="What is drawn: mean_iou or pixel_accuracy.")] = "mean_iou",
    seed: Annotated[int, typer.Option(help="Of the random order.")] = 0,
    max_images: MaxImagesOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=FIGURE_HELP)] = Path("corrections.png"),
    json_file: JsonOption = None,
    csv_file: TableOption = None,
    mode: ModeOption = "whole",
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Draw how a model improves as more and more of its property scores are corrected by the labels.

    Properties are corrected in random order, and the least certain ones of every pixel first. A steep start says that
    few properties are behind most mistakes; a curve that stays flat, that the words do not tell the classes apart.
    """
    options = inference_options(mode, crop_size, stride, flip, scales, batch_size)
    chosen = [word.strip() for word in orders.split(",") if word.strip()]
    if not chosen or set(chosen) - {"random", "uncertainty"}:
        raise ValueError(f"--order is {orders!r}; it must be random, uncertainty, or random,uncertainty.")
    if metric not in ("mean_iou", "pixel_accuracy"):
        raise ValueError(f"--metric is {metric!r}; it must be mean_iou or pixel_accuracy.")
    require_figure_name(out)
    require_places(json_file, csv_file)
    require_model(model)

    from prolab_hf.explanation.correction_curves import correction_curves
    from prolab_hf.explanation.figures import correction_figure

    network, processor = load_model(model, device, explainable=True)
    source = open_for_model(data, split, coding, network, processor)
    walk: dict[str, Any] = {"max_images": max_images, "show_progress": True, **options}
    curves = correction_curves(network, processor, source, orders=chosen, seed=seed, **walk)  # type: ignore[arg-type]  # checked above
    tell(curves, "\n".join(each.to_text() for each in curves), json_file, csv_file, several=True)
    _draw(correction_figure(curves, metric=metric), out)  # type: ignore[arg-type]  # checked above


def _draw(figure: "Figure", out: Path) -> None:
    figure.savefig(out, dpi=150)
    typer.echo(f"Wrote {out}", err=True)
