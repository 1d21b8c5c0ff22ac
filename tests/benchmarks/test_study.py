"""The study end to end on a few drawn scenes, and the arithmetic of its figures."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.study import records, smoke  # noqa: E402
from benchmarks.study.heads import Words  # noqa: E402
from benchmarks.study.measures import (  # noqa: E402
    class_ious,
    confusion,
    expected_calibration_error,
    fitted_temperature,
    severity,
    similarity_of_classes,
    unseen_figures,
)
from benchmarks.study.pixels import Pixels, drawn_data, region_numbers  # noqa: E402
from benchmarks.study.questions.corruptions import CORRUPTIONS  # noqa: E402
from benchmarks.study.questions.faithfulness import margins  # noqa: E402
from benchmarks.study.report import temperatures  # noqa: E402
from benchmarks.study.tables import HELD_OUT, mean_over_groups, wrong_labels  # noqa: E402


def pixels(labels, weights=None, regions=None):
    number = len(labels)
    return Pixels(
        torch.zeros(number, 1, dtype=torch.float16),
        torch.tensor(labels),
        torch.ones(number) if weights is None else torch.tensor(weights, dtype=torch.float32),
        torch.zeros(number, dtype=torch.int64),
        torch.arange(number) if regions is None else torch.tensor(regions),
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, smoke.run(folder)


def test_every_table_has_its_arms(tables):
    _, found = tables
    assert set(found) == set(smoke.ON_SCENES)
    budgets = {(each["arm"], each["budget"]) for each in found["budgets"].records}
    assert {("category", 10), ("property", 60), ("property, closed form", 0)} <= budgets
    assert all(0 < each["miou"] <= 1 for each in found["budgets"].records)


def test_training_longer_helps_and_all_arms_saw_the_same_test_pixels(tables):
    _, found = tables
    figures = {(each["arm"], each["budget"]): each["miou"] for each in found["budgets"].records}
    assert figures["category", 60] > figures["category", 10]
    assert figures["bce + class", 60] > figures["bce + class", 10]


def test_decisive_properties_matter_more_than_random_ones(tables):
    _, found = tables
    for each in found["faithfulness"].records:
        assert each["left, decisive 1"] < each["left, random 1"]
        assert each["left, decisive 3"] < each["left, decisive 1"]


def test_properties_are_found_better_than_by_chance(tables):
    _, found = tables
    solved = found["true-properties"].find({"arm": "property, closed form"})[0]
    assert solved["ap, seen classes"] > solved["ap, chance"] + 0.1


def test_a_second_run_measures_nothing_again(tables, capsys):
    folder, found = tables
    before = (folder / "budgets.json").read_text()
    capsys.readouterr()
    smoke.run(folder, only=["faithfulness"])
    assert capsys.readouterr().out == ""
    assert (folder / "budgets.json").read_text() == before
    head = json.loads(before)
    assert head["made_with"]["torch"] == torch.__version__.split("+")[0] or head["made_with"]["torch"]
    assert found["budgets"].records[0]["cpu_seconds"] >= 0


def test_a_measured_record_survives_a_kill(tmp_path):
    table = records.Table("x", tmp_path)
    table.begin({"arm": "a", "seed": 0}).finish({"miou": 0.5, "bad": float("nan")})
    table.begin({"arm": "b", "seed": 0})  # killed before it ended
    again = records.Table("x", tmp_path)
    assert [each["arm"] for each in again.records] == ["a"]
    assert again.records[0]["miou"] == 0.5
    assert again.records[0]["bad"] is None
    assert again.begin({"arm": "a", "seed": 0}) is None
    assert again.begin({"arm": "b", "seed": 0}) is not None


def test_a_figure_never_replaces_a_part_of_the_key(tmp_path):
    table = records.Table("x", tmp_path)
    with pytest.raises(ValueError, match="temperature"):
        table.begin({"arm": "a", "temperature": 0.04}).finish({"temperature": 0.1})
    assert table.records == []


def test_a_temperature_is_compared_with_the_published_one(tmp_path):
    table = records.Table("temperatures", tmp_path)
    for seed, gain in enumerate((0.01, 0.02, 0.03)):
        for value, miou in ((0.04, 0.7), (0.5, 0.7 + gain)):
            key = {"data": "camvid", "backbone": "dinov2-small", "arm": "bce", "seed": seed}
            table.begin({**key, "property_temperature": value}).finish({"miou": miou})
    assert "| 0.700 ± 0.000 | 0.720 ± 0.025 (+0.020 ± 0.025) |" in temperatures(table)


def test_paired_differences_have_students_interval():
    ours = [{"seed": s, "miou": v} for s, v in enumerate((0.52, 0.63, 0.71))]
    theirs = [{"seed": s, "miou": v} for s, v in enumerate((0.50, 0.60, 0.70, 0.9))]
    mean, half, number = records.paired(ours, theirs, "miou")
    assert number == 3
    assert mean == pytest.approx(0.02)
    assert half == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-3)


def test_ious_count_what_pixels_stand_for():
    counts = confusion(torch.tensor([0, 1, 1]), pixels([0, 0, 1], [3.0, 1.0, 2.0]), 3)
    ious = class_ious(counts)
    assert ious[:2] == pytest.approx([3 / 4, 2 / 3])
    assert np.isnan(ious[2])


def test_calibration_error_and_temperature():
    sure = torch.tensor([[0.9, 0.1]] * 10)
    assert expected_calibration_error(sure, pixels([0] * 9 + [1])) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(sure, pixels([0] * 5 + [1] * 5)) == pytest.approx(0.4, abs=1e-6)
    logits = torch.log(torch.tensor([[0.75, 0.25]] * 4)) * 0.2
    assert fitted_temperature(logits, pixels([0, 0, 0, 1])) == pytest.approx(0.2, rel=0.1)


def test_severity_is_the_taxonomys():
    names = ["car", "bicycle", "cow"]
    similarity = similarity_of_classes("msrc-v2", names)
    assert similarity[0, 1] > similarity[0, 2] == 0
    counts = np.array([[5.0, 1, 0], [0, 5, 0], [2, 0, 5]])
    assert severity(counts, similarity)[0] == pytest.approx(similarity[0, 1] / 3)


def test_a_claim_budget_lets_an_unseen_class_win():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (3000,), generator=generator)
    means = torch.tensor([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0]])
    features = means[labels] + torch.randn(3000, 3, generator=generator) * 0.4
    test = Pixels(features, labels, torch.ones(3000), labels * 0, labels * 0)

    def scores(values):
        return torch.cat([values[:, :2], values[:, 2:] - 5], dim=1)  # the third class never wins by itself

    found = unseen_figures(scores, test, test, [2], 3)
    assert found["unseen, no budget"] == 0
    assert found["unseen, budget"] > 0.8
    assert found["seen, budget"] > 0.9


def test_wrong_labels_move_whole_regions():
    regions = np.repeat(np.arange(200), 5).tolist()
    some = pixels([k % 4 for k in np.repeat(np.arange(200), 5)], regions=regions)
    labels = wrong_labels(some, 0.3, 4, seed=1)
    moved = (labels != some.labels).view(200, 5)
    assert bool((moved.all(dim=1) | ~moved.any(dim=1)).all())
    assert 0.2 < moved.float().mean() < 0.4
    assert labels.min() >= 0 and labels.max() < 4


def test_regions_are_connected_and_of_one_class():
    mask = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1]])
    numbers = region_numbers(mask)
    assert numbers[1, 0] == numbers[0, 2]
    assert numbers[0, 0] != numbers[1, 0]
    assert len(np.unique(region_numbers(np.array([[1, 0, 1]])))) == 3


def test_margins_are_differences_of_cosines():
    rows = torch.tensor([[1.0, 1, 0], [0, 0, 1]])
    scores = torch.tensor([[0.8, 0.6, 0.0]])
    assert margins(scores, rows, torch.tensor([0]), torch.tensor([1])) == pytest.approx(1.4 / 2**0.5)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_with_their_strength(name):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:64]
    image = np.stack([(np.sin(x / 3) + 1) / 2, y / 48, (x + y) % 7 / 7], axis=2)
    change = [float(np.abs(CORRUPTIONS[name](image, s, rng) - image).mean()) for s in range(3)]
    assert 0 < change[0] < change[1] < change[2]


def test_controls_keep_what_they_should():
    data = drawn_data("colors", None, {"train": 1, "validation": 1, "test": 1})
    words = Words(
        data.space.class_property_matrix.float(), data.space.property_embeddings, torch.eye(15, 384)
    )
    random, shuffled, onehot = (words.of(kind, 3).rows for kind in ("random", "shuffled", "one-hot"))
    assert random.shape == words.rows.shape and not torch.equal(random, words.rows)
    assert abs(float(random.mean() - words.rows.mean())) < 0.05
    assert sorted(shuffled.sum(1).tolist()) == sorted(words.rows.sum(1).tolist())
    assert torch.equal(onehot, torch.eye(15))
    assert words.of("words", 3) is words


def test_groups_are_averaged_before_their_harmonic_mean():
    groups = [", ".join(group) for group in HELD_OUT["camvid"]]
    some = [
        {
            "data": "camvid",
            "seed": seed,
            "held_out": name,
            "seen, budget": 0.5 + 0.1 * k,
            "unseen, budget": 0.1 * k,
        }
        for seed in (0, 1)
        for k, name in enumerate(groups[: 4 - seed])  # a group of seed 1 is missing
    ]
    found = mean_over_groups(some, "budget")
    assert [each["seed"] for each in found] == ["0"]
    assert [found[0][name] for name in ("seen", "unseen", "harmonic")] == pytest.approx(
        [0.65, 0.15, 0.195 / 0.8]
    )


@pytest.mark.slow
def test_the_whole_study_on_drawn_scenes(tmp_path):
    found = smoke.run(tmp_path, full=True)
    assert len(found["budgets"].find({"seed": 2})) == 3 + 2 * 17 + 7
