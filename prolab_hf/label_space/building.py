"""From class descriptions to a property space: encode, cluster, name, mark; and control spaces without meaning."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from prolab_hf.label_space.clustering import Algorithm, Clustering, cluster, knee
from prolab_hf.label_space.operations import FAR_COSINE, equal_rows
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.space_content import checked_descriptions, checked_names, matrix_from_rows
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
            f"The classes {twins[0][0]!r} and {twins[0][1]!r} have equal rows, so no image could tell them "
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


def class_name_space(space_class: type[Space], class_names: Sequence[str], encoder: Any) -> Space:
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
