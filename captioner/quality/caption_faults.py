"""Find faults in the captions of a data set."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from captioner.data.example import Example
from captioner.quality.findings import Finding, quote
from captioner.quality.languages import Languages
from captioner.quality.text_repair import LOST, find_markup, has_mojibake, list_controls, repair
from captioner.quality.word_statistics import WordStatistics, explain_excess, split_words
from captioner.text import normalize_caption

_BOILERPLATE = 5
"""Unrelated images that a boilerplate caption has at least, if their other captions differ."""
_BOILERPLATE_ALONE = 10
"""The same for images without other captions."""
_BOILERPLATE_SHARE = 0.01
"""Share of the images that must have the caption in addition, if they have no other captions."""
_COMMON = 0.5
"""Share of the images from which a word in their captions does not describe one of them."""
_RELATED = 0.25
"""Share of the words of a caption that the other captions of its image have, by median."""


def check_captions(
    examples: Sequence[Example], find_group: Callable[[str], str]
) -> Iterator[Finding]:
    """Yield the faults of the captions, in the order of the examples.

    Mojibake and markup are also found in questions and answers. The other rules see the repaired
    captions.

    Args:
        examples: All examples of the data set.
        find_group: Returns the group of copies that an image belongs to.

    Raises:
        DependencyError: ftfy or py3langid is not installed.
    """
    numbers = [i for i, example in enumerate(examples) if example.kind == "captions"]
    for i, example in enumerate(examples):
        for text in (example.question, *example.references):
            yield from _check_encoding(text, example, i)
    repaired = {i: [repair(text) for text in examples[i].references] for i in numbers}
    captions = [text for texts in repaired.values() for text in texts if text]
    languages = Languages(captions)
    foreign = {text: reason for text in captions if (reason := languages.explain(text))}
    own = [text for text in captions if text not in foreign]
    words = WordStatistics(own, english=languages.main in ("en", ""))
    boilerplate = _find_boilerplate(examples, repaired, find_group)
    for i, texts in repaired.items():
        yield from _check_repeated(examples[i], texts, i)
        for number, text in enumerate(texts):
            others = texts[:number] + texts[number + 1 :]
            reasons = {
                "boilerplate-caption": boilerplate.get(normalize_caption(text), ""),
                "other-language": foreign.get(text, ""),
                "unusual-length": explain_excess(text),
            }
            if text and text not in foreign:
                reasons["truncated-caption"] = words.explain_truncation(text, others)
                reasons["unusual-length"] = reasons["unusual-length"] or words.explain_length(text)
            original = examples[i].references[number]
            for kind, reason in reasons.items():
                if reason:
                    yield _make_finding(kind, reason, examples[i], original, i)


def _make_finding(kind: str, reason: str, example: Example, text: str, entry: int) -> Finding:
    return Finding(kind, reason, example.split, image=example.image, text=text, entry=entry)


def _check_encoding(text: str, example: Example, entry: int) -> Iterator[Finding]:
    if has_mojibake(text):
        repaired = repair(text)
        reason = "has lost characters" if LOST in repaired else f"repaired: {quote(repaired)}"
        yield _make_finding("mojibake", reason, example, text, entry)
    elif controls := list_controls(text):
        names = ", ".join(controls[:5])
        yield _make_finding("markup", f"holds control characters ({names})", example, text, entry)
    if markup := find_markup(text):
        yield _make_finding("markup", f"holds {quote(markup)}", example, text, entry)


def _check_repeated(example: Example, texts: Sequence[str], entry: int) -> Iterator[Finding]:
    counts = Counter(normalize_caption(text) for text in texts)
    for original, text in zip(example.references, texts, strict=True):
        key = normalize_caption(text)
        if key and counts[key] > 1:
            reason = f"the image has this caption {counts[key]} times"
            counts[key] = 0  # one finding for all repetitions
            yield _make_finding("repeated-caption", reason, example, original, entry)


def _find_boilerplate(
    examples: Sequence[Example],
    captions: dict[int, list[str]],
    find_group: Callable[[str], str],
) -> dict[str, str]:
    """Return why a normalized caption is boilerplate, by caption.

    Frequent captions such as "a dog runs through the grass" are correct. Boilerplate has little in
    common with the other captions of its images, apart from words that most captions have.
    """
    users: dict[str, dict[str, int]] = {}
    for i, texts in captions.items():
        for text in filter(None, map(normalize_caption, texts)):
            users.setdefault(text, {}).setdefault(find_group(examples[i].image), i)
    frequent = {text: groups for text, groups in users.items() if len(groups) >= _BOILERPLATE}
    if not frequent:
        return {}
    bags = {i: Counter(w for t in texts for w in set(split_words(t))) for i, texts in
            captions.items()}  # fmt: skip
    documents = Counter(word for bag in bags.values() for word in bag)
    common = {word for word, count in documents.items() if count > _COMMON * len(bags)}
    reasons = {}
    for text, groups in frequent.items():
        own = set(split_words(text)) - common or set(split_words(text))
        shares = [
            sum(bags[i][word] > 1 for word in own) / max(1, len(own))
            for i in groups.values()
            if len(captions[i]) > 1
        ]
        many = max(_BOILERPLATE_ALONE, _BOILERPLATE_SHARE * len(captions))
        if len(shares) >= _BOILERPLATE and statistics.median(shares) < _RELATED:
            reasons[text] = f"{len(groups)} images have this caption, unlike their other captions"
        elif not shares and len(groups) >= many:
            reasons[text] = f"{len(groups)} images have this caption and no other"
    return reasons
