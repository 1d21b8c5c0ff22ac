"""Which row of a property space describes each class of a trained network: by name, shown, and open to correction."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prolab_hf.suggestions import near_names

SAME, GIVEN, SPELLING, PART, LEFT_OUT = "same name", "given", "spelling", "one of its names", "left out"
_MOST_LISTED = 8


@dataclass(frozen=True)
class ClassMatch:
    """The counterpart of one class of a network.

    Attributes:
        class_name: Name in the network.
        row: Name of the row in the property space; `None` if the class is left out.
        reason: How they were matched: `"same name"`, `"given"`, `"spelling"`, `"one of its names"` or `"left out"`.
    """

    class_name: str
    row: str | None
    reason: str


def match_class_names(
    class_names: Sequence[str],
    space_names: Sequence[str],
    corrections: Sequence[str] | Mapping[str, str | None] | None = None,
    *,
    drop_unknown: bool = False,
) -> list[ClassMatch]:
    """Finds the row of every class.

    Names match if they are equal, or equal but for capitals, hyphens, underscores and spaces, or if one of the names
    in a list such as "door, double door" is. A row is given to one class only, unless a correction says otherwise:
    two classes with one row become one class.

    Args:
        class_names: Names in the order of the network's ids.
        space_names: Names of the rows.
        corrections: The row of every class, in the order of the ids; or a mapping from class to row, in which `None`
            leaves a class out.
        drop_unknown: Leave out classes without a row instead of refusing.

    Returns:
        One match per class, in the order of the ids.

    Raises:
        ValueError: A class has no row, a correction names an unknown class or row, or fewer than two rows remain.
    """
    given = _corrections(class_names, space_names, corrections)
    matches: list[ClassMatch | None] = []
    for name in class_names:
        if name in given:
            row = given[name]
            matches.append(ClassMatch(name, row, LEFT_OUT if row is None else GIVEN))
        else:
            matches.append(ClassMatch(name, name, SAME) if name in space_names else None)
    for key, reason in ((_spelling, SPELLING), (_names, PART)):
        _match_rest(class_names, space_names, matches, key, reason)
    missing = [name for name, match in zip(class_names, matches) if match is None]
    if missing and not drop_unknown:
        raise ValueError(_missing_text(missing, class_names, space_names))
    result = [match or ClassMatch(name, None, LEFT_OUT) for name, match in zip(class_names, matches)]
    rows = {match.row for match in result if match.row is not None}
    if len(rows) < 2:
        raise ValueError(
            f"{len(rows)} of the network's {len(class_names)} classes has a row in the property space; at least two "
            "different ones are needed. Choose the space that describes the network's classes, or give the rows with "
            "class_names (--class-names, --map)."
        )
    return result


def read_corrections(path: str | Path) -> list[str] | dict[str, str | None]:
    """Corrections from a text file: one row a line in the order of the ids, or lines `class = row`.

    Nothing behind the sign leaves the class out. Lines that start with `#` are comments.

    Args:
        path: A UTF-8 text file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, no text, or mixes the two forms.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The file of class names {path} does not exist.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"The file of class names {path} is no UTF-8 text: {error}.") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if not lines:
        raise ValueError(f"The file of class names {path} is empty; write one name a line.")
    pairs = ["=" in line for line in lines]
    if not any(pairs):
        return lines
    if not all(pairs):
        raise ValueError(
            f"{path}: line {lines[pairs.index(False)]!r} is not of the form class = row as others are; use one form."
        )
    return dict(map(parse_correction, lines))


def parse_correction(text: str) -> tuple[str, str | None]:
    """`class=row` as a pair; nothing behind the sign means that the class is left out.

    Args:
        text: As on the command line.

    Raises:
        ValueError: There is no sign or no class.
    """
    name, sign, row = (part.strip() for part in text.rpartition("="))
    if not sign or not name:
        raise ValueError(f"{text!r} is not CLASS=ROW (CLASS= leaves the class out).")
    return name, row or None


def _corrections(
    class_names: Sequence[str],
    space_names: Sequence[str],
    corrections: Sequence[str] | Mapping[str, str | None] | None,
) -> dict[str, str | None]:
    if corrections is None:
        return {}
    if isinstance(corrections, str):
        raise ValueError(
            f"class_names is {corrections!r}; give a list of rows or a mapping from class to row."
        )
    if not isinstance(corrections, Mapping):
        rows = list(corrections)
        if len(rows) != len(class_names):
            raise ValueError(
                f"class_names has {len(rows)} names; the network has {len(class_names)} classes, and each needs one."
            )
        corrections = dict(zip(class_names, rows))
    for name, row in corrections.items():
        if name not in class_names:
            raise ValueError(
                f"class_names names {name!r}, which is no class of the network{_meant(name, class_names)}."
            )
        if row is not None and row not in space_names:
            raise ValueError(
                f"class_names gives {name!r} the row {row!r}, which the property space does not have"
                f"{_meant(row, space_names)}."
            )
    return dict(corrections)


def _match_rest(
    class_names: Sequence[str],
    space_names: Sequence[str],
    matches: list[ClassMatch | None],
    key: Callable[[str], frozenset[str]],
    reason: str,
) -> None:
    """Matches what is left where exactly one class and one free row share a key."""
    taken = {match.row for match in matches if match is not None}
    open_classes = [index for index, match in enumerate(matches) if match is None]
    rows_of: dict[int, list[str]] = {}
    classes_of: dict[str, list[int]] = {}
    for index in open_classes:
        keys = key(class_names[index])
        found = [row for row in space_names if row not in taken and keys & key(row)]
        rows_of[index] = found
        for row in found:
            classes_of.setdefault(row, []).append(index)
    for index, found in rows_of.items():
        if len(found) == 1 and len(classes_of[found[0]]) == 1:
            matches[index] = ClassMatch(class_names[index], found[0], reason)


def _spelling(name: str) -> frozenset[str]:
    return frozenset({re.sub(r"[\s_\-]+", " ", name).strip().casefold()})


def _names(name: str) -> frozenset[str]:
    """The names in a list such as "door;double door", each in one spelling."""
    return frozenset().union(*(_spelling(part) for part in re.split(r"[,;/]", name) if part.strip()))


def _meant(name: str, known: Sequence[str]) -> str:
    close = near_names(name, known)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _missing_text(missing: Sequence[str], class_names: Sequence[str], space_names: Sequence[str]) -> str:
    listed = ", ".join(f"{name!r}{_meant(name, space_names)}" for name in missing[:_MOST_LISTED])
    more = f" and {len(missing) - _MOST_LISTED} more" if len(missing) > _MOST_LISTED else ""
    return (
        f"{len(missing)} of the network's {len(class_names)} classes have no row in the property space: "
        f"{listed}{more}. Give their rows with class_names (--map CLASS=ROW, --class-names FILE), leave them out "
        "(CLASS=, or all with drop_unknown / --drop-unknown), or add them to the space (prolab space add-class)."
    )


__all__ = ["ClassMatch", "match_class_names", "parse_correction", "read_corrections"]
