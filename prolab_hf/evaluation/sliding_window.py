"""Sliding-window logits as in the published evaluations, with memory bounded by one row of windows.

Windows of `crop_size` are placed every `stride` pixels; the last one of a row or column is shifted back
inside the image. The logits of a window are resized to the window, summed, and divided by the number of
windows that cover a pixel. An image smaller than the window is run as it is, without padding.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from prolab_hf.model.resize_prolab import linear_axis


def resized_blocks(
    bands: Iterable[Tensor], source_size: tuple[int, int], size: tuple[int, int], *, block_rows: int = 32
) -> Iterator[Tensor]:
    """Resize a map that arrives in bands of rows and give it on in blocks of rows.

    Args:
        bands: Bands `(num_labels, any number of rows, source width)` from top to bottom.
        source_size: Height and width of all bands together.
        size: Height and width of the result.
        block_rows: Rows per block; the last block may be shorter. Equal for all maps of one image, so that
            several maps can be combined block by block.

    Yields:
        Blocks `(num_labels, rows, width)` of the resized map.
    """
    stream = iter(bands)
    held, first = next(stream), 0  # the rows of the source from `first` on that are still needed
    axis = linear_axis(source_size[0], size[0], dtype=torch.float32, device=torch.device("cpu"))
    above, below, weights = axis.lower.tolist(), axis.upper.tolist(), axis.weight.tolist()
    for start in range(0, size[0], block_rows):
        stop = min(start + block_rows, size[0])
        top, bottom = above[start], below[stop - 1] + 1
        while first + held.shape[1] < bottom:
            dropped = min(top - first, held.shape[1])
            held = torch.cat([held[:, dropped:], next(stream)], dim=1)
            first += dropped
        slab = held[:, top - first : bottom - first]
        if source_size[1] != size[1]:
            slab = F.interpolate(slab, size=size[1], mode="linear", align_corners=False)
        if source_size[0] == size[0]:
            yield slab[:, : stop - start]
            continue
        block = slab.new_empty(slab.shape[0], stop - start, size[1])
        # Row by row from views: gathering both neighbors of all rows first takes three times as long.
        for row in range(start, stop):
            torch.lerp(
                slab[:, above[row] - top], slab[:, below[row] - top], weights[row], out=block[:, row - start]
            )
        yield block


LogitsFunction = Callable[[Tensor], Tensor]
"""Images `(n, num_channels, height, width)` to logits `(n, num_labels, any height, any width)`."""

MAX_BAND_ROWS = 64
"""Rows per band that `slide_bands` gives."""


class StripedPixels:
    """Pixel values of one large image, prepared a strip of rows at a time.

    Args:
        strip: Gives the pixel values `(1, num_channels, rows, width)` from a first row to before a last one.
        size: Height and width.
        flipped: Whether the image is mirrored.
    """

    def __init__(
        self, strip: Callable[[int, int], Tensor], size: tuple[int, int], *, flipped: bool = False
    ) -> None:
        self.strip = strip
        self.shape = (1, 0, *size)  # how many channels there are is seen in a strip
        self.flipped = flipped

    def rows(self, top: int, bottom: int) -> Tensor:
        """Pixel values `(1, num_channels, rows, width)` from row `top` to before `bottom`."""
        values = self.strip(top, min(bottom, self.shape[2]))
        return values.flip(-1) if self.flipped else values

    def flip(self, axis: int) -> "StripedPixels":
        """The mirrored image; `axis` must be that of the columns."""
        if axis != -1:
            raise ValueError(f"axis is {axis}; only columns (-1) can be mirrored strip by strip.")
        return StripedPixels(self.strip, (self.shape[2], self.shape[3]), flipped=not self.flipped)


Rows = Tensor | StripedPixels
"""Pixel values whose rows are read from top to bottom."""


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixel of every window along one side.

    Args:
        length: Length of the side in pixels.
        window: Length of the window; a longer one than the side counts as the side.
        stride: Distance between windows, from 1 to `window`.
    """
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def count_windows(size: tuple[int, int], crop_size: tuple[int, int], stride: tuple[int, int]) -> int:
    """Number of windows over an image of `size` `(height, width)`."""
    rows, columns = (len(window_starts(*axis)) for axis in zip(size, crop_size, stride))
    return rows * columns


def slide_bands(
    logits_function: LogitsFunction,
    pixel_values: Rows,
    crop_size: tuple[int, int],
    stride: tuple[int, int],
    *,
    windows_per_batch: int = 4,
    on_windows: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Averaged logits from top to bottom, a band at a time as soon as no later window touches it.

    Only the rows that windows still reach are held, so a 12-megapixel image with 150 classes needs the
    memory of one row of windows instead of 7 GB.

    Args:
        logits_function: Gives the logits of a batch of windows.
        pixel_values: Images, `(batch_size, num_channels, height, width)`, or the strips of one large image.
        crop_size: Height and width of the window.
        stride: Vertical and horizontal distance between windows; at most `crop_size`.
        windows_per_batch: Windows of each image that are run together.
        on_windows: Called with the number of windows just done.

    Yields:
        Float32 logits `(batch_size, num_labels, rows, width)`; the rows of all bands add up to `height`.

    Raises:
        ValueError: If the stride leaves gaps between windows.
    """
    _check(crop_size, stride)
    batch_size, _, height, width = pixel_values.shape
    crop_height, crop_width = min(crop_size[0], height), min(crop_size[1], width)
    tops, lefts = window_starts(height, crop_height, stride[0]), window_starts(width, crop_width, stride[1])
    down, across = _coverage(tops, crop_height, height), _coverage(lefts, crop_width, width)
    band = None  # (batch_size, num_labels, crop_height, width): sums of the rows below the current top
    for top, bottom in zip(tops, [*tops[1:], height]):
        bottom_row = top + crop_height
        rows = (
            pixel_values.rows(top, bottom_row)
            if isinstance(pixel_values, StripedPixels)
            else pixel_values[:, :, top:bottom_row]
        )
        for first in range(0, len(lefts), windows_per_batch):
            chunk = lefts[first : first + windows_per_batch]
            logits = logits_function(torch.cat([rows[..., left : left + crop_width] for left in chunk]))
            if band is None:
                band = logits.new_zeros(batch_size, logits.shape[1], crop_height, width, dtype=torch.float32)
                down, across = down.to(band.device), across.to(band.device)
            # One window at a time: resized logits are the largest tensors here.
            for left, window in zip(chunk, logits.split(batch_size)):
                band[..., left : left + crop_width] += _resize(window.float(), (crop_height, crop_width))
            if on_windows is not None:
                on_windows(len(chunk))
        finished = band[:, :, : bottom - top]  # type: ignore[index]
        coverage = down[top:bottom, None] * across
        # In small pieces: dividing a whole row of windows at once would double the memory.
        for piece, count in zip(finished.split(MAX_BAND_ROWS, dim=2), coverage.split(MAX_BAND_ROWS)):
            yield piece / count
        if bottom < height:
            _scroll(band, bottom - top)  # type: ignore[arg-type]


def _scroll(band: Tensor, rows: int) -> None:
    """Move a band up by some rows in place, zeros following from below."""
    kept = band.shape[2] - rows
    for first in range(0, kept, rows):  # steps of `rows`, so that source and target never overlap
        last = min(first + rows, kept)
        band[:, :, first:last] = band[:, :, first + rows : last + rows]
    band[:, :, kept:] = 0


def slide_logits(
    logits_function: LogitsFunction,
    pixel_values: Tensor,
    crop_size: tuple[int, int],
    stride: tuple[int, int],
    *,
    windows_per_batch: int = 4,
) -> Tensor:
    """Averaged sliding-window logits of whole images (see `slide_bands` for the arguments).

    Returns:
        Float32 logits `(batch_size, num_labels, height, width)` at the size of `pixel_values`.

    Raises:
        ValueError: If the stride leaves gaps between windows.
    """
    logits, top = None, 0
    for band in slide_bands(
        logits_function, pixel_values, crop_size, stride, windows_per_batch=windows_per_batch
    ):
        if logits is None:
            logits = band.new_empty(*band.shape[:2], *pixel_values.shape[-2:])
        logits[:, :, top : top + band.shape[2]] = band
        top += band.shape[2]
    return logits  # type: ignore[return-value]  # there is at least one window


def _coverage(starts: list[int], window: int, length: int) -> Tensor:
    """Number of windows over every pixel of one side, float32 `(length,)`."""
    coverage = torch.zeros(length)
    for start in starts:
        coverage[start : start + window] += 1
    return coverage


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def _check(crop_size: tuple[int, int], stride: tuple[int, int]) -> None:
    for window, step in zip(crop_size, stride):
        if not 1 <= step <= window:
            raise ValueError(
                f"stride {stride} does not fit crop_size {crop_size}: each step must lie between 1 and the "
                "crop's side (two thirds of it in the published evaluations)."
            )
