"""The command as a whole: what it offers, its exit codes, and the quickstart from end to end."""

import errno
import os
import re

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import prolab_hf
from prolab_hf import ProLabForSemanticSegmentation, cli
from prolab_hf.cli import app, run
from prolab_hf.quickstart import run_quickstart
from prolab_hf.training.published_recipes import get_recipe

COMMANDS = (
    "describe", "space", "check-data", "train", "evaluate", "segment", "explain", "convert", "card", "push",
    "quickstart", "demo", "plot",
)  # fmt: skip


def test_help_lists_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in COMMANDS:
        assert re.search(rf"^│ {command}\s", result.output, re.M), command


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_documents_itself(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.split()) > 20


def test_commands_in_the_readme_exist_with_their_options(repository):
    text = (repository / "README.md").read_text("utf-8")
    lines = re.findall(r"^prolab (.+?)(?:\s+#.*)?$", text, re.M)
    assert len(lines) >= 10
    root = typer.main.get_command(app)
    for line in lines:
        command, words = root, line.split()
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {
            option for parameter in command.params for option in parameter.opts + parameter.secondary_opts
        }
        for word in words:
            if word.startswith("-"):
                assert word in known, f"{line}: {command.name} has no option {word}"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("temperature is 0"), 2, "temperature is 0"),
        (FileNotFoundError("no file x.jpg"), 2, "no file x.jpg"),
        (FileExistsError("out is not empty"), 2, "out is not empty"),
        (ImportError("pip install it"), 2, "pip install it"),
        (RuntimeError("broke off"), 1, "broke off"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "The disk is full"),
        (OSError("not a valid model identifier"), 2, "not a valid model identifier"),
        (KeyboardInterrupt("Stopped at step 3"), 1, "Stopped at step 3"),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, message):
    broken = typer.Typer()

    @broken.command()
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", broken)
    assert run([]) == code
    shown = capsys.readouterr().err
    assert message.lower() in shown.lower()  # typer's versions differ in the case of an argument's name
    assert shown.count("\n") == 1


def test_the_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"prolab_hf {prolab_hf.__version__}"


def test_unknown_option_is_a_users_mistake(capsys):
    assert run(["segment", "--no-such-option"]) == 2
    assert "no-such-option" in capsys.readouterr().err


def test_quickstart_does_every_step(tmp_path):
    said = []
    recipe = get_recipe("quickstart").replace(
        **{"schedule.max_iterations": 6, "evaluation.every": 3, "checkpoints.every": 3}
    )
    result = run_quickstart(
        tmp_path / "out", recipe=recipe, num_train=16, num_test=3, say=said.append, show_progress=False
    )
    assert [line[0] for line in said if line[0].isdigit()] == list("12345678")
    names = [entry["name"] for entry in result.extended["per_class"]]
    assert names[-1] == result.held_out == result.explanation.class_name
    assert len(names) == len(result.test["per_class"]) + 1
    total = sum(share for _, share in result.explanation.contributions)
    assert total == pytest.approx(result.explanation.score, abs=1e-5)
    assert len(result.controls) == 4 and result.shared == [2, 0, 2, 0]
    assert all(0 <= value <= 1 for value in [result.others, *result.controls])
    assert "random rows in the place of its description" in " ".join(said)
    with Image.open(result.figure) as image:
        assert min(image.size) > 400
    # Whoever may read the configuration may read the weights.
    weights, config = (tmp_path / "out" / name for name in ("model.safetensors", "config.json"))
    assert weights.stat().st_mode == config.stat().st_mode
    model = ProLabForSemanticSegmentation.from_pretrained(tmp_path / "out")
    assert model.config.num_labels == len(names) - 1
    assert model.config.similarity == "linear_cosine"
    assert model.calibration_scores is not None
    with pytest.raises(FileExistsError):
        run_quickstart(tmp_path / "out", recipe=recipe, num_train=16, num_test=3, show_progress=False)


def test_quickstart_lets_threads_wait_without_spinning(tmp_path, monkeypatch):
    seen = []

    def stop(*args, **kwargs):
        seen.append(os.environ.get("OMP_WAIT_POLICY"))
        raise FileExistsError("enough.")

    monkeypatch.setattr("prolab_hf.quickstart.run_quickstart", stop)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    CliRunner().invoke(app, ["quickstart", "--out", str(tmp_path / "out")])
    monkeypatch.delenv("OMP_WAIT_POLICY")
    CliRunner().invoke(app, ["quickstart", "--out", str(tmp_path / "out")])
    assert seen == ["ACTIVE", "PASSIVE"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonsense"], "prolab: No such command 'nonsense'. See `prolab --help`."),
        (["check-data"], "prolab: Missing argument 'data'. See `prolab check-data --help`."),
        (["train", "--dry-run", "--recipe", "small", "--devices", "0"], "See `prolab train --help`."),
        (["segment", "x.png", "--model", "y", "--opacity", "2"], "See `prolab segment --help`."),
        (["quickstart", "--out", "{full}"], "is not empty; choose another --out or add --overwrite."),
        (["quickstart", "--out", "{full}/file"], "is a file; name a folder."),
        (["describe", "{full}/file", "--out", "x.json", "--model", "y"], "Give --endpoint"),
    ],
)
def test_mistakes_on_the_command_line_take_one_line(words, message, tmp_path, monkeypatch, capsys):
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("car\n")
    assert run([word.replace("{full}", "full") for word in words]) == 2
    shown = capsys.readouterr().err
    assert message.lower() in shown.lower()  # typer's versions differ in the case of an argument's name
    assert shown.startswith("prolab: ") and shown.count("\n") == 1
