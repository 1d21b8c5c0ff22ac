"""A model that runs its network once per picture, so that looking closer costs no second forward pass."""

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation, ProLabSemanticSegmenterOutput

MAX_REMEMBERED_BYTES = 256 * 2**20
"""Of property logits; those of the newest picture are kept whatever their size."""


class RememberingModel(nn.Module):
    """Stands for a ProLab model in `segment` and `explain`, and remembers the property logits of pictures.

    Property logits do not depend on the classes: a class that is added or removed afterwards is compared with
    them anew, by the model's own `class_logits`.

    Args:
        model: The model, which keeps its classes and properties. Its weights and property embeddings must not
            change from here on.
        max_pictures: Pictures to remember, at least 1.

    Raises:
        ValueError: If the model has no properties.
    """

    def __init__(self, model: nn.Module, max_pictures: int) -> None:
        super().__init__()
        if not isinstance(model, ProLabForSemanticSegmentation):
            raise ValueError(
                f"{type(model).__name__} has no properties to show; the demo needs a ProLab model "
                "(prolab train, prolab quickstart or prolab convert make one)."
            )
        self.model = model
        self.training = model.training  # `inference_state` gives this mode back to all that is inside
        self.max_pictures = max_pictures
        self._remembered: OrderedDict[bytes, Tensor] = OrderedDict()

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @property
    def class_property_matrix(self) -> Tensor:
        """The model's class rows, `(num_classes, num_properties)`."""
        return self.model.class_property_matrix

    def property_scores(self, property_logits: Tensor) -> Tensor:
        """See `ProLabForSemanticSegmentation.property_scores`."""
        return self.model.property_scores(property_logits)

    def forward(self, pixel_values: Tensor) -> ProLabSemanticSegmenterOutput:
        """Class and property logits of prepared pictures.

        Args:
            pixel_values: `(batch_size, 3, height, width)`.
        """
        if self.config.similarity == "linear_cosine":
            return self.model(
                pixel_values=pixel_values
            )  # its property logits change with the words of the classes
        content = pixel_values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        key = hashlib.sha256(repr(tuple(pixel_values.shape)).encode() + content.tobytes()).digest()
        logits = self._remembered.pop(key, None)
        if logits is None:
            logits = self.model(pixel_values=pixel_values).property_logits
        self._remembered[key] = logits
        self._forget()
        return ProLabSemanticSegmenterOutput(logits=self.model.class_logits(logits), property_logits=logits)

    def _forget(self) -> None:
        def size() -> int:
            return sum(logits.nbytes for logits in self._remembered.values())

        while len(self._remembered) > 1 and (
            len(self._remembered) > self.max_pictures or size() > MAX_REMEMBERED_BYTES
        ):
            self._remembered.popitem(last=False)


__all__ = ["RememberingModel"]
