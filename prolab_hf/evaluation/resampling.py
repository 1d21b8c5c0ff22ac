"""Bilinear resizing in blocks of rows: equal to resizing the whole map, without ever holding it."""

from collections.abc import Iterable, Iterator

import torch
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
    vertical, horizontal = (
        linear_axis(source, target, dtype=held.dtype, device=held.device)
        for source, target in zip(source_size, size)
    )
    tops, bottoms = vertical.lower.tolist(), vertical.upper.tolist()
    for start in range(0, size[0], block_rows):
        rows = slice(start, min(start + block_rows, size[0]))
        top, bottom = tops[rows][0], bottoms[rows][-1] + 1
        while first + held.shape[1] < bottom:
            dropped = min(top - first, held.shape[1])
            held = torch.cat([held[:, dropped:], next(stream)], dim=1)
            first += dropped
        slab = held[:, top - first : bottom - first]
        if source_size[1] != size[1]:
            slab = torch.lerp(slab[..., horizontal.lower], slab[..., horizontal.upper], horizontal.weight)
        if source_size[0] == size[0]:
            slab = slab[:, : rows.stop - start]
        else:
            above, below = slab[:, vertical.lower[rows] - top], slab[:, vertical.upper[rows] - top]
            slab = torch.lerp(above, below, vertical.weight[rows, None])
        yield slab
