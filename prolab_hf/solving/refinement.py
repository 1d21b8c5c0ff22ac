"""A last layer that keeps the answers of a network and says them in words: fitted where the scores are compared.

Least squares brings responses near 1 and 0, everywhere alike. What decides an answer are scores near the boundary of
two classes, after they were interpolated from the cells of the map to the pixels. So the layer is fitted further on
just that: the interpolated scores of some pixels, by the objective that networks are trained on here (the cosine loss
and a cross-entropy of the scores), with a few steps of L-BFGS from the network's own layer or from least squares. What
it was tried on, and what lost: benchmarks/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from prolab_hf.evaluation.inference import prepare
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.solving.accumulation import Pass
from prolab_hf.solving.pixel_features import PixelSample, features_at, sample_pixels
from prolab_hf.solving.solution import (
    UNSPOKEN_WEIGHTS,
    WORTH,
    Pixels,
    class_score_parts,
    mean_iou,
)
from prolab_hf.solving.solved_head import give_last_layer, rows_of_trained

SCORE_TEMPERATURE = 0.02
STEPS = 30  # of L-BFGS: few, so that the layer stays near its start where pixels say little
NUM_PIXELS, MOST_IMAGES = 32768, 128
MOST_OTHERS = 1024
"""Images that are looked through for classes that the first ones do not show."""
MOST_NUMBERS = 2**26
"""Features held at a time, 256 MiB."""
LEAST_GAIN = 0.002
"""In mean IoU on unseen pixels; for less the plain solution stays, which more images can be added to."""


@dataclass(frozen=True)
class MapPixels:
    """Labeled pixels as a model scores them: by the four cells of its map around each.

    Attributes:
        cells: Features of the cells that are needed `(cells, num_features)`, the constant 1 last.
        places: The cells of each pixel `(pixels, 4)`.
        shares: What each counts for in bilinear interpolation `(pixels, 4)`; they sum to 1.
        labels: `(pixels,)`.
        weights: How many pixels each one stands for `(pixels,)`.
    """

    cells: Tensor
    places: Tensor
    shares: Tensor
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def interpolated(self, values: Tensor) -> Tensor:
        """What the pixels have where the cells have `values` `(cells, channels)`: `(pixels, channels)`."""
        return F.embedding_bag(self.places, values, per_sample_weights=self.shares, mode="sum")

    def scores(self, layer: Tensor, class_rows: Tensor, unspoken_weight: float) -> Tensor:
        """Class scores `(pixels, num_labels)` of a last layer, as the model interpolates them."""
        parts = class_score_parts(self.cells @ layer.t(), class_rows, unspoken_weight)
        return self.interpolated(parts[0] + parts[1])

    def pixels(self) -> Pixels:
        """With features of their own: those of the cells, interpolated."""
        return Pixels(self.interpolated(self.cells), self.labels, self.weights)

    @classmethod
    def joined(cls, parts: Sequence[MapPixels]) -> MapPixels:
        """The pixels of several images."""
        if not parts:
            nothing = torch.zeros(0, dtype=torch.int64)
            return cls(torch.zeros(0, 0), nothing.view(0, 4), torch.zeros(0, 4), nothing, torch.zeros(0))
        starts = np.cumsum([0, *(len(part.cells) for part in parts[:-1])]).tolist()
        return cls(
            torch.cat([part.cells for part in parts]),
            torch.cat([part.places + start for part, start in zip(parts, starts, strict=True)]),
            torch.cat([part.shares for part in parts]),
            torch.cat([part.labels for part in parts]),
            torch.cat([part.weights for part in parts]),
        )


@dataclass(frozen=True)
class Refined:
    """What refining found.

    Attributes:
        layer: `(num_labels, num_features)`, the bias last.
        is_fitted: Whether it was fitted further; otherwise it is the plain solution.
        unspoken_weight: beta.
        mean_iou: With the labels of the validation pixels, of a layer that has not seen them.
        honest_responses: `(validation pixels, num_labels)` of that layer.
    """

    layer: Tensor
    is_fitted: bool
    unspoken_weight: float
    mean_iou: float
    honest_responses: Tensor


def refine(
    fit: MapPixels,
    validation: MapPixels,
    class_rows: Tensor,
    *,
    ridge: float,
    class_exponent: float,
    own_layer: Tensor | None = None,
    unspoken_weight: float | None = None,
) -> Refined:
    """The better of least squares and the fitted layer, with the unspoken weight that pays, by validation pixels.

    Args:
        fit: Pixels to solve on.
        validation: Pixels of other images, to choose by.
        class_rows: `(num_labels, num_properties)` of 0 and 1.
        ridge: lambda.
        class_exponent: rho.
        own_layer: The layer that gave the network's class scores, `(num_labels, num_features)`, the bias last.
        unspoken_weight: beta, if it is decided.
    """
    number, own_features = len(class_rows), fit.pixels()
    plain = least_squares(own_features, number, ridge, class_exponent)
    start = plain if own_layer is None else layer_as_responses(own_layer, own_features, class_exponent)
    found: list[tuple[float, bool, float, Tensor]] = []
    for beta in UNSPOKEN_WEIGHTS if unspoken_weight is None else (unspoken_weight,):
        fitted = fit_scores(start, fit, class_rows, beta, class_exponent)
        for is_fitted, layer in ((False, plain), (True, fitted)):
            predicted = validation.scores(layer, class_rows, beta).argmax(dim=1)
            score = mean_iou(predicted, validation.labels, validation.weights, number)
            found.append((score, is_fitted, beta, layer))
    best, unfitted = (
        max((each for each in found if each[1] == kind), key=lambda each: each[0] - WORTH * each[2])
        for kind in (True, False)
    )
    if best[0] < unfitted[0] + LEAST_GAIN:
        best = unfitted
    score, is_fitted, beta, honest = best
    everything = MapPixels.joined([fit, validation])
    own_features = everything.pixels()
    layer = least_squares(own_features, number, ridge, class_exponent)
    if is_fitted:
        start = layer if own_layer is None else layer_as_responses(own_layer, own_features, class_exponent)
        layer = fit_scores(start, everything, class_rows, beta, class_exponent)
    return Refined(layer, is_fitted, beta, score, validation.interpolated(validation.cells @ honest.t()))


def fit_scores(
    start: Tensor, pixels: MapPixels, class_rows: Tensor, unspoken_weight: float, class_exponent: float
) -> Tensor:
    """A layer fitted to the labels of pixels, from a start: cosine loss plus cross-entropy of the scores.

    A class that no pixel has is not fitted against: its row stays that of the start.

    Args:
        start: `(num_labels, num_features)`, the bias last.
        pixels: Of some images.
        class_rows: `(num_labels, num_properties)` of 0 and 1.
        unspoken_weight: beta.
        class_exponent: rho; a class of n pixels weighs `n^-rho` per pixel.
    """
    mean, std = _shift_and_scale(pixels.cells)
    # In standardized features, where a step means the same in every direction.
    standardized = MapPixels(
        torch.cat([(pixels.cells[:, :-1] - mean) / std, pixels.cells[:, -1:]], dim=1),
        pixels.places,
        pixels.shares,
        pixels.labels,
        pixels.weights,
    )
    bias = start[:, -1] + start[:, :-1] @ mean
    present = torch.bincount(pixels.labels, minlength=len(class_rows)) > 0
    first = torch.cat([start[:, :-1] * std, bias[:, None]], dim=1)
    layer = first.clone().requires_grad_()
    weights = _pixel_weights(pixels, len(class_rows), class_exponent).float()
    optimizer = torch.optim.LBFGS(
        [layer], max_iter=STEPS, max_eval=STEPS + STEPS // 4, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        rows = torch.where(present[:, None], layer, first)
        scores = standardized.scores(rows, class_rows, unspoken_weight).masked_fill(~present, -torch.inf)
        of_classes = F.cross_entropy(scores / SCORE_TEMPERATURE, pixels.labels, reduction="none")
        own = scores.gather(1, pixels.labels[:, None])[:, 0]
        value = (weights * (of_classes + 1 - own)).sum()
        value.backward()
        return value.detach()

    with torch.enable_grad():
        optimizer.step(loss)
    fitted = layer.detach()
    slopes = fitted[:, :-1] / std
    fitted = torch.cat([slopes, (fitted[:, -1] - slopes @ mean)[:, None]], dim=1)
    return torch.where(present[:, None], fitted, start)


def least_squares(pixels: Pixels, num_labels: int, ridge: float, class_exponent: float) -> Tensor:
    """The plain solution from these pixels, float32 `(num_labels, num_features)`.

    Args:
        pixels: Of some images.
        num_labels: Number of classes.
        ridge: lambda.
        class_exponent: rho.
    """
    raw = pixels.features[:, :-1].double()
    mean, std = raw.mean(dim=0), raw.std(dim=0).clamp_min(1e-12)
    features = torch.cat([(raw - mean) / std, torch.ones(len(raw), 1, dtype=torch.float64)], dim=1)
    weighted = features * _pixel_weights(pixels, num_labels, class_exponent)[:, None]
    moments = features.t() @ weighted
    moments.diagonal().add_(ridge * float(moments.diagonal().mean()))
    targets = F.one_hot(pixels.labels, num_labels).double()
    solution = torch.cholesky_solve(weighted.t() @ targets, torch.linalg.cholesky(moments))
    slopes = solution[:-1] / std[:, None]
    return torch.cat([slopes, (solution[-1] - mean @ slopes)[None]]).t().float()


def layer_as_responses(own_layer: Tensor, pixels: Pixels, class_exponent: float) -> Tensor:
    """The network's own layer, shifted and scaled so that it gives about 1 for a pixel's class and 0 for the others.

    Its order of the classes, and so every answer, stays.

    Args:
        own_layer: `(num_labels, num_features)`, the bias last.
        pixels: That the scale is taken from.
        class_exponent: rho.
    """
    number = len(own_layer)
    centered = own_layer.double() - own_layer.double().mean(dim=0)
    scores = pixels.features.double() @ centered.t()
    targets = F.one_hot(pixels.labels, number).double() - 1 / number
    weights = _pixel_weights(pixels, number, class_exponent)[:, None]
    scale = (weights * scores * targets).sum() / (weights * scores.square()).sum().clamp_min(1e-12)
    layer = centered * scale.clamp_min(0)
    layer[:, -1] += 1 / number
    return layer.float()


def _shift_and_scale(cells: Tensor) -> tuple[Tensor, Tensor]:
    raw = cells[:, :-1]
    return raw.mean(dim=0), raw.std(dim=0).clamp_min(1e-6)


def _pixel_weights(pixels: MapPixels | Pixels, num_labels: int, class_exponent: float) -> Tensor:
    counts = torch.bincount(pixels.labels, pixels.weights.double(), minlength=num_labels)
    weights = pixels.weights.double() * (counts.clamp_min(1e-12) ** -class_exponent)[pixels.labels]
    return weights / weights.sum()


def refine_last_layer(
    model: ProLabForSemanticSegmentation,
    work: Pass,
    own_layer: Mapping[str, Tensor] | None = None,
    *,
    unspoken_weight: float | None = None,
) -> Refined | None:
    """Refines the last layer of a model that was just solved, in place, where that is better.

    The statistics that would let images be added do not know the fitted layer, so they are then left out.

    Args:
        model: A solved model.
        work: The pass over the images that it was solved from.
        own_layer: For every class the row `(num_features,)` of the network's own last layer, the bias last.
        unspoken_weight: beta, if it is decided.

    Returns:
        What was found; `None` where there are too few images to choose by.
    """
    config = model.config
    solution, trained = config.solution or {}, config.trained_classes or []
    fit, validation = _pixels_of(work, trained)
    if not len(validation) or not len(fit):
        return None
    refined = refine(
        fit,
        validation,
        rows_of_trained(model),
        ridge=solution["ridge"],
        class_exponent=solution["class_exponent"],
        own_layer=None if own_layer is None else torch.stack([own_layer[name] for name in trained]),
        unspoken_weight=unspoken_weight,
    )
    if not refined.is_fitted:
        return refined
    model.solve_statistics = None  # type: ignore[assignment]
    give_last_layer(
        model,
        refined.layer,
        {**solution, "mean_iou": refined.mean_iou, "is_fitted": True},
        unspoken_weight=refined.unspoken_weight,
        responses=refined.honest_responses,
        labels=validation.labels,
        claim_budget=config.claim_budget,
    )
    return refined


def _pixels_of(work: Pass, trained: Sequence[str]) -> tuple[MapPixels, MapPixels]:
    """Pixels of at most 128 images, evenly spread, to solve on and, of every fifth image, to choose by.

    Args:
        work: The pass over the images.
        trained: Names of the classes; labels number them in this order.
    """
    parts: tuple[list[MapPixels], list[MapPixels]] = ([], [])

    def most(num_features: int) -> int:
        return min(NUM_PIXELS, MOST_NUMBERS // (4 * num_features))

    for held, maps, sample, size in sampled_images(work, trained, most):
        parts[held].append(_map_pixels(maps, sample, size))
    return MapPixels.joined(parts[0]), MapPixels.joined(parts[1])


def sampled_images(
    work: Pass, trained: Sequence[str], most: Callable[[int], int]
) -> Iterator[tuple[bool, list[Tensor], PixelSample, tuple[int, int]]]:
    """Some labeled pixels of at most 128 images, evenly spread, and of a few more for classes that none of them shows.

    Args:
        work: The pass over the images.
        trained: Names of the classes; labels number them in this order.
        most: From the number of features, constant included, how many pixels all images give together.

    Yields:
        Whether the image, every fifth, is one to choose by; what the last layer sees of it; the pixels; and the size
        of its mask.
    """
    number = len(work.dataset)
    spread = _evenly(np.arange(number), MOST_IMAGES)
    others = _evenly(np.setdiff1d(np.arange(number), spread), MOST_OTHERS)
    position = np.full(len(work.classes.class_names), -1)
    for index, name in enumerate(trained):
        position[work.classes.class_names.index(name)] = index
    missing, taken = set(range(len(trained))), 0
    for turn, index in enumerate([*spread, *others]):
        if turn >= len(spread) and not missing:
            break
        image, ids, _ = work.read(index)
        labels = np.where(ids < 0, -1, position[ids])
        shown = set(np.unique(labels[labels >= 0]).tolist())
        if turn >= len(spread) and not shown & missing:
            continue
        missing -= shown
        maps = list(work.maps_of(prepare(work.processor, image)))
        share = most(sum(each.shape[1] for each in maps) + 1) // len(spread)
        sample = sample_pixels(labels, -1, max(1, share), np.random.default_rng((work.seed, index, 1)))
        if len(sample.labels):
            yield taken % 5 == 4, maps, sample, (labels.shape[0], labels.shape[1])
            taken += 1


def _evenly(indices: NDArray[np.int64], most: int) -> list[int]:
    """At most that many of the indices, evenly spread."""
    places = np.linspace(0, len(indices) - 1, min(len(indices), most)).astype(int)
    return [int(each) for each in indices[np.unique(places)]]


def _map_pixels(maps: Sequence[Tensor], sample: PixelSample, size: tuple[int, ...]) -> MapPixels:
    """Pixels of one image of a size, by the cells of the finest of its maps."""
    height, width = maps[0].shape[-2:]
    above, below, lower = _neighbors(sample.rows, size[0], height)
    left, right, later = _neighbors(sample.columns, size[1], width)
    corners = [above * width + left, above * width + right, below * width + left, below * width + right]
    shares = [(1 - lower) * (1 - later), (1 - lower) * later, lower * (1 - later), lower * later]
    used, places = np.unique(np.stack(corners, axis=1), return_inverse=True)
    cells = PixelSample(used // width, used % width, used, np.ones(len(used)))
    return MapPixels(
        features_at(maps, cells, (height, width)).cpu(),
        torch.from_numpy(places.reshape(-1, 4)),
        torch.from_numpy(np.stack(shares, axis=1)).float(),
        torch.from_numpy(sample.labels),
        torch.from_numpy(sample.weights),
    )


def _neighbors(
    pixels: NDArray[np.int64], length: int, cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The cells on both sides of each pixel along an axis, and the share of the second (`align_corners=False`)."""
    place = np.clip((pixels + 0.5) * (cells / length) - 0.5, 0, cells - 1)
    first = np.floor(place).astype(np.int64)
    return first, np.minimum(first + 1, cells - 1), place - first


__all__ = ["MapPixels", "Refined", "refine", "refine_last_layer"]
