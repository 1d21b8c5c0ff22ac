"""The folder of a run: one writer at a time, damaged checkpoints set aside, only a run's own files removed."""

import json
import multiprocessing
import os
import socket

import pytest
import torch
from safetensors.torch import save_file

from prolab_hf.training import checkpoints, run_folder
from prolab_hf.training.checkpoints import (
    checkpoint_path,
    list_checkpoints,
    prune_checkpoints,
    record_evaluations,
    write_checkpoint,
)
from prolab_hf.training.run_folder import RunLock, discard_run, open_output_folder
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model

QUIET = {"show_progress": False}


def fill(folder):
    save_file({"weight": torch.zeros(10)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "training_state").mkdir()
    (folder / "training_state" / "progress.json").write_text("{}")


def damage(path):
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(data)


def names(root):
    return sorted(path.name for path in root.iterdir())


# ---- which checkpoints stay -------------------------------------------------------------------------------


def test_only_valid_checkpoints_count_and_damaged_ones_are_set_aside(tmp_path, caplog):
    """Steps 6 and 9 damaged, two to keep: 3 was resumed from and then removed."""
    for step in (1, 3, 6, 9):
        write_checkpoint(tmp_path, step, fill)
    damage(checkpoint_path(tmp_path, 6))
    (checkpoint_path(tmp_path, 9) / "COMPLETE.json").unlink()
    prune_checkpoints(tmp_path, keep=2)
    assert names(tmp_path) == [
        "damaged-step-00000006",
        "damaged-step-00000009",
        "step-00000001",
        "step-00000003",
    ]
    assert (tmp_path / "damaged-step-00000006" / "model.safetensors").is_file()
    assert "model.safetensors has changed" in caplog.text and "damaged-step-00000009" in caplog.text
    write_checkpoint(tmp_path, 9, fill)
    damage(checkpoint_path(tmp_path, 9))
    prune_checkpoints(tmp_path, keep=1)
    assert names(tmp_path)[-1] == "step-00000003"
    assert "damaged-step-00000009-2" in names(tmp_path)


def test_the_checkpoint_just_written_outlives_a_damaged_newer_one(tmp_path):
    """keep=1 counted the damaged one and removed the one that SIGTERM had just written."""
    write_checkpoint(tmp_path, 9, fill)
    damage(checkpoint_path(tmp_path, 9))
    write_checkpoint(tmp_path, 4, fill)
    prune_checkpoints(tmp_path, keep=1)
    assert [checkpoints.checkpoint_step(path) for path in list_checkpoints(tmp_path)] == [4]


def test_the_checkpoint_resumed_from_stays(tmp_path, recipe):
    recipe = recipe.replace(**{"checkpoints.keep": 1, "checkpoints.every": 1})
    train(build_model(), Stripes(4), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    longer = recipe.replace(**{"schedule.max_iterations": 9})
    train(build_model(), Stripes(4), None, recipe=longer, output_dir=tmp_path, resume=True, **QUIET)
    assert [checkpoints.checkpoint_step(path) for path in list_checkpoints(tmp_path / "checkpoints")] == [
        6,
        9,
    ]


def test_unchanged_files_are_hashed_once(tmp_path, monkeypatch):
    for step in (1, 2, 3):
        write_checkpoint(tmp_path, step, fill)

    def read(*arguments):
        raise AssertionError("a file was read again")

    monkeypatch.setattr(checkpoints.hashlib, "file_digest", read)
    prune_checkpoints(tmp_path, keep=3)
    damage(checkpoint_path(tmp_path, 2))
    with pytest.raises(AssertionError, match="read again"):
        prune_checkpoints(tmp_path, keep=3)


# ---- overwrite --------------------------------------------------------------------------------------------


def test_overwrite_through_a_link_leaves_no_old_step(tmp_path):
    """The link was not followed, and a later resume took the old steps."""
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / "checkpoints").symlink_to(elsewhere)
    write_checkpoint(out / "checkpoints", 3, fill)
    (out / "training_recipe.json").write_text("{}")
    (elsewhere / "notes.txt").write_text("mine")
    assert open_output_folder(out, resume=False, overwrite=True) is None
    assert names(elsewhere) == ["notes.txt"]
    assert (out / "checkpoints").is_symlink()


def test_overwrite_removes_only_what_a_run_wrote(tmp_path, caplog):
    root = tmp_path / "checkpoints"
    for step in (1, 2):
        write_checkpoint(root, step, fill)
    record_evaluations(root, [])
    damage(checkpoint_path(root, 2))
    checkpoints.set_aside_damaged(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "step").write_text("mine")
    (root / "step-00000007").symlink_to(outside)
    (root / "best_of_all").mkdir()
    (root / "best_of_all" / "weights.bin").write_text("mine")
    (checkpoint_path(root, 1) / "thoughts.md").write_text("mine")
    (tmp_path / "training_log.jsonl").write_text("")
    discard_run(tmp_path)
    assert names(root) == ["best_of_all", "step-00000001"]
    assert names(root / "step-00000001") == ["thoughts.md"]
    assert (outside / "step").read_text() == "mine"
    assert "no run wrote" in caplog.text
    assert names(tmp_path) == ["checkpoints", "outside"]


def test_a_marker_cannot_make_overwrite_reach_outside(tmp_path):
    root = tmp_path / "checkpoints"
    path = write_checkpoint(root, 1, fill)
    (tmp_path / "precious.txt").write_text("mine")
    marker = json.loads((path / "COMPLETE.json").read_text())
    marker["files"]["../../precious.txt"] = {"size": 4, "sha256": ""}
    (path / "COMPLETE.json").write_text(json.dumps(marker))
    discard_run(tmp_path)
    assert names(tmp_path) == ["precious.txt"]


def test_overwrite_takes_the_exported_model_with_it(tmp_path, recipe):
    """Left there, it would pass for the model of the new run until that ends."""
    train(build_model(), Stripes(4), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    (tmp_path / "overlay.png").write_text("mine")
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text() + "\n"
    )  # changed by the user
    discard_run(tmp_path)
    assert names(tmp_path) == ["config.json", "overlay.png"]


# ---- one run at a time ------------------------------------------------------------------------------------


def hold(folder, ready, done):
    with RunLock(folder):
        ready.set()
        done.wait(60)


def test_a_second_run_is_refused_with_the_firsts_process_and_host(tmp_path, recipe):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        words = f"process {process.pid} on {socket.gethostname()}"
        for options in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(FileExistsError, match=words):
                train(build_model(), Stripes(4), None, recipe=recipe, output_dir=tmp_path, **options, **QUIET)
    finally:
        done.set()
        process.join()
    assert names(tmp_path) == []
    train(build_model(), Stripes(4), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    assert run_folder.LOCK_FILE not in names(tmp_path)


def test_a_killed_run_keeps_nobody_out(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    assert names(tmp_path) == [run_folder.LOCK_FILE]
    with RunLock(tmp_path):
        owner = json.loads((tmp_path / run_folder.LOCK_FILE).read_text())
        assert owner == {"pid": os.getpid(), "host": socket.gethostname()}
        with pytest.raises(FileExistsError, match="this one"), RunLock(tmp_path):
            pass
    assert names(tmp_path) == []


def test_exported_weights_may_be_read_by_whom_the_umask_allows(tmp_path, recipe):
    train(build_model(), Stripes(4), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()}
    assert modes["model.safetensors"] == modes["config.json"]
