"""`prolab explain`: which properties make up the score of a pixel, region or class, and decide on a whole data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prolab_hf.cli.data_options import open_for_model
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
    require_file,
    require_image_name,
    require_model,
)
from prolab_hf.cli.results import JsonOption, require_places, tell

if TYPE_CHECKING:
    from torch import nn

    from prolab_hf.evaluation.inference import InferenceOptions
    from prolab_hf.explanation.explained import Explanation
    from prolab_hf.protocols import ImageProcessor


def explain(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE]...", help="The images; none with --data.")
    ] = None,
    *,
    model: ModelOption,
    point: Annotated[
        str | None,
        typer.Option("--point", "-p", metavar="X,Y", help="Pixel: column and row from the top left."),
    ] = None,
    region: Annotated[
        Path | None, typer.Option("--region", help="Mask image of the same size; not black = inside.")
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Class to explain; default: the one that was found there. Without --point and --region all pixels "
            "that are labeled so.",
        ),
    ] = None,
    rival: Annotated[
        str | None, typer.Option(help="Class to compare with; default: the strongest other one.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Labeled images, as for evaluate: which properties decide --class against --rival there, or, without "
            "--class, which are behind the confusions."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="With --data: name of the split, for example val.")
    ] = None,
    coding: Annotated[
        str, typer.Option(help="With --data: what the masks' values mean, as for evaluate.")
    ] = "ids",
    over: Annotated[
        str,
        typer.Option(help="With --data: pixels of the class are those labeled so, or those predicted so."),
    ] = "labeled",
    max_images: Annotated[
        int | None, typer.Option("--max-images", min=1, help="With --data: look at this many images only.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Properties to show.")] = 5,
    quantity: Annotated[
        str,
        typer.Option(help="score, probability, or auto: the one that decides the labels with these options."),
    ] = "auto",
    json_file: JsonOption = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a table, one row per property.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Draw a figure into this file; a folder for several images."),
    ] = None,
    mode: ModeOption = "whole",
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Explain a pixel, a region or a class: which properties make up its score, and what decided.

    The shares sum to the score that segment compares with the same options. With --data, which properties decide one
    class against another on all its pixels.
    """
    options = inference_options(mode, crop_size, stride, flip, scales, batch_size)
    given = list(images or ())
    _check_question(given, data, point, region, class_name, quantity=quantity, over=over)
    place: dict[str, Any] = {}
    if point is not None:
        place["point"] = _point(point)
    require_model(model)
    for path in (*given, *([region] if region else [])):
        require_file(path, "image")
    require_places(json_file, csv_file)
    targets = _targets(given, out)
    if data is not None:
        if out is not None:
            require_figure_name(out)
        network, processor = load_model(model, device, explainable=True)
        question = {"class_name": class_name, "rival": rival, "over": over, "quantity": quantity}
        source = {"data": data, "split": split, "coding": coding}
        result = _explain_data(network, processor, source, question, max_images, options)
        tell([result], result.to_text(top), json_file, csv_file, several=False)
        if out is not None:
            _draw_data(result, out)
        return

    network, processor = load_model(model, device, explainable=True)
    about = {"class_name": class_name, "rival": rival, "top": top, "quantity": quantity}
    found = []
    for path, target in zip(given, targets):
        found.append(_explain_image(network, processor, path, region, target, {**place, **about}, options))
    several = len(found) > 1
    texts = [f"{path}\n{each.to_text()}" if several else each.to_text() for path, each in zip(given, found)]
    tell(found, "\n\n".join(texts), json_file, csv_file, several=several)


def _check_question(
    images: Sequence[Path],
    data: str | None,
    point: str | None,
    region: Path | None,
    class_name: str | None,
    *,
    quantity: str,
    over: str,
) -> None:
    """What can be said before anything is loaded."""
    if quantity not in ("auto", "score", "probability"):
        raise ValueError(f"--quantity is {quantity!r}; it must be auto, score or probability.")
    if over not in ("labeled", "predicted"):
        raise ValueError(f"--over is {over!r}; it must be labeled or predicted.")
    if data is not None:
        if images or point is not None or region is not None:
            raise ValueError("--data explains a data set; leave out images, --point and --region.")
        return
    if not images:
        raise ValueError("Name at least one image, or a data set with --data.")
    if point is not None and region is not None:
        raise ValueError("Give either --point X,Y or --region MASK, not both.")
    if point is None and region is None and class_name is None:
        raise ValueError(
            "Give either --point X,Y or --region MASK, or --class NAME for all pixels of a class."
        )


def _targets(images: Sequence[Path], out: Path | None) -> list[Path | None]:
    """Where the figure of every image goes."""
    if out is None or not images:
        return [None] * len(images)
    if len(images) == 1 and not out.is_dir():
        require_image_name(out)
        return [out]
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(
            f"--out {out} is a file; name a folder for the figures of {len(images)} images."
        )
    names = [f"{path.stem}_why.png" for path in images]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Several images would write {out / name}; explain them one by one.")
    return [out / name for name in names]


def _explain_image(
    network: "nn.Module",
    processor: "ImageProcessor",
    path: Path,
    region: Path | None,
    target: Path | None,
    question: dict[str, Any],
    options: "InferenceOptions",
) -> "Explanation":
    from prolab_hf.evaluation.inference import as_image
    from prolab_hf.explanation.contributions import PropertyMaps, explain_maps

    if region is not None:
        question = {**question, "region": as_image(region).convert("L")}  # type: ignore[union-attr]  # an RGB image without a processor
    maps = PropertyMaps(network, processor, path, **options)
    found = explain_maps(maps, **question)
    if target is not None:
        from dataclasses import replace

        from prolab_hf.evaluation.segment_files import shown, write_image
        from prolab_hf.explanation.figures import explanation_figure

        drawn = shown(maps.image, getattr(processor, "value_range", None))
        write_image(
            target, explanation_figure(drawn, replace(found, property_maps=maps.mean_property_maps()))
        )
        typer.echo(f"Wrote {target}", err=True)
    return found


def _explain_data(
    network: Any,
    processor: Any,
    source: dict[str, Any],
    question: dict[str, Any],
    max_images: int | None,
    options: "InferenceOptions",
) -> Any:
    """A comparison of two classes, or the confusions of all."""
    from prolab_hf.explanation.confused_properties import confused_properties
    from prolab_hf.explanation.dataset_contributions import explain_dataset

    opened = open_for_model(source["data"], source["split"], source["coding"], network, processor)
    walk: dict[str, Any] = {"max_images": max_images, "show_progress": True, **options}
    if question["class_name"] is not None:
        return explain_dataset(network, processor, opened, **question, **walk)
    if question["rival"] is not None:
        raise ValueError("--rival needs --class: the class that it is compared with.")
    return confused_properties(network, processor, opened, **walk)


def _draw_data(result: Any, out: Path) -> None:
    from prolab_hf.explanation.figures import comparison_figure, confusion_figure

    draw = confusion_figure if hasattr(result, "pairs") else comparison_figure
    draw(result).savefig(out, dpi=150)
    typer.echo(f"Wrote {out}", err=True)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--point is {text!r}; give column and row separated by a comma, for example 240,180."
        ) from None
    return x, y
