"""Files that hold more than Pillow gives: 16 bits per color channel, bands beyond RGB, arrays.

Pillow reduces such files without a word: a PNG of 16 bits per color channel to its high bytes, a TIFF of five bands to
its first three. Here they are recognized before they are decoded, and read whole or refused.
"""

import io
import logging
import re
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NPY_MAGIC = b"\x93NUMPY"
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REDUCED_OR_MASK = 0b101
# Tags of TIFF.
_SUBFILE, _BITS, _COLORS, _EXTRA, _SAMPLES, _ORIENTATION = 254, 258, 262, 338, 277, 274
_CMYK, _ALPHA = 5, (1, 2)

Array: TypeAlias = NDArray[Any]  # of any kind of number


def hidden_bands(image: Image.Image, data: bytes | None, num_channels: int | None) -> str | None:
    """Why an image that was opened but not loaded must not be decoded by Pillow.

    Args:
        image: The opened image; one that is loaded already hides nothing any more.
        data: Content of its file, where it is at hand.
        num_channels: What the model takes; four bands may be a color with alpha, or four bands.

    Returns:
        What it holds, in words; `None` if Pillow reads it whole.
    """
    # A loaded image has no tiles left: what its file held can no longer be known.
    tiles = list(getattr(image, "tile", []))
    if not tiles:
        return None
    if image.format == "PNG" and image.mode != "I;16" and str(tiles[0][3]).endswith(";16B"):
        return "16 bits per color channel"
    if image.format == "PPM":
        arguments = tiles[0][3]
        largest = arguments[-1] if isinstance(arguments, tuple) else 0
        return f"values up to {largest}" if isinstance(largest, int) and largest > 255 else None
    if image.format == "JPEG2000":
        depth = _jpeg2000_depth(data or _content(image))
        return f"{depth} bits per color channel" if depth > 8 and image.mode != "I;16" else None
    return _tiff_bands(image, num_channels) if image.format == "TIFF" else None


def _tiff_bands(image: Image.Image, num_channels: int | None) -> str | None:
    pages = _pages(image)
    if pages != 1:
        return f"{pages} pages"
    tags = getattr(image, "tag_v2", {})
    bits, samples = max(tags.get(_BITS, (1,))), int(tags.get(_SAMPLES, 1))
    extra = tags.get(_EXTRA, ())
    if samples > 1 and bits > 8:
        return f"{samples} bands of {bits} bits"
    alpha = len(extra) == 1 and extra[0] in _ALPHA and samples in (2, 4)
    usual = samples in (1, 3) or alpha or (samples == 4 and tags.get(_COLORS) == _CMYK)
    if not usual or (samples == 2 and num_channels == 2):
        return f"{samples} bands"
    return None


def _pages(image: Image.Image) -> int:
    """Pages that are no reduced copies (pyramids of GeoTIFFs, thumbnails) and no masks."""
    count = 0
    for page in range(getattr(image, "n_frames", 1)):
        image.seek(page)
        count += not int(getattr(image, "tag_v2", {}).get(_SUBFILE, 0)) & _REDUCED_OR_MASK
    image.seek(0)
    return count


def read_bands(
    image: Image.Image, data: bytes | None, reason: str, name: str, num_channels: int | None
) -> Array:
    """All bits and bands of a file that `hidden_bands` named.

    Args:
        image: The opened image.
        data: Content of its file, where it is at hand.
        reason: What it holds.
        name: For messages.
        num_channels: What the model takes: single-band pages of that number are its bands.

    Returns:
        `(height, width, channels)` stored values, upright.

    Raises:
        ValueError: The kind of file cannot be read whole.
        ImportError: It needs the extra `geo`.
    """
    data = data or _content(image)
    if image.format == "PNG" and image.mode in ("RGB", "RGBA"):
        return turned(_read_png(data, image.mode), image.getexif().get(_ORIENTATION, 1))
    if image.format == "PPM":
        return read_pnm(data)
    if image.format == "TIFF":
        return read_tiff(data, reason, name, num_channels)
    raise ValueError(f"it is a {image.format} with {reason}, which would be cut to 8; save it as TIFF or PNG")


def turned(array: Array, orientation: int) -> Array:
    """An array `(height, width, ...)` as an EXIF orientation (1 to 8) says it is shown."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def _content(image: Image.Image) -> bytes:
    """The content of the file behind a PIL image that is not loaded yet."""
    file = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(position)
    return data


def _read_png(data: bytes, mode: str) -> Array:
    """PNG stores the high byte first; Pillow decodes one of the two, so that it is asked twice."""
    halves = []
    for order in ("B", "L"):
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        image.tile = [tile._replace(args=f"{mode};16{order}") for tile in image.tile]
        halves.append(np.asarray(image).astype(np.uint16))
    return halves[0] << np.uint16(8) | halves[1]


def read_pnm(data: bytes) -> Array:
    """A portable map (P2, P3, P5, P6) as it is stored: Pillow would stretch its values to 8 or 16 bits.

    Args:
        data: Content of the file.

    Returns:
        `(height, width, channels)` uint16.
    """
    numbers, position = [], 2
    token = re.compile(rb"(?:\s|#[^\n]*\n)*(\d+)")
    for _ in range(3):
        found = token.match(data, position)
        if found is None:
            raise ValueError("its header is damaged")
        numbers.append(int(found[1]))
        position = found.end()
    width, height, largest = numbers
    channels = 3 if data[:2] in (b"P3", b"P6") else 1
    if data[:2] in (b"P2", b"P3"):
        values = np.array(data[position:].split(), dtype=np.int64).astype(np.uint16)
    else:
        kind = ">u2" if largest > 255 else "u1"
        values = np.frombuffer(data, kind, count=height * width * channels, offset=position + 1)
    return values.astype(np.uint16).reshape(height, width, channels)


def read_tiff(data: bytes, reason: str, name: str, num_channels: int | None) -> Array:
    """All bands of a TIFF; see `read_bands`."""
    try:
        import tifffile
    except ImportError:
        raise ImportError(
            f"image {name} is a TIFF with {reason}, which needs the package tifffile: pip install 'prolab_hf[geo]'"
        ) from None
    # It reports every damaged tag of a file that is refused in the end.
    reports = logging.getLogger("tifffile")
    was_off, reports.disabled = reports.disabled, True
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return _bands_of_pages(list(file.pages), num_channels)
    finally:
        reports.disabled = was_off


def _bands_of_pages(all_pages: list[Any], num_channels: int | None) -> Array:
    """The bands of tifffile's pages."""
    pages = [page for page in all_pages if not int(page.subfiletype) & _REDUCED_OR_MASK]
    if not pages:
        raise ValueError("it holds no image")
    first = pages[0]
    if len(pages) > 1:
        single = all(page.samplesperpixel == 1 and page.shape == first.shape for page in pages)
        if not single or len(pages) != num_channels:
            raise ValueError(
                f"it holds {len(pages)} pages, of which only one could be used; save one image a file"
            )
        bands = np.stack([page.asarray() for page in pages], axis=-1)
    else:
        bands = first.asarray()
        if bands.ndim == 3 and int(first.planarconfig) == 2 and first.samplesperpixel > 1:
            bands = np.moveaxis(bands, 0, -1)
    orientation = first.tags.get(_ORIENTATION)
    return turned(bands, 1 if orientation is None else int(orientation.value))


def read_npy(data: bytes, name: str, num_channels: int | None) -> Array:
    """An array file as `(height, width)` or `(height, width, channels)`; channels may come first.

    Args:
        data: Content of the file.
        name: For messages.
        num_channels: What the model takes, which tells the axis of the channels.

    Raises:
        ValueError: It is damaged or holds objects.
    """
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy's parser of headers raises SyntaxError, TypeError, OverflowError ...
        reason = re.sub(r"<.* object at 0x[0-9a-f]+>", "unexpected text", str(error))  # addresses help nobody
        raise ValueError(f"array {name} cannot be read: {reason}; replace or remove the file") from error
    channels = {num_channels, 1} if num_channels else {1, 3, 4}
    if array.ndim == 3 and array.shape[2] not in channels and array.shape[0] in channels:
        array = np.moveaxis(array, 0, -1)
    return array


def _jpeg2000_depth(data: bytes) -> int:
    """Bits per channel from the size marker of a JPEG 2000 code stream; 8 where there is none."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 43:
        return 8
    channels = int.from_bytes(data[start + 40 : start + 42], "big")
    return max([(depth & 127) + 1 for depth in data[start + 42 : start + 42 + 3 * channels : 3]], default=8)


# ---- stored values ------------------------------------------------------------------------------------------


def check_values(array: Array, value_range: tuple[float, float] | None, name: str) -> None:
    """Check that stored values are what is declared.

    Args:
        array: Stored values.
        value_range: Declared values of black and white; `None` if nothing is declared.
        name: For messages.

    Raises:
        ValueError: There are values of more than 8 bits or negative ones without a declared range, values outside
            the declared one, or some that are no numbers.
    """
    if array.dtype == np.uint8 and value_range is None:
        return
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(low + high):
        raise ValueError(
            f"image {name} holds values that are no numbers (not-a-number or infinite); fill them before it is used"
        )
    if value_range is None:
        raise ValueError(
            f"image {name} cannot be decoded: it holds {_kind(array)} from {low:g} to {high:g}, whose range is "
            "unknown; declare the values of black and white, for example value_range=(0, 4095) for 12 bits "
            "(--value-range 0,4095), or save it with 8 bits"
        )
    if array.dtype == np.uint8 and (value_range[1] > 255 or value_range[0] < 0):
        raise ValueError(
            f"image {name} has 8 bits, but the declared value_range is {value_range[0]:g} to {value_range[1]:g}; "
            "it was reduced on its way here: give the path of the file"
        )
    if low < value_range[0] or high > value_range[1]:
        raise ValueError(
            f"image {name} holds values from {low:g} to {high:g}, outside the declared value_range of "
            f"{value_range[0]:g} to {value_range[1]:g}; declare a wider one or correct the file"
        )


def _kind(array: Array) -> str:
    if np.issubdtype(array.dtype, np.floating):
        return "floating-point values"
    return "negative values" if array.min() < 0 else f"values of {8 * array.dtype.itemsize} bits"


def checked_range(value_range: object) -> tuple[float, float] | None:
    """A declared range as two numbers.

    Args:
        value_range: Two numbers, the smaller first, or `None`.

    Raises:
        ValueError: It is something else.
    """
    if value_range is None:
        return None
    numbers = list(value_range) if isinstance(value_range, list | tuple) else []
    if (
        len(numbers) != 2
        or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
        or not numbers[0] < numbers[1]
        or not np.isfinite(numbers).all()
    ):
        raise ValueError(
            f"value_range is {value_range!r}; it must be two numbers, those of black and white, for example (0, 4095)"
        )
    return numbers[0], numbers[1]


def as_bytes_scale(array: Array, value_range: tuple[float, float] | None) -> Array:
    """Stored values on the scale of 8-bit images: black 0, white 255, float32 where a range is declared.

    Args:
        array: Stored values of any shape.
        value_range: Declared values of black and white; `None` leaves the array as it is.
    """
    if value_range is None:
        return array
    low, high = value_range
    return (array.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))


__all__ = [
    "Array",
    "as_bytes_scale",
    "check_values",
    "checked_range",
    "hidden_bands",
    "read_bands",
    "read_npy",
    "read_pnm",
    "read_tiff",
    "turned",
]
