"""Image processor of ProLab on torchvision: tensors, on any device."""

from typing import Any

from torch import Tensor
from transformers.image_processing_backends import TorchvisionBackend
from transformers.utils import requires_backends

from .image_processing_shared_prolab import ProLabImageProcessorKwargs, ProLabImageProcessorMixin


class ProLabImageProcessor(ProLabImageProcessorMixin, TorchvisionBackend):  # type: ignore[misc]
    """Pre- and post-processing on torchvision; its options are those of `ProLabImageProcessorMixin`."""

    def __init__(self, **kwargs: Any) -> None:
        # transformers' own check runs when the class is called through its lazy modules only.
        requires_backends(self, ["torch", "torchvision"])
        super().__init__(**kwargs)

    def _scale(self, image: Tensor, options: dict[str, Any]) -> Tensor:
        names = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
        return self.rescale_and_normalize(image, **{name: options[name] for name in names})


__all__ = ["ProLabImageProcessor", "ProLabImageProcessorKwargs"]
