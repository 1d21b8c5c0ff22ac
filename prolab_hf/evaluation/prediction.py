"""One picture through the model: every scale and flip advances together, a few rows at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from prolab_hf.evaluation.preparation import is_processor, prepare
from prolab_hf.evaluation.progress import Progress
from prolab_hf.evaluation.resampling import resized_blocks
from prolab_hf.evaluation.settings import InferenceSettings
from prolab_hf.evaluation.sliding_window import LogitsFunction, count_windows, slide_bands
from prolab_hf.model.resize_prolab import resize_argmax

SIZE_DIVISOR = 32
"""Sides of rescaled pictures are multiples of this where the processor has no `size_divisor` of its own."""


class Run:
    """A picture prepared at one scale.

    Args:
        picture: RGB picture.
        processor: Image processor or evaluation transform.
        scale: Factor of the size that the processor gives the picture.

    Attributes:
        pixel_values: `(1, 3, height, width)` float32.
        processor: The processor, which knows the default window.
    """

    def __init__(self, picture: Image.Image, processor: Any, scale: float = 1.0) -> None:
        self.processor = processor
        self.pixel_values = prepare(processor, picture)
        if scale != 1.0:
            divisor = getattr(processor, "size_divisor", None) or SIZE_DIVISOR
            height, width = (
                max(1, round(n * scale / divisor)) * divisor for n in self.pixel_values.shape[-2:]
            )
            if is_processor(processor):
                # From the original picture: enlarging what was reduced before would lose detail.
                self.pixel_values = prepare(processor, picture, size={"height": height, "width": width})
            else:
                self.pixel_values = F.interpolate(
                    self.pixel_values, size=(height, width), mode="bilinear", antialias=True
                )


@torch.no_grad()
def predict(
    function: LogitsFunction,
    runs: Sequence[Run],
    size: tuple[int, int],
    settings: InferenceSettings,
    *,
    return_scores: bool = False,
    bar: Progress | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Labels and, on request, probabilities of one picture that is prepared at one or more scales.

    Args:
        function: Gives the logits of a batch of prepared pictures.
        runs: The picture at every scale.
        size: Height and width of the result.
        settings: Mode, window, flip.
        return_scores: Whether probabilities are returned.
        bar: Progress bar to advance.

    Returns:
        Labels, int64 `(height, width)`, and probabilities `(num_classes, height, width)` or `None`.
    """
    if settings.is_plain and not return_scores:
        return resize_argmax(function(runs[0].pixel_values), size)[0], None
    flips = (False, True) if settings.flip else (False,)
    streams = [_blocks(function, run, size, settings, flip, bar) for run in runs for flip in flips]
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


def _blocks(
    function: LogitsFunction,
    run: Run,
    size: tuple[int, int],
    settings: InferenceSettings,
    flip: bool,
    bar: Progress | None,
) -> Iterator[Tensor]:
    """Logits of one run at the size of the result, in blocks of rows, turned back if it was flipped."""
    pixel_values = run.pixel_values.flip(-1) if flip else run.pixel_values
    advance = bar.advance if bar is not None else None
    source_size = (int(pixel_values.shape[-2]), int(pixel_values.shape[-1]))
    if settings.mode == "slide" or settings.resize_twice:
        # The whole picture is a window of its own size.
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
        logits = function(pixel_values).float()
        source_size = (int(logits.shape[-2]), int(logits.shape[-1]))
        bands = iter([logits])
        if bar is not None:
            bar.add_total(1)
            bar.advance(1)
    for block in resized_blocks((band[0] for band in bands), source_size, size):
        yield block.flip(-1) if flip else block
