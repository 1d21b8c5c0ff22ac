"""Ways to group descriptions into properties, side by side on the figures of `prolab space check`.

    python benchmarks/clustering_variants.py ade20k
    python benchmarks/clustering_variants.py cityscapes --seeds 3

Prints one row per algorithm (means over the seeds) and one for the number of properties that the knee picks.
K-Means stays the library's default unless another row is better in every column.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

from prolab_hf.property_spaces.build import SpaceSource, load_encoder, read_source
from rich.console import Console
from rich.table import Table

from prolab_hf.label_space.clustering import Algorithm
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
    "opposites": (
        "{:.1f}",
        lambda report: sum(finding.kind == "merged_opposites" for finding in report.findings),
    ),
    "Rand": ("{:.3f}", lambda report: report.figures["stability"]["adjusted_rand_mean"]),
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
    for algorithm in Algorithm:
        _add(
            table,
            algorithm.value,
            source,
            encoder,
            seeds,
            {"algorithm": algorithm, "num_properties": source.num_properties},
        )
    _add(table, "kmeans, knee", source, encoder, seeds, {"num_properties": "knee"})
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
