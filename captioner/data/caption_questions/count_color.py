"""Make all questions about one image except presence: count, color, and those of `subject`.

A question is made only if its answer is stated by captions and contradicted by none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from captioner.data.caption_questions import nouns, words
from captioner.data.caption_questions.chunker import Phrase
from captioner.data.caption_questions.lexicon import are_compatible, is_a, pluralize
from captioner.data.caption_questions.scene import Scene, find_common_name
from captioner.data.caption_questions.subject import Pair, find_subject, make_subject_pairs


def make_pairs(scene: Scene) -> list[Pair]:
    """Return all pairs of an image except presence, before balancing."""
    pairs = (*_make_count_pairs(scene), *_make_color_pairs(scene), *make_subject_pairs(scene))
    return list({pair.question: pair for pair in pairs}.values())


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
