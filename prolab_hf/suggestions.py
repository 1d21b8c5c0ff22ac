"""What a misspelt name was probably meant to be."""

import difflib
from collections.abc import Iterable


def near_names(name: object, known: Iterable[str], *, most: int = 3, cutoff: float = 0.6) -> list[str]:
    """The allowed names that are spelled most alike, nearest first, whatever the case of their letters.

    Args:
        name: What was given.
        known: What is allowed.
        most: How many at most.
        cutoff: How near a name must be, from 0 (anything) to 1 (equal).
    """
    folded = {candidate.casefold(): candidate for candidate in reversed(list(known))}
    near = difflib.get_close_matches(str(name).casefold(), list(folded), n=most, cutoff=cutoff)
    return [folded[candidate] for candidate in near]


def did_you_mean(name: object, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """A half-sentence for an error message: `"; did you mean 'road'?"`, or nothing where no name is near.

    Args:
        name: What was given.
        known: What is allowed.
        cutoff: How near a name must be, from 0 (anything) to 1 (equal).
    """
    near = near_names(name, known, most=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""
