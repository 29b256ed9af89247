"""score.py on questions: results of any origin, a checkpoint's own answers, and their controls."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

from captioner.cli import score
from captioner.config import Config, SourceConfig, load_config, save_config
from captioner.data import Example, read_dataset
from captioner.errors import MetricError
from captioner.evaluation import baselines, tables
from captioner.evaluation.scoring import few_images_warnings
from captioner.evaluation.tasks import read_held_out, read_tasks
from captioner.metrics import (
    exact_match,
    expected_calibration_error,
    score_answers,
    score_captions,
    vqa_accuracy,
)
from captioner.predict import Captioner, load

PICTURES = 6


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures 0.png, 1.png and so on."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(PICTURES):
        picture(i).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint") / "best"
    return str(make_vqa_checkpoint(folder, fusion="add"))


@pytest.fixture(scope="session")
def captioner(checkpoint: str) -> Captioner:
    return load(checkpoint)


@pytest.fixture(scope="session")
def answers(captioner: Captioner, pictures: Path) -> dict[tuple[int, int], str]:
    """What the checkpoint says, by the places of picture and question."""
    asked = [(i, q) for i in range(PICTURES) for q in range(len(QUESTIONS))]
    rows = [(pictures / f"{i}.png", QUESTIONS[q]) for i, q in asked]
    found = dict(zip(asked, (a.text for a in captioner.answer(rows)), strict=True))
    assert len({found[i, 0] for i in range(4)}) > 1, "answers must tell pictures apart"
    return found


@pytest.fixture
def data(tmp_path: Path, pictures: Path, answers) -> Path:
    """Questions 100 to 107 about pictures 0 to 3: the checkpoint is right about the even ones."""
    rows = []
    for n in range(8):
        right = answers[n // 2, n % 3]
        answer = right if n % 2 == 0 else f"not {right}"
        rows.append(row(pictures, n // 2, QUESTIONS[n % 3], answer, 100 + n))
    train = [row(pictures, 4, QUESTIONS[n % 3], ("a", "a", "b")[n // 3], n) for n in range(9)]
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.jsonl", train)
    write(folder / "val.jsonl", rows)
    return folder


@pytest.fixture
def run(capsys):
    """Runs score.py in this process: (exit status, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        status = score.main(list(map(str, words)))
        return (status, *capsys.readouterr())

    return call


def row(pictures: Path, number: int, question: str, answer: str | None, question_id: int) -> dict:
    found = captioned(pictures, number) | {"question": question, "question_id": question_id}
    return found if answer is None else found | {"answer": answer}


def captioned(pictures: Path, number: int, *captions: str) -> dict:
    found = {"image": str(pictures / f"{number}.png"), "image_id": number}
    return found | {"captions": captions} if captions else found


def write(path: Path, rows: list | dict) -> Path:
    """A .json file holds `rows` as they are, a .jsonl file one a line."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return path


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def changed(checkpoint: str, folder: Path, **sections: dict) -> Path:
    """A copy of a checkpoint whose configuration differs."""
    folder.mkdir()
    for file in Path(checkpoint).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = load_config(folder / "config.yaml")
    sections = {
        name: dataclasses.replace(getattr(config, name), **settings)
        for name, settings in sections.items()
    }
    save_config(dataclasses.replace(config, **sections), folder / "config.yaml")
    return folder


# --- answers from a file --------------------------------------------------------------------------


def said(data: Path) -> dict[int, str]:
    """Answers to the questions of `data`, half of them right in another spelling."""
    rows = rows_of(data / "val.jsonl")
    return {r["question_id"]: r["answer"].upper() if i < 4 else "no" for i, r in enumerate(rows)}


@pytest.mark.parametrize("form", ["results.json", "ids.jsonl", "generated.jsonl", "texts.json"])
def test_answers_in_any_form(run, data, tmp_path, form):
    given, rows = said(data), rows_of(data / "val.jsonl")
    made = [{"question_id": number, "answer": text} for number, text in given.items()]
    if form == "ids.jsonl":
        made.reverse()
    elif form == "texts.json":
        made = [r | {"question_id": str(r["question_id"])} for r in made]
    elif form == "generated.jsonl":
        known = [{"image": r["image"], "question": r["question"]} for r in rows]
        made = [a | {"answer": b["answer"]} for a, b in zip(known, made, strict=True)]
    status, out, err = run(write(tmp_path / form, made), "--references", data, "--json")
    found = json.loads(out)
    texts = {str(number): text for number, text in given.items()}
    expected = score_answers(texts, {str(r["question_id"]): [r["answer"]] for r in rows})
    assert (status, err, expected.exact_match) == (0, "", 0.5)
    scores = {"exact match": expected.exact_match, "macro-F1": expected.macro_f1}
    assert found["scores"]["answers"] == pytest.approx(scores)
    assert (found["questions"], found["images"]) == (8, 4)


def test_the_ids_must_be_the_questions(run, data, tmp_path):
    given = said(data)
    rows = [{"question_id": number, "answer": text} for number, text in given.items()]

    def told(rows: list, name: str = "results.json") -> str:
        status, out, err = run(write(tmp_path / name, rows), "--references", data)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert name in err
        return err

    err = told([{"question_id": 5, "answer": "a"}, *rows[2:]])
    assert "1 candidates without references (5)" in err
    assert "2 references without candidate (100, 101)" in err
    assert "a second answer to 100" in told([*rows, rows[0]])
    assert "no text under answer" in told([{"question_id": 100, "answer": 3}, *rows[1:]])
    assert "question 100 has an error" in told([{"question_id": 100, "error": "torn"}, *rows[1:]])
    assert "expected an object with question_id" in told([{"answer": "a"}])
    assert "expected an object with question_id" in told([{"answer": "a"}], "results.jsonl")
    captions = [{"image": "0.png", "caption": "a dog"}]
    assert "holds captions" in told(captions)


def test_a_question_asked_twice_of_an_image_is_answered_in_turn(run, pictures, tmp_path):
    texts = ("what is it?", "What is it", "where is it?")
    rows = [row(pictures, 0, text, text, i) for i, text in enumerate(texts)]
    data = write(tmp_path / "data.jsonl", rows)
    candidates = [{"image": "0.png", "question": t, "answer": t} for t in texts]
    words = ("--references", data, "--json")
    _, out, _ = run(write(tmp_path / "c.jsonl", candidates), *words)
    assert json.loads(out)["scores"]["answers"]["exact match"] == 1
    status, _, err = run(write(tmp_path / "d.jsonl", candidates + candidates[:1]), *words)
    assert status == 1
    assert "second answer" in err


def test_captioned_data_has_no_answers(run, pictures, tmp_path):
    data = write(tmp_path / "c.jsonl", [{"image": str(pictures / "0.png"), "caption": "a dog"}])
    answers = write(tmp_path / "a.json", [{"question_id": 1, "answer": "a"}])
    status, _, err = run(answers, "--references", data)
    assert status == 1
    assert "--questions" in err


def test_vqa_accuracy_where_there_are_answers_enough(run, pictures, tmp_path):
    """The official figure is the main one for questions with ten answers, and left out for one."""
    many = [["yes"] * 10, ["yes"] * 2 + ["no"] * 8, [f"{i} dogs" for i in range(10)]]
    rows = [
        {**row(pictures, 0, f"what is {i}?", None, i), "answers": a} for i, a in enumerate(many)
    ]
    texts = {"0": "yes", "1": "yes", "2": "no"}
    path = write(
        tmp_path / "r.json", [{"question_id": i, "answer": texts[str(i)]} for i in range(3)]
    )
    _, out, _ = run(path, "--references", write(tmp_path / "data.jsonl", rows), "--json")
    found = json.loads(out)
    accuracy = sum(vqa_accuracy(texts[str(i)], a) for i, a in enumerate(many)) / 3
    assert found["measure"] == "VQA accuracy"
    assert found["scores"]["answers"]["VQA accuracy"] == pytest.approx(accuracy)
    assert found["scores"]["answers"]["exact match"] == pytest.approx(2 / 3)
    rows[2]["answers"] = ["1 dog"]
    _, out, _ = run(path, "--references", write(tmp_path / "data.jsonl", rows), "--json")
    assert json.loads(out)["measure"] == "exact match"
    assert set(json.loads(out)["scores"]["answers"]) == {"exact match", "macro-F1"}


def test_the_majority_is_that_of_the_training_rows(run, data, pictures, tmp_path):
    """By the type of the question, of other questions than those that are scored."""
    kinds = {"count": ("2", "3"), "colour": ("red", "blue")}
    train = [
        row(pictures, 5, "?!a", texts[n > 1], len(kind) * 10 + n) | {"question_type": kind}
        for kind, texts in kinds.items()
        for n in range(3)
    ]
    answers = {"count": ("2", "3", "3"), "colour": ("red",), "other": ("2", "red")}
    val = [
        row(pictures, 0, "b", text, 100 * place + n) | {"question_type": kind}
        for place, (kind, texts) in enumerate(answers.items(), 10)
        for n, text in enumerate(texts)
    ]
    write(data / "train.jsonl", train)
    write(data / "val.jsonl", val)
    given = [{"question_id": r["question_id"], "answer": "none"} for r in val]
    path = write(tmp_path / "c.json", given)
    _, out, err = run(path, "--references", data, "--json")
    found = json.loads(out)
    kinds = {
        kind: group["majority"]["exact match"] for kind, group in found["question types"].items()
    }
    assert kinds == {"count": pytest.approx(1 / 3), "colour": 1, "other": 1 / 2}
    assert found["scores"]["majority"]["exact match"] == pytest.approx(3 / 6)
    assert run(path, "--references", data, "--split", "val", "--json") == (0, out, err)
    _, alone, _ = run(path, "--references", data / "val.jsonl", "--json")
    assert "majority" in json.loads(alone)["not measured"]
    assert "majority" not in json.loads(alone)["scores"]


def test_types_are_derived_where_the_data_tells_none(run, data, tmp_path):
    given = [{"question_id": n, "answer": t} for n, t in said(data).items()]
    _, out, _ = run(write(tmp_path / "c.json", given), "--references", data, "--json")
    found = json.loads(out)
    assert {k: g["questions"] for k, g in found["question types"].items()} == {"what is by": 8}
    assert {k: g["questions"] for k, g in found["answer types"].items()} == {"other": 8}


# --- the controls ---------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=3)), st.integers())
def test_no_image_keeps_its_place(images, seed):
    others = baselines.shuffle_images(images, seed=seed)
    if len(set(images)) < 2:
        assert others == {}
        return
    assert set(others) == set(others.values()) == set(images)
    assert all(image != other for image, other in others.items())
    assert others == baselines.shuffle_images(images + images[:3], seed=seed)


def test_the_seed_draws_the_images():
    drawn = {tuple(baselines.shuffle_images(map(str, range(9)), seed=s).items()) for s in range(20)}
    assert len(drawn) == 20


def example(i: int, question: str, *answers: str, image: int = 0, **others: str) -> Example:
    return Example(f"/{image}.png", f"{image}", answers, "val", question, str(i), **others)


WORDS = st.sampled_from(["yes", "no", "2", "a dog", "Dogs!"])


@given(st.lists(st.tuples(WORDS, WORDS, st.floats(0, 1)), min_size=1), st.booleans())
def test_calibration_is_against_the_main_measure(found, many):
    rows = [
        example(i, "what?", *[text] * 2, *["other"] * (3 + 5 * many))
        for i, (text, _, _) in enumerate(found)
    ]
    said = {str(i): text for i, (_, text, _) in enumerate(found)}
    sure = {str(i): p for i, (_, _, p) in enumerate(found)}
    table = tables.measure_calibration(rows, said, sure)
    right = [vqa_accuracy(said[r.question_id], r.references) for r in rows]
    error = expected_calibration_error(list(sure.values()), right, bins=15)
    assert table["expected calibration error"] == pytest.approx(error)
    assert sum(row["count"] for row in table["reliability"]) == len(found)
    rows = [dataclasses.replace(row, references=row.references[:1]) for row in rows]
    table = tables.measure_calibration(rows, said, sure)
    right = [exact_match(said[r.question_id], r.references) for r in rows]
    error = expected_calibration_error(list(sure.values()), right, bins=15)
    assert table["expected calibration error"] == pytest.approx(error)


def test_an_answerer_must_answer_all():
    with pytest.raises(MetricError):
        tables.build_score_table(
            [example(0, "what?", "a"), example(1, "who?", "b")], {"x": {"0": "a"}}
        )


def test_many_types_share_a_line():
    """The text shows the largest; what it sums up are all the others."""
    rows = [example(i, f"{'what' * (i // 2)}?", "a") for i in range(60)]
    said = {row.question_id: "a" if int(row.question_id) % 3 else "b" for row in rows}
    table = tables.build_score_table(rows, {"model": said}, missing={"blind": "not made"})
    assert len(table["question types"]) == 30
    lines = [line for line in tables.format_table(table) if line]
    start = next(i for i, line in enumerate(lines) if "by question type" in line)
    end = next(i for i, line in enumerate(lines) if "by answer type" in line)
    shown = [line.split() for line in lines[start + 1 : end]]
    assert len(shown) == tables.MAX_TYPES + 1
    assert shown[-1][:4] == ["10", "further", "types", "20"]
    rest = list(table["question types"].values())[tables.MAX_TYPES :]
    value = 100 * sum(g["questions"] * g["model"]["exact match"] for g in rest) / 20
    assert shown[-1][4:] == [f"{value:.1f}", "-"]
    assert "not made" in lines[2]


# --- a checkpoint ---------------------------------------------------------------------------------


def test_a_checkpoint_is_scored_with_its_controls(run, data, checkpoint, captioner, pictures):
    words = ("--checkpoint", checkpoint, "--references", data)
    status, out, err = run(*words, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["scores"]["model"]["exact match"] == 0.5
    assert set(found["scores"]) == {"model", "shuffled", "majority"}
    assert found["not measured"] == {"blind": "not measured (give --blind DIR)"}

    rows = rows_of(data / "val.jsonl")
    others = baselines.shuffle_images((r["image"] for r in rows), seed=0)
    moved = captioner.answer([(others[r["image"]], r["question"]) for r in rows])
    right = [exact_match(a.text, [r["answer"]]) for a, r in zip(moved, rows, strict=True)]
    assert found["scores"]["shuffled"]["exact match"] == sum(right) / 8 < 0.5

    own = captioner.answer([(r["image"], r["question"]) for r in rows])
    error = expected_calibration_error([a.confidence for a in own], [1, 0] * 4)
    assert found["calibration"]["expected calibration error"] == pytest.approx(error)

    _, text, _ = run(*words)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["x", "100", "exact", "match", "macro-F1"]
    assert lines[1][:2] == ["model", "50.0"]
    assert text.splitlines()[2].split(None, 1) == ["blind", "not measured (give --blind DIR)"]
    assert [line[0] for line in lines[3:5]] == ["shuffled", "majority"]
    columns = ["questions", "model", "blind", "shuffled", "majority"]
    head = next(line for line in lines if line[2:5] == ["by", "question", "type"])
    assert head[5:] == columns
    shown = lines[lines.index(head) + 1]
    group = found["question types"]["what is by"]
    values = [
        f"{100 * group[name]['exact match']:.1f}" for name in ("model", "shuffled", "majority")
    ]
    assert shown == ["what", "is", "by", "8", values[0], "-", *values[1:]]
    assert lines[-1][3] == f"{100 * error:.1f}"


@pytest.mark.parametrize("name", ["saved.jsonl", "saved.json"])
def test_answers_are_kept(run, data, checkpoint, tmp_path, name):
    saved = tmp_path / name
    words = ("--references", data, "--json")
    _, direct, _ = run("--checkpoint", checkpoint, *words, "--output", saved, "--batch-size", 3)
    status, again, _ = run(saved, *words)
    one, other = json.loads(direct)["scores"], json.loads(again)["scores"]
    assert (status, one["model"], one["majority"]) == (0, other["answers"], other["majority"])
    rows = json.loads(saved.read_text()) if name.endswith(".json") else rows_of(saved)
    kept = {"question_id", "answer"}
    assert {frozenset(r) for r in rows} == {
        frozenset(kept if name.endswith(".json") else kept | {"image", "question", "confidence"})
    }
    assert [int(r["question_id"]) for r in rows] == list(range(100, 108))


def test_questions_without_answers_are_answered_and_not_scored(run, data, checkpoint, tmp_path):
    rows = rows_of(data / "val.jsonl")
    for r in rows[1:]:
        del r["answer"]
    write(data / "val.jsonl", rows)
    words = ("--checkpoint", checkpoint, "--references", data, "--json")
    saved = tmp_path / "saved.json"
    status, out, err = run(*words, "--output", saved)
    assert (status, json.loads(out)["questions"], len(json.loads(saved.read_text()))) == (0, 1, 8)
    assert json.loads(out)["not measured"]["shuffled"] == "not measured (needs at least two images)"
    assert "7 questions have no reference answers" in err
    del rows[0]["answer"]
    write(data / "val.jsonl", rows)
    status, out, _ = run(*words, "--output", saved)
    assert (status, json.loads(out), len(json.loads(saved.read_text()))) == (0, {"questions": 0}, 8)
    for some in (words, (saved, *words[2:])):
        status, out, err = run(*some)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert f"{data}: none of its questions" in err


def test_what_cannot_be_answered_is_named_and_left_out(run, data, checkpoint, pictures, tmp_path):
    rows = rows_of(data / "val.jsonl")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    rows[0]["image"] = rows[1]["image"] = str(tmp_path / "torn.png")
    rows[2]["question"] = "what " * 50
    write(data / "val.jsonl", rows)
    words = ("--checkpoint", checkpoint, "--references", data)
    saved = tmp_path / "saved.jsonl"
    status, out, err = run(*words, "--json", "--output", saved)
    assert (status, json.loads(out)["questions"]) == (3, 5)
    assert err.count("torn.png") == 1
    assert "3 questions that cannot be answered" in err
    assert [("error" in r) for r in rows_of(saved)] == [True] * 3 + [False] * 5
    write(data / "val.jsonl", rows[:2])
    official = tmp_path / "saved.json"
    for more in ((), ("--output", official)):
        status, out, err = run(*words, *more)
        assert (status, out) == (1, "")
        assert f"{data}: none of its 2 questions can be answered" in err
    assert [r["question_id"] for r in json.loads(official.read_text())] == [100, 101]


def test_a_blind_control(run, data, checkpoint, tmp_path):
    """It must be blind; where the answers do not depend on the image, shuffling changes none."""
    words = ("--references", data, "--json", "--checkpoint")
    status, out, err = run(*words, checkpoint, "--blind", checkpoint)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "model.blind=true" in err
    blind = changed(checkpoint, tmp_path / "blind", model={"blind": True})
    _, out, _ = run(*words, checkpoint, "--blind", blind)
    with_blind = json.loads(out)["scores"]
    _, out, _ = run(*words, blind)
    alone = json.loads(out)["scores"]
    assert set(with_blind) == {"model", "blind", "shuffled", "majority"}
    assert with_blind["blind"] == alone["model"] == alone["shuffled"]
    assert with_blind["model"]["exact match"] > with_blind["blind"]["exact match"]


def test_questions_made_of_captions(run, checkpoint, pictures, tmp_path):
    """They are those of training, which reads both splits: its captions decide what is asked."""
    texts = {
        # Where one caption of three speaks of a dog, the others' silence means nothing.
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
    words = ("--checkpoint", checkpoint, "--references", data, "--json", "--questions", "--seed", 3)
    saved = tmp_path / "saved.jsonl"
    for split in ((), ("--split", "dev")):
        status, out, _ = run(*words, *split, "--output", saved)
        found = json.loads(out)
        assert (status, found["questions"], "majority" in found["scores"]) == (
            0,
            len(expected),
            True,
        )
        assert [(r["question_id"], r["question"]) for r in rows_of(saved)] == expected
    assert "BLEU-4" in json.loads(run(*words[:5])[1])


# --- what training held out -----------------------------------------------------------------------


@pytest.fixture
def trained(checkpoint, pictures, answers, tmp_path) -> tuple[Path, Config]:
    """A checkpoint of a run on captions and questions of one file without splits."""
    rows = [captioned(pictures, i, f"a dog by {i}") for i in range(PICTURES)]
    rows += [
        row(pictures, i, QUESTIONS[q], answers[i, q], 10 * i + q)
        for i in range(PICTURES)
        for q in range(3)
    ]
    write(tmp_path / "mixed.jsonl", rows)
    source = SourceConfig(root=str(tmp_path / "mixed.jsonl"), val_share=0.5)
    data = {"sources": (source,), "seed": 7}
    sections = {"data": data, "train": {"eval_images": 1}}
    folder = changed(checkpoint, tmp_path / "trained", **sections)
    return folder, load_config(folder / "config.yaml")


def test_what_was_held_out_is_scored(run, trained, captioner, tmp_path):
    folder, config = trained
    words = ("--checkpoint", folder, "--held-out", "--json")
    saved = tmp_path / "saved.jsonl"
    status, out, err = run(*words, "--output", saved)
    assert (status, "held out for validation" in err) == (0, True)
    found = json.loads(out)
    tasks, _ = read_held_out(config)
    assert list(found) == [task.name for task in tasks]
    captions, questions = tasks
    assert (captions.has_questions, questions.has_questions) == (False, True)
    held = {r.image for r in captions.rows}
    assert held == {r.image for r in questions.rows}
    assert len(held) > 1, "train.eval_images bounds what training looks at, not what is scored"
    assert not {r.question_id for r in questions.rows} & {r.question_id for r in questions.train}

    texts = captioner.caption([r.image for r in captions.rows])
    by_id = {r.image_id: result.text for r, result in zip(captions.rows, texts, strict=True)}
    references = {r.image_id: r.references for r in captions.rows}
    counts = {"images": len(held), "references": len(held)}
    expected = score_captions(by_id, references) | counts
    intervals = found[captions.name].pop("intervals")
    assert found[captions.name].pop("warnings") == few_images_warnings(len(held))
    assert found[captions.name] == pytest.approx(expected)
    assert intervals.keys() < expected.keys()

    own = captioner.answer([(r.image, r.question) for r in questions.rows])
    right = [exact_match(a.text, r.references) for a, r in zip(own, questions.rows, strict=True)]
    assert found[questions.name]["scores"]["model"]["exact match"] == sum(right) / len(right) == 1
    majority = baselines.answer_by_majority(questions.train, questions.rows)
    right = [exact_match(majority[r.question_id], r.references) for r in questions.rows]
    assert found[questions.name]["scores"]["majority"]["exact match"] == sum(right) / len(right)

    kept = rows_of(saved)
    assert [r["task"] for r in kept] == [t.name for t in tasks for _ in t.rows]
    _, only, _ = run(*words, "--only", questions.name)
    assert json.loads(only) == {questions.name: found[questions.name]}
    status, _, err = run(*words, "--only", "none")
    assert status == 1
    assert questions.name in err
    _, text, _ = run(*words[:-1])
    assert [line for line in text.splitlines() if line.endswith(":")] == [
        f"{t.name}:" for t in tasks
    ]


def test_the_data_may_have_moved(run, trained, tmp_path):
    folder, config = trained
    words = ("--checkpoint", folder, "--held-out", "--json")
    _, out, _ = run(*words)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    Path(config.data.sources[0].root).rename(moved / "mixed.jsonl")
    status, _, err = run(*words)
    assert (status, err.count("\n")) == (1, 1)
    assert "mixed.jsonl" in err
    assert run(f"data.sources.0.root={moved / 'mixed.jsonl'}", *words)[:2] == (0, out)
    status, _, err = run(*words, "data.sources.0.rot=here")
    assert (status, "nearest" in err) == (1, True)


def test_the_blind_control_held_out_the_same(run, trained, checkpoint, tmp_path):
    folder, _ = trained
    words = ("--checkpoint", folder, "--held-out", "--json", "--blind")
    other = changed(checkpoint, tmp_path / "other", model={"blind": True}, data={"seed": 8})
    status, out, err = run(*words, other)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "seed" in err
    same = changed(checkpoint, tmp_path / "same", model={"blind": True}, data={"seed": 7})
    status, out, _ = run(*words, same)
    assert (status, "blind" in list(json.loads(out).values())[1]["scores"]) == (0, True)


def test_both_kinds_of_one_data_set(run, trained, checkpoint, tmp_path):
    _, config = trained
    words = ("--references", config.data.sources[0].root, "--json")
    status, out, _ = run("--checkpoint", checkpoint, *words)
    found = json.loads(out)
    assert (status, list(found)) == (0, ["captions", "questions"])
    assert found["captions"]["images"] == found["questions"]["images"] == PICTURES
    rows = read_tasks(words[1])[0][1].rows
    given = [{"question_id": r.question_id, "answer": r.references[0]} for r in rows]
    _, out, _ = run(write(tmp_path / "c.json", given), *words)
    assert json.loads(out)["scores"]["answers"]["exact match"] == 1
    status, _, err = run("--checkpoint", checkpoint, *words, "--output", tmp_path / "x.json")
    assert (status, "jsonl" in err) == (1, True)


def test_a_run_on_captions_alone_needs_no_blind_model(run, checkpoint, pictures, tmp_path):
    data = write(tmp_path / "c.jsonl", [{"image": str(pictures / "0.png"), "caption": "a dog"}])
    blind = changed(checkpoint, tmp_path / "blind", model={"blind": True})
    words = ("--checkpoint", checkpoint, "--references", data, "--blind", blind)
    status, out, err = run(*words)
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


def test_a_checkpoint_that_only_captions_is_told_so(run, data, tmp_path):
    from tiny import make_checkpoint

    plain = make_checkpoint(tmp_path / "plain")
    status, out, err = run("--checkpoint", plain, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "captions only" in err
