"""What a language model is asked for a class, and what is accepted as its answer.

The prompt follows the structure of section 3.1 of the paper: kind of thing, shape, material and color, parts and
neighbors, variations. Every description must name one thing that can be seen in an image; examples of our own
show the wording, so that the same idea is worded alike for all classes.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prolab_hf.suggestions import did_you_mean

PROMPT_VERSION = "prolab_hf-1"

Message = dict[str, str]

EXAMPLES: dict[str, list[str]] = {
    "bicycle": [
        "vehicle with two wheels",
        "open frame of thin bars",
        "seen from the side, longer than tall",
        "made of painted metal",
        "black rubber tires",
        "thin shiny spokes",
        "curved handlebars",
        "small seat on a post",
        "parked on a sidewalk or ridden on a road",
    ],
    "river": [
        "body of water",
        "long winding shape",
        "flat horizontal surface",
        "blue, green or brown color",
        "ripples and small waves",
        "reflects the sky and the banks",
        "lined with grass, rocks or trees",
        "crossed by bridges",
        "outdoors in a landscape",
    ],
    "curtain": [
        "piece of cloth that hangs down",
        "tall rectangular shape",
        "soft vertical folds",
        "made of thin fabric",
        "plain color or a printed pattern",
        "hangs from a rod near the ceiling",
        "in front of a window",
        "indoors in a room",
        "drawn open or closed",
    ],
}

_BULLET = re.compile(r"^\s*(?:[-*•–]|\d{1,2}[.)])\s+(.*\S)\s*$")
_QUOTES = "\"'`“”‘’ "


@dataclass(frozen=True)
class DescriptionRules:
    """What counts as a good answer.

    Attributes:
        min_count: Fewest descriptions of a class.
        max_count: Most; further ones are cut off.
        min_words: Fewest words of a description.
        max_words: Most words.
    """

    min_count: int = 8
    max_count: int = 14
    min_words: int = 1
    max_words: int = 14

    def __post_init__(self) -> None:
        for least, most in (("min_count", "max_count"), ("min_words", "max_words")):
            if not 1 <= getattr(self, least) <= getattr(self, most):
                raise ValueError(
                    f"{least} is {getattr(self, least)} and {most} is {getattr(self, most)}; "
                    f"allowed: 1 <= {least} <= {most}."
                )


def description_messages(
    class_name: str, class_names: Sequence[str], rules: DescriptionRules, problems: Sequence[str] = ()
) -> list[Message]:
    """The chat that asks for the descriptions of one class.

    Args:
        class_name: The class.
        class_names: All classes of the set, so that near twins can be told apart.
        rules: How many descriptions, how long.
        problems: What was wrong with the last answer.
    """
    others = [name for name in class_names if name != class_name]
    system = (
        "You describe classes of things for a computer vision system that recognizes them in images. "
        f"Write {rules.min_count} to {rules.max_count} short descriptions, one a line, each starting with '- '. "
        "Go in this order: what kind of thing it is; its shape and orientation; its material, texture and color; "
        "its parts and what is next to it; how it varies and where it stands. "
        "Each line names one thing that can be seen, in lower case, without the name of the class, in English. "
        "Word the same idea the same way for every class. Write nothing else."
    )
    messages = [{"role": "system", "content": system}]
    for example, lines in EXAMPLES.items():
        messages.append({"role": "user", "content": f"Describe: {example}"})
        messages.append({"role": "assistant", "content": "\n".join(f"- {line}" for line in lines)})
    question = f"Describe: {class_name}"
    if others:
        question += f"\nIt must be told apart from: {', '.join(others[:40])}"
    if problems:
        question += f"\nYour last answer could not be used: {'; '.join(problems)}. Try again."
    messages.append({"role": "user", "content": question})
    return messages


@dataclass(frozen=True)
class VocabularyRules:
    """What counts as a good answer where a class is described in words that a space has.

    Attributes:
        min_chosen: Fewest properties.
        max_chosen: Most properties.
        max_new: Most descriptions beside them in the model's own words.
        max_offered: Most properties that the prompt lists.
    """

    min_chosen: int = 3
    max_chosen: int = 14
    max_new: int = 4
    max_offered: int = 400

    def __post_init__(self) -> None:
        if not 1 <= self.min_chosen <= self.max_chosen:
            raise ValueError(
                f"min_chosen is {self.min_chosen} and max_chosen is {self.max_chosen}; allowed: 1 <= min_chosen <= "
                "max_chosen."
            )
        if self.max_new < 0 or self.max_offered < self.min_chosen:
            raise ValueError("max_new must be at least 0, and max_offered at least min_chosen.")


@dataclass(frozen=True)
class ChosenWords:
    """A class described in a space's own vocabulary.

    Attributes:
        properties: Names of properties, as the space writes them.
        new: Descriptions that the vocabulary has no word for.
    """

    properties: list[str]
    new: list[str]


def vocabulary_messages(
    class_name: str,
    vocabulary: Sequence[str],
    class_names: Sequence[str],
    rules: VocabularyRules,
    problems: Sequence[str] = (),
) -> list[Message]:
    """The chat that asks which words of a space describe a new class.

    Args:
        class_name: The class.
        vocabulary: Names of the properties, the likeliest first.
        class_names: Classes that the space has, so that the new one is told apart from them.
        rules: How many words.
        problems: What was wrong with the last answer.
    """
    system = (
        "You describe classes of things for a computer vision system that recognizes them by properties. It knows the "
        f"properties that the user lists, and no others. Choose the {rules.min_chosen} to {rules.max_chosen} that can "
        "be seen in nearly every image of the class, and leave out what only some show. Write one a line, each "
        "starting with '- ', word for word as listed. "
        f"Where something important is missing in the list, add up to {rules.max_new} short descriptions of your own, "
        "one a line, each starting with '+ ', in lower case, in English. Write nothing else."
    )
    listed = "\n".join(vocabulary[: rules.max_offered])
    question = f"Properties:\n{listed}\n\nClass: {class_name}"
    if class_names:
        question += f"\nIt must be told apart from: {', '.join(class_names[:40])}"
    if problems:
        question += f"\nYour last answer could not be used: {'; '.join(problems)}. Try again."
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def accepted_choice(
    reply: str, vocabulary: Sequence[str], rules: VocabularyRules
) -> tuple[ChosenWords, list[str]]:
    """Checks which words of a space were chosen; anything but the lines that were asked for is a problem.

    Args:
        reply: Text of the language model.
        vocabulary: Names of the properties that it could choose from.
        rules: How many words.

    Returns:
        The words, and the problems; with problems the reply is unusable.
    """
    known = {_folded(name): name for name in vocabulary[: rules.max_offered]}
    chosen: dict[str, None] = {}
    new: dict[str, None] = {}
    problems = []
    for line in filter(None, (each.strip() for each in reply.splitlines())):
        mark, text = line[:1], " ".join(line[1:].strip(_QUOTES).rstrip(".;,").strip(_QUOTES).split())
        if mark not in "-+" or not text:
            problems.append(f"the line {line[:60]!r} does not start with '- ' or '+ '")
        elif mark == "-" and _folded(text) not in known:
            problems.append(f"{text[:60]!r} is not in the list{did_you_mean(text, vocabulary)}")
        elif mark == "-" or _folded(text) in known:
            chosen[known[_folded(text)]] = None
        elif not _is_english_text(text) or len(text.split()) > DescriptionRules().max_words:
            problems.append(f"{text[:60]!r} is no short description in English letters")
        else:
            new[text.lower()] = None
    if len(chosen) < rules.min_chosen:
        problems.append(f"{len(chosen)} properties of the list instead of at least {rules.min_chosen}")
    if len(chosen) > rules.max_chosen:
        problems.append(f"{len(chosen)} properties instead of at most {rules.max_chosen}")
    if len(new) > rules.max_new:
        problems.append(f"{len(new)} descriptions of your own instead of at most {rules.max_new}")
    return ChosenWords(list(chosen), list(new)), problems[:5]


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def parse_reply(reply: str) -> list[str]:
    """The descriptions in a reply: its list lines, lower case, without bullets, quotes and final stops."""
    found = []
    for line in reply.splitlines():
        match = _BULLET.match(line)
        if match:
            text = " ".join(match[1].strip(_QUOTES).rstrip(".;,").strip(_QUOTES).lower().split())
            if text:
                found.append(text)
    return found


def accepted_descriptions(reply: str, rules: DescriptionRules) -> tuple[list[str], list[str]]:
    """Checks a reply.

    Args:
        reply: Text of the language model.
        rules: How many descriptions, how long.

    Returns:
        The descriptions, at most `rules.max_count`, and the problems; with problems the reply is unusable.
    """
    lines = parse_reply(reply)
    unique = list(dict.fromkeys(lines))
    problems = []
    foreign = [text for text in unique if not _is_english_text(text)]
    lengths = [(text, len(text.split())) for text in unique]
    misfit = [text for text, words in lengths if not rules.min_words <= words <= rules.max_words]
    if foreign:
        problems.append(f"{len(foreign)} lines are not in English letters, for example {foreign[0][:60]!r}")
    if misfit:
        problems.append(
            f"{len(misfit)} lines do not have {rules.min_words} to {rules.max_words} words, "
            f"for example {misfit[0][:60]!r}"
        )
    if len(lines) - len(unique) > len(lines) // 3:
        problems.append(f"{len(lines) - len(unique)} of {len(lines)} lines repeat others")
    good = [text for text in unique if text not in foreign and text not in misfit]
    if len(good) >= rules.min_count:
        # A few bad lines among enough good ones are dropped, not asked for again.
        return good[: rules.max_count], []
    problems.append(f"{len(good)} usable lines starting with '- ' instead of at least {rules.min_count}")
    return good, problems


def _is_english_text(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    latin = [character for character in letters if character.isascii()]
    return len(letters) >= 3 and len(latin) >= 0.9 * len(letters)


class DescriptionCache:
    """Accepted answers on disk, one JSON line each, so that no question is ever asked twice.

    A line is written whole and flushed before the next question, so an interrupted run resumes where it stopped; a
    half-written last line (a crash, a full disk) is ignored.

    Args:
        path: File, made on the first answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers: dict[str, list[str]] = {}
        self._needs_line_break = False
        if path.is_file():
            text = path.read_text("utf-8", errors="replace")
            self._needs_line_break = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if isinstance(entry, dict) and isinstance(entry.get("key"), str):
            texts = entry.get("descriptions")
            if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
                self._answers[entry["key"]] = texts

    @staticmethod
    def key(model: str, messages: Sequence[Mapping[str, str]]) -> str:
        """Digest of everything that the answer depends on."""
        content = json.dumps([PROMPT_VERSION, model, list(messages)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def get(self, key: str) -> list[str] | None:
        """The accepted answer to a question, if there is one."""
        return self._answers.get(key)

    def put(self, key: str, class_name: str, descriptions: list[str]) -> None:
        """Keeps an accepted answer."""
        self._answers[key] = descriptions
        self.path.parent.mkdir(parents=True, exist_ok=True)
        entry = {"key": key, "class": class_name, "descriptions": descriptions}
        with self.path.open("a", encoding="utf-8") as file:
            if self._needs_line_break:
                file.write("\n")
                self._needs_line_break = False
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
