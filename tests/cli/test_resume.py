"""Resume a run after image files were changed, moved or deleted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import folder_runs
import pytest
from PIL import Image
from tiny import make_checkpoint, picture

from captioner.cli.batch.resume import check_rows
from captioner.cli.batch.row_file import RowFile
from captioner.cli.batch.run_record import make_row_names, meta_path
from captioner.cli.batch.xmp import read_description

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("resume") / "best"))


def rows(path: str = "out.jsonl") -> dict[str, dict]:
    found = folder_runs.rows(path)
    by_image = {row["image"]: row for row in found}
    assert len(by_image) == len(found)
    return by_image


def captions(run, *paths: str) -> dict[str, str]:
    """Return the captions of a separate run."""
    lines = [json.loads(line) for line in run(*paths, "--jsonl")[1]]
    return {row["image"]: row["caption"] for row in lines}


# Changed files


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_replaced_image_is_captioned_again(run, photos, encoded, name):
    options = ("photos", "--output", name, "--resume")
    assert run(*options) == (0, [], "")
    before, seen = rows(name), sum(encoded)
    status = os.stat("photos/1.png")
    picture(9).save("photos/1.png")
    os.utime("photos/1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    code, out, err = run(*options)
    assert (code, out, err.count("\n")) == (0, [], 1)
    assert f"{name}: 1 image has changed since the earlier run" in err
    assert "photos/1.png" in err
    assert sum(encoded) == seen + 1
    after = rows(name)
    assert list(after) == list(before)
    assert after["photos/1.png"]["caption"] == captions(run, "photos/1.png")["photos/1.png"]
    assert after["photos/1.png"]["caption"] != before["photos/1.png"]["caption"]
    for other in ("photos/0.png", "photos/2.png"):
        assert after[other] == before[other]
    assert run(*options) == (0, [], "")
    resumed = Path(name).read_bytes()
    os.remove(name)
    run(*options)
    assert {k: v | {"score": 0} for k, v in rows(name).items()} == {
        k: v | {"score": 0} for k, v in after.items()
    }
    assert resumed.count(b"\n") == Path(name).read_bytes().count(b"\n")


def test_two_swapped_images_are_captioned_again(run, photos):
    options = ("photos", "--output", "out.jsonl", "--resume")
    run(*options)
    before = rows()
    os.rename("photos/0.png", "photos/x")
    os.rename("photos/1.png", "photos/0.png")
    os.rename("photos/x", "photos/1.png")
    assert "2 images have changed" in run(*options)[2]
    after = rows()
    for one, other in (("0", "1"), ("1", "0")):
        names = [f"photos/{x}.png" for x in (one, other)]
        assert after[names[0]]["sha256"] == before[names[1]]["sha256"]
        assert after[names[0]]["caption"] == before[names[1]]["caption"]


def test_a_kill_while_replacing_rows_loses_nothing(run, photos):
    options = ("photos", "--output", "out.jsonl", "--resume")
    run(*options)
    picture(9).save("photos/0.png")
    picture(9).save("photos/2.png")
    run(*options)
    whole = Path("out.jsonl").read_bytes()
    first, second, _ = whole.splitlines(keepends=True)
    # As after a kill: one new row follows the old rows.
    os.remove("out.jsonl")
    picture(0).save("photos/0.png")
    picture(2).save("photos/2.png")
    run(*options)
    with open("out.jsonl", "ab") as file:
        file.write(first)
    picture(9).save("photos/0.png")
    picture(9).save("photos/2.png")
    assert "1 image has changed" in run(*options)[2]
    assert Path("out.jsonl").read_bytes() == whole
    assert second in whole


def test_a_row_that_repeats_a_changed_image_becomes_independent(run, photos, encoded):
    for name in ("a", "b"):
        shutil.copy("photos/1.png", f"photos/{name}.png")
    options = ("photos", "--output", "out.jsonl", "--resume")
    run(*options)
    before, seen = rows(), sum(encoded)
    assert before["photos/a.png"]["same_as"] == before["photos/b.png"]["same_as"] == "photos/1.png"
    picture(9).save("photos/1.png")
    run(*options)
    after = rows()
    assert sum(encoded) == seen + 1
    assert "same_as" not in after["photos/a.png"]
    assert after["photos/b.png"]["same_as"] == "photos/a.png"
    for name in ("photos/a.png", "photos/b.png"):
        assert after[name]["caption"] == before[name]["caption"]
        assert after[name]["sha256"] == before[name]["sha256"] != after["photos/1.png"]["sha256"]
    # A further image with the former content repeats a row with that content.
    shutil.copy("photos/a.png", "photos/c.png")
    assert run(*options) == (0, [], "")
    assert rows()["photos/c.png"]["same_as"] == "photos/a.png"
    # An image that gets the content of another repeats the row of that image.
    shutil.copy("photos/0.png", "photos/b.png")
    run(*options)
    assert rows()["photos/b.png"]["same_as"] == "photos/0.png"
    assert sum(encoded) == seen + 1


def test_rows_with_errors_are_replaced_if_the_file_has_changed(run, photos):
    Path("photos/1.png").write_text("no picture")
    options = ("photos", "photos/late.png", "--output", "out.jsonl", "--resume")
    assert run(*options)[0] == 3
    assert "sha256" not in rows()["photos/late.png"]
    assert run(*options)[0] == 3
    picture(1).save("photos/1.png")
    picture(5).save("photos/late.png")
    status, _, err = run(*options)
    assert (status, "2 images have changed" in err) == (0, True)
    assert not any("error" in row for row in rows().values())
    # From a row without an error to one with an error.
    Path("photos/1.png").write_text("no picture")
    status, _, err = run(*options)
    assert (status, "1 image has changed" in err) == (3, True)
    assert "error" in rows()["photos/1.png"]


def test_missing_files_keep_their_rows_and_are_reported(run, photos):
    options = ("--output", "out.jsonl", "--resume")
    run("photos", *options)
    before = Path("out.jsonl").read_bytes()
    os.remove("photos/1.png")
    for inputs in (["photos"], ["photos/0.png", "photos/1.png", "photos/2.png"]):
        status, out, err = run(*inputs, *options)
        assert (status, out, err.count("\n")) == (0, [], 1)
        assert "1 row belongs to a file that cannot be read now; kept (photos/1.png)" in err
        assert Path("out.jsonl").read_bytes() == before
    # Rows of other existing files are not reported.
    assert "photos/1.png" in run("photos/2.png", *options)[2]
    picture(1).save("photos/1.png")
    assert run("photos/2.png", *options) == (0, [], "")


def test_the_answers_of_changed_images_are_replaced(photos, tmp_path, capsys):
    from tiny_vqa import QUESTIONS, make_vqa_checkpoint

    from captioner.cli import generate

    checkpoint = make_vqa_checkpoint(tmp_path / "best")
    words = ["photos", "--question", QUESTIONS[0], "--output", "out.csv", "--resume"]
    words += ["--checkpoint", str(checkpoint)]
    assert generate.main(words) == 0
    picture(9).save("photos/1.png")
    assert generate.main(words) == 0
    assert "1 image has changed" in capsys.readouterr().err
    assert len(rows("out.csv")) == 3


# Files beside the images


def test_only_texts_of_the_former_image_are_replaced(run, photos):
    options = ("photos", "--sidecar", "--write-xmp", "copies", "--output", "out.jsonl", "--resume")
    run(*options)
    Path("photos/2.txt").write_text("mine")
    for i in (1, 2):
        picture(7 + i).save(f"photos/{i}.png")
    status, _, err = run(*options)
    found = {row["image"]: row["caption"] for row in rows().values()}
    assert status == 0
    assert Path("photos/1.txt").read_text() == found["photos/1.png"] + "\n"
    assert Path("photos/2.txt").read_text() == "mine"
    assert "photos/2.txt: exists with another text" in err
    assert err.count("\n") == 2
    for i in (0, 1, 2):
        assert read_description(Path(f"copies/{i}.png").read_bytes()) == found[f"photos/{i}.png"]
        with Image.open(f"copies/{i}.png") as copy, Image.open(f"photos/{i}.png") as image:
            assert copy.tobytes() == image.tobytes()


def test_xmp_in_place_does_not_count_as_a_change(run, photos):
    shutil.copy("photos/1.png", "photos/twin.png")
    options = ("photos", "--write-xmp", "--in-place", "--output", "out.jsonl", "--resume")
    assert run(*options) == (0, [], "")
    before = Path("out.jsonl").read_bytes()
    assert run(*options) == (0, [], "")
    assert Path("out.jsonl").read_bytes() == before
    picture(9).save("photos/1.png")
    assert "1 image has changed" in run(*options)[2]
    text = rows()["photos/1.png"]["caption"]
    assert read_description(Path("photos/1.png").read_bytes()) == text
    assert run(*options) == (0, [], "")


# Another working folder


def test_a_path_in_another_working_folder_is_another_file(run, photos, tmp_path, monkeypatch):
    for name, seed in (("one", 0), ("two", 5)):
        (tmp_path / name).mkdir()
        picture(seed).save(tmp_path / name / "a.png")
    output = ("--output", tmp_path / "rows" / "out.jsonl", "--resume")
    (tmp_path / "rows").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    assert run("a.png", *output) == (0, [], "")
    monkeypatch.chdir(tmp_path / "two")
    assert run("a.png", *output) == (0, [], "")
    found = rows(str(output[1]))
    assert list(found) == ["a.png", "../two/a.png"]
    expected = captions(run, str(tmp_path / "one" / "a.png"), str(tmp_path / "two" / "a.png"))
    assert [row["caption"] for row in found.values()] == list(expected.values())
    assert len(set(expected.values())) == 2
    # Each row is found from any working folder.
    for folder, path in (("one", "a.png"), ("rows", "../two/a.png"), (".", "one/a.png")):
        monkeypatch.chdir(tmp_path / folder)
        assert run(path, *output) == (0, [], "")
    assert rows(str(output[1])) == found


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_continues_after_its_whole_folder_was_moved(run, tmp_path, monkeypatch, recorded):
    """Also with the rows of a version that did not store its working folder."""
    (tmp_path / "one").mkdir()
    picture(0).save(tmp_path / "one" / "a.png")
    monkeypatch.chdir(tmp_path / "one")
    run("a.png", "--output", "out.jsonl")
    if not recorded:
        meta = Path(meta_path("out.jsonl"))
        settings = json.loads(meta.read_text())
        del settings["base"]
        meta.write_text(json.dumps(settings))
    before = Path("out.jsonl").read_bytes()
    monkeypatch.chdir(tmp_path)
    shutil.move("one", "two")
    shutil.copytree("two", "three")
    for folder in ("two", "three"):
        monkeypatch.chdir(tmp_path / folder)
        assert run("a.png", "--output", "out.jsonl", "--resume") == (0, [], "")
        assert Path("out.jsonl").read_bytes() == before
        assert json.loads(Path(meta_path("out.jsonl")).read_text())["base"][0] == "."


def test_a_run_continues_after_its_rows_were_moved(run, photos, tmp_path):
    run("photos", "--output", "out.jsonl")
    (tmp_path / "archive").mkdir()
    for path in tmp_path.glob("out.jsonl*"):
        path.rename(tmp_path / "archive" / path.name)
    before = Path("archive/out.jsonl").read_bytes()
    assert run("photos", "--output", "archive/out.jsonl", "--resume") == (0, [], "")
    assert Path("archive/out.jsonl").read_bytes() == before


def test_a_missing_base_folder_means_the_working_folder(run, photos, tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    picture(0).save(tmp_path / "one" / "a.png")
    monkeypatch.chdir(tmp_path / "one")
    output = ("--output", tmp_path / "out.jsonl", "--resume")
    run("a.png", *output)
    monkeypatch.chdir(tmp_path)
    os.rename("one", "two")
    monkeypatch.chdir(tmp_path / "two")
    assert run("a.png", *output) == (0, [], "")
    assert list(rows(str(output[1]))) == ["a.png"]


def test_names_in_rows_are_relative_to_the_base_folder(tmp_path):
    name = make_row_names(str(tmp_path), [], str)
    for path in ("a.png", "./a.png", "x/../a.png", "-", "/a.png"):
        assert name(path) == path
    (tmp_path / "x").mkdir()
    name = make_row_names(str(tmp_path / "x"), ["./b.png", "-", "c.png"], str)
    paths = ("a.png", "x/a.png", "-", "/a.png", "x/b.png", "x/y/../c.png")
    assert [name(path) for path in paths] == [
        "../a.png",
        "a.png",
        "-",
        "/a.png",
        "./b.png",
        "c.png",
    ]


# Rows


def test_only_files_with_a_row_are_read(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    file = RowFile("o", columns=None, settings={}, resume=False, retry=False, notify=print)
    with file:
        file.append({"image": "a", "caption": "x", "sha256": "0a" * 32})
        file.append({"image": "b", "caption": "of an older version"})
        assert list(check_rows(file, ["a", "b", "c"], str)) == [
            "o: 1 image has changed since the earlier run, and the rows are made again (a)"
        ]
        assert [file.has(name) for name in "abc"] == [False, True, False]


def test_names_that_are_equal_in_csv_are_an_error(run, photos):
    os.mkdir("odd")
    picture(1).save("odd/a\nb.png")
    picture(2).save("odd/a\\nb.png")
    status, _, err = run("odd", "--output", "out.csv")
    assert (status, err.count("\n")) == (3, 1)
    assert "a row cannot distinguish it from" in err
    assert run("odd", "--output", "out.jsonl") == (0, [], "")


def test_inputs_listed_twice_are_reported(run, photos):
    status, _, err = run("photos", "photos/1.png", "photos/1.png", "--output", "out.jsonl")
    assert (status, len(rows())) == (0, 3)
    assert err == "generate.py: 1 input is listed more than once; each has one row (photos/1.png)\n"
