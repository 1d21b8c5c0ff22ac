"""Relaxed least squares and the network's own layer: closer to the labels than plain least squares, never farther."""

import torch

from prolab_hf.solving.refinement import refine
from prolab_hf.solving.solution import Pixels

ROWS = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]])


def pixels(number, seed, skew=8.0):
    """Three classes that a linear layer tells apart without a mistake, with many pixels far from any boundary."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(number, 6, generator=generator)
    features[: number // 4] *= skew
    layer = torch.randn(3, 7, generator=torch.Generator().manual_seed(7))
    features = torch.cat([features, torch.ones(number, 1)], dim=1)
    return Pixels(features, (features @ layer.t()).argmax(dim=1), torch.ones(number)), layer


def test_moved_targets_and_the_own_layer_lose_less():
    (fit, layer), (validation, _) = pixels(1500, 0), pixels(800, 1)
    options = {"ridge": 1e-4, "class_exponent": 0.5}
    refined = refine(fit, validation, ROWS, **options)
    assert refined.steps > 0 and refined.own_share == 0
    with_own = refine(fit, validation, ROWS, own_layer=3 * layer + 1, **options)
    assert with_own.mean_iou >= refined.mean_iou
    assert with_own.mean_iou > 0.95
    assert refine(fit, validation, ROWS, unspoken_weight=7.0, **options).unspoken_weight == 7.0
    test, _ = pixels(800, 2)
    responses = test.features @ with_own.layer.t()
    assert (responses.argmax(dim=1) == test.labels).float().mean() > 0.95
    assert responses.gather(1, test.labels[:, None]).mean() > 0.5  # near 1 for the own class


def test_the_plain_solution_stays_where_nothing_is_gained():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (600,), generator=generator)
    features = torch.cat([torch.eye(3)[labels], torch.ones(600, 1)], dim=1)
    fit, validation = (
        Pixels(features[part], labels[part], torch.ones(300)) for part in (slice(0, 300), slice(300, 600))
    )
    refined = refine(fit, validation, ROWS, ridge=1e-3, class_exponent=0.5)
    assert refined.steps == 0 and refined.own_share == 0 and refined.mean_iou == 1.0
