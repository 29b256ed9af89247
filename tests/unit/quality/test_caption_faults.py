"""Findings about captions, questions and answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from quality_data import caption, write_set

from captioner.quality.audit import check_dataset
from captioner.quality.caption_ends import ends_in_complement
from captioner.quality.text_repair import (
    escape_controls,
    find_markup,
    has_mojibake,
    list_controls,
    repair,
)
from captioner.quality.word_statistics import WordStatistics

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")


def findings(path: Path) -> list[tuple[str, str]]:
    """Return kinds and texts."""
    return [(f.kind, f.text) for f in check_dataset(path, processes=1).findings]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("truncated-caption", "A red dog is standing near the"),
        ("truncated-caption", "A red dog is standing near the ."),
        ("truncated-caption", "A red dog is standing near the hou"),
        ("mojibake", "A red dog is standing near the cafÃ© on a sunny day ."),
        ("mojibake", "A red dog is standing near the caf\ufffd on a sunny day ."),
        ("markup", "<b>A red dog</b> is standing near the tree &amp; the ball ."),
        ("markup", "A red dog is standing near the tree https://example.com/a.jpg"),
        ("other-language", "Ein brauner Hund rennt schnell über die grüne Wiese ."),
        ("other-language", "Два мальчика играют в мяч на пляже ."),
        ("other-language", "一只狗在雪地里跑"),
        ("unusual-length", " ".join([caption(3)] * 5)),
        ("unusual-length", "Dogs"),
    ],
)
def test_a_fault_of_one_caption_is_found(tmp_path, kind, text):
    path = write_set(tmp_path, changes={4: {"captions": [caption(8), text]}})
    assert (kind, text) in findings(path)
    (finding,) = (f for f in check_dataset(path, processes=1).findings if f.kind == kind)
    assert (finding.place, finding.split, finding.entry) == ("data.jsonl:5", "train", 4)


def test_empty_and_repeated_captions_are_found(tmp_path):
    texts = {4: ["", caption(8)], 5: [" . "], 6: [caption(12), caption(12).upper().rstrip(" .")]}
    path = write_set(tmp_path, changes={i: {"captions": some} for i, some in texts.items()})
    assert findings(path) == [
        ("empty-caption", ""),
        ("empty-caption", ""),
        ("repeated-caption", caption(12)),
    ]


def test_boilerplate_differs_from_frequent_captions(tmp_path):
    boilerplate, frequent = "Click to see this picture in full size .", caption(40)
    changes = {i: {"captions": [caption(2 * i), boilerplate]} for i in range(6)}
    related = frequent.replace("sunny", "rainy")
    changes |= {i: {"captions": [related, frequent]} for i in range(10, 16)}
    path = write_set(tmp_path, changes=changes)
    assert set(findings(path)) == {("boilerplate-caption", boilerplate)}


def test_the_sole_caption_of_many_images_is_boilerplate(tmp_path):
    text = "A photo from my camera on a sunny day ."
    path = write_set(tmp_path, changes={i: {"captions": [text]} for i in range(12)})
    assert findings(path) == [("boilerplate-caption", text)] * 12


def test_words_that_can_end_captions_are_no_truncation():
    captions = [caption(i) for i in range(60)] + ["A man is looking up ."] * 30
    words = WordStatistics(captions, english=True)
    for text in ("A dog is looking up", "A dog is near the dog", "A dog", "a"):
        assert words.explain_truncation(text, []) == ""
    assert "hou" in words.explain_truncation("A dog near a hou", [])
    assert "skateboard" in words.explain_truncation("He is on a skate", ["A skateboard ."])


def test_captions_without_periods_are_no_truncation(tmp_path):
    changes = {
        i: {"captions": [caption(2 * i).rstrip(" ."), caption(2 * i + 1).rstrip(" .")]}
        for i in range(30)
    }
    changes[3] = {"captions": ["A red dog is standing near the", caption(7).rstrip(" .")]}
    path = write_set(tmp_path, changes=changes)
    assert findings(path) == [("truncated-caption", "A red dog is standing near the")]


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("a cafÃ© in town", "a café in town"),
        ("the â€œbestâ€\x9d dog", "the \u201cbest\u201d dog"),
        ("<p>two <b>dogs</b></p>", "two dogs"),
        ("dogs &amp; cats &lt;br&gt;", "dogs & cats"),
        ("see http://a.b/c?d=e now", "see now"),
        ("[a dog](http://x.y)", "a dog"),
        ("<script>alert(1)</script> a dog", "a dog"),
        ("a dog <STYLE type='x'>p {}\n</style > runs", "a dog runs"),
        ("a dog &lt;script&gt;alert(1)&lt;/script&gt;", "a dog"),
        ("a dog <script>alert(1)", "a dog"),
    ],
)
def test_texts_are_repaired(text, repaired):
    assert find_markup(text) or has_mojibake(text)
    assert repair(text) == repaired
    assert not find_markup(repaired)
    assert not has_mojibake(repaired)


@pytest.mark.parametrize("text", ["a\x00 dog", "a \x07dog", "a \x1b[31mdog\x1b[0m", "\u202ea dog"])
def test_control_characters_are_removed(text):
    assert list_controls(text)
    assert repair(text) == "a dog"
    assert not list_controls(escape_controls(text))


@pytest.mark.parametrize(
    "text", ["a dog\tand\na cat", "\U0001f468\u200d\U0001f467", "\u200f\u05d0\u05d1"]
)
def test_white_space_and_joiners_are_no_control_characters(text):
    assert not list_controls(text)


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "AT&T; 5 & 6", "naïve café", "at&t", "I <3 dogs"]
)
def test_correct_texts_are_not_repaired(text):
    assert repair(text) == text
    assert not find_markup(text)
    assert not has_mojibake(text)


def question(image: int, text: str, *answers: str) -> dict[str, object]:
    row = {"image": f"images/{image}.jpg", "question": text, "split": "train"}
    return row | {"answers": list(answers)}


def test_contradictory_answers_are_found(tmp_path):
    rows = [
        question(0, "what color?", "red"),
        question(0, "What color ?", "blue"),
        question(1, "is it day?", "yes", "no"),
        question(2, "how many?", "2"),
        question(2, "how many?", "two"),
        question(3, "what color?", "dark brown"),
        question(3, "what color?", "brown"),
        question(4, "what?", *["dog"] * 6, *["cat"] * 4),
        question(4, "what?", *["dog"] * 3, *["fox"] * 7),
        question(5, "is it?", *["yes"] * 6, *["no"] * 4),
        *[question(6, "who?", answer) for answer in ("man", "man", "man", "boy", "man")],
    ]
    found = check_dataset(write_set(tmp_path, extra=rows), processes=1).findings
    assert {f.kind for f in found} == {"contradictory-answers"}
    assert [Path(f.image).name for f in found] == ["0.jpg", "0.jpg", "1.jpg"]
    assert found[0].explanation == 'the answers are "red" and, in another row, "blue"'


def test_empty_questions_and_answers_are_found(tmp_path):
    rows = [question(0, " ", "red"), question(1, "what?", ""), question(2, "what?", "a dog")]
    path = write_set(tmp_path, extra=rows)
    assert findings(path) == [("empty-question", ""), ("empty-answer", "what?")]


def test_a_split_without_answers_is_a_public_test_set(tmp_path):
    rows = [question(0, "what?") | {"split": "test"}, question(2, "what?", "a dog")]
    assert findings(write_set(tmp_path, extra=rows)) == []


@pytest.mark.parametrize(
    ("text", "is_complete"),
    [
        ("people wait while a train pulls in", True),
        ("two men are playing and a dog looks on", True),
        ("a boy has a bench to sit on with", True),
        ("this is a rock that the man stands on", True),
        ("a man holds a rope that is connected to", False),
        ("a woman sits on a bench next to", False),
        ("a man is trying to jump into", False),
        ("a boy in a red shirt sits with a girl in", False),
        ("a boy jumps from one table to another at", False),
    ],
)
def test_final_prepositions_of_verbs_and_clauses_are_complete(text, is_complete):
    assert ends_in_complement(text.split()) == is_complete


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("The child is carry", "carrying"),
        ("Two boys are still walk", "walking"),
        ("A small boy jump", "jumping"),
        ("He is on a ski jump", ""),
        ("A horse on a walk", ""),
    ],
)
def test_bare_verbs_that_need_an_ending_are_truncated(text, verb):
    verbs = ("carrying", "walking", "jumping")
    captions = [f"A man is {word} near the walk ." for word in verbs] * 10
    words = WordStatistics(captions, english=True)
    assert verb in words.explain_truncation(text, [])
    assert bool(words.explain_truncation(text, [])) == bool(verb)
