import pytest
import torch
from torch import nn

from prolab_hf.training.planning import plan
from prolab_hf.training.published_recipes import get_recipe
from tests.training.conftest import build_model


class OneConvolution(nn.Module):
    """A network whose counts can be written down: one 3x3 convolution from 3 to 8 channels."""

    def __init__(self, config=None):
        super().__init__()
        self.config = config
        self.convolution = nn.Conv2d(3, 8, 3, padding=1, bias=False)

    def forward(self, pixel_values):
        return self.convolution(pixel_values)


def test_counts_by_hand(recipe):
    recipe = recipe.replace(**{"schedule.max_iterations": 1000, "device.mixed_precision": "no"})
    result = plan(
        recipe, OneConvolution(), num_images=500, num_processes=2, peak_teraflops=1.0, utilization=0.5
    )
    assert result.num_parameters == result.num_trainable == 216
    assert result.state_bytes == 216 * 4 * 4  # weights, gradients, two moments
    assert result.forward_flops == 2 * 216 * 32 * 32
    assert result.activation_bytes == 3 * 32 * 32 * 4  # a convolution keeps its input
    assert (result.images_per_step, result.total_iterations) == (4, 1000)
    assert result.gpu_hours == pytest.approx(3 * 2 * 216 * 1024 * 4 * 1000 / 0.5e12 / 3600)
    rows = dict(result.rows())
    assert rows["steps"] == "1,000 (8.0 epochs)"
    assert rows["images per step"] == "4 = 2 device(s) x 2 x 1 accumulated"
    assert result.exchanged_bytes == 216 * 4  # a ring of two sends half of the sums, and then the other half
    assert rows["sent by each device"].endswith("MiB per step (gradients, plain data parallelism)")
    assert any("1 TFLOP/s" in line and "50%" in line for line in result.assumptions)


def test_the_model_is_not_touched(recipe):
    model = build_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = plan(recipe, model, num_images=8)
    assert result.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert result.forward_flops > 0
    assert result.activation_bytes > 3 * 32 * 32 * 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_property_space_is_named_with_its_size(recipe):
    """The published networks have vectors of length 768, the bundled spaces shorter ones: other layer sizes."""
    model = build_model()
    config = model.config
    rows = dict(plan(recipe.replace(**{"model.property_space": "street"}), model, num_images=8).rows())
    assert rows["property space"] == (
        f"street: {config.num_labels} classes, {config.num_properties} properties, "
        f"vectors of length {config.embedding_dim}"
    )


def test_epochs_need_the_number_of_images():
    recipe = get_recipe("small")
    with pytest.raises(ValueError, match="the number of training images is needed"):
        plan(recipe, build_model())
    assert (
        plan(recipe.replace(**{"data.crop_size": 32}), build_model(), num_images=80).total_iterations == 400
    )


def test_a_frozen_backbone_costs_less_and_minutes_become_steps(recipe):
    """Backward is two thirds of a step; a backbone without it costs a third, with cached features nothing."""
    images = {"num_images": 8, "peak_teraflops": 1e-3, "utilization": 1.0}
    fields = {
        "all": {},
        "frozen": {"model.freeze": "backbone"},
        "cached": {"model.freeze": "backbone", "features.cache": True},
        "lora": {"peft.method": "lora"},
    }
    hours = {
        name: plan(recipe.replace(**given), build_model(), **images).gpu_hours
        for name, given in fields.items()
    }
    rest = hours["cached"]
    assert hours["frozen"] - rest == pytest.approx((hours["all"] - rest) / 3)
    assert hours["lora"] - rest == pytest.approx((hours["all"] - rest) * 2 / 3)
    assert 0 < rest < hours["frozen"]
    timed = plan(recipe.replace(**{"schedule.max_minutes": 60}), build_model(), **images)
    assert timed.total_iterations == int(6 / hours["all"])  # six steps take the hours of "all"
    rows = dict(timed.rows())
    assert rows["length"] == "60 minutes; the run times its own first steps"


def test_small_runs_have_rows_of_their_own(recipe):
    given = {
        "balance.class_weights": "sqrt",
        "balance.rare_class_crops": 0.25,
        "model.freeze": "backbone",
        "features.cache": True,
        "evaluation.early_stopping": 3,
    }
    rows = dict(plan(recipe.replace(**given), build_model(), num_images=8).rows())
    assert rows["rare classes"] == "weights sqrt, 25% of the crops around rare classes"
    assert rows["frozen"] == "backbone, features cached for 4 copies"
    assert rows["early stopping"] == "after 3 evaluations no better"
    rows = dict(plan(recipe.replace(**{"peft.method": "lora"}), build_model(), num_images=8).rows())
    assert rows["backbone"] == "LoRA of rank 8, alpha 16, on its attention or pointwise convolutions"


def test_every_loss_has_its_place_in_the_plan(recipe):
    given = {
        "config.focal_gamma": 2.0,
        "config.dice_loss_weight": 0.5,
        "config.lovasz_loss_weight": 1.0,
        "config.boundary_weight": 3.0,
        "config.boundary_width": 2,
        "config.hard_pixel_share": 0.25,
        "config.hard_pixel_threshold": 0.7,
        "config.auxiliary_in_index": [1, 2],
        "config.auxiliary_loss_weight": [0.2, 0.4],
        "data.crop_size": 512,
    }
    usual = dict(plan(recipe, build_model(), num_images=8).rows())
    assert "auxiliary head x 0.4" in usual["supervision"]
    assert not {"further losses", "loss of a pixel"} & usual.keys()
    rows = dict(plan(recipe.replace(**given), build_model(), num_images=8).rows())
    assert "auxiliary heads on map 1 x 0.2, map 2 x 0.4" in rows["supervision"]
    assert rows["further losses"] == (
        "focal with exponent 2 in the class loss, Dice x 0.5, Lovasz x 1 (about 100 MiB while it sorts)"
    )
    assert rows["loss of a pixel"] == (
        "x 3 within 2 pixels of another class, the hardest 25% and those with a loss of 0.7 or more only"
    )
    rows = dict(
        plan(recipe.replace(**{"config.use_auxiliary_head": False}), build_model(), num_images=8).rows()
    )
    assert "no auxiliary head" in rows["supervision"]
