"""The cleaned manifest: rows left out, repaired and weighted, read back by the readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from quality_data import caption, photo, write_set

from captioner.data import read_dataset
from captioner.data.example_rows import read_rows
from captioner.quality.audit import check_dataset
from captioner.quality.cleaning import write_manifest
from captioner.quality.findings_page import write_report

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")

CUT = "A red dog is standing near the"


@pytest.fixture
def source(tmp_path):
    """A data set with faults of most kinds, and with weights."""
    changes = {
        1: {"captions": ["A cafÃ© near the <b>tree</b> on a sunny day .", caption(3)]},
        2: {"captions": [caption(4), CUT]},
        3: {"captions": [CUT], "weight": 0.3},
        4: {"captions": ["", caption(8), caption(8).upper()]},
        9: {"captions": [caption(18), CUT]},  # of the validation split
        10: {"captions": ["lost caf\ufffd at the sea on a day", caption(20)]},
    }
    extra = [
        {"image": "images/leak.jpg", "caption": caption(70), "split": "train"},
        {"image": "images/5.jpg", "question": "what color?", "answer": "red", "split": "train"},
        {"image": "images/5.jpg", "question": "what color?", "answer": "blue", "split": "train"},
        {"image": "images/6.jpg", "question": "is it day?", "answers": ["yes"] * 3 + ["no"]},
        {"image": "images/7.jpg", "tags": ["dog", "tree"]},
    ]
    path = write_set(tmp_path, changes=changes, extra=extra)
    photo(9).save(tmp_path / "images" / "leak.jpg", quality=70)
    (tmp_path / "images" / "0.jpg").write_bytes(b"")
    return path


def read(path: Path) -> dict[tuple[str, str], tuple[tuple[str, ...], tuple[float, ...]]]:
    """Return references or tags, and weights, by id and question or the kind of row."""
    rows, report = read_rows(path, splits=None)
    assert not report
    return {
        (row.image_id, row.question_id or row.kind): (row.tags or row.references, row.weights)
        for row in rows
    }


def test_faults_are_dropped_repaired_and_weighted(source, tmp_path):
    audit = check_dataset(source, processes=1)
    clean = tmp_path / "clean.jsonl"
    cleaning = write_manifest(audit, clean, weight=0.25)
    rows = read(clean)
    texts = {name: row for (name, kind), row in rows.items() if kind == "captions"}
    assert "images/0.jpg" not in texts
    assert "images/leak.jpg" not in texts
    assert texts["images/1.jpg"] == (("A café near the tree on a sunny day .", caption(3)), ())
    assert texts["images/2.jpg"] == ((caption(4), CUT), (1.0, 0.25))
    assert texts["images/3.jpg"] == ((CUT,), (0.075,))
    assert texts["images/4.jpg"] == ((caption(8),), ())
    assert texts["images/9.jpg"] == ((caption(18), CUT), ())
    assert texts["images/10.jpg"] == ((caption(20),), ())
    assert rows["images/7.jpg", "tags"] == (("dog", "tree"), ())
    answers = [row for (_, kind), row in rows.items() if kind not in ("captions", "tags")]
    assert answers == [
        (("red",), (0.25,)),
        (("blue",), (0.25,)),
        (("yes", "yes", "yes", "no"), ()),
    ]
    assert (cleaning.weighted, cleaning.dropped) == (4, 5)
    assert cleaning.rows == len(clean.open().readlines()) == len(audit.data.examples) - 2 + 1


def test_weights_of_the_source_are_kept(tmp_path):
    row = {"image": "images/0.jpg", "question": "what color?", "question_id": "q", "split": "train"}
    extra = [
        row | {"answers": ["red", "blue"], "weight": 0.2},
        row | {"answers": ["red"], "weight": 3},
        {"image": "images/1.jpg", "tags": ["dog"], "weight": 0.7, "split": "train"},
        {"image": "images/2.jpg", "caption": CUT, "weight": 0.01, "split": "train"},
        # Not below the smallest weight that readers take.
        {"image": "images/3.jpg", "caption": CUT, "weight": 1e-6, "split": "train"},
        {"image": "images/2.jpg", "caption": caption(91), "weight": 2, "split": "train"},
        {"image": "images/9.jpg", "caption": CUT, "weight": 0.1, "split": "val"},
    ]
    path, clean = write_set(tmp_path, images=20, extra=extra), tmp_path / "clean.jsonl"
    before = {(row.image, row.kind): row for row in read_rows(path, splits=None)[0]}
    write_manifest(check_dataset(path, processes=1), clean, weight=0.5)
    table, report = read_dataset(clean, splits=None, cache_dir=tmp_path / "cache")
    assert not report
    after = {(row.image, row.kind): row for row in read_rows(clean, splits=None)[0]}
    assert len(table) == len(after)
    changed = str(tmp_path / "images/2.jpg"), "captions"
    assert after.pop(changed).weights == (1, 1, 0.005, 2)
    assert before.pop(changed).weights == (1, 1, 0.01, 2)
    assert {key: (row.references, row.weights, row.tags) for key, row in after.items()} == {
        key: (row.references, row.weights, row.tags) for key, row in before.items()
    }


def test_paths_are_relative_to_the_manifest_or_absolute(source, tmp_path):
    audit = check_dataset(source, processes=1)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    paths = (tmp_path / "clean.jsonl", folder / "clean.jsonl")
    for path in paths:
        write_manifest(audit, path, weight=0.5)
    assert read(paths[0]) == read(paths[1])
    names = [json.loads(next(path.open()))["image"] for path in paths]
    assert names == ["images/5.jpg", str(tmp_path / "images/5.jpg")]


def test_recordings_keep_their_weights(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    write_set(tmp_path, images=1)
    rows = [
        {"audio": "a.wav", "caption": "rain falls", "weight": 0.5},
        {"audio": "a.wav", "caption": "rain falls on a roof"},
        {"image": "images/0.jpg", "audio": "b.wav", "caption": "a dog barks"},
    ]
    path, clean = tmp_path / "sounds.jsonl", tmp_path / "clean.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    write_manifest(check_dataset(path, processes=1), clean, weight=0.5)
    before, after = (read_rows(file, splits=None)[0] for file in (path, clean))
    assert [(row.image, row.audio, row.references, row.weights) for row in after] == [
        (row.image, row.audio, row.references, row.weights) for row in before
    ]


def test_a_clean_manifest_has_few_findings(source, tmp_path):
    clean = tmp_path / "clean.jsonl"
    write_manifest(check_dataset(source, processes=1), clean, weight=0.5)
    kinds = {finding.kind for finding in check_dataset(clean, processes=1).findings}
    assert kinds == {"truncated-caption", "contradictory-answers"}


def test_the_record_keeps_the_origins_of_the_source(source, tmp_path):
    record = {"origins": [{"captioner": "0.2.0", "checkpoint": "x"}]}
    source.with_name("data.jsonl.meta.json").write_text(json.dumps(record))
    clean = tmp_path / "clean.jsonl"
    write_manifest(check_dataset(source, processes=1), clean, weight=0.5)
    written = json.loads((tmp_path / "clean.jsonl.meta.json").read_text())
    assert written["origins"] == record["origins"]
    assert written["cleaning"]["source"] == "data.jsonl"
    assert written["cleaning"]["findings"]["split-leak"] == 1
    assert str(tmp_path) not in json.dumps(written)


def test_rows_of_one_image_in_two_splits_are_a_leak(tmp_path):
    extra = [
        {"image": "images/0.jpg", "caption": caption(90), "split": "val"},
        {"image": "images/1.jpg", "tags": ["dog"], "split": "train"},
        {"image": "images/1.jpg", "tags": ["tree"], "split": "test"},
        {"image": "images/2.jpg", "caption": caption(91), "split": "test"},
        {"image": "images/2.jpg", "caption": caption(92), "split": "val"},
    ]
    path, clean = write_set(tmp_path, images=5, extra=extra), tmp_path / "clean.jsonl"
    audit = check_dataset(path, processes=1)
    assert {finding.kind for finding in audit.findings} == {"split-leak"}
    leaks = [(Path(finding.image).name, finding.split) for finding in audit.findings]
    assert sorted(leaks) == [("0.jpg", "train"), ("1.jpg", "train"), ("2.jpg", "train"),
                             ("2.jpg", "val")]  # fmt: skip
    write_manifest(audit, clean, weight=0.5)
    rows = [(row.image_id, row.split, row.tags or row.references)
            for row in read_rows(clean, splits=None)[0]]  # fmt: skip
    assert rows[0] == ("images/1.jpg", "test", ("tree",))
    assert {(name, split) for name, split, _ in rows[1:]} == {
        ("images/0.jpg", "val"),
        ("images/2.jpg", "test"),
        ("images/3.jpg", "train"),
        ("images/4.jpg", "train"),
    }
    assert not read(clean).keys() ^ {(row[0], "tags" if row[2] == ("tree",) else "captions")
                                     for row in rows}  # fmt: skip


def test_other_images_with_the_id_of_another_split_are_duplicates(tmp_path):
    changes = {0: {"id": "7"}, 9: {"id": "7"}}
    path = write_set(tmp_path, images=10, changes=changes)
    audit = check_dataset(path, processes=1)
    assert [finding.kind for finding in audit.findings] == ["duplicate-row"]


def test_all_that_is_left_out_is_counted(tmp_path):
    changes = {
        0: {"captions": ["", "...", caption(0)]},  # two texts
        1: {"captions": [""]},
        2: {"image": "images/none.jpg"},
        3: {"captions": [caption(6), caption(6)]},  # one text
        4: {"image": ""},
    }
    path, clean = write_set(tmp_path, images=10, changes=changes), tmp_path / "clean.jsonl"
    with path.open("a") as file:
        file.write('{"image": \n{"image": "images/2.jpg", "caption": "\\ud83d"}\n')
    cleaning = write_manifest(check_dataset(path, processes=1), clean, weight=0.5)
    assert (cleaning.rows, cleaning.dropped) == (7, 8)


def test_control_characters_and_long_captions(tmp_path):
    long, many = "x" * 2**20, "dog " * 2000 + "."
    changes = {
        0: {"captions": ["a \x07dog\x00 at \u202ethe sea"]},
        1: {"captions": [long]},
        2: {"captions": [many]},
    }
    path, clean = write_set(tmp_path, images=5, changes=changes), tmp_path / "clean.jsonl"
    audit = check_dataset(path, processes=1)
    kinds = [(finding.kind, finding.place) for finding in audit.findings]
    assert ("markup", "data.jsonl:1") in kinds
    lengths = [place for kind, place in kinds if kind == "unusual-length"]
    assert lengths == ["data.jsonl:2", "data.jsonl:3"]
    page = write_report(audit, tmp_path / "report")
    assert page.stat().st_size < 100_000
    assert page.with_name("findings.jsonl").stat().st_size < 10_000
    assert not {"\x00", "\x07", "\u202e"} & set(page.read_text())
    write_manifest(audit, clean, weight=0.5)
    texts = {name: row[0] for (name, _), row in read(clean).items()}
    assert texts["images/0.jpg"] == ("a dog at the sea",)
    assert texts["images/1.jpg"] == (long,)
