"""A length in minutes: the number of steps is planned once from measured ones, recorded, and kept when resumed."""

import json
import time

import pytest
import torch
from accelerate import Accelerator

from prolab_hf.training.data_loading import TrainingExamples
from prolab_hf.training.length import time_budget
from prolab_hf.training.length.time_budget import Pace, fit_to_time
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.reporting import TrainingInterrupted
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model
from tests.training.test_trainer import QUIET, assert_equal_weights, stop_at, weights


@pytest.fixture
def timed(recipe):
    return recipe.replace(
        **{"schedule.max_minutes": 2, "schedule.warmup_iterations": None, "evaluation.every": None}
    )


def test_steps_by_hand(timed):
    """100 s less the reserve: ten evaluations of 1 s, and steps of half a second for the rest."""
    planned = fit_to_time(timed, Pace(0.5, 1.0), 100 / (1 - time_budget.RESERVE))
    assert planned.schedule.planned_iterations == 180
    assert planned.evaluation.every == 18
    assert planned.total_iterations(1) == 180


def test_slow_evaluations_are_fewer(timed):
    planned = fit_to_time(timed, Pace(0.5, 10.0), 100 / (1 - time_budget.RESERVE))
    assert planned.schedule.planned_iterations == 160  # two of 10 s, a fifth of the time
    assert planned.evaluation.every == 80


def test_a_given_interval_stays(timed):
    planned = fit_to_time(
        timed.replace(**{"evaluation.every": 10}), Pace(0.5, 5.0), 100 / (1 - time_budget.RESERVE)
    )
    assert planned.schedule.planned_iterations == 100  # each ten steps take 5 s, and so does measuring them
    assert planned.evaluation.every == 10


def test_a_time_that_is_too_short_is_refused(timed):
    with pytest.raises(
        ValueError, match=r"max_minutes is 2, but a step takes 3e\+02 s and an evaluation 0 s here"
    ):
        fit_to_time(timed, Pace(300.0, 0.0), 100.0)


def test_lengths_exclude_each_other(timed):
    with pytest.raises(ValueError, match=r"schedule.max_minutes is 3; give exactly one of them"):
        TrainingRecipe(schedule={"epochs": 1, "max_minutes": 3})
    with pytest.raises(ValueError, match="planned_iterations is 5, but max_minutes is None"):
        TrainingRecipe(schedule={"epochs": 1, "planned_iterations": 5})
    with pytest.raises(ValueError, match="max_minutes is 2: the number of steps is known once"):
        timed.total_iterations(10)
    assert timed.replace(**{"schedule.epochs": 2}).schedule.max_minutes is None


def test_the_rehearsal_leaves_no_trace(tmp_path, timed, monkeypatch):
    """What was planned is an ordinary run of that length: the same weights, to the last bit."""
    paces = []

    def short(recipe, pace, seconds):
        paces.append((pace, fit_to_time(recipe, pace, seconds).schedule.planned_iterations))
        return recipe.replace(**{"schedule.planned_iterations": 7, "evaluation.every": 4})

    monkeypatch.setattr(time_budget, "fit_to_time", short)
    recipe, model = timed.replace(**{"schedule.max_minutes": 0.2}), build_model()
    result = train(model, Stripes(), Stripes(4), recipe=recipe, output_dir=tmp_path / "run", **QUIET)
    (pace, steps), *more = paces
    assert more == [] and 0 < pace.step_seconds < 30 and 0 < pace.evaluation_seconds < 60 and steps >= 1
    saved = TrainingRecipe.from_json(tmp_path / "run" / "training_recipe.json")
    assert saved.schedule.planned_iterations == result.step == 7
    expected = build_model()
    ordinary = recipe.replace(
        **{"schedule.max_iterations": result.step, "evaluation.every": saved.evaluation.every}
    )
    train(expected, Stripes(), Stripes(4), recipe=ordinary, output_dir=tmp_path / "ordinary", **QUIET)
    assert_equal_weights(weights(model), weights(expected))


def test_a_resumed_run_keeps_its_plan(tmp_path, timed, monkeypatch):
    monkeypatch.setattr(time_budget, "_step_seconds", lambda *given: 9.0)
    monkeypatch.setattr(time_budget, "_evaluation_seconds", lambda *given: 0.0)
    whole = build_model()
    result = train(whole, Stripes(), None, recipe=timed, output_dir=tmp_path / "whole", **QUIET)
    assert result.step == 12
    with pytest.raises(TrainingInterrupted):
        train(
            build_model(),
            Stripes(),
            None,
            recipe=timed,
            output_dir=tmp_path / "cut",
            callbacks=[stop_at(5)],
            **QUIET,
        )
    monkeypatch.setattr(time_budget, "_step_seconds", lambda *given: pytest.fail("timed again"))
    resumed = build_model()
    train(resumed, Stripes(), None, recipe=timed, output_dir=tmp_path / "cut", resume=True, **QUIET)
    assert_equal_weights(weights(resumed), weights(whole))
    recorded = json.loads((tmp_path / "cut" / "training_recipe.json").read_text())["schedule"]
    assert (recorded["max_minutes"], recorded["planned_iterations"]) == (2, 12)


def test_random_numbers_are_not_used_up(timed, monkeypatch):
    """Dropout of the first step draws the same numbers, however long the rehearsal took."""
    torch.manual_seed(3)
    expected = torch.rand(1)
    model, examples = build_model(), TrainingExamples(Stripes(), None, seed=0)
    torch.manual_seed(3)
    monkeypatch.setattr(time_budget, "MOST_SHARE", 0.0)
    time_budget.plan_run(model, examples, None, timed, Accelerator(cpu=True), None, started=time.monotonic())
    assert torch.rand(1) == expected
