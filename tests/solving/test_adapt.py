"""Adapting trained networks of several families: what they knew is kept, and the folder loads everywhere.

The networks are small, but they are trained on drawn scenes, for seconds: random weights would show nothing.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    BeitConfig,
    BeitForSemanticSegmentation,
    BeitImageProcessorPil,
    ConvNextConfig,
    Data2VecVisionConfig,
    Data2VecVisionForSemanticSegmentation,
    DPTConfig,
    DPTForSemanticSegmentation,
    DPTImageProcessorPil,
    MobileNetV2Config,
    MobileNetV2ForSemanticSegmentation,
    MobileNetV2ImageProcessorPil,
    MobileViTConfig,
    MobileViTForSemanticSegmentation,
    MobileViTImageProcessorPil,
    ResNetConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    pipeline,
)

from prolab_hf import (
    ProLabConfig,
    ProLabForSemanticSegmentation,
    ProLabImageProcessorPil,
    PropertySpace,
    adapt,
    explain,
)
from prolab_hf.cli import run
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS, DrawnScenes
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.solving.adapt import REPORT_NAME, adapt_network

SIZE = 64
STAGES = ["stage1", "stage2", "stage3", "stage4"]
LABELS = {
    "id2label": dict(enumerate(SCENE_CLASSES)),
    "label2id": {name: index for index, name in enumerate(SCENE_CLASSES)},
}


def segformer():
    config = SegformerConfig(
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=32,
        **LABELS,
    )
    processor = SegformerImageProcessorPil(do_resize=False)
    return SegformerForSemanticSegmentation(config), processor


def _upernet(backbone, channels):
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=32,
        auxiliary_channels=8,
        auxiliary_in_channels=channels,
        pool_scales=[1, 2],
        **LABELS,
    )
    return UperNetForSemanticSegmentation(config), SegformerImageProcessorPil(do_resize=False)


def upernet_resnet():
    return _upernet(
        ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 24, 32, 48],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=STAGES,
        ),
        32,
    )


def upernet_convnext():
    return _upernet(
        ConvNextConfig(hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], out_features=STAGES), 32
    )


def _plain_transformer():
    return {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": SIZE,
        "patch_size": 16,
        **LABELS,
    }


def beit():
    config = BeitConfig(out_indices=[1, 2, 3, 4], use_relative_position_bias=True, **_plain_transformer())
    processor = BeitImageProcessorPil(
        do_resize=False, do_center_crop=False, do_reduce_labels=True, size={"height": SIZE, "width": SIZE}
    )
    return BeitForSemanticSegmentation(config), processor


def data2vec():
    config = Data2VecVisionConfig(
        out_indices=[1, 2, 3, 4], use_relative_position_bias=True, **_plain_transformer()
    )
    processor = BeitImageProcessorPil(do_resize=False, do_center_crop=False)
    return Data2VecVisionForSemanticSegmentation(config), processor


def dpt():
    config = DPTConfig(
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 24, 24],
        fusion_hidden_size=24,
        is_hybrid=False,
        **_plain_transformer(),
    )
    return DPTForSemanticSegmentation(config), DPTImageProcessorPil(do_resize=False)


def mobilevit():
    config = MobileViTConfig(
        image_size=SIZE,
        hidden_sizes=[16, 24, 32],
        neck_hidden_sizes=[8, 16, 16, 24, 24, 32, 48],
        aspp_out_channels=32,
        num_attention_heads=2,
        output_stride=8,
        **LABELS,
    )
    processor = MobileViTImageProcessorPil(do_resize=False, crop_size={"height": SIZE, "width": SIZE})
    return MobileViTForSemanticSegmentation(config), processor


def mobilenet():
    config = MobileNetV2Config(image_size=SIZE, depth_multiplier=0.25, output_stride=8, **LABELS)
    processor = MobileNetV2ImageProcessorPil(do_resize=False, crop_size={"height": SIZE, "width": SIZE})
    return MobileNetV2ForSemanticSegmentation(config), processor


FAMILIES = {
    function.__name__: function
    for function in (segformer, upernet_resnet, upernet_convnext, beit, data2vec, dpt, mobilevit, mobilenet)
}


DEFAULT = ("segformer", "upernet_resnet", "beit", "dpt")
TRAINING = {
    "mobilevit": {"steps": 120, "learning_rate": 3e-3},
    "mobilenet": {"steps": 120},
}  # slower than others
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES if name not in DEFAULT]


def scenes(split, number):
    return DrawnScenes(split, number, size=(SIZE, SIZE))


def train(network, processor, *, steps=40, batch_size=8, learning_rate=1e-2):
    """Cross-entropy in place; transformers starts layers too small for so few steps."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
    samples = list(scenes("train", 96))
    images = [sample.image for sample in samples]
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    labels = torch.from_numpy(np.stack([sample.mask for sample in samples])).long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.2)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(pixels), (batch_size,), generator=generator)
        logits = torch.nn.functional.interpolate(
            network(pixels[chosen]).logits, (SIZE, SIZE), mode="bilinear"
        )
        torch.nn.functional.cross_entropy(logits, labels[chosen], ignore_index=255).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return network.eval()


@pytest.fixture(scope="session")
def trained():
    """A trained network and its processor by the name of the family, each trained once."""
    known = {}

    def get(name):
        if name not in known:
            torch.manual_seed(0)
            network, processor = FAMILIES[name]()
            known[name] = train(network, processor, **TRAINING.get(name, {})), processor
        return known[name]

    return get


@pytest.fixture(scope="session")
def adapted(trained):
    """The segformer, adapted without labels."""
    network, processor = trained("segformer")
    images = [sample.image for sample in scenes("train", 24)]
    return adapt_network(network, "scenes", images, processor=processor)


@pytest.mark.parametrize("family", [*DEFAULT, *SLOW])
def test_what_a_trained_network_knew_is_kept(trained, family, tmp_path):
    network, processor = trained(family)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = adapt_network(
        network, "scenes", scenes("train", 24), processor=processor, learn_from="predictions"
    )
    report = result.report
    assert report.learned_from == "predictions"
    assert report.mean_iou_before > 0.15  # 0.03 by chance
    assert report.mean_iou_after > report.mean_iou_before - 0.03
    assert report.agreement > 0.85
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    kept = result.model.backbone.network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in kept.items())
    assert {name.split(".")[0] for name in before.keys() - kept.keys()} <= {
        report.class_layer.split(".")[0],
        "auxiliary_head",
    }
    result.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path).eval()
    values = AutoImageProcessor.from_pretrained(tmp_path)(
        images=scenes("test", 1)[0].image, return_tensors="pt"
    )["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(loaded(values).logits, result.model(values).logits, rtol=0, atol=1e-6)
    assert json.loads((tmp_path / REPORT_NAME).read_text())["agreement"] == report.agreement


IN_A_FRESH_PROCESS = """
import sys
import numpy as np
import torch
if sys.argv[2] == "installed":
    import prolab_hf
else:
    class Hide:  # as if the package were not installed
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "prolab_hf":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Hide())
from PIL import Image
from transformers import pipeline

found = pipeline("image-segmentation", model=sys.argv[1], trust_remote_code=sys.argv[2] != "installed")
arrays = np.load(sys.argv[1] + "/arrays.npz")
image = Image.fromarray(arrays["image"])
assert type(found.model).__module__.startswith("prolab_hf" if sys.argv[2] == "installed" else "transformers_modules")
with torch.no_grad():
    logits = found.model(found.image_processor(images=image, return_tensors="pt")["pixel_values"]).logits.numpy()
np.testing.assert_allclose(logits, arrays["logits"], rtol=0, atol=1e-5)
assert {item["label"] for item in found(image)} == set(arrays["labels"].tolist())
"""


@pytest.mark.parametrize("how", ["installed", "remote code"])
def test_the_folder_loads_in_a_fresh_process(adapted, how, tmp_path, monkeypatch):
    if how == "remote code":
        for cls, auto_class in (
            (ProLabConfig, "AutoConfig"),
            (ProLabForSemanticSegmentation, "AutoModelForSemanticSegmentation"),
        ):
            monkeypatch.setattr(cls, "_auto_class", auto_class)
    adapted.save_pretrained(tmp_path / "model")
    image = scenes("test", 1)[0].image
    found = pipeline("image-segmentation", model=adapted.model, image_processor=adapted.processor)(image)
    with torch.no_grad():
        values = adapted.processor(images=image, return_tensors="pt")["pixel_values"]
        logits = adapted.model(values).logits.numpy()
    labels = np.array([item["label"] for item in found])
    np.savez(tmp_path / "model" / "arrays.npz", image=np.asarray(image), logits=logits, labels=labels)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path / "model"), how],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_an_adapted_model_explains_takes_new_classes_and_trains(adapted, tmp_path):
    adapted.save_pretrained(tmp_path)
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path).eval()
    explanation = explain(model, adapted.processor, scenes("test", 1)[0].image, point=(30, 30))
    assert sum(share for _, share in explanation.contributions) <= explanation.score + 1e-5
    model.set_property_space(
        model.property_space.add_classes({HELD_OUT_CLASS: SCENE_DESCRIPTIONS[HELD_OUT_CLASS]})
    )
    assert model.config.class_offsets[-1] != 0  # its claim is measured on the network's own answers
    model.train()
    values = adapted.processor(images=scenes("test", 1)[0].image, return_tensors="pt")["pixel_values"]
    model(values, labels=torch.zeros(1, SIZE, SIZE, dtype=torch.long)).loss.backward()
    assert all(
        parameter.grad is not None
        for name, parameter in model.backbone.named_parameters()
        if "decode_head" in name
    )


def test_with_masks_they_are_what_is_learned(trained):
    network, processor = trained("segformer")
    source = scenes("train", 24)
    result = adapt_network(network, "scenes", source, processor=processor)
    assert result.report.learned_from == "masks"
    assert result.report.mean_iou_after > result.report.mean_iou_before - 0.02
    figure = evaluate(result.model, result.processor, source)["mean_iou"]
    assert figure == pytest.approx(result.report.mean_iou_after, abs=1e-6)
    figure = evaluate(network, processor, source)["mean_iou"]
    assert figure == pytest.approx(result.report.mean_iou_before, abs=1e-6)
    assert result.model.config.solution["adapted"]["learned_from"] == "masks"


def test_our_own_models_are_adapted_too(adapted):
    images = [sample.image for sample in scenes("train", 12)]
    again = adapt_network(adapted.model, "scenes", images, processor=adapted.processor)
    assert again.report.agreement > 0.9
    assert again.model.config.backbone_config.model_type == "adapted_network"


def test_classes_are_left_out_merged_and_renamed(trained):
    network, processor = trained("segformer")
    space = PropertySpace.from_pretrained("scenes")
    space = space.select_classes([name for name in SCENE_CLASSES if name != "road"])
    images = [sample.image for sample in scenes("train", 12)]
    with pytest.raises(ValueError, match="'road'"):
        adapt(network, space, images, processor=processor)
    model = adapt(
        network,
        space,
        images,
        processor=processor,
        class_names={"road": "floor", "rug": "floor", "car": None},
    )
    kept = [name for name in SCENE_CLASSES if name not in ("rug", "car", "floor")]
    assert list(model.config.id2label.values()) == ["floor" if name == "road" else name for name in kept]
    rows = {match["class_name"]: match["row"] for match in model.config.solution["adapted"]["matches"]}
    assert rows["rug"] == "floor" and rows["car"] is None and rows["sky"] == "sky"


def test_the_command(trained, tmp_path, capsys):
    network, processor = trained("segformer")
    network.save_pretrained(tmp_path / "network")
    processor.save_pretrained(tmp_path / "network")
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for index, sample in enumerate(scenes("train", 8)):
        sample.image.save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(sample.mask.astype(np.uint8)).save(tmp_path / "masks" / f"{index}.png")
    words = ["adapt", str(tmp_path / "network"), "--space", "scenes", "--images", str(tmp_path / "images")]
    words += [
        "--masks",
        str(tmp_path / "masks"),
        "--out",
        str(tmp_path / "out"),
        "--quiet",
        "--device",
        "cpu",
    ]
    assert run([*words, "--map", "rug=floor", "--map", "car="]) == 0
    shown = capsys.readouterr().out
    assert "rug" in shown and "given" in shown and "before" in shown
    assert "Left out, without a row (1): car." in shown and "│ car" not in shown
    config = (tmp_path / "out" / "config.json").read_text()
    assert str(tmp_path) not in config
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == len(SCENE_CLASSES) - 2
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"images": "empty"}, "holds no images"),
        ({"images": "missing"}, "does not exist"),
        ({"processor": object()}, "processor is a object"),
        ({"processor": None}, "pass its image processor"),
        ({"learn_from": "masks"}, "no masks are given"),
        ({"learn_from": "words"}, "learn_from is 'words'"),
        ({"masks": [np.zeros((SIZE, SIZE), np.uint8)]}, "one mask per image"),
        ({"masks": [np.full((SIZE, SIZE), 255, np.uint8)] * 6}, "labeled pixel"),
        ({"masks": [np.zeros((SIZE, SIZE), np.uint8)] * 6}, "at least two classes"),
        ({"masks": [np.full((SIZE, SIZE), 77, np.uint8)] * 6}, "holds 77"),
        ({"masks": [np.zeros((8, 8), np.uint8)] * 6}, "must agree"),
    ],
)
def test_bad_input_ends_in_one_sentence(trained, tmp_path, options, message):
    network, processor = trained("segformer")
    (tmp_path / "empty").mkdir()
    given = {"images": [sample.image for sample in scenes("train", 6)], "processor": processor, **options}
    if isinstance(given["images"], str):
        given["images"] = tmp_path / given["images"]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        adapt_network(network, "scenes", **given)


def test_processors_that_the_pipeline_would_misread_are_exchanged(trained):
    from transformers import MaskFormerImageProcessorPil

    from prolab_hf.solving.foreign_network import network_processor

    network, _ = trained("segformer")
    panoptic = MaskFormerImageProcessorPil(image_mean=[0.1, 0.2, 0.3], size={"height": SIZE, "width": SIZE})
    exchanged = network_processor(network, panoptic)
    assert isinstance(exchanged, ProLabImageProcessorPil)
    assert list(exchanged.image_mean) == [0.1, 0.2, 0.3]
    cropping = mobilevit()[1]
    assert cropping.do_center_crop
    kept = network_processor(network, cropping)
    assert type(kept) is type(cropping) and not kept.do_center_crop and cropping.do_center_crop
    assert network_processor(network, beit()[1]).do_reduce_labels
