"""`prolab describe`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prolab_hf.files import write_json
from prolab_hf.progress import progress

if TYPE_CHECKING:
    from prolab_hf.label_space.description_writer import ChatModel


def describe(
    classes: Annotated[Path, typer.Argument(help="Text file with one class a line, or JSON list of names.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON file to write: class name -> descriptions.")],
    model: Annotated[str, typer.Option(help="Name at the endpoint, or with --local a folder or Hub id.")],
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible address, such as http://127.0.0.1:8000/v1; with a key, OpenAI's own if left out."
        ),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="Run the model here with transformers.")] = False,
    gguf_file: Annotated[str | None, typer.Option(help="With --local: the GGUF file in the folder.")] = None,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the endpoint's key.")
    ] = "OPENAI_API_KEY",
    cache: Annotated[
        Path | None, typer.Option(help="Accepted answers; by default beside the output file.")
    ] = None,
    min_count: Annotated[int, typer.Option(help="Fewest descriptions of a class.")] = 8,
    max_count: Annotated[int, typer.Option(help="Most descriptions of a class.")] = 14,
    parallel: Annotated[int, typer.Option(help="Questions under way at once.")] = 4,
    attempts: Annotated[int, typer.Option(help="Tries per class.")] = 5,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for one reply.")] = 60.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
) -> None:
    """Have a language model describe classes; the result is what `prolab space build` reads.

    Accepted answers are cached, so the same command resumes after an interruption and never asks twice. Replies
    are checked (count, length, language, repetitions) and asked for again with the reason when they fail. Look
    through the file before you build a space from it: it is the label space of your model.
    """
    from prolab_hf.label_space.description_files import read_class_names
    from prolab_hf.label_space.description_prompt import DescriptionCache, DescriptionRules
    from prolab_hf.label_space.description_writer import DescribeSettings, describe_classes

    names = read_class_names(classes)
    if out.exists() and not overwrite:
        raise FileExistsError(
            f"{out} exists already; choose another --out, or pass --overwrite to replace it."
        )
    settings = DescribeSettings(
        max_attempts=attempts,
        parallel=parallel,
        rules=DescriptionRules(min_count=min_count, max_count=max_count),
    )
    chat = chat_model(model, endpoint, local, gguf_file, os.environ.get(api_key_env), timeout)
    kept = DescriptionCache(cache or out.with_name(out.name + ".cache.jsonl"))
    console = Console(stderr=True)
    with progress(True, "describing", len(names)) as bar:

        def answered(name: str, problem: str | None) -> None:
            bar.advance()
            if problem:
                console.print(f"{name}: {problem}", markup=False, highlight=False, style="yellow")

        result = describe_classes(names, chat, kept, settings, on_answer=answered)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result.descriptions, indent=1)
    Console().print(
        f"{len(result.descriptions)} of {len(names)} classes described in {out} "
        f"({result.cached} from the cache, {result.asked} questions asked).",
        highlight=False,
        markup=False,
    )
    if result.failures:
        raise RuntimeError(
            f"No usable answer for {len(result.failures)} classes: {', '.join(list(result.failures)[:8])}. "
            "Run the same command with --overwrite to ask for those again."
        )


def chat_model(
    model: str, endpoint: str | None, local: bool, gguf_file: str | None, api_key: str | None, timeout: float
) -> "ChatModel":
    """The language model behind an endpoint, or run here."""
    from prolab_hf.label_space.description_writer import EndpointModel, LocalModel

    if local and endpoint:
        raise ValueError("--local and --endpoint exclude each other; give one of them.")
    if local:
        return LocalModel(model, gguf_file=gguf_file)
    if endpoint is None and not api_key and not os.environ.get("OPENAI_BASE_URL"):
        raise ValueError("Give --endpoint with the address of a language model, or --local to run one here.")
    return EndpointModel(model, base_url=endpoint, api_key=api_key, timeout=timeout)
