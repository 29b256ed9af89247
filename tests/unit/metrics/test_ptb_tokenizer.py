"""The tokenizer: equality with the Java tokenizer, and invariants."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from captioner.metrics import ptb_tokenizer
from captioner.metrics.ptb_tokenizer import tokenize

CASES = Path(__file__).parents[2] / "data" / "ptb_cases.jsonl"
CAPTIONS = Path(__file__).parents[4] / "shared/flickr8k/Flickr8k_text/Flickr8k.token.txt"
LINE_ENDS = re.compile(r"[\n\v\f\r\x85\u2028\u2029]+")
ALPHABET = (
    " abcnost'  .,-!?/&():;\"0159_@#$%<>[]{}\\|~^*+=\u2019\u201c\xe9\u0301\xad\u2028\r\t\U0001f600"
)


def java_tokens(texts: list[str]) -> list[list[str]]:
    """Return the tokens of pycocoevalcap; a line between two texts separates their contexts."""
    if shutil.which("java") is None:
        pytest.skip("no java on the PATH")
    name = "pycocoevalcap.tokenizer.ptbtokenizer"
    module = pytest.importorskip(name, reason="pycocoevalcap is not installed")
    lines = [line for text in texts for line in (LINE_ENDS.sub(" ", text), "the")]
    made = module.PTBTokenizer().tokenize({0: [{"caption": line} for line in lines]})[0]
    return [line.split() for line in made[::2]]


def random_texts(count: int, *, length: int = 30, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(ALPHABET, k=draw.randint(0, length))) for _ in range(count)]


@pytest.fixture(scope="module")
def cases() -> list[dict]:
    return [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]


def test_hard_cases(cases: list[dict]) -> None:
    assert len(cases) > 100
    wrong = [(c["text"], tokenize(c["text"]), c["tokens"]) for c in cases]
    assert [w for w in wrong if w[1] != w[2]] == []


def test_hard_cases_equal_java(cases: list[dict]) -> None:
    assert java_tokens([c["text"] for c in cases]) == [c["tokens"] for c in cases]


@pytest.mark.slow
def test_agrees_with_java_on_flickr8k() -> None:
    if not CAPTIONS.exists():
        pytest.skip(f"no Flickr8k captions at {CAPTIONS.name} beside the repository")
    lines = CAPTIONS.read_text(encoding="utf-8").split("\n")
    captions = [line.split("\t", 1)[1] for line in lines if line]
    assert len(captions) == 35_000
    agree = sum(tokenize(c) == j for c, j in zip(captions, java_tokens(captions), strict=True))
    assert agree / len(captions) >= 0.999


def test_agrees_with_java_on_random_characters() -> None:
    texts = [text for text in random_texts(3000, length=8, seed=1) if text.strip()]
    pairs = zip(texts, java_tokens(texts), strict=True)
    assert sum(tokenize(text) == java for text, java in pairs) / len(texts) >= 0.99


def test_cached_chunks_equal_a_whole_scan() -> None:
    for text in random_texts(2000, seed=2):
        assert tokenize(text) == ptb_tokenizer._scan(text)


def test_second_call_returns_a_new_equal_list() -> None:
    for text in ["A dog's ball.", "don't", "plain words"]:
        first = tokenize(text)
        first.append("spoiled")
        assert tokenize(text) == first[:-1]


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptb_tokenizer, "_MAX_CACHED", 10)
    monkeypatch.setattr(ptb_tokenizer, "_cache", {})
    for i in range(500):
        tokenize("x" * (i % 50) + "y")
        assert len(ptb_tokenizer._cache) <= 10


def test_tokens_are_lower_case_words_without_spaces_or_punctuation() -> None:
    for text in random_texts(2000, seed=3):
        for token in tokenize(text.upper()):
            assert token
            assert token == token.lower()
            assert token.split() == [token]
            assert token not in {
                "''",
                "'",
                "``",
                "`",
                ".",
                "?",
                "!",
                ",",
                ":",
                "-",
                "--",
                "...",
                ";",
            }


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x85", "\v", "\f"])
def test_line_end_inside_a_caption_is_a_space(end: str) -> None:
    text = "No.{}5 dogs' toys on plan b.{}The end, it's{}here".replace("{}", "{0}")
    assert tokenize(text.format(end)) == tokenize(text.format(" "))


@pytest.mark.parametrize("part", ["a", "a.", "a@", "a'", "1,", "<a ", "a.b-", "&", "http://", "é'"])
def test_time_is_not_exponential_in_the_length(part: str) -> None:
    start = time.process_time()
    tokenize(part * 1500)
    assert time.process_time() - start < 5
