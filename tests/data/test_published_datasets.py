"""Readers and facts of the benchmarks, on small drawn folders of the official layouts.

The expected numbers are those of the data sets' own documentation, written out here independently.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from prolab_hf.data import published_datasets as benchmarks
from prolab_hf.data.published_datasets import BENCHMARKS, get_benchmark
from prolab_hf.data.source_from_name import open_source

VOID = 255
# Cityscapes' label table: (name, id, trainId) of the evaluated classes.
CITYSCAPES = [
    ("road", 7, 0), ("sidewalk", 8, 1), ("building", 11, 2), ("wall", 12, 3), ("fence", 13, 4),
    ("pole", 17, 5), ("traffic light", 19, 6), ("traffic sign", 20, 7), ("vegetation", 21, 8),
    ("terrain", 22, 9), ("sky", 23, 10), ("person", 24, 11), ("rider", 25, 12), ("car", 26, 13),
    ("truck", 27, 14), ("bus", 28, 15), ("train", 31, 16), ("motorcycle", 32, 17), ("bicycle", 33, 18),
]  # fmt: skip


@pytest.fixture(autouse=True)
def named_classes(monkeypatch):
    """These tests are about files and ids; names are checked against the bundled spaces below."""
    monkeypatch.setattr(
        benchmarks.Benchmark, "class_names", property(lambda self: [f"c{k}" for k in range(self.num_classes)])
    )


def put(root, image, mask, values, write_image, write_mask):
    values = np.atleast_2d(values)
    write_image(root / image, (values.shape[1], values.shape[0]))
    write_mask(root / mask, values)


def test_ade20k(tmp_path, write_image, write_mask):
    root = tmp_path / "ADEChallengeData2016"
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        put(
            root,
            f"images/{split}/{name}.jpg",
            f"annotations/{split}/{name}.png",
            [0, 1, 150],
            write_image,
            write_mask,
        )
    for folder in (tmp_path, root):  # the unpacked folder or the one above
        source = get_benchmark("ade20k").open(folder, "val")
        assert source[0].mask.tolist() == [[VOID, 0, 149]]
        assert source[0].name == "images/validation/ADE_val_00000001.jpg"
    assert len(get_benchmark("ade20k").open(root, "train")) == 1


COCO_LAYOUTS = [("images/val2017", "annotations/val2017"), ("val2017", "stuffthingmaps/val2017")]


@pytest.mark.parametrize("layout", COCO_LAYOUTS)
def test_coco_stuff_raw_and_converted_masks_give_the_same(tmp_path, layout, write_image, write_mask):
    images, masks = layout
    # person, bicycle, fire hydrant (10), stop sign (12), toothbrush (89), banner (91), wood (181), unlabeled
    raw, converted = [0, 1, 10, 12, 89, 91, 181, 255], [0, 1, 10, 11, 79, 80, 170, 255]
    put(tmp_path, f"{images}/000000000139.jpg", f"{masks}/000000000139.png", raw, write_image, write_mask)
    write_mask(tmp_path / masks / "000000000139_labelTrainIds.png", [converted])
    benchmark = get_benchmark("coco_stuff")
    for variant in ("raw", "train_ids"):
        source = benchmark.open(tmp_path, "val", variant=variant)
        assert len(source) == 1
        assert source[0].mask.tolist() == [converted]
    # 11 (street sign) was never annotated: it must not be read as a class.
    write_mask(tmp_path / masks / "000000000139.png", [[11] * 8])
    with pytest.raises(ValueError, match="holds 11"):
        benchmark.open(tmp_path, "val")[0]


def test_coco_stuff_table_has_171_classes():
    coding = BENCHMARKS["coco_stuff"].variants["raw"].coding
    meaning = coding.raw_classes(171)
    assert sorted(v for v in meaning.values() if v is not None) == list(range(171))
    # Things of the COCO paper without annotations (1-based): street sign, hat, shoe, eye glasses, plate,
    # mirror, window, desk, door, blender, hair brush.
    for one_based in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91):
        assert one_based - 1 not in meaning


def test_pascal_context(tmp_path, write_image, write_mask):
    root = tmp_path / "VOCdevkit/VOC2010"
    for name in ("2008_000002", "2008_000003", "2009_000001"):
        put(
            root,
            f"JPEGImages/{name}.jpg",
            f"SegmentationClassContext/{name}.png",
            [0, 1, 59],
            write_image,
            write_mask,
        )
    lists = root / "ImageSets/SegmentationContext"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2008_000002\n2009_000001\n")
    (lists / "val.txt").write_text("2008_000003\n")
    benchmark = get_benchmark("pascal_context")
    assert len(benchmark.open(tmp_path, "train")) == 2
    source = benchmark.open(root, "val")
    assert [source[i].name for i in range(len(source))] == ["JPEGImages/2008_000003.jpg"]
    assert source[0].mask.tolist() == [[VOID, 0, 58]]
    (lists / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="list of split 'val'"):
        benchmark.open(root, "val")


def test_cityscapes_ids_equal_the_official_table(tmp_path, write_image, write_mask):
    ids = [entry[1] for entry in CITYSCAPES]
    others = [i for i in range(34) if i not in ids]
    base = "frankfurt/frankfurt_000000_000294"
    put(
        tmp_path,
        f"leftImg8bit/val/{base}_leftImg8bit.png",
        f"gtFine/val/{base}_gtFine_labelIds.png",
        ids + others,
        write_image,
        write_mask,
    )
    train_ids = [entry[2] for entry in CITYSCAPES] + [VOID] * len(others)
    write_mask(tmp_path / f"gtFine/val/{base}_gtFine_labelTrainIds.png", [train_ids])
    write_mask(tmp_path / f"gtFine/val/{base}_gtFine_instanceIds.png", [[0] * 34])
    write_image(tmp_path / f"gtFine/val/{base}_gtFine_color.png", (34, 1))
    for variant in ("label_ids", "train_ids"):
        source = get_benchmark("cityscapes").open(tmp_path, "val", variant=variant)
        assert len(source) == 1
        assert source[0].mask.tolist() == [train_ids]


def test_bdd100k(tmp_path, write_image, write_mask):
    put(
        tmp_path / "bdd100k",
        "images/10k/train/0004974f-05e1c285.jpg",
        "labels/sem_seg/masks/train/0004974f-05e1c285.png",
        [0, 18, 255],
        write_image,
        write_mask,
    )
    put(
        tmp_path / "old",
        "seg/images/val/7d2f7975.jpg",
        "seg/labels/val/7d2f7975_train_id.png",
        [3, 255],
        write_image,
        write_mask,
    )
    assert get_benchmark("bdd100k").open(tmp_path, "train")[0].mask.tolist() == [[0, 18, VOID]]
    assert get_benchmark("bdd100k").open(tmp_path / "old", "val", variant="legacy")[0].mask.tolist() == [
        [3, VOID]
    ]


def test_benchmark_by_location_text(tmp_path, write_image, write_mask):
    put(tmp_path, "images/training/a.jpg", "annotations/training/a.png", [0, 3], write_image, write_mask)
    assert open_source(f"ade20k:{tmp_path}", "train")[0].mask.tolist() == [[VOID, 2]]
    with pytest.raises(ValueError, match="official"):
        open_source(f"ade20k/raw:{tmp_path}", "train")


def test_wrong_folder_split_and_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not Cityscapes as downloaded.*leftImg8bit"):
        get_benchmark("cityscapes").open(tmp_path)
    with pytest.raises(ValueError, match="no split 'test'"):
        get_benchmark("cityscapes").open(tmp_path, "test")
    with pytest.raises(ValueError, match="ade20k"):
        get_benchmark("ade")
    with pytest.raises(ValueError, match="known to work"):
        get_benchmark("cityscapes").load_from_hub()


@pytest.mark.parametrize(
    ("name", "classes", "train", "val"),
    [
        ("ade20k", 150, 20210, 2000),
        ("coco_stuff", 171, 118287, 5000),
        ("pascal_context", 59, 4996, 5104),
        ("cityscapes", 19, 2975, 500),
        ("bdd100k", 19, 7000, 1000),
    ],
)
def test_sizes(name, classes, train, val):
    benchmark = get_benchmark(name)
    assert benchmark.num_classes == classes
    assert benchmark.num_images == {"train": train, "val": val}
    for variant in benchmark.variants.values():
        variant.coding.check_classes(classes)


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_names_of_the_bundled_space_are_in_the_order_of_the_ids(name):
    from prolab_hf.label_space.property_space import PropertySpace

    official = json.loads(Path(__file__).with_name("official_class_names.json").read_text())
    official["cityscapes"] = official["bdd100k"] = [entry[0] for entry in CITYSCAPES]
    try:
        space = PropertySpace.from_pretrained(get_benchmark(name).space)
    except FileNotFoundError as error:
        pytest.skip(f"the space is not installed: {error}")
    assert space.class_names == official[name]
