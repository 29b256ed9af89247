"""Captions made from questions: wording, questions without a caption, and the rows of an image."""

from __future__ import annotations

import pytest

from captioner.data.example import Example
from captioner.data.question_captions import captions_from_questions, make_caption


@pytest.mark.parametrize(
    ("question", "answer", "caption"),
    [
        (
            "what sits next to the cart for luggage?",
            "suitcase",
            "a suitcase sits next to the cart for luggage",
        ),
        (
            "what are standing along the wooden fence?",
            "horses",
            "horses are standing along the wooden fence",
        ),
        (
            "what is hanging on the street lamp?",
            "umbrella",
            "an umbrella is hanging on the street lamp",
        ),
        (
            "what is the man riding down a road?",
            "skateboard",
            "the man is riding a skateboard down a road",
        ),
        ("what are people riding on the beach?", "horses", "people are riding horses on the beach"),
        (
            "what is the small dog lying on in a room?",
            "couch",
            "the small dog is lying on a couch in a room",
        ),
        ("what does the small girl eat?", "donut", "the small girl eats a donut"),
        ("what do two people fly?", "kite", "two people fly a kite"),
        ("what did the bride and groom cut?", "cake", "the bride and groom cut a cake"),
        ("a man and a woman both holding what?", "phones", "a man and a woman both holding phones"),
        ("how many birds is flying in the air?", "three", "three birds are flying in the air"),
        (
            "how many zebra is grazing while another watches",
            "one",
            "one zebra is grazing while another watches",
        ),
    ],
)
def test_wording(question: str, answer: str, caption: str) -> None:
    assert make_caption(question, answer) == caption


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("what is the color of the hydrant?", "red"),
        ("where is the dog looking?", "mirror"),
        ("is there a dog in the picture?", "yes"),
        ("what kind of animal is this?", "dog"),
        ("how many people are standing here?", "a few"),
        ("what does the man?", "bat"),
        ("what is flying?", "kite"),  # too short
        ("what", "kite"),
        ("", ""),
    ],
)
def test_questions_without_a_caption(question: str, answer: str) -> None:
    assert make_caption(question, answer) == ""


def test_the_captions_of_an_image_are_one_example() -> None:
    def ask(image: str, question: str, answer: str, split: str = "train") -> Example:
        return Example(
            f"/{image}", image, (answer,), split, question, f"{question} {image}", "object"
        )

    rows = [
        ask("a.jpg", "what are sitting on a table?", "vases"),
        ask("b.jpg", "what is the color of the bus?", "red"),
        ask("a.jpg", "how many vases are on a table?", "two"),
        ask("a.jpg", "what are sitting on a table?", "vases"),
        ask("c.jpg", "what is parked at the station?", "train", "val"),
    ]
    assert captions_from_questions(rows) == [
        Example(
            "/a.jpg", "a.jpg", ("vases are sitting on a table", "two vases are on a table"), "train"
        ),
        Example("/c.jpg", "c.jpg", ("a train is parked at the station",), "val"),
    ]
