"""One file gives one tensor, bit for bit, whatever way it takes into the library."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ConvNextConfig, pipeline

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation
from prolab_hf.data.sources import HubSource, MetadataSource
from prolab_hf.data.transforms import SegmentationDataset, TrainTransform
from prolab_hf.evaluation.evaluate import evaluate_model
from prolab_hf.evaluation.inference import segment
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.image_processing_prolab import ProLabImageProcessor

SIZE = (23, 17)
BACKENDS = [ProLabImageProcessor, ProLabImageProcessorPil]


def photo(seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def cut_out(mode="RGBA"):
    image = photo().convert("RGBA")
    alpha = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    alpha[:, 8:] = 128
    alpha[:, 16:] = 255
    image.putalpha(Image.fromarray(alpha))
    return image if mode == "RGBA" else image.convert(mode)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def palette_with_hole():
    image = photo().quantize(16)
    image.info["transparency"] = 3
    return image


FILES = {
    "rgb.png": (photo, {}),
    "gray.png": (lambda: photo().convert("L"), {}),
    "bits.png": (lambda: photo().convert("1"), {}),
    "palette.png": (lambda: photo().quantize(16), {}),
    "palette_hole.png": (palette_with_hole, {"transparency": 3}),
    "gray_hole.png": (lambda: photo().convert("L"), {"transparency": 7}),
    "cut_out.png": (cut_out, {}),
    "gray_alpha.png": (lambda: cut_out("LA"), {}),
    "cut_out.webp": (cut_out, {"lossless": True}),
    "cut_out.tif": (cut_out, {}),
    "cmyk.tif": (lambda: photo().convert("CMYK"), {}),
    "cmyk.jpg": (lambda: photo().convert("CMYK"), {}),
    "ycbcr.jpg": (photo, {"quality": 90}),
    "side.jpg": (photo, {"exif": turned(6)}),
    "mirrored.png": (photo, {"exif": turned(5)}),
    "flipped.tif": (photo, {"exif": turned(3)}),
    "side.webp": (cut_out, {"exif": turned(8), "lossless": True}),
    "rgb.bmp": (photo, {}),
    "rgb.ppm": (photo, {}),
    "gray.pgm": (lambda: photo().convert("L"), {}),
    "rgb.gif": (lambda: photo().quantize(32), {}),
    "rgb.avif": (photo, {}),
    "rgb.jp2": (photo, {}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    for name, (make, options) in FILES.items():
        path = root / "images" / name
        make().save(path, **options)
        with Image.open(path) as image:
            side = image.getexif().get(0x0112, 1) >= 5
        size = SIZE if side else SIZE[::-1]
        Image.fromarray(np.zeros(size, np.uint8)).save(root / "masks" / f"{path.stem}{path.suffix[1:]}.png")
    return root


@pytest.fixture(scope="module")
def model():
    backbone = ConvNextConfig(
        num_channels=3, num_stages=2, hidden_sizes=[8, 8], depths=[1, 1], out_features=["stage1", "stage2"]
    )
    config = ProLabConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1], embedding_dim=6,
        num_properties=4, class_properties=[[0, 1], [2, 3]], use_auxiliary_head=False,
    )  # fmt: skip
    return ProLabForSemanticSegmentation(config).eval()


class Recorder:
    """Keeps what a model is called with."""

    def __init__(self, model):
        self.seen = []
        self.handle = model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, arguments, options):
        self.seen.append(options["pixel_values"].clone())


def ways_in(path, mask, processor, model):
    """The tensor that every way in makes of a file, by the name of the way."""
    found = {}

    def take(way, values):
        found[way] = values if values.ndim == 4 else values[None]

    def through(way, call):
        recorder = Recorder(model)
        call()
        recorder.handle.remove()
        take(way, recorder.seen[0])

    take("path", processor(str(path), return_tensors="pt")["pixel_values"])
    take("Path", processor(path, return_tensors="pt")["pixel_values"])
    take("PIL", processor(Image.open(path), return_tensors="pt")["pixel_values"])
    loaded = Image.open(path)
    loaded.load()
    take("loaded PIL", processor([loaded], return_tensors="pt")["pixel_values"])
    take("bytes", processor(path.read_bytes(), return_tensors="pt")["pixel_values"])
    source = source_of(path, mask)
    take("reader", processor(source[0].image, return_tensors="pt")["pixel_values"])
    height, width = source[0].mask.shape
    transform = TrainTransform(
        (height, width),
        ratio_range=(1, 1),
        flip_probability=0,
        photometric=None,
        value_range=processor.value_range,
    )
    take("training", SegmentationDataset(source, transform)[0]["pixel_values"])
    through("segment path", lambda: segment(model, processor, path))
    through("segment PIL", lambda: segment(model, processor, Image.open(path)))
    pipe = pipeline("image-segmentation", model=model, image_processor=processor)
    through("pipeline path", lambda: pipe(str(path)))
    through("pipeline PIL", lambda: pipe(Image.open(path)))
    return found


def source_of(path, mask, **options):
    table = path.parent.parent / f"{path.name}.csv"
    table.write_text(f"image,mask\n{path},{mask}\n")
    return MetadataSource(table, num_classes=2, **options)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FILES)
def test_every_way_in_gives_the_same_tensor(files, model, name, backend):
    path = files / "images" / name
    mask = files / "masks" / f"{path.stem}{path.suffix[1:]}.png"
    found = ways_in(path, mask, backend(do_resize=False), model)
    first = found.pop("path")
    different = [way for way, values in found.items() if not torch.equal(values, first)]
    assert not different


@pytest.mark.parametrize("backend", BACKENDS)
def test_resized_tensors_are_the_same_too(files, model, backend):
    processor = backend(size={"shortest_edge": 32, "longest_edge": 64}, size_divisor=8)
    path = files / "images" / "side.webp"
    values = processor(path, return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 3, 48, 32)
    for other in (Image.open(path), str(path)):
        assert torch.equal(processor(other, return_tensors="pt")["pixel_values"], values)


def test_both_backends_agree_without_resizing(files):
    for name in ("cut_out.png", "side.jpg", "cmyk.tif"):
        pair = [
            backend(do_resize=False)(files / "images" / name, return_tensors="pt")["pixel_values"]
            for backend in BACKENDS
        ]
        assert torch.equal(*pair)


@pytest.mark.parametrize(
    "name", ["cut_out.png", "gray_alpha.png", "cut_out.webp", "cut_out.tif", "side.webp"]
)
def test_what_is_transparent_lies_over_white(files, name):
    values = ProLabImageProcessor(do_resize=False, do_normalize=False)(files / "images" / name)[
        "pixel_values"
    ][0]
    hidden = values[:, -8:] if name == "side.webp" else values[:, :, :8]
    assert (hidden == 1).all()


def test_exif_orientation_is_applied_once(files):
    values = ProLabImageProcessor(do_resize=False, do_normalize=False)(
        Image.open(files / "images/mirrored.png")
    )
    expected = np.asarray(photo()).transpose(1, 0, 2)
    np.testing.assert_allclose(values["pixel_values"][0].permute(1, 2, 0) * 255, expected, atol=1e-4)


def test_arrays_are_images_too(files):
    processor = ProLabImageProcessor(do_resize=False)
    rgba = np.asarray(cut_out())
    expected = processor(files / "images" / "cut_out.png", return_tensors="pt")["pixel_values"]
    assert torch.equal(processor(rgba, return_tensors="pt")["pixel_values"], expected)
    gray = np.asarray(photo().convert("L"))
    expected = processor(files / "images" / "gray.png", return_tensors="pt")["pixel_values"]
    for same in (gray, gray[..., None], torch.from_numpy(gray), torch.from_numpy(gray)[None]):
        assert torch.equal(processor(same, return_tensors="pt")["pixel_values"], expected)


# ---- more than 8 bits ---------------------------------------------------------------------------------------


RANGE = (0, 4095)


def ramp():
    """A 12-bit ramp whose middle column holds one half."""
    return np.tile(np.linspace(0, 4095, 17).round().astype(np.uint16), (8, 1))


def write_ramp(folder, kind):
    values = ramp()
    path = folder / f"ramp_{kind.replace('.', '_')}.{kind.rpartition('.')[2]}"
    if kind == "gray.png":
        Image.fromarray(values).save(path)
    elif kind == "rgb.png":
        path.write_bytes(png16(np.repeat(values[..., None], 3, 2)))
    elif kind == "gray.tif":
        Image.fromarray(values).save(path)
    elif kind == "float.tif":
        Image.fromarray(values.astype(np.float32)).save(path)
    elif kind == "int.tif":
        Image.fromarray(values.astype(np.int32)).save(path)
    elif kind == "rgb.tif":
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(path, np.repeat(values[..., None], 3, 2), photometric="rgb")
    elif kind == "gray.pgm":
        path.write_bytes(b"P5\n17 8\n4095\n" + values.astype(">u2").tobytes())
    elif kind == "rgb.ppm":
        path.write_bytes(b"P6\n17 8\n4095\n" + np.repeat(values[..., None], 3, 2).astype(">u2").tobytes())
    elif kind == "gray.npy":
        np.save(path, values)
    elif kind == "first.npy":
        np.save(path, np.repeat(values[None], 3, 0))
    return path


def png16(values):
    """A PNG of 16 bits per color channel, which Pillow cannot write."""
    import struct
    import zlib

    height, width, channels = values.shape
    rows = b"".join(b"\0" + values[row].astype(">u2").tobytes() for row in range(height))
    color = {3: 2, 4: 6}[channels]

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


RAMPS = [
    "gray.png", "rgb.png", "gray.tif", "float.tif", "int.tif", "rgb.tif", "gray.pgm", "rgb.ppm", "gray.npy",
    "first.npy",
]  # fmt: skip


@pytest.mark.parametrize("kind", RAMPS)
def test_a_declared_range_gives_the_true_values_everywhere(tmp_path, model, kind):
    (tmp_path / "images").mkdir()
    path = write_ramp(tmp_path / "images", kind)
    mask = tmp_path / "mask.png"
    Image.fromarray(np.zeros((8, 17), np.uint8)).save(mask)
    processor = ProLabImageProcessor(do_resize=False, do_normalize=False, value_range=RANGE)
    values = processor(path, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(values[0, :, 0, 8], torch.full((3,), 0.5), atol=2e-4, rtol=0)
    source = source_of(path, mask, value_range=RANGE)
    assert torch.equal(processor(source[0].image, return_tensors="pt")["pixel_values"], values)
    normalized = ProLabImageProcessor(do_resize=False, value_range=RANGE)
    expected = normalized(path, return_tensors="pt")["pixel_values"]
    transform = TrainTransform(
        (8, 17), ratio_range=(1, 1), flip_probability=0, photometric=None, value_range=RANGE
    )
    assert torch.equal(SegmentationDataset(source, transform)[0]["pixel_values"][None], expected)
    recorder = Recorder(model)
    segment(model, normalized, path)
    pipeline("image-segmentation", model=model, image_processor=normalized)(str(path))
    evaluate_model(model, normalized, source)
    recorder.handle.remove()
    assert len(recorder.seen) == 3 and all(torch.equal(seen, expected) for seen in recorder.seen)


@pytest.mark.parametrize("kind", RAMPS)
def test_an_undeclared_range_is_an_error_that_names_the_file(tmp_path, model, kind):
    path = write_ramp(tmp_path, kind)
    processor = ProLabImageProcessor()
    for way in (
        lambda: processor(path),
        lambda: processor(str(path)),
        lambda: segment(model, processor, path),
        lambda: pipeline("image-segmentation", model=model, image_processor=processor)(str(path)),
        lambda: HubSource(datasets_row(path), num_classes=2)[0],
    ):
        with pytest.raises(
            ValueError, match=rf"{path.name}.*declare the values of black and white.*--value-range"
        ):
            way()


def datasets_row(path):
    from datasets import Dataset

    return Dataset.from_dict({"image": [str(path)], "label": [np.zeros((8, 17), np.int64).tolist()]})


def test_negative_values_and_values_outside_the_range_are_errors(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[-3, 5]], np.int16))
    with pytest.raises(ValueError, match=r"x\.npy cannot be decoded: it holds negative values from -3 to 5"):
        ProLabImageProcessor()(tmp_path / "x.npy")
    with pytest.raises(
        ValueError, match=r"x\.npy holds values from -3 to 5, outside the declared value_range"
    ):
        ProLabImageProcessor(value_range=(0, 9))(tmp_path / "x.npy")
    values = ProLabImageProcessor(value_range=(-3, 5), do_resize=False, do_normalize=False)(
        tmp_path / "x.npy"
    )
    assert values["pixel_values"][0][0].tolist() == [[0.0, 1.0]]
    np.save(tmp_path / "nan.npy", np.array([[np.nan, 5]], np.float32))
    with pytest.raises(ValueError, match=r"nan\.npy holds values that are no numbers"):
        ProLabImageProcessor(value_range=(0, 9))(tmp_path / "nan.npy")
    with pytest.raises(ValueError, match="8 bits, but the declared value_range is 0 to 4095"):
        ProLabImageProcessor(value_range=RANGE)(photo())
    for wrong in ((5, 5), (1,), "0,1", (True, 2), (0, float("inf"))):
        with pytest.raises((ValueError, TypeError), match="value_range"):
            ProLabImageProcessor(value_range=wrong)


def test_the_range_travels_with_the_processor(tmp_path):
    ProLabImageProcessor(value_range=RANGE, crop_size=512).save_pretrained(tmp_path)
    for backend in BACKENDS:
        assert tuple(backend.from_pretrained(tmp_path).value_range) == RANGE


# ---- channels -----------------------------------------------------------------------------------------------


def processor_of(count, backend=ProLabImageProcessor, **options):
    return backend(image_mean=[0.5] * count, image_std=[0.5] * count, **options)


def bands(count, dtype=np.uint8):
    return np.random.default_rng(count).integers(0, 200, (9, 11, count)).astype(dtype)


def test_as_many_bands_as_the_model_takes_or_an_error(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for count in (2, 4, 5):
        tifffile.imwrite(
            tmp_path / f"{count}.tif", bands(count), photometric="minisblack", planarconfig="contig"
        )
        np.save(tmp_path / f"{count}.npy", bands(count))
        tifffile.imwrite(
            tmp_path / f"planes{count}.tif",
            bands(count).transpose(2, 0, 1),
            photometric="minisblack",
            planarconfig="separate",
        )
        processor = ProLabImageProcessor(
            do_resize=False, do_normalize=False, image_mean=[0.0] * count, image_std=[1.0] * count
        )
        for name in (f"{count}.tif", f"{count}.npy", f"planes{count}.tif"):
            values = processor(tmp_path / name, return_tensors="pt")["pixel_values"][0]
            np.testing.assert_allclose(values.permute(1, 2, 0) * 255, bands(count), atol=1e-4)
            with pytest.raises(
                ValueError, match=rf"{name}.* has {count} channels, but the model takes 3 channels"
            ):
                ProLabImageProcessor()(tmp_path / name)
    tifffile.imwrite(tmp_path / "rgbx.tif", bands(4), photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(ValueError, match="has 4 channels, but the model takes 3"):
        ProLabImageProcessor()(tmp_path / "rgbx.tif")


def test_pages_are_bands_only_where_there_are_as_many(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for band in range(4):
            writer.write(bands(4)[..., band], photometric="minisblack")
    processor = ProLabImageProcessor(
        do_resize=False, do_normalize=False, image_mean=[0.0] * 4, image_std=[1.0] * 4
    )
    values = processor(tmp_path / "pages.tif", return_tensors="pt")["pixel_values"][0]
    np.testing.assert_allclose(values.permute(1, 2, 0) * 255, bands(4), atol=1e-4)
    with pytest.raises(
        ValueError, match=r"pages\.tif cannot be decoded: it holds 4 pages, of which only one could be used"
    ):
        ProLabImageProcessor()(tmp_path / "pages.tif")


@pytest.mark.parametrize("count", [1, 4])
def test_models_of_other_channels_segment_evaluate_and_train(tmp_path, count):
    backbone = ConvNextConfig(
        num_channels=count,
        num_stages=2,
        hidden_sizes=[8, 8],
        depths=[1, 1],
        out_features=["stage1", "stage2"],
    )
    config = ProLabConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1], embedding_dim=6, num_properties=4,
        class_properties=[[0, 1], [2, 3]], use_auxiliary_head=False,
    )  # fmt: skip
    model = ProLabForSemanticSegmentation(config).eval()
    processor = ProLabImageProcessor(
        image_mean=[0.5] * count, image_std=[0.5] * count, size={"height": 32, "width": 32}
    )
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (40, 48, count), dtype=np.uint8))
    mask = tmp_path / "m.png"
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(mask)
    (tmp_path / "images").mkdir()
    source = source_of(path, mask, num_channels=count)
    assert source[0].image.shape == (40, 48, count)
    assert segment(model, processor, path).labels.shape == (40, 48)
    assert evaluate_model(model, processor, source)["num_images"] == 1
    example = TrainTransform(32, mean=[0.5] * count, std=[0.5] * count)(
        source[0].image, source[0].mask, np.random.default_rng(0)
    )
    assert example["pixel_values"].shape == (count, 32, 32)
    with pytest.raises(ValueError, match=f"but the model takes {count} channel"):
        segment(model, processor, photo())
    pil = ProLabImageProcessorPil(
        image_mean=[0.5] * count, image_std=[0.5] * count, size={"height": 32, "width": 32}
    )
    torch.testing.assert_close(
        pil(path, return_tensors="pt")["pixel_values"],
        processor(path, return_tensors="pt")["pixel_values"],
        atol=0.02,
        rtol=0,
    )


# ---- the pipeline -------------------------------------------------------------------------------------------


def test_pipeline_batches_images_of_different_sizes(model):
    processor = ProLabImageProcessor(do_resize=False)
    pipe = pipeline("image-segmentation", model=model, image_processor=processor)
    images = [photo().resize(size) for size in ((64, 32), (48, 64), (64, 32), (32, 32), (40, 32))]
    for batch_size in (1, 2, 4):
        for image, found in zip(images, pipe(images, batch_size=batch_size)):
            labels = segment(model, processor, image).labels.numpy()
            assert {entry["label"] for entry in found} == {
                model.config.id2label[k] for k in np.unique(labels).tolist()
            }
            for entry in found:
                np.testing.assert_array_equal(
                    np.asarray(entry["mask"]) > 0, labels == model.config.label2id[entry["label"]]
                )
