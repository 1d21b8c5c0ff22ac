import json

import numpy as np
import pytest
import torch

from prolab_hf.evaluation.held_out import ScoreHistogram, evaluate_held_out, held_out_means
from prolab_hf.evaluation.unknown import with_unknown
from tests.solving.conftest import Patches, solve_patches
from tests.solving.test_solve import trained_model


def test_ranking_figures_are_those_of_the_sorted_scores():
    rng = np.random.default_rng(0)
    unknown = rng.random(3000) < 0.2
    scores = np.clip(rng.normal(0.4 + 0.2 * unknown, 0.1), 0, 1)
    histogram = ScoreHistogram()
    for part in range(3):
        histogram.update(torch.from_numpy(scores[part::3]), torch.from_numpy(unknown[part::3]))
    figures = histogram.figures()
    known, other = np.sort(scores[~unknown]), scores[unknown]
    auroc = (
        (np.searchsorted(known, other, "left") + np.searchsorted(known, other, "right")).mean()
        / 2
        / len(known)
    )
    order = unknown[np.argsort(-scores)]
    precision = (order.cumsum() / np.arange(1, len(order) + 1))[order].mean()
    fpr95 = (scores[~unknown] >= np.quantile(other, 0.05)).mean()
    assert figures["auroc"] == pytest.approx(auroc, abs=2e-3)
    assert figures["auprc"] == pytest.approx(precision, abs=5e-3)
    assert figures["fpr95"] == pytest.approx(fpr95, abs=1e-2)


def test_without_one_kind_of_pixel_there_is_no_figure():
    histogram = ScoreHistogram()
    histogram.update(torch.rand(5), torch.zeros(5, dtype=torch.bool))
    assert histogram.figures() == {"auroc": None, "auprc": None, "fpr95": None}


def test_means_of_seen_and_held_out_classes():
    results = {
        "per_class": [{"name": "a", "iou": 0.8}, {"name": "b", "iou": 0.2}, {"name": "c", "iou": None}]
    }
    means = held_out_means(results, ["b"])
    assert means["seen_iou"] == 0.8 and means["unseen_iou"] == 0.2
    assert means["harmonic_mean_iou"] == pytest.approx(0.32)
    assert held_out_means(results, ["c"])["harmonic_mean_iou"] is None


def test_one_class_more_wins_where_none_fits():
    logits = torch.tensor([[[[0.9, 0.1]], [[0.2, 0.3]]]])
    found = with_unknown(lambda pixel_values: logits, 0.5)(torch.zeros(1))
    assert found.argmax(1).tolist() == [[[0, 2]]]


@pytest.fixture(scope="module")
def held_out_model():
    return solve_patches(held_out=["yellow"])


def test_held_out_classes_are_measured_beside_controls(held_out_model, processor):
    before = held_out_model.class_property_matrix.clone()
    results = evaluate_held_out(held_out_model, processor, Patches(6, start=60), ["yellow"])
    assert torch.equal(held_out_model.class_property_matrix, before)
    assert set(results["controls"]) == {"random", "shuffled"}
    assert 0 <= results["unseen_iou"] <= 1 and results["seen_iou"] > 0.3
    assert 0 <= results["unknown"]["auroc"] <= 1
    assert json.dumps(results)


def test_of_a_trained_model_only_the_held_out_rows_are_exchanged(processor):
    model = trained_model(decoder="segformer")
    results = evaluate_held_out(model, processor, Patches(2), ["yellow"])
    assert results["claim_budget"] == 0.01 and len(results["per_class"]) == 4


def test_held_out_classes_must_be_known_and_untrained(held_out_model, processor):
    with pytest.raises(ValueError, match="was trained for the class 'red'"):
        evaluate_held_out(held_out_model, processor, Patches(1), ["red"])
    with pytest.raises(ValueError, match="no class 'purple'"):
        evaluate_held_out(held_out_model, processor, Patches(1), ["purple"])
    with pytest.raises(ValueError, match="No held-out class"):
        evaluate_held_out(held_out_model, processor, Patches(1), [])
