import json

import numpy as np
import pytest
from typer.testing import CliRunner

from prolab_hf.cli import app, run
from prolab_hf.data.data_report import check_source
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.data.sources import FolderSource

runner = CliRunner()


def test_counts_equal_a_plain_count(folder):
    source = FolderSource(folder, "train", class_names=["a", "b", "c"])
    seen = []
    report = check_source(source, workers=3, on_progress=seen.append)
    masks = np.stack([source[i].mask for i in range(6)])
    assert seen == [1, 2, 3, 4, 5, 6]
    assert report.ok
    assert report.class_pixels.tolist() == [(masks == k).sum() for k in range(3)]
    assert report.class_images.tolist() == [6, 6, 6]
    assert report.void_share == pytest.approx(1 / 32)
    assert report.class_shares.sum() == pytest.approx(1)
    assert set(report.raw_ids) == {0, 1, 2, 255}
    assert report.raw_ids[255] == (masks == 255).sum()
    assert report.sizes == {(40, 32): 6}
    assert report.image_modes == {"RGB": 6}
    assert report.mask_modes == {"L": 6}
    assert report.remarks() == []


def test_problems_are_collected_with_file_names(folder, write_mask):
    (folder / "train/images/p1.png").write_bytes(b"x")
    write_mask(folder / "train/masks/p2.png", np.zeros((4, 4)))
    write_mask(folder / "train/masks/p3.png", np.full((32, 40), 77))
    report = check_source(FolderSource(folder, "train", num_classes=3), workers=2)
    assert [(p.index, p.kind) for p in report.problems] == [
        (1, "unreadable"),
        (2, "unreadable"),
        (3, "label"),
    ]
    assert "p1.png" in report.problems[0].message
    assert "4x4" in report.problems[1].message
    assert "77" in report.problems[2].message
    # The refused file's ids are reported too: they show which coding would fit.
    assert report.raw_ids[77] == 32 * 40
    assert not report.ok
    assert report.to_dict()["problems"][2]["index"] == 3


def test_remarks_point_at_a_wrong_coding(folder):
    source = FolderSource(
        folder, "train", num_classes=2, coding=LabelCoding("table", table={0: 0}, unlisted="void")
    )
    remarks = " ".join(check_source(source).remarks())
    assert "1 of 2 classes never occur" in remarks
    assert "are void" in remarks


def test_report_of_colors(folder, tmp_path, write_image):
    from PIL import Image

    colors = np.zeros((4, 4, 3), np.uint8)
    colors[:2] = (255, 0, 128)
    write_image(tmp_path / "c/images/x.png", (4, 4))
    (tmp_path / "c/masks").mkdir()
    Image.fromarray(colors).save(tmp_path / "c/masks/x.png")
    coding = LabelCoding("palette", palette={(255, 0, 128): 0, (0, 0, 0): None})
    report = check_source(FolderSource(tmp_path / "c", num_classes=1, coding=coding))
    assert report.raw_ids == {"#ff0080": 8, "#000000": 8}
    assert report.void_share == 0.5


def test_limit_and_sources_without_files():
    report = check_source(DrawnScenes(num_images=5, size=(64, 64)), limit=2)
    assert report.num_images == 2
    assert report.class_pixels.sum() == 2 * 64 * 64
    assert not report.mask_modes
    json.dumps(report.to_dict())


def test_command_prints_tables_and_writes_json(folder):
    out = folder / "report.json"
    result = runner.invoke(
        app, ["check-data", str(folder), "--split", "train", "--classes", "a,b,c", "--json", str(out)]
    )
    assert result.exit_code == 0, result.output
    for part in ("40x32 (6)", "RGB (6)", "0 1 2 255", "3.12%"):
        assert part in result.output
    data = json.loads(out.read_text())
    assert data["ok"]
    assert [entry["name"] for entry in data["classes"]] == ["a", "b", "c"]


def test_command_ends_with_2_and_names_the_file(folder, capfd):
    code = run(["check-data", str(folder), "--split", "train", "--num-classes", "2"])
    assert code == 2
    captured = capfd.readouterr()
    assert "p0.png" in captured.err
    assert "6 of 6 images have problems" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "val", "--num-classes", "3"], "val/images"),
        (["--split", "train"], "class space"),
        (["--split", "train", "--num-classes", "3", "--coding", "guess"], "guess"),
        (["--split", "train", "--space", "x", "--classes", "a"], "--classes"),
    ],
)
def test_mistakes_of_the_user_end_with_2(folder, capfd, arguments, message):
    assert run(["check-data", str(folder), *arguments]) == 2
    assert message in capfd.readouterr().err


def test_command_on_drawn_scenes():
    result = runner.invoke(app, ["check-data", "scenes:3", "--limit", "2"])
    assert result.exit_code == 0, result.output
    assert "curtain" in result.output


def test_all_splits_of_a_folder_are_checked(folder, write_image, write_mask, capfd):
    write_image(folder / "val/images/v.png", (40, 32))
    write_mask(folder / "val/masks/v.png", np.full((32, 40), 77))
    out = folder / "report.json"
    arguments = ["check-data", str(folder), "--num-classes", "3", "--json", str(out)]
    assert run(arguments) == 2
    captured = capfd.readouterr()
    assert "1 of 7 images have problems; the first: mask val/masks/v.png holds 77" in captured.err
    assert "6 images of the split train" in captured.out and "1 images of the split val" in captured.out
    splits = json.loads(out.read_text())["splits"]
    assert {name: report["ok"] for name, report in splits.items()} == {"train": True, "val": False}
    arguments[-1] = str(folder / "no/such/folder.json")
    assert run(arguments) == 2
    assert "There is no folder" in capfd.readouterr().err


def test_check_data_reads_images_of_more_than_8_bits_and_other_channels(tmp_path, write_mask, capsys):
    for index in range(2):
        (tmp_path / "images").mkdir(exist_ok=True)
        values = np.random.default_rng(index).integers(0, 4096, (8, 12, 4), dtype=np.uint16)
        np.save(tmp_path / f"images/{index}.npy", values)
        write_mask(tmp_path / f"masks/{index}_gt.png", np.arange(96).reshape(8, 12) % 2)
    arguments = ["check-data", str(tmp_path), "--num-classes", "2", "--mask-suffix", "_gt"]
    assert run([*arguments, "--channels", "4", "--value-range", "0,4095"]) == 0
    capsys.readouterr()
    assert run([*arguments, "--channels", "4"]) == 2
    assert "images/0.npy cannot be decoded: it holds values of 16 bits" in capsys.readouterr().err
    assert run([*arguments, "--value-range", "0,4095"]) == 2
    assert "images/0.npy has 4 channels, but the model takes 3" in capsys.readouterr().err
    assert run([*arguments, "--value-range", "5"]) == 2
    assert "--value-range is '5'" in capsys.readouterr().err
