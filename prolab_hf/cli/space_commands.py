"""`prolab space`: make, look at, judge and compare property spaces."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# The commands import what they need when they run, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.label_space.report.health import HealthReport

space_app = typer.Typer(
    name="space",
    help="Property spaces: build, show, check, compare, add-class, import.",
    no_args_is_help=True,
)

_COLORS = {"error": "bold red", "warning": "yellow", "info": "cyan"}

SpaceArgument = Annotated[
    str, typer.Argument(metavar="SPACE", help="Bundled name (ade20k, ...), folder, or Hub repository id.")
]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the space.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]
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
JsonOption = Annotated[Path | None, typer.Option("--json", help="Also write the result to this JSON file.")]


@space_app.command("build")
def build(
    descriptions: Annotated[Path, typer.Argument(help="JSON file: class name -> list of descriptions.")],
    out: OutOption,
    encoder: EncoderOption,
    num_properties: Annotated[
        str,
        typer.Option("--num-properties", "-k", help='How many properties, or "knee" to look for the bend.'),
    ],
    seed: Annotated[int, typer.Option(help="Seed of the clustering.")] = 0,
    algorithm: Annotated[
        str, typer.Option(help="kmeans, spherical, balanced or split_opposites.")
    ] = "kmeans",
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
    """Build a space from class descriptions: encode, cluster, mark which class uses which cluster."""
    from prolab_hf.hub.original_spaces import read_original_descriptions
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.label_space.text_encoder import TextEncoder

    _claim_folder(out, overwrite)
    texts = read_original_descriptions(descriptions)
    names = _read_json(property_names) if property_names else None
    facts = {"authors": author, "license": license_name}
    space = PropertySpace.build(
        texts,
        encoder=TextEncoder.load(encoder, pooling=pooling, name=encoder_name),
        num_properties=_count(num_properties),
        seed=seed,
        algorithm=algorithm,
        property_names=names,
        name=name or out.resolve().name,
        provenance={key: value for key, value in facts.items() if value},
        show_progress=True,
    )
    _save(space, out)


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
    loaded = _load(space)
    if class_name is not None:
        _show_class(console, loaded, class_name)
    elif property_name is not None:
        _show_property(console, loaded, property_name)
    else:
        _show_overview(console, loaded, limit)
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
    limit: Annotated[int, typer.Option(min=1, help="Findings to print.")] = 30,
    json_file: JsonOption = None,
) -> None:
    """Judge a space: figures, closest classes, findings and what to do about them.

    Ends with exit code 1 if there is an error, such as two classes with equal rows.
    """
    loaded = _load(space)
    report = loaded.check(taxonomy=_read_taxonomy(taxonomy), encoder=encoder, seed=seed)
    _print_report(Console(), report, limit)
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
    result = compare(_load(first), _load(second), taxonomy=_read_taxonomy(taxonomy))
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
    overwrite: OverwriteOption = False,
) -> None:
    """Add classes by description to the same properties; a trained model keeps its weights."""
    from prolab_hf.hub.original_spaces import read_original_descriptions
    from prolab_hf.label_space.text_encoder import TextEncoder

    texts = read_original_descriptions(descriptions) if descriptions else {}
    if name is not None:
        texts[name.strip()] = list(description or [])
    if not texts:
        raise ValueError("Give --name with at least one --description, or --descriptions FILE.")
    loaded = _load(space)
    _claim_folder(out, overwrite)
    loaded_encoder = TextEncoder.load(encoder, pooling=pooling, name=encoder_name) if encoder else None
    grown = loaded.add_classes(texts, encoder=loaded_encoder)
    console = Console()
    for class_name in texts:
        _show_class(console, grown, class_name)
    _save(grown, out)


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
    from prolab_hf.hub.original_spaces import (
        property_space_from_original,
        read_original_bank,
        read_original_descriptions,
    )

    _claim_folder(out, overwrite)
    if source.suffix.lower() == ".json":
        if encoder is None or num_properties is None:
            raise ValueError("A descriptor file holds texts only: add --encoder and --num-properties.")
        build(source, out, encoder, num_properties, name=name, overwrite=overwrite)
        return
    bank, labels, stored = read_original_bank(source)
    texts = read_original_descriptions(descriptors) if descriptors else stored
    space = property_space_from_original(bank, labels, descriptions=texts, name=name or out.resolve().name)
    _save(space, out)


# ------------------------------------------------------------------------------------------ reading, writing


def _load(name: str) -> "PropertySpace":
    from prolab_hf.label_space.property_space import PropertySpace

    return PropertySpace.from_pretrained(name)


def _claim_folder(folder: Path, overwrite: bool) -> None:
    """Refuses a folder in which something would be overwritten, before any work is done."""
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file; --out wants a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise FileExistsError(f"{folder} is not empty; choose another --out or add --overwrite.")


def _save(space: "PropertySpace", out: Path) -> None:
    space.save_pretrained(out)
    Console().print(f"Wrote {escape(repr(space))} to {escape(str(out))}")


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error}).") from error


def _read_taxonomy(path: Path | None) -> dict[str, str] | None:
    if path is None:
        return None
    content = _read_json(path)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise ValueError(f"{path}: must hold one object, class name -> super-category.")
    return content


def _write_json(path: Path | None, content: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _count(text: str) -> int | str:
    if text == "knee":
        return text
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f'--num-properties must be a number or "knee", got {text!r}.') from error


# -------------------------------------------------------------------------------------------------- printing


def _print_report(console: Console, report: "HealthReport", limit: int) -> None:
    from prolab_hf.label_space.report.findings import Severity, pair_text
    from prolab_hf.label_space.report.health import figure_rows

    table = Table("figure", "value", title=escape(f"{report.name or 'unnamed'} ({report.fingerprint[:12]})"))
    for label, value in figure_rows(report.figures):
        table.add_row(escape(label), escape(value))
    console.print(table)
    console.print("[bold]Closest classes[/bold]")
    for pair in report.closest_pairs[:5]:
        console.print(f"  {escape(pair_text(pair))}")
    counts = ", ".join(f"{len(report.by_severity(kind))} {kind.value}" for kind in Severity)
    console.print(f"[bold]Findings:[/bold] {counts}")
    for finding in report.findings[:limit]:
        color = _COLORS[finding.severity]
        console.print(
            f"  [{color}]{finding.severity.value}[/{color}] {escape(finding.message)} {escape(finding.advice)}"
        )
    if len(report.findings) > limit:
        console.print(f"  ... and {len(report.findings) - limit} more (--limit, --json).")


def _show_overview(console: Console, space: "PropertySpace", limit: int) -> None:
    console.print(escape(repr(space)))
    table = Table(
        "class", "properties", title=f"{min(limit, space.num_classes)} of {space.num_classes} classes"
    )
    for class_name, row in list(zip(space.class_names, space.class_properties))[:limit]:
        table.add_row(escape(class_name), escape(", ".join(space.property_names[index] for index in row)))
    console.print(table)
    counts = space.class_property_matrix.sum(dim=0)
    order = counts.argsort(descending=True, stable=True).tolist()[:limit]
    table = Table(
        "property", "classes", title=f"The {len(order)} most shared of {space.num_properties} properties"
    )
    for index in order:
        table.add_row(escape(space.property_names[index]), str(int(counts[index])))
    console.print(table)


def _show_class(console: Console, space: "PropertySpace", class_name: str) -> None:
    from prolab_hf.label_space.operations import class_indices

    row = class_indices(space, [class_name])[0]
    texts = space.descriptions.get(class_name, [])
    assigned = space.assignments.get(class_name, [])
    table = Table("property", "classes", "descriptions", title=escape(class_name))
    counts = space.class_property_matrix.sum(dim=0)
    for index in space.class_properties[row]:
        mine = [text for text, target in zip(texts, assigned) if target == index]
        table.add_row(escape(space.property_names[index]), str(int(counts[index])), escape("; ".join(mine)))
    console.print(table)


def _show_property(console: Console, space: "PropertySpace", property_name: str) -> None:
    from prolab_hf.label_space.operations import property_indices

    index = property_indices(space, [property_name])[0]
    table = Table("class", "descriptions", title=escape(property_name))
    for class_name, row in zip(space.class_names, space.class_properties):
        if index in row:
            pairs = zip(space.descriptions.get(class_name, []), space.assignments.get(class_name, []))
            mine = [text for text, target in pairs if target == index]
            table.add_row(escape(class_name), escape("; ".join(mine)))
    console.print(table)
