"""ViT-Adapter against the reference's recorded numbers, against its formulas written out plainly, and as a
backbone of transformers: any plain vision transformer, any size, saving, loading, half precision."""

import copy
import json
import logging

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModel

from prolab_hf.hub.original_vit_adapter import (
    PROJECTION,
    backbone_config_from_original,
    convert_original_backbone_state_dict,
    original_backbone_keys,
)
from prolab_hf.model import deformable_attention_vit_adapter as deformable
from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig
from prolab_hf.model.modeling_vit_adapter import ViTAdapterBackbone
from prolab_hf.model.vit_branch_vit_adapter import WindowedAttention, resize_to_patches

SHAPES = [(8, 12), (4, 6), (2, 3)]
TINY = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
MLP = {"intermediate_size": 64}
PATCH_16 = {"image_size": 64, "patch_size": 16}
PATCH_14 = {"image_size": 56, "patch_size": 14}
ADAPTER = {"conv_inplane": 8, "deform_num_heads": 2}


def relative_error(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def randomize(module, scale=0.1):
    """Non-trivial weights, so that a forgotten term shows."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=scale)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return module.eval()


def tiny_config(**fields):
    vit_config = transformers.ViTConfig(**TINY, **MLP, **PATCH_16)
    return ViTAdapterConfig(**{"vit_config": vit_config, **ADAPTER, **fields})


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return randomize(ViTAdapterBackbone(tiny_config(use_layer_scale=True)))


# ---- deformable attention


@pytest.mark.parametrize("sample", [deformable.deformable_attention, deformable._sample_by_grid])
def test_deformable_attention_equals_the_reference(shared, sample):
    golden = load_file(shared / "goldens" / "ms_deform_attn.safetensors")
    names = ("value", "sampling_locations", "attention_weights")
    value, locations, weights = (golden[f"core/{name}"].requires_grad_() for name in names)
    output = sample(value, SHAPES, locations, weights)
    output.backward(golden["core/grad_output"])
    assert relative_error(output, golden["core/output"]) < 1e-5
    for name, tensor in zip(names, (value, locations, weights), strict=True):
        assert relative_error(tensor.grad, golden[f"core/grad_{name}"]) < 1e-5


def test_deformable_attention_module_equals_the_reference(shared):
    golden = load_file(shared / "goldens" / "ms_deform_attn.safetensors")
    module = deformable.DeformableAttention(24, num_levels=3, num_heads=4, num_points=4, ratio=0.5)
    weights = {name: golden[f"module_state/{name}"] for name in module.state_dict()}
    module.load_state_dict(weights)
    points = deformable.reference_points([(4, 6)], torch.device("cpu"))
    assert torch.equal(points, golden["module/reference_points"][0, :, 0])
    output = module(golden["module/query"], points, golden["module/feat"], SHAPES)
    assert relative_error(output, golden["module/output"]) < 1e-5
    module.sampling_offsets.init_weights()
    module.attention_weights.init_weights()
    for name in ("sampling_offsets", "attention_weights"):
        for kind in ("weight", "bias"):
            expected = golden[f"module_init_state/{name}.{kind}"]
            assert torch.equal(module.get_parameter(f"{name}.{kind}"), expected)


def test_reference_points_cover_all_levels(shared):
    golden = load_file(shared / "goldens" / "ms_deform_attn.safetensors")
    points = deformable.reference_points(SHAPES, torch.device("cpu"))
    assert torch.equal(points, golden["deform_inputs2/reference_points"][0, :, 0])


@pytest.mark.parametrize("shapes", [SHAPES, [(1, 1)], [(1, 4), (3, 1)]])
def test_both_ways_of_sampling_agree_also_outside_the_maps(shapes):
    torch.manual_seed(0)
    cells = sum(height * width for height, width in shapes)
    value = torch.randn(2, cells, 3, 5, dtype=torch.float64, requires_grad=True)
    layout = (2, 7, 3, len(shapes), 4)
    locations = (torch.rand(*layout, 2, dtype=torch.float64) * 3 - 1).requires_grad_()
    weights = torch.rand(layout, dtype=torch.float64, requires_grad=True)
    rows = deformable._sample_by_rows(value, shapes, locations, weights)
    grid = deformable._sample_by_grid(value, shapes, locations, weights)
    torch.testing.assert_close(rows, grid)
    probe = torch.randn_like(rows)
    inputs = (value, locations, weights)
    for ours, theirs in zip(
        torch.autograd.grad(rows, inputs, probe), torch.autograd.grad(grid, inputs, probe), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_positions_that_are_no_numbers_give_no_numbers_instead_of_a_crash():
    value = torch.ones(1, 4, 1, 2)
    locations = torch.full((1, 3, 1, 1, 1, 2), 0.5)
    locations[0, 1] = torch.nan
    output = deformable.deformable_attention(value, [(2, 2)], locations, torch.ones(1, 3, 1, 1, 1))
    assert torch.equal(output[0, [0, 2]], torch.ones(2, 2))
    assert output[0, 1].isnan().all()


def test_deformable_attention_refuses_maps_of_another_size():
    with pytest.raises(ValueError, match=r"value has 5 cells, .* have 4"):
        deformable.deformable_attention(
            torch.ones(1, 5, 1, 2), [(2, 2)], torch.zeros(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1)
        )


# ---- the reference's formulas, written out over its own tensor names


def plain_deformable_attention(state, name, query, shapes_of_queries, features, shapes, heads, points):
    linear = lambda part, x: F.linear(x, state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"])  # noqa: E731
    batch, queries, _ = query.shape
    value = linear("value_proj", features).view(batch, features.shape[1], heads, -1)
    offsets = linear("sampling_offsets", query).view(batch, queries, heads, len(shapes), points, 2)
    weights = linear("attention_weights", query).view(batch, queries, heads, -1).softmax(-1)
    weights = weights.view(batch, queries, heads, len(shapes), points)
    centers = [
        ((column + 0.5) / width, (row + 0.5) / height)
        for height, width in shapes_of_queries
        for row in range(height)
        for column in range(width)
    ]
    centers = torch.tensor(centers, dtype=query.dtype)
    output = torch.zeros(batch, queries, heads, value.shape[-1], dtype=query.dtype)
    start = 0
    who = torch.arange(batch)[:, None, None, None], torch.arange(heads)[None, None, :, None]
    for level, (height, width) in enumerate(shapes):
        x = centers[None, :, None, None, 0] * width + offsets[:, :, :, level, :, 0] - 0.5
        y = centers[None, :, None, None, 1] * height + offsets[:, :, :, level, :, 1] - 0.5
        for row in (y.floor(), y.floor() + 1):
            for column in (x.floor(), x.floor() + 1):
                inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                share = (1 - (y - row).abs()) * (1 - (x - column).abs()) * weights[:, :, :, level] * inside
                cell = start + row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
                output = output + (value[who[0], cell, who[1]] * share[..., None]).sum(3)
        start += height * width
    return linear("output_proj", output.flatten(2))


def plain_attention(query, key, value, bias=0.0):
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
    return logits.softmax(-1) @ value


def plain_relative_bias(table, height, width):
    """Bias (heads, 1 + tokens, 1 + tokens) from the table of one block, entry by entry."""
    tokens = height * width
    index = torch.zeros(tokens + 1, tokens + 1, dtype=torch.long)
    for a in range(tokens):
        for b in range(tokens):
            down, right = a // width - b // width, a % width - b % width
            index[a + 1, b + 1] = (down + height - 1) * (2 * width - 1) + right + width - 1
    index[0, :], index[:, 0], index[0, 0] = len(table) - 3, len(table) - 2, len(table) - 1
    return table[index].permute(2, 0, 1)


def plain_block(state, name, x, grid, cfg, window):
    """One block of the reference's ViT or BEiT; `window` is the side of its windows or None."""
    norm = lambda part: F.layer_norm(x, x.shape[-1:], state[f"{part}.weight"], state[f"{part}.bias"], 1e-6)  # noqa: E731
    gammas = [state.get(f"{name}.{g}{i}", torch.ones(1)) for i, g in ((1, "gamma"), (2, "gamma"))]
    if f"{name}.gamma_1" in state:
        gammas = [state[f"{name}.gamma_1"], state[f"{name}.gamma_2"]]
    batch, tokens, dim = x.shape
    heads = cfg["num_heads"]
    bias = state.get(f"{name}.attn.qkv.bias")
    if f"{name}.attn.q_bias" in state:
        q_bias, v_bias = state[f"{name}.attn.q_bias"], state[f"{name}.attn.v_bias"]
        bias = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
    qkv = F.linear(norm(f"{name}.norm1"), state[f"{name}.attn.qkv.weight"], bias)
    if window is None:
        q, k, v = qkv.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        table = state.get(f"{name}.attn.relative_position_bias_table")
        relative = 0.0 if table is None else plain_relative_bias(table, *grid)
        attended = plain_attention(q, k, v, relative).transpose(1, 2).flatten(2)
    else:
        height, width = grid
        padded = torch.zeros(batch, -(-height // window) * window, -(-width // window) * window, 3 * dim)
        padded[:, :height, :width] = qkv.view(batch, height, width, -1)
        merged = torch.zeros(*padded.shape[:3], dim)
        for top in range(0, padded.shape[1], window):
            for left in range(0, padded.shape[2], window):
                part = padded[:, top : top + window, left : left + window]
                q, k, v = part.reshape(batch, window * window, 3, heads, -1).permute(2, 0, 3, 1, 4)
                out = plain_attention(q, k, v).transpose(1, 2).reshape(batch, window, window, dim)
                merged[:, top : top + window, left : left + window] = out
        attended = merged[:, :height, :width].reshape(batch, tokens, dim)
    attended = F.linear(attended, state[f"{name}.attn.proj.weight"], state[f"{name}.attn.proj.bias"])
    x = x + gammas[0] * attended
    hidden = F.linear(norm(f"{name}.norm2"), state[f"{name}.mlp.fc1.weight"], state[f"{name}.mlp.fc1.bias"])
    hidden = F.linear(F.gelu(hidden), state[f"{name}.mlp.fc2.weight"], state[f"{name}.mlp.fc2.bias"])
    return x + gammas[1] * hidden


class PlainReference:
    """The reference's ViTAdapter or BEiTAdapter in evaluation mode, over a dictionary of its tensors."""

    def __init__(self, state, cfg):
        self.state, self.cfg = state, cfg

    def parameters(self, name):
        return self.state[f"{name}.weight"], self.state.get(f"{name}.bias")

    def batch_norm(self, x, name):
        running = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        return F.batch_norm(x, *running, *self.parameters(name))

    def conv_block(self, x, conv, norm, stride):
        convolved = F.conv2d(x, *self.parameters(conv), stride=stride, padding=1)
        return F.relu(self.batch_norm(convolved, norm))

    def layer_norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], *self.parameters(name), 1e-6)

    def spatial_prior(self, image):
        x = image
        for conv, stride in ((0, 2), (3, 1), (6, 1)):
            x = self.conv_block(x, f"spm.stem.{conv}", f"spm.stem.{conv + 1}", stride)
        maps = [F.max_pool2d(x, 3, 2, 1)]
        for level in (2, 3, 4):
            maps.append(self.conv_block(maps[-1], f"spm.conv{level}.0", f"spm.conv{level}.1", 2))
        return [F.conv2d(m, *self.parameters(f"spm.fc{i}")) for i, m in enumerate(maps, 1)]

    def patches(self, image, grid):
        x = F.conv2d(image, *self.parameters("patch_embed.proj"), stride=16)
        if "pos_embed" in self.state:
            side = self.cfg["pretrain_size"] // 16
            table = self.state["pos_embed"][:, -side * side :].reshape(1, side, side, -1).permute(0, 3, 1, 2)
            x = x + F.interpolate(table, size=grid, mode="bicubic", align_corners=False)
        return x.flatten(2).transpose(1, 2)

    def deform(self, name, query, query_shapes, features, feature_shapes):
        query = self.layer_norm(query, f"{name}.query_norm")
        features = self.layer_norm(features, f"{name}.feat_norm")
        sizes = self.cfg["deform_num_heads"], self.cfg["n_points"]
        attn = f"{name}.attn"
        return plain_deformable_attention(
            self.state, attn, query, query_shapes, features, feature_shapes, *sizes
        )

    def extract(self, name, c, x, shapes):
        c = c + self.deform(name, c, shapes, x, [shapes[1]])
        hidden = F.linear(self.layer_norm(c, f"{name}.ffn_norm"), *self.parameters(f"{name}.ffn.fc1"))
        weight, bias = self.parameters(f"{name}.ffn.dwconv.dwconv")
        parts = [
            F.conv2d(part, weight, bias, padding=1, groups=part.shape[1]).flatten(2)
            for part in as_maps(hidden, shapes)
        ]
        hidden = F.gelu(torch.cat(parts, 2).transpose(1, 2))
        return c + F.linear(hidden, *self.parameters(f"{name}.ffn.fc2"))

    def __call__(self, image):
        grid = (image.shape[2] // 16, image.shape[3] // 16)
        shapes = [(image.shape[2] // stride, image.shape[3] // stride) for stride in (8, 16, 32)]
        finest, *coarser = self.spatial_prior(image)
        c = [
            m.flatten(2).transpose(1, 2) + e for m, e in zip(coarser, self.state["level_embed"], strict=True)
        ]
        c, x = torch.cat(c, dim=1), self.patches(image, grid)
        prefix = self.state["cls_token"].expand(len(x), -1, -1) if "cls_token" in self.state else x[:, :0]
        windows = self.cfg.get("window_size", [None] * self.cfg["depth"])
        outs = []
        for i, (first, final) in enumerate(self.cfg["interaction_indexes"]):
            name = f"interactions.{i}"
            gamma = self.state[f"{name}.injector.gamma"]
            x = x + gamma * self.deform(f"{name}.injector", x, [grid], c, shapes)
            sequence = torch.cat([prefix, x], dim=1)
            for block in range(first, final + 1):
                sequence = plain_block(
                    self.state, f"blocks.{block}", sequence, grid, self.cfg, windows[block]
                )
            prefix, x = sequence[:, : prefix.shape[1]], sequence[:, prefix.shape[1] :]
            extra = [f"extra_extractors.{k}" for k in (0, 1)] if i == 3 else []
            for extractor in ("extractor", *extra):
                c = self.extract(f"{name}.{extractor}", c, x, shapes)
            outs += as_maps(x, [grid])
        parts = as_maps(c, shapes)
        parts = [F.conv_transpose2d(parts[0], *self.parameters("up"), stride=2) + finest, *parts]
        sums = [
            part + F.interpolate(out, size=part.shape[2:], mode="bilinear", align_corners=False)
            for part, out in zip(parts, outs, strict=True)
        ]
        return [self.batch_norm(total, f"norm{i}") for i, total in enumerate(sums, 1)]


def as_maps(tokens, shapes):
    parts = tokens.split([height * width for height, width in shapes], dim=1)
    return [
        part.transpose(1, 2).reshape(*part.shape[::2], *shape)
        for part, shape in zip(parts, shapes, strict=True)
    ]


def original_state(backbone):
    """The weights of our backbone under the reference's names, connected to our parameters."""
    ours, state = backbone.state_dict(keep_vars=True), {}
    for name, original in original_backbone_keys(backbone.config).items():
        projection = PROJECTION.search(name)
        if projection and ".attn.qkv." in original:
            prefix, kind = name[: projection.start()], projection["kind"]
            state[original] = torch.cat(
                [ours[f"{prefix}.attention.{letter}_proj.{kind}"] for letter in "qkv"]
            )
        else:
            state[original] = ours[name]
    return state


SMALL = {
    "embed_dim": 32,
    "depth": 4,
    "num_heads": 2,
    "pretrain_size": 64,
    "img_size": 64,
    "conv_inplane": 8,
    "n_points": 3,
    "deform_num_heads": 4,
    "deform_ratio": 0.5,
    "init_values": 0.1,
    "interaction_indexes": [[0, 0], [1, 1], [2, 2], [3, 3]],
}
CONFIGURATIONS = {
    "vit": {"type": "ViTAdapter"},
    "several blocks per interaction": {
        "type": "ViTAdapter",
        "depth": 8,
        "interaction_indexes": [[0, 1], [2, 3], [4, 5], [6, 7]],
        "mlp_ratio": 2,
        "qkv_bias": False,
    },
    "windows with padding": {
        "type": "ViTAdapter",
        "layer_scale": False,
        "deform_ratio": 1.0,
        "window_attn": [True, False, True, False],
        "window_size": [4, None, 3, None],
    },
    "beit": {"type": "BEiTAdapter", "qkv_bias": True},
    "beit with absolute positions": {
        "type": "BEiTAdapter",
        "use_abs_pos_emb": True,
        "use_rel_pos_bias": False,
    },
    "beit without positions": {"type": "BEiTAdapter", "qkv_bias": True, "use_rel_pos_bias": False},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_backbone_equals_the_plain_formulas(name):
    torch.manual_seed(0)
    cfg = SMALL | CONFIGURATIONS[name]
    backbone = randomize(ViTAdapterBackbone(backbone_config_from_original(cfg)))
    state = original_state(backbone)
    image = torch.randn(2, 3, *((64, 64) if name == "beit" else (96, 64)), requires_grad=True)
    ours, theirs = backbone(image).feature_maps, PlainReference(state, cfg)(image)
    probes = [torch.randn_like(features) for features in theirs]
    for features, expected in zip(ours, theirs, strict=True):
        assert relative_error(features, expected) < 1e-5
    parameters = [image, *backbone.parameters()]
    gradients = [
        torch.autograd.grad(outputs, parameters, probes, allow_unused=True, materialize_grads=True)
        for outputs in (list(ours), theirs)
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max() + 1e-5  # a key bias has gradient 0
    # And back: the reference's names give our weights again.
    converted = convert_original_backbone_state_dict(state, backbone.config)
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(converted[key], tensor), key


# ---- recorded numbers of the reference


@pytest.mark.parametrize("name", ["vit_adapter", "beit_adapter"])
def test_backbone_equals_the_reference(shared, name):
    golden = load_file(shared / "goldens" / f"{name}.safetensors")
    cfg = json.loads((shared / "goldens" / f"{name}.json").read_text())["cfg"]
    state = {key.removeprefix("state/"): tensor for key, tensor in golden.items() if key.startswith("state/")}
    config = backbone_config_from_original(cfg)
    backbone = ViTAdapterBackbone(config).eval()
    backbone.load_state_dict(convert_original_backbone_state_dict(state, config))
    image = golden["input/image"].requires_grad_()
    features = backbone(image).feature_maps
    for index, tensor in enumerate(features):
        assert relative_error(tensor, golden[f"output/f{index + 1}"]) < 1e-5
    sum((f * golden[f"grad/probe_weight_{i}"]).mean() for i, f in enumerate(features)).backward()
    assert relative_error(image.grad, golden["grad/INPUT_image"]) < 1e-4
    checked = 0
    for ours, original in original_backbone_keys(config).items():
        if f"grad/{original}" not in golden:
            continue
        gradient, expected = backbone.get_parameter(ours).grad, golden[f"grad/{original}"]
        scale = expected.abs().max()
        if len(expected) == 3 * len(gradient):
            expected = expected.chunk(3)["qkv".index(PROJECTION.search(ours)["letter"])]
        assert (gradient - expected).abs().max() < 1e-4 * scale, ours
        checked += 1
    assert checked >= sum(key.startswith("grad/") for key in golden) - 6  # all but the image, loss and probes


def test_converter_refuses_what_does_not_fit():
    config = backbone_config_from_original(SMALL | CONFIGURATIONS["vit"])
    state = original_state(ViTAdapterBackbone(config))
    with pytest.raises(ValueError, match=r"missing: level_embed; unexpected: head\.weight"):
        convert_original_backbone_state_dict(
            {key: tensor for key, tensor in state.items() if key != "level_embed"}
            | {"head.weight": torch.ones(1)},
            config,
        )
    with pytest.raises(ValueError, match=r"level_embed is \(3, 31\)"):
        convert_original_backbone_state_dict(state | {"level_embed": torch.ones(3, 31)}, config)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "ResNet"}, r"backbone.type is 'ResNet'; allowed: ViTAdapter, BEiTAdapter"),
        (SMALL | {"type": "ViTAdapter", "colour": 1}, "fields that ViTAdapter does not know: colour"),
        (SMALL | {"type": "ViTAdapter", "patch_size": 8}, "backbone.patch_size is 8; only 16"),
        (SMALL | {"type": "BEiTAdapter", "qk_scale": 0.1}, "backbone.qk_scale is 0.1"),
        (SMALL | {"type": "ViTAdapter", "window_attn": [True] * 3}, "window_attn has 3 entries for 4 blocks"),
        (SMALL | {"type": "ViTAdapter", "window_attn": True, "window_size": None}, "window_size is .None, "),
        (SMALL | {"type": "BEiTAdapter", "img_size": (64, 96)}, r"img_size is \(64, 96\).* only square"),
        ({"type": "ViTAdapter"}, "interaction_indexes is missing"),
    ],
)
def test_configuration_import_names_what_it_cannot_read(cfg, message):
    with pytest.raises(ValueError, match=message):
        backbone_config_from_original(cfg)


def test_sizes_given_as_pairs():
    """The reference's only layout with absolute positions: patches + 1 rows that form a square of their own."""
    fields = {"img_size": [64, 96], "pretrain_size": 80, "use_abs_pos_emb": True, "use_rel_pos_bias": False}
    config = backbone_config_from_original(SMALL | {"type": "BEiTAdapter"} | fields)
    state = original_state(ViTAdapterBackbone(config))
    rows = torch.randn(1, 4 * 6 + 1, 32)
    converted = convert_original_backbone_state_dict(state | {"pos_embed": rows}, config)
    table = converted["vit.embeddings.position_embeddings"]
    assert torch.equal(table[:, 1:], rows) and not table[:, 0].any()
    square = backbone_config_from_original(SMALL | {"type": "BEiTAdapter", "img_size": (64, 64)})
    assert square.vit_config.image_size == 64


PUBLISHED = {
    "deit_base_ade20k": {
        "type": "ViTAdapter",
        "embed_dim": 768,
        "depth": 12,
        "num_heads": 12,
        "deform_num_heads": 12,
        "deform_ratio": 0.5,
        "interaction_indexes": [[0, 2], [3, 5], [6, 8], [9, 11]],
    },
    "beit_large_640_ade20k": {
        "type": "BEiTAdapter",
        "img_size": 640,
        "embed_dim": 1024,
        "depth": 24,
        "num_heads": 16,
        "qkv_bias": True,
        "init_values": 1e-6,
        "deform_num_heads": 16,
        "deform_ratio": 0.5,
        "interaction_indexes": [[0, 5], [6, 11], [12, 17], [18, 23]],
    },
}
PUBLISHED["beitv2_large_896_ade20k"] = PUBLISHED["beit_large_640_ade20k"] | {"img_size": 896}


@pytest.mark.parametrize("layout", PUBLISHED)
def test_every_tensor_of_the_published_backbones_finds_its_place(shared, layout):
    lines = (shared / "goldens" / f"keys_{layout}.txt").read_text().splitlines()[2:]
    state = {}
    for line in lines:
        key, dtype, shape, _ = line.split("\t")
        if key.startswith("backbone."):
            shape = json.loads(shape)
            state[key.removeprefix("backbone.")] = torch.empty(
                shape, dtype=getattr(torch, dtype), device="meta"
            )
    config = backbone_config_from_original(PUBLISHED[layout])
    converted = convert_original_backbone_state_dict(state, config)
    with torch.device("meta"):
        expected = ViTAdapterBackbone(config).state_dict()
    assert {key: tensor.shape for key, tensor in converted.items()} == {
        key: tensor.shape for key, tensor in expected.items()
    }
    used = set(original_backbone_keys(config).values())
    assert {key for key in state if not key.endswith("relative_position_index")} == used
    if layout == "deit_base_ade20k":  # PAPER: the backbone has 99.5 M parameters
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        count = sum(tensor.numel() for key, tensor in expected.items() if not key.endswith(buffers))
        assert round(count / 1e6, 1) == 99.5


# ---- any plain vision transformer

FAMILIES = {
    "vit": lambda: transformers.ViTConfig(**TINY, **MLP, **PATCH_16),
    "deit": lambda: transformers.DeiTConfig(**TINY, **MLP, **PATCH_16),
    "vit_msn": lambda: transformers.ViTMSNConfig(**TINY, **MLP, **PATCH_16),
    "beit relative": lambda: transformers.BeitConfig(
        **TINY, **MLP, **PATCH_16, use_relative_position_bias=True, use_mask_token=True
    ),
    "beit shared": lambda: transformers.BeitConfig(
        **TINY, **MLP, **PATCH_16, use_shared_relative_position_bias=True
    ),
    "beit absolute": lambda: transformers.BeitConfig(
        **TINY, **MLP, **PATCH_16, use_absolute_position_embeddings=True
    ),
    "dinov2": lambda: transformers.Dinov2Config(**TINY, **PATCH_14, mlp_ratio=2),
    "dinov2_with_registers": lambda: transformers.Dinov2WithRegistersConfig(**TINY, **PATCH_14, mlp_ratio=2),
    "dinov3_vit": lambda: transformers.DINOv3ViTConfig(**TINY, **MLP, **PATCH_16),
    "ijepa": lambda: transformers.IJepaConfig(**TINY, **MLP, **PATCH_16),
    "pixio": lambda: transformers.PixioConfig(**TINY, **PATCH_16, mlp_ratio=2),
}
ASKS_FOR_INTERPOLATION = ("vit", "deit", "vit_msn", "ijepa")


@pytest.mark.parametrize("family", FAMILIES)
def test_undisturbed_transformer_computes_what_it_was_trained_to(family):
    """With the injectors' initial scale of 0 the adapter only reads: the tokens are the transformer's own."""
    torch.manual_seed(0)
    vit = randomize(AutoModel.from_config(FAMILIES[family]()))
    backbone = ViTAdapterBackbone.from_vit(vit, **ADAPTER, use_prefix_tokens=True).eval()
    for key, tensor in backbone.vit.state_dict().items():
        assert torch.equal(tensor, vit.state_dict()[key])
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        output = backbone(image, output_hidden_states=True)
        flags = {"interpolate_pos_encoding": True} if family in ASKS_FOR_INTERPOLATION else {}
        upright = resize_to_patches(vit, image)
        expected = vit(upright, output_hidden_states=True, **flags).hidden_states
    assert upright.shape[2:] == ((56, 84) if "dinov2" in family else (64, 96))
    assert len(output.hidden_states) == len(expected) == 5
    for ours, theirs in zip(output.hidden_states, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    sizes = [tuple(features.shape) for features in output.feature_maps]
    assert sizes == [(1, 32, 16, 24), (1, 32, 8, 12), (1, 32, 4, 6), (1, 32, 2, 3)]


def test_from_vit_reads_a_folder_with_any_head(tmp_path):
    config = FAMILIES["vit"]()
    classifier = transformers.ViTForImageClassification(config)
    classifier.save_pretrained(tmp_path)
    for source in (tmp_path, classifier):
        backbone = ViTAdapterBackbone.from_vit(source, **ADAPTER)
        for key, tensor in backbone.vit.state_dict().items():
            assert torch.equal(tensor, classifier.vit.state_dict()[key])
        assert all(parameter.requires_grad for parameter in backbone.parameters())
    # The caller's model is left as it was.
    assert classifier.config._attn_implementation == "sdpa"
    assert classifier.vit.embeddings.cls_token.shape == (1, 1, 32)


def test_from_vit_refuses_misspelt_fields_and_other_networks():
    vit = AutoModel.from_config(FAMILIES["vit"]())
    with pytest.raises(ValueError, match="no field 'conv_inplanes'; did you mean 'conv_inplane'"):
        ViTAdapterBackbone.from_vit(vit, conv_inplanes=8)
    resnet = AutoModel.from_config(
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    )
    with pytest.raises(ValueError, match="ResNetModel is not a plain vision transformer"):
        ViTAdapterBackbone.from_vit(resnet)


# ---- a backbone of transformers


@pytest.mark.parametrize("family", ["vit", "beit relative", "dinov2_with_registers", "dinov3_vit"])
def test_saved_backbone_comes_back_bit_for_bit(tmp_path, caplog, family):
    torch.manual_seed(0)
    fields = {"use_layer_scale": True, "drop_path_rate": 0.1} if family == "vit" else {"init_values": 1e-6}
    config = ViTAdapterConfig(vit_config=FAMILIES[family](), **ADAPTER, **fields)
    backbone = randomize(ViTAdapterBackbone(config))
    backbone.save_pretrained(tmp_path)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        loaded, report = ViTAdapterBackbone.from_pretrained(tmp_path, output_loading_info=True)
    assert not caplog.records
    assert not any(report.values())
    loaded.config.vit_config.dtype = None  # transformers writes the loaded type into nested configurations
    first, second = (model.config.to_dict() | {"_name_or_path": ""} for model in (backbone, loaded))
    assert first == second
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    image = torch.randn(1, 3, 32, 64)
    for ours, theirs in zip(loaded(image).feature_maps, backbone(image).feature_maps, strict=True):
        assert torch.equal(ours, theirs)
    # The file has the live names, which the Trainer's plain load_state_dict needs.
    assert load_file(tmp_path / "model.safetensors").keys() == backbone.state_dict().keys()


def test_missing_weights_start_as_the_reference_initializes_them(tmp_path):
    backbone = randomize(ViTAdapterBackbone(tiny_config(use_layer_scale=True, init_values=0.5)))
    state = {key: tensor for key, tensor in backbone.state_dict().items() if key.startswith("vit.embeddings")}
    backbone.save_pretrained(tmp_path, state_dict=state)
    loaded, report = ViTAdapterBackbone.from_pretrained(tmp_path, output_loading_info=True)
    assert "interactions.0.injector.gamma" in report["missing_keys"]
    assert torch.equal(loaded.interactions[0].injector.gamma, torch.full((32,), 0.5))
    assert torch.equal(loaded.branch_scales.layers[0]["attention"].gamma, torch.ones(32))
    attention = loaded.interactions[3].extractors[2].attention
    assert not attention.sampling_offsets.weight.any()
    # Two heads look along x, first to the right, then to the left, 1 to 4 cells far.
    star = attention.sampling_offsets.bias.view(2, 1, 4, 2)
    distance = torch.tensor([1.0, 2.0, 3.0, 4.0])
    torch.testing.assert_close(star[:, 0, :, 0], torch.stack([distance, -distance]))
    assert loaded.level_embed.std() > 0.5
    linear, conv = loaded.interactions[0].extractors[0].feed_forward.fc2, loaded.upsample
    assert 0.01 < linear.weight.std() < 0.03
    assert abs(conv.weight.std() - (2 / (4 * 32)) ** 0.5) < 0.02


def test_layer_scale_may_be_added_to_a_saved_backbone(tmp_path):
    backbone = randomize(ViTAdapterBackbone(tiny_config()))
    backbone.save_pretrained(tmp_path)
    loaded = ViTAdapterBackbone.from_pretrained(tmp_path, use_layer_scale=True)
    assert all(torch.equal(scale["mlp"].gamma, torch.ones(32)) for scale in loaded.branch_scales.layers)
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(image).feature_maps[3], backbone(image).feature_maps[3])


@pytest.mark.parametrize(("height", "width", "padded"), [(50, 64, "64 x 64"), (64, 97, "64 x 128")])
def test_other_sizes_are_refused_with_the_size_to_pad_to(backbone, height, width, padded):
    with pytest.raises(ValueError, match=f"multiples of 32: pad or resize them to {padded}"):
        backbone(torch.zeros(1, 3, height, width))


def test_smallest_size_has_gradients_everywhere(backbone):
    """At 32 x 32 the coarsest map is one cell, whose views are contiguous by accident."""
    image = torch.randn(1, 3, 32, 32)
    sum(features.square().sum() for features in backbone(image).feature_maps).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_gradients_do_not_depend_on_the_batch(backbone):
    """PyTorch's batch norm errs for transposed views of a batch of one: the sum over two must be the two's sum."""
    images = torch.randn(2, 3, 64, 32)
    probes = [torch.randn_like(features) for features in backbone(images).feature_maps]

    def gradient(index):
        backbone.zero_grad()
        maps = backbone(images[index]).feature_maps
        sum((features * probe[index]).sum() for features, probe in zip(maps, probes, strict=True)).backward()
        return backbone.level_embed.grad.clone()

    together = gradient(slice(0, 2))
    one_by_one = gradient(slice(0, 1)) + gradient(slice(1, 2))
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4)


def test_chosen_maps_hidden_states_and_attentions():
    torch.manual_seed(0)
    config = tiny_config(out_features=["stage2", "stage4"], attn_implementation="eager")
    backbone = ViTAdapterBackbone(config).eval()
    assert backbone.channels == [32, 32]
    output = backbone(torch.randn(1, 3, 64, 64), output_hidden_states=True, output_attentions=True)
    assert [tuple(features.shape[2:]) for features in output.feature_maps] == [(8, 8), (2, 2)]
    assert [tuple(states.shape) for states in output.hidden_states] == [(1, 16, 32)] * 5
    assert [tuple(attention.shape) for attention in output.attentions] == [(1, 2, 16, 16)] * 4
    plain = backbone(torch.randn(1, 3, 64, 64))
    assert plain.hidden_states is None
    assert plain.attentions is None


def test_gradient_checkpointing_changes_nothing():
    torch.manual_seed(0)
    image = torch.randn(2, 3, 64, 64)

    def gradients(backbone):
        sum(features.square().mean() for features in backbone(image).feature_maps).backward()
        return [parameter.grad for parameter in backbone.parameters()]

    backbone = randomize(ViTAdapterBackbone(tiny_config(use_layer_scale=True))).train()
    checkpointed = copy.deepcopy(backbone)
    enable = getattr(
        checkpointed, "activation_checkpointing_enable", checkpointed.gradient_checkpointing_enable
    )
    enable()
    assert checkpointed.interactions[0].injector.gradient_checkpointing
    for ours, theirs in zip(gradients(checkpointed), gradients(backbone), strict=True):
        assert torch.equal(ours, theirs)


def test_drop_path_leaves_out_whole_samples_while_training_only():
    torch.manual_seed(0)
    config = tiny_config(drop_path_rate=0.6, use_layer_scale=False)
    backbone = ViTAdapterBackbone(config)
    rates = [scales["mlp"].drop_path_rate for scales in backbone.branch_scales.layers if "mlp" in scales]
    assert rates == pytest.approx([0.2, 0.4, 0.6])  # nothing hangs on the first block
    assert backbone.interactions[0].extractors[0].drop_path_rate == 0.6
    scale = backbone.branch_scales.layers[3]["mlp"]
    kept = scale(torch.ones(1000, 2, 3))[:, 0, 0]
    assert kept.unique().tolist() == pytest.approx([0.0, 2.5])
    assert 0.3 < (kept > 0).float().mean() < 0.5
    image = torch.randn(2, 3, 64, 64)
    torch.manual_seed(1)
    first = backbone(image, output_hidden_states=True).hidden_states[-1]
    assert not torch.equal(first, backbone(image, output_hidden_states=True).hidden_states[-1])
    backbone.eval()
    assert torch.equal(backbone(image).feature_maps[2], backbone(image).feature_maps[2])


def test_the_adapters_drop_path_replaces_the_transformers():
    vit_config = transformers.BeitConfig(**TINY, **MLP, **PATCH_16, drop_path_rate=0.1)
    config = ViTAdapterConfig(vit_config=vit_config, **ADAPTER)
    assert config.vit_config.drop_path_rate == 0.0
    assert vit_config.drop_path_rate == 0.1


def test_copies_use_their_own_layer_scale(backbone):
    image = torch.randn(1, 3, 32, 32)
    before = backbone(image).feature_maps[2]
    changed = copy.deepcopy(backbone)
    for scales in changed.branch_scales.layers:
        scales["attention"].gamma.data.zero_()
    assert not torch.equal(changed(image).feature_maps[2], before)
    assert torch.equal(backbone(image).feature_maps[2], before)


@pytest.mark.parametrize("whole_model", [True, False])
def test_bfloat16(backbone, whole_model):
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = backbone(image).feature_maps
        if whole_model:
            maps = copy.deepcopy(backbone).bfloat16()(image).feature_maps
        else:
            with torch.autocast("cpu", torch.bfloat16):
                maps = backbone(image).feature_maps
    for features, exact in zip(maps, expected, strict=True):
        assert relative_error(features.float(), exact) < 0.05


@pytest.mark.slow
def test_exported_graph_equals_the_model(backbone):
    """Inside traced graphs deformable attention takes its other way (grid_sample)."""
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        program = torch.export.export(backbone, (image,), strict=False)
        exported = program.module()(image).feature_maps
        expected = backbone(image).feature_maps
    operators = {str(node.target) for node in program.graph.nodes}
    assert any("grid_sampler" in operator for operator in operators)
    assert not any("embedding_bag" in operator for operator in operators)
    for ours, theirs in zip(exported, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_model_equals_the_model(backbone):
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        compiled = torch.compile(backbone, backend="eager", fullgraph=True)(image).feature_maps
        for ours, theirs in zip(compiled, backbone(image).feature_maps, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_windows_hide_the_rest_of_the_image():
    torch.manual_seed(0)
    attention = transformers.models.vit.modeling_vit.ViTAttention(FAMILIES["vit"]())
    windowed = WindowedAttention(attention, 2)
    tokens = torch.randn(1, 12, 32)
    before = windowed(tokens, grid=(3, 4))[0].view(3, 4, 32)
    tokens.view(1, 3, 4, 32)[0, 0, 0] += 1.0
    changed = (windowed(tokens, grid=(3, 4))[0].view(3, 4, 32) != before).any(-1)
    assert changed.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


# ---- configuration


def test_configuration_decides_as_the_reference():
    config = tiny_config()
    assert config.interaction_indexes == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert config.use_prefix_tokens is False
    assert ViTAdapterConfig(vit_config=FAMILIES["beit relative"](), **ADAPTER).use_prefix_tokens is True
    assert ViTAdapterConfig(vit_config=FAMILIES["vit"]()).deform_num_heads == 2
    assert config.out_features == ["stage1", "stage2", "stage3", "stage4"]
    deeper = transformers.ViTConfig(**TINY | {"num_hidden_layers": 12})
    assert ViTAdapterConfig(vit_config=deeper).interaction_indexes == [[0, 2], [3, 5], [6, 8], [9, 11]]
    assert ViTAdapterConfig().vit_config.model_type == "vit"
    assert ViTAdapterConfig(**config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"deform_num_heads": 3}, "deform_num_heads is 3; it must divide the 16 value channels"),
        ({"interaction_indexes": [[0, 1], [1, 2], [3, 3], [3, 3]]}, "without overlap, from 0 to 3"),
        ({"interaction_indexes": [[0, 3]]}, "interaction_indexes has 1 entries"),
        ({"window_sizes": [2, 2]}, "one positive number or None for each of the 4 blocks"),
        ({"window_sizes": 2, "use_prefix_tokens": True}, "set use_prefix_tokens=False"),
        ({"drop_path_rate": 1.0}, "drop_path_rate is 1.0"),
        ({"conv_inplane": 0}, "conv_inplane is 0; it must be positive"),
        ({"conv_inplanes": 8}, "did you mean 'conv_inplane'"),
        (
            {"vit_config": FAMILIES["beit relative"](), "use_prefix_tokens": False},
            "relative position bias has entries for the class token",
        ),
    ],
)
def test_contradicting_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)


def test_rotary_positions_and_windows_exclude_each_other():
    config = ViTAdapterConfig(
        vit_config=FAMILIES["dinov3_vit"](), **ADAPTER, window_sizes=2, use_prefix_tokens=False
    )
    with pytest.raises(ValueError, match="rotary positions"):
        ViTAdapterBackbone(config)


def test_runs_on_the_meta_device():
    """Counting operations needs no memory and no time."""
    with torch.device("meta"):
        backbone = ViTAdapterBackbone(tiny_config()).eval()
        maps = backbone(torch.empty(1, 3, 64, 64)).feature_maps
    assert [tuple(features.shape) for features in maps] == [(1, 32, 64 // s, 64 // s) for s in (4, 8, 16, 32)]
