"""From decoder features to the loss and back: the whole training head, published, category and ours.

    python benchmarks/training_head.py                  # ADE20K: 2 x 512 channels, 128 x 128 -> 512 x 512, 150 classes
    python benchmarks/training_head.py --threads 1 2
    python benchmarks/training_head.py --quick

A head is the last 1x1 convolution and the loss behind it; every row gives the gradients by features, weight and bias.
Seconds are medians of interleaved repeats; peak memory is the high-water mark of a process of its own above the inputs.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from measuring import environment, interleaved, peak_memory, print_table
from torch import Tensor

from prolab_hf.model.loss_prolab import class_cross_entropy_loss, property_cosine_loss

TEMPERATURE = 0.04


class Case:
    """Decoder features, labels of some regions, the weights of both heads, and a property bank."""

    def __init__(self, options: argparse.Namespace) -> None:
        generator = torch.Generator().manual_seed(0)
        side = options.size // 4
        self.features = torch.randn(options.batch, options.channels, side, side, generator=generator)
        regions = torch.randint(0, options.classes, (options.batch, 1, 16, 16), generator=generator)
        self.labels = F.interpolate(regions.float(), size=(options.size, options.size)).long()[:, 0]
        self.bank = F.normalize(torch.randn(options.properties, options.dim, generator=generator), dim=1)
        self.matrix = (torch.rand(options.classes, options.properties, generator=generator) < 0.1).float()
        scale = 0.04 / options.channels**0.5
        self.property_weight = scale * torch.randn(options.dim, options.channels, generator=generator)
        self.class_weight = scale * torch.randn(options.classes, options.channels, generator=generator)


def reference(case: Case, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The published order: embeddings, upsampled, projected, scored."""
    embeddings = F.conv2d(features, weight[:, :, None, None], bias)
    wide = F.interpolate(embeddings, size=case.labels.shape[1:], mode="bilinear", align_corners=False)
    scores = torch.sigmoid(torch.einsum("bdhw,kd->bkhw", wide, case.bank) / TEMPERATURE)
    targets = case.matrix[case.labels].permute(0, 3, 1, 2)
    return (1 - F.cosine_similarity(scores, targets, dim=1)).mean()


def ours(case: Case, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolution and bank folded into one, then the streamed loss."""
    logits = F.conv2d(features, (case.bank @ weight)[:, :, None, None], case.bank @ bias)
    return property_cosine_loss(logits, case.labels, case.matrix, temperature=TEMPERATURE)


def category(case: Case, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A category head as it is usually written."""
    logits = F.conv2d(features, weight[:, :, None, None], bias)
    wide = F.interpolate(logits, size=case.labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(wide, case.labels)


def category_streamed(case: Case, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A category head with the streamed cross-entropy of this library."""
    return class_cross_entropy_loss(F.conv2d(features, weight[:, :, None, None], bias), case.labels)


HEADS: dict[str, Callable[[Case, Tensor, Tensor, Tensor], Tensor]] = {
    "reference": reference,
    "ours": ours,
    "category head": category,
    "category head, streamed": category_streamed,
}


def step(case: Case, name: str) -> tuple[Tensor, ...]:
    """The loss and its three gradients."""
    weight = case.class_weight if name.startswith("category") else case.property_weight
    inputs = [case.features, weight, torch.zeros(len(weight))]
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    loss = HEADS[name](case, *inputs)
    return loss.detach(), *torch.autograd.grad(loss, inputs)


def _prepare(options: argparse.Namespace, name: str) -> Callable[[], object]:
    return partial(step, Case(options), name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--properties", type=int, default=256)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--size", type=int, default=512, help="side of the labels; features a 4th")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a small problem, for a look at the table")
    options = parser.parse_args()
    if options.quick:
        options.channels, options.dim, options.properties, options.size = 64, 96, 64, 128
    print(environment())
    torch.set_num_threads(1)
    memory = {name: peak_memory(partial(_prepare, options, name)) for name in HEADS}
    case = Case(options)
    for threads in options.threads:
        torch.set_num_threads(threads)
        expected, found = step(case, "reference"), step(case, "ours")
        error = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(expected, found))
        seconds = interleaved({name: partial(step, case, name) for name in HEADS}, options.repeats)
        print(
            f"\n{options.batch} x {options.channels} x {options.size // 4}^2 -> {options.size}^2, D {options.dim}, "
            f"K {options.properties}, {options.classes} classes, {threads} thread(s); largest relative difference "
            f"of loss and gradients between reference and ours: {error:.0e}"
        )
        rows = []
        for name, (wall, cpu) in seconds.items():
            ratios = [seconds[other][1] / cpu for other in ("reference", "category head")]
            figures = [f"{wall:.3f}", f"{cpu:.3f}", *(f"{ratio:.1f}" for ratio in ratios)]
            rows.append([name, *figures, f"{memory[name]:.0f}"])
        header = ["head", "wall s", "CPU s", "faster than reference", "than category head", "peak MiB"]
        print_table(header, rows)


if __name__ == "__main__":
    main()
