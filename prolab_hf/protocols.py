"""What the rooms expect of things that users may bring themselves: processors, models, data sets, encoders.

A class fits a protocol by having its members; nothing has to be inherited. Hints that say `ImageProcessor` instead of
`Any` tell a reader what is called, and a type checker what is missing.
"""

from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

PathName: TypeAlias = str | PathLike[str]
JsonObject: TypeAlias = Mapping[str, object]


@runtime_checkable
class ImageProcessor(Protocol):
    """An image processor of transformers, ours or another one's, as far as it is called."""

    def __call__(self, images: Any, **options: Any) -> Mapping[str, Any]:
        """`pixel_values` `(batch_size, num_channels, height, width)` of images."""
        ...

    @property
    def preprocess(self) -> Callable[..., Mapping[str, Any]]:
        """The same; only image processors have it under this name."""
        ...

    @property
    def save_pretrained(self) -> Callable[..., object]:
        """Writes its configuration into a folder."""
        ...


class SegmentationOutput(Protocol):
    """What a segmentation model returns."""

    @property
    def loss(self) -> "Tensor | None":
        """Scalar, where labels were given."""
        ...

    @property
    def logits(self) -> "Tensor | None":
        """`(batch_size, num_labels, height, width)`, of any resolution."""
        ...


class PropertyOutput(SegmentationOutput, Protocol):
    """What a ProLab model returns."""

    @property
    def property_logits(self) -> "Tensor | None":
        """`(batch_size, num_properties, height, width)` before temperature and sigmoid."""
        ...


class SegmentationModelConfig(Protocol):
    """The fields of a segmentation model's configuration that are read."""

    id2label: dict[int, str]
    num_labels: int
    model_type: str


class ImageWithMask(Protocol):
    """An image and its class ids, such as `prolab_hf.data.image_files.Sample`."""

    @property
    def image(self) -> "Image.Image | NDArray[Any]":
        """The image; an array `(height, width, channels)` where it has other channels than RGB."""
        ...

    @property
    def mask(self) -> "NDArray[np.integer[Any]]":
        """Class ids `(height, width)`."""
        ...


class ImageMaskPairs(Protocol):
    """Anything with a length that gives an image and its class ids by number: a list of pairs, a torch data set."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(
        self, index: int, /
    ) -> "ImageWithMask | tuple[Image.Image | NDArray[Any], NDArray[np.integer[Any]]]":
        """A `Sample`, or a pair of an image and its mask `(height, width)` of class ids."""
        ...


class Examples(Protocol):
    """Examples of a training loop, by number: a data set that already made tensors of images and masks."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int, /) -> Mapping[str, "Tensor"]:
        """`pixel_values` `(num_channels, height, width)` and `labels` `(height, width)`."""
        ...


class Batches(Protocol):
    """A dataloader: batches of examples, again and again."""

    def __len__(self) -> int:
        """Number of batches."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, "Tensor"]]:
        """One pass over the examples."""
        ...


class SupportsState(Protocol):
    """What is saved with a checkpoint and read back: optimizers, schedulers, gradient scalers."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object:
        """Takes a state back."""
        ...
