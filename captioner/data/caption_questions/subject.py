"""Questions about the subject of an image's captions: what it does, to what, where, in what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from captioner.data.caption_questions import words
from captioner.data.caption_questions.chunker import Phrase
from captioner.data.caption_questions.clause import Deed, Statement
from captioner.data.caption_questions.lexicon import is_a, may_be, plural
from captioner.data.caption_questions.scene import Scene, common_name, is_named


@dataclass(frozen=True)
class Pair:
    """A question and its answer."""

    kind: str
    """The question's type."""
    topic: str
    """What the answers are balanced within: what a blind reader would guess by."""
    question: str
    answer: str


def about_subject(scene: Scene) -> Iterator[Pair]:
    """All pairs of the types activity, place and object."""
    yield from _activity(scene)
    yield from _place(scene)
    yield from _objects(scene)
    yield from _who(scene)


def subject_of(scene: Scene, statements: Sequence[Statement]) -> tuple[str, bool]:
    """The noun to ask with and whether in the plural; "" where it is not clear who is meant."""
    numbers = {s.plural for s in statements}
    names = Counter(noun for s in statements for noun in s.nouns)
    name = common_name(names)
    if len(numbers) != 1 or not name:
        return "", False
    is_plural = numbers.pop()
    return (name, is_plural) if is_plural or scene.single(name) else ("", False)


def _be(name: str, is_plural: bool) -> str:
    return f"are the {plural(name)}" if is_plural else f"is the {name}"


def elected(votes: Counter[str], need: int) -> str:
    """The answer that most captions give: at least `need` of them, or one without a rival.

    Where two draw level both are true, and the one that is named first is taken.
    """
    ranked = votes.most_common(1)
    if not ranked or (ranked[0][1] < need and len(votes) > 1):
        return ""
    return ranked[0][0]


def _activity(scene: Scene) -> Iterator[Pair]:
    """ "what is the dog doing": more captions than any other verb's, and at least two."""
    votes = Counter(s.activity for s in scene.statements if s.activity)
    answer = elected(votes, scene.need)
    if votes[answer] < scene.need or list(votes.values()).count(votes[answer]) > 1:
        return
    name, is_plural = subject_of(scene, [s for s in scene.statements if s.activity == answer])
    if name:
        yield Pair("activity", name, f"what {_be(name, is_plural)} doing", answer)


def _place(scene: Scene) -> Iterator[Pair]:
    votes = Counter(place for s in scene.statements for place in dict.fromkeys(s.places))
    answer = elected(votes, scene.need)
    if not answer:
        return
    name, is_plural = subject_of(scene, [s for s in scene.statements if answer in s.places])
    if name:
        yield Pair("place", name, f"where {_be(name, is_plural)}", answer)


def _objects(scene: Scene) -> Iterator[Pair]:
    """ "what is the boy holding"; what is worn must be said more often than any other garment."""
    votes: dict[str, dict[str, list[Statement]]] = {}
    plurals: Counter[str] = Counter()
    for statement in scene.statements:
        for asked, phrase in dict.fromkeys(_asked_objects(statement)):
            tellers = votes.setdefault(asked, {}).setdefault(phrase.noun, [])
            if statement not in tellers:
                tellers.append(statement)
            plurals[phrase.noun] += 1 if phrase.plural else -1
    for asked, by_noun in votes.items():
        answer = elected(Counter({noun: len(s) for noun, s in by_noun.items()}), scene.need)
        if not answer or not is_named(answer):
            continue
        support = len(by_noun[answer])
        rivals = [len(s) for noun, s in by_noun.items() if not may_be(noun, answer)]
        if rivals and (max(rivals) >= support or (asked == "wearing" and support < 3)):
            continue
        name, is_plural = subject_of(scene, by_noun[answer])
        if not name or ("mouth" in asked and not is_a(name, "animal")):
            continue
        question = f"what {_be(name, is_plural)} {asked}"
        if is_plural:
            question = question.replace("its mouth", "their mouths")
        text = plural(answer) if plurals[answer] > 0 and not is_plural else answer
        who = "person" if is_a(name, "person") else name
        yield Pair("object", f"{who} {asked}", question, text)


def _asked_objects(statement: Statement) -> Iterator[tuple[str, Phrase]]:
    """What may be asked of a statement, as in "what is the dog ...", and the phrase that tells."""
    for deed in statement.deeds:
        asked, phrase = _asked_of(deed), deed.objects[0]
        if not asked or (phrase.known and not phrase.sure):
            continue
        # "standing at the top of a hill" is not about the top.
        if deed.preposition and (is_a(phrase.noun, "person") or phrase.noun in words.PARTS):
            continue
        if asked == "playing" and not any(is_a(phrase.noun, kind) for kind in words.PLAYED):
            continue
        yield asked, phrase
    for phrase in statement.worn:
        if is_a(phrase.noun, "garment"):
            yield "wearing", phrase
    for phrase in statement.in_mouth:
        yield "holding in its mouth", phrase


def _asked_of(deed: Deed) -> str:
    """ "jumping over" of a deed that can be asked about, otherwise ""."""
    if not deed.preposition:
        return deed.verb if deed.verb in words.WITH_OBJECT else ""
    if deed.verb in ("riding", "biting", "chewing") and deed.preposition == "on":
        return deed.verb
    if deed.verb in words.VAGUE or deed.preposition not in words.WITH_PREPOSITION:
        return ""
    return f"{deed.verb} {deed.preposition}"


def _who(scene: Scene) -> Iterator[Pair]:
    """ "who is riding" -> "woman": of one person, whom the captions agree on."""
    deed = elected(Counter(s.activity for s in scene.statements if s.activity), scene.need)
    doers = [s for s in scene.statements if deed and s.activity == deed]
    if not doers or not all(is_a(noun, "person") for s in doers for noun in s.nouns):
        return
    names = scene.names("person")
    name = common_name(names)
    if name in words.WHO and names[name] >= scene.need and scene.single("person"):
        yield Pair("object", f"who {deed}", f"who is {deed}", name)
