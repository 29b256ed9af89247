"""Presence questions: balance, correctness and hard negatives."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from question_world import (
    WORLD,
    find_noun,
    image,
    presence,
    scene,
    world,
)

from captioner.data import Example
from captioner.data.caption_questions import questions_from_captions
from captioner.data.caption_questions.presence import may_be_present


def test_presence_answers_are_balanced_by_noun_wording_and_split() -> None:
    rows = presence(questions_from_captions(world()))
    nouns: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    wordings: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        nouns[row.split, find_noun(row.question)][row.references[0]] += 1
        wordings[row.split, row.question][row.references[0]] += 1
    assert {noun for _, noun in nouns} >= {"dog", "woman", "horse"}
    assert {split for split, _ in nouns} == {"train", "val"}
    for answers in (*nouns.values(), *wordings.values()):
        assert answers["yes"] == answers["no"]


def test_presence_answers_match_captions() -> None:
    examples = {row.image_id: row for row in world()}
    rows = presence(questions_from_captions(examples.values()))
    assert rows
    for row in rows:
        found = scene(*examples[row.image_id].references)
        noun = find_noun(row.question)
        if row.references == ("yes",):
            assert found.mentions[noun] >= 2
        else:
            assert not found.mentions[noun]
            assert not may_be_present(found, noun)


def test_presence_questions_are_at_most_two_fifths() -> None:
    rows = questions_from_captions(world())
    for split in ("train", "val"):
        own = [row for row in rows if row.split == split]
        assert 0 < len(presence(own)) <= 0.4 * len(own)


@pytest.mark.parametrize(
    ("caption", "noun"),
    [
        ("A puppy sleeps .", "dog"),
        ("An animal sleeps .", "dog"),
        ("A poodle sleeps .", "dog"),
        ("A hot dog on a plate .", "dog"),
        ("A man with a leash .", "dog"),
        ("A guy sleeps .", "man"),
        ("A person sleeps .", "man"),
        ("Two people sleep .", "woman"),
        ("A surfer in the sun .", "woman"),
        ("A boxer hits another boxer and his player .", "man"),
        ("A kid sleeps .", "boy"),
        ("A young man sleeps .", "boy"),
        ("A crowd .", "person"),
        ("A bicycle .", "bike"),
        ("A biker in the woods .", "bike"),
        ("A vehicle .", "car"),
        ("Soccer on a field .", "ball"),
        ("A disc flies .", "frisbee"),
        ("The surf at dawn .", "surfboard"),
        ("A bird drinks .", "water"),
        ("A ski slope .", "snow"),
        ("A DOG'S bowl", "dog"),
    ],
)
def test_noun_may_be_present_under_another_name(caption: str, noun: str) -> None:
    assert may_be_present(scene(caption), noun)


@pytest.mark.parametrize(
    ("caption", "noun"),
    [
        ("A dog sleeps on a rug .", "man"),
        ("A woman reads .", "dog"),
        ("A woman reads .", "man"),
        ("A man reads .", "girl"),
        ("A dog sleeps on a rug .", "cat"),
        ("A man reads .", "horse"),
        ("A dog sleeps on a rug .", "snow"),
    ],
)
def test_noun_without_hints_is_absent(caption: str, noun: str) -> None:
    assert not may_be_present(scene(caption), noun)


def test_synonyms_of_present_nouns_are_never_absent() -> None:
    """All images have dogs, but half of the captions say "puppy" or "animal"."""
    rows = [image(f"{i}.jpg", *WORLD["dog"]) for i in range(10)]
    for i, word in enumerate(("puppy", "animal", "poodle", "terrier", "pet", "hound") * 3):
        rows.append(image(f"b{i}.jpg", *(f"A {word} on a path {x} ." for x in "xyz")))
    asked_after = {find_noun(row.question) for row in presence(questions_from_captions(rows))}
    assert "dog" not in asked_after


def test_negative_answers_need_three_captions() -> None:
    rows = [Example(row.image, row.image_id, row.references[:2], row.split) for row in world()]
    assert questions_from_captions(rows)
    assert presence(questions_from_captions(rows)) == []


def test_no_question_about_often_omitted_nouns() -> None:
    rows = world()
    helmets = [
        Example(r.image, r.image_id, (r.references[0] + " A bench .", *r.references[1:]), r.split)
        for r in rows[::3]
    ]
    ids = {r.image_id for r in helmets}
    rows = [r for r in rows if r.image_id not in ids] + helmets
    assert "bench" not in {find_noun(r.question) for r in presence(questions_from_captions(rows))}


def test_hard_negatives_cooccur_with_present_nouns() -> None:
    """Horses occur with dogs, never with buses: "no" is asked about images with dogs."""
    colours = ("black", "white", "brown", "gray")
    verbs = ("run", "jump", "sit", "swim")
    rows = []
    for i in range(400):
        colour, verb = colours[i % 4], verbs[i // 4 % 4]
        thing = ("dog", "bus")[i // 16 % 2]
        friend = " A horse beside it ." if thing == "dog" and i // 32 % 3 == 0 else ""
        name = "both" if friend else thing
        rows.append(image(f"{name}{i}.jpg", *(f"A {colour} {thing} {verb}s .{friend}",) * 3))
    found = presence(questions_from_captions(rows))
    no = [r.image_id for r in found if find_noun(r.question) == "horse" and r.references == ("no",)]
    assert len(no) >= 10
    assert sum(name.startswith("dog") for name in no) > 0.8 * len(no)
