"""What a misspelt name was probably meant to be."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """A half-sentence for an error message: `"; did you mean 'road'?"`, or nothing where no name is near.

    Args:
        name: What was given.
        known: What is allowed.
        cutoff: How near a name must be, from 0 (anything) to 1 (equal).
    """
    names = list(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(names)}
    near = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=cutoff)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""
