"""Which properties decide one class against another on a whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from prolab_hf.evaluation.inference import InferenceOptions, InferenceSettings, class_names_of
from prolab_hf.explanation.attribution import own_words, score_contributions, with_terms
from prolab_hf.explanation.decomposition import chosen_quantity, decompose
from prolab_hf.explanation.explained import Quantity
from prolab_hf.explanation.labeled_images import LabeledImage, labeled_images
from prolab_hf.explanation.pixel_weights import Weights
from prolab_hf.explanation.property_maps import PropertyMaps, network_of
from prolab_hf.explanation.share_bars import bars_html, bars_png
from prolab_hf.protocols import ImageMaskPairs, ImageProcessor
from prolab_hf.suggestions import did_you_mean

Over = Literal["labeled", "predicted"]


@dataclass(frozen=True)
class DecidingProperty:
    """What one property does for a class and against its rival, over many pixels.

    Attributes:
        name: Of the property, or a term that is none.
        phrase: The class's own words for it.
        difference: Mean over the pixels of its share in the class's score minus that in the rival's.
        weight: Size of the difference as a part of the sizes of all of them, 0 to 1.
        class_share: Mean share in the class's score.
        rival_share: Mean share in the rival's score.
        images_for: Images in which it speaks for the class.
        images_against: Images in which it speaks for the rival.
        pivotal: Part of the pixels at which the class leads the rival, but would not without this property.
        is_property: Whether it is one.
    """

    name: str
    phrase: str
    difference: float
    weight: float
    class_share: float
    rival_share: float
    images_for: int
    images_against: int
    pivotal: float
    is_property: bool = True


@dataclass(frozen=True)
class ClassComparison:
    """Which properties decide one class against another on a data set.

    Attributes:
        class_name: The class.
        rival: The other class.
        over: `"labeled"`: the pixels that are labeled as the class; `"predicted"`: those that the model labels so.
        num_images: Images that hold such pixels.
        num_pixels: Their number in all.
        score: Mean score (or probability) of the class over these pixels.
        rival_score: Mean of the rival.
        lead_share: Part of the pixels at which the class has the higher score of both.
        properties: All properties and terms, the largest difference first. The differences sum to `margin`.
        quantity: `"score"` or `"probability"`.
        inference: Mode, window, flip and scales.
    """

    class_name: str
    rival: str
    over: Over
    num_images: int
    num_pixels: int
    score: float
    rival_score: float
    lead_share: float
    properties: list[DecidingProperty] = field(repr=False)
    quantity: Quantity = "score"
    inference: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def margin(self) -> float:
        """Mean score of the class minus that of the rival."""
        return self.score - self.rival_score

    def to_dict(self) -> dict[str, Any]:
        """Everything as a dictionary that JSON can hold."""
        return {**asdict(self), "margin": self.margin}

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row per property, for `datasets.Dataset.from_list` or `pandas.DataFrame`."""
        about = {
            "class": self.class_name,
            "rival": self.rival,
            "over": self.over,
            "images": self.num_images,
            "pixels": self.num_pixels,
            "quantity": self.quantity,
        }
        return [{**about, **asdict(each)} for each in self.properties]

    def to_text(self, top: int = 5) -> str:
        """The comparison in plain sentences.

        Args:
            top: Properties per sentence.
        """
        leading = [each for each in self.properties if each.difference > 0][:top]
        trailing = [each for each in self.properties if each.difference < 0][:top]
        lines = [self._verdict()]
        for names, found in (
            ((self.class_name, self.rival), leading),
            ((self.rival, self.class_name), trailing),
        ):
            if found:
                listed = "; ".join(
                    f"{each.phrase} ({each.difference:+.3f}, in {max(each.images_for, each.images_against)} images)"
                    for each in found
                )
                lines.append(f"For {names[0]} over {names[1]}: {listed}.")
        pivotal = sorted(
            (each for each in self.properties if each.pivotal >= 0.005), key=lambda e: -e.pivotal
        )
        if pivotal:
            listed = "; ".join(f"{each.phrase} ({each.pivotal:.0%})" for each in pivotal[:top])
            lines.append(f"Part of the pixels at which {self.rival} would lead without it: {listed}.")
        return "\n".join(lines)

    def _verdict(self) -> str:
        verb = "leads" if self.margin >= 0 else "trails"
        return (
            f"On {self.num_pixels:,} pixels {self.over} as {self.class_name} in {self.num_images:,} images, "
            f"{self.class_name} ({self.quantity} {self.score:.3f}) {verb} {self.rival} ({self.rival_score:.3f}) by "
            f"{abs(self.margin):.3f}; it has the higher one at {self.lead_share:.1%} of them."
        )

    def _bars(self) -> list[tuple[str, float, float | None]]:
        return [(each.phrase, each.class_share, each.rival_share) for each in self.properties[:10]]

    def _repr_html_(self) -> str:
        """For notebooks."""
        first, *rest = self.to_text().splitlines()
        return bars_html(first, self._bars(), legend=(self.class_name, self.rival), note="\n".join(rest))

    def _repr_png_(self) -> bytes:
        """For notebooks that show no HTML."""
        return bars_png(self._verdict(), self._bars(), legend=(self.class_name, self.rival))


def explain_dataset(
    model: nn.Module,
    processor: ImageProcessor,
    dataset: ImageMaskPairs,
    class_name: str,
    rival: str | None = None,
    *,
    over: Over = "labeled",
    quantity: Literal["auto", "score", "probability"] = "auto",
    max_images: int | None = None,
    show_progress: bool = False,
    **options: Unpack[InferenceOptions],
) -> ClassComparison:
    """Which properties decide a class against another one on a data set; memory does not grow with its length.

    Args:
        model: A `ProLabForSemanticSegmentation`.
        processor: Its image processor.
        dataset: Anything with `len()` and `[i]` that gives a `Sample` or a pair `(image, mask)`, as for `evaluate`.
        class_name: The class whose pixels are looked at.
        rival: The other class; default: the one with the highest mean score there (the data set is then run twice).
        over: `"labeled"` or `"predicted"`: which pixels are those of the class.
        quantity: `"score"`, `"probability"`, or `"auto"`: the one by which `segment` labels with these options.
        max_images: Look at this many images, evenly spread over the data set; `None` for all.
        show_progress: Whether a bar over the images is shown.
        **options: `mode`, `crop_size`, `stride`, `flip`, `scales`, `batch_size`, `resize_twice`, as for `segment`.

    Raises:
        ValueError: A class is unknown, both are the same, no pixel is of the class, the data set is empty or its
            classes are not the model's, or an image cannot be used.

    Example:
        ```python
        explain_dataset(model, processor, validation, "sofa", "armchair").to_text()
        ```
    """
    names = class_names_of(network_of(model))
    for name in (class_name, *([] if rival is None else [rival])):
        if name not in names:
            raise ValueError(f"There is no class {name!r} in the model{did_you_mean(name, names)}")
    if rival == class_name:
        raise ValueError(f"class_name and rival are both {rival!r}; name two classes.")
    if len(names) < 2:
        raise ValueError("The model knows only one class, so there is nothing to compare it with.")
    if over not in ("labeled", "predicted"):
        raise ValueError(f"over is {over!r}; it must be 'labeled' or 'predicted'.")
    own = names.index(class_name)
    walk: dict[str, Any] = {"max_images": max_images, "show_progress": show_progress, **options}
    if rival is None:
        other = _strongest_rival(labeled_images(model, processor, dataset, **walk), own, over)
    else:
        other = names.index(rival)
    sums = None
    for item in labeled_images(model, processor, dataset, **walk):
        region = _class_region(item, own, over)
        if region.any():
            sums = sums or _Sums(item.maps, own, other, chosen_quantity(item.maps, quantity))
            sums.add(item.maps, region)
    if sums is None:
        raise ValueError(
            f"No pixel of these images is {over} as {class_name}; check the split and the class."
        )
    return sums.result(names, over, InferenceSettings(**options).to_dict(processor))


def _class_region(item: LabeledImage, index: int, over: Over) -> Tensor:
    labels = item.mask if over == "labeled" else item.maps.segmentation().labels
    region: Tensor = labels == index
    return region


def _strongest_rival(items: Any, own: int, over: Over) -> int:
    total: Tensor | None = None
    for item in items:
        region = _class_region(item, own, over)
        if region.any():
            values = decompose(item.maps, region, own, None, "score").values * int(region.sum())
            total = values if total is None else total + values
    if total is None:
        return int(own == 0)  # the second sweep says what is missing
    total[own] = -torch.inf
    return int(total.argmax())


class _Sums:
    """Sums over the pixels of a class, image by image."""

    def __init__(self, maps: PropertyMaps, own: int, rival: int, quantity: Quantity) -> None:
        self.network, self.own, self.rival, self.quantity = maps.network, own, rival, quantity
        self.property_names = maps.property_names
        self.terms: list[str] = []
        self.shares = self.differences = self.pivotal = torch.zeros((), dtype=torch.float64)
        self.lead = 0.0
        self.votes: Tensor = torch.zeros((), dtype=torch.int64)
        self.num_pixels = self.num_images = 0

    def add(self, maps: PropertyMaps, region: Tensor) -> None:
        """Count the pixels of a region."""
        parts = decompose(maps, region, self.own, self.rival, self.quantity)
        number, difference = int(region.sum()), parts.leads[self.rival]
        self.terms = parts.terms
        self.shares = self.shares + parts.shares * number
        self.differences = self.differences + difference * number
        self.votes = self.votes + torch.stack([difference > 0, difference < 0]).to(torch.int64)
        pivotal, lead = _pivotal(maps, region, self.own, self.rival)
        if len(pivotal) < len(self.terms):  # the even share of probabilities tips nothing
            pivotal = torch.cat([pivotal, pivotal.new_zeros(len(self.terms) - len(pivotal))])
        self.pivotal = self.pivotal + pivotal * number
        self.lead += lead * number
        self.num_pixels += number
        self.num_images += 1

    def result(self, names: Sequence[str], over: Over, inference: dict[str, Any]) -> ClassComparison:
        """Means over all pixels."""
        number, config = self.num_pixels, self.network.config
        shares, differences, pivotal = (
            each / number for each in (self.shares, self.differences, self.pivotal)
        )
        sizes = differences.abs()
        rows = self.network.class_property_matrix.cpu()
        phrases = self._phrases(config, names, rows)
        weights = sizes / sizes.sum().clamp_min(1e-12)
        properties = [
            DecidingProperty(
                name=self.terms[k],
                phrase=phrases.get(self.terms[k], self.terms[k]),
                difference=float(differences[k]),
                weight=float(weights[k]),
                class_share=float(shares[k]),
                rival_share=float(shares[k] - differences[k]),
                images_for=int(self.votes[0, k]),
                images_against=int(self.votes[1, k]),
                pivotal=float(pivotal[k]),
                is_property=k < len(self.property_names),
            )
            for k in torch.argsort(sizes, descending=True, stable=True).tolist()
        ]
        return ClassComparison(
            class_name=names[self.own],
            rival=names[self.rival],
            over=over,
            num_images=self.num_images,
            num_pixels=number,
            score=float(shares.sum()),
            rival_score=float(shares.sum() - differences.sum()),
            lead_share=self.lead / number,
            properties=properties,
            quantity=self.quantity,
            inference=inference,
        )

    def _phrases(self, config: Any, names: Sequence[str], rows: Tensor) -> dict[str, str]:
        """The words of the class, and where only the rival has a property those of the rival."""
        words: dict[str, str] = {}
        for index in (self.rival, self.own):
            inside = (rows[index] > 0).tolist()
            words |= own_words(config, names[index], self.property_names, inside)["phrases"]
        return words


def _pivotal(maps: PropertyMaps, region: Tensor, own: int, rival: int) -> tuple[Tensor, float]:
    """Part of a region at which each term keeps a class ahead of its rival, and part at which it is ahead.

    Counted in cells of the network's maps, by the number of pixels that they stand for.
    """
    weights, runs = Weights.of_region(region), len(maps.streams)
    pivotal: Tensor = torch.zeros((), dtype=torch.float64)
    lead = 0.0
    for stream in range(runs):
        for _, found, cell_weights in maps.cells(weights, stream):
            rows = maps.rows(len(found.compared))[[own, rival]].cpu().double()
            offsets = None if maps.offsets is None else maps.offsets[[own, rival]]
            for cells, counts in cell_weights.of_maps(found.compared):
                shares = score_contributions(
                    cells, rows, maps.network.config.similarity, num_named=maps.num_named
                )
                differences = shares[:, 0] - shares[:, 1]
                offset = None if offsets is None else (offsets[0] - offsets[1]).expand(len(cells))
                differences, _ = with_terms(differences, maps.property_names, offset)
                margin = differences.sum(1, keepdim=True)
                tips = (margin > 0) & (margin - differences <= 0)
                pivotal = pivotal + counts[0] @ tips.double() / runs
                lead += float(counts[0] @ (margin[:, 0] > 0).double()) / runs
    return pivotal, lead


__all__ = ["ClassComparison", "DecidingProperty", "explain_dataset"]
