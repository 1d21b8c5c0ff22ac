"""Where and how things stand: place, position, view, light, and what kind of thing they are."""

# fmt: off
PLACES: dict[str, dict[str, str]] = {
    "vertical place": {
        "edge": "edge of image|corner of image|side of image|border of image|margin of image",
        "top": "near ceiling|high up|"
        "high in sky|high above|high up in sky|"
        "at top of hill|on top of hill|hilltop|on summit|"
        "top of image|upper half of image|upper part of image|upper edge of image|top edge of image"
        "|top of scene|upper half|upper part|at top of",
        "middle": "middle of image|center of image|centre of image|central in image|in middle of frame",
        "bottom": "near floor|near ground|low down|close to ground|close to floor|"
        "close to horizon|near horizon|low in sky|low over ground|just above ground|"
        "at bottom of|at foot of hill|in valley|down in valley|bottom of valley|at base of|"
        "bottom of image|lower half of image|lower part of image|lower edge of image"
        "|bottom edge of image|bottom of scene|lower half|lower part",
    },
    "side": {
        "left": "left side|on left|left of|left edge|left half|left hand side|facing left|to left|left lane"
        "|leftmost|pointing left|turned left",
        "right": "right side|on right|right of|right edge|right half|right hand side|facing right|to right"
        "|right lane|rightmost|pointing right|turned right",
    },
    "front": {
        "front": "bow of ship|bow of boat|in front of|in front|at front|front side|front view"
        "|seen from front|front",
        "back": "stern|stern of ship|behind|rear|at back|back side|seen from behind|rear view",
    },
    "nearness": {
        "near": "foreground|near camera|close to camera|close up|near viewer|close to viewer|nearby in scene"
        "|in close range|close by|near coast|near sea|right beside camera|up close",
        "far": "background|far|far away|distant|in distance|far off|on horizon|far from|remote"
        "|off in distance|miles away|faraway",
    },
    "indoors": {
        "indoors": "indoor|indoors|inside building|inside house|inside room|in room|in building|inside home"
        "|interior|under roof|within building|inside shop|inside car|inside tent|at home"
        "|floor of room|encloses room",
        "outdoors": "outdoor|outdoors|outside|open air|out of doors|open sky|under sky|in nature|in landscape"
        "|outdoor area|under open sky|outside house|outside building|exterior view|open country"
        "|wilderness|out in open|against sky",
    },
    "locale": {
        "aircraft": "on board plane|aircraft cabin",
        "space": "outer space|in orbit",
        "swamp": "swamp|marsh|wetland|bog|mangrove",
        "polar": "arctic|antarctic|polar|tundra|ice floe|pack ice",
        "nursery": "nursery|kindergarten|playroom",
        "laundry": "laundry room|utility room",
        "gym": "gym|gymnasium|swimming hall|sports hall",
        "basement": "basement|cellar|attic|loft",
        "corridor": "hallway|corridor|lobby|stairwell|foyer|entrance hall",
        "restaurant": "restaurant|cafe|canteen|pub|bar room|cafeteria|diner",
        "kitchen": "kitchen|cooking area",
        "living room": "living room|lounge|sitting room",
        "bedroom": "bedroom|sleeping room",
        "bathroom": "bathroom|bathroom tile|washroom|shower room|toilet room|restroom",
        "dining room": "dining room",
        "office": "office|classroom|school building|at school|library|laboratory|museum|theatre|theater"
        "|cinema|auditorium"
        "|lecture hall|courtroom",
        "shop": "shop|store|supermarket|market hall",
        "workshop": "workshop|factory|warehouse|garage",
        "hospital": "hospital|operating room|clinic",
        "church": "church interior|in church|temple",
        "station": "railway station|train station|bus station|subway station|station",
        "airport": "airport|runway|airfield|hangar",
        "street": "street|road|roadside|pavement|sidewalk|curb|kerb|traffic|highway|lane|crossroad|city|urban"
        "|alley|boulevard|roundabout|motorway|freeway|bridge deck|on bridge|suburb|marketplace"
        "|market square|driveway|cycle path|urban area|downtown|town|plaza|square in city"
        "|public plaza|parking lot|car park|crossing",
        "waterside": "shore|beach|dock|quay|harbour|harbor|coast|seaside|riverbank|lakeside|port|marina"
        "|seashore"
        "|coastline|waterfront|jetty|cliff top|by sea|by lake|by river|pier",
        "water": "in water|on water|in sea|at sea|on lake|in river|surrounded by water|on sea|in lake|on river"
        "|ocean|open sea|underwater|pond|swimming pool|in pool|lagoon|on open sea|freshwater"
        "|saltwater",
        "garden": "garden|lawn|yard|backyard|orchard|in park|flower bed|greenhouse|vegetable patch|front garden"
        "|back garden|playground|cemetery|vineyard",
        "farm": "field|meadow|pasture|farm|farmland|barn|muddy pen|stable|countryside|rural|cornfield|paddock"
        "|cowshed|henhouse|crop field|rice paddy",
        "forest": "forest|wood land|woodland|jungle|woods|surrounded by tree|rainforest|thicket|grove"
        "|undergrowth",
        "mountain": "mountain|snowy slope|ski slope|hillside|alpine|glacier|summit|alp|cliff|canyon|valley"
        "|rocky peak|mountainside|ridge top",
        "desert": "desert|dune|arid plain|savanna|savannah|steppe",
        "sky": "in air|in sky|flying in air|high up in air|in sky above|up in air",
        "underground": "underground|below ground|mine|cave",
        "sports field": "playing field|sports field|stadium|sports arena|court|pitch",
        "wild": "far from any town|far from town|far from city|away from town|wilderness|middle of nowhere"
        "|far from civilization|far from village",
        "tunnel": "in tunnel|inside tunnel",
    },
    "support": {
        "back": "on back|carried on back",
        "rails": "on rail|on railway track|on track",
        "roof": "on roof|on rooftop|on top of roof|on top of building",
        "seat": "on chair|on sofa|on couch|on bench seat",
        "underground": "underground|below ground|under ground|under earth|under soil|in soil|buried|in burrow",
        "tree": "on tree|on branch|on twig|in tree|hanging from tree",
        "ground": "floor lamp|on ground|on floor|indoor floor|on road|on pavement|on grass|on earth"
        "|at ground level"
        "|on carpet|crawl on ground|rooted in ground|on sand|at foot|on rug|on deck|lying on ground"
        "|lie on grass|on sidewalk",
        "wall": "on wall|into wall|to wall|in wall|against wall|hung on wall|wall bracket",
        "ceiling": "ceiling|from above|overhead|above everything|lamp above|pendant lamp above|from roof"
        "|hanging from roof|on ceiling|hang from ceiling|chandelier",
        "table": "desk lamp|table lamp|on table|on desk|on tabletop|into worktop|on worktop|on counter"
        "|on kitchen counter|on shelf"
        "|on bench|on plate|on tray|on kitchen table|on stove|on cooker|on top of table",
        "bed": "on bed",
        "water": "on water|float|floating|on surface of water|float on surface",
        "under water": "under water|underwater|under water surface|sea bed|below water|submerged|on sea bed",
        "air": "off ground|above ground|lifted off ground|raised off ground|"
        "in air|in sky|flying|airborne|high up in air",
        "under table": "under table|below table|under bed|under worktop|under desk|beneath table",
        "above water": "above water|over water|above sea",
        "middle of room": "middle of room",
        "on post": "on pole|on post|on pedestal|on stand",
        "head": "worn on head|on head worn",
        "feet": "worn on foot",
    },
    "surroundings": {
        "water": "surrounded by water",
        "grass": "surrounded by lawn|surrounded by grass",
        "trees": "surrounded by tree|surrounded by forest",
        "houses": "surrounded by house|surrounded by building",
    },
    "orientation": {
        "vertical": "vertical|upright|run up and down|standing up|from top to bottom|perpendicular|stand on end"
        "|up and down|standing on end|plumb",
        "horizontal": "prone|horizontal|lie flat|lying flat|level|lying down|laid flat|run from side to side"
        "|lie on ground|sideways flat|lying on its side|lie on its side|lying",
        "sloped": "diagonal|slanted|slanting|tilted|leaning|sloping|slope|steep|inclined|oblique",
    },
    "slope": {
        "steep": "steep",
        "gentle": "gentle slope|gentle|gently sloping",
    },
    "season": {
        "summer": "summer|summery|in summer|midsummer",
        "winter": "winter|snowy|wintry|in winter|snow covered|snowbound|in snow",
        "autumn": "autumn|in autumn|autumnal|in fall|fall foliage|autumn coloured",
        "spring": "springtime|in spring|spring blossom|spring like",
    },
    "daytime": {
        "twilight": "dusk|dawn|sunset|sunrise|twilight|at dusk|at dawn",
        "day": "day|midday sun|bright sun|sunshine|blazing sun|"
        "daytime|by day|daylight|in day|at noon|sunlit|in sunlight|in sunshine|in broad daylight"
        "|midday|during day|noon|sunny|daytime scene|lit by sun",
        "night": "moonlight|moonlit|in moonlight|night sky|"
        "night|nighttime|at night|nocturnal|moonlit|after dark|midnight|in dark|in darkness"
        "|by moonlight|starry|nocturnal scene|during night",
    },
    "density": {
        "dense": "dense|high density|thickly grown|densely|packed|lush|thick fog|compact|crowded together"
        "|closely spaced|close together|tightly packed|densely populated|concentrated"
        "|high rise crowded|bushy|thickly wooded|heavily populated|closely planted",
        "sparse": "sparse|low density|scattered|thinly grown|sparsely|thin hair|loosely spaced|far apart"
        "|widely spaced|loosely packed|thinly populated|thinning|sparsely populated|patchy growth"
        "|diffuse|open woodland|spread apart|spaced out",
    },
    "crowding": {
        "crowded": "crowded|busy|bustling|full of people|packed with people|overcrowded|teeming|busy street"
        "|many people|lively|populated",
        "deserted": "empty|deserted|lonely|abandoned|empty of people|without people|nobody around|uninhabited"
        "|no one around|unpopulated|quiet street|desolate|no people",
    },
    "access": {
        "private": "private|privately owned|for residents only|personal",
        "public": "public|open to public|publicly owned|shared by all|communal",
    },
    "part of body worn": {
        "trunk": "worn on body|on torso|around body|on chest",
        "head": "worn on head|on head|over head",
        "neck": "worn around neck|at neck|"
        "around neck",
        "wrist": "worn on wrist|worn around wrist|"
        "on wrist|around wrist",
        "finger": "on finger",
        "feet": "on foot|worn on foot",
        "waist": "worn around waist|at waist|on hip|"
        "around waist|around hip",
        "ear": "in ear|on ear",
        "shoulders": "over shoulder|on shoulder|around shoulder|across shoulder|worn over shoulder"
        "|worn on shoulder",
        "hand": "worn on hand|on hand",
        "legs": "worn on leg|on leg worn|around leg",
    },
    "angle": {
        "parallel": "parallel to|"
        "parallel|alongside",
        "across": "at right angles to|at right angle to|at right angle|"
        "perpendicular|at right angle|crosswise|crossing at right angle|across road",
    },
    "way up": {
        "up": "upright|right side up|right way up|the right way up",
        "down": "upside down|inverted|overturned|capsized|flipped over|turned over",
    },
    "view": {
        "front": "facing camera|facing viewer|looking at camera|facing forward|seen from front|front view"
        "|frontal view|facing front|full face",
        "away": "back turned|turned back|from behind|"
        "turned away|facing away|away from camera|seen from behind|seen from back|back view|rear view"
        "|back to camera",
        "side": "seen from side|side view|in profile|profile view|side on|from side",
        "above": "seen from above|top view|aerial view|bird eye view|overhead view|seen from top"
        "|viewed from above|looked down on",
        "below": "seen from below|view from below|worm eye view",
    },
    "level": {
        "upper": "upper|uppermost|top|topmost",
        "lower": "lower|lowermost|bottom|bottommost",
    },
    "layer": {
        "inner": "interior|inner|inside part|interior side|internal|innermost",
        "outer": "exterior|outer|external|outermost|exterior side",
    },
    "direction": {
        "up": "upward|upwards|uphill|ascending|pointing up|rising|climbing up|turned up",
        "down": "drooping down|hanging down|sagging down|bending down|bent downward|downward|downwards"
        "|downhill|descending|pointing down|falling|turned down",
    },
    "turning": {
        "clockwise": "clockwise",
        "anticlockwise": "anticlockwise|counterclockwise|counter clockwise",
    },
    "weather": {
        "sunny": "sunny|cloudless|clear sky|sunlit|bright sky|fair weather|blue sky",
        "cloudy": "cloudy|overcast|grey sky|gray sky|clouded",
        "rainy": "rainy|raining|in rain|stormy|drizzly|stormy weather|thunderstorm",
        "foggy": "foggy|misty|hazy|in fog",
        "snowy": "snowing|snowy|snowfall",
    },
    "lighting": {
        "bright": "brightly lit|well lit|bright room|floodlit|brilliantly lit",
        "dim": "dim room|dark room|darkened|badly lit|"
        "dimly lit|poorly lit|unlit|gloomy|dark room|shadowy|shaded|in shadow|in shade",
    },
    "arrangement": {
        "single": "singly|individually|one at time|"
        "single file|one by one|isolated|solitary|standing alone|stand alone|detached house|detached"
        "|free standing|lone",
        "grouped": "in group|clustered|in cluster|grouped|in crowd|terraced|joined together|in pack|in flock"
        "|in herd|in swarm|in pair|in bunch|side by side in row",
    },
    "traffic direction": {
        "oneway": "one way|one directional",
        "twoway": "two way|both directions|bidirectional|oncoming traffic",
    },
    "water kind": {
        "salt": "saltwater|seawater|salt water|marine|in salt water",
        "fresh": "freshwater|fresh water|in fresh water",
    },
    "kind": {
        "weapon": "weapon|gun",
        "instrument": "musical instrument",
        "toy": "toy|plaything",
        "tool": "tool|hand tool|implement|utensil",
        "vehicle": "vehicle|motor vehicle|car|means of transport|truck|lorry|bus|boat|ship|aircraft|bicycle"
        "|motorbike|means of transportation|watercraft",
        "furniture": "furniture|piece of furniture|storage furniture|seating|piece of seating furniture|table"
        "|cabinet",
        "animal": "animal|mammal|bird|insect|pet|beast|fish|reptile|dog|cat|horse|livestock|creature"
        "|bird of prey",
        "plant": "plant|greenery|growing greenery|vegetation|tree|shrub|bush|flower|herb|houseplant|crop",
        "building": "building|building exterior|house|structure for people|dwelling|skyscraper|tower block|shed"
        "|hut",
        "food": "food|fresh fruit|vegetable|fresh vegetable|served meal|cooked food|fruit|snack|dessert"
        "|pastry|bread|meal|dish of food|baked goods",
        "clothing": "clothing|garment|clothes|item of clothing|piece of clothing|footwear|headwear",
        "machine": "machine|device|household machine|electronic device|appliance|gadget|engine powered machine"
        "|tool machine",
    },
}
