"""Alternative texts: one sentence of limited length and of whole words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.cli.batch.alt_text import choose_sentence
from captioner.text import DANGLING_WORDS

LONG = "a man in a red shirt is standing on a wall, and a dog with a ball is sitting beside him"
WORDS = st.sampled_from([*LONG.split(), *DANGLING_WORDS[:9], "É", "x" * 40, ".", "ball."])


@pytest.mark.parametrize(
    ("captions", "length", "expected"),
    [
        (["a dog runs"], 125, (0, "A dog runs.")),
        (["a  dog\nruns ."], 125, (0, "A dog runs.")),
        (["Is it a dog?!"], 125, (0, "Is it a dog.")),
        ([LONG, "a man and a dog"], 125, (0, f"A{LONG[1:]}.")),
        ([LONG, "a man and a dog"], 40, (1, "A man and a dog.")),
        ([LONG], 60, (0, "A man in a red shirt is standing on a wall, and a dog.")),
        ([LONG], 48, (0, "A man in a red shirt is standing on a wall.")),
        ([LONG], 40, (0, "A man in a red shirt is standing.")),
        ([LONG], 10, (0, "A man.")),
        (["one two three four"], 12, (0, "One two.")),  # Without a clause, any word is a cut point.
        (["a dog with a", "a dog"], 125, (1, "A dog.")),
        (["a dog with a"], 125, (0, "A dog.")),
        (["a dog"], 5, None),
        (["with a"], 125, None),
        ([""], 125, None),
        ([], 125, None),
    ],
)
def test_examples(captions, length, expected):
    assert choose_sentence(captions, length=length) == expected


@given(st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=4), st.integers(1, 80))
def test_the_result_is_a_sentence_of_whole_words(captions, length):
    found = choose_sentence(captions, length=length)
    if found is None:
        return
    place, text = found
    assert len(text) <= length
    assert text.endswith(".")
    assert text[0] == text[0].upper()
    words, source = text[:-1].lower().split(), captions[place].lower().split()
    assert words[:-1] == source[: len(words) - 1]
    assert source[len(words) - 1].rstrip(".,") == words[-1]
    assert words[-1] not in DANGLING_WORDS
