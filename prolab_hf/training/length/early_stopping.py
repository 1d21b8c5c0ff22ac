"""Stopping where evaluations no longer get better; decided from the recorded ones alone, so resuming is exact."""

import math
from collections.abc import Sequence

from prolab_hf.training.checkpoints import Evaluation
from prolab_hf.training.recipe import EvaluationFields


def check_early_stopping(fields: EvaluationFields, *, has_images: bool) -> None:
    """Refuses to stop by evaluations that never take place.

    Args:
        fields: Of the recipe.
        has_images: Whether there are evaluation images.

    Raises:
        ValueError: There are none.
    """
    if fields.early_stopping is not None and not has_images:
        raise ValueError(
            f"evaluation.early_stopping is {fields.early_stopping}, but there are no evaluation images to decide by; "
            "give some, or leave it out."
        )


def has_stalled(evaluations: Sequence[Evaluation], fields: EvaluationFields) -> bool:
    """Whether so many evaluations in a row were no better that the run should stop.

    Args:
        evaluations: Of the run, in order; `mean_iou` may be undefined (NaN), which is no improvement.
        fields: Patience and what counts as better.
    """
    if fields.early_stopping is None:
        return False
    best, since_best = -math.inf, 0
    for entry in evaluations:
        if entry["mean_iou"] > best + (fields.least_improvement if math.isfinite(best) else 0):
            best, since_best = entry["mean_iou"], 0
        else:
            since_best += 1
    return since_best >= fields.early_stopping
