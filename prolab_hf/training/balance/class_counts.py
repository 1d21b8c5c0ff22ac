"""How often each class occurs in the training masks, and the class weights that follow."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from prolab_hf.data.image_files import BrokenImageError
from prolab_hf.evaluation.evaluate import as_sample
from prolab_hf.files import read_json_object
from prolab_hf.protocols import Examples, ImageMaskPairs

SCHEMES = ("none", "sqrt", "effective")
_READERS = 4


@dataclass(frozen=True)
class ClassCounts:
    """Counts over the masks of a training set.

    Attributes:
        pixels: `(num_classes,)` labeled pixels per class.
        images: `(num_classes,)` images that show it.
        num_images: Images that were counted.
    """

    pixels: NDArray[np.int64]
    images: NDArray[np.int64]
    num_images: int

    @property
    def shares(self) -> NDArray[np.float64]:
        """`(num_classes,)` share of the labeled pixels per class."""
        return self.pixels / max(int(self.pixels.sum()), 1)


def count_classes(
    dataset: ImageMaskPairs | Examples,
    size: int,
    *,
    ignore_index: int = 255,
    skip_broken: bool = False,
    accelerator: Accelerator | None = None,
) -> ClassCounts:
    """Counts the labels of all masks; several processes share the work.

    Args:
        dataset: Gives samples, pairs (image, mask) or tensors by number.
        size: Number of classes.
        ignore_index: Label of void pixels.
        skip_broken: Leave out images that cannot be decoded.
        accelerator: Of the run, where it has several processes: every one must call this.

    Raises:
        ValueError: A label is outside the classes.
    """

    def count(index: int) -> NDArray[np.int64]:
        try:
            item = dataset[index]
            mask = item["labels"].numpy() if isinstance(item, Mapping) else as_sample(item, index).mask
        except BrokenImageError:
            if not skip_broken:
                raise
            return np.zeros(size, dtype=np.int64)
        labels = mask[mask != ignore_index].astype(np.int64, copy=False)
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < size:
            raise ValueError(
                f"The mask of training image number {index} has labels from {int(labels.min())} to "
                f"{int(labels.max())}, but the classes are 0 to {size - 1}; check the label coding."
            )
        return np.bincount(labels, minlength=size)

    rank, processes = (
        (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    )
    pixels, images = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    indices = iter(range(rank, len(dataset), processes))
    with ThreadPoolExecutor(_READERS) as pool:  # a bounded number in flight: images are large
        pending = [pool.submit(count, index) for index in islice(indices, 2 * _READERS)]
        while pending:
            found = pending.pop(0).result()
            pixels += found
            images += found > 0
            pending.extend(pool.submit(count, index) for index in islice(indices, 1))
    if processes > 1:
        parts = gather_object([(pixels, images)])
        pixels, images = (np.sum([part[k] for part in parts], axis=0) for k in range(2))
    return ClassCounts(pixels, images, len(dataset))


def counted_weights(counts: ClassCounts, scheme: str) -> list[float]:
    """A weight per class, scaled so that the mean over the counted pixels is 1.

    Args:
        counts: Of the training masks.
        scheme: `"sqrt"`: one over the root of the share of the pixels. `"effective"`: one over the effective number
            of images `(1 - b^n) / (1 - b)`, n the images that show the class and b `1 - 1 / N` of all N images.

    Returns:
        `num_classes` numbers; 1 for a class that does not occur, which no pixel has.

    Raises:
        ValueError: The scheme is unknown.
    """
    occurs = counts.pixels > 0
    if scheme == "sqrt":
        weights = 1 / np.sqrt(np.where(occurs, counts.shares, 1))
    elif scheme == "effective":
        b = 1 - 1 / max(counts.num_images, 1)
        weights = (1 - b) / (1 - b ** np.where(occurs, counts.images, 1))
    else:
        raise ValueError(f"The scheme of class weights is {scheme!r}; allowed: 'sqrt', 'effective'.")
    mean = float((weights * counts.shares).sum()) or 1.0
    return [float(weight) for weight in np.where(occurs, weights / mean, 1.0)]


def weights_from_file(path: str | Path, class_names: Sequence[str]) -> list[float]:
    """Class weights that somebody wrote: a JSON object of class names and numbers.

    Args:
        path: The file.
        class_names: Of the model, in order; each needs a weight.

    Raises:
        FileNotFoundError: There is no such file; the schemes that need none are named.
        ValueError: A class is missing or unknown, or a weight is no number of at least 0.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"balance.class_weights is {str(path)!r}, which is no file; allowed: 'none', 'sqrt', 'effective', or a "
            "JSON file with a weight per class name."
        )
    found = read_json_object(path, what="class weights")
    missing = [name for name in class_names if name not in found]
    unknown = [name for name in found if name not in class_names]
    if missing or unknown:
        problem = (
            f"no weight for the class {missing[0]!r}" if missing else f"the unknown class {unknown[0]!r}"
        )
        raise ValueError(
            f"The class weights {path} have {problem}; they need one per class: {', '.join(class_names)}."
        )
    for name, value in found.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise ValueError(
                f"The class weights {path} have {value!r} for {name!r}; a weight is a number of at least 0."
            )
    return [float(found[name]) for name in class_names]
