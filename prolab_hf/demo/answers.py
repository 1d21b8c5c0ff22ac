"""What the page is told about an image: the label map, why a place has its class, where properties are seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from prolab_hf.explanation.contributions import Explanation


def label_runs(labels: np.ndarray) -> list[int]:
    """Labels in reading order as runs: id, length, id, length, ...

    Args:
        labels: Class ids `(height, width)`.
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    numbers: list[int] = np.stack([flat[starts], lengths], axis=1).ravel().tolist()
    return numbers


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


def explanation_answer(explanation: Explanation, rival: Explanation | None) -> dict[str, Any]:
    """`Explanation.to_dict()`, its properties also by number, with the rival's side of each.

    Args:
        explanation: Of the class in question.
        rival: Of the class that it is compared with, at the same place.
    """
    data = _with_numbers(explanation)
    if rival is None:
        return data
    shares, scores = dict(rival.contributions), dict(explanation.property_scores)
    own, theirs = set(explanation.expected), set(rival.expected)
    for entry in data["contributions"]:
        entry["runner_up_share"] = shares[entry["property"]]
        entry["theirs"] = entry["property"] in theirs
    for entry in data["runner_up"]["deciding"]:
        name = entry["property"]
        entry |= {
            "score": scores.get(name),
            "own": name in own,
            "theirs": name in theirs,
            "phrase": explanation.phrase(name) if name in own else rival.phrase(name),
        }
    data["runner_up"]["unseen"] = _with_numbers(rival)["missing"]
    return data


def _with_numbers(explanation: Explanation) -> dict[str, Any]:
    """The explanation as a dictionary in which every property also has its number and the class's own words."""
    index = {name: k for k, (name, _) in enumerate(explanation.property_scores)}
    data = explanation.to_dict()
    data["text"] = explanation.to_text()
    rival = data["runner_up"]
    lists = [data[part] for part in ("contributions", "missing", "unexpected")]
    for entry in (
        entry for part in [*lists, rival["deciding"] if rival is not None else []] for entry in part
    ):
        entry.setdefault("phrase", explanation.phrase(entry["property"]))
        if entry["property"] in index:  # terms that are no properties have no number
            entry["index"] = index[entry["property"]]
    return data


__all__ = ["at_size", "explanation_answer", "label_runs", "polygon_mask"]
