"""What is wrong with a file ends in one sentence that names it; what is lossy, too large or no image is refused."""

import io
import subprocess

import numpy as np
import pytest
from datasets import Dataset, Features, IterableDataset, Value
from datasets import Image as ImageFeature
from PIL import Image

from prolab_hf.data.class_matching import read_class_names
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.source_from_name import open_source
from prolab_hf.data.sources import FolderSource, HubSource, MetadataSource
from prolab_hf.evaluation.inference import segment
from prolab_hf.evaluation.sliding_window import StripedPixels, slide_logits
from prolab_hf.model.image_conversion_prolab import open_image, pixel_limit, read_image
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.image_processing_prolab import ProLabImageProcessor

IDS = (np.arange(96).reshape(8, 12) // 30).astype(np.uint8)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# ---- decoders -----------------------------------------------------------------------------------------------


def test_every_byte_of_an_exif_block_may_be_damaged():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "text"
    exif[0x9286] = b"ASCII"
    content = encoded(Image.new("RGB", (8, 6)), "JPEG", exif=exif)
    start = content.index(b"Exif")
    for place in range(start, start + 80):
        for value in (0, 1, 127, 255):
            damaged = content[:place] + bytes([value]) + content[place + 1 :]
            try:
                image = read_image(damaged, name="photo.jpg")
            except ValueError as error:
                assert "photo.jpg cannot be decoded" in str(error)
            else:
                assert sorted(image.size) == [6, 8]


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "JPEG", "PNG", "TIFF", "GIF", "JPEG2000"])
def test_cut_off_files_are_named(kind):
    content = encoded(Image.fromarray(np.tile(IDS, (4, 4)) * 60), kind)
    for share in (0.3, 0.6):
        with pytest.raises(
            ValueError, match=r"image photo.x cannot be decoded: .*; replace or remove the file"
        ):
            read_image(content[: int(len(content) * share)], name="photo.x")


def test_postscript_is_not_run(tmp_path, monkeypatch):
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (tmp_path / "evil.png").write_bytes(content)

    def started(*arguments, **options):
        raise AssertionError(f"a program was started: {arguments}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(subprocess, "check_call", started)
    for read in (
        lambda: read_image(tmp_path / "evil.png", name="evil.png"),
        lambda: open_image(tmp_path / "evil.png", name="evil.png", what="mask"),
        lambda: ProLabImageProcessor()(tmp_path / "evil.png"),
        lambda: ProLabImageProcessor()(
            Image.new("RGB", (9, 9)), segmentation_maps=str(tmp_path / "evil.png")
        ),
        lambda: segment(None, ProLabImageProcessor(), tmp_path / "evil.png"),
    ):
        with pytest.raises(
            ValueError, match=r"evil\.png cannot be decoded: it is empty or no image of a known format"
        ):
            read()


def test_the_pixel_limit_says_how_to_go_on(tmp_path, monkeypatch):
    Image.new("L", (400, 300)).save(tmp_path / "ortho.png")
    monkeypatch.setenv("PROLAB_MAX_PIXELS", "100000")
    with pytest.raises(
        ValueError, match=r"ortho\.png has 400 x 300 .*--mode slide.*PROLAB_MAX_PIXELS=120000"
    ):
        read_image(tmp_path / "ortho.png", name="ortho.png")
    monkeypatch.setenv("PROLAB_MAX_PIXELS", "120000")
    assert read_image(tmp_path / "ortho.png", name="ortho.png").size == (400, 300)
    monkeypatch.setenv("PROLAB_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="PROLAB_MAX_PIXELS is 'many'"):
        read_image(tmp_path / "ortho.png", name="ortho.png")
    monkeypatch.delenv("PROLAB_MAX_PIXELS")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert pixel_limit() == 2000
    with pytest.raises(ValueError, match="limit of 0 million"):
        read_image(tmp_path / "ortho.png", name="ortho.png")
    assert Image.MAX_IMAGE_PIXELS == 1000, "the limit of others is left as it was"


def test_strips_of_a_large_image_give_what_the_whole_gives():
    import torch

    pixels = torch.randn(1, 3, 70, 50)
    network = lambda values: torch.stack([values.mean(1), values.std(1)], 1)[..., ::2, ::2]  # noqa: E731
    strips = StripedPixels(lambda top, bottom: pixels[:, :, top:bottom], (70, 50))
    expected = slide_logits(network, pixels, (32, 32), (20, 24))
    assert torch.equal(slide_logits(network, strips, (32, 32), (20, 24)), expected)
    flipped = slide_logits(network, pixels.flip(-1), (32, 32), (20, 24))
    assert torch.equal(slide_logits(network, strips.flip(-1), (32, 32), (20, 24)), flipped)


# ---- masks --------------------------------------------------------------------------------------------------


LOSSY = {
    "x.jpg": ("JPEG", {}),
    "jpeg_named.png": ("JPEG", {}),
    "lossy.webp": ("WEBP", {"quality": 80}),
    "alpha.webp": ("WEBP", {"quality": 80}),
    "x.avif": ("AVIF", {}),
    "x.jp2": ("JPEG2000", {}),
    "jpeg.tif": ("TIFF", {"compression": "jpeg"}),
}


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_masks_are_refused_wherever_a_mask_is_read(tmp_path, write_image, name):
    kind, options = LOSSY[name]
    image = Image.fromarray(IDS)
    if name == "alpha.webp":
        image = image.convert("RGBA")
        image.putalpha(Image.fromarray(IDS * 20))
    path = tmp_path / name
    image.save(path, kind, **options)
    photo = write_image(tmp_path / "photo.png")
    (tmp_path / "data.csv").write_text(f"image,mask\nphoto.png,{name}\n")
    features = Features({"image": ImageFeature(), "label": ImageFeature()})
    row = Dataset.from_dict({"image": [str(photo)], "label": [str(path)]}, features=features)
    held = Dataset.from_dict(
        {"image": [str(photo)], "label": [{"bytes": path.read_bytes(), "path": None}]}, features=features
    )
    for read in (
        lambda: MetadataSource(tmp_path / "data.csv", num_classes=4)[0],
        lambda: HubSource(row, num_classes=4)[0],
        lambda: HubSource(held, num_classes=4)[0],
        lambda: ProLabImageProcessor()(photo, segmentation_maps=str(path)),
        lambda: ProLabImageProcessorPil()(photo, segmentation_maps=path),
        lambda: ProLabImageProcessor()(photo, segmentation_maps=Image.open(path)),
    ):
        with pytest.raises(ValueError, match=r"file, and that format changes the ids; export masks as PNG"):
            read()


@pytest.mark.parametrize(
    ("name", "options"),
    [("x.png", {}), ("x.webp", {"lossless": True}), ("x.tif", {}), ("x.tif", {"compression": "tiff_lzw"}),
     ("x.bmp", {}), ("x.gif", {}), ("x.pgm", {}), ("x.npy", {}), ("five.pgm", {})],
)  # fmt: skip
def test_lossless_masks_keep_their_ids(tmp_path, write_image, name, options):
    path = tmp_path / name
    if name == "x.npy":
        np.save(path, IDS.astype(np.int64))
    elif name == "five.pgm":
        path.write_bytes(b"P5\n12 8\n5\n" + IDS.tobytes())  # Pillow would stretch ids of 0 to 5 to 0 to 255
    else:
        image = Image.fromarray(IDS)
        (image.convert("RGB") if name == "x.webp" else image).save(path, **options)
    write_image(tmp_path / "photo.png")
    (tmp_path / "data.csv").write_text(f"image,mask\nphoto.png,{name}\n")
    np.testing.assert_array_equal(MetadataSource(tmp_path / "data.csv", num_classes=4)[0].mask, IDS)
    if name != "x.webp":
        labels = ProLabImageProcessor(do_resize=False)(tmp_path / "photo.png", segmentation_maps=path)[
            "labels"
        ][0]
        np.testing.assert_array_equal(labels, IDS)


# ---- names --------------------------------------------------------------------------------------------------


def test_names_in_two_unicode_forms_are_one_name(tmp_path, write_image, write_mask):
    write_image(tmp_path / "images/caf\u00e9.png")
    write_mask(tmp_path / "masks/cafe\u0301.png", IDS)
    assert len(FolderSource(tmp_path, num_classes=4)) == 1
    write_image(tmp_path / "images/cafe\u0301.png")
    with pytest.raises(ValueError, match=r"'cafe\\u0301\.png' and 'caf\\xe9\.png': names must be unique"):
        FolderSource(tmp_path, num_classes=4)


def test_names_that_differ_in_case_only_are_pairs_unless_there_are_two(tmp_path, write_image, write_mask):
    write_image(tmp_path / "images/IMG_1.JPG")
    write_mask(tmp_path / "masks/img_1.png", IDS)
    assert len(FolderSource(tmp_path, num_classes=4)) == 1
    write_image(tmp_path / "images/img_1.png")
    with pytest.raises(ValueError, match=r"has no mask for IMG_1\.JPG"):
        FolderSource(tmp_path, num_classes=4)


@pytest.mark.parametrize("side", ["images", "masks"])
def test_nothing_vanishes(folder, side):
    (folder / "train" / side / "x.heic").write_bytes(b"x")
    with pytest.raises(
        ValueError, match=rf"train/{side}/x\.heic is of a format that is not read \(\.heic\); convert"
    ):
        FolderSource(folder, "train", num_classes=3)
    (folder / "train" / side / "x.heic").unlink()
    (folder / "train" / side / "Thumbs.db").write_bytes(b"x")
    (folder / "train" / side / "notes.txt").write_text("x")
    assert len(FolderSource(folder, "train", num_classes=3)) == 6
    (folder / "train" / side / "p9.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(ValueError, match=r"p9\.png is a link to a file that does not exist"):
        FolderSource(folder, "train", num_classes=3)


def test_a_jp2_without_mask_is_missed(folder):
    Image.new("RGB", (40, 32)).save(folder / "train/images/extra.jp2")
    with pytest.raises(ValueError, match=r"no mask for extra\.jp2"):
        FolderSource(folder, "train", num_classes=3)


def test_the_error_names_the_ending_of_masks(folder):
    for path in (folder / "train/masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    with pytest.raises(ValueError, match=r"masks seem to end with '_mask': say so .*--mask-suffix _mask"):
        open_source(folder, "train", num_classes=3)
    assert len(open_source(folder, "train", num_classes=3, mask_suffix="_mask")) == 6


# ---- data sets ----------------------------------------------------------------------------------------------


def test_image_folders_as_datasets_writes_them(tmp_path, write_image, write_mask):
    for split in ("train", "validation"):
        write_image(tmp_path / split / "0001.png")
        write_mask(tmp_path / split / "0001_mask.png", IDS)
        row = '{"file_name": "0001.png", "mask_file_name": "0001_mask.png", "text": "a\u2028b"}\n'
        (tmp_path / split / "metadata.jsonl").write_text(row, encoding="utf-8")
    source = open_source(tmp_path, "train", num_classes=4)
    np.testing.assert_array_equal(source[0].mask, IDS)
    loaded = open_source(tmp_path / "train", num_classes=4)
    assert len(loaded) == 1


def test_iterable_and_formatted_data_sets(folder):
    expected = FolderSource(folder, "train", num_classes=3)
    features = Features({"image": ImageFeature(), "label": ImageFeature(), "id": Value("string")})
    rows = {
        "image": [str(folder / f"train/images/p{i}.png") for i in range(6)],
        "label": [str(folder / f"train/masks/p{i}.png") for i in range(6)],
        "id": [f"n{i}" for i in range(6)],
    }
    dataset = Dataset.from_dict(rows, features=features)
    streams = (
        dataset.with_format("torch"),
        dataset.with_format("numpy"),
        dataset.to_iterable_dataset(),
        IterableDataset.from_generator(lambda: ({key: rows[key][i] for key in rows} for i in range(6))),
    )
    for other in streams:
        source = HubSource(other, num_classes=3)
        assert len(source) == 6
        np.testing.assert_array_equal(source[2].mask, expected[2].mask)
        np.testing.assert_array_equal(np.asarray(source[2].image), np.asarray(expected[2].image))


def test_arrays_in_torch_format():
    image = np.random.default_rng(0).integers(0, 255, (8, 12, 3))
    dataset = Dataset.from_dict({"image": [image.tolist()], "label": [IDS.tolist()]}).with_format("torch")
    sample = HubSource(dataset, num_classes=4)[0]
    np.testing.assert_array_equal(np.asarray(sample.image), image)
    np.testing.assert_array_equal(sample.mask, IDS)


# ---- texts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"\xef\xbb\xbfsky\nroad\n", ["sky", "road"]),
        (b"# my classes\nsky\n\n  road  \r\n", ["sky", "road"]),
        (b"0: sky\n1: road\n", ["sky", "road"]),
        (b"1\troad\n0\tsky\n", ["sky", "road"]),
        ("stra\u00dfe\nsky, clear".encode(), ["stra\u00dfe", "sky, clear"]),
    ],
)
def test_class_lists(tmp_path, content, names):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    assert read_class_names(path) == names


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sky\nroad\n".encode("utf-16"), "not UTF-8 but UTF-16"),
        ("stra\u00dfe\n".encode("cp1252"), "not UTF-8 but another encoding"),
        (b"0: sky\nroad\n", "some lines are numbered, others, such as 'road', are not"),
        (b"1: sky\n2: road\n", "numbered 1, 2; ids go from 0 to 1"),
        (b"sky\nroad\nsky\n", "'sky' is listed 2 times"),
        (b"# nothing\n", "names no class"),
        (b"sky\nro\x00ad\n", "holds characters that cannot be shown"),
    ],
)
def test_wrong_class_lists_are_named(tmp_path, content, message):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"classes\.txt: .*{message}"):
        read_class_names(path)


def test_names_are_counted_against_the_coding(folder):
    coding = LabelCoding("table", table={0: 0, 1: 1, 2: 2, 255: None})
    assert FolderSource(folder, "train", class_names=["a", "b", "c"], coding=coding).num_classes == 3
    with pytest.raises(ValueError, match=r"'table' lists 3 classes \(0-2\), but there are 5 class names"):
        FolderSource(folder, "train", class_names=list("abcde"), coding=coding)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.csv",
            "image,mask\n" + "x" * 200_000 + ",b\n",
            "d.csv line 2 cannot be read as a table: field larger",
        ),
        ("d.csv", "image,mask\na,b,c\n", "d.csv row 1 has more fields than the 2 columns"),
        ("d.csv", "image,image\na,b\n", "names a column twice"),
        ("d.jsonl", "[" * 100_000, "d.jsonl line 1 is not valid JSON: .*nested too deeply"),
        ("d.jsonl", '{"image": "a", "image": "b", "mask": "c"}', "'image' stands there twice"),
        ("d.jsonl", '{"image": ["a"], "mask": "b"}', r"d.jsonl row 1 holds \['a'\] in column 'image'"),
        ("d.jsonl", "[1]", "expected an object"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        MetadataSource(tmp_path / name, num_classes=3)


def test_metadata_in_other_encodings_is_named(tmp_path):
    for coding, message in (("utf-16", "UTF-16"), ("cp1252", "another encoding")):
        (tmp_path / "d.csv").write_bytes("image,mask\nstra\u00dfe.png,b.png\n".encode(coding))
        with pytest.raises(ValueError, match=rf"d\.csv: this metadata file is not UTF-8 but {message}"):
            MetadataSource(tmp_path / "d.csv", num_classes=3)


# ---- saved processors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [ProLabImageProcessor, ProLabImageProcessorPil])
def test_processors_saved_under_the_old_names_still_load(tmp_path, backend):
    backend(crop_size=512, stride=341).save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    text = path.read_text()
    assert "window_size" not in text and '"crop_size": 512' in text
    path.write_text(text.replace('"crop_size"', '"window_size"').replace('"stride"', '"window_stride"'))
    loaded = backend.from_pretrained(tmp_path)
    assert (loaded.crop_size, loaded.stride) == (512, 341)
    assert not hasattr(loaded, "window_size")
