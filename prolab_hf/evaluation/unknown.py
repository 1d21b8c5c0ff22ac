"""Pixels that fit no class: a threshold on class scores, calibrated on pixels of known classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prolab_hf.evaluation.sliding_window import LogitsFunction

UNKNOWN = "unknown"
"""Name of what fits no class."""
DEFAULT_SHARE = 0.05
"""Part of the pixels of known classes that may be called unknown."""


def unknown_threshold(model: nn.Module, share: float = DEFAULT_SHARE) -> float:
    """The class score below which a share of the pixels of known classes lies.

    Args:
        model: A model with a calibration sample.
        share: Part of the pixels of the sample that may be called unknown.

    Raises:
        ValueError: The model has no sample, or the share is none.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share of unknown pixels is {share!r}; it must lie between 0 and 1.")
    measured = getattr(model, "calibration_class_scores", lambda: None)()
    if measured is None:
        raise ValueError(
            "unknown needs a model with a calibration sample: solve it, or run "
            "prolab_hf.solving.claim_budget.calibrate on labeled images."
        )
    scores: Tensor = measured[0]
    offsets: Any = model.class_offsets
    best = (scores + offsets.to(scores)).amax(dim=1)
    return float(torch.quantile(best.double().cpu(), share))


def with_unknown(function: LogitsFunction, threshold: float) -> LogitsFunction:
    """Logits with one class more, whose score is the threshold everywhere: it wins where no class fits.

    Args:
        function: From prepared images to logits `(batch_size, num_labels, height, width)`.
        threshold: See `unknown_threshold`.
    """

    def extended(pixel_values: Tensor) -> Tensor:
        logits = function(pixel_values)
        return torch.cat([logits, torch.full_like(logits[:, :1], threshold)], dim=1)

    return extended
