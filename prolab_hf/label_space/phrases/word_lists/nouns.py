"""Whose a value is: nouns for the described thing itself, for whole things, and for one part by several words.

"Smooth surface" speaks of the thing, "flat road" of a thing that is a road, "flat roof" of a part; a noun in none of
these lists is a part of its own.
"""

from prolab_hf.label_space.phrases.word_lists.function_words import word_set
from prolab_hf.label_space.phrases.word_lists.sorts import SORTS_OF
from prolab_hf.label_space.phrases.wording import stem

# What is described, by a general word: looks, forms, amounts.
SELF_NOUNS = word_set(
    "colour coloured colouring colouration hue shade tone texture look appearance outline contour silhouette "
    "shape shaped form pattern finish design style kind type variety sort feel touch consistency build "
    "stature dimension size height width length breadth thickness weight area expanse extent space region "
    "section zone object thing overall item structure film body exterior outside surface coating glaze glow "
    "grain layer covering cladding stain staining material substance matter piece part element component "
    "scene image print posture pose position stance bend course curve state condition animal creature beast "
    "organism vehicle building construction facade furniture plant garment device machine appliance "
    "instrument container person figure individual self it livery bodywork paintwork bodyshell peel bark "
    "highlight contents content specimen example sample cover mesh beam tissue image plank panel board sheet "
    "slab block strip tile"
)

# Whole things, by what may take each other's place: a value before one of them is the thing's own, but things of
# different groups are not compared ("blue pool" and "green lawn" may be seen together).
THINGS = {
    stem(word): group
    for group, words in {
        "fastener": "screw nail bolt rivet",
        "rain": "rain drizzle downpour shower rainfall",
        "road": "road street avenue boulevard lane route alley highway motorway carriageway runway track "
        "trail footpath walkway pathway path",
        "pavement": "pavement sidewalk",
        "ground": "ground soil earth dirt",
        "land": "terrain land field plot parcel meadow pasture lawn turf plain farmland acre garden",
        "water": "canal river stream creek brook channel lake pond sea ocean pool waterway water",
        "hill": "hilltop mountaintop gorge canyon ravine hill mountain slope cliff valley peak ridge dune",
        "forest": "forest wood grove orchard woodland canopy",
        "town": "settlement town village city suburb neighbourhood neighborhood district",
        "house": "house hut cabin shed cottage tower skyscraper mansion barn church castle temple hall "
        "warehouse factory station stadium greenhouse shelter kiosk booth stall bungalow villa dwelling",
        "room": "room chamber corridor hallway bathroom kitchen bedroom",
        "vehicle": "car automobile truck lorry van bus coach train tram locomotive carriage tractor trailer "
        "wagon cart bicycle bike motorbike motorcycle scooter",
        "vessel": "boat ship vessel ferry yacht barge canoe kayak dinghy",
        "aircraft": "plane airplane aeroplane aircraft helicopter glider",
        "animal": "dog cat horse cow sheep goat pig bird fish snake lizard frog insect beetle spider bear "
        "mammal reptile",
        "plant": "tree shrub bush herb vine fern cactus palm conifer weed crop mushroom fungus bushes",
        "fruit": "fruit vegetable berry nut apple tomato pepper melon",
        "baked": "bread loaf cake pie pastry biscuit cookie bun roll pizza",
        "meal": "snack breakfast lunch dinner dessert dish meal food sandwich",
        "meat": "meat steak sausage fillet patty bacon ham",
        "pasta": "pasta noodle",
        "soup": "soup stew broth",
        "drink": "drink beverage liquid fluid juice wine beer",
        "container": "bowl cup mug pot pan jar jug bottle basket bucket barrel tray plate saucer vase "
        "pitcher kettle tank bin glassware beaker flask vial tub container box crate chest carton case "
        "packet parcel package bag sack pouch",
        "rod": "bollard stake rod pole post pillar column tube pipe needle cylinder",
        "cord": "rope cord cable wire string chain thread",
        "disc": "disc disk ring ball sphere globe",
        "seat": "chair stool bench sofa couch armchair",
        "table": "table desk",
        "bed": "bed",
        "cupboard": "shelf cupboard cabinet wardrobe",
        "cloth": "blanket towel cloth fabric textile knit weave",
        "hanging": "blind curtain drape",
        "floor cloth": "carpet rug mat",
        "people": "person man woman child boy girl baby lady adult worker farmer soldier tourist passenger "
        "patient pupil player swimmer dancer musician",
        "upper garment": "jacket blouse sweater jumper shirt cardigan hoodie pullover",
        "lower garment": "trousers jeans skirt shorts leggings",
        "full garment": "dress gown robe suit outfit overall costume",
        "barrier": "fence hedge railing barrier",
        "bat": "bat racket paddle club stick",
        "band": "strap bracelet wristband watchband belt",
        "shoe": "shoe boot sandal sneaker footwear",
        "hat": "hat cap helmet",
        "sign": "sign signboard signpost placard",
        "screen": "screen monitor display",
        "blade": "knife scalpel saw sword",
        "lesion": "lesion nodule mass cell tumour tumor cyst",
        "picture": "picture painting poster mirror",
    }.items()
    for word in words.split()
}

# Whole things of the word lists of sorts, by the group of `THINGS` that they belong to.
_GROUP_OF_SORT = {
    sort: group
    for group, sorts in {
        "animal": "animal mammal bird fish reptile amphibian insect arachnid crustacean mollusc",
        "plant": "tree",
        "fruit": "fruit vegetable",
        "vehicle": "vehicle car train",
        "vessel": "vessel",
        "aircraft": "aircraft",
        "seat": "seat",
        "table": "table",
        "lamp": "lamp",
        "tool": "tool weapon",
        "instrument": "instrument",
        "shoe": "shoe",
        "hat": "headgear",
        "house": "building",
        "device": "device",
        "jewel": "jewel",
    }.items()
    for sort in sorts.split()
}
# Names of things that are names of parts, or of looks, as well.
_AMBIGUOUS = word_set(
    "sole ladder bow horn crown hood mask cap boot stud ring chain pin club bat fly rail pump cock crane "
    "seal jet cab mole kid ray skate ski file plane level needle club shield mace bed tank comb tick down "
    "bill bar plant mill block pick level sage lime plum cherry olive peach orange clip tongs square "
    "triangle bell scale string piece heel palm gum ash hand counter roll bun spike leaf sponge slide case "
    "head foot band"
)
for _noun, _sorts in SORTS_OF.items():
    _groups = [_GROUP_OF_SORT[sort] for sort in _sorts if sort in _GROUP_OF_SORT]
    if _groups and _noun not in _AMBIGUOUS:
        THINGS.setdefault(_noun, _groups[0])

# Groups of things that are parts of what has a body: "metal strings", "wooden body".
PART_LIKE = word_set("cord rod disc cloth band fastener blade barrier land water hill forest rain ground")
# Nouns for the thing itself or a layer of it: of one whole thing, but not of a part that is named.
BODIES = word_set(
    "film body cover coating glaze layer covering cladding lining casing housing panel plank board sheet "
    "slab block strip tile beam mesh tissue contents content component part piece frame"
)

# General words for the thing itself that say what kind of thing it is.
GENERIC_THINGS = {
    "animal": "animal", "creature": "animal", "beast": "animal", "plant": "plant", "vehicle": "vehicle",
    "building": "house", "construction": "house", "person": "people", "garment": "garment",
}  # fmt: skip

# Marks on a thing: they make its pattern, but their colour and width are their own.
MARKS = {
    word: group.split()[0]
    for group in ("stripe band streak bar line marking", "spot dot speckle freckle", "patch blotch")
    for word in group.split()
}

# Parts that stand behind an adjective in entries of the lists ("hard seat", "painted wall").
FIXED_PARTS = word_set("text seat wall lid handle blade crust stem cap frame wheel tyre")

# Things that lend their name to a colour.
COLOUR_NOUNS = word_set(
    "cream chocolate olive lemon lime cherry plum coffee mint honey peach apricot salmon mustard rose violet "
    "lilac lavender raven coral chestnut hazel tangerine aubergine caramel cocoa toffee pumpkin"
)

# Coverings whose colour and pattern are the animal's own, while their length and thickness are not.
COVERS = frozenset({"fur", "feather", "scale", "plumage", "shell", "skin", "rind"})
SKIN_DEEP = frozenset({"colour", "tone", "pattern"})

# Words that say where something is, or what, and are things with looks of their own: "straight roads".
PLACE_OR_KIND = frozenset({"fruit kind", "locale", "kind", "support", "fastening"})
# Where a part of a thing sits.
SEATS = frozenset({"side", "front", "level", "layer"})

# One part by several words; the first gives its name.
_SAME_PART = (
    "fur coat pelt fleece haired",
    "snout muzzle",
    "beak bill",
    "tip end point",
    "edge border rim margin",
    "stripe band streak line marking",
    "spot dot speckle",
    "bar slat",
    "leaf foliage leaflet frond",
    "vegetation greenery",
    "flower blossom bloom",
    "trunk bole",
    "branch bough twig",
    "leg limb foreleg",
    "entrance door doorway gate entry",
    "roof rooftop",
    "window windowpane porthole",
    "hood bonnet",
    "cab cockpit",
    "deck decker",
    "handle grip knob handgrip",
    "claw talon nail",
    "horn antler",
    "skin hide",
    "foot paw hoof",
    "belly underside underpart stomach abdomen",
    "light lamp",
    "floor flooring",
    "sole heel",
    "neckline collar neck",
)
HEAD_ALIASES = {word: group.split()[0] for group in _SAME_PART for word in group.split() if "_" not in word}
