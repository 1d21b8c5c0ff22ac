"""What a space is: its parts, the checks on them, equality, the way into a configuration and back."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from prolab_hf.label_space.property_space import PropertySpace


def parts(**changes):
    values = {
        "class_names": ["a", "b"],
        "property_names": ["p", "q", "r"],
        "property_embeddings": np.eye(3, 4),
        "class_property_matrix": [[1, 0, 1], [0, 1, 1]],
    }
    return values | changes


def test_parts_and_sizes():
    space = PropertySpace(**parts(class_names=[" a ", "b"]))
    assert space.class_names == ["a", "b"]
    assert (space.num_classes, space.num_properties, space.embedding_dim) == (2, 3, 4)
    assert space.class_properties == [[0, 2], [1, 2]]
    assert space.property_embeddings.dtype == space.class_property_matrix.dtype == torch.float32
    assert "classes=2" in repr(space)


def test_rows_become_unit_length_and_unit_rows_stay_bit_for_bit():
    space = PropertySpace(**parts(property_embeddings=[[3.0, 4.0], [0.0, -2.0], [1.0, 0.0]]))
    assert torch.equal(space.property_embeddings, torch.tensor([[0.6, 0.8], [0.0, -1.0], [1.0, 0.0]]))
    unit = torch.nn.functional.normalize(torch.randn(3, 5), dim=1)
    assert torch.equal(PropertySpace(**parts(property_embeddings=unit)).property_embeddings, unit)


def test_half_precision_embeddings_are_accepted():
    unit = torch.nn.functional.normalize(torch.randn(3, 64), dim=1).to(torch.bfloat16)
    space = PropertySpace(**parts(property_embeddings=unit))
    assert torch.allclose(space.property_embeddings.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ["a", " a"]}, ["class_names", "unique", "'a'"]),
        ({"class_names": ["a", "  "]}, ["class_names[1]", "characters"]),
        ({"class_names": ["a", 3]}, ["class_names[1]", "string", "3"]),
        ({"class_names": "ab"}, ["class_names", "list"]),
        ({"class_names": []}, ["class_names", "empty"]),
        ({"class_names": ["a", "b\x00"]}, ["class_names[1]", "control"]),
        ({"class_names": ["a", "b" * 2000]}, ["class_names[1]", "1000"]),
        ({"property_names": ["p", "p", "r"]}, ["property_names", "unique"]),
        ({"property_embeddings": np.eye(2, 4)}, ["property_embeddings", "(3, embedding_dim)", "(2, 4)"]),
        ({"property_embeddings": np.zeros((3, 4))}, ["property_embeddings", "zero"]),
        ({"property_embeddings": [[np.nan, 1]] * 3}, ["property_embeddings", "finite"]),
        ({"property_embeddings": [[1], [2], ["x"]]}, ["property_embeddings", "numbers"]),
        ({"property_embeddings": torch.empty(3, 4, device="meta")}, ["property_embeddings", "meta"]),
        ({"class_property_matrix": [[1, 0], [0, 1]]}, ["class_property_matrix", "(2, 3)", "(2, 2)"]),
        ({"class_property_matrix": [[1, 0, 0.5], [0, 1, 1]]}, ["class_property_matrix", "0.5", "(0, 2)"]),
        ({"class_property_matrix": [[1, 0, float("nan")], [0, 1, 1]]}, ["class_property_matrix", "nan"]),
        ({"descriptions": {"c": ["x"]}}, ["descriptions", "'c'"]),
        ({"descriptions": {"a": "x"}}, ["'a'", "list"]),
        ({"descriptions": {"a": [""]}}, ["'a'", "non-empty"]),
        ({"assignments": {"c": [0]}}, ["assignments", "'c'"]),
        ({"assignments": {"a": 5}}, ["assignments", "'a'", "list of integers"]),
        ({"assignments": {"a": [None]}}, ["assignments", "'a'", "list of integers"]),
        ({"assignments": [["a", 1]]}, ["assignments", "list"]),
        (
            {"descriptions": {"a": ["x", "y"]}, "assignments": {"a": [0]}},
            ["'a'", "1 entries", "2 descriptions"],
        ),
        ({"descriptions": {"a": ["x", "y"]}, "assignments": {"a": [0, 1]}}, ["'a'", "[0, 1]", "[0, 2]"]),
        ({"provenance": {"when": object()}}, ["provenance", "JSON"]),
        ({"encoder": {"loss": float("nan")}}, ["encoder", "JSON"]),
    ],
)
def test_bad_parts_are_named(changes, words):
    with pytest.raises(ValueError) as error:
        PropertySpace(**parts(**changes))
    for word in words:
        assert word in str(error.value)


def test_descriptions_are_trimmed_and_repetitions_dropped():
    space = PropertySpace(**parts(descriptions={"b": [" Two  wheels", "two wheels", "red"], "a": ["x"]}))
    assert space.descriptions == {"a": ["x"], "b": ["Two wheels", "red"]}
    assert list(space.descriptions) == ["a", "b"]


def test_fingerprint_covers_the_content_and_only_the_content(space):
    assert (
        space.replace(name="other", provenance={"author": "me"}, encoder={}).fingerprint == space.fingerprint
    )
    moved = space.property_embeddings.clone()
    moved[0] = torch.nn.functional.normalize(moved[0] + 1e-4, dim=0)
    others = [
        space.replace(property_embeddings=moved),
        space.rename_classes({"car": "auto"}),
        space.set_row("cart", [0, 2]),
        space.replace(property_names=[*space.property_names[:-1], "never used"]),
        space.replace(descriptions={}, assignments={}),
        space.replace(assignments={}),
    ]
    prints = {other.fingerprint for other in [space, *others]}
    assert len(prints) == len(others) + 1


def test_equality_and_hash(space):
    same = space.replace()
    assert same == space and hash(same) == hash(space) and same is not space
    assert space != space.remove_classes("car") and space != "car"


def test_arrays_are_copies():
    matrix, embeddings = torch.tensor([[1.0, 0, 1], [0, 1, 1]]), torch.eye(3, 4)
    space = PropertySpace(**parts(class_property_matrix=matrix, property_embeddings=embeddings))
    matrix.zero_(), embeddings.zero_()
    assert space.class_property_matrix.sum() == 4 and space.property_embeddings.sum() == 3


def test_config_kwargs_and_back(space):
    kwargs = space.to_config_kwargs()
    assert kwargs["id2label"][1] == "bus" and kwargs["label2id"]["bus"] == 1
    assert (kwargs["num_properties"], kwargs["embedding_dim"]) == (8, 6)
    assert kwargs["class_properties"] == [[0, 1, 2], [0, 2, 3], [0, 1], [4, 5], [4, 6]]
    back = PropertySpace.from_config(SimpleNamespace(**kwargs), space.property_embeddings)
    assert back == space
    assert (back.name, back.encoder, back.provenance) == (space.name, space.encoder, space.provenance)


def test_from_config_with_string_keys_and_without_names(space):
    kwargs = space.to_config_kwargs()
    config = SimpleNamespace(
        id2label={str(index): label for index, label in kwargs["id2label"].items()},
        class_properties=kwargs["class_properties"],
    )
    back = PropertySpace.from_config(config, space.property_embeddings)
    assert back.class_names == space.class_names
    assert back.property_names[3] == "property 3"
    assert torch.equal(back.class_property_matrix, space.class_property_matrix)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"class_properties": None}, "class_properties"),
        ({"class_properties": 5}, "list of lists"),
        ({"class_properties": [[0], 3, [1], [2], [4]]}, "list of indices"),
        ({"property_space_info": [1]}, "property_space_info"),
        ({"property_space_info": {"assignments": [1]}}, "assignments"),
        ({"property_space_info": {"descriptions": 3}}, "descriptions"),
        ({"id2label": {0: "a"}}, "id2label"),
        ({"class_properties": [[0, 9], [0], [1], [2], [3]]}, "9"),
        ({"class_properties": [[0, True], [0], [1], [2], [3]]}, "True"),
        ({"property_names": ["only one"]}, "property"),
    ],
)
def test_from_config_refuses_what_does_not_fit(space, changes, word):
    config = SimpleNamespace(**(space.to_config_kwargs() | changes))
    with pytest.raises(ValueError, match=word):
        PropertySpace.from_config(config, space.property_embeddings)


def test_class_properties_in_config_are_copies(space):
    space.to_config_kwargs()["class_properties"][0].append(7)
    assert space.class_properties[0] == [0, 1, 2]
