"""Early stopping: by hand, in a run, and after a resume."""

import json

import pytest

from prolab_hf.training.length.early_stopping import has_stalled
from prolab_hf.training.recipe import EvaluationFields
from prolab_hf.training.reporting import TrainingInterrupted
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model
from tests.training.test_trainer import QUIET, assert_equal_weights, stop_at, weights

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "patience", "least", "stalled"),
    [
        ([], 1, 0.0, False),
        ([0.3], 1, 0.0, False),
        ([0.3, 0.3], 1, 0.0, True),
        ([0.3, 0.31], 1, 0.0, False),
        ([0.3, 0.31], 1, 0.02, True),
        ([0.3, 0.31, 0.33], 2, 0.02, False),  # better than the best, not than the one before
        ([0.5, 0.3, 0.4], 2, 0.0, True),
        ([0.5, 0.3, 0.6], 2, 0.0, False),
        ([NAN, NAN], 2, 0.0, True),
        ([0.5, 0.3, 0.4], None, 0.0, False),
    ],
)
def test_by_hand(scores, patience, least, stalled):
    fields = EvaluationFields(early_stopping=patience, least_improvement=least)
    assert has_stalled([{"step": k, "mean_iou": s} for k, s in enumerate(scores)], fields) is stalled


@pytest.fixture
def stopping(recipe):
    """Evaluations after 2, 4, 6, ... steps at a rate that changes nothing, so that none is better than the first."""
    return recipe.replace(
        **{
            "schedule.max_iterations": 40,
            "optimizer.learning_rate": 1e-12,
            "evaluation.every": 2,
            "evaluation.early_stopping": 2,
            "evaluation.least_improvement": 0.5,
        }
    )


def test_a_run_stops_says_so_and_exports_the_best(tmp_path, stopping):
    result = train(
        build_model(), Stripes(), Stripes(4), recipe=stopping, output_dir=tmp_path / "run", **QUIET
    )
    assert result.step == 6 and [entry["step"] for entry in result.evaluations] == [2, 4, 6]
    assert result.exported_step == result.best_step
    lines = [json.loads(line) for line in (tmp_path / "run" / "training_log.jsonl").read_text().splitlines()]
    assert [
        (line["step"], line["patience"])
        for line in lines
        if line.get("event", line.get("kind")) == "early_stop"
    ] == [(6, 2)]
    assert (tmp_path / "run" / "checkpoints" / "step-00000006").exists() or any(
        path.name.endswith("6") for path in (tmp_path / "run" / "checkpoints").iterdir()
    )


def test_a_resumed_run_stops_where_the_whole_one_does(tmp_path, stopping):
    whole = build_model()
    train(whole, Stripes(), Stripes(4), recipe=stopping, output_dir=tmp_path / "whole", **QUIET)
    with pytest.raises(TrainingInterrupted):
        train(
            build_model(), Stripes(), Stripes(4), recipe=stopping, output_dir=tmp_path / "cut",
            callbacks=[stop_at(3)], **QUIET,
        )  # fmt: skip
    for _ in range(2):  # the second time there is nothing left to do
        resumed = build_model()
        result = train(
            resumed, Stripes(), Stripes(4), recipe=stopping, output_dir=tmp_path / "cut", resume=True, **QUIET
        )
        assert result.step == 6
        assert_equal_weights(weights(resumed), weights(whole))


def test_without_evaluation_images_it_is_refused(tmp_path, stopping):
    with pytest.raises(
        ValueError, match=r"evaluation.early_stopping is 2, but there are no evaluation images"
    ):
        train(build_model(), Stripes(), None, recipe=stopping, output_dir=tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()
