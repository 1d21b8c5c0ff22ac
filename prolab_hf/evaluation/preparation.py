"""What inference needs from pictures, processors and models of different makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from prolab_hf.data.reading import read_picture
from prolab_hf.evaluation.sliding_window import LogitsFunction

Picture = str | Path | Image.Image | np.ndarray


def prepare(processor: Any, picture: Image.Image, **overrides: Any) -> Tensor:
    """Pixel values `(1, 3, height, width)` of a picture, from an image processor or a transform."""
    if is_processor(processor):
        values = processor(images=picture, return_tensors="pt", **overrides)["pixel_values"]
    else:
        values = processor(picture, np.zeros((picture.height, picture.width), np.int32))["pixel_values"][None]
    return values


def is_processor(processor: Any) -> bool:
    """Whether this is an image processor of transformers rather than a transform of `prolab_hf.data`."""
    return hasattr(processor, "preprocess")


def as_picture(image: Picture) -> Image.Image:
    """An upright RGB picture from a path, PIL picture or array.

    Raises:
        ValueError: If it cannot be decoded or the array is not a picture.
        TypeError: If it is something else.
        FileNotFoundError: If the path does not exist.
    """
    if isinstance(image, str | Path):
        return read_picture(image, name=str(image))
    if isinstance(image, Image.Image):
        return read_picture(image, name=getattr(image, "filename", "") or "(in memory)")
    if isinstance(image, np.ndarray):
        if (
            image.dtype != np.uint8
            or image.ndim not in (2, 3)
            or (image.ndim == 3 and image.shape[2] not in (3, 4))
        ):
            raise ValueError(
                f"The array has shape {image.shape} and type {image.dtype}; a picture is uint8 of shape "
                "(height, width, 3)."
            )
        return Image.fromarray(image).convert("RGB")
    raise TypeError(f"A picture is a path, a PIL picture or a uint8 array; received {type(image).__name__}.")


def model_output(model: nn.Module, pixel_values: Tensor) -> Any:
    """Output of a model for prepared pictures, which are brought to the model's device and type."""
    # The first that computes: quantized weights are integers.
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return model(pixel_values=pixel_values.to(parameter.device, parameter.dtype))


def logits_function(model: nn.Module) -> LogitsFunction:
    """The model as a function from prepared pictures on any device to logits on the model's device."""
    return lambda pixel_values: model_output(model, pixel_values).logits


def class_names_of(model: nn.Module) -> list[str]:
    """Names of the model's classes in the order of their ids."""
    config: Any = getattr(model, "module", model).config
    return [config.id2label[k] for k in range(len(config.id2label))]


@contextmanager
def inference_state(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
