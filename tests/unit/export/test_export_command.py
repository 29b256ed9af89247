"""The command `captioner export` and what it writes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from backend_pairs import make_full_checkpoint
from blocked import run_without
from graph_export import make_model
from tiny import make_text_encoder

from captioner.checkpoint.graph_files import (
    CAPTION,
    CROSS,
    DIGEST_KEY,
    MEMORY,
    SMALL_IMAGE,
    graph_path,
    list_graph_names,
    weights_digest,
)
from captioner.cli import export
from captioner.config import QuestionConfig
from captioner.export import onnx_graphs
from captioner.files import file_digest

ONE = f"{CAPTION}_{CROSS}"
LOAD = """
import sys, captioner
try: captioner.load(sys.argv[1], backend="onnx")
except captioner.DependencyError as error: print(error)
"""


@pytest.fixture
def one_graph(monkeypatch) -> None:
    """Export one small graph only."""
    parts = onnx_graphs.model_parts

    def first(*args):
        return ((name, part) for name, part in parts(*args) if name == ONE)

    monkeypatch.setattr(onnx_graphs, "model_parts", first)


@pytest.mark.slow
@pytest.mark.usefixtures("one_graph")
def test_the_command_prints_the_paths(tmp_path, capsys):
    folder = tmp_path / "best"
    make_model(folder)
    before = {path.name: file_digest(path) for path in folder.iterdir()}
    assert export.main([str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / ONE}.onnx\n"
    after = {path.name: file_digest(path) for path in folder.iterdir()}
    assert after.keys() - before.keys() == {f"{ONE}.onnx"}
    assert {name: after[name] for name in before} == before
    first = (folder / f"{ONE}.onnx").read_bytes()
    assert export.main([str(folder)]) == 0
    assert (folder / f"{ONE}.onnx").read_bytes() == first


@pytest.mark.usefixtures("one_graph")
def test_a_graph_that_cannot_be_written_is_one_line(tmp_path, capsys):
    folder = tmp_path / "best"
    make_model(folder)
    (folder / f"{ONE}.onnx").mkdir()
    assert export.main([str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    *progress, problem = err.splitlines()
    assert problem.endswith(f"{ONE}.onnx: cannot be written (Is a directory)")
    assert all(line.startswith("captioner export: tracing ") for line in progress)
    assert list(folder.glob(".*")) == []


def test_a_missing_checkpoint_is_one_line(tmp_path, capsys):
    assert export.main([str(tmp_path / "none")]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no model.safetensors there" in err


@pytest.mark.slow
def test_graphs_state_the_digest_and_hold_no_weights(tmp_path, add_graphs):
    folder = add_graphs(make_full_checkpoint(tmp_path / "best"))
    names = {path.stem for path in folder.glob("*.onnx")}
    assert names == {*list_graph_names(folder), SMALL_IMAGE}
    assert "answer_attention" in names
    for path in folder.glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False)
        (stated,) = graph.metadata_props
        assert (stated.key, stated.value) == (DIGEST_KEY, weights_digest(folder))
        onnx.checker.check_model(str(path))
        assert path.stat().st_size < 60_000 < (folder / "model.safetensors").stat().st_size / 10


@pytest.mark.slow
def test_a_text_encoder_needs_transformers(tmp_path):
    """The tokenizer of questions is read before any graph, so that these graphs are stand-ins."""
    encoder = str(make_text_encoder(tmp_path / "words"))
    folder: Path = tmp_path / "best"
    make_model(folder, question=QuestionConfig(encoder=encoder, fusion="add"))
    for name in list_graph_names(folder):
        graph_path(folder, name).write_text(weights_digest(folder))
    done = run_without(LOAD, folder)
    assert done.stdout.startswith(f"the question encoder of {folder} needs transformers"), done
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
def test_int8_graphs_are_written_on_request_and_then_kept_current(tmp_path):
    folder = tmp_path / "best"
    make_model(folder)
    name = f"{MEMORY}.int8.onnx"
    assert not any(path.name.endswith(".int8.onnx") for path in onnx_graphs.export_graphs(folder))
    assert folder / name in onnx_graphs.export_graphs(folder, dtype="int8")
    (folder / name).write_bytes(b"of other weights")
    assert folder / name in onnx_graphs.export_graphs(folder)
    assert (folder / name).read_bytes() != b"of other weights"
