"""Sentence vectors in, groups out: K-Means as in the paper, or groups that hold no contradiction."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import sklearn
from sklearn.cluster import KMeans, MiniBatchKMeans

from prolab_hf.label_space.conflicts import ConflictRules
from prolab_hf.label_space.constrained_clustering import constrained_labels

N_INIT = 10
# Vectors x clusters x dimensions above which a full K-Means with ten starts would take many minutes; a
# 150-class space has 1.5e8, a 10,000-class vocabulary some 4e10.
MINI_BATCH_WORK = 4e9


class Algorithm(StrEnum):
    """How descriptions are grouped into properties."""

    KMEANS = "kmeans"
    """Euclidean K-Means, as in the paper."""
    CONSTRAINED = "constrained"
    """Ward's agglomeration that never puts contradicting descriptions together, refined by K-Means moves."""

    @classmethod
    def named(cls, name: "Algorithm | str") -> "Algorithm":
        """The algorithm of a name.

        Raises:
            ValueError: There is none of that name.
        """
        try:
            return cls(name)
        except ValueError as error:
            allowed = ", ".join(item.value for item in cls)
            raise ValueError(f"Unknown clustering algorithm {name!r}; allowed: {allowed}.") from error


@dataclass(frozen=True)
class Clustering:
    """A grouping of N vectors.

    Args:
        labels: `(N,)` int64, the cluster of each vector; clusters are numbered by first appearance.
        centers: `(num_clusters, embedding_dim)` float64 means of the members, of unit length.
        info: Algorithm, sizes, seed and library version.
    """

    labels: np.ndarray
    centers: np.ndarray
    info: dict[str, Any]


def cluster(
    vectors: np.ndarray,
    num_clusters: int,
    *,
    weights: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    algorithm: Algorithm | str = Algorithm.KMEANS,
    n_init: int = N_INIT,
    rules: ConflictRules | None = None,
) -> Clustering:
    """Groups vectors; the same input gives the same output.

    Args:
        vectors: `(N, embedding_dim)`, finite, different from each other.
        num_clusters: From 1 to N.
        weights: `(N,)` positive, how often each vector counts; 1 by default.
        texts: The N descriptions; `"constrained"` reads them.
        seed: Seed of the starts.
        algorithm: One of `Algorithm`.
        n_init: Number of starts, of which the best is kept; very large inputs use one start on mini-batches.
        rules: What contradicts what, for `"constrained"`; the built-in rules by default.

    Raises:
        ValueError: The sizes do not fit, a number is not finite, or (`TooFewProperties`) descriptions that
            contradict each other would share a group.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(f"vectors must be a finite table, got shape {vectors.shape}.")
    if not 1 <= num_clusters <= len(vectors):
        raise ValueError(
            f"num_properties must be from 1 to {len(vectors)} (different descriptions), got {num_clusters}."
        )
    weights = np.ones(len(vectors)) if weights is None else np.asarray(weights, dtype=np.float64)
    kind = Algorithm.named(algorithm)
    info: dict[str, Any] = {
        "algorithm": kind.value,
        "num_properties": num_clusters,
        "seed": seed,
        "library": f"scikit-learn {sklearn.__version__}",
    }
    if kind is Algorithm.CONSTRAINED:
        if texts is None:
            raise ValueError('The clustering "constrained" needs the texts of the vectors.')

        def coarse(count: int) -> np.ndarray:
            return kmeans_labels(vectors, count, weights, seed=seed, n_init=1)[0]

        checked = ConflictRules.load(rules)
        labels = constrained_labels(
            vectors, num_clusters, weights=weights, texts=texts, rules=checked, coarse=coarse
        )
    else:
        labels, solver = kmeans_labels(vectors, num_clusters, weights, seed=seed, n_init=n_init)
        info |= {"solver": solver, "n_init": n_init if solver == "lloyd" else 1}
    labels = by_first_appearance(labels)
    return Clustering(labels, member_means(vectors, labels, weights), info)


def kmeans_labels(
    vectors: np.ndarray, num_clusters: int, weights: np.ndarray, *, seed: int, n_init: int
) -> tuple[np.ndarray, str]:
    """scikit-learn's K-Means; for very large inputs its mini-batch form.

    Args:
        vectors: `(N, embedding_dim)` float64.
        num_clusters: From 1 to N.
        weights: `(N,)`.
        seed: Seed of the starts.
        n_init: Number of starts.

    Returns:
        `(N,)` labels with no cluster empty, and the solver: `"lloyd"` or `"minibatch"`.
    """
    if vectors.size * num_clusters <= MINI_BATCH_WORK:
        model, solver = KMeans(num_clusters, n_init=n_init, random_state=seed), "lloyd"
    else:
        size = max(4096, 2 * num_clusters)
        model, solver = (
            MiniBatchKMeans(num_clusters, n_init=1, random_state=seed, batch_size=size),
            "minibatch",
        )
    model.fit(vectors, sample_weight=weights)
    return fill_empty(vectors, model.labels_.astype(np.int64), model.cluster_centers_), solver


def fill_empty(vectors: np.ndarray, labels: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Gives every empty cluster the vector that is worst served where it is.

    Args:
        vectors: `(N, embedding_dim)`.
        labels: `(N,)`.
        centers: `(num_clusters, embedding_dim)`, at most N.
    """
    sizes = np.bincount(labels, minlength=len(centers))
    empty = np.flatnonzero(sizes == 0)
    if not empty.size:
        return labels
    labels = labels.copy()
    order = np.argsort(-((vectors - centers[labels]) ** 2).sum(axis=1), kind="stable")
    for target in empty:
        point = next(index for index in order if sizes[labels[index]] > 1)
        sizes[labels[point]] -= 1
        labels[point] = target
        sizes[target] = 1
    return labels


def by_first_appearance(labels: np.ndarray) -> np.ndarray:
    """Renumbers clusters in the order in which they occur, so that equal partitions have equal labels.

    Args:
        labels: `(N,)` integers.
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def member_means(vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of the members, scaled to unit length.

    Summed here in a fixed order: the solver's own centers differ in the last bits with its number of threads.

    Args:
        vectors: `(N, embedding_dim)`.
        labels: `(N,)` clusters from 0 to num_clusters - 1.
        weights: `(N,)`.

    Returns:
        `(num_clusters, embedding_dim)`.

    Raises:
        ValueError: The members of a cluster cancel out.
    """
    sums = np.zeros((int(labels.max()) + 1, vectors.shape[1]))
    np.add.at(sums, labels, vectors * weights[:, None])
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if norms.min() < 1e-12:
        raise ValueError(f"The members of cluster {int(norms.argmin())} cancel out, so it has no direction.")
    return sums / norms


def knee(
    vectors: np.ndarray, *, weights: np.ndarray | None = None, seed: int = 0, num_points: int = 14
) -> tuple[int, list[tuple[int, float]]]:
    """Number of clusters at the bend of the error curve: the point furthest below its chord.

    The curve is the K-Means error over K from N/40 to N/2, in equal ratios, both axes scaled to [0, 1].

    Args:
        vectors: `(N, embedding_dim)`, N at least 2.
        weights: `(N,)`.
        seed: Seed of the clusterings (one start each).
        num_points: Points on the curve.

    Returns:
        The chosen number, and the curve `[(num_clusters, error), ...]`.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    weights = np.ones(len(vectors)) if weights is None else np.asarray(weights, dtype=np.float64)
    low, high = max(1, len(vectors) // 40), max(2, len(vectors) // 2)
    sizes = sorted({round(size) for size in np.geomspace(low, high, num_points)})
    curve = []
    for size in sizes:
        labels = kmeans_labels(vectors, size, weights, seed=seed, n_init=1)[0]
        sums, mass = np.zeros((size, vectors.shape[1])), np.bincount(labels, weights, minlength=size)
        np.add.at(sums, labels, vectors * weights[:, None])
        means = sums / mass[:, None]
        error = float((weights * ((vectors - means[labels]) ** 2).sum(axis=1)).sum())
        curve.append((size, error))
    across = np.array([size for size, _ in curve], dtype=np.float64)
    down = np.array([error for _, error in curve])
    if len(curve) < 3 or down[0] == down[-1]:
        return curve[-1][0], curve
    across = (across - across[0]) / (across[-1] - across[0])
    down = (down - down[-1]) / (down[0] - down[-1])
    return curve[int((1 - across - down).argmax())][0], curve
