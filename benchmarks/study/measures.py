"""Figures of a head on labeled pixels: mean IoU, calibration, severity of mistakes, seen and unseen classes."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.study.heads import Scores
from benchmarks.study.pixels import Pixels
from prolab_hf.model.closed_form_prolab import claim_offsets

CHUNK = 16384
BINS = 15
TEMPERATURES = np.geomspace(0.005, 5.0, 41)
FITTED_ON = 8192

# Written by hand before any figure was seen; no space has these words.
TAXONOMY = {
    "msrc-v2": {
        "person": "living/animal/human", "cow": "living/animal/hoofed/cow", "horse": "living/animal/hoofed/horse",
        "sheep": "living/animal/hoofed/sheep", "cat": "living/animal/pet/cat", "dog": "living/animal/pet/dog",
        "bird": "living/animal/bird", "grass": "living/plant/grass", "tree": "living/plant/tree",
        "flower": "living/plant/flower", "aeroplane": "made/vehicle/air", "boat": "made/vehicle/water",
        "car": "made/vehicle/land/car", "bicycle": "made/vehicle/land/bicycle",
        "building": "made/outdoor/building", "road": "made/outdoor/road", "sign": "made/outdoor/sign",
        "book": "made/indoor/book", "chair": "made/indoor/chair", "sky": "nature/sky", "water": "nature/water",
        "mountain": "nature/mountain",
    },
    "camvid": {
        "sky": "nature/sky", "tree": "living/plant/tree", "pedestrian": "living/person/pedestrian",
        "bicyclist": "living/person/bicyclist", "road": "made/ground/road", "pavement": "made/ground/pavement",
        "building": "made/structure/building", "fence": "made/structure/fence", "pole": "made/furniture/pole",
        "sign": "made/furniture/sign", "car": "made/vehicle/car",
    },
}  # fmt: skip


def scores_of(scores: Scores, features: Tensor) -> Tensor:
    """Scores of many pixels, in chunks."""
    with torch.no_grad():
        return torch.cat([scores(part) for part in features.split(CHUNK)])


def confusion(predicted: Tensor, pixels: Pixels, number: int) -> NDArray[np.float64]:
    """Weighted counts `(true class, predicted class)`."""
    flat = pixels.labels * number + predicted
    counts = torch.bincount(flat, weights=pixels.weights.double(), minlength=number**2)
    return counts.view(number, number).numpy()


def class_ious(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of every class; NaN where it has no pixel."""
    hit = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hit
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts.sum(1) > 0, hit / union, np.nan)


def expected_calibration_error(probabilities: Tensor, pixels: Pixels) -> float:
    """Mean distance between confidence and share of hits in 15 bins of confidence."""
    confidence, predicted = probabilities.max(dim=1)
    weights = pixels.weights.double()
    place = (confidence * BINS).long().clamp_max(BINS - 1)
    total = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, weights)
    sure = torch.zeros_like(total).index_add_(0, place, weights * confidence.double())
    hits = torch.zeros_like(total).index_add_(0, place, weights * (predicted == pixels.labels).double())
    return float(((sure - hits).abs() / weights.sum()).sum())


def fitted_temperature(scores: Tensor, pixels: Pixels) -> float:
    """The temperature with the least cross-entropy on (at most 8,192 of) these pixels."""
    stride = max(1, len(pixels) // FITTED_ON)
    scores, pixels = scores[::stride], pixels.take(torch.arange(0, len(pixels), stride))
    weights = pixels.weights / pixels.weights.sum()

    def entropy(temperature: float) -> float:
        losses = F.cross_entropy(scores / temperature, pixels.labels, reduction="none")
        return float((losses * weights).sum())

    return float(min(TEMPERATURES, key=entropy))


def similarity_of_classes(name: str, class_names: Sequence[str]) -> NDArray[np.float64]:
    """Length of the shared part of two paths in the taxonomy, relative to their mean length (Wu and Palmer)."""
    paths = [TAXONOMY[name][each].split("/") for each in class_names]
    result = np.eye(len(paths))
    for i, first in enumerate(paths):
        for j, second in enumerate(paths):
            shared = 0
            while shared < min(len(first), len(second)) and first[shared] == second[shared]:
                shared += 1
            result[i, j] = 2 * shared / (len(first) + len(second))
    return result


def severity(counts: NDArray[np.float64], similarity: NDArray[np.float64]) -> tuple[float, float]:
    """Mean similarity of true and predicted class over the mistakes, and the same if classes counted alike.

    The second mean is over the mistakes of every class by itself.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    per_class = (wrong * similarity).sum(1) / np.maximum(wrong.sum(1), 1e-12)
    return float((wrong * similarity).sum() / max(wrong.sum(), 1e-12)), float(
        per_class[wrong.sum(1) > 0].mean()
    )


def all_figures(
    scores: Scores, validation: Pixels, test: Pixels, class_names: Sequence[str], data: str
) -> dict[str, float | list[float]]:
    """Everything that one trained head is asked where all classes are trained."""
    number = len(class_names)
    found = scores_of(scores, test.features)
    counts = confusion(found.argmax(dim=1), test, number)
    temperature = fitted_temperature(scores_of(scores, validation.features), validation)
    ious = class_ious(counts)
    result: dict[str, float | list[float]] = {
        "miou": float(np.nanmean(ious)),
        "accuracy": float(counts.diagonal().sum() / counts.sum()),
        "ece": expected_calibration_error(found.softmax(dim=1), test),
        "ece_fitted": expected_calibration_error((found / temperature).softmax(dim=1), test),
        "temperature": temperature,
        "ious": [float(value) for value in ious],
    }
    if data in TAXONOMY:
        similarity = similarity_of_classes(data, class_names)
        result["mistakes"], result["mistakes_by_class"] = severity(counts, similarity)
    return result


def harmonic(seen: float, unseen: float) -> float:
    """Harmonic mean."""
    return 2 * seen * unseen / max(seen + unseen, 1e-9)


def unseen_figures(
    scores: Scores,
    calibration: Pixels,
    test: Pixels,
    unseen: Sequence[int],
    number: int,
    budget: float = 0.01,
) -> dict[str, float]:
    """Seen, unseen and harmonic mean IoU, without and with the claim budget.

    Args:
        scores: Of all classes.
        calibration: Pixels of seen classes of images that the head has not seen, labels of all classes.
        test: All pixels.
        unseen: Ids of the classes that are only described.
        number: Of classes.
        budget: Share of calibration pixels that each unseen class may take.
    """
    trained = torch.tensor([c not in unseen for c in range(number)])
    known = torch.isin(calibration.labels, trained.nonzero().flatten())
    offsets = torch.tensor(
        claim_offsets(scores_of(scores, calibration.take(known).features), trained, budget)
    )
    found = scores_of(scores, test.features)
    result: dict[str, float] = {}
    for name, shift in (("no budget", torch.zeros(number)), ("budget", offsets.float())):
        ious = class_ious(confusion((found + shift).argmax(dim=1), test, number))
        seen = float(np.nanmean(ious[trained.numpy()]))
        new = float(np.nanmean(ious[~trained.numpy()]))
        result |= {f"seen, {name}": seen, f"unseen, {name}": new, f"harmonic, {name}": harmonic(seen, new)}
    return result
