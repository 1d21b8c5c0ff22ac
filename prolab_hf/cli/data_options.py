"""Options of the commands that read images with masks, and the opening of such data for a space's classes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from prolab_hf.data.image_files import SegmentationSource
    from prolab_hf.label_space.property_space import PropertySpace

NO_SPLIT = "none"
EVAL_SPLITS = ("val", "validation")
"""Names of the split to evaluate on that are in use."""

DATA_HELP = (
    "Folder with images and masks, metadata file (.csv, .tsv, .jsonl), `datasets` name or folder, scenes, or "
    "BENCHMARK:FOLDER (ade20k, coco_stuff, pascal_context, cityscapes, bdd100k)."
)
CODING_HELP = (
    "What the masks' values mean: ids, ids:void=11, shifted, table:FILE.json, palette:FILE.json, or a "
    "JSON file."
)
CodingOption = Annotated[str, typer.Option(help=CODING_HELP)]
ImageColumnOption = Annotated[str | None, typer.Option(help="Column with images.")]
MaskColumnOption = Annotated[str | None, typer.Option(help="Column with masks.")]
ImagesFolderOption = Annotated[str, typer.Option(help="Name of the folder with images.")]
MasksFolderOption = Annotated[str, typer.Option(help="Name of the folder with masks.")]
MaskSuffixOption = Annotated[
    str, typer.Option(help="Text that mask names have after the image's name, for example _mask.")
]


def open_for_space(
    location: str, split: str | None, space: "PropertySpace", opening: dict[str, Any]
) -> "SegmentationSource":
    """Images whose ids mean the classes of the space, unless the folder lists classes of its own.

    Args:
        location: What the command was given as data.
        split: Name of the split; `None` where there is none.
        space: The space.
        opening: The data options, as `open_source` takes them.

    Raises:
        ValueError: The data cannot be read so, or has no such split.
        FileNotFoundError: It is not there.
    """
    from prolab_hf.data.source_from_name import open_source

    knows_names = (Path(location) / "classes.txt").is_file()
    return open_source(location, split, class_names=None if knows_names else space.class_names, **opening)


def open_split(
    location: str, split: str | None, space: "PropertySpace", opening: dict[str, Any]
) -> "SegmentationSource":
    """As `open_for_space`; without a name the split to evaluate on, whose name is one of the two that are in use.

    Args:
        location: What the command was given as data.
        split: Name of the split, or `None`.
        space: The space.
        opening: The data options, as `open_source` takes them.

    Raises:
        ValueError: The data cannot be read so, or has no such split.
        FileNotFoundError: It is not there.
    """
    if split is not None:
        return open_for_space(location, split, space, opening)
    try:
        return open_for_space(location, EVAL_SPLITS[0], space, opening)
    except (ValueError, FileNotFoundError) as error:
        try:
            return open_for_space(location, EVAL_SPLITS[1], space, opening)
        except (ValueError, FileNotFoundError):
            raise type(error)(
                f"{str(error).rstrip('.')}; name the split to evaluate on with --eval-split, or "
                f"'--eval-split {NO_SPLIT}' to leave evaluation out."
            ) from error


def open_for_model(
    location: str, split: str | None, coding: str, network: Any, processor: object
) -> "SegmentationSource":
    """Labeled images for a model: ids mean its classes, unless the folder lists classes of its own.

    Args:
        location: What the command was given as data.
        split: Name of the split; `None` where there is none.
        coding: What the masks' values mean.
        network: The model.
        processor: Its image processor, which knows channels and value range.

    Raises:
        ValueError: The data cannot be read so, or has no such split.
        FileNotFoundError: It is not there.
    """
    from prolab_hf.data.source_from_name import open_source

    listed = (Path(location) / "classes.txt").is_file()
    return open_source(
        location,
        split,
        coding=coding,
        num_classes=None if listed else len(network.config.id2label),
        num_channels=len(getattr(processor, "image_mean", None) or (0, 0, 0)),
        value_range=getattr(processor, "value_range", None),
    )
