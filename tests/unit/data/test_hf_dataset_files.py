"""Data sets of Hugging Face `datasets`: folders and names of the Hub."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import datasets
import pytest
from data_files import list_problems
from PIL import Image

from captioner.config import Config, DataConfig
from captioner.data import detect_format
from captioner.data.formats.hf_dataset_names import DatasetName, parse_dataset_name
from captioner.data.splits import read_splits
from captioner.errors import DataError


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(out, "png")
    return out.getvalue()


def cell(shade: int) -> dict:
    return {"bytes": png(shade), "path": None}


def table(image=(1, 2), **columns) -> datasets.Dataset:
    """Return a table with a column of images as bytes."""
    data = datasets.Dataset.from_dict({"image": [cell(shade) for shade in image]} | columns)
    return data.cast_column("image", datasets.Image())


CAPTIONS = {
    "sentences": [
        [{"raw": "a dog", "n": 1}, {"raw": "two dogs", "n": 2}],
        [{"raw": "a cat", "n": 1}],
    ]
}


def test_splits_and_bytes_of_a_saved_dictionary(tmp_path, read):
    parts = {
        "train": table(**CAPTIONS),
        "validation": table((3,), sentences=[[{"raw": "x", "n": 1}]]),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert detect_format(tmp_path / "saved") == "hf_dataset"
    rows, report = read(tmp_path / "saved", splits=None)
    assert not report, report.summary()
    assert [(row.image_id, row.split, row.references) for row in rows] == [
        ("train/0", "train", ("a dog", "two dogs")),
        ("train/1", "train", ("a cat",)),
        ("validation/0", "val", ("x",)),
    ]
    assert [Path(row.image).read_bytes() for row in rows] == [png(1), png(2), png(3)]
    assert all(row.image.endswith(".png") for row in rows)
    times = [Path(row.image).stat().st_mtime_ns for row in rows]
    again, _ = read(tmp_path / "saved", splits=None)
    assert again == rows
    assert [Path(row.image).stat().st_mtime_ns for row in again] == times
    shutil.rmtree(Path(rows[0].image).parent)  # a lost cache is written again
    again, _ = read(tmp_path / "saved", splits=None)
    assert again == rows
    assert Path(rows[0].image).read_bytes() == png(1)


def test_questions_of_an_image_share_it(tmp_path, read):
    table(
        (5, 5, 6),
        id=[1, 2, 3],
        question=["what?", "where?", "who?"],
        answers=[[{"answer": "a dog"}, {"answer": "dog"}], [{"answer": "here"}], []],
        weight=[1.0, 0.5, 1.0],
        answer_type=["other", "other", None],
    ).save_to_disk(tmp_path)
    rows, report = read(tmp_path)
    assert [(row.question_id, row.image_id, row.references, row.weights) for row in rows] == [
        ("1", "train/0", ("a dog", "dog"), ()),
        ("2", "train/0", ("here",), (0.5,)),
    ]
    assert rows[0].image == rows[1].image
    assert list_problems(report) == {"question without answers": ["3"]}


def test_names_of_classes_and_a_split_column(tmp_path, read):
    data = table((7, 8), label=[0, 1], split=["restval", "val"])
    data = data.cast_column("label", datasets.ClassLabel(names=["cat", "dog"]))
    data.save_to_disk(tmp_path)
    rows, _ = read(tmp_path, splits=None, phrases=("a {label}",))
    assert {row.split: row.references for row in rows} == {"train": ("a cat",), "val": ("a dog",)}


def test_parquet_with_paths_of_images(tmp_path, read):
    for name in ("a.png", "b.png"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(png(1))
    columns = {"image": ["a.png", "b.png"], "Caption": ["a dog", "a cat"], "size": [1, 2]}
    (tmp_path / "set" / "data").mkdir(parents=True)
    path = tmp_path / "set" / "data" / "test-00000-of-00001.parquet"
    datasets.Dataset.from_dict(columns).to_parquet(path)
    rows, report = read(
        tmp_path / "set", format="hf_dataset", splits=("test",), images=tmp_path / "pictures"
    )
    assert [row.references for row in rows] == [("a dog",), ("a cat",)]
    assert rows[0].image == str(tmp_path / "pictures" / "a.png")
    assert not report


def test_tables_are_read_by_split_and_a_readme_is_not(tmp_path, read):
    folder = tmp_path / "a [b] c"
    for number, split in enumerate(("train", "validation")):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        table((number,), caption=[f"a {split}"]).to_parquet(path)
    url = "http://127.0.0.1:9/x.parquet"
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: a\n  data_files: {url}\n---\n"
    )
    assert detect_format(folder) == "parquet"
    rows, report = read(folder, splits=None, format="hf_dataset")
    assert {(row.split, row.references) for row in rows} == {
        ("train", ("a train",)),
        ("val", ("a validation",)),
    }
    assert not report


def test_broken_rows_are_reported(tmp_path, read):
    texts = ["a dog", None, "", "a bird", "a fish"]
    data = table((1, 2, 3, 4, 4), caption=texts, weight=[1.0, 1, 1, -1, 1])
    data = data.add_column("note", ["x"] * 5)
    data.save_to_disk(tmp_path)
    rows, report = read(tmp_path)
    assert [row.references for row in rows] == [("a dog",), ("a fish",)]
    problems = list_problems(report)
    assert problems["row that cannot be parsed"] == ["train[1]"]
    assert problems["empty caption"] == ["train/2"]
    assert problems["weight that is neither 0 nor from 1e-6 to 1e6"] == ["train[3]: -1.0"]


def test_missing_and_undecodable_images(tmp_path, read):
    cells = [None, {"bytes": b"text", "path": "a.jpg"}]
    data = datasets.Dataset.from_dict({"image": cells, "text": ["a dog", "a cat"]})
    data.cast_column("image", datasets.Image(decode=False)).save_to_disk(tmp_path)
    (row,), report = read(tmp_path)
    assert row.references == ("a cat",)
    assert Path(row.image).read_bytes() == b"text"
    assert list_problems(report) == {"row that cannot be parsed": ["train[0]"]}


def test_columns_are_named_if_one_is_missing(tmp_path, read):
    table(note=["x", "y"]).save_to_disk(tmp_path / "no_text")
    with pytest.raises(DataError, match="no column of texts; it has the columns image, note;"):
        read(tmp_path / "no_text")
    datasets.Dataset.from_dict({"caption": ["a"], "n": [1]}).save_to_disk(tmp_path / "no_image")
    with pytest.raises(DataError, match="no column of images; it has the columns caption, n;"):
        read(tmp_path / "no_image")


def test_damaged_folder_is_one_line(tmp_path, read):
    table(**CAPTIONS).save_to_disk(tmp_path)
    (file,) = tmp_path.glob("*.arrow")
    file.write_bytes(b"no table")
    with pytest.raises(DataError, match="cannot load it") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


NAME = "hf-dataset:user/pets.v1@v2:small"


@pytest.mark.parametrize("text", [NAME, "hf-dataset:user/name", "hf-dataset:user/name:x-y"])
def test_names_are_parsed(text):
    assert str(parse_dataset_name(text)) == text
    assert parse_dataset_name(NAME) == DatasetName("user/pets.v1", "v2", "small")


@pytest.mark.parametrize(
    "rest", ["", "name", "a/b/c", "u/n@", "u/n:", "u/../n", "u/n@a..b", "u/n:a b"]
)
def test_invalid_names_are_one_line(rest, read):
    with pytest.raises(DataError, match="hf-dataset:") as caught:
        read(f"hf-dataset:{rest}")
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(monkeypatch):
    """Return the calls of `load_dataset`, which returns two captioned images."""
    calls = []

    def load(path, name=None, **options):
        calls.append((path, name, options))
        return datasets.DatasetDict(train=table(**CAPTIONS), validation=table((3, 4), **CAPTIONS))

    monkeypatch.setattr(datasets, "load_dataset", load)
    return calls


def test_name_of_the_hub(read, hub):
    assert detect_format(NAME) == "hf_dataset"
    rows, _ = read(NAME, splits=("val",))
    assert [row.image_id for row in rows] == ["validation/0", "validation/1"]
    assert set(map(str, hub)) == {str(("user/pets.v1", "small", {"revision": "v2"}))}


def test_name_of_the_hub_as_the_data_of_a_run(hub):
    tasks, train, val, report = read_splits(Config(data=DataConfig(root=NAME)))
    assert [task.name for task in tasks] == ["pets.v1"]
    assert (len(train), len(val)) == (2, 2)
    assert not report


def test_no_other_format_reads_a_name(read):
    with pytest.raises(DataError, match="not in the format 'coco'"):
        read(NAME, format="coco")


def test_errors_of_the_hub_are_one_line(read, monkeypatch):
    with pytest.raises(DataError, match=r"user/pets.*HF_HUB_OFFLINE forbids") as caught:
        read(NAME)  # tests run offline
    assert "\n" not in str(caught.value)

    def fail(*_, **__):
        raise ValueError("BuilderConfig 'small' not found.\nAvailable: ['default']")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"small: cannot be loaded: .*Available: \['default'\]"):
        read(NAME)


def test_an_unknown_name_is_one_line(read, monkeypatch):
    def fail(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match="doesn't exist on the Hub; check the name"):
        read(NAME)
