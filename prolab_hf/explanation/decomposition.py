"""The score or probability of a class at a place, taken apart over all passes that `segment` averages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from prolab_hf.explanation.attribution import pair_weights, paired_shares, weighted_shares, with_terms
from prolab_hf.explanation.explained import Quantity
from prolab_hf.explanation.pixel_weights import Weights
from prolab_hf.explanation.property_maps import PropertyMaps

Place = tuple[int, int] | Tensor
"""Column and row of a pixel, or a region: bool `(height, width)`."""


def chosen_quantity(maps: PropertyMaps, quantity: str) -> Quantity:
    """What is explained: as asked for, or what decides the labels.

    Args:
        maps: The image and how it is run.
        quantity: `"score"`, `"probability"` or `"auto"`.

    Raises:
        ValueError: It is none of these.
    """
    if quantity == "auto":
        return "score" if len(maps.streams) == 1 else "probability"
    if quantity in ("score", "probability"):
        return cast(Quantity, quantity)
    raise ValueError(f"quantity is {quantity!r}; it must be 'auto', 'score' or 'probability'.")


@dataclass(frozen=True)
class Parts:
    """A class score or probability at a place, taken apart.

    Attributes:
        explained: Index of the class.
        rival: Index of the class that it is compared with; `None` if the model knows only one.
        predicted: Index of the class with the highest value.
        shares: `(terms,)` float64; the sum is the value of the explained class.
        leads: `(num_labels, terms)` float64; the sum of a row is its lead over that class.
        terms: Names of the properties, and behind them of the terms that are no properties.
        values: `(num_labels,)` float64: the scores or probabilities that the network itself gave.
    """

    explained: int
    rival: int | None
    predicted: int
    shares: Tensor
    leads: Tensor
    terms: list[str]
    values: Tensor

    @property
    def differences(self) -> Tensor | None:
        """`(terms,)`: the lead over the rival."""
        return None if self.rival is None else self.leads[self.rival]


def decompose(
    maps: PropertyMaps, place: Place, explained: int | None, rival: int | None, quantity: Quantity
) -> Parts:
    """Take the score or probability of a class at a place apart.

    Args:
        maps: The image and how it is run.
        place: A pixel or a region.
        explained: Index of the class; `None` for the one with the highest value.
        rival: Index of the other class; `None` for the strongest other one.
        quantity: What is taken apart.
    """
    if quantity == "probability" and isinstance(place, Tensor):
        return _region_probability(maps, place, explained, rival)
    weights = Weights.of_region(place) if isinstance(place, Tensor) else Weights.of_point(place)
    per_stream = [_stream_shares(maps, weights, stream) for stream in range(len(maps.streams))]
    if quantity == "probability":
        return _point_probability(maps, per_stream, explained, rival)
    shares = torch.stack([each[0] for each in per_stream]).mean(0)
    values = torch.stack([each[1] for each in per_stream]).mean(0)
    chosen = _chosen(values, explained, rival)
    table, terms = with_terms(shares, maps.property_names, maps.offsets)
    own = table[chosen[0]]
    return Parts(*chosen, own, own - table, terms, values)


def _stream_shares(maps: PropertyMaps, weights: Weights, stream: int) -> tuple[Tensor, Tensor]:
    """Shares `(num_labels, properties)` and the network's scores `(num_labels,)` of one stream at a place."""
    shares, scores = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    similarity = maps.network.config.similarity
    for _, found, cell_weights in maps.cells(weights, stream):
        rows = maps.rows(len(found.compared))
        shares = shares + weighted_shares(
            found.compared, cell_weights, rows, similarity, num_named=maps.num_named
        )
        scores = scores + cell_weights.sum_of(found.scores)[0]
    return shares, scores


def _chosen(values: Tensor, explained: int | None, rival: int | None) -> tuple[int, int | None, int]:
    """Indices of the explained class, its rival, and the class with the highest value."""
    predicted = int(values.argmax())
    explained = predicted if explained is None else explained
    if rival is None or rival == explained:
        others = values.clone()
        others[explained] = -math.inf
        rival = int(others.argmax()) if len(values) > 1 else None
    return explained, rival, predicted


def _point_probability(
    maps: PropertyMaps, per_stream: Sequence[tuple[Tensor, Tensor]], explained: int | None, rival: int | None
) -> Parts:
    values = torch.stack([scores.softmax(0) for _, scores in per_stream]).mean(0)
    chosen = _chosen(values, explained, rival)
    own = chosen[0]
    pairs = torch.zeros_like(per_stream[0][0])
    offset_pairs = torch.zeros_like(values)
    offsets = _offsets(maps)
    for shares, scores in per_stream:
        weights = pair_weights(scores, own) / len(per_stream)
        pairs += weights[:, None] * (shares[own] - shares)
        offset_pairs += weights * (offsets[own] - offsets)
    return _probability_parts(maps, pairs, offset_pairs, values, chosen)


def _region_probability(
    maps: PropertyMaps, region: Tensor, explained: int | None, rival: int | None
) -> Parts:
    """Two sweeps over the image, a few rows at a time: mean probabilities first, then the weights of every pair."""
    number, runs = int(region.sum()), len(maps.streams)
    values = torch.zeros(len(maps.class_names), dtype=torch.float64)
    for top, blocks in _row_blocks(maps):
        inside = region[top : top + blocks[0].shape[1]]
        for block in blocks:
            values += block.softmax(dim=0)[:, inside].sum(1).cpu().to(torch.float64) / (number * runs)
    chosen = _chosen(values, explained, rival)
    own, offsets, similarity = chosen[0], _offsets(maps), maps.network.config.similarity
    pairs: Tensor = torch.zeros((), dtype=torch.float64)
    offset_pairs = torch.zeros_like(values)
    columns = region.any(0).nonzero().flatten()
    left, right = int(columns[0]), int(columns[-1]) + 1
    for top, blocks in _row_blocks(maps):
        inside = region[top : top + blocks[0].shape[1], left:right]
        if not inside.any():
            continue
        for stream, block in enumerate(blocks):
            pixel_weights = pair_weights(block[:, :, left:right].cpu(), own) * inside / (number * runs)
            offset_pairs += pixel_weights.sum((1, 2)) * (offsets[own] - offsets)
            for _, found, cell_weights in maps.cells(Weights(pixel_weights, top, left), stream):
                rows = maps.rows(len(found.compared))
                pairs = pairs + paired_shares(
                    found.compared, cell_weights, rows, own, similarity, num_named=maps.num_named
                )
    return _probability_parts(maps, pairs, offset_pairs, values, chosen)


def _row_blocks(maps: PropertyMaps) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """First row and, per stream, class scores `(num_labels, rows, width)`, from top to bottom."""
    top = 0
    for blocks in zip(*(maps.score_blocks(index) for index in range(len(maps.streams))), strict=True):
        yield top, blocks
        top += blocks[0].shape[1]


def _probability_parts(
    maps: PropertyMaps,
    pairs: Tensor,
    offset_pairs: Tensor,
    values: Tensor,
    chosen: tuple[int, int | None, int],
) -> Parts:
    """Sums over all pairs, and the pair with the rival.

    Args:
        maps: The image.
        pairs: `(num_labels, properties)`: what each property adds to the lead over each class, divided by their number.
        offset_pairs: `(num_labels,)`: the same of the offsets.
        values: `(num_labels,)` mean probabilities.
        chosen: Explained class, rival and predicted class.
    """
    number, offsets = len(values), maps.offsets
    names = maps.property_names
    # Both classes of a pair have the same even share.
    leads, terms = with_terms(number * pairs, names, None if offsets is None else number * offset_pairs, 0.0)
    shares = leads.mean(0)
    shares[-1] = 1 / number
    return Parts(*chosen, shares, leads, terms, values)


def _offsets(maps: PropertyMaps) -> Tensor:
    """Offsets `(num_labels,)`, float64 on the CPU."""
    given = maps.offsets
    return torch.zeros(len(maps.class_names), dtype=torch.float64) if given is None else given.cpu().double()
