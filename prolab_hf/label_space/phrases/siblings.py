"""What sort of thing a phrase names, what qualifies its noun, and what its verb is about.

The dimensions of the word lists are about looks and states. Here a phrase's own noun is looked up among sorts of
things (`word_lists.sorts`): a hen is no goose, a ring binder no notebook. Two phrases with one noun or one verb also
differ in what no list knows: "bayonet mount" and "magnet mount", "stops at stations" and "stops at harbours",
"bucket raised high" and "bucket resting on the ground".
"""

from dataclasses import dataclass

from prolab_hf.label_space.phrases.lexicon import CLOSING, Lexicon, implied_values
from prolab_hf.label_space.phrases.word_lists.function_words import (
    ARTICLES,
    CUTTING,
    GROUPS,
    ING_NOUNS,
    IRREGULAR,
    JOINING,
    NEGATING,
    NUMBERS,
    VERBS,
    word_set,
)
from prolab_hf.label_space.phrases.word_lists.nouns import HEAD_ALIASES, MARKS, SELF_NOUNS, THINGS
from prolab_hf.label_space.phrases.word_lists.parts import PART_OF
from prolab_hf.label_space.phrases.word_lists.slots import FILLING_KINDS, PARTICIPLES
from prolab_hf.label_space.phrases.word_lists.sorts import BARE, BEHIND, HAD_ONCE, MADE_OF, SORTS_OF
from prolab_hf.label_space.phrases.wording import stem

# One form for each preposition that may follow a verb.
_PREPOSITIONS = {
    word: word for word in word_set("at in on from under through over by with to for like along across")
}
_PREPOSITIONS |= {"inside": "in", "into": "in", "within": "in", "onto": "on"}
_WHERE = word_set("at in on from under through")
# Plurals that stand before another noun.
_PLURALS = word_set("sports goods arms customs savings sales parts")
# Verbs that are nouns as well.
_VERBS = VERBS | word_set(
    "stop glide crawl hop swim fly climb walk run jump slide roll spin sail drive float sink turn burn creep slither "
    "dive perch swing lean wash fish hunt graze cut end start work play"
)
# Verbs that say nothing of the thing by their object alone, or that have a slot of their own.
_OPEN_VERBS = word_set(
    "has have had is are be look show include contain feature need seem appear consist make get want like lie "
    "stand come go belong carry transport haul deliver hold store keep eat build ride"
)
_HAVING = ING_NOUNS | word_set("wearing holding carrying having containing showing including")
_PLAIN = word_set("plain bare blank empty undecorated")
# Behind a noun these open what is said of it.
_OPENING = word_set(
    "in on at under over up upside down out off from between around before after during above below behind as made "
    "built well badly half partly fully"
)
_VAGUE = word_set(
    "thing something item object stuff way lot part piece kind it place area other another one animal person "
    "people side end top bottom front back middle time day year use group"
)
_GENERAL = _VAGUE | SELF_NOUNS
_ADJECTIVES = ("ly", "ed", "ing", "y", "ful", "ous")
_PARTICIPLES = ("ed", "ing", "ly")


@dataclass(frozen=True)
class _Chunk:
    """Words up to a preposition, a conjunction or the end: the last is the noun."""

    words: tuple[str, ...]

    @property
    def head(self) -> str:
        return self.words[-1]

    def sorts(self) -> tuple[dict[str, frozenset[str]], int]:
        """Sorts of its noun, and how many words name it."""
        for length in (2, 1):
            name = " ".join(self.words[-length:])
            if len(self.words) >= length and name in SORTS_OF:
                return SORTS_OF[name], length
        return {}, 1


def siblings_of(phrase: str, words: list[str], lexicon: Lexicon) -> dict[str, frozenset[str]]:
    """What a phrase is, of things that exclude one another.

    Args:
        phrase: The phrase.
        words: Its stems without articles.
        lexicon: Word lists, to know which words they know.

    Returns:
        What it is compared by ("sort of bird", "kind of handle", "stop at") -> what it is there.
    """
    if not words or NEGATING & set(words) or {"or", "rather", "instead"} & set(words):
        return {}
    raw = [word for word in phrase.lower().replace("-", " ").split() if word not in ("a", "an", "the")]
    reader = _Reader(words, raw if len(raw) == len(words) else [], lexicon)
    reader.read()
    return {key: frozenset(values) for key, values in reader.found.items()}


class _Reader:
    """Reads one phrase; what it finds is in `found`."""

    def __init__(self, words: list[str], raw: list[str], lexicon: Lexicon) -> None:
        self.words = words
        self.raw = raw
        self.lexicon = lexicon
        self.found: dict[str, set[str]] = {}

    def read(self) -> None:
        """Finds what the phrase is by its form: a place, a verb, or a noun with what stands around it."""
        first = self.words[0]
        if first in _WHERE:
            for chunk in _chunks(self.words[1:])[0]:
                self._sorts(chunk, first)
        elif self._opens_with_verb():
            self._verb()
        elif first not in CLOSING:
            self._noun()

    def _add(self, key: str, values: set[str] | frozenset[str]) -> None:
        self.found.setdefault(key, set()).update(values)

    def _opens_with_verb(self) -> bool:
        """Whether it opens with a verb in the third person: "stops at", "shows"."""
        if len(self.raw) < 2:
            return False
        first, (verb, follows) = self.raw[0], self.words[:2]
        if not first.endswith("s") or first.endswith(("ss", "us", "is")) or len(first) <= 3:
            return False
        if first in _PLURALS or verb in NUMBERS or follows in CUTTING or first in IRREGULAR:
            return False
        # Behind a plural stands no other noun.
        behind = (
            follows in CLOSING | _OPENING
            or (follows,) in self.lexicon.entries
            or follows.endswith(_PARTICIPLES)
        )
        return not (_is_known_noun(verb) and verb not in _VERBS and behind)

    def _noun(self) -> None:
        chunks, rest = _chunks(self.words)
        for chunk in chunks:
            self._sorts(chunk)
            self._qualified(chunk)
        if len(chunks) == 1 and len(rest) > 1:
            self._complement(chunks[0], rest)
            self._trim(chunks[0], rest)
        if len(chunks) == 1 and not rest and _PLAIN & set(chunks[0].words[:-1]):
            self.found[f"trim of {chunks[0].head}"] = {"none"}
        first = self.words[0]
        participle = first.endswith("ed") or (first.endswith("ing") and first not in _HAVING)
        if participle and len(self.words) > (1 if first == "facing" else 2):
            self._verb()
        self._predicate()

    def _sorts(self, chunk: _Chunk, where: str = "") -> None:
        """What its noun is; parts and places only behind a verb or a preposition."""
        sorts, length = chunk.sorts()
        described = any((word,) in self.lexicon.entries for word in chunk.words[:-length])
        for sort, names in sorts.items():
            if where or not (sort in BEHIND or (described and sort in BARE)):
                self._add(f"{where} sort of {sort}".strip(), names)

    def _qualified(self, chunk: _Chunk) -> None:
        """A word before the noun that no list knows, or of what it is: "ratchet handle", "gravel path"."""
        _, length = chunk.sorts()
        before = chunk.words[:-length]
        for sort, names in SORTS_OF.get(before[-1], {}).items() if before else ():
            if sort in MADE_OF:
                self._add(f"{sort} of {chunk.head}", names)
        if len(before) != 1 or before[0] in GROUPS or chunk.head in GROUPS or chunk.head in _GENERAL:
            return
        word = before[0]
        known = (word,) in self.lexicon.entries or self.lexicon.related(word)
        if known or chunk.words[-length - 1 :] in self.lexicon.entries:
            return
        if word not in SELF_NOUNS and not word.endswith(("ly", "ed")):
            head = HEAD_ALIASES.get(chunk.head, chunk.head)
            self._add(f"kind of {head}", {word, *FILLING_KINDS.get(word, "").split()})

    def _verb(self) -> None:
        """What its verb is about, with the preposition: "stops at stations"."""
        verb, follows = self.words[:2]
        preposition = _PREPOSITIONS.get(follows, "")
        if follows in CLOSING and not preposition:
            return
        chunks, rest = _chunks(self.words[2:] if preposition else self.words[1:])
        heads = [chunk.head for chunk in chunks]
        if not heads or rest or any(head.isdigit() or head in NUMBERS or head in _VAGUE for head in heads):
            return
        key = f"{verb} {preposition}".strip()
        if verb not in _OPEN_VERBS or preposition:
            for chunk in chunks:
                self._sorts(chunk, key)
        adverb = not preposition and follows.endswith("ly")
        if (verb not in _OPEN_VERBS or preposition == "like") and not adverb:
            for chunk in chunks:
                self._add(key, self._says(chunk))

    def _complement(self, chunk: _Chunk, rest: list[str]) -> None:
        """What its noun is of or for: "statue of a horse", "lens for reading"."""
        participle = len(chunk.words) == 2 and chunk.head.endswith(("ing", "ed"))
        noun, preposition = " ".join(chunk.words), rest[0]
        if preposition not in ("of", "for") or not (len(chunk.words) == 1 or participle):
            return
        objects, behind = _chunks(rest[1:])
        vague = behind or noun in _GENERAL or noun in GROUPS or any(item.head in _VAGUE for item in objects)
        for item in [] if vague else objects:
            self._add(f"{noun} {preposition}", self._says(item))

    def _trim(self, chunk: _Chunk, rest: list[str]) -> None:
        """What its noun has: a "ring with a stone" is no "plain ring", "shoes with laces" have no buckles."""
        if rest[0] != "with" or len(chunk.words) > 1 or "nothing" in rest:
            return
        self.found[f"trim of {chunk.head}"] = {"some"}
        for item in _chunks(rest[1:])[0]:
            for sort, names in item.sorts()[0].items():
                if sort in HAD_ONCE:
                    self._add(f"{sort} of {chunk.head}", names)

    def _predicate(self) -> None:
        """What is said of a noun behind it: "umbrella folded", "truck driving on the motorway"."""
        noun = self.words[0]
        rest = [word for word in self.words[1:] if word not in ARTICLES or word == "as"]
        if not self.raw or not rest or noun in _GENERAL or noun in MARKS:
            return
        plural = self.raw[0] == f"{noun}s"
        unknown = (noun,) not in self.lexicon.entries and not noun.endswith(_ADJECTIVES)
        if (_is_known_noun(noun) or plural or unknown) and self._opens_predicate(rest):
            said = [word for word in rest if word not in CLOSING and word != "as"]
            self.found[f"state of {noun}"] = {f"= {word}" for word in said} | {
                f"{word}> {dimension}: {value}"
                for word in said
                for dimension, value in self.lexicon.entries.get((word,), [])
            }

    def _opens_predicate(self, rest: list[str]) -> bool:
        """Whether words behind a noun say what it does or how it is, rather than go on naming it."""
        first = rest[0]
        if (
            first in _OPENING
            or (first.endswith(_PARTICIPLES) and first not in ING_NOUNS)
            or first in PARTICIPLES
        ):
            return True
        known = (first,) in self.lexicon.entries or bool(self.lexicon.related(first))
        ends = len(rest) == 1 or rest[1] in CLOSING or rest[1] in _OPENING
        return known and ends and first not in SORTS_OF

    def _says(self, chunk: _Chunk) -> set[str]:
        """A noun, what it is a kind of, and what the word lists say of it."""
        head = chunk.head
        found = {head, *implied_values("used on", head)}
        for sort, names in chunk.sorts()[0].items():
            found |= {f"{sort}: {name}" for name in names} | {stem(sort)}
        for dimension, value in self.lexicon.entries.get((head,), []):
            found |= {f"{dimension}: {said}" for said in (value, *implied_values(dimension, value))}
        return found


def predicates_differ(mine: frozenset[object], theirs: frozenset[object]) -> bool:
    """Whether what is said behind one noun differs: each says something that the other does not, and not alike.

    Args:
        mine: Words and values of one predicate.
        theirs: Of another.
    """
    sides = [[str(item) for item in side] for side in (mine - theirs, theirs - mine)]
    only = [[item for item in side if item.startswith("=")] for side in sides]
    values = [{item.split("> ")[1] for item in side if "> " in item} for side in sides]
    if not only[0] or not only[1] or values[0] & values[1]:
        return False
    return not any(_alike(one[2:], two[2:]) for one in only[0] for two in only[1])


def siblings_differ(mine: frozenset[object], theirs: frozenset[object]) -> bool:
    """Whether nothing that one is, the other is too.

    Args:
        mine: What a phrase is of one sort.
        theirs: What another is.
    """
    return not mine & theirs and not any(_alike(str(one), str(two)) for one in mine for two in theirs)


def _chunks(words: list[str]) -> tuple[list[_Chunk], list[str]]:
    """The joined nouns up to the first preposition, and what follows."""
    found: list[list[str]] = [[]]
    end = len(words)
    for at, word in enumerate(words):
        if word != "to" and (word in JOINING or word == ","):
            found.append([])
        elif word in CLOSING and not (word == "can" and words[at + 1 : at + 2] in ([], ["with"], ["of"])):
            end = at  # "a metal can" is a noun
            break
        elif word not in ARTICLES and word not in NUMBERS and not word.isdigit():
            found[-1].append(word)
    return [_Chunk(tuple(chunk)) for chunk in found if chunk], words[end:]


def _is_known_noun(word: str) -> bool:
    return word in SORTS_OF or word in PART_OF or word in HEAD_ALIASES or word in THINGS


def _alike(first: str, second: str) -> bool:
    """Forms of one word: "wool" and "woollen"."""
    if ": " in first or ": " in second:
        return False  # a value of the lists, not a word
    length = min(len(first), len(second), 5)
    return (length >= 4 and first[:length] == second[:length]) or stem(first) == stem(second)
