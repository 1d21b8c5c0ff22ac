"""The examples run as they stand, with fewer steps and images."""

import runpy
import sys

import pytest
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation


# Four images are fewer than a batch: the loop must not wait for a full one for ever.
@pytest.mark.parametrize("name", ["train_with_accelerate", "train_with_trainer"])
def test_example_trains_and_saves(name, repository, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["--steps", "2", "--images", "4", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [name, *words])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(repository / "examples" / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "mean IoU 0." in printed and f"saved to {out}" in printed
    model = AutoModelForSemanticSegmentation.from_pretrained(out)
    assert model.config.num_labels == len(model.property_space.class_names)
    AutoImageProcessor.from_pretrained(out)
