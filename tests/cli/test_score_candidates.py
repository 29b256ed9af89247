"""Candidates of score.py: CSV files, ids of any type, and rows that name two images."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import picture
from tiny_vqa import QUESTIONS, make_vqa_checkpoint

from captioner.cli import generate, score
from captioner.data import Example
from captioner.errors import DataError, MetricError
from captioner.evaluation.candidate_files import read_candidates
from captioner.evaluation.candidates import match_answers, match_captions
from captioner.metrics import score_captions

TEXTS = {"a.jpg": "a brown dog runs", "b.jpg": "two girls play", "c.jpg": "a man rides a bicycle"}
NAMES = list(TEXTS)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_vqa_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best"))


@pytest.fixture
def scored(tmp_path, capsys):
    """Writes candidates and references as JSONL and scores them: (status, stdout, stderr)."""

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
    """Rows with the right texts of a.jpg and so on under these values of a key."""
    return [{key: x, "caption": t} for x, t in zip(images, TEXTS.values(), strict=True)]


# Rows that name two images


@pytest.mark.parametrize("key", ["id", "image_id"])
def test_an_id_that_counts_the_rows_is_not_taken_for_an_image(scored, key):
    rows = [{key: i, "image": name, "caption": TEXTS[name]} for i, name in enumerate(NAMES[::-1])]
    status, out, err = scored(rows)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"results.jsonl:1: {key} 0 is a.jpg in the data set, but image is c.jpg" in err
    assert "1 more such row" in err
    assert scored([{k: v for k, v in row.items() if k != key} for row in rows])[0] == 0
    right = [{key: i, "image": f"x/{name}", "caption": "a"} for i, name in enumerate(NAMES)]
    assert scored(right)[0] == 0


def test_an_image_that_the_data_set_lacks_contradicts_an_id(scored):
    rows = [{"id": i, "image": name, "caption": "a"} for i, name in enumerate(NAMES)]
    rows[2]["image"] = "d.jpg"
    status, _, err = scored(rows)
    assert (status, err.count("\n")) == (1, 1)
    assert "results.jsonl:3: id 2 is c.jpg in the data set, but image is d.jpg" in err
    rows = [{"image_id": row["id"], "image": row["image"], "caption": "a"} for row in rows]
    assert "image_id 2 is c.jpg" in scored(rows)[2]
    # Where no file has a known name, the files were renamed, and image_id decides.
    renamed = [row | {"image": f"{row['image_id']:012}.png"} for row in rows]
    assert scored(renamed)[0] == 0
    counted = [{"id": row["image_id"], "image": row["image"], "caption": "a"} for row in renamed]
    assert scored(counted)[0] == 1


def test_an_unknown_id_leaves_the_image_to_decide(scored):
    rows = [{"id": 100 + i, "image": name, "caption": TEXTS[name]} for i, name in enumerate(NAMES)]
    status, out, _ = scored(rows)
    assert (status, json.loads(out)["BLEU-1"]) == (0, pytest.approx(1))
    rows[1]["image"] = "none.jpg"
    assert "1 candidates without references (none.jpg)" in scored(rows)[2]


def test_image_id_and_id_may_not_name_two_images(scored):
    rows = [{"image_id": i, "id": 2 - i, "caption": "a"} for i in range(3)]
    status, _, err = scored(rows)
    assert (status, "image_id 0 is a.jpg in the data set, but id 2 is c.jpg" in err) == (1, True)
    # As in COCO's files, where id is the annotation's own.
    rows[1]["id"] = 1234
    assert scored(rows)[0] == 0


def test_sides_of_a_comparison_are_checked_too(tmp_path, capsys):
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


def test_a_shared_name_is_told_apart_by_its_folders():
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
def test_an_image_is_known_by_the_end_of_any_path(image):
    references = [Example("/data/a.jpg", "0", ("a",), "val")]
    assert match_captions([("1", {"image": image, "caption": "b"})], references, source="s") == {
        "0": "b"
    }


def test_the_content_of_an_image_is_no_path():
    references = [Example("/data/a.jpg", "0", ("a",), "val")]
    row = {"image_id": 0, "image": "data:image/png;base64," + "ab/c" * 500_000, "caption": "b"}
    assert match_captions([("1", row)], references, source="s") == {"0": "b"}


# Types of ids


@pytest.mark.parametrize("ids", [(0, 1, 2), ("0", "1", "2"), (0.0, 1.0, 2.0), ("0.0", "1.0", "2")])
@pytest.mark.parametrize("theirs", [(0, 1, 2), ("0", "1", "2"), ("0.0", "1.0", "2.0")])
def test_whole_numbers_are_equal_in_any_type(scored, ids, theirs):
    references = [
        {"id": i, "image": name, "caption": text}
        for i, (name, text) in zip(theirs, TEXTS.items(), strict=True)
    ]
    status, out, _ = scored(candidates(*ids), references)
    assert (status, json.loads(out)["BLEU-1"]) == (0, pytest.approx(1))


def test_leading_zeros_make_another_id(scored):
    status, _, err = scored(candidates("000", 1, 2))
    assert (status, "1 candidates without references (000)" in err) == (1, True)
    references = [
        {"id": f"00{i}", "image": name, "caption": text}
        for i, (name, text) in enumerate(TEXTS.items())
    ]
    assert scored(candidates(0, 1, 2), references)[0] == 1
    assert scored(candidates("000", "001", "002"), references)[0] == 0


@pytest.mark.parametrize("missing", [None, "", float("nan"), True, [1], {"a": 1}])
def test_an_id_that_is_no_text_or_number_is_passed_over(scored, missing):
    rows = [{"image_id": missing, "image": name, "caption": "a"} for name in NAMES]
    assert scored(rows)[0] == 0
    status, _, err = scored(candidates(missing, 1, 2))
    assert (status, "results.jsonl:1: expected an object with one of" in err) == (1, True)


@given(st.permutations(range(4)), st.permutations(range(4)), st.sampled_from(["id", "image_id"]))
def test_a_row_is_used_as_its_keys_agree_or_is_an_error(ids, images, key):
    """No pair of orders has a caption scored on an image that one of its keys does not name."""
    references = [Example(f"/d/{i}.jpg", str(10 + i), ("a",), "val") for i in range(4)]
    rows = [
        (str(n), {key: 10 + i, "image": f"{j}.jpg", "caption": str(n)})
        for n, (i, j) in enumerate(zip(ids, images, strict=True))
    ]
    if ids == images:
        found = match_captions(rows, references, source="s")
        assert found == {str(10 + i): str(n) for n, i in enumerate(ids)}
    else:
        with pytest.raises(MetricError, match=rf"{key} \d+ is \d.jpg .* but image is \d.jpg"):
            match_captions(rows, references, source="s")


# Answers


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


def test_question_ids_agree_with_image_and_question():
    rows = answers(WHAT, WHERE, OTHER)
    assert match_answers(rows, questions(), source="s") == {"0": "0", "1": "1", "2": "2"}
    for wrong, told in (
        ((WHERE, WHAT, OTHER), "question_id 0 is 'what is it?' in the data set, but question is"),
        ((OTHER, WHERE, WHAT), "of a.jpg, but image is b.jpg"),
        ((WHAT, WHERE, ("z.jpg", "what is it?")), "of b.jpg, but image is z.jpg"),
    ):
        with pytest.raises(MetricError, match=re.escape(told)):
            match_answers(answers(*wrong), questions(), source="s")
    # Prompts and renamed files, none of which is the data set's: question_id decides.
    rows = answers(*((f"{i}.png", f"Q: {i}") for i in range(3)))
    assert match_answers(rows, questions(), source="s") == {"0": "0", "1": "1", "2": "2"}


def test_an_unknown_question_id_leaves_image_and_question_to_decide():
    rows = answers(OTHER, WHERE, WHAT)
    rows = [(where, row | {"question_id": 100 + row["question_id"]}) for where, row in rows]
    assert match_answers(rows, questions(), source="s") == {"2": "0", "1": "1", "0": "2"}


# CSV


def write_csv(path: Path, header: list[str], *rows: list[object], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows])
    return path


def read(path: Path) -> list[dict]:
    return [row for _, row in read_candidates(str(path))]


@pytest.mark.parametrize("name", ["c.csv", "c.tsv", "c.txt", "-"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_from_elsewhere_is_read(tmp_path, monkeypatch, name, delimiter):
    path = write_csv(
        tmp_path / "c.csv",
        ["Image", " Caption ", "model", ""],
        ["a.jpg", "a dog, running; fast", "x", ""],
        [],
        ["b.jpg", "two\u2028girls", "", ""],
        delimiter=delimiter,
    )
    data = b"\xef\xbb\xbf" + path.read_bytes()
    (tmp_path / name).write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    rows = read(Path(name) if name == "-" else tmp_path / name)
    assert [(row["image"], row["caption"]) for row in rows] == [
        ("a.jpg", "a dog, running; fast"),
        ("b.jpg", "two\u2028girls"),
    ]


def test_quotes_of_a_csv_are_syntax_and_of_a_tsv_text(tmp_path):
    path = write_csv(tmp_path / "a.csv", ["id", "caption"], [1, 'a "dog",\nrunning'])
    assert read(path) == [{"id": "1", "caption": 'a "dog",\nrunning'}]
    (tmp_path / "a.tsv").write_text('id\tcaption\n1\ta "dog\n2\ttwo girls\n')
    assert [row["caption"] for row in read(tmp_path / "a.tsv")] == ['a "dog', "two girls"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,text\na.jpg,a dog\n", "c.csv: the header is 'image,text'; expected the columns"),
        ("question,answer\nwhat?,a dog\n", "c.csv: the header is"),
        ("", "c.csv: the header is 'nothing'"),
        ("id,caption,id\n1,a,1\n", "c.csv: the header has id more than once"),
        ("id,caption\n1,a\n2,b,c\n", "c.csv:3: 3 cells; the header has 2 columns"),
        ('id,caption\n1,"a\n2,b\n3,c\n', "c.csv:2-4: not a valid CSV row"),
        ("id,caption,error\n1,,is torn\n", "c.csv:2: 1 has an error, no caption: is torn"),
        ("id,image,caption\n,,a\n", "c.csv:2: expected an object with one of"),
    ],
)
def test_a_table_that_cannot_be_scored_is_one_error(tmp_path, text, told):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read(tmp_path / "c.csv")
    assert told in str(error.value)


def test_a_table_of_both_kinds_is_read_by_its_first_row(tmp_path):
    header = ["question_id", "image", "question", "caption", "answer"]
    path = write_csv(tmp_path / "c.csv", header, ["", "a.jpg", "", "a dog", ""])
    assert read(path) == [{"image": "a.jpg", "caption": "a dog", "answer": ""}]
    path = write_csv(tmp_path / "c.csv", header, [1, "a.jpg", "what?", "", "a dog"])
    assert read(path)[0]["answer"] == "a dog"


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.tsv", "stdout.csv"])
def test_what_generate_writes_is_scored(tmp_path, monkeypatch, capsys, checkpoint, name):
    """Captions and answers, of images whose bytes are equal too; an error row is an error."""
    monkeypatch.chdir(tmp_path)
    for i in (0, 1, 1):
        names = [f"{i}.png", "twin.png"] if i else [f"{i}.png"]
        for file in names:
            picture(i).save(tmp_path / file)
    images = ["0.png", "1.png", "twin.png"]
    for asked in ([], ["--question", QUESTIONS[0]]):
        words = [*images, "--checkpoint", checkpoint, *asked]
        write = ["--csv"] if name == "stdout.csv" else ["--output", name]
        assert generate.main([*words, *write]) == 0
        if name == "stdout.csv":
            Path(name).write_text(capsys.readouterr().out)
        key = "answer" if asked else "caption"
        rows = read(Path(name))
        data = [
            {"image": row["image"], key: row[key], **({"question": asked[1]} if asked else {})}
            for row in rows
        ]
        Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
        assert score.main([name, "--references", "data.jsonl", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        if asked:
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


# COCO's ground truth without file names, and few images


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


def test_karpathys_splits_need_no_file_names(tmp_path, capsys):
    images = [
        {"cocoid": i, "split": "test", "sentences": [{"raw": text}]}
        for i, text in enumerate(TEXTS.values())
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images}))
    results = tmp_path / "results.json"
    results.write_text(json.dumps(candidates(0, 1, 2, key="image_id")))
    assert run(capsys, results, "--references", path)[0] == 0


@pytest.mark.parametrize(("images", "told"), [(1, "is 0 for a single image"), (2, "2 images"),
                                               (24, "24 images"), (25, None)])  # fmt: skip
def test_few_images_are_warned_about(tmp_path, capsys, images, told):
    rows = [{"image": f"{i}.jpg", "caption": "two girls are running"} for i in range(images)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = run(capsys, path, "--references", path, "--json")
    result = json.loads(out)
    assert status == 0
    if images == 1:
        assert result["CIDEr-D"] == 0  # as pycocoevalcap has it
    if told is None:
        assert ("warnings" in result, "CIDEr-D" in err) == (False, False)
    else:
        assert told in result["warnings"][0]
        assert err == f"score.py: {result['warnings'][0]}\n"
