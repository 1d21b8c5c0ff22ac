"""Labeled images of a data set, one after the other, with the property maps of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from prolab_hf.evaluation.evaluate import as_sample, check_classes
from prolab_hf.evaluation.inference import InferenceOptions, class_names_of
from prolab_hf.explanation.property_maps import PropertyMaps, network_of
from prolab_hf.progress import progress
from prolab_hf.protocols import ImageMaskPairs, ImageProcessor

VOID = -1
"""Class id of pixels without a label."""


@dataclass(frozen=True)
class LabeledImage:
    """An image of a data set.

    Attributes:
        maps: Its property maps.
        mask: Class ids, int64 `(height, width)`, -1 where there is no label.
        name: Name in the data set.
    """

    maps: PropertyMaps
    mask: Tensor
    name: str


def labeled_images(
    model: nn.Module,
    processor: ImageProcessor,
    dataset: ImageMaskPairs,
    *,
    max_images: int | None = None,
    show_progress: bool = False,
    description: str = "explaining",
    **options: Unpack[InferenceOptions],
) -> Iterator[LabeledImage]:
    """Images of a data set with their labels; only one is held at a time.

    Args:
        model: A `ProLabForSemanticSegmentation`.
        processor: Its image processor.
        dataset: Anything with `len()` and `[i]` that gives a `Sample` or a pair `(image, mask)`, as for `evaluate`.
        max_images: Look at this many images, evenly spread over the data set; `None` for all.
        show_progress: Whether a bar over the images is shown.
        description: In front of the bar.
        **options: As for `segment`.

    Raises:
        ValueError: The data set is empty, its classes are not the model's, or an image or label cannot be used.
    """
    names = class_names_of(network_of(model))
    check_classes(names, getattr(dataset, "class_names", None))
    if len(dataset) == 0:
        raise ValueError("The data set holds no images; check the folder and the split.")
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images is {max_images}; it must be at least 1, or None for all images.")
    number = len(dataset) if max_images is None else min(max_images, len(dataset))
    ignore = getattr(dataset, "ignore_index", None)
    ignore = network_of(model).config.semantic_loss_ignore_index if ignore is None else ignore
    with progress(show_progress, description, number) as bar:
        for position in range(number):
            index = position * len(dataset) // number
            sample = as_sample(dataset[index], index, processor)
            mask = torch.from_numpy(sample.mask.astype("int64"))
            mask = torch.where((mask == ignore) | (mask == -100), VOID, mask)
            if int(mask.max()) >= len(names) or int(mask.min()) < VOID:
                wrong = mask[(mask >= len(names)) | (mask < VOID)].unique().tolist()
                raise ValueError(
                    f"The labels of image {sample.name} hold the ids {wrong[:5]}, the model's classes are 0 to "
                    f"{len(names) - 1}; check the label coding."
                )
            yield LabeledImage(PropertyMaps(model, processor, sample.image, **options), mask, sample.name)
            bar.advance()
