"""Reading and writing property spaces on the command line: options and steps that `prolab space` commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from prolab_hf.cli.hub_client import ask_hub_once

if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace

SpaceArgument = Annotated[
    str, typer.Argument(metavar="SPACE", help="Bundled name (ade20k, ...), folder, or Hub repository id.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the space.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]


def load_space(name: str) -> "PropertySpace":
    """A bundled space, one in a folder or on the Hub."""
    from prolab_hf.label_space.property_space import PropertySpace

    ask_hub_once()
    return PropertySpace.from_pretrained(name)


def claim_folder(folder: Path, overwrite: bool) -> None:
    """Refuses a folder in which something would be overwritten, before any work is done."""
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file; --out wants a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} is not empty; choose another --out or add --overwrite.")


def save_space(space: "PropertySpace", out: Path) -> None:
    """Writes a space and says so."""
    space.save_pretrained(out)
    Console().print(f"Wrote {escape(repr(space))} to {escape(str(out))}")
