"""Explanations in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prolab_hf.explanation.contributions import Explanation

VISIBLE = 0.0005
"""Shares below this would read as 0.000."""


def explanation_text(explanation: Explanation) -> str:
    """One sentence each for the verdict, the reasons, the runner-up, what is missing and what surprises.

    Args:
        explanation: What `explain` gave.
    """
    sentences = [_verdict(explanation), _reasons(explanation), *_rivalry(explanation)]
    top = explanation.top
    if explanation.missing:
        sentences.append(
            f"Expected of {explanation.class_name} but hardly seen: {_scores(explanation.missing[:top])}."
        )
    if explanation.unexpected:
        sentences.append(f"Seen although not part of it: {_scores(explanation.unexpected[:top])}.")
    return "\n".join(sentences)


def _verdict(explanation: Explanation) -> str:
    if explanation.point is not None:
        where = f"The pixel at ({explanation.point[0]}, {explanation.point[1]})"
    else:
        pixels = int(explanation.region.sum()) if explanation.region is not None else 0
        where = f"The region of {pixels:,} pixels" if pixels != 1 else "The region of 1 pixel"
    if explanation.class_name == explanation.predicted_class:
        return f"{where} is {explanation.class_name} (score {explanation.score:.3f})."
    return (
        f"{where} is not {explanation.class_name} (score {explanation.score:.3f}) "
        f"but {explanation.predicted_class}."
    )


def _reasons(explanation: Explanation) -> str:
    shown = [
        (name, share) for name, share in explanation.contributions[: explanation.top] if share >= VISIBLE
    ]
    if not shown:
        return f"No property speaks for {explanation.class_name}."
    expected = set(explanation.expected)
    # With the L2 similarity a property that is rightly absent counts in favor, too.
    named = [(name if name in expected else f"no sign of “{name}”", share) for name, share in shown]
    listed = "; ".join(f"{name} ({share:.3f})" for name, share in named)
    rest = explanation.score - sum(share for _, share in shown)
    others = len(explanation.contributions) - len(shown)
    tail = f"; the other {others} properties together {rest:.3f}" if others else ""
    return f"What makes up the score of {explanation.class_name}: {listed}{tail}."


def _rivalry(explanation: Explanation) -> list[str]:
    rival = explanation.runner_up
    if rival is None:
        return []
    for_it = [f"{name} ({d:+.3f})" for name, d in rival.deciding if d >= VISIBLE][: explanation.top]
    against = [f"{name} ({d:+.3f})" for name, d in rival.deciding if d <= -VISIBLE][: explanation.top]
    verb = "leads" if rival.margin >= 0 else "trails"
    subject = "It" if explanation.class_name == explanation.predicted_class else explanation.class_name
    sentences = [f"{subject} {verb} {rival.class_name} (score {rival.score:.3f}) by {abs(rival.margin):.3f}."]
    if for_it:
        sentences.append(f"For {explanation.class_name} over {rival.class_name}: {'; '.join(for_it)}.")
    if against:
        sentences.append(f"For {rival.class_name} over {explanation.class_name}: {'; '.join(against)}.")
    return sentences


def _scores(properties: Sequence[tuple[str, float]]) -> str:
    return "; ".join(f"{name} ({score:.2f})" for name, score in properties)
