"""Labeled pixels with the frozen features of a backbone: what most arms of the study are trained and measured on.

About 350 pixels of every MSRC-v2 image and 440 of every CamVid image are drawn as `solve` draws them (by the root of
each class's area, each weighing what it stands for), so weighted sums estimate those over all pixels without bias. What
this leaves out: a decoder that looks at more than one pixel, augmentation, and training of the backbone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from closed_form import VOID, Network, camvid, msrc_v2
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from benchmarks.study.bundled_models import everyday_space, street_space
from prolab_hf import PropertySpace
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_DESCRIPTIONS, DrawnScenes
from prolab_hf.solving.pixel_features import features_at, sample_pixels

NUM_PIXELS = {"msrc-v2": 350, "camvid": 440, "scenes": 100}
VALIDATION_SHARE = 0.2
SCENES = {"train": 240, "validation": 60, "test": 120}


@dataclass
class Pixels:
    """Pixels of some images.

    Attributes:
        features: float16 `(pixels, channels)`.
        labels: int64 `(pixels,)`.
        weights: How many pixels each one stands for, float32.
        images: Number of the image of each.
        regions: Number of the connected region of each, over the whole set.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor
    images: Tensor
    regions: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> "Pixels":
        """Those of an index or a bool mask."""
        return Pixels(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def of_images(self, images: Sequence[int]) -> "Pixels":
        """Those of some images."""
        return self.take(torch.isin(self.images, torch.tensor(list(images))))

    def of_classes(self, classes: Sequence[int]) -> "Pixels":
        """Those of some classes, numbered in their order; the others are void."""
        position = torch.full((VOID + 1,), -1)
        position[list(classes)] = torch.arange(len(classes))
        part = self.take(position[self.labels] >= 0)
        return Pixels(part.features, position[part.labels], part.weights, part.images, part.regions)


@dataclass
class Split:
    """Pixels to train on, to choose and calibrate with, and to measure on."""

    fit: Pixels
    validation: Pixels
    test: Pixels


@dataclass
class DataSet:
    """A data set with one backbone's features.

    Attributes:
        name: `msrc-v2`, `camvid` or `scenes`.
        backbone: Whose features.
        class_names: In the order of the ids.
        space: Rows, embeddings and words of the classes.
        pixels: Of all images.
        official: Split of every image; empty strings where there is none.
    """

    name: str
    backbone: str
    class_names: list[str]
    space: PropertySpace
    pixels: Pixels
    official: list[str]

    def image_split(self, seed: int) -> tuple[list[int], list[int], list[int]]:
        """Images to fit, validate and test on: the official split, or one drawn with the seed (40/10/50 %)."""
        if any(self.official):
            names = ("train", "validation" if self.name == "scenes" else "val", "test")
            return tuple([i for i, split in enumerate(self.official) if split == name] for name in names)  # type: ignore[return-value]
        order = np.random.default_rng(seed).permutation(len(self.official)).tolist()
        half = len(order) // 2
        held = round(VALIDATION_SHARE * half)
        return order[held:half], order[:held], order[half:]

    def split(self, seed: int, num_images: int | None = None) -> Split:
        """Pixels of a split; the first `num_images` of the images to fit on, drawn with the seed."""
        fit, validation, test = self.image_split(seed)
        if num_images is not None:
            fit = np.random.default_rng((seed, 1)).permutation(fit)[:num_images].tolist()
        return Split(*(self.pixels.of_images(part) for part in (fit, validation, test)))


def region_numbers(mask: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number of the connected region of one class that each pixel belongs to."""
    result, found = np.zeros(mask.shape, np.int64), 0
    for label in np.unique(mask):
        numbers, count = ndimage.label(mask == label)
        result = np.where(numbers > 0, numbers + found, result)
        found += count
    return result


class Collector:
    """Gathers pixels image by image."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts: list[tuple[Tensor, ...]] = []
        self.regions = 0

    def add(self, image: int, mask: NDArray[np.integer], maps: Sequence[Tensor]) -> None:
        """Pixels of one image from its feature maps `(1, channels, height, width)`."""
        found = sample_pixels(mask, VOID, self.number, np.random.default_rng((0, image)))
        if not len(found.labels):
            return
        regions = region_numbers(mask)[found.rows, found.columns]
        values = features_at(maps, found, (mask.shape[0], mask.shape[1]))[:, :-1].half()
        self.parts.append(
            (
                values,
                torch.from_numpy(found.labels),
                torch.from_numpy(found.weights).float(),
                torch.full((len(found.labels),), image),
                torch.from_numpy(regions + self.regions),
            )
        )
        self.regions += int(regions.max()) + 1

    def pixels(self) -> Pixels:
        """All of them."""
        return Pixels(*(torch.cat(column) for column in zip(*self.parts)))


def real_space(name: str, class_names: Sequence[str], data: Path) -> PropertySpace:
    """Words of a real data set, as the bundled models have them."""
    space = everyday_space(data) if name == "msrc-v2" else street_space()
    if space.class_names != list(class_names):
        raise ValueError(f"The words of {name} are in another order than its classes.")
    return space


def real_data(name: str, backbone: str, data: Path, cache: Path, weights: Path | None = None) -> DataSet:
    """MSRC-v2 or CamVid; feature maps and pixels are taken from the cache, or computed and kept there.

    Args:
        name: `msrc-v2` or `camvid`.
        backbone: `efficientnet-lite0` or `dinov2-small`.
        data: Folder of the data set.
        cache: Where features are kept; benchmarks/closed_form.py can share it.
        weights: Folder of dinov2-small.
    """
    names, _, files, read = {"msrc-v2": msrc_v2, "camvid": camvid}[name](data)
    official = [path.parents[1].name if name == "camvid" else "" for path in files]
    kept = cache / f"pixels-{backbone}-{name}-{NUM_PIXELS[name]}.pt"
    if not kept.exists():
        collector, network = Collector(NUM_PIXELS[name]), None
        folder = cache / f"{backbone}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        for index, (path, split) in enumerate(zip(files, official)):
            target = folder / f"{split}_{path.stem}.pt"
            if target.exists():
                maps = torch.load(target, weights_only=True)
            else:
                network = network or Network(backbone, weights)
                maps = network.maps(Image.open(path))
            collector.add(index, read(path), [each[None].float() for each in maps])
        torch.save(vars(collector.pixels()), kept.with_suffix(".partial"))
        kept.with_suffix(".partial").replace(kept)
    pixels = Pixels(**torch.load(kept, weights_only=True, mmap=True))
    return DataSet(name, backbone, names, real_space(name, names, data), pixels, official)


# ---- drawn scenes -------------------------------------------------------------------------------------------------


def color_maps(image: Image.Image) -> list[Tensor]:
    """A backbone without weights: color, its local mean and deviation at three scales, edges and place.

    Returns:
        `(1, 32, height, width)`.
    """
    rgb = np.asarray(image.convert("RGB"), np.float32) / 255
    height, width = rgb.shape[:2]
    channels = [rgb]
    for sigma in (1.5, 4.0, 10.0):
        mean = ndimage.gaussian_filter(rgb, (sigma, sigma, 0))
        square = ndimage.gaussian_filter(rgb**2, (sigma, sigma, 0))
        channels += [mean, np.sqrt(np.maximum(square - mean**2, 0))]
    gray = rgb.mean(axis=2)
    for axis in (0, 1):
        edges = np.abs(ndimage.sobel(gray, axis))
        channels += [ndimage.gaussian_filter(edges, s)[..., None] for s in (1.0, 4.0)]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    place = [y / height, (y / height) ** 2, x / width, (x / width) ** 2]
    channels += [each[..., None] for each in place]
    saturation = (rgb.max(axis=2) - rgb.min(axis=2))[..., None]
    everything = np.concatenate([*channels, saturation], axis=2)
    return [torch.from_numpy(everything.transpose(2, 0, 1).copy())[None]]


def drawn_data(backbone: str, cache: Path | None, sizes: dict[str, int] | None = None) -> DataSet:
    """Drawn scenes with the kiosk, whose rows are the true properties of every pixel.

    Args:
        backbone: `colors` (no weights needed) or `efficientnet-lite0`.
        cache: Where pixels are kept; `None` = nowhere.
        sizes: Images per split.
    """
    sizes = sizes or SCENES
    space = scenes_space()
    official = [split for split, number in sizes.items() for _ in range(number)]
    kept = (
        None if cache is None else cache / f"pixels-{backbone}-scenes-{'-'.join(map(str, sizes.values()))}.pt"
    )
    if kept is not None and kept.exists():
        pixels = Pixels(**torch.load(kept, weights_only=True))
        return DataSet("scenes", backbone, space.class_names, space, pixels, official)
    network = None if backbone == "colors" else Network(backbone, None)
    collector, index = Collector(NUM_PIXELS["scenes"]), 0
    for split, number in sizes.items():
        scenes = DrawnScenes(split, number, include_held_out=True)
        for place in range(number):
            scene = scenes[place]
            image, mask = cast(Image.Image, scene.image), scene.mask
            maps = color_maps(image) if network is None else [m[None].float() for m in network.maps(image)]
            collector.add(index, np.where(mask == 255, VOID, mask), maps)
            index += 1
    pixels = collector.pixels()
    if kept is not None:
        torch.save(vars(pixels), kept)
    return DataSet("scenes", backbone, space.class_names, space, pixels, official)


def scenes_space() -> PropertySpace:
    """The bundled space of the drawn classes, with the kiosk's row from its own description."""
    space = PropertySpace.from_pretrained("scenes")
    index = {name: place for place, name in enumerate(space.property_names)}
    texts = {
        text: place
        for name in space.class_names
        for text, place in zip(space.descriptions[name], space.assignments[name])
    }
    row = torch.zeros(1, space.num_properties)
    for text in SCENE_DESCRIPTIONS[HELD_OUT_CLASS]:
        row[0, texts.get(text, index.get(text, -1))] = 1
    return PropertySpace(
        class_names=[*space.class_names, HELD_OUT_CLASS],
        property_names=space.property_names,
        property_embeddings=space.property_embeddings,
        class_property_matrix=torch.cat([space.class_property_matrix, row]),
    )


def describe(data: DataSet) -> str:
    """One line for a log."""
    return json.dumps(
        {"data": data.name, "backbone": data.backbone, "classes": len(data.class_names),
         "properties": data.space.num_properties, "pixels": len(data.pixels),
         "channels": data.pixels.features.shape[1]}
    )  # fmt: skip
