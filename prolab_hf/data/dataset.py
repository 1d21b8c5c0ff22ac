"""Examples for training loops: a torch data set over a source, and the collation of its examples."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from prolab_hf.data.image_files import SegmentationSource
from prolab_hf.model.image_conversion_prolab import StandardImage

Example = dict[str, Tensor]


class Transform(Protocol):
    """What turns an image and its mask into tensors."""

    def __call__(self, image: StandardImage, mask: NDArray[np.int32], rng: np.random.Generator) -> Example:
        """Tensors `pixel_values` `(num_channels, height, width)` and `labels` `(height, width)`."""
        ...


class SegmentationDataset(Dataset[Example]):
    """Examples of a source under a transform, reproducible per (seed, epoch, index).

    Works with any number of workers, also persistent ones: the epoch lives in shared memory, so that workers
    that outlive an epoch see the new one. `transformers.Trainer` and Accelerate call `set_epoch` themselves.

    Args:
        source: Where samples come from.
        transform: What makes tensors of them.
        seed: Seed of all random numbers.
    """

    def __init__(self, source: SegmentationSource, transform: Transform, *, seed: int = 0) -> None:
        if seed < 0:
            raise ValueError(f"seed {seed} must not be negative")
        self.source = source
        self.transform = transform
        self.seed = seed
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """The epoch that augmentation is drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentation from now on; call it before the loader is iterated."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Example:
        sample = self.source[index]
        rng = np.random.default_rng((self.seed, self.epoch, index % len(self.source)))
        return self.transform(sample.image, sample.mask, rng)


def collate(examples: Sequence[Mapping[str, Tensor]], *, ignore_index: int = 255) -> Example:
    """Stack examples to a batch.

    Examples of different sizes are padded at the right and bottom: images with zeros (the mean), labels
    with `ignore_index`.

    Args:
        examples: `pixel_values` `(num_channels, height, width)` and `labels` `(height, width)` each.
        ignore_index: Label of padded pixels.

    Returns:
        `pixel_values` `(batch_size, num_channels, height, width)` and `labels` `(batch_size, height, width)`.

    Raises:
        ValueError: If sizes differ in the batch and labels do not have their image's size, because
            padding would then shift labels against images.
    """
    images = [example["pixel_values"] for example in examples]
    labels = [example["labels"] for example in examples]
    if len({image.shape for image in images}) == 1 and len({label.shape for label in labels}) == 1:
        return {"pixel_values": torch.stack(images), "labels": torch.stack(labels)}
    if any(image.shape[1:] != label.shape for image, label in zip(images, labels)):
        raise ValueError(
            "a batch holds images of different sizes whose labels have other sizes than the images; use "
            "batch size 1"
        )
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    batch = torch.zeros(len(images), images[0].shape[0], height, width)
    targets = torch.full((len(labels), height, width), ignore_index, dtype=torch.int64)
    for row, (image, label) in enumerate(zip(images, labels)):
        batch[row, :, : image.shape[1], : image.shape[2]] = image
        targets[row, : label.shape[0], : label.shape[1]] = label
    return {"pixel_values": batch, "labels": targets}
