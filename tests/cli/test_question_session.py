"""Questions that are typed on stdin: --ask."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_vqa import QUESTIONS

ROOT = Path(__file__).resolve().parents[2]
Q, R = QUESTIONS[:2]


@pytest.fixture(scope="session")
def checkpoint(vqa_checkpoint: str) -> str:
    return vqa_checkpoint


def rows_of(out: list[str]) -> list[dict]:
    return [json.loads(line) for line in out]


def test_a_session_answers_each_line_and_encodes_the_image_once(run, photos, type_in, encoded):
    path = photos / "2.png"
    expected = [run(path, "--question", q)[1][0] for q in QUESTIONS]
    encoded.clear()
    type_in("\n".join(QUESTIONS))
    assert run(path, "--ask") == (0, expected, "")
    assert encoded == [1]


def test_a_session_continues_after_errors_and_ends_at_an_empty_line(run, photos, type_in):
    type_in(f"{Q}\n???\n{'dog ' * 99}\n  {R} \n\nnot read\n")
    status, out, err = run(photos / "0.png", "--ask")
    assert (status, len(out), err.count("\n")) == (3, 2, 2)
    assert out == [run(photos / "0.png", "--question", q)[1][0] for q in (Q, R)]
    type_in(b"caf\xe9\n" + Q.encode())
    status, out, err = run(photos / "0.png", "--ask")
    assert (status, len(out)) == (3, 1)
    assert "not UTF-8" in err
    type_in("!\n")
    assert run(photos / "0.png", "--ask")[0] == 1
    type_in("")
    assert run(photos / "0.png", "--ask") == (0, [], "")


def test_a_session_accepts_the_answer_options(run, photos, type_in):
    type_in(f"{Q}\n!\n")
    words = ("--answers", "yes,no", "--num-answers", 2, "--min-confidence", 1, "--jsonl")
    status, out, _ = run(photos / "0.png", "--ask", *words)
    row, error = rows_of(out)
    assert status == 3
    assert row["answer"] == "unsure"
    assert {a["answer"] for a in row["answers"]} == {"yes", "no"}
    assert list(error) == ["image", "question", "error"]


def test_a_session_needs_exactly_one_readable_image(run, photos, tmp_path, type_in):
    type_in(Q)
    status, out, err = run(tmp_path / "none.png", "--ask")
    assert (status, out, err.count("\n")) == (1, [], 1)
    with pytest.raises(SystemExit, match="2"):  # The folder has three images.
        run(photos, "--ask")


def test_a_terminal_shows_prompts_on_stderr(run, photos, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{Q}\n{R}\n"))
    status, out, err = run(photos / "0.png", "--ask")
    assert (status, len(out)) == (0, 2)
    assert err.count("question: ") == 3


@pytest.mark.slow
def test_a_session_answers_each_question_before_it_reads_the_next(checkpoint, photos, answer_of):
    path = photos / "0.png"
    command = [sys.executable, ROOT / "generate.py", path, "--ask", "--checkpoint", checkpoint]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as session:
        for question in (Q, R, Q):
            session.stdin.write(f"{question}\n")
            session.stdin.flush()
            assert session.stdout.readline() == f"{answer_of(path, question).text}\n"
        out, err = session.communicate(timeout=60)
    assert (session.returncode, out, err) == (0, "", "")
