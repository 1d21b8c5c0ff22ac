"""The README.md of a property space: what it is, how good it is, where it comes from."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prolab_hf.label_space.report.findings import Severity, pair_text
from prolab_hf.label_space.report.health import HealthReport, figure_rows
from prolab_hf.label_space.space_files import write_text

if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace

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

Number of classes that have each property, most shared first.

| property | classes | for example |
|---|---|---|
{property_lines}

## Limits

Descriptions say what a class usually looks like; single objects differ. A score of a property is not
calibrated: the training loss compares directions, not probabilities. Properties follow the vector space of
one text encoder, which may put words together that a person would keep apart; new classes must be described
with the same encoder.
"""


def escaped(text: str) -> str:
    """Text that means nothing to Markdown or HTML, on one line.

    Args:
        text: Any text, for example a class name from a stranger.
    """
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]#!|~$])", r"\\\1", plain)


def space_card(space: "PropertySpace", report: HealthReport | None = None) -> str:
    """Text of the card.

    Args:
        space: The space.
        report: Its health report; made here if absent (without taxonomy and seeds).
    """
    report = report or space.check()
    licence = str(space.provenance.get("license", space.provenance.get("licence", "")))
    # Only plain identifiers reach the YAML header.
    license_line = f"license: {licence.lower()}\n" if re.fullmatch(r"[A-Za-z0-9.\-]+", licence) else ""
    shown = [finding for finding in report.findings if finding.severity != Severity.INFO]
    lines = [f"- **{f.severity.value}**: {escaped(f.message)} {escaped(f.advice)}" for f in shown[:30]]
    notes = len(report.findings) - len(shown)
    return _TEMPLATE.format(
        marker=MARKER,
        license_line=license_line,
        title=escaped(space.name or "Property space"),
        load_name=json.dumps(space.name or "path/to/this/folder", ensure_ascii=False).replace("`", "'"),
        num_classes=space.num_classes,
        num_properties=space.num_properties,
        embedding_dim=space.embedding_dim,
        fingerprint=space.fingerprint,
        figure_lines=_table((label, escaped(value)) for label, value in figure_rows(report.figures)),
        pair_lines="\n".join(f"- {escaped(pair_text(pair))}" for pair in report.closest_pairs[:5]) or "None.",
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
        property_lines=_table(_property_rows(space)),
    )


def _table(rows: Any) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _facts(facts: dict[str, Any]) -> str:
    return (
        "; ".join(
            f"{escaped(key)}: {escaped(str(value))}"
            for key, value in facts.items()
            if not isinstance(value, dict | list)
        )
        or "not recorded"
    )


def _property_rows(space: "PropertySpace") -> list[tuple[str, str, str]]:
    matrix = space.class_property_matrix
    order = matrix.sum(dim=0).argsort(descending=True, stable=True).tolist()
    rows = []
    for index in order:
        owners = [space.class_names[row] for row in matrix[:, index].nonzero().flatten().tolist()]
        more = ", ..." if len(owners) > 4 else ""
        example = ", ".join(escaped(name) for name in owners[:4]) + more
        rows.append((escaped(space.property_names[index]), str(len(owners)), example))
    return rows


def write_card_unless_foreign(space: "PropertySpace", path: Path, report: HealthReport | None = None) -> bool:
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
