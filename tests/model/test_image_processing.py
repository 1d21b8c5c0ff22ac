"""Image processors: sizes, label maps, both backends, post-processing, saving, remote code, pipeline."""

import functools
import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, ConvNextConfig, pipeline
from transformers.image_utils import SizeDict
from transformers.utils import is_torchvision_available

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.image_processing_prolab import ProLabImageProcessor
from prolab_hf.model.label_maps_prolab import fit_size
from prolab_hf.model.modeling_prolab import ProLabSemanticSegmenterOutput

BACKENDS = [ProLabImageProcessorPil] + ([ProLabImageProcessor] if is_torchvision_available() else [])
both_backends = pytest.mark.parametrize("processor_class", BACKENDS)
EXACT = {"height": 32, "width": 48}
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def draw(height=40, width=60, seed=0):
    """An image (height, width, 3) with smooth areas and edges, as uint8."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 30, (height, width, 3))
    waves = np.stack([rows * 4 % 200, columns * 3 % 200, (rows + columns) * 2 % 200], axis=-1)
    return (waves + noise).astype(np.uint8)


def nearest(labels, size):
    """Plain formula: the pixel whose area contains the center of the target pixel."""
    height, width = labels.shape
    rows = [int((i + 0.5) * height / size[0]) for i in range(size[0])]
    columns = [int((j + 0.5) * width / size[1]) for j in range(size[1])]
    return labels[np.ix_(rows, columns)]


# ---- sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "size", "divisor", "expected"),
    [
        ((480, 640), {"shortest_edge": 512, "longest_edge": 2048}, 32, (512, 704)),  # 682.67 -> 683 -> 704
        ((640, 480), {"shortest_edge": 512, "longest_edge": 2048}, 32, (704, 512)),
        ((1024, 2048), {"shortest_edge": 512, "longest_edge": 2048}, 32, (512, 1024)),
        ((300, 3000), {"shortest_edge": 512, "longest_edge": 2048}, 32, (224, 2048)),  # 204.8 -> 205 -> 224
        ((375, 500), {"shortest_edge": 480, "longest_edge": 2048}, 32, (480, 640)),  # already multiples
        ((480, 640), {"shortest_edge": 512}, None, (512, 682)),  # transformers' truncation
        ((100, 200), {"longest_edge": 50}, None, (25, 50)),
        ((100, 200), {"max_height": 10, "max_width": 1000}, None, (10, 20)),
        ((480, 640), {"height": 33, "width": 47}, 32, (33, 47)),  # exact is exact
        ((1, 4000), {"longest_edge": 100}, None, (1, 100)),
    ],
)
def test_size_of_a_image(image, size, divisor, expected):
    assert fit_size(*image, size=SizeDict(**size), size_divisor=divisor) == expected


def test_size_without_an_understood_entry_is_refused():
    with pytest.raises(ValueError, match="shortest_edge"):
        fit_size(10, 10, size=SizeDict(min_pixels=5, max_pixels=9), size_divisor=None)


@both_backends
def test_published_protocol_is_the_default(processor_class):
    values = processor_class()(draw(60, 80), return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 3, 512, 704)
    assert values.dtype == torch.float32
    assert processor_class(size=64, size_divisor=16).size == {"shortest_edge": 64}


# ---- images ---------------------------------------------------------------------------------------------


@both_backends
def test_values_are_scaled_and_normalized(processor_class):
    image = draw()
    expected = torch.from_numpy(((image / 255 - MEAN) / STD).transpose(2, 0, 1)[None]).float()
    processor = processor_class(do_resize=False)
    for same in (Image.fromarray(image), image, torch.from_numpy(image).permute(2, 0, 1)):
        torch.testing.assert_close(processor(same, return_tensors="pt")["pixel_values"], expected)


@both_backends
def test_resizing_equals_pillow(processor_class):
    image = draw()
    expected = np.asarray(Image.fromarray(image).resize((48, 32), Image.Resampling.BILINEAR))
    values = processor_class(size=EXACT, do_normalize=False)(image, return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(values[0].transpose(1, 2, 0) * 255, expected, atol=1.01)


@both_backends
def test_gray_palette_and_transparent_images_become_rgb(processor_class):
    processor = processor_class(do_resize=False, do_normalize=False)
    gray = Image.fromarray(draw()[..., 0])
    values = processor(gray, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(values[0], values[2])
    assert processor(gray.convert("P"), return_tensors="pt")["pixel_values"].shape == (1, 3, 40, 60)
    transparent = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert processor(transparent, return_tensors="pt")["pixel_values"].min() == 1.0  # nothing on white


@both_backends
def test_as_many_channels_as_means(processor_class):
    processor = processor_class(do_resize=False, image_mean=[0.0] * 4, image_std=[1.0] * 4)
    image = np.concatenate([draw(), draw()[..., :1]], axis=-1)
    values = processor(image, input_data_format="channels_last", return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(values[0].transpose(1, 2, 0), image / 255, atol=1e-6)


@both_backends
def test_batch_of_different_sizes(processor_class):
    images = [draw(40, 60), draw(60, 40)]
    maps = [image[..., 0].astype(np.int64) for image in images]
    processor = processor_class(do_resize=False)
    assert [tuple(v.shape) for v in processor(images)["pixel_values"]] == [(3, 40, 60), (3, 60, 40)]
    with pytest.raises(ValueError, match="40 x 60, 60 x 40"):
        processor(images, return_tensors="pt")
    batch = processor(images, maps, do_pad=True, ignore_index=999, return_tensors="pt")
    assert batch["pixel_values"].shape == (2, 3, 60, 60)
    assert batch["pixel_values"][0, :, 40:].abs().max() == 0
    assert (batch["labels"][0, 40:] == 999).all() and (batch["labels"][1, :, 40:] == 999).all()
    np.testing.assert_array_equal(batch["labels"][0, :40], maps[0])
    padded = processor(images, maps, do_pad=True, pad_size={"height": 64, "width": 96}, return_tensors="pt")
    assert padded["labels"].shape == (2, 64, 96)


# ---- label maps -------------------------------------------------------------------------------------------


@both_backends
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int32", "int64", "tensor", "L", "I;16", "I", "file"])
def test_label_maps_keep_their_ids(processor_class, kind, tmp_path):
    largest = 255 if kind in ("uint8", "L", "file") else 65535
    ids = np.random.default_rng(1).integers(0, largest + 1, (40, 60))
    dtype = {"L": "uint8", "I;16": "uint16", "I": "int32", "tensor": "int64", "file": "uint8"}.get(kind, kind)
    label_map = ids.astype(dtype)
    if kind == "tensor":
        label_map = torch.from_numpy(label_map)
    elif kind in ("L", "I;16", "I"):
        label_map = Image.fromarray(label_map)
        assert label_map.mode == kind
    elif kind == "file":
        Image.fromarray(label_map).save(tmp_path / "mask.png")
        label_map = tmp_path / "mask.png"
    labels = processor_class(size=EXACT)(draw(), label_map, return_tensors="pt")["labels"]
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(labels[0].numpy(), nearest(ids, (32, 48)))


@both_backends
def test_palette_index_is_the_id(processor_class):
    ids = np.arange(48, dtype=np.uint8).reshape(6, 8)
    label_map = Image.fromarray(ids, mode="L").convert("P")
    label_map.putdata(ids.ravel().tolist())
    labels = processor_class(do_resize=False)(draw(6, 8), [label_map], return_tensors="np")["labels"]
    np.testing.assert_array_equal(labels[0], ids)


@both_backends
def test_reduced_labels(processor_class):
    label_map = np.array([[0, 1, 2, 255, 300]])
    processor = processor_class(do_resize=False, do_reduce_labels=True)
    labels = processor(Image.fromarray(draw(1, 5)), label_map, return_tensors="np")["labels"][0]
    np.testing.assert_array_equal(labels, [[255, 0, 1, 255, 299]])
    labels = processor(Image.fromarray(draw(1, 5)), label_map, ignore_index=-1, return_tensors="np")[
        "labels"
    ][0]
    np.testing.assert_array_equal(labels, [[-1, 0, 1, 254, 299]])


@both_backends
def test_callers_arrays_are_not_changed(processor_class):
    image, label_map = draw(), draw()[..., 0].astype(np.int64)
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    before = image.copy(), label_map.copy(), tensor.clone()
    processor = processor_class(do_resize=False, do_reduce_labels=True)
    processor(image, label_map, return_tensors="pt")["labels"].add_(7)
    processor(tensor, label_map, do_rescale=False, return_tensors="pt")["pixel_values"].add_(7)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(label_map, before[1])
    assert torch.equal(tensor, before[2])


@both_backends
@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (np.zeros((30, 60), int), "30 x 60 .* 40 x 60"),
        ([np.zeros((40, 60), int)] * 2, "1 images but 2"),
        ([draw()], "one class id"),
        (np.full((40, 60), 0.5), "whole numbers"),
        (np.full((40, 60), np.nan), "whole numbers"),
        ([{"mask": 1}], "dict"),
    ],
)
def test_unfit_label_maps_are_refused(processor_class, maps, message):
    with pytest.raises((ValueError, TypeError), match=message):
        processor_class(size=EXACT)(draw(), maps)


@both_backends
@pytest.mark.parametrize(
    "option",
    [{"size_divisor": 0}, {"temperature": 0.0}, {"temperature": float("nan")}, {"do_center_crop": True}],
)
def test_unfit_options_are_refused_at_once(processor_class, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        processor_class(**option)
    with pytest.raises(ValueError, match=next(iter(option))):
        processor_class(do_resize=False)(draw(), **option)


# ---- outputs ----------------------------------------------------------------------------------------------


def make_output(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 8, 6, generator=generator).to(dtype)
    return ProLabSemanticSegmenterOutput(logits=logits, property_logits=0.1 * logits[:, :3] - 0.02)


@both_backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_semantic_maps(processor_class, dtype):
    processor, output = processor_class(), make_output(dtype)
    for sizes in ([(16, 13), (5, 31)], torch.tensor([[16, 13], [5, 31]])):
        maps = processor.post_process_semantic_segmentation(output, target_sizes=sizes)
        for index, (height, width) in enumerate([(16, 13), (5, 31)]):
            up = F.interpolate(
                output.logits[index : index + 1].float(), size=(height, width), mode="bilinear"
            )
            assert maps[index].dtype == torch.int64
            assert torch.equal(maps[index], up[0].argmax(0))
    maps = processor.post_process_semantic_segmentation(output)
    assert torch.equal(torch.stack(maps), output.logits.argmax(1))


@both_backends
def test_semantic_maps_with_scores(processor_class):
    output, sizes = make_output(), [(16, 13), (5, 31)]
    processor = processor_class()
    plain = processor.post_process_semantic_segmentation(output, sizes)
    scored = processor.post_process_semantic_segmentation(output, sizes, return_segmentation_scores=True)
    for labels, item, size in zip(plain, scored, sizes):
        assert torch.equal(item.segmentation, labels)
        assert item.segmentation_scores.shape == (5, *size)
        assert torch.equal(item["segmentation_scores"].argmax(0), labels)
    unsized = processor.post_process_semantic_segmentation(output, return_segmentation_scores=True)
    assert torch.equal(unsized[1].segmentation_scores, output.logits[1])


@both_backends
def test_property_maps(processor_class):
    config = ProLabConfig(temperature=0.01, semantic_loss_ignore_index=-1)
    processor, output = processor_class.from_model_config(config, do_reduce_labels=True), make_output()
    assert (processor.temperature, processor.ignore_index, processor.do_reduce_labels) == (0.01, -1, True)
    maps = processor.post_process_properties(output, target_sizes=[(16, 12)] * 2)
    scores = torch.sigmoid(output.property_logits / 0.01)
    expected = F.interpolate(scores, size=(16, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(torch.stack(maps), expected)
    assert maps[0].min() >= 0 and maps[0].max() <= 1
    soft = processor.post_process_properties(output, temperature=1.0)
    torch.testing.assert_close(torch.stack(soft), torch.sigmoid(output.property_logits))
    with pytest.raises(ValueError, match="temperature"):
        processor.post_process_properties(output, temperature=0)


@both_backends
@pytest.mark.parametrize("sizes", [[(4, 4)], [(4, 4)] * 3, [(4, 4), (0, 4)], [(4, 4), (4, 4, 3)]])
def test_unfit_target_sizes_are_refused(processor_class, sizes):
    processor = processor_class()
    for method in (processor.post_process_semantic_segmentation, processor.post_process_properties):
        with pytest.raises(ValueError, match="target_sizes"):
            method(make_output(), target_sizes=sizes)


@both_backends
def test_no_method_that_would_hijack_the_pipeline(processor_class):
    # The pipeline prefers panoptic over instance over semantic post-processing by the methods it finds.
    assert not hasattr(processor_class, "post_process_panoptic_segmentation")
    assert not hasattr(processor_class, "post_process_instance_segmentation")


# ---- both backends, saved and loaded ----------------------------------------------------------------------


@pytest.mark.skipif(len(BACKENDS) < 2, reason="torchvision is not installed")
def test_backends_agree():
    image, label_map = draw(123, 211), np.random.default_rng(0).integers(0, 999, (123, 211))
    batches = [c(size={"shortest_edge": 64})(image, label_map, return_tensors="pt") for c in BACKENDS]
    assert batches[0]["pixel_values"].shape == (1, 3, 64, 128)
    # One gray level of 255, divided by the smallest standard deviation.
    torch.testing.assert_close(batches[0]["pixel_values"], batches[1]["pixel_values"], atol=0.018, rtol=0)
    assert torch.equal(batches[0]["labels"], batches[1]["labels"])


@both_backends
def test_saved_options_come_back_in_any_backend(processor_class, tmp_path):
    options = {
        "size": {"longest_edge": 96},
        "size_divisor": None,
        "image_mean": [0.5] * 3,
        "ignore_index": -1,
        "temperature": 0.01,
        "do_reduce_labels": True,
    }
    processor = processor_class(**options)
    processor.save_pretrained(tmp_path)
    saved = processor.to_dict()
    assert saved["image_processor_type"] == "ProLabImageProcessor"
    assert saved["size_divisor"] is None
    assert "auto_map" not in saved
    for other in BACKENDS:
        assert other.from_pretrained(tmp_path).to_dict() == saved
        backend = other().backend
        loaded = AutoImageProcessor.from_pretrained(tmp_path, backend=backend)
        assert type(loaded) is other
        assert loaded.to_dict() == saved
    assert processor_class.from_pretrained(tmp_path, temperature=0.5).temperature == 0.5


WITHOUT_TORCHVISION = """
import sys, numpy as np
hidden = {"torchvision", "timm", "prolab_hf"}

class Hide:  # as if these packages were not installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *_: None if name.split(".")[0] in hidden else find_spec(name, *_)

from transformers import AutoImageProcessor
folder = sys.argv[1]
inputs = np.load(folder + "/inputs.npz")
remote = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
assert type(remote).__name__ == "ProLabImageProcessorPil", type(remote)
assert type(remote).__module__.startswith("transformers_modules."), type(remote)
remote.save_pretrained(folder + "/again")
again = AutoImageProcessor.from_pretrained(folder + "/again", trust_remote_code=True)

hidden.remove("prolab_hf")
import prolab_hf
local = AutoImageProcessor.from_pretrained(folder)
assert type(local) is prolab_hf.ProLabImageProcessor is prolab_hf.ProLabImageProcessorPil, type(local)

for processor in (remote, again, local):
    batch = processor(inputs["image"], inputs["labels"], return_tensors="np")
    assert np.array_equal(batch["pixel_values"], inputs["pixel_values"])
    assert np.array_equal(batch["labels"], inputs["new_labels"])
"""


def test_in_a_fresh_process_without_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr(BACKENDS[-1], "_auto_class", "AutoImageProcessor")
    BACKENDS[-1](size=EXACT, temperature=0.01).save_pretrained(tmp_path)
    image, labels = draw(), np.arange(2400).reshape(40, 60)
    batch = ProLabImageProcessorPil(size=EXACT)(image, labels, return_tensors="np")
    arrays = {"pixel_values": batch["pixel_values"], "new_labels": batch["labels"]}
    np.savez(tmp_path / "inputs.npz", image=image, labels=labels, **arrays)
    command = [sys.executable, "-c", WITHOUT_TORCHVISION, str(tmp_path)]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr
    shipped = {path.name for path in (tmp_path / "again").glob("*.py")}
    assert {"image_processing_prolab.py", "image_processing_pil_prolab.py"} <= shipped


def test_class_without_its_library_says_so(monkeypatch):
    monkeypatch.setattr("transformers.utils.import_utils.is_torchvision_available", lambda: False)
    monkeypatch.setattr(
        "transformers.utils.import_utils.BACKENDS_MAPPING",
        {"torchvision": (lambda: False, "{0} needs torchvision"), "torch": (lambda: True, "")},
    )
    with pytest.raises(ImportError, match="torchvision"):
        ProLabImageProcessor()


@pytest.fixture(scope="module")
def tiny_model():
    torch.manual_seed(0)
    backbone = ConvNextConfig(
        hidden_sizes=[4, 8, 12, 16],
        depths=[1, 1, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = ProLabConfig(
        backbone_config=backbone,
        hidden_size=8,
        embedding_dim=6,
        num_properties=5,
        auxiliary_channels=8,
        id2label={0: "road", 1: "car", 2: "tree"},
        label2id={"road": 0, "car": 1, "tree": 2},
        class_properties=[[0, 1], [1, 2, 3], [4]],
    )
    return ProLabForSemanticSegmentation(config).eval()


@both_backends
def test_pipeline_gives_the_labels_of_the_processor(processor_class, tiny_model, tmp_path):
    processor = processor_class(size={"shortest_edge": 64})
    tiny_model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    images = [Image.fromarray(draw(50, 70, seed)) for seed in range(2)]
    with torch.no_grad():
        output = tiny_model(**processor(images, return_tensors="pt"))
    expected = processor.post_process_semantic_segmentation(output, target_sizes=[(50, 70)] * 2)
    segmenter = pipeline("image-segmentation", model=str(tmp_path), image_processor=processor)
    for answers, labels in zip(segmenter(images), expected):
        names = {tiny_model.config.id2label[int(k)] for k in labels.unique()}
        assert {answer["label"] for answer in answers} == names
        for answer in answers:
            k = tiny_model.config.label2id[answer["label"]]
            np.testing.assert_array_equal(np.asarray(answer["mask"]) > 0, (labels == k).numpy())


def test_ways_to_call_the_pipeline(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    BACKENDS[-1](size={"shortest_edge": 64}).save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is BACKENDS[-1]
    image = Image.fromarray(draw(50, 70))
    image.save(tmp_path / "image.png")
    segmenter = pipeline("image-segmentation", model=str(tmp_path))
    answers = segmenter(image)
    assert answers and all(answer["mask"].size == (70, 50) for answer in answers)
    assert segmenter(str(tmp_path / "image.png")) == answers
    assert segmenter([image])[0] == answers
    assert segmenter(image, subtask="semantic") == answers
    with pytest.raises(ValueError, match="panoptic"):
        segmenter(image, subtask="panoptic")


def test_an_image_behind_a_url_is_fetched_with_the_client_that_is_there(tmp_path):
    image = Image.new("RGB", (40, 30), (9, 99, 9))
    image.save(tmp_path / "green.png")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fetched = ProLabImageProcessorPil()(
            f"http://127.0.0.1:{server.server_port}/green.png", return_tensors="pt"
        )
        server.shutdown()
    assert torch.equal(
        fetched["pixel_values"], ProLabImageProcessorPil()(image, return_tensors="pt")["pixel_values"]
    )


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """No lines on standard error."""
