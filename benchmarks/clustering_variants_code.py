"""Other ways to group descriptions, kept because they were measured against K-Means (benchmarks/).

Each takes `vectors` (N, embedding_dim) in float64 and gives `(N,)` labels with no cluster empty.
"""

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.cluster import kmeans_plusplus

from prolab_hf.label_space.report.opposites import OPPOSITES, sides

BALANCE = 1.5
_MAX_STEPS = 100


def spherical_kmeans(
    vectors: np.ndarray, num_clusters: int, *, weights: np.ndarray, seed: int, n_init: int
) -> np.ndarray:
    """K-Means by cosine: the centers are unit vectors, the sum of cosines is what grows.

    Args:
        vectors: `(N, embedding_dim)`.
        num_clusters: From 1 to N.
        weights: `(N,)`.
        seed: Seed of the starts.
        n_init: Number of starts, of which the best is kept.
    """
    return _best_start(_unit(vectors), num_clusters, weights, seed, n_init, capacity=None)


def balanced_kmeans(
    vectors: np.ndarray, num_clusters: int, *, weights: np.ndarray, seed: int, n_init: int
) -> np.ndarray:
    """Spherical K-Means in which no cluster takes more than `BALANCE` times N / num_clusters vectors.

    Args:
        vectors: `(N, embedding_dim)`.
        num_clusters: From 1 to N.
        weights: `(N,)`; they move the centers and do not count against the limit.
        seed: Seed of the starts.
        n_init: Number of starts, of which the best is kept.
    """
    capacity = int(np.ceil(BALANCE * len(vectors) / num_clusters))
    return _best_start(_unit(vectors), num_clusters, weights, seed, n_init, capacity=capacity)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _best_start(
    unit: np.ndarray, num_clusters: int, weights: np.ndarray, seed: int, n_init: int, *, capacity: int | None
) -> np.ndarray:
    best, best_score = np.zeros(len(unit), dtype=np.int64), -np.inf
    # Drawn, not counted up: seeds next to each other must not share nine of their ten starts.
    for start in np.random.default_rng(seed).integers(2**31, size=n_init).tolist():
        labels, score = _one_start(unit, num_clusters, weights, start, capacity)
        if score > best_score + 1e-12:
            best, best_score = labels, score
    return best


def _one_start(
    unit: np.ndarray, num_clusters: int, weights: np.ndarray, seed: int, capacity: int | None
) -> tuple[np.ndarray, float]:
    centers = kmeans_plusplus(unit, num_clusters, sample_weight=weights, random_state=seed)[0]
    labels = np.full(len(unit), -1)
    for _ in range(_MAX_STEPS):
        cosine = unit @ centers.T
        new_labels = cosine.argmax(axis=1) if capacity is None else _within_capacity(cosine, capacity)
        new_labels = _without_empty(cosine, new_labels, num_clusters)
        if np.array_equal(new_labels, labels):
            break
        labels = new_labels
        centers = np.zeros_like(centers)
        np.add.at(centers, labels, unit * weights[:, None])
        centers = _unit(centers)
    score = float((weights * np.einsum("nd,nd->n", unit, centers[labels])).sum())
    return labels, score


def _without_empty(cosine: np.ndarray, labels: np.ndarray, num_clusters: int) -> np.ndarray:
    sizes = np.bincount(labels, minlength=num_clusters)
    order = np.argsort(cosine[np.arange(len(labels)), labels], kind="stable")
    for target in np.flatnonzero(sizes == 0):
        point = next(index for index in order if sizes[labels[index]] > 1)
        sizes[labels[point]] -= 1
        labels[point] = target
        sizes[target] = 1
    return labels


def _within_capacity(cosine: np.ndarray, capacity: int) -> np.ndarray:
    """Nearest center with room left; vectors that would lose most by waiting choose first."""
    preference = np.argsort(-cosine, axis=1, kind="stable")
    sorted_cosine = np.take_along_axis(cosine, preference, axis=1)
    regret = sorted_cosine[:, 0] - sorted_cosine[:, min(1, cosine.shape[1] - 1)]
    room = np.full(cosine.shape[1], capacity)
    labels = np.empty(len(cosine), dtype=np.int64)
    for point in np.argsort(-regret, kind="stable"):
        choice = next(center for center in preference[point] if room[center] > 0)
        labels[point] = choice
        room[choice] -= 1
    return labels


def split_opposites(
    vectors: np.ndarray,
    texts: Sequence[str],
    num_clusters: int,
    *,
    weights: np.ndarray,
    kmeans: Callable[[int], np.ndarray],
) -> np.ndarray:
    """K-Means with fewer clusters, then splits of those whose texts contradict each other.

    Args:
        vectors: `(N, embedding_dim)`.
        texts: The N descriptions.
        num_clusters: Number of clusters in the end.
        weights: `(N,)`.
        kmeans: Function from a number of clusters to `(N,)` labels.
    """
    table = np.array([sides(text) for text in texts])
    # Fewer first clusters hold more opposites, so two rounds settle how many splits to plan for.
    planned = 0
    for _ in range(2):
        labels = kmeans(num_clusters - planned)
        planned = min(len(_conflicts(table, labels, weights)), num_clusters // 4)
    labels = kmeans(num_clusters - planned)
    count = num_clusters - planned
    while count < num_clusters:
        conflicts = _conflicts(table, labels, weights)
        if not conflicts:
            return _split_widest(vectors, labels, weights, num_clusters)
        target, entry = conflicts[0]
        labels = _split(vectors, labels, table[:, entry], target=target, new=count)
        count += 1
    return labels


def _conflicts(table: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> list[tuple[int, int]]:
    """Clusters that hold both sides of an opposition, the heaviest lighter side first: `(cluster, entry)`."""
    found = []
    for target in range(int(labels.max()) + 1):
        inside = labels == target
        left = ((table[inside] < 0) * weights[inside, None]).sum(axis=0)
        right = ((table[inside] > 0) * weights[inside, None]).sum(axis=0)
        lighter = np.minimum(left, right)
        entry = int(lighter.argmax()) if len(OPPOSITES) else 0
        if lighter[entry] > 0:
            found.append((float(lighter[entry]), target, entry))
    return [(target, entry) for _, target, entry in sorted(found, key=lambda item: (-item[0], item[1]))]


def _split(vectors: np.ndarray, labels: np.ndarray, side: np.ndarray, *, target: int, new: int) -> np.ndarray:
    """Left side stays, right side leaves, the undecided go where they are nearer."""
    inside = np.flatnonzero(labels == target)
    left, right = (vectors[inside[side[inside] == sign]].mean(axis=0) for sign in (-1, 1))
    nearer_right = ((vectors[inside] - right) ** 2).sum(axis=1) < ((vectors[inside] - left) ** 2).sum(axis=1)
    leaves = np.where(side[inside] == 0, nearer_right, side[inside] > 0)
    labels = labels.copy()
    labels[inside[leaves]] = new
    return labels


def _split_widest(
    vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray, num_clusters: int
) -> np.ndarray:
    """Halves the cluster with the largest error, along its two most distant members, until it is enough."""
    labels = labels.copy()
    for new in range(int(labels.max()) + 1, num_clusters):
        errors = []
        for target in range(new):
            members = vectors[labels == target]
            mass = weights[labels == target]
            mean = (members * mass[:, None]).sum(axis=0) / mass.sum()
            errors.append(float((mass * ((members - mean) ** 2).sum(axis=1)).sum()))
        inside = np.flatnonzero(labels == int(np.argmax(errors)))
        members = vectors[inside]
        far = int(((members - members.mean(axis=0)) ** 2).sum(axis=1).argmax())
        other = int(((members - members[far]) ** 2).sum(axis=1).argmax())
        nearer = ((members - members[far]) ** 2).sum(axis=1) < ((members - members[other]) ** 2).sum(axis=1)
        labels[inside[nearer]] = new
    return labels
