"""From statistics to a last layer: one ridge regression, and the choice of its three numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from prolab_hf.model.closed_form_prolab import budget_offset
from prolab_hf.solving.statistics import ClassStatistics

RIDGES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
CLASS_EXPONENTS = (0.25, 0.5, 0.75)
UNSPOKEN_WEIGHTS = (0.0, 1.0, 2.0, 4.0)
DEFAULT_RIDGE, DEFAULT_EXPONENT, DEFAULT_UNSPOKEN = 1e-1, 0.5, 2.0
HAIR = 0.005
"""The largest ridge whose mean IoU is within this of the best is taken: trained classes hardly notice it, described
ones are found better. On MSRC-v2 it is the ridge that leaving out one class at a time would choose as well (0.1 for
DINOv2-small, 0.3 for EfficientNet-Lite0; harmonic mean 0.278 and 0.292 there, 0.268 and 0.271 at 0.01)."""
WORTH = 0.002
"""What a unit of unspoken weight must gain in mean IoU: what words can say, they should say. On MSRC-v2 beta 1 costs
described classes up to 0.005 of harmonic mean, beta 2 0.01 to 0.02 and beta 4 0.03 to 0.05."""
UNUSUAL = 0.02
"""What a class exponent that is 1 away from the usual one must gain: on few images the choice is mostly noise."""


@dataclass(frozen=True)
class Choice:
    """The three numbers of a solution and how they did on images that it did not see.

    Attributes:
        ridge: lambda, relative to the mean second moment of the features.
        class_exponent: rho; a class of n pixels weighs `n^-rho` per pixel.
        unspoken_weight: beta.
        mean_iou: Estimate on the validation pixels; `None` where the numbers are given or usual ones.
        category_iou: The same for the responses themselves, a solution without properties.
    """

    ridge: float = DEFAULT_RIDGE
    class_exponent: float = DEFAULT_EXPONENT
    unspoken_weight: float = DEFAULT_UNSPOKEN
    mean_iou: float | None = None
    category_iou: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """As the configuration of a model keeps it."""
        return asdict(self)


@dataclass
class Standardized:
    """Statistics of features shifted to mean 0 and scaled to variance 1, ready to be solved.

    Attributes:
        matrix: float64 `(num_features, num_features)`, mean over the pixels, the constant last.
        sums: float64 `(num_labels, num_features)`, likewise.
        mean: `(num_features - 1,)`.
        std: `(num_features - 1,)`.
    """

    matrix: Tensor
    sums: Tensor
    mean: Tensor
    std: Tensor
    _factors: dict[float, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, moments: Tensor, sums: Tensor) -> Standardized:
        """From weighted moments and sums of raw features.

        The shift and scale follow from the moments themselves, so nothing depends on the order of the images.

        Args:
            moments: float64 `(num_features, num_features)`, the constant last.
            sums: float64 `(num_labels, num_features)`.
        """
        total = moments[-1, -1].clamp_min(1e-300)
        mean = moments[:-1, -1] / total
        variance = moments.diagonal()[:-1] / total - mean.square()
        floor = torch.finfo(torch.float64).eps * 1e3 * (mean.square() + variance.clamp_min(0))
        std = torch.where(variance > floor, variance.clamp_min(1e-300).sqrt(), 1.0)
        matrix = torch.zeros_like(moments)
        matrix[:-1, :-1] = (moments[:-1, :-1] / total - torch.outer(mean, mean)) / torch.outer(std, std)
        matrix[-1, -1] = 1
        scaled = sums / total
        centered = (scaled[:, :-1] - scaled[:, -1:] * mean) / std
        return cls(matrix, torch.cat([centered, scaled[:, -1:]], dim=1), mean, std)

    def responses(self, ridge: float) -> Tensor:
        """The last layer `(num_labels, num_features)` for raw features, the bias last.

        Row c is the ridge regression of "the pixel is of class c".

        Args:
            ridge: lambda, relative to the mean second moment.

        Raises:
            ValueError: The ridge is not positive, or too small for these features.
        """
        if not ridge > 0:
            raise ValueError(f"ridge is {ridge!r}; it must be greater than 0.")
        if ridge not in self._factors:
            shifted = self.matrix.clone()
            shifted.diagonal().add_(ridge * float(self.matrix.diagonal().mean()))
            factor, info = torch.linalg.cholesky_ex(shifted)
            if info:
                raise ValueError(
                    f"With ridge {ridge} the features have no unique solution; use a larger ridge."
                )
            self._factors = {ridge: factor}  # the last one only: each is as large as the moments
        weights = torch.cholesky_solve(self.sums.t(), self._factors[ridge]).t()
        scaled = weights[:, :-1] / self.std
        bias = weights[:, -1:] - (scaled @ self.mean)[:, None]
        return torch.cat([scaled, bias], dim=1)


def solve_responses(statistics: ClassStatistics, choice: Choice, *, without: Sequence[int] = ()) -> Tensor:
    """The last layer `(num_labels, num_features)` of a choice of numbers, float64.

    Args:
        statistics: Of the images.
        choice: lambda and rho.
        without: Classes to leave out as if no image had shown them.
    """
    moments, sums = statistics.pooled(choice.class_exponent, without=without)
    return Standardized.of(moments, sums).responses(choice.ridge)


def property_scores(responses: Tensor, class_rows: Tensor, unspoken_weight: float) -> tuple[Tensor, Tensor]:
    """Scores of the named properties and, weighted, of those without words, as the model computes them.

    Args:
        responses: `(pixels, num_labels)`, one per row, or twice as many: those without words last.
        class_rows: `(num_labels, num_properties)` of 0 and 1.
        unspoken_weight: beta.
    """
    said, unsaid = responses[:, : len(class_rows)], responses[:, len(class_rows) :]
    if not unsaid.shape[1]:
        unsaid = 2 * said - said.sum(dim=1, keepdim=True)
    named = ((said @ (2 * class_rows.to(responses.dtype) - 1) + 1) / 2).clamp_min(0)
    own = ((unsaid + 1) / 2).clamp_min(0) * unspoken_weight
    return named, own


def class_score_parts(responses: Tensor, class_rows: Tensor, unspoken_weight: float) -> tuple[Tensor, Tensor]:
    """The part of each class score that words make up, and the rest.

    Args:
        responses: `(pixels, num_labels)`, one per row.
        class_rows: `(num_labels, num_properties)` of 0 and 1.
        unspoken_weight: beta.

    Returns:
        Two times `(pixels, num_labels)`; the sum is the score, a cosine.
    """
    rows = class_rows.to(responses.dtype)
    named, own = property_scores(responses, rows, unspoken_weight)
    norm = (named.square().sum(dim=1) + own.square().sum(dim=1)).sqrt().clamp_min(1e-8)[:, None]
    length = (rows.square().sum(dim=1) + unspoken_weight**2).sqrt().clamp_min(1e-8)
    return named @ rows.t() / norm / length, own * unspoken_weight / norm / length


def scores_with_described(
    responses: Tensor,
    class_rows: Tensor,
    trained: Sequence[int],
    unspoken_weight: float,
    *,
    by_words: bool = False,
) -> Tensor:
    """Class scores `(pixels, num_labels)` where only some classes have a response.

    Args:
        responses: `(pixels, trained classes)`.
        class_rows: `(num_labels, num_properties)` of 0 and 1.
        trained: The class of each response.
        unspoken_weight: beta.
        by_words: Whether the other classes are compared by named properties alone (`config.described_by_words`).
    """
    rows = class_rows.to(responses.dtype)
    named, own = property_scores(responses, rows[list(trained)], unspoken_weight)
    product, squared = named @ rows.t(), rows.square().sum(dim=1)
    product[:, list(trained)] += own * unspoken_weight
    squared[list(trained)] += unspoken_weight**2
    norm = (named.square().sum(dim=1) + own.square().sum(dim=1)).sqrt().clamp_min(1e-8)
    scores = product / norm[:, None] / squared.sqrt().clamp_min(1e-8)
    if by_words:
        others = [index for index in range(len(rows)) if index not in set(trained)]
        scores[:, others] *= (norm / named.norm(dim=1).clamp_min(1e-8))[:, None]
    return scores


def spoken_shares(
    responses: Tensor, class_rows: Tensor, unspoken_weight: float
) -> tuple[float, list[float | None]]:
    """How much of the winning scores words make up: over all pixels, and per class (`None`: it never wins).

    Args:
        responses: `(pixels, num_labels)`, one per row.
        class_rows: `(num_labels, num_properties)` of 0 and 1.
        unspoken_weight: beta.
    """
    spoken, rest = class_score_parts(responses, class_rows, unspoken_weight)
    winner = (spoken + rest).argmax(dim=1, keepdim=True)
    share = (spoken / (spoken + rest).clamp_min(1e-8)).gather(1, winner)[:, 0]
    winners = winner[:, 0]
    per_class = [
        share[winners == c].mean().item() if (winners == c).any() else None for c in range(len(class_rows))
    ]
    return float(share.mean()) if len(share) else 1.0, per_class


def mean_iou(predicted: Tensor, labels: Tensor, weights: Tensor, num_labels: int) -> float:
    """Mean IoU over the classes that occur, of weighted pixels `(pixels,)`."""
    flat = labels * num_labels + predicted
    counts = torch.bincount(flat, weights=weights.double(), minlength=num_labels**2)
    confusion = counts.view(num_labels, num_labels)
    hit, union = confusion.diagonal(), confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    present = confusion.sum(1) > 0
    return float((hit[present] / union[present]).mean()) if present.any() else float("nan")


@dataclass(frozen=True)
class Pixels:
    """Features of some labeled pixels.

    Attributes:
        features: `(pixels, num_features)`.
        labels: `(pixels,)`.
        weights: How many pixels each one stands for `(pixels,)`.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def none(self) -> Pixels:
        """No pixels of the same shape."""
        return Pixels(self.features[:0], self.labels[:0], self.weights[:0])


def joined(parts: Sequence[Pixels]) -> Pixels:
    """All pixels of several sets, in their order."""
    if not parts:
        return Pixels(torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    return Pixels(
        torch.cat([part.features for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.weights for part in parts]),
    )


def choose(
    fit: ClassStatistics,
    validation: Pixels,
    class_rows: Tensor,
    present: Tensor,
    *,
    ridge: float | None = None,
    class_exponent: float | None = None,
    unspoken_weight: float | None = None,
) -> Choice:
    """Picks lambda, rho and beta by the mean IoU on pixels of images that the statistics do not contain.

    Args:
        fit: Statistics of the other images.
        validation: The pixels; with none of them the usual numbers are taken.
        class_rows: `(classes with pixels, num_properties)`.
        present: Their ids among the classes of the statistics; `validation` numbers them in this order.
        ridge: lambda, if it is decided.
        class_exponent: rho, if it is decided; statistics that are summed up have decided it.
        unspoken_weight: beta, if it is decided.
    """
    if not fit.is_per_class:
        class_exponent = fit.class_exponent
    if not len(validation):
        given = {"ridge": ridge, "class_exponent": class_exponent, "unspoken_weight": unspoken_weight}
        return Choice(**{name: value for name, value in given.items() if value is not None})
    number, labels = len(class_rows), validation.labels.long()
    found: list[Choice] = []
    for rho in CLASS_EXPONENTS if class_exponent is None else (class_exponent,):
        system = Standardized.of(*fit.pooled(rho))
        for strength in RIDGES if ridge is None else (ridge,):
            layer = system.responses(strength)[present].float()
            responses = validation.features @ layer.t()
            category = mean_iou(responses.argmax(dim=1), labels, validation.weights, number)
            for beta in UNSPOKEN_WEIGHTS if unspoken_weight is None else (unspoken_weight,):
                spoken, rest = class_score_parts(responses, class_rows, beta)
                predicted = (spoken + rest).argmax(dim=1)
                score = mean_iou(predicted, labels, validation.weights, number)
                found.append(Choice(strength, rho, beta, score, category))
    return pick(found)


def pick(found: Sequence[Choice]) -> Choice:
    """The largest ridge that costs a hair at most; with it the best of the others, words first."""

    def figure(choice: Choice) -> float:
        unusual = abs(choice.class_exponent - DEFAULT_EXPONENT)
        return (choice.mean_iou or 0.0) - WORTH * choice.unspoken_weight - UNUSUAL * unusual

    best = max(choice.mean_iou or 0.0 for choice in found)
    strongest = max(choice.ridge for choice in found if (choice.mean_iou or 0.0) >= best - HAIR)
    return max((choice for choice in found if choice.ridge == strongest), key=figure)


@dataclass(frozen=True)
class LeftOut:
    """How well a class would be found if it were known by its description only.

    Attributes:
        class_name: The class.
        recall: Share of its pixels in the sample that it would get.
        precision: Share of the pixels it would get that are its own, weighted as the classes occur.
        iou: Of the two.
    """

    class_name: str
    recall: float
    precision: float
    iou: float

    def to_dict(self) -> dict[str, str | float]:
        """As the configuration of a model keeps it."""
        return asdict(self)


def leave_one_out(
    statistics: ClassStatistics,
    sample: Pixels,
    class_rows: Tensor,
    choice: Choice,
    *,
    claim_budget: float = 0.01,
) -> list[LeftOut]:
    """Every class in turn taken out of the statistics by subtraction, described only, and looked for in a sample.

    Args:
        statistics: With moments per class.
        sample: Labeled pixels of other images, with their features.
        class_rows: `(num_labels, num_properties)` of 0 and 1.
        choice: The numbers of the solution.
        claim_budget: Of the class that is left out.

    Raises:
        ValueError: The statistics are not kept per class.
    """
    present = torch.nonzero(statistics.counts > 0).flatten().tolist()
    result = []
    for label in present:
        others = [other for other in present if other != label]
        inside = sample.labels == label
        if len(others) < 2 or not inside.any() or inside.all():
            continue
        layer = solve_responses(statistics, choice, without=[label])[others].float()
        scores = scores_with_described(
            sample.features @ layer.t(), class_rows, others, choice.unspoken_weight
        )
        margin = scores[:, others].amax(dim=1) - scores[:, label]
        won = margin < budget_offset(margin[~inside], claim_budget)
        hit = float(sample.weights[won & inside].sum())
        claimed, own = float(sample.weights[won].sum()), float(sample.weights[inside].sum())
        precision = hit / claimed if claimed else 0.0
        name = statistics.class_names[label]
        result.append(LeftOut(name, hit / own, precision, hit / (claimed + own - hit)))
    return result
