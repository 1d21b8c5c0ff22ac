import json

import numpy as np
import pytest

from prolab_hf.cli import run
from prolab_hf.data.data_report import check_source, require_teaching_labels
from prolab_hf.data.label_checks import check_label_counts
from prolab_hf.data.sources import FolderSource

NAMES = ["a", "b", "c"]


def test_one_class_everywhere_teaches_nothing():
    found = check_label_counts([90, 0], 10, class_names=NAMES[:2], raw_ids={0: 90, 255: 10})
    assert "Every labeled pixel is 'a'" in found.error
    assert "the masks hold only 0 and 255" in found.error and '"255": 1' in found.error
    assert check_label_counts([90], 10, class_names=["a"]).error is None, (
        "with one class there is nothing else"
    )
    assert "all 10 are void" in check_label_counts([0, 0], 10, class_names=NAMES[:2]).error
    assert check_label_counts([0, 0], 0, class_names=NAMES[:2]).error is None, "nothing was counted"


def test_warnings_name_rare_absent_and_void():
    found = check_label_counts([10000, 5, 0], 20000, class_names=NAMES, class_images=[9, 3, 0], num_images=9)
    text = " | ".join(found.warnings)
    assert found.error is None
    assert "1 of 3 classes never occur: c" in text and "67% of all pixels are void" in text
    assert "class 'b' has 0.0005 of the labeled pixels, under 0.1 %" in text
    one = check_label_counts([50, 50], 0, class_names=NAMES[:2], class_images=[9, 1], num_images=9).warnings
    assert one == ("class 'b' occurs in one image only",)
    assert (
        check_label_counts([50, 50], 5, class_names=NAMES[:2], class_images=[9, 8], num_images=9).warnings
        == ()
    )


def test_masks_that_count_from_one_are_recognized():
    found = check_label_counts([5, 5, 0], 0, class_names=NAMES, raw_ids={0: 1, 1: 5, 3: 5})
    assert "--coding shifted" in found.warnings[0]


@pytest.fixture
def zero_and_255(tmp_path, write_image, write_mask):
    for index in range(3):
        write_image(tmp_path / f"train/images/{index}.png")
        mask = np.zeros((8, 12))
        mask[2:4] = 255
        write_mask(tmp_path / f"train/masks/{index}.png", mask)
    (tmp_path / "classes.txt").write_text("ground\nbuilding\n")
    return tmp_path


def test_check_data_stops_at_masks_of_0_and_255(zero_and_255, capsys):
    assert run(["check-data", str(zero_and_255)]) == 2
    error = capsys.readouterr().err
    assert "Every labeled pixel is 'ground'" in error and '"table": {"0": 0, "255": 1}' in error
    coding = '{"kind": "table", "table": {"0": 0, "255": 1}}'
    assert (
        run(["check-data", str(zero_and_255), "--coding", coding, "--json", str(zero_and_255 / "r.json")])
        == 0
    )
    assert json.loads((zero_and_255 / "r.json").read_text())["error"] is None


def test_training_stops_at_masks_of_0_and_255(zero_and_255, capsys):
    with pytest.raises(ValueError, match=r"teach nothing.*'ground'.*0 and 255"):
        require_teaching_labels(FolderSource(zero_and_255, "train"))
    assert not check_source(FolderSource(zero_and_255, "train")).problems
    (zero_and_255 / "classes.txt").write_text("sky\nroad\n")
    arguments = ["train", str(zero_and_255), "--space", "scenes", "--out", str(zero_and_255 / "run")]
    assert run([*arguments, "--eval-split", "none"]) == 2
    assert "teach nothing. Every labeled pixel is 'sky'" in capsys.readouterr().err


def test_usual_labels_are_read_until_two_classes_are_seen(folder):
    source = FolderSource(folder, "train", class_names=NAMES)
    read, whole = [], source.read_raw
    source.read_raw = lambda index: read.append(index) or whole(index)
    require_teaching_labels(source)
    assert len(read) == 1
