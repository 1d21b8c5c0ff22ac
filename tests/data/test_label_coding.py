import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prolab_hf.data.label_coding import LabelCoding

VOID = 255


def decode(coding, values, num_classes=3, dtype=np.uint8):
    return coding.decode(np.array(values, dtype=dtype), num_classes=num_classes, name="m.png").tolist()


def test_ids_keep_classes_and_void():
    assert decode(LabelCoding("ids"), [[0, 1], [2, 255]]) == [[0, 1], [2, VOID]]


def test_ids_with_another_void_value():
    coding = LabelCoding("ids", void_values=(11,))
    assert decode(coding, [[0, 10, 11]], num_classes=11) == [[0, 10, VOID]]
    # 255 is no longer declared: it must not pass as void by accident.
    with pytest.raises(ValueError, match="255"):
        decode(coding, [[0, 255]], num_classes=11)


def test_shifted_makes_zero_void_and_moves_classes_down_once():
    assert decode(LabelCoding("shifted"), [[0, 1, 2, 3]]) == [[VOID, 0, 1, 2]]


def test_shifted_refuses_255_unless_declared():
    with pytest.raises(ValueError, match=r"void=255"):
        decode(LabelCoding("shifted"), [[0, 255]])
    assert decode(LabelCoding("shifted", void_values=(255,)), [[0, 255]]) == [[VOID, VOID]]


def test_table_maps_declares_void_and_refuses_the_rest():
    coding = LabelCoding("table", table={7: 0, 11: 1, 0: None})
    assert decode(coding, [[7, 11, 0]]) == [[0, 1, VOID]]
    with pytest.raises(ValueError, match="holds 8"):
        decode(coding, [[7, 8]])
    lenient = LabelCoding("table", table={7: 0, 11: 1}, unlisted="void")
    assert decode(lenient, [[7, 8, 11]]) == [[0, VOID, 1]]


def test_table_reads_ids_wider_than_any_lookup():
    table = {26_001_000: 0, -1: None, 3: 1}
    coding = LabelCoding("table", table=table)
    assert decode(coding, [[26_001_000, -1, 3]], dtype=np.int64) == [[0, VOID, 1]]
    with pytest.raises(ValueError, match="26001001"):
        decode(coding, [[26_001_001, 3]], dtype=np.int64)
    lenient = LabelCoding("table", table=table, unlisted="void")
    assert decode(lenient, [[5_000_000, 3]], dtype=np.int64) == [[VOID, 1]]


def test_palette_maps_colors():
    coding = LabelCoding("palette", palette={(255, 0, 0): 0, (0, 0, 255): 1, (0, 0, 0): None})
    assert decode(coding, [[[255, 0, 0], [0, 0, 255], [0, 0, 0]]]) == [[0, 1, VOID]]
    with pytest.raises(ValueError, match=r"m\.png.*\(1, 2, 3\)"):
        decode(coding, [[[255, 0, 0], [1, 2, 3]]])
    lenient = LabelCoding("palette", palette={(255, 0, 0): 2}, unlisted="void")
    assert decode(lenient, [[[255, 0, 0], [1, 2, 3]]]) == [[2, VOID]]


def test_message_names_file_ids_and_what_is_allowed():
    with pytest.raises(ValueError) as raised:
        decode(LabelCoding("ids"), [[0, 37, 41]], num_classes=19)
    message = str(raised.value)
    for part in ("m.png", "37, 41", "19 classes", "0-18", "255"):
        assert part in message


def test_more_than_254_classes_need_another_void_value():
    with pytest.raises(ValueError, match="ignore=65535"):
        LabelCoding("ids").decode(np.zeros((1, 1), np.uint16), num_classes=300, name="m.png")
    coding = LabelCoding("ids", ignore_index=65535)
    assert decode(coding, [[255, 299, 65535]], num_classes=300, dtype=np.uint16) == [[255, 299, 65535]]
    with pytest.raises(ValueError, match="300"):
        decode(coding, [[300]], num_classes=300, dtype=np.uint16)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I", "I;16"])
def test_every_gray_mode_of_pil_reads_the_same(tmp_path, mode):
    values = np.array([[0, 1], [1, 0]], dtype=np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray(values).convert("L")
    if mode == "P":
        image.putpalette([9, 9, 9, 200, 0, 0])  # turns L into P and keeps the values
    elif mode == "1":
        image = Image.fromarray(values * 255).convert("1")
    elif mode == "I":
        image = image.convert("I")
    path = tmp_path / ("m.tif" if mode == "I" else "m.png")
    image.save(path)
    with Image.open(path) as reopened:
        coding = LabelCoding("ids")
        raw = coding.read_mask(reopened, name="m.png")
    assert decode(coding, raw, dtype=raw.dtype) == [[0, 1], [1, 0]]


def test_color_image_for_a_number_coding_is_refused_unless_gray():
    gray = Image.fromarray(np.full((2, 2, 3), 2, np.uint8))
    assert LabelCoding("ids").read_mask(gray, name="m").tolist() == [[2, 2], [2, 2]]
    colored = Image.fromarray(np.array([[[1, 2, 3]]], np.uint8))
    with pytest.raises(ValueError, match="palette"):
        LabelCoding("ids").read_mask(colored, name="m")


def test_fractions_are_refused():
    image = Image.fromarray(np.array([[0.5]], np.float32))
    with pytest.raises(ValueError, match="fractions"):
        LabelCoding("ids").read_mask(image, name="m")
    with pytest.raises(ValueError, match="whole numbers"):
        decode(LabelCoding("ids"), [[0.0]], dtype=np.float32)


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "guess"},
        {"kind": "table"},
        {"kind": "palette"},
        {"kind": "palette", "palette": {(0, 0, 300): 1}},
        {"kind": "table", "table": {0: -1}},
        {"kind": "ids", "unlisted": "skip"},
    ],
)
def test_incomplete_declarations_are_refused(arguments):
    with pytest.raises(ValueError):
        LabelCoding(**arguments)


def test_listed_classes_must_lie_in_the_space():
    with pytest.raises(ValueError, match="0 to 2"):
        LabelCoding("table", table={5: 3}).check_classes(3)
    with pytest.raises(ValueError, match="void and as class"):
        LabelCoding("table", table={5: 1}, void_values=(5,)).check_classes(3)


CODINGS = [
    LabelCoding("ids"),
    LabelCoding("ids", ignore_index=65535, void_values=(0, 9)),
    LabelCoding("shifted", void_values=(255,)),
    LabelCoding("table", table={7: 0, -1: None}, unlisted="void"),
    LabelCoding("palette", palette={(1, 2, 3): 0, (255, 0, 9): None}),
]


@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: coding.kind)
def test_written_form_reads_back_equal(coding, tmp_path):
    text = json.dumps(coding.to_dict())
    assert LabelCoding.from_dict(json.loads(text)) == coding
    assert LabelCoding.parse(text) == coding
    path = tmp_path / "coding.json"
    path.write_text(text)
    assert LabelCoding.parse(str(path)) == coding


def test_short_forms(tmp_path):
    assert LabelCoding.parse("ids") == LabelCoding("ids")
    assert LabelCoding.parse("ids:void=254+255,ignore=300") == LabelCoding(
        "ids", ignore_index=300, void_values=(254, 255)
    )
    table = tmp_path / "t.json"
    table.write_text('{"7": 0, "8": null}')
    assert LabelCoding.parse(f"table:{table},unlisted=void") == LabelCoding(
        "table", table={7: 0, 8: None}, unlisted="void"
    )
    colors = tmp_path / "p.json"
    colors.write_text('["#ff0000", "0,0,255", [1, 2, 3]]')
    assert LabelCoding.parse(f"palette:{colors}").palette == {(255, 0, 0): 0, (0, 0, 255): 1, (1, 2, 3): 2}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("idz", "unknown"),
        ("ids:void=x", "whole numbers"),
        ("ids:color=3", "color=3"),
        ("table", "needs a table"),
        ('{"kind": "ids", "foo": 1}', "foo"),
        ("{broken", "valid JSON"),
        ('{"table": {"a": 1}, "kind": "table"}', "a"),
        ('{"kind": "palette", "palette": {"#12": 1}}', "#12"),
        ("{}", "no kind"),
    ],
)
def test_wrong_declarations_say_what_is_wrong(text, error):
    with pytest.raises(ValueError, match=error):
        LabelCoding.parse(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"kind": "ids", "void_values": "255"}', "void_values is '255'; it must be a list of whole numbers"),
        ('{"kind": "ids", "void_values": [2.5]}', "void_values holds 2.5"),
        ('{"kind": "ids", "void_values": [true]}', "void_values holds True"),
        ('{"kind": "ids", "ignore_index": 255.0}', "ignore_index holds 255.0"),
        ('{"kind": "table", "table": {"0": 1.5}}', "the class id of 0 holds 1.5"),
        ('{"kind": "table", "table": {"0": false}}', "the class id of 0 holds False"),
        ('{"kind": "table", "table": {"0": "1"}}', "the class id of 0 holds '1'"),
        ('{"kind": "table", "table": {"0": 0, "00": 1}}', "table lists the raw id 0 twice"),
        ('{"kind": "table", "table": {"1_0": 0}}', "raw id '1_0'"),
        ('{"kind": "table", "table": {"0": 0, "0": 1}}', "the key '0' stands there twice"),
        ('{"kind": "palette", "palette": {"#ff0000": 0, "255,0,0": 1}}', r"the color \(255, 0, 0\) twice"),
        ('{"kind": "palette", "palette": ["#FF0000", "#ff0000"]}', r"the color \(255, 0, 0\) twice"),
        ('{"kind": "palette", "palette": {"1.5,0,0": 0}}', "not three whole numbers"),
        ('{"kind": "palette", "palette": [[true, 0, 0]]}', "not three whole numbers"),
        ('{"kind": "ids", "table": {"0": 0}}', "would ignore its table"),
        ('{"kind": "table", "table": {"0": 0}, "palette": ["#ff0000"]}', "would ignore its palette"),
        ('{"kind": "ids", "unlisted": "void"}', "lists nothing"),
        ("[" * 100_000, "unknown"),
        ('{"kind": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_nothing_is_read_as_something_else(text, error):
    with pytest.raises(ValueError, match=error):
        LabelCoding.parse(text)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ignore_index": 2.0},
        {"void_values": (True,)},
        {"void_values": "255"},
        {"kind": "table", "table": {0.5: 1}},
        {"kind": "table", "table": {0: 1.0}},
        {"kind": "palette", "palette": {(0, 0, 1.0): 1}},
        {"table": {0: 0}},
    ],
)
def test_python_declarations_are_as_strict(arguments):
    with pytest.raises(ValueError):
        LabelCoding(**arguments)


def test_coding_files_in_other_encodings_are_named(tmp_path):
    path = tmp_path / "table.json"
    path.write_bytes(b'\xef\xbb\xbf{"7": 0}')
    assert LabelCoding.parse(f"table:{path}").table == {7: 0}
    path.write_bytes('{"7": 0}'.encode("utf-16"))
    with pytest.raises(ValueError, match=r"table\.json.*UTF-16"):
        LabelCoding.parse(f"table:{path}")


def test_missing_declaration_file():
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        LabelCoding.parse("table:none.json")


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 254), st.data())
def test_decode_equals_a_plain_loop(num_classes, data):
    kind = data.draw(st.sampled_from(["ids", "shifted"]))
    coding = LabelCoding(kind)
    allowed = [*range(num_classes), 255] if kind == "ids" else list(range(num_classes + 1))
    values = data.draw(st.lists(st.sampled_from(allowed), min_size=1, max_size=30))
    plain = [v if kind == "ids" else (VOID if v == 0 else v - 1) for v in values]
    assert decode(coding, [values], num_classes) == [plain]
    assert decode(coding, [values], num_classes, dtype=np.int32) == [plain]
