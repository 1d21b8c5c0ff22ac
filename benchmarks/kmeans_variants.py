"""Ways to group descriptions that won nothing over those of the package; `clustering_variants.py` measures them.

Each takes `vectors` (N, embedding_dim) in float64 and gives `(N,)` labels with no cluster empty.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.cluster import kmeans_plusplus

from prolab_hf.label_space.clustering import kmeans_labels
from prolab_hf.label_space.constrained_clustering import refine

BALANCE = 1.5
_MAX_STEPS = 100


# Words of one side exclude words of the other side in what can be seen.
OPPOSITES: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(left.split()), frozenset(right.split()))
    for left, right in (
        ("small smaller tiny little miniature compact", "large larger big huge massive giant enormous"),
        ("short shorter low lower", "tall taller high higher towering"),
        ("short shorter", "long longer elongated"),
        ("narrow narrower slim slender thin thinner", "wide wider broad thick thicker bulky"),
        ("soft fluffy plush", "hard rigid stiff"),
        ("smooth polished", "rough coarse bumpy rugged"),
        ("dark darker black", "light lighter bright white pale"),
        ("vertical upright", "horizontal"),
        ("straight", "curved bent winding arched"),
        ("flat", "domed bulging hilly"),
        ("round rounded circular spherical", "square rectangular angular boxy"),
        ("transparent clear see-through", "opaque"),
        ("shiny glossy reflective", "matte dull"),
        ("open", "closed shut"),
        ("empty", "full filled"),
        ("wet", "dry"),
        ("indoor indoors", "outdoor outdoors"),
        ("still calm stationary", "moving flowing"),
        ("leafy", "leafless bare"),
        ("plain", "patterned striped checkered floral"),
        ("front", "rear back"),
        ("top above overhead", "bottom below underneath beneath"),
    )
)

_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def sides(text: str) -> list[int]:
    """For each entry of `OPPOSITES`: -1 left side, 1 right side, 0 neither or both.

    Args:
        text: A description.
    """
    words = set(_WORD.findall(text.lower()))
    return [bool(words & right) - bool(words & left) for left, right in OPPOSITES]


def constrained_kmeans(
    vectors: np.ndarray, num_clusters: int, *, weights: np.ndarray, seed: int, conflicts: np.ndarray
) -> np.ndarray:
    """K-Means, its contradicting members moved apart (nearest center that takes them), then constrained moves.

    Args:
        vectors: `(N, embedding_dim)`.
        num_clusters: From 1 to N.
        weights: `(N,)`.
        seed: Seed of the starts.
        conflicts: `(N, N)` bool, phrases that must not share a cluster.

    Raises:
        ValueError: A phrase found no cluster that takes it.
    """
    start, _ = kmeans_labels(vectors, num_clusters, weights, seed=seed, n_init=10)
    centers = np.stack([vectors[start == index].mean(axis=0) for index in range(num_clusters)])
    cosine = _unit(vectors) @ _unit(centers).T
    labels = np.full(len(vectors), -1)
    # Heavy phrases choose first, near ones before far ones.
    order = np.lexsort((-cosine.max(axis=1), -weights))
    for row in order:
        blocked = np.zeros(num_clusters, dtype=bool)
        blocked[labels[conflicts[row] & (labels >= 0)]] = True
        if blocked.all():
            raise ValueError(f"Constrained K-Means found no place for phrase {row}.")
        labels[row] = int(np.where(blocked, -np.inf, cosine[row]).argmax())
    labels = _without_empty(cosine, labels, num_clusters)
    return refine(vectors, labels, weights, conflicts)


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
