"""Control spaces: what a real space must beat for its words to have mattered."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.space_validation import checked_names
from prolab_hf.label_space.text_encoder import TextEncoder

Space = TypeVar("Space", bound=PropertySpace)

_RANDOM_CODE_DIM = 384
_MAX_DRAWS = 100


def shuffled_space(space: Space, seed: int) -> Space:
    """Deals the rows out to other classes; see `PropertySpace.shuffled`.

    Args:
        space: A space of at least two classes.
        seed: Seed of the permutation.

    Raises:
        ValueError: There is only one class.
    """
    if space.num_classes < 2:
        raise ValueError("A space of one class cannot be shuffled.")
    generator = np.random.default_rng(seed)
    # A random cycle through the classes: nobody keeps its own row, as a plain permutation would allow.
    order = generator.permutation(space.num_classes)
    permutation = np.empty_like(order)
    permutation[order] = np.roll(order, 1)
    return space.replace(
        class_property_matrix=space.class_property_matrix[permutation.tolist()],
        assignments={},
        name=f"{space.name} shuffled".strip(),
        clustering=space.clustering | {"control": "shuffled", "control_seed": seed},
    )


def random_codes_space(
    space_class: type[Space], class_names: Sequence[str], num_properties: int, density: float, seed: int
) -> Space:
    """Draws rows at random; see `PropertySpace.random_codes`.

    Args:
        space_class: Class to make.
        class_names: Names of the classes.
        num_properties: Number of columns.
        density: Share of ones in (0, 1).
        seed: Seed of the draw.

    Raises:
        ValueError: The density leaves no room for different, non-empty rows.
    """
    if num_properties < 1 or not 0 < density < 1:
        raise ValueError(
            f"num_properties must be positive and density in (0, 1), got {num_properties} and {density}."
        )
    names = checked_names(class_names, "class_names")
    generator = np.random.default_rng(seed)
    matrix = generator.random((len(names), num_properties)) < density
    for _ in range(_MAX_DRAWS):
        first = np.unique(matrix, axis=0, return_index=True)[1]
        bad = np.setdiff1d(np.arange(len(names)), first).tolist()
        bad += [row for row in np.flatnonzero(~matrix.any(axis=1)).tolist() if row not in bad]
        if not bad:
            break
        matrix[bad] = generator.random((len(bad), num_properties)) < density
    else:
        raise ValueError(
            f"Found no {len(names)} different rows of {num_properties} bits at density {density}; take more "
            "properties or another density."
        )
    return space_class(
        class_names=names,
        property_names=[f"bit {index}" for index in range(num_properties)],
        property_embeddings=generator.standard_normal((num_properties, _RANDOM_CODE_DIM)),
        class_property_matrix=matrix,
        name="random codes",
        clustering={"control": "random_codes", "density": density, "seed": seed},
    )


def one_hot_space(space_class: type[Space], class_names: Sequence[str]) -> Space:
    """One property per class; see `PropertySpace.one_hot`.

    Args:
        space_class: Class to make.
        class_names: Names of the classes.
    """
    names = checked_names(class_names, "class_names")
    return space_class(
        class_names=names,
        property_names=names,
        property_embeddings=np.eye(len(names)),
        class_property_matrix=np.eye(len(names)),
        name="one-hot",
        clustering={"control": "one_hot"},
    )


def class_name_space(space_class: type[Space], class_names: Sequence[str], encoder: Any) -> Space:
    """One property per class with the embedding of its name; see `PropertySpace.class_name_embeddings`.

    Args:
        space_class: Class to make.
        class_names: Names of the classes.
        encoder: Anything that `TextEncoder.load` takes.
    """
    names = checked_names(class_names, "class_names")
    text_encoder = TextEncoder.load(encoder)
    return space_class(
        class_names=names,
        property_names=names,
        property_embeddings=text_encoder.encode(names),
        class_property_matrix=np.eye(len(names)),
        descriptions={name: [name] for name in names},
        assignments={name: [index] for index, name in enumerate(names)},
        name="class names",
        encoder=text_encoder.info,
        clustering={"control": "class_name_embeddings"},
    )
