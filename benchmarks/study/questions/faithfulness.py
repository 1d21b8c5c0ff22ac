"""Are the reasons the reasons? What is left of a margin without the strongest contributions, or random ones."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.study.heads import Fitted
from benchmarks.study.records import Table, Value
from benchmarks.study.tables import Bench, all_classes, measure_arms

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

    Only properties of the winning class are removed: the k that add most to its lead over the runner-up (`decisive`),
    the k that add most to its score (`strongest`), or k random ones of them.
    """
    if fitted.properties is None or fitted.rows is None:
        raise ValueError("A head without properties has no contributions.")
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

    orders = {"decisive": scores * (unit[first] - unit[second]), "strongest": scores}
    for number in NUMBERS_REMOVED:
        for name, worth in orders.items():
            order = torch.where(own, worth, -2.0).argsort(dim=1, descending=True)
            left, changed = after(order, number)
            result |= {f"left, {name} {number}": left, f"changed, {name} {number}": changed}
        draws = []
        for _ in range(REPEATS):
            chance = torch.where(own, torch.rand(own.shape, generator=generator), -1.0)
            draws.append(after(chance.argsort(dim=1, descending=True), number))
        mean = torch.tensor(draws).mean(dim=0)
        result |= {f"left, random {number}": float(mean[0]), f"changed, random {number}": float(mean[1])}
    return result


def faithfulness(bench: Bench, table: Table) -> None:
    """Contributions removed from the scores of test pixels, all classes trained."""
    everything = all_classes(bench)
    for seed in bench.seeds:
        split = bench.data.split(seed)
        chance = split.test.weights.double()
        index = torch.multinomial(
            chance, NUM_TEST, replacement=True, generator=torch.Generator().manual_seed(seed)
        )
        figures = partial(removal, features=split.test.features[index], seed=seed)
        measure_arms(
            bench, table, bench.chosen(FAITHFUL), split, everything, figures, seed=seed, tag=f"all {seed}"
        )
