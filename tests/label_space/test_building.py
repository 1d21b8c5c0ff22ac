"""Building a space: the matrix by hand, names, errors, the same result twice."""

import numpy as np
import pytest
import torch

from prolab_hf.label_space.property_space import PropertySpace


def points(texts):
    """Encoder whose vectors are written in the texts: "x 3" is three degrees away from the axis "x"."""
    vectors = []
    for text in texts:
        axis, degrees = text.split()
        angle = np.radians(float(degrees))
        vector = np.zeros(6)
        vector["xyz".index(axis)] = np.cos(angle)
        vector[3 + "xyz".index(axis)] = np.sin(angle)
        vectors.append(vector)
    return np.stack(vectors)


POINTS = {"a": ["x 0", "y 1"], "b": ["y 3", "z 0", "x 4"], "c": ["z 4", "z 8"]}


def test_hand_computed_space():
    space = PropertySpace.build(POINTS, encoder=points, num_properties=3, name="hand")
    # Clusters x, y, z in order of appearance.
    assert space.assignments == {"a": [0, 1], "b": [1, 2, 0], "c": [2, 2]}
    assert space.class_property_matrix.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 1]]
    assert space.property_names[:2] == ["x 0", "y 1"] and space.property_names[2] == "z 4"
    mean = points(["x 0", "x 4"]).mean(axis=0)
    expected = torch.from_numpy(mean / np.linalg.norm(mean)).float()
    assert torch.allclose(space.property_embeddings[0], expected, atol=1e-7)
    assert space.encoder["name"] == "points" and space.encoder["embedding_dim"] == 6
    assert space.clustering["algorithm"] == "constrained" and space.clustering["seed"] == 0
    assert "scikit-learn" in space.clustering["library"]


def test_the_same_twice_and_another_seed_is_recorded(descriptions, encoder):
    first = PropertySpace.build(descriptions, encoder=encoder, num_properties=7)
    assert PropertySpace.build(descriptions, encoder=encoder, num_properties=7) == first
    other = PropertySpace.build(descriptions, encoder=encoder, num_properties=7, seed=5)
    assert other.clustering["seed"] == 5
    assert other.property_embeddings.shape == first.property_embeddings.shape


def test_equal_sentences_share_a_property_and_count_as_often_as_they_occur():
    counted = {"a": ["x 0", "y 0"], "b": ["x 0", "z 0"], "c": ["X 8", "z 0", "y 0"], "d": ["x 0"]}
    space = PropertySpace.build(counted, encoder=points, num_properties=3)
    assert [space.assignments[name][0] for name in "abcd"] == [0, 0, 0, 0]
    mean = points(["x 0", "x 0", "x 0", "x 8"]).mean(axis=0)
    assert np.allclose(space.property_embeddings[0].numpy(), mean / np.linalg.norm(mean), atol=1e-6)


def test_property_names_by_list_and_by_mapping():
    names = ["along x", "along y", "along z"]
    space = PropertySpace.build(POINTS, encoder=points, num_properties=3, property_names=names)
    assert space.property_names == names
    space = PropertySpace.build(
        POINTS, encoder=points, num_properties=3, property_names={"x 0": "along x", "z 4": "along z"}
    )
    assert space.property_names == ["along x", "y 1", "along z"]


def test_default_names_stay_unique():
    # Two clusters whose central sentences differ only by case stay apart when case counts.
    cased = {"a": ["x 0", "y 0"], "b": ["z 0"]}
    space = PropertySpace.build(cased, encoder=points, num_properties=3)
    assert len(set(space.property_names)) == 3


def test_knee_finds_the_groups_that_are_there():
    generator = np.random.default_rng(0)
    centers = np.linalg.qr(generator.standard_normal((16, 16)))[0][:12]
    table = {
        f"{group} {copy}": centers[group] + 0.01 * generator.standard_normal(16)
        for group in range(12)
        for copy in range(8)
    }
    descriptions = {
        f"class {index}": [f"{(index + step) % 12} {index % 8}" for step in range(2 + index % 3)]
        for index in range(12)
    } | {"rest": list(table)}
    space = PropertySpace.build(
        descriptions, encoder=lambda texts: np.stack([table[text] for text in texts]), num_properties="knee"
    )
    assert 10 <= space.num_properties <= 15
    assert [len(point) for point in space.clustering["knee_curve"]] == [2] * len(
        space.clustering["knee_curve"]
    )


@pytest.mark.parametrize(
    ("descriptions", "options", "words"),
    [
        ({}, {}, ["class names", "empty"]),
        ({"a": []}, {}, ["'a'", "no description"]),
        ({"a": "x 0"}, {}, ["'a'", "list"]),
        ({"a": ["x 0"], "b": ["  "]}, {}, ["'b'", "non-empty"]),
        ({"a": ["x 0"], "a ": ["y 0"]}, {}, ["unique", "'a'"]),
        (POINTS, {"num_properties": 8}, ["8", "7 different descriptions"]),
        (POINTS, {"num_properties": 0}, ["num_properties", "0"]),
        (POINTS, {"num_properties": True}, ["num_properties", "True"]),
        (POINTS, {"num_properties": "many"}, ["num_properties", "'many'"]),
        (POINTS, {"algorithm": "magic"}, ["'magic'", "kmeans"]),
        (POINTS, {"num_properties": 1}, ["'a'", "'b'", "equal rows", "2 such pairs"]),
        (POINTS, {"property_names": ["one"]}, ["1 names", "3 properties"]),
        (POINTS, {"property_names": ["p", "p", "q"]}, ["property_names", "unique"]),
        (POINTS, {"property_names": {"w 0": "w"}}, ["'w 0'"]),
    ],
)
def test_errors_name_the_cause(descriptions, options, words):
    with pytest.raises(ValueError) as error:
        PropertySpace.build(descriptions, **({"encoder": points, "num_properties": 3} | options))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite(value):
    def broken(texts):
        vectors = points(texts)
        vectors[-1, 0] = value
        return vectors

    with pytest.raises(ValueError, match="NaN or infinity for 'x 0'"):
        PropertySpace.build({"a": ["x 0"]}, encoder=broken, num_properties=1)


def test_far_limit_is_recorded_for_later_classes(descriptions, encoder):
    space = PropertySpace.build(descriptions, encoder=encoder, num_properties=7)
    assert 0 < space.clustering["far_cosine"] <= 0.5


def test_every_algorithm_builds(descriptions, encoder):
    for algorithm in ("constrained", "kmeans"):
        space = PropertySpace.build(descriptions, encoder=encoder, num_properties=6, algorithm=algorithm)
        assert space.num_properties == 6 and space.clustering["algorithm"] == algorithm
        assert float(space.class_property_matrix.sum(dim=0).min()) >= 1


def test_auto_is_the_default_and_merges_only_what_means_the_same(encoder):
    texts = {
        "car": ["four wheels", "Closed lid", "grey color"],
        "cart": ["two wheels", "closed lids", "light grey color"],
        "bin": ["four wheels", "an open lid"],
    }
    space = PropertySpace.build(texts, encoder=encoder)
    assert space.clustering["algorithm"] == "auto"
    named = [[space.property_names[index] for index in row] for row in space.class_properties]
    assert named == [
        ["four wheels", "Closed lid", "grey color"],
        ["Closed lid", "two wheels", "light grey color"],
        ["four wheels", "an open lid"],
    ]
    # The class's own words are kept, whatever the property is named after.
    assert space.phrase("cart", space.property_names.index("Closed lid")) == "closed lids"


def test_auto_ends_in_equal_rows_only_where_the_phrases_are_equal(encoder):
    with pytest.raises(ValueError, match=r"'a' \('four wheels'\) and 'b' \('Four wheel'\).*say the same"):
        PropertySpace.build({"a": ["four wheels"], "b": ["Four wheel"]}, encoder=encoder)


def test_equal_rows_show_what_fell_together():
    texts = {"a": ["x 0", "y 1"], "b": ["x 4", "y 3"], "c": ["z 0"]}
    with pytest.raises(ValueError, match=r"equal rows.*'x 0' and 'x 4'; 'y 1' and 'y 3'.*more properties"):
        PropertySpace.build(texts, encoder=points, num_properties=3)


def near(texts):
    """Encoder that puts every text at the same place: only the rules can tell them apart."""
    return np.stack([np.eye(4)[0] + 1e-3 * np.eye(4)[1 + len(text) % 3] for text in texts])


def test_a_number_that_needs_a_contradiction_is_refused_and_the_smallest_named_one_works():
    texts = {f"class {index}": [f"{color} color", f"trait {index}"] for index, color in enumerate(COLORS)}
    with pytest.raises(
        ValueError, match=r"2 properties are too few.*smallest number that works here is 4"
    ) as error:
        PropertySpace.build(texts, encoder=near, num_properties=2)
    assert error.value.smallest == 4 and "--allow-conflicts" in str(error.value)
    rows = {f"class {index}": [f"{color} color"] for index, color in enumerate(COLORS)}
    space = PropertySpace.build(rows, encoder=near, num_properties=4)
    assert space.num_properties == 4 and space.check().figures["conflicting_properties"] == 0
    told = {f"class {index}": [f"{color} color"] for index, color in enumerate(COLORS)}
    told["class 0"].append("four wheels")
    told["class 1"].append("two wheels")
    told["class 2"].append("small in the scene")
    space = PropertySpace.build(
        told, encoder=near, num_properties=6, conflicts={"never": [["red color", "green color"]]}
    )
    assert space.num_properties == 6


COLORS = ("red", "green", "blue", "yellow")


def test_contradictions_are_allowed_when_told(encoder):
    texts = {
        "a": ["red color", "four wheels"],
        "b": ["green color", "two wheels"],
        "c": ["blue color", "tail"],
    }
    space = PropertySpace.build(texts, encoder=encoder, num_properties=3, allow_conflicts=True)
    assert space.num_properties == 3


def test_a_judge_keeps_apart_what_the_lists_do_not_know():
    from dataclasses import replace

    from prolab_hf.label_space.conflicts import BUILT_IN

    texts = {"a": ["glonk", "x"], "b": ["blick", "y"]}
    asked = []

    def judge(first, second):
        asked.append({first, second})
        return {first, second} == {"glonk", "blick"}

    space = PropertySpace.build(
        texts, encoder=near, num_properties=2, conflicts=replace(BUILT_IN, judge=judge)
    )
    glonk, blick = space.assignments["a"][0], space.assignments["b"][0]
    assert glonk != blick and asked


def test_an_unknown_algorithm_is_refused_before_the_texts_are_encoded(descriptions):
    def never(texts):
        raise AssertionError("texts were encoded")

    with pytest.raises(ValueError, match="Unknown clustering algorithm 'guess'; allowed: kmeans"):
        PropertySpace.build(descriptions, encoder=never, num_properties=6, algorithm="guess")
