"""`explain`: what speaks for the class of a pixel, a region or a whole class, and what decided against a rival."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from prolab_hf.evaluation.inference import ImageLike, InferenceOptions
from prolab_hf.explanation.attribution import own_words, score_contributions
from prolab_hf.explanation.decomposition import Parts, Place, chosen_quantity, decompose
from prolab_hf.explanation.explained import Explanation, Quantity, RunnerUp, Share
from prolab_hf.explanation.pixel_weights import Weights
from prolab_hf.explanation.property_maps import PropertyMaps
from prolab_hf.protocols import ImageProcessor

Region = np.ndarray | Tensor | Image.Image

SIGMOID_THRESHOLD = 0.5
"""In the sigmoid modes a property counts as seen from this score on."""


@overload
def explain(
    model: nn.Module,
    processor: ImageProcessor,
    image: ImageLike,
    *,
    point: Sequence[float] | None = None,
    region: Region | None = None,
    class_name: str | None = None,
    rival: str | None = None,
    quantity: Literal["auto", "score", "probability"] = "auto",
    top: int = 5,
    **options: Unpack[InferenceOptions],
) -> Explanation: ...


@overload
def explain(
    model: nn.Module,
    processor: ImageProcessor,
    image: list[ImageLike] | tuple[ImageLike, ...],
    *,
    point: Sequence[Sequence[float]] | None = None,
    region: Sequence[Region] | None = None,
    class_name: str | None = None,
    rival: str | None = None,
    quantity: Literal["auto", "score", "probability"] = "auto",
    top: int = 5,
    **options: Unpack[InferenceOptions],
) -> list[Explanation]: ...


def explain(
    model: nn.Module,
    processor: ImageProcessor,
    image: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
    *,
    point: Sequence[float] | Sequence[Sequence[float]] | None = None,
    region: Region | Sequence[Region] | None = None,
    class_name: str | None = None,
    rival: str | None = None,
    quantity: Literal["auto", "score", "probability"] = "auto",
    top: int = 5,
    **options: Unpack[InferenceOptions],
) -> Explanation | list[Explanation]:
    """Explain the class of a pixel, a region or all pixels of a class by the properties of the model.

    The contributions sum to the score that `segment` compares with the same options: of one pass, or averaged over
    sliding windows. Where several runs are averaged (`flip`, `scales`), `segment` compares mean probabilities, and
    these are taken apart (see `prolab_hf.explanation.attribution`).

    Args:
        model: A `ProLabForSemanticSegmentation`.
        processor: Its image processor.
        image: An image of any size (PIL image, path, or array `(height, width, channels)`), or a list of images;
            `point` and `region` are then lists of the same length.
        point: Column and row `(x, y)` of a pixel, counted from the top left corner of the upright image.
        region: Mask `(height, width)` of the image's size, not zero inside. Scores are means over its pixels.
        class_name: Class to explain; default: the one with the highest score there. Without point and region all
            pixels are explained that `segment` labels so.
        rival: Class to compare with; default: the strongest other one.
        quantity: `"score"`, `"probability"`, or `"auto"`: the one by which `segment` labels with these options.
        top: How many properties text and figures show. The data always hold all of them.
        **options: `mode`, `crop_size`, `stride`, `flip`, `scales`, `batch_size`, `resize_twice`, as for `segment`.

    Returns:
        The explanation; a list of them for a list of images.

    Raises:
        ValueError: If not exactly one of point and region is given (or neither, with a class), the point lies outside
            of the image, the region is empty or has another size, a class is unknown, or the model has no properties.
        FileNotFoundError: If the path of an image does not exist.

    Example:
        ```python
        print(explain(model, processor, "street.jpg", point=(240, 200)).to_text())
        explain(model, processor, "room.jpg", class_name="sofa", rival="armchair", flip=True).to_rows()
        ```
    """
    shared: dict[str, Any] = {"class_name": class_name, "rival": rival, "quantity": quantity, "top": top}
    if not isinstance(image, list | tuple):
        maps = PropertyMaps(model, processor, image, **options)
        return explain_maps(maps, point=point, region=region, **shared)  # type: ignore[arg-type]  # one place for one image
    places: list[dict[str, Any]] = [{} for _ in image]
    for name, given in (("point", point), ("region", region)):
        if given is None:
            continue
        if len(given) != len(image):
            raise ValueError(
                f"There are {len(image)} images and {len(given)} {name}s; give one {name} per image."
            )
        for place, value in zip(places, given):
            place[name] = value
    return [
        explain_maps(PropertyMaps(model, processor, one, **options), **place, **shared)
        for one, place in zip(image, places)
    ]


def explain_maps(
    maps: PropertyMaps,
    *,
    point: Sequence[float] | None = None,
    region: Region | None = None,
    class_name: str | None = None,
    rival: str | None = None,
    quantity: Literal["auto", "score", "probability"] = "auto",
    top: int = 5,
) -> Explanation:
    """As `explain`, of an image whose maps are kept: only passes that were not needed before run.

    Args:
        maps: The image and how it is run.
        point: Column and row `(x, y)` of a pixel.
        region: Mask `(height, width)`.
        class_name: Class to explain.
        rival: Class to compare with.
        quantity: `"score"`, `"probability"` or `"auto"`.
        top: How many properties text and figures show.

    Raises:
        ValueError: As for `explain`.
    """
    names = maps.class_names
    for name in (class_name, rival):
        if name is not None and name not in names:
            raise ValueError(f"There is no class {name!r}; the classes are {', '.join(names)}.")
    if rival is not None and rival == class_name:
        raise ValueError(f"class_name and rival are both {rival!r}; name two classes.")
    if top < 1:
        raise ValueError(f"top is {top}; at least one property must be shown.")
    kind = chosen_quantity(maps, quantity)
    is_whole_class = point is None and region is None and class_name is not None
    place = _class_region(maps, class_name) if is_whole_class else _place(point, region, maps.size)
    parts = decompose(
        maps,
        place,
        None if class_name is None else names.index(class_name),
        None if rival is None else names.index(rival),
        kind,
    )
    return _explanation(maps, parts, place, kind, top=top, is_whole_class=is_whole_class)


def _explanation(
    maps: PropertyMaps, parts: Parts, place: Place, quantity: Quantity, *, top: int, is_whole_class: bool
) -> Explanation:
    """Put the numbers of the explained class and its rival into words' order."""
    config, names, properties = maps.network.config, maps.class_names, maps.property_names
    scores = _property_scores(maps, place)
    rows = maps.network.class_property_matrix.cpu()
    inside = rows[parts.explained] > 0
    value, rival = float(parts.shares.sum()), None
    if parts.rival is not None and parts.differences is not None:
        margin = float(parts.differences.sum())
        rival = RunnerUp(
            class_name=names[parts.rival],
            score=value - margin,
            margin=margin,
            deciding=_named(parts.differences, parts.terms, order=parts.differences.abs()),
            expected=[name for name, has in zip(properties, rows[parts.rival].tolist()) if has],
        )
    seen = scores >= (
        SIGMOID_THRESHOLD if config.similarity != "cosine" else (scores.max() + scores.min()) / 2
    )
    return Explanation(
        class_name=names[parts.explained],
        score=value,
        contributions=_named(parts.shares, parts.terms, order=parts.shares),
        runner_up=rival,
        missing=_named(scores, properties, order=-scores, keep=inside & ~seen),
        unexpected=_named(scores, properties, order=scores, keep=~inside & seen),
        predicted_class=names[parts.predicted],
        property_scores=_named(scores, properties),
        expected=[name for name, is_inside in zip(properties, inside.tolist()) if is_inside],
        point=None if isinstance(place, Tensor) else place,
        region=place if isinstance(place, Tensor) else None,
        property_maps=maps.mean_property_maps() if maps.is_complete else None,
        top=top,
        quantity=quantity,
        residual=float(parts.values[parts.explained]) - value,
        is_whole_class=is_whole_class,
        image_name=maps.name,
        inference=maps.settings.to_dict(maps.processor),
        **own_words(config, names[parts.explained], properties, inside.tolist()),
    )


def _property_scores(maps: PropertyMaps, place: Place) -> Tensor:
    """Mean property scores of a place `(num_properties,)`, float64."""
    weights = Weights.of_region(place) if isinstance(place, Tensor) else Weights.of_point(place)
    total = torch.zeros(len(maps.property_names), dtype=torch.float64)
    for stream in range(len(maps.streams)):
        for _, found, cell_weights in maps.cells(weights, stream):
            total += cell_weights.sum_of(found.compared[: len(total)])[0]
    return total / len(maps.streams)


def _named(
    values: Tensor, names: Sequence[str], *, order: Tensor | None = None, keep: Tensor | None = None
) -> list[Share]:
    """Values with their names, by falling `order`, only where `keep` holds."""
    indices = (
        range(len(names)) if order is None else torch.argsort(order, descending=True, stable=True).tolist()
    )
    return [(names[k], float(values[k])) for k in indices if keep is None or keep[k]]


def _class_region(maps: PropertyMaps, class_name: str | None) -> Tensor:
    """All pixels with the label of a class.

    Raises:
        ValueError: There are none.
    """
    labels = maps.segmentation().labels
    region: Tensor = labels == maps.class_names.index(class_name or "")
    if not region.any():
        found = ", ".join(maps.class_names[k] for k in labels.unique().tolist())
        raise ValueError(
            f"No pixel of the image is labeled {class_name}; found were: {found}. Give a point or a region to see "
            f"why it is not {class_name}."
        )
    return region


def _place(point: Sequence[float] | None, region: Region | None, size: tuple[int, int]) -> Place:
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
    return as_region(region, size)  # type: ignore[arg-type]  # one of both is given


def as_region(region: Region, size: tuple[int, int]) -> Tensor:
    """A mask as a bool tensor `(height, width)`.

    Args:
        region: Not zero inside.
        size: Height and width of the image.

    Raises:
        ValueError: It has another size or is empty.
    """
    mask = (region.cpu() if isinstance(region, Tensor) else torch.from_numpy(np.array(region))) != 0
    if tuple(mask.shape) != size:
        raise ValueError(
            f"The region has shape {tuple(mask.shape)}, the image is {size[0]} high and {size[1]} wide; "
            f"the mask must have shape ({size[0]}, {size[1]})."
        )
    if not mask.any():
        raise ValueError("The region is empty: its mask is zero everywhere.")
    return mask


__all__ = [
    "Explanation",
    "PropertyMaps",
    "Region",
    "RunnerUp",
    "explain",
    "explain_maps",
    "score_contributions",
]
