"""Where things stand in images of a space: order of rows and columns, class tree, map of properties."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prolab_hf.label_space.space_content import SpaceContent


@dataclass(frozen=True)
class SpaceLayout:
    """Positions that all images of a space share.

    Args:
        class_order: Classes such that neighbors have similar rows.
        property_order: Properties such that the ones come near the diagonal.
        linkage: `(num_classes - 1, 4)` merge table of scipy, or None with a single class.
        class_groups: `(num_classes,)` group of each class, for colors.
        property_groups: `(num_properties,)` group that uses each property most.
        group_names: Names of the groups.
        property_positions: `(num_properties, 2)` in [0, 1]; near means similar embeddings.
    """

    class_order: list[int]
    property_order: list[int]
    linkage: np.ndarray | None
    class_groups: np.ndarray
    property_groups: np.ndarray
    group_names: list[str]
    property_positions: np.ndarray


# As many as the palette of the images has colors.
MAX_GROUPS = 18
_TREE_GROUPS = 8


def lay_out(space: SpaceContent, taxonomy: Mapping[str, str] | None = None, seed: int = 0) -> SpaceLayout:
    """Computes the layout; the same space gives the same images.

    Args:
        space: The space.
        taxonomy: Class name -> super-category, which then makes the groups; otherwise the tree is cut.
        seed: Seed of the 2-d map.
    """
    matrix = space.class_property_matrix.double().numpy()
    linkage = _class_tree(matrix)
    order = _leaves(linkage, len(matrix))
    groups, names = _groups(space, linkage, order, taxonomy)
    position = np.empty(len(order))
    position[order] = np.arange(len(order))
    counts = matrix.sum(axis=0)
    # A property stands where, on average, its classes stand; unused ones come last.
    center = np.where(counts > 0, (matrix * position[:, None]).sum(axis=0) / np.maximum(counts, 1), np.inf)
    votes = np.stack([matrix[groups == group].sum(axis=0) for group in range(len(names))])
    return SpaceLayout(
        class_order=order,
        property_order=np.argsort(center, kind="stable").tolist(),
        linkage=linkage,
        class_groups=groups,
        property_groups=votes.argmax(axis=0),
        group_names=names,
        property_positions=property_map(space.property_embeddings.double().numpy(), seed),
    )


def _class_tree(matrix: np.ndarray) -> np.ndarray | None:
    from scipy.cluster.hierarchy import linkage, optimal_leaf_ordering

    if len(matrix) < 2:
        return None
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    distance = np.clip(1 - unit @ unit.T, 0, None)[np.triu_indices(len(matrix), k=1)]
    tree = linkage(distance, method="average")
    # The optimal order costs the cube of the number of classes.
    return optimal_leaf_ordering(tree, distance) if len(matrix) <= 400 else tree


def _leaves(linkage: np.ndarray | None, count: int) -> list[int]:
    from scipy.cluster.hierarchy import leaves_list

    return list(range(count)) if linkage is None else leaves_list(linkage).tolist()


def _groups(
    space: SpaceContent, linkage: np.ndarray | None, order: Sequence[int], taxonomy: Mapping[str, str] | None
) -> tuple[np.ndarray, list[str]]:
    """Group of each class, and the names of the groups."""
    from scipy.cluster.hierarchy import fcluster

    if taxonomy is not None:
        labels = [str(taxonomy.get(name, "other")) for name in space.class_names]
        names = sorted(set(labels), key=lambda label: (-labels.count(label), label))
        names = names if len(names) <= MAX_GROUPS else [*names[: MAX_GROUPS - 1], "other groups"]
        return np.array([names.index(label) if label in names else len(names) - 1 for label in labels]), names
    if linkage is None:
        return np.zeros(space.num_classes, dtype=np.int64), [space.class_names[0]]
    wanted = min(_TREE_GROUPS, max(2, space.num_classes // 5))
    cut = fcluster(linkage, wanted, criterion="maxclust")
    # Numbered along the tree, so that neighboring groups have neighboring colors.
    rank = {label: index for index, label in enumerate(dict.fromkeys(cut[list(order)].tolist()))}
    groups = np.array([rank[label] for label in cut.tolist()])
    matrix = space.class_property_matrix.numpy()
    return groups, [_group_name(space, matrix, groups == index) for index in range(len(rank))]


def _group_name(space: SpaceContent, matrix: np.ndarray, members: np.ndarray) -> str:
    """The two classes that share most with the rest of their group, and how many more there are."""
    rows = matrix[members]
    central = (rows @ rows.mean(axis=0)) / np.maximum(np.sqrt(rows.sum(axis=1)), 1)
    names = [
        space.class_names[index] for index in np.flatnonzero(members)[np.argsort(-central, kind="stable")]
    ]
    return ", ".join(names[:2]) + (f" + {len(names) - 2}" if len(names) > 2 else "")


def property_map(embeddings: np.ndarray, seed: int = 0) -> np.ndarray:
    """Positions in the unit square (t-SNE on cosine distances; a line or circle for very few properties).

    Args:
        embeddings: `(num_properties, embedding_dim)` unit rows.
        seed: Seed of the map.

    Returns:
        `(num_properties, 2)` in [0, 1].
    """
    from sklearn.manifold import TSNE

    count = len(embeddings)
    if count < 5:
        angle = 2 * np.pi * np.arange(count) / max(count, 1)
        return np.stack([0.5 + 0.4 * np.cos(angle), 0.5 + 0.4 * np.sin(angle)], axis=1)
    perplexity = min(20.0, (count - 1) / 3)
    start = embeddings - embeddings.mean(axis=0)
    axes = np.linalg.svd(start, full_matrices=False)[0][:, :2]
    # The sign of a singular vector is arbitrary and differs between libraries.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    flat = TSNE(
        perplexity=perplexity, init=1e-2 * axes / axes.std(axis=0), metric="cosine", random_state=seed
    ).fit_transform(embeddings)
    low, high = flat.min(axis=0), flat.max(axis=0)
    return (flat - low) / np.maximum(high - low, 1e-12)
