import json

import pytest
from transformers import AutoModelForSemanticSegmentation

from prolab_hf.cli import run
from tests.label_space.test_description_writer import ChatServer

from .editing_fixtures import KIOSK, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("add_class"))


@pytest.fixture
def typed(monkeypatch):
    """Answers to the command's questions, in order; `typed.asked` keeps the questions."""

    class Typed:
        def __init__(self):
            self.answers, self.asked = [], []

        def __call__(self, question):
            self.asked.append(question)
            if not self.answers:
                raise EOFError
            return self.answers.pop(0)

    keyboard = Typed()
    monkeypatch.setattr("builtins.input", keyboard)
    return keyboard


def add(place, *words, name="kiosk"):
    return run(["add-class", name, "--model", str(place / "model"), *map(str, words), "--device", "cpu"])


def phrases(texts):
    return [word for text in texts for word in ("--phrase", text)]


def classes_of(folder):
    return AutoModelForSemanticSegmentation.from_pretrained(folder).property_space


def test_one_command_adds_a_class_beside_the_model(place, capsys, typed):
    assert add(place, *phrases(KIOSK), "--yes") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Where the sentences go" in printed and "known" in printed
    assert "kiosk would take pixels from" in printed and "mean IoU" in printed
    space = classes_of(place / "model-kiosk")
    assert space.class_names[-1] == "kiosk" and space.descriptions["kiosk"] == KIOSK
    assert typed.asked == []


def test_sentences_are_approved_one_by_one(place, tmp_path, capsys, typed):
    # Known wordings are not asked about; the others are taken, refused, or given to another property.
    typed.answers = ["?", "y", "n", "1", "y"]
    words = [*phrases(["blue color", "purple color of wood", "canvas roof", "zebra stripes on the ground"])]
    assert add(place, *words, "--encoder", place / "encoder", "--out", tmp_path / "m") == 0
    printed = capsys.readouterr().out
    assert "Answer y, n or a number from 1 to 3." in printed
    assert (
        len(typed.asked) == 5
        and "purple color of wood" in typed.asked[0]
        and "Write the model to" in typed.asked[4]
    )
    assert "1: '" in typed.asked[2]
    space = classes_of(tmp_path / "m")
    assert space.descriptions["kiosk"][0] == "blue color" and "canvas roof" not in space.descriptions["kiosk"]
    chosen = typed.asked[3].split("1: '")[1].split("'")[0]
    index = space.descriptions["kiosk"].index("zebra stripes on the ground")
    assert space.property_names[space.assignments["kiosk"][index]] == chosen


def test_without_sentences_one_is_asked_for_them(place, tmp_path, capsys, typed):
    typed.answers = [KIOSK[0], KIOSK[1], "", "n"]
    assert add(place, "--out", tmp_path / "m") == 0
    printed = capsys.readouterr().out
    assert "What can be seen of 'kiosk'?" in printed and "No model was written." in printed
    assert not (tmp_path / "m").exists()
    typed.answers = ["", "y", "y", *["n"] * 8, "y"]
    assert add(place, "--out", tmp_path / "m", "--encoder", place / "encoder", name="brown hut") == 0
    assert "The properties nearest to its name" in capsys.readouterr().out
    assert len(classes_of(tmp_path / "m").class_properties[-1]) == 2


def test_a_language_model_chooses_among_the_models_properties(place, tmp_path, capsys):
    seen = []

    def behave(handler, name, number, body):
        seen.append(body["messages"])
        if number == 1:
            return "Sure! Here you go:\n- blue colour"
        chosen = "\n".join(f"- {text.upper()}." for text in KIOSK[:4])
        return f"{chosen}\n+ purple color of wood"

    with ChatServer(behave) as server:
        words = [
            "--describe",
            "--language-model",
            "m",
            "--endpoint",
            server.url,
            "--yes",
            "--out",
            tmp_path / "m",
        ]
        assert add(place, *words, "--encoder", place / "encoder") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "m chose 4 properties for 'kiosk'" in printed and "purple color of wood" in printed
    space = classes_of(tmp_path / "m")
    assert set(KIOSK[:4]) <= {space.property_names[index] for index in space.class_properties[-1]}
    first, second = seen
    listed = first[-1]["content"]
    assert all(name in listed.splitlines() for name in space.property_names)
    assert "Class: kiosk" in listed and "told apart from: sky" in listed
    retry = second[-1]["content"]
    assert "does not start with '- ' or '+ '" in retry and "'blue colour' is not in the list" in retry


def test_without_an_encoder_the_properties_of_a_class_that_looks_alike_are_offered(
    place, tmp_path, capsys, typed
):
    space = classes_of(place / "model")
    row = space.class_properties[space.class_names.index("building")]
    typed.answers = ["", "bilding", "building", *["y"] * (len(row) - 1), "n", "y"]
    assert add(place, "--out", tmp_path / "m", name="hut") == 0
    assert "There is no class 'bilding'" in capsys.readouterr().out
    assert classes_of(tmp_path / "m").class_properties[-1] == row[:-1]


def test_a_language_model_describes_new_classes_in_the_words_of_a_space(place, tmp_path, capsys, typed):
    def behave(handler, name, number, body):
        return "\n".join([*(f"- {text}" for text in KIOSK[:4]), "+ purple color of wood"])

    names, words = tmp_path / "new.txt", tmp_path / "new.json"
    names.write_text("kiosk\n")
    with ChatServer(behave) as server:
        ask = ["--model", "m", "--endpoint", server.url, "--out", str(words)]
        assert run(["describe", str(names), "--in-words-of", str(place / "model"), *ask]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "kiosk: 4 properties of the space, and in new words: purple color of wood" in printed
        assert json.loads(words.read_text()) == {"kiosk": [*KIOSK[:4], "purple color of wood"]}
        names.write_text("sky\n")
        again = ["describe", str(names), "--in-words-of", str(place / "model"), *ask, "--overwrite"]
        assert run(again) == 2
        assert "The space has the class 'sky' already" in capsys.readouterr().err
    typed.answers = ["n", "y"]  # the new word fits nothing; write it
    assert add(place, "--from", words, "--encoder", place / "encoder", "--out", tmp_path / "m") == 0
    space = classes_of(tmp_path / "m")
    assert [space.property_names[index] for index in space.class_properties[-1]] == sorted(
        KIOSK[:4], key=space.property_names.index
    )


def test_a_language_model_that_never_answers_properly_is_a_failure(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("prolab_hf.label_space.description_writer.time.sleep", lambda seconds: None)
    with ChatServer(lambda handler, name, number, body: "no idea") as server:
        words = ["--describe", "--language-model", "m", "--endpoint", server.url, "--attempts", "2", "--yes"]
        assert add(place, *words, "--out", tmp_path / "m") == 1
    assert "no usable answer in 2 tries" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_images_say_whether_the_class_is_found(place, tmp_path, capsys):
    words = [
        *phrases(KIOSK),
        "--yes",
        "--out",
        tmp_path / "m",
        "--images",
        place / "images",
        "--budget",
        "0.03",
    ]
    assert add(place, *words, "--overlays", tmp_path / "o", "--patch-out", tmp_path / "p.json") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "kiosk is found in" in printed and len(list((tmp_path / "o").iterdir())) == 6
    )  # before, after and what changed
    kinds = [each["edit"] for each in json.loads((tmp_path / "p.json").read_text())["edits"]]
    assert kinds == ["set_claim_budget", "add_class"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--yes"], "Nothing says what can be seen of 'kiosk'"),
        ([], "There is no terminal to ask in"),
        (["--phrase", "a new thing", "--yes"], "is new to the space"),
        (["--tick", "blue colr", "--yes"], "Did you mean 'blue color'"),
        (["--describe", "--yes"], "name it with --language-model"),
        (["--describe", "--language-model", "m", "--yes"], "Give --endpoint"),
        (["--endpoint", "http://x", "--yes", "--tick", "blue color"], "--endpoint goes with --describe"),
        (["--yes", "--tick", "blue color", "--budget", "2"], "--budget is 2"),
        (["--yes", "--tick", "blue color", "--masks", "x"], "--masks goes with --images"),
        (["--from", "none.json", "--yes"], "There is no file or folder none.json"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_line_and_code_two(words, message, place, tmp_path, capsys, typed, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert add(place, *words, "--out", tmp_path / "m") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_class_that_is_there_and_words_that_fit_nothing_are_refused(place, tmp_path, capsys):
    assert add(place, "--tick", "blue color", "--yes", "--out", tmp_path / "m", name="sky") == 2
    assert "'sky' exists already" in capsys.readouterr().err
    words = ["--phrase", "quantum flux", "--yes", "--encoder", place / "encoder", "--out", tmp_path / "m"]
    assert add(place, *words) == 2
    assert "nothing to know it by" in capsys.readouterr().err
