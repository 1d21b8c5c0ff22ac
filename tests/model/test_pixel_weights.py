"""Weights of pixels and the hardest of them, against loops over pixels and formulas of others."""

import pytest
import torch
import torch.nn.functional as F

from prolab_hf.model.loss_plain_prolab import (
    plain_class_cross_entropy_loss,
    plain_property_cosine_loss,
    plain_property_regression_loss,
)
from prolab_hf.model.loss_prolab import (
    class_cross_entropy_loss,
    property_cosine_loss,
    property_regression_loss,
)
from prolab_hf.model.pixel_weights_prolab import (
    HardPixels,
    boundary_map,
    class_weight_map,
    hardest_pixels,
)

VOID = 255


def example(*, channels=5, classes=4, features=(5, 6), size=(37, 41), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, *features, generator=generator, dtype=dtype)
    labels = torch.randint(0, classes, (2, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = VOID
    matrix = (torch.rand(classes, channels, generator=generator) < 0.5).to(dtype)
    matrix[:, 0] = 1
    weights = torch.rand(labels.shape, generator=generator, dtype=dtype) * 3
    return logits.requires_grad_(), labels, matrix, weights


LOSSES = {
    "cosine": (property_cosine_loss, plain_property_cosine_loss),
    "bce": (property_regression_loss, plain_property_regression_loss),
    "class": (class_cross_entropy_loss, plain_class_cross_entropy_loss),
}


def both(name, logits, labels, matrix, **options):
    """A loss and its gradient by the stream and by the formula."""
    found = []
    for function in LOSSES[name]:
        arguments = (logits, labels) if name == "class" else (logits, labels, matrix)
        extra = {} if name == "class" else {"temperature": 0.3}
        loss = function(*arguments, **extra, **options)
        found.append((loss, torch.autograd.grad(loss, logits)[0]))
    return found


@pytest.mark.parametrize(
    "options", [{}, {"hard_pixels": HardPixels(0.3)}, {"hard_pixels": HardPixels(0.1, 0.4)}]
)
@pytest.mark.parametrize("name", LOSSES)
def test_the_stream_equals_the_formula(name, options):
    logits, labels, matrix, weights = example()
    for given in ({}, {"pixel_weights": weights}):
        (ours, our_slope), (plain, plain_slope) = both(name, logits, labels, matrix, **given, **options)
        torch.testing.assert_close(ours, plain)
        torch.testing.assert_close(our_slope, plain_slope)


def test_weights_multiply_and_the_mean_is_over_pixels():
    """Void pixels do not count, and twice the weight is twice the loss."""
    logits, labels, matrix, weights = example()
    scores = torch.sigmoid(F.interpolate(logits, labels.shape[1:], mode="bilinear") / 0.3)
    expected, number = 0.0, 0
    for b, y, x in (labels != VOID).nonzero().tolist():
        cosine = F.cosine_similarity(scores[b, :, y, x], matrix[labels[b, y, x]], dim=0)
        expected, number = expected + weights[b, y, x] * (1 - cosine), number + 1
    found = property_cosine_loss(logits, labels, matrix, temperature=0.3, pixel_weights=weights)
    torch.testing.assert_close(found, expected / number)
    twice = property_cosine_loss(logits, labels, matrix, temperature=0.3, pixel_weights=2 * weights)
    torch.testing.assert_close(twice, 2 * found)


def test_class_weights_equal_torchs_sum():
    logits, labels, _, _ = example(channels=4)
    class_weights = torch.tensor([0.5, 2.0, 1.0, 4.0], dtype=torch.float64)
    maps = class_weight_map(labels, class_weights)
    found = class_cross_entropy_loss(logits, labels, pixel_weights=maps)
    large = F.interpolate(logits, labels.shape[1:], mode="bilinear")
    total = F.cross_entropy(large, labels, class_weights, ignore_index=VOID, reduction="sum")
    torch.testing.assert_close(found, total / (labels != VOID).sum())
    assert (maps[labels == VOID] == 1).all()


def test_weights_do_not_reach_the_void_pixels_of_a_diluted_mean():
    logits, labels, matrix, _ = example()
    diluted = {"temperature": 0.3, "void_pixels": "dilute"}
    weights = class_weight_map(labels, torch.ones(4, dtype=torch.float64))
    ones = property_cosine_loss(logits, labels, matrix, **diluted, pixel_weights=weights)
    torch.testing.assert_close(ones, property_cosine_loss(logits, labels, matrix, **diluted))


@pytest.mark.parametrize("width", [1, 2])
def test_boundaries_equal_a_search_around_every_pixel(width):
    labels = torch.full((1, 9, 12), VOID)
    labels[0, :, 5:] = 3
    labels[0, 4:, 8:] = 1
    labels[0, 0, 11] = VOID
    found = boundary_map(labels, width=width)
    for y in range(9):
        for x in range(12):
            near = labels[0, max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
            own = int(labels[0, y, x])
            expected = own != VOID and any(int(value) not in (own, VOID) for value in near.flatten())
            assert bool(found[0, y, x]) == expected, (y, x)
    assert found.any() and not found.all()


def test_the_hardest_pixels():
    losses = torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 9.0]])
    counted = torch.tensor([[True, True, True], [True, True, False]])

    def kept(**options):
        return hardest_pixels(losses, counted, HardPixels(**options))

    assert losses[kept(share=0.4)].tolist() == [pytest.approx(0.9), pytest.approx(0.7)]
    assert losses[kept(share=0.2, threshold=0.5)].tolist() == pytest.approx([0.9, 0.5, 0.7])
    # A threshold that nobody reaches leaves the share.
    assert losses[kept(share=0.2, threshold=5.0)].tolist() == pytest.approx([0.9])
    assert (kept(share=1.0) == counted).all()
    assert not hardest_pixels(losses, torch.zeros_like(counted), HardPixels(0.5)).any()


def test_a_crop_without_labels_has_no_hard_pixels():
    logits, labels, matrix, _ = example()
    labels.fill_(VOID)
    for loss, slope in both("cosine", logits, labels, matrix, hard_pixels=HardPixels(0.5)):
        assert loss == 0 and not slope.any()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_equals_the_formula_of_others(gamma):
    smp = pytest.importorskip("segmentation_models_pytorch")
    logits, labels, _, _ = example(channels=4)
    options = {"focal_gamma": gamma}
    (ours, our_slope), (plain, plain_slope) = both("class", logits, labels, None, **options)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(our_slope, plain_slope)
    # Theirs has a sigmoid per class; with a softmax it is the same factor on the cross-entropy.
    large = F.interpolate(logits, labels.shape[1:], mode="bilinear")
    entropy = F.cross_entropy(large, labels, ignore_index=VOID, reduction="none")
    valid = labels != VOID
    expected = ((1 - torch.exp(-entropy[valid])) ** gamma * entropy[valid]).mean()
    torch.testing.assert_close(ours, expected)
    two = torch.cat([logits[:, :1], torch.zeros_like(logits[:, :1])], dim=1)
    theirs = smp.losses.FocalLoss("binary", gamma=gamma, ignore_index=VOID)
    sides = torch.where(labels == VOID, VOID, (labels == 0).long())
    large = F.interpolate(logits[:, :1], labels.shape[1:], mode="bilinear")
    found = class_cross_entropy_loss(two, torch.where(labels == VOID, VOID, (labels != 0).long()), **options)
    torch.testing.assert_close(found, theirs(large, sides))


def test_focal_loss_of_a_certain_pixel_is_finite():
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 0] = 200.0
    logits.requires_grad_()
    for (loss, slope), expected in zip(
        (both("class", logits, torch.full((1, 2, 2), label), None, focal_gamma=0.5) for label in (0, 1)),
        (0.0, 200.0),
    ):
        del slope
        torch.testing.assert_close(loss[0], torch.tensor(expected), atol=1e-5, rtol=1e-5)
        assert torch.isfinite(loss[1]).all()


def test_weights_of_another_shape_are_refused():
    logits, labels, matrix, weights = example()
    for function in LOSSES["cosine"]:
        with pytest.raises(ValueError, match=r"pixel_weights must have the shape of labels \(2, 37, 41\)"):
            function(logits, labels, matrix, temperature=0.3, pixel_weights=weights[:1])


def test_the_operator_that_maps_losses_keeps_the_contract_of_torch():
    from prolab_hf.model.loss_operators_prolab import class_rows, pixel_losses

    logits, labels, matrix, _ = example(dtype=torch.float32)
    table = torch.cat([matrix, torch.zeros(1, 5)])
    arguments = logits.detach(), class_rows(labels, 4, VOID), table, None, "sigmoid_cosine", 2.0, 0.0
    torch.library.opcheck(pixel_losses, arguments, test_utils=("test_schema", "test_faketensor"))
