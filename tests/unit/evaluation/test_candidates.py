"""Matching of candidates with references: by ids, by paths and by questions."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_data import write

from captioner.data import Example
from captioner.errors import MetricError
from captioner.evaluation.candidate_files import read_candidates
from captioner.evaluation.candidates import match_answers, match_captions


def examples(paths: list[str]) -> list[Example]:
    return [Example(f"/data/{path}", path, ("a dog",), "val") for path in paths]


def test_path_matches_by_its_longest_known_suffix():
    references = examples(["train/a.png", "val/a.png", "val/b.png"])

    def matched(*images: str) -> dict[str, str]:
        rows = [(image, {"image": image, "caption": image}) for image in images]
        return match_captions(rows, references, source="test")

    images = ("/else/val/a.png", "/data/train/a.png", "b.png")
    assert set(matched(*images)) == {"train/a.png", "val/a.png", "val/b.png"}
    with pytest.raises(MetricError, match=r"1 candidates without references \(a\.png\)"):
        matched("a.png", "/data/train/a.png", "b.png")


NAMES = st.lists(st.sampled_from([f"{d}{n}.png" for d in ("", "x/", "y/") for n in range(4)]),
                 min_size=1, unique=True)  # fmt: skip


@given(NAMES, st.randoms(), st.booleans())
def test_matching_ignores_order_and_needs_all_rows(tmp_path_factory, names, random, lines):
    shuffled = random.sample(names, len(names))
    path = tmp_path_factory.mktemp("rows") / ("rows.jsonl" if lines else "rows.json")
    write(path, [{"image_id": name, "caption": f"this is {name}"} for name in shuffled])
    rows = list(read_candidates(str(path)))
    matched = match_captions(rows, examples(names), source="test")
    assert matched == {name: f"this is {name}" for name in names}
    with pytest.raises(MetricError, match="1 references without candidate"):
        match_captions(rows[1:], examples(names), source="test")
    with pytest.raises(MetricError, match="1 candidates without references"):
        match_captions(
            rows, examples([name for name in names if name != shuffled[0]]), source="test"
        )


def test_folders_distinguish_equal_file_names():
    references = [
        Example(f"/data/{part}/x/1.jpg", str(i), ("a",), "val")
        for i, part in enumerate(("train", "val"))
    ]
    rows = [(f"{i}", {"image": f"/else/{p}/x/1.jpg", "caption": p}) for i, p in
            enumerate(("val", "train"))]  # fmt: skip
    assert match_captions(rows, references, source="s") == {"1": "val", "0": "train"}
    rows = [("1", {"id": 0, "image": "1.jpg", "caption": "b"}), rows[0]]
    assert match_captions(rows, references, source="s") == {"0": "b", "1": "val"}


@pytest.mark.parametrize("image", ["C:\\data\\a.jpg", "https://host/x/a.jpg", "./a.jpg"])
def test_image_matches_by_path_suffix(image):
    references = [Example("/data/a.jpg", "0", ("a",), "val")]
    assert match_captions([("1", {"image": image, "caption": "b"})], references, source="s") == {
        "0": "b"
    }


def test_image_content_is_not_a_path():
    references = [Example("/data/a.jpg", "0", ("a",), "val")]
    row = {"image_id": 0, "image": "data:image/png;base64," + "ab/c" * 500_000, "caption": "b"}
    assert match_captions([("1", row)], references, source="s") == {"0": "b"}


@given(st.permutations(range(4)), st.permutations(range(4)), st.sampled_from(["id", "image_id"]))
def test_row_matches_only_if_its_keys_agree(ids, images, key):
    """A caption is never scored on an image that one of its keys does not name."""
    references = [Example(f"/d/{i}.jpg", str(10 + i), ("a",), "val") for i in range(4)]
    rows = [
        (str(n), {key: 10 + i, "image": f"{j}.jpg", "caption": str(n)})
        for n, (i, j) in enumerate(zip(ids, images, strict=True))
    ]
    if ids == images:
        matched = match_captions(rows, references, source="s")
        assert matched == {str(10 + i): str(n) for n, i in enumerate(ids)}
    else:
        with pytest.raises(MetricError, match=rf"{key} \d+ is \d.jpg .* but image is \d.jpg"):
            match_captions(rows, references, source="s")


def questions() -> list[Example]:
    pairs = [("a.jpg", "what is it?"), ("a.jpg", "where is it?"), ("b.jpg", "what is it?")]
    return [
        Example(f"/d/{image}", image, ("x",), "val", text, str(i))
        for i, (image, text) in enumerate(pairs)
    ]


def answers(*pairs: tuple[str, str]) -> list[tuple[str, dict]]:
    return [
        (f"r:{i}", {"question_id": i, "image": image, "question": text, "answer": str(i)})
        for i, (image, text) in enumerate(pairs)
    ]


WHAT, WHERE, OTHER = ("a.jpg", "What is it"), ("x/a.jpg", "where is it?"), ("b.jpg", "what is it?")


def test_question_id_must_agree_with_image_and_question():
    rows = answers(WHAT, WHERE, OTHER)
    assert match_answers(rows, questions(), source="s") == {"0": "0", "1": "1", "2": "2"}
    for wrong, message in (
        ((WHERE, WHAT, OTHER), "question_id 0 is 'what is it?' in the data set, but question is"),
        ((OTHER, WHERE, WHAT), "of a.jpg, but image is b.jpg"),
        ((WHAT, WHERE, ("z.jpg", "what is it?")), "of b.jpg, but image is z.jpg"),
    ):
        with pytest.raises(MetricError, match=re.escape(message)):
            match_answers(answers(*wrong), questions(), source="s")
    # If no question and no file name is known, rows are matched by question_id.
    rows = answers(*((f"{i}.png", f"Q: {i}") for i in range(3)))
    assert match_answers(rows, questions(), source="s") == {"0": "0", "1": "1", "2": "2"}


def test_unknown_question_id_is_ignored_if_the_question_matches():
    rows = answers(OTHER, WHERE, WHAT)
    rows = [(where, row | {"question_id": 100 + row["question_id"]}) for where, row in rows]
    assert match_answers(rows, questions(), source="s") == {"2": "0", "1": "1", "0": "2"}
