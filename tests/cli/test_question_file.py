"""Questions in a text file or in JSONL rows: --questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import picture
from tiny_vqa import QUESTIONS

from captioner.cli import generate

ROOT = Path(__file__).resolve().parents[2]
Q, R = QUESTIONS[:2]


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


@pytest.fixture
def write_rows(tmp_path, photos):
    """Return a function that writes rows to a JSONL file beside the folder of photos."""

    def write(*rows: object, name: str = "questions.jsonl") -> Path:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / name

    return write


def rows_of(out: list[str]) -> list[dict]:
    return [json.loads(line) for line in out]


def test_questions_in_a_text_file_are_asked_about_every_image(run, photos, tmp_path):
    file = tmp_path / "questions.txt"
    file.write_bytes(f"\ufeff{Q}\r\n\n   \n  {R}".encode())
    expected = run(photos, "--question", Q, "--question", R)
    assert run(photos, "--questions", file) == expected
    (tmp_path / "questions").write_text(f"\n{Q}\n{R}\n")
    assert run(photos, "--questions", tmp_path / "questions") == expected


def test_an_invalid_line_of_a_text_file_is_reported_with_its_number(run, photos, tmp_path):
    file = tmp_path / "questions.txt"
    file.write_bytes(f"{Q}\n\n???\ncaf\xe9\n".encode("latin-1"))
    status, out, err = run(photos, "--questions", file)
    assert (status, len(out)) == (3, 3)
    assert [f"{file}:{n}: " in err for n in (1, 2, 3, 4)] == [False, False, True, True]
    assert err.count("\n") == 2


def test_jsonl_rows_are_answered_in_their_order(run, photos, write_rows, encoded, answer_of):
    pairs = [(i, q) for q in QUESTIONS[:4] for i in (2, 0, 1, 0)]
    rows = [
        {"question_id": 100 - n, "image": f"photos/{i}.png", "question": q, "answer": "truth"}
        for n, (i, q) in enumerate(pairs)
    ]
    file = write_rows(*rows)
    status, out, err = run("--questions", file, "--jsonl", "--batch-size", 3)
    assert (status, err) == (0, "")
    assert sum(encoded) == 3
    for row, found, (i, q) in zip(rows, rows_of(out), pairs, strict=True):
        assert list(found) == ["image", "question", "answer", "confidence", "question_id"]
        assert [found[k] for k in ("image", "question", "question_id")] == [
            row[k] for k in ("image", "question", "question_id")
        ]
        assert found["answer"] == answer_of(photos / f"{i}.png", q).text
    plain = [line.split("\t") for line in run("--questions", file)[1]]
    assert plain == [[row["image"], row["question"], row["answer"]] for row in rows_of(out)]


def test_a_json_list_is_rejected(run, photos, tmp_path):
    file = tmp_path / "q.json"
    rows = [{"image": "photos/0.png", "question": Q}, {"image": "photos/1.png", "question": R}]
    for text in (json.dumps(rows), json.dumps(rows, indent=1)):
        file.write_text(text)
        status, out, err = run(photos, "--questions", file)
        assert (status, out, err.count("\n")) == (1, [], 1)
        assert "one object per line" in err
    file.write_text(f"[1] {Q}\n")  # A line of text may begin with a bracket.
    assert run(photos / "0.png", "--questions", file)[0] == 0


def test_reference_answers_in_a_row_are_not_copied(run, write_rows):
    truths = {"answers": ["truth"], "confidence": 1.0, "error": "none", "answer_type": "other"}
    (row,) = rows_of(
        run(
            "--questions", write_rows({"image": "photos/0.png", "question": Q} | truths), "--jsonl"
        )[1]
    )
    assert list(row) == ["image", "question", "answer", "confidence", "answer_type"]
    assert row["confidence"] < 1


def test_jsonl_is_recognized_by_suffix_or_first_character(run, write_rows, photos):
    row = {"image": "photos/0.png", "question": Q}
    expected = run(photos / "0.png", "--question", Q)
    for name in ("a.jsonl", "a.NDJSON", "a.txt", "a"):
        assert run("--questions", write_rows("", row, name=name)) == expected
    status, _, err = run("--questions", write_rows("no json", name="b.jsonl"))
    assert status == 1
    assert "b.jsonl:1: no JSON" in err


def test_image_paths_are_relative_to_the_file_or_working_folder(
    run, write_rows, photos, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    picture(7).save("only_here.png")
    names = ["photos/0.png", str(photos / "0.png"), "only_here.png"]
    file = write_rows(*({"image": name, "question": Q} for name in names))
    status, out, _ = run("--questions", file)
    assert status == 0
    assert [line.split("\t")[0] for line in out] == names
    answers = [line.split("\t")[2] for line in out]
    assert answers[:2] == run(photos / "0.png", "--question", Q)[1] * 2
    assert answers[2:] == run("only_here.png", "--question", Q)[1]
    # The folder of the file has precedence over the working folder.
    (elsewhere / "photos").mkdir()
    picture(8).save("photos/0.png")
    assert run("--questions", file)[1] == out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "photos/0.png", "question": "what', "no JSON"),
        ("[1, 2]", "found list"),
        ("[" * 100_000, "no JSON"),
        ({"image": "photos/0.png"}, "found nothing under question"),
        ({"question": Q}, "found nothing under image"),
        ({"image": ["photos/0.png"], "question": Q}, "found list under image"),
        ({"image": "photos/0.png", "question": 5}, "found int under question"),
        ({"image": "photos/0.png", "question": ""}, "is empty"),
        ({"image": "photos/0.png", "question": "\ud800?"}, "not UTF-8"),
    ],
)
def test_an_invalid_row_is_reported_and_does_not_stop_the_run(run, write_rows, line, message):
    good = {"image": "photos/1.png", "question": Q, "question_id": 1}
    file = write_rows(good, "", line, good)
    status, out, err = run("--questions", file, "--jsonl")
    rows = rows_of(out)
    assert (status, len(rows), err.count("\n")) == (3, 3, 1)
    assert f"{file}:3: " in err
    assert message in err
    assert message in rows[1]["error"]
    assert "answer" not in rows[1]
    assert rows[0] == rows[2]
    assert rows[0].keys() == {"image", "question", "answer", "confidence", "question_id"}
    status, out, _ = run("--questions", file)
    assert (status, len(out)) == (3, 2)


def test_the_result_of_an_unreadable_image_keeps_the_other_keys(run, write_rows):
    bad = {"image": "photos/none.png", "question": Q, "question_id": "a"}
    good = {"image": "photos/1.png", "question": Q}
    status, out, err = run("--questions", write_rows(bad, good, bad), "--jsonl")
    rows = rows_of(out)
    assert (status, err.count("\n")) == (3, 1)
    assert rows[0] == rows[2] == bad | {"error": rows[0]["error"]}
    assert "none.png" in rows[0]["error"]


@pytest.mark.parametrize("content", [None, "", "\n  \n"])
def test_a_file_without_questions_is_an_error(run, photos, tmp_path, content):
    file = tmp_path / "none.txt"
    if content is not None:
        file.write_text(content)
    status, out, err = run(photos, "--questions", file)
    assert (status, out, err.count("\n")) == (1, [], 1)
    assert str(file) in err
    assert run(photos, "--questions", tmp_path)[0] == 1


@pytest.mark.parametrize("answers", ["@none.txt", "@", ".,yes"])
def test_unusable_allowed_answers_are_an_error(run, photos, answers):
    status, out, err = run(photos, "--question", Q, "--answers", answers)
    assert (status, out, err.count("\n")) == (1, [], 1)


def test_jsonl_rejects_paths_and_text_requires_them(write_rows, photos, capsys):
    jsonl = write_rows({"image": "photos/0.png", "question": Q})
    text = write_rows(Q, name="questions.txt")
    for words in ((str(photos), "--questions", str(jsonl)), ("--questions", str(text))):
        with pytest.raises(SystemExit, match="2"):
            generate.main(list(words))
        out, err = capsys.readouterr()
        assert out == ""
        assert "PATH" in err.splitlines()[-1]
