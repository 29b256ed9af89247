"""Examples from tar and Parquet files."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma

import pytest
from data_files import list_problems, write, write_lines
from PIL import Image
from shard_files import write_parquet, write_tar

from captioner.data import detect_format
from captioner.data.shards.tar_index import DAMAGED_SHARD, UNREAD_MEMBER
from captioner.errors import DataError, ImageError, ImageFormatError
from captioner.images import load_image
from captioner.sources import file_name, parse_member, read_member


def png(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(file, "PNG")
    return file.getvalue()


RED, BLUE = png("red"), png("blue")
PAIR = [("a.png", RED), ("a.txt", "a red square\n\nall red\n")]


def bytes_of(example) -> bytes:
    return read_member(parse_member(example.image))


def test_text_and_json_give_captions_and_questions(tmp_path, read):
    question = {"question": "which colour?", "answers": ["blue", "navy"], "image": "ignored.jpg"}
    caption = {"caption": "blue", "id": "own", "split": "val"}
    members = [
        *PAIR,
        ("d/b.png", BLUE),
        ("d/b.json", json.dumps(question)),
        ("c.jpg.png", BLUE),
        ("c.json", json.dumps(caption)),
    ]
    write_tar(tmp_path / "0.tar", members)
    assert detect_format(tmp_path) == detect_format(tmp_path / "0.tar") == "webdataset"
    rows, report = read(tmp_path, splits=None)
    assert not report
    assert [(r.image_id, r.references, r.question, r.split) for r in rows] == [
        ("0/a", ("a red square", "all red"), "", "train"),
        ("0/d/b", ("blue", "navy"), "which colour?", "train"),
        ("own", ("blue",), "", "val"),
    ]
    assert rows[1].question_id == "0.tar:d/b"
    assert [bytes_of(row) for row in rows] == [RED, BLUE, BLUE]
    assert [file_name(row.image) for row in rows] == ["a.png", "b.png", "c.jpg.png"]
    assert load_image(rows[0].image).getpixel((0, 0)) == (255, 0, 0)


def test_split_is_in_the_name_of_the_shard_or_of_its_folder(tmp_path, read):
    names = ("train-0000", "val/0000", "coco_test2014-000-of-002", "x")
    for name in names:
        write_tar(tmp_path / f"{name}.tar", PAIR)
    rows, _ = read(tmp_path, splits=None)
    assert {row.image_id: row.split for row in rows} == {
        "train-0000/a": "train",
        "val/0000/a": "val",
        "coco_test2014-000-of-002/a": "test",
        "x/a": "train",
    }


def test_unusable_members_are_reported(tmp_path, read):
    members = [
        *PAIR,
        ("a.cls", "3"),
        ("a.seg.png", BLUE),
        ("._a.png", b"junk"),
        ("folder/", b""),
        ("lonely.png", BLUE),
        ("lost.txt", "no image\nat all"),
        ("a.txt", "a second text"),
        ("broken.png", BLUE),
        ("broken.json", "{"),
        ("empty.png", b""),
        ("empty.txt", "an empty image"),
    ]
    write_tar(tmp_path / "0.tar", members)
    rows, report = read(tmp_path)
    assert [row.image_id for row in rows] == ["0/a", "0/empty"]
    assert rows[0].references == ("a red square", "all red")
    problems = list_problems(report)
    assert problems[UNREAD_MEMBER] == ["0.tar::a.cls", "0.tar::._a.png"]
    assert problems["duplicate"] == [
        "0.tar::a.seg.png (second image of a)",
        "0.tar::a.txt (second captions of a)",
    ]
    assert problems["missing image"] == ["0.tar::lost"]
    assert report.problems["missing image"].rows == 2
    assert problems["row that cannot be parsed"] == ["0.tar::broken.json"]
    assert problems["image without captions"] == ["0/lonely", "0/broken"]
    with pytest.raises(ImageFormatError, match=r"0\.tar::empty\.png: is empty"):
        load_image(rows[1].image)


def test_rows_before_damage_are_used(tmp_path, read):
    path = write_tar(tmp_path / "0.tar", [*PAIR, ("b.png", BLUE), ("b.txt", "blue")])
    path.write_bytes(path.read_bytes()[:2600])
    (row,), report = read(tmp_path)
    assert row.image_id == "0/a"
    (place,) = list_problems(report)[DAMAGED_SHARD]
    assert place.startswith("0.tar: it ends at byte 2600")


@pytest.mark.parametrize("content", [b"", b"no tar file" * 99])
def test_file_that_is_no_tar_file_is_one_error(tmp_path, read, content):
    write(tmp_path / "0.tar", content)
    with pytest.raises(DataError, match=r"no usable example.*damaged shard"):
        read(tmp_path)


def test_compressed_tar_file_is_rejected_with_advice(tmp_path, read):
    write(tmp_path / "0.tar.gz", b"\x1f\x8b")
    with pytest.raises(DataError, match=r"0\.tar\.gz: is compressed.*gunzip"):
        read(tmp_path / "0.tar.gz")


@pytest.mark.parametrize(
    ("program", "module"), [("gzip", gzip), ("bzip2", bz2), ("xz", lzma), ("zstd", None)]
)
def test_compression_is_recognized_by_the_content(tmp_path, read, program, module):
    data = write_tar(tmp_path / "0.tar", PAIR).read_bytes()
    write(tmp_path / "0.tar", module.compress(data) if module else b"\x28\xb5\x2f\xfd" + data)
    write_tar(tmp_path / "1.tar", PAIR)
    with pytest.raises(DataError, match=rf"0\.tar: is compressed by {program}.*{program} -dc"):
        read(tmp_path)


def test_changed_shard_is_indexed_again(tmp_path, read):
    write_tar(tmp_path / "0.tar", PAIR)
    assert len(read(tmp_path)[0]) == 1
    write_tar(tmp_path / "0.tar", [*PAIR, ("b.png", BLUE), ("b.txt", "blue")])
    assert [bytes_of(row) for row in read(tmp_path)[0]] == [RED, BLUE]


def test_shard_that_shrank_is_an_image_error(tmp_path, read):
    path = write_tar(tmp_path / "0.tar", PAIR)
    (row,), _ = read(tmp_path)
    path.write_bytes(path.read_bytes()[:530])
    with pytest.raises(ImageError, match=r"0\.tar::a\.png: .*ends at byte 530"):
        load_image(row.image)


def test_folder_of_images_beside_their_archive_is_not_a_shard(tmp_path, read):
    write_tar(tmp_path / "all.tar", PAIR)
    write(tmp_path / "a.png", RED)
    write_lines(tmp_path / "a.txt", ["a red square"])
    assert detect_format(tmp_path) == "texts"
    _, report = read(tmp_path)
    assert list_problems(report) == {
        "file left unread (give its path to read it)": ["all.tar (webdataset)"]
    }


def test_parquet_holds_bytes_structs_or_paths(tmp_path, read):
    write_parquet(tmp_path / "train-0.parquet", [{"image": RED, "captions": ["one", "two"]}])
    struct = {"bytes": BLUE, "path": "x/b.png"}
    rows = [
        {"image": struct, "question": "what?", "answers": [{"answer": "a"}, {"answer": "b"}]},
        {"image": struct, "question": "who?", "answers": [{"answer": "c"}]},
    ]
    write_parquet(tmp_path / "val-0.parquet", rows)
    write(tmp_path / "p" / "c.png", BLUE)
    paths = [{"image": "p/c.png", "caption": "blue"}, {"image": None, "caption": "none"}]
    write_parquet(tmp_path / "test-0.parquet", paths)
    assert detect_format(tmp_path) == "parquet"
    rows, report = read(tmp_path, splits=None)
    assert [(r.split, r.references, r.question) for r in rows] == [
        ("test", ("blue",), ""),
        ("train", ("one", "two"), ""),
        ("val", ("a", "b"), "what?"),
        ("val", ("c",), "who?"),
    ]
    assert rows[0].image == str(tmp_path / "p" / "c.png")
    assert [bytes_of(row) for row in rows[1:]] == [RED, BLUE, BLUE]
    assert rows[2].image == rows[3].image, "equal bytes are written once"
    assert list_problems(report) == {"missing image": ["test-0.parquet:2"]}


def test_rows_of_an_image_in_parquet_are_joined(tmp_path, read):
    rows = [{"image": RED, "caption": "one"}, {"image": RED, "caption": "two"}]
    write_parquet(tmp_path / "a.parquet", rows)
    (row,), _ = read(tmp_path)
    assert (row.references, row.rows) == (("one", "two"), 2)


def test_parquet_without_images_names_its_columns(tmp_path, read):
    write_parquet(tmp_path / "a.parquet", [{"url": "x", "caption": "one"}])
    with pytest.raises(DataError, match=r"no column of images.*it has url, caption"):
        read(tmp_path)
    write(tmp_path / "b.parquet", b"PAR1")
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read as Parquet"):
        read(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("value", "kind"), [(7, "int64"), (0.5, "double"), (True, "bool"), ([[1, 2]], "list<")]
)
def test_parquet_with_numbers_in_place_of_images_names_their_type(tmp_path, read, value, kind):
    write_parquet(tmp_path / "a.parquet", [{"image": value, "caption": "one"}])
    with pytest.raises(DataError, match=rf"a\.parquet: the column image holds {kind}.*expected"):
        read(tmp_path)


def test_parquet_beside_a_tar_file_describes_it(tmp_path, read):
    write_tar(tmp_path / "0.tar", PAIR)
    write_parquet(tmp_path / "0.parquet", [{"url": "x", "caption": "one"}])
    rows, report = read(tmp_path)
    assert ([row.image_id for row in rows], bool(report)) == (["0/a"], False)


def test_name_that_is_like_an_address(tmp_path, read):
    name = "n::1+1+00000000::.png"
    write_tar(tmp_path / "0.tar", [(name, RED), ("n::1+1+00000000::.txt", "odd")])
    (row,), _ = read(tmp_path)
    assert (parse_member(row.image).name, bytes_of(row)) == (name, RED)
