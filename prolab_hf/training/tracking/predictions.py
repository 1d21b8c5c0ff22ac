"""What trackers are shown at an evaluation: some images with their labels and with what the model makes of them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from prolab_hf.data.image_files import BrokenImageError
from prolab_hf.evaluation.evaluate import as_sample
from prolab_hf.evaluation.inference import inference_state, model_output, segment
from prolab_hf.evaluation.settings import InferenceSettings
from prolab_hf.evaluation.views.class_colors import class_pixels
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor

NUM_IMAGES = 4
LONG_SIDE = 512
Pixels = NDArray[np.uint8]


def prediction_images(
    model: nn.Module,
    processor: ImageProcessor | None,
    dataset: ImageMaskPairs | Examples,
    settings: InferenceSettings,
    *,
    number: int = NUM_IMAGES,
) -> list[Image.Image]:
    """Image, labels and prediction side by side, for some evenly spaced images of a data set.

    Args:
        model: The model, whole.
        processor: Its image processor; not needed where the data set gives tensors.
        dataset: Images and masks, or tensors.
        settings: How images are run through the model.
        number: How many at most.

    Returns:
        RGB images three times as wide as the data set's (at most 512 pixels each side); an image that cannot be
        decoded is left out.
    """
    wanted = min(number, len(dataset))
    shown = []
    for index in (place * len(dataset) // wanted for place in range(wanted)):
        item: Any = dataset[index] if _is_readable(dataset, index) else None
        if item is None:
            continue
        if hasattr(item, "keys"):
            image, mask, labels = _of_tensors(model, item)
        else:
            sample = as_sample(item, index, processor)
            image, mask = _pixels(sample.image), sample.mask
            options = {"crop_size": settings.crop_size, "stride": settings.stride}
            window = options if settings.mode == "slide" else {}
            labels = np.asarray(
                segment(model, processor, sample.image, mode=settings.mode, **window).labels  # type: ignore[arg-type]
            )
        number_of_classes: int = model.config.num_labels  # type: ignore[union-attr,assignment]
        colored = [class_pixels(ids, number_of_classes) for ids in (mask, labels)]
        panel = Image.fromarray(np.concatenate([image, *colored], axis=1))
        panel.thumbnail((3 * LONG_SIDE, LONG_SIDE))
        shown.append(panel)
    return shown


def _is_readable(dataset: ImageMaskPairs | Examples, index: int) -> bool:
    try:
        dataset[index]
    except BrokenImageError:  # the evaluation names it
        return False
    return True


def _of_tensors(model: nn.Module, item: dict[str, Tensor]) -> tuple[Pixels, NDArray[Any], NDArray[Any]]:
    """Image, labels and prediction of tensors; the image is stretched to the whole range of brightness."""
    values, mask = item["pixel_values"], item["labels"].numpy()
    with inference_state(model):
        logits = model_output(model, values[None]).logits
    labels = resize_argmax(logits, (mask.shape[0], mask.shape[1]))[0].cpu().numpy()
    low, high = values.min(), values.max()
    stretched = (values - low) / (high - low).clamp_min(1e-6)
    resized = torch.nn.functional.interpolate(stretched[None], size=mask.shape)[0]
    return _pixels(resized.movedim(0, -1).numpy()), mask, labels


def _pixels(image: Image.Image | NDArray[Any]) -> Pixels:
    """`(height, width, 3)`; of images of other channels, the first three or one three times."""
    array = np.asarray(image)
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        array = ((array - low) * (255 / max(high - low, 1e-6))).astype(np.uint8)
    if array.ndim == 2 or array.shape[2] < 3:
        array = np.atleast_3d(array)[..., :1].repeat(3, axis=2)
    return array[..., :3]
