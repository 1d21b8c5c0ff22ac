"""Bilinear resizing in blocks of rows: equal to resizing the whole map, without ever holding it."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from prolab_hf.model.resize_prolab import linear_axis


def resized_blocks(
    bands: Iterable[Tensor], source_size: tuple[int, int], size: tuple[int, int], *, block_rows: int = 32
) -> Iterator[Tensor]:
    """Resize a map that arrives in bands of rows and give it on in blocks of rows.

    Args:
        bands: Bands `(num_classes, any number of rows, source width)` from top to bottom.
        source_size: Height and width of all bands together.
        size: Height and width of the result.
        block_rows: Rows per block; the last block may be shorter. Equal for all maps of one picture, so that
            several maps can be combined block by block.

    Yields:
        Blocks `(num_classes, rows, width)` of the resized map.
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
