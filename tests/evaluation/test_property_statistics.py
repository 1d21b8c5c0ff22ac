"""Property statistics against tables worked out by hand."""

import numpy as np
import pytest
import torch

from prolab_hf.evaluation.property_statistics import (
    PropertyStatistics,
    has_property_scores,
    measure_properties,
    sample_size,
)
from prolab_hf.evaluation.settings import InferenceSettings

MATRIX = torch.tensor([[1, 0, 1], [0, 1, 1]])


def image(scores):
    """One image of one row: scores per property and pixel."""
    return torch.tensor(scores)[None, :, None, :]


def test_a_table_worked_out_by_hand():
    statistics = PropertyStatistics(MATRIX)
    # Pixels: class 0, class 1, void. Property 1 is never active where its class is: dead.
    scores = image([[0.95, 0.05, 1.0], [0.05, 0.45, 1.0], [0.95, 0.95, 1.0]])
    statistics.update(scores, torch.tensor([[[0, 1, 255]]]))
    summary = statistics.summary()
    assert summary.num_pixels == 2
    assert summary.activation == pytest.approx([0.5, 0.25, 0.95])
    assert summary.mean_activation == pytest.approx(1.7 / 3)
    assert summary.expected_activation == pytest.approx(4 / 6)  # 2 + 2 of 6 pairs
    assert summary.dead == [1]
    # Bin 0.9-1.0: three pairs of 0.95, all true: 3 * 0.05. Bin 0-0.1: two of 0.05, none true: 2 * 0.05.
    # Bin 0.4-0.5: one of 0.45, true: 0.55. Together 0.8 over 6 pairs.
    assert summary.calibration_error == pytest.approx(0.8 / 6)
    assert summary.to_dict()["num_dead"] == 1


def test_sums_over_batches_are_those_of_one_batch():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4, 3, 5, 6, generator=generator)
    labels = torch.randint(0, 2, (4, 10, 12), generator=generator)
    labels[0, 0] = 255
    labels[1, 0] = -100
    whole, parts = PropertyStatistics(MATRIX), PropertyStatistics(MATRIX)
    whole.update(scores, labels)
    for index in range(4):
        parts.update(scores[index : index + 1], labels[index : index + 1])
    first, second = (sums.summary().to_dict() for sums in (parts, whole))
    assert first.pop("dead") == second.pop("dead") == []
    assert first == pytest.approx(second)


def test_scores_that_are_shares_have_no_calibration_error():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.tensor([[1], [0]])
    statistics = PropertyStatistics(matrix)
    scores = torch.rand(1, 1, 300, 300, generator=generator)
    labels = (torch.rand(1, 300, 300, generator=generator) > scores[:, 0]).long()
    statistics.update(scores, labels)
    assert statistics.summary().calibration_error < 0.01
    wrong = PropertyStatistics(matrix)
    wrong.update(scores, 1 - labels)
    assert wrong.summary().calibration_error > 0.4


def test_nothing_labeled_says_nothing():
    statistics = PropertyStatistics(MATRIX)
    statistics.update(torch.rand(1, 3, 2, 2), torch.full((1, 2, 2), 255))
    assert statistics.summary() is None


def test_a_model_is_measured_on_a_few_images(model, processor, image):
    mask = np.zeros((image.height, image.width), dtype=np.int32)
    mask[: image.height // 2] = 3
    pairs = [(image, mask)] * 9
    whole = measure_properties(model, processor, pairs, InferenceSettings())
    assert 0 < whole.mean_activation < 1 and len(whole.activation) == 8
    window = measure_properties(
        model, processor, pairs, InferenceSettings(mode="slide", crop_size=32, stride=32)
    )
    assert (
        window.num_pixels == 2 * 8 * 8 and whole.num_pixels > window.num_pixels
    )  # maps are a quarter of images


def test_the_sample_is_small():
    assert [sample_size(number) for number in (1, 2, 5, 20, 64, 2000)] == [1, 2, 2, 5, 16, 16]


def test_cosine_models_have_no_scores(make_model):
    assert has_property_scores(make_model()) and not has_property_scores(make_model("cosine"))
    assert measure_properties(make_model("cosine"), None, [], InferenceSettings()) is None
