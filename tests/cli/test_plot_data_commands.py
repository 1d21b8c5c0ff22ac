"""`prolab plot reliability` and `corrections`: figures and numbers of a model on labeled images."""

import csv
import json

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from prolab_hf.cli import run
from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.evaluation.evaluate import evaluate

from .editing_fixtures import make_place


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(make_place(tmp_path_factory.mktemp("plots")) / "model")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plot(kind, model, *words):
    data = ["scenes", "--split", "test", "--max-images", "4", "--device", "cpu"]
    return run(["plot", kind, *data, "--model", model, *words])


def test_a_reliability_diagram_and_its_numbers(model, tmp_path, capsys):
    assert plot("reliability", model, "--json", "x.json", "--csv", "x.csv", "--bins", "10") == 0
    said = capsys.readouterr()
    assert "calibration error" in said.out and "Wrote reliability.png" in said.err
    assert Image.open("reliability.png").width > 500
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["num_images"] == 4 and len(found["bins"]) == 10 and found["temperature"] == 1
    rows = list(csv.DictReader((tmp_path / "x.csv").open()))
    assert sum(int(row["pixels"]) for row in rows) == found["num_pixels"]
    assert plot("reliability", model, "--temperature", "fit", "--out", "fit.svg", "--json", "-") == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["is_fitted"] and fitted["negative_log_likelihood"] < found["negative_log_likelihood"]
    assert "<svg" in (tmp_path / "fit.svg").read_text()


def test_correction_curves_start_at_what_evaluate_measures(model, tmp_path, capsys):
    assert plot("corrections", model, "--json", "x.json", "--csv", "x.csv", "--out", "curves.png") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "in random order: mean IoU" in said and "the least certain ones first: mean IoU" in said
    curves = json.loads((tmp_path / "x.json").read_text())
    assert [curve["order"] for curve in curves] == ["random", "uncertainty"]
    for curve in curves:
        assert curve["num_corrected"][0] == 0 and curve["num_corrected"][-1] == curve["num_properties"]
        assert curve["mean_iou"][-1] > curve["mean_iou"][0]
    scenes = DrawnScenes("test")
    chosen = [scenes[k * len(scenes) // 4] for k in range(4)]
    network = AutoModelForSemanticSegmentation.from_pretrained(model).eval()
    with torch.no_grad():
        measured = evaluate(
            network, AutoImageProcessor.from_pretrained(model), [(one.image, one.mask) for one in chosen]
        )
    assert curves[0]["mean_iou"][0] == pytest.approx(measured["mean_iou"], abs=1e-6)
    assert len(list(csv.DictReader((tmp_path / "x.csv").open()))) == 2 * len(curves[0]["num_corrected"])
    assert Image.open("curves.png").width > 500


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("reliability", ["--temperature", "warm"], "--temperature is 'warm'"),
        ("reliability", ["--temperature", "-1"], "must be a positive number or 'fit'"),
        ("corrections", ["--order", "first"], "--order is 'first'"),
        ("corrections", ["--metric", "f1"], "--metric is 'f1'"),
        ("corrections", ["--out", "x.bmp"], "does not end like a figure"),
        ("reliability", ["--csv", "no/where.csv"], "There is no folder"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(model, capsys, kind, words, message):
    assert plot(kind, model, *words) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
