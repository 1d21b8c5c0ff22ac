"""What the page is told about an image: the label map, why a place has its class, where properties are seen."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from prolab_hf.explanation.contributions import Explanation
from prolab_hf.explanation.overlays import class_colors

MAX_KNOWN_NAMES = 2048
HARDLY_SEEN = 0.5
"""Scores below this count as hardly seen, as `explain` has it."""


class ClassPalette:
    """One color per class name for all models of a visitor, whatever is edited; a renamed class keeps its color."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def places(self, names: Sequence[str]) -> list[int]:
        """Places in the sequence of `class_colors`, different for different names.

        Args:
            names: Classes of a model.
        """
        if len(self._places) > MAX_KNOWN_NAMES:
            self._places.clear()
        found: list[int] = []
        for name in names:
            place = self._places.get(name)
            if place is None or place in found:
                taken = {*self._places.values(), *found}
                place = self._places[name] = next(number for number in count() if number not in taken)
            found.append(place)
        return found

    def colors(self, names: Sequence[str]) -> list[tuple[int, int, int]]:
        """Red, green and blue of each class.

        Args:
            names: Classes of a model.
        """
        places = self.places(names)
        known = class_colors(max(places, default=0) + 1)
        return [known[place] for place in places]

    def go_on(self, successors: Mapping[str, str]) -> None:
        """Gives new names the color of what they were before.

        Args:
            successors: Class before an edit -> class after it.
        """
        for old, new in successors.items():
            if new not in self._places and old in self._places:
                self._places[new] = self._places[old]


def hex_colors(colors: Sequence[tuple[int, int, int]]) -> list[str]:
    """Colors as `#rrggbb`.

    Args:
        colors: Red, green and blue.
    """
    return ["#{:02x}{:02x}{:02x}".format(*color) for color in colors]


def label_runs(labels: np.ndarray) -> np.ndarray:
    """Labels in reading order as runs: id, length, id, length, ...

    Args:
        labels: Class ids `(height, width)`.
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return np.stack([flat[starts], lengths], axis=1).astype(np.int32).ravel()


def at_size(labels: Tensor, size: tuple[int, int]) -> np.ndarray:
    """A label map at another size, every pixel with the label of the nearest one.

    Args:
        labels: Class ids `(any height, any width)`.
        size: Height and width of the result.
    """
    ids: np.ndarray = labels.numpy()
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
        for new, old in zip(size, ids.shape)
    )
    return ids[rows[:, None], columns]


def polygon_mask(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    """The pixels inside of a drawn outline.

    Args:
        points: Corners `(x, y)` in pixels, at least three.
        size: Height and width of the image.

    Returns:
        Bool `(height, width)`.

    Raises:
        ValueError: If there is no pixel inside of it.
    """
    height, width = size
    mask = Image.new("1", (width, height))
    if len(points) >= 3:
        ImageDraw.Draw(mask).polygon(list(points), fill=1, outline=1)
    inside = np.asarray(mask)
    if not inside.any():
        raise ValueError("There is no pixel inside of the region; draw it larger.")
    return inside


def explanation_answer(explanation: Explanation, rival_phrases: Mapping[str, str]) -> dict[str, Any]:
    """`Explanation.to_dict()`, its properties also by number and in words, with the rival's side of each.

    Args:
        explanation: What was found.
        rival_phrases: Property -> words of the class that it is compared with.
    """
    data: dict[str, Any] = explanation.to_dict() | {"text": explanation.to_text()}
    numbers = {name: k for k, (name, _) in enumerate(explanation.property_scores)}
    scores, own = dict(explanation.property_scores), set(explanation.expected)
    rival = explanation.runner_up
    theirs = set(rival.expected) if rival is not None else set()
    differences = dict(rival.deciding) if rival is not None else {}
    if rival is not None:
        unseen = sorted((scores[name], name) for name in theirs if scores[name] < HARDLY_SEEN)
        data["runner_up"]["unseen"] = [{"property": name, "score": score} for score, name in unseen]
    compared = data["runner_up"] or {"deciding": [], "unseen": []}
    for entry in (*data["contributions"], *data["missing"], *data["unexpected"],
                  *compared["deciding"], *compared["unseen"]):  # fmt: skip
        name = entry["property"]
        is_own = name in own
        entry |= {
            "phrase": explanation.phrase(name) if is_own else rival_phrases.get(name, name),
            "score": scores.get(name),
            "own": is_own,
            "theirs": name in theirs,
        }
        if name in numbers:  # terms that are no properties have no number
            entry["index"] = numbers[name]
        if "share" in entry and rival is not None:
            entry["runner_up_share"] = entry["share"] - differences[name]
    return data


__all__ = ["ClassPalette", "at_size", "explanation_answer", "hex_colors", "label_runs", "polygon_mask"]
