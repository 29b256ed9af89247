"""Which images a command line means."""

from __future__ import annotations

import io
import os
import sys

import pytest

from captioner.errors import DataError
from captioner.folders.find import SUFFIXES, find_images


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    """Empty files with the names of images, and others."""
    names = ("b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/c.webp", "deep/er/d.heic")
    for name in (*names, "deep/er/list.txt", ".cache/e.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)


def names(*paths: str, **options) -> list[str]:
    found = find_images(list(paths), **options)
    return [os.path.relpath(path, "in") if path.startswith("in") else path for path in found]


def test_a_folder_is_its_images_and_with_recursive_those_below():
    assert names("in") == ["a.png", "b.JPG"]
    assert names("in/", recursive=True) == ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.heic"]
    assert {".heic", ".heif"} <= set(SUFFIXES)


def test_links_to_folders_neither_hang_nor_double():
    os.symlink("..", "in/deep/up")
    os.symlink("itself.png", "in/itself.png")
    os.symlink("../in", "in/deep/er/again")
    expected = names("in", recursive=True)
    assert expected == ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.heic", "itself.png"]
    assert names("in/**/*.webp") == ["deep/c.webp"]
    os.symlink("in", "link")
    assert len(find_images(["link"], recursive=True)) == len(expected)  # what is named is followed


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["a.png"]),
        ("in/**/*.webp", ["deep/c.webp"]),
        ("in/**/er/*", ["deep/er/d.heic", "deep/er/list.txt"]),
        ("i*/**/c.*", ["deep/c.webp"]),
        ("**/a.png", ["a.png"]),
        ("in/de*", ["deep/c.webp"]),  # a folder that matches is its images
        ("in/none*", ["none*"]),
        ("in/**/none", ["**/none"]),
    ],
)
def test_globs(pattern, expected):
    assert names(pattern) == expected


def test_a_glob_takes_every_file_that_fits():
    expected = ["a.png", "b.JPG", "deep/c.webp", "deep/er/d.heic", "deep/er/list.txt", "notes.txt"]
    assert names("in/**") == expected


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


def test_a_list_takes_its_lines_as_they_are(tmp_path):
    (tmp_path / "list").write_text("in/*.png\n#a\n@b\n-\n")
    assert names("@list") == ["*.png", "#a", "@b", "./-"]
    (tmp_path / "@file.png").touch()
    assert names("@file.png") == ["@file.png"]


@pytest.mark.parametrize("name", ["@missing", "@empty"])
def test_a_list_that_names_nothing_is_told_of(tmp_path, name):
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(DataError, match=name[1:]):
        find_images([name])


def test_what_a_run_writes_is_no_input(tmp_path):
    for name in ("in/out.jsonl", "in/a.txt", "in/copies/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    everything = [str(path) for path in sorted((tmp_path / "in").rglob("*"))]
    for paths in (everything, ["in/*", "in/copies/*"], ["in/**"]):
        found = find_images(paths, leave_out=["in/out.jsonl", "in/copies"], recursive=True)
        left = {os.path.basename(path) for path in found}
        assert not left & {"out.jsonl", "a.txt", "copies"}
        assert {"a.png", "notes.txt"} <= left
        assert not any("copies" in path for path in found)
    with pytest.raises(DataError, match="lies in what this run writes"):
        find_images(["in"], leave_out=["."])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_kept_to_fail_by_name():
    os.chmod("in/deep/er", 0)
    assert "deep/er" in names("in", recursive=True)
    os.chmod("in/deep/er", 0o700)
