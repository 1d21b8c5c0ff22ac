"""`prolab adapt`: a trained segmentation network that answers in properties, without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prolab_hf.cli.data_options import CodingOption
from prolab_hf.cli.hub_client import ask_hub_once
from prolab_hf.cli.options import DeviceOption, require_model_place

if TYPE_CHECKING:
    from prolab_hf.solving.class_names import ClassMatch

LEARN_FROM = ("masks", "predictions")


def adapt(
    model: Annotated[
        str, typer.Argument(help="Folder or Hub id of a trained network for semantic segmentation.")
    ],
    space: Annotated[str, typer.Option(help="Property space: bundled name, folder or Hub id.")],
    images: Annotated[
        Path,
        typer.Option(help="Folder of images of the kind that the network is used on; labels are not needed."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the adapted model.")],
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks with the images' names: ids of the network's classes."),
    ] = None,
    coding: CodingOption = "ids",
    learn_from: Annotated[
        str | None,
        typer.Option(help="masks (the default where they are given) or predictions of the network."),
    ] = None,
    class_names: Annotated[
        Path | None,
        typer.Option(
            "--class-names",
            help="File with the row of every class, one a line in the order of the ids, or lines CLASS = ROW.",
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="CLASS=ROW", help="The row of one class; CLASS= leaves it out. May be repeated."
        ),
    ] = None,
    drop_unknown: Annotated[
        bool, typer.Option("--drop-unknown", help="Leave out classes that have no row in the space.")
    ] = False,
    processor: Annotated[
        str | None, typer.Option(help="Folder or Hub id of the image processor; default: the network's own.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in --out.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Make a trained segmentation network answer in properties: its weights stay, its last layer is solved anew.

    Takes every network whose last layer is a convolution to its classes: SegFormer, UPerNet, BEiT, Data2Vec, DPT,
    MobileViT, MobileNetV2 and others. Without masks it learns from the network's own answers.

    Examples:
      prolab adapt nvidia/segformer-b0-finetuned-ade-512-512 --space ade20k --images photos --out runs/segformer

      prolab adapt runs/old --space cityscapes --images street --map "traffic_sgn=traffic sign" --out runs/new
    """
    from prolab_hf.evaluation.inference import class_names_of
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.solving.adapt import adapt_network
    from prolab_hf.solving.class_names import match_class_names, parse_correction, read_corrections
    from prolab_hf.solving.foreign_network import load_network

    if learn_from not in (None, *LEARN_FROM):
        raise ValueError(f"--learn-from is {learn_from!r}; allowed: {', '.join(LEARN_FROM)}.")
    require_model_place(out, overwrite)
    corrections = None if class_names is None else read_corrections(class_names)
    ask_hub_once()
    chosen = PropertySpace.from_pretrained(space)
    network = load_network(model)
    if map_:
        if isinstance(corrections, list):
            raise ValueError(
                "--class-names lists all rows already; give corrections in that file, without --map."
            )
        corrections = {**(corrections or {}), **dict(map(parse_correction, map_))}
    names = class_names_of(network)
    matches = match_class_names(names, chosen.class_names, corrections, drop_unknown=drop_unknown)
    console = Console()
    console.print(_matches_table(matches))  # before the long part: a wrong match is seen in time
    if left_out := [match.class_name for match in matches if match.row is None]:
        console.print(
            f"Left out, without a row ({len(left_out)}): {escape(', '.join(left_out))}.", highlight=False
        )
    result = adapt_network(
        network,
        chosen,
        images,
        processor=processor,
        masks=masks,
        class_names=corrections,
        drop_unknown=drop_unknown,
        learn_from=learn_from,  # type: ignore[arg-type]  # checked above
        coding=coding,
        device=None if device == "auto" else device,
        show_progress=not quiet,
    )
    console.print(result.report.to_text(), highlight=False, markup=False)
    result.save_pretrained(out)
    console.print(f"The model is in {escape(str(out))}.", highlight=False)


def _matches_table(matches: "Sequence[ClassMatch]") -> Table:
    """Class by class, so that a wrong match is seen; corrections by --map or --class-names."""
    table = Table(title="Classes of the network and their rows (correct them with --map CLASS=ROW)")
    for heading in ("id", "class", "row", "matched by"):
        table.add_column(heading)
    for index, match in enumerate(matches):
        if match.row is not None:
            table.add_row(str(index), escape(match.class_name), escape(match.row), match.reason)
    return table
