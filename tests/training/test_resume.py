"""A resumed run is the run that was started: same data, same classes, same evaluations, same numbers."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from prolab_hf import PropertySpace
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import FolderSource
from prolab_hf.training import checkpoints
from prolab_hf.training.reporting import read_log
from prolab_hf.training.run_identity import images_digest
from prolab_hf.training.trainer import TrainingInterrupted, train
from tests.training.conftest import Stripes, build_model, drawn_pairs, write_folder
from tests.training.test_trainer import assert_equal_weights, stop_at, weights

QUIET = {"show_progress": False}
NAMES = ["red", "green", "blue"]


def space(names=NAMES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return PropertySpace(
        class_names=names,
        property_names=["a", "b", "c", "d"],
        property_embeddings=torch.nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=1),
        class_property_matrix=torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]).float(),
        name="stripes",
    )


def model_of(space):
    model = build_model()
    model.set_property_space(space)
    return model


def source(root, *, names=NAMES, **coding):
    return FolderSource(root, class_names=names, coding=LabelCoding(**coding) if coding else None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps on files."""
    from prolab_hf.training.recipe import TrainingRecipe

    root = tmp_path_factory.mktemp("run")
    recipe = TrainingRecipe(
        schedule={"max_iterations": 2, "batch_size": 2}, data={"num_workers": 0, "crop_size": 32}, log_every=1
    )
    write_folder(root / "data")
    train(model_of(space()), source(root / "data"), None, recipe=recipe, output_dir=root / "out", **QUIET)
    return root, recipe


def changed_space(root):
    return model_of(space(seed=1)), source(root / "data")


def reordered_classes(root):
    names = ["green", "red", "blue"]
    return model_of(space(names)), source(root / "data", names=names)


def other_ignore_index(root):
    model = model_of(space())
    model.config.semantic_loss_ignore_index = 250
    return model, source(root / "data", ignore_index=250, void_values=(255,))


def other_coding(root):
    return model_of(space()), source(root / "data", kind="table", table={0: 1, 1: 0, 2: 2, 255: None})


def other_images(root):
    write_folder(root / "other", seed=5)
    return model_of(space()), source(root / "other")


def more_images(root):
    write_folder(root / "more", number=5)
    return model_of(space()), source(root / "more")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed_space, r"the property space \(fingerprint\): "),
        (reordered_classes, "class 0: 'red' -> 'green'"),
        (other_ignore_index, "the ignore index: 255 -> 250"),
        (other_coding, "the label coding, kind: ids -> table"),
        (other_images, "the list of training images .* is another one"),
        (more_images, "trained on 4 images, this data set has 5"),
    ],
)
def test_other_data_or_classes_are_refused(finished, change, expected):
    """All of them went on without a word before (but for the number of images)."""
    root, recipe = finished
    model, data = change(root)
    with pytest.raises(ValueError, match=f"{expected}.*accept_changes=True"):
        train(model, data, None, recipe=recipe, output_dir=root / "out", resume=True, **QUIET)


def test_a_change_of_a_table_is_named_by_its_entry(finished, tmp_path):
    root, recipe = finished
    tables = [{0: 0, 1: 1, 2: 2, 255: None}, {0: 0, 1: 2, 2: 1, 255: None}]
    data = [source(root / "data", kind="table", table=table) for table in tables]
    train(model_of(space()), data[0], None, recipe=recipe, output_dir=tmp_path, **QUIET)
    with pytest.raises(
        ValueError, match="the label coding, table 1: 1 -> 2; the label coding, table 2: 2 -> 1"
    ):
        train(model_of(space()), data[1], None, recipe=recipe, output_dir=tmp_path, resume=True, **QUIET)


def test_accepted_changes_go_on_with_the_new_space(finished, tmp_path, caplog):
    root, recipe = finished
    shutil.copytree(root / "out", tmp_path / "out")
    model, _ = changed_space(root)
    more = recipe.replace(**{"schedule.max_iterations": 3})
    data = more_images(root)[1]
    train(
        model, data, None, recipe=more, output_dir=tmp_path / "out", resume=True, accept_changes=True, **QUIET
    )
    assert "trained on 4 images, this data set has 5; the property space" in caplog.text
    # Not the old vectors beside the new rows.
    assert torch.equal(model.property_space.property_embeddings, space(seed=1).property_embeddings)


def test_the_same_data_elsewhere_are_the_same(finished, tmp_path):
    root, recipe = finished
    shutil.copytree(root / "out", tmp_path / "out")
    shutil.copytree(root / "data", tmp_path / "moved")
    moved = source(tmp_path / "moved")
    train(model_of(space()), moved, None, recipe=recipe, output_dir=tmp_path / "out", resume=True, **QUIET)


def test_a_run_of_an_earlier_version_goes_on_and_says_what_it_cannot_tell(finished, tmp_path, caplog):
    """Its progress had no record of the data, and its recipe was flat."""
    root, recipe = finished
    shutil.copytree(root / "out", tmp_path / "out")
    last = checkpoints.newest_valid_checkpoint(tmp_path / "out/checkpoints")
    progress = json.loads((last / "training_state/progress.json").read_text())
    flat = {"max_iterations": 2, "batch_size": 2, "num_workers": 0, "crop_size": 32, "log_every": 1}
    old = {name: progress[name] for name in ("step", "num_images", "effective_batch_size")}
    old |= {"train_seconds": 1.0, "wait_seconds": 0.1, "recipe": {**flat, "learning_rate": 1.0}}
    (last / "training_state/progress.json").write_text(json.dumps(old))
    (last / "COMPLETE.json").unlink()
    checkpoints._seal(last, 2)
    model, data = changed_space(root)
    train(model, data, None, recipe=recipe, output_dir=tmp_path / "out", resume=True, **QUIET)
    assert "earlier version, which kept no record" in caplog.text
    assert "optimizer.learning_rate: 1.0 -> 6e-05." in caplog.text


def test_digests_of_lists(tmp_path):
    write_folder(tmp_path / "data", number=2)
    first = images_digest(source(tmp_path / "data"))
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "data/images/1.png")
    assert images_digest(source(tmp_path / "data")) != first
    assert (
        images_digest(drawn_pairs(3))
        == images_digest(drawn_pairs(3))
        != images_digest(drawn_pairs(3, seed=1))
    )
    assert images_digest([("a.png", "b.png")]) != images_digest([("a.png", "c.png")])
    pairs = drawn_pairs(3)
    subset = torch.utils.data.Subset
    assert images_digest(subset(pairs, [0, 1])) != images_digest(subset(pairs, [1, 0]))
    assert images_digest(Stripes()) is None  # does not say what it holds


def test_digest_of_a_datasets_table():
    datasets = pytest.importorskip("datasets")
    from prolab_hf.data.hub_source import HubSource

    def table(seed):
        pairs = drawn_pairs(3, seed=seed)
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Image()})
        masks = [Image.fromarray(mask.astype(np.uint8)) for _, mask in pairs]
        rows = {"image": [image for image, _ in pairs], "label": masks}
        return HubSource(datasets.Dataset.from_dict(rows, features=features), num_classes=3)

    assert images_digest(table(0)) == images_digest(table(0)) != images_digest(table(1))


# ---- evaluations and the log ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "[{}]", "[", '{"step": 1}', "[[1, 2]]"])
def test_damaged_evaluations_do_not_cost_the_best_checkpoint(tmp_path, recipe, caplog, content):
    """An empty file pruned it without a word, `[{}]` ended in a KeyError."""
    recipe = recipe.replace(
        **{"schedule.max_iterations": 4, "checkpoints.keep": 1, "evaluation.every": 1, "checkpoints.every": 1}
    )
    first = train(build_model(), Stripes(4), Stripes(2), recipe=recipe, output_dir=tmp_path, **QUIET)
    root = tmp_path / "checkpoints"
    checkpoints.record_evaluations(root, first.evaluations)
    (root / "evaluations.json").write_text(content)
    longer = recipe.replace(**{"schedule.max_iterations": 6})
    second = train(
        build_model(), Stripes(4), Stripes(2), recipe=longer, output_dir=tmp_path, resume=True, **QUIET
    )
    assert second.evaluations[:4] == first.evaluations
    assert (root / f"step-{second.best_step:08d}").is_dir()
    assert "evaluations.json" in caplog.text
    assert len(checkpoints.recorded_evaluations(root)) == 6


def test_undefined_scores_are_recorded_as_json(tmp_path):
    entries = [{"step": 1, "mean_iou": float("nan"), "pixel_accuracy": 0.5}]
    checkpoints.record_evaluations(tmp_path, entries)
    assert json.loads((tmp_path / "evaluations.json").read_text())[0]["mean_iou"] is None
    read = checkpoints.recorded_evaluations(tmp_path)
    assert np.isnan(read[0]["mean_iou"]) and read[0]["pixel_accuracy"] == 0.5
    (tmp_path / "evaluations.json").write_text('[{"step": 1, "mean_iou": NaN}]')  # of earlier versions
    assert np.isnan(checkpoints.recorded_evaluations(tmp_path)[0]["mean_iou"])


def test_the_first_logged_loss_after_a_resume_covers_its_whole_window(tmp_path, recipe):
    """It was the mean of the steps since the resume only."""
    recipe = recipe.replace(log_every=4, **{"evaluation.every": 100})
    whole = build_model()
    train(whole, Stripes(5), None, recipe=recipe, output_dir=tmp_path / "whole", **QUIET)

    def stop_after_checkpoint(event):
        if event.kind == "checkpoint" and event.step == 2:
            stop_at(2)(type(event)("step", 2, 6))

    with pytest.raises(TrainingInterrupted):
        train(
            build_model(),
            Stripes(5),
            None,
            recipe=recipe,
            output_dir=tmp_path / "parts",
            callbacks=[stop_after_checkpoint],
            **QUIET,
        )
    resumed = build_model(seed=1)
    train(resumed, Stripes(5), None, recipe=recipe, output_dir=tmp_path / "parts", resume=True, **QUIET)
    logs = [read_log(tmp_path / name / "training_log.jsonl") for name in ("whole", "parts")]
    losses = [{line["step"]: line["loss"] for line in log if line["event"] == "step"} for log in logs]
    assert losses[0] == losses[1]
    assert sorted(losses[0]) == [4, 6]
    assert_equal_weights(weights(resumed), weights(whole))


def test_a_log_is_rewritten_in_one_step(tmp_path, monkeypatch):
    from prolab_hf.training import reporting

    path = tmp_path / "training_log.jsonl"
    path.write_text('{"event": "step", "step": 1}\n{"event": "step", "step": 2}\n{"half')

    def crash(*arguments):
        raise OSError("disk")

    monkeypatch.setattr(reporting, "write_text", crash)
    with pytest.raises(OSError, match="disk"):
        reporting.TrainingLog(path, resumed_step=1)
    assert [entry["step"] for entry in read_log(path)] == [1, 2]
