"""From a recipe to the network, the augmentation of training and the image processor."""

import copy
import importlib
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, PreTrainedConfig
from transformers.utils import is_timm_available, is_torchvision_available

from prolab_hf.data.image_files import SegmentationSource
from prolab_hf.data.rare_crops import RareCrops
from prolab_hf.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Example,
    PhotometricDistortion,
    SegmentationDataset,
    TrainTransform,
)
from prolab_hf.evaluation.evaluate import count_dataset
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.image_conversion_prolab import StandardImage
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.image_processing_prolab import ProLabImageProcessor
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.progress import without_foreign_bars
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor
from prolab_hf.training.data_loading import TrainingExamples
from prolab_hf.training.export import export_into
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.training_loop import TrainingLoop, evaluation_settings
from prolab_hf.training.training_state import RunStorage

logger = logging.getLogger(__name__)


SOLVING = "prolab_hf.solving.solve"
DEFAULT_BACKBONE = "facebook/convnext-tiny-224"
# Shapes of the published backbones, so that a plan needs no network.
_BEIT_LARGE: dict[str, Any] = {
    "model_type": "beit",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "use_relative_position_bias": True,
}
_VIT_SHAPES: dict[str, dict[str, Any]] = {
    "facebook/deit-base-patch16-224": {"model_type": "vit"},
    "microsoft/beit-large-patch16-224-pt22k-ft22k": _BEIT_LARGE,
    "timm/beitv2_large_patch16_224.in1k_ft_in22k": _BEIT_LARGE,
}


def build_model(
    recipe: TrainingRecipe,
    space: PropertySpace,
    *,
    backbone: str | Path | PreTrainedConfig | None = None,
    pretrained: bool = True,
) -> ProLabForSemanticSegmentation:
    """The network of a recipe for the classes of a space.

    Args:
        recipe: Decoder, supervision, backbone.
        space: The property space.
        backbone: Instead of the recipe's: Hub id, folder, timm name or configuration.
        pretrained: Load the backbone's weights; `False` gives random ones and needs no network.

    Raises:
        ValueError: The recipe names no backbone and none was given, or the backbone cannot be built.
    """
    source = backbone if backbone is not None else recipe.model.backbone
    if source is None:
        raise ValueError(
            f"The recipe {recipe.name or '(unnamed)'!r} names no backbone; give one: a timm network, a "
            f"folder or a Hub id such as {DEFAULT_BACKBONE!r}."
        )
    with without_foreign_bars():
        if recipe.model.vit_adapter:
            source = _vit_adapter(recipe, source, pretrained=pretrained)
        torch.manual_seed(recipe.seed)
        return ProLabForSemanticSegmentation.from_backbone(
            source, space, pretrained=pretrained, **recipe.config
        )


def backbone_statistics(
    recipe: TrainingRecipe, backbone: str | Path | PreTrainedConfig | None = None
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel that a backbone was pretrained with.

    Args:
        recipe: Where it names them, these are used.
        backbone: Instead of the recipe's.

    Returns:
        Mean and standard deviation; ImageNet's where nothing is known.
    """
    source = backbone if backbone is not None else recipe.model.backbone
    mean, std = recipe.data.image_mean, recipe.data.image_std
    found: Any = None
    if (mean is None or std is None) and isinstance(source, str | Path):
        found = _timm_statistics(str(source)) or _processor_statistics(str(source))
    if found is None:
        found = IMAGENET_MEAN, IMAGENET_STD
    return mean or found[0], std or found[1]


def _timm_statistics(name: str) -> Any:
    if not is_timm_available():
        return None
    import timm

    name = name.removeprefix("timm/")
    if not timm.is_model(name):
        return None
    entry = timm.get_pretrained_cfg(name)
    return None if entry is None else (entry.mean, entry.std)


def _processor_statistics(name: str) -> Any:
    try:
        processor = AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError):
        logger.warning("%s has no image processor: images are normalized as ImageNet's.", name)
        return None
    return processor.image_mean, processor.image_std


def _vit_adapter(recipe: TrainingRecipe, source: object, *, pretrained: bool) -> Any:
    """A ViT-Adapter around a plain vision transformer: a module with weights, or its configuration."""
    from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig
    from prolab_hf.model.modeling_vit_adapter import ViTAdapterBackbone

    config: Any = (
        source if isinstance(source, PreTrainedConfig) else _vit_config(str(source), local=not pretrained)
    )
    if recipe.model.backbone_image_size is not None and not pretrained:
        config.image_size = recipe.model.backbone_image_size
    is_beit = config.model_type == "beit"
    fields: dict[str, Any] = {"drop_path_rate": recipe.model.drop_path or 0.0, "use_layer_scale": not is_beit}
    if is_beit:
        fields["init_values"] = 1e-6
    if not pretrained or isinstance(source, PreTrainedConfig):
        return ViTAdapterConfig(vit_config=config, **fields)
    return ViTAdapterBackbone.from_vit(str(source), **fields)


def _vit_config(name: str, *, local: bool) -> PreTrainedConfig:
    if name in _VIT_SHAPES and local:
        return AutoConfig.for_model(**_VIT_SHAPES[name])
    return AutoConfig.from_pretrained(name)


def training_transform(
    recipe: TrainingRecipe,
    processor: ImageProcessor | None = None,
    *,
    ignore_index: int = 255,
    rare_crops: RareCrops | None = None,
) -> TrainTransform:
    """The augmentation that a recipe describes.

    Args:
        recipe: Crop, scales, flip, color distortion.
        processor: Its `image_mean` and `image_std` are used; ImageNet's without one.
        ignore_index: Label of void pixels and of those that padding adds.
        rare_crops: Of `balance.rare_class_crops`, which needs counts of the training set.
    """
    mean, std = image_statistics(processor)
    data = recipe.data
    return TrainTransform(
        recipe.crop_height_width,
        scale=data.base_scale,
        ratio_range=data.scale_range,
        cat_max_ratio=data.category_max_ratio,
        flip_probability=data.flip_probability,
        photometric=PhotometricDistortion() if data.photometric_distortion else None,
        mean=mean,
        std=std,
        ignore_index=ignore_index,
        value_range=getattr(processor, "value_range", None),
        rare_crops=rare_crops,
    )


def training_examples(
    model: nn.Module,
    dataset: ImageMaskPairs | Examples,
    recipe: TrainingRecipe,
    processor: ImageProcessor | None,
    rare_crops: RareCrops | None,
    *,
    skip_broken: bool,
) -> TrainingExamples:
    """Examples of a run, augmented as its recipe says.

    Args:
        model: Its ignore index is read.
        dataset: Gives samples, pairs (image, mask), or tensors that are taken as they are.
        recipe: Crop, scales, flip, color distortion, seed.
        processor: Its statistics are used; `None` where the data set gives tensors.
        rare_crops: Of the run's balance of classes.
        skip_broken: Take the next image instead of one that cannot be decoded.
    """
    transform: TrainTransform | None = None
    if processor is not None:
        ignore_index = getattr(model.config, "semantic_loss_ignore_index", 255)
        transform = training_transform(recipe, processor, ignore_index=ignore_index, rare_crops=rare_crops)
    return TrainingExamples(dataset, transform, seed=recipe.seed, skip_broken=skip_broken)


def train_dataset(
    source: SegmentationSource, recipe: TrainingRecipe, processor: ImageProcessor | None = None
) -> SegmentationDataset:
    """Augmented training examples of a source, for loops of your own; `train` takes the source itself.

    Args:
        source: Images and masks.
        recipe: Crop, scales, flip, color distortion, seed.
        processor: Its `image_mean` and `image_std` are used; ImageNet's without one.

    Returns:
        A data set of `pixel_values` `(3, crop height, crop width)` and `labels` `(crop height, crop width)`.
    """
    transform = training_transform(recipe, processor, ignore_index=source.ignore_index)
    return SegmentationDataset(source, transform, seed=recipe.seed)


def eval_dataset(source: SegmentationSource, processor: ImageProcessor) -> SegmentationDataset:
    """Test examples of a source for `transformers.Trainer`, prepared by the model's own image processor.

    Args:
        source: Images and masks.
        processor: The image processor.

    Returns:
        A data set of `pixel_values` and `labels`, which keep the image's own size.
    """
    return SegmentationDataset(source, ProcessorTransform(processor))


class ProcessorTransform:
    """An image processor as a transform: labels keep their own size, on which metrics are counted.

    Args:
        processor: The image processor.
    """

    def __init__(self, processor: ImageProcessor) -> None:
        self.processor = processor

    def __call__(
        self, image: StandardImage, mask: NDArray[np.int32], rng: np.random.Generator | None = None
    ) -> Example:
        """Prepares one image; `rng` is not used.

        Returns:
            `pixel_values` `(num_channels, new height, new width)` and `labels` int64 `(height, width)`.
        """
        pixel_values = self.processor(images=image, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixel_values, "labels": torch.from_numpy(mask.astype(np.int64))}


def image_processor(recipe: TrainingRecipe, config: ProLabConfig, **options: Any) -> ImageProcessor:
    """The processor of a model: it prepares images, in evaluation and for whoever loads the model.

    Args:
        recipe: Scale, size divisor and sliding window of its evaluation.
        config: Of the model; temperature and ignore index are taken from it.
        options: Further options of the processor (`image_mean`, `image_std`, ...).

    Returns:
        The torchvision processor where torchvision is installed, else the PIL one.
    """
    evaluation = recipe.evaluation
    if evaluation.scale is None:
        geometry: dict[str, Any] = {"do_resize": False}
    else:
        long, short = max(evaluation.scale), min(evaluation.scale)
        divisor = evaluation.size_divisor if evaluation.size_divisor > 1 else None
        geometry = {"size": {"shortest_edge": short, "longest_edge": long}, "size_divisor": divisor}
    if evaluation.mode == "slide":
        geometry |= {"crop_size": evaluation.crop_size, "stride": evaluation.stride}
    processor_class = ProLabImageProcessor if is_torchvision_available() else ProLabImageProcessorPil
    return processor_class.from_model_config(config, **{**geometry, **options})


def default_processor(recipe: TrainingRecipe, model: nn.Module) -> ImageProcessor:
    """The image processor that a recipe describes, for a model of ours.

    Raises:
        ValueError: The model is another one, whose processor cannot be guessed.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "temperature"):
        raise ValueError(
            f"The data set gives images, and a {type(model).__name__} needs its own image processor for them; pass "
            "processor."
        )
    mean, std = backbone_statistics(recipe)
    return image_processor(recipe, config, image_mean=list(mean), image_std=list(std))


def image_statistics(processor: ImageProcessor | None) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel that a processor normalizes with."""
    mean = getattr(processor, "image_mean", None) or IMAGENET_MEAN
    std = getattr(processor, "image_std", None) or IMAGENET_STD
    return tuple(mean), tuple(std)


# ---- the last layer in closed form -------------------------------------------------------------------------


def solve_before_training(
    model: nn.Module,
    dataset: ImageMaskPairs | Examples,
    processor: ImageProcessor | None,
    accelerator: Accelerator,
) -> None:
    """Puts the last layer of the model at its closed-form solution (`closed_form.init = "solve"`).

    Args:
        model: Changed in place.
        dataset: The training images, without augmentation.
        processor: The image processor.
        accelerator: Of the run; every process takes its part of the images.
    """
    solving = _solving("init", processor)
    if solving is not None:
        model.to(accelerator.device)
        solving.start_at_solution(model, dataset, processor, accelerator=accelerator)


def solve_after_training(
    loop: TrainingLoop,
    train_dataset: ImageMaskPairs | Examples,
    eval_dataset: ImageMaskPairs | Examples | None,
) -> float | None:
    """Solves the last layer anew on the trained features and exports the result where it scores higher.

    Nothing happens where the recipe does not ask for it (`closed_form.finish`).

    Args:
        loop: The finished run, whose model holds the exported weights.
        train_dataset: The training images, without augmentation.
        eval_dataset: Images that decide; without them the model stays as it was trained.

    Returns:
        Mean IoU of the solved model where it was kept.
    """
    if loop.recipe.closed_form.finish is None or eval_dataset is None:
        return None
    storage, processor = loop.storage, loop.storage.processor
    by_number = processor is not None and hasattr(train_dataset, "__len__")
    if loop.recipe.closed_form.finish == "auto" and not by_number:
        return None
    if loop.recipe.peft.method:
        if loop.recipe.closed_form.finish == "solve":
            logger.warning(
                "closed_form.finish is 'solve', but a model with adapters is not solved: it stays."
            )
        return None
    solving = _solving("finish", processor)
    if solving is None:
        return None

    def measure(candidate: nn.Module) -> float:
        counts, _ = count_dataset(
            candidate,
            processor,
            eval_dataset,
            evaluation_settings(loop.recipe),
            accelerator=_several(storage),
        )
        return counts.scores().mean_iou

    model = loop.state.plain_model
    try:
        found = solving.finish_by_solving(
            model,
            train_dataset,
            processor,
            measure,
            calibration=eval_dataset,
            accelerator=storage.accelerator,
            unspoken_layer=loop.recipe.closed_form.unspoken_layer,
        )
    except ValueError as error:  # too few pixels, one class only: no reason to lose a run that is done
        if loop.recipe.closed_form.finish == "solve":
            raise
        logger.warning("The last layer was not solved at the end of the run (closed_form.finish): %s", error)
        return None
    loop.reporter.tell("solution", loop.progress.step, chosen=found.chosen, mean_iou=found.mean_iou)
    if processor is not None and found.chosen != "trained" and hasattr(processor, "temperature"):
        processor = copy.copy(processor)
        processor.temperature = found.model.config.temperature  # of the scores that are shown
    if storage.accelerator.is_main_process:  # a trained model that stays has a calibration sample now
        solved = RunStorage(storage.output_dir, found.model, processor, storage.accelerator, storage.keep)
        export_into(storage.output_dir, solved.write_model)
    return None if found.chosen == "trained" else float(found.mean_iou[found.chosen])


def _several(storage: RunStorage) -> Accelerator | None:
    return storage.accelerator if storage.accelerator.num_processes > 1 else None


def _solving(field: str, processor: ImageProcessor | None) -> ModuleType | Any:
    """The room that solves; `None`, with a warning, where it or the images are missing."""
    reason = "the data set gives tensors instead of images" if processor is None else ""
    if importlib.util.find_spec("prolab_hf.solving") is None:
        reason = "this version of prolab_hf cannot solve"
    if reason:
        logger.warning("closed_form.%s is 'solve', but %s: the run goes on without.", field, reason)
        return None
    return importlib.import_module(SOLVING)
