"""Options and checks that several commands share, and the loading of a model."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prolab_hf.bundled_models import bundled_models_hint, is_misspelt, resolve_model
from prolab_hf.cli.hub_client import ask_hub_once

if TYPE_CHECKING:
    from prolab_hf.evaluation.inference import InferenceOptions

FIGURE_FORMATS = (".png", ".pdf", ".svg", ".jpg", ".webp")

# The commands import what they need when they run, so that `prolab --help` stays quick.
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Folder or Hub id of a model with its image processor; or street, everyday (bundled).",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda, cuda:1, mps.")]
ModeOption = Annotated[str, typer.Option(help="whole: one pass; slide: a window moved over the image.")]
CropOption = Annotated[
    int | None,
    typer.Option("--crop-size", help="Window of mode slide in pixels; default: the model's own."),
]
StrideOption = Annotated[
    int | None, typer.Option("--stride", help="Step of the window; default: the model's own, or two thirds.")
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Also run the mirrored image and average.")]
ScalesOption = Annotated[
    str, typer.Option(help='Sizes to average over, as factors: "0.75,1,1.25". 1 is one plain size.')
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Windows (or whole images) per forward pass.")
]
ValueRangeOption = Annotated[
    str | None,
    typer.Option(
        "--value-range",
        metavar="BLACK,WHITE",
        help="Stored values of black and white, for images of more than 8 bits: 0,4095.",
    ),
]
ChannelsOption = Annotated[int, typer.Option(min=1, help="Channels of the images: 3, or those of a raster.")]


def read_value_range(text: str | None) -> tuple[float, float] | None:
    """The two numbers of `--value-range`.

    Raises:
        ValueError: If they are not two numbers, the smaller first.
    """
    if text is None:
        return None
    try:
        black, white = (float(part) for part in text.split(","))
    except ValueError:
        black = white = 0.0
    if not black < white < float("inf"):
        raise ValueError(
            f"--value-range is {text!r}; give the values of black and white, for example 0,4095."
        )
    return black, white


def load_model(name: str, device: str, *, explainable: bool = False) -> tuple[Any, Any]:
    """Model and image processor from a folder or the Hub, on the device.

    Args:
        name: Folder, name of a bundled model, or Hub id.
        device: As for `--device`.
        explainable: Refuse models without properties; the others only need to segment.

    Raises:
        FileNotFoundError: If it is neither a folder nor a model that can be reached, or the folder lacks a file.
        ValueError: If the device does not exist or a file is damaged.
    """
    require_model(name)
    name = resolve_model(name)

    import torch
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
    from transformers.utils import logging as transformers_logging

    from prolab_hf.model.loading_prolab import require_finite_weights

    ask_hub_once()
    folder = Path(name)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    showed_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # one bar per command, and this one takes a second
    try:
        config = _segmentation_config(name, explainable=explainable)
        network = AutoModelForSemanticSegmentation.from_pretrained(
            name, config=config, use_safetensors=True, trust_remote_code=False
        )
        require_finite_weights(network, name)
        network = network.eval().to(device)
        return network, AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except SafetensorError as error:
        raise ValueError(f"The weights of the model {name} are damaged: {error}; copy them again.") from error
    except OSError as error:
        if folder.is_dir() or error.errno is not None:
            raise
        raise FileNotFoundError(
            f"There is no model folder {name}, and no model of that name can be loaded from the Hub: {error} "
            f"{bundled_models_hint(name)}".strip()
        ) from error
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"The model {name} cannot be loaded to device {device!r}: {error}") from error
    finally:
        if showed_bars:
            transformers_logging.enable_progress_bar()


def _segmentation_config(name: str, *, explainable: bool) -> Any:
    """The configuration, if the command can use its model; any other would fail later and less clearly."""
    from transformers import AutoConfig, AutoModelForSemanticSegmentation
    from transformers.utils import is_timm_available

    config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    kind = config.model_type
    if explainable and kind != "prolab":
        raise ValueError(
            f"{name} holds a {kind!r} model, which has no properties; explain takes a ProLab model."
        )
    if type(config) not in AutoModelForSemanticSegmentation._model_mapping:
        raise ValueError(f"{name} holds a {kind!r} model; --model takes a model for semantic segmentation.")
    backbone = getattr(getattr(config, "backbone_config", None), "model_type", None)
    if backbone == "timm_backbone" and not is_timm_available():
        raise ValueError(
            f"The backbone of {Path(name).name} is a network of timm, which is not installed: "
            "pip install 'prolab_hf[timm]'."
        )
    return config


def inference_options(
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


def require_model(name: str) -> None:
    """A missing folder is known before the seconds that loading torch takes.

    Args:
        name: Folder or bundled name, or Hub id, which is not looked up here.

    Raises:
        FileNotFoundError: It is no folder and cannot be a Hub id, or the folder lacks a file.
    """
    folder = Path(resolve_model(name))
    if folder.is_dir():
        for file in ("config.json", "preprocessor_config.json"):
            if not (folder / file).is_file():
                _name_checkpoint(folder)
                raise FileNotFoundError(
                    f"The folder {name} has no {file}; --model takes a folder into which both the model and "
                    "its image processor were saved."
                )
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name) or is_misspelt(name):
        raise FileNotFoundError(f"There is no model folder {name}. {bundled_models_hint(name)}".strip())


def _name_checkpoint(folder: Path) -> None:
    """A run that was stopped has no model yet, but its checkpoints are models.

    Raises:
        FileNotFoundError: The folder is such a run's; its newest checkpoint is named.
    """
    from prolab_hf.training.checkpoints import newest_valid_checkpoint

    checkpoint = newest_valid_checkpoint(folder / "checkpoints")
    if checkpoint is not None:
        raise FileNotFoundError(
            f"The training run in {folder} was stopped before its end, so there is no model in it yet; go on with "
            f"`prolab train ... --resume`, or take its newest checkpoint: --model {checkpoint}"
        )


def require_file(path: Path, what: str) -> None:
    """Say before anything is loaded that a file is not there.

    Args:
        path: The file.
        what: What it should be, for the message.

    Raises:
        FileNotFoundError: It is not there.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no {what} {path}.")


def require_writable(path: Path) -> None:
    """Say now, not after a long run, that the result has no place."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file.")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.resolve().parent} to write {path.name} into.")


def require_model_place(out: Path, overwrite: bool) -> None:
    """Say before a long run that `--out` cannot take its model.

    Args:
        out: The folder.
        overwrite: A model that is there may be replaced.

    Raises:
        NotADirectoryError: It is a file.
        FileExistsError: It holds a model that may not be replaced.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file; name a folder.")
    if (out / "config.json").is_file() and not overwrite:
        raise FileExistsError(f"--out {out} holds a model already; choose another folder or add --overwrite.")


def require_image_name(path: Path) -> None:
    """As `require_writable`, for an image, whose format is that of the file's ending."""
    from PIL import Image

    require_writable(path)
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"{path} does not end like an image that can be written; use .png, .jpg, .webp or .tif."
        )


def require_figure_name(path: Path) -> None:
    """Say now, not after a long run, that a figure cannot be written there.

    Args:
        path: The file.

    Raises:
        ValueError: matplotlib does not write this format.
        FileNotFoundError: There is no such folder.
    """
    if path.suffix.lower() not in FIGURE_FORMATS:
        raise ValueError(
            f"{path} does not end like a figure that can be written; use {', '.join(FIGURE_FORMATS)}."
        )
    require_writable(path)
