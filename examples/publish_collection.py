"""Publishes what `collection.json` lists, and gathers it in a collection of the Hub.

    python examples/publish_collection.py OWNER --dry-run    # says what would be done
    python examples/publish_collection.py OWNER              # needs `hf auth login`

Models and property spaces are pushed as `prolab push` and `PropertySpace.push_to_hub` push them, the page as
`prolab push --space-app` does. What is there already gets a new commit; the collection is changed, not made twice.
"""

import argparse
import json
from pathlib import Path

from huggingface_hub import HfApi

from prolab_hf import PropertySpace
from prolab_hf.hub.pushing import push_model_folder
from prolab_hf.hub.space_app import push_space_app

REPOSITORY = Path(__file__).resolve().parents[1]


def publish(item: dict[str, str], owner: str) -> str:
    """Pushes one item; gives its name on the Hub."""
    if "from" not in item:
        return item["item_id"]
    name, folder = f"{owner}/{item['item_id']}", REPOSITORY / item["from"]
    if item["item_type"] == "space":
        push_space_app(folder, name)
    elif (folder / "config.json").is_file():
        push_model_folder(folder, name)
    else:
        PropertySpace.from_pretrained(folder).push_to_hub(name)
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("owner", help="Name of a user or an organization on the Hub.")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    collection = json.loads(Path(__file__).with_name("collection.json").read_text("utf-8"))
    if options.dry_run:
        for item in collection["items"]:
            print(item["item_type"], item["item_id"], "from", item.get("from", "the Hub"), "-", item["note"])
        return
    api = HfApi()
    made = api.create_collection(
        collection["title"],
        namespace=options.owner,
        description=collection["description"],
        exists_ok=True,
    )
    for item in collection["items"]:
        name = publish(item, options.owner)
        api.add_collection_item(made.slug, name, item["item_type"], note=item["note"], exists_ok=True)
        print(name)
    print(made.url)


if __name__ == "__main__":
    main()
