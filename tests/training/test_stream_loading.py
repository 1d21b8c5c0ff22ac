"""Training on streams: the exact example after a stop, readers in turn, and what a stream cannot do."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import prolab_hf.cli as cli
from prolab_hf import ProLabImageProcessorPil
from prolab_hf.data.streaming.source import StreamingSource
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.reporting import read_log
from prolab_hf.training.stream_loading import StreamState, stream_batches, stream_state
from prolab_hf.training.trainer import TrainingInterrupted, train
from tests.training.conftest import build_model, drawn_pairs
from tests.training.test_resume import space
from tests.training.test_trainer import assert_equal_weights, stop_at, weights

pytest.importorskip("datasets")

NAMES = ["red", "green", "blue"]
QUIET = {"show_progress": False}


def write_shards(folder, lengths):
    """WebDataset shards of drawn stripes."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = iter(enumerate(drawn_pairs(sum(lengths))))
    for shard, length in enumerate(lengths):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as file:
            for _ in range(length):
                number, (image, mask) = next(pairs)
                for suffix, content in (("jpg", image), ("png", Image.fromarray(mask.astype(np.uint8)))):
                    buffer = io.BytesIO()
                    content.save(buffer, "PNG")
                    entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    entry.size = buffer.tell()
                    buffer.seek(0)
                    file.addfile(entry, buffer)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), (4, 3, 4))


def source(folder, **options):
    columns = {"image_column": "jpg", "mask_column": "png"}
    location = f"{folder}/train-*.tar"
    return StreamingSource.load(location, "train", **columns, class_names=NAMES, block_size=3, **options)


def run(folder, output, recipe, *, resume=False, callbacks=()):
    model = build_model(seed=int(resume))
    train(
        model, source(folder), drawn_pairs(2), recipe=recipe, output_dir=output, resume=resume,
        processor=ProLabImageProcessorPil(do_resize=False), callbacks=callbacks, **QUIET,
    )  # fmt: skip
    return weights(model)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_sees_the_very_next_example(tmp_path, shards, recipe, num_workers):
    """Two passes per step and two workers: the next batch is the second worker's."""
    recipe = recipe.replace(
        **{"data.num_workers": num_workers, "schedule.gradient_accumulation": 3, "schedule.batch_size": 2}
    )
    whole = run(shards, tmp_path / "whole", recipe)
    with pytest.raises(TrainingInterrupted):
        run(shards, tmp_path / "parts", recipe, callbacks=[stop_at(3)])
    assert_equal_weights(run(shards, tmp_path / "parts", recipe, resume=True), whole)
    lines = read_log(tmp_path / "whole/training_log.jsonl")
    assert all("epoch" not in line for line in lines)


def batches(folder, recipe, number, saved=(), **options):
    loading = {"rank": 0, "num_processes": 1, "num_workers": 2, "ignore_index": 255, **options}

    def transform(image, mask, rng):
        import torch

        return {"pixel_values": torch.zeros(3, 2, 2), "labels": torch.zeros(2, 2, dtype=torch.int64)}

    reading, state = stream_batches(source(folder), transform, recipe, list(saved), **loading)
    names = []
    for _ in range(number):
        batch = next(reading)
        names.append(batch.names)
        state.advance([batch])
    reading.close()
    return names, state


@pytest.mark.parametrize("stopped", [1, 2, 5])
def test_workers_go_on_in_turn(shards, recipe, stopped):
    whole, _ = batches(shards, recipe, 8)
    first, state = batches(shards, recipe, stopped)
    then, _ = batches(shards, recipe, 8 - stopped, [state.to_dict()])
    assert first + then == whole


def test_readers_of_another_number_start_the_next_epoch(caplog):
    saved = [StreamState(2, 1, {0: {"epoch": 3}, 1: {"epoch": 2}}).to_dict()] * 2
    exact = stream_state(saved, rank=1, num_processes=2, num_workers=2)
    assert exact == StreamState(2, 1, {0: {"epoch": 3}, 1: {"epoch": 2}}) and not caplog.text
    for processes, workers in ((1, 2), (2, 1)):
        state = stream_state(saved, rank=0, num_processes=processes, num_workers=workers)
        assert state.next_worker == 0 and {place["epoch"] for place in state.positions.values()} == {4}
        assert len(state.positions) == workers
    assert "not exactly the run" in caplog.text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule.epochs": 2.0}, "a stream has no length.*--max-iterations"),
        ({"closed_form.init": "solve"}, r"closed_form\.init is 'solve'"),
        ({"balance.class_weights": "sqrt"}, "counts the pixels of all training images"),
    ],
)
def test_what_a_stream_cannot_do_is_said_first(tmp_path, shards, recipe, changes, expected):
    with pytest.raises(ValueError, match=expected):
        run(shards, tmp_path / "out", recipe.replace(**changes))
    assert not (tmp_path / "out").exists()


def test_other_shards_are_another_run(tmp_path, shards):
    recipe = TrainingRecipe(
        schedule={"max_iterations": 2, "batch_size": 2}, data={"num_workers": 0, "crop_size": 32}
    )
    run(shards, tmp_path / "out", recipe)
    other = write_shards(tmp_path / "other", (2, 2))
    with pytest.raises(ValueError, match="list of training images"):
        run(other, tmp_path / "out", recipe.replace(**{"schedule.max_iterations": 3}), resume=True)


def test_the_command_trains_on_shards(tmp_path, capsys):
    """Both splits are shards of one folder; the one to evaluate on is held."""
    folder = write_shards(tmp_path / "data", (4, 3))
    write_shards(tmp_path / "other", (2,))
    (tmp_path / "other/train-0000.tar").rename(folder / "val-0000.tar")
    space(NAMES).save_pretrained(tmp_path / "space")
    sizes = (
        "data.crop_size=32",
        "config.hidden_size=8",
        "config.auxiliary_channels=8",
        "config.pool_scales=[1]",
    )
    options = [part for size in sizes for part in ("--set", size)]
    arguments = [
        "train", str(folder), "--streaming", "--image-column", "jpg", "--mask-column", "png", "--space",
        str(tmp_path / "space"), "--backbone", "resnet18", "--random", "--batch-size", "2", "--num-workers", "0",
        "--quiet", *options,
    ]  # fmt: skip
    assert cli.run([*arguments, "--max-iterations", "2", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/model.safetensors").is_file()
    assert "2 images" in capsys.readouterr().out  # of the evaluation
    assert cli.run([*arguments, "--epochs", "1", "--out", str(tmp_path / "none")]) == 2
    assert "a stream has no length" in capsys.readouterr().err


SCRIPT = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.training.test_stream_loading import run
from prolab_hf.training.recipe import TrainingRecipe

recipe = TrainingRecipe(
    schedule=dict(max_iterations=6, batch_size=2), data=dict(num_workers=1, crop_size=32),
    evaluation=dict(every=3), checkpoints=dict(every=2), log_every=1,
)

def kill(event):
    if event.kind == "checkpoint" and event.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

run(Path(sys.argv[3]), Path(sys.argv[1]), recipe, resume=sys.argv[4] == "resume", callbacks=[kill])
"""


@pytest.mark.slow
def test_two_processes_killed_and_resumed(tmp_path):
    folder = write_shards(tmp_path / "shards", (4, 3, 4, 4))
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(root=str(Path(__file__).parents[2])))

    def launch(name, killed_at, how):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(path)]
        arguments = [str(tmp_path / name), str(killed_at), str(folder), how]
        done = subprocess.run(
            [sys.executable, *launcher, *arguments], capture_output=True, text=True, timeout=600
        )
        assert (done.returncode == 0) == (killed_at < 0), done.stderr[-4000:]

    launch("whole", -1, "start")
    launch("killed", 4, "start")
    launch("killed", -1, "resume")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(bool((first[name] == second[name]).all()) for name in first)
