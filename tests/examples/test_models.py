"""The bundled models as they lie in the repository: small, in half precision, with honest cards, and they work."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from prolab_hf.bundled_models import bundled_model_folder, bundled_model_names
from prolab_hf.cli import run

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "models"
MOST_BYTES = 12 * 10**6
NAMES = ("everyday", "street")


def photo(tmp_path, name):
    datasets = pytest.importorskip("sklearn.datasets")
    path = tmp_path / name
    Image.fromarray(datasets.load_sample_image(name)).save(path)
    return path


def test_both_models_are_there():
    assert bundled_model_names() == list(NAMES)
    assert bundled_model_folder("street") is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_small_and_half_precise(name):
    files = [file for file in (FOLDER / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}, "weights and words only"
    with safe_open(FOLDER / name / "model.safetensors", "pt") as weights:
        large = [key for key in weights.keys() if weights.get_slice(key).get_dtype() == "F32"]  # noqa: SIM118
        sizes = [int(np.prod(weights.get_slice(key).get_shape())) for key in large if "property" not in key]
    assert max(sizes, default=0) <= 1024
    assert json.loads((FOLDER / name / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("name", NAMES)
def test_the_card_states_data_license_and_figures(name):
    card = (FOLDER / name / "README.md").read_text("utf-8")
    figures = json.loads((FOLDER / name / "figures.json").read_text("utf-8"))
    for word in ("research use", "EfficientNet-Lite0", "Apache-2.0", "license: other"):
        assert word in card
    assert ("CC BY-NC 4.0" in card) == (name == "street")
    assert f"{figures['test']:.3f}" in card
    assert abs(figures["float16, some test images"] - figures["float32, some test images"]) < 0.002


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_a_machine_travels_with_a_model(name):
    for file in (FOLDER / name).glob("*.json"):
        text = file.read_text("utf-8")
        assert "/work/" not in text and "site-packages" not in text and "/home/" not in text, file.name


@pytest.mark.parametrize("name", NAMES)
def test_statistics_travel_along_and_fit_the_model(name):
    from prolab_hf.solving.statistics import ClassStatistics

    config = json.loads((FOLDER / name / "config.json").read_text())
    kept = ClassStatistics.load(FOLDER / name)
    assert kept.moments.dtype == torch.float64
    assert set(kept.class_names) == set(config["label2id"])
    assert config["calibration_pixels"] > 4000


def test_the_command_takes_the_name_and_finds_the_sky(tmp_path, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    image, out = photo(tmp_path, "china.jpg"), tmp_path / "found.png"
    assert run(["segment", str(image), "--model", "everyday", "--out", str(out)]) == 0
    assert Image.open(out).width >= 640


@pytest.mark.parametrize("name", NAMES)
def test_a_photo_of_a_palace_under_the_sky(name):
    pytest.importorskip("timm")
    datasets = pytest.importorskip("sklearn.datasets")
    from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessorPil, segment

    model = ProLabForSemanticSegmentation.from_pretrained(FOLDER / name).eval()
    assert next(model.parameters()).dtype == torch.float32
    processor = ProLabImageProcessorPil.from_pretrained(FOLDER / name)
    labels = segment(model, processor, Image.fromarray(datasets.load_sample_image("china.jpg"))).labels
    names = [model.config.id2label[k] for k in range(model.config.num_labels)]
    ids = torch.as_tensor(labels).flatten().long()
    shares = torch.bincount(ids, minlength=len(names)) / len(ids)
    largest = {names[k] for k in shares.topk(3).indices.tolist()}
    assert len(largest & {"building", "sky", "tree"}) >= 2, largest
