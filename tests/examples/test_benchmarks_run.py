"""Benchmarks that wait for a machine, or for other libraries, still run: in their tiny form."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark here and gives what it printed."""

    def run(name, *arguments):
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        threads = torch.get_num_threads()
        try:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
        return capsys.readouterr().out

    return run


def test_gpu_smoke(run):
    """On whatever device there is: every table has its rows, and the loss and the blocks have their verdict."""
    printed = run("gpu.py", "--smoke", "--no-compile")
    assert (
        printed.count("| streamed") == 2
        and printed.count("loss is the faster one") + printed.count("PLAIN") == 2
    )
    assert printed.count("| 2^") == 6 and "Fastest: GPU_BLOCK_ELEMENTS = 2**" in printed
    for row in ("category, plain torch, float32", "property, float32", "property, bfloat16"):
        assert printed.count(f"| {row} ") == 2, printed


def test_peers_smoke(run):
    pytest.importorskip("segmentation_models_pytorch")
    printed = run("peers.py", "--smoke", "--tasks", "train", "segment", "evaluate")
    for line in ("upernet, 11 classes", "segformer, 11 classes"):
        assert line in printed
    for task in ("train", "segment", "evaluate"):
        assert printed.count(f"| {task}, CPU s") == 2


def test_loading_smoke(run):
    pytest.importorskip("torchvision")
    small = [
        "--number",
        "4",
        "--crop",
        "32",
        "--batch",
        "2",
        "--repeats",
        "1",
        "--batches",
        "1",
        "--workers",
        "0",
    ]
    printed = run("loading.py", *small, "--stream")
    for loader in ("plain PIL loop", "torchvision v2", "prolab_hf ", "prolab_hf, streamed"):
        assert f"| {loader}" in printed
