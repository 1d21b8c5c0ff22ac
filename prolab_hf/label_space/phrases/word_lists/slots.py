"""Words of `phrases.slots`: what things are used for, and groups of what they hold, carry, wear or are covered with."""

from prolab_hf.label_space.phrases.word_lists.function_words import word_set
from prolab_hf.label_space.phrases.wording import stem

# A use -> its verbs and nouns. Two uses exclude each other unless one implies the other (`USE_IMPLIES`).
USES: dict[str, str] = {
    "sit": "sit seat seating",
    "rest": "rest relax lounge",
    "sleep": "sleep nap sleeping",
    "cook": "cook fry bake roast boil grill cooking baking",
    "eat": "eat dine eating dining",
    "feed": "feed feeding",
    "drink": "drink sip drinking",
    "cut": "cut slice chop carve trim saw prune shear mow cutting slicing",
    "fasten": "fasten tighten screw bolt fix attach join rivet fastening",
    "loosen": "loosen undo unscrew",
    "glue": "glue stick",
    "hit": "hammer hit strike beat pound",
    "measure": "measure gauge measuring measurement",
    "weigh": "weigh weighing",
    "wash": "wash clean rinse bathe scrub wipe shower bath washing cleaning",
    "sweep": "sweep sweeping",
    "dry": "dry drying",
    "store": "store keep storage storing",
    "carry": "carry transport haul move deliver transportation",
    "lift": "lift raise hoist lifting",
    "write": "write writing",
    "draw": "draw sketch drawing",
    "read": "read reading",
    "play": "play playing",
    "dig": "dig shovel scoop excavate digging",
    "paint": "paint painting",
    "light": "light illuminate lighting",
    "cool": "cool chill refrigerate cooling",
    "freeze": "freeze freezing",
    "heat": "heat warm heating",
    "decorate": "decorate adorn decoration",
    "drill": "drill bore drilling",
    "stir": "stir mix whisk mixing",
    "pour": "pour pouring",
    "climb": "climb climbing",
    "protect": "protect shield guard protection",
    "warn": "warn warning",
    "listen": "listen listening",
    "watch": "watch view watching viewing",
    "plough": "plough plow",
    "harvest": "harvest reap",
    "fish": "fish fishing",
    "sew": "sew sewing",
    "iron": "iron ironing",
    "shave": "shave shaving",
    "ride": "ride riding",
    "drive": "drive driving",
    "park": "park parking",
    "walk": "walk walking",
    "swim": "swim swimming",
    "work": "work working",
    "pray": "pray worship",
    "shop": "shop sell buy shopping",
    "teach": "teach learn study teaching learning",
    "heal": "heal treat cure treatment",
    "grip": "grip grasp clamp pinch",
    "hang": "hang hanging",
    "sharpen": "sharpen grind",
    "smooth": "sand plane polish",
    "race": "race racing",
    "fight": "fight shoot kill hunt hunting",
    "breathe": "breathe breathing",
    "fly": "fly flying",
    "burn": "burn burning",
    "hide": "hide hiding",
    "erase": "erase",
    "block": "block bar",
    "phone": "phone call",
    "photograph": "photograph photography",
}  # fmt: skip
USE_IMPLIES = {
    "sit": "rest", "sleep": "rest", "drill": "", "draw": "write", "freeze": "cool", "hang": "store decorate",
    "teach": "work read", "feed": "eat", "smooth": "cut", "fly": "carry", "ride": "carry", "drive": "carry",
    "grip": "lift", "dry": "wash", "sweep": "wash", "stir": "cook", "weigh": "measure",
}  # fmt: skip

# Verbs that open a slot -> its name. What fills it excludes other fillings.
VERB_SLOTS: dict[str, str] = {
    verb: slot
    for slot, verbs in {
        "load": "carry transport haul deliver",
        "held": "hold store keep contain",
        "ridden": "ride",
        "built": "build",
        "diet": "eat stalk catch graze nibble chew hunt feed",
        "made product": "produce",
    }.items()
    for verb in verbs.split()
}
# Participles that do not end on -ed.
PARTICIPLES = word_set(
    "worn eaten grown driven drawn blown hung sold bound woven lit fed sewn thrown written hit beaten wound "
    "swept spun sung shot ridden spread led flown taken drunk built cut set"
)
# How a thing is held: verb and preposition at the beginning of a phrase.
HOLDS: dict[str, frozenset[str]] = {
    verb: frozenset(holds.split())
    for holds, verbs in {
        "hanging": "hung hang hanging dangle dangling suspended",
        "standing": "stand standing sit sitting",
        "standing lying": "rest resting placed",
        "lying": "lie lying",
        "floating": "float floating drift drifting",
        "clinging": "cling clinging",
        "buried": "buried",
        "held": "held carried gripped cradled clutched",
        "fixed standing": "bolted screwed cemented rooted",
        "fixed standing hanging": "mounted",
    }.items()
    for verb in verbs.split()
}
# Participles with their prepositions (`of` for a family) -> slot.
PHRASE_SLOTS: dict[tuple[str, str], str] = {
    (word, preposition): slot
    for slot, words, prepositions in (
        ("cover", "covered coated clad wrapped lined blanketed plastered", "with in by"),
        ("topping", "topped sprinkled garnished dusted drizzled", "with by"),
        ("held", "filled stuffed packed loaded", "with by"),
        ("held", "full", "of"),
        ("put in", "go belong put thrown dropped collected", "in into"),
        ("served in", "served", "in on from"),
        ("user", "used", "by"),
        ("stuff", "made built constructed baked brewed", "of from"),
        ("fixed to", "attached fixed mounted fastened tied connected chained", "to on"),
        ("likeness", "shaped formed", "like as"),
        ("runs on", "run running ride riding roll rolling", "on"),
        ("paving", "paved tiled surfaced", "with in"),
        ("energy", "powered driven operated fuelled fueled moved propelled", "by with"),
        ("energy", "plugged", "into"),
    )
    for word in words.split()
    for preposition in prepositions.split()
}
# Slots whose fillings are compared only where both are words of these lists.
KNOWN_ONLY = frozenset({"stuff", "runs on"})

# A group -> what belongs to it. A word of a group implies the group; a group may stand in another one.
GROUPS_OF_FILLINGS: dict[str, str] = {
    "person": "passenger human child tourist commuter crew driver patient man woman traveller pupil",
    "good": "cargo freight goods load parcel container material merchandise luggage baggage coal timber",
    "animal": "horse cow dog cattle sheep pig ox livestock insect bird prey mouse fish",
    "plant": "grass leaf foliage vegetable fruit seed nut hay herb moss ivy weed alga algae crop tree flower "
    "vegetation bamboo nectar vine",
    "fruit": "berry apple banana jam orange lemon",
    "vegetable": "onion carrot potato bean tomato lettuce cabbage",
    "herb": "parsley basil",
    "meat": "beef pork chicken sausage ham bacon lamb steak turkey prey fish insect mouse flesh",
    "fish": "tuna salmon shrimp",
    "dairy": "milk cheese cream butter yoghurt yogurt",
    "sweet": "sugar honey syrup jam chocolate icing frosting candy caramel",
    "liquid": "water milk oil juice blood wine soup beer fluid drink coffee tea pus urine fuel",
    "gas": "air oxygen helium smoke steam",
    "fuel": "petrol diesel gasoline gas oil",
    "grain": "wheat rice corn maize oat barley flour dough bread rye",
    "dough": "wheat flour",
    "flour": "wheat rye",
    "hair": "fur coat wool bristle fleece",
    "soil": "mud earth dirt dust sand clay ground",
    "book": "magazine paper document",
    "clothes": "shirt coat dress garment clothing clothe jacket shoe sock towel",
    "plate": "dish tray platter",
    "cup": "mug glass",
    "tool": "hammer nail screw knife",
    "rail": "railway track rails",
    "tire": "wheel rubber",
    "limb": "leg foot",
    "road": "street asphalt pavement",
    "food": "meat fruit vegetable bread cheese rice grain meal",
    "electricity": "battery mains socket electric electrical power current",
    "engine": "motor",
    "muscle": "hand foot pedal person",
    "container": "bag box",
}  # fmt: skip


def _kinds() -> dict[str, str]:
    groups: dict[str, list[str]] = {}
    for group, words in GROUPS_OF_FILLINGS.items():
        for word in map(stem, words.split()):
            groups.setdefault(word, []).append(stem(group))
    return {word: " ".join(found) for word, found in groups.items()}


# Filling -> the groups that it is in.
FILLING_KINDS = _kinds()
# Slot -> filling -> the fillings that it implies.
IMPLIED_FILLINGS: dict[str, dict[str, str]] = {
    **dict.fromkeys([*VERB_SLOTS.values(), *PHRASE_SLOTS.values(), "used on"], FILLING_KINDS),
    "use": USE_IMPLIES,
}
