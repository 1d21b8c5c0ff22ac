"""`prolab demo`: a local web page for a trained model."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from prolab_hf.bundled_models import bundled_models_hint, resolve_model
from prolab_hf.cli.options import DeviceOption, load_model, require_model


def demo(
    model: Annotated[
        Path,
        typer.Option(
            "--model", "-m", help="Folder of a model with its image processor; or street, everyday (bundled)."
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
        int, typer.Option(min=64, help="Larger pictures are reduced to this many pixels on the longer side.")
    ] = 1024,
    device: DeviceOption = "auto",
) -> None:
    """Open a local web page: segment pictures, ask why, see properties, add classes without training.

    Nothing is downloaded, nothing leaves this machine, and the model's folder stays as it is. Stop it with
    Ctrl-C.
    """
    model = Path(resolve_model(str(model)))
    if not model.is_dir():
        raise FileNotFoundError(
            f"There is no model folder {model}; --model takes a folder into which a model and its image "
            f"processor were saved (prolab quickstart and prolab train make one). {bundled_models_hint(str(model))}"
        )
    require_model(str(model))

    from prolab_hf.demo import DemoSession, serve

    network, processor = load_model(str(model), device)
    name = model.resolve().name
    session = DemoSession(network, processor, name=name, encoder=encoder, max_side=max_side)
    console = Console()
    serve(
        session,
        host,
        port,
        say=lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
    )
