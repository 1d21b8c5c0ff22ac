import copy

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from prolab_hf import SpaceEditor, explain, segment
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_CLASSES
from prolab_hf.editing.edits import AddClass, RenameClass, SetClaimBudget
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.evaluation.inference import prepare
from prolab_hf.model.closed_form_prolab import dequantized
from prolab_hf.solving.claim_budget import ClaimPreview, preview_claims

from .conftest import KIOSK, word_vectors

EDITS = {
    "add_class": lambda editor: editor.add_class("kiosk", KIOSK),
    "add_class_by_ticks": lambda editor: editor.add_class("hut", properties=[0, "brown color of wood"]),
    "describe_class": lambda editor: editor.describe_class(
        "rug", ["gray color", "box shape with straight vertical sides"]
    ),
    "tick": lambda editor: editor.tick("sky", "brown color of wood"),
    "untick": lambda editor: editor.untick("sky", "blue color"),
    "set_row": lambda editor: editor.set_row("car", ["blue color", "stands upright on the ground"]),
    "rename_class": lambda editor: editor.rename_class("sky", "heaven"),
    "merge_classes": lambda editor: editor.merge_classes("ground", ["road", "floor"]),
    "remove_classes": lambda editor: editor.remove_classes(["rug", "curtain"]),
    "restrict": lambda editor: editor.restrict(["tree", "sky", "road"]),
    "add_property": lambda editor: editor.add_property("zebra stripes", ["road", "rug"]),
    "merge_properties": lambda editor: editor.merge_properties("colored", ["blue color", "green color"]),
    "rename_property": lambda editor: editor.rename_property("blue color", "azure"),
    "remove_properties": lambda editor: editor.remove_properties(["blue color"]),
    "set_claim_budget": lambda editor: editor.set_claim_budget(0.05),
}


def answers(editor):
    """Everything that an answer is made of, to be compared bit by bit."""
    model = editor.model
    with torch.no_grad():
        output = model(editor.images["scene 0"].pixel_values)
    state = {name: value.clone() for name, value in model.named_buffers()}
    return output.logits.clone(), output.property_logits.clone(), state, copy.deepcopy(model.config.to_dict())


def assert_same(first, second):
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert first[2].keys() == second[2].keys()
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])
    assert first[3] == second[3]


class Counted:
    """Counts the passes of a backbone."""

    def __init__(self, model, monkeypatch):
        self.passes = 0
        forward = type(model.backbone).forward_with_filtered_kwargs

        def counting(*args, **kwargs):
            self.passes += 1
            return forward(*args, **kwargs)

        monkeypatch.setattr(type(model.backbone), "forward_with_filtered_kwargs", counting)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_shows_what_the_model_would_say_and_is_undone_to_the_last_bit(
    name, either, make_editor, processor, scenes
):
    untouched = copy.deepcopy(either.config.to_dict())
    editor = make_editor(either)
    before = answers(editor)
    labels = editor.segment("scene 0").labels.clone()
    effect = EDITS[name](editor)
    after = answers(editor)
    # The cached answer is the network's own, and a model that is given these words by hand says the same.
    assert torch.equal(
        editor.segment("scene 0").labels, segment(editor.to_model(), processor, scenes[0].image).labels
    )
    assert effect.fingerprint == editor.space.fingerprint == editor.to_model().property_space.fingerprint
    by_hand = copy.deepcopy(either)
    by_hand.set_property_space(editor.space, claim_budget=editor.claim_budget)
    shown = segment(by_hand, processor, scenes[0].image).labels
    if by_hand.config.class_sources == editor.model.config.class_sources and name != "add_property":
        assert (shown == editor.segment("scene 0").labels).float().mean() > 0.999
    assert editor.can_undo and not editor.can_redo and len(editor.history) == 1
    assert editor.undo() is effect
    assert_same(answers(editor), before)
    assert torch.equal(editor.segment("scene 0").labels, labels)
    assert editor.redo() is effect
    assert_same(answers(editor), after)
    assert either.config.to_dict() == untouched, "the model that was given is edited by nobody"


def test_an_edit_asks_the_network_nothing(either, make_editor, monkeypatch):
    editor = make_editor(either)
    counted = Counted(either, monkeypatch)
    for name in editor.images.names:
        editor.segment(name)
    seen = counted.passes
    assert seen == 2
    for edit in EDITS.values():
        effect = edit(editor)
        for name in editor.images.names:
            editor.segment(name)
            editor.image_change(effect, name)
        explain(editor.model, editor.processor, editor.images["scene 0"].image, point=(5, 5))
        editor.undo()
    assert counted.passes == seen


def test_a_preview_changes_nothing(solved, make_editor):
    editor = make_editor(solved)
    before = answers(editor)
    effect = editor.preview(AddClass("kiosk", tuple(KIOSK)))
    assert_same(answers(editor), before)
    assert editor.history == [] and "kiosk" not in editor.space.class_names
    applied = editor.add_class("kiosk", KIOSK)
    skipped = {"seconds"}
    assert {k: v for k, v in effect.to_dict().items() if k not in skipped} == {
        k: v for k, v in applied.to_dict().items() if k not in skipped
    }


def test_iou_before_and_after_is_counted_by_hand(solved, make_editor):
    editor = make_editor(solved)
    before = editor.model.sample_predictions().clone()
    truth = editor.model.sample_labels()
    effect = editor.add_class("kiosk", KIOSK)
    after = editor.model.sample_predictions()
    assert effect.sample.num_pixels == len(truth) > 500
    for index, change in enumerate(effect.sample.classes[:-1]):
        for predicted, iou in ((before, change.before), (after, change.after)):
            hit, either_one = (
                ((predicted == index) & (truth == index)).sum(), ((predicted == index) | (truth == index)).sum()
            )  # fmt: skip
            expected = float(hit / either_one) if (truth == index).any() else None
            assert iou == (None if expected is None else pytest.approx(expected))
    new = effect.sample.classes[-1]
    assert (new.name, new.before, new.after, new.num_pixels, new.is_described) == (
        "kiosk",
        None,
        None,
        0,
        True,
    )
    moved = {(move.source, move.target): move.num_pixels for move in effect.sample.moves}
    names = editor.space.class_names
    for source in range(len(SCENE_CLASSES)):
        count = int(((before == source) & (after == len(SCENE_CLASSES))).sum())
        assert moved.get((names[source], "kiosk"), 0) == count
    # The budget is a promise about all known pixels together.
    assert 0 < sum(number for (_, target), number in moved.items() if target == "kiosk") <= 0.01 * len(truth)


def test_a_merged_class_is_compared_with_its_parts_taken_together(solved, make_editor):
    editor = make_editor(solved)
    names = editor.space.class_names
    before, truth = editor.model.sample_predictions().clone(), editor.model.sample_labels()
    parts = torch.tensor([names.index("road"), names.index("floor")])
    effect = editor.merge_classes("ground", ["road", "floor"])
    change = next(each for each in effect.sample.classes if each.name == "ground")
    predicted, true = torch.isin(before, parts), torch.isin(truth, parts)
    assert change.formerly == ("road", "floor") and not change.is_described
    assert change.before == pytest.approx(float((predicted & true).sum() / (predicted | true).sum()))
    assert change.num_pixels == int(true.sum())
    assert not any(move.source in ("road", "floor") for move in effect.sample.moves)
    # What was learned of both belongs to the merged class, also where only one of them has words.
    label = editor.space.class_names.index("ground")
    assert sorted(editor.model.config.class_sources[label]) == sorted(parts.tolist())


def test_classes_without_words_keep_what_was_learned_when_merged(solved, make_editor):
    bare = solved.property_space.replace(descriptions=None, assignments=None)
    model = copy.deepcopy(solved)
    model.set_property_space(bare)
    editor = make_editor(model)
    editor.rename_class("road", "street")
    editor.describe_class("street", properties=["brown color of wood", "at the bottom of the picture"])
    editor.merge_classes("ground", ["street", "floor"])
    sources = editor.model.config.class_sources[editor.space.class_names.index("ground")]
    assert len(sources) == 2 and not any(
        each.is_described for each in editor.history[-1].sample.classes if each.name == "ground"
    )


def test_a_removed_class_is_gone_and_comes_back_by_its_name(solved, make_editor):
    editor = make_editor(solved)
    words = editor.space.descriptions["sky"]
    effect = editor.remove_classes(["sky"])
    gone = next(each for each in effect.sample.classes if each.name == "sky")
    assert gone.after is None and gone.before is not None
    assert any(move.source == "sky" for move in effect.sample.moves)
    again = editor.add_class("sky", words)
    assert not next(each for each in again.sample.classes if each.name == "sky").is_described


def test_images_show_where_pixels_went_and_how_well_that_is(solved, make_editor, scenes):
    editor = make_editor(solved)
    effect = editor.add_class("kiosk", KIOSK, properties=[])
    editor.set_claim_budget(0.03)
    change = editor.image_change(editor.history[-1], "scene 1")
    assert change.before.labels.shape == scenes[1].mask.shape
    assert change.measured.share_moved == pytest.approx(
        float((change.before.labels != change.after.labels).float().mean())
    )
    first = editor.image_change(effect, "scene 1")
    kiosk = next(each for each in first.measured.classes if each.name == "kiosk")
    mask = torch.from_numpy(scenes[1].mask.astype(np.int64))
    held_out = len(SCENE_CLASSES)
    predicted = first.after.labels == held_out
    true = mask == held_out
    assert kiosk.num_pixels == int(true.sum()) > 1000 and kiosk.before is None
    assert kiosk.after == pytest.approx(float((predicted & true).sum() / (predicted | true).sum()))


def test_a_mask_follows_renamed_and_merged_classes(solved, make_editor):
    editor = make_editor(solved)
    editor.rename_class("sky", "heaven")
    effect = editor.merge_classes("above", ["heaven", "tree"])
    measured = editor.image_change(effect, "scene 1").measured
    above = next(each for each in measured.classes if each.name == "above")
    ids = [SCENE_CLASSES.index("sky"), SCENE_CLASSES.index("tree")]
    assert above.num_pixels == int(np.isin(editor.images["scene 1"].mask, ids).sum())
    assert above.before is not None


def test_claims_are_those_of_preview_claims(solved, make_editor):
    editor = make_editor(solved)
    effect = editor.add_class("kiosk", KIOSK)
    (claim,) = preview_claims(editor.to_model(), claim_budget=0.01)
    assert effect.claims[0].takes_from == claim.takes_from
    assert effect.claims[0].typical_lead == pytest.approx(claim.typical_lead, abs=1e-6)


def test_a_class_that_is_not_told_apart_comes_with_next_steps(solved, make_editor, monkeypatch):
    hidden = ClaimPreview("kiosk", -0.1, [], "cabinet", -0.01)
    monkeypatch.setattr("prolab_hf.editing.transitions.preview_claims", lambda model, claim_budget: [hidden])
    effect = make_editor(solved).add_class("kiosk", KIOSK)
    (note,) = effect.notes
    assert "'kiosk' is not told apart from 'cabinet'" in note and "'stands upright on the ground'" in note
    assert (
        "check that it really lacks" in note
        and "'brown color of wood'" in note
        and "larger claim budget" in note
    )
    assert "cannot be told apart" in effect.to_text()


def test_sentences_that_fit_nothing_are_left_out_and_named(solved, make_editor):
    editor = make_editor(solved)
    effect = editor.add_class("kiosk", [*KIOSK, "quantum flux"])
    assert any("quantum flux" in note for note in effect.notes)
    assert "quantum flux" not in editor.space.descriptions["kiosk"]
    assert [item.fits for item in effect.placements].count(False) == 1


def test_describing_in_sentences_is_what_the_space_does_itself(solved, make_editor):
    editor = make_editor(solved)
    editor.add_class("kiosk", KIOSK)
    expected = editor.base_space.add_classes({"kiosk": KIOSK}, encoder=word_vectors)
    assert editor.space.class_properties[-1] == expected.class_properties[-1]
    assert editor.space.assignments["kiosk"] == expected.assignments["kiosk"]


def test_words_follow_ticks(solved, make_editor):
    editor = make_editor(solved)
    editor.tick("sky", "brown color of wood")
    assert "brown color of wood" in editor.space.descriptions["sky"]
    editor.untick("sky", "brown color of wood")
    assert editor.space.descriptions["sky"] == editor.base_space.descriptions["sky"]
    assert editor.space.class_properties == editor.base_space.class_properties


def test_phrases_are_split_off_a_property(either, make_editor):
    editor = make_editor(either)
    editor.merge_properties("colored", ["blue color", "green color"])
    space = editor.space
    column = space.property_names.index("colored")
    phrases = list(space.phrases_by_property[column])
    assert {"blue color", "green color"} <= set(phrases)
    users = space.phrases_by_property[column]["green color"]
    effect = editor.split_property("colored", ["green color"])
    assert effect.edit.name == "green color"
    new = editor.space.property_names.index("green color")
    with_new = [
        name for name, row in zip(editor.space.class_names, editor.space.class_properties) if new in row
    ]
    assert with_new == [name for name in editor.space.class_names if name in users]
    assert editor.space.class_property_matrix[:, column].sum() < space.class_property_matrix[:, column].sum()
    expected = word_vectors(["green color"])[0]
    expected = torch.from_numpy(expected / np.linalg.norm(expected)).float()
    assert torch.allclose(editor.space.property_embeddings[new], expected, atol=1e-6)


def test_without_an_encoder_a_solved_model_can_be_split_and_a_trained_one_cannot(
    solved, trained, make_editor
):
    for model in (solved, trained):
        editor = make_editor(model, encoder=None)
        assert not editor.encoder.available
        editor.merge_properties("colored", ["blue color", "green color"])
        if model is solved:
            editor.split_property("colored", ["green color"])
        else:
            with pytest.raises(ValueError, match="text encoder that the space was built with"):
                editor.split_property("colored", ["green color"])


def test_a_trained_model_keeps_its_sample_through_a_merge(trained, make_editor, processor):
    editor = make_editor(trained)
    editor.merge_properties("colored", ["blue color", "green color"])
    assert editor.has_calibration_sample
    column = editor.space.property_names.index("colored")
    old = [editor.base_space.property_names.index(name) for name in ("blue color", "green color")]
    # The carried column against the same pixels scored by the network itself: rounding of 8 bits, no more.
    with torch.no_grad():
        values = trained.calibration_scores.float() / 255
        logits = torch.logit(values[:, old].clamp(0.5 / 255, 1 - 0.5 / 255))
        length = editor.base_space.property_embeddings[old].sum(dim=0).norm()
        expected = torch.sigmoid(logits.sum(dim=1) / length)
    carried = editor.model.calibration_scores[:, column].float() / 255
    assert (carried - expected).abs().max() <= 0.5 / 255 + 1e-6
    output = editor.model(editor.images["scene 0"].pixel_values)
    parts = trained(editor.images["scene 0"].pixel_values).property_logits[:, old].sum(dim=1) / length
    assert torch.allclose(output.property_logits[:, column], parts, atol=1e-4)


def test_a_new_property_of_a_trained_model_is_calibrated_on_the_sessions_images(trained, make_editor):
    editor = make_editor(trained)
    effect = editor.add_property("zebra stripes", ["road"])
    assert editor.has_calibration_sample and any("2 images of the session" in note for note in effect.notes)
    bare = make_editor(trained, masks=False)
    effect = bare.add_property("zebra stripes", ["road"])
    assert not bare.has_calibration_sample and effect.sample.num_pixels == 0
    assert any("was removed" in note for note in effect.notes)
    bare.undo()
    assert bare.has_calibration_sample


def test_a_model_without_a_sample_says_what_it_cannot_show(solved, make_editor):
    model = copy.deepcopy(solved)
    model.set_calibration_sample(None, None)
    editor = make_editor(model)
    effect = editor.add_class("kiosk", KIOSK)
    assert effect.sample.mean_iou is None and effect.claims == ()
    assert any("no calibration sample" in note and "calibrate" in note for note in effect.notes)
    assert editor.image_change(effect, "scene 0").measured.num_pixels > 0


def test_an_edited_model_is_saved_and_loads_through_the_auto_classes(
    either, make_editor, processor, tmp_path, scenes
):
    editor = make_editor(either)
    editor.add_class("kiosk", KIOSK)
    editor.rename_class("sky", "heaven")
    editor.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path).eval()
    assert type(loaded).__name__ == "ProLabForSemanticSegmentation"
    found = segment(loaded, AutoImageProcessor.from_pretrained(tmp_path), scenes[0].image)
    assert torch.equal(found.labels, editor.segment("scene 0").labels)
    assert found.class_names == editor.space.class_names and "heaven" in found.class_names
    assert loaded.config.architectures == ["ProLabForSemanticSegmentation"]
    # The edited model is an ordinary one for everything else.
    assert evaluate(editor.model, processor, [(scenes[0].image, scenes[0].mask)])["mean_iou"] >= 0


def test_what_was_previewed_is_not_solved_again(solved, make_editor, scenes):
    editor = make_editor(solved)
    edits = SetClaimBudget(0.05), AddClass("kiosk", tuple(KIOSK))
    seen = editor.preview(*edits)
    editor.apply(edits[0])
    assert editor.apply(edits[1]) is seen
    editor.undo()
    assert editor.apply(AddClass("kiosk", tuple(KIOSK[:2]))) is not seen, "other words"
    editor.undo()
    editor.add_image(scenes[1].image, name="one more")
    again = editor.apply(edits[1])
    assert again is not seen and again.to_dict()["sample"] == seen.to_dict()["sample"]


def test_the_cache_gives_what_an_ordinary_model_says(solved, make_editor, processor, scenes):
    """Properties that an edit did not touch are not computed again, whatever place they have now."""
    editor = make_editor(solved)
    pixels = prepare(processor, scenes[0].image)
    with torch.inference_mode():
        editor.model(pixels)
        for edit in (
            lambda: editor.tick("sky", "brown color of wood"),
            lambda: editor.remove_classes(["road"]),
            lambda: editor.merge_properties("colored", ["blue color", "green color"]),
            lambda: editor.add_class("kiosk", KIOSK),
            lambda: editor.merge_classes("both", ["wall", "floor"]),
            lambda: editor.undo(),
        ):
            edit()
            found, plain = editor.model(pixels), editor.to_model()(pixels)
            for name in ("logits", "property_logits", "unspoken_logits"):
                torch.testing.assert_close(found[name], plain[name], atol=1e-5, rtol=1e-5)
            share = editor.model.spoken_share(found.property_logits, found.unspoken_logits)
            known = editor.model.spoken_share(found.property_logits, found.unspoken_logits, found.logits)
            assert torch.equal(share, known)
            scores = editor.model.sample_class_scores()
            torch.testing.assert_close(scores, plain_sample_scores(editor.to_model()), atol=1e-5, rtol=1e-5)


def plain_sample_scores(model):
    values = dequantized(model.calibration_scores).t()[None, :, :, None]
    return model.similarity_of_scores(model._scores(*model._logits_of_responses(values)))[0, :, :, 0].t()


def test_old_edits_are_forgotten_but_stay_in_the_patch(solved, make_editor):
    editor = make_editor(solved, max_history=2)
    for number in range(4):
        editor.rename_class("sky" if number == 0 else f"sky {number - 1}", f"sky {number}")
    assert len(editor.history) == 2 and len(editor.patch().edits) == 4
    editor.undo(), editor.undo()
    assert "sky 1" in editor.space.class_names
    with pytest.raises(ValueError, match="nothing to undo"):
        editor.undo()


def test_what_the_network_said_is_kept_within_bounds(solved, make_editor):
    editor = make_editor(solved, max_cached_bytes=0)
    editor.segment("scene 0"), editor.segment("scene 1")
    assert len(editor.model.cache._answers) == 1
    with pytest.raises(ValueError, match="max_cached_bytes is -1"):
        make_editor(solved, max_cached_bytes=-1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda editor: editor.tick("skyy", "blue color"), "Unknown class 'skyy'.*[Dd]id you mean 'sky'"),
        (lambda editor: editor.tick("sky", "blue colour"), "Unknown property.*[Dd]id you mean 'blue color'"),
        (lambda editor: editor.tick("sky", "blue color"), "'sky' has the property 'blue color' already"),
        (lambda editor: editor.untick("sky", "green color"), "'sky' does not have the property 'green color'"),
        (lambda editor: editor.set_row("sky", []), "needs at least one property"),
        (lambda editor: editor.add_class("sky", KIOSK), "'sky' exists already"),
        (lambda editor: editor.add_class("new"), "Describe the class 'new' in sentences"),
        (lambda editor: editor.add_class("new", ["quantum flux"]), "No sentence of 'new' fits"),
        (lambda editor: editor.add_class(" ", properties=[0]), "must have 1 to"),
        (lambda editor: editor.add_class("new", properties=[999]), "Property index 999"),
        (lambda editor: editor.describe_class("nobody", KIOSK), "Unknown class 'nobody'"),
        (lambda editor: editor.set_row("car", editor.space.class_properties[0]), "would have the same properties"),
        (lambda editor: editor.rename_class("sky", "water"), "There is a class 'water' already"),
        (lambda editor: editor.merge_classes("a", ["sky"]), "at least two classes"),
        (lambda editor: editor.merge_classes("a", ["sky", "seaa"]), "Unknown class 'seaa'"),
        (lambda editor: editor.merge_properties("a", ["blue color"]), "at least two properties"),
        (lambda editor: editor.merge_properties("gray color", [0, 1]), "There is a property 'gray color' already"),
        (lambda editor: editor.rename_property("blue color", "gray color"), "There is a property 'gray color' already"),
        (lambda editor: editor.split_property("blue color", ["red"]), "nothing to split|is no phrase of"),
        (lambda editor: editor.split_property("blue color", []), "Name the phrases"),
        (lambda editor: editor.remove_classes("sky"), "list of names"),
        (lambda editor: editor.restrict([]), "at least one class"),
        (lambda editor: editor.add_property("blue color", ["car"]), "has 'blue color' already"),
        (lambda editor: editor.set_claim_budget(2), "claim budget is 2"),
        (lambda editor: editor.apply(SetClaimBudget(-1.0)), "claim budget is -1"),
        (lambda editor: editor.redo(), "nothing to redo"),
    ],
)  # fmt: skip
def test_bad_edits_are_refused_in_one_sentence_and_change_nothing(edit, message, solved, make_editor):
    editor = make_editor(solved)
    with pytest.raises(ValueError, match=message):
        edit(editor)
    assert editor.history == [] and editor.space.fingerprint == editor.base_space.fingerprint


def test_a_new_sentence_needs_the_encoder_and_a_known_one_does_not(solved, make_editor):
    editor = make_editor(solved, encoder=None)
    with pytest.raises(ValueError, match=r"'a thing' is new to the space.*not on this machine"):
        editor.add_class("thing", ["a thing"])
    editor.add_class("thing", ["blue color", "brown color of wood"])
    with pytest.raises(ValueError, match="'zebra stripes' is new to the space"):
        editor.add_property("zebra stripes", ["road"])


def test_bad_images_and_models_are_refused(solved, processor, scenes):
    image, mask = scenes[0].image, scenes[0].mask
    with pytest.raises(ValueError, match="has no properties to edit"):
        SpaceEditor(torch.nn.Linear(1, 1), processor)
    with pytest.raises(ValueError, match="no image processor"):
        SpaceEditor(solved, images=[image])
    with pytest.raises(ValueError, match="2 images and 1 masks"):
        SpaceEditor(solved, processor, images=[image, image], masks=[None])
    with pytest.raises(ValueError, match="no image of that name"):
        SpaceEditor(solved, processor, images={"a": image}, masks={"b": mask})
    with pytest.raises(ValueError, match="got one image"):
        SpaceEditor(solved, processor, images=image)
    editor = SpaceEditor(solved, processor, images=[image])
    assert editor.images.names == ["image 1"]
    with pytest.raises(ValueError, match=r"shape \(3, 3\)"):
        editor.add_image(image, name="x", mask=np.zeros((3, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="holds 77; allowed are 0 to"):
        editor.add_image(image, name="x", mask=np.full(mask.shape, 77))
    with pytest.raises(ValueError, match="'image 1' already"):
        editor.add_image(image, name="image 1")
    with pytest.raises(KeyError, match="no image 'b'"):
        editor.segment("b")
    editor.remove_image("image 1")
    assert editor.images.names == []
    with pytest.raises(ValueError, match="no image processor"):
        SpaceEditor(solved).save_pretrained("nowhere")


def test_renaming_back_gives_the_same_words(solved, make_editor):
    editor = make_editor(solved)
    editor.apply(RenameClass("sky", "heaven"))
    editor.apply(RenameClass("heaven", "sky"))
    assert editor.space.fingerprint == editor.base_space.fingerprint
    assert HELD_OUT_CLASS not in editor.space.class_names
