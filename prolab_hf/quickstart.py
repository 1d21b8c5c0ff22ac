"""The main job from end to end on a drawn data set: property space, training, evaluation, reload, explanation.

Nothing is downloaded and no step is shortened: this is what a user does with images of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.contributions import Explanation, explain
from prolab_hf.explanation.overlays import class_colors, overlay
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.training.published_recipes import get_recipe
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

SPACE = "scenes"
NUM_TRAIN, NUM_VALIDATION, NUM_TEST = 480, 32, 60
FIGURE = "quickstart.png"
SHOWN_SHARE = 0.06
"""Part of a shown image that the held-out class covers at least."""


@dataclass(frozen=True)
class QuickstartResult:
    """What the quickstart made and measured.

    Attributes:
        output_dir: Folder of the trained model, loadable with `from_pretrained`.
        figure: The image that it painted.
        test: Figures on test images of the trained classes (see `evaluate`).
        extended: The same on images that also contain the class added by description.
        held_out: Name of that class.
        explanation: Why one of its pixels was given to it.
    """

    output_dir: Path
    figure: Path
    test: dict[str, Any]
    extended: dict[str, Any]
    held_out: str
    explanation: Explanation


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
    """Draws scenes, trains ProLab on them, evaluates, reloads it and adds a class by describing it.

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
    model, processor = new_model(space, recipe)
    say(f"2. Training on {num_train} drawn images, from random weights.")
    train(
        model,
        DrawnScenes("train", num_train),
        DrawnScenes("validation", NUM_VALIDATION),
        recipe=recipe,
        output_dir=output_dir,
        processor=processor,
        overwrite=overwrite,
        show_progress=show_progress,
    )
    say(f"3. Saved to {output_dir}; reloading it with AutoModelForSemanticSegmentation.")
    loaded = AutoModelForSemanticSegmentation.from_pretrained(output_dir).eval()
    loaded_processor = AutoImageProcessor.from_pretrained(output_dir)
    test = evaluate(loaded, loaded_processor, DrawnScenes("test", num_test))
    say(f"4. Mean IoU on {num_test} new images: {test['mean_iou']:.3f}.")
    sample = DrawnScenes("test", num_test)[0]
    found = pipeline("image-segmentation", model=loaded, image_processor=loaded_processor)(sample.image)
    say(f'5. pipeline("image-segmentation") finds: {", ".join(item["label"] for item in found)}.')
    before = [segment(loaded, loaded_processor, scene.image).labels for scene in _shown_scenes()]
    extended = _add_held_out(loaded, say)
    figures = evaluate(loaded, loaded_processor, DrawnScenes("test", num_test, include_held_out=True))
    iou = class_iou(figures, HELD_OUT_CLASS)
    say(f"   IoU of {HELD_OUT_CLASS!r}, never trained on: {iou:.3f}; all classes: {figures['mean_iou']:.3f}.")
    explanation = _explain_held_out(loaded, loaded_processor)
    path = output_dir / FIGURE
    _draw(loaded, loaded_processor, before, extended, explanation).save(path)
    say(f"7. The image: {path}")
    return QuickstartResult(output_dir, path, test, figures, HELD_OUT_CLASS, explanation)


def new_model(
    space: PropertySpace, recipe: TrainingRecipe
) -> tuple[ProLabForSemanticSegmentation, ProLabImageProcessorPil]:
    """A small network that two cores can train from scratch: a ResNet of 0.3 M parameters under UPerNet."""
    torch.manual_seed(recipe.seed)
    backbone = ResNetConfig(
        embedding_size=24, hidden_sizes=[24, 48, 64, 96], depths=[1, 1, 1, 1], layer_type="basic"
    )
    model = ProLabForSemanticSegmentation.from_backbone(
        backbone,
        space,
        hidden_size=recipe["config.hidden_size"],
        auxiliary_channels=recipe["config.hidden_size"],
        class_loss_weight=recipe["config.class_loss_weight"],
    )
    processor = ProLabImageProcessorPil.from_model_config(model.config, do_resize=False)
    return model, processor


def class_iou(results: Mapping[str, Any], class_name: str) -> float:
    """The IoU of one class in what `evaluate` returned."""
    return next(entry["iou"] for entry in results["per_class"] if entry["name"] == class_name)


def _add_held_out(model: ProLabForSemanticSegmentation, say: Callable[[str], None]) -> list[str]:
    """Adds the class that no training image shows, by its description alone; nothing is trained."""
    descriptions = SCENE_DESCRIPTIONS[HELD_OUT_CLASS]
    extended = model.property_space.add_classes({HELD_OUT_CLASS: descriptions})
    model.set_property_space(extended)
    say(f"6. Adding the class {HELD_OUT_CLASS!r} by describing it: {'; '.join(descriptions)}.")
    return extended.class_names


def _shown_scenes(number: int = 3) -> list[Any]:
    """The first test images in which the held-out class covers a good part."""
    scenes = DrawnScenes("test", NUM_TEST, include_held_out=True)
    new = len(scenes.class_names or ()) - 1
    drawn = (scenes[index] for index in range(len(scenes)))
    return list(islice((scene for scene in drawn if np.mean(scene.mask == new) > SHOWN_SHARE), number))


def _explain_held_out(model: ProLabForSemanticSegmentation, processor: Any) -> Explanation:
    scene = _shown_scenes(1)[0]
    region = scene.mask == len(model.config.id2label or {}) - 1
    return explain(model, processor, scene.image, region=region, class_name=HELD_OUT_CLASS)


def _draw(
    model: ProLabForSemanticSegmentation,
    processor: Any,
    before: list[torch.Tensor],
    class_names: list[str],
    explanation: Explanation,
) -> Image.Image:
    """Rows of image, truth, answer before and after the new class; below them the reasons."""
    scenes = _shown_scenes()
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
            overlay(scene.image, ids, class_names, opacity=0.85, legend=False)
            for ids in (truth, earlier, now)
        ]
        for column, panel in enumerate([scene.image, *maps]):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(panel, interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(titles[column], fontsize=12, color="#22262e", pad=8)
    axes = figure.add_axes((0.015, 0.02, 0.46, below - 0.06))
    axes.set_axis_off()
    for index, (name, color) in enumerate(zip(class_names, class_colors(len(class_names)))):
        row, column = divmod(index, 4)
        x, y = column * 0.25, 0.82 - row * 0.26
        axes.add_patch(Rectangle((x, y), 0.035, 0.13, color=np.asarray(color) / 255))
        axes.text(x + 0.05, y + 0.06, name, fontsize=12, va="center", color="#22262e", parse_math=False)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _draw_reasons(figure.add_axes((0.68, 0.045, 0.3, below - 0.1)), explanation)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _draw_reasons(axes: Any, explanation: Explanation) -> None:
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
