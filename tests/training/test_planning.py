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
