"""Dice and Lovasz losses with their gradient: ours against segmentation_models_pytorch on upsampled logits.

    python benchmarks/region_losses.py                          # 2 crops of 512 x 512, logits of 128 x 128
    python benchmarks/region_losses.py --classes 21 150 --size 896 --batch 1

CPU seconds of interleaved calls, and the peak of memory above the inputs in a process of its own. Losses must agree:
the largest relative difference of loss and gradient is printed too.
"""

import argparse
from collections.abc import Callable
from functools import partial

import segmentation_models_pytorch as smp
import torch
from measuring import environment, interleaved, peak_memory, print_table
from torch import Tensor
from torch.nn import functional

from prolab_hf.model.loss_regions_prolab import dice_loss, lovasz_loss

VOID = 255


def data(options: argparse.Namespace, classes: int) -> tuple[Tensor, Tensor]:
    """Logits at a quarter of the size, and labels in square regions of which most classes have some."""
    generator = torch.Generator().manual_seed(0)
    small, size = options.size // 4, options.size
    logits = torch.randn(options.batch, classes, small, small, generator=generator)
    coarse = torch.randint(classes, (options.batch, 1, size // 32, size // 32), generator=generator)
    labels = functional.interpolate(coarse.float(), (size, size))[:, 0].long()
    labels[:, : size // 16] = VOID
    return logits.requires_grad_(), labels


def theirs(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    large = functional.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
    return loss(large, labels)


LOSSES: dict[str, dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "Dice": {
        "smp": partial(theirs, smp.losses.DiceLoss("multiclass", ignore_index=VOID)),
        "ours": partial(dice_loss, ignore_index=VOID),
    },
    "Lovasz": {
        "smp": partial(theirs, smp.losses.LovaszLoss("multiclass", ignore_index=VOID)),
        "ours": partial(lovasz_loss, ignore_index=VOID),
    },
}


def step(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(logits, labels)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def prepared(options: argparse.Namespace, classes: int, kind: str, name: str) -> Callable[[], object]:
    return partial(step, LOSSES[kind][name], *data(options, classes))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[21, 150])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(environment())
    places = [(kind, classes) for classes in options.classes for kind in LOSSES]
    # Memory forks, so before the first computation here.
    peaks = {
        (*place, name): peak_memory(partial(prepared, options, place[1], place[0], name))
        for place in places
        for name in LOSSES[place[0]]
    }
    rows = []
    for kind, classes in places:
        calls = {name: prepared(options, classes, kind, name) for name in LOSSES[kind]}
        (value, slope), (other, other_slope) = (call() for call in calls.values())
        if kind == "Dice":  # theirs divides by all classes, ours by those that occur
            occurring = len(data(options, classes)[1].unique()) - 1
            value, slope = value * classes / occurring, slope * classes / occurring
        differences = (value - other).abs() / value, (slope - other_slope).abs().max() / slope.abs().max()
        seconds = interleaved(calls, options.repeats)
        for name in calls:
            rows.append(
                [
                    f"{kind}, {classes} classes",
                    name,
                    f"{seconds[name][1]:.3f}",
                    f"{peaks[kind, classes, name]:,.0f}",
                    f"{float(differences[0]):.0e} / {float(differences[1]):.0e}",
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
    print_table(["loss", "by", "CPU s", "peak MiB", "difference of loss / gradient"], rows)


if __name__ == "__main__":
    main()
