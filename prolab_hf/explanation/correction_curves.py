"""How much better a model would be if somebody corrected its properties, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from prolab_hf.evaluation.inference import InferenceOptions, class_names_of
from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.explanation.labeled_images import VOID, LabeledImage, labeled_images
from prolab_hf.explanation.property_maps import PassMaps, PropertyMaps, network_of
from prolab_hf.model.resize_prolab import resize_nearest_labels
from prolab_hf.protocols import ImageMaskPairs, ImageProcessor

Order = Literal["random", "uncertainty"]
MIDDLE = 0.5
"""A property score is least certain here."""
DEFAULT_STEPS = 11
LEAST_GAIN = 0.005
"""A rise of the mean IoU below it is no way of which a half could be told."""


@dataclass(frozen=True)
class CorrectionCurve:
    """Figures of merit after correcting more and more properties at every pixel.

    Attributes:
        order: Which properties come first.
        num_corrected: Corrected properties per pixel, ascending, from 0.
        mean_iou: Mean IoU for each number.
        pixel_accuracy: Share of right pixels for each number.
        num_images: Images that were looked at.
        num_properties: Properties of the model.
    """

    order: Order
    num_corrected: list[int]
    mean_iou: list[float]
    pixel_accuracy: list[float]
    num_images: int
    num_properties: int

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dictionary that JSON can hold."""
        return asdict(self)

    def to_text(self) -> str:
        """One sentence."""
        first = {"random": "in random order", "uncertainty": "the least certain ones first"}[self.order]
        text = (
            f"{self.num_images:,} images, {first}: mean IoU {self.mean_iou[0]:.3f} -> {self.mean_iou[-1]:.3f} with all "
            f"{self.num_corrected[-1]} properties corrected"
        )
        if self.mean_iou[-1] - self.mean_iou[0] < LEAST_GAIN:
            return f"{text}: wrong properties are not what it errs by."
        half = (self.mean_iou[0] + self.mean_iou[-1]) / 2
        reached = next(n for n, iou in zip(self.num_corrected, self.mean_iou) if iou >= half)
        return f"{text}, half of the way with {reached}."

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per number of corrected properties."""
        return [
            {"order": self.order, "corrected": number, "mean_iou": iou, "pixel_accuracy": accuracy}
            for number, iou, accuracy in zip(self.num_corrected, self.mean_iou, self.pixel_accuracy)
        ]


def correction_curves(
    model: nn.Module,
    processor: ImageProcessor,
    dataset: ImageMaskPairs,
    *,
    orders: Sequence[Order] = ("random", "uncertainty"),
    steps: Sequence[int] | None = None,
    seed: int = 0,
    max_images: int | None = None,
    show_progress: bool = False,
    **options: Unpack[InferenceOptions],
) -> list[CorrectionCurve]:
    """Replace predicted property scores by true ones and measure again, without another pass of the network.

    The true score of a property at a pixel is 1 where the row of the labeled class has it, else 0. Properties without
    words of a solved model stay as they are, and so do cells of the map without a label.

    Args:
        model: A `ProLabForSemanticSegmentation` whose property scores lie in [0, 1].
        processor: Its image processor.
        dataset: Images and masks, as for `evaluate`; `DrawnScenes` for example.
        orders: `"random"`: the same properties at all pixels of an image, drawn anew for each image. `"uncertainty"`:
            at every pixel those first whose score is nearest to 0.5.
        steps: Numbers of corrected properties; default: 11 from none to all, closer together at the start.
        seed: Of the random order.
        max_images: Look at this many images, evenly spread over the data set; `None` for all.
        show_progress: Whether a bar over the images is shown.
        **options: As for `segment`.

    Returns:
        One curve per order. `prolab_hf.explanation.figures.correction_figure` draws them.

    Raises:
        ValueError: The similarity is `"cosine"` (its scores have no scale), an order or a number of properties does not
            exist, no pixel has a label, or the data set cannot be used.
    """
    network = network_of(model)
    number = int(network.class_property_matrix.shape[1])
    if network.config.similarity == "cosine":
        raise ValueError(
            'The model compares raw logits (similarity="cosine"), which have no true values to set; correction curves '
            "need property scores in [0, 1], as the other similarities have."
        )
    unknown = [order for order in orders if order not in ("random", "uncertainty")]
    if unknown or not orders:
        raise ValueError(f"orders is {list(orders)!r}; allowed are 'random' and 'uncertainty'.")
    counts_of = sorted({*(_usual_steps(number) if steps is None else steps), 0})
    if counts_of[0] < 0 or counts_of[-1] > number:
        raise ValueError(
            f"steps is {list(steps or ())!r}; the model has {number} properties, so 0 to {number}."
        )
    names = class_names_of(network)
    results = {
        order: [SegmentationCounts(len(names), ignore_index=VOID) for _ in counts_of] for order in orders
    }
    rng = np.random.default_rng(seed)
    walk: dict[str, Any] = {"max_images": max_images, "show_progress": show_progress, **options}
    num_images = 0
    for item in labeled_images(model, processor, dataset, description="correcting", **walk):
        num_images += 1
        drawn = torch.from_numpy(rng.permutation(number))
        for order in orders:
            correct = _Correction(item, drawn if order == "random" else None)
            for corrected, counts in zip(counts_of, results[order]):
                counts.update(item.maps.segmentation(edit=correct.of(corrected)).labels, item.mask)
    if not results[orders[0]][0].confusion.any():
        raise ValueError("None of these images has a labeled pixel; check the label coding of the masks.")
    curves = []
    for order in orders:
        scores = [counts.scores() for counts in results[order]]
        curves.append(
            CorrectionCurve(
                order=order,
                num_corrected=counts_of,
                mean_iou=[float(each.mean_iou) for each in scores],
                pixel_accuracy=[float(each.pixel_accuracy) for each in scores],
                num_images=num_images,
                num_properties=number,
            )
        )
    return curves


def _usual_steps(number: int) -> list[int]:
    return sorted({round(number * share**2) for share in np.linspace(0, 1, DEFAULT_STEPS)})


class _Correction:
    """Class scores of an image with some properties corrected.

    Args:
        item: The image with its labels.
        order: Properties in the order of their correction; `None` takes the least certain ones of every cell first.
    """

    def __init__(self, item: LabeledImage, order: Tensor | None) -> None:
        self.item, self.order = item, order
        self._ranks: dict[tuple[int, int], Tensor] = {}
        self._truth: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def of(self, number: int) -> Callable[[PassMaps, int, int], Tensor]:
        """Class scores of a pass with this number of corrected properties, for `PropertyMaps.segmentation`."""
        return lambda found, stream, window: self._scores(found, stream, window, number)

    @torch.no_grad()
    def _scores(self, found: PassMaps, stream: int, window: int, number: int) -> Tensor:
        if number == 0:
            return found.scores
        key, maps = (stream, window), self.item.maps
        named = int(maps.network.class_property_matrix.shape[1])
        if key not in self._truth:
            self._truth[key] = true_properties(maps, self.item.mask, found, stream, window)
            self._ranks[key] = self._ranks_of(found.compared[:named])
        values, is_labeled = self._truth[key]
        chosen = (self._ranks[key] < number) & is_labeled
        compared = found.compared.clone()
        compared[:named] = torch.where(chosen, values.to(compared), compared[:named])
        scores: Tensor = maps.network.similarity_of_scores(compared[None])[0]
        return scores if maps.offsets is None else scores + maps.offsets.to(scores)[:, None, None]

    def _ranks_of(self, scores: Tensor) -> Tensor:
        """Place of every property in the order, `(num_properties, height, width)` or `(num_properties, 1, 1)`."""
        if self.order is None:
            return (scores - MIDDLE).abs().argsort(dim=0, stable=True).argsort(dim=0)
        return self.order.to(scores.device).argsort()[:, None, None]


def true_properties(
    maps: PropertyMaps, mask: Tensor, found: PassMaps, stream: int, window: int
) -> tuple[Tensor, Tensor]:
    """True property scores in the cells of one pass.

    Args:
        maps: The image.
        mask: Class ids `(height, width)` of the image's size, -1 where there is no label.
        found: What the pass gave.
        stream: Index of its stream.
        window: Index of its window.

    Returns:
        0 or 1, `(num_properties, height, width)`, and whether a cell has a label, bool `(height, width)`.
    """
    plan = maps.streams[stream]
    labels = mask.flip(-1) if plan.flip else mask
    if not plan.is_direct:
        place = plan.windows[window]
        labels = resize_nearest_labels(labels, plan.source_size)
        labels = labels[place.top : place.top + place.height, place.left : place.left + place.width]
    labels = resize_nearest_labels(labels, found.size).to(found.compared.device)
    rows: Tensor = maps.network.class_property_matrix
    return rows.t()[:, labels.clamp_min(0)], labels != VOID


__all__ = ["CorrectionCurve", "correction_curves", "true_properties"]
