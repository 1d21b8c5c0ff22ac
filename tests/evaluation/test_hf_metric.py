"""The `evaluate` interface: `mean_iou`'s keys and arguments, offline, holding counts."""

import pickle

import evaluate
import numpy as np
import pytest
import torch

from prolab_hf.evaluation import hf_metric
from prolab_hf.evaluation.hf_metric import PairTally, ProLabMeanIoU
from prolab_hf.evaluation.metrics import SegmentationCounts

TRUTH = np.array([[0, 0, 1, 1], [2, 2, 255, 1]])
GUESS = np.array([[0, 1, 1, 1], [2, 0, 0, 2]])


@pytest.fixture
def metric(tmp_path):
    return ProLabMeanIoU(cache_dir=str(tmp_path))


def mean_iou_of_evaluate(predictions, references, num_labels, ignore_index):
    """Independent formula: per-class areas by histograms, image by image, as `mean_iou` defines them."""
    both, guess, truth = np.zeros(num_labels), np.zeros(num_labels), np.zeros(num_labels)
    bins = np.arange(num_labels + 1)
    for prediction, reference in zip(predictions, references):
        valid = reference != ignore_index
        prediction, reference = prediction[valid], reference[valid]
        both += np.histogram(prediction[prediction == reference], bins)[0]
        guess += np.histogram(prediction, bins)[0]
        truth += np.histogram(reference, bins)[0]
    with np.errstate(invalid="ignore"):
        iou, accuracy = both / (guess + truth - both), both / truth
    return {
        "mean_iou": np.nanmean(iou),
        "mean_accuracy": np.nanmean(accuracy),
        "overall_accuracy": both.sum() / truth.sum(),
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }


def test_the_keys_and_values_of_mean_iou(metric):
    rng = np.random.default_rng(0)
    sizes = [(9, 7), (4, 12), (6, 6)]
    references = [rng.integers(0, 6, size) for size in sizes]
    predictions = [np.where(rng.random(r.shape) < 0.5, r, rng.integers(0, 6, r.shape)) for r in references]
    references[0][:2] = 255
    expected = mean_iou_of_evaluate(predictions, references, 7, 255)
    found = metric.compute(predictions=predictions, references=references, num_labels=7, ignore_index=255)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, err_msg=key)


def test_add_and_add_batch_accumulate_and_compute_starts_afresh(metric):
    metric.add_batch(predictions=GUESS[None], references=TRUTH[None])
    metric.add(prediction=torch.from_numpy(GUESS), reference=TRUTH.tolist())
    twice = metric.compute(num_labels=3, ignore_index=255)
    once = metric.compute(predictions=[GUESS], references=[TRUTH], num_labels=3, ignore_index=255)
    assert twice["mean_iou"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 3) / 3) == once["mean_iou"]
    with pytest.raises(ValueError, match="Nothing was counted"):
        metric.compute(num_labels=3)


def test_only_pairs_are_held_whatever_the_number_of_images(metric):
    rng = np.random.default_rng(0)
    for _ in range(30):
        maps = rng.integers(0, 4, (2, 50, 50))
        metric.add_batch(predictions=maps, references=maps[::-1])
    assert isinstance(metric.counts, PairTally)
    assert len(metric.counts.pairs) <= 16 and metric.counts.num_images == 60
    assert len(pickle.dumps(metric.counts)) < 1000
    assert metric.writer is None, "nothing may go to evaluate's cache files"


def test_loads_as_a_module_file(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(
        "evaluate.loading.init_dynamic_modules", lambda: init_modules(tmp_path / "modules", monkeypatch)
    )
    loaded = evaluate.load(hf_metric.__file__, cache_dir=str(tmp_path), num_labels=3, ignore_index=255)
    loaded.add_batch(predictions=[GUESS], references=[TRUTH])
    assert loaded.compute()["overall_accuracy"] == pytest.approx(4 / 7)
    assert "mean_iou" in loaded.inputs_description


def init_modules(folder, monkeypatch):
    """As `evaluate` makes its folder of dynamic modules, but inside of the test's folder."""
    package = folder / "evaluate_modules"
    package.mkdir(parents=True, exist_ok=True)
    for path in (folder, package):
        (path / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(folder))
    return str(package)


def test_label_map_reduce_labels_and_nan_to_num(metric):
    shifted = np.where(TRUTH == 255, 0, TRUTH + 1)  # 0 = void, k + 1 = class k
    plain = metric.compute(predictions=[GUESS], references=[TRUTH], num_labels=3, ignore_index=255)
    found = metric.compute(
        predictions=[GUESS], references=[shifted], num_labels=3, ignore_index=255, reduce_labels=True
    )
    assert found["mean_iou"] == plain["mean_iou"]
    renamed = np.where(TRUTH == 1, 40, TRUTH)
    found = metric.compute(
        predictions=[GUESS], references=[renamed], num_labels=3, ignore_index=255, label_map={40: 1}
    )
    assert found["mean_iou"] == plain["mean_iou"]
    found = metric.compute(
        predictions=[GUESS], references=[TRUTH], num_labels=5, ignore_index=255, nan_to_num=-1
    )
    assert found["per_category_iou"][4] == -1


def test_boundary_iou_needs_the_classes_beforehand(tmp_path):
    with pytest.raises(ValueError, match="boundary_ratio needs num_labels"):
        ProLabMeanIoU(cache_dir=str(tmp_path), boundary_ratio=0.02)
    metric = ProLabMeanIoU(cache_dir=str(tmp_path), num_labels=3, boundary_ratio=0.02)
    result = metric.compute(predictions=[GUESS], references=[TRUTH])
    expected = SegmentationCounts(3, boundary_ratio=0.02).update(GUESS, TRUTH).scores()
    assert result["mean_boundary_iou"] == expected.mean_boundary_iou
    metric.add(prediction=GUESS, reference=TRUTH)
    with pytest.raises(ValueError, match="fixed when the metric is made"):
        metric.compute(ignore_index=0)


def test_wrong_input_is_named(metric, tmp_path):
    metric.add(prediction=GUESS, reference=TRUTH)
    with pytest.raises(ValueError, match="num_labels is needed"):
        metric.compute()
    with pytest.raises(ValueError, match=r"Ids outside of 0\.\.1 occur at labeled pixels: 2"):
        metric.compute(num_labels=2, ignore_index=255)
    with pytest.raises(ValueError, match=r"Unknown inputs \['scores'\]"):
        metric.add_batch(predictions=[GUESS], references=[TRUTH], scores=[1])
    with pytest.raises(ValueError, match="Both prediction and reference"):
        metric.add(prediction=GUESS)
    with pytest.raises(ValueError, match="num_process is 2"):
        ProLabMeanIoU(cache_dir=str(tmp_path), num_process=2, process_id=0, experiment_id="x")


def test_far_apart_ids_are_tallied_too():
    tally = PairTally().update(np.array([[0, 7_000_000]]), np.array([[65535, 0]]))
    assert dict(tally.pairs) == {(65535, 0): 1, (0, 7_000_000): 1}
