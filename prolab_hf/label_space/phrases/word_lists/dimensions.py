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
    "small": "coin pea fist thumb hand finger egg mouse matchbox fingernail insect phone nut walnut grape "
    "apple button marble ant fly pin needle grain bean cherry berry olive lemon pebble penny pinhead shoebox "
    "book cup mug sparrow hair match pencil tooth stamp dice bee beetle ring plum",
    "large": "car truck bus house room building elephant whale lorry tree church tower mountain skyscraper "
    "hill van horse stadium city island bear cow ship plane hall barn garage tractor rhinoceros crane",
}


def _sizes() -> dict[tuple[str, str], str]:
    forms = "size of {0}|{0} sized|big as {0}|large as {0}|small as {0}|tall as {0}|thick as {0}|thin as {0}"
    forms += "|long as {0}|no bigger than {0}|not bigger than {0}|no larger than {0}"
    compared = {
        "small": ("small as|tiny as", "|smaller than {0}|shorter than {0}|thinner than {0}"),
        "large": (
            "big as|large as|huge as",
            "|bigger than {0}|larger than {0}|taller than {0}|longer than {0}",
        ),
    }
    return {
        ("size", size): "|".join([plain, *((forms + more).format(word) for word in _SIZED_AS[size].split())])
        for size, (plain, more) in compared.items()
    }


# Places that are known by their nouns, behind the prepositions that go with them.
_PLACED: dict[tuple[str, str], tuple[str, str]] = {
    ("indoors", "indoors"): (
        "in inside within",
        "barn shed garage hangar terminal hall warehouse factory gym cellar basement attic cupboard cabinet "
        "wardrobe drawer corridor hallway office classroom workshop shop store supermarket museum theatre "
        "church hotel library studio restaurant cafe pub kitchen bedroom bathroom laundry stable cowshed "
        "greenhouse tent cabin locker pantry fridge oven aquarium living_room dining_room case house "
        "building cage apartment ward",
    ),
    ("indoors", "outdoors"): (
        "in on across along through over",
        "field meadow pasture street road taxiway apron runway pavement sidewalk roadside beach shore lawn "
        "garden park forest wood river lake sea mountain hillside slope desert plaza square playground "
        "riverbank pier harbour canal farmland courtyard hedge cliff glacier swamp pond dune motorway "
        "highway track riverside field",
    ),
    ("support", "ground"): (
        "to into onto on along across",
        "ground floor pavement sidewalk road grass earth lawn sand deck carpet rug soil pavement gravel "
        "concrete mat tarmac",
    ),
    ("support", "ceiling"): ("to on from across", "ceiling wire overhead_wire cable crane rope rafter"),
    ("support", "on post"): ("on atop", "pole post mast pedestal stand pillar plinth column"),
    ("support", "wall"): ("to on against into", "wall"),
    ("support", "under table"): ("under below beneath", "sink bench table desk bed worktop sofa chair seat "
        "counter"),
    ("support", "table"): ("on onto", "table desk worktop counter tray shelf workbench bench cooker hob "
        "plate sideboard"),
    ("support", "under water"): ("on at along to", "seabed bottom_of_sea sea_floor riverbed lakebed "
        "sea_bed ocean_floor"),
    ("support", "water"): ("on at", "surface_of_water water_surface surface_of_sea surface_of_pond"),
    ("part of body worn", "face"): ("on over across", "mouth nose face eye chin cheek"),
    ("part of body worn", "head"): ("on over", "head hair forehead"),
    ("part of body worn", "feet"): ("on over", "foot ankle toe heel"),
    ("part of body worn", "hand"): ("on over", "hand thumb"),
    ("part of body worn", "wrist"): ("on around", "wrist forearm"),
    ("part of body worn", "neck"): ("around on round", "neck throat"),
    ("part of body worn", "waist"): ("around on round", "waist hip"),
    ("part of body worn", "legs"): ("on over around", "leg knee thigh shin calf"),
    ("part of body worn", "shoulders"): ("on over across", "shoulder"),
    ("part of body worn", "trunk"): ("on over around", "chest torso body upper_body"),
    ("part of body worn", "back"): ("on across", "back"),
}  # fmt: skip


def _places() -> dict[tuple[str, str], str]:
    return {
        key: "|".join(
            f"{before} {noun.replace('_', ' ')}" for before in prepositions.split() for noun in nouns.split()
        )
        for key, (prepositions, nouns) in _PLACED.items()
    }


def _joined(lists: dict[str, dict[str, str]], more: dict[tuple[str, str], str]) -> dict[str, dict[str, str]]:
    found = {dimension: dict(values) for dimension, values in lists.items()}
    for (dimension, value), words in more.items():
        known = found[dimension].get(value)
        found[dimension][value] = f"{known}|{words}" if known else words
    return found


DIMENSIONS: dict[str, dict[str, str]] = _joined(
    LOOKS | PLACES | STATES | KINDS | OPPOSITES, _sizes() | _places()
)

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
        "mesh": "metal fabric plastic",
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
