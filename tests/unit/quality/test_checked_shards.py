"""Shards and tables of `datasets`: checked in place, and cleaned manifests that name members."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runs
from quality_data import caption, encode_photo
from shard_files import write_parquet, write_tar

from captioner.data.example_rows import read_rows
from captioner.errors import DataError
from captioner.quality.audit import Audit, check_dataset
from captioner.quality.cleaning import write_manifest
from captioner.quality.findings_page import write_report
from captioner.sources import is_member, normalize, short_name

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")

CUT = "A red dog is standing near the"


def captions_of(number: int) -> list[str]:
    return [caption(2 * number), CUT if number == 5 else caption(2 * number + 1)]


def write_tars(folder: Path) -> Path:
    """Write two shards of ten images: 3 is damaged, 5 has a truncated caption, 14 is a copy."""
    for split, numbers in (("train", range(10)), ("val", range(10, 20))):
        members: list[tuple[str, bytes | str]] = []
        for i in numbers:
            data = b"damaged" if i == 3 else encode_photo(4 if i == 14 else i)
            members += [(f"{i}.jpg", data), (f"{i}.txt", "\n".join(captions_of(i)))]
        write_tar(folder / f"{split}-0.tar", members)
    return folder


def check(root: object) -> Audit:
    return check_dataset(str(root), processes=1)


FAULTS = [
    ("unreadable-image", "train-0.tar::3.jpg"),
    ("split-leak", "train-0.tar::4.jpg"),
    ("truncated-caption", "train-0.tar::5.jpg"),
]


@pytest.mark.parametrize("name", ["", "{train,val}-0.tar", "*.tar", "file"])
def test_faults_of_members_are_reported_by_readable_names(tmp_path, name):
    folder = write_tars(tmp_path / "shards")
    audit = check(f"file://{folder}/*.tar" if name == "file" else folder / name)
    assert [(finding.kind, finding.place) for finding in audit.findings] == FAULTS
    page = write_report(audit, tmp_path / "report").read_text()
    rows = list(map(json.loads, (tmp_path / "report" / "findings.jsonl").open()))
    assert rows[1]["image"] == f"{folder}/train-0.tar::4.jpg"
    assert rows[1]["other"] == f"{folder}/val-0.tar::14.jpg"
    assert rows[1]["explanation"] == "has the bytes of val-0.tar::14.jpg"
    assert "train-0.tar::4.jpg" in page


@pytest.mark.parametrize("place", ["shards", "."])
def test_the_manifest_names_members(tmp_path, place):
    clean = tmp_path / place / "clean.jsonl"
    audit = check(write_tars(tmp_path / "shards"))
    write_manifest(audit, clean, weight=0.5)
    expected = [row for row in audit.data.examples if row.image_id[-2:] not in ("/3", "/4")]
    rows, report = read_rows(clean, splits=None)
    assert not report
    assert [(row.image, row.split, row.references) for row in rows] == [
        (row.image, row.split, row.references) for row in expected
    ]
    assert {row.image_id: row.weights for row in rows if row.weights} == {"train-0/5": (1.0, 0.5)}
    assert all(is_member(row.image) for row in rows)
    (tmp_path / "shards" / "train-0.tar").unlink()
    rows, report = read_rows(clean, splits=None)
    assert {row.split for row in rows} == {"val"}
    assert "missing image" in report.problems


def test_a_model_learns_from_a_manifest_of_members(tmp_path):
    clean = tmp_path / "clean.jsonl"
    write_manifest(check(write_tars(tmp_path / "shards")), clean, weight=0.5)
    words = [f"data.root={clean}", "train.stages=[{epochs: 1, lr: 1e-3}]"]
    assert runs.run(None, tmp_path / "out", *words) == 0
    assert (tmp_path / "out" / "best" / "model.safetensors").is_file()


@pytest.mark.parametrize("format", ["auto", "hf_dataset"])
def test_parquet_files_and_tables_of_datasets(tmp_path, format):
    rows = [
        {"image": {"bytes": encode_photo(i), "path": None}, "captions": captions_of(i)}
        for i in range(8)
    ]
    write_parquet(tmp_path / "data" / "train-0.parquet", rows)
    audit = check_dataset(tmp_path / "data", format=format, processes=1)
    assert [finding.kind for finding in audit.findings] == ["truncated-caption"]
    clean = tmp_path / "clean.jsonl"
    write_manifest(audit, clean, weight=0.5)
    examples, report = read_rows(clean, splits=None)
    assert not report
    assert [(row.image, row.references) for row in examples] == [
        (row.image, row.references) for row in audit.data.examples
    ]


@pytest.mark.parametrize("root", ["hf-dataset:user/name", "hf-dataset:", "memory://none/*.tar"])
def test_a_data_set_that_cannot_be_loaded_is_one_line(root):
    with pytest.raises(DataError) as error:
        check(root)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(root)


@pytest.mark.parametrize(
    ("path", "whole", "short"),
    [
        ("a/../b.jpg", "/x/b.jpg", "b.jpg"),
        ("0.tar::5+6+00000007::../a.jpg", "/x/0.tar::5+6+00000007::../a.jpg", "0.tar::../a.jpg"),
        (*("s3://b/0.tar::5+6+00000007::a.jpg",) * 2, "0.tar::a.jpg"),
        ("https://b/a.jpg", "https://b/a.jpg", "a.jpg"),
    ],
)
def test_names_of_members_are_kept(path, whole, short):
    assert normalize(path, "/x") == whole
    assert short_name(path) == short


def test_a_table_with_rows_in_two_splits_has_leaks(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {
        "image": [{"bytes": encode_photo(i), "path": None} for i in range(6)],
        "caption": [caption(i) for i in range(6)],
    }
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    train = datasets.Dataset.from_dict(rows, features=features)
    splits = datasets.DatasetDict(train=train, validation=train.select([0, 3]))
    splits.save_to_disk(tmp_path / "set")
    audit = check(tmp_path / "set")
    assert [(finding.kind, finding.split) for finding in audit.findings] == [
        ("split-leak", "train")
    ] * 2
    write_manifest(audit, tmp_path / "clean.jsonl", weight=0.5)
    kept = [row.split for row in read_rows(tmp_path / "clean.jsonl", splits=None)[0]]
    assert sorted(kept) == ["train"] * 4 + ["val"] * 2


def test_damaged_shards_and_rows_are_reported(tmp_path):
    folder = write_tars(tmp_path / "shards")
    write_tar(folder / "bad.tar", [(f"{i}.json", "{") for i in range(7)])
    data = (folder / "train-0.tar").read_bytes()
    (folder / "cut.tar").write_bytes(data[: len(data) // 2])
    (folder / "empty.tar").write_bytes(b"")
    (folder / "junk.tar").write_bytes(b"junk" * 1000)
    audit = check(folder)
    rows = [finding.place for finding in audit.findings if finding.kind == "dropped-row"]
    assert rows == [*(f"bad.tar::{i}.json" for i in range(5)), "bad.tar (2 more)"]
    unread = [finding for finding in audit.findings if finding.kind == "unread-data"]
    assert [finding.place.partition(":")[0] for finding in unread] == [
        "cut.tar", "empty.tar", "junk.tar"
    ]  # fmt: skip
    assert "shard" in unread[0].explanation
    assert audit.data.dropped >= 7
