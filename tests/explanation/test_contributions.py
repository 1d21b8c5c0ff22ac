"""`explain` on a real tiny model: sums, agreement with the label map, runner-up, words and errors."""

import io
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.contributions import explain

SIMILARITIES = ["sigmoid_cosine", "cosine", "sigmoid_l2"]


@torch.no_grad()
def class_scores(model, processor, image):
    """Class scores `(classes, height, width)` whose arg-max is the label map."""
    logits = model(**processor(images=image, return_tensors="pt")).logits
    return F.interpolate(logits, (image.height, image.width), mode="bilinear", align_corners=False)[0]


def total(shares):
    return sum(value for _, value in shares)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_point_contributions_sum_to_the_score_of_the_label_map(make_model, processor, image, similarity):
    model = make_model(similarity)
    scores = class_scores(model, processor, image)
    labels = segment(model, processor, image)
    for x, y in [(0, 0), (130, 96), (60, 40), (17, 88)]:
        explanation = explain(model, processor, image, point=(x, y))
        assert explanation.class_name == explanation.predicted_class == labels.class_at(x, y)
        assert len(explanation.contributions) == 8
        assert total(explanation.contributions) == pytest.approx(explanation.score, abs=1e-9)
        assert explanation.score == pytest.approx(float(scores[:, y, x].max()), abs=1e-5)
        shares = [share for _, share in explanation.contributions]
        assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_region_contributions_sum_to_the_mean_score(make_model, processor, image, similarity):
    model = make_model(similarity)
    region = np.zeros((97, 131), dtype=bool)
    region[20:50, 30:90] = True
    scores = class_scores(model, processor, image)[:, region].mean(dim=1)
    explanation = explain(model, processor, image, region=region)
    assert explanation.score == pytest.approx(float(scores.max()), abs=1e-5)
    assert total(explanation.contributions) == pytest.approx(explanation.score, abs=1e-9)
    assert explanation.to_dict()["region_pixels"] == 1800
    as_image = Image.fromarray(region.astype(np.uint8) * 255)
    for same in (torch.from_numpy(region), as_image):
        assert explain(model, processor, image, region=same).score == explanation.score


def test_runner_up_and_what_separates_it(model, processor, image):
    explanation = explain(model, processor, image, point=(60, 40))
    ranked = class_scores(model, processor, image)[:, 40, 60].sort(descending=True)
    rival = explanation.runner_up
    assert rival.class_name == model.config.id2label[int(ranked.indices[1])]
    assert rival.score == pytest.approx(float(ranked.values[1]), abs=1e-5)
    assert rival.margin == pytest.approx(explanation.score - rival.score)
    assert total(rival.deciding) == pytest.approx(rival.margin)
    sizes = [abs(difference) for _, difference in rival.deciding]
    assert sizes == sorted(sizes, reverse=True)


def test_another_class_can_be_asked_for(model, processor, image):
    predicted = explain(model, processor, image, point=(60, 40)).class_name
    other = next(name for name in model.config.id2label.values() if name != predicted)
    explanation = explain(model, processor, image, point=(60, 40), class_name=other)
    assert (explanation.class_name, explanation.predicted_class) == (other, predicted)
    assert explanation.runner_up.class_name == predicted and explanation.runner_up.margin < 0
    text = explanation.to_text()
    assert f"is not {other}" in text and f"but {predicted}" in text and f"{other} trails {predicted}" in text


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_missing_and_unexpected_properties(make_model, processor, image, similarity):
    model = make_model(similarity)
    explanation = explain(model, processor, image, point=(60, 40))
    row = model.config.class_properties[model.config.label2id[explanation.class_name]]
    names = model.config.property_names
    scores = dict(explanation.property_scores)
    middle = (max(scores.values()) + min(scores.values())) / 2 if similarity == "cosine" else 0.5
    assert explanation.expected == [names[k] for k in sorted(row)]
    inside = set(explanation.expected)
    assert {name for name, _ in explanation.missing} == {n for n in inside if scores[n] < middle}
    assert {name for name, _ in explanation.unexpected} == {
        n for n in set(names) - inside if scores[n] >= middle
    }


def test_data_and_text(model, processor, image):
    explanation = explain(model, processor, image, point=(60, 40), top=2)
    data = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    assert data["point"] == [60, 40] and data["region_pixels"] is None
    assert sum(entry["share"] for entry in data["contributions"]) == pytest.approx(data["score"])
    short = explanation.to_dict(top=2)
    assert len(short["contributions"]) == 2
    shown = sum(entry["share"] for entry in short["contributions"])
    assert shown + short["other_contributions"] == pytest.approx(short["score"])
    text = explanation.to_text()
    assert text.startswith(f"The pixel at (60, 40) is {explanation.class_name} (score ")
    assert explanation.contributions[0][0] in text
    assert f"leads {explanation.runner_up.class_name}" in text
    region = np.ones((97, 131), dtype=bool)
    assert "The region of 12,707 pixels" in explain(model, processor, image, region=region).to_text()


def test_properties_of_equal_name_are_told_apart(make_model, processor, image):
    model = make_model()
    model.config.property_names = ["same"] * 8
    explanation = explain(model, processor, image, point=(3, 3))
    assert {name for name, _ in explanation.contributions} == {"same", *(f"same ({k})" for k in range(2, 9))}
    assert total(
        [(e["property"], e["share"]) for e in explanation.to_dict()["contributions"]]
    ) == pytest.approx(explanation.score)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "received neither"),
        ({"point": (1, 1), "region": np.ones((97, 131))}, "received both"),
        ({"point": (131, 5)}, r"\(131, 5\) lies outside of the image of 131 x 97.*0 to 130"),
        ({"point": (5, -1)}, r"\(5, -1\) lies outside"),
        ({"point": (1, 2, 3)}, "two numbers"),
        ({"point": (float("nan"), 2)}, "two numbers"),
        ({"region": np.zeros((97, 131))}, "region is empty"),
        ({"region": np.ones((131, 97))}, r"region has shape \(131, 97\).*must have shape \(97, 131\)"),
        ({"point": (1, 1), "class_name": "cow"}, "no class 'cow'; the classes are sky, road"),
        ({"point": (1, 1), "top": 0}, "top is 0"),
        ({"point": (1, 1), "rival": "cow"}, "no class 'cow'"),
        ({"point": (1, 1), "class_name": "sky", "rival": "sky"}, "class_name and rival are both 'sky'"),
        ({"point": (1, 1), "quantity": "logit"}, "quantity is 'logit'; it must be 'auto'"),
        ({"point": (1, 1), "stride": 5}, "belong to mode='slide'"),
    ],
)
def test_wrong_questions_are_named(model, processor, image, arguments, message):
    with pytest.raises(ValueError, match=message):
        explain(model, processor, image, **arguments)


def test_a_model_without_properties_cannot_explain(processor, image):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    plain = SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8
        )
    )
    with pytest.raises(ValueError, match="SegformerForSemanticSegmentation has no properties"):
        explain(plain, processor, image, point=(1, 1))


def test_the_explained_class_speaks_in_its_own_words(make_model, processor, image):
    model = make_model("sigmoid_cosine")
    space = model.property_space
    texts = {
        name: [f"{name} says {index}" for index in row]
        for name, row in zip(space.class_names, space.class_properties)
    }
    model.set_property_space(
        space.replace(descriptions=texts, assignments=dict(zip(space.class_names, space.class_properties)))
    )
    explanation = explain(model, processor, image, point=(60, 40))
    name = explanation.class_name
    assert all(explanation.phrase(own).startswith(f"{name} says ") for own in explanation.expected)
    assert f"{name} says " in explanation.to_text()
    entry = next(one for one in explanation.to_dict()["contributions"] if one["expected"])
    assert entry["phrase"].startswith(f"{name} says ") and entry["phrase"] not in entry["other_phrases"]


def test_several_images_at_once(model, processor, image):
    other = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((60, 90))
    found = explain(model, processor, [image, other], point=[(60, 40), (3, 80)])
    assert found[0] == explain(model, processor, image, point=(60, 40))
    assert found[1] == explain(model, processor, other, point=(3, 80))
    regions = [np.ones((97, 131)), np.eye(90, 60)]
    assert [each.num_pixels for each in explain(model, processor, (image, other), region=regions)] == [
        12707,
        60,
    ]
    with pytest.raises(ValueError, match="2 images and 1 points; give one point per image"):
        explain(model, processor, [image, other], point=[(1, 1)])


def test_a_class_that_was_not_found_cannot_be_explained_as_a_whole(make_model, processor, image):
    model = make_model()
    model.config.class_offsets = [0.0, 0.0, 0.0, 0.0, -5.0]
    model._rebuild_derived_buffers()
    with pytest.raises(
        ValueError, match=r"No pixel of the image is labeled person; found were: road, tree, car\. Give"
    ):
        explain(model, processor, image, class_name="person")


def test_a_table_for_datasets_and_pandas(model, processor, image, tmp_path):
    import datasets
    import pandas

    image.save(tmp_path / "street.png")
    found = [
        explain(model, processor, tmp_path / "street.png", point=(60, 40), rival="person"),
        explain(model, processor, image, class_name="tree", flip=True),
    ]
    rows = [row for each in found for row in each.to_rows()]
    table = datasets.Dataset.from_list(rows)
    assert len(table) == 8 + 9 and table.column_names == list(rows[0])
    frame = pandas.DataFrame(rows)
    sums = frame.groupby(["class", "quantity"], sort=False)[["share", "rival_share", "difference"]].sum()
    assert sums["share"].tolist() == pytest.approx([each.score for each in found])
    assert sums["rival_share"].tolist() == pytest.approx([each.runner_up.score for each in found])
    assert sums["difference"].tolist() == pytest.approx([each.runner_up.margin for each in found])
    assert rows[0]["image"] == str(tmp_path / "street.png") and (rows[0]["x"], rows[0]["y"]) == (60, 40)
    assert rows[-1]["image"] is None and rows[-1]["x"] is None and rows[-1]["pixels"] > 1
    assert sum(row["is_property"] for row in rows) == 16


def test_views_for_notebooks(make_model, processor, image):
    model = make_model()
    model.config.property_names = [f"<b onclick=x>$k_{k}$" for k in range(8)]
    found = explain(model, processor, image, point=(60, 40))
    page = found._repr_html_()
    assert "<b onclick" not in page and "&lt;b onclick=x&gt;$k_" in page and len(page) < 20_000
    assert found.runner_up.class_name in page and f"{found.contributions[0][1]:+.3f}" in page
    content = found._repr_png_()
    drawn = Image.open(io.BytesIO(content))
    assert drawn.width == 640 and len(content) < 60_000
