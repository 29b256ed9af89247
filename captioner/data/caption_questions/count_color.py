"""Questions about one image of every type but presence, before they are balanced.

They ask for what captions state and none contradicts; see `deeds` for those about what the subject
of the captions does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from captioner.data.caption_questions import nouns, words
from captioner.data.caption_questions.chunker import Phrase
from captioner.data.caption_questions.lexicon import is_a, may_be, plural
from captioner.data.caption_questions.scene import Scene, common_name
from captioner.data.caption_questions.subject import Pair, about_subject, subject_of


def pairs_of(scene: Scene) -> list[Pair]:
    """All pairs that the captions of an image bear out, presence apart."""
    pairs = (*_counts(scene), *_colours(scene), *about_subject(scene))
    return list({pair.question: pair for pair in pairs}.values())


def _counts(scene: Scene) -> Iterator[Pair]:
    """ "how many dogs are there": at least two captions tell, and all that tell say the same."""
    if scene.words & {"other", "others", "another"}:
        return
    for noun in words.COUNTED:
        counts = [scene.count(caption, noun) for caption in scene.captions]
        told = [n for n in counts if n != 0]
        number = told[0] if told else None
        if number is None or len(set(told)) > 1 or len(told) < scene.need:
            continue
        names = Counter(p.noun for p in scene.phrases if may_be(p.noun, noun))
        if not any(is_a(name, noun) for name in names):
            continue  # only "animals", which may be dogs
        asked = common_name(names) if noun == "person" else noun
        if asked:
            yield Pair("count", asked, f"how many {plural(asked)} are there", str(number))


def _colours(scene: Scene) -> Iterator[Pair]:
    """ "what color is the dog", where captions state one and the same of the only one."""
    by_noun: dict[str, list[Phrase]] = {}
    for phrase in scene.phrases:
        if phrase.known:
            by_noun.setdefault(_asked_as(phrase.noun), []).append(phrase)
    for noun, phrases in by_noun.items():
        garment = is_a(noun, "garment")
        answer = _only_colour(phrases)
        if not answer or noun in words.COLOURLESS:
            continue
        if not garment and not any(is_a(noun, kind) for kind in words.COLOURED):
            continue
        pairs = noun in nouns.PLURAL_ONLY or (not garment and all(p.plural for p in phrases))
        if not pairs and (any(p.plural for p in phrases) or not scene.single(noun)):
            continue
        # "a red shirt" and "a blue jersey" may be one and the same.
        rivals = [n for n in by_noun if n != noun and may_be(n, noun)]
        if any(_told_colours(by_noun[n]) - {answer} for n in rivals):
            continue
        name = plural(noun) if pairs else noun
        if garment:
            owner = _owner(scene, noun)
            if not owner:
                continue
            name = f"{owner}'s {name}"
        yield Pair("colour", noun, f"what color {'are' if pairs else 'is'} the {name}", answer)


def _asked_as(noun: str) -> str:
    """A poodle's colour is asked as the dog's."""
    return next((kind for kind in ("dog", "cat", "horse", "bird") if is_a(noun, kind)), noun)


def _told_colours(phrases: Sequence[Phrase]) -> set[str]:
    return {" and ".join(sorted(set(p.colours))) for p in phrases if p.colours}


def _only_colour(phrases: Sequence[Phrase]) -> str:
    """The colour that all phrases that state one agree on; "" where they do not."""
    if any(not p.colours and words.VAGUE_COLOURS & set(p.modifiers) for p in phrases):
        return ""
    told = _told_colours(phrases)
    return told.pop() if len(told) == 1 else ""


def _owner(scene: Scene, garment: str) -> str:
    """Whose garment it is, by the noun to ask with; "" where that is not clear."""
    wearers = [
        s for s in scene.statements if not s.plural and any(p.noun == garment for p in s.worn)
    ]
    if wearers:
        return subject_of(scene, wearers)[0]
    theirs = [p for p in scene.phrases if p.noun == garment and p.colours]
    if not all(p.owned or p.determiner in words.POSSESSIVE for p in theirs):
        return ""
    return common_name(scene.names("person")) if scene.single("person") else ""
