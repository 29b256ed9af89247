"""English grammar of the last words of a caption: particles, stranded prepositions, bare verbs.

A preposition at the end is complete if it is the particle of the verb before it ("the train pulls
in"), or if its object precedes it in a relative or infinitive clause ("a bench to sit on"). A form
of "be" takes no bare verb ("the child is walk"), nor does a single subject ("a boy jump").

Source: R. Huddleston and G. Pullum, The Cambridge Grammar of the English Language, 2002, chapters
3 (agreement), 4 (particles) and 7 (stranded prepositions).
"""

from __future__ import annotations

from collections.abc import Sequence

from captioner.text import parse_words

_PARTICLES = {
    "in": parse_words(
        "bring burst check close come dive drop fall fill fit get give go hand join jump kick lean"
        " let look move peer plug pull push put rush step take tuck walk zoom"
    ),
    "on": parse_words(
        "carry cheer come drag egg get go hang hold keep latch look move pass press put pull read"
        " ride sit stand stare step strap switch try turn urge walk watch"
    ),
    "over": parse_words(
        "bend boil climb come cross fall flip fly go jump keel knock lean look move pull roll slump"
        " step take tip topple turn walk"
    ),
    "along": parse_words(
        "bring come drive follow get go move play pull ride roll run sing skip stroll tag trot walk"
    ),
    "through": parse_words("break come drive fall get go look pass peer run see swim walk"),
    "across": parse_words("come cross drive go jump leap look ride run swim walk"),
    "by": parse_words("come drive fly go look pass pedal ride roll run stand walk watch whiz zoom"),
    "near": parse_words("come draw"),
    "to": parse_words("come"),
    "like": frozenset[str](),
}
"""Verbs that take a word as a particle without an object after it."""
_RELATIVES = parse_words("that what whatever where which who whom")
_COMPLEMENT_OF_VERB = parse_words(
    "about attempt begin continue decide get go have learn like love need prepare ready refuse set"
    " start stop struggle supposed try use used wait want"
)
"""Words after which an infinitive is no relative clause."""
_BE = parse_words("am are be been being is was were")
_ADVERBS = parse_words("all also both just not now only still")
"""Words between a form of "be" and its participle."""
_AFTER_BE = parse_words(
    "back beat bent burst calm clean clear come cool cut dim dry empty even fit free hit hurt key"
    " level light lost narrow open overcome put ready run set shut slim slow smooth split spread"
    " still thin tied upset warm wet"
)
"""Adjectives and participles that have the form of a bare verb."""
_SUBJECTS = parse_words(
    "baby bicyclist biker bird boy cat child climber cyclist dog girl guy kid lady man person"
    " player puppy runner skateboarder skier snowboarder surfer swimmer toddler woman"
)
"""Nouns in the singular that are subjects of most captions that they are in."""
_ARTICLES = parse_words("a an another one the this")
_DETERMINERS = _ARTICLES | parse_words("each he her his i it its my our people she some their they")
"""Words that begin the subject of a clause or the object of a preposition."""


def ends_in_complement(words: Sequence[str]) -> bool:
    """Return whether the preposition at the end of a caption is complete.

    Args:
        words: The words in lower case.
    """
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if not _PARTICLES.get(last, frozenset()).isdisjoint(_list_lemmas(before)):
        return True
    if before == "next" and last == "to":
        return False
    clause = words[-8:-1]
    for place, word in enumerate(clause[1:-1], start=1):
        if word in _RELATIVES and clause[place + 1] in _DETERMINERS:
            return True
        if word == "to" and _DETERMINERS.isdisjoint((clause[place - 1], clause[place + 1])):
            return not _is_verb_with_infinitive(clause[place - 1])
    return False


def lacks_ending(words: Sequence[str]) -> bool:
    """Return whether the last word, if it is a bare verb, needs the ending of another form.

    Args:
        words: The words in lower case.
    """
    before = [word for word in words[:-1] if word not in _ADVERBS]
    if before and before[-1] in _BE:
        return words[-1] not in _AFTER_BE
    return 2 <= len(before) <= 4 and before[0] in _ARTICLES and before[-1] in _SUBJECTS


def _is_verb_with_infinitive(word: str) -> bool:
    return word.endswith("ing") or not _COMPLEMENT_OF_VERB.isdisjoint(_list_lemmas(word))


def _list_lemmas(verb: str) -> set[str]:
    """Return the bare verbs that a form may belong to: "pulls", "pulling", "pulled"."""
    lemmas = {verb, _IRREGULAR.get(verb, verb)}
    for ending in ("s", "es", "d", "ed", "ing"):
        if verb.endswith(ending):
            stem = verb[: -len(ending)]
            lemmas |= {stem, f"{stem}e"}
            if len(stem) > 2 and stem[-1] == stem[-2]:
                lemmas.add(stem[:-1])
            if stem.endswith("i"):
                lemmas.add(f"{stem[:-1]}y")
    return lemmas


_IRREGULAR = {
    "brought": "bring", "came": "come", "drove": "drive", "fell": "fall", "flew": "fly",
    "gave": "give", "given": "give", "gone": "go", "got": "get", "held": "hold", "hung": "hang",
    "rode": "ride", "ran": "run", "sat": "sit", "stood": "stand", "taken": "take", "took": "take",
    "tries": "try", "went": "go", "lying": "lie",
}  # fmt: skip
