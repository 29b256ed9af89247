from __future__ import annotations

import platform
from pathlib import Path

import pytest

from captioner.backends.onnx_members import choose_graph_dtype
from captioner.backends.processor_flags import has_integer_dot_products
from captioner.checkpoint.graph_files import CAPTION, graph_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("flags : fpu sse4_2 avx2 avx512f avx512_vnni", True),
        ("flags : fpu avx2 avx_vnni", True),
        ("Features : fp asimd asimddp", True),
        ("flags : fpu sse4_2 avx2 avx512f", False),
        ("flags : avx512_vnnish", False),
    ],
)
def test_flags_are_whole_words_of_cpuinfo(tmp_path: Path, monkeypatch, line, expected):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{line}\n")
    assert has_integer_dot_products(tmp_path / "cpuinfo") is expected


def test_an_unknown_processor_has_no_known_instructions(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert not has_integer_dot_products(tmp_path / "missing")


@pytest.mark.parametrize("fast", [False, True])
def test_auto_is_int8_only_with_graphs_of_all_members_and_fast_instructions(
    tmp_path: Path, monkeypatch, fast
):
    monkeypatch.setattr("captioner.backends.onnx_members.has_integer_dot_products", lambda: fast)
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    graph_path(folders[0], CAPTION, "int8").touch()
    assert choose_graph_dtype(folders) == "float32"
    assert choose_graph_dtype(folders[:1]) == ("int8" if fast else "float32")
