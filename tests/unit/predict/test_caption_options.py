"""Decoding options, by the Python API and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import make_checkpoint, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.config import DecodingConfig
from captioner.data.collate import pad
from captioner.errors import CaptionerError, ConfigError, ImageError, QuestionError
from captioner.generation.answers import search_answers
from captioner.generation.captions import draw_captions, search_captions
from captioner.predict import Captioner, Scored
from captioner.predict.texts import encode_question
from captioner.tokenizer import PAD


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("decoding") / "best")


@pytest.fixture(scope="session")
def model(folder) -> Captioner:
    return captioner.load(folder)


@pytest.fixture(scope="session")
def vqa_model(tmp_path_factory) -> Captioner:
    return captioner.load(make_vqa_checkpoint(tmp_path_factory.mktemp("vqa") / "best"))


def best(model: Captioner, number: int, **options) -> str:
    return model.caption(picture(number), max_length=12, **options)[0].text


# Words


@pytest.mark.parametrize("beam_size", [1, 3, 8])
@pytest.mark.parametrize("words", [["dog"], ["pink|brown"], ["boat", "red dog"], "window"])
def test_captions_contain_required_words(model, words, beam_size):
    for number in range(3):
        text = best(model, number, must_include=words, beam_size=beam_size)
        for phrase in [words] if isinstance(words, str) else words:
            assert any(f" {one} " in f" {text} " for one in phrase.split("|"))


def test_captions_contain_no_banned_word(model):
    for number in range(3):
        words = best(model, number).split()
        for word in set(words):
            assert word not in best(model, number, banned=[word]).split()
        none = best(model, number, banned=sorted(set(words)))
        assert not set(words) & set(none.split())


def test_captions_begin_with_the_prefix(model):
    for prefix in ("a pink", "A Brown Dog by", "the window"):
        assert f"{best(model, 0, prefix=prefix)} ".startswith(f"{prefix.lower()} ")


def test_no_dangling_forbids_dangling_last_words(model):
    options = {"num_captions": 3, "max_length": 12}
    for result in model.caption([picture(i) for i in range(4)], no_dangling=True, **options):
        assert all(c.text.split()[-1] not in ("a", "by", "the") for c in result.captions)


def test_unsatisfiable_options_give_an_error_result(model):
    """All words are banned except for some with which a caption cannot end."""
    words = [
        piece.strip()
        for piece in model.tokenizer.list_pieces()
        if piece and piece.strip().isalnum()
    ]
    found = model.caption(
        [picture(0), b"", picture(1)], banned=words, min_length=5, no_repeat_ngram=1, max_length=12
    )
    assert isinstance(found[1].error, ImageError)
    for result in (found[0], found[2]):
        assert result.error is None or "no caption" in str(result.error)


def test_constraints_are_cached(model):
    first = best(model, 0, must_include=["dog"])
    hits = model._constraints.cache_info().hits
    assert best(model, 0, must_include=["dog"]) == first
    assert model._constraints.cache_info().hits == hits + 1


# Sampling


def test_samples_depend_on_seed_and_image_place_only(model):
    images = [picture(i) for i in range(5)]
    options = {"method": "sample", "num_captions": 3, "temperature": 2.0}

    def draw(**more):
        results = model.caption(images, **(options | more))
        return [[c.text for c in result.captions] for result in results]

    first = draw(seed=1)
    assert [len(texts) for texts in first] == [3] * 5
    assert draw(seed=1) == draw(seed=1, batch_size=2) == first
    assert draw(seed=2) != first
    assert [[texts[0]] for texts in first] == draw(seed=1, num_captions=1)
    # The same image at another index gets other samples.
    same = model.caption([images[0]] * 9, **options)
    assert len({result.text for result in same}) > 2


def test_sampling_the_best_token_is_greedy_search(model):
    for number in range(3):
        greedy = best(model, number, beam_size=1)
        assert best(model, number, method="sample", top_k=1) == greedy
        assert best(model, number, method="sample", min_p=1.0) == greedy
        assert best(model, number, method="sample", temperature=1e-4) == greedy


def test_the_score_of_a_sample_ignores_the_sampling_options(model):
    """The score does not depend on temperature, top_p or min_p."""
    memory = model.encode(picture(1)).memory
    config = DecodingConfig(
        method="sample", max_length=12, temperature=1.5, top_p=0.95, min_p=0.01, seed=3
    )
    [found] = draw_captions(model.backend, [memory], config, rows=5)
    assert len({tuple(h.tokens) for h in found}) > 2
    for h in found:
        logprob = model.backend.score([memory], np.array([[h.tokens]])).sum()
        assert h.logprob == pytest.approx(logprob, abs=1e-3)


# Streaming


def test_a_stream_yields_the_greedy_caption(model):
    for number in range(3):
        pieces = list(model.stream(picture(number)))
        assert len(pieces) > 2
        assert "".join(pieces) == model.caption(picture(number), beam_size=1)[0].text


def test_a_stream_can_be_sampled_and_constrained(model):
    options = {"method": "sample", "temperature": 2.0, "seed": 7}
    expected = model.caption(picture(0), **options)[0].text
    assert "".join(model.stream(picture(0), **options)) == expected
    assert "dog" in "".join(model.stream(picture(0), must_include=["dog"], max_length=12)).split()


IMPOSSIBLE = {"no_repeat_ngram": 1, "prefix": "a dog a", "max_length": 12}


def test_a_stream_without_a_possible_text_is_an_error(model):
    (result,) = model.caption([picture(0)], **IMPOSSIBLE)
    with pytest.raises(CaptionerError, match="no caption of at most 12 tokens"):
        result.best  # noqa: B018
    pieces = []
    with pytest.raises(CaptionerError, match="no text of at most 12 tokens satisfies all options"):
        pieces.extend(model.stream(picture(0), **IMPOSSIBLE))
    with pytest.raises(CaptionerError, match="no text of at most 12 tokens"):
        list(model.stream(picture(0), method="sample", **IMPOSSIBLE))


def test_an_answer_can_be_streamed(vqa_model):
    for number, question in enumerate(QUESTIONS[:3]):
        expected = vqa_model.ask(picture(number), question, beam_size=1).text
        assert "".join(vqa_model.stream(picture(number), question=question)).strip() == expected


def test_characters_of_several_tokens_are_one_piece(model, monkeypatch):
    ids = model.tokenizer.encode("é ☂ dog")[:-1]
    assert len(ids) > 5
    stream_tokens = "captioner.predict.captioner.stream_tokens"
    monkeypatch.setattr(stream_tokens, lambda *args, **options: iter(ids))
    pieces = list(model.stream(picture(0)))
    assert "".join(pieces) == "é ☂ dog"
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("options", [{"beam_size": 2}, {"groups": 3, "diversity": 1.0}])
def test_beams_cannot_be_streamed(model, options):
    with pytest.raises(CaptionerError):
        list(model.stream(picture(0), **options))


# Scores of given texts


@pytest.mark.parametrize("beam_size", [1, 4])
def test_score_texts_agrees_with_the_search(model, beam_size):
    config = DecodingConfig(beam_size=beam_size, max_length=12)
    for number in range(3):
        memory = model.encode(picture(number)).memory
        [found] = search_captions(model.backend, [memory], config)
        tokens = pad([h.tokens for h in found], PAD)[None].numpy()
        logprobs = model.backend.score([memory], tokens)
        assert (logprobs[tokens == PAD] == 0).all()
        assert logprobs.sum(-1)[0].tolist() == pytest.approx([h.logprob for h in found], abs=1e-3)


def test_the_score_of_a_text_is_the_score_of_its_tokens(model):
    text = " A Dog ."
    [scored] = model.score(picture(2), [text])
    tokens = model.tokenizer.encode("a dog")
    memory = model.encode(picture(2)).memory
    logprob = model.backend.score([memory], np.array([[tokens]])).sum()
    assert scored == Scored(text, pytest.approx(logprob), pytest.approx(logprob / len(tokens)))


def test_texts_are_scored_independently_and_in_order(model):
    texts = ["a dog", "a boat", "a dog", "Red."]
    together = model.score(picture(0), texts)
    assert [scored.text for scored in together] == texts
    assert together[0] == together[2]
    for text, scored in zip(texts, together, strict=True):
        [alone] = model.score(model.encode(picture(0)), [text])
        assert alone.logprob == pytest.approx(scored.logprob, abs=1e-4)
    assert model.score(picture(0), []) == []


def test_the_score_of_an_answer_is_its_confidence(vqa_model):
    """Both use the temperature of the checkpoint."""
    for number, question in enumerate(QUESTIONS[:3]):
        answers = ["red", "a boat", "no"]
        found = vqa_model.score(picture(number), answers, question=question)
        memory, temperature = vqa_model._memory(picture(number), question)
        assert temperature == vqa_model.config.answers.temperature
        ids = encode_question(question, tokenizer=vqa_model.tokenizer, config=vqa_model.config)
        memories = vqa_model.backend.encode_questions(
            [vqa_model.encode(picture(number)).memory], [ids], [0]
        )
        [best] = search_answers(vqa_model.backend, memories, vqa_model.config.answers)
        tokens = np.array([[best[0].tokens]])
        logprob = vqa_model.backend.score([memory], tokens, temperature=temperature).sum()
        assert best[0].logprob == pytest.approx(logprob, abs=1e-3)
        assert all(s.logprob <= logprob + 1e-3 for s in found)
        plain = vqa_model.score(picture(number), answers)
        assert [s.logprob for s in plain] != [s.logprob for s in found]


@pytest.mark.parametrize(
    ("texts", "expected_message"),
    [
        ("a dog", "list"),
        ([""], "no words"),
        (["dog " * 40], "tokens"),
        ([3], "text"),
        (["\ud800"], "UTF-8"),
    ],
)
def test_unusable_texts_are_rejected(model, texts, expected_message):
    with pytest.raises(CaptionerError, match=expected_message):
        model.score(picture(0), texts)


def test_unusable_questions_and_images_of_score_are_rejected(model, vqa_model):
    with pytest.raises(CaptionerError, match="captions only"):
        model.score(picture(0), ["red"], question="what colour?")
    with pytest.raises(QuestionError):
        vqa_model.score(picture(0), ["red"], question=" ")
    with pytest.raises(ImageError):
        vqa_model.score(b"", ["red"])


# Options


@pytest.mark.parametrize(
    ("options", "error", "expected_message"),
    [
        ({"beam_sise": 3}, ConfigError, "beam_size"),
        ({"beam_size": "many"}, ConfigError, "beam_size"),
        ({"method": "guess"}, ConfigError, "method"),
        ({"method": "sample", "beam_size": 3}, CaptionerError, "beam_size"),
        ({"top_k": 4}, ConfigError, "top_k"),
        ({"groups": 2, "diversity": 0.5}, ConfigError, "beam_size"),
        ({"must_include": ["dog"], "banned": ["dog"]}, ConfigError, "dog"),
        ({"must_include": ["dog"] * 9}, CaptionerError, "max_length"),
        ({"must_include": [" "]}, CaptionerError, "must_include"),
        ({"max_length": 13}, CaptionerError, "12"),
    ],
)
def test_unusable_options_are_rejected(model, options, error, expected_message):
    with pytest.raises(error, match=expected_message):
        model.caption(picture(0), **options)


# The command line


@pytest.fixture(scope="session")
def checkpoint(folder) -> str:
    return str(folder)


def test_flags_equal_the_options_of_the_api(run, photos, model):
    path = photos / "0.png"
    for words, options in (
        (["--must-include", "dog|boat", "--must-include", "pink"],
         {"must_include": ["dog|boat", "pink"]}),
        (["--ban", "red", "--prefix", "a dog"], {"banned": ["red"], "prefix": "a dog"}),
        (["--sample", "--top-p", "0.9", "--seed", "4"],
         {"method": "sample", "top_p": 0.9, "seed": 4}),
        (["--min-length", "6", "--length-form", "gnmt", "--no-dangling"],
         {"min_length": 6, "length_form": "gnmt", "no_dangling": True}),
        (["--no-repeat-ngram", "2", "--repetition-penalty", "1.2", "--length-penalty", "0.3"],
         {"no_repeat_ngram": 2, "repetition_penalty": 1.2, "length_penalty": 0.3}),
    ):  # fmt: skip
        expected = model.caption(path, **options)[0].text
        assert run(path, *words) == (0, [expected], "")


def test_beams_are_widened_to_a_multiple_of_groups(run, photos, model):
    status, out, err = run(photos / "0.png", "--groups", "2", "--diversity", "1")
    options = {"groups": 2, "diversity": 1.0, "beam_size": 4}
    assert (status, out, err) == (0, [model.caption(photos / "0.png", **options)[0].text], "")


def test_scored_texts_are_printed_best_first(run, photos, model):
    texts = ["a dog", "a boat", "red"]
    words = [word for text in texts for word in ("--score", text)]
    status, out, err = run(photos / "0.png", *words)
    assert (status, err) == (0, "")
    found = sorted(model.score(photos / "0.png", texts), key=lambda s: -s.score)
    assert out == [f"{s.score:.4f}\t{s.text}" for s in found]
    status, out, _ = run(photos / "0.png", photos / "missing.png", *words, "--jsonl")
    assert status == 3
    first, second = map(json.loads, out)
    assert [row["text"] for row in first["scores"]] == [s.text for s in found]
    assert "error" in second


def test_a_score_of_an_impossible_text_is_null_in_json(run, photos, monkeypatch):
    """Models may suppress the tokens of a text."""
    scores = [Scored("a", float("-inf"), float("-inf"))]
    monkeypatch.setattr(Captioner, "score", lambda *args, **options: scores)
    status, (line,), _ = run(photos / "0.png", "--score", "a", "--jsonl")
    row = json.loads(line, parse_constant=pytest.fail)
    assert (status, row["scores"]) == (0, [{"text": "a", "logprob": None, "score": None}])


def test_streamed_captions_are_printed(run, photos, model):
    paths = [photos / "0.png", photos / "1.png"]
    greedy = [model.caption(path, beam_size=1)[0].text for path in paths]
    assert run(paths[0], "--stream") == (0, [greedy[0]], "")
    expected = [f"{path}\t{text}" for path, text in zip(paths, greedy, strict=True)]
    assert run(*paths, "--stream") == (0, expected, "")


def test_a_streamed_caption_that_cannot_end_is_an_error(run, photos):
    paths = photos / "0.png", photos / "1.png"
    words = "--stream", "--no-repeat-ngram", 1, "--prefix", "a dog a", "--max-length", 12
    status, out, err = run(*paths, *words)
    assert status == 1
    assert err.count("no text of at most 12 tokens satisfies all options") == 2
    assert [line.split("\t") for line in out] == [[str(path), "a dog"] for path in paths]


@pytest.mark.parametrize(
    ("words", "expected_message"),
    [
        (["--top-k", "3"], "--sample"),
        (["--sample", "--beam-size", "3"], "--beam-size"),
        (["--sample", "--must-include", "dog"], "--must-include"),
        (["--groups", "2"], "--diversity"),
        (["--question", "what?", "--prefix", "a"], "--prefix"),
        (["--score", "a dog", "--stream"], "--stream"),
        (["--score", "a dog", "--num-captions", "2"], "--num-captions"),
        (["--score", "a dog", "--ban", "cat"], "--score"),
        (["--stream", "--jsonl"], "--jsonl"),
        (["--stream", "--question", "a?", "--question", "b?"], "--question"),
        (["--stream", "--ask"], "--ask"),
    ],
)
def test_conflicting_flags_are_rejected(run, photos, words, expected_message, capsys):
    with pytest.raises(SystemExit) as caught:
        run(photos / "0.png", *words)
    assert caught.value.code == 2
    assert expected_message in capsys.readouterr().err
