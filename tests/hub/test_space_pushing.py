"""A property space through a hub: one commit, branches, pull requests, offline, and clear refusals."""

import json

import pytest


def last_line(process):
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.strip().splitlines()[-1])


def test_a_space_goes_to_the_hub_and_comes_back(hub, client):
    result = last_line(
        client("""
            import json
            from pathlib import Path
            from huggingface_hub import HfApi
            from prolab_hf import PropertySpace

            def failure(function, *arguments, **options):
                try:
                    function(*arguments, **options)
                except Exception as error:
                    return [type(error).__name__, str(error)]

            api, load = HfApi(), PropertySpace.from_pretrained
            space = PropertySpace.random_codes(["cat", "dog", "car"], num_properties=8, density=0.4)
            space.push_to_hub("user/space", private=True)
            changed = space.rename_classes({"cat": "kitten"})
            changed.push_to_hub("user/space", revision="v2", commit_message="Rename a class")
            space.remove_classes("dog").push_to_hub("user/space", create_pr=True)
            Path("README.md").write_text("# my model")
            Path("config.json").write_text("{}")
            api.create_repo("user/model")
            for name in ("README.md", "config.json"):
                api.upload_file(repo_id="user/model", path_or_fileobj=name, path_in_repo=name)
            missing = failure(load, "user/model")
            space.save_pretrained("saved", push_to_hub=True, repo_id="user/model")
            card = Path(api.hf_hub_download("user/model", "README.md")).read_text()
            print(json.dumps({
                "files": sorted(set(api.list_repo_files("user/space")) - {".gitattributes"}),
                "private": api.repo_info("user/space").private,
                "same": load("user/space") == space == load("user/model"),
                "branch": load("user/space", revision="v2") == changed,
                "offline": load("user/space", local_files_only=True) == space,
                "card": card,
                "missing": missing,
                "revision": failure(load, "user/space", revision="v9"),
                "repository": failure(load, "user/none"),
                "malformed": failure(space.push_to_hub, "a b/c"),
            }))
        """)
    )
    assert result["files"] == ["README.md", "property_space.json", "property_space.safetensors"]
    assert result["private"] and result["same"] and result["branch"] and result["offline"]
    assert ("v2", "Rename a class") in hub.repos["user/space"].history
    assert result["card"] == "# my model"  # a model's card is not ours to replace
    for key, (kind, words) in {
        "missing": ("ValueError", ["user/model", "not a property space", "property_space.json"]),
        "revision": ("FileNotFoundError", ["user/space", "v9"]),
        "repository": ("FileNotFoundError", ["user/none", "bundled names"]),
        "malformed": ("ValueError", ["a b/c", "owner/name"]),
    }.items():
        found, message = result[key]
        assert found == kind, (key, message)
        assert all(word in message for word in words), message


PUSH = """
    import json
    from prolab_hf import PropertySpace
    try:
        PropertySpace.one_hot(["a", "b"]).push_to_hub("user/space")
    except Exception as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def test_a_refused_token_is_one_clear_error(hub, client):
    hub.refuse_tokens = True
    kind, message = last_line(client(PUSH))
    assert kind == "PermissionError" and "token" in message and "user/space" in message


@pytest.mark.slow
def test_no_network_is_one_clear_error(client):
    kind, message = last_line(client(PUSH, HF_ENDPOINT="http://127.0.0.1:9"))
    assert kind == "RuntimeError" and "user/space" in message
