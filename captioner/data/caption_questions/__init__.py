"""Questions and answers made from captions, for training VQA on any captioned data set.

The manner is that of COCO-QA (Ren, Kiros and Zemel 2015, Exploring Models and Data for Image
Question Answering, section 3.3), with word lists and word order in place of a parser, every caption
of an image in place of one, and answers balanced so that the question alone tells little:

    lexicon (kinds, words)   which words are nouns and verbs, and what is a kind of what
    phrases -> statement     a caption taken apart, and what it says of its subject
    scene                    the captions of an image between them
    questions, deeds         count, colour; activity, place, object
    presence (asked)         what is there, and what is surely not
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from captioner.data.example import Example

if TYPE_CHECKING:
    from captioner.data.caption_questions.subject import Pair

__all__ = ["questions_from_captions"]

_ANSWER_TYPES = {"presence": "yes/no", "count": "number"}
_ALWAYS = {"count": 1}
"""So many pairs of one topic with one answer are kept whatever the balance, 3 where nothing is
said: of the many things that are rarely counted nearly all are one."""


def questions_from_captions(examples: Iterable[Example], *, seed: int = 0) -> list[Example]:
    """Makes question-answer pairs about captioned images out of their captions.

    Args:
        examples: captioned images; what is usual and what answers are common is learnt from all
            of them, so give the whole data set at once. Several captions of an image are worth
            much: an answer takes two that agree, and "no" takes three that are silent.
        seed: draws the pairs that are kept and the wordings.

    Returns:
        One Example per question, grouped by image in the order given. `question` is in lower case
        without a question mark, `references` the one answer, `question_type` one of presence,
        colour, count, activity, place and object. The images with their questions do not depend
        on the order of the examples, nor does anything on the process.
    """
    # The word forms take a fraction of a second, and `inflect` as long to import.
    from captioner.data.caption_questions.count_color import pairs_of
    from captioner.data.caption_questions.presence import ask_presence
    from captioner.data.caption_questions.scene import Scene

    examples = list(examples)
    scenes = [Scene(example.references) for example in examples]
    splits = [example.split for example in examples]
    ids = [example.image_id for example in examples]
    pairs = _balanced([pairs_of(scene) for scene in scenes], splits, ids, seed)
    others = Counter(split for split, own in zip(splits, pairs, strict=True) for _ in own)
    # Two questions to a pair: at most two in five of all are about presence.
    budgets = {split: others[split] // 3 for split in splits}
    presence = ask_presence(scenes, splits, ids, seed=seed, budgets=budgets)
    numbers: Counter[str] = Counter()
    rows = []
    for example, own, asked in zip(examples, pairs, presence, strict=True):
        drawn = [*own, *asked]
        random.Random(f"qa {seed} {example.image_id}").shuffle(drawn)
        for pair in drawn:
            number = numbers[example.image_id]
            numbers[example.image_id] += 1
            rows.append(_row(example, pair, number))
    return rows


def _row(example: Example, pair: Pair, number: int) -> Example:
    return replace(
        example,
        references=(pair.answer,),
        question=pair.question,
        question_id=f"{example.image_id}#{number}",
        question_type=pair.kind,
        answer_type=_ANSWER_TYPES.get(pair.kind, "other"),
    )


def _balanced(
    pairs: Sequence[Sequence[Pair]], splits: Sequence[str], ids: Sequence[str], seed: int
) -> list[list[Pair]]:
    """Leaves out pairs of the commonest answers to a topic's questions, in each split.

    An answer is kept as often as the second commonest is, or half as often as all others together,
    whichever is more.
    """
    topics: dict[tuple[str, str, str], dict[str, list[tuple[float, str, int, Pair]]]] = {}
    for i, own in enumerate(pairs):
        for pair in own:
            answers = topics.setdefault((splits[i], pair.kind, pair.topic), {})
            rank = random.Random(f"qa {seed} {ids[i]} {pair.question}").random()
            answers.setdefault(pair.answer, []).append((rank, ids[i], i, pair))
    kept: list[list[Pair]] = [[] for _ in pairs]
    for (_, kind, _), answers in topics.items():
        sizes = sorted(map(len, answers.values()), reverse=True)
        limit = max(_ALWAYS.get(kind, 3), *sizes[1:2], sum(sizes[1:]) // 2)
        for members in answers.values():
            for _, _, i, pair in sorted(members, key=lambda member: member[:2])[:limit]:
                kept[i].append(pair)
    # In the order of the image's own pairs, which no other image bears upon.
    return [sorted(own, key=lambda pair: pair.question) for own in kept]
