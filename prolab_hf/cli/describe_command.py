"""`prolab describe`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from prolab_hf.files import write_json
from prolab_hf.progress import progress

if TYPE_CHECKING:
    from prolab_hf.label_space.description_writer import ChatModel, DescribeSettings
    from prolab_hf.label_space.property_space import PropertySpace


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
    in_words_of: Annotated[
        str | None,
        typer.Option(
            "--in-words-of",
            metavar="SPACE",
            help="Folder or bundled name of a property space or model: propose its own properties first, as "
            "`prolab add-class --from` takes them.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")] = False,
) -> None:
    """Have a language model describe classes; the result is what `prolab space build` reads.

    Accepted answers are cached, so the same command resumes after an interruption and never asks twice. Replies
    are checked (count, length, language, repetitions) and asked for again with the reason when they fail. Look
    through the file before you build a space from it: it is the label space of your model.

    With --in-words-of the classes are new ones for a space that exists: each is described by the properties that the
    space has, and in new words only where nothing there says it. Nothing is cached then.

    Examples:
      prolab describe classes.txt --out words.json --model NAME --endpoint http://127.0.0.1:8000/v1

      prolab describe new.txt --in-words-of runs/street --out new.json --model NAME --endpoint http://127.0.0.1:8000/v1

      prolab add-class rickshaw --model runs/street --from new.json
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
    space = None if in_words_of is None else _space_of(in_words_of)
    chat = chat_model(model, endpoint, local, gguf_file, os.environ.get(api_key_env), timeout)
    if space is not None:
        _propose(names, space, chat, settings, out)
        return
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


def _space_of(place: str) -> "PropertySpace":
    """A space, or that of a model."""
    from prolab_hf.bundled_models import resolve_model
    from prolab_hf.label_space.property_space import PropertySpace

    return PropertySpace.from_pretrained(resolve_model(place))


def _propose(
    names: list[str], space: "PropertySpace", chat: "ChatModel", settings: "DescribeSettings", out: Path
) -> None:
    """Describes new classes in the words of a space, and says which words are new to it."""
    from prolab_hf.label_space.description_writer import describe_in_vocabulary

    known = [name for name in names if name in space.class_names]
    if known:
        raise ValueError(f"The space has the class {known[0]!r} already; name new classes only.")
    console, found = Console(), {}
    for name in names:
        answer = describe_in_vocabulary(
            name, space.property_names, chat, class_names=space.class_names, settings=settings
        )
        found[name] = [*answer.properties, *answer.new]
        write_json(out, found, indent=1)  # what was answered stays if the next question fails
        told = f"{name}: {len(answer.properties)} properties of the space"
        if answer.new:
            told += f", and in new words: {'; '.join(answer.new)}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
    console.print(
        f"Wrote {out}. Look through it, then: prolab add-class NAME --model MODEL --from {out}",
        highlight=False,
        markup=False,
        soft_wrap=True,
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
