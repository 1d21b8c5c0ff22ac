"""Are pixels that a model is sure of right? Probabilities compared with how often they hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from prolab_hf.evaluation.inference import InferenceOptions
from prolab_hf.explanation.labeled_images import VOID, LabeledImage, labeled_images
from prolab_hf.protocols import ImageMaskPairs, ImageProcessor

LOWEST, HIGHEST = 1e-4, 10.0
"""Temperatures between which the best one is looked for."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Pixels whose confidence lies in one interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
        pixels: Sampled pixels in it.
        confidence: Their mean confidence; `None` without pixels.
        accuracy: Share of right ones; `None` without pixels.
    """

    low: float
    high: float
    pixels: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of a model on a data set.

    Attributes:
        bins: From confidence 0 to 1.
        temperature: What class scores were divided by before the softmax.
        calibration_error: Expected calibration error: mean of |accuracy - confidence| over the pixels, by bin.
        accuracy: Share of right pixels.
        confidence: Mean probability of the given class.
        negative_log_likelihood: Mean of -ln p of the true class.
        num_pixels: Pixels that were sampled.
        num_images: Images that they come from.
        is_fitted: Whether the temperature was chosen on these very pixels.
    """

    bins: list[ReliabilityBin]
    temperature: float
    calibration_error: float
    accuracy: float
    confidence: float
    negative_log_likelihood: float
    num_pixels: int
    num_images: int
    is_fitted: bool

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dictionary that JSON can hold."""
        return asdict(self)

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per bin."""
        return [asdict(each) for each in self.bins]

    def to_text(self) -> str:
        """One sentence."""
        fitted = " (fitted on these pixels)" if self.is_fitted else ""
        return (
            f"{self.num_pixels:,} pixels of {self.num_images:,} images: accuracy {self.accuracy:.3f}, mean confidence "
            f"{self.confidence:.3f}, calibration error {self.calibration_error:.3f} at temperature "
            f"{self.temperature:.4g}{fitted}."
        )


def reliability(
    model: nn.Module,
    processor: ImageProcessor,
    dataset: ImageMaskPairs,
    *,
    temperature: float | Literal["fit"] = 1.0,
    num_bins: int = 15,
    max_pixels: int = 200_000,
    seed: int = 0,
    max_images: int | None = None,
    show_progress: bool = False,
    **options: Unpack[InferenceOptions],
) -> Reliability:
    """Compare the probabilities of a model with its accuracy.

    At temperature 1 the probabilities are those of `segment(..., return_scores=True)`: the softmax of similarities,
    which lie in [0, 1], so they are flat and the model seems less sure than it may be. `"fit"` finds the temperature
    with the highest likelihood of the labels; use other images for it than those that it is judged on.

    Args:
        model: A `ProLabForSemanticSegmentation`.
        processor: Its image processor.
        dataset: Images and masks, as for `evaluate`.
        temperature: A positive number, or `"fit"`.
        num_bins: Intervals of equal width.
        max_pixels: Labeled pixels to sample, in equal parts from all images.
        seed: Of the sample.
        max_images: Look at this many images, evenly spread over the data set; `None` for all.
        show_progress: Whether a bar over the images is shown.
        **options: As for `segment`.

    Returns:
        Bins and means. `prolab_hf.explanation.figures.reliability_figure` draws them.

    Raises:
        ValueError: A number is outside of its range, no pixel has a label, or the data set cannot be used.
    """
    if temperature != "fit" and not (isinstance(temperature, int | float) and 0 < temperature < float("inf")):
        raise ValueError(f"temperature is {temperature!r}; it must be a positive number or 'fit'.")
    for name, value in (("num_bins", num_bins), ("max_pixels", max_pixels)):
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1.")
    number = len(dataset) if max_images is None else min(max_images, len(dataset))
    per_image = max(1, max_pixels // max(1, number))
    rng = np.random.default_rng(seed)
    walk: dict[str, Any] = {"max_images": max_images, "show_progress": show_progress, **options}
    scores, labels, num_images = [], [], 0
    for item in labeled_images(model, processor, dataset, description="measuring", **walk):
        places = (item.mask.flatten() != VOID).nonzero().flatten()
        if not len(places):
            continue
        num_images += 1
        if len(places) > per_image:
            places = places[torch.from_numpy(np.sort(rng.choice(len(places), per_image, replace=False)))]
        scores.append(_scores_at(item, places))
        labels.append(item.mask.flatten()[places])
    if not scores:
        raise ValueError("None of these images has a labeled pixel; check the label coding of the masks.")
    values, truth = torch.cat(scores, dim=1), torch.cat(labels)
    chosen = best_temperature(values, truth) if temperature == "fit" else float(temperature)
    return _measured(values, truth, chosen, num_bins, num_images, is_fitted=temperature == "fit")


def _scores_at(item: LabeledImage, places: Tensor) -> Tensor:
    """Class scores of every run at some pixels, `(runs, pixels, num_labels)`."""
    width = item.mask.shape[1]
    rows, columns = places // width, places % width
    runs = []
    for stream in range(len(item.maps.streams)):
        found, top = [], 0
        for block in item.maps.score_blocks(stream):
            inside = (rows >= top) & (rows < top + block.shape[1])
            found.append(block.cpu()[:, rows[inside] - top, columns[inside]].t())
            top += block.shape[1]
        runs.append(torch.cat(found))
    return torch.stack(runs)


def _probabilities(scores: Tensor, temperature: float) -> Tensor:
    """`(pixels, num_labels)`, averaged over the runs as `segment` does."""
    return (scores / temperature).softmax(dim=-1).mean(dim=0)


def _log_likelihood(scores: Tensor, labels: Tensor, temperature: float) -> float:
    picked = _probabilities(scores, temperature).gather(1, labels[:, None])[:, 0]
    return float(picked.double().clamp_min(1e-30).log().mean())


def best_temperature(scores: Tensor, labels: Tensor) -> float:
    """The temperature with the highest likelihood of the labels, to 0.1 %.

    Args:
        scores: Class scores `(runs, pixels, num_labels)`.
        labels: Class ids `(pixels,)`.
    """
    low, high = float(np.log(LOWEST)), float(np.log(HIGHEST))
    golden = (5**0.5 - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = (_log_likelihood(scores, labels, float(np.exp(x))) for x in (left, right))
    while high - low > 1e-3:
        if at_left >= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = _log_likelihood(scores, labels, float(np.exp(left)))
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = _log_likelihood(scores, labels, float(np.exp(right)))
    return float(np.exp((low + high) / 2))


def _measured(
    scores: Tensor, labels: Tensor, temperature: float, num_bins: int, num_images: int, *, is_fitted: bool
) -> Reliability:
    confidences, predicted = _probabilities(scores, temperature).max(dim=1)
    confidences, right = confidences.double(), (predicted == labels).double()
    index = (confidences * num_bins).long().clamp(0, num_bins - 1)
    counts = torch.bincount(index, minlength=num_bins)
    sums = torch.zeros(2, num_bins, dtype=torch.float64)
    sums[0].index_add_(0, index, confidences)
    sums[1].index_add_(0, index, right)
    means = sums / counts.clamp_min(1)
    bins = [
        ReliabilityBin(
            low=k / num_bins,
            high=(k + 1) / num_bins,
            pixels=int(counts[k]),
            confidence=float(means[0, k]) if counts[k] else None,
            accuracy=float(means[1, k]) if counts[k] else None,
        )
        for k in range(num_bins)
    ]
    return Reliability(
        bins=bins,
        temperature=temperature,
        calibration_error=float(((means[0] - means[1]).abs() * counts).sum() / len(labels)),
        accuracy=float(right.mean()),
        confidence=float(confidences.mean()),
        negative_log_likelihood=-_log_likelihood(scores, labels, temperature),
        num_pixels=len(labels),
        num_images=num_images,
        is_fitted=is_fitted,
    )


__all__ = ["Reliability", "ReliabilityBin", "best_temperature", "reliability"]
