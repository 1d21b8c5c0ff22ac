"""The configuration: what it refuses, what it keeps, and how it follows transformers' habits."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, ConvNextConfig

from prolab_hf import ProLabConfig, PropertySpace

ROWS = [[0, 1], [1, 2, 3], [4, 5]]


def small(**fields):
    values = {"num_properties": 6, "num_labels": 3, "class_properties": ROWS} | fields
    return ProLabConfig(**{name: value for name, value in values.items() if value is not None})


def test_round_trip_keeps_every_field(tmp_path):
    config = small(
        backbone_config=ConvNextConfig(hidden_sizes=[4, 8, 12, 16], out_features=["stage1", "stage4"]),
        property_names=list("abcdef"),
        temperature=0.01,
        similarity="sigmoid_l2",
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, ProLabConfig)
    ours, theirs = config.to_dict(), loaded.to_dict()
    assert {k for k in ours if ours[k] != theirs[k]} <= {
        "_name_or_path",
        "transformers_version",
        "pool_scales",
        "aspp_dilations",
    }
    assert list(loaded.pool_scales) == [1, 2, 3, 6]
    assert json.loads((tmp_path / "config.json").read_text())["class_properties"] == ROWS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decoder": "unet"}, "decoder is 'unet'; allowed: 'uper', 'segformer', 'aspp'"),
        ({"similarity": "dot"}, "similarity is 'dot'; allowed"),
        ({"property_loss": "dice"}, "property_loss is 'dice'; allowed"),
        ({"void_pixels": "drop"}, "void_pixels is 'drop'; allowed: 'mask', 'dilute'"),
        ({"temperature": 0}, "temperature is 0; it must be greater than 0"),
        ({"class_loss_weight": -1}, "class_loss_weight is -1; it must not be negative"),
        ({"classifier_dropout_prob": 1}, r"classifier_dropout_prob is 1; it must be in \[0, 1\)"),
        ({"property_loss": "bce", "similarity": "cosine"}, "needs scores in"),
        ({"property_names": ["a"]}, "property_names has 1 entries; num_properties is 6"),
        ({"class_properties": [[0], [6], [1]]}, r"class_properties of class 'LABEL_1' has indices \[6\]"),
        ({"class_properties": [[0], [], [1]]}, "has no property"),
        ({"temperatur": 0.1}, "no field 'temperatur'; did you mean 'temperature'"),
        ({"class_property": ROWS}, "did you mean 'class_properties'"),
    ],
)
def test_refuses_with_field_value_and_what_is_allowed(fields, message):
    with pytest.raises(ValueError, match=message):
        small(**fields)


def test_whole_numbers_are_numbers():
    assert small(temperature=1, class_loss_weight=2).temperature == 1


def test_another_number_of_labels_drops_the_rows_with_a_warning(tmp_path, caplog):
    small().save_pretrained(tmp_path)
    changed = ProLabConfig.from_pretrained(tmp_path, num_labels=7)
    assert changed.num_labels == 7
    assert changed.class_properties is None
    assert "describes 3 classes but num_labels is 7" in caplog.text


def names(*values):
    return dict(enumerate(values))


def inverse(*values):
    return {value: index for index, value in enumerate(values)}


NAMED = {"id2label": names("sky", "road", "car"), "num_labels": None}
SEVEN = [f"class {index}" for index in range(7)]


@pytest.mark.parametrize(
    "given",
    [
        {"id2label": names(*SEVEN)},
        {"id2label": names(*SEVEN), "label2id": inverse(*SEVEN)},
        {"label2id": inverse(*SEVEN)},
        {"id2label": names("sky", "road")},
        {"id2label": names("cat", "dog", "cow")},  # as many, but whose rows these are nobody knows
        {"id2label": names("road", "sky", "car")},
        {"id2label": names("cat", "dog", "cow"), "num_labels": 3},
        {"class_properties": ROWS[:2]},
    ],
)
def test_a_class_list_that_does_not_fit_the_rows_is_refused_at_load(tmp_path, given):
    small(**NAMED).save_pretrained(tmp_path)
    for load in (ProLabConfig.from_pretrained, AutoConfig.from_pretrained):
        with pytest.raises(ValueError, match=r"class_properties has .*model\.set_property_space\(space\)"):
            load(tmp_path, **given)


def test_the_own_class_list_may_be_repeated_at_load(tmp_path):
    small(**NAMED).save_pretrained(tmp_path)
    given = {"id2label": {"0": "sky", "1": "road", "2": "car"}, "label2id": inverse("sky", "road", "car")}
    loaded = AutoConfig.from_pretrained(tmp_path, num_labels=3, **given)
    assert loaded.id2label == names("sky", "road", "car")
    assert loaded.class_properties == ROWS


def test_number_and_names_together_start_without_rows(tmp_path, caplog):
    small(**NAMED, property_space_info={"name": "old"}).save_pretrained(tmp_path)
    changed = AutoConfig.from_pretrained(tmp_path, num_labels=7, id2label=names(*SEVEN))
    assert changed.id2label == names(*SEVEN)
    assert changed.class_properties is None and changed.property_space_info is None
    assert "the rows are dropped" in caplog.text


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_labels", 7, "num_labels is 7, but class_properties has rows for 3 classes"),
        ("id2label", names(*SEVEN), "id2label names 7 classes .*has rows for 3 classes"),
        ("id2label", names("sky", "road"), "id2label names 2 classes"),
        ("id2label", {}, "id2label names 0 classes"),
        ("id2label", names("sky", "road", "sky"), "id2label names 3 classes"),
        ("id2label", names("road", "sky", "car"), "gives the name 'road' to the row of another class"),
        ("id2label", {0: "sky", 1: "road", 3: "car"}, "must be 0, 1, 2"),
        ("label2id", inverse(*SEVEN), "label2id names 7 classes"),
        ("class_properties", ROWS[:2], "2 rows for 3 labels"),
        ("class_properties", [[0], [], [1]], "class 'road' has no property"),
        ("class_properties", [], "is empty"),
    ],
)
def test_a_class_list_that_does_not_fit_is_refused_at_every_assignment(field, value, message):
    config = small(**NAMED)
    before = config.to_dict()
    with pytest.raises(ValueError, match=message):
        setattr(config, field, value)
    assert config.to_dict() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_labels": 7}, "3 rows for 7 labels"),
        ({"id2label": names("sky", "road"), "num_labels": None}, "3 rows for 2 labels"),
        ({"id2label": names("sky", "road", "sky"), "num_labels": None}, "'sky' twice"),
        ({**NAMED, "label2id": inverse("road", "sky", "car")}, "not the inverse"),
    ],
)
def test_a_class_list_that_does_not_fit_is_refused_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        small(**fields)


def test_rows_alone_give_the_number_of_classes():
    config = ProLabConfig(num_properties=6, class_properties=ROWS)
    assert config.num_labels == 3 and config.label2id == inverse("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("how", ["id2label", "label2id", "in place"])
def test_renaming_carries_over_to_the_words_of_the_space(tmp_path, how):
    info = {
        "name": "street",
        "descriptions": {"sky": ["blue"], "road": ["gray"], "car": ["shiny"]},
        "assignments": {"sky": [0], "road": [1], "car": [4]},
    }
    config = small(**NAMED, property_space_info=info)
    new = ("ciel", "road", "voiture")
    if how == "id2label":
        config.id2label = names(*new)
        config.label2id = inverse(*new)  # as scripts do, it says nothing new
    elif how == "label2id":
        config.label2id = inverse(*new)
    else:
        config.id2label[0], config.id2label[2] = "ciel", "voiture"
    config.save_pretrained(tmp_path)
    for read in (config, AutoConfig.from_pretrained(tmp_path)):
        assert read.id2label == names(*new) and read.label2id == inverse(*new)
        assert read.property_space_info["descriptions"] == {
            "ciel": ["blue"],
            "road": ["gray"],
            "voiture": ["shiny"],
        }
        assert list(read.property_space_info["assignments"]) == list(new)
        assert read.class_properties == ROWS


def test_a_list_changed_in_place_is_refused_when_saved_and_nothing_is_written(tmp_path):
    config = small(**NAMED)
    config.id2label[3] = "more"
    with pytest.raises(Exception, match="id2label names 4 classes"):
        config.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_classes_change_through_the_configuration_alone(tmp_path):
    small().save_pretrained(tmp_path)
    changed = ProLabConfig.from_pretrained(
        tmp_path, id2label={0: "x", 1: "y"}, label2id={"x": 0, "y": 1}, class_properties=[[0], [5]]
    )
    assert changed.class_properties == [[0], [5]]
    assert changed.num_labels == 2
    changed.save_pretrained(tmp_path)


@pytest.mark.parametrize(("backbone", "expected"), [("dinov2", True), ("convnext", False), ("swin", False)])
def test_plain_transformers_get_a_feature_pyramid(backbone, expected):
    assert ProLabConfig(backbone_config={"model_type": backbone}).feature_pyramid is expected


def test_configuration_of_a_space_describes_it():
    space = PropertySpace.random_codes(["cat", "dog", "car"], num_properties=12, density=0.3, seed=0)
    config = ProLabConfig(**space.to_config_kwargs())
    assert config.id2label == {0: "cat", 1: "dog", 2: "car"}
    assert config.class_properties == space.class_properties
    assert PropertySpace.from_config(config, space.property_embeddings) == space


FIELDS = (
    "class_properties", "property_names", "num_properties", "embedding_dim", "temperature", "similarity",
    "pool_scales", "hidden_size", "auxiliary_in_index", "void_pixels", "classifier_dropout_prob",
    "property_space_info", "class_loss_weight", "property_loss", "decoder",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_whatever_a_file_holds_is_read_or_refused_by_name(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(json.dumps({"model_type": "prolab", **fields}))
    try:
        config = ProLabConfig.from_pretrained(path.parent)
    except (ValueError, StrictDataclassError) as error:
        assert any(name in str(error) for name in FIELDS)
        return
    for row in config.class_properties or []:
        assert all(0 <= index < config.num_properties for index in row)
    assert config.temperature > 0
