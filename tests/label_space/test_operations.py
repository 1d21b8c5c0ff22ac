"""Operations: what they change, what they keep, what they refuse."""

import warnings

import numpy as np
import pytest
import torch

from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder


@pytest.fixture
def built(descriptions, encoder):
    return PropertySpace.build(descriptions, encoder=encoder, num_properties=7)


def test_select_keeps_order_properties_and_texts(space):
    chosen = space.select_classes(["grass", "car"])
    assert chosen.class_names == ["grass", "car"]
    assert chosen.class_properties == [[4, 6], [0, 1, 2]]
    assert chosen.property_names == space.property_names
    assert torch.equal(chosen.property_embeddings, space.property_embeddings)
    assert list(chosen.descriptions) == ["car"] and list(chosen.assignments) == ["car"]


def test_remove(space):
    assert space.remove_classes("car").class_names == ["bus", "cart", "tree", "grass"]
    assert space.remove_classes(["car", "grass"]).class_names == ["bus", "cart", "tree"]
    with pytest.raises(ValueError, match="none"):
        space.remove_classes(space.class_names)


def test_rename_even_in_a_circle(space):
    renamed = space.rename_classes({"car": "tree", "tree": "car"})
    assert renamed.class_names == ["tree", "bus", "cart", "car", "grass"]
    assert renamed.descriptions["tree"] == space.descriptions["car"]
    assert torch.equal(renamed.class_property_matrix, space.class_property_matrix)
    with pytest.raises(ValueError, match="unique"):
        space.rename_classes({"car": "bus"})


def test_set_row_by_name_and_index(space):
    changed = space.set_row("cart", ["wheels", 7])
    assert changed.class_properties[2] == [0, 7]
    assert space.class_properties[2] == [0, 1]  # the old space stays as it was
    changed = space.set_row("car", ["wheels", "flat"])
    assert "car" not in changed.assignments and changed.descriptions["car"] == space.descriptions["car"]


def test_merge_takes_the_union_and_the_first_place(space):
    merged = space.merge_classes({"vehicle": ["bus", "car"]})
    assert merged.class_names == ["vehicle", "cart", "tree", "grass"]
    assert merged.class_properties[0] == [0, 1, 2, 3]
    assert merged.descriptions["vehicle"] == space.descriptions["car"]
    assert "vehicle" not in merged.assignments  # bus had none
    merged = space.merge_classes({"tree": ["tree", "grass"]})
    assert merged.class_names == ["car", "bus", "cart", "tree"]


def test_merge_keeps_assignments_where_all_have_them(built):
    merged = built.merge_classes({"vehicle": ["car", "bus"]})
    assert merged.descriptions["vehicle"] == [
        "four round wheels",
        "painted metal",
        "glass windows",
        "long box",
    ]
    assert set(merged.assignments["vehicle"]) == set(merged.class_properties[0])


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda s: s.select_classes(["cars"]), ["'cars'", "Did you mean 'car'"]),
        (lambda s: s.select_classes([]), ["at least one"]),
        (lambda s: s.select_classes("car"), ["list", "'car'"]),
        (lambda s: s.select_classes(["car", "car"]), ["repeat"]),
        (lambda s: s.remove_classes("lorry"), ["'lorry'"]),
        (lambda s: s.rename_classes({"lorry": "x"}), ["'lorry'"]),
        (lambda s: s.rename_classes({"car": " "}), ["class_names[0]"]),
        (lambda s: s.set_row("car", []), ["'car'", "at least one"]),
        (lambda s: s.set_row("car", ["wheel"]), ["'wheel'", "'wheels'"]),
        (lambda s: s.set_row("car", [8]), ["8", "0 to 7"]),
        (lambda s: s.set_row("car", [-1]), ["-1", "0 to 7"]),
        (lambda s: s.set_row("car", "wheels"), ["list"]),
        (lambda s: s.set_row("car", [0, 1]), ["'car'", "'cart'", "equal rows"]),
        (lambda s: s.merge_classes({"x": []}), ["'x'", "empty"]),
        (lambda s: s.merge_classes({"x": ["car"], "y": ["car"]}), ["'car'", "two groups"]),
        (lambda s: s.merge_classes({"tree": ["car", "bus"]}), ["unique", "'tree'"]),
        (lambda s: s.merge_classes({"x": ["car", "cart"]}).merge_classes({"x": ["y"]}), ["'y'"]),
    ],
)
def test_refusals_name_the_culprit(space, act, words):
    with pytest.raises(ValueError) as error:
        act(space)
    for word in words:
        assert word in str(error.value)


def test_merging_into_a_twin_is_refused(space):
    twin = space.set_row("grass", [0, 1, 7]).set_row("tree", [7])
    with pytest.raises(ValueError, match="'x' and 'grass'"):
        twin.merge_classes({"x": ["cart", "tree"]})


def test_old_twins_do_not_block_other_operations(space):
    twins = space.replace(class_property_matrix=space.class_property_matrix[[0, 0, 2, 3, 4]], assignments={})
    assert twins.set_row("tree", [6]).class_properties[3] == [6]


def test_added_classes_go_to_the_nearest_property(built, encoder):
    grown = built.add_classes({"van": ["four round wheels", "painted metal", "long box"]}, encoder=encoder)
    texts = {
        text: built.assignments[name][index]
        for name in built.class_names
        for index, text in enumerate(built.descriptions[name])
    }
    assert grown.class_names == [*built.class_names, "van"]
    assert grown.assignments["van"] == [texts["four round wheels"], texts["painted metal"], texts["long box"]]
    assert torch.equal(grown.class_property_matrix[:4], built.class_property_matrix)
    assert torch.equal(grown.property_embeddings, built.property_embeddings)
    # The plain formula: arg-max of the cosine.
    vectors = encoder(["four round wheels", "painted metal", "long box"])
    cosine = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) @ built.property_embeddings.numpy().T
    assert grown.assignments["van"] == cosine.argmax(axis=1).tolist()


def test_known_sentences_need_no_encoder(built, encoder):
    texts = {"van": ["Four round wheels", "long box"], "bush": [built.property_names[5], "flat ground"]}
    grown = built.add_classes(texts)
    assert grown.class_properties == built.add_classes(texts, encoder=encoder).class_properties
    with pytest.raises(ValueError, match=r"'sliding door' of 'van'.*word_vectors"):
        built.add_classes({"van": ["sliding door"]})


def test_adding_twice_the_same_is_refused_with_advice(built, encoder):
    with pytest.raises(ValueError, match=r"'car' and 'auto'.*equal rows.*set_row"):
        built.add_classes({"auto": built.descriptions["car"]}, encoder=encoder)
    both = {"x": ["long box", "flat ground"], "y": ["flat ground", "long box"]}
    with pytest.raises(ValueError, match="'x' and 'y'"):
        built.add_classes(both, encoder=encoder)


def test_far_descriptions_warn_with_the_sentence(built, encoder):
    with pytest.warns(UserWarning, match=r"cosine below.*'zebra stripes' ->"):
        built.add_classes({"zebra": ["zebra stripes", "flat ground"]}, encoder=encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built.add_classes({"sledge": ["flat ground", "long box"]}, encoder=encoder)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"car": ["x"]}, ["'car'", "exists"]),
        ({"van": []}, ["'van'", "no description"]),
        ({"van": "four wheels"}, ["'van'", "list"]),
        ({"van": [""]}, ["'van'", "non-empty"]),
        ({" ": ["x"]}, ["class names[0]"]),
    ],
)
def test_adding_bad_descriptions(built, encoder, new, words):
    with pytest.raises(ValueError) as error:
        built.add_classes(new, encoder=encoder)
    for word in words:
        assert word in str(error.value)


def test_encoders_that_do_not_fit(built, encoder):
    with pytest.raises(ValueError, match=r"length 3.*has 32"):
        built.add_classes({"van": ["long box"]}, encoder=lambda texts: np.ones((len(texts), 3)))
    recorded = built.replace(encoder={"name": "a", "fingerprint": "1", "pooling": "mean", "lower_case": True})
    for info, word in (
        ({"name": "a", "fingerprint": "1", "pooling": "cls"}, "pooling"),
        ({"name": "b", "fingerprint": "2", "pooling": "mean"}, "'b'"),
    ):
        with pytest.raises(ValueError, match=word):
            recorded.add_classes({"van": ["long box", "flat ground"]}, encoder=TextEncoder(encoder, info))
    other_weights = TextEncoder(encoder, {"name": "a", "fingerprint": "2", "pooling": "mean"})
    with pytest.warns(UserWarning, match="other weights"):
        recorded.add_classes({"van": ["long box", "flat ground"]}, encoder=other_weights)


def test_controls(space, encoder):
    codes = PropertySpace.random_codes([f"c{index}" for index in range(40)], 64, 0.1, seed=3)
    assert codes == PropertySpace.random_codes([f"c{index}" for index in range(40)], 64, 0.1, seed=3)
    assert codes != PropertySpace.random_codes([f"c{index}" for index in range(40)], 64, 0.1, seed=4)
    assert abs(float(codes.class_property_matrix.mean()) - 0.1) < 0.03
    assert len(np.unique(codes.class_property_matrix.numpy(), axis=0)) == 40
    assert float(codes.class_property_matrix.sum(dim=1).min()) > 0
    one_hot = PropertySpace.one_hot(["a", "b", "c"])
    assert torch.equal(one_hot.class_property_matrix, torch.eye(3))
    named = PropertySpace.class_name_embeddings(["car", "tree"], encoder)
    vector = encoder(["tree"])[0]
    assert np.allclose(named.property_embeddings[1].numpy(), vector / np.linalg.norm(vector), atol=1e-6)


def test_tight_random_codes_are_all_different():
    codes = PropertySpace.random_codes([f"c{index}" for index in range(12)], 4, 0.5)
    assert len({tuple(row) for row in codes.class_properties}) == 12 and all(codes.class_properties)
    with pytest.raises(ValueError, match="different rows"):
        PropertySpace.random_codes([f"c{index}" for index in range(16)], 4, 0.5)
    for properties, density in ((0, 0.5), (4, 0.0), (4, 1.0)):
        with pytest.raises(ValueError, match="density"):
            PropertySpace.random_codes(["a"], properties, density)


def test_shuffled_gives_everybody_somebody_elses_row(space):
    for seed in range(5):
        shuffled = space.shuffled(seed)
        assert sorted(shuffled.class_properties) == sorted(space.class_properties)
        assert all(new != old for new, old in zip(shuffled.class_properties, space.class_properties))
        assert shuffled == space.shuffled(seed)
    with pytest.raises(ValueError, match="one class"):
        space.select_classes(["car"]).shuffled()
