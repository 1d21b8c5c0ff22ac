"""Sorts of made things: vehicles, furniture, tools, clothes, containers, devices, and their parts."""

# fmt: off
MADE: dict[str, str] = {
    # Vehicles and their parts.
    "vehicle": "car/automobile/sedan/saloon/limousine/hatchback/convertible/taxi/cab/jeep van/minibus/camper "
    "bus/coach truck/lorry/pickup/tanker tractor/harvester train/locomotive/railcar/wagon tram/streetcar "
    "motorcycle/motorbike/moped/scooter bicycle/bike/tandem/tricycle/unicycle "
    "ship/boat/vessel/ferry/yacht/barge/canoe/kayak/raft/dinghy/submarine "
    "aircraft/airplane/aeroplane/plane/helicopter/glider/airliner balloon/airship/blimp "
    "rocket/spaceship/shuttle cart/carriage/wagon/rickshaw/buggy/chariot sled/sledge/sleigh/toboggan tank "
    "ambulance skateboard wheelchair pram/stroller/pushchair bulldozer/excavator/digger forklift crane",
    "car": "sedan/saloon hatchback convertible/cabriolet/roadster limousine taxi/cab jeep/suv racer coupe "
    "estate",
    "vessel": "ferry yacht/sailboat/sailing_boat barge canoe/kayak raft dinghy/lifeboat submarine gondola "
    "rowboat warship/destroyer/frigate/cruiser/carrier tanker/freighter trawler tug/tugboat catamaran "
    "galleon/schooner speedboat/motorboat",
    "aircraft": "helicopter glider airliner/jumbo biplane/propeller fighter drone balloon airship/blimp",
    "train": "locomotive tram metro/subway/underground monorail carriage/coach wagon/freight",
    "drive": "wheel/wheels track/tracks leg/legs sail/sails oar/oars/paddle/paddles propeller/propellers "
    "motor/engine pedal/pedals runner/runners/skid/skids rotor/rotors wing/wings",
    "cab or load": "deck/decks cabin/cabins bed/platform container/box tank",
    "way of a vehicle": "rail/rails road/roads water/sea air/sky snow",
    # Furniture and rooms' outfit.
    "seat": "chair/armchair/recliner/rocker stool bench/pew sofa/couch/settee/loveseat throne hammock "
    "beanbag/pouffe/"
    "ottoman swing saddle deckchair",
    "lie or sit": "bed/cot/crib/bunk/cradle mattress/futon sofa/couch/settee chair/armchair/stool/bench "
    "hammock",
    "bed": "cot/crib/cradle bunk hammock futon four-poster mattress",
    "table": "desk counter workbench sideboard nightstand altar lectern",
    "furniture for storing": "shelf/shelves/bookcase/rack/bookshelf drawer/drawers/dresser "
    "cupboard/cabinet/wardrobe/"
    "closet chest/trunk/coffer hook/hooks/peg/hanger locker safe sideboard",
    "lamp": "chandelier lantern torch/flashlight spotlight/floodlight lightbulb/bulb headlamp/headlight "
    "streetlight/streetlamp",
    "window cover": "curtain/curtains/drape/drapes blind/blinds shutter/shutters awning grille/bars",
    "floor cover": "carpet/rug/mat tile/tiles/tiling parquet/floorboard/floorboards/plank/planks/laminate "
    "linoleum/lino flagstone/cobble/cobblestone/cobblestones/paving gravel/pebbles asphalt/tarmac grass/turf "
    "concrete sand straw/hay",
    "wall cover": "wallpaper paint/whitewash/plaster tile/tiles panel/panelling/paneling tapestry "
    "brick/bricks stucco mirror/mirrors ivy graffiti",
    "roof cover": "tile/tiles/shingle/shingles slate/slates thatch/straw/reed tin/corrugated glass "
    "grass/turf tar/felt gravel panel/panels/solar",
    "roof": "dome/cupola gable/gables spire/steeple terrace vault canopy/awning",
    "bedding": "pillow/cushion/bolster blanket/quilt/duvet/comforter sheet mattress sleeping_bag",
    "barrier": "fence/palisade/picket wall hedge/hedgerow/bush/bushes/shrub "
    "railing/railings/rail/banister/balustrade gate/turnstile net/netting ditch/moat bollard/bollards "
    "kerb/curb dam/dyke/levee/embankment barrier",
    "opening of a house": "door/doors/doorway window/windows/skylight gate/gates hatch chimney/vent",
    "door": "gate hatch shutter turnstile trapdoor",
    "way up": "stair/stairs/staircase/steps/step/stairway ladder lift/elevator escalator ramp/slope rope",
    "support": "leg/legs wheel/wheels/castor/castors pillar/pillars/column/columns/post/posts/stilt/stilts "
    "hook/hooks chain/chains/rope/ropes/cable/cables bracket/brackets pedestal/plinth/stand tripod wall "
    "runner/runners beam/beams foot/feet",
    "bathroom fitting": "bathtub/bath/tub shower toilet/urinal/bidet sink/basin/washbasin",
    "kitchen machine": "oven/stove/cooker/hob/microwave/grill fridge/refrigerator/freezer dishwasher toaster "
    "kettle blender/mixer",
    "household machine": "oven/stove/cooker/microwave fridge/refrigerator/freezer dishwasher "
    "washing_machine/washer dryer toaster kettle vacuum iron fan heater/radiator television/tv "
    "computer/laptop telephone/phone/smartphone radio camera printer clock sewing_machine air_conditioner "
    "lamp",
    "heating": "fireplace/hearth/chimney stove radiator/heater campfire/bonfire",
    # Containers and packing.
    "container": "bottle/flask/carafe jar can/tin box/crate/carton/case/chest bag/sack/pouch basket/hamper "
    "bucket/pail barrel/keg/cask cup/mug/goblet/chalice glass/tumbler bowl/dish plate/saucer/platter tray "
    "pot/pan/cauldron/wok/"
    "saucepan vase/urn jug/pitcher/ewer tube/tubes envelope/wrapper/foil tank/cistern vat/tub "
    "suitcase/briefcase/backpack/"
    "handbag/purse/wallet skewer vial/ampoule packet/pack/sachet net cone",
    "vessel for drinking": "cup/mug glass/tumbler goblet/chalice bottle/flask can bowl carton straw",
    "bag": "suitcase/trolley briefcase backpack/rucksack/knapsack handbag/purse wallet sack pouch "
    "sleeping_bag satchel basket",
    "closure": "lid/cover/cap cork/stopper/bung zip/zipper button/buttons lace/laces buckle/buckles velcro "
    "hook/hooks flap drawstring knot/bow",
    "cutlery": "knife fork spoon/ladle/teaspoon chopstick/chopsticks straw tongs",
    "outlet": "spout/nozzle tap/faucet valve pump lid",
    # Tools and hardware.
    "tool": "hammer/mallet/sledgehammer screwdriver wrench/spanner pliers/tongs/pincer/pincers/tweezers "
    "saw/chainsaw drill axe/hatchet chisel file/rasp plane knife/dagger/scalpel scissors/shears spade/shovel "
    "rake hoe pitchfork scythe/sickle brush/paintbrush broom/mop/duster ruler/tape/measure/calliper/caliper "
    "needle/awl anvil clamp/"
    "vice/vise crowbar/lever pickaxe/pick sandpaper/sander trowel soldering_iron sponge/cloth "
    "lawnmower/mower ladder stapler",
    "fixing": "nail/nails screw/screws bolt/bolts rivet/rivets staple/staples pin/pins glue/adhesive tape "
    "rope/string/cord solder/soldered weld/welded clip/clips hinge/hinges strap/straps magnet/magnets "
    "suction",
    "screw head": "slot cross hexagon/hex star/torx",
    "cord": "rope/ropes string/thread/yarn/twine wire/wires/cable chain/chains ribbon/ribbons "
    "strap/straps/belt hose/tube/tubing/pipe elastic",
    "handle of a thing": "knob/knobs lever/levers button/buttons switch/switches pedal/pedals crank "
    "wheel/wheels string/strings/cord/chain/rope key/keys trigger touchscreen/screen dial/dials",
    "weapon": "sword/sabre/rapier/dagger gun/rifle/pistol/revolver/musket/shotgun bow/crossbow "
    "spear/lance/javelin axe cannon/mortar bomb/grenade club/mace shield tank missile",
    "cleaning tool": "broom/brush mop sponge cloth/rag/duster vacuum soap/detergent towel bucket",
    # Clothes and jewels.
    "upper garment": "shirt/blouse/t-shirt/tshirt/polo sweater/jumper/pullover/cardigan/hoodie "
    "jacket/blazer/coat/"
    "anorak/parka vest/waistcoat suit/tuxedo cloak/cape/poncho/shawl bra/bikini apron kimono",
    "lower garment": "trousers/pants/jeans/slacks/chinos shorts skirt/kilt/miniskirt "
    "leggings/tights/stockings dress underpants/briefs pyjamas",
    "shoe": "boot/boots/wellington/wellingtons sandal/sandals/flip-flop/flip-flops "
    "sneaker/sneakers/trainer/trainers slipper/slippers pump/pumps/heels/stiletto/stilettos clog/clogs "
    "loafer/loafers/moccasin moccasins ski/skis skate/skates ballerinas",
    "headgear": "hat/fedora/bowler/sombrero cap/beret/baseball_cap helmet crown/tiara hood "
    "headscarf/scarf/veil/"
    "turban/bandana wig headband headphones/earphones mask/visor",
    "jewel": "ring/rings necklace/pendant/chain bracelet/bangle/wristband "
    "earring/earrings/stud/studs/hoop/hoops brooch/"
    "pin watch/wristwatch crown/tiara anklet cufflink",
    "band": "strap/straps/belt bracelet/bangle/wristband chain cord/string ribbon",
    "neckwear": "tie/necktie bow_tie scarf/shawl necklace collar",
    "eyewear": "glasses/spectacles sunglasses goggles monocle mask",
    "handwear": "glove/gloves mitten/mittens",
    "cloth": "cotton wool/tweed/felt silk/satin velvet linen/canvas denim leather/suede lace nylon/polyester "
    "fleece fur brocade/damask corduroy flannel",
    "ornament": "stripe/stripes dot/dots/spots/spot check/checks/tartan/plaid flower/flowers star/stars "
    "heart/hearts zigzag/chevron chevrons paisley logo/letters/lettering/text embroidery sequin/sequins "
    "lace/frill/ruffle/frills/ruffles fringe/tassel/tassels circle/circles triangle/triangles square/squares "
    "arrow/arrows cross/crosses wave/waves",
    "sleeve": "sleeveless",
    # Reading, writing, playing, showing.
    "stationery": "pen/biro/ballpoint pencil/crayon eraser ruler sharpener stapler/staple paperclip/clip "
    "notebook/notepad/diary folder/binder envelope scissors glue tape/sellotape calculator stamp chalk "
    "brush/paintbrush marker/highlighter",
    "reading": "book/novel/paperback newspaper magazine/comic postcard map/atlas notebook/diary poster "
    "leaflet/brochure/flyer scroll/parchment dictionary",
    "picture": "painting/watercolour drawing/sketch/etching/engraving poster map/chart/diagram mosaic "
    "sculpture/statue/bust/relief mirror tapestry mural/fresco cartoon",
    "string instrument": "violin/fiddle/viola cello bass guitar harp lute/mandolin banjo piano zither",
    "instrument": "violin/fiddle/viola cello guitar/ukulele/banjo/lute/mandolin harp "
    "piano/keyboard/organ/harpsichord accordion/concertina trumpet/cornet/bugle trombone tuba/horn "
    "flute/piccolo/recorder clarinet/oboe/bassoon saxophone drum/drums/timpani/tambourine/bongo "
    "bell/bells/chime/chimes gong/cymbal/cymbals/triangle xylophone harmonica bagpipe/bagpipes whistle",
    "music family": "string/strings brass woodwind percussion keyboard",
    "toy": "doll/puppet/marionette teddy/teddy_bear block/blocks/lego puzzle/jigsaw kite yoyo spinning_top "
    "rattle rocking_horse seesaw/slide/swing robot balloon/balloons dice/cards/card/chess/domino",
    "game": "football/soccer basketball volleyball tennis badminton golf hockey cricket rugby baseball "
    "chess/draughts bowling/skittles billiards/snooker cards darts",
    "playground": "slide swing/swings seesaw/see-saw climbing_frame/climbing roundabout/carousel "
    "sandpit/sandbox trampoline",
    "sport gear": "ball/football/basketball/shuttlecock/puck racket/racquet/bat/club/stick net "
    "goal/hoop/basket ski/"
    "skis skate/skates surfboard/snowboard/skateboard helmet glove/gloves dumbbell/barbell/weight "
    "bow/arrow/arrows rod paddle/oar",
    "screen": "television/tv monitor projector laptop/tablet smartphone/phone",
    "device": "computer/laptop/desktop/notebook/tablet phone/telephone/smartphone/mobile camera/camcorder "
    "printer/"
    "scanner/copier keyboard mouse loudspeaker/speaker/headphones/earphones microphone clock/watch/alarm "
    "radio television/tv router/modem calculator remote projector battery/charger",
    "computer control": "keyboard mouse touchscreen/touchpad/stylus joystick/gamepad/controller voice",
    "electronic part": "resistor capacitor transistor diode/led chip/microchip/processor "
    "coil/inductor/transformer battery switch fuse/relay socket/plug/connector",
    "joining of wire": "solder/soldered/soldering screw/screwed/terminal plug/socket/clip clamp crimp weld",
    "display": "dial/pointer/needle/hand/hands digit/digits/number/numbers bar/bars lamp/light/lights",
    "sign": "arrow/arrows stripe/stripes/zebra letter/letters/lettering/text number/numbers/digit/digits "
    "triangle circle cross pictogram/symbol/icon flag",
    "traffic device": "traffic_light/lights/signal sign/signpost barrier/bollard/bollards cone/cones "
    "bump/hump kerb/curb",
    "stop": "bus_stop/stop platform/platforms/station quay/jetty/pier/dock airport/runway parking/garage",
    "energy source": "battery/batteries mains/socket/plug sun/solar/sunlight "
    "petrol/gasoline/gas/diesel/fuel/oil coal wood/firewood/logs wind water steam nuclear/uranium "
    "muscle/hand/pedal/foot spring/clockwork",
    "light source": "candle/candles lamp/bulb/bulbs lantern fire/flame/torch sun/sunlight/sunshine/daylight "
    "moon/moonlight neon/led",
    "musical ensemble": "orchestra choir band soloist/solo duo/duet trio quartet",
    "money": "coin/coins banknote/banknotes/note/notes/bill/bills card/cards cheque/check",
}
