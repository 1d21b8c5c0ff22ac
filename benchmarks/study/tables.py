"""The tables on frozen features: which arms, at which budgets, on which data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from scipy.cluster import hierarchy
from torch import Tensor

from benchmarks.study.heads import ARMS, Arm, Fitted, Statistics, Words, solve, train, with_trained_rest
from benchmarks.study.measures import (
    all_figures,
    class_ious,
    confusion,
    harmonic,
    scores_of,
    unseen_figures,
)
from benchmarks.study.pixels import DataSet, Pixels, Split
from benchmarks.study.records import Entry, Record, Table, Value

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FIRST_RATES = (3, 4, 5)
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
    "solved, then property + class", "solved, then bce + class", "words solved, rest trained", "class names",
    "random codes", "one-hot",
    "property + class, T 0.5", "bce + class, T 0.5",
)  # fmt: skip
LONG = (
    "category",
    "property",
    "bce",
    "property + class",
    "bce + class",
    "solved, then bce + class",
    "words solved, rest trained",
    "class names",
    "property + class, T 0.5",
    "bce + class, T 0.5",
)
"""The arms that are also trained at the long budget."""
FEW = (
    "category", "property", "bce + class", "solved, then bce + class", "words solved, rest trained",
    *CLOSED[:2], "random codes",
)  # fmt: skip
UNSEEN = (
    "category", "property", "bce", "property + class", "bce + class", "solved, then bce + class",
    "words solved, rest trained", "words solved, rest trained, one norm", "class names", "random codes",
    "shuffled rows", *CLOSED,
    "random codes, closed form", "shuffled rows, closed form",
    "property + class, T 0.5", "bce + class, T 0.5",
)  # fmt: skip
SPACE_ARMS = (
    "property, closed form", "bce + class", "words solved, rest trained", "words solved, rest trained, one norm"
)  # fmt: skip
"""Of `spaces`; the last differs from the one before only where classes are described."""
NUMBERS = (5, 10, 30, 100)
NOISE = (0.1, 0.3)
TEMPERATURES = (0.01, 0.04, 0.16, 0.5)


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

    def rate(self, arm: Arm, words: Words | None = None) -> float:
        """The learning rate with the highest mean IoU on the validation images of seed 0.

        Chosen once per arm, at half the medium budget; all budgets and tables share it.
        """
        if arm.kind == "unspoken":
            return self.rate(ARMS["category"])
        steps = self.medium // 2

        key = self.key(arm=arm.name, temperature=arm.temperature, hidden=arm.hidden, steps=steps)
        known = self.rates.find(key)
        if known:
            return float(str(known[0]["rate"]))
        entry = Entry(self.rates, key)
        split = self.data.split(0)
        classes = sorted(split.fit.labels.unique().tolist())
        fit, found, waiting, best = split.fit.of_classes(classes), dict[int, float](), list(FIRST_RATES), 0
        while waiting:
            place = waiting.pop(0)
            head = self.fit(
                arm, split, fit, classes, steps=steps, rate=RATES[place], seed=0, tag="rate", words=words
            )
            predicted = scores_of(head.scores, split.validation.features).argmax(dim=1)
            ious = class_ious(confusion(predicted, split.validation, len(self.data.class_names)))
            found[place] = float(np.nanmean(ious))
            best = max(found, key=lambda each: found[each])
            if not waiting:  # go on where the best is at an end
                near = (best - 1, best + 1)
                waiting = [each for each in near if 0 <= each < len(RATES) and each not in found][:1]
        entry.finish(
            {"rate": RATES[best], "miou": {f"{RATES[each]:g}": value for each, value in found.items()}}
        )
        return RATES[best]

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
            rate = self.rate(arm)
        if arm.kind == "unspoken" and layer is not None:
            category = train(
                ARMS["category"], fit, words, known, steps=steps, rate=rate, seed=seed, labels=labels
            )
            validation = split.validation.of_classes(known)
            return with_trained_rest(layer, category, validation, words, known, by_words=arm.by_words)
        return train(arm, fit, words, known, steps=steps, rate=rate, seed=seed, solved=layer, labels=labels)


def measure_arms(
    bench: Bench, table: Table, arms: Sequence[Arm], split: Split, known: Sequence[int],
    figures: Callable[[Fitted], Mapping[str, Value]], *, seed: int, tag: str, steps: int | None = None,
    labels: Tensor | None = None, words: Words | None = None, **key: Value,
) -> None:  # fmt: skip
    """Trains or solves some arms on one split, and writes their figures.

    Args:
        bench: Data and learning rates.
        table: Where records go.
        arms: The arms.
        split: Pixels.
        known: Classes that are trained; pixels of the others are void.
        figures: What is measured.
        seed: Of weights, order and controls.
        tag: Names the statistics of the closed form, which all arms share.
        steps: Budget; `None` is the medium one.
        labels: Labels in the place of those of the pixels to fit on.
        words: Other words.
        **key: What else tells the records from others.
    """
    steps = bench.medium if steps is None else steps
    fit = split.fit if len(known) == len(bench.data.class_names) else split.fit.of_classes(known)
    for arm in arms:
        rate = None if arm.kind == "solved" else bench.rate(arm)
        entry = table.begin(bench.key(arm=arm.name, seed=seed, **key))
        if entry is not None:
            head = bench.fit(
                arm, split, fit, known, steps=steps, rate=rate, seed=seed, tag=tag, labels=labels, words=words
            )
            entry.finish(figures(head))


def all_classes(bench: Bench) -> list[int]:
    """Ids of all classes."""
    return list(range(len(bench.data.class_names)))


def usual_figures(
    bench: Bench, split: Split, known: Sequence[int]
) -> Callable[[Fitted], Mapping[str, Value]]:
    """Figures over all classes; a class without training pixels counts with what its words give."""
    number = len(bench.data.class_names)

    def figures(fitted: Fitted) -> Mapping[str, Value]:
        def wide(features: Tensor) -> Tensor:
            found = fitted.scores(features)
            if found.shape[1] == number:
                return found
            full = found.new_full((len(found), number), float(found.min()) - 10)
            full[:, list(known)] = found  # a category head has no score for what it never saw
            return full

        return all_figures(wide, split.validation, split.test, bench.data.class_names, bench.data.name)

    return figures


def budgets(bench: Bench, table: Table, *, trained: Sequence[Arm] | None = None) -> None:
    """Every arm at short, medium and long budgets."""
    trained = bench.chosen(TRAINED) if trained is None else trained
    closed = bench.chosen(CLOSED) if table.name == "budgets" else []
    everything = all_classes(bench)
    for seed in bench.seeds:
        split = bench.data.split(seed)
        figures = usual_figures(bench, split, everything)
        for steps in (0, *bench.budgets):
            arms = trained if steps else closed
            if steps > bench.medium:
                arms = [arm for arm in arms if arm.name in LONG]
            measure_arms(
                bench, table, arms, split, everything, figures, seed=seed, tag=f"all {seed}", steps=steps,
                budget=steps,
            )  # fmt: skip


def hidden_layer(bench: Bench, table: Table) -> None:
    """The same with a hidden layer of 128 units in front of the last one."""
    plain = bench.chosen(("category", "property", "property + class", "bce + class"))
    budgets(bench, table, trained=[replace(arm, hidden=128) for arm in plain])


def confusions(bench: Bench, table: Table) -> None:
    """Who is taken for whom, classes in the order in which their rows are alike."""
    everything = all_classes(bench)
    split = bench.data.split(0)
    rows = bench.words.rows.numpy()
    order = hierarchy.leaves_list(hierarchy.linkage(rows, "average", metric="cosine", optimal_ordering=True))

    def figures(fitted: Fitted) -> Mapping[str, Value]:
        predicted = scores_of(fitted.scores, split.test.features).argmax(dim=1)
        counts = confusion(predicted, split.test, len(everything))
        return {"confusion": counts.tolist(), "class_names": bench.data.class_names, "order": order.tolist()}

    measure_arms(
        bench,
        table,
        bench.chosen(("property, closed form",)),
        split,
        everything,
        figures,
        seed=0,
        tag="all 0",
    )


def data_efficiency(bench: Bench, table: Table) -> None:
    """5, 10, 30, 100 and all training images, at the medium budget."""
    for seed in bench.seeds:
        for number in (*bench.numbers, None):
            split = bench.data.split(seed, number)
            known = sorted(split.fit.labels.unique().tolist())
            measure_arms(
                bench, table, bench.chosen(FEW), split, known, usual_figures(bench, split, known),
                seed=seed, tag=f"{number} {seed}", images=number or "all",
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
    everything = all_classes(bench)
    for seed in bench.seeds:
        split = bench.data.split(seed)
        for share in NOISE:
            measure_arms(
                bench, table, bench.chosen(FEW), split, everything, usual_figures(bench, split, everything),
                seed=seed, tag=f"noise {share} {seed}", noise=share,
                labels=wrong_labels(split.fit, share, len(everything), seed),
            )  # fmt: skip


def unseen(
    bench: Bench, table: Table, *, arms: Sequence[str] = UNSEEN, words: Words | None = None, **key: Value
) -> None:
    """Classes that are known by their words only, one group at a time."""
    number = len(bench.data.class_names)
    for seed in bench.seeds:
        split = bench.data.split(seed)
        for group in HELD_OUT[bench.data.name]:
            held = [bench.data.class_names.index(name) for name in group]
            known = [c for c in range(number) if c not in held]
            figures = partial(
                _unseen_figures, validation=split.validation, test=split.test, held=held, number=number
            )
            measure_arms(
                bench, table, bench.chosen(arms), split, known, figures, seed=seed, tag=f"{group} {seed}",
                words=words, held_out=", ".join(group), **key,
            )  # fmt: skip


def _unseen_figures(
    fitted: Fitted, *, validation: Pixels, test: Pixels, held: Sequence[int], number: int
) -> Mapping[str, Value]:
    return unseen_figures(fitted.scores, validation, test, held, number)


def temperatures(bench: Bench, table: Table) -> None:
    """T of the property scores, at the medium budget: all classes trained."""
    everything = all_classes(bench)
    for seed in bench.seeds:
        split = bench.data.split(seed)
        for temperature in TEMPERATURES:
            arms = [
                replace(arm, temperature=temperature)
                for arm in bench.chosen(("property", "property + class", "bce + class"))
            ]
            measure_arms(
                bench, table, arms, split, everything, usual_figures(bench, split, everything), seed=seed,
                tag="", property_temperature=temperature,
            )  # fmt: skip


Builder = Callable[[], Words]


def spaces(bench: Bench, table: Table, variants: Mapping[str, Builder]) -> None:
    """Numbers of properties and other spaces: all classes trained, and unseen classes, closed form and trained."""
    everything = all_classes(bench)
    for name, build in variants.items():
        words = build()
        for seed in bench.seeds:
            split = bench.data.split(seed)
            measure_arms(
                bench, table, bench.chosen(SPACE_ARMS[:-1]), split, everything, usual_figures(bench, split, everything),
                seed=seed, tag=f"all {seed}", words=words, space=name, held_out="",
                properties=int(words.rows.shape[1]),
            )  # fmt: skip
        unseen(bench, table, arms=SPACE_ARMS, words=words, space=name)


def mean_over_groups(records: Sequence[Record], budget: str) -> list[Record]:
    """Seen and unseen IoU averaged over the groups of unseen classes, one record per seed, and their harmonic mean.

    A seed of which a group is missing is left out.
    """
    result: list[Record] = []
    for seed in sorted({str(each["seed"]) for each in records}):
        some = [each for each in records if str(each["seed"]) == seed]
        if {each["held_out"] for each in some} != {
            ", ".join(group) for group in HELD_OUT[str(some[0]["data"])]
        }:
            continue
        seen, new = (
            float(np.mean([float(str(each[f"{part}, {budget}"])) for each in some]))
            for part in ("seen", "unseen")
        )
        result.append({"seed": seed, "seen": seen, "unseen": new, "harmonic": harmonic(seen, new)})
    return result
