"""The property loss from embeddings, forward and backward: published, plain and streamed formulation.

    python benchmarks/loss.py                      # ADE20K head: 2 images, D 768, K 256, 150 classes, 512 x 512
    python benchmarks/loss.py --threads 2 --busy   # two threads while another process keeps one core busy
    python benchmarks/loss.py --normalized         # normalized embeddings, as in the COCO configurations
    python benchmarks/loss.py --properties 32 512 --size 256 896 --classes 11 171
    python benchmarks/loss.py --only ours floor --batch 1 --properties 32 128 256 512 --size 256 512 896
    python benchmarks/loss.py --scaling            # how the cost grows with K, classes, pixels and batch
    python benchmarks/loss.py --quick              # seconds instead of minutes

Every row gets the same embeddings at a quarter of the label resolution and must give the same loss and gradient.
Seconds are medians of interleaved repeats; peak memory is the high-water mark of a process of its own above the inputs.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from measuring import busy_core, environment, interleaved, peak_memory, print_table
from torch import Tensor

from prolab_hf.model.loss_prolab import property_cosine_loss

VOID = 255


class Case:
    """One problem: embeddings, a property bank, labels of some regions with void, and classes."""

    def __init__(self, options: argparse.Namespace) -> None:
        generator = torch.Generator().manual_seed(0)
        side, batch_size = options.size // 4, options.batch
        self.normalized, self.temperature = options.normalized, 0.01 if options.normalized else 0.04
        self.embeddings = torch.randn(batch_size, options.dim, side, side, generator=generator)
        bank = torch.randn(options.properties, options.dim, generator=generator)
        self.bank = F.normalize(bank, dim=1)
        regions = torch.randint(0, options.classes, (batch_size, 1, 16, 16), generator=generator)
        size = options.size, options.size
        self.labels = F.interpolate(regions.float(), size=size).long()[:, 0]
        self.labels[:, : options.size // 10] = VOID
        self.matrix = (torch.rand(options.classes, options.properties, generator=generator) < 0.1).float()


def _mean_cosine_loss(case: Case, scores: Tensor) -> Tensor:
    """One minus cosine per pixel against gathered rows `(batch_size, K, H, W)`, mean over valid pixels."""
    void = case.labels == VOID
    rows = torch.cat([case.matrix, torch.zeros_like(case.matrix[:1])])
    targets = rows[torch.where(void, len(case.matrix), case.labels)].permute(0, 3, 1, 2)
    losses = 1 - F.cosine_similarity(scores, targets, dim=1)
    return (losses * ~void).sum() / (~void).sum()


def reference(case: Case, embeddings: Tensor, *, class_logits: bool = True) -> Tensor:
    """The published order: upsample the embeddings, project, score; class similarities for the accuracy."""
    size = case.labels.shape[1:]
    wide = F.interpolate(embeddings, size=size, mode="bilinear", align_corners=False)
    if case.normalized:
        wide = F.normalize(wide, dim=1)
    scores = torch.sigmoid(torch.einsum("bdhw,kd->bkhw", wide, case.bank) / case.temperature)
    if class_logits:
        rows = F.normalize(torch.cat([case.matrix, torch.zeros_like(case.matrix[:1])]), dim=1)
        similarities = torch.einsum("bkhw,nk->bnhw", F.normalize(scores, dim=1), rows)
        (similarities.argmax(dim=1) == case.labels).float().mean()
    return _mean_cosine_loss(case, scores)


def plain(case: Case, embeddings: Tensor) -> Tensor:
    """Project first, then upsample: the same numbers with K instead of D channels at full resolution."""
    size = case.labels.shape[1:]
    logits = torch.einsum("bdhw,kd->bkhw", embeddings, case.bank)
    logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    if case.normalized:
        wide = F.interpolate(embeddings, size=size, mode="bilinear", align_corners=False)
        logits = logits / torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return _mean_cosine_loss(case, torch.sigmoid(logits / case.temperature))


def ours(case: Case, embeddings: Tensor) -> Tensor:
    """Project first, then stream over the label rows."""
    logits = (case.bank @ embeddings.flatten(2)).view(len(embeddings), -1, *embeddings.shape[2:])
    return property_cosine_loss(
        logits,
        case.labels,
        case.matrix,
        temperature=case.temperature,
        ignore_index=VOID,
        pixel_embeddings=embeddings if case.normalized else None,
    )


FORMULATIONS: dict[str, Callable[[Case, Tensor], Tensor]] = {
    "reference": reference,
    "reference, loss alone": partial(reference, class_logits=False),
    "plain torch": plain,
    "ours": ours,
}
FLOOR = "matrix products alone"
SHORT_NAMES = {"reference": "reference", "loss-alone": "reference, loss alone", "plain": "plain torch"}
SHORT_NAMES |= {"ours": "ours", "floor": FLOOR}


def step(case: Case, name: str) -> tuple[Tensor, Tensor]:
    """Loss and gradient by the embeddings."""
    if name == FLOOR:
        flat = case.embeddings.flatten(2)
        logits = case.bank @ flat
        return logits[0, 0, 0], (case.bank.t() @ logits).view_as(case.embeddings)
    embeddings = case.embeddings.detach().requires_grad_()
    loss = FORMULATIONS[name](case, embeddings)
    loss.backward()
    return loss.detach(), embeddings.grad


def chosen(options: argparse.Namespace) -> list[str]:
    """The formulations that are compared, in the order of the table."""
    return [SHORT_NAMES[name] for name in options.only]


def _prepare(options: argparse.Namespace, name: str) -> Callable[[], object]:
    return partial(step, Case(options), name)


def compare(options: argparse.Namespace, memory: dict[str, float]) -> None:
    """Prints one table for one problem size; ratios and errors are against the first formulation."""
    names = chosen(options)
    base = names[0]
    case = Case(options)
    errors: dict[str, tuple[float, float]] = {}
    with busy_core(options.busy):
        loss_0, gradient_0 = step(case, base)
        for name in names[1:]:
            loss, gradient = step(case, name)
            if name != FLOOR:
                difference = (gradient - gradient_0).abs().max() / gradient_0.abs().max()
                errors[name] = abs(loss - loss_0).item(), difference.item()
            del gradient
        del gradient_0
        seconds = interleaved({name: partial(step, case, name) for name in names}, options.repeats)
    rows = []
    for name in names:
        (wall, cpu), (wall_0, cpu_0) = seconds[name], seconds[base]
        rows.append(
            [
                name,
                f"{wall:.3f}",
                f"{cpu:.3f}",
                f"{wall_0 / wall:.1f} ({cpu_0 / cpu:.1f})",
                f"{memory[name]:.0f}",
                f"{memory[base] / memory[name]:.1f}",
                *([f"{error:.0e}" for error in errors[name]] if name in errors else ["", ""]),
            ]
        )
    print(
        f"\n{options.batch} x {options.dim} x {options.size // 4}^2 -> {options.size}^2, K {options.properties}, "
        f"{options.classes} classes, {'normalized, ' if options.normalized else ''}"
        f"{torch.get_num_threads()} thread(s){', the other core busy' if options.busy else ''}"
    )
    header = ["formulation", "wall s", "CPU s", "faster: wall (CPU)", "peak MiB", "less memory"]
    print_table([*header, "loss error", "gradient error"], rows)


def scaling(options: argparse.Namespace) -> None:
    """Prints how the cost of our formulation grows: exponent p of seconds ~ value ** p, fitted by least squares."""
    small = options.quick
    base = {"properties": 128, "classes": 150, "size": 128 if small else 256, "batch": 2}
    ranges = {
        "properties": [32, 64, 128, 256, 512],
        "classes": [11, 59, 150, 171],
        "size": [64, 128, 256] if small else [128, 256, 512, 896],
        "batch": [1, 2, 4],
    }
    rows = []
    for name, values in ranges.items():
        cases = [Case(argparse.Namespace(**{**vars(options), **base, name: value})) for value in values]
        pixels = 2 if name == "size" else 1  # cost per pixel, not per side
        for what in ("ours", FLOOR):
            functions = {str(i): partial(step, case, what) for i, case in enumerate(cases)}
            functions["0"]()
            seconds = [cpu for _, cpu in interleaved(functions, options.repeats).values()]
            x, y = [pixels * math.log(value) for value in values], [math.log(second) for second in seconds]
            mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
            slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)
            label = "pixels (side)" if name == "size" else name
            cells = ", ".join(f"{value}: {second:.3f}" for value, second in zip(values, seconds))
            rows.append([label, what, cells, f"{slope:.2f}"])
    print(f"\nAround {base}, D {options.dim}, {torch.get_num_threads()} thread(s)")
    print_table(["grows with", "what", "CPU s", "exponent"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--properties", type=int, nargs="+", default=[256])
    parser.add_argument("--classes", type=int, nargs="+", default=[150])
    parser.add_argument(
        "--size", type=int, nargs="+", default=[512], help="side of the labels; features a 4th"
    )
    parser.add_argument("--normalized", action="store_true")
    parser.add_argument("--only", nargs="+", choices=SHORT_NAMES, default=list(SHORT_NAMES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--busy", action="store_true", help="another process keeps one core busy")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a small problem, for a look at the table")
    options = parser.parse_args()
    if options.quick:
        options.dim, options.properties, options.size = 192, [64], [192]
    print(environment())
    problems = []
    for threads, *sizes in product(options.threads, options.classes, options.properties, options.size):
        names = dict(zip(("threads", "classes", "properties", "size"), (threads, *sizes)))
        problems.append(argparse.Namespace(**{**vars(options), **names}))
    if options.scaling:
        torch.set_num_threads(options.threads[0])
        scaling(options)
        return
    memories = []
    for problem in problems:  # before any computation in this process: see peak_memory
        torch.set_num_threads(problem.threads)
        memories.append({name: peak_memory(partial(_prepare, problem, name)) for name in chosen(problem)})
    for problem, memory in zip(problems, memories):
        torch.set_num_threads(problem.threads)
        compare(problem, memory)


if __name__ == "__main__":
    main()
