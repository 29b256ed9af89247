"""Noun phrases of captions and the hierarchy of nouns."""

from __future__ import annotations

import pytest

from captioner.data.caption_questions.chunker import chunk_caption
from captioner.data.caption_questions.lexicon import (
    are_compatible,
    get_kinds,
    is_a,
    load_lexicon,
)
from captioner.data.caption_questions.presence import load_presence_nouns


def noun_phrases(text: str) -> list[tuple[str, bool]]:
    return [(i.phrase.noun, i.phrase.plural) for i in chunk_caption(text) if i.phrase is not None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A tennis ball on the soccer field .", [("tennis ball", False), ("soccer field", False)]),
        ("Two dogs race on a race track .", [("dog", True), ("track", False)]),
        ("A man watches a slide while he slides .", [("man", False), ("slide", False)]),
        ("a dog leaps", [("dog", False)]),
        ("People and their puppies", [("person", True), ("puppy", True)]),
        ("A light brown dog on a snow covered hill .", [("dog", False), ("hill", False)]),
        ("a kid in black carrying a pillow", [("child", False), ("pillow", False)]),
        ("a small , black and white running dog runs", [("dog", False)]),
    ],
)
def test_noun_phrases(text: str, expected: list[tuple[str, bool]]) -> None:
    assert noun_phrases(text) == expected


def test_kinds_of_nouns_are_acyclic() -> None:
    for noun in load_lexicon().parents:
        assert noun in get_kinds(noun)
        for kind in get_kinds(noun) - {noun}:
            assert not is_a(kind, noun), f"{noun} and {kind} are of each other's kind"


def test_presence_nouns_are_in_lexicon() -> None:
    forms = load_lexicon().nouns
    for noun in load_presence_nouns():
        assert forms[noun][0] == noun, f"{noun} is in no entry of the lexicon"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("puppy", "dog", True),
        ("dog", "animal", True),
        ("man", "woman", False),
        ("surfer", "woman", True),
        ("dog", "cat", False),
        ("man", "dog", False),
        ("boy", "child", True),
    ],
)
def test_are_compatible(one: str, other: str, expected: bool) -> None:
    assert are_compatible(one, other) is are_compatible(other, one) is expected
