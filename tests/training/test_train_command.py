import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, ResNetConfig, ResNetModel

import prolab_hf.cli as cli
from prolab_hf import PropertySpace

COLORS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, property space and backbone of a tiny run."""
    root = tmp_path_factory.mktemp("command")
    rng = np.random.default_rng(0)
    for split, number in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (root / "data" / split / kind).mkdir(parents=True)
        for index in range(number):
            mask = np.repeat(rng.integers(0, 3, size=6), 8)[:, None].repeat(40, axis=1).astype(np.uint8)
            Image.fromarray(COLORS[mask]).save(root / "data" / split / "images" / f"{index}.png")
            mask[:2] = 7  # void
            Image.fromarray(mask).save(root / "data" / split / "masks" / f"{index}.png")
    PropertySpace(
        class_names=["blue", "red", "green"],
        property_names=["red", "green", "blue", "colored"],
        property_embeddings=torch.eye(4, 6),
        class_property_matrix=torch.tensor([[0, 0, 1, 1], [1, 0, 0, 1], [0, 1, 0, 1]]).float(),
        name="colors",
    ).save_pretrained(root / "space")
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic"
    )
    ResNetModel(config).save_pretrained(root / "backbone")
    return root


def arguments(folder, *more):
    return [
        "train",
        str(folder / "data"),
        "--space",
        str(folder / "space"),
        "--backbone",
        str(folder / "backbone"),
        "--coding",
        "ids:void=7",
        "--max-iterations",
        "2",
        "--batch-size",
        "2",
        "--num-workers",
        "0",
        "--set",
        "crop_size=32",
        "--set",
        "hidden_size=8",
        "--quiet",
        *more,
    ]


def only_line(errors):
    """The one line of a mistake; transformers' bar over loaded weights is not ours."""
    lines = [line for line in errors.splitlines() if line.strip() and "Loading weights" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("prolab: ")
    return lines[0]


def test_a_run_and_its_second_start(folder, tmp_path, capsys, caplog):
    (folder / "data" / "classes.txt").write_text("red\ngreen\nblue\n")
    out = str(tmp_path / "run")
    assert cli.run(arguments(folder, "--out", out)) == 0
    printed = capsys.readouterr().out
    assert "Trained 2 steps, best mIoU" in printed
    model = AutoModelForSemanticSegmentation.from_pretrained(out)
    # The data's own order of classes, not the space's: class id = row.
    assert model.config.id2label == {0: "red", 1: "green", 2: "blue"}
    assert model.config.class_properties == [[0, 3], [1, 3], [2, 3]]
    processor = AutoImageProcessor.from_pretrained(out)
    assert processor.temperature == model.config.temperature
    assert not processor.do_resize

    assert cli.run(arguments(folder, "--out", out)) == 2
    assert "is not empty" in only_line(capsys.readouterr().err)
    # Space, backbone and the meaning of the masks are those of the run.
    longer = ["train", str(folder / "data"), "--quiet", "--resume", "--out", out, "--max-iterations", "3"]
    assert cli.run(longer) == 0
    assert "Trained 3 steps" in capsys.readouterr().out
    assert "label_coding" not in caplog.text
    assert cli.run([*longer, "--coding", "ids"]) == 2
    assert "the label coding, void_values: [7] -> null" in only_line(capsys.readouterr().err)
    assert cli.run([*longer, "--coding", "ids", "--accept-changes"]) == 0
    assert "data.label_coding: 'ids:void=7' -> 'ids'" in caplog.text


def test_a_stopped_run_names_its_newest_checkpoint(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    assert cli.run(arguments(folder, "--out", str(out), "--eval-split", "none")) == 0
    (out / "config.json").unlink()
    capsys.readouterr()
    data = str(folder / "data")
    evaluate = [
        "evaluate",
        data,
        "--split",
        "val",
        "--coding",
        "ids:void=7",
        "--out",
        str(tmp_path / "e.json"),
    ]
    assert cli.run([*evaluate, "--model", str(out)]) == 2
    checkpoint = out / "checkpoints" / "step-00000002"
    assert f"--model {checkpoint}" in only_line(capsys.readouterr().err)
    assert cli.run([*evaluate, "--model", str(checkpoint)]) == 0


def test_resume_where_there_is_no_run(folder, tmp_path, capsys):
    """It asked for --space."""
    words = ["train", str(folder / "data"), "--resume", "--out", str(tmp_path / "typo"), "--quiet"]
    assert cli.run(words) == 2
    assert "There is no run to resume in" in only_line(capsys.readouterr().err)


@pytest.mark.parametrize("content", ["", "{", '{"batch_size": 0}'])
def test_a_damaged_recipe_does_not_make_checkpoints_unusable(folder, tmp_path, capsys, caplog, content):
    out = tmp_path / "run"
    assert cli.run(arguments(folder, "--out", str(out), "--eval-split", "none")) == 0
    (out / "training_recipe.json").write_text(content)
    words = ["train", str(folder / "data"), "--quiet", "--resume", "--out", str(out), "--eval-split", "none"]
    assert cli.run([*words, "--max-iterations", "3"]) == 0
    assert "Trained 3 steps" in capsys.readouterr().out
    assert "The recipe is taken from the checkpoint" in caplog.text
    assert json.loads((out / "training_recipe.json").read_text())["schedule"]["max_iterations"] == 3


@pytest.mark.parametrize("finish", ["closed_form.finish=null", "closed_form.finish=auto"])
def test_the_command_prints_the_score_that_training_recorded(folder, tmp_path, capsys, finish):
    """To the last count, with the default options, also where the recipe says sliding window."""
    out = tmp_path / "run"
    window = ["evaluation.mode=slide", "evaluation.crop_size=32", "evaluation.stride=20"]
    chosen = [word for field in (*window, finish) for word in ("--set", field)]
    assert cli.run(arguments(folder, "--out", str(out), *chosen)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    recorded = json.loads((out / "checkpoints" / "evaluations.json").read_text())
    best = max(entry["mean_iou"] for entry in recorded)
    words = [
        "evaluate",
        str(folder / "data"),
        "--split",
        "val",
        "--model",
        str(out),
        "--coding",
        "ids:void=7",
    ]
    assert cli.run([*words, "--out", str(tmp_path / "e.json")]) == 0
    results = json.loads((tmp_path / "e.json").read_text())
    if finish.endswith("null"):
        assert results["mean_iou"] == best
    else:
        assert results["mean_iou"] > best
        assert f"with its last layer solved at the end {results['mean_iou']:.4f}." in printed
    assert results["inference"]["mode"] == "slide"


PLANNED = (
    "Training plan",
    "parameters",
    "GFLOP per 32 x 32 crop",
    "GPU hours",
    "estimated time here",
    "2 device(s) x 2",
)


def test_dry_run_prints_the_plan(folder, capsys):
    assert cli.run(arguments(folder, "--dry-run", "--devices", "2")) == 0
    printed = capsys.readouterr().out
    for words in (
        "Training plan",
        "parameters",
        "GFLOP per 32 x 32 crop",
        "GPU hours",
        "estimated time here",
        "2 device(s) x 2",
    ):
        assert words in printed


def test_dry_run_reads_the_weights_of_a_folder(folder, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    ResNetConfig(layer_type="basic", out_features=["stage1", "stage2"]).save_pretrained(empty)
    assert cli.run(arguments(folder, "--dry-run", "--backbone", str(empty))) == 2
    assert str(empty) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--set", "crop=32"], "no field 'crop'; did you mean 'data.crop_size'?"),
        (["--set", "crop_size"], "is not FIELD=VALUE"),
        (["--recipe", "ade"], "no recipe 'ade'"),
        (["--set", "learning_rate=-1"], "learning_rate is -1"),
        (["--coding", "ids", "--out", "{tmp}/run"], "7"),
        (["--eval-split", "holdout", "--out", "{tmp}/run"], "holdout"),
        (["--set", "backbone=3"], "backbone is 3; it must be text"),
        (
            ["--backbone", "timm/resnet18.a1_in1k", "--out", "{tmp}/run"],
            "weights of the backbone timm/resnet18",
        ),
        ([], "--out"),
    ],
)
def test_mistakes_end_in_one_line(folder, tmp_path, capsys, more, expected):
    more = [word.replace("{tmp}", str(tmp_path)) for word in more]
    assert cli.run(arguments(folder, *more)) == 2
    assert expected in only_line(capsys.readouterr().err)


def test_classes_without_description_are_named(folder, tmp_path, capsys):
    (folder / "data" / "classes.txt").write_text("red\ngreen\nviolet\n")
    assert cli.run(arguments(folder, "--out", str(tmp_path / "run"))) == 2
    assert "1 classes that the property space 'colors' does not describe, such as 'violet'" in (
        capsys.readouterr().err
    )
    (folder / "data" / "classes.txt").unlink()


def test_recipes_are_listed(capsys):
    assert cli.run(["train", "--list-recipes"]) == 0
    printed = capsys.readouterr().out
    assert "ade20k-deit-base" in printed
    assert "160,000 steps" in printed


def test_options_for_few_images(folder, tmp_path, capsys):
    """Frozen and cached, weighed, in a time: one command, and its plan."""
    (folder / "data" / "classes.txt").write_text("red\ngreen\nblue\n")
    few = ["--freeze-backbone", "--cache-features", "--class-weights", "sqrt", "--early-stopping", "3"]
    assert cli.run(arguments(folder, *few, "--set", "features.copies=2", "--out", str(tmp_path / "run"))) == 0
    recipe = json.loads((tmp_path / "run" / "training_recipe.json").read_text())
    assert (recipe["model"]["freeze"], recipe["features"]["cache"]) == ("backbone", True)
    assert (recipe["balance"]["class_weights"], recipe["evaluation"]["early_stopping"]) == ("sqrt", 3)
    assert len(list((tmp_path / "run" / "feature_cache").rglob("*.safetensors"))) == 8
    weights = json.loads((tmp_path / "run" / "class_balance.json").read_text())["weights"]
    assert list(weights) == ["red", "green", "blue"]
    words = arguments(folder, "--max-minutes", "3", "--dry-run")
    position = words.index("--max-iterations")
    del words[position : position + 2]
    capsys.readouterr()
    assert cli.run(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "│ length" in printed and "3 minutes; the run" in printed


def test_adapters_by_command(folder, tmp_path, capsys):
    (folder / "data" / "classes.txt").write_text("red\ngreen\nblue\n")
    out = tmp_path / "run"
    assert cli.run(arguments(folder, "--peft", "lora", "--out", str(out))) == 0
    assert (out / "adapter" / "adapter_config.json").is_file()
    assert not any(
        ".lora_" in name for name in AutoModelForSemanticSegmentation.from_pretrained(out).state_dict()
    )
    capsys.readouterr()
    assert cli.run(arguments(folder, "--peft", "lora", "--dry-run")) == 0
    assert "LoRA of rank 8" in capsys.readouterr().out
    assert cli.run(arguments(folder, "--peft", "dora", "--out", str(tmp_path / "no"))) == 2
    assert "peft.method is 'dora'; it must be one of 'lora'" in capsys.readouterr().err
