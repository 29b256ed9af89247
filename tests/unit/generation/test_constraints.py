"""Constraints on words, against regular expressions over the decoded text."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.config import DecodingConfig
from captioner.decoding import FORBIDDEN, Automaton, Prefixes
from captioner.decoding.numpy_arrays import NUMPY
from captioner.errors import CaptionerError, ConfigError
from captioner.generation.constraints import DANGLING_WORDS, build_constraints
from captioner.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

TEXTS = [
    "a dog runs",
    "two dogs run with a dog's ball",
    "a hot-dog on a red ball",
    "the underdog, a doggy",
    "a fire truck and a truck",
    "réd café",
    "do go og g d",
    "3 dogs 33 dog",
]
PHRASES = ["dog", "dogs", "red ball", "fire truck", "t-shirt", "3", "café", "do g", "dog's"]
tokenizers = {
    kind: Tokenizer.train(TEXTS * 3, vocab_size=size, kind=kind)
    for kind, size in (("unigram", 320), ("bpe", 340))
}


def plan(tokenizer: Tokenizer, **options) -> list[Automaton]:
    config = DecodingConfig(**{"max_length": 60} | options)
    found = build_constraints(config, tokenizer, lowercase=True)
    [rule] = found.rules
    return next(c.cell_contents for c in rule.__closure__ if isinstance(c.cell_contents, list))


def allows(automata: list[Automaton], ids: list[int]) -> bool:
    """Return whether all automata accept the tokens, with EOS appended."""
    for automaton in automata:
        state = 0
        for token in [*ids, EOS]:
            state = automaton.table[state, token].item()
            if state == FORBIDDEN:
                return False
    return True


def word_pattern(phrase: str) -> str:
    """Return a regular expression of the phrase as whole words."""
    before = r"(?<![^\W_])" if phrase[0].isalnum() else ""
    after = r"(?![^\W_])" if phrase[-1].isalnum() else ""
    return before + re.escape(phrase) + after


def holds(text: str, phrase: str) -> bool:
    return bool(re.search(word_pattern(phrase), " ".join(text.lower().split())))


def ends(text: str, phrase: str) -> bool:
    if text.endswith(" ") and not phrase.endswith(" "):
        return False
    return bool(re.search(word_pattern(phrase) + r"\Z", " ".join(text.lower().split())))


# Whole characters only: the decoding of an incomplete character is undefined.
def ordinary(tokenizer: Tokenizer) -> list[int]:
    return [i for i, piece in enumerate(tokenizer.list_pieces())
            if piece and piece.isprintable() and "_" not in piece]  # fmt: skip


@st.composite
def texts(draw):
    """Draw tokens in any order, mostly those of words of the phrases."""
    tokenizer = tokenizers[draw(st.sampled_from(sorted(tokenizers)))]
    any_piece = st.sampled_from(ordinary(tokenizer)).map(lambda i: [i])
    words = " ".join([*TEXTS, *PHRASES]).split()
    whole = st.sampled_from(words).map(lambda word: tokenizer.encode(word)[:-1])
    parts = draw(st.lists(st.one_of(whole, whole, any_piece), max_size=8))
    return tokenizer, [token for part in parts for token in part]


@given(texts(), st.lists(st.sampled_from(PHRASES), min_size=1, max_size=3, unique=True))
def test_must_include_requires_one_alternative(text, phrases):
    tokenizer, ids = text
    automata = plan(tokenizer, must_include=("|".join(phrases),))
    written = tokenizer.decode(ids)
    assert allows(automata, ids) == any(holds(written, phrase) for phrase in phrases)


@given(texts(), st.lists(st.sampled_from(PHRASES), min_size=1, max_size=3, unique=True))
def test_banned_phrases_are_forbidden(text, phrases):
    """Everything else is accepted, unless a token completes a phrase."""
    tokenizer, ids = text
    automata = plan(tokenizer, banned=tuple(phrases))
    begun = [tokenizer.decode(ids[:n]) for n in range(1, len(ids) + 1)]
    spelt_out = any(
        ends(start, phrase) or holds(start, phrase) for start in begun for phrase in phrases
    )
    assert allows(automata, ids) == (not spelt_out)


@given(texts())
def test_no_dangling_forbids_last_words(text):
    tokenizer, ids = text
    written = tokenizer.decode(ids)
    dangles = any(ends(written.rstrip(" "), word) for word in DANGLING_WORDS)
    assert allows(plan(tokenizer, no_dangling=True), ids) == (not dangles)


@pytest.mark.parametrize("tokenizer", tokenizers.values(), ids=tokenizers)
def test_trailing_spaces_do_not_hide_a_dangling_word(tokenizer):
    space = tokenizer.list_pieces().index(" ")
    byte = len(tokenizer.list_pieces()) - 1 - tokenizer.list_pieces()[::-1].index(" ")
    automata = plan(tokenizer, no_dangling=True)
    for spaces in ([], [space], [byte], [space, byte]):
        assert not allows(automata, [*tokenizer.encode("a dog with")[:-1], *spaces])
        assert allows(automata, [*tokenizer.encode("a dog")[:-1], *spaces])


@pytest.mark.parametrize("tokenizer", tokenizers.values(), ids=tokenizers)
@pytest.mark.parametrize("prefix", ["a dog", "A Dog's", "two dogs run with"])
def test_a_prefix_ends_at_a_word_boundary(tokenizer, prefix):
    automata = plan(tokenizer, prefix=prefix)
    for rest, allowed in ((" runs", True), ("", True), (", too", True), ("gy", False)):
        ids = tokenizer.encode(prefix.lower())[:-1]
        more = tokenizer.encode(rest.strip())[:-1] if rest.startswith(" ") else None
        if more is None:
            pieces = tokenizer.list_pieces()
            more = [pieces.index(c) for c in rest.replace(" ", "")]
        assert allows(automata, ids + more) is allowed
    assert not allows(automata, tokenizer.encode("two")[:-1])
    assert not allows(automata, tokenizer.encode(prefix.lower())[:-2])


@pytest.mark.parametrize("tokenizer", tokenizers.values(), ids=tokenizers)
def test_special_tokens_are_forbidden(tokenizer):
    options = {"must_include": ("dog",), "banned": ("red",), "no_dangling": True, "prefix": "two"}
    for automaton in plan(tokenizer, **options):
        assert (automaton.table[:, [PAD, UNK, BOS]] == FORBIDDEN).all()


def test_list_pieces_agrees_with_decode():
    for tokenizer in tokenizers.values():
        pieces = tokenizer.list_pieces()
        assert len(pieces) == len(tokenizer)
        assert [i for i, piece in enumerate(pieces) if piece is None] == [PAD, UNK, BOS, EOS]
        marker = tokenizer.encode("d")[:-1]
        for i in ordinary(tokenizer):
            assert tokenizer.decode([*marker, i]) == tokenizer.decode(marker) + pieces[i]


def test_states_follow_the_tokens_of_a_row():
    tokenizer = tokenizers["unigram"]
    [automaton] = plan(tokenizer, must_include=("dog",))
    ids = tokenizer.encode("a dog runs")[:-1]
    rows = np.array([[ids, ids[::-1]]])
    for n in range(len(ids) + 1):
        state = automaton.states(Prefixes(rows, np.array([n]), NUMPY))
        for row in range(2):
            expected = 0
            for token in rows[0, row, :n].tolist():
                expected = automaton.table[expected, token].item()
            assert state[0, row] == expected


@pytest.mark.parametrize("tokenizer", tokenizers.values(), ids=tokenizers)
@pytest.mark.parametrize("word", ["naïf", "ça", "日本", "a\U0001f600b"])
def test_words_can_contain_characters_without_a_piece(tokenizer, word):
    assert not set(word) <= set("".join(filter(None, tokenizer.list_pieces())))
    automata = plan(tokenizer, must_include=(word,))
    for text, found in ((f"a {word}", True), (f"a {word}s", False), (f"{word}, too", True)):
        ids = tokenizer.encode(text)[:-1]
        assert allows(automata, ids) is found
        assert allows(plan(tokenizer, banned=(word,)), ids) is (word not in text)
    assert not allows(automata, tokenizer.encode(f"a {word}")[:-2])
    assert not allows(automata, tokenizer.encode("a naif")[:-1])


def test_words_without_pieces_and_bytes_are_rejected():
    class Bare:
        ends, silent, suppressed = (EOS,), (), ()

        def list_pieces(self):
            return [None, None, None, None, " a", " dog"]

        def encode(self, text):
            return [UNK, EOS]

    with pytest.raises(CaptionerError, match="'cat'"):
        build_constraints(DecodingConfig(must_include=("cat",)), Bare(), lowercase=True)


def test_default_options_have_no_constraints():
    found = build_constraints(DecodingConfig(), tokenizers["bpe"], lowercase=True)
    assert found.rules == found.required == ()


@pytest.mark.parametrize("tokenizer", tokenizers.values(), ids=tokenizers)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"must_include": ("a dog",)}, "must_include: 'a dog'"),
        ({"must_include": ("red ball", "a hot-dog|dog's ball")}, "a hot-dog|dog's ball"),
        ({"prefix": "A dog runs"}, "prefix: 'A dog runs'"),
    ],
)
def test_words_that_contain_banned_ones_are_rejected(tokenizer, options, named):
    for banned in ("dog",), ("truck", "Dog"):
        with pytest.raises(CaptionerError) as caught:
            plan(tokenizer, banned=banned, **options)
        assert named in str(caught.value)
        assert repr(banned[-1]) in str(caught.value)
    plan(tokenizer, banned=("do", "gs"), **options)


def test_words_are_allowed_that_only_begin_like_banned_ones():
    plan(tokenizers["bpe"], banned=("dog", "red balls"), must_include=("doggy|dog", "red ball"))


@pytest.mark.parametrize("options", [{"prefix": "a dog"}, {"must_include": ("dog",)}])
def test_words_of_suppressed_tokens_are_rejected(options, monkeypatch):
    tokenizer = tokenizers["bpe"]
    pieces = tokenizer.list_pieces()
    suppressed = tuple(i for i, piece in enumerate(pieces) if piece and "d" in piece.lower())
    monkeypatch.setattr(Tokenizer, "suppressed", suppressed)
    with pytest.raises(CaptionerError, match=r"dog' cannot be generated with the tokens"):
        build_constraints(DecodingConfig(**options), tokenizer, lowercase=True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"must_include": ("...",)}, "must_include"),
        ({"must_include": ("dog|",)}, "must_include"),
        ({"banned": (" ",)}, "banned"),
        ({"prefix": "!"}, "prefix"),
        ({"must_include": ("a\ud800",), "max_length": 3}, "max_length=3"),
        ({"must_include": ("fire truck",) * 9, "max_length": 12}, "max_length=12"),
    ],
)
def test_impossible_words_are_rejected(options, named):
    with pytest.raises(CaptionerError, match=named):
        build_constraints(DecodingConfig(**options), tokenizers["bpe"], lowercase=True)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"top_k": 3}, "top_k"),
        ({"temperature": 0.5}, "temperature"),
        ({"seed": 1}, "seed"),
        ({"method": "sample", "groups": 5, "diversity": 1.0}, "groups"),
        ({"method": "sample", "must_include": ("a",)}, "must_include"),
        ({"groups": 5}, "diversity"),
        ({"diversity": 0.5}, "groups"),
        ({"groups": 2, "diversity": 0.5}, "beam_size=5"),
        ({"min_length": 30}, "min_length"),
        ({"must_include": ("Dog",), "banned": ("dog ",)}, "'Dog'"),
        ({"method": "sample", "temperature": 0.0}, "temperature"),
        ({"method": "sample", "top_p": 0.0}, "top_p"),
        ({"method": "sample", "min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0.5}, "repetition_penalty"),
        ({"length_penalty": 1e300}, "length_penalty"),
        ({"length_penalty": -11.0}, "length_penalty"),
    ],
)
def test_conflicting_options_are_rejected(options, named):
    with pytest.raises(ConfigError, match=named):
        DecodingConfig(**options)
