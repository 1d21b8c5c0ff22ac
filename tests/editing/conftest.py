"""A head solved on drawn scenes, whose words were encoded by an encoder small enough to know by heart."""

import hashlib

import numpy as np
import pytest
import torch
from transformers import ResNetConfig

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, PropertySpace, SpaceEditor, solve
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS, DrawnScenes
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.solving.claim_budget import calibrate

KIOSK = SCENE_DESCRIPTIONS[HELD_OUT_CLASS]


def word_vectors(texts):
    """Encoder: the mean of one fixed random vector per word, so that texts with common words are near."""
    return np.stack([np.mean([_word_vector(word) for word in text.split()], axis=0) for text in texts])


def _word_vector(word):
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).standard_normal(64)


def backbone_config():
    return ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )


@pytest.fixture(scope="session")
def scene_space():
    descriptions = {name: SCENE_DESCRIPTIONS[name] for name in SCENE_CLASSES}
    return PropertySpace.build(descriptions, encoder=word_vectors, name="drawn scenes")


@pytest.fixture(scope="session")
def scenes():
    return [DrawnScenes("test", 8, include_held_out=True)[index] for index in range(8)]


@pytest.fixture(scope="session")
def processor():
    return ProLabImageProcessorPil(do_resize=False)


@pytest.fixture(scope="session")
def solved(scene_space, processor):
    """A solved model; editors share its weights and never change it."""
    torch.manual_seed(0)
    model = solve(
        backbone_config(), scene_space, DrawnScenes("train", 16), processor=processor, device="cpu"
    ).eval()
    calibrate(model, DrawnScenes("validation", 8), processor)
    return model


@pytest.fixture(scope="session")
def trained(scene_space, processor):
    """A model with a head trained by gradient (not for long: its weights are random), calibrated."""
    torch.manual_seed(0)
    config = ProLabConfig(
        backbone_config=backbone_config(), hidden_size=16, auxiliary_channels=8, pool_scales=(1, 2),
        **scene_space.to_config_kwargs(),
    )  # fmt: skip
    model = ProLabForSemanticSegmentation(config)
    torch.nn.init.normal_(model.decode_head.classifier.weight, std=0.3)
    model.set_property_space(scene_space)
    calibrate(model, DrawnScenes("validation", 4), processor)
    return model.eval()


@pytest.fixture(params=["solved", "trained"])
def either(request):
    """Each kind of model in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def make_editor(processor, scenes):
    """A session with two scenes and their masks, whose last class the model does not know."""

    def make(model, *, encoder=word_vectors, masks=True, **options):
        editor = SpaceEditor(model, processor, encoder=encoder, **options)
        for index in (0, 1):
            editor.add_image(
                scenes[index].image,
                name=f"scene {index}",
                mask=scenes[index].mask if masks else None,
                mask_classes=[*SCENE_CLASSES, HELD_OUT_CLASS],
            )
        return editor

    return make
