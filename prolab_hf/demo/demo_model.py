"""What all visitors of the demo share of a model: its weights, its text encoder, what it said about images."""

from __future__ import annotations

from torch import Tensor, nn

from prolab_hf.demo.gallery import GalleryImage
from prolab_hf.editing.editable_model import EditableModel
from prolab_hf.editing.encoder_on_hand import EncoderOnHand
from prolab_hf.editing.response_cache import ResponseCache
from prolab_hf.evaluation.inference import prepare
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.protocols import ImageProcessor

MAX_CACHED_BYTES = 512 * 2**20
"""Of what the network said about images, of all visitors together."""


class DemoModel:
    """What all visitors share of a model.

    Args:
        model: A `ProLabForSemanticSegmentation`. It stays as it is.
        processor: Its image processor.
        name: What the page calls it.
        encoder: Text encoder of its property space, in any form that `TextEncoder.load` takes. By default the
            one that the space names, if it is in the local cache. Nothing is downloaded.

    Raises:
        ValueError: If the model is no ProLab model or has no classes.
        FileNotFoundError: If the text encoder is not on this machine.
    """

    def __init__(
        self, model: nn.Module, processor: ImageProcessor, *, name: str = "", encoder: object = None
    ) -> None:
        if not isinstance(model, ProLabForSemanticSegmentation):
            raise ValueError(
                f"{type(model).__name__} has no properties to show; the demo needs a ProLab model "
                "(prolab train, prolab quickstart or prolab convert make one)."
            )
        try:
            self.space: PropertySpace = model.property_space
        except RuntimeError as error:
            raise ValueError(f"The model has no classes to show: {error}") from error
        # What the network says about an image is kept once, for all visitors.
        self.model = EditableModel.sharing_weights(model, ResponseCache(MAX_CACHED_BYTES))
        self.processor = processor
        self.name = name or "model"
        solved = model.config.similarity == "linear_cosine"
        self.encoder = EncoderOnHand(encoder, self.space, may_be_absent=solved)
        if encoder is not None:
            self.encoder.loaded()  # said now if it is not there
        self._prepared: tuple[str, Tensor] | None = None

    def prepared(self, image: GalleryImage) -> Tensor:
        """Pixel values `(1, num_channels, height, width)` of an image as it is shown; those of the last one are kept.

        Args:
            image: The image.
        """
        if self._prepared is None or self._prepared[0] != image.key:
            self._prepared = image.key, prepare(self.processor, image.image)
        return self._prepared[1]


__all__ = ["DemoModel"]
