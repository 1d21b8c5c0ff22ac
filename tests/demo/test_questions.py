"""What the page is told about images: compared with `segment`, `explain` and the plain formula."""

import base64
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from page_visitors import Visitor, as_file, labels_of
from PIL import Image

from prolab_hf.demo import DemoModel, demo_app
from prolab_hf.demo.gallery import MAX_IMAGES
from prolab_hf.demo.session import NUM_SAMPLES
from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.contributions import explain
from prolab_hf.explanation.figures import HEAT
from prolab_hf.explanation.interventions import intervene


def opened(uri):
    kind, _, data = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert kind == f"data:image/{image.format.lower()}"
    return image


def test_segmentation_is_that_of_segment(visitor, model, processor, image):
    facts = visitor.upload(as_file(image), **{"X-File-Name": "my%20photo.png"})
    expected = segment(model, processor, image)
    np.testing.assert_array_equal(labels_of(facts["result"], facts), expected.labels.numpy())
    state = visitor.ask("state")
    names = [one["name"] for one in state["models"][0]["classes"]]
    assert [(names[k], share) for k, share in facts["result"]["shares"]] == expected.shares()
    assert opened(facts["photo"]).size == image.size and facts["name"] == "my photo.png"
    assert visitor.ask("result", image=facts["key"]) == facts["result"]
    assert [one["key"] for one in state["images"]] == [facts["key"]]
    assert max(opened(facts["thumbnail"]).size) == 96


def test_uploads_are_upright_and_shown_reduced(processor, make_model, image):
    visitor = Visitor(demo_app([DemoModel(make_model(), processor)], max_side=64))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = visitor.upload(as_file(image, "JPEG", exif=exif), "image/jpeg")
    assert (turned["width"], turned["height"]) == (47, 64)
    reduced = visitor.upload(as_file(image))
    assert (reduced["width"], reduced["height"], reduced["full"]) == (64, 47, [131, 97])
    assert reduced["note"] == "Reduced from 131 x 97 to 64 x 47 pixels."


def test_slide_mode_sees_all_pixels(processor, make_model, image):
    model, large = make_model(), image.resize((900, 700))
    visitor = Visitor(demo_app([DemoModel(model, processor)], max_side=300))
    facts = visitor.upload(as_file(large))
    found = visitor.ask("result", image=facts["key"], mode="slide")
    plain = type(processor)(do_resize=False)
    expected = segment(model, plain, large, mode="slide", crop_size=512)
    labels = labels_of(found, facts)
    rows, columns = np.arange(233) * 700 / 233, np.arange(300) * 3
    centres = expected.labels.numpy()[(rows + 700 / 466).astype(int)[:, None], columns + 1]
    np.testing.assert_array_equal(labels, centres)
    assert found["runs"] != facts["result"]["runs"]
    answer = visitor.ask("explain", image=facts["key"], point=[100, 50], mode="slide")
    there = explain(model, plain, large, point=(301, int(50.5 * 700 / 233)), mode="slide", crop_size=512)
    assert answer["class"] == there.class_name and answer["score"] == pytest.approx(there.score, abs=1e-9)
    assert answer["point"] == [100, 50]
    status, message = visitor.refusal("result", image=facts["key"], mode="twice")
    assert status == 400 and "'twice'" in message


def test_samples_differ_and_never_end(visitor):
    # The classes are none of the drawn scenes', so two photos come first.
    samples = [visitor.ask("sample", number=number) for number in range(4)]
    assert len({sample["photo"] for sample in samples}) == 4
    for sample in samples:
        assert sample["width"] * sample["height"] == labels_of(sample["result"], sample).size
    assert (samples[0]["width"], samples[0]["height"]) == (640, 427)
    assert visitor.ask("sample", number=NUM_SAMPLES + 2)["photo"] == samples[2]["photo"]


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2"])
def test_contributions_sum_to_the_score(make_model, processor, image, similarity):
    model = make_model(similarity)
    visitor = Visitor(demo_app([DemoModel(model, processor)]))
    key = visitor.upload(as_file(image))["key"]
    found = visitor.ask("explain", image=key, point=[60, 40])
    expected = explain(model, processor, image, point=(60, 40))
    assert found["class"] == expected.class_name and found["text"] == expected.to_text()
    assert found["score"] == pytest.approx(expected.score, abs=1e-9)
    assert sum(one["share"] for one in found["contributions"]) == pytest.approx(found["score"], abs=1e-9)
    rival = found["runner_up"]
    assert sum(one["runner_up_share"] for one in found["contributions"]) == pytest.approx(rival["score"])
    assert sum(one["difference"] for one in rival["deciding"]) == pytest.approx(rival["margin"], abs=1e-9)
    names = [one["property"] for one in sorted(found["contributions"], key=lambda one: one["index"])]
    assert names == model.config.property_names
    row = set(model.config.class_properties[model.config.label2id[rival["class"]]])
    assert {one["index"] for one in rival["deciding"] if one["theirs"]} == row
    assert {one["index"] for one in rival["unseen"]} <= row


def test_a_class_can_be_explained_rather_than_any_other(visitor, image):
    key = visitor.upload(as_file(image))["key"]
    found = visitor.ask("explain", image=key, point=[60, 40])
    others = [one["name"] for one in visitor.ask("state")["models"][0]["classes"]]
    others.remove(found["class"])
    for rival in others:
        answer = visitor.ask("explain", image=key, point=[60, 40], rival=rival)
        assert answer["runner_up"]["class"] == rival and answer["runner_up"]["margin"] > 0
        back = visitor.ask("explain", image=key, point=[60, 40], class_name=rival, rival=found["class"])
        assert back["runner_up"]["margin"] == pytest.approx(-answer["runner_up"]["margin"])
    status, message = visitor.refusal("explain", image=key, point=[60, 40], rival="cow")
    assert status == 400 and "no class 'cow'" in message


def test_a_drawn_region_and_a_whole_class_are_explained(visitor, model, processor, image):
    facts = visitor.upload(as_file(image))
    outline = [[20, 10], [80, 10], [80, 60], [20, 60]]
    found = visitor.ask("explain", image=facts["key"], outline=outline)
    region = np.zeros((97, 131), dtype=bool)
    region[10:61, 20:81] = True
    expected = explain(model, processor, image, region=region)
    assert found["region_pixels"] == region.sum() and found["class"] == expected.class_name
    assert found["score"] == pytest.approx(expected.score, abs=1e-9)
    name = segment(model, processor, image).shares()[0][0]
    whole = visitor.ask("explain", image=facts["key"], class_name=name)
    assert (
        whole["is_whole_class"]
        and whole["region_pixels"] == (segment(model, processor, image).mask(name)).sum()
    )
    for bad in ([], [[1, 1], [2, 2]], [[-50, -50], [-40, -50], [-40, -40]]):
        status, message = visitor.refusal("explain", image=facts["key"], outline=bad)
        assert status == 400 and "draw it larger" in message
    assert visitor.refusal("explain", image=facts["key"], outline=[[1, "2"]])[0] == 400


def test_the_words_of_a_class_and_the_spoken_share_are_told(solved, scenes_processor):
    visitor = Visitor(demo_app([DemoModel(solved, scenes_processor)]))
    facts = visitor.ask("sample", number=0)
    assert 0 < facts["result"]["spoken_share"] < 1
    classes = {one["name"]: one for one in visitor.ask("state")["models"][0]["classes"]}
    answer = visitor.ask("explain", image=facts["key"], point=[10, 10])
    assert 0 < answer["spoken_share"] < 1
    phrases = classes[answer["class"]]["phrases"]
    own = [one for one in answer["contributions"] if one["own"]]
    assert own and {one["phrase"] for one in own} == set(phrases.values())
    assert classes["kiosk"]["described"] and not classes["sky"]["described"]


def test_property_map_shows_the_scores(visitor, model, processor, image):
    facts = visitor.upload(as_file(image))
    found = visitor.ask("property", image=facts["key"], index=3)
    with torch.no_grad():
        logits = model(**processor(images=image, return_tensors="pt")).property_logits
    low = torch.sigmoid(logits / model.config.temperature)[:, 3:4]
    assert found["name"] == "property 3" and found["max"] == pytest.approx(float(low.max()))
    assert found["mean"] == pytest.approx(facts["result"]["property_means"][3], abs=1e-4)
    scores = F.interpolate(low, (97, 131), mode="bilinear", align_corners=False)[0, 0].numpy()
    layer = np.asarray(opened(found["image"]))
    np.testing.assert_allclose(layer[..., 3], 255 * 0.9 * scores**0.5, atol=0.6)
    color = 255 * np.array(HEAT(0.12 + 0.83 * scores[40, 60])[:3])
    np.testing.assert_allclose(layer[40, 60, :3], color, atol=1)
    status, message = visitor.refusal("property", image=facts["key"], index=8)
    assert status == 400 and "numbers 0 to 7" in message


def test_points_outside_of_the_image(visitor, image):
    key = visitor.upload(as_file(image))["key"]
    for point in ([131, 0], [0, -1], [0], ["0", 0], [10**30, 0], [0, 0, 0], [0.5, 0], {}, 7):
        assert visitor.refusal("explain", image=key, point=point)[0] == 400
    assert visitor.refusal("explain", image=key)[0] == 400


def test_the_network_runs_once_for_each_image_whatever_is_asked(visitor, model, image):
    runs = []
    hook = model.backbone.register_forward_hook(lambda *_: runs.append(1))
    keys = [visitor.upload(as_file(image.rotate(7 * k)))["key"] for k in range(3)]
    for key in keys:
        visitor.ask("result", image=key)
        visitor.ask("property", image=key, index=0)
        visitor.ask("explain", image=key, point=[3, 3])
    visitor.edit(
        {"edit": "add_class", "name": "bus", "properties": ["property 0", "property 3"]}, image=keys[0]
    )
    other = Visitor(visitor.client.app)
    other.upload(as_file(image))
    hook.remove()
    assert len(runs) == len(keys), "also for another visitor"


def test_a_gallery_keeps_the_last_images(visitor, image):
    keys = [visitor.upload(as_file(image.rotate(7 * k)))["key"] for k in range(MAX_IMAGES)]
    visitor.ask("image", image=keys[0])  # looked at again
    keys.append(visitor.upload(as_file(image.rotate(90)))["key"])
    status, message = visitor.refusal("result", image=keys[1])
    assert status == 410 and f"the last {MAX_IMAGES}" in message
    kept = [one["key"] for one in visitor.ask("state")["images"]]
    assert kept == [keys[0], *keys[2:]]
    assert [one["key"] for one in visitor.ask("forget", image=keys[0])["images"]] == keys[2:]
    assert visitor.refusal("image", image=keys[0])[0] == 410


def test_two_models_answer_beside_each_other(make_model, processor, image):
    one, two = make_model(), make_model("sigmoid_l2")
    visitor = Visitor(
        demo_app([DemoModel(one, processor, name="one"), DemoModel(two, processor, name="two")])
    )
    facts = visitor.upload(as_file(image))
    assert [model["name"] for model in visitor.ask("state")["models"]] == ["one", "two"]
    second = visitor.ask("result", image=facts["key"], model=1)
    np.testing.assert_array_equal(labels_of(second, facts), segment(two, processor, image).labels.numpy())
    assert visitor.ask("explain", image=facts["key"], point=[5, 5], model=1)["score"] == pytest.approx(
        explain(two, processor, image, point=(5, 5)).score
    )
    visitor.edit({"edit": "rename_class", "old": "sky", "new": "air"}, model=1)
    names = [model["classes"][0]["name"] for model in visitor.ask("state")["models"]]
    assert names == ["sky", "air"]
    status, message = visitor.refusal("result", image=facts["key"], model=2)
    assert status == 400 and "no model 2" in message


def test_a_failing_model_is_answered_and_logged(visitor, model, image, caplog):
    def fail(*_):
        raise RuntimeError("kernel\nbroke")

    hook = model.backbone.register_forward_pre_hook(fail)
    answer = visitor.client.post("/api/upload", content=as_file(image), headers={"Content-Type": "image/png"})
    hook.remove()
    assert visitor.refused(answer) == (500, "The model failed: kernel broke")
    assert "kernel" in caplog.text
    assert visitor.ask("state")["images"] == []
    visitor.upload(as_file(image))


def test_a_model_without_properties_is_refused(processor):
    with pytest.raises(ValueError, match="Linear has no properties to show"):
        DemoModel(torch.nn.Linear(1, 1), processor)


def test_the_map_follows_a_property_that_is_set(visitor, model, processor, image):
    facts = visitor.upload(as_file(image))
    found = visitor.ask("intervene", image=facts["key"], changes=[[0, 1.0], [3, 0]])
    expected = intervene(model, processor, image, {0: 1.0, 3: 0.0})
    np.testing.assert_array_equal(labels_of(found, facts), expected.labels.numpy())
    assert found["changed"] == pytest.approx(float(expected.changed.float().mean())) and found["changed"] > 0
    old, new, share = found["flows"][0]
    assert (old, new, round(share * image.width * image.height)) == expected.flows()[0]
    outline = [[0, 0], [40, 0], [40, 40], [0, 40]]
    inside = labels_of(
        visitor.ask("intervene", image=facts["key"], changes=[[0, 1.0]], outline=outline), facts
    )
    before = labels_of(facts["result"], facts)
    assert (inside[:, 80:] == before[:, 80:]).all() and (inside != before).any()
    assert visitor.ask("result", image=facts["key"]) == facts["result"], "nothing stays changed"
    for changes in ([], [[8, 0.5]], [[0, 2]], [[0, -1]], [[0]], [0, 1]):
        assert visitor.refusal("intervene", image=facts["key"], changes=changes)[0] == 400
