"""Captioned images and helpers for the tests of questions made from captions."""

from __future__ import annotations

import random
from collections.abc import Iterable

from captioner.data import Example
from captioner.data.caption_questions import questions_from_captions
from captioner.data.caption_questions.lexicon import (
    pluralize,
)
from captioner.data.caption_questions.presence import load_presence_nouns
from captioner.data.caption_questions.presence_words import QUESTION_FORMS
from captioner.data.caption_questions.scene import Scene

TYPES = {"presence", "colour", "count", "activity", "place", "object"}


def image(name: str, *captions: str, split: str = "train") -> Example:
    return Example(f"/images/{name}", name, captions, split)


def answers_by_question(*captions: str) -> dict[str, str]:
    """Return the answers by question for one image."""
    rows = questions_from_captions([image("a.jpg", *captions)])
    return {row.question: row.references[0] for row in rows}


def answers_of_type(kind: str, *captions: str) -> dict[str, str]:
    rows = questions_from_captions([image("a.jpg", *captions)])
    return {row.question: row.references[0] for row in rows if row.question_type == kind}


def scene(*captions: str) -> Scene:
    return Scene(captions)


WORLD = {
    "dog": ("A dog runs on a path .", "A puppy is running .", "The dog runs fast ."),
    "cat": ("A cat sits on a path .", "A kitten is sitting .", "The cat sits still ."),
    "bus": ("A red bus stops .", "The bus has stopped .", "A bus at its stop ."),
    "woman": ("A woman walks on a path .", "A lady is walking .", "The woman walks on ."),
    "guitar": ("A man plays a guitar .", "A guy with a guitar .", "The man has a guitar ."),
    "horse": ("A brown horse eats .", "The horse is eating .", "A horse eats ."),
}


def world(size: int = 120, seed: int = 3) -> list[Example]:
    """Return images with one or two objects each, in two splits."""
    rng = random.Random(seed)
    rows = []
    for i in range(size):
        things = rng.sample(sorted(WORLD), rng.choice((1, 2)))
        captions = tuple(" ".join(parts) for parts in zip(*(WORLD[t] for t in things), strict=True))
        rows.append(image(f"{i}.jpg", *captions, split="val" if i % 4 == 0 else "train"))
    return rows


def presence(rows: Iterable[Example]) -> list[Example]:
    return [row for row in rows if row.question_type == "presence"]


def find_noun(question: str) -> str:
    """Return the noun of a presence question."""
    names = {pluralize(noun): noun for noun in load_presence_nouns()} | {
        noun: noun for noun in load_presence_nouns()
    }
    for templates in QUESTION_FORMS.values():
        for template in templates:
            before, _, after = template.partition("{")
            after = after.partition("}")[2]
            if question.startswith(before) and question.endswith(after):
                middle = question[len(before) : len(question) - len(after)]
                middle = middle.removeprefix("a ").removeprefix("an ")
                if middle in names:
                    return names[middle]
    raise AssertionError(question)
