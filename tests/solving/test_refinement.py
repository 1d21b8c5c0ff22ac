"""Fitted scores: closer to the labels than least squares where that can be, as the model interpolates them."""

import numpy as np
import torch
from torch.nn import functional as F

from prolab_hf.solving.pixel_features import sample_pixels
from prolab_hf.solving.refinement import MapPixels, _map_pixels, fit_scores, layer_as_responses, refine
from prolab_hf.solving.solution import Pixels, class_score_parts

ROWS = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]])


def on_cells(pixels):
    """Pixels that are cells of a map themselves."""
    number = len(pixels)
    places = torch.arange(number)[:, None].expand(number, 4).contiguous()
    return MapPixels(
        pixels.features, places, torch.full((number, 4), 0.25), pixels.labels, torch.ones(number)
    )


def pixels(number, seed, skew=8.0):
    """Three classes that a linear layer tells apart without a mistake, with many pixels far from any boundary."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(number, 6, generator=generator)
    features[: number // 4] *= skew
    layer = torch.randn(3, 7, generator=torch.Generator().manual_seed(7))
    features = torch.cat([features, torch.ones(number, 1)], dim=1)
    return Pixels(features, (features @ layer.t()).argmax(dim=1), torch.ones(number)), layer


def test_fitted_scores_lose_less():
    (fit, layer), (validation, _) = pixels(1500, 0), pixels(800, 1)
    fit, validation = on_cells(fit), on_cells(validation)
    options = {"ridge": 1e-4, "class_exponent": 0.5}
    refined = refine(fit, validation, ROWS, **options)
    with_own = refine(fit, validation, ROWS, own_layer=3 * layer + 1, **options)
    assert refined.is_fitted and with_own.is_fitted
    assert min(refined.mean_iou, with_own.mean_iou) > 0.95
    assert refine(fit, validation, ROWS, unspoken_weight=7.0, **options).unspoken_weight == 7.0
    test, _ = pixels(800, 2)
    predicted = on_cells(test).scores(with_own.layer, ROWS, with_own.unspoken_weight).argmax(dim=1)
    assert (predicted == test.labels).float().mean() > 0.95
    assert with_own.honest_responses.shape == (800, 3)


def test_a_class_without_pixels_is_not_fitted_against():
    fit, layer = pixels(1500, 0)
    known = fit.labels != 2
    part = Pixels(fit.features[known], fit.labels[known], fit.weights[known])
    start = layer_as_responses(layer, fit, 0.5)
    fitted = fit_scores(start, on_cells(part), ROWS, 2.0, 0.5)
    assert torch.equal(fitted[2], start[2]) and not torch.equal(fitted[:2], start[:2])


def test_the_plain_solution_stays_where_nothing_is_gained():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (600,), generator=generator)
    features = torch.cat([torch.eye(3)[labels], torch.ones(600, 1)], dim=1)
    fit, validation = (
        on_cells(Pixels(features[part], labels[part], torch.ones(300)))
        for part in (slice(0, 300), slice(300, 600))
    )
    refined = refine(fit, validation, ROWS, ridge=1e-3, class_exponent=0.5)
    assert not refined.is_fitted and refined.mean_iou == 1.0 and refined.unspoken_weight == 0


def test_pixels_are_scored_as_the_model_scores_them():
    """Scores at the cells of the finest map, then interpolated: not the scores of interpolated features."""
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(1, 4, 5, 6, generator=generator), torch.randn(1, 3, 2, 3, generator=generator)]
    labels = torch.randint(3, (23, 31), generator=generator).numpy()
    sample = sample_pixels(labels, -1, 200, np.random.default_rng(0))
    layer = torch.randn(3, 8, generator=generator)
    side_by_side = torch.cat(
        [maps[0], F.interpolate(maps[1], (5, 6), mode="bilinear"), torch.ones(1, 1, 5, 6)], 1
    )
    responses = side_by_side[0].flatten(1).t() @ layer.t()
    scores = sum(class_score_parts(responses, ROWS, 1.0)).t().view(1, 3, 5, 6)
    large = F.interpolate(scores, labels.shape, mode="bilinear", align_corners=False)[0]
    found = _map_pixels(maps, sample, labels.shape).scores(layer, ROWS, 1.0)
    torch.testing.assert_close(found, large[:, sample.rows, sample.columns].t(), rtol=1e-4, atol=1e-5)
