"""What a field of a recipe may hold, and groups of fields that check it."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Bound:
    """What a field may hold.

    Attributes:
        words: It in words, for messages: "a number greater than 0".
        holds: Whether a value is allowed.
    """

    words: str
    holds: Callable[[object], bool]


def _limits(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    limits = [("at least", least), ("greater than", above), ("at most", most), ("less than", below)]
    return " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)


def _is_within(
    value: Any, least: float | None, above: float | None, most: float | None, below: float | None
) -> bool:
    return (
        (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
        and (below is None or value < below)
    )


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object, smallest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= smallest


def _is_pair_of_whole(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_is_whole(item, 1) for item in value)


def bounded(default: object, words: str, holds: Callable[[object], bool]) -> Any:
    """A field that holds what a function allows; `words` say what that is."""
    return dataclasses.field(default=default, metadata={"bound": Bound(words, holds)})


def number(
    default: float | None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> Any:
    """A field that holds a finite number between bounds, which are allowed (`least`, `most`) or not."""
    return bounded(
        default,
        "a number " + _limits(least, above, most, below),
        lambda value: is_number(value) and _is_within(value, least, above, most, below),
    )


def whole(default: int | None, *, least: int) -> Any:
    """A field that holds a whole number."""
    return bounded(default, f"a whole number of at least {least}", lambda value: _is_whole(value, least))


def choice(default: str | None, *allowed: str) -> Any:
    """A field that holds one of some words."""
    return bounded(default, "one of " + ", ".join(map(repr, allowed)), lambda value: value in allowed)


def flag(default: bool) -> Any:
    """A field that is on or off."""
    return bounded(default, "true or false", lambda value: isinstance(value, bool))


def text(default: str | None) -> Any:
    """A field that holds text."""
    return bounded(default, "text", lambda value: isinstance(value, str))


def size(default: int | None) -> Any:
    """A field that holds one number of pixels, or (height, width)."""
    return bounded(
        default,
        "a whole number of pixels, or two of them (height, width)",
        lambda value: _is_whole(value, 1) or _is_pair_of_whole(value),
    )


def edges(default: tuple[int, int] | None) -> Any:
    """A field that holds (long edge, short edge) in pixels."""
    return bounded(default, "two whole numbers of pixels (long edge, short edge)", _is_pair_of_whole)


def numbers(
    default: tuple[float, ...] | None, words: str, length: int, *, above: float = -math.inf, **limits: float
) -> Any:
    """A field that holds several finite numbers; `limits` as for `number`."""
    return bounded(
        default,
        words,
        lambda value: (
            isinstance(value, tuple)
            and len(value) == length
            and all(is_number(item) and _is_within(item, None, above, None, None) for item in value)
            and all(_is_within(item, limits.get("least"), None, None, limits.get("below")) for item in value)
        ),
    )


@dataclass(frozen=True, kw_only=True)
class RecipeGroup:
    """Fields of a recipe that belong together; each is checked against its bound.

    Raises:
        ValueError: A value is outside its bound; the message names field, value and what is allowed.
    """

    group: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # what JSON makes of a tuple
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            bound: Bound = field.metadata["bound"]
            if not (value is None and field.default is None) and not bound.holds(value):
                raise ValueError(f"{self.group}.{field.name} is {value!r}; it must be {bound.words}.")
        self.check_together()

    def check_together(self) -> None:
        """Checks the fields that depend on each other."""
