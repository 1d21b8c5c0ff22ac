"""What sort of thing a phrase names, what qualifies its noun, and what its verb is about.

The dimensions of the word lists are about looks and states. Here a phrase's own noun is looked up among sorts of
things (`word_lists.sorts`): a hen is no goose, a ring binder no notebook. Where two phrases have one noun or one
verb with its preposition and differ in a word that no list knows, they differ too: "ratchet handle" and "bayonet
handle", "stops at stations" and "stops at harbours".
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
    LANDMARK,
    NEGATING,
    NUMBERS,
    VERBS,
)
from prolab_hf.label_space.phrases.word_lists.nouns import HEAD_ALIASES, MARKS, SELF_NOUNS, THINGS
from prolab_hf.label_space.phrases.word_lists.parts import PART_OF
from prolab_hf.label_space.phrases.word_lists.slots import FILLING_KINDS, PARTICIPLES
from prolab_hf.label_space.phrases.word_lists.sorts import BARE, BEHIND, SORTS_OF
from prolab_hf.label_space.phrases.wording import stem

Sorts = dict[str, frozenset[str]]

_SET = {"at": "at", "in": "in", "inside": "in", "into": "in", "within": "in", "on": "on", "onto": "on", "from": "from",
        "under": "under", "through": "through", "over": "over", "by": "by", "with": "with", "to": "to", "for": "for",
        "like": "like", "along": "along", "across": "across"}  # fmt: skip
# Plurals that stand before another noun.
_PLURALS = frozenset({"sports", "goods", "arms", "customs", "savings", "sales", "parts"})
_GAITS = frozenset(
    "stop glide crawl hop swim fly climb walk run jump slide roll spin sail drive float sink turn burn creep slither "
    "dive perch swing lean wash fish hunt graze cut end start work play".split()
)
# Sorts of which a thing has one: "shoes with laces" / "shoes with buckles".
_HAD = frozenset(
    {"ornament", "sign", "support", "drive", "closure", "roof", "display", "roof cover", "wall cover", "hairdo"}
)
_PLAIN = frozenset({"plain", "bare", "blank", "empty", "undecorated"})
_MADE_OF = frozenset(
    {"roof cover", "wall cover", "floor cover", "loose ground", "barrier", "cloth", "music family", "meat"}
)
_HAVING = frozenset(
    {"wearing", "holding", "carrying", "having", "containing", "showing", "including", *ING_NOUNS}
)
_PREDICATE_OPENS = frozenset(
    "in on at under over up upside down out off from between around before after during above below behind as made "
    "built well badly half partly fully".split()
)
_COMPLEMENTS = frozenset({"of", "for"})
_WHERE = frozenset({"at", "in", "on", "from", "under", "through"})
# Verbs that say nothing of the thing by their object alone, or that have a slot of their own.
_OPEN_VERBS = frozenset(
    "has have had is are be look show include contain feature need seem appear consist make get want like lie "
    "stand come go belong carry transport haul deliver hold store keep eat build ride".split()
)
_FORMS_OF_ADJECTIVES = ("y", "ous", "ful", "less", "ish", "ive", "ly", "able", "ible", "al", "ic")
_VAGUE = frozenset(
    "thing something item object stuff way lot part piece kind it place area other another one animal person "
    "people side end top bottom front back middle time day year use group".split()
)
_GENERIC = _VAGUE | frozenset("colour shape surface texture form pattern look appearance size outline".split())


@dataclass(frozen=True)
class _Chunk:
    """Words up to a preposition, a conjunction or the end: the last is the noun."""

    words: tuple[str, ...]

    @property
    def head(self) -> str:
        return self.words[-1]


def siblings_of(phrase: str, words: list[str], lexicon: Lexicon) -> Sorts:
    """What a phrase is, of things that exclude one another.

    Args:
        phrase: The phrase.
        words: Its stems without articles.
        lexicon: Word lists, to know which words they know.

    Returns:
        What it is compared by ("sort of bird", "ruler", "stop at") -> what it is there.
    """
    if not words or NEGATING & set(words) or {"or", "rather", "instead"} & set(words):
        return {}
    found: dict[str, set[str]] = {}
    raw = [word for word in phrase.lower().replace("-", " ").split() if word not in ("a", "an", "the")]
    verb = _is_verb(raw, words, lexicon)
    start = 1 if words[0] in _WHERE else 0
    chunks, rest = _chunks(words[start:])
    if start:
        for chunk in chunks:
            _add_sorts(found, chunk, _SET[words[0]], lexicon)
    elif verb:
        _verb(found, words, lexicon)
    elif words[0] not in CLOSING:
        for chunk in chunks:
            _add_sorts(found, chunk, "", lexicon)
            _qualified(found, chunk, lexicon)
        if len(chunks) == 1 and len(rest) > 1:
            _complement(found, chunks[0], rest, lexicon)
            _with(found, chunks[0], rest, lexicon)
        if len(chunks) == 1 and not rest and _PLAIN & set(chunks[0].words[:-1]):
            found[f"trim of {chunks[0].head}"] = {"none"}
        opens = words[0].endswith("ed") or (words[0].endswith("ing") and words[0] not in _HAVING)
        if len(words) > (1 if words[0] == "facing" else 2) and opens:
            _verb(found, words, lexicon)
        _predicate(found, words, raw, lexicon)
    return {key: frozenset(values) for key, values in found.items()}


def _is_verb(raw: list[str], words: list[str], lexicon: Lexicon) -> bool:
    """Whether a phrase opens with a verb in the third person: "stops at", "shows"."""
    if len(raw) != len(words) or len(words) < 2:
        return False
    first = raw[0]
    inflected = first.endswith("s") and not first.endswith(("ss", "us", "is")) and len(first) > 3
    noun = words[0] in SORTS_OF or words[0] in PART_OF or words[0] in HEAD_ALIASES or words[0] in THINGS
    noun = (noun and words[0] not in VERBS | _GAITS) or first in IRREGULAR
    # Behind a plural stands no other noun.
    behind = words[1] in CLOSING | _PREDICATE_OPENS or (words[1],) in lexicon.entries
    noun = noun and (behind or words[1].endswith(("ed", "ing", "ly")) or first in IRREGULAR)
    noun = noun or first in _PLURALS or words[0] in NUMBERS
    return inflected and not noun and words[1] not in CUTTING


def _chunks(words: list[str]) -> tuple[list[_Chunk], list[str]]:
    """The joined nouns up to the first preposition, and what follows."""
    found: list[_Chunk] = []
    chunk: list[str] = []
    for at, word in enumerate(words):
        if word != "to" and (word in JOINING or word == ","):
            if chunk:
                found.append(_Chunk(tuple(chunk)))
            chunk = []
        elif word in CLOSING and not (word == "can" and words[at + 1 : at + 2] in ([], ["with"], ["of"])):
            if chunk:
                found.append(_Chunk(tuple(chunk)))
            return found, words[at:]
        elif word not in ARTICLES and word not in NUMBERS and not word.isdigit():
            chunk.append(word)
    if chunk:
        found.append(_Chunk(tuple(chunk)))
    return found, []


def _sorts(chunk: _Chunk) -> tuple[Sorts, int]:
    """Sorts of the noun of a chunk, and how many words name it."""
    for length in (2, 1):
        name = " ".join(chunk.words[-length:])
        if len(chunk.words) >= length and name in SORTS_OF:
            return SORTS_OF[name], length
    return {}, 1


def _add_sorts(found: dict[str, set[str]], chunk: _Chunk, where: str, lexicon: Lexicon) -> None:
    sorts, length = _sorts(chunk)
    described = any((word,) in lexicon.entries for word in chunk.words[:-length])
    for sort, names in sorts.items():
        if not where and (sort in BEHIND or (described and sort in BARE)):
            continue
        found.setdefault(f"{where} sort of {sort}".strip(), set()).update(names)


def _qualified(found: dict[str, set[str]], chunk: _Chunk, lexicon: Lexicon) -> None:
    """A word before a noun that no list knows: what kind of "ruler" it is."""
    _, length = _sorts(chunk)
    words = chunk.words[: len(chunk.words) - length]
    for sort, names in SORTS_OF.get(words[-1], {}).items() if words else ():
        if sort in _MADE_OF:  # "tin roof", "gravel path"
            found.setdefault(f"{sort} of {chunk.head}", set()).update(names)
    if len(words) != 1 or words[0] in GROUPS or chunk.head in GROUPS | _dull:
        return
    word = words[0]
    if (
        word in SELF_NOUNS
        or word.endswith(("ly", "ed"))
        or lexicon.entries.get((word,))
        or lexicon.related(word)
    ):
        return
    if lexicon.entries.get(chunk.words[-length - 1 :]):
        return
    head = HEAD_ALIASES.get(chunk.head, chunk.head)
    found.setdefault(f"kind of {head}", set()).update({word, *_general(word)})


def _verb(found: dict[str, set[str]], words: list[str], lexicon: Lexicon) -> None:
    """What the verb of a phrase is about, with its preposition."""
    verb, follows = words[0], words[1]
    preposition = _SET.get(follows, "")
    if follows in CLOSING and not preposition:
        return
    chunks, rest = _chunks(words[2:] if preposition else words[1:])
    heads = [chunk.head for chunk in chunks]
    if not heads or rest or any(word.isdigit() or word in NUMBERS or word in _VAGUE for word in heads):
        return
    if verb not in _OPEN_VERBS or preposition:
        for chunk in chunks:
            _add_sorts(found, chunk, f"{verb} {preposition}".strip(), lexicon)
    if (verb in _OPEN_VERBS and preposition != "like") or (not preposition and words[1].endswith("ly")):
        return
    for chunk in chunks:
        found.setdefault(f"{verb} {preposition}".strip(), set()).update(_says(chunk, lexicon))


def _complement(found: dict[str, set[str]], chunk: _Chunk, rest: list[str], lexicon: Lexicon) -> None:
    """What a noun is of or on: "statue of a horse", "players on skates"."""
    noun, preposition = " ".join(chunk.words), rest[0]
    if len(chunk.words) > 1 and not (len(chunk.words) == 2 and chunk.head.endswith(("ing", "ed"))):
        return
    if preposition not in _COMPLEMENTS or noun in _dull or noun in GROUPS:
        return
    objects, behind = _chunks(rest[1:])
    if behind or any(item.head in _VAGUE for item in objects):
        return
    for item in objects:
        found.setdefault(f"{noun} {preposition}", set()).update(_says(item, lexicon))


def _with(found: dict[str, set[str]], chunk: _Chunk, rest: list[str], lexicon: Lexicon) -> None:
    """What a noun has: "ring with a stone" is no "plain ring", "shoes with laces" have no buckles."""
    if rest[0] != "with" or len(chunk.words) > 1 or "nothing" in rest:
        return
    found[f"trim of {chunk.head}"] = {"some"}
    for item in _chunks(rest[1:])[0]:
        for sort, names in _sorts(item)[0].items():
            if sort in _HAD:
                found.setdefault(f"{sort} of {chunk.head}", set()).update(names)


def _predicate(found: dict[str, set[str]], words: list[str], raw: list[str], lexicon: Lexicon) -> None:
    """What is said of a noun behind it: "umbrella folded", "truck driving on the motorway"."""
    if len(words) < 2 or len(raw) != len(words):
        return
    noun, *rest = [words[0], *(word for word in words[1:] if word not in ARTICLES or word == "as")]
    if not rest:
        return
    follows = rest[0]
    known = (
        noun in SORTS_OF or noun in PART_OF or noun in HEAD_ALIASES or noun in THINGS or raw[0] == f"{noun}s"
    )
    known = known or (
        (noun,) not in lexicon.entries and not noun.endswith(("ly", "ed", "ing", "y", "ful", "ous"))
    )
    participle = (
        follows.endswith(("ed", "ing", "ly")) or follows in PARTICIPLES
    ) and follows not in ING_NOUNS
    ends = len(rest) == 1 or rest[1] in CLOSING or rest[1] in _PREDICATE_OPENS
    listed = (follows,) in lexicon.entries or bool(lexicon.related(follows))
    state = ends and listed and follows not in SORTS_OF
    if (
        not known
        or noun in _dull
        or noun in MARKS
        or not (participle or state or follows in _PREDICATE_OPENS)
    ):
        return
    said = [word for word in rest if word not in CLOSING and word != "as"]
    found[f"state of {noun}"] = {f"= {word}" for word in said} | {
        f"{word}> {dimension}: {value}"
        for word in said
        for dimension, value in lexicon.entries.get((word,), [])
    }


def _says(chunk: _Chunk, lexicon: Lexicon) -> set[str]:
    """A noun, what it is a kind of, and what the word lists say of it."""
    head = chunk.head
    found = {head, *implied_values("used on", head)}
    for sort, names in _sorts(chunk)[0].items():
        found |= {f"{sort}: {name}" for name in names} | {stem(sort)}
    for dimension, value in lexicon.entries.get((head,), []):
        found |= {f"{dimension}: {said}" for said in (value, *implied_values(dimension, value))}
    return found


_dull: dict[str, None] = dict.fromkeys(_VAGUE | SELF_NOUNS)


def _general(word: str) -> set[str]:
    return set(FILLING_KINDS.get(word, "").split())


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
    return not mine & theirs and not any(_alike(one, two) for one in mine for two in theirs)


def _alike(one: object, two: object) -> bool:
    """Forms of one word: "wool" and "woollen"."""
    first, second = str(one), str(two)
    if ": " in first or ": " in second:
        return False  # a value of the lists, not a word
    length = min(len(first), len(second), 5)
    return length >= 4 and first[:length] == second[:length] or stem(first) == stem(second)
