"""Figures: sizes, colors that stay with their class, names that are never read as markup."""

import numpy as np
import pytest
import torch
from PIL import Image

from prolab_hf.explanation.contributions import explain
from prolab_hf.explanation.figures import contribution_chart, explanation_figure, property_panel
from prolab_hf.explanation.overlays import (
    VOID_COLOR,
    class_colors,
    contours,
    legend_rows,
    overlay,
    percent,
    plain_text,
)

MARKUP = ["$\\frac{1}{$", "<b>sky</b>", "[red]road", "a\nb\tc\x00", "", "Straße 道路 🚗", "x" * 300]


def colors_in(image):
    return {tuple(color) for color in np.asarray(image).reshape(-1, 3)}


def test_colors_are_distinct_and_stay_with_their_class():
    few, many = class_colors(5), class_colors(400)
    assert many[:5] == few and class_colors(0) == []
    assert len(set(many)) == 400
    first = np.array(many[:20], dtype=float)
    distances = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e9 * np.eye(20)
    assert distances.min() > 30
    assert len(class_colors(5000)) == 5000


def test_full_opacity_shows_exactly_the_classes_colors():
    labels = torch.zeros(20, 30, dtype=torch.int64)
    labels[:, 15:] = 2
    labels[:3, :3] = 255
    painted = overlay(Image.new("RGB", (30, 20), "green"), labels, ["a", "b", "c"], opacity=1, legend=False)
    assert painted.size == (30 * 32, 20 * 32)
    colors = class_colors(3)
    assert {colors[0], colors[2], VOID_COLOR} <= colors_in(painted)
    assert colors[1] not in colors_in(painted)


def test_legend_lists_shares_largest_first_and_void_last():
    labels = np.array([[1, 1, 1, 0], [1, 1, 255, 255]])
    rows = legend_rows(labels, ["a", "b", "c"])
    assert [(row.name, row.share) for row in rows] == [("b", 0.625), ("a", 0.125), ("(no class)", 0.25)]
    assert rows[0].color == class_colors(3)[1]
    assert [percent(share) for share in (0.342, 0.0001, 0.0, 1.0)] == [
        "34.2 %",
        "< 0.1 %",
        "0.0 %",
        "100.0 %",
    ]


def test_legend_is_added_at_the_side_and_copes_with_many_classes():
    image = Image.new("RGB", (60, 40), "white")
    labels = np.arange(2400).reshape(40, 60) % 90
    painted = overlay(image, labels, [f"class {k}" for k in range(90)])
    without = overlay(image, labels, [f"class {k}" for k in range(90)], legend=False)
    assert painted.height == without.height and painted.width > without.width
    assert painted.crop((0, 0, *without.size)).tobytes() == without.tobytes()


def test_names_are_literal(make_model, processor, image):
    model = make_model()
    labels = np.arange(97 * 131).reshape(97, 131) % len(MARKUP)
    assert overlay(image, labels, MARKUP).width > 131
    assert plain_text("a\nb\tc\x00") == "a b c" and plain_text("") == "(unnamed)"
    assert plain_text("$x^2$ <b>") == "$x^2$ <b>"
    model.config.id2label = dict(enumerate(MARKUP[:5]))
    model.config.property_names = [f"{name} {k}" for k, name in enumerate([*MARKUP, "$"])]
    explanation = explain(model, processor, image, point=(60, 40))
    assert explanation_figure(image, explanation).width > 1000


def test_contours_follow_the_border():
    ids = np.zeros((4, 6), int)
    ids[:, 3:] = 1
    assert contours(ids).tolist() == [[False, False, True, False, False, False]] * 4
    assert not contours(np.zeros((3, 3), int), thickness=2).any()


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ((131, 97), "point"),
        ((131, 97), "region"),
        ((30, 200), "other class"),
        ((300, 20), "region"),
        ((1, 1), "point"),
    ],
)
def test_explanation_figure_for_any_shape(model, processor, size, kind):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    if kind == "region":
        region = np.zeros((size[1], size[0]), bool)
        region[: size[1] // 2 + 1, : size[0] // 2 + 1] = True
        explanation = explain(model, processor, image, region=region)
    else:
        explanation = explain(
            model, processor, image, point=(0, 0), class_name="person" if kind == "other class" else None
        )
    figure = explanation_figure(image, explanation)
    assert figure.mode == "RGB" and figure.width == 1430 and 300 < figure.height < 3000
    assert contribution_chart(explanation).width == 880


def test_property_panel(image):
    panel = property_panel(image, torch.rand(5, 8, 9), ["a", "b $", "c", "d", "e"], columns=3)
    assert panel.width > 900
    for number, names in ((2, ["a"]), (0, [])):
        with pytest.raises(ValueError, match=f"{number} property maps and {len(names)} names"):
            property_panel(image, torch.rand(number, 3, 3), names)


def test_wrong_arguments_are_named(image):
    with pytest.raises(ValueError, match=r"label map has shape \(5, 5\), the image is 97 high and 131 wide"):
        overlay(image, np.zeros((5, 5), int), ["a"])
    with pytest.raises(ValueError, match=r"opacity is 1\.5"):
        overlay(image, np.zeros((97, 131), int), ["a"], opacity=1.5)
