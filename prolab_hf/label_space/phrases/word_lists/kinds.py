"""Which of several kinds a thing or a part is: how it is fastened, driven, grown, cut, covered."""

# fmt: off
KINDS: dict[str, dict[str, str]] = {
    "fastening": {
        "zip": "zipped|zip|zipper|zip fastening|zip up|zippered",
        "buttons": "button|buttoned|button fastening|button up|button down",
        "laces": "lace up|laced|shoelace|laces|lace up front",
        "velcro": "velcro|hook and loop|velcro strap",
        "buckle": "buckle|buckled|belt buckle|buckle strap",
        "drawstring": "drawstring|tie string",
        "slip-on": "slip on|pull on|elastic waist|elasticated",
        "snap": "press stud|snap button|popper",
    },
    "neckline": {
        "V": "v neck|v necked|v neckline|v shaped neckline|plunging neckline",
        "round": "crew neck|round neck|round neckline|scoop neck|crew necked",
        "high": "turtleneck|turtle neck|polo neck|roll neck|high neck|high necked",
        "bare shoulders": "off shoulder|strapless|halter neck|off the shoulder",
    },
    "garment length": {
        "waist": "waist length|hip length|cropped top|cropped jacket",
        "thigh": "end above knee|just above knee|thigh length|mini skirt|miniskirt|mini dress|above knee",
        "knee": "knee length|to knee|down to knee",
        "calf": "calf length|midi|mid calf|below knee|end below knee",
        "ankle": "ankle length|maxi|down to ankle|full length|reach ankle|to ankle|end at ankle",
        "floor": "floor length|down to floor|sweeping floor",
    },
    "sleeve length": {
        "long": "long sleeve|long sleeved|full sleeve",
        "short": "short sleeve|short sleeved|half sleeve|cap sleeve",
        "three-quarter": "three quarter sleeve",
        "none": "sleeveless|without sleeve|no sleeve|strapless",
    },
    "heel": {
        "high": "high heel|stiletto|high heeled|tall heel|stiletto heel",
        "flat": "flat sole|flat heel|low heel|flat soled|flat shoe|low heeled|without heel",
        "wedge": "wedge heel|platform sole",
    },
    "occasion": {
        "formal": "formal|formal wear|evening wear|business|elegant",
        "casual": "casual|casual wear|everyday wear|informal|leisure wear",
        "sport": "sporty|sports wear|athletic wear|sportswear",
        "work": "work wear|workwear|protective wear",
    },
    "hairdo": {
        "loose": "loose hair|hair down|open hair",
        "tied": "tied hair|ponytail|in bun|hair bun|tied back|pigtail",
        "braided": "braided|plaited|braid|dreadlock",
    },
    "leaf": {
        "needles": "needle like leaf|needle leaf|needle shaped leaf|needle foliage|pine needle"
        "|leaf like needle",
        "broad": "broad leaf|wide leaf|broad leaved|broad flat leaf|large flat leaf",
        "blades": "grass like leaf|strap like leaf|blade like leaf|sword shaped leaf|sword like leaf"
        "|strap shaped leaf",
        "feathered": "feathery leaf|pinnate|feather like leaf|frond|feathery frond|fern like leaf",
        "palmate": "palmate|hand shaped leaf|fan shaped leaf",
        "heart": "heart shaped leaf",
        "scales": "scale like leaf",
    },
    "habit": {
        "climbing": "climbing vine|climber|twining|climbing stem|climbing plant|clinging to wall|vine like",
        "creeping": "creeping|creeping along ground|ground hugging|prostrate|spreading along ground"
        "|trailing on ground"
        "|low growing|carpet forming|mat forming|creeper on ground",
        "upright": "growing upright|upright growth|free standing trunk|columnar|grow upright|growing tall"
        "|erect stem"
        "|upright stem|upright habit",
        "weeping": "weeping branch|drooping branch|weeping habit|hanging branch",
        "bushy": "bushy growth|shrubby|clump forming|in clump|tufted|rosette",
    },
    "stem": {
        "woody": "woody stem|woody|woody trunk",
        "soft": "fleshy stem|herbaceous|soft stem|succulent",
    },
    "flower heads": {
        "single": "single flower|solitary flower|one flower per stem",
        "clustered": "many flower per stem|several flower per stem|flower cluster|flower in cluster"
        "|clustered flower|flower spike|in umbel|raceme"
        "|many small flower",
    },
    "feet": {
        "webbed": "foot with web|with web|"
        "webbed foot|web footed|webbed toe|webbed",
        "clawed": "foot with talon|foot with claw|"
        "clawed foot|taloned|clawed toe|with talon|sharp talon|clawed",
        "hoofed": "hoofed|cloven hoof|hoofed foot|cloven",
        "padded": "padded paw|soft pad|padded foot",
    },
    "burner": {
        "gas": "gas flame|gas burner|gas hob|gas fired|gas stove|gas ring",
        "electric": "electric coil|electric ring|electric hob|induction|electric burner|ceramic hob|hot plate",
        "wood": "wood fired|wood burning|charcoal fired|coal fired|charcoal grill",
    },
    "engine": {
        "jet": "jet engine|turbine|jet powered|jet propelled|jet",
        "propeller": "propeller engine|propeller driven|propeller powered|propeller",
        "rotor": "rotor blade|helicopter rotor|main rotor|overhead rotor",
    },
    "readout": {
        "digital": "digital|digital display|lcd|led display|digital readout|digital screen|digital number",
        "analogue": "analogue|analog|dial|pointer dial|needle gauge|clock hand|round dial|dial face",
    },
    "controls": {
        "buttons": "push button|button operated|row of button",
        "knobs": "rotary knob|turning knob|knob operated",
        "touch": "touch screen|touchscreen|touch panel",
        "lever": "lever operated|hand lever",
    },
    "load space": {
        "open": "flat bed|flatbed|open bed|open cargo|open cargo bed|open load bed|pickup bed"
        "|open loading area",
        "box": "enclosed cargo box|box body|cargo box|enclosed cargo|closed cargo|closed box body"
        "|enclosed trailer",
        "tank": "tank body|cylindrical tank|tanker|tank trailer",
    },
    "top": {
        "open": "open top|open topped|roofless|convertible|open roof|no roof|without roof|topless|roof down",
        "closed": "closed roof|closed top|hardtop|hard top|covered top|fixed roof|roofed|covered by roof"
        "|with roof",
    },
    "pulled by": {
        "animals": "pulled by horse|horse drawn|pulled by animal|ox drawn|drawn by horse|pulled by dog"
        "|pulled by ox",
        "motor": "driven by motor|motorised|motorized|self propelled|engine powered|motor driven|engine driven"
        "|powered by engine|driven by engine|motorised vehicle",
        "people": "pushed by hand|pulled by hand|hand pushed|pedalled|pedal powered|rowed|muscle powered"
        "|hand pulled",
        "locomotive": "pulled by locomotive|towed|pulled by tractor",
        "wind": "driven by wind|wind driven|under sail|sail driven",
    },
    "gearing": {
        "manual": "manual|hand operated|hand cranked|manually operated",
        "automatic": "automatic|automated|self acting|robotic|power operated",
    },
    "stacking": {
        "stacked": "stacked|piled|in pile|piled up|heaped|in stack|in heap|stacked up|heap"
        "|stacked on top of each other",
        "laid out": "laid out|side by side|laid out separately|separately|individually|spread apart"
        "|one beside other"
        "|laid next to each other",
    },
    "packing": {
        "wrapped": "wrapped|packaged|packed in foil|in foil|boxed|bagged|packed|in packaging|in wrapper|in bag"
        "|wrapped in foil",
        "unwrapped": "unwrapped|unpackaged|loose|unpacked|without packaging|without wrapper",
    },
    "state of matter": {
        "liquid": "liquid|fluid|runny|watery|molten",
        "solid": "solid|firm|set hard|solid mass",
        "powder": "powder|powdery|powdered|granular|grains",
        "gas": "gas|gaseous|vapour|smoke like",
        "gel": "jelly like|gelatinous|gel like|wobbly jelly",
    },
    "bite": {
        "creamy": "creamy|creamy texture|smooth creamy|creamy smooth|creamy inside|velvety texture"
        "|silky texture"
        "|creamy consistency"
        "|smooth creamy texture|creamy sauce|smooth sauce",
        "crunchy": "crunchy|crispy|crisp|crunchy texture|crispy texture|brittle|crackling",
        "chewy": "chewy|rubbery|chewy texture|gummy",
        "crumbly": "crumbly|flaky|crumbly texture|flaky texture|flaky layer",
        "sticky": "sticky|gooey|gluey|sticky texture|syrupy",
        "airy": "airy|fluffy texture|light and airy|spongy texture|spongy",
        "chunky": "chunky|chunky sauce|lumpy sauce|with chunk|chunky texture|chunky piece",
        "juicy": "juicy|succulent flesh|juicy flesh",
        "dry": "dry texture|mealy|floury",
    },
    "frying": {
        "boiled": "boiled|poached|simmered|steamed",
        "fried": "fried|deep fried|pan fried|sauteed|stir fried",
        "baked": "baked|roasted|oven baked|roast|toasted",
        "grilled": "grilled|barbecued|char grilled|grill marked",
        "smoked": "smoked|cured",
    },
    "slicing": {
        "slices": "sliced|in slice|cut slice|thick slice|thin slice",
        "cubes": "cut in cube|"
        "diced|in cube|cubed|cut into cube",
        "shreds": "grated|shredded|julienned",
        "halves": "halved|in half|cut in half",
        "mash": "paste|smooth paste|thick paste|"
        "mashed|pureed|puree|ground meat|minced",
        "whole": "whole|uncut|in one piece",
        "strips": "in strip|cut in strip|cut into strip|julienned",
    },
    "ground cover": {
        "snow": "snow covered|covered with snow|covered in snow|under snow|snowy|snow capped|blanketed in snow",
        "bare": "bare|barren|bare soil|exposed soil|uncovered ground|without vegetation|no vegetation",
        "grass": "grassy|grass covered|covered with grass|covered in grass|turfed|grass grown",
        "trees": "covered in forest|forest grown|under forest|"
        "tree covered|wooded|covered with tree|forested|forest covered|covered in tree",
        "crops": "green crop|growing crop|"
        "covered with crop|planted with crop|covered with green crop|cropped field",
        "water": "open water|"
        "flooded|under water|covered with water|waterlogged|inundated",
        "ice": "frozen lake|frozen river|frozen pond|frozen sea|ice covered|frozen over|covered with ice"
        "|iced over",
        "sand": "sandy|sand covered|covered with sand",
        "stones": "pebble|gravel|cobble|stony|rocky|gravelly|covered with stone|pebbly|stone covered",
        "mud": "muddy|mud covered|covered with mud",
        "moss": "mossy|moss covered|covered with moss|overgrown with moss",
        "leaves": "leaf covered|covered with leaf|littered with leaf|covered in leaf",
        "paving": "paved",
    },
    "uniformity": {
        "uniform": "uniform|homogeneous|even colour|uniform texture|homogenous|evenly coloured"
        "|consistent throughout",
        "mixed": "grainy|patchy|speckled texture|heterogeneous|inhomogeneous|nonuniform|non uniform"
        "|mixed texture|varied texture|uneven colour"
        "|variegated"
        "|mixed composition",
    },
    "waves": {
        "calm": "calm|calm water|still water|glassy water|smooth water|mirror like water|flat water|calm sea",
        "rough": "rough wave|big wave|large wave|foamy wave|choppy wave|surf|choppy|choppy water|with wave"
        "|rough water|wavy water|rough sea|rippling|foaming|turbulent"
        "|churning|white water"
        "|breaking wave|stormy sea|high wave",
    },
    "habitat": {
        "water": "aquatic|lives in water|water dwelling|swims in water|live in water|found in water"
        "|swim in water|marine"
        "|lives in sea|lives in ocean|swims",
        "land": "terrestrial|lives on land|on dry land|on land|land dwelling|live on land|walks on dry land"
        "|walks on land"
        "|lives on ground|ground dwelling|walk on land",
        "trees": "arboreal|lives in tree|perches in tree|tree dwelling|live in tree|perch high in tree",
        "underground": "burrowing|lives underground|lives under ground|lives below ground|lives in soil"
        "|lives in burrow|digs burrow|live underground",
        "air": "flies in air|lives in air",
        "wood": "growing on wood|grows on wood|grows on tree|growing on tree|growing on trunk",
        "soil": "growing on soil|grows on soil|grows on ground|growing on ground|growing in soil",
    },
    "steadiness": {
        "flashing": "flashing|blinking|flickering|intermittent|strobing",
        "steady": "steady|constant light|steady light|steadily lit",
    },
    "left or right corner": {
        "left": "left corner|upper left|top left|lower left|bottom left|left end|left half|left margin"
        "|far left",
        "right": "right corner|upper right|top right|lower right|bottom right|right end|right half|right margin"
        "|far right",
    },
    "facing": {
        "towards": "facing|facing towards|turned towards|looking towards",
        "away": "facing away|turned away|facing away from|looking away",
    },
    "lens": {
        "far": "wide shot|long shot|panoramic|panorama",
        "near": "close up|macro|close up view|detail view",
    },
    "tide": {
        "high": "high tide|high water|swollen",
        "low": "low tide|low water|dried up bed",
    },
    "support kind": {
        "hanging": "suspended|dangling|suspended from|hanging from",
        "standing": "freestanding|free standing|floor standing|on leg|standing on floor|standing on leg"
        "|on tripod|standing on ground"
        "|standing on counter",
        "wall": "wall mounted|fixed to wall|attached to wall|mounted on wall|bolted to wall|wall hung",
        "lying": "lying|laid down|lying on ground|lying on table",
    },
    "seams": {
        "knit": "knit|knitted|crocheted|woollen knit|knitwear",
        "woven": "woven",
        "smooth leather": "leather|suede",
        "quilted": "quilted",
    },
    "treatment": {
        "painted": "painted|repainted|coloured paint",
        "bare": "brushed|unpainted|bare metal|bare wood|raw wood|untreated|unvarnished|natural wood",
        "varnished": "varnished|lacquered|stained wood",
    },
    "writing": {
        "printed": "printed letter|printed text|with text|lettering|inscribed|written text|with writing"
        "|with lettering",
        "blank": "blank|without text|no text|without writing|no writing|empty page|without lettering"
        "|no lettering",
    },
    "manning": {
        "manned": "manned|with driver|driver seat|with rider|with pilot|piloted|with crew",
        "unmanned": "unmanned|driverless|without driver|riderless|pilotless|remote controlled|no driver"
        "|no rider",
    },
    "body build": {
        "slim": "slim build|slender build|lean body|slender body|slim body|thin body|skinny",
        "stocky": "stocky|stocky build|heavy build|thickset|bulky body|stout body|plump|fat body|muscular body"
        "|robust body"
        "|barrel chested|heavyset",
    },
    "domesticity": {
        "residential": "residential|for living in|homes|housing",
        "industrial": "industrial|factory like|for industry",
        "commercial": "commercial|shops|for shopping",
        "agricultural": "agricultural|farming|for farming",
        "religious": "religious|for worship|sacred",
    },
    "gathering": {
        "alone": "singly|one by one|individually|alone|solitary|on its own|by itself|lone|lives alone|isolated",
        "together": "swim in school|in large school|in group|in herd|in flock|in crowd"
        "|together with others|in pack|in swarm|lives in group"
        "|in school"
        "|in line|in cluster|in row|in colony",
    },
    "tightness": {
        "taut": "taut|stretched tight|stretched taut",
        "slack": "slack|sagging|hanging loosely|loosely hanging",
    },
    "layers": {
        "single": "single layer|one layer|single layered|unlayered",
        "several": "layered|many layer|multi layered|several layer|multiple layer|two layer|three layer"
        "|in layer|stratified|tiered|multi tiered",
    },
    "scent": {
        "fragrant": "fragrant|scented|sweet smelling|perfumed",
        "smelly": "foul smelling|smelly|stinking",
        "none": "odourless|odorless|scentless|unscented",
    },
    "door kind": {
        "sliding": "sliding|sliding door|slide open",
        "hinged": "hinged|hinged door|swing door|swinging door",
        "revolving": "revolving|revolving door",
        "rolling": "roller door|roller shutter|roll up door",
        "folding": "folding door|accordion door",
    },
    "fruit kind": {
        "pods": "pod|seed pod|bean pod",
        "berries": "berry",
        "nuts": "nut|acorn",
        "capsules": "capsule|seed capsule",
        "cones": "pine cone|seed cone|fir cone",
    },
    "decks": {
        "one": "single decker|single deck",
        "two": "double decker|two decker|two deck|double deck",
    },
    "leaf build": {
        "simple": "simple leaf|undivided leaf",
        "compound": "compound leaf|divided leaf|leaf of many leaflet",
    },
    "leaf arrangement": {
        "opposite": "opposite leaf|leaf in pair|paired leaf",
        "alternate": "alternate leaf|alternating leaf",
        "whorled": "whorled leaf|whorl of leaf|rosette of leaf",
    },
    "branching": {
        "branched": "branching|branched|much branched|forking|many branched|multi stemmed",
        "unbranched": "unbranched|single stemmed|single stem|without branch|no branch|branchless",
    },
    "reuse": {
        "once": "thrown away|thrown away after use|used once|disposable|single use|throw away|one way bottle",
        "again": "reusable|washable|refillable|multi use",
    },
    "level of surface": {
        "raised": "raised|elevated|on stilt|stilted|embossed",
        "sunken": "flat against|level with|flush with|sunken|recessed|flush|embedded|countersunk|dropped|dug in"
        "|engraved",
    },
    "playing": {
        "plucked": "plucked|plucked string|strummed",
        "bowed": "played with bow|bowed",
        "blown": "blown|mouthpiece|wind instrument|blown into",
        "struck": "played with stick|struck|percussion|beaten with stick|hit with stick|drum head",
        "keys": "keyboard|piano key|played by key",
    },
    "house position": {
        "detached": "detached|free standing house|stand alone house",
        "terraced": "terraced|row house|attached on both sides|in row of house",
        "semi-detached": "semi detached",
    },
    "attire": {
        "uniform": "uniformed|in uniform|wearing uniform",
        "civil": "plain clothes|civilian clothes|street clothes",
    },
    "articulation": {
        "rigid": "rigid body|one piece body|rigid chassis",
        "articulated": "articulated|jointed|bendy bus|in two section",
    },
    "joint": {
        "rigid": "immovable",
        "movable": "movable|adjustable|pivoting|swivelling|rotating joint",
    },
    "light colour": {
        "warm": "warm light|yellow light|yellowish light|warm glow|warm white light",
        "cold": "cold light|white light|bluish light|cool light|cold white light",
    },
    "cloud": {
        "wispy": "wispy|feathery cloud|thin streak|streaky",
        "puffy": "puffy|fluffy cloud|heaped cloud|cotton like|billowy",
    },
    "seeds": {
        "with": "with seed|seeded|full of seed|seedy",
        "without": "seedless|without seed|no seed|pitted fruit|stoneless",
    },
    "carriage": {
        "carried": "hand carried|carried in hand|hand luggage",
        "stationary": "built in|permanently installed|fixed in place|installed",
        "wheeled": "on wheel|wheeled|with wheel|rolling|on caster",
    },
}
