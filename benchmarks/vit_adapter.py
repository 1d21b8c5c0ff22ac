"""Deformable attention and ViT-Adapter-B + UPerNet at 512 x 512 beside the same network written explicitly.

    python benchmarks/vit_adapter.py
    python benchmarks/vit_adapter.py --part deformable --repeats 5
    python benchmarks/vit_adapter.py --part model --bf16

The explicit formulation is written below over the weights of our model: softmax attention with its
probabilities in memory, one `grid_sample` per level whose results are stacked, tokens copied to maps and back,
every map of the decoder upsampled before it is convolved, and pixel embeddings, property scores and class
similarities one after the other. Both give the same class scores. Ratios count CPU seconds, which foreign load
disturbs less than wall time.
"""

import argparse
import logging
import math
from collections.abc import Callable

import torch
from measuring import environment, interleaved, peak_memory, print_table
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, ViTAdapterConfig
from prolab_hf.model.deformable_attention_vit_adapter import (
    DeformableAttention,
    deformable_attention,
    reference_points,
)
from prolab_hf.model.modeling_vit_adapter import Extractor, Injector, ViTAdapterBackbone

NUM_CLASSES, NUM_PROPERTIES, EMBEDDING_DIM = 150, 256, 768
PARTS = ["extractor", "injector", "backbone", "model"]
BF16 = "ours, bf16 autocast"


# ---- the explicit formulation


def explicit_sampling(value: Tensor, shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Deformable attention as usually written: sample every level, stack, weight, sum."""
    batch, _, heads, dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    grids = 2 * locations - 1
    sampled = []
    for level, (part, shape) in enumerate(
        zip(value.split([h * w for h, w in shapes], 1), shapes, strict=True)
    ):
        maps = part.flatten(2).transpose(1, 2).reshape(batch * heads, dim, *shape)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        sampled.append(
            F.grid_sample(
                maps, grid.to(maps.dtype), mode="bilinear", padding_mode="zeros", align_corners=False
            )
        )
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    output = (torch.stack(sampled, dim=-2).flatten(-2) * weights).sum(-1).view(batch, heads * dim, queries)
    return output.transpose(1, 2).contiguous()


def explicit_deformable(
    module: DeformableAttention, query: Tensor, points: Tensor, features: Tensor, shapes
) -> Tensor:
    batch, queries, _ = query.shape
    value = module.value_proj(features).view(batch, features.shape[1], module.num_heads, -1)
    layout = (batch, queries, module.num_heads, module.num_levels, module.num_points)
    offsets = module.sampling_offsets(query).view(*layout, 2)
    weights = module.attention_weights(query).view(*layout[:3], -1).softmax(-1).view(layout)
    size = torch.tensor([[w, h] for h, w in shapes])
    locations = points[None, :, None, None, None] + offsets / size[:, None]
    return module.output_proj(explicit_sampling(value, shapes, locations, weights))


def explicit_block(layer: nn.Module, scales, x: Tensor) -> Tensor:
    """Pre-norm block with the attention probabilities of all heads in memory."""
    batch, tokens, dim = x.shape
    attention = layer.attention
    normed = layer.layernorm_before(x)
    query, key, value = (
        projection(normed).view(batch, tokens, attention.num_attention_heads, -1).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    probabilities = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)
    attended = attention.o_proj((probabilities @ value).transpose(1, 2).reshape(batch, tokens, dim))
    x = x + scales["attention"].gamma * attended
    return x + scales["mlp"].gamma * layer.mlp(layer.layernorm_after(x))


def explicit_extractor(module: Extractor, c: Tensor, x: Tensor, points: Tensor, shapes) -> Tensor:
    query, features = module.query_norm(c), module.feature_norm(x)
    c = c + explicit_deformable(module.attention, query, points, features, [shapes[1]])
    network = module.feed_forward
    hidden = network.fc1(module.feed_forward_norm(c))
    parts = [
        network.depthwise(part.transpose(1, 2).reshape(len(c), -1, *shape).contiguous())
        for part, shape in zip(hidden.split([h * w for h, w in shapes], 1), shapes, strict=True)
    ]
    hidden = torch.cat([part.flatten(2).transpose(1, 2) for part in parts], dim=1)
    return c + network.fc2(F.gelu(hidden))


def explicit_injector(module: Injector, x: Tensor, c: Tensor, points: Tensor, shapes) -> Tensor:
    read = explicit_deformable(module.attention, module.query_norm(x), points, module.feature_norm(c), shapes)
    return x + module.gamma * read


def explicit_backbone(backbone: ViTAdapterBackbone, image: Tensor) -> list[Tensor]:
    batch, grid = len(image), (image.shape[2] // 16, image.shape[3] // 16)
    shapes = [(2 * grid[0], 2 * grid[1]), grid, (grid[0] // 2, grid[1] // 2)]
    prior = backbone.spatial_prior
    maps = [prior.stem(image)]
    for stage in prior.stages:
        maps.append(stage(maps[-1]))
    maps = [projection(features) for projection, features in zip(prior.projections, maps, strict=True)]
    c = [features.flatten(2).transpose(1, 2) for features in maps[1:]]
    c = torch.cat([part + embed for part, embed in zip(c, backbone.level_embed, strict=True)], dim=1)

    embeddings = backbone.vit.embeddings
    table = embeddings.position_embeddings[:, 1:]
    side = math.isqrt(table.shape[1])
    positions = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    positions = F.interpolate(positions, size=grid, mode="bicubic", align_corners=False)
    x = embeddings.patch_embeddings.projection(image).flatten(2).transpose(1, 2)
    x = x + positions.flatten(2).transpose(1, 2)
    query_points, points = reference_points([grid], image.device), reference_points(shapes, image.device)
    outs = []
    for interaction, (first, last) in zip(
        backbone.interactions, backbone.config.interaction_indexes, strict=True
    ):
        x = explicit_injector(interaction.injector, x, c, query_points, shapes)
        for index in range(first, last + 1):
            x = explicit_block(backbone.vit.layers[index], backbone.branch_scales.layers[index], x)
        for extractor in interaction.extractors:
            c = explicit_extractor(extractor, c, x, points, shapes)
        outs.append(x.transpose(1, 2).view(batch, -1, *grid).contiguous())
    parts = c.split([h * w for h, w in shapes], dim=1)
    parts = [
        p.transpose(1, 2).reshape(batch, -1, *s).contiguous() for p, s in zip(parts, shapes, strict=True)
    ]
    parts = [backbone.upsample(parts[0]) + maps[0], *parts]
    result = []
    for part, out, norm in zip(parts, outs, backbone.norms, strict=True):
        result.append(norm(part + resize(out, part)))
    return result


def resize(features: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=False)


def explicit_decoder(head: nn.Module, features: list[Tensor]) -> Tensor:
    """UPerNet with every map at full size before the convolution that fuses them."""
    coarsest = features[-1]
    pooled = [
        resize(conv(F.adaptive_avg_pool2d(coarsest, n)), coarsest)
        for n, conv in zip(head.pool_scales, head.pool_convs, strict=True)
    ]
    levels = [conv(feature) for conv, feature in zip(head.lateral_convs, features[:-1], strict=True)]
    levels.append(head.bottleneck(torch.cat([coarsest, *pooled], dim=1)))
    for index in range(len(levels) - 1, 0, -1):
        levels[index - 1] = levels[index - 1] + resize(levels[index], levels[index - 1])
    smooth = [conv(level) for conv, level in zip(head.fpn_convs, levels[:-1], strict=True)] + levels[-1:]
    block = head.fpn_bottleneck
    fused = block.conv(torch.cat([smooth[0], *(resize(level, smooth[0]) for level in smooth[1:])], dim=1))
    return F.relu(block.batch_norm(fused))


def explicit_model(model: ProLabForSemanticSegmentation, image: Tensor) -> Tensor:
    """Class similarities at stride 4, by way of the pixel embeddings."""
    hidden = explicit_decoder(model.decode_head, explicit_backbone(model.backbone, image))
    embeddings = model.decode_head.classifier(hidden).float()
    logits = torch.einsum("bdhw,kd->bkhw", embeddings, model.property_embeddings)
    scores = F.normalize(torch.sigmoid(logits / model.config.temperature), dim=1)
    return torch.einsum("bkhw,ck->bchw", scores, F.normalize(model.class_property_matrix, dim=1))


# ---- what is measured


def sampling_case(queries: int, shapes, heads: int = 12, head_dim: int = 32, points: int = 4) -> tuple:
    """Random values and positions near the queries, in the sizes of ViT-Adapter-B."""
    cells = sum(h * w for h, w in shapes)
    locations = torch.rand(1, queries, 1, 1, 1, 2) + 0.08 * torch.randn(
        1, queries, heads, len(shapes), points, 2
    )
    weights = torch.rand(1, queries, heads, len(shapes) * points).softmax(-1).view(*locations.shape[:-1])
    return torch.randn(1, cells, heads, head_dim), shapes, locations, weights


def deformable_cases(size: int) -> dict[str, tuple]:
    shapes = [(size // stride, size // stride) for stride in (8, 16, 32)]
    queries = sum(h * w for h, w in shapes)
    return {
        "extractor (1 level)": sampling_case(queries, shapes[1:2]),
        "injector (3 levels)": sampling_case(shapes[1][0] * shapes[1][1], shapes),
    }


def build_model(depth: int = 12) -> ProLabForSemanticSegmentation:
    torch.manual_seed(0)
    backbone = ViTAdapterConfig(
        vit_config=ViTConfig(layer_norm_eps=1e-6, num_hidden_layers=depth),
        use_layer_scale=True,
        init_values=0.1,
    )
    rows = [sorted(torch.randperm(NUM_PROPERTIES)[:9].tolist()) for _ in range(NUM_CLASSES)]
    config = ProLabConfig(
        backbone_config=backbone,
        hidden_size=512,
        embedding_dim=EMBEDDING_DIM,
        num_properties=NUM_PROPERTIES,
        class_properties=rows,
        id2label={index: f"class {index}" for index in range(NUM_CLASSES)},
        label2id={f"class {index}": index for index in range(NUM_CLASSES)},
        use_auxiliary_head=False,
    )
    return ProLabForSemanticSegmentation(config).eval()


def functions(part: str, size: int) -> dict[str, Callable[[], Tensor]]:
    """The formulations of one part, each ready to be called."""
    if part in ("extractor", "injector"):
        case = next(case for name, case in deformable_cases(size).items() if name.startswith(part))
        return {"explicit": lambda: explicit_sampling(*case), "ours": lambda: deformable_attention(*case)}
    model, image = build_model(), torch.randn(1, 3, size, size)
    if part == "backbone":
        explicit, ours = (
            lambda: explicit_backbone(model.backbone, image)[0],
            lambda: model.backbone(image)[0][0],
        )
    else:
        explicit, ours = lambda: explicit_model(model, image), lambda: model(image).logits

    def half() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours()

    return {"explicit": explicit, "ours": ours, BF16: half}


def peaks(part: str, size: int, names: list[str]) -> dict[str, float]:
    """MiB of each formulation, in a process of its own."""

    def prepare(name: str) -> Callable[[], Tensor]:
        torch.set_grad_enabled(False)
        return functions(part, size)[name]

    return {name: peak_memory(lambda name=name: prepare(name)) for name in names}


@torch.no_grad()
def measure(part: str, size: int, repeats: int, memory: dict[str, float]) -> list[list[str]]:
    candidates = {name: function for name, function in functions(part, size).items() if name in memory}
    expected = candidates["explicit"]()
    errors = {
        name: ((function().float() - expected).abs().max() / expected.abs().max()).item()
        for name, function in candidates.items()
    }
    rows = []
    times = interleaved(candidates, repeats)
    for name, (wall, cpu) in times.items():
        figures = [f"{1000 * wall:.0f}", f"{1000 * cpu:.0f}", f"{times['explicit'][1] / cpu:.2f}"]
        rows.append([part, name, *figures, f"{memory[name]:.0f}", f"{errors[name]:.0e}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=[*PARTS, "deformable", "all"], default="all")
    parser.add_argument("--size", type=int, default=512, help="side of the square image")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--bf16", action="store_true", help="also bfloat16 autocast (needs a CPU with bfloat16)"
    )
    arguments = parser.parse_args()
    logging.getLogger("prolab_hf").setLevel(logging.ERROR)  # random property embeddings are fine here
    torch.set_num_threads(arguments.threads)
    print(f"{environment()}, {arguments.threads} thread(s), {arguments.size} x {arguments.size} pixels\n")
    groups = {"deformable": PARTS[:2], "all": PARTS}
    names = ["explicit", "ours", *([BF16] if arguments.bf16 else [])]
    parts = {
        part: names if part in PARTS[2:] else names[:2]
        for part in groups.get(arguments.part, [arguments.part])
    }
    # All memory first: its processes are copies of this one, and memory that it has used could be used again.
    memory = {part: peaks(part, arguments.size, names) for part, names in parts.items()}
    rows = [row for part in parts for row in measure(part, arguments.size, arguments.repeats, memory[part])]
    print_table(
        ["part", "formulation", "wall ms", "CPU ms", "times as fast", "peak MiB", "max difference"], rows
    )


if __name__ == "__main__":
    main()
