"""What `ProLabTrainer` reads: images as the Trainer's data sets of tensors, their order, and how batches are made."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Sampler

from prolab_hf.data.image_files import Sample
from prolab_hf.data.transforms import SegmentationDataset, collate
from prolab_hf.evaluation.evaluate import as_sample
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor
from prolab_hf.training.balance.class_balance import rare_crops_of
from prolab_hf.training.balance.class_counts import count_classes
from prolab_hf.training.from_recipe import ProcessorTransform, training_transform
from prolab_hf.training.recipe import TrainingRecipe


def gives_tensors(dataset: ImageMaskPairs | Examples) -> bool:
    """Whether a data set gives tensors already."""
    return isinstance(dataset, SegmentationDataset) or isinstance(dataset[0], Mapping)


def augmented(
    model: nn.Module,
    dataset: ImageMaskPairs | Examples,
    recipe: TrainingRecipe,
    processor: ImageProcessor | None,
) -> Any:
    """Augmented tensors of images; tensors stay as they are."""
    if gives_tensors(dataset):
        return dataset
    config: Any = model.config
    ignore_index = getattr(config, "semantic_loss_ignore_index", 255)
    crops = None
    if recipe.balance.rare_class_crops:
        counts = count_classes(dataset, config.num_labels, ignore_index=ignore_index)
        crops = rare_crops_of(counts, recipe.balance.rare_class_crops)
    transform = training_transform(recipe, processor, ignore_index=ignore_index, rare_crops=crops)
    samples: Any = Samples(dataset)
    return SegmentationDataset(samples, transform, seed=recipe.seed)


def prepared(dataset: ImageMaskPairs | Examples, processor: ImageProcessor | None) -> Any:
    """Tensors that the image processor makes of images; tensors stay as they are."""
    if gives_tensors(dataset):
        return dataset
    if processor is None:
        raise ValueError("The data set gives images, which need an image processor; pass processor.")
    samples: Any = Samples(dataset, processor)
    return SegmentationDataset(samples, ProcessorTransform(processor))


class Samples:
    """Images and masks of any kind as the samples that a `SegmentationDataset` takes.

    Args:
        dataset: Samples, or pairs (image, mask).
        processor: Declares value range and number of channels of the images.
    """

    def __init__(self, dataset: Any, processor: ImageProcessor | None = None) -> None:
        self.dataset, self.processor = dataset, processor

    def __getattr__(self, name: str) -> Any:
        if name == "dataset":  # pickle asks before there is one
            raise AttributeError(name)
        return getattr(self.dataset, name)  # class names, label coding and what else it knows

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = as_sample(self.dataset[index], index, self.processor)
        return Sample(sample.image, sample.mask.astype(np.int32, copy=False), sample.name)


class EpochOrder(Sampler[int]):
    """Indices of an epoch, in an order that depends on seed and epoch alone.

    Args:
        length: Number of images.
        seed: Of the order.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Takes the order of another epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng((self.seed, self.epoch)).permutation(self.length).tolist()


class Collator:
    """Collation that survives being sent to a worker process."""

    def __init__(self, ignore_index: int) -> None:
        self.ignore_index = ignore_index

    def __call__(self, examples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return dict(collate(examples, ignore_index=self.ignore_index))
