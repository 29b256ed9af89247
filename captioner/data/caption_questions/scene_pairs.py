"""Make all questions about one image except presence: by color, count, activity, place, object.

A question is made only if its answer is stated by captions and contradicted by none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from captioner.data.caption_questions import nouns, words
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


def make_pairs(scene: Scene) -> list[Pair]:
    """Return all pairs of an image except presence, before balancing."""
    makers = (
        *(_make_count_pairs, _make_color_pairs),
        *(_make_activity_pairs, _make_place_pairs, _make_object_pairs, _make_person_pairs),
    )
    return list({pair.question: pair for maker in makers for pair in maker(scene)}.values())


def _make_count_pairs(scene: Scene) -> Iterator[Pair]:
    """Yield "how many dogs are there" if enough captions state a number, all the same."""
    if scene.words & {"other", "others", "another"}:
        return
    for noun in words.COUNTED:
        counts = [scene.count_objects(caption, noun) for caption in scene.captions]
        stated = [count for count in counts if count != 0]
        number = stated[0] if stated else None
        if number is None or len(set(stated)) > 1 or len(stated) < scene.min_votes:
            continue
        names = Counter(p.noun for p in scene.phrases if are_compatible(p.noun, noun))
        if not any(is_a(name, noun) for name in names):
            continue  # only "animals", which may be dogs
        name = find_common_name(names) if noun == "person" else noun
        if name:
            yield Pair("count", name, f"how many {pluralize(name)} are there", str(number))


def _make_color_pairs(scene: Scene) -> Iterator[Pair]:
    """Yield "what color is the dog" if there is only one and the captions state one color."""
    by_noun: dict[str, list[Phrase]] = {}
    for phrase in scene.phrases:
        if phrase.known:
            by_noun.setdefault(_generalize(phrase.noun), []).append(phrase)
    for noun, phrases in by_noun.items():
        garment = is_a(noun, "garment")
        answer = _find_single_color(phrases)
        if not answer or noun in words.COLORLESS:
            continue
        if not garment and not any(is_a(noun, kind) for kind in words.COLORED):
            continue
        plural = noun in nouns.PLURAL_ONLY or (not garment and all(p.plural for p in phrases))
        if not plural and (any(p.plural for p in phrases) or not scene.is_single(noun)):
            continue
        # "a red shirt" and "a blue jersey" may be the same garment.
        rivals = [n for n in by_noun if n != noun and are_compatible(n, noun)]
        if any(_collect_colors(by_noun[n]) - {answer} for n in rivals):
            continue
        name = pluralize(noun) if plural else noun
        if garment:
            owner = _find_owner(scene, noun)
            if not owner:
                continue
            name = f"{owner}'s {name}"
        yield Pair("colour", noun, f"what color {'are' if plural else 'is'} the {name}", answer)


def _generalize(noun: str) -> str:
    """Return the noun to ask with: "dog" for "poodle"."""
    return next((kind for kind in ("dog", "cat", "horse", "bird") if is_a(noun, kind)), noun)


def _collect_colors(phrases: Sequence[Phrase]) -> set[str]:
    return {" and ".join(sorted(set(p.colors))) for p in phrases if p.colors}


def _find_single_color(phrases: Sequence[Phrase]) -> str:
    """Return the color if all phrases that state one agree, else ""."""
    if any(not p.colors and words.VAGUE_COLORS & set(p.modifiers) for p in phrases):
        return ""
    colors = _collect_colors(phrases)
    return colors.pop() if len(colors) == 1 else ""


def _find_owner(scene: Scene, garment: str) -> str:
    """Return the noun for the person who wears a garment; "" if that is unclear."""
    clauses = [c for c in scene.clauses if not c.plural and any(p.noun == garment for p in c.worn)]
    if clauses:
        return find_subject(scene, clauses)[0]
    phrases = [p for p in scene.phrases if p.noun == garment and p.colors]
    if not all(p.owned or p.determiner in words.POSSESSIVE for p in phrases):
        return ""
    return find_common_name(scene.count_nouns("person")) if scene.is_single("person") else ""


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
