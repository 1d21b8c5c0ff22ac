"""What may be wrong with a property space, one finding each, with what to do about it."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from prolab_hf.label_space.conflicts import BUILT_IN
from prolab_hf.label_space.phrases.wording import same_wording
from prolab_hf.label_space.report.fidelity import SharedPhrase
from prolab_hf.label_space.report.matrix_statistics import PairFigures
from prolab_hf.label_space.space_content import SpaceContent

# Pairs above this cosine are worth a warning; the published ADE20K matrix has 0.707 at worst.
CLOSE_COSINE = 0.60
# A property that more than this share of the classes has hardly tells any of them apart.
COMMON_SHARE = 0.25
MIN_PROPERTIES = 3
# More properties of one class each than this are one finding.
MANY_LONELY = 8
# Cosine from which two properties may be one idea in two wordings.
_ALIKE = 0.7


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
        command: The command that mends it, with `SPACE`, `WORDS.json`, `ENCODER` and `NEW` to fill in; empty where
            nothing has to be mended.
    """

    severity: Severity
    kind: str
    subjects: list[str]
    message: str
    advice: str
    command: str = ""


# Findings of one severity by the harm they do: what makes a model say untrue things first.
_HARM = (
    "duplicate_rows",
    "empty_row",
    "conflicting_phrases",
    "far_phrase",
    "nested_rows",
    "few_properties",
    "close_pair",
    "orphan_property",
    "merged_single_class",
    "common_property",
    "single_class_property",
)
_REBUILD = "prolab space build WORDS.json --encoder ENCODER --out NEW"


def _add_property(class_name: str) -> str:
    return (
        f"prolab space add-property SPACE --out NEW --class {shlex.quote(class_name)} --encoder ENCODER "
        "--phrase 'what only this class shows'"
    )


def find_problems(
    space: SpaceContent, matrix: np.ndarray, pairs: PairFigures, shared: Sequence[SharedPhrase] = ()
) -> list[Finding]:
    """All findings about a space, in order of harm: errors first.

    Args:
        space: The space.
        matrix: Its matrix, `(num_classes, num_properties)` uint8.
        pairs: The comparison of all rows.
        shared: Its `fidelity.shared_phrases`.
    """
    findings = [
        *_row_findings(space, matrix),
        *_pair_findings(space, pairs),
        *_column_findings(space, matrix),
        *_phrase_findings(shared),
        *_stranger_findings(shared),
    ]
    order = list(Severity)
    return sorted(findings, key=lambda finding: (order.index(finding.severity), _HARM.index(finding.kind)))


def describe_pair(space: SpaceContent, row: int, other: int, cosine: float) -> dict[str, Any]:
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

    def own_phrases(class_name: str, indices: Iterable[int]) -> list[str]:
        # What differently worded phrases of one class were merged into distinguishes nothing its author wrote.
        return [
            space.phrase(class_name, index) for index in sorted(indices) if not is_merged_single(space, index)
        ]

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
        "phrases_first": own_phrases(first, mine - theirs),
        "phrases_second": own_phrases(second, theirs - mine),
        "different_words_same_property": fell_together,
    }


def is_merged_single(space: SpaceContent, index: int) -> bool:
    """Whether a property belongs to one class and was merged from differently worded phrases.

    Args:
        space: The space.
        index: Index of the property.
    """
    if int(space.class_property_matrix[:, index].sum()) != 1:
        return False
    return len({same_wording(phrase) for phrase in space.phrases_by_property.get(index, ())}) > 1


def _texts_of(space: SpaceContent, class_name: str, index: int) -> list[str]:
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
        for name, key in ((first, "phrases_first"), (second, "phrases_second"))
        if pair[key]
    ]
    return f"{first} / {second}: cosine {pair['cosine']:.3f}, {len(pair['shared'])} shared; {'; '.join(only)}"


def _row_findings(space: SpaceContent, matrix: np.ndarray) -> list[Finding]:
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
                    _add_property(name),
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
                    _add_property(name),
                )
            )
    return findings


def _pair_findings(space: SpaceContent, pairs: PairFigures) -> list[Finding]:
    names = space.class_names
    findings = [
        Finding(
            Severity.ERROR,
            "duplicate_rows",
            [names[row], names[other]],
            f"The classes {names[row]!r} and {names[other]!r} have equal rows.",
            *_separation(describe_pair(space, row, other, 1.0)),
        )
        for row, other in pairs.duplicates
    ]
    for row, other in pairs.nested:
        pair = describe_pair(space, row, other, 0.0)
        # What fell together is the cause; more words of the same kind would fall together too.
        merged = _merged_of(pair)
        advice, command = (
            _separation(pair)
            if merged
            else (
                f"Describe something that {names[row]!r} shows and {names[other]!r} does not.",
                _add_property(names[row]),
            )
        )
        findings.append(
            Finding(
                Severity.WARNING,
                "nested_rows",
                [names[row], names[other]],
                f"Every property of {names[row]!r} also belongs to {names[other]!r}.",
                advice,
                command,
            )
        )
    known = {*pairs.duplicates, *pairs.nested, *((other, row) for row, other in pairs.nested)}
    for row, other, cosine in pairs.closest:
        if cosine > CLOSE_COSINE and (row, other) not in known:
            pair = describe_pair(space, row, other, cosine)
            findings.append(
                Finding(
                    Severity.WARNING,
                    "close_pair",
                    [names[row], names[other]],
                    f"{names[row]!r} and {names[other]!r} are close (cosine {cosine:.3f}).",
                    *_separation(pair),
                )
            )
    return findings


def _separation(pair: Mapping[str, Any]) -> tuple[str, str]:
    """Advice and command: two descriptions that fell into one property and could be told apart, or what is missing."""
    first, second = pair["classes"]
    merged = _merged_of(pair)
    if merged:
        item = merged[0]
        return (
            f"{item[first][0]!r} and {item[second][0]!r} fell into the property {item['property']!r}: reword "
            "one so that it says how they differ, and build again; without a number of properties, only what "
            "means the same shares one.",
            _REBUILD,
        )
    return (
        f"They share {len(pair['shared'])} properties word for word: add what only one of them shows.",
        _add_property(first),
    )


def _merged_of(pair: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Properties of a pair in which both classes have words, and different ones."""
    first, second = pair["classes"]
    return [item for item in pair["different_words_same_property"] if item[first] and item[second]]


def _column_findings(space: SpaceContent, matrix: np.ndarray) -> list[Finding]:
    findings = []
    counts = matrix.sum(axis=0).tolist()
    lonely = [
        index
        for index, count in enumerate(counts)
        if count == 1 and len(matrix) > 1 and not is_merged_single(space, index)
    ]
    if len(lonely) > MANY_LONELY:
        findings.append(_lonely_finding(space, matrix, lonely))
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
        elif count == 1 and len(matrix) > 1 and is_merged_single(space, index):
            owner = space.class_names[int(matrix[:, index].argmax())]
            findings.append(
                Finding(
                    Severity.INFO,
                    "merged_single_class",
                    [name, owner],
                    f"Only {owner!r} has the property {name!r}, which holds {len(space.phrases_by_property[index])} "
                    f"of its phrases: {', '.join(map(repr, list(space.phrases_by_property[index])[:3]))}.",
                    "It says less than its author wrote; build without a number of properties to keep them apart.",
                    _REBUILD,
                )
            )
        elif index in lonely and len(lonely) <= MANY_LONELY:
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


def _lonely_finding(space: SpaceContent, matrix: np.ndarray, lonely: Sequence[int]) -> Finding:
    """One finding about many properties of one class each, with those that may be one idea in two wordings."""

    def shown(index: int) -> str:
        return f"{space.property_names[index]!r} ({space.class_names[int(matrix[:, index].argmax())]})"

    vectors = space.property_embeddings[list(lonely)].numpy().astype(np.float64)
    cosine = np.triu(vectors @ vectors.T, 1)
    near = [divmod(int(place), len(lonely)) for place in np.argsort(-cosine, axis=None, kind="stable")[:200]]
    pairs = [
        f"{shown(lonely[one])} and {shown(lonely[two])}"
        for one, two in near
        if cosine[one, two] >= _ALIKE
        and matrix[:, lonely[one]].argmax() != matrix[:, lonely[two]].argmax()
        and _may_be_one(space.property_names[lonely[one]], space.property_names[lonely[two]])
    ]
    alike = f" Perhaps one idea in two wordings: {'; '.join(pairs[:3])}." if pairs else ""
    return Finding(
        Severity.INFO,
        "single_class_property",
        [space.property_names[index] for index in lonely],
        f"{len(lonely)} of {space.num_properties} properties belong to one class each, for example "
        f"{', '.join(map(shown, lonely[:3]))}.",
        f"Word the same idea alike where several classes show it; classes learn from what they share.{alike}",
    )


def _may_be_one(first: str, second: str) -> bool:
    """Whether two wordings give the same values wherever both give one: not "blue or grey" and "grey and white"."""
    mine, theirs = BUILT_IN.claims(first).values, BUILT_IN.claims(second).values
    alike = all(mine[key] == theirs[key] for key in mine.keys() & theirs.keys())
    return alike and BUILT_IN.conflict(first, second) is None


def _phrase_findings(shared: Sequence[SharedPhrase]) -> list[Finding]:
    """One finding per property that holds a contradiction, the one that concerns most classes first."""
    worst: dict[int, SharedPhrase] = {}
    concerned: dict[int, set[str]] = {}
    for item in shared:
        if item.against is not None:
            worst.setdefault(item.property_index, item)
            concerned.setdefault(item.property_index, set()).update(item.classes)
    return [
        Finding(
            Severity.WARNING,
            "conflicting_phrases",
            [worst[index].property_name, *sorted(concerned[index])],
            f"The property {worst[index].property_name!r} holds {worst[index].phrase!r} and "
            f"{worst[index].against!r} ({worst[index].reason}).",
            "A model would say one of them of a class described by the other; build again, which keeps them apart.",
            _REBUILD,
        )
        for index in sorted(concerned, key=lambda index: (-len(concerned[index]), index))
    ]


def _stranger_findings(shared: Sequence[SharedPhrase]) -> list[Finding]:
    """One finding about all phrases that fell in with something else."""
    strangers = [item for item in shared if item.is_stranger]
    if not strangers:
        return []
    examples = ", ".join(f"{item.phrase!r} in {item.property_name!r}" for item in strangers[:3])
    number = "1 phrase" if len(strangers) == 1 else f"{len(strangers)} phrases"
    return [
        Finding(
            Severity.WARNING,
            "far_phrase",
            list(dict.fromkeys(item.property_name for item in strangers)),
            f"{number} fell in with something else, for example {examples}.",
            "A model cannot tell them apart. Ask for more properties, or word the same idea alike.",
            f"{_REBUILD} --num-properties auto",
        )
    ]
