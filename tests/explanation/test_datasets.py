"""Explanations, corrections and calibration over data sets, against sums made image by image in plain code."""

import json

import numpy as np
import pytest
import torch

from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.attribution import UNSPOKEN_TERM
from prolab_hf.explanation.confused_properties import confused_properties
from prolab_hf.explanation.contributions import explain
from prolab_hf.explanation.correction_curves import CorrectionCurve, correction_curves
from prolab_hf.explanation.dataset_contributions import explain_dataset
from prolab_hf.explanation.reliability import best_temperature, reliability


@pytest.fixture(scope="module")
def scenes():
    return DrawnScenes("validation", 4, size=(64, 96))


class Pairs(list):
    """Images and masks as a list; some pixels have no label."""

    ignore_index = 255


@pytest.fixture(scope="module")
def pairs(image):
    """Two images whose labels the tiny random model has never seen."""
    rng = np.random.default_rng(0)
    masks = [
        rng.integers(0, 5, (7, 9)).repeat(16, 0).repeat(16, 1)[:97, :131].astype(np.int64) for _ in range(2)
    ]
    masks[0][:20] = 255
    return Pairs([(image, masks[0]), (image.rotate(180), masks[1])])


@pytest.mark.parametrize("options", [{}, {"flip": True}])
@pytest.mark.parametrize("over", ["labeled", "predicted"])
def test_a_comparison_is_the_mean_over_all_pixels(solved, scenes_processor, scenes, over, options):
    found = explain_dataset(solved, scenes_processor, scenes, "building", "sky", over=over, **options)
    index, total, pixels, votes, parts = 5, {}, 0, {}, 0
    for sample in scenes:
        labels = segment(solved, scenes_processor, sample.image, **options).labels.numpy()
        region = (sample.mask if over == "labeled" else labels) == index
        if not region.any():
            continue
        one = explain(
            solved,
            scenes_processor,
            sample.image,
            region=region,
            class_name="building",
            rival="sky",
            **options,
        )
        for name, difference in one.runner_up.deciding:
            total[name] = total.get(name, 0) + difference * region.sum()
            votes[name] = votes.get(name, 0) + (difference > 0)
        pixels, parts = pixels + int(region.sum()), parts + 1
    assert (found.num_pixels, found.num_images) == (pixels, parts)
    assert found.quantity == ("probability" if options else "score")
    for each in found.properties:
        assert each.difference == pytest.approx(total[each.name] / pixels, abs=1e-9)
        assert each.images_for == votes[each.name]
        assert each.class_share - each.rival_share == pytest.approx(each.difference)
    sizes = [abs(each.difference) for each in found.properties]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(each.weight for each in found.properties) == pytest.approx(1)
    assert sum(each.difference for each in found.properties) == pytest.approx(found.margin)
    assert sum(each.class_share for each in found.properties) == pytest.approx(found.score)
    assert not next(each for each in found.properties if each.name == UNSPOKEN_TERM).is_property


def test_pivotal_properties_are_those_without_which_the_rival_leads(make_model, processor, pairs):
    """Counted anew on the cells of the map, one property after the other."""
    model = make_model()
    found = explain_dataset(model, processor, pairs, "tree", "car", over="predicted")
    led = pivotal = pixels = 0
    for photo, _ in pairs:
        with torch.no_grad():
            output = model(**processor(images=photo, return_tensors="pt"))
        unit = torch.nn.functional.normalize(model.property_scores(output.property_logits)[0], dim=0)
        rows = torch.nn.functional.normalize(model.class_property_matrix, dim=1)
        differences = unit * (rows[2] - rows[3])[:, None, None]
        margin = differences.sum(0)
        region = segment(model, processor, photo).labels == 2
        large = torch.nn.functional.interpolate(
            torch.stack([(margin > 0).float(), ((margin > 0) & (margin <= differences[4])).float()])[None],
            tuple(region.shape), mode="bilinear",
        )[0]  # fmt: skip
        led, pivotal = led + large[0][region].sum(), pivotal + large[1][region].sum()
        pixels += int(region.sum())
    assert found.lead_share == pytest.approx(float(led / pixels), abs=1e-5)
    by_name = {each.name: each for each in found.properties}
    assert 0 < by_name["property 4"].pivotal == pytest.approx(float(pivotal / pixels), abs=1e-5)


def test_the_strongest_rival_is_found(solved, scenes_processor, scenes):
    found = explain_dataset(solved, scenes_processor, scenes, "building", max_images=2)
    margins = {
        rival: explain_dataset(solved, scenes_processor, scenes, "building", rival, max_images=2).margin
        for rival in solved.config.id2label.values()
        if rival != "building"
    }
    assert found.margin == pytest.approx(min(margins.values())) and found.rival == min(
        margins, key=margins.get
    )
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["margin"] == found.margin and len(found.to_rows()) == len(found.properties)
    assert f"pixels labeled as building in {found.num_images} images" in found.to_text()
    assert "building" in found._repr_html_() and found._repr_png_()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("buildin", "sky"), "no class 'buildin' in the model; did you mean 'building'"),
        (("sky", "sky"), "both 'sky'"),
        (("kiosk", "sky"), "No pixel of these images is labeled as kiosk"),
    ],
)
def test_wrong_classes_are_named(solved, scenes_processor, scenes, arguments, message):
    with pytest.raises(ValueError, match=message):
        explain_dataset(solved, scenes_processor, scenes, *arguments)


def test_wrong_data_is_named(model, processor, image):
    with pytest.raises(ValueError, match="holds no images"):
        explain_dataset(model, processor, [], "sky")
    with pytest.raises(
        ValueError, match=r"labels of image number 0 hold the ids \[7\], the model's classes are 0 to 4"
    ):
        explain_dataset(model, processor, [(image, np.full((97, 131), 7))], "sky")
    with pytest.raises(ValueError, match="max_images is 0"):
        reliability(model, processor, [(image, np.full((97, 131), 1))], max_images=0)
    for measure in (confused_properties, correction_curves, reliability):
        with pytest.raises(ValueError, match="labeled pixel; check the label coding"):
            measure(model, processor, [(image, np.full((97, 131), 255))])


def test_confusions_are_counted_as_evaluate_does(solved, scenes_processor, scenes):
    found = confused_properties(solved, scenes_processor, scenes, max_pairs=500)
    results = evaluate(solved, scenes_processor, scenes)
    assert 1 - found.num_wrong / found.num_pixels == pytest.approx(results["pixel_accuracy"])
    assert sum(pair.pixels for pair in found.pairs) == found.num_wrong
    assert sum(pair.share_of_errors for pair in found.pairs) == pytest.approx(1)
    names = list(solved.config.id2label.values())
    pair, lead, pixels = found.pairs[0], 0.0, 0
    assert pair.pixels == max(each.pixels for each in found.pairs)
    for sample in scenes:
        with torch.no_grad():
            logits = solved(**scenes_processor(images=sample.image, return_tensors="pt")).logits
        scores = torch.nn.functional.interpolate(logits, sample.mask.shape, mode="bilinear")[0]
        true, given = names.index(pair.labeled), names.index(pair.predicted)
        region = torch.from_numpy(sample.mask == true) & (scores.argmax(0) == given)
        lead, pixels = lead + float((scores[given] - scores[true])[region].sum()), pixels + int(region.sum())
    assert pixels == pytest.approx(pair.pixels, abs=2)
    assert sum(d for _, d in pair.properties) == pytest.approx(lead / pixels, abs=1e-4)
    assert len(found.to_rows()) == len(found.pairs) * len(pair.properties)
    assert f"{pair.labeled} as {pair.predicted} (" in found.to_text()


@pytest.mark.parametrize("options", [{}, {"mode": "slide", "crop_size": 48, "stride": 30, "flip": True}])
def test_corrections_begin_at_the_model_and_end_at_the_truth(make_model, processor, pairs, options):
    model = make_model()
    random, uncertain = correction_curves(model, processor, pairs, steps=[2, 8, 5], **options)
    before = evaluate(model, processor, pairs, **({"mode": "whole"} | options))
    for curve in (random, uncertain):
        assert curve.num_corrected == [0, 2, 5, 8] and curve.num_images == 2
        assert curve.mean_iou[0] == pytest.approx(before["mean_iou"])
        assert curve.pixel_accuracy[0] == pytest.approx(before["pixel_accuracy"])
        # Every class has a row of its own, so nothing is left but borders between cells of the map.
        assert curve.pixel_accuracy[-1] > 0.8 > curve.pixel_accuracy[0]
    assert random.mean_iou[-1] == uncertain.mean_iou[-1]
    assert random.mean_iou[1] != uncertain.mean_iou[1]
    assert uncertain.to_rows()[1] == {
        "order": "uncertainty", "corrected": 2, "mean_iou": uncertain.mean_iou[1],
        "pixel_accuracy": uncertain.pixel_accuracy[1],
    }  # fmt: skip


def test_the_least_certain_properties_come_first(make_model, processor, pairs):
    """One property per cell, the one nearest to 0.5, set to what the row of the label says."""
    model = make_model()
    curve = correction_curves(model, processor, pairs, steps=[1], orders=["uncertainty"])[0]
    right = total = 0
    for photo, mask in pairs:
        with torch.no_grad():
            output = model(**processor(images=photo, return_tensors="pt"))
            scores = model.property_scores(output.property_logits)
        height, width = scores.shape[2:]
        for row in range(height):
            for column in range(width):
                cell = scores[0, :, row, column]
                label = mask[
                    (2 * row + 1) * mask.shape[0] // (2 * height),
                    (2 * column + 1) * mask.shape[1] // (2 * width),
                ]
                if label != 255:
                    first = int((cell - 0.5).abs().argmin())
                    cell[first] = model.class_property_matrix[label, first]
        logits = model.similarity_of_scores(scores)
        labels = torch.nn.functional.interpolate(logits, mask.shape, mode="bilinear")[0].argmax(0).numpy()
        right, total = right + int((labels == mask).sum()), total + int((mask != 255).sum())
    assert curve.pixel_accuracy[1] == pytest.approx(right / total, abs=1e-4)


def test_wrong_corrections_are_named(make_model, processor, pairs):
    with pytest.raises(ValueError, match="raw logits"):
        correction_curves(make_model("cosine"), processor, pairs)
    model = make_model()
    with pytest.raises(ValueError, match=r"orders is \['best'\]"):
        correction_curves(model, processor, pairs, orders=["best"])
    with pytest.raises(ValueError, match="the model has 8 properties"):
        correction_curves(model, processor, pairs, steps=[9])


@pytest.mark.parametrize("options", [{}, {"flip": True}])
def test_reliability_by_hand(make_model, processor, pairs, options):
    model = make_model()
    found = reliability(model, processor, pairs, num_bins=50, **options)
    confidences, right = [], []
    for photo, mask in pairs:
        scores = segment(model, processor, photo, return_scores=True, **options).scores
        best, labels = scores.max(0)
        valid = torch.from_numpy(mask != 255)
        confidences.append(best[valid])
        right.append((labels == torch.from_numpy(mask))[valid].float())
    confidences, right = torch.cat(confidences), torch.cat(right)
    assert found.num_pixels == len(right) and found.accuracy == pytest.approx(float(right.mean()))
    error = 0.0
    for bin_ in found.bins:
        inside = (confidences >= bin_.low) & (confidences < bin_.high)
        if inside.sum() > 50:
            assert bin_.pixels == pytest.approx(int(inside.sum()), abs=3)  # rounding at the ends
        if inside.any():
            error += float(inside.float().mean() * (right[inside].mean() - confidences[inside].mean()).abs())
    assert found.calibration_error == pytest.approx(error, abs=1e-4)
    assert sum(bin_.pixels for bin_ in found.bins) == found.num_pixels
    part = reliability(model, processor, pairs, max_pixels=500, **options)
    assert part.num_pixels == 500 and part.accuracy == pytest.approx(found.accuracy, abs=0.08)


def test_the_fitted_temperature_is_the_best(make_model, processor, solved, scenes_processor, scenes):
    found = reliability(solved, scenes_processor, scenes, temperature="fit", max_pixels=4000)
    plain = reliability(solved, scenes_processor, scenes, max_pixels=4000)
    assert found.is_fitted and found.calibration_error < 0.3 * plain.calibration_error
    for factor in (0.9, 1.1):
        other = reliability(
            solved, scenes_processor, scenes, temperature=factor * found.temperature, max_pixels=4000
        )
        assert other.negative_log_likelihood > found.negative_log_likelihood
    logits = torch.randn(1, 4000, 3, generator=torch.Generator().manual_seed(0)) * 2
    drawn = torch.distributions.Categorical(logits=logits[0] / 0.25)
    torch.manual_seed(0)
    assert best_temperature(logits, drawn.sample()) == pytest.approx(0.25, rel=0.1)
    with pytest.raises(ValueError, match="temperature is 0"):
        reliability(make_model(), processor, scenes, temperature=0)


@pytest.mark.parametrize(
    ("mean_iou", "end"),
    [
        ([0.5, 0.6, 0.9], "0.500 -> 0.900 with all 4 properties corrected, half of the way with 4."),
        ([0.927, 0.931, 0.928], "with all 4 properties corrected: wrong properties are not what it errs by."),
    ],
)
def test_a_curve_that_does_not_rise_has_no_half(mean_iou, end):
    curve = CorrectionCurve("random", [0, 2, 4], mean_iou, mean_iou, 3, 4)
    assert curve.to_text().startswith("3 images, in random order: mean IoU") and curve.to_text().endswith(end)
