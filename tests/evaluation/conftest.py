"""A tiny real model with its processor, and a smooth random image."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, ProLabImageProcessorPil

CLASSES = ["sky", "road", "tree", "car", "person"]
ROWS = [[0, 1], [1, 2, 3], [3, 4, 5, 6], [0, 5, 7], [2, 6, 7]]


@pytest.fixture(scope="session")
def make_model():
    """A model of 60,000 weights whose classes all occur in its predictions, by similarity mode."""

    def make(similarity="sigmoid_cosine"):
        backbone = ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16, 24, 32],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        torch.manual_seed(0)
        model = ProLabForSemanticSegmentation(
            ProLabConfig(
                backbone_config=backbone,
                hidden_size=16,
                auxiliary_channels=8,
                embedding_dim=12,
                num_properties=8,
                property_names=[f"property {k}" for k in range(8)],
                class_properties=ROWS,
                similarity=similarity,
                id2label=dict(enumerate(CLASSES)),
                label2id={name: k for k, name in enumerate(CLASSES)},
            )
        )
        torch.nn.init.normal_(model.decode_head.classifier.weight, std=0.5)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def model(make_model):
    return make_model()


@pytest.fixture(scope="session")
def processor():
    return ProLabImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 256})


@pytest.fixture(scope="session")
def image():
    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((131, 97), Image.Resampling.BICUBIC)
