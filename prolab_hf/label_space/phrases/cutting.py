"""Cuts a phrase into fragments at prepositions, conjunctions and commas, and looks up what its words mean."""

from prolab_hf.label_space.phrases.fragments import SELF, Fragment, head_of, names_a_part
from prolab_hf.label_space.phrases.lexicon import CLOSING, Lexicon, Value, stems_of
from prolab_hf.label_space.phrases.word_lists.function_words import (
    ARTICLES,
    AT_LEAST,
    AT_MOST,
    CUTTING,
    GROUPS,
    IGNORED,
    INFINITY,
    ING_NOUNS,
    JOINED,
    JOINING,
    LANDMARK,
    NEAR,
    NEGATING,
    NUMBERS,
    RELATIONS,
    Interval,
    word_set,
)
from prolab_hf.label_space.phrases.word_lists.looks import LOOKS
from prolab_hf.label_space.phrases.word_lists.nouns import (
    COLOUR_NOUNS,
    COVERS,
    FIXED_PARTS,
    HEAD_ALIASES,
    MARKS,
    PLACE_OR_KIND,
    THINGS,
)
from prolab_hf.label_space.phrases.word_lists.opposites import OPPOSITES
from prolab_hf.label_space.phrases.word_lists.parts import PART_OF
from prolab_hf.label_space.phrases.word_lists.sorts import SORTS_OF

_ENDS = frozenset({"top", "bottom", "front", "back", "side", "rear", "background", "foreground"})
_SHADES = frozenset({"dark", "deep", "light", "pale", "bright", "vivid", "murky", "faded"})
# Dimensions whose words are nouns rather than adjectives.
_OF_NOUNS = frozenset({"writing", "locale", "support", "kind", "fastening"})
_ADJECTIVES_TOO = word_set("whole entire single individual cut set split open level solar solid flat light")
_IGNORED_STEMS = {stems_of(word) for word in IGNORED.split("|")}


def cut(words: list[str], lexicon: Lexicon) -> list[Fragment]:
    """Cuts a list of stems into fragments, with what the words of each mean.

    Args:
        words: Stems without articles.
        lexicon: Word lists.
    """
    cutter = _Cutter(words, lexicon)
    while cutter.position < len(words):
        cutter.step()
    return [part for part in cutter.parts if part.says_something]


class _Cutter:
    """Reads stems from left to right; each step takes one word or one entry of the lists."""

    def __init__(self, words: list[str], lexicon: Lexicon) -> None:
        self.words = words
        self.lexicon = lexicon
        self.parts = [Fragment()]
        self.position = 0
        self.limit: tuple[str, int] | None = None

    @property
    def last(self) -> Fragment:
        """The fragment that is being read."""
        return self.parts[-1]

    @property
    def word(self) -> str:
        """The word at the position."""
        return self.words[self.position]

    @property
    def follows(self) -> str | None:
        """The word after it."""
        return self.words[self.position + 1] if self.position + 1 < len(self.words) else None

    def step(self) -> None:
        """Takes what comes next."""
        length, values, neutral = self.lexicon.match(self.words, self.position)
        taken = self._bound() or self._before_lists(length)
        if not taken and length:
            self._entry(length, values, neutral)
            taken = length
        taken = taken or self._number() or self._unknown_word()
        if not taken:
            self._plain_word()
        self.position += taken or 1

    def _bound(self) -> int:
        """What bounds a number: "at least", "up to"."""
        for table, side in ((AT_MOST, "most"), (AT_LEAST, "least")):
            for key, change in table.items():
                end = self.position + len(key)
                counts = end < len(self.words) and (self.words[end] in NUMBERS or self.words[end].isdigit())
                if counts and tuple(self.words[self.position : end]) == key:
                    self.limit = (side, change)
                    return len(key)
        return 0

    def _before_lists(self, length: int) -> int:
        """Words that the lists know but that mean something else here."""
        word, follows = self.word, self.follows
        if length == 1 and word in ("inside", "outside") and not _ends(follows) and follows not in LANDMARK:
            self.parts.append(Fragment(landmark=True, main=False, relation=RELATIONS[word]))
            return 1
        if word in ("filled", "full") and follows in ("with", "of") and self.position + 2 < len(self.words):
            self.last.values.append(("filling", "full"))
            self.parts.append(Fragment(landmark=True, main=False, holds=True))
            return 2
        if length <= 1 and word in _ENDS and self.last.values and not self.last.landmark and _closes(follows):
            self._plain_word()  # "flat top": the top's, not the thing's
            return 1
        return 0

    def _entry(self, length: int, values: list[Value], neutral: bool) -> None:
        """An entry of the word lists."""
        end = self.position + length
        found, rest = self.words[self.position : end], self.words[end:]
        if self.word in LANDMARK:
            self._open_landmark()
        if found == ["light"] and (not rest or rest[0] in LANDMARK | CUTTING | {"to", "enough"}):
            if rest[:1] in (["to"], ["enough"]):
                self.last.values.append(("weight", "light"))  # "light to lift"
            else:
                self.last.nouns.append("light")  # a lamp, not a shade
            self.last.words.append("light")
        elif neutral:
            if tuple(found) not in _IGNORED_STEMS:
                self.last.nouns.append(JOINED.get(tuple(found), found[-1]))
                self.last.named.append(self.last.nouns[-1])
                self.last.words += [*found[:-1], self.last.nouns[-1]]
        elif len(found) == 1 and self.word in COLOUR_NOUNS and self.last.latest_colour:
            self._plain_word()  # "green olives", "red rose"
        else:
            is_noun = self._adjective_first(found) or self._ends_as_noun(found, rest)
            _add_values(self.last, found, self._with_inner(found, values), is_noun)
            self._behind_entry(found, rest, values)
        if found[-1] == "than":
            self.parts.append(Fragment(landmark=True, main=False))

    def _behind_entry(self, found: list[str], rest: list[str], values: list[Value]) -> None:
        """What an entry says by its first and last word, besides its values."""
        if len(found) > 1 and rest and found[-1] in ("to", "around"):
            self.parts.append(Fragment(landmark=True, main=False))  # "drives around the site"
        if found[-2:] == ["far", "from"]:
            self.parts.append(Fragment(landmark=True, main=False, near=True, relation="away"))
        if found[-1] == "shaped":
            self.last.values += [("likeness", value) for dimension, value in values if dimension == "shape"]
        if found[0] in LANDMARK:
            self.last.own += values
            if len(found) == 3 and found[1] in NUMBERS:  # "on four legs"
                count = Fragment(nouns=[found[2]], words=[found[2]], count={NUMBERS[found[1]]}, main=False)
                self.parts.insert(-1, count)
        elif found[0] in NUMBERS:
            self._count_in(found, rest)

    def _count_in(self, found: list[str], rest: list[str]) -> None:
        """The number that an entry opens with counts, too: "single", "two seats"."""
        part = self.last
        if len(found) == 1 and part.nouns and _closes(rest[0] if rest else None):
            return
        count = _limited(NUMBERS[found[0]], self.limit)
        self.limit = None
        if len(found) == 1:
            part.count.add(count)
        elif found[1] not in CLOSING:
            self.parts.insert(-1, Fragment(nouns=[found[1]], words=[found[1]], count={count}, main=False))

    def _adjective_first(self, found: list[str]) -> bool:
        """Whether an entry of two words is an adjective of the lists and a part: "hard seat", "painted wall"."""
        entries = self.lexicon.entries
        return (
            len(found) == 2 and found[0] not in CLOSING and (found[0],) in entries and found[1] in FIXED_PARTS
        )

    def _ends_as_noun(self, found: list[str], rest: list[str]) -> bool:
        """Whether a word that the lists know is the noun here: "black lettering", "onion rings"."""
        word = found[-1]
        latest = {dimension for dimension, _ in self.last.latest}
        if word in COLOUR_NOUNS and latest and not latest & {"tone", "colour", "depth", "vivid or faded"}:
            return True  # "whole olives", not "deep plum"
        known = word in SORTS_OF or word in THINGS or word in ING_NOUNS
        if len(found) > 1 or not known or not self.last.words or not _closes(rest[0] if rest else None):
            return False
        dimensions = {dimension for dimension, _ in self.lexicon.entries.get((word,), [])}
        if dimensions <= _OF_NOUNS | OPPOSITES.keys() and not word.endswith(("y", "ed", "al", "ic")):
            return word not in _ADJECTIVES_TOO
        return "shape" in dimensions and (word in THINGS or bool(self.last.nouns))

    def _with_inner(self, found: list[str], values: list[Value]) -> list[Value]:
        """Values of an entry and of the words in it: "dome shape" is also a shape. The entry's own go first."""
        given = list(values)
        if found[0] in NEGATING:
            return given
        for start in range(len(found) if len(found) > 1 else 0):
            length, inner, _ = self.lexicon.match(found[: -1 if start == 0 else None], start)
            taken = {dimension for dimension, _ in given}
            if length:
                given += [pair for pair in inner if pair[0] not in taken and pair[0] != "tone"]
        return given

    def _number(self) -> int:
        word, follows = self.word, self.follows
        if word in NUMBERS or word.isdigit():
            # "four or more legs", "two or fewer doors"
            behind = self.words[self.position + 1 : self.position + 3]
            if behind in (["or", "more"], ["or", "fewer"], ["or", "less"]):
                low, high = NUMBERS.get(word) or (int(word[:9]), int(word[:9]))
                self.last.count.add((low, INFINITY) if behind[1] == "more" else (0, high))
                return 3
            # Behind its noun a number counts nothing ("platform 3"), behind a verb it does ("seats one person").
            if not self.last.nouns or not _closes(follows):
                number = NUMBERS.get(word) or (int(word[:9]), int(word[:9]))
                self.last.count.add(_limited(number, self.limit))
            self.limit = None
            return 1
        if word in GROUPS and follows == "of":
            if self.last.count and GROUPS[word][0] != GROUPS[word][1]:  # "two rows of keys"
                self.parts.insert(-1, Fragment(nouns=[word], words=[word], count=self.last.count))
            self.last.count = _times(self.last.count, GROUPS[word])  # "three pairs of legs"
            return 2
        return 0

    def _unknown_word(self) -> int:
        """Words that say something by their form or their place."""
        word, follows, part = self.word, self.follows, self.last
        if word in ("inside", "outside") and _ends(follows):
            part.nouns.append(word)  # "red on the outside and white inside"
            part.words.append(word)
        elif related := self.lexicon.related(word):
            _add_values(part, [word], related)
        elif follows == "like" and word not in CLOSING | ARTICLES | {"shaped", "formed", "look", "looking"}:
            part.values.append(("likeness", word))  # "pen-like"
            part.words.append("like")
            return 2
        elif follows == "shaped" and self._is_shape_of(word):
            part.values.append(("likeness", word))  # "trumpet-shaped"
            part.words.append("shaped")
            return 2
        elif len(word) == 1 and follows == "shaped":
            part.values.append(("shape", f"letter {word}"))  # "f-shaped"
            part.words.append(word)
            return 2
        elif word in ("left", "right") and not _closes(follows) and follows != "angled":
            part.values.append(("side", word))  # "the left lung"
            part.words.append(word)
        elif word in ("up", "down", "on", "off") and part.nouns and _ends(follows):
            part.values.append(("power" if word in ("on", "off") else "raising", word))  # "headlights on"
            part.linked = True
        elif word == "free" and follows != "of" and (part.nouns or part.values):
            part.take_back()  # "cloud-free"
        elif follows is not None and names_a_part(word):
            self._compound(word)
        else:
            return 0
        return 1

    def _is_shape_of(self, word: str) -> bool:
        """Whether a word before "shaped" says which shape: "trumpet-shaped", not "crystals shaped like needles"."""
        return (
            len(word) > 1
            and word not in CLOSING | ARTICLES
            and self.words[self.position + 2 :][:1] != ["like"]
        )

    def _compound(self, word: str) -> None:
        """Gives a part its number and last value: "four-legged animal", "small black-tipped tail"."""
        part = self.last
        compound = Fragment(values=part.latest, nouns=[word], words=[word], count=part.count)
        part.values = [value for value in part.values if value not in part.latest]
        part.latest, part.count = [], set()
        index = len(self.parts) - 1
        while index > 0 and self.parts[index].joined:
            index -= 1
        self.parts.insert(index, compound)

    def _open_landmark(self) -> None:
        word, part = self.word, self.last
        negated = part.negated and not part.words  # "not in flower"
        relation = RELATIONS.get(word, "")
        # "played by hand" is not near a hand
        near = word in NEAR and not (
            word == "by" and part.words and part.words[-1].endswith(("ed", "en", "wn", "un"))
        )
        self.parts.append(Fragment(landmark=True, main=False, near=near, negated=negated, relation=relation))

    def _plain_word(self) -> None:
        word, part = self.word, self.last
        if word in NEGATING:
            self.parts.append(Fragment(negated=True, main=part.main))
        elif word == "to" and (self.follows,) not in self.lexicon.entries and not part.count:
            self._open_landmark()  # "filled to the brim"
        elif word in JOINING or word == ",":
            self.parts.append(
                Fragment(
                    joined=True, landmark=part.landmark, near=part.near, negated=part.negated, main=part.main
                )
            )
        elif word in LANDMARK:
            self._open_landmark()
        elif word in CUTTING:
            self._cutting_word(word)
        elif word in ARTICLES or (
            word.endswith("ing") and word not in ING_NOUNS and not self._described(word)
        ):
            part.words += [word] if word not in ARTICLES else []
        else:
            part.nouns.append(word)
            part.named.append(word)
            part.words.append(word)
            if word in GROUPS:
                part.count.add(GROUPS[word])

    def _described(self, word: str) -> bool:
        """Whether a word on -ing is a noun here: "blue sling", "soft filling"."""
        looks = {dimension for dimension, _ in self.last.latest} & LOOKS.keys()
        return bool(looks) and not self.last.nouns and _closes(self.follows)

    def _cutting_word(self, word: str) -> None:
        part = self.last
        if part.negated and not part.words:
            return  # "does not have a handle"
        if word not in ("is", "are", "that", "which", "of", "it"):
            self.parts.append(Fragment(main=False))
            return
        # "roof that is flat" says the same as "flat roof"; "color of wood" speaks of the thing's own.
        if word == "of" and not part.negated:
            main = part.main and (not part.nouns or head_of(part) == SELF)
            self.parts.append(Fragment(main=main, landmark=part.landmark and bool(part.nouns)))
        part.linked = word in ("is", "are")


def _add_values(part: Fragment, found: list[str], values: list[Value], ends_as_noun: bool = False) -> None:
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
        # "without leaves" and "leaf-free" have no leaves
        part.lacks += [
            word for word in (found[-2:-1] if found[-1] in NEGATING else found[-1:]) if word not in NEGATING
        ]
        part.words.append(found[0])
        return
    part.words += found
    part.named += found if len(found) == 1 else []
    part.mark = MARKS.get(found[-1], "")
    last, dimensions = found[-1], {dimension for dimension, _ in values}
    if len(found) == 1:
        is_noun = last in COVERS or (bool(dimensions) and dimensions <= PLACE_OR_KIND)
    else:
        is_noun = last in PART_OF.keys() | HEAD_ALIASES.keys() and last not in MARKS
        is_noun = is_noun or (
            bool(dimensions) and dimensions <= PLACE_OR_KIND and last not in THINGS
        )  # "car park"
        is_noun = is_noun and not any(word in LANDMARK for word in found)  # "fits in one hand"
        # "calm water", "hard seat": an adjective before a noun that says nothing alone.
        is_noun = is_noun or (len(found) == 2 and ends_as_noun)
    is_noun = is_noun or (len(found) == 1 and ends_as_noun and last not in MARKS)
    if is_noun:
        part.nouns.append(last)


def _closes(word: str | None) -> bool:
    """Whether a noun ends before a word."""
    return word is None or word in CLOSING


def _ends(word: str | None) -> bool:
    """Whether something ends before a word."""
    return word is None or word in JOINING or word == ","


def _times(counts: set[Interval], group: Interval) -> set[Interval]:
    exact = group[0] == group[1] and len(counts) == 1
    return {(low * group[0], min(high * group[0], INFINITY)) for low, high in counts} if exact else {group}


def _limited(interval: Interval, limit: tuple[str, int] | None) -> Interval:
    if limit is None:
        return interval
    side, change = limit
    return (interval[0] + change, INFINITY) if side == "least" else (0, interval[1] + change)
