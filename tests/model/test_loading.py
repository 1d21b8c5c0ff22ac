"""What loading, renaming and saving a model refuse: classes without rows, damaged weights, half-written folders."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSemanticSegmentation, ConvNextConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, PropertySpace

STAGES = ["stage1", "stage2", "stage3", "stage4"]
CLASSES = ["sky", "road", "car"]
SPACE = PropertySpace(
    class_names=CLASSES,
    property_names=["blue", "gray", "wide", "shiny"],
    property_embeddings=torch.eye(4, 6),
    class_property_matrix=torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]),
    descriptions={"sky": ["blue", "wide"], "road": ["gray", "wide"], "car": ["shiny"]},
    name="street",
)


def make_model(**fields):
    torch.manual_seed(0)
    backbone = ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=STAGES)
    small = {"hidden_size": 16, "auxiliary_channels": 8, "backbone_config": backbone}
    model = ProLabForSemanticSegmentation(ProLabConfig(**small, **SPACE.to_config_kwargs(), **fields))
    model.set_property_space(SPACE)
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def batch(size=64):
    return {
        "pixel_values": torch.randn(1, 3, size, size),
        "labels": torch.zeros(1, size, size, dtype=torch.long),
    }


def change(folder, **tensors):
    """Writes the weights again with tensors added, exchanged, or taken away (`None`); dots as `__`."""
    state = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        state.pop(name.replace("__", "."), None)
        if tensor is not None:
            state[name.replace("__", ".")] = tensor
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


# ---- classes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["a", "b", "c", "d"], ["sky", "road"], ["cat", "dog", "cow"]])
def test_a_class_list_that_does_not_fit_is_refused_before_weights_are_read(folder, names):
    given = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    for load in (AutoModelForSemanticSegmentation, ProLabForSemanticSegmentation):
        with pytest.raises(
            ValueError, match=r"has rows for 3 classes \('sky', 'road', 'car'\).*set_property_space"
        ):
            load.from_pretrained(folder, **given)


def test_the_fine_tuning_call_never_trains_rows_of_zeros(folder):
    model = AutoModelForSemanticSegmentation.from_pretrained(
        folder, num_labels=7, ignore_mismatched_sizes=True
    )
    with pytest.raises(RuntimeError, match="set_property_space"):
        model(**batch())
    model.set_property_space(SPACE)
    assert torch.isfinite(model(**batch()).loss)


def test_classes_added_in_place_are_refused_in_the_next_step():
    model = make_model()
    model.config.id2label[3] = "bicycle"
    with pytest.raises(RuntimeError, match="changed to 4 classes, but there are 3 rows"):
        model(**batch())
    with pytest.raises(ValueError, match="id2label names 4 classes"):
        ProLabForSemanticSegmentation(model.config)


def test_renaming_reaches_the_space_and_the_files(tmp_path):
    model = make_model()
    model.config.id2label = dict(enumerate(["ciel", "road", "car"]))
    assert model.property_space.class_names == ["ciel", "road", "car"]
    assert model.property_space.descriptions["ciel"] == ["blue", "wide"]
    model.config.id2label[1] = "rue"
    model.save_pretrained(tmp_path)
    for space in (PropertySpace.from_pretrained(tmp_path), model.property_space):
        assert list(space.descriptions) == ["ciel", "rue", "car"]
    loaded = ProLabForSemanticSegmentation.from_pretrained(tmp_path)
    assert loaded.config.label2id == {"ciel": 0, "rue": 1, "car": 2}
    assert torch.equal(loaded.class_property_matrix, model.class_property_matrix)


@pytest.mark.parametrize("damage", ["names", "rows", "words"])
def test_a_failing_save_writes_nothing(tmp_path, damage):
    model = make_model()
    if damage == "names":
        model.config.id2label[3] = "bicycle"
    elif damage == "rows":
        model.config.class_properties[0] = [1]
    else:
        model.config.property_space_info["descriptions"]["bicycle"] = ["thin"]
        assert "bicycle" not in SPACE.descriptions
    with pytest.raises(ValueError, match=r"bicycle|rows are still the old ones"):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- weights -----------------------------------------------------------------------------------------------


def test_renamed_missing_and_added_tensors_are_refused_by_name(folder):
    name = "decode_head.classifier.weight"
    weight = load_file(folder / "model.safetensors")[name]
    change(folder, decode_head__classifier__weight=None, decode_head__classifier__wait=weight)
    for load in (AutoModelForSemanticSegmentation, ProLabForSemanticSegmentation):
        with pytest.raises(ValueError, match=rf"lack {name} and hold decode_head.classifier.wait") as error:
            load.from_pretrained(folder)
        assert str(folder) in str(error.value)
    change(folder, decode_head__classifier__wait=None)
    with pytest.raises(ValueError, match=f"lack {name}:"):
        ProLabForSemanticSegmentation.from_pretrained(folder)
    change(folder, decode_head__classifier__weight=weight, neck__weight=weight.clone())
    with pytest.raises(ValueError, match=r"hold neck\.weight, which the network does not have"):
        ProLabForSemanticSegmentation.from_pretrained(folder)
    change(folder, neck__weight=None)
    ProLabForSemanticSegmentation.from_pretrained(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["decode_head.classifier.weight", "property_embeddings"])
def test_weights_that_are_not_finite_are_refused(folder, name, value):
    tensor = load_file(folder / "model.safetensors")[name]
    tensor.view(-1)[3] = value
    change(folder, **{name.replace(".", "__"): tensor})
    for options in ({}, {"ignore_mismatched_sizes": True}, {"dtype": torch.bfloat16}):
        with pytest.raises(ValueError, match=f"hold NaN or infinity in {name}"):
            ProLabForSemanticSegmentation.from_pretrained(folder, **options)


def test_the_auxiliary_head_may_be_left_behind_and_begun_anew(folder, tmp_path):
    model = AutoModelForSemanticSegmentation.from_pretrained(folder, use_auxiliary_head=False)
    assert model.auxiliary_head is None
    model.save_pretrained(tmp_path / "without")
    with pytest.raises(ValueError, match=r"lack auxiliary_head.*ignore_mismatched_sizes=True"):
        ProLabForSemanticSegmentation.from_pretrained(tmp_path / "without", use_auxiliary_head=True)
    fresh = ProLabForSemanticSegmentation.from_pretrained(
        tmp_path / "without", use_auxiliary_head=True, ignore_mismatched_sizes=True
    )
    assert torch.isfinite(fresh(**batch()).loss)


def test_pickled_weights_are_not_read(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        ProLabForSemanticSegmentation.from_pretrained(folder)


def test_a_backbone_that_is_not_finite_is_refused():
    backbone = make_model().backbone
    with torch.no_grad():
        next(backbone.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(ValueError, match="the given backbone hold NaN"):
        ProLabForSemanticSegmentation.from_backbone(backbone, SPACE, hidden_size=16, auxiliary_channels=8)


# ---- numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_class_logits_in_half_precision_are_finite(similarity, dtype):
    model = make_model(similarity=similarity)
    logits = torch.full((1, 4, 2, 2), -3.0)  # sigmoids below the smallest half: a norm of zero
    logits[..., 1] = torch.randn(4, 2)
    half = model.class_logits(logits.to(dtype))
    assert torch.isfinite(half).all()
    torch.testing.assert_close(half, model.class_logits(logits.to(dtype).float()))


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize(
    "fields", [{}, {"property_loss": "mse"}, {"property_loss": "bce"}, {"class_loss_weight": 0.5}]
)
def test_the_plain_losses_train_with_the_same_numbers(fields, normalized):
    results = []
    for implementation in ("streamed", "plain"):
        model = make_model(
            loss_implementation=implementation, normalize_pixel_embeddings=normalized, **fields
        )
        torch.manual_seed(3)
        inputs = batch()
        inputs["labels"][:, :5] = 255
        loss = model(**inputs).loss
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for streamed, plain in zip(*results, strict=True):
        torch.testing.assert_close(streamed, plain, rtol=1e-3, atol=1e-5)
