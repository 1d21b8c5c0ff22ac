"""What `prolab space` prints: tables of classes, properties, findings and placed sentences."""

import shlex
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# Imported when a table is printed, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from prolab_hf.label_space.conflicts import ConflictRules
    from prolab_hf.label_space.placement import Placement
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.label_space.report.findings import Finding
    from prolab_hf.label_space.report.health import HealthReport

_COLORS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def print_report(console: Console, report: "HealthReport", limit: int, *, space: str, encoder: str) -> None:
    """The most harmful findings with their commands, the figures, the closest classes."""
    from prolab_hf.label_space.report.findings import Severity, pair_text
    from prolab_hf.label_space.report.health import figure_rows

    counts = ", ".join(f"{len(report.by_severity(kind))} {kind.value}" for kind in Severity)
    console.print(f"[bold]Findings:[/bold] {counts}")
    for finding in report.findings[:limit]:
        _print_finding(console, finding, space, encoder)
    if len(report.findings) > limit:
        console.print(f"  ... and {len(report.findings) - limit} more (--limit, --json).")
    table = Table("figure", "value", title=escape(f"{report.name or 'unnamed'} ({report.fingerprint[:12]})"))
    for label, value in figure_rows(report.figures):
        table.add_row(escape(label), escape(value))
    console.print(table)
    console.print("[bold]Closest classes[/bold]")
    for pair in report.closest_pairs[:5]:
        console.print(f"  {escape(pair_text(pair))}")


def _print_finding(console: Console, finding: "Finding", space: str, encoder: str) -> None:
    color = _COLORS[finding.severity]
    console.print(
        f"  [{color}]{finding.severity.value}[/{color}] {escape(finding.message)} {escape(finding.advice)}"
    )
    if finding.command:
        command = finding.command.replace("SPACE", shlex.quote(space), 1).replace(
            "ENCODER", shlex.quote(encoder), 1
        )
        console.print(f"    {escape(command)}", highlight=False)


def print_shared(console: Console, space: "PropertySpace", rules: "ConflictRules", limit: int = 40) -> None:
    """The phrases that share a property with another wording, worst first, and the share kept."""
    from prolab_hf.label_space.report.fidelity import UNRELATED_COSINE, fidelity_figures, shared_phrases

    shared = shared_phrases(space, rules)
    figures = fidelity_figures(space, shared)
    fell = [item for item in shared if not item.is_name]
    if fell:
        table = Table(
            "phrase",
            "fell into",
            "cosine",
            "contradicts",
            title=f"{len(fell)} phrases in a property of another wording",
        )
        for item in fell[:limit]:
            against = f"{item.against} ({item.reason})" if item.against else ""
            nearness = "" if item.cosine is None else f"{item.cosine:.2f}"
            table.add_row(escape(item.phrase), escape(item.property_name), nearness, escape(against))
        console.print(table)
    more = f" The table leaves out {len(fell) - limit}." if len(fell) > limit else ""
    strangers = sum(item.is_stranger for item in shared)
    contradicted = sum(item.against is not None for item in fell)
    console.print(
        f"{figures['phrases']} phrases in {space.num_properties} properties: {len(fell)} share one that is worded "
        f"otherwise, {contradicted} of them with a contradiction; fidelity {100 * figures['fidelity']:.1f} %.{more}"
    )
    if strangers:
        console.print(
            f"{strangers} phrase{'s' if strangers > 1 else ''} fell in with something else "
            f"(cosine below {UNRELATED_COSINE}): ask for more "
            "properties (--num-properties auto merges only what means the same), or word the same idea alike."
        )


def print_placed(
    console: Console, space: "PropertySpace", placed: "list[Placement]", new_properties: bool
) -> None:
    """Where each sentence of a new class goes, and how sure that is."""
    table = Table("class", "sentence", "property", "cosine", "", title="Where the sentences go")
    for item in placed:
        names = [item.property_name, *(space.property_names[index] for index in item.also)]
        target = " + ".join(names)
        if not item.fits:
            target = "a new property" if new_properties else f"left out (nearest: {item.property_name})"
        table.add_row(
            *map(escape, (item.class_name, item.phrase, target)), f"{item.cosine:.2f}", item.sureness
        )
    console.print(table)
    if not new_properties and any(not item.fits for item in placed):
        console.print("What is left out can become a property of its own: add --new-properties.")


def show_overview(console: Console, space: "PropertySpace", limit: int) -> None:
    """The first classes and the most shared properties of a space."""
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


def show_class(console: Console, space: "PropertySpace", class_name: str) -> None:
    """One class with its properties and its own phrases."""
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


def show_property(console: Console, space: "PropertySpace", property_name: str) -> None:
    """One property with the classes that have it and the phrases of each."""
    from prolab_hf.label_space.operations import property_indices

    index = property_indices(space, [property_name])[0]
    table = Table("class", "descriptions", title=escape(property_name))
    for class_name, row in zip(space.class_names, space.class_properties):
        if index in row:
            pairs = zip(space.descriptions.get(class_name, []), space.assignments.get(class_name, []))
            mine = [text for text, target in pairs if target == index]
            table.add_row(escape(class_name), escape("; ".join(mine)))
    console.print(table)
