"""Dice and Lovasz losses against segmentation_models_pytorch, and what their sums leave out."""

import pytest
import torch
import torch.nn.functional as F

from prolab_hf.model.loss_regions_prolab import dice_loss, lovasz_loss

VOID = 255
smp = pytest.importorskip("segmentation_models_pytorch")


def example(*, void=0.2, classes=4, size=(19, 23)):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64) * 3
    labels = torch.randint(
        0, classes, (2, *size), generator=generator
    )  # the last of five classes does not occur
    labels[torch.rand(labels.shape, generator=generator) < void] = VOID
    return logits.requires_grad_(), labels


def large(logits, labels):
    return F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)


@pytest.mark.parametrize("void", [0.0, 0.2])
def test_dice_loss_equals_that_of_others(void):
    """Theirs divides by all classes, ours by those that occur; void pixels are 0 in their sums as they are in ours."""
    logits, labels = example(void=void)
    theirs = smp.losses.DiceLoss("multiclass", ignore_index=VOID)(large(logits, labels), labels) * 5 / 4
    ours = dice_loss(logits, labels)
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("void", [0.0, 0.2])
def test_lovasz_loss_equals_that_of_others(void):
    logits, labels = example(void=void)
    logits = logits.detach().float().requires_grad_()  # theirs knows no other type
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=VOID)(large(logits, labels), labels)
    ours = lovasz_loss(logits, labels)
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("loss", [dice_loss, lovasz_loss])
def test_certain_pixels_cost_nothing_and_wrong_ones_everything(loss):
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, VOID]]])
    right = F.one_hot(labels % VOID, 2).permute(0, 3, 1, 2).double() * 100
    assert loss(right, labels) < 1e-6
    assert loss(-right, labels) > 1 - 1e-6


@pytest.mark.parametrize("loss", [dice_loss, lovasz_loss])
def test_a_crop_without_labels_costs_nothing(loss):
    logits, labels = example()
    value = loss(logits, torch.full_like(labels, VOID))
    assert value == 0
    assert not torch.autograd.grad(value, logits)[0].any()


@pytest.mark.parametrize("loss", [dice_loss, lovasz_loss])
def test_labels_outside_the_classes_are_refused(loss):
    logits, labels = example()
    with pytest.raises(ValueError, match=r"labels hold \[7\], but the classes are 0 to 4"):
        loss(logits, torch.full_like(labels, 7))


def test_a_smooth_dice_loss_by_its_formula():
    logits, labels = example()
    valid, occurring = labels != VOID, range(4)
    scores = torch.softmax(large(logits, labels), dim=1)

    def of_class(label):
        score, truth = scores[:, label][valid], (labels[valid] == label).double()
        return 1 - (2 * (score * truth).sum() + 3.0) / (score.sum() + truth.sum() + 3.0)

    expected = sum(map(of_class, occurring)) / 4
    found = dice_loss(logits, labels, smooth=3.0)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(loss, logits)[0] for loss in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_the_operator_that_sums_keeps_the_contract_of_torch():
    from prolab_hf.model.loss_operators_prolab import class_rows, softmax_sums

    logits, labels = example()
    arguments = logits.detach().float(), class_rows(labels, 5, VOID)
    torch.library.opcheck(softmax_sums, arguments, test_utils=("test_schema", "test_faketensor"))
    own, everywhere = softmax_sums(*arguments)
    scores = torch.softmax(large(arguments[0], labels), dim=1)
    torch.testing.assert_close(everywhere, (scores * (labels != VOID)[:, None]).sum(dim=(0, 2, 3)))
    expected = [scores[:, label][labels == label].sum() for label in range(5)]
    torch.testing.assert_close(own, torch.stack(expected))


def test_half_precision_is_summed_in_full():
    logits, labels = example()
    half = logits.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = dice_loss(half, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, dice_loss(half.float(), labels))


def test_more_classes_than_are_upsampled_at_once():
    """Against smp, with 19 classes in chunks of 8, of which 11 occur."""
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(2, 19, 5, 4, generator=generator) * 2).requires_grad_()
    labels = torch.randint(0, 11, (2, 14, 9), generator=generator)
    theirs = smp.losses.LovaszLoss("multiclass", ignore_index=VOID)(large(logits, labels), labels)
    ours = lovasz_loss(logits, labels)
    torch.testing.assert_close(ours, theirs)
    slopes = [torch.autograd.grad(loss * 3, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*slopes)


def test_the_lovasz_loss_compiles_into_one_graph():
    logits, labels = example()
    compiled = torch.compile(lovasz_loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(lovasz_loss(logits, labels), logits)[0]
    torch.testing.assert_close(torch.autograd.grad(compiled(logits, labels), logits)[0], expected)
    assert lovasz_loss(logits.detach(), labels).requires_grad is False
