"""Completing rows: every property of a space asked of every class.

Whoever describes a class writes down what comes to mind, about ten phrases; that a cow has a tail and a sheep has one,
too, is said for one of them and left out for the other. A missing tick then counts as "does not have it". Asking, for
each property, which of all classes show it fills these gaps. Nothing that an author wrote is taken away.

On MSRC-v2 with the properties of `coco_stuff`, completed rows find classes that are known by their words only better
(benchmarks/study/README.md, "Completed rows find more").
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from prolab_hf.label_space.description_prompt import DescriptionCache, Message, parse_reply
from prolab_hf.label_space.description_writer import (
    ChatModel,
    DescribeResult,
    DescribeSettings,
    Question,
    ask_all,
)
from prolab_hf.label_space.operations import class_indices, property_indices, refuse_new_twins
from prolab_hf.label_space.space_content import SpaceContent
from prolab_hf.suggestions import did_you_mean

Space = TypeVar("Space", bound=SpaceContent)


def complete(space: Space, answers: Mapping[str, Sequence[str]], *, answered_by: str | None = None) -> Space:
    """See `PropertySpace.complete`."""
    columns = property_indices(space, list(answers))
    matrix = space.class_property_matrix.clone()
    for column, (name, class_names) in zip(columns, answers.items()):
        if isinstance(class_names, str):
            raise ValueError(
                f"The answer for {name!r} is the string {class_names!r}; give a list of classes."
            )
        try:
            matrix[class_indices(space, list(class_names)), column] = 1
        except ValueError as error:
            raise ValueError(f"The answer for the property {name!r} cannot be used: {error}") from error
    descriptions, assignments = dict(space.descriptions), dict(space.assignments)
    added = (matrix - space.class_property_matrix) > 0
    for class_name, row in zip(space.class_names, added):
        new = row.nonzero().flatten().tolist()
        if new and class_name in assignments:
            words = [space.property_names[index] for index in new]
            descriptions[class_name] = [*descriptions[class_name], *words]
            assignments[class_name] = [*assignments[class_name], *new]
    note = f"{int(added.sum())} ticks beside the descriptions, from asking {len(columns)} properties of every class"
    completed = space.replace(
        class_property_matrix=matrix,
        descriptions=descriptions,
        assignments=assignments,
        provenance=space.provenance | {"completion": f"{note}; {answered_by}" if answered_by else note},
    )
    refuse_new_twins(space, completed, "Leave one of the two out of a property that only the other shows.")
    return completed


def ask_properties(
    space: SpaceContent,
    model: ChatModel,
    cache: DescriptionCache,
    settings: DescribeSettings | None = None,
    *,
    on_answer: Callable[[str, str | None], None] = lambda name, problem: None,
) -> DescribeResult:
    """Asks a language model, for every property of a space, which of its classes show it.

    Args:
        space: The space.
        model: Who is asked.
        cache: Where accepted answers are kept; pass the same file again to resume.
        settings: How hard to try; its rules for descriptions play no part.
        on_answer: Called with each property when it is done, and with the problem if it failed.

    Returns:
        Property name -> names of the classes that show it.

    Raises:
        ValueError: The endpoint refuses the request itself.
    """

    def question(name: str) -> Question:
        return Question(
            lambda problems: property_messages(name, space.class_names, problems),
            lambda reply: accepted_classes(reply, space.class_names),
        )

    questions = {name: question(name) for name in space.property_names}
    return ask_all(questions, model, cache, settings or DescribeSettings(), on_answer=on_answer)


def property_messages(
    property_name: str, class_names: Sequence[str], problems: Sequence[str] = ()
) -> list[Message]:
    """The chat that asks which classes show a property.

    Args:
        property_name: The property.
        class_names: All classes.
        problems: What was wrong with the last answer.
    """
    system = (
        "You annotate classes of things for a computer vision system that recognizes them in images by properties. "
        "Choose, of the classes that the user lists, all on which the property can typically be seen: in about half "
        "of the images of the class or more, or in a usual variant of it. Choose alike for classes that are alike. "
        "Leave out what is merely possible. Write one class a line, each starting with '- ', word for word as "
        "listed; if there is none, write '- none'. Write nothing else."
    )
    listed = "\n".join(class_names)
    question = f"Classes:\n{listed}\n\nProperty: {property_name}"
    if problems:
        question += f"\nYour last answer could not be used: {'; '.join(problems)}. Try again."
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def accepted_classes(reply: str, class_names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Checks which classes were chosen.

    Args:
        reply: Text of the language model.
        class_names: What it could choose from.

    Returns:
        The classes, in their order, and the problems; with problems the reply is unusable.
    """
    known = {name.casefold(): name for name in class_names}
    lines = parse_reply(reply)
    if lines == ["none"] and "none" not in known:
        return [], []
    problems = [] if lines else ["no line starts with '- '"]
    unknown = [line for line in lines if line.casefold() not in known]
    problems += [f"{line[:60]!r} is not in the list{did_you_mean(line, class_names)}" for line in unknown[:5]]
    chosen = {known[line.casefold()] for line in lines if line.casefold() in known}
    return [name for name in class_names if name in chosen], problems
