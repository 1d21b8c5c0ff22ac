import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation

from prolab_hf.training import checkpoints
from prolab_hf.training.reporting import TrainingDisplay, TrainingInterrupted
from prolab_hf.training.trainer import train
from prolab_hf.training.training_state import load_model_weights
from tests.training.conftest import Stripes, build_model

QUIET = {"show_progress": False}


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def stop_at(step):
    """A callback that presses Ctrl-C."""

    def press(event):
        if event.kind == "step" and event.step == step:
            signal.raise_signal(signal.SIGINT)

    return press


def test_it_learns_and_exports_what_auto_classes_load(tmp_path, recipe):
    recipe = recipe.replace(
        **{
            "schedule.max_iterations": 60,
            "schedule.batch_size": 4,
            "evaluation.every": 30,
            "checkpoints.every": 30,
        }
    )
    model = build_model()
    result = train(model, Stripes(), Stripes(4), recipe=recipe, output_dir=tmp_path / "run", **QUIET)
    assert result.best_mean_iou > 0.5
    assert result.scores.num_images == 4
    assert (result.step, [entry["step"] for entry in result.evaluations]) == (60, [30, 60])
    loaded = AutoModelForSemanticSegmentation.from_pretrained(result.output_dir)
    assert_equal_weights(weights(loaded), weights(model))
    assert loaded.config.id2label == {0: "red", 1: "green", 2: "blue"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path, recipe, workers):
    recipe = recipe.replace(
        **{
            "data.num_workers": workers,
            "schedule.gradient_accumulation": 2,
            "optimizer.ema_decay": 0.9,
            "checkpoints.final_weights": "last",
        }
    )
    whole = build_model()
    train(whole, Stripes(5), Stripes(2), recipe=recipe, output_dir=tmp_path / "whole", **QUIET)

    with pytest.raises(TrainingInterrupted, match=r"Stopped at step 3 of 6.*--resume"):
        train(
            build_model(),
            Stripes(5),
            Stripes(2),
            recipe=recipe,
            output_dir=tmp_path / "parts",
            callbacks=[stop_at(3)],
            **QUIET,
        )
    torch.manual_seed(99)  # what happens in between must not matter
    resumed = build_model(seed=1)
    result = train(
        resumed, Stripes(5), Stripes(2), recipe=recipe, output_dir=tmp_path / "parts", resume=True, **QUIET
    )

    assert_equal_weights(weights(resumed), weights(whole))
    logs = [
        [json.loads(line) for line in (tmp_path / run / "training_log.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    losses = [{line["step"]: line["loss"] for line in log if line["event"] == "step"} for log in logs]
    assert losses[0] == losses[1]
    assert sorted(losses[0]) == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in result.evaluations] == [3, 6]
    for name in ("whole", "parts"):
        last = checkpoints.newest_valid_checkpoint(tmp_path / name / "checkpoints")
        assert checkpoints.checkpoint_step(last) == 6
    states = [
        torch.load(
            tmp_path / run / "checkpoints/step-00000006/training_state/optimizer.pt", weights_only=True
        )
        for run in ("whole", "parts")
    ]
    moments = [state["optimizer"]["state"] for state in states]
    assert moments[0].keys() == moments[1].keys()
    assert all(torch.equal(moments[0][key]["exp_avg"], moments[1][key]["exp_avg"]) for key in moments[0])


def test_resume_goes_back_past_a_damaged_checkpoint(tmp_path, recipe, caplog):
    whole = build_model()
    train(whole, Stripes(5), None, recipe=recipe, output_dir=tmp_path / "run", **QUIET)
    newest = tmp_path / "run/checkpoints/step-00000006"
    (newest / "training_state/optimizer.pt").write_bytes(b"half")
    resumed = build_model(seed=1)
    train(resumed, Stripes(5), None, recipe=recipe, output_dir=tmp_path / "run", resume=True, **QUIET)
    assert "step-00000006: training_state/optimizer.pt has 4 bytes" in caplog.text
    assert_equal_weights(weights(resumed), weights(whole))


def test_the_best_checkpoint_is_exported(tmp_path, recipe):
    recipe = recipe.replace(**{"checkpoints.every": 1, "evaluation.every": 1, "checkpoints.keep": 1})
    model = build_model()
    result = train(model, Stripes(4), Stripes(2), recipe=recipe, output_dir=tmp_path, **QUIET)
    scores = {entry["step"]: entry["mean_iou"] for entry in result.evaluations}
    assert result.best_mean_iou == max(scores.values())
    assert result.exported_step == result.best_step == max(scores, key=scores.get)
    kept = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
    assert kept == {f"step-{step:08d}" for step in {6, result.best_step}}
    best = build_model(seed=1)
    load_model_weights(tmp_path / "checkpoints" / f"step-{result.best_step:08d}", best)
    assert_equal_weights(weights(model), weights(best))


def test_averaged_weights_are_evaluated_and_exported(tmp_path, recipe):
    model = build_model()
    train(
        model,
        Stripes(4),
        None,
        recipe=recipe.replace(**{"optimizer.ema_decay": 0.9}),
        output_dir=tmp_path,
        **QUIET,
    )
    last = tmp_path / "checkpoints/step-00000006"
    trained, averaged = build_model(seed=1), build_model(seed=1)
    load_model_weights(last, trained)
    load_model_weights(last, averaged, averaged=True)
    assert_equal_weights(weights(model), weights(averaged))
    assert not torch.equal(trained.decode_head.classifier.weight, averaged.decode_head.classifier.weight)


def test_accumulation_equals_one_large_batch(tmp_path, recipe):
    """With statistics frozen, two passes of two images are one step of four."""
    models = []
    for batch_size, accumulation in ((4, 1), (2, 2)):
        model = build_model(classifier_dropout_prob=0.0)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train = lambda mode=True, module=module: module  # keep its running statistics
                module.training = False
        changed = recipe.replace(
            **{
                "schedule.batch_size": batch_size,
                "schedule.gradient_accumulation": accumulation,
                "schedule.max_iterations": 3,
            }
        )
        train(model, Stripes(4), None, recipe=changed, output_dir=tmp_path / str(accumulation), **QUIET)
        models.append(model)
    for one, other in zip(models[0].parameters(), models[1].parameters()):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


def test_output_folder_must_be_empty(tmp_path, recipe, caplog):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"is not empty.*--resume.*--overwrite"):
        train(build_model(), Stripes(), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    with pytest.raises(FileExistsError, match="no training run to resume"):
        train(build_model(), Stripes(), None, recipe=recipe, output_dir=tmp_path, resume=True, **QUIET)
    with pytest.raises(ValueError, match="resume and overwrite"):
        train(
            build_model(),
            Stripes(),
            None,
            recipe=recipe,
            output_dir=tmp_path,
            resume=True,
            overwrite=True,
            **QUIET,
        )
    with pytest.raises(NotADirectoryError, match=r"notes\.txt is a file"):
        train(build_model(), Stripes(), None, recipe=recipe, output_dir=tmp_path / "notes.txt", **QUIET)
    train(build_model(), Stripes(), None, recipe=recipe, output_dir=tmp_path, overwrite=True, **QUIET)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    for path in (tmp_path / "checkpoints").glob("step-*"):
        (path / "COMPLETE.json").unlink()
    with pytest.raises(ValueError, match=r"None of the 2 checkpoints.*overwrite"):
        train(build_model(), Stripes(), None, recipe=recipe, output_dir=tmp_path, resume=True, **QUIET)
    caplog.clear()
    train(build_model(), Stripes(), None, recipe=recipe, output_dir=tmp_path / "new", resume=True, **QUIET)
    assert "starting a new one" in caplog.text


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, recipe):
    class Poisoned(Stripes):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            if self.epoch == 1:  # 4 images, 2 per step: steps 3 and 4
                example["pixel_values"][:] = float("nan")
            return example

    with pytest.raises(
        FloatingPointError, match=r"not finite .* at step 3, .*step-00000002\. Lower learning_rate"
    ):
        train(build_model(), Poisoned(4), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    last = checkpoints.newest_valid_checkpoint(tmp_path / "checkpoints")
    assert checkpoints.checkpoint_step(last) == 2
    model = build_model(seed=1)
    load_model_weights(last, model)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_and_nothing_is_lost(tmp_path, recipe, workers):
    recipe = recipe.replace(
        **{"data.num_workers": workers, "checkpoints.every": 100, "evaluation.every": 100, "seed": 0}
    )
    with pytest.raises(ValueError) as raised:
        train(build_model(), Stripes(8, broken=6), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    message = str(raised.value)
    assert message.startswith("image stripes_6.png cannot be decoded (at training step ")
    # The first epoch of seed 0 reads 2, 4, 3, 6, 5, 0, 1, 7.
    assert message.endswith("(at training step 2).")
    last = checkpoints.newest_valid_checkpoint(tmp_path / "checkpoints")
    assert checkpoints.checkpoint_step(last) == 1


def test_resuming_with_other_numbers_says_so(tmp_path, recipe, caplog):
    train(build_model(), Stripes(5), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    longer = recipe.replace(**{"schedule.max_iterations": 8, "optimizer.learning_rate": 1e-3, "log_every": 2})
    train(build_model(), Stripes(5), None, recipe=longer, output_dir=tmp_path, resume=True, **QUIET)
    assert "optimizer.learning_rate: 0.01 -> 0.001; schedule.max_iterations: 6 -> 8." in caplog.text
    lines = (tmp_path / "training_log.jsonl").read_text().splitlines()
    last = [line for line in map(json.loads, lines) if line["event"] == "step"][-1]
    assert (last["step"], last["learning_rate"]) == (8, 0.0)
    with pytest.raises(ValueError, match="trained on 5 images, this data set has 6"):
        train(build_model(), Stripes(6), None, recipe=longer, output_dir=tmp_path, resume=True, **QUIET)
    with pytest.raises(ValueError, match="of another model"):
        train(
            build_model(hidden_size=8),
            Stripes(5),
            None,
            recipe=longer,
            output_dir=tmp_path,
            resume=True,
            **QUIET,
        )


def test_mixed_precision_and_channels_last(tmp_path, recipe):
    recipe = recipe.replace(
        **{"device.mixed_precision": "bf16", "device.channels_last": True, "optimizer.max_gradient_norm": 1.0}
    )
    model = build_model()
    result = train(model, Stripes(4), Stripes(2), recipe=recipe, output_dir=tmp_path, **QUIET)
    assert result.step == 6
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert AutoModelForSemanticSegmentation.from_pretrained(tmp_path).dtype == torch.float32


def test_sliding_evaluation_covers_the_image(tmp_path, recipe):
    recipe = recipe.replace(
        **{"evaluation.mode": "slide", "evaluation.crop_size": 32, "evaluation.stride": 16}
    )
    result = train(
        build_model(), Stripes(4), Stripes(2, size=48), recipe=recipe, output_dir=tmp_path, **QUIET
    )
    assert result.scores.confusion.sum() == 2 * 48 * 48


def test_events_reach_callbacks(tmp_path, recipe):
    seen = []
    train(
        build_model(),
        Stripes(4),
        Stripes(2),
        recipe=recipe,
        output_dir=tmp_path,
        callbacks=[seen.append],
        **QUIET,
    )
    kinds = [(event.kind, event.step) for event in seen]
    assert (
        kinds
        == [
            ("step", 1),
            ("step", 2),
            ("checkpoint", 2),
            ("step", 3),
            ("checkpoint", 3),
            ("evaluation", 3),
            ("step", 4),
            ("checkpoint", 4),
            ("step", 5),
            ("step", 6),
            ("checkpoint", 6),
            ("evaluation", 6),
            ("export", 6),
        ]
        or ("checkpoint", 3) not in kinds
    )
    assert {event.total for event in seen} == {6}


def test_it_runs_outside_of_the_main_thread(tmp_path, recipe):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(
            train(build_model(), Stripes(4), None, recipe=recipe, output_dir=tmp_path, **QUIET)
        )
    )
    thread.start()
    thread.join()
    assert results[0].step == 6


INTERRUPTED_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from tests.training.conftest import Stripes, build_model
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

recipe = TrainingRecipe(
    schedule=dict(max_iterations=100000, batch_size=2), data=dict(num_workers=1, crop_size=32), log_every=1,
    checkpoints=dict(every=2),
)
train(build_model(), Stripes(), None, recipe=recipe, output_dir={output!r}, show_progress=False,
      callbacks=[lambda event: event.step == 5 and event.kind == "step" and print("go", flush=True)])
"""


def test_control_c_reaches_workers_too_and_leaves_a_checkpoint(tmp_path):
    """The terminal sends the signal to the whole group of processes, readers included."""
    script = INTERRUPTED_SCRIPT.format(tests=str(Path(__file__).parent), output=str(tmp_path / "run"))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert "go\n" in process.stdout  # after what DeepSpeed prints, where it is installed
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "TrainingInterrupted: Stopped at step" in errors
    assert "DataLoader worker" not in errors
    last = checkpoints.newest_valid_checkpoint(tmp_path / "run/checkpoints")
    assert f"Stopped at step {checkpoints.checkpoint_step(last)} of 100000" in errors


def test_logging_is_left_alone(tmp_path, recipe):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    train(build_model(), Stripes(4), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    assert (logging.getLogger().handlers[:], logging.getLogger().level) == before


PARALLEL_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from conftest import Stripes, build_model
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

recipe = TrainingRecipe(
    schedule=dict(max_iterations={steps}, batch_size=2, total_batch_size=4, warmup_iterations=1),
    optimizer=dict(learning_rate=1e-2), data=dict(num_workers=0, crop_size=32), evaluation=dict(every=3),
    checkpoints=dict(every=2, final_weights="last"),
)
model = build_model(classifier_dropout_prob=0.0)
train(model, Stripes(9), Stripes(5), recipe=recipe, output_dir={output!r}, resume={resume}, show_progress=False)
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does(tmp_path):
    """Four images per step: accumulated on one process, or two on each of two, interrupted in between."""

    def start(output, processes, *, steps=6, resume=False):
        script = PARALLEL_SCRIPT.format(
            tests=str(Path(__file__).parent), output=str(output), steps=steps, resume=resume
        )
        path = tmp_path / "script.py"
        path.write_text(script)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command = [sys.executable, *(launcher if processes == 2 else []), str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=600)

    start(tmp_path / "one", 1)
    start(tmp_path / "two", 2)
    last = tmp_path / "two/checkpoints/step-00000006"
    (last / "COMPLETE.json").unlink()
    start(tmp_path / "two", 2, resume=True)
    one = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "one")
    two = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "two")
    for (name, mine), theirs in zip(one.named_parameters(), two.parameters()):
        torch.testing.assert_close(mine, theirs, msg=name)
    logs = [(tmp_path / run / "checkpoints/evaluations.json").read_text() for run in ("one", "two")]
    assert [entry["step"] for entry in json.loads(logs[1])] == [3, 6]
    states = torch.load(last / "training_state/random_states.pt", weights_only=True)
    assert len(states) == 2


def test_a_broken_evaluation_image_costs_no_step(tmp_path, recipe):
    recipe = recipe.replace(**{"checkpoints.every": 100, "evaluation.every": 3})
    with pytest.raises(ValueError, match=r"stripes_1\.png cannot be decoded"):
        train(build_model(), Stripes(8), Stripes(2, broken=1), recipe=recipe, output_dir=tmp_path, **QUIET)
    last = checkpoints.newest_valid_checkpoint(tmp_path / "checkpoints")
    assert checkpoints.checkpoint_step(last) == 3
    result = train(
        build_model(), Stripes(8), Stripes(2), recipe=recipe, output_dir=tmp_path, resume=True, **QUIET
    )
    assert [entry["step"] for entry in result.evaluations] == [3, 6]


def test_a_killed_worker_costs_no_step(tmp_path, recipe):
    class Killed(Stripes):
        def __getitem__(self, index):
            if index == 6:
                raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
            return super().__getitem__(index)

    recipe = recipe.replace(**{"checkpoints.every": 100, "evaluation.every": 100})
    with pytest.raises(RuntimeError, match="killed by signal"):
        train(build_model(), Killed(8), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    last = checkpoints.newest_valid_checkpoint(tmp_path / "checkpoints")
    assert checkpoints.checkpoint_step(last) == 1


def test_an_evaluation_of_void_only_is_remarked_once(tmp_path, recipe, caplog):
    class Void(Stripes):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return {**example, "labels": torch.full_like(example["labels"], 255)}

    result = train(build_model(), Stripes(4), Void(2), recipe=recipe, output_dir=tmp_path, **QUIET)
    assert result.best_step is None
    assert caplog.text.count("None of the 2 evaluation images has a labeled pixel") == 1
    assert "NaN" not in (tmp_path / "training_log.jsonl").read_text()


def test_the_last_line_still_shows_the_loss(tmp_path, recipe, monkeypatch):
    shown = []
    monkeypatch.setattr(TrainingDisplay, "show_step", lambda self, step, values: shown.append((step, values)))
    train(build_model(), Stripes(4), Stripes(2), recipe=recipe, output_dir=tmp_path, **QUIET)
    step, values = shown[-1]
    assert step == 6
    assert all(values[name] is not None for name in ("loss", "mean_iou", "learning_rate", "seconds_left"))
