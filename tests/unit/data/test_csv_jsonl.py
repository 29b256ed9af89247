"""Custom captions: lists in cells, several columns, metadata in folders."""

from __future__ import annotations

import json

import pytest
from data_files import json_lines, list_problems, pictures, write, write_lines
from row_sets import quoted

from captioner.errors import DataError

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
def test_list_in_cell_becomes_several_texts(form, column, tmp_path, read):
    question = ",question" if column.startswith("answer") else ""
    cells = f"a.jpg,{quoted(LISTS[form])}" + (",what is it?" if question else "")
    write_lines(tmp_path / "own.csv", [f"image,{column}{question}", cells])
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog runs", "the dog's ball")
    assert not report


TORN = ["['a dog', 'a c", "['a', ['b']]", "['a' 'b',]", "a', 'b']", "[b'a']", "[“a”, “b”]"]


@pytest.mark.parametrize("cell", [*TORN, "[1, 2", "{}]", "[2 dogs]", "[1] a dog", "a 'b', ['c']?"])
def test_truncated_list_is_reported_and_text_in_brackets_kept(cell, tmp_path, read):
    write_lines(
        tmp_path / "own.csv", ["image,caption", f"a.jpg,{quoted(cell)}", "a.jpg,[a dog] runs"]
    )
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
def test_next_key_replaces_empty_value(empty, first, second, tmp_path, read):
    rows = [{"image": "", "file_name": "a.jpg", first: empty, second: "a dog"}]
    rows.append({"image": "a.jpg", first: "a cat", second: empty})
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a cat")
    assert not report


def test_next_column_replaces_empty_cell(tmp_path, read):
    write_lines(tmp_path / "own.csv", ["image,caption,text,answers,answer,question"])
    lines = ["a.jpg,,a dog,,,", "a.jpg,a cat,,,,", "a.jpg,,,,yes,a dog?", "a.jpg,,,no,,a cat?"]
    write_lines(tmp_path / "own.csv", ["image,caption,text,answers,answer,question", *lines])
    (tmp_path / "a.jpg").touch()
    found, report = read(tmp_path)
    assert [example.references for example in found] == [("yes",), ("no",), ("a dog", "a cat")]
    assert not report


def test_second_text_of_row_is_reported(tmp_path, read):
    rows = [{"image": "a.jpg", "captions": ["a dog", "a cat"], "caption": "a dog", "text": "other"}]
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a cat")
    assert report.problems["column left unread"].names == [
        "text beside captions (first in own.jsonl:1)"
    ]


def test_repeated_column_is_reported(tmp_path, read):
    write_lines(tmp_path / "own.csv", ["image,caption,caption", "a.jpg,a dog,a cat"])
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog",)
    assert report.problems["column left unread"].count == 1


class TestNestedMetadata:
    """The convention of the `imagefolder` of `datasets`."""

    def test_all_files_in_subfolders_are_read(self, tmp_path, read):
        for name, text in (("", "root"), ("cats", "a cat"), ("train/dogs", "a dog"), ("val", "b")):
            write_lines(
                tmp_path / name / "metadata.jsonl",
                [json.dumps({"file_name": "0.jpg", "text": text})],
            )
            (tmp_path / name / "0.jpg").touch()
        found, report = read(tmp_path, splits=None)
        assert {(e.image_id, e.references[0], e.split) for e in found} == {
            ("0.jpg", "root", "train"),
            ("cats/0.jpg", "a cat", "cats"),  # not train, because other folders are splits
            ("train/dogs/0.jpg", "a dog", "train"),
            ("val/0.jpg", "b", "val"),
        }
        assert not report

    def test_rows_without_split_folders_are_train(self, tmp_path, read):
        for name in ("cats", "dogs/wet"):
            line = json.dumps({"file_name": "0.jpg", "text": name})
            write_lines(tmp_path / name / "metadata.jsonl", [line])
            (tmp_path / name / "0.jpg").touch()
        found, _ = read(tmp_path)
        assert [e.image_id for e in found] == ["cats/0.jpg", "dogs/wet/0.jpg"]

    @pytest.mark.parametrize(
        ("name", "split"),
        [("test_set", "test"), ("Val-images", "val"), ("holdout", "holdout"), ("eval", "val")],
    )
    def test_folder_beside_train_is_not_training_data(self, name, split, tmp_path, read):
        for folder in ("train", name):
            line = json.dumps({"file_name": "0.jpg", "text": folder})
            write_lines(tmp_path / folder / "metadata.jsonl", [line])
            (tmp_path / folder / "0.jpg").touch()
        found, _ = read(tmp_path, splits=None)
        assert {(e.references[0], e.split) for e in found} == {("train", "train"), (name, split)}

    @pytest.mark.parametrize("place", ["", "cats", "train/cats"])
    def test_both_kinds_of_metadata_are_an_error(self, place, tmp_path, read):
        write_lines(tmp_path / "metadata.jsonl", ['{"file_name": "0.jpg", "text": "a dog"}'])
        write_lines(tmp_path / place / "metadata.csv", ["file_name,text", "1.jpg,a cat"])
        with pytest.raises(DataError, match=r"both metadata\.jsonl and metadata\.csv") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


def test_numbered_columns_are_several_captions(tmp_path, read):
    lines = ["image,caption,caption_2,caption3", "a.jpg,a dog,a wet dog,", "a.jpg,,,a cat"]
    write_lines(tmp_path / "own.csv", lines)
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog", "a wet dog", "a cat")
    assert not report
    write_lines(tmp_path / "own.csv", ["image,caption_1,caption_2", "a.jpg,a dog,a cat"])
    (example,), _ = read(tmp_path)
    assert example.references == ("a dog", "a cat")


@pytest.mark.parametrize("split", [0, False, 1, []])
def test_split_of_wrong_type_is_bad_row(split, tmp_path, read):
    rows = [{"image": "a.jpg", "text": "a dog", "split": split}, {"image": "a.jpg", "text": "b"}]
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("b",)
    assert report.problems["row that cannot be parsed"].rows == 1


@pytest.mark.parametrize("empty", [{"captions": []}, {"caption": ""}, {"captions": ["", " "]}])
def test_row_of_empty_captions_is_dropped(empty, tmp_path, read):
    rows = [{"image": "a.jpg"} | empty, {"image": "a.jpg", "captions": ["a dog", "a cat"]}]
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert (example.rows, report.used["train"], report.dropped) == (1, 1, 1)
    assert report.problems["empty caption"].names == ["own.jsonl:1"]


def test_caption_without_words_is_empty(tmp_path, read):
    texts = ["...", ". .", '""', "“”", "a dog"]
    rows = [{"image": "a.jpg", "text": text} for text in texts]
    write_lines(tmp_path / "own.jsonl", list(map(json.dumps, rows)))
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog",)
    assert report.problems["empty caption"].rows == 4
    (example,), _ = read(tmp_path, check_images=False)  # scoring does not change references
    assert example.references == tuple(texts)


@pytest.mark.parametrize("target", ["loop.jpg", "nowhere.jpg"])
def test_broken_link_is_the_only_missing_image(target, tmp_path, read):
    names = ("a.jpg", "link.jpg", "loop.jpg")
    write(tmp_path / "x.jsonl", json_lines(*({"image": n, "caption": "a dog"} for n in names)))
    pictures(tmp_path, "a.jpg")
    (tmp_path / "loop.jpg").symlink_to(target)
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    rows, report = read(tmp_path)
    assert [row.image_id for row in rows] == ["a.jpg", "link.jpg"]
    assert list_problems(report) == {"missing image": [str(tmp_path / "loop.jpg")]}


@pytest.mark.parametrize("name", [" lead.jpg", "tail.jpg ", " both.jpg "])
def test_spaces_around_a_file_name_are_kept_if_the_file_has_them(name, tmp_path, read):
    row = {"file_name": name, "caption": "a dog"}
    write(tmp_path / "metadata.jsonl", json_lines(row, {"file_name": " a.jpg ", "caption": "b"}))
    pictures(tmp_path, name, "a.jpg")
    rows, report = read(tmp_path)
    assert [row.image for row in rows] == [str(tmp_path / name), str(tmp_path / "a.jpg")]
    assert [row.image_id for row in rows] == [name, "a.jpg"]
    assert not report


def test_missing_file_is_reported_without_spaces(tmp_path, read):
    rows = ({"file_name": name, "caption": "a dog"} for name in ("a.jpg", " b.jpg"))
    write(tmp_path / "metadata.jsonl", json_lines(*rows))
    pictures(tmp_path, "a.jpg")
    _, report = read(tmp_path)
    assert list_problems(report) == {"missing image": [str(tmp_path / "b.jpg")]}
