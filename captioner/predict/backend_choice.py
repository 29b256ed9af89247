"""Choose the runtime and the device of a model, without importing either runtime."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from captioner.checkpoint import WEIGHTS
from captioner.checkpoint.folder_format import checkpoint_format
from captioner.checkpoint.graph_files import (
    CAPTION,
    GraphDtype,
    graph_path,
    has_graphs,
    list_graph_names,
    weights_digest,
)
from captioner.errors import CaptionerError

BackendName = Literal["auto", "onnx", "torch"]
IMAGES_FOR_GPU = 200
"""Images from which a GPU is worth its start-up: importing torch and starting CUDA take several
seconds, in which ONNX Runtime captions about this many images on a CPU."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """A runtime and a device."""

    backend: Literal["onnx", "torch"]
    device: str
    reason: str


def choose_device(device: str, *, dtype: str = "float32", images: int | None = None) -> str:
    """Return the device for a type and a number of images, None if it is large or unknown.

    `auto` becomes `cuda` if there is an NVIDIA GPU, torch is installed and the images justify its
    start-up, and otherwise `cpu`; int8 runs on a CPU only. Other devices are returned as they are.
    """
    if device != "auto":
        return device
    enough = dtype != "int8" and (images is None or images >= IMAGES_FOR_GPU)
    return "cuda" if enough and is_installed("torch") and _has_usable_gpu() else "cpu"


def _has_usable_gpu() -> bool:
    """Return whether torch can use a GPU; torch is imported only if there is one."""
    if not count_gpus():
        return False
    from captioner.backends.torch_members import has_cuda

    if not has_cuda():
        _logger.warning("torch cannot use the GPU of this machine; the CPU is used instead")
        return False
    return True


def is_installed(module: str) -> bool:
    """Return whether a module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


@cache
def count_gpus() -> int:
    """Return the number of NVIDIA GPUs that the driver offers to this process."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        has_devices = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):  # no driver
        return 0
    return count.value if has_devices else 0


def choose_backend(
    folders: Sequence[Path],
    *,
    backend: str = "auto",
    device: str = "auto",
    dtype: str | None = "float32",
    compile: bool = False,
) -> Choice:
    """Choose the runtime for checkpoints; see `captioner.load` for the options.

    The choice and its reason are logged, with a warning if graphs exist and cannot be used.

    Raises:
        CaptionerError: The runtime cannot be used with these options.
    """
    choice = _choose(folders, backend, device, dtype or "float32", compile)
    name = {"onnx": "ONNX Runtime", "torch": "torch"}[choice.backend]
    _logger.info("%s on %s: %s", name, choice.device, choice.reason)
    return choice


def _choose(
    folders: Sequence[Path], backend: str, device: str, dtype: str, compile: bool
) -> Choice:
    if backend not in get_args(BackendName):
        names = ", ".join(get_args(BackendName))
        raise CaptionerError(f"backend {backend!r}: expected one of {names}")
    place = "cpu" if device == "auto" and backend == "onnx" else choose_device(device, dtype=dtype)
    if backend == "torch":
        return Choice("torch", place, "selected by backend")
    obstacle = _find_option(place, dtype, compile) or _find_missing(folders, dtype)
    problem = "" if obstacle else _find_problem(folders, dtype)
    if backend == "onnx":
        if obstacle or problem:
            raise CaptionerError(f"backend 'onnx' cannot be used: {obstacle or problem}")
        return Choice("onnx", "cpu", "selected by backend")
    if problem and is_installed("torch"):  # otherwise, an error states it
        _logger.warning("%s; torch is used instead of ONNX Runtime", problem)
    if obstacle or problem:
        return Choice("torch", place, obstacle or problem)
    return Choice("onnx", "cpu", "the checkpoint has graphs for ONNX Runtime")


def _find_option(device: str, dtype: str, compile: bool) -> str:
    """Return the option that only torch supports; empty if there is none."""
    if device != "cpu":
        return f"device {device} needs torch"
    if dtype not in (*get_args(GraphDtype), "auto"):
        return f"dtype {dtype} needs torch"
    return "compile needs torch" if compile else ""


def _find_missing(folders: Sequence[Path], dtype: str) -> str:
    """Return what a checkpoint lacks; empty if nothing."""
    for folder in folders:
        if checkpoint_format(folder) == "transformers":
            return f"{folder} is a transformers model, which has no graphs"
        if not has_graphs(folder):
            return f"{folder} has no graphs; `captioner export {folder}` writes them"
        if dtype == "int8" and not graph_path(folder, CAPTION, "int8").is_file():
            command = f"captioner export {folder} --dtype int8"
            return f"{folder} has no int8 graphs; `{command}` writes them"
    return ""


def _find_problem(folders: Sequence[Path], dtype: str) -> str:
    """Return why existing graphs cannot be used; empty if they can be."""
    if not is_installed("onnxruntime"):
        return "onnxruntime is not installed (pip install onnxruntime)"
    for folder in folders:
        digest = weights_digest(folder).encode()
        weights = (folder / WEIGHTS).resolve()
        names = list_graph_names(folder)
        paths = [graph_path(folder, name) for name in names]
        if dtype != "float32":  # where a graph has no other type, float32 is used
            other = (graph_path(folder, name, "int8") for name in names)
            paths += [path for path in other if path.exists()]
        for path in paths:
            problem = _find_damage(path, digest)
            if problem:
                int8 = " --dtype int8" if path.name.endswith(".int8.onnx") else ""
                return f"{path}: {problem}; `captioner export {folder}{int8}` writes it again"
            if not weights.is_relative_to(path.resolve().parent):
                return f"{folder}: ONNX Runtime does not follow the link {WEIGHTS} to {weights}"
    return ""


def _find_damage(graph: Path, digest: bytes) -> str:
    """Return why a graph cannot belong to the weights with this digest; empty if it can."""
    try:
        content = graph.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    # The digest is a string in the graph's metadata, at its end.
    return "" if digest in content else f"damaged, or of other weights than {WEIGHTS}"
