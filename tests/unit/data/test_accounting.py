"""Every row of a data set is used, belongs to another split, or is reported with a reason."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.data import Report, read_dataset
from captioner.data.example_checks import Selection, read_examples
from captioner.data.formats.registry import resolve_format
from captioner.data.formats.sidecar_texts import SHARED_TEXT
from captioner.errors import DataError

SPLITS = ("train", "dev", "eval", "test", "holdout")
WANTED = ("train", "val")


@dataclass(frozen=True)
class Row:
    """One row of a random data set: a caption, or an answer to a question."""

    image: int
    fault: str = ""
    """`blank` text, `broken` row, or one that comes `twice`."""


rows_of_captions = st.lists(
    st.builds(Row, st.integers(0, 5), st.sampled_from(["", "", "", "blank", "broken", "twice"])),
    min_size=1,
    max_size=12,
)
splits_of_images = st.lists(st.sampled_from(SPLITS), min_size=6, max_size=6)
missing_images = st.sets(st.integers(0, 5), max_size=2)


def text_of(number: int, row: Row) -> str:
    return "  " if row.fault == "blank" else f'row {number}, "quoted" and more'


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def flickr8k(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"{row.image}.jpg#{number}\t{text_of(number, row)}"
        line = f"no image here {number}" if row.fault == "broken" else line
        lines += [line] * (2 if row.fault == "twice" else 1)
    write(root / "Flickr8k.token.txt", lines)
    lists(root, splits)
    return len(lines)


def kaggle(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"{row.image}.jpg,{number},{quoted(text_of(number, row))}"
        lines.append(f",{number},no image" if row.fault == "broken" else line)
    write(root / "captions.txt", ["image_name,comment_number,comment", *lines])
    lists(root, splits)
    return len(lines)


def flickr30k(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"{row.image}.jpg| {number}| {text_of(number, row)}"
        line = f"{row.image}.jpg {number}" if row.fault == "broken" else line
        lines += [line] * (2 if row.fault == "twice" else 1)
    write(root / "results.csv", ["image_name| comment_number| comment", *lines])
    lists(root, splits)
    return len(lines)


def karpathy(root: Path, rows: list[Row], splits: list[str]) -> int:
    images = []
    for number, row in enumerate(rows):
        sentence = {"raw": text_of(number, row)}
        image = {"filename": f"{row.image}.jpg", "split": splits[row.image], "cocoid": number}
        image["sentences"] = "none" if row.fault == "broken" else [sentence]
        images += [image] * (2 if row.fault == "twice" else 1)
    document(root / "dataset_x.json", {"images": images})
    return len(images)


def coco(root: Path, rows: list[Row], splits: list[str]) -> int:
    count = 0
    for split in ("train", "val"):
        kept = [i for i, name in enumerate(splits) if (name == "train") == (split == "train")]
        annotations = []
        for number, row in enumerate(rows):
            if row.image not in kept:
                continue
            annotation: dict[str, Any] = {"id": number, "image_id": row.image}
            annotation["caption"] = 5 if row.fault == "broken" else text_of(number, row)
            annotations += [annotation] * (2 if row.fault == "twice" else 1)
        images = [{"id": i, "file_name": f"{i}.jpg"} for i in kept]
        document(
            root / f"captions_{split}2017.json", {"images": images, "annotations": annotations}
        )
        count += len(annotations)
    return count


def jsonl(root: Path, rows: list[Row], splits: list[str]) -> int:
    return own_rows(root / "own.jsonl", rows, splits)


def folder(root: Path, rows: list[Row], splits: list[str]) -> int:
    return own_rows(root / "metadata.jsonl", rows, splits)


def own_rows(path: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        value = {"file_name": f"{row.image}.jpg", "split": splits[row.image]}
        value["caption"] = text_of(number, row)
        lines.append("{" if row.fault == "broken" else json.dumps(value))
    write(path, lines)
    return len(lines)


def table(delimiter: str, suffix: str) -> Callable[[Path, list[Row], list[str]], int]:
    def make(root: Path, rows: list[Row], splits: list[str]) -> int:
        lines = []
        for number, row in enumerate(rows):
            text = text_of(number, row)
            cells = [f"{row.image}.jpg", splits[row.image]]
            cells.append(text if delimiter == "\t" else quoted(text))
            line = delimiter.join(cells)
            lines.append(f"{row.image}.jpg" if row.fault == "broken" else line)
        write(root / f"own.{suffix}", [delimiter.join(("image", "split", "caption")), *lines])
        return len(lines)

    return make


def questions(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        value = {"image": f"{row.image}.jpg", "split": splits[row.image]}
        value |= {"question": "what is it?", "answer": text_of(number, row)}
        value["question_id"] = f"of image {row.image}"  # answers of several annotators
        value = value | {"question": 7} if row.fault == "broken" else value
        lines.append(json.dumps(value))
    write(root / "own.jsonl", lines)
    return len(lines)


def daquar(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines = []
    for number, row in enumerate(rows):
        line = f"what is it {number},{quoted(text_of(number, row))},{row.image}"
        lines.append("one cell" if row.fault == "broken" else line)
    write(root / "data_eval.csv", ["question,answer,image_id", *lines])
    return len(lines)


def easy_vqa(root: Path, rows: list[Row], splits: list[str]) -> int:
    found: list[Any] = [["is it first?", "yes", 0]]
    for number, row in enumerate(rows):
        value = ["what is it?", text_of(number, row), row.image]
        found.append([1, 2] if row.fault == "broken" else value)
    (root / "train").mkdir()
    (root / "train" / "questions.json").write_text(json.dumps(found))
    return len(found)


def vqav2(root: Path, rows: list[Row], splits: list[str]) -> int:
    asked, annotations = [], []
    for number, row in enumerate(rows):
        question = {"question_id": number, "image_id": row.image, "question": f"what is {number}?"}
        question = {"question_id": number} if row.fault == "broken" else question
        asked += [question] * (2 if row.fault == "twice" else 1)
        answers = [{"answer": text_of(number, row)}]
        annotations.append({"question_id": number, "answers": answers})
    name = "v2_{}mscoco_train2014_{}.json"
    document(root / name.format("OpenEnded_", "questions"), {"questions": asked})
    document(root / name.format("", "annotations"), {"annotations": annotations})
    return len(asked)


def texts(root: Path, rows: list[Row], splits: list[str]) -> int:
    lines: dict[int, list[str]] = {}
    for number, row in enumerate(rows):
        if row.fault != "blank":  # a blank line is no row of a text file
            lines.setdefault(row.image, []).append(text_of(number, row))
    for image, found in lines.items():
        write(root / splits[image] / f"{image}.txt", found)
    return sum(map(len, lines.values()))


FORMATS = {
    "flickr8k": flickr8k,
    "flickr8k_csv": kaggle,
    "flickr30k": flickr30k,
    "karpathy": karpathy,
    "coco": coco,
    "jsonl": jsonl,
    "folder": folder,
    "csv": table(",", "csv"),
    "csv with semicolons": table(";", "csv"),
    "csv with tabs": table("\t", "tsv"),
    "jsonl of questions": questions,
    "daquar": daquar,
    "easy_vqa": easy_vqa,
    "vqav2": vqav2,
    "texts": texts,
}


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def document(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def lists(root: Path, splits: list[str]) -> None:
    """Split lists; of the images of no known split there is none."""
    for split in set(splits) - {"holdout"}:
        names = [f"{i}.jpg" for i, name in enumerate(splits) if name == split]
        write(root / f"some_{split}.txt", names)


def images(name: str, root: Path, splits: list[str], missing: set[int]) -> None:
    for i in range(6):
        place = {
            "easy_vqa": root / "train" / "images" / f"{i}.png",
            "vqav2": root / "train2014" / f"COCO_train2014_{i:012d}.jpg",
            "texts": root / splits[i] / f"{i}.jpg",
        }.get(name, root / f"{i}.jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        if i not in missing:
            place.touch()


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=30)
@given(rows_of_captions, splits_of_images, missing_images)
def test_rows_read_and_rows_reported_are_the_rows_written(name, rows, splits, missing):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        written = FORMATS[name](root, rows, splits)
        kind = name.partition(" ")[0]
        if kind == "texts":
            missing = set()  # a text file without an image is no row of this format
        images(kind, root, splits, missing)
        try:
            resolve_format(root, kind)
        except DataError:
            assert kind == "texts"
            assert written == 0
            return
        report = Report()
        selection = Selection(root, kind, splits=WANTED)
        found = list(read_examples(selection, report, Counter()))
    assert report.rows == written
    assert report.used.total() == sum(example.rows for example in found)
    assert set(report.used) <= set(WANTED)
    # Counted without the report: each text has its row's number in it.
    markers = [text for example in found for text in example.references]
    if kind != "easy_vqa":
        assert len(set(markers)) == len(markers)
        assert len(markers) == report.used.total()
    assert report.dropped == sum(problem.rows for _, problem in report)
    assert all(count > 0 for count in report.unused.values())


def test_a_list_in_one_row_counts_once_and_its_blank_text_is_reported(tmp_path, read):
    rows = [{"image": "a.jpg", "captions": ["a dog", " ", "a cat"]}, {"image": "a.jpg"}]
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a cat")
    assert (report.rows, report.used, report.dropped) == (2, {"train": 1}, 1)
    assert report.problems["empty caption"].count == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"),
        ("eval", "val"),
        ("Evaluation", "val"),
        ("dev", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("testing", "test"),
        ("test", "test"),
        ("holdout", "holdout"),
    ],
)
def test_names_of_splits(name, expected, tmp_path, read):
    write(tmp_path / "own.jsonl", [json.dumps({"image": "a.jpg", "text": "x", "split": name})])
    (tmp_path / "a.jpg").touch()
    (example,), _ = read(tmp_path, splits=None)
    assert example.split == expected


def test_rows_of_other_splits_are_counted(tmp_path, read):
    splits = ["train"] * 6 + ["eval"] * 3 + ["holdout"] * 2 + ["fold 3"]
    rows = [
        {"image": f"{i}.jpg", "text": f"row {i}", "split": name} for i, name in enumerate(splits)
    ]
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    for i in range(len(splits)):
        (tmp_path / f"{i}.jpg").touch()
    found, report = read(tmp_path, splits=WANTED)
    assert len(found) == 9
    assert report.used == {"train": 6, "val": 3}
    assert report.unused == {"holdout": 2, "fold 3": 1}
    assert report.rows == 12


def test_the_lemmatized_captions_of_flickr8k_are_not_read(tmp_path, read):
    for name, text in (("Flickr8k.token.txt", "Two dogs run"), ("Flickr8k.lemma.token.txt", "dog")):
        write(tmp_path / name, [f"a.jpg#0\t{text}"])
    write(tmp_path / "CrowdFlowerAnnotations.txt", ["a.jpg\ta.jpg#0\t1\t1\t0"])
    (tmp_path / "a.jpg").touch()
    (example,), _ = read(tmp_path)
    assert example.references == ("Two dogs run",)


def test_two_token_files_are_an_error_that_names_both(tmp_path, read):
    for name in ("one.token.txt", "two.token.txt"):
        write(tmp_path / name, ["a.jpg#0\ta dog"])
    with pytest.raises(DataError, match=r"one\.token\.txt, two\.token\.txt.*give the path of one"):
        read(tmp_path)


def test_files_that_are_not_read_are_reported(tmp_path, read):
    for name in ("train.jsonl", "val.jsonl", "more.jsonl", "old.csv"):
        line = "image,caption" if name.endswith("csv") else '{"image": "a.jpg", "text": "a dog"}'
        write(tmp_path / name, [line])
    write(tmp_path / "notes.csv", ["day,weather"])
    (tmp_path / "a.jpg").touch()
    _, report = read(tmp_path)
    (problem,) = (problem for kind, problem in report if "left unread" in kind)
    assert problem.names == ["more.jsonl (jsonl)", "old.csv (csv)"]
    _, report = read(tmp_path / "train.jsonl")  # named, so that nothing else was meant
    assert not report


LISTS = {
    "python": "['a dog runs', \"the dog's ball\"]",
    "json": '["a dog runs", "the dog\'s ball"]',
    "numpy": "['a dog runs'\n \"the dog's ball\"]",
    "array": "array(['a dog runs', \"the dog's ball\"], dtype=object)",
    "tuple": "('a dog runs', \"the dog's ball\")",
    "with a missing value": "['a dog runs', nan, \"the dog's ball\"]",
    "json with a missing value": '["a dog\\u0020runs", null, "the dog\'s ball"]',
    "numpy strings": "[np.str_('a dog runs'), np.str_(\"the dog's ball\")]",
    "set": "{'a dog runs', \"the dog's ball\"}",
    "objects": "[{'answer': 'a dog runs', 'answer_id': 1}, {'answer': \"the dog's ball\"}]",
    "json objects": '[{"raw": "a dog runs"}, {"raw": "the dog\'s ball"}]',
    "a call": "List(['a dog runs', \"the dog's ball\"])",
}


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("column", ["caption", "captions", "text", "answer", "answers"])
def test_a_cell_that_holds_a_list_becomes_several_texts(form, column, tmp_path, read):
    question = ",question" if column.startswith("answer") else ""
    cells = f"a.jpg,{quoted(LISTS[form])}" + (",what is it?" if question else "")
    write(tmp_path / "own.csv", [f"image,{column}{question}", cells])
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog runs", "the dog's ball")
    assert not report


TORN = ["['a dog', 'a c", "['a', ['b']]", "['a' 'b',]", "a', 'b']", "[b'a']", "[“a”, “b”]"]


@pytest.mark.parametrize("cell", [*TORN, "[1, 2", "{}]", "[2 dogs]", "[1] a dog", "a 'b', ['c']?"])
def test_a_torn_list_is_reported_and_a_text_in_brackets_is_not(cell, tmp_path, read):
    write(tmp_path / "own.csv", ["image,caption", f"a.jpg,{quoted(cell)}", "a.jpg,[a dog] runs"])
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    torn = cell in TORN
    assert example.references == (("[a dog] runs",) if torn else (cell, "[a dog] runs"))
    assert ("list that cannot be parsed" in report.problems) is torn
    assert report.rows == 2


@pytest.mark.parametrize("empty", [None, "", "  ", [], [" "]])
@pytest.mark.parametrize(
    ("first", "second"), [("captions", "caption"), ("captions", "text"), ("caption", "text")]
)
def test_an_empty_value_falls_through_to_the_next_key(empty, first, second, tmp_path, read):
    rows = [{"image": "", "file_name": "a.jpg", first: empty, second: "a dog"}]
    rows.append({"image": "a.jpg", first: "a cat", second: empty})
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a cat")
    assert not report


def test_an_empty_cell_falls_through_to_the_next_column(tmp_path, read):
    write(tmp_path / "own.csv", ["image,caption,text,answers,answer,question"])
    lines = ["a.jpg,,a dog,,,", "a.jpg,a cat,,,,", "a.jpg,,,,yes,a dog?", "a.jpg,,,no,,a cat?"]
    write(tmp_path / "own.csv", ["image,caption,text,answers,answer,question", *lines])
    (tmp_path / "a.jpg").touch()
    found, report = read(tmp_path)
    assert [example.references for example in found] == [("yes",), ("no",), ("a dog", "a cat")]
    assert not report


def test_a_second_text_of_a_row_is_reported(tmp_path, read):
    rows = [{"image": "a.jpg", "captions": ["a dog", "a cat"], "caption": "a dog", "text": "other"}]
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a cat")
    assert report.problems["column left unread"].names == [
        "text beside captions (first in own.jsonl:1)"
    ]


def test_a_column_that_comes_twice_is_reported(tmp_path, read):
    write(tmp_path / "own.csv", ["image,caption,caption", "a.jpg,a dog,a cat"])
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog",)
    assert report.problems["column left unread"].count == 1


class TestNestedMetadata:
    """The same as the `imagefolder` of `datasets`."""

    def test_all_files_below_the_folder_are_read(self, tmp_path, read):
        for name, text in (("", "root"), ("cats", "a cat"), ("train/dogs", "a dog"), ("val", "b")):
            write(
                tmp_path / name / "metadata.jsonl",
                [json.dumps({"file_name": "0.jpg", "text": text})],
            )
            (tmp_path / name / "0.jpg").touch()
        found, report = read(tmp_path, splits=None)
        assert {(e.image_id, e.references[0], e.split) for e in found} == {
            ("0.jpg", "root", "train"),
            ("cats/0.jpg", "a cat", "cats"),  # beside splits, no training data
            ("train/dogs/0.jpg", "a dog", "train"),
            ("val/0.jpg", "b", "val"),
        }
        assert not report

    def test_without_split_folders_all_is_train(self, tmp_path, read):
        for name in ("cats", "dogs/wet"):
            line = json.dumps({"file_name": "0.jpg", "text": name})
            write(tmp_path / name / "metadata.jsonl", [line])
            (tmp_path / name / "0.jpg").touch()
        found, _ = read(tmp_path)
        assert [e.image_id for e in found] == ["cats/0.jpg", "dogs/wet/0.jpg"]

    @pytest.mark.parametrize(
        ("name", "split"),
        [("test_set", "test"), ("Val-images", "val"), ("holdout", "holdout"), ("eval", "val")],
    )
    def test_a_folder_beside_train_is_never_trained_on(self, name, split, tmp_path, read):
        for folder in ("train", name):
            line = json.dumps({"file_name": "0.jpg", "text": folder})
            write(tmp_path / folder / "metadata.jsonl", [line])
            (tmp_path / folder / "0.jpg").touch()
        found, _ = read(tmp_path, splits=None)
        assert {(e.references[0], e.split) for e in found} == {("train", "train"), (name, split)}

    @pytest.mark.parametrize("place", ["", "cats", "train/cats"])
    def test_both_kinds_are_an_error(self, place, tmp_path, read):
        write(tmp_path / "metadata.jsonl", ['{"file_name": "0.jpg", "text": "a dog"}'])
        write(tmp_path / place / "metadata.csv", ["file_name,text", "1.jpg,a cat"])
        with pytest.raises(DataError, match=r"both metadata\.jsonl and metadata\.csv") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


class TestWholeNumbers:
    def test_in_a_column_of_whole_numbers(self, tmp_path, read):
        lines = ["a.jpg,how many?,3.0,7.0", "a.jpg,how many dogs?,,8.0", "a.jpg,and cats?,12,9"]
        write(tmp_path / "own.csv", ["image,question,answer,question_id", *lines])
        (tmp_path / "a.jpg").touch()
        found, _ = read(tmp_path)
        assert [(e.references, e.question_id) for e in found] == [(("3",), "7"), (("12",), "9")]

    @pytest.mark.parametrize("other", ["2.5", "yes"])
    def test_not_beside_fractions_or_words(self, other, tmp_path, read):
        lines = ["a.jpg,how many?,3.0", f"a.jpg,how much?,{other}"]
        write(tmp_path / "own.csv", ["image,question,answer", *lines])
        (tmp_path / "a.jpg").touch()
        found, _ = read(tmp_path)
        assert [example.references for example in found] == [("3.0",), (other,)]

    def test_in_json(self, tmp_path, read):
        row = {"image": "a.jpg", "question": "how many?", "answers": [3.0, 2.5, 4], "id": 5.0}
        write(tmp_path / "own.jsonl", [json.dumps(row)])
        (tmp_path / "a.jpg").touch()
        (example,), _ = read(tmp_path)
        assert (example.references, example.image_id) == (("3", "2.5", "4"), "5")


def test_rows_of_one_question_id_are_joined(tmp_path, read):
    ask = {"image": "a.jpg", "question": "what color?", "question_id": 5}
    rows = [ask | {"answer": answer} for answer in ("blue", "red", "red")]
    rows[1]["answer_type"] = "other"
    rows.append(ask | {"image": "b.jpg", "answer": "green"})
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    for name in "ab":
        (tmp_path / f"{name}.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("blue", "red", "red")
    assert (example.answer_type, example.rows) == ("other", 3)
    assert report.problems["duplicate"].rows == 1  # the same id, of another image


class TestQuotationMarks:
    def test_are_ordinary_between_tabs(self, tmp_path, read):
        lines = [f"{i}.jpg\tcaption {i}" for i in range(5)]
        lines[2] = '2.jpg\t"Stop" sign at a corner'
        lines[3] = '3.jpg\t"an open quote'
        write(tmp_path / "own.tsv", ["image\tcaption", *lines])
        for i in range(5):
            (tmp_path / f"{i}.jpg").touch()
        found, report = read(tmp_path)
        assert [e.references[0] for e in found] == [line.split("\t")[1] for line in lines]
        assert not report

    @pytest.mark.parametrize("end", ["", '9.jpg,a "late" one', '9.jpg,late"'])
    def test_unclosed_ones_are_reported_with_the_rows_they_consumed(self, end, tmp_path, read):
        lines = ["0.jpg,a dog", '1.jpg,"Stop sign', *(f"{i}.jpg,caption {i}" for i in range(2, 9))]
        write(tmp_path / "own.csv", ["image,caption", *lines, *filter(None, [end])])
        for i in range(10):
            (tmp_path / f"{i}.jpg").touch()
        found, report = read(tmp_path)
        consumed = 8 + bool(end)
        assert [example.references for example in found] == [("a dog",)]
        problem = report.problems["unclosed quotation mark"]
        assert problem.names == [f"own.csv:3-{2 + consumed}, {consumed} rows"]
        assert (problem.rows, report.rows) == (consumed, consumed + 1)

    def test_a_caption_of_several_lines_is_no_unclosed_one(self, tmp_path, read):
        write(tmp_path / "own.csv", ["image,caption", '0.jpg,"a dog,', 'which runs"'])
        (tmp_path / "0.jpg").touch()
        (example,), report = read(tmp_path)
        assert example.references == ("a dog,\nwhich runs",)
        assert not report

    def test_of_any_image_suffix(self, tmp_path, read):
        lines = ["0.avif,a dog", '1.avif,"I love you', "2.avif,a cat", '3.avif,he said hello"']
        write(tmp_path / "own.csv", ["image,caption", *lines])
        (tmp_path / "0.avif").touch()
        (example,), report = read(tmp_path)
        assert example.references == ("a dog",)
        assert report.problems["unclosed quotation mark"].rows == 3

    def test_of_images_without_a_suffix(self, tmp_path, read):
        lines = ["who?,a dog,1", 'what?,"open,2', "where?,here,3", 'when?,now,4"']
        write(tmp_path / "data_train.csv", ["question,answer,image_id", *lines])
        (tmp_path / "1.jpg").touch()
        (example,), report = read(tmp_path)
        assert example.references == ("a dog",)
        assert (report.rows, report.problems["unclosed quotation mark"].rows) == (4, 3)


def test_daquar_rows_have_lists_splits_and_whole_numbers(tmp_path, read):
    lines = ['0,what?,"[""yes"", ""no""]",val', "1,how many?,['2'],train", '1,torn?,"[\'a",train']
    write(tmp_path / "data_train.csv", ["image_id,question,answer,split", *lines])
    for name in "01":
        (tmp_path / f"{name}.jpg").touch()
    found, report = read(tmp_path, splits=None)
    assert [(e.split, e.references) for e in found] == [("val", ("yes", "no")), ("train", ("2",))]
    assert report.problems["list that cannot be parsed"].rows == 1
    numbers = ["question,answer,image_id", "how many?,3.0,0", "and now?,12,1"]
    write(tmp_path / "data_train.csv", numbers)
    found, _ = read(tmp_path)
    assert [e.references for e in found] == [("3",), ("12",)]


def test_numbered_columns_are_several_captions(tmp_path, read):
    lines = ["image,caption,caption_2,caption3", "a.jpg,a dog,a wet dog,", "a.jpg,,,a cat"]
    write(tmp_path / "own.csv", lines)
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a wet dog", "a cat")
    assert not report
    write(tmp_path / "own.csv", ["image,caption_1,caption_2", "a.jpg,a dog,a cat"])
    (example,), _ = read(tmp_path)
    assert example.references == ("a dog", "a cat")


@pytest.mark.parametrize("split", [0, False, 1, []])
def test_a_split_that_is_no_text_is_a_bad_row(split, tmp_path, read):
    rows = [{"image": "a.jpg", "text": "a dog", "split": split}, {"image": "a.jpg", "text": "b"}]
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("b",)
    assert report.problems["row that cannot be parsed"].rows == 1


@pytest.mark.parametrize("empty", [{"captions": []}, {"caption": ""}, {"captions": ["", " "]}])
def test_a_row_of_empty_captions_is_dropped_beside_others(empty, tmp_path, read):
    rows = [{"image": "a.jpg"} | empty, {"image": "a.jpg", "captions": ["a dog", "a cat"]}]
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert (example.rows, report.used["train"], report.dropped) == (1, 1, 1)
    assert report.problems["empty caption"].names == ["own.jsonl:1"]


def test_captions_of_which_nothing_is_left_are_empty(tmp_path, read):
    texts = ["...", ". .", '""', "“”", "a dog"]
    rows = [{"image": "a.jpg", "text": text} for text in texts]
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog",)
    assert report.problems["empty caption"].rows == 4
    (example,), _ = read(tmp_path, check_images=False)  # references are scored as they are
    assert example.references == tuple(texts)


class TestTextsBesideImages:
    def test_one_of_no_image_is_reported(self, tmp_path, read):
        for name in ("a.txt", "lost.txt", "sub/lost.txt", "b.txt", "b.jpg.txt"):
            write(tmp_path / name, ["a dog"])
        write(tmp_path / "c.TXT", ["a cat"])
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            (tmp_path / name).touch()
        found, report = read(tmp_path)
        assert [e.image_id for e in found] == ["a.jpg", "b.jpg", "c.jpg"]
        (problem,) = (problem for kind, problem in report if "left unread" in kind)
        assert [name.split()[0] for name in problem.names] == ["b.txt", "lost.txt", "lost.txt"]

    def test_are_a_data_set(self, tmp_path, read):
        for name, lines in (("a", ["a dog"]), ("train/b", ["a cat", "two cats"]), ("val/c", ["x"])):
            write(tmp_path / f"{name}.txt", lines)
            (tmp_path / f"{name}.jpg").touch()
        found, report = read(tmp_path, splits=None)
        assert {(e.image_id, e.split, e.references) for e in found} == {
            ("a.jpg", "train", ("a dog",)),
            ("train/b.jpg", "train", ("a cat", "two cats")),
            ("val/c.jpg", "val", ("x",)),
        }
        assert not report

    def test_an_image_without_one_is_reported(self, tmp_path, read):
        write(tmp_path / "a.txt", ["a dog"])
        for name in ("a.jpg", "b.png"):
            (tmp_path / name).touch()
        (example,), report = read(tmp_path)
        assert example.image_id == "a.jpg"
        assert report.problems["image without captions"].names == ["b.png"]

    def test_one_of_two_images_is_reported_unless_named_after_one(self, tmp_path, read):
        write(tmp_path / "x.txt", ["a dog", "a wet dog"])
        for name in ("x.jpg", "x.png", "y.jpg"):
            (tmp_path / name).touch()
        write(tmp_path / "y.jpg.txt", ["a cat"])
        (example,), report = read(tmp_path)
        assert example.references == ("a cat",)
        assert report.problems[SHARED_TEXT].rows == 2
        write(tmp_path / "x.png.txt", ["a bird"])
        found, report = read(tmp_path)
        assert {(e.image_id, e.references[0]) for e in found} == {
            ("x.jpg", "a dog"),
            ("x.png", "a bird"),
            ("y.jpg", "a cat"),
        }
        assert SHARED_TEXT not in report.problems


@pytest.mark.parametrize(
    "lines",
    [
        ["image_name,comment_number,comment", "a.jpg,0,a dog , running", "a.jpg,1,a cat"],
        ["image_name, comment_number, comment", 'a.jpg,0,"a dog , running"', "a.jpg,1,a cat"],
        ["image_name| comment_number| comment", "a.jpg| 0| a dog , running", "a.jpg| 1| a cat"],
    ],
)
def test_captions_txt_of_flickr30k(lines, tmp_path, read):
    write(tmp_path / "captions.txt", lines)
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog , running", "a cat")
    assert not report


def test_a_report_survives_pickling_and_merging():
    import pickle

    one, other = Report(), Report()
    one.used["train"], one.unused["x"] = 3, 1
    one.add("bad", "here", rows=2)
    other.used["train"] = 4
    other.add("bad", "there", rows=5)
    one.merge(pickle.loads(pickle.dumps(other)))
    assert (one.rows, one.dropped, one.used["train"]) == (15, 7, 7)


def test_the_account_reaches_the_caller(tmp_path):
    draw("red", "circle", "left").save(tmp_path / "a.png")
    lines = ['{"image": "a.png", "text": "a dog"}', '{"image": "b.png", "text": "a cat"}']
    write(tmp_path / "own.jsonl", lines)
    table, report = read_dataset(tmp_path, cache_dir=tmp_path / "cache")
    assert len(table) == 1
    assert (report.rows, report.used["train"], report.dropped) == (2, 1, 1)


def test_rows_without_an_image_but_with_an_id_are_references(tmp_path, read):
    rows = [{"id": 1, "caption": "a dog"}, {"image_id": "x", "caption": "a cat"}, {"caption": "?"}]
    write(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    found, report = read(tmp_path, check_images=False)
    assert [(e.image_id, e.references) for e in found] == [("1", ("a dog",)), ("x", ("a cat",))]
    assert report.problems["row that cannot be parsed"].names == ["own.jsonl:3"]
    with pytest.raises(DataError, match="missing image: 2"):
        read(tmp_path)
