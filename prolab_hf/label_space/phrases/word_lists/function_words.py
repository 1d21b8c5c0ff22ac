"""Words that cut, count, join or deny, whatever the phrase is about; and the nouns for the thing itself."""


def word_set(words: str) -> frozenset[str]:
    """Words of a list in one string.

    Args:
        words: Words with spaces between them.
    """
    return frozenset(words.split())


INFINITY = 10**9
Interval = tuple[int, int]


NUMBER_WORDS: tuple[str, ...] = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *(
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
    ),
)
_TENS = ("thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBERS: dict[str, Interval] = {word: (number, number) for number, word in enumerate(NUMBER_WORDS)}
NUMBERS |= {word: (10 * tens, 10 * tens) for tens, word in enumerate(_TENS, 3)}
NUMBERS |= {
    "single": (1, 1),
    "double": (2, 2),
    "twin": (2, 2),
    "both": (2, 2),
    "triple": (3, 3),
    "few": (2, 4),
    "several": (3, INFINITY),
    "multiple": (3, INFINITY),
    "numerous": (7, INFINITY),
    "many": (7, INFINITY),
    "countless": (7, INFINITY),
    "dual": (2, 2),
    "quadruple": (4, 4),
    "multi": (2, INFINITY),
    "lone": (1, 1),
    "alone": (1, 1),
    "solitary": (1, 1),
}
# "a row of windows": the count belongs to the noun after "of".
GROUPS: dict[str, Interval] = {
    word: (3, INFINITY)
    for word in sorted(
        word_set(
            "row stack pile heap school shoal pack group cluster crowd herd bunch set series bundle flock "
            "swarm "
            "line column collection"
        )
    )
} | {
    "pair": (2, 2),
    "couple": (2, 2),
    "lot": (5, INFINITY),
    "plenty": (5, INFINITY),
    "dozen": (10, INFINITY),
    "hundred": (100, INFINITY),
}
AT_LEAST = {("more", "than"): 1, ("at", "least"): 0, ("over",): 1}
AT_MOST = {("no", "more", "than"): 0, ("at", "most"): 0, ("up", "to"): 0, ("fewer", "than"): -1}

ARTICLES = word_set(
    "located situated a an the its their his her this that these those some any such as very quite almost "
    "more most "
    "rather slightly much enough other than too also each every else own yet still already does do did "
    "just only "
    "really extra super ultra alike fully completely partly usually often always clearly all like vivid "
    "saturated rich pure"
)
JOINING = word_set("and or and/or nor but to")
# After these stand neighbours and landmarks, whose attributes are not the thing's own.
LANDMARK = word_set(
    "in on at atop near beside behind under below beneath above over inside outside against along by next "
    "between "
    "among around through from into onto toward towards across past before after beyond off where when while "
    "compared than during within surrounded"
)
# How a thing lies to a landmark, where that excludes another way (`EXCLUDED_RELATIONS`).
RELATIONS = {
    word: relation
    for relation, words in {
        "over": "over above on onto atop",
        "under": "under below beneath underneath",
        "inside": "in inside within into",
        "outside": "outside",
        "near": "near beside by next against",
        "away": "off",
        "along": "along",
        "across": "across",
    }.items()
    for word in words.split()
}
EXCLUDED_RELATIONS = {
    frozenset(pair.split())
    for pair in ("over under", "inside outside", "along across", "inside away", "over away", "near away")
}
NEAR = word_set("near beside next by close view")
CUTTING = word_set(
    "of with for is are was has have having that which who whose seen show shows showing made "
    "can be being it them covered used"
)
NEGATING = word_set(
    "no without lacks lack lacking not never missing free devoid instead neither none nor non hardly "
    "barely scarcely "
    "absence cannot void"
)
# What a phrase may end in that says the same as "no" at its beginning.
ABSENT = tuple(
    tuple(words.split())
    for words in [
        "cannot be seen",
        "can not be seen",
        "not be seen",
        "not visible",
        "is not visible",
        "are not visible",
        "are missing",
        "is missing",
        "missing",
        "absent",
        "is absent",
        "are absent",
        "not present",
        "is not present",
        "are not present",
        "not there",
    ]
)
NOT_LESS = word_set(
    "less unless stainless endless useless regardless countless restless motionless "
    "colorless colourless seamless flawless priceless weightless shapeless lustreless"
)
NOT_UN = word_set(
    "under underwater underground until uniform unit unique universal unicorn uneven undulating "
    "union underneath unfilled unlit unripe unused unopened undamaged uncooked uncut"
)
LACKED = {
    "backless": "backrest",
    "bareheaded": "hat",
    "barefoot": "shoe",
    "hairless": "hair",
    "treeless": "tree",
    "bald": "hair",
    "wireless": "cable",
    "cordless": "cable",
    "sleeveless": "sleeve",
    "barehanded": "glove",
    "shaven": "beard",
    "shirtless": "shirt",
    "toothless": "tooth",
    "footless": "foot",
}
HELD = {
    "stripe": "marking",
    "wrapped": "packaging",
    "packed": "packaging",
    "packaged": "packaging",
    "boxed": "packaging",
    "spot": "marking",
    "line": "marking",
    "coat": "hair",
    "fur": "hair",
    "furry": "hair",
    "haired": "hair",
    "coated": "hair",
    "wooded": "tree",
    "forested": "tree",
    "bearded": "beard",
    "boot": "shoe",
    "sandal": "shoe",
    "sneaker": "shoe",
    "wired": "cable",
    "cap": "hat",
    "helmet": "hat",
    "curl": "hair",
    "braid": "hair",
}

# Adjectives that in-, im-, dis- and ir- deny.
DENIED = word_set(
    "visible edible complete active mobile movable flexible accurate direct permeable perfect mature connected "
    "assembled mounted colored continuous legal legible animate organic"
)
# Two words for one part.
JOINED = {
    ("tail", "light"): "taillight",
    ("rear", "light"): "taillight",
    ("brake", "light"): "taillight",
    ("head", "light"): "headlight",
    ("front", "light"): "headlight",
    ("head", "of", "hair"): "hair",
    ("tail", "feather"): "tail",
}

IRREGULAR = {
    "levels": "levels", "nuclei": "nucleus", "antennae": "antenna", "vertebrae": "vertebra", "fungi": "fungus",
    "bacteria": "bacterium", "cacti": "cactus", "stimuli": "stimulus", "larvae": "larva", "pupae": "pupa",
    "villi": "villus",
    "calves": "calf", "lives": "live", "axes": "axe", "vertices": "vertex", "dice": "die", "oxen": "ox",
    "uprights": "uprights", "leaves": "leaf", "shelves": "shelf", "knives": "knife", "feet": "foot",
    "men": "man", "people": "person",
    "pedestrian": "person", "pedestrians": "person", "player": "person", "players": "person", "rider": "person",
    "children": "child", "teeth": "tooth", "geese": "goose", "mice": "mouse", "hooves": "hoof", "scarves": "scarf",
    "halves": "half", "wolves": "wolf", "loaves": "loaf", "colors": "colour", "color": "colour",
    "colored": "coloured", "colorful": "colourful", "colorless": "colourless", "multicolored": "multicoloured",
    "center": "middle", "centre": "middle", "picture": "image", "photo": "image", "photograph": "image",
    "frame": "frame", "lies": "lie", "laying": "lying", "tyre": "tire", "tyres": "tire", "story": "storey",
    "stories": "storey", "goes": "go", "opens": "opens", "canvas": "canvas", "lens": "lens", "bus": "bus", "gas": "gas",
    "was": "was", "its": "its", "this": "this", "across": "across", "always": "always", "upwards": "upwards",
    "windscreen": "windshield", "bonnet": "hood", "outdoors": "outdoors", "indoors": "indoors", "moulded": "molded",
    "dies": "die", "trousers": "trousers", "stairs": "stair", "woods": "woods", "less": "less", "has": "has",
    "lacks": "lacks", "various": "various", "numerous": "numerous", "is": "is", "as": "as", "besides": "beside",
    "towards": "towards", "brass": "brass", "moss": "moss", "shows": "shows", "whose": "whose",
}  # fmt: skip

# Words with another meaning before a noun of their own; they give no value.
NEUTRAL = (
    "outdoor view|brake light|traffic light|street light|light bulb|street lamp|tail light|head light"
    "|rear light"
    "|front light"
    "|light source|source of light|road sign|street sign|car seat|office supply|garden tool|wild flower"
    "|hot drink|cold drink|tile floor|dining table|coffee table|public transport|fire truck|light switch"
    "|steering wheel|green salad|red cross|white wine|red wine|light rail|school bus|water drain"
    "|people in water"
    "|head of hair|tail feather"
)
IGNORED = "side by side|from side to side|in a row|of its own|by hand"
# Verbs after which something else begins.
VERBS = word_set(
    "stand sit hang run grow go come reach lead point hold carry rise fall stick rest drive walk "
    "appear look seem remain stay move open close meet"
)
ING_NOUNS = word_set(
    "building clothing ceiling railing covering wing string ring king spring stuffing lining opening "
    "flooring tubing roofing siding tiling decking bedding skirting moulding molding fitting earring opening "
    "casing housing filling seasoning dressing topping pudding dumpling wiring paving padding lettering "
    "icing frosting netting fencing bedding marking coating "
    "stitching crossing landing painting drawing evening morning thing awning piping"
)
# After these adjectives a noun may stand before: "door standing open", "lid closed".
AFTER_NOUN = frozenset({"opening", "filling", "power", "folding", "cleanliness", "posture", "motion"})
