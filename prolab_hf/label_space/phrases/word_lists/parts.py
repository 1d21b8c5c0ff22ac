"""Parts of bodies and vehicles, and whose word a word is."""

# Parts of bodies and vehicles -> the words for each, and what it is inside of.
PARTS: dict[str, tuple[str, str]] = {
    "head": ("head", "body"),
    "face": ("face", "head"),
    "beak": ("beak|bill", "head|face"),
    "snout": ("snout|muzzle", "head|face"),
    "nose": ("nose|nostril", "head|face|snout"),
    "eye": ("eye", "head|face"),
    "mouth": ("mouth|lip|jaw", "head|face"),
    "tooth": ("tooth|fang", "head|face|mouth"),
    "ear": ("ear", "head|face"),
    "horn": ("horn|antler|tusk", "head"),
    "hair": ("hair", "head"),
    "mane": ("mane", "head|neck"),
    "whisker": ("whisker", "head|face|snout"),
    "comb": ("comb|wattle|crest", "head"),
    "beard": ("beard|mustache", "head|face"),
    "neck": ("neck", "body"),
    "arm": ("arm|elbow|sleeve", "body"),
    "hand": ("hand|finger", "arm"),
    "leg": ("leg|knee|thigh", "body"),
    "foot": ("foot|toe", "leg"),
    "hoof": ("hoof", "leg|foot"),
    "paw": ("paw", "leg|foot"),
    "claw": ("claw|talon", "leg|foot|paw"),
    "tail": ("tail", "body"),
    "wing": ("wing", "body"),
    "fin": ("fin|flipper", "body|tail"),
    "hump": ("hump", "body"),
    "tentacle": ("tentacle|sucker", "body|arm"),
    "wheel": ("wheel|caster", ""),
    "tire": ("tire", "wheel"),
    "spoke": ("spoke", "wheel"),
    "track": ("caterpillar", ""),
    "windshield": ("windshield", ""),
    "bumper": ("bumper", ""),
    "headlight": ("headlight|headlamp", ""),
    "tail light": ("taillight", ""),
    "engine": ("engine|motor", "hood"),
    "hood": ("hood", ""),
    "license plate": ("license", "bumper"),
    "steering wheel": ("steering", ""),
    "handlebar": ("handlebar", ""),
    "saddle": ("saddle", ""),
    "pedal": ("pedal", ""),
    "mast": ("mast", ""),
    "sail": ("sail", "mast"),
    "hull": ("hull", ""),
    "oar": ("oar|paddle", ""),
    "rotor": ("rotor|propeller|blade", ""),
    "cockpit": ("cockpit|cab", ""),
    "runner": ("skid|runner", ""),
}

PART_OF = {word: part for part, (words, _) in PARTS.items() for word in words.split("|")}
# Parts of which nothing has both: they contradict each other whatever else is said of them.
ALTERNATIVES = frozenset(
    frozenset(pair)
    for group in (
        "beak snout", "beak nose", "beak tooth", "beak whisker", "hoof paw", "hoof claw", "hoof hand", "hoof "
        "fin", "paw hand",
        "paw fin", "wing fin", "wing arm", "wing hand", "beak horn", "wheel leg", "wheel runner",
        "wheel track", "wheel hull",
        "handlebar:steering wheel", "sail:engine", "rotor wing", "rotor sail", "tentacle leg", "fin leg", "horn "
        "comb", "tire track", "sail rotor", "oar engine",
    )
    for pair in [group.split(":") if ":" in group else group.split()]
)  # fmt: skip

# What a word belongs to. No contradiction ("wheels" and "shade of trees" can be seen of one thing), but phrases of
# different owners do not make one property, so a wanted number of properties keeps them apart while it can.
OWNERS: dict[str, dict[str, str]] = {
    "owner": {
        "vehicle": "vehicle|windshield|bumper|headlight|tail light|engine|motor engine|handlebar|mast|hull"
        "|deck|wheel"
        "|propeller|rotor|cockpit|cab|boat|ship|train|car|truck|traffic",
        "building": "building|facade|balcony|porch|chimney|roof|window pane|brick|wall|house|shingle"
        "|entrance|tower",
        "plant": "twig|trunk|leaf|foliage|plant|blossom|petal|stalk|forest|grass|lawn|tree|branch|bark"
        "|weed|greenery",
        "animal": "fur|paw|hoof|snout|horn|tusk|herd|beak|feather|mane|animal|perched|claw|furry",
        "person": "shirt|trousers|hat|pedestrian|person|people|face|hair|clothing|clothes|hand and foot"
        "|children",
        "food": "food|meal|fruit|vegetable|bread|cheese|lettuce|sausage|icing|crust|sauce",
        "furniture": "furniture|drawer|mattress|headboard|pillow|backrest|armrest|tabletop|cushion",
        "weather": "cloud|sky|haze|horizon|sunset|snow|rain",
        "water": "water|wave|ripple|puddle|shore|beach|jets of water",
    }
}
