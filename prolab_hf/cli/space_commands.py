"""`prolab space`: make, look at, judge, change and compare property spaces."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prolab_hf.cli.hub_client import ask_hub_once
from prolab_hf.cli.space_io import (
    OutOption,
    OverwriteOption,
    SpaceArgument,
    claim_folder,
    load_space,
    save_space,
)
from prolab_hf.cli.space_tables import (
    print_placed,
    print_report,
    print_shared,
    show_class,
    show_overview,
    show_property,
)
from prolab_hf.files import write_json

# The commands import what they need when they run, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from prolab_hf.label_space.conflicts import ConflictRules
    from prolab_hf.label_space.text_encoder import TextEncoder

space_app = typer.Typer(
    name="space",
    help="Property spaces: build, show, check, compare, add-class, add-property, complete, import.",
    no_args_is_help=True,
)

EncoderOption = Annotated[
    str, typer.Option("--encoder", "-e", help="Text encoder: folder or Hub name of a transformers model.")
]
EncoderNameOption = Annotated[
    str | None, typer.Option(help="Name to record for the encoder; by default the model's own.")
]
PoolingOption = Annotated[
    str, typer.Option(help="mean, cls, or modules (what a sentence-transformers model brings).")
]
TaxonomyOption = Annotated[
    Path | None,
    typer.Option(help="JSON file, class name -> super-category: what similarity is judged and colored by."),
]
ConflictsOption = Annotated[
    Path | None,
    typer.Option(
        "--conflicts", help="JSON file with words of your own: dimension -> value -> list of words."
    ),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result to this JSON file.")]


@space_app.command("build")
def build(
    descriptions: Annotated[Path, typer.Argument(help="JSON file: class name -> list of descriptions.")],
    out: OutOption,
    encoder: EncoderOption,
    num_properties: Annotated[
        str,
        typer.Option(
            "--num-properties",
            "-k",
            help='"auto" (only what means the same becomes one property), a number, or "knee".',
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the clustering.")] = 0,
    algorithm: Annotated[
        str,
        typer.Option(
            help="For a number: constrained (no contradiction in a property) or kmeans (the paper's)."
        ),
    ] = "constrained",
    conflicts: ConflictsOption = None,
    allow_conflicts: Annotated[
        bool, typer.Option("--allow-conflicts", help="Meet a number that takes contradictions in a property.")
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(help="Model asked about phrases that would share a property: see --judge-endpoint."),
    ] = None,
    judge_endpoint: Annotated[
        str | None,
        typer.Option(
            help="OpenAI-compatible address of the judge; without it, a cross-encoder is loaded here."
        ),
    ] = None,
    property_names: Annotated[
        Path | None, typer.Option(help="JSON file: list of names, or default name -> name.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the space; by default the folder's.")] = None,
    pooling: PoolingOption = "mean",
    encoder_name: EncoderNameOption = None,
    author: Annotated[str | None, typer.Option(help="Who or what wrote the descriptions.")] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", help="License of the descriptions.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Build a space from class descriptions: encode, put together what means the same, mark who has what.

    Prints every phrase that shares a property with another wording, worst first.
    """
    from prolab_hf.label_space.description_files import read_descriptions, read_property_names
    from prolab_hf.label_space.property_space import PropertySpace

    claim_folder(out, overwrite)
    texts = read_descriptions(descriptions)
    names = read_property_names(property_names) if property_names else None
    rules = _rules(conflicts, judge, judge_endpoint)
    facts = {"authors": author, "license": license_name}
    space = PropertySpace.build(
        texts,
        encoder=_load_encoder(encoder, pooling, encoder_name),
        num_properties=_count(num_properties),
        seed=seed,
        algorithm=algorithm,
        conflicts=rules,
        allow_conflicts=allow_conflicts,
        property_names=names,
        name=name or out.resolve().name,
        provenance={key: value for key, value in facts.items() if value},
        show_progress=True,
    )
    print_shared(Console(), space, rules)
    save_space(space, out)


@space_app.command("show")
def show(
    space: SpaceArgument,
    class_name: Annotated[str | None, typer.Option("--class", help="Show one class in full.")] = None,
    property_name: Annotated[
        str | None, typer.Option("--property", help="Show one property in full.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for matrix.png, dendrogram.png and map.png.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write an interactive page into this one file.")
    ] = None,
    taxonomy: TaxonomyOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the tables.")] = 20,
) -> None:
    """Show a space: its classes and properties as tables, images (--figures) or a page (--html)."""
    console = Console()
    groups = _read_taxonomy(taxonomy)
    loaded = load_space(space)
    if class_name is not None:
        show_class(console, loaded, class_name)
    elif property_name is not None:
        show_property(console, loaded, property_name)
    else:
        show_overview(console, loaded, limit)
    if figures is not None:
        from prolab_hf.label_space.views.figures import save_figures

        for path in save_figures(loaded, figures, taxonomy=groups):
            console.print(f"Wrote {escape(str(path))}")
    if page is not None:
        from prolab_hf.label_space.views.page import save_page

        path = save_page(loaded, page, taxonomy=groups)
        console.print(f"Wrote {escape(str(path))}")


@space_app.command("check")
def check(
    space: SpaceArgument,
    taxonomy: TaxonomyOption = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="The space's encoder: adds stability over seeds.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random trials.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Findings to print, the most harmful first.")] = 5,
    conflicts: ConflictsOption = None,
    json_file: JsonOption = None,
) -> None:
    """Judge a space: the most harmful findings with the command that mends each, figures, closest classes.

    Ends with exit code 1 if there is an error, such as two classes with equal rows.
    """
    loaded = load_space(space)
    report = loaded.check(
        taxonomy=_read_taxonomy(taxonomy), encoder=encoder, seed=seed, conflicts=_rules(conflicts)
    )
    recorded = str(loaded.encoder.get("name") or "ENCODER")
    # A folder is recorded by its name alone, which is no Hub id.
    shown = recorded if "/" in recorded or recorded == "ENCODER" else f"PATH/TO/{recorded}"
    print_report(Console(), report, limit, space=space, encoder=shown)
    _write_json(json_file, report.to_dict())
    if not report.ok:
        raise typer.Exit(1)


@space_app.command("compare")
def compare_spaces(
    first: SpaceArgument,
    second: SpaceArgument,
    taxonomy: TaxonomyOption = None,
    json_file: JsonOption = None,
) -> None:
    """Compare two spaces: figures side by side, common classes, changed rows."""
    from prolab_hf.label_space.report.comparison import compare

    console = Console()
    result = compare(load_space(first), load_space(second), taxonomy=_read_taxonomy(taxonomy))
    table = Table("figure", escape(result.first.name or first), escape(result.second.name or second))
    for row in result.rows():
        table.add_row(*map(escape, row))
    console.print(table)
    for line in result.summary():
        console.print(escape(line))
    _write_json(json_file, result.to_dict())


@space_app.command("add-class")
def add_class(
    space: SpaceArgument,
    out: OutOption,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", "-e", help="The space's text encoder; not needed for known sentences."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new class.")] = None,
    description: Annotated[
        list[str] | None, typer.Option("--description", "-d", help="A description; repeat for more.")
    ] = None,
    descriptions: Annotated[
        Path | None, typer.Option(help="JSON file with several classes: name -> list of descriptions.")
    ] = None,
    pooling: PoolingOption = "mean",
    encoder_name: EncoderNameOption = None,
    new_properties: Annotated[
        bool,
        typer.Option(
            "--new-properties", help="Make new properties of what fits none; a model must learn them."
        ),
    ] = False,
    conflicts: ConflictsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Add classes by description to the same properties; a trained model keeps its weights.

    Says for each sentence which property it fell into and how sure that is.
    """
    from prolab_hf.label_space.description_files import read_descriptions

    texts = read_descriptions(descriptions) if descriptions else {}
    if name is not None:
        texts[name.strip()] = list(description or [])
    if not texts:
        raise ValueError("Give --name with at least one --description, or --descriptions FILE.")
    loaded = load_space(space)
    claim_folder(out, overwrite)
    loaded_encoder = _load_encoder(encoder, pooling, encoder_name) if encoder else None
    rules = _rules(conflicts)
    console = Console()
    placed = loaded.place(texts, encoder=loaded_encoder, conflicts=rules)
    print_placed(console, loaded, placed, new_properties)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the table has just said it
        grown = loaded.add_classes(
            texts, encoder=loaded_encoder, conflicts=rules, new_properties=new_properties
        )
    for class_name in texts:
        show_class(console, grown, class_name)
    save_space(grown, out)


@space_app.command("add-property")
def add_property(
    space: SpaceArgument,
    out: OutOption,
    phrase: Annotated[str, typer.Option(help="What can be seen, as in a description; the property's name.")],
    class_name: Annotated[list[str], typer.Option("--class", help="A class that shows it; repeat for more.")],
    encoder: EncoderOption,
    pooling: PoolingOption = "mean",
    encoder_name: EncoderNameOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Add a property to classes, for example to tell two of them apart; a model has to be trained with it."""
    loaded = load_space(space)
    claim_folder(out, overwrite)
    loaded_encoder = _load_encoder(encoder, pooling, encoder_name)
    save_space(loaded.add_property(phrase, class_name, encoder=loaded_encoder), out)


@space_app.command("import")
def import_original(
    source: Annotated[Path, typer.Argument(help="Embedding bank (.pth) or descriptor file (.json).")],
    out: OutOption,
    descriptors: Annotated[
        Path | None, typer.Option(help="For a bank: its descriptor file, which names the classes.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="For a descriptor file: the text encoder.")
    ] = None,
    num_properties: Annotated[
        str | None, typer.Option("--num-properties", "-k", help="For a descriptor file: how many properties.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the space; by default the folder's.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Import files of the reference implementation: an embedding bank, or descriptors to build from.

    A bank is read without running any code it may contain.
    """
    from prolab_hf.hub.original_spaces import property_space_from_original, read_original_bank
    from prolab_hf.label_space.description_files import read_descriptions

    claim_folder(out, overwrite)
    if source.suffix.lower() == ".json":
        if encoder is None or num_properties is None:
            raise ValueError("A descriptor file holds texts only: add --encoder and --num-properties.")
        # As the reference did it: plain K-Means.
        build(source, out, encoder, num_properties, algorithm="kmeans", name=name, overwrite=overwrite)
        return
    bank, labels, stored = read_original_bank(source)
    texts = read_descriptions(descriptors) if descriptors else stored
    space = property_space_from_original(bank, labels, descriptions=texts, name=name or out.resolve().name)
    save_space(space, out)


# ------------------------------------------------------------------------------------------ reading, writing


def _load_encoder(name: str, pooling: str | None, encoder_name: str | None) -> "TextEncoder":
    from prolab_hf.label_space.text_encoder import TextEncoder
    from prolab_hf.progress import without_foreign_bars

    ask_hub_once()
    with without_foreign_bars():
        return TextEncoder.load(name, pooling=pooling, name=encoder_name)


def _read_taxonomy(path: Path | None) -> dict[str, str] | None:
    from prolab_hf.label_space.description_files import read_taxonomy

    return None if path is None else read_taxonomy(path)


def _rules(
    conflicts: Path | None, judge: str | None = None, judge_endpoint: str | None = None
) -> "ConflictRules":
    from dataclasses import replace

    from prolab_hf.label_space.conflicts import ConflictRules
    from prolab_hf.label_space.phrases.judges import chat_judge, cross_encoder_judge

    rules = ConflictRules.load(conflicts)
    if judge is None:
        return rules
    if judge_endpoint is None:
        return replace(rules, judge=cross_encoder_judge(judge))
    from prolab_hf.cli.describe_command import chat_model

    chat = chat_model(judge, judge_endpoint, False, None, os.environ.get("OPENAI_API_KEY"), 60.0)
    return replace(rules, judge=chat_judge(chat))


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content, indent=1)


def _count(text: str) -> int | str:
    if text in ("auto", "knee"):
        return text
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f'--num-properties must be a number, "auto" or "knee", got {text!r}.') from error
