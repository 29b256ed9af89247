"""Answers to visual questions: the official VQA accuracy, exact match, macro-F1, majority answers.

Sources: Antol et al., "VQA: Visual Question Answering" (ICCV 2015), section 3, the rules at
visualqa.org/evaluation, and what the official vqaEval.py makes of them (GT-Vision-Lab/VQA, commit
a013f00): where code and page differ, the numbers here are the code's. Its earlier version, which
some toolkits still carry, always normalised the candidate, but of the answers only the punctuation.
It leaves an answer out by comparing records, which VQA's `answer_id` tells apart; here it is the
place in the list that tells.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from captioner.errors import MetricError
from captioner.metrics._pairs import Candidates, References, pair

# Neither the apostrophe, which marks possessives, nor the colon, which times have.
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"\d,\d")
# The official pattern means to spare a full stop after a digit too, but writes (?!<=\d) for
# (?<!\d), which is always true; and hands re.UNICODE over where `sub` takes a number of
# replacements, so that no more than 32 full stops go.
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS = int(re.UNICODE)
_COUNTING = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": "0"} | {word: str(n) for n, word in enumerate(_COUNTING.split())}
_ARTICLES = {"a", "an", "the"}

# A word of the table is mended where one of its apostrophes is missing, whichever it is. Words with
# an "I" wait in vain: texts are in lower case by then.
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
"""The official table: what a word is replaced by."""
# Slips of the table: two words stand for themselves, and one loses its apostrophe.
CONTRACTIONS |= {"let's": "let's", "she's": "she's", "somebody'd": "somebodyd"}

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_ASKING = {"what", "which", "who", "whom", "whose", "where", "when", "why", "how"}
_IS_SHORT = re.compile(rf"\b({'|'.join(sorted(_ASKING))})['\u2019]s\b")
_AUXILIARY = {
    *("is", "are", "was", "were", "do", "does", "did", "has", "have", "had"),
    *("can", "could", "will", "would", "should"),
}
_NUMBER = re.compile(r"\d*\.?\d+")


class AnswerGroup(NamedTuple):
    """Questions of one type: how many they are, their mean accuracy and exact match."""

    count: int
    accuracy: float
    exact_match: float


class AnswerScores(NamedTuple):
    """Scores of a data set, as fractions, and those of each type of question and of answer."""

    count: int
    accuracy: float
    exact_match: float
    macro_f1: float
    question_types: dict[str, AnswerGroup]
    answer_types: dict[str, AnswerGroup]


def normalize_answer(text: str) -> str:
    """An answer as the official evaluator compares it.

    A punctuation mark becomes a blank; it is deleted instead wherever it stands if it stands beside
    a blank anywhere, and so are all marks if there is a comma between two digits ("1,000"). Full
    stops are deleted (the first 32) unless a digit follows. The text is put in lower case, "none"
    and "zero" to "ten" become digits, articles are dropped, missing apostrophes are added.
    """
    text = _clean(text)
    joined = _DIGIT_COMMA.search(text) is not None
    marks = {
        mark: "" if joined or f"{mark} " in text or f" {mark}" in text else " "
        for mark in _PUNCTUATION
    }
    text = _FULL_STOP.sub("", text.translate(str.maketrans(marks)), count=_FULL_STOPS)
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(candidate: str, answers: Sequence[str], *, strict_official: bool = True) -> float:
    """The VQA accuracy of one candidate: min(1, matches / 3) over all but one of the answers.

    It is the mean over which answer is left out, a fraction, and unrounded (the official evaluator
    rounds a data set's percentage to two decimals). With ten answers, one match gives 0.3, two
    give 0.6, three 0.9, more 1.

    Officially, texts are normalised only where the answers differ before they are: if ten people
    said "Yes!", then "yes" is wrong. And one answer gives 0, since none is left to match it, two
    equal ones 1/3. With `strict_official=False` texts are always normalised and as many matches
    as other answers, if these are fewer than three, are enough: with up to four answers the value
    is the share of them that match, with a single one exact match. Raises MetricError if there are
    no answers.
    """
    answers = [_clean(answer) for answer in _checked(answers)]
    candidate = _clean(candidate)
    if len(set(answers)) > 1 or not strict_official:
        answers = [normalize_answer(answer) for answer in answers]
        candidate = normalize_answer(candidate)
    matches = [answer == candidate for answer in answers]
    if len(matches) == 1 and not strict_official:
        return float(matches[0])
    enough = 3 if strict_official else min(3, len(matches) - 1)
    return sum(min(1, (sum(matches) - match) / enough) for match in matches) / len(matches)


def exact_match(candidate: str, answers: Sequence[str]) -> bool:
    """Whether a candidate is one of the answers once all are normalised."""
    candidate = normalize_answer(candidate)
    return any(normalize_answer(answer) == candidate for answer in _checked(answers))


def score_answers(
    candidates: Candidates,
    references: References,
    *,
    question_types: Mapping[Hashable, str] | None = None,
    answer_types: Mapping[Hashable, str] | None = None,
    strict_official: bool = True,
) -> AnswerScores:
    """Score one candidate for each question, given all of its answers.

    Accuracy and exact match are means over questions (see `vqa_accuracy`, above all for questions
    with fewer than ten answers). Macro-F1 takes each question's most frequent normalised answer as
    its class, and is the mean of F1 over the classes that occur among the references. A table
    lists the larger groups first; a question that is not in the mapping has type "". Raises
    MetricError if ids differ or a question has no answers.
    """
    pair(candidates, references, tokenized=True)  # For its errors: words do not matter here.
    accuracy = {
        i: vqa_accuracy(candidates[i], answers, strict_official=strict_official)
        for i, answers in references.items()
    }
    exact = {i: exact_match(candidates[i], answers) for i, answers in references.items()}

    def group(ids: Iterable[Hashable]) -> AnswerGroup:
        ids = list(ids)
        total, matches = sum(accuracy[i] for i in ids), sum(exact[i] for i in ids)
        return AnswerGroup(len(ids), total / len(ids), matches / len(ids))

    def table(types: Mapping[Hashable, str] | None) -> dict[str, AnswerGroup]:
        members = defaultdict(list)
        for i in references if types is not None else ():
            members[types.get(i, "")].append(i)
        ordered = sorted(members, key=lambda name: (-len(members[name]), name))
        return {name: group(members[name]) for name in ordered}

    f1 = _macro_f1(candidates, references)
    return AnswerScores(*group(references), f1, table(question_types), table(answer_types))


def majority_answers(rows: Iterable[tuple[str, Sequence[str]]]) -> dict[str, str]:
    """The most frequent answer to each type of question, from (question type, answers) rows.

    Under "" stands that of all rows, for types that are not among them. Answers are counted as
    `normalize_answer` leaves them; the most frequent way to write the winner is returned, since
    the official accuracy may compare texts as they are. A tie goes to the first in the alphabet.
    Raises MetricError if there are no answers.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for kind, answers in rows:
        for name in {kind, ""}:
            counts[name].update(_checked(answers))
    if not counts:
        raise MetricError("no question to take majority answers from: found 0, expected at least 1")
    return {name: _majority(counts[name]) for name in sorted(counts)}


def question_type(question: str) -> str:
    """The opening of a question, for data that does not tell its types.

    It is the first two words in lower case ("how many", "what color", "is there"), three where a
    question word meets a verb such as "is" or "does" ("what is on", "where are the").
    """
    words = _WORD.findall(_IS_SHORT.sub(r"\1 is", question.lower()))
    three = words[:1] and words[0] in _ASKING and words[1:2] and words[1] in _AUXILIARY
    return " ".join(words[: 3 if three else 2])


def answer_type(answer: str) -> str:
    """How VQA sorts answers: "yes/no", "number" ("two" and "none" are numbers too) or "other"."""
    answer = normalize_answer(answer)
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if _NUMBER.fullmatch(answer) else "other"


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _checked(answers: Sequence[str]) -> Sequence[str]:
    """The answers themselves; MetricError unless they are a list with something in it."""
    if isinstance(answers, str) or not answers:
        found = repr(answers) if isinstance(answers, str) else "none"
        raise MetricError(f"answers of a question: found {found}, expected a list of 1 or more")
    return answers


def _majority(answers: Counter[str]) -> str:
    """The most frequent spelling of the most frequent normalised answer."""
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for answer, count in answers.items():
        spellings[normalize_answer(answer)][answer] = count
    _, winner = min((-text.total(), form) for form, text in spellings.items())
    return min(spellings[winner], key=lambda text: (-answers[text], text))


def _macro_f1(candidates: Candidates, references: References) -> float:
    golds, found, right = Counter[str](), Counter[str](), Counter[str]()
    for i, answers in references.items():
        gold = normalize_answer(_majority(Counter(answers)))
        answer = normalize_answer(candidates[i])
        golds[gold] += 1
        found[answer] += 1
        right[gold] += gold == answer
    return sum(2 * right[x] / (golds[x] + found[x]) for x in golds) / len(golds)
