"""Whole networks, backbone and all, at the short budgets that a CPU allows: does what holds for heads hold for them?"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from camvid import MEAN_STD, efficientnet_lite0, read_split
from category_model import CategoryModel
from transformers import ResNetConfig

from benchmarks.study.bundled_models import Some, street_space
from benchmarks.study.pixels import SCENES
from benchmarks.study.records import Table, Value
from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessor, PropertySpace, evaluate
from prolab_hf.data.image_files import SegmentationSource
from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.quickstart import KeptScenes
from prolab_hf.solving.solve import solve_last_layer
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

STEPS = {"scenes": (60, 180), "camvid": (60, 180)}
NUM_TEST = 60
CROP = {"scenes": (96, 96), "camvid": (160, 224)}
RATE = {"scenes": 2e-3, "camvid": 6e-4}
OBJECTIVES: dict[str, dict[str, float | str]] = {
    "category": {},
    "property": {"property_loss": "cosine", "class_loss_weight": 0.0},
    "property + class": {"property_loss": "cosine", "class_loss_weight": 1.0},
    "bce + class": {"property_loss": "bce", "class_loss_weight": 1.0},
    "solved, then bce + class": {"property_loss": "bce", "class_loss_weight": 1.0},
}


def network(data: str, space: PropertySpace, arm: str, seed: int) -> ProLabForSemanticSegmentation:
    """The same backbone and decoder for all arms."""
    torch.manual_seed(seed)
    kind = CategoryModel if arm == "category" else ProLabForSemanticSegmentation
    if data == "camvid":
        backbone: object = efficientnet_lite0()
    else:
        backbone = ResNetConfig(
            depths=[1, 1, 1, 1], hidden_sizes=[32, 48, 64, 96], embedding_size=32, layer_type="basic",
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )  # fmt: skip
    model: ProLabForSemanticSegmentation = kind.from_backbone(
        backbone, space, decoder="segformer", hidden_size=64, use_auxiliary_head=False, **OBJECTIVES[arm]
    )
    return model.to(memory_format=torch.channels_last)


def images(
    data: str, folder: Path | None, space: PropertySpace
) -> tuple[SegmentationSource, SegmentationSource]:
    """Images to train and to test on."""
    if data == "scenes":
        scenes = [KeptScenes(DrawnScenes(split, SCENES[split])) for split in ("train", "test")]
        return scenes[0], scenes[1]  # type: ignore[return-value]
    if folder is None:
        raise ValueError("--folder is missing; give the folder of CamVid.")
    return read_split(folder, "train", space.class_names), read_split(folder, "test", space.class_names)


def fine_tuned(
    table: Table, data: str, folder: Path | None, seeds: Sequence[int], arms: Sequence[str] | None = None
) -> None:
    """Mean IoU on some test images, as trained and after the last layer was solved for properties.

    Args:
        table: Where records go.
        data: `scenes` or `camvid`.
        folder: Of CamVid.
        seeds: Of weights, order and augmentation.
        arms: Some of `OBJECTIVES`.
    """
    space = street_space() if data == "camvid" else PropertySpace.from_pretrained("scenes")
    train_images, test_images = images(data, folder, space)
    test = Some(test_images, NUM_TEST)
    options = {"do_resize": False} | (
        {"image_mean": MEAN_STD, "image_std": MEAN_STD} if data == "camvid" else {}
    )
    processor = ProLabImageProcessor(**options)
    for steps in STEPS[data]:
        for seed in seeds:
            for arm in arms or OBJECTIVES:
                entry = table.begin({"data": data, "arm": arm, "seed": seed, "steps": steps})
                if entry is not None:
                    model = network(data, space, arm, seed)
                    init = "solve" if arm.startswith("solved") else None
                    entry.finish(_trained(model, data, train_images, test, processor, steps, seed, init))


def _trained(
    model: ProLabForSemanticSegmentation, data: str, train_images: SegmentationSource, test: Some,
    processor: ProLabImageProcessor, steps: int, seed: int, init: str | None,
) -> Mapping[str, Value]:  # fmt: skip
    recipe = TrainingRecipe(
        name="study",
        seed=seed,
        schedule={"max_iterations": steps, "batch_size": 4 if data == "camvid" else 8},
        optimizer={"learning_rate": RATE[data], "weight_decay": 0.01, "max_gradient_norm": 5.0},
        data={"crop_size": CROP[data], "scale_range": (0.75, 1.5), "num_workers": 0},
        device={"mixed_precision": "no"},
        closed_form={"init": init},
        checkpoints={"final_weights": "last"},
    )
    with tempfile.TemporaryDirectory() as folder:
        train(
            model, train_images, None, recipe=recipe, output_dir=Path(folder) / "run", processor=processor,
            show_progress=False,
        )  # fmt: skip
    figures: dict[str, Value] = {"miou": evaluate(model, processor, test)["mean_iou"]}
    if not isinstance(model, CategoryModel):
        some = Some(train_images, 120)
        solved = solve_last_layer(model, some, processor, statistics=False, claim_budget=None)
        figures["miou, then solved"] = evaluate(solved, processor, test)["mean_iou"]
    return figures
