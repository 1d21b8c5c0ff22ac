"""The tables on frozen features: which arms, at which budgets, on which data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from benchmarks.study.heads import ARMS, Arm, Fitted, Statistics, Words, solve, train
from benchmarks.study.measures import (
    all_figures,
    class_ious,
    confusion,
    harmonic,
    scores_of,
    unseen_figures,
)
from benchmarks.study.pixels import DataSet, Pixels, Split
from benchmarks.study.records import Record, Table, Value

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FIRST_RATES = (3, 4, 5, 6)
"""Places of the rates that are tried first; further ones where the best is at an end."""
MEDIUM = 200
BUDGETS = (50, MEDIUM, 1000)
HELD_OUT = {
    "msrc-v2": (
        ("cow", "cat", "flower", "chair"), ("sheep", "dog", "boat", "book"),
        ("horse", "bird", "bicycle", "road"), ("car", "tree", "aeroplane", "sign"),
    ),
    "camvid": (("bicyclist", "pavement"), ("car", "fence"), ("tree", "pole"), ("road", "sign")),
    "scenes": (("kiosk",),),
}  # fmt: skip
CLOSED = ("category, closed form", "property, closed form", "property + unspoken, closed form")
TRAINED = (
    "category", "category, weighted", "property", "property, weighted", "bce", "property + class",
    "class term only", "bce + class", "bce + property + class, weighted",
    "property + class, learned temperature", "class, then property + class", "solved, then property",
    "solved, then property + class", "solved, then bce + class", "class names", "random codes", "one-hot",
)  # fmt: skip
FEW = (
    "category", "property", "property + class", "bce + class", "solved, then bce + class", *CLOSED[:2],
    "random codes",
)  # fmt: skip
UNSEEN = (
    "category", "property", "property, weighted", "bce", "property + class", "bce + class",
    "bce + property + class, weighted", "class, then property + class", "solved, then property + class",
    "solved, then bce + class", "class names", "random codes", "shuffled rows", *CLOSED,
    "random codes, closed form", "shuffled rows, closed form",
)  # fmt: skip
NUMBERS = (10, 30, 100)
NOISE = (0.1, 0.3)


@dataclass
class Bench:
    """One data set with what the arms share.

    Attributes:
        data: Pixels and words.
        name_embeddings: Of the class names, by the encoder of the space.
        seeds: To measure.
        rates: Table of learning rates.
        arms: Only these; `None` = those of the table.
        budgets: Steps of 512 pixels: short, medium, long.
        medium: The budget of all tables but `budgets`.
        numbers: Training images of `data-efficiency`.
        statistics: Of the last split that was solved on.
    """

    data: DataSet
    name_embeddings: Tensor
    seeds: Sequence[int]
    rates: Table
    arms: Sequence[str] | None = None
    budgets: Sequence[int] = BUDGETS
    medium: int = MEDIUM
    numbers: Sequence[int] = NUMBERS
    statistics: dict[str, Statistics] = field(default_factory=dict)

    @property
    def words(self) -> Words:
        """Of all classes."""
        space = self.data.space
        return Words(space.class_property_matrix.float(), space.property_embeddings, self.name_embeddings)

    def key(self, **more: Value) -> dict[str, Value]:
        """The part of a record's key that says which data it is."""
        return {"data": self.data.name, "backbone": self.data.backbone, **more}

    def chosen(self, names: Sequence[str]) -> list[Arm]:
        """The arms of a table, or those of them that were asked for."""
        return [ARMS[name] for name in names if self.arms is None or name in self.arms]

    def rate(self, arm: Arm, steps: int, words: Words | None = None) -> float:
        """The learning rate with the highest mean IoU on the validation images of seed 0, chosen once per arm.

        Arms with as many steps as 200 or more share one choice.
        """
        steps = min(steps, self.medium)

        def choose() -> dict[str, Value]:
            split, everything = self.data.split(0), list(range(len(self.data.class_names)))
            known = sorted(split.fit.labels.unique().tolist())
            fit, found = split.fit.of_classes(known), {}
            waiting = list(FIRST_RATES)
            while waiting:
                place = waiting.pop(0)
                head = self.fit(
                    arm, split, fit, known, steps=steps, rate=RATES[place], seed=0, tag="rate", words=words
                )
                predicted = scores_of(head.scores, split.validation.features).argmax(dim=1)
                ious = class_ious(confusion(predicted, split.validation, len(everything)))
                found[place] = float(np.nanmean(ious))
                best = max(found, key=lambda each: found[each])
                if not waiting:  # go on where the best is at an end
                    near = (best - 1, best + 1)
                    waiting = [each for each in near if 0 <= each < len(RATES) and each not in found][:1]
            return {"rate": RATES[best], "miou": {f"{RATES[each]:g}": value for each, value in found.items()}}

        key = self.key(arm=arm.name, temperature=arm.temperature, hidden=arm.hidden, steps=steps)
        return float(self.rates.measure(key, choose)["rate"])  # type: ignore[arg-type]

    def fit(
        self, arm: Arm, split: Split, fit: Pixels, known: Sequence[int], *, steps: int, seed: int, tag: str,
        rate: float | None = None, labels: Tensor | None = None, words: Words | None = None,
    ) -> Fitted:  # fmt: skip
        """Trains or solves one arm.

        Args:
            arm: The objective.
            split: Where validation pixels come from.
            fit: Pixels to fit on, numbered among the known classes.
            known: Ids of the classes that are trained.
            steps: Of training.
            seed: Of weights, order and controls.
            tag: Names the statistics, which all arms of a split share.
            rate: Learning rate; `None` takes the chosen one.
            labels: Labels in the place of those of `fit`.
            words: Other words.
        """
        words = self.words if words is None else words
        layer = None
        if arm.kind == "solved" or arm.start == "solved":
            if tag not in self.statistics:
                validation = split.validation.of_classes(known)
                names = [self.data.class_names[c] for c in known]
                self.statistics = {tag: Statistics.of(fit, validation, names, labels)}
            source = arm if arm.kind == "solved" else ARMS["property, closed form"]
            head, layer = solve(source, self.statistics[tag], words, known, seed)
            if arm.kind == "solved":
                return head
        if rate is None:
            rate = self.rate(arm, steps)
        return train(
            arm, fit, words, known, steps=steps, rate=rate, seed=seed, solved=layer, labels=labels
        )


def _everything(bench: Bench) -> list[int]:
    return list(range(len(bench.data.class_names)))


def _trained_classes(bench: Bench, split: Split) -> list[int]:
    """Classes that occur in the pixels to fit on, all of them but with a few images."""
    return sorted(split.fit.labels.unique().tolist())


def _figures(bench: Bench, fitted: Fitted, split: Split, known: Sequence[int]) -> dict[str, Value]:
    """Figures of a head on all classes; a class without training pixels counts with what its words give."""
    scores = fitted.scores
    number = len(bench.data.class_names)
    probe = scores(split.test.features[:1])
    if probe.shape[1] < number:  # a category head has no score for what it never saw

        def wide(features: Tensor) -> Tensor:
            found = scores(features)
            full = found.new_full((len(found), number), float(found.min()) - 10)
            full[:, list(known)] = found
            return full

        scores = wide
    return dict(all_figures(scores, split.validation, split.test, bench.data.class_names, bench.data.name))


def budgets(bench: Bench, table: Table) -> None:
    """Every arm at short, medium and long budgets."""
    for seed in bench.seeds:
        split = bench.data.split(seed)
        everything = _everything(bench)
        for steps in (0, *bench.budgets):
            for arm in bench.chosen(CLOSED if steps == 0 else TRAINED):
                rate = bench.rate(arm, steps) if steps else None
                table.measure(
                    bench.key(arm=arm.name, steps=steps, seed=seed),
                    lambda arm=arm, steps=steps, rate=rate: _figures(  # type: ignore[misc]
                        bench,
                        bench.fit(arm, split, split.fit, everything, steps=steps, rate=rate, seed=seed, tag=f"all {seed}"),
                        split,
                        everything,
                    ),
                )  # fmt: skip


def hidden_layer(bench: Bench, table: Table) -> None:
    """The same with a hidden layer of 128 units in front of the last one."""
    for seed in bench.seeds:
        split = bench.data.split(seed)
        everything = _everything(bench)
        for steps in bench.budgets:
            for plain in bench.chosen(("category", "property", "property + class", "bce + class")):
                arm = replace(plain, hidden=128)
                rate = bench.rate(arm, steps)
                table.measure(
                    bench.key(arm=arm.name, steps=steps, seed=seed),
                    lambda arm=arm, steps=steps, rate=rate: _figures(  # type: ignore[misc]
                        bench,
                        bench.fit(arm, split, split.fit, everything, steps=steps, rate=rate, seed=seed, tag=""),
                        split,
                        everything,
                    ),
                )


def data_efficiency(bench: Bench, table: Table) -> None:
    """10, 30, 100 and all training images, at the medium budget."""
    for seed in bench.seeds:
        for number in (*bench.numbers, None):
            split = bench.data.split(seed, number)
            known = _trained_classes(bench, split)
            fit = split.fit.of_classes(known)
            for arm in bench.chosen(FEW):
                rate = None if arm.kind == "solved" else bench.rate(arm, bench.medium)
                table.measure(
                    bench.key(arm=arm.name, images=number or "all", seed=seed),
                    lambda arm=arm, rate=rate: _figures(  # type: ignore[misc]
                        bench,
                        bench.fit(arm, split, fit, known, steps=bench.medium, rate=rate, seed=seed, tag=f"{number} {seed}"),
                        split,
                        known,
                    ),
                )  # fmt: skip


def wrong_labels(pixels: Pixels, share: float, number: int, seed: int) -> Tensor:
    """Labels with a share of the connected regions given to a wrong class, drawn uniformly."""
    rng = np.random.default_rng((seed, 2))
    regions, place = np.unique(pixels.regions.numpy(), return_inverse=True)
    wrong = rng.random(len(regions)) < share
    shift = rng.integers(1, number, len(regions))
    moved = torch.from_numpy(np.where(wrong, shift, 0)[place])
    return (pixels.labels + moved) % number


def label_noise(bench: Bench, table: Table) -> None:
    """10 and 30 % of the training regions with a wrong class; validation and test pixels keep theirs."""
    for seed in bench.seeds:
        split = bench.data.split(seed)
        everything = _everything(bench)
        for share in NOISE:
            labels = wrong_labels(split.fit, share, len(everything), seed)
            for arm in bench.chosen(FEW):
                rate = None if arm.kind == "solved" else bench.rate(arm, bench.medium)
                table.measure(
                    bench.key(arm=arm.name, noise=share, seed=seed),
                    lambda arm=arm, rate=rate: _figures(  # type: ignore[misc]
                        bench,
                        bench.fit(
                            arm, split, split.fit, everything, steps=bench.medium, rate=rate, seed=seed,
                            tag=f"noise {share} {seed}", labels=labels,
                        ),
                        split,
                        everything,
                    ),
                )  # fmt: skip


def unseen(bench: Bench, table: Table, *, arms: Sequence[str] = UNSEEN, words: Words | None = None, **key: Value) -> None:
    """Classes that are known by their words only, one group at a time."""
    number = len(bench.data.class_names)
    for seed in bench.seeds:
        split = bench.data.split(seed)
        for group in HELD_OUT[bench.data.name]:
            held = [bench.data.class_names.index(name) for name in group]
            known = [c for c in range(number) if c not in held]
            fit = split.fit.of_classes(known)
            for arm in bench.chosen(arms):
                rate = None if arm.kind == "solved" else bench.rate(arm, bench.medium)
                table.measure(
                    bench.key(arm=arm.name, held_out=", ".join(group), seed=seed, **key),
                    lambda arm=arm, rate=rate: dict(  # type: ignore[misc]
                        unseen_figures(
                            bench.fit(
                                arm, split, fit, known, steps=bench.medium, rate=rate, seed=seed,
                                tag=f"{group} {seed}", words=words,
                            ).scores,
                            split.validation, split.test, held, number,
                        )
                    ),
                )  # fmt: skip


def temperatures(bench: Bench, table: Table) -> None:
    """T of the property scores, at the medium budget: all classes trained."""
    for seed in bench.seeds:
        split = bench.data.split(seed)
        everything = _everything(bench)
        for temperature in (0.01, 0.04, 0.16, 0.5):
            for name in ("property", "property + class", "bce + class"):
                arm = replace(ARMS[name], temperature=temperature)
                rate = bench.rate(arm, bench.medium)
                table.measure(
                    bench.key(arm=arm.name, temperature=temperature, seed=seed),
                    lambda arm=arm, rate=rate: _figures(  # type: ignore[misc]
                        bench,
                        bench.fit(arm, split, split.fit, everything, steps=bench.medium, rate=rate, seed=seed, tag=""),
                        split,
                        everything,
                    ),
                )


Builder = Callable[[], Words]


def spaces(bench: Bench, table: Table, variants: dict[str, Builder]) -> None:
    """Numbers of properties and other spaces: all classes trained, and unseen classes, closed form and trained."""
    everything = _everything(bench)
    for name, build in variants.items():
        made = cache(build)
        for seed in bench.seeds:
            split = bench.data.split(seed)
            for arm in bench.chosen(("bce + class", "property, closed form")):
                rate = None if arm.kind == "solved" else bench.rate(arm, bench.medium)
                table.measure(
                    bench.key(arm=arm.name, space=name, held_out="", seed=seed),
                    lambda arm=arm, rate=rate, made=made: {  # type: ignore[misc]
                        "properties": int(made().rows.shape[1]),
                        **_figures(
                            bench,
                            bench.fit(
                                arm, split, split.fit, everything, steps=bench.medium, rate=rate, seed=seed,
                                tag=f"all {seed}", words=made(),
                            ),
                            split,
                            everything,
                        ),
                    },
                )  # fmt: skip
        if len(table.find(bench.key(space=name))) < len(bench.seeds) * 2 * (1 + len(HELD_OUT[bench.data.name])):
            unseen(bench, table, arms=("property, closed form", "bce + class"), words=made(), space=name)


def mean_over_groups(records: Sequence[Record], budget: str) -> list[Record]:
    """Seen and unseen IoU averaged over the groups of unseen classes, one record per seed, and their harmonic mean."""
    result: list[Record] = []
    for seed in sorted({str(each["seed"]) for each in records}):
        some = [each for each in records if str(each["seed"]) == seed]
        seen, new = (
            float(np.mean([float(each[f"{part}, {budget}"]) for each in some]))  # type: ignore[arg-type]
            for part in ("seen", "unseen")
        )
        result.append({"seed": seed, "seen": seen, "unseen": new, "harmonic": harmonic(seen, new)})
    return result
