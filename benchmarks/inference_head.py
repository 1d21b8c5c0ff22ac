"""From decoder features to a label map: published head, category head and ours.

    python benchmarks/inference_head.py                  # ADE20K: 512 channels, 128 x 128 -> 512 x 512, 150 classes
    python benchmarks/inference_head.py --threads 1 2
    python benchmarks/inference_head.py --features 128 171 --target 512 683
    python benchmarks/inference_head.py --quick

Rows whose head is the same must give the same label map. Seconds are medians of interleaved repeats; peak memory is
the high-water mark of a process of its own above the inputs.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from measuring import environment, interleaved, peak_memory, print_table
from torch import Tensor
from transformers import ResNetConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation
from prolab_hf.model.decoders_prolab import ProLabHead
from prolab_hf.model.resize_prolab import resize_argmax


class LastLayers(ProLabHead):
    """The head behind a decoder whose features are given."""

    def decode(self, features: tuple[Tensor, ...]) -> Tensor:
        return features[0]


class Case:
    """Decoder features of a scene of some regions, a model with random weights, and a category classifier."""

    def __init__(self, options: argparse.Namespace) -> None:
        generator = torch.Generator().manual_seed(0)
        torch.manual_seed(0)
        rows = torch.rand(options.classes, options.properties, generator=generator) < 0.1
        rows[:, 0] |= ~rows.any(dim=1)
        config = ProLabConfig(
            backbone_config=ResNetConfig(
                embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, out_indices=[1, 2, 3, 4]
            ),
            hidden_size=options.channels,
            embedding_dim=options.dim,
            num_properties=options.properties,
            property_names=[f"property {i}" for i in range(options.properties)],
            class_properties=[row.nonzero()[:, 0].tolist() for row in rows],
            id2label={i: f"class {i}" for i in range(options.classes)},
            label2id={f"class {i}": i for i in range(options.classes)},
            temperature=0.04,
            use_auxiliary_head=False,
        )
        self.model = ProLabForSemanticSegmentation(config).eval()
        self.head = LastLayers(config, options.channels).eval()
        self.category = torch.nn.Conv2d(options.channels, options.classes, 1)
        scene = torch.randn(1, options.channels, 3, 6, generator=generator)
        features = F.interpolate(scene, size=options.features, mode="nearest")
        features = features + 0.1 * torch.randn(features.shape, generator=generator)
        self.features, self.target = F.avg_pool2d(features, 5, stride=1, padding=2), tuple(options.target)


def reference(case: Case) -> Tensor:
    """The published path: D channels, similarities at feature resolution, two resizes and a softmax between."""
    embeddings = F.conv2d(case.features, case.head.classifier.weight, case.head.classifier.bias)
    logits = torch.einsum("bdhw,kd->bkhw", embeddings, case.model.property_embeddings)
    scores = F.normalize(torch.sigmoid(logits / case.model.config.temperature), dim=1)
    rows = F.normalize(case.model.class_property_matrix, dim=1)
    similarities = torch.einsum("bkhw,nk->bnhw", scores, rows)
    wide = F.interpolate(similarities, size=case.target, mode="bilinear", align_corners=False)
    probabilities = torch.softmax(wide, dim=1)
    return F.interpolate(probabilities, size=case.target, mode="bilinear", align_corners=False).argmax(dim=1)


def our_logits(case: Case) -> Tensor:
    logits, _ = case.head(case.model.property_embeddings, case.features)
    return case.model.class_logits(logits)


def ours_full_map(case: Case) -> Tensor:
    wide = F.interpolate(our_logits(case), size=case.target, mode="bilinear", align_corners=False)
    return wide.argmax(dim=1)


def ours(case: Case) -> Tensor:
    return resize_argmax(our_logits(case), case.target)


def category(case: Case) -> Tensor:
    logits = case.category(case.features)
    wide = F.interpolate(logits, size=case.target, mode="bilinear", align_corners=False)
    return wide.argmax(dim=1)


def category_corner_rule(case: Case) -> Tensor:
    return resize_argmax(case.category(case.features), case.target)


FORMULATIONS: dict[str, Callable[[Case], Tensor]] = {
    "reference": reference,
    "ours, full-resolution map": ours_full_map,
    "ours": ours,
    "category head": category,
    "category head, corner rule": category_corner_rule,
    "our logits alone": our_logits,
}


@torch.inference_mode()
def run(case: Case, name: str) -> Tensor:
    return FORMULATIONS[name](case)


def _prepare(options: argparse.Namespace, name: str) -> Callable[[], object]:
    return partial(run, Case(options), name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=512)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--properties", type=int, default=256)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--features", type=int, nargs=2, default=[128, 128])
    parser.add_argument("--target", type=int, nargs=2, default=[512, 512])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small problem, for a look at the table")
    options = parser.parse_args()
    if options.quick:
        options.channels, options.dim, options.features, options.target = 64, 96, [32, 32], [128, 128]
    print(environment())
    torch.set_num_threads(1)
    memory = {name: peak_memory(partial(_prepare, options, name)) for name in FORMULATIONS}
    case = Case(options)
    for threads in options.threads:
        torch.set_num_threads(threads)
        maps = {name: run(case, name) for name in FORMULATIONS}
        functions = {name: partial(run, case, name) for name in FORMULATIONS}
        seconds = interleaved(functions, options.repeats)
        rows = []
        for name in FORMULATIONS:
            wall, cpu = (1000 * value for value in seconds[name])
            same = "category head" if name.startswith("category") else "reference"
            labels = maps[name].dtype == torch.int64
            different = f"{(maps[name] != maps[same]).sum().item()}" if labels else ""
            ratio = seconds["reference"][1] / seconds[name][1]
            rows.append([name, f"{wall:.0f}", f"{cpu:.0f}", f"{ratio:.1f}", f"{memory[name]:.0f}", different])
        print(
            f"\n{options.channels} x {options.features} -> {options.target}, D {options.dim}, "
            f"K {options.properties}, {options.classes} classes, {threads} thread(s)"
        )
        header = ["formulation", "wall ms", "CPU ms", "faster (CPU)", "peak MiB (1 thread)", "other labels"]
        print_table(header, rows)


if __name__ == "__main__":
    main()
