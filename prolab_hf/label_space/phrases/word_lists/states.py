"""What states things are in: age, wear, motion, posture, use."""

# fmt: off
STATES: dict[str, dict[str, str]] = {
    "age": {
        "old": "grey haired|wrinkled old|age old|"
        "old|older|aged|ancient|antique|elderly|mature|vintage|historic|senior|full grown|adult"
        "|grown up|fully grown|medieval|archaic|traditional|ageing|aging|decades old|centuries old"
        "|old fashioned|retired|long established|outdated|past its best|stale|second hand|used before",
        "new": "new|newer|brand new|modern|recent|contemporary|newly built|unused|futuristic|newly planted"
        "|latest|state of art|up to date|just built|newly made|freshly painted|newly painted"
        "|high tech|newly laid",
        "young": "lamb|piglet|duckling|seedling stage|newly hatched|fledgling|kitten like|adolescent|"
        "young|younger|baby|juvenile|child|newborn|infant|youthful|sapling|calf|puppy|kitten|cub"
        "|chick|foal|teenage|teenager|toddler|immature|seedling|hatchling|kid",
    },
    "wear": {
        "kept": "brand new|new and shiny|unworn|spick and span|factory fresh|"
        "polished|intact|undamaged|pristine|smooth painted|well kept|unbroken|whole|freshly painted"
        "|newly painted|flawless|unscratched|in good condition|well maintained|undented|repaired"
        "|restored|spotless|like new|mint condition|sound",
        "worn": "rusty and dented|battered|crumpled|scuffed|threadbare|ragged|moth eaten|creased|bruised|"
        "weathered|peeling|worn|damaged|broken|cracked|crumbling|rusty|rusted|faded|torn|shabby"
        "|ruined|peeled|peeled off|chipped|flaking|scratched|dented|tattered|frayed|rotten|rotting"
        "|decayed|corroded|collapsed|wrecked|burnt|burned out|dilapidated|derelict|run down"
        "|paint coming off|weather beaten|patched|in ruin|bent|crushed|mouldy|moldy|moss grown"
        "|bad condition|shattered|smashed",
    },
    "wetness": {
        "wet": "wet|moist|damp|soaked|soggy|glistening wet|rainy|rain soaked|dewy|dripping|humid|waterlogged"
        "|flooded|moistened|sodden|slushy|sweaty|just washed",
        "dry": "hardened|set hard|dry|dried|arid|parched|dried out|waterless|rainless|dusty dry|dehydrated"
        "|bone dry|drained"
        "|dry as dust|droughty",
    },
    "opening": {
        "open": "open|opened|wide open door|uncovered|wide open|gaping|unfastened|opened up|unzipped"
        "|open topped|lidless|unsealed",
        "half open": "half open|half closed|ajar|partly open",
        "closed": "drawn|pulled shut|pulled closed|"
        "closed|shut|sealed|covered by lid|fully closed|locked|fastened|zipped|zipped up|covered"
        "|with lid|lidded|buttoned up|drawn shut|bolted|enclosed",
    },
    "filling": {
        "full": "full|filled|stuffed|loaded|filled up|brimming|overflowing|occupied|fully loaded|laden"
        "|stocked|crammed|stuffed full|bulging full",
        "empty": "drained|empty|unfilled|vacant|nothing on it|nothing in it|unoccupied|unloaded"
        "|hollowed out|emptied"
        "|bare inside|with nothing in it|cleared|blank|depleted|unused seat",
        "half full": "half full|half empty|partly filled|half filled",
    },
    "power": {
        "on": "switched on|turned on|lit|lit up|glowing|illuminated|powered on|burning|shining|lighted"
        "|running engine|active|plugged in|flashing|alight|blinking",
        "off": "switched off|turned off|unlit|powered off|not lit|extinguished|burnt out|unplugged|inactive"
        "|dark lamp|out of order|idle|powered down|disconnected|not burning",
    },
    "motion": {
        "moving": "spin|rotate|under sail|under full sail|moving|in motion|driving|flowing|rolling|speeding"
        "|in traffic|driving past|rotating|spinning"
        "|sailing|under way|cruising|in flight|swaying|travelling|traveling|rushing|being driven"
        "|galloping|trotting|crashing",
        "still": "at anchor|at berth|still|stationary|parked|motionless|at rest|stopped|immobile|calm|stagnant"
        "|standing still"
        "|anchored|moored|docked|waiting|at standstill|resting|halted|frozen in place|not moving"
        "|tied up|stalled|unmoving|static",
    },
    "speed": {
        "fast": "fast|quick|rapid|speedy|swift|high speed|racing|rapidly moving",
        "slow": "slow|sluggish|slow moving|crawling|leisurely|low speed",
    },
    "posture": {
        "dancing": "dancing",
        "climbing": "climb|"
        "climbing",
        "kneeling": "kneeling|crouching|squatting|bent over|bending",
        "sitting": "sitting|seated|sit|sitting down|perched|sat down|sit down",
        "standing": "standing person|person standing|standing still|people standing|standing|stand upright"
        "|on its feet|on their feet",
        "walking": "walking|walk|pedestrian walking|strolling|hiking|on foot|marching",
        "running": "running|sprinting|who run|jogging|galloping|run|racing on foot",
        "jumping": "jumping|leaping",
        "lying": "lying|lying down|sleeping|asleep|lying person|lie down|reclining|lying on back"
        "|stretched out|prone"
        "|resting on ground",
        "flying": "fly|flies|airborne|flapping|"
        "flying|in flight|soaring|hovering|gliding",
        "swimming": "swim|paddling|"
        "swimming|in water swimming|diving",
        "riding": "riding",
        "hopping": "hopping|hop|bounding",
        "crawling": "crawling|crawl|slithering|slither|creep",
    },
    "cooking": {
        "raw": "raw|uncooked|unbaked|fresh meat|fresh from garden|unprocessed|rare meat",
        "cooked": "cooked|boiled|fried|baked|roasted|grilled|toasted|steamed|stewed|simmered|poached|well done"
        "|deep fried|roast|smoked|barbecued|oven baked",
    },
    "cutting": {
        "whole": "whole|uncut|in one piece|unsliced|unbroken|unpeeled whole|undivided|entire|uncut loaf",
        "cut": "cut|sliced|chopped|diced|cut slice|cut into piece|in slice|chopped piece|halved|in half"
        "|quartered|grated|minced|carved up|in pieces|shredded|cut open|ground up|crushed|segmented"
        "|cut up|broken into piece|cut in half|in cube|torn|ground meat|split",
    },
    "ripeness": {
        "ripe": "ripe|ripened|overripe|fully ripe|juicy",
        "unripe": "unripe|green unripe|immature fruit|not yet ripe",
    },
    "aggregate": {
        "gas": "gas|gaseous|vapour|vapor|steam",
        "frozen": "frozen|solid ice|icy|iced over|frozen solid|deep frozen|frozen over",
        "melted": "melted|thawed|molten|liquid|flowing|runny|unfrozen|defrosted|fluid",
    },
    "cleanliness": {
        "clean": "clean|spotless|tidy|neat|washed|hygienic|well kept|sterile|unstained|orderly|polished clean"
        "|pure",
        "dirty": "dirty|muddy|stained|filthy|dusty|messy|grimy|soiled|unwashed|littered|cluttered|untidy"
        "|greasy|sooty|mud covered|mud splattered|polluted|grubby|smeared|contaminated|dust covered",
    },
    "folding": {
        "folded": "folded|rolled up|folded up|furled|collapsed|tucked in|closed wing|rolled|crumpled|bundled"
        "|wrapped up|bent together|curled up|retracted|furled sail",
        "spread": "unfolded|spread out|unrolled|outspread|spread wing|extended|outstretched|hoisted|unfurled"
        "|open wing|opened out|laid out|stretched out|spread wide",
    },
    "temperature": {
        "hot": "hot|heated|boiling|steaming|scorching|warm|fiery|glowing hot|steaming hot|overheated"
        "|heated up|piping hot|burning hot|tropical|red hot",
        "cold": "cold|chilled|freezing|icy|cool|frosty|ice cold|frozen|refrigerated|freezing cold|arctic"
        "|cooled|frosted|unheated|chilly",
    },
    "taste": {
        "bland": "mild|bland|tasteless",
        "sweet": "sweet|sugary|sugared|honeyed",
        "sour": "sour|tart|acidic|vinegary",
        "salty": "salty|savoury|savory|salted",
        "bitter": "bitter",
        "spicy": "spicy|peppery|hot tasting",
    },
    "wildness": {
        "wild": "wild|feral|untamed|stray|wild growing|untended|overgrown wild",
        "domestic": "domestic|tame|domesticated|farmed|pet|cultivated|kept as pet|trained|farm animal|house pet"
        "|captive|in captivity",
    },
    "origin": {
        "natural": "natural|organic|naturally grown|real|genuine|authentic|naturally formed|wild grown"
        "|growing naturally",
        "artificial": "artificial|man made|synthetic|fake|imitation|manufactured|faux|built by people"
        "|factory made"
        "|machine made|plastic imitation|constructed",
    },
    "ornament": {
        "simple": "plain|simple|undecorated|unadorned|plain looking|minimalist|unornamented|bare looking"
        "|no decoration|without decoration|austere|sober",
        "ornate": "ornate|ornamental|richly decorated|decorated|elaborate|richly ornamented|carved|lavish|fancy"
        "|embellished|intricate|with decoration|decorative",
    },
    "fit": {
        "tight": "tight|tight fitting|snug|close fitting|figure hugging|skin tight|taut|stretched tight"
        "|tightened|clinging|narrow fitting",
        "loose": "loose|loose fitting|baggy|loosely fitting|slack|flowing robe|wide fitting|hanging loose"
        "|loosened|oversized fit|roomy|billowing",
    },
    "sex": {
        "male": "male|man|men|masculine|boy|boys|gentleman|bull|rooster|stallion|father|son",
        "female": "female|woman|women|feminine|girl|girls|lady|cow female|hen|mare|mother|daughter|ladies",
    },
    "sound": {
        "loud": "loud|noisy|thunderous|deafening|roaring|barking",
        "quiet": "quiet|silent|noiseless|soundless|hushed",
    },
    "strength": {
        "strong": "strong|sturdy|robust|solid built|powerful|muscular|stout|tough|durable|firm|heavily built"
        "|unbreakable|reinforced",
        "weak": "weak|fragile|delicate|flimsy|frail|breakable|feeble|rickety|flimsy built|thinly built|shaky"
        "|easily broken|wobbly",
    },
    "clearness": {
        "clear": "clear water|limpid|clear|pure water|clean water|see bottom",
        "murky": "murky|cloudy water|muddy water|turbid|cloudy|muddy|opaque water|dirty water",
    },
    "foliage": {
        "leafy": "leafy|wooded|densely wooded|overgrown|covered in leaf|full of leaf|in leaf|with green leaf"
        "|in full leaf|lush foliage",
        "bare": "leafless|treeless|bare branch|bare twig|bare tree|bald tree|stripped of leaf|without leaf"
        "|no leaf",
    },
    "cultivation": {
        "ploughed": "ploughed|plowed|tilled|harvested|fallow|stubble|mown|freshly mown|cut grass",
        "grown": "with tall crop|overgrown|unploughed|planted|sown|with crop",
    },
    "health": {
        "healthy": "healthy|vigorous|thriving|fit|well fed",
        "ill": "diseased|sick|ill|infected|injured|wounded|ailing|inflamed|malignant|disease spot|unhealthy"
        "|starving",
    },
    "life": {
        "alive": "alive|living|live|green and growing|growing",
        "dead": "burnt down|burned down|dead|lifeless|withered|wilted|dried up|shrivelled|shriveled|dying"
        "|felled",
    },
    "bloom": {
        "blooming": "in bloom|in full bloom|flowering|blooming|blossoming|in blossom|in flower|open flower"
        "|with open flower",
        "not blooming": "in bud|budding|closed bud|faded flower|before flowering|gone to seed|out of season",
    },
    "waking": {
        "awake": "awake|wide awake",
        "asleep": "asleep|sleeping|dozing",
    },
    "expression": {
        "happy": "smiling|laughing|happy|cheerful|grinning",
        "sad": "sad|crying|frowning|unhappy|weeping",
        "angry": "angry|furious|scowling",
    },
    "freshness": {
        "fresh": "fresh|freshly baked|freshly picked|crisp fresh|freshly caught",
        "spoiled": "stale|rotten|spoiled|mouldy|moldy|rancid|gone off|withered|decaying",
    },
    "peel": {
        "peeled": "without skin|skinless|hulled|deshelled|"
        "peeled|skinned|shelled|husked",
        "unpeeled": "with skin|skin on|in its skin|with rind|in its shell|with shell|"
        "unpeeled|in its skin|with peel|with skin on|in shell",
    },
    "craft": {
        "hand": "handmade|hand made|hand woven|handcrafted|hand painted|homemade|handwritten|hand drawn",
        "machine": "machine made|mass produced|factory made|machine printed|industrially made|typed"
        "|printed text",
    },
    "complexity": {
        "simple": "single undivided|undivided|"
        "simple|basic|uncomplicated",
        "complex": "compound|many parted|"
        "complex|complicated|intricate|elaborate",
    },
    "attachment": {
        "attached": "attached|fixed|mounted|fastened|firmly fixed|built in|permanent|bolted down|connected"
        "|joined",
        "free": "freely|swimming freely|free swimming|floating freely|drifting freely|detached|removable"
        "|portable|movable|mobile|disconnected|unattached|free standing|separate"
        "|temporary",
    },
    "assembly": {
        "whole": "assembled|finished|complete|completed|fully built|intact structure",
        "parts": "dismantled|unfinished|incomplete|under construction|half built|partly built|in pieces"
        "|unassembled|disassembled|partly finished|half finished",
    },
    "inflation": {
        "full": "inflated|pumped up|blown up",
        "flat": "deflated|flat tire|flat tyre|punctured|let down",
    },
    "raising": {
        "up": "raised|lifted|hoisted|held up|put up",
        "down": "lowered|let down|dropped|put down|hanging down",
    },
    "visibility": {
        "visible": "visible|in plain view|exposed|uncovered|in view|clearly visible",
        "hidden": "hidden|concealed|covered up|out of sight|invisible|obscured|occluded|tucked away|buried",
    },
    "drive": {
        "electric": "battery|electric engine|mains powered|"
        "electric|battery powered|battery driven|electrically powered|motor driven|electric motor",
        "fuel": "gas|diesel|petrol|gasoline|fuel powered|combustion engine|petrol engine|gas powered",
        "muscle": "clockwork|wind up|hand operated|manual|pedal powered|hand powered|horse drawn"
        "|pulled by horse|muscle powered"
        "|rowed|pushed by hand|hand driven|pulled by animal",
        "wind": "wind powered|sail powered|wind driven|solar powered",
        "steam": "steam engine|steam locomotive|"
        "steam powered|steam driven",
    },
    "edibility": {
        "edible": "edible|eatable|safe to eat",
        "inedible": "inedible|poisonous|toxic|uneatable|not edible|not for eating|venomous",
    },
    "danger": {
        "dangerous": "dangerous|hazardous|risky|deadly",
        "safe": "safe|harmless|secure",
    },
    "cost": {
        "cheap": "cheap|inexpensive|low cost|low priced|budget",
        "expensive": "expensive|luxurious|luxury|costly|high priced|precious",
    },
    "wealth": {
        "poor": "poor|shabby|slum|impoverished",
        "rich": "rich|wealthy|opulent|posh",
    },
    "beauty": {
        "pretty": "beautiful|pretty|attractive",
        "ugly": "ugly|hideous|unattractive",
    },
    "service": {
        "civil": "civilian|commercial",
        "military": "military|army|combat",
    },
    "skill": {
        "professional": "professional|expert",
        "amateur": "amateur|beginner|hobby",
    },
    "usage": {
        "used": "in use|being used|occupied",
        "unused": "not in use|out of use|disused|abandoned|unused|out of service|vacant",
    },
    "diet": {
        "plants": "plant eating|herbivorous|grazing|eats grass|herbivore|vegetarian|eats plants|eating plants",
        "meat": "meat eating|carnivorous|predatory|hunts prey|carnivore|eats meat|with meat",
    },
    "evergreen": {
        "evergreen": "green in winter|green all year round|evergreen foliage|"
        "evergreen|coniferous|conifer|green all year|keeps its leaves",
        "deciduous": "bare branch in winter|bare in winter|leafless in winter|sheds leaf|loses leaf in autumn"
        "|sheds leaf in winter|bare winter branch|"
        "deciduous|broadleaf|sheds its leaves|loses its leaves|broad leaved",
    },
    "handedness": {
        "left": "left handed",
        "right": "right handed",
    },
    "language of signs": {
        "warn": "warning sign|danger sign",
        "allow": "permitted|allowed",
    },
    "permission": {
        "allowed": "allowed|permitted|legal",
        "forbidden": "forbidden|prohibited|not allowed|banned|illegal",
    },
    "dress": {
        "dressed": "dressed|clothed|wearing clothes|fully clothed",
        "undressed": "naked|undressed|unclothed|nude|bare chested|shirtless",
    },
    "activity": {
        "reading": "reading", "writing": "writing", "painting": "painting", "cycling": "cycling",
        "swimming": "swimming", "rowing": "rowing", "skiing": "skiing", "skating": "skating",
        "dancing": "dancing", "sleeping": "sleeping", "fishing": "fishing", "digging": "digging",
        "welding": "welding", "sewing": "sewing", "ironing": "ironing", "surfing": "surfing",
        "boxing": "boxing", "wrestling": "wrestling", "juggling": "juggling", "knitting": "knitting",
        "sweeping": "sweeping", "shaving": "shaving", "typing": "typing", "hammering": "hammering",
        "sawing": "sawing", "gardening": "gardening", "ploughing": "ploughing", "hiking": "hiking",
        "shopping": "shopping", "praying": "praying", "singing": "singing", "bathing": "bathing",
        "kissing": "kissing", "photographing": "photographing", "hunting": "hunting", "golfing": "golfing",
        "bowling": "bowling", "sledging": "sledging", "snowboarding": "snowboarding", "sailing": "sailing",
        "diving": "diving", "sunbathing": "sunbathing", "camping": "camping", "milking": "milking",
        "grazing": "grazing", "hatching": "hatching", "nesting": "nesting", "drumming": "drumming",
        "phoning": "phoning", "kneading": "kneading", "barbecuing": "barbecuing", "vacuuming": "vacuuming",
    },
    "voice": {
        "barks": "bark at|barks|barking",
        "meows": "meow|meowing|purr|purring",
        "moos": "moo|mooing",
        "roars": "roar|roaring",
        "chirps": "chirp|chirping|tweet|twitter|twittering",
        "hisses": "hiss|hissing",
        "howls": "howl|howling",
        "croaks": "croak|croaking",
        "quacks": "quack|quacking",
        "buzzes": "buzz|buzzing",
        "bleats": "bleat|bleating",
        "neighs": "neigh|neighing|whinny",
        "crows": "crowing|cackle|cluck|clucking",
        "grunts": "grunt|grunting|oink",
        "rings": "ringing|chime|chiming",
        "hoots": "hoot|hooting",
    },
    "compass": {
        "north": "north|northern|northerly|north facing",
        "south": "south|southern|southerly|south facing",
        "east": "east|eastern|easterly|east facing",
        "west": "west|western|westerly|west facing",
    },
    "order": {
        "first": "first|foremost|starting",
        "second": "second",
        "third": "third",
        "fourth": "fourth",
        "last": "last|final|rearmost|hindmost",
    },
    "frequency": {
        "daily": "daily|every day|each day",
        "weekly": "weekly|once a week|every week",
        "monthly": "monthly|once a month|every month",
        "yearly": "yearly|once a year|every year|annually",
        "hourly": "hourly|every hour",
        "rarely": "rarely|seldom|almost never|occasionally",
        "constantly": "constantly|nonstop|around clock|all time",
    },
    "part of week": {
        "weekdays": "weekday|working day|on weekday",
        "weekend": "weekend|at weekend|on sunday|on saturday|holiday",
    },
    "ease": {
        "easy": "easy|effortless|simple to",
        "difficult": "difficult|tricky|demanding",
    },
    "loudness of colour": {
        "loud": "garish|gaudy|flashy|neon|bright coloured|loud colour",
        "quiet": "subdued|muted|understated|pastel|drab|earthy|faded colour",
    },
}
