import json
import resource

import pytest
import torch
from safetensors.torch import save_file

from prolab_hf.training import checkpoints
from prolab_hf.training.export import export_into


def fill(value):
    def write(folder):
        save_file({"weight": torch.full((100,), float(value))}, folder / "model.safetensors")
        (folder / "training_state").mkdir()
        torch.save({"step": value}, folder / "training_state" / "optimizer.pt")

    return write


def test_a_checkpoint_is_sealed_and_found(tmp_path):
    root = tmp_path / "checkpoints"
    for step in (5, 10):
        path = checkpoints.write_checkpoint(root, step, fill(step))
    assert path.name == "step-00000010"
    assert checkpoints.newest_valid_checkpoint(root) == path
    marker = json.loads((path / "COMPLETE.json").read_text())
    assert set(marker["files"]) == {"model.safetensors", "training_state/optimizer.pt"}
    assert [entry.name for entry in root.iterdir() if entry.name.startswith(".")] == []


def test_the_same_step_is_replaced(tmp_path):
    checkpoints.write_checkpoint(tmp_path, 5, fill(1))
    path = checkpoints.write_checkpoint(tmp_path, 5, fill(2))
    assert torch.load(path / "training_state" / "optimizer.pt", weights_only=True) == {"step": 2}
    assert len(list(tmp_path.iterdir())) == 1


def damage_marker(path):
    (path / "COMPLETE.json").unlink()


def damage_marker_text(path):
    (path / "COMPLETE.json").write_text("{")


def damage_length(path):
    with (path / "model.safetensors").open("ab") as file:
        file.truncate(50)


def damage_content(path):
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(data)


def damage_missing(path):
    (path / "training_state" / "optimizer.pt").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_marker, "not written to the end"),
        (damage_marker_text, "cannot be read"),
        (damage_length, "50 bytes instead of"),
        (damage_content, "has changed"),
        (damage_missing, "optimizer.pt is missing"),
    ],
)
def test_damaged_checkpoints_are_skipped_with_a_warning(tmp_path, caplog, damage, reason):
    good = checkpoints.write_checkpoint(tmp_path, 5, fill(5))
    bad = checkpoints.write_checkpoint(tmp_path, 10, fill(10))
    damage(bad)
    assert checkpoints.newest_valid_checkpoint(tmp_path) == good
    assert reason in caplog.text
    assert bad.name in caplog.text


def test_an_interrupted_writer_leaves_nothing_behind(tmp_path):
    checkpoints.write_checkpoint(tmp_path, 5, fill(5))

    def interrupted(folder):
        fill(10)(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.write_checkpoint(tmp_path, 10, interrupted)
    assert checkpoints.newest_valid_checkpoint(tmp_path).name == "step-00000005"
    checkpoints.write_checkpoint(tmp_path, 15, fill(15))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000005", "step-00000015"]


@pytest.fixture
def small_files_only():
    """Writing more than 64 KiB to one file fails, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def large_safetensors(folder):
    save_file({"weight": torch.zeros(1 << 18)}, folder / "model.safetensors")


def large_torch_file(folder):
    torch.save({"weight": torch.zeros(1 << 18)}, folder / "optimizer.pt")


@pytest.mark.parametrize("large", [large_safetensors, large_torch_file])
def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path, small_files_only, large):
    before = checkpoints.write_checkpoint(tmp_path, 5, fill(5))
    with pytest.raises(RuntimeError, match=r"Could not write the checkpoint .*step-00000010") as raised:
        checkpoints.write_checkpoint(tmp_path, 10, large)
    assert str(before) in str(raised.value)
    assert checkpoints.newest_valid_checkpoint(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == [before.name]


def test_pruning_spares_the_newest_and_the_best(tmp_path):
    for step in range(1, 6):
        checkpoints.write_checkpoint(tmp_path, step, fill(step))
    scores = [0.3, 0.5, 0.5, float("nan"), 0.4]  # the first of equals wins, an undefined one never
    checkpoints.record_evaluations(
        tmp_path, [{"step": step, "mean_iou": score} for step, score in enumerate(scores, start=1)]
    )
    checkpoints.prune_checkpoints(tmp_path, keep=2)
    assert [checkpoints.checkpoint_step(path) for path in checkpoints.list_checkpoints(tmp_path)] == [2, 4, 5]
    assert checkpoints.best_checkpoint(tmp_path) == checkpoints.checkpoint_path(tmp_path, 2)
    assert len(checkpoints.recorded_evaluations(tmp_path, until_step=3)) == 3
    damage_content(checkpoints.checkpoint_path(tmp_path, 2))
    assert checkpoints.best_checkpoint(tmp_path) is None


def test_an_empty_root_has_no_checkpoint(tmp_path):
    assert checkpoints.newest_valid_checkpoint(tmp_path / "missing") is None
    assert checkpoints.best_checkpoint(tmp_path) is None
    with pytest.raises(ValueError, match="not a checkpoint folder"):
        checkpoints.checkpoint_step(tmp_path / "best")


def test_a_failed_export_is_one_clear_error(tmp_path, small_files_only):
    (tmp_path / "config.json").write_text("of the run before")
    with pytest.raises(
        RuntimeError, match=r"Could not write the trained model into .*free some space and resume"
    ):
        export_into(tmp_path, large_safetensors)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
