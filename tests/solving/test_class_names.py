"""Classes of a network and rows of a space: matched by name, corrected by hand, never guessed."""

import pytest

from prolab_hf.solving.class_names import match_class_names, parse_correction, read_corrections

ROWS = ["wall", "door", "traffic light", "screen door", "person"]


def rows(*args, **kwargs):
    return [match.row for match in match_class_names(*args, **kwargs)]


def test_names_match_exactly_then_by_spelling_then_by_one_of_several():
    matches = match_class_names(["wall", "Traffic_Light", "door;double door", "person, individual"], ROWS)
    assert [match.row for match in matches] == ["wall", "traffic light", "door", "person"]
    assert [match.reason for match in matches] == [
        "same name",
        "spelling",
        "one of its names",
        "one of its names",
    ]


def test_a_row_is_given_once():
    with pytest.raises(ValueError, match="'Door'"):
        match_class_names(["door", "Door", "wall"], ROWS)
    with pytest.raises(ValueError, match="2 of the network's 3 classes"):
        match_class_names(["DOOR", "Door", "wall"], ROWS)
    assert rows(["door", "Door", "wall"], ROWS, {"Door": "door"}) == ["door", "door", "wall"]


def test_a_class_without_a_row_is_named_with_what_may_be_meant():
    with pytest.raises(ValueError, match=r"'persn' \(did you mean 'person'\?\).*--drop-unknown"):
        match_class_names(["wall", "door", "persn"], ROWS)
    assert rows(["wall", "door", "persn"], ROWS, drop_unknown=True) == ["wall", "door", None]
    assert rows(["wall", "door", "persn"], ROWS, {"persn": None}) == ["wall", "door", None]


@pytest.mark.parametrize(
    ("corrections", "message"),
    [
        (["wall"], "has 1 names; the network has 2"),
        ({"wal": "wall"}, r"'wal', which is no class of the network \(did you mean 'wall'\?\)"),
        ({"wall": "dor"}, r"the row 'dor', which the property space does not have \(did you mean 'door'\?\)"),
        ({"wall": None}, "at least two"),
        ("wall", "give a list of rows"),
    ],
)
def test_wrong_corrections(corrections, message):
    with pytest.raises(ValueError, match=message):
        match_class_names(["wall", "door"], ROWS, corrections)


def test_all_rows_in_order():
    assert rows(["LABEL_0", "LABEL_1"], ROWS, ["person", "wall"]) == ["person", "wall"]


def test_corrections_from_files(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("# rows\nwall\n\ndoor\n", encoding="utf-8")
    assert read_corrections(path) == ["wall", "door"]
    path.write_text("a=b = wall\nrug =\n", encoding="utf-8")
    assert read_corrections(path) == {"a=b": "wall", "rug": None}
    for text, message in (("", "is empty"), ("a = b\nwall\n", "use one form"), (" = b", "not CLASS=ROW")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_corrections(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_corrections(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_corrections(tmp_path / "none.txt")
    assert parse_correction("rug=") == ("rug", None)
    with pytest.raises(ValueError, match="not CLASS=ROW"):
        parse_correction("rug")
