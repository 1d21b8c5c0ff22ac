"""Graying out the parts of a segment where its decisive properties are seen, against as many other parts of it.

    python -m benchmarks.study graying --data msrc-v2 --folder /path/to/msrc-v2

With the bundled everyday model on its own test images.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor

from benchmarks.study.bundled_models import everyday
from benchmarks.study.records import Table, Value, interval
from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.bundled_models import bundled_model_folder
from prolab_hf.model.closed_form_prolab import class_rows_of

BLOCK = 16
SHARES = (0.1, 0.2, 0.4)
NUM_IMAGES = 40
LEAST_BLOCKS = 20
DECISIVE = 3
GRAY = 128


class Segment:
    """The largest segment of an image, its class, its rival and where its decisive properties are seen.

    Args:
        model: The model.
        processor: Its image processor.
        image: The image.
    """

    def __init__(self, model: ProLabForSemanticSegmentation, processor: object, image: Image.Image) -> None:
        self.model, self.processor, self.size = model, processor, image.size[::-1]
        scores, properties = self._maps(image)
        labels = scores.argmax(dim=0)
        self.winner = int(torch.bincount(labels.flatten()).argmax())
        self.inside = labels == self.winner
        means = scores[:, self.inside].mean(dim=1)
        means[self.winner] = -torch.inf
        self.rival = int(means.argmax())
        self.before = self.margin(scores)
        unit = F.normalize(class_rows_of(model.config), dim=1)
        lead = (unit[self.winner] - unit[self.rival])[:, None, None]
        shares = properties / torch.linalg.vector_norm(properties, dim=0).clamp_min(1e-8) * lead
        strongest = shares[:, self.inside].mean(dim=1).topk(DECISIVE).indices
        self.evidence = shares[strongest].sum(dim=0)

    def _maps(self, image: Image.Image) -> tuple[Tensor, Tensor]:
        """Class scores and what they are compared with, at the size of the image."""
        with torch.no_grad():
            output = self.model(**self.processor(image, return_tensors="pt"))  # type: ignore[operator]
            properties = self.model.property_scores(output.property_logits)[0]
            unspoken = getattr(output, "unspoken_logits", None)
            if unspoken is not None:
                properties = torch.cat([properties, self.model.unspoken_scores(unspoken)[0]])

        def enlarged(maps: Tensor) -> Tensor:
            return F.interpolate(maps[None], size=self.size, mode="bilinear", align_corners=False)[0]

        return enlarged(output.logits[0]), enlarged(properties)

    def margin(self, scores: Tensor) -> float:
        """Mean lead of the class over its rival, over the segment as it was."""
        lead = scores[self.winner] - scores[self.rival]
        return float(lead[self.inside].mean())

    def margin_of(self, image: Image.Image) -> float:
        """The same on another image."""
        return self.margin(self._maps(image)[0])

    def blocks(self) -> list[tuple[slice, slice]]:
        """Blocks of 16 x 16 pixels of which more than half lies in the segment, by evidence."""
        found = []
        for top in range(0, self.size[0] - BLOCK + 1, BLOCK):
            for left in range(0, self.size[1] - BLOCK + 1, BLOCK):
                place = slice(top, top + BLOCK), slice(left, left + BLOCK)
                if self.inside[place].float().mean() > 0.5:
                    found.append((float(self.evidence[place].mean()), place))
        return [place for _, place in sorted(found, key=lambda each: -each[0])]


def grayed(image: Image.Image, places: Sequence[tuple[slice, slice]]) -> Image.Image:
    """An image with some blocks gray."""
    pixels: NDArray[np.uint8] = np.array(image)
    for place in places:
        pixels[place] = GRAY
    return Image.fromarray(pixels)


def _one_image(segment: Segment, image: Image.Image, rng: np.random.Generator) -> dict[str, float]:
    blocks, figures = segment.blocks(), {}
    for share in SHARES:
        number = max(1, round(share * len(blocks)))
        order = rng.permutation(len(blocks))[:number]
        chosen = {"evidence": blocks[:number], "random": [blocks[k] for k in order]}
        for kind, places in chosen.items():
            left = segment.margin_of(grayed(image, places)) / segment.before
            figures[f"left, {kind} {100 * share:.0f}"] = left
    return figures


def graying(table: Table, folder: Path, seeds: Sequence[int]) -> None:
    """Share of the mean margin that is left, mean over images; seeds draw the random blocks."""
    place = bundled_model_folder("everyday")
    if place is None:
        raise FileNotFoundError("The bundled everyday model is missing; make it with bundled_models.py.")
    model = ProLabForSemanticSegmentation.from_pretrained(place).eval()
    processor = AutoImageProcessor.from_pretrained(place)
    source = everyday(folder).splits["test"]
    for seed in seeds:
        entry = table.begin({"data": "msrc-v2", "arm": "everyday", "seed": seed})
        if entry is None:
            continue
        found: list[Mapping[str, float]] = []
        for index in range(len(source)):
            image = Image.fromarray(np.asarray(source[index].image))
            segment = Segment(model, processor, image)
            if len(segment.blocks()) >= LEAST_BLOCKS and segment.before > 0.02:
                found.append(_one_image(segment, image, np.random.default_rng((seed, index))))
            if len(found) == NUM_IMAGES:
                break
        figures: dict[str, Value] = {"images": len(found)}
        for name in found[0]:
            figures[name] = float(np.mean([each[name] for each in found]))
        for share in SHARES:
            first, second = (f"left, {kind} {100 * share:.0f}" for kind in ("evidence", "random"))
            figures[f"images where evidence counts more, {100 * share:.0f}"] = float(
                np.mean([each[first] < each[second] for each in found])
            )
            mean, half = interval(each[first] - each[second] for each in found)
            figures |= {f"gap {100 * share:.0f}": mean, f"gap {100 * share:.0f}, half": half}
        entry.finish(figures)
