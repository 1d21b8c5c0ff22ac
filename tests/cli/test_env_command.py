"""`prolab env`: what it prints is true, whole, and holds nothing private."""

import importlib.metadata
import json
import platform
import sys

import pytest
import torch

from prolab_hf.cli import env_command, run


def test_it_prints_the_versions_that_are_installed(capsys):
    assert run(["env", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["python"] == platform.python_version()
    assert facts["prolab_hf"] == importlib.metadata.version("prolab_hf")
    assert facts["packages"]["transformers"] == importlib.metadata.version("transformers")
    assert facts["devices"]["threads"] == str(torch.get_num_threads())
    assert not {"pytest", "ruff", "mypy"} & set(
        facts["packages"]
    )  # tools of ours say nothing about a user's fault


def test_the_table_has_a_line_for_every_package(capsys):
    assert run(["env"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, version in env_command.packages().items():
        assert any(line.split()[:1] == [name] and version in line for line in lines), name


def test_missing_packages_and_a_broken_torch_are_said(monkeypatch, capsys):
    def version(name):
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(env_command.importlib.metadata, "version", version)
    assert env_command.packages()["timm"] == "not installed"
    monkeypatch.setitem(sys.modules, "torch", None)  # what an import of a broken package raises
    assert env_command.devices()["torch"].startswith("cannot be imported: ModuleNotFoundError")


@pytest.mark.parametrize(("name", "shown"), [("HF_HUB_OFFLINE", True), ("HF_TOKEN", False), ("HOME", False)])
def test_only_named_variables_are_read(name, shown, monkeypatch, capsys):
    monkeypatch.setenv(name, "wert-4711")
    run(["env"])
    assert ("wert-4711" in capsys.readouterr().out) == shown
