"""The hooks for solving: called once, at the start of a new run and after its end."""

from types import SimpleNamespace

import pytest
import torch

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessorPil, evaluate
from prolab_hf.training import from_recipe
from prolab_hf.training.checkpoints import newest_valid_checkpoint
from prolab_hf.training.trainer import train
from prolab_hf.training.training_state import load_model_weights
from tests.training.conftest import build_model, drawn_pairs

QUIET = {"show_progress": False}


@pytest.fixture
def solving(monkeypatch):
    """A room that notes what it was asked for."""
    calls = []
    better = build_model(seed=5)

    def start(model, dataset, processor, *, accelerator):
        calls.append("start")
        model.decode_head.classifier.bias.data.fill_(7.0)

    def finish(model, dataset, processor, measure, *, calibration, accelerator, unspoken_layer):
        assert unspoken_layer
        calls.append("finish")
        scores = {"trained": measure(model), "decoder": measure(better)}
        return SimpleNamespace(model=better, chosen="decoder", mean_iou=scores)

    room = SimpleNamespace(start_at_solution=start, finish_by_solving=finish, calls=calls, better=better)
    monkeypatch.setattr(from_recipe, "_solving", lambda field, processor: room)
    return room


def test_a_run_starts_at_the_solution_and_ends_with_the_better_head(tmp_path, recipe, solving):
    recipe = recipe.replace(
        closed_form={"init": "solve", "finish": "solve"},
        **{"schedule.max_iterations": 2, "optimizer.learning_rate": 1e-6},
    )
    model = build_model()
    events = []
    train(
        model,
        drawn_pairs(),
        drawn_pairs(2),
        recipe=recipe,
        output_dir=tmp_path,
        callbacks=[events.append],
        **QUIET,
    )
    assert solving.calls == ["start", "finish"]
    trained = build_model(seed=1)
    load_model_weights(newest_valid_checkpoint(tmp_path / "checkpoints"), trained)
    assert trained.decode_head.classifier.bias.tolist() == pytest.approx([7.0] * 8, abs=1e-3)
    exported = build_model(seed=1)
    load_model_weights(tmp_path, exported)
    for name, value in exported.state_dict().items():
        assert torch.equal(value, solving.better.state_dict()[name]), name
    solution = next(event for event in events if event.kind == "solution")
    assert solution.values["chosen"] == "decoder"
    # A resumed run does not start anew.
    longer = recipe.replace(**{"schedule.max_iterations": 3})
    train(
        build_model(), drawn_pairs(), drawn_pairs(2), recipe=longer, output_dir=tmp_path, resume=True, **QUIET
    )
    assert solving.calls == ["start", "finish", "finish"]


def test_without_the_room_a_run_goes_on_and_says_so(tmp_path, recipe, caplog, monkeypatch):
    monkeypatch.setattr(from_recipe.importlib.util, "find_spec", lambda name: None)
    recipe = recipe.replace(closed_form={"init": "solve"}, **{"schedule.max_iterations": 2})
    result = train(build_model(), drawn_pairs(), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    assert result.step == 2
    assert "closed_form.init is 'solve', but this version of prolab_hf cannot solve" in caplog.text


@pytest.mark.parametrize(("finish", "warns"), [("auto", False), ("solve", True)])
def test_a_data_set_of_tensors_is_not_solved(tmp_path, recipe, caplog, finish, warns):
    recipe = recipe.replace(
        closed_form={"finish": finish}, **{"schedule.max_iterations": 1, "schedule.warmup_iterations": 0}
    )
    tensors = [
        {"pixel_values": torch.rand(3, 64, 64), "labels": torch.zeros(64, 64, dtype=torch.long)}
        for _ in range(2)
    ]
    train(build_model(), tensors, tensors, recipe=recipe, output_dir=tmp_path, **QUIET)
    assert ("closed_form.finish" in caplog.text) == warns


def test_auto_solves_where_it_can(tmp_path, recipe, solving):
    recipe = recipe.replace(
        closed_form={"finish": "auto"}, **{"schedule.max_iterations": 1, "schedule.warmup_iterations": 0}
    )
    processor = ProLabImageProcessorPil(do_resize=False)
    options = {"recipe": recipe, "output_dir": tmp_path, "processor": processor, **QUIET}
    train(build_model(), drawn_pairs(), drawn_pairs(2), **options)
    assert solving.calls == ["finish"]


def test_the_last_layer_is_really_solved_and_what_scores_higher_is_exported(tmp_path, recipe):
    recipe = recipe.replace(
        closed_form={"init": "solve", "finish": "solve"},
        **{"schedule.max_iterations": 2, "schedule.warmup_iterations": 0},
    )
    processor = ProLabImageProcessorPil(do_resize=False)
    events = []
    train(
        build_model(),
        drawn_pairs(12),
        drawn_pairs(4),
        recipe=recipe,
        output_dir=tmp_path,
        processor=processor,
        callbacks=[events.append],
        **QUIET,
    )
    solution = next(event for event in events if event.kind == "solution").values
    exported = ProLabForSemanticSegmentation.from_pretrained(tmp_path).eval()
    assert set(solution["mean_iou"]) == {"trained", "decoder", "decoder_and_backbone"}
    assert solution["mean_iou"][solution["chosen"]] == max(solution["mean_iou"].values())
    measured = evaluate(exported, processor, drawn_pairs(4))["mean_iou"]
    assert measured == solution["mean_iou"][solution["chosen"]]
    assert exported.config.calibration_pixels > 0
