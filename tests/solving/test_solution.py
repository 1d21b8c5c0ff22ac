import pytest
import torch

from prolab_hf.solving.leave_one_out import leave_one_out
from prolab_hf.solving.solution import (
    Choice,
    Pixels,
    Standardized,
    choose,
    class_score_parts,
    mean_iou,
    scores_with_described,
    solve_responses,
    spoken_shares,
)
from prolab_hf.solving.statistics import ClassStatistics

ROWS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]]).float()


def clusters(number=600, features=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (number,), generator=generator)
    centers = torch.randn(3, features, generator=torch.Generator().manual_seed(9)) * 2
    values = centers[labels] + torch.randn(number, features, generator=generator)
    return torch.cat([values, torch.ones(number, 1)], dim=1), labels


def statistics_of(values, labels):
    statistics = ClassStatistics.empty(["a", "b", "c"], values.shape[1])
    statistics.add(values, labels)
    return statistics


def test_responses_are_the_ridge_regression_of_each_class():
    values, labels = clusters()
    statistics = statistics_of(values, labels)
    ridge = 0.05
    layer = Standardized.of(*statistics.pooled(0.0)).responses(ridge)
    x = values[:, :-1].double()
    x = torch.cat([(x - x.mean(0)) / x.std(0, unbiased=False), torch.ones(len(x), 1)], dim=1)
    target = torch.nn.functional.one_hot(labels, 3).double()
    expected = torch.linalg.solve(x.t() @ x / len(x) + ridge * torch.eye(13), x.t() @ target / len(x))
    assert torch.allclose(values.double() @ layer.t(), x @ expected, atol=1e-9)


def test_words_enter_after_the_solution():
    """Regressing onto the signs of the rows is the responses times these signs, so words need no image."""
    values, labels = clusters()
    layer = solve_responses(statistics_of(values, labels), Choice(ridge=0.05, class_exponent=0.0))
    x = values.double()
    mean, std = x[:, :-1].mean(0), x[:, :-1].std(0, unbiased=False)
    z = torch.cat([(x[:, :-1] - mean) / std, x[:, -1:]], dim=1)
    targets = 2 * ROWS[labels].double() - 1
    direct = torch.linalg.solve(z.t() @ z / len(z) + 0.05 * torch.eye(13), z.t() @ targets / len(z))
    assert torch.allclose(z @ direct, x @ layer.t() @ (2 * ROWS.double() - 1), atol=1e-9)


def test_a_constant_feature_does_no_harm():
    values, labels = clusters()
    values[:, 3] = 5.0
    layer = solve_responses(statistics_of(values, labels), Choice())
    assert torch.isfinite(layer).all()
    assert (values @ layer.float().t()).argmax(1).eq(labels).float().mean() > 0.9


def test_large_offsets_of_features_do_not_cost_digits():
    values, labels = clusters()
    moved = values.clone().double()
    moved[:, :-1] += 1000
    one = values.double() @ solve_responses(statistics_of(values, labels), Choice()).t()
    other = moved @ solve_responses(statistics_of(moved, labels), Choice()).t()
    assert torch.allclose(one, other, atol=1e-5)


def test_numbers_are_chosen_on_pixels_that_were_not_seen():
    values, labels = clusters()
    test, truth = clusters(300, seed=1)
    pixels = Pixels(test, truth, torch.ones(300))
    choice = choose(statistics_of(values, labels), pixels, ROWS, torch.arange(3))
    assert choice.mean_iou is not None and choice.mean_iou > 0.9
    assert choice.category_iou is not None
    given = choose(
        statistics_of(values, labels), pixels, ROWS, torch.arange(3), ridge=0.3, unspoken_weight=1.0
    )
    assert (given.ridge, given.unspoken_weight) == (0.3, 1.0)
    assert choose(statistics_of(values, labels), pixels.none(), ROWS, torch.arange(3)) == Choice()


def test_with_much_weight_on_the_unspoken_part_the_classes_are_those_of_the_responses():
    values, labels = clusters()
    responses = values @ solve_responses(statistics_of(values, labels), Choice()).float().t()
    spoken, rest = class_score_parts(responses, ROWS, 100.0)
    clear = responses.sort(dim=1).values.diff(dim=1)[:, -1] > 0.05
    assert torch.equal((spoken + rest).argmax(1)[clear], responses.argmax(1)[clear])
    share, per_class = spoken_shares(responses, ROWS, 100.0)
    assert share < 0.1 and len(per_class) == 3
    assert spoken_shares(responses, ROWS, 0.0)[0] == pytest.approx(1.0)


def test_a_class_with_no_response_is_scored_by_its_row():
    responses = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    scores = scores_with_described(responses, ROWS, [0, 1], 0.0)
    assert scores.shape == (2, 3)
    assert scores[0].argmax() == 0 and scores[0, 2] > scores[1, 2]  # c shares a property with a
    whole = scores_with_described(torch.eye(3), ROWS, [0, 1, 2], 2.0)
    assert torch.allclose(whole, sum(class_score_parts(torch.eye(3), ROWS, 2.0)), atol=1e-6)


def test_mean_iou_counts_weights_and_skips_absent_classes():
    predicted, labels = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    assert mean_iou(predicted, labels, torch.tensor([1.0, 1.0, 2.0]), 3) == pytest.approx((0.5 + 2 / 3) / 2)


def test_every_class_is_left_out_once():
    values, labels = clusters()
    sample, truth = clusters(300, seed=2)
    pixels = Pixels(sample, truth, torch.ones(300))
    results = leave_one_out(
        statistics_of(values, labels), pixels, ROWS, Choice(unspoken_weight=0.0), claim_budget=0.05
    )
    assert [result.class_name for result in results] == ["a", "b", "c"]
    assert all(0 <= result.iou <= min(result.recall, 1) for result in results)


def test_impossible_numbers_are_refused():
    values, labels = clusters()
    system = Standardized.of(*statistics_of(values, labels).pooled(0.5))
    with pytest.raises(ValueError, match="ridge is 0"):
        system.responses(0)
