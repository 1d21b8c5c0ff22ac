"""Completed rows: what answers add, what they never take away, and how a language model is asked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from prolab_hf.cli import app, run
from prolab_hf.label_space.completion import accepted_classes, ask_properties, property_messages
from prolab_hf.label_space.description_prompt import DescriptionCache
from prolab_hf.label_space.description_writer import DescribeSettings
from prolab_hf.label_space.property_space import PropertySpace


@pytest.fixture
def animals():
    """The cow's author said "tail", the sheep's did not."""
    return PropertySpace(
        class_names=["cow", "sheep", "car"],
        property_names=["tail", "wool", "hooves", "wheels"],
        property_embeddings=[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
        class_property_matrix=[[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]],
        descriptions={"cow": ["long tail", "hooves"], "sheep": ["wool"]},
        assignments={"cow": [0, 2], "sheep": [1]},
        provenance={"license": "Apache-2.0"},
    )


def test_answers_fill_gaps_and_take_nothing_away(animals):
    completed = animals.complete({"tail": ["sheep"], "hooves": ["cow", "sheep"]}, answered_by="a model")
    assert completed.class_property_matrix.tolist() == [[1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    assert completed.descriptions == {"cow": ["long tail", "hooves"], "sheep": ["wool", "tail", "hooves"]}
    assert completed.assignments == {"cow": [0, 2], "sheep": [1, 0, 2]}
    assert completed.phrase("cow", 0) == "long tail" and completed.phrase("sheep", 0) == "tail"
    assert completed.provenance["license"] == "Apache-2.0"
    assert (
        completed.provenance["completion"].startswith("2 ticks")
        and "a model" in completed.provenance["completion"]
    )
    assert animals.class_property_matrix.sum() == 4  # the space itself stays
    again = completed.complete({"tail": ["sheep"]})
    assert again == completed


def test_a_class_without_descriptions_gets_ticks_only(animals):
    completed = animals.complete({"tail": ["car"]})
    assert completed.class_properties[2] == [0, 3] and "car" not in completed.descriptions


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"tale": ["cow"]}, "Unknown property 'tale'.*'tail'"),
        ({"tail": ["cows"]}, "property 'tail'.*Unknown class 'cows'.*'cow'"),
        ({"tail": "cow"}, "'tail' is the string 'cow'; give a list"),
        (
            {"wool": ["cow"], "tail": ["sheep"], "hooves": ["sheep"]},
            "'cow' and 'sheep' would have equal rows",
        ),
    ],
)
def test_answers_that_cannot_be_used_are_named(animals, answers, message):
    with pytest.raises(ValueError, match=message):
        animals.complete(answers)


@pytest.mark.parametrize(
    ("reply", "chosen", "problem"),
    [
        ("- Sheep\n- cow", ["cow", "sheep"], None),
        ("- none", [], None),
        ("cow and sheep", [], "no line starts with"),
        ("- cow\n- cattle", ["cow"], "'cattle' is not in the list"),
        ("- none\n- cow", ["cow"], "'none' is not in the list"),
    ],
)
def test_replies(reply, chosen, problem):
    found, problems = accepted_classes(reply, ["cow", "sheep", "car"])
    assert found == chosen
    assert (problem is None) == (not problems) and (problem is None or problem in problems[0])


def test_the_question_names_property_classes_and_what_was_wrong():
    system, question = property_messages("tail", ["cow", "car"], ["no line starts with '- '"])
    assert "word for word" in system["content"]
    assert all(part in question["content"] for part in ("Property: tail", "cow\ncar", "no line starts"))


class Annotator:
    """A chat model that knows which of the classes have what; its first answer on wool is not usable."""

    name = "annotator"

    def __init__(self):
        self.asked = []

    def reply(self, messages):
        question = messages[-1]["content"]
        name = question.split("Property: ")[1].splitlines()[0]
        self.asked.append(name)
        if name == "wool" and "Try again" not in question:
            return "Only sheep have wool."
        return {"tail": "- cow\n- sheep", "wool": "- sheep", "hooves": "- cow\n- sheep", "wheels": "- car"}[
            name
        ]


def test_every_property_is_asked_once_and_again_where_the_answer_is_unusable(animals, tmp_path):
    settings = DescribeSettings(first_delay=0.001, longest_delay=0.002, parallel=1)
    model, cache = Annotator(), tmp_path / "cache.jsonl"
    result = ask_properties(animals, model, DescriptionCache(cache), settings)
    assert result.descriptions == {
        "tail": ["cow", "sheep"], "wool": ["sheep"], "hooves": ["cow", "sheep"], "wheels": ["car"]
    }  # fmt: skip
    assert sorted(model.asked) == ["hooves", "tail", "wheels", "wool", "wool"] and result.failures == {}
    second = ask_properties(animals, model, DescriptionCache(cache), settings)
    assert second.descriptions == result.descriptions and second.asked == 0 and second.cached == 4
    assert animals.complete(result.descriptions).class_properties == [[0, 2], [0, 1, 2], [3]]


def test_command_completes_from_a_file(animals, tmp_path):
    animals.save_pretrained(tmp_path / "animals")
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({"tail": ["cow", "sheep"]}))
    arguments = [
        "space",
        "complete",
        str(tmp_path / "animals"),
        "--answers",
        str(answers),
        "-o",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 ticks beside the 4 of the descriptions" in result.output and "1.3 -> 1.7" in result.output
    assert PropertySpace.from_pretrained(tmp_path / "out").class_properties == [[0, 2], [0, 1], [3]]
    assert run(arguments) == 2  # the folder is not empty
    answers.write_text("[1]")
    assert run([*arguments, "--overwrite"]) == 2


def test_command_asks_a_model_and_keeps_its_answers(animals, tmp_path):
    annotator = Annotator()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": annotator.reply(body["messages"])}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
            content = json.dumps(
                reply | {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, *args):
            return

    animals.save_pretrained(tmp_path / "animals")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        answers, out = tmp_path / "answers.json", tmp_path / "out"
        arguments = [
            "space",
            "complete",
            str(tmp_path / "animals"),
            "--answers",
            str(answers),
            "-o",
            str(out),
        ]
        result = CliRunner().invoke(app, [*arguments, "--model", "m", "--endpoint", url])
    finally:
        server.shutdown()
        server.server_close()
    assert result.exit_code == 0, result.output
    assert json.loads(answers.read_text())["hooves"] == ["cow", "sheep"]
    completed = PropertySpace.from_pretrained(out)
    assert completed.class_properties == [[0, 2], [0, 1, 2], [3]] and completed.provenance[
        "completion"
    ].endswith("; m")
