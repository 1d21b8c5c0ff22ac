"""Segmenting an image: every scale and flip advances together, a few rows at a time."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from prolab_hf.data.image_files import image_size
from prolab_hf.deprecation import renamed_argument
from prolab_hf.evaluation.settings import InferenceOptions, InferenceSettings
from prolab_hf.evaluation.sliding_window import (
    LogitsFunction,
    Rows,
    StripedPixels,
    count_windows,
    resized_blocks,
    slide_bands,
    slide_logits,
)
from prolab_hf.evaluation.unknown import DEFAULT_SHARE, UNKNOWN, unknown_threshold, with_unknown
from prolab_hf.evaluation.views.segmentation_view import label_map_png, segmentation_html
from prolab_hf.model.image_conversion_prolab import StandardImage, read_image
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.progress import Progress, progress
from prolab_hf.protocols import ImageProcessor

logger = logging.getLogger(__name__)


ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray

STRIPED_PIXELS = 2**24
"""Images from this many pixels on are prepared a strip at a time in mode `"slide"`, if they keep their size."""


def prepare(processor: ImageProcessor, image: StandardImage, **overrides: Any) -> Tensor:
    """Pixel values `(1, num_channels, height, width)` of an image, from an image processor."""
    values: Tensor = processor(images=image, return_tensors="pt", **overrides)["pixel_values"]
    return values


def is_processor(processor: object) -> bool:
    """Whether this is an image processor of transformers."""
    return hasattr(processor, "preprocess")


def as_image(
    image: ImageLike, processor: object | None = None, *, max_pixels: float | None = None
) -> StandardImage:
    """An upright image with the channels that a processor takes: RGB, or an array of the values that are stored.

    Args:
        image: A path, PIL image or array `(height, width, channels)`.
        processor: Its number of means and its `value_range` are followed; RGB of 8 bits without one.
        max_pixels: The largest image; `None` for the limit of the library.

    Raises:
        ValueError: If it cannot be decoded, the array is not an image, or it has other channels or values.
        TypeError: If it is something else.
        FileNotFoundError: If the path does not exist.
    """
    if isinstance(image, Image.Image):
        name = getattr(image, "filename", "") or "(in memory)"
    elif isinstance(image, np.ndarray):
        name = "(array)"
    elif isinstance(image, str | os.PathLike):
        name = os.fspath(image)
    else:
        raise TypeError(f"An image is a path, a PIL image or an array; received {type(image).__name__}.")
    means = getattr(processor, "image_mean", None)
    num_channels = len(means) if isinstance(means, list | tuple) else 3
    value_range = getattr(processor, "value_range", None)
    if isinstance(image, np.ndarray) and image.dtype != np.uint8 and value_range is None:
        raise ValueError(
            f"The array has shape {image.shape} and type {image.dtype}; an image is uint8 of shape (height, width, "
            "channels), unless the processor declares a value_range."
        )
    return read_image(
        image, name=str(name), num_channels=num_channels, value_range=value_range, max_pixels=max_pixels
    )


def model_output(model: nn.Module, pixel_values: Tensor) -> Any:
    """Output of a model for prepared images, which are brought to the model's device and type."""
    # The first that computes: quantized weights are integers.
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return model(pixel_values=pixel_values.to(parameter.device, parameter.dtype))


def logits_function(model: nn.Module) -> LogitsFunction:
    """The model as a function from prepared images on any device to logits on the model's device."""
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


SIZE_DIVISOR = 32
"""Sides of rescaled images are multiples of this where the processor has no `size_divisor` of its own."""


class Run:
    """An image prepared at one scale.

    Args:
        image: As `as_image` gives it.
        processor: Image processor.
        scale: Factor of the size that the processor gives the image.

    Attributes:
        pixel_values: `(1, num_channels, height, width)` float32.
        processor: The processor, which knows the default window.
    """

    pixel_values: Tensor
    processor: ImageProcessor | None

    def __init__(self, image: StandardImage, processor: ImageProcessor, scale: float = 1.0) -> None:
        self.processor = processor
        self.pixel_values = prepare(processor, image)
        if scale != 1.0:
            divisor = getattr(processor, "size_divisor", None) or SIZE_DIVISOR
            height, width = (
                max(1, round(n * scale / divisor)) * divisor for n in self.pixel_values.shape[-2:]
            )
            # From the original image: enlarging what was reduced before would lose detail.
            # Also where the processor keeps sizes: the scale would be ignored in silence.
            size = {"height": height, "width": width}
            self.pixel_values = prepare(processor, image, size=size, do_resize=True)


class StripedRun:
    """As `Run` for a large image that keeps its size: pixel values are made when their window comes.

    Args:
        image: As `as_image` gives it.
        processor: Image processor that does not resize.

    Attributes:
        pixel_values: The strips.
        processor: The processor.
    """

    pixel_values: StripedPixels

    def __init__(self, image: StandardImage, processor: ImageProcessor) -> None:
        width, height = image_size(image)

        def strip(top: int, bottom: int) -> Tensor:
            rows = image[top:bottom] if isinstance(image, np.ndarray) else image.crop((0, top, width, bottom))
            return prepare(processor, rows)

        self.processor = processor
        self.pixel_values = StripedPixels(strip, (height, width))


PreparedRun = Run | StripedRun


@torch.no_grad()
def predict(
    function: LogitsFunction,
    runs: Sequence[PreparedRun],
    size: tuple[int, int],
    settings: InferenceSettings,
    *,
    return_scores: bool = False,
    bar: Progress | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Labels and, on request, probabilities of one image that is prepared at one or more scales.

    Args:
        function: Gives the logits of a batch of prepared images.
        runs: The image at every scale.
        size: Height and width of the result.
        settings: Mode, window, flip.
        return_scores: Whether probabilities are returned.
        bar: Progress bar to advance.

    Returns:
        Labels, int64 `(height, width)`, and probabilities `(num_labels, height, width)` or `None`.
    """
    if settings.is_plain and not return_scores and isinstance(runs[0], Run):
        return resize_argmax(function(runs[0].pixel_values), size)[0], None
    streams = [
        score_blocks(function, run, size, settings, flip, bar) for run in runs for flip in settings.flips
    ]
    return combined(streams, return_scores=return_scores)


def combined(
    streams: Sequence[Iterator[Tensor]], *, return_scores: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Labels and, on request, probabilities of the class scores of one or several runs.

    The labels of one run are those of its highest scores, those of several runs of the highest mean probability.

    Args:
        streams: What `score_blocks` gives, one per run and flip.
        return_scores: Whether probabilities are returned.

    Returns:
        Labels, int64 `(height, width)`, and probabilities `(num_labels, height, width)` or `None`.
    """
    labels: list[Tensor] = []
    scores: list[Tensor] = []
    # All runs advance together, a few rows at a time: nothing of the size (classes, height, width) is held.
    for blocks in zip(*streams, strict=True):
        if len(blocks) == 1:
            labels.append(blocks[0].argmax(dim=0))
            if not return_scores:
                continue
        probabilities = torch.stack([block.softmax(dim=0) for block in blocks]).mean(dim=0)
        if len(blocks) > 1:
            labels.append(probabilities.argmax(dim=0))
        if return_scores:
            scores.append(probabilities)
    return torch.cat(labels), torch.cat(scores, dim=1) if return_scores else None


def score_blocks(
    function: LogitsFunction,
    run: PreparedRun,
    size: tuple[int, int],
    settings: InferenceSettings,
    flip: bool = False,
    bar: Progress | None = None,
) -> Iterator[Tensor]:
    """Class scores of one run at the size of the result, in blocks of rows, turned back if it was flipped.

    Args:
        function: Gives the logits of a batch of prepared images.
        run: The image at one scale.
        size: Height and width of the result.
        settings: Mode and window.
        flip: Whether the mirrored image is run.
        bar: Progress bar to advance.

    Yields:
        `(num_labels, rows, width)` from top to bottom.
    """
    pixel_values: Rows = run.pixel_values.flip(-1) if flip else run.pixel_values
    advance = bar.advance if bar is not None else None
    source_size = (int(pixel_values.shape[-2]), int(pixel_values.shape[-1]))
    if settings.mode == "slide" or settings.resize_twice:
        # The whole image is a window of its own size.
        whole = (source_size, source_size)
        crop_size, stride = settings.window(run.processor) if settings.mode == "slide" else whole
        if bar is not None:
            bar.add_total(count_windows(source_size, crop_size, stride))
        bands: Iterator[Tensor] = slide_bands(
            function,
            pixel_values,
            crop_size,
            stride,
            windows_per_batch=settings.batch_size,
            on_windows=advance,
        )
    else:
        assert isinstance(pixel_values, Tensor)  # noqa: S101  # strips are made for mode "slide" only
        logits = function(pixel_values).float()
        source_size = (int(logits.shape[-2]), int(logits.shape[-1]))
        bands = iter([logits])
        if bar is not None:
            bar.add_total(1)
            bar.advance(1)
    for block in resized_blocks((band[0] for band in bands), source_size, size):
        yield block.flip(-1) if flip else block


@dataclass(frozen=True)
class Segmentation:
    """A segmented image.

    Attributes:
        labels: Class ids, int64 tensor `(height, width)` at the size of the image, on the CPU.
        class_names: Names in the order of the ids.
        scores: Class probabilities, float32 tensor `(num_labels, height, width)`, if they were asked for:
            the softmax over class similarities, averaged over flips and scales. Similarities lie in [0, 1],
            so these are flat; they rank classes but are not calibrated.
    """

    labels: Tensor
    class_names: list[str]
    scores: Tensor | None = None

    def class_at(self, x: int, y: int) -> str:
        """Name of the class at column `x` and row `y`, counted from the top left corner.

        Raises:
            ValueError: If the point lies outside of the image.
        """
        height, width = self.labels.shape
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"The point ({x}, {y}) lies outside of the image of {width} x {height} pixels.")
        return self.class_names[int(self.labels[y, x])]

    def mask(self, class_name: str) -> Tensor:
        """Where a class was found, bool `(height, width)`.

        Raises:
            ValueError: If the class is unknown.
        """
        if class_name not in self.class_names:
            raise ValueError(
                f"There is no class {class_name!r}; the classes are {', '.join(self.class_names)}."
            )
        return self.labels == self.class_names.index(class_name)

    def shares(self) -> list[tuple[str, float]]:
        """Classes that occur, with the share of the image that they cover, largest first."""
        counts = torch.bincount(self.labels.flatten(), minlength=len(self.class_names)) / self.labels.numel()
        order = torch.argsort(counts, descending=True, stable=True).tolist()
        return [(self.class_names[k], float(counts[k])) for k in order if counts[k] > 0]

    def _repr_html_(self) -> str:
        """For notebooks: the map and a legend."""
        return segmentation_html(self.labels, self.class_names, self.shares())

    def _repr_png_(self) -> bytes:
        """For notebooks that show no HTML."""
        return label_map_png(self.labels, len(self.class_names))


@renamed_argument("show_progress_bar", "show_progress")
def segment(
    model: nn.Module,
    processor: ImageProcessor,
    image: ImageLike,
    *,
    return_scores: bool = False,
    unknown: bool | float = False,
    show_progress: bool = False,
    **options: Unpack[InferenceOptions],
) -> Segmentation:
    """Segment an image.

    With the default options the labels are those of `pipeline("image-segmentation")`: logits are resized once,
    from the model's resolution to the image's. Where the processor changed the size, the published evaluation
    resizes them in two steps, over the processed size: so do `resize_twice=True` and `mode="slide"`.

    Args:
        model: A segmentation model (`ProLabForSemanticSegmentation` or any other with `logits`).
        processor: Its image processor.
        image: An image of any size: PIL image, path, or array `(height, width, channels)`. Channels and the range of
            values are those of the processor (`image_mean`, `value_range`); RGB of 8 bits is the usual case. Images
            above the pixel limit are read in mode `"slide"` only.
        return_scores: Whether class probabilities are returned as well (memory: classes x pixels).
        unknown: Label pixels that fit no class `"unknown"`, one class behind the others. A number is the share of
            the pixels of known classes that may get this label; `True` is 0.05. Needs a calibration sample.
        show_progress: Whether a bar over windows, flips and scales is shown.
        **options: `mode`, `crop_size`, `stride`, `flip`, `scales`, `batch_size`, `resize_twice`: see
            `InferenceSettings`.

    Returns:
        The label map and, on request, scores.

    Raises:
        ValueError: If an option is out of range or the image cannot be decoded.
        FileNotFoundError: If the path does not exist.

    Example:
        ```python
        result = segment(model, processor, "street.jpg", mode="slide", crop_size=512, stride=341, flip=True)
        result.labels, result.shares()
        ```
    """
    settings = InferenceSettings(**options)
    # Who asks for windows wants them for large images, too.
    upright = as_image(image, processor, max_pixels=math.inf if settings.mode == "slide" else None)
    width, height = image_size(upright)
    with inference_state(model):
        names = class_names_of(model)
        runs = prepared_runs(upright, processor, settings)
        function = logits_function(model)
        if unknown is not False:
            share = DEFAULT_SHARE if unknown is True else float(unknown)
            function, names = with_unknown(function, unknown_threshold(model, share)), [*names, UNKNOWN]
        with progress(show_progress, "segmenting") as bar:
            labels, scores = predict(
                function,
                runs,
                (height, width),
                settings,
                return_scores=return_scores,
                bar=bar,
            )
    return Segmentation(labels.cpu(), names, None if scores is None else scores.cpu())


def prepared_runs(
    image: StandardImage, processor: ImageProcessor, settings: InferenceSettings
) -> list[PreparedRun]:
    """The image at every scale, large ones a strip at a time where that is possible.

    Args:
        image: As `as_image` gives it.
        processor: Image processor.
        settings: Mode and scales.
    """
    width, height = image_size(image)
    keeps_size = getattr(processor, "do_resize", True) is False
    if (
        settings.mode == "slide"
        and settings.scales == (1.0,)
        and keeps_size
        and width * height > STRIPED_PIXELS
    ):
        return [StripedRun(image, processor)]
    return [Run(image, processor, scale) for scale in settings.scales]


__all__ = [
    "ImageLike",
    "InferenceOptions",
    "InferenceSettings",
    "Segmentation",
    "segment",
    "slide_logits",
]
