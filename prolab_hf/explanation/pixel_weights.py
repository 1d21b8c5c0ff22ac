"""How much every cell of every forward pass counts for the score of a pixel or region: `segment`, transposed.

A class score of the label map is a weighted mean over cells of the network's low-resolution maps: windows are enlarged,
averaged where they overlap, and resized to the image. All of that is linear. Run backwards, it takes weights of pixels
to weights of cells, so nothing of the size of the image has to be enlarged for an explanation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from prolab_hf.evaluation.settings import InferenceSettings
from prolab_hf.evaluation.sliding_window import window_starts
from prolab_hf.model.resize_prolab import linear_axis
from prolab_hf.protocols import ImageProcessor

Size = tuple[int, int]

MAX_BLOCK_ELEMENTS = 4_000_000
"""Numbers per temporary array when the cells of a large region are summed."""


@dataclass(frozen=True)
class Weights:
    """Weights inside of a rectangle of a larger map; outside of it they are zero.

    Attributes:
        values: Float64 `(number, height, width)`: several sets of weights of one rectangle.
        top: First row of the rectangle.
        left: Its first column.
    """

    values: Tensor
    top: int = 0
    left: int = 0

    @classmethod
    def of_point(cls, point: tuple[int, int]) -> Self:
        """All weight on one pixel, given as column and row."""
        return cls(torch.ones(1, 1, 1, dtype=torch.float64), point[1], point[0])

    @classmethod
    def of_region(cls, region: Tensor) -> Self:
        """Equal weights on the pixels of a region with at least one, bool `(height, width)`; their sum is 1."""
        rows, columns = region.any(1).nonzero().flatten(), region.any(0).nonzero().flatten()
        top, left = int(rows[0]), int(columns[0])
        inside = region[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].to(torch.float64)
        return cls((inside / inside.sum())[None], top, left)

    def mirrored(self, width: int) -> Weights:
        """The weights in the mirrored map of this width."""
        return Weights(self.values.flip(-1), self.top, width - self.left - self.values.shape[2])

    def within(self, window: Window) -> Weights | None:
        """The part inside of a window, counted from its corner; `None` where all of it is zero."""
        top, left = max(self.top, window.top), max(self.left, window.left)
        bottom = min(self.top + self.values.shape[1], window.top + window.height)
        right = min(self.left + self.values.shape[2], window.left + window.width)
        if top >= bottom or left >= right:
            return None
        values = self.values[:, top - self.top : bottom - self.top, left - self.left : right - self.left]
        return Weights(values, top - window.top, left - window.left) if bool(values.any()) else None

    def before_resize(self, source: Size, target: Size) -> Weights:
        """Weights in a map that is resized to the map of these weights (`align_corners=False`).

        Args:
            source: Height and width of that map.
            target: Height and width of the map of these weights.
        """
        values, start = self.values, [self.top, self.left]
        for index, (cells, pixels) in enumerate(zip(source, target)):
            if cells == pixels:
                continue
            dim, device = index + 1, values.device
            axis = linear_axis(cells, pixels, dtype=torch.float32, device=device)
            used = slice(start[index], start[index] + values.shape[dim])
            lower, upper = axis.lower[used], axis.upper[used]
            first = int(lower[0])
            shape = list(values.shape)
            shape[dim] = int(upper[-1]) + 1 - first
            across = [1, 1, 1]
            across[dim] = -1
            share = axis.weight[used].to(values.dtype).view(across)
            narrowed = values.new_zeros(shape)
            narrowed.index_add_(dim, lower - first, values * (1 - share))
            narrowed.index_add_(dim, upper - first, values * share)
            values, start[index] = narrowed, first
        return Weights(values, *start)

    def of_maps(self, maps: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The cells of low-resolution maps that count, and their weights, in blocks that fit into memory.

        Args:
            maps: `(channels, height, width)`.

        Yields:
            Cells, float64 `(cells, channels)`, and weights, float64 `(number, cells)`.
        """
        height, width = self.values.shape[1:]
        part = maps[:, self.top : self.top + height, self.left : self.left + width].flatten(1)
        weights = self.values.flatten(1)
        for used in (weights != 0).any(0).nonzero().flatten().split(max(1, MAX_BLOCK_ELEMENTS // len(maps))):
            # On the CPU: not every device knows float64.
            yield part[:, used.to(part.device)].t().cpu().to(torch.float64), weights[:, used]

    def sum_of(self, maps: Tensor) -> Tensor:
        """Weighted sum over the cells of low-resolution maps.

        Args:
            maps: `(channels, height, width)`.

        Returns:
            Float64 `(number, channels)`.
        """
        total = torch.zeros(len(self.values), len(maps), dtype=torch.float64)
        for cells, weights in self.of_maps(maps):
            total += weights @ cells
        return total


@dataclass(frozen=True)
class Window:
    """A window of a prepared image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Stream:
    """All forward passes over one image at one scale, mirrored or not: one of the runs that `segment` averages.

    Attributes:
        run: Index of the scale.
        flip: Whether the image was mirrored.
        source_size: Height and width of the prepared image.
        size: Height and width of the result.
        windows: The passes, in the order of `slide_bands`.
        is_direct: Whether the network's map is resized to the result at once, not over the prepared image.
        crop_size: Height and width of the window as `slide_bands` takes it.
        stride: Its step.
    """

    run: int
    flip: bool
    source_size: Size
    size: Size
    windows: tuple[Window, ...]
    is_direct: bool
    crop_size: Size
    stride: Size

    @classmethod
    def plan(
        cls,
        run: int,
        flip: bool,
        source_size: Size,
        size: Size,
        settings: InferenceSettings,
        processor: ImageProcessor | None,
    ) -> Self:
        """The passes that `segment` makes for these settings."""
        is_direct = settings.mode == "whole" and not settings.resize_twice
        crop_size, stride = settings.window(processor) if settings.mode == "slide" else (source_size,) * 2
        height, width = (min(pair) for pair in zip(crop_size, source_size))
        tops = window_starts(source_size[0], height, stride[0])
        lefts = window_starts(source_size[1], width, stride[1])
        windows = tuple(Window(top, left, height, width) for top in tops for left in lefts)
        return cls(run, flip, source_size, size, windows, is_direct, crop_size, stride)

    def on_source(self, weights: Weights) -> Weights:
        """Weights of the prepared image's pixels, where windows overlap already divided by their number.

        Args:
            weights: Of the pixels of the result. For a direct stream they stay so (mirrored where it is).
        """
        if self.flip:
            weights = weights.mirrored(self.size[1])
        if self.is_direct:
            return weights
        weights = weights.before_resize(self.source_size, self.size)
        rows = slice(weights.top, weights.top + weights.values.shape[1])
        columns = slice(weights.left, weights.left + weights.values.shape[2])
        down = _coverage({(w.top, w.height) for w in self.windows}, self.source_size[0])[rows]
        across = _coverage({(w.left, w.width) for w in self.windows}, self.source_size[1])[columns]
        return Weights(weights.values / (down[:, None] * across), weights.top, weights.left)

    def on_window(self, source_weights: Weights, index: int) -> Weights | None:
        """The part of `on_source` inside of a window, `None` where the window does not count."""
        return source_weights if self.is_direct else source_weights.within(self.windows[index])

    def on_cells(self, window_weights: Weights, map_size: Size) -> Weights:
        """Weights of the cells of a window's low-resolution map.

        Args:
            window_weights: What `on_window` gave.
            map_size: Height and width of the map that the network gave.
        """
        window = self.windows[0]
        target = self.size if self.is_direct else (window.height, window.width)
        return window_weights.before_resize(map_size, target)


class RegionCells:
    """How much every cell of every pass counts for the mean over a region, and how much of the cell lies inside of it.

    Args:
        streams: All passes over the image.
        region: Bool `(height, width)`; `None` for the whole image.
    """

    def __init__(self, streams: Sequence[Stream], region: Tensor | None) -> None:
        self.streams, self.region = streams, region
        self._sources: dict[int, tuple[Weights, Weights]] = {}
        self._cells: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def is_of(self, region: Tensor | None) -> bool:
        """Whether it was made for this region."""
        if region is None or self.region is None:
            return region is self.region
        return torch.equal(region, self.region)

    def of(self, stream: int, window: int, map_size: Size) -> tuple[Tensor, Tensor]:
        """Weights of the cells of one pass for the mean over the region, and the part of every cell inside of it.

        Args:
            stream: Index of the stream.
            window: Index of its window.
            map_size: Height and width of the map that the network gave.

        Returns:
            Two maps `(height, width)`, float32 on the CPU; the first sums to 1 over the windows of a stream.
        """
        key = stream, window
        if key not in self._cells:
            plan = self.streams[stream]
            if stream not in self._sources:
                everywhere = torch.ones(1, *plan.size, dtype=torch.float64)
                pixels = everywhere if self.region is None else self.region[None].to(torch.float64)
                self._sources[stream] = plan.on_source(Weights(pixels)), plan.on_source(Weights(everywhere))
            inside, whole = (self._dense(part, stream, window, map_size) for part in self._sources[stream])
            number = math.prod(plan.size) if self.region is None else int(self.region.sum())
            self._cells[key] = (inside / number).float(), (inside / whole.clamp_min(1e-12)).float()
        return self._cells[key]

    def _dense(self, on_source: Weights, stream: int, window: int, map_size: Size) -> Tensor:
        plan, result = self.streams[stream], torch.zeros(map_size, dtype=torch.float64)
        on_window = plan.on_window(on_source, window)
        if on_window is not None:
            cells = plan.on_cells(on_window, map_size)
            height, width = cells.values.shape[1:]
            result[cells.top : cells.top + height, cells.left : cells.left + width] = cells.values[0]
        return result


def _coverage(spans: set[tuple[int, int]], length: int) -> Tensor:
    """Number of windows over every pixel of one side, float64 `(length,)`."""
    coverage = torch.zeros(length, dtype=torch.float64)
    for start, extent in spans:
        coverage[start : start + extent] += 1
    return coverage
