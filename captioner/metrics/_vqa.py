"""Metrics of answers to visual questions: VQA accuracy, exact match, macro-F1, majority answers.

Sources: Antol et al., "VQA: Visual Question Answering" (ICCV 2015), section 3; the rules at
visualqa.org/evaluation; and the official vqaEval.py (GT-Vision-Lab/VQA, commit a013f00). Where the
code and the page differ, the values here equal those of the code. An earlier version of it, which
some toolkits still contain, always normalized the candidate, but only the punctuation of the
answers. The official code recognizes the answer that it leaves out by its `answer_id`; here it is
the position in the list. All metrics range from 0 to 1.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from captioner.errors import MetricError
from captioner.metrics._classification import score_classes
from captioner.metrics._pairs import Candidates, References, pair_texts

# Without the apostrophe (possessives) and the colon (times).
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
# Two errors of the official code are reproduced. Its pattern contains (?!<=\d), which is always
# true, where (?<!\d) was intended, so that a full stop after a digit is deleted too. And it passes
# re.UNICODE as the `count` of `sub`, so that at most 32 full stops are deleted.
_FULL_STOP = re.compile(r"\.(?!\d)")
_MAX_FULL_STOPS = int(re.UNICODE)
_NUMERALS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": "0"} | {word: str(n) for n, word in enumerate(_NUMERALS.split())}
_ARTICLES = {"a", "an", "the"}

# A word of this list is restored if any one of its apostrophes is missing. Words with an "I" never
# match, because texts are in lower case at that point; the official table contains them too.
_APOSTROPHES = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am
    might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't
    she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
    who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll
    you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    word[: at.start()] + word[at.end() :]: word
    for word in _APOSTROPHES.split()
    for at in re.finditer("'", word)
}
"""The official table of contractions: a word and its replacement."""
# Errors of the official table: two words map to themselves, and one loses its apostrophe.
CONTRACTIONS |= {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd"}

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_QUESTION_WORDS = {"what", "which", "who", "whom", "whose", "where", "when", "why", "how"}
_SHORT_IS = re.compile(rf"\b({'|'.join(sorted(_QUESTION_WORDS))})['\u2019]s\b")
_AUXILIARY = {
    *("is", "are", "was", "were", "do", "does", "did", "has", "have", "had"),
    *("can", "could", "will", "would", "should"),
}
_NUMBER = re.compile(r"\d*\.?\d+")


class AnswerGroup(NamedTuple):
    """Scores of the questions of one type, as fractions."""

    count: int  # type: ignore[assignment]  # hides tuple.count; the name is public
    """Questions of the type."""
    accuracy: float
    """Mean VQA accuracy."""
    exact_match: float


class AnswerScores(NamedTuple):
    """Scores of a data set as fractions, also by question type and by answer type."""

    count: int  # type: ignore[assignment]  # hides tuple.count; the name is public
    """Questions of the data set."""
    accuracy: float
    """Mean VQA accuracy."""
    exact_match: float
    macro_f1: float
    question_types: dict[str, AnswerGroup]
    answer_types: dict[str, AnswerGroup]


def normalize_answer(text: str) -> str:
    """Normalize an answer as the official evaluator does before it compares answers.

    A punctuation mark is replaced by a space. It is deleted instead, at each of its positions, if
    it is next to a space at any position; all marks are deleted if there is a comma between two
    digits ("1,000"). Full stops (the first 32) are deleted unless a digit follows. The text is put
    in lower case, "none" and "zero" to "ten" become digits, articles are removed, and missing
    apostrophes are restored.
    """
    text = _strip(text)
    has_digit_comma = _DIGIT_COMMA.search(text) is not None
    marks: dict[str, str | int | None] = {
        mark: "" if has_digit_comma or f"{mark} " in text or f" {mark}" in text else " "
        for mark in _PUNCTUATION
    }
    text = _FULL_STOP.sub("", text.translate(str.maketrans(marks)), count=_MAX_FULL_STOPS)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(candidate: str, answers: Sequence[str], *, strict_official: bool = True) -> float:
    """Return the VQA accuracy of one candidate: min(1, matches / 3) over all answers but one.

    The value is the mean over the choices of the answer that is left out, and it is not rounded
    (the official evaluator rounds the percentage of a data set to two decimals). With ten answers,
    one match gives 0.3, two give 0.6, three 0.9, more 1.

    Args:
        candidate: The answer to score.
        answers: All human answers to the question.
        strict_official: Follow the official code, which normalizes texts only if the answers
            differ before that: if all ten answers are "Yes!", then "yes" is wrong. A single answer
            gives 0, because no answer is left to match, and two equal ones give 1/3. With False,
            texts are always normalized, and if fewer than three other answers are left, that
            number of matches suffices: with up to four answers the value is the share that
            matches, with one it is exact match.

    Raises:
        MetricError: There are no answers.
    """
    answers = [_strip(answer) for answer in _check_answers(answers)]
    candidate = _strip(candidate)
    if len(set(answers)) > 1 or not strict_official:
        answers = [normalize_answer(answer) for answer in answers]
        candidate = normalize_answer(candidate)
    matches = [answer == candidate for answer in answers]
    if len(matches) == 1 and not strict_official:
        return float(matches[0])
    enough = 3 if strict_official else min(3, len(matches) - 1)
    return sum(min(1, (sum(matches) - match) / enough) for match in matches) / len(matches)


def exact_match(candidate: str, answers: Sequence[str]) -> bool:
    """Return whether a candidate equals one of the answers after normalization of both."""
    candidate = normalize_answer(candidate)
    return any(normalize_answer(answer) == candidate for answer in _check_answers(answers))


def answer_class(answers: Sequence[str]) -> str:
    """Return the class of a question: its most frequent answer, normalized."""
    return normalize_answer(_most_frequent(Counter(_check_answers(answers))))


def score_answers(
    candidates: Candidates,
    references: References,
    *,
    question_types: Mapping[Any, str] | None = None,
    answer_types: Mapping[Any, str] | None = None,
    strict_official: bool = True,
) -> AnswerScores:
    """Score one candidate for each question, given all of its answers.

    Accuracy and exact match are means over questions. For macro-F1, the classes are those of the
    references, see `answer_class`.

    Args:
        candidates: One answer per question id.
        references: All human answers per question id.
        question_types: Types by question id ("" if missing), for scores by type, largest first.
        answer_types: The same for the types of answers.
        strict_official: See `vqa_accuracy`; it matters for questions with fewer than ten answers.

    Raises:
        MetricError: The ids differ, or a question has no answers.
    """
    pair_texts(candidates, references, tokenized=True)  # only to raise its errors
    accuracy = {
        i: vqa_accuracy(candidates[i], answers, strict_official=strict_official)
        for i, answers in references.items()
    }
    exact = {i: exact_match(candidates[i], answers) for i, answers in references.items()}
    return AnswerScores(
        *_score_group(list(references), accuracy, exact),
        _macro_f1(candidates, references),
        _score_types(question_types, accuracy, exact),
        _score_types(answer_types, accuracy, exact),
    )


def majority_answers(rows: Iterable[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """Return the most frequent answer to each type of question.

    `rows` are pairs of a question type and the answers to one question. The result has the majority
    of all rows under "". Answers are counted after normalization; the most frequent spelling of the
    winner is returned, because the official accuracy may compare texts without normalization. Ties
    are resolved in alphabetical order.

    Raises:
        MetricError: There are no rows, or a question has no answers.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for kind, answers in rows:
        for name in {kind, ""}:
            counts[name].update(_check_answers(answers))
    if not counts:
        raise MetricError("no question to take majority answers from: found 0, expected at least 1")
    return {name: _most_frequent(counts[name]) for name in sorted(counts)}


def question_type(question: str) -> str:
    """Return the first words of a question in lower case, as its type.

    For data sets without question types. The type has two words ("how many", "what color", "is
    there"), or three where a question word is followed by a verb such as "is" or "does" ("what is
    on", "where are the").
    """
    words = _WORD.findall(_SHORT_IS.sub(r"\1 is", question.lower()))
    three = len(words) > 1 and words[0] in _QUESTION_WORDS and words[1] in _AUXILIARY
    return " ".join(words[: 3 if three else 2])


def answer_type(answer: str) -> str:
    """Return VQA's type of an answer: "yes/no", "number" (also "two" and "none") or "other"."""
    answer = normalize_answer(answer)
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if _NUMBER.fullmatch(answer) else "other"


def _strip(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _check_answers(answers: Sequence[str]) -> Sequence[str]:
    """Return the answers; raise MetricError unless they are a non-empty list."""
    if isinstance(answers, str) or not answers:
        given = repr(answers) if isinstance(answers, str) else "none"
        raise MetricError(f"answers of a question: found {given}, expected a list of 1 or more")
    return answers


def _most_frequent(answers: Counter[str]) -> str:
    """Return the most frequent spelling of the most frequent normalized answer."""
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for answer, count in answers.items():
        spellings[normalize_answer(answer)][answer] = count
    _, winner = min((-text.total(), form) for form, text in spellings.items())
    return min(spellings[winner], key=lambda text: (-answers[text], text))


def _score_group(
    ids: Sequence[Hashable], accuracy: Mapping[Any, float], exact: Mapping[Any, bool]
) -> AnswerGroup:
    total, matches = sum(accuracy[i] for i in ids), sum(exact[i] for i in ids)
    return AnswerGroup(len(ids), total / len(ids), matches / len(ids))


def _score_types(
    types: Mapping[Any, str] | None, accuracy: Mapping[Any, float], exact: Mapping[Any, bool]
) -> dict[str, AnswerGroup]:
    """Return the scores by type, types with more questions first."""
    if types is None:
        return {}
    members = defaultdict(list)
    for i in accuracy:
        members[types.get(i, "")].append(i)
    ordered = sorted(members, key=lambda name: (-len(members[name]), name))
    return {name: _score_group(members[name], accuracy, exact) for name in ordered}


def _macro_f1(candidates: Candidates, references: References) -> float:
    expected = [answer_class(answers) for answers in references.values()]
    predicted = [normalize_answer(candidates[i]) for i in references]
    return score_classes(predicted, expected, classes=expected).macro.f1
