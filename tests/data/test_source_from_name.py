import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.data.source_from_name import list_splits, open_source
from prolab_hf.data.sources import FolderSource, HubSource, MetadataSource, PairSource


def test_every_kind_of_location(folder, tmp_path):
    assert isinstance(open_source("scenes"), DrawnScenes)
    assert len(open_source("scenes:7", "test")) == 7
    assert isinstance(open_source(folder, "train", num_classes=3), FolderSource)
    (folder / "d.csv").write_text("image,mask\ntrain/images/p0.png,train/masks/p0.png\n")
    assert isinstance(open_source(folder / "d.csv", num_classes=3), MetadataSource)
    rows = {"image": [np.zeros((2, 2, 3), np.uint8).tolist()], "label": [[[0, 1], [1, 0]]]}
    Dataset.from_dict(rows).save_to_disk(tmp_path / "saved")
    assert isinstance(open_source(tmp_path / "saved", "train", num_classes=2), HubSource)


def test_coding_is_applied(folder):
    source = open_source(folder, "train", num_classes=2, coding="ids:void=2+255")
    assert set(np.unique(source[0].mask)) == {0, 1, 255}


def test_other_folder_names(folder):
    (folder / "train/masks").rename(folder / "train/annotations")
    source = open_source(folder, "train", num_classes=3, folders=("images", "annotations"))
    assert isinstance(source, PairSource)
    assert len(source) == 6


def test_wrong_locations(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_source(tmp_path / "nowhere", "train", num_classes=3)
    with pytest.raises(ValueError, match="scenes:many"):
        open_source("scenes:many")
    with pytest.raises(ValueError, match="--split"):
        open_source("someone/some-set", num_classes=3)
    with pytest.raises(FileNotFoundError, match="none"):
        open_source("ade20k:none", "val")


def test_splits_are_found(folder, tmp_path_factory, write_image, write_mask):
    write_image(folder / "a-val/images/p.png")
    write_mask(folder / "a-val/masks/p.png", np.zeros((8, 12)))
    (folder / "notes").mkdir()
    assert list_splits(folder) == ["train", "a-val"]
    assert list_splits(folder, folders=("photos", "masks")) == []
    other = tmp_path_factory.mktemp("other")
    for kind in ("images", "masks"):
        for split in ("test", "train"):
            (other / kind / split).mkdir(parents=True)
    assert list_splits(other) == ["train", "test"]
    rows = Dataset.from_dict({"image": [[[[0, 0, 0]]]], "label": [[[0]]]})
    DatasetDict({"validation": rows, "train": rows}).save_to_disk(other / "saved")
    assert list_splits(other / "saved") == ["train", "validation"]
    assert list_splits("scenes") == list_splits(other / "absent") == []


def test_messages_say_which_splits_there_are(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match=r"no images \+ masks; its splits are train \(--split\)"):
        open_source(folder, num_classes=3)
    saved = tmp_path_factory.mktemp("saved")
    rows = Dataset.from_dict({"image": [[[[0, 0, 0]]]], "label": [[[0]]]})
    DatasetDict({"train": rows, "extra": rows}).save_to_disk(saved / "all")
    with pytest.raises(ValueError, match="has the splits train, extra and needs"):
        open_source(saved / "all", num_classes=3)
    rows.save_to_disk(saved / "one")
    assert len(open_source(saved / "one", num_classes=3)) == 1, "a single set needs no name of a split"
    (folder / "notes.txt").write_text("no data")
    with pytest.raises(ValueError, match="is a file, but no metadata file"):
        open_source(folder / "notes.txt", "train", num_classes=3)
