"""The site that `captioner web` writes, from a page and graphs that are not real."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from tiny import make_checkpoint
from tiny_vqa import make_vqa_checkpoint

from captioner.checkpoint.graph_files import graph_path
from captioner.cli import web
from captioner.config import load_config, save_config
from captioner.errors import CaptionerError, CheckpointError
from captioner.export.website import FORMAT, find_built_page, write_site
from captioner.files import file_digest, find_damage
from captioner.tokenizer import Tokenizer

CAPTION_GRAPHS = ("image", "memory", "caption", "caption_cross", "caption_attention")


def add_graphs(folder: Path, names: tuple[str, ...] = (*CAPTION_GRAPHS, "question")) -> Path:
    """Write files that name the digest of the weights, as graphs do, to a checkpoint."""
    digest = file_digest(folder / "model.safetensors")
    for name in names:
        graph_path(folder, name).write_bytes(f"graph {name} of {digest}".encode())
    return folder


def change(folder: Path, **sections: dict[str, object]) -> None:
    """Change fields of the sections of a checkpoint's configuration."""
    config = load_config(folder / "config.yaml")
    changed = {k: dataclasses.replace(getattr(config, k), **v) for k, v in sections.items()}
    save_config(dataclasses.replace(config, **changed), folder / "config.yaml")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A built page of two files."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets" / "index.js").write_text("start()")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that answers questions, with graphs; tests do not change it."""
    return add_graphs(make_vqa_checkpoint(tmp_path_factory.mktemp("trained") / "best"))


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint."""
    folder = tmp_path / "best"
    folder.mkdir()
    for path in trained.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_the_site_holds_the_page_the_model_and_their_description(trained, page, tmp_path):
    out = tmp_path / "sites" / "out"
    assert write_site(out, trained, page) == []
    description = json.loads((out / "model.json").read_text())
    assert description["format"] == FORMAT
    assert set(description["page"]) == {"index.html", "assets/index.js"}
    graphs = {f"{name}.onnx" for name in (*CAPTION_GRAPHS, "question")}
    assert set(description["model"]) == graphs | {"model.safetensors", "tokenizer.json"}
    for folder, files in ((out / "model", "model"), (out, "page")):
        for name, entry in description[files].items():
            path = folder / name
            assert entry == {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    assert (out / "model" / "image.onnx").read_bytes() == (trained / "image.onnx").read_bytes()
    assert not find_damage(out)


def test_the_description_has_the_settings_of_the_configuration(trained, page, tmp_path):
    write_site(tmp_path / "out", trained, page)
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    half = [0.5, 0.5, 0.5]
    size = {"height": 64, "width": 64}
    assert description["pixels"] == size | {"mean": half, "std": half, "resize": "squash"}
    search = {"beams": 3, "max_length": 8}
    assert description["captions"] == search | {"length_penalty": 1.0, "length_form": "average"} | {
        "confidence": None
    }
    search = {"beams": 3, "max_length": 6, "temperature": 1.0}
    assert description["answers"] == search | {"max_question": 32, "decoder": "caption"} | {
        "confidence": None
    }
    tokenizer = Tokenizer.load(trained / "tokenizer.model")
    stored = json.loads((tmp_path / "out" / "model" / "tokenizer.json").read_text())
    assert stored == {"kind": "unigram"} | tokenizer.export_pieces()
    assert stored["types"].startswith("cccc")
    assert stored["types"].count("b") == 256
    assert set(stored["types"]) == set("bcn")


def test_the_version_changes_with_any_file(trained, page, tmp_path):
    versions = set()
    for content in ("start()", "start(1)", "start()"):
        (page / "assets" / "index.js").write_text(content)
        write_site(tmp_path / "out", trained, page)
        versions.add(json.loads((tmp_path / "out" / "model.json").read_text())["version"])
    assert len(versions) == 2


def test_a_separate_decoder_for_answers_and_few_beams(checkpoint, page, tmp_path):
    question = load_config(checkpoint / "config.yaml").model.question
    change(
        checkpoint,
        model={"question": dataclasses.replace(question, decoder_layers=1)},
        answers={"beam_size": 1},
    )
    with pytest.raises(CheckpointError, match=r"answer\.onnx: missing"):
        write_site(tmp_path / "out", checkpoint, page)
    add_graphs(checkpoint, ("answer", "answer_cross"))
    write_site(tmp_path / "out", checkpoint, page)
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert description["answers"]["decoder"] == "answer"
    assert description["answers"]["beams"] == 3, "the page shows three answers"
    assert {"answer.onnx", "answer_cross.onnx"} <= set(description["model"])


def test_a_model_that_captions_only(page, tmp_path):
    folder = add_graphs(make_checkpoint(tmp_path / "best"), CAPTION_GRAPHS)
    write_site(tmp_path / "out", folder, page)
    description = json.loads((tmp_path / "out" / "model.json").read_text())
    assert description["answers"] is None
    assert "question.onnx" not in description["model"]


def test_checkpoints_that_cannot_be_used_have_one_clear_error(checkpoint, page, tmp_path):
    out = tmp_path / "out"
    (checkpoint / "caption.onnx").write_bytes(b"a graph of other weights")
    with pytest.raises(CheckpointError, match=r"caption\.onnx: belongs to other weights"):
        write_site(out, checkpoint, page)
    (checkpoint / "image.onnx").unlink()
    with pytest.raises(CheckpointError, match="no ONNX graphs; write them with `captioner export`"):
        write_site(out, checkpoint, page)
    question = load_config(checkpoint / "config.yaml").model.question
    encoder = dataclasses.replace(question, encoder="distilbert")
    change(checkpoint, model={"question": encoder})
    with pytest.raises(CheckpointError, match="its question encoder is distilbert"):
        write_site(out, checkpoint, page)
    classifier = dataclasses.replace(question, classes=9)
    change(checkpoint, model={"question": classifier})
    with pytest.raises(CheckpointError, match="classifies questions, which the page cannot"):
        write_site(out, checkpoint, page)
    change(checkpoint, model={"question": question, "decoder": "lstm"})
    with pytest.raises(CheckpointError, match="its decoder is lstm"):
        write_site(out, checkpoint, page)
    assert not out.exists()


def test_a_page_that_is_not_built(trained, tmp_path):
    with pytest.raises(CaptionerError, match="cd web && npm ci && npm run build"):
        write_site(tmp_path / "out", trained, tmp_path)
    assert not (tmp_path / "out").exists()


def test_only_a_site_or_an_empty_folder_is_replaced(trained, page, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("three years")
    for _ in range(2):  # the second time with a file in the place of the folder
        with pytest.raises(CaptionerError, match="is no site that `captioner web` has written"):
            write_site(out, trained, page)
        content = out / "thesis.txt" if out.is_dir() else out
        assert content.read_text() == "three years"
        if out.is_dir():
            content.rename(tmp_path / "thesis.txt")
            out.rmdir()
            (tmp_path / "thesis.txt").rename(out)
    out.unlink()
    out.mkdir()
    (page / "old.html").write_text("of an earlier version")
    write_site(out, trained, page)
    (page / "old.html").unlink()
    write_site(out, trained, page)
    assert (out / "index.html").exists()
    assert not (out / "old.html").exists()
    (out / "CNAME").write_text("example.org")
    with pytest.raises(CaptionerError, match="or has other files, too"):
        write_site(out, trained, page)
    assert (out / "CNAME").exists()


def test_the_working_directory_and_a_link_can_be_the_folder(trained, page, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    for folder in (Path("."), tmp_path / "link"):
        write_site(folder, trained, page)
        assert (tmp_path / "real/index.html").is_file()
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == ".") == []


def test_the_folder_and_the_built_page_lie_apart(trained, page):
    for folder in (page / "out", page.parent):
        with pytest.raises(CaptionerError, match="name a folder apart from it"):
            write_site(folder, trained, page)


def test_the_built_page_of_the_checkout_around_is_found(page, tmp_path, monkeypatch):
    (tmp_path / "project/web").mkdir(parents=True)
    (tmp_path / "project/docs").mkdir()
    (tmp_path / "project/web/dist").symlink_to(page)
    monkeypatch.chdir(tmp_path / "project/docs")
    assert find_built_page() == tmp_path / "project/web/dist"


def test_the_command_names_settings_that_the_page_ignores(checkpoint, page, tmp_path, capsys):
    change(checkpoint, decoding={"min_length": 3, "banned": ("dog",), "beam_size": 4})
    words = [str(tmp_path / "out"), "--checkpoint", str(checkpoint), "--site", str(page)]
    assert web.main(words) == 0
    expected = "the page ignores decoding.min_length=3, decoding.banned=('dog',)\n"
    assert capsys.readouterr() == ("", f"captioner web: {expected}")
    change(checkpoint, decoding={"min_length": 0, "banned": (), "method": "sample"})
    web.main(words)
    assert "ignores decoding.method=sample\n" in capsys.readouterr().err


def test_the_command_reports_an_error_in_one_line(trained, tmp_path, capsys):
    words = [str(tmp_path / "out"), "--checkpoint", str(trained), "--site", str(tmp_path)]
    assert web.main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"captioner web: {tmp_path}: no built page there")
    assert err.count("\n") == 1
