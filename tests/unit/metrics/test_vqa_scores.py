"""Scores of sets of answers: by type, macro-F1, majority answers, types of questions."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_vqa_accuracy import by_the_rules

from captioner.errors import MetricError
from captioner.metrics import (
    AnswerGroup,
    answer_type,
    majority_answers,
    question_type,
    score_answers,
)

QUESTIONS = {
    1: ("Yes.", ["yes"] * 9 + ["no"], "is the", "yes/no"),
    2: ("no", ["yes"] * 8 + ["no"] * 2, "is the", "yes/no"),
    3: ("2", ["two"] * 10, "how many", "number"),
    4: ("red", ["blue"] * 10, "what color", "other"),
    5: ("a cat", ["cat"] * 7 + ["kitten"] * 3, "", "other"),
}


CANDIDATES = {i: row[0] for i, row in QUESTIONS.items()}


REFERENCES = {i: row[1] for i, row in QUESTIONS.items()}


def test_scores_of_a_data_set_and_its_types() -> None:
    types = {i: row[2] for i, row in QUESTIONS.items() if row[2]}
    kinds = {i: row[3] for i, row in QUESTIONS.items()}
    scores = score_answers(CANDIDATES, REFERENCES, question_types=types, answer_types=kinds)
    assert scores.count == 5
    assert scores.accuracy == pytest.approx((1 + 0.6 + 0 + 0 + 1) / 5)
    assert scores.exact_match == pytest.approx(4 / 5)
    assert scores.question_types == {
        "is the": pytest.approx(AnswerGroup(2, 0.8, 1.0)),
        "": AnswerGroup(1, 1.0, 1.0),
        "how many": AnswerGroup(1, 0.0, 1.0),
        "what color": AnswerGroup(1, 0.0, 0.0),
    }
    assert list(scores.question_types) == ["is the", "", "how many", "what color"]
    assert scores.answer_types["yes/no"] == scores.question_types["is the"]
    assert scores.answer_types["other"] == AnswerGroup(2, 0.5, 0.5)
    # yes: precision 1 of 1, recall 1 of 2. 2 and cat: 1. blue: 0.
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1 + 0 + 1) / 4)

    always = score_answers(CANDIDATES, REFERENCES, strict_official=False)
    assert always.accuracy == pytest.approx((1 + 0.6 + 1 + 0 + 1) / 5)
    assert always.question_types == always.answer_types == {}


@given(
    st.lists(st.tuples(*[st.sampled_from(["Yes", "no", "2", "two", "red"])] * 2), min_size=1),
    st.randoms(use_true_random=False),
)
def test_macro_f1_of_single_answers(pairs: list[tuple[str, str]], random) -> None:
    ids = list(range(len(pairs)))
    random.shuffle(ids)
    candidates = {i: pairs[i][0] for i in ids}
    references = {i: [pairs[i][1]] for i in range(len(pairs))}
    scores = score_answers(candidates, references, strict_official=False)
    assert scores.accuracy == scores.exact_match

    same = [(by_the_rules(found), by_the_rules(gold)) for found, gold in pairs]
    f1 = []
    for name in {gold for _, gold in same}:
        right = same.count((name, name))
        precision = Fraction(right, max(1, sum(found == name for found, _ in same)))
        recall = Fraction(right, sum(gold == name for _, gold in same))
        f1.append(2 * precision * recall / (precision + recall) if right else Fraction(0))
    assert scores.macro_f1 == pytest.approx(float(sum(f1) / len(f1)), abs=1e-12)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ({}, {}, "0 ids"),
        ({"q1": "yes"}, {"q1": ["yes"], "q2": ["no"]}, "'q2'"),
        ({"q1": "yes", "q2": "no"}, {"q1": ["yes"]}, "'q2'"),
        ({"q1": "yes"}, {"q1": []}, "'q1'"),
        ({"q1": "yes"}, {"q1": "yes"}, "'q1'"),
        ({"q1": None}, {"q1": ["yes"]}, "'q1'"),
        ({"q1": "yes"}, {"q1": [3]}, "'q1'"),
    ],
)
def test_unscorable_input_is_named(candidates, references, message: str) -> None:
    with pytest.raises(MetricError, match=message):
        score_answers(candidates, references)


def test_majority_answers() -> None:
    rows = [
        ("is the", ["yes", "Yes", "no", "yes."]),
        ("is the", ["no", "no"]),
        ("how many", ["Two", "2", "Two", "1"]),
        ("what", ["b", "c"]),
        ("", ["no"] * 3),
    ]
    # yes, Yes and yes. are one answer, as frequent as no and after it in alphabetical order.
    expected = {"": "no", "is the": "no", "how many": "Two", "what": "b"}
    assert majority_answers(rows) == expected
    backwards = [(kind, answers[::-1]) for kind, answers in rows[::-1]]
    assert majority_answers(backwards) == expected
    assert majority_answers([*rows, ("is the", ["yes"])])["is the"] == "yes"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "is", "how"]),
            st.lists(st.sampled_from(["yes", "no", "red"]), min_size=1, max_size=1),
        ),
        min_size=1,
    )
)
def test_no_constant_answer_beats_the_majority(rows: list[tuple[str, list[str]]]) -> None:
    found = majority_answers(rows)
    for kind, answer in found.items():
        answers = Counter(a for k, (a,) in rows if kind in (k, ""))
        assert answers[answer] == max(answers.values())
    assert set(found) == {kind for kind, _ in rows} | {""}


@pytest.mark.parametrize("rows", [[], [("is", [])], [("is", "yes")]])
def test_majority_answers_need_answers(rows) -> None:
    with pytest.raises(MetricError):
        majority_answers(rows)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many dogs are there?", "how many"),
        ("what color is the dog", "what color"),
        ("What is on the desk?", "what is on"),
        ("what's on the desk?", "what is on"),
        ("  Where are the\nchildren ?", "where are the"),
        ("Why?", "why"),
        ("is there a red shape?", "is there"),
        ("Isn't the man tall?", "isn't the"),
        ("name the object", "name the"),
        ("what is", "what is"),
        ("???", ""),
        ("", ""),
    ],
)
def test_question_type_is_the_first_words(question: str, expected: str) -> None:
    assert question_type(question) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        *[(yes, "yes/no") for yes in ("yes", "No", "YES!", "no.")],
        *[(n, "number") for n in ("2", "two", "none", "3.5", "1,000", "ten.")],
        *[(other, "other") for other in ("yes sir", "2 dogs", "10:30", "red", "", "50%", "a")],
    ],
)
def test_answer_type(answer: str, expected: str) -> None:
    assert answer_type(answer) == expected
