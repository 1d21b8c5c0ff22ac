"""A visitor's images: a few of them, within a number of bytes, the one that was looked at least recently goes first."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from PIL import Image

MAX_IMAGES = 12
MAX_GALLERY_BYTES = 128 * 2**20
THUMBNAIL_SIDE = 96


class ImageGoneError(LookupError):
    """The image is not kept any more."""


@dataclass(frozen=True)
class GalleryImage:
    """One image of a visitor.

    Attributes:
        image: As it is shown, RGB.
        full: The same in all its pixels, for sliding windows; the same object where nothing was reduced.
        note: What to say about it.
        name: What it is called.
        key: What the page calls it by.
    """

    image: Image.Image
    full: Image.Image
    note: str = ""
    name: str = ""
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def nbytes(self) -> int:
        """Bytes of its pixels."""
        images = [self.image] if self.full is self.image else [self.image, self.full]
        return sum(3 * image.width * image.height for image in images)

    def thumbnail(self) -> Image.Image:
        """The image at most `THUMBNAIL_SIDE` pixels wide and high."""
        small = self.image.copy()
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        return small


class Gallery:
    """Images by key, least recently used first.

    Args:
        max_images: How many are kept.
        max_bytes: Of all pixels together; the newest image stays in any case.
    """

    def __init__(self, max_images: int = MAX_IMAGES, max_bytes: int = MAX_GALLERY_BYTES) -> None:
        self.max_images, self.max_bytes = max_images, max_bytes
        self._images: OrderedDict[str, GalleryImage] = OrderedDict()
        self._shown: list[str] = []  # in the order in which they came

    def __len__(self) -> int:
        return len(self._images)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return sum(image.nbytes for image in self._images.values())

    def add(self, image: GalleryImage) -> None:
        """Keeps an image, and drops the oldest ones where there are too many."""
        self._images[image.key] = image
        self._shown.append(image.key)
        while len(self) > 1 and (len(self) > self.max_images or self.nbytes > self.max_bytes):
            self.remove(next(iter(self._images)))

    def remove(self, key: str) -> None:
        """Drops an image.

        Raises:
            ImageGoneError: If it is not kept any more.
        """
        del self._images[self[key].key]
        self._shown.remove(key)

    def __getitem__(self, key: str) -> GalleryImage:
        if key not in self._images:
            raise ImageGoneError(
                f"The image is not kept any more (the server keeps the last {self.max_images}); choose it again."
            )
        self._images.move_to_end(key)
        return self._images[key]

    def in_order(self) -> list[GalleryImage]:
        """All images in the order in which they came."""
        return [self._images[key] for key in self._shown]


__all__ = ["Gallery", "GalleryImage", "ImageGoneError"]
