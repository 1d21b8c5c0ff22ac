"""Two processes share what one does: counting classes, computing features, timing steps, adapters."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSemanticSegmentation

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from tests.training.conftest import build_model, drawn_pairs
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

recipe = TrainingRecipe(
    schedule=dict(max_iterations=3, batch_size=2, total_batch_size=4, warmup_iterations=0),
    optimizer=dict(learning_rate=1e-3), data=dict(num_workers=0, crop_size=32), log_every=1,
    balance=dict(class_weights="sqrt", rare_class_crops=0.5), model=dict(freeze="backbone"),
    features=dict(cache=True, copies=2, half=False),
    config=dict(),
)
def run(recipe, name):
    model = build_model(classifier_dropout_prob=0.0)
    for module in model.decode_head.modules():
        if hasattr(module, "running_mean"):
            module.momentum = 0.0
    train(model, drawn_pairs(8), None, recipe=recipe, output_dir={output!r} + "/" + name, show_progress=False)
run(recipe, "cached")
lora = recipe.replace(**{{"model.freeze": "none", "features.cache": False, "peft.method": "lora"}})
run(lora, "lora")
run(recipe.replace(**{{"schedule.max_minutes": 0.2, "schedule.warmup_iterations": None}}), "minutes")
"""


def run(tmp_path, processes):
    path, output = tmp_path / f"script_{processes}.py", tmp_path / str(processes)
    path.write_text(SCRIPT.format(root=str(Path(__file__).parents[3]), output=str(output)))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(path)]
    subprocess.run(command, check=True, timeout=900)
    return output


@pytest.mark.slow
def test_two_processes_count_cache_and_adapt_as_one(tmp_path):
    one, two = run(tmp_path, 1), run(tmp_path, 2)
    counted = [json.loads((folder / "cached" / "class_balance.json").read_text()) for folder in (one, two)]
    assert counted[0] == counted[1]
    features = [sorted((folder / "cached" / "feature_cache").rglob("*.safetensors")) for folder in (one, two)]
    assert [path.name for path in features[0]] == [path.name for path in features[1]]
    assert len(features[0]) == 16
    for mine, theirs in zip(*features):
        for name, value in load_file(mine).items():
            torch.testing.assert_close(value, load_file(theirs)[name])
    for name in ("lora",):
        models = [AutoModelForSemanticSegmentation.from_pretrained(folder / name) for folder in (one, two)]
        assert models[0].config.class_weights == models[1].config.class_weights
    planned = json.loads((two / "minutes" / "training_recipe.json").read_text())["schedule"]
    assert planned["planned_iterations"] >= 1
