"""What `prolab edit` and `prolab add-class` print, and the session that they work in."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prolab_hf.cli.hub_client import ask_hub_once
from prolab_hf.cli.options import load_model

# Imported when a session is opened, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from prolab_hf.editing.editor import SpaceEditor
    from prolab_hf.editing.effects import EditEffect, Measured
    from prolab_hf.label_space.placement import Placement
    from prolab_hf.label_space.property_space import PropertySpace

MOST_CLASSES, MOST_MOVES = 20, 8
LEAST_CHANGE = 0.0005


def open_editor(model: str, device: str, encoder: str | None) -> "SpaceEditor":
    """An editing session on a model in a folder or on the Hub.

    Args:
        model: As for `load_model`.
        device: As for `--device`.
        encoder: Folder or Hub name of the text encoder; by default the space's own, where it is on this machine.
    """
    from prolab_hf.editing.editor import SpaceEditor
    from prolab_hf.label_space.text_encoder import TextEncoder
    from prolab_hf.progress import without_foreign_bars

    network, processor = load_model(model, device, explainable=True)
    loaded = None
    if encoder is not None:
        ask_hub_once()
        facts = network.property_space.encoder
        options = {key: facts[key] for key in ("lower_case", "normalize") if key in facts}
        with without_foreign_bars():
            loaded = TextEncoder.load(encoder, pooling=facts.get("pooling"), **options)
    return SpaceEditor(network, processor, encoder=loaded)


def add_images(editor: "SpaceEditor", images: Path, masks: Path | None, coding: str) -> None:
    """Takes the images of a folder into a session.

    Args:
        editor: The session.
        images: Folder or file.
        masks: Folder with masks of the same names.
        coding: What their values mean.

    Raises:
        FileNotFoundError: There is no image.
        ValueError: A mask does not fit.
    """
    from prolab_hf.evaluation.segment_files import find_jobs

    if masks is None:
        for job in find_jobs([images]):
            if not job.is_video:
                editor.add_image(job.path, name=str(job.name))
        return
    from prolab_hf.data.file_pairs import match_by_stem
    from prolab_hf.data.label_coding import LabelCoding
    from prolab_hf.data.sources import PairSource

    names = editor.space.class_names
    pairs = match_by_stem(images, masks)
    source = PairSource(pairs, coding=LabelCoding.parse(coding), class_names=names)
    for index, (path, _) in enumerate(pairs):
        sample = source[index]
        editor.add_image(path, name=path.stem, mask=sample.mask, ignore_index=source.ignore_index)


def print_effect(console: Console, effect: "EditEffect", number: int | None = None) -> None:
    """An edit with what it did, in a few lines.

    Args:
        console: Where to.
        effect: What it did.
        number: Its place among several; the figures of a single edit stand in the table that follows.
    """
    head = effect.edit.to_text() if number is None else f"{number}. {effect.edit.to_text()}"
    console.print(f"[bold]{escape(head)}[/bold]", highlight=False)
    if effect.placements:
        print_placements(console, effect.after.property_space, effect.placements)
    lines = [] if number is None else effect.sample.lines()
    for line in [*lines, *(claim.to_text() for claim in effect.claims), *effect.notes]:
        console.print(f"   {escape(line)}", highlight=False, soft_wrap=True)


def print_placements(console: Console, space: "PropertySpace", placements: "Sequence[Placement]") -> None:
    """Which property each sentence fell into, and how sure that is.

    Args:
        console: Where to.
        space: The space.
        placements: Where the sentences go.
    """
    table = Table("sentence", "property", "cosine", "", title="Where the sentences go")
    for item in placements:
        names = [item.property_name, *(space.property_names[index] for index in item.also)]
        target = " + ".join(names) if item.fits else f"left out (nearest: {item.property_name})"
        table.add_row(escape(item.phrase), escape(target), f"{item.cosine:.2f}", item.sureness)
    console.print(table)


def print_change(console: Console, change: "Measured", place: str) -> None:
    """The classes whose IoU changed, and where pixels went.

    Args:
        console: Where to.
        change: What was measured.
        place: What it was measured on.
    """
    changed = [each for each in change.classes if abs(each.change) >= LEAST_CHANGE or each.formerly]
    others = [
        each for each in change.classes if each.is_described or (each.before is None) != (each.after is None)
    ]
    rows = sorted(dict.fromkeys([*changed, *others]), key=lambda each: each.change)
    if rows:
        table = Table("class", "before", "after", "change", title=escape(f"IoU on {place}"))
        for each in rows[:MOST_CLASSES]:
            name = each.name + (" (described)" if each.is_described else "")
            if each.formerly:
                name += f" (was {', '.join(each.formerly)})"
            difference = f"{each.change:+.3f}" if each.before is not None and each.after is not None else ""
            table.add_row(escape(name), _number(each.before), _number(each.after), difference)
        console.print(table)
        if len(rows) > MOST_CLASSES:
            console.print(f"... and {len(rows) - MOST_CLASSES} more classes (--json).")
    if not change.num_pixels:
        return
    means = change.mean_iou
    text = "" if means is None else f"mean IoU {means[0]:.3f} -> {means[1]:.3f}; "
    text = f"{place[0].upper()}{place[1:]}: {text}{change.share_moved:.2%} of {change.num_pixels} pixels changed class"
    shown = [f"{move.source} -> {move.target} {move.share:.2%}" for move in change.moves[:MOST_MOVES]]
    console.print(
        escape(f"{text}{': ' if shown else ''}{', '.join(shown)}."), highlight=False, soft_wrap=True
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
