"""Loading a trained segmentation network of any family, with the image processor that it was trained with."""

from __future__ import annotations

import copy
import logging
import re
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    PreTrainedModel,
)

from prolab_hf.evaluation.inference import is_processor
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.class_layer import MASK_CLASSIFIER

logger = logging.getLogger(__name__)

KEPT_OPTIONS = (
    "do_resize",
    "size",
    "resample",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)


def load_network(model: str | Path | PreTrainedModel) -> PreTrainedModel:
    """A network for semantic segmentation, from a folder or the Hub if it is not loaded yet.

    Args:
        model: Folder, Hub id or network.

    Raises:
        FileNotFoundError: There is neither such a folder nor such a model.
        ValueError: It is no network for semantic segmentation.
        TypeError: It is something else.
    """
    if isinstance(model, PreTrainedModel):
        _require_segmentation(type(model.config), type(model).__name__)
        return model
    if not isinstance(model, str | Path):
        raise TypeError(
            f"model is a {type(model).__name__}; give a network of transformers, a folder or a Hub id."
        )
    name = str(model)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise FileNotFoundError(
                f"The folder {name} has no config.json; MODEL is the folder of a saved network."
            )
    elif not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):
        raise FileNotFoundError(f"There is no model folder {name}.")
    try:
        config = AutoConfig.from_pretrained(name)
        _require_segmentation(type(config), f"{name} ({config.model_type})")
        return AutoModelForSemanticSegmentation.from_pretrained(name, dtype=torch.float32).eval()
    except OSError as error:
        if Path(name).is_dir():
            raise FileNotFoundError(f"The network in {name} cannot be loaded: {error}") from error
        raise FileNotFoundError(
            f"There is no model folder {name}, and no model of that name can be loaded from the Hub: {error}"
        ) from error


def _require_segmentation(config_class: type, what: str) -> None:
    if config_class in AutoModelForSemanticSegmentation._model_mapping:
        return
    if config_class in AutoModelForUniversalSegmentation._model_mapping:
        raise ValueError(f"{what} {MASK_CLASSIFIER}; adapt takes networks whose last layer is a convolution.")
    raise ValueError(f"{what} is no network for semantic segmentation that the Auto classes can load.")


def network_processor(
    network: PreTrainedModel, processor: ImageProcessor | str | Path | None = None
) -> ImageProcessor:
    """The image processor of a network, such that it covers the whole image and fits the segmentation pipeline.

    It is the network's own wherever that is possible. A processor of mask classifiers, which the pipeline would ask
    for panoptic maps, is exchanged for ProLab's with the same size, mean and deviation. Center crops are switched
    off, because a segmentation covers the image.

    Args:
        network: The network.
        processor: Its processor, a folder or a Hub id; `None` takes the one saved with the network.

    Raises:
        ValueError: None is given and none was saved with the network, or it is no image processor.
    """
    if processor is None or isinstance(processor, str | Path):
        name = str(processor or getattr(network.config, "_name_or_path", ""))
        try:
            found: Any = AutoImageProcessor.from_pretrained(name) if name else None
        except (OSError, ValueError) as error:
            raise ValueError(
                f"There is no image processor beside the network {name}; pass the one it was trained with as "
                "processor (--processor)."
            ) from error
        if found is None:
            raise ValueError(
                "The network does not say where it was loaded from; pass its image processor as processor."
            )
    else:
        found = processor
    if not is_processor(found):
        raise ValueError(
            f"processor is a {type(found).__name__}; give an image processor of transformers, which can be saved."
        )
    own: Any = copy.deepcopy(found)
    if hasattr(own, "post_process_panoptic_segmentation") or not hasattr(
        own, "post_process_semantic_segmentation"
    ):
        options = {name: getattr(own, name) for name in KEPT_OPTIONS if hasattr(own, name)}
        own = ProLabImageProcessorPil(
            **{k: v for k, v in options.items() if v is not None}, size_divisor=None
        )
    if getattr(own, "do_center_crop", False):
        logger.info(
            "The center crop of the image processor is switched off: a segmentation covers the whole image."
        )
        own.do_center_crop = False
    return cast(ImageProcessor, own)


__all__ = ["load_network", "network_processor"]
