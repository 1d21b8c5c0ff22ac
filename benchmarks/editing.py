"""How long an edit takes to be solved, measured and seen: 150 classes, 256 properties, an image of 480 x 640.

    python benchmarks/editing.py [--threads 1] [--rounds 5] [--kinds solved trained]

The words are those of the bundled space `ade20k`; the network is a small ResNet with random weights at stride 4,
which is the costly case: nothing but the size of its maps matters here. Every edit is measured on a calibration
sample of 8,192 pixels and on the image; what is shown is the median over rounds in milliseconds by the clock, and in
brackets of the processor, which counts where other work runs beside it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from measuring import print_table
from PIL import Image
from transformers import ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessorPil, PropertySpace, SpaceEditor
from prolab_hf.evaluation.inference import prepare

PIXELS = 8192
HEIGHT, WIDTH = 480, 640
NEW_CLASS = "rickshaw"


def random_model(kind: str) -> ProLabForSemanticSegmentation:
    """A network with random weights whose classes all occur, with a calibration sample of its own scores."""
    torch.manual_seed(0)
    space = PropertySpace.from_pretrained("ade20k")
    backbone = ResNetConfig(
        embedding_size=24,
        hidden_sizes=[24, 48, 64, 96],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    options = {"decoder": "linear", "similarity": "linear_cosine", "unspoken_weight": 2.0}
    if kind == "trained":
        options = {"decoder": "uper", "hidden_size": 256, "auxiliary_channels": 16}
    model = ProLabForSemanticSegmentation.from_backbone(backbone, space, **options).eval()
    model.config.trained_classes = list(space.class_names)
    torch.nn.init.normal_(model.decode_head.classifier.weight, std=0.1)
    channels = space.num_classes if kind == "solved" else space.num_properties
    values = torch.rand(PIXELS, channels)
    labels = torch.arange(PIXELS) % space.num_classes
    if kind == "solved":
        values = values * 0.2
        values[torch.arange(PIXELS), labels] += 0.5
    model.set_calibration_sample(values, labels)
    return model


def drawn_image() -> Image.Image:
    """Patches of color that run into each other."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))


def milliseconds(call: Callable[[], object], rounds: int) -> str:
    """Medians over rounds, after one that is not counted: by the clock, and in brackets of the processor."""
    wall, cpu = [], []
    for _ in range(rounds + 1):
        start, start_cpu = time.perf_counter(), time.process_time()
        call()
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - start_cpu))
    wall, cpu = wall[bool(rounds) :], cpu[bool(rounds) :]
    return f"{statistics.median(wall):.0f} ({statistics.median(cpu):.0f})"


def measured(kind: str, rounds: int) -> list[list[str]]:
    """Rows of the table of one kind of model."""
    model = random_model(kind)
    processor = ProLabImageProcessorPil(do_resize=False)
    image = drawn_image()
    editor = SpaceEditor(model, processor, images={"image": image})
    first = milliseconds(lambda: editor.segment("image"), 0)
    words = editor.space.property_names
    by_ticks = [words[index] for index in (3, 40, 77, 120, 200)]

    def seen(edit: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            edit()
            editor.segment("image")
            editor.undo()

        return run

    def solved(edit: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            edit()
            editor.undo()

        return run

    edits: dict[str, Callable[[], object]] = {
        "add a class": lambda: editor.add_class(NEW_CLASS, properties=by_ticks),
        "tick a property": lambda: editor.tick("sky", by_ticks[0]),
        "merge two classes": lambda: editor.merge_classes("sky or sea", ["sky", "sea"]),
        "merge two properties": lambda: editor.merge_properties(words[0], words[:2]),
        "rename a class": lambda: editor.rename_class("sky", "heaven"),
        "remove a class": lambda: editor.remove_classes(["sky"]),
    }
    rows = []
    for name, edit in edits.items():
        rows.append([kind, name, milliseconds(solved(edit), rounds), milliseconds(seen(edit), rounds)])
    editor.add_class(NEW_CLASS, properties=by_ticks)
    budget = lambda: editor.set_claim_budget(0.02)  # noqa: E731
    rows.append(
        [
            kind,
            "set the budget",
            milliseconds(solved(budget), rounds),
            milliseconds(seen(budget), rounds),
        ]
    )
    with torch.no_grad():
        values = prepare(processor, image)
        network = milliseconds(lambda: model(values), rounds)
    rows.append([kind, "first look at an image", "", first])
    rows.append([kind, "one pass of this network", "", network])
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", default=["solved", "trained"], choices=["solved", "trained"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [row for kind in options.kinds for row in measured(kind, options.rounds)]
    print_table(["model", "edit", "solved and measured, ms", "and the image shown, ms"], rows)


if __name__ == "__main__":
    main()
