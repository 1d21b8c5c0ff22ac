"""Two property spaces side by side: figures, what they agree on, what changed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prolab_hf.label_space.operations import select_classes
from prolab_hf.label_space.report.health import HealthReport, check_space, figure_rows
from prolab_hf.label_space.space_content import SpaceContent


@dataclass(frozen=True)
class SpaceComparison:
    """Two spaces side by side.

    Args:
        first: Report of the first space.
        second: Report of the second space.
        common_classes: Classes that both have.
        only_first: Classes that only the first has.
        only_second: Classes that only the second has.
        row_similarity_correlation: Pearson correlation between the two spaces' class-pair cosines over the
            common classes; None with fewer than three or without variation.
        adjusted_rand: Agreement of the two groupings on the (class, description) pairs that both have; None
            without any.
        changed_rows: For spaces with the same property names: class -> properties gained and lost.
    """

    first: HealthReport
    second: HealthReport
    common_classes: list[str]
    only_first: list[str]
    only_second: list[str]
    row_similarity_correlation: float | None
    adjusted_rand: float | None
    changed_rows: dict[str, dict[str, list[str]]]

    def rows(self) -> list[tuple[str, str, str]]:
        """The figures as `(label, first, second)`; `-` where a space lacks one."""
        left, right = dict(figure_rows(self.first.figures)), dict(figure_rows(self.second.figures))
        return [(label, left.get(label, "-"), right.get(label, "-")) for label in {**left, **right}]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return asdict(self)

    def to_text(self) -> str:
        """The comparison as plain text."""
        names = self.first.name or "first", self.second.name or "second"
        rows = [("", *names), *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, "", *self.summary()])

    def summary(self) -> list[str]:
        """What the spaces have in common, one sentence a line."""
        lines = [
            f"{len(self.common_classes)} common classes, {len(self.only_first)} only in the first, "
            f"{len(self.only_second)} only in the second."
        ]
        if self.row_similarity_correlation is not None:
            lines.append(f"Class-pair similarities correlate with {self.row_similarity_correlation:.3f}.")
        if self.adjusted_rand is not None:
            lines.append(
                f"Common descriptions are grouped with an adjusted Rand index of {self.adjusted_rand:.3f}."
            )
        for name, change in list(self.changed_rows.items())[:10]:
            gained, lost = ", ".join(change["gained"]) or "nothing", ", ".join(change["lost"]) or "nothing"
            lines.append(f"{name}: gained {gained}; lost {lost}.")
        if len(self.changed_rows) > 10:
            lines.append(f"... and {len(self.changed_rows) - 10} more changed rows.")
        return lines


def compare(
    first: SpaceContent, second: SpaceContent, *, taxonomy: Mapping[str, str] | None = None, seed: int = 0
) -> SpaceComparison:
    """Compares two spaces.

    Args:
        first: A space.
        second: Another space; classes are matched by name.
        taxonomy: Class name -> super-category, for both.
        seed: Seed of the random trials.
    """
    reports = [check_space(space, taxonomy=taxonomy, seed=seed) for space in (first, second)]
    in_second = set(second.class_names)
    common = [name for name in first.class_names if name in in_second]
    kept = set(common)
    return SpaceComparison(
        first=reports[0],
        second=reports[1],
        common_classes=common,
        only_first=[name for name in first.class_names if name not in kept],
        only_second=[name for name in second.class_names if name not in kept],
        row_similarity_correlation=_similarity_correlation(first, second, common),
        adjusted_rand=_grouping_agreement(first, second, common),
        changed_rows=_changed_rows(first, second, common),
    )


def _similarity_correlation(first: SpaceContent, second: SpaceContent, common: list[str]) -> float | None:
    if len(common) < 3:
        return None
    upper = np.triu_indices(len(common), k=1)
    values = []
    for space in (first, second):
        rows = select_classes(space, common).class_property_matrix.double().numpy()
        unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        values.append((unit @ unit.T)[upper])
    if min(part.std() for part in values) == 0:
        return None
    return float(np.corrcoef(*values)[0, 1])


def _grouping_agreement(first: SpaceContent, second: SpaceContent, common: list[str]) -> float | None:
    from sklearn.metrics import adjusted_rand_score

    groups: list[tuple[int, int]] = []
    for name in common:
        texts = [
            {
                text.lower(): index
                for text, index in zip(space.descriptions.get(name, []), space.assignments.get(name, []))
            }
            for space in (first, second)
        ]
        groups += [(index, texts[1][text]) for text, index in texts[0].items() if text in texts[1]]
    if not groups:
        return None
    return float(adjusted_rand_score(*zip(*groups)))


def _changed_rows(
    first: SpaceContent, second: SpaceContent, common: list[str]
) -> dict[str, dict[str, list[str]]]:
    if first.property_names != second.property_names or not common:
        return {}
    names = np.array(first.property_names, dtype=object)
    before = select_classes(first, common).class_property_matrix.numpy()
    after = select_classes(second, common).class_property_matrix.numpy()
    return {
        name: {"gained": names[(new > old)].tolist(), "lost": names[(old > new)].tolist()}
        for name, old, new in zip(common, before, after)
        if (old != new).any()
    }
