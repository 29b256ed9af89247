"""Questions of each type except presence: which are made and which are not."""

from __future__ import annotations

import pytest
from question_world import (
    answers_of_type,
    scene,
)


def test_color_questions_need_captions_that_agree() -> None:
    assert answers_of_type(
        "colour",
        "A black dog with a red ball .",
        "The BLACK dog chases its ball",
        "A dog plays with a ball.",
    ) == {"what color is the dog": "black", "what color is the ball": "red"}


def test_two_colors_are_sorted() -> None:
    found = answers_of_type("colour", "A white and black dog .", "A black and white dog .")
    assert found == {"what color is the dog": "black and white"}


def test_garment_color_questions_name_the_owner() -> None:
    found = answers_of_type("colour", "A man in a red shirt and blue shorts runs .", "A man runs .")
    assert found == {
        "what color is the man's shirt": "red",
        "what color are the man's shorts": "blue",
    }


@pytest.mark.parametrize(
    "captions",
    [
        ("A black dog runs .", "A white dog runs ."),
        ("A black dog and a white dog run .",),
        ("Two black dogs and a brown dog run .",),
        ("A black dog runs .", "A golden dog runs ."),
        ("A black dog runs after another dog .",),
        ("A man in a red shirt .", "A man in a blue jersey and a red shirt , and a blue shirt ."),
        ("Two men , one in a red shirt .",),
        ("A man in black .",),
        ("A bottle with a red cap beside a man .",),
        ("A dog looks at a man in a blue shirt .",),
    ],
)
def test_no_question_about_unclear_color(captions: tuple[str, ...]) -> None:
    assert answers_of_type("colour", *captions) == {}


def test_count_questions_need_two_captions_that_agree() -> None:
    assert answers_of_type("count", "Two dogs play .", "2 dogs are playing", "Dogs .") == {}
    assert (
        answers_of_type("count", "Two dogs play .", "2 dogs are playing", "The animals play .")
        == {}
    )
    assert answers_of_type("count", "Two dogs play .", "A dog chases another dog .") == {}
    assert answers_of_type("count", "Two dogs play .", "2 dogs are playing") == {
        "how many dogs are there": "2"
    }
    assert answers_of_type(
        "count", "Three boys sit .", "Three children sitting .", "They sit ."
    ) == {"how many boys are there": "3"}
    assert answers_of_type("count", "Three boys sit .", "Three girls sit .", "They sit .") == {
        "how many children are there": "3"
    }
    assert answers_of_type("count", "A man and a woman walk .", "Two people walking .") == {
        "how many people are there": "2"
    }


@pytest.mark.parametrize(
    "captions",
    [
        ("A dog runs .", "Two dogs run ."),
        ("Two dogs run .", "Three dogs run ."),
        ("Several dogs run .", "Two dogs run .", "Two dogs ."),
        ("Two men in front of a crowd .", "Two men ."),
        ("Two dogs .",) + ("They run .",) * 4,
    ],
)
def test_no_question_about_contradictory_count(captions: tuple[str, ...]) -> None:
    assert answers_of_type("count", *captions) == {}


def test_activity_is_the_most_frequent_one() -> None:
    assert answers_of_type(
        "activity",
        "A brown dog is running in the snow",
        "A dog runs through snow .",
        "A dog with a ball in its mouth sprints .",
        "A dog jumps .",
    ) == {"what is the dog doing": "running"}
    assert answers_of_type("activity", "Two boys jump .", "Two kids leap off a wall .") == {
        "what are the boys doing": "jumping"
    }
    assert answers_of_type("activity", "A boy jumps .", "A girl leaps off a wall .") == {
        "what is the child doing": "jumping"
    }


@pytest.mark.parametrize(
    "captions",
    [
        ("A dog runs .", "A dog jumps ."),
        ("A dog runs .", "A dog jumps .", "A dog jumps .", "A dog runs ."),
        ("A dog tries to run .", "A dog about to run ."),
        ("A man wearing a hat .", "A man wears a hat ."),
        ("A ball is thrown .", "A ball thrown by a man ."),
        ("A man runs while another man runs .", "A man runs ."),
    ],
)
def test_no_question_about_unclear_activity(captions: tuple[str, ...]) -> None:
    assert answers_of_type("activity", *captions) == {}


def test_attribute_of_subject_is_not_its_activity() -> None:
    found = answers_of_type(
        "activity", "A man wearing a hat is walking .", "A man holding a cup walks ."
    )
    assert found == {"what is the man doing": "walking"}


def test_place_questions() -> None:
    assert answers_of_type("place", "A dog runs on the beach .", "A dog on a sandy beach") == {
        "where is the dog": "beach"
    }
    assert answers_of_type(
        "place", "Two people sit in the middle of a street .", "Two people ."
    ) == {"where are the people": "street"}
    assert (
        answers_of_type("place", "A man looks at the ocean .", "A man jumps over a fence .") == {}
    )
    assert answers_of_type("place", "A man in front of the ocean .", "A man near a pool .") == {}


def test_object_questions() -> None:
    found = answers_of_type(
        "object", "A boy is holding a stick .", "A boy holds a long stick", "A boy ."
    )
    assert found["what is the boy holding"] == "stick"
    found = answers_of_type(
        "object", "A dog with a ball in its mouth .", "A dog has a ball in its mouth ."
    )
    assert found == {"what is the dog holding in its mouth": "ball"}
    found = answers_of_type("object", "A man wearing a helmet .", "A man in a helmet .")
    assert found == {"what is the man wearing": "helmet"}
    found = answers_of_type(
        "object", "A dog jumps over a fence .", "A dog leaping over the fence ."
    )
    assert found == {"what is the dog jumping over": "fence"}
    found = answers_of_type("object", "A woman surfs .", "A lady surfing a wave .", "A surfer .")
    assert found == {"who is surfing": "woman"}


@pytest.mark.parametrize(
    "captions",
    [
        ("A man wearing a hat .", "A man wearing a coat ."),
        ("A boy holds a stick .", "A boy holds a ball .", "A boy ."),
        ("A boy holds something .", "A boy holds an object ."),
        ("A man and a dog , one holding a stick .",),
        ("A man holds his hand .", "A man holding hands ."),
    ],
)
def test_no_question_about_unclear_object(captions: tuple[str, ...]) -> None:
    assert answers_of_type("object", *captions) == {}


def test_depicted_object_is_not_present() -> None:
    heads = scene("A boy in a shirt with a picture of a dog .", "A boy without a hat .").mentions
    assert heads["boy"] == 2
    assert not heads["dog"]
    assert not heads["hat"]
