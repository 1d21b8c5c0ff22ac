"""The classes of a data set and the rows of a property space: matched by name, never by position alone."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prolab_hf.files import read_lines
from prolab_hf.suggestions import did_you_mean

if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace

_SHOWN = 5
_NUMBERED = re.compile(r"([0-9]+)\s*[:;,=\t]\s*(\S.*)")


def read_class_names(path: str | Path) -> list[str]:
    """Names of a class list: one a line, in the order of the ids.

    Lines that start with `#` are comments. Lines such as `0: sky` are read as id and name, if all are of that form.

    Args:
        path: A text file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8, is empty, names a class twice or numbers them with gaps.
    """
    return class_names_from_lines(read_lines(path, what="class list"), str(path))


def class_names_from_lines(lines: Sequence[str], where: str) -> list[str]:
    """As `read_class_names`, for lines that are in memory.

    Args:
        lines: The lines.
        where: Where they come from, for messages.

    Raises:
        ValueError: As for `read_class_names`.
    """
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not names:
        raise ValueError(
            f"{where}: this class list names no class; write one name a line, in the order of the ids."
        )
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    if any(numbered):
        plain = [name for name, match in zip(names, numbered) if match is None]
        if plain:
            raise ValueError(
                f"{where}: some lines are numbered, others, such as {plain[0]!r}, are not; number all or none."
            )
        pairs = sorted((int(match[1]), match[2].strip()) for match in numbered if match is not None)
        if [number for number, _ in pairs] != list(range(len(pairs))):
            raise ValueError(
                f"{where}: the classes are numbered {', '.join(str(n) for n, _ in pairs[:12])}; ids go from 0 to "
                f"{len(pairs) - 1} without gaps. Translate other ids with a label coding (table:FILE.json)."
            )
        names = [name for _, name in pairs]
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise ValueError(
            f"{where}: the class name {odd!r} holds characters that cannot be shown; remove them."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"{where}: the class {twice!r} is listed {names.count(twice)} times; list every class once."
        )
    return names


def match_space(
    space: "PropertySpace", class_names: Sequence[str] | None, *, data: str = "set"
) -> "PropertySpace":
    """The space with exactly the classes of a data set, in the data set's order: class id = row.

    Args:
        space: Describes at least the classes of the data set.
        class_names: Names in the order of the ids (`source.class_names`); `None` where the data set names
            none, which leaves the space as it is.
        data: Name of the data set, for messages.

    Raises:
        ValueError: If a class occurs twice or is not described; the message names it and similar ones.

    Example:
        ```python
        space = match_space(PropertySpace.from_pretrained("cityscapes"), source.class_names)
        model = ProLabForSemanticSegmentation.from_backbone("convnext_tiny", space)
        ```
    """
    if class_names is None or list(class_names) == list(space.class_names):
        return space
    names = list(class_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"The data {data} lists the class {twice[0]!r} {names.count(twice[0])} times; name every class once."
        )
    unknown = [name for name in names if name not in space.class_names]
    if unknown:
        meant = did_you_mean(unknown[0], space.class_names) or "."
        if "background" in unknown:  # what `prolab import-data` calls pixels without an annotation
            meant += " Imported again with --background void, pixels without an annotation are of no class."
        raise ValueError(
            f"The data {data} has {len(unknown)} classes that the property space {space.name!r} does not "
            f"describe, such as {', '.join(map(repr, unknown[:_SHOWN]))}{meant} "
            "Add them with `prolab space add-class`, or choose the space of this data set."
        )
    return space.select_classes(names)


def require_same_classes(
    first: Sequence[str] | None, second: Sequence[str] | None, *, names: tuple[str, str]
) -> None:
    """Check that two parts of a data set (train and val) number the same classes in the same order.

    Args:
        first: Names in the order of the ids, `None` if unknown.
        second: Likewise.
        names: What the two are called, for messages.

    Raises:
        ValueError: If they differ; the message names the first difference.
    """
    if first is None or second is None or list(first) == list(second):
        return
    if len(first) != len(second):
        difference = f"{len(first)} and {len(second)} classes"
    else:
        index, (one, other) = next((i, p) for i, p in enumerate(zip(first, second)) if p[0] != p[1])
        difference = f"class {index} is {one!r} and {other!r}"
    raise ValueError(f"The classes of {names[1]} are not those of {names[0]}: {difference}.")


def renamed_classes(model_names: Sequence[str], source_names: Sequence[str] | None) -> dict[str, str]:
    """Check that the ids of a data set mean to a model what they mean to the data set.

    The model may know more classes than the data set, behind those of the data set.

    Args:
        model_names: Names in the order of the model's ids.
        source_names: Names in the order of the data set's ids; `None` if unknown.

    Returns:
        Classes that have another name in the model: name in the data set -> name in the model. A caller warns of them.

    Raises:
        ValueError: If the data set has more classes, or numbers a class differently than the model does.
    """
    if source_names is None:
        return {}
    if len(source_names) > len(model_names):
        unknown = ", ".join(sorted(set(source_names) - set(model_names))[:_SHOWN])
        raise ValueError(
            f"The data set has {len(source_names)} classes, the model {len(model_names)}; "
            f"unknown to the model are {unknown}."
        )
    renamed = {s: m for s, m in zip(source_names, model_names) if s != m}
    moved = [name for name in renamed if name in model_names]
    if moved:
        there, here = list(source_names).index(moved[0]), list(model_names).index(moved[0])
        raise ValueError(
            f"The data set and the model number their classes differently: {moved[0]!r} is number {there} in "
            f"the data set and {here} in the model. Give the data set the model's order by a label table."
        )
    return renamed
