"""Trackers are told what the log holds: TensorBoard for real, the others through Accelerate's interface."""

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker
from PIL import Image

from prolab_hf import ProLabImageProcessorPil
from prolab_hf.evaluation.settings import InferenceSettings
from prolab_hf.evaluation.views.class_colors import VOID_COLOR, class_pixels
from prolab_hf.training.reporting import TrainingEvent, read_log
from prolab_hf.training.tracking import trackers
from prolab_hf.training.tracking.loss_window import LossWindow, watched_parts
from prolab_hf.training.tracking.predictions import prediction_images
from prolab_hf.training.trainer import TrainingInterrupted, train
from tests.training.conftest import Stripes, build_model, drawn_pairs
from tests.training.test_trainer import stop_at

QUIET = {"show_progress": False}


def processor():
    return ProLabImageProcessorPil(do_resize=False)


class Recorder(GeneralTracker):
    """A tracker that keeps what it is told."""

    requires_logging_directory = False

    def __init__(self, name):
        self.name = name
        super().__init__(_blank=True)
        self.told, self.shown, self.configuration, self.finished = [], [], None, False

    @property
    def tracker(self):
        return self

    hash = id = "run-of-before"

    def start(self):
        pass

    def store_init_configuration(self, values):
        self.configuration = values

    def log(self, values, step=None, **kwargs):
        self.told.append((step, values))

    def log_images(self, values, step=None, **kwargs):
        self.shown.append((step, sorted(values)))

    def finish(self):
        self.finished = True


@pytest.fixture
def recorder(monkeypatch):
    """Weights & Biases' place, taken by a recorder; what it was started with is in `started`."""
    made = []

    def start(output_dir, run, step):
        made.append(Recorder("wandb"))
        made[-1].started = (output_dir, run, step)
        return made[-1]

    monkeypatch.setitem(trackers._STARTERS, "wandb", start)
    monkeypatch.setattr(trackers, "_is_installed", lambda name: True)
    return made


# ---- what they are told -----------------------------------------------------------------------------------


def test_a_tracker_is_told_the_numbers_of_the_log(tmp_path, recipe, recorder):
    model = build_model(use_auxiliary_head=True)
    train(
        model, drawn_pairs(4), drawn_pairs(5), recipe=recipe, output_dir=tmp_path, report_to=["wandb"],
        processor=processor(), **QUIET,
    )  # fmt: skip
    (tracker,) = recorder
    log = read_log(tmp_path / "training_log.jsonl")
    steps = [entry for entry in log if entry["event"] == "step"]
    told = [(step, values) for step, values in tracker.told if "train/loss" in values]
    assert [step for step, _ in told] == [entry["step"] for entry in steps] == [1, 2, 3, 4, 5, 6]
    for (_, values), entry in zip(told, steps):
        assert values["train/loss"] == entry["loss"]
        assert values["train/learning_rates/head"] == entry["learning_rates"]["head"]
        parts = {name: values[f"train/loss_parts/{name}"] for name in ("property", "class", "auxiliary")}
        assert sum(parts.values()) == pytest.approx(entry["loss"], rel=1e-5) and min(parts.values()) > 0
    evaluations = [entry for entry in log if entry["event"] == "evaluation"]
    measured = [(step, values) for step, values in tracker.told if "evaluation/mean_iou" in values]
    assert [step for step, _ in measured] == [3, 6]
    for (_, values), entry in zip(measured, evaluations):
        assert values["evaluation/mean_iou"] == entry["mean_iou"]
        assert values["evaluation/iou/green"] == entry["classes"][1]["iou"]
        assert values["properties/calibration_error"] == entry["properties"]["calibration_error"]
        assert values["properties/num_dead"] == len(entry["properties"]["dead"])
    assert tracker.shown == [(step, [f"evaluation/predictions/{n}" for n in range(4)]) for step in (3, 6)]
    assert tracker.configuration["optimizer.learning_rate"] == 1e-2
    assert tracker.finished


def test_a_resumed_run_goes_on_with_the_run_of_its_tracker(tmp_path, recipe, recorder):
    arguments = {"recipe": recipe, "output_dir": tmp_path, "report_to": ["wandb", "wandb"], **QUIET}
    with pytest.raises(TrainingInterrupted):
        train(build_model(), Stripes(4), Stripes(2), callbacks=[stop_at(3)], **arguments)
    assert recorder[0].started == (tmp_path, None, 0) and recorder[0].finished
    train(build_model(), Stripes(4), Stripes(2), resume=True, **arguments)
    assert recorder[1].started == (tmp_path, "run-of-before", 3)
    assert recorder[1].configuration is None  # stored already
    assert [step for step, values in recorder[1].told if "train/loss" in values] == [4, 5, 6]


def test_names_and_numbers_fit_every_tracker():
    classes = [{"name": "car, parked", "iou": 0.5}, {"name": "sky", "iou": None}]
    values = {
        "mean_iou": float("nan"),
        "seconds": 2,
        "classes": classes,
        "properties": {"dead": [1, 2], "num_dead": 2},
    }
    assert trackers.numbers_of(TrainingEvent("evaluation", 1, 2, values)) == {
        "evaluation/seconds": 2.0,
        "evaluation/iou/car_ parked": 0.5,
        "properties/num_dead": 2.0,
    }
    assert trackers.numbers_of(TrainingEvent("checkpoint", 1, 2, {"seconds": 1.0})) == {}


# ---- TensorBoard for real ---------------------------------------------------------------------------------


def test_tensorboard_reads_what_a_stopped_and_resumed_run_wrote(tmp_path, recipe):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    arguments = {
        "recipe": recipe,
        "output_dir": tmp_path,
        "report_to": ["tensorboard"],
        "processor": processor(),
    }
    data = (drawn_pairs(4), drawn_pairs(2, sizes=((32, 40), (48, 32))))
    with pytest.raises(TrainingInterrupted):
        train(build_model(), *data, callbacks=[stop_at(4)], **arguments, **QUIET)
    train(build_model(), *data, resume=True, **arguments, **QUIET)
    events = EventAccumulator(
        str(tmp_path / "tensorboard"), size_guidance={"scalars": 0, "images": 0}
    ).Reload()
    log = read_log(tmp_path / "training_log.jsonl")
    losses = {entry["step"]: entry["loss"] for entry in log if entry["event"] == "step"}
    read = {scalar.step: scalar.value for scalar in events.Scalars("train/loss")}
    assert read == pytest.approx(losses) and sorted(read) == [1, 2, 3, 4, 5, 6]
    assert [scalar.step for scalar in events.Scalars("evaluation/mean_iou")] == [3, 6]
    assert {"train/loss_parts/property", "evaluation/iou/red", "properties/mean_activation"} <= set(
        events.Tags()["scalars"]
    )
    image = events.Images("evaluation/predictions/0")[-1]
    assert (image.step, image.width, image.height) == (6, 3 * 40, 32)  # image, labels, prediction


# ---- what can go wrong ------------------------------------------------------------------------------------


def test_a_tracker_that_is_not_installed_names_its_extra(tmp_path, recipe, monkeypatch):
    monkeypatch.setattr(trackers, "_is_installed", lambda name: False)
    with pytest.raises(ImportError, match=r"tracker aim .* pip install 'prolab_hf\[aim\]'"):
        train(
            build_model(),
            Stripes(2),
            None,
            recipe=recipe,
            output_dir=tmp_path / "out",
            report_to=["aim"],
            **QUIET,
        )
    assert not (tmp_path / "out").exists()


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ValueError, match=r"no tracker .tensorbord.*tensorboard"):
        trackers.check_trackers(["tensorbord"])


def test_runs_of_trackers_that_cannot_be_read_start_anew(tmp_path, recipe, recorder, caplog):
    (tmp_path / "tracked_runs.json").write_text("{")
    trackers.Trackers(["wandb"], tmp_path, recipe, step=3)
    assert recorder[0].started == (tmp_path, None, 3)
    assert "tracked_runs.json" in caplog.text


# ---- parts of the loss ------------------------------------------------------------------------------------


def test_parts_of_the_loss_are_watched_only_while_asked():
    model = build_model(use_auxiliary_head=True)
    batch = {name: value[None].repeat(2, *[1] * value.ndim) for name, value in Stripes()[0].items()}
    with watched_parts(model) as parts:
        loss = model(**batch).loss
    assert sum(parts.values()) == pytest.approx(loss.item(), rel=1e-5)
    before = dict(parts)
    model(**batch)
    assert parts == before and model.loss_parts is None
    with watched_parts(torch.nn.Linear(1, 1)) as parts:
        assert parts == {}


def test_a_window_gives_the_mean_of_each_part():
    window = LossWindow(torch.device("cpu"))
    window.add(torch.tensor(3.0), 1, [], {"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
    window.add(torch.tensor(5.0), 2, [], {"a": torch.tensor(3.0), "b": torch.tensor(2.0)})
    assert {name: float(value) for name, value in window.take_parts().items()} == {"a": 2.0, "b": 2.0}
    assert window.take_parts() == {} and float(window.take()) == 4.0


# ---- images -----------------------------------------------------------------------------------------------


def test_colors_of_classes_and_of_void():
    pixels = class_pixels(np.array([[0, 1, 255, -1]]), 2)
    assert tuple(pixels[0, 2]) == tuple(pixels[0, 3]) == VOID_COLOR
    assert len({tuple(color) for color in class_pixels(np.arange(150)[None], 150)[0].tolist()}) == 150


def test_images_show_image_labels_and_prediction():
    model, settings = build_model().eval(), InferenceSettings()
    pairs = drawn_pairs(3, sizes=((32, 40),))
    shown = prediction_images(model, processor(), pairs, settings)
    assert [image.size for image in shown] == [(120, 32)] * 3
    image, mask = pairs[0]
    assert np.array_equal(np.asarray(shown[0])[:, :40], np.asarray(image))
    assert np.array_equal(np.asarray(shown[0])[:, 40:80], class_pixels(mask, 3))
    window = InferenceSettings(mode="slide", crop_size=32, stride=16)
    assert len(prediction_images(model, processor(), pairs, window, number=2)) == 2
    (tensors,) = prediction_images(model, None, Stripes(1), settings)
    assert tensors.size == (96, 32) and not model.training


def test_images_that_cannot_be_decoded_are_left_out(tmp_path):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "mask.png")
    from prolab_hf.data.sources import PairSource

    mask = tmp_path / "mask.png"
    source = PairSource([(tmp_path / "bad.png", mask), (tmp_path / "good.png", mask)], num_classes=3)
    assert len(prediction_images(build_model().eval(), processor(), source, InferenceSettings())) == 1
