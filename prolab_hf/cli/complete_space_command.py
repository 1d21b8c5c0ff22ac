"""`prolab space complete`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prolab_hf.cli.space_io import (
    OutOption,
    OverwriteOption,
    SpaceArgument,
    claim_folder,
    load_space,
    save_space,
)
from prolab_hf.files import read_json_object, write_json

if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace


def complete(
    space: SpaceArgument,
    out: OutOption,
    answers: Annotated[
        Path,
        typer.Option(
            help="JSON file, property name -> classes that show it; with --model it is written, and resumed from."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Language model to ask, as in `prolab describe`; else the file answers."),
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible address of the model.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Run the model here with transformers.")] = False,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the endpoint's key.")
    ] = "OPENAI_API_KEY",
    overwrite: OverwriteOption = False,
) -> None:
    """Ask every property of every class, and tick what the descriptions left out.

    Descriptions name about ten properties a class and leave gaps; a missing tick counts as "does not have it". Classes
    that are known by their words only are found better with completed rows. Nothing that a description says is taken
    away. Look through the answers before you use the space.
    """
    loaded = load_space(space)
    claim_folder(out, overwrite)
    if model is not None:
        _write_answers(loaded, answers, model, endpoint, local, os.environ.get(api_key_env))
    completed = loaded.complete(read_json_object(answers), answered_by=model)
    save_space(completed, out)
    before, after = (int(each.class_property_matrix.sum()) for each in (loaded, completed))
    Console().print(
        f"{after - before} ticks beside the {before} of the descriptions: {before / loaded.num_classes:.1f} -> "
        f"{after / loaded.num_classes:.1f} properties a class.",
        highlight=False,
    )


def _write_answers(
    space: "PropertySpace", path: Path, model: str, endpoint: str | None, local: bool, api_key: str | None
) -> None:
    from prolab_hf.cli.describe_command import chat_model
    from prolab_hf.label_space.completion import ask_properties
    from prolab_hf.label_space.description_prompt import DescriptionCache
    from prolab_hf.progress import progress

    chat = chat_model(model, endpoint, local, None, api_key, 60.0)
    console = Console(stderr=True)
    with progress(True, "asking", space.num_properties) as bar:

        def answered(name: str, problem: str | None) -> None:
            bar.advance()
            if problem:
                console.print(f"{name}: {problem}", markup=False, highlight=False, style="yellow")

        cache = DescriptionCache(path.with_name(path.name + ".cache.jsonl"))
        result = ask_properties(space, chat, cache, on_answer=answered)
    if result.failures:
        raise RuntimeError(
            f"No usable answer for {len(result.failures)} properties: {', '.join(list(result.failures)[:8])}. "
            "Run the same command again; what was answered is not asked twice."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result.descriptions, indent=1)
