"""Class names of a configuration: in the order of their ids, and what is said where they do not fit."""

from typing import Any


def ordered_names(id2label: Any, label2id: Any) -> list[str]:
    """Class names in the order of their ids, by the inverse map where there is one.

    Raises:
        ValueError: The ids are not 0, 1, 2 and so on.
    """
    try:
        pairs = (
            [(int(index), str(name)) for name, index in label2id.items()]
            if label2id
            else [(int(index), str(name)) for index, name in (id2label or {}).items()]
        )
    except (AttributeError, TypeError, ValueError) as error:
        field, value = ("label2id", label2id) if label2id else ("id2label", id2label)
        raise ValueError(f"{field} is {value!r}; it must map ids to names, or names to ids.") from error
    if sorted(index for index, _ in pairs) != list(range(len(pairs))):
        field = "label2id" if label2id else "id2label"
        raise ValueError(
            f"{field} has the ids {sorted(i for i, _ in pairs)[:10]}; they must be 0, 1, 2 and so on."
        )
    return [name for _, name in sorted(pairs)]


def listing(names: list[str], most: int = 4) -> str:
    """How many names there are, and the first of them."""
    shown = ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
    return f"{len(names)} classes ({shown})"


def refuse_other_names(field: str, value: Any, names: list[str]) -> None:
    """Names given at load must be those that the rows were made for: whether they mean the same, nobody can know."""
    if value is None:
        return
    found = ordered_names(None, value) if field == "label2id" else ordered_names(value, None)
    if found != names:
        raise ValueError(misfit(f"{field} names {listing(found)}", names))


def misfit(found: str, names: list[str]) -> str:
    """The message of an error: what was found does not fit the classes that have rows."""
    return (
        f"{found}, but class_properties has rows for {listing(names)}: a class without a row of its own would "
        "train towards nothing. Load the model with its own classes and call model.set_property_space(space) with "
        "a space of the new ones; to rename classes, set model.config.id2label after loading."
    )
