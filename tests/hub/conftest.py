"""A trained-looking model folder, a loopback hub, and fresh processes that talk to it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import ConvNextConfig

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessorPil, PropertySpace

sys.path.insert(0, str(Path(__file__).parent))
from loopback_hub import LoopbackHub


@pytest.fixture
def hub():
    server = LoopbackHub()
    yield server
    server.close()


@pytest.fixture
def client(hub, tmp_path):
    """Runs Python code in a fresh process whose Hub is the loopback server; returns the finished process."""

    def run(code, *, without_package=False, **environment):
        blocked = "import sys; sys.modules['prolab_hf'] = None\n" if without_package else ""
        variables = {
            **os.environ,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_test",
            "HF_HOME": str(tmp_path / "hf_home"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        return subprocess.run(
            [sys.executable, "-c", blocked + textwrap.dedent(code)],
            env={key: value for key, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
        )

    return run


@pytest.fixture
def model_folder(tmp_path):
    """A small model with processor, space, recipe, training state and results, as a run leaves it."""
    folder = tmp_path / "run"
    space = PropertySpace.random_codes(["cat", "dog", "car"], num_properties=12, density=0.3, seed=0)
    torch.manual_seed(0)
    backbone = ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1])
    model = ProLabForSemanticSegmentation.from_backbone(backbone, space, hidden_size=16, auxiliary_channels=8)
    model.save_pretrained(folder)
    ProLabImageProcessorPil.from_model_config(model.config, do_resize=False).save_pretrained(folder)
    (folder / "training_log.jsonl").write_text('{"event": "step", "train_seconds": 120.0}\n')
    (folder / "checkpoints" / "step-1" / "training_state").mkdir(parents=True)
    (folder / "checkpoints" / "step-1" / "training_state" / "optimizer.pt").write_bytes(b"state")
    Image.new("RGB", (40, 32), (90, 120, 60)).save(tmp_path / "image.jpg")
    return folder
