"""Questions on generate.py's command line: where they come from, and what is printed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_checkpoint, picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

import captioner
from captioner.cli import generate

ROOT = Path(__file__).resolve().parents[2]
Q, R = QUESTIONS[:2]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_vqa_checkpoint(tmp_path_factory.mktemp("answers") / "best"))


@pytest.fixture(scope="session")
def answer_of(checkpoint):
    """The answer that the Python API gives."""
    model = captioner.load(checkpoint)
    return lambda path, question, **options: model.ask(path, question, **options)


@pytest.fixture
def type_in(monkeypatch):
    """Puts text, or bytes, on stdin."""

    def put(data: str | bytes) -> None:
        data = data.encode() if isinstance(data, str) else data
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return put


def process(*words: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "generate.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120, **options)


def rows_of(out: list[str]) -> list[dict]:
    return [json.loads(line) for line in out]


# --question


def test_one_question_about_one_image_prints_the_answer_alone(run, photos, answer_of):
    path = photos / "0.png"
    assert run(path, "--question", Q) == (0, [answer_of(path, Q).text], "")


def test_several_print_what_differs_before_the_answer(run, photos, answer_of):
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
    assert len(expected) > 3  # more than the checkpoint's beams
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
    for given, expected, told in (
        (f"@{file}", {"Yes", "no", "red, dog"}, blank),
        ("Yes, no,x", {"Yes", "no", "x"}, ""),
        ("Yes,no, yes ", {"Yes", "no"}, "generate.py: --answers: used once, since they repeat"),
    ):
        status, out, err = run(*common, given)
        assert (status, err[: len(told) or None]) == (0, told)
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
    ("question", "told"),
    [("", "empty"), ("?!", "no letter"), ("dog " * 99, "at most 32"), ("a\x07b", "control")],
)
def test_what_is_no_question_is_told_in_one_line(run, photos, encoded, question, told):
    status, out, err = run(photos, "--question", question)
    assert (status, out, err.count("\n")) == (1, [], 1)
    assert told in err
    assert encoded == []
    status, out, err = run(photos, "--question", question, "--question", Q, "--jsonl")
    assert (status, err.count("\n")) == (3, 1)
    assert ["error" in row for row in rows_of(out)] == [True, False] * 3


def test_a_bad_image_is_told_once_and_takes_nothing_from_the_others(run, photos):
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


# --questions


def test_a_text_file_is_asked_of_every_image(run, photos, tmp_path):
    file = tmp_path / "questions.txt"
    file.write_bytes(f"\ufeff{Q}\r\n\n   \n  {R}".encode())
    expected = run(photos, "--question", Q, "--question", R)
    assert run(photos, "--questions", file) == expected
    (tmp_path / "questions").write_text(f"\n{Q}\n{R}\n")
    assert run(photos, "--questions", tmp_path / "questions") == expected


def test_a_bad_line_of_a_text_file_is_named(run, photos, tmp_path):
    file = tmp_path / "questions.txt"
    file.write_bytes(f"{Q}\n\n???\ncaf\xe9\n".encode("latin-1"))
    status, out, err = run(photos, "--questions", file)
    assert (status, len(out)) == (3, 3)
    assert [f"{file}:{n}: " in err for n in (1, 2, 3, 4)] == [False, False, True, True]
    assert err.count("\n") == 2


@pytest.fixture
def asked(tmp_path, photos):
    """Writes rows, beside the folder of photos, as JSONL."""

    def write(*rows: object, name: str = "questions.jsonl") -> Path:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / name

    return write


def test_jsonl_rows_are_answered_in_their_order(run, photos, asked, encoded, answer_of):
    pairs = [(i, q) for q in QUESTIONS[:4] for i in (2, 0, 1, 0)]
    rows = [
        {"question_id": 100 - n, "image": f"photos/{i}.png", "question": q, "answer": "truth"}
        for n, (i, q) in enumerate(pairs)
    ]
    file = asked(*rows)
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


def test_a_json_list_is_no_list_of_questions(run, photos, tmp_path):
    file = tmp_path / "q.json"
    rows = [{"image": "photos/0.png", "question": Q}, {"image": "photos/1.png", "question": R}]
    for text in (json.dumps(rows), json.dumps(rows, indent=1)):
        file.write_text(text)
        status, out, err = run(photos, "--questions", file)
        assert (status, out, err.count("\n")) == (1, [], 1)
        assert "an object a line" in err
    file.write_text(f"[1] {Q}\n")  # but a line may begin so
    assert run(photos / "0.png", "--questions", file)[0] == 0


def test_truths_of_a_row_do_not_pass_for_answers(run, asked):
    truths = {"answers": ["truth"], "confidence": 1.0, "error": "none", "answer_type": "other"}
    (row,) = rows_of(
        run("--questions", asked({"image": "photos/0.png", "question": Q} | truths), "--jsonl")[1]
    )
    assert list(row) == ["image", "question", "answer", "confidence", "answer_type"]
    assert row["confidence"] < 1


def test_jsonl_is_told_by_its_suffix_or_its_first_character(run, asked, photos):
    row = {"image": "photos/0.png", "question": Q}
    expected = run(photos / "0.png", "--question", Q)
    for name in ("a.jsonl", "a.NDJSON", "a.txt", "a"):
        assert run("--questions", asked("", row, name=name)) == expected
    status, _, err = run("--questions", asked("no json", name="b.jsonl"))
    assert status == 1
    assert "b.jsonl:1: no JSON" in err


def test_image_paths_are_relative_to_the_file_or_else_to_here(
    run, asked, photos, tmp_path, monkeypatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    picture(7).save("only_here.png")
    names = ["photos/0.png", str(photos / "0.png"), "only_here.png"]
    file = asked(*({"image": name, "question": Q} for name in names))
    status, out, _ = run("--questions", file)
    assert status == 0
    assert [line.split("\t")[0] for line in out] == names
    answers = [line.split("\t")[2] for line in out]
    assert answers[:2] == run(photos / "0.png", "--question", Q)[1] * 2
    assert answers[2:] == run("only_here.png", "--question", Q)[1]
    # What lies beside the file comes before what lies here.
    (elsewhere / "photos").mkdir()
    picture(8).save("photos/0.png")
    assert run("--questions", file)[1] == out


@pytest.mark.parametrize(
    ("line", "told"),
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
def test_one_bad_row_is_named_and_does_not_stop_the_run(run, asked, line, told):
    good = {"image": "photos/1.png", "question": Q, "question_id": 1}
    file = asked(good, "", line, good)
    status, out, err = run("--questions", file, "--jsonl")
    rows = rows_of(out)
    assert (status, len(rows), err.count("\n")) == (3, 3, 1)
    assert f"{file}:3: " in err
    assert told in err
    assert told in rows[1]["error"]
    assert "answer" not in rows[1]
    assert rows[0] == rows[2]
    assert rows[0].keys() == {"image", "question", "answer", "confidence", "question_id"}
    status, out, _ = run("--questions", file)
    assert (status, len(out)) == (3, 2)


def test_an_unreadable_image_of_a_row_keeps_its_keys(run, asked):
    bad = {"image": "photos/none.png", "question": Q, "question_id": "a"}
    good = {"image": "photos/1.png", "question": Q}
    status, out, err = run("--questions", asked(bad, good, bad), "--jsonl")
    rows = rows_of(out)
    assert (status, err.count("\n")) == (3, 1)
    assert rows[0] == rows[2] == bad | {"error": rows[0]["error"]}
    assert "none.png" in rows[0]["error"]


@pytest.mark.parametrize("content", [None, "", "\n  \n"])
def test_a_file_without_questions(run, photos, tmp_path, content):
    file = tmp_path / "none.txt"
    if content is not None:
        file.write_text(content)
    status, out, err = run(photos, "--questions", file)
    assert (status, out, err.count("\n")) == (1, [], 1)
    assert str(file) in err
    assert run(photos, "--questions", tmp_path)[0] == 1


@pytest.mark.parametrize("answers", ["@none.txt", "@", ".,yes"])
def test_answers_that_cannot_be_used(run, photos, answers):
    status, out, err = run(photos, "--question", Q, "--answers", answers)
    assert (status, out, err.count("\n")) == (1, [], 1)


# --ask


def test_a_session_answers_line_by_line_and_encodes_once(run, photos, type_in, encoded):
    path = photos / "2.png"
    expected = [run(path, "--question", q)[1][0] for q in QUESTIONS]
    encoded.clear()
    type_in("\n".join(QUESTIONS))
    assert run(path, "--ask") == (0, expected, "")
    assert encoded == [1]


def test_a_session_goes_on_after_an_error_and_ends_at_an_empty_line(run, photos, type_in):
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


def test_a_session_takes_the_options_of_answers(run, photos, type_in):
    type_in(f"{Q}\n!\n")
    words = ("--answers", "yes,no", "--num-answers", 2, "--min-confidence", 1, "--jsonl")
    status, out, _ = run(photos / "0.png", "--ask", *words)
    row, error = rows_of(out)
    assert status == 3
    assert row["answer"] == "unsure"
    assert {a["answer"] for a in row["answers"]} == {"yes", "no"}
    assert list(error) == ["image", "question", "error"]


def test_a_session_needs_an_image(run, photos, tmp_path, type_in):
    type_in(Q)
    status, out, err = run(tmp_path / "none.png", "--ask")
    assert (status, out, err.count("\n")) == (1, [], 1)
    with pytest.raises(SystemExit, match="2"):  # a folder of three
        run(photos, "--ask")


def test_a_person_is_prompted_on_stderr(run, photos, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(f"{Q}\n{R}\n"))
    status, out, err = run(photos / "0.png", "--ask")
    assert (status, len(out)) == (0, 2)
    assert err.count("question: ") == 3


@pytest.mark.slow
def test_a_session_answers_each_question_before_the_next_is_typed(checkpoint, photos, answer_of):
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


# the rest


@pytest.mark.parametrize(
    ("words", "told"),
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
def test_usage_errors(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        generate.main(list(words))
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err.splitlines()[-1]


def test_jsonl_names_its_images_and_text_needs_them(asked, photos, capsys):
    jsonl = asked({"image": "photos/0.png", "question": Q})
    text = asked(Q, name="questions.txt")
    for words in ((str(photos), "--questions", str(jsonl)), ("--questions", str(text))):
        with pytest.raises(SystemExit, match="2"):
            generate.main(list(words))
        out, err = capsys.readouterr()
        assert out == ""
        assert "PATH" in err.splitlines()[-1]


def test_a_checkpoint_that_captions_only_says_so(photos, tmp_path, capsys, type_in):
    words = ["--checkpoint", str(make_checkpoint(tmp_path / "captions"))]
    path = str(photos / "0.png")
    for asking in (["--question", Q], ["--ask"]):
        type_in(Q)
        assert generate.main([path, *asking, *words]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "captions only" in err
    assert generate.main([path, *words]) == 0


def test_help_tells_of_questions_and_costs_no_torch():
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
def test_names_and_questions_of_any_bytes(checkpoint, photos, tmp_path):
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
