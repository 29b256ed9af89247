"""Object questions about tags: which images have one, and its answer."""

from __future__ import annotations

from collections import Counter

from captioner.data import Example
from captioner.data.caption_questions import questions_from_tags
from captioner.data.caption_questions.tag_objects import make_object_pairs


def ask(*tags: str) -> dict[str, str]:
    """Return the answer to the question about each kind of object."""
    [pairs] = make_object_pairs([tags], ["x.jpg"], seed=0)
    assert all(pair.kind == "object" and pair.topic in pair.question for pair in pairs)
    return {pair.topic: pair.answer for pair in pairs}


def test_a_kind_of_object_with_one_tag_is_asked_about() -> None:
    assert ask("giraffe") == {"animal": "giraffe"}
    assert ask("cell phone", "pizza", "person") == {"device": "cell phone", "food": "pizza"}
    assert ask("dog", "dog") == {"animal": "dog"}


def test_other_tags_give_no_question() -> None:
    assert ask() == {}
    assert ask("dog", "cat") == {}  # which of them?
    assert ask("mouse", "stop sign", "zzyzx") == {}  # ambiguous, of no kind, unknown


def test_questions_depend_on_the_seed_and_the_image_only() -> None:
    rows = [
        Example(f"/{i}.jpg", f"{i}.jpg", (), "train", tags=(("cat", "dog", "cow")[i % 3],))
        for i in range(30)
    ]
    made = {
        seed: [row for row in questions_from_tags(some, seed=seed) if row.question_type == "object"]
        for seed, some in ((0, rows), (1, rows))
    }
    again = [row for row in questions_from_tags(rows[::-1]) if row.question_type == "object"]
    assert {(r.image_id, r.question) for r in again} == {(r.image_id, r.question) for r in made[0]}
    assert [r.question for r in made[0]] != [r.question for r in made[1]]
    assert Counter(row.references[0] for row in made[0]) == {"cat": 10, "dog": 10, "cow": 10}
    assert len({row.question_id for row in questions_from_tags(rows)}) == len(
        questions_from_tags(rows)
    )
