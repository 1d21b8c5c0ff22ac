"""`prolab segment`: images in, overlays and label maps out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

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
    require_image_name,
)

if TYPE_CHECKING:
    from PIL import Image

    from prolab_hf.evaluation.inference import Segmentation


def segment(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="One or more images.")],
    model: ModelOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Overlay image; a folder for several. Default: IMAGE_overlay.png here."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Folder for label maps (PNG, one class id per pixel).")
    ] = None,
    legend: Annotated[bool, typer.Option(help="Draw the legend.")] = True,
    opacity: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the class colors.")] = 0.6,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Label pixels that fit no class as unknown (calibrated models).")
    ] = False,
    mode: ModeOption = "whole",
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Segment images and draw the classes over them, with a legend."""
    from prolab_hf.evaluation.inference import as_image
    from prolab_hf.evaluation.inference import segment as segment_image
    from prolab_hf.explanation.overlays import overlay

    options = inference_options(mode, crop_size, stride, flip, scales, batch_size)
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"There is no image {', '.join(missing)}.")
    targets = _overlay_targets(images, out)
    if labels is not None and labels.exists() and not labels.is_dir():
        raise NotADirectoryError(f"--labels {labels} is a file; name a folder.")
    network, processor = load_model(model, device)
    console, failures = Console(), 0
    for path, target in zip(images, targets):
        try:
            image = as_image(path)
        except ValueError as error:
            if len(images) == 1:
                raise
            # The other images are worth having: say which one failed, go on, and end with code 2.
            typer.echo(f"prolab: {error}", err=True)
            failures += 1
            continue
        result = segment_image(
            network, processor, image, unknown=unknown, show_progress_bar=mode == "slide", **options
        )
        overlay(image, result.labels, result.class_names, legend=legend, opacity=opacity).save(target)
        if labels is not None:
            labels.mkdir(parents=True, exist_ok=True)
            _label_image(result).save(labels / f"{path.stem}.png")
        console.print(f"{escape(str(target))}: {escape(_shares(result))}", highlight=False)
    if failures:
        typer.echo(f"prolab: {failures} of {len(images)} images could not be read.", err=True)
        raise typer.Exit(2)


def _overlay_targets(images: list[Path], out: Path | None) -> list[Path]:
    """One new file per image; never an image that is read."""
    if out is not None and (len(images) > 1 or out.is_dir()):
        if out.is_file():
            raise NotADirectoryError(f"--out {out} is a file, but {len(images)} images need a folder.")
        out.mkdir(parents=True, exist_ok=True)
        targets = [out / f"{path.stem}_overlay.png" for path in images]
    elif out is not None:
        targets = [out]
    else:
        targets = [Path(f"{path.stem}_overlay.png") for path in images]
    if len(set(targets)) < len(targets):
        raise ValueError("Several images have the same name and would overwrite each other's overlay.")
    for target in targets:
        require_image_name(target)
        if any(target.resolve() == path.resolve() for path in images):
            raise ValueError(f"--out {target} is the image itself; choose another file.")
    return targets


def _label_image(result: "Segmentation") -> "Image.Image":
    """Class ids as a gray image, 16 bits wide where there are more than 256 classes."""
    import numpy as np
    from PIL import Image

    wide = len(result.class_names) > 256
    return Image.fromarray(result.labels.numpy().astype(np.uint16 if wide else np.uint8))


def _shares(result: "Segmentation", limit: int = 6) -> str:
    from prolab_hf.explanation.overlays import percent, plain_text

    shares = result.shares()
    listed = ", ".join(f"{plain_text(name)} {percent(share)}" for name, share in shares[:limit])
    return listed + (f" and {len(shares) - limit} more" if len(shares) > limit else "")
