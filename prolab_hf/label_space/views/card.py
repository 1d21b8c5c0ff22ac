"""The README.md of a property space: what it is, how good it is, where it comes from."""

import json
import re
from pathlib import Path
from typing import Any

from prolab_hf.files import write_text
from prolab_hf.label_space.report.findings import Severity, pair_text
from prolab_hf.label_space.report.health import HealthReport, check_space, figure_rows
from prolab_hf.label_space.space_content import SpaceContent
from prolab_hf.markup import escape_markdown

# Tells our cards from READMEs that belong to somebody else (a model card in the same folder, say).
MARKER = "<!-- property space card of prolab_hf, written anew by save_pretrained -->"

_TEMPLATE = """---
library_name: prolab_hf
tags:
- property-space
- semantic-segmentation
- prolab
{license_line}---
{marker}

# {title}

A property space for semantic segmentation with [ProLab](https://arxiv.org/abs/2312.13764): {num_classes}
classes, described by {num_properties} properties that they share. Each property is a group of descriptions
with one {embedding_dim}-dimensional embedding; each class has the properties that its descriptions fell into.

```python
from prolab_hf import PropertySpace

space = PropertySpace.from_pretrained({load_name})
space.class_property_matrix  # ({num_classes}, {num_properties}) of 0 and 1
space.property_embeddings  # ({num_properties}, {embedding_dim}), unit rows
```

Fingerprint: `{fingerprint}`

## Figures

| figure | value |
|---|---|
{figure_lines}

"Bits flipped": every bit of a class's row is inverted with the given probability, and the nearest row by
cosine must still be the class. "Bits missing": every bit reads 0 with that probability. Equally near rows
share the credit.

Closest classes:

{pair_lines}

## Findings

{finding_lines}

## Where it comes from

| part | facts |
|---|---|
{source_lines}

## Properties

Number of classes that have each property, most shared first. A property is named after the phrase that most of its
classes use; a class shows its own phrase.

| property | classes | for example | other phrases |
|---|---|---|---|
{property_lines}

## Limits

Descriptions say what a class usually looks like; single objects differ. A score of a property is not
calibrated: the training loss compares directions, not probabilities. Which phrases share a property follows the
vector space of one text encoder; those that contradict each other by the word lists of prolab_hf are kept apart{kept},
others may share one that a person would keep apart. New classes must be described with the same encoder.
"""


def space_card(space: SpaceContent, report: HealthReport | None = None) -> str:
    """Text of the card.

    Args:
        space: The space.
        report: Its health report; made here if absent (without taxonomy and seeds).
    """
    report = report or check_space(space)
    # Spaces of other hands may spell the field the British way.
    license_name = str(space.provenance.get("license", space.provenance.get("licence", "")))
    # Only plain identifiers reach the YAML header.
    plain = re.fullmatch(r"[A-Za-z0-9.\-]+", license_name)
    license_line = f"license: {license_name.lower()}\n" if plain else ""
    shown = [finding for finding in report.findings if finding.severity != Severity.INFO]
    lines = [
        f"- **{f.severity.value}**: {escape_markdown(f.message)} {escape_markdown(f.advice)}"
        for f in shown[:30]
    ]
    notes = len(report.findings) - len(shown)
    return _TEMPLATE.format(
        marker=MARKER,
        license_line=license_line,
        title=escape_markdown(space.name or "Property space"),
        load_name=json.dumps(space.name or "path/to/this/folder", ensure_ascii=False).replace("`", "'"),
        num_classes=space.num_classes,
        num_properties=space.num_properties,
        embedding_dim=space.embedding_dim,
        fingerprint=space.fingerprint,
        figure_lines=_table((label, escape_markdown(value)) for label, value in figure_rows(report.figures)),
        pair_lines="\n".join(f"- {escape_markdown(pair_text(pair))}" for pair in report.closest_pairs[:5])
        or "None.",
        finding_lines="\n".join(
            [*lines, *([f"- {notes} remark{'s' if notes > 1 else ''} of severity info."] if notes else [])]
        )
        or "No error, no warning.",
        source_lines=_table(
            (label, _facts(facts))
            for label, facts in (
                ("text encoder", space.encoder),
                ("clustering", space.clustering),
                ("descriptions", space.provenance),
            )
        ),
        kept=""
        if space.clustering.get("algorithm") in ("auto", "constrained")
        else " in newer spaces, not in this one",
        property_lines=_table(_property_rows(space)),
    )


def _table(rows: Any) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _facts(facts: dict[str, Any]) -> str:
    return (
        "; ".join(
            f"{escape_markdown(key)}: {escape_markdown(str(value))}"
            for key, value in facts.items()
            if not isinstance(value, dict | list)
        )
        or "not recorded"
    )


def _property_rows(space: SpaceContent) -> list[tuple[str, str, str, str]]:
    matrix = space.class_property_matrix
    order = matrix.sum(dim=0).argsort(descending=True, stable=True).tolist()
    rows = []
    for index in order:
        owners = [space.class_names[row] for row in matrix[:, index].nonzero().flatten().tolist()]
        more = ", ..." if len(owners) > 4 else ""
        example = ", ".join(escape_markdown(name) for name in owners[:4]) + more
        name = space.property_names[index]
        others = [phrase for phrase in space.phrases_by_property.get(index, ()) if phrase != name]
        shown = "; ".join(escape_markdown(phrase) for phrase in others[:6])
        rest = f"; and {len(others) - 6} more" if len(others) > 6 else ""
        rows.append((escape_markdown(name), str(len(owners)), example, shown + rest))
    return rows


def write_card_unless_foreign(space: SpaceContent, path: Path, report: HealthReport | None = None) -> bool:
    """Writes the card, but never over a README.md that is not a property space's card.

    Args:
        space: The space.
        path: The README.md.
        report: Health report to show.

    Returns:
        Whether the card was written.
    """
    if path.exists():
        present = path.read_text(encoding="utf-8", errors="replace")
        if present.strip() and MARKER not in present:
            return False
    write_text(path, space_card(space, report))
    return True
