"""Describing a class in a space's own words: what the prompt holds, and what is accepted as an answer."""

import pytest

from prolab_hf.label_space.description_prompt import VocabularyRules, accepted_choice, vocabulary_messages
from prolab_hf.label_space.description_writer import (
    DescribeSettings,
    TemporaryFailure,
    describe_in_vocabulary,
)

WORDS = ["Round wheels", "painted metal", "windows", "long box", "green leaves"]
RULES = VocabularyRules(min_chosen=2, max_chosen=3, max_new=1)


@pytest.mark.parametrize(
    ("reply", "properties", "new"),
    [
        ("- round wheels\n- windows", ["Round wheels", "windows"], []),
        ("- ROUND  wheels.\n\n-  'windows'\n- windows", ["Round wheels", "windows"], []),
        ("- windows\n- long box\n+ Canvas roof.", ["windows", "long box"], ["canvas roof"]),
        ("- windows\n+ long box", ["windows", "long box"], []),
    ],
)
def test_answers_that_are_taken(reply, properties, new):
    words, problems = accepted_choice(reply, WORDS, RULES)
    assert problems == [] and (words.properties, words.new) == (properties, new)


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        ("", "0 properties of the list instead of at least 2"),
        ("Here they are:\n- windows\n- long box", "'Here they are:' does not start with"),
        ("- windows\n- round wheel", "'round wheel' is not in the list; did you mean 'Round wheels'?"),
        ("- windows", "1 properties of the list instead of at least 2"),
        ("- " + "\n- ".join(WORDS), "5 properties instead of at most 3"),
        (
            "- windows\n- long box\n+ one thing\n+ two things",
            "2 descriptions of your own instead of at most 1",
        ),
        ("- windows\n- long box\n+ красная крыша", "no short description in English letters"),
        ("- windows\n- long box\n+ " + "very " * 20 + "long", "no short description"),
        ("- windows\n- long box\n-", "does not start with"),
        ("```\n- windows\n- long box\n```", "'```' does not start with"),
    ],
)
def test_answers_that_are_asked_for_again(reply, problem):
    assert problem in "; ".join(accepted_choice(reply, WORDS, RULES)[1])


def test_the_prompt_holds_the_vocabulary_the_classes_and_what_was_wrong():
    rules = VocabularyRules(min_chosen=2, max_offered=4)
    system, question = vocabulary_messages("bus", WORDS, ["car", "tree"], rules, ["too few"])
    assert system["role"] == "system" and "word for word" in system["content"]
    lines = question["content"].splitlines()
    assert lines[1:5] == WORDS[:4] and "green leaves" not in lines
    assert "Class: bus" in lines and "car, tree" in question["content"] and "too few" in question["content"]
    with pytest.raises(ValueError, match="min_chosen is 3 and max_chosen is 2"):
        VocabularyRules(max_chosen=2)
    with pytest.raises(ValueError, match="max_new"):
        VocabularyRules(max_new=-1)


class Scripted:
    """A chat model with a list of replies; an exception in it is raised."""

    name = "scripted"

    def __init__(self, *replies):
        self.replies, self.seen = list(replies), []

    def reply(self, messages):
        self.seen.append(messages[-1]["content"])
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def test_problems_are_told_and_failures_are_tried_again():
    waits = []
    model = Scripted(TemporaryFailure("busy"), "- wheels", "- windows\n- long box")
    found = describe_in_vocabulary("bus", WORDS, model, rules=RULES, sleep=waits.append)
    assert found.properties == ["windows", "long box"] and len(waits) == 2
    assert "could not be used" not in model.seen[1] and "'wheels' is not in the list" in model.seen[2]
    model = Scripted("no", "no")
    with pytest.raises(TemporaryFailure, match="no usable answer in 2 tries"):
        describe_in_vocabulary(
            "bus", WORDS, model, settings=DescribeSettings(max_attempts=2), sleep=waits.append
        )
    with pytest.raises(ValueError, match="The space has 1 properties"):
        describe_in_vocabulary("bus", WORDS[:1], model)
