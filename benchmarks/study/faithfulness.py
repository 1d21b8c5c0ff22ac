"""Are the reasons the reasons? What is left of a margin when the strongest contributions are taken away, or random ones."""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.study.heads import Fitted
from benchmarks.study.records import Table, Value
from benchmarks.study.tables import Bench

NUMBERS_REMOVED = (1, 2, 3, 5, 8)
NUM_TEST = 4000
REPEATS = 5
FAITHFUL = ("property, closed form", "property", "property + class", "bce + class", "random codes")


def margins(scores: Tensor, rows: Tensor, winner: Tensor, runner_up: Tensor) -> Tensor:
    """Score of the first class minus that of the second, `(pixels,)`, for property scores `(pixels, properties)`."""
    unit = F.normalize(rows, dim=1)
    similar = F.normalize(scores, dim=1)
    return (similar * (unit[winner] - unit[runner_up])).sum(dim=1)


def removal(fitted: Fitted, features: Tensor, seed: int) -> dict[str, Value]:
    """Margin that is left, and share of pixels that change their class, after properties are set to 0.

    Only properties of the winning class are removed: its k strongest contributions, or k random ones of them.
    """
    assert fitted.properties is not None and fitted.rows is not None
    with torch.no_grad():
        scores, rows = fitted.properties(features), fitted.rows
    unit = F.normalize(rows, dim=1)
    similar = F.normalize(scores, dim=1) @ unit.t()
    first, second = similar.topk(2, dim=1).indices.t()
    before = margins(scores, rows, first, second)
    own = rows[first] > 0
    generator = torch.Generator().manual_seed(seed)
    result: dict[str, Value] = {"margin": float(before.mean())}

    def after(order: Tensor, number: int) -> tuple[float, float]:
        kept = scores.scatter(1, order[:, :number], 0.0)
        left = margins(kept, rows, first, second)
        changed = (F.normalize(kept, dim=1) @ unit.t()).argmax(dim=1) != first
        return float(left.mean() / before.mean()), float(changed.float().mean())

    strongest = torch.where(own, scores, -1.0).argsort(dim=1, descending=True)
    for number in NUMBERS_REMOVED:
        left, changed = after(strongest, number)
        result |= {f"left, top {number}": left, f"changed, top {number}": changed}
        draws = []
        for _ in range(REPEATS):
            chance = torch.where(own, torch.rand(own.shape, generator=generator), -1.0)
            draws.append(after(chance.argsort(dim=1, descending=True), number))
        mean = torch.tensor(draws).mean(dim=0)
        result |= {f"left, random {number}": float(mean[0]), f"changed, random {number}": float(mean[1])}
    return result


def faithfulness(bench: Bench, table: Table) -> None:
    """Contributions removed from the scores of test pixels, all classes trained."""
    everything = list(range(len(bench.data.class_names)))
    for seed in bench.seeds:
        split = bench.data.split(seed)
        chance = split.test.weights.double()
        index = torch.multinomial(
            chance, NUM_TEST, replacement=True, generator=torch.Generator().manual_seed(seed)
        )
        features = split.test.features[index]
        for arm in bench.chosen(FAITHFUL):
            rate = None if arm.kind == "solved" else bench.rate(arm, bench.medium)
            table.measure(
                bench.key(arm=arm.name, seed=seed),
                lambda arm=arm, rate=rate: removal(  # type: ignore[misc]
                    bench.fit(
                        arm, split, split.fit, everything, steps=bench.medium, rate=rate, seed=seed, tag=f"all {seed}"
                    ),
                    features,
                    seed,
                ),
            )
