"""From a recipe's numbers to the augmentation of training and the geometry of evaluation."""

from collections.abc import Sequence
from typing import Any

from transformers.utils import is_torchvision_available

from prolab_hf.data.sources import SegmentationSource
from prolab_hf.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EvalTransform,
    PhotometricDistortion,
    SegmentationDataset,
    TrainTransform,
)
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.image_processing_prolab import ProLabImageProcessor
from prolab_hf.training.recipe import TrainingRecipe


def train_dataset(
    source: SegmentationSource, recipe: TrainingRecipe, processor: Any | None = None
) -> SegmentationDataset:
    """Augmented training examples of a source.

    Args:
        source: Pictures and masks.
        recipe: Crop, scales, flip, color distortion, seed.
        processor: Its `image_mean` and `image_std` are used; ImageNet's without one.

    Returns:
        A data set of `pixel_values` `(3, crop height, crop width)` and `labels` `(crop height, crop width)`.
    """
    mean, std = image_statistics(processor)
    transform = TrainTransform(
        recipe.crop_height_width,
        scale=recipe.base_scale,
        ratio_range=recipe.scale_range,
        cat_max_ratio=recipe.category_max_ratio,
        flip_probability=recipe.flip_probability,
        photometric=PhotometricDistortion() if recipe.photometric_distortion else None,
        mean=mean,
        std=std,
        ignore_index=source.ignore_index,
    )
    return SegmentationDataset(source, transform, seed=recipe.seed)


def eval_dataset(
    source: SegmentationSource, recipe: TrainingRecipe, processor: Any | None = None
) -> SegmentationDataset:
    """Test examples of a source; labels keep their own size, on which metrics are counted.

    Args:
        source: Pictures and masks.
        recipe: Test scale and size multiple.
        processor: Its `image_mean` and `image_std` are used; ImageNet's without one.
    """
    mean, std = image_statistics(processor)
    divisor = recipe.test_size_multiple if recipe.test_size_multiple > 1 else None
    transform = EvalTransform(scale=recipe.test_scale, size_divisor=divisor, mean=mean, std=std)
    return SegmentationDataset(source, transform, seed=recipe.seed)


def image_processor(recipe: TrainingRecipe, config: ProLabConfig, **options: Any) -> Any:
    """The processor to export with a model: it prepares pictures as the recipe's evaluation does.

    Args:
        recipe: Test scale, size multiple and sliding window.
        config: Of the model; temperature and ignore index are taken from it.
        options: Further options of the processor (`image_mean`, `image_std`, ...).

    Returns:
        The torchvision processor where torchvision is installed, else the PIL one.
    """
    if recipe.test_scale is None:
        geometry: dict[str, Any] = {"do_resize": False}
    else:
        long, short = max(recipe.test_scale), min(recipe.test_scale)
        divisor = recipe.test_size_multiple if recipe.test_size_multiple > 1 else None
        geometry = {"size": {"shortest_edge": short, "longest_edge": long}, "size_divisor": divisor}
    if recipe.test_mode == "slide":
        geometry |= {"window_size": recipe.test_crop_size, "window_stride": recipe.test_stride}
    processor_class = ProLabImageProcessor if is_torchvision_available() else ProLabImageProcessorPil
    return processor_class.from_model_config(config, **{**geometry, **options})


def image_statistics(processor: Any | None) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel that a processor normalizes with."""
    mean = getattr(processor, "image_mean", None) or IMAGENET_MEAN
    std = getattr(processor, "image_std", None) or IMAGENET_STD
    return tuple(mean), tuple(std)
