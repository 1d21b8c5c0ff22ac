"""`prolab evaluate`, `prolab segment` and `prolab explain`: a trained model at work."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

# The commands import what they need when they run, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from PIL import Image

    from prolab_hf.evaluation.inference import InferenceOptions, Segmentation

ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Folder or Hub id of a trained model with its image processor.")
]
DeviceOption = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1, mps.")]
ModeOption = Annotated[str, typer.Option(help="whole: one pass; slide: a window moved over the picture.")]
CropOption = Annotated[
    int | None,
    typer.Option("--crop-size", help="Window of mode slide in pixels; default: the model's own."),
]
StrideOption = Annotated[
    int | None, typer.Option("--stride", help="Step of the window; default: the model's own, or two thirds.")
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Also run the mirrored picture and average.")]
ScalesOption = Annotated[
    str, typer.Option(help='Sizes to average over, as factors: "0.75,1,1.25". 1 is one plain size.')
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Windows (or whole pictures) per forward pass.")
]


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder, metadata file (.csv, .tsv, .jsonl), `datasets` name or folder, scenes, or "
            "BENCHMARK:FOLDER, as for check-data."
        ),
    ],
    model: ModelOption,
    split: Annotated[str | None, typer.Option(help="Name of the split, for example test.")] = None,
    coding: Annotated[
        str,
        typer.Option(
            help="What the masks' values mean: ids, ids:void=11, shifted, table:FILE, palette:FILE."
        ),
    ] = "ids",
    image_column: Annotated[str | None, typer.Option(help="Column with pictures.")] = None,
    mask_column: Annotated[str | None, typer.Option(help="Column with masks.")] = None,
    images: Annotated[str, typer.Option(help="Name of the folder with pictures.")] = "images",
    masks: Annotated[str, typer.Option(help="Name of the folder with masks.")] = "masks",
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
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures.")] = 0,
    mode: ModeOption = "whole",
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    resize_twice: Annotated[
        bool,
        typer.Option(
            "--resize-twice",
            help="With mode whole: logits to the processed size, then to the picture's, as published.",
        ),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Measure a model on labeled pictures: mean IoU, accuracies and a table per class.

    Pictures are compared at their own size. Memory does not grow with their number.
    """
    from prolab_hf.data.source_from_name import open_source
    from prolab_hf.evaluation.evaluate import evaluate_model
    from prolab_hf.evaluation.report import class_table, means_table

    options = _inference_options(mode, crop_size, stride, flip, scales, batch_size, resize_twice)
    _require_writable(out)
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
    )
    results = evaluate_model(
        network,
        processor,
        source,
        boundary_ratio=boundary,
        average="truth" if present_only else "union",
        num_workers=num_workers,
        show_progress_bar=True,
        **options,
    )
    results = {"model": model, "data": data, "split": split, **results}
    out.write_text(
        json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    console = Console()
    console.print(class_table(results))
    console.print(means_table(results))
    console.print(f"Wrote {escape(str(out))} ({results['seconds']:.1f} s)", highlight=False)


def segment(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="One or more pictures.")],
    model: ModelOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Overlay picture; a folder for several. Default: PICTURE_overlay.png here."
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Folder for label maps (PNG, one class id per pixel).")
    ] = None,
    legend: Annotated[bool, typer.Option(help="Draw the legend.")] = True,
    opacity: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the class colors.")] = 0.6,
    mode: ModeOption = "whole",
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Segment pictures and draw the classes over them, with a legend."""
    from prolab_hf.evaluation.inference import as_image
    from prolab_hf.evaluation.inference import segment as segment_image
    from prolab_hf.explanation.overlays import overlay

    options = _inference_options(mode, crop_size, stride, flip, scales, batch_size)
    missing = [str(path) for path in pictures if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"There is no picture {', '.join(missing)}.")
    targets = _overlay_targets(pictures, out)
    if labels is not None and labels.exists() and not labels.is_dir():
        raise NotADirectoryError(f"--labels {labels} is a file; name a folder.")
    network, processor = load_model(model, device)
    console, failures = Console(), 0
    for path, target in zip(pictures, targets):
        try:
            picture = as_image(path)
        except ValueError as error:
            if len(pictures) == 1:
                raise
            # The other pictures are worth having: say which one failed, go on, and end with code 2.
            typer.echo(f"prolab: {error}", err=True)
            failures += 1
            continue
        result = segment_image(network, processor, picture, show_progress_bar=mode == "slide", **options)
        overlay(picture, result.labels, result.class_names, legend=legend, opacity=opacity).save(target)
        if labels is not None:
            labels.mkdir(parents=True, exist_ok=True)
            _label_image(result).save(labels / f"{path.stem}.png")
        console.print(f"{escape(str(target))}: {escape(_shares(result))}", highlight=False)
    if failures:
        typer.echo(f"prolab: {failures} of {len(pictures)} pictures could not be read.", err=True)
        raise typer.Exit(2)


def explain(
    picture: Annotated[Path, typer.Argument(help="The picture.")],
    model: ModelOption,
    point: Annotated[
        str | None,
        typer.Option("--point", "-p", metavar="X,Y", help="Pixel: column and row from the top left."),
    ] = None,
    region: Annotated[
        Path | None, typer.Option("--region", help="Mask picture of the same size; not black = inside.")
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
    from prolab_hf.evaluation.inference import as_image
    from prolab_hf.explanation.contributions import explain as explain_place

    if (point is None) == (region is None):
        raise ValueError("Give either --point X,Y or --region MASK.")
    place: dict[str, Any] = {}
    if point is not None:
        place["point"] = _point(point)
    if out is not None:
        _require_image_name(out)
    image = as_image(picture)
    if region is not None:
        place["region"] = as_image(region).convert("L")
    network, processor = load_model(model, device, explainable=True)
    explanation = explain_place(network, processor, image, class_name=class_name, top=top, **place)
    if as_json:
        typer.echo(json.dumps(explanation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        Console().print(explanation.to_text(), markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        from prolab_hf.explanation.figures import explanation_figure

        explanation_figure(image, explanation).save(out)
        typer.echo(f"Wrote {out}", err=True)


def load_model(name: str, device: str, *, explainable: bool = False) -> tuple[Any, Any]:
    """Model and image processor from a folder or the Hub, on the device.

    Args:
        name: Folder or Hub id.
        device: As for `--device`.
        explainable: Refuse models without properties; the others only need to segment.

    Raises:
        FileNotFoundError: If it is neither a folder nor a model that can be reached, or the folder lacks a file.
        ValueError: If the device does not exist or a file is damaged.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
    from transformers.utils import logging as transformers_logging

    import prolab_hf  # noqa: F401  # the Auto classes know ProLab from here on

    folder = Path(name)
    if folder.is_dir():
        for file in ("config.json", "preprocessor_config.json"):
            if not (folder / file).is_file():
                raise FileNotFoundError(
                    f"The folder {name} has no {file}; --model takes a folder into which both the model and "
                    "its image processor were saved."
                )
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise FileNotFoundError(f"There is no model folder {name}.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    showed_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # one bar per command, and this one takes a second
    try:
        config = _segmentation_config(name, explainable=explainable)
        network = AutoModelForSemanticSegmentation.from_pretrained(name, config=config).eval().to(device)
        return network, AutoImageProcessor.from_pretrained(name)
    except SafetensorError as error:
        raise ValueError(f"The weights of the model {name} are damaged: {error}; copy them again.") from error
    except OSError as error:
        if folder.is_dir() or error.errno is not None:
            raise
        raise FileNotFoundError(
            f"There is no model folder {name}, and no model of that name can be loaded from the Hub: {error}"
        ) from error
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"The model {name} cannot be loaded to device {device!r}: {error}") from error
    finally:
        if showed_bars:
            transformers_logging.enable_progress_bar()


def _segmentation_config(name: str, *, explainable: bool) -> Any:
    """The configuration, if the command can use its model; any other would fail later and less clearly."""
    from transformers import AutoConfig, AutoModelForSemanticSegmentation

    config = AutoConfig.from_pretrained(name)
    kind = config.model_type
    if explainable and kind != "prolab":
        raise ValueError(
            f"{name} holds a {kind!r} model, which has no properties; explain takes a ProLab model."
        )
    if type(config) not in AutoModelForSemanticSegmentation._model_mapping:
        raise ValueError(f"{name} holds a {kind!r} model; --model takes a model for semantic segmentation.")
    return config


def _inference_options(
    mode: str,
    crop_size: int | None,
    stride: int | None,
    flip: bool,
    scales: str,
    batch_size: int,
    resize_twice: bool = False,
) -> "InferenceOptions":
    """Checked before anything is loaded: a typing error should not cost a minute."""
    from prolab_hf.evaluation.settings import InferenceSettings

    try:
        factors = tuple(float(part) for part in scales.split(","))
    except ValueError:
        raise ValueError(
            f"--scales is {scales!r}; give factors separated by commas, for example 0.75,1,1.25."
        ) from None
    options: Any = {
        "mode": mode,
        "crop_size": crop_size,
        "stride": stride,
        "flip": flip,
        "scales": factors,
        "batch_size": batch_size,
        "resize_twice": resize_twice,
    }
    InferenceSettings(**options)
    return options


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--point is {text!r}; give column and row separated by a comma, for example 240,180."
        ) from None
    return x, y


def _overlay_targets(pictures: list[Path], out: Path | None) -> list[Path]:
    """One new file per picture; never a picture that is read."""
    if out is not None and (len(pictures) > 1 or out.is_dir()):
        if out.is_file():
            raise NotADirectoryError(f"--out {out} is a file, but {len(pictures)} pictures need a folder.")
        out.mkdir(parents=True, exist_ok=True)
        targets = [out / f"{path.stem}_overlay.png" for path in pictures]
    elif out is not None:
        targets = [out]
    else:
        targets = [Path(f"{path.stem}_overlay.png") for path in pictures]
    if len(set(targets)) < len(targets):
        raise ValueError("Several pictures have the same name and would overwrite each other's overlay.")
    for target in targets:
        _require_image_name(target)
        if any(target.resolve() == path.resolve() for path in pictures):
            raise ValueError(f"--out {target} is the picture itself; choose another file.")
    return targets


def _require_writable(path: Path) -> None:
    """Say now, not after a long run, that the result has no place."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file.")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.resolve().parent} to write {path.name} into.")


def _require_image_name(path: Path) -> None:
    """As `_require_writable`, for a picture, whose format is that of the file's ending."""
    from PIL import Image

    _require_writable(path)
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"{path} does not end like a picture that can be written; use .png, .jpg, .webp or .tif."
        )


def _label_image(result: "Segmentation") -> "Image.Image":
    """Class ids as a gray picture, 16 bits wide where there are more than 256 classes."""
    import numpy as np
    from PIL import Image

    wide = len(result.class_names) > 256
    return Image.fromarray(result.labels.numpy().astype(np.uint16 if wide else np.uint8))


def _shares(result: "Segmentation", limit: int = 6) -> str:
    from prolab_hf.explanation.overlays import percent, plain_text

    shares = result.shares()
    listed = ", ".join(f"{plain_text(name)} {percent(share)}" for name, share in shares[:limit])
    return listed + (f" and {len(shares) - limit} more" if len(shares) > limit else "")
