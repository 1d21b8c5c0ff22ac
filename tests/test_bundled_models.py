"""Names of bundled models: what they resolve to, what wins over them, and what a misspelt one is told."""

import pytest

from prolab_hf import bundled_models
from prolab_hf.cli import run
from prolab_hf.cli.options import require_model

NAMES = ("everyday", "street")


@pytest.fixture
def two_models(tmp_path, monkeypatch):
    """A root with two folders that look like models."""
    root = tmp_path / "root"
    for name in NAMES:
        (root / name).mkdir(parents=True)
        for file in ("config.json", "preprocessor_config.json"):
            (root / name / file).write_text("{}")
    (root / "__pycache__").mkdir()
    monkeypatch.setattr(bundled_models, "_root", lambda: root)
    monkeypatch.chdir(tmp_path)
    return root


def test_a_bundled_name_is_its_folder(two_models):
    assert bundled_models.bundled_model_names() == ["everyday", "street"]
    assert bundled_models.resolve_model("street") == str(two_models / "street")
    assert bundled_models.resolve_model("Street") == str(two_models / "street")
    require_model("everyday")


def test_a_local_folder_wins(two_models, tmp_path):
    (tmp_path / "street").mkdir()
    assert bundled_models.resolve_model("street") == "street"
    with pytest.raises(FileNotFoundError, match=r"The folder street has no config\.json"):
        require_model("street")


def test_other_names_are_left_to_the_hub(two_models):
    assert bundled_models.resolve_model("someone/street") == "someone/street"
    require_model("someone/street")
    require_model("gpt2")
    assert bundled_models.bundled_model_folder("__pycache__") is None


@pytest.mark.parametrize(
    "command", [["segment", "image.png"], ["explain", "image.png", "--point", "1,1"], ["demo"]]
)
def test_a_misspelt_name_is_told_the_right_one(two_models, command, capsys):
    assert run([*command, "--model", "stret"]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "There is no model folder stret" in message
    assert "Did you mean 'street'?" in message
    assert "everyday, street" in message


def test_without_bundled_models_nothing_is_promised(monkeypatch):
    monkeypatch.setattr(bundled_models, "_root", lambda: None)
    assert bundled_models.bundled_model_names() == []
    assert bundled_models.bundled_models_hint("street") == ""
    assert bundled_models.resolve_model("street") == "street"
