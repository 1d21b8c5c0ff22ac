"""Clusterings against plain formulas and by behavior."""

import numpy as np
import pytest

from prolab_hf.label_space.clustering import (
    Algorithm,
    by_first_appearance,
    cluster,
    fill_empty,
    knee,
    member_means,
)


@pytest.fixture(scope="module")
def blobs():
    """Forty unit vectors around five directions, and the group of each."""
    generator = np.random.default_rng(1)
    centers = np.linalg.qr(generator.standard_normal((8, 8)))[0][:5]
    groups = np.repeat(np.arange(5), 8)
    vectors = centers[groups] + 0.05 * generator.standard_normal((40, 8))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), groups


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_clear_groups_are_found(blobs, algorithm):
    vectors, groups = blobs
    found = cluster(vectors, 5, algorithm=algorithm, texts=["text"] * 40)
    assert found.labels.tolist() == groups.tolist()
    for group in range(5):
        mean = vectors[groups == group].mean(axis=0)
        assert np.allclose(found.centers[group], mean / np.linalg.norm(mean))


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("size", [1, 7, 40])
def test_every_size_gives_that_many_groups_none_empty(blobs, algorithm, size):
    vectors, _ = blobs
    found = cluster(vectors, size, algorithm=algorithm, texts=[f"thing {index}" for index in range(40)])
    assert sorted(set(found.labels.tolist())) == list(range(size))
    assert found.centers.shape == (size, 8)
    assert np.allclose(np.linalg.norm(found.centers, axis=1), 1)


def test_kmeans_is_scikit_learns(blobs):
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    vectors, _ = blobs
    reference = KMeans(9, n_init=10, random_state=3).fit(vectors, sample_weight=np.ones(40)).labels_
    assert adjusted_rand_score(reference, cluster(vectors, 9, seed=3).labels) == 1


def test_weights_move_centers(blobs):
    vectors = blobs[0]
    weights = np.ones(40)
    weights[0] = 5
    center = cluster(vectors, 5, weights=weights).centers[0]
    mean = (weights[:8, None] * vectors[:8]).sum(axis=0)
    assert np.allclose(center, mean / np.linalg.norm(mean))


@pytest.mark.parametrize(
    ("vectors", "size", "word"),
    [
        (np.ones((3, 2)), 4, "from 1 to 3"),
        (np.ones((3, 2)), 0, "from 1 to 3"),
        (np.full((3, 2), np.nan), 1, "finite"),
    ],
)
def test_bad_input(vectors, size, word):
    with pytest.raises(ValueError, match=word):
        cluster(vectors, size)


def test_very_large_inputs_use_mini_batches(blobs, monkeypatch):
    from prolab_hf.label_space import clustering

    vectors = blobs[0]
    assert cluster(vectors, 5).info["solver"] == "lloyd"
    monkeypatch.setattr(clustering, "MINI_BATCH_WORK", 100)
    found = cluster(vectors, 5)
    assert found.info["solver"] == "minibatch" and found.info["n_init"] == 1
    assert found.labels.tolist() == cluster(vectors, 5).labels.tolist()
    assert len(set(found.labels.tolist())) == 5


def test_renumbering():
    assert by_first_appearance(np.array([7, 2, 7, 0, 2])).tolist() == [0, 1, 0, 2, 1]


def test_empty_groups_get_the_worst_served():
    vectors = np.array([[0.0, 0], [0.1, 0], [3, 0]])
    centers = np.array([[0.0, 0], [9, 9]])
    assert fill_empty(vectors, np.zeros(3, dtype=int), centers).tolist() == [0, 0, 1]


def test_members_that_cancel_out_are_refused():
    with pytest.raises(ValueError, match="cluster 0 cancel"):
        member_means(np.array([[1.0, 0], [-1, 0]]), np.zeros(2, dtype=int), np.ones(2))


def test_knee_curve_falls(blobs):
    size, curve = knee(blobs[0])
    assert size == 5 or abs(size - 5) <= 1
    errors = [error for _, error in curve]
    assert errors == sorted(errors, reverse=True)
    assert knee(np.eye(2))[0] in (1, 2)


def test_very_large_inputs_are_grouped_without_contradictions(monkeypatch):
    from prolab_hf.label_space import constrained_clustering
    from prolab_hf.label_space.conflicts import BUILT_IN

    monkeypatch.setattr(constrained_clustering, "MAX_TABLE", 10)
    texts = [
        f"{color} {noun}" for color in ("red", "blue", "green") for noun in ("roof", "door", "hull", "leaves")
    ]
    vectors = np.random.default_rng(0).standard_normal((12, 8))
    found = cluster(vectors, 8, algorithm="constrained", texts=texts)
    for group in range(8):
        assert not BUILT_IN.pairs([text for text, label in zip(texts, found.labels) if label == group])
