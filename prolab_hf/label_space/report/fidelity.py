"""Whether properties still mean what their authors wrote: phrases that share one, worst first."""

from collections.abc import Sequence
from dataclasses import dataclass

from prolab_hf.label_space.conflicts import BUILT_IN, ConflictRules
from prolab_hf.label_space.phrases.wording import same_wording
from prolab_hf.label_space.space_content import SpaceContent

DEFAULT_COSINE = 0.5


@dataclass(frozen=True)
class SharedPhrase:
    """A phrase that shares a property with phrases of another wording.

    Args:
        phrase: The phrase as written.
        property_index: Its property.
        property_name: The property's name.
        classes: Classes that use the phrase.
        cosine: Cosine to the property's centre; None where the space did not record it.
        against: A phrase of the property that contradicts it; None without one.
        reason: In what they contradict each other.
        kept: Whether the property means what the phrase says: no contradiction, and near enough.
    """

    phrase: str
    property_index: int
    property_name: str
    classes: list[str]
    cosine: float | None
    against: str | None
    reason: str | None
    kept: bool

    @property
    def is_name(self) -> bool:
        """Whether the property is named after this phrase."""
        return same_wording(self.phrase) == same_wording(self.property_name)


def shared_phrases(space: SpaceContent, rules: ConflictRules = BUILT_IN) -> list[SharedPhrase]:
    """Every phrase that fell in with a different wording: contradictions first, then the farthest.

    Args:
        space: A space with descriptions and assignments.
        rules: What contradicts what.
    """
    cosines = space.clustering.get("phrase_cosines") or {}
    limit = float(space.clustering.get("far_cosine", DEFAULT_COSINE))
    found = []
    for index, users in sorted(space.phrases_by_property.items()):
        phrases = list(users)
        if len({same_wording(phrase) for phrase in phrases}) < 2:
            continue
        for phrase in phrases:
            against, reason = _contradiction(phrase, phrases, rules)
            cosine = cosines.get(phrase.lower()) if isinstance(cosines, dict) else None
            near = cosine is None or cosine >= limit
            found.append(
                SharedPhrase(
                    phrase=phrase,
                    property_index=index,
                    property_name=space.property_names[index],
                    classes=users[phrase],
                    cosine=cosine,
                    against=against,
                    reason=reason,
                    kept=against is None and near,
                )
            )
    return sorted(
        found, key=lambda item: (item.against is None, item.cosine if item.cosine is not None else 1.0)
    )


def _contradiction(
    phrase: str, phrases: Sequence[str], rules: ConflictRules
) -> tuple[str | None, str | None]:
    for other in phrases:
        conflict = rules.conflict(phrase, other)
        if conflict is not None:
            return other, str(conflict)
    return None, None


def fidelity_figures(space: SpaceContent, shared: Sequence[SharedPhrase]) -> dict[str, float | int]:
    """Share of the phrases whose property means what they say; nothing for a space without descriptions.

    Args:
        space: The space.
        shared: Its `shared_phrases`.
    """
    number = sum(len(users) for users in space.phrases_by_property.values())
    if not number:
        return {}
    conflicting = {item.property_index for item in shared if item.against is not None}
    return {
        "phrases": number,
        "fidelity": 1 - sum(not item.kept for item in shared) / number,
        "conflicting_properties": len(conflicting),
        "conflicting_phrases": sum(item.against is not None for item in shared),
    }
