"""`prolab explain`: which properties make up the class score of a pixel or region."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from prolab_hf.cli.options import (
    DeviceOption,
    ModelOption,
    load_model,
    require_file,
    require_image_name,
    require_model,
)


def explain(
    image: Annotated[Path, typer.Argument(help="The image.")],
    model: ModelOption,
    point: Annotated[
        str | None,
        typer.Option("--point", "-p", metavar="X,Y", help="Pixel: column and row from the top left."),
    ] = None,
    region: Annotated[
        Path | None, typer.Option("--region", help="Mask image of the same size; not black = inside.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Class to explain; default: the one that was found there.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Properties to show.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON instead of sentences.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also draw a figure into this file.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Explain a pixel or region: which properties make up its class score, and what decided."""
    if (point is None) == (region is None):
        raise ValueError("Give either --point X,Y or --region MASK.")
    place: dict[str, Any] = {}
    if point is not None:
        place["point"] = _point(point)
    require_model(model)
    for path in (image, *([region] if region else [])):
        require_file(path, "image")
    if out is not None:
        require_image_name(out)

    from prolab_hf.evaluation.inference import as_image
    from prolab_hf.explanation.contributions import explain as explain_place

    upright = as_image(image)
    if region is not None:
        place["region"] = as_image(region).convert("L")
    network, processor = load_model(model, device, explainable=True)
    explanation = explain_place(network, processor, upright, class_name=class_name, top=top, **place)
    if as_json:
        typer.echo(json.dumps(explanation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(explanation.to_text(), markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        from prolab_hf.explanation.figures import explanation_figure

        explanation_figure(upright, explanation).save(out)
        typer.echo(f"Wrote {out}", err=True)


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--point is {text!r}; give column and row separated by a comma, for example 240,180."
        ) from None
    return x, y
