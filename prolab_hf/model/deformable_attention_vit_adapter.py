"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1) in plain PyTorch.

Every query looks at a few learned positions per head and level and averages what it finds there. On a CPU the
bilinear corners are read as rows of a table (`embedding_bag`), which neither copies the values into maps of
one head nor writes the sampled values out; elsewhere, and inside compiled or exported graphs, `grid_sample`
does it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

MAX_INT32 = 2**31 - 1


def reference_points(shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
    """Centers of all cells of maps with the given (height, width).

    Returns:
        `(cells, 2)`, x before y, in (0, 1), float32: coordinates below a pixel do not survive half precision.
    """
    points = []
    for height, width in shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        points.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1))
    return torch.cat(points)


def deformable_attention(
    value: Tensor, shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Weighted sums of bilinearly sampled values; positions outside a map read zeros.

    Computed in at least float32 whatever the values' type: with the 8 bits of bfloat16 a position in a map of
    64 cells would be off by a quarter of a cell.

    Args:
        value: `(batch_size, cells, num_heads, head_dim)`, the maps one after the other, each row by row.
        shapes: (height, width) of each map; their areas sum to `cells`.
        sampling_locations: `(batch_size, num_queries, num_heads, num_levels, num_points, 2)`, x before y; a
            map spans [0, 1] from edge to edge.
        attention_weights: `(batch_size, num_queries, num_heads, num_levels, num_points)`.

    Returns:
        `(batch_size, num_queries, num_heads * head_dim)` in the type of `value`.

    Raises:
        ValueError: The areas of `shapes` do not sum to `cells`.
    """
    cells = sum(height * width for height, width in shapes)
    if value.shape[1] != cells:
        raise ValueError(
            f"value has {value.shape[1]} cells, but maps of (height, width) {shapes} have {cells}."
        )
    dtype = torch.promote_types(value.dtype, torch.float32)
    locations, weights = sampling_locations.to(dtype), attention_weights.to(dtype)
    eager = not torch.compiler.is_compiling() and not torch.jit.is_tracing()
    # embedding_bag is in no ONNX operator set, and inductor turns grid_sample into one fused kernel.
    sample = _sample_by_rows if eager and value.device.type == "cpu" else _sample_by_grid
    return sample(value, shapes, locations, weights).to(value.dtype)


def _sample_by_grid(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """One `grid_sample` per level, summed over its points at once so that no stack of levels is kept."""
    batch_size, _, heads, head_dim = value.shape
    levels = value.split([height * width for height, width in shapes], dim=1)
    outputs = []
    for level, (level_value, (height, width)) in enumerate(zip(levels, shapes)):
        maps = level_value.to(locations.dtype).permute(0, 2, 3, 1).reshape(-1, head_dim, height, width)
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        sampled = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        level_weights = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        outputs.append((sampled * level_weights[:, None]).sum(-1))
    output = torch.stack(outputs).sum(0) if len(outputs) > 1 else outputs[0]
    return output.view(batch_size, heads * head_dim, -1).transpose(1, 2)


def _sample_by_rows(
    value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Each (query, head) is a bag of table rows: the four corners of all its points, weighted.

    A frame of zeros around every map takes the place of tests for positions outside it: positions are clamped
    onto the frame, where all corners that count are zero.
    """
    batch_size, _, heads, head_dim = value.shape
    bags, points = locations.shape[1] * batch_size * heads, math.prod(locations.shape[3:5])
    table, starts = _framed_table(value, shapes, locations.dtype)
    rows = table.shape[0] * table.shape[1] * heads
    integer = torch.int32 if rows <= MAX_INT32 else torch.int64

    # Position in the framed map: cell centers at whole numbers, the first real cell at 1.
    size = locations.new_tensor([(width, height) for height, width in shapes])[:, None]
    position = torch.clamp(locations * size + 0.5, min=torch.zeros_like(size), max=size + 1)
    corner = position.detach().to(integer)
    x, y = (position - corner).unbind(-1)

    def per_level(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=integer)[:, None]

    stride = per_level([width + 2 for _, width in shapes])
    first = torch.arange(batch_size, dtype=integer).view(-1, 1, 1, 1, 1) * table.shape[1] + per_level(starts)
    row = (corner[..., 1] * stride + corner[..., 0] + first) * heads
    row = row + torch.arange(heads, dtype=integer)[:, None, None]
    # Positions that are not numbers must stay inside the table; their weights are not numbers either.
    below = (row + stride * heads).clamp_(0, rows - heads - 1).view(bags, points)
    row = row.clamp_(0, rows - heads - 1).view(bags, points)

    lower = y * weights
    upper = weights - lower
    lower_right, upper_right = x * lower, x * upper
    corners = [upper - upper_right, upper_right, lower - lower_right, lower_right]
    return F.embedding_bag(
        torch.cat([row, row + heads, below, below + heads], dim=-1),
        table.view(-1, head_dim),
        per_sample_weights=torch.cat([weight.reshape(bags, points) for weight in corners], dim=-1),
        mode="sum",
    ).view(batch_size, -1, heads * head_dim)


def _framed_table(
    value: Tensor, shapes: list[tuple[int, int]], dtype: torch.dtype
) -> tuple[Tensor, list[int]]:
    """Copies the maps into zeros, each with a frame one cell wide.

    Returns:
        `(batch_size, framed_cells, num_heads * head_dim)` and the first cell of each framed map. A corner of
        weight zero may lie one row and one cell behind a map, hence a tail behind the last one.
    """
    batch_size, channels = value.shape[0], value.shape[2] * value.shape[3]
    areas = [(height + 2) * (width + 2) for height, width in shapes]
    starts = [sum(areas[:level]) for level in range(len(areas))]
    tail = max(width for _, width in shapes) + 4
    table = torch.zeros(batch_size, sum(areas) + tail, channels, dtype=dtype)
    maps = value.flatten(2).split([height * width for height, width in shapes], dim=1)
    for start, area, (height, width), level in zip(starts, areas, shapes, maps):
        framed = table[:, start : start + area].view(batch_size, height + 2, width + 2, channels)
        framed[:, 1:-1, 1:-1].copy_(level.view(batch_size, height, width, channels))
    return table, starts


class SamplingOffsets(nn.Linear):
    """Where to look: (x, y) in cells, for each head, level and point.

    The linear maps of deformable attention are types of their own because transformers initializes missing
    weights module by module and skips modules that hold others only.
    """

    def __init__(self, dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        self.layout = (num_heads, num_levels, num_points)
        super().__init__(dim, num_heads * num_levels * num_points * 2)

    def init_weights(self) -> None:
        """Starts as a star, wherever the query is: head m looks at 1, 2, ... cells in direction m."""
        num_heads, num_levels, num_points = self.layout
        # On the CPU explicitly: models are built on the meta device before their weights are loaded.
        head = torch.arange(num_heads, dtype=torch.float32, device="cpu")
        angle = head * (2 * math.pi / num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        radius = torch.arange(1, num_points + 1, dtype=torch.float32, device="cpu")
        star = direction[:, None, None] * radius[:, None]
        init.zeros_(self.weight)
        init.copy_(self.bias, star.expand(-1, num_levels, -1, -1).flatten())


class EqualWeights(nn.Linear):
    """How much each point counts, before the softmax."""

    def init_weights(self) -> None:
        """Starts with all points equal."""
        init.zeros_(self.weight)
        init.zeros_(self.bias)


class XavierLinear(nn.Linear):
    """Projection of the values or of the output."""

    def init_weights(self) -> None:
        """Starts uniformly, as large as its two sides suggest."""
        init.xavier_uniform_(self.weight)
        init.zeros_(self.bias)


class DeformableAttention(nn.Module):
    """Deformable attention of queries at known positions to feature maps.

    Args:
        dim: Channels of queries, features and output.
        num_levels: Feature maps.
        num_heads: Attention heads.
        num_points: Positions sampled per head and level.
        ratio: Channels of the values relative to `dim`.
    """

    def __init__(self, dim: int, *, num_levels: int, num_heads: int, num_points: int, ratio: float) -> None:
        super().__init__()
        value_dim = int(dim * ratio)
        if value_dim % num_heads:
            raise ValueError(
                f"{num_heads} heads do not divide the {value_dim} value channels (int({dim} * {ratio})); "
                "choose another number of heads or ratio."
            )
        self.num_levels, self.num_heads, self.num_points = num_levels, num_heads, num_points
        self.sampling_offsets = SamplingOffsets(dim, num_heads, num_levels, num_points)
        self.attention_weights = EqualWeights(dim, num_heads * num_levels * num_points)
        self.value_proj = XavierLinear(dim, value_dim)
        self.output_proj = XavierLinear(value_dim, dim)

    def forward(
        self, query: Tensor, points: Tensor, features: Tensor, shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Attends from every query to positions around its own.

        Args:
            query: `(batch_size, num_queries, dim)`.
            points: `(num_queries, 2)`, where the queries are, x before y, in [0, 1].
            features: `(batch_size, cells, dim)`, the maps one after the other.
            shapes: (height, width) of each map.

        Returns:
            `(batch_size, num_queries, dim)`.
        """
        batch_size, num_queries, _ = query.shape
        layout = (batch_size, num_queries, self.num_heads, self.num_levels, self.num_points)
        value = self.value_proj(features).view(batch_size, features.shape[1], self.num_heads, -1)
        # Offsets are in cells of the map they point into, weights sum to one over all levels.
        size = points.new_tensor([(width, height) for height, width in shapes])[:, None]
        # Locations are float32 like `points`, whatever the type of the offsets.
        offsets = self.sampling_offsets(query).view(*layout, 2) / size
        locations = points[:, None, None, None] + offsets
        weights = self.attention_weights(query).view(*layout[:3], -1).softmax(-1).view(layout)
        return self.output_proj(deformable_attention(value, shapes, locations, weights))
