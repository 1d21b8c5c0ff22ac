"""Segmentation counts against hand-computed tables, plain formulas, scikit-learn and the paper's erosion."""

import io
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import ndimage
from sklearn.metrics import confusion_matrix, jaccard_score

from prolab_hf.evaluation.boundaries import boundary_distance, boundary_region
from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.evaluation.report import class_table, means_table

# A 2 x 4 image counted by hand: truth row by row 0 0 1 1 / 2 2 void 1, prediction 0 1 1 1 / 2 0 0 2.
TRUTH = np.array([[0, 0, 1, 1], [2, 2, 255, 1]])
GUESS = np.array([[0, 1, 1, 1], [2, 0, 0, 2]])
CONFUSION = [[1, 1, 0, 0], [0, 2, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def random_maps(num_classes, shape, seed=0, void=0.1):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, shape)
    guess = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, num_classes, shape))
    truth[rng.random(shape) < void] = 255
    return guess, truth


def test_hand_counted_image():
    counts = SegmentationCounts(4).update(GUESS, TRUTH)
    assert counts.confusion.tolist() == CONFUSION
    scores = counts.scores()
    np.testing.assert_allclose(scores.class_iou, [1 / 3, 2 / 4, 1 / 3, np.nan])
    np.testing.assert_allclose(scores.class_accuracy, [1 / 2, 2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(scores.class_precision, [1 / 2, 2 / 3, 1 / 2, np.nan])
    assert scores.mean_iou == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3)
    assert scores.pixel_accuracy == pytest.approx(4 / 7)
    assert scores.frequency_weighted_iou == pytest.approx((2 / 3 + 3 / 2 + 2 / 3) / 7)
    assert scores.confusions(2) == [(0, 1, 1), (1, 2, 1)]


def test_agrees_with_scikit_learn():
    guess, truth = random_maps(9, (3, 40, 50))
    scores = SegmentationCounts(9).update(guess, truth).scores()
    valid = truth != 255
    expected = confusion_matrix(truth[valid], guess[valid], labels=range(9))
    np.testing.assert_array_equal(scores.confusion, expected)
    np.testing.assert_allclose(scores.class_iou, jaccard_score(truth[valid], guess[valid], average=None))


def test_only_predicted_class_counts_against_the_mean_unless_truth_is_asked_for():
    counts = SegmentationCounts(3).update(np.array([[0, 1]]), np.array([[0, 0]]))
    union, truth = counts.scores(), counts.scores(average="truth")
    np.testing.assert_allclose(union.class_iou, [0.5, 0.0, np.nan])
    np.testing.assert_allclose(truth.class_iou, [0.5, np.nan, np.nan])
    assert (union.mean_iou, truth.mean_iou) == (0.25, 0.5)
    with pytest.raises(ValueError, match="'everything'"):
        counts.scores(average="everything")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_any_integer_type_numpy_and_torch(dtype):
    truth = np.where(TRUTH == 255, 255, TRUTH).astype(dtype)
    expected = SegmentationCounts(4).update(GUESS, TRUTH).confusion
    assert torch.equal(SegmentationCounts(4).update(GUESS.astype(dtype), truth).confusion, expected)
    tensors = torch.from_numpy(GUESS.astype(dtype)), torch.from_numpy(truth)
    assert torch.equal(SegmentationCounts(4).update(*tensors).confusion, expected)


def test_wide_ignore_index_does_not_wrap_in_narrow_masks():
    # 65535 as uint8 would be 255: class 255 must still be counted.
    truth = np.array([[255, 0]], dtype=np.uint8)
    counts = SegmentationCounts(300, ignore_index=65535).update(truth, truth)
    assert counts.confusion[255, 255] == 1
    wide = np.array([[299, 65535]], dtype=np.uint16)
    assert SegmentationCounts(300, ignore_index=65535).update(wide, wide).confusion.sum() == 1


def test_padding_is_never_counted():
    truth = np.array([[0, -100, -100]])
    guess = np.array([[0, -100, 1]])
    assert SegmentationCounts(2, ignore_index=None).update(guess, truth).confusion.tolist() == [
        [1, 0],
        [0, 0],
    ]


def test_predictions_on_void_pixels_do_not_matter():
    assert SegmentationCounts(2).update(np.array([[77, 0]]), np.array([[255, 0]])).confusion.sum() == 1


@pytest.mark.parametrize(
    ("guess", "truth", "error", "message"),
    [
        ([[0, 9]], [[0, 1]], ValueError, r"predictions hold ids outside of 0\.\.3: 9"),
        ([[0, -1]], [[0, 1]], ValueError, r"predictions hold ids outside of 0\.\.3: -1"),
        ([[0, 1]], [[0, 4]], ValueError, r"labels hold ids outside of 0\.\.3: 4.*ignore_index=255"),
        ([[0, 1]], [[0, 1, 2]], ValueError, r"shape \(1, 1, 2\), labels \(1, 1, 3\)"),
        ([0, 1], [0, 1], ValueError, r"shape \(2,\)"),
        ([[0.5, 1.0]], [[0, 1]], TypeError, "float64 values; integer class ids"),
    ],
)
def test_wrong_input_is_named(guess, truth, error, message):
    counts = SegmentationCounts(4)
    with pytest.raises(error, match=message):
        counts.update(np.array(guess), np.array(truth))
    assert counts.confusion.sum() == 0


def test_float_tensor_and_bad_settings_are_refused():
    with pytest.raises(TypeError, match="float32"):
        SegmentationCounts(2).update(torch.rand(2, 2), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="num_labels is 0"):
        SegmentationCounts(0)
    with pytest.raises(ValueError, match="boundary_ratio is 3"):
        SegmentationCounts(2, boundary_ratio=3)
    with pytest.raises(ValueError, match="1 predictions for 2 label maps"):
        SegmentationCounts(4).update([GUESS], [TRUTH, TRUTH])


def test_images_of_different_sizes_and_merging():
    maps = [random_maps(5, shape, seed) for seed, shape in enumerate([(7, 9), (20, 4), (3, 3)])]
    together = SegmentationCounts(5, boundary_ratio=0.1).update([g for g, _ in maps], [t for _, t in maps])
    parts = [SegmentationCounts(5, boundary_ratio=0.1).update(*pair) for pair in maps]
    merged = parts[0] + parts[1] + parts[2]
    assert torch.equal(merged.confusion, together.confusion)
    assert torch.equal(merged.boundary, together.boundary)
    assert merged.num_images == together.num_images == 3
    assert parts[0].num_images == 1, "adding must not change the parts"
    reloaded = SegmentationCounts(5, boundary_ratio=0.1).load_state(together.state())
    assert reloaded.scores().to_dict() == together.scores().to_dict()
    with pytest.raises(ValueError, match="cannot be added"):
        parts[0] + SegmentationCounts(6)


def test_empty_batch_and_void_image():
    counts = SegmentationCounts(3).update(np.zeros((0, 4, 4), int), np.zeros((0, 4, 4), int))
    counts.update(np.zeros((2, 2), int), np.full((2, 2), 255))
    scores = counts.scores()
    assert math.isnan(scores.mean_iou) and math.isnan(scores.pixel_accuracy)
    assert scores.to_dict()["mean_iou"] is None


# ---- boundaries ------------------------------------------------------------------------------------------


def eroded_boundary(mask, distance):
    """The published definition: what erosions with a 3 x 3 square remove; outside is background."""
    square = np.ones((3, 3), bool)
    return mask & ~ndimage.binary_erosion(mask, square, iterations=distance, border_value=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(1, 17), st.integers(1, 9), st.integers(0, 10_000))
def test_boundary_region_is_the_erosion_of_every_class(height, width, distance, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4, (height // 4 + 1, width // 4 + 1))
    label_map = coarse.repeat(4, 0).repeat(4, 1)[:height, :width]
    expected = np.zeros((height, width), bool)
    for k in range(4):
        expected |= eroded_boundary(label_map == k, distance)
    found = boundary_region(torch.from_numpy(label_map), distance)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_boundary_iou_is_the_plain_formula_per_class():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 5, (6, 8)).repeat(8, 0).repeat(8, 1)
    guess = np.roll(truth, 3, axis=1)
    truth[10:14, :30] = 255
    distance = boundary_distance(*truth.shape)
    expected = []
    for k in range(5):
        of_truth = eroded_boundary(truth == k, distance)
        of_guess = eroded_boundary((guess == k) & (truth != 255), distance)
        expected.append((of_truth & of_guess).sum() / (of_truth | of_guess).sum())
    scores = SegmentationCounts(5, boundary_ratio=0.02).update(guess, truth).scores()
    np.testing.assert_allclose(scores.class_boundary_iou, expected)
    assert scores.mean_boundary_iou == pytest.approx(np.mean(expected))
    assert 0 < scores.mean_boundary_iou < scores.mean_iou


def test_boundary_distance_follows_the_diagonal():
    assert boundary_distance(480, 360) == 12  # 2 % of 600
    assert boundary_distance(3, 4) == 1
    assert boundary_distance(300, 400, ratio=0.05) == 25


# ---- presentation ----------------------------------------------------------------------------------------


def test_dictionary_is_json_and_the_table_shows_names_literally():
    counts = SegmentationCounts(4, boundary_ratio=0.02).update(GUESS, TRUTH)
    names = ["road", "[red]sky[/red]", "a & b", "nothing"]
    results = json.loads(json.dumps(counts.scores().to_dict(names), allow_nan=False))
    assert results["per_class"][3] == {
        "id": 3,
        "name": "nothing",
        "iou": None,
        "accuracy": None,
        "precision": None,
        "boundary_iou": None,
        "share_of_pixels": 0.0,
    }
    assert results["num_pixels"] == 7
    assert results["confusions"][0] == {
        "truth": "road",
        "prediction": "[red]sky[/red]",
        "pixels": 1,
        "share_of_truth": 0.5,
    }
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(class_table(results), means_table(results))
    text = console.export_text()
    assert "[red]sky[/red]" in text and "33.33 %" in text and "1 image, 7 labeled pixels" in text
    with pytest.raises(ValueError, match="2 class names for 4 classes"):
        counts.scores().to_dict(["a", "b"])
