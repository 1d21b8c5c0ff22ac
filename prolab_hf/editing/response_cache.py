"""What a network said about images, kept so that other words are compared with it without another pass."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from prolab_hf.model.class_scores_prolab import logits_of_targets
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation

MAX_CACHED_BYTES = 256 * 2**20
"""Of maps; those of the newest image are kept whatever their size."""


class NetworkAnswer:
    """What a network says about prepared images before any word is looked at.

    Of a solved model these are the responses of its last layer. Of a model trained by gradient they are the maps that
    its last layer sees. Of both the property logits that were asked for last: of other words only what is new is
    computed.

    Args:
        model: The network.
        pixel_values: `(batch_size, num_channels, height, width)`.
    """

    def __init__(self, model: ProLabForSemanticSegmentation, pixel_values: Tensor) -> None:
        maps = model.last_layer_maps(pixel_values)
        self.responses: Tensor | None = None
        self._maps: list[Tensor] = []
        self._embeddings: Tensor | None = None
        self._logits: Tensor | None = None
        self._columns: dict[bytes, Tensor] = {}
        self._targets: Tensor | None = None
        if model.config.similarity == "linear_cosine":
            self.responses = model.decode_head.logits_of_maps(model.property_embeddings, maps)[0]
        else:
            self._maps = maps

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        tensors = [*self._maps, *self._columns.values(), self.responses, self._logits]
        return sum(each.nbytes for each in tensors if each is not None)

    def solved_logits(self, model: ProLabForSemanticSegmentation) -> Tensor:
        """Logits of a solved model, those without words behind the others, `(batch_size, channels, height, width)`.

        Args:
            model: The network with the words of now.
        """
        if self.responses is None:
            raise RuntimeError("The network was trained by gradient; it has no responses.")
        targets, known = model.response_targets.to(self.responses.dtype), self._targets
        if known is None or self._logits is None:
            self._logits = logits_of_targets(self.responses, targets)
        elif known.shape != targets.shape or not torch.equal(known, targets):
            position = {key: index for index, key in enumerate(_row_keys(known.t()))}
            places = [position.get(key, -1) for key in _row_keys(targets.t())]
            new = [index for index, place in enumerate(places) if place < 0]
            logits = self._logits.index_select(1, torch.tensor(places, device=targets.device).clamp_min(0))
            if new:
                logits[:, new] = logits_of_targets(self.responses, targets[:, new])
            self._logits = logits
        self._targets = targets
        return self._logits

    def property_logits(self, model: ProLabForSemanticSegmentation) -> Tensor:
        """Property logits of a model trained by gradient, `(batch_size, num_properties, height, width)`.

        Args:
            model: The network with the properties of now.
        """
        embeddings = model.property_embeddings
        if self._logits is None or self._embeddings is None:
            self._embeddings = embeddings
            self._logits = model.property_logits_of_maps(self._maps, embeddings)
        if embeddings is self._embeddings or torch.equal(embeddings, self._embeddings):
            return self._logits
        keys = _row_keys(embeddings)
        known = {key: self._logits[:, index] for index, key in enumerate(_row_keys(self._embeddings))}
        new = [index for index, key in enumerate(keys) if key not in known and key not in self._columns]
        if new:
            columns = model.property_logits_of_maps(self._maps, embeddings[new])
            self._columns |= {keys[index]: columns[:, row].clone() for row, index in enumerate(new)}
        known |= self._columns
        return torch.stack([known[key] for key in keys], dim=1)


def _row_keys(embeddings: Tensor) -> list[bytes]:
    return [row.tobytes() for row in embeddings.detach().float().cpu().numpy()]


class ResponseCache:
    """The answers about the last images, at most so many bytes.

    Args:
        max_bytes: Memory; the newest answer is kept whatever its size.
    """

    def __init__(self, max_bytes: int = MAX_CACHED_BYTES) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_cached_bytes is {max_bytes}; it must be at least 0.")
        self.max_bytes = max_bytes
        self._answers: OrderedDict[bytes, NetworkAnswer] = OrderedDict()

    def get(self, pixel_values: Tensor, make: Callable[[], NetworkAnswer]) -> NetworkAnswer:
        """The answer about prepared images, found by their content.

        Args:
            pixel_values: `(batch_size, num_channels, height, width)`.
            make: Asks the network.
        """
        key = image_key(pixel_values)
        answer = self._answers.pop(key, None)
        if answer is None:
            answer = make()
        self._answers[key] = answer
        while len(self._answers) > 1 and self.nbytes > self.max_bytes:
            self._answers.popitem(last=False)
        return answer

    @property
    def nbytes(self) -> int:
        """Memory of all answers in bytes."""
        return sum(answer.nbytes for answer in self._answers.values())

    def clear(self) -> None:
        """Forgets everything."""
        self._answers.clear()


def image_key(pixel_values: Tensor) -> bytes:
    """Digest of the content of prepared images.

    Args:
        pixel_values: Any shape.
    """
    content = pixel_values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    head = repr((tuple(pixel_values.shape), pixel_values.dtype)).encode()
    return hashlib.blake2b(head + content.tobytes(), digest_size=16).digest()
