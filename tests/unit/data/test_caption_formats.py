"""The readers of every on-disk format, their reports, and the treatment of caption text."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.data import (
    READERS,
    Example,
    Report,
    can_flip,
    detect_format,
    flip_caption,
    mentions_side,
    normalize_caption,
    read_dataset,
)
from captioner.errors import DataError

FLICKR8K = Path(__file__).parents[4] / "shared" / "flickr8k"


def write(path: Path, text: str | bytes | dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, dict):
        text = json.dumps(text)
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, b"only its presence is looked at")


def content(rows: list[Example]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {row.image_id: (row.split, row.references) for row in rows}


# --- one tiny data set per format, all with the same content --------------------------------------

# id -> split, captions; the id is the image's file name unless the format has another
CONTENT = {
    "a.jpg": ("train", ("A dog , running .", 'He says "hi" .')),
    "b.jpg": ("train", ("A cat on the left .",)),
    "c.jpg": ("val", ("Ein Bär \u2028 unter Bäumen 🐻",)),
}


def make_flickr8k(root: Path) -> None:
    lines = [f"{i}#{n}\t{text}\n" for i, (_, texts) in CONTENT.items() for n, text in texts_of(i)]
    write(root / "Flickr8k_text" / "Flickr8k.token.txt", "".join(lines))
    write(root / "Flickr8k_text" / "Flickr_8k.trainImages.txt", "a.jpg\nb.jpg\n")
    write(root / "Flickr8k_text" / "Flickr_8k.devImages.txt", "c.jpg")
    pictures(root / "Flicker8k_Dataset", *CONTENT)


def texts_of(image: str):
    return enumerate(CONTENT[image][1])


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def make_kaggle(root: Path) -> None:
    lines = [f"{i},{quoted(text)}\n" for i in CONTENT for _, text in texts_of(i)]
    write(root / "captions.txt", "image,caption\n" + "".join(lines))
    write(root / "Flickr_8k.trainImages.txt", "a.jpg\nb.jpg\n")
    write(root / "Flickr_8k.devImages.txt", "c.jpg\n")
    pictures(root / "Images" / "Images", *CONTENT)  # some archives unpack nested


def make_karpathy(root: Path) -> None:
    splits = {"a.jpg": "train", "b.jpg": "restval", "c.jpg": "val"}
    images = [
        {"filename": i, "split": splits[i], "sentences": [{"raw": t} for _, t in texts_of(i)]}
        for i in CONTENT
    ]
    write(root / "dataset_flickr8k.json", {"images": images, "dataset": "flickr8k"})
    pictures(root / "images", *CONTENT)


def make_coco(root: Path) -> None:
    for split in ("train", "val"):
        names = [i for i in CONTENT if CONTENT[i][0] == split]
        document = {
            "info": {},
            "images": [{"id": i, "file_name": i} for i in names],
            "annotations": [
                {"id": f"{i}{n}", "image_id": i, "caption": text}
                for i in names
                for n, text in texts_of(i)
            ],
        }
        write(root / "annotations" / f"captions_{split}2014.json", document)
        pictures(root / f"{split}2014", *names)


def make_flickr30k(root: Path) -> None:
    lines = [f"{i}| {n}| {text}\n" for i in CONTENT for n, text in texts_of(i)]
    write(root / "results.csv", "image_name| comment_number| comment\n" + "".join(lines))
    write(root / "train.txt", "a\nb\n")  # the lists of Flickr30k Entities lack the ending
    write(root / "val.txt", "c\n")
    pictures(root / "flickr30k_images" / "flickr30k_images", *CONTENT)


def make_jsonl(root: Path) -> None:
    rows = [
        {"image": f"p/{i}", "captions": t, "split": s, "id": i} for i, (s, t) in CONTENT.items()
    ]
    write(root / "own.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    pictures(root / "p", *CONTENT)


def make_csv(root: Path) -> None:
    lines = [f"{CONTENT[i][0]},{i},{quoted(t)}\r\n" for i in CONTENT for _, t in texts_of(i)]
    write(root / "own.csv", "\ufeffsplit,image,caption\r\n" + "".join(lines))
    pictures(root, *CONTENT)


def make_folder(root: Path) -> None:
    rows = [{"file_name": i, "text": list(t), "split": s} for i, (s, t) in CONTENT.items()]
    write(root / "metadata.jsonl", "\r\n".join(map(json.dumps, rows)))
    pictures(root, *CONTENT)


MAKERS = {
    "flickr8k": make_flickr8k,
    "flickr8k_csv": make_kaggle,
    "karpathy": make_karpathy,
    "coco": make_coco,
    "flickr30k": make_flickr30k,
    "jsonl": make_jsonl,
    "csv": make_csv,
    "folder": make_folder,
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_reads_the_same_content(name, tmp_path, read):
    MAKERS[name](tmp_path)
    assert detect_format(tmp_path) == name
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == CONTENT
    assert all(Path(row.image).is_file() for row in rows)
    assert not report, report.summary()


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_by_name_by_split_and_without_images(name, tmp_path, read):
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
def test_images_elsewhere_and_the_annotation_file_itself(name, tmp_path, read):
    MAKERS[name](tmp_path / "data")
    elsewhere = tmp_path / "elsewhere"
    for picture in (tmp_path / "data").rglob("*.jpg"):
        tail = f"p/{picture.name}" if name == "jsonl" else picture.name
        write(elsewhere / tail, picture.read_bytes())
        picture.unlink()
    (file,) = (f for f in READERS[name].find(tmp_path / "data") if "val2014" not in f.name)
    assert detect_format(file) == name
    rows, report = read(file, images=elsewhere)
    assert {row.image_id for row in rows} == {"a.jpg", "b.jpg"}
    assert all(Path(row.image).is_relative_to(elsewhere) for row in rows)
    assert not report


# --- what each format has of its own --------------------------------------------------------------


def test_without_split_lists_everything_is_train(tmp_path, read):
    for name in ("flickr8k", "flickr8k_csv", "flickr30k"):
        MAKERS[name](tmp_path / name)
        for path in (tmp_path / name).rglob("*.txt"):
            if path.name not in ("captions.txt", "Flickr8k.token.txt"):
                path.unlink()
        rows, _ = read(tmp_path / name)
        assert content(rows) == {k: ("train", texts) for k, (_, texts) in CONTENT.items()}


def test_karpathy_coco_takes_ids_and_folders(tmp_path, read):
    image = {"filename": "COCO_1.jpg", "filepath": "val2014", "split": "restval", "cocoid": 17}
    second = {**image, "filename": "COCO_2.jpg", "cocoid": 18, "split": "test"}
    images = [{**row, "sentences": [{"tokens": ["a", "dog"]}]} for row in (image, second)]
    write(tmp_path / "dataset_coco.json", {"images": images})
    pictures(tmp_path / "val2014", "COCO_1.jpg", "COCO_2.jpg")
    rows, report = read(tmp_path)
    assert content(rows) == {"17": ("train", ("a dog",))}
    assert rows[0].image == str(tmp_path / "val2014" / "COCO_1.jpg")
    assert not report


def test_of_two_coco_years_the_later_is_read_and_the_other_reported(tmp_path, read):
    make_coco(tmp_path)
    for split in ("train", "val"):
        old = tmp_path / "annotations" / f"captions_{split}2014.json"
        write(old.with_name(f"captions_{split}2017.json"), old.read_bytes())
        (tmp_path / f"{split}2014").rename(tmp_path / f"{split}2017")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == CONTENT
    assert all("2017" in row.image for row in rows)
    assert "captions_train2014.json" in report.summary()


def test_folder_with_split_folders_keeps_ids_apart(tmp_path, read):
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


def test_own_files_named_by_split(tmp_path, read):
    for split in ("train", "val"):
        write(tmp_path / f"{split}.csv", f"image;caption\n{split}.jpg;a {split}\n")
        pictures(tmp_path, f"{split}.jpg")
    rows, _ = read(tmp_path, splits=("val",))
    assert content(rows) == {"val.jpg": ("val", ("a val",))}


def test_csv_joins_rows_of_an_image_and_keeps_line_breaks(tmp_path, read):
    text = 'image,caption\na.jpg,"one, two"\nb.jpg,other\na.jpg,"three\nfour ""five"""\n'
    write(tmp_path / "x.csv", text)
    pictures(tmp_path, "a.jpg", "b.jpg")
    rows, report = read(tmp_path / "x.csv")
    assert rows[0].references == ("one, two", 'three\nfour "five"')
    assert [row.image_id for row in rows] == ["a.jpg", "b.jpg"]
    assert not report


# --- problems are reported, with where they are ---------------------------------------------------


def names_of(report: Report) -> dict[str, list[str]]:
    return {kind: problem.names for kind, problem in report}


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
    assert names_of(report) == {
        "row that cannot be parsed": ["Flickr8k.token.txt:5"],
        "duplicate": ["a.jpg#0 (Flickr8k.token.txt:7)", "c.jpg (again in val)"],
        "empty caption": ["a.jpg"],
        "text that is not UTF-8": ["b.jpg: caf\\udce9"],
        "image without captions": ["ghost.jpg"],
        "missing image": [str(tmp_path / "Flicker8k_Dataset" / "c.jpg")],
        "captioned image in no split list": ["d.jpg"],
    }


def test_flickr30k_known_malformed_row(tmp_path, read):
    make_flickr30k(tmp_path)
    results = tmp_path / "results.csv"
    write(results, results.read_bytes() + b"a.jpg| 4   A dog runs across the grass .\n")
    rows, report = read(tmp_path, splits=None)
    assert content(rows) == CONTENT
    assert names_of(report) == {"row that cannot be parsed": ["results.csv:6"]}


def test_csv_with_broken_quoting_goes_on_and_names_the_lines(tmp_path, read):
    text = 'image,caption\na.jpg,"x" y\nb.jpg,good\nc.jpg\nb.jpg,better\nd.jpg,"open\ne.jpg,lost\n'
    write(tmp_path / "x.csv", text)
    pictures(tmp_path, "b.jpg")
    rows, report = read(tmp_path)
    assert content(rows) == {"b.jpg": ("train", ("good", "better"))}
    assert names_of(report) == {
        "row that cannot be parsed": ["x.csv:2", "x.csv:4"],
        "unclosed quotation mark": ["x.csv:6-7, 2 rows"],
    }


def test_a_folder_named_like_an_image_is_not_an_image(tmp_path, read):
    make_csv(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "a.jpg").mkdir()
    rows, report = read(tmp_path)
    assert set(content(rows)) == {"b.jpg"}
    assert names_of(report) == {"missing image": [str(tmp_path / "a.jpg")]}


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
    bad = names_of(report)
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


def test_errors_say_what_and_where(tmp_path, read):
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
    # A torn file may no longer look like its format, so its reader is called directly.
    from captioner.data.formats.io import Source

    source = Source(root=path.parent, files=(path,), images=None, report=Report())
    return list(READERS["karpathy"].read(source))


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_give_rows_or_one_error(name, tmp_path, read):
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


def test_two_karpathy_files_are_not_chosen_between(tmp_path, read):
    make_karpathy(tmp_path)
    write(tmp_path / "dataset_other.json", (tmp_path / "dataset_flickr8k.json").read_bytes())
    with pytest.raises(DataError, match=r"dataset_flickr8k\.json, dataset_other\.json"):
        read(tmp_path)


# --- the cache, the imports, stdout ---------------------------------------------------------------


def test_cache_is_used_until_a_row_or_an_image_changes(tmp_path, read):
    make_jsonl(tmp_path)
    cache = tmp_path / "cache"

    def table_file():
        table, report = read_dataset(tmp_path, cache_dir=cache)
        return table.cache_files[0]["filename"], len(table), report

    first, count, _ = table_file()
    written = os.stat(first).st_mtime_ns
    again, _, _ = table_file()
    assert (again, os.stat(again).st_mtime_ns, count) == (first, written, 2)
    (tmp_path / "p" / "a.jpg").unlink()
    without, count, report = table_file()
    assert (without != first, count, bool(report)) == (True, 1, True)
    _, _, report = table_file()
    assert report.problems["missing image"].count == 1, "a cached table must not hide its report"
    own = tmp_path / "own.jsonl"
    write(own, own.read_text(encoding="utf-8").replace("cat", "bat"))
    assert table_file()[0] not in (first, without)


def test_a_cache_that_cannot_be_written_is_one_error(tmp_path):
    make_csv(tmp_path)
    with pytest.raises(DataError, match="HF_HOME"):
        read_dataset(tmp_path, cache_dir=tmp_path / "own.csv" / "cache")


def test_import_is_light_and_stdout_stays_clean(tmp_path):
    make_csv(tmp_path)
    code = (
        "import sys, captioner.data as data\n"
        "assert not {'torch', 'datasets'} & set(sys.modules)\n"
        "data.read_dataset(sys.argv[1], cache_dir=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "cache")]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# --- Report ---------------------------------------------------------------------------------------


def test_report_counts_all_and_names_the_first():
    report = Report()
    assert not report
    assert report.summary() == ""
    for number in range(7):
        report.add("missing image", f"{number}\n.jpg")
    report.add("odd", Path("x"))
    assert report
    assert report.problems["missing image"].count == 7
    assert report.summary().splitlines() == [
        "missing image: 7 (0 .jpg, 1 .jpg, 2 .jpg, 3 .jpg, 4 .jpg, ...)",
        "odd: 1 (x)",
    ]


def test_reports_merge_as_if_they_were_one():
    rng = random.Random(0)
    whole, parts = Report(), [Report() for _ in range(3)]
    for part in parts:
        for number in range(rng.randrange(8, 20)):
            for report in (whole, part):
                report.add(f"kind {number % 2}", number)
    merged = Report()
    for part in parts:
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.summary() == whole.summary() != ""
    merged.add("kind 0", "later")
    assert all("later" not in part.summary() for part in parts)


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "tidy"),
    [
        ("A black dog , running .", "a black dog, running"),
        ("  Two\tdogs\r\n play . . ", "two dogs play"),
        ("The man 's hat does n't fit !", "the man's hat doesn't fit!"),
        ('"A quoted caption ."', "a quoted caption"),
        ('A sign that says " no diving " .', 'a sign that says "no diving"'),
        ("Man ( left ) waves", "man (left) waves"),
        ("a 2.5 m wall", "a 2.5 m wall"),
        ('"Stop" says the "man"', '"stop" says the "man"'),
        (" . ", ""),
        ("Straße É 🐻 .", "straße é 🐻"),
    ],
)
def test_normalize_caption(raw, tidy):
    assert normalize_caption(raw) == tidy
    assert normalize_caption(raw, lowercase=False).lower() == tidy


def random_captions(count: int) -> list[str]:
    rng = random.Random(1)
    pieces = [*"\"'.,;:!?()[]#&-", "left", "Right", "LEFT", "rightmost", "left-hand", "bright", "a"]
    pieces += ["'s", "n't", "to", "the", "side", "of", "ﬁ", "İ", "\u2028", "Σ", "leftover", "rIGHT"]
    return [
        "".join(rng.choice(pieces) + rng.choice(["", " "]) for _ in range(9)) for _ in range(count)
    ]


def test_normalizing_twice_changes_nothing():
    for text in random_captions(3000):
        for lowercase in (True, False):
            once = normalize_caption(text, lowercase=lowercase)
            assert normalize_caption(once, lowercase=lowercase) == once, text


def test_flipping_is_an_involution_and_only_moves_sides():
    moved = 0
    for text in random_captions(3000):
        flipped = flip_caption(text)
        moved += flipped != text
        assert flip_caption(flipped) == text
        assert can_flip(flipped) == can_flip(text)
        assert mentions_side(flipped) == mentions_side(text)
        assert mentions_side(text) or flipped == text
        if can_flip(text) and mentions_side(text):
            assert flipped != text
    assert moved > 1000


@pytest.mark.parametrize(
    ("text", "flipped"),
    [
        ("A dog on the Left .", "A dog on the Right ."),
        ("the leftmost, RIGHT-hand door at top-left", "the rightmost, LEFT-hand door at top-right"),
        (
            "an injured right arm, left of the bright light",
            "an injured left arm, right of the bright light",
        ),
        ("an upright man eats leftovers", "an upright man eats leftovers"),
    ],
)
def test_flip_caption(text, flipped):
    assert flip_caption(text) == flipped


@pytest.mark.parametrize(
    ("text", "can"),
    [
        ("A dog .", True),
        ("bright leftovers", True),
        ("a man to the left of a right-handed pitcher", True),
        ("raises her right paw", True),
        ("basketball in right hand", True),
        ("at top left of frame", True),
        ("right in front of the camera", False),
        ("it is all right", False),
        ("water left behind", False),
        ("the dog left the house", False),
        ("a car going the right way", False),
        ("a left-over sandwich", False),
        ("on the rIGHT", False),
    ],
)
def test_can_flip(text, can):
    assert can_flip(text) is can


# --- real data ------------------------------------------------------------------------------------


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
