"""Sorts of places and of what is seen outdoors: land, water, weather, buildings, rooms; and of forms and actions."""

# fmt: off
WORLD: dict[str, str] = {
    "landscape": "mountain/mountains/peak/peaks/summit hill/hills/hillside/hilltop/hilltops "
    "valley/gorge/canyon/ravine plain/plains/prairie/steppe/savanna/savannah desert/dune/dunes "
    "forest/woodland/wood/woods/jungle/rainforest/grove/thicket swamp/marsh/bog/wetland/moor "
    "coast/shore/beach/coastline island glacier/icefield "
    "field/fields/farmland/meadow/pasture/grassland/crop/crops/plantation/orchard/vineyard tundra "
    "lake/pond/river/stream/sea/ocean/lagoon/canal/reservoir/creek "
    "town/city/village/suburb/settlement/hamlet cave/cavern volcano/crater reef park/garden/lawn",
    "farming": "field/fields/cropland/crop meadow/pasture/grassland orchard/plantation vineyard "
    "greenhouse/greenhouses forest/woodland garden paddy stubble/fallow",
    "water body": "sea/ocean lake/lakes/loch pond/ponds/puddle/puddles "
    "river/rivers/stream/streams/creek/brook canal/canals/ditch/channel waterfall/waterfalls/cascade "
    "pool/pools/swimming_pool/bath fountain/fountains/well/geyser swamp/marsh glacier/ice "
    "harbour/harbor/port bay/gulf/lagoon reservoir/basin/tank",
    "edge of water": "beach/sand cliff/cliffs quay/pier/dock/harbour/harbor/embankment/wall marsh/mudflat "
    "reed/reeds rock/rocks/boulders mangrove/mangroves",
    "sea floor": "sand/sandy mud/muddy/silt rock/rocks/rocky pebble/pebbles/gravel/shingle "
    "seagrass/weed/seaweed/kelp reef/coral/corals",
    "rock": "granite basalt/lava limestone/chalk sandstone marble slate/shale quartz/crystal/crystals pumice "
    "obsidian gneiss sediment/sedimentary volcanic/igneous metamorphic",
    "loose ground": "sand/dust gravel/pebble/pebbles/shingle boulder/boulders/rock/rocks/stone/stones "
    "clay/mud/silt snow/ice soil/earth/humus/dirt/peat ash leaf/leaves/litter grass",
    "gem": "diamond ruby emerald sapphire pearl/pearls amber jade topaz opal amethyst turquoise garnet quartz",
    "precipitation": "rain/drizzle/downpour/shower snow/snowfall/snowflake/snowflakes/blizzard "
    "hail/hailstone/hailstones sleet fog/mist/haze dew frost/rime/hoarfrost",
    "weather": "rain/drizzle/downpour/shower snow/snowfall/blizzard hail sleet fog/mist/haze sunshine/sun "
    "storm/gale/"
    "thunderstorm/hurricane/tornado/lightning/thunder rainbow frost",
    "rain strength": "drizzle downpour/cloudburst",
    "sky sight": "sun/sunrise/sunset moon star/stars rainbow lightning/thunderbolt cloud/clouds comet/meteor "
    "aurora planet galaxy fog smoke",
    "cloud": "cumulus cirrus stratus thundercloud/cumulonimbus fog/mist",
    "settlement": "town city/metropolis village/hamlet suburb farm/farmstead camp",
    "building": "house/bungalow/cottage/villa/mansion/farmhouse/terrace hut/cabin/shed/shack/lodge/chalet tent/"
    "tepee/teepee/wigwam/yurt/marquee igloo skyscraper/tower_block/high-rise block/apartment "
    "church/cathedral/chapel/abbey/monastery/basilica mosque synagogue temple/pagoda/shrine "
    "castle/fortress/palace/citadel tower/lighthouse/windmill/belfry/minaret "
    "factory/warehouse/mill/plant/refinery barn/stable/silo/henhouse greenhouse/conservatory hospital/clinic "
    "school/university/college/kindergarten library museum/gallery theatre/theater/cinema/opera "
    "stadium/arena station/airport/terminal/hangar shop/store/supermarket/kiosk/mall hotel/hostel/inn/motel "
    "restaurant/cafe/pub/bar office bank garage/carport prison/jail bridge/viaduct/aqueduct pyramid/ziggurat",
    "house": "bungalow cottage villa/mansion/manor farmhouse terrace apartment",
    "church": "cathedral chapel abbey/monastery",
    "tower": "lighthouse windmill belfry minaret silo chimney/smokestack pylon/mast watchtower skyscraper",
    "structure outdoors": "bridge/viaduct tunnel dam tower/mast/pylon wall/fence monument/statue/obelisk "
    "fountain pier/jetty/dock windmill/turbine crane chimney",
    "bridge": "viaduct aqueduct footbridge drawbridge",
    "arch": "vault dome lintel",
    "urban pattern": "grid/chessboard maze/labyrinth/alleys ring/rings star fan row/rows",
    "room": "kitchen/galley/kitchenette bathroom/toilet/washroom/lavatory bedroom/dormitory/nursery "
    "living_room/lounge/parlour dining_room/canteen/restaurant office/study "
    "hall/hallway/corridor/lobby/foyer attic/loft basement/cellar garage classroom/lecture_hall "
    "laboratory/lab workshop/studio ward/operating_theatre gym/gymnasium library "
    "balcony/terrace/veranda/patio staircase pantry/larder/storeroom cell/prison shop/store conservatory",
    "street": "motorway/highway/freeway alley/lane/alleyway avenue/boulevard roundabout/junction/intersection/"
    "crossroads bridge tunnel square/plaza footpath/path/pavement/sidewalk/trail/track "
    "driveway/car_park/parking runway/taxiway railway/tracks canal",
    "road user": "pedestrian/pedestrians/walker/walkers car/cars/motorist/motorists "
    "cyclist/cyclists/bicycle/bicycles/"
    "bike bus/buses train/trains/tram/trams truck/trucks/lorry/lorries horse/horses/rider/riders "
    "plane/planes/aircraft ship/ships/boat/"
    "boats motorcycle/motorcyclist",
    "airfield": "runway taxiway apron hangar terminal",
    "public place": "park/garden playground/schoolyard cemetery/graveyard market/marketplace square/plaza "
    "street station/airport stadium/arena zoo museum church/mosque/temple beach harbour/harbor school "
    "hospital/clinic factory farm prison office shop/store/supermarket/mall restaurant/cafe/pub/bar "
    "theatre/theater/cinema library bank hotel",
    "place indoors": "windowsill/sill corner/corners ceiling floor/ground wall/walls shelf/shelves "
    "table/desk/tabletop/"
    "counter bed door/doorway roof/rooftop drawer cupboard/cabinet hook",
    "place on a body": "head/hair foot/feet hand/hands/fingers neck/throat wrist waist/hip/hips "
    "shoulder/shoulders back/spine chest/breast ear/ears face/nose leg/legs/ankle/knee/thigh eye/eyes "
    "belly/stomach finger arm/elbow",
    "place outdoors": "tree/trees/branch/branches/treetops ground/soil/earth "
    "rock/rocks/cliff/cliffs/boulders/ledge water/pond/ponds/lake/lakes/river/rivers/sea/ocean "
    "sand/dunes/beach/desert grass/meadow/meadows/field/fields roof/roofs/chimney/chimneys reed/reeds "
    "cave/caves burrow/burrows/hole bush/bushes/hedge/hedges snow/ice sky/air "
    "wood/log/logs/bark/trunk/trunks wall/walls mud/swamp/swamps/bog/marsh/marshes",
    # Forms.
    "solid form": "ball/sphere/globe/bead cube/block/box/brick cylinder/tube/roll/log/barrel/drum cone "
    "pyramid disc/disk/plate/coin ring/hoop/loop rod/stick/bar/needle/pole sheet/slab/panel/board/foil "
    "dome/hemisphere strip/ribbon/band wedge flake/flakes grain/grains/granule/granules pellet/pellets",
    "flat form": "circle/disc square rectangle/oblong triangle oval/ellipse star/asterisk heart crescent "
    "diamond/rhombus hexagon pentagon octagon cross/plus arrow spiral trapezoid",
    "line form": "line/stripe/dash dot/point/spot curve/arc/arch zigzag wave/ripple spiral/coil/swirl cross "
    "loop/ring/circle grid/mesh/net arrow square triangle star",
    "heap": "pile/heap/stack/mound row/rows/line/lines/column ring/circle scatter/scattered grid/lattice "
    "bundle/bunch cluster/clusters/clump/clumps layer/layers single/individual pair/pairs chain/chains "
    "sheet/sheets",
    "hollow": "hole/holes/pit/hollow bump/bumps/hump/knob/knobs "
    "groove/grooves/furrow/furrows/slot/rut/notch/notches ridge/ridges/rib/ribs crack/cracks/split "
    "spike/spikes/spine/spines/thorn/thorns dent/dents/dimple/dimples fold/folds/wrinkle/wrinkles/"
    "crease/creases",
    "state of water": "ice/snow/frost steam/vapour/vapor/mist water/liquid",
    "direction": "north/northern south/southern east/eastern west/western",
    "season": "spring summer autumn/fall winter",
    "time of day": "morning/dawn/sunrise noon/midday afternoon evening/dusk/sunset/twilight night/midnight",
    "country style": "gothic baroque/rococo roman/romanesque renaissance modernist/bauhaus victorian "
    "japanese/chinese classical/greek",
}
