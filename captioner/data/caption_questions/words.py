"""Verbs, colours and function words, and the lists that questions of each type are made by.

Of synonyms joined by "=", the first stands for all: an answer is "jumping" for "leaps" too.
"""

from __future__ import annotations

from captioner.data.caption_questions.nouns import spaced

VERBS = """
run=sprint=jog walk=stroll jump=leap=hop play stand sit lie=lay swim ride climb=scale surf ski
skate skateboard snowboard dance sing eat drink sleep=nap read write=draw watch smile laugh pose
hold carry wear throw=toss catch kick hit push pull chase fetch=retrieve fight wrestle box bite
chew lick sniff bark dig swing slide fly fall dive splash wade float paddle row kayak canoe fish
sail hike race bike=bicycle=cycle rollerblade=rollerskate sled wakeboard bodyboard bowl golf juggle
perform talk=chat=converse speak listen wait kneel crouch=squat lean crawl rest=relax hug=embrace
kiss cook bake paint clean wash sweep cut shop work drive march parade wave point look=stare=gaze
shake roll spin flip balance grind tackle dribble shoot bat pitch practice stretch cry
yell=scream=shout smoke blow photograph drag tug pet feed lift raise hang bounce skip gallop trot
graze stroke whisper clap cheer study type knit bathe camp gather protest celebrate exercise
compete skydive parasail snorkel twirl tumble pedal steer sunbathe doze cuddle frolic rappel cross
enter leave exit approach pass follow lead help hand show appear seem try attempt prepare get go
come do make take put use have be give keep let set turn move stop start begin finish end reach
grab pick touch face cover fill surround see view observe examine inspect check dress land travel
head return attack block score serve swat cast squirt spray soak drip glide strike tie wrap carve
build fix repair sell buy pour squeeze tease tickle snuggle peek hide enjoy overlook support sport
display contain feature line fold open close shut gesture adjust comb brush rub scratch soar hover
circle leap pounce trip stumble mow rake shovel hurdle maneuver navigate whack grip clutch grasp
cradle tow haul load unload peer glance grin frown nod bow coast cruise speed zoom rush charge
ascend descend perch park guide walk direct instruct teach train learn discuss argue share hunt aim
rope hug stick emerge vault
"""

IRREGULAR_THIRD = {"have": "has", "be": "is"}
IRREGULAR_GERUNDS = {
    "lie": "lying",
    "tie": "tying",
    "be": "being",
    "ski": "skiing",
    "see": "seeing",
}
DOUBLED = spaced(
    """run jog hop swim sit get put set dig hug nap hit cut chat stop wrap spin flip bat pet tug
    shop grab trip grin let grip begin skip clap nod zip hum shut knit drag strum"""
)

# What does not answer "what is he doing?": too vague, a mere attribute, or only half of a verb.
VAGUE = spaced(
    """wearing going coming doing making taking putting using having being giving keeping letting
    setting turning moving stopping starting beginning finishing ending reaching picking
    touching facing covering filling surrounding seeing viewing showing appearing seeming
    trying attempting preparing getting leaving exiting entering approaching passing heading
    returning dressing landing helping handing leading following sporting displaying
    containing featuring lining folding opening closing supporting enjoying overlooking
    performing practicing competing sticking training learning building serving scoring
    traveling gathering bowing gesturing checking speeding emerging holding carrying"""
)

COLOURS = {"grey": "gray", "beige": "tan", "violet": "purple"} | {
    name: name
    for name in spaced(
        """black white red blue green yellow orange pink purple brown gray tan silver gold maroon
        teal turquoise"""
    )
}
# "golden" is a retriever, "blond" is hair, "colourful" is none in particular: said of the same
# thing as a plain colour they leave doubt.
VAGUE_COLOURS = spaced(
    """golden blond blonde colorful colourful multicolored multi-colored dark light tri-colored
    tricolor multicolor spotted striped cream khaki navy aqua checkered plaid camouflage neon
    reddish brownish dotted floral rainbow tie-dyed tie-dye colored multi-color multi-coloured
    printed patterned brindle light-colored dark-colored flowered hawaiian flowery two-toned
    two-tone black-and-white spotty auburn redheaded red-headed"""
)

# "a light COLORED field", "a snow COVERED hill": the noun before is only a modifier.
AFTER_MODIFIER = spaced(
    "colored coloured covered filled lined capped haired shaped sized clad skinned"
)

DETERMINERS = spaced("""a an the this that these those his her its their my our your each""")
POSSESSIVE = spaced("""his her its their my our your""")
MANY = spaced(
    """some several many few other others various numerous multiple both all any lots dozens more
    most different assorted couple countless no"""
)

PREPOSITIONS = spaced(
    """in on at with of by from to into onto over under through across along near behind beside
    between down up off around against above below towards toward inside outside past during
    next beneath among amongst amid amidst atop about after before for like out underneath
    alongside without within upon opposite via beyond"""
)
FUNCTION = spaced(
    """and or but while whilst as who which whom whose where when that because so if than then is
    are was were be been being am has have had can could will would it he she they him them
    himself herself itself themselves there what how not there's also just only very too away
    back together apart ahead forward backward backwards upside sideways overhead outdoors
    indoors alone here i you we each both one's ' n't else away"""
)
ADVERBS = spaced(
    """high low fast hard quickly slowly happily outside inside nearby upright midair mid-air
    downhill uphill almost very partially ready still again barefoot shirtless asleep airborne
    upside-down headfirst well right left straight sideways afterwards playfully"""
)
ADJECTIVES = spaced(
    """young old little small big large tall short long black-and-white wet dry muddy snowy
    grassy sandy rocky wooden beautiful pretty elderly older younger happy sad smiling huge
    tiny giant hairy furry fluffy shaggy fat thin skinny bald bearded asian african american
    japanese chinese indian european caucasian oriental hispanic german female male dirty
    clean bright crowded busy empty open shallow deep steep narrow wide plastic metal stone
    brick concrete paved rural urban icy lone single adult teenage athletic shirtless barefoot
    naked topless colorful striped red-haired dark-haired blond-haired middle-aged long-haired
    snow-covered professional same curly wild tight fancy formal nice cute lush clear calm
    rough murky wooded inflatable toy baby stuffed fake second first third last high low full
    nude foggy cloudy sunny hot cold warm public outdoor indoor dead frozen bare leafy
    tropical distant medium sized vertical flat soft heavy heavyset overweight gothic pregnant
    homeless blurry hooded"""
)

# Words that describe a likeness, so that what follows is not there itself.
LIKENESS = spaced(
    """picture photo photograph painting drawing poster statue sculpture image shape sign shadow
    reflection costume toy stuffed inflatable plastic fake cardboard cutout mask figurine
    model silhouette balloon logo print mural"""
)

# Preposition -> may name where someone is; "over", "near", "behind", "to" do not.
WHERE = spaced("""in on at through across along down into onto inside up within atop around upon""")
PARTS = spaced(
    """middle center side edge top bottom body end corner base surface part bed shore patch piece
    bank stretch pile"""
)

# "a dog race", but "a dog and a cat run": of what is also a verb, only this makes a compound with a
# person or an animal.
AFTER_ANIMATE = spaced("race park show bed bowl training")

# Places that answer "where": nouns of the kind place, and what one is on.
SEATS = spaced(
    """couch bed bench chair table boat trampoline swing slide carousel subway bus train car
    kayak canoe raft ramp rail counter rug stool tub hammock roller_coaster sled boxing_ring
    wrestling_ring jungle_gym swing_set log"""
)
NO_PLACES = spaced("""place window doorway door wall tree bush wave other building puddle""")

# "what is the boy HOLDING", and "what is the dog jumping OVER".
WITH_OBJECT = spaced(
    """holding carrying riding chasing catching throwing wearing climbing kicking eating drinking
    pushing pulling reading chewing biting playing driving"""
)
WITH_PREPOSITION = spaced(
    "over off into onto against past under through down up on at with across behind along near"
)
# What is "played" and can be told by a word, unlike "a game".
PLAYED = spaced(
    """musical_instrument soccer tennis hockey rugby golf cricket lacrosse polo chess volleyball
    basketball baseball football badminton ping_pong video_game cards softball hopscotch"""
)
WHO = spaced("man woman boy girl baby")

COUNTED = (
    *("person", "dog", "cat", "horse", "bird", "cow", "sheep", "goat", "elephant", "zebra"),
    *("giraffe", "bear", "car", "bike", "motorcycle", "boat", "truck", "bus", "train", "airplane"),
    *("kayak", "canoe", "surfboard", "sled", "umbrella", "balloon", "kite", "pizza"),
)
COLOURED = spaced(
    """animal vehicle ball board equipment toy furniture bag frisbee umbrella tent flower flag hat
    balloon kite phone blanket sled tube fruit cup bucket box rug stroller pillow ramp wall door
    building fence curtain sign rail plate bowl tub"""
)
# Too wide a word to ask with, or hardly ever of one colour.
COLOURLESS = spaced(
    """animal pet vehicle equipment toy furniture board bag garment jeans sunglasses glasses lei
    wildlife net"""
)
