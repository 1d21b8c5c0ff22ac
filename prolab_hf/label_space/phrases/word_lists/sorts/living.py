"""Sorts of animals, plants, people, bodies and food.

A sort -> its members; members exclude one another, words joined by "/" do not. A sort whose name is a member of
another sort hands that on: an oak is a tree, a tree is no shrub.
"""

# fmt: off
LIVING: dict[str, str] = {
    # Animals.
    "animal": "mammal bird/fowl fish reptile amphibian insect/bug arachnid crustacean mollusc/mollusk worm "
    "jellyfish starfish coral sponge anemone urchin dinosaur",
    "mammal": "dog/hound/puppy/poodle/terrier/spaniel/bulldog/retriever/collie/mongrel/sheepdog/dachshund/labrador "
    "cat/kitten/tomcat wolf/wolves fox coyote jackal hyena lion/lioness tiger leopard/panther cheetah lynx "
    "puma/cougar jaguar bear/panda horse/pony/stallion/mare/foal/colt donkey/mule/ass zebra "
    "cow/bull/calf/ox/cattle/heifer buffalo/bison sheep/lamb/ram/ewe goat/kid pig/piglet/boar/sow/swine/hog "
    "deer/stag/doe/fawn/reindeer/elk/moose antelope/gazelle/impala camel/dromedary llama/alpaca giraffe "
    "elephant/mammoth rhinoceros/rhino hippopotamus/hippo monkey/baboon/macaque/marmoset "
    "ape/gorilla/chimpanzee/orangutan/gibbon lemur rabbit/hare/bunny squirrel chipmunk "
    "mouse/rat/rodent/hamster/vole guinea_pig beaver otter badger skunk raccoon weasel/ferret/stoat/mink "
    "mole hedgehog porcupine armadillo anteater sloth kangaroo/wallaby koala opossum bat whale/orca "
    "dolphin/porpoise seal/walrus manatee tapir",
    "bird": "eagle/hawk/falcon/kite/buzzard/raptor/vulture/condor owl crow/raven/rook/jackdaw magpie jay "
    "pigeon/dove gull/seagull tern sparrow finch/canary robin thrush/blackbird wren tit swallow/swift/martin "
    "starling woodpecker kingfisher hummingbird parrot/parakeet/budgie/cockatoo/macaw peacock pheasant "
    "partridge/quail chicken/hen/rooster/"
    "cockerel/cock/chick turkey duck/duckling/mallard goose/gosling swan heron/egret stork crane flamingo "
    "pelican cormorant penguin puffin albatross ostrich/emu/rhea toucan hornbill cuckoo",
    "fish": "shark ray eel salmon/trout tuna/mackerel cod/haddock carp/goldfish pike herring/sardine/anchovy "
    "seahorse pufferfish clownfish flounder/sole/plaice/halibut catfish sturgeon swordfish piranha",
    "reptile": "snake/viper/python/cobra/adder lizard/gecko/iguana/chameleon/salamander crocodile/alligator "
    "turtle/tortoise",
    "amphibian": "frog/toad/tadpole newt",
    "insect": "fly/housefly mosquito/gnat/midge bee/bumblebee/honeybee wasp/hornet ant/termite "
    "beetle/ladybird/ladybug butterfly moth caterpillar/larva/maggot/grub dragonfly/damselfly "
    "grasshopper/locust/cricket cockroach flea/louse aphid mantis earwig cicada",
    "arachnid": "spider/tarantula scorpion tick/mite",
    "crustacean": "crab lobster/crayfish shrimp/prawn barnacle woodlouse",
    "mollusc": "snail slug clam/mussel/oyster/scallop/cockle octopus squid/cuttlefish",
    "animal home": "nest hive/beehive kennel stable/stall coop/henhouse burrow/den aquarium/fishtank "
    "cage/birdcage anthill web/cobweb pen/paddock sty barn dovecote cocoon",
    "animal group": "herd flock pack swarm school/shoal pair",
    "young": "egg/eggs larva/caterpillar pupa/cocoon/chrysalis "
    "chick/kitten/puppy/calf/lamb/foal/cub/fawn/piglet adult",
    "covering of an animal": "fur/hair/hairs/wool feather/plumage/down scale/scales shell/carapace "
    "spine/spines/quill bristle/bristles",
    "gait": "walk/walks/stroll run/runs/sprint/gallop/trot hop/hops/jump/leap/bound "
    "crawl/crawls/creep/slither/wriggle fly/flies/glide/glides/soar/flutter swim/swims/dive/paddle "
    "climb/climbs/clamber roll/rolls drive/drives sail/sails",
    # Plants.
    "plant": "tree/sapling shrub/bush herb/wildflower grass/lawn/turf fern moss/liverwort "
    "alga/algae/seaweed/kelp/"
    "seagrass fungus/mushroom/toadstool lichen vine/creeper/climber/liana cactus/succulent "
    "weed/thistle/nettle reed/rush/sedge bamboo palm crop",
    "tree": "oak beech/hornbeam birch pine/fir/spruce/conifer/larch/cedar/cypress/yew/sequoia maple/sycamore "
    "ash elm linden/lime poplar/aspen willow chestnut walnut alder eucalyptus/gum apple cherry pear plum "
    "olive palm baobab mangrove acacia magnolia",
    "flower": "rose tulip daffodil/narcissus lily daisy sunflower orchid poppy carnation iris violet/pansy "
    "lavender dandelion crocus snowdrop hyacinth peony dahlia chrysanthemum lotus geranium hydrangea "
    "marigold foxglove bluebell forget-me-not jasmine lilac primrose petunia clover buttercup",
    "plant part": "root/rootlet/tuber/taproot stem/stalk/trunk leaf/leaflet/foliage/frond/needle "
    "flower/blossom/bloom/"
    "petal fruit/berry/pod/nut/acorn/cone/capsule seed/kernel/grain thorn/prickle/spine bud tendril bulb",
    "underground part": "tuber bulb/corm rhizome taproot rootlet/roots",
    "flower form": "spike raceme umbel panicle catkin rosette capitulum cluster",
    "fruit": "apple pear quince plum/damson/prune peach/nectarine apricot cherry grape/raisin "
    "banana/plantain orange/mandarin/tangerine/clementine lemon/lime grapefruit melon/watermelon pineapple "
    "mango papaya kiwi fig date pomegranate strawberry raspberry/blackberry blueberry/bilberry cranberry "
    "gooseberry currant/redcurrant/"
    "blackcurrant olive avocado coconut lychee persimmon guava",
    "dry fruit": "nut/acorn/hazelnut pod/legume berry/berries cone capsule samara/key achene",
    "nut": "almond walnut hazelnut/filbert peanut cashew pistachio chestnut pecan coconut acorn",
    "vegetable": "carrot potato/potatoes/tuber tomato cucumber/gherkin/pickle courgette/zucchini/marrow "
    "aubergine/"
    "eggplant pepper/chilli onion/shallot leek garlic cabbage/kale/sprout cauliflower/broccoli lettuce/salad "
    "spinach celery asparagus radish beetroot/beet turnip/swede/parsnip pumpkin/squash/gourd bean pea "
    "lentil/chickpea corn/sweetcorn/"
    "maize mushroom artichoke fennel ginger olive",
    "spice": "pepper salt cinnamon nutmeg clove ginger turmeric paprika saffron vanilla cumin basil parsley "
    "mint thyme/oregano rosemary sage dill chive coriander",
    "crop": "wheat/barley/oat/rye corn/maize rice potato cotton soy/soybean sugarcane sunflower "
    "rapeseed/canola grape/vine tea coffee tobacco vegetable",
    # Food.
    "food": "meat fish vegetable fruit bread/loaf/roll/bun/baguette/toast "
    "cake/pastry/biscuit/cookie/pie/tart cheese egg/omelette soup/broth/stew/porridge salad "
    "pasta/noodle/spaghetti/macaroni/lasagne rice/risotto/pilaf pizza sandwich/burger/hamburger/wrap/taco "
    "chocolate/candy/sweet/toffee/caramel jelly/jam/marmalade/honey ice_cream/sorbet "
    "pudding/custard/yoghurt/yogurt nut cereal/muesli/granola crisp/chip/fries",
    "meat": "beef/steak/veal pork/ham/bacon lamb/mutton chicken/turkey/poultry/duck "
    "sausage/salami/hotdog/frankfurter fish/fillet rabbit/venison/game mince/meatball/patty liver/kidney "
    "seafood/shrimp/prawn/lobster",
    "baked good": "bread/loaf/baguette/toast roll/bun/bagel pretzel croissant/pastry "
    "cake/cupcake/muffin/sponge/gateau pie/tart/quiche biscuit/cookie/cracker pancake/crepe/waffle pizza "
    "doughnut/donut dumpling wafer meringue",
    "dish": "soup/broth stew/casserole/goulash curry salad roast risotto/paella pasta/spaghetti/lasagne "
    "pizza sandwich burger omelette porridge dumpling sushi taco/burrito pie",
    "dairy": "milk cream butter/margarine cheese yoghurt/yogurt curd/quark buttermilk",
    "topping": "sauce/gravy/ketchup cheese icing/frosting/glaze sugar cream syrup/honey/caramel chocolate "
    "herb/parsley/basil crumb/breadcrumb seed/sesame jam/jelly butter nut/almond sprinkle "
    "cherry/strawberry/berry onion tomato/tomatoes",
    "drink": "water tea coffee/espresso/cappuccino milk juice/lemonade/squash beer/ale/lager wine/champagne "
    "cocoa cola/soda cocktail whisky/whiskey/rum/vodka/gin/brandy/spirit smoothie/milkshake",
    "pasta": "spaghetti/noodle macaroni/penne lasagne ravioli/tortellini",
    "egg": "omelette yolk",
    "preparation": "mash/puree/purée/paste soup stew slice/slices/sliced cube/cubes/dice strips/julienne "
    "shred/shreds/grated powder/crumb whole/entire",
    # People and bodies.
    "person": "man/boy/gentleman/father/son/brother woman/girl/lady/mother/daughter/sister "
    "baby/infant/toddler child/kid/schoolchild teenager pensioner",
    "occupation": "policeman/policewoman/police/officer firefighter/fireman soldier/infantryman sailor pilot "
    "driver/"
    "chauffeur doctor/physician/surgeon nurse teacher pupil/student/schoolchild chef/cook/baker "
    "waiter/waitress farmer/peasant gardener fisherman builder/bricklayer/labourer painter/artist "
    "musician/guitarist/violinist/drummer/pianist singer dancer/ballerina actor athlete/runner "
    "footballer/goalkeeper/player swimmer cyclist/biker skier/skater/snowboarder jockey/horseman "
    "pedestrian/walker/hiker king/queen priest/monk/nun/bishop judge/lawyer clown/acrobat/juggler "
    "astronaut/diver referee/umpire mechanic/welder shopkeeper/cashier/vendor tourist customer/shopper "
    "photographer/cameraman patient passenger/commuter bride/groom",
    "limb": "arm/arms leg/legs wing/wings fin/fins/flipper tentacle",
    "foot of an animal": "hoof/hooves paw/paws talon/talons/claw flipper fin",
    "headgear of an animal": "horn/horns antler/antlers/antlers tusk/tusks comb/crest mane",
    "mouthpart": "beak/bill snout/muzzle/trunk proboscis fang/fangs/tooth/teeth mandible/jaw/jaws sucker",
    "hairdo": "braid/plait/pigtail ponytail bun/topknot curl/curls/locks fringe/bangs mohawk bob dreadlock "
    "stubble/beard/moustache/mustache",
    "organ": "heart lung/lungs liver kidney/kidneys stomach brain bladder intestine/bowel/colon spleen "
    "pancreas skin eye ear tongue uterus/womb prostate thyroid gallbladder oesophagus/esophagus "
    "trachea/windpipe",
    "tissue": "bone/bony muscle fat/fatty nerve skin cartilage tendon/ligament blood mucosa gland marrow",
    "bone": "skull/cranium rib/ribs femur/thighbone spine/vertebra pelvis/hip jaw/jawbone humerus "
    "tibia/shinbone collarbone/clavicle kneecap/patella",
    "vessel of a body": "artery/arteries/aorta vein/veins capillary nerve lymphatic",
    "cell": "neuron lymphocyte erythrocyte platelet macrophage fibroblast adipocyte",
    "organism": "bacterium/bacteria/bacillus virus fungus/yeast parasite/worm amoeba/protozoan alga",
    "lesion": "cyst ulcer polyp scar wound/laceration blister/bubble rash wart mole/freckle bruise/haematoma "
    "tumour/"
    "tumor/cancer/carcinoma/mass/nodule abscess fracture bite burn/scald plaque aneurysm swelling/"
    "lump scab oedema/edema",
}
