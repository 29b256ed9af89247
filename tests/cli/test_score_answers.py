"""score.py on questions: result files, answers of a checkpoint, and baselines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from score_data import change_checkpoint, question_row, read_rows, write
from tiny_vqa import QUESTIONS

from captioner.cli import score
from captioner.data import read_dataset
from captioner.evaluation import baselines
from captioner.metrics import (
    exact_match,
    expected_calibration_error,
    score_answers,
    vqa_accuracy,
)


@pytest.fixture
def data(tmp_path: Path, pictures: Path, vqa_answers) -> Path:
    """Questions 100 to 107 about pictures 0 to 3; the even ones have the checkpoint's answers."""
    rows = []
    for n in range(8):
        right = vqa_answers[n // 2, n % 3]
        answer = right if n % 2 == 0 else f"not {right}"
        rows.append(question_row(pictures, n // 2, QUESTIONS[n % 3], answer, 100 + n))
    train = [
        question_row(pictures, 4, QUESTIONS[n % 3], ("a", "a", "b")[n // 3], n) for n in range(9)
    ]
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.jsonl", train)
    write(folder / "val.jsonl", rows)
    return folder


# Answers from a file


def half_right_answers(data: Path) -> dict[int, str]:
    """Return answers to the questions of `data`; half are correct, in another spelling."""
    rows = read_rows(data / "val.jsonl")
    return {r["question_id"]: r["answer"].upper() if i < 4 else "no" for i, r in enumerate(rows)}


@pytest.mark.parametrize("form", ["results.json", "ids.jsonl", "generated.jsonl", "texts.json"])
def test_all_forms_of_answers_give_equal_scores(run_score, data, tmp_path, form):
    given, rows = half_right_answers(data), read_rows(data / "val.jsonl")
    made = [{"question_id": number, "answer": text} for number, text in given.items()]
    if form == "ids.jsonl":
        made.reverse()
    elif form == "texts.json":
        made = [r | {"question_id": str(r["question_id"])} for r in made]
    elif form == "generated.jsonl":
        known = [{"image": r["image"], "question": r["question"]} for r in rows]
        made = [a | {"answer": b["answer"]} for a, b in zip(known, made, strict=True)]
    status, out, err = run_score(write(tmp_path / form, made), "--references", data, "--json")
    result = json.loads(out)
    texts = {str(number): text for number, text in given.items()}
    expected = score_answers(texts, {str(r["question_id"]): [r["answer"]] for r in rows})
    assert (status, err, expected.exact_match) == (0, "", 0.5)
    scores = {"exact match": expected.exact_match, "macro-F1": expected.macro_f1}
    assert result["scores"]["answers"] == pytest.approx(scores)
    assert (result["questions"], result["images"]) == (8, 4)


def test_question_ids_must_match(run_score, data, tmp_path):
    given = half_right_answers(data)
    rows = [{"question_id": number, "answer": text} for number, text in given.items()]

    def error_of(rows: list, name: str = "results.json") -> str:
        status, out, err = run_score(write(tmp_path / name, rows), "--references", data)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert name in err
        return err

    err = error_of([{"question_id": 5, "answer": "a"}, *rows[2:]])
    assert "1 candidates without references (5)" in err
    assert "2 references without candidate (100, 101)" in err
    assert "a second answer to 100" in error_of([*rows, rows[0]])
    assert "no text under answer" in error_of([{"question_id": 100, "answer": 3}, *rows[1:]])
    assert "question 100 has an error" in error_of(
        [{"question_id": 100, "error": "torn"}, *rows[1:]]
    )
    assert "expected an object with question_id" in error_of([{"answer": "a"}])
    assert "expected an object with question_id" in error_of([{"answer": "a"}], "results.jsonl")
    captions = [{"image": "0.png", "caption": "a dog"}]
    assert "holds captions" in error_of(captions)


def test_repeated_question_is_matched_in_order(run_score, pictures, tmp_path):
    texts = ("what is it?", "What is it", "where is it?")
    rows = [question_row(pictures, 0, text, text, i) for i, text in enumerate(texts)]
    data = write(tmp_path / "data.jsonl", rows)
    candidates = [{"image": "0.png", "question": t, "answer": t} for t in texts]
    words = ("--references", data, "--json")
    _, out, _ = run_score(write(tmp_path / "c.jsonl", candidates), *words)
    assert json.loads(out)["scores"]["answers"]["exact match"] == 1
    status, _, err = run_score(write(tmp_path / "d.jsonl", candidates + candidates[:1]), *words)
    assert status == 1
    assert "second answer" in err


def test_answers_for_captioned_data_are_an_error(run_score, pictures, tmp_path):
    data = write(tmp_path / "c.jsonl", [{"image": str(pictures / "0.png"), "caption": "a dog"}])
    answers = write(tmp_path / "a.json", [{"question_id": 1, "answer": "a"}])
    status, _, err = run_score(answers, "--references", data)
    assert status == 1
    assert "--questions" in err


def test_vqa_accuracy_needs_four_answers_per_question(run_score, pictures, tmp_path):
    """VQA accuracy is the main measure with ten answers per question, and absent with one."""
    many = [["yes"] * 10, ["yes"] * 2 + ["no"] * 8, [f"{i} dogs" for i in range(10)]]
    rows = [
        {**question_row(pictures, 0, f"what is {i}?", None, i), "answers": a}
        for i, a in enumerate(many)
    ]
    texts = {"0": "yes", "1": "yes", "2": "no"}
    path = write(
        tmp_path / "r.json", [{"question_id": i, "answer": texts[str(i)]} for i in range(3)]
    )
    _, out, _ = run_score(path, "--references", write(tmp_path / "data.jsonl", rows), "--json")
    result = json.loads(out)
    accuracy = sum(vqa_accuracy(texts[str(i)], a) for i, a in enumerate(many)) / 3
    assert result["measure"] == "VQA accuracy"
    assert result["scores"]["answers"]["VQA accuracy"] == pytest.approx(accuracy)
    assert result["scores"]["answers"]["exact match"] == pytest.approx(2 / 3)
    rows[2]["answers"] = ["1 dog"]
    _, out, _ = run_score(path, "--references", write(tmp_path / "data.jsonl", rows), "--json")
    assert json.loads(out)["measure"] == "exact match"
    assert set(json.loads(out)["scores"]["answers"]) == {"exact match", "macro-F1"}


def test_majority_baseline_uses_training_rows(run_score, data, pictures, tmp_path):
    """The majority answer to each type of question comes from questions that are not scored."""
    kinds = {"count": ("2", "3"), "colour": ("red", "blue")}
    train = [
        question_row(pictures, 5, "?!a", texts[n > 1], len(kind) * 10 + n) | {"question_type": kind}
        for kind, texts in kinds.items()
        for n in range(3)
    ]
    answers = {"count": ("2", "3", "3"), "colour": ("red",), "other": ("2", "red")}
    val = [
        question_row(pictures, 0, "b", text, 100 * place + n) | {"question_type": kind}
        for place, (kind, texts) in enumerate(answers.items(), 10)
        for n, text in enumerate(texts)
    ]
    write(data / "train.jsonl", train)
    write(data / "val.jsonl", val)
    given = [{"question_id": r["question_id"], "answer": "none"} for r in val]
    path = write(tmp_path / "c.json", given)
    _, out, err = run_score(path, "--references", data, "--json")
    result = json.loads(out)
    kinds = {
        kind: group["majority"]["exact match"] for kind, group in result["question types"].items()
    }
    assert kinds == {"count": pytest.approx(1 / 3), "colour": 1, "other": 1 / 2}
    assert result["scores"]["majority"]["exact match"] == pytest.approx(3 / 6)
    assert run_score(path, "--references", data, "--split", "val", "--json") == (0, out, err)
    _, alone, _ = run_score(path, "--references", data / "val.jsonl", "--json")
    assert "majority" in json.loads(alone)["not measured"]
    assert "majority" not in json.loads(alone)["scores"]


def test_missing_types_are_derived(run_score, data, tmp_path):
    given = [{"question_id": n, "answer": t} for n, t in half_right_answers(data).items()]
    _, out, _ = run_score(write(tmp_path / "c.json", given), "--references", data, "--json")
    result = json.loads(out)
    assert {k: g["questions"] for k, g in result["question types"].items()} == {"what is by": 8}
    assert {k: g["questions"] for k, g in result["answer types"].items()} == {"other": 8}


# Answers of a checkpoint


def test_checkpoint_is_scored_with_baselines(
    run_score, data, vqa_checkpoint, vqa_captioner, pictures
):
    words = ("--checkpoint", vqa_checkpoint, "--references", data)
    status, out, err = run_score(*words, "--json")
    result = json.loads(out)
    assert (status, err) == (0, "")
    assert result["scores"]["model"]["exact match"] == 0.5
    assert set(result["scores"]) == {"model", "shuffled", "majority"}
    assert result["not measured"] == {"blind": "not measured (give --blind DIR)"}

    rows = read_rows(data / "val.jsonl")
    others = baselines.shuffle_images((r["image"] for r in rows), seed=0)
    moved = vqa_captioner.answer([(others[r["image"]], r["question"]) for r in rows])
    right = [exact_match(a.text, [r["answer"]]) for a, r in zip(moved, rows, strict=True)]
    assert result["scores"]["shuffled"]["exact match"] == sum(right) / 8 < 0.5

    own = vqa_captioner.answer([(r["image"], r["question"]) for r in rows])
    error = expected_calibration_error([a.confidence for a in own], [1, 0] * 4)
    assert result["calibration"]["expected calibration error"] == pytest.approx(error)

    _, text, _ = run_score(*words)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["x", "100", "exact", "match", "macro-F1"]
    assert lines[1][:2] == ["model", "50.0"]
    assert text.splitlines()[2].split(None, 1) == ["blind", "not measured (give --blind DIR)"]
    assert [line[0] for line in lines[3:5]] == ["shuffled", "majority"]
    columns = ["questions", "model", "blind", "shuffled", "majority"]
    head = next(line for line in lines if line[2:5] == ["by", "question", "type"])
    assert head[5:] == columns
    shown = lines[lines.index(head) + 1]
    group = result["question types"]["what is by"]
    values = [
        f"{100 * group[name]['exact match']:.1f}" for name in ("model", "shuffled", "majority")
    ]
    assert shown == ["what", "is", "by", "8", values[0], "-", *values[1:]]
    calibration = next(line for line in lines if line[:1] == ["expected"])
    assert calibration[3] == f"{100 * error:.1f}"
    bins = result["calibration"]["reliability"]
    assert [line[-1] for line in lines[-len(bins) :]] == [str(row["count"]) for row in bins]


@pytest.mark.parametrize("name", ["saved.jsonl", "saved.json"])
def test_answers_are_written_to_the_output(run_score, data, vqa_checkpoint, tmp_path, name):
    saved = tmp_path / name
    words = ("--references", data, "--json")
    _, direct, _ = run_score(
        "--checkpoint", vqa_checkpoint, *words, "--output", saved, "--batch-size", 3
    )
    status, again, _ = run_score(saved, *words)
    one, other = json.loads(direct)["scores"], json.loads(again)["scores"]
    assert (status, one["model"], one["majority"]) == (0, other["answers"], other["majority"])
    rows = json.loads(saved.read_text()) if name.endswith(".json") else read_rows(saved)
    kept = {"question_id", "answer"}
    assert {frozenset(r) for r in rows} == {
        frozenset(kept if name.endswith(".json") else kept | {"image", "question", "confidence"})
    }
    assert [int(r["question_id"]) for r in rows] == list(range(100, 108))


def test_questions_without_references_are_answered_only(run_score, data, vqa_checkpoint, tmp_path):
    rows = read_rows(data / "val.jsonl")
    for r in rows[1:]:
        del r["answer"]
    write(data / "val.jsonl", rows)
    words = ("--checkpoint", vqa_checkpoint, "--references", data, "--json")
    saved = tmp_path / "saved.json"
    status, out, err = run_score(*words, "--output", saved)
    assert (status, json.loads(out)["questions"], len(json.loads(saved.read_text()))) == (0, 1, 8)
    assert json.loads(out)["not measured"]["shuffled"] == "not measured (needs at least two images)"
    assert "7 questions have no reference answers" in err
    del rows[0]["answer"]
    write(data / "val.jsonl", rows)
    status, out, _ = run_score(*words, "--output", saved)
    assert (status, json.loads(out), len(json.loads(saved.read_text()))) == (0, {"questions": 0}, 8)
    for some in (words, (saved, *words[2:])):
        status, out, err = run_score(*some)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert f"{data}: none of its questions" in err


def test_unanswerable_questions_are_reported(run_score, data, vqa_checkpoint, pictures, tmp_path):
    rows = read_rows(data / "val.jsonl")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    rows[0]["image"] = rows[1]["image"] = str(tmp_path / "torn.png")
    rows[2]["question"] = "what " * 50
    write(data / "val.jsonl", rows)
    words = ("--checkpoint", vqa_checkpoint, "--references", data)
    saved = tmp_path / "saved.jsonl"
    status, out, err = run_score(*words, "--json", "--output", saved)
    assert (status, json.loads(out)["questions"]) == (3, 5)
    assert err.count("torn.png") == 1
    assert "3 questions that cannot be answered" in err
    assert [("error" in r) for r in read_rows(saved)] == [True] * 3 + [False] * 5
    write(data / "val.jsonl", rows[:2])
    official = tmp_path / "saved.json"
    for more in ((), ("--output", official)):
        status, out, err = run_score(*words, *more)
        assert (status, out) == (1, "")
        assert f"{data}: none of its 2 questions can be answered" in err
    assert [r["question_id"] for r in json.loads(official.read_text())] == [100, 101]


def test_blind_baseline(run_score, data, vqa_checkpoint, tmp_path):
    """The baseline must be blind; shuffling images does not change the answers of a blind model."""
    words = ("--references", data, "--json", "--checkpoint")
    status, out, err = run_score(*words, vqa_checkpoint, "--blind", vqa_checkpoint)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "model.blind=true" in err
    blind = change_checkpoint(vqa_checkpoint, tmp_path / "blind", model={"blind": True})
    _, out, _ = run_score(*words, vqa_checkpoint, "--blind", blind)
    with_blind = json.loads(out)["scores"]
    _, out, _ = run_score(*words, blind)
    alone = json.loads(out)["scores"]
    assert set(with_blind) == {"model", "blind", "shuffled", "majority"}
    assert with_blind["blind"] == alone["model"] == alone["shuffled"]
    assert with_blind["model"]["exact match"] > with_blind["blind"]["exact match"]


def test_questions_made_from_captions(run_score, vqa_checkpoint, pictures, tmp_path):
    """The questions equal those of training, which depend on the captions of both splits."""
    texts = {
        # A dog that only one of three captions mentions gives no question about its presence.
        "train": [["a man with a dog", "a man stands on grass", "a man in a red shirt"]] * 30,
        "val": [
            ["a man with a ball", "a ball and a man", "a man holds a ball"],
            ["two dogs run", "dogs run on grass", "dogs play"],
        ]
        * 3,
    }
    rows = [
        {"image": str(pictures / f"{i}.png"), "captions": captions, "split": split}
        for split, several in texts.items()
        for i, captions in enumerate(several, 0 if split == "val" else 10)
    ]
    data = write(tmp_path / "data.jsonl", rows)
    where = {"questions": True, "seed": 3, "check_images": False}
    made, _ = read_dataset(data, splits=["train", "val"], **where)
    expected = [(r["question_id"], r["question"]) for r in made if r["split"] == "val"]
    words = (
        "--checkpoint",
        vqa_checkpoint,
        "--references",
        data,
        "--json",
        "--questions",
        "--seed",
        3,
    )
    saved = tmp_path / "saved.jsonl"
    for split in ((), ("--split", "dev")):
        status, out, _ = run_score(*words, *split, "--output", saved)
        result = json.loads(out)
        assert (status, result["questions"], "majority" in result["scores"]) == (
            0,
            len(expected),
            True,
        )
        assert [(r["question_id"], r["question"]) for r in read_rows(saved)] == expected
    assert "BLEU-4" in json.loads(run_score(*words[:5])[1])


def test_blind_baseline_needs_questions(run_score, vqa_checkpoint, pictures, tmp_path):
    data = write(tmp_path / "c.jsonl", [{"image": str(pictures / "0.png"), "caption": "a dog"}])
    blind = change_checkpoint(vqa_checkpoint, tmp_path / "blind", model={"blind": True})
    words = ("--checkpoint", vqa_checkpoint, "--references", data, "--blind", blind)
    status, out, err = run_score(*words)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "no question" in err


@pytest.mark.parametrize(
    "words",
    [
        ("--held-out",),
        ("--held-out", "--checkpoint", "a", "--references", "b"),
        ("--held-out", "--checkpoint", "a", "--split", "val"),
        ("--held-out", "--checkpoint", "a", "--format", "vqav2"),
        ("--held-out", "--checkpoint", "a", "--questions"),
        ("--held-out", "--checkpoint", "a", "--output", "b.json"),
        ("--checkpoint", "a", "--references", "b", "--only", "c"),
        ("--checkpoint", "a", "--references", "b", "data.root=c"),
        ("a.json", "--references", "b", "--blind", "c"),
        ("a.json", "b.json", "--references", "c"),
        ("a.json", "--references", "b", "--seed", "x"),
    ],
)
def test_usage_errors(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        score.main(list(words))
    assert capsys.readouterr().out == ""


def test_caption_only_checkpoint_cannot_answer(run_score, data, tmp_path):
    from tiny import make_checkpoint

    plain = make_checkpoint(tmp_path / "plain")
    status, out, err = run_score("--checkpoint", plain, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "captions only" in err
