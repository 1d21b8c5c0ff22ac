"""Word lists of `conflicts`: which words give a value on which dimension, and which values imply others.

A dimension maps values to words (`|` between them); the values of one dimension exclude one another unless one
implies the other (`IMPLIED`). Words may be phrases of several words; articles and plurals do not matter. Extend the
lists for one build with `--conflicts FILE` (see `conflicts.ConflictRules.extended`), which has the form of
`DIMENSIONS`.
"""

from prolab_hf.label_space.phrases.word_lists.kinds import KINDS
from prolab_hf.label_space.phrases.word_lists.looks import LOOKS
from prolab_hf.label_space.phrases.word_lists.opposites import OPPOSITES
from prolab_hf.label_space.phrases.word_lists.places import PLACES
from prolab_hf.label_space.phrases.word_lists.slots import IMPLIED_FILLINGS
from prolab_hf.label_space.phrases.word_lists.states import STATES

# What is small or large to everybody: "size of a coin", "coin-sized", "as big as a house".
_SIZED_AS = {
    "small": "coin pea fist thumb hand finger egg mouse matchbox fingernail insect phone nut walnut grape apple button "
    "marble ant fly pin needle grain bean cherry berry olive lemon pebble penny pinhead shoebox book cup mug "
    "sparrow hair match pencil tooth stamp dice bee beetle ring plum",
    "large": "car truck bus house room building elephant whale lorry tree church tower mountain skyscraper "
    "hill van horse stadium city island bear cow ship plane hall barn garage tractor rhinoceros crane",
}


def _sizes() -> dict[str, str]:
    forms = "size of {0}|{0} sized|big as {0}|large as {0}|small as {0}|tall as {0}|thick as {0}|thin as {0}"
    forms += "|long as {0}|no bigger than {0}|not bigger than {0}|no larger than {0}"
    compared = {"small": "|smaller than {0}|shorter than {0}|thinner than {0}",
                "large": "|bigger than {0}|larger than {0}|taller than {0}|longer than {0}"}  # fmt: skip
    return {
        size: "|".join((forms + compared[size]).format(word) for word in words.split())
        for size, words in _SIZED_AS.items()
    }


DIMENSIONS: dict[str, dict[str, str]] = LOOKS | PLACES | STATES | KINDS | OPPOSITES
DIMENSIONS["size compared"] = _sizes()
DIMENSIONS["size"] = {
    value: words + (f"|{DIMENSIONS['size compared'][value]}" if value in _SIZED_AS else "")
    for value, words in DIMENSIONS["size"].items()
}
del DIMENSIONS["size compared"]

# A value implies the values behind it; two values conflict unless one implies the other.
IMPLIED: dict[str, dict[str, str]] = {
    "colour": {
        "turquoise": "turquoise-blue green",
        "turquoise-blue": "blue",
        "silver": "gray",
        "golden": "yellow brown",
        "cream": "white tan",
        "tan": "brown",
        "many colours": "red orange yellow green blue turquoise purple pink golden",
    },
    "shape": {
        "round": "curved",
        "disc": "round curved",
        "ring": "round curved",
        "sphere": "round curved",
        "oval": "curved elongated",
        "cylinder": "curved round elongated",
        "cone": "round elongated",
        "dome": "curved round",
        "arch": "curved",
        "spiral": "curved elongated",
        "teardrop": "curved round elongated",
        "horseshoe": "curved",
        "bell": "curved round",
        "kidney": "curved elongated",
        "diamond": "angular rectangle",
        "trapezoid": "angular",
        "zigzag": "angular irregular elongated",
        "cross": "angular",
        "arrow": "angular triangle elongated",
        "mushroom": "curved round",
        "hourglass": "curved",
        "fan": "curved",
        "needle": "angular elongated",
        "bowl": "curved round",
        "crescent": "curved elongated",
        "rectangle": "angular",
        "square": "rectangle angular",
        "box": "rectangle angular square elongated",
        "triangle": "angular",
        "pentagon": "angular",
        "hexagon": "angular",
        "octagon": "angular",
        "star": "angular",
        "branched": "angular irregular elongated",
    },
    "pattern": {
        "stripes": "patterned",
        "spots": "patterned",
        "checks": "patterned",
        "floral": "patterned",
        "patches": "patterned",
        "bricks": "patterned",
        "zigzag": "patterned",
        "camouflage": "patterned",
        "geometric": "patterned",
        "honeycomb": "patterned geometric",
        "swirl": "patterned",
        "marks": "patterned",
    },
    "ends": {"erect": "pointed", "hooked": "curved pointed", "square": "blunt flat"},
    "engine": {"rotor": "propeller"},
    "slicing": {},
    "age": {},
    "material": {
        "gold": "metal",
        "tin": "metal",
        "steel": "metal",
        "iron": "metal",
        "brass": "metal",
        "bronze": "metal",
        "aluminium": "metal",
        "bamboo": "wood",
        "marble": "stone",
        "gravel": "stone",
        "porcelain": "ceramic",
        "terracotta": "ceramic",
        "brick": "terracotta",
        "cotton": "fabric",
        "wool": "fabric",
        "silk": "fabric",
        "velvet": "fabric",
        "canvas": "fabric",
        "cardboard": "paper",
        "wicker": "bamboo straw",
    },
    "kind": {"vehicle": "machine", "tool": "machine", "instrument": "tool", "weapon": "tool machine"},
    "opening": {},
    "support": {
        "under table": "ground",
        "middle of room": "ground",
        "air": "ceiling",
        "bed": "",
        "on post": "air",
    },
    "locale": {
        "waterside": "water",
        "garden": "farm",
        "sports field": "garden street",
        "underground": "station",
    },
    "posture": {"riding": "sitting", "climbing": "standing"},
    **IMPLIED_FILLINGS,
}

# Values that one thing may have at once although neither implies the other.
TOGETHER: dict[str, frozenset[frozenset[str]]] = {
    "shape": frozenset(
        frozenset({"elongated", shape})
        for shape in ("rectangle", "triangle", "curved", "irregular", "angular")
    ),
}
