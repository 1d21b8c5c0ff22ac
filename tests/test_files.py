"""Reading that names the file, and writing that never leaves half of one."""

import json
import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from prolab_hf.files import (
    give_default_modes,
    parse_json,
    read_json,
    read_json_object,
    read_lines,
    read_text,
    write_bytes,
    write_json,
    write_text,
)


@pytest.fixture
def umask():
    """A umask that lets the group read, whatever the machine's own is."""
    before = os.umask(0o027)
    yield 0o640
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_byte_order_mark_is_no_part_of_the_text(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffsky\r\n\r\n road \n".encode())
    assert read_lines(path) == ["sky", "road"]
    path.write_bytes('\ufeff{"a": "ä"}'.encode())
    assert read_json(path) == {"a": "ä"}


@pytest.mark.parametrize("content", ["sky".encode("utf-16"), "Straße".encode("cp1252")])
def test_other_encodings_are_refused_with_the_file(tmp_path, content):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"classes\.txt: this class list is not UTF-8 .*save it as UTF-8\."):
        read_text(path, what="class list")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not readable JSON"),
        ("", "not readable JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' stands there twice"),
        ("[NaN]", "NaN is not allowed"),
        ("[-Infinity]", "-Infinity is not allowed"),
        ("[" + "1" * 5000 + "]", "not readable JSON"),
    ],
)
def test_damaged_json_is_one_error_with_the_file(tmp_path, text, reason):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"recipe.json: .*{reason}") as caught:
        read_json(path, what="recipe")
    assert "recipe is" in str(caught.value)
    with pytest.raises(ValueError, match="line 7: "):
        parse_json(text, "line 7")


@pytest.mark.parametrize(("text", "found"), [("[]", "a list"), ("3", "3"), ("null", "None")])
def test_an_object_is_asked_for(tmp_path, text, found):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"must hold a JSON object, but it holds {found}"):
        read_json_object(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json: there is no such recipe"):
        read_json(tmp_path / "a.json", what="recipe")
    with pytest.raises(IsADirectoryError, match="is a folder; name a recipe"):
        read_json(tmp_path, what="recipe")


def test_writing_gives_the_mode_of_the_umask_and_leaves_nothing_beside(tmp_path, umask):
    path = tmp_path / "a.json"
    write_json(path, {"ä": [1]})
    assert json.loads(path.read_text("utf-8")) == {"ä": [1]}
    assert mode(path) == umask
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"]


def test_a_link_is_written_through(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_numbers_that_are_no_json_are_refused_before_the_file_is_touched(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match=r"a\.json: the content cannot be written"):
        write_json(path, {"loss": float("nan")})
    assert not path.exists()


def test_weights_become_readable_to_those_whom_the_umask_allows(tmp_path, umask):
    weights = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, weights)
    weights.chmod(0o600)
    give_default_modes(tmp_path)
    assert mode(weights) == umask
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]
