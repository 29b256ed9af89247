"""Verbs, colors and function words, and the words that each type of question may use.

Answers use the first of the synonyms joined by "=": "jumping" also for "leaps".
"""

from __future__ import annotations

from captioner.text import parse_words

VERBS = """
run=sprint=jog walk=stroll jump=leap=hop play stand sit lie=lay swim ride climb=scale surf ski skate
skateboard snowboard dance sing eat drink sleep=nap read write=draw watch smile laugh pose hold
carry wear throw=toss catch kick hit push pull chase fetch=retrieve fight wrestle box bite chew lick
sniff bark dig swing slide fly fall dive splash wade float paddle row kayak canoe fish sail hike
race bike=bicycle=cycle rollerblade=rollerskate sled wakeboard bodyboard bowl golf juggle perform
talk=chat=converse speak listen wait kneel crouch=squat lean crawl rest=relax hug=embrace kiss cook
bake paint clean wash sweep cut shop work drive march parade wave point look=stare=gaze shake roll
spin flip balance grind tackle dribble shoot bat pitch practice stretch cry yell=scream=shout smoke
blow photograph drag tug pet feed lift raise hang bounce skip gallop trot graze stroke whisper clap
cheer study type knit bathe camp gather protest celebrate exercise compete skydive parasail snorkel
twirl tumble pedal steer sunbathe doze cuddle frolic rappel cross enter leave exit approach pass
follow lead help hand show appear seem try attempt prepare get go come do make take put use have be
give keep let set turn move stop start begin finish end reach grab pick touch face cover fill
surround see view observe examine inspect check dress land travel head return attack block score
serve swat cast squirt spray soak drip glide strike tie wrap carve build fix repair sell buy pour
squeeze tease tickle snuggle peek hide enjoy overlook support sport display contain feature line
fold open close shut gesture adjust comb brush rub scratch soar hover circle leap pounce trip
stumble mow rake shovel hurdle maneuver navigate whack grip clutch grasp cradle tow haul load unload
peer glance grin frown nod bow coast cruise speed zoom rush charge ascend descend perch park guide
walk direct instruct teach train learn discuss argue share hunt aim rope hug stick emerge vault
"""

IRREGULAR_THIRD = {"have": "has", "be": "is"}
IRREGULAR_GERUNDS = {"lie": "lying", "tie": "tying", "be": "being"}
DOUBLED = parse_words("""run jog hop swim sit get put set dig hug nap hit cut chat stop wrap spin
    flip bat pet tug shop grab trip grin let grip begin skip clap nod zip hum shut knit drag
    strum""")

# No answers to "what is he doing": vague verbs, attributes, and parts of phrasal verbs.
VAGUE = parse_words("""wearing going coming doing making taking putting using having being giving
    keeping letting setting turning moving stopping starting beginning finishing ending reaching
    picking touching facing covering filling surrounding seeing viewing showing appearing seeming
    trying attempting preparing getting leaving exiting entering approaching passing heading
    returning dressing landing helping handing leading following sporting displaying containing
    featuring lining folding opening closing supporting enjoying overlooking performing practicing
    competing sticking training learning building serving scoring traveling gathering bowing
    gesturing checking speeding emerging holding carrying""")

_COLOR_NAMES = parse_words("""black white red blue green yellow orange pink purple brown gray tan
    silver gold maroon teal turquoise""")
COLORS = {name: name for name in _COLOR_NAMES}
COLORS |= {"grey": "gray", "beige": "tan", "violet": "purple"}
# If one caption uses such a word and another a color for the same thing, the color is not certain:
# "golden" may be a retriever, "blond" the hair, "colourful" any color.
VAGUE_COLORS = parse_words("""golden blond blonde colorful colourful multicolored multi-colored dark
    light tri-colored tricolor multicolor spotted striped cream khaki navy aqua checkered plaid
    camouflage neon reddish brownish dotted floral rainbow tie-dyed tie-dye colored multi-color
    multi-coloured printed patterned brindle light-colored dark-colored flowered hawaiian flowery
    two-toned two-tone black-and-white spotty auburn redheaded red-headed""")

# Words after a modifier that is no noun phrase itself: "a light COLORED field".
AFTER_MODIFIER = parse_words("""colored coloured covered filled lined capped haired shaped sized
    clad skinned""")

DETERMINERS = parse_words("a an the this that these those his her its their my our your each")
POSSESSIVE = parse_words("his her its their my our your")
MANY = parse_words("""some several many few other others various numerous multiple both all any lots
    dozens more most different assorted couple countless no""")

PREPOSITIONS = parse_words("""in on at with of by from to into onto over under through across along
    near behind beside between down up off around against above below towards toward inside outside
    past during next beneath among amongst amid amidst atop about after before for like out
    underneath alongside without within upon opposite via beyond""")
FUNCTION = parse_words("""and or but while whilst as who which whom whose where when that because so
    if than then is are was were be been being am has have had can could will would it he she they
    him them himself herself itself themselves there what how not there's also just only very too
    away back together apart ahead forward backward backwards upside sideways overhead outdoors
    indoors alone here i you we each both one's ' n't else away""")
ADVERBS = parse_words("""high low fast hard quickly slowly happily outside inside nearby upright
    midair mid-air downhill uphill almost very partially ready still again barefoot shirtless asleep
    airborne upside-down headfirst well right left straight sideways afterwards playfully""")
ADJECTIVES = parse_words("""young old little small big large tall short long black-and-white wet dry
    muddy snowy grassy sandy rocky wooden beautiful pretty elderly older younger happy sad smiling
    huge tiny giant hairy furry fluffy shaggy fat thin skinny bald bearded asian african american
    japanese chinese indian european caucasian oriental hispanic german female male dirty clean
    bright crowded busy empty open shallow deep steep narrow wide plastic metal stone brick concrete
    paved rural urban icy lone single adult teenage athletic shirtless barefoot naked topless
    colorful striped red-haired dark-haired blond-haired middle-aged long-haired snow-covered
    professional same curly wild tight fancy formal nice cute lush clear calm rough murky wooded
    inflatable toy baby stuffed fake second first third last high low full nude foggy cloudy sunny
    hot cold warm public outdoor indoor dead frozen bare leafy tropical distant medium sized
    vertical flat soft heavy heavyset overweight gothic pregnant homeless blurry hooded""")

# Depictions: "a poster of a dog" does not mean that a dog is present.
LIKENESS = parse_words("""picture photo photograph painting drawing poster statue sculpture image
    shape sign shadow reflection costume toy stuffed inflatable plastic fake cardboard cutout mask
    figurine model silhouette balloon logo print mural""")

# Prepositions of places; "over", "near", "behind" and "to" name no place where someone is.
WHERE = parse_words("""in on at through across along down into onto inside up within atop around
    upon""")
PARTS = parse_words("""middle center side edge top bottom body end corner base surface part bed
    shore patch piece bank stretch pile""")

# Words that are also verbs but form compounds with a person or an animal: "a dog RACE", but not
# "a dog and a cat RUN".
AFTER_ANIMATE = parse_words("race park show bed bowl training")

# Answers to "where" besides the nouns of the kind place.
SEATS = parse_words("""couch bed bench chair table boat trampoline swing slide carousel subway bus
    train car kayak canoe raft ramp rail counter rug stool tub hammock roller_coaster sled
    boxing_ring wrestling_ring jungle_gym swing_set log""")
NO_PLACES = parse_words("place window doorway door wall tree bush wave other building puddle")

# Verbs and prepositions of questions: "what is the boy HOLDING", "what is the dog jumping OVER".
WITH_OBJECT = parse_words("""holding carrying riding chasing catching throwing wearing climbing
    kicking eating drinking pushing pulling reading chewing biting playing driving""")
WITH_PREPOSITION = parse_words("""over off into onto against past under through down up on at with
    across behind along near""")
# Kinds of objects of "playing" that answer a question, unlike "a game".
PLAYED = parse_words("""musical_instrument soccer tennis hockey rugby golf cricket lacrosse polo
    chess volleyball basketball baseball football badminton ping_pong video_game cards softball
    hopscotch""")
WHO = parse_words("man woman boy girl baby")

COUNTED = (
    *("person", "dog", "cat", "horse", "bird", "cow", "sheep", "goat", "elephant", "zebra"),
    *("giraffe", "bear", "car", "bike", "motorcycle", "boat", "truck", "bus", "train", "airplane"),
    *("kayak", "canoe", "surfboard", "sled", "umbrella", "balloon", "kite", "pizza"),
)
COLORED = parse_words("""animal vehicle ball board equipment toy furniture bag frisbee umbrella tent
    flower flag hat balloon kite phone blanket sled tube fruit cup bucket box rug stroller pillow
    ramp wall door building fence curtain sign rail plate bowl tub""")
# Too general to ask about, or rarely of a single color.
COLORLESS = parse_words("""animal pet vehicle equipment toy furniture board bag garment jeans
    sunglasses glasses lei wildlife net""")
