"""VQA accuracy: worked cases of the published rules, and a second implementation."""

from __future__ import annotations

import hashlib
import itertools
import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import MetricError
from captioner.metrics import (
    exact_match,
    normalize_answer,
    vqa_accuracy,
)
from captioner.metrics._vqa import CONTRACTIONS

# A candidate, the number of people per answer, and the accuracy by the rules. Of ten answers, one
# match is worth (1*0 + 9*1/3) / 10 = 0.3, two (2*1/3 + 8*2/3) / 10 = 0.6, three 0.9, four 1.
COUNTING = [
    ("yes", {"yes": 10}, 1),
    ("no", {"yes": 10}, 0),
    ("no", {"yes": 9, "no": 1}, 0.3),
    ("no", {"yes": 8, "no": 2}, 0.6),
    ("no", {"yes": 7, "no": 3}, 0.9),
    ("no", {"yes": 6, "no": 4}, 1),
    ("yes", {"yes": 6, "no": 4}, 1),
    ("maybe", {"yes": 6, "no": 4}, 0),
    ("cat", {"cat": 1}, 0),
    ("cat", {"cat": 2}, 1 / 3),
    ("cat", {"cat": 3}, 2 / 3),
    ("cat", {"cat": 4}, 1),
    ("cat", {"cat": 1, "dog": 1}, 1 / 6),
    ("cat", {"cat": 2, "dog": 1}, 4 / 9),
    ("cat", {"cat": 3, "dog": 2}, 4 / 5),
    ("cat", {"cat": 1, "dog": 4}, 4 / 15),
]
# Nothing is normalized if all answers are equal after white space has been removed.
AGREEMENT = [
    ("yes", {"Yes": 10}, 0),
    ("Yes", {"Yes": 10}, 1),
    ("yes", {"Yes": 9, "yes": 1}, 1),
    ("Yes.", {"yes": 10}, 0),
    ("Yes.", {"yes": 9, "no": 1}, 1),
    ("2", {"two": 10}, 0),
    ("2", {"two": 9, "too": 1}, 1),
    ("the dog", {"dog": 10}, 0),
    ("the dog", {"dog": 2, "cat": 8}, 0.6),
    ("A", {"a": 10}, 0),
    (" yes\n", {"yes": 10}, 1),
    ("yes", {"yes\t": 5, "\nyes": 5}, 1),
    ("Yes", {"yes\t": 5, "\nyes": 5}, 0),
    ("hot\ndog", {"hot\tdog": 10}, 1),
    ("hot  dog", {"hot dog": 10}, 0),
    ("hot  dog", {"hot dog": 9, "x": 1}, 1),
]
WORDS = [
    ("none", {"0": 3, "1": 7}, 0.9),
    ("zero", {"none": 1, "1": 9}, 0.3),
    ("ten", {"10": 2, "9": 8}, 0.6),
    ("One", {"1": 4, "2": 6}, 1),
    ("eleven", {"11": 9, "1": 1}, 0),
    ("twenty one", {"twenty 1": 2, "x": 8}, 0.6),
    ("one-way", {"1 way": 2, "x": 8}, 0.6),
    ("a man", {"The man": 2, "woman": 8}, 0.6),
    ("a", {"the": 2, "b": 8}, 0.6),
    ("", {"an": 1, "b": 9}, 0.3),
    ("theatre", {"a theatre": 2, "atre": 1, "x": 7}, 0.6),
]
FULL_STOPS = [
    ("st. louis", {"st louis": 2, "x": 8}, 0.6),
    ("a.m.", {"am": 2, "x": 8}, 0.6),
    ("3.5", {"35": 2, "3.5": 1, "x": 7}, 0.3),
    ("v.2", {"v2": 2, "v.2": 1, "x": 7}, 0.3),
    ("5.", {"5": 2, "x": 8}, 0.6),
    ("3.b", {"3b": 2, "x": 8}, 0.6),
    ("..5", {".5": 2, "x": 8}, 0.6),
    ("...", {"the": 2, "x": 8}, 0.6),
    ("." * 33, {"." * 32: 2, "." * 33: 1, "x": 7}, 0.3),
]
PUNCTUATION = [
    ("ping-pong", {"ping pong": 2, "x": 8}, 0.6),
    ("ping-pong", {"pingpong": 2, "x": 8}, 0),
    ("ping- pong", {"ping pong": 2, "x": 8}, 0.6),
    ("ping -pong", {"ping pong": 2, "x": 8}, 0.6),
    ("t-shirt - red", {"tshirt red": 2, "t shirt red": 1, "x": 7}, 0.6),
    ("t-shirt- red", {"tshirt red": 2, "t shirt red": 1, "x": 7}, 0.6),
    ("t-shirt, red", {"tshirt red": 1, "t shirt red": 2, "x": 7}, 0.6),
    ("x-y\u00a0-z", {"x y z": 2, "xy z": 1, "x": 7}, 0.6),
    ("red\t,green,blue", {"red greenblue": 2, "red green blue": 1, "x": 7}, 0.6),
    ("black/white", {"black white": 2, "x": 8}, 0.6),
    ("black / white", {"black white": 2, "x": 8}, 0.6),
    ("red,blue", {"red blue": 2, "x": 8}, 0.6),
    ("red;blue", {"red blue": 2, "x": 8}, 0.6),
    ("no!yes?", {"no yes": 2, "x": 8}, 0.6),
    ("(left)", {"left": 2, "x": 8}, 0.6),
    ("the [left] one", {"left 1": 2, "x": 8}, 0.6),
    ('"stop"', {"stop": 2, "x": 8}, 0.6),
    ("`stop`", {"stop": 2, "x": 8}, 0.6),
    ("fire_hydrant", {"fire hydrant": 2, "x": 8}, 0.6),
    ("left\\right", {"left right": 2, "x": 8}, 0.6),
    ("me@home", {"me home": 2, "x": 8}, 0.6),
    ("{[(<=+>)]}", {"a": 2, "x": 8}, 0.6),
    ("1,000", {"1000": 2, "1 000": 1, "x": 7}, 0.6),
    ("1,000-dollar", {"1000dollar": 2, "1000 dollar": 1, "x": 7}, 0.6),
    ("1,x-y", {"1 x y": 2, "1xy": 1, "x": 7}, 0.6),
    ("\u0661,\u0662-x", {"\u0661\u0662x": 2, "x": 8}, 0.6),
    ("10:30", {"10 30": 2, "10:30": 1, "x": 7}, 0.3),
    ("dog's", {"dogs": 2, "dog's": 1, "x": 7}, 0.3),
    ("50%", {"50": 2, "50%": 1, "x": 7}, 0.3),
    ("r&b", {"r b": 2, "r&b": 1, "x": 7}, 0.3),
    ("x*y", {"x y": 2, "x*y": 1, "z": 7}, 0.3),
]
APOSTROPHES = [
    ("dont", {"don't": 2, "x": 8}, 0.6),
    ("DONT", {"don't": 2, "x": 8}, 0.6),
    ("3 oclock.", {"three o'clock": 2, "x": 8}, 0.6),
    ("couldn'tve", {"couldnt've": 2, "x": 8}, 0.6),
    ("couldntve", {"couldn't've": 2, "couldntve": 1, "x": 7}, 0.3),
    ("its", {"it's": 2, "its": 1, "x": 7}, 0.3),
    ("shes", {"she's": 2, "shes": 1, "x": 7}, 0.3),
    ("let's", {"lets": 2, "let's": 1, "x": 7}, 0.3),
    ("Im", {"I'm": 2, "im": 1, "x": 7}, 0.3),
    ("Ive", {"I've": 2, "x": 8}, 0),
    ("somebody'd", {"somebodyd": 2, "x": 8}, 0.6),
    ("ow's'at", {"'ows'at": 2, "x": 8}, 0.6),
    ("y'all'dve", {"yall'd've": 2, "x": 8}, 0.6),
    ("don't", {"don\u2019t": 2, "dont": 1, "x": 7}, 0.3),
]
CASES = [*COUNTING, *AGREEMENT, *WORDS, *FULL_STOPS, *PUNCTUATION, *APOSTROPHES]


def repeat_answers(counts: dict[str, int]) -> list[str]:
    return [answer for answer, count in counts.items() for _ in range(count)]


@pytest.mark.parametrize(("candidate", "counts", "expected"), CASES)
def test_accuracy_matches_worked_examples(
    candidate: str, counts: dict[str, int], expected: float
) -> None:
    answers = repeat_answers(counts)
    assert vqa_accuracy(candidate, answers) == pytest.approx(expected, abs=1e-12)
    assert vqa_accuracy(candidate, answers[::-1]) == pytest.approx(expected, abs=1e-12)


def test_contractions_equal_the_official_table() -> None:
    """The digest is that of the table in GT-Vision-Lab/VQA at a013f00 (and in LAVIS 1.0.2)."""
    text = json.dumps(sorted(CONTRACTIONS.items()))
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "3e5960526f62912d3b70896069c43c13d7c21be38d50ca28efbb9095b499454f"


COUNTING_WORDS = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0"} | {word: f"{n}" for n, word in enumerate(COUNTING_WORDS.split())}


def by_the_rules(text: str) -> str:
    """The published rules character by character, as a check on the library's patterns."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    marks = set(';/[]"{}()=+\\_-><@`,?!')
    padded = f"x{text}x"
    triples = list(zip(padded, padded[1:], padded[2:], strict=False))
    deleted = {here for before, here, after in triples if " " in (before, after)}
    if any(b.isdecimal() and h == "," and a.isdecimal() for b, h, a in triples):
        deleted = marks
    out = [("" if char in deleted else " ") if char in marks else char for char in text]
    kept, removed = "", 0
    text = "".join(out)
    for i, char in enumerate(text):
        if char == "." and removed < 32 and not text[i + 1 : i + 2].isdecimal():
            removed += 1
        else:
            kept += char
    words = [NUMBERS.get(word, word) for word in kept.lower().split()]
    words = [word for word in words if word not in ("a", "an", "the")]
    return " ".join(CONTRACTIONS.get(word, word) for word in words)


def by_leaving_out(candidate: str, answers: list[str]) -> Fraction:
    """Compute the mean over all subsets that leave out one answer, in exact fractions."""
    answers = [a.replace("\n", " ").replace("\t", " ").strip() for a in answers]
    candidate = candidate.replace("\n", " ").replace("\t", " ").strip()
    if len(set(answers)) > 1:
        answers, candidate = [by_the_rules(a) for a in answers], by_the_rules(candidate)
    subsets = list(itertools.combinations(answers, len(answers) - 1))
    scores = [min(Fraction(1), Fraction(subset.count(candidate), 3)) for subset in subsets]
    return sum(scores, Fraction(0)) / len(scores)


PIECES = st.one_of(
    st.sampled_from(list(";/[]\"{}()=+\\_-><@`,?!.,.,':%&")),
    st.sampled_from([" ", "x-y", "- ", " -", "p,q", ", "]),
    st.sampled_from(["\n", "\t", "\u00a0", "\u2028", "\u0663", "\u00b2", "\u0130", "\u2019"]),
    st.sampled_from([*"0123456789", "1,000", "3.5", "." * 40]),
    st.sampled_from([*NUMBERS, "a", "an", "the", "The", "yes", "No", "red dog", "s"]),
    st.sampled_from([*CONTRACTIONS, *CONTRACTIONS.values()]),
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


@given(TEXTS)
def test_normalization_follows_the_rules_on_any_text(text: str) -> None:
    assert normalize_answer(text) == by_the_rules(text)


@given(st.data())
def test_accuracy_follows_the_rules_on_any_answers(data: st.DataObject) -> None:
    pool = data.draw(st.lists(TEXTS, min_size=1, max_size=4))
    pool += [change(text) for text in pool for change in (str.upper, "the {}.".format, str.title)]
    answers = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=12))
    candidate = data.draw(st.sampled_from(pool))
    score = vqa_accuracy(candidate, answers)
    assert score == pytest.approx(float(by_leaving_out(candidate, answers)), abs=1e-12)
    assert 0 <= score <= 1
    assert exact_match(candidate, answers) == (
        by_the_rules(candidate) in {by_the_rules(answer) for answer in answers}
    )


@pytest.mark.parametrize(
    ("candidate", "counts", "expected"),
    [
        ("yes", {"Yes": 10}, 1),
        ("yes!", {"yes": 10}, 1),
        ("two", {"2": 3, "3": 7}, 0.9),
        ("the cat", {"cat": 1}, 1),
        ("dog", {"cat": 1}, 0),
        ("cat", {"cat": 1, "dog": 1}, 1 / 2),
        ("cat", {"cat": 2, "dog": 1}, 2 / 3),
        ("cat", {"cat": 1, "dog": 3}, 1 / 4),
        ("cat", {"cat": 3, "dog": 2}, 4 / 5),
        ("cat", {"cat": 2}, 1),
    ],
)
def test_accuracy_with_normalization_of_all_answers(
    candidate: str, counts: dict[str, int], expected: float
) -> None:
    score = vqa_accuracy(candidate, repeat_answers(counts), strict_official=False)
    assert score == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.sampled_from(["yes", "no", "red"]), min_size=4, max_size=12))
def test_both_accuracies_agree_on_normalized_answers(answers: list[str]) -> None:
    for candidate in ("yes", "no", "red", "blue"):
        official = vqa_accuracy(candidate, answers)
        assert official == vqa_accuracy(candidate, answers, strict_official=False)


@pytest.mark.parametrize("answers", [[], (), "yes"])
@pytest.mark.parametrize("score", [vqa_accuracy, exact_match])
def test_answers_must_be_a_non_empty_list(score, answers) -> None:
    with pytest.raises(MetricError, match="expected a list"):
        score("yes", answers)
