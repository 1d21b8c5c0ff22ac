"""The closed-form head and described classes: rows, responses, offsets. Everything here follows from the configuration.

A solved last layer gives one response `u_c` per trained class: the ridge regression of "this pixel is of class c".
The property logits are `sum over c of u_c (2 y_c - 1)`, because the regression onto the signs of the rows is linear in
these signs. So words enter after the last layer only: another description, property or space needs no image.

The property without words that a trained class has may follow from the same responses, or, where a solution that only
has to tell the trained classes apart was added, from a second response per trained class, behind the first ones.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .configuration_prolab import ProLabConfig

RESPONSE_STEP = 1 / 4096
"""Step of responses and raw logits in the calibration sample; property scores have 1 / 255."""
TIE = 1e-6
"""Distance that keeps a pixel of the sample on its side of an offset after rounding."""


def label_names(config: ProLabConfig) -> list[str]:
    """Names of the classes in the order of their ids."""
    names: dict[int, str] = {int(index): name for index, name in dict(config.id2label or {}).items()}
    return [names[index] for index in range(len(names))]


def num_responses(config: ProLabConfig) -> int:
    """Number of channels of the last layer of a `"linear_cosine"` model."""
    return num_trained(config) * (2 if config.unspoken_responses else 1)


def num_trained(config: ProLabConfig) -> int:
    """Number of trained classes of a `"linear_cosine"` model."""
    return len(config.trained_classes) if config.trained_classes is not None else int(config.num_labels or 0)


def class_sources(config: ProLabConfig) -> list[list[int]]:
    """Per class the trained classes that it stands for; empty for a class that is only described."""
    names = label_names(config)
    if config.class_sources is not None and len(config.class_sources) == len(names):
        return [list(row) for row in config.class_sources]
    if config.trained_classes is None:
        return [[index] for index in range(len(names))]
    position = {name: index for index, name in enumerate(config.trained_classes)}
    return [[position[name]] if name in position else [] for name in names]


def is_trained(config: ProLabConfig) -> Tensor:
    """Bool `(num_labels,)`: which classes were trained."""
    return torch.tensor([bool(row) for row in class_sources(config)], dtype=torch.bool, device="cpu")


def plain_rows(config: ProLabConfig) -> Tensor:
    """Multi-hot rows `(num_labels, num_properties)` of the classes; all zero where the configuration has none."""
    shape = int(config.num_labels or 0), config.num_properties
    matrix = torch.zeros(shape, dtype=torch.float32, device="cpu")
    for row, properties in zip(matrix, config.class_properties or []):
        row[properties] = 1.0
    return matrix


def unspoken_columns(config: ProLabConfig) -> Tensor:
    """Which class each property without words belongs to, `(num_labels, number of them)` of 0 and 1."""
    trained = is_trained(config)
    if config.similarity != "linear_cosine" or not config.unspoken_weight:
        return torch.zeros(len(trained), 0, device="cpu")
    return torch.eye(len(trained), device="cpu")[:, trained]


def class_rows_of(config: ProLabConfig) -> Tensor:
    """Rows with the properties without words behind the named ones, `(num_labels, num_properties + unspoken)`."""
    return torch.cat([plain_rows(config), unspoken_columns(config) * config.unspoken_weight], dim=1)


def response_targets(config: ProLabConfig) -> Tensor:
    """What each response adds to each logit, `(num_responses, num_properties + unspoken)`.

    A trained class that is no longer among the classes adds nothing to the named properties.
    """
    rows, own, weight = plain_rows(config), unspoken_columns(config), float(config.unspoken_weight)
    number = num_trained(config)
    named = torch.zeros(num_responses(config), rows.shape[1], device="cpu")
    unspoken = torch.zeros(num_responses(config), own.shape[1], device="cpu")
    if not config.unspoken_responses:
        unspoken -= weight
    for label, sources in enumerate(class_sources(config)):
        for source in sources:
            named[source] = 2 * rows[label] - 1
            if config.unspoken_responses:
                unspoken[number + source] = own[label] * weight
            else:
                unspoken[source] = (2 * own[label] - 1) * weight
    return torch.cat([named, unspoken], dim=1)


def offsets_tensor(config: ProLabConfig) -> Tensor:
    """Offsets `(num_labels,)`; zeros where there are none."""
    values = config.class_offsets
    if values is None or len(values) != config.num_labels:
        return torch.zeros(int(config.num_labels or 0), device="cpu")
    return torch.tensor([float(value) for value in values], dtype=torch.float32, device="cpu")


# ---- which trained classes a new space means ------------------------------------------------------------------


class Described(NamedTuple):
    """What tells one class from another beside its name: its sentences, and where there are none its properties."""

    sentences: frozenset[str]
    properties: frozenset[str]

    @property
    def words(self) -> frozenset[str]:
        """The sentences; where there are none the names of the properties."""
        return self.sentences or self.properties


def described(
    names: Sequence[str],
    rows: Sequence[Sequence[int]],
    property_names: Sequence[str] | None,
    descriptions: Mapping[str, Sequence[str]],
) -> dict[str, Described]:
    """The words of every class."""
    words = property_names or [str(index) for index in range(max((max(row) for row in rows), default=0) + 1)]
    return {
        name: Described(frozenset(descriptions.get(name, ())), frozenset(words[index] for index in row))
        for name, row in zip(names, rows)
    }


def matched_sources(
    old: Mapping[str, Described],
    old_sources: Mapping[str, Sequence[int]],
    new: Mapping[str, Described],
    trained_classes: Sequence[str],
) -> list[list[int]]:
    """Which trained classes each class of a new space stands for.

    By name first. A new name stands for the classes that vanished if their words together are exactly its own: so a
    renamed or merged class keeps what was learned.
    """
    position = {name: index for index, name in enumerate(trained_classes)}
    vanished = [name for name in old if name not in new and old_sources.get(name)]
    result: list[list[int]] = []
    for name, words in new.items():
        if old_sources.get(name):
            found = list(old_sources[name])
        elif name in position:
            found = [position[name]]
        elif name in old:
            found = []
        else:
            parts = [gone for gone in vanished if old[gone].words <= words.words]
            whole = frozenset[str]().union(*(old[gone].words for gone in parts))
            found = [index for gone in parts for index in old_sources[gone]] if whole == words.words else []
        result.append(found)
    taken: set[int] = set()
    for row in result:  # a trained class is counted once
        row[:] = [index for index in dict.fromkeys(row) if index not in taken]
        taken.update(row)
    return result


# ---- offsets ------------------------------------------------------------------------------------------------


def quantized(values: Tensor, *, is_score: bool) -> Tensor:
    """Values of the calibration sample as integers: uint8 for scores in [0, 1], int16 for responses and logits."""
    if is_score:
        return (values.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return (values.float() / RESPONSE_STEP).round().clamp(-32767, 32767).to(torch.int16)


def dequantized(values: Tensor) -> Tensor:
    """The inverse of `quantized`, float32."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float() * RESPONSE_STEP


def claim_margins(class_scores: Tensor, trained: Tensor) -> Tensor:
    """How far each described class is behind the best known class at each pixel.

    Args:
        class_scores: `(pixels, num_labels)` without offsets.
        trained: Bool `(num_labels,)`.

    Returns:
        `(pixels, number of described classes)`; negative where the described class leads.
    """
    best = class_scores[:, trained].amax(dim=1, keepdim=True)
    return best - class_scores[:, ~trained]


def budget_offset(margins: Tensor, budget: float) -> float:
    """The largest offset at which at most a share `budget` of the margins `(pixels,)` is overcome."""
    allowed = min(int(budget * margins.numel() + 1e-9), margins.numel() - 1)
    return float(margins.sort().values[allowed]) - TIE


def claim_offsets(class_scores: Tensor, trained: Tensor, budget: float) -> list[float]:
    """One offset per class: 0 for trained ones, for each described one the largest that its budget allows.

    Args:
        class_scores: `(pixels, num_labels)` of pixels of known classes, without offsets.
        trained: Bool `(num_labels,)`.
        budget: Share of these pixels that may change to each described class.

    Raises:
        ValueError: The budget is no share, or no class is trained.
    """
    if not 0 <= budget < 1:
        raise ValueError(
            f"claim_budget is {budget!r}; it must be a share from 0 to below 1, or None for no offsets."
        )
    if not trained.any():
        raise ValueError(
            "No class of the space was trained, so there is nothing to compare described classes with."
        )
    margins = claim_margins(class_scores, trained)
    offsets = torch.zeros(len(trained), dtype=torch.float64)
    offsets[~trained] = torch.tensor(
        [budget_offset(column, budget) for column in margins.t()], dtype=torch.float64
    )
    return [float(value) for value in offsets]
