"""Rows of questions made from captions: ids, determinism, balance and unusual captions."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from question_world import (
    TYPES,
    answers_by_question,
    find_noun,
    image,
    presence,
    world,
)

from captioner.data import Example, read_dataset
from captioner.data.caption_questions import questions_from_captions
from captioner.data.caption_questions.nouns import parse_words

ROOT = Path(__file__).parents[3]


FLICKR8K = ROOT.parent / "shared" / "flickr8k"


def test_rows_belong_to_their_image() -> None:
    examples = {row.image_id: row for row in world()}
    rows = questions_from_captions(examples.values())
    assert {row.question_type for row in rows} >= {"presence", "activity"}
    for row in rows:
        own = examples[row.image_id]
        assert (row.image, row.split) == (own.image, own.split)
        assert row.question_type in TYPES
        assert len(row.references) == 1
        assert row.references[0] == row.references[0].lower().strip() != ""
        assert row.question == row.question.lower().strip() != ""
        assert not row.question.endswith("?")
        expected = {"presence": "yes/no", "count": "number"}.get(row.question_type, "other")
        assert row.answer_type == expected
        assert (row.references[0] in ("yes", "no")) == (expected == "yes/no")
        assert row.references[0].isdigit() == (expected == "number")


def test_ids_are_unique_for_repeated_images() -> None:
    rows = questions_from_captions([*world(), *world()])
    assert len({row.question_id for row in rows}) == len(rows) > 0


def test_questions_of_an_image_differ() -> None:
    rows = questions_from_captions(world())
    assert len({(row.image_id, row.question) for row in rows}) == len(rows)


def test_order_of_examples_does_not_change_questions() -> None:
    rows = world()
    expected = {row.question_id: row for row in questions_from_captions(rows)}
    random.Random(1).shuffle(rows)
    assert {row.question_id: row for row in questions_from_captions(rows)} == expected


def test_seed_changes_questions() -> None:
    first, same, other = (questions_from_captions(world(), seed=s) for s in (0, 0, 1))
    assert first == same
    assert first != other
    assert presence(first) != presence(other)


@pytest.mark.slow
def test_questions_do_not_depend_on_hash_seed() -> None:
    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]; from question_world import world;"
        "from captioner.data.caption_questions import questions_from_captions;"
        "print([tuple(vars(r).values()) for r in questions_from_captions(world())])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, str(ROOT), str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "4242")
    }
    expected = [tuple(vars(row).values()) for row in questions_from_captions(world())]
    assert printed == {f"{expected}\n"}


def test_most_common_answer_is_limited() -> None:
    """With 60 running, 15 jumping and 10 sitting dogs, "running" is kept as often as "jumping"."""
    rows = []
    for verb, number in (("running", 60), ("jumping", 15), ("sitting", 10)):
        rows += [image(f"{verb}{i}.jpg", *(f"A dog is {verb} .",) * 3) for i in range(number)]
    found = Counter(
        row.references[0]
        for row in questions_from_captions(rows)
        if row.question_type == "activity"
    )
    assert found == {"running": 15, "jumping": 15, "sitting": 10}


@pytest.mark.parametrize(
    "captions",
    [
        (),
        ("",),
        ("   ", "\u2028", "."),
        ("A dog",),
        ("\u72ac\u304c\u8d70\u308b", "\U0001f415 \U0001f3c3", "a\u0301\u200d\ud800 dog"),
        ("dog " * 300,),
        ("the the the a a an of of of", "and and , , ' 's 's"),
        ("A man\u2019s dog runs\u2026 it\u2019s happy",) * 2,
        ("A DOG RUNS!!! (really?)", "a dog runs"),
    ],
)
def test_unusual_captions_are_accepted(captions: tuple[str, ...]) -> None:
    rows = questions_from_captions([image("a.jpg", *captions), *world(8)])
    assert len({row.question_id for row in rows}) == len(rows)


def test_case_and_punctuation_do_not_change_questions() -> None:
    plain = answers_by_question(
        "a black dog runs on the grass", "a black dog is running", "a dog runs"
    )
    assert plain == answers_by_question(
        "A Black Dog RUNS on the grass .", "A black dog is running!", "A dog runs."
    )
    assert plain["what color is the dog"] == "black"


def test_images_without_captions_have_no_questions() -> None:
    assert questions_from_captions([]) == []
    assert questions_from_captions(iter([image("a.jpg")])) == []


VOCABULARY = sorted(
    parse_words(
        """a the two his another several no of in on with and , . 's dog dogs man woman people boys
        puppy red blue black light shirt shirts ball beach snow running runs run jump jumps sitting
        wearing holding is are to mouth its while as without picture xyzzy young group crowd"""
    )
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=12).map(" ".join), max_size=5),
        max_size=6,
    )
)
def test_random_words_give_valid_rows(captions: list[list[str]]) -> None:
    examples = [image(f"{i}.jpg", *own) for i, own in enumerate(captions)]
    rows = questions_from_captions(examples)
    assert len({row.question_id for row in rows}) == len(rows)
    assert len({(row.image_id, row.question) for row in rows}) == len(rows)
    answers = Counter(row.references[0] for row in presence(rows))
    assert answers["yes"] == answers["no"]
    for row in rows:
        said = " ".join(examples[int(row.image_id[:-4])].references)
        if row.question_type == "colour":
            assert all(word in said for word in row.references[0].split(" and "))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_is_accepted(captions: list[str]) -> None:
    for row in questions_from_captions([image("a.jpg", *captions)]):
        assert row.question_type in TYPES


@pytest.fixture(scope="module")
def flickr(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Example], list[Example]]:
    """Return a quarter of the train and dev images of Flickr8k and their questions."""
    if not FLICKR8K.is_dir():
        pytest.skip("needs Flickr8k in ../shared/flickr8k, beside the repository")
    cache = tmp_path_factory.mktemp("cache")
    table, _ = read_dataset(FLICKR8K, splits=("train", "val"), cache_dir=cache)
    examples = [
        Example(row["image"], row["image_id"], tuple(row["references"]), row["split"])
        for i, row in enumerate(table)
        if i % 4 == 0
    ]
    return examples, questions_from_captions(examples)


def majority_accuracy(rows: Iterable[Example]) -> float:
    """Return the accuracy of always giving the most common answer to a question."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        answers[row.question][row.references[0]] += 1
    right = sum(max(counts.values()) for counts in answers.values())
    return right / sum(counts.total() for counts in answers.values())


@pytest.mark.slow
def test_flickr8k_gives_several_questions_per_image(
    flickr: tuple[list[Example], list[Example]],
) -> None:
    examples, rows = flickr
    kinds = Counter(row.question_type for row in rows)
    assert kinds.keys() == TYPES
    assert len(rows) > 4 * len(examples)
    assert 0.3 < kinds["presence"] / len(rows) <= 0.4
    assert all(kinds[kind] > 0.02 * len(rows) for kind in TYPES)
    assert len({row.question_id for row in rows}) == len(rows)
    assert {len(asdict(row)["references"]) for row in rows} == {1}


@pytest.mark.slow
def test_flickr8k_questions_cannot_be_answered_without_image(
    flickr: tuple[list[Example], list[Example]],
) -> None:
    for split in ("train", "val"):
        rows = [row for row in flickr[1] if row.split == split]
        by_noun: dict[str, Counter[str]] = defaultdict(Counter)
        for row in presence(rows):
            by_noun[find_noun(row.question)][row.references[0]] += 1
        assert all(answers["yes"] == answers["no"] for answers in by_noun.values())
        assert len(by_noun) > 20
        assert majority_accuracy(presence(rows)) <= 0.55
        assert majority_accuracy(row for row in rows if row.question_type == "count") <= 0.65
        assert majority_accuracy(row for row in rows if row.question_type == "activity") <= 0.5
        assert majority_accuracy(row for row in rows if row.question_type == "place") <= 0.5


@pytest.mark.slow
def test_flickr8k_answers_are_in_captions(
    flickr: tuple[list[Example], list[Example]],
) -> None:
    examples, rows = flickr
    captions = {row.image_id: " ".join(row.references).lower() for row in examples}
    colours = [row for row in rows if row.question_type == "colour"]
    assert colours
    spelled = {"gray": ("gray", "grey"), "tan": ("tan", "beige"), "purple": ("purple", "violet")}
    for row in colours:
        for colour in row.references[0].split(" and "):
            said = spelled.get(colour, (colour,))
            assert any(word in captions[row.image_id] for word in said), row
