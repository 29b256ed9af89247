"""Make questions about the subject of the captions: activity, place, object and person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from captioner.data.caption_questions import words
from captioner.data.caption_questions.chunker import Phrase
from captioner.data.caption_questions.clause import Action, Clause
from captioner.data.caption_questions.lexicon import are_compatible, is_a, pluralize
from captioner.data.caption_questions.scene import Scene, find_common_name, is_specific


@dataclass(frozen=True)
class Pair:
    """A question and its answer."""

    kind: str
    """Type of the question."""
    topic: str
    """Group of questions whose answers are balanced."""
    question: str
    answer: str


def make_subject_pairs(scene: Scene) -> Iterator[Pair]:
    """Yield all pairs of the types activity, place and object."""
    yield from _make_activity_pairs(scene)
    yield from _make_place_pairs(scene)
    yield from _make_object_pairs(scene)
    yield from _make_person_pairs(scene)


def find_subject(scene: Scene, clauses: Sequence[Clause]) -> tuple[str, bool]:
    """Return the noun for the subject of clauses and whether it is plural; "" if it is unclear."""
    numbers = {clause.plural for clause in clauses}
    names = Counter(noun for clause in clauses for noun in clause.nouns)
    name = find_common_name(names)
    if len(numbers) != 1 or not name:
        return "", False
    is_plural = numbers.pop()
    return (name, is_plural) if is_plural or scene.is_single(name) else ("", False)


def _format_subject(name: str, is_plural: bool) -> str:
    return f"are the {pluralize(name)}" if is_plural else f"is the {name}"


def choose_answer(votes: Counter[str], min_votes: int) -> str:
    """Return the answer that most captions state, the first of equals, or "".

    It needs `min_votes`, or to be the only answer.
    """
    answer, count = max(votes.items(), key=lambda item: item[1], default=("", 0))
    return answer if count >= min_votes or len(votes) == 1 else ""


def _make_activity_pairs(scene: Scene) -> Iterator[Pair]:
    """Yield "what is the dog doing" if enough captions agree and no other verb is as frequent."""
    votes = Counter(clause.activity for clause in scene.clauses if clause.activity)
    answer = choose_answer(votes, scene.min_votes)
    if votes[answer] < scene.min_votes or list(votes.values()).count(votes[answer]) > 1:
        return
    name, is_plural = find_subject(scene, [c for c in scene.clauses if c.activity == answer])
    if name:
        question = f"what {_format_subject(name, is_plural)} doing"
        yield Pair("activity", name, question, answer)


def _make_place_pairs(scene: Scene) -> Iterator[Pair]:
    """Yield "where is the dog"."""
    votes = Counter(place for clause in scene.clauses for place in dict.fromkeys(clause.places))
    answer = choose_answer(votes, scene.min_votes)
    if not answer:
        return
    name, is_plural = find_subject(scene, [c for c in scene.clauses if answer in c.places])
    if name:
        yield Pair("place", name, f"where {_format_subject(name, is_plural)}", answer)


def _make_object_pairs(scene: Scene) -> Iterator[Pair]:
    """Yield "what is the boy holding"; a garment must be stated more often than any other."""
    votes: dict[str, dict[str, list[Clause]]] = {}
    plurals: Counter[str] = Counter()
    for clause in scene.clauses:
        for predicate, phrase in dict.fromkeys(_iterate_objects(clause)):
            clauses = votes.setdefault(predicate, {}).setdefault(phrase.noun, [])
            if clause not in clauses:
                clauses.append(clause)
            plurals[phrase.noun] += 1 if phrase.plural else -1
    for predicate, by_noun in votes.items():
        answer = choose_answer(Counter({n: len(c) for n, c in by_noun.items()}), scene.min_votes)
        if not answer or not is_specific(answer):
            continue
        support = len(by_noun[answer])
        rivals = [len(c) for noun, c in by_noun.items() if not are_compatible(noun, answer)]
        if rivals and (max(rivals) >= support or (predicate == "wearing" and support < 3)):
            continue
        name, is_plural = find_subject(scene, by_noun[answer])
        if not name or ("mouth" in predicate and not is_a(name, "animal")):
            continue
        question = f"what {_format_subject(name, is_plural)} {predicate}"
        if is_plural:
            question = question.replace("its mouth", "their mouths")
        text = pluralize(answer) if plurals[answer] > 0 and not is_plural else answer
        topic = "person" if is_a(name, "person") else name
        yield Pair("object", f"{topic} {predicate}", question, text)


def _iterate_objects(clause: Clause) -> Iterator[tuple[str, Phrase]]:
    """Yield each predicate for "what is the dog ...", and the phrase that answers it."""
    for action in clause.actions:
        predicate, phrase = _format_action(action), action.objects[0]
        if not predicate or (phrase.known and not phrase.sure):
            continue
        # "standing at the top of a hill" is not about the top.
        if action.preposition and (is_a(phrase.noun, "person") or phrase.noun in words.PARTS):
            continue
        if predicate == "playing" and not any(is_a(phrase.noun, kind) for kind in words.PLAYED):
            continue
        yield predicate, phrase
    for phrase in clause.worn:
        if is_a(phrase.noun, "garment"):
            yield "wearing", phrase
    for phrase in clause.in_mouth:
        yield "holding in its mouth", phrase


def _format_action(action: Action) -> str:
    """Return the predicate of a question, such as "jumping over"; "" if none can be asked."""
    if not action.preposition:
        return action.verb if action.verb in words.WITH_OBJECT else ""
    if action.verb in ("riding", "biting", "chewing") and action.preposition == "on":
        return action.verb
    if action.verb in words.VAGUE or action.preposition not in words.WITH_PREPOSITION:
        return ""
    return f"{action.verb} {action.preposition}"


def _make_person_pairs(scene: Scene) -> Iterator[Pair]:
    """Yield "who is riding" -> "woman" for a single person if the captions agree."""
    votes = Counter(clause.activity for clause in scene.clauses if clause.activity)
    activity = choose_answer(votes, scene.min_votes)
    clauses = [c for c in scene.clauses if activity and c.activity == activity]
    if not clauses or not all(is_a(noun, "person") for c in clauses for noun in c.nouns):
        return
    names = scene.count_nouns("person")
    name = find_common_name(names)
    if name in words.WHO and names[name] >= scene.min_votes and scene.is_single("person"):
        yield Pair("object", f"who {activity}", f"who is {activity}", name)
