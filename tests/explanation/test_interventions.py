"""`intervene`: the same as computing everything anew, and quick enough for a slider."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import prolab_hf
from prolab_hf import intervene
from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.contributions import PropertyMaps
from prolab_hf.explanation.interventions import intervene_maps


@torch.no_grad()
def anew(model, processor, image, index, value, how, *, removed=False):
    """Class scores `(classes, height, width)` before and after, with the model's own formula."""
    output = model(**processor(images=image, return_tensors="pt"))
    unspoken = output.unspoken_logits
    scores = model.property_scores(output.property_logits)
    if unspoken is not None:
        scores = torch.cat([scores, model.unspoken_scores(unspoken)], dim=1)
    channel = scores[:, index]
    changed = {"set": torch.full_like(channel, value), "add": channel + value, "multiply": channel * value}[
        how
    ]
    if model.config.similarity != "cosine":
        changed = changed.clamp_min(0) if model.config.similarity == "linear_cosine" else changed.clamp(0, 1)
    scores[:, index] = changed
    matrix, rows = model.class_property_matrix.clone(), model.class_rows.clone()
    if removed:
        scores[:, index] = 0
        model.class_property_matrix[:, index] = model.class_rows[:, index] = 0
    after = model.similarity_of_scores(scores)
    model.class_property_matrix, model.class_rows = matrix, rows
    if model.config.class_offsets is not None:
        after = after + model.class_offsets[:, None, None]
    return output.logits[0], after[0]


def means(found):
    return torch.tensor([[old, new] for _, old, new in found.class_scores]).t()


@pytest.mark.parametrize(("how", "value"), [("set", 1.0), ("set", 0.0), ("add", 0.4), ("multiply", 0.25)])
@pytest.mark.parametrize("kind", ["sigmoid_cosine", "cosine", "sigmoid_l2", "solved"])
def test_a_change_is_what_the_model_itself_would_say(
    make_model, processor, solved, scenes_processor, image, kind, how, value
):
    model, processor = (solved, scenes_processor) if kind == "solved" else (make_model(kind), processor)
    maps = PropertyMaps(model, processor, image)
    name = maps.property_names[3]
    found = intervene_maps(maps, {name: value}, how=how)
    before, after = anew(model, processor, image, 3, value, how)
    size = image.height, image.width
    for labels, scores in ((found.before.labels, before), (found.labels, after)):
        large = F.interpolate(scores[None], size, mode="bilinear")[0]
        assert (large.argmax(0) != labels).float().mean() < 1e-3, "but for ties"
    expected = torch.stack(
        [F.interpolate(each[None], size, mode="bilinear").mean((0, 2, 3)) for each in (before, after)]
    )
    torch.testing.assert_close(means(found), expected, rtol=0, atol=1e-5)
    assert found.changed.sum() == sum(pixels for *_, pixels in found.flows())
    assert found.properties == {name: value}


@pytest.mark.parametrize("kind", ["sigmoid_cosine", "sigmoid_l2"])
def test_a_removed_property_is_gone_from_image_and_rows(make_model, processor, image, kind):
    model = make_model(kind)
    found = intervene(model, processor, image, {"property 3": None})
    _, after = anew(model, processor, image, 3, 0.0, "set", removed=True)
    large = F.interpolate(after[None], (image.height, image.width), mode="bilinear")[0]
    torch.testing.assert_close(means(found)[1], large.mean((1, 2)), rtol=0, atol=1e-5)
    assert (large.argmax(0) != found.labels).float().mean() < 1e-3
    assert "“property 3” removed" in found.to_text()


def test_a_class_without_any_property_left_is_like_nothing(model, processor, image):
    found = intervene(model, processor, image, {"property 0": None, "property 1": None})
    assert found.class_scores[0] == ("sky", pytest.approx(found.class_scores[0][1]), 0.0)
    assert not (found.labels == 0).any() and found.class_scores[1][2] > 0
    nothing = intervene(model, processor, image, {index: 0.0 for index in range(8)})
    assert all(after == 0.0 for *_, after in nothing.class_scores), "nothing is seen, and nothing is made up"


OPTIONS = [{}, {"flip": True}, {"mode": "slide", "crop_size": 48, "stride": 30, "scales": (1.0, 1.25)}]


@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_changes_outside_of_the_region(model, processor, image, options):
    region = np.zeros((97, 131), bool)
    region[20:70, 10:90] = True
    maps = PropertyMaps(model, processor, image, **options)
    everywhere = intervene_maps(maps, {"property 0": 1.0, 6: 0.0})
    inside = intervene_maps(maps, {"property 0": 1.0, 6: 0.0}, region=region)
    assert everywhere.changed[~torch.from_numpy(region)].any()
    far = torch.ones(97, 131, dtype=torch.bool)
    far[8:82, :104] = False
    assert inside.changed.any() and not inside.changed[far].any()
    core = torch.zeros(97, 131, dtype=torch.bool)
    core[34:56, 24:76] = True
    assert (inside.labels[core] == everywhere.labels[core]).float().mean() > 0.97
    assert (inside.before.labels == segment(model, processor, image, **options).labels).all()
    same = intervene_maps(maps, {"property 0": 1.0}, how="multiply")
    assert not same.changed.any()


def test_a_class_as_region(model, processor, image):
    result = segment(model, processor, image)
    name = result.shares()[0][0]
    found = intervene(model, processor, image, {"property 2": 0.5}, region=name, how="add")
    assert (found.region == result.mask(name)).all()


def test_properties_by_name_number_and_phrase(make_model, processor, image):
    model = make_model()
    space = model.property_space
    texts = {
        name: [f"{name} says {index}" for index in row]
        for name, row in zip(space.class_names, space.class_properties)
    }
    model.set_property_space(
        space.replace(descriptions=texts, assignments=dict(zip(space.class_names, space.class_properties)))
    )
    found = [intervene(model, processor, image, {key: 0.1}) for key in ("property 5", 5, "tree says 5")]
    assert all(each.properties == {"property 5": 0.1} for each in found)
    assert all((each.labels == found[0].labels).all() for each in found)
    assert found[0].changed.any()


def test_data_and_views(model, processor, image):
    found = intervene(model, processor, image, {"property 0": 1.0})
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["changed_pixels"] == sum(flow["pixels"] for flow in data["flows"]) > 0
    assert [row["class"] for row in found.to_rows()] == found.after.class_names
    assert sum(row["share_after"] for row in found.to_rows()) == pytest.approx(1)
    assert found.to_text().startswith(f"“property 0” set to 1: {data['changed_pixels']:,} of 12,707 pixels")
    assert f"{data['flows'][0]['from']} -&gt; {data['flows'][0]['to']}" in found._repr_html_()
    assert prolab_hf.intervene is intervene


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {}, "changes is empty"),
        ({"property 77": 1.0}, {}, "no property 'property 77'; the model has 8 properties.*did you mean"),
        ({8: 1.0}, {}, "no property 8; the model has numbers 0 to 7"),
        ({"property 1": 1.0, 1: 0.0}, {}, "names the property 'property 1' twice"),
        ({"property 1": 1.5}, {}, r"'property 1' is 1.5; scores lie in \[0, 1\]"),
        ({"property 1": float("nan")}, {}, "'property 1' is nan; it must be finite"),
        ({"property 1": -1.0}, {"how": "multiply"}, "factor of the property 'property 1' is -1.0"),
        ({"property 1": 1.0}, {"how": "raise"}, "how is 'raise'; it must be 'set', 'add' or 'multiply'"),
        ({"property 1": 1.0}, {"region": np.ones((3, 3))}, r"region has shape \(3, 3\)"),
        ({"property 1": 1.0}, {"region": "cow"}, "no class 'cow'"),
    ],
)
def test_wrong_changes_are_named(model, processor, image, changes, arguments, message):
    with pytest.raises(ValueError, match=message):
        intervene(model, processor, image, changes, **arguments)


def test_no_second_pass(model, processor, image):
    calls = []
    handle = model.register_forward_hook(lambda module, inputs, output: calls.append(1))
    maps = PropertyMaps(model, processor, image, flip=True)
    for value in (0.0, 0.5, 1.0):
        intervene_maps(maps, {"property 0": value})
    handle.remove()
    assert len(calls) == 2
