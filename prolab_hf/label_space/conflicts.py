"""Which phrases contradict each other: two that give one thing different values on one dimension.

Sentence encoders put opposites and siblings next to each other ("four wheels" beside "two wheels"), so nearness
alone must not decide what becomes one property. The rules, all lexical (`phrases.word_lists`, `phrases.parsing`):

1. Values of one dimension (colour, size, shape, material, place, state, ...) exclude one another unless one
   implies the other: red/green conflict, steel/metal and "grey or brown"/brown do not.
2. Adjectives stay with their noun: "white roof" and "red walls" do not conflict; nouns for the thing itself
   ("color", "surface") count as one noun.
3. Numbers conflict at the same noun: "four wheels"/"two wheels"; a bare plural has no number.
4. Having conflicts with lacking: "has a tail" with "no tail", "tailless", "without a tail".
5. Different parts of a body or a vehicle conflict: beak/snout, wheels/legs.
6. Different sorts of one kind of thing conflict (`word_lists.sorts`): hen/goose, ring binder/notebook.
7. Two phrases of one form conflict where they fill it differently, whether or not a list knows the word: "used for
   cutting"/"used for stirring" (`phrases.slots`), "bayonet mount"/"magnet mount", "umbrella open"/"umbrella folded"
   (`phrases.siblings`).

Otherwise what the lists do not know is no conflict. Extend them with a file (`ConflictRules.extended`) or ask a model
about the pairs that would share a property (`ConflictRules.judge`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from prolab_hf.files import read_json_object
from prolab_hf.label_space.phrases.contradictions import Conflict, contradiction, statements
from prolab_hf.label_space.phrases.fragments import SELF
from prolab_hf.label_space.phrases.judges import Judge
from prolab_hf.label_space.phrases.lexicon import Lexicon, stems_of
from prolab_hf.label_space.phrases.parsing import Claims, parse
from prolab_hf.label_space.phrases.siblings import siblings_of
from prolab_hf.label_space.phrases.word_lists.dimensions import DIMENSIONS
from prolab_hf.label_space.phrases.word_lists.parts import OWNERS
from prolab_hf.label_space.phrases.wording import same_wording

WHOLE = frozenset(
    {
        "vertical place", "nearness", "indoors", "locale", "support", "surroundings", "motion", "posture",
        "season", "daytime", "crowding", "covering", "kind", "temperature", "taste", "sound", "wildness", "access",
        "foliage", "cultivation", "density", "view", "weather", "health", "life", "bloom", "waking",
        "expression", "evergreen", "drive", "edibility", "diet", "way up", "direction", "danger", "cost",
        "water kind",
        "part of body worn", "lighting", "permission", "dress", "fastening", "neckline", "garment length", "occasion",
        "habit", "feet", "burner", "engine", "readout", "load space", "top", "pulled by", "stacking",
        "habitat", "waves", "origin", "likeness", "venomous or harmless", "forward or backward",
        "fruit kind", "morning or evening", "solitary or social", "decks", "level of surface",
        "left or right corner", "facing", "lens", "tide", "manning", "angle", "domesticity",
        "gathering", "sleeve length", "heel", "activity", "voice", "frequency", "part of week",
    }
)  # fmt: skip
_INDOOR = frozenset(
    ["kitchen", "living room", "bedroom", "bathroom", "dining room", "office", "shop", "hospital", "church"]
)
_OUTDOOR = frozenset(
    ["street", "waterside", "water", "garden", "farm", "forest", "mountain", "desert", "sky", "sports field"]
)


@dataclass(frozen=True)
class ConflictRules:
    """Word lists and what a user added to them.

    Args:
        dimensions: Dimension -> value -> words.
        always: Pairs of phrases that conflict whatever their words.
        never: Pairs of phrases that do not.
        judge: Asked about differently worded pairs without a conflict that would share a property; true keeps
            them apart too.
    """

    dimensions: Mapping[str, Mapping[str, str | Sequence[str]]]
    always: frozenset[frozenset[str]] = frozenset()
    never: frozenset[frozenset[str]] = frozenset()
    judge: Judge | None = None

    @cached_property
    def _lexicon(self) -> Lexicon:
        return Lexicon(self.dimensions)

    @cached_property
    def _parsed(self) -> dict[str, Claims]:
        return {}

    @cached_property
    def _whole(self) -> frozenset[str]:
        # A user's own dimension belongs to the phrase as a whole: nobody told us its nouns.
        return WHOLE | (frozenset(self.dimensions) - frozenset(DIMENSIONS))

    def claims(self, phrase: str) -> Claims:
        """What a phrase says.

        Args:
            phrase: A description.
        """
        if phrase not in self._parsed:
            claims = parse(phrase, self._lexicon, self._whole)
            _add_indoors(claims)
            claims.siblings = siblings_of(phrase, list(stems_of(phrase)), self._lexicon)
            self._parsed[phrase] = claims
        return self._parsed[phrase]

    def conflict(self, first: str, second: str) -> Conflict | None:
        """The contradiction between two phrases, or None.

        Args:
            first: A description.
            second: Another.
        """
        pair = frozenset((same_wording(first), same_wording(second)))
        if len(pair) == 1 or pair in self.never:
            return None
        if pair in self.always:
            return Conflict("declared", first, second)
        one, two = self.claims(first), self.claims(second)
        return contradiction(one, two)

    def keeps_apart(self, first: str, second: str) -> bool:
        """Whether two phrases may not share a property: they conflict, or the judge says so.

        Args:
            first: A description.
            second: Another.
        """
        if self.conflict(first, second) is not None:
            return True
        return (
            self.judge is not None
            and same_wording(first) != same_wording(second)
            and self.judge(first, second)
        )

    def same_claims(self, first: str, second: str) -> bool:
        """Whether two phrases give the same values, numbers and lacks, whatever their other words.

        Args:
            first: A description.
            second: Another.
        """
        one, two = self.claims(first), self.claims(second)
        return (one.values, one.refused, one.counts, one.lacks) == (
            two.values,
            two.refused,
            two.counts,
            two.lacks,
        )

    def matrix(self, phrases: Sequence[str], *, whatever_noun: bool = False) -> np.ndarray:
        """Which of N phrases conflict (the judge is not asked).

        Args:
            phrases: N descriptions.
            whatever_noun: Whether values of different nouns ("yellow" against "white clouds") and words of
                different owners (a bumper against a balcony) count too: no contradictions, but no property either.

        Returns:
            `(N, N)` bool, symmetric.
        """
        table = np.zeros((len(phrases), len(phrases)), dtype=bool)
        every = [self.claims(phrase) for phrase in phrases]
        if whatever_noun:
            every += [parse(phrase, _OWNERS, frozenset(OWNERS)) for phrase in phrases]
            table = np.zeros((len(every), len(every)), dtype=bool)
        # Compared are the few different statements about one thing, not the pairs of phrases.
        for said, differ in statements(every, whatever_noun):
            kinds = list(said.items())
            for position, (mine, rows) in enumerate(kinds):
                for theirs, columns in kinds[position + 1 :]:
                    if differ(mine, theirs):
                        table[np.ix_(rows, columns)] = True
        if whatever_noun:
            count = len(phrases)
            table = table[:count, :count] | table[count:, count:]
        table |= table.T
        self._apply_declared(table, [same_wording(phrase) for phrase in phrases])
        return table

    def _apply_declared(self, table: np.ndarray, wordings: Sequence[str]) -> None:
        places: dict[str, list[int]] = {}
        for index, wording in enumerate(wordings):
            places.setdefault(wording, []).append(index)
        for pairs, value in ((self.always, True), (self.never, False)):
            for pair in pairs:
                one, two = (*pair, *pair)[:2]
                rows, columns = places.get(one, []), places.get(two, [])
                table[np.ix_(rows, columns)] = value
                table[np.ix_(columns, rows)] = value
        for rows in places.values():
            table[np.ix_(rows, rows)] = False

    def pairs(self, phrases: Sequence[str]) -> list[tuple[str, str, Conflict]]:
        """The conflicting pairs among phrases.

        Args:
            phrases: Descriptions.
        """
        found = []
        for row, first in enumerate(phrases):
            for second in phrases[row + 1 :]:
                conflict = self.conflict(first, second)
                if conflict is not None:
                    found.append((first, second, conflict))
        return found

    def extended(self, additions: Mapping[str, object], source: str = "conflicts") -> "ConflictRules":
        """The rules with a user's own words.

        Args:
            additions: Dimension -> value -> list of words; further values and words of known dimensions are
                added, new dimensions are made. The key `"always"` holds pairs of phrases that conflict,
                `"never"` pairs that do not.
            source: What to call it in messages.

        Raises:
            ValueError: It has another form.
        """
        merged: dict[str, dict[str, list[str]]] = {
            dimension: {value: _words(words) for value, words in values.items()}
            for dimension, values in self.dimensions.items()
        }
        declared: dict[str, frozenset[frozenset[str]]] = {"always": self.always, "never": self.never}
        for key, content in additions.items():
            if key in declared:
                declared[key] |= _declared_pairs(content, f"{source}: {key!r}")
                continue
            if not isinstance(content, Mapping):
                raise ValueError(
                    f"{source}: the dimension {key!r} must map values to lists of words, got {content!r}; for "
                    'example {"coating": {"glazed": ["glazed", "enamelled"], "raw": ["bare clay"]}}.'
                )
            values = merged.setdefault(key, {})
            for value, words in content.items():
                if not isinstance(words, list) or not all(
                    isinstance(word, str) and word.strip() for word in words
                ):
                    raise ValueError(f"{source}: {key!r}, {value!r} must be a list of words, got {words!r}.")
                values[value] = [*values.get(value, []), *words]
        return replace(self, dimensions=merged, always=declared["always"], never=declared["never"])

    @classmethod
    def load(
        cls, rules: "ConflictRules | Mapping[str, object] | str | os.PathLike[str] | None"
    ) -> "ConflictRules":
        """Rules of whatever the user has.

        Args:
            rules: Rules (returned as they are), None for the built-in ones, or a mapping or JSON file that
                extends them (`extended`).

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It has another form.
        """
        if isinstance(rules, ConflictRules):
            return rules
        if rules is None:
            return BUILT_IN
        if isinstance(rules, Mapping):
            return BUILT_IN.extended(rules)
        content = read_json_object(Path(rules), what="file of conflicts")
        return BUILT_IN.extended(content, str(rules))


def _words(words: str | Sequence[str]) -> list[str]:
    return words.split("|") if isinstance(words, str) else list(words)


def _declared_pairs(content: object, where: str) -> frozenset[frozenset[str]]:
    if not isinstance(content, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in content
    ):
        raise ValueError(f"{where} must be a list of pairs of phrases, got {content!r}.")
    return frozenset(frozenset(same_wording(text) for text in pair) for pair in content)


def _add_indoors(claims: Claims) -> None:
    """A room is indoors, a street outdoors."""
    places = claims.values.get(("locale", SELF), set())
    if places and ("indoors", SELF) not in claims.values:
        sides = {
            "indoors" if place in _INDOOR else "outdoors" for place in places if place in _INDOOR | _OUTDOOR
        }
        if sides and all(place in _INDOOR | _OUTDOOR for place in places):
            claims.values["indoors", SELF] = sides


_OWNERS = Lexicon(OWNERS)
BUILT_IN = ConflictRules(DIMENSIONS)
