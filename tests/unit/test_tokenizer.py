"""Encoding and decoding: exact for any Unicode text, without special ids from text."""

from __future__ import annotations

import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from captioner.errors import CheckpointError, ConfigError
from captioner.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

ROOT = Path(__file__).parents[2]
WORDS = [
    "a",
    "the",
    "dog",
    "cat",
    "runs",
    "sits",
    "on",
    "in",
    "grass",
    "sand",
    "red",
    "blue",
    "man",
    "woman",
    "with",
    "ball",
    "jumps",
    "over",
]


def texts(count: int = 400) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))) for _ in range(count)]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def tokenizer(request) -> Tokenizer:
    return Tokenizer.train(texts(), vocab_size=340, kind=request.param)


def check_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids[-1] == EOS
    assert not {PAD, UNK, BOS, EOS} & set(ids[:-1])
    assert all(0 <= i < len(tokenizer) for i in ids)
    assert tokenizer.decode(ids) == text


UNICODE = st.text(st.characters(exclude_categories=["Cs"]))
# Characters of the escapes and of SentencePiece's own space.
CLOSE = st.lists(st.sampled_from(["\u2581", "\x1a", "0", "1", " ", "a", "dog", "\n", "\0"])).map(
    "".join
)


@given(text=st.one_of(UNICODE, CLOSE))
@example(text="")
@example(text=" ")
@example(text="  two  spaces  ")
@example(text="\u2581")
@example(text="\x1a")
@example(text="\x1a1\x1a0\u25810")
@example(text="\0 a \0")
@example(text="\U0001f469\u200d\U0001f692 \U0001f3f3\ufe0f\u200d\U0001f308")
@example(text="e\u0301 \u00e9 \ufb01 \uff21 \u2460")
@example(text="\u0643\u0644\u0628 \u202e\u05db\u05dc\u05d1\u202c")
@example(text="a\r\nb\rc\nd\te\u2028f\u0085g\xa0h\u3000i\u200b")
@example(text="\ufeff\ufffd\ufffe\uffff")
@example(text="1234 567,890")
def test_any_text_is_decoded_exactly(tokenizer, text):
    check_round_trip(tokenizer, text)


@pytest.mark.parametrize(
    "text",
    ["</s>", "<s>", "<pad>", "<unk>", "a </s> b", "<0x41>", "</s></s>", "<s>a</s>", "\u2047"],
)
def test_text_like_special_pieces_is_plain_text(tokenizer, text):
    check_round_trip(tokenizer, text)


def test_special_pieces_in_training_text_are_plain_text():
    tokenizer = Tokenizer.train(["</s> <pad> <s> <unk> <0x41>"] * 50 + texts(), vocab_size=340)
    check_round_trip(tokenizer, "</s> <pad> a <s> <unk> <0x41>")


@pytest.mark.parametrize(
    ("text", "read"),
    [("\ud800", "\ufffd"), ("a\udfffb", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600")],
)
def test_lone_surrogates_become_replacement_character(tokenizer, text, read):
    assert tokenizer.decode(tokenizer.encode(text)) == read


def test_special_ids_are_distinct_and_not_decoded(tokenizer):
    assert len({PAD, UNK, BOS, EOS}) == 4
    assert tokenizer.decode([BOS, PAD, *tokenizer.encode("a dog")]) == "a dog"


def test_decoding_stops_at_eos(tokenizer):
    ids = tokenizer.encode("a dog")
    assert tokenizer.decode([*ids, *tokenizer.encode("a cat"), PAD]) == "a dog"
    assert tokenizer.decode([EOS, 300]) == ""
    assert tokenizer.decode([]) == ""


@given(text=UNICODE, length=st.integers(1, 12))
def test_truncated_text_ends_in_eos(tokenizer, text, length):
    whole, cut = tokenizer.encode(text), tokenizer.encode(text, max_length=length)
    assert len(cut) <= min(len(whole), length)
    assert cut[-1] == EOS
    assert cut[:-1] == whole[: len(cut) - 1]
    # Shorter than the limit only if it would end inside a character.
    if len(cut) < min(len(whole), length):
        longer = tokenizer.decode(whole[: len(cut)])
        following = tokenizer.decode(whole)[len(longer) : len(longer) + 1]
        inside = not tokenizer.decode(whole).startswith(longer)
        assert inside or longer.endswith("\u200d") or unicodedata.category(following)[0] in "MCS"


def test_training_is_deterministic():
    one, two = (Tokenizer.train(iter(texts()), vocab_size=340) for _ in range(2))
    assert one.model == two.model


def test_training_does_not_depend_on_hash_seed():
    code = (
        "import random, hashlib; from captioner.tokenizer import Tokenizer;"
        f"rng = random.Random(0); words = {WORDS!r};"
        "texts = [' '.join(rng.choices(words, k=rng.randint(3, 9))) for _ in range(400)];"
        "print(hashlib.sha256(Tokenizer.train(texts, vocab_size=340).model).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_few_texts_give_smaller_vocabulary():
    tokenizer = Tokenizer.train(["a dog"], vocab_size=4000)
    assert 260 < len(tokenizer) < 300
    check_round_trip(tokenizer, "a cat")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_error_of_small_vocabulary_names_key(kind):
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size=100") as caught:
        Tokenizer.train(texts(), vocab_size=100, kind=kind)
    assert "\n" not in str(caught.value)


def test_error_without_texts_names_key():
    with pytest.raises(ConfigError, match=r"tokenizer\.vocab_size"):
        Tokenizer.train([], vocab_size=400)


def test_long_and_unusual_texts_are_used_in_training():
    odd = ["dog " * 3000, "\0nul", "line\nbreak", "\u2581 \x1a", "\ud800", "\U0001f600"]
    tokenizer = Tokenizer.train(odd + texts(), vocab_size=350)
    for text in odd[1:4]:
        check_round_trip(tokenizer, text)


def test_saved_tokenizer_is_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = Tokenizer.load(tmp_path / "tokenizer.model")
    assert loaded.model == tokenizer.model
    assert len(loaded) == len(tokenizer)
    assert loaded.encode("a dog \u2581") == tokenizer.encode("a dog \u2581")


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "torn"])
def test_broken_tokenizer_file_is_named(kind, tokenizer, tmp_path):
    path = tmp_path / "tokenizer.model"
    if kind != "missing":
        found = {"empty": b"", "text": b"no model at all", "torn": tokenizer.model[:-200]}
        path.write_bytes(found[kind])
    with pytest.raises(CheckpointError, match=r"tokenizer\.model") as caught:
        Tokenizer.load(path)
    assert "\n" not in str(caught.value)


def test_model_with_other_special_ids_is_an_error(tmp_path):
    import io

    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(texts()),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "theirs.model"
    path.write_bytes(model.getvalue())
    with pytest.raises(CheckpointError, match=r"theirs\.model.*pad, unk, bos, eos"):
        Tokenizer.load(path)


LONG = [
    "a dog 🐶🐶🐶 runs",
    "кошка сидит на столе",
    "一只狗在草地上奔跑" * 2,
    "كلب يجري على العشب",
    "e\u0301te\u0301 a\u030a n\u0303",
    "👩\u200d👩\u200d👧 family \u270b\U0001f3fd hand 1\ufe0f\u20e3",
    "\u2581 and \x1a are escaped \u2581\u2581",
    "half \ud800 surrogate",
]


@pytest.mark.parametrize("text", LONG)
def test_text_is_not_truncated_inside_character(text):
    small = Tokenizer.train(["a dog runs on the grass", "two cats sit"] * 20, vocab_size=300)
    whole = small.encode(text)
    kept = small.decode(whole)
    for length in range(1, len(whole) + 2):
        ids = small.encode(text, max_length=length)
        assert len(ids) <= length
        assert ids[-1] == EOS
        found = small.decode(ids)
        assert kept.startswith(found)
        following = kept[len(found) : len(found) + 1]
        assert not (found and following and unicodedata.combining(following))
        assert not found.endswith("\u200d") or found == kept
        assert following not in ("\u200d", "\ufe0f", "\u20e3", "\U0001f3fd")
        if length > len(whole):
            assert ids == whole


def test_bytes_are_counted():
    small = Tokenizer.train(["a dog runs on the grass", "two cats sit"] * 20, vocab_size=300)
    assert small.count_bytes(small.encode("a dog runs")) == 0
    assert small.count_bytes(small.encode("狗")) == 3
