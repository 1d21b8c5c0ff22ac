"""Contributions sum to what `segment` reports: for every similarity, way of inference, points, regions and classes.

The reference is not the explanation's own arithmetic: class scores come from the network's output, enlarged and
averaged in plain torch, probabilities from `segment(..., return_scores=True)`.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from prolab_hf.evaluation.inference import segment
from prolab_hf.evaluation.sliding_window import slide_logits
from prolab_hf.explanation.attribution import EVEN_TERM, OFFSET_TERM, UNSPOKEN_TERM
from prolab_hf.explanation.contributions import PropertyMaps, explain, explain_maps

TOLERANCE = 1e-5
MODES = {
    "plain": {},
    "resized twice": {"resize_twice": True},
    "windows": {"mode": "slide", "crop_size": (48, 40), "stride": (30, 26), "batch_size": 3},
    "flip": {"flip": True},
    "scales": {"scales": (0.75, 1.0, 1.5)},
    "all": {
        "mode": "slide",
        "crop_size": 48,
        "stride": 32,
        "flip": True,
        "scales": (1.0, 1.5),
        "batch_size": 2,
    },
}
KINDS = ["sigmoid_cosine", "cosine", "sigmoid_l2", "solved", "adapted", "offsets"]


@pytest.fixture(scope="module")
def network(make_model, processor, solved, adapted, scenes_processor):
    """A model of each kind with its processor."""

    def make(kind):
        if kind == "solved":
            return solved, scenes_processor
        if kind == "adapted":
            return adapted, scenes_processor
        model = make_model("sigmoid_cosine" if kind == "offsets" else kind)
        if kind == "offsets":
            model.config.class_offsets = [0.0, 0.0, 0.01, 0.0, -0.02]
            model._rebuild_derived_buffers()
        return model, processor

    return make


def region_of(image):
    """A region with a hole and ragged sides."""
    rng = np.random.default_rng(3)
    region = rng.random((image.height, image.width)) < 0.7
    region[: image.height // 4] = False
    region[:, -7:] = False
    region[40:50, 30:60] = False
    return region


@torch.no_grad()
def class_scores(model, processor, image, options):
    """Mean class scores `(classes, height, width)` of all runs, in plain torch."""
    options = dict(options)
    scales, flips = options.get("scales", (1.0,)), (False, True) if options.get("flip") else (False,)
    size, maps = (image.height, image.width), []
    plain = processor(images=image, return_tensors="pt")["pixel_values"]
    for scale in scales:
        pixels = plain
        if scale != 1.0:
            height, width = (max(1, round(n * scale / 32)) * 32 for n in plain.shape[-2:])
            size_of_scale = {"size": {"height": height, "width": width}, "do_resize": True}
            pixels = processor(images=image, return_tensors="pt", **size_of_scale)["pixel_values"]
        for flip in flips:
            given = pixels.flip(-1) if flip else pixels
            if options.get("mode") == "slide":
                crop, stride = (
                    (value, value) if isinstance(value, int) else value
                    for value in (options["crop_size"], options["stride"])
                )
                logits = slide_logits(lambda x: model(pixel_values=x).logits, given, crop, stride)
            else:
                logits = model(pixel_values=given).logits
                if options.get("resize_twice"):
                    logits = F.interpolate(logits, given.shape[-2:], mode="bilinear")
            large = F.interpolate(logits, size, mode="bilinear")[0]
            maps.append(large.flip(-1) if flip else large)
    return torch.stack(maps)


def total(shares):
    return sum(value for _, value in shares)


def check(explanation, values, names):
    """Sums, the winner, and the rival against values `(classes,)`."""
    own = names.index(explanation.class_name)
    assert total(explanation.contributions) == pytest.approx(explanation.score, abs=1e-9)
    assert explanation.score == pytest.approx(float(values[own]), abs=TOLERANCE)
    assert abs(explanation.residual) < TOLERANCE
    assert float(values[names.index(explanation.predicted_class)]) > float(values.max()) - TOLERANCE
    rival = explanation.runner_up
    other = names.index(rival.class_name)
    assert rival.score == pytest.approx(float(values[other]), abs=TOLERANCE)
    assert total(rival.deciding) == pytest.approx(float(values[own] - values[other]), abs=TOLERANCE)


# Every mode meets a model that was trained by gradient and a solved one, every kind a plain pass and an average of
# probabilities; the rest takes half a minute more.
QUICK = {("sigmoid_cosine", mode) for mode in MODES} | {
    ("solved", mode) for mode in MODES if mode != "scales"
}
QUICK |= {(kind, mode) for kind in KINDS for mode in ("plain", "flip")}
CASES = [
    pytest.param(kind, mode, marks=() if (kind, mode) in QUICK else pytest.mark.slow)
    for kind in KINDS
    for mode in MODES
]


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_contributions_sum_to_what_segment_reports(network, image, kind, mode):
    (model, processor), options = network(kind), MODES[mode]
    names = list(model.config.id2label.values())
    result = segment(model, processor, image, return_scores=True, **options)
    runs = class_scores(model, processor, image, options)
    torch.testing.assert_close(runs.softmax(1).mean(0), result.scores)  # the two references agree
    region = region_of(image)
    maps = PropertyMaps(model, processor, image, **options)
    decided = "score" if len(runs) == 1 else "probability"
    for quantity, values in (("score", runs.mean(0)), ("probability", result.scores)):
        for point in [(0, 0), (130, 96), (61, 43)]:
            found = explain_maps(maps, point=point, quantity=quantity)
            check(found, values[:, point[1], point[0]], names)
            if quantity == decided:
                assert found.predicted_class == result.class_at(*point)
                assert explain_maps(maps, point=point) == found
        check(explain_maps(maps, region=region, quantity=quantity), values[:, region].mean(1), names)
        largest, smallest = result.shares()[0][0], result.shares()[-1][0]
        for name, rival in ((largest, smallest), (smallest, largest)):
            found = explain_maps(maps, class_name=name, rival=rival, quantity=quantity)
            inside = result.labels == names.index(name)
            assert found.is_whole_class and found.num_pixels == int(inside.sum())
            assert found.runner_up.class_name == rival
            check(found, values[:, inside].mean(1), names)
    torch.testing.assert_close(maps.segmentation(return_scores=True).scores, result.scores)
    assert (maps.segmentation().labels == segment(model, processor, image, **options).labels).all()


def test_terms_that_are_no_properties(network, image):
    model, processor = network("solved")
    maps = PropertyMaps(model, processor, image, flip=True)
    score = explain_maps(maps, point=(60, 40), quantity="score", class_name="kiosk")
    assert model.config.class_offsets[-1] != 0 and model.config.unspoken_weight
    assert dict(score.contributions)[OFFSET_TERM] == pytest.approx(model.config.class_offsets[-1])
    assert score.unspoken == 0.0, "no property without words stands for a described class"
    assert explain_maps(maps, point=(60, 40), quantity="score").unspoken != 0.0
    probability = dict(explain_maps(maps, point=(60, 40)).contributions)
    assert probability[EVEN_TERM] == pytest.approx(1 / len(maps.class_names))
    assert UNSPOKEN_TERM in probability and OFFSET_TERM in probability


def test_a_point_runs_only_the_windows_that_cover_it(network, image):
    model, processor = network("sigmoid_cosine")
    calls = []
    handle = model.register_forward_hook(lambda module, inputs, output: calls.append(1))
    options = {"mode": "slide", "crop_size": 32, "stride": 32}
    maps = PropertyMaps(model, processor, image, **options)
    assert len(maps.streams[0].windows) == 6
    found = explain_maps(maps, point=(3, 3))
    assert len(calls) == 1 and not maps.is_complete and found.property_maps is None
    explain_maps(maps, point=(4, 4))
    assert len(calls) == 1
    explain_maps(maps, class_name=found.class_name)
    assert len(calls) == 6 and explain_maps(maps, point=(3, 3)).property_maps is not None
    explain_maps(maps, class_name=found.class_name, quantity="probability")
    assert len(calls) == 6
    tight = PropertyMaps(model, processor, image, max_bytes=0, **options)
    assert explain_maps(tight, class_name=found.class_name).score == pytest.approx(
        explain_maps(maps, class_name=found.class_name).score, abs=1e-6
    )
    handle.remove()


def test_a_pair_is_decided_by_what_tells_it_apart(network, image):
    """Also of probabilities: what both classes have in equal measure decides nothing between them."""
    model, processor = network("sigmoid_cosine")
    found = explain(model, processor, image, point=(60, 40), class_name="road", rival="tree", flip=True)
    matrix = model.class_property_matrix
    same = matrix[1] / matrix[1].norm() == matrix[2] / matrix[2].norm()
    deciding = dict(found.runner_up.deciding)
    for index, is_same in enumerate(same.tolist()):
        assert (deciding[f"property {index}"] == 0) == is_same


def test_new_words_need_no_new_pass_of_a_solved_model(solved, scenes_processor, image):
    maps = PropertyMaps(solved, scenes_processor, image)
    explain_maps(maps, point=(5, 5))
    before = solved.property_space
    calls = []
    handle = solved.backbone.register_forward_hook(lambda module, inputs, output: calls.append(1))
    try:
        solved.set_property_space(before.remove_classes(["water"]).set_row("road", [0, 1, 2]))
        found = explain_maps(maps, point=(5, 5))
        assert not calls
        assert found.score == pytest.approx(
            explain(solved, scenes_processor, image, point=(5, 5)).score, abs=1e-6
        )
    finally:
        handle.remove()
        solved.set_property_space(before, claim_budget=0.02)


def test_large_images_are_read_in_strips(network, image, monkeypatch):
    model, processor = network("solved")
    options = {"mode": "slide", "crop_size": 48, "stride": 30, "flip": True}
    whole = explain(model, processor, image, point=(60, 40), **options)
    monkeypatch.setattr("prolab_hf.evaluation.inference.STRIPED_PIXELS", 100)
    strips = explain(model, processor, image, point=(60, 40), **options)
    assert strips.class_name == whole.class_name
    assert dict(strips.contributions) == pytest.approx(dict(whole.contributions), abs=1e-6)


@pytest.mark.parametrize("kind", ["sigmoid_cosine", "solved"])
def test_half_precision(network, image, kind):
    """Scores are computed in float32 of what the network gave, and so are their parts."""
    model, processor = network(kind)
    half = copy.deepcopy(model).to(torch.bfloat16)
    found = explain(half, processor, image, point=(60, 40), flip=True)
    assert abs(found.residual) < TOLERANCE
    result = segment(half, processor, image, return_scores=True, flip=True)
    expected = float(result.scores[result.class_names.index(found.class_name), 40, 60])
    # Another pass of the network, whose bfloat16 kernels need not give the same bits.
    assert total(found.contributions) == pytest.approx(expected, abs=1e-3)


def test_scales_count_also_where_the_processor_keeps_sizes(solved, scenes_processor, image):
    maps = PropertyMaps(solved, scenes_processor, image, scales=(1.0, 2.0))
    assert [stream.source_size for stream in maps.streams] == [(97, 131), (192, 256)]
