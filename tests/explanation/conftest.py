"""A tiny real model with its processor, and a smooth random image."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, SegformerConfig, SegformerForSemanticSegmentation

from prolab_hf import (
    ProLabConfig,
    ProLabForSemanticSegmentation,
    ProLabImageProcessorPil,
    PropertySpace,
    adapt,
    solve,
)
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS, DrawnScenes

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


@pytest.fixture(scope="session")
def scenes_processor():
    return ProLabImageProcessorPil(do_resize=False)


@pytest.fixture(scope="session")
def solved():
    """A solved model of drawn scenes with properties without words, and one class that is only described."""
    torch.manual_seed(0)
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    known = PropertySpace.from_pretrained("scenes")
    full = known.add_classes({HELD_OUT_CLASS: SCENE_DESCRIPTIONS[HELD_OUT_CLASS]})
    processor = ProLabImageProcessorPil(do_resize=False)
    model = solve(backbone, known, DrawnScenes("train", 12, size=(64, 96)), processor=processor, device="cpu")
    model.set_property_space(full, claim_budget=0.02)
    return model.eval()


@pytest.fixture(scope="session")
def adapted(scenes_processor):
    """A network with weights of its own whose last layer was solved from its answers."""
    torch.manual_seed(0)
    names = list(SCENE_CLASSES)
    config = SegformerConfig(
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate(names)),
        label2id={name: k for k, name in enumerate(names)},
    )
    images = [sample.image for sample in (DrawnScenes("train", 6, size=(64, 96))[k] for k in range(6))]
    space = PropertySpace.from_pretrained("scenes")
    network = SegformerForSemanticSegmentation(config)
    return adapt(network, space, images, processor=scenes_processor, device="cpu").eval()
