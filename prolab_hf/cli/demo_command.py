"""`prolab demo`: a local web page for a trained model."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prolab_hf.bundled_models import bundled_models_hint, resolve_model
from prolab_hf.cli.options import DeviceOption, load_model, require_model

MAX_MODELS = 2


def demo(
    model: Annotated[
        list[Path],
        typer.Option(
            "--model",
            "-m",
            help="Folder of a model with its image processor, or street, everyday (bundled); twice to see two "
            "models beside each other.",
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen at. The default can be reached from this machine only.")
    ] = "127.0.0.1",
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "-e",
            help="Text encoder of the model's property space: folder, or a name in the local cache. With it, "
            "new classes can be described in sentences. Default: the space's own, if it is in the cache.",
        ),
    ] = None,
    max_side: Annotated[
        int,
        typer.Option(min=64, help="Larger images are shown reduced to this many pixels on the longer side."),
    ] = 1024,
    public_name: Annotated[
        str,
        typer.Option(
            help="Host name under which others reach the page behind a proxy; requests to other names are refused."
        ),
    ] = "",
    embed_in: Annotated[
        str, typer.Option(help="Site that may show the page in a frame, such as https://huggingface.co.")
    ] = "",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in this machine's browser.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Open a local web page: segment images, ask why, see properties, edit the words and watch the map follow.

    Nothing is downloaded, nothing leaves this machine, and the models' folders stay as they are. Stop it with
    Ctrl-C.
    """
    if len(model) > MAX_MODELS:
        raise ValueError(f"{len(model)} models were given; the page shows one, or two beside each other.")
    folders = [Path(resolve_model(str(name))) for name in model]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"There is no model folder {folder}; --model takes a folder into which a model and its image "
                "processor were saved (prolab quickstart and prolab train make one). "
                f"{bundled_models_hint(str(folder))}"
            )
        require_model(str(folder))

    from prolab_hf.demo import DemoModel, serve

    console = Console()
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(name) for name in model]
    serve(
        [
            DemoModel(*load_model(str(folder), device), name=name, encoder=encoder)
            for folder, name in zip(folders, names)
        ],
        host,
        port,
        say=lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
        max_side=max_side,
        public_name=public_name,
        embed_in=embed_in,
        browser=browser,
    )
