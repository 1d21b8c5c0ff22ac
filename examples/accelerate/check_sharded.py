"""Does a model in parts train as a whole one does on this machine? Takes less than five minutes, also on one GPU.

    python examples/accelerate/check_sharded.py                          # all engines that are installed
    python examples/accelerate/check_sharded.py --engines fsdp2 zero3 --processes 4

A small network is trained for six steps on drawn scenes: on one process, and by each engine on as many processes as
there are GPUs (two on a machine without any), with the same images per step. Compared are the losses of all steps and
the exported weights; and whether a run that was stopped after step 4 and resumed ends with the very weights of one that
was not. The script ends with code 1 where they differ.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace, TrainingRecipe, train
from prolab_hf.data.source_from_name import open_source
from prolab_hf.training.trainer import TrainingInterrupted

ENGINES = {
    "ddp": {},
    "fsdp2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "zero3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
}
STEPS, STOP_AFTER, IMAGES_PER_STEP = 6, 4, 8


def frozen_statistics(model: torch.nn.Module) -> torch.nn.Module:
    """Batch normalization with fixed statistics: the others depend on which images a process has."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module
            module.training = False
    return model


def run(output: Path, *, stop: bool, resume: bool) -> None:
    """One run of six steps, or of the first four of them."""
    torch.backends.cudnn.allow_tf32 = False  # compared are engines, not roundings
    torch.manual_seed(0)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=stages,
    )
    model = ProLabForSemanticSegmentation.from_backbone(
        backbone,
        PropertySpace.from_pretrained("scenes"),
        hidden_size=32,
        auxiliary_channels=16,
        classifier_dropout_prob=0.0,
        class_loss_weight=1.0,
    )
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    recipe = TrainingRecipe(
        schedule={
            "max_iterations": STEPS,
            "batch_size": IMAGES_PER_STEP // processes // 2,
            "total_batch_size": IMAGES_PER_STEP,
            "warmup_iterations": 0,
        },
        optimizer={"learning_rate": 1e-3, "ema_decay": 0.9, "max_gradient_norm": 1.0},
        data={"crop_size": 64, "num_workers": 0},
        evaluation={"every": STEPS},
        checkpoints={"every": 2},
        device={"mixed_precision": "no"},
        log_every=1,
    )

    def interrupt(event):
        if stop and event.kind == "checkpoint" and event.step == STOP_AFTER:
            raise TrainingInterrupted("as asked")

    train(
        frozen_statistics(model),
        open_source("scenes:32", "train"),
        open_source("scenes:8", "validation"),
        recipe=recipe,
        output_dir=output,
        resume=resume,
        show_progress=False,
        callbacks=[interrupt],
    )


def launch(output: Path, engine: str, processes: int, how: str = "whole") -> None:
    """Starts a run on a number of processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *launcher, __file__, "--folder", str(output), "--how", how]
    environment = os.environ | ENGINES[engine]
    if not torch.cuda.is_available():
        environment["DS_ACCELERATOR"] = "cpu"
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if (done.returncode != 0) != (how == "stop"):
        raise RuntimeError(f"{engine} ({how}) ended with code {done.returncode}:\n{done.stderr[-3000:]}")


def losses(output: Path) -> torch.Tensor:
    lines = map(json.loads, (output / "training_log.jsonl").read_text().splitlines())
    return torch.tensor([line["loss"] for line in lines if line["event"] == "step"], dtype=torch.float64)


def largest_difference(one: Path, other: Path) -> float:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def check(folder: Path, engine: str, processes: int) -> bool:
    """Prints what an engine's runs differ by; whether that is no more than rounding."""
    whole, parts = folder / engine, folder / f"{engine}-stopped"
    launch(whole, engine, processes)
    launch(parts, engine, processes, "stop")
    launch(parts, engine, processes, "resume")
    alone = losses(folder / "alone")
    loss = float(((losses(whole) - alone) / alone).abs().max())
    weights, resumed = largest_difference(whole, folder / "alone"), largest_difference(parts, whole)
    tolerance = 1e-3 if torch.cuda.is_available() else 1e-5
    good = (
        loss < tolerance
        and weights < 10 * tolerance
        and resumed <= (tolerance if torch.cuda.is_available() else 0)
    )
    print(
        f"{engine:6} {processes} process(es): losses differ by {loss:.1e} (relative), weights by {weights:.1e}, "
        f"after stop and resume by {resumed:.1e}  {'ok' if good else 'NOT EQUAL'}",
        flush=True,
    )
    return good


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    installed = [name for name in ENGINES if "zero" not in name or importlib.util.find_spec("deepspeed")]
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=installed)
    parser.add_argument(
        "--processes", type=int, choices=(1, 2, 4), default=min(4, torch.cuda.device_count()) or 2
    )
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)  # torchrun takes a --run for its own
    parser.add_argument("--how", default="whole", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        run(options.folder, stop=options.how == "stop", resume=options.how == "resume")
        return
    with tempfile.TemporaryDirectory() as folder:
        launch(Path(folder) / "alone", "ddp", 1)
        good = [check(Path(folder), engine, options.processes) for engine in options.engines]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
