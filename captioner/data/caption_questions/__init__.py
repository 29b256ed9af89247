"""Questions and answers made from captions or tags, to train VQA on any such data set.

The method follows COCO-QA (Ren, Kiros and Zemel 2015, Exploring Models and Data for Image Question
Answering, section 3.3), with three differences: word lists and word order replace the parser, all
captions are used, and answers are balanced so that the question alone does not predict them.

    nouns, words, presence_words    word lists
    lexicon                         word forms, and hypernyms of nouns
    chunker -> clause -> scene      caption -> phrases -> its subject; all captions of an image
    scene_pairs, presence           questions about one image; about presence, in the whole data set
    tag_presence                    questions about the presence of tags
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from captioner.data.example import Example, pack_weights

if TYPE_CHECKING:
    from captioner.data.caption_questions.scene_pairs import Pair

__all__ = ["questions_from_captions", "questions_from_tags"]

_ANSWER_TYPES = {"presence": "yes/no", "count": "number"}
_MIN_LIMITS = {"count": 1}
"""Pairs per answer of a topic that balancing always keeps, by question type; 3 for other types.
Most kinds of objects are rarely counted, and then nearly always "1"."""


def questions_from_captions(examples: Iterable[Example], *, seed: int = 0) -> list[Example]:
    """Make question-answer pairs about captioned images from their captions.

    Args:
        examples: Captioned images. Statistics are computed over all of them, so pass the whole
            data set at once. Several captions per image are needed for most questions: an answer
            takes two captions that agree, and "no" takes three that do not mention the object.
        seed: Seed of the choice of pairs and of the phrasing.

    Returns:
        One Example per question, in lower case without a question mark, grouped by image in the
        given order. `question_type` is presence, colour, count, activity, place or object. The
        questions of an image depend neither on the order of the examples nor on the process.
    """
    # Importing `inflect` and building the word forms take a fraction of a second each.
    from captioner.data.caption_questions.presence import make_presence_pairs
    from captioner.data.caption_questions.scene import Scene
    from captioner.data.caption_questions.scene_pairs import make_pairs

    examples = list(examples)
    scenes = [Scene(example.references) for example in examples]
    splits = [example.split for example in examples]
    ids = [example.image_id for example in examples]
    pairs = _balance([make_pairs(scene) for scene in scenes], splits, ids, seed)
    counts = Counter(split for split, own in zip(splits, pairs, strict=True) for _ in own)
    # A unit is a yes/no pair, so at most two fifths of all questions are about presence.
    budgets = {split: counts[split] // 3 for split in splits}
    presence = make_presence_pairs(scenes, splits, ids, seed=seed, budgets=budgets)
    drawn = [[*own, *more] for own, more in zip(pairs, presence, strict=True)]
    return _make_rows(examples, drawn, seed=seed, label="")


def questions_from_tags(examples: Iterable[Example], *, seed: int = 0) -> list[Example]:
    """Make questions about tags: their presence, half of them with the answer "no", and objects.

    Args:
        examples: Images with tags. Pass the whole data set at once, as its other tags are absent
            from an image. Absent tags are drawn in proportion to how often they occur together
            with tags that the image has.
        seed: Seed of the choice of tags and of the phrasing.

    Returns:
        One Example per question, as from `questions_from_captions`; `question_type` is presence or
        object.
    """
    from captioner.data.caption_questions.tag_objects import make_object_pairs
    from captioner.data.caption_questions.tag_presence import make_tag_pairs

    examples = list(examples)
    splits = [example.split for example in examples]
    ids = [example.image_id for example in examples]
    tags = [example.tags or () for example in examples]
    presence = make_tag_pairs(tags, splits, ids, seed=seed)
    objects = _balance(make_object_pairs(tags, ids, seed=seed), splits, ids, seed)
    pairs = [[*own, *others] for own, others in zip(presence, objects, strict=True)]
    return _make_rows(examples, pairs, seed=seed, label="tag ")


def _make_rows(
    examples: Sequence[Example], pairs: Sequence[Sequence[Pair]], *, seed: int, label: str
) -> list[Example]:
    """Return the questions of each image in random order; `label` keeps their ids apart."""
    numbers: Counter[str] = Counter()
    rows = []
    for example, own in zip(examples, pairs, strict=True):
        drawn = list(own)
        random.Random(f"qa {seed} {example.image_id}").shuffle(drawn)
        for pair in drawn:
            row = replace(
                example,
                references=(pair.answer,),
                question=pair.question,
                question_id=f"{example.image_id}#{label}{numbers[example.image_id]}",
                question_type=pair.kind,
                answer_type=_ANSWER_TYPES.get(pair.kind, "other"),
                tags=None,
                weights=pack_weights([example.mean_weight]),
            )
            rows.append(row)
            numbers[example.image_id] += 1
    return rows


def _balance(
    pairs: Sequence[Sequence[Pair]], splits: Sequence[str], ids: Sequence[str], seed: int
) -> list[list[Pair]]:
    """Drop pairs with the most common answers to the questions of a topic, in each split.

    An answer is kept as often as the second most common one, or half as often as all others
    together, whichever is more.
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
        limit = max(_MIN_LIMITS.get(kind, 3), *sizes[1:2], sum(sizes[1:]) // 2)
        for members in answers.values():
            for _, _, i, pair in sorted(members, key=lambda member: member[:2])[:limit]:
                kept[i].append(pair)
    # An order that does not depend on other images.
    return [sorted(own, key=lambda pair: pair.question) for own in kept]
