"""Measuring a model on a data set: the one evaluation loop, of `prolab evaluate` and of training."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from prolab_hf.data.class_matching import renamed_classes
from prolab_hf.data.image_files import BrokenImageError, Sample, image_size
from prolab_hf.data.label_checks import check_label_counts
from prolab_hf.deprecation import renamed_argument
from prolab_hf.evaluation.inference import (
    Run,
    as_image,
    class_names_of,
    inference_state,
    logits_function,
    predict,
)
from prolab_hf.evaluation.metrics import ClassAverage, SegmentationCounts
from prolab_hf.evaluation.settings import InferenceOptions, InferenceSettings, recorded_mode
from prolab_hf.evaluation.sliding_window import LogitsFunction
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.progress import progress
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


@renamed_argument("show_progress_bar", "show_progress")
def evaluate(
    model: nn.Module,
    processor: ImageProcessor | None,
    dataset: ImageMaskPairs | Examples,
    *,
    boundary_ratio: float | None = None,
    average: ClassAverage = "union",
    num_workers: int = 0,
    accelerator: Accelerator | None = None,
    show_progress: bool = False,
    skip_broken: bool = False,
    **options: Unpack[InferenceOptions],
) -> dict[str, Any]:
    """Segment every image of a data set at its own size and compare with its labels.

    Counts are held, not predictions: memory does not grow with the number of images.

    Args:
        model: A segmentation model with `logits`.
        processor: Its image processor; not needed where the data set gives tensors.
        dataset: Anything with `len()` and `[i]` that gives a `Sample` or a pair `(image, mask)`, masks being
            class ids `(height, width)`. A mapping of `pixel_values` `(num_channels, height, width)` and `labels` is
            taken as it is.
        boundary_ratio: Width of the boundary band (0.02 in the paper) if boundary IoU is wanted.
        average: Classes over which means are taken (see `SegmentationCounts.scores`).
        num_workers: Processes that read and prepare images beside the model.
        accelerator: Run of `accelerate`: every process takes its part of the images, all get the sums.
        show_progress: Whether a bar over the images is shown.
        skip_broken: Leave out images that cannot be decoded, and list them in the result.
        **options: `mode`, `crop_size`, `stride`, `flip`, `scales`, `batch_size`, `resize_twice`: see
            `InferenceSettings`. Without a mode, that of the model's own evaluation, which the processor records.

    Returns:
        `mean_iou`, further means and `per_class` (a list of `{"name", "iou", ...}`), as
        `SegmentationScores.to_dict()` gives them with the model's class names; `seconds`, `inference` (the
        options), `label_warning` (why the labels measure nothing, else `None`), and `skipped` (names of images)
        with `skip_broken`.

    Raises:
        ValueError: If the data set is empty, its classes are not the model's, an image cannot be decoded, or no
            pixel has a label.
    """
    if "mode" not in options:
        options["mode"] = recorded_mode(processor)
    settings = InferenceSettings(**options)
    names = class_names_of(model)
    check_classes(names, getattr(dataset, "class_names", None))
    if len(dataset) == 0:
        raise ValueError("The data set holds no images; check the folder and the split.")
    started = time.perf_counter()
    show = show_progress and (accelerator is None or accelerator.is_main_process)
    with progress(show, "evaluating") as bar:

        def advance(done: int, total: int) -> None:
            bar.add_total(total - bar.total)
            bar.advance()

        counts, skipped = count_dataset(
            model,
            processor,
            dataset,
            settings,
            boundary_ratio=boundary_ratio,
            num_workers=num_workers,
            accelerator=accelerator,
            on_image=advance,
            skip_broken=skip_broken,
        )
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
    results |= {
        "label_warning": suspicion,
        "seconds": time.perf_counter() - started,
        "inference": settings.to_dict(processor),
    }
    return {**results, "skipped": skipped} if skip_broken else results


def evaluate_model(
    model: nn.Module,
    processor: ImageProcessor | None,
    source: ImageMaskPairs,
    *,
    show_progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """The former name of `evaluate`; `show_progress_bar` is called `show_progress` there."""
    warnings.warn(
        "evaluate_model is called evaluate now, and its show_progress_bar show_progress.",
        DeprecationWarning,
        stacklevel=2,
    )
    return evaluate(model, processor, source, **{"show_progress": show_progress, **options})


def count_dataset(
    model: nn.Module,
    processor: ImageProcessor | None,
    dataset: ImageMaskPairs | Examples,
    settings: InferenceSettings,
    *,
    boundary_ratio: float | None = None,
    num_workers: int = 0,
    accelerator: Accelerator | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    skip_broken: bool = False,
) -> tuple[SegmentationCounts, list[str]]:
    """The loop behind `evaluate`: counts over a data set, summed over all processes.

    Args:
        model: As for `evaluate`, as all arguments that are not named here.
        processor: Image processor.
        dataset: Images and masks.
        settings: How an image is run through the model.
        boundary_ratio: Width of the boundary band.
        num_workers: Processes that read and prepare images.
        accelerator: Run of `accelerate`.
        on_image: Called with (images done, images in all) of this process; what it raises ends the loop.
        skip_broken: Leave out images that cannot be decoded.

    Returns:
        The counts, and the names of the images that were left out.

    Raises:
        ValueError: If an image or its labels cannot be used.
    """
    counts = SegmentationCounts(
        len(class_names_of(model)), ignore_index=_ignore_index(model, dataset), boundary_ratio=boundary_ratio
    )
    rank, world = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    prepared = _PreparedImages(
        dataset, processor, settings.scales, range(rank, len(dataset), world), skip_broken=skip_broken
    )
    loader = DataLoader(
        prepared,
        batch_size=settings.batch_size,
        num_workers=num_workers,
        collate_fn=list,
        worker_init_fn=leave_signals_to_main,
        # Its own generator: a loader draws a number when it starts, and training must not notice.
        generator=torch.Generator().manual_seed(0),
    )
    done, skipped = 0, []
    with inference_state(model), contextlib.closing(read_batches(loader)) as batches:
        function = logits_function(model)
        for batch in batches:
            skipped += [item for item in batch if isinstance(item, str)]
            _count_images(function, [item for item in batch if not isinstance(item, str)], settings, counts)
            for _ in batch:
                done += 1
                on_image(done, len(prepared))
    if accelerator is not None:
        from accelerate.utils import gather_object

        counts, skipped = counts.reduce(accelerator), gather_object(skipped)
    if skipped:
        logger.warning("%d image(s) were left out: %s.", len(skipped), _first(skipped))
    return counts, skipped


def leave_signals_to_main(_: int = 0) -> None:
    """Makes a reading process ignore Ctrl-C and SIGTERM.

    Both reach the whole group of processes (from a terminal, `timeout`, SLURM, systemd); the main process decides
    when to stop, and the readers end with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def read_batches(loader: DataLoader[Any]) -> Generator[Any, None, None]:
    """The loader's batches; what goes wrong in a reading process is raised as if it had happened here.

    torch prefixes such errors with a traceback of the other process, which would hide the one line that
    names the file. Close the generator where it is not read to its end.

    Raises:
        ValueError: An image or mask cannot be used, as the data set says.
        FileNotFoundError: One is missing.
    """
    batches = iter(loader)
    try:
        yield from batches
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        found = list(re.finditer(rf"\n(?:[\w.]+\.)?{type(error).__name__}: ", message))
        if message.startswith("Caught ") and found:
            raise type(error)(message[found[-1].end() :].strip()) from error
        raise
    finally:
        # Readers are told to end: the interpreter would send them SIGTERM at its own end, which they ignore, and wait.
        shutdown = getattr(batches, "_shutdown_workers", None)
        if shutdown is not None:
            shutdown()


def as_sample(item: object, index: int, processor: ImageProcessor | None = None) -> Sample:
    """What a data set gives, as a `Sample` of an upright image and integer labels of its size.

    Args:
        item: A `Sample`, or a pair of an image (PIL image, path or array) and a mask `(height, width)`.
        index: Its number, for messages about items without a name.
        processor: Image processor, which declares value range and number of channels of the images.

    Raises:
        ValueError: It is neither, the image cannot be decoded, or the labels have another size.
    """
    if isinstance(item, tuple) and len(item) == 2:
        (image, mask), name = item, _name_of(item[0], index)
    elif hasattr(item, "image") and hasattr(item, "mask"):
        image, mask, name = item.image, item.mask, getattr(item, "name", f"number {index}")
    else:
        raise ValueError(
            f"Item {index} of the data set is a {type(item).__name__}; it must be a Sample or a pair (image, mask)."
        )
    upright = as_image(image, processor)
    width, height = image_size(upright)
    mask = np.asarray(mask)
    if mask.shape != (height, width):
        raise ValueError(
            f"The labels of image {name} have shape {mask.shape}, the image is {height} high "
            f"and {width} wide; they must agree."
        )
    if not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(
            f"The labels of image {name} are {mask.dtype}; they must be whole numbers, class ids."
        )
    return Sample(upright, np.ascontiguousarray(mask), str(name))


def _name_of(image: object, index: int) -> str:
    named = (
        image if isinstance(image, str) or hasattr(image, "__fspath__") else getattr(image, "filename", "")
    )
    return str(named) if named else f"number {index}"


class _TensorRun(Run):
    """A `Run` whose pixel values the data set gives."""

    def __init__(self, pixel_values: Tensor, processor: ImageProcessor | None) -> None:
        self.pixel_values = pixel_values
        self.processor = processor


@dataclass
class _Prepared:
    """An image ready for the model, with its labels."""

    runs: Sequence[Run]
    mask: Tensor


class _PreparedImages(Dataset["_Prepared | str"]):
    """Reads and prepares images, in worker processes if there are any; the name alone of one that is left out."""

    def __init__(
        self,
        dataset: ImageMaskPairs | Examples,
        processor: ImageProcessor | None,
        scales: Sequence[float],
        indices: Sequence[int],
        *,
        skip_broken: bool,
    ) -> None:
        self.dataset = dataset
        self.processor = processor
        self.scales = scales
        self.indices = indices
        self.skip_broken = skip_broken

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> _Prepared | str:
        number = self.indices[index]
        try:
            item = self.dataset[number]
            if isinstance(item, Mapping):
                return self._from_tensors(item)
            sample = as_sample(item, number, self.processor)
        except BrokenImageError as error:
            if not self.skip_broken:
                raise
            return str(error).rstrip(".")
        if self.processor is None:
            raise ValueError(
                f"The data set gives images (such as {sample.name}), but there is no image processor; pass one."
            )
        runs = [Run(sample.image, self.processor, scale) for scale in self.scales]
        # Masks that PIL lends are read-only, which torch does not know.
        mask = sample.mask if sample.mask.flags.writeable else sample.mask.copy()
        return _Prepared(runs, torch.from_numpy(mask))

    def _from_tensors(self, item: Mapping[str, Any]) -> _Prepared:
        if tuple(self.scales) != (1.0,):
            raise ValueError(
                f"scales is {self.scales!r}, but the data set gives tensors, which have one scale; give images."
            )
        return _Prepared([_TensorRun(item["pixel_values"][None], self.processor)], item["labels"])


def _count_images(
    function: LogitsFunction,
    batch: Sequence[_Prepared],
    settings: InferenceSettings,
    counts: SegmentationCounts,
) -> None:
    if not settings.is_plain:
        for item in batch:
            labels, _ = predict(function, item.runs, _size(item.mask), settings)
            counts.update(labels, item.mask)
        return
    by_size: dict[tuple[int, int], list[_Prepared]] = {}
    for item in batch:
        by_size.setdefault(_size(item.runs[0].pixel_values), []).append(item)
    for items in by_size.values():
        logits = function(torch.cat([item.runs[0].pixel_values for item in items]))
        for row, item in enumerate(items):
            counts.update(resize_argmax(logits[row : row + 1], _size(item.mask))[0], item.mask)


def _size(array: Tensor) -> tuple[int, int]:
    return int(array.shape[-2]), int(array.shape[-1])


def _first(names: Sequence[str], limit: int = 5) -> str:
    return "; ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _ignore_index(model: nn.Module, dataset: object) -> int:
    config = getattr(getattr(model, "module", model), "config", None)
    return getattr(dataset, "ignore_index", getattr(config, "semantic_loss_ignore_index", 255))


def check_classes(model_names: Sequence[str], names: Sequence[str] | None) -> None:
    """The ids of a data set must mean what they mean to the model; the model may know more classes."""
    renamed = renamed_classes(model_names, names)
    if renamed:
        logger.warning("Some classes have other names in the data set than in the model: %s", renamed)
