"""Without torchvision, timm and sentence-transformers: what does not need them works, what does names the extra."""

import os
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

HIDE = """
import importlib.metadata, importlib.util, sys
import torch

hidden = set(sys.argv[1].split(","))

class Hide:  # as if these packages were not installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] in hidden else find_spec(name, *rest)
"""

A_WHOLE_WAY = """
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, ResNetConfig
import prolab_hf
from prolab_hf import PropertySpace, TrainingRecipe, evaluate, explain, segment, solve, train
from prolab_hf.data.scenes import DrawnScenes

torch.manual_seed(0)
maps = [f"stage{n}" for n in (1, 2, 3, 4)]
backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, layer_type="basic", out_features=maps)
space, images = PropertySpace.from_pretrained("scenes"), DrawnScenes("train", 8)
model = solve(backbone, space, images, show_progress=False)
recipe = TrainingRecipe.from_dict({"schedule": {"max_iterations": 2, "batch_size": 2}, "data": {"crop_size": 64}})
train(model, images, DrawnScenes("validation", 2), recipe=recipe, output_dir="run", show_progress=False)
model = AutoModelForSemanticSegmentation.from_pretrained("run")
processor = AutoImageProcessor.from_pretrained("run")
assert type(processor) is prolab_hf.ProLabImageProcessorPil is prolab_hf.ProLabImageProcessor
assert 0 <= evaluate(model, processor, DrawnScenes("test", 2), show_progress=False)["mean_iou"] <= 1
image = images[0].image
assert abs(sum(share for _, share in segment(model, processor, image).shares()) - 1) < 1e-6
why = explain(model, processor, image, point=(20, 30))
assert abs(sum(share for _, share in why.contributions) - why.score) < 1e-4
assert not hidden & {name.split(".")[0] for name in sys.modules}
"""

A_TIMM_BACKBONE = """
from prolab_hf import ProLabForSemanticSegmentation, PropertySpace

try:
    ProLabForSemanticSegmentation.from_backbone("timm/resnet18.a1_in1k", PropertySpace.from_pretrained("scenes"))
except (ImportError, OSError, ValueError) as error:
    assert "pip install 'prolab_hf[timm]'" in str(error), error
else:
    raise SystemExit("a timm backbone was made without timm")
"""

A_BUNDLED_MODEL = """
from PIL import Image
from prolab_hf.cli import run

Image.new("RGB", (64, 64)).save("image.png")
sys.exit(0 if run(["segment", "image.png", "--model", "street"]) == 2 else "a timm backbone was made without timm")
"""

AN_ENCODER = """
from prolab_hf import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder

words = {"car": ["four wheels", "on the road"], "tree": ["green leaves"]}
space = PropertySpace.build(words, encoder="encoder")
assert space.class_names == ["car", "tree"]
try:
    TextEncoder.load("encoder", pooling="modules")
except ImportError as error:
    assert 'pip install "prolab_hf[sentence-transformers]"' in str(error), error
else:
    raise SystemExit("the modules of sentence-transformers were found without it")
"""


def run_without(packages, code, folder):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", HIDE + code, packages],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def test_pillow_alone_solves_trains_saves_loads_and_explains(tmp_path):
    done = run_without("torchvision,timm,sentence_transformers", A_WHOLE_WAY, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [A_TIMM_BACKBONE, A_BUNDLED_MODEL], ids=["backbone", "bundled model"])
def test_without_timm_its_backbones_name_the_extra(tmp_path, code):
    done = run_without("timm", code, tmp_path)
    assert done.returncode == 0, done.stderr
    if code is A_BUNDLED_MODEL:
        assert "pip install 'prolab_hf[timm]'" in " ".join(done.stderr.split())
        assert "Traceback" not in done.stderr


def test_without_sentence_transformers_plain_encoders_build_a_space(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "four", "wheels", "road", "green", "leaves"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(tmp_path / "encoder")
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "encoder")
    done = run_without("sentence_transformers", AN_ENCODER, tmp_path)
    assert done.returncode == 0, done.stderr
