import numpy as np
import pytest
import torch
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
