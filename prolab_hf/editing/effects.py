"""What an edit did: to every class's IoU, to the pixels of the calibration sample, and to the session's images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from prolab_hf.editing.editable_model import EditableModel
from prolab_hf.editing.edits import Edit, listed
from prolab_hf.evaluation.inference import Segmentation, class_names_of
from prolab_hf.label_space.placement import Placement
from prolab_hf.model.closed_form_prolab import is_trained
from prolab_hf.solving.claim_budget import ClaimPreview

MOST_LISTED = 5
LEAST_CHANGE = 0.0005


@dataclass(frozen=True)
class ClassChange:
    """The IoU of one class before and after an edit, over the same pixels.

    Attributes:
        name: The class after the edit; before it where the edit removed it.
        before: IoU in [0, 1]; `None` where the pixels hold none of the class, or it was not there.
        after: The same after the edit.
        num_pixels: Pixels of the class.
        is_described: Whether the class is known by its description only.
        formerly: Names of the classes that it was before, where they are others.
    """

    name: str
    before: float | None
    after: float | None
    num_pixels: int
    is_described: bool = False
    formerly: tuple[str, ...] = ()

    @property
    def change(self) -> float:
        """`after - before`; 0 where one of them is unknown."""
        return 0.0 if self.before is None or self.after is None else self.after - self.before

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "num_pixels": self.num_pixels,
            "is_described": self.is_described,
            "formerly": list(self.formerly),
        }


@dataclass(frozen=True)
class PixelMove:
    """Pixels that went from one class to another.

    Attributes:
        source: Class before the edit, by the name that it has or had.
        target: Class after it.
        num_pixels: How many.
        share: Part of all pixels.
    """

    source: str
    target: str
    num_pixels: int
    share: float

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "from": self.source,
            "to": self.target,
            "num_pixels": self.num_pixels,
            "share": self.share,
        }


@dataclass(frozen=True)
class Measured:
    """An edit measured over pixels.

    Attributes:
        classes: IoU of every class before and after; new and removed ones, too.
        moves: Where pixels went, most first.
        num_pixels: Pixels that were looked at; 0 where there are none.
    """

    classes: tuple[ClassChange, ...] = ()
    moves: tuple[PixelMove, ...] = ()
    num_pixels: int = 0

    @property
    def mean_iou(self) -> tuple[float, float] | None:
        """Mean over the classes that have an IoU before and after; `None` where there are none."""
        both = [(each.before, each.after) for each in self.classes if each.before is not None]
        pairs = [(before, after) for before, after in both if before is not None and after is not None]
        if not pairs:
            return None
        return sum(first for first, _ in pairs) / len(pairs), sum(second for _, second in pairs) / len(pairs)

    @property
    def share_moved(self) -> float:
        """Part of the pixels that changed their class, in [0, 1]."""
        return sum(move.share for move in self.moves)

    def lines(self) -> list[str]:
        """What it did to IoU and where pixels went, a sentence each; nothing without pixels."""
        if not self.num_pixels:
            return []
        lines, means = [], self.mean_iou
        if means is not None:
            lines.append(
                f"Mean IoU on {self.num_pixels} calibration pixels: {means[0]:.3f} -> {means[1]:.3f}."
            )
        changed = [each for each in self.classes if abs(each.change) >= LEAST_CHANGE]
        changed.sort(key=lambda each: -abs(each.change))
        if changed:
            shown = ", ".join(
                f"{each.name} {each.before:.3f} -> {each.after:.3f}" for each in changed[:MOST_LISTED]
            )
            more = f" and {len(changed) - MOST_LISTED} more" if len(changed) > MOST_LISTED else ""
            lines.append(f"IoU of {shown}{more}.")
        if not self.moves:
            return [*lines, "No pixel of the sample changed its class."]
        shown = ", ".join(
            f"{move.source} -> {move.target} {move.share:.2%}" for move in self.moves[:MOST_LISTED]
        )
        return [*lines, f"{self.share_moved:.2%} of the pixels changed their class: {shown}."]

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        means = self.mean_iou
        return {
            "num_pixels": self.num_pixels,
            "share_moved": self.share_moved,
            "mean_iou": None if means is None else {"before": means[0], "after": means[1]},
            "classes": [each.to_dict() for each in self.classes],
            "moves": [move.to_dict() for move in self.moves],
        }


@dataclass(frozen=True)
class Pixels:
    """Pixels with the classes that they are given before and after an edit.

    Attributes:
        before: Ids `(pixels,)` of the model before.
        after: Ids of the model after.
        truth_before: Ids of their true classes in the model before, -1 where there is none.
        truth_after: The same in the model after.
    """

    before: Tensor
    after: Tensor
    truth_before: Tensor | None = None
    truth_after: Tensor | None = None


def measure(
    before: EditableModel, after: EditableModel, successors: Mapping[str, str], pixels: Pixels
) -> Measured:
    """What an edit did to pixels.

    IoU is compared over the same pixels in the same classes: those before the edit are renamed and merged as the edit
    does, and pixels whose class the edit removed count for that class only.

    Args:
        before: The model before.
        after: The model after.
        successors: Class before -> class after.
        pixels: The pixels.
    """
    old, new = class_names_of(before), class_names_of(after)
    if not len(pixels.before):
        return Measured()
    position = {name: index for index, name in enumerate(new)}
    # Classes that the edit removed get ids behind the others.
    gone = [name for name in old if successors.get(name) not in position]
    moved_to = torch.tensor(
        [
            position.get(successors.get(name, ""), len(new) + (gone.index(name) if name in gone else 0))
            for name in old
        ]
    )
    was = moved_to[pixels.before]
    names = [*new, *gone]
    moves = _moves(was, pixels.after, names)
    if pixels.truth_before is None or pixels.truth_after is None:
        return Measured((), moves, len(was))
    described = (~is_trained(after.config)).tolist()
    return Measured(
        tuple(_class_changes(was, pixels, moved_to, names, len(new), described, _former(old, successors))),
        moves,
        len(was),
    )


def _former(old: Sequence[str], successors: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name in old:
        if name in successors:
            found.setdefault(successors[name], []).append(name)
    return {name: tuple(names) for name, names in found.items()}


def _moves(was: Tensor, now: Tensor, names: Sequence[str]) -> tuple[PixelMove, ...]:
    number = len(names)
    counts = torch.bincount(was * number + now, minlength=number * number).view(number, number)
    counts.fill_diagonal_(0)
    found = counts.nonzero().tolist()
    moves = [
        PixelMove(
            names[source],
            names[target],
            int(counts[source, target]),
            float(counts[source, target]) / len(was),
        )
        for source, target in found
    ]
    return tuple(sorted(moves, key=lambda move: -move.num_pixels))


def _class_changes(
    was: Tensor,
    pixels: Pixels,
    moved_to: Tensor,
    names: Sequence[str],
    num_new: int,
    described: Sequence[bool],
    former: Mapping[str, tuple[str, ...]],
) -> list[ClassChange]:
    assert pixels.truth_before is not None and pixels.truth_after is not None  # noqa: S101
    known_before = pixels.truth_before >= 0
    truth_was = torch.where(known_before, moved_to[pixels.truth_before.clamp_min(0)], -1)
    common = pixels.truth_after >= 0
    first = _ious(was[common], torch.where(known_before, truth_was, pixels.truth_after)[common], len(names))
    second = _ious(pixels.after[common], pixels.truth_after[common], len(names))
    all_before = _ious(was[known_before], truth_was[known_before], len(names))
    changes = []
    for index, name in enumerate(names):
        formerly = former.get(name, ())
        if index >= num_new:
            changes.append(ClassChange(name, all_before[index], None, int((truth_was == index).sum())))
            continue
        changes.append(
            ClassChange(
                name,
                first[index] if formerly else None,
                second[index],
                int((pixels.truth_after == index).sum()),
                described[index],
                () if formerly == (name,) else formerly,
            )
        )
    return changes


def _ious(predicted: Tensor, truth: Tensor, number: int) -> list[float | None]:
    """IoU of every class that occurs in the truth."""
    hits = torch.bincount(truth[predicted == truth], minlength=number)
    true = torch.bincount(truth, minlength=number)
    union = torch.bincount(predicted, minlength=number) + true - hits
    return [int(hit) / int(both) if int(count) else None for hit, both, count in zip(hits, union, true)]


@dataclass(frozen=True)
class ImageChange:
    """What an edit did to an image.

    Attributes:
        name: The image's name in the session.
        before: Label map before.
        after: Label map after.
        measured: Where its pixels went; with a mask also the IoU of its classes.
    """

    name: str
    before: Segmentation
    after: Segmentation
    measured: Measured

    def to_dict(self) -> dict[str, object]:
        """JSON-ready, without the label maps."""
        return {"name": self.name, **self.measured.to_dict()}


@dataclass(frozen=True)
class EditEffect:
    """What an edit did, or would do.

    Attributes:
        edit: The edit, with everything that the text encoder had to say.
        sample: Measured on the calibration sample that travels with the model, which is spread evenly over the
            classes: its IoU is not that of a data set.
        claims: What each described class takes from known ones, and whether it can be told apart; empty without
            calibration sample, described classes or budget.
        placements: Where the sentences of the edit went.
        notes: What could not be shown and why, and what to watch out for.
        claim_budget: The budget after the edit.
        fingerprint: Of the space after the edit.
        seconds: How long it took to solve and measure it.
        before: The model before.
        after: The model after.
        successors: Class before -> class after; removed classes are absent.
        renamed: Class of the session's start -> class before, and class after.
    """

    edit: Edit
    sample: Measured
    claims: tuple[ClaimPreview, ...]
    placements: tuple[Placement, ...]
    notes: tuple[str, ...]
    claim_budget: float | None
    fingerprint: str
    seconds: float
    before: EditableModel = field(repr=False, compare=False)
    after: EditableModel = field(repr=False, compare=False)
    successors: Mapping[str, str] = field(repr=False, compare=False)
    renamed: tuple[Mapping[str, str], Mapping[str, str]] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "edit": self.edit.to_dict(),
            "text": self.edit.to_text(),
            "sample": self.sample.to_dict(),
            "claims": [claim_to_dict(claim) for claim in self.claims],
            "placements": [
                {
                    "sentence": item.phrase,
                    "property": item.property_name,
                    "cosine": item.cosine,
                    "sureness": item.sureness,
                    "used": item.fits,
                }
                for item in self.placements
            ],
            "notes": list(self.notes),
            "claim_budget": self.claim_budget,
            "fingerprint": self.fingerprint,
            "seconds": round(self.seconds, 4),
        }

    def to_text(self) -> str:
        """A few lines: what was done, what it did to IoU, where pixels went, what to watch out for."""
        lines = [self.edit.to_text(), *self.sample.lines()]
        lines += [claim.to_text() for claim in self.claims]
        lines += [str(item) for item in self.placements]
        lines += list(self.notes)
        return "\n".join(lines)


def claim_to_dict(claim: ClaimPreview) -> dict[str, object]:
    """A preview of claims, JSON-ready.

    Args:
        claim: The preview.
    """
    return {
        "class": claim.class_name,
        "offset": claim.offset,
        "takes_from": [{"class": name, "share": share} for name, share in claim.takes_from],
        "nearest": claim.nearest,
        "typical_lead": claim.typical_lead,
        "can_be_told_apart": claim.can_be_told_apart,
        "text": claim.to_text(),
    }


def next_steps(claim: ClaimPreview, after: EditableModel) -> str | None:
    """What to do about a described class that its budget does not let win; `None` where it can be told apart.

    Args:
        claim: Its preview.
        after: The model that has it.
    """
    if claim.can_be_told_apart:
        return None
    names, rows = class_names_of(after), after.config.class_properties or []
    mine, theirs = set(rows[names.index(claim.class_name)]), set(rows[names.index(claim.nearest)])
    words = after.config.property_names or []
    shared = [words[index] for index in sorted(mine & theirs)]
    missing = [words[index] for index in sorted(theirs - mine)]
    text = f"{claim.class_name!r} is not told apart from {claim.nearest!r}"
    if shared:
        text += f", with which it shares {listed(shared, MOST_LISTED)}"
    text += ". Describe what only it shows"
    if missing:
        text += f"; check that it really lacks {listed(missing, MOST_LISTED)}"
    return f"{text}; or allow a larger claim budget."


__all__ = ["ClassChange", "EditEffect", "ImageChange", "Measured", "PixelMove"]
