"""The text encoder of a space, loaded when a sentence needs it, and missing where it is not on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from prolab_hf.label_space.phrases.wording import same_wording
from prolab_hf.label_space.placement import check_same_encoder
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder


class EncoderOnHand:
    """Loads the encoder of a space once, from this machine only.

    Args:
        encoder: In any form that `TextEncoder.load` takes. By default the one that the space names, if it was
            downloaded before; nothing is downloaded.
        space: The space that it belongs to.
        may_be_absent: Whether embeddings of properties may be unknown: a solved model does not look at them.
    """

    def __init__(self, encoder: object, space: PropertySpace, *, may_be_absent: bool = False) -> None:
        self._facts = dict(space.encoder)
        self._loaded: TextEncoder | None = None
        self.may_be_absent = may_be_absent
        if encoder is None and is_cached(self._facts.get("name")):
            encoder = self._facts["name"]
        self._source = encoder

    @property
    def available(self) -> bool:
        """Whether new sentences can be placed."""
        return self._source is not None

    def loaded(self) -> TextEncoder | None:
        """The encoder, or `None` where there is none.

        Raises:
            FileNotFoundError: It was named and is not on this machine.
        """
        if self._loaded is None and self._source is not None:
            options: dict[str, Any] = {
                key: self._facts[key] for key in ("lower_case", "normalize") if key in self._facts
            }
            if isinstance(self._source, str):
                options["pooling"] = self._facts.get("pooling")
                options["local_files_only"] = True
            self._loaded = TextEncoder.load(self._source, **options)
        return self._loaded

    def for_sentences(self, space: PropertySpace, texts: Mapping[str, Sequence[str]]) -> TextEncoder | None:
        """The encoder where a sentence is new to the space, `None` where it knows all of them.

        Args:
            space: The space.
            texts: Class name -> sentences.

        Raises:
            ValueError: A sentence is new and there is no encoder.
        """
        known = {same_wording(name) for name in space.property_names}
        known |= {same_wording(text) for users in space.phrases_by_property.values() for text in users}
        new = [text for group in texts.values() for text in group if same_wording(text) not in known]
        return self.required(space, new[0]) if new else None

    def nearest(self, space: PropertySpace, phrase: str, limit: int = 5) -> list[tuple[str, float]]:
        """The properties that are nearest to a phrase, each with its cosine, the nearest first.

        Unlike placing a sentence this is nearness alone: a contradiction may be near, too.

        Args:
            space: The space.
            phrase: A sentence, or the name of a class.
            limit: Most properties.

        Raises:
            ValueError: There is no encoder, or it is not the space's.
        """
        vector = torch.from_numpy(self.required(space, phrase).encode([phrase])[0]).float()
        cosines = space.property_embeddings @ (vector / vector.norm())
        order = cosines.argsort(descending=True, stable=True).tolist()[:limit]
        return [(space.property_names[index], round(float(cosines[index]), 4)) for index in order]

    def required(self, space: PropertySpace, phrase: str) -> TextEncoder:
        """The encoder, for a phrase that cannot do without.

        Args:
            space: The space.
            phrase: The phrase, for the message.

        Raises:
            ValueError: There is none, or it is not the space's.
        """
        encoder = self.loaded()
        if encoder is None:
            raise ValueError(
                f"{phrase!r} is new to the space, so it takes the text encoder that the space was built with "
                f"({space.encoder.get('name', 'not recorded')}), which is not on this machine: give its folder or "
                "name (encoder=, --encoder). Names of properties and sentences of other classes need none."
            )
        check_same_encoder(space, encoder)
        return encoder

    def optional(self, space: PropertySpace, phrase: str) -> TextEncoder | None:
        """The encoder, or `None` where there is none and the model can do without.

        Args:
            space: The space.
            phrase: What it is for, for the message.

        Raises:
            ValueError: There is none and the model needs one, or it is not the space's.
        """
        if self._source is None and self.may_be_absent:
            return None
        return self.required(space, phrase)


def is_cached(encoder: object) -> bool:
    """Whether a Hub model of that name was downloaded before.

    Args:
        encoder: Its name.
    """
    try:
        return isinstance(encoder, str) and isinstance(try_to_load_from_cache(encoder, "config.json"), str)
    except ValueError:  # not a name that the Hub could have
        return False


__all__ = ["EncoderOnHand", "is_cached"]
