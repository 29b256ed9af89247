"""Word lists for presence questions: the nouns, their hint words, and the question templates.

PRESENCE_NOUNS holds only things that captions rarely leave out: no sky, ground, clothes, hair,
hands, walls or windows. The hint words after a colon, where a caption contains one, suggest that
the object is present but unmentioned or named differently. A "*" marks the end of a stem.
"""

from __future__ import annotations

from captioner.data.caption_questions.nouns import parse_table

PRESENCE_NOUNS = """
person: leash owner hand* rid* driv* crowd* team game match* play* street city traffic train bus
  boat* market store restaurant building* they people parade beach park sidewalk road race* stadium
  fight* finger* arm lap
man: young teen* boy guy* youth people male* crowd
woman: young teen* girl* people female* crowd
boy: young teen* man men guy* youth people male* crowd
girl: young teen* woman women lady ladies people female* crowd
child: young teen* youth people crowd* famil* girl* boy* small little parents
baby: young little small toddler* child* kid* stroller crib famil*
dog: leash fetch* paw* bark* muzzle* breed tail
cat: paw* pet*
horse: rodeo polo ride* riding rider* saddle jockey* cowboy* carriage hors* bull
bird: wing* feather* fly* flies beak flock nest
cow: cattle herd bull farm
sheep: herd flock farm lamb wool
elephant:
bear:
zebra: herd
giraffe: herd
ball: soccer football* tennis basketball* baseball* volleyball* rugby golf* game match* player* toy
  catch* fetch* object something goal* kick* throw* juggl* court play* team* cricket lacrosse polo
  hockey softball sport* pitch* bat batter swing* racket* bowl* dribbl* mouth field snowball
frisbee: toy catch* fetch* object something throw* mouth plastic ring play* disc* disk*
stick: branch* log wood* object something mouth fetch* pole* toy hockey lacrosse tree* piece cue
bike: bik* cycl* bmx rid* rider* wheel* pedal* vehicle* race* stunt* trick* ramp*
motorcycle: bik* cycl* rid* rider* motor* wheel* vehicle* dirt race* stunt*
car: vehicle* traffic street* road* parking parked driv* city race* lot highway driveway jeep van
  truck suv taxi intersection crosswalk police track
truck: vehicle* traffic street* road* parking parked driv* van suv pickup car cars
bus: vehicle* traffic street* road* city driv*
train: track* rail* subway station platform vehicle*
boat: sail* row* kayak* canoe* raft* paddl* fish* dock pier harbor ship* water ocean lake river
kayak: paddl* row* boat* canoe* raft* rapid*
canoe: paddl* row* boat* kayak* raft*
airplane: fly* flying airport jet wing sky aircraft vehicle*
skateboard: skat* board* ramp* rail* trick* grind* half*
surfboard: surf* board* wave*
snowboard: board* slope* ski* trick* snowboard*
ski: ski* slope* snow*
sled: sled* tub* slid* snow* inner*
guitar: band music* instrument* play* perform* sing* concert stage strum*
drum: band music* instrument* play* perform* concert stage parade march*
umbrella: rain* beach parasol tent canopy shade
swing: playground park swing* rope
slide: playground slid* park pool
trampoline: bounc* jump* inflat* gymnast* flip*
pool: swim* water div* splash* float* tub* wad* bath*
snow: ski* sled* winter ice icy mountain* snow* cold hill* slope* white frozen frost*
beach: sand* shore* ocean sea seaside coast* water wave* surf* dune* lake
ocean: beach wave* sea surf* water shore* coast* lake river boat* swim* sail*
water: ocean sea lake pond river stream creek pool wave* swim* boat* surf* beach* splash* wet rain*
  puddle* shore* fountain* hose* sprinkler* kayak* canoe* raft* paddl* div* bath* drink* fish*
  waterfall* dock* pier* coast* row* sail* snorkel* wad* bottle* tub* mud* ski* sink* wake* float*
  swamp marsh tube inner* bridge cup glass sprinkl* spray* squirt* rapids soak* drip* wash* island
  bay river*
grass: lawn field* yard park meadow garden farm pasture green outside outdoor* grass* plant* hill*
  soccer football* baseball golf rugby cricket polo path track ground tree* wood* forest play* dog*
  run* trail countryside dirt graz* weeds
mountain: hill* cliff* rock* climb* hik* ski* snow* slope* peak* canyon valley distance landscape
  background ridge view scenic mountain*
rock: stone* boulder* cliff* mountain* climb* hik* rock* beach river stream creek shore* wall
  waterfall desert trail pebble* ledge hill* canyon
fence: gate* yard park stadium baseball farm court rail* playground fence* field barrier hurdle
bench: park seat* sit* sat bench* bleacher* station table* street
table: sit* desk eat* dinner meal restaurant cafe kitchen room counter table* bar food drink* game*
  cards party office classroom indoor* bench* picnic
bed: sleep* bedroom lay* lie* lying mattress blanket pillow couch sofa room hospital
couch: sit* sofa living room chair* lounge* bed home house furniture
chair: sit* seat* table desk room bench stool restaurant audience lounge* beach sofa couch furniture
  recliner
flower: garden plant* bouquet rose* floral bush* flower* field wedding bride lei spring
flag: parade flag* sign banner* american building* ship boat* stadium
tent: camp* tent* canopy market fair festival booth umbrella*
rope: climb* swing* leash harness* tug* pull* rope* tied toy rappel* wakeboard* ski* boat* water*
  bridge tie* jump* lasso rodeo something object string
kite: fly* flying kite* parasail* sky parachute
balloon: party birthday balloon* inflat* parade carnival festival
bubble: blow* soap bubble* gum bath*
camera: photo* pictur* film* tripod camera* video* tourist* pose* posing posed look* smil* shot
laptop: computer* desk office typ* screen device
phone: talk* call* phone* cell* text* device hand*
tv: television screen video game* watch* living room
pizza: food eat* meal slice table
cake: birthday party candle* dessert food eat* wedding plate
sandwich: food eat* plate lunch meal burger*
bridge: river railing walkway rail* overpass train water pier dock bridge* board* log*
waterfall: river stream water rock* rapid* cliff* falls
fountain: water park plaza square spray* sprinkl* statue
statue: sculpture* monument statue* museum figure* fountain art park plaza
tree: park forest wood* outside outdoor* yard garden branch* street mountain* trail path leaves
  hill* grass* field* lawn log climb* jungle rural countryside background river lake backyard
helmet: rid* rac* bik* cycl* motor* skat* football* baseball* hockey climb* ski* snow* board*
  helmet* player* uniform* soldier* fire* gear kayak* raft* batter goalie go-kart atv quad rodeo
  construction worker* driv* police* wheel* headgear hat* lacrosse polo cricket*
tunnel: agility course obstacle* pipe tube train subway
hurdle: jump* leap* race* obstacle* agility course track bar* fence pole* barrier
stairs: step* stair* rail* ladder escalator steep building*
toilet: bathroom restroom
sink: bathroom kitchen faucet wash* counter
refrigerator: kitchen fridge
"""

_TEMPLATES = """
scene: is there {a}; is there {a} in the picture; can you see {a}; does the picture show {a}
singular: is there {a}; is there {a} in the picture; can you see {a}; does the picture show {a};
  are there any {plural}
mass: is there any {a}; is there {a} in the picture; can you see any {a};
  does the picture show any {a}
plural: are there any {a}; are there {a} in the picture; can you see any {a};
  does the picture show any {a}
"""
QUESTION_FORMS = {kind: " ".join(words).split("; ") for kind, words in parse_table(_TEMPLATES)}
"""Question templates by the kind of noun."""
