"""The objective of a model: which terms its configuration asks for, and how they add up."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import ResNetConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, PropertySpace
from prolab_hf.model.loss_prolab import class_cross_entropy_loss, property_cosine_loss
from prolab_hf.model.loss_regions_prolab import dice_loss, lovasz_loss
from prolab_hf.model.pixel_weights_prolab import HardPixels, class_weight_map

ROWS = [[0, 1], [1, 2], [2, 3]]


def config(**fields):
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    small = {"hidden_size": 8, "embedding_dim": 6, "num_properties": 4, "auxiliary_channels": 8}
    return ProLabConfig(backbone_config=backbone, class_properties=ROWS, **{**small, **fields})


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 32, 40), generator=generator)
    labels[:, :4] = 255
    return {"pixel_values": torch.randn(2, 3, 32, 40, generator=generator), "labels": labels}


def model_with(**fields):
    torch.manual_seed(0)
    return ProLabForSemanticSegmentation(config(**fields)).eval()


def loss_of(batch, **fields):
    return model_with(**fields)(**batch)


def test_every_term_is_the_function_of_its_name(batch):
    weights, alone = [0.5, 1.0, 3.0], {"use_auxiliary_head": False}
    output = loss_of(
        batch,
        class_loss_weight=0.5,
        dice_loss_weight=0.25,
        lovasz_loss_weight=2.0,
        focal_gamma=2.0,
        class_weights=weights,
        hard_pixel_share=0.5,
        **alone,
    )
    labels, logits = batch["labels"], output.logits / 0.05
    pixels = {
        "pixel_weights": class_weight_map(labels, torch.tensor(weights)),
        "hard_pixels": HardPixels(0.5),
    }
    matrix = model_with().class_property_matrix
    expected = property_cosine_loss(output.property_logits, labels, matrix, temperature=0.04, **pixels)
    expected = expected + 0.5 * class_cross_entropy_loss(logits, labels, focal_gamma=2.0, **pixels)
    expected = expected + 0.25 * dice_loss(logits, labels) + 2 * lovasz_loss(logits, labels)
    torch.testing.assert_close(output.loss, expected)


def test_streamed_and_plain_objectives_are_equal(batch):
    fields = {
        "class_loss_weight": 1.0,
        "class_weights": [0.5, 1.0, 3.0],
        "boundary_weight": 2.0,
        "boundary_width": 1,
        "hard_pixel_share": 0.25,
        "hard_pixel_threshold": 0.5,
    }
    losses = [loss_of(batch, loss_implementation=name, **fields).loss for name in ("streamed", "plain")]
    torch.testing.assert_close(*losses)
    assert losses[0] != loss_of(batch, class_loss_weight=1.0).loss


def test_weights_of_one_change_nothing(batch):
    plain = loss_of(batch).loss
    torch.testing.assert_close(loss_of(batch, class_weights=[1.0, 1.0, 1.0]).loss, plain)
    assert model_with().pixel_weights(batch["labels"]) is None


def test_several_auxiliary_heads_each_with_its_weight(batch):
    model = model_with(auxiliary_in_index=[0, 2], auxiliary_loss_weight=[0.5, 0.25])
    maps = model.backbone(batch["pixel_values"]).feature_maps
    parts = [
        model._head_loss(*head(model.property_embeddings, *maps), batch["labels"])
        for head in model.auxiliary_head
    ]
    total = model(**batch).loss
    alone = model_with(auxiliary_in_index=[0, 2], auxiliary_loss_weight=0.0)
    alone.load_state_dict(model.state_dict())
    torch.testing.assert_close(total, alone(**batch).loss + 0.5 * parts[0] + 0.25 * parts[1])
    names = {name.split(".")[1] for name, _ in model.named_parameters() if name.startswith("auxiliary_head")}
    assert names == {"0", "1"}


def test_several_auxiliary_heads_are_saved_and_loaded(batch, tmp_path):
    model = model_with(
        auxiliary_in_index=[0, 2], auxiliary_loss_weight=[0.5, 0.25], class_weights=[1, 2, 0.5]
    )
    model.save_pretrained(tmp_path)
    again = ProLabForSemanticSegmentation.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**batch).loss, model(**batch).loss)
    assert again.config.auxiliary_loss_weight == [0.5, 0.25] and again.config.class_weights == [1, 2, 0.5]


def test_weights_of_classes_go_with_the_classes(batch):
    space = PropertySpace.one_hot(["a", "b", "c"])
    model = ProLabForSemanticSegmentation.from_backbone(
        config().backbone_config, space, hidden_size=8, class_weights=[1.0, 2.0, 3.0]
    )
    assert model.config.class_weights == [1.0, 2.0, 3.0]
    model.set_property_space(space.select_classes(["c", "a"]))
    assert model.config.class_weights is None
    assert torch.isfinite(model(**{**batch, "labels": batch["labels"] % 2}).loss)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_weights": [1.0, 2.0]}, "class_weights has 2 entries for 3 labels"),
        ({"class_weights": [1.0, -2.0, 1.0]}, r"class_weights holds the weight -2.0"),
        ({"class_weights": [0, 0, 0]}, r"class_weights holds only zeros"),
        ({"hard_pixel_share": 1.5}, r"hard_pixel_share is 1.5; it must be in \(0, 1\]"),
        ({"hard_pixel_share": 0}, r"hard_pixel_share is 0; it must be greater than 0"),
        ({"hard_pixel_threshold": 0}, r"hard_pixel_threshold is 0; it must be greater than 0, or None"),
        ({"focal_gamma": -1}, r"focal_gamma is -1; it must not be negative"),
        ({"boundary_width": 0}, r"boundary_width is 0; it must be greater than 0"),
        ({"auxiliary_in_index": []}, r"auxiliary_in_index is \[\]; give one feature map, or several"),
        ({"auxiliary_in_index": [1, 1]}, r"auxiliary_in_index is \[1, 1\]"),
        (
            {"auxiliary_in_index": [1, 2], "auxiliary_loss_weight": [0.4]},
            r"auxiliary_loss_weight has 1 entries for 2 auxiliary heads",
        ),
        ({"auxiliary_loss_weight": -0.4}, r"auxiliary_loss_weight is -0.4; it must not be negative"),
    ],
)
def test_fields_that_say_nothing_sensible_are_refused(fields, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        ProLabForSemanticSegmentation(config(**fields))
