"""The choice of runtime and device, and its messages."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import shutil
from pathlib import Path

import onnx
import pytest
from blocked import run_without
from onnx import TensorProto, helper
from tiny import picture

import captioner
from captioner.backends.graph_sessions import GraphSessions
from captioner.backends.onnx_backend import OnnxBackend
from captioner.backends.torch_backend import TorchBackend
from captioner.checkpoint import PRETRAINED
from captioner.checkpoint.graph_files import list_graph_names, weights_digest
from captioner.cli import generate
from captioner.errors import CaptionerError, CheckpointError
from captioner.predict import backend_choice
from captioner.predict.backend_choice import IMAGES_FOR_GPU, choose_backend, choose_device

CAPTION = "import sys; from captioner.cli.generate import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A copy of the bundled checkpoint with its graphs."""
    return shutil.copytree(PRETRAINED, tmp_path / "best")


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    picture(1).save(path)
    return path


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that sets the number of GPUs that a fake driver offers."""

    def install(count: int, *, error: int = 0) -> None:
        class Driver:
            def __init__(self, name: str) -> None:
                assert "cuda" in name

            def cuInit(self, flags: int) -> int:
                return error

            def cuDeviceGetCount(self, found) -> int:
                found._obj.value = count
                return 0

        monkeypatch.setattr(ctypes, "CDLL", Driver)
        monkeypatch.setattr("captioner.backends.torch_members.has_cuda", lambda: True)
        backend_choice.count_gpus.cache_clear()

    yield install
    monkeypatch.undo()
    backend_choice.count_gpus.cache_clear()


def replace_weights(folder: Path) -> None:
    """Change the last byte of the weights."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def truncate(folder: Path) -> None:
    path = folder / "image.onnx"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def replace_by_foreign(folder: Path) -> None:
    """Write another valid model under the name of a graph."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value])
    graph.output[0].name = "y"
    onnx.save(helper.make_model(graph), folder / "memory.onnx")


def remove_one(folder: Path) -> None:
    (folder / "caption_attention.onnx").unlink()


def make_folder(folder: Path) -> None:
    """Put a folder in the place of a graph, which cannot be read."""
    (folder / "question.onnx").unlink()
    (folder / "question.onnx").mkdir()


def link_weights(folder: Path) -> None:
    """Move the weights elsewhere, which ONNX Runtime does not read."""
    target = folder.parent / "weights.safetensors"
    (folder / "model.safetensors").rename(target)
    (folder / "model.safetensors").symlink_to(target)


PROBLEMS = {
    replace_weights: r"caption\.onnx|image\.onnx: damaged, or of other weights",
    truncate: r"image\.onnx: damaged, or of other weights",
    replace_by_foreign: r"memory\.onnx: damaged, or of other weights",
    remove_one: r"caption_attention\.onnx: cannot be read \(No such file or directory\)",
    make_folder: r"question\.onnx: cannot be read \(Is a directory\)",
    link_weights: r"does not follow the link model\.safetensors",
}


@pytest.mark.parametrize("damage", PROBLEMS, ids=lambda f: f.__name__)
def test_graphs_that_cannot_be_used_are_reported_once(folder, damage, caplog):
    damage(folder)
    with caplog.at_level(logging.WARNING):
        choice = choose_backend([folder], device="cpu")
    assert (choice.backend, choice.device) == ("torch", "cpu")
    (message,) = [record.getMessage() for record in caplog.records]
    assert re.search(PROBLEMS[damage], message)
    assert message.endswith("; torch is used instead of ONNX Runtime")
    assert "\n" not in message
    with pytest.raises(CaptionerError, match=PROBLEMS[damage]) as caught:
        choose_backend([folder], backend="onnx")
    assert str(caught.value).startswith("backend 'onnx' cannot be used: ")


@pytest.mark.parametrize("dtype", ["int8", "auto"])
def test_a_damaged_int8_graph_matters_only_where_it_is_used(folder, dtype, caplog):
    path = folder / "caption.int8.onnx"
    path.write_bytes(path.read_bytes()[:-500])
    caplog.set_level(logging.WARNING)  # other tests show details
    assert choose_backend([folder], device="cpu").backend == "onnx"
    assert caplog.records == []
    assert choose_backend([folder], device="cpu", dtype=dtype).backend == "torch"
    assert re.search(r"caption\.int8\.onnx: damaged", caplog.records[0].getMessage())


@pytest.mark.slow
def test_captions_of_a_checkpoint_with_a_damaged_graph(folder, photo, capsys):
    """Auto uses torch after one line; `--backend onnx` is an error on one line."""
    truncate(folder)
    words = [str(photo), "--checkpoint", str(folder)]
    assert generate.main([*words, "--backend", "torch"]) == 0
    expected = capsys.readouterr().out
    assert generate.main(words) == 0
    found = capsys.readouterr()
    assert found.out == expected
    line, notice = found.err.splitlines()
    assert "torch is used instead of ONNX Runtime" in line
    assert "not a photograph" in notice
    assert generate.main([*words, "--backend", "onnx"]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert "captioner export" in line


def test_a_checkpoint_with_graphs_uses_onnx_runtime(folder, caplog):
    with caplog.at_level(logging.INFO, backend_choice.__name__):
        assert choose_backend([folder], device="cpu").backend == "onnx"
    assert [record.getMessage() for record in caplog.records] == [
        "ONNX Runtime on cpu: the checkpoint has graphs for ONNX Runtime"
    ]
    assert isinstance(captioner.load(folder, device="cpu").backend, OnnxBackend)
    assert isinstance(captioner.load(folder, device="cpu", backend="torch").backend, TorchBackend)


def test_a_checkpoint_without_graphs_uses_torch(folder, caplog):
    for path in folder.glob("*.onnx"):
        path.unlink()
    with caplog.at_level(logging.WARNING):
        choice = choose_backend([PRETRAINED, folder], device="cpu")
    assert choice.backend == "torch"
    assert re.search(r"has no graphs; `captioner export .*best` writes them", choice.reason)
    assert caplog.records == []
    with pytest.raises(CaptionerError, match=r"'onnx' cannot be used: .* has no graphs"):
        choose_backend([folder], backend="onnx")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"device": "cuda"}, "device cuda needs torch"),
        ({"device": "mps"}, "device mps needs torch"),
        ({"dtype": "bfloat16"}, "dtype bfloat16 needs torch"),
        ({"dtype": "float16"}, "dtype float16 needs torch"),
        ({"compile": True}, "compile needs torch"),
    ],
)
def test_options_of_torch_select_torch(options, reason, caplog):
    options = {"device": "cpu"} | options
    with caplog.at_level(logging.WARNING):
        choice = choose_backend([PRETRAINED], **options)
    assert (choice.backend, choice.device) == ("torch", options["device"])
    assert choice.reason == reason
    assert caplog.records == []
    with pytest.raises(CaptionerError, match=f"backend 'onnx' cannot be used: {reason}"):
        choose_backend([PRETRAINED], backend="onnx", **options)


def test_unknown_backends_are_rejected():
    with pytest.raises(CaptionerError, match=r"'jax'.*auto, onnx, torch"):
        captioner.load(backend="jax")


@pytest.mark.parametrize("tta", [0, 3, 8, 2.5])
def test_onnx_runtime_accepts_the_same_numbers_of_views(tta):
    with pytest.raises(CaptionerError, match=r"tta=.*1, 2, 4"):
        captioner.load(backend="onnx", tta=tta)


def test_a_gpu_is_used_if_the_work_justifies_its_start(gpus):
    gpus(2)
    assert [choose_device("auto", images=n) for n in (1, IMAGES_FOR_GPU - 1)] == ["cpu", "cpu"]
    assert [choose_device("auto", images=n) for n in (IMAGES_FOR_GPU, None)] == ["cuda", "cuda"]
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto", dtype="int8") == "cpu"
    assert choose_backend([PRETRAINED], dtype="int8").backend == "onnx"
    assert choose_backend([PRETRAINED]) == backend_choice.Choice(
        "torch", "cuda", "device cuda needs torch"
    )
    assert choose_backend([PRETRAINED], backend="onnx").device == "cpu"
    assert choose_backend([PRETRAINED], backend="torch").device == "cuda"


def test_a_gpu_that_torch_cannot_use_is_not_used(gpus, monkeypatch, caplog):
    gpus(1)
    monkeypatch.setattr("captioner.backends.torch_members.has_cuda", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert choose_backend([PRETRAINED], backend="torch").device == "cpu"
    assert [record.getMessage() for record in caplog.records] == [
        "torch cannot use the GPU of this machine; the CPU is used instead"
    ]


def test_a_gpu_without_torch_is_not_used(gpus, monkeypatch):
    gpus(1)
    monkeypatch.setattr(backend_choice, "is_installed", lambda name: name != "torch")
    assert choose_device("auto") == "cpu"
    assert choose_backend([PRETRAINED]).backend == "onnx"


@pytest.mark.parametrize("driver", [{"count": 0}, {"count": 3, "error": 100}])
def test_a_driver_without_a_usable_gpu(gpus, driver):
    gpus(**driver)
    assert choose_device("auto") == "cpu"


def test_no_driver(monkeypatch):
    def missing(name: str):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    backend_choice.count_gpus.cache_clear()
    assert choose_device("auto") == "cpu"
    monkeypatch.undo()
    backend_choice.count_gpus.cache_clear()


@pytest.mark.slow
def test_a_missing_runtime(photo):
    """Without ONNX Runtime torch is used after one line; without both there is one error."""
    done = run_without(CAPTION, photo, "--device", "cpu", blocked=["onnxruntime"])
    assert done.returncode == 0
    assert done.stdout.strip()
    line, notice = done.stderr.splitlines()
    assert "onnxruntime is not installed" in line
    assert "not a photograph" in notice
    assert line.endswith("; torch is used instead of ONNX Runtime")
    for words in (["--backend", "onnx"], ["--device", "cpu"]):
        done = run_without(CAPTION, photo, *words, blocked=["onnxruntime", "torch"])
        assert (done.returncode, done.stdout) == (1, "")
        assert "Traceback" not in done.stderr
        assert "not installed" in done.stderr.splitlines()[-1]


def test_verbose_output_names_backend_device_and_reason(photo, capsys):
    assert generate.main([str(photo), "--device", "cpu", "-v"]) == 0
    found = capsys.readouterr()
    assert re.search(r"ONNX Runtime on cpu: the checkpoint has graphs", found.err)
    assert found.out.count("\n") == 1
    assert generate.main([str(photo), "--device", "cpu"]) == 0
    assert "ONNX Runtime" not in capsys.readouterr().err


def add_unknown_operator(path: Path) -> None:
    """Add an operator that no runtime has; the digest stays in the graph."""
    model = onnx.load(path, load_external_data=False)
    model.graph.node.append(helper.make_node("Futurize", [model.graph.input[0].name], ["z"]))
    path.write_bytes(model.SerializeToString())


def set_future_opset(path: Path) -> None:
    model = onnx.load(path, load_external_data=False)
    model.opset_import[0].version = 999
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("change", [add_unknown_operator, set_future_opset])
def test_a_graph_for_another_runtime_is_one_line(folder, photo, change, capsys):
    change(folder / "memory.onnx")
    assert generate.main([str(photo), "--checkpoint", str(folder), "--device", "cpu"]) == 1
    found = capsys.readouterr()
    assert found.out == ""
    (line,) = found.err.splitlines()
    assert re.search(r"memory\.onnx: cannot be loaded by ONNX Runtime [\d.]+: ", line)
    assert "captioner export" in line
    assert "backend torch" in line


def test_a_graph_is_checked_again_when_it_is_loaded(folder):
    sessions = GraphSessions(folder)
    replace_weights(folder)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors has changed since it was loaded"
    ):
        sessions.session("image")
    with pytest.raises(CheckpointError, match=r"nothing\.onnx: no such graph; run `captioner"):
        sessions.session("nothing")


@pytest.mark.parametrize("value", ["", "4,2", "many", "0", "-3"])
def test_any_value_of_omp_num_threads(value, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert GraphSessions(PRETRAINED).session("caption_cross").get_inputs()


def test_graphs_are_named_after_the_parts_of_the_model():
    names = {path.stem for path in PRETRAINED.glob("*.onnx") if "." not in path.stem}
    assert names == {*list_graph_names(PRETRAINED), "small_image"}
    digest = weights_digest(PRETRAINED).encode()
    assert all(digest in path.read_bytes() for path in PRETRAINED.glob("*.onnx"))


@pytest.mark.parametrize("layout", ["links to a cache", "a link to the folder", "other letters"])
def test_checkpoints_in_other_places(folder, photo, layout, tmp_path, capsys):
    """The Hugging Face cache has links to files in one other folder."""
    place = tmp_path / "snapshot"
    if layout == "links to a cache":
        place.mkdir()
        for path in folder.iterdir():
            blob = path.rename(path.with_name(f"blob-{path.name}"))
            (place / path.name).symlink_to(os.path.relpath(blob, place))
    elif layout == "a link to the folder":
        place.symlink_to(folder)
    else:
        place = folder.rename(tmp_path / "modèle 模型")
    words = [str(photo), "--checkpoint", str(place), "--backend", "onnx"]
    assert generate.main(words) == 0
    assert capsys.readouterr().out.strip()
