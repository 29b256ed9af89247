"""Expand the paths of a command line to images."""

from __future__ import annotations

import io
import os
import sys

import pytest

from captioner.cli.batch.find_images import find_inputs
from captioner.errors import DataError
from captioner.files import IMAGE_SUFFIXES


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    """Create empty files with the names of images and of other files."""
    names = ("b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/c.webp", "deep/er/d.heic")
    for name in (*names, "deep/er/list.txt", ".cache/e.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)


def find_images(paths: list[str], **options) -> list[str]:
    return find_inputs(paths, **options).paths


def names(*paths: str, **options) -> list[str]:
    found = find_images(list(paths), **options)
    return [os.path.relpath(path, "in") if path.startswith("in") else path for path in found]


def test_a_folder_gives_its_images_and_recursive_those_below_it():
    assert names("in") == ["a.png", "b.JPG"]
    assert names("in/", recursive=True) == ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.heic"]
    assert {".heic", ".heif"} <= set(IMAGE_SUFFIXES)


def test_links_to_folders_cause_no_loop_and_no_duplicates():
    os.symlink("..", "in/deep/up")
    os.symlink("itself.png", "in/itself.png")
    os.symlink("../in", "in/deep/er/again")
    expected = names("in", recursive=True)
    assert expected == ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.heic", "itself.png"]
    assert names("in/**/*.webp") == ["deep/c.webp"]
    os.symlink("in", "link")
    assert len(find_images(["link"], recursive=True)) == len(expected)  # Named links are followed.


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["a.png"]),
        ("in/**/*.webp", ["deep/c.webp"]),
        ("in/**/er/*", ["deep/er/d.heic", "deep/er/list.txt"]),
        ("i*/**/c.*", ["deep/c.webp"]),
        ("**/a.png", ["a.png"]),
        ("in/de*", ["deep/c.webp"]),  # A folder that matches is expanded.
        ("in/none*", ["none*"]),
        ("in/**/none", ["**/none"]),
    ],
)
def test_globs(pattern, expected):
    assert names(pattern) == expected


def test_a_recursive_glob_matches_every_file():
    expected = ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.heic", "deep/er/list.txt", "notes.txt"]
    assert names("in/**") == expected


ODD = ("photos [2023]", "a[1].jpg", "what?", "b*c", "[x]")
"""Names that look like patterns."""


@pytest.fixture
def odd(tree, tmp_path):
    """Create folders with these names, and folders that they match as patterns."""
    for folder in (*ODD, "photos 2", "a1.jpg", "whats", "bxc", "x"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        for name in ("a.jpg", "a[1].jpg", "a1.jpg", "deep/c.jpg"):
            (tmp_path / folder / name).touch()


@pytest.mark.parametrize("folder", ODD)
def test_an_existing_part_of_a_pattern_is_taken_literally(odd, folder):
    files = [f"{folder}/{name}" for name in ("a.jpg", "a1.jpg", "a[1].jpg")]
    assert names(f"{folder}/*.jpg") == files
    assert names(f"{folder}/a*.jpg") == files
    assert names(f"./{folder}/*.jpg") == [f"./{path}" for path in files]
    assert names(os.path.abspath(f"{folder}/*.jpg")) == list(map(os.path.abspath, files))
    assert names(f"{folder}/**/*.jpg") == [*files, f"{folder}/deep/c.jpg"]
    assert names(f"{folder}/d*/*.jpg") == [f"{folder}/deep/c.jpg"]
    assert names(f"{folder}/a[1].jpg") == [f"{folder}/a[1].jpg"]
    assert names(f"{folder}/**/a[1].jpg") == [f"{folder}/a1.jpg", f"{folder}/a[1].jpg"]
    assert names(f"{folder}/") == names(folder) == [f"{folder}{path}" for path in (
        "/a.jpg", "/a1.jpg", "/a[1].jpg")]  # fmt: skip
    assert f"{folder}/deep/c.jpg" in names(f"**/{folder}/deep/*.jpg")


def test_missing_parts_are_patterns(odd):
    assert names("photos [0-9]/*a.jpg") == ["photos 2/a.jpg"]
    assert names("photos */a[0-9].jpg") == ["photos 2/a1.jpg", "photos [2023]/a1.jpg"]
    assert names("[ab]*/a.jpg") == ["a1.jpg/a.jpg", "a[1].jpg/a.jpg", "b*c/a.jpg", "bxc/a.jpg"]


def test_stars_alone_are_a_pattern_even_if_such_a_file_exists(tmp_path):
    (tmp_path / "in" / "*").touch()
    assert names("in/*.png") == ["a.png"]
    assert "a.png" in names("in/*")
    (tmp_path / "in" / "*.png").touch()
    assert names("in/*.png") == ["*.png"]


def test_hidden_files_match_only_patterns_that_begin_with_a_dot():
    assert names("in/.*.png") == [".hidden.png"]
    assert ".hidden.png" not in names("in/*png")
    assert names("in/*/") == ["deep/c.webp"]


def test_an_absolute_glob(tmp_path):
    found = find_images([str(tmp_path / "**" / "*.webp")])
    assert found == [str(tmp_path / "in" / "deep" / "c.webp")]


@pytest.mark.parametrize("data", [b"in/a.png\n\nin/deep\r\n", b"\xef\xbb\xbfin/a.png\nin/deep"])
def test_lists_name_images_and_folders(tmp_path, monkeypatch, data):
    (tmp_path / "list.txt").write_bytes(data)
    assert names("@list.txt") == ["a.png", "deep/c.webp"]
    assert names("@list.txt", recursive=True) == ["a.png", "deep/c.webp", "deep/er/d.heic"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert names("-", "@-") == ["-", "a.png", "deep/c.webp"]


def test_lines_of_a_list_are_taken_literally(tmp_path):
    (tmp_path / "list").write_text("in/*.png\n#a\n@b\n-\n")
    assert names("@list") == ["*.png", "#a", "@b", "./-"]
    (tmp_path / "@file.png").touch()
    assert names("@file.png") == ["@file.png"]


@pytest.mark.parametrize("name", ["@missing", "@empty"])
def test_an_empty_or_missing_list_is_an_error(tmp_path, name):
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(DataError, match=name[1:]):
        find_images([name])


def test_output_files_are_not_inputs(tmp_path):
    for name in ("in/out.jsonl", "in/a.txt", "in/copies/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    everything = [str(path) for path in sorted((tmp_path / "in").rglob("*"))]
    for paths in (everything, ["in/*", "in/copies/*"], ["in/**"]):
        found = find_images(paths, exclude=["in/out.jsonl", "in/copies"], recursive=True)
        left = {os.path.basename(path) for path in found}
        assert not left & {"out.jsonl", "a.txt", "copies"}
        assert {"a.png", "notes.txt"} <= left
        assert not any("copies" in path for path in found)
    with pytest.raises(DataError, match="all inputs are files that this run writes"):
        find_images(["in"], exclude=["."])


# Skipped files and inputs without images


def remarks(*paths: str, **options) -> list[str]:
    return find_inputs(list(paths), **options).remarks


def test_skipped_files_and_folders_are_counted(tmp_path):
    assert remarks("in") == [
        "skipped 1 file with other suffixes (in/notes.txt)",
        "skipped 1 hidden image (in/.hidden.png)",
        "skipped 1 folder (in/deep); --recursive takes it",
    ]
    assert remarks("in", recursive=True) == [
        "skipped 2 files with other suffixes (in/deep/er/list.txt, in/notes.txt)",
        "skipped 1 hidden image (in/.hidden.png)",
    ]
    assert remarks("in", "in") == remarks("in")
    for i in range(3):
        (tmp_path / "in" / f"b{i}.pdf").touch()
        (tmp_path / "in" / f"folder{i}").mkdir()
    found = remarks("in")
    assert found[0] == (
        "skipped 4 files with other suffixes (in/b0.pdf, in/b1.pdf, in/b2.pdf, ...)"
    )
    assert found[2].startswith("skipped 4 folders (in/deep, ")
    assert found[2].endswith("--recursive takes them")


def test_files_that_were_written_are_not_reported(tmp_path):
    written = ("out.jsonl", "out.jsonl.meta.json", "a.txt", "b.JPG.txt", "a.attention.png")
    for name in (*written, "copies/a.png", "sheets/a.attention.png"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    exclude = [f"in/{name}" for name in (*written[:2], "copies")]
    for recursive in (False, True):
        found = find_inputs(["in"], recursive=recursive, exclude=exclude, sheets="in/sheets")
        list_txt = "in/deep/er/list.txt, " * recursive
        what = "2 files" if recursive else "1 file"
        assert found.remarks[0] == f"skipped {what} with other suffixes ({list_txt}in/notes.txt)"
        assert not any("copies" in remark for remark in found.remarks)
        assert not any("attention" in path for path in found.paths)


def test_named_files_are_not_reported_as_skipped():
    assert remarks("in/notes.txt", "in/a.png", "in/*.*", "in/*/*.*") == []


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("in/none*", "matches no file"),
        ("in/[x].png", "matches no file"),
        ("in/**/none", "matches no file"),
        ("empty", "has no images"),
        ("texts", "has no images; 2 files with other suffixes (a.txt, b.txt)"),
        ("outer", "has no images, but 1 folder; --recursive looks into them"),
    ],
)
def test_an_input_without_images_has_a_reason(tmp_path, path, problem):
    for name in ("empty", "texts", "outer/inner"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("texts/a.txt", "texts/b.txt", "outer/inner/a.png"):
        (tmp_path / name).touch()
    found = find_inputs([path, "in/a.png"])
    assert found.paths == [path, "in/a.png"]
    assert found.describe_error(path, "is a folder") == f"{path}: {problem}"
    assert found.describe_error("in/a.png", "is empty") == "is empty"
    assert found.describe_error(path, "") == ""
    assert find_inputs(["outer"], recursive=True).paths == ["outer/inner/a.png"]


def test_blank_lines_of_a_list_are_counted(tmp_path):
    (tmp_path / "list").write_bytes(b"in/a.png\n\n  \nin/b.JPG\r\n")
    assert remarks("@list") == ["list: skipped 2 blank lines"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_kept_in_the_result():
    os.chmod("in/deep/er", 0)
    assert "deep/er" in names("in", recursive=True)
    os.chmod("in/deep/er", 0o700)
