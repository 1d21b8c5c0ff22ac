"""The few images of an editing session, with their masks where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from prolab_hf.data.image_files import image_size
from prolab_hf.editing.editable_model import EditableModel
from prolab_hf.evaluation.inference import (
    ImageLike,
    Segmentation,
    as_image,
    class_names_of,
    inference_state,
    prepare,
)
from prolab_hf.model.image_conversion_prolab import StandardImage
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.protocols import ImageProcessor

VOID = 255


@dataclass(frozen=True)
class SessionImage:
    """An image, prepared once.

    Attributes:
        name: Its name in the session.
        image: As `as_image` gives it.
        pixel_values: `(1, num_channels, height, width)`.
        mask: Ids into `mask_classes`, `(height, width)`, or `None`.
        mask_classes: Names of the classes in the mask.
        ignore_index: Id of pixels without a class.
    """

    name: str
    image: StandardImage
    pixel_values: Tensor
    mask: NDArray[np.integer] | None = None
    mask_classes: tuple[str, ...] = ()
    ignore_index: int = VOID

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        width, height = image_size(self.image)
        return height, width

    def labels_for(self, class_names: Sequence[str], renamed: Mapping[str, str]) -> Tensor:
        """The mask in the classes of a model, -1 where a pixel has none of them, int64 `(height, width)`.

        Args:
            class_names: Classes of the model.
            renamed: Class of the mask -> class of the model, where the session renamed or merged it.
        """
        position = {name: index for index, name in enumerate(class_names)}
        table = np.full(len(self.mask_classes) + 1, -1, dtype=np.int64)
        for index, name in enumerate(self.mask_classes):
            table[index] = position.get(renamed.get(name, name), -1)
        ids = np.asarray(self.mask)
        void = (ids == self.ignore_index) | (ids < 0) | (ids >= len(self.mask_classes))
        return torch.from_numpy(table[np.where(void, len(self.mask_classes), ids)])


class SessionImages:
    """The images of a session, by name, and their label maps in any words.

    Args:
        processor: The model's image processor; `None` for a session without images.
    """

    def __init__(self, processor: ImageProcessor | None) -> None:
        self.processor = processor
        self._images: dict[str, SessionImage] = {}

    def add(
        self,
        image: ImageLike,
        *,
        name: str | None = None,
        mask: NDArray[np.integer] | None = None,
        mask_classes: Sequence[str] = (),
        ignore_index: int = VOID,
    ) -> SessionImage:
        """Takes an image.

        Args:
            image: As `segment` takes it.
            name: Its name; by default that of its file, or a number.
            mask: Class ids `(height, width)`.
            mask_classes: Names of the classes in the mask.
            ignore_index: Id of pixels without a class.

        Raises:
            ValueError: There is no processor, the name is taken, or the mask does not fit.
        """
        if self.processor is None:
            raise ValueError(
                "The session has no image processor, so it cannot prepare images: give processor=."
            )
        upright = as_image(image, self.processor)
        name = name or self._default_name(image)
        if name in self._images:
            raise ValueError(f"The session has an image {name!r} already; give it another name.")
        width, height = image_size(upright)
        if mask is not None:
            mask = np.asarray(mask)
            if mask.shape != (height, width) or not np.issubdtype(mask.dtype, np.integer):
                raise ValueError(
                    f"The mask of {name!r} has shape {mask.shape} and type {mask.dtype}; expected integers of shape "
                    f"({height}, {width}), the image's height and width."
                )
            wrong = mask[(mask != ignore_index) & ((mask < 0) | (mask >= len(mask_classes)))]
            if wrong.size:
                raise ValueError(
                    f"The mask of {name!r} holds {int(wrong[0])}; allowed are 0 to {len(mask_classes) - 1} and "
                    f"{ignore_index} for pixels without a class."
                )
        added = SessionImage(
            name, upright, prepare(self.processor, upright), mask, tuple(mask_classes), ignore_index
        )
        self._images[name] = added
        return added

    def _default_name(self, image: ImageLike) -> str:
        path = getattr(image, "filename", "") if isinstance(image, Image.Image) else image
        if isinstance(path, str | Path) and str(path):
            return Path(path).name
        return f"image {len(self._images) + 1}"

    def remove(self, name: str) -> None:
        """Drops an image.

        Args:
            name: Its name.

        Raises:
            KeyError: It is not there.
        """
        del self._images[self[name].name]

    def __getitem__(self, name: str) -> SessionImage:
        if name not in self._images:
            raise KeyError(
                f"The session has no image {name!r}; its images are {', '.join(self._images) or 'none'}."
            )
        return self._images[name]

    def __contains__(self, name: str) -> bool:
        return name in self._images

    def __iter__(self) -> Iterator[SessionImage]:
        return iter(self._images.values())

    def __len__(self) -> int:
        return len(self._images)

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        return list(self._images)

    @property
    def with_masks(self) -> list[SessionImage]:
        """The images that have masks."""
        return [image for image in self._images.values() if image.mask is not None]


def label_map(model: EditableModel, image: SessionImage) -> Segmentation:
    """The segmented image, as `segment` gives it with its default options; the network is asked once.

    Args:
        model: The model.
        image: The image.
    """
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    with inference_state(model):
        answer = model.answer(image.pixel_values.to(parameter.device, parameter.dtype))
        logits = model.output_of(answer).logits
        if logits is None:
            raise RuntimeError("The model gave no logits.")
        labels = resize_argmax(logits, image.size)[0].cpu()
    return Segmentation(labels, class_names_of(model))


class LabeledSession:
    """The images with masks as a data set of a model's classes.

    Args:
        images: The images.
        class_names: Classes of the model.
        renamed: As for `SessionImage.labels_for`.
    """

    ignore_index = VOID

    def __init__(
        self, images: Sequence[SessionImage], class_names: Sequence[str], renamed: Mapping[str, str]
    ) -> None:
        self._images = list(images)
        self._renamed = renamed
        self.class_names = list(class_names)
        self.ignore_index = max(VOID, len(self.class_names))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[StandardImage, NDArray[np.int64]]:
        image = self._images[index]
        labels = image.labels_for(self.class_names, self._renamed).numpy()
        return image.image, np.where(labels < 0, self.ignore_index, labels)
