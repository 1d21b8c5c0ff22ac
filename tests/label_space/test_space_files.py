"""Disk format 1: round trips, every kind of damage, names that exist and names that do not."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from prolab_hf.label_space import space_files
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.views.card import MARKER, space_card


@pytest.fixture
def folder(space, tmp_path):
    target = tmp_path / "toy"
    space.save_pretrained(target, write_card=False)
    return target


def edit_json(folder, **changes):
    path = folder / "property_space.json"
    fields = json.loads(path.read_text("utf-8"))
    for key, value in changes.items():
        if value is ...:
            fields.pop(key)
        else:
            fields[key] = value
    path.write_text(json.dumps(fields), "utf-8")


def test_round_trip_is_bit_exact(space, folder):
    loaded = PropertySpace.from_pretrained(folder)
    assert loaded == space
    assert torch.equal(loaded.property_embeddings, space.property_embeddings)
    for field in ("name", "descriptions", "assignments", "encoder", "clustering", "provenance"):
        assert getattr(loaded, field) == getattr(space, field)
    assert not list(folder.glob("*.part"))


def test_format_on_disk(space, folder):
    fields = json.loads((folder / "property_space.json").read_text("utf-8"))
    assert fields["format_version"] == 1 and fields["fingerprint"] == space.fingerprint
    assert fields["assignments"]["car"] == [0, 1, 0, 2]
    tensors = load_file(folder / "property_space.safetensors")
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()} == {
        "property_embeddings": (torch.float32, (8, 6)),
        "class_property_matrix": (torch.uint8, (5, 8)),
    }


def test_saving_twice_gives_the_same_bytes(space, folder, tmp_path):
    PropertySpace.from_pretrained(folder).save_pretrained(tmp_path / "again", write_card=False)
    for name in ("property_space.json", "property_space.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_upload_arguments_without_an_upload_are_refused(space, tmp_path):
    with pytest.raises(TypeError, match="private"):
        space.save_pretrained(tmp_path / "x", private=True)
    assert not (tmp_path / "x").exists()


def test_brackets_inside_texts_survive(space, tmp_path):
    texts = ["a row [ 1,  2 ]", "[\n1, 2]", "ünïcode ✓"]
    changed = space.replace(descriptions={"car": texts}, assignments={})
    changed.save_pretrained(tmp_path / "x", write_card=False)
    assert PropertySpace.from_pretrained(tmp_path / "x").descriptions == changed.descriptions


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format_version": ...}, ["format_version", "missing"]),
        ({"format_version": 2}, ["format_version 2", "newer", "pip install -U"]),
        ({"format_version": 0}, ["format_version 0", "older"]),
        ({"format_version": True}, ["format_version", "integer"]),
        ({"format_version": "1"}, ["format_version", "integer"]),
        ({"class_names": ...}, ["class_names", "missing"]),
        ({"fingerprint": ...}, ["fingerprint", "missing"]),
        ({"class_names": "car"}, ["class_names", "list of strings"]),
        ({"class_names": ["car", "car", "cart", "tree", "grass"]}, ["class_names", "unique"]),
        ({"class_names": ["car"]}, ["class_property_matrix", "[1, 8]"]),
        ({"property_names": [None] * 8}, ["property_names", "list of strings"]),
        ({"property_names": ["x"]}, ["property", "1"]),
        ({"descriptions": []}, ["descriptions", "object"]),
        ({"descriptions": {"car": [1]}}, ["descriptions['car']", "strings"]),
        ({"assignments": {"car": [0.5]}}, ["assignments['car']", "integers"]),
        ({"assignments": {"car": [0, 1, 0, 7]}}, ["assignments", "'car'"]),
        ({"assignments": {"car": [0, 1, 0, 99999999999999999999]}}, ["assignments", "'car'"]),
        ({"encoder": None}, ["encoder", "object"]),
        ({"name": 5}, ["name", "string"]),
        ({"property_names": ["a", "b", "c", "d", "e", "f", "g", "h"]}, ["fingerprint", "does not match"]),
    ],
)
def test_damaged_json_is_one_clear_error(folder, changes, words):
    edit_json(folder, **changes)
    with pytest.raises(ValueError) as error:
        PropertySpace.from_pretrained(folder)
    for word in (*words, str(folder)):
        assert word in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": NaN}', b"[" * 100_000, b"null"]
)
def test_unreadable_json(folder, content):
    (folder / "property_space.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"property_space\.json"):
        PropertySpace.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("class_property_matrix"), ["class_property_matrix", "missing"]),
        (
            lambda t: t.update(property_embeddings=t["property_embeddings"].half()),
            ["property_embeddings", "F32"],
        ),
        (lambda t: t.update(property_embeddings=t["property_embeddings"][:3]), ["property_embeddings", "8"]),
        (lambda t: t.update(property_embeddings=t["property_embeddings"].flatten()), ["property_embeddings"]),
        (lambda t: t.update(class_property_matrix=t["class_property_matrix"].T.contiguous()), ["[8, 5]"]),
        (lambda t: t.update(class_property_matrix=t["class_property_matrix"] * 2), ["only 0 and 1", "2"]),
        (
            lambda t: t["property_embeddings"].__setitem__((0, 0), float("nan")),
            ["property_embeddings", "NaN"],
        ),
        (lambda t: t["property_embeddings"].mul_(-1), ["fingerprint"]),
    ],
)
def test_damaged_tensors(folder, change, words):
    path = folder / "property_space.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(ValueError) as error:
        PropertySpace.from_pretrained(folder)
    for word in (*words, str(folder)):
        assert word in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{}      "])
def test_unreadable_tensors(folder, content):
    (folder / "property_space.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"property_space\.safetensors"):
        PropertySpace.from_pretrained(folder)


def test_a_json_file_of_absurd_size_is_refused_unread(folder):
    with (folder / "property_space.json").open("r+b") as file:
        file.truncate(space_files.MAX_JSON_BYTES + 1)
    with pytest.raises(ValueError, match="too large"):
        PropertySpace.from_pretrained(folder)


def test_missing_file_is_named(folder):
    (folder / "property_space.safetensors").unlink()
    with pytest.raises(ValueError, match=r"property_space\.safetensors is missing"):
        PropertySpace.from_pretrained(folder)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
lists = st.lists(scalars, max_size=4)
json_values = scalars | lists | st.dictionaries(st.text(max_size=8), scalars | lists, max_size=3)
fields = st.sampled_from(sorted(space_files._FIELDS))
hypothesis_settings = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@hypothesis_settings
@given(field=fields, value=json_values)
def test_any_value_in_any_field_loads_or_is_a_value_error(space, folder, field, value):
    path = folder / "property_space.json"
    original = path.read_text("utf-8")
    edit_json(folder, **{field: value})
    try:
        loaded = PropertySpace.from_pretrained(folder)
    except ValueError as error:
        assert str(folder) in str(error)
    else:
        # Only fields outside the fingerprint may change without notice.
        assert loaded == space
    finally:
        path.write_text(original, "utf-8")


@hypothesis_settings
@given(data=st.data())
def test_any_flipped_byte_is_noticed(space, folder, data):
    path = folder / "property_space.safetensors"
    original = path.read_bytes()
    content = bytearray(original)
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        assert PropertySpace.from_pretrained(folder) == space  # a byte of the padding or of the metadata
    except ValueError as error:
        assert str(folder) in str(error)
    finally:
        path.write_bytes(original)


names = st.text(min_size=1, max_size=12).map(str.strip).filter(bool)


@hypothesis_settings
@given(
    class_names=st.lists(names, min_size=1, max_size=4, unique=True),
    sentence=st.text(min_size=1, max_size=20),
)
def test_whatever_can_be_made_can_be_saved_and_read(tmp_path, class_names, sentence):
    count = len(class_names)
    try:
        space = PropertySpace(
            class_names=class_names,
            property_names=[f"p{index}" for index in range(count)],
            property_embeddings=torch.eye(count, 4),
            class_property_matrix=torch.eye(count),
            descriptions={class_names[0]: [sentence]},
            name=sentence,
        )
    except ValueError:
        return
    space.save_pretrained(tmp_path / "made", write_card=False)
    assert PropertySpace.from_pretrained(tmp_path / "made") == space


# ---------------------------------------------------------------------------------- where it is found


def test_bundled_spaces_load_under_any_spelling():
    known = space_files.bundled_names()
    if not known:
        pytest.skip("this checkout has no bundled space")
    for name in known:
        space = PropertySpace.from_pretrained(name)
        assert PropertySpace.from_pretrained(name.upper().replace("_", "-")) == space
    if "cityscapes" in known:
        assert PropertySpace.from_pretrained("BDD100K") == PropertySpace.from_pretrained("cityscapes")


@pytest.mark.parametrize("name", ["ade2ok", "./nowhere", "/no/where/at/all", "a/b/c", ""])
def test_unknown_names_list_the_bundled_ones(name):
    with pytest.raises(FileNotFoundError) as error:
        PropertySpace.from_pretrained(name)
    assert repr(name) in str(error.value) and "bundled name" in str(error.value)


def test_hub_name_that_is_not_cached(tmp_path):
    with pytest.raises(FileNotFoundError, match="nobody/nothing"):
        PropertySpace.from_pretrained("nobody/nothing", cache_dir=tmp_path, local_files_only=True)


def test_a_file_is_not_a_folder(folder, space):
    with pytest.raises(NotADirectoryError, match="folder"):
        PropertySpace.from_pretrained(folder / "property_space.json")
    with pytest.raises(NotADirectoryError, match="folder"):
        space.save_pretrained(folder / "property_space.json")


def test_subfolder(folder, space):
    assert PropertySpace.from_pretrained(folder.parent, subfolder="toy") == space


# ----------------------------------------------------------------------------------------------- card


def test_card_is_written_and_renewed_but_never_over_a_foreign_one(space, tmp_path):
    space.save_pretrained(tmp_path)
    first = (tmp_path / "README.md").read_text("utf-8")
    assert space.fingerprint in first and "license: cc0-1.0" in first and MARKER in first
    space.remove_classes("bus").save_pretrained(tmp_path)
    assert "4 classes" in " ".join((tmp_path / "README.md").read_text("utf-8").split())
    (tmp_path / "README.md").write_text("# My model\n", "utf-8")
    space.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == "# My model\n"


def test_markup_in_names_means_nothing_in_the_card(space):
    evil = space.rename_classes({"car": "<script>alert(1)</script>", "bus": "a|b [x](y) `z`"}).replace(
        name="---\nevil: true", provenance={"license": "mit\nevil: true"}
    )
    card = space_card(evil)
    assert "<script>" not in card and "a|b" not in card and "[x](y)" not in card
    assert "\nevil: true" not in card
    assert "license:" not in card.split("---")[1]
