"""A model in parts does what a whole one does: FSDP2 and DeepSpeed ZeRO against plain training."""

import copy
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule
from transformers import ConvNextConfig

from prolab_hf.training.engines.deepspeed import _part_of
from prolab_hf.training.engines.engine import Engine
from prolab_hf.training.engines.fsdp import FsdpEngine, _named, _numbered
from prolab_hf.training.engines.launching import build_engine
from tests.training.conftest import Stripes, build_model

SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.training.conftest import Stripes
from tests.training.test_training_data import UnevenlyVoid, frozen_model
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

output, killed_at, resume = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume"

def kill(event):
    if event.kind == "checkpoint" and event.step == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)

recipe = TrainingRecipe(
    schedule=dict(max_iterations=6, batch_size=1, total_batch_size=4, warmup_iterations=0),
    optimizer=dict(learning_rate=1e-3, ema_decay=0.9, max_gradient_norm=1.0, weight_decay=0.05),
    data=dict(num_workers=0, crop_size=32), evaluation=dict(every=6), checkpoints=dict(every=2), log_every=1,
)
train(
    frozen_model(), UnevenlyVoid(4), Stripes(5), recipe=recipe, output_dir=output, resume=resume, callbacks=[kill],
    show_progress=False,
)
"""
PARTS = {
    "ddp": {},
    "fsdp2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
}
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed: pip install deepspeed"
)


class Run:
    """Runs of the script in a folder."""

    def __init__(self, root):
        self.root = root
        self.script = root / "script.py"
        self.script.write_text(SCRIPT.format(root=str(Path(__file__).parents[2])))

    def __call__(self, name, kind="ddp", processes=1, killed_at=-1, resume=False):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), str(self.script)]
        arguments = [str(self.root / name), str(killed_at), "resume" if resume else "start"]
        done = subprocess.run(
            [*command, *arguments],
            env=os.environ | PARTS[kind] | {"DS_ACCELERATOR": "cpu"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        killed = done.returncode != 0 and killed_at > 0
        assert killed or done.returncode == 0, done.stderr[-5000:]
        return self.root / name


def losses(folder):
    lines = map(json.loads, (folder / "training_log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "step"]


def assert_same_weights(one, other, tolerance):
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=tolerance, msg=name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def alone(run):
    """One process, four passes of one image per step."""
    return run("alone")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["ddp", "fsdp2", *(pytest.param(name, marks=needs_deepspeed) for name in ("zero2", "zero3"))]
)
def test_two_processes_train_as_one_does_and_resume_where_they_were(run, alone, kind):
    """Accumulation, clipping, unequal void pixels, averaged weights, evaluation, and a kill between two steps."""
    whole = run(kind, kind, processes=2)
    assert losses(whole) == pytest.approx(losses(alone), rel=1e-5)
    assert_same_weights(whole, alone, tolerance=2e-5)  # the averaged ones: those of the export
    scores = [
        json.loads((folder / "checkpoints/evaluations.json").read_text())[-1] for folder in (whole, alone)
    ]
    assert scores[0]["mean_iou"] == pytest.approx(scores[1]["mean_iou"], abs=1e-3)
    # Killed after the checkpoint of step 4, which the resumed run goes on from.
    killed = run(f"{kind}-killed", kind, processes=2, killed_at=4)
    assert not (killed / "model.safetensors").exists()
    run(f"{kind}-killed", kind, processes=2, resume=True)
    assert losses(killed) == losses(whole)
    assert_same_weights(killed, whole, tolerance=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"),
    [("fsdp2", "ddp"), ("ddp", "fsdp2"), pytest.param("zero3", "zero2", marks=needs_deepspeed)],
)
def test_a_run_goes_on_with_another_number_of_processes_and_another_engine(run, alone, first, then):
    name = f"{first}-{then}"
    run(name, first, processes=2 if first != "ddp" else 1, killed_at=4)
    run(name, then, processes=2 if then != "ddp" else 1, resume=True)
    assert losses(run.root / name) == pytest.approx(losses(alone), rel=1e-5)
    assert_same_weights(run.root / name, alone, tolerance=2e-5)


# ---- without further processes ----------------------------------------------------------------------------


@pytest.fixture
def group(monkeypatch):
    """A group of one process, in which the parts are the whole."""
    monkeypatch.setenv("FSDP_VERSION", "2")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def batch(number=4):
    examples = [Stripes()[index] for index in range(number)]
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}


def train_steps(engine, steps):
    engine.model.train()
    for _ in range(steps):
        for is_last in (False, True):
            with engine.accumulating(is_last=is_last):
                engine.backward(engine.model(**batch()).loss / 2, is_last=is_last)
        engine.step()


def test_parts_of_one_process_step_as_the_whole_and_give_each_other_their_state(group, recipe):
    recipe = recipe.replace(**{"optimizer.ema_decay": 0.9, "optimizer.max_gradient_norm": 1.0})
    engines = [kind(Accelerator(cpu=True), recipe) for kind in (Engine, FsdpEngine)]
    for engine in engines:
        engine.start(build_model(classifier_dropout_prob=0.0))
        train_steps(engine, 2)
    whole, parts = engines
    parts.gather()
    for name, value in whole.plain_model.state_dict().items():
        torch.testing.assert_close(parts.plain_model.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    averages = [copy.deepcopy(engine.averaged_tensors()) for engine in engines]
    assert averages[0].keys() == averages[1].keys()
    # Each goes on from the other's state: the steps after it are the same.
    states = [copy.deepcopy(engine.optimizer_state()) for engine in engines]
    weights = [{n: v.clone() for n, v in engine.plain_model.state_dict().items()} for engine in engines]
    swapped = [kind(Accelerator(cpu=True), recipe) for kind in (Engine, FsdpEngine)]
    for engine, state, tensors, average in zip(swapped, states[::-1], weights[::-1], averages[::-1]):
        model = build_model(classifier_dropout_prob=0.0)
        model.load_state_dict(tensors)
        engine.start(model)
        engine.load_optimizer_state(state)
        engine.set_averaged_tensors(average, step=2)
    for engine in (whole, *swapped):
        train_steps(engine, 1)
        engine.gather(averaged=True)
    for engine in swapped:
        for name, value in whole.plain_model.state_dict().items():
            found = engine.plain_model.state_dict()[name]
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-5, msg=name)


def test_every_layer_of_the_backbone_is_a_unit_of_its_own(group, recipe, monkeypatch):
    """With the policy of examples/accelerate/fsdp2.yaml."""
    monkeypatch.setenv("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    stages = [f"stage{number}" for number in (1, 2, 3, 4)]
    backbone = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 2, 1, 1], out_features=stages)
    models = [build_model(backbone_config=backbone, classifier_dropout_prob=0.0) for _ in range(2)]
    engines = [kind(Accelerator(cpu=True), recipe) for kind in (Engine, FsdpEngine)]
    for engine, model in zip(engines, models):
        engine.start(model)
        train_steps(engine, 1)
        engine.gather()
    units = [
        type(module).__name__ for module in engines[1].working.modules() if isinstance(module, FSDPModule)
    ]
    assert units[0] == "FSDPProLabForSemanticSegmentation" and units.count("FSDPConvNextLayer") == 5
    for name, value in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_weight_that_is_not_finite_is_found_in_its_part(group, recipe):
    engine = FsdpEngine(Accelerator(cpu=True), recipe)
    engine.start(build_model())
    assert engine.first_bad_weight() is None
    with torch.no_grad():
        engine.working.decode_head.classifier.weight.to_local()[0, 0] = torch.nan
    assert engine.first_bad_weight() == "decode_head.classifier.weight"


def test_what_is_measured_is_whole_and_has_the_averaged_weights(group, recipe):
    engine = FsdpEngine(Accelerator(cpu=True), recipe.replace(**{"optimizer.ema_decay": 0.9}))
    engine.start(build_model())
    train_steps(engine, 1)
    with engine.exported() as model:
        assert model is engine.plain_model and type(model).__name__ == "ProLabForSemanticSegmentation"
        measured = model.decode_head.classifier.weight.detach().clone()
    assert torch.equal(measured, engine.averaged_tensors()["decode_head.classifier.weight"])
    engine.gather()
    assert not torch.equal(measured, engine.plain_model.decode_head.classifier.weight)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("FSDP_VERSION", "1", "fsdp_version: 2"),
        ("FSDP_CPU_RAM_EFFICIENT_LOADING", "true", "fsdp_cpu_ram_efficient_loading"),
    ],
)
def test_launch_configurations_that_cannot_work_are_refused(recipe, monkeypatch, name, value, expected):
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=expected):
        FsdpEngine(Accelerator(cpu=True), recipe).start(build_model())


def test_one_process_holds_the_whole_model_and_says_so(recipe, monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    assert type(build_engine(Accelerator(cpu=True), recipe)) is Engine
    assert "asks for FSDP" in caplog.text and "one process" in caplog.text


def test_states_by_number_and_by_name_are_inverse():
    named = {
        "state": {"a": {"step": 1}, "c": {"step": 3}},
        "param_groups": [{"lr": 0.1, "params": ["a", "b"]}, {"lr": 0.2, "params": ["c"]}],
    }
    numbered = _numbered(named)
    assert numbered == {
        "state": {0: {"step": 1}, 2: {"step": 3}},
        "param_groups": [{"lr": 0.1, "params": [0, 1]}, {"lr": 0.2, "params": [2]}],
    }
    assert _named(numbered, named["param_groups"]) == named
    with pytest.raises(ValueError, match=r"groups of \[2, 1\] parameters"):
        _named(numbered, [{"params": ["a"]}, {"params": ["c"]}])


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_equal_parts_with_a_padded_last_one(processes):
    whole = torch.arange(10.0).view(2, 5)
    length = -(-10 // processes)

    class Parameter:
        ds_tensor = torch.zeros(length)

    parts = [_part_of(whole, Parameter(), rank) for rank in range(processes)]
    assert {len(part) for part in parts} == {length}
    assert torch.equal(torch.cat(parts)[:10].view(2, 5), whole)
