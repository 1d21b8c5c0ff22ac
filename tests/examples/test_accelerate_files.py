"""The configuration files of examples/accelerate say what Accelerate and the run understand."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from torch.distributed.run import get_args_parser

FOLDER = Path(__file__).parents[2] / "examples/accelerate"
KINDS = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}


def test_there_is_one_file_for_each_engine_and_the_text_names_all():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(KINDS)
    text = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"({name}.yaml)" in text for name in KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_the_file(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig) and config.distributed_type == KINDS[name]
    if name == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
        assert config.fsdp_config["fsdp_cpu_ram_efficient_loading"] is False
    if name.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(name[-1])
        assert config.deepspeed_config["zero3_init_flag"] is False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddp", "fsdp2"])
def test_accelerate_launch_trains_on_two_processes(tmp_path, name):
    """The file with another number of processes, and the command of the text; without GPUs, on the CPU."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8")) | {"num_processes": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    sizes = [
        "data.crop_size=64",
        "config.hidden_size=16",
        "config.auxiliary_channels=8",
        "schedule.total_batch_size=4",
    ]
    options = [part for assignment in sizes for part in ("--set", assignment)]
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "config.yaml"), "-m",
        "prolab_hf", "train", "scenes:8", "--space", "scenes", "--backbone", "resnet18", "--random",
        "--max-iterations", "2", "--batch-size", "2", "--num-workers", "0", "--out", str(tmp_path / "out"), *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "out/model.safetensors").is_file()
    assert ("in parts by FSDP2" in done.stderr) == (name == "fsdp2")


def test_torchrun_leaves_the_check_its_own_options(monkeypatch, tmp_path):
    """torchrun completes abbreviations, also behind the script: `--run` was ambiguous, and no check ever started."""
    path = Path(__file__).parents[2] / "examples/accelerate/check_sharded.py"
    spec = importlib.util.spec_from_file_location("check_sharded", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    started = []

    def start(command, **options):
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(module.subprocess, "run", start)
    module.launch(tmp_path, "zero3", 2)
    given = get_args_parser().parse_args(started[0][3:])
    assert given.training_script == module.__file__
    assert given.training_script_args == ["--folder", str(tmp_path), "--how", "whole"]
