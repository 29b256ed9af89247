"""Normalization of captions."""

from __future__ import annotations

import pytest
from random_captions import random_captions

from captioner.data import (
    normalize_caption,
)


@pytest.mark.parametrize(
    ("raw", "tidy"),
    [
        ("A black dog , running .", "a black dog, running"),
        ("  Two\tdogs\r\n play . . ", "two dogs play"),
        ("The man 's hat does n't fit !", "the man's hat doesn't fit!"),
        ('"A quoted caption ."', "a quoted caption"),
        ('A sign that says " no diving " .', 'a sign that says "no diving"'),
        ("Man ( left ) waves", "man (left) waves"),
        ("a 2.5 m wall", "a 2.5 m wall"),
        ('"Stop" says the "man"', '"stop" says the "man"'),
        (" . ", ""),
        ("Straße É 🐻 .", "straße é 🐻"),
    ],
)
def test_normalize_caption(raw, tidy):
    assert normalize_caption(raw) == tidy
    assert normalize_caption(raw, lowercase=False).lower() == tidy


def test_normalization_is_idempotent():
    for text in random_captions(3000):
        for lowercase in (True, False):
            once = normalize_caption(text, lowercase=lowercase)
            assert normalize_caption(once, lowercase=lowercase) == once, text
