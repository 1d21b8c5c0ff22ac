"""Groups of phrases that never hold a contradiction: identical ideas, or a wanted number of properties.

Agglomeration under cannot-link constraints. Two groups merge only where no phrase of one conflicts with a phrase
of the other. The next merge is always the one that raises the K-Means error least (Ward, with the root of how often
a phrase occurs as its weight), so rare phrases join their nearest neighbour before two common ideas are put
together. Average linkage and constrained K-Means were measured beside it (`benchmarks/clustering_variants.py`).
"""

from collections.abc import Callable, Sequence

import numpy as np

from prolab_hf.label_space.conflicts import ConflictRules
from prolab_hf.label_space.phrases.wording import same_wording

# Differently worded phrases with the same claims count as one idea from this cosine on. all-MiniLM-L6-v2 gives
# paraphrases 0.88 to 0.98 ("newly planted" / "recently planted"); different ideas with equal claims reach 0.83.
SAME_IDEA_COSINE = 0.87
# Phrases above this number are first grouped by K-Means: the tables take 17 bytes a pair and grow with the square.
MAX_TABLE = 8000


class TooFewProperties(ValueError):
    """The wanted number of properties cannot be met without a contradiction.

    Args:
        message: What to tell the user.
        smallest: The smallest number found that can be met.
    """

    def __init__(self, message: str, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


def identical_ideas(
    vectors: np.ndarray, texts: Sequence[str], rules: ConflictRules, threshold: float = SAME_IDEA_COSINE
) -> np.ndarray:
    """Groups phrases that say the same: equal wording, or equal claims and nearly equal meaning.

    Args:
        vectors: `(N, embedding_dim)`, unit rows.
        texts: The N phrases.
        rules: What contradicts what.
        threshold: Cosine from which differently worded phrases with the same claims count as one idea; all
            pairs of a group must reach it.

    Returns:
        `(N,)` group of each phrase.
    """
    labels = _same_wording_labels(texts)
    members = [list(np.flatnonzero(labels == group)) for group in range(labels.max() + 1)]
    for first, second in _near_pairs(vectors, threshold):
        one, two = labels[first], labels[second]
        if one == two or not rules.same_claims(texts[first], texts[second]):
            continue
        cross = vectors[members[one]] @ vectors[members[two]].T
        if cross.min() < threshold or _groups_conflict(texts, members[one], members[two], rules):
            continue
        members[one] += members[two]
        labels[members[two]] = one
        members[two] = []
    return labels


def _same_wording_labels(texts: Sequence[str]) -> np.ndarray:
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(same_wording(text), len(seen)) for text in texts], dtype=np.int64)


def _near_pairs(vectors: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Index pairs whose cosine reaches the threshold, nearest first."""
    found: list[tuple[float, int, int]] = []
    block = 1024
    for start in range(0, len(vectors), block):
        cosine = vectors[start : start + block] @ vectors.T
        rows, columns = np.nonzero(cosine >= threshold)
        later = columns > rows + start
        for row, column in zip(rows[later].tolist(), columns[later].tolist()):
            # Rounded: the last bits differ between machines and must not choose the order.
            found.append((-round(float(cosine[row, column]), 9), start + row, column))
    return [(first, second) for _, first, second in sorted(found)]


def _groups_conflict(
    texts: Sequence[str], first: Sequence[int], second: Sequence[int], rules: ConflictRules
) -> bool:
    return any(rules.keeps_apart(texts[one], texts[two]) for one in first for two in second)


def merge_anyway(
    vectors: np.ndarray, labels: np.ndarray, num_clusters: int, weights: np.ndarray
) -> np.ndarray:
    """Merges groups by Ward's cost alone until `num_clusters` are left, for users who accept contradictions.

    Args:
        vectors: `(N, embedding_dim)`.
        labels: `(N,)` groups.
        num_clusters: Wanted number.
        weights: `(N,)`.
    """
    centers = _centers(vectors, labels, weights)
    mass = np.bincount(labels, weights)
    free = np.zeros((len(centers), len(centers)), dtype=bool)
    return agglomerate(centers, num_clusters, mass, free, "ward")[labels]


def constrained_labels(
    vectors: np.ndarray,
    num_clusters: int,
    *,
    weights: np.ndarray,
    texts: Sequence[str],
    rules: ConflictRules,
    coarse: Callable[[int], np.ndarray],
) -> np.ndarray:
    """Groups N phrases into exactly `num_clusters` groups without a contradiction.

    Args:
        vectors: `(N, embedding_dim)`.
        num_clusters: From 1 to N.
        weights: `(N,)` how often each phrase occurs.
        texts: The N phrases.
        rules: What contradicts what.
        coarse: K-Means labels of the phrases for a number of groups; very large inputs start from them.

    Returns:
        `(N,)` group of each phrase.

    Raises:
        TooFewProperties: No grouping of that size was found; it says the smallest that was.
    """
    if len(texts) > MAX_TABLE:
        return _large_labels(vectors, num_clusters, weights, texts, rules, coarse)
    # The root: with full weights rare phrases join far ones, with none too many properties belong to one class.
    mass = np.sqrt(weights)
    # First also apart: values of different nouns ("yellow", "white clouds"), which is more than a contradiction.
    for conflicts in (rules.matrix(texts, whatever_noun=True), rules.matrix(texts)):
        labels = agglomerate(vectors, num_clusters, mass, conflicts, "ward")
        reached = int(labels.max()) + 1
        if reached == num_clusters:
            return refine(vectors, labels, mass, conflicts)
    # Greedy merging can block itself; coloring the conflicts needs fewer groups, if worse ones.
    colored = color_groups(vectors, conflicts)
    smallest = min(reached, int(colored.max()) + 1)
    if smallest > num_clusters:
        raise TooFewProperties(
            f"{num_clusters} properties are too few: phrases that contradict each other would share one. "
            f"The smallest number that works here is {smallest}.",
            smallest,
        )
    return refine(vectors, split_loosest(vectors, colored, num_clusters, mass), mass, conflicts)


def _large_labels(
    vectors: np.ndarray,
    num_clusters: int,
    weights: np.ndarray,
    texts: Sequence[str],
    rules: ConflictRules,
    coarse: Callable[[int], np.ndarray],
) -> np.ndarray:
    """K-Means with fewer groups, then every group parted where it holds contradictions, until the number fits."""
    planned = num_clusters
    for _ in range(6):
        groups = coarse(planned)
        labels = np.zeros(len(texts), dtype=np.int64)
        count = 0
        for group in range(planned):
            members = np.flatnonzero(groups == group)
            parted = color_groups(vectors[members], rules.matrix([texts[int(row)] for row in members]))
            labels[members] = count + parted
            count += int(parted.max()) + 1
        if count <= num_clusters:
            return split_loosest(vectors, labels, num_clusters, weights)
        planned = max(1, planned - (count - num_clusters) - planned // 50)
    raise TooFewProperties(
        f"{num_clusters} properties are too few for {len(texts)} descriptions without putting contradictions "
        f"together; about {count} work.",
        count,
    )


def agglomerate(
    vectors: np.ndarray, num_clusters: int, weights: np.ndarray, conflicts: np.ndarray, linkage: str
) -> np.ndarray:
    """Merges the cheapest pair that may merge, until `num_clusters` are left or none may.

    Args:
        vectors: `(N, embedding_dim)`.
        num_clusters: Wanted number.
        weights: `(N,)`.
        conflicts: `(N, N)` bool.
        linkage: `"ward"` (rise of the K-Means error) or `"average"` (mean distance of members).
    """
    count = len(vectors)
    labels = np.arange(count)
    mass = weights.astype(np.float64).copy()
    squared = np.clip(2 - 2 * vectors @ vectors.T, 0, None)
    # cost[i, j] is infinite where i and j must stay apart.
    cost = squared * (mass[:, None] * mass / (mass[:, None] + mass)) if linkage == "ward" else squared
    cost = np.where(conflicts, np.inf, cost).round(12)
    np.fill_diagonal(cost, np.inf)
    best = cost.argmin(axis=1)
    for _ in range(count - num_clusters):
        one = int(cost[np.arange(count), best].argmin())
        two = int(best[one])
        if not np.isfinite(cost[one, two]):
            break
        one, two = min(one, two), max(one, two)
        total = mass[one] + mass[two]
        if linkage == "ward":
            parts = (mass[one] + mass) * cost[one] + (mass[two] + mass) * cost[two] - mass * cost[one, two]
            merged = parts / (total + mass)
        else:
            merged = (mass[one] * cost[one] + mass[two] * cost[two]) / total
        # Infinity minus infinity is no number; what conflicts with a part conflicts with the whole.
        merged = np.where(np.isfinite(cost[one]) & np.isfinite(cost[two]), merged, np.inf).round(12)
        merged[[one, two]] = np.inf
        cost[one], cost[:, one] = merged, merged
        cost[two], cost[:, two] = np.inf, np.inf
        mass[one] = total
        labels[labels == two] = one
        stale = (best == one) | (best == two)
        stale[one] = True
        best[stale] = cost[stale].argmin(axis=1)
        rows = np.arange(count)
        nearer = merged < cost[rows, best]
        best[nearer] = one
    return np.unique(labels, return_inverse=True)[1]


def color_groups(vectors: np.ndarray, conflicts: np.ndarray) -> np.ndarray:
    """Few groups without a conflict: the most constrained phrase first, into the nearest group that takes it.

    Args:
        vectors: `(N, embedding_dim)`.
        conflicts: `(N, N)` bool.
    """
    count = len(vectors)
    labels = np.full(count, -1)
    degree = conflicts.sum(axis=1)
    blocked = np.zeros((count, 0), dtype=bool)
    sums = np.zeros((0, vectors.shape[1]))
    for _ in range(count):
        open_rows = np.flatnonzero(labels < 0)
        row = int(open_rows[np.lexsort((-degree[open_rows], -blocked[open_rows].sum(axis=1)))[0]])
        free = np.flatnonzero(~blocked[row])
        if free.size:
            norms = np.maximum(np.linalg.norm(sums[free], axis=1), 1e-12)
            group = int(free[(sums[free] @ vectors[row] / norms).round(9).argmax()])
        else:
            group = len(sums)
            sums = np.concatenate([sums, np.zeros((1, vectors.shape[1]))])
            blocked = np.concatenate([blocked, np.zeros((count, 1), dtype=bool)], axis=1)
        labels[row] = group
        sums[group] += vectors[row]
        blocked[conflicts[row], group] = True
    return labels


def split_loosest(
    vectors: np.ndarray, labels: np.ndarray, num_clusters: int, weights: np.ndarray
) -> np.ndarray:
    """Takes the worst-fitting phrase out into a group of its own until there are `num_clusters`.

    Args:
        vectors: `(N, embedding_dim)`.
        labels: `(N,)`.
        num_clusters: At most N.
        weights: `(N,)`.
    """
    labels = labels.copy()
    centers = _centers(vectors, labels, weights)
    fit = np.einsum("nd,nd->n", vectors, centers[labels]).round(9)
    sizes = np.bincount(labels)
    for row in np.argsort(fit, kind="stable"):
        if len(sizes) >= num_clusters:
            break
        if sizes[labels[row]] > 1:
            sizes[labels[row]] -= 1
            labels[row] = len(sizes)
            sizes = np.append(sizes, 1)
    return labels


def refine(
    vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray, conflicts: np.ndarray, max_rounds: int = 20
) -> np.ndarray:
    """Constrained K-Means from a given grouping: phrases move to a nearer group that takes them.

    Args:
        vectors: `(N, embedding_dim)`.
        labels: `(N,)` grouping without a conflict.
        weights: `(N,)`.
        conflicts: `(N, N)` bool.
        max_rounds: Passes over the phrases.
    """
    labels = labels.copy()
    for _ in range(max_rounds):
        centers = _centers(vectors, labels, weights)
        cosine = (vectors @ centers.T).round(9)
        moved = False
        for row in range(len(labels)):
            home = labels[row]
            if (labels == home).sum() == 1:
                continue
            blocked = np.zeros(len(centers), dtype=bool)
            blocked[labels[conflicts[row]]] = True
            target = int(np.where(blocked, -np.inf, cosine[row]).argmax())
            if target != home and cosine[row, target] > cosine[row, home] + 1e-6:
                labels[row] = target
                moved = True
        if not moved:
            break
    return labels


def _centers(vectors: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    sums = np.zeros((int(labels.max()) + 1, vectors.shape[1]))
    np.add.at(sums, labels, vectors * weights[:, None])
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
