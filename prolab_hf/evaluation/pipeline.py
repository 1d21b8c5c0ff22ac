"""transformers' pipeline "image-segmentation" with the geometry of this library.

The pipeline of transformers opens images itself: it drops transparency (what lies under it shows), cuts 16 bits to 8
and bands to three, and cannot batch images of different sizes. For our image processors this one leaves the reading to
the processor and runs images of a batch in groups of equal size. Models with other processors are served as before.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.pipelines.image_segmentation import ImageSegmentationPipeline
from transformers.utils import ModelOutput

from prolab_hf.data.image_files import image_size
from prolab_hf.evaluation.inference import ImageLike, as_image
from prolab_hf.model.image_processing_shared_prolab import ProLabImageProcessorMixin


class ProLabImageSegmentationPipeline(ImageSegmentationPipeline):
    """Labels and masks of images: paths, PIL images or arrays; URLs as transformers reads them."""

    def preprocess(  # type: ignore[override]  # as that of the base, whose own base says less
        self, image: ImageLike, subtask: str | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Pixel values of an image, and its size."""
        is_remote = isinstance(image, str) and image.startswith(("http://", "https://", "data:"))
        if not isinstance(self.image_processor, ProLabImageProcessorMixin) or is_remote:
            return super().preprocess(image, subtask=subtask, timeout=timeout)
        upright = as_image(image, self.image_processor)
        width, height = image_size(upright)
        values = self.image_processor(images=upright, return_tensors="pt")["pixel_values"].to(self.dtype)
        # In a list: transformers would try to join the tensors of a batch, whatever their sizes.
        return {"pixel_values": [values], "target_size": [(height, width)]}

    def _forward(  # type: ignore[override]  # as that of the base, whose own base says more
        self, model_inputs: dict[str, Any]
    ) -> ModelOutput:
        values = model_inputs["pixel_values"]
        if isinstance(values, Tensor):
            return super()._forward(model_inputs)
        images: list[Tensor] = [item[0] if isinstance(item, list) else item for item in values]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, item in enumerate(images):
            by_size.setdefault(tuple(item.shape[1:]), []).append(index)
        logits: list[Tensor] = [torch.empty(0)] * len(images)
        for indices in by_size.values():
            found = self.model(pixel_values=torch.cat([images[index] for index in indices])).logits
            for row, index in enumerate(indices):
                logits[index] = found[row]
        single = not isinstance(values[0], list)
        found_logits = logits[0][None] if single else logits
        return ModelOutput({"logits": found_logits, "target_size": model_inputs["target_size"]})
