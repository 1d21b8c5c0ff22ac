import copy

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation

from prolab_hf import segment
from prolab_hf.evaluation.evaluate import evaluate_model
from prolab_hf.model.closed_form_prolab import (
    claim_offsets,
    dequantized,
    is_trained,
    matched_sources,
    quantized,
)
from prolab_hf.model.closed_form_prolab import described as words_of
from prolab_hf.solving.claim_budget import calibrate, preview_claims

from .conftest import NAMES, Patches, make_space, solve_patches
from .test_solve import outputs, trained_model

ORANGE = {"orange": ["bright", "reddish"]}


def test_an_offset_is_the_largest_that_the_budget_allows():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(1000, 4, generator=generator)
    trained = torch.tensor([True, True, False, False])
    for budget in (0.0, 0.01, 0.1):
        offsets = torch.tensor(claim_offsets(scores, trained, budget))
        assert torch.equal(offsets[:2], torch.zeros(2))
        for described in (2, 3):
            best = scores[:, trained].amax(dim=1)
            taken = (scores[:, described] + offsets[described] > best).float().mean()
            more = (scores[:, described] + offsets[described] + 3e-6 > best).float().mean()
            assert taken <= budget < more + 1e-6
    with pytest.raises(ValueError, match="claim_budget is 1"):
        claim_offsets(scores, trained, 1)


def test_integers_of_the_sample_are_exact_enough():
    scores, responses = torch.rand(100, 5), torch.randn(100, 5) * 2
    assert (dequantized(quantized(scores, is_score=True)) - scores).abs().max() <= 0.5 / 255 + 1e-6
    assert (dequantized(quantized(responses, is_score=False)) - responses).abs().max() <= 0.5 / 4096 + 1e-6
    assert quantized(scores, is_score=True).dtype == torch.uint8


def test_a_described_class_keeps_to_its_budget(solved):
    solved.set_property_space(make_space().add_classes(ORANGE), claim_budget=0.02)
    scores, labels = solved.calibration_class_scores()
    with_offsets = scores + torch.tensor(solved.config.class_offsets)
    share = (with_offsets.argmax(1) == 4).float().mean()
    assert 0 < share <= 0.02 and set(labels.tolist()) <= {0, 1, 2, 3}
    assert solved.config.claim_budget == 0.02


def test_without_a_budget_nothing_is_added(solved):
    space = make_space().add_classes(ORANGE)
    solved.set_property_space(space, claim_budget=None)
    plain = outputs(solved)
    assert solved.config.class_offsets is None
    expected = solved.similarity_of_scores(solved._scores(plain.property_logits, plain.unspoken_logits))
    assert torch.equal(plain.logits, expected)
    solved.set_property_space(space)
    offsets = torch.tensor(solved.config.class_offsets)[:, None, None]
    assert torch.equal(outputs(solved).logits, plain.logits + offsets)
    with pytest.raises(ValueError, match=r"claim_budget is 1\.5"):
        solved.set_property_space(space, claim_budget=1.5)


def test_offsets_travel_with_the_checkpoint(solved, tmp_path):
    solved.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    space = make_space().add_classes(ORANGE)
    for model in (solved, loaded):
        model.set_property_space(space)
    assert loaded.config.class_offsets == pytest.approx(solved.config.class_offsets, abs=1e-6)
    loaded.save_pretrained(tmp_path)
    again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert again.config.class_offsets == loaded.config.class_offsets
    assert again.calibration_scores.dtype == torch.int16


def test_offsets_of_exchanged_classes_are_dropped(solved, tmp_path):
    solved.set_property_space(make_space().add_classes(ORANGE))
    solved.save_pretrained(tmp_path)
    names = {0: "red", 1: "green"}
    changed = AutoModelForSemanticSegmentation.from_pretrained(
        tmp_path, id2label=names, label2id={"red": 0, "green": 1}, class_properties=[[0, 3], [1, 4]]
    )
    assert changed.config.class_offsets is None and outputs(changed).logits.shape[1] == 2


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
def test_any_trained_model_is_calibrated(similarity, processor, tmp_path):
    model = trained_model(decoder="segformer", similarity=similarity)
    before = outputs(model).logits
    calibrate(model, Patches(4, start=30), processor)
    assert torch.equal(outputs(model).logits, before)
    assert model.config.trained_classes == NAMES and model.config.calibration_pixels > 100
    model.set_property_space(make_space().add_classes(ORANGE))
    scores, _ = model.calibration_class_scores()
    taken = ((scores + torch.tensor(model.config.class_offsets)).argmax(1) == 4).float().mean()
    assert taken <= 0.01
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert torch.equal(outputs(loaded).logits, outputs(model).logits)
    assert torch.equal(loaded.calibration_scores, model.calibration_scores)


def test_a_model_without_a_sample_behaves_as_before():
    model = trained_model(decoder="segformer")
    model.set_property_space(make_space().add_classes(ORANGE))
    assert model.config.class_offsets is None and "calibration_scores" not in model.state_dict()


def test_a_sample_of_other_properties_is_removed(processor, caplog):
    model = trained_model(decoder="segformer")
    calibrate(model, Patches(2), processor)
    model.set_property_space(make_space(seed=1))
    assert model.calibration_scores is None and "calibration sample" in caplog.text


def test_images_without_known_classes_are_refused(processor):
    model = solve_patches(held_out=["yellow"])
    with pytest.raises(
        ValueError, match="None of the images has a labeled pixel of a class that the model was"
    ):
        calibrate(model, Patches(2, classes=[3]), processor)


def test_what_a_class_would_take_is_told_before(solved):
    before, kept = outputs(solved).logits, copy.deepcopy(solved.config.to_dict())
    (preview,) = preview_claims(solved, make_space().add_classes(ORANGE), claim_budget=0.05)
    assert torch.equal(outputs(solved).logits, before) and solved.config.to_dict() == kept
    assert preview.class_name == "orange" and preview.nearest in NAMES
    assert all(name in NAMES and 0 < share <= 1 for name, share in preview.takes_from)
    assert "orange would take pixels from" in preview.to_text()
    assert isinstance(preview.can_be_told_apart, bool)
    solved.set_calibration_sample(None, None)
    with pytest.raises(ValueError, match="no calibration sample"):
        preview_claims(solved)


def test_a_class_with_hardly_any_property_of_its_own_cannot_be_told_apart(solved):
    clear = make_space(3).replace(class_names=["red", "green", "blue"], descriptions=None)
    model = solve_patches(space=clear, dataset=Patches(classes=[0, 1, 2], class_names=NAMES[:3]))
    both = clear.replace(
        class_names=["red", "green", "blue", "copy"],
        class_property_matrix=torch.tensor(
            [[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 1, 1, 1]]
        ).float(),
    )
    (preview,) = preview_claims(model, both, claim_budget=0.0)
    assert preview.can_be_told_apart == (preview.typical_lead > 0)


def test_unknown_pixels_are_labeled(solved, processor):
    image = Patches(1)[0][0]
    result = segment(solved, processor, image, unknown=0.3)
    assert result.class_names == [*NAMES, "unknown"]
    plain = segment(solved, processor, image)
    fits = result.labels < 4
    assert torch.equal(result.labels[fits], plain.labels[fits])
    assert 0 < (~fits).float().mean() < 0.9
    assert len(segment(solved, processor, image, unknown=True, flip=True, return_scores=True).scores) == 5
    with pytest.raises(ValueError, match="calibration sample"):
        segment(trained_model(decoder="segformer"), processor, image, unknown=True)
    with pytest.raises(ValueError, match="share of unknown pixels is 2"):
        segment(solved, processor, image, unknown=2.0)


def test_evaluation_counts_what_segmentation_gives(solved, processor):
    solved.set_property_space(make_space().add_classes(ORANGE), claim_budget=0.3)
    results = evaluate_model(solved, processor, Patches(2))
    assert results["per_class"][4]["name"] == "orange"


# ---- which trained classes a new space means ---------------------------------------------------------------------


def test_names_come_first_then_words():
    rows = [[0], [1], [2]]
    old = words_of(["a", "b", "c"], rows, ["p", "q", "r"], {"a": ["x"], "b": ["y"], "c": ["z"]})
    sources = {"a": [0], "b": [1], "c": [2]}

    def match(names, rows, descriptions):
        return matched_sources(
            old, sources, words_of(names, rows, ["p", "q", "r"], descriptions), ["a", "b", "c"]
        )

    assert match(["c", "a"], [[2], [0]], {}) == [[2], [0]]
    assert match(["A", "b", "c"], rows, {"A": ["x"], "b": ["y"], "c": ["z"]}) == [[0], [1], [2]]
    assert match(["ab", "c"], [[0, 1], [2]], {"ab": ["x", "y"], "c": ["z"]}) == [[0, 1], [2]]
    assert match(["a", "b", "c", "d"], [*rows, [0, 1]], {"d": ["x", "y"]}) == [[0], [1], [2], []]
    assert match(["new", "b", "c"], rows, {"new": ["other"]}) == [[], [1], [2]]


def test_classes_without_training_are_told_from_trained_ones(solved):
    solved.set_property_space(make_space().add_classes(ORANGE).select_classes(["blue", "orange", "red"]))
    assert is_trained(solved.config).tolist() == [True, False, True]
    scores, labels = solved.calibration_class_scores()
    assert set(labels.tolist()) == {0, 2} and scores.shape[1] == 3
