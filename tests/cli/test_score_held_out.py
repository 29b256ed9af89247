"""score.py on the rows that were held out from the training of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from score_data import PICTURES, caption_row, change_checkpoint, question_row, read_rows, write
from tiny_vqa import QUESTIONS

from captioner.config import Config, SourceConfig, load_config
from captioner.evaluation import baselines, confidence_fit
from captioner.evaluation.scoring import few_images_warnings
from captioner.evaluation.tasks import read_held_out, read_tasks
from captioner.metrics import exact_match, score_captions


@pytest.fixture
def trained(vqa_checkpoint, pictures, vqa_answers, tmp_path) -> tuple[Path, Config]:
    """A checkpoint trained on captions and questions of one file without splits."""
    rows = [caption_row(pictures, i, f"a dog by {i}") for i in range(PICTURES)]
    rows += [
        question_row(pictures, i, QUESTIONS[q], vqa_answers[i, q], 10 * i + q)
        for i in range(PICTURES)
        for q in range(3)
    ]
    write(tmp_path / "mixed.jsonl", rows)
    source = SourceConfig(root=str(tmp_path / "mixed.jsonl"), val_share=0.5, eval_images=0)
    data = {"sources": (source,), "seed": 7}
    sections = {"data": data, "train": {"eval_images": 1}}
    folder = change_checkpoint(vqa_checkpoint, tmp_path / "trained", **sections)
    return folder, load_config(folder / "config.yaml")


def test_held_out_rows_are_scored(run_score, trained, vqa_captioner, tmp_path):
    folder, config = trained
    words = ("--checkpoint", folder, "--held-out", "--json")
    saved = tmp_path / "saved.jsonl"
    status, out, err = run_score(*words, "--output", saved)
    assert (status, "held out for validation" in err) == (0, True)
    result = json.loads(out)
    tasks, _ = read_held_out(config)
    assert list(result) == [task.name for task in tasks]
    captions, questions = tasks
    assert (captions.has_questions, questions.has_questions) == (False, True)
    held = {r.image for r in captions.rows}
    assert held == {r.image for r in questions.rows}
    assert len(held) > 1, "eval_images must not limit the rows that are scored"
    assert not {r.question_id for r in questions.rows} & {r.question_id for r in questions.train}

    texts = vqa_captioner.caption([r.image for r in captions.rows])
    by_id = {r.image_id: result.text for r, result in zip(captions.rows, texts, strict=True)}
    references = {r.image_id: r.references for r in captions.rows}
    counts = {"images": len(held), "references": len(held)}
    expected = score_captions(by_id, references) | counts
    intervals = result[captions.name].pop("intervals")
    assert result[captions.name].pop("warnings") == few_images_warnings(len(held))
    assert result[captions.name] == pytest.approx(expected)
    assert intervals.keys() < expected.keys()

    own = vqa_captioner.answer([(r.image, r.question) for r in questions.rows])
    right = [exact_match(a.text, r.references) for a, r in zip(own, questions.rows, strict=True)]
    assert result[questions.name]["scores"]["model"]["exact match"] == sum(right) / len(right) == 1
    majority = baselines.answer_by_majority(questions.train, questions.rows)
    right = [exact_match(majority[r.question_id], r.references) for r in questions.rows]
    assert result[questions.name]["scores"]["majority"]["exact match"] == sum(right) / len(right)

    kept = read_rows(saved)
    assert [r["task"] for r in kept] == [t.name for t in tasks for _ in t.rows]
    _, only, _ = run_score(*words, "--only", questions.name)
    assert json.loads(only) == {questions.name: result[questions.name]}
    status, _, err = run_score(*words, "--only", "none")
    assert status == 1
    assert questions.name in err
    _, text, _ = run_score(*words[:-1])
    assert [line for line in text.splitlines() if line.endswith(":")] == [
        f"{t.name}:" for t in tasks
    ]


def test_an_override_locates_moved_data(run_score, trained, tmp_path):
    folder, config = trained
    words = ("--checkpoint", folder, "--held-out", "--json")
    _, out, _ = run_score(*words)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    Path(config.data.sources[0].root).rename(moved / "mixed.jsonl")
    status, _, err = run_score(*words)
    assert (status, err.count("\n")) == (1, 1)
    assert "mixed.jsonl" in err
    assert run_score(f"data.sources.0.root={moved / 'mixed.jsonl'}", *words)[:2] == (0, out)
    status, _, err = run_score(*words, "data.sources.0.rot=here")
    assert (status, "nearest" in err) == (1, True)


def test_blind_baseline_needs_the_same_held_out_rows(run_score, trained, vqa_checkpoint, tmp_path):
    folder, _ = trained
    words = ("--checkpoint", folder, "--held-out", "--json", "--blind")
    other = change_checkpoint(
        vqa_checkpoint, tmp_path / "other", model={"blind": True}, data={"seed": 8}
    )
    status, out, err = run_score(*words, other)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "seed" in err
    same = change_checkpoint(
        vqa_checkpoint, tmp_path / "same", model={"blind": True}, data={"seed": 7}
    )
    status, out, _ = run_score(*words, same)
    assert (status, "blind" in list(json.loads(out).values())[1]["scores"]) == (0, True)


def test_captions_and_questions_of_one_data_set(run_score, trained, vqa_checkpoint, tmp_path):
    _, config = trained
    words = ("--references", config.data.sources[0].root, "--json")
    status, out, _ = run_score("--checkpoint", vqa_checkpoint, *words)
    result = json.loads(out)
    assert (status, list(result)) == (0, ["captions", "questions"])
    assert result["captions"]["images"] == result["questions"]["images"] == PICTURES
    rows = read_tasks(words[1])[0][1].rows
    given = [{"question_id": r.question_id, "answer": r.references[0]} for r in rows]
    _, out, _ = run_score(write(tmp_path / "c.json", given), *words)
    assert json.loads(out)["scores"]["answers"]["exact match"] == 1
    status, _, err = run_score(
        "--checkpoint", vqa_checkpoint, *words, "--output", tmp_path / "x.json"
    )
    assert (status, "jsonl" in err) == (1, True)


def test_confidences_are_fitted_on_held_out_rows(run_score, trained, monkeypatch):
    folder, config = trained
    words = ("--checkpoint", folder, "--held-out", "--calibrate")
    status, out, err = run_score(*words)
    assert (status, out) == (1, "")
    assert "too few captions or answers to fit confidences" in err
    monkeypatch.setattr(confidence_fit, "FEWEST_ROWS", 2)
    status, out, err = run_score(*words, "--json")
    assert (status, "in the section confidence" in err) == (0, True)
    figures = json.loads(out)
    _, questions = read_held_out(config)[0]
    assert list(figures) == [questions.name], "no image has two captions"
    name = questions.name
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["calibration"] == figures
    assert load_config(folder / "config.yaml").confidence.answers is not None
    _, text, _ = run_score(*words)
    assert text.splitlines()[1].split()[: len(name.split())] == name.split()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--references", "x"), "--calibrate needs --held-out"),
        (("--held-out", "--beam-size", "2"), "--beam-size cannot be used with --calibrate"),
        (("--held-out", "--output", "x.jsonl"), "--output cannot be used with --calibrate"),
    ],
)
def test_calibration_uses_all_held_out_rows(run_score, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        run_score("--checkpoint", "bundled", "--calibrate", *words)
    assert message in capsys.readouterr().err
