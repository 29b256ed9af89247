"""Constraints and streams with byte-level and WordPiece vocabularies that have two ends."""

from __future__ import annotations

import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vocabularies import ByteLevel, Vocabulary, WordPiece

from captioner.config import DecodingConfig
from captioner.decoding import FORBIDDEN, Automaton
from captioner.errors import CaptionerError
from captioner.generation.constraints import DANGLING_WORDS, build_constraints
from captioner.predict.pieces import split_text

BYTES, WORDS = ByteLevel(), WordPiece()
TEXTS = ["dog", "dogs", "café", "CAFÉ", "cafés", "日本", "日", "red ball", "cat", "with", "a", "é"]


@cache
def plan(tokenizer: Vocabulary, **options) -> list[Automaton]:
    config = DecodingConfig(**{"max_length": 60} | options)
    [rule] = build_constraints(config, tokenizer, lowercase=True).rules
    return next(c.cell_contents for c in rule.__closure__ if isinstance(c.cell_contents, list))


def accepts(automaton: Automaton, ids: list[int]) -> bool:
    state = 0
    for token in ids:
        state = automaton.table[state, token].item()
        if state == FORBIDDEN:
            return False
    return True


def allows(automata: list[Automaton], ids: list[int]) -> bool:
    """Return whether all automata accept the tokens, with any end appended."""
    one, two = (
        all(accepts(automaton, [*ids, end]) for automaton in automata) for end in Vocabulary.ends
    )
    assert one is two
    return one


def holds(text: str, phrase: str, after: str = "") -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w){after}", text.lower()))


@st.composite
def split_texts(draw) -> list[int]:
    """Draw a text in any division into the pieces of the byte-level vocabulary."""
    words = draw(st.lists(st.sampled_from(TEXTS), max_size=5))
    data, ids = b"".join(b" " + word.encode() for word in words), []
    while data:
        fitting = [piece for piece in BYTES.pieces if piece and data.startswith(piece)]
        piece = draw(st.sampled_from(sorted(fitting, key=len)))
        ids.append(BYTES.numbers[piece])
        data = data[len(piece) :]
    return ids


@given(split_texts(), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3, unique=True))
def test_phrases_are_matched_however_bytes_are_divided(ids: list[int], phrases: list[str]) -> None:
    text = BYTES.decode(ids)
    expected = any(holds(text, phrase.lower()) for phrase in phrases)
    assert allows(plan(BYTES, must_include=("|".join(phrases),)), ids) is expected
    if expected:
        assert not allows(plan(BYTES, banned=tuple(phrases)), ids)


@given(split_texts())
def test_no_dangling_with_bytes(ids: list[int]) -> None:
    dangles = any(holds(BYTES.decode(ids), word, r"\Z") for word in DANGLING_WORDS)
    assert allows(plan(BYTES, no_dangling=True), ids) is not dangles


def test_a_banned_word_leaves_other_words_with_the_same_bytes() -> None:
    automata = plan(BYTES, banned=("café", "日本"))
    for text in ("a cafe", "a caf", "日", "a dog"):
        assert allows(automata, BYTES.encode(text)[:-1])


@pytest.mark.parametrize(("rest", "allowed"), [
    ("", True), (" with", True), (", a dog", True), ("\u2019s", True), ("s", False),
    ("\u00e9", False),
])  # fmt: skip
def test_prefix_with_bytes(rest: str, allowed: bool) -> None:
    ids = BYTES.encode("a café")[:-1] + BYTES.divide(rest)
    assert allows(plan(BYTES, prefix="a café"), ids) is allowed
    assert not allows(plan(BYTES, prefix="a café"), BYTES.encode("a caf")[:-1])


@pytest.mark.parametrize(("options", "text", "allowed"), [
    ({"must_include": ("dog",)}, "a dog", True),
    ({"must_include": ("dog",)}, "a dogs", False),
    ({"must_include": ("dog",)}, "a dog-s", True),
    ({"must_include": ("dogs|ball",)}, "red dogs", True),
    ({"must_include": ("t-shirt",)}, "a red t-shirt, a dog", True),
    ({"must_include": ("t-shirt",)}, "a red shirt", False),
    ({"must_include": ("dog's",)}, "the dog's ball", True),
    ({"must_include": ("xyz|ball",)}, "a red ball", True),
    ({"banned": ("dog",)}, "a red ball", True),
    ({"banned": ("dog",)}, "a dog", False),
    ({"banned": ("xyz", "walking")}, "a dog walking", False),
    ({"banned": ("xyz",), "no_dangling": True}, "a dog", True),
    ({"banned": ("walks",)}, "a dog walking", True),
    ({"no_dangling": True}, "a dog with", False),
    ({"no_dangling": True}, "a dog with a", False),
    ({"no_dangling": True}, "with a dog", True),
    ({"prefix": "a dog"}, "a dog walking", True),
    ({"prefix": "a dog"}, "a dog", True),
    ({"prefix": "a dog"}, "a dogs", False),
    ({"prefix": "a dog"}, "the dog", False),
    ({"prefix": "a dog's"}, "a dog's ball", True),
])  # fmt: skip
def test_constraints_with_word_pieces(options: dict, text: str, allowed: bool) -> None:
    assert allows(plan(WORDS, **options), WORDS.encode(text)[:-1]) is allowed


@pytest.mark.parametrize("text", ["LLL日本", "日本L", "日本人", "大日本"])
def test_words_of_scripts_without_spaces_are_matched_whole(text: str) -> None:
    automata = plan(BYTES, must_include=("日本",))
    assert not allows(automata, BYTES.divide(text))
    for other in ("日本", "a 日本", "L,日本", "L\x18日本", f"{text} 日本"):
        assert allows(automata, BYTES.divide(other))


@pytest.mark.parametrize("options", [{"must_include": ("xyz",)}, {"prefix": "a xyz"}])
def test_words_outside_the_vocabulary_are_rejected(options: dict) -> None:
    with pytest.raises(CaptionerError, match=r"xyz.* cannot be generated"):
        plan(WORDS, **options)


@given(split_texts(), st.sampled_from(Vocabulary.ends))
def test_streams_hold_whole_characters(ids: list[int], end: int) -> None:
    pieces = list(split_text(iter([*ids, end, BYTES.numbers[b" dog"]]), BYTES))
    assert "".join(pieces) == BYTES.decode(ids)
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)
    assert [piece.tokens for piece in pieces][-1:] == ([len(ids)] if ids else [])
