"""From class descriptions to a property space: encode, cluster, name, mark; and control spaces without meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from prolab_hf.label_space.clustering import (
    Algorithm,
    Clustering,
    by_first_appearance,
    cluster,
    knee,
    member_means,
)
from prolab_hf.label_space.conflicts import BUILT_IN, ConflictRules
from prolab_hf.label_space.constrained_clustering import TooFewProperties, identical_ideas, merge_anyway
from prolab_hf.label_space.operations import equal_rows
from prolab_hf.label_space.phrases.wording import same_wording
from prolab_hf.label_space.placement import FAR_COSINE
from prolab_hf.label_space.space_content import (
    SpaceContent,
    checked_descriptions,
    checked_names,
    matrix_from_rows,
)
from prolab_hf.label_space.text_encoder import TextEncoder

Space = TypeVar("Space", bound=SpaceContent)

# Descriptions of new classes that are further from every property than this share of the space's own
# descriptions is from its property are worth a warning.
FAR_QUANTILE = 0.01
# Rounds of asking the judge; each keeps more pairs apart, so it ends, but a contrary judge could take long.
_MAX_JUDGEMENTS = 8


@dataclass(frozen=True)
class BuildOptions:
    """How descriptions are grouped.

    Args:
        num_properties: A number, `"auto"` (only what means the same becomes one property) or `"knee"`.
        seed: Seed of the clustering.
        algorithm: `"constrained"` (no property holds a contradiction) or `"kmeans"` (as in the paper); for a
            number and `"knee"`.
        rules: What contradicts what.
        allow_conflicts: Whether contradictions may share a property where the number cannot be met otherwise.
    """

    num_properties: int | str = "auto"
    seed: int = 0
    algorithm: str = Algorithm.CONSTRAINED
    rules: ConflictRules = BUILT_IN
    allow_conflicts: bool = False


def build_space(
    space_class: type[Space],
    descriptions: Mapping[str, Sequence[str]],
    *,
    encoder: object,
    options: BuildOptions,
    property_names: Sequence[str] | Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    show_progress: bool = False,
) -> Space:
    """The work behind `PropertySpace.build`.

    Args:
        space_class: Class to make.
        descriptions: Class name -> sentences.
        encoder: Anything that `TextEncoder.load` takes.
        options: How to group.
        property_names: Names in order, or a mapping from default names.
        facts: `name` and `provenance` of the space.
        show_progress: Whether encoding shows a progress bar.

    Raises:
        ValueError: See `PropertySpace.build`.
    """
    texts = checked_descriptions(descriptions, None)
    for class_name, sentences in texts.items():
        if not sentences:
            raise ValueError(f"The class {class_name!r} has no description; write what can be seen of it.")
    flat = [sentence for sentences in texts.values() for sentence in sentences]
    text_encoder = TextEncoder.load(encoder)
    unique, inverse, counts = _unique_texts(flat, text_encoder.lower_case)
    _check_count(options.num_properties, len(unique))
    Algorithm.named(options.algorithm)  # before the texts are encoded
    vectors = text_encoder.encode(unique, show_progress=show_progress)
    groups = _grouped(vectors, counts, unique, options)
    labels = groups.labels[inverse]
    bounds = np.cumsum([len(sentences) for sentences in texts.values()])[:-1]
    assignments = {name: part.tolist() for name, part in zip(texts, np.split(labels, bounds))}
    matrix = matrix_from_rows(list(assignments.values()), len(groups.centers))
    refuse_equal_rows(texts, assignments, matrix)
    cosine = np.einsum("nd,nd->n", vectors, groups.centers[groups.labels])
    cosine /= np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    shared = np.bincount(groups.labels)[groups.labels] > 1
    info = groups.info | {
        "far_cosine": round(min(FAR_COSINE, float(np.quantile(cosine, FAR_QUANTILE))), 4),
        # Of the phrases that share a property with others; the others are their property.
        "phrase_cosines": {
            unique[row].lower(): round(float(cosine[row]), 4) for row in np.flatnonzero(shared)
        },
    }
    facts = facts or {}
    return space_class(
        class_names=list(texts),
        property_names=_named(common_names(vectors, groups, unique, counts), property_names),
        property_embeddings=groups.centers,
        class_property_matrix=matrix,
        descriptions=texts,
        assignments=assignments,
        name=facts.get("name") or "",
        encoder=text_encoder.info,
        clustering=info,
        provenance=facts.get("provenance"),
    )


def refuse_equal_rows(
    texts: Mapping[str, Sequence[str]], assignments: Mapping[str, Sequence[int]], matrix: torch.Tensor
) -> None:
    """Stops where two classes have the same properties, and says what would separate them.

    Args:
        texts: Class name -> sentences.
        assignments: Class name -> property of each sentence.
        matrix: `(num_classes, num_properties)`.

    Raises:
        ValueError: Two rows are equal.
    """
    twins = equal_rows(list(texts), matrix)
    if not twins:
        return
    first, second = twins[0]
    fell = [
        f"{one!r} and {two!r}"
        for one, index in zip(texts[first], assignments[first])
        for two, other in zip(texts[second], assignments[second])
        if index == other and same_wording(one) != same_wording(two)
    ]
    advice = (
        f"these fell into one property: {'; '.join(fell[:3])}. Word them so that they say how they differ, or "
        "ask for more properties"
        if fell
        else "their phrases say the same. Describe what only one of them shows"
    )
    more = f" {len(twins)} such pairs in all." if len(twins) > 1 else ""
    raise ValueError(
        f"The classes {first!r} ({', '.join(map(repr, texts[first]))}) and {second!r} "
        f"({', '.join(map(repr, texts[second]))}) have equal rows, so no image could tell them apart: {advice}.{more}"
    )


def _check_count(num_properties: int | str, available: int) -> None:
    if num_properties in ("auto", "knee"):
        return
    if isinstance(num_properties, bool) or not isinstance(num_properties, int) or num_properties < 1:
        raise ValueError(
            f'num_properties must be a positive integer, "auto" or "knee", got {num_properties!r}.'
        )
    if num_properties > available:
        raise ValueError(
            f"num_properties is {num_properties}, but there are only {available} different descriptions; ask "
            "for fewer properties or write more descriptions."
        )


def _grouped(
    vectors: np.ndarray, counts: np.ndarray, texts: Sequence[str], options: BuildOptions
) -> Clustering:
    """The grouping, asked again while the judge finds contradictions in it."""
    rules = options.rules
    for _ in range(_MAX_JUDGEMENTS):
        groups = _grouped_once(vectors, counts, texts, replace(options, rules=rules))
        refused = _refused_by_judge(groups.labels, texts, rules)
        if not refused or options.algorithm == Algorithm.KMEANS:
            break
        rules = replace(rules, always=rules.always | refused)
    return groups


def _grouped_once(
    vectors: np.ndarray, counts: np.ndarray, texts: Sequence[str], options: BuildOptions
) -> Clustering:
    if options.num_properties == "auto":
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return _as_clustering(
            vectors, identical_ideas(unit, texts, options.rules), counts, {"algorithm": "auto"}
        )
    number, curve = options.num_properties, None
    if number == "knee":
        number, curve = knee(vectors, weights=counts, seed=options.seed)
    number = int(number)
    try:
        groups = cluster(
            vectors,
            number,
            weights=counts,
            texts=texts,
            seed=options.seed,
            algorithm=options.algorithm,
            rules=options.rules,
        )
    except TooFewProperties as error:
        if number == options.num_properties and not options.allow_conflicts:
            raise TooFewProperties(
                f'{error} Ask for that many, for "auto", or allow contradictions (allow_conflicts=True, '
                "--allow-conflicts).",
                error.smallest,
            ) from error
        groups = cluster(
            vectors,
            error.smallest,
            weights=counts,
            texts=texts,
            seed=options.seed,
            algorithm=options.algorithm,
            rules=options.rules,
        )
        if options.allow_conflicts:
            labels = merge_anyway(vectors, groups.labels, number, counts)
            info = groups.info | {"num_properties": number, "smallest_without_conflict": error.smallest}
            groups = _as_clustering(vectors, labels, counts, info)
    if curve is not None:
        groups.info["knee_curve"] = [[size, round(error, 6)] for size, error in curve]
    return groups


def _as_clustering(
    vectors: np.ndarray, labels: np.ndarray, counts: np.ndarray, info: dict[str, Any]
) -> Clustering:
    labels = by_first_appearance(labels)
    return Clustering(
        labels, member_means(vectors, labels, counts), info | {"num_properties": int(labels.max()) + 1}
    )


def _refused_by_judge(
    labels: np.ndarray, texts: Sequence[str], rules: ConflictRules
) -> frozenset[frozenset[str]]:
    if rules.judge is None:
        return frozenset()
    refused = set()
    for group in range(int(labels.max()) + 1):
        members = [texts[int(row)] for row in np.flatnonzero(labels == group)]
        for position, first in enumerate(members):
            for second in members[position + 1 :]:
                pair = frozenset((same_wording(first), same_wording(second)))
                if len(pair) == 2 and pair not in rules.always | rules.never and rules.judge(first, second):
                    refused.add(pair)
    return frozenset(refused)


def _unique_texts(texts: Sequence[str], lower_case: bool) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Different texts in order of appearance, the index of each text among them, how often each occurs."""
    index: dict[str, int] = {}
    shown: list[str] = []
    inverse = []
    for text in texts:
        key = text.lower() if lower_case else text
        if key not in index:
            index[key] = len(shown)
            shown.append(text)
        inverse.append(index[key])
    positions = np.array(inverse, dtype=np.int64)
    return shown, positions, np.bincount(positions).astype(np.float64)


def common_names(
    vectors: np.ndarray, groups: Clustering, texts: Sequence[str], counts: np.ndarray
) -> list[str]:
    """Default name of each property: the phrase most of its classes use, numbered where that repeats.

    Args:
        vectors: `(N, embedding_dim)`.
        groups: Their clustering.
        texts: The N descriptions.
        counts: `(N,)`, how many classes use each.
    """
    # Rounded: the two members of a pair are equally central, and the last bits must not choose between them.
    cosine = np.einsum("nd,nd->n", vectors, groups.centers[groups.labels]).round(9)
    names: list[str] = []
    for index in range(len(groups.centers)):
        members = np.flatnonzero(groups.labels == index)
        best = max(members.tolist(), key=lambda row: (counts[row], cosine[row], -row))
        name = texts[best].strip()[:200]
        number, unique = 2, name
        while unique in names:
            unique, number = f"{name} ({number})", number + 1
        names.append(unique)
    return names


def _named(defaults: list[str], wanted: Sequence[str] | Mapping[str, str] | None) -> list[str]:
    if wanted is None:
        return defaults
    if isinstance(wanted, Mapping):
        missing = sorted(set(wanted) - set(defaults))
        if missing:
            raise ValueError(
                f"property_names renames {missing[0]!r}, which is no property's default name "
                f"({len(missing)} of {len(wanted)} entries match none)."
            )
        return checked_names([wanted.get(name, name) for name in defaults], "property_names")
    if len(wanted) != len(defaults):
        raise ValueError(f"property_names has {len(wanted)} names for {len(defaults)} properties.")
    return checked_names(list(wanted), "property_names")


_RANDOM_CODE_DIM = 384
_MAX_DRAWS = 100


def shuffled_space(space: Space, seed: int) -> Space:
    """Deals the rows out to other classes; see `PropertySpace.shuffled`.

    Args:
        space: A space of at least two classes.
        seed: Seed of the permutation.

    Raises:
        ValueError: There is only one class.
    """
    if space.num_classes < 2:
        raise ValueError("A space of one class cannot be shuffled.")
    generator = np.random.default_rng(seed)
    # A random cycle through the classes: nobody keeps its own row, as a plain permutation would allow.
    order = generator.permutation(space.num_classes)
    permutation = np.empty_like(order)
    permutation[order] = np.roll(order, 1)
    return space.replace(
        class_property_matrix=space.class_property_matrix[permutation.tolist()],
        assignments={},
        name=f"{space.name} shuffled".strip(),
        clustering=space.clustering | {"control": "shuffled", "control_seed": seed},
    )


def random_codes_space(
    space_class: type[Space], class_names: Sequence[str], num_properties: int, density: float, seed: int
) -> Space:
    """Draws rows at random; see `PropertySpace.random_codes`.

    Args:
        space_class: Class to make.
        class_names: Names of the classes.
        num_properties: Number of columns.
        density: Share of ones in (0, 1).
        seed: Seed of the draw.

    Raises:
        ValueError: The density leaves no room for different, non-empty rows.
    """
    if num_properties < 1 or not 0 < density < 1:
        raise ValueError(
            f"num_properties must be positive and density in (0, 1), got {num_properties} and {density}."
        )
    names = checked_names(class_names, "class_names")
    generator = np.random.default_rng(seed)
    matrix = generator.random((len(names), num_properties)) < density
    for _ in range(_MAX_DRAWS):
        first = np.unique(matrix, axis=0, return_index=True)[1]
        bad = np.setdiff1d(np.arange(len(names)), first).tolist()
        bad += [row for row in np.flatnonzero(~matrix.any(axis=1)).tolist() if row not in bad]
        if not bad:
            break
        matrix[bad] = generator.random((len(bad), num_properties)) < density
    else:
        raise ValueError(
            f"Found no {len(names)} different rows of {num_properties} bits at density {density}; take more "
            "properties or another density."
        )
    return space_class(
        class_names=names,
        property_names=[f"bit {index}" for index in range(num_properties)],
        property_embeddings=generator.standard_normal((num_properties, _RANDOM_CODE_DIM)),
        class_property_matrix=matrix,
        name="random codes",
        clustering={"control": "random_codes", "density": density, "seed": seed},
    )


def one_hot_space(space_class: type[Space], class_names: Sequence[str]) -> Space:
    """One property per class; see `PropertySpace.one_hot`.

    Args:
        space_class: Class to make.
        class_names: Names of the classes.
    """
    names = checked_names(class_names, "class_names")
    return space_class(
        class_names=names,
        property_names=names,
        property_embeddings=np.eye(len(names)),
        class_property_matrix=np.eye(len(names)),
        name="one-hot",
        clustering={"control": "one_hot"},
    )


def class_name_space(space_class: type[Space], class_names: Sequence[str], encoder: object) -> Space:
    """One property per class with the embedding of its name; see `PropertySpace.class_name_embeddings`.

    Args:
        space_class: Class to make.
        class_names: Names of the classes.
        encoder: Anything that `TextEncoder.load` takes.
    """
    names = checked_names(class_names, "class_names")
    text_encoder = TextEncoder.load(encoder)
    return space_class(
        class_names=names,
        property_names=names,
        property_embeddings=text_encoder.encode(names),
        class_property_matrix=np.eye(len(names)),
        descriptions={name: [name] for name in names},
        assignments={name: [index] for index, name in enumerate(names)},
        name="class names",
        encoder=text_encoder.info,
        clustering={"control": "class_name_embeddings"},
    )
