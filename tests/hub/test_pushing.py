"""Pushing to and loading from a server that speaks the Hub's API, in fresh processes."""

import json
import re

import pytest
import torch
from loopback_hub import Repository
from PIL import Image
from transformers import AutoImageProcessor

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.hub.pushing import stage
from prolab_hf.remote_code import FILES, joined

PUSH = """
import sys
from prolab_hf.cli import run
sys.exit(run(["push", {folder!r}, {repo!r}, *{options!r}]))
"""


def push(client, folder, repo="user/model", *options, **environment):
    return client(PUSH.format(folder=str(folder), repo=repo, options=list(options)), **environment)


def test_one_commit_holds_model_processor_space_card_and_code(hub, client, model_folder):
    done = push(client, model_folder)
    assert done.returncode == 0, done.stderr
    assert hub.repos["user/model"].history[1:] == [("main", "Upload ProLab model")]
    # One address in one piece, even where the terminal is narrow.
    assert f"{hub.url}/user/model/commit/{hub.repos['user/model'].branches['main']}" in done.stdout.split()
    files = hub.files("user/model")
    expected = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert expected | {"property_space.json", "property_space.safetensors"} <= set(files)
    assert not [name for name in files if "training_state" in name or name.endswith((".pt", ".jsonl"))]
    code = {name: data.decode() for name, data in files.items() if name.endswith(".py")}
    assert code == {f"{name}.py": joined(name) for name in FILES}
    config = json.loads(files["config.json"])
    assert config["auto_map"]["AutoModelForSemanticSegmentation"].endswith(".ProLabForSemanticSegmentation")


def test_everything_loads_from_the_repository(hub, client, model_folder):
    assert push(client, model_folder).returncode == 0
    loaded = client(
        """
        import torch
        from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
        from prolab_hf import ProLabForSemanticSegmentation, PropertySpace
        model = AutoModelForSemanticSegmentation.from_pretrained("user/model").eval()
        assert type(model) is ProLabForSemanticSegmentation
        space = PropertySpace.from_pretrained("user/model")
        assert space == model.property_space
        AutoImageProcessor.from_pretrained("user/model")
        torch.save(model(torch.ones(1, 3, 32, 40)).logits.detach(), "logits.pt")
        """
    )
    assert loaded.returncode == 0, loaded.stderr
    model = ProLabForSemanticSegmentation.from_pretrained(model_folder).eval()
    logits = torch.load(model_folder.parent / "logits.pt", weights_only=True)
    torch.testing.assert_close(logits, model(torch.ones(1, 3, 32, 40)).logits.detach(), rtol=0, atol=0)


def test_loads_without_the_package_gives_equal_answers_and_saves_again(hub, client, model_folder):
    assert push(client, model_folder).returncode == 0
    loaded = client(
        """
        import torch
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline
        options = {"trust_remote_code": True}
        model = AutoModelForSemanticSegmentation.from_pretrained("user/model", **options).eval()
        processor = AutoImageProcessor.from_pretrained("user/model", **options)
        image = Image.open("image.jpg")
        inputs = processor(images=image, return_tensors="pt")
        torch.save(model(**inputs).logits.detach(), "logits.pt")
        found = pipeline("image-segmentation", model="user/model", **options)(image)
        assert {item["label"] for item in found} <= {"cat", "dog", "car"}
        try:
            model.property_space
        except ImportError as error:
            assert "pip install prolab_hf" in str(error)
        else:
            raise SystemExit("property_space worked without the package")
        model.save_pretrained("again")
        processor.save_pretrained("again")
        reloaded = AutoModelForSemanticSegmentation.from_pretrained("again", **options).eval()
        assert torch.equal(reloaded(**inputs).logits, model(**inputs).logits)
        model.push_to_hub("user/copy")
        """,
        without_package=True,
    )
    assert loaded.returncode == 0, loaded.stderr
    model = ProLabForSemanticSegmentation.from_pretrained(model_folder).eval()
    processor = AutoImageProcessor.from_pretrained(model_folder)
    inputs = processor(images=Image.open(model_folder.parent / "image.jpg"), return_tensors="pt")
    logits = torch.load(model_folder.parent / "logits.pt", weights_only=True)
    torch.testing.assert_close(logits, model(**inputs).logits.detach(), rtol=0, atol=1e-6)
    assert "modeling_prolab.py" in hub.files("user/copy")


def test_private_branch_and_pull_request(hub, client, model_folder):
    assert push(client, model_folder, "user/model", "--private").returncode == 0
    assert hub.repos["user/model"].private
    assert push(client, model_folder, "user/model", "--revision", "v2", "-m", "Second").returncode == 0
    assert hub.repos["user/model"].history[-1] == ("v2", "Second")
    done = push(client, model_folder, "user/model", "--create-pr")
    assert done.returncode == 0, done.stderr
    assert "discussions" in done.stdout
    assert hub.repos["user/model"].history[-1][0].startswith("refs/pr/")


def test_refusals_are_one_clear_line(hub, client, model_folder, tmp_path):
    bad = push(client, model_folder, "a/b/c")
    assert (bad.returncode, bad.stderr.count("Traceback")) == (2, 0)
    assert "no valid repository id" in bad.stderr

    empty = tmp_path / "empty"
    empty.mkdir()
    done = push(client, empty)
    assert done.returncode == 2
    assert "config.json is missing" in done.stderr

    hub.refuse_tokens = True
    done = push(client, model_folder)
    assert done.returncode == 2, done.stderr
    assert re.search("token", done.stderr)
    hub.refuse_tokens = False

    done = push(client, model_folder, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "could not be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_refusal_says_what_is_wrong_in_one_line(hub, client, model_folder):
    hub.require_tokens = True
    done = push(client, model_folder, HF_TOKEN=None)
    assert (done.returncode, done.stderr.count("Traceback")) == (2, 0)
    assert "There is no Hub token" in done.stderr.splitlines()[-1]
    hub.repos["user/public"] = Repository()
    hub.repos["user/public"].commit("main", {}, "initial commit")
    done = client(
        """
        import contextlib, io, json, shutil
        from transformers import SegformerConfig
        from prolab_hf.cli import run

        def failure(*words):
            with contextlib.redirect_stderr(io.StringIO()) as stream:
                code = run(["push", *words])
            return [code, stream.getvalue().strip().splitlines()[-1]]

        shutil.copytree("run", "damaged")
        with open("damaged/model.safetensors", "wb") as file:
            file.write(b"no tensors" * 100)
        shutil.copytree("run", "other")
        SegformerConfig().save_pretrained("other")
        print(json.dumps({
            "both": failure("run", "user/model", "--create-pr", "--revision", "v2"),
            "public": failure("run", "user/public", "--private"),
            "damaged": failure("damaged", "user/model"),
            "other": failure("other", "user/model"),
        }))
        """
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for key, words in {
        "both": ["pull request", "'v2'"],
        "public": ["user/public", "is public", "nothing was uploaded"],
        "damaged": ["damaged", "weights"],
        "other": ["config.json", "'segformer'"],
    }.items():
        code, line = found[key]
        assert code == 2, (key, line)
        assert line.startswith("prolab: ") and all(word in line for word in words), (key, line)
    assert hub.files("user/public") == {} and "user/model" not in hub.repos


def test_nothing_of_the_authors_machine_is_pushed(hub, client, model_folder):
    results = {
        "model": f"step 3 of {model_folder}",
        "data": "/home/ann/camvid",
        "mean_iou": 0.5,
        "per_class": [],
    }
    results |= {"num_images": 1, "num_pixels": 2, "options": {"coding": ["table:/home/ann/table.json"]}}
    (model_folder / "evaluation.json").write_text(json.dumps(results))
    recipe = {"name": "small", "backbone": "/home/ann/weights", "property_space": "~/spaces/mine"}
    recipe["data"] = {"benchmark": "cityscapes:/home/ann/cityscapes"}
    config = json.loads((model_folder / "config.json").read_text())
    config["backbone_config"]["_name_or_path"] = "/home/ann/backbone"
    (model_folder / "config.json").write_text(json.dumps(config))
    (model_folder / "training_recipe.json").write_text(json.dumps(recipe))
    assert push(client, model_folder).returncode == 0
    text = {name: data for name, data in hub.files("user/model").items() if not name.endswith("safetensors")}
    assert not [
        name for name, data in text.items() if b"/home/ann" in data or str(model_folder).encode() in data
    ]
    assert json.loads(text["evaluation.json"])["data"] == "camvid"
    assert json.loads(text["evaluation.json"])["options"] == {"coding": ["table:table.json"]}
    assert json.loads(text["training_recipe.json"])["data"] == {"benchmark": "cityscapes:cityscapes"}
    assert b"1 images of camvid" in text["README.md"]


@pytest.mark.parametrize("name", ["overlay.png", "README.md", "evaluation.json", ".eval_results"])
def test_links_are_refused_before_anything_is_sent(model_folder, tmp_path, name):
    secret = tmp_path / "secret"
    if name == ".eval_results":
        secret.mkdir()
        (secret / "semantic_segmentation.yaml").write_text("secret")
    else:
        secret.write_text("{}")
    (model_folder / name).symlink_to(secret)
    target = tmp_path / "staged"
    with pytest.raises(ValueError, match=f"{name} is a link to .*secret; .*is not uploaded"):
        stage(model_folder, target, "user/model")
    assert not target.exists()


def test_python_users_get_the_errors_of_the_hubs_client(hub, client, model_folder):
    done = client(
        """
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
        from prolab_hf.hub.pushing import push_model_folder
        try:
            push_model_folder("run", "a/b/c")
        except HFValidationError as error:
            assert "a/b/c" in str(error)
        try:
            push_model_folder("run", "user/public", private=True)
        except ValueError as error:
            print(error)
        """
    )
    assert done.returncode == 0, done.stderr


def test_an_upload_that_breaks_off_commits_nothing(hub, client, model_folder):
    hub.break_uploads = True
    done = push(client, model_folder)
    assert done.returncode == 1
    assert "broke off" in done.stderr and "Nothing was committed" in done.stderr
    assert "model.safetensors" in done.stderr or "property_space.safetensors" in done.stderr
    assert hub.files("user/model") == {}
    hub.break_uploads = False
    assert push(client, model_folder).returncode == 0
    assert "model.safetensors" in hub.files("user/model")


def test_missing_gated_and_wrong_repositories(hub, client, model_folder):
    assert push(client, model_folder).returncode == 0
    hub.repos["user/gated"] = Repository(gated=True)
    hub.repos["user/bert"] = Repository()
    hub.repos["user/bert"].commit("main", {"config.json": b'{"model_type": "bert"}'}, "initial commit")
    loaded = client(
        """
        import sys
        from prolab_hf.cli import run
        codes = [
            run(["segment", "image.jpg", "--model", "user/absent", "--out", "o.png"]),
            run(["segment", "image.jpg", "--model", "user/gated", "--out", "o.png"]),
            run(["segment", "image.jpg", "--model", "user/bert", "--out", "o.png"]),
            run(["space", "show", "user/absent"]),
            run(["space", "show", "user/bert"]),
        ]
        print(codes)
        """
    )
    assert "[2, 2, 2, 2, 2]" in loaded.stdout, loaded.stdout + loaded.stderr
    assert "Traceback" not in loaded.stderr
    lines = [line for line in loaded.stderr.splitlines() if line.startswith("prolab: ")]
    assert len(lines) == 5
    for line, word in zip(
        lines, ["user/absent", "gated", "'bert' model", "user/absent", "property_space.json"]
    ):
        assert word in line, line


def test_offline_cache_serves_what_was_loaded_before(hub, client, model_folder):
    assert push(client, model_folder).returncode == 0
    load = """
        from prolab_hf import ProLabForSemanticSegmentation
        print(ProLabForSemanticSegmentation.from_pretrained("user/model").config.num_labels)
    """
    assert client(load).returncode == 0
    asked = len(hub.requests)
    again = client(load, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip().endswith("3")
    assert len(hub.requests) == asked


def test_objects_push_themselves_and_revisions_are_pinned(hub, client, model_folder):
    done = client(
        """
        import torch
        from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessorPil, PropertySpace
        model = ProLabForSemanticSegmentation.from_pretrained("run").eval()
        model.push_to_hub("user/parts", max_shard_size="20KB")
        ProLabImageProcessorPil.from_pretrained("run").push_to_hub("user/parts")
        space = model.property_space
        space.push_to_hub("user/space")
        assert PropertySpace.from_pretrained("user/space") == space
        """
    )
    assert done.returncode == 0, done.stderr
    files = hub.files("user/parts")
    assert sum(name.endswith(".safetensors") and name.startswith("model-") for name in files) > 1
    assert {"preprocessor_config.json", "property_space.json"} <= set(files)
    pinned = hub.repos["user/parts"].branches["main"]
    done = client(
        f"""
        import torch
        from prolab_hf import ProLabForSemanticSegmentation
        before = ProLabForSemanticSegmentation.from_pretrained("run")
        changed = ProLabForSemanticSegmentation.from_pretrained("user/parts")
        assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), changed.state_dict().values()))
        with torch.no_grad():
            changed.decode_head.classifier.bias.add_(1)
        changed.push_to_hub("user/parts")
        newest = ProLabForSemanticSegmentation.from_pretrained("user/parts")
        pinned = ProLabForSemanticSegmentation.from_pretrained("user/parts", revision="{pinned}")
        assert torch.equal(newest.decode_head.classifier.bias, before.decode_head.classifier.bias + 1)
        assert torch.equal(pinned.decode_head.classifier.bias, before.decode_head.classifier.bias)
        """
    )
    assert done.returncode == 0, done.stderr
