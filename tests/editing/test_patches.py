import copy
import json

import pytest
import torch

from prolab_hf import SpaceEditor, apply_patch
from prolab_hf.editing.edits import EDIT_KINDS
from prolab_hf.editing.patches import SpacePatch, edit_from_dict

from .conftest import KIOSK


def edit_all(editor):
    """One edit of every kind."""
    editor.add_class("kiosk", KIOSK)
    editor.tick("kiosk", "round outline")
    editor.untick("kiosk", "round outline")
    editor.describe_class("rug", ["gray color", "pattern of stripes"])
    editor.set_row("sky", ["blue color", "at the top of the picture"])
    editor.rename_class("sky", "heaven")
    editor.merge_classes("ground", ["road", "floor"])
    editor.add_property("zebra stripes", ["ground"])
    editor.merge_properties("colored", ["blue color", "green color"])
    editor.split_property("colored", ["green color"])
    editor.rename_property("colored", "azure")
    editor.remove_properties(["zebra stripes"])
    editor.remove_classes(["curtain"])
    editor.restrict([name for name in editor.space.class_names if name != "fence"])
    editor.set_claim_budget(0.02)


@pytest.fixture
def edited(solved, make_editor):
    editor = make_editor(solved)
    edit_all(editor)
    return editor


def through_json(patch):
    return json.loads(json.dumps(patch.to_dict()))


def test_every_edit_survives_json(edited):
    patch = edited.patch()
    assert {edit.kind for edit in patch.edits} == set(EDIT_KINDS)
    for edit in patch.edits:
        again = edit_from_dict(json.loads(json.dumps(edit.to_dict())))
        assert again == edit and again.to_dict() == edit.to_dict() and again.to_text() == edit.to_text()
    content = through_json(patch)
    assert content["base"]["fingerprint"] == edited.base_space.fingerprint
    assert content["result"]["fingerprint"] == edited.space.fingerprint and content["claim_budget"] == 0.02
    assert content["edits"][0]["about"].startswith("Adds the class 'kiosk'")
    assert ["pattern of parallel stripes"] * 2 in content["edits"][0]["placed"]
    assert patch.to_text().splitlines()[-1].startswith("15. ")


def test_another_copy_gets_the_same_answers_without_an_encoder(edited, solved, tmp_path, processor):
    file, folder = tmp_path / "edits.json", tmp_path / "copy"
    edited.patch().save(file)
    solved.save_pretrained(folder)
    processor.save_pretrained(folder)
    pixel_values = edited.images["scene 0"].pixel_values
    with torch.no_grad():
        expected = edited.model(pixel_values).logits
        for target in (solved, folder, SpaceEditor(solved, encoder=None)):
            applied = apply_patch(target, file)
            assert applied.editor.space.fingerprint == edited.space.fingerprint and applied.skipped == []
            assert torch.equal(applied.editor.model(pixel_values).logits, expected)
            assert len(applied.effects) == 15 and applied.editor.claim_budget == 0.02
    applied.editor.save_pretrained(tmp_path / "edited") if applied.editor.processor else None
    assert solved.property_space.fingerprint == edited.base_space.fingerprint


def test_a_trained_copy_takes_a_patch_too(trained, make_editor):
    editor = make_editor(trained)
    editor.add_class("kiosk", KIOSK)
    editor.add_property("zebra stripes", ["road"])
    patch = through_json(editor.patch())
    applied = apply_patch(trained, patch)
    assert applied.editor.space.fingerprint == editor.space.fingerprint
    column = editor.space.property_names.index("zebra stripes")
    assert torch.equal(
        applied.editor.space.property_embeddings[column], editor.space.property_embeddings[column]
    )


def test_a_patch_for_other_words_is_refused_and_partly_applied_on_request(edited, solved):
    patch = edited.patch()
    other = copy.deepcopy(solved)
    other.set_property_space(solved.property_space.remove_classes(["curtain"]))
    editor = SpaceEditor(other)
    with pytest.raises(ValueError, match="made for the words") as error:
        apply_patch(editor, patch)
    assert patch.base_fingerprint in str(error.value) and editor.space.fingerprint in str(error.value)
    assert "exact=False" in str(error.value) and editor.history == []
    applied = apply_patch(editor, patch, exact=False)
    assert [edit.kind for edit, _ in applied.skipped] == ["remove_classes"]
    assert "Unknown class 'curtain'" in applied.skipped[0][1]
    assert len(applied.effects) == 14 and "kiosk" in applied.editor.space.class_names
    assert editor.claim_budget == 0.02


def test_a_patch_that_was_changed_by_hand_is_refused_and_leaves_nothing_behind(edited, solved):
    content = through_json(edited.patch())
    content["edits"][10]["new"] = "cyan"
    editor = SpaceEditor(solved)
    with pytest.raises(ValueError, match="changed by hand or damaged") as error:
        apply_patch(editor, content)
    assert content["result"]["fingerprint"] in str(error.value)
    assert editor.history == [] and editor.space.fingerprint == edited.base_space.fingerprint
    assert "cyan" in apply_patch(editor, content, exact=False).editor.space.property_names
    content["edits"][5]["new"] = "firmament"
    with pytest.raises(ValueError, match=r"Edit 14 \(Keeps only .*: Unknown class 'heaven'"):
        apply_patch(solved, content)


def test_the_budget_travels_even_where_no_edit_set_it(solved, make_editor):
    solved_again = copy.deepcopy(solved)
    solved_again.set_property_space(solved.property_space.add_classes({"kiosk": KIOSK}), claim_budget=0.05)
    editor = make_editor(solved_again)
    assert editor.claim_budget == 0.05
    patch = editor.patch()
    without = copy.deepcopy(solved_again)
    without.set_claim_budget(None)
    applied = apply_patch(without, patch)
    assert applied.editor.model.config.class_offsets == solved_again.config.class_offsets


BROKEN = [
    ({"kind": "recipe"}, "no patch of a property space: its kind is 'recipe'"),
    ({"format_version": 2}, "format_version 2"),
    ({"extra": 1}, "unknown field 'extra'"),
    ({"base": {}}, "lacks base.fingerprint"),
    ({"result": None}, "lacks result.fingerprint"),
    ({"edits": {}}, "edits must be a list"),
    ({"claim_budget": "x"}, "claim_budget must be a number or null"),
    ({"edits": [3]}, r"edits\[0\] must be an object"),
    ({"edits": [{"edit": "rename_clas"}]}, r"edits\[0\]: There is no edit 'rename_clas'; did you mean 'rename_class'"),
    ({"edits": [{"edit": "rename_class", "old": "a"}]}, "lacks the field 'new'"),
    ({"edits": [{"edit": "rename_class", "old": "a", "new": 3}]}, "new must be a string, got 3"),
    ({"edits": [{"edit": "rename_class", "old": "a", "new": "b", "nwe": "c"}]}, "no field 'nwe'; did you mean 'new'"),
    ({"edits": [{"edit": "remove_classes", "classes": "a"}]}, "classes must be a list"),
    ({"edits": [{"edit": "add_class", "name": "a", "placed": [["x"]]}]}, r"placed\[0\] must be a pair"),
    ({"edits": [{"edit": "set_claim_budget", "budget": True}]}, "budget must be a number"),
    ({"edits": [{"edit": "add_property", "phrase": "a", "classes": ["b"], "embedding": "!"}]}, "must be base64"),
    ({"edits": [{"edit": "add_property", "phrase": "a", "classes": ["b"], "embedding": "AADAfw=="}]}, "finite"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_broken_patches_name_the_field(change, message, solved, tmp_path):
    content = through_json(SpaceEditor(solved).patch()) | change
    with pytest.raises(ValueError, match=message):
        SpacePatch.from_dict(content)
    file = tmp_path / "edits.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"edits\.json: "):
        SpacePatch.load(file)


def test_embeddings_of_another_encoder_are_refused(solved, make_editor):
    editor = make_editor(solved)
    editor.add_property("zebra stripes", ["road"])
    content = through_json(editor.patch())
    content["edits"][0]["embedding"] = "AACAPw=="  # a single 1.0
    with pytest.raises(ValueError, match="embeddings of length 1, the space has 64"):
        apply_patch(solved, content)


def test_files_that_are_not_there(solved, tmp_path):
    with pytest.raises(FileNotFoundError):
        apply_patch(solved, tmp_path / "none.json")
    with pytest.raises(ValueError, match="has no properties to edit"):
        apply_patch(torch.nn.Linear(1, 1), SpaceEditor(solved).patch())
