"""`push_to_hub` and `save_pretrained(push_to_hub=True)` of each part: what arrives is what lies in the folder."""

import pytest

from prolab_hf.remote_code import FILES, joined

REGISTERED = """
from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, ProLabImageProcessor, ProLabImageProcessorPil
ProLabConfig.register_for_auto_class()
ProLabForSemanticSegmentation.register_for_auto_class("AutoModelForSemanticSegmentation")
for processor_class in (ProLabImageProcessor, ProLabImageProcessorPil):
    processor_class.register_for_auto_class("AutoImageProcessor")
model = ProLabForSemanticSegmentation.from_pretrained("run")
config, processor = model.config, ProLabImageProcessorPil.from_pretrained("run")
"""
WAYS = {
    "push_to_hub": "{part}.push_to_hub('user/{part}')",
    "save_pretrained": "{part}.save_pretrained('saved_{part}', push_to_hub=True, repo_id='user/{part}')",
}
WITHOUT_PACKAGE = """
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline
options = {"trust_remote_code": True}
config = AutoConfig.from_pretrained("user/config", **options)
assert config.id2label[2] == "car", config.id2label
model = AutoModelForSemanticSegmentation.from_pretrained("user/model", **options)
processor = AutoImageProcessor.from_pretrained("user/processor", **options)
found = pipeline("image-segmentation", model=model, image_processor=processor)("image.jpg")
assert {item["label"] for item in found} <= {"cat", "dog", "car"}
"""


def code_in(files):
    return {name.removesuffix(".py"): data.decode() for name, data in files.items() if name.endswith(".py")}


@pytest.mark.parametrize("way", WAYS)
def test_each_part_arrives_with_the_joined_code(hub, client, model_folder, way):
    calls = "\n".join(WAYS[way].format(part=part) for part in ("config", "model", "processor"))
    done = client(REGISTERED + calls)
    assert done.returncode == 0, done.stderr
    for part in ("config", "model", "processor"):
        code = code_in(hub.files(f"user/{part}"))
        assert code == {name: joined(name) for name in code}, part
        assert set(code) <= set(FILES), part
    assert {"property_space.json", "property_space.safetensors", "model.safetensors"} <= set(
        hub.files("user/model")
    )
    loaded = client(WITHOUT_PACKAGE, without_package=True)
    assert loaded.returncode == 0, loaded.stderr


@pytest.mark.parametrize("way", WAYS)
def test_parts_pushed_into_one_repository_are_a_model(hub, client, model_folder, way):
    calls = "\n".join(
        WAYS[way].format(part=part).replace(f"user/{part}", "user/all") for part in ("model", "processor")
    )
    done = client(REGISTERED + calls)
    assert done.returncode == 0, done.stderr
    assert code_in(hub.files("user/all")) == {name: joined(name) for name in FILES}
    loaded = client(
        "from transformers import pipeline\n"
        "print(len(pipeline('image-segmentation', model='user/all', trust_remote_code=True)('image.jpg')))",
        without_package=True,
    )
    assert loaded.returncode == 0, loaded.stderr
