"""`intervene`: what would an image be called if properties were seen more, less or not at all? No second pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from prolab_hf.evaluation.inference import ImageLike, InferenceOptions, Segmentation
from prolab_hf.explanation.attribution import EPSILON
from prolab_hf.explanation.contributions import Region, as_region
from prolab_hf.explanation.pixel_weights import RegionCells
from prolab_hf.explanation.property_maps import PassMaps, PropertyMaps
from prolab_hf.explanation.share_bars import bars_html
from prolab_hf.protocols import ImageProcessor
from prolab_hf.suggestions import did_you_mean

How = Literal["set", "add", "multiply"]
Changes = Mapping[str | int, float | None]
"""Properties, by name, one of their phrases, or number, and what is done with their scores; `None` removes one."""


@dataclass(frozen=True)
class Intervention:
    """Labels and scores of an image before and after some of its property scores were changed.

    Attributes:
        before: The image as the model sees it.
        after: The image with the changed properties.
        class_scores: Per class its name and its mean score over the region before and after, in the order of the ids.
        properties: Names of the changed properties with what was done; `None` for removed ones.
        how: `"set"`, `"add"` or `"multiply"`.
        region: Where, bool `(height, width)`; `None` for everywhere.
    """

    before: Segmentation
    after: Segmentation
    class_scores: list[tuple[str, float, float]]
    properties: dict[str, float | None]
    how: How = "set"
    region: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def labels(self) -> Tensor:
        """Class ids after the change, int64 `(height, width)`."""
        return self.after.labels

    @property
    def changed(self) -> Tensor:
        """Where the class is another one now, bool `(height, width)`."""
        return self.before.labels != self.after.labels

    def flows(self) -> list[tuple[str, str, int]]:
        """From which class to which class how many pixels went, most first."""
        names, number = self.after.class_names, len(self.after.class_names)
        changed = self.changed
        codes = self.before.labels[changed] * number + self.after.labels[changed]
        counts = torch.bincount(codes, minlength=number * number)
        order = torch.argsort(counts, descending=True, stable=True)[: int((counts > 0).sum())].tolist()
        return [(names[code // number], names[code % number], int(counts[code])) for code in order]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the maps as a dictionary that JSON can hold."""
        return {
            "properties": self.properties,
            "how": self.how,
            "region_pixels": None if self.region is None else int(self.region.sum()),
            "changed_pixels": int(self.changed.sum()),
            "flows": [{"from": old, "to": new, "pixels": pixels} for old, new, pixels in self.flows()],
            "class_scores": [
                {"class": name, "before": old, "after": new} for name, old, new in self.class_scores
            ],
            "shares_before": dict(self.before.shares()),
            "shares_after": dict(self.after.shares()),
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """One row per class, for `datasets.Dataset.from_list` or `pandas.DataFrame`."""
        old_shares, new_shares = dict(self.before.shares()), dict(self.after.shares())
        return [
            {
                "class": name,
                "score_before": old,
                "score_after": new,
                "share_before": old_shares.get(name, 0.0),
                "share_after": new_shares.get(name, 0.0),
            }
            for name, old, new in self.class_scores
        ]

    def to_text(self) -> str:
        """What was done, and which classes gained from which."""
        number = int(self.changed.sum())
        lines = [f"{self._done()}: {number:,} of {self.changed.numel():,} pixels change their class."]
        flows = self.flows()
        lines += [f"{old} -> {new}: {pixels:,} pixels" for old, new, pixels in flows[:10]]
        if len(flows) > 10:
            lines.append(f"and {len(flows) - 10} more pairs of classes")
        return "\n".join(lines)

    def _done(self) -> str:
        words = {"set": "set to {}", "add": "changed by {}", "multiply": "multiplied by {}"}[self.how]
        done = [
            f"“{name}” " + ("removed" if value is None else words.format(f"{value:g}"))
            for name, value in self.properties.items()
        ]
        where = "" if self.region is None else f" in a region of {int(self.region.sum()):,} pixels"
        return ", ".join(done) + where

    def _repr_html_(self) -> str:
        """For notebooks: the classes whose scores moved most."""
        moved = sorted(self.class_scores, key=lambda entry: -abs(entry[2] - entry[1]))[:10]
        first, *rest = self.to_text().splitlines()
        return bars_html(
            first, [(n, b, a) for n, b, a in moved], legend=("before", "after"), note="\n".join(rest)
        )


def intervene(
    model: nn.Module,
    processor: ImageProcessor,
    image: ImageLike,
    changes: Changes,
    *,
    region: Region | str | None = None,
    how: How = "set",
    **options: Unpack[InferenceOptions],
) -> Intervention:
    """Change what is seen in an image, property by property, and look at what becomes of its classes.

    Property scores are changed where the class rows are compared with them: at the resolution of the network's maps.
    The network runs once; `PropertyMaps` with `intervene_maps` asks many questions about one image without another
    run. Properties without words of a solved model stay as they are.

    Args:
        model: A `ProLabForSemanticSegmentation`.
        processor: Its image processor.
        image: An image of any size.
        changes: Property -> number, for example `{"four legs": 0.0}`. A property is named by its name, by a phrase of
            one of the classes, or by its number. `None` removes it: from the image and from the rows of all classes.
        region: Where: mask `(height, width)`, not zero inside, or the name of a class for all pixels labeled so;
            `None` for the whole image. In cells of the map at its border, scores with and without the change are mixed.
        how: `"set"` gives scores this value, `"add"` raises or lowers them by it, `"multiply"` scales them. Scores stay
            in [0, 1] (at least 0 for solved models; anything for the similarity `"cosine"`).
        **options: `mode`, `crop_size`, `stride`, `flip`, `scales`, `batch_size`, `resize_twice`, as for `segment`.

    Returns:
        Labels and scores before and after.

    Raises:
        ValueError: A property or class is unknown, a number is not finite or outside of its range, the region is empty
            or of another size, or the model has no properties.
        FileNotFoundError: If the path does not exist.

    Example:
        ```python
        found = intervene(model, processor, "room.jpg", {"four legs": 0.0}, region="table")
        print(found.to_text())
        ```
    """
    return intervene_maps(PropertyMaps(model, processor, image, **options), changes, region=region, how=how)


def intervene_maps(
    maps: PropertyMaps, changes: Changes, *, region: Region | str | None = None, how: How = "set"
) -> Intervention:
    """As `intervene`, of an image whose maps are kept: for sliders, some milliseconds per call.

    Args:
        maps: The image and how it is run.
        changes: See `intervene`.
        region: See `intervene`.
        how: See `intervene`.

    Raises:
        ValueError: As for `intervene`.
    """
    if how not in ("set", "add", "multiply"):
        raise ValueError(f"how is {how!r}; it must be 'set', 'add' or 'multiply'.")
    wanted = find_properties(maps, changes)
    _check_values(maps, wanted, how)
    before = maps.segmentation()
    where = _region(maps, before, region)
    edit = _Edit(maps, wanted, how, _cells_of(maps, where))
    after = maps.segmentation(edit=edit.scores)
    names = maps.property_names
    return Intervention(
        before=before,
        after=after,
        class_scores=edit.mean_scores(),
        properties={names[index]: value for index, value in wanted.items()},
        how=how,
        region=where,
    )


def find_properties(maps: PropertyMaps, changes: Changes) -> dict[int, float | None]:
    """Numbers of the named properties with what is done to them.

    Args:
        maps: The image.
        changes: See `intervene`.

    Raises:
        ValueError: There is no such property, one is named twice, or nothing is changed.
    """
    if not changes:
        raise ValueError('changes is empty; name at least one property, for example {"four legs": 0.0}.')
    names = maps.property_names
    index_of = {name: index for index, name in reversed(list(enumerate(names)))}
    info = maps.network.config.property_space_info or {}
    descriptions, phrases = info.get("descriptions") or {}, {}
    for name, indices in (info.get("assignments") or {}).items():
        phrases.update(zip(descriptions.get(name, ()), indices))
    found: dict[int, float | None] = {}
    for key, value in changes.items():
        index = key if isinstance(key, int) else index_of.get(key, phrases.get(key))
        if index is None or not 0 <= index < len(names):
            known = f"numbers 0 to {len(names) - 1}" if isinstance(key, int) else f"{len(names)} properties"
            hint = did_you_mean(key, [*names, *phrases])
            raise ValueError(
                f"There is no property {key!r}; the model has {known} (model.property_space.property_names){hint}"
            )
        if index in found:
            raise ValueError(f"changes names the property {names[index]!r} twice.")
        found[index] = None if value is None else float(value)
    return found


def _check_values(maps: PropertyMaps, wanted: Mapping[int, float | None], how: How) -> None:
    similarity = maps.network.config.similarity
    for index, value in wanted.items():
        if value is None:
            continue
        name = maps.property_names[index]
        if not math.isfinite(value):
            raise ValueError(f"The number of the property {name!r} is {value}; it must be finite.")
        if how == "multiply" and value < 0:
            raise ValueError(f"The factor of the property {name!r} is {value}; it must be at least 0.")
        if how == "set" and similarity != "cosine" and not 0 <= value <= 1:
            raise ValueError(f"The score of the property {name!r} is {value}; scores lie in [0, 1].")


def _region(maps: PropertyMaps, before: Segmentation, region: Region | str | None) -> Tensor | None:
    if region is None:
        return None
    if isinstance(region, str):
        mask = before.mask(region)
        if not mask.any():
            raise ValueError(f"No pixel of the image is labeled {region}; name a class that was found.")
        return mask
    return as_region(region, maps.size)


class _Edit:
    """Class scores after a change, by the model's own formula.

    Args:
        maps: The image.
        wanted: Number of the property -> value, `None` to remove it.
        how: What is done with the value.
        cells: Where.
    """

    def __init__(
        self, maps: PropertyMaps, wanted: Mapping[int, float | None], how: How, cells: RegionCells
    ) -> None:
        self.maps, self.how = maps, how
        self.similarity = maps.network.config.similarity
        self.indices, self.values = list(wanted), list(wanted.values())
        self.removed = [index for index, value in wanted.items() if value is None]
        self.cells = cells
        self._scores: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def scores(self, found: PassMaps, stream: int, window: int) -> Tensor:
        """Class scores `(num_labels, height, width)` of one pass after the change."""
        old = found.compared[self.indices]
        new = torch.stack([self._changed(channel, value) for channel, value in zip(old, self.values)])
        edited = found.compared.clone()
        edited[self.indices] = new
        scores: Tensor = self.maps.network.similarity_of_scores(edited[None])[0]
        if self.removed:
            scores = self._without_removed(scores, len(edited))
        if self.maps.offsets is not None:
            scores = scores + self.maps.offsets.to(scores)[:, None, None]
        if self.cells.region is not None:
            _, inside = self.cells.of(stream, window, found.size)
            scores = torch.lerp(found.scores, scores, inside.to(scores))
        self._scores[stream, window] = (found.scores, scores)
        return scores

    def _changed(self, channel: Tensor, value: float | None) -> Tensor:
        if value is None:
            return torch.zeros_like(channel)
        if self.how == "set":
            return torch.full_like(channel, value)
        changed = channel + value if self.how == "add" else channel * value
        if self.similarity == "cosine":
            return changed
        # Solved scores may exceed 1 by themselves; raising must not cut them.
        top = None if self.similarity == "linear_cosine" else 1.0
        return changed.clamp(0.0, top)

    def _without_removed(self, scores: Tensor, number: int) -> Tensor:
        """Scores as if the rows of the classes lacked the removed properties, whose scores are 0 already.

        Args:
            scores: `(num_labels, height, width)`.
            number: Properties in all.
        """
        rows = self.maps.rows(number).to(scores.dtype)
        before = rows.square().sum(1)[:, None, None]
        gone = rows[:, self.removed].square().sum(1)[:, None, None]
        if self.similarity == "sigmoid_l2":
            squared = ((1 - scores) * number**0.5).square() - gone
            return 1 - squared.clamp_min(0).sqrt() / number**0.5
        # A class without any property left is like nothing.
        left = before - gone
        return torch.where(left > EPSILON, scores * (before / left.clamp_min(EPSILON)).sqrt(), 0.0)

    def mean_scores(self) -> list[tuple[str, float, float]]:
        """Mean class scores over the region before and after, by class."""
        names, runs = self.maps.class_names, len(self.maps.streams)
        total = torch.zeros(2, len(names))
        for (stream, window), pair in self._scores.items():
            for row, scores in enumerate(pair):
                weights, _ = self.cells.of(stream, window, (int(scores.shape[-2]), int(scores.shape[-1])))
                total[row] += (scores.flatten(1) @ weights.to(scores).flatten()).cpu() / runs
        return [(name, float(old), float(new)) for name, old, new in zip(names, *total)]


_LAST_CELLS: WeakKeyDictionary[PropertyMaps, RegionCells] = WeakKeyDictionary()
"""A slider asks about one region many times, and its cells take longer than the answer."""


def _cells_of(maps: PropertyMaps, region: Tensor | None) -> RegionCells:
    found = _LAST_CELLS.get(maps)
    if found is None or not found.is_of(region):
        found = _LAST_CELLS[maps] = RegionCells(maps.streams, region)
    return found


__all__ = ["Changes", "Intervention", "find_properties", "intervene", "intervene_maps"]
