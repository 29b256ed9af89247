"""Readers of caption formats: each format, its layouts and its problems."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pytest
from caption_sets import (
    CONTENT,
    MAKERS,
    content,
    make_coco,
    make_csv,
    make_flickr8k,
    make_flickr30k,
    make_karpathy,
)
from data_files import list_problems, pictures, write, write_lines

from captioner.data import (
    READERS,
    Report,
    detect_format,
)
from captioner.errors import DataError

FLICKR8K = Path(__file__).parents[4] / "shared" / "flickr8k"


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_reads_the_same_content(name, tmp_path, read):
    MAKERS[name](tmp_path)
    assert detect_format(tmp_path) == name
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == CONTENT
    assert all(Path(row.image).is_file() for row in rows)
    assert not report, report.summary()


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_by_name_split_and_without_images(name, tmp_path, read):
    MAKERS[name](tmp_path)
    for split in ("train", "dev"):
        rows, _ = read(tmp_path, format=name, splits=(split,))
        wanted = {"train": "train", "dev": "val"}[split]
        assert content(rows) == {k: v for k, v in CONTENT.items() if v[0] == wanted}
    with pytest.raises(DataError, match=r"no split test; it has train \(2\), val \(1\)"):
        read(tmp_path, splits=("train", "test"))
    for picture in tmp_path.rglob("*.jpg"):
        picture.unlink()
    with pytest.raises(DataError, match=r"no usable example.*missing image: 2.*data\.images"):
        read(tmp_path)
    rows, report = read(tmp_path, splits=None, check_images=False)
    assert content(rows) == CONTENT
    assert not report


@pytest.mark.parametrize("name", MAKERS)
def test_annotation_file_with_images_elsewhere(name, tmp_path, read):
    MAKERS[name](tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    for picture in (tmp_path / "data").rglob("*.jpg"):
        tail = f"p/{picture.name}" if name == "jsonl" else picture.name
        write(elsewhere / tail, picture.read_bytes())
        picture.unlink()
    (file,) = (f for f in READERS[name].find(tmp_path / "data") if "val" not in f.name)
    assert detect_format(file) == name
    rows, report = read(file, images=elsewhere)
    assert {row.image_id for row in rows} == {"a.jpg", "b.jpg"}
    assert all(Path(row.image).is_relative_to(elsewhere) for row in rows)
    assert not report


def test_rows_without_split_lists_are_train(tmp_path, read):
    for name in ("flickr8k", "flickr8k_csv", "flickr30k"):
        MAKERS[name](tmp_path / name)
        for path in (tmp_path / name).rglob("*.txt"):
            if path.name not in ("captions.txt", "Flickr8k.token.txt"):
                path.unlink()
        rows, _ = read(tmp_path / name)
        assert content(rows) == {k: ("train", texts) for k, (_, texts) in CONTENT.items()}


def test_karpathy_coco_uses_ids_and_folders(tmp_path, read):
    image = {"filename": "COCO_1.jpg", "filepath": "val2014", "split": "restval", "cocoid": 17}
    second = {**image, "filename": "COCO_2.jpg", "cocoid": 18, "split": "test"}
    images = [{**row, "sentences": [{"tokens": ["a", "dog"]}]} for row in (image, second)]
    write(tmp_path / "dataset_coco.json", {"images": images})
    pictures(tmp_path / "val2014", "COCO_1.jpg", "COCO_2.jpg")
    rows, report = read(tmp_path)
    assert content(rows) == {"17": ("train", ("a dog",))}
    assert rows[0].image == str(tmp_path / "val2014" / "COCO_1.jpg")
    assert not report


def test_later_coco_release_is_read_and_the_other_reported(tmp_path, read):
    make_coco(tmp_path)
    for split in ("train", "val"):
        old = tmp_path / "annotations" / f"captions_{split}2014.json"
        write(old.with_name(f"captions_{split}2017.json"), old.read_bytes())
        (tmp_path / f"{split}2014").rename(tmp_path / f"{split}2017")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == CONTENT
    assert all("2017" in row.image for row in rows)
    assert "captions_train2014.json" in report.summary()


def test_ids_contain_split_folder(tmp_path, read):
    for split in ("train", "validation"):
        row = {"file_name": "1.png", "caption": f"a {split} picture"}
        write(tmp_path / split / "metadata.jsonl", json.dumps(row) + "\n")
        pictures(tmp_path / split, "1.png")
    assert detect_format(tmp_path) == "folder"
    rows, report = read(tmp_path, splits=("train", "val"))
    assert content(rows) == {
        "train/1.png": ("train", ("a train picture",)),
        "validation/1.png": ("val", ("a validation picture",)),
    }
    assert not report


def test_custom_files_named_by_split(tmp_path, read):
    for split in ("train", "val"):
        write(tmp_path / f"{split}.csv", f"image;caption\n{split}.jpg;a {split}\n")
        pictures(tmp_path, f"{split}.jpg")
    rows, _ = read(tmp_path, splits=("val",))
    assert content(rows) == {"val.jpg": ("val", ("a val",))}


def test_csv_rows_of_an_image_are_joined(tmp_path, read):
    text = 'image,caption\na.jpg,"one, two"\nb.jpg,other\na.jpg,"three\nfour ""five"""\n'
    write(tmp_path / "x.csv", text)
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows, report = read(tmp_path / "x.csv")
    assert rows[0].references == ("one, two", 'three\nfour "five"')
    assert [row.image_id for row in rows] == ["a.jpg", "b.jpg"]
    assert not report


def test_flickr8k_problems(tmp_path, read):
    make_flickr8k(tmp_path)
    tokens = tmp_path / "Flickr8k_text" / "Flickr8k.token.txt"
    extra = b"no tab here\nd.jpg#0\tunlisted\na.jpg#0\tagain\na.jpg#7\t  \nb.jpg#9\tcaf\xe9\n"
    write(tokens, tokens.read_bytes() + extra)
    lists = tmp_path / "Flickr8k_text" / "Flickr_8k.trainImages.txt"
    write(lists, "a.jpg\nb.jpg\nghost.jpg\nc.jpg\n")
    (tmp_path / "Flicker8k_Dataset" / "c.jpg").unlink()
    rows, report = read(tmp_path)
    assert content(rows) == {k: v for k, v in CONTENT.items() if v[0] == "train"}
    assert list_problems(report) == {
        "row that cannot be parsed": ["Flickr8k.token.txt:5"],
        "duplicate": ["a.jpg#0 (Flickr8k.token.txt:7)", "c.jpg (again in val)"],
        "empty caption": ["a.jpg"],
        "text that is not UTF-8": ["b.jpg: caf\\udce9"],
        "image without captions": ["ghost.jpg"],
        "missing image": [str(tmp_path / "Flicker8k_Dataset" / "c.jpg")],
        "captioned image in no split list": ["d.jpg"],
    }


def test_flickr30k_malformed_row_is_reported(tmp_path, read):
    make_flickr30k(tmp_path)
    results = tmp_path / "results.csv"
    write(results, results.read_bytes() + b"a.jpg| 4   A dog runs across the grass .\n")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == CONTENT
    assert list_problems(report) == {"row that cannot be parsed": ["results.csv:6"]}


def test_csv_rows_with_broken_quoting_are_reported(tmp_path, read):
    text = 'image,caption\na.jpg,"x" y\nb.jpg,good\nc.jpg\nb.jpg,better\nd.jpg,"open\ne.jpg,lost\n'
    write(tmp_path / "x.csv", text)
    pictures(tmp_path, "b.jpg")
    rows, report = read(tmp_path)
    assert content(rows) == {"b.jpg": ("train", ("good", "better"))}
    assert list_problems(report) == {
        "row that cannot be parsed": ["x.csv:2", "x.csv:4"],
        "unclosed quotation mark": ["x.csv:6-7, 2 rows"],
    }


def test_folder_named_like_image_is_missing_image(tmp_path, read):
    make_csv(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "a.jpg").mkdir()
    rows, report = read(tmp_path)
    assert set(content(rows)) == {"b.jpg"}
    assert list_problems(report) == {"missing image": [str(tmp_path / "a.jpg")]}


def test_jsonl_problems(tmp_path, read):
    lines = [
        '{"image": "a.jpg", "caption": "fine"}',
        '{"image": "a.jpg", "caption": ',
        "[1]",
        '{"image": "a.jpg"}',
        '{"caption": "no image"}',
        '{"image": "a.jpg", "captions": ["fine", 3]}',
        '{"image": "b.jpg", "caption": "half \\ud800"}',
        '{"image": "a.jpg", "caption": "leak", "split": "val"}',
        '{"image": "\\u0000.jpg", "caption": "no such name"}',
    ]
    write(tmp_path / "x.jsonl", "\n".join(lines))
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows, report = read(tmp_path)
    assert content(rows) == {"a.jpg": ("train", ("fine",))}
    bad = list_problems(report)
    assert bad["row that cannot be parsed"] == [f"x.jsonl:{n}" for n in (2, 3, 4, 5, 6)]
    assert bad["duplicate"] == ["a.jpg is in train and in val (x.jsonl:8)"]
    assert len(bad["text that is not UTF-8"]) == len(bad["missing image"]) == 1


def test_coco_problems(tmp_path, read):
    document = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}, {"id": 3}],
        "annotations": [
            {"id": 1, "image_id": 1, "caption": "good"},
            {"id": 1, "image_id": 1, "caption": "same annotation"},
            {"id": 2, "image_id": 9, "caption": "of nothing"},
            {"id": 3, "image_id": 1},
        ],
    }
    path = write(tmp_path / "captions_val2017.json", document)
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows, report = read(path, splits="val")
    assert content(rows) == {"1": ("val", ("good",))}
    assert {kind: problem.count for kind, problem in report} == {
        "row that cannot be parsed": 2,
        "duplicate": 1,
        "caption of an image that is not in the file": 1,
        "image without captions": 1,
    }


def test_error_messages_name_problem_and_path(tmp_path, read):
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match="no path"):
        read("")
    with pytest.raises(DataError, match=r"token\.txt \(flickr8k\).*\(coco\).*\(jsonl\)"):
        read(tmp_path)
    make_csv(tmp_path)
    with pytest.raises(DataError, match=r"'flikr8k' is unknown; did you mean 'flickr8k'\?.*coco"):
        read(tmp_path, format="flikr8k")
    with pytest.raises(DataError, match=r"not in the format 'karpathy'.*dataset_"):
        read(tmp_path, format="karpathy")
    with pytest.raises(DataError, match="expected the folder"):
        read(tmp_path, images=tmp_path / "own.csv")
    for broken, message in (
        (b'{"images": [{"sentences"', "not complete JSON"),
        (b'{"sentences": 1}', 'no list "images"'),
        ("{}".encode("utf-16"), "UTF-16"),
    ):
        path = write(tmp_path / "dataset.json", broken)
        with pytest.raises(DataError, match=message):
            read_broken(path, read)


def read_broken(path, read):
    # A truncated file may not be detected, so its reader is called directly.
    from captioner.data.formats.io import Source

    source = Source(root=path.parent, files=(path,), images=None, report=Report())
    return list(READERS["karpathy"].read(source))


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_give_rows_or_data_error(name, tmp_path, read):
    MAKERS[name](tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".jpg"]
    whole = {path: path.read_bytes() for path in files}
    rng = random.Random(name)
    for _ in range(25):
        path = rng.choice(files)
        data = bytearray(whole[path])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data) + 1)
            junk = rng.choice([b"", b'"', b"\0", b"\xff", b"\n", b"|", b"{", b"null", b"[]", b"\r"])
            data[at : at + rng.randrange(3)] = junk
        write(path, bytes(data[: rng.choice([len(data), rng.randrange(len(data) + 1)])]))
        with contextlib.suppress(DataError):
            rows, _ = read(tmp_path, format=name, splits=None)
            assert all(row.references and Path(row.image).is_file() for row in rows)
        write(path, whole[path])


def test_two_karpathy_files_are_an_error(tmp_path, read):
    make_karpathy(tmp_path)
    write(tmp_path / "dataset_other.json", (tmp_path / "dataset_flickr8k.json").read_bytes())
    with pytest.raises(DataError, match=r"dataset_flickr8k\.json, dataset_other\.json"):
        read(tmp_path)


@pytest.mark.skipif(not FLICKR8K.is_dir(), reason=f"needs Flickr8k in {FLICKR8K}")
@pytest.mark.slow
def test_real_flickr8k(read):
    assert detect_format(FLICKR8K) == "flickr8k"
    sizes = {}
    for split in ("train", "val"):
        rows, report = read(FLICKR8K, splits=(split,))
        assert not report, report.summary()
        assert {len(row.references) for row in rows} == {5}
        assert {row.split for row in rows} == {split}
        sizes[split] = len({row.image_id for row in rows})
    assert sizes == {"train": 6000, "val": 1000}
    with pytest.raises(DataError, match="no split test"):
        read(FLICKR8K, splits=("test",))


def test_lemmatized_captions_of_flickr8k_are_not_read(tmp_path, read):
    for name, text in (("Flickr8k.token.txt", "Two dogs run"), ("Flickr8k.lemma.token.txt", "dog")):
        write_lines(tmp_path / name, [f"a.jpg#0\t{text}"])
    write_lines(tmp_path / "CrowdFlowerAnnotations.txt", ["a.jpg\ta.jpg#0\t1\t1\t0"])
    (tmp_path / "a.jpg").touch()
    (example,), _ = read(tmp_path)
    assert example.references == ("Two dogs run",)


def test_two_token_files_are_an_error_that_names_both(tmp_path, read):
    for name in ("one.token.txt", "two.token.txt"):
        write_lines(tmp_path / name, ["a.jpg#0\ta dog"])
    with pytest.raises(DataError, match=r"one\.token\.txt, two\.token\.txt.*give the path of one"):
        read(tmp_path)


@pytest.mark.parametrize(
    "lines",
    [
        ["image_name,comment_number,comment", "a.jpg,0,a dog , running", "a.jpg,1,a cat"],
        ["image_name, comment_number, comment", 'a.jpg,0,"a dog , running"', "a.jpg,1,a cat"],
        ["image_name| comment_number| comment", "a.jpg| 0| a dog , running", "a.jpg| 1| a cat"],
    ],
)
def test_captions_txt_of_flickr30k(lines, tmp_path, read):
    write_lines(tmp_path / "captions.txt", lines)
    (tmp_path / "a.jpg").touch()
    (example,), report = read(tmp_path)
    assert example.references == ("a dog , running", "a cat")
    assert not report
