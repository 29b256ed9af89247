"""Nouns by kind, written by hand for everyday photographs.

An entry of NOUNS is "kind: noun noun=synonym ..." and continues on indented lines. A noun may be
the kind of a later entry; an underscore stands for a space. Questions and answers use the first of
several synonyms. A noun that is not listed is recognized by its position in the caption.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from captioner.text import parse_words


def parse_table(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the head and the words of each entry "head: word word ..."."""
    for entry in re.split(r"\n(?! )", text.strip()):
        head, _, words = entry.partition(":")
        yield head, words.split()


NOUNS = """
person=individual=human=pedestrian=somebody=someone: man=guy=gentleman=dude=fellow=male
  woman=lady=female child=kid adult teenager=teen=youth=adolescent role group
man: groom father=dad businessman policeman=cop fisherman cowboy santa=santa_claus
woman: bride mother=mom=mum businesswoman ballerina cheerleader waitress cowgirl
child: boy girl baby=infant toddler youngster
boy: son brother schoolboy
girl: daughter sister schoolgirl
role: player=ballplayer athlete surfer skateboarder=skater snowboarder skier cyclist=bicyclist
  biker=bicycler motorcyclist=motocrosser rider=racer=jockey climber hiker runner=jogger dancer
  swimmer diver kayaker canoer rower wakeboarder waterskier=water_skier rollerblader wrestler
  goalie=goalkeeper pitcher catcher batter=hitter quarterback golfer footballer bowler fighter
  musician guitarist drummer singer performer=entertainer artist actor clown painter photographer
  driver pilot sailor fireman=firefighter soldier officer guard worker police_officer
  construction_worker chef=cook waiter vendor=seller shopper customer student teacher coach
  referee=umpire=ref friend owner parent grandparent member tourist traveler teammate opponent
  competitor contestant participant protester spectator=onlooker=bystander passenger skydiver
  parasailer gymnast jumper trainer farmer doctor nurse lifeguard magician juggler nun monk priest
  sibling twin local neighbor stranger figure soccer_player football_player baseball_player
  tennis_player basketball_player hockey_player volleyball_player rugby_player bike_rider
  bicycle_rider bull_rider horse_rider motorcycle_rider mountain_biker dirt_biker rock_climber
  bmx_rider parasurfer kiteboarder boarder homeless_person snowmobiler bmxer stuntman redhead
  brunette blonde
group: crowd team couple family audience band class gang mob squad troop choir pair trio duo bunch
  party folk onlookers army
animal=creature=beast: pet dog cat horse bird cow sheep elephant bear zebra giraffe monkey=ape fish
  rabbit=bunny pig goat bull=ox deer squirrel camel lion tiger turtle=tortoise frog snake lizard
  butterfly insect=bug dolphin whale seal shark kangaroo llama fox wolf donkey=mule panda mouse rat
  crab wildlife leopard cheetah calf lamb buffalo crocodile
dog=canine=pup=doggy=doggie=mutt=hound: puppy poodle greyhound terrier retriever=golden_retriever
  labrador=lab=black_lab=yellow_lab=labrador_retriever=chocolate_lab collie=border_collie
  german_shepherd=shepherd doberman rottweiler bulldog pit_bull=pitbull dachshund husky beagle
  chihuahua dalmatian spaniel=cocker_spaniel schnauzer corgi pug dane=great_dane mastiff whippet
  jack_russell=jack_russell_terrier boston_terrier st_bernard australian_shepherd bernese weimaraner
  setter pointer sheepdog yorkie shih_tzu pomeranian
pet: dog cat kitten
cat=kitty: kitten
horse=pony=stallion=mare: foal bronco=bucking_bronco
bird: seagull=gull pigeon=dove duck=mallard goose swan parrot eagle hawk owl chicken=rooster=hen
  crow flamingo ostrich penguin pelican turkey heron duckling
vehicle: car=automobile=sedan truck=pickup=pickup_truck bus van suv jeep taxi=cab motorcycle
  ambulance tractor train=locomotive tram=trolley=streetcar atv carriage cart fire_truck=fire_engine
  police_car race_car=racecar=racing_car scooter bike tricycle boat
  airplane=plane=aeroplane=jet=aircraft helicopter wagon subway_train snowmobile golf_cart go_kart
  rickshaw school_bus double_decker limousine trailer camper jet_ski
car: race_car police_car taxi
bike=bicycle=mountain_bike=bmx_bike=bmx: tandem road_bike
motorcycle=motorbike=dirt_bike=motor_bike=dirtbike=motor_cycle: moped=motor_scooter
atv=four_wheeler=quad=4-wheeler=four-wheeler:
boat=ship=watercraft=vessel: sailboat canoe kayak raft=life_raft rowboat speedboat yacht ferry
  motorboat fishing_boat gondola dinghy
toy: stuffed_animal=stuffed_toy=plush_toy=stuffed_bear teddy_bear=teddy doll chew_toy dog_toy
  toy_car toy_truck toy_boat toy_gun squeaky_toy toy_train lego puppet water_gun yo-yo pinwheel
  rattle block
ball: tennis_ball soccer_ball football=american_football basketball baseball volleyball golf_ball
  rugby_ball beach_ball softball bowling_ball yoga_ball exercise_ball cricket_ball snowball
  rubber_ball
frisbee=disc=disk=frisby=flying_disc:
stick=twig: hockey_stick lacrosse_stick walking_stick glow_stick drumstick
branch=tree_branch=limb=tree_limb: twig
racket=racquet=tennis_racket=tennis_racquet:
bat=baseball_bat:
board: skateboard=skate_board surfboard=surf_board snowboard=snow_board wakeboard boogie_board
  bodyboard paddleboard diving_board
ski=snow_ski: water_ski
skate: ice_skate roller_skate rollerblade=inline_skate
sled=sleigh=toboggan=snow_tube: tube=innertube=inner_tube
equipment=gear: hurdle trampoline kite parachute balloon=hot_air_balloon hula_hoop=hoop net goal
  basket=basketball_hoop target puck paddle=oar ski_pole golf_club fishing_pole fishing_rod
  fishing_line fishing_net rope=tightrope cable harness leash=lead saddle whip
  swing=tire_swing=rope_swing slide=water_slide=waterslide swing_set seesaw=teeter_totter
  jungle_gym=monkey_bars merry-go-round=carousel sprinkler hose=water_hose roller_coaster monkey_bar
  ladder wheel=ferris_wheel tunnel obstacle pole flagpole punching_bag
musical_instrument=instrument: guitar=electric_guitar=acoustic_guitar drum=drum_set violin=fiddle
  piano=keyboard trumpet saxophone flute accordion cello harmonica banjo tuba bagpipe trombone bass
  bongo tambourine horn clarinet
garment=clothes=clothing=attire=garb=apparel: shirt=t-shirt=tshirt=t_shirt=tee_shirt=tee=shirts
  jacket=coat=parka=windbreaker=raincoat=winter_coat=winter_jacket=snow_jacket dress=gown
  sweater=pullover hoodie=sweatshirt=hooded_sweatshirt vest skirt=kilt
  pants=trousers=slacks=sweatpants=snow_pants jeans=blue_jeans shorts=short_pants overalls=coveralls
  uniform suit=business_suit tuxedo swimsuit=bathing_suit=swim_suit=one-piece bikini
  swim_trunks=trunks=swimming_trunks=board_shorts wetsuit=wet_suit costume outfit robe=bathrobe
  apron pajamas=pyjamas leotard snowsuit tutu underwear=briefs cape=cloak poncho kimono sari bra
  diaper jumpsuit tights=stockings=leggings sock shoe=sneaker=tennis_shoe boot
  sandal=flip-flop=flip_flop high_heels=heels hat helmet=hard_hat=hardhat=crash_helmet beanie=toque
  headband bandana=bandanna glove=mitten scarf=headscarf=shawl tie=necktie bow_tie belt collar
  sunglasses=shades glasses=eyeglasses=spectacles goggles mask=ski_mask necklace earring bracelet
  crown=tiara wig backpack=rucksack=book_bag veil ribbon bow lei headphones=earphones muzzle turban
  floaties=water_wings kneepads pads
shirt: jersey blouse top=tank_top=tanktop=halter_top
vest: life_jacket=life_vest
hat=cap=ball_cap=baseball_cap=baseball_hat=ballcap=sun_hat=straw_hat=knit_hat=stocking_cap:
  cowboy_hat santa_hat top_hat party_hat ski_cap winter_hat beanie sombrero visor
bag=sack: purse=handbag shopping_bag=grocery_bag plastic_bag paper_bag suitcase=luggage tote
  briefcase messenger_bag backpack
furniture: chair=armchair=folding_chair=lawn_chair=seat couch=sofa=loveseat bed=mattress
  bench=park_bench table=desk=picnic_table=coffee_table stool shelf=bookshelf
  cabinet=cupboard=drawer crib dresser hammock high_chair recliner rocking_chair counter=countertop
  bunk_bed pew
food=snack=meal=lunch=dinner=breakfast: pizza cake=birthday_cake cupcake sandwich burger=hamburger
  hot_dog=hotdog fruit vegetable bread ice_cream=ice_cream_cone popsicle cookie candy lollipop
  doughnut=donut apple banana broccoli carrot salad soup meat steak rice pasta noodle cheese egg
  corn popcorn pretzel chip watermelon treat bone=dog_bone cotton_candy pie french_fries=fries taco
  sausage chocolate bagel
drink=beverage: beer=alcohol wine coffee tea soda=pop milk juice
container: bottle=water_bottle=beer_bottle=plastic_bottle cup=mug=coffee_cup glass=wine_glass bowl
  box=cardboard_box bucket=pail can=beer_can jar pot pan=frying_pan tray barrel vase cooler
  tub=bathtub crate trash_can=garbage_can=trashcan=dumpster tank
tableware: plate=dish fork knife spoon chopsticks straw napkin
device=machine=electronics: phone=cellphone=cell_phone=telephone=mobile_phone
  camera=video_camera=digital_camera laptop computer tv=television=tv_screen
  remote=remote_control=controller video_game tablet=ipad microphone=mic clock radio speaker
  screen=monitor projector microwave oven=stove refrigerator=fridge toaster blender hair_dryer fan
  lamp printer lawnmower=lawn_mower metal_detector camcorder tripod telescope binoculars
tool: hammer shovel rake broom=mop saw axe=ax drill wrench screwdriver pickaxe chainsaw
  paintbrush=brush
weapon: gun=rifle=pistol=shotgun sword=saber bow_and_arrow spear
fixture: toilet sink=bathroom_sink shower faucet mirror fireplace
book=textbook: comic_book bible
paper=document=sheet_of_paper: newspaper map letter card=playing_card leaflet=flyer poster
sign=street_sign=placard: stop_sign traffic_sign
light=lights: traffic_light=stoplight street_light=streetlight=lamppost candle flashlight lantern
object=item=thing=something: umbrella=parasol flag=american_flag tent rug=carpet mat towel
  blanket=quilt=sheet pillow=cushion curtain stroller=baby_carriage=pram wheelchair crutch
  statue=sculpture fountain=water_fountain fire_hydrant=hydrant parking_meter mailbox
  cigarette=cigar pen=pencil=marker toothbrush hairbrush scissors key wallet money=coin
  bubble=bubbles sparkler=firework=fireworks torch pumpkin snowman fire=campfire=bonfire flame
  tire=tyre log=tree_trunk stump=tree_stump banner billboard magazine painting=artwork
  ramp=skateboard_ramp=skate_ramp=half-pipe=halfpipe=skateboarding_ramp
  rail=handrail=railing=banister pipe fence=chain_link_fence=wire_fence=wooden_fence=picket_fence
  gate feather pine_cone=pinecone ring watch hood shell seashell leaf=leaves plant=potted_plant
  flower=rose=bouquet=daisy=tulip=sunflower pebble wood=lumber=driftwood plank=beam cardboard
  cloth=fabric=rag string cone=traffic_cone barrier=barricade trophy=medal=award ticket tattoo
  pinata wreath christmas_tree=xmas_tree present=gift=gift_box baby_bottle pacifier bib wand
  pom_pom=pompom trash=garbage debris
place: beach=seashore=seaside ocean=sea lake=pond river=stream=creek
  pool=swimming_pool=kiddie_pool=wading_pool water=body_of_water=lake_water=ocean_water
  snow=snowbank=snow_bank=snowdrift grass=lawn field=meadow=pasture=grassland street=city_street
  road=highway=roadway=dirt_road sidewalk=pavement=walkway=boardwalk=footpath
  path=trail=pathway=dirt_path=bike_path
  mountain=mountainside=mountaintop=mountain_top=snowy_mountain hill=hillside=slope=hilltop
  forest=woods=woodland=wooded_area jungle park=city_park playground=play_area
  yard=backyard=back_yard=front_yard garden desert=dune=sand_dune dirt=soil sand mud ice
  puddle=mud_puddle rock=boulder cliff=cliff_face canyon cave valley waterfall=rapids
  wave=ocean_wave shore=shoreline=bank=coast tree=palm_tree bush=shrub=hedge
  track=race_track=racetrack=racecourse course=obstacle_course=golf_course
  court=tennis_court=basketball_court stadium=arena gym=gymnasium rink=ice_rink=skating_rink
  skatepark=skate_park stage pier=dock=jetty bridge=footbridge city=town=village farm zoo
  market=marketplace=farmers_market store=shop=supermarket=grocery_store restaurant=cafe=diner mall
  bar=pub kitchen bedroom bathroom=restroom living_room classroom office library museum church
  school hospital hotel airport runway train_station=subway_station=station=bus_stop subway
  parking_lot=car_park garage driveway alley=alleyway room hallway=corridor house=home barn
  building=apartment_building=skyscraper porch=patio=deck=veranda balcony
  stairs=staircase=steps=stairway=stair floor wall=brick_wall=stone_wall=rock_wall=climbing_wall
  roof=rooftop window doorway door=garage_door crosswalk=crossing intersection
  plaza=square=town_square courtyard carnival=fair=amusement_park swamp=marsh sandbox=sandpit
  ball_pit boxing_ring wrestling_ring football_field soccer_field baseball_field playing_field
  bunker campsite=campground lobby theater=theatre=auditorium gallery booth=stall elevator escalator
  bus_station fairground ledge=window_ledge
body_part: hair hand arm leg foot head face eye ear nose mouth tongue tooth=teeth beard mustache
  neck shoulder back=backside chest stomach=belly waist knee finger thumb paw tail wing lap cheek
  lip mohawk fur fist hind_leg back_leg front_paw muscle skin forehead elbow butt
group_thing: herd flock pack pile row line stack lot set number variety
part: side edge end middle center=centre front rear bottom corner part piece rest inside outside
  background foreground distance surface base peak ground area air sky midair sun sunset shadow
  reflection cloud rain wind dust smoke weather day night evening morning sunlight dusk view
  photo=photograph=picture=image shot scene kind type sort way time
event: game match race competition event parade concert show performance wedding ceremony protest
  trick jump flip stunt ride walk run swim fight dance pose leap conversation break contest tackle
  kick throw catch pass wheelie handstand backflip cartwheel somersault nap bath soccer tennis
  hockey rugby golf cricket lacrosse polo chess karate yoga ping_pong badminton music song sport
  exercise training practice celebration festival rodeo marathon fun joy tug_of_war=tug-of-war
  hide_and_seek hopscotch exhibit tune cards tag volleyball_game hide-and-seek catch_game help
  attention turn start finish
other: color=colour pattern stripe spot design logo writing word ponytail camera_lens expression
  smile grin look motion action formation position direction speed style method material plastic
  metal concrete brick stone=stones leather denim camouflage gravel
"""

# Nouns without singular: "the pants are", "a pair of scissors".
PLURAL_ONLY = parse_words("""pants jeans shorts overalls pajamas tights swim_trunks sunglasses
    glasses goggles headphones scissors stairs high_heels underwear kneepads pads cards floaties
    chopsticks french_fries binoculars""")

# Mass nouns, without plural and without "a".
MASS = parse_words("""snow grass water sand dirt mud ice hair food equipment furniture wildlife
    fruit money clothing garment trash bread rice pasta corn popcorn meat candy coffee tea milk
    juice beer wine soda underwear wood cloth paper fire gear music broccoli cheese soup
    ice_cream""")
