"""Import of the reference's files: against its goldens, and never running code from them."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prolab_hf.hub.original_spaces import (
    property_space_from_original,
    read_original_bank,
    read_original_descriptions,
)

KEY = "bge_gpt3.5_cluster_4_embeddings_and_labels"


@pytest.fixture
def arrays():
    bank = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float64)
    return bank, labels


def test_equals_the_goldens(shared):
    golden = load_file(shared / "goldens" / "uper_head.safetensors")
    space = property_space_from_original(golden["bank/raw_DxK"], golden["bank/cluster2label_raw_KxN"])
    assert torch.allclose(space.property_embeddings, golden["bank/normalized_KxD"], atol=1e-6)
    assert torch.equal(space.class_property_matrix, golden["bank/cluster2label_NxK"])
    assert space.class_names[2] == "class 2" and space.property_names[3] == "property 3"


def test_names_come_from_the_descriptions(arrays):
    texts = {"bed ": ["soft"], "wall": ["flat"], "sky": ["blue"]}
    space = property_space_from_original(*arrays, descriptions=texts, name="mine")
    assert space.class_names == ["bed", "wall", "sky"] and space.descriptions["bed"] == ["soft"]
    assert space.class_properties == [[0, 2], [1, 2], [0, 3]] and space.name == "mine"
    named = property_space_from_original(*arrays, class_names=["x", "y", "z"])
    assert named.class_names == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bank, labels: (bank.T, labels), ["(embedding_dim, num_properties)", "(4, 6)"]),
        (lambda bank, labels: (bank, labels.T), ["(3, 4)"]),
        (lambda bank, labels: (bank[0], labels), ["bank", "two dimensions"]),
        (lambda bank, labels: (bank, labels * 2), ["only 0 and 1"]),
        (lambda bank, labels: (bank * np.nan, labels), ["finite"]),
        (lambda bank, labels: ("bank", labels), ["bank", "numbers"]),
    ],
)
def test_arrays_that_do_not_fit(arrays, change, words):
    with pytest.raises(ValueError) as error:
        property_space_from_original(*change(*arrays))
    for word in words:
        assert word in str(error.value)


def test_names_that_do_not_fit(arrays):
    with pytest.raises(ValueError, match="2 class names for 3"):
        property_space_from_original(*arrays, class_names=["x", "y"])


@pytest.mark.parametrize("tensors", [False, True])
def test_bank_files_are_read(arrays, tmp_path, tensors):
    bank, labels = map(torch.from_numpy, arrays) if tensors else arrays
    texts = {"a ": ["x"], "b": ["y"], "c": ["z"]}
    torch.save({"descriptions": texts, KEY: [bank, labels]}, tmp_path / "bank.pth")
    read_bank, read_labels, descriptions = read_original_bank(tmp_path / "bank.pth")
    assert np.array_equal(read_bank, arrays[0]) and np.array_equal(read_labels, arrays[1])
    assert descriptions == {"a": ["x"], "b": ["y"], "c": ["z"]}


def test_a_bank_is_found_under_any_name(arrays, tmp_path):
    """The published COCO-Stuff bank has a name of another kind."""
    name = "descriptors_coco_stuff_164k_gpt3.5_cluster_on_coco_stuff_164k"
    torch.save({"descriptions": ["x", "y"], name: list(arrays)}, tmp_path / "bank.pth")
    assert np.array_equal(read_original_bank(tmp_path / "bank.pth")[0], arrays[0])


def test_one_of_several_banks_is_named(arrays, tmp_path):
    other = "bge-v1.5_cluster_8_embeddings_and_labels"
    path = tmp_path / "bank.pth"
    torch.save({KEY: list(arrays), other: [2 * arrays[0], arrays[1]]}, path)
    with pytest.raises(ValueError, match=rf"found 2: .*{other}.*bank\.pth#{KEY}"):
        read_original_bank(path)
    assert np.array_equal(read_original_bank(f"{path}#{other}")[0], 2 * arrays[0])
    assert np.array_equal(read_original_bank(f"{path}#{KEY}")[0], arrays[0])
    with pytest.raises(ValueError, match=r"no entry 'absent'; entries: "):
        read_original_bank(f"{path}#absent")


def test_a_flat_list_of_descriptions_is_left_out(arrays, tmp_path):
    torch.save({"descriptions": ["x", "y"], KEY: list(arrays)}, tmp_path / "bank.pth")
    assert read_original_bank(tmp_path / "bank.pth")[2] is None


class Evil:
    ran = False

    def __reduce__(self):
        return (exec, ("import prolab_hf; prolab_hf.evil_ran = True",))


def test_code_in_a_bank_is_refused_and_never_run(arrays, tmp_path):
    import prolab_hf

    torch.save({KEY: [arrays[0], Evil()]}, tmp_path / "bank.pth")
    with pytest.raises(ValueError, match=r"bank\.pth.*read safely"):
        read_original_bank(tmp_path / "bank.pth")
    assert not hasattr(prolab_hf, "evil_ran")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ([1, 2], "dictionary"),
        ({"other": 1}, "exactly one entry"),
        ({KEY: [1]}, "two arrays"),
        ({KEY: ["x", "y"]}, "numbers"),
        ({KEY: [torch.zeros(3), torch.zeros(3)]}, "two dimensions"),
    ],
)
def test_other_files_are_refused(tmp_path, content, word):
    torch.save(content, tmp_path / "bank.pth")
    with pytest.raises(ValueError, match=word) as error:
        read_original_bank(tmp_path / "bank.pth")
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a zip", b"\x80\x02."])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "bank.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"bank\.pth"):
        read_original_bank(tmp_path / "bank.pth")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="bank"):
        read_original_bank(tmp_path / "bank.pth")
    with pytest.raises(FileNotFoundError, match="descriptor"):
        read_original_descriptions(tmp_path / "texts.json")


def test_descriptor_files(tmp_path):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps({"bed ": ["soft ", ""], "wall": ["flat"]}), "utf-8")
    assert read_original_descriptions(path) == {"bed": ["soft"], "wall": ["flat"]}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[]", "object"),
        ("{}", "object"),
        ('{"a": "x"}', "'a'"),
        ('{"a": [1]}', "'a'"),
        ("{", "JSON"),
        ('{"a": ["x"], "a ": ["y"]}', "twice"),
    ],
)
def test_bad_descriptor_files(tmp_path, content, word):
    (tmp_path / "texts.json").write_text(content, "utf-8")
    with pytest.raises(ValueError, match=word):
        read_original_descriptions(tmp_path / "texts.json")
