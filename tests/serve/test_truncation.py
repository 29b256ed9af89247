"""Truncation at stop sequences and token limits, compared with a plain search in the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gradio")
from captioner.predict.pieces import Piece
from captioner.serve.routes.truncation import Truncation


def truncate(pieces: list[str], **options) -> tuple[str, str, int]:
    """Return the truncated text, the reason of its end, and its number of tokens."""
    end, text = Truncation(**options), ""
    for number, piece in enumerate(pieces, 1):
        text += end.push(Piece(piece, number))
        if end.ended:
            return text, end.reason, end.tokens
    return text + end.close(), end.reason, end.tokens


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("a red dog", "stop", 3)),
        ({"limit": 3}, ("a red dog", "stop", 3)),
        ({"limit": 2}, ("a red", "length", 2)),
        ({"stop": ["red"]}, ("a ", "stop", 2)),
        ({"stop": ["d d"]}, ("a re", "stop", 3)),
        ({"stop": ["dogs", "e"]}, ("a r", "stop", 2)),
        ({"stop": ["dogs"]}, ("a red dog", "stop", 3)),
        ({"stop": ["dog"], "limit": 2}, ("a red", "length", 2)),
        ({"stop": ["red"], "limit": 2}, ("a ", "stop", 2)),
        ({"stop": ["d dogs"], "limit": 2}, ("a red", "length", 2)),
        ({"stop": ["a"]}, ("", "stop", 1)),
        ({"longest": 3}, ("a red dog", "length", 3)),
        ({"longest": 4}, ("a red dog", "stop", 3)),
        ({"longest": 3, "stop": ["dog"]}, ("a red ", "stop", 3)),
        ({"longest": 3, "stop": ["dogs"]}, ("a red dog", "length", 3)),
    ],
)
def test_text_is_truncated(options, expected) -> None:
    assert truncate(["a", " red", " dog"], **options) == expected


def test_tokens_of_an_incomplete_character_count() -> None:
    end = Truncation(limit=3)
    texts = [end.push(Piece("a", 1)), end.push(Piece(" é", 4))]
    assert (texts, end.ended, end.reason, end.tokens) == (["a", ""], True, "length", 3)


@given(
    st.lists(st.text("ab", max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=5), max_size=4),
)
def test_stop_sequence_may_span_pieces(pieces: list[str], stop: list[str]) -> None:
    expected = "".join(pieces)
    for count in range(1, len(pieces) + 1):
        text = "".join(pieces[:count])
        starts = [text.find(s) for s in stop if s in text]
        if starts:
            expected = text[: min(starts)]
            break
    assert truncate(pieces, stop=stop)[0] == expected
