import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import FolderSource, HubSource, MetadataSource, read_image

NAMES = ["a", "b", "c"]


def test_folder_reads_images_and_masks(folder):
    source = FolderSource(folder, "train", class_names=NAMES)
    assert len(source) == 6
    assert source.class_names == NAMES
    assert source.num_classes == 3
    sample = source[2]
    assert sample.name == "train/images/p2.png"
    assert sample.image.mode == "RGB"
    assert sample.image.size == (40, 32)
    assert sample.mask.dtype == np.int32
    expected = np.random.default_rng(2).integers(0, 3, (8, 10)).repeat(4, 0).repeat(4, 1)
    expected[0] = 255
    assert (sample.mask == expected).all()


def test_both_layouts_and_no_split_give_the_same(folder, tmp_path):
    for layout, split in (("images/train", "train"), ("images", None)):
        root = tmp_path / f"copy-{split}"
        (root / layout).parent.mkdir(parents=True, exist_ok=True)
        (root / layout.replace("images", "masks")).parent.mkdir(parents=True, exist_ok=True)
        (root / layout).symlink_to(folder / "train/images")
        (root / layout.replace("images", "masks")).symlink_to(folder / "train/masks")
        source = FolderSource(root, split, num_classes=3)
        assert (source[3].mask == FolderSource(folder, "train", num_classes=3)[3].mask).all()


def test_class_names_are_read_from_classes_txt(folder):
    (folder / "classes.txt").write_text("x\ny\nz\n")
    assert FolderSource(folder, "train").class_names == ["x", "y", "z"]


def test_unknown_class_space_is_an_error(folder):
    with pytest.raises(ValueError, match="class_names or num_classes"):
        FolderSource(folder, "train")
    with pytest.raises(ValueError, match="3 class names"):
        FolderSource(folder, "train", class_names=NAMES, num_classes=4)


@pytest.mark.parametrize("side", ["images", "masks"])
def test_missing_partner_names_the_file(folder, side):
    (folder / "train" / side / "p4.png").unlink()
    with pytest.raises(ValueError, match=r"p4\.png"):
        FolderSource(folder, "train", num_classes=3)


def test_wrong_folder_says_what_was_looked_for(folder):
    with pytest.raises(FileNotFoundError, match=r"val/images.*images/val.*train"):
        FolderSource(folder, "val", num_classes=3)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        FolderSource(folder / "nowhere", "train", num_classes=3)


def test_two_files_of_one_stem_are_an_error(folder, write_image):
    write_image(folder / "train/images/p1.jpg", (40, 32))
    with pytest.raises(ValueError, match=r"p1\.jpg.*p1\.png"):
        FolderSource(folder, "train", num_classes=3)


def test_mask_suffix(tmp_path, write_image, write_mask):
    write_image(tmp_path / "images/x.jpg", (4, 3))
    write_mask(tmp_path / "masks/x_mask.png", np.zeros((3, 4)))
    assert len(FolderSource(tmp_path, num_classes=1, mask_suffix="_mask")) == 1


def test_corrupted_image_names_the_file(folder):
    path = folder / "train/images/p1.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"train/images/p1\.png cannot be decoded"):
        FolderSource(folder, "train", num_classes=3)[1]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"p1\.png cannot be decoded"):
        FolderSource(folder, "train", num_classes=3)[1]


def test_corrupted_mask_names_the_file(folder):
    (folder / "train/masks/p1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"mask train/masks/p1\.png cannot be decoded"):
        FolderSource(folder, "train", num_classes=3)[1]


def test_mask_of_another_size_names_both(folder, write_mask):
    write_mask(folder / "train/masks/p1.png", np.zeros((40, 32)))
    with pytest.raises(ValueError, match=r"masks/p1\.png is 32x40.*images/p1\.png is 40x32"):
        FolderSource(folder, "train", num_classes=3)[1]


def test_label_outside_the_space_names_the_file(folder):
    with pytest.raises(ValueError, match=r"masks/p0\.png holds 2.*2 classes"):
        FolderSource(folder, "train", num_classes=2)[0]


def test_exif_orientation_turns_the_image(tmp_path, write_image, write_mask):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    write_image(tmp_path / "images/x.jpg", (12, 8), exif=exif, quality=95)
    write_mask(tmp_path / "masks/x.png", np.zeros((12, 8)))
    sample = FolderSource(tmp_path, num_classes=1)[0]
    assert sample.image.size == (8, 12)
    with Image.open(tmp_path / "images/x.jpg") as raw:
        turned = np.rot90(np.asarray(raw), k=-1)
    assert (np.asarray(sample.image) == turned).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1"])
def test_every_image_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    gray = 255 if mode == "1" else 204  # 204 is in PIL's default palette
    Image.new("RGB", (4, 4), (gray, gray, gray)).convert(mode).save(path)
    image = read_image(path, name="x")
    assert image.mode == "RGB"
    assert image.getpixel((1, 1)) == (gray, gray, gray)


def test_sixteen_bit_gray_needs_a_declared_range_and_is_not_clipped(tmp_path):
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(
        ValueError, match=r"x cannot be decoded: it holds values of 16 bits from 0 to 65535.*--value-range"
    ):
        read_image(tmp_path / "x.png", name="x")
    image = read_image(tmp_path / "x.png", name="x", value_range=(0, 65535))
    assert image.dtype == np.uint16 and image[0].tolist() == [[0] * 3, [32768] * 3, [65535] * 3]


def test_metadata_files_give_the_same_as_the_folder(folder):
    rows = [
        {"image": f"train/images/p{i}.png", "mask": f"train/masks/p{i}.png", "split": "train"}
        for i in range(6)
    ]
    rows[5]["split"] = "val"
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "data.jsonl").write_text(lines)
    (folder / "data.csv").write_text(
        "image,mask,split\n" + "\n".join(",".join(row.values()) for row in rows) + "\n"
    )
    expected = FolderSource(folder, "train", num_classes=3)
    for file in ("data.jsonl", "data.csv"):
        source = MetadataSource(folder / file, num_classes=3, split="train")
        assert len(source) == 5
        assert (source[4].mask == expected[4].mask).all()
    assert len(MetadataSource(folder / "data.csv", num_classes=3)) == 6


def test_metadata_errors(folder):
    (folder / "d.csv").write_text("photo,mask\na,b\n")
    with pytest.raises(ValueError, match=r"'image'.*\['mask', 'photo'\]"):
        MetadataSource(folder / "d.csv", num_classes=3)
    (folder / "d.jsonl").write_text('{"image": 1\n')
    with pytest.raises(ValueError, match="line 1"):
        MetadataSource(folder / "d.jsonl", num_classes=3)
    with pytest.raises(FileNotFoundError):
        MetadataSource(folder / "none.csv", num_classes=3)
    (folder / "m.csv").write_text("image,mask\nno.png,no.png\n")
    with pytest.raises(FileNotFoundError, match=r"image no\.png"):
        MetadataSource(folder / "m.csv", num_classes=3)[0]


@pytest.fixture
def dataset(folder):
    paths = [str(folder / "train/images" / f"p{i}.png") for i in range(6)]
    masks = [str(folder / "train/masks" / f"p{i}.png") for i in range(6)]
    features = Features({"image": ImageFeature(), "annotation": ImageFeature(), "id": Value("string")})
    return Dataset.from_dict(
        {"image": paths, "annotation": masks, "id": [f"n{i}" for i in range(6)]}, features=features
    )


def test_datasets_set_gives_the_same_as_the_folder(dataset, folder):
    source = HubSource(dataset, mask_column="annotation", name_column="id", class_names=NAMES)
    expected = FolderSource(folder, "train", num_classes=3)
    assert len(source) == 6
    assert source[4].name == "n4 (row 4)"
    assert (source[4].mask == expected[4].mask).all()
    assert (np.asarray(source[4].image) == np.asarray(expected[4].image)).all()


def test_datasets_set_saved_to_disk(dataset, tmp_path):
    DatasetDict({"train": dataset}).save_to_disk(tmp_path / "saved")
    source = HubSource.load(tmp_path / "saved", "train", mask_column="annotation", num_classes=3)
    assert len(source) == 6
    assert source[0].mask.shape == (32, 40)
    with pytest.raises(ValueError, match=r"'val'.*train"):
        HubSource.load(tmp_path / "saved", "val", mask_column="annotation", num_classes=3)


def test_datasets_masks_as_arrays():
    rows = {"image": [np.zeros((2, 3, 3), np.uint8).tolist()], "label": [[[0, 1, 2], [2, 1, 255]]]}
    source = HubSource(Dataset.from_dict(rows), num_classes=3)
    assert source[0].mask.tolist() == [[0, 1, 2], [2, 1, 255]]


def test_datasets_errors_list_columns_and_splits(dataset):
    with pytest.raises(ValueError, match=r"'label'.*\['image', 'annotation', 'id'\]"):
        HubSource(dataset, num_classes=3)
    with pytest.raises(ValueError, match=r"splits: \['train'\]"):
        HubSource(DatasetDict({"train": dataset}), num_classes=3)


def test_corrupted_row_of_a_datasets_set_is_named(dataset, folder):
    (folder / "train/images/p3.png").write_bytes(b"broken")
    source = HubSource(dataset, mask_column="annotation", num_classes=3)
    with pytest.raises(ValueError, match=r"p3\.png \(row 3\) cannot be decoded"):
        source[3]
    with pytest.raises(ValueError, match=r"annotation of p0\.png"):
        HubSource(dataset, mask_column="annotation", num_classes=1)[0]


def test_camvid_has_the_declared_ids(shared):
    source = FolderSource(
        shared / "data/camvid", "val", coding=LabelCoding.parse("ids:void=11"), num_classes=11
    )
    assert len(source) == 101
    found = set(np.unique(source[0].mask).tolist())
    assert found <= {*range(11), 255}
    assert 255 in found


def test_a_file_that_is_no_image_is_described_in_words(folder):
    for content in (b"", b"hello"):
        (folder / "train/images/p1.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"p1\.png cannot be decoded: it is empty or no image") as raised:
            FolderSource(folder, "train", num_classes=3)[1]
        assert "0x" not in str(raised.value), "an address in memory helps nobody"


def test_floating_point_images_are_refused(folder):
    # Values from 0 to 1 would become a black image.
    (folder / "train/images/p1.png").unlink()
    Image.fromarray(np.full((32, 40), 0.5, dtype=np.float32)).save(folder / "train/images/p1.tif")
    with pytest.raises(ValueError, match=r"p1\.tif cannot be decoded: it holds floating-point values"):
        FolderSource(folder, "train", num_classes=3)[1]


def test_a_jpeg_mask_is_explained(folder):
    mask = folder / "train/masks/p1.png"
    mask.rename(mask.with_suffix(".jpg"))
    with pytest.raises(ValueError, match=r"no mask for p1\.png; .* use PNG"):
        FolderSource(folder, "train", num_classes=3)
