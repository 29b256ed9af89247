"""Find questions whose answers contradict each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from captioner.data.example import Example
from captioner.metrics import normalize_answer
from captioner.quality.findings import Finding, quote
from captioner.text import normalize_question

_ANNOTATORS = 3
"""Answers of one question from which they are those of annotators, who differ."""
_ROWS = 5
"""Rows of one answer each from which they are those of annotators."""
_OPPOSITES = frozenset(("yes", "no"))
_SHOWN = 3
"""Number of answers in an explanation."""


def check_questions(examples: Sequence[Example]) -> Iterator[Finding]:
    """Yield the contradictory answers to the same question about an image.

    Two rows contradict each other if they have no answer in common. Answers of several annotators,
    in one row or in one row each, may differ; such rows are compared by all of their answers.
    Answers that only add words to another, such as "dark brown" to "brown", are no contradiction.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for i, example in enumerate(examples):
        if example.kind == "questions":
            key = (example.image, normalize_question(example.question))
            groups.setdefault(key, []).append(i)
    for numbers in groups.values():
        answers = [_normalize(examples[i].references) for i in numbers]
        single = all(len(some) == 1 for some in answers)
        if single and len(numbers) >= _ROWS and _agree(answers):
            continue  # one row for each annotator
        for position, i in enumerate(numbers):
            others = [some for other, some in enumerate(answers) if other != position]
            if reason := _explain(answers[position], others):
                example = examples[i]
                yield Finding(
                    "contradictory-answers",
                    reason,
                    example.split,
                    image=example.image,
                    text=example.question,
                    entry=i,
                )


def _normalize(answers: Iterable[str]) -> Counter[str]:
    return Counter(filter(None, map(normalize_answer, answers)))


def _agree(answers: Sequence[Counter[str]]) -> bool:
    """Return whether one answer has a majority among rows of one answer each."""
    counts = sum(answers, Counter())
    return max(counts.values()) * 2 > len(answers)


def _explain(own: Counter[str], others: Sequence[Counter[str]]) -> str:
    """Return why the answers of a row contradict themselves or those of other rows, or ""."""
    if own.keys() >= _OPPOSITES and own.total() < _ANNOTATORS:
        return "the answers are yes and no"
    for other in others:
        if own and other and not any(_are_compatible(a, b) for a in own for b in other):
            return f"the answers are {_list(own)} and, in another row, {_list(other)}"
    return ""


def _are_compatible(first: str, second: str) -> bool:
    a, b = set(first.split()), set(second.split())
    return first == second or a <= b or b <= a


def _list(answers: Counter[str]) -> str:
    return ", ".join(quote(answer) for answer, _ in answers.most_common(_SHOWN))
