"""Property maps against the truth: on drawn scenes every pixel's properties are known."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from benchmarks.study.heads import Fitted, Scores
from benchmarks.study.pixels import Pixels, Split
from benchmarks.study.records import Table, Value
from benchmarks.study.tables import HELD_OUT, Bench, measure_arms

ARMS_WITH_PROPERTIES = (
    "property", "bce", "property + class", "bce + class", "solved, then bce + class", "property, closed form",
    "random codes",
)  # fmt: skip


def average_precisions(fitted: Fitted, pixels: Pixels, rows: torch.Tensor) -> list[float]:
    """Average precision of every property's score as a detector of the pixels that truly have it.

    NaN where no pixel or every pixel has the property.
    """
    properties = _properties(fitted)
    with torch.no_grad():
        scores = properties(pixels.features)
    truth = rows[pixels.labels] > 0
    result = []
    for k in range(truth.shape[1]):
        has = truth[:, k].numpy()
        if has.all() or not has.any():
            result.append(float("nan"))
        else:
            result.append(
                float(
                    average_precision_score(has, scores[:, k].numpy(), sample_weight=pixels.weights.numpy())
                )
            )
    return result


def recognized(fitted: Fitted, pixels: Pixels, row: torch.Tensor) -> float:
    """Share of pairs (own property, other property) whose scores are in the right order, over one class's pixels."""
    properties = _properties(fitted)
    with torch.no_grad():
        scores = properties(pixels.features)
    own, other = scores[:, row > 0], scores[:, row == 0]
    right = (own[:, :, None] > other[:, None, :]).float().mean(dim=(1, 2))
    return float((right * pixels.weights).sum() / pixels.weights.sum())


def true_properties(bench: Bench, table: Table) -> None:
    """The kiosk's pixels are void in training; its properties were seen on other classes."""
    number = len(bench.data.class_names)
    held = [bench.data.class_names.index(name) for name in HELD_OUT[bench.data.name][0]]
    known = [c for c in range(number) if c not in held]
    rows = bench.words.rows
    for seed in bench.seeds:
        split = bench.data.split(seed)
        figures = partial(_figures, split=split, rows=rows, known=known, held=held[0])
        measure_arms(
            bench, table, bench.chosen(ARMS_WITH_PROPERTIES), split, known, figures, seed=seed,
            tag=f"kiosk {seed}",
        )  # fmt: skip


def _figures(
    fitted: Fitted, *, split: Split, rows: torch.Tensor, known: Sequence[int], held: int
) -> Mapping[str, Value]:
    test, has = split.test, (rows[held] > 0).numpy()
    seen = test.take(torch.isin(test.labels, torch.tensor(known)))
    new = test.take(test.labels == held)
    on_seen = average_precisions(fitted, seen, rows)
    on_all = np.array(average_precisions(fitted, test, rows))
    chance = [_prevalence(seen, rows[:, k]) for k, value in enumerate(on_seen) if not np.isnan(value)]
    per_class = [
        recognized(fitted, seen.take(seen.labels == c), rows[c]) for c in known if (seen.labels == c).any()
    ]
    return {
        "ap, seen classes": float(np.nanmean(on_seen)),
        "ap, chance": float(np.mean(chance)),
        "ap of the unseen class's properties, all pixels": float(np.nanmean(on_all[has])),
        "own before other, unseen class": recognized(fitted, new, rows[held]),
        "own before other, seen classes": float(np.mean(per_class)),
        "aps": on_seen,
    }


def _prevalence(pixels: Pixels, has: torch.Tensor) -> float:
    inside = has[pixels.labels] > 0
    return float(pixels.weights[inside].sum() / pixels.weights.sum())


def _properties(fitted: Fitted) -> Scores:
    if fitted.properties is None:
        raise ValueError("A head without properties has no property maps.")
    return fitted.properties
