"""The network outside of eager PyTorch: torch.export, ONNX in onnxruntime, torch.compile."""

import numpy as np
import pytest
import torch
from torch.export import Dim
from transformers import ConvNextConfig

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace

DYNAMIC = {"pixel_values": {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
SHAPES = [(2, 3, 128, 160), (1, 3, 192, 224), (3, 3, 96, 352)]


class Logits(torch.nn.Module):
    """Tensors in, tensors out: what an exported graph takes and gives."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        output = self.model(pixel_values)
        return output.logits, output.property_logits


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    space = PropertySpace.random_codes(["cat", "dog", "car"], num_properties=12, density=0.3)
    backbone = ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1])
    model = ProLabForSemanticSegmentation.from_backbone(backbone, space, hidden_size=16, auxiliary_channels=8)
    return Logits(model).eval()


@torch.no_grad()
def test_exported_graph_takes_any_batch_and_size(network):
    example = torch.randn(SHAPES[0])
    exported = torch.export.export(network, (example,), dynamic_shapes=DYNAMIC).module()
    for shape in SHAPES:
        pixels = torch.randn(shape)
        for ours, expected in zip(exported(pixels), network(pixels), strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_onnx_with_dynamic_sizes_gives_equal_answers(network, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra prolab_hf[export] is not installed")
    path = tmp_path / "model.onnx"
    names = {"input_names": ["pixel_values"], "output_names": ["logits", "property_logits"]}
    example = torch.randn(SHAPES[0])
    torch.onnx.export(network, (example,), path, dynamo=True, dynamic_shapes=DYNAMIC, **names)
    session = runtime.InferenceSession(path)
    for shape in SHAPES:
        pixels = torch.randn(shape)
        answers = session.run(None, {"pixel_values": pixels.numpy()})
        for ours, expected in zip(answers, network(pixels), strict=True):
            np.testing.assert_allclose(ours, expected.numpy(), atol=1e-4)


def test_forward_has_no_graph_break(network):
    """Traced whole, loss included; the code generator, which takes a minute, is left out."""
    compiled = torch.compile(network.model, fullgraph=True, backend="aot_eager")
    pixels, labels = torch.randn(SHAPES[0]), torch.randint(0, 3, (2, 128, 160))
    loss = compiled(pixels, labels=labels).loss
    loss.backward()
    gradients = [p.grad.clone() for p in network.model.decode_head.parameters()]
    network.model.zero_grad()
    expected = network.model(pixels, labels=labels).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for ours, parameter in zip(gradients, network.model.decode_head.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, atol=1e-5, rtol=1e-4)
    network.model.zero_grad()
