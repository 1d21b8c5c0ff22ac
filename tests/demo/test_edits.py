"""Words edited on the page: what it is told, what others see of it, and what can be taken home."""

import base64
import io
import json
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from page_visitors import Visitor, as_file, labels_of
from PIL import Image

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_DESCRIPTIONS
from prolab_hf.demo import DemoModel, demo_app
from prolab_hf.demo import downloads as downloads_module
from prolab_hf.demo.model_view import MAX_ADDED, MAX_HISTORY
from prolab_hf.evaluation.inference import segment

BUS = {"edit": "add_class", "name": "bus", "properties": ["property 0", "property 3"]}


def names(visitor, model=0):
    return [one["name"] for one in visitor.ask("state")["models"][model]["classes"]]


def test_a_class_comes_and_goes_without_training(visitor, model, processor, image):
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    facts = visitor.upload(as_file(image))
    before = facts["result"]
    seen = sorted(np.argsort(-np.array(before["property_means"]))[:3].tolist())
    name = '<b onclick="x">Straße/..%2f</b>'
    edit = {
        "edit": "add_class",
        "name": f" {name} ",
        "properties": [f"property {k}" for k in [*seen, seen[0]]],
    }
    answer = visitor.edit(edit, image=facts["key"])
    added = answer["state"]["classes"][-1]
    assert (added["name"], added["properties"], added["described"]) == (name, seen, True)
    with torch.no_grad():
        output = model(**processor(images=image, return_tensors="pt"))
    scores = torch.sigmoid(output.property_logits / model.config.temperature)[0]
    row = F.one_hot(torch.tensor(seen), 8).sum(dim=0)
    similarity = F.cosine_similarity(scores, row[:, None, None].float(), dim=0)
    logits = torch.cat([output.logits[0], similarity[None]])
    expected = F.interpolate(logits[None], (97, 131), mode="bilinear")[0].argmax(dim=0)
    labels = labels_of(answer["result"], facts)
    np.testing.assert_array_equal(labels, expected.numpy())
    y, x = np.argwhere(labels == 5)[0].tolist()
    assert visitor.ask("explain", image=facts["key"], point=[x, y])["class"] == name
    back = visitor.edit({"edit": "undo"}, image=facts["key"])
    assert back["result"]["runs"] == before["runs"] and "bus" not in names(visitor)
    assert back["state"]["undone"] and not back["state"]["history"]
    again = visitor.edit({"edit": "redo"}, image=facts["key"])
    assert again["result"]["runs"] == answer["result"]["runs"]
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_words_of_classes_and_properties_are_edited(visitor):
    state = visitor.edit(
        {"edit": "rename_class", "old": "sky", "new": "air"},
        {"edit": "merge_classes", "name": "ground", "classes": ["road", "tree"]},
        {"edit": "set_row", "class_name": "car", "properties": ["property 5", "property 7", "property 6"]},
        {"edit": "remove_classes", "classes": ["person"]},
        {"edit": "rename_property", "old": "property 4", "new": "leaves"},
        {"edit": "merge_properties", "name": "both", "properties": ["property 5", "property 6"]},
    )["state"]
    rows = {one["name"]: [state["properties"][k] for k in one["properties"]] for one in state["classes"]}
    assert rows == {
        "air": ["property 0", "property 1"],
        "ground": ["property 1", "property 2", "property 3", "leaves", "both"],
        "car": ["both", "property 7"],
    }
    assert len(state["history"]) == 6
    for _ in range(6):
        state = visitor.edit({"edit": "undo"})["state"]
    assert [one["name"] for one in state["classes"]] == ["sky", "road", "tree", "car", "person"]
    status, message = visitor.refusal("edit", edits=[{"edit": "undo"}])
    assert (status, message) == (400, "There is nothing to undo.")


def test_edits_come_together_or_not_at_all(visitor):
    status, message = visitor.refusal(
        "edit", edits=[BUS, {"edit": "rename_class", "old": "cow", "new": "calf"}]
    )
    assert status == 400 and "'cow'" in message
    assert names(visitor) == ["sky", "road", "tree", "car", "person"]
    assert visitor.ask("state")["models"][0]["history"] == []


def test_too_many_edits_at_once_are_refused(visitor):
    for path in ("edit", "preview"):
        for number in (0, 51):
            status, message = visitor.refusal(path, edits=[BUS] * number)
            assert status == 400 and f"There are {number} edits" in message


def test_a_preview_changes_nothing_and_shows_the_image_as_it_would_be(visitor, image):
    facts = visitor.upload(as_file(image))
    before = visitor.ask("state")
    preview = visitor.ask("preview", edits=[BUS], image=facts["key"])
    assert visitor.ask("state") == before
    answer = visitor.edit(BUS, image=facts["key"])
    assert preview["shown"]["runs"] == answer["result"]["runs"]
    assert preview["shown"]["shares"] == answer["result"]["shares"]
    shown = [(one["name"], one["color"]) for one in preview["shown"]["classes"]]
    assert shown == [(one["name"], one["color"]) for one in answer["state"]["classes"]]


def test_a_preview_says_whom_the_class_takes_pixels_from(solved, scenes_processor):
    known = solved.property_space.remove_classes([HELD_OUT_CLASS])
    visitor = Visitor(demo_app([DemoModel(solved, scenes_processor)]))
    visitor.edit({"edit": "remove_classes", "classes": [HELD_OUT_CLASS]})
    suggestion = visitor.ask("state")["models"][0]["suggestion"]
    assert suggestion["name"] == HELD_OUT_CLASS and len(suggestion["properties"]) == 7
    edit = {"edit": "add_class", "name": HELD_OUT_CLASS, "sentences": SCENE_DESCRIPTIONS[HELD_OUT_CLASS]}
    taken = []
    for budget in (0.001, 0.05):
        preview = visitor.ask("preview", edits=[{"edit": "set_claim_budget", "budget": budget}, edit])
        claim = next(one for one in preview["claims"] if one["class"] == HELD_OUT_CLASS)
        assert {one["class"] for one in claim["takes_from"]} <= set(known.class_names)
        taken.append(sum(one["share"] for one in claim["takes_from"]))
        assert [one["sureness"] for one in preview["placements"]] == ["known"] * len(preview["placements"])
    assert taken[0] < taken[1], "a larger budget takes more"
    assert visitor.ask("state")["models"][0]["suggestion"] is not None


def encoder_of(model):
    def encode(texts):
        vectors = {"like two": model.property_embeddings[2], "like six": model.property_embeddings[6]}
        far = torch.linalg.svd(model.property_embeddings)[2][-1]  # across all properties
        return torch.stack([vectors.get(text, far) for text in texts])

    return encode


def test_sentences_go_to_the_nearest_property_and_say_how_sure_that_is(model, processor):
    visitor = Visitor(demo_app([DemoModel(model, processor, encoder=encoder_of(model))]))
    assert visitor.ask("state")["models"][0]["encoder"]["available"]
    words = ["Like six", "like TWO ", "elsewhere"]
    preview = visitor.ask("preview", edits=[{"edit": "add_class", "name": "bus", "sentences": words}])
    found = {one["sentence"]: (one["property"], one["used"]) for one in preview["placements"]}
    assert found["Like six"] == ("property 6", True) and found["like TWO"] == ("property 2", True)
    assert not found["elsewhere"][1]
    answer = visitor.edit(
        {"edit": "add_class", "name": "bus", "sentences": words[:2]},
        {"edit": "add_property", "phrase": "elsewhere", "classes": ["bus"]},
    )
    assert answer["state"]["properties"][-1] == "elsewhere"
    assert answer["state"]["classes"][-1]["properties"] == [2, 6, 8]


def test_without_an_encoder_known_words_still_work(visitor):
    assert not visitor.ask("state")["models"][0]["encoder"]["available"]
    words = ["Property 1", "property 7"]
    state = visitor.edit({"edit": "add_class", "name": "bus", "sentences": words})["state"]
    assert state["classes"][-1]["properties"] == [1, 7]
    status, message = visitor.refusal(
        "edit", edits=[{"edit": "add_class", "name": "van", "sentences": ["something else"]}]
    )
    assert status == 400 and "new to the space" in message


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (BUS | {"name": "sky"}, "class 'sky' exists already"),
        (BUS | {"name": ""}, "a name of 1 to 80"),
        (BUS | {"name": "x" * 81}, "a name of 1 to 80"),
        (BUS | {"name": "a\x00b"}, "control character"),
        (BUS | {"name": 7}, "a name of 1 to 80"),
        (BUS | {"properties": []}, "tick its properties"),
        (BUS | {"properties": ["property 9"]}, "'property 9'"),
        (BUS | {"properties": [True]}, "must be a string"),
        (BUS | {"properties": "01"}, "must be a list"),
        (BUS | {"properties": ["property 0", "property 1"]}, "'sky'"),
        (BUS | {"sentences": [7]}, "must be a string"),
        (BUS | {"sentences": ["x" * 301]}, "at most 300"),
        (BUS | {"sentences": ["x"] * 41}, "at most 40 sentences"),
        (BUS | {"path": "/etc/passwd"}, "no field 'path'"),
        ({"edit": "add_class", "properties": ["property 0"]}, "lacks the field 'name'"),
        ({"edit": "__init__"}, "no edit '__init__'"),
        ({}, "no edit None"),
        ({"edit": "rename_class", "old": "sky", "new": " "}, "a name of 1 to 80"),
        ({"edit": "set_claim_budget", "budget": 3}, "claim budget is 3"),
        (
            {"edit": "add_property", "phrase": "y", "classes": ["sky"], "embedding": "AAAA"},
            "float32|length 1",
        ),
    ],
)
def test_edits_that_cannot_be_made(refusing, edit, message):
    before = refusing.ask("state")
    for path in ("edit", "preview"):
        status, error = refusing.refusal(path, edits=[edit])
        assert status == 400 and any(part in error for part in message.split("|")), error
    assert refusing.ask("state") == before


def test_a_visitor_cannot_fill_the_memory_with_words(visitor):
    words = [[f"property {k}" for k in range(8) if number >> k & 1] for number in range(1, 200)]
    taken = {("property 0", "property 1"), ("property 1", "property 2", "property 3")}
    added = 0
    for row in words:
        if tuple(row) in taken:
            continue
        answer = visitor.client.post(
            "/api/edit", json={"edits": [{"edit": "add_class", "name": f"n{added}", "properties": row}]}
        )
        if answer.status_code == 200:
            added += 1
        elif "were added already" in answer.json()["error"]:
            break
    assert added == MAX_ADDED
    assert len(visitor.ask("state")["models"][0]["history"]) <= MAX_HISTORY


def test_what_a_visitor_edits_is_theirs_alone(app, image):
    ann, ben = Visitor(app), Visitor(app)
    of_ann = ann.upload(as_file(image))
    ann.edit(BUS)
    of_ben = ben.upload(as_file(image))
    assert names(ann)[5:] == ["bus"] and len(names(ben)) == 5
    ben.edit(BUS | {"properties": ["property 1", "property 4"]})
    assert ann.ask("state")["models"][0]["classes"][5]["properties"] == [0, 3]
    assert of_ben["result"]["runs"] == of_ann["result"]["runs"]
    again = ann.ask("result", image=of_ann["key"])
    assert ben.refusal("result", image=of_ann["key"])[0] == 410
    ben.edit({"edit": "undo"})
    assert ann.ask("result", image=of_ann["key"]) == again


# ---- what can be taken home -------------------------------------------------------------------------------------


def attachment(visitor, path, name, **fields):
    answer = visitor.client.post(f"/api/{path}", json=fields | {"kind": name})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    return answer.content


def test_labels_come_as_an_indexed_image_with_the_colors_of_the_page(visitor, model, processor, image):
    key = visitor.upload(as_file(image))["key"]
    found = Image.open(io.BytesIO(attachment(visitor, "download", "labels.png", image=key)))
    assert found.mode == "P"
    np.testing.assert_array_equal(np.asarray(found), segment(model, processor, image).labels.numpy())
    colors = [one["color"] for one in visitor.ask("state")["models"][0]["classes"]]
    palette = np.array(found.getpalette()[: 3 * len(colors)]).reshape(-1, 3)
    assert ["#{:02x}{:02x}{:02x}".format(*color) for color in palette.tolist()] == colors


def test_a_class_keeps_its_color_whatever_is_edited(visitor, image):
    def colors():
        return {one["name"]: one["color"] for one in visitor.ask("state")["models"][0]["classes"]}

    key = visitor.upload(as_file(image))["key"]
    before = colors()
    first, second, third = list(before)[:3]
    visitor.edit({"edit": "remove_classes", "classes": [first]})
    assert colors() == {name: color for name, color in before.items() if name != first}
    visitor.edit({"edit": "rename_class", "old": second, "new": "renamed"})
    assert colors()["renamed"] == before[second]
    visitor.edit({"edit": "merge_classes", "name": "both", "classes": ["renamed", third]})
    assert colors()["both"] == before[second]
    shown = visitor.ask("preview", edits=[BUS], image=key)["shown"]["classes"]
    assert len({one["color"] for one in shown}) == len(shown), "no two classes look alike"
    found = Image.open(io.BytesIO(attachment(visitor, "download", "labels.png", image=key)))
    palette = np.array(found.getpalette()).reshape(-1, 3)[: len(colors())]
    assert ["#{:02x}{:02x}{:02x}".format(*color) for color in palette.tolist()] == list(colors().values())
    overlay = np.asarray(Image.open(io.BytesIO(attachment(visitor, "download", "overlay.png", image=key))))
    most = visitor.ask("result", image=key)["shares"][0][0]
    wanted = [int(list(colors().values())[most][at : at + 2], 16) for at in (1, 3, 5)]
    assert (overlay == wanted).all(axis=-1).sum() > 20, "the legend's square"
    for _ in range(3):
        visitor.edit({"edit": "undo"})
    assert colors() == before


def test_two_models_give_a_class_one_color(make_model, processor):
    models = [DemoModel(make_model(), processor), DemoModel(make_model(), processor)]
    visitor = Visitor(demo_app(models, hosts=["localhost"]))
    name = names(visitor)[0]
    visitor.edit({"edit": "remove_classes", "classes": [name]}, model=1)
    first, second = (
        {one["name"]: one["color"] for one in state["classes"]} for state in visitor.ask("state")["models"]
    )
    assert second == {key: color for key, color in first.items() if key != name}


def test_labels_come_as_coco_run_lengths(visitor, model, processor, image):
    mask = pytest.importorskip("pycocotools.mask")
    key = visitor.upload(as_file(image), **{"X-File-Name": "a.png"})["key"]
    content = json.loads(attachment(visitor, "download", "labels.json", image=key))
    labels = segment(model, processor, image).labels.numpy()
    assert content["images"] == [{"id": 1, "file_name": "a.png", "width": 131, "height": 97}]
    decoded = np.full(labels.shape, -1)
    for one in content["annotations"]:
        lengths = mask.frPyObjects(one["segmentation"], 97, 131)
        inside = mask.decode(lengths).astype(bool)
        assert one["area"] == inside.sum() and one["bbox"] == mask.toBbox(lengths).tolist()
        decoded[inside] = one["category_id"] - 1
    np.testing.assert_array_equal(decoded, labels)
    assert [one["name"] for one in content["categories"]] == names(visitor)


def test_the_painted_image_has_a_legend(visitor, image):
    key = visitor.upload(as_file(image))["key"]
    painted = Image.open(io.BytesIO(attachment(visitor, "download", "overlay.png", image=key)))
    assert painted.width > painted.height * 131 / 97
    status, message = visitor.refusal("download", image=key, kind="../../etc/passwd")
    assert status == 400 and "labels.png" in message


def test_the_edits_come_as_a_patch_for_another_copy(visitor, make_model, tmp_path):
    from prolab_hf.editing.patch_application import apply_patch

    visitor.edit(BUS, {"edit": "rename_class", "old": "sky", "new": "air"})
    (tmp_path / "patch.json").write_bytes(attachment(visitor, "edited", "patch.json"))
    other = make_model()
    applied = apply_patch(other, tmp_path / "patch.json")
    assert applied.editor.space.class_names == names(visitor)


def test_the_edited_model_comes_as_a_folder_that_loads(visitor, processor, image, tmp_path, monkeypatch):
    facts = visitor.upload(as_file(image))
    answer = visitor.edit(BUS, image=facts["key"])
    made = []
    monkeypatch.setattr(
        downloads_module.tempfile, "mkdtemp", lambda: made.append(tmp_path / "made") or tmp_path / "made"
    )
    (tmp_path / "made").mkdir()
    with zipfile.ZipFile(io.BytesIO(attachment(visitor, "edited", "model.zip"))) as archive:
        assert all(name.startswith("tiny-edited/") and ".." not in name for name in archive.namelist())
        archive.extractall(tmp_path / "home")
    assert made and not made[0].exists(), "nothing stays on the server"
    card = (tmp_path / "home" / "tiny-edited" / "README.md").read_text()
    assert "The words were edited" in card and str(tmp_path) not in card
    model = ProLabForSemanticSegmentation.from_pretrained(tmp_path / "home" / "tiny-edited")
    assert model.config.architectures == ["ProLabForSemanticSegmentation"]
    labels = segment(model, processor, image).labels.numpy()
    np.testing.assert_array_equal(labels, labels_of(answer["result"], facts))
    monkeypatch.setattr(downloads_module, "MAX_MODEL_BYTES", 1000)
    status, message = visitor.refusal("edited", kind="model.zip")
    assert status == 400 and "patch" in message
    assert visitor.refusal("edited", kind="weights")[0] == 400


def test_thumbnails_are_data(visitor, image):
    facts = visitor.upload(as_file(image))
    assert base64.b64decode(facts["thumbnail"].partition(",")[2])[:3] == b"\xff\xd8\xff"
