"""Why a pixel or region is called what it is called: the exact share of every property in the class score.

A class score is a sum over properties, so it can be taken apart without approximation. With property scores
`s` and the row `t` of a class (K properties):

    cosine similarity    s . t / (|s| |t|)      = sum over k of  s_k t_k / (|s| |t|)
    L2 similarity        1 - |s - t| / sqrt(K)  = sum over k of  1 / K - (s_k - t_k)^2 / (|s - t| sqrt(K))

A solved model also has properties without words, whose shares are one term together, and a described class an offset.

The label map is the arg-max of the bilinearly upsampled scores. Upsampling is a weighted mean over the
cells of the low-resolution map, so the shares of a point, or of a region, are weighted means of the shares
of those cells.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from prolab_hf.model.resize_prolab import linear_axis

SIMILARITIES = ("sigmoid_cosine", "cosine", "sigmoid_l2", "linear_cosine")
UNSPOKEN_TERM = "in ways the words do not say"
"""Name of what the properties without words of a solved model add to a score."""
OFFSET_TERM = "offset of a described class"
"""Name of what the claim budget adds to the score of a class that is only described."""
EPSILON = 1e-8
"""Floor of norms, as in `torch.nn.CosineSimilarity`."""

MAX_BLOCK_ELEMENTS = 4_000_000
"""Numbers per temporary array when the shares of a large region are summed."""


def score_contributions(property_scores: Tensor, class_property_matrix: Tensor, similarity: str) -> Tensor:
    """Share of every property in every class score.

    Args:
        property_scores: What the class similarity sees, `(..., num_properties)`: `sigmoid(logits / T)`, or
            the logits themselves for `"cosine"`.
        class_property_matrix: `(num_labels, num_properties)` of 0 and 1, or weights.
        similarity: `"sigmoid_cosine"`, `"cosine"`, `"sigmoid_l2"` or `"linear_cosine"`.

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
    norms = torch.linalg.vector_norm(scores, dim=-1, keepdim=True).clamp_min(EPSILON)
    return scores / norms * torch.nn.functional.normalize(rows, dim=-1, eps=EPSILON)


def point_weights(point: tuple[int, int], size: tuple[int, int], map_size: tuple[int, int]) -> Tensor:
    """Weights of the low-resolution cells whose mean is the value at one pixel.

    Args:
        point: Column and row `(x, y)` of the pixel.
        size: Height and width of the image.
        map_size: Height and width of the low-resolution map.

    Returns:
        `(map height, map width)`, at most four of them not zero; their sum is 1.
    """
    vectors = []
    for position, pixels, cells in zip((point[1], point[0]), size, map_size):
        axis = linear_axis(cells, pixels, dtype=torch.float32, device=torch.device("cpu"))
        vector = torch.zeros(cells)
        vector[axis.lower[position]] += 1 - axis.weight[position]
        vector[axis.upper[position]] += axis.weight[position]
        vectors.append(vector)
    return torch.outer(vectors[0], vectors[1])


def region_weights(region: Tensor, map_size: tuple[int, int]) -> Tensor:
    """Weights of the low-resolution cells whose mean is the mean over the pixels of a region.

    The transpose of bilinear upsampling (`align_corners=False`), applied to the region.

    Args:
        region: Bool `(height, width)` with at least one pixel.
        map_size: Height and width of the low-resolution map.

    Returns:
        `(map height, map width)`, float32; the sum is 1.
    """
    weights = region.to(torch.float64)
    for dim, cells in enumerate(map_size):
        axis = linear_axis(cells, region.shape[dim], dtype=torch.float32, device=region.device)
        upper = axis.weight.to(torch.float64).unsqueeze(1 - dim)
        shape = list(weights.shape)
        shape[dim] = cells
        narrowed = weights.new_zeros(shape)
        narrowed.index_add_(dim, axis.lower, weights * (1 - upper))
        narrowed.index_add_(dim, axis.upper, weights * upper)
        weights = narrowed
    return (weights / weights.sum()).to(torch.float32)


def weighted_mean(maps: Tensor, weights: Tensor) -> Tensor:
    """Mean over the cells of a map.

    Args:
        maps: `(channels, height, width)`.
        weights: `(height, width)` with sum 1.

    Returns:
        `(channels,)`, float64: sums over many cells keep their last digits.
    """
    return maps.to(torch.float64).flatten(1) @ weights.to(maps.device, torch.float64).flatten()


def weighted_contributions(
    property_scores: Tensor, weights: Tensor, class_property_matrix: Tensor, similarity: str
) -> Tensor:
    """Mean share of every property in the class scores of a point or region.

    Args:
        property_scores: Low-resolution scores `(num_properties, height, width)`.
        weights: Weights of the cells `(height, width)` with sum 1.
        class_property_matrix: Rows of the classes of interest, `(num_labels, num_properties)`.
        similarity: See `score_contributions`.

    Returns:
        `(num_labels, num_properties)`, float64; the sum of a row is the class's mean score.
    """
    rows = class_property_matrix.to(torch.float64)
    total = torch.zeros_like(rows)
    for cells, cell_weights in _cells(property_scores, weights, rows.numel()):
        shares = score_contributions(cells, rows, similarity)
        total += torch.einsum("p,pck->ck", cell_weights, shares)
    return total


def _cells(property_scores: Tensor, weights: Tensor, per_cell: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cells that count, `(cells, num_properties)` with their weights, in blocks that fit into the cache."""
    flat_weights = weights.to(property_scores.device, torch.float64).flatten()
    used = flat_weights.nonzero().flatten()
    flat_scores = property_scores.flatten(1)
    for indices in used.split(max(1, MAX_BLOCK_ELEMENTS // per_cell)):
        yield flat_scores[:, indices].t().to(torch.float64), flat_weights[indices]


def compared_maps(model: Any, output: Any) -> Tensor:
    """What the class rows are compared with `(num_properties, height, width)`, unspoken properties at the end."""
    named = model.property_scores(output.property_logits)[0]
    unspoken = getattr(output, "unspoken_logits", None)
    return named if unspoken is None else torch.cat([named, model.unspoken_scores(unspoken)[0]])


def with_terms(shares: Tensor, number: int, offsets: Sequence[float]) -> tuple[Tensor, list[str]]:
    """Shares `(classes, number)` of the named properties and, behind them, the terms that are no properties."""
    columns, terms = [shares[:, :number]], []
    if shares.shape[1] > number:
        columns.append(shares[:, number:].sum(dim=1, keepdim=True))
        terms.append(UNSPOKEN_TERM)
    if any(offsets):
        columns.append(torch.tensor(offsets, dtype=shares.dtype)[:, None])
        terms.append(OFFSET_TERM)
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
