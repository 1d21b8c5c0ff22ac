"""`explain`: what speaks for the class of a pixel or region, and what decided against the runner-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from prolab_hf.data.image_files import image_size
from prolab_hf.evaluation.inference import (
    ImageLike,
    as_image,
    class_names_of,
    inference_state,
    model_output,
    prepare,
)
from prolab_hf.explanation.attribution import (
    OFFSET_TERM,
    UNSPOKEN_TERM,
    compared_maps,
    own_words,
    point_weights,
    region_weights,
    score_contributions,
    weighted_contributions,
    weighted_mean,
    with_terms,
)
from prolab_hf.protocols import ImageProcessor

VISIBLE = 0.0005
"""Shares below this would read as 0.000."""


def explanation_text(explanation: Explanation) -> str:
    """One sentence each for the verdict, the reasons, the runner-up, what is missing and what surprises.

    Args:
        explanation: What `explain` gave.
    """
    sentences = [_verdict(explanation), _reasons(explanation), *_rivalry(explanation)]
    top = explanation.top
    if explanation.missing:
        sentences.append(
            f"Expected of {explanation.class_name} but hardly seen: "
            f"{_scores([(explanation.phrase(name), score) for name, score in explanation.missing[:top]])}."
        )
    if explanation.unexpected:
        sentences.append(f"Seen although not part of it: {_scores(explanation.unexpected[:top])}.")
    return "\n".join(sentences)


def _verdict(explanation: Explanation) -> str:
    if explanation.point is not None:
        where = f"The pixel at ({explanation.point[0]}, {explanation.point[1]})"
    else:
        pixels = int(explanation.region.sum()) if explanation.region is not None else 0
        where = f"The region of {pixels:,} pixels" if pixels != 1 else "The region of 1 pixel"
    if explanation.class_name == explanation.predicted_class:
        return f"{where} is {explanation.class_name} (score {explanation.score:.3f})."
    return (
        f"{where} is not {explanation.class_name} (score {explanation.score:.3f}) "
        f"but {explanation.predicted_class}."
    )


def _reasons(explanation: Explanation) -> str:
    shown = [
        (name, share) for name, share in explanation.contributions[: explanation.top] if share >= VISIBLE
    ]
    if not shown:
        return f"No property speaks for {explanation.class_name}."
    expected = {*explanation.expected, UNSPOKEN_TERM, OFFSET_TERM}
    # With the L2 similarity a property that is rightly absent counts in favor, too.
    named = [
        (explanation.phrase(name) if name in expected else f"no sign of “{name}”", share)
        for name, share in shown
    ]
    listed = "; ".join(f"{name} ({share:.3f})" for name, share in named)
    rest = explanation.score - sum(share for _, share in shown)
    others = len(explanation.contributions) - len(shown)
    tail = f"; the other {others} properties together {rest:.3f}" if others else ""
    return f"What makes up the score of {explanation.class_name}: {listed}{tail}."


def _rivalry(explanation: Explanation) -> list[str]:
    rival = explanation.runner_up
    if rival is None:
        return []
    for_it = [f"{explanation.phrase(name)} ({d:+.3f})" for name, d in rival.deciding if d >= VISIBLE]
    for_it = for_it[: explanation.top]
    against = [f"{name} ({d:+.3f})" for name, d in rival.deciding if d <= -VISIBLE][: explanation.top]
    verb = "leads" if rival.margin >= 0 else "trails"
    subject = "It" if explanation.class_name == explanation.predicted_class else explanation.class_name
    sentences = [f"{subject} {verb} {rival.class_name} (score {rival.score:.3f}) by {abs(rival.margin):.3f}."]
    if for_it:
        sentences.append(f"For {explanation.class_name} over {rival.class_name}: {'; '.join(for_it)}.")
    if against:
        sentences.append(f"For {rival.class_name} over {explanation.class_name}: {'; '.join(against)}.")
    return sentences


def _scores(properties: Sequence[tuple[str, float]]) -> str:
    return "; ".join(f"{name} ({score:.2f})" for name, score in properties)


Region = np.ndarray | Tensor | Image.Image
Share = tuple[str, float]

SIGMOID_THRESHOLD = 0.5
"""In the sigmoid modes a property counts as seen from this score on."""


@dataclass(frozen=True)
class RunnerUp:
    """The strongest other class, and what separates it from the explained one.

    Attributes:
        class_name: Its name.
        score: Its score at the same place.
        margin: Score of the explained class minus its score; negative if the other class wins.
        deciding: Every property with the difference of its shares, largest absolute difference first.
            Positive speaks for the explained class. The sum is the margin.
    """

    class_name: str
    score: float
    margin: float
    deciding: list[Share]


@dataclass(frozen=True)
class Explanation:
    """The class score of a pixel or region, taken apart exactly.

    Attributes:
        class_name: The explained class.
        score: Its score: the value whose arg-max over the classes is the label map (mean over a region).
        contributions: Every property with its share, largest first. The sum is `score`. Where a model has them,
            two terms that are no properties stand among them: `UNSPOKEN_TERM` and `OFFSET_TERM`.
        runner_up: The strongest other class; `None` if the model knows only one.
        missing: Properties that the class should have but that were hardly seen, with their scores.
        unexpected: Properties that were seen although the class does not have them, with their scores.
        predicted_class: The class with the highest score at this place.
        property_scores: Score of every property, in the order of the property space.
        expected: Names of the properties in the row of the class.
        point: Column and row of the pixel, if a point was explained.
        region: Bool `(height, width)`, if a region was explained.
        property_maps: Low-resolution property scores `(num_properties, height, width)`, for figures.
        top: How many properties text and figures show.
        phrases: Property -> the explained class's own words for it; shown instead of the property's name.
        other_phrases: Property -> the words that other classes use for it.
    """

    class_name: str
    score: float
    contributions: list[Share]
    runner_up: RunnerUp | None
    missing: list[Share]
    unexpected: list[Share]
    predicted_class: str
    property_scores: list[Share] = field(repr=False)
    expected: list[str] = field(repr=False)
    point: tuple[int, int] | None = None
    region: Tensor | None = field(default=None, repr=False)
    property_maps: Tensor | None = field(default=None, repr=False)
    top: int = 5
    phrases: dict[str, str] = field(default_factory=dict, repr=False)
    other_phrases: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def phrase(self, property_name: str) -> str:
        """What the author of the explained class wrote for a property; its name where the class does not have it.

        Args:
            property_name: Name of the property.
        """
        return self.phrases.get(property_name, property_name)

    @property
    def unspoken(self) -> float:
        """What the properties without words add to the score."""
        return dict(self.contributions).get(UNSPOKEN_TERM, 0.0)

    @property
    def offset(self) -> float:
        """What the claim budget adds to the score."""
        return dict(self.contributions).get(OFFSET_TERM, 0.0)

    @property
    def spoken_share(self) -> float:
        """Part of the score, without its offset, that named properties make up; 1 where there is nothing else."""
        similarity = self.score - self.offset
        return 1 - self.unspoken / similarity if similarity else 1.0

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Everything as a dictionary that JSON can hold.

        Args:
            top: Number of properties per list; `other_contributions` then holds the sum of the rest.
        """
        scores = dict(self.property_scores)
        expected = set(self.expected)
        runner_up = self.runner_up
        return {
            "class": self.class_name,
            "score": self.score,
            "predicted_class": self.predicted_class,
            "point": list(self.point) if self.point is not None else None,
            "region_pixels": int(self.region.sum()) if self.region is not None else None,
            "spoken_share": self.spoken_share,
            "offset": self.offset,
            "contributions": [
                {
                    "property": name,
                    "phrase": self.phrase(name),
                    "other_phrases": self.other_phrases.get(name, []),
                    "share": share,
                    "score": scores.get(name),
                    "expected": name in expected,
                }
                for name, share in self.contributions[:top]
            ],
            "other_contributions": sum(share for _, share in self.contributions[top:])
            if top is not None
            else 0.0,
            "runner_up": None
            if runner_up is None
            else {
                "class": runner_up.class_name,
                "score": runner_up.score,
                "margin": runner_up.margin,
                "deciding": [{"property": name, "difference": d} for name, d in runner_up.deciding[:top]],
            },
            "missing": [{"property": name, "score": score} for name, score in self.missing[:top]],
            "unexpected": [{"property": name, "score": score} for name, score in self.unexpected[:top]],
        }

    def to_text(self) -> str:
        """The explanation in plain sentences."""
        return explanation_text(self)


def explain(
    model: nn.Module,
    processor: ImageProcessor,
    image: ImageLike,
    *,
    point: Sequence[float] | None = None,
    region: Region | None = None,
    class_name: str | None = None,
    top: int = 5,
) -> Explanation:
    """Explain the class of a pixel or region of an image by its properties.

    Args:
        model: A `ProLabForSemanticSegmentation`.
        processor: Its image processor.
        image: An image of any size: PIL image, path, or array `(height, width, 3)` of uint8.
        point: Column and row `(x, y)` of a pixel, counted from the top left corner of the upright image.
        region: Mask `(height, width)` of the image's size, not zero inside. Scores are means over its
            pixels.
        class_name: Class to explain; default: the one with the highest score there.
        top: How many properties text and figures show. The data always hold all of them.

    Returns:
        The explanation. Its contributions sum to its score.

    Raises:
        ValueError: If not exactly one of point and region is given, the point lies outside of the image,
            the region is empty or has another size, the class is unknown, or the model has no properties.
        FileNotFoundError: If the path of the image does not exist.

    Example:
        ```python
        explanation = explain(model, processor, "street.jpg", point=(240, 200))
        print(explanation.to_text())
        ```
    """
    upright = as_image(image, processor)
    width, height = image_size(upright)
    size = (height, width)
    place = _place(point, region, size)
    names = class_names_of(model)
    if class_name is not None and class_name not in names:
        raise ValueError(f"There is no class {class_name!r}; the classes are {', '.join(names)}.")
    if top < 1:
        raise ValueError(f"top is {top}; at least one property must be shown.")
    with inference_state(model):
        output = model_output(model, prepare(processor, upright))
        if getattr(output, "property_logits", None) is None:
            raise ValueError(
                f"{type(model).__name__} has no properties to explain with; a ProLab model is needed."
            )
        property_maps = compared_maps(model, output)
    class_maps = output.logits[0]
    map_size = (int(class_maps.shape[-2]), int(class_maps.shape[-1]))
    weights = (
        region_weights(place, map_size) if isinstance(place, Tensor) else point_weights(place, size, map_size)
    )
    class_scores = weighted_mean(class_maps, weights)
    predicted = int(class_scores.argmax())
    explained = predicted if class_name is None else names.index(class_name)
    rivals = class_scores.clone()
    rivals[explained] = -math.inf
    rival = int(rivals.argmax()) if len(names) > 1 else None
    return _explanation(model, property_maps, weights, (explained, rival, predicted), place=place, top=top)


def _explanation(
    model: Any,
    property_maps: Tensor,
    weights: Tensor,
    classes: tuple[int, int | None, int],
    *,
    place: tuple[int, int] | Tensor,
    top: int,
) -> Explanation:
    """Put the numbers of the explained class and its strongest rival into words' order."""
    explained, rival, predicted = classes
    config, names = model.config, class_names_of(model)
    number = model.class_property_matrix.shape[1]
    properties = _distinct(config.property_names or [f"property {k}" for k in range(number)])
    classes_shown = [explained] if rival is None else [explained, rival]
    has_unspoken = property_maps.shape[0] > number
    rows = (model.class_rows if has_unspoken else model.class_property_matrix)[classes_shown]
    shares = weighted_contributions(property_maps, weights, rows, config.similarity).cpu()
    offsets = [0.0] * len(classes_shown)
    if config.class_offsets is not None:
        offsets = [config.class_offsets[index] for index in classes_shown]
    shares, terms = with_terms(shares, number, offsets)
    property_maps, rows = property_maps[:number], rows[:, :number]
    scores = weighted_mean(property_maps, weights).cpu()
    runner_up = None
    if rival is not None:
        difference = shares[0] - shares[1]
        runner_up = RunnerUp(
            class_name=names[rival],
            score=float(shares[1].sum()),
            margin=float(difference.sum()),
            deciding=_named(difference, [*properties, *terms], order=difference.abs()),
        )
    inside = rows[0].cpu() > 0
    seen = scores >= (
        SIGMOID_THRESHOLD if config.similarity != "cosine" else (scores.max() + scores.min()) / 2
    )
    return Explanation(
        class_name=names[explained],
        score=float(shares[0].sum()),
        contributions=_named(shares[0], [*properties, *terms], order=shares[0]),
        runner_up=runner_up,
        missing=_named(scores, properties, order=-scores, keep=inside & ~seen),
        unexpected=_named(scores, properties, order=scores, keep=~inside & seen),
        predicted_class=names[predicted],
        property_scores=_named(scores, properties),
        expected=[name for name, is_inside in zip(properties, inside.tolist()) if is_inside],
        point=None if isinstance(place, Tensor) else place,
        region=place if isinstance(place, Tensor) else None,
        property_maps=property_maps.float().cpu(),
        top=top,
        **own_words(config, names[explained], properties, inside.tolist()),
    )


def _named(
    values: Tensor, names: Sequence[str], *, order: Tensor | None = None, keep: Tensor | None = None
) -> list[Share]:
    """Values with their names, by falling `order`, only where `keep` holds."""
    indices = (
        range(len(names)) if order is None else torch.argsort(order, descending=True, stable=True).tolist()
    )
    return [(names[k], float(values[k])) for k in indices if keep is None or keep[k]]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where one occurs twice: lists by name must not mix two properties."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _place(
    point: Sequence[float] | None, region: Region | None, size: tuple[int, int]
) -> tuple[int, int] | Tensor:
    """The point as whole numbers, or the region as a bool tensor of the image's size."""
    height, width = size
    if (point is None) == (region is None):
        given = "neither" if point is None else "both"
        raise ValueError(f"Give either point=(x, y) or region=mask; received {given}.")
    if point is not None:
        coordinates = [float(value) for value in point]
        if len(coordinates) != 2 or not all(map(math.isfinite, coordinates)):
            raise ValueError(f"The point is {tuple(point)}; it must be two numbers, column x and row y.")
        x, y = (math.floor(value) for value in coordinates)
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(
                f"The point ({x}, {y}) lies outside of the image of {width} x {height} pixels; "
                f"x runs from 0 to {width - 1}, y from 0 to {height - 1}."
            )
        return x, y
    mask = (region.cpu() if isinstance(region, Tensor) else torch.from_numpy(np.array(region))) != 0
    if tuple(mask.shape) != size:
        raise ValueError(
            f"The region has shape {tuple(mask.shape)}, the image is {height} high and {width} wide; "
            f"the mask must have shape ({height}, {width})."
        )
    if not mask.any():
        raise ValueError("The region is empty: its mask is zero everywhere.")
    return mask


__all__ = [
    "Explanation",
    "Region",
    "RunnerUp",
    "explain",
    "score_contributions",
]
