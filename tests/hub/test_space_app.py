"""The Space that runs the demo page: its folder, its commit, and that its own copy of the code runs."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from huggingface_hub.repocard import metadata_load

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.cli import run
from prolab_hf.hub.space_app import write_space_app

PUSH = "import sys\nfrom prolab_hf.cli import run\nsys.exit(run({words!r}))"


def push(client, *words, **environment):
    return client(PUSH.format(words=["push", *map(str, words)]), **environment)


@pytest.fixture
def space(model_folder, tmp_path):
    return write_space_app(model_folder, tmp_path / "space", "me/my-demo", model_id="me/my-model")


def test_the_folder_holds_model_code_and_dockerfile_and_nothing_else(space, model_folder):
    names = {path.name for path in space.iterdir()}
    assert names == {"README.md", "Dockerfile", "requirements.txt", "prolab_hf", "model"}
    files = [str(path.relative_to(space)) for path in space.rglob("*") if path.is_file()]
    assert not [name for name in files if re.search(r"__pycache__|training|optimizer|checkpoints", name)
                and not name.startswith("prolab_hf/")]  # fmt: skip
    assert {"prolab_hf/demo/page/page.html", "prolab_hf/demo/page/page.js", "model/model.safetensors"} <= set(
        files
    )
    before = ProLabForSemanticSegmentation.from_pretrained(model_folder)
    after = ProLabForSemanticSegmentation.from_pretrained(space / "model")
    assert after.property_space == before.property_space
    assert str(model_folder) not in "".join(
        (space / name).read_text() for name in ("README.md", "Dockerfile")
    )


def test_the_front_matter_is_what_the_hub_reads(space):
    front = metadata_load(space / "README.md")
    assert (front["sdk"], front["app_port"], front["title"]) == ("docker", 7860, "my-demo")
    assert front["models"] == ["me/my-model"] and len(front["short_description"]) <= 60
    docker = (space / "Dockerfile").read_text()
    assert f"EXPOSE {front['app_port']}" in docker and f"--port {front['app_port']}" in docker
    assert "--public-name" in docker and "--embed-in https://huggingface.co" in docker
    command = json.loads(re.search(r"CMD (\[.*\])", docker.replace("\\\n", ""), re.DOTALL)[1])
    assert command[:2] == ["sh", "-c"] and "--model model" in command[2]


def test_what_is_installed_is_what_the_package_needs(space):
    lines = (space / "requirements.txt").read_text().splitlines()
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
    assert {"torch", "transformers", "starlette", "uvicorn", "itsdangerous"} <= names
    assert not [line for line in lines if "extra" in line] and "timm" not in names


def test_the_spaces_own_code_runs(space, tmp_path):
    code = "import prolab_hf.cli; print(prolab_hf.__file__); prolab_hf.cli.main()"
    environment = os.environ | {"PYTHONPATH": str(space), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--help"],
        env=environment, cwd=space, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(str(space / "prolab_hf"))
    for option in re.findall(r"--[\w-]+", (space / "Dockerfile").read_text().partition("prolab_hf demo")[2]):
        assert option in done.stdout, option


def test_a_model_cannot_write_commands_into_the_dockerfile(model_folder, tmp_path):
    config = json.loads((model_folder / "config.json").read_text())
    config.setdefault("property_space_info", {})["encoder"] = {"name": "a/b'); import os #\nRUN evil"}
    (model_folder / "config.json").write_text(json.dumps(config))
    space = write_space_app(model_folder, tmp_path / "one", "me/demo")
    assert "evil" not in (space / "Dockerfile").read_text()
    config["property_space_info"]["encoder"] = {"name": "sentence-transformers/all-MiniLM-L6-v2"}
    (model_folder / "config.json").write_text(json.dumps(config))
    space = write_space_app(model_folder, tmp_path / "two", "me/demo")
    assert "snapshot_download('sentence-transformers/all-MiniLM-L6-v2')" in (space / "Dockerfile").read_text()


def test_names_of_classes_are_text_in_the_readme(model_folder, tmp_path):
    model = ProLabForSemanticSegmentation.from_pretrained(model_folder)
    model.set_property_space(model.property_space.rename_classes({"cat": "[x](http://e.vil)"}))
    model.save_pretrained(model_folder)
    text = (write_space_app(model_folder, tmp_path / "space", "me/demo") / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["sdk"] == "docker"
    assert "](http://e.vil)" not in text


def test_model_and_space_are_published(hub, client, model_folder):
    done = push(client, model_folder, "user/model", "--space-app", "user/demo")
    assert done.returncode == 0, done.stderr
    assert hub.repos["user/demo"].sdk == "docker" and hub.repos["user/model"].sdk is None
    assert [title for _, title in hub.repos["user/demo"].history] == [
        "initial commit",
        "Upload the page of prolab demo",
    ]
    files = hub.files("user/demo")
    assert {
        "README.md",
        "Dockerfile",
        "requirements.txt",
        "model/model.safetensors",
        "prolab_hf/demo/app.py",
    } <= set(files)
    assert b"models:\n- user/model" in files["README.md"]
    assert f"Pushed the Space: {hub.url}/user/demo/commit/" in done.stdout


def test_a_space_alone_may_be_private(hub, client, model_folder):
    done = push(client, model_folder, "--space-app", "user/demo", "--private")
    assert done.returncode == 0, done.stderr
    assert list(hub.repos) == ["user/demo"] and hub.repos["user/demo"].private


def test_written_to_a_folder_nothing_is_uploaded(model_folder, tmp_path, capsys):
    words = ["push", str(model_folder), "--space-app", "me/demo", "--out", str(tmp_path / "space")]
    assert run(words) == 0
    assert (tmp_path / "space" / "Dockerfile").is_file()
    assert run(words) == 2
    assert "not an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Say where to"),
        (["--out", "x"], "Say where to"),
        (["me/model", "--out", "x"], "give --space-app"),
        (["--space-app", "no name/at all", "--out", "x"], "no name"),
    ],
)
def test_mistakes(model_folder, words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["push", str(model_folder), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
