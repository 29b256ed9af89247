"""score.py: ids of any type, rows that name two images, output of generate.py, COCO files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

from captioner.cli import generate, score
from captioner.evaluation.candidate_files import read_candidates
from captioner.metrics import score_captions

TEXTS = {"a.jpg": "a brown dog runs", "b.jpg": "two girls play", "c.jpg": "a man rides a bicycle"}
NAMES = list(TEXTS)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_vqa_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best"))


@pytest.fixture
def scored(tmp_path, capsys):
    """Write candidates and references as JSONL and score them: (status, stdout, stderr)."""

    def call(rows: list[dict], references: list[dict] | None = None) -> tuple[int, str, str]:
        if references is None:
            references = [
                {"id": i, "image": name, "caption": text}
                for i, (name, text) in enumerate(TEXTS.items())
            ]
        for name, lines in (("results", rows), ("data", references)):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / f"{name}.jsonl").write_text(text)
        words = (tmp_path / "results.jsonl", "--references", tmp_path / "data.jsonl", "--json")
        status = score.main(list(map(str, words)))
        return (status, *capsys.readouterr())

    return call


def candidates(*images: object, key: str = "id") -> list[dict]:
    """Return rows with the captions of a.jpg, b.jpg and c.jpg, under these values of a key."""
    return [{key: x, "caption": t} for x, t in zip(images, TEXTS.values(), strict=True)]


# Rows that name two images


@pytest.mark.parametrize("key", ["id", "image_id"])
def test_id_that_numbers_the_rows_is_an_error(scored, key):
    rows = [{key: i, "image": name, "caption": TEXTS[name]} for i, name in enumerate(NAMES[::-1])]
    status, out, err = scored(rows)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"results.jsonl:1: {key} 0 is a.jpg in the data set, but image is c.jpg" in err
    assert "1 more such row" in err
    assert scored([{k: v for k, v in row.items() if k != key} for row in rows])[0] == 0
    right = [{key: i, "image": f"x/{name}", "caption": "a"} for i, name in enumerate(NAMES)]
    assert scored(right)[0] == 0


def test_id_with_an_unknown_image_is_an_error(scored):
    rows = [{"id": i, "image": name, "caption": "a"} for i, name in enumerate(NAMES)]
    rows[2]["image"] = "d.jpg"
    status, _, err = scored(rows)
    assert (status, err.count("\n")) == (1, 1)
    assert "results.jsonl:3: id 2 is c.jpg in the data set, but image is d.jpg" in err
    rows = [{"image_id": row["id"], "image": row["image"], "caption": "a"} for row in rows]
    assert "image_id 2 is c.jpg" in scored(rows)[2]
    # If no file name is known, the files may have been renamed; rows are matched by image_id.
    renamed = [row | {"image": f"{row['image_id']:012}.png"} for row in rows]
    assert scored(renamed)[0] == 0
    counted = [{"id": row["image_id"], "image": row["image"], "caption": "a"} for row in renamed]
    assert scored(counted)[0] == 1


def test_unknown_id_is_ignored_if_the_image_matches(scored):
    rows = [{"id": 100 + i, "image": name, "caption": TEXTS[name]} for i, name in enumerate(NAMES)]
    status, out, _ = scored(rows)
    assert (status, json.loads(out)["BLEU-1"]) == (0, pytest.approx(1))
    rows[1]["image"] = "none.jpg"
    assert "1 candidates without references (none.jpg)" in scored(rows)[2]


def test_image_id_and_id_must_agree(scored):
    rows = [{"image_id": i, "id": 2 - i, "caption": "a"} for i in range(3)]
    status, _, err = scored(rows)
    assert (status, "image_id 0 is a.jpg in the data set, but id 2 is c.jpg" in err) == (1, True)
    # As in the files of COCO, where id is the number of the annotation.
    rows[1]["id"] = 1234
    assert scored(rows)[0] == 0


def test_compare_checks_the_ids(tmp_path, capsys):
    names = ("good", "bad", "data", "answers")
    paths = {name: tmp_path / f"{name}.jsonl" for name in names}
    for name, order in (("good", NAMES), ("bad", NAMES[::-1]), ("data", NAMES)):
        rows = [{"id": i, "image": x, "caption": TEXTS[x]} for i, x in enumerate(order)]
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths["answers"].write_text('{"question_id": 1, "answer": "yes"}\n')
    words = ["compare", str(paths["good"])]
    references = ["--references", str(paths["data"])]
    assert score.main([*words, str(paths["bad"]), *references]) == 1
    assert "bad.jsonl:1: id 0 is a.jpg" in capsys.readouterr().err
    assert score.main([*words, str(paths["answers"]), *references]) == 1
    assert "holds answers" in capsys.readouterr().err


# Types of ids


@pytest.mark.parametrize("ids", [(0, 1, 2), ("0", "1", "2"), (0.0, 1.0, 2.0), ("0.0", "1.0", "2")])
@pytest.mark.parametrize("theirs", [(0, 1, 2), ("0", "1", "2"), ("0.0", "1.0", "2.0")])
def test_integer_ids_match_in_any_type(scored, ids, theirs):
    references = [
        {"id": i, "image": name, "caption": text}
        for i, (name, text) in zip(theirs, TEXTS.items(), strict=True)
    ]
    status, out, _ = scored(candidates(*ids), references)
    assert (status, json.loads(out)["BLEU-1"]) == (0, pytest.approx(1))


def test_leading_zeros_distinguish_ids(scored):
    status, _, err = scored(candidates("000", 1, 2))
    assert (status, "1 candidates without references (000)" in err) == (1, True)
    references = [
        {"id": f"00{i}", "image": name, "caption": text}
        for i, (name, text) in enumerate(TEXTS.items())
    ]
    assert scored(candidates(0, 1, 2), references)[0] == 1
    assert scored(candidates("000", "001", "002"), references)[0] == 0


@pytest.mark.parametrize("missing", [None, "", float("nan"), True, [1], {"a": 1}])
def test_ids_of_other_types_are_ignored(scored, missing):
    rows = [{"image_id": missing, "image": name, "caption": "a"} for name in NAMES]
    assert scored(rows)[0] == 0
    status, _, err = scored(candidates(missing, 1, 2))
    assert (status, "results.jsonl:1: expected an object with one of" in err) == (1, True)


# Output of generate.py


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.tsv", "stdout.csv"])
def test_all_outputs_of_generate_are_scored(tmp_path, monkeypatch, capsys, checkpoint, name):
    """Captions and answers, also of images with equal bytes; a row with an error is an error."""
    monkeypatch.chdir(tmp_path)
    for i in (0, 1, 1):
        names = [f"{i}.png", "twin.png"] if i else [f"{i}.png"]
        for file in names:
            picture(i).save(tmp_path / file)
    images = ["0.png", "1.png", "twin.png"]
    for question in ([], ["--question", QUESTIONS[0]]):
        words = [*images, "--checkpoint", checkpoint, *question]
        write = ["--csv"] if name == "stdout.csv" else ["--output", name]
        assert generate.main([*words, *write]) == 0
        if name == "stdout.csv":
            Path(name).write_text(capsys.readouterr().out)
        key = "answer" if question else "caption"
        rows = [row for _, row in read_candidates(name)]
        data = [
            {
                "image": row["image"],
                key: row[key],
                **({"question": question[1]} if question else {}),
            }
            for row in rows
        ]
        Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
        assert score.main([name, "--references", "data.jsonl", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        if question:
            assert result["scores"]["answers"]["exact match"] == 1
        else:
            texts = {row["image"]: row["caption"] for row in rows}
            expected = score_captions(texts, {k: [v] for k, v in texts.items()})
            assert {k: result[k] for k in expected} == pytest.approx(expected)
        for path in tmp_path.glob(f"{name}*"):
            path.unlink()
    Path("2.png").write_text("no picture")
    generate.main(["2.png", "--checkpoint", checkpoint, *write])
    if name == "stdout.csv":
        Path(name).write_text(capsys.readouterr().out)
    assert score.main([name, "--references", "data.jsonl"]) == 1
    assert "2.png has an error, no caption" in capsys.readouterr().err


# References without file names, and few images


def coco(tmp_path: Path, images: list[dict]) -> Path:
    texts = list(TEXTS.values())
    document = {
        "images": images,
        "annotations": [
            {"id": i, "image_id": row["id"], "caption": texts[i]} for i, row in enumerate(images)
        ],
    }
    path = tmp_path / "coco_test_gt.json"
    path.write_text(json.dumps(document))
    return path


def run(capsys, *words: object) -> tuple[int, str, str]:
    status = score.main(list(map(str, words)))
    return (status, *capsys.readouterr())


def test_references_need_no_file_names(tmp_path, capsys, checkpoint):
    path = coco(tmp_path, [{"id": 1}, {"id": 2, "file_name": None}, {"id": 3}])
    results = tmp_path / "results.json"
    results.write_text(json.dumps(candidates(1, 2, 3, key="image_id")))
    status, out, err = run(capsys, results, "--references", path, "--json")
    assert (status, json.loads(out)["BLEU-1"]) == (0, pytest.approx(1))
    assert "row" not in err
    # A file name beside the id cannot be checked.
    rows = [row | {"image": f"{row['image_id']}.jpg"} for row in json.loads(results.read_text())]
    results.write_text(json.dumps(rows))
    assert run(capsys, results, "--references", path)[0] == 0
    for words in (("--checkpoint", checkpoint), ("compare", results, checkpoint)):
        status, out, err = run(capsys, *words, "--references", path)
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert "coco_test_gt.json:images[0]" in err


def test_images_without_file_name_are_left_out_of_captioning(tmp_path, capsys, checkpoint):
    picture(0).save(tmp_path / "0.png")
    path = coco(tmp_path, [{"id": 1}, {"id": 2, "file_name": "0.png"}])
    words = ("--checkpoint", checkpoint, "--references", path, "--json")
    status, out, err = run(capsys, *words)
    assert (status, json.loads(out)["images"]) == (0, 1)
    assert "row that cannot be parsed: 1 (coco_test_gt.json:images[0]" in err


def test_karpathy_splits_need_no_file_names(tmp_path, capsys):
    images = [
        {"cocoid": i, "split": "test", "sentences": [{"raw": text}]}
        for i, text in enumerate(TEXTS.values())
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images}))
    results = tmp_path / "results.json"
    results.write_text(json.dumps(candidates(0, 1, 2, key="image_id")))
    assert run(capsys, results, "--references", path)[0] == 0


@pytest.mark.parametrize(("images", "message"), [(1, "is 0 for a single image"), (2, "2 images"),
                                               (24, "24 images"), (25, None)])  # fmt: skip
def test_few_images_give_a_warning(tmp_path, capsys, images, message):
    rows = [{"image": f"{i}.jpg", "caption": "two girls are running"} for i in range(images)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = run(capsys, path, "--references", path, "--json")
    result = json.loads(out)
    assert status == 0
    if images == 1:
        assert result["CIDEr-D"] == 0  # as pycocoevalcap has it
    if message is None:
        assert ("warnings" in result, "CIDEr-D" in err) == (False, False)
    else:
        assert message in result["warnings"][0]
        assert err == f"score.py: {result['warnings'][0]}\n"
