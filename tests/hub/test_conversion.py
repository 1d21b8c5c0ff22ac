"""`prolab convert` from a file with the layout of a published checkpoint to a folder that loads."""

import hashlib
import json

import numpy as np
import pytest
import torch

from prolab_hf import ProLabForSemanticSegmentation, PropertySpace
from prolab_hf.cli import run
from prolab_hf.hub.conversion import convert_checkpoint, original_model_cfg
from prolab_hf.hub.original_checkpoints import config_from_original, convert_original_state_dict
from prolab_hf.training.published_recipes import get_recipe, recipe_names

LAYOUTS = {
    "ade20k-deit-base": ("keys_deit_base_ade20k.txt", 492),
    "ade20k-beit-large": ("keys_beit_large_640_ade20k.txt", 732),
    "ade20k-beitv2-large": ("keys_beitv2_large_896_ade20k.txt", 732),
}
DTYPES = {"float32": torch.float32, "int64": torch.int64}


def published_state(shared, file, device="cpu"):
    """A state dict with the keys and shapes of a published checkpoint; each tensor is one stored number."""
    state = {}
    for line in (shared / "goldens" / file).read_text().splitlines():
        if line and not line.startswith("#"):
            key, dtype, shape, _ = line.split("\t")
            size = json.loads(shape)
            state[key] = torch.full([1] * len(size), 0.01, device=device).to(DTYPES[dtype]).expand(size)
    return state


def space_of(recipe, dim=768):
    names = [f"class {k}" for k in range(150)]
    space = PropertySpace.random_codes(names, num_properties=recipe.model.num_properties, density=0.04)
    generator = torch.Generator().manual_seed(0)
    return space.replace(
        property_embeddings=torch.randn(recipe.model.num_properties, dim, generator=generator)
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_key_of_the_published_layouts_is_mapped(shared, name):
    file, count = LAYOUTS[name]
    state = published_state(shared, file, device="meta")
    assert len(state) == count
    recipe = get_recipe(name)
    space = space_of(recipe)
    config = config_from_original(original_model_cfg(recipe, space), space)
    converted = convert_original_state_dict(state, config)
    with torch.device("meta"):
        expected = ProLabForSemanticSegmentation(config).state_dict()
    assert set(converted) == set(expected) - {"property_embeddings"}
    assert config.temperature == recipe["config.temperature"]
    assert config.normalize_pixel_embeddings == recipe["config.normalize_pixel_embeddings"]
    assert (config.auxiliary_loss_weight, config.void_pixels) == (1.0, "dilute")


def test_all_seven_published_runs_have_a_network():
    published = [name for name in recipe_names() if get_recipe(name).model.vit_adapter]
    assert len(published) == 7
    for name in published:
        recipe = get_recipe(name)
        space = space_of(recipe)
        config = config_from_original(original_model_cfg(recipe, space), space)
        assert config.hidden_size == recipe["config.hidden_size"]
        assert config.num_properties == recipe.model.num_properties


@pytest.fixture(scope="module")
def files(shared, tmp_path_factory):
    """A checkpoint and an embedding bank as the reference writes them, optimizer state included."""
    folder = tmp_path_factory.mktemp("original")
    state = published_state(shared, LAYOUTS["ade20k-deit-base"][0])
    meta = {"CLASSES": ("wall", "building"), "iter": 160000, "mmseg_version": "0.27.0"}
    torch.save({"meta": meta, "state_dict": state, "optimizer": {"state": {}}}, folder / "iter_160000.pth")
    generator = np.random.default_rng(0)
    labels = (generator.random((256, 150)) < 0.04).astype(np.float64)
    labels[np.arange(150), np.arange(150)] = 1
    bank = generator.standard_normal((768, 256))
    words = {f"class {k}": ["thing"] for k in range(150)}
    content = {"descriptions": words, "bge_gpt3.5_cluster_256_embeddings_and_labels": [bank, labels]}
    torch.save(content, folder / "bank.pth")
    return folder


def test_convert_writes_a_complete_folder(files, tmp_path):
    out = tmp_path / "converted"
    arguments = [
        "convert", str(files / "iter_160000.pth"), "--space", str(files / "bank.pth"),
        "--recipe", "ade20k-deit-base", "--out", str(out),
    ]  # fmt: skip
    assert run(arguments) == 0
    assert {path.name for path in out.iterdir()} >= {
        "config.json", "model.safetensors", "preprocessor_config.json", "property_space.json", "README.md",
        "training_recipe.json",
    }  # fmt: skip
    digest = hashlib.sha256((files / "iter_160000.pth").read_bytes()).hexdigest()
    assert digest in (out / "README.md").read_text()
    processor = json.loads((out / "preprocessor_config.json").read_text())
    assert processor["size"] == {"longest_edge": 2048, "shortest_edge": 512}
    assert processor["size_divisor"] == 32
    assert (processor["crop_size"], processor["stride"]) == (512, 341)
    model = ProLabForSemanticSegmentation.from_pretrained(out)
    assert model.property_space.class_names[3] == "class 3"
    assert torch.allclose(model.decode_head.classifier.weight, torch.tensor(0.01))
    assert run(arguments) == 2  # the folder is not empty


def test_files_that_do_not_fit_are_refused_and_nothing_is_written(files, tmp_path, capsys):
    out = tmp_path / "out"
    bank = str(files / "bank.pth")

    def convert(checkpoint, recipe="ade20k-deit-base"):
        return run(["convert", str(checkpoint), "--space", bank, "--recipe", recipe, "--out", str(out)])

    assert convert(files / "absent.pth") == 2
    assert "There is no checkpoint" in capsys.readouterr().err
    assert convert(files / "bank.pth") == 2
    assert "holds no weights" in capsys.readouterr().err
    assert convert(files / "iter_160000.pth", "small") == 2
    assert "not one of the published runs" in capsys.readouterr().err
    assert convert(files / "iter_160000.pth", "ade20k-beit-large") == 2
    assert "missing" in capsys.readouterr().err
    assert not out.exists()


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_file_is_not_executed(tmp_path, capsys):
    torch.save({"state_dict": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="not a checkpoint that can be read safely"):
        convert_checkpoint(tmp_path / "bad.pth", "ade20k", "ade20k-deit-base", tmp_path / "out")
    assert "executed" not in capsys.readouterr().out
