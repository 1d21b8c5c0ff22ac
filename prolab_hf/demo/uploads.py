"""Images on their way into the demo page and out of it."""

import base64
import io
import warnings
from typing import cast

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from prolab_hf.data.image_files import read_image
from prolab_hf.demo.gallery import GalleryImage
from prolab_hf.explanation.figures import HEAT

MAX_UPLOAD_BYTES = 25 * 2**20
MAX_UPLOAD_PIXELS = 64_000_000
"""Of the file, before it is reduced: the size is read from its header before anything is decoded."""

MAX_FULL_PIXELS = 6_000_000
"""Of what is kept for sliding windows, some fifty of them; larger images are reduced to this."""

MIN_SIDE = 16
MAX_HEAT_SIDE = 480
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
"""What browsers show. Formats that call other programs or hold documents are not decoded."""

_READABLE = "JPEG, PNG, WebP, BMP or GIF"


def read_upload(content: bytes, *, max_side: int, name: str = "") -> GalleryImage:
    """Decode an image from an untrusted source.

    Args:
        content: The file.
        max_side: Larger images are shown reduced to this many pixels on their longer side.
        name: What the file is called.

    Returns:
        The upright RGB image, with a note if it is shown reduced.

    Raises:
        ValueError: If it is no image, a damaged one, too large or too small.
    """
    if not content:
        raise ValueError("The file is empty.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        try:
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        except Image.DecompressionBombError:
            raise ValueError(_too_many_pixels("far more")) from None
        except Exception:  # decoders fail in many ways on a file made to break them
            raise ValueError(f"This file is not an image that can be read; use {_READABLE}.") from None
    width, height = opened.size
    if width * height > MAX_UPLOAD_PIXELS:
        raise ValueError(_too_many_pixels(f"{width} x {height}"))
    try:
        image = cast(Image.Image, read_image(opened, name="(upload)"))  # three channels of 8 bits
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"The image is damaged and cannot be decoded ({reason}).") from error
    size = image.size
    full = _at_most(image, MAX_FULL_PIXELS)
    image = full.copy() if max(size) > max_side else full
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    if min(image.size) < MIN_SIDE:
        raise ValueError(
            f"The image has {size[0]} x {size[1]} pixels, too narrow to show anything; at least {MIN_SIDE} "
            f"are needed on each side after reducing the longer one to {max_side}."
        )
    note = f"Reduced from {size[0]} x {size[1]} to {image.width} x {image.height} pixels."
    return GalleryImage(image, full, note="" if image.size == size else note, name=name)


def _at_most(image: Image.Image, pixels: int) -> Image.Image:
    """The image, reduced where it has more pixels."""
    factor = (pixels / (image.width * image.height)) ** 0.5
    if factor >= 1:
        return image
    size = (max(1, int(image.width * factor)), max(1, int(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _too_many_pixels(found: str) -> str:
    return (
        f"The image is too large: {found} pixels, the limit is {MAX_UPLOAD_PIXELS // 10**6} million. "
        "Reduce it first."
    )


def data_uri(image: Image.Image, kind: str) -> str:
    """The image as an address that holds its own content.

    Args:
        image: The image.
        kind: `"jpeg"` (photos) or `"png"` (exact, with transparency).
    """
    buffer = io.BytesIO()
    if kind == "jpeg":
        image.save(buffer, "JPEG", quality=92, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=1)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def heat_layer(scores: Tensor, size: tuple[int, int]) -> Image.Image:
    """A score map in the colors of the figures, transparent where nothing is seen.

    Args:
        scores: `(any height, any width)` in [0, 1].
        size: Height and width of the image it will lie on.

    Returns:
        An RGBA image of that size, reduced to `MAX_HEAT_SIDE` pixels: it is smooth.
    """
    factor = min(1.0, MAX_HEAT_SIDE / max(size))
    shape = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
    spread = F.interpolate(scores[None, None].float(), size=shape, mode="bilinear", align_corners=False)
    values = spread[0, 0].clamp(0, 1).cpu().numpy()
    layer = HEAT(0.12 + 0.83 * values)
    layer[..., 3] = 0.9 * values**0.5
    return Image.fromarray((255 * layer).round().astype(np.uint8))


def heat_scale(steps: int = 9) -> list[str]:
    """Colors of scores from 0 to 1, as `#rrggbb`."""
    return [
        "#{:02x}{:02x}{:02x}".format(*HEAT(value, bytes=True)[:3])
        for value in np.linspace(0.12, 0.95, steps).tolist()
    ]


__all__ = [
    "FORMATS",
    "MAX_UPLOAD_BYTES",
    "MAX_UPLOAD_PIXELS",
    "data_uri",
    "heat_layer",
    "heat_scale",
    "read_upload",
]
