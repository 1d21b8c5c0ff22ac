import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from transformers import ResNetConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation
from prolab_hf.training.recipe import TrainingRecipe

CLASS_PROPERTIES = [[0, 1], [1, 2], [2, 3]]


class Stripes(Dataset):
    """Images of colored stripes; the color tells the class. Noise is drawn per (epoch, index)."""

    def __init__(self, length=8, size=32, broken=None):
        self.length, self.size, self.broken = length, size, broken
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.broken:
            raise ValueError(f"image stripes_{index}.png cannot be decoded")
        rng = np.random.default_rng((7, self.epoch, index))
        labels = np.repeat(rng.integers(0, 3, size=self.size // 8), 8)[:, None].repeat(self.size, axis=1)
        colors = np.eye(3)[labels].transpose(2, 0, 1) + rng.normal(0, 0.1, size=(3, self.size, self.size))
        return {
            "pixel_values": torch.from_numpy(colors).float(),
            "labels": torch.from_numpy(labels).long(),
        }


def build_model(seed=0, **kwargs):
    torch.manual_seed(seed)
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    fields = {
        "backbone_config": backbone,
        "hidden_size": 16,
        "embedding_dim": 8,
        "num_properties": 4,
        "class_properties": CLASS_PROPERTIES,
        "id2label": {0: "red", 1: "green", 2: "blue"},
        "label2id": {"red": 0, "green": 1, "blue": 2},
        "auxiliary_channels": 8,
        "pool_scales": (1, 2),
        "temperature": 0.3,
        "class_loss_weight": 1.0,
        "use_auxiliary_head": False,
        **kwargs,
    }
    return ProLabForSemanticSegmentation(ProLabConfig(**fields))


@pytest.fixture
def model():
    return build_model()


@pytest.fixture
def recipe():
    return TrainingRecipe(
        schedule={"max_iterations": 6, "batch_size": 2, "warmup_iterations": 1},
        optimizer={"learning_rate": 1e-2},
        data={"num_workers": 0, "crop_size": 32},
        evaluation={"every": 3},
        checkpoints={"every": 2},
        log_every=1,
    )


COLORS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], dtype=np.uint8)


def drawn_pairs(number=4, sizes=((32, 32),), seed=0):
    """Pairs (image, mask) of colored stripes as a user has them: a plain list."""
    rng = np.random.default_rng(seed)
    pairs = []
    for index in range(number):
        height, width = sizes[index % len(sizes)]
        mask = np.repeat(rng.integers(0, 3, size=-(-height // 8)), 8)[:height, None].repeat(width, axis=1)
        noise = rng.integers(0, 30, size=(height, width, 3), dtype=np.uint8)
        mask[0] = 255
        pairs.append((Image.fromarray(COLORS[np.minimum(mask, 2)] + noise), mask.astype(np.int32)))
    return pairs


def write_folder(root, number=4, seed=0):
    """The same pairs as files `images/0.png` and `masks/0.png`."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for index, (image, mask) in enumerate(drawn_pairs(number, seed=seed)):
        image.save(root / "images" / f"{index}.png")
        Image.fromarray(mask.astype(np.uint8)).save(root / "masks" / f"{index}.png")
    return root
