"""A data set that is drawn, not downloaded: streets and rooms whose classes share visible properties.

Blue is sky, water and glass; brown is fence, floor and cabinet; stripes are on rugs, floors and fences;
boxes stand on the ground as buildings, cars and cabinets. No class can be told by its color alone, and the
held-out class (`HELD_OUT_CLASS`) is a new combination of properties that the training classes show.
Every image is determined by (seed, split, index).
"""

import numpy as np
from PIL import Image

from prolab_hf.data.image_files import Sample
from prolab_hf.data.scenes.canvas import Canvas
from prolab_hf.data.scenes.room import draw_room
from prolab_hf.data.scenes.stage import Light
from prolab_hf.data.scenes.street import draw_street
from prolab_hf.data.scenes.words import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS

__all__ = ["HELD_OUT_CLASS", "SCENE_CLASSES", "SCENE_DESCRIPTIONS", "DrawnScenes"]

SPLITS: tuple[str, ...] = ("train", "validation", "test")
_STREET_SHARE = 0.6


class DrawnScenes:
    """Data source of drawn images.

    Args:
        split: `"train"`, `"validation"` or `"test"`; splits never share an image.
        num_images: Length of the source.
        seed: Seed of the whole set.
        size: Height and width of the images, at least 64 each.
        include_held_out: Whether streets contain the held-out class; its id is `len(SCENE_CLASSES)`. Apart
            from that class the images are the same.

    Raises:
        ValueError: If an argument is outside its range.
    """

    def __init__(
        self,
        split: str = "train",
        num_images: int = 200,
        seed: int = 0,
        size: tuple[int, int] = (128, 160),
        *,
        include_held_out: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown; the drawn scenes have {', '.join(SPLITS)}")
        if num_images < 1:
            raise ValueError(f"num_images {num_images} must be positive")
        if seed < 0:
            raise ValueError(f"seed {seed} must not be negative")
        if min(size) < 64:
            raise ValueError(f"size {size} is too small to draw a scene; use at least 64 x 64")
        self.split = split
        self.num_images = num_images
        self.seed = seed
        self.size = (int(size[0]), int(size[1]))
        self.include_held_out = include_held_out
        self.class_names: list[str] | None = [*SCENE_CLASSES, *([HELD_OUT_CLASS] if include_held_out else [])]
        self.num_classes = len(self.class_names)
        self.ignore_index = 255

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> Sample:
        if not -self.num_images <= index < self.num_images:
            raise IndexError(f"image {index} of {self.num_images}")
        index %= self.num_images
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index))
        canvas = Canvas(*self.size, rng)
        light = Light.draw(rng)
        if rng.random() < _STREET_SHARE:
            # The held-out class has its own generator: everything else stays as it is without it.
            held_out = np.random.default_rng((self.seed, SPLITS.index(self.split), index, 1))
            draw_street(canvas, rng, light, held_out=held_out if self.include_held_out else None)
        else:
            draw_room(canvas, rng, light)
        return Sample(_develop(canvas, light, rng), canvas.labels, f"{self.split}-{index:05d}")


def _develop(canvas: Canvas, light: Light, rng: np.random.Generator) -> Image.Image:
    """Apply light and sensor noise and turn the canvas into an image."""
    noise = rng.standard_normal(canvas.pixels.shape[:2], dtype=np.float32)[..., None] * light.grain
    pixels = canvas.pixels * np.asarray(light.tint, dtype=np.float32) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
