"""How things look: colour, size, shape, surface, material."""

# fmt: off
LOOKS: dict[str, dict[str, str]] = {
    "colour": {
        "red": "rusty|russet|rosy|ruddy|cherry|cerise|wine coloured|rust coloured|rust brown|bright red|"
        "red|reddish|scarlet|crimson|ruby|cherry red|vermilion|maroon|burgundy|rust|rusty red"
        "|wine red|brick red|blood red|tomato red|ginger",
        "orange": "rusty orange|carrot coloured|neon orange|fluorescent orange|fiery orange|"
        "orange|amber|apricot|tangerine|copper coloured|peach|coral|ochre",
        "yellow": "wheat coloured|honey coloured|honey|straw yellow|canary|neon yellow|fluorescent yellow"
        "|hi vis|hi vis yellow|amber yellow|hay coloured|"
        "yellow|yellowish|lemon|mustard|sunny yellow|blond|blonde|straw coloured",
        "green": "sage|moss green|sea green|leaf green|pea green|neon green|pine green|apple green|grassy green"
        "|verdant|"
        "green|greenish|emerald|lime|olive|jade|mint|forest green|bottle green|lime green|chartreuse"
        "|mossy green|grass green",
        "blue": "steel blue|ice blue|petrol blue|electric blue|denim blue|periwinkle|sapphire|cornflower blue|"
        "blue|bluish|azure|cobalt|indigo|navy|navy blue|midnight blue|sky blue|baby blue|powder blue"
        "|royal blue|ultramarine",
        "turquoise": "turquoise|teal|cyan|aqua",
        "turquoise-blue": "turquoise blue|blue green|greenish blue",
        "purple": "aubergine coloured|amethyst|eggplant coloured|mulberry|"
        "purple|purplish|violet|lilac|mauve|lavender|plum|magenta",
        "pink": "hot pink|rose coloured|salmon pink|blush|flamingo pink|"
        "pink|pinkish|rose|salmon|fuchsia",
        "brown": "caramel|golden brown|rust brown|coffee coloured|wood coloured|cocoa|nut brown|russet brown"
        "|dun|toffee|"
        "brown|brownish|terracotta|chestnut|chocolate|bronze|tawny|auburn|earthy|hazel|coffee"
        "|mahogany|sepia|umber|copper brown|rusty brown",
        "tan": "tan|beige|khaki|sandy|camel|buff|fawn|skin coloured|flesh coloured|sand coloured|taupe",
        "cream": "cream|creamy|ivory|off white|eggshell",
        "white": "whitewashed|snowy white|bone white|pearly|lily white|"
        "white|whitish|snow white|chalky|pearl|milky|milk white",
        "gray": "gunmetal|pewter|stone coloured|smoky gray|smoke gray|ash coloured|steel gray|concrete coloured"
        "|leaden|iron gray|"
        "gray|grey|grayish|greyish|ashen|charcoal|slate gray|asphalt|slate|lead gray|ash gray"
        "|silver gray",
        "black": "sooty|raven|charred|blackened|coal coloured|soot black|"
        "black|blackish|jet black|ebony|asphalt|pitch black|coal black|inky",
        "golden": "golden|gold coloured|gold|gilded",
        "silver": "silver|silvery|chrome coloured",
        "colourless": "colourless|without colour|without any colour",
        "many colours": "many colour|many bright colour|various colour|different colour|multi coloured"
        "|multicoloured"
        "|neon coloured|vividly coloured|in many colour|multicolour|colourful|rainbow|all colour"
        "|several colour|brightly coloured",
    },
    "shade of blue": {
        "turquoise": "turquoise blue|teal blue",
        "dark": "navy|navy blue|midnight blue",
        "light": "sky blue|baby blue|powder blue",
    },
    "shade of green": {
        "dark": "forest green|bottle green",
        "light": "mint|lime green",
    },
    "shade of red": {
        "dark": "maroon|burgundy|wine red",
        "light": "light red",
    },
    "shade of gray": {
        "dark": "charcoal|slate|slate gray|lead gray",
        "light": "silver gray|ash gray",
    },
    "tone": {
        "dark": "dark|darker|dim|black",
        "light": "faded|"
        "light|lighter|bright|pale|white",
    },
    "size": {
        "small": "size of fist|size of thumb|size of hand|size of finger|size of egg|size of mouse"
        "|size of matchbox|fit in palm|fit in hand|fit in pocket|handheld|hand held|finger sized|thumb sized"
        "|fist sized|egg sized|thumbnail sized|smaller than|lesser|size of phone|size of fingernail"
        "|size of insect|knee high tiny|dainty|diminutive|"
        "small|smaller|tiny|little|miniature|mini|minute|petite|hand sized|fit in one hand|compact"
        "|teeny|undersized|dwarf|pocket sized|bite sized|child sized|size of coin|size of pea"
        "|smallish|minuscule|microscopic|palm sized|enough to hold in one hand",
        "medium": "a4 size|letter size|a4 sized|normal sized|"
        "medium|medium sized|mid sized",
        "large": "size of car|size of truck|size of bus|size of room|size of building|bus sized|building sized"
        "|as big as|monumental|substantial|hulking|outsized|mighty|sprawling|size of football field|"
        "large|larger|big|bigger|huge|massive|giant|enormous|great|vast|gigantic|oversized|bulky"
        "|immense|colossal|gigantic sized|extra large|full sized|king size|sizeable|room sized"
        "|size of house|house sized|man sized|life sized|car sized|big as car|long and wide"
        "|taller than|bigger than|larger than",
    },
    "height": {
        "low": "to knee height|to waist height|to ankle height|waist high|shin high|below knee height"
        "|single level|one level|single storeyed|one floor"
        "|low rise|at knee height|"
        "low|lower|short height|low height|shorter than|lower than|single storey|one storey"
        "|wider than tall|flat heel|ground level|shallow height|dwarf|knee high|ankle high"
        "|one storey high|broader than it is high|low lying|squat",
        "tall": "taller than adult|taller than person|taller than man|"
        "shoulder high|floor to ceiling|ceiling high|several storey|ten storey|multi level|skyscraping"
        "|many storey|several floor|many floor|three storey|four storey|"
        "tall|taller than|taller|high|higher|towering|lofty|high rise|skyscraper height|multi storey"
        "|high heel|sky high|tall as house|many metre high|many meter high|head high|towering above"
        "|taller than wide",
    },
    "stature": {
        "tall": "tall|high|towering",
        "short": "short|short height",
    },
    "width": {
        "narrow": "narrow|narrower|slim|slender|thin|thinner|skinny|fine line|thinly|narrowly|needle like"
        "|needle shaped|hair thin|slimline|paper thin|lean|skinny build|tapered thin|wafer thin"
        "|fine needle",
        "wide": "wide|wider|broad|broader|thick|thicker|wide open|wider than tall|fat|chunky|stout|thickly"
        "|widely|broad flat|wide spread|plump|stocky|bulky|wide set",
    },
    "length": {
        "short": "docked|bobbed|stumpy|truncated|"
        "short|shorter|stubby|cropped|knee length|brief|shortish|close cropped|cut short|ankle length"
        "|few centimetre long|few centimeter long|shortened|stumpy|dumpy",
        "long": "long|longer|elongated|lengthy|lengthened|trailing|floor length|extended|several metre long"
        "|several meter long|waist length|outstretched",
    },
    "depth": {
        "shallow": "shallow",
        "deep": "deep|high side",
    },
    "shape": {
        "lshape": "l shaped",
        "kidney": "kidney shaped|bean shaped",
        "needle": "needle like|needle shaped|needle|rod shaped",
        "mushroom": "mushroom shaped",
        "arrow": "arrow shaped|arrow shape|arrowhead",
        "fan": "fan shaped",
        "hourglass": "hourglass|hourglass shaped",
        "bell": "bell shaped|bell like",
        "horseshoe": "horseshoe|u shaped|horseshoe shaped",
        "teardrop": "teardrop|drop shaped|pear shaped|teardrop shaped",
        "trapezoid": "trapezoid|trapezoidal",
        "diamond": "diamond shaped|rhombus|diamond shape|lozenge",
        "cross": "cross shaped|cruciform|x shaped|plus shaped",
        "zigzag": "zigzag|zig zag",
        "spiral": "spiral|helical|helix|spiral shaped|corkscrew",
        "curved": "streamlined|aerodynamic|"
        "rounded shape|curved|rounded|bulging|rounded bulge|bulge|rounded end|round end|bulging side|curvy"
        "|gently curved|bent|arched outline",
        "round": "round|circular|circle|round outline|roundish|globe shaped outline",
        "disc": "round flat|flat round|round and flat|flat and round|flat circular|"
        "disc|disk|round disc|flat round|plate shaped|coin shaped|saucer shaped|pancake shaped",
        "ring": "ring|ring shaped|hoop|donut shaped",
        "sphere": "sphere|spherical|ball shaped|ball|globe|globular|orb",
        "oval": "oval|elliptical|egg shaped|ellipse|almond shaped|ovoid|lens shaped|lemon shaped",
        "cylinder": "cylinder|cylindrical|tube shaped|tubular|barrel shaped|pipe shaped|roll shaped|drum shaped"
        "|column shaped|cigar shaped|sausage shaped",
        "cone": "cone|conical|cone shaped|funnel shaped|tapering cone",
        "dome": "dome|domed|dome shaped|hemispherical",
        "arch": "arch|arched",
        "bowl": "bowl shape|bowl shaped",
        "crescent": "crescent|crescent shaped|moon shaped",
        "angular": "angular|square corner|cornered",
        "rectangle": "rectangle|rectangular|oblong|four corner|rectangle shaped|brick like|quadrangular",
        "square": "square",
        "box": "boxy|box shape|box shaped|cube|cubic|cuboid|cube shaped|block shaped|brick shaped|boxlike"
        "|cubical|crate shaped",
        "triangle": "three sided|triangle|triangular|pyramid|wedge shaped|v shaped|cone outline"
        "|three cornered|delta shaped"
        "|tapering triangle",
        "pentagon": "pentagon|pentagonal|five sided",
        "hexagon": "hexagon|hexagonal|six sided",
        "octagon": "octagon|octagonal|eight sided|polygon|polygonal",
        "star": "star|star shaped",
        "heart": "heart shaped|in shape of heart|heart shape",
        "branched": "branching|branched|tree like|antler like|many branched",
        "irregular": "irregular|jagged|uneven outline|ragged|spiculated|asymmetrical|shapeless"
        "|spiky outline|lobed"
        "|lobulated|ragged edge|crooked outline|lopsided|amorphous|ill shaped",
        "elongated": "elongated|elongate|long and thin|long and narrow|long and slim|long slender|long thin"
        "|long and slender",
        "T": "t shaped",
        "S": "s shaped",
        "Y": "y shaped|forked shape",
        "C": "c shaped",
    },
    "ends": {
        "hooked": "hooked|curved like hook",
        "erect": "prick|erect|upright|standing up|perked",
        "pointed": "pointed|pointy|sharp|tapering to point|spiky|spiked|peaked|sharp pointed|pitched|gabled"
        "|pricked|tapered|needle sharp|barbed|jagged point",
        "cross": "cross shaped|cruciform|plus shaped",
        "blunt": "blunt|rounded end|rounded|round end|rounded tip|dull point|domed|dome shape|stubby tip"
        "|squared off|snub",
        "flat": "flat",
        "hanging": "drop|lop|hanging|floppy|drooping|dangling|droopy|flopped|sagging|limp",
        "curved": "arched|curved",
        "forked": "forked|split|cleft|two pronged|swallow tail|notched",
        "square": "square ended|squared|square cut",
    },
    "course": {
        "straight": "straight|linear|dead straight|in straight line|dead straight line|ruler straight|uncurved"
        "|sleek straight",
        "winding": "winding|bent|curved|curvy|meandering|twisting|crooked|wavy|curly|coiled|zigzag|spiral"
        "|serpentine|looping|snaking|frizzy|kinky|twisted|hooked",
    },
    "relief": {
        "flat": "flat|level|plane|planar|flattened|flattish|smooth flat|even ground",
        "uneven": "raised|protruding|uneven|hilly|bumpy|domed|bulging|rugged|undulating|mountainous|steep"
        "|undulated|rolling|lumpy"
        "|stepped|craggy|humpy|pitted|potholed|corrugated|wavy",
    },
    "surface": {
        "smooth": "brushed|unridged|even surface|smooth textured|glossy smooth|flawless|"
        "waxy|leathery|sleek|flawless surface|"
        "smooth|even|sleek|slick|polished|silky|glassy|slippery|velvety|unwrinkled"
        "|satiny|smooth as glass|clean shaven|slimy",
        "rough": "ragged|spiky|stringy|fibrous|crumpled|creased|scarred|threaded|cobbled|dimpled|studded"
        "|cleated|hammered|"
        "branching surface|knobbed|studded|blistered|pebbled|gnarled|ribbed|fissured|spiked|bumpily|matted|"
        "rough|coarse|bumpy|rugged|gritty|scaly|craggy|grainy|bristly|serrated|jagged|rippled|fuzzy"
        "|hairy|spiny|thorny|prickly|lumpy|pitted|crumbly|porous|stubbly|scratchy|sandpapery|cracked"
        "|warty|bristled|abrasive|grooved|furrowed|notched|toothed|sawtooth|peeling|knotty|crusty"
        "|wrinkled|ridged|textured|uneven|woolly|furry|shaggy|knobbly",
    },
    "grain": {
        "fine": "fine|fine grained|powdery|finely ground|powdered|dusty|ground fine",
        "coarse": "coarse|coarse grained|coarsely ground|chunky grain|lumpy grain|granular",
    },
    "pattern": {
        "swirl": "swirl|swirling|paisley|spiral pattern",
        "honeycomb": "honeycomb|hexagonal pattern",
        "geometric": "geometric pattern|geometric",
        "camouflage": "camouflage",
        "zigzag": "zigzag pattern|herringbone|chevron",
        "plain": "uniformly|evenly coloured|all over one colour|"
        "plain|smooth plain|uniform|unpatterned|single colour|one colour|solid colour|homogeneous"
        "|monochrome|single coloured|one coloured|unmarked|unprinted|solid coloured|without pattern",
        "patterned": "multi coloured|multicoloured|two tone|bicoloured|two coloured|many bright colour"
        "|variegated|"
        "patterned|pattern|printed pattern|print|ornamented",
        "stripes": "stripe|striped|stripy|banded|zebra|pinstripe|pinstriped|vertical line|horizontal line"
        "|barred"
        "|streaked",
        "spots": "spot|spotted|dot|dotted|speckled|speckle|polka dot|dappled|small dot|freckled|speckling"
        "|dotting|leopard|polka dot pattern|spotty|dalmatian",
        "checks": "checkered|square pattern|pattern of square|chequered|check|plaid|tartan|grid|checkerboard"
        "|grid of square|checked|gingham"
        "|chessboard|latticed|lattice",
        "floral": "floral|floral print|flower print|flowery|flower pattern|flowered|botanical",
        "patches": "patch|mottled|blotchy|blotch|patchy|marbled",
        "bricks": "pattern of brick|brick pattern",
    },
    "gloss": {
        "shiny": "shiny|glossy|reflective|gleaming|glistening|polished|lustrous|sparkling|mirror like"
        "|reflects light|glittering|glinting|mirrored|shimmering|waxy|glazed|highly polished|sheen"
        "|specular|brilliant|varnished",
        "matte": "rusty|velvety matte|flat finish|"
        "matte|matt|dull|non reflective|lustreless|unpolished|lacklustre|flat paint|chalky|tarnished"
        "|satinless",
    },
    "hardness": {
        "soft": "floppy|squidgy|yielding|doughy|plushy|fleecy|"
        "soft|fluffy|plush|squishy|cushioned|padded|downy|tender|velvety|puffy|mushy|pliable|flexible"
        "|bendy|spongy|squashy|limp|supple|gooey|cuddly|woolly|silky|mellow|elastic|feathery",
        "hard": "armoured|solid feel|unbending|stony hard|rock hard|rigidly|"
        "hard|rigid|stiff|firm|solid metal|solid rock|crunchy|crisp|crispy|brittle|tough|solid"
        "|inflexible|unyielding|bony|stony|woody|sturdy",
    },
    "transparency": {
        "transparent": "transparent|clear|see through|translucent|crystal clear|glass clear|sheer|limpid",
        "opaque": "stained glass|cloudy|opaque|dark glass|frosted|non transparent|clouded|nontransparent"
        "|non see through|blacked out"
        "|solid coloured|tinted|milky",
    },
    "making": {
        "woven": "woven|wickerwork",
        "knitted": "knitted|crocheted",
        "carved": "carved",
        "moulded": "molded",
    },
    "material": {
        "carbon": "carbon fiber|carbon fibre",
        "linoleum": "linoleum|laminate",
        "turf": "turf|artificial turf|astroturf",
        "coal": "coal",
        "sponge": "sponge",
        "wax candle": "candle wax",
        "cork": "cork",
        "ivory": "ivory carved|made of bone|made of antler",
        "metal": "made of silver|sterling silver|solid silver|silver plated|pewter made|metal|metallic"
        "|sheet metal|wire|wire mesh|zinc|lead metal|titanium|metal plated|alloy"
        "|foil|metal foil",
        "gold": "gold|gold plated|made of gold",
        "tin": "tin|tin plated|made of tin",
        "steel": "steel|stainless steel|chrome",
        "iron": "iron|wrought iron|cast iron",
        "brass": "brass",
        "bronze": "bronze metal|copper",
        "aluminium": "aluminium|aluminum",
        "wood": "wood|wooden|timber|plywood|oak|pine wood|log|wood grain|tree trunk|hardwood|softwood|birch"
        "|maple|walnut|teak|cedar|mahogany wood|chipboard|mdf|wood panelled|oaken|log built",
        "bamboo": "bamboo|cane",
        "stone": "stone|rock|cobblestone|boulder|rocky|flagstone|granite|limestone|sandstone|slate"
        "|paving stone|slab of rock|pebbled|stony|basalt|quartz|alabaster",
        "marble": "marble",
        "brick": "brick|bricks",
        "concrete": "concrete|cement",
        "asphalt": "asphalt|tarmac|tar|bitumen",
        "plaster": "plaster|stucco|drywall",
        "glass": "glass",
        "ceramic": "ceramic|pottery|earthenware|tiled|ceramic tile|earthen|stoneware|enamel",
        "porcelain": "porcelain|china",
        "terracotta": "terracotta|clay",
        "plastic": "plastic|vinyl|nylon|acrylic|pvc|polystyrene|fiberglass|fibreglass|polyester|resin"
        "|polycarbonate|styrofoam|plexiglass|pvc coated|synthetic",
        "rubber": "rubber|latex|neoprene|silicone",
        "leather": "leather|suede",
        "fabric": "made of plush|fabric|cloth|textile|felt|lace|burlap|jute|hemp|tweed|flannel|corduroy|fleece"
        "|mesh fabric"
        "|cashmere|tarpaulin|carpet",
        "cotton": "cotton|denim|linen cloth",
        "wool": "wool|woollen|woolen",
        "silk": "silk|satin",
        "velvet": "velvet",
        "canvas": "canvas",
        "mesh": "mesh|mesh like",
        "paper": "paper",
        "cardboard": "cardboard|carton",
        "wicker": "wicker|rattan",
        "straw": "straw|thatch|thatched|hay|reed|grass thatch|palm leaf",
        "soil": "soil|dirt|mud|earth",
        "sand": "sand",
        "gravel": "gravel|pebble|shingle beach",
        "snow": "snow",
        "ice": "ice|icy|made of ice",
        "water": "liquid|fluid",
        "wax": "wax",
        "pearl": "pearl|mother of pearl",
        "foam": "foam|lather",
    },
    "covering": {
        "spines": "spine|spiky|quill|prickle",
        "fur": "fur|furry|fleece|shaggy coat|woolly coat|furry coat|hairy|hair covered|furry body",
        "feathers": "feather|feathered|plumage|feathery",
        "scales": "scale|scaly|scaled|scale covered",
        "shell": "exoskeleton|armour plate|hard bodied|plated|"
        "shell|carapace|armoured|armored|hard shell",
        "bare skin": "bare|featherless|unfeathered|bare neck|"
        "bare skin|naked|hairless|smooth skin",
    },
    "core": {
        "hollow": "hollow|hollow inside|empty inside|hollowed",
        "solid": "solid inside|solid block|solid heavy|solid core|massive block|heavy block|solid|massive"
        "|solid throughout|compact inside",
    },
    "weight": {
        "heavy": "weigh lot|weigh ton|heavy|weighty|ponderous|hefty|heavily built|massive weight"
        "|heavy duty|weighing tons"
        "|hard to lift",
        "light": "weigh almost nothing|weigh little|weigh next to nothing|lightweight|light to carry"
        "|light in weight|weightless|light load|light traffic|light rain"
        "|easy to lift|feather light|light as feather|featherweight|weighing little|light build",
    },
    "sharpness": {
        "sharp": "sharp|sharp edged|keen|razor sharp|knife edged|pointed edge|sharpened|clear cut",
        "blunt": "dull|blunt|dulled|rounded off|dull edge|dull blade|not sharp|blunted",
    },
    "bulge": {
        "convex": "convex|bulging outward|protruding|sticking out",
        "concave": "concave|sunken|hollowed|curved inward|recessed|indented|dented in",
    },
    "focus": {
        "sharp": "in focus|sharply defined|well defined|clearly defined|clear edge|sharp border"
        "|well circumscribed|distinct|crisp edge|clear outline|clear cut border|sharp outline"
        "|sharply focused|distinct border|clear border",
        "blurred": "blurred|blurry|out of focus|ill defined|poorly defined|indistinct|fuzzy edge|hazy outline"
        "|unclear edge|vague|smudged|unfocused|blurred border|fuzzy outline|diffuse border",
    },
    "symmetry": {
        "symmetric": "symmetric|symmetrical|evenly shaped|balanced",
        "asymmetric": "asymmetric|asymmetrical|lopsided|unbalanced|one sided",
    },
    "regularity": {
        "regular": "planted in row|arranged in row|set in row|in straight row|in even row|lined up|regular"
        "|evenly spaced|even spacing|orderly row|uniform spacing|in regular order"
        "|neatly arranged|in neat row",
        "irregular": "irregular|scattered randomly|unevenly spaced|random|randomly placed|disordered|haphazard"
        "|scattered about"
        "|scattered at random|in disorder|jumbled",
    },
    "continuity": {
        "solid": "solid|solid line|continuous|unbroken line|uninterrupted|seamless",
        "broken": "dashed|dotted line|broken line|interrupted|discontinuous|segmented line|with gaps",
    },
    "measure": {
        "millimetres": "millimetre|millimeter|mm",
        "centimetres": "centimetre|centimeter|cm|inch|few centimetre",
        "metres": "metre|meter|several metre|foot long|yard",
        "kilometres": "kilometre|kilometer|km|mile",
    },
    "form": {
        "flat": "flat|flattened|sheet like|leaf like body",
        "bulky": "cone shaped|dome shaped|pyramid shaped|tubular|tube shaped|sphere|spherical|ball shaped"
        "|globe|cylindrical|cube|cube shaped"
        "|box shaped|conical|domed"
        "|bulging|round body|rounded body|three dimensional",
    },
}
