"""How healthy the properties of a model are: how active they are, which are dead, and whether scores mean shares.

Sums are held, not scores: memory does not grow with the number of images, and sums of several processes add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from prolab_hf.data.image_files import BrokenImageError
from prolab_hf.evaluation.evaluate import as_sample
from prolab_hf.evaluation.inference import inference_state, model_output, prepare
from prolab_hf.evaluation.settings import InferenceSettings
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor

if TYPE_CHECKING:
    from accelerate import Accelerator

NUM_BINS = 10
"""Of equal width in [0, 1], for the calibration error."""
ACTIVE = 0.5
"""Score from which on a property is said to be seen."""
SAMPLE_IMAGES = 16
SAMPLE_SHARE = 1 / 4


@dataclass(frozen=True)
class PropertySummary:
    """What the properties of a model did on some labeled pixels.

    Attributes:
        num_pixels: Labeled pixels, at the resolution of the property logits.
        mean_activation: Mean score over properties and pixels, in [0, 1].
        expected_activation: Share of (pixel, property) pairs where the pixel's class has the property, in [0, 1];
            where a model is right everywhere, both are equal.
        calibration_error: Expected calibration error over (pixel, property) pairs, in [0, 1]: the mean distance
            between a score and how often pixels of such a score have the property, over ten bins.
        dead: Properties that some pixel's class has and that are active (score above 0.5) on none of these pixels,
            by index.
        activation: Mean score per property, `(num_properties,)`.
    """

    num_pixels: int
    mean_activation: float
    expected_activation: float
    calibration_error: float
    dead: list[int]
    activation: list[float]

    def to_dict(self) -> dict[str, Any]:
        """The numbers as a log holds them: means, the number of dead properties, and their indices."""
        return {
            "num_pixels": self.num_pixels,
            "mean_activation": self.mean_activation,
            "expected_activation": self.expected_activation,
            "calibration_error": self.calibration_error,
            "num_dead": len(self.dead),
            "dead": self.dead,
        }


class PropertyStatistics:
    """Sums over labeled pixels, from which a `PropertySummary` follows.

    Args:
        class_property_matrix: `(num_labels, num_properties)` of 0 and 1.
        ignore_index: Label of pixels that are left out; negative labels always are.

    Example:
        ```python
        statistics = PropertyStatistics(model.class_property_matrix)
        for batch in batches:
            output = model(batch["pixel_values"])
            statistics.update(model.property_scores(output.property_logits), batch["labels"])
        summary = statistics.summary()
        ```
    """

    def __init__(self, class_property_matrix: Tensor, *, ignore_index: int = 255) -> None:
        self.matrix = class_property_matrix.detach().float()
        self.ignore_index = ignore_index
        num_properties, device = self.matrix.shape[1], self.matrix.device
        self.num_pixels = torch.zeros((), dtype=torch.float64, device=device)
        self.activation = torch.zeros(num_properties, dtype=torch.float64, device=device)
        self.claimed = torch.zeros_like(self.activation)
        self.seen = torch.zeros_like(self.activation)
        # Per bin: pairs, sum of scores, pairs that have the property.
        self.bins = torch.zeros(3, NUM_BINS, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, property_scores: Tensor, labels: Tensor) -> None:
        """Adds some images.

        Args:
            property_scores: `(batch_size, num_properties, height, width)` in [0, 1], at any resolution.
            labels: `(batch_size, label height, label width)` class ids; the nearest one of each score is taken.
        """
        scores = property_scores.detach().to(self.matrix.device, torch.float32).clamp(0, 1)
        near = interpolate(
            labels[:, None].to(scores.device, torch.float32), size=scores.shape[-2:], mode="nearest-exact"
        )
        ids = near[:, 0].long()
        valid = (ids != self.ignore_index) & (ids >= 0) & (ids < len(self.matrix))
        scores, truth = scores.movedim(1, -1)[valid], self.matrix[ids[valid]]  # (pixels, num_properties) each
        self.num_pixels += len(scores)
        self.activation += scores.sum(0, dtype=torch.float64)
        self.claimed += truth.sum(0, dtype=torch.float64)
        self.seen += (truth * (scores > ACTIVE)).sum(0, dtype=torch.float64)
        bins = (scores * NUM_BINS).long().clamp_max(NUM_BINS - 1).flatten()
        for row, weights in zip(self.bins, (None, scores.flatten(), truth.flatten())):
            row += torch.bincount(bins, weights, minlength=NUM_BINS)

    def reduce(self, accelerator: Accelerator) -> PropertyStatistics:
        """The sums over all processes of a run; every process must call this.

        Args:
            accelerator: Of the run.
        """
        total = PropertyStatistics(self.matrix, ignore_index=self.ignore_index)
        for name in ("num_pixels", "activation", "claimed", "seen", "bins"):
            local = getattr(self, name).to(accelerator.device)
            setattr(total, name, accelerator.reduce(local, reduction="sum"))
        return total

    def summary(self) -> PropertySummary | None:
        """What the sums say; `None` before any labeled pixel."""
        pixels = float(self.num_pixels)
        if not pixels:
            return None
        number, scores, truth = self.bins.cpu()
        activation = (self.activation / pixels).cpu()
        dead = (self.claimed > 0) & (self.seen == 0)
        return PropertySummary(
            num_pixels=int(pixels),
            mean_activation=float(activation.mean()),
            expected_activation=float(self.claimed.mean() / pixels),
            calibration_error=float((scores - truth).abs().sum() / number.sum()),
            dead=dead.nonzero().flatten().tolist(),
            activation=activation.tolist(),
        )


def has_property_scores(model: nn.Module) -> bool:
    """Whether a model answers in properties whose scores lie in [0, 1]."""
    config: Any = getattr(model, "config", None)
    return hasattr(model, "property_scores") and getattr(config, "similarity", "cosine") != "cosine"


def sample_size(num_images: int) -> int:
    """How many evaluation images `measure_properties` looks at: at most 16 and about a quarter of them."""
    return min(SAMPLE_IMAGES, num_images, max(2, round(num_images * SAMPLE_SHARE)))


def measure_properties(
    model: Any,
    processor: ImageProcessor | None,
    dataset: ImageMaskPairs | Examples,
    settings: InferenceSettings,
    *,
    accelerator: Accelerator | None = None,
) -> PropertySummary | None:
    """Looks at the properties on a few evenly spaced images: one forward pass each, beside an evaluation.

    Args:
        model: A ProLab model.
        processor: Its image processor; not needed where the data set gives tensors.
        dataset: Images and masks, or tensors.
        settings: Of the evaluation; with a sliding window, the window in the middle of an image is taken.
        accelerator: Of a run of several processes, all of which must call this.

    Returns:
        The summary; `None` where no image has a labeled pixel, or the model has no property scores.

    Raises:
        ValueError: The labels of an image do not fit it.
    """
    if not has_property_scores(model):
        return None
    ignore_index = getattr(dataset, "ignore_index", model.config.semantic_loss_ignore_index)
    statistics = PropertyStatistics(model.class_property_matrix, ignore_index=ignore_index)
    wanted = sample_size(len(dataset))
    numbers = [number * len(dataset) // wanted for number in range(wanted)]
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    with inference_state(model):
        for number in numbers[rank::world]:
            try:
                pixel_values, labels = _tensors(dataset, number, processor)
            except BrokenImageError:
                continue  # the evaluation names it
            pixel_values, labels = _middle_window(pixel_values, labels, settings, processor)
            logits = model_output(model, pixel_values).property_logits
            statistics.update(model.property_scores(logits), labels)
    if accelerator is not None:
        statistics = statistics.reduce(accelerator)
    return statistics.summary()


def _tensors(
    dataset: ImageMaskPairs | Examples, number: int, processor: ImageProcessor | None
) -> tuple[Tensor, Tensor]:
    """`pixel_values` `(1, num_channels, height, width)` and `labels` `(1, label height, label width)`."""
    item: Any = dataset[number]
    if hasattr(item, "keys"):
        return item["pixel_values"][None], item["labels"][None]
    if processor is None:
        raise ValueError("The data set gives images, but there is no image processor; pass one.")
    sample = as_sample(item, number, processor)
    return prepare(processor, sample.image), torch.from_numpy(sample.mask.copy())[None]


def _middle_window(
    pixel_values: Tensor, labels: Tensor, settings: InferenceSettings, processor: ImageProcessor | None
) -> tuple[Tensor, Tensor]:
    if settings.mode != "slide":
        return pixel_values, labels
    size = pixel_values.shape[-2:]
    crop, _ = settings.window(processor)
    labels = interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
    for axis in (-2, -1):
        start = max(0, (size[axis] - crop[axis]) // 2)
        length = min(size[axis], crop[axis])
        pixel_values = pixel_values.narrow(axis, start, length)
        labels = labels.narrow(axis, start, length)
    return pixel_values, labels
