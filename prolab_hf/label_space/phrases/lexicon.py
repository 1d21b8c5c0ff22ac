"""Word lists ready for look-up: the longest entry at a place, near forms of a word, what a value implies."""

from collections.abc import Iterable, Mapping

from prolab_hf.label_space.phrases.word_lists.dimensions import IMPLIED
from prolab_hf.label_space.phrases.word_lists.function_words import (
    CUTTING,
    IGNORED,
    ING_NOUNS,
    JOINING,
    LANDMARK,
    NEGATING,
    NEUTRAL,
    NUMBERS,
)
from prolab_hf.label_space.phrases.word_lists.slots import FILLING_KINDS
from prolab_hf.label_space.phrases.wording import tokens_of

Value = tuple[str, str]
"""A dimension and one of its values."""

CLOSING = JOINING | LANDMARK | CUTTING | NEGATING | {","}
"""Words before which a noun ends."""

# One wording for prepositions of two words, and for people.
_REWORDED = (
    (" close to ", " near "), (" next to ", " beside "), (" on top of ", " atop "), (" out on ", " on "),
    (" out in ", " in "), (" out at ", " at "), (" underneath ", " under "), (" nobody ", " no person "),
    (" no one ", " no person "), (" someone ", " person "), (" somebody ", " person "),
)  # fmt: skip
_COUNTS = frozenset(NUMBERS) - {"single", "lone", "solitary", "alone"}
_GRADED = {"size", "height", "width", "length", "depth", "tone", "weight"}


def stems_of(phrase: str) -> tuple[str, ...]:
    """Stems of a phrase without articles.

    Args:
        phrase: Any text.
    """
    words = [word for word in tokens_of(phrase) if word not in ("a", "an", "the")]
    for at in range(len(words) - 1):
        # One wording for "covered in", "covered by" and "covered with".
        if words[at] == "covered" and words[at + 1] in ("in", "by"):
            words[at + 1] = "with"
    text = f" {' '.join(words)} "
    for several, one in _REWORDED:
        if several in text:
            text = text.replace(several, one)
    return tuple(text.split())


class Lexicon:
    """Phrases of the word lists by their stems, ready for longest-match look-up.

    Args:
        dimensions: Dimension -> value -> words (`|` between them, or a list).
    """

    def __init__(self, dimensions: Mapping[str, Mapping[str, str | Iterable[str]]]) -> None:
        self.entries: dict[tuple[str, ...], list[Value]] = {}
        for dimension, values in dimensions.items():
            for value, words in values.items():
                for word in words.split("|") if isinstance(words, str) else words:
                    key = stems_of(word)
                    for form in _finite_forms(key):
                        self.entries.setdefault(form, []).append((dimension, value))
        self.neutral = {stems_of(word) for word in f"{NEUTRAL}|{IGNORED}".split("|")}
        # First word -> the length of the longest entry that begins with it.
        self.reach: dict[str, int] = {}
        for key in [*self.entries, *self.neutral]:
            if key:
                self.reach[key[0]] = max(len(key), self.reach.get(key[0], 1))

    def match(self, words: list[str], start: int) -> tuple[int, list[Value], bool]:
        """The longest entry at a position: its length (0 = none), its values, whether it is a neutral one."""
        for length in range(min(self.reach.get(words[start], 1), len(words) - start), 0, -1):
            key = tuple(words[start : start + length])
            if length == 1 and words[start + 1 : start + 2] in ([","], ["and"]):
                # "long, thin", "round and flat"
                values = self.entries.get((words[start], *words[start + 2 : start + 3]))
                if values is not None and len(words) > start + 2:
                    return 3, values, False
            if key in self.neutral:
                return length, [], True
            if key in self.entries:
                return length, self.entries[key], False
        # "on a wooden table", "in a large group": what stands between is the table's.
        if words[start] in LANDMARK:
            for end in range(start + 2, min(start + 4, len(words))):
                if (
                    words[end - 1] in CLOSING
                    or words[end - 1] in _COUNTS
                    or self._names_a_place(words, end - 1)
                ):
                    break
                values = self.entries.get((words[start], words[end]))
                if values is not None:
                    return end - start + 1, values, False
        return 0, [], False

    def _names_a_place(self, words: list[str], at: int) -> bool:
        """Whether a longer entry, or one that is a place, begins at a word."""
        if any(tuple(words[at : at + length]) in self.entries for length in (2, 3)):
            return True
        return any(dimension in ("indoors", "locale") for dimension, _ in self.entries.get((words[at],), []))

    def related(self, word: str) -> list[Value]:
        """Values of an unknown word by the word that it is made of: "longish", "longest", "vertically"."""
        if word.endswith("ly") and len(word) > 5 and word not in NEGATING:
            adjective = self.entries.get((word[:-2],))
            if adjective is not None:
                return adjective
        for ending in ("ish", "est", "er"):
            if word.endswith(ending) and len(word) > len(ending) + 2:
                base = word.removesuffix(ending)
                for form in (base, base + "e", base[:-1], base.removesuffix("i") + "y"):
                    values = self.entries.get((form,), [])
                    # "cutter" and "shutter" are not more cut or shut.
                    if values and (ending == "ish" or any(dimension in _GRADED for dimension, _ in values)):
                        return values
        return []


def _finite_forms(key: tuple[str, ...]) -> list[tuple[str, ...]]:
    """An entry and, where it opens with a participle, the same with its verb: "creeping along ground", "creep ..."."""
    if not key:
        return []
    if len(key) < 3 or not key[0].endswith("ing") or len(key[0]) < 6 or key[0] in ING_NOUNS:
        return [key]
    base = key[0][:-3]
    verbs = {base, base + "e"} | ({base[:-1]} if base[-1] == base[-2] else set())
    return [key, *((verb, *key[1:]) for verb in sorted(verbs))]


def implied_values(dimension: str, value: str) -> frozenset[str]:
    """What a value says besides itself: steel is metal.

    Args:
        dimension: The dimension.
        value: One of its values.
    """
    table = IMPLIED.get(dimension) or (FILLING_KINDS if " " in dimension else {})
    found: set[str] = set()
    todo = [value]
    while todo:
        for item in table.get(todo.pop(), "").split():
            if item not in found and item != value:
                found.add(item)
                todo.append(item)
    return frozenset(found)
