"""Models of the reference implementation: configuration, weights and outputs end to end."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prolab_hf import ProLabForSemanticSegmentation, segment
from prolab_hf.evaluation.sliding_window import slide_logits
from prolab_hf.hub.original_checkpoints import (
    config_from_original,
    convert_original_state_dict,
    property_space_from_original,
)


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "goldens"
    facts = json.loads((folder / "segmentor_vit_cossig_norm0.json").read_text())
    return facts, load_file(folder / "segmentor_vit_cossig_norm0.safetensors")


def part(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def space(golden):
    _, tensors = golden
    return property_space_from_original(tensors["bank/raw_DxK"], tensors["bank/cluster2label_raw_KxN"])


@pytest.fixture(scope="module")
def model(golden, space):
    facts, tensors = golden
    config = config_from_original(facts["cfg"], space)
    model = ProLabForSemanticSegmentation(config)
    converted = convert_original_state_dict(part(tensors, "state/"), config)
    model.load_state_dict(converted, strict=False)
    model.set_property_space(space)
    return model.eval()


def test_property_space_equals_the_bank(golden, space):
    _, tensors = golden
    torch.testing.assert_close(space.property_embeddings, tensors["bank/normalized_KxD"])
    assert torch.equal(space.class_property_matrix, tensors["bank/cluster2label_NxK"].float())


@torch.no_grad()
def test_whole_image_equals_the_reference(golden, model):
    _, tensors = golden
    image = tensors["input/image"]
    out = model(image)
    torch.testing.assert_close(
        out.property_logits, tensors["output/whole/property_logits_raw"], atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(out.logits, tensors["output/whole/class_logits_lowres"], atol=1e-4, rtol=1e-4)
    full = torch.nn.functional.interpolate(out.logits, size=image.shape[2:], mode="bilinear")
    torch.testing.assert_close(full, tensors["output/whole/class_logits_fullres"], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_sliding_window_softmax_and_flip_equal_the_reference(golden, model):
    facts, tensors = golden
    image = tensors["input/image"]

    def logits(pixels):
        return model(pixels).logits

    crop, stride = facts["slide"]["crop_size"], facts["slide"]["stride"]
    size = tuple(facts["ori_shape"][:2])
    full = slide_logits(logits, image, tuple(crop), tuple(stride))
    torch.testing.assert_close(full, tensors["output/slide/class_logits_fullres"], atol=1e-4, rtol=1e-4)
    probabilities = torch.nn.functional.interpolate(full, size=size, mode="bilinear").softmax(dim=1)
    torch.testing.assert_close(
        probabilities, tensors["output/slide/softmax_prob_rescaled"], atol=1e-4, rtol=1e-4
    )
    expected = tensors["output/slide/seg_pred"].reshape(size)
    assert (probabilities[0].argmax(0) == expected).float().mean() > 0.999
    flipped = slide_logits(logits, image.flip(3), tuple(crop), tuple(stride))
    flipped = torch.nn.functional.interpolate(flipped, size=size, mode="bilinear").softmax(dim=1).flip(3)
    torch.testing.assert_close(
        flipped, tensors["output/slide/softmax_prob_rescaled_hflip"], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("mode", "window"), [("whole", 96), ("slide", 64)])
def test_segment_equals_the_reference_at_another_size_of_the_image(golden, model, mode, window):
    """The reference resizes logits to the processed size, then to the image's; so does the sliding window.

    For its `whole` mode the window is as large as the processed image.
    """
    facts, tensors = golden
    size = tuple(facts["ori_shape"][:2])
    image = np.zeros((*size, 3), np.uint8)
    options = {"mode": "slide", "crop_size": window, "stride": 42, "return_scores": True}

    def processor(images, return_tensors):
        return {"pixel_values": tensors["input/image"][:1].detach()}

    result = segment(model, processor, image, **options)
    expected = tensors[f"output/{mode}/softmax_prob_rescaled"][0]
    torch.testing.assert_close(result.scores, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(result.labels, tensors[f"output/{mode}/seg_pred"].reshape(size).long())


def test_training_loss_and_gradients_equal_the_reference(golden, model):
    _, tensors = golden
    losses = part(tensors, "output/train_evalBN/")
    model.zero_grad()
    labels = tensors["input/label"].reshape(-1, *tensors["input/label"].shape[-2:])
    loss = model(tensors["input/image"], labels=labels).loss
    torch.testing.assert_close(loss, losses["total_loss"].reshape(()), atol=1e-4, rtol=1e-4)
    loss.backward()
    expected = part(tensors, "grad_evalBN/")
    heads = {key: value for key, value in expected.items() if not key.startswith("backbone.")}
    assert expected
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    compared = 0
    for key, value in heads.items():
        ours = grads.get(key.replace("conv_seg", "classifier").replace(".bn.", ".batch_norm."))
        if ours is not None and ours.shape == value.shape:
            torch.testing.assert_close(ours, value, atol=1e-4, rtol=1e-3)
            compared += 1
    assert compared


def test_missing_unexpected_and_misshapen_tensors_are_named(golden, space):
    facts, tensors = golden
    config = config_from_original(facts["cfg"], space)
    state = part(tensors, "state/")

    missing = {key: value for key, value in state.items() if key != "decode_head.conv_seg.bias"}
    with pytest.raises(ValueError, match=r"missing: decode_head.classifier.bias"):
        convert_original_state_dict(missing, config)
    with pytest.raises(ValueError, match=r"unexpected: decode_head.extra.weight"):
        convert_original_state_dict(state | {"decode_head.extra.weight": torch.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"Unexpected tensors in the checkpoint: neck.weight"):
        convert_original_state_dict(state | {"neck.weight": torch.zeros(1)}, config)
    wrong = state | {"decode_head.conv_seg.bias": torch.zeros(3)}
    with pytest.raises(
        ValueError, match=r"decode_head.classifier.bias is \(3,\), the configuration needs \(24,\)"
    ):
        convert_original_state_dict(wrong, config)


def test_a_space_with_other_vectors_than_the_checkpoint_is_named(golden, space):
    facts, tensors = golden
    other = space.replace(property_embeddings=torch.randn(space.num_properties, 12))
    cfg = facts["cfg"] | {"decode_head": facts["cfg"]["decode_head"] | {"num_classes": 12}}
    with pytest.raises(ValueError, match=r"embeddings have size 24, those of the property space 12; give"):
        convert_original_state_dict(part(tensors, "state/"), config_from_original(cfg, other))


def test_keys_with_a_data_parallel_prefix_are_accepted(golden, space):
    facts, tensors = golden
    config = config_from_original(facts["cfg"], space)
    state = {f"module.{key}": value for key, value in part(tensors, "state/").items()}
    assert convert_original_state_dict(state, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "OtherHead"}, "decode_head.type is 'OtherHead'"),
        ({"num_classes": 768}, "num_classes .* is 768, but the property space has embeddings of size 24"),
        ({"align_corners": True}, "align_corners is True"),
        ({"get_logit_mode": "dot"}, "get_logit_mode is 'dot'"),
    ],
)
def test_configuration_without_a_counterpart_is_refused(golden, space, change, message):
    facts, _ = golden
    cfg = facts["cfg"] | {"decode_head": facts["cfg"]["decode_head"] | change}
    with pytest.raises(ValueError, match=message):
        config_from_original(cfg, space)
