"""What `explain` gives: the score of a place taken apart, as data, a table, sentences and a view for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from prolab_hf.explanation.attribution import EVEN_TERM, OFFSET_TERM, TERMS, UNSPOKEN_TERM
from prolab_hf.explanation.share_bars import bars_html, bars_png

VISIBLE = 0.0005
"""Shares below this would read as 0.000."""

Share = tuple[str, float]
Quantity = Literal["score", "probability"]


@dataclass(frozen=True)
class RunnerUp:
    """The strongest other class, or the one that was asked for, and what separates it from the explained one.

    Attributes:
        class_name: Its name.
        score: Its score (or probability) at the same place.
        margin: Score of the explained class minus its score; negative if the other class wins.
        deciding: Every property with the difference of its shares, largest absolute difference first.
            Positive speaks for the explained class. The sum is the margin.
        expected: Names of the properties in its row.
    """

    class_name: str
    score: float
    margin: float
    deciding: list[Share]
    expected: list[str] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Explanation:
    """The class score of a pixel or region, taken apart exactly.

    Attributes:
        class_name: The explained class.
        score: Its score: the value whose arg-max over the classes is the label map (mean over a region).
        contributions: Every property with its share, largest first. The sum is `score`. Where a model or quantity has
            them, terms that are no properties stand among them: `UNSPOKEN_TERM`, `OFFSET_TERM` and `EVEN_TERM`.
        runner_up: The strongest other class, or the rival that was asked for; `None` if the model knows only one.
        missing: Properties that the class should have but that were hardly seen, with their scores.
        unexpected: Properties that were seen although the class does not have them, with their scores.
        predicted_class: The class with the highest score at this place.
        property_scores: Score of every property, in the order of the property space.
        expected: Names of the properties in the row of the class.
        point: Column and row of the pixel, if a point was explained.
        region: Bool `(height, width)`, if a region was explained.
        property_maps: Low-resolution property scores `(num_properties, height, width)`, for figures; `None` where not
            the whole image was run.
        top: How many properties text and figures show.
        phrases: Property -> the explained class's own words for it; shown instead of the property's name.
        other_phrases: Property -> the words that other classes use for it.
        quantity: `"score"`: the class similarity. `"probability"`: the softmax over the classes, averaged over flips
            and scales, which is what `segment` compares where it averages several runs.
        residual: What the network itself computed, in its own precision, minus the sum of the contributions.
        is_whole_class: Whether the region is all that was labeled as the class.
        image_name: File of the image, if it has one.
        inference: Mode, window, flip and scales.
    """

    class_name: str
    score: float
    contributions: list[Share]
    runner_up: RunnerUp | None
    missing: list[Share]
    unexpected: list[Share]
    predicted_class: str
    property_scores: list[Share] = field(repr=False)
    expected: list[str] = field(repr=False)
    point: tuple[int, int] | None = None
    region: Tensor | None = field(default=None, repr=False, compare=False)
    property_maps: Tensor | None = field(default=None, repr=False, compare=False)
    top: int = 5
    phrases: dict[str, str] = field(default_factory=dict, repr=False)
    other_phrases: dict[str, list[str]] = field(default_factory=dict, repr=False)
    quantity: Quantity = "score"
    residual: float = 0.0
    is_whole_class: bool = False
    image_name: str | None = None
    inference: dict[str, Any] = field(default_factory=dict, repr=False)

    def phrase(self, property_name: str) -> str:
        """What the author of the explained class wrote for a property; its name where the class does not have it.

        Args:
            property_name: Name of the property.
        """
        return self.phrases.get(property_name, property_name)

    @property
    def unspoken(self) -> float:
        """What the properties without words add to the score."""
        return dict(self.contributions).get(UNSPOKEN_TERM, 0.0)

    @property
    def offset(self) -> float:
        """What the claim budget adds to the score."""
        return dict(self.contributions).get(OFFSET_TERM, 0.0)

    @property
    def even_share(self) -> float:
        """The probability of every class before anything is seen; 0 for scores."""
        return dict(self.contributions).get(EVEN_TERM, 0.0)

    @property
    def telling_contributions(self) -> list[Share]:
        """The contributions that say something about the class: all but the even share of probabilities."""
        return [(name, share) for name, share in self.contributions if name != EVEN_TERM]

    @property
    def spoken_share(self) -> float:
        """Part of the score, without offset and even share, that named properties make up; 1 without other parts."""
        similarity = self.score - self.offset - self.even_share
        return 1 - self.unspoken / similarity if similarity else 1.0

    @property
    def num_pixels(self) -> int:
        """Size of the place."""
        return 1 if self.region is None else int(self.region.sum())

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Everything as a dictionary that JSON can hold.

        Args:
            top: Number of properties per list; `other_contributions` then holds the sum of the rest.
        """
        scores = dict(self.property_scores)
        expected = set(self.expected)
        runner_up = self.runner_up
        return {
            "image": self.image_name,
            "class": self.class_name,
            "quantity": self.quantity,
            "score": self.score,
            "residual": self.residual,
            "predicted_class": self.predicted_class,
            "point": list(self.point) if self.point is not None else None,
            "region_pixels": int(self.region.sum()) if self.region is not None else None,
            "is_whole_class": self.is_whole_class,
            "inference": self.inference,
            "spoken_share": self.spoken_share,
            "offset": self.offset,
            "contributions": [
                {
                    "property": name,
                    "phrase": self.phrase(name),
                    "other_phrases": self.other_phrases.get(name, []),
                    "share": share,
                    "score": scores.get(name),
                    "expected": name in expected,
                }
                for name, share in self.contributions[:top]
            ],
            "other_contributions": sum(share for _, share in self.contributions[top:])
            if top is not None
            else 0.0,
            "runner_up": None
            if runner_up is None
            else {
                "class": runner_up.class_name,
                "score": runner_up.score,
                "margin": runner_up.margin,
                "deciding": [{"property": name, "difference": d} for name, d in runner_up.deciding[:top]],
            },
            "missing": [{"property": name, "score": score} for name, score in self.missing[:top]],
            "unexpected": [{"property": name, "score": score} for name, score in self.unexpected[:top]],
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row per contribution: what `datasets.Dataset.from_list` and `pandas.DataFrame` take.

        Rows of several explanations fit into one table; the columns are always the same. `share` summed over the rows
        is `class_score`, `difference` is the margin over `rival`.
        """
        scores, rival = dict(self.property_scores), self.runner_up
        differences = dict(rival.deciding) if rival is not None else {}
        theirs = set(rival.expected) if rival is not None else set()
        expected = set(self.expected)
        place = {
            "image": self.image_name,
            "x": self.point[0] if self.point is not None else None,
            "y": self.point[1] if self.point is not None else None,
            "pixels": self.num_pixels,
            "class": self.class_name,
            "predicted_class": self.predicted_class,
            "rival": rival.class_name if rival is not None else None,
            "quantity": self.quantity,
            "class_score": self.score,
            "rival_score": rival.score if rival is not None else None,
        }
        return [
            {
                **place,
                "property": name,
                "phrase": self.phrase(name),
                "is_property": name in scores,
                "share": share,
                "rival_share": share - differences[name] if rival is not None else None,
                "difference": differences.get(name),
                "property_score": scores.get(name),
                "expected": name in expected,
                "expected_of_rival": name in theirs,
            }
            for name, share in self.contributions
        ]

    def to_text(self) -> str:
        """The explanation in plain sentences."""
        return explanation_text(self)

    def _repr_html_(self) -> str:
        """For notebooks: the sentences' content as a small table with bars."""
        return bars_html(_verdict(self), self._bars(), legend=self._legend(), note="\n".join(_remarks(self)))

    def _repr_png_(self) -> bytes:
        """For notebooks that show no HTML."""
        return bars_png(_verdict(self), self._bars(), legend=self._legend())

    def _legend(self) -> tuple[str, str | None]:
        return self.class_name, self.runner_up.class_name if self.runner_up is not None else None

    def _bars(self) -> list[tuple[str, float, float | None]]:
        """The shares that matter, in words, with those of the rival."""
        rows = {row["property"]: row for row in self.to_rows()}
        names = [name for name, _ in self.telling_contributions[: self.top]]
        if self.runner_up is not None:
            names += [name for name, _ in self.runner_up.deciding[: self.top] if name not in names]
        return [(self.phrase(name), rows[name]["share"], rows[name]["rival_share"]) for name in names]


# ---- sentences ----------------------------------------------------------------------------------------------


def explanation_text(explanation: Explanation) -> str:
    """One sentence each for the verdict, the reasons, the runner-up, what is missing and what surprises.

    Args:
        explanation: What `explain` gave.
    """
    return "\n".join([_verdict(explanation), _reasons(explanation), *_remarks(explanation)])


def _remarks(explanation: Explanation) -> list[str]:
    sentences, top = _rivalry(explanation), explanation.top
    if explanation.missing:
        seen = [(explanation.phrase(name), score) for name, score in explanation.missing[:top]]
        sentences.append(f"Expected of {explanation.class_name} but hardly seen: {_scores(seen)}.")
    if explanation.unexpected:
        sentences.append(f"Seen although not part of it: {_scores(explanation.unexpected[:top])}.")
    return sentences


def _verdict(explanation: Explanation) -> str:
    name, score = explanation.class_name, f"{explanation.quantity} {explanation.score:.3f}"
    pixels = explanation.num_pixels
    if explanation.is_whole_class:
        where = f"The {pixels:,} pixels" if pixels != 1 else "The 1 pixel"
        verdict = f"{where} of {name} ({score})."
        if name != explanation.predicted_class:
            verdict += f" Together they look more like {explanation.predicted_class}."
        return verdict
    if explanation.point is not None:
        where = f"The pixel at ({explanation.point[0]}, {explanation.point[1]})"
    else:
        where = f"The region of {pixels:,} pixels" if pixels != 1 else "The region of 1 pixel"
    if name == explanation.predicted_class:
        return f"{where} is {name} ({score})."
    return f"{where} is not {name} ({score}) but {explanation.predicted_class}."


def _reasons(explanation: Explanation) -> str:
    name = explanation.class_name
    telling = explanation.telling_contributions
    shown = [(word, share) for word, share in telling[: explanation.top] if share >= VISIBLE]
    if not shown:
        return f"No property speaks for {name}."
    expected = {*explanation.expected, *TERMS}
    # With the L2 similarity a property that is rightly absent counts in favor, too.
    named = [
        (explanation.phrase(word) if word in expected else f"no sign of “{word}”", share)
        for word, share in shown
    ]
    listed = "; ".join(f"{word} ({share:.3f})" for word, share in named)
    rest = explanation.score - explanation.even_share - sum(share for _, share in shown)
    others = len(telling) - len(shown)
    tail = f"; the other {others} properties together {rest:.3f}" if others else ""
    if explanation.even_share:
        tail += f"; every class begins with {explanation.even_share:.3f}"
    return f"What makes up the {explanation.quantity} of {name}: {listed}{tail}."


def _rivalry(explanation: Explanation) -> list[str]:
    rival, name = explanation.runner_up, explanation.class_name
    if rival is None:
        return []
    for_it = [f"{explanation.phrase(word)} ({d:+.3f})" for word, d in rival.deciding if d >= VISIBLE]
    for_it = for_it[: explanation.top]
    against = [f"{word} ({d:+.3f})" for word, d in rival.deciding if d <= -VISIBLE][: explanation.top]
    verb = "leads" if rival.margin >= 0 else "trails"
    subject = "It" if name == explanation.predicted_class and not explanation.is_whole_class else name
    sentences = [
        f"{subject} {verb} {rival.class_name} ({explanation.quantity} {rival.score:.3f}) by {abs(rival.margin):.3f}."
    ]
    if for_it:
        sentences.append(f"For {name} over {rival.class_name}: {'; '.join(for_it)}.")
    if against:
        sentences.append(f"For {rival.class_name} over {name}: {'; '.join(against)}.")
    return sentences


def _scores(properties: Sequence[Share]) -> str:
    return "; ".join(f"{name} ({score:.2f})" for name, score in properties)


__all__ = ["Explanation", "Quantity", "RunnerUp", "Share", "explanation_text"]
