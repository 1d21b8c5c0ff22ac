"""What may be wrong with a property space, one finding each, with what to do about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.report.matrix_statistics import PairFigures
from prolab_hf.label_space.report.opposites import find_opposites

# Pairs above this cosine are worth a warning; the published ADE20K matrix has 0.707 at worst.
CLOSE_COSINE = 0.60
# A property that more than this share of the classes has hardly tells any of them apart.
COMMON_SHARE = 0.25
MIN_PROPERTIES = 3


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The model cannot tell these classes apart, or cannot name one at all."""
    WARNING = "warning"
    """Likely to cost accuracy or to mislead a reader."""
    INFO = "info"
    """Worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One thing found in a space.

    Args:
        severity: How bad it is.
        kind: Short identifier such as `"duplicate_rows"`.
        subjects: The classes or properties concerned.
        message: What was found.
        advice: What to do.
    """

    severity: Severity
    kind: str
    subjects: list[str]
    message: str
    advice: str


def find_problems(space: PropertySpace, matrix: np.ndarray, pairs: PairFigures) -> list[Finding]:
    """All findings about a space, errors first.

    Args:
        space: The space.
        matrix: Its matrix, `(num_classes, num_properties)` uint8.
        pairs: The comparison of all rows.
    """
    findings = [
        *_row_findings(space, matrix),
        *_pair_findings(space, pairs),
        *_column_findings(space, matrix),
        *_opposite_findings(space),
    ]
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def describe_pair(space: PropertySpace, row: int, other: int, cosine: float) -> dict[str, Any]:
    """What two classes share, what separates them, and which of their descriptions fell together.

    Args:
        space: The space.
        row: Index of the first class.
        other: Index of the second class.
        cosine: Cosine of their rows.
    """
    mine, theirs = set(space.class_properties[row]), set(space.class_properties[other])
    first, second = space.class_names[row], space.class_names[other]

    def names(indices: Iterable[int]) -> list[str]:
        return [space.property_names[index] for index in sorted(indices)]

    fell_together = [
        {"property": space.property_names[index], first: left, second: right}
        for index in sorted(mine & theirs)
        if (left := _texts_of(space, first, index)) != (right := _texts_of(space, second, index))
    ]
    return {
        "classes": [first, second],
        "cosine": round(cosine, 6),
        "shared": names(mine & theirs),
        "only_first": names(mine - theirs),
        "only_second": names(theirs - mine),
        "different_words_same_property": fell_together,
    }


def _texts_of(space: PropertySpace, class_name: str, index: int) -> list[str]:
    pairs = zip(space.descriptions.get(class_name, []), space.assignments.get(class_name, []))
    return [text.lower() for text, assigned in pairs if assigned == index]


def pair_text(pair: Mapping[str, Any]) -> str:
    """One line about a pair of `describe_pair`.

    Args:
        pair: The pair.
    """
    first, second = pair["classes"]
    only = [
        f"{name} alone has {', '.join(repr(item) for item in pair[key][:3])}"
        for name, key in ((first, "only_first"), (second, "only_second"))
        if pair[key]
    ]
    return f"{first} / {second}: cosine {pair['cosine']:.3f}, {len(pair['shared'])} shared; {'; '.join(only)}"


def _row_findings(space: PropertySpace, matrix: np.ndarray) -> list[Finding]:
    findings = []
    for name, size in zip(space.class_names, matrix.sum(axis=1).tolist()):
        if size == 0:
            findings.append(
                Finding(
                    Severity.ERROR,
                    "empty_row",
                    [name],
                    f"The class {name!r} has no property.",
                    "Give it some with set_row, or describe it.",
                )
            )
        elif size < MIN_PROPERTIES:
            findings.append(
                Finding(
                    Severity.WARNING,
                    "few_properties",
                    [name],
                    f"The class {name!r} has only {size} propert{'y' if size == 1 else 'ies'}.",
                    "Write more descriptions of what can be seen of it.",
                )
            )
    return findings


def _pair_findings(space: PropertySpace, pairs: PairFigures) -> list[Finding]:
    names = space.class_names
    findings = [
        Finding(
            Severity.ERROR,
            "duplicate_rows",
            [names[row], names[other]],
            f"The classes {names[row]!r} and {names[other]!r} have equal rows.",
            _separation_advice(describe_pair(space, row, other, 1.0)),
        )
        for row, other in pairs.duplicates
    ]
    for row, other in pairs.nested:
        findings.append(
            Finding(
                Severity.WARNING,
                "nested_rows",
                [names[row], names[other]],
                f"Every property of {names[row]!r} also belongs to {names[other]!r}.",
                f"Describe something that {names[row]!r} shows and {names[other]!r} does not.",
            )
        )
    known = set(pairs.duplicates)
    for row, other, cosine in pairs.closest:
        if cosine > CLOSE_COSINE and (row, other) not in known:
            pair = describe_pair(space, row, other, cosine)
            findings.append(
                Finding(
                    Severity.WARNING,
                    "close_pair",
                    [names[row], names[other]],
                    f"{names[row]!r} and {names[other]!r} are close (cosine {cosine:.3f}).",
                    _separation_advice(pair),
                )
            )
    return findings


def _separation_advice(pair: Mapping[str, Any]) -> str:
    """Names two descriptions that fell into one property and could be told apart, else what is missing."""
    first, second = pair["classes"]
    merged = [item for item in pair["different_words_same_property"] if item[first] and item[second]]
    if merged:
        item = merged[0]
        return (
            f"{item[first][0]!r} and {item[second][0]!r} fell into the property {item['property']!r}: reword "
            "one so that it says how they differ."
        )
    return f"They share {len(pair['shared'])} properties word for word: add what only one of them shows."


def _column_findings(space: PropertySpace, matrix: np.ndarray) -> list[Finding]:
    findings = []
    counts = matrix.sum(axis=0).tolist()
    for index, (name, count) in enumerate(zip(space.property_names, counts)):
        if count == 0:
            findings.append(
                Finding(
                    Severity.WARNING,
                    "orphan_property",
                    [name],
                    f"No class has the property {name!r}.",
                    "Nothing teaches it; harmless after select_classes, otherwise build with fewer "
                    "properties.",
                )
            )
        elif count == 1 and len(matrix) > 1:
            owner = space.class_names[int(matrix[:, index].argmax())]
            findings.append(
                Finding(
                    Severity.INFO,
                    "single_class_property",
                    [name, owner],
                    f"Only {owner!r} has the property {name!r}.",
                    "Word the same idea alike where other classes show it, or accept it as a trait of its "
                    "own.",
                )
            )
        elif count > COMMON_SHARE * len(matrix) and len(matrix) >= 20:
            findings.append(
                Finding(
                    Severity.INFO,
                    "common_property",
                    [name],
                    f"{count} of {len(matrix)} classes have the property {name!r}.",
                    "It hardly tells classes apart; say more precisely what each one looks like.",
                )
            )
    return findings


def _opposite_findings(space: PropertySpace) -> list[Finding]:
    members: dict[int, dict[str, None]] = {}
    for name, indices in space.assignments.items():
        for text, index in zip(space.descriptions[name], indices):
            members.setdefault(index, {})[text.lower()] = None
    findings = []
    for index in sorted(members):
        for left, right in find_opposites(list(members[index]))[:1]:
            findings.append(
                Finding(
                    Severity.INFO,
                    "merged_opposites",
                    [space.property_names[index]],
                    f"The property {space.property_names[index]!r} holds {left!r} and {right!r}.",
                    "If they contradict each other, reword one or build with more properties.",
                )
            )
    return findings
