"""A fragment of a phrase: words between two cutting words, and whose they are."""

from dataclasses import dataclass, field

from prolab_hf.label_space.phrases.lexicon import Value
from prolab_hf.label_space.phrases.word_lists.function_words import AFTER_NOUN, VERBS, Interval, word_set
from prolab_hf.label_space.phrases.word_lists.nouns import HEAD_ALIASES, SELF_NOUNS, THINGS
from prolab_hf.label_space.phrases.word_lists.parts import PART_OF
from prolab_hf.label_space.phrases.word_lists.sorts import SORTS_OF

SELF = "itself"
# Behind a noun these speak of it: "windows open", "drawers pulled out".
_PREDICATES = word_set("open shut spread out up down in apart together erect visible")


@dataclass
class Fragment:
    """Words between two cutting words.

    Attributes:
        values: What its words say, as dimension and value.
        latest: Those of the last word that said something.
        nouns: Stems of its nouns, in order.
        named: Words that stand alone in it and may name a part.
        words: All words that count.
        count: Numbers given.
        lacks: What is said to be missing.
        joined: Whether "and", "or" or a comma stands before it.
        landmark: Whether a preposition does, so that it is about something else.
        near: Whether that preposition only says nearby.
        relation: How the thing lies to the landmark.
        negated: Whether it is denied.
        main: Whether it is about the thing itself.
        linked: Whether its value follows its noun ("roof is flat").
        mark: The mark that it ends in, such as stripes.
        holds: Whether it is what fills the thing: "full of leaves".
        own: Values of entries that begin with their preposition ("on a leash"): they are the thing's own.
    """

    values: list[Value] = field(default_factory=list)
    latest: list[Value] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    count: set[Interval] = field(default_factory=set)
    lacks: list[str] = field(default_factory=list)
    joined: bool = False
    landmark: bool = False
    near: bool = False
    relation: str = ""
    negated: bool = False
    main: bool = True
    linked: bool = False
    mark: str = ""
    own: list[Value] = field(default_factory=list)
    holds: bool = False

    @property
    def says_something(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.values or self.words or self.count or self.lacks)

    @property
    def latest_colour(self) -> bool:
        """Whether its last word is a color."""
        return bool(self.latest) and self.latest[0][0] == "colour"

    def take_back(self) -> None:
        """Turns the last noun or value into something that is missing: "cloud-free"."""
        word = self.nouns.pop() if self.nouns else self.words[-1]
        if word == self.words[-1] and self.latest:
            self.values.clear()
        self.lacks.append(word)
        self.words = [other for other in self.words if other != word]


def head_of(part: Fragment) -> str:
    """The noun that the values of a fragment belong to, or `SELF`.

    Args:
        part: The fragment.
    """
    if not part.nouns:
        # "behind the building": a landmark is a noun even where the lists know it as a value.
        return part.words[-1] if part.landmark and part.words else SELF
    noun = part.nouns[-1]
    # "vivid red", "stands upright": a word before the last value qualifies it, unless a state follows a noun.
    if part.values and part.words[-1] != noun and not part.linked:
        latest = {dimension for dimension, _ in part.latest} or {part.values[-1][0]}
        # "arms raised", "wings spread": a participle behind a part is the part's.
        known = noun in PART_OF or noun in HEAD_ALIASES or noun in SORTS_OF
        tail = part.words[part.words.index(noun) + 1 :] if noun in part.words else part.words
        behind = known and (
            tail[0].endswith(("ed", "ing")) or tail[0] in _PREDICATES or tail[-1] in _PREDICATES
        )
        if not (latest & AFTER_NOUN or behind) or noun in VERBS:
            return SELF
    if noun in SELF_NOUNS or noun in THINGS or noun in VERBS:
        return SELF
    return canonical(HEAD_ALIASES.get(noun) or HEAD_ALIASES.get(canonical(noun), noun))


def canonical(noun: str) -> str:
    """One form for a noun and its participle: "sleeve" and "long-sleeved" speak of the same part.

    Args:
        noun: A stem.
    """
    base = noun[:-2] if noun.endswith("ed") and len(noun) > 4 else noun
    if len(base) > 3 and base[-1] == base[-2]:
        base = base[:-1]
    return base.rstrip("e") or noun


def bases(word: str) -> list[str]:
    """Nouns inside a participle or adjective: "wheeled" has wheels.

    Args:
        word: A stem.
    """
    if word.endswith("y") and len(word) > 4:  # "thorny", "furry"
        return [word[:-1], word[:-1] + "e", word[:-2]]
    if word.endswith("ing") and len(word) > 5:  # "webbing"
        return [word[:-3], word[:-4]]
    if not word.endswith("ed") or len(word) < 5:
        return []
    return [word[:-2], word[:-1], word[:-3]]


_PART_NOUNS = {*PART_OF, *HEAD_ALIASES, "edg", "body", "limb", "rim", "frame", "decker", "seater", "door"}


def names_a_part(word: str) -> bool:
    """Whether a participle says what a thing has: "legged", "tailed", "tipped".

    Args:
        word: A stem.
    """
    return word.endswith("ed") and bool({canonical(word), *bases(word)} & _PART_NOUNS)
