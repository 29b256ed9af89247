"""nocaps, VizWiz-Captions, VizWiz-VQA and TextCaps: fields of their own and broken rows."""

from __future__ import annotations

import pytest
from data_files import list_problems, pictures, write

from captioner.data import READERS, detect_format
from captioner.data.formats.coco import REJECTED_CAPTION
from captioner.errors import DataError


def make_nocaps(root):
    images = [
        {"id": 0, "open_images_id": "x0", "file_name": "x0.jpg", "domain": "near-domain"},
        {"id": 1, "open_images_id": "x1", "coco_url": "https://a.org/val/x1.jpg", "domain": "o"},
        "no object",
        {"id": 2, "domain": 3},
    ]
    annotations = [
        {"id": 0, "image_id": 0, "caption": "a kite"},
        {"id": 1, "image_id": 1, "caption": "a harp"},
        {"id": 2, "image_id": 0, "caption": 7},
    ]
    document = {"info": {}, "images": images, "annotations": annotations}
    path = write(root / "nocaps_val_4500_captions.json", document)
    pictures(root / "val", "x0.jpg", "x1.jpg")
    return path


@pytest.mark.parametrize("name", ["folder", "file"])
def test_nocaps(name, tmp_path, read):
    path = make_nocaps(tmp_path)
    root = tmp_path if name == "folder" else path
    assert detect_format(root) == "nocaps"
    rows, report = read(root, splits=("val",))
    assert {(r.image_id, r.references, r.question_type, r.split) for r in rows} == {
        ("0", ("a kite",), "near-domain", "val"),
        ("1", ("a harp",), "o", "val"),
    }
    assert {kind: problem.count for kind, problem in report} == {"row that cannot be parsed": 3}


def test_vizwiz_captions_without_rejected_ones(tmp_path, read):
    def caption(number, image, text, **flags):
        return {"id": number, "image_id": image, "caption": text} | flags

    blurred = "Quality issues are too severe to recognize visual content."
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "vizwiz_url": ""} for i in range(2)],
        "annotations": [
            caption(0, 0, "a can of soup", is_rejected=False),
            caption(1, 0, "spam", is_rejected=True),
            caption(2, 0, "unclear", is_precanned=True),
            caption(3, 1, blurred),
            [],
        ],
    }
    write(tmp_path / "annotations" / "train.json", document)
    image = {"id": 9, "file_name": "9.jpg", "vizwiz_url": ""}
    write(tmp_path / "annotations" / "test.json", {"images": [image]})
    pictures(tmp_path / "train", "0.jpg", "1.jpg")
    assert detect_format(tmp_path) == "vizwiz_captions"
    (row,), report = read(tmp_path)
    assert (row.image_id, row.references) == ("0", ("a can of soup",))
    assert report.problems[REJECTED_CAPTION].rows == 3
    assert list_problems(report)["image without captions"] == ["1"]
    assert list_problems(report)["row that cannot be parsed"] == ["train.json:annotations[4]"]


def test_vizwiz_questions(tmp_path, read):
    answers = [{"answer": "unanswerable", "answer_confidence": "yes"}] * 2
    row = {"image": "VizWiz_train_00000000.jpg", "question": "What is it?", "answers": answers}
    rows = [
        row | {"answer_type": "unanswerable", "answerable": 0},
        row | {"image": 3},
        row | {"image": "VizWiz_train_00000001.jpg", "answers": [{"answer": 3}]},
        None,
    ]
    path = write(tmp_path / "train.json", rows)
    test = [{"image": "VizWiz_test_00000000.jpg", "question": "Hello?"}]
    write(tmp_path / "test.json", test)
    pictures(tmp_path / "train", row["image"])
    pictures(tmp_path / "test", test[0]["image"])
    assert detect_format(path) == detect_format(tmp_path) == "vizwiz_vqa"
    (found,), report = read(tmp_path)
    assert found.references == ("unanswerable", "unanswerable")
    assert (found.answer_type, found.question_id) == ("unanswerable", row["image"])
    assert list_problems(report)["row that cannot be parsed"] == [
        f"train.json:[{index}]" for index in (1, 2, 3)
    ]
    (found,), _ = read(tmp_path, splits=("test",), require_answers=False)
    assert found.references == ()


def test_textcaps_problems(tmp_path, read):
    row = {"image_id": "x", "image_path": "train/x.jpg", "set_name": "train"}
    rows = [
        row | {"caption_str": "a sign", "reference_strs": ["a sign", "the word stop"]},
        row | {"caption_str": "one more"},
        row | {"image_path": "train/other.jpg", "caption_str": "another file"},
        row | {"reference_strs": [1]},
        {"image_id": "y", "image_name": "y", "caption_str": "a page"},
        {"caption_str": "of nothing"},
        3,
    ]
    write(tmp_path / "TextCaps_0.1_train.json", {"data": rows})
    pictures(tmp_path / "train_images", "x.jpg", "y.jpg")
    rows, report = read(tmp_path)
    assert {row.image_id: row.references for row in rows} == {
        "x": ("a sign", "the word stop", "one more"),
        "y": ("a page",),
    }
    assert {kind: problem.count for kind, problem in report} == {
        "row that cannot be parsed": 3,
        "duplicate": 1,
    }


@pytest.mark.parametrize("name", ["nocaps", "vizwiz_captions", "textcaps", "vizwiz_vqa"])
def test_file_of_another_type_is_a_data_error(name, tmp_path):
    from captioner.data import Report
    from captioner.data.formats.io import Source

    path = write(tmp_path / "x.json", "3")
    source = Source(root=tmp_path, files=(path,), images=None, report=Report())
    with pytest.raises(DataError, match="holds a int"):
        list(READERS[name].read(source))
