"""`prolab edit`: the words of a model changed in a script, with what each edit does."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from prolab_hf.cli.data_options import CodingOption
from prolab_hf.cli.edit_tables import add_images, open_editor, print_change, print_effect
from prolab_hf.cli.edit_words import EditWords
from prolab_hf.cli.options import (
    DeviceOption,
    require_file,
    require_model,
    require_model_place,
    require_writable,
)

if TYPE_CHECKING:
    from prolab_hf.editing.editor import SpaceEditor

EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        "-e",
        help="Text encoder of the model's space: folder or Hub name; by default the space's own, if it is here.",
    ),
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Folder of images on which the edits are shown, too.")
]
MasksOption = Annotated[
    Path | None, typer.Option("--masks", help="Folder of their masks: adds the IoU on these images.")
]
OverlaysOption = Annotated[
    Path | None, typer.Option("--overlays", help="Folder for figures of the images before and after.")
]


def edit(
    model: Annotated[
        str, typer.Argument(help="Folder or Hub id of a ProLab model with its image processor.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the edited model.")] = None,
    patch_out: Annotated[
        Path | None, typer.Option("--patch-out", help="JSON file for the edits, to be reviewed and applied.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what the edits would do; write nothing.")
    ] = False,
    patch: Annotated[
        Path | None, typer.Option("--apply", metavar="FILE", help="Make the edits of a patch first.")
    ] = None,
    partly: Annotated[
        bool, typer.Option("--partly", help="With --apply: make the edits that fit, also for other words.")
    ] = False,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", metavar="OLD=NEW", help="A class or property; repeat.")
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(
            "--merge", metavar="NEW=A+B", help="Classes or properties as one; A=B makes B part of A."
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="PROPERTY=PHRASE", help="Phrases (a; b) off a property."),
    ] = None,
    add_property: Annotated[
        str | None,
        typer.Option("--add-property", metavar="PHRASE", help="A property that --on classes show."),
    ] = None,
    on: Annotated[list[str] | None, typer.Option("--on", metavar="CLASS", help="A class; repeat.")] = None,
    add_class: Annotated[
        str | None,
        typer.Option("--add-class", metavar="NAME", help="A class that no image was labeled with."),
    ] = None,
    describe_class: Annotated[
        str | None, typer.Option("--describe-class", metavar="NAME", help="Describe a class anew.")
    ] = None,
    phrase: Annotated[
        list[str] | None, typer.Option("--phrase", help="What can be seen of that class; repeat.")
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="JSON file, class -> descriptions; others are added, too."
        ),
    ] = None,
    tick: Annotated[
        list[str] | None,
        typer.Option(
            "--tick", metavar="CLASS=PROPERTY", help="Give a class a property; without CLASS= the new one."
        ),
    ] = None,
    untick: Annotated[
        list[str] | None,
        typer.Option("--untick", metavar="CLASS=PROPERTY", help="Take a property from a class."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="NAME", help="A class or property; repeat.")
    ] = None,
    restrict: Annotated[
        list[str] | None, typer.Option("--restrict", metavar="CLASS", help="Keep only these classes; repeat.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Share of known pixels that each described class may take, or none."),
    ] = None,
    images: ImagesOption = None,
    masks: MasksOption = None,
    coding: CodingOption = "ids",
    overlays: OverlaysOption = None,
    encoder: EncoderOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write what every edit did to this JSON file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in --out.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Edit the words of a model: its answers are solved anew, without images and training, and measured.

    The edits are made in the order of the options below, whatever their order on the command line; for another one
    call it twice. Every edit shows what it does to the IoU of each class on the calibration sample that travels with
    the model, and which pixels it moves. Where a name is both a class and a property, write class:NAME.

    Examples:
      prolab edit runs/street --add-class rickshaw --phrase "three wheels" --phrase "canvas roof" --dry-run

      prolab edit runs/street --rename car=automobile --merge "vehicle=bus+truck" --patch-out edits.json

      prolab edit runs/other-copy --apply edits.json --out runs/edited
    """
    from prolab_hf.label_space.description_files import read_descriptions

    if words is not None:
        require_file(words, "file")
    steps = EditWords(
        rename=rename or (),
        merge=merge or (),
        split=split or (),
        add_property=add_property,
        on=on or (),
        add_class=add_class,
        describe_class=describe_class,
        phrases=phrase or (),
        described=None if words is None else read_descriptions(words),
        tick=tick or (),
        untick=untick or (),
        remove=remove or (),
        restrict=restrict or (),
        budget=budget,
    ).steps()
    if not steps and patch is None:
        raise ValueError("Name an edit, such as --add-class, --rename or --apply; see `prolab edit --help`.")
    places = _Places(out, patch_out, json_file, overlays, overwrite)
    places.check(dry_run, images, masks)
    if partly and patch is None:
        raise ValueError("--partly goes with --apply FILE.")
    require_model(model)

    console = Console()
    editor = open_editor(model, device, encoder)
    if images is not None:
        add_images(editor, images, masks, coding)
    if patch is not None:
        _apply(console, editor, patch, partly)
    several = patch is not None or len(steps) > 1
    for step in steps:
        effect = step(editor)
        print_effect(console, effect, len(editor.edits) if several else None)
    print_session(console, editor)
    places.write(console, editor, dry_run)


@dataclass(frozen=True)
class _Places:
    """Where results go."""

    out: Path | None
    patch: Path | None
    json: Path | None
    overlays: Path | None
    overwrite: bool

    def check(self, dry_run: bool, images: Path | None, masks: Path | None) -> None:
        """Refuses what would fail, or come to nothing, at the end."""
        if self.out is None and self.patch is None and not dry_run:
            raise ValueError("Where to? Give --out FOLDER, --patch-out FILE, or --dry-run to only look.")
        for option, given in (("--masks", masks), ("--overlays", self.overlays)):
            if given is not None and images is None:
                raise ValueError(f"{option} goes with --images FOLDER.")
        for place in (images, masks):
            if place is not None:
                require_file(place, "folder")
        if self.out is not None:
            require_model_place(self.out, self.overwrite)
        for path in (self.patch, self.json):
            if path is not None:
                require_writable(path)
        if self.overlays is not None and self.overlays.exists() and not self.overlays.is_dir():
            raise NotADirectoryError(f"--overlays {self.overlays} is a file; name a folder.")

    def write(self, console: Console, editor: "SpaceEditor", dry_run: bool) -> None:
        """Writes all of them; of a dry run only what shows the edits."""
        if self.overlays is not None:
            write_overlays(editor, self.overlays)
            console.print(f"Wrote overlays of {len(editor.images)} images to {escape(str(self.overlays))}")
        if self.json is not None:
            from prolab_hf.files import write_json

            effects = [effect.to_dict() for effect in editor.history]
            write_json(self.json, {"edits": effects, "overall": editor.overall_change().to_dict()})
            console.print(f"Wrote {escape(str(self.json))}")
        if dry_run:
            console.print("A dry run: no model and no patch was written.")
            return
        if self.patch is not None:
            editor.patch().save(self.patch)
            console.print(f"Wrote {len(editor.edits)} edits to {escape(str(self.patch))}")
        if self.out is not None:
            save_model(console, editor, self.out)


def save_model(console: Console, editor: "SpaceEditor", out: Path) -> None:
    """Writes the edited model and says what to do next.

    Args:
        console: Where to.
        editor: The session.
        out: The folder.
    """
    from prolab_hf.hub.model_card import write_model_card
    from prolab_hf.progress import without_foreign_bars

    with without_foreign_bars():
        editor.save_pretrained(out)
        write_model_card(out, editor.to_model())
    console.print(
        f"The edited model is in {escape(str(out))}, with a card that lists the edits. Next: prolab evaluate, "
        "prolab segment, prolab push.",
        highlight=False,
    )


def _apply(console: Console, editor: "SpaceEditor", patch: Path, partly: bool) -> None:
    from prolab_hf.editing.patch_application import apply_patch

    applied = apply_patch(editor, patch, exact=not partly)
    for number, effect in enumerate(applied.effects, start=1):
        print_effect(console, effect, number)
    for skipped, reason in applied.skipped:
        console.print(
            f"[yellow]left out[/yellow]: {escape(skipped.to_text())} {escape(reason)}", highlight=False
        )


def print_session(console: Console, editor: "SpaceEditor") -> None:
    """What all edits together did, on the calibration sample and on the session's images.

    Args:
        console: Where to.
        editor: The session.
    """
    together = ", all edits together" if len(editor.edits) > 1 else ""
    print_change(console, editor.overall_change(), f"the calibration sample{together}")
    for name in editor.images.names:
        print_change(console, editor.image_change(None, name).measured, name)


def write_overlays(editor: "SpaceEditor", folder: Path) -> None:
    """Two overlays of every image, `NAME_before.png` and `NAME_after.png`, in which a class keeps its color.

    And a figure, `NAME_change.png`, with the pixels that changed and the IoU of the classes on the calibration sample.

    Args:
        editor: The session.
        folder: Where to.
    """
    import torch

    from prolab_hf.evaluation.segment_files import shown, write_image
    from prolab_hf.explanation.figures import before_after_figure
    from prolab_hf.explanation.overlays import overlay

    measured = editor.overall_change().classes
    old, new = editor.base_space.class_names, editor.space.class_names
    names, ids = list(old), []
    for name in new:  # what goes on with an old class takes its color, new classes get further ones
        formerly = [before for before, after in editor.successors.items() if after == name]
        if formerly:
            ids.append(old.index(formerly[0]))
            names[ids[-1]] = name
        else:
            ids.append(len(names))
            names.append(name)
    for image in editor.images:
        change = editor.image_change(None, image.name)
        drawn = shown(image.image, getattr(editor.processor, "value_range", None))
        after = torch.tensor(ids)[change.after.labels]
        for text, labels, shown_names in (("before", change.before.labels, old), ("after", after, names)):
            target = folder / f"{image.name}_{text}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, overlay(drawn, labels, shown_names))
        figure = before_after_figure(
            drawn,
            change.before.labels,
            change.after.labels,
            new,
            class_names_before=old,
            iou_before={each.name: each.before for each in measured} if measured else None,
            iou_after={each.name: each.after for each in measured} if measured else None,
            successors=editor.successors,
        )
        figure.savefig(folder / f"{image.name}_change.png", dpi=150)
