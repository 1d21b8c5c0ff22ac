"""`prolab explain` on several images, whole classes and data sets."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessorPil, PropertySpace
from prolab_hf.cli import run
from prolab_hf.data.scenes import DrawnScenes


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model of the drawn scenes with random weights, and two of their images."""
    root = tmp_path_factory.mktemp("explain")
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    model = ProLabForSemanticSegmentation.from_backbone(
        backbone, PropertySpace.from_pretrained("scenes"), hidden_size=16, auxiliary_channels=8
    )
    torch.nn.init.normal_(model.decode_head.classifier.weight, std=0.5)
    model.save_pretrained(root / "model")
    ProLabImageProcessorPil(do_resize=False).save_pretrained(root / "model")
    scenes = DrawnScenes("test", 2, size=(64, 96))
    for index in range(2):
        scenes[index].image.save(root / f"scene{index}.png")
    found = run_labels(model, scenes[0].image)
    return SimpleNamespace(root=root, model=str(root / "model"), classes=found)


def run_labels(model, image):
    from prolab_hf import segment

    return [name for name, _ in segment(model, ProLabImageProcessorPil(do_resize=False), image).shares()]


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_several_images_at_once(saved, folder, capsys):
    images = [str(saved.root / f"scene{index}.png") for index in range(2)]
    options = ["--flip", "--json", "all.json", "--csv", "all.csv", "--out", "figures"]
    assert run(["explain", *images, "--model", saved.model, "--point", "40,30", *options]) == 0
    shown = capsys.readouterr().out
    assert all(f"{image}\nThe pixel at (40, 30) is " in shown for image in images) and "probability" in shown
    content = json.loads((folder / "all.json").read_text())
    assert [each["image"] for each in content] == images
    assert sorted(path.name for path in (folder / "figures").iterdir()) == [
        "scene0_why.png",
        "scene1_why.png",
    ]
    rows = read_csv(folder / "all.csv")
    for each in content:
        shares = [float(row["share"]) for row in rows if row["image"] == each["image"]]
        assert sum(shares) == pytest.approx(each["score"])


def test_a_whole_class_against_a_rival_over_windows(saved, folder, capsys):
    name, rival = saved.classes[0], saved.classes[-1]
    arguments = ["explain", str(saved.root / "scene0.png"), "--model", saved.model, "--class", name]
    windows = ["--mode", "slide", "--crop-size", "48", "--stride", "32"]
    assert run([*arguments, "--rival", rival, *windows, "--json", "-", "--out", "why.png"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["is_whole_class"] and data["runner_up"]["class"] == rival and data["quantity"] == "score"
    assert data["inference"]["mode"] == "slide"
    assert Image.open(folder / "why.png").width == 1430


def test_a_data_set(saved, folder, capsys):
    arguments = ["explain", "--data", "scenes:2", "--split", "validation", "--model", saved.model]
    pair = ["--class", "building", "--rival", "sky", "--csv", "pair.csv", "--out", "pair.png"]
    assert run([*arguments, *pair]) == 0
    shown = capsys.readouterr().out
    assert "pixels labeled as building in " in shown and " sky (" in shown
    rows = read_csv(folder / "pair.csv")
    assert {row["class"] for row in rows} == {"building"} and len(rows) == 40
    assert np.asarray(Image.open(folder / "pair.png")).std() > 0
    assert run([*arguments, "--out", "confusions.svg", "--json", "confusions.json", "--top", "2"]) == 0
    assert "labeled pixels" in capsys.readouterr().out
    content = json.loads((folder / "confusions.json").read_text())
    assert 1 <= len(content["pairs"]) <= 10 and "<svg" in (folder / "confusions.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--point", "1,2"], "Name at least one image, or a data set with --data"),
        (["IMAGE", "--data", "scenes"], "leave out images, --point and --region"),
        (["IMAGE"], "Give either --point X,Y or --region MASK, or --class NAME"),
        (["IMAGE", "--point", "1,2", "--region", "IMAGE"], "not both"),
        (["IMAGE", "--point", "1,2", "--class", "sk"], "There is no class 'sk'"),
        (["IMAGE", "--point", "1,2", "--rival", "sk"], "There is no class 'sk'"),
        (["IMAGE", "--point", "1,2", "--quantity", "logit"], "--quantity is 'logit'"),
        (["IMAGE", "--point", "1,2", "--csv", "no/x.csv"], "There is no folder"),
        (
            ["IMAGE", "IMAGE", "--point", "1,2", "--out", "why"],
            "Several images would write why/scene0_why.png",
        ),
        (["--data", "scenes:2", "--out", "x.bmp"], "does not end like a figure"),
        (["--data", "scenes:2", "--rival", "sky"], "--rival needs --class"),
        (["--data", "scenes:2", "--class", "sky", "--over", "all"], "--over is 'all'"),
        (["--data", "scenes:2", "--class", "skye"], "no class 'skye' in the model; did you mean 'sky'?"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(saved, folder, capsys, arguments, message):
    words = [str(saved.root / "scene0.png") if word == "IMAGE" else word for word in arguments]
    assert run(["explain", *words, "--model", saved.model]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
