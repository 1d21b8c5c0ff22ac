r"""Thirty photos, five classes, three minutes on a laptop: a tutorial that runs.

    python examples/thirty_photos.py

Without other options it draws thirty images into a folder first, so that you see what such a folder looks like:

    photos/
      classes.txt             one class per line, in the order of the ids
      train/images/00.png     twenty-four photos ...
      train/masks/00.png      ... and their masks: 0 for the first class, 255 for no class
      val/images, val/masks   six photos that say how good the model is

Then it trains for as long as you say. With photos of your own and a pretrained backbone:

    python examples/thirty_photos.py --data my_photos --space my_space --backbone convnext_tiny

a backbone that has seen a million images is better left as it is when there are thirty: it is frozen, runs once over
eight augmented copies of each photo, and what it saw is kept on disk, so that the three minutes are spent on the part
that has something to learn. The same from the command line:

    prolab train my_photos --space my_space --backbone convnext_tiny --freeze-backbone --cache-features \
        --set features.copies=8 --class-weights sqrt --max-minutes 3 --out runs/photos
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace, TrainingRecipe, evaluate, train
from prolab_hf.data.scenes import SCENE_CLASSES, DrawnScenes
from prolab_hf.data.sources import FolderSource
from prolab_hf.training.from_recipe import default_processor
from prolab_hf.training.published_recipes import get_recipe

FIVE = ["sky", "road", "grass", "building", "tree"]
NUM_TRAIN, NUM_VAL = 24, 6


def draw_photos(folder: Path) -> None:
    """Thirty drawn streets as a user has photos: files in folders. What is none of the five classes is void."""
    ids = np.full(256, 255, dtype=np.uint8)
    for new, name in enumerate(FIVE):
        ids[SCENE_CLASSES.index(name)] = new
    for split, number in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        drawn = DrawnScenes("train" if split == "train" else "validation", num_images=5 * number)
        streets = [
            sample for sample in map(drawn.__getitem__, range(len(drawn))) if _labeled(ids, sample) > 0.3
        ]
        for index, sample in enumerate(streets[:number]):
            sample.image.save(folder / split / "images" / f"{index:02}.png")
            Image.fromarray(ids[sample.mask]).save(folder / split / "masks" / f"{index:02}.png")
    (folder / "classes.txt").write_text("\n".join(FIVE) + "\n", encoding="utf-8")


def _labeled(ids: np.ndarray, sample) -> float:
    return float((ids[sample.mask] != 255).mean())


def recipe_for(minutes: float, *, pretrained: bool) -> TrainingRecipe:
    """What is different with thirty photos: a length in minutes, rare classes weighed up, a backbone left alone."""
    recipe = get_recipe("small").replace(
        **{
            "name": "thirty photos",
            "schedule.max_minutes": minutes,  # the run times its first steps and plans as many as fit
            "balance.class_weights": "sqrt",
            "balance.rare_class_crops": 0.25,
            "data.crop_size": 160,
            "data.num_workers": 1,
            "optimizer.learning_rate": 2e-3,
            "optimizer.head_learning_rate_multiplier": 1.0,
            "config.hidden_size": 64,
            "config.auxiliary_channels": 32,
        }
    )
    if not pretrained:
        return recipe.replace(**{"data.crop_size": 96, "data.photometric_distortion": False})
    return recipe.replace(
        **{"model.freeze": "backbone", "features.cache": True, "features.copies": 8, "data.num_workers": 0}
    )


def small_backbone() -> ResNetConfig:
    """A small network with random weights, so that this example needs no download; photos deserve a pretrained one."""
    return ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


def train_on_photos(
    folder: Path, space: PropertySpace, backbone, out: Path, *, minutes: float, pretrained: bool
) -> dict:
    """Trains on the photos of a folder and measures on those that were left out."""
    recipe = recipe_for(minutes, pretrained=pretrained)
    sources = [FolderSource(folder, split, class_names=space.class_names) for split in ("train", "val")]
    model = ProLabForSemanticSegmentation.from_backbone(backbone, space, **recipe.config)
    processor = default_processor(recipe, model)
    begun = time.monotonic()
    result = train(model, *sources, recipe=recipe, output_dir=out, processor=processor, overwrite=True)
    seconds = time.monotonic() - begun
    found = evaluate(model, processor, sources[1])
    return {"seconds": seconds, "steps": result.step, **found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with photos; drawn into OUT/photos without it")
    parser.add_argument("--space", help="property space of their classes: name, folder or Hub id")
    parser.add_argument(
        "--backbone", help="timm name, folder or Hub id of a pretrained network, which is frozen"
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=Path("runs/photos"))
    options = parser.parse_args()
    folder = options.data
    if folder is None:
        folder = options.out / "photos"
        draw_photos(folder)
    space = (
        PropertySpace.from_pretrained(options.space)
        if options.space
        else PropertySpace.from_pretrained("scenes").select_classes(FIVE)
    )
    found = train_on_photos(
        folder,
        space,
        options.backbone or small_backbone(),
        options.out / "run",
        minutes=options.minutes,
        pretrained=options.backbone is not None,
    )
    print(f"{found['steps']} steps in {found['seconds']:.0f} s: mean IoU {found['mean_iou']:.4f}")
    for entry in found["per_class"]:
        print(f"  {entry['name']:12} {entry['iou']:.3f}")
    print(f"saved to {options.out / 'run'}")


if __name__ == "__main__":
    main()
