"""Names of the files that are written for images: no two images share one."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_checkpoint, picture

from captioner.cli.batch.output_names import OutputNames

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("names") / "best"))


@pytest.fixture
def same_stem() -> str:
    """Return a folder with x.jpg, x.png and y.png."""
    os.mkdir("in")
    for i, name in enumerate(("x.jpg", "x.png", "y.png")):
        picture(i).save(f"in/{name}")
    return "in"


def captions(run, *words: object) -> tuple[dict[str, str], str]:
    status, out, err = run(*words)
    assert status == 0
    return dict(line.split("\t") for line in out), err


def texts(folder: str = "in") -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in sorted(Path(folder).glob("*.txt"))}


def test_images_with_the_same_stem_have_separate_texts(run, same_stem):
    said, err = captions(run, same_stem, "--sidecar", "--overwrite")
    assert len(set(said.values())) == 3
    expected = {
        "x.jpg.txt": said["in/x.jpg"],
        "x.png.txt": said["in/x.png"],
        "y.txt": said["in/y.png"],
    }
    assert texts() == expected
    assert err.count("\n") == 1
    assert "in/x.jpg and in/x.png" in err
    # In any order, the names are the same and the texts are not inputs.
    for order in itertools.permutations(["in/x.jpg", "in/x.png", "in/y.png"]):
        assert captions(run, *order, "--sidecar")[0] == said
        assert texts() == expected
    assert captions(run, "in/*", "--sidecar")[0] == said


def test_separate_runs_use_the_same_names(run, same_stem):
    for name in ("x.png", "x.jpg"):
        status, out, err = run(f"in/{name}", "--sidecar", "--overwrite")
        assert (status, "in/x.jpg and in/x.png" in err) == (0, True)
        assert texts()[f"{name}.txt"] == out[0]
    assert list(texts()) == ["x.jpg.txt", "x.png.txt"]


def test_a_resumed_run_uses_the_same_names(run, same_stem):
    options = ("--sidecar", "--output", "out.jsonl", "--resume")
    assert run("in/x.jpg", *options)[0] == 0
    assert run("in", *options)[0] == 0
    assert list(texts()) == ["x.jpg.txt", "x.png.txt", "y.txt"]
    found = {row["image"]: row["caption"] for row in map(json.loads, open("out.jsonl"))}  # noqa: SIM115
    assert texts()["x.jpg.txt"] == found["in/x.jpg"]


def test_the_text_of_a_formerly_unique_stem_is_kept(run, same_stem):
    os.rename("in/x.png", "z.png")
    (text,) = run("in/x.jpg", "--sidecar")[1]
    os.rename("z.png", "in/x.png")
    run("in", "--sidecar")
    assert texts()["x.txt"] == texts()["x.jpg.txt"] == text


def test_copies_keep_suffixes_and_subfolders(run, same_stem):
    os.mkdir("in/sub")
    picture(5).save("in/sub/x.png")
    status, _, err = run("in", "--recursive", "--write-xmp", "copies")
    assert (status, err) == (0, "")
    copies = sorted(p.relative_to("copies").as_posix() for p in Path("copies").rglob("*.*"))
    assert copies == ["sub/x.png", "x.jpg", "x.png", "y.png"]


def test_a_text_never_replaces_a_file_of_the_run(run, same_stem):
    Path("in/y.txt").write_text("in/y.png\n")
    status, _, err = run("@in/y.txt", "--sidecar", "--overwrite")
    assert (status, "in/y.txt is read or written by this run" in err) == (1, True)
    assert Path("in/y.txt").read_text() == "in/y.png\n"
    os.remove("in/y.txt")
    status, _, err = run("in/y.png", "--sidecar", "--overwrite", "--output", "in/y.txt")
    assert (status, "is read or written" in err) == (1, True)
    assert "sha256" in json.loads(Path("in/y.txt").read_text())


def test_hard_links_to_one_text_lose_no_caption(run, same_stem):
    """Two names of one file, here by a hard link."""
    os.remove("in/x.png")
    Path("in/x.txt").write_text("old")
    os.link(
        "in/x.txt", "in/y.txt"
    )  # The first text is written to a new file; the second one replaces only the old file.
    said, _ = captions(run, "in", "--sidecar", "--overwrite")
    assert texts() == {"x.txt": said["in/x.jpg"], "y.txt": said["in/y.png"]}


def test_an_image_listed_twice_has_one_text(run, same_stem):
    os.symlink("y.png", "in/link.png")
    status, _, err = run("in/y.png", "./in/y.png", "in/link.png", "--sidecar", "--overwrite")
    assert (status, err) == (0, "")
    assert list(texts()) == ["link.txt", "y.txt"]


def test_a_binary_file_is_not_replaced_by_a_text(run, same_stem):
    picture(3).save("in/y.txt", format="PNG")
    before = Path("in/y.txt").read_bytes()
    status, out, err = run("in/y.png", "--sidecar", "--overwrite")
    assert (status, len(out), "in/y.txt is not a text file" in err) == (1, 1, True)
    status, out, err = run("in/y.png", "in/y.txt", "--errors-to", "in/y.txt")
    assert (status, out, err.count("\n")) == (1, [], 1)
    assert Path("in/y.txt").read_bytes() == before


# The class


STEMS = st.sampled_from(["a", "b", "A", "a.jpg", "a.png", "a.jpg.png", "é", "e\u0301"])
FILES = st.lists(
    st.tuples(STEMS, st.sampled_from([".jpg", ".png", ".JPG"])).map("".join),
    unique=True,
    min_size=1,
    max_size=6,
)


@given(FILES, st.randoms())
def test_output_names_are_unique_in_a_folder(tmp_path_factory, names, random):
    folder = str(tmp_path_factory.mktemp("files"))
    for name in names:
        Path(folder, name).touch()
    paths = [os.path.join(folder, name) for name in names]
    targets = [OutputNames(paths).beside(path, ".txt") for path in paths]
    assert len(set(targets)) == len(names)
    for target in targets:  # The file system decides which names differ.
        Path(target).touch()
    assert len(list(Path(folder).glob("*.txt"))) == len(names)
    shutil.rmtree(folder)
    os.mkdir(folder)
    for name in names:
        Path(folder, name).touch()
    some = random.sample(paths, random.randint(1, len(paths)))
    for path in some:
        assert OutputNames(some).beside(path, ".txt") == targets[paths.index(path)]


def test_a_case_insensitive_file_system_shares_names(monkeypatch):
    """X.JPG and x.png share a name if X.png and x.png are one file."""
    os.mkdir("in")
    for name in ("X.JPG", "x.png", "Y.png"):
        Path("in", name).touch()
    names = OutputNames(["in/X.JPG"])
    if not os.path.exists("in/x.jpg"):
        assert names.beside("in/X.JPG", ".txt") == "in/X.txt"
    monkeypatch.setattr(os.path, "samefile", lambda a, b: a.casefold() == b.casefold())
    assert names.beside("in/X.JPG", ".txt") == "in/X.JPG.txt"
    assert names.beside("in/x.png", ".txt") == "in/x.png.txt"
    assert names.beside("in/Y.png", ".txt") == "in/Y.txt"
    assert names.sharing("in/X.JPG") == ["in/X.JPG", "in/x.png"]


def test_names_in_another_folder():
    names = OutputNames(["a/b/x.jpg", "a/y.jpg"])
    assert names.below("out", "a/b/x.jpg") == os.path.join("out", "b", "x.jpg")
    assert names.below("out", "a/y.jpg", ".s.png") == os.path.join("out", "y.s.png")
    assert OutputNames(["a/b/x.jpg"]).below("out", "a/b/x.jpg") == os.path.join("out", "x.jpg")
