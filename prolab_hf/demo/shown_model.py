"""A model as one visitor sees it: shared weights, classes of the visitor's own, and one forward pass per image."""

import copy
import hashlib
import threading
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation, ProLabSemanticSegmenterOutput

MAX_CACHED_BYTES = 512 * 2**20
"""Of logits of all visitors together; those of the newest image are kept whatever their size."""


class LogitsCache:
    """What the last layer gave for images, least recently used first; shared by all visitors of a model.

    Args:
        max_bytes: Of all tensors together; the newest one stays in any case.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self.max_bytes = max_bytes
        self._tensors: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Tensor | None:
        """The tensor of a key, which counts as used now."""
        with self._lock:
            if key in self._tensors:
                self._tensors.move_to_end(key)
            return self._tensors.get(key)

    def put(self, key: bytes, value: Tensor) -> None:
        """Keeps a tensor, and drops the oldest ones where there are too many bytes."""
        with self._lock:
            self._tensors[key] = value
            while len(self._tensors) > 1 and self.nbytes > self.max_bytes:
                self._tensors.popitem(last=False)

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(tensor.nbytes for tensor in self._tensors.values())


class ShownModel(ProLabForSemanticSegmentation):
    """A ProLab model that shares the weights of another one, but not its classes.

    `set_property_space` changes this object only. Calls without labels ask the network once per image: what comes
    after the last layer (words, classes, offsets) is computed anew, so the answer follows every edit.
    """

    _cache: LogitsCache

    @classmethod
    def of(cls, model: nn.Module, cache: LogitsCache | None = None) -> "ShownModel":
        """A view on a model.

        Args:
            model: The model, or another view on it. Its weights must not change from here on.
            cache: Of all views on this model; by default that of the view, or a new one.

        Raises:
            ValueError: If the model has no properties.
        """
        if not isinstance(model, ProLabForSemanticSegmentation):
            raise ValueError(
                f"{type(model).__name__} has no properties to show; the demo needs a ProLab model "
                "(prolab train, prolab quickstart or prolab convert make one)."
            )
        shown = cls.__new__(cls)
        shown.__dict__ = dict(model.__dict__)
        for part in ("_parameters", "_buffers", "_modules"):
            shown.__dict__[part] = dict(model.__dict__[part])
        shown.config = copy.deepcopy(model.config)
        shown._cache = cache or getattr(model, "_cache", None) or LogitsCache()
        return shown

    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **options: Any
    ) -> ProLabSemanticSegmenterOutput:
        """As `ProLabForSemanticSegmentation.forward`; without labels and options the network runs once per image."""
        if pixel_values is None or labels is not None or options:
            return super().forward(pixel_values, labels, **options)
        is_solved = self.config.similarity == "linear_cosine"
        key = self._key(pixel_values, with_words=not is_solved)
        raw = self._cache.get(key)
        if raw is None:
            raw = self.responses(pixel_values) if is_solved else super().forward(pixel_values).property_logits
            assert raw is not None  # noqa: S101  # every ProLab model gives property logits
            self._cache.put(key, raw)
        logits, unspoken = self._logits_of_responses(raw) if is_solved else (raw, None)
        return ProLabSemanticSegmenterOutput(
            logits=self.class_logits(logits, unspoken), property_logits=logits, unspoken_logits=unspoken
        )

    def _key(self, pixel_values: Tensor, *, with_words: bool) -> bytes:
        """Of an image; where properties enter before the last layer also of their embeddings."""
        digest = hashlib.sha256(repr(tuple(pixel_values.shape)).encode())
        for tensor in (pixel_values, self.property_embeddings)[: 2 if with_words else 1]:
            content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(content.numpy().data)
        return digest.digest()


__all__ = ["LogitsCache", "ShownModel"]
