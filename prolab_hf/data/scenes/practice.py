"""A folder to practice in: drawn images, masks and words under the names that the documentation uses."""

from pathlib import Path

import numpy as np
from PIL import Image

from prolab_hf.data.image_files import Sample
from prolab_hf.data.scenes.drawn_scenes import DrawnScenes
from prolab_hf.data.scenes.words import SCENE_CLASSES, SCENE_DESCRIPTIONS
from prolab_hf.files import write_json, write_text

LABELED = {"train": ("train", 24), "val": ("validation", 6)}
NUM_PHOTOS = 4
STREET = 1  # the first of the photos that shows a road


def write_practice_folder(folder: str | Path) -> None:
    """Draws what the documentation's commands read: `my_data`, `photos`, `street.jpg`, `words.json`, `classes.txt`.

    Args:
        folder: Where to; made if absent.

    Raises:
        FileExistsError: One of them is there already; nothing is written.
    """
    folder = Path(folder)
    for name in ("my_data", "photos", "street.jpg", "words.json", "classes.txt"):
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name} exists; choose an empty folder to practice in.")
    for split, (drawn, number) in LABELED.items():
        scenes = DrawnScenes(drawn, number)
        for kind in ("images", "masks"):
            (folder / "my_data" / split / kind).mkdir(parents=True)
        for index in range(number):
            sample = scenes[index]
            name = f"{index:03d}.png"
            _image(sample).save(folder / "my_data" / split / "images" / name)
            Image.fromarray(np.asarray(sample.mask, np.uint8)).save(
                folder / "my_data" / split / "masks" / name
            )
    scenes = DrawnScenes("test", NUM_PHOTOS)
    (folder / "photos").mkdir()
    for index in range(NUM_PHOTOS):
        _image(scenes[index]).save(folder / "photos" / f"{index:03d}.png")
    _image(scenes[STREET]).save(folder / "street.jpg", quality=95)
    names = "\n".join(SCENE_CLASSES) + "\n"
    write_text(folder / "classes.txt", names)
    write_text(folder / "my_data" / "classes.txt", names)
    write_json(folder / "words.json", {name: SCENE_DESCRIPTIONS[name] for name in SCENE_CLASSES})


def _image(sample: Sample) -> Image.Image:
    return Image.fromarray(np.asarray(sample.image))
