import numpy as np
import pytest
from datasets import Dataset

from prolab_hf.data.opening import open_source
from prolab_hf.data.scenes import DrawnScenes
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
