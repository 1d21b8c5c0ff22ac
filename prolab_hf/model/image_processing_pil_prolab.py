"""Image processor of ProLab on Pillow and numpy: for environments without torchvision."""

from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import SizeDict

from .image_processing_shared_prolab import ProLabImageProcessorKwargs, ProLabImageProcessorMixin


class ProLabImageProcessorPil(ProLabImageProcessorMixin, PilBackend):  # type: ignore[misc]
    """Pre- and post-processing on Pillow and numpy; its options are those of `ProLabImageProcessorMixin`."""

    def resize(  # type: ignore[override]
        self, image: np.ndarray, size: SizeDict, resample: Any = None, **kwargs: Any
    ) -> np.ndarray:
        """An image `(channels, height, width)` of another size; any number of channels, 8 bits or float."""
        if image.dtype == np.uint8 and image.shape[0] in (1, 3):
            return super().resize(image, size, resample=resample, **kwargs)
        target = (size.width or 1, size.height or 1)
        method = Image.Resampling.BILINEAR if resample is None else resample
        channels = [Image.fromarray(channel.astype(np.float32)).resize(target, method) for channel in image]
        resized = np.stack([np.asarray(channel) for channel in channels])
        return resized.round().clip(0, 255).astype(np.uint8) if image.dtype == np.uint8 else resized

    def _scale(self, image: np.ndarray, options: dict[str, Any]) -> np.ndarray:
        if not options["do_normalize"]:
            return self.rescale(image, options["rescale_factor"]) if options["do_rescale"] else image
        # In one step as torchvision's backend does, so that both give the same numbers.
        factor = np.float32(1 / options["rescale_factor"] if options["do_rescale"] else 1)
        mean, std = (
            np.broadcast_to(np.float32(options[name]) * factor, image.shape[:1])[:, None, None]
            for name in ("image_mean", "image_std")
        )
        return (image.astype(np.float32) - mean) / std

    def _to_backend_image(self, array: np.ndarray, device: Any) -> np.ndarray:
        return array

    def _to_backend(self, labels: list[Tensor], device: Any) -> list[np.ndarray]:
        return [label.numpy() for label in labels]


__all__ = ["ProLabImageProcessorKwargs", "ProLabImageProcessorPil"]
