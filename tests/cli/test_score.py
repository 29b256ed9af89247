"""score.py: every form of candidates, what does not match is named, and captioning first."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_checkpoint, picture

from captioner.cli import generate, score
from captioner.data import Example
from captioner.errors import MetricError
from captioner.evaluation.candidate_files import read_candidates
from captioner.evaluation.candidates import match_captions
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
"""What stderr has on each score of these captions."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Own JSONL with three pictures."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i, name in enumerate(TEXTS):
        picture(i).save(folder / name)
    rows = [{"image": name, "captions": texts} for name, texts in TEXTS.items()]
    return write(folder / "captions.jsonl", rows)


@pytest.fixture
def run(capsys):
    """Runs score.py in this process: (exit status, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        status = score.main(list(map(str, words)))
        return (status, *capsys.readouterr())

    return call


def write(path: Path, rows: list | dict) -> Path:
    """A .json file holds `rows` as they are, a .jsonl file one a line."""
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(captions: dict[str, str], key: str = "image_id") -> list[dict[str, str]]:
    return [{key: name, "caption": text} for name, text in captions.items()]


def expected(captions: dict[str, str] = CAPTIONS) -> dict[str, float]:
    counts = {"images": 3, "references": 7}
    return score_captions(captions, TEXTS) | counts


def values_of(out: str) -> dict[str, float]:
    """The scores of a JSON line, each of which lies within its interval."""
    found = json.loads(out)
    intervals, warnings = found.pop("intervals"), found.pop("warnings")
    assert warnings == few_images_warnings(3) != []
    assert [*intervals] == [*score_captions(CAPTIONS, TEXTS)]
    assert all(low <= found[name] <= high for name, (low, high) in intervals.items())
    return found


@pytest.mark.parametrize("key", ["image_id", "id", "image"])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".txt"])
def test_rows_in_any_form(run, data, tmp_path, key, suffix):
    path = write(tmp_path / f"candidates{suffix}", rows_of(CAPTIONS, key))
    status, out, _ = run(path, "--references", data, "--json")
    assert status == 0
    assert values_of(out) == pytest.approx(expected())


def test_mapping_and_stdin(run, data, tmp_path, monkeypatch):
    path = write(tmp_path / "candidates.json", CAPTIONS)
    _, out, _ = run(path, "--references", data, "--json")
    assert values_of(out) == pytest.approx(expected())
    # A BOM, blank lines, Windows line ends and a line separator within a caption.
    lines = [json.dumps(row, ensure_ascii=False) for row in rows_of(CAPTIONS)]
    lines[0] = lines[0].replace("a dog", "a\u2028dog")
    text = "\ufeff" + "\r\n\r\n".join(lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    _, again, _ = run("-", "--references", data, "--json")
    assert values_of(again) == pytest.approx(expected())


def test_coco_results(run, tmp_path):
    """Numeric ids, and the images by the file names that the annotations give them."""
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
    _, out, _ = run(write(tmp_path / "a.json", results), "--references", references, "--json")
    files = [{"image": f"val2014/{names[key]}", "caption": text} for key, text in texts.items()]
    _, same, _ = run(write(tmp_path / "b.jsonl", files), "--references", references, "--json")
    assert json.loads(out)["images"] == 2
    assert out == same


def test_table_holds_the_values(run, data, tmp_path):
    path = write(tmp_path / "candidates.jsonl", rows_of(CAPTIONS))
    status, out, err = run(path, "--references", data)
    header, *lines = out.splitlines()
    assert (status, header.split()) == (0, ["metric", "x", "100", "95", "%", "interval"])
    assert len({len(line) for line in (header, *lines)}) == 1
    values = score_captions(CAPTIONS, TEXTS)
    rows = [line.split() for line in lines]
    assert [row[:2] for row in rows] == [[k, f"{100 * v:.1f}"] for k, v in values.items()]
    assert all(float(low) <= float(v) <= float(high) for _, v, low, _, high in rows)
    assert "3 images, 7 references" in err


def test_ids_that_do_not_match_are_named(run, data, tmp_path):
    captions = {f"{i}.jpg": "a dog" for i in range(7)} | {"1.png": "a boat"}
    path = write(tmp_path / "candidates.jsonl", rows_of(captions))
    status, out, err = run(path, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "7 candidates without references (0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ...)" in err
    assert "2 references without candidate (0.png, 2.png)" in err


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([*rows_of(CAPTIONS), {"image": "x/1.png", "caption": "a"}], "second caption of x/1.png"),
        ([{"image": "1.png", "error": "is torn"}], "1.png has an error"),
        ([{"image": "1.png"}], "1.png has no text under caption"),
        ([{"image": "1.png", "caption": 5}], "1.png has no text under caption"),
        ([{"caption": "a dog"}], "expected an object with one of image_id, id, image"),
        (["a dog"], "expected an object"),
        ([], "3 references without candidate"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_rows_that_cannot_be_scored(run, data, tmp_path, rows, told, suffix):
    path = write(tmp_path / f"candidates{suffix}", rows)
    status, out, err = run(path, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert told in err
    assert path.name in err


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"{", b'[{"image_id": 1, "caption": "a"}', b"[" * 9**5]
)
def test_files_that_cannot_be_read(run, data, tmp_path, text):
    path = tmp_path / "candidates.json"
    path.write_bytes(text)
    status, out, err = run(path, "--references", data)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "candidates.json" in err
    assert run(tmp_path / "none.json", "--references", data)[0] == 1
    assert run(path, "--references", tmp_path / "none")[0] == 1


def test_splits(run, tmp_path):
    """val where there is one; the only one; otherwise the user must say which."""
    rows = [
        {"image": name, "captions": texts, "split": split}
        for split, (name, texts) in zip(("train", "val", "test"), TEXTS.items(), strict=True)
    ]
    data = write(tmp_path / "all.jsonl", rows)

    def images(references: Path, names: list[str], *words: str) -> int:
        rows = rows_of({name: CAPTIONS[name] for name in names})
        path = write(tmp_path / "candidates.json", rows)
        return run(path, "--references", references, *words, "--json")[0]

    assert images(data, ["1.png"]) == 0
    assert images(data, ["0.png", "1.png", "2.png"]) == 1
    assert images(data, ["0.png"], "--split", "train") == 0
    assert images(data, ["0.png", "2.png"], "--split", "train,test") == 0
    assert images(data, ["0.png", "2.png"], "--split", "train", "--split", "test") == 0
    assert images(data, ["0.png"], "--split", "none") == 1
    assert images(write(tmp_path / "one.jsonl", rows[2:]), ["2.png"]) == 0
    two = write(tmp_path / "two.jsonl", rows[::2])
    path = write(tmp_path / "candidates.json", rows_of({"0.png": "a"}))
    status, _, err = run(path, "--references", two)
    assert status == 1
    assert "train (1), test (1); choose with --split" in err


def test_generate_output_is_scored(run, data, checkpoint, tmp_path, capsys):
    generate.main([str(data.parent / "*.png"), "--jsonl", "--checkpoint", checkpoint])
    path = tmp_path / "generated.jsonl"
    path.write_text(capsys.readouterr().out)
    _, from_file, _ = run(path, "--references", data, "--json")
    saved = tmp_path / "saved.jsonl"
    words = ("--references", data, "--checkpoint", checkpoint, "--json")
    status, direct, err = run(*words, "--output", saved)
    assert (status, err) == (0, FEW)
    assert run(saved, "--references", data, "--json") == (0, direct, FEW)
    assert values_of(from_file) == pytest.approx(values_of(direct))
    assert [json.loads(line)["image_id"] for line in saved.read_text().splitlines()] == [*TEXTS]
    assert run(*words, "--batch-size", 1) == run(*words)


def test_unreadable_images_are_named(run, data, checkpoint, tmp_path):
    (data.parent / "1.png").write_bytes(b"no picture")
    saved = tmp_path / "saved.jsonl"
    words = ("--references", data, "--checkpoint", checkpoint, "--json")
    status, out, err = run(*words, "--output", saved)
    assert (status, json.loads(out)["images"]) == (3, 2)
    assert "1.png" in err
    assert "scored without 1 image" in err
    status, _, err = run(saved, "--references", data)
    assert status == 1
    assert "1.png has an error" in err
    for name in TEXTS:
        (data.parent / name).unlink()
    status, out, err = run(*words)
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


def test_one_line_for_what_cannot_be_used(run, data, checkpoint, tmp_path):
    words = ("--references", data, "--checkpoint")
    for rest in ((tmp_path,), (checkpoint, "--device", "none"), (checkpoint, "--output", tmp_path)):
        status, out, err = run(*words, *rest)
        assert (status, out, err.count("\n")) == (1, "", 1)


def test_two_systems_are_compared_on_the_same_images(run, data, checkpoint, tmp_path):
    one = write(tmp_path / "one.jsonl", rows_of(CAPTIONS))
    other = write(tmp_path / "other.json", rows_of(dict.fromkeys(TEXTS, "the dog is red")))
    status, out, err = run("compare", one, other, "--references", data, "--json")
    assert (status, err) == (0, FEW)
    found = json.loads(out)
    assert found.pop("warnings") == few_images_warnings(3)
    theirs = score_captions(dict.fromkeys(TEXTS, "the dog is red"), TEXTS)
    for name, a in score_captions(CAPTIONS, TEXTS).items():
        row = found[name]
        assert (row["A"], row["B"]) == pytest.approx((a, theirs[name]))
        assert row["difference"] == pytest.approx(theirs[name] - a)
        assert row["low"] <= row["difference"] <= row["high"]
    status, table, _ = run("compare", one, other, "--references", data)
    (line,) = (line for line in table.splitlines() if line.startswith("CIDEr-D"))
    assert f"{100 * found['CIDEr-D']['difference']:+.1f}" in line
    # A checkpoint stands for its captions.
    status, out, _ = run("compare", checkpoint, one, "--references", data, "--json")
    _, own, _ = run("--checkpoint", checkpoint, "--references", data, "--json")
    assert status == 0
    assert json.loads(out)["CIDEr-D"]["A"] == pytest.approx(json.loads(own)["CIDEr-D"])


def test_what_cannot_be_compared(run, data, checkpoint, tmp_path):
    one = write(tmp_path / "one.jsonl", rows_of(CAPTIONS))
    status, _, err = run("compare", one, tmp_path / "none.json", "--references", data)
    assert (status, err.count("\n")) == (1, 1)
    (data.parent / "1.png").write_bytes(b"no picture")
    status, _, err = run("compare", one, checkpoint, "--references", data)
    assert status == 3
    assert "2 images" in err


def test_help_costs_no_torch():
    code = (
        "import sys, score\n"
        "try: score.main(['--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'numpy', 'PIL', 'timm', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--references" in done.stdout


def examples(paths: list[str]) -> list[Example]:
    return [Example(f"/data/{path}", path, ("a dog",), "val") for path in paths]


def test_a_path_matches_by_its_longest_ending():
    references = examples(["train/a.png", "val/a.png", "val/b.png"])

    def found(*images: str) -> dict[str, str]:
        rows = [(image, {"image": image, "caption": image}) for image in images]
        return match_captions(rows, references, source="test")

    images = ("/else/val/a.png", "/data/train/a.png", "b.png")
    assert set(found(*images)) == {"train/a.png", "val/a.png", "val/b.png"}
    with pytest.raises(MetricError, match=r"1 candidates without references \(a\.png\)"):
        found("a.png", "/data/train/a.png", "b.png")


NAMES = st.lists(st.sampled_from([f"{d}{n}.png" for d in ("", "x/", "y/") for n in range(4)]),
                 min_size=1, unique=True)  # fmt: skip


@given(NAMES, st.randoms(), st.booleans())
def test_any_order_matches_and_any_gap_does_not(tmp_path_factory, names, random, lines):
    shuffled = random.sample(names, len(names))
    path = tmp_path_factory.mktemp("rows") / ("rows.jsonl" if lines else "rows.json")
    write(path, [{"image_id": name, "caption": f"this is {name}"} for name in shuffled])
    rows = list(read_candidates(str(path)))
    found = match_captions(rows, examples(names), source="test")
    assert found == {name: f"this is {name}" for name in names}
    with pytest.raises(MetricError, match="1 references without candidate"):
        match_captions(rows[1:], examples(names), source="test")
    with pytest.raises(MetricError, match="1 candidates without references"):
        match_captions(
            rows, examples([name for name in names if name != shuffled[0]]), source="test"
        )
