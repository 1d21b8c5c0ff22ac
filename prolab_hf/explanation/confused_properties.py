"""Which properties are behind the confusions of a model: what led from the true class to the one that was given."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from prolab_hf.evaluation.inference import InferenceOptions, class_names_of
from prolab_hf.explanation.decomposition import decompose
from prolab_hf.explanation.explained import Share
from prolab_hf.explanation.labeled_images import VOID, labeled_images
from prolab_hf.explanation.property_maps import network_of
from prolab_hf.protocols import ImageMaskPairs, ImageProcessor


@dataclass(frozen=True)
class ConfusedPair:
    """Pixels of one class that were labeled as another, and the properties that led there.

    Attributes:
        labeled: The true class.
        predicted: The class that the model gave.
        pixels: How many.
        share_of_class: Part of the true class's pixels.
        share_of_errors: Part of all wrong pixels.
        properties: Properties and terms with what they add to the wrong class more than to the true one, mean over
            these pixels; the largest first. Positive ones mislead, negative ones speak for the true class.
    """

    labeled: str
    predicted: str
    pixels: int
    share_of_class: float
    share_of_errors: float
    properties: list[Share] = field(repr=False)


@dataclass(frozen=True)
class PropertyConfusion:
    """Which properties are behind the confusions of a model on a data set.

    Attributes:
        pairs: The confused pairs with the most pixels, largest first.
        num_images: Images that were looked at.
        num_pixels: Labeled pixels in them.
        num_wrong: Those that got another class.
    """

    pairs: list[ConfusedPair]
    num_images: int
    num_pixels: int
    num_wrong: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dictionary that JSON can hold."""
        return asdict(self)

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row per pair and property."""
        return [
            {
                "labeled": pair.labeled,
                "predicted": pair.predicted,
                "pixels": pair.pixels,
                "share_of_class": pair.share_of_class,
                "share_of_errors": pair.share_of_errors,
                "property": name,
                "difference": difference,
            }
            for pair in self.pairs
            for name, difference in pair.properties
        ]

    def to_text(self, top: int = 3) -> str:
        """One line per pair.

        Args:
            top: Properties per line.
        """
        wrong = self.num_wrong / max(1, self.num_pixels)
        lines = [f"{self.num_wrong:,} of {self.num_pixels:,} labeled pixels ({wrong:.1%}) get another class."]
        for pair in self.pairs:
            misleading = "; ".join(f"{name} ({d:+.3f})" for name, d in pair.properties[:top] if d > 0)
            lines.append(
                f"{pair.labeled} as {pair.predicted} ({pair.share_of_errors:.1%} of all errors): {misleading}"
            )
        return "\n".join(lines)


def confused_properties(
    model: nn.Module,
    processor: ImageProcessor,
    dataset: ImageMaskPairs,
    *,
    max_pairs: int = 10,
    max_images: int | None = None,
    show_progress: bool = False,
    **options: Unpack[InferenceOptions],
) -> PropertyConfusion:
    """Which properties separate the classes that a model confuses, or fail to.

    Class scores are compared, also where several runs are averaged.

    Args:
        model: A `ProLabForSemanticSegmentation`.
        processor: Its image processor.
        dataset: Images and masks, as for `evaluate`.
        max_pairs: Pairs to keep, those with the most pixels.
        max_images: Look at this many images, evenly spread over the data set; `None` for all.
        show_progress: Whether a bar over the images is shown.
        **options: As for `segment`.

    Raises:
        ValueError: `max_pairs` is below 1, no pixel has a label, or the data set cannot be used.
    """
    if max_pairs < 1:
        raise ValueError(f"max_pairs is {max_pairs}; it must be at least 1.")
    names = class_names_of(network_of(model))
    sums: dict[tuple[int, int], Tensor] = {}
    counts = torch.zeros(len(names), len(names), dtype=torch.int64)
    terms: list[str] = []
    num_images = 0
    walk: dict[str, Any] = {"max_images": max_images, "show_progress": show_progress, **options}
    for item in labeled_images(model, processor, dataset, **walk):
        num_images += 1
        predicted = item.maps.segmentation().labels
        codes = torch.where(item.mask == VOID, VOID, item.mask * len(names) + predicted)
        for code in codes.unique().tolist():
            true, found = divmod(code, len(names))
            if code == VOID:
                continue
            region = codes == code
            counts[true, found] += int(region.sum())
            if true != found:
                parts = decompose(item.maps, region, found, true, "score")
                terms = parts.terms
                sums[true, found] = sums.get((true, found), 0) + parts.leads[true] * int(region.sum())
    if not counts.any():
        raise ValueError("None of these images has a labeled pixel; check the label coding of the masks.")
    wrong = int(counts.sum() - counts.diagonal().sum())
    pairs = []
    for (true, found), total in sorted(sums.items(), key=lambda entry: -int(counts[entry[0]]))[:max_pairs]:
        means = total / int(counts[true, found])
        order = torch.argsort(means, descending=True, stable=True).tolist()
        pairs.append(
            ConfusedPair(
                labeled=names[true],
                predicted=names[found],
                pixels=int(counts[true, found]),
                share_of_class=int(counts[true, found]) / int(counts[true].sum()),
                share_of_errors=int(counts[true, found]) / wrong,
                properties=[(terms[k], float(means[k])) for k in order],
            )
        )
    return PropertyConfusion(pairs, num_images, int(counts.sum()), wrong)


__all__ = ["ConfusedPair", "PropertyConfusion", "confused_properties"]
