"""Property maps against the truth: on drawn scenes every pixel's properties are known."""

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from benchmarks.study.heads import Fitted
from benchmarks.study.pixels import Pixels
from benchmarks.study.records import Table, Value
from benchmarks.study.tables import HELD_OUT, Bench

ARMS_WITH_PROPERTIES = (
    "property", "bce", "property + class", "bce + class", "solved, then bce + class", "property, closed form",
    "random codes",
)  # fmt: skip


def average_precisions(fitted: Fitted, pixels: Pixels, rows: torch.Tensor) -> list[float]:
    """Average precision of every property's score as a detector of the pixels that truly have it.

    NaN where no pixel or every pixel has the property.
    """
    assert fitted.properties is not None
    with torch.no_grad():
        scores = fitted.properties(pixels.features)
    truth = rows[pixels.labels] > 0
    result = []
    for k in range(truth.shape[1]):
        has = truth[:, k].numpy()
        if has.all() or not has.any():
            result.append(float("nan"))
        else:
            result.append(
                float(average_precision_score(has, scores[:, k].numpy(), sample_weight=pixels.weights.numpy()))
            )
    return result


def recognized(fitted: Fitted, pixels: Pixels, row: torch.Tensor) -> float:
    """Weighted AUC-like rank: among one class's pixels, share of pairs (own property, other property) ordered rightly."""
    assert fitted.properties is not None
    with torch.no_grad():
        scores = fitted.properties(pixels.features)
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
        fit = split.fit.of_classes(known)
        seen = split.test.take(torch.isin(split.test.labels, torch.tensor(known)))
        new = split.test.take(torch.isin(split.test.labels, torch.tensor(held)))

        def measure(fitted: Fitted, seen: Pixels = seen, new: Pixels = new, test: Pixels = split.test) -> dict[str, Value]:
            on_seen = average_precisions(fitted, seen, rows)
            on_all = average_precisions(fitted, test, rows)
            has = rows[held[0]] > 0
            return {
                "ap, seen classes": float(np.nanmean(on_seen)),
                "ap, chance": float(
                    np.nanmean([_prevalence(seen, rows[:, k]) for k in range(rows.shape[1]) if not np.isnan(on_seen[k])])
                ),
                "ap of the unseen class's properties, all pixels": float(np.nanmean(np.array(on_all)[has.numpy()])),
                "own before other, unseen class": recognized(fitted, new, rows[held[0]]),
                "own before other, seen classes": float(
                    np.mean([recognized(fitted, seen.take(seen.labels == c), rows[c]) for c in known if (seen.labels == c).any()])
                ),
                "aps": on_seen,
            }  # fmt: skip

        for arm in bench.chosen(ARMS_WITH_PROPERTIES):
            rate = None if arm.kind == "solved" else bench.rate(arm, bench.medium)
            table.measure(
                bench.key(arm=arm.name, seed=seed),
                lambda arm=arm, rate=rate, measure=measure: measure(  # type: ignore[misc]
                    bench.fit(arm, split, fit, known, steps=bench.medium, rate=rate, seed=seed, tag=f"kiosk {seed}")
                ),
            )


def _prevalence(pixels: Pixels, has: torch.Tensor) -> float:
    inside = has[pixels.labels] > 0
    return float(pixels.weights[inside].sum() / pixels.weights.sum())
