"""Responses of their own for what words do not say: the words stay, the trained classes are told apart better."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModelForSemanticSegmentation

from prolab_hf import ProLabConfig, explain, segment
from prolab_hf.solving.solution import Pixels, class_score_parts, mean_iou, property_scores
from prolab_hf.solving.solve import add_images, in_closed_form, solve_last_layer, start_at_solution
from prolab_hf.solving.unspoken_layer import fit_unspoken_layer, trained_layer

from .conftest import NAMES, Patches, make_space, solve_patches

ROWS = torch.tensor([[1.0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]])


def pixels(number, seed, skew=8.0):
    """Three classes that a linear layer tells apart without a mistake, with many pixels far from any boundary."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(number, 6, generator=generator)
    features[: number // 4] *= skew
    layer = torch.randn(3, 7, generator=torch.Generator().manual_seed(7))
    features = torch.cat([features, torch.ones(number, 1)], dim=1)
    return Pixels(features, (features @ layer.t()).argmax(dim=1), torch.ones(number))


class RareYellow(Patches):
    """Yellow is in one image only."""

    def __init__(self, length, *, place):
        super().__init__(length)
        self.place = place

    def __getitem__(self, index):
        self.classes = [0, 1, 2, 3] if index == self.place else [0, 1, 2]
        return super().__getitem__(index)


@pytest.fixture(scope="module")
def with_layer_once():
    return solve_patches(unspoken_layer=True)


@pytest.fixture
def with_layer(with_layer_once):
    import copy

    model = copy.deepcopy(with_layer_once)
    model.solve_statistics = with_layer_once.solve_statistics.copy()
    return model


def answers(model, values):
    with torch.no_grad():
        return model.eval()(values)


def test_trained_classes_are_told_apart_better_than_by_words():
    fit, validation, test = pixels(1500, 0), pixels(800, 1), pixels(800, 2)
    found = fit_unspoken_layer(fit, validation, ROWS, ridge=1e-4, class_exponent=0.5)
    assert found.mean_iou > found.words_iou + 0.02

    def iou(responses, beta):
        predicted = sum(class_score_parts(responses, ROWS, beta)).argmax(dim=1)
        return mean_iou(predicted, test.labels, test.weights, 3)

    words = found.honest_responses[:, :3].new_zeros(len(test), 3)
    words += test.features @ torch.linalg.lstsq(fit.features, torch.eye(3)[fit.labels]).solution
    both = torch.cat([words, test.features @ found.layer.t()], dim=1)
    assert iou(both, found.unspoken_weight) > iou(words, 0.0) + 0.02


def test_a_class_that_the_sample_does_not_hold_is_not_spoken_against():
    fit = pixels(600, 0)
    layer = trained_layer(fit, 5)
    assert torch.equal(layer[3:], torch.zeros(2, 7))
    assert torch.allclose(layer[:3], trained_layer(fit, 3)) and layer[:3].abs().min() > 0
    assert layer.sum(dim=0).abs().max() < 1e-4


def test_scores_with_and_without_responses_of_their_own():
    generator = torch.Generator().manual_seed(0)
    responses = torch.randn(7, 6, generator=generator)
    named, own = property_scores(responses, ROWS, 2.0)
    same, shared = property_scores(responses[:, :3], ROWS, 2.0)
    assert torch.equal(named, same) and own.shape == shared.shape
    assert torch.allclose(own, (responses[:, 3:] + 1).clamp_min(0))
    assert not torch.allclose(own, shared)


def test_words_stay_and_everything_sums_up(with_layer, processor):
    plain = solve_patches(unspoken_weight=0.0)
    values = processor(Patches(1)[0][0], return_tensors="pt")["pixel_values"]
    one, other = answers(with_layer, values), answers(plain, values)
    assert torch.allclose(one.property_logits, other.property_logits, atol=1e-5)
    assert other.unspoken_logits is None and one.unspoken_logits.shape[1] == 4
    assert with_layer.config.unspoken_responses and with_layer.config.unspoken_weight > 0
    assert with_layer.decode_head.classifier.out_channels == 8
    assert with_layer.config.solution["unspoken_layer"]["words_iou"] <= with_layer.config.solution["mean_iou"]
    assert json.dumps(with_layer.config.solution)
    found = explain(with_layer, processor, Patches(1)[0][0], point=(5, 5), class_name="red")
    assert sum(dict(found.contributions).values()) == pytest.approx(found.score, abs=1e-5)
    assert found.unspoken > 0 and 0 < found.spoken_share < 1


def test_it_loads_like_any_other_model(with_layer, processor, tmp_path):
    with_layer.save_pretrained(tmp_path)
    loaded, info = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    values = processor(Patches(1)[0][0], return_tensors="pt")["pixel_values"]
    assert torch.equal(answers(loaded, values).logits, answers(with_layer, values).logits)
    assert loaded.calibration_scores.shape[1] == 8


def test_described_renamed_and_merged_classes(with_layer, processor):
    values = processor(Patches(1)[0][0], return_tensors="pt")["pixel_values"]
    before = answers(with_layer, values)
    with_layer.set_property_space(make_space().add_classes({"orange": ["bright", "reddish"]}))
    grown = answers(with_layer, values)
    assert torch.equal(grown.logits[:, :4], before.logits)
    assert with_layer.config.class_offsets[:4] == [0.0] * 4 and with_layer.config.class_offsets[4] != 0
    with_layer.set_property_space(make_space().rename_classes({"red": "crimson"}))
    assert torch.allclose(answers(with_layer, values).logits, before.logits, atol=1e-6)
    merged = make_space().merge_classes({"warm color": ["red", "yellow"]})
    with_layer.set_property_space(merged)
    assert with_layer.config.class_sources[0] == [0, 3]
    assert answers(with_layer, values).unspoken_logits.shape[1] == 3
    with_layer.set_property_space(make_space().remove_classes("red"))
    assert answers(with_layer, values).logits.shape[1] == 3


def test_a_described_class_by_words_alone(with_layer, processor, tmp_path):
    image = Patches(1)[0][0]
    values = processor(image, return_tensors="pt")["pixel_values"]
    with_layer.set_property_space(make_space().add_classes({"orange": ["bright", "reddish"]}))
    assert with_layer.config.described_by_words
    with_layer.config.described_by_words = False
    with_layer.set_claim_budget(0.01)
    usual = answers(with_layer, values)
    with_layer.config.described_by_words = True
    with_layer.set_claim_budget(0.01)
    found = answers(with_layer, values)
    assert torch.equal(found.logits[:, :4], usual.logits[:, :4])
    scores = with_layer.property_scores(found.property_logits)
    row = with_layer.class_property_matrix[4]
    cosine = torch.cosine_similarity(scores, row[None, :, None, None], dim=1)
    assert torch.allclose(found.logits[:, 4] - with_layer.config.class_offsets[4], cosine, atol=1e-6)
    assert with_layer.config.class_offsets[4] != pytest.approx(0)
    for quantity in ("score", "probability"):
        told = explain(with_layer, processor, image, point=(5, 5), class_name="orange", quantity=quantity)
        assert sum(dict(told.contributions).values()) == pytest.approx(told.score, abs=1e-5)
        assert abs(told.residual) < 1e-5
        assert quantity == "probability" or told.unspoken == 0
    region = torch.zeros(64, 64, dtype=torch.bool)
    region[10:30, 20:50] = True
    told = explain(with_layer, processor, image, region=region, class_name="red", quantity="probability")
    assert sum(dict(told.contributions).values()) == pytest.approx(told.score, abs=1e-5)
    with_layer.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert torch.equal(answers(loaded, values).logits, found.logits)


def test_a_rare_class_is_looked_for(monkeypatch):
    monkeypatch.setattr("prolab_hf.solving.refinement.MOST_IMAGES", 5)
    rare = RareYellow(24, place=13)
    model = solve_patches(dataset=rare, unspoken_layer=True)
    assert model.config.trained_classes == NAMES
    assert (model.decode_head.classifier.weight[4:].abs().amax(dim=(1, 2, 3)) > 0).all()
    monkeypatch.setattr("prolab_hf.solving.refinement.MOST_OTHERS", 0)
    model = solve_patches(dataset=rare, unspoken_layer=True)
    assert model.decode_head.classifier.weight[7].abs().max() == 0


def test_few_more_images_leave_the_layer_as_it_is(with_layer, processor):
    values = processor(Patches(1)[0][0], return_tensors="pt")["pixel_values"]
    before, weight = answers(with_layer, values), with_layer.config.unspoken_weight
    add_images(with_layer, Patches(2, start=50), processor)
    after = answers(with_layer, values)
    assert torch.allclose(after.unspoken_logits, before.unspoken_logits, atol=1e-5)
    assert with_layer.config.unspoken_weight == weight and with_layer.config.solution["num_images"] == 12
    assert with_layer.config.solution["unspoken_layer"]["sharpness"] > 0
    assert with_layer.calibration_scores.shape[1] == 8


def test_a_class_that_more_images_do_not_show_keeps_its_part(with_layer, processor):
    before = with_layer.decode_head.classifier.weight.clone()
    add_images(with_layer, Patches(6, start=50, classes=(0, 1, 2)), processor)
    after = with_layer.decode_head.classifier.weight
    assert torch.equal(after[7], before[7]) and after[7].abs().max() > 0
    assert not torch.allclose(after[4:7], before[4:7])
    ids = np.concatenate([np.asarray(mask) for _, mask in Patches(4, start=90)])
    found = np.concatenate(
        [segment(with_layer, processor, image).labels for image, _ in Patches(4, start=90)]
    )
    assert (found[ids == 3] == 3).mean() > 0.5  # 0.04 with a row of zeros


def test_it_is_the_finish_of_a_training_and_not_its_start(with_layer, processor):
    again = solve_last_layer(with_layer, Patches(), processor, unspoken_layer=True)
    assert again.decode_head.classifier.out_channels == 8
    plain = in_closed_form(with_layer)
    assert not plain.config.unspoken_responses and plain.decode_head.classifier.out_channels == 4
    start_at_solution(plain, Patches(), processor)
    assert plain.decode_head.classifier.out_channels == 4


def test_only_a_solved_model_has_responses():
    with pytest.raises(StrictDataclassClassValidationError, match="unspoken_responses needs"):
        ProLabConfig(**make_space().to_config_kwargs(), unspoken_responses=True)


def test_too_few_images_leave_the_solution_as_it_is():
    model = solve_patches(dataset=Patches(3), unspoken_layer=True)
    assert not model.config.unspoken_responses and model.decode_head.classifier.out_channels == 4
