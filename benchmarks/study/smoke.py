"""The whole study on drawn scenes, with color features in the place of a backbone: nothing is downloaded or loaded."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.study import tables
from benchmarks.study.pixels import drawn_data
from benchmarks.study.questions.faithfulness import faithfulness
from benchmarks.study.questions.true_properties import true_properties
from benchmarks.study.records import Table

SMALL_ARMS = ("category", "property", "bce + class", "property, closed form", "solved, then bce + class")
ON_SCENES = {
    "budgets": tables.budgets,
    "data-efficiency": tables.data_efficiency,
    "label-noise": tables.label_noise,
    "unseen": tables.unseen,
    "faithfulness": faithfulness,
    "true-properties": true_properties,
}


def run(results: Path, *, full: bool = False, only: Sequence[str] = tuple(ON_SCENES)) -> dict[str, Table]:
    """Every table that needs no real image.

    Args:
        results: Folder of the JSON files.
        full: All arms, three seeds and the study's budgets (about five minutes) instead of a few seconds.
        only: Some of the tables.

    Returns:
        The tables by name.
    """
    sizes = (
        {"train": 240, "validation": 60, "test": 120} if full else {"train": 24, "validation": 8, "test": 16}
    )
    data = drawn_data("colors", None, sizes)
    names = data.space.property_embeddings[
        : len(data.class_names)
    ]  # any embeddings: no text encoder is needed
    bench = tables.Bench(data, names, [0, 1, 2] if full else [0], Table("rates", results))
    if not full:
        bench.arms, bench.budgets, bench.medium, bench.numbers = SMALL_ARMS, (10, 60), 60, (6,)
    found = {}
    for name in only:
        found[name] = Table(name, results)
        ON_SCENES[name](bench, found[name])
    return found
