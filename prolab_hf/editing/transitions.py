"""From one state of an editing session to the next: an edit solved, measured and told."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from prolab_hf.editing.editable_model import EditableModel
from prolab_hf.editing.edits import Edit, SetClaimBudget
from prolab_hf.editing.effects import EditEffect, Measured, Pixels, measure, next_steps
from prolab_hf.editing.encoder_on_hand import EncoderOnHand
from prolab_hf.editing.session_images import LabeledSession, SessionImages
from prolab_hf.evaluation.inference import class_names_of
from prolab_hf.label_space.placement import Placement
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.closed_form_prolab import is_trained
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.claim_budget import ClaimPreview, calibrate, preview_claims


@dataclass(frozen=True)
class State:
    """A session between two edits.

    Attributes:
        model: With the words of that time.
        space: These words.
        claim_budget: What described classes may take; kept also while there are none.
        renamed: Class of the session's start -> class of now.
        effect: Of the edit that led here; `None` at the start.
    """

    model: EditableModel
    space: PropertySpace
    claim_budget: float | None
    renamed: Mapping[str, str]
    effect: EditEffect | None = None


def edited_state(
    now: State, edit: Edit, encoder: EncoderOnHand, images: SessionImages
) -> tuple[State, EditEffect]:
    """The state after an edit, and what the edit did.

    Args:
        now: The state before.
        edit: The edit.
        encoder: The space's text encoder.
        images: The images of the session; those with masks may have to stand in for the calibration sample.

    Raises:
        ValueError: The edit does not fit the space.
    """
    start = time.perf_counter()
    edit, placements = edit.prepared(now.space, encoder)
    space, successors = edit.apply(now.space), edit.successors(now.space)
    renamed = {old: successors[new] for old, new in now.renamed.items() if new in successors}
    for name in space.class_names:
        if name not in successors.values():
            renamed.setdefault(name, name)  # a new class, which masks may hold under its name
    notes = _placement_notes(placements)
    if isinstance(edit, SetClaimBudget):
        budget = edit.budget
        model = now.model.with_claim_budget(budget)
    else:
        budget = now.claim_budget
        model = now.model.with_space(space, successors, claim_budget=budget, mixed=edit.mixed_properties())
    if now.model.calibration_scores is not None and model.calibration_scores is None:
        notes.append(_calibrated_anew(model, images, renamed, budget))
    claims = _claims(model, budget)
    notes += [text for claim in claims if (text := next_steps(claim, model)) is not None]
    notes += _missing_notes(model, budget)
    effect = EditEffect(
        edit=edit,
        sample=measured_sample(now.model, model, successors),
        claims=tuple(claims),
        placements=tuple(placements),
        notes=tuple(notes),
        claim_budget=budget,
        fingerprint=space.fingerprint,
        seconds=time.perf_counter() - start,
        before=now.model,
        after=model,
        successors=successors,
        renamed=(now.renamed, renamed),
    )
    now.model.forget_sample_scores()
    return State(model, space, budget, renamed, effect), effect


class Foreseen:
    """The last edits that were worked out, so that what was previewed is not solved again when it is made."""

    def __init__(self) -> None:
        self._steps: deque[tuple[State, dict[str, object], EncoderOnHand, State, EditEffect]] = deque(
            maxlen=4
        )

    def after(
        self, now: State, edit: Edit, encoder: EncoderOnHand, images: SessionImages
    ) -> tuple[State, EditEffect]:
        """As `edited_state`, which is asked where the edit is another one, or the state before it.

        Args:
            now: The state before.
            edit: The edit.
            encoder: The space's text encoder.
            images: The images of the session; `clear` when they change.

        Raises:
            ValueError: The edit does not fit the space.
        """
        content = edit.to_dict()
        for before, known, asked, state, effect in self._steps:
            if before is now and known == content and asked is encoder:
                return state, effect
        state, effect = edited_state(now, edit, encoder, images)
        self._steps.append((now, content, encoder, state, effect))
        return state, effect

    def clear(self) -> None:
        """Forgets all of them."""
        self._steps.clear()


def _calibrated_anew(
    model: EditableModel, images: SessionImages, renamed: Mapping[str, str], budget: float | None
) -> str:
    """A calibration sample from the session's images, for properties that the old one knows nothing of."""
    text = "The network was trained by gradient and its calibration sample knows nothing of the changed properties"
    if not images.with_masks:
        return (
            f"{text}, so it was removed: IoU and offsets are unknown. Give the session images with masks, or calibrate "
            "the saved model (prolab_hf.solving.claim_budget.calibrate)."
        )
    data = LabeledSession(images.with_masks, class_names_of(model), renamed)
    calibrate(model, data, cast(ImageProcessor, images.processor), claim_budget=budget)
    return f"{text}, so a new one was taken from {len(data)} images of the session."


def measured_sample(before: EditableModel, after: EditableModel, successors: Mapping[str, str]) -> Measured:
    """The calibration sample before and after; nothing where the two samples are not of the same pixels.

    Args:
        before: The model before.
        after: The model after.
        successors: Class before -> class after.
    """
    first, second = before.sample_predictions(), after.sample_predictions()
    if len(first) != len(second) or not len(first):
        return Measured()
    truths = before.sample_labels(), after.sample_labels()
    return measure(before, after, successors, Pixels(first, second, *truths))


def _claims(model: EditableModel, budget: float | None) -> list[ClaimPreview]:
    trained = is_trained(model.config)
    if budget is None or model.calibration_scores is None or bool(trained.all()) or not bool(trained.any()):
        return []
    return preview_claims(model, claim_budget=budget)


def _placement_notes(placements: Sequence[Placement]) -> list[str]:
    return [
        f"{item.phrase!r} was left out: no property means it (the nearest is {item.property_name!r}, "
        f"{item.cosine:.2f}). Reword it, or make a property of it (add_property)."
        for item in placements
        if not item.fits
    ]


def _missing_notes(model: EditableModel, budget: float | None) -> list[str]:
    """What cannot be shown about described classes, and why."""
    trained = is_trained(model.config)
    if model.calibration_scores is None:
        text = "The model has no calibration sample, so what an edit does to IoU cannot be shown"
        if not bool(trained.all()):
            text += ", and described classes get no offsets"
        return [f"{text} (prolab_hf.solving.claim_budget.calibrate makes one from labeled images)."]
    if not bool(trained.any()):
        return ["No class of the space was trained, so there is nothing to compare described classes with."]
    if budget is None and not bool(trained.all()):
        return ["Described classes get no offsets, so they hardly win a pixel: set a claim budget."]
    return []
