"""Measuring a model on a data source: the one evaluation loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from prolab_hf.data.image_files import image_size
from prolab_hf.data.label_checks import check_label_counts
from prolab_hf.evaluation.metrics import ClassAverage, SegmentationCounts
from prolab_hf.evaluation.settings import InferenceOptions, InferenceSettings
from prolab_hf.evaluation.sliding_window import (
    LogitsFunction,
)
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.progress import progress

if TYPE_CHECKING:
    from accelerate import Accelerator

from prolab_hf.evaluation.inference import (
    Run,
    as_image,
    class_names_of,
    inference_state,
    logits_function,
    predict,
)

logger = logging.getLogger(__name__)


def evaluate_model(
    model: nn.Module,
    processor: Any,
    source: Any,
    *,
    boundary_ratio: float | None = None,
    average: ClassAverage = "union",
    num_workers: int = 0,
    accelerator: Accelerator | None = None,
    show_progress_bar: bool = False,
    **options: Unpack[InferenceOptions],
) -> dict[str, Any]:
    """Segment every image of a source at its own size and compare with its labels.

    Counts are held, not predictions: memory does not grow with the number of images.

    Args:
        model: A segmentation model with `logits`.
        processor: Its image processor, or an evaluation transform of `prolab_hf.data`.
        source: Anything with `len()` and `[i]` that gives a `Sample` or a pair `(image, mask)`, masks being
            class ids `(height, width)`.
        boundary_ratio: Width of the boundary band (0.02 in the paper) if boundary IoU is wanted.
        average: Classes over which means are taken (see `SegmentationCounts.scores`).
        num_workers: Processes that read and prepare images beside the model.
        accelerator: Run of `accelerate`: every process takes its part of the images, all get the sums.
        show_progress_bar: Whether a bar over the images is shown.
        **options: `mode`, `crop_size`, `stride`, `flip`, `scales`, `batch_size`, `resize_twice`: see
            `InferenceSettings`.

    Returns:
        `SegmentationScores.to_dict()` with the model's class names, and `seconds`, `inference` (the options),
        `label_warning` (why the labels measure nothing, else `None`).

    Raises:
        ValueError: If the source is empty, its classes are not the model's, or no pixel has a label.
    """
    settings = InferenceSettings(**options)
    names = class_names_of(model)
    _check_classes(names, getattr(source, "class_names", None))
    if len(source) == 0:
        raise ValueError("The source holds no images; check the folder and the split.")
    counts = SegmentationCounts(
        len(names), ignore_index=_ignore_index(model, source), boundary_ratio=boundary_ratio
    )
    rank, world = (
        (accelerator.process_index, accelerator.num_processes) if accelerator is not None else (0, 1)
    )
    prepared = _PreparedImages(source, processor, settings.scales, range(rank, len(source), world))
    loader = DataLoader(prepared, batch_size=settings.batch_size, num_workers=num_workers, collate_fn=list)
    started = time.perf_counter()
    show = show_progress_bar and (accelerator is None or accelerator.is_main_process)
    with inference_state(model), progress(show, "evaluating", len(prepared)) as bar:
        function = logits_function(model)
        for batch in loader:
            _count_images(function, batch, settings, counts)
            bar.advance(len(batch))
    if accelerator is not None:
        counts = counts.reduce(accelerator)
    if counts.confusion.sum() == 0:
        raise ValueError(
            f"None of the {counts.num_images} images has a labeled pixel; "
            "check the label coding of the masks."
        )
    # Labels of one class make whatever says so everywhere perfect: the scores below would look like success.
    suspicion = check_label_counts(counts.confusion.sum(1).tolist(), 0, class_names=names).error
    if suspicion is not None:
        logger.warning("The labels of these images measure nothing. %s", suspicion)
    results = counts.scores(average=average).to_dict(names)
    return {
        **results,
        "label_warning": suspicion,
        "seconds": time.perf_counter() - started,
        "inference": settings.to_dict(processor),
    }


@dataclass
class _Prepared:
    """An image ready for the model, with its labels."""

    runs: list[Run]
    mask: np.ndarray


class _PreparedImages(Dataset[_Prepared]):
    """Reads and prepares images, in worker processes if there are any."""

    def __init__(self, source: Any, processor: Any, scales: Sequence[float], indices: Sequence[int]) -> None:
        self.source = source
        self.processor = processor
        self.scales = scales
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> _Prepared:
        sample = self.source[self.indices[index]]
        image, mask = sample if isinstance(sample, tuple) else (sample.image, sample.mask)
        upright = as_image(image, self.processor)
        mask = np.asarray(mask)
        width, height = image_size(upright)
        if mask.shape != (height, width):
            name = getattr(sample, "name", f"number {self.indices[index]}")
            raise ValueError(
                f"The labels of image {name} have shape {mask.shape}, the image is {height} high "
                f"and {width} wide; they must agree."
            )
        return _Prepared([Run(upright, self.processor, scale) for scale in self.scales], mask)


def _count_images(
    function: LogitsFunction,
    batch: Sequence[_Prepared],
    settings: InferenceSettings,
    counts: SegmentationCounts,
) -> None:
    if not settings.is_plain:
        for item in batch:
            labels, _ = predict(function, item.runs, _size(item.mask), settings)
            counts.update(labels, torch.from_numpy(item.mask))
        return
    by_size: dict[tuple[int, int], list[_Prepared]] = {}
    for item in batch:
        by_size.setdefault(_size(item.runs[0].pixel_values), []).append(item)
    for items in by_size.values():
        logits = function(torch.cat([item.runs[0].pixel_values for item in items]))
        for row, item in enumerate(items):
            counts.update(
                resize_argmax(logits[row : row + 1], _size(item.mask))[0], torch.from_numpy(item.mask)
            )


def _size(array: np.ndarray | Tensor) -> tuple[int, int]:
    return int(array.shape[-2]), int(array.shape[-1])


def _ignore_index(model: nn.Module, source: Any) -> int:
    config = getattr(getattr(model, "module", model), "config", None)
    return getattr(source, "ignore_index", getattr(config, "semantic_loss_ignore_index", 255))


def _check_classes(model_names: Sequence[str], source_names: Sequence[str] | None) -> None:
    """The ids of a data set must mean what they mean to the model; the model may know more classes."""
    if source_names is None:
        return
    if len(source_names) > len(model_names):
        raise ValueError(
            f"The data set has {len(source_names)} classes, the model {len(model_names)}; "
            f"unknown to the model are {', '.join(sorted(set(source_names) - set(model_names))[:5])}."
        )
    renamed = {s: m for s, m in zip(source_names, model_names) if s != m}
    moved = [name for name in renamed if name in model_names]
    if moved:
        there, here = list(source_names).index(moved[0]), list(model_names).index(moved[0])
        raise ValueError(
            f"The data set and the model number their classes differently: {moved[0]!r} is number {there} in "
            f"the data set and {here} in the model. Give the data set the model's order by a label table."
        )
    if renamed:
        logger.warning("Some classes have other names in the data set than in the model: %s", renamed)
