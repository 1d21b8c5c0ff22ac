"""Where the sentences of a new class go: which property each falls into, how sure that is, and what fits nowhere."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prolab_hf.label_space.conflicts import BUILT_IN, ConflictRules
from prolab_hf.label_space.phrases.wording import same_wording
from prolab_hf.label_space.space_content import SpaceContent
from prolab_hf.label_space.text_encoder import TextEncoder

# Cosine below which a description counts as far from a property, for spaces that recorded no quantile.
FAR_COSINE = 0.5
SURE_COSINE = 0.75
# Properties this near to the nearest one that say the same are told apart by how many classes have them.
_TIE = 0.1


@dataclass(frozen=True)
class Placement:
    """One sentence of a new class and its property.

    Args:
        class_name: The new class.
        phrase: The sentence.
        property_index: Property it falls into.
        property_name: Its name.
        cosine: Nearness to the property; 1 for a wording that the space knows.
        fits: Whether the property means what the sentence says; otherwise it should get a property of its own.
        also: Further properties that the sentence names, by index.
        passed_over: Nearer properties that contradict the sentence, and in what.
    """

    class_name: str
    phrase: str
    property_index: int
    property_name: str
    cosine: float
    fits: bool
    also: list[int] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)

    @property
    def sureness(self) -> str:
        """`"known"`, `"sure"`, `"unsure"` or `"does not fit"`."""
        if self.cosine >= 1 - 1e-9:
            return "known"
        if not self.fits:
            return "does not fit"
        return "sure" if self.cosine >= SURE_COSINE else "unsure"

    def __str__(self) -> str:
        return f"{self.phrase!r} -> {self.property_name!r} ({self.cosine:.2f}, {self.sureness})"


def place_phrases(
    space: SpaceContent,
    texts: Mapping[str, Sequence[str]],
    encoder: object = None,
    rules: ConflictRules = BUILT_IN,
) -> list[Placement]:
    """Finds the property of each sentence, never one that contradicts it.

    Args:
        space: The space.
        texts: New class name -> sentences.
        encoder: The space's text encoder; None is enough where every sentence is known to the space.
        rules: What contradicts what.

    Raises:
        ValueError: A sentence is new and there is no encoder, or the encoder is not the space's.
    """
    known = _known_wordings(space)
    # With an encoder all are encoded, so that one that does not fit is refused even where it is not needed.
    unknown = [
        (name, text)
        for name, group in texts.items()
        for text in group
        if encoder is not None or same_wording(text) not in known
    ]
    cosine = _cosines(space, unknown, encoder) if unknown else np.zeros((0, space.num_properties))
    rows = dict(zip(unknown, cosine))
    finder = _Finder(space, rules)
    placed = []
    for name, group in texts.items():
        for text in group:
            index = known.get(same_wording(text))
            if index is not None:
                placed.append(Placement(name, text, index, space.property_names[index], 1.0, True))
            else:
                placed.append(finder.place(name, text, rows[name, text]))
    return placed


def _known_wordings(space: SpaceContent) -> dict[str, int]:
    known = {same_wording(name): index for index, name in enumerate(space.property_names)}
    for index, users in space.phrases_by_property.items():
        known |= {same_wording(phrase): index for phrase in users}
    return known


def _cosines(space: SpaceContent, unknown: Sequence[tuple[str, str]], encoder: object) -> np.ndarray:
    """Cosine of each sentence to each property, `(len(unknown), num_properties)`."""
    if encoder is None:
        name, text = unknown[0]
        raise ValueError(
            f"The description {text!r} of {name!r} is new to the space, so it takes the text "
            f"encoder that the space was built with ({_encoder_of(space)}): "
            "give encoder=. Without one, only property names and descriptions of existing classes "
            "can be used."
        )
    text_encoder = TextEncoder.load(encoder)
    check_same_encoder(space, text_encoder)
    vectors = text_encoder.encode([text for _, text in unknown])
    if vectors.shape[1] != space.embedding_dim:
        raise ValueError(
            f"The encoder gives vectors of length {vectors.shape[1]}, the space has {space.embedding_dim}; "
            f"use the encoder that the space was built with ({_encoder_of(space)})."
        )
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit @ space.property_embeddings.numpy().astype(np.float64).T


def _encoder_of(space: SpaceContent) -> str:
    name, weights = space.encoder.get("name", "not recorded"), space.encoder.get("fingerprint")
    return f"{name}, weights {weights}" if weights else str(name)


def check_same_encoder(space: SpaceContent, encoder: TextEncoder) -> None:
    """Refuses an encoder whose vectors do not compare with the space's even where their lengths agree.

    Args:
        space: The space.
        encoder: The encoder.

    Raises:
        ValueError: It pools otherwise or is another model.
    """
    for key in ("pooling", "lower_case"):
        then, now = space.encoder.get(key), encoder.info.get(key)
        if then is not None and now is not None and then != now:
            raise ValueError(f"The space was built with {key}={then!r}, this encoder has {key}={now!r}.")
    then, now = space.encoder.get("fingerprint"), encoder.info.get("fingerprint")
    if not then or not now or then == now:
        return
    names = space.encoder.get("name"), encoder.info.get("name")
    if names[0] != names[1]:
        raise ValueError(
            f"The space was built with the encoder {names[0]!r} (weights {then}), got {names[1]!r} with other "
            f"weights ({now}); vectors of two encoders do not compare."
        )
    warnings.warn(
        f"The encoder {names[1]!r} has other weights than the one the space was built with (another revision "
        "or number format?); the nearest properties may differ.",
        stacklevel=6,
    )


class _Finder:
    """Looks for the property of a sentence among those of a space."""

    def __init__(self, space: SpaceContent, rules: ConflictRules) -> None:
        self.space = space
        self.rules = rules
        self.limit = float(space.clustering.get("far_cosine", FAR_COSINE))
        self.phrases = [
            list(dict.fromkeys([*space.phrases_by_property.get(index, ()), name]))
            for index, name in enumerate(space.property_names)
        ]
        self.counts = space.class_property_matrix.sum(dim=0).tolist()

    def place(self, class_name: str, text: str, cosine: np.ndarray) -> Placement:
        """The nearest property that does not contradict the sentence."""
        passed_over: dict[str, str] = {}
        order = np.argsort(-cosine, kind="stable").tolist()
        chosen = None
        for index in order:
            conflict = self._contradiction(text, index)
            if conflict is None:
                chosen = self._commonest(text, index, order, cosine)
                break
            passed_over[self.space.property_names[index]] = conflict
        fits = chosen is not None and bool(cosine[chosen] >= self.limit)
        if chosen is None:
            chosen = order[0]
        # Near only because it lies beside what was passed over: another dimension altogether.
        if passed_over and not self._dimensions(text) & self._own_dimensions(chosen):
            fits = False
        also = self._also(text, chosen, cosine) if fits else []
        name = self.space.property_names[chosen]
        return Placement(
            class_name, text, chosen, name, round(float(cosine[chosen]), 4), fits, also, passed_over
        )

    def _contradiction(self, text: str, index: int) -> str | None:
        for phrase in self.phrases[index]:
            conflict = self.rules.conflict(text, phrase)
            if conflict is not None:
                return str(conflict)
        return None

    def _commonest(self, text: str, nearest: int, order: Sequence[int], cosine: np.ndarray) -> int:
        """Of the properties that say just what the sentence says and are about as near, the one most classes have."""
        wanted = self.rules.claims(text).values
        alike = [
            index
            for index in order
            if cosine[index] >= cosine[nearest] - _TIE
            and wanted
            and any(
                wanted.keys() <= self.rules.claims(phrase).values.keys() for phrase in self.phrases[index]
            )
            and self._contradiction(text, index) is None
        ]
        return max(alike, key=lambda index: (self.counts[index], cosine[index])) if alike else nearest

    def _dimensions(self, text: str) -> set[str]:
        """What a sentence speaks of: dimensions of its values, and what it counts."""
        claims = self.rules.claims(text)
        spoken = {dimension for dimension, _ in claims.values if dimension != "tone"}
        return spoken | {f"number of {noun}" for noun in claims.counts}

    def _own_dimensions(self, index: int) -> set[str]:
        return {dimension for phrase in self.phrases[index] for dimension in self._dimensions(phrase)}

    def _also(self, text: str, chosen: int, cosine: np.ndarray) -> list[int]:
        """Properties for what the sentence says besides: "bright red and yellow stripes" has a color and a pattern."""
        found: list[int] = []
        covered = self._own_dimensions(chosen)
        values = self.rules.claims(text).values
        for index in np.argsort(-cosine, kind="stable").tolist():
            new = (self._dimensions(text) - covered) & self._own_dimensions(index)
            if cosine[index] < self.limit - _TIE or index == chosen:
                continue
            # "Vehicles driving past" says more of a vehicle than "vehicle with three wheels" does.
            if not self._own_dimensions(index) <= self._dimensions(text):
                continue
            agreeing = {
                dimension
                for phrase in self.phrases[index]
                for (dimension, _), theirs in self.rules.claims(phrase).values.items()
                if dimension in new
                and any(theirs & mine for (own, _), mine in values.items() if own == dimension)
            }
            if agreeing and self._contradiction(text, index) is None:
                found.append(index)
                covered |= self._own_dimensions(index)
        return found
