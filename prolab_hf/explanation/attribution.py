"""The exact share of every property in a class score, and in a class probability.

A class score is a sum over properties, so it can be taken apart without approximation. With property scores
`s` and the row `t` of a class (K properties):

    cosine similarity    s . t / (|s| |t|)      = sum over k of  s_k t_k / (|s| |t|)
    L2 similarity        1 - |s - t| / sqrt(K)  = sum over k of  1 / K - (s_k - t_k)^2 / (|s - t| sqrt(K))

A solved model also has properties without words, whose shares are one term together, and a described class an offset.
Where described classes are compared by their words alone (`config.described_by_words`), their |s| is that of the named
properties.

Where `segment` averages several runs (flips, scales) it compares mean probabilities, not scores. They can be taken
apart as exactly. For two classes of one run, with scores `z` and probabilities `p = softmax(z)`,

    p_a - p_b = L(p_a, p_b) (z_a - z_b),      L(p, q) = (p - q) / (ln p - ln q), the logarithmic mean,

because `z_a - z_b = ln p_a - ln p_b`; and `z_a - z_b` is a sum over properties. A probability is compared with what it
would be if nothing were known, `1 / C` for C classes: `p_a - 1 / C` is the mean of `p_a - p_b` over all classes `b`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from prolab_hf.explanation.pixel_weights import Weights

SIMILARITIES = ("sigmoid_cosine", "cosine", "sigmoid_l2", "linear_cosine")
UNSPOKEN_TERM = "in ways the words do not say"
"""Name of what the properties without words of a solved model add to a score."""
OFFSET_TERM = "offset of a described class"
"""Name of what the claim budget adds to the score of a class that is only described."""
EVEN_TERM = "an even share for every class"
"""Name of the probability that a class has before anything is seen."""
TERMS = (UNSPOKEN_TERM, OFFSET_TERM, EVEN_TERM)
"""What is no property among the contributions."""
EPSILON = 1e-8
"""Floor of norms, as in `torch.nn.CosineSimilarity`."""


def score_contributions(
    property_scores: Tensor, class_property_matrix: Tensor, similarity: str, *, num_named: int | None = None
) -> Tensor:
    """Share of every property in every class score.

    Args:
        property_scores: What the class similarity sees, `(..., num_properties)`: `sigmoid(logits / T)`, or
            the logits themselves for `"cosine"`.
        class_property_matrix: `(num_labels, num_properties)` of 0 and 1, or weights.
        similarity: `"sigmoid_cosine"`, `"cosine"`, `"sigmoid_l2"` or `"linear_cosine"`.
        num_named: Number of properties with words, where a class that has no others is compared by these alone.

    Returns:
        `(..., num_labels, num_properties)`; the sum over the last dimension is the class score.

    Raises:
        ValueError: If the similarity is unknown or the numbers of properties differ.
    """
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity is {similarity!r}; it must be one of {', '.join(SIMILARITIES)}.")
    if property_scores.shape[-1] != class_property_matrix.shape[-1]:
        raise ValueError(
            f"There are scores of {property_scores.shape[-1]} properties, but class rows of "
            f"{class_property_matrix.shape[-1]}."
        )
    scores, rows = property_scores.unsqueeze(-2), class_property_matrix.to(property_scores.dtype)
    if similarity == "sigmoid_l2":
        number = rows.shape[-1]
        squared = (scores - rows).square()
        distance = squared.sum(dim=-1, keepdim=True).sqrt().clamp_min(EPSILON)
        return 1 / number - squared / (distance * number**0.5)
    shares = _unit(scores) * _unit(rows)
    if num_named is None:
        return shares
    return torch.where(_words_only(rows, num_named), _unit(_named(scores, num_named)) * _unit(rows), shares)


def weighted_shares(
    property_scores: Tensor,
    weights: Weights,
    class_rows: Tensor,
    similarity: str,
    *,
    num_named: int | None = None,
) -> Tensor:
    """Share of every property in every class score, summed over cells with weights.

    Args:
        property_scores: What the class similarity sees, `(num_properties, height, width)`.
        weights: One set of weights of these cells.
        class_rows: `(num_labels, num_properties)`.
        similarity: See `score_contributions`.
        num_named: See `score_contributions`.

    Returns:
        `(num_labels, num_properties)`, float64.
    """
    rows = class_rows.cpu().to(torch.float64)
    total = torch.zeros_like(rows)
    for cells, cell_weights in weights.of_maps(property_scores):
        if similarity == "sigmoid_l2":
            total += _l2_shares(cells, cell_weights / _distances(cells, rows), rows, cell_weights.sum())
        else:
            total += _summed(cells, cell_weights, rows, num_named)[1] * _unit(rows)
    return total


def paired_shares(
    property_scores: Tensor,
    weights: Weights,
    class_rows: Tensor,
    explained: int,
    similarity: str,
    *,
    num_named: int | None = None,
) -> Tensor:
    """What every property adds to one class more than to each other class, with weights for each of these pairs.

    Args:
        property_scores: What the class similarity sees, `(num_properties, height, width)`.
        weights: As many sets of weights as there are classes.
        class_rows: `(num_labels, num_properties)`.
        explained: Index of the one class.
        similarity: See `score_contributions`.
        num_named: See `score_contributions`.

    Returns:
        `(num_labels, num_properties)`, float64: row b holds the differences to class b.
    """
    rows = class_rows.cpu().to(torch.float64)
    total = torch.zeros_like(rows)
    for cells, cell_weights in weights.of_maps(property_scores):
        if similarity == "sigmoid_l2":
            distances, number = _distances(cells, rows), cell_weights.sum(1, keepdim=True)
            own = rows[explained].expand_as(rows)
            total += _l2_shares(cells, cell_weights / distances[explained], own, number)
            total -= _l2_shares(cells, cell_weights / distances, rows, number)
        else:
            unit = _unit(rows)
            mine, theirs = _summed(cells, cell_weights, rows, num_named, explained)
            total += mine * unit[explained] - theirs * unit
    return total


def _summed(
    cells: Tensor, cell_weights: Tensor, rows: Tensor, num_named: int | None, explained: int = 0
) -> tuple[Tensor, Tensor]:
    """Weighted sums of the unit vectors of cells, as the row of one class sees them and as each row does."""
    summed = cell_weights @ _unit(cells)
    if num_named is None:
        return summed, summed
    of_words, words_only = cell_weights @ _unit(_named(cells, num_named)), _words_only(rows, num_named)
    return (of_words if words_only[explained] else summed), torch.where(words_only, of_words, summed)


def _words_only(rows: Tensor, num_named: int) -> Tensor:
    """Which rows have named properties only, `(num_labels, 1)`."""
    return (rows[..., num_named:] == 0).all(dim=-1, keepdim=True)


def _named(scores: Tensor, num_named: int) -> Tensor:
    """The scores with those without words set to 0."""
    return torch.nn.functional.pad(scores[..., :num_named], (0, scores.shape[-1] - num_named))


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1, eps=EPSILON)


def _distances(cells: Tensor, rows: Tensor) -> Tensor:
    """`(num_labels, cells)`."""
    squared = cells.square().sum(1) - 2 * rows @ cells.t() + rows.square().sum(1, keepdim=True)
    return squared.clamp_min(EPSILON**2).sqrt()


def _l2_shares(cells: Tensor, weights_by_distance: Tensor, rows: Tensor, total_weight: Tensor) -> Tensor:
    """Sum over cells of `w (1 / K - (s - t)^2 / (d sqrt(K)))`, from sums that need no `(labels, cells, K)` array."""
    number = rows.shape[1]
    squares = (
        weights_by_distance @ cells.square()
        - 2 * rows * (weights_by_distance @ cells)
        + rows.square() * weights_by_distance.sum(1, keepdim=True)
    )
    return total_weight / number - squares / number**0.5


def logarithmic_mean(probabilities: Tensor, others: Tensor) -> Tensor:
    """`(p - q) / (ln p - ln q)`, and `p` where both are equal.

    Args:
        probabilities: Positive values.
        others: Positive values of a shape that fits.
    """
    distance = (probabilities.log() - others.log()).abs()
    near = distance < 1e-9  # (1 - exp(-d)) / d is 1 there, up to rounding
    ratio = torch.where(near, 1.0, -torch.expm1(-distance) / distance.clamp_min(1e-9))
    return torch.maximum(probabilities, others) * ratio


def pair_weights(class_scores: Tensor, explained: int) -> Tensor:
    """Weights with which score differences make up a probability: `L(p_explained, p_b) / C` for every class b.

    Args:
        class_scores: `(num_labels, ...)`.
        explained: Index of the class.

    Returns:
        Float64 of the same shape.
    """
    scores = class_scores.to(torch.float64)
    # Where a probability is zero even in float64, no property can change that.
    probabilities = scores.softmax(dim=0).clamp_min(1e-300)
    return logarithmic_mean(probabilities[explained : explained + 1], probabilities) / len(scores)


def with_terms(
    shares: Tensor, property_names: Sequence[str], offsets: Tensor | None, even: float | None = None
) -> tuple[Tensor, list[str]]:
    """Shares `(classes, number)` of the named properties and, behind them, the terms that are no properties.

    Args:
        shares: `(classes, number of properties and of those without words)`.
        property_names: One per property with words.
        offsets: `(classes,)`; `None` where the model has no offsets.
        even: Probability of every class before anything is seen.
    """
    number = len(property_names)
    columns, terms = [shares[:, :number]], list(property_names)
    if shares.shape[1] > number:
        columns.append(shares[:, number:].sum(dim=1, keepdim=True))
        terms.append(UNSPOKEN_TERM)
    if offsets is not None:
        columns.append(offsets.cpu().to(shares)[:, None])
        terms.append(OFFSET_TERM)
    if even is not None:
        columns.append(torch.full_like(shares[:, :1], even))
        terms.append(EVEN_TERM)
    return torch.cat(columns, dim=1), terms


def own_words(
    config: Any, class_name: str, properties: Sequence[str], inside: Sequence[bool]
) -> dict[str, dict[str, Any]]:
    """The class's own phrase for each of its properties, and the phrases of other classes."""
    info = config.property_space_info or {}
    descriptions, assignments = info.get("descriptions") or {}, info.get("assignments") or {}
    texts: list[dict[str, list[str]]] = [{} for _ in properties]
    for name, indices in assignments.items():
        for text, index in zip(descriptions.get(name, ()), indices):
            texts[index].setdefault(name, []).append(text)
    phrases = {
        properties[index]: "; ".join(users[class_name])
        for index, users in enumerate(texts)
        if inside[index] and class_name in users
    }
    others = {
        properties[index]: sorted(
            {text for users in texts[index].values() for text in users} - set(users_own)
        )
        for index, users_own in (
            (index, texts[index].get(class_name, ())) for index in range(len(properties))
        )
        if inside[index]
    }
    return {"phrases": phrases, "other_phrases": {name: rest for name, rest in others.items() if rest}}
