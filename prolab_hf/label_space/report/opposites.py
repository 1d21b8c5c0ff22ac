"""Opposite words: sentence encoders put "small wheels" beside "large wheels", a property should not."""

import re
from collections.abc import Sequence

# Words of one side exclude words of the other side in what can be seen.
OPPOSITES: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(left.split()), frozenset(right.split()))
    for left, right in (
        ("small smaller tiny little miniature compact", "large larger big huge massive giant enormous"),
        ("short shorter low lower", "tall taller high higher towering"),
        ("short shorter", "long longer elongated"),
        ("narrow narrower slim slender thin thinner", "wide wider broad thick thicker bulky"),
        ("soft fluffy plush", "hard rigid stiff"),
        ("smooth polished", "rough coarse bumpy rugged"),
        ("dark darker black", "light lighter bright white pale"),
        ("vertical upright", "horizontal"),
        ("straight", "curved bent winding arched"),
        ("flat", "domed bulging hilly"),
        ("round rounded circular spherical", "square rectangular angular boxy"),
        ("transparent clear see-through", "opaque"),
        ("shiny glossy reflective", "matte dull"),
        ("open", "closed shut"),
        ("empty", "full filled"),
        ("wet", "dry"),
        ("indoor indoors", "outdoor outdoors"),
        ("still calm stationary", "moving flowing"),
        ("leafy", "leafless bare"),
        ("plain", "patterned striped checkered floral"),
        ("front", "rear back"),
        ("top above overhead", "bottom below underneath beneath"),
    )
)

_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def sides(text: str) -> list[int]:
    """For each entry of `OPPOSITES`: -1 left side, 1 right side, 0 neither or both.

    Args:
        text: A description.
    """
    words = set(_WORD.findall(text.lower()))
    return [bool(words & right) - bool(words & left) for left, right in OPPOSITES]


def find_opposites(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of texts that contradict each other, one pair per kind of opposition.

    Args:
        texts: The descriptions of one property.
    """
    table = [sides(text) for text in texts]
    found = []
    for entry in range(len(OPPOSITES)):
        left = [text for text, row in zip(texts, table) if row[entry] < 0]
        right = [text for text, row in zip(texts, table) if row[entry] > 0]
        if left and right:
            found.append((left[0], right[0]))
    return found
