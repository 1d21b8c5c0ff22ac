"""Figures: sizes, colors that stay with their class, names that are never read as markup."""

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from prolab_hf.explanation.confused_properties import ConfusedPair, PropertyConfusion
from prolab_hf.explanation.contributions import explain
from prolab_hf.explanation.correction_curves import CorrectionCurve
from prolab_hf.explanation.dataset_contributions import ClassComparison, DecidingProperty
from prolab_hf.explanation.figures import (
    before_after_figure,
    comparison_figure,
    confusion_figure,
    contribution_chart,
    correction_figure,
    explanation_figure,
    learning_curves_figure,
    property_panel,
    reliability_figure,
)
from prolab_hf.explanation.overlays import (
    VOID_COLOR,
    class_colors,
    contours,
    legend_rows,
    overlay,
    percent,
    plain_text,
)
from prolab_hf.explanation.reliability import Reliability, ReliabilityBin

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


# ---- figures of data sets, edits and runs -------------------------------------------------------------------


def texts_of(figure):
    return [text for text in figure.findobj(Text) if text.get_text()]


def saved(figure, folder, kinds=()):
    """The figure as pixels; it can be written as PDF and SVG, too."""
    for kind in kinds:
        figure.savefig(folder / f"figure.{kind}")
        assert (folder / f"figure.{kind}").stat().st_size > 1000
    figure.savefig(folder / "figure.png", dpi=60)
    return np.asarray(Image.open(folder / "figure.png").convert("RGB"))


def test_confusion_figure(tmp_path):
    pairs = [
        ConfusedPair("$\\frac{1}{$", "<b>sky</b>", 30, 0.2, 0.6, [("a", 0.2), ("b $", 0.0), ("c", -0.05)]),
        ConfusedPair("road", "sky", 20, 0.1, 0.4, [("b $", 0.3), ("a", 0.0), ("c", -0.05)]),
    ]
    figure = confusion_figure(PropertyConfusion(pairs, 2, 100, 50), num_properties=2)
    shown = {text.get_text() for text in texts_of(figure)}
    assert {"$\\frac{1}{$ → <b>sky</b>", "road → sky", "+0.200", "+0.300"} <= shown
    assert "c" not in shown, "over all pixels a and b weigh 6, c weighs 2.5"
    assert saved(figure, tmp_path).std() > 0
    with pytest.raises(ValueError, match="no pixel was labeled as another class"):
        confusion_figure(PropertyConfusion([], 1, 10, 0))


def test_correction_figure(tmp_path):
    curves = [
        CorrectionCurve(order, [0, 2, 4], [0.2, last, 0.9], [0.3, last, 1.0], 3, 4)
        for order, last in (("random", 0.4), ("uncertainty", 0.7))
    ]
    for metric, ends in (("mean_iou", (0.2, 0.9)), ("pixel_accuracy", (0.3, 1.0))):
        figure = correction_figure(curves, metric=metric)
        lines = figure.axes[0].get_lines()
        assert [(line.get_ydata()[0], line.get_ydata()[-1]) for line in lines] == [ends, ends]
    assert "corrected properties per pixel (of 4)" in {text.get_text() for text in texts_of(figure)}
    saved(figure, tmp_path, kinds=("pdf", "svg"))
    with pytest.raises(ValueError, match="curves is empty"):
        correction_figure([])
    with pytest.raises(ValueError, match="metric is 'loss'"):
        correction_figure(curves, metric="loss")


def test_reliability_figure(tmp_path):
    bins = [ReliabilityBin(0, 0.5, 10, 0.4, 0.3), ReliabilityBin(0.5, 1, 30, 0.9, 0.8)]
    measured = Reliability(bins, 1.0, 0.1, 0.7, 0.8, 0.5, 40, 2, is_fitted=False)
    figure = reliability_figure(measured)
    line = figure.axes[0].get_lines()[1]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.4, 0.9], [0.3, 0.8])
    assert "error 0.100, T = 1" in {text.get_text() for text in texts_of(figure)}
    saved(reliability_figure({"$a": measured, "b": measured}), tmp_path)
    with pytest.raises(ValueError, match="nothing to draw"):
        reliability_figure({})


def test_before_after_figure(image, tmp_path):
    before = np.zeros((97, 131), int)
    before[:, 60:] = 1
    after = before.copy()
    after[:50, 60:] = 2
    old = [{"name": "sky", "iou": 0.5}, {"name": "road", "iou": float("nan")}]
    figure = before_after_figure(
        image, before, torch.from_numpy(after), ["sky", "road", "$new$"],
        class_names_before=["sky", "road"], iou_before=old,
        iou_after={"sky": 0.75, "road": None, "$new$": 0.25}, title="edit <i>",
    )  # fmt: skip
    shown = {text.get_text() for text in texts_of(figure)}
    assert {"edit <i>", "before", "after", "changed: 27.9 %", "$new$", "+0.250"} <= shown
    first, second, changed = (axes.get_images()[0].get_array() for axes in figure.axes[:3])
    assert (np.asarray(first) != np.asarray(second)).any()
    assert np.asarray(changed)[0, 100, 0] > np.asarray(changed)[0, 100, 2], "orange where it changed"
    saved(figure, tmp_path)
    with pytest.raises(ValueError, match="Only one of iou_before and iou_after"):
        before_after_figure(image, before, after, ["a", "b", "c"], iou_before=old)
    with pytest.raises(ValueError, match=r"label map has shape \(3, 3\)"):
        before_after_figure(image, np.zeros((3, 3)), after, ["a", "b", "c"])


def test_classes_that_move_keep_their_color(image):
    """A class that is inserted in front changes every id, but no pixel."""
    before = np.zeros((97, 131), int)
    before[:, 60:] = 1
    figure = before_after_figure(image, before, before + 1, ["new", "a", "b"], class_names_before=["a", "b"])
    first, second = (np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes[:2])
    assert (first == second).all()
    assert "changed: 0.0 %" in {text.get_text() for text in texts_of(figure)}


def test_a_class_that_goes_on_under_another_name_did_not_change(image):
    before = np.zeros((97, 131), int)
    before[:, 60:] = 1
    after = np.zeros((97, 131), int)
    after[:, 120:] = 1
    names, old = ["sky", "land"], ["sky", "road"]
    for successors, expected in (
        (None, "54.2 %"),
        ({"sky": "sky", "road": "land"}, "45.8 %"),
        ({}, "100.0 %"),
    ):
        figure = before_after_figure(
            image, before, after, names, class_names_before=old, successors=successors
        )
        assert f"changed: {expected}" in {text.get_text() for text in texts_of(figure)}, successors


def log_of(final, number=30):
    """Lines of a log, the last step twice as after a resumption."""
    steps = [
        {"event": "step", "step": 10 * k, "loss": 2.0 / k, "learning_rate": 1e-3 / k}
        for k in range(1, number + 1)
    ]
    evaluations = [
        {"event": "evaluation", "step": 100 * k, "mean_iou": final * k / 3,
         "classes": [{"name": "sky", "iou": final}, {"name": "$a$", "iou": 0.1 * k}, {"name": "b", "iou": None}]}
        for k in (1, 2, 3)
    ]  # fmt: skip
    return [
        *steps,
        *evaluations,
        {**steps[-1], "loss": 7.0},
        {"event": "checkpoint", "step": 100, "seconds": 1.0},
    ]


def test_learning_curves(tmp_path):
    figure = learning_curves_figure({"one": log_of(0.9)})
    loss, rate, mean = figure.axes[:3]
    assert list(loss.get_lines()[0].get_ydata())[-1] == 7.0 and len(loss.get_lines()[0].get_xdata()) == 30
    assert rate.get_lines()[0].get_ydata()[0] == 1e-3
    assert list(mean.get_lines()[0].get_xdata()) == [100, 200, 300]
    shown = {text.get_text() for text in texts_of(figure)}
    assert {"loss", "learning rate", "mean IoU", "IoU by class", "sky", "$a$", "0.30", "0.900"} <= shown
    assert "b" not in shown, "a class without pixels has no IoU"
    saved(figure, tmp_path)
    several = learning_curves_figure({"one": log_of(0.9), "two": log_of(0.5, 5), "empty": []})
    shown = {text.get_text() for text in texts_of(several)}
    assert {"one", "two", "IoU by class, last evaluation"} <= shown
    learning_curves_figure({"only steps": log_of(0.9)[:30]})
    for runs, message in (({}, "There are 0 runs"), ({"a": []}, "None of the runs has logged a step")):
        with pytest.raises(ValueError, match=message):
            learning_curves_figure(runs)


def test_a_point_of_which_only_some_windows_were_run_has_a_figure_without_maps(model, processor, image):
    options = {"mode": "slide", "crop_size": 32, "stride": 32}
    found = explain(model, processor, image, point=(60, 40), **options)
    assert found.property_maps is None
    without = explanation_figure(image, found)
    whole = explanation_figure(image, explain(model, processor, image, point=(60, 40)))
    assert without.width == whole.width and without.height < whole.height - 100


def test_comparison_figure(tmp_path):
    properties = [
        DecidingProperty("$a$", "$its words$", 0.2, 0.66, 0.3, 0.1, 3, 0, 0.25),
        DecidingProperty("b", "b", -0.1, 0.33, 0.0, 0.1, 0, 3, 0.0),
        DecidingProperty("c", "words that decide nothing", 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0),
    ]
    compared = ClassComparison("sofa", "<i>chair", "labeled", 3, 4120, 0.3, 0.2, 0.9, properties)
    figure = comparison_figure(compared)
    shown = {text.get_text() for text in texts_of(figure)}
    assert {"$its words$", "sofa   0.300", "<i>chair   0.200", "+0.200", "-0.100", "25%"} <= shown
    assert "words that decide nothing" not in shown
    assert any("4,120 pixels labeled as sofa" in text for text in shown)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.3, 0.0, 0.1, 0.1]
    saved(figure, tmp_path)
    with pytest.raises(ValueError, match="num_properties is 0"):
        comparison_figure(compared, num_properties=0)
