"""Questions on the command line of `captioner caption`: --question and its options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_checkpoint
from tiny_vqa import QUESTIONS

from captioner.cli import generate

ROOT = Path(__file__).resolve().parents[2]
Q, R = QUESTIONS[:2]


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


def process(*words: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "generate.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120, **options)


def rows_of(out: list[str]) -> list[dict]:
    return [json.loads(line) for line in out]


# --question


def test_one_question_about_one_image_prints_the_answer_alone(run, photos, answer_of):
    path = photos / "0.png"
    assert run(path, "--question", Q) == (0, [answer_of(path, Q).text], "")


def test_columns_that_vary_are_printed_before_the_answer(run, photos, answer_of):
    path = str(photos / "1.png")
    asked = ("--question", Q, "--question", f"  {R}\t")
    status, out, err = run(path, *asked)
    assert (status, err) == (0, "")
    assert out == [f"{q}\t{answer_of(path, q).text}" for q in (Q, R)]
    paths = [str(photos / f"{i}.png") for i in (2, 0)]
    expected = [f"{p}\t{q}\t{answer_of(p, q).text}" for p in paths for q in (Q, R)]
    assert run(*paths, *asked) == (0, expected, "")
    assert run(*asked[:2], *paths)[1] == expected[::2]
    assert len({line.split("\t")[-1] for line in expected}) > 1


def test_each_image_is_encoded_once(run, photos, encoded):
    words = [word for question in QUESTIONS for word in ("--question", question)]
    status, out, _ = run(photos, photos / "1.png", *words, "--batch-size", 5)
    assert (status, len(out)) == (0, 4 * len(QUESTIONS))
    assert sum(encoded) == 3


def test_jsonl(run, photos, answer_of):
    status, out, _ = run(photos, "--question", Q, "--question", R, "--jsonl")
    rows = rows_of(out)
    assert status == 0
    assert [(row["image"], row["question"]) for row in rows] == [
        (str(photos / f"{i}.png"), q) for i in range(3) for q in (Q, R)
    ]
    for row in rows:
        assert list(row) == ["image", "question", "answer", "confidence"]
        expected = answer_of(row["image"], row["question"])
        assert row["answer"] == expected.text
        assert row["confidence"] == pytest.approx(expected.confidence, rel=1e-3)


def test_num_answers(run, photos, answer_of):
    path = photos / "0.png"
    expected = [a.text for a in answer_of(path, Q, num_answers=5).answers]
    assert len(expected) > 3  # More than the beams of the checkpoint.
    assert run(path, "--question", Q, "--num-answers", 5)[1] == expected
    _, out, _ = run(path, "--question", Q, "--num-answers", 5, "--jsonl")
    (row,) = rows_of(out)
    assert [a["answer"] for a in row["answers"]] == expected
    assert row["answers"][0] == {"answer": row["answer"], "confidence": row["confidence"]}
    assert all(0 < a["confidence"] <= 1 for a in row["answers"])
    assert "answers" not in rows_of(run(path, "--question", Q, "--jsonl")[1])[0]


def test_closed_answers(run, photos, tmp_path):
    file = tmp_path / "answers.txt"
    file.write_text("Yes\n\n  no \nred, dog\n", encoding="utf-8")
    common = (photos, "--question", Q, "--num-answers", 3, "--jsonl", "--answers")
    blank = f"generate.py: {file}: skipped 1 blank line\n"
    for given, expected, message in (
        (f"@{file}", {"Yes", "no", "red, dog"}, blank),
        ("Yes, no,x", {"Yes", "no", "x"}, ""),
        ("Yes,no, yes ", {"Yes", "no"}, "generate.py: --answers: duplicates are ignored: "),
    ):
        status, out, err = run(*common, given)
        assert (status, err[: len(message) or None]) == (0, message)
        for row in rows_of(out):
            assert {a["answer"] for a in row["answers"]} == expected
            assert sum(a["confidence"] for a in row["answers"]) == pytest.approx(1, abs=1e-3)


def test_min_confidence(run, photos, answer_of):
    path = photos / "0.png"
    confidence = answer_of(path, Q).confidence
    words = (path, "--question", Q, "--num-answers", 2)
    assert run(*words, "--min-confidence", min(1, confidence * 1.1))[1] == ["unsure"]
    assert "unsure" not in run(*words, "--min-confidence", confidence * 0.9)[1]
    (row,) = rows_of(run(*words, "--min-confidence", 1, "--jsonl")[1])
    assert row["answer"] == "unsure"
    assert row["confidence"] == pytest.approx(confidence, rel=1e-3)
    assert row["answers"][0]["answer"] == answer_of(path, Q).text


def test_an_image_from_stdin(run, photos, type_in, encoded):
    expected = run(photos / "1.png", "--question", Q)[1]
    type_in((photos / "1.png").read_bytes())
    assert run("-", "--question", Q) == (0, expected, "")
    type_in((photos / "1.png").read_bytes())
    _, out, _ = run("-", photos / "0.png", "--question", Q)
    assert out[0] == f"-\t{Q}\t{expected[0]}"


@pytest.mark.parametrize(
    ("question", "message"),
    [("", "empty"), ("?!", "no letter"), ("dog " * 99, "at most 32"), ("a\x07b", "control")],
)
def test_an_invalid_question_is_a_one_line_error(run, photos, encoded, question, message):
    status, out, err = run(photos, "--question", question)
    assert (status, out, err.count("\n")) == (1, [], 1)
    assert message in err
    assert encoded == []
    status, out, err = run(photos, "--question", question, "--question", Q, "--jsonl")
    assert (status, err.count("\n")) == (3, 1)
    assert ["error" in row for row in rows_of(out)] == [True, False] * 3


def test_a_bad_image_is_reported_once_and_the_others_are_answered(run, photos):
    good = run(photos, "--question", Q, "--question", R)[1]
    (photos / "0a.png").write_bytes(b"no picture")
    status, out, err = run(photos, "--question", Q, "--question", R)
    assert (status, out, err.count("\n")) == (3, good, 1)
    assert "0a.png" in err
    rows = rows_of(run(photos, "--question", Q, "--question", R, "--jsonl")[1])
    assert ["error" in row for row in rows] == [False] * 2 + [True] * 2 + [False] * 4
    assert list(rows[2]) == ["image", "question", "error"]
    status, out, err = run(photos / "0a.png", "--question", Q)
    assert (status, out, err.count("\n")) == (1, [], 1)


# Usage and messages


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--question", Q), "PATH"),
        (("--ask",), "PATH"),
        (("a.png", "--question"), "--question"),
        (("a.png", "--question", Q, "--ask"), "--question and --ask"),
        (("a.png", "--questions", "q.txt", "--ask"), "--questions and --ask"),
        (("a.png", "--question", Q, "--questions", "q.txt"), "--question and --questions"),
        (("a.png", "b.png", "--ask"), "one image"),
        (("-", "--ask"), "stdin"),
        (("a.png", "--answers", "yes,no"), "--answers needs"),
        (("a.png", "--num-answers", "2"), "--num-answers needs"),
        (("a.png", "--min-confidence", "0.5"), "--min-confidence needs"),
        (("a.png", "--question", Q, "--num-captions", "2"), "--num-captions"),
        (("a.png", "--ask", "--num-captions", "2"), "--num-captions"),
        (("a.png", "--question", Q, "--num-answers", "0"), "--num-answers"),
        (("a.png", "--question", Q, "--min-confidence", "1.5"), "--min-confidence"),
        (("a.png", "--question", Q, "--min-confidence", "nan"), "--min-confidence"),
        (("a.png", "--question", Q, "--min-confidence", "x"), "number from 0 to 1"),
        (("a.png", "--question", Q, "--answers", ""), "empty"),
        (("a.png", "--question", Q, "--answers", "yes,,no"), "empty"),
    ],
)
def test_usage_errors(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        generate.main(list(words))
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[-1]


def test_questions_to_a_captioning_checkpoint_are_an_error(photos, tmp_path, capsys, type_in):
    words = ["--checkpoint", str(make_checkpoint(tmp_path / "captions"))]
    path = str(photos / "0.png")
    for asking in (["--question", Q], ["--ask"]):
        type_in(Q)
        assert generate.main([path, *asking, *words]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "captions only" in err
    assert generate.main([path, *words]) == 0


def test_help_describes_questions_and_does_not_import_torch():
    code = (
        "import sys, generate\n"
        "try: generate.main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'PIL', 'timm', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--question ", "--questions", "--ask", "--answers", "--min-confidence", "JSONL"):
        assert word in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_names_and_questions_that_are_not_utf8(checkpoint, photos, tmp_path):
    name = os.fsencode(photos) + b"/caf\xe9.png"
    os.rename(photos / "0.png", name)
    (tmp_path / "q.jsonl").write_bytes(
        b'{"image": "photos/caf\xe9.png", "question": "%s"}\n' % Q.encode()
        + b'{"image": "photos/1.png", "question": "caf\xe9?"}\n'
    )
    done = process("--questions", tmp_path / "q.jsonl", "--jsonl", "--checkpoint", checkpoint)
    good, bad = rows_of(done.stdout.decode().splitlines())
    assert done.returncode == 3
    assert "answer" in good
    assert "not UTF-8" in bad["error"]
    assert b"Traceback" not in done.stderr
    done = process(os.fsdecode(name), "--question", Q, "--question", R, "--checkpoint", checkpoint)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
