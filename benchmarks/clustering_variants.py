"""Ways to group descriptions into properties, side by side on the figures of `prolab space check`.

    python benchmarks/clustering_variants.py ade20k
    python benchmarks/clustering_variants.py cityscapes --seeds 3

Prints one row per way (means over the seeds): the package's two ("constrained", "kmeans"), those that won nothing
(`kmeans_variants.py`), "auto", and the number of properties that the knee picks.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from unittest.mock import patch

import numpy as np
from kmeans_variants import balanced_kmeans, constrained_kmeans, spherical_kmeans, split_opposites
from prolab_hf.property_spaces.build import SpaceSource, load_encoder, read_source
from rich.console import Console
from rich.table import Table

from prolab_hf.label_space import clustering
from prolab_hf.label_space.constrained_clustering import agglomerate, refine
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.report.health import HealthReport
from prolab_hf.label_space.text_encoder import TextEncoder

COLUMNS: dict[str, tuple[str, Callable[[HealthReport], float]]] = {
    "properties": ("{:.0f}", lambda report: report.figures["num_properties"]),
    "per class": ("{:.2f}", lambda report: statistics.mean(report.figures["properties_per_class"])),
    "single-class": ("{:.1f}", lambda report: report.figures["single_class_properties"]),
    "equal + nested": (
        "{:.1f}",
        lambda report: report.figures["duplicate_pairs"] + report.figures["nested_pairs"],
    ),
    "nearest cos": ("{:.3f}", lambda report: report.figures["mean_nearest_cosine"]),
    "largest cos": ("{:.3f}", lambda report: report.figures["largest_pair_cosine"]),
    "flip 10 %": ("{:.2f}", lambda report: 100 * report.figures["recovery_flip"]["0.10"]),
    "flip 20 %": ("{:.2f}", lambda report: 100 * report.figures["recovery_flip"]["0.20"]),
    "missing 50 %": ("{:.2f}", lambda report: 100 * report.figures["recovery_missing"]["0.50"]),
    "super-cat.": ("{:.2f} x", lambda report: report.figures["taxonomy"]["ratio"]),
    "conflicts": ("{:.1f}", lambda report: report.figures["conflicting_properties"]),
    "fidelity %": ("{:.1f}", lambda report: 100 * report.figures["fidelity"]),
    "Rand": ("{:.3f}", lambda report: report.figures["stability"]["adjusted_rand_mean"]),
}


def _average_linkage(vectors, number, *, weights, texts, rules, coarse):
    conflicts = rules.matrix(texts)
    labels = agglomerate(vectors, number, weights, conflicts, "average")
    return refine(vectors, labels, weights, conflicts)


def _constrained_kmeans(vectors, number, *, weights, texts, rules, coarse):
    return constrained_kmeans(vectors, number, weights=weights, seed=0, conflicts=rules.matrix(texts))


def _spherical(vectors, number, *, weights, texts, rules, coarse):
    return spherical_kmeans(vectors, number, weights=weights, seed=0, n_init=10)


def _balanced(vectors, number, *, weights, texts, rules, coarse):
    return balanced_kmeans(vectors, number, weights=weights, seed=0, n_init=10)


def _split_opposites(vectors, number, *, weights, texts, rules, coarse):
    def grouped(count: int) -> np.ndarray:
        return clustering.kmeans_labels(vectors, count, weights, seed=0, n_init=10)[0]

    return split_opposites(vectors, texts, number, weights=weights, kmeans=grouped)


VARIANTS = {
    "constrained K-Means": _constrained_kmeans,
    "constrained average linkage": _average_linkage,
    "spherical": _spherical,
    "balanced": _balanced,
    "split_opposites": _split_opposites,
}


def measure(
    source: SpaceSource, encoder: TextEncoder, seeds: range, options: Mapping[str, object]
) -> tuple[list[HealthReport], float]:
    """Builds and judges one space per seed."""
    reports, seconds = [], 0.0
    for seed in seeds:
        start = time.process_time()
        space = PropertySpace.build(source.descriptions, encoder=encoder, seed=seed, **options)
        seconds += time.process_time() - start
        # Stability is a figure of the algorithm, not of one space: measured with the first seed only.
        judge = encoder if seed == seeds[0] else None
        reports.append(space.check(taxonomy=source.super_categories or None, encoder=judge))
    return reports, seconds / len(seeds)


def cached(encoder: TextEncoder) -> TextEncoder:
    """Remembers vectors: every row of the table encodes the same sentences."""
    known: dict[str, list[float]] = {}

    def vectors_of(texts: list[str]) -> list[list[float]]:
        new = [text for text in texts if text not in known]
        if new:
            known.update(zip(new, encoder.encode(new)))
        return [known[text] for text in texts]

    return TextEncoder(vectors_of, encoder.info)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", default="ade20k")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    source = read_source(arguments.name)
    encoder = cached(load_encoder())
    table = Table("clustering", *COLUMNS, "CPU s", title=f"{source.name}, {arguments.seeds} seeds")
    seeds = range(arguments.seeds)
    fixed = {"num_properties": source.num_properties}
    _add(table, "constrained (Ward)", source, encoder, range(1), fixed)
    _add(table, "kmeans", source, encoder, seeds, fixed | {"algorithm": "kmeans"})
    for name, labels_of in VARIANTS.items():
        # The variants take the place of the package's constrained clustering for the length of a row.
        with patch.object(clustering, "constrained_labels", labels_of):
            _add(table, name, source, encoder, range(1), fixed)
    _add(table, "kmeans, knee", source, encoder, seeds, {"num_properties": "knee", "algorithm": "kmeans"})
    _add(table, "auto", source, encoder, range(1), {"num_properties": "auto"})
    Console(width=200).print(table)


def _add(
    table: Table, label: str, source: SpaceSource, encoder: TextEncoder, seeds: range, options: dict
) -> None:
    try:
        reports, seconds = measure(source, encoder, seeds, options)
    except ValueError as error:
        table.add_row(label, str(error)[:60])
        return
    cells = []
    for form, value_of in COLUMNS.values():
        values = []
        for report in reports:
            try:
                values.append(float(value_of(report)))
            except KeyError:
                continue
        cells.append(form.format(statistics.mean(values)) if values else "-")
    table.add_row(label, *cells, f"{seconds:.1f}")


if __name__ == "__main__":
    main()
