"""The edits of `prolab edit` as they are written on the command line: OLD=NEW, CLASS=PROPERTY, NEW=A+B."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prolab_hf.suggestions import did_you_mean

if TYPE_CHECKING:
    from prolab_hf.editing.editor import SpaceEditor
    from prolab_hf.editing.effects import EditEffect
    from prolab_hf.label_space.property_space import PropertySpace

CLASS, PROPERTY = "class", "property"

Step = Callable[["SpaceEditor"], "EditEffect"]
"""An edit that is made when those before it are done, because it may name what they made."""


@dataclass(frozen=True)
class EditWords:
    """What was written after the options of `prolab edit`.

    Attributes:
        rename: `OLD=NEW`, classes or properties.
        merge: `NEW=A+B`, classes or properties.
        split: `PROPERTY=PHRASE; PHRASE`.
        add_property: A phrase.
        on: Classes that show it.
        add_class: Name of a new class.
        describe_class: Name of a class that is described anew.
        phrases: Its sentences.
        described: Class -> sentences, from a file.
        tick: `CLASS=PROPERTY`; without `=` a property of the new class.
        untick: `CLASS=PROPERTY`.
        remove: Classes or properties.
        restrict: Classes that stay.
        budget: A share or `none`.
    """

    rename: Sequence[str] = ()
    merge: Sequence[str] = ()
    split: Sequence[str] = ()
    add_property: str | None = None
    on: Sequence[str] = ()
    add_class: str | None = None
    describe_class: str | None = None
    phrases: Sequence[str] = ()
    described: dict[str, list[str]] | None = None
    tick: Sequence[str] = ()
    untick: Sequence[str] = ()
    remove: Sequence[str] = ()
    restrict: Sequence[str] = ()
    budget: str | None = None

    def steps(self) -> list[Step]:
        """The edits in the order in which they are made.

        Raises:
            ValueError: Something is not written as it should be, or options do not go together.
        """
        self._check_together()
        budget = None if self.budget is None else _share(self.budget)
        steps: list[Step] = [_rename(*_pair(text, "--rename", "OLD=NEW")) for text in self.rename]
        steps += [_merge(*_pair(text, "--merge", "NEW=A+B")) for text in self.merge]
        steps += [_split(*_pair(text, "--split", "PROPERTY=PHRASE")) for text in self.split]
        if self.add_property is not None:
            steps.append(_add_property(self.add_property, self.on))
        steps += self._described_classes()
        own = self.add_class is not None or self.describe_class is not None
        for option, texts in (("--tick", self.tick), ("--untick", self.untick)):
            for text in texts:
                if own and option == "--tick" and "=" not in text:
                    continue  # belongs to the described class
                steps.append(_tick(*_pair(text, option, "CLASS=PROPERTY"), has=option == "--tick"))
        steps += _removals(self.remove)
        if self.restrict:
            steps.append(lambda editor: editor.restrict(list(self.restrict)))
        if self.budget is not None:
            steps.append(lambda editor: editor.set_claim_budget(budget))
        return steps

    def _check_together(self) -> None:
        if self.add_class is not None and self.describe_class is not None:
            raise ValueError("--add-class and --describe-class exclude each other; call prolab edit twice.")
        if self.phrases and self.add_class is None and self.describe_class is None:
            raise ValueError("--phrase describes a class; name it with --add-class or --describe-class.")
        if self.on and self.add_property is None:
            raise ValueError("--on names the classes of a new property; add --add-property PHRASE.")
        if self.add_property is not None and not self.on:
            raise ValueError(f"Which classes show {self.add_property!r}? Name them with --on CLASS.")

    def _described_classes(self) -> list[Step]:
        """Classes that are added or described anew, by phrases, a file or ticks."""
        name = self.add_class if self.add_class is not None else self.describe_class
        ticked = [text for text in self.tick if "=" not in text]
        if name is None:
            return [_describe(key, texts, [], None) for key, texts in (self.described or {}).items()]
        sentences = list(self.phrases)
        if self.described is not None:
            if name not in self.described:
                raise ValueError(
                    f"The file of --from does not describe {name!r}{did_you_mean(name, self.described)}"
                )
            sentences += self.described[name]
        return [_describe(name, sentences, ticked, self.add_class is not None)]


def kind_of(space: "PropertySpace", names: Sequence[str]) -> tuple[str, list[str]]:
    """Whether names mean classes or properties, and the names without a prefix `class:` or `property:`.

    Args:
        space: The space.
        names: The names, all of one kind.

    Raises:
        ValueError: They are neither, or both.
    """
    for kind in (CLASS, PROPERTY):
        prefix = f"{kind}:"
        if all(name.startswith(prefix) for name in names):
            return kind, [name.removeprefix(prefix).strip() for name in names]
    known = {CLASS: set(space.class_names), PROPERTY: set(space.property_names)}
    fits = [kind for kind, own in known.items() if all(name in own for name in names)]
    if len(fits) == 1:
        return fits[0], list(names)
    if fits:
        raise ValueError(
            f"{names[0]!r} is a class and a property; write class:{names[0]} or property:{names[0]}."
        )
    wrong = next((name for name in names if not any(name in own for own in known.values())), None)
    if wrong is None:
        raise ValueError(f"{', '.join(names)} are classes and properties; name things of one kind.")
    hint = did_you_mean(wrong, [*space.class_names, *space.property_names]).replace("; did", " Did", 1)
    raise ValueError(f"There is no class and no property {wrong!r}.{hint}")


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    left, equals, right = (part.strip() for part in text.partition("="))
    if not (left and equals and right):
        raise ValueError(f"{option} {text!r} is not of the form {form}.")
    return left, right


def _share(text: str) -> float | None:
    if text.strip().lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"--budget is {text!r}; give a share such as 0.01, or none for no offsets."
        ) from None


def _rename(old: str, new: str) -> Step:
    def step(editor: "SpaceEditor") -> "EditEffect":
        kind, (name,) = kind_of(editor.space, [old])
        return editor.rename_class(name, new) if kind == CLASS else editor.rename_property(name, new)

    return step


def _merge(new: str, parts: str) -> Step:
    names = [part.strip() for part in parts.split("+") if part.strip()]

    def step(editor: "SpaceEditor") -> "EditEffect":
        members = names
        if len(names) == 1:  # A=B: what B is becomes part of A
            members = [new, *names]
        kind, members = kind_of(editor.space, members)
        target = new.removeprefix(f"{kind}:").strip()
        if kind == CLASS:
            return editor.merge_classes(target, members)
        return editor.merge_properties(target, members)

    return step


def _split(name: str, phrases: str) -> Step:
    parts = [part.strip() for part in phrases.split(";") if part.strip()]
    return lambda editor: editor.split_property(name.removeprefix("property:"), parts)


def _add_property(phrase: str, classes: Sequence[str]) -> Step:
    return lambda editor: editor.add_property(phrase, list(classes))


def _describe(name: str, sentences: Sequence[str], ticked: Sequence[str], is_new: bool | None) -> Step:
    """Adds a class or describes it anew; `None` does what its name asks for."""

    def step(editor: "SpaceEditor") -> "EditEffect":
        adds = name not in editor.space.class_names if is_new is None else is_new
        call = editor.add_class if adds else editor.describe_class
        return call(name, list(sentences), properties=list(ticked))

    return step


def _tick(class_name: str, name: str, *, has: bool) -> Step:
    return lambda editor: editor.tick(class_name, name) if has else editor.untick(class_name, name)


def _removals(names: Sequence[str]) -> list[Step]:
    def one(name: str) -> Step:
        def step(editor: "SpaceEditor") -> "EditEffect":
            kind, (found,) = kind_of(editor.space, [name])
            return editor.remove_classes([found]) if kind == CLASS else editor.remove_properties([found])

        return step

    return [one(name) for name in names]
