"""One training step with property supervision beside one with category supervision: same backbone and decoder.

    python benchmarks/training_step.py                    # CamVid's shape: 4 x 352 x 480, 11 classes, 32 properties
    python benchmarks/training_step.py --backbone efficientnet-lite0 dinov2-small vit-adapter-b --batch 2 \
        --size 512 512 --classes 150 --properties 256 --embedding-dim 768 --hidden-size 256

The category head is written twice: as it usually is (upsample all class channels, then `cross_entropy`), and with
the streamed loss of this library, which never stores the upsampled channels. Variants take turns in one process, so
that they share the machine's moods; medians and ratios are what counts.
"""

import argparse
import statistics
import time

import torch
from category_model import CategoryModel, PlainCategoryModel
from measuring import environment
from rich.console import Console
from rich.table import Table
from transformers import Dinov2Config, ViTConfig

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace, ViTAdapterConfig

KINDS = {
    "category, plain torch": PlainCategoryModel,
    "category, streamed": CategoryModel,
    "property": ProLabForSemanticSegmentation,
    "property + class": ProLabForSemanticSegmentation,
}


def backbone_named(name: str) -> object:
    """One of three well-known backbones by a short name, or whatever `from_backbone` takes; random weights."""
    if name == "dinov2-small":
        return Dinov2Config(
            hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14, out_indices=[3, 6, 9, 12]
        )
    if name == "vit-adapter-b":
        return ViTAdapterConfig(vit_config=ViTConfig(layer_norm_eps=1e-6))
    return "tf_efficientnet_lite0" if name == "efficientnet-lite0" else name


def build(
    supervision: str, backbone: str, options: argparse.Namespace, space: PropertySpace
) -> torch.nn.Module:
    """The network for one kind of supervision; random weights, which take the same time."""
    torch.manual_seed(0)
    model = KINDS[supervision].from_backbone(
        backbone_named(backbone),
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
    parser.add_argument(
        "--backbone",
        nargs="+",
        default=["efficientnet-lite0"],
        help="efficientnet-lite0, dinov2-small, vit-adapter-b, a timm name or a folder",
    )
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

    print(environment())
    for backbone in options.backbone:
        compare(backbone, options)


def compare(backbone: str, options: argparse.Namespace) -> None:
    """Prints the table of one backbone."""
    names = [f"class {k}" for k in range(options.classes)]
    density = min(0.25, 10 / options.properties)
    space = PropertySpace.random_codes(names, num_properties=options.properties, density=density)
    space = space.replace(property_embeddings=torch.randn(options.properties, options.embedding_dim))
    models = {kind: build(kind, backbone, options, space) for kind in KINDS}
    optimizers = {kind: torch.optim.AdamW(model.parameters(), lr=1e-4) for kind, model in models.items()}
    regions = torch.randint(options.classes, (options.batch, 1, 16, 16)).float()
    batch = {
        "pixel_values": torch.randn(options.batch, 3, *options.size),
        "labels": torch.nn.functional.interpolate(regions, size=tuple(options.size)).long()[:, 0],
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repeat in range(options.repeats + 1):
        for kind in KINDS:
            taken = step(models[kind], optimizers[kind], batch)
            if repeat:  # the first round warms up
                seconds[kind].append(taken)
    title = (
        f"{backbone}, {options.batch} x {options.size[0]} x {options.size[1]}, {options.classes} classes, "
        f"{options.properties} properties, {options.threads} thread(s), median of {options.repeats}"
    )
    table = Table("supervision", "s per step", "images/s", "time / plain category", title=title)
    base = statistics.median(seconds["category, plain torch"])
    for kind in KINDS:
        median = statistics.median(seconds[kind])
        table.add_row(kind, f"{median:.3f}", f"{options.batch / median:.2f}", f"{median / base:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
