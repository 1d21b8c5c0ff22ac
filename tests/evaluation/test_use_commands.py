"""`prolab evaluate`, `segment` and `explain` on a saved model, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import (
    AutoImageProcessor,
    BertConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
    pipeline,
)

from prolab_hf.cli import run
from prolab_hf.data.formats.imported import ImportOptions
from prolab_hf.data.formats.reading import read_export
from prolab_hf.evaluation.inference import segment


@pytest.fixture(scope="module")
def saved(model, processor, image, tmp_path_factory):
    """A folder with model and processor, an image beside it, and a labeled data set."""
    root = tmp_path_factory.mktemp("saved")
    model.save_pretrained(root / "model")
    processor.save_pretrained(root / "model")
    image.save(root / "street.png")
    # The saved processor may come back with its other backend, whose resizing differs in the last bit.
    reloaded = AutoImageProcessor.from_pretrained(root / "model")
    labels = segment(model, reloaded, image).labels.numpy().astype(np.uint8)
    for kind, content in (("images", image), ("masks", Image.fromarray(labels))):
        (root / "data" / "test" / kind).mkdir(parents=True)
        content.save(root / "data" / "test" / kind / "street.png")
    return root


@pytest.fixture
def folder(saved, tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_evaluate_writes_json_and_prints_the_table(saved, folder, capsys):
    arguments = [
        "evaluate",
        saved / "data",
        "--split",
        "test",
        "--model",
        saved / "model",
        "--boundary",
        "0.02",
    ]
    assert run([*map(str, arguments), "--out", "result.json"]) == 0
    results = json.loads((folder / "result.json").read_text())
    assert results["mean_iou"] == 1.0 and results["pixel_accuracy"] == 1.0, "the labels are the model's own"
    assert results["mean_boundary_iou"] == 1.0 and results["num_images"] == 1
    assert [row["name"] for row in results["per_class"]] == ["sky", "road", "tree", "car", "person"]
    printed = capsys.readouterr().out
    assert "mean IoU" in printed and "100.00 %" in printed and "person" in printed


def test_segment_gives_the_labels_of_the_pipeline(saved, folder, image, capsys):
    arguments = [
        "segment",
        saved / "street.png",
        "--model",
        saved / "model",
        "--out",
        "over.png",
        "--labels",
        "ids",
    ]
    assert run([str(argument) for argument in arguments]) == 0
    over = Image.open(folder / "over.png")
    assert over.width > 7 * image.width, "enlarged, with a legend"
    ids = np.asarray(Image.open(folder / "ids" / "street.png"))
    for entry in pipeline("image-segmentation", model=str(saved / "model"))(str(saved / "street.png")):
        index = ["sky", "road", "tree", "car", "person"].index(entry["label"])
        np.testing.assert_array_equal(np.asarray(entry["mask"]) > 0, ids == index)
    assert "over.png: " in capsys.readouterr().out


def test_segment_several_images_goes_on_after_a_broken_one(saved, folder, image, capsys):
    image.save(folder / "a.png")
    (folder / "broken.png").write_bytes(b"no image")
    arguments = ["segment", "a.png", "broken.png", str(saved / "street.png"), "--model", str(saved / "model")]
    assert run([*arguments, "--out", "all", "--mode", "slide", "--flip"]) == 2
    assert sorted(path.name for path in (folder / "all").iterdir()) == ["a_overlay.png", "street_overlay.png"]
    errors = capsys.readouterr().err
    assert "broken.png" in errors and "1 of 3 images" in errors


def test_explain_as_text_json_and_figure(saved, folder, capsys):
    arguments = ["explain", str(saved / "street.png"), "--model", str(saved / "model"), "--point", "60,40"]
    assert run([*arguments, "--top", "2"]) == 0
    assert "The pixel at (60, 40) is" in capsys.readouterr().out
    assert run([*arguments, "--json", "-", "--out", "why.png"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert sum(entry["share"] for entry in data["contributions"]) == pytest.approx(data["score"])
    assert Image.open(folder / "why.png").width == 1430
    mask = np.zeros((97, 131), np.uint8)
    mask[10:20] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    arguments[-2:] = ["--region", "mask.png"]
    assert run([*arguments, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["region_pixels"] == 1310


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "IMAGE", "--model", "nowhere/at/all"], "There is no model folder nowhere/at/all"),
        (["segment", "IMAGE", "--model", "."], "The folder . has no config.json"),
        (["segment", "absent.png", "--model", "MODEL"], "There is no image or folder absent.png"),
        (["segment", "IMAGE", "--model", "MODEL", "--out", "no/such/folder.png"], "There is no folder"),
        (["segment", "IMAGE", "--model", "MODEL", "--out", "IMAGE"], "is the image itself"),
        (["segment", "IMAGE", "--model", "MODEL", "--out", "x.xyz"], "does not end like an image"),
        (["segment", "IMAGE", "--model", "MODEL", "--out", "x"], "does not end like an image"),
        (["segment", "IMAGE", "--model", "MODEL", "--labels", "IMAGE"], "is a file; name a folder"),
        (["explain", "IMAGE", "--model", "MODEL", "--point", "5,5", "--out", "x.xyz"], "does not end like"),
        (["segment", "IMAGE", "IMAGE", "--model", "MODEL", "--out", "all"], "have the same name"),
        (["segment", "IMAGE", "--model", "MODEL", "--scales", "1,big"], "--scales is '1,big'"),
        (["segment", "IMAGE", "--model", "MODEL", "--crop-size", "64"], "belong to mode='slide'"),
        (["segment", "IMAGE", "--model", "MODEL", "--device", "tpu9"], "device 'tpu9'"),
        (["explain", "IMAGE", "--model", "MODEL", "--point", "5"], "--point is '5'"),
        (
            ["explain", "IMAGE", "--model", "MODEL", "--point", "500,1"],
            "(500, 1) lies outside of the image",
        ),
        (["explain", "IMAGE", "--model", "MODEL"], "Give either --point X,Y or --region MASK"),
        (["evaluate", "DATA", "--split", "val", "--model", "MODEL"], "has no"),
        (
            ["evaluate", "DATA", "--split", "test", "--model", "MODEL", "--out", "."],
            ". is a folder; name a file",
        ),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(saved, folder, capsys, arguments, message):
    places = {"IMAGE": saved / "street.png", "MODEL": saved / "model", "DATA": saved / "data"}
    assert run([str(places.get(argument, argument)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("prolab: ") and error.count("\n") == 1
    assert list(folder.iterdir()) in ([], [folder / "all"])


def test_evaluate_takes_category_models_and_explain_does_not(saved, folder, capsys):
    labels = {index: f"class {index}" for index in range(5)}
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2], hidden_sizes=[8, 16], patch_sizes=[7, 3],
        strides=[4, 2], num_attention_heads=[1, 1], mlp_ratios=[2, 2], decoder_hidden_size=8, id2label=labels,
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder / "baseline")
    SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder / "baseline")
    arguments = [str(saved / "data"), "--split", "test", "--model", str(folder / "baseline")]
    assert run(["evaluate", *arguments, "--out", "baseline.json"]) == 0
    assert len(json.loads((folder / "baseline.json").read_text())["per_class"]) == 5
    capsys.readouterr()
    image = str(saved / "street.png")
    assert run(["explain", image, "--model", str(folder / "baseline"), "--point", "3,4"]) == 2
    assert "'segformer' model, which has no properties" in capsys.readouterr().err
    BertConfig(num_hidden_layers=1).save_pretrained(folder / "baseline")
    assert run(["segment", image, "--model", str(folder / "baseline")]) == 2
    assert "'bert' model; --model takes a model for semantic segmentation" in capsys.readouterr().err


@pytest.fixture
def photos(folder, image):
    """A folder of three images, one of them below another folder."""
    (folder / "photos/yard").mkdir(parents=True)
    for name, size in (("a.png", (131, 97)), ("b.jpg", (64, 80)), ("yard/c.webp", (96, 64))):
        image.resize(size).save(folder / "photos" / name)
    (folder / "photos" / "notes.txt").write_text("not an image")
    return folder / "photos"


def test_segment_a_folder_with_all_results_and_go_on(saved, folder, photos, model, capsys):
    arguments = ["segment", str(photos), "--model", str(saved / "model"), "--out", "over", "--labels", "ids"]
    arguments += ["--probabilities", "shares", "--coco", "regions.json", "--workers", "2"]
    assert run(arguments) == 0
    assert (folder / "over/yard/c_overlay.png").is_file() and (folder / "ids/b.png").is_file()
    ids = Image.open(folder / "ids/yard/c.png")
    assert ids.mode == "P" and ids.size == (96, 64)
    shares = np.load(folder / "shares/a.npy")
    assert shares.dtype == np.float16 and shares.shape == (5, 97, 131)
    np.testing.assert_allclose(shares.astype(float).sum(0), 1, atol=0.01)
    content = json.loads((folder / "regions.json").read_text())
    assert [entry["file_name"] for entry in content["images"]] == ["a.png", "b.jpg", "yard/c.webp"]
    # Stopped before the last: what is there is left alone, the rest is made.
    times = {path: path.stat().st_mtime_ns for path in (folder / "ids").rglob("*.png")}
    (folder / "ids/b.png").unlink()
    capsys.readouterr()
    assert run([*arguments, "--resume"]) == 0
    assert "2 of 3 are done already" in capsys.readouterr().out
    for path in ("ids/a.png", "ids/yard/c.png"):
        assert (folder / path).stat().st_mtime_ns == times[Path(path).resolve()]
    assert json.loads((folder / "regions.json").read_text()) == content
    assert (folder / "ids/b.png").is_file()
    assert not list(folder.rglob("*.part")) and not list(folder.rglob(".*"))


def test_coco_regions_read_back_as_the_labels(saved, folder, photos):
    arguments = ["segment", str(photos), "--model", str(saved / "model"), "--labels", "ids", "--no-overlays"]
    assert run([*arguments, "--coco", "regions.json"]) == 0
    imported = read_export("coco", folder / "regions.json", ImportOptions(images=photos, background=None))
    assert imported.class_names == ["sky", "road", "tree", "car", "person"]
    for item in imported.images:
        np.testing.assert_array_equal(
            item.mask(), np.asarray(Image.open(folder / "ids" / f"{item.name}.png"))
        )


def test_results_are_never_read_as_images(saved, folder, photos, capsys):
    arguments = ["segment", str(photos), "--model", str(saved / "model"), "--no-overlays"]
    for _ in range(2):
        assert run([*arguments, "--labels", str(photos / "ids")]) == 0
    assert len(list((photos / "ids").rglob("*.png"))) == 3
    assert run([*arguments, "--labels", str(photos)]) == 2
    assert "would be read and written" in capsys.readouterr().err
    assert run(arguments) == 2
    assert "--no-overlays leaves nothing to write" in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert run(["segment", "empty", "--model", str(saved / "model")]) == 2
    assert "holds no images" in capsys.readouterr().err


def test_segment_a_video(saved, folder, image, capsys):
    av = pytest.importorskip("av")
    with av.open("clip.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for step in range(5):
            frame = np.asarray(image.resize((64, 48)).rotate(step))
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    arguments = ["segment", "clip.mp4", "--model", str(saved / "model"), "--labels", "ids", "--every", "2"]
    assert run(arguments) == 0
    assert sorted(path.name for path in (folder / "ids").iterdir()) == [
        f"clip_{k:06d}.png" for k in (0, 2, 4)
    ]
    with av.open("clip_overlay.mp4") as container:
        assert len(list(container.decode(video=0))) == 3
    (folder / "broken.mp4").write_bytes(b"no video")
    capsys.readouterr()
    assert run(["segment", "broken.mp4", "--model", str(saved / "model")]) == 2
    assert "video broken.mp4 cannot be decoded" in capsys.readouterr().err
