"""Which phrases contradict each other: pairs labelled by hand, and one test per rule."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from prolab_hf.label_space.conflicts import BUILT_IN, ConflictRules
from prolab_hf.label_space.phrases.judges import chat_judge, cross_encoder_judge

PAIRS = json.loads((Path(__file__).parent / "conflict_pairs.json").read_text("utf-8"))


def precision_and_recall(pairs):
    found = [BUILT_IN.conflict(pair["a"], pair["b"]) is not None for pair in pairs]
    right = sum(hit and pair["conflict"] for hit, pair in zip(found, pairs))
    return right / sum(found), right / sum(pair["conflict"] for pair in pairs)


@pytest.mark.parametrize(
    ("source", "precision", "recall"),
    [
        ("bundled", 0.97, 0.93),
        ("made", 0.97, 0.97),
        ("blind A", 0.97, 0.96),
        ("blind B", 0.97, 0.85),
        ("blind C", 0.97, 0.93),
        ("dev D", 0.97, 0.93),
        ("dev F", 0.97, 0.89),
        ("dev G", 0.97, 0.76),
        ("blind E", 0.97, 0.92),
        ("blind H", 0.98, 0.98),
        ("blind I", 0.98, 0.96),
        ("all", 0.98, 0.93),
    ],
)
def test_labelled_pairs(source, precision, recall):
    """What the rules reach on pairs that they were improved on, which says little about others.

    The honest figures are those of the first look at each blind list, written without the rules' answers at hand
    (precision / recall): list A 0.895 / 0.667 before this work; list B 0.958 / 0.523 after its errors were mended;
    list C 0.927 / 0.679 after B's. Then D 0.986 / 0.700, F 1.000 / 0.380 and G 1.000 / 0.368 before anything was mended
    by them, and E 0.961 / 0.730 once at the end (0.970 / 0.640 with the rules before D, F, G). Then the rules were
    widened by D, E, F and G: list H 0.897 / 0.800 at the first look (0.910 / 0.758 with the rules before), and after
    H's errors were mended **list I 0.981 / 0.842**, once (0.980 / 0.800 with the rules before all of that).
    The lists are from different domains and of different difficulty; F and G hold many differently named kinds of
    things ("gas stove", "flaky pastry" beside "sponge cake"), which word lists will not all know.
    """
    pairs = [pair for pair in PAIRS if source in ("all", pair["source"])]
    assert len(pairs) >= 90
    reached = precision_and_recall(pairs)
    assert reached[0] >= precision and reached[1] >= recall, reached


def test_the_table_of_all_pairs_agrees_with_the_pairs():
    phrases = sorted({pair[key] for pair in PAIRS[::4] for key in ("a", "b")})[::2]
    table = BUILT_IN.matrix(phrases)
    assert (table == table.T).all()
    for row, first in enumerate(phrases):
        for column, second in enumerate(phrases[:row]):
            assert table[row, column] == (BUILT_IN.conflict(first, second) is not None), (first, second)


@pytest.mark.parametrize(
    ("first", "second", "dimension"),
    [
        ("four wheels", "two wheels", "number of wheel"),
        ("4 wheels", "two wheels", "number of wheel"),
        ("large in the scene", "small in the scene", "size"),
        ("round shape", "rectangular shape", "shape"),
        ("hanging ears", "pointed ears", "ends of ear"),
        ("green color", "grey color", "colour"),
        ("piece of furniture", "motor vehicle", "kind"),
        ("flat snout", "pointed beak", "part"),
        ("outdoors in the open air", "in a kitchen", "indoors"),
        ("no tail", "long tail", "having"),
        ("tailless", "has a tail", "having"),
        ("does not have a handle", "with a handle", "having"),
        ("not striped", "striped pattern", "pattern"),
        ("dark blue", "pale blue", "shade of blue"),
        ("at the top of the image", "at the bottom of the picture", "vertical place"),
    ],
)
def test_contradictions(first, second, dimension):
    for pair in ((first, second), (second, first)):
        conflict = BUILT_IN.conflict(*pair)
        assert conflict is not None and conflict.dimension.startswith(dimension), conflict


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("grey or brown color", "brown color"),
        ("white roof and red walls", "red walls"),
        ("white roof", "red walls"),
        ("made of steel", "made of metal"),
        ("two or four doors", "four doors"),
        ("at least two masts", "three masts"),
        ("no wheels", "without any wheels"),
        ("not red", "blue"),
        ("Closed lids", "a closed lid"),
        ("near the window", "near the door"),
        ("light to carry", "dark blue"),
        ("", "red"),
    ],
)
def test_no_contradictions(first, second):
    assert BUILT_IN.conflict(first, second) is None and BUILT_IN.conflict(second, first) is None


def test_a_users_own_words(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(
        json.dumps(
            {
                "coating": {"glazed": ["shellacked"], "raw": ["sanded down"]},
                "colour": {"red": ["cinnabar"]},
                "always": [["a glonk", "a blick"]],
                "never": [["red color", "green color"]],
            }
        ),
        "utf-8-sig",
    )
    rules = ConflictRules.load(path)
    assert BUILT_IN.conflict("shellacked", "sanded down") is None
    assert str(rules.conflict("shellacked", "sanded down")) == "coating: glazed / raw"
    assert rules.conflict("cinnabar color", "blue color").dimension == "colour"
    assert rules.conflict("glonk", "blicks").dimension == "declared"
    assert rules.conflict("red color", "green color") is None and rules.conflict("red color", "blue color")
    table = rules.matrix(["glonk", "blick", "red color", "green color"])
    assert table.sum() == 2 and table[0, 1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "must hold a JSON object"),
        ('{"coating": ["glazed"]}', "'coating' must map values to lists of words"),
        ('{"coating": {"glazed": "yes"}}', "'glazed' must be a list of words, got 'yes'"),
        ('{"always": [["one"]]}', "must be a list of pairs of phrases"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, content, words):
    path = tmp_path / "mine.json"
    path.write_text(content, "utf-8")
    with pytest.raises(ValueError, match=words) as error:
        ConflictRules.load(path)
    assert "mine.json" in str(error.value)


def test_the_chat_judge_asks_once_for_each_pair():
    class Chat:
        asked = 0

        def reply(self, messages):
            self.asked += 1
            return " Yes." if "blick" in messages[0]["content"] else "no"

    chat = Chat()
    judge = chat_judge(chat)
    assert [judge("glonk", "blick"), judge("glonk", "blick"), judge("a", "b")] == [True, True, False]
    assert chat.asked == 2


class StandInEncoder:
    """Takes the place of sentence-transformers' CrossEncoder: contradiction where "blick" stands."""

    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    asked = 0

    def __init__(self, model):
        self.config = SimpleNamespace(id2label=self.labels)

    def predict(self, pairs, apply_softmax, show_progress_bar):
        assert apply_softmax
        type(self).asked += 1
        return np.array([self.shares(first, second) for first, second in pairs])

    def shares(self, first, second):
        """Contradiction, entailment, neutral; sure of "yes" in one order only where "half" stands."""
        if "blick" in first + second:
            return [0.95, 0.01, 0.04]
        return [0.95, 0.01, 0.04] if first == "half" else [0.6, 0.2, 0.2]


def test_the_cross_encoder_judges_by_its_contradiction_label(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(CrossEncoder=StandInEncoder))
    judge = cross_encoder_judge("made/up")
    assert [judge("glonk", "blick"), judge("glonk", "blick"), judge("a", "b")] == [True, True, False]
    assert StandInEncoder.asked == 2
    assert not judge("half", "whole")
    assert cross_encoder_judge("made/up", certainty=0.5)("a", "b")
    monkeypatch.setattr(StandInEncoder, "labels", {0: "LABEL_0"})
    with pytest.raises(ValueError, match="made/up judges label_0; a judge needs a model with a label"):
        cross_encoder_judge("made/up")


@pytest.mark.parametrize(("bias", "contradicts"), [((5.0, 0.0, 0.0), True), ((0.0, 0.0, 5.0), False)])
def test_a_real_cross_encoder_in_a_folder_keeps_phrases_apart(tmp_path, bias, contradicts):
    """A tiny network whose answer is its bias: loading, tokenizing and asking are those of any model."""
    pytest.importorskip("sentence_transformers")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "glowing"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), "utf-8")
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = BertConfig(
        vocab_size=len(tokens), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        id2label={0: "contradiction", 1: "entailment", 2: "neutral"},
    )  # fmt: skip
    network = BertForSequenceClassification(config)
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor(bias))
    network.save_pretrained(tmp_path)
    rules = replace(BUILT_IN, judge=cross_encoder_judge(str(tmp_path)))
    assert BUILT_IN.conflict("red", "glowing") is None
    assert rules.keeps_apart("red", "glowing") is contradicts
    assert not rules.keeps_apart("Red", "red")


def test_a_cross_encoder_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match=r'pip install "prolab_hf\[sentence-transformers\]"'):
        cross_encoder_judge("made/up")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("long tail", "short legs"),
        ("blue stripes", "white color"),
        ("straight roads", "green fields"),
        ("red jacket", "black trousers"),
        ("two wheels", "two pedals"),
        ("flat bottom", "round shape"),
    ],
)
def test_what_is_said_of_other_parts_does_not_contradict(first, second):
    assert BUILT_IN.conflict(first, second) is None and BUILT_IN.conflict(second, first) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("three pairs of legs", "four legs"),
        ("four-legged animal", "six legs"),
        ("small, black-tipped tail", "white-tipped tail"),
        ("crosses over the river", "passes under the river"),
        ("inside the penalty area", "outside the penalty area"),
        ("headlights on", "headlights off"),
        ("seat up", "seat down"),
        ("in the left lung", "in the right lung"),
        ("in a large group", "alone"),
        ("legs cannot be seen", "four legs"),
        ("seats one person", "seats several people"),
        ("in flower", "not in flower"),
        ("longish tail", "short tail"),
        ("filled with sand", "filled with water"),
        ("brown fur", "white coat"),
        ("long, thin", "round shape"),
        ("four or more legs", "two legs"),
        ("arms raised", "arms folded"),
        ("green olives", "black olives"),
        ("tomato sauce", "cheese sauce"),
        ("hangs on a hook", "stands on a shelf"),
    ],
)
def test_how_phrases_are_read(first, second):
    assert BUILT_IN.conflict(first, second) is not None and BUILT_IN.conflict(second, first) is not None


@pytest.mark.parametrize(
    ("first", "second", "dimension"),
    [
        ("used for sleeping", "for cooking food", "use"),
        ("used for cutting bread", "used to cut wood", "used on"),
        ("carries cargo", "transports people", "load"),
        ("can hold water", "filled with sand", "held"),
        ("covered by dust", "covered in ivy", "cover"),
        ("worn by children", "worn by soldiers", "worn by"),
        ("made of wheat dough", "made from rice", "stuff"),
        ("for cars", "for pedestrians only", "for whom"),
        ("trumpet-shaped", "shaped like a bell", "likeness"),
    ],
)
def test_what_fills_a_slot_excludes_other_fillings(first, second, dimension):
    for pair in ((first, second), (second, first)):
        conflict = BUILT_IN.conflict(*pair)
        assert conflict is not None and conflict.dimension.startswith(dimension), conflict


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("used for sitting", "for people to sit on"),
        ("cutting tool", "used to cut bread"),
        ("carries people", "transports passengers"),
        ("delivers goods", "transports cargo"),
        ("covered in fur", "covered with hair"),
        ("filled with milk or juice", "filled with milk"),
        ("made of two parts", "made of metal"),
        ("rod-shaped", "shaped like rods"),
        ("with or without a lid", "has a lid"),
        ("blue and yellow stripes", "blue stripes"),
        ("office chair", "chair"),
    ],
)
def test_fillings_that_agree(first, second):
    assert BUILT_IN.conflict(first, second) is None and BUILT_IN.conflict(second, first) is None


@pytest.mark.parametrize(
    ("first", "second", "dimension"),
    [
        ("goose on a pond", "hen with chicks", "sort of bird"),
        ("ring binder", "spiral notebook", "sort of stationery"),
        ("bayonet mount", "magnet mount", "kind of mount"),
        ("tin roof", "tile roof", "roof cover of roof"),
        ("stops at bus stops", "stops at railway platforms", "stop at"),
        ("measures length", "measures temperature", "measure"),
        ("statue of a horse", "statue of a man", "statue of"),
        ("umbrella open", "umbrella folded", "state of umbrella"),
        ("ring with a stone", "plain ring", "trim of ring"),
        ("shirt with a logo", "shirt with paisley", "ornament of shirt"),
    ],
)
def test_sorts_of_things_and_what_no_list_knows(first, second, dimension):
    for pair in ((first, second), (second, first)):
        conflict = BUILT_IN.conflict(*pair)
        assert conflict is not None and conflict.dimension.startswith(dimension), conflict


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("nobody in the cabin", "someone sitting in the cabin"),
        ("no plants growing", "covered in green crops"),
        ("unsalted", "salty"),
        ("far from any buildings", "close to buildings"),
        ("inside the terminal", "out on the taxiway"),
        ("as small as a hand", "as big as a dining table"),
        ("runs vertically", "runs horizontally"),
        ("two rows of keys", "one row of keys"),
        ("filled with red liquid", "filled with green liquid"),
        ("played by one hand", "played by both hands"),
        ("players in red", "players in white"),
    ],
)
def test_wordings_that_deny_place_and_count(first, second):
    assert BUILT_IN.conflict(first, second) is not None and BUILT_IN.conflict(second, first) is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("hot soup", "cold bread"),
        ("raw onion rings", "grilled patty"),
        ("thin paper", "thick cardboard cover"),
        ("four metal strings", "curved wooden body"),
        ("can be raised", "currently lowered barrier"),
        ("not moving", "stationary"),
        ("leaves in autumn", "leaves in autumn colours"),
        ("oak", "deciduous tree"),
        ("leather seat", "seat"),
        ("shelf with nothing on it", "empty shelf"),
        ("light to lift", "dark in colour"),
    ],
)
def test_values_that_stay_with_their_noun(first, second):
    assert BUILT_IN.conflict(first, second) is None and BUILT_IN.conflict(second, first) is None


def test_reasons_name_nouns_as_they_are_written():
    assert str(BUILT_IN.conflict("red flesh inside", "white flesh inside")) == "colour of inside: red / white"
    assert str(BUILT_IN.conflict("four tyres", "two tyres")) == "number of tire: 4 / 2"
