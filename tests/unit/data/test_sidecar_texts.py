"""Text files beside images."""

from __future__ import annotations

from data_files import write_lines

from captioner.data.formats.sidecar_texts import SHARED_TEXT


class TestTextsBesideImages:
    def test_text_without_image_is_reported(self, tmp_path, read):
        for name in ("a.txt", "lost.txt", "sub/lost.txt", "b.txt", "b.jpg.txt"):
            write_lines(tmp_path / name, ["a dog"])
        write_lines(tmp_path / "c.TXT", ["a cat"])
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            (tmp_path / name).touch()
        found, report = read(tmp_path)
        assert [e.image_id for e in found] == ["a.jpg", "b.jpg", "c.jpg"]
        (problem,) = (problem for kind, problem in report if "left unread" in kind)
        assert [name.split()[0] for name in problem.names] == ["b.txt", "lost.txt", "lost.txt"]

    def test_sidecar_texts_are_a_data_set(self, tmp_path, read):
        for name, lines in (("a", ["a dog"]), ("train/b", ["a cat", "two cats"]), ("val/c", ["x"])):
            write_lines(tmp_path / f"{name}.txt", lines)
            (tmp_path / f"{name}.jpg").touch()
        found, report = read(tmp_path, splits=None)
        assert {(e.image_id, e.split, e.references) for e in found} == {
            ("a.jpg", "train", ("a dog",)),
            ("train/b.jpg", "train", ("a cat", "two cats")),
            ("val/c.jpg", "val", ("x",)),
        }
        assert not report

    def test_image_without_text_is_reported(self, tmp_path, read):
        write_lines(tmp_path / "a.txt", ["a dog"])
        for name in ("a.jpg", "b.png"):
            (tmp_path / name).touch()
        (example,), report = read(tmp_path)
        assert example.image_id == "a.jpg"
        assert report.problems["image without captions"].names == ["b.png"]

    def test_text_of_two_images_is_reported(self, tmp_path, read):
        write_lines(tmp_path / "x.txt", ["a dog", "a wet dog"])
        for name in ("x.jpg", "x.png", "y.jpg"):
            (tmp_path / name).touch()
        write_lines(tmp_path / "y.jpg.txt", ["a cat"])
        (example,), report = read(tmp_path)
        assert example.references == ("a cat",)
        assert report.problems[SHARED_TEXT].rows == 2
        write_lines(tmp_path / "x.png.txt", ["a bird"])
        found, report = read(tmp_path)
        assert {(e.image_id, e.references[0]) for e in found} == {
            ("x.jpg", "a dog"),
            ("x.png", "a bird"),
            ("y.jpg", "a cat"),
        }
        assert SHARED_TEXT not in report.problems
