"""Time and memory of a property space for a made-up vocabulary of 10,000 classes.

python benchmarks/large_vocabulary.py                         # 10 descriptions a class, many shared
python benchmarks/large_vocabulary.py --unique                # every description occurs once: 100,000 to encode
python benchmarks/large_vocabulary.py --classes 1000 --properties 512
"""

import argparse
import random
import resource
import time

from prolab_hf.property_spaces.build import load_encoder

from prolab_hf.label_space.property_space import PropertySpace

COLORS = [
    "red",
    "green",
    "blue",
    "yellow",
    "brown",
    "black",
    "white",
    "gray",
    "orange",
    "pink",
    "purple",
    "beige",
    "silver",
    "golden",
]
MATERIALS = [
    "metal",
    "wood",
    "glass",
    "plastic",
    "stone",
    "leather",
    "rubber",
    "fabric",
    "paper",
    "brick",
    "concrete",
    "fur",
    "sand",
    "straw",
    "bone",
]
SHAPES = [
    "long narrow",
    "tall upright",
    "flat round",
    "small square",
    "wide low",
    "curved",
    "boxy",
    "branching",
]
PARTS = [
    "wheels",
    "legs",
    "windows",
    "handles",
    "doors",
    "branches",
    "wings",
    "cables",
    "buttons",
    "petals",
    "drawers",
    "lights",
    "fins",
]
PLACES = [
    "on roads",
    "in kitchens",
    "on walls",
    "in fields",
    "near water",
    "in the sky",
    "on tables",
    "on roofs",
]
SURFACES = ["smooth shiny", "rough", "soft", "ribbed", "cracked", "fuzzy", "translucent", "wrinkled"]


def make_descriptions(num_classes: int, unique: bool) -> dict[str, list[str]]:
    """Ten descriptions a class out of a small grammar; `unique` adds a word that no other class has."""
    draw = random.Random(0)
    one = draw.choice
    vocabulary = {}
    for index in range(num_classes):
        own = f" of kind {index}" if unique else ""
        texts = [
            f"a {one(SHAPES)} body with {one(PARTS)}",
            f"made of {one(SURFACES)} {one(MATERIALS)}",
            f"{one(COLORS)} and {one(COLORS)} surface",
            f"{one(PARTS)} made of {one(MATERIALS)}",
            f"found {one(PLACES)}",
            f"{one(SURFACES)} {one(COLORS)} {one(MATERIALS)}",
            f"sometimes with {one(COLORS)} {one(PARTS)}",
            f"{one(PARTS)} beside {one(PARTS)}",
            f"{one(COLORS)} {one(PARTS)} on top",
            f"a {one(SHAPES)} shape",
        ]
        vocabulary[f"thing {index}"] = [text + own for text in texts]
    return vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--properties", type=int, default=1024)
    parser.add_argument("--unique", action="store_true")
    arguments = parser.parse_args()
    descriptions = make_descriptions(arguments.classes, arguments.unique)
    different = len({text for texts in descriptions.values() for text in texts})
    print(
        f"{arguments.classes} classes, {different} different descriptions, {arguments.properties} properties"
    )
    start = time.perf_counter()
    encoder = load_encoder()
    space = PropertySpace.build(
        descriptions, encoder=encoder, num_properties=arguments.properties, show_progress=True
    )
    built = time.perf_counter()
    # Process time too: on a busy machine it says more than the clock.
    print(
        f"build: {built - start:.0f} s, {time.process_time():.0f} s of CPU ({space.clustering.get('solver')})"
    )
    report = space.check()
    print(f"check: {time.perf_counter() - built:.0f} s, {len(report.findings)} findings")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
