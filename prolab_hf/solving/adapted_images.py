"""The images that a network is adapted on, labeled by masks or by the network itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from prolab_hf.data.image_files import image_size
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import PairSource, match_by_stem
from prolab_hf.evaluation.inference import ImageLike, as_image, logits_function, prepare
from prolab_hf.model.image_conversion_prolab import StandardImage
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.accumulation import LabeledImages

ImagesLike = str | Path | Sequence[ImageLike] | LabeledImages
MasksLike = str | Path | Sequence[Any]
VOID = 255
CACHE_BYTES = 128 * 2**20


class AdaptedImages:
    """Images, and masks where there are any, with class ids of the adapted model.

    Args:
        items: Images, or pairs or samples of image and mask, anything with `len()` and `[i]`.
        masks: One mask per image; `None` if there are none or the items hold them.
        table: Class id of the adapted model for every id of the network, -1 where it has none.
        has_masks: Whether there are masks.
        ignore_index: Value of masks where a pixel has no class.
    """

    class_names: list[str] | None = None  # ids are the model's own
    ignore_index = -1

    def __init__(
        self,
        items: Any,
        masks: Sequence[Any] | None,
        *,
        table: NDArray[np.integer],
        has_masks: bool,
        void: int = VOID,
    ) -> None:
        self.items, self.masks, self.table, self.has_masks, self.void = items, masks, table, has_masks, void

    @classmethod
    def open(
        cls,
        images: ImagesLike,
        masks: MasksLike | None,
        *,
        class_names: Sequence[str],
        table: NDArray[np.integer],
        coding: str = "ids",
    ) -> Self:
        """Images and masks from what a user may give.

        Args:
            images: Folder, sequence of images or paths, or data source of pairs.
            masks: Folder (with an images folder) or sequence.
            class_names: The network's classes, whose ids the masks hold.
            table: As for the class.
            coding: What the values of mask files mean.

        Raises:
            FileNotFoundError: A folder does not exist.
            ValueError: There are no images, or not one mask per image.
        """
        if not isinstance(images, str | Path):
            if not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
                raise ValueError(
                    f"images is a {type(images).__name__}; give a folder, a list of images, or a data source."
                )
            return cls._from_sequence(images, masks, class_names, table)
        folder = Path(images)
        if not folder.is_dir():
            raise FileNotFoundError(f"The folder of images {folder} does not exist.")
        if masks is None:
            known = Image.registered_extensions()
            found = sorted(
                path
                for path in folder.iterdir()
                if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()
            )
            if not found:
                raise ValueError(
                    f"The folder {folder} holds no images (.jpg, .png, ...); name the folder in which they lie, "
                    "without sub-folders."
                )
            return cls(found, None, table=table, has_masks=False)
        if not isinstance(masks, str | Path):
            raise ValueError("masks is a list, but images is a folder; give two folders or two lists.")
        if not Path(masks).is_dir():
            raise FileNotFoundError(f"The folder of masks {masks} does not exist.")
        pairs = match_by_stem(folder, Path(masks))
        source = PairSource(pairs, coding=LabelCoding.parse(coding), class_names=list(class_names))
        return cls(source, None, table=table, has_masks=True, void=source.ignore_index)

    @classmethod
    def _from_sequence(
        cls, images: Any, masks: Any, class_names: Sequence[str], table: NDArray[np.integer]
    ) -> Self:
        if not len(images):
            raise ValueError("images is empty; at least one image is needed.")
        first = images[0]
        paired = isinstance(first, tuple) or hasattr(first, "mask")
        if masks is not None:
            if paired:
                raise ValueError("images gives masks of its own; leave masks away.")
            if isinstance(masks, str | Path) or len(masks) != len(images):
                number = "a folder" if isinstance(masks, str | Path) else f"{len(masks)} masks"
                raise ValueError(
                    f"There are {len(images)} images but {number} as masks; give one mask per image."
                )
        names = getattr(images, "class_names", None)
        if paired and names is not None and list(names) != list(class_names):
            table = _table_by_name(list(names), list(class_names), table)
        void = int(getattr(images, "ignore_index", VOID))
        return cls(images, masks, table=table, has_masks=paired or masks is not None, void=void)

    def __len__(self) -> int:
        return len(self.items)

    def image(self, index: int) -> StandardImage:
        """The upright RGB image."""
        item = self.items[index]
        if isinstance(item, tuple):
            item = item[0]
        return as_image(getattr(item, "image", item))

    def __getitem__(self, index: int) -> tuple[StandardImage, NDArray[np.int64]]:
        """Image and class ids of the adapted model `(height, width)`, -1 where a pixel has none."""
        if self.masks is not None:
            return self.image(index), self._ids(self.masks[index], index)
        item = self.items[index]
        image, mask = item if isinstance(item, tuple) else (item.image, item.mask)
        return as_image(image), self._ids(mask, index)

    def _ids(self, mask: object, index: int) -> NDArray[np.int64]:
        values = np.asarray(Image.open(mask) if isinstance(mask, str | Path) else mask)
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
            raise ValueError(
                f"The mask of image {index} has shape {values.shape} and type {values.dtype}; it must hold integers "
                "(height, width)."
            )
        values = values.astype(np.int64)
        void = values == self.void
        wrong = values[~void & ((values < 0) | (values >= len(self.table)))]
        if wrong.size:
            raise ValueError(
                f"The mask of image {index} holds {int(wrong[0])}; allowed are the ids of the network's classes, 0 to "
                f"{len(self.table) - 1}, and {self.void} for none."
            )
        return np.where(void, -1, self.table[np.where(void, 0, values)])


class OwnAnswers:
    """The same images with the network's predictions as masks; they are remembered as far as memory is cheap.

    Args:
        images: The images.
        network: The network, in evaluation mode.
        processor: Its image processor.
    """

    class_names: list[str] | None = None
    ignore_index = -1

    def __init__(self, images: AdaptedImages, network: nn.Module, processor: ImageProcessor) -> None:
        self.images, self.network, self.processor = images, network, processor
        self._known: dict[int, NDArray[np.int16]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[StandardImage, NDArray[np.int64]]:
        image = self.images.image(index)
        if index in self._known:
            return image, self._known[index].astype(np.int64)
        ids = self.images.table[predicted_labels(self.network, self.processor, image)].astype(
            np.int64, copy=False
        )
        if self._bytes < CACHE_BYTES:
            self._known[index] = ids.astype(np.int16)
            self._bytes += self._known[index].nbytes
        return image, ids


def predicted_labels(
    network: nn.Module, processor: ImageProcessor, image: StandardImage
) -> NDArray[np.int64]:
    """Class ids `(height, width)` that a network gives an image, as the pipeline does."""
    with torch.no_grad():
        logits = logits_function(network)(prepare(processor, image))
        width, height = image_size(image)
        return resize_argmax(logits, (height, width))[0].cpu().numpy()


def _table_by_name(
    names: list[str], network_names: list[str], table: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Class ids for a data set that has names of its own; what the network does not know is void."""
    position = {name: index for index, name in enumerate(network_names)}
    result = np.array([table[position[name]] if name in position else -1 for name in names], dtype=np.int64)
    if (result < 0).all():
        raise ValueError(
            f"None of the classes of the data set ({', '.join(names[:5])}, ...) is a class of the network "
            f"({', '.join(network_names[:5])}, ...)."
        )
    return result


__all__ = ["AdaptedImages", "OwnAnswers", "predicted_labels"]
