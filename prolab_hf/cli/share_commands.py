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
    repo: Annotated[
        str | None,
        typer.Argument(
            help="Repository on the Hub, owner/name; made if absent. May be left out with --space-app."
        ),
    ] = None,
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
    space_app: Annotated[
        str | None,
        typer.Option(
            "--space-app",
            metavar="OWNER/NAME",
            help="Also publish a Space that runs the page of prolab demo with this model; made if absent.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="With --space-app: write the Space into this folder; nothing is uploaded."
        ),
    ] = None,
) -> None:
    """Upload model, processor, property space, card and results to the Hub in one commit.

    Checkpoints, optimizer state and logs are never uploaded.
    """
    if repo is None and space_app is None:
        raise ValueError("Say where to: a repository (owner/name), or --space-app with the name of a Space.")
    if out is not None and space_app is None:
        raise ValueError("--out writes the folder of a Space: give --space-app with its name, too.")
    require_model_folder(folder, "preprocessor_config.json")

    if space_app is not None and out is not None:
        from prolab_hf.hub.space_app import write_space_app

        _say(f"The Space: {write_space_app(folder, out, space_app, model_id=repo)}")
        return

    from prolab_hf.hub.pushing import push_model_folder

    ask_hub_once()
    if repo is None:
        _push_space(folder, space_app, None, private)
        return

    url = push_model_folder(
        folder,
        repo,
        private=private or None,
        revision=revision,
        create_pr=create_pr,
        commit_message=message,
        remote_code=remote_code,
    )
    _say(f"Pushed: {url}")
    _push_space(folder, space_app, repo, private)


def _push_space(folder: Path, space_app: str | None, repo: str | None, private: bool) -> None:
    """Publishes the Space, where one was asked for."""
    if space_app is None:
        return
    from prolab_hf.hub.space_app import push_space_app

    _say(f"Pushed the Space: {push_space_app(folder, space_app, model_id=repo, private=private or None)}")


def _say(text: str) -> None:
    """One line; an address broken at the edge of the window could not be followed."""
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


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
