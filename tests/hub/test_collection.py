"""The collection of the Hub: everything it lists is pushed, to a server that speaks the Hub's API, and gathered."""

import json

SCRIPT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("publish_collection", {script!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

class Api:  # the server has repositories, but no collections
    items = []
    def create_collection(self, title, namespace, description, exists_ok):
        assert exists_ok and len(title) <= 60 and len(description) <= 150, "the Hub's limits"
        return type("Collection", (), dict(slug="me/slug", url="address"))
    def add_collection_item(self, slug, name, kind, note, exists_ok):
        assert exists_ok and len(note) <= 500
        self.items.append((kind, name))

module.HfApi = Api
sys.argv = ["publish_collection", "me"]
module.main()
json.dump(Api.items, open("items.json", "w"))
"""


def test_what_the_collection_lists_is_pushed_and_gathered(hub, client, model_folder, repository):
    done = client(SCRIPT.format(script=str(repository / "examples/publish_collection.py")))
    assert done.returncode == 0, done.stderr
    items = json.loads((model_folder.parent / "items.json").read_text())
    assert ["paper", "2312.13764"] in items
    pushed = {name for kind, name in items if kind != "paper"}
    assert pushed == {"me/prolab-everyday", "me/prolab-street", "me/prolab-demo", "me/prolab-space-ade20k"}
    for name in ("me/prolab-everyday", "me/prolab-street"):
        files = hub.files(name)
        assert {"config.json", "model.safetensors", "property_space.json", "modeling_prolab.py"} <= set(files)
        assert "license" in files["README.md"].decode().split("---")[1], "the card that was written for it"
    assert "property_space.json" in hub.files("me/prolab-space-ade20k")
