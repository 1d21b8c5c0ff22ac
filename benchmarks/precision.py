"""Mean IoU, weight size and speed of a trained model with smaller numbers: bfloat16 and int8 weights.

    python benchmarks/precision.py runs/camvid-both DATA --split test

DATA is the folder that benchmarks/camvid.py takes (ids 0 to 10, 11 = void). For int8, the weights of convolutions and
linear layers are stored as int8 with a scale per output channel and dequantized when they are used (PyTorch has no
int8 weight-only convolution on the CPU): that tells size and accuracy, not speed. Linear layers alone, with their
own kernels, are what `from_pretrained(folder, quantization_config=TorchAoConfig(Int8WeightOnlyConfig()))` quantizes
where torchao is installed.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import environment, print_table
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessor
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import FolderSource
from prolab_hf.evaluation.evaluate import evaluate


class Int8Weight(nn.Module):
    """A weight as int8 numbers with one scale per output channel (symmetric)."""

    def forward(self, values: Tensor, scale: Tensor) -> Tensor:
        return values.to(scale.dtype) * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True).clamp_min(1e-12) / 127
        return (weight / scale).round().to(torch.int8), scale


def int8_weights(model: nn.Module) -> None:
    """Quantizes linear layers and convolutions in place."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # integers have no gradient
    for module in list(model.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            register_parametrization(module, "weight", Int8Weight())


def megabytes(model: nn.Module) -> float:
    """Size of parameters and persistent buffers in MB."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()) / 1e6


def variants(folder: Path) -> dict[str, Callable[[], nn.Module]]:
    """Each row of the table: a name and how its model is made."""

    def load(**kwargs: object) -> nn.Module:
        return ProLabForSemanticSegmentation.from_pretrained(folder, **kwargs).eval()

    def int8() -> nn.Module:
        model = load()
        int8_weights(model)
        return model

    return {
        "float32": load,
        "bfloat16 autocast": load,
        "bfloat16 weights": lambda: load(dtype=torch.bfloat16),
        "int8 weights": int8,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, help="only this many images")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(environment())
    processor = ProLabImageProcessor.from_pretrained(options.model)
    rows, base = [], None
    for name, build in variants(options.model).items():
        model = build()
        source = FolderSource(
            options.data,
            options.split,
            coding=LabelCoding("ids", void_values=(11,)),
            class_names=list(model.config.id2label.values()),
        )
        images = source if options.limit is None else torch.utils.data.Subset(source, range(options.limit))
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=name.endswith("autocast")):
            mean_iou = evaluate(model, processor, images)["mean_iou"]
        seconds = (time.perf_counter() - start) / len(images)
        base = base or mean_iou
        rows.append(
            [
                name,
                f"{megabytes(model):.1f}",
                f"{mean_iou:.4f}",
                f"{mean_iou - base:+.4f}",
                f"{1000 * seconds:.0f}",
            ]
        )
    print_table(["numbers", "weights MB", "mean IoU", "change", "ms per image"], rows)


if __name__ == "__main__":
    main()
