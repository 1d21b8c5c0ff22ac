"""Draws the figures of the concepts' pages anew, from the bundled words and a small solved model.

    python docs/figures.py

Nothing is downloaded; the figures are written to docs/images as SVG.
"""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import FancyBboxPatch
from transformers import ResNetConfig

from prolab_hf import ProLabImageProcessorPil, PropertySpace, solve
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_DESCRIPTIONS, DrawnScenes

IMAGES = Path(__file__).with_name("images")
NUM_IMAGES = 12
STEP = 3.1  # from box to box
BLUE, ORANGE, GRAY = "#2d6fb9", "#e08b2c", "#8a8f98"


def save(figure: Any, name: str) -> None:
    """Writes a figure; the same file whenever it is drawn."""
    IMAGES.mkdir(exist_ok=True)
    plt.rcParams.update({"svg.hashsalt": "prolab_hf", "svg.fonttype": "path"})
    figure.savefig(IMAGES / f"{name}.svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})


def draw_property_space() -> None:
    """Classes as rows, the properties that most of them share as columns."""
    space = PropertySpace.from_pretrained("cityscapes").select_classes(
        ["car", "truck", "bus", "train", "motorcycle", "bicycle", "person", "rider"]
    )
    matrix = space.class_property_matrix.numpy()
    chosen = np.argsort(-matrix.sum(0), kind="stable")[:22]
    chosen = chosen[np.lexsort(matrix[::-1, chosen])[::-1]]
    figure, axes = plt.subplots(figsize=(9, 3.2))
    for row, values in enumerate(matrix[:, chosen]):
        for column, value in enumerate(values):
            axes.scatter(column, row, s=70 if value else 8, color=BLUE if value else "#d5d8dd")
    axes.set_yticks(range(len(matrix)), space.class_names)
    axes.set_xticks(
        range(len(chosen)), [space.property_names[k] for k in chosen], rotation=60, ha="left", fontsize=8
    )
    axes.xaxis.tick_top()
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    save(figure, "property-space")


def draw_claim_budget() -> None:
    """By how much a described class lies behind the best known one, on pixels of known classes, and its offset."""
    torch.manual_seed(0)
    maps = ["stage1", "stage2"]
    backbone = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], layer_type="basic", out_features=maps
    )
    known = PropertySpace.from_pretrained("scenes")
    processor = ProLabImageProcessorPil(do_resize=False)
    model = solve(backbone, known, DrawnScenes("train", 40), processor=processor, show_progress=False)
    words = {HELD_OUT_CLASS: SCENE_DESCRIPTIONS[HELD_OUT_CLASS]}
    model.set_property_space(known.add_classes(words), claim_budget=0.01)
    offset = model.config.class_offsets[-1]
    lags = []
    for index in range(NUM_IMAGES):
        image = DrawnScenes("test", NUM_IMAGES)[index].image
        with torch.no_grad():
            logits = model(**processor(image, return_tensors="pt")).logits[0]
        lags.append((logits[:-1].amax(0) - (logits[-1] - offset)).flatten())
    lag = torch.cat(lags).numpy()
    figure, axes = plt.subplots(figsize=(7, 2.6))
    axes.hist(lag, bins=80, color=BLUE, alpha=0.75)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    axes.axvspan(min(lag.min(), 0), offset, color=ORANGE, alpha=0.25, lw=0)
    axes.axvline(offset, color=ORANGE)
    share = (lag < offset).mean()
    axes.annotate(
        f"offset {offset:.2f}: {share:.1%} of these pixels change to it",
        (offset, axes.get_ylim()[1] * 0.9), xytext=(8, 0), textcoords="offset points", color="#a35f12",
    )  # fmt: skip
    axes.set_xlabel(f"how far the score of {HELD_OUT_CLASS!r} lies behind the best known class")
    axes.set_ylabel("pixels")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "claim-budget")


def draw_chain(name: str, boxes: list[tuple[str, str]], arrows: list[str]) -> None:
    """Boxes in a row, what each holds below its name, and what leads from one to the next."""
    figure, axes = plt.subplots(figsize=(10, 1.7))
    for index, (title, content) in enumerate(boxes):
        box = FancyBboxPatch(
            (index * STEP, 0), 1.7, 1, boxstyle="round,pad=0.05", facecolor="#eef3f9", edgecolor=BLUE
        )
        axes.add_patch(box)
        axes.text(index * STEP + 0.85, 0.66, title, ha="center", va="center", fontsize=9.5, weight="bold")
        axes.text(index * STEP + 0.85, 0.28, content, ha="center", va="center", fontsize=7.5, color="#3c4148")
    for index, text in enumerate(arrows):
        start = index * STEP + 1.78
        arrow = {"arrowstyle": "->", "color": GRAY}
        axes.annotate("", (start + STEP - 1.86, 0.5), (start, 0.5), arrowprops=arrow)
        axes.text(
            start + STEP / 2 - 0.93, 0.62, text, ha="center", va="bottom", fontsize=7.5, color="#3c4148"
        )
    axes.set_xlim(-0.1, (len(boxes) - 1) * STEP + 1.8)
    axes.set_ylim(-0.1, 1.15)
    axes.axis("off")
    save(figure, name)


def main() -> None:
    """Draws all of them."""
    draw_property_space()
    draw_chain(
        "closed-form",
        [("features", "of a frozen\nbackbone"), ("responses", "one for each\ntrained class"),
         ("properties", "how much of\neach is seen"), ("classes", "whose row\nfits best")],
        ["ridge\nregression:\nimages", "rows:\nwords", "cosine:\nwords"],
    )  # fmt: skip
    draw_chain(
        "loss",
        [("embeddings", "per pixel, at\nfeature size"), ("property logits", "at feature size"),
         ("scores", "a band of rows\nat full size"), ("loss", "1 - cosine with the\ntrue class's row")],
        ["product with\nproperties", "upsampled,\nsigmoid", "next band:\nsame memory"],
    )  # fmt: skip
    draw_claim_budget()


if __name__ == "__main__":
    main()
