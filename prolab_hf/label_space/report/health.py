"""Judging a property space: what is wrong, what to do about it, and figures to compare spaces by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from prolab_hf.label_space.conflicts import BUILT_IN, ConflictRules
from prolab_hf.label_space.report.fidelity import SharedPhrase, fidelity_figures, shared_phrases
from prolab_hf.label_space.report.findings import Finding, Severity, describe_pair, find_problems, pair_text
from prolab_hf.label_space.report.matrix_statistics import (
    FLIP_RATES,
    MISSING_RATES,
    PairFigures,
    groups_of,
    matrix_rank,
    pair_figures,
    recovery,
    taxonomy_agreement,
)
from prolab_hf.label_space.space_content import SpaceContent

_STABILITY_SEEDS = 5


@dataclass(frozen=True)
class HealthReport:
    """The judgement of a space.

    Args:
        name: Name of the space.
        fingerprint: Its fingerprint.
        figures: Numbers and lists, JSON values only.
        closest_pairs: The most similar classes with what they share and what separates them.
        findings: In order of harm, errors first.
        shared_phrases: Every phrase that shares a property with another wording, worst first.
    """

    name: str
    fingerprint: str
    figures: dict[str, Any]
    closest_pairs: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    shared_phrases: list[SharedPhrase] = field(default_factory=list)

    def by_severity(self, severity: Severity | str) -> list[Finding]:
        """The findings of one severity.

        Args:
            severity: `"error"`, `"warning"` or `"info"`.
        """
        return [finding for finding in self.findings if finding.severity == severity]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.by_severity(Severity.ERROR)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)

    def to_text(self, max_findings: int = 5) -> str:
        """The report as plain text: the most harmful findings, then the figures and the closest classes.

        Args:
            max_findings: How many findings to write out.
        """
        lines = [f"Property space {self.name or 'unnamed'} ({self.fingerprint[:12]})", ""]
        counts = ", ".join(f"{len(self.by_severity(kind))} {kind.value}" for kind in Severity)
        lines += [f"Findings: {counts}"]
        for finding in self.findings[:max_findings]:
            lines.append(f"  [{finding.severity.value}] {finding.message} {finding.advice}")
            if finding.command:
                lines.append(f"    {finding.command}")
        if len(self.findings) > max_findings:
            lines.append(f"  ... and {len(self.findings) - max_findings} more")
        rows = figure_rows(self.figures)
        width = max(len(label) for label, _ in rows)
        lines += ["", *(f"  {label:<{width}}  {value}" for label, value in rows)]
        lines += ["", "Closest pairs:"]
        lines += [f"  {pair_text(pair)}" for pair in self.closest_pairs[:5]]
        return "\n".join(lines)


def check_space(
    space: SpaceContent,
    *,
    taxonomy: Mapping[str, str] | None = None,
    encoder: object = None,
    seed: int = 0,
    num_trials: int = 100,
    rules: ConflictRules = BUILT_IN,
) -> HealthReport:
    """The work behind `PropertySpace.check`.

    Args:
        space: The space.
        taxonomy: Class name -> super-category.
        encoder: The space's text encoder, for the stability over clustering seeds.
        seed: Seed of the random trials.
        num_trials: Noisy copies per class for each noise level.
        rules: What contradicts what.
    """
    matrix = space.class_property_matrix.numpy().astype(np.uint8)
    pairs = pair_figures(matrix)
    shared = shared_phrases(space, rules)
    figures = _matrix_figures(matrix) | _pair_summary(space, pairs) | fidelity_figures(space, shared)
    noise = {"flip": FLIP_RATES, "missing": MISSING_RATES}
    for kind, rates in noise.items():
        figures[f"recovery_{kind}"] = {
            f"{rate:.2f}": recovery(matrix, rate, kind=kind, num_trials=num_trials, seed=seed)
            for rate in rates
        }
    if taxonomy is not None:
        figures["taxonomy"] = taxonomy_agreement(matrix, groups_of(space.class_names, taxonomy), seed=seed)
    if encoder is not None:
        figures["stability"] = seed_stability(space, encoder)
    findings = find_problems(space, matrix, pairs, shared)
    closest = [describe_pair(space, *pair) for pair in pairs.closest]
    return HealthReport(space.name, space.fingerprint, figures, closest, findings, shared)


def _matrix_figures(matrix: np.ndarray) -> dict[str, Any]:
    per_class, per_property = matrix.sum(axis=1), matrix.sum(axis=0)
    return {
        "num_classes": int(matrix.shape[0]),
        "num_properties": int(matrix.shape[1]),
        "properties_per_class": per_class.tolist(),
        "classes_per_property": per_property.tolist(),
        "density": float(matrix.mean()),
        "rank": matrix_rank(matrix),
        "single_class_properties": int((per_property == 1).sum()),
        "orphan_properties": int((per_property == 0).sum()),
        "empty_rows": int((per_class == 0).sum()),
    }


def _pair_summary(space: SpaceContent, pairs: PairFigures) -> dict[str, Any]:
    largest = pairs.closest[0] if pairs.closest else None
    return {
        "duplicate_pairs": len(pairs.duplicates),
        "nested_pairs": len(pairs.nested),
        "disjoint_pair_share": pairs.disjoint_share,
        "mean_pair_cosine": pairs.mean_cosine,
        "mean_nearest_cosine": float(pairs.nearest_cosine.mean()),
        "nearest_cosine": [round(float(value), 6) for value in pairs.nearest_cosine],
        "largest_pair_cosine": largest[2] if largest else 0.0,
        "largest_pair": [space.class_names[index] for index in largest[:2]] if largest else [],
    }


def seed_stability(space: SpaceContent, encoder: object, num_seeds: int = _STABILITY_SEEDS) -> dict[str, Any]:
    """Adjusted Rand index between clusterings of the space's descriptions with different seeds.

    Args:
        space: A space with descriptions.
        encoder: Its text encoder.
        num_seeds: Number of seeds; all pairs are compared.

    Raises:
        ValueError: The space has no descriptions.
    """
    from sklearn.metrics import adjusted_rand_score

    from prolab_hf.label_space.clustering import cluster
    from prolab_hf.label_space.text_encoder import TextEncoder

    texts = list(dict.fromkeys(text.lower() for group in space.descriptions.values() for text in group))
    if not texts:
        raise ValueError("The space has no descriptions, so its stability over seeds cannot be measured.")
    vectors = TextEncoder.load(encoder).encode(texts)
    size = min(space.num_properties, len(texts))
    # Control spaces and older variants have names of their own: judged with the paper's K-Means.
    algorithm = "constrained" if space.clustering.get("algorithm") == "constrained" else "kmeans"
    runs = [
        cluster(vectors, size, texts=texts, seed=seed, algorithm=algorithm).labels
        for seed in range(num_seeds)
    ]
    scores = [
        float(adjusted_rand_score(runs[one], runs[two])) for one in range(num_seeds) for two in range(one)
    ]
    return {
        "adjusted_rand_mean": float(np.mean(scores)),
        "adjusted_rand_min": min(scores),
        "num_seeds": num_seeds,
    }


def figure_rows(figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures as labels and texts, for cards, tables and comparisons.

    Args:
        figures: `HealthReport.figures`.
    """
    per_class, per_property = figures["properties_per_class"], figures["classes_per_property"]
    pair = " / ".join(figures["largest_pair"])
    rows = [
        ("classes x properties", f"{figures['num_classes']} x {figures['num_properties']}"),
        ("properties per class (min / mean / max)", _spread(per_class)),
        ("classes per property (min / mean / max)", _spread(per_property)),
        ("density", f"{100 * figures['density']:.2f} %"),
        ("rank of the matrix", str(figures["rank"])),
        (
            "single-class / orphan properties",
            f"{figures['single_class_properties']} / {figures['orphan_properties']}",
        ),
        ("duplicate / nested pairs", f"{figures['duplicate_pairs']} / {figures['nested_pairs']}"),
        ("pairs sharing no property", f"{100 * figures['disjoint_pair_share']:.1f} %"),
        ("mean pair cosine", f"{figures['mean_pair_cosine']:.3f}"),
        ("mean nearest-row cosine", f"{figures['mean_nearest_cosine']:.3f}"),
        ("largest pair cosine", f"{figures['largest_pair_cosine']:.3f} {pair}".strip()),
    ]
    if "fidelity" in figures:
        rows[1:1] = [
            ("phrases kept (fidelity)", f"{100 * figures['fidelity']:.1f} % of {figures['phrases']}"),
            ("properties with a contradiction", str(figures["conflicting_properties"])),
        ]
    for kind, label in (("flip", "bits flipped"), ("missing", "bits missing")):
        rates = figures[f"recovery_{kind}"]
        title = " / ".join(f"{100 * float(rate):.0f}" for rate in rates)
        shares = " / ".join(f"{100 * share:.1f}" for share in rates.values())
        rows.append((f"recovered at {title} % {label}", f"{shares} %"))
    if "taxonomy" in figures:
        found = figures["taxonomy"]
        ratio = f", {found['ratio']:.1f} x" if found["ratio"] else ""
        text = f"{100 * found['agreement']:.1f} % (shuffled {100 * found['control']:.1f} %{ratio})"
        rows.append(("nearest row in the same super-category", text))
    if "stability" in figures:
        found = figures["stability"]
        rows.append(("adjusted Rand index over seeds", f"{found['adjusted_rand_mean']:.3f}"))
    return rows


def _spread(values: list[int]) -> str:
    return f"{min(values)} / {sum(values) / len(values):.2f} / {max(values)}"
