"""Shares of properties: exact sums, for every similarity, for points and regions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from prolab_hf.explanation.attribution import (
    point_weights,
    region_weights,
    score_contributions,
    weighted_contributions,
    weighted_mean,
)

ROWS = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], dtype=torch.float32)


def plain_similarity(scores, rows, similarity):
    """The definition of the class score, one class at a time."""
    if similarity == "sigmoid_l2":
        return torch.stack([1 - (scores - row).norm(dim=-1) / len(row) ** 0.5 for row in rows], dim=-1)
    return torch.stack([F.cosine_similarity(scores, row.expand_as(scores), dim=-1) for row in rows], dim=-1)


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
def test_shares_sum_to_the_class_scores(similarity):
    scores = torch.rand(5, 7, 4)
    if similarity == "cosine":
        scores = 4 * scores - 2
    shares = score_contributions(scores, ROWS, similarity)
    assert shares.shape == (5, 7, 3, 4)
    torch.testing.assert_close(shares.sum(dim=-1), plain_similarity(scores, ROWS, similarity))


def test_shares_by_hand():
    scores = torch.tensor([0.6, 0.8, 0.0, 0.0])  # norm 1
    shares = score_contributions(scores, ROWS[:1], "sigmoid_cosine")
    torch.testing.assert_close(shares[0], torch.tensor([0.6, 0.8, 0.0, 0.0]) / 2**0.5)
    shares = score_contributions(torch.tensor([1.0, 0.0, 0.0, 0.0]), ROWS[:1], "sigmoid_l2")
    # The distance is 1, all of it from the second property; each property starts from 1 / 4.
    torch.testing.assert_close(shares[0], torch.tensor([0.25, 0.25 - 0.5, 0.25, 0.25]))


def test_extreme_scores_stay_finite():
    for scores in (torch.zeros(4), ROWS[0]):
        for similarity in ("sigmoid_cosine", "sigmoid_l2"):
            assert score_contributions(scores, ROWS, similarity).isfinite().all()
    perfect = score_contributions(ROWS[0], ROWS[:1], "sigmoid_l2")
    assert perfect.sum() == pytest.approx(1.0)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="'dot'; it must be one of sigmoid_cosine"):
        score_contributions(torch.rand(4), ROWS, "dot")
    with pytest.raises(ValueError, match="scores of 3 properties, but class rows of 4"):
        score_contributions(torch.rand(3), ROWS, "cosine")


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 1000),
)
def test_weights_are_the_transpose_of_upsampling(size, map_size, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, *map_size, generator=generator)
    upsampled = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    region = torch.rand(size, generator=generator) < 0.3
    region[seed % size[0], seed % size[1]] = True
    expected = upsampled[:, region].mean(dim=1)
    found = weighted_mean(maps, region_weights(region, map_size))
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-5)
    x, y = seed % size[1], seed % size[0]
    weights = point_weights((x, y), size, map_size)
    assert (weights > 0).sum() <= 4
    torch.testing.assert_close(weighted_mean(maps, weights).float(), upsampled[:, y, x], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
def test_region_shares_are_means_of_cell_shares(similarity, monkeypatch):
    scores, weights = torch.rand(4, 6, 5), torch.rand(6, 5)
    weights[2] = 0
    weights /= weights.sum()
    cells = score_contributions(scores.permute(1, 2, 0), ROWS, similarity)
    expected = (cells * weights[..., None, None]).sum(dim=(0, 1))
    found = weighted_contributions(scores, weights, ROWS, similarity)
    torch.testing.assert_close(found.float(), expected)
    monkeypatch.setattr("prolab_hf.explanation.attribution.MAX_BLOCK_ELEMENTS", 30)
    torch.testing.assert_close(weighted_contributions(scores, weights, ROWS, similarity), found)
