"""One file, one image: paths, bytes, PIL images and arrays become the same pixels, whoever reads them.

The image processors, `segment`, the pipeline, the data sources and the page all come through `read_image`:

- EXIF orientation is applied, and gray, palette, 1-bit and CMYK images become RGB as Pillow converts them;
- what is transparent is laid over one background, white (`BACKGROUND`);
- values beyond 8 bits are read as they are stored and need a declared `value_range`, because the same file may hold
  12 or 16 bits and nothing in it says so;
- a file with other channels than the model takes is an error; no band is dropped and none is made up.

Every exception of a decoder ends in one `ValueError` that names the file.
"""

import base64
import binascii
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .image_bands_prolab import (
    NPY_MAGIC,
    TIFF_MAGIC,
    Array,
    as_bytes_scale,
    check_values,
    checked_range,
    hidden_bands,
    read_bands,
    read_npy,
    read_tiff,
)

FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF",
)  # fmt: skip
"""What Pillow may open: formats for images. The others start programs (PostScript), or hold documents and fonts."""

BACKGROUND = (255, 255, 255)
"""Color behind what is transparent, as in transformers' own conversion."""

PIXEL_LIMIT_VARIABLE = "PROLAB_MAX_PIXELS"

StandardImage: TypeAlias = Image.Image | Array
"""An RGB image of 8 bits, or an array `(height, width, num_channels)` of the values that the file stores."""

ImageContent: TypeAlias = str | os.PathLike[str] | bytes | bytearray | Image.Image | Array

_readers = threading.Lock()
_limit_before: list[int | None] = []  # one entry per reader that is inside of `any_size`
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


def read_image(
    content: ImageContent,
    *,
    name: str,
    num_channels: int | None = 3,
    value_range: tuple[float, float] | None = None,
    max_pixels: float | None = None,
) -> StandardImage:
    """An upright image with the channels that a model takes.

    Args:
        content: Path, content of a file, PIL image, or array `(height, width)` or `(height, width, channels)`.
        name: File or row, for messages.
        num_channels: What the model takes. 3 gives RGB; `None` takes the channels as they are.
        value_range: Values that mean black and white, for images of more than 8 bits; declared once per data set.
        max_pixels: The largest image; `None` for `pixel_limit()`.

    Returns:
        An RGB image where three channels of 8 bits are asked for and no range is declared; otherwise an array
        `(height, width, num_channels)` of the stored values (see `as_bytes_scale`).

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: It cannot be decoded, or its channels or values are not what is declared.
        ImportError: It is a raster that needs the extra `geo`.
    """
    given = isinstance(content, np.ndarray)
    if isinstance(content, np.ndarray):
        raw: StandardImage = content
    else:
        raw = _decode(content, name, max_pixels, num_channels)
    try:
        if isinstance(raw, Image.Image) and not is_wide(raw):
            raw = to_channels(raw, num_channels, name)
        elif isinstance(raw, Image.Image):
            raw = np.asarray(raw)
    except ChannelError:
        raise
    except Exception as error:  # conversions of damaged files fail in as many ways as decoders
        raise _undecodable("image", name, error) from error
    if isinstance(raw, Image.Image):
        if value_range is None:
            return raw
        raw = np.asarray(raw)
    # Four bands of a file are color and alpha only where the file says so, and then Pillow has read them.
    array = array_to_channels(raw, num_channels, name, may_have_alpha=given)
    check_values(array, value_range, name)
    if value_range is None and num_channels == 3 and array.dtype == np.uint8:
        return Image.fromarray(array)
    return array


class BrokenImageError(ValueError):
    """An image or mask that cannot be decoded; the message names the file."""


class ChannelError(ValueError):
    """An image has other channels than the model takes."""


class UnknownFormatError(BrokenImageError):
    """A file is no image that Pillow reads."""


def open_image(
    content: ImageContent, *, name: str, what: str = "image", max_pixels: float | None = None
) -> Image.Image:
    """Open and fully load an image file as Pillow understands it, nothing converted.

    Args:
        content: Path, content of a file, or PIL image.
        name: File or row, for messages.
        what: `image` or `mask`, for messages.
        max_pixels: The largest image; `None` for `pixel_limit()`.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: The content cannot be decoded.
    """
    image, _ = _open(content, name, what, max_pixels)
    return _load(image, name, what)


def open_unloaded(content: ImageContent, *, name: str, what: str = "image") -> Image.Image:
    """As `open_image`, but only the header is read; `open_image` loads the result."""
    return _open(content, name, what, None)[0]


def read_content(content: "str | os.PathLike[str] | bytes | bytearray", *, name: str, what: str) -> bytes:
    """The bytes of a file.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: It cannot be read.
    """
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    try:
        return Path(content).read_bytes()
    except FileNotFoundError:
        link = " is a link to a file that" if Path(content).is_symlink() else ""
        raise FileNotFoundError(f"{what} {name}{link} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise BrokenImageError(
            f"{what} {name} cannot be read: {error}; check the path and its permissions"
        ) from error


def pixel_limit() -> float:
    """The largest number of pixels that is decoded: of `PROLAB_MAX_PIXELS`, else twice Pillow's own.

    Raises:
        ValueError: The variable is no positive number.
    """
    text = os.environ.get(PIXEL_LIMIT_VARIABLE)
    if text is None:
        with _readers:
            pillows = _limit_before[0] if _limit_before else Image.MAX_IMAGE_PIXELS
        return float("inf") if pillows is None else 2 * pillows
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"{PIXEL_LIMIT_VARIABLE} is {text!r}; it must be a positive number of pixels")
    return int(text)


# ---- opening ----------------------------------------------------------------------------------------------


def _decode(
    content: ImageContent, name: str, max_pixels: float | None, num_channels: int | None
) -> StandardImage:
    """The image of a file, upright; an array where Pillow would lose bits or bands."""
    if not isinstance(content, Image.Image | np.ndarray):
        content = read_content(content, name=name, what="image")
        if content.startswith(NPY_MAGIC):
            return read_npy(content, name, num_channels)
    try:
        image, data = _open(content, name, "image", max_pixels)
    except UnknownFormatError:
        if not isinstance(content, bytes) or not content.startswith(TIFF_MAGIC):
            raise
        return _read_other_tiff(content, name, num_channels)
    try:
        with any_size():
            reason = hidden_bands(image, data, num_channels)
        if reason is not None:
            return read_bands(image, data, reason, name, num_channels)
        upright = ImageOps.exif_transpose(_load(image, name, "image"))
    except (ImportError, ChannelError):
        raise
    except Exception as error:  # a damaged EXIF block alone raises struct.error, TypeError, KeyError ...
        raise _undecodable("image", name, error) from error
    return upright


def _read_other_tiff(data: bytes, name: str, num_channels: int | None) -> Array:
    try:
        return read_tiff(data, "bands that Pillow does not read", name, num_channels)
    except ImportError:
        raise
    except Exception as error:  # as above
        raise _undecodable("image", name, error) from error


def _open(
    content: ImageContent, name: str, what: str, max_pixels: float | None
) -> tuple[Image.Image, bytes | None]:
    """A PIL image that may not be loaded yet, and the content of its file where that is at hand."""
    if isinstance(content, Image.Image):
        if getattr(content, "tile", None):  # what is in memory already has been paid for
            _check_size(content, name, what, max_pixels)
        return content, None
    if isinstance(content, np.ndarray):
        raise TypeError(f"{what} {name} is an array, not a file")
    data = read_content(content, name=name, what=what)
    if not data:
        raise BrokenImageError(
            f"{what} {name} cannot be decoded: it is empty or no image; replace or remove the file"
        )
    try:
        with any_size():
            image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        # PIL's own message names an object in memory.
        raise UnknownFormatError(
            f"{what} {name} cannot be decoded: it is empty or no image of a known format "
            f"({', '.join(_formats())}); replace or remove the file"
        ) from error
    except (
        Exception
    ) as error:  # decoders raise struct.error, TypeError, RuntimeError, NotImplementedError ...
        raise _undecodable(what, name, error) from error
    _check_size(image, name, what, max_pixels)
    return image, data


def _load(image: Image.Image, name: str, what: str) -> Image.Image:
    try:
        with any_size():
            image.load()
    except Exception as error:  # as above
        raise _undecodable(what, name, error) from error
    return image


@contextmanager
def any_size() -> Iterator[None]:
    """Within it Pillow's own limit is off: ours is checked from the header, and its message says what to do."""
    # The limit is global in Pillow, while several threads decode at once: the last one to leave restores it.
    with _readers:
        _limit_before.append(Image.MAX_IMAGE_PIXELS if not _limit_before else _limit_before[0])
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _readers:
            before = _limit_before.pop()
            if not _limit_before:
                Image.MAX_IMAGE_PIXELS = before


def _check_size(image: Image.Image, name: str, what: str, max_pixels: float | None) -> None:
    pixels, limit = image.width * image.height, pixel_limit() if max_pixels is None else max_pixels
    if pixels > limit:
        raise ValueError(
            f"{what} {name} has {image.width} x {image.height} pixels, {pixels / 1e6:.0f} million and more than "
            f"the limit of {limit / 1e6:.0f} million; cut it into tiles, segment it in windows (mode='slide', "
            f"--mode slide), or raise the limit (set {PIXEL_LIMIT_VARIABLE}={pixels})"
        )


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


def _undecodable(what: str, name: str, error: Exception) -> BrokenImageError:
    reason = " ".join(str(error).split()) or "the decoder gave no reason"
    if not isinstance(error, OSError | ValueError | SyntaxError):
        reason = f"{type(error).__name__}: {reason}"
    return BrokenImageError(
        f"{what} {name} cannot be decoded: {reason.rstrip('.')}; replace or remove the file"
    )


# ---- channels and values ------------------------------------------------------------------------------------


def is_wide(image: Image.Image) -> bool:
    """Whether a PIL image holds more than 8 bits per channel."""
    return image.mode == "F" or image.mode.startswith("I")


def to_channels(image: Image.Image, num_channels: int | None, name: str) -> StandardImage:
    """An 8-bit PIL image as RGB image, or as array where other than three channels are asked for.

    Args:
        image: Upright, of any mode of 8 bits or less.
        num_channels: 1, 3, 4 or another number that the image must have; `None` for its own.
        name: For messages.

    Raises:
        ChannelError: The image does not have them.
    """
    if num_channels == 3:
        return to_rgb(image)
    if image.mode in ("P", "PA", "1") and num_channels != 1:
        image = to_rgb(image) if image.mode != "1" else image.convert("L")
    if num_channels == 1:
        # Gray images are often stored as RGB; a colored one would lose what its colors say.
        if image.mode not in ("1", "L"):
            color = np.asarray(to_rgb(image))
            if not (color == color[..., :1]).all():
                raise ChannelError(_channels_text(name, f"colors (mode {image.mode})", 1))
            return np.ascontiguousarray(color[..., :1])
        return np.asarray(image.convert("L"))[..., None]
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def to_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of 8 bits or less as RGB, laid over `BACKGROUND` where it is transparent."""
    if image.mode in _ALPHA_MODES or (image.info.get("transparency") is not None and image.mode != "RGBX"):
        if image.mode in ("La", "RGBa"):  # stored multiplied with alpha
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        layer = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        return Image.alpha_composite(below, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def array_to_channels(
    array: Array, num_channels: int | None, name: str, *, may_have_alpha: bool = True
) -> Array:
    """An array as `(height, width, num_channels)`: gray is repeated for RGB, alpha of 8 bits is laid over white.

    Args:
        array: `(height, width)` or `(height, width, channels)`.
        num_channels: What the model takes; `None` for what is there.
        name: For messages.
        may_have_alpha: Whether four channels given for three are color and alpha.

    Raises:
        ChannelError: It has other channels.
        ValueError: It is no image.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(
            f"image {name} is an array of shape {array.shape}; an image is (height, width) or (height, width, "
            "channels) with at least one pixel"
        )
    if array.dtype == bool:
        array = array.astype(np.uint8) * np.uint8(255)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(f"image {name} is an array of {array.dtype}; an image holds numbers")
    found = array.shape[2]
    if num_channels is None or found == num_channels:
        return array
    if num_channels == 3 and found == 1:
        return np.repeat(array, 3, axis=2)
    if may_have_alpha and num_channels == 3 and found in (2, 4) and array.dtype == np.uint8:
        return np.asarray(to_rgb(Image.fromarray(array, "LA" if found == 2 else "RGBA")))
    if may_have_alpha and num_channels == 3 and found == 4 and _is_share(array):
        alpha = array[..., 3:]
        return array[..., :3] * alpha + (1 - alpha)
    if num_channels == 1 and (array == array[..., :1]).all() and found == 3:
        return np.ascontiguousarray(array[..., :1])
    raise ChannelError(_channels_text(name, f"{found} channels", num_channels))


def _is_share(array: Array) -> bool:
    return np.issubdtype(array.dtype, np.floating) and bool((array >= 0).all() and (array <= 1).all())


def _channels_text(name: str, found: str, wanted: int) -> str:
    means = f"{wanted} channel{'s' if wanted != 1 else ''}"
    return (
        f"image {name} has {found}, but the model takes {means} (as many as image_mean has numbers); choose the "
        "channels and save them as a file of their own, or give image_mean and image_std a number for each"
    )


def fetch(text: str) -> str | bytes:
    """A path as it is; the content behind a URL or in base64 data.

    Args:
        text: One of the three.

    Raises:
        ValueError: It is neither, and no base64 data.
    """
    if text.startswith(("http://", "https://")):
        from huggingface_hub import get_session  # the HTTP client that is there, whatever its package

        return bytes(get_session().get(text, follow_redirects=True).raise_for_status().content)
    if text.startswith("data:image/") or (len(text) > 260 and not _exists(text)):
        try:
            return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text)
        except binascii.Error as error:
            raise ValueError(f"image {text[:40]}... is neither a file nor base64 data: {error}") from error
    return text


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a path
        return False


__all__ = [
    "BACKGROUND",
    "FORMATS",
    "ChannelError",
    "ImageContent",
    "StandardImage",
    "as_bytes_scale",
    "checked_range",
    "fetch",
    "open_image",
    "pixel_limit",
    "read_image",
]
