"""Shares of properties: exact sums, for every similarity, for points and regions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from prolab_hf.explanation.attribution import (
    logarithmic_mean,
    pair_weights,
    paired_shares,
    score_contributions,
    weighted_shares,
)
from prolab_hf.explanation.pixel_weights import Weights

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
    weights = Weights.of_region(region).before_resize(map_size, size)
    assert float(weights.values.sum()) == pytest.approx(1)
    expected = upsampled[:, region].mean(dim=1)
    torch.testing.assert_close(weights.sum_of(maps)[0].float(), expected, rtol=1e-4, atol=1e-5)
    x, y = seed % size[1], seed % size[0]
    weights = Weights.of_point((x, y)).before_resize(map_size, size)
    assert (weights.values > 0).sum() <= 4
    torch.testing.assert_close(weights.sum_of(maps)[0].float(), upsampled[:, y, x], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
def test_region_shares_are_means_of_cell_shares(similarity, monkeypatch):
    scores, values = torch.rand(4, 6, 5), torch.rand(3, 6, 5, dtype=torch.float64)
    values[:, 2] = 0
    weights = Weights(values)
    cells = score_contributions(scores.permute(1, 2, 0), ROWS, similarity).double()
    expected = torch.einsum("hwck,nhw->nck", cells, values)
    found = weighted_shares(scores, Weights(values[:1]), ROWS, similarity)
    torch.testing.assert_close(found, expected[0], rtol=1e-5, atol=1e-6)
    pairs = paired_shares(scores, weights, ROWS, 1, similarity)
    for other in range(3):
        torch.testing.assert_close(
            pairs[other], expected[other, 1] - expected[other, other], rtol=1e-5, atol=1e-6
        )
    monkeypatch.setattr("prolab_hf.explanation.pixel_weights.MAX_BLOCK_ELEMENTS", 30)
    torch.testing.assert_close(weighted_shares(scores, Weights(values[:1]), ROWS, similarity), found)
    torch.testing.assert_close(paired_shares(scores, weights, ROWS, 1, similarity), pairs)


def test_logarithmic_mean():
    assert logarithmic_mean(torch.tensor(0.5), torch.tensor(0.5)) == 0.5
    e = torch.tensor(1.0).exp()
    assert float(logarithmic_mean(e, torch.tensor(1.0))) == pytest.approx(float(e) - 1)
    pair = torch.tensor([0.3, 0.3 + 1e-7], dtype=torch.float64)
    near = logarithmic_mean(pair[0], pair[1])
    assert float(near) == pytest.approx(0.3 + 5e-8, abs=1e-12)


def test_pair_weights_turn_scores_into_probabilities():
    """Also where scores are far apart, and at every place of a map."""
    for scores in (torch.tensor([0.1, 0.4, -0.2]), torch.tensor([0.0, 50.0, 49.0]), torch.randn(4, 5, 6)):
        probabilities = scores.double().softmax(0)
        for own in range(len(scores)):
            lead = (scores[own] - scores).double()
            found = 1 / len(scores) + (pair_weights(scores, own) * lead).sum(0)
            torch.testing.assert_close(found, probabilities[own])
