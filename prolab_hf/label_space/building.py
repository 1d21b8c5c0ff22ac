"""From class descriptions to a property space: encode, cluster, name, mark."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from prolab_hf.label_space.clustering import Algorithm, Clustering, cluster, knee
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.space_operations import FAR_COSINE, equal_rows, matrix_from_rows
from prolab_hf.label_space.space_validation import checked_descriptions, checked_names
from prolab_hf.label_space.text_encoder import TextEncoder

Space = TypeVar("Space", bound=PropertySpace)

# Descriptions of new classes that are further from every property than this share of the space's own
# descriptions is from its property are worth a warning.
FAR_QUANTILE = 0.01


def build_space(
    space_class: type[Space],
    descriptions: Mapping[str, Sequence[str]],
    *,
    encoder: Any,
    clustering: Mapping[str, Any],
    property_names: Sequence[str] | Mapping[str, str] | None = None,
    facts: Mapping[str, Any] | None = None,
    show_progress: bool = False,
) -> Space:
    """The work behind `PropertySpace.build`.

    Args:
        space_class: Class to make.
        descriptions: Class name -> sentences.
        encoder: Anything that `TextEncoder.load` takes.
        clustering: `num_properties` (a number or `"knee"`), `seed`, `algorithm`.
        property_names: Names in order, or a mapping from default names.
        facts: `name` and `provenance` of the space.
        show_progress: Whether encoding shows a progress bar.

    Raises:
        ValueError: See `PropertySpace.build`.
    """
    texts = checked_descriptions(descriptions, None)
    for class_name, sentences in texts.items():
        if not sentences:
            raise ValueError(f"The class {class_name!r} has no description.")
    flat = [sentence for sentences in texts.values() for sentence in sentences]
    text_encoder = TextEncoder.load(encoder)
    unique, inverse, counts = _unique_texts(flat, text_encoder.lower_case)
    num_properties = clustering["num_properties"]
    _check_count(num_properties, len(unique))
    Algorithm.named(clustering.get("algorithm", Algorithm.KMEANS))  # before the texts are encoded
    vectors = text_encoder.encode(unique, show_progress=show_progress)
    groups = _clustered(vectors, counts, unique, clustering)
    labels = groups.labels[inverse]
    bounds = np.cumsum([len(sentences) for sentences in texts.values()])[:-1]
    assignments = {name: part.tolist() for name, part in zip(texts, np.split(labels, bounds))}
    matrix = matrix_from_rows(list(assignments.values()), len(groups.centers))
    twins = equal_rows(list(texts), matrix)
    if twins:
        raise ValueError(
            f"The classes {twins[0][0]!r} and {twins[0][1]!r} have equal rows, so no picture could tell them "
            f"apart ({len(twins)} such pair{'s' if len(twins) > 1 else ''}). Describe what only one of them "
            "shows, or ask for more properties."
        )
    cosine = np.einsum("nd,nd->n", vectors, groups.centers[groups.labels])
    cosine /= np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
    info = groups.info | {"far_cosine": round(min(FAR_COSINE, float(np.quantile(cosine, FAR_QUANTILE))), 4)}
    facts = facts or {}
    return space_class(
        class_names=list(texts),
        property_names=_named(medoid_names(vectors, groups, unique), property_names),
        property_embeddings=groups.centers,
        class_property_matrix=matrix,
        descriptions=texts,
        assignments=assignments,
        name=facts.get("name") or "",
        encoder=text_encoder.info,
        clustering=info,
        provenance=facts.get("provenance"),
    )


def _check_count(num_properties: int | str, available: int) -> None:
    if num_properties == "knee":
        return
    if isinstance(num_properties, bool) or not isinstance(num_properties, int) or num_properties < 1:
        raise ValueError(f'num_properties must be a positive integer or "knee", got {num_properties!r}.')
    if num_properties > available:
        raise ValueError(
            f"num_properties is {num_properties}, but there are only {available} different descriptions; ask "
            "for fewer properties or write more descriptions."
        )


def _clustered(
    vectors: np.ndarray, counts: np.ndarray, texts: Sequence[str], wanted: Mapping[str, Any]
) -> Clustering:
    options = {"weights": counts, "seed": wanted.get("seed", 0)}
    num_properties = wanted["num_properties"]
    curve = None
    if num_properties == "knee":
        num_properties, curve = knee(vectors, **options)
    groups = cluster(
        vectors, num_properties, texts=texts, algorithm=wanted.get("algorithm", "kmeans"), **options
    )
    if curve is not None:
        groups.info["knee_curve"] = [[size, round(error, 6)] for size, error in curve]
    return groups


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


def medoid_names(vectors: np.ndarray, groups: Clustering, texts: Sequence[str]) -> list[str]:
    """Default name of each property: its most central description, numbered where that repeats.

    Args:
        vectors: `(N, embedding_dim)`.
        groups: Their clustering.
        texts: The N descriptions.
    """
    # Rounded: the two members of a pair are equally central, and the last bits must not choose between them.
    cosine = np.einsum("nd,nd->n", vectors, groups.centers[groups.labels]).round(9)
    names: list[str] = []
    for index in range(len(groups.centers)):
        members = np.flatnonzero(groups.labels == index)
        name = texts[members[int(cosine[members].argmax())]].strip()[:200]
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
