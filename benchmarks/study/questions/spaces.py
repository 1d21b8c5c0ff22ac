"""Other words for the same classes: numbers of properties, the bundled spaces, class names alone."""

import json
from functools import cache
from pathlib import Path

import torch
from closed_form import IN_COCO_STUFF
from torch import Tensor

from benchmarks.study.heads import Words
from benchmarks.study.pixels import DataSet
from benchmarks.study.tables import Builder
from prolab_hf import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder
from property_spaces.build import load_encoder

NUMBERS_OF_PROPERTIES = (32, 64, 128, 256)
BUNDLED = ("ade20k", "coco_stuff", "pascal_context", "cityscapes")


@cache
def encoder() -> TextEncoder:
    """The sentence encoder of the bundled spaces."""
    return load_encoder()


def name_embeddings(class_names: list[str]) -> Tensor:
    """Unit embeddings of the class names, `(num_classes, embedding_dim)`."""
    space = PropertySpace.build(
        {name: [name] for name in class_names}, encoder=encoder(), num_properties=len(class_names), seed=0,
        allow_conflicts=True,
    )  # fmt: skip
    rows = space.class_property_matrix.argmax(dim=1)
    return space.property_embeddings[rows].float()


def words_of(space: PropertySpace, class_names: list[str], names: Tensor) -> Words:
    """Rows of the classes in their order, with the properties that at least one of them has."""
    chosen = space.select_classes(class_names)
    used = chosen.class_property_matrix.any(dim=0)
    return Words(chosen.class_property_matrix[:, used].float(), chosen.property_embeddings[used], names)


def space_variants(data: DataSet) -> dict[str, Builder]:
    """Name of a space -> how to build its words.

    `K 32` to `K 256`: the descriptions of the data set's classes clustered into that many properties. The bundled
    spaces: their properties, with the classes placed by their descriptions. `completed rows`: those of the bundled
    space `coco_stuff_completed` (MSRC-v2). `class names alone`: one phrase per class.
    """
    names = name_embeddings(data.class_names)
    descriptions = {name: list(data.space.descriptions[name]) for name in data.class_names}

    def clustered(number: int) -> Words:
        different = len({text for texts in descriptions.values() for text in texts})
        space = PropertySpace.build(
            descriptions,
            encoder=encoder(),
            num_properties=min(number, different),
            seed=0,
            allow_conflicts=True,
        )
        return words_of(space, data.class_names, names)

    def bundled(name: str) -> Words:
        space = PropertySpace.from_pretrained(name)
        # Sentences are placed one by one: `add_classes` refuses a class whose row the space has already.
        index = {f"{each} (study)": row for row, each in enumerate(descriptions)}
        new = {each: descriptions[data.class_names[row]] for each, row in index.items()}
        rows = torch.zeros(len(new), space.num_properties)
        for placed in space.place(new, encoder=encoder()):
            rows[index[placed.class_name], [placed.property_index, *placed.also]] = 1
        used = rows.any(dim=0)
        return Words(rows[:, used], space.property_embeddings[used].float(), names)

    def completed() -> Words:
        space = PropertySpace.from_pretrained("coco_stuff_completed")
        there = {IN_COCO_STUFF.get(name, name): name for name in data.class_names}
        return words_of(space.select_classes(list(there)).rename_classes(there), data.class_names, names)

    variants: dict[str, Builder] = {
        f"K {number}": (lambda number=number: clustered(number)) for number in NUMBERS_OF_PROPERTIES
    }
    variants |= {name: (lambda name=name: bundled(name)) for name in BUNDLED}
    if data.name == "msrc-v2":
        variants["completed rows"] = completed
    variants["class names alone"] = lambda: Words(torch.eye(len(names)), names, names)
    return variants


def written(path: Path) -> dict[str, list[str]]:
    """Descriptions from a file."""
    found: dict[str, list[str]] = json.loads(path.read_text("utf-8"))
    return found
