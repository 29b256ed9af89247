"""score.py on captions: forms of candidates, unmatched rows, checkpoints, comparisons."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from score_data import write
from tiny import make_checkpoint, picture

from captioner.cli import generate, score
from captioner.evaluation.scoring import few_images_warnings
from captioner.metrics import score_captions

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    "0.png": ("a red dog runs on the sand", "the dog is red"),
    "1.png": ("a boat on blue water", "two people in a small boat"),
    "2.png": ("a child jumps into a pool", "the child is in the air", "a boy jumps"),
}
CAPTIONS = {
    "0.png": "a dog runs on the beach",
    "1.png": "a boat on the water",
    "2.png": "a boy jumps into the water",
}

FEW = f"score.py: {few_images_warnings(len(TEXTS))[0]}\n"
"""The warning on stderr with each score of these captions."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A JSONL file with captions of three pictures."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i, name in enumerate(TEXTS):
        picture(i).save(folder / name)
    rows = [{"image": name, "captions": texts} for name, texts in TEXTS.items()]
    return write(folder / "captions.jsonl", rows)


def caption_rows(captions: dict[str, str], key: str = "image_id") -> list[dict[str, str]]:
    return [{key: name, "caption": text} for name, text in captions.items()]


def expected(captions: dict[str, str] = CAPTIONS) -> dict[str, float]:
    counts = {"images": 3, "references": 7}
    return score_captions(captions, TEXTS) | counts


def values_of(out: str) -> dict[str, float]:
    """Return the scores of a JSON object, each of which must lie within its interval."""
    result = json.loads(out)
    intervals, warnings = result.pop("intervals"), result.pop("warnings")
    assert warnings == few_images_warnings(3) != []
    assert [*intervals] == [*score_captions(CAPTIONS, TEXTS)]
    assert all(low <= result[name] <= high for name, (low, high) in intervals.items())
    return result


@pytest.mark.parametrize("key", ["image_id", "id", "image"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt"])
def test_all_forms_of_rows_give_equal_scores(run_score, data, tmp_path, key, suffix):
    path = write(tmp_path / f"candidates{suffix}", caption_rows(CAPTIONS, key))
    status, out, _ = run_score(path, "--references", data, "--json")
    assert status == 0
    assert values_of(out) == pytest.approx(expected())


def test_json_object_and_standard_input(run_score, data, tmp_path, monkeypatch):
    path = write(tmp_path / "candidates.json", CAPTIONS)
    _, out, _ = run_score(path, "--references", data, "--json")
    assert values_of(out) == pytest.approx(expected())
    # A BOM, blank lines, Windows line ends and a line separator within a caption.
    lines = [json.dumps(row, ensure_ascii=False) for row in caption_rows(CAPTIONS)]
    lines[0] = lines[0].replace("a dog", "a\u2028dog")
    text = "\ufeff" + "\r\n\r\n".join(lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    _, again, _ = run_score("-", "--references", data, "--json")
    assert values_of(again) == pytest.approx(expected())


def test_coco_result_files(run_score, tmp_path):
    """Numeric ids, and images by their file names in the annotations."""
    names = {7: "COCO_val2014_000000000007.jpg", 42: "COCO_val2014_000000000042.jpg"}
    document = {
        "images": [{"id": key, "file_name": name} for key, name in names.items()],
        "annotations": [
            {"id": 10 * key + i, "image_id": key, "caption": text}
            for key, texts in zip(names, TEXTS.values(), strict=False)
            for i, text in enumerate(texts)
        ],
    }
    references = write(tmp_path / "captions_val2014.json", document)
    texts = dict(zip(names, CAPTIONS.values(), strict=False))
    results = [{"image_id": key, "caption": text, "id": 1} for key, text in texts.items()]
    _, out, _ = run_score(write(tmp_path / "a.json", results), "--references", references, "--json")
    files = [{"image": f"val2014/{names[key]}", "caption": text} for key, text in texts.items()]
    _, same, _ = run_score(write(tmp_path / "b.jsonl", files), "--references", references, "--json")
    assert json.loads(out)["images"] == 2
    assert out == same


def test_table_shows_the_scores(run_score, data, tmp_path):
    path = write(tmp_path / "candidates.jsonl", caption_rows(CAPTIONS))
    status, out, err = run_score(path, "--references", data)
    header, *lines = out.splitlines()
    assert (status, header.split()) == (0, ["metric", "x", "100", "95", "%", "interval"])
    assert len({len(line) for line in (header, *lines)}) == 1
    values = score_captions(CAPTIONS, TEXTS)
    rows = [line.split() for line in lines]
    assert [row[:2] for row in rows] == [[k, f"{100 * v:.1f}"] for k, v in values.items()]
    assert all(float(low) <= float(v) <= float(high) for _, v, low, _, high in rows)
    assert "3 images, 7 references" in err


def test_unmatched_ids_are_named(run_score, data, tmp_path):
    captions = {f"{i}.jpg": "a dog" for i in range(7)} | {"1.png": "a boat"}
    path = write(tmp_path / "candidates.jsonl", caption_rows(captions))
    status, out, err = run_score(path, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "7 candidates without references (0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...)" in err
    assert "2 references without candidate (0.png, 2.png)" in err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [*caption_rows(CAPTIONS), {"image": "x/1.png", "caption": "a"}],
            "second caption of x/1.png",
        ),
        ([{"image": "1.png", "error": "is torn"}], "1.png has an error"),
        ([{"image": "1.png"}], "1.png has no text under caption"),
        ([{"image": "1.png", "caption": 5}], "1.png has no text under caption"),
        ([{"caption": "a dog"}], "expected an object with one of image_id, id, image"),
        (["a dog"], "expected an object"),
        ([], "3 references without candidate"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_invalid_rows_are_errors(run_score, data, tmp_path, rows, message, suffix):
    path = write(tmp_path / f"candidates{suffix}", rows)
    status, out, err = run_score(path, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert path.name in err


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"{", b'[{"image_id": 1, "caption": "a"}', b"[" * 9**5]
)
def test_unreadable_files_are_errors(run_score, data, tmp_path, text):
    path = tmp_path / "candidates.json"
    path.write_bytes(text)
    status, out, err = run_score(path, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "candidates.json" in err
    assert run_score(tmp_path / "none.json", "--references", data)[0] == 1
    assert run_score(path, "--references", tmp_path / "none")[0] == 1


def test_default_and_chosen_splits(run_score, tmp_path):
    """The default is val, or the only split; otherwise --split is needed."""
    rows = [
        {"image": name, "captions": texts, "split": split}
        for split, (name, texts) in zip(("train", "val", "test"), TEXTS.items(), strict=True)
    ]
    data = write(tmp_path / "all.jsonl", rows)

    def images(references: Path, names: list[str], *words: str) -> int:
        rows = caption_rows({name: CAPTIONS[name] for name in names})
        path = write(tmp_path / "candidates.json", rows)
        return run_score(path, "--references", references, *words, "--json")[0]

    assert images(data, ["1.png"]) == 0
    assert images(data, ["0.png", "1.png", "2.png"]) == 1
    assert images(data, ["0.png"], "--split", "train") == 0
    assert images(data, ["0.png", "2.png"], "--split", "train,test") == 0
    assert images(data, ["0.png", "2.png"], "--split", "train", "--split", "test") == 0
    assert images(data, ["0.png"], "--split", "none") == 1
    assert images(write(tmp_path / "one.jsonl", rows[2:]), ["2.png"]) == 0
    two = write(tmp_path / "two.jsonl", rows[::2])
    path = write(tmp_path / "candidates.json", caption_rows({"0.png": "a"}))
    status, _, err = run_score(path, "--references", two)
    assert status == 1
    assert "train (1), test (1); choose with --split" in err


def test_output_of_generate_is_scored(run_score, data, checkpoint, tmp_path, capsys):
    generate.main([str(data.parent / "*.png"), "--jsonl", "--checkpoint", checkpoint])
    path = tmp_path / "generated.jsonl"
    path.write_text(capsys.readouterr().out)
    _, from_file, _ = run_score(path, "--references", data, "--json")
    saved = tmp_path / "saved.jsonl"
    words = ("--references", data, "--checkpoint", checkpoint, "--json")
    status, direct, err = run_score(*words, "--output", saved)
    assert (status, err) == (0, FEW)
    status, again, err = run_score(saved, "--references", data, "--json")
    assert (status, err) == (0, FEW)
    scores = json.loads(direct)
    calibration = scores.pop("calibration")  # a file of captions has no confidences
    assert json.loads(again) == scores
    assert calibration["measure"] == "acceptable"
    assert sum(row["count"] for row in calibration["reliability"]) == 3
    assert values_of(from_file) == pytest.approx(values_of(again))
    assert [json.loads(line)["image_id"] for line in saved.read_text().splitlines()] == [*TEXTS]
    alone = json.loads(run_score(*words, "--batch-size", 1)[1])
    error = alone.pop("calibration")["expected calibration error"]
    assert alone == scores
    assert error == pytest.approx(calibration["expected calibration error"], abs=1e-5)


def test_unreadable_images_are_named(run_score, data, checkpoint, tmp_path):
    (data.parent / "1.png").write_bytes(b"no picture")
    saved = tmp_path / "saved.jsonl"
    words = ("--references", data, "--checkpoint", checkpoint, "--json")
    status, out, err = run_score(*words, "--output", saved)
    assert (status, json.loads(out)["images"]) == (3, 2)
    assert "1.png" in err
    assert "scored without 1 image" in err
    status, _, err = run_score(saved, "--references", data)
    assert status == 1
    assert "1.png has an error" in err
    for name in TEXTS:
        (data.parent / name).unlink()
    status, out, err = run_score(*words)
    assert (status, out) == (1, "")
    assert "none of its 3 images" in err


@pytest.mark.parametrize(
    "words",
    [
        ("a.json",),
        ("--references", "a"),
        ("a.json", "--references", "a", "--checkpoint", "b"),
        ("a.json", "--references", "a", "--output", "b"),
        ("--checkpoint", "a", "--references", "a", "--beam-size", "0"),
        ("compare", "a", "--references", "b"),
        ("compare", "a", "b"),
        ("compare", "a", "b", "--references", "c", "--checkpoint", "d"),
        ("compare", "a", "b", "--references", "c", "--held-out"),
    ],
)
def test_usage_errors(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        score.main(list(words))
    assert capsys.readouterr().out == ""


def test_unusable_inputs_are_one_line_errors(run_score, data, checkpoint, tmp_path):
    words = ("--references", data, "--checkpoint")
    for rest in ((tmp_path,), (checkpoint, "--device", "none"), (checkpoint, "--output", tmp_path)):
        status, out, err = run_score(*words, *rest)
        assert (status, out, err.count("\n")) == (1, "", 1)


def test_compare_scores_two_systems_on_the_same_images(run_score, data, checkpoint, tmp_path):
    one = write(tmp_path / "one.jsonl", caption_rows(CAPTIONS))
    other = write(tmp_path / "other.json", caption_rows(dict.fromkeys(TEXTS, "the dog is red")))
    status, out, err = run_score("compare", one, other, "--references", data, "--json")
    assert (status, err) == (0, FEW)
    result = json.loads(out)
    assert result.pop("warnings") == few_images_warnings(3)
    theirs = score_captions(dict.fromkeys(TEXTS, "the dog is red"), TEXTS)
    for name, a in score_captions(CAPTIONS, TEXTS).items():
        row = result[name]
        assert (row["A"], row["B"]) == pytest.approx((a, theirs[name]))
        assert row["difference"] == pytest.approx(theirs[name] - a)
        assert row["low"] <= row["difference"] <= row["high"]
    status, table, _ = run_score("compare", one, other, "--references", data)
    (line,) = (line for line in table.splitlines() if line.startswith("CIDEr-D"))
    assert f"{100 * result['CIDEr-D']['difference']:+.1f}" in line
    # A checkpoint is compared by its captions.
    status, out, _ = run_score("compare", checkpoint, one, "--references", data, "--json")
    _, own, _ = run_score("--checkpoint", checkpoint, "--references", data, "--json")
    assert status == 0
    assert json.loads(out)["CIDEr-D"]["A"] == pytest.approx(json.loads(own)["CIDEr-D"])


def test_compare_reports_missing_files_and_images(run_score, data, checkpoint, tmp_path):
    one = write(tmp_path / "one.jsonl", caption_rows(CAPTIONS))
    status, _, err = run_score("compare", one, tmp_path / "none.json", "--references", data)
    assert (status, err.count("\n")) == (1, 1)
    (data.parent / "1.png").write_bytes(b"no picture")
    status, _, err = run_score("compare", one, checkpoint, "--references", data)
    assert status == 3
    assert "2 images" in err


def test_help_does_not_import_torch():
    code = (
        "import sys, score\n"
        "try: score.main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'PIL', 'timm', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--references" in done.stdout
