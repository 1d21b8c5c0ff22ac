"""`prolab solve`: a property head in closed form, in one pass over labeled images."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from prolab_hf.cli.data_options import (
    DATA_HELP,
    NO_SPLIT,
    CodingOption,
    ImageColumnOption,
    ImagesFolderOption,
    MaskColumnOption,
    MasksFolderOption,
    MaskSuffixOption,
    open_for_space,
    open_split,
)
from prolab_hf.cli.hub_client import ask_hub_once
from prolab_hf.cli.options import DeviceOption, require_model_place
from prolab_hf.protocols import ImageProcessor

if TYPE_CHECKING:
    from accelerate import Accelerator

    from prolab_hf.model.configuration_prolab import ProLabConfig
    from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation

STATISTICS = {"none": False, "total": True, "per-class": "per_class"}


def solve(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP)] = None,
    space: Annotated[str | None, typer.Option(help="Property space: bundled name, folder or Hub id.")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="timm name, folder or Hub id; its weights stay.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the model; with --add by default --model.")
    ] = None,
    add: Annotated[
        str | None,
        typer.Option("--add", metavar="MORE_DATA", help="Add these images to the solved model --model."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="With --add: folder of the solved model.")
    ] = None,
    context: Annotated[
        bool, typer.Option("--context", help="Let the head also see means of the image and of its parts.")
    ] = False,
    split: Annotated[
        str | None, typer.Option(help="Split to solve on; 'none' where there are none.")
    ] = "train",
    eval_split: Annotated[
        str | None,
        typer.Option(
            help="Split to evaluate on; by default val or validation if there is one, 'none' for none."
        ),
    ] = None,
    coding: CodingOption = "ids",
    image_column: ImageColumnOption = None,
    mask_column: MaskColumnOption = None,
    images: ImagesFolderOption = "images",
    masks: MasksFolderOption = "masks",
    mask_suffix: MaskSuffixOption = "",
    image_size: Annotated[
        int,
        typer.Option(min=0, help="Shortest edge in pixels that images are resized to; 0 keeps their size."),
    ] = 512,
    held_out: Annotated[
        str | None,
        typer.Option("--held-out", help="Classes, separated by commas, whose pixels are not looked at."),
    ] = None,
    statistics: Annotated[
        str, typer.Option(help="Kept beside the model so that images can be added: none, total or per-class.")
    ] = "total",
    unspoken_layer: Annotated[
        bool,
        typer.Option(
            "--unspoken-layer",
            help="Tell the trained classes apart by a layer of its own beside the words; up to 128 images once more.",
        ),
    ] = False,
    claim_budget: Annotated[
        float,
        typer.Option(min=0, help="Share of the pixels of known classes that a described class may take."),
    ] = 0.01,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Solve a property head on a frozen backbone: one pass over the images, no training.

    A run that was stopped goes on where it was when the same command is given again. On several processes start it
    through `accelerate launch` or torchrun: the result is the same.

    Examples:
      prolab solve data/street --space cityscapes --backbone facebook/dinov2-small --out runs/street

      prolab solve --add data/more --model runs/street
    """
    if statistics not in STATISTICS:
        raise ValueError(f"--statistics is {statistics!r}; allowed: {', '.join(STATISTICS)}.")
    opening = {
        "coding": coding,
        "image_column": image_column,
        "mask_column": mask_column,
        "folders": (images, masks),
        "mask_suffix": mask_suffix,
    }
    splits = (None if split == NO_SPLIT else split, eval_split)
    accelerator = _accelerator()
    options: dict[str, Any] = {
        "accelerator": accelerator,
        "claim_budget": claim_budget,
        "unspoken_layer": unspoken_layer,
        "show_progress": not quiet,
    }
    if add is not None or model is not None:
        if add is None or model is None or data is not None or space is not None or backbone is not None:
            raise ValueError(
                "To add images give --add MORE_DATA and --model DIR, without DATA, --space and --backbone."
            )
        _add(add, model, out or Path(model), splits, opening, options, device)
        return
    if data is None or space is None or backbone is None or out is None:
        raise ValueError("Give the data (first argument), --space, --backbone and --out.")
    options |= {
        "statistics": STATISTICS[statistics],
        "held_out": [n.strip() for n in (held_out or "").split(",") if n.strip()],
    }
    require_model_place(out, overwrite)
    _solve(
        data, space, backbone, out, splits, opening, options, device, image_size=image_size, context=context
    )


def _accelerator() -> "Accelerator | None":
    """The run of `accelerate launch` or torchrun, if this is one of several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import Accelerator

    return Accelerator()


def _solve(
    data: str,
    space_name: str,
    backbone: str,
    out: Path,
    splits: tuple[str | None, str | None],
    opening: dict[str, Any],
    options: dict[str, Any],
    device: str,
    *,
    image_size: int,
    context: bool,
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    from prolab_hf.data.class_matching import match_space
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.solving.solve import SolveSettings, new_model, solve_head

    ask_hub_once()
    space = PropertySpace.from_pretrained(space_name)
    source = open_for_space(data, splits[0], space, opening)
    space = match_space(space, source.class_names, data=data)
    try:
        network, processor = new_model(backbone, space, context=context, image_size=image_size)
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"The weights of the backbone {backbone} are not on this machine and cannot be fetched; give a folder."
        ) from error
    network.config.semantic_loss_ignore_index = source.ignore_index
    network.to(_device(device, options["accelerator"]))
    solve_head(network, source, processor, SolveSettings(**options, progress_dir=out))
    _finish(network, processor, out, options["accelerator"])
    _evaluate(network, processor, data, splits[1], opening, out, options)


def _add(
    data: str,
    model: str,
    out: Path,
    splits: tuple[str | None, str | None],
    opening: dict[str, Any],
    options: dict[str, Any],
    device: str,
) -> None:
    from prolab_hf.cli.options import load_model
    from prolab_hf.solving.solve import add_images

    network, processor = load_model(model, "cpu", explainable=True)
    source = open_for_space(data, splits[0], network.property_space, opening)
    network.to(_device(device, options["accelerator"]))
    add_images(network, source, processor, folder=model, progress_dir=out, **options)
    _finish(network, processor, out, options["accelerator"])
    _evaluate(network, processor, data, splits[1], opening, out, options)


def _device(device: str, accelerator: "Accelerator | None") -> Any:
    import torch

    if accelerator is not None:
        return accelerator.device
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _finish(
    network: "ProLabForSemanticSegmentation",
    processor: ImageProcessor,
    out: Path,
    accelerator: "Accelerator | None",
) -> None:
    """Saves the model with its processor; then its progress is of no more use."""
    from prolab_hf.solving.accumulation import remove_progress

    if accelerator is None or accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        network.save_pretrained(out)
        processor.save_pretrained(out)
        remove_progress(out)
        _say(network.config, out)
    if accelerator is not None:
        accelerator.wait_for_everyone()


def _say(config: "ProLabConfig", out: Path) -> None:
    solution, console = config.solution or {}, Console()
    estimate = ""
    if solution["mean_iou"] is not None:
        estimate = f"; estimated mean IoU {solution['mean_iou']:.3f}, without properties {solution['category_iou']:.3f}"
    console.print(
        f"Solved {len(config.trained_classes or ())} classes from {solution['num_images']} images "
        f"({solution['num_features']} features, ridge {solution['ridge']:g}, class exponent "
        f"{solution['class_exponent']:g}, unspoken weight {solution['unspoken_weight']:g}{estimate}).",
        highlight=False,
    )
    console.print(
        f"Words make up {solution['spoken_share']:.0%} of the winning scores; the rest is learned and has no words. "
        f"The model is in {escape(str(out))}.",
        highlight=False,
    )


def _evaluate(
    network: "ProLabForSemanticSegmentation",
    processor: ImageProcessor,
    data: str,
    split: str | None,
    opening: dict[str, Any],
    out: Path,
    options: dict[str, Any],
) -> None:
    from prolab_hf.evaluation.evaluate import evaluate
    from prolab_hf.evaluation.report import class_table, means_table
    from prolab_hf.files import write_json

    if split == NO_SPLIT:
        return
    try:
        source = open_split(data, split, network.property_space, opening)
    except (ValueError, FileNotFoundError):
        if split is not None:
            raise
        Console().print("There is no split val or validation, so nothing was evaluated (--eval-split).")
        return
    accelerator = options["accelerator"]
    results = evaluate(
        network, processor, source, accelerator=accelerator, show_progress=options["show_progress"]
    )
    if accelerator is None or accelerator.is_main_process:
        write_json(out / "evaluation.json", results)
        console = Console()
        console.print(class_table(results))
        console.print(means_table(results))
