"""Bytes that a training step exchanges between processes: measured on two processes of this machine.

    unshare --net --map-root-user sh -c 'ip link set lo up; python benchmarks/communication.py'

Counted is what the loopback device carries, in a network of the script's own (without `unshare` other programs are
counted, too): everything, headers and both directions, whoever sends it. For each engine a small network is trained for
some steps, and the bytes per step and parameter follow; the loss's few numbers and the agreement on stopping are in it.
What other numbers of devices exchange is computed: a ring sends 2 (n - 1) / n of the gradients per device.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from measuring import print_table
from transformers import ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace, TrainingRecipe
from prolab_hf.training.engines.launching import build_accelerator, build_engine

ENGINES = {
    "ddp": {},
    "zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
    "fsdp2": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "zero3": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
}
PASSES_OF_WEIGHTS = {"ddp": 2, "zero2": 2, "fsdp2": 3, "zero3": 3}
"""What each engine must exchange per step, in sizes of the model.

Gradients are reduced and given back (2), or weights are gathered for the forward and for the backward pass, and
gradients reduced (3). Backends that cannot reduce to parts (gloo) exchange one more.
"""


def loopback_bytes() -> int:
    """Bytes that the loopback device has carried (Linux)."""
    line = next(
        line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:")
    )
    return int(line.split(":")[1].split()[0])


def work(steps: int, width: int) -> None:
    """One process: some steps, of which the main one counts the bytes."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = ResNetConfig(
        embedding_size=width,
        hidden_sizes=[width, 2 * width, 4 * width, 8 * width],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=stages,
    )
    torch.manual_seed(0)
    model = ProLabForSemanticSegmentation.from_backbone(
        backbone, PropertySpace.from_pretrained("scenes"), hidden_size=2 * width, use_auxiliary_head=False
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    recipe = TrainingRecipe(schedule={"max_iterations": 1, "batch_size": 2}, device={"mixed_precision": "no"})
    accelerator = build_accelerator(recipe)
    engine = build_engine(accelerator, recipe)
    engine.start(model)
    batch = {"pixel_values": torch.randn(2, 3, 64, 64), "labels": torch.randint(0, 3, (2, 64, 64))}

    def step() -> None:
        with engine.accumulating(is_last=True):
            engine.backward(engine.model(**batch).loss, is_last=True)
        engine.step()

    engine.model.train()
    for _ in range(2):  # connections are made, buckets are arranged
        step()
    accelerator.wait_for_everyone()
    before = loopback_bytes()
    for _ in range(steps):
        step()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        print(f"BYTES {(loopback_bytes() - before) / steps:.0f} {parameters} {buffers}", flush=True)


def measure(engine: str, options: argparse.Namespace) -> tuple[float, int, int]:
    """Bytes per step, parameters, bytes of buffers."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
    arguments = ["--work", "--steps", str(options.steps), "--width", str(options.width)]
    environment = os.environ | ENGINES[engine] | {"DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *launcher, "--master_port", "29555", __file__, *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        if done.returncode:
            errors.seek(0)
            raise RuntimeError(f"{engine} ended with code {done.returncode}:\n{errors.read()[-2000:]}")
    numbers = next(line for line in done.stdout.splitlines() if line.startswith("BYTES")).split()[1:]
    return float(numbers[0]), int(numbers[1]), int(numbers[2])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    installed = [name for name in ENGINES if "zero" not in name or importlib.util.find_spec("deepspeed")]
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=installed)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.steps, options.width)
        return
    rows = []
    for engine in options.engines:
        found, parameters, buffers = measure(engine, options)
        # Over two processes, each way of a pass moves half of the tensors from each of them: together 1 size.
        expected = PASSES_OF_WEIGHTS[engine] * 4 * parameters
        rows.append(
            [engine, f"{parameters / 1e6:.2f} M", f"{found / 2**20:.2f}", f"{found / parameters:.2f}",
             f"{expected / 2**20:.2f}", f"{buffers / 2**20:.2f}"]
        )  # fmt: skip
    header = [
        "engine",
        "parameters",
        "MiB per step, both processes",
        "bytes per parameter",
        "MiB computed",
        "MiB buffers",
    ]
    print_table(header, rows)


if __name__ == "__main__":
    main()
