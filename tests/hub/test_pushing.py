"""Pushing to and loading from a server that speaks the Hub's API, in fresh processes."""

import json
import re

import torch
from PIL import Image
from transformers import AutoImageProcessor

from prolab_hf import ProLabForSemanticSegmentation

PUSH = """
import sys
from prolab_hf.cli import run
sys.exit(run(["push", {folder!r}, {repo!r}, *{options!r}]))
"""


def push(client, folder, repo="user/model", *options, **environment):
    return client(PUSH.format(folder=str(folder), repo=repo, options=list(options)), **environment)


def test_one_commit_holds_model_processor_space_card_and_code(hub, client, model_folder, repository):
    done = push(client, model_folder)
    assert done.returncode == 0, done.stderr
    assert hub.repos["user/model"].history[1:] == [("main", "Upload ProLab model")]
    files = hub.files("user/model")
    expected = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert expected | {"property_space.json", "property_space.safetensors"} <= set(files)
    assert not [name for name in files if "training_state" in name or name.endswith((".pt", ".jsonl"))]
    code = {name for name in files if name.endswith(".py")}
    source = repository / "prolab_hf" / "model"
    assert code <= {path.name for path in source.glob("*.py")}
    assert all(files[name] == (source / name).read_bytes() for name in code)
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
        picture = Image.open("picture.jpg")
        inputs = processor(images=picture, return_tensors="pt")
        torch.save(model(**inputs).logits.detach(), "logits.pt")
        found = pipeline("image-segmentation", model="user/model", **options)(picture)
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
    inputs = processor(images=Image.open(model_folder.parent / "picture.jpg"), return_tensors="pt")
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


def test_an_upload_that_breaks_off_commits_nothing(hub, client, model_folder):
    hub.break_uploads = True
    done = push(client, model_folder)
    assert done.returncode == 1
    assert "Nothing was committed" in done.stderr
    assert hub.files("user/model") == {}
    hub.break_uploads = False
    assert push(client, model_folder).returncode == 0
    assert "model.safetensors" in hub.files("user/model")


def test_missing_gated_and_wrong_repositories(hub, client, model_folder):
    assert push(client, model_folder).returncode == 0
    hub.repos["user/gated"] = type(hub.repos["user/model"])(gated=True)
    loaded = client(
        """
        import sys
        from prolab_hf.cli import run
        codes = [
            run(["segment", "picture.jpg", "--model", "user/absent", "--out", "o.png"]),
            run(["segment", "picture.jpg", "--model", "user/gated", "--out", "o.png"]),
            run(["space", "show", "user/absent"]),
        ]
        print(codes)
        """
    )
    assert "[2, 2, 2]" in loaded.stdout, loaded.stdout + loaded.stderr
    assert "Traceback" not in loaded.stderr


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
