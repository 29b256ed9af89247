"""Presence questions about tags: balance, correctness, hard negatives and wording."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest
from data_files import json_lines, list_problems, pictures, write

from captioner.data import Example
from captioner.data.caption_questions import questions_from_tags as all_questions_from_tags
from captioner.data.caption_questions.lexicon import are_compatible, list_compatible
from captioner.data.formats.csv_jsonl_rows import parse_tags

ROOMS = {
    "kitchen": ("oven", "sink", "microwave", "cup"),
    "road": ("car", "truck", "traffic light", "bus"),
    "snow": ("skis", "snowboard", "person", "backpack"),
}


def tagged(number: int, *tags: str, split: str = "train") -> Example:
    return Example(f"/x/{number}.jpg", f"{number}.jpg", (), split, tags=tags)


def make_rooms(images: int = 240) -> list[Example]:
    """Return images with some tags of one of three rooms, a quarter of them for validation."""
    rng = random.Random(0)
    rows = []
    for number in range(images):
        room = ROOMS[rng.choice(sorted(ROOMS))]
        own = [tag for tag in room if rng.random() < 0.6]
        rows.append(tagged(number, *own, split="val" if number % 4 == 0 else "train"))
    return rows


def questions_from_tags(examples: Iterable[Example], *, seed: int = 0) -> list[Example]:
    """Return the questions about presence."""
    rows = all_questions_from_tags(examples, seed=seed)
    return [row for row in rows if row.question_type == "presence"]


def tag_in(question: str) -> str:
    """Return the tag of the three rooms that a question asks about."""
    words = question.replace("buses", "bus").split()
    names = [tag for room in ROOMS.values() for tag in room]
    names += [f"{tag}s" for tag in names]
    named = [
        tag for tag in names if f" {tag} " in f" {' '.join(words)} ".replace("people", "person")
    ]
    tag = max(named, key=len)
    return tag if tag in {t for room in ROOMS.values() for t in room} else tag[:-1]


def test_answers_agree_with_the_tags_and_are_balanced() -> None:
    examples = {row.image_id: row for row in make_rooms()}
    rows = questions_from_tags(examples.values())
    assert len(rows) > len(examples)
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        example = examples[row.image_id]
        assert row.references == (("yes",) if tag_in(row.question) in example.tags else ("no",))
        assert (row.kind, row.question_type, row.answer_type) == ("questions", "presence", "yes/no")
        assert (row.split, row.image) == (example.split, example.image)
        counts[row.split, row.question][row.references[0]] += 1
    assert {split for split, _ in counts} == {"train", "val"}
    assert all(answers["yes"] == answers["no"] for answers in counts.values())
    per_image = Counter((row.image_id, row.references) for row in rows)
    assert max(per_image.values()) <= 3
    assert len({row.question_id for row in rows}) == len(rows)


def test_absent_tags_mostly_are_of_the_same_room() -> None:
    examples = {row.image_id: row for row in make_rooms()}
    same = []
    for row in questions_from_tags(examples.values()):
        tags = examples[row.image_id].tags
        if row.references == ("no",) and tags:
            room = next(room for room in ROOMS.values() if tags[0] in room)
            same.append(tag_in(row.question) in room)
    # A random absent tag is of the same room in 18 % of the cases.
    assert sum(same) > 0.6 * len(same)


def test_questions_depend_on_the_seed_but_not_on_the_order() -> None:
    rows = make_rooms(60)
    made = questions_from_tags(rows)
    assert sorted(questions_from_tags(rows[::-1]), key=repr) == sorted(made, key=repr)
    assert questions_from_tags(rows, seed=1) != made


def test_compatible_nouns_are_those_of_the_pairs() -> None:
    names = ["dog", "animal", "car", "woman", "player", "man", "person", "puppy", "unknown"]
    expected = {a: {b for b in names if are_compatible(a, b)} for a in names}
    assert list_compatible(names) == expected
    assert expected["player"] >= {"woman", "man"}
    assert "man" not in expected["woman"]


def test_a_tag_for_the_same_thing_is_not_absent() -> None:
    rows = [tagged(i, ("dog", "animal", "car")[i % 3]) for i in range(60)]
    for row in questions_from_tags(rows):
        if row.references == ("no",):
            present = rows[int(row.image_id.removesuffix(".jpg"))].tags
            assert not ("dog" in present and "animal" in row.question)
            assert not ("animal" in present and "dog" in row.question)


@pytest.mark.parametrize(
    ("tag", "starts"),
    [
        ("umbrella", ("an umbrella", "umbrellas")),
        ("skis", ("skis", "any skis")),
        ("broccoli", ("broccoli", "any broccoli")),
        ("scissors", ("scissors", "any scissors")),
        ("wine glass", ("a wine glass", "wine glasses")),
        ("tag 2", ("a tag 2", "tag 2s")),
    ],
)
def test_questions_have_the_article_and_number_of_the_tag(tag, starts) -> None:
    rows = [tagged(i, tag if i % 2 else "dog") for i in range(120)]
    made = {row.question for row in questions_from_tags(rows) if "dog" not in row.question}
    assert len(made) >= 4
    for question in made:
        assert any(f" {start} " in f" {question} " for start in starts), question
        assert not question.startswith(f"is there a {tag}") or starts[0].startswith("a ")


def test_a_data_set_of_tags_is_read_as_questions(tmp_path, read):
    rows = [{"image": f"{i}.jpg", "tags": ["dog"] if i % 2 else ["cat"]} for i in range(6)]
    file = write(tmp_path / "x.jsonl", json_lines(*rows, {"image": "6.jpg", "tags": []}))
    pictures(tmp_path, *(f"{i}.jpg" for i in range(7)))
    made, report = read(file, questions=True)
    assert Counter(row.references[0] for row in made) == {"yes": 6, "no": 6, "cat": 3, "dog": 3}
    unasked = {"6.jpg"} - {row.image_id for row in made}
    assert list_problems(report) == (
        {"image whose captions or tags give no question": sorted(unasked)} if unasked else {}
    )


def test_spellings_of_a_tag_in_different_unicode_forms_are_equal():
    assert parse_tags(["Cafe\u0301", "caf\u00e9 "]) == ["caf\u00e9", "caf\u00e9"]
