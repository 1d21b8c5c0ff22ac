"""What a user sees of a run, and how it is stopped."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import ResNetConfig, ResNetModel

from prolab_hf.training import checkpoints, trainer
from prolab_hf.training.planning import device_speed, plan
from prolab_hf.training.reporting import InterruptGuard, TimeLeft, TrainingDisplay, TrainingInterrupted
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model

QUIET = {"show_progress": False}


@pytest.fixture
def shown(monkeypatch):
    """What is written to a log file instead of a terminal."""
    text = io.StringIO()
    monkeypatch.setattr(
        trainer, "TrainingDisplay", lambda total, enabled: TrainingDisplay(total, console=Console(file=text))
    )
    return text


def test_the_facts_of_a_run_come_before_its_first_step(tmp_path, recipe, shown):
    seen = []

    def remember(event):
        if not seen:
            seen.append(shown.getvalue())

    recipe = recipe.replace(**{"checkpoints.every": 2, "schedule.batch_size": 3})
    train(build_model(), Stripes(9), Stripes(2), recipe=recipe, output_dir=tmp_path, callbacks=[remember])
    words = " ".join(seen[0].split())
    threads = torch.get_num_threads()
    assert f"device: cpu ({threads} threads), full precision" in words
    assert "data: 9 training images, 2 evaluation images, 3 classes" in words
    assert "run: 6 steps of 3 images (2.0 epochs), evaluation every 3, checkpoint every 2" in words
    longer = recipe.replace(**{"schedule.max_iterations": 7})
    train(build_model(), Stripes(9), Stripes(2), recipe=longer, output_dir=tmp_path, resume=True)
    assert "going on after step 6" in shown.getvalue()


def test_no_foreign_bars_in_a_log(tmp_path, recipe, capfd):
    from prolab_hf import PropertySpace
    from prolab_hf.training.from_recipe import build_model as model_of

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic"
    )
    ResNetModel(config).save_pretrained(tmp_path / "backbone")
    capfd.readouterr()
    recipe = recipe.replace(**{"model.backbone": str(tmp_path / "backbone"), "config.hidden_size": 8})
    space = PropertySpace.random_codes(["a", "b", "c"], num_properties=4, density=0.5)
    model = model_of(recipe, space)
    train(model, Stripes(4), None, recipe=recipe, output_dir=tmp_path / "out", **QUIET)
    written = "".join(capfd.readouterr())
    assert "Loading weights" not in written
    assert "Writing model shards" not in written


def test_one_estimate_that_a_slow_start_does_not_spoil():
    left = TimeLeft(100, 10, evaluation_share=3.0)
    left.add_step(30.0)  # files are read for the first time
    left.add_step(10.0)
    assert left.seconds(2) is None
    estimates = []
    for step in range(3, 9):
        left.add_step(1.0)
        estimates.append(left.seconds(step) + step)
    # 100 seconds of steps, and 10 evaluations of 3 steps' images at a third of a step's cost.
    assert estimates == pytest.approx([110.0] * 6)
    left.add_evaluation(2.0)
    assert left.seconds(10) == pytest.approx(90 + 9 * 2)
    assert left.seconds(100) == 0.0


def test_a_plan_estimates_for_the_device_it_is_on(recipe):
    here = device_speed(recipe.replace(**{"device.mixed_precision": "fp16"}))
    assert here.device.startswith("cpu" if not torch.cuda.is_available() else "cuda")
    if not torch.cuda.is_available():
        assert here.precision == "no"  # where fp16 cannot train
    result = plan(recipe, build_model(), num_images=8, here=here)
    assert result.hours_here == pytest.approx(result.gpu_hours * 312.0 / here.teraflops)
    rows = dict(result.rows())
    assert rows[f"estimated time here, {here.device}"].endswith("hours")
    assert any("measured now" in line for line in result.assumptions)


# ---- stopping ---------------------------------------------------------------------------------------------


def test_a_second_control_c_names_the_last_checkpoint_or_says_that_there_is_none(tmp_path, recipe):
    def press_twice(event):
        if event.kind == "step" and event.step == stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    for stop, expected in (
        (1, "There is no checkpoint yet"),
        (3, r"The last good checkpoint is .*step-00000002"),
    ):
        with pytest.raises(TrainingInterrupted, match=rf"Stopped at once\. {expected}.*--resume"):
            train(
                build_model(),
                Stripes(8),
                None,
                recipe=recipe,
                output_dir=tmp_path / str(stop),
                callbacks=[press_twice],
                **QUIET,
            )


def test_sigterm_twice_is_one_request():
    """`timeout` sends it to the process and to its group."""
    with InterruptGuard() as guard:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert guard.requested
    assert TrainingInterrupted("", guard.signal_number).exit_code == 143
    assert TrainingInterrupted("", signal.SIGINT).exit_code == 1


TERMINATED_SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import prolab_hf.cli.train_command as command
import prolab_hf.cli as cli
from conftest import Stripes, build_model
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

def run():
    recipe = TrainingRecipe(
        schedule=dict(max_iterations=100000, batch_size=2), data=dict(num_workers=2, crop_size=32), log_every=1
    )
    train(build_model(), Stripes(), None, recipe=recipe, output_dir={output!r}, show_progress=False,
          callbacks=[lambda event: event.step == 5 and event.kind == "step" and print("go", flush=True)])

try:
    run()
except KeyboardInterrupt as error:
    sys.exit(cli._complain(str(error), getattr(error, "exit_code", 1)))
"""


def test_sigterm_to_the_whole_group_saves_and_ends_with_143(tmp_path):
    """It killed the reading processes: "DataLoader worker killed", and nothing was saved."""
    script = TERMINATED_SCRIPT.format(tests=str(Path(__file__).parent), output=str(tmp_path / "run"))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "go\n"
    os.killpg(process.pid, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    last = checkpoints.newest_valid_checkpoint(tmp_path / "run/checkpoints")
    assert f"Stopped at step {checkpoints.checkpoint_step(last)} of 100000" in errors
    assert "DataLoader" not in errors
