import json

import pytest
import torch
from PIL import Image
from transformers import ResNetBackbone

from prolab_hf.cli import run
from tests.solving.conftest import NAMES, Patches, backbone_config, make_space


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set with two splits and another folder, a space and a backbone."""
    root = tmp_path_factory.mktemp("solve")
    for split, start, length in (("data/train", 0, 8), ("data/val", 50, 2), ("more/train", 80, 3)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(length):
            image, mask = Patches(100)[start + index]
            image.save(root / split / "images" / f"{index}.png")
            Image.fromarray(mask.astype("uint8")).save(root / split / "masks" / f"{index}.png")
    make_space().save_pretrained(root / "space")
    torch.manual_seed(0)
    ResNetBackbone(backbone_config()).save_pretrained(root / "backbone")
    return root


def words(place, out, *more):
    return [
        "solve", str(place / "data"), "--space", str(place / "space"), "--backbone", str(place / "backbone"),
        "--out", str(out), "--image-size", "0", "--quiet", "--device", "cpu", *more,
    ]  # fmt: skip


def test_from_images_to_a_model_and_to_one_with_more_images(place, tmp_path, capsys):
    out = tmp_path / "model"
    assert run(words(place, out)) == 0
    printed = capsys.readouterr().out
    assert (
        "Solved 4 classes from 8 images" in printed and "Words make up" in printed and "mean IoU" in printed
    )
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "solve_statistics.safetensors", "evaluation.json", "property_space.json"} <= names
    assert not any(name.startswith("solve_progress") for name in names)
    assert json.loads((out / "evaluation.json").read_text())["mean_iou"] > 0.3
    assert run(words(place, out)) == 2
    assert "holds a model already" in capsys.readouterr().err
    more = ["solve", "--add", str(place / "more"), "--model", str(out), "--quiet", "--device", "cpu"]
    assert run(more) == 0
    assert "from 11 images" in capsys.readouterr().out
    assert json.loads((out / "config.json").read_text())["solution"]["num_images"] == 11
    image = str(place / "data/val/images/0.png")
    assert run(["segment", image, "--model", str(out), "--unknown", "--out", str(tmp_path / "o.png")]) == 0


def test_a_held_out_class_is_measured_with_controls(place, tmp_path, capsys):
    out = tmp_path / "model"
    assert run(words(place, out, "--held-out", "yellow", "--statistics", "none", "--eval-split", "none")) == 0
    assert not (out / "solve_statistics.safetensors").exists()
    command = ["evaluate", str(place / "data"), "--split", "val", "--model", str(out), "--held-out", "yellow"]
    assert run([*command, "--out", str(tmp_path / "held.json"), "--device", "cpu"]) == 0
    assert "shuffled" in capsys.readouterr().out
    results = json.loads((tmp_path / "held.json").read_text())
    assert results["held_out"] == ["yellow"] and set(results["controls"]) == {"random", "shuffled"}
    assert set(results["unknown"]) == {"auroc", "auprc", "fpr95"}
    assert {entry["name"] for entry in results["per_class"]} == set(NAMES)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--statistics", "all"], "--statistics is 'all'"),
        (["--held-out", "purple"], "'purple'"),
        (["--split", "test"], "test"),
        (["--add", "x", "--model", "y"], "without DATA"),
    ],
)
def test_a_mistake_costs_one_line(place, tmp_path, capsys, more, message):
    assert run(words(place, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_what_is_missing_is_named(place, tmp_path, capsys):
    assert run(["solve", str(place / "data"), "--out", str(tmp_path)]) == 2
    assert "--space, --backbone and --out" in capsys.readouterr().err
    (tmp_path / "empty/train/images").mkdir(parents=True)
    (tmp_path / "empty/train/masks").mkdir()
    arguments = words(place, tmp_path / "out")
    arguments[1] = str(tmp_path / "empty")
    assert run(arguments) == 2
    assert "holds no images" in capsys.readouterr().err
