import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig

from prolab_hf import PropertySpace
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil

NAMES = ["red", "green", "blue", "yellow"]
COLORS = np.array([[200, 30, 30], [30, 180, 40], [30, 40, 200], [210, 200, 30]])


def make_space(num_classes=4, seed=0, dim=8):
    """Colors that share properties: yellow is bright and warm, as green is bright and red is warm."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [1, 1, 0, 1, 1]]).float()
    return PropertySpace(
        class_names=NAMES[:num_classes],
        property_names=["reddish", "greenish", "bluish", "warm", "bright"],
        property_embeddings=torch.randn(5, dim, generator=generator),
        class_property_matrix=matrix[:num_classes],
        descriptions={
            "red": ["like fire", "warm"], "green": ["like leaves"], "blue": ["like the sky"], "yellow": ["like the sun"]
        } if num_classes == 4 else {"red": ["like fire", "warm"]},
    )  # fmt: skip


class Patches:
    """Images of colored blocks; void pixels at the right edge."""

    ignore_index = 255

    def __init__(self, length=10, size=64, classes=(0, 1, 2, 3), class_names=NAMES, start=0):
        self.length, self.size, self.classes, self.start = length, size, list(classes), start
        self.class_names = list(class_names)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng((5, self.start + index))
        ids = rng.choice(self.classes, size=(self.size // 16, self.size // 16)).repeat(16, 0).repeat(16, 1)
        pixels = COLORS[ids] + rng.normal(0, 12, size=(self.size, self.size, 3))
        mask = ids.astype(np.int32)
        mask[:, -2:] = self.ignore_index
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask


def backbone_config():
    return ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


@pytest.fixture(scope="session")
def space():
    return make_space()


@pytest.fixture(scope="session")
def processor():
    return ProLabImageProcessorPil(do_resize=False, temperature=0.5)


def solve_patches(dataset=None, seed=0, **options):
    from prolab_hf import solve

    torch.manual_seed(seed)
    return solve(
        backbone_config(),
        options.pop("space", make_space()),
        dataset if dataset is not None else Patches(),
        processor=ProLabImageProcessorPil(do_resize=False, temperature=0.5),
        device="cpu",
        **options,
    )


@pytest.fixture(scope="session")
def solved_once():
    return solve_patches(statistics="per_class")


@pytest.fixture
def solved(solved_once, tmp_path):
    """A fresh copy for tests that change it."""
    import copy

    model = copy.deepcopy(solved_once)
    model.solve_statistics = solved_once.solve_statistics.copy()
    return model
