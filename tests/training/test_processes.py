"""Several processes do what one does: void pixels, evaluation, export."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForSemanticSegmentation

from prolab_hf.evaluation.evaluate import evaluate
from tests.training.conftest import Stripes

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.training.conftest import Stripes, build_model
from tests.training.test_training_data import UnevenlyVoid, frozen_model
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

recipe = TrainingRecipe(
    schedule=dict(max_iterations=3, batch_size=1, total_batch_size=4, warmup_iterations=0),
    optimizer=dict(learning_rate=1e-4, ema_decay=0.9), data=dict(num_workers=0, crop_size=32),
    evaluation=dict(every=3), log_every=1,
)
train(frozen_model(), UnevenlyVoid(4), None, recipe=recipe, output_dir={output!r} + "/void", show_progress=False)
# With live statistics, which every process keeps for itself.
recipe = recipe.replace(**{{"schedule.batch_size": 2}})
train(build_model(), Stripes(8), Stripes(5), recipe=recipe, output_dir={output!r} + "/live", show_progress=False)
"""


def run(tmp_path, processes):
    path = tmp_path / f"script_{processes}.py"
    output = tmp_path / str(processes)
    path.write_text(SCRIPT.format(root=str(Path(__file__).parents[2]), output=str(output)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    lines = (output / "void" / "training_log.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if line["event"] == "step"]


@pytest.mark.slow
def test_two_processes_weigh_void_pixels_as_one_and_score_what_they_save(tmp_path):
    """The loss was a mean of per-process means, and scores those of each process's own statistics."""
    assert run(tmp_path, 2) == pytest.approx(run(tmp_path, 1), rel=2e-4)
    recorded = json.loads((tmp_path / "2/live/checkpoints/evaluations.json").read_text())
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "2/live").eval()
    assert evaluate(model, None, Stripes(5))["mean_iou"] == recorded[-1]["mean_iou"]
