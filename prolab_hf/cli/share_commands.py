"""`prolab card`, `prolab push` and `prolab convert`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prolab_hf.cli.hub_client import ask_hub_once
from prolab_hf.cli.options import require_file

FolderArgument = Annotated[Path, typer.Argument(help="Folder of a trained model.")]


def require_model_folder(folder: Path, *more: str) -> None:
    """Before anything is loaded: is this the folder of a model?

    Args:
        folder: The folder.
        more: Files that must be in it beside `config.json`.

    Raises:
        FileNotFoundError: A file is missing.
    """
    for name in ("config.json", *more):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no complete model: {name} is missing. Give the folder of a run."
            )


def card(
    folder: FolderArgument,
    license_: Annotated[str | None, typer.Option("--license", help="For the header: apache-2.0, ...")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="Data set it was trained on; may be repeated.")
    ] = None,
    base_model: Annotated[str | None, typer.Option(help="Checkpoint that the backbone came from.")] = None,
    language: Annotated[str | None, typer.Option(help="Language of the class names.")] = None,
) -> None:
    """Write or renew the model card (README.md) from what lies in the folder.

    Text outside of the generated parts, and header fields that you added, are kept.
    """
    require_model_folder(folder)

    from prolab_hf.hub.model_card import write_model_card

    metadata = {"license": license_, "datasets": dataset, "base_model": base_model, "language": language}
    path = write_model_card(folder, metadata=metadata)
    Console().print(f"The card: {path}", markup=False, highlight=False, soft_wrap=True)


def push(
    folder: FolderArgument,
    repo: Annotated[str, typer.Argument(help="Repository on the Hub, owner/name; made if absent.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to; made if absent.")] = None,
    message: Annotated[
        str, typer.Option("--message", "-m", help="Title of the commit.")
    ] = "Upload ProLab model",
    remote_code: Annotated[
        bool,
        typer.Option(
            "--remote-code/--no-remote-code",
            help="Ship the network's code, for users without prolab_hf (trust_remote_code=True).",
        ),
    ] = True,
) -> None:
    """Upload model, processor, property space, card and results to the Hub in one commit.

    Checkpoints, optimizer state and logs are never uploaded.
    """
    require_model_folder(folder, "preprocessor_config.json")

    from prolab_hf.hub.pushing import push_model_folder

    ask_hub_once()

    url = push_model_folder(
        folder,
        repo,
        private=private or None,
        revision=revision,
        create_pr=create_pr,
        commit_message=message,
        remote_code=remote_code,
    )
    # An address broken at the edge of the window cannot be followed.
    Console().print(f"Pushed: {url}", markup=False, highlight=False, soft_wrap=True)


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of the reference implementation.")],
    space: Annotated[
        str,
        typer.Option(help="Its embedding bank (.pth), or a property space: folder, bundled name, Hub id."),
    ],
    recipe: Annotated[str, typer.Option(help="The published run, for example ade20k-deit-base.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the converted model.")],
    descriptions: Annotated[
        Path | None,
        typer.Option(help="The reference's descriptor JSON, which names the classes of the bank."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")
    ] = False,
) -> None:
    """Turn a checkpoint of the reference implementation into a folder that from_pretrained reads.

    Nothing in the file is executed. Every tensor is renamed and its shape checked; missing or unexpected ones are
    named and nothing is written.
    """
    require_file(checkpoint, "checkpoint")

    from prolab_hf.hub.conversion import convert_checkpoint

    model = convert_checkpoint(checkpoint, space, recipe, out, descriptions=descriptions, overwrite=overwrite)
    Console().print(
        f"Converted {model.num_parameters() / 1e6:.1f} M parameters and {model.config.num_labels} classes to {out}.",
        markup=False,
        highlight=False,
    )
