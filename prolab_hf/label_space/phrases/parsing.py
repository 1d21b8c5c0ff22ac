"""A phrase taken apart: which values it gives to which noun, how many, and what it says is missing.

No grammar and no model: words are looked up in the lists of `phrases.words`, the phrase is cut at prepositions
and conjunctions, and what is left in a part belongs to the part's last noun. Nouns that stand for the described
thing itself ("color", "surface", "object") count as `SELF`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prolab_hf.label_space.phrases.function_words import (
    ABSENT,
    AFTER_NOUN,
    ARTICLES,
    AT_LEAST,
    AT_MOST,
    CUTTING,
    GROUPS,
    HELD,
    IGNORED,
    INFINITY,
    ING_NOUNS,
    IRREGULAR,
    JOINED,
    JOINING,
    LACKED,
    LANDMARK,
    NEAR,
    NEGATING,
    NEUTRAL,
    NOT_LESS,
    NOT_UN,
    NUMBER_WORDS,
    NUMBERS,
    RELATIONS,
    VERBS,
    Interval,
)
from prolab_hf.label_space.phrases.look_words import LOOKS
from prolab_hf.label_space.phrases.nouns import (
    COVERS,
    HEAD_ALIASES,
    MARKS,
    SELF_NOUNS,
    SKIN_DEEP,
    THINGS,
)
from prolab_hf.label_space.phrases.parts import PART_OF
from prolab_hf.label_space.phrases.words import IMPLIED

SELF = "itself"


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
    """

    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    refused: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    counts: dict[str, set[Interval]] = field(default_factory=dict)
    has: set[str] = field(default_factory=set)
    lacks: set[str] = field(default_factory=set)
    nouns: list[str] = field(default_factory=list)
    things: dict[str, set[str]] = field(default_factory=dict)
    relations: dict[str, set[str]] = field(default_factory=dict)


def stem(word: str) -> str:
    """A word without its plural ending; known irregular forms by list.

    Args:
        word: One lower-case word.
    """
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1]


def tokens_of(phrase: str) -> list[str]:
    """Stems of a phrase, lower case, hyphens as spaces, articles left out.

    Args:
        phrase: Any text.
    """
    text = phrase.lower().replace("-", " ").replace("/", " or ").replace("’", "'")
    text = re.sub(r"'s\b|n't\b", lambda found: " not" if found[0] == "n't" else "", text)
    words = re.findall(r"[a-z]+|\d+|,", text)
    return [stem(word) for word in words]


def same_wording(phrase: str) -> str:
    """The phrase up to case, number, articles, hyphens and spelling: equal texts say the same.

    Args:
        phrase: Any text.
    """
    words = [word for word in tokens_of(phrase) if word not in ("a", "an", "the", ",")]
    digits = {str(number): word for number, word in enumerate(NUMBER_WORDS)}
    return " ".join(
        {"grey": "gray", "aluminum": "aluminium"}.get(word, digits.get(word, word)) for word in words
    )


_PART_NOUNS = {*PART_OF, *HEAD_ALIASES, "edg", "body", "limb", "rim", "frame", "decker", "seater", "door"}
_ENDS = frozenset({"top", "bottom", "front", "back", "side", "rear"})
_CLOSING = JOINING | LANDMARK | CUTTING | NEGATING | {","}
_GRADED = {"size", "height", "width", "length", "depth", "tone", "weight"}


class Lexicon:
    """Phrases of the word lists by their stems, ready for longest-match look-up.

    Args:
        dimensions: Dimension -> value -> words (`|` between them, or a list).
    """

    def __init__(self, dimensions: Mapping[str, Mapping[str, str | Iterable[str]]]) -> None:
        self.entries: dict[tuple[str, ...], list[tuple[str, str]]] = {}
        for dimension, values in dimensions.items():
            for value, words in values.items():
                for word in words.split("|") if isinstance(words, str) else words:
                    key = tuple(item for item in tokens_of(word) if item not in ("a", "an", "the"))
                    if key:
                        self.entries.setdefault(key, []).append((dimension, value))
        self.neutral = {
            tuple(item for item in tokens_of(word) if item not in ("a", "an", "the"))
            for word in f"{NEUTRAL}|{IGNORED}".split("|")
        }
        self.longest = max(len(key) for key in [*self.entries, *self.neutral])

    def match(self, words: list[str], start: int) -> tuple[int, list[tuple[str, str]], bool]:
        """The longest entry at a position: its length (0 = none), its values, whether it is a neutral one."""
        for length in range(min(self.longest, len(words) - start), 0, -1):
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
                if words[end - 1] in _CLOSING or self._names_a_place(words, end - 1):
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

    def related(self, word: str) -> list[tuple[str, str]]:
        """Values of an unknown word by the word that it is made of: "longish", "longest"."""
        for ending in ("ish", "est", "er"):
            if word.endswith(ending) and len(word) > len(ending) + 2:
                base = word.removesuffix(ending)
                for form in (base, base + "e", base[:-1], base.removesuffix("i") + "y"):
                    values = self.entries.get((form,), [])
                    # "cutter" and "shutter" are not more cut or shut.
                    if values and (ending == "ish" or any(dimension in _GRADED for dimension, _ in values)):
                        return values
        return []


@dataclass
class _Part:
    """Words between two cutting words."""

    values: list[tuple[str, str]] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    count: set[Interval] = field(default_factory=set)
    joined: bool = False
    landmark: bool = False
    near: bool = False
    negated: bool = False
    main: bool = True
    linked: bool = False
    lacks: list[str] = field(default_factory=list)
    relation: str = ""
    mark: str = ""
    named: list[str] = field(default_factory=list)
    latest: list[tuple[str, str]] = field(default_factory=list)


def parse(phrase: str, lexicon: Lexicon, whole: frozenset[str]) -> Claims:
    """Takes a phrase apart.

    Args:
        phrase: A description.
        lexicon: Word lists.
        whole: Dimensions whose values belong to the phrase as a whole, not to a noun (places, motion).
    """
    words = [word for word in tokens_of(phrase) if word not in ("a", "an", "the")]
    claims = Claims()
    # "legs cannot be seen": no legs.
    for ending in ABSENT:
        if len(words) > len(ending) and tuple(words[-len(ending) :]) == ending:
            words = ["no", *words[: -len(ending)]]
            break
    parts = _cut(words, lexicon)
    # "wheels at the front": the place of a part is the part's, not the thing's.
    subject = next((_head(part) for part in parts if part.main and part.nouns), SELF)
    waiting: list[_Part] = []
    for index, part in enumerate(parts):
        follows = parts[index + 1] if index + 1 < len(parts) else None
        # "red and white stripes": a part without a noun shares the noun of the part it is joined to.
        if follows is not None and follows.joined and not part.nouns and not part.landmark:
            waiting.append(part)
            continue
        head = _head(part)
        for member in [*waiting, part]:
            _claim(claims, member, head, whole, subject)
        waiting = []
    for (dimension, _), given in claims.values.items():
        # "pattern of stripes" says stripes: what a more special value implies is left out.
        implied = {item for value in given for item in implied_values(dimension, value)}
        given -= implied
    return claims


def implied_values(dimension: str, value: str) -> frozenset[str]:
    """What a value says besides itself: steel is metal.

    Args:
        dimension: The dimension.
        value: One of its values.
    """
    table = IMPLIED.get(dimension, {})
    found: set[str] = set()
    todo = [value]
    while todo:
        for item in table.get(todo.pop(), "").split():
            if item not in found and item != value:
                found.add(item)
                todo.append(item)
    return frozenset(found)


def _head(part: _Part) -> str:
    if not part.nouns:
        # "behind the building": a landmark is a noun even where the lists know it as a value.
        return part.words[-1] if part.landmark and part.words else SELF
    noun = part.nouns[-1]
    # "vivid red", "stands upright": a word before the last value qualifies it, unless a state follows a noun.
    if part.values and part.words[-1] != noun and not part.linked:
        latest = {dimension for dimension, _ in part.latest} or {part.values[-1][0]}
        if not latest & AFTER_NOUN or noun in VERBS:
            return SELF
    if noun in SELF_NOUNS or noun in THINGS or noun in VERBS:
        return SELF
    return _canonical(HEAD_ALIASES.get(noun) or HEAD_ALIASES.get(_canonical(noun), noun))


def _canonical(noun: str) -> str:
    """One form for a noun and its participle: "sleeve" and "long-sleeved" speak of the same part."""
    base = noun[:-2] if noun.endswith("ed") and len(noun) > 4 else noun
    if len(base) > 3 and base[-1] == base[-2]:
        base = base[:-1]
    return base.rstrip("e") or noun


def _cut(words: list[str], lexicon: Lexicon) -> list[_Part]:
    """Cuts a list of stems into parts, with what each part's words mean."""
    parts = [_Part()]
    position, limit = 0, None
    while position < len(words):
        word = words[position]
        follows = words[position + 1] if position + 1 < len(words) else None
        length, values, neutral = lexicon.match(words, position)
        bound = _bound(words, position)
        if bound is not None:
            position, limit = position + bound[0], bound[1:]
        elif length == 1 and word in ("inside", "outside") and not _ends(follows) and follows not in LANDMARK:
            parts.append(_Part(landmark=True, main=False, relation=RELATIONS[word]))
            position += 1
        elif word in ("filled", "full") and follows in ("with", "of") and position + 2 < len(words):
            parts[-1].values += [("filling", "full"), ("content", words[-1])]
            parts.append(_Part(landmark=True, main=False))
            position += 2
        elif length <= 1 and word in _ENDS and parts[-1].values and not parts[-1].landmark and _closes(follows):
            _add_word(parts, word)  # "flat top": the top's, not the thing's
            position += 1
        elif length:
            found, rest = words[position : position + length], words[position + length :]
            if word in LANDMARK:
                # "not in flower"
                negated = parts[-1].negated and not parts[-1].words
                relation = RELATIONS.get(word, "")
                parts.append(
                    _Part(landmark=True, near=word in NEAR, main=False, negated=negated, relation=relation)
                )
            _add_match(parts[-1], found, [] if neutral else _inner(found, values, lexicon), rest, neutral)
            if found[-1] == "than":
                parts.append(_Part(landmark=True, main=False))
            position += length
        elif word in NUMBERS or word.isdigit():
            # Behind its noun a number counts nothing ("platform 3"), behind a verb it does ("seats one person").
            if not parts[-1].nouns or not _closes(follows):
                parts[-1].count.add(_limited(NUMBERS.get(word) or (int(word[:9]), int(word[:9])), limit))
            position, limit = position + 1, None
        elif word in GROUPS and follows == "of":
            parts[-1].count = _times(parts[-1].count, GROUPS[word])  # "three pairs of legs"
            position += 2
        elif word in ("inside", "outside") and _ends(follows):
            parts[-1].nouns.append(word)  # "red on the outside and white inside"
            parts[-1].words.append(word)
            position += 1
        elif related := lexicon.related(word):
            _add_match(parts[-1], [word], related, words[position + 1 :], False)
            position += 1
        elif follows == "like" and word not in CUTTING | JOINING | LANDMARK and word not in ARTICLES:
            parts[-1].values.append(("likeness", word))  # "pen-like"
            parts[-1].words.append("like")
            position += 2
        elif len(word) == 1 and follows == "shaped":
            parts[-1].values.append(("shape", f"letter {word}"))  # "f-shaped"
            parts[-1].words.append(word)
            position += 2
        elif word in ("up", "down") and parts[-1].nouns and _ends(follows):
            parts[-1].values.append(("raising", word))  # "seat up"
            parts[-1].linked = True
            position += 1
        elif word in ("left", "right") and not _closes(follows) and follows != "angled":
            parts[-1].values.append(("side", word))  # "the left lung"
            parts[-1].words.append(word)
            position += 1
        elif word in ("on", "off") and parts[-1].nouns and (follows is None or follows in JOINING):
            parts[-1].values.append(("power", word))  # "headlights on"
            parts[-1].linked = True
            position += 1
        elif word == "free" and follows != "of" and (parts[-1].nouns or parts[-1].values):
            _take_back(parts[-1])  # "cloud-free"
            position += 1
        elif follows is not None and _part_of_participle(word):
            _add_compound(parts, word)
            position += 1
        else:
            _add_word(parts, word)
            position += 1
    return [part for part in parts if part.values or part.words or part.count or part.lacks]


def _closes(word: str | None) -> bool:
    """Whether a noun ends before a word."""
    return word is None or word in _CLOSING


def _ends(word: str | None) -> bool:
    """Whether something ends before a word."""
    return word is None or word in JOINING or word == ","


def _times(counts: set[Interval], group: Interval) -> set[Interval]:
    exact = group[0] == group[1] and len(counts) == 1
    return {(low * group[0], min(high * group[0], INFINITY)) for low, high in counts} if exact else {group}


def _part_of_participle(word: str) -> bool:
    """Whether a word says what a thing has: "legged", "tailed", "tipped"."""
    return word.endswith("ed") and bool({_canonical(word), *_bases(word)} & _PART_NOUNS)


def _add_compound(parts: list[_Part], word: str) -> None:
    """ "four-legged animal", "small black-tipped tail": number and last value before the word are the part's."""
    part = parts[-1]
    compound = _Part(values=part.latest, nouns=[word], words=[word], count=part.count)
    part.values = [value for value in part.values if value not in part.latest]
    part.latest, part.count = [], set()
    index = len(parts) - 1
    while index > 0 and parts[index].joined:
        index -= 1
    parts.insert(index, compound)


def _bound(words: list[str], position: int) -> tuple[int, str, int] | None:
    for table, side in ((AT_MOST, "most"), (AT_LEAST, "least")):
        for key, change in table.items():
            end = position + len(key)
            counts = end < len(words) and (words[end] in NUMBERS or words[end].isdigit())
            if counts and tuple(words[position:end]) == key:
                return len(key), side, change
    return None


def _limited(interval: Interval, limit: tuple[str, int] | None) -> Interval:
    if limit is None:
        return interval
    side, change = limit
    return (interval[0] + change, INFINITY) if side == "least" else (0, interval[1] + change)


_SHADES = frozenset({"dark", "deep", "light", "pale", "bright", "vivid", "murky"})


def _inner(found: list[str], values: list[tuple[str, str]], lexicon: Lexicon) -> list[tuple[str, str]]:
    """Values of a phrase and of the words in it: "dome shape" is also a shape. The phrase's own go first."""
    given = list(values)
    for start in range(len(found) if len(found) > 1 else 0):
        length, inner, _ = lexicon.match(found[: -1 if start == 0 else None], start)
        taken = {dimension for dimension, _ in given}
        if length:
            given += [pair for pair in inner if pair[0] not in taken and pair[0] != "tone"]
    return given


def _add_match(
    part: _Part, found: list[str], values: list[tuple[str, str]], rest: list[str], neutral: bool
) -> None:
    if found == ["light"] and (not rest or rest[0] in LANDMARK | CUTTING):
        part.nouns.append("light")  # a lamp, not a shade
        part.words.append("light")
        return
    if neutral:
        if tuple(found) not in _IGNORED_STEMS:
            part.nouns.append(JOINED.get(tuple(found), found[-1]))
            part.named.append(part.nouns[-1])
            part.words += found
        return
    # "dark blue": the shade belongs to the color after it.
    color = next((value for dimension, value in values if dimension == "colour"), None)
    if color is not None and part.words and part.words[-1] in _SHADES:
        tones = [pair for pair in part.values if pair[0] == "tone"]
        if tones:
            part.values = [pair for pair in part.values if pair[0] not in ("tone", "depth")]
            part.values.append((f"shade of {color}", tones[-1][1]))
            values = [pair for pair in values if pair[0] != "tone"]
    part.values += values
    part.latest = values
    if found[0] in NEGATING or found[-1] in NEGATING:
        part.lacks += [word for word in found[-1:] if word not in NEGATING]  # "without leaves" has no leaves
        part.words.append(found[0])
        return
    part.words += found
    part.named += found if len(found) == 1 else []
    part.mark = MARKS.get(found[-1], "")
    last, dimensions = found[-1], {dimension for dimension, _ in values}
    if len(found) == 1:
        is_noun = last in COVERS or (last in THINGS and dimensions <= _PLACE_OR_KIND)
    else:
        is_noun = last in HEAD_ALIASES and last not in MARKS and found[0] not in LANDMARK
    if is_noun:
        part.nouns.append(last)


# Words that say where something is, or what, and are things with looks of their own: "straight roads".
_PLACE_OR_KIND = {"locale", "kind", "support"}
# "cut into square shapes", "in many colors"
_FORMS = (["shape"], ["form"], ["colour"], ["pattern"])
# Where a part of a thing sits.
_SEATS = {"side", "front", "level", "layer"}

_IGNORED_STEMS = {tuple(tokens_of(word)) for word in IGNORED.split("|")}


def _take_back(part: _Part) -> None:
    """Turns the last noun or value of a part into something that is missing."""
    if part.nouns:
        word = part.nouns.pop()
        part.lacks.append(word)
    else:
        word = part.words[-1]
        part.lacks.append(word)
        part.values.clear()
    part.words = [other for other in part.words if other != word]


def _add_word(parts: list[_Part], word: str) -> None:
    part = parts[-1]
    if word in NEGATING:
        parts.append(_Part(negated=True, landmark=False, main=part.main, joined=False))
    elif word in JOINING or word == ",":
        parts.append(
            _Part(joined=True, landmark=part.landmark, near=part.near, negated=part.negated, main=part.main)
        )
    elif word in LANDMARK:
        negated = part.negated and not part.words
        relation = RELATIONS.get(word, "")
        parts.append(_Part(landmark=True, near=word in NEAR, main=False, negated=negated, relation=relation))
    elif word in CUTTING:
        if part.negated and not part.words:
            return  # "does not have a handle"
        if word in ("is", "are", "that", "which", "of", "it"):
            # "roof that is flat" says the same as "flat roof"; "color of wood" speaks of the thing's own.
            if word == "of" and not part.negated:
                keep = part.landmark and bool(part.nouns)
                parts.append(_Part(main=part.main and (not part.nouns or _head(part) == SELF), landmark=keep))
            part.linked = word in ("is", "are")
            return
        parts.append(_Part(main=False))
    elif word in ARTICLES or (word.endswith("ing") and word not in ING_NOUNS):
        part.words += [word] if word not in ARTICLES else []
    else:
        part.nouns.append(word)
        part.named.append(word)
        part.words.append(word)
        if word in GROUPS:
            part.count.add(GROUPS[word])


def _claim(claims: Claims, part: _Part, head: str, whole: frozenset[str], subject: str) -> None:
    """Adds what a part says to the claims of its phrase."""
    stems = {lacked for word in part.words for lacked in [LACKED.get(word) or _without(word)] if lacked}
    claims.lacks |= stems | set(part.lacks)
    if part.negated:
        target = [part.nouns[-1]] if part.nouns else part.words
        claims.lacks |= set(target)
        if not part.nouns:
            for dimension, value in part.values:
                claims.refused.setdefault((dimension, SELF), set()).add(value)
        return
    if part.relation and part.words:
        claims.relations.setdefault(part.words[-1], set()).add(part.relation)
    thing = THINGS.get(part.nouns[-1]) if part.nouns and head == SELF else None
    others = {dimension for dimension, _ in part.values} - _PLACE_OR_KIND
    for dimension, value in part.values:
        if dimension == "locale" and others and not part.landmark and thing is not None:
            continue
        if (dimension, value) == ("ends", "hanging") and head == SELF:
            continue  # "hanging ears" lie close, a hanging lamp has no such ends
        if dimension in _SEATS and part.landmark:
            claims.values.setdefault((dimension, subject), set()).add(value)
        elif dimension in whole:
            if not part.near or dimension == "nearness":
                claims.values.setdefault((dimension, SELF), set()).add(value)
        elif not (part.landmark and head == SELF) or part.nouns[-1:] in _FORMS:
            # "blue stripes": the stripes are the thing's, their colour is their own.
            owner = part.mark if part.mark and head == SELF else head
            if part.mark and dimension == "pattern":
                owner = SELF
            if head in COVERS and (dimension in SKIN_DEEP or dimension.startswith("shade")):
                owner = SELF
            claims.values.setdefault((dimension, owner), set()).add(value)
            if thing is not None and owner == SELF and dimension in LOOKS:
                claims.things.setdefault(dimension, set()).add(thing)
    if part.count and not (part.landmark and part.nouns[-1:] and part.nouns[-1] not in GROUPS):
        counted = SELF if part.nouns and part.nouns[-1] in GROUPS else head
        claims.counts.setdefault(counted, set()).update(part.count)
    if not part.landmark:
        claims.has |= {word for word in part.words if not _without(word) and word not in LACKED}
        claims.has |= {base for word in part.words for base in _bases(word)}
        claims.has |= {HELD[word] for word in part.words if word in HELD}
        if part.main:
            claims.nouns += part.named


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


def _bases(word: str) -> list[str]:
    """Nouns inside a participle or adjective: "wheeled" has wheels."""
    if word.endswith("y") and len(word) > 4:  # "thorny", "furry"
        return [word[:-1], word[:-1] + "e", word[:-2]]
    if not word.endswith("ed") or len(word) < 5:
        return []
    return [word[:-2], word[:-1]]
