"""A phrase taken apart: which values it gives to which noun, how many, and what it says is missing.

No grammar and no model: words are looked up in the lists of `phrases.word_lists`, the phrase is cut at prepositions
and conjunctions (`phrases.cutting`), and what is left in a fragment belongs to the fragment's last noun. Nouns that
stand for the described thing itself ("color", "surface", "object") count as `SELF`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prolab_hf.label_space.phrases.cutting import cut
from prolab_hf.label_space.phrases.fragments import SELF, Fragment, bases, head_of
from prolab_hf.label_space.phrases.lexicon import Lexicon, implied_values, stems_of
from prolab_hf.label_space.phrases.slots import slots_of
from prolab_hf.label_space.phrases.word_lists.function_words import (
    ABSENT,
    GROUPS,
    HELD,
    LACKED,
    NOT_LESS,
    NOT_UN,
    VERBS,
    Interval,
)
from prolab_hf.label_space.phrases.word_lists.nouns import (
    BODIES,
    COLOUR_NOUNS,
    COVERS,
    GENERIC_THINGS,
    HEAD_ALIASES,
    PLACE_OR_KIND,
    SEATS,
    SELF_NOUNS,
    SKIN_DEEP,
    THINGS,
)
from prolab_hf.label_space.phrases.word_lists.opposites import CONTRASTING
from prolab_hf.label_space.phrases.word_lists.parts import PART_OF
from prolab_hf.label_space.phrases.word_lists.places import PLACES
from prolab_hf.label_space.phrases.word_lists.sorts import GENERAL_NOUNS, SORTS_OF
from prolab_hf.label_space.phrases.word_lists.states import STATES
from prolab_hf.label_space.phrases.wording import stem

_GROUPS = {*THINGS.values(), "body"}
# Dimensions of the phrase as a whole that say where or what rather than how a noun is.
_NOT_OF_NOUNS = frozenset(PLACES) | {
    "kind", "habitat", "fastening", "neckline", "garment length", "sleeve length", "heel", "occasion", "habit",
    "activity", "gathering", "decks", "posture", "covering", "load space", "pulled by", "burner",
    "feet", "fruit kind", "evergreen", "service", "expression", "stacking", "dress",
}  # fmt: skip
# Endings of adjectives: "leafy", "tropical", "wheeled".
_ADJECTIVE_ENDINGS = ("y", "ous", "ful", "less", "ed", "ing", "ish", "ive", "ly", "able", "ible")
# "cut into square shapes", "in many colors"
_FORMS = (["shape"], ["form"], ["colour"], ["pattern"])


@dataclass
class Claims:
    """What one phrase says.

    Attributes:
        values: `(dimension, noun)` -> the values given to it.
        refused: `(dimension, noun)` -> values that it is said not to have.
        counts: Noun -> the numbers that it may have.
        has: Word stems of what is there.
        lacks: Word stems of what is said not to be there.
        nouns: Stems of the main nouns, in order.
        things: Dimension -> the kinds of thing whose value it is (`nouns.THINGS`), where a noun says so.
        relations: Landmark -> how the thing lies to it: `"over"`, `"under"`, `"inside"`, ...
        siblings: Sort -> what the thing is of it (`phrases.siblings`).
    """

    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    refused: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    counts: dict[str, set[Interval]] = field(default_factory=dict)
    has: set[str] = field(default_factory=set)
    lacks: set[str] = field(default_factory=set)
    nouns: list[str] = field(default_factory=list)
    things: dict[str, set[str]] = field(default_factory=dict)
    relations: dict[str, set[str]] = field(default_factory=dict)
    siblings: dict[str, frozenset[str]] = field(default_factory=dict)


def parse(phrase: str, lexicon: Lexicon, whole: frozenset[str]) -> Claims:
    """Takes a phrase apart.

    Args:
        phrase: A description.
        lexicon: Word lists.
        whole: Dimensions whose values belong to the phrase as a whole, not to a noun (places, motion).
    """
    claims = Claims()
    words = _read(phrase)
    parts = cut(words, lexicon)
    # "wheels at the front": the place of a part is the part's, not the thing's.
    subject = next((head_of(part) for part in parts if part.main and part.nouns), SELF)
    waiting: list[Fragment] = []
    for index, part in enumerate(parts):
        follows = parts[index + 1] if index + 1 < len(parts) else None
        # "red and white stripes": a part without a noun shares the noun of the part it is joined to.
        if follows is not None and follows.joined and not part.nouns and not part.landmark:
            waiting.append(part)
            continue
        head = head_of(part)
        for member in [*waiting, part]:
            member.mark = member.mark or part.mark  # "blue and yellow stripes" are both the stripes' colors
            _claim(claims, member, head, whole, subject)
        waiting = []
    _claim_slots(claims, slots_of(phrase, words, lexicon), lexicon)
    if words[:1] in (["can"], ["able"]):
        # What a thing is able to do is no state of it.
        for key in [key for key in claims.values if key[0] in STATES or key[0] == "habitat"]:
            del claims.values[key]
    for (dimension, _), given in claims.values.items():
        # "pattern of stripes" says stripes: what a more special value implies is left out.
        implied = {item for value in given for item in implied_values(dimension, value)}
        given -= implied
    return claims


def _read(phrase: str) -> list[str]:
    """Stems of what a phrase says for sure."""
    words = list(stems_of(phrase))
    # "with or without a lid" says nothing of a lid.
    words = words[: _undecided(words)]
    # "legs cannot be seen": no legs.
    for ending in ABSENT:
        if len(words) > len(ending) and tuple(words[-len(ending) :]) == ending:
            words = ["no", *words[: -len(ending)]]
            break
    # What may be done to a thing is no state of it.
    return [] if words[:2] == ["can", "be"] or words[:1] == ["could"] else words


def _claim_slots(claims: Claims, slots: Mapping[str, set[str]], lexicon: Lexicon) -> None:
    for slot, fillings in slots.items():
        claims.values.setdefault((slot, SELF), set()).update(fillings)
        # What cuts bread is no food.
        kinds = {
            value for word in fillings for name, value in lexicon.entries.get((word,), []) if name == "kind"
        }
        left = claims.values.pop(("kind", SELF), set()) - kinds
        if left:
            claims.values["kind", SELF] = left


def _claim(claims: Claims, part: Fragment, head: str, whole: frozenset[str], subject: str) -> None:
    """Adds what a fragment says to the claims of its phrase."""
    stems = {lacked for word in part.words for lacked in [LACKED.get(word) or _without(word)] if lacked}
    # "unsalted": no salt
    claims.lacks |= stems | set(part.lacks) | {base for word in stems for base in bases(word)}
    if part.negated:
        state = bool(part.landmark and part.values)  # "not in flower"
        if not state:
            missing = {part.nouns[-1]} if part.nouns else set(part.words)
            claims.lacks |= missing | {
                base for word in missing if word.endswith("ing") for base in bases(word)
            }
        if state or not part.nouns:
            for dimension, value in part.values:
                if dimension in CONTRASTING:
                    continue  # a side of them is no one quality: "not moving" does not mean "not in port"
                claims.refused.setdefault((dimension, SELF), set()).add(value)
        return
    if part.relation and part.words:
        claims.relations.setdefault(part.words[-1], set()).add(part.relation)
    _claim_values(claims, part, head, whole, subject)
    # "walks on two legs" counts the thing's legs, "beside two houses" nothing of it.
    if part.count and not (
        part.landmark
        and not GROUPS.keys() & {*part.nouns[-1:]}
        and not _counted_part(part)
        and part.nouns[-1:] not in _FORMS
    ):
        counted = SELF if part.nouns and part.nouns[-1] in GROUPS else head
        if counted == SELF and part.nouns and part.nouns[-1] in THINGS:
            counted = part.nouns[-1]
        claims.counts.setdefault(counted, set()).update(part.count)
    sort = _sort(part)
    if sort is not None:
        claims.values.setdefault((f"kind of {sort[1]}", SELF), set()).add(sort[0])
    # "sown in rows", "walks on many legs"
    has_number = (bool(part.count) and _counted_part(part)) or bool(GROUPS.keys() & {*part.words})
    if not part.landmark or part.holds or has_number:
        claims.has |= {word for word in part.words if not _without(word) and word not in LACKED}
        claims.has |= {base for word in part.words for base in bases(word)}
        claims.has |= {HELD[word] for word in part.words if word in HELD}
        claims.has |= {
            stem(sort) for word in part.words for sort in SORTS_OF.get(word, ()) if sort in GENERAL_NOUNS
        }
        if part.main:
            claims.nouns += part.named


def _counted_part(part: Fragment) -> bool:
    return any(word in PART_OF for word in part.words) and not part.near


def _sort(part: Fragment) -> tuple[str, str] | None:
    """A noun before a noun, as in "tomato sauce": what kind of sauce it is; nothing where the lists know the word."""
    named = not part.values or (bool(part.words) and part.words[0] in COLOUR_NOUNS)
    if part.landmark or not named or part.count or len(part.words) != 2 or part.words[-1:] != part.nouns[-1:]:
        return None
    kind, noun = part.words
    if (
        (len(kind) > 3 and kind.endswith(_ADJECTIVE_ENDINGS))
        or kind in SELF_NOUNS
        or kind in GROUPS
        or noun in GROUPS
    ):
        return None
    if noun in SELF_NOUNS and noun not in ("style", "structure"):
        return None
    return kind, THINGS.get(noun, HEAD_ALIASES.get(noun, noun))


def _claim_values(claims: Claims, part: Fragment, head: str, whole: frozenset[str], subject: str) -> None:
    thing = _thing(part) if head == SELF else None
    others = {dimension for dimension, _ in part.values} - PLACE_OR_KIND
    for dimension, value in part.values:
        if dimension == "locale" and others and not part.landmark and part.nouns and thing in _GROUPS:
            continue  # "straight roads": the roads are no place here
        if (dimension, value) == ("ends", "hanging") and head == SELF:
            continue  # "hanging ears" lie close, a hanging lamp has no such ends
        if dimension in SEATS and part.landmark:
            claims.values.setdefault((dimension, subject), set()).add(value)
        elif dimension in whole:
            _claim_whole(claims, part, dimension, value)
        elif (dimension, value) in part.own:
            claims.values.setdefault((dimension, SELF), set()).add(value)
        elif part.holds and head == SELF and part.words:
            # "filled with red liquid"
            claims.values.setdefault((dimension, part.words[-1]), set()).add(value)
        elif part.relation == "inside" and dimension == "colour" and not part.nouns:
            claims.values.setdefault((dimension, "clothes"), set()).add(value)  # "players in red"
        elif not (part.landmark and head == SELF) or part.nouns[-1:] in _FORMS:
            owner = _owner(part, head, dimension)
            claims.values.setdefault((dimension, owner), set()).add(value)
            by_noun = part.words[-1:] == part.nouns[-1:]
            own = (dimension, value) in part.latest
            if thing is not None and owner == SELF and (by_noun or not (own or dimension == "material")):
                claims.things.setdefault(dimension, set()).add(thing)


def _claim_whole(claims: Claims, part: Fragment, dimension: str, value: str) -> None:
    """A value of the phrase as a whole; with the noun that it stands before, if any ("hot soup")."""
    if part.near and dimension not in ("nearness", "vertical place"):
        return
    claims.values.setdefault((dimension, SELF), set()).add(value)
    if part.nouns and not part.landmark and dimension not in _NOT_OF_NOUNS:
        noun = part.nouns[-1]
        if noun in THINGS or (noun not in SELF_NOUNS and noun not in VERBS):
            claims.things.setdefault(dimension, set()).add(THINGS.get(noun, noun))


def _thing(part: Fragment) -> str | None:
    """The kind of thing whose value it is: the noun's, or the word's that stands in a noun's place ("thin paper")."""
    stands_in = _stands_in(part)
    if part.nouns and not (stands_in and part.words[-1] != part.nouns[-1]):
        noun = part.nouns[-1]
        return THINGS.get(noun) or ("body" if noun in BODIES else GENERIC_THINGS.get(noun))
    if stands_in:
        word = part.words[-1]
        if word in ("metal", "glass", "plastic", "rubber") or word.endswith((*_ADJECTIVE_ENDINGS, "en")):
            return None
        return THINGS.get(word, word)
    return None


def _stands_in(part: Fragment) -> bool:
    """Whether the last word is known for a value and is a noun all the same: a material, "old square"."""
    if len(part.words) < 2:
        return False
    dimensions = {dimension for dimension, _ in part.latest}
    return "material" in dimensions or (part.words[-1] in SORTS_OF and "colour" not in dimensions)


def _owner(part: Fragment, head: str, dimension: str) -> str:
    """Whose a value is: "blue stripes" are the thing's, their color is their own; the color of fur is the animal's."""
    if part.mark:
        return SELF if dimension == "pattern" else part.mark if head == SELF else head
    if head in COVERS and (dimension in SKIN_DEEP or dimension.startswith("shade")):
        return SELF
    return head


def _undecided(words: list[str]) -> int:
    """Where a phrase leaves open whether it has something; its length if nowhere."""
    for at in range(len(words) - 2):
        if words[at : at + 3] in (["with", "or", "without"], ["has", "or", "lacks"]):
            return at
    return len(words)


def _without(word: str) -> str | None:
    """What a word with -less or un- says is missing."""
    if word.endswith("less") and word not in NOT_LESS and len(word) > 6:
        return stem(word[:-4])
    if (
        word.startswith("un")
        and word not in NOT_UN
        and not word.startswith(("under", "uni"))
        and len(word) > 5
    ):
        return word[2:]
    return None
