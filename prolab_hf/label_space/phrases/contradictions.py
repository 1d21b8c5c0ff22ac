"""What contradicts what among phrases taken apart: pair by pair with the reason, or all of N phrases at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from prolab_hf.label_space.phrases.fragments import SELF, bases, canonical
from prolab_hf.label_space.phrases.lexicon import implied_values
from prolab_hf.label_space.phrases.parsing import Claims
from prolab_hf.label_space.phrases.siblings import predicates_differ, siblings_differ
from prolab_hf.label_space.phrases.word_lists.dimensions import TOGETHER
from prolab_hf.label_space.phrases.word_lists.function_words import EXCLUDED_RELATIONS, INFINITY, Interval
from prolab_hf.label_space.phrases.word_lists.nouns import PART_LIKE, SEATS, THINGS
from prolab_hf.label_space.phrases.word_lists.opposites import CONTRASTING
from prolab_hf.label_space.phrases.word_lists.parts import ALTERNATIVES, PART_OF, PARTS

# Where a part sits says nothing of its looks.
_SEATS = SEATS | {"part of body worn"}
# What a body may be of; a material in a noun's place ("thin paper") is none.
_BODILY = (frozenset(THINGS.values()) | {"body"}) - PART_LIKE
Statement = frozenset[object]
Differ = Callable[[Statement, Statement], bool]
Said = dict[Statement, list[int]]


@dataclass(frozen=True)
class Conflict:
    """Why two phrases may not share a property.

    Args:
        dimension: What they differ in, for example `"colour"`.
        first: Value of the first phrase.
        second: Value of the second.
    """

    dimension: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.dimension}: {self.first} / {self.second}"


@dataclass(frozen=True)
class _Thing:
    """The kind of thing that a value belongs to, beside the values in a statement."""

    name: str


def contradiction(one: Claims, two: Claims) -> Conflict | None:
    """The first contradiction between two phrases, or None.

    Args:
        one: What a phrase says.
        two: What another says.
    """
    return (
        _value_conflict(one, two)
        or _refusal_conflict(one, two)
        or _count_conflict(one, two)
        or _lack_conflict(one, two)
        or _relation_conflict(one, two)
        or _part_conflict(one, two)
        or _sibling_conflict(one, two)
    )


def statements(every: Sequence[Claims], whatever_noun: bool = False) -> list[tuple[Said, Differ]]:
    """For each thing that is spoken of: what is said about it, by which phrases, and when that differs.

    Args:
        every: What N phrases say.
        whatever_noun: Whether values count as one noun's, and parts as different whatever is said of them.
    """
    found: dict[tuple[str, object], Said] = {}

    def add(kind: str, about: object, statement: Statement, index: int) -> None:
        found.setdefault((kind, about), {}).setdefault(statement, []).append(index)

    for index, claims in enumerate(every):
        if whatever_noun:
            dimensions: dict[str, set[object]] = {}
            for (dimension, _), values in claims.values.items():
                if dimension not in CONTRASTING:
                    dimensions.setdefault(dimension, set()).update(values)
            for dimension, given in dimensions.items():
                add("value", (dimension, ""), frozenset(given), index)
        for key in claims.values:
            add("value", key, _statement(claims, key), index)
        for noun, counts in claims.counts.items():
            add("count", noun, frozenset(counts), index)
        for landmark, relations in claims.relations.items():
            add("relation", landmark, frozenset(relations), index)
        for sort, names in claims.siblings.items():
            add("sibling", sort, frozenset(names), index)
        parts = frozenset(_parts(claims))
        if parts:
            add("any part" if whatever_noun else "part", "", parts | {_bare(claims)}, index)
    differ: dict[str, Callable[[Any], Any]] = {
        "value": lambda key: _exclusive(key[0]),
        "count": lambda key: _apart,
        "relation": lambda key: _lie_otherwise,
        "sibling": _sibling_rule,
        "part": lambda key: _parts_exclude,
        "any part": lambda key: _parts_differ,
    }
    return [(said, differ[kind](about)) for (kind, about), said in found.items()] + _denials(every)


def _denials(every: Sequence[Claims]) -> list[tuple[Said, Differ]]:
    """What is said to be missing or not so, against what is there."""
    found: list[tuple[Said, Differ]] = []
    for word in sorted({word for claims in every for word in claims.lacks}):
        lacking = [index for index, claims in enumerate(every) if word in claims.lacks]
        having = [index for index, claims in enumerate(every) if word in claims.has - claims.lacks]
        found.append(({frozenset(["lacks"]): lacking, frozenset(["has"]): having}, lambda mine, theirs: True))
    for key in sorted({key for claims in every for key in claims.refused}):
        saying = [index for index, claims in enumerate(every) if key in claims.values]
        for index, claims in enumerate(every):
            if key not in claims.refused:
                continue
            no = frozenset(claims.refused[key])
            others = [other for other in saying if _refused(key[0], no, frozenset(every[other].values[key]))]
            found.append(
                ({frozenset(["no"]): [index], frozenset(["yes"]): others}, lambda mine, theirs: True)
            )
    return found


def _statement(claims: Claims, key: tuple[str, str]) -> Statement:
    """The values of a key, with the things that they belong to."""
    things = claims.things.get(key[0], set()) if key[1] == SELF else set()
    return frozenset({*claims.values[key], *map(_Thing, things)})


def _exclusive(dimension: str) -> Differ:
    def differ(mine: Statement, theirs: Statement) -> bool:
        things = [{item for item in side if isinstance(item, _Thing)} for side in (mine, theirs)]
        if things[0] and things[1] and not any(_comparable(*pair) for pair in product(*things)):
            return False
        values = [[item for item in side if isinstance(item, str)] for side in (mine, theirs)]
        return not any(_compatible(dimension, *pair) for pair in product(*values))

    return differ


def _comparable(mine: _Thing, theirs: _Thing) -> bool:
    """Whether a look of one thing may exclude a look of another: of one group, or of a thing and its body."""
    names = {mine.name, theirs.name}
    return len(names) == 1 or ("body" in names and names <= _BODILY)


def _compatible(dimension: str, first: str, second: str) -> bool:
    return (
        first == second
        or second in implied_values(dimension, first)
        or first in implied_values(dimension, second)
        or frozenset((first, second)) in TOGETHER.get(dimension, ())
    )


def _apart(mine: Statement, theirs: Statement) -> bool:
    """Whether no number satisfies both."""
    numbers = [[item for item in side if isinstance(item, tuple)] for side in (mine, theirs)]
    return all(max(a[0], b[0]) > min(a[1], b[1]) for a, b in product(*numbers))


def _refused(dimension: str, no: frozenset[str], yes: frozenset[str]) -> bool:
    return bool(yes) and all(no & {value, *implied_values(dimension, value)} for value in yes)


def _lie_otherwise(mine: Statement, theirs: Statement) -> bool:
    return all(frozenset(pair) in EXCLUDED_RELATIONS for pair in product(mine, theirs))


def _parts_differ(mine: Statement, theirs: Statement) -> bool:
    """Whether no part of one is, or is inside of, a part of the other."""
    for first, second in product(_names(mine), _names(theirs)):
        if first == second or second in PARTS[first][1].split("|") or first in PARTS[second][1].split("|"):
            return False
    return True


def _parts_exclude(mine: Statement, theirs: Statement) -> bool:
    """Whether parts are named and nothing else, or nothing has both: beak and snout, hooves and paws."""
    if not _parts_differ(mine, theirs):
        return False
    if True in mine and True in theirs:
        return True
    return any(frozenset(pair) in ALTERNATIVES for pair in product(_names(mine), _names(theirs)))


def _names(statement: Statement) -> list[str]:
    return [item for item in statement if isinstance(item, str)]


def _parts(claims: Claims) -> list[str]:
    named = [word for noun in claims.nouns for word in (noun, *bases(noun)) if word in PART_OF]
    return list(dict.fromkeys(PART_OF[word] for word in named))


def _bare(claims: Claims) -> bool:
    """Whether a phrase only names its part: no number, no look."""
    looks = {dimension for dimension, noun in claims.values if noun != SELF}
    return not claims.counts and looks <= _SEATS


def _value_conflict(one: Claims, two: Claims) -> Conflict | None:
    for key in [key for key in one.values if key in two.values]:
        if _exclusive(key[0])(_statement(one, key), _statement(two, key)):
            noun = "" if key[1] == SELF else f" of {_readable(key[1], one, two)}"
            sides = [" or ".join(sorted(claims.values[key])) for claims in (one, two)]
            return Conflict(key[0] + noun, *sides)
    return None


def _readable(key: str, *sides: Claims) -> str:
    """A noun of the phrases for the form under which it is compared: "tyre" for "tyr"."""
    words = sorted({word for claims in sides for word in {*claims.nouns, *claims.has}})
    return next((word for word in words if canonical(word) == key and not word.endswith("ed")), key)


def _refusal_conflict(one: Claims, two: Claims) -> Conflict | None:
    for refusing, other, swapped in ((one, two, False), (two, one, True)):
        for key, no in refusing.refused.items():
            yes = other.values.get(key, set())
            if _refused(key[0], frozenset(no), frozenset(yes)):
                sides = f"not {' or '.join(sorted(no))}", " or ".join(sorted(yes))
                return Conflict(key[0], *(reversed(sides) if swapped else sides))
    return None


def _count_conflict(one: Claims, two: Claims) -> Conflict | None:
    for noun in [noun for noun in one.counts if noun in two.counts]:
        if _apart(frozenset(one.counts[noun]), frozenset(two.counts[noun])):
            return Conflict(
                f"number of {_readable(noun, one, two)}", _number(one.counts[noun]), _number(two.counts[noun])
            )
    return None


def _number(intervals: set[Interval]) -> str:
    return " or ".join(
        str(low) if low == high else f"{low} or more" if high == INFINITY else f"{low} to {high}"
        for low, high in sorted(intervals)
    )


def _lack_conflict(one: Claims, two: Claims) -> Conflict | None:
    for lacking, other, swapped in ((one, two, False), (two, one, True)):
        for word in sorted(lacking.lacks & (other.has - other.lacks)):
            sides = f"without {word}", f"with {word}"
            return Conflict("having", *(reversed(sides) if swapped else sides))
    return None


def _relation_conflict(one: Claims, two: Claims) -> Conflict | None:
    for landmark in sorted(one.relations.keys() & two.relations.keys()):
        sides = [frozenset(claims.relations[landmark]) for claims in (one, two)]
        if _lie_otherwise(*sides):
            return Conflict(f"place to {landmark}", *(" or ".join(sorted(side)) for side in sides))
    return None


def _part_conflict(one: Claims, two: Claims) -> Conflict | None:
    mine, theirs = _parts(one), _parts(two)
    if not mine or not theirs:
        return None
    if _parts_exclude(frozenset([*mine, _bare(one)]), frozenset([*theirs, _bare(two)])):
        return Conflict("part", " and ".join(mine), " and ".join(theirs))
    return None


def _sibling_rule(sort: str) -> Differ:
    return predicates_differ if sort.startswith("state of ") else siblings_differ


def _named(said: frozenset[str]) -> str:
    """What a phrase says, for the message: of a predicate its own words."""
    words = sorted(item[2:] for item in said if item.startswith("= "))
    return " ".join(words) if words else " or ".join(sorted(said))


def _sibling_conflict(one: Claims, two: Claims) -> Conflict | None:
    for sort in [sort for sort in one.siblings if sort in two.siblings]:
        mine, theirs = one.siblings[sort], two.siblings[sort]
        if _sibling_rule(sort)(frozenset(mine), frozenset(theirs)):
            return Conflict(sort, *(_named(side) for side in (mine, theirs)))
    return None
