"""Image processor of ProLab on Pillow and numpy: for environments without torchvision."""

from typing import Any

import numpy as np
from torch import Tensor
from transformers.image_processing_backends import PilBackend

from .image_processing_shared_prolab import ProLabImageProcessorKwargs, ProLabImageProcessorMixin


class ProLabImageProcessorPil(ProLabImageProcessorMixin, PilBackend):  # type: ignore[misc]
    """Pre- and post-processing on Pillow and numpy; its options are those of `ProLabImageProcessorMixin`."""

    def _scale(self, image: np.ndarray, options: dict[str, Any]) -> np.ndarray:
        if options["do_rescale"]:
            image = self.rescale(image, options["rescale_factor"])
        if options["do_normalize"]:
            image = self.normalize(image, options["image_mean"], options["image_std"])
        return image

    def _to_backend(self, labels: list[Tensor], device: Any) -> list[np.ndarray]:
        return [label.numpy() for label in labels]


__all__ = ["ProLabImageProcessorKwargs", "ProLabImageProcessorPil"]
