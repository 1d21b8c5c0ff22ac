"""The main job from end to end on a drawn data set: property space, training, solving, evaluation, reload, explanation.

Nothing is downloaded and no step is shortened: this is what a user does with images of their own.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    ResNetConfig,
    pipeline,
)

from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_DESCRIPTIONS, DrawnScenes
from prolab_hf.data.sources import Sample
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.contributions import Explanation, explain
from prolab_hf.explanation.overlays import class_colors, overlay
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.claim_budget import calibrate
from prolab_hf.solving.solve import SolveOptions, solve_last_layer
from prolab_hf.training.published_recipes import get_recipe
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

SPACE = "scenes"
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 480, 32, 60
SOLVE_OPTIONS: SolveOptions = {"unspoken_weight": 0.0, "statistics": False}
FIGURE = "quickstart.png"
SHOWN_SHARE = 0.06
"""Part of a shown image that the held-out class covers at least."""
CLAIM_BUDGET = 0.01
"""Share of the pixels of known classes that the held-out class may take: the usual one."""
NUM_CONTROLS = 4
NUM_SOLVE = 240
"""Training images that the last layer is solved on: enough for its 489 features."""


class KeptScenes:
    """Drawn images that are drawn once: to draw one takes half as long as to train on it.

    Args:
        scenes: What to draw.
        share: Keep only images in which the last class covers more than this share.
    """

    def __init__(self, scenes: DrawnScenes, *, share: float | None = None) -> None:
        new = scenes.num_classes - 1
        drawn = [scenes[index] for index in range(len(scenes))]
        self.samples: list[Sample] = [
            sample for sample in drawn if share is None or np.mean(sample.mask == new) > share
        ]
        self.class_names = scenes.class_names
        self.num_classes = scenes.num_classes
        self.ignore_index = scenes.ignore_index

    def first(self, number: int) -> "KeptScenes":
        """The same with the first images only."""
        part = copy.copy(self)
        part.samples = self.samples[:number]
        return part

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@dataclass(frozen=True)
class QuickstartResult:
    """What the quickstart made and measured.

    Attributes:
        output_dir: Folder of the trained model, loadable with `from_pretrained`.
        figure: The image that it painted.
        test: Figures on test images of the trained classes (see `evaluate`).
        extended: The same on the test images that hold the class added by description.
        held_out: Name of that class.
        others: Mean IoU of the other classes on those images.
        controls: IoU of the held-out class with random rows in the place of its description, same claim budget.
        shared: How many of the properties of its description each of these rows holds by chance.
        explanation: Why one of its pixels was given to it.
    """

    output_dir: Path
    figure: Path
    test: dict[str, Any]
    extended: dict[str, Any]
    held_out: str
    others: float
    explanation: Explanation
    controls: list[float] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)


def run_quickstart(
    output_dir: str | Path,
    *,
    recipe: TrainingRecipe | None = None,
    num_train: int = NUM_TRAIN,
    num_test: int = NUM_TEST,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda text: None,
    show_progress: bool = True,
) -> QuickstartResult:
    """Draws scenes, trains and solves ProLab on them, evaluates, reloads it and adds a class by describing it.

    Args:
        output_dir: Folder for model, logs and image.
        recipe: Other numbers than those of the recipe `"quickstart"`.
        num_train: Drawn training images.
        num_test: Drawn test images.
        overwrite: Discard what is in `output_dir`.
        say: Receives one line per step.
        show_progress: Show a progress bar while training.

    Raises:
        FileExistsError: `output_dir` is not empty and `overwrite` is false.
    """
    recipe = recipe or get_recipe("quickstart")
    output_dir = Path(output_dir)
    space = PropertySpace.from_pretrained(SPACE)
    say(
        f"1. Property space: {space.num_classes} classes described by {space.num_properties} shared properties."
    )
    _train_and_solve(space, recipe, output_dir, num_train, say, overwrite, show_progress)
    say(f"4. Saved to {output_dir}; reloading it with AutoModelForSemanticSegmentation.")
    loaded = AutoModelForSemanticSegmentation.from_pretrained(output_dir).eval()
    processor = AutoImageProcessor.from_pretrained(output_dir)
    scenes = KeptScenes(DrawnScenes("test", num_test))
    test = evaluate(loaded, processor, scenes)
    say(f"5. Mean IoU on {num_test} new images: {test['mean_iou']:.3f}.")
    found = pipeline("image-segmentation", model=loaded, image_processor=processor)(_rgb(scenes[0]))
    say(f'6. pipeline("image-segmentation") finds: {", ".join(item["label"] for item in found)}.')
    shown = KeptScenes(DrawnScenes("test", NUM_TEST, include_held_out=True), share=SHOWN_SHARE).samples[:3]
    before = [segment(loaded, processor, scene.image).labels for scene in shown]
    add_held_out(loaded, say)
    with_new = KeptScenes(DrawnScenes("test", num_test, include_held_out=True), share=0.0)
    figures = evaluate(loaded, processor, with_new)
    others = _others_iou(figures)
    controls, shared = control_ious(loaded, processor, with_new)
    say(
        f"   In the {len(with_new)} test images that hold a {HELD_OUT_CLASS}: IoU of {HELD_OUT_CLASS!r}, never trained "
        f"on, {class_iou(figures, HELD_OUT_CLASS):.3f}; mean of the other classes {others:.3f}."
    )
    say(
        f"   Control: {len(controls)} random rows in the place of its description, same budget: "
        f"{', '.join(f'{value:.3f} ({number})' for value, number in zip(controls, shared))}; in brackets how many "
        "of its properties the row holds by chance."
    )
    region = shown[0].mask == loaded.config.num_labels - 1
    explanation = explain(loaded, processor, shown[0].image, region=region, class_name=HELD_OUT_CLASS)
    path = output_dir / FIGURE
    caption = (
        f"IoU of the {HELD_OUT_CLASS} {class_iou(figures, HELD_OUT_CLASS):.2f}, of the other classes {others:.2f}; "
        f"random words instead: {min(controls):.2f} to {max(controls):.2f}"
    )
    _draw(loaded, processor, shown, before, explanation, caption).save(path)
    say(f"8. The image: {path}")
    return QuickstartResult(
        output_dir, path, test, figures, HELD_OUT_CLASS, others, explanation, controls, shared
    )


def _rgb(scene: Sample) -> Image.Image:
    return cast(Image.Image, scene.image)  # scenes are drawn in RGB


def _train_and_solve(
    space: PropertySpace,
    recipe: TrainingRecipe,
    output_dir: Path,
    num_train: int,
    say: Callable[[str], None],
    overwrite: bool,
    show_progress: bool,
) -> None:
    """Trains from random weights, solves the last layer on what was learned, calibrates, and saves."""
    model, processor = new_model(space, recipe)
    say(f"2. Training on {num_train} drawn images, from random weights.")
    images, validation = (
        KeptScenes(DrawnScenes("train", num_train)),
        KeptScenes(DrawnScenes("validation", NUM_VALIDATION)),
    )
    train(
        model,
        images,
        validation,
        recipe=recipe,
        output_dir=output_dir,
        processor=processor,
        overwrite=overwrite,
        show_progress=show_progress,
    )
    trained = ProLabForSemanticSegmentation.from_pretrained(output_dir).eval()
    solved = solve_last_layer(
        trained,
        images.first(NUM_SOLVE),
        processor,
        head_inputs="decoder_and_backbone",
        context=True,
        **SOLVE_OPTIONS,
    )
    calibrate(solved, validation, processor)
    before, after = (evaluate(each, processor, validation)["mean_iou"] for each in (trained, solved))
    say(
        "3. Its last layer solved in closed form on the features that it learned: mean IoU on validation images "
        f"{before:.3f} as trained, {after:.3f} solved."
    )
    solved.save_pretrained(output_dir)


def new_model(
    space: PropertySpace, recipe: TrainingRecipe
) -> tuple[ProLabForSemanticSegmentation, ProLabImageProcessorPil]:
    """A small network that two cores can train from scratch: a ResNet of 0.3 M parameters under SegFormer's decoder."""
    torch.manual_seed(recipe.seed)
    backbone = ResNetConfig(
        embedding_size=24, hidden_sizes=[24, 48, 64, 96], depths=[1, 1, 1, 1], layer_type="basic"
    )
    model = ProLabForSemanticSegmentation.from_backbone(
        backbone,
        space,
        decoder="segformer",
        hidden_size=recipe["config.hidden_size"],
        auxiliary_channels=recipe["config.hidden_size"],
        class_loss_weight=recipe["config.class_loss_weight"],
    )
    scale = recipe["data.base_scale"]
    resized: dict[str, Any] = {"size": {"shortest_edge": min(scale)}} if scale else {"do_resize": False}
    processor = ProLabImageProcessorPil.from_model_config(model.config, **resized)
    return model, processor


def class_iou(results: Mapping[str, Any], class_name: str) -> float:
    """The IoU of one class in what `evaluate` returned."""
    return next(entry["iou"] for entry in results["per_class"] if entry["name"] == class_name)


def _others_iou(results: Mapping[str, Any]) -> float:
    """Mean IoU of the classes that were trained, as far as they occur in the images."""
    known = [entry for entry in results["per_class"] if entry["name"] != HELD_OUT_CLASS]
    return float(np.mean([entry["iou"] for entry in known if entry["share_of_pixels"] > 0]))


def add_held_out(
    model: ProLabForSemanticSegmentation, say: Callable[[str], None] = lambda text: None
) -> None:
    """Adds the class that no training image shows, by its description alone; nothing is trained."""
    descriptions = SCENE_DESCRIPTIONS[HELD_OUT_CLASS]
    extended = model.property_space.add_classes({HELD_OUT_CLASS: descriptions})
    model.set_property_space(extended, claim_budget=CLAIM_BUDGET)
    say(f"7. Adding the class {HELD_OUT_CLASS!r} by describing it: {'; '.join(descriptions)}.")
    say(
        f"   It may take {CLAIM_BUDGET:.1%} of the pixels of known classes; its score gets the offset for that."
    )


def control_ious(
    model: ProLabForSemanticSegmentation, processor: ImageProcessor, scenes: KeptScenes
) -> tuple[list[float], list[int]]:
    """IoU of the held-out class with as many random properties as it has; the model ends as it was.

    Returns:
        The IoUs, and how many of its own properties each row holds.
    """
    space = model.property_space
    own = space.class_property_matrix[-1].nonzero().flatten().tolist()
    rng = np.random.default_rng(0)
    rows = [rng.choice(space.num_properties, len(own), replace=False).tolist() for _ in range(NUM_CONTROLS)]
    found = []
    for row in rows:
        model.set_property_space(space.set_row(HELD_OUT_CLASS, row), claim_budget=CLAIM_BUDGET)
        found.append(class_iou(evaluate(model, processor, scenes), HELD_OUT_CLASS))
    model.set_property_space(space, claim_budget=CLAIM_BUDGET)
    return found, [len(set(row) & set(own)) for row in rows]


def _draw(
    model: ProLabForSemanticSegmentation,
    processor: ImageProcessor,
    scenes: Sequence[Sample],
    before: list[torch.Tensor],
    explanation: Explanation,
    caption: str,
) -> Image.Image:
    """Rows of image, truth, answer before and after the new class; below them the figures and the reasons."""
    class_names = model.property_space.class_names
    titles = [
        "image",
        "what was drawn",
        "answer of the trained model",
        f"after describing “{HELD_OUT_CLASS}”",
    ]
    figure = Figure(figsize=(13, 2.68 * len(scenes) + 2.5), dpi=110, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    below = 2.1 / figure.get_size_inches()[1]  # share of the height that legend and reasons take
    grid = figure.add_gridspec(
        len(scenes), 4, hspace=0.04, wspace=0.03, left=0.015, right=0.985, top=0.965, bottom=below + 0.02
    )
    for row, (scene, earlier) in enumerate(zip(scenes, before)):
        now = segment(model, processor, scene.image).labels
        truth = torch.from_numpy(scene.mask.astype(np.int64))
        maps = [
            overlay(_rgb(scene), ids, class_names, opacity=0.85, legend=False)
            for ids in (truth, earlier, now)
        ]
        for column, panel in enumerate([scene.image, *maps]):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(panel, interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(titles[column], fontsize=12, color="#22262e", pad=8)
    axes = figure.add_axes((0.015, 0.035, 0.46, below - 0.075))
    axes.set_axis_off()
    for index, (name, color) in enumerate(zip(class_names, class_colors(len(class_names)))):
        row, column = divmod(index, 4)
        x, y = column * 0.25, 0.82 - row * 0.26
        axes.add_patch(Rectangle((x, y), 0.035, 0.13, color=np.asarray(color) / 255))
        axes.text(x + 0.05, y + 0.06, name, fontsize=12, va="center", color="#22262e", parse_math=False)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    figure.text(0.015, 0.006, caption, fontsize=11, color="#22262e")
    _draw_reasons(figure.add_axes((0.68, 0.045, 0.3, below - 0.1)), explanation)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _draw_reasons(axes: Axes, explanation: Explanation) -> None:
    """Bars of the strongest properties of the new class in the last image."""
    shares = explanation.contributions[:6][::-1]
    axes.barh([name for name, _ in shares], [share for _, share in shares], color="#2f6fb7", height=0.62)
    axes.set_title(
        f"what speaks for “{explanation.class_name}”: its score there is {explanation.score:.2f}",
        fontsize=11,
        color="#22262e",
        loc="left",
    )
    axes.tick_params(axis="y", length=0, labelsize=10)
    axes.tick_params(axis="x", labelsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
