"""Exports of labeling tools, on small trees in the tools' own layout."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from prolab_hf.cli import run
from prolab_hf.data.formats.imported import ImportOptions, with_validation, write_folder
from prolab_hf.data.formats.reading import read_export
from prolab_hf.data.sources import FolderSource

HEIGHT, WIDTH = 20, 30
ROAD, CAR = (128, 64, 128), (0, 0, 142)
VOID_BACKGROUND = ImportOptions(background=None)


def save_photo(path, seed=0, size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def truth():
    """Ids 0 (background), 1 (road, lower half), 2 (car, a box on it)."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:] = 1
    mask[12:16, 5:15] = 2
    return mask


def save_mask(path, values, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


# ---- the trees ----------------------------------------------------------------------------------------------


def cvat_tree(root):
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,128::\ncar:0,0,142::\n"
    )
    (root / "ImageSets/Segmentation/default.txt").write_text("a\nb\n")
    colors = np.array([(0, 0, 0), ROAD, CAR], np.uint8)
    for name in "ab":
        save_photo(root / f"JPEGImages/{name}.jpg")
        save_mask(root / f"SegmentationClass/{name}.png", colors[truth()])
        save_mask(root / f"SegmentationObject/{name}.png", colors[truth()])
    return root


def voc_tree(root):
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_000032\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000033\n")
    (root / "ImageSets/Segmentation/trainval.txt").write_text("2007_000032\n2007_000033\n")
    mask = np.where(truth() == 2, 7, 0).astype(np.uint8)
    mask[0] = 255
    palette = np.random.default_rng(0).integers(0, 256, 768).tolist()
    for name in ("2007_000032", "2007_000033"):
        save_photo(root / f"JPEGImages/{name}.jpg")
        save_mask(root / f"SegmentationClass/{name}.png", mask, palette)
    save_photo(root / "JPEGImages/2007_000999.jpg")
    return root


def box(x, y, right, bottom):
    return [x, y, right, y, right, bottom, x, bottom]


def coco_tree(root, **changes):
    save_photo(root / "images/a.jpg")
    save_photo(root / "images/b.jpg")
    content = {
        "info": {},
        "licenses": [],
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 9, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 12, "name": "car"}, {"id": 3, "name": "road", "supercategory": "flat"}],
        "annotations": [
            # The car comes first in the file, and under the road if the order of the file counts.
            {"id": 1, "image_id": 7, "category_id": 12, "area": 40, "iscrowd": 0, "segmentation": [box(5, 12, 15, 16)]},
            {"id": 2, "image_id": 7, "category_id": 3, "area": 300, "iscrowd": 0, "segmentation": [box(0, 10, 30, 20)]},
            {
                "id": 3, "image_id": 9, "category_id": 12, "area": 20, "iscrowd": 1,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT, HEIGHT, HEIGHT * (WIDTH - 2)]},
            },
        ],
        **changes,
    }  # fmt: skip
    return write_json(root / "annotations.json", content)


def labelme_tree(root):
    save_photo(root / "a.jpg")
    shapes = [
        {
            "label": "road",
            "points": [[0, 10], [29, 10], [29, 19], [0, 19]],
            "shape_type": "polygon",
            "flags": {},
        },
        {"label": "car", "points": [[14, 15], [5, 12]], "shape_type": "rectangle", "flags": {}},
    ]
    content = {
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH,
    }  # fmt: skip
    write_json(root / "a.json", content)
    return root


def roboflow_tree(root):
    for folder in ("train", "valid"):
        save_photo(root / folder / "a_jpg.rf.0123.jpg")
        save_mask(root / folder / "a_jpg.rf.0123_mask.png", truth())
        (root / folder / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, road\n2, car\n")
    return root


def supervisely_tree(root):
    write_json(root / "meta.json", {"classes": [{"title": "road"}, {"title": "car"}]})
    write_json(root / "obj_class_to_machine_color.json", {"road": [1, 1, 1], "car": [2, 2, 2]})
    for folder in ("train", "val"):
        save_photo(root / folder / "img/a.jpg")
        mask = np.repeat(truth()[..., None], 3, 2)
        save_mask(root / folder / "masks_machine/a.png", mask)
        save_mask(root / folder / "masks_human/a.png", mask)
    return root


TREES = {
    "cvat": cvat_tree,
    "coco": coco_tree,
    "labelme": labelme_tree,
    "roboflow": roboflow_tree,
    "supervisely": supervisely_tree,
}


# ---- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TREES)
def test_exports_become_folders_that_training_reads(tmp_path, kind, capsys):
    place = TREES[kind](tmp_path / "export")
    assert run(["import-data", kind, str(place), "--out", str(tmp_path / "data")]) == 0
    assert "prolab check-data" in capsys.readouterr().out
    source = FolderSource(tmp_path / "data", "train")
    assert source.class_names == (
        ["background", "car", "road"] if kind == "labelme" else ["background", "road", "car"]
    )
    expected = truth()
    if kind == "labelme":
        expected = np.array([0, 2, 1])[expected]
    np.testing.assert_array_equal(source[0].mask, expected)
    assert run(["check-data", str(tmp_path / "data")]) == 0


@pytest.mark.parametrize("kind", TREES)
def test_background_may_be_void(tmp_path, kind):
    place = TREES[kind](tmp_path / "export")
    imported = read_export(kind, place, VOID_BACKGROUND if kind != "coco" else ImportOptions(background=None))
    assert "background" not in imported.class_names and len(imported.class_names) == 2
    mask = imported.images[0].mask()
    assert (mask == 255).sum() == (truth() == 0).sum()
    assert set(np.unique(mask)) == {0, 1, 255}


def test_voc_keeps_its_classes_lists_and_borders(tmp_path):
    root = voc_tree(tmp_path / "VOC2012")
    imported = read_export("voc", root)
    assert len(imported.class_names) == 21 and imported.class_names[7] == "car"
    assert {item.split: item.name for item in imported.images} == {
        "train": "2007_000032",
        "val": "2007_000033",
    }
    mask = imported.images[0].mask()
    assert (mask[0] == 255).all() and (mask[truth() == 2] == 7).all()
    void = read_export("voc", root, VOID_BACKGROUND)
    assert void.class_names[6] == "car" and (void.images[0].mask()[truth() == 2] == 6).all()
    (root / "SegmentationClass/2007_000033.png").unlink()
    with pytest.raises(ValueError, match=r"no annotation for 2007_000033.*--skip-unlabeled"):
        read_export("voc", root)
    assert len(read_export("voc", root, ImportOptions(skip_unlabeled=True)).images) == 1


def test_coco_overlap_crowd_and_run_lengths(tmp_path):
    path = coco_tree(tmp_path)
    small_on_top, crowd = (item.mask() for item in read_export("coco", path).images)
    assert (small_on_top[12:16, 5:15] == 2).all()
    assert (crowd[:, 1] == 255).all() and (crowd[:, 2:] == 0).all()
    later_on_top = read_export("coco", path, ImportOptions(overlap="file")).images[0].mask()
    assert (later_on_top[10:] == 1).all()
    as_class = read_export("coco", path, ImportOptions(crowd="class")).images[1].mask()
    assert (as_class[:, 1] == 2).all()


def test_coco_compressed_run_lengths_are_those_of_pycocotools(tmp_path):
    mask_tools = pytest.importorskip("pycocotools.mask")
    region = np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.3
    runs = mask_tools.encode(np.asfortranarray(region.astype(np.uint8)))
    counts = runs["counts"].decode()
    entry = {
        "id": 1, "image_id": 7, "category_id": 3, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts},
    }  # fmt: skip
    mask = read_export("coco", coco_tree(tmp_path, annotations=[entry])).images[0].mask()
    np.testing.assert_array_equal(mask == 1, region)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [HEIGHT, WIDTH], "counts": [5, 10**9]}, "do not add up to 20 x 30"),
        ({"size": [10**6, 10**6], "counts": "oooo"}, "its image has"),
        ({"size": None, "counts": [600]}, "run lengths for None, its image has"),
        ({"size": [HEIGHT, WIDTH], "counts": "~~~"}, "damaged run lengths"),
        ([[1, 2, 3]], "neither polygons"),
        ([], "neither polygons"),
        (None, "neither polygons"),
        ([["a"] * 6], "neither polygons"),
    ],
)
def test_damaged_coco_regions_are_named(tmp_path, segmentation, message):
    entry = {"id": 41, "image_id": 7, "category_id": 3, "segmentation": segmentation}
    imported = read_export("coco", coco_tree(tmp_path, annotations=[entry]))
    with pytest.raises(ValueError, match=rf"annotations\.json: annotation 41 .*{message}"):
        imported.images[0].mask()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 7}]}, "'file_name' is None"),
        ({"categories": [{"id": "3", "name": "road"}]}, "'id' is '3'"),
        ({"annotations": "many"}, "no list 'annotations'"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 3}]}, "the image 1, which is not listed"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 4}]}, "category 4, which is not listed"),
    ],
)
def test_malformed_coco_files_are_named(tmp_path, changes, message):
    path = coco_tree(tmp_path, **changes)
    with pytest.raises(ValueError, match=message) as raised:
        read_export("coco", path)
    assert "annotations.json" in str(raised.value)


def test_coco_folders_of_several_splits(tmp_path):
    for split in ("train2017", "val2017"):
        path = coco_tree(tmp_path / "x")
        save_photo(tmp_path / split / "a.jpg")
        save_photo(tmp_path / split / "b.jpg")
        target = tmp_path / "annotations" / f"instances_{split}.json"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    imported = read_export("coco", tmp_path)
    assert sorted({item.split for item in imported.images}) == ["train", "val"]
    assert imported.images[0].image == tmp_path / "train2017/a.jpg"


def test_labelme_shapes_labels_and_stored_masks(tmp_path):
    root = labelme_tree(tmp_path)
    content = json.loads((root / "a.json").read_text())
    part = np.zeros((4, 6), np.uint8)
    part[1:3] = 255
    buffer = io.BytesIO()
    Image.fromarray(part).save(buffer, "PNG")
    stored = base64.b64encode(buffer.getvalue()).decode()
    content["shapes"] += [
        {"label": "sun", "points": [[25, 4], [25, 7]], "shape_type": "circle"},
        {"label": "sign", "points": [[2, 1], [7, 4]], "shape_type": "mask", "mask": stored},
        {"label": "__ignore__", "points": [[0, 19], [3, 19], [3, 17]], "shape_type": "polygon"},
    ]
    write_json(root / "a.json", content)
    (root / "labels.txt").write_text("__ignore__\n_background_\nroad\ncar\nsign\nsun\n")
    imported = read_export("labelme", root)
    assert imported.class_names == ["background", "road", "car", "sign", "sun"]
    mask = imported.images[0].mask()
    assert mask[4, 25] == 4 and mask[1, 25] == 4 and mask[8, 25] == 0
    assert (mask[2:4, 2:8] == 3).all() and mask[1, 2] == 0
    assert mask[19, 2] == 255
    content["shapes"][0]["shape_type"] = "linestrip"
    write_json(root / "a.json", content)
    with pytest.raises(ValueError, match=r"a\.json: shape 0 is a linestrip, which covers no area"):
        read_export("labelme", root)


def test_labelme_later_shapes_lie_on_top_on_request(tmp_path):
    root = labelme_tree(tmp_path)
    content = json.loads((root / "a.json").read_text())
    content["shapes"].reverse()
    write_json(root / "a.json", content)
    assert (read_export("labelme", root).images[0].mask()[12:16, 5:15] == 1).all()
    by_order = read_export("labelme", root, ImportOptions(overlap="file")).images[0].mask()
    assert (by_order[12:16, 5:15] == 2).all()


def test_class_order_can_be_given(tmp_path, capsys):
    place = labelme_tree(tmp_path / "export")
    arguments = ["import-data", "labelme", str(place), "--out", str(tmp_path / "data")]
    assert run([*arguments, "--classes", "road,car,ground", "--background", "ground"]) == 0
    source = FolderSource(tmp_path / "data", "train")
    assert source.class_names == ["road", "car", "ground"]
    np.testing.assert_array_equal(source[0].mask, np.array([2, 0, 1])[truth()])
    assert run([*arguments[:-1], str(tmp_path / "other"), "--classes", "road"]) == 2
    assert "has the class 'car', which --classes does not list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cvat", "labelmap.txt"),
        ("voc", "has no folder ImageSets/Segmentation"),
        ("coco", "holds no COCO annotations"),
        ("labelme", "holds no JSON files of labelme"),
        ("roboflow", "holds no folder with _classes.csv"),
        ("supervisely", "obj_class_to_machine_color.json"),
        ("yolo", "choose one of cvat, coco"),
    ],
)
def test_wrong_folders_end_with_one_line(tmp_path, kind, message, capsys):
    (tmp_path / "empty").mkdir()
    assert run(["import-data", kind, str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_half_written_stays(tmp_path):
    root = cvat_tree(tmp_path / "export")
    save_mask(root / "SegmentationClass/b.png", np.full((HEIGHT, WIDTH, 3), 9, np.uint8))
    with pytest.raises(ValueError, match=r"b\.png holds colors that the palette does not list"):
        list(write_folder(read_export("cvat", root), tmp_path / "out"))
    save_mask(root / "SegmentationClass/b.png", np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    with pytest.raises(ValueError, match=r"annotation of b is 31x20, but its image .* is 30x20"):
        list(write_folder(read_export("cvat", root), tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="name a new folder"):
        list(write_folder(read_export("cvat", root), tmp_path / "out"))


def test_cvat_exports_without_images_take_a_folder(tmp_path):
    root = cvat_tree(tmp_path / "export")
    (root / "JPEGImages").rename(tmp_path / "photos")
    with pytest.raises(FileNotFoundError, match="--images"):
        read_export("cvat", root)
    assert len(read_export("cvat", root, ImportOptions(images=tmp_path / "photos")).images) == 2


def test_a_share_of_an_export_with_one_split_is_held_out(tmp_path, capsys):
    place = labelme_tree(tmp_path / "export")
    content = (place / "a.json").read_text()
    for name in "bcde":
        (place / f"{name}.json").write_text(content.replace("a.jpg", f"{name}.jpg"))
        save_photo(place / f"{name}.jpg")
    arguments = ["import-data", "labelme", str(place), "--out"]
    assert run([*arguments, str(tmp_path / "data"), "--val", "0.4"]) == 0
    assert "splits: train, val" in " ".join(capsys.readouterr().out.split())
    found = {split: len(FolderSource(tmp_path / "data", split)) for split in ("train", "val")}
    assert found == {"train": 3, "val": 2}
    imported = read_export("labelme", place)
    backwards = replace(imported, images=imported.images[::-1])
    held_out = [
        {item.name for item in with_validation(part, 0.4).images if item.split == "val"}
        for part in (imported, backwards)
    ]
    assert held_out[0] == held_out[1] and len(held_out[0]) == 2
    assert run([*arguments, str(tmp_path / "other"), "--val", "20"]) == 2
    assert "a share between 0 and 1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has the splits train, val already"):
        with_validation(with_validation(imported, 0.4), 0.4)
    with pytest.raises(ValueError, match="two images or more; the export has 1"):
        with_validation(replace(imported, images=imported.images[:1]), 0.4)
