"""Applying a patch to another copy of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prolab_hf.editing.editor import SpaceEditor
from prolab_hf.editing.edits import Edit, SetClaimBudget
from prolab_hf.editing.effects import EditEffect
from prolab_hf.editing.patches import SpacePatch
from prolab_hf.protocols import PathName

PatchLike = SpacePatch | Mapping[str, object] | PathName


@dataclass(frozen=True)
class AppliedPatch:
    """What came of a patch.

    Attributes:
        editor: The session that it was applied to: its model, effects, undo and saving.
        effects: Of the edits that were made.
        skipped: Edits that did not fit, with the reason; only where `exact` was false.
    """

    editor: SpaceEditor
    effects: list[EditEffect]
    skipped: list[tuple[Edit, str]]


def as_patch(patch: PatchLike) -> SpacePatch:
    """A patch from what users have.

    Args:
        patch: The patch, what its JSON holds, or its file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no patch.
    """
    if isinstance(patch, SpacePatch):
        return patch
    return SpacePatch.from_dict(patch) if isinstance(patch, Mapping) else SpacePatch.load(patch)


def apply_patch(target: object, patch: PatchLike, *, exact: bool = True) -> AppliedPatch:
    """Applies a patch to a session, or to a model or a copy of it on disk or on the Hub, which stays as it is.

    Args:
        target: A `SpaceEditor`, a `ProLabForSemanticSegmentation`, or the folder or Hub id of one.
        patch: What `SpaceEditor.patch` gave, what its JSON holds, or its file.
        exact: Refuse a patch for other words, and one that does not lead to the words that it names; `False` makes
            the edits that fit and lists the others.

    Returns:
        The edited session: `applied.editor.model` is the model, `applied.editor.save_pretrained(folder)` saves it.

    Raises:
        ValueError: The patch is for other words (both fingerprints are named), or an edit does not fit; a session
            that was given is as before.
        FileNotFoundError: There is no such file or model.
    """
    content = as_patch(patch)
    editor = target if isinstance(target, SpaceEditor) else SpaceEditor.load(target)
    here = editor.space
    if exact and content.base_fingerprint != here.fingerprint:
        raise ValueError(
            f"The patch was made for the words {content.base_fingerprint} ({content.base_name or 'unnamed'}), the "
            f"model has {here.fingerprint} ({here.name or 'unnamed'}). Apply it to a copy of the model that it was "
            "made for, or apply what fits (exact=False, --partly)."
        )
    effects: list[EditEffect] = []
    skipped: list[tuple[Edit, str]] = []
    try:
        for number, edit in enumerate(content.edits, start=1):
            try:
                effects.append(editor.apply(edit))
            except ValueError as error:
                if exact:
                    text = edit.to_text().rstrip(".")
                    raise ValueError(f"Edit {number} ({text}) does not fit: {error}") from error
                skipped.append((edit, str(error)))
        if exact and editor.space.fingerprint != content.result_fingerprint:
            raise ValueError(
                f"The edits lead to the words {editor.space.fingerprint}, the patch says {content.result_fingerprint}: "
                "it was changed by hand or damaged. To apply its edits as they stand, use exact=False (--partly)."
            )
    except ValueError:
        for _ in effects:
            editor.undo()
        raise
    if editor.claim_budget != content.claim_budget:
        effects.append(editor.apply(SetClaimBudget(content.claim_budget)))
    return AppliedPatch(editor, effects, skipped)


__all__ = ["AppliedPatch", "apply_patch"]
