"""The command `captioner check`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "quality"))

from blocked import run_without
from quality_data import caption, photo, write_set

from captioner.cli import check
from captioner.cli.main import main
from captioner.data.example_rows import read_rows

pytest.importorskip("imagehash")
pytest.importorskip("py3langid")


@pytest.fixture
def data(tmp_path):
    """A data set with a truncated caption and a leak of a held-out image."""
    changes = {3: {"captions": [caption(6), "A red dog is standing near the"]}}
    path = write_set(tmp_path / "data", images=20, changes=changes)
    held = tmp_path / "held"
    held.mkdir()
    photo(4).save(held / "x.jpg", quality=60)
    return path


def test_the_report_and_the_manifest_are_written(data, tmp_path, capsys):
    report, clean = tmp_path / "report", tmp_path / "clean.jsonl"
    words = ["check", data, "--held-out", tmp_path / "held", "--output", report, "--write", clean]
    assert main([*map(str, words), "--processes", "1", "--weight", "0.1"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["held-out-leak", "1"],
        ["truncated-caption", "1"],
    ]
    assert "2 findings" in err
    rows = list(map(json.loads, (report / "findings.jsonl").open()))
    assert [row["kind"] for row in rows] == ["held-out-leak", "truncated-caption"]
    assert rows[1]["place"] == "data.jsonl:4"
    assert (report / "report.html").is_file()
    examples, _ = read_rows(clean, splits=None)
    assert "images/4.jpg" not in {example.image_id for example in examples}
    assert {example.image_id: example.weights for example in examples}["images/3.jpg"] == (1, 0.1)


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ("truncated-caption", 1),
        ("markup,blank-image", 0),
        ("markup, truncated-caption", 1),
        ("any", 1),
    ],
)
def test_findings_fail_a_build_only_on_request(data, tmp_path, capsys, kinds, status):
    words = [str(data), "--output", str(tmp_path / "r"), "--processes", "1", "--fail-on", kinds]
    assert check.main(words) == status


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "--fail-on", "blank-img"], "blank-img is no kind; the nearest is blank-image"),
        (["x", "--weight", "0.5"], "--weight needs --write"),
        (["x", "--weight", "2", "--write", "y"], "2 does not lie between 0 and 1"),
        ([], "required: DATA"),
    ],
)
def test_wrong_arguments(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        check.parse(words)
    assert message in capsys.readouterr().err.replace("2.0 does", "2 does")


def test_errors_are_one_line(data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for words in (
        [str(tmp_path / "none")],
        [str(data), "--held-out", str(tmp_path / "none")],
        [str(data), "--processes", "1", "--output", str(tmp_path / "file" / "report")],
        [str(data), "--processes", "1", "--output", str(tmp_path), "--write", str(tmp_path)],
    ):
        assert check.main(words) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert err.startswith("captioner check: ")


@pytest.mark.parametrize("library", ["imagehash", "py3langid", "ftfy"])
def test_a_missing_library_is_one_line(tmp_path, library):
    path = write_set(tmp_path, images=3, changes={1: {"captions": ["a café"]}})
    code = "import sys; from captioner.cli.check import main; sys.exit(main(sys.argv[1:]))"
    words = (path, "--output", tmp_path / "r", "--processes", "1")
    done = run_without(code, *map(str, words), blocked=[library])
    assert done.returncode == 1
    message = f'needs {library}, which is not installed; run: pip install "captioner[check]"\n'
    assert done.stderr.endswith(message)
    assert done.stderr.count("\n") == 1


def test_no_input_or_existing_file_is_overwritten(data, tmp_path, capsys):
    clean, before = tmp_path / "clean.jsonl", data.read_bytes()
    clean.write_text("kept")
    link = tmp_path / "link.jsonl"
    link.symlink_to(data)
    base = [str(data), "--output", str(tmp_path / "r"), "--processes", "1"]
    assert check.main([*base, "--write", str(clean)]) == 1
    message = f"captioner check: {clean}: exists; add --overwrite, or name another file\n"
    assert capsys.readouterr().err == message
    assert clean.read_text() == "kept"
    for path in (data, link, data.parent / "images" / "0.jpg"):
        assert check.main([*base, "--write", str(path), "--overwrite"]) == 1
        assert "is a file that the check reads" in capsys.readouterr().err
    assert data.read_bytes() == before
    assert link.is_symlink()
    assert check.main([*base, "--write", str(clean), "--overwrite"]) == 0
    assert len(read_rows(clean, splits=None)[0]) == 20


def test_nothing_is_written_without_rows(tmp_path, capsys):
    path = tmp_path / "data.jsonl"
    (tmp_path / "0.jpg").write_bytes(b"")
    path.write_text('{"image": "0.jpg", "caption": "a dog"}\n')
    clean = tmp_path / "clean.jsonl"
    words = [str(path), "--output", str(tmp_path / "r"), "--processes", "1", "--write", str(clean)]
    assert check.main(words) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"captioner check: {clean}: not written, because no row is left; see the report"
    ]
    assert not list(tmp_path.glob("clean*"))


@pytest.mark.parametrize("name", ["images/0.jpg", "notes.txt", "empty"])
def test_a_held_out_path_without_images_is_explained(data, capsys, name):
    (data.parent / "notes.txt").write_text("x\n")
    (data.parent / "empty").mkdir()
    path = str(data.parent / name)
    assert check.main([str(data), "--held-out", path, "--processes", "1"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"captioner check: {path}: not a data set or folder of images; ")
    assert err.count("\n") == 1
