"""One training step with property supervision beside one with category supervision: same backbone and decoder.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --backbone resnet18 --batch 2 --size 512 512 --classes 150 --properties 256

Variants take turns in one process, so that they share the machine's moods; medians and ratios are what counts.
"""

import argparse
import statistics
import time

import torch
from category_model import CategoryModel
from rich.console import Console
from rich.table import Table

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace


def build(supervision: str, options: argparse.Namespace, space: PropertySpace) -> torch.nn.Module:
    """The network for one kind of supervision; random weights, which take the same time."""
    torch.manual_seed(0)
    model_class = CategoryModel if supervision == "category" else ProLabForSemanticSegmentation
    model = model_class.from_backbone(
        options.backbone,
        space,
        pretrained=False,
        hidden_size=options.hidden_size,
        auxiliary_channels=options.hidden_size,
        class_loss_weight=1.0 if supervision == "property + class" else 0.0,
    )
    return model.train().to(memory_format=torch.channels_last)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> float:
    """Seconds of one forward, backward and update."""
    start = time.perf_counter()
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="timm name or folder")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, default=(352, 480), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--properties", type=int, default=32)
    parser.add_argument("--embedding-dim", type=int, default=384)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    names = [f"class {k}" for k in range(options.classes)]
    density = min(0.25, 10 / options.properties)
    space = PropertySpace.random_codes(names, num_properties=options.properties, density=density)
    space = space.replace(property_embeddings=torch.randn(options.properties, options.embedding_dim))
    kinds = ("category", "property", "property + class")
    models = {kind: build(kind, options, space) for kind in kinds}
    optimizers = {kind: torch.optim.AdamW(model.parameters(), lr=1e-4) for kind, model in models.items()}
    batch = {
        "pixel_values": torch.randn(options.batch, 3, *options.size),
        "labels": torch.randint(options.classes, (options.batch, *options.size)),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for repeat in range(options.repeats + 1):
        for kind in kinds:
            taken = step(models[kind], optimizers[kind], batch)
            if repeat:  # the first round warms up
                seconds[kind].append(taken)
    title = (
        f"{options.backbone}, {options.batch} x {options.size[0]} x {options.size[1]}, {options.classes} classes, "
        f"{options.properties} properties, {options.threads} threads, median of {options.repeats}"
    )
    table = Table("supervision", "s per step", "pictures/s", "against category", title=title)
    base = statistics.median(seconds["category"])
    for kind in kinds:
        median = statistics.median(seconds[kind])
        table.add_row(kind, f"{median:.3f}", f"{options.batch / median:.2f}", f"{median / base:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
